//! The tables of the document that speak of the switch: buffer, maps, queues, marking, and the links of its ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::doc::{Fec, absent, table};
use super::fabric_doc::{BalanceDoc, HashDoc, SeedsDoc};
use super::quantity::{Alpha, BitRate, Cable, Dur, Size};
use super::values::{Files, WatchdogDoc, WredDoc};
use crate::switch::config::{Color, FlowControl, MarkAt, Slices};

table! {
    /// `[switch]`: the embedded switch.
    SwitchDoc {
        /// Name in reports.
        name: Option<String>,
        /// A named set of sizes; see [`super::preset`].
        preset: Option<String>,
        /// A SONiC config_db.json, or the buffer and QoS renderings as a list; see [`super::sonic`].
        config: Option<Files>,
        /// The platform's pg_profile_lookup.ini, for headroom that `config` leaves to be looked up.
        pg_profile_lookup: Option<String>,
        /// Cell size in bytes.
        cell: Option<u16>,
        /// Packet buffer, all of it.
        buffer: Option<Size>,
        /// `"whole"`, `"crosspoints"` (Tomahawk 1 and 2) or `"itms"` (Tomahawk 3 to 5): memories that share nothing.
        slices: Option<SlicesDoc>,
        /// Dynamic threshold of lossless priority groups...
        alpha: Option<Alpha>,
        /// ... as SONiC's exponent.
        dynamic_th: Option<i32>,
        /// Static limit of lossless priority groups, instead of alpha.
        static_th: Option<Size>,
        /// Static limit of lossy priority groups, instead of lossy_alpha.
        lossy_static_th: Option<Size>,
        /// A shared pool of this size for lossy priorities; left out: one pool for all.
        lossy_pool: Option<Size>,
        /// Dynamic threshold of lossy priority groups.
        lossy_alpha: Option<Alpha>,
        /// Limit of each lossy egress queue; left out: the group's own limit alone.
        lossy_egress_alpha: Option<Alpha>,
        /// Reserved bytes of each priority group.
        reserved: Option<Size>,
        /// Headroom per port and lossless priority.
        xoff_headroom: Option<Size>,
        /// Headroom of all ports together (a shared headroom pool); left out: each group has all of its own.
        shared_headroom: Option<Size>,
        /// XON this far below the threshold.
        xon_offset: Option<Size>,
        /// XON also at no more than this, whatever the threshold.
        xon: Option<Size>,
        /// `"off"` or `{ kmin, kmax, pmax, ecn, yellow, red }`, of every queue.
        wred: Option<WredDoc>,
        /// Where WRED looks at the queue.
        mark_at: Option<MarkDoc>,
        /// Choice among equal-cost ports.
        balance: Option<BalanceDoc>,
        /// A frame goes on as soon as its header is there, unless a port is faster than the one it came in by.
        cut_through: Option<bool>,
        /// `"pfc"` or `"global"` (802.3 annex 31B: the whole link stops).
        flow_control: Option<FlowControlDoc>,
        /// `"off"` or `{ detect, restore, action }`.
        pfc_watchdog: Option<WatchdogDoc>,
        /// Largest rates of queues and of the port: `{ "3" = "50G", port = "80G" }`.
        shaper: BTreeMap<String, BitRate>,
        /// Bytes a shaper lets go at once after a silence.
        shaper_burst: Option<Size>,
        /// flowlet, adaptive: silence after which a flow may take another path; adaptive 0: any frame may.
        flowlet_gap: Option<Dur>,
        /// What the ECMP hash reads.
        hash: Option<HashDoc>,
        /// A seed per switch, or one for all.
        hash_seeds: Option<SeedsDoc>,
        /// Ingress pipeline delay.
        pipeline: Option<Dur>,
        /// Quanta of the XOFF frames the switch sends.
        pause_quanta: Option<u16>,
        /// Scheduling weight of priorities 0..=7; 0 = strict.
        weights: Option<[u16; 8]>,
        /// Entries that differ from SONiC's AZURE map: `{ "26" = 3 }`, DSCP to priority (traffic class).
        dscp_map: BTreeMap<String, u8>,
        /// Priority of PCP 0..=7; then frames with a VLAN tag go by it, and others by their DSCP.
        pcp_map: Option<[u8; 8]>,
        /// Colours that WRED goes by, of DSCPs that are not green: `{ "10" = "yellow" }`.
        dscp_color: BTreeMap<String, ColorDoc>,
        /// Priority group of priorities 0..=7 (SAI: TC_TO_PRIORITY_GROUP).
        tc_to_pg: Option<[u8; 8]>,
        /// Queue of priorities 0..=7 (SAI: TC_TO_QUEUE).
        tc_to_queue: Option<[u8; 8]>,
        /// `[switch.queue.N]`: what one queue has of its own.
        queue: BTreeMap<String, QueueDoc>,
        /// Egress pools: `{ lossy = "20 MB" }`.
        egress_pools: BTreeMap<String, Size>,
        /// Ports of a single switch; of a fabric, what all links share.
        ports: Option<PortsDoc>,
    }
}

