//! The part of report.json that speaks of the way between switches: how the load was spread, what links lost, which
//! pause led to which, who suffered for others, and deadlocks.

use serde::{Deserialize, Serialize};

/// The fabric during the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fabric {
    /// Its shape.
    pub shape: String,
    /// Spread of the bytes sent over the links upwards, tier by tier.
    pub paths: Vec<Paths>,
    /// Frames lost in the network, by cause; causes that did not occur are left out.
    pub drops: Vec<Drops>,
    /// What happened to cables, in time order (the first 256).
    pub events: Vec<Event>,
    /// Links that something happened to.
    pub links: Vec<Link>,
    /// Queues that pauses started from: congested themselves, or held up by their receiver.
    pub pause_roots: Vec<PauseRoot>,
    /// Which queue made which sender pause, most frequent first (the first 256).
    pub pause_tree: Vec<PauseEdge>,
    /// XOFFs that are not in `pause_tree`.
    pub pause_tree_left_out: u64,
    /// Flows that waited for pauses though no queue on their way was where pauses started; null when paths are not fixed.
    pub victims: Option<Victims>,
    /// Switch ports that their receiver held up without a break for longer than four maximal pauses.
    pub storms: Vec<Storm>,
    /// Deadlocks.
    pub deadlocks: Vec<Deadlock>,
}

/// One tier's links upwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Paths {
    /// Tier they leave.
    pub from: String,
    /// Tier they lead to.
    pub to: String,
    /// Links.
    pub links: u32,
    /// Links that carried data.
    pub used: u32,
    /// (sum x)^2 / sum x^2 over the bytes x of each link.
    pub effective: f64,
}

/// Lost frames of one cause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drops {
    /// `threshold`, `headroom`, `buffer`, `wred`, `no-route`, `malformed`, `loop`, `watchdog`, `link-down`, `bit-error`.
    pub cause: String,
    /// Frames.
    pub frames: u64,
    /// Those of lossless priorities among them.
    pub lossless: u64,
}

/// Something that happened to a cable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// When.
    pub at_ns: f64,
    /// "leaf0 - spine1".
    pub cable: String,
    /// What, in words.
    pub what: String,
}

/// A direction of a cable that something happened to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// "leaf0 Ethernet8 -> spine1 Ethernet0".
    pub link: String,
    /// Frames sent while it was down.
    pub blackholed: u64,
    /// Frames on it when it went down.
    pub in_flight: u64,
    /// Frames with a wrong bit.
    pub bit_errors: u64,
}

/// A queue that pauses started from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PauseRoot {
    /// "leaf3 Ethernet0".
    pub queue: String,
    /// Its priority.
    pub priority: u8,
    /// `congested`: more came in than its link carries. `receiver`: the tester port behind it sent pauses.
    pub why: String,
    /// XOFFs sent because of it, by its own switch.
    pub xoffs: u64,
    /// Tester ports that it made pause, directly or through other switches.
    pub ports: u32,
    /// Switches its pauses went through, its own included.
    pub depth: u32,
}

/// A queue and one of those it made pause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PauseEdge {
    /// The queue with too much in it.
    pub queue: String,
    /// The sender that its switch paused: a tester port or another switch's queue.
    pub paused: String,
    /// Priority of both.
    pub priority: u8,
    /// How often.
    pub xoffs: u64,
    /// The first time.
    pub first_ns: f64,
    /// The queue was not paused itself: pauses start here.
    pub root: bool,
}

/// Flows that suffered for others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Victims {
    /// Flows looked at (queue pairs and streams; the first 65,536).
    pub flows: u32,
    /// Victims among them.
    pub victims: u32,
    /// Those with the longest pauses on their way (the first 16).
    pub worst: Vec<Victim>,
}

/// A flow that suffered for others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Victim {
    /// Sending rank.
    pub from: u32,
    /// Receiving rank.
    pub to: u32,
    /// The queue on its way that was paused longest.
    pub paused_at: String,
    /// How long, over the whole measurement.
    pub paused_ns: f64,
}

/// A switch port held up by its receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Storm {
    /// The tester port that paused.
    pub port: String,
    /// Priority.
    pub priority: u8,
    /// Longest pause.
    pub longest_ns: f64,
    /// All pauses.
    pub paused_ns: f64,
}

/// Queues that wait for each other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deadlock {
    /// When it was certain.
    pub confirmed_ns: f64,
    /// Priority.
    pub priority: u8,
    /// Queues in a circle: each is paused by the switch of the next one.
    pub cycle: Vec<String>,
    /// Queues that cannot move, those of the circle and those behind it.
    pub queues: u32,
    /// Frames in them.
    pub frames: u64,
}
