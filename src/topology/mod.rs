//! Who is wired to what: endpoints (tester ports), switches, cables, and the routes that follow.

pub use crate::switch::Routes;
use crate::switch::config::SwitchConfig;
use crate::units::{LinkTiming, PortId};

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// A tester port.
    Host(PortId),
    /// Port of a switch: (switch, port).
    Switch(u16, u16),
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
