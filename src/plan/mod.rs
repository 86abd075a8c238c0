//! The validated plan: everything a run needs as plain types, no TOML. `profile` makes it, `run` executes it.

pub mod advice;
pub mod device;
pub mod flows;
pub mod headroom;
pub mod hpcc;
mod hpcc_ideal;
pub mod lab;
pub mod links;
pub mod memory;
pub mod path;
pub mod pools;
pub mod predict;
pub mod shards;
mod steer;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::frame::fault::Rule;
use crate::host::config::{HostConfig, RankAddr};
use crate::topology::{Fabric, TierPaths};
use crate::transport::config::ClassConfig;
use crate::units::{Bytes, PortId, Rate, Span, Time};
use crate::workload::config::{Action, TimedAction, WorkloadConfig};

pub use self::hpcc::{Hpcc, HpccFrames};
pub use self::links::{LinkChange, LinkEvent, LinkPlan};

/// Where the frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Real DPDK ports.
    Ports,
    /// DPDK rings of mbufs and the embedded switch.
    Rings,
    /// Discrete events, no DPDK.
    Virtual,
}

/// How a rings run relates to real time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// Workers never pass what their neighbours have published; stalls stretch the dilation, never the physics.
    Elastic {
        /// At most 1/k of real time; `None` = as fast as the machine allows, but never faster than real time.
        dilation: Option<f64>,
    },
    /// Time is TSC / dilation whatever the workers manage: the self-test of the machine.
    Free {
        /// The dilation that is kept.
        dilation: f64,
    },
}

/// Whose arithmetic a run follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Compat {
    /// Ours: picoseconds, the overhead of real Ethernet, CNPs as frames, quanta.
    #[default]
    Own,
    /// That of the HPCC ns-3 simulator, for comparing point by point.
    Hpcc(Hpcc),
}

/// A complete, validated run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the profile.
    pub name: String,
    /// The question the run answers.
    pub question: Option<String>,
    /// The `# Expect` sentence of the profile, if any.
    pub expectation: Option<String>,
    /// Seed of every random stream.
    pub seed: u64,
    /// Iterations thrown away.
    pub warmup: u32,
    /// Iterations measured.
    pub repeats: u32,
    /// Silence between iterations.
    pub gap: Span,
    /// Nominal end of the run, whatever happens.
    pub limit: Span,
    /// Whose arithmetic the run follows.
    pub compat: Compat,
    /// Clock of a rings run.
    pub clock: Clock,
    /// Mode the profile names, used when `--on` does not.
    pub mode: Option<Mode>,
    /// Traffic classes.
    pub classes: Arc<[ClassConfig]>,
    /// All ranks by number.
    pub ranks: Arc<[RankAddr]>,
    /// One per tester port; index = port number.
    pub hosts: Vec<HostConfig>,
    /// Closed-loop workloads (shared with the hosts).
    pub workloads: Arc<[WorkloadConfig]>,
    /// Snapshots and other actions that belong to no port, in time order.
    pub actions: Vec<TimedAction>,
    /// Switches, links, routes.
    pub fabric: Fabric,
    /// Faults injected on purpose, in the order of the profile.
    pub faults: Vec<LinkFault>,
    /// What happens to cables, and whether deadlocks are looked for.
    pub links: LinkPlan,
    /// The real side of it: devices, neighbours, permissions.
    pub lab: lab::Lab,
    /// Expectations to judge.
    pub expect: Vec<Expectation>,
    /// Predictions and sizes, computed when the plan was made.
    pub predicted: Prediction,
    /// Warnings found while planning: (code, text).
    pub warnings: Vec<(String, String)>,
    /// The profile with every default written out.
    pub effective: String,
    /// Where the profile came from.
    pub source: Option<PathBuf>,
}

/// A fault rule and the end of the link it acts on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkFault {
    /// Tester port.
    pub port: PortId,
    /// Acts on what the port receives; otherwise on what it sends.
    pub rx: bool,
    /// Which frames, and what happens to them.
    pub rule: Rule,
}

/// One line of `[expect]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Expectation {
    /// Key in the profile: `lossless_drops`, `ideal_ratio_max`, ...
    pub name: String,
    /// Limit as a number (bytes, ratio, count).
    pub limit: f64,
    /// Limit as typed.
    pub typed: String,
}

