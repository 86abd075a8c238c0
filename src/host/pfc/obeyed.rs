//! Pauses that others put on this port: obeyed after its response time, one priority at a time.

use std::collections::VecDeque;

use crate::limits::PRIORITIES;
use crate::measure::record::Record;
use crate::measure::stats::HostStats;
use crate::units::{FrameLen, LinkTiming, Rate, Span, Time};

/// Bytes of silence between two frames, which belong to neither (IEEE 802.3, 96 bit times).
const GAP_BYTES: u64 = 12;

/// Pauses that others put on us. What every frame asks stands first.
#[derive(Debug)]
#[repr(C)]
pub(in crate::host) struct Obeyed {
    /// Earliest end of a pause or start of obedience.
    next: Time,
    /// Bit p: priority p is paused.
    mask: u16,
    /// A pause holds until it is lifted, whatever its quanta.
    pub(in crate::host) endless: bool,
    /// When the port has sent all it was given.
    free: Time,
    timing: LinkTiming,
    /// End of the last frame of each priority that obeys pauses, gap included.
    ends: [Time; PRIORITIES],
    /// What the gap behind a frame takes.
    gap: Span,
    rate: Rate,
    response: Span,
    until: [Time; PRIORITIES],
    /// PFC frames that arrived and are not obeyed yet: (from when, priority, quanta), in order of time.
    pending: VecDeque<(Time, u8, u16)>,
}

impl Obeyed {
    pub(in crate::host) fn new(rate: Rate, response: Span) -> Obeyed {
        Obeyed {
            rate,
            response,
            endless: false,
            mask: 0,
            until: [Time::NEVER; PRIORITIES],
            pending: VecDeque::with_capacity(64),
            next: Time::NEVER,
            timing: LinkTiming::new(rate, Span::ZERO),
            gap: rate.time_for(GAP_BYTES),
            free: Time::ZERO,
            ends: [Time::ZERO; PRIORITIES],
        }
    }

    /// A frame of a list (a priority, or beyond them for what obeys no pause) was handed over at `now`.
    #[inline]
    pub(in crate::host) fn left(&mut self, now: Time, list: u8, len: FrameLen) {
        self.left_many(now, list, len, 1);
    }

    /// As [`Obeyed::left`] for so many frames of one length.
    #[inline]
    pub(in crate::host) fn left_many(&mut self, now: Time, list: u8, len: FrameLen, frames: u64) {
        self.free = self.free.max(now) + Span(self.timing.wire_time(len).0 * frames);
        if let Some(end) = self.ends.get_mut(usize::from(list)) {
            *end = self.free;
        }
    }

    #[inline]
    pub(in crate::host) fn mask(&self) -> u16 {
        self.mask
    }

    #[inline]
    pub(in crate::host) fn next(&self) -> Time {
        self.next
    }

    /// A PFC frame spoke for a priority. The port obeys it after its response time; its pause time counts
    /// from there.
    pub(in crate::host) fn on_pause(
        &mut self,
        now: Time,
        priority: u8,
        quanta: u16,
        stats: &mut HostStats,
        port: u32,
        rec: &mut impl Record,
    ) {
        self.pending.push_back((now + self.response, priority & 7, quanta));
        self.next = self.next.min(now + self.response);
        self.advance(now, stats, port, rec);
    }

    /// Brings pauses up to date, in order of time.
    #[inline]
    pub(in crate::host) fn advance(
        &mut self,
        now: Time,
        stats: &mut HostStats,
        port: u32,
        rec: &mut impl Record,
    ) {
        while self.next <= now {
            self.step(stats, port, rec);
        }
    }

    /// One end of a pause or one PFC frame, whichever is earlier; a pause that ends when a frame takes effect
    /// ends first, so that the frame opens a new one.
    fn step(&mut self, stats: &mut HostStats, port: u32, rec: &mut impl Record) {
        let (p, end) = self.first_end();
        match self.pending.front() {
            Some(&(at, priority, quanta)) if at < end => {
                self.pending.pop_front();
                self.apply(at, priority, quanta, stats, port, rec);
            }
            _ => self.resume(end, p, port, rec),
        }
        self.next = self.first_end().1.min(self.pending.front().map_or(Time::NEVER, |f| f.0));
    }

    fn first_end(&self) -> (u8, Time) {
        let mut first = (0, Time::NEVER);
        for (p, until) in self.until.iter().enumerate() {
            if *until < first.1 {
                first = (p as u8, *until);
            }
        }
        first
    }

    fn apply(
        &mut self,
        at: Time,
        priority: u8,
        quanta: u16,
        stats: &mut HostStats,
        port: u32,
        rec: &mut impl Record,
    ) {
        let paused = self.mask & (1 << priority) != 0;
        let count = &mut stats.pfc[usize::from(priority)];
        match (quanta, paused) {
            (0, true) => {
                count.xon_rx += 1;
                self.resume(at, priority, port, rec);
            }
            (0, false) => {}
            (_, true) => {
                count.refresh_rx += 1;
                self.until[usize::from(priority)] = self.end_of(at, quanta);
            }
            (_, false) => {
                count.xoff_rx += 1;
                self.until[usize::from(priority)] = self.end_of(at, quanta);
                self.mask |= 1 << priority;
                rec.port_pause(at, port, priority, true);
                self.respond(at, priority, port, rec);
            }
        }
    }