table! {
    /// `ports = { count, rate, cable, fec, clock_ppm, ranks_per_port }`
    PortsDoc {
        /// Ports of the switch.
        count: Option<u32>,
        /// Rate of each.
        rate: Option<BitRate>,
        /// Cable to the tester.
        cable: Option<Cable>,
        /// FEC of each link.
        fec: Option<Fec>,
        /// By how much the tester port's clock is off, in millionths (802.3 allows 100 either way).
        clock_ppm: Option<i64>,
        /// Ranks behind each port.
        ranks_per_port: Option<u32>,
        /// Span between a PFC frame's arrival at a tester port and the port obeying it.
        pfc_response: Option<Dur>,
    }
}

/// `mark_at = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkDoc {
    /// When a frame joins.
    Enqueue,
    /// When a frame leaves.
    Dequeue,
}

impl From<MarkDoc> for MarkAt {
    fn from(m: MarkDoc) -> MarkAt {
        match m {
            MarkDoc::Enqueue => MarkAt::Enqueue,
            MarkDoc::Dequeue => MarkAt::Dequeue,
        }
    }
}

/// `flow_control = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowControlDoc {
    /// Priorities.
    Pfc,
    /// The whole link.
    Global,
}

impl From<FlowControlDoc> for FlowControl {
    fn from(f: FlowControlDoc) -> FlowControl {
        match f {
            FlowControlDoc::Pfc => FlowControl::Pfc,
            FlowControlDoc::Global => FlowControl::Global,
        }
    }
}

table! {
    /// `[switch.queue.N]`: what one queue has of its own.
    QueueDoc {
        /// `"off"` or its curves.
        wred: Option<WredDoc>,
        /// Name of its egress pool.
        egress_pool: Option<String>,
        /// Dynamic limit of what it holds.
        egress_alpha: Option<Alpha>,
        /// Static limit of what it holds, instead.
        egress_static_th: Option<Size>,
        /// What it has in its egress pool for itself.
        egress_reserved: Option<Size>,
    }
}

/// `slices = ...`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlicesDoc {
    /// One memory.
    Whole,
    /// Four.
    Crosspoints,
    /// Two.
    Itms,
}

impl From<SlicesDoc> for Slices {
    fn from(s: SlicesDoc) -> Slices {
        match s {
            SlicesDoc::Whole => Slices::Whole,
            SlicesDoc::Crosspoints => Slices::Crosspoints,
            SlicesDoc::Itms => Slices::Itms,
        }
    }
}

/// A colour of `dscp_color`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColorDoc {
    /// What nobody coloured.
    Green,
    /// Beyond the committed rate.
    Yellow,
    /// Beyond the excess rate too.
    Red,
}

impl From<ColorDoc> for Color {
    fn from(c: ColorDoc) -> Color {
        match c {
            ColorDoc::Green => Color::Green,
            ColorDoc::Yellow => Color::Yellow,
            ColorDoc::Red => Color::Red,
        }
    }
}
