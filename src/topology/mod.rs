//! Who is wired to what: endpoints (tester ports), switches, cables, and the routes that follow.

mod build;
mod paths;

use std::fmt;

pub use self::build::{
    Graph, GraphCable, GraphEnd, LeafSpine, SingleSwitch, graph, leaf_spine, single_switch,
};
pub use self::paths::{
    Bound, Collisions, Flow, HashedFlow, Wiring, collisions, fabric_bound, link_bytes, paths,
};
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
