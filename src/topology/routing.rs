//! Routes from wiring: all equal-cost shortest paths over the cables that are up, or what the profile gives.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{End, Fabric, Routes, TopologyError};

/// A route that replaces the shortest paths of one switch to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenRoute {
    /// The switch it is configured on.
    pub switch: u16,
    /// Destination.
    pub endpoint: u32,
    /// Equal-cost ports.
    pub ports: Vec<u16>,
}

/// Routes of every switch to every endpoint over the cables for which `up` holds (cable k is links 2k and 2k + 1).
/// A list is empty where no path is left. A given route keeps those of its ports whose cable is up; no other path
/// takes its place.
///
/// Cost: one breadth-first search per switch that has hosts; endpoints behind one switch share their lists everywhere
/// else.
pub fn routes(fabric: &Fabric, up: impl Fn(u32) -> bool) -> Vec<Routes> {
    let n = fabric.switches.len();
    // (port, neighbour) of every switch, and where every endpoint hangs.
    let mut neighbours: Vec<Vec<(u16, u16)>> = vec![Vec::new(); n];
    let mut attached: Vec<Option<(u16, u16)>> = vec![None; fabric.endpoints as usize];
    let mut dead: Vec<(u16, u16)> = Vec::new();
    for (i, link) in fabric.links.iter().enumerate() {
        let alive = up(i as u32 / 2);
        match (link.from, link.to) {
            (End::Switch(s, port), _) if !alive => dead.push((s, port)),
            (End::Switch(s, port), End::Switch(to, _)) => neighbours[usize::from(s)].push((port, to)),
            (End::Switch(s, port), End::Host(e)) => attached[e.0 as usize] = Some((s, port)),
            _ => {}
        }
    }
    let none: Arc<[u16]> = Arc::from([]);
    let mut lists: Vec<Vec<Arc<[u16]>>> = vec![Vec::new(); n]; // [destination switch][switch]
    let mut routes = vec![Routes { ports_to: Vec::with_capacity(attached.len()) }; n];
    for at in &attached {
        let Some((home, port)) = *at else {
            routes.iter_mut().for_each(|r| r.ports_to.push(none.clone()));
            continue;
        };
        let home = usize::from(home);
        if lists[home].is_empty() {
            lists[home] = towards(home, &neighbours, &none);
        }
        for (s, route) in routes.iter_mut().enumerate() {
            route.ports_to.push(if s == home { Arc::from([port]) } else { lists[home][s].clone() });
        }
    }
    dead.sort_unstable();
    for given in &fabric.given {
        let alive = |p: &&u16| dead.binary_search(&(given.switch, **p)).is_err();
        let ports: Arc<[u16]> = given.ports.iter().filter(alive).copied().collect();
        if let Some(place) = routes
            .get_mut(usize::from(given.switch))
            .and_then(|r| r.ports_to.get_mut(given.endpoint as usize))
        {
            *place = ports;
        }
    }
    routes
}

/// Per switch: its ports on shortest paths to switch `home`, in port order; empty where there is no path.
fn towards(home: usize, neighbours: &[Vec<(u16, u16)>], none: &Arc<[u16]>) -> Vec<Arc<[u16]>> {
    let mut incoming: Vec<Vec<usize>> = vec![Vec::new(); neighbours.len()];
    for (from, ports) in neighbours.iter().enumerate() {
        ports.iter().for_each(|&(_, to)| incoming[usize::from(to)].push(from));
    }
    let mut distance = vec![usize::MAX; neighbours.len()];
    distance[home] = 0;
    let mut queue = VecDeque::from([home]);
    while let Some(s) = queue.pop_front() {
        for &from in &incoming[s] {
            if distance[from] == usize::MAX {
                distance[from] = distance[s] + 1;
                queue.push_back(from);
            }
        }
    }
    let ports = |s: usize| {
        if distance[s] == usize::MAX {
            return none.clone();
        }
        let mut ports: Vec<u16> = neighbours[s]
            .iter()
            .filter(|(_, to)| distance[usize::from(*to)] < distance[s])
            .map(|&(port, _)| port)
            .collect();
        ports.sort_unstable();
        Arc::from(ports)
    };
    (0..neighbours.len()).map(ports).collect()
}

impl Fabric {
    /// Checks that every switch has a route to every endpoint.
    ///
    /// # Errors
    /// [`TopologyError::Unreachable`] with the first endpoint and switch that have none.
    pub fn all_reachable(&self) -> Result<(), TopologyError> {
        for (switch, routes) in self.switches.iter().zip(&self.routes) {
            let none = |ports: &Arc<[u16]>| ports.is_empty();
            if let Some(endpoint) = routes.ports_to.iter().position(none) {
                let wired =
                    self.links.iter().any(|l| matches!(l.from, End::Host(h) if h.0 == endpoint as u32));
                let from = if wired { switch.name.clone() } else { "any switch".into() };
                return Err(TopologyError::Unreachable { endpoint: endpoint as u32, from });
            }
        }
        Ok(())
    }

    /// Distance of every switch from the nearest endpoint: 0 for those with endpoints.
    pub fn tiers(&self) -> Vec<u16> {
        let mut neighbours: Vec<Vec<u16>> = vec![Vec::new(); self.switches.len()];
        let mut tier = vec![u16::MAX; self.switches.len()];
        let mut queue = VecDeque::new();
        for link in &self.links {
            match (link.from, link.to) {
                (End::Switch(a, _), End::Switch(b, _)) => neighbours[usize::from(a)].push(b),
                (End::Host(_), End::Switch(s, _)) if tier[usize::from(s)] != 0 => {
                    tier[usize::from(s)] = 0;
                    queue.push_back(usize::from(s));
                }
                _ => {}
            }
        }
        while let Some(s) = queue.pop_front() {
            for &to in &neighbours[s] {
                if tier[usize::from(to)] == u16::MAX {
                    tier[usize::from(to)] = tier[s] + 1;
                    queue.push_back(usize::from(to));
                }
            }
        }
        tier
    }

    /// The switch an endpoint is wired to, per endpoint.
    pub fn homes(&self) -> Vec<u16> {
        let mut homes = vec![u16::MAX; self.endpoints as usize];
        for link in &self.links {
            if let (End::Host(h), End::Switch(s, _)) = (link.from, link.to) {
                homes[h.0 as usize] = s;
            }
        }
        homes
    }
}
