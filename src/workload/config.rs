//! What a run does, as plain types: closed-loop workloads, open-loop streams and timed actions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::schedule::Schedule;
use crate::transport::config::{RateControl, RcConfig, Verb};
use crate::units::{Bytes, ClassIx, PortId, RankId, Rate, Span, Time};
use crate::wire::pfc::Form;

/// A closed-loop workload.
#[derive(Clone, Debug)]
pub struct WorkloadConfig {
    /// Name in reports.
    pub name: String,
    /// What it does.
    pub kind: WorkloadKind,
    /// Ranks that take part, in ring order / `ranks[0]` is rank 0 of the collective. For incast the last one receives.
    pub ranks: Arc<[RankId]>,
    /// Traffic class of its messages.
    pub class: ClassIx,
    /// How messages travel.
    pub verb: Verb,
    /// Queue pairs per pair of ranks; messages go round-robin over them.
    pub qps_per_pair: u16,
    /// Rate control of its queue pairs.
    pub rate_control: RateControl,
    /// Reliability knobs of its queue pairs.
    pub rc: RcConfig,
    /// How far ranks start apart.
    pub skew: Skew,
}

impl WorkloadConfig {
    /// Ranks that have something to do: of a replay, those whose schedule is not empty.
    pub fn busy_ranks(&self) -> Vec<RankId> {
        let busy = |i: usize| match &self.kind {
            WorkloadKind::Replay(schedule) => schedule.ranks.get(i).is_some_and(|ops| !ops.is_empty()),
            WorkloadKind::Incast { .. } | WorkloadKind::RingAllReduce { .. } => true,
        };
        self.ranks.iter().enumerate().filter(|(i, _)| busy(*i)).map(|(_, rank)| *rank).collect()
    }
}

/// Kinds of closed-loop workload.
#[derive(Clone, Debug)]
pub enum WorkloadKind {
    /// All ranks but the last send `message` to the last at once.
    Incast {
        /// Bytes per sender.
        message: Bytes,
    },
    /// Ring all-reduce of a `vector` per rank: reduce-scatter, then all-gather.
    RingAllReduce {
        /// Bytes of the full vector on each rank.
        vector: Bytes,
        /// A step's part is cut into messages of at most this many bytes, each forwarded as soon as it has arrived.
        chunk: Bytes,
        /// Span a rank computes (reduces) before it forwards a received chunk.
        reduce: Span,
        /// Ranks of one node, a divisor of all. 1: one ring over all ranks. More: hierarchical, one ring over the
        /// nodes for each rank of a node, with that rank's share of the vector; inside a node nothing takes time.
        per_node: u32,
    },
    /// A captured or imported schedule, run as it stands.
    Replay(Arc<Schedule>),
}

/// Start offsets of ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Skew {
    /// All at once plus rank number times the step (0 = synchronised).
    Fixed(Span),
    /// Uniform in [0, span], drawn per rank and iteration from the seed.
    Uniform(Span),
}

/// An open-loop stream from one rank to another: no acknowledgement, no retransmission (UC or UD SEND ONLY frames).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamConfig {
    /// Name in reports.
    pub name: String,
    /// Sender.
    pub from: RankId,
    /// Receiver.
    pub to: RankId,
    /// Traffic class.
    pub class: ClassIx,
    /// Frame lengths with FCS and their weights (one entry, or an IMIX).
    pub sizes: Vec<(u16, u32)>,
    /// Offered load.
    pub load: Load,
    /// When it starts.
    pub start: Time,
    /// When it ends: after so many frames, or so long.
    pub until: Until,
    /// The sender obeys PFC (a headroom test needs one that does not).
    pub obey_pfc: bool,
    /// What its frames are.
    pub verb: StreamVerb,
}

/// Frames of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamVerb {
    /// UC SEND ONLY.
    #[default]
    UcSend,
    /// UD SEND ONLY, with a DETH.
    UdSend,
}

/// Offered load of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Load {
    /// Share of the port's rate on the wire (layer 1, gap and preamble counted), 0..=1.
    L1Share(f64),
    /// Layer-2 rate (FCS counted, no gap or preamble).
    L2(Rate),
    /// Frames per second.
    Fps(f64),
}

/// End of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Until {
    /// An exact number of frames.
    Frames(u64),
    /// A span from its start.
    Span(Span),
}

/// One action of the timeline (`[[at]]`), at an absolute nominal time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TimedAction {
    /// When.
    pub at: Time,
    /// What.
    pub action: Action,
}

impl TimedAction {
    /// When the last of what it does begins.
    pub fn end(&self) -> Time {
        match &self.action {
            Action::Pfc { train, .. } => self.at + train.span(),
            _ => self.at,
        }
    }
}

/// What an action does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Action {
    /// A tester port sends XOFF for a priority, refreshed until `release` or the span is over.
    Pause {
        /// The port that pauses its switch.
        port: PortId,
        /// Priority 0..8.
        priority: u8,
        /// Span to hold the pause; `None` = until a `Release`.
        hold: Option<Span>,
    },
    /// The port sends XON for a priority.
    Release {
        /// The port.
        port: PortId,
        /// Priority 0..8.
        priority: u8,
    },
    /// PFC frames generated on purpose.
    Pfc {
        /// The port that sends them.
        port: PortId,
        /// The frames.
        train: PfcTrain,
    },
    /// A stream of an exact number of frames at line rate.
    Burst(StreamConfig),
    /// Record every queue and pool of the switches into the report.
    Snapshot {
        /// Name in the report.
        name: String,
    },
}

/// PFC frames one after another, the first at the time of the action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PfcTrain {
    /// How each is written.
    pub form: Form,
    /// Class-enable vector: bit p speaks for priority p.
    pub enable: u8,
    /// Pause times in quanta for all enabled priorities, taken in turn by the frames.
    pub quanta: Vec<u16>,
    /// How many.
    pub frames: u64,
    /// From the start of one to the start of the next.
    pub period: Span,
}

impl PfcTrain {
    /// From the first frame to the last.
    pub fn span(&self) -> Span {
        Span(self.period.0.saturating_mul(self.frames.saturating_sub(1)))
    }
}
