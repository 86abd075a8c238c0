//! What routes mean for traffic: paths, link loads, the time the busiest link needs, and flows that share an uplink.

use super::{End, Fabric, TopologyError};
use crate::limits::HOPS_MAX;
use crate::switch::config::LoadBalance;
use crate::switch::route::ecmp_index;
use crate::units::{PortId, Span};

/// Which link leaves by which end, as numbers; built once from a fabric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wiring {
    /// Link from each endpoint to its switch.
    pub from_host: Vec<u32>,
    /// `from_switch[s][p]` = link that leaves switch s by port p.
    pub from_switch: Vec<Vec<u32>>,
}

impl Wiring {
    /// Looks every end up.
    ///
    /// # Errors
    /// [`TopologyError::Miswired`] when an end has no link or more than one.
    pub fn new(fabric: &Fabric) -> Result<Wiring, TopologyError> {
        const NONE: u32 = u32::MAX;
        let mut w = Wiring {
            from_host: vec![NONE; fabric.endpoints as usize],
            from_switch: fabric.switches.iter().map(|s| vec![NONE; s.ports.len()]).collect(),
        };
        for (i, link) in fabric.links.iter().enumerate() {
            let place = match link.from {
                End::Host(e) => w.from_host.get_mut(e.0 as usize),
                End::Switch(s, p) => {
                    w.from_switch.get_mut(usize::from(s)).and_then(|ports| ports.get_mut(usize::from(p)))
                }
            };
            match place {
                Some(at) if *at == NONE => *at = i as u32,
                _ => return Err(TopologyError::Miswired { end: link.from, links: 2 }),
            }
        }
        let hosts = w.from_host.iter().enumerate().map(|(e, &l)| (End::Host(PortId(e as u32)), l));
        let ports = w.from_switch.iter().enumerate().flat_map(|(s, ports)| {
            ports.iter().enumerate().map(move |(p, &l)| (End::Switch(s as u16, p as u16), l))
        });
        match hosts.chain(ports).find(|&(_, link)| link == NONE) {
            Some((end, _)) => Err(TopologyError::Miswired { end, links: 0 }),
            None => Ok(w),
        }
    }
}

/// Bytes from one endpoint to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Sending endpoint.
    pub src: u32,
    /// Receiving endpoint.
    pub dst: u32,
    /// Bytes as they load the wire: whoever counts payload only adds the frames' overhead first.
    pub bytes: u64,
}

/// A flow with the hash its headers give (`wire::fast::ecmp_hash` with seed 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedFlow {
    /// Sending endpoint.
    pub src: u32,
    /// Receiving endpoint.
    pub dst: u32,
    /// ECMP entropy.
    pub hash: u32,
}

/// The link that needs longest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Time it needs to carry its share.
    pub span: Span,
    /// Its number.
    pub link: u32,
}

/// Every equal-cost path from `src` to `dst` as link numbers, in port order. Empty when they are one endpoint. Grows
/// with the product of the choices on the way: for one pair, not for all.
///
/// # Errors
/// [`TopologyError`] for endpoints that do not exist, miswired fabrics and routes in a loop.
pub fn paths(fabric: &Fabric, src: u32, dst: u32) -> Result<Vec<Vec<u32>>, TopologyError> {
    let wiring = Wiring::new(fabric)?;
    let mut found = Vec::new();
    if src == dst {
        return Ok(found);
    }
    let first = first_link(fabric, &wiring, src, dst)?;
    let mut open = vec![vec![first]];
    while let Some(path) = open.pop() {
        let last = path.last().copied().unwrap_or(first);
        let End::Switch(s, _) = fabric.links[last as usize].to else {
            found.push(path);
            continue;
        };
        if path.len() > usize::from(HOPS_MAX) {
            return Err(TopologyError::Loop { src, dst });
        }
        for &p in candidates(fabric, s, dst)?.iter().rev() {
            let mut longer = path.clone();
            longer.push(wiring.from_switch[usize::from(s)][usize::from(p)]);
            open.push(longer);
        }
    }
    Ok(found)
}

