//! What hosts and switches tell the measurement, one call per event. Implementations allocate nothing.

use serde::Serialize;

use super::network::XoffCause;
use crate::frame::FrameMeta;
use crate::units::{ClassIx, RankId, Span, Time};

/// A message that ended, as its sender (or, for `local`, its host) saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MessageRecord {
    /// Workload index.
    pub workload: u16,
    /// Iteration, warm-up included, from 0.
    pub iteration: u32,
    /// Sender.
    pub from: RankId,
    /// Receiver.
    pub to: RankId,
    /// Size.
    pub bytes: u64,
    /// Tag of the schedule.
    pub tag: u32,
    /// When its dependencies were met.
    pub intended: Time,
    /// First bit of its first frame on the wire (equal to `intended` when local).
    pub started: Time,
    /// Last acknowledgement at the sender.
    pub finished: Time,
    /// How it ended.
    pub outcome: Outcome,
    /// Frames sent again.
    pub retransmitted: u32,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All bytes acknowledged.
    Completed,
    /// Delivered inside, both ranks behind one port.
    Local,
    /// The queue pair ran out of retries.
    RetryExceeded,
    /// The responder refused it (NAK invalid request, access or operational error).
    RemoteError,
}

/// A rank's share of one iteration of one workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RankIteration {
    /// Workload index.
    pub workload: u16,
    /// Iteration, warm-up included.
    pub iteration: u32,
    /// The rank.
    pub rank: RankId,
    /// Nominal start of the iteration (before skew).
    pub released: Time,
    /// First bit of this rank's first data frame; `NEVER` when it sent none.
    pub first_byte: Time,
    /// Its last operation finished.
    pub finished: Time,
    /// Picoseconds with nothing to do but wait for data.
    pub waited_ps: u64,
}

/// Receiver of events. Hosts and switches call it; the driver owns it.
pub trait Record {
    /// A data frame reached its host; `meta` as it arrived.
    fn arrival(&mut self, now: Time, meta: &FrameMeta, class: ClassIx);
    /// The frame of the last arrival is of stream number `stream` of the run.
    fn stream(&mut self, _now: Time, _stream: u32, _meta: &FrameMeta) {}
    /// A message ended.
    fn message(&mut self, message: &MessageRecord);
    /// A rank finished an iteration.
    fn rank_iteration(&mut self, it: &RankIteration);
    /// A tester port was paused (`on`) or may send again, for one priority. Refreshes are not reported here.
    fn port_pause(&mut self, now: Time, port: u32, priority: u8, on: bool);
    /// A tester port began to obey a pause at `now`: from the arrival of the PFC frame to the last bit of the last frame
    /// of its priority it took `span`. Not called when no frame of that priority was leaving.
    fn pfc_response(&mut self, _now: Time, _port: u32, _priority: u8, _span: Span) {}
    /// Depth of an egress queue of a switch right after a frame joined it, in bytes.
    fn queue_depth(&mut self, now: Time, switch: u16, port: u16, priority: u8, bytes: u64);
    /// An egress port of a switch was told to pause until `until`; `until = now` lets it go on.
    fn switch_paused(&mut self, _now: Time, _switch: u16, _port: u16, _priority: u8, _until: Time) {}
    /// A switch went to XOFF for one ingress and priority.
    fn xoff(&mut self, _now: Time, _cause: XoffCause) {}
    /// A lossy or lossless frame was dropped by a switch or lost on a link.
    fn drop(&mut self, now: Time, switch: u16, ingress: u16, meta: &FrameMeta, reason: DropReason);
}

/// Why a frame was lost in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// Over the threshold of its priority group or queue.
    Threshold,
    /// Headroom full: a lossless frame was lost.
    Headroom,
    /// The whole buffer is full.
    Buffer,
    /// WRED, frame not ECN capable.
    Wred,
    /// No route to the destination.
    NoRoute,
    /// Not a frame this switch forwards (malformed headers).
    Malformed,
    /// Its time to live was over.
    Loop,
    /// Bound for a queue that the PFC watchdog has given up, or came in beside one.
    Watchdog,
    /// Sent into a link that was down, or on it when it went down.
    LinkDown,
    /// A wrong bit on the link, so a wrong FCS: the next node dropped it.
    BitError,
}

impl DropReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [DropReason; 10] = [
        DropReason::Threshold,
        DropReason::Headroom,
        DropReason::Buffer,
        DropReason::Wred,
        DropReason::NoRoute,
        DropReason::Malformed,
        DropReason::Loop,
        DropReason::Watchdog,
        DropReason::LinkDown,
        DropReason::BitError,
    ];
}

/// Records nothing: for benches and tests of other parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRecord;

impl Record for NoRecord {
    fn arrival(&mut self, _: Time, _: &FrameMeta, _: ClassIx) {}
    fn message(&mut self, _: &MessageRecord) {}
    fn rank_iteration(&mut self, _: &RankIteration) {}
    fn port_pause(&mut self, _: Time, _: u32, _: u8, _: bool) {}
    fn queue_depth(&mut self, _: Time, _: u16, _: u16, _: u8, _: u64) {}
    fn drop(&mut self, _: Time, _: u16, _: u16, _: &FrameMeta, _: DropReason) {}
}
