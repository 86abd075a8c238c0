//! What hashing does to the flows of a plan: known before the run, because the hash is.

use crate::host::config::HostConfig;
use crate::plan::flows::flows;
use crate::switch::config::LoadBalance;
use crate::topology::{End, Fabric, Flow, HashedFlow, TierPaths, collisions, link_bytes, tier_paths};
use crate::workload::config::WorkloadConfig;

/// One sentence on how ECMP spreads the plan's flows over the links between switches, with the number of collisions:
/// flows beyond what an even spread puts on a link, no sentence where there are none; and the spread tier by tier. `None`
/// where nothing is hashed.
pub(super) fn spread(
    fabric: &Fabric,
    hosts: &[HostConfig],
    workloads: &[WorkloadConfig],
) -> Option<(Option<String>, Vec<TierPaths>)> {
    let hashed = fabric.switches.len() > 1
        && fabric.switches.iter().any(|s| s.balance == LoadBalance::Ecmp)
        && fabric.switches.iter().all(|s| matches!(s.balance, LoadBalance::Ecmp | LoadBalance::Pinned));
    if !hashed {
        return None;
    }
    let dest_qp = fabric.switches.iter().any(|s| s.hash_dest_qp);
    let flows: Vec<HashedFlow> = flows(hosts, workloads, dest_qp).into_iter().map(|f| f.hashed).collect();
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
        ((over > 0).then_some(text), tier_paths(fabric, &load))
    })
}
