//! What a run leaves behind for the report. The only type that passes from `run` to `report`.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::preflight::Preflight;
use super::samples::PARTS;
use crate::host::config::HostConfig;
use crate::measure::distribution::Percentiles;
use crate::measure::rates::{FLOWS_MAX, FlowKey, RateSeries};
use crate::measure::recorder::{Recorder, RecorderConfig};
use crate::measure::stats::{HostStats, SwitchStats};
use crate::plan::memory::{recorder_config, streams};
use crate::plan::{Mode, Plan};
use crate::switch::{GroupState, SwitchState};
use crate::transport::rate::RateControl;
use crate::units::Time;
use crate::workload::generate::pairs;

/// Everything a run measured.
#[derive(Debug)]
pub struct RunResult {
    /// How it ran.
    pub mode: Mode,
    /// Events: histograms, messages, pauses, iterations.
    pub recorder: Recorder,
    /// Counters per tester port without the warm-up.
    pub hosts: Vec<HostStats>,
    /// Counters per switch without the warm-up.
    pub switches: Vec<SwitchStats>,
    /// Nominal time when the run ended.
    pub ended: Time,
    /// Nominal time from which results count (start of the first measured iteration).
    pub measured_from: Time,
    /// Every iteration ran to its end.
    pub complete: bool,
    /// What is missing and why, in the reader's words ("interrupted in iteration 7 of 20").
    pub missing: Vec<String>,
    /// Iterations of every workload that finished, warm-up included.
    pub iterations_done: u32,
    /// Snapshots the timeline asked for.
    pub snapshots: Vec<Snapshot>,
    /// Conservation over the whole run, warm-up included.
    pub conservation: Conservation,
    /// What the tester itself did.
    pub tester: TesterStats,
    /// Virtual time's speed.
    pub sim: Option<SimStats>,
    /// Highest resident memory of the process, bytes.
    pub peak_bytes: u64,
}

impl RunResult {
    /// SHA-256, in hex, of everything the physics decided: messages, iterations, latencies, pauses, queue depths and
    /// the counters of hosts and switches since the first measured iteration. Equal for equal profile and seed,
    /// however the engines were split, how fast they ran and how often the tester stalled.
    pub fn outcome_hash(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(b"rankstorm outcome 1\n");
        hash.update(self.measured_from.0.to_le_bytes());
        hash.update(self.iterations_done.to_le_bytes());
        for host in &self.hosts {
            // Not physics: an empty pool is the tester's own fault and shown as such.
            put_json(&mut hash, &HostStats { pool_empty: 0, ..host.clone() });
        }
        self.switches.iter().for_each(|s| put_json(&mut hash, s));
        self.snapshots.iter().for_each(|s| put_json(&mut hash, s));
        self.recorder.digest(&mut hash);
        hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }
}

fn put_json<T: Serialize>(hash: &mut Sha256, value: &T) {
    // Plain structs of numbers and strings: serialising to memory cannot fail.
    hash.update(serde_json::to_vec(value).unwrap_or_default());
    hash.update(b"\n");
}

impl Recorder {
    /// A recorder with room for everything `plan` can produce.
    pub fn for_plan(plan: &Plan) -> Recorder {
        Recorder::for_senders(plan, &mut plan.hosts.iter())
    }

    /// The same for frames whose `src` is the number of a sender in this list, where those are not the ports of the plan.
    pub fn for_senders(plan: &Plan, senders: &mut dyn Iterator<Item = &HostConfig>) -> Recorder {
        let config = recorder_config(
            plan.hosts.len(),
            &plan.classes,
            &plan.workloads,
            &plan.fabric,
            plan.warmup,
            plan.repeats,
        );
        Recorder::new(&RecorderConfig {
            rates: rates(plan, senders),
            streams: streams(&plan.hosts),
            ..config
        })
    }
}

/// A series that follows the flows of all workloads with rate control; none when they are too many.
fn rates(plan: &Plan, senders: &mut dyn Iterator<Item = &HostConfig>) -> Option<RateSeries> {
    let mut flows = Vec::new();
    for (w, config) in plan.workloads.iter().enumerate() {
        if config.rate_control != RateControl::None {
            let key = |(from, to)| FlowKey { workload: w as u16, from, to };
            flows.extend(pairs(config).into_iter().map(key));
        }
    }
    if flows.len() > FLOWS_MAX {
        return None;
    }
    flows.sort_unstable();
    flows.dedup();
    let key = |q: &crate::transport::config::QpConfig| {
        let key = FlowKey { workload: q.workload, from: q.local_rank, to: q.peer_rank };
        flows.binary_search(&key).is_ok().then_some(key)
    };
    let flow_of: Vec<Vec<Option<FlowKey>>> = senders.map(|h| h.qps.iter().map(key).collect()).collect();
    RateSeries::new(flows, &flow_of)
}

