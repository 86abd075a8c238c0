//! Pauses we put on the switch.

use super::QUANTA_MAX;
use super::trains::Trains;
use crate::limits::PRIORITIES;
use crate::measure::stats::HostStats;
use crate::units::{Rate, Span, Time};
use crate::wire::pfc::{Form, PfcFrame};
use crate::workload::config::PfcTrain;

/// A change of what we pause, at a set time.
#[derive(Clone, Copy, Debug)]
pub(in crate::host) struct Order {
    pub(in crate::host) at: Time,
    pub(in crate::host) priority: u8,
    /// Pause until then (`NEVER` = until released); `None` = release.
    pub(in crate::host) pause_until: Option<Time>,
}

/// Pauses we put on the switch: on order, or as trains of frames.
#[derive(Debug)]
pub(in crate::host) struct Sent {
    orders: Vec<Order>,
    done: usize,
    refresh: Span,
    state: [Pausing; PRIORITIES],
    /// Bit p: a PFC frame for priority p is to be sent.
    due: u8,
    next: Time,
    trains: Trains,
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
    pub(in crate::host) fn new(orders: Vec<Order>, trains: Vec<(Time, PfcTrain)>, rate: Rate) -> Sent {
        let idle = Pausing { held: false, until: Time::NEVER, refresh_at: Time::NEVER, what: What::Xon };
        let next = orders.first().map_or(Time::NEVER, |o| o.at);
        let refresh = Span(rate.quanta(QUANTA_MAX).0 / 2);
        Sent {
            orders,
            done: 0,
            refresh,
            state: [idle; PRIORITIES],
            due: 0,
            next,
            trains: Trains::new(trains, rate),
        }
    }

    #[inline]
    pub(in crate::host) fn due(&self) -> bool {
        self.due != 0 || self.trains.due()
    }

    #[inline]
    pub(in crate::host) fn next(&self) -> Time {
        self.next.min(self.trains.next())
    }

    #[inline]
    pub(in crate::host) fn advance(&mut self, now: Time) {
        if self.next <= now {
            self.catch_up(now);
        }
        self.trains.advance(now);
    }

    /// Pauses the switch for these priorities from now on, or lets it go on.
    pub(in crate::host) fn hold(&mut self, now: Time, priorities: u8, on: bool) {
        for priority in (0..PRIORITIES as u8).filter(|p| priorities & (1 << p) != 0) {
            self.order(&Order { at: now, priority, pause_until: on.then_some(Time::NEVER) });
        }
        self.look();
    }

    fn order(&mut self, o: &Order) {
        let s = &mut self.state[usize::from(o.priority & 7)];
        match o.pause_until {
            Some(until) => {
                s.what = if s.held { What::Refresh } else { What::Xoff };
                (s.held, s.until) = (true, until);
                s.refresh_at = o.at + self.refresh;
            }
            None => {
                *s = Pausing { held: false, until: Time::NEVER, refresh_at: Time::NEVER, what: What::Xon };
            }
        }
        self.due |= 1 << (o.priority & 7);
    }

    fn look(&mut self) {
        let timers = self.state.iter().map(|s| s.until.min(s.refresh_at)).min();
        let order = self.orders.get(self.done).map_or(Time::NEVER, |o| o.at);
        self.next = timers.unwrap_or(Time::NEVER).min(order);
    }

    fn catch_up(&mut self, now: Time) {
        while let Some(&o) = self.orders.get(self.done).filter(|o| o.at <= now) {
            self.done += 1;
            self.order(&o);
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
        self.look();
    }

    /// The next PFC frame to send and how it is written. One frame speaks for all priorities that are due. Changes
    /// nothing.
    pub(in crate::host) fn frame(&self) -> Option<(PfcFrame, Form)> {
        if self.due == 0 {
            return self.trains.frame();
        }
        let mut frame = PfcFrame { enable: self.due, ..PfcFrame::default() };
        for (p, quanta) in frame.quanta.iter_mut().enumerate() {
            if self.due & (1 << p) != 0 && self.state[p].what != What::Xon {
                *quanta = QUANTA_MAX;
            }
        }
        Some((frame, Form::Valid))
    }

    /// The frame was handed over at `now`.
    pub(in crate::host) fn sent(&mut self, now: Time, stats: &mut HostStats) {
        if self.due == 0 {
            return self.trains.sent(now, stats);
        }
        for p in (0..PRIORITIES).filter(|p| self.due & (1 << p) != 0) {
            let count = &mut stats.pfc[p];
            match self.state[p].what {
                What::Xoff => count.xoff_tx += 1,
                What::Refresh => count.refresh_tx += 1,
                What::Xon => count.xon_tx += 1,
            }
        }
        self.due = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_on_order_are_refreshed_until_their_end() {
        let rate = Rate::gbps(100);
        let half = rate.quanta(QUANTA_MAX).0 / 2;
        let end = Time(half * 2 + 5);
        let orders = vec![Order { at: Time(0), priority: 4, pause_until: Some(end) }];
        let (mut p, mut s) = (Sent::new(orders, Vec::new(), rate), HostStats::default());
        let mut seen = Vec::new();
        while p.next() != Time::NEVER {
            let now = p.next();
            p.advance(now);
            if let Some((frame, _)) = p.frame() {
                seen.push((now.0, frame.enable, frame.quanta[4]));
                p.sent(now, &mut s);
            }
        }
        assert_eq!(seen, [(0, 16, 0xffff), (half, 16, 0xffff), (2 * half, 16, 0xffff), (end.0, 16, 0)]);
        let c = s.pfc[4];
        assert_eq!((c.xoff_tx, c.refresh_tx, c.xon_tx), (1, 2, 1));
    }
}