/// Bytes on every link when each switch splits every flow evenly over its equal-cost ports: what ECMP approaches with
/// many flows and spraying always does. Flows within one endpoint load nothing.
///
/// Cost: the flows of one sender-receiver pair are walked together with all others to the same receiver, so it grows
/// with receivers x switches, not with paths.
///
/// # Errors
/// As [`paths`].
pub fn link_bytes(fabric: &Fabric, flows: &[Flow]) -> Result<Vec<f64>, TopologyError> {
    let wiring = Wiring::new(fabric)?;
    let mut load = vec![0.0; fabric.links.len()];
    let mut by_receiver: Vec<&Flow> = flows.iter().filter(|f| f.src != f.dst).collect();
    by_receiver.sort_by_key(|f| f.dst);
    let mut at_switch = vec![0.0; fabric.switches.len()];
    for group in by_receiver.chunk_by(|a, b| a.dst == b.dst) {
        let dst = group[0].dst;
        let mut front: Vec<u16> = Vec::new();
        let mut arrive = |link: u32, bytes: f64, front: &mut Vec<u16>, at_switch: &mut [f64]| {
            load[link as usize] += bytes;
            if let End::Switch(s, _) = fabric.links[link as usize].to {
                if at_switch[usize::from(s)] == 0.0 {
                    front.push(s);
                }
                at_switch[usize::from(s)] += bytes;
            }
        };
        for f in group {
            let link = first_link(fabric, &wiring, f.src, dst)?;
            arrive(link, f.bytes as f64, &mut front, &mut at_switch);
        }
        // All bytes for this receiver move one hop at a time, together.
        for _ in 0..=HOPS_MAX {
            let here = std::mem::take(&mut front);
            let moving: Vec<(u16, f64)> =
                here.iter().map(|&s| (s, std::mem::take(&mut at_switch[usize::from(s)]))).collect();
            for (s, bytes) in moving {
                let ports = candidates(fabric, s, dst)?;
                for &p in ports {
                    let link = wiring.from_switch[usize::from(s)][usize::from(p)];
                    arrive(link, bytes / ports.len() as f64, &mut front, &mut at_switch);
                }
            }
            if front.is_empty() {
                break;
            }
        }
        if !front.is_empty() {
            return Err(TopologyError::Loop { src: group[0].src, dst });
        }
    }
    Ok(load)
}

/// The least time in which the fabric can carry all flows, however they are scheduled: that of the link with the most
/// to carry for its rate. No latency, no overhead beyond the bytes given.
///
/// # Errors
/// As [`paths`].
pub fn fabric_bound(fabric: &Fabric, flows: &[Flow]) -> Result<Bound, TopologyError> {
    let load = link_bytes(fabric, flows)?;
    let times = load.iter().zip(&fabric.links).enumerate().map(|(i, (bytes, link))| {
        let ps = bytes * 8e12 / link.timing.rate().bits_per_s as f64;
        Bound { span: Span(ps.round() as u64), link: i as u32 }
    });
    // The first of equals, so that the answer does not depend on anything else.
    Ok(times.reduce(|best, b| if b.span > best.span { b } else { best }).unwrap_or_default())
}

/// The links that a flow takes, first to last, where its path is fixed by its hash or its ports.
///
/// # Errors
/// As [`paths`], and [`TopologyError::Sprayed`] where a switch chooses anew from frame to frame.
pub fn trace(fabric: &Fabric, wiring: &Wiring, f: &HashedFlow) -> Result<Vec<u32>, TopologyError> {
    let mut link = first_link(fabric, wiring, f.src, f.dst)?;
    let mut way = vec![link];
    while let End::Switch(s, ingress) = fabric.links[link as usize].to {
        if way.len() > usize::from(HOPS_MAX) {
            return Err(TopologyError::Loop { src: f.src, dst: f.dst });
        }
        let (config, ports) = (&fabric.switches[usize::from(s)], candidates(fabric, s, f.dst)?);
        let choice = match config.balance {
            _ if ports.len() == 1 => 0,
            LoadBalance::Ecmp => ecmp_index(f.hash, config.hash_seed, ports.len()),
            LoadBalance::Pinned => usize::from(ingress) % ports.len(),
            LoadBalance::Spray | LoadBalance::Flowlet { .. } | LoadBalance::Adaptive { .. } => {
                return Err(TopologyError::Sprayed { switch: config.name.clone() });
            }
        };
        link = wiring.from_switch[usize::from(s)][usize::from(ports[choice])];
        way.push(link);
    }
    Ok(way)
}

/// Flows that hashing has put on one link between switches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collisions {
    /// Flows on every link.
    pub flows_per_link: Vec<u32>,
    /// Over all links between switches: flows beyond the first.
    pub collisions: u32,
    /// Most flows on one link between switches.
    pub flows_max: u32,
}

