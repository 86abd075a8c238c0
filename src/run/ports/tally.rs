//! Arrivals of a burst, counted together: frames that were taken in at once often left at once, and one message's were
//! meant for one time.

use crate::frame::FrameMeta;
use crate::measure::record::{DropReason, MessageRecord, RankIteration, Record};
use crate::measure::recorder::{Recorder, Since};
use crate::units::{ClassIx, Span, Time};

/// Arrivals that are not counted yet: all of one class, at one time.
#[derive(Clone, Copy, Debug)]
struct Together {
    now: Time,
    class: ClassIx,
    frames: u64,
    bytes: u64,
    /// The last stamps, and how many frames had come before the first with them.
    start: (Time, u64),
    intended: (Time, u64),
}

const NOTHING: Together = Together {
    now: Time::ZERO,
    class: ClassIx(0),
    frames: 0,
    bytes: 0,
    start: (Time::NEVER, 0),
    intended: (Time::NEVER, 0),
};

/// A recorder that counts like arrivals at once. To be told when a burst is over ([`Tally::settle`]).
pub(super) struct Tally {
    recorder: Recorder,
    each: bool,
    open: Together,
    /// Pauses count: those of a port are the same for all its queues and are those of the first one.
    pub leads: bool,
    /// The end of the run, once it has come: what is taken in after it may count, but nobody is paused any more.
    pub over: Time,
}

impl Tally {
    pub fn new(recorder: Recorder) -> Tally {
        Tally { each: recorder.wants_each(), recorder, open: NOTHING, leads: true, over: Time::NEVER }
    }

    /// Counts what is open.
    #[inline]
    pub fn settle(&mut self) {
        if self.open.frames > 0 {
            self.count();
        }
    }

    #[inline(never)]
    fn count(&mut self) {
        let Together { now, class, frames, bytes, start, intended } =
            std::mem::replace(&mut self.open, NOTHING);
        self.recorder.count_arrivals(now, class, frames, bytes);
        self.recorder.count_latencies(now, class, Since::WireOut(start.0), frames - start.1);
        self.recorder.count_latencies(now, class, Since::Intended(intended.0), frames - intended.1);
    }

    /// The recorder, with everything counted.
    pub fn recorder(&mut self) -> &mut Recorder {
        self.settle();
        &mut self.recorder
    }

    pub fn into_recorder(mut self) -> Recorder {
        self.settle();
        self.recorder
    }

    #[inline(never)]
    fn other_start(&mut self, start: Time) {
        let (before, from) = std::mem::replace(&mut self.open.start, (start, self.open.frames));
        let n = self.open.frames - from;
        self.recorder.count_latencies(self.open.now, self.open.class, Since::WireOut(before), n);
    }

    #[inline(never)]
    fn other_intended(&mut self, intended: Time) {
        let (before, from) = std::mem::replace(&mut self.open.intended, (intended, self.open.frames));
        let n = self.open.frames - from;
        self.recorder.count_latencies(self.open.now, self.open.class, Since::Intended(before), n);
    }
}

impl Record for Tally {
    #[inline(always)]
    fn arrival(&mut self, now: Time, meta: &FrameMeta, class: ClassIx) {
        if self.each {
            return self.recorder.arrival(now, meta, class);
        }
        if (self.open.now, self.open.class) != (now, class) {
            self.settle();
            (self.open.now, self.open.class) = (now, class);
        }
        if meta.start != self.open.start.0 {
            self.other_start(meta.start);
        }
        if meta.intended != self.open.intended.0 {
            self.other_intended(meta.intended);
        }
        let open = &mut self.open;
        open.frames += 1;
        open.bytes += u64::from(meta.len.0) + 4;
    }

    #[inline]
    fn stream(&mut self, now: Time, stream: u32, meta: &FrameMeta) {
        self.recorder.stream(now, stream, meta);
    }
    fn message(&mut self, message: &MessageRecord) {
        self.recorder.message(message);
    }
    fn rank_iteration(&mut self, it: &RankIteration) {
        self.recorder.rank_iteration(it);
    }
    fn port_pause(&mut self, now: Time, port: u32, priority: u8, on: bool) {
        if self.leads {
            self.recorder.port_pause(now.min(self.over), port, priority, on);
        }
    }
    fn pfc_response(&mut self, now: Time, port: u32, priority: u8, span: Span) {
        self.recorder.pfc_response(now, port, priority, span);
    }
    fn queue_depth(&mut self, now: Time, switch: u16, port: u16, priority: u8, bytes: u64) {
        self.recorder.queue_depth(now, switch, port, priority, bytes);
    }
    fn drop(&mut self, now: Time, switch: u16, ingress: u16, meta: &FrameMeta, reason: DropReason) {
        self.recorder.drop(now, switch, ingress, meta, reason);
    }
}
