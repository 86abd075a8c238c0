//! Priority flow control (IEEE 802.1Qbb, 802.3 annex 31D) at a tester port: pauses obeyed, and pauses sent on
//! purpose.

use std::collections::VecDeque;

use crate::limits::PRIORITIES;
use crate::measure::record::Record;
use crate::measure::stats::HostStats;
use crate::units::{Rate, Span, Time};

/// Quanta of every XOFF we send.
pub(super) const QUANTA_MAX: u16 = 0xffff;

/// Pauses that others put on us.
#[derive(Debug)]
pub(super) struct Obeyed {
    rate: Rate,
    response: Span,
    /// A pause holds until it is lifted, whatever its quanta.
    pub(super) endless: bool,
    /// Bit p: priority p is paused.
    mask: u16,
    until: [Time; PRIORITIES],
    /// PFC frames that arrived and are not obeyed yet: (from when, priority, quanta), in order of time.
    pending: VecDeque<(Time, u8, u16)>,
    /// Earliest end of a pause or start of obedience.
    next: Time,
}

impl Obeyed {
    pub(super) fn new(rate: Rate, response: Span) -> Obeyed {
        Obeyed {
            rate,
            response,
            endless: false,
            mask: 0,
            until: [Time::NEVER; PRIORITIES],
            pending: VecDeque::with_capacity(64),
            next: Time::NEVER,
        }
    }

    #[inline]
    pub(super) fn mask(&self) -> u16 {
        self.mask
    }

    #[inline]
    pub(super) fn next(&self) -> Time {
        self.next
    }

    /// A PFC frame spoke for a priority. The port obeys it after its response time; its pause time counts
    /// from there.
    pub(super) fn on_pause(
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
    pub(super) fn advance(&mut self, now: Time, stats: &mut HostStats, port: u32, rec: &mut impl Record) {
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
            }
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
    pub(super) fn finish(&mut self, now: Time, port: u32, rec: &mut impl Record) {
        for p in 0..PRIORITIES as u8 {
            self.resume(now, p, port, rec);
        }
    }
}

/// A change of what we pause, at a set time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) at: Time,
    pub(super) priority: u8,
    /// Pause until then (`NEVER` = until released); `None` = release.
    pub(super) pause_until: Option<Time>,
}

/// Pauses we put on the switch, on order of the timeline.
#[derive(Debug)]
pub(super) struct Sent {
    orders: Vec<Order>,
    done: usize,
    refresh: Span,
    state: [Pausing; PRIORITIES],
    /// Bit p: a PFC frame for priority p is to be sent.
    due: u8,
    next: Time,
}

#[derive(Clone, Copy, Debug)]
struct Pausing {
    held: bool,
    until: Time,
    refresh_at: Time,
    /// What the next frame does, for the counters.
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Xoff,
    Refresh,
    Xon,
}

impl Sent {
    /// `orders` in order of time.
    pub(super) fn new(orders: Vec<Order>, rate: Rate) -> Sent {
        let idle = Pausing { held: false, until: Time::NEVER, refresh_at: Time::NEVER, what: What::Xon };
        let next = orders.first().map_or(Time::NEVER, |o| o.at);
        let refresh = Span(rate.quanta(QUANTA_MAX).0 / 2);
        Sent { orders, done: 0, refresh, state: [idle; PRIORITIES], due: 0, next }
    }

    #[inline]
    pub(super) fn due(&self) -> bool {
        self.due != 0
    }

    #[inline]
    pub(super) fn next(&self) -> Time {
        self.next
    }

    #[inline]
    pub(super) fn advance(&mut self, now: Time) {
        if self.next <= now {
            self.catch_up(now);
        }
    }

    fn catch_up(&mut self, now: Time) {
        while let Some(&o) = self.orders.get(self.done).filter(|o| o.at <= now) {
            self.done += 1;
            let s = &mut self.state[usize::from(o.priority & 7)];
            match o.pause_until {
                Some(until) => {
                    s.what = if s.held { What::Refresh } else { What::Xoff };
                    (s.held, s.until) = (true, until);
                    s.refresh_at = o.at + self.refresh;
                }
                None => {
                    *s = Pausing { held: false, until: Time::NEVER, refresh_at: Time::NEVER, what: What::Xon }
                }
            }
            self.due |= 1 << (o.priority & 7);
        }
        for (p, s) in self.state.iter_mut().enumerate().filter(|(_, s)| s.held) {
            if s.until <= now {
                *s = Pausing { held: false, until: Time::NEVER, refresh_at: Time::NEVER, what: What::Xon };
                self.due |= 1 << p;
            } else if s.refresh_at <= now {
                s.refresh_at = now + self.refresh;
                if self.due & (1 << p) == 0 {
                    s.what = What::Refresh;
                }
                self.due |= 1 << p;
            }
        }
        let timers = self.state.iter().map(|s| s.until.min(s.refresh_at)).min();
        let order = self.orders.get(self.done).map_or(Time::NEVER, |o| o.at);
        self.next = timers.unwrap_or(Time::NEVER).min(order);
    }

    /// Priority and quanta of the next PFC frame to send. Changes nothing.
    pub(super) fn frame(&self) -> Option<(u8, u16)> {
        let p = self.due.trailing_zeros() as usize;
        let s = self.state.get(p)?;
        Some((p as u8, if s.what == What::Xon { 0 } else { QUANTA_MAX }))
    }

    /// The frame has been handed over.
    pub(super) fn sent(&mut self, priority: u8, stats: &mut HostStats) {
        self.due &= !(1 << priority);
        let count = &mut stats.pfc[usize::from(priority)];
        match self.state[usize::from(priority)].what {
            What::Xoff => count.xoff_tx += 1,
            What::Refresh => count.refresh_tx += 1,
            What::Xon => count.xon_tx += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pause events in the order they were recorded.
    #[derive(Default)]
    struct Pauses(Vec<(u64, u8, bool)>);

    impl Record for Pauses {
        fn arrival(&mut self, _: Time, _: &crate::frame::FrameMeta, _: crate::units::ClassIx) {}
        fn message(&mut self, _: &crate::measure::record::MessageRecord) {}
        fn rank_iteration(&mut self, _: &crate::measure::record::RankIteration) {}
        fn port_pause(&mut self, now: Time, _: u32, priority: u8, on: bool) {
            self.0.push((now.0, priority, on));
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

    #[test]
    fn pauses_on_order_are_refreshed_until_their_end() {
        let rate = Rate::gbps(100);
        let half = rate.quanta(QUANTA_MAX).0 / 2;
        let end = Time(half * 2 + 5);
        let orders = vec![Order { at: Time(0), priority: 4, pause_until: Some(end) }];
        let (mut p, mut s) = (Sent::new(orders, rate), HostStats::default());
        let mut seen = Vec::new();
        while p.next() != Time::NEVER {
            let now = p.next();
            p.advance(now);
            if let Some((priority, quanta)) = p.frame() {
                seen.push((now.0, priority, quanta));
                p.sent(priority, &mut s);
            }
        }
        assert_eq!(seen, [(0, 4, 0xffff), (half, 4, 0xffff), (2 * half, 4, 0xffff), (end.0, 4, 0)]);
        let c = s.pfc[4];
        assert_eq!((c.xoff_tx, c.refresh_tx, c.xon_tx), (1, 2, 1));
    }
}
