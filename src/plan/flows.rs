//! The flows of a plan as switches see them: endpoints, and the hash that their headers give.

use std::net::IpAddr;

use crate::host::config::{HostConfig, STREAM_QPN_FIRST};
use crate::switch::route::with_dest_qp;
use crate::topology::HashedFlow;
use crate::units::RankId;
use crate::wire::ROCE_UDP_PORT;
use crate::wire::fast::{Fast, IpKey, ecmp_hash};
use crate::workload::config::WorkloadConfig;
use crate::workload::generate::pairs;

/// IP protocol number of UDP.
const UDP: u8 = 17;

/// Data from one rank to another over one queue pair or stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanFlow {
    /// Endpoints and entropy.
    pub hashed: HashedFlow,
    /// Sender.
    pub from: RankId,
    /// Receiver.
    pub to: RankId,
    /// Priority of its data.
    pub priority: u8,
}

/// Every queue pair and stream that sends data, in port order; `dest_qp`: switches hash the destination queue pair too.
pub fn flows(hosts: &[HostConfig], workloads: &[WorkloadConfig], dest_qp: bool) -> Vec<PlanFlow> {
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
    let hash = |src: IpAddr, dst: IpAddr, sport: u16, qpn: u32| {
        let (src, dst) = (IpKey::from(src), IpKey::from(dst));
        let head = Fast { src, dst, proto: UDP, sport, dport: ROCE_UDP_PORT, ..Fast::default() };
        let hash = ecmp_hash(&head, 0);
        if dest_qp { with_dest_qp(hash, qpn) } else { hash }
    };
    let mut flows = Vec::new();
    for h in hosts {
        let priority = |class: usize| h.classes.get(class).map_or(0, |c| c.priority & 7);
        for q in &h.qps {
            let workload = usize::from(q.workload);
            let sends =
                senders.get(workload).is_some_and(|p| p.binary_search(&(q.local_rank, q.peer_rank)).is_ok());
            let Some(dst) = port_of(q.peer_ip).filter(|_| sends) else { continue };
            let hash = hash(q.local_ip, q.peer_ip, q.sport, q.peer_qpn);
            let class = workloads.get(workload).map_or(0, |w| usize::from(w.class.0));
            flows.push(PlanFlow {
                hashed: HashedFlow { src: h.port.0, dst, hash },
                from: q.local_rank,
                to: q.peer_rank,
                priority: priority(class),
            });
        }
        for (s, to) in h.streams.iter().zip(&h.stream_to) {
            let from = h.ranks.iter().find(|r| r.rank == s.from);
            let (Some(from), Some(dst)) = (from, port_of(to.ip)) else { continue };
            let hash = hash(from.ip, to.ip, to.sport, STREAM_QPN_FIRST + to.index);
            flows.push(PlanFlow {
                hashed: HashedFlow { src: h.port.0, dst, hash },
                from: s.from,
                to: s.to,
                priority: priority(usize::from(s.class.0)),
            });
        }
    }
    flows
}
