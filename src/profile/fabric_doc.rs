//! The tables of the document that speak of the fabric: shapes, balance, and what happens to cables.

use serde::{Deserialize, Serialize};

use super::doc::{absent, table};
use super::quantity::{BitRate, Cable, Dur, Size};

table! {
    /// `[fabric]`: more than one switch.
    FabricDoc {
        /// `"single"`, `"leaf-spine"`, `"rail-optimised"`, `"three-tier"`, `"ring"` or `"graph"`.
        kind: Option<FabricKind>,
        /// three-tier: pods.
        pods: Option<u32>,
        /// Leaf switches; three-tier: of one pod; ring: all switches.
        leaves: Option<u32>,
        /// three-tier: aggregation switches of one pod.
        aggs: Option<u32>,
        /// three-tier: core switches, a multiple of `aggs`.
        cores: Option<u32>,
        /// Spine switches.
        spines: Option<u32>,
        /// rail-optimised: tester ports of one machine, each on a leaf of its own.
        rails: Option<u32>,
        /// Tester ports on each leaf.
        hosts_per_leaf: Option<u32>,
        /// Rate of a tester port.
        host_rate: Option<BitRate>,
        /// Rate of a link from a leaf upwards; ring, graph: between switches.
        uplink_rate: Option<BitRate>,
        /// Parallel links between a leaf and a switch above it; ring: between neighbours.
        uplinks: Option<u32>,
        /// Cable between leaf and spine, leaf and aggregation, or neighbours.
        cable: Option<Cable>,
        /// Headroom of both ends of it; left out: that of `[switch]`.
        xoff_headroom: Option<Size>,
        /// three-tier: rate of a link between aggregation and core.
        core_rate: Option<BitRate>,
        /// three-tier: parallel links between an aggregation switch and a core switch of its plane.
        core_uplinks: Option<u32>,
        /// three-tier: cable between aggregation and core.
        core_cable: Option<Cable>,
        /// three-tier: headroom of both ends of it; left out: `xoff_headroom`.
        core_xoff_headroom: Option<Size>,
        /// ring: which way round.
        direction: Option<DirectionDoc>,
        /// How long after a link went down or came up all switches use other routes.
        reconvergence: Option<Dur>,
        /// graph: `[[fabric.switch]]`
        switch: Vec<GraphSwitchDoc>,
        /// graph: `[[fabric.link]]`
        link: Vec<GraphLinkDoc>,
        /// graph: `[[fabric.route]]`
        route: Vec<GraphRouteDoc>,
    }
}

/// `kind = ...` of the fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FabricKind {
    /// One switch.
    Single,
    /// Two tiers.
    LeafSpine,
    /// Two tiers, every port of a machine on a leaf of its own.
    RailOptimised,
    /// Pods of leaves and aggregation switches under a core.
    ThreeTier,
    /// A circle of switches.
    Ring,
    /// Switch by switch and link by link.
    Graph,
}

/// `direction = ...` of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectionDoc {
    /// The shorter way, both where they are equal.
    Shortest,
    /// Always to the next higher number.
    Clockwise,
}

table! {
    /// `[[fabric.switch]]`: a switch of a graph.
    GraphSwitchDoc {
        /// Name, for links, routes and reports.
        name: Option<String>,
        /// Tester ports on it.
        hosts: Option<u32>,
    }
}

table! {
    /// `[[fabric.link]]`: a cable of a graph.
    GraphLinkDoc {
        /// One switch.
        from: Option<String>,
        /// The other.
        to: Option<String>,
        /// Rate; left out: `uplink_rate`.
        rate: Option<BitRate>,
        /// Cable; left out: that of `[fabric]`.
        cable: Option<Cable>,
        /// Headroom of both ends; left out: that of `[fabric]`.
        xoff_headroom: Option<Size>,
        /// Cables like this one.
        count: Option<u32>,
    }
}

table! {
    /// `[[fabric.route]]`: at one switch, to the tester ports of another, over the links to these.
    GraphRouteDoc {
        /// The switch the route is configured on.
        at: Option<String>,
        /// The switch whose tester ports it leads to.
        to: Option<String>,
        /// Next hops, equal in cost.
        via: Vec<String>,
    }
}

/// `balance = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BalanceDoc {
    /// By hash.
    Ecmp,
    /// By ingress port.
    Pinned,
    /// Round-robin per frame.
    Spray,
    /// A new path at random after each silence.
    Flowlet,
    /// The least loaded path, after each silence or for every frame.
    Adaptive,
}

/// `hash = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashDoc {
    /// Addresses, protocol, UDP ports.
    #[serde(rename = "5-tuple")]
    FiveTuple,
    /// The same and the destination queue pair.
    DestQp,
}

/// `hash_seeds = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeedsDoc {
    /// Each switch has its own.
    PerSwitch,
    /// All switches have one: what a lower tier has sorted, a higher one cannot spread.
    Same,
}

/// `deadlock = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeadlockDoc {
    /// The run ends with the cycle named.
    End,
    /// It is reported, and the run goes on.
    GoOn,
}

table! {
    /// `link = { cable, state }`, `{ cable, rate }`, `{ cable, ber }` or `{ cable, flap }`
    LinkDoc {
        /// `"leaf0 spine1"`, with `#2` for the second cable between them, or `"port 3"`.
        cable: Option<String>,
        /// `"down"` or `"up"`.
        state: Option<StateDoc>,
        /// A lower rate; the configured one ends it.
        rate: Option<BitRate>,
        /// Bit error rate of both directions; 0 ends it.
        ber: Option<f64>,
        /// Goes down and comes up again and again.
        flap: Option<FlapDoc>,
    }
}

/// `state = ...` of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateDoc {
    /// No light.
    Down,
    /// Back.
    Up,
}

table! {
    /// `flap = { period, down, count }`
    FlapDoc {
        /// From one fall to the next.
        period: Option<Dur>,
        /// How long it stays down each time.
        down: Option<Dur>,
        /// How often it falls.
        count: Option<u32>,
    }
}
