//! Shapes of more than two tiers, rings, and wiring that the profile gives switch by switch.

use super::build::{Builder, check_hosts};
use super::{Fabric, GivenRoute, TopologyError};
use crate::limits::SWITCH_PORTS_MAX;
use crate::rng::mix;
use crate::switch::config::{FixedDelays, SwitchConfig};
use crate::units::{Rate, Span};

/// Three tiers: pods of leaves and aggregation switches, and a core. Every leaf is wired to every aggregation switch of
/// its pod. Aggregation switch a of each pod is wired to the a-th plane of the core, which has `cores / aggs` switches
/// (with `pods = k`, `leaves = aggs = k / 2` and `cores = k^2 / 4`: the fat tree of Al-Fares et al., SIGCOMM 2008).
#[derive(Clone, Debug)]
pub struct ThreeTier {
    /// Rate of each endpoint's port, in endpoint order; endpoints fill one leaf after the other.
    pub host_rates: Vec<Rate>,
    /// Pods.
    pub pods: u16,
    /// Leaves of one pod.
    pub leaves: u16,
    /// Aggregation switches of one pod.
    pub aggs: u16,
    /// Core switches, a multiple of `aggs`.
    pub cores: u16,
    /// Cables between a leaf and each aggregation switch of its pod.
    pub uplinks: u16,
    /// Rate of each of them.
    pub uplink_rate: Rate,
    /// One-way delay of each of them.
    pub uplink_cable: Span,
    /// Cables between an aggregation switch and each core switch of its plane.
    pub core_uplinks: u16,
    /// Rate of each of them.
    pub core_rate: Rate,
    /// One-way delay of each of them.
    pub core_cable: Span,
    /// FEC and pipeline delays.
    pub delays: FixedDelays,
    /// Every switch; name, ports and ECMP seed are filled in per switch.
    pub prototype: SwitchConfig,
}

/// Switches in a circle, each with the same number of endpoints. Two switches far enough apart have buffers that wait
/// for each other around the circle: the smallest fabric that can deadlock.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Rate of each endpoint's port, in endpoint order; endpoints fill one switch after the other.
    pub host_rates: Vec<Rate>,
    /// Switches, at least 3.
    pub switches: u16,
    /// Cables between neighbours.
    pub uplinks: u16,
    /// Rate of each of them.
    pub uplink_rate: Rate,
    /// One-way delay of each of them.
    pub uplink_cable: Span,
    /// Everything goes to the next higher number, however far; otherwise the shorter way, both where they are equal.
    pub clockwise: bool,
    /// FEC and pipeline delays.
    pub delays: FixedDelays,
    /// Every switch; name, ports and ECMP seed are filled in per switch.
    pub prototype: SwitchConfig,
}

/// Wiring as the profile gives it. Endpoints fill one switch after the other; after the endpoint ports come the cables
/// in their order.
#[derive(Clone, Debug)]
pub struct Wired {
    /// Rate of each endpoint's port, in endpoint order.
    pub host_rates: Vec<Rate>,
    /// Name of each switch and its endpoints.
    pub switches: Vec<(String, usize)>,
    /// Cables: the two switches, rate and one-way delay.
    pub cables: Vec<(u16, u16, Rate, Span)>,
    /// Routes: at this switch, to the endpoints of that one, over the cables to these.
    pub routes: Vec<(u16, u16, Vec<u16>)>,
    /// FEC and pipeline delays.
    pub delays: FixedDelays,
    /// Every switch; name, ports and ECMP seed are filled in per switch.
    pub prototype: SwitchConfig,
}

