//! report.json, schema 1, field by field. Names and meaning stay; docs/REPORT.md explains each of them.
//!
//! Durations are `_ns` and nominal (undilated) except under `tester`; sizes are `_bytes`, rates `_gbps` (10^9 bit/s),
//! ratios have no unit. `None` is `null`: not measured, never 0.

pub use crate::run::preflight::Preflight;
pub use crate::run::result::PortFigures;
use serde::{Deserialize, Serialize};

use crate::measure::distribution::Percentiles;

/// The schema this build writes and reads.
pub const SCHEMA: u32 = 1;

/// Everything a run has to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunReport {
    /// 1.
    pub schema: u32,
    /// What made the report.
    pub tool: Tool,
    /// Name of the profile.
    pub name: String,
    /// The command that repeats the run, for its directory of results.
    pub repeat: Option<String>,
    /// `ports`, `rings` or `virtual`.
    pub mode: String,
    /// Seed of every random stream.
    pub seed: u64,
    /// SHA-256 of what the physics decided; equal between rings and virtual; null on ports.
    pub outcome_hash: Option<String>,
    /// Real over nominal time; null in virtual time.
    pub dilation: Option<f64>,
    /// When the run began, RFC 3339, UTC.
    pub started: String,
    /// Nominal time from the start of the run to its end, warm-up included.
    pub duration_ns: f64,
    /// Every iteration ran to its end.
    pub complete: bool,
    /// What is missing when not, in words.
    pub missing: Vec<String>,
    /// The question of the profile.
    pub question: Option<String>,
    /// One computed sentence.
    pub answer: String,
    /// Iterations measured, as planned.
    pub repeats: u32,
    /// Iterations left out before them.
    pub warmup: u32,
    /// Ranks and ports that press on the busiest receiver.
    pub fan_in: FanIn,
    /// Closed-loop workloads.
    pub workload: Vec<Workload>,
    /// Traffic classes.
    pub classes: Vec<Class>,
    /// Open-loop streams, all together; null without any.
    pub streams: Option<Streams>,
    /// Messages and frames.
    pub flows: Flows,
    /// One per class and pair of stamps.
    pub latency_ns: Vec<Latency>,
    /// Machines that took part.
    pub hosts: Vec<Host>,
    /// The tester's side.
    pub ports: Vec<Port>,
    /// The other side.
    pub switches: Vec<Switch>,
    /// The way between switches.
    pub fabric: super::fabric::Fabric,
    /// Snapshots the timeline asked for.
    pub snapshots: Vec<Snapshot>,
    /// The device under test; null when the switch is embedded.
    pub dut: Option<Dut>,
    /// How far the tester can be trusted.
    pub tester: Tester,
    /// Memory.
    pub memory: Memory,
    /// Speed of virtual time; null in other modes.
    pub sim: Option<Sim>,
    /// Frames over the whole run, warm-up included.
    pub conservation: Conservation,
    /// `[expect]`, judged.
    pub expectations: Vec<Judged>,
    /// What a reader might look for and this run could not see.
    pub not_measured: Vec<String>,
    /// Warnings with stable codes.
    pub warnings: Vec<Warning>,
}

/// What made the report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tool {
    /// Version of the package.
    pub version: String,
    /// Revision of the source.
    pub revision: String,
    /// DPDK it was built with; `none` without.
    pub dpdk: String,
}

/// Pressure on the busiest receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FanIn {
    /// Ranks that send to it at once.
    pub ranks: f64,
    /// Rates of the sending ports over its own.
    pub physical: f64,
    /// Tester ports that sent data.
    pub sender_ports: u32,
}

