//! Buffer dependencies: which link waits for which when every buffer is full. A cycle of them is what PFC needs to
//! deadlock (Dally and Seitz 1987 for wormhole routing; Hu et al., HotNets 2016, for PFC).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::paths::Wiring;
use super::{End, Fabric, Routes, TopologyError};

/// A cycle of links between switches, each waiting for the next: frames that came in by one leave by the next.
pub type Cycle = Vec<u32>;

/// A cycle among the buffers that `routes` connect, for traffic from any endpoint to any other; `None` when there is
/// none, which makes a deadlock impossible. Only what an endpoint can send is followed, so routes that nobody uses do
/// not count.
///
/// # Errors
/// [`TopologyError::Miswired`].
pub fn buffer_cycle(fabric: &Fabric, routes: &[Routes]) -> Result<Option<Cycle>, TopologyError> {
    let wiring = Wiring::new(fabric)?;
    let homes = fabric.homes();
    let all = destinations(fabric, &homes, routes);
    if up_then_down(fabric, &wiring, routes, &all) {
        return Ok(None);
    }
    let mut sources: Vec<u16> = homes.clone();
    sources.sort_unstable();
    sources.dedup();
    let mut after: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); fabric.links.len()];
    for dst in all {
        follow(fabric, &wiring, routes, &sources, dst, &mut after);
    }
    Ok(find_cycle(&after))
}

/// Whether no route goes down (or sideways) and then up or sideways: without that there is no circle, and a Clos without
/// failures is known for one look at each route.
fn up_then_down(fabric: &Fabric, wiring: &Wiring, routes: &[Routes], all: &[u32]) -> bool {
    let tiers = fabric.tiers();
    let next = |s: usize, dst: u32| {
        let ports = routes.get(s).and_then(|r| r.ports_to.get(dst as usize));
        ports.into_iter().flat_map(|p| p.iter()).filter_map(move |p| {
            match fabric.links[wiring.from_switch[s][usize::from(*p)] as usize].to {
                End::Switch(to, _) => Some(usize::from(to)),
                End::Host(_) => None,
            }
        })
    };
    let climbs = |s: usize, dst: u32| next(s, dst).any(|to| tiers[to] >= tiers[s]);
    all.iter().all(|&dst| {
        let climbing: Vec<bool> = (0..tiers.len()).map(|s| climbs(s, dst)).collect();
        (0..tiers.len()).all(|s| next(s, dst).all(|to| tiers[to] > tiers[s] || !climbing[to]))
    })
}

/// Where an endpoint hangs, and the ports towards it of every other switch.
type Ways = (u16, Vec<Option<Arc<[u16]>>>);

/// One endpoint for each set of endpoints that all switches but the last treat alike.
fn destinations(fabric: &Fabric, homes: &[u16], routes: &[Routes]) -> Vec<u32> {
    if fabric.given.is_empty() {
        let mut seen = BTreeSet::new();
        return (0..fabric.endpoints).filter(|e| seen.insert(homes[*e as usize])).collect();
    }
    let mut seen: BTreeSet<Ways> = BTreeSet::new();
    let key = |e: u32| {
        let home = homes[e as usize];
        let of = |(s, r): (usize, &Routes)| {
            (s != usize::from(home)).then(|| r.ports_to.get(e as usize).cloned()).flatten()
        };
        (home, routes.iter().enumerate().map(of).collect())
    };
    (0..fabric.endpoints).filter(|e| seen.insert(key(*e))).collect()
}

/// Adds what traffic to `dst` makes wait for what.
fn follow(
    fabric: &Fabric,
    wiring: &Wiring,
    routes: &[Routes],
    sources: &[u16],
    dst: u32,
    after: &mut [BTreeSet<u32>],
) {
    let between = |s: u16| {
        let ports = routes[usize::from(s)].ports_to.get(dst as usize).cloned().unwrap_or_default();
        let links: Vec<(u32, u16)> = ports
            .iter()
            .map(|&p| wiring.from_switch[usize::from(s)][usize::from(p)])
            .filter_map(|l| match fabric.links[l as usize].to {
                End::Switch(to, _) => Some((l, to)),
                End::Host(_) => None,
            })
            .collect();
        links
    };
    let mut seen = vec![false; fabric.switches.len()];
    let mut open: Vec<u16> = sources.to_vec();
    sources.iter().for_each(|s| seen[usize::from(*s)] = true);
    while let Some(s) = open.pop() {
        for (link, to) in between(s) {
            after[link as usize].extend(between(to).iter().map(|(next, _)| *next));
            if !std::mem::replace(&mut seen[usize::from(to)], true) {
                open.push(to);
            }
        }
    }
}

