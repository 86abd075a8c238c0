//! The one form every workload lowers to: per rank, a stream of operations with dependencies (the GOAL model:
//! send, recv, calc; "requires" = after finished, "irequires" = after started).

use serde::Serialize;

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

/// An operation with its dependencies on earlier operations of the same rank. At most four of each; an importer that
/// finds more inserts zero-length `Calc` operations.
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