/// A closed-loop workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// Name.
    pub name: String,
    /// `incast`, `ring-all-reduce` or `replay`.
    pub kind: String,
    /// `model` (embedded switch) or `wire` (ports).
    pub source: String,
    /// Traffic class.
    pub class: String,
    /// Ranks that take part.
    pub ranks: u32,
    /// Measured iterations that every rank finished.
    pub iterations: u32,
    /// What `algbw` divides: all payload of one incast burst or replay, the vector of a collective.
    pub bytes: u64,
    /// From release to the last rank's finish, per iteration.
    pub completion_ns: Completion,
    /// The same one by one, in order (the first 4,096).
    pub iteration_ns: Vec<f64>,
    /// Intended to last acknowledgement, per message over the wire.
    pub message_ns: Percentiles,
    /// `bytes` over the mean completion.
    pub algbw_gbps: Option<f64>,
    /// `algbw` times the factor of the collective (all-reduce: 2 (n-1) / n); null where there is none.
    pub busbw_gbps: Option<f64>,
    /// Ranks of a node, whose traffic among themselves takes no time; left out where that is 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub ranks_per_node: u32,
    /// Endpoints at their rates on a non-blocking fabric, closed form.
    pub ideal_ns: Option<f64>,
    /// Mean completion over `ideal_ns`.
    pub ideal_ratio: Option<f64>,
    /// As `ideal_ns`, with this topology and placement.
    pub fabric_bound_ns: Option<f64>,
    /// Most payload the receiver's link can carry in frames of this class; incast only.
    pub payload_limit_gbps: Option<f64>,
    /// Share of its own time a rank waits for data, per iteration.
    pub idle_fraction: IdleFraction,
    /// Spread of first bytes over the sending ranks, per iteration.
    pub start_spread_ns: Percentiles,
    /// Who was last.
    pub fairness: Option<Fairness>,
    /// What rate control did; null without any.
    pub rate_control: Option<RateControlFigure>,
}

/// Completion of the iterations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Completion {
    /// Percentiles.
    #[serde(flatten)]
    pub percentiles: Percentiles,
    /// Standard deviation (of the sample) over mean; null below two iterations.
    pub cv: Option<f64>,
}

/// Share of time spent waiting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdleFraction {
    /// Mean over ranks and iterations.
    pub mean: Option<f64>,
    /// Largest of one rank in one iteration.
    pub max: Option<f64>,
}

/// How evenly the ranks finished.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fairness {
    /// The sending rank that was last most often (the lowest number on a tie).
    pub slowest_rank: u32,
    /// In how many iterations.
    pub slowest_times: u32,
    /// What chance alone gives each rank.
    pub chance: f64,
    /// Jain's index of the ranks' mean finish: 1 = all alike.
    pub jain: Option<f64>,
    /// Ranks whose mean finish is beyond twice the median.
    pub starved: u32,
}

/// A traffic class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Class {
    /// Name.
    pub name: String,
    /// `model` or `wire`.
    pub source: String,
    /// It must not lose frames.
    pub lossless: bool,
    /// DSCP of its data.
    pub dscp: u8,
    /// PFC priority it obeys.
    pub priority: u8,
    /// Data frames sent, retransmissions included.
    pub transmissions: u64,
    /// Data frames received, duplicates included.
    pub arrivals: u64,
    /// Data frames dropped on the way.
    pub lost: u64,
    /// Data frames sent again.
    pub retransmitted: u64,
    /// Data frames received with CE.
    pub ce: u64,
    /// Pauses of its priority, summed over tester ports.
    pub paused_ns: Option<f64>,
    /// Rate from the first to the last arrival, all receivers together, layer 2 (FCS counted).
    pub arrival_l2_gbps: Option<f64>,
    /// The same with preamble and gap, layer 1.
    pub arrival_l1_gbps: Option<f64>,
}

/// Open-loop streams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Streams {
    /// Streams, bursts of the timeline included.
    pub streams: u32,
    /// Frames sent.
    pub frames_tx: u64,
    /// Frames received.
    pub frames_rx: u64,
    /// Frames that never arrived: by gaps in their sequence numbers, and at the end of a run also those behind the last
    /// frame that did.
    pub lost: u64,
    /// `lost` over `frames_tx`.
    pub loss_ratio: Option<f64>,
    /// Streams with a latency histogram of their own: lines of streams.csv.
    pub with_latency: u32,
}

