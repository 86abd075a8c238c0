//! What an embedded switch is told: plain types, filled in by the profile.

use serde::Serialize;

use crate::limits::PRIORITIES;
use crate::units::{Bytes, LinkTiming, Span};

/// A shared-buffer switch. Field names follow SAI/SONiC where one exists.
#[derive(Clone, Debug)]
pub struct SwitchConfig {
    /// Name in reports.
    pub name: String,
    /// One entry per port.
    pub ports: Vec<SwitchPortConfig>,
    /// Packet buffer, all of it: reserved, headroom and shared.
    pub buffer: Bytes,
    /// Cell size: a frame of n bytes (with FCS) holds ceil(n / cell) cells.
    pub cell: u16,
    /// Per priority: what its priority groups and queues may use.
    pub priorities: [PriorityConfig; PRIORITIES],
    /// DSCP to priority (traffic class, priority group and queue are one number, as in SONiC's AZURE maps).
    pub dscp_map: [u8; 64],
    /// How equal-cost paths are chosen.
    pub balance: LoadBalance,
    /// Seed of the ECMP hash, one per switch against polarisation.
    pub hash_seed: u64,
    /// Quanta of the XOFF frames this switch sends; refreshed at half the pause.
    pub pause_quanta: u16,
    /// Where WRED looks at the queue.
    pub mark_at: MarkAt,
    /// Seed of the run, for WRED's coin.
    pub seed: u64,
}

/// One port of a switch.
#[derive(Clone, Debug)]
pub struct SwitchPortConfig {
    /// Name in reports, the switch's own language ("Ethernet0").
    pub name: String,
    /// The directed link that leaves by this port.
    pub egress: LinkTiming,
    /// MAC address, source of the PFC frames this port sends.
    pub mac: [u8; 6],
}

/// Buffer and scheduling of one priority, on every port.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PriorityConfig {
    /// PFC is on: XOFF at the threshold, headroom behind it. Otherwise frames over the threshold are dropped.
    pub lossless: bool,
    /// alpha = numerator / denominator of the dynamic threshold `alpha x (shared size - shared used)`.
    pub alpha: (u32, u32),
    /// Reserved (minimum) bytes of each priority group.
    pub reserved: Bytes,
    /// Headroom of each priority group (`xoff` in SONiC); counted for lossless priorities only.
    pub headroom: Bytes,
    /// XON when shared use is this far below the threshold.
    pub xon_offset: Bytes,
    /// Lossy priorities: limit of each egress queue as alpha over the free shared buffer; `None` = the group's own.
    pub egress_alpha: Option<(u32, u32)>,
    /// ECN marking (or dropping of frames that are not ECN capable).
    pub wred: Option<Wred>,
    /// Scheduling weight; 0 = strict, before all weighted ones (higher priority first).
    pub weight: u16,
}

/// WRED: 0 below kmin, a ramp to pmax at kmax, certain above. On the instantaneous egress queue, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Wred {
    /// Nothing is marked below.
    pub kmin: Bytes,
    /// Everything is marked above.
    pub kmax: Bytes,
    /// Probability at kmax, 0..=1.
    pub pmax: f64,
}

/// Where the queue is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkAt {
    /// When a frame joins the queue.
    Enqueue,
    /// When a frame leaves, on what is left behind it (Broadcom, HPCC).
    Dequeue,
}

/// Choice among equal-cost ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadBalance {
    /// Hash of addresses, protocol and UDP ports.
    Ecmp,
    /// By ingress port number: collision-free when every host sends one flow.
    Pinned,
    /// Round-robin per frame (needs a receiver that tolerates reordering).
    Spray,
}

/// Fixed delay inside a switch before a frame is admitted, and of FEC on each link; part of a link's propagation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FixedDelays {
    /// Ingress pipeline of the switch.
    pub pipeline: Span,
    /// FEC decoding at the receiving end.
    pub fec: Span,
}
