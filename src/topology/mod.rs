//! Who is wired to what: endpoints (tester ports), switches, cables, and the routes that follow.

mod build;
pub mod depend;
mod paths;
pub mod routing;
mod shapes;

use std::fmt;

pub use self::build::{
    Graph, GraphCable, GraphEnd, LeafSpine, SingleSwitch, graph, leaf_spine, single_switch,
};
pub use self::paths::{
    Bound, Collisions, Flow, HashedFlow, TierPaths, Wiring, collisions, fabric_bound, link_bytes, paths,
    tier_paths, trace,
};
pub use self::routing::GivenRoute;
pub use self::shapes::{Ring, ThreeTier, Wired, ring, three_tier, wired};
pub use crate::switch::Routes;
use crate::switch::config::{ConfigError, SwitchConfig};
use crate::units::{LinkTiming, PortId, Rate, Span};

/// Propagation of light in fibre and copper alike: 5 ns per metre (two thirds of c).
pub const CABLE_SPAN_PER_M: Span = Span::from_ns(5);

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// A tester port.
    Host(PortId),
    /// Port of a switch: (switch, port).
    Switch(u16, u16),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Host(port) => write!(f, "endpoint {}", port.0),
            End::Switch(switch, port) => write!(f, "switch {switch} port {port}"),
        }
    }
}

/// A directed link. Cables are two of them: link 2k is a->b, link 2k+1 is b->a.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Where frames enter.
    pub from: End,
    /// Where they come out.
    pub to: End,
    /// Rate and delay. The propagation includes the far end's fixed delays (FEC, switch pipeline).
    pub timing: LinkTiming,
}

/// The wired fabric of a run, embedded switches included.
#[derive(Clone, Debug, Default)]
pub struct Fabric {
    /// Number of endpoints (tester ports).
    pub endpoints: u32,
    /// Switches.
    pub switches: Vec<SwitchConfig>,
    /// Directed links; the index is the link's number everywhere.
    pub links: Vec<Link>,
    /// `routes[s].ports_to[e]` = equal-cost ports of switch s towards endpoint e.
    pub routes: Vec<Routes>,
    /// Routes that were given instead of found.
    pub given: Vec<GivenRoute>,
    /// Name of the shape for reports: "single switch", "leaf-spine 2x2", ...
    pub shape: String,
}

/// Host rate against uplink rate of the leaf that is worst off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Oversubscription {
    /// Sum of the rates of that switch's host ports.
    pub host_rate: Rate,
    /// Sum of the rates of its ports to other switches; 0 when there is no other switch.
    pub uplink_rate: Rate,
}

impl Oversubscription {
    /// Host rate over uplink rate; 1 when there are no uplinks (a single switch is non-blocking).
    pub fn ratio(&self) -> f64 {
        match self.uplink_rate.bits_per_s {
            0 => 1.0,
            up => self.host_rate.bits_per_s as f64 / up as f64,
        }
    }
}

