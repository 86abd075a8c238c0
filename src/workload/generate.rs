//! Programs of ranks: generated ones, which hold no list of operations, and schedules.

pub mod incast;
pub mod replay;
pub mod ring;

use thiserror::Error;

use self::incast::Incast;
use self::replay::Replay;
use self::ring::{Ring, ring_of};
use super::config::{Skew, WorkloadConfig, WorkloadKind};
use super::interp::Agenda;
use super::schedule::{OpId, OpKind};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::units::{RankId, Span, Time};

/// Why a workload cannot run.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WorkloadError {
    /// Nodes that are not whole, or one only.
    #[error(
        "workload \"{name}\": {ranks} ranks are no 2 nodes or more of {per_node} ranks each: make ranks a multiple of \
         per_node, at least twice as many"
    )]
    Nodes {
        /// Name of the workload.
        name: String,
        /// Ranks it has.
        ranks: usize,
        /// Ranks of a node.
        per_node: u32,
    },
    /// Not enough ranks.
    #[error("workload \"{name}\": {kind} needs at least 2 ranks, this one has {ranks}: add ranks")]
    TooFewRanks {
        /// Name of the workload.
        name: String,
        /// Kind, as in the profile.
        kind: &'static str,
        /// Ranks it has.
        ranks: usize,
    },
    /// A rank twice in the list.
    #[error("workload \"{name}\": rank {rank} takes part twice: list every rank once")]
    RankTwice {
        /// Name of the workload.
        name: String,
        /// The rank.
        rank: u32,
    },
    /// `chunk = 0`.
    #[error("workload \"{name}\": chunk is 0 bytes: give a chunk of at least 1 byte, for example \"1 MiB\"")]
    ChunkZero {
        /// Name of the workload.
        name: String,
    },
    /// More bytes than one RDMA message can carry.
    #[error(
        "workload \"{name}\": a message of {bytes} bytes is longer than one RDMA message may be \
         ({MESSAGE_BYTES_MAX} bytes): make it shorter (ring: a smaller chunk)"
    )]
    MessageTooLong {
        /// Name of the workload.
        name: String,
        /// Size of the message.
        bytes: u64,
    },
    /// Tags are 32 bits.
    #[error("workload \"{name}\": more than 2^32 messages per rank and iteration: use larger chunks")]
    TooManyMessages {
        /// Name of the workload.
        name: String,
    },
    /// A schedule for more or fewer ranks than the workload has.
    #[error("workload \"{name}\": the schedule has {schedule} ranks, the workload {ranks}: make them equal")]
    RanksDiffer {
        /// Name of the workload.
        name: String,
        /// Ranks of the schedule.
        schedule: usize,
        /// Ranks of the workload.
        ranks: usize,
    },
    /// The schedule itself is broken.
    #[error("workload \"{name}\": {error}")]
    Schedule {
        /// Name of the workload.
        name: String,
        /// What is wrong.
        error: super::schedule::ScheduleError,
    },
}

/// Checks everything [`super::interp::Interp`] relies on. Cost: O(ranks log ranks), for replays O(operations
/// log operations).
pub fn check(cfg: &WorkloadConfig) -> Result<(), WorkloadError> {
    let name = || cfg.name.clone();
    let mut ranks = cfg.ranks.to_vec();
    ranks.sort_unstable();
    if let Some(twice) = ranks.windows(2).find(|w| w[0] == w[1]) {
        return Err(WorkloadError::RankTwice { name: name(), rank: twice[0].0 });
    }
    let few = |kind| WorkloadError::TooFewRanks { name: name(), kind, ranks: ranks.len() };
    let long = |bytes| WorkloadError::MessageTooLong { name: name(), bytes };
    match &cfg.kind {
        WorkloadKind::Incast { .. } if ranks.len() < 2 => Err(few("incast")),
        WorkloadKind::Incast { message } if message.0 > MESSAGE_BYTES_MAX => Err(long(message.0)),
        WorkloadKind::Incast { .. } => Ok(()),
        WorkloadKind::RingAllReduce { .. } if ranks.len() < 2 => Err(few("ring all-reduce")),
        WorkloadKind::RingAllReduce { per_node, .. } if !whole_nodes(ranks.len(), *per_node) => {
            Err(WorkloadError::Nodes { name: name(), ranks: ranks.len(), per_node: *per_node })
        }
        WorkloadKind::RingAllReduce { chunk, .. } if chunk.0 == 0 => {
            Err(WorkloadError::ChunkZero { name: name() })
        }
        WorkloadKind::RingAllReduce { vector, chunk, per_node, .. } => {
            // The first share is as long as any but the last, which may have up to 3 bytes more.
            let (split, _) = ring_of(ranks.len(), *per_node, vector.0 + 3, chunk.0, 0);
            if split.part_max().min(chunk.0) > MESSAGE_BYTES_MAX {
                return Err(long(chunk.0));
            }
            let steps = 2 * (ranks.len() as u64 / u64::from(*per_node) - 1);
            match u32::try_from(split.chunks_max().saturating_mul(steps)) {
                Ok(_) => Ok(()),
                Err(_) => Err(WorkloadError::TooManyMessages { name: name() }),
            }
        }
        WorkloadKind::Replay(schedule) => {
            let have = (schedule.ranks.len(), cfg.ranks.len());
            if have.0 != have.1 {
                return Err(WorkloadError::RanksDiffer { name: name(), schedule: have.0, ranks: have.1 });
            }
            schedule.check().map_err(|error| WorkloadError::Schedule { name: name(), error })
        }
    }
}