/// Frames and bytes of the whole run: sent = received + dropped + still inside at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Conservation {
    /// Frames handed to links by hosts and made by switches (PFC).
    pub sent_frames: u64,
    /// Their bytes, FCS included.
    pub sent_bytes: u64,
    /// Frames that ended at hosts, and PFC frames that ended anywhere.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames dropped by switches and by faults injected on purpose.
    pub dropped_frames: u64,
    /// Their bytes.
    pub dropped_bytes: u64,
    /// Frames still on links or in queues when the run ended.
    pub inside_frames: u64,
    /// Frames that pools had still lent after everything was given back; anything but 0 is a leak.
    pub pool_in_use: u64,
}

impl Conservation {
    /// True when no frame or byte is unaccounted for (bytes only checked when nothing is inside).
    pub fn holds(&self) -> bool {
        self.sent_frames == self.received_frames + self.dropped_frames + self.inside_frames
            && (self.inside_frames != 0 || self.sent_bytes == self.received_bytes + self.dropped_bytes)
            && self.pool_in_use == 0
    }
}

/// What the tester did and how far it can be trusted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TesterStats {
    /// Real time over nominal time of the measured part; `None` in virtual time.
    pub dilation: Option<f64>,
    /// Real seconds the run took.
    pub wall_s: f64,
    /// Workers and the core each was pinned to (`None` = not pinned).
    pub workers: Vec<WorkerStats>,
    /// TSC frequency measured against CLOCK_MONOTONIC_RAW, Hz; `None` in virtual time.
    pub tsc_hz: Option<f64>,
    /// Frames a host wanted and the pool or ring refused.
    pub tx_refused: u64,
    /// Frames that arrived and were not taken.
    pub rx_missed: u64,
    /// Worst lag of a worker behind the free clock, picoseconds nominal; `None` unless `clock = "free"`.
    pub lag_ps_max: Option<u64>,
    /// Frames handled later than their time (free clock), and the share of all.
    pub late_frames: u64,
    /// False when the tester spoilt the result (exit code 3).
    pub trustworthy: bool,
    /// Why not.
    pub why: Vec<String>,
    /// Lateness of handling, picoseconds nominal: p50, p99, max. Zero by construction with elastic time.
    pub lateness_ps: Option<[u64; 3]>,
    /// What was found before the run.
    pub preflight: Option<Preflight>,
    /// From the wish to stop (Ctrl-C) to the last frame that was handed over, picoseconds; 0 when none was. Real ports.
    pub stop_ps: Option<u64>,
    /// Real ports, in port order.
    pub ports: Vec<PortFigures>,
    /// Drift of the TSC against CLOCK_MONOTONIC_RAW over a run on real ports, parts per million, and the doubt in it.
    pub tsc_drift_ppm: Option<[f64; 2]>,
    /// Where the control plane of a run on real ports had its core.
    pub control: Option<String>,
    /// What happened to real ports meanwhile ("port a: link down at 1.2 s").
    pub events: Vec<String>,
}