impl fmt::Display for Oversubscription {
    /// `4:1`, `1.5:1`, `0.5:1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.ratio());
        write!(f, "{}:1", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Fabric {
    /// Oversubscription of the worst leaf.
    pub fn oversubscription(&self) -> Oversubscription {
        let mut leaves = vec![Oversubscription::default(); self.switches.len()];
        let mut has_hosts = vec![false; self.switches.len()];
        for link in &self.links {
            let rate = link.timing.rate().bits_per_s;
            match (link.from, link.to) {
                (End::Host(_), End::Switch(s, _)) => {
                    leaves[usize::from(s)].host_rate.bits_per_s += rate;
                    has_hosts[usize::from(s)] = true;
                }
                (End::Switch(s, _), End::Switch(..)) => leaves[usize::from(s)].uplink_rate.bits_per_s += rate,
                _ => {}
            }
        }
        let with_hosts = leaves.into_iter().zip(has_hosts).filter_map(|(leaf, hosts)| hosts.then_some(leaf));
        with_hosts.max_by(|a, b| a.ratio().total_cmp(&b.ratio())).unwrap_or_default()
    }
}

impl Fabric {
    /// Per tier that has another above it: the name its switches share, and the worst of them (rate from below over
    /// rate upwards). In the lowest tier, links to switches of the same tier count as upwards.
    pub fn oversubscriptions(&self) -> Vec<(String, Oversubscription)> {
        let tiers = self.tiers();
        let mut rates = vec![Oversubscription::default(); self.switches.len()];
        for link in &self.links {
            let End::Switch(s, _) = link.from else { continue };
            let (own, to) = (
                tiers[usize::from(s)],
                match link.to {
                    End::Host(_) => None,
                    End::Switch(to, _) => Some(tiers[usize::from(to)]),
                },
            );
            let r = &mut rates[usize::from(s)];
            match to {
                Some(to) if to > own || (to == own && own == 0) => &mut r.uplink_rate,
                _ => &mut r.host_rate,
            }
            .bits_per_s += link.timing.rate().bits_per_s;
        }
        let tier = |t: u16| {
            let of_tier = tiers.iter().zip(&rates).filter(|(own, _)| **own == t).map(|(_, r)| *r);
            let up = of_tier.filter(|r| r.uplink_rate.bits_per_s > 0);
            up.max_by(|a, b| a.ratio().total_cmp(&b.ratio())).map(|worst| (self.tier_name(t, &tiers), worst))
        };
        (0..tiers.iter().copied().max().map_or(0, |t| t.saturating_add(1))).filter_map(tier).collect()
    }

    /// What the switches of a tier are called: the name of the first without its number.
    pub fn tier_name(&self, tier: u16, tiers: &[u16]) -> String {
        let first = tiers.iter().position(|t| *t == tier).and_then(|s| self.switches.get(s));
        let name = first.map_or("?", |s| s.name.trim_end_matches(|c: char| c.is_ascii_digit()));
        if name.is_empty() { format!("tier {tier}") } else { name.to_owned() }
    }

    /// Most switches on a way that a frame can take between two endpoints, following the first of equal-cost ports;
    /// over one endpoint per switch. 0 when the routes form a loop.
    pub fn hops_max(&self) -> u32 {
        let Ok(wiring) = Wiring::new(self) else { return 0 };
        let homes = self.homes();
        let mut ends: Vec<(u16, u32)> = homes.iter().zip(0..).map(|(s, e)| (*s, e)).collect();
        ends.sort_unstable();
        ends.dedup_by_key(|e| e.0);
        let hops = |from: u16, to: u32| {
            let (mut s, mut n) = (from, 1);
            while s != homes[to as usize] && n <= u32::from(crate::limits::HOPS_MAX) {
                let port = self.routes.get(usize::from(s))?.ports_to.get(to as usize)?.first()?;
                let link = wiring.from_switch.get(usize::from(s))?.get(usize::from(*port))?;
                let End::Switch(next, _) = self.links.get(*link as usize)?.to else { return None };
                (s, n) = (next, n + 1);
            }
            (n <= u32::from(crate::limits::HOPS_MAX)).then_some(n)
        };
        let mut most = 0;
        for (from, _) in &ends {
            for (_, to) in &ends {
                let Some(n) = hops(*from, *to) else { return 0 };
                most = most.max(n);
            }
        }
        most
    }

    /// Rate of a cable (links 2k and 2k + 1): that of a link out of a switch, whose clock is the reference.
    pub fn nominal_rate(&self, cable: u32) -> Rate {
        let ends = self.links.iter().skip(2 * cable as usize).take(2);
        ends.filter(|l| matches!(l.from, End::Switch(..))).map(|l| l.timing.rate()).max().unwrap_or_default()
    }

    /// A port by name: "leaf0 Ethernet3".
    pub fn port_name(&self, switch: u16, port: u16) -> String {
        let config = self.switches.get(usize::from(switch));
        match config.and_then(|s| Some((&s.name, s.ports.get(usize::from(port))?))) {
            Some((name, port)) => format!("{name} {}", port.name),
            None => End::Switch(switch, port).to_string(),
        }
    }
}

/// Why a fabric cannot be built or used. Each message names the place and the fix.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TopologyError {
    /// No endpoint at all.
    #[error("{shape}: 0 hosts; give it at least one")]
    NoHosts {
        /// Shape of the fabric.
        shape: String,
    },
    /// More endpoints than a run may have.
    #[error("{shape}: {hosts} hosts; at most {max}", max = crate::limits::PORTS_MAX)]
    TooManyHosts {
        /// Shape of the fabric.
        shape: String,
        /// Endpoints asked for.
        hosts: usize,
    },
    /// A tier or bundle of size zero.
    #[error("{shape}: {what} is 0; set it to at least 1")]
    Zero {
        /// Shape of the fabric.
        shape: String,
        /// The parameter.
        what: &'static str,
    },
    /// A leaf would have no host.
    #[error("{shape}: {hosts} hosts fill only {used} of {leaves} leaves; set leaves = {used}")]
    EmptyLeaf {
        /// Shape of the fabric.
        shape: String,
        /// Endpoints.
        hosts: usize,
        /// Leaves asked for.
        leaves: usize,
        /// Leaves that have hosts.
        used: usize,
    },
    /// Rails that do not divide the leaves or the endpoints.
    #[error("{shape}: {leaves} leaves and {hosts} hosts for {rails} rails; make both multiples of rails")]
    Rails {
        /// Shape of the fabric.
        shape: String,
        /// Rails.
        rails: usize,
        /// Leaves asked for.
        leaves: usize,
        /// Endpoints.
        hosts: usize,
    },
    /// Core switches that do not divide into planes.
    #[error("{shape}: cores = {cores} must be a multiple of aggs = {aggs} (a plane per aggregation switch)")]
    Planes {
        /// Shape of the fabric.
        shape: String,
        /// Core switches.
        cores: usize,
        /// Aggregation switches of a pod.
        aggs: usize,
    },
    /// A ring of two is a cable.
    #[error("ring of {switches}: a ring has at least 3 switches")]
    SmallRing {
        /// Switches asked for.
        switches: usize,
    },
    /// A route over a cable that is not there.
    #[error("route at {from}: no cable to {to}; add one")]
    NoCable {
        /// The switch with the route.
        from: String,
        /// The next hop.
        to: String,
    },
    /// A switch with more ports than supported.
    #[error("{switch}: {ports} ports, at most {max}; use {fix}", max = crate::limits::SWITCH_PORTS_MAX)]
    TooManyPorts {
        /// Switch name.
        switch: String,
        /// Ports it would need.
        ports: usize,
        /// What to change.
        fix: &'static str,
    },
    /// More switches than can be numbered.
    #[error("{shape}: {switches} switches; at most 65535")]
    TooManySwitches {
        /// Shape of the fabric.
        shape: String,
        /// Switches asked for.
        switches: usize,
    },
    /// A link of rate zero.
    #[error("{from} -> {to}: rate 0; set the rate of this port")]
    NoRate {
        /// Where the link begins.
        from: End,
        /// Where it ends.
        to: End,
    },
    /// No path.
    #[error("endpoint {endpoint} cannot be reached from {from}; add the missing cable")]
    Unreachable {
        /// The endpoint.
        endpoint: u32,
        /// Where the path ends.
        from: String,
    },
    /// A port with no link, or with two.
    #[error("{end}: {links} links leave here; every end of a cable has exactly one")]
    Miswired {
        /// The place.
        end: End,
        /// Links found.
        links: usize,
    },
    /// An endpoint that is not part of the fabric.
    #[error("flow {src} -> {dst}: the fabric has endpoints 0 to {last}")]
    NoSuchEndpoint {
        /// Sender.
        src: u32,
        /// Receiver.
        dst: u32,
        /// Highest endpoint.
        last: u32,
    },
    /// A frame would circle.
    #[error("flow {src} -> {dst}: the routes form a loop; correct them")]
    Loop {
        /// Sender.
        src: u32,
        /// Receiver.
        dst: u32,
    },
    /// A flow has no path of its own when every frame is sprayed.
    #[error(
        "{switch}: sprays frames, so a flow has no path to collide on; use balance = \"ecmp\" or \"pinned\""
    )]
    Sprayed {
        /// Switch name.
        switch: String,
    },
    /// A switch that cannot be built.
    #[error(transparent)]
    Switch(#[from] ConfigError),
}

#[cfg(test)]
pub(crate) mod testing;