/// Takes every flow along the path its hash gives it and counts flows per link.
///
/// # Errors
/// As [`paths`], and [`TopologyError::Sprayed`] where a switch sprays.
pub fn collisions(fabric: &Fabric, flows: &[HashedFlow]) -> Result<Collisions, TopologyError> {
    let wiring = Wiring::new(fabric)?;
    let mut c = Collisions { flows_per_link: vec![0; fabric.links.len()], ..Collisions::default() };
    for f in flows.iter().filter(|f| f.src != f.dst) {
        for link in trace(fabric, &wiring, f)? {
            c.flows_per_link[link as usize] += 1;
        }
    }
    for (link, &flows) in fabric.links.iter().zip(&c.flows_per_link) {
        if matches!((link.from, link.to), (End::Switch(..), End::Switch(..))) {
            c.collisions += flows.saturating_sub(1);
            c.flows_max = c.flows_max.max(flows);
        }
    }
    Ok(c)
}

/// How the load of one tier's links upwards is spread.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct TierPaths {
    /// The tier they leave, by the name its switches share; of a ring, its switches.
    pub from: String,
    /// The tier they lead to.
    pub to: String,
    /// Links.
    pub links: u32,
    /// Links that carried anything.
    pub used: u32,
    /// Links it would take to carry the same load evenly, no link more than the mean of what flows see:
    /// (sum x)^2 / sum x^2. All links when the load is even, one when one link bears everything.
    pub effective: f64,
}

/// The spread of `load` (per link, in flows or bytes) over the links that lead upwards, tier by tier; in the lowest tier
/// links to switches of the same tier count too. Tiers without load are left out.
pub fn tier_paths(fabric: &Fabric, load: &[f64]) -> Vec<TierPaths> {
    let tiers = fabric.tiers();
    let mut rows: std::collections::BTreeMap<(u16, u16), (u32, u32, f64, f64)> = Default::default();
    for (link, &x) in fabric.links.iter().zip(load) {
        let (End::Switch(a, _), End::Switch(b, _)) = (link.from, link.to) else { continue };
        let (from, to) = (tiers[usize::from(a)], tiers[usize::from(b)]);
        if to > from || (to == from && from == 0) {
            let row = rows.entry((from, to)).or_default();
            *row = (row.0 + 1, row.1 + u32::from(x > 0.0), row.2 + x, row.3 + x * x);
        }
    }
    let row = |((from, to), (links, used, sum, squares)): ((u16, u16), (u32, u32, f64, f64))| TierPaths {
        from: fabric.tier_name(from, &tiers),
        to: fabric.tier_name(to, &tiers),
        links,
        used,
        effective: sum * sum / squares,
    };
    rows.into_iter().filter(|(_, r)| r.2 > 0.0).map(row).collect()
}

fn first_link(fabric: &Fabric, wiring: &Wiring, src: u32, dst: u32) -> Result<u32, TopologyError> {
    match wiring.from_host.get(src as usize) {
        Some(&link) if dst < fabric.endpoints => Ok(link),
        _ => Err(TopologyError::NoSuchEndpoint { src, dst, last: fabric.endpoints.saturating_sub(1) }),
    }
}