/// A real port: what it is, and what went through it in the whole run, warm-up included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortFigures {
    /// Name from the profile.
    pub name: String,
    /// Device from the profile.
    pub device: String,
    /// DPDK driver.
    pub driver: String,
    /// Who hands frames to the kernel or the NIC: `driver`, or `socket`, a packet socket of ours beside it.
    pub tx_path: String,
    /// Our MAC there.
    pub mac: String,
    /// Queues each way; every one has ranks of its own and is turned by one worker.
    pub queues: u16,
    /// How frames that arrive find the queue of their rank: `rules` (one per rank), `masks` (one per queue), `queue-to-queue`,
    /// or `none`; `None` with one queue.
    pub steering: Option<String>,
    /// Frames that arrived at another queue than their rank's and were handed over to it; rules that work leave none.
    pub misdirected: u64,
    /// Who obeys pauses.
    pub pfc: String,
    /// How pauses of the port are known: `frames`, `counters` or `unknown`.
    pub pfc_seen: String,
    /// Who says when a frame arrived: `device`, `kernel` (to the microsecond), or `taking in`, which is when the worker took
    /// it from the device.
    pub arrival_point: String,
    /// How far such a stamp may be off against our clock, nanoseconds; `None` for `taking in`.
    pub arrival_doubt_ns: Option<f64>,
    /// Arrivals that were stamped.
    pub arrivals_stamped: u64,
    /// The device could send frames at given times.
    pub paces_in_hardware: bool,
    /// Who sent frames of streams at their times: `hardware` (some at least; the device was given them before) or `software`.
    pub pacing: String,
    /// Frames that were handed over before their time, for the device to send at it.
    pub tx_paced: u64,
    /// Link-level pauses (802.3x), as the device says: `off`, `obeys`, `sends`, `both`; `None` where it does not tell.
    pub flow_control: Option<String>,
    /// PFC frames that reached us; `None` where the device keeps them.
    pub pfc_frames: Option<u64>,
    /// Longest span from an XOFF to the end of the last frame handed over before, reckoned at the port's rate,
    /// nanoseconds; `None` without XOFF.
    pub xoff_response_ns: Option<f64>,
    /// Most bytes handed to the device ahead of the wire.
    pub tx_backlog_bytes_max: u64,
    /// Descriptors of the device's transmit ring.
    pub tx_descriptors: u16,
    /// Frames handed to the device.
    pub tx_frames: u64,
    /// Their bytes, FCS included.
    pub tx_bytes: u64,
    /// Frames taken from it.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Sent bits per second over the run, with preamble and gap, over the configured rate.
    pub tx_utilisation: f64,
    /// Times the device took less than offered; nothing is lost by it.
    pub tx_refused: u64,
    /// Frames that were sent while the link was down, and are lost.
    pub tx_lost_down: u64,
    /// Counters of pauses by the device's own names, where it keeps pauses to itself: since it was opened, those above 0.
    pub pause_counters: Vec<(String, u64)>,
    /// Frames the device lost because nobody took them, or that could not be taken over from it.
    pub rx_missed: u64,
    /// Frames with a wrong ICRC.
    pub icrc_errors: u64,
    /// Data frames of this run that arrived with CE.
    pub ce_rx: u64,
    /// From being handed over at the sending port to being taken in here, data frames of this run, nanoseconds. Without
    /// those of `delay_blurred`.
    pub delay_ns: Percentiles,
    /// Data frames whose delay is left out, as the tester was away from its port for longer than its backlog lasts.
    pub delay_blurred: u64,
    /// Of every queue pair and stream that sends here, the frames whose PSN is a multiple of this carry a stamp; `None` where
    /// none does, as nobody is behind the device.
    #[serde(default)]
    pub stamp_every: Option<u32>,
    /// Data frames sent with a stamp.
    #[serde(default)]
    pub tx_stamped: u64,
    /// Data frames that came without stamps of this run (not selected, short payloads, other senders): their latency is not
    /// known.
    #[serde(default)]
    pub unstamped: u64,
    /// Depth of the queue that feeds this port, inferred: delay above the least one, at this port's rate, bytes with FCS.
    /// Wrong where the port's rate is not what the queue drains at.
    pub queue_bytes_inferred: Percentiles,
    /// Frames that are nobody's here: other protocols, other machines.
    pub rx_other: u64,
    /// Neighbours that asked for our addresses.
    pub answered: u64,
    /// Frames sent over frames that streams asked for until the end, less one; `None` without streams.
    pub rate_error: Option<f64>,
    /// What the device itself counted.
    pub device_tx_frames: Option<u64>,
    /// Frames that it took and could not send.
    pub device_tx_errors: Option<u64>,
    /// Likewise.
    pub device_rx_frames: Option<u64>,
}

/// One worker thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WorkerStats {
    /// "hosts 0-32" or "switch 0".
    pub name: String,
    /// Core it was pinned to.
    pub core: Option<usize>,
    /// Link transmissions started by this worker.
    pub frames: u64,
    /// TSC seconds spent with work to do (not waiting for a neighbour or the clock).
    pub busy_s: f64,
    /// TSC seconds in all.
    pub total_s: f64,
    /// TSC seconds of turns in which the kernel gave the core to others; not in `busy_s`. Real ports only.
    pub stolen_s: f64,
    /// CPU seconds of the thread from the start to the end of the run; what is taken in after it is left out, as in
    /// `total_s`. Real ports only.
    pub cpu_s: f64,
    /// From the time a frame was meant for to its being handed to the device, picoseconds: p50, p99, max. Real ports only.
    pub lateness_ps: Option<[u64; 3]>,
    /// From the agreed start to the first turn, picoseconds. Real ports only.
    pub started_late_ps: Option<u64>,
}

/// Speed of virtual time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SimStats {
    /// Events handled.
    pub events: u64,
    /// Frames serialised onto a link, every hop counted.
    pub link_transmissions: u64,
    /// CPU seconds of the thread that ran the engine.
    pub cpu_s: f64,
    /// Share of its time by part ([`super::samples::PARTS`]), where it was sampled.
    #[serde(skip)]
    pub shares: Option<[f64; PARTS.len()]>,
}

/// State of the switches at one moment of the timeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    /// Name from the profile.
    pub name: String,
    /// When.
    pub at: Time,
    /// Per switch.
    pub switches: Vec<SwitchSnapshot>,
}

/// One switch in a [`Snapshot`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SwitchSnapshot {
    /// Bytes in the shared pool.
    pub shared_bytes: u64,
    /// Bytes in all headrooms.
    pub headroom_bytes: u64,
    /// (port, priority, bytes) of queues that are not empty.
    pub queues: Vec<(u16, u8, u64)>,
    /// Priority groups that hold something. Not part of the outcome hash, which is older.
    #[serde(skip)]
    pub groups: Vec<GroupState>,
}

impl From<SwitchState> for SwitchSnapshot {
    fn from(s: SwitchState) -> SwitchSnapshot {
        let SwitchState { shared_bytes, headroom_bytes, queues, groups } = s;
        SwitchSnapshot { shared_bytes, headroom_bytes, queues, groups }
    }
}