    /// Reports how long after the PFC frame the last frame of its priority ended; nothing when none was leaving.
    fn respond(&self, at: Time, priority: u8, port: u32, rec: &mut impl Record) {
        let arrived = Time(at.0.saturating_sub(self.response.0));
        let end = self.ends[usize::from(priority)];
        let last_bit = Time(end.0.saturating_sub(self.gap.0));
        // By another simulator's rules frames are shorter than ours: there is nothing to compare.
        if last_bit > arrived && !self.endless {
            rec.pfc_response(at, port, priority, last_bit.since(arrived));
        }
    }

    fn end_of(&self, at: Time, quanta: u16) -> Time {
        if self.endless { Time::NEVER } else { at + self.rate.quanta(quanta) }
    }

    fn resume(&mut self, at: Time, priority: u8, port: u32, rec: &mut impl Record) {
        self.until[usize::from(priority)] = Time::NEVER;
        if self.mask & (1 << priority) != 0 {
            self.mask &= !(1 << priority);
            rec.port_pause(at, port, priority, false);
        }
    }

    /// Reports pauses that still hold as over.
    pub(in crate::host) fn finish(&mut self, now: Time, port: u32, rec: &mut impl Record) {
        for p in 0..PRIORITIES as u8 {
            self.resume(now, p, port, rec);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pause events in the order they were recorded.
    #[derive(Default)]
    struct Pauses(Vec<(u64, u8, bool)>, Vec<(u8, u64)>);

    impl Record for Pauses {
        fn arrival(&mut self, _: Time, _: &crate::frame::FrameMeta, _: crate::units::ClassIx) {}
        fn message(&mut self, _: &crate::measure::record::MessageRecord) {}
        fn rank_iteration(&mut self, _: &crate::measure::record::RankIteration) {}
        fn port_pause(&mut self, now: Time, _: u32, priority: u8, on: bool) {
            self.0.push((now.0, priority, on));
        }
        fn pfc_response(&mut self, _: Time, _: u32, priority: u8, span: Span) {
            self.1.push((priority, span.0));
        }
        fn queue_depth(&mut self, _: Time, _: u16, _: u16, _: u8, _: u64) {}
        fn drop(
            &mut self,
            _: Time,
            _: u16,
            _: u16,
            _: &crate::frame::FrameMeta,
            _: crate::measure::record::DropReason,
        ) {
        }
    }

    #[test]
    fn the_response_runs_from_the_frame_to_the_last_bit_of_its_priority() {
        // 1000 bytes with FCS, preamble and gap: 1024 byte times of 80 ps; the last bit leaves 12 byte times earlier.
        let (mut o, mut s) = (Obeyed::new(Rate::gbps(100), Span(2_000)), HostStats::default());
        let mut r = Pauses::default();
        o.left(Time(0), 3, FrameLen(1_000));
        o.on_pause(Time(10_000), 3, 0xffff, &mut s, 0, &mut r);
        o.on_pause(Time(10_000), 4, 0xffff, &mut s, 0, &mut r);
        o.left(Time(81_920), 4, FrameLen(1_000)); // the other one goes on in the response time
        o.advance(Time(12_000), &mut s, 0, &mut r);
        assert_eq!(r.1, [(3, 1_012 * 80 - 10_000), (4, 81_920 + 1_012 * 80 - 10_000)]);
        o.on_pause(Time(500_000), 3, 0, &mut s, 0, &mut r);
        o.on_pause(Time(600_000), 3, 1, &mut s, 0, &mut r);
        o.advance(Time(700_000), &mut s, 0, &mut r);
        assert_eq!(r.1.len(), 2, "nothing was leaving: there is no response to measure");
    }

    #[test]
    fn quanta_expire_to_the_picosecond_and_xon_ends_at_once() {
        // 10 quanta at 100G: 10 x 512 bit times of 10 ps.
        let (mut o, mut s, mut r) =
            (Obeyed::new(Rate::gbps(100), Span::ZERO), HostStats::default(), Pauses::default());
        o.on_pause(Time(1_000), 3, 10, &mut s, 0, &mut r);
        assert_eq!((o.mask(), o.next()), (1 << 3, Time(1_000 + 51_200)));
        o.advance(Time(52_199), &mut s, 0, &mut r);
        assert_eq!(o.mask(), 1 << 3);
        o.advance(Time(60_000), &mut s, 0, &mut r);
        o.on_pause(Time(70_000), 3, 0xffff, &mut s, 0, &mut r);
        o.on_pause(Time(80_000), 3, 0xffff, &mut s, 0, &mut r);
        o.on_pause(Time(90_000), 3, 0, &mut s, 0, &mut r);
        o.on_pause(Time(90_001), 3, 0, &mut s, 0, &mut r);
        assert_eq!(r.0, [(1_000, 3, true), (52_200, 3, false), (70_000, 3, true), (90_000, 3, false)]);
        let c = s.pfc[3];
        assert_eq!((c.xoff_rx, c.refresh_rx, c.xon_rx), (2, 1, 1), "XON without a pause is not one");
    }

    #[test]
    fn obedience_waits_for_the_response_time() {
        let mut o = Obeyed::new(Rate::gbps(100), Span(2_000));
        let (mut s, mut r) = (HostStats::default(), Pauses::default());
        o.on_pause(Time(1_000), 0, 0xffff, &mut s, 0, &mut r);
        assert_eq!((o.mask(), o.next()), (0, Time(3_000)));
        o.on_pause(Time(1_500), 0, 0, &mut s, 0, &mut r);
        o.advance(Time(3_000), &mut s, 0, &mut r);
        assert_eq!((o.mask(), o.next()), (1, Time(3_500)));
        o.advance(Time(4_000), &mut s, 0, &mut r);
        assert_eq!(r.0, [(3_000, 0, true), (3_500, 0, false)]);
    }
}