/// Equal-cost ports of a switch; never empty.
fn candidates(fabric: &Fabric, switch: u16, dst: u32) -> Result<&[u16], TopologyError> {
    let ports = fabric.routes.get(usize::from(switch)).and_then(|r| r.ports_to.get(dst as usize));
    match ports {
        Some(ports) if !ports.is_empty() => Ok(ports),
        _ => {
            let from = fabric.switches[usize::from(switch)].name.clone();
            Err(TopologyError::Unreachable { endpoint: dst, from })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::mix;
    use crate::topology::testing::{four_to_one, leaf_spine_of};
    use crate::topology::{LeafSpine, leaf_spine};
    use crate::units::Rate;

    #[test]
    fn paths_are_enumerated_and_lead_where_they_should() {
        let f = leaf_spine(&LeafSpine { uplinks: 2, ..leaf_spine_of(8, 2, 3) }).unwrap();
        // Up by 6 ports, down by 2: 12 paths of 4 links.
        let all = paths(&f, 0, 7).unwrap();
        assert_eq!(all.len(), 12);
        for path in &all {
            assert_eq!(path.len(), 4);
            assert_eq!(f.links[path[0] as usize].from, End::Host(PortId(0)));
            assert_eq!(f.links[path[3] as usize].to, End::Host(PortId(7)));
        }
        assert_eq!(paths(&f, 0, 1).unwrap().len(), 1);
        assert_eq!(paths(&f, 0, 1).unwrap()[0].len(), 2);
        assert!(paths(&f, 3, 3).unwrap().is_empty());
        assert!(paths(&f, 0, 8).unwrap_err().to_string().contains("endpoints 0 to 7"));
    }

    #[test]
    fn an_incast_is_bound_by_its_receiver() {
        let f = leaf_spine(&leaf_spine_of(64, 4, 16)).unwrap();
        let flows: Vec<Flow> = (0..32).map(|src| Flow { src, dst: 63, bytes: 1_000_000 }).collect();
        let b = fabric_bound(&f, &flows).unwrap();
        assert_eq!(b.span, Rate::gbps(100).time_for(32_000_000));
        assert_eq!(f.links[b.link as usize].to, End::Host(PortId(63)));
    }

    /// A permutation from one leaf to the other at 4:1: 8 hosts share two uplinks.
    #[test]
    fn oversubscription_binds_what_crosses_the_spines() {
        let f = leaf_spine(&four_to_one()).unwrap();
        let across: Vec<Flow> = (0..8).map(|i| Flow { src: i, dst: i + 8, bytes: 1_000_000 }).collect();
        assert_eq!(fabric_bound(&f, &across).unwrap().span, Rate::gbps(100).time_for(4_000_000));
        // A ring in rank order crosses once in each direction: half of it on each of two uplinks, so hosts bind.
        let ring: Vec<Flow> = (0..16).map(|i| Flow { src: i, dst: (i + 1) % 16, bytes: 1_000_000 }).collect();
        assert_eq!(fabric_bound(&f, &ring).unwrap().span, Rate::gbps(100).time_for(1_000_000));
        let load = link_bytes(&f, &ring).unwrap();
        let between =
            |l: &&crate::topology::Link| matches!((l.from, l.to), (End::Switch(..), End::Switch(..)));
        let crossing: f64 = f.links.iter().zip(&load).filter(|(l, _)| between(l)).map(|(_, b)| b).sum();
        assert_eq!(crossing, 4e6, "two flows, up and down");
        assert_eq!(fabric_bound(&f, &[]).unwrap().span, Span::ZERO);
    }

    #[test]
    fn hashed_flows_collide_as_balls_in_bins_and_pinned_ones_do_not() {
        // 16 flows from one leaf into 16 uplinks, 400 draws of hashes: uplinks left unused are 16 (1 - 1/16)^16 = 5.70.
        let f = leaf_spine(&leaf_spine_of(32, 2, 16)).unwrap();
        let draw = |f: &Fabric, seed: u64| {
            let flow =
                |i: u32| HashedFlow { src: i, dst: i + 16, hash: mix(seed << 8 | u64::from(i)) as u32 };
            collisions(f, &(0..16).map(flow).collect::<Vec<_>>()).unwrap()
        };
        // One spine has one link to each leaf, so flows that meet on the way up stay together on the way down.
        let total: u32 = (0..400).map(|seed| draw(&f, seed).collisions / 2).sum();
        let mean = f64::from(total) / 400.0;
        assert!((mean - 5.70).abs() < 0.3, "{mean} collisions on 16 uplinks"); // 6 standard errors
        let mut pinned = f.clone();
        pinned.switches.iter_mut().for_each(|s| s.balance = LoadBalance::Pinned);
        let c = draw(&pinned, 1);
        assert_eq!((c.collisions, c.flows_max), (0, 1));
        pinned.switches[0].balance = LoadBalance::Spray;
        assert!(collisions(&pinned, &[HashedFlow { src: 0, dst: 16, hash: 1 }]).is_err());
    }

    #[test]
    fn wiring_knows_every_end_and_finds_loose_ones() {
        let mut f = leaf_spine(&leaf_spine_of(8, 2, 2)).unwrap();
        let w = Wiring::new(&f).unwrap();
        for (i, link) in f.links.iter().enumerate() {
            let found = match link.from {
                End::Host(e) => w.from_host[e.0 as usize],
                End::Switch(s, p) => w.from_switch[usize::from(s)][usize::from(p)],
            };
            assert_eq!(found as usize, i);
        }
        f.links.pop();
        assert!(Wiring::new(&f).unwrap_err().to_string().contains("0 links leave here"));
    }
}