/// The program of one rank. Generated programs compute what an event makes possible from its tag; only a
/// replay keeps its operations (in the shared schedule) and a few bytes of state for each.
#[derive(Debug)]
pub enum Program {
    /// A sender or the receiver of an incast.
    Incast(Incast),
    /// A rank of a ring all-reduce.
    Ring(Ring),
    /// A rank of a schedule.
    Replay(Box<Replay>),
}

impl Program {
    /// The program of rank number `index` of the workload; `None` when it has nothing to do.
    pub(super) fn new(cfg: &WorkloadConfig, index: usize) -> Option<Program> {
        match &cfg.kind {
            WorkloadKind::Incast { message } => Incast::new(cfg, index, message.0).map(Program::Incast),
            WorkloadKind::RingAllReduce { vector, chunk, reduce, per_node } => {
                Ring::new(cfg, index, vector.0, chunk.0, *reduce, *per_node).map(Program::Ring)
            }
            WorkloadKind::Replay(schedule) => {
                Replay::new(cfg, index, schedule).map(|r| Program::Replay(Box::new(r)))
            }
        }
    }

    /// Entries to reserve for ready sends and for computations in progress.
    pub(super) fn capacity(&self) -> (usize, usize) {
        match self {
            Program::Incast(_) => (0, 0),
            Program::Ring(p) => p.capacity(),
            Program::Replay(p) => p.capacity(),
        }
    }

    /// The rank starts its iteration.
    pub(super) fn begin(&mut self, agenda: &mut Agenda, at: Time) {
        match self {
            Program::Incast(p) => p.begin(agenda, at),
            Program::Ring(p) => p.begin(agenda, at),
            Program::Replay(p) => p.begin(agenda, at),
        }
    }

    /// Receiver, bytes and tag of a send.
    pub(super) fn message(&self, op: OpId) -> (RankId, u64, u32) {
        match self {
            Program::Incast(p) => p.message(op),
            Program::Ring(p) => p.message(op),
            Program::Replay(p) => p.message(op),
        }
    }

    /// A send is an RDMA READ by this rank.
    pub(super) fn reads(&self, op: OpId) -> bool {
        match self {
            Program::Incast(p) => p.reads(),
            Program::Ring(_) => false,
            Program::Replay(p) => p.reads(op),
        }
    }

    pub(super) fn on_send_started(&mut self, agenda: &mut Agenda, now: Time, op: OpId) {
        if let Program::Replay(p) = self {
            p.on_started(agenda, now, op);
        }
    }

    pub(super) fn on_send_done(&mut self, agenda: &mut Agenda, now: Time, op: OpId) {
        if let Program::Replay(p) = self {
            p.on_finished(agenda, now, op);
        }
    }

    pub(super) fn on_calc_done(&mut self, agenda: &mut Agenda, at: Time, op: OpId) {
        match self {
            Program::Incast(_) => {}
            Program::Ring(_) => agenda.send(at, op),
            Program::Replay(p) => p.on_calc_done(agenda, at, op),
        }
    }

    /// A message arrived, after the rank's start or before; false when the program has no use for it.
    pub(super) fn on_recv(
        &mut self,
        agenda: &mut Agenda,
        now: Time,
        started: bool,
        peer: RankId,
        tag: u32,
        bytes: u64,
    ) -> bool {
        match self {
            Program::Incast(p) => p.on_recv(agenda, now, started, tag, bytes),
            Program::Ring(p) => p.on_recv(agenda, now, started, peer, tag, bytes),
            Program::Replay(p) => p.on_recv(agenda, now, peer, tag),
        }
    }

