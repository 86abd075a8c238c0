//! The one form every workload lowers to: per rank, a stream of operations with dependencies (the GOAL model:
//! send, recv, calc; "requires" = after finished, "irequires" = after started).

use serde::Serialize;

use crate::limits::MESSAGE_BYTES_MAX;
use crate::units::{RankId, Span};

/// Number of an operation within its rank's program, counted from 0 in program order.
pub type OpId = u32;

/// One operation of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum OpKind {
    /// Send a message; finished when the last byte is acknowledged.
    Send {
        /// Receiving rank.
        peer: RankId,
        /// Message size.
        bytes: u64,
        /// Tag that the receiver's `Recv` names; travels on the wire.
        tag: u32,
    },
    /// Fetch a message by RDMA READ; finished when its last byte has arrived. The other rank has nothing to do.
    Read {
        /// Rank that has the data.
        peer: RankId,
        /// Message size.
        bytes: u64,
        /// Tag, for reports.
        tag: u32,
    },
    /// Wait for a message; finished when its last byte has arrived.
    Recv {
        /// Sending rank.
        peer: RankId,
        /// Message size.
        bytes: u64,
        /// Tag.
        tag: u32,
    },
    /// Compute.
    Calc {
        /// How long.
        span: Span,
    },
}

/// An operation with its dependencies on earlier operations of the same rank. At most four of each; an
/// importer that finds more inserts zero-length `Calc` operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Op {
    /// What it does.
    pub kind: OpKind,
    /// Operations that must have finished.
    pub after: arrayvec::ArrayVec<OpId, 4>,
    /// Operations that must have started.
    pub after_start: arrayvec::ArrayVec<OpId, 4>,
}

impl Op {
    /// An operation that may start at once.
    pub fn new(kind: OpKind) -> Op {
        Op { kind, after: arrayvec::ArrayVec::new(), after_start: arrayvec::ArrayVec::new() }
    }
}

/// A whole schedule in memory: imported traces (generated workloads stream instead).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// `ranks[r]` is the program of the schedule's rank r. Dependencies point backwards only.
    pub ranks: Vec<Vec<Op>>,
    /// Where it came from, for reports.
    pub origin: String,
    /// What the importer could not carry over, in the reader's words.
    pub warnings: Vec<String>,
}

/// What makes a schedule impossible to run.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScheduleError {
    /// A dependency on a later operation, or on none.
    #[error(
        "operation {op} of rank {rank} depends on operation {on}: \
         dependencies must point to earlier operations"
    )]
    Dependency {
        /// Rank of the schedule.
        rank: usize,
        /// The operation.
        op: usize,
        /// What it depends on.
        on: OpId,
    },
    /// A peer that is not in the schedule.
    #[error(
        "operation {op} of rank {rank} names rank {peer}: \
         the schedule has ranks 0..{ranks}, and none is its own peer"
    )]
    Peer {
        /// Rank of the schedule.
        rank: usize,
        /// The operation.
        op: usize,
        /// The peer it names.
        peer: u32,
        /// Ranks of the schedule.
        ranks: usize,
    },
    /// A message longer than RDMA can carry.
    #[error(
        "operation {op} of rank {rank} sends {bytes} bytes: \
         one RDMA message carries at most {MESSAGE_BYTES_MAX}"
    )]
    MessageTooLong {
        /// Rank of the schedule.
        rank: usize,
        /// The operation.
        op: usize,
        /// Bytes of the message.
        bytes: u64,
    },
    /// Sends and receives of a pair of ranks and a tag differ in number.
    #[error(
        "rank {from} sends {sends} messages with tag {tag} to rank {to}, \
         which receives {recvs}: one of them would wait for ever"
    )]
    Unmatched {
        /// Sender.
        from: u32,
        /// Receiver.
        to: u32,
        /// Tag.
        tag: u32,
        /// Messages sent.
        sends: u64,
        /// Messages received.
        recvs: u64,
    },
}

impl Schedule {
    /// Checks that the schedule can run to its end: dependencies point backwards, peers exist, every send has
    /// its receive. Cost: O(operations x log).
    pub fn check(&self) -> Result<(), ScheduleError> {
        let ranks = self.ranks.len();
        let mut ends: Vec<(u32, u32, u32, bool)> = Vec::new();
        for (rank, ops) in self.ranks.iter().enumerate() {
            for (i, op) in ops.iter().enumerate() {
                if let Some(on) = op.after.iter().chain(&op.after_start).find(|on| **on as usize >= i) {
                    return Err(ScheduleError::Dependency { rank, op: i, on: *on });
                }
                let (peer, tag, recv) = match op.kind {
                    OpKind::Calc { .. } => continue,
                    OpKind::Send { bytes, .. } | OpKind::Read { bytes, .. } if bytes > MESSAGE_BYTES_MAX => {
                        return Err(ScheduleError::MessageTooLong { rank, op: i, bytes });
                    }
                    OpKind::Send { peer, tag, .. } => (peer.0, tag, Some(false)),
                    OpKind::Read { peer, tag, .. } => (peer.0, tag, None),
                    OpKind::Recv { peer, tag, .. } => (peer.0, tag, Some(true)),
                };
                if peer as usize >= ranks || peer as usize == rank {
                    return Err(ScheduleError::Peer { rank, op: i, peer, ranks });
                }
                let Some(recv) = recv else { continue };
                let (from, to) = if recv { (peer, rank as u32) } else { (rank as u32, peer) };
                ends.push((from, to, tag, recv));
            }
        }
        ends.sort_unstable();
        for same in ends.chunk_by(|a, b| (a.0, a.1, a.2) == (b.0, b.1, b.2)) {
            let recvs = same.iter().filter(|end| end.3).count() as u64;
            let sends = same.len() as u64 - recvs;
            if sends != recvs {
                let (from, to, tag, _) = same[0];
                return Err(ScheduleError::Unmatched { from, to, tag, sends, recvs });
            }
        }
        Ok(())
    }

    /// What the schedule holds. Cost: O(operations).
    pub fn summary(&self) -> Summary {
        let mut summary = Summary { ranks: self.ranks.len(), ..Summary::default() };
        for ops in &self.ranks {
            summary.ops += ops.len() as u64;
            let sizes = ops.iter().filter_map(|op| match op.kind {
                OpKind::Send { bytes, .. } | OpKind::Read { bytes, .. } => Some(bytes),
                _ => None,
            });
            let (messages, bytes) = sizes.fold((0u64, 0u64), |(n, sum), b| (n + 1, sum.saturating_add(b)));
            summary.messages += messages;
            summary.bytes_total = summary.bytes_total.saturating_add(bytes);
            summary.bytes_sent_per_rank.push(bytes);
        }
        summary
    }
}

/// What a schedule holds, for `inspect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Ranks.
    pub ranks: usize,
    /// Operations of all ranks.
    pub ops: u64,
    /// Messages (sends and reads).
    pub messages: u64,
    /// Payload bytes of all messages.
    pub bytes_total: u64,
    /// Payload bytes each rank sends.
    pub bytes_sent_per_rank: Vec<u64>,
}