/// What `check` says before the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Prediction {
    /// Ranks that send to the busiest receiver at once.
    pub fan_in_ranks: f64,
    /// Sender port rates over receiver port rate for the busiest receiver.
    pub fan_in_physical: f64,
    /// Payload bytes of one iteration.
    pub iteration_bytes: Bytes,
    /// Data frames of one iteration.
    pub iteration_frames: u64,
    /// Closed-form completion of one iteration per workload: endpoints at their rates on a non-blocking fabric.
    pub ideal: Vec<Span>,
    /// The same with this topology and placement.
    pub fabric_bound: Vec<Span>,
    /// How the plan's flows are hashed over the links of each tier; empty where nothing is hashed.
    pub paths: Vec<TierPaths>,
    /// Whether, when and at what use of one priority group the first XOFF is expected.
    pub xoff: Option<XoffPrediction>,
    /// Headroom configured and needed per lossless priority group of the slowest case.
    pub headroom: Option<HeadroomPrediction>,
    /// The same of every switch port and lossless priority.
    pub headrooms: Vec<PortHeadroom>,
    /// Nominal duration of the whole run.
    pub duration: Span,
    /// Memory.
    pub memory: MemoryPrediction,
    /// Messages between ranks behind one port (delivered inside).
    pub local_messages: u64,
}

/// Warnings about the embedded switch.
const OF_THE_MODEL: [&str; 3] = ["headroom_too_small", "shared_headroom_too_small", "ecmp_collisions"];

/// When XOFF comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct XoffPrediction {
    /// XOFF is reached.
    pub reached: bool,
    /// Shared use of one priority group at XOFF (alpha S / (1 + n alpha)).
    pub group_bytes: Bytes,
    /// Time from the start of an iteration to the first XOFF.
    pub first: Span,
}

/// Headroom arithmetic of one port and priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct HeadroomPrediction {
    /// Configured bytes.
    pub configured: Bytes,
    /// Needed in the worst case, see [`headroom`].
    pub needed: Bytes,
}

/// Headroom arithmetic of one switch port and priority.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PortHeadroom {
    /// Switch.
    pub switch: u16,
    /// Its port.
    pub port: u16,
    /// Priority.
    pub priority: u8,
    /// Rate of the link that comes in there.
    pub rate: Rate,
    /// Both ways together: cable, FEC and pipeline.
    pub delay: Span,
    /// The figures.
    pub headroom: HeadroomPrediction,
}

/// Memory arithmetic, for virtual time, or for real ports where the profile runs on them ([`memory`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MemoryPrediction {
    /// Bytes of one queue pair (hot rows and cold state).
    pub bytes_per_qp: u64,
    /// Bytes of one rank (interpreter and its share of queue pairs).
    pub bytes_per_rank: u64,
    /// Bytes of one simulated frame in flight.
    pub bytes_per_frame: u64,
    /// Frames allocated at the start.
    pub frames: u64,
    /// Most frames in flight (buffers full).
    pub frames_max: u64,
    /// Queue pairs: rows, headers, timers, reorder bitmaps, and the plan's list of them.
    pub queue_pairs_bytes: u64,
    /// Programs of ranks, and what each port has once.
    pub ranks_bytes: u64,
    /// Histograms.
    pub recorder_bytes: u64,
    /// Pauses between switches and their causes.
    pub network_bytes: u64,
    /// Rows of flows.csv.
    pub flows_bytes: u64,
    /// `frames` frames.
    pub frames_bytes: u64,
    /// Queues and routes.
    pub switches_bytes: u64,
    /// Captured programs.
    pub schedule_bytes: u64,
    /// The program itself, with DPDK on real ports.
    pub program_bytes: u64,
    /// Pools of mbufs and rings of real ports, by queue ([`pools`]), and what the tester keeps for each; 0 in the other modes.
    pub ports_bytes: u64,
    /// The sum of the parts: what is touched without a buffer being fuller than `frames`.
    pub peak_bytes: u64,
}

impl Plan {
    /// Names of the tester ports that generate PFC on purpose.
    pub fn pfc_generators(&self) -> Vec<&str> {
        let generates = |a: &TimedAction| matches!(a.action, Action::Pfc { .. });
        self.hosts.iter().filter(|h| h.actions.iter().any(generates)).map(|h| h.name.as_str()).collect()
    }

    /// Takes back what was predicted of a switch that nobody described: its headroom, its pauses, and warnings of them.
    pub fn without_model(&mut self) {
        self.lab.no_model = true;
        self.predicted.xoff = None;
        self.predicted.headroom = None;
        self.predicted.headrooms.clear();
        self.warnings.retain(|(code, _)| !OF_THE_MODEL.contains(&code.as_str()));
    }

    /// Nominal time at which the run is cut off.
    pub fn end(&self) -> Time {
        Time::ZERO + self.limit
    }
}