    /// Bytes behind pointers.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Program::Incast(_) => 0,
            Program::Ring(p) => p.heap_bytes(),
            Program::Replay(p) => p.heap_bytes(),
        }
    }
}

/// Ordered pairs (sender, receiver) that exchange messages, whoever asks for them, each once: the connections a workload needs.
/// Sorted by the sender's position in the workload, then by that of the receiver.
pub fn pairs(cfg: &WorkloadConfig) -> Vec<(RankId, RankId)> {
    let ranks = &cfg.ranks;
    let Some((last, senders)) = ranks.split_last() else { return Vec::new() };
    if senders.is_empty() {
        return Vec::new();
    }
    match &cfg.kind {
        WorkloadKind::Incast { .. } => senders.iter().map(|s| (*s, *last)).collect(),
        WorkloadKind::RingAllReduce { per_node, .. } => {
            let onward = |i: usize| ranks[(i + *per_node as usize) % ranks.len()];
            (0..ranks.len()).map(|i| (ranks[i], onward(i))).collect()
        }
        WorkloadKind::Replay(schedule) => {
            let mut out: Vec<(u32, u32)> = Vec::new();
            for (rank, ops) in (0u32..).zip(&schedule.ranks) {
                let from = out.len();
                out.extend(ops.iter().filter_map(|op| match op.kind {
                    OpKind::Send { peer, .. } => Some((rank, peer.0)),
                    OpKind::Read { peer, .. } => Some((peer.0, rank)),
                    _ => None,
                }));
                // Few pairs are left of many operations.
                out[from..].sort_unstable();
                let mut kept = out.split_off(from);
                kept.dedup();
                out.append(&mut kept);
            }
            out.sort_unstable();
            out.dedup();
            let run = |r: u32| ranks.get(r as usize).copied();
            out.into_iter().filter_map(|(from, to)| Some((run(from)?, run(to)?))).collect()
        }
    }
}

/// Messages from every sender to every receiver in one iteration, as (sender, receiver, bytes, how many): the
/// message sizes of a pair, each once for generated workloads. Cost: O(ranks), for replays O(operations).
pub fn traffic(cfg: &WorkloadConfig, mut each: impl FnMut(RankId, RankId, u64, u64)) {
    match &cfg.kind {
        WorkloadKind::Incast { message } => {
            pairs(cfg).into_iter().for_each(|(from, to)| each(from, to, message.0, 1));
        }
        WorkloadKind::RingAllReduce { vector, chunk, per_node, .. } => {
            for (index, (from, to)) in pairs(cfg).into_iter().enumerate() {
                let (split, place) = ring_of(cfg.ranks.len(), *per_node, vector.0, chunk.0, index);
                split.sent_by(place, |bytes, count| each(from, to, bytes, count));
            }
        }
        WorkloadKind::Replay(schedule) => {
            for (from, ops) in schedule.ranks.iter().enumerate() {
                for op in ops {
                    let (from, to, bytes) = match op.kind {
                        OpKind::Send { peer, bytes, .. } => (from, peer.0 as usize, bytes),
                        OpKind::Read { peer, bytes, .. } => (peer.0 as usize, from, bytes),
                        _ => continue,
                    };
                    if let (Some(from), Some(to)) = (cfg.ranks.get(from), cfg.ranks.get(to)) {
                        each(*from, *to, bytes, 1);
                    }
                }
            }
        }
    }
}

/// Whether `ranks` are two or more whole nodes.
fn whole_nodes(ranks: usize, per_node: u32) -> bool {
    let g = per_node as usize;
    g > 0 && ranks.is_multiple_of(g) && ranks >= 2 * g
}

/// Payload bytes of one iteration, all ranks together.
pub fn bytes_per_iteration(cfg: &WorkloadConfig) -> u64 {
    let mut sum = 0u64;
    traffic(cfg, |_, _, bytes, count| sum = sum.saturating_add(bytes.saturating_mul(count)));
    sum
}

/// Messages of one iteration, all ranks together.
pub fn messages_per_iteration(cfg: &WorkloadConfig) -> u64 {
    let mut sum = 0u64;
    traffic(cfg, |_, _, _, count| sum = sum.saturating_add(count));
    sum
}

/// Greatest skew a configuration can draw.
pub(super) fn skew_max(skew: Skew, ranks: usize) -> Span {
    match skew {
        Skew::Fixed(step) => Span(step.0.saturating_mul(ranks as u64)),
        Skew::Uniform(span) => span,
    }
}