/// A cycle of a directed graph, by depth-first search without recursion.
fn find_cycle(after: &[BTreeSet<u32>]) -> Option<Cycle> {
    const NEW: u8 = 0;
    const OPEN: u8 = 1;
    const DONE: u8 = 2;
    let mut state = vec![NEW; after.len()];
    for root in 0..after.len() {
        if state[root] != NEW {
            continue;
        }
        state[root] = OPEN;
        let mut path = vec![(root as u32, after[root].iter())];
        while let Some((_, rest)) = path.last_mut() {
            let Some(&next) = rest.next() else {
                if let Some((done, _)) = path.pop() {
                    state[done as usize] = DONE;
                }
                continue;
            };
            match state[next as usize] {
                NEW => {
                    state[next as usize] = OPEN;
                    path.push((next, after[next as usize].iter()));
                }
                OPEN => {
                    let from = path.iter().position(|(l, _)| *l == next).unwrap_or(0);
                    return Some(path[from..].iter().map(|(l, _)| *l).collect());
                }
                _ => {}
            }
        }
    }
    None
}

/// "ring0 -> ring1 -> ring2 -> ring0".
pub fn cycle_text(fabric: &Fabric, cycle: &[u32]) -> String {
    let name = |end: End| match end {
        End::Switch(s, _) => fabric.switches.get(usize::from(s)).map_or("?", |c| c.name.as_str()),
        End::Host(_) => "?",
    };
    let mut names: Vec<&str> = cycle.iter().map(|l| name(fabric.links[*l as usize].from)).collect();
    names.extend(names.first().copied());
    names.join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::config::FixedDelays;
    use crate::switch::testing::config;
    use crate::topology::routing::routes;
    use crate::topology::testing::leaf_spine_of;
    use crate::topology::{Ring, leaf_spine, ring};
    use crate::units::{Rate, Span};

    fn ring_of(n: u16, clockwise: bool) -> Fabric {
        ring(&Ring {
            host_rates: vec![Rate::gbps(100); usize::from(n)],
            switches: n,
            uplinks: 1,
            uplink_rate: Rate::gbps(100),
            uplink_cable: Span::ZERO,
            clockwise,
            delays: FixedDelays { pipeline: Span::ZERO, fec: Span::ZERO },
            prototype: config(1, 1_000_000),
        })
        .unwrap()
    }

    #[test]
    fn up_and_down_has_no_cycle_and_a_ring_has() {
        let f = leaf_spine(&leaf_spine_of(16, 4, 3)).unwrap();
        assert_eq!(buffer_cycle(&f, &f.routes), Ok(None));
        // Three in a ring by the shorter way are all neighbours; four are not, and neither are three clockwise.
        let f = ring_of(3, false);
        assert_eq!(buffer_cycle(&f, &f.routes), Ok(None));
        for f in [ring_of(3, true), ring_of(4, false)] {
            let cycle = buffer_cycle(&f, &f.routes).unwrap().unwrap();
            assert!(cycle.len() >= 3, "{cycle:?}");
            let text = cycle_text(&f, &cycle);
            let names: Vec<&str> = text.split(" -> ").collect();
            assert_eq!((names.len(), names.first()), (cycle.len() + 1, names.last()));
        }
    }

    /// Two failed links in a leaf-spine leave a path that goes down and up again; with one failure nobody uses it.
    #[test]
    fn a_bounce_counts_once_traffic_takes_it() {
        let f = leaf_spine(&leaf_spine_of(6, 3, 2)).unwrap();
        // Cables follow the six host cables: leaf0-spine0, leaf0-spine1, leaf1-spine0, ...
        let one = routes(&f, |cable| cable != 6);
        assert_eq!(buffer_cycle(&f, &one), Ok(None));
        let two = routes(&f, |cable| cable != 6 && cable != 9); // leaf0-spine0 and leaf1-spine1
        let dependent = buffer_cycle(&f, &two).unwrap();
        assert_eq!(dependent, None, "one bounce by leaf2 makes a chain, not a ring");
        assert_eq!(two[0].ports_to[2].len(), 1, "leaf0 reaches leaf1 by spine1, leaf2 and spine0");
    }
}