/// Messages and frames.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flows {
    /// `model` or `wire`.
    pub source: String,
    /// Messages posted.
    pub started: u64,
    /// Messages completed over the wire.
    pub completed: u64,
    /// Messages given up or refused.
    pub failed: u64,
    /// Intended to last acknowledgement, completed messages of all workloads.
    pub fct_ns: Percentiles,
    /// New payload delivered.
    pub payload_bytes: u64,
    /// `payload_bytes` over the time in which an iteration was under way.
    pub goodput_gbps: Option<f64>,
    /// Frames sent by tester ports, all kinds.
    pub frames_tx: u64,
    /// Frames received by tester ports.
    pub frames_rx: u64,
    /// Messages between ranks behind one port, delivered inside.
    pub local_messages: u64,
    /// Data frames sent again.
    pub retransmitted: u64,
    /// NAKs sent.
    pub nak_tx: u64,
    /// NAKs received.
    pub nak_rx: u64,
    /// RNR NAKs received.
    pub rnr_nak_rx: u64,
    /// Acknowledgement timeouts.
    pub timeouts: u64,
    /// Data frames ahead of their turn.
    pub out_of_order: u64,
    /// Data frames received twice.
    pub duplicates: u64,
    /// CNPs sent.
    pub cnp_tx: u64,
    /// CNPs received.
    pub cnp_rx: u64,
    /// Data frames received with CE.
    pub ce_rx: u64,
    /// READ requests sent, repeated ones included.
    pub read_tx: u64,
    /// READ requests for what was asked for before.
    pub read_again: u64,
    /// READ responses found missing because something behind them arrived.
    pub implied_nak: u64,
    /// RNR NAKs sent.
    pub rnr_nak_tx: u64,
    /// Times a requester had to wait for credits.
    pub credit_waits: u64,
    /// UD datagrams sent.
    pub datagram_tx: u64,
    /// UD datagrams received.
    pub datagram_rx: u64,
    /// UD datagrams found missing by their PSNs.
    pub datagram_lost: u64,
}

/// Latency between two named stamps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Traffic class.
    pub class: String,
    /// `model` or `wire`.
    pub source: String,
    /// First stamp: `wire_out` or `intended`.
    pub from: String,
    /// Second stamp: `wire_in`.
    pub to: String,
    /// Per data frame.
    #[serde(flatten)]
    pub percentiles: Percentiles,
}

/// A machine of the tester.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Name.
    pub name: String,
    /// What its time is: `nominal`, `elastic`, `tsc`.
    pub clock: String,
}

/// A snapshot of the switches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Name in the profile.
    pub name: String,
    /// When.
    pub at_ns: f64,
    /// Per switch.
    pub switches: Vec<SwitchSnapshot>,
}

/// One switch in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SwitchSnapshot {
    /// In the shared pool.
    pub shared_bytes: u64,
    /// In all headrooms.
    pub headroom_bytes: u64,
    /// Queues that are not empty.
    pub queues: Vec<QueueSnapshot>,
    /// Priority groups (ingress port and priority) that hold something or are in XOFF.
    pub groups: Vec<GroupSnapshot>,
}

/// One priority group in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupSnapshot {
    /// Ingress port.
    pub port: u16,
    /// Priority.
    pub priority: u8,
    /// Reserved and shared.
    pub used_bytes: u64,
    /// In its headroom.
    pub headroom_bytes: u64,
    /// What its shared bytes may come to at this moment.
    pub limit_bytes: u64,
    /// Its sender was told to stop.
    pub xoff: bool,
}

/// One queue in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueSnapshot {
    /// Port number.
    pub port: u16,
    /// Priority.
    pub priority: u8,
    /// Depth.
    pub depth_bytes: u64,
}

/// What the tester did. Real time, not nominal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tester {
    /// Lateness of handling, nominal; percentiles p50, p99, max.
    pub pacing_error_ns: Option<Pacing>,
    /// Where pacing is measured: `enqueue`, `device` or `wire`.
    pub pacing_point: Option<String>,
    /// Share of frames handled later than their time.
    pub late_fraction: Option<f64>,
    /// Frames the pool or ring refused.
    pub tx_refused: u64,
    /// Frames that arrived and were not taken.
    pub rx_missed: u64,
    /// Achieved over configured rate, less one.
    pub rate_error: Option<f64>,
    /// The clock.
    pub clock: Clock,
    /// Real seconds.
    pub wall_s: f64,
    /// Worker threads.
    pub workers: Vec<Worker>,
    /// From the first turn of the first worker to that of the last; several workers on real ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_spread_ns: Option<f64>,
    /// Where the control plane of real ports had its core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// What was found of the lab before the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preflight: Option<Preflight>,
    /// From Ctrl-C to the last frame handed to a real port; 0 when none was, null when nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_ns: Option<f64>,
    /// Real ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortFigures>,
    /// What happened to them meanwhile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// False: the tester spoilt the result, exit code 3.
    pub trustworthy: bool,
    /// Why.
    pub why: Vec<String>,
}

/// Lateness of the tester.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pacing {
    /// Median.
    pub p50: f64,
    /// 99 %.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

