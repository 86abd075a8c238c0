//! The parts of report.json that speak of ports and switches.

use serde::{Deserialize, Serialize};

use crate::measure::distribution::Percentiles;

/// A tester port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Machine that owns it.
    pub host: String,
    /// The switch port at the other end, in the switch's own language.
    pub dut_port: Option<String>,
    /// Rate.
    pub rate_gbps: f64,
    /// Frames sent, all kinds.
    pub tx_frames: u64,
    /// Bytes sent, FCS counted.
    pub tx_bytes: u64,
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received, FCS counted.
    pub rx_bytes: u64,
    /// The busier direction, layer 1, over the time in which an iteration was under way.
    pub utilisation: Option<f64>,
    /// Priorities that may be paused, or were.
    pub pfc: Vec<PortPfc>,
    /// PFC frames sent on purpose that nobody should obey; null where none are generated.
    pub pfc_malformed_tx: Option<u64>,
    /// Frames received that contradict themselves, PFC frames that must not be obeyed among them.
    pub rx_malformed: u64,
    /// The receive buffer; null where frames are taken as they arrive.
    pub receive: Option<Receive>,
}

/// The receive buffer of a tester port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Receive {
    /// What it holds.
    pub buffer_bytes: u64,
    /// Rate at which frames are taken out, FCS counted.
    pub drain_gbps: f64,
    /// Most it held.
    pub occupied_bytes_max: u64,
    /// Frames that did not fit.
    pub dropped_frames: u64,
}

/// PFC of one priority on one tester port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortPfc {
    /// Priority.
    pub priority: u8,
    /// PFC frames received that began a pause.
    pub xoff_rx: u64,
    /// PFC frames received that prolonged one.
    pub refresh_rx: u64,
    /// PFC frames received that ended one.
    pub xon_rx: u64,
    /// Sent likewise.
    pub xoff_tx: u64,
    /// Sent likewise.
    pub refresh_tx: u64,
    /// Sent likewise.
    pub xon_tx: u64,
    /// Union of the pauses.
    pub paused_ns: Option<f64>,
    /// Longest pause.
    pub longest_pause_ns: Option<f64>,
    /// First pause, from the release of the first measured iteration.
    pub first_xoff_ns: Option<f64>,
    /// From the arrival of a PFC frame to the last bit of the last frame of the priority, slowest; null when nothing was
    /// leaving at any pause.
    pub response_ns_max: Option<f64>,
    /// The same, quickest.
    pub response_ns_min: Option<f64>,
    /// Response time the profile asks for; the frame in flight then still ends.
    pub response_ns_asked: Option<f64>,
    /// How pauses are known: `frames`, `counters`, `unknown`.
    pub seen: String,
}

/// A switch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Switch {
    /// Name.
    pub name: String,
    /// `model`, `dut` (its counters) or `inferred`.
    pub source: String,
    /// Frames dropped.
    pub drops: Option<u64>,
    /// Frames of lossless priorities dropped.
    pub drops_lossless: Option<u64>,
    /// Frames marked CE.
    pub ce_marked: Option<u64>,
    /// Most bytes in the whole buffer.
    pub buffer_bytes_max: Option<u64>,
    /// Most bytes in the shared pool.
    pub shared_bytes_max: Option<u64>,
    /// Most bytes in the headroom of one priority group.
    pub headroom_bytes_max: Option<u64>,
    /// Most shared bytes of one priority group.
    pub ingress_bytes_max: Option<u64>,
    /// What these are measured against.
    pub limits: Option<Limits>,
    /// Ports that sent or received PFC.
    pub ports: Vec<SwitchPort>,
    /// Queues that the PFC watchdog found stuck, and what it dropped beside them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub watchdog: Vec<Watchdog>,
    /// Queues that carried frames.
    pub queues: Vec<Queue>,
}

/// Sizes a switch is configured with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// The whole packet buffer.
    pub buffer_bytes: u64,
    /// The shared pool: the buffer less reserved cells and headroom.
    pub shared_bytes: u64,
    /// Memories that share nothing and have equal parts of all that; left out where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slices: Option<u32>,
    /// What each ingress pool shares; left out where there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
    /// Headroom of one lossless priority group, the largest, in whole cells.
    pub headroom_bytes: Option<u64>,
    /// Use of one priority group at which XOFF is expected, alpha S / (1 + n alpha); null when it cannot be reached.
    pub xoff_bytes: Option<u64>,
}

/// An ingress pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// Name.
    pub name: String,
    /// What its priority groups share.
    pub shared_bytes: u64,
    /// Frames of the run belonged to it.
    pub used: bool,
}

/// PFC a switch port sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SwitchPort {
    /// Name.
    pub port: String,
    /// The other end is a switch, not a tester port.
    pub fabric: bool,
    /// Per priority.
    pub pfc: Vec<SentPfc>,
}

/// PFC frames sent for one priority.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SentPfc {
    /// Priority.
    pub priority: u8,
    /// Began a pause.
    pub xoff_tx: u64,
    /// Prolonged one.
    pub refresh_tx: u64,
    /// Ended one.
    pub xon_tx: u64,
}

/// What the PFC watchdog did to one queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watchdog {
    /// Port name.
    pub port: String,
    /// Priority.
    pub priority: u8,
    /// Times the queue was found stuck.
    pub storms: u64,
    /// Times it was restored.
    pub restored: u64,
    /// Frames dropped that were bound for the queue.
    pub tx_drops: u64,
    /// Frames dropped that came in by the same port and priority.
    pub rx_drops: u64,
}

/// An egress queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// Port name.
    pub port: String,
    /// Priority.
    pub priority: u8,
    /// Depth right after each frame joined.
    pub depth_bytes: Percentiles,
    /// Frames sent.
    pub tx_frames: u64,
    /// Frames marked CE.
    pub ce_marked: u64,
    /// Frames dropped that were bound here.
    pub drops: u64,
}