fn positive(shape: &str, sizes: &[(&'static str, usize)]) -> Result<(), TopologyError> {
    match sizes.iter().find(|(_, n)| *n == 0) {
        Some(&(what, _)) => Err(TopologyError::Zero { shape: shape.into(), what }),
        None => Ok(()),
    }
}

fn fits(switch: &str, ports: usize, fix: &'static str) -> Result<(), TopologyError> {
    match ports > SWITCH_PORTS_MAX {
        true => Err(TopologyError::TooManyPorts { switch: switch.into(), ports, fix }),
        false => Ok(()),
    }
}

fn numbered(shape: &str, switches: usize) -> Result<(), TopologyError> {
    match switches > usize::from(u16::MAX) {
        true => Err(TopologyError::TooManySwitches { shape: shape.into(), switches }),
        false => Ok(()),
    }
}

/// Endpoints on each of `switches`, which all must have some.
fn even(shape: &str, hosts: usize, switches: usize) -> Result<usize, TopologyError> {
    let each = hosts.div_ceil(switches);
    match hosts.div_ceil(each.max(1)) {
        used if used < switches => {
            Err(TopologyError::EmptyLeaf { shape: shape.into(), hosts, leaves: switches, used })
        }
        _ => Ok(each),
    }
}

fn add(b: &mut Builder, prototype: &SwitchConfig, number: usize, name: String) {
    b.add_switch(prototype, name, mix(prototype.hash_seed ^ mix(number as u64)));
}

/// Three tiers. Switches are numbered leaves first ("leaf0" in pod 0, ...), then aggregation ("agg0", ...), then core.
///
/// # Errors
/// [`TopologyError`] with the place and the fix.
pub fn three_tier(shape: &ThreeTier) -> Result<Fabric, TopologyError> {
    let [pods, leaves, aggs, cores] = [shape.pods, shape.leaves, shape.aggs, shape.cores].map(usize::from);
    let (up, core_up) = (usize::from(shape.uplinks), usize::from(shape.core_uplinks));
    let name = format!("three-tier {pods} pods of {leaves}x{aggs}, {cores} cores");
    check_hosts(&name, shape.host_rates.len())?;
    let sizes = [("pods", pods), ("leaves", leaves), ("aggs", aggs), ("cores", cores)];
    positive(&name, &sizes)?;
    positive(&name, &[("uplinks", up), ("core_uplinks", core_up)])?;
    if !cores.is_multiple_of(aggs) {
        return Err(TopologyError::Planes { shape: name, cores, aggs });
    }
    let (all_leaves, all_aggs, plane) = (pods * leaves, pods * aggs, cores / aggs);
    numbered(&name, all_leaves + all_aggs + cores)?;
    let per_leaf = even(&name, shape.host_rates.len(), all_leaves)?;
    fits("leaf0", per_leaf + aggs * up, "more leaves, fewer aggs or fewer uplinks")?;
    fits("agg0", leaves * up + plane * core_up, "fewer leaves per pod or fewer cores")?;
    fits("core0", pods * core_up, "fewer pods or fewer core_uplinks")?;
    let mut b = Builder::new(name, shape.host_rates.len(), shape.delays);
    for s in 0..all_leaves + all_aggs + cores {
        let name = match s {
            s if s < all_leaves => format!("leaf{s}"),
            s if s < all_leaves + all_aggs => format!("agg{}", s - all_leaves),
            s => format!("core{}", s - all_leaves - all_aggs),
        };
        add(&mut b, &shape.prototype, s, name);
    }
    for (e, &rate) in shape.host_rates.iter().enumerate() {
        b.cable_host(e, e / per_leaf, rate, 0)?;
    }
    for (pod, leaf) in (0..pods).flat_map(|p| (0..leaves).map(move |l| (p, p * leaves + l))) {
        for agg in (0..aggs).map(|a| all_leaves + pod * aggs + a) {
            for _ in 0..up {
                b.cable_switches(leaf, agg, shape.uplink_rate, shape.uplink_cable)?;
            }
        }
    }
    for agg in 0..all_aggs {
        for core in (0..plane).map(|c| all_leaves + all_aggs + agg % aggs * plane + c) {
            for _ in 0..core_up {
                b.cable_switches(all_leaves + agg, core, shape.core_rate, shape.core_cable)?;
            }
        }
    }
    b.finish()
}

/// A ring. Switches are "ring0", "ring1", ...
///
/// # Errors
/// [`TopologyError`] with the place and the fix.
pub fn ring(shape: &Ring) -> Result<Fabric, TopologyError> {
    let (n, uplinks) = (usize::from(shape.switches), usize::from(shape.uplinks));
    let way = if shape.clockwise { ", clockwise" } else { "" };
    let name = format!("ring of {n}{way}");
    let hosts = shape.host_rates.len();
    check_hosts(&name, hosts)?;
    if n < 3 {
        return Err(TopologyError::SmallRing { switches: n });
    }
    positive(&name, &[("uplinks", uplinks)])?;
    let each = even(&name, hosts, n)?;
    fits("ring0", each + 2 * uplinks, "more switches or fewer uplinks")?;
    let mut b = Builder::new(name, hosts, shape.delays);
    for s in 0..n {
        add(&mut b, &shape.prototype, s, format!("ring{s}"));
    }
    for (e, &rate) in shape.host_rates.iter().enumerate() {
        b.cable_host(e, e / each, rate, 0)?;
    }
    let mut onward = vec![Vec::new(); n];
    for (s, ports) in onward.iter_mut().enumerate() {
        for _ in 0..uplinks {
            ports.push(b.ports(s) as u16);
            b.cable_switches(s, (s + 1) % n, shape.uplink_rate, shape.uplink_cable)?;
        }
    }
    if shape.clockwise {
        let far = |s: usize| (0..hosts).filter(move |e| e / each != s);
        let route = |s: usize, e: usize| GivenRoute {
            switch: s as u16,
            endpoint: e as u32,
            ports: onward[s].clone(),
        };
        b.give((0..n).flat_map(|s| far(s).map(move |e| (s, e))).map(|(s, e)| route(s, e)).collect());
    }
    b.finish()
}

/// Any wiring, with the routes it is given and shortest paths for the rest.
///
/// # Errors
/// [`TopologyError`] with the place and the fix.
pub fn wired(shape: &Wired) -> Result<Fabric, TopologyError> {
    let name = format!("graph of {} switches", shape.switches.len());
    let hosts = shape.host_rates.len();
    check_hosts(&name, hosts)?;
    numbered(&name, shape.switches.len())?;
    let mut b = Builder::new(name, hosts, shape.delays);
    let mut first = Vec::with_capacity(shape.switches.len() + 1);
    let mut next = 0;
    for (s, (name, hosts)) in shape.switches.iter().enumerate() {
        add(&mut b, &shape.prototype, s, name.clone());
        first.push(next);
        next += hosts;
    }
    first.push(next);
    let home = |e: usize| first.partition_point(|f| *f <= e).saturating_sub(1);
    for (e, &rate) in shape.host_rates.iter().enumerate() {
        b.cable_host(e, home(e), rate, 0)?;
    }
    let mut ports_to: Vec<Vec<(u16, u16)>> = vec![Vec::new(); shape.switches.len()];
    for &(from, to, rate, delay) in &shape.cables {
        ports_to[usize::from(from)].push((to, b.ports(from.into()) as u16));
        ports_to[usize::from(to)].push((from, b.ports(to.into()) as u16));
        b.cable_switches(from.into(), to.into(), rate, delay)?;
    }
    let mut given = Vec::new();
    for (at, to, via) in &shape.routes {
        let ports: Vec<u16> = ports_to[usize::from(*at)]
            .iter()
            .filter(|(neighbour, _)| via.contains(neighbour))
            .map(|(_, port)| *port)
            .collect();
        if let Some(missing) = via.iter().find(|v| !ports_to[usize::from(*at)].iter().any(|(n, _)| n == *v)) {
            let [from, to] = [*at, *missing].map(|s| shape.switches[usize::from(s)].0.clone());
            return Err(TopologyError::NoCable { from, to });
        }
        let ends = first[usize::from(*to)]..first[usize::from(*to) + 1];
        given.extend(ends.map(|e| GivenRoute { switch: *at, endpoint: e as u32, ports: ports.clone() }));
    }
    b.give(given);
    b.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::testing::config;
    use crate::topology::{End, paths};
    use crate::units::PortId;

    fn delays() -> FixedDelays {
        FixedDelays { pipeline: Span::ZERO, fec: Span::ZERO }
    }

    fn fat_tree(k: u16) -> ThreeTier {
        let half = k / 2;
        ThreeTier {
            host_rates: vec![Rate::gbps(100); usize::from(k) * usize::from(half) * usize::from(half)],
            pods: k,
            leaves: half,
            aggs: half,
            cores: half * half,
            uplinks: 1,
            uplink_rate: Rate::gbps(100),
            uplink_cable: Span::from_ns(150),
            core_uplinks: 1,
            core_rate: Rate::gbps(100),
            core_cable: Span::from_ns(1_500),
            delays: delays(),
            prototype: config(1, 1_000_000),
        }
    }

    /// The k-ary fat tree: k^3 / 4 hosts, 5 k^2 / 4 switches of k ports, (k / 2)^2 paths between pods, k / 2 inside.
    #[test]
    fn the_fat_tree_has_the_published_counts() {
        for k in [4u16, 8] {
            let f = three_tier(&fat_tree(k)).unwrap();
            let k = usize::from(k);
            assert_eq!((f.endpoints as usize, f.switches.len()), (k * k * k / 4, 5 * k * k / 4));
            assert!(f.switches.iter().all(|s| s.ports.len() == k));
            let last = f.endpoints - 1;
            let far = paths(&f, 0, last).unwrap();
            assert_eq!(far.len(), k * k / 4);
            assert!(far.iter().all(|p| p.len() == 6 && f.links[p[5] as usize].to == End::Host(PortId(last))));
            let pod = paths(&f, 0, k as u32 / 2).unwrap();
            assert_eq!((pod.len(), pod[0].len()), (k / 2, 4));
            assert_eq!(f.tiers().iter().filter(|t| **t == 2).count(), k * k / 4);
            let tiers: Vec<String> = f.oversubscriptions().iter().map(|(_, o)| o.to_string()).collect();
            assert_eq!(tiers, ["1:1", "1:1"]);
            assert_eq!(f.hops_max(), 5);
        }
    }

    #[test]
    fn each_tier_has_an_oversubscription_of_its_own() {
        let mut shape = fat_tree(4);
        shape.host_rates = vec![Rate::gbps(200); 32];
        shape.core_rate = Rate::gbps(25);
        let f = three_tier(&shape).unwrap();
        let tiers: Vec<String> = f.oversubscriptions().iter().map(|(t, o)| format!("{t} {o}")).collect();
        assert_eq!(tiers, ["leaf 4:1", "agg 4:1"]); // 800G over 200G, 200G over 50G
        shape.cores = 3;
        assert!(three_tier(&shape).unwrap_err().to_string().contains("multiple of aggs"));
    }

    fn ring_of(n: u16, clockwise: bool) -> Ring {
        Ring {
            host_rates: vec![Rate::gbps(100); usize::from(n)],
            switches: n,
            uplinks: 1,
            uplink_rate: Rate::gbps(100),
            uplink_cable: Span::from_ns(50),
            clockwise,
            delays: delays(),
            prototype: config(1, 1_000_000),
        }
    }

    #[test]
    fn a_ring_takes_the_shorter_way_or_always_the_same() {
        let f = ring(&ring_of(4, false)).unwrap();
        assert_eq!(paths(&f, 0, 1).unwrap().len(), 1);
        assert_eq!(paths(&f, 0, 2).unwrap().len(), 2, "both ways are equally long");
        let f = ring(&ring_of(4, true)).unwrap();
        for (to, links) in [(1, 3), (2, 4), (3, 5)] {
            let all = paths(&f, 0, to).unwrap();
            assert_eq!((all.len(), all[0].len()), (1, links));
        }
        assert!(ring(&ring_of(2, false)).is_err());
    }

    #[test]
    fn given_routes_replace_shortest_paths() {
        let mut shape = Wired {
            host_rates: vec![Rate::gbps(100); 2],
            switches: vec![("a".into(), 1), ("b".into(), 0), ("c".into(), 1)],
            cables: [(0, 1), (1, 2), (0, 2)].map(|(a, b)| (a, b, Rate::gbps(100), Span::ZERO)).to_vec(),
            routes: vec![(0, 2, vec![1])],
            delays: delays(),
            prototype: config(1, 1_000_000),
        };
        let f = wired(&shape).unwrap();
        assert_eq!(paths(&f, 0, 1).unwrap()[0].len(), 4, "by way of b");
        assert_eq!(paths(&f, 1, 0).unwrap()[0].len(), 3, "straight back");
        shape.cables.pop();
        shape.routes = vec![(0, 2, vec![2])];
        assert_eq!(wired(&shape).unwrap_err().to_string(), "route at a: no cable to c; add one");
    }
}