/// The tester's clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// TSC against CLOCK_MONOTONIC_RAW.
    pub tsc_hz: Option<f64>,
    /// Worst lag of a worker behind a free clock, nominal.
    pub lag_ns_max: Option<f64>,
    /// How far the TSC ran ahead of CLOCK_MONOTONIC_RAW during a run on real ports, parts per million.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsc_drift_ppm: Option<f64>,
    /// Bound of the error of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsc_drift_doubt_ppm: Option<f64>,
}

/// One worker thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// What it ran.
    pub name: String,
    /// Core it was pinned to.
    pub core: Option<usize>,
    /// Link transmissions it started.
    pub frames: u64,
    /// Share of its time with work to do.
    pub busy_fraction: Option<f64>,
    /// Share of its time in which the kernel gave its core to others while it had work; real ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stolen_fraction: Option<f64>,
    /// Lateness at the moment a frame is handed to the device (`enqueue`); real ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lateness_ns: Option<Pacing>,
    /// From the common start to its first turn; real ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_late_ns: Option<f64>,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// One queue pair.
    pub bytes_per_qp: u64,
    /// One rank.
    pub bytes_per_rank: u64,
    /// Most the process held.
    pub peak_bytes: u64,
}

/// Speed of virtual time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sim {
    /// Events handled.
    pub events: u64,
    /// Frames put on a link, every hop counted.
    pub link_transmissions: u64,
    /// CPU seconds.
    pub cpu_s: f64,
    /// Link transmissions per CPU second.
    pub link_tx_per_cpu_s: Option<f64>,
}

/// Frames sent = received + dropped + inside.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conservation {
    /// Frames sent.
    pub sent_frames: u64,
    /// Frames received.
    pub received_frames: u64,
    /// Frames dropped.
    pub dropped_frames: u64,
    /// Frames on links or in queues at the end.
    pub inside_frames: u64,
    /// Nothing is unaccounted for.
    pub holds: bool,
}

/// The device under test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dut {
    /// Name.
    pub name: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// ASIC.
    pub asic: Option<String>,
    /// Version of its operating system.
    pub nos_version: Option<String>,
    /// SHA-256 of its configuration.
    pub config_sha: Option<String>,
    /// Output of the snapshot commands.
    pub snapshots: Vec<String>,
}

/// One expectation, judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Judged {
    /// Key in `[expect]`.
    pub name: String,
    /// Limit: bytes, ratio, count, nanoseconds.
    pub limit: f64,
    /// Value; null when it was not measured.
    pub value: Option<f64>,
    /// Kept.
    pub pass: bool,
    /// Why not, when the value alone does not say.
    pub reason: Option<String>,
    /// What the value leaves out, when that is not nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A warning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Warning {
    /// Stable code.
    pub code: String,
    /// Text.
    pub text: String,
}

/// What the run comes to: the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every expectation was met.
    Pass,
    /// An expectation failed, or the run did not complete.
    Fail,
    /// The tester spoilt the result.
    NotTrustworthy,
}

impl Verdict {
    /// 0, 1 or 3.
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Pass => 0,
            Verdict::Fail => 1,
            Verdict::NotTrustworthy => 3,
        }
    }
    /// The word of the first line.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "PASS",
            Verdict::Fail => "FAIL",
            Verdict::NotTrustworthy => "NOT TRUSTED",
        }
    }
}

impl RunReport {
    /// What the run comes to. The tester's faults come first: what it spoilt proves nothing either way.
    pub fn verdict(&self) -> Verdict {
        if !self.tester.trustworthy {
            Verdict::NotTrustworthy
        } else if (self.complete || self.ended_as_expected()) && self.expectations.iter().all(|e| e.pass) {
            Verdict::Pass
        } else {
            Verdict::Fail
        }
    }
    /// A deadlock ended the run, and the profile expected one.
    pub(super) fn ended_as_expected(&self) -> bool {
        let expected = |e: &Judged| e.name == "deadlocks" && e.pass && e.limit > 0.0;
        !self.fabric.deadlocks.is_empty() && self.expectations.iter().any(expected)
    }
    /// The first twelve digits of the outcome hash.
    pub fn hash_short(&self) -> Option<&str> {
        self.outcome_hash.as_deref().map(|h| h.get(..12).unwrap_or(h))
    }
}

pub use super::network::{Limits, Pool, Port, PortPfc, Queue, Receive, SentPfc, Switch, SwitchPort};
pub use super::rate::{Phase, RateControlFigure};

fn one() -> u32 {
    1
}

fn is_one(n: &u32) -> bool {
    *n == 1
}
