//! What hashing does to the flows of a plan: known before the run, because the hash is.

use std::net::IpAddr;

use crate::host::config::HostConfig;
use crate::switch::config::LoadBalance;
use crate::switch::route::with_dest_qp;
use crate::topology::{End, Fabric, Flow, HashedFlow, TierPaths, collisions, link_bytes, tier_paths};
use crate::units::RankId;
use crate::wire::ROCE_UDP_PORT;
use crate::wire::fast::{Fast, IpKey, ecmp_hash};
use crate::workload::config::WorkloadConfig;
use crate::workload::generate::pairs;

/// IP protocol number of UDP.
const UDP: u8 = 17;

/// One sentence on how ECMP spreads the plan's flows over the links between switches, with the number of collisions:
/// flows beyond what an even spread puts on a link; and the spread tier by tier. `None` where nothing is hashed.
pub(super) fn spread(
    fabric: &Fabric,
    hosts: &[HostConfig],
    workloads: &[WorkloadConfig],
) -> Option<(String, Vec<TierPaths>)> {
    let hashed = fabric.switches.len() > 1
        && fabric.switches.iter().any(|s| s.balance == LoadBalance::Ecmp)
        && fabric.switches.iter().all(|s| matches!(s.balance, LoadBalance::Ecmp | LoadBalance::Pinned));
    if !hashed {
        return None;
    }
    let dest_qp = fabric.switches.iter().any(|s| s.hash_dest_qp);
    let flows = flows(hosts, workloads, dest_qp);
    let found = collisions(fabric, &flows).ok()?;
    let even: Vec<Flow> = flows.iter().map(|f| Flow { src: f.src, dst: f.dst, bytes: 1 }).collect();
    let even = link_bytes(fabric, &even).ok()?;
    let (mut over, mut most, mut links, mut used) = (0, (0, 0.0), 0, 0);
    for ((link, &n), &fair) in fabric.links.iter().zip(&found.flows_per_link).zip(&even) {
        if !matches!((link.from, link.to), (End::Switch(..), End::Switch(..))) || fair == 0.0 {
            continue;
        }
        links += 1;
        used += u32::from(n > 0);
        over += n.saturating_sub(fair.ceil() as u32);
        if f64::from(n) - fair > f64::from(most.0) - most.1 {
            most = (n, fair);
        }
    }
    let load: Vec<f64> = found.flows_per_link.iter().map(|n| f64::from(*n)).collect();
    (links > 0).then(|| {
        let text = format!(
            "ECMP over {} flows: {over} collisions (flows beyond an even spread); the fullest of {links} links between \
             switches carries {} flows where an even spread has {:.1}, {} carry none",
            flows.len(),
            most.0,
            most.1,
            links - used
        );
        (text, tier_paths(fabric, &load))
    })
}

/// Every queue pair that sends data, with the hash of its headers.
fn flows(hosts: &[HostConfig], workloads: &[WorkloadConfig], dest_qp: bool) -> Vec<HashedFlow> {
    let senders: Vec<Vec<(RankId, RankId)>> = workloads
        .iter()
        .map(|w| {
            let mut p = pairs(w);
            p.sort_unstable();
            p
        })
        .collect();
    let mut ports: Vec<(IpAddr, u32)> =
        hosts.iter().flat_map(|h| h.ranks.iter().map(|r| (r.ip, h.port.0))).collect();
    ports.sort_unstable();
    let port_of = |ip: IpAddr| {
        let at = ports.binary_search_by_key(&ip, |(ip, _)| *ip).ok()?;
        ports.get(at).map(|(_, port)| *port)
    };
    let mut flows = Vec::new();
    for h in hosts {
        for q in &h.qps {
            let sends = senders
                .get(usize::from(q.workload))
                .is_some_and(|p| p.binary_search(&(q.local_rank, q.peer_rank)).is_ok());
            let Some(dst) = port_of(q.peer_ip).filter(|_| sends) else { continue };
            let head = Fast {
                src: IpKey::from(q.local_ip),
                dst: IpKey::from(q.peer_ip),
                proto: UDP,
                sport: q.sport,
                dport: ROCE_UDP_PORT,
                ..Fast::default()
            };
            let hash = ecmp_hash(&head, 0);
            let hash = if dest_qp { with_dest_qp(hash, q.peer_qpn) } else { hash };
            flows.push(HashedFlow { src: h.port.0, dst, hash });
        }
    }
    flows
}
