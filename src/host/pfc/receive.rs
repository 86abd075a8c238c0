//! The receive buffer of a port whose machine takes frames out more slowly than they arrive.
//!
//! Frames wait in order and are handed on when they have been drained whole. The buffer pauses the switch when it holds
//! more than `xoff` bytes and lets it go on at `xon`; what does not fit is lost. Bytes are those of frames with FCS.

use std::collections::VecDeque;

use crate::frame::{FrameMeta, HEAD_MAX};
use crate::host::config::ReceiveConfig;
use crate::measure::record::{DropReason, MessageRecord, RankIteration, Record};
use crate::units::{ClassIx, Span, Time};

/// A frame in the buffer, or taken out of it.
#[derive(Debug)]
pub(in crate::host) struct Held {
    pub(in crate::host) head: [u8; HEAD_MAX],
    pub(in crate::host) meta: FrameMeta,
    pub(in crate::host) arrived: Time,
    /// When it is drained.
    pub(in crate::host) done: Time,
    bytes: u32,
}

/// The buffer.
#[derive(Debug)]
pub(in crate::host) struct Receive {
    config: ReceiveConfig,
    held: VecDeque<Held>,
    occupied: u64,
    /// When everything in it is drained.
    drained: Time,
    pausing: bool,
}

impl Receive {
    pub(in crate::host) fn new(config: ReceiveConfig) -> Receive {
        let held = VecDeque::with_capacity((config.buffer.0 / 64).min(1 << 16) as usize);
        Receive { config, held, occupied: 0, drained: Time::ZERO, pausing: false }
    }

    /// Bytes in it.
    pub(in crate::host) fn occupied(&self) -> u64 {
        self.occupied
    }

    /// When the next frame is drained.
    #[inline]
    pub(in crate::host) fn next(&self) -> Time {
        self.held.front().map_or(Time::NEVER, |h| h.done)
    }

    /// Priorities it pauses.
    pub(in crate::host) fn priorities(&self) -> u8 {
        self.config.priorities
    }

    /// A frame of `bytes` has arrived; false when there is no room for it.
    pub(in crate::host) fn put(
        &mut self,
        now: Time,
        head: &[u8; HEAD_MAX],
        meta: &FrameMeta,
        bytes: u64,
    ) -> bool {
        if self.occupied + bytes > self.config.buffer.0 {
            return false;
        }
        self.occupied += bytes;
        self.drained = self.drained.max(now) + self.config.drain.time_for(bytes);
        self.held.push_back(Held {
            head: *head,
            meta: *meta,
            arrived: now,
            done: self.drained,
            bytes: bytes as u32,
        });
        true
    }

    /// The next frame that is drained by `now`; it is no longer in the buffer.
    pub(in crate::host) fn take(&mut self, now: Time) -> Option<Held> {
        if self.next() > now {
            return None;
        }
        let held = self.held.pop_front()?;
        self.occupied -= u64::from(held.bytes);
        Some(held)
    }

    /// Whether the switch is to be paused from now on (`true`) or let go; `None` when nothing changes.
    pub(in crate::host) fn turn(&mut self) -> Option<bool> {
        let turn = match self.pausing {
            false => self.occupied > self.config.xoff.0,
            true => self.occupied <= self.config.xon.0,
        };
        if turn {
            self.pausing = !self.pausing;
        }
        turn.then_some(self.pausing)
    }
}

/// Frames out of a receive buffer count as arrived when they were on the wire, not when they were drained.
pub(in crate::host) struct AtWire<'r, R> {
    pub(in crate::host) rec: &'r mut R,
    pub(in crate::host) arrived: Time,
}

impl<R: Record> Record for AtWire<'_, R> {
    fn arrival(&mut self, _: Time, meta: &FrameMeta, class: ClassIx) {
        self.rec.arrival(self.arrived, meta, class);
    }
    fn stream(&mut self, _: Time, stream: u32, meta: &FrameMeta) {
        self.rec.stream(self.arrived, stream, meta);
    }
    fn message(&mut self, message: &MessageRecord) {
        self.rec.message(message);
    }
    fn rank_iteration(&mut self, it: &RankIteration) {
        self.rec.rank_iteration(it);
    }
    fn port_pause(&mut self, now: Time, port: u32, priority: u8, on: bool) {
        self.rec.port_pause(now, port, priority, on);
    }
    fn pfc_response(&mut self, now: Time, port: u32, priority: u8, span: Span) {
        self.rec.pfc_response(now, port, priority, span);
    }
    fn queue_depth(&mut self, now: Time, switch: u16, port: u16, priority: u8, bytes: u64) {
        self.rec.queue_depth(now, switch, port, priority, bytes);
    }
    fn drop(&mut self, now: Time, switch: u16, ingress: u16, meta: &FrameMeta, reason: DropReason) {
        self.rec.drop(now, switch, ingress, meta, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Bytes, Rate};

    #[test]
    fn it_drains_at_its_rate_turns_at_its_marks_and_refuses_what_does_not_fit() {
        let config = ReceiveConfig {
            buffer: Bytes(3_500),
            drain: Rate::gbps(8),
            xoff: Bytes(1_500),
            xon: Bytes(1_000),
            priorities: 8,
        };
        let mut r = Receive::new(config);
        let (head, meta) = ([0; HEAD_MAX], FrameMeta::default());
        // 1000 bytes take a microsecond at 8G.
        let put = |r: &mut Receive, ns: u64| (r.put(Time(ns * 1_000), &head, &meta, 1_000), r.turn());
        assert_eq!(put(&mut r, 0), (true, None));
        assert_eq!(put(&mut r, 100), (true, Some(true)), "above xoff");
        assert_eq!(put(&mut r, 200), (true, None));
        assert_eq!((put(&mut r, 300), r.occupied()), ((false, None), 3_000), "full");
        assert!(r.take(Time(999_999)).is_none());
        assert_eq!((r.take(Time(1_000_000)).map(|h| h.done), r.turn()), (Some(Time(1_000_000)), None));
        assert_eq!((r.take(Time(5_000_000)).map(|h| h.done), r.turn()), (Some(Time(2_000_000)), Some(false)));
        assert_eq!((r.take(Time(5_000_000)).map(|h| h.arrived), r.occupied()), (Some(Time(200_000)), 0));
        // Idle time is not saved up.
        assert_eq!((put(&mut r, 9_000).0, r.next()), (true, Time(10_000_000)));
    }
}
