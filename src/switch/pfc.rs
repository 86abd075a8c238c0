//! Priority flow control of one port, both directions (IEEE 802.1Qbb; timers as in 802.3 Annex 31B): how long our
//! egress may not send, and what the far end has been told about our ingress.

use crate::limits::PRIORITIES;
use crate::measure::stats::PfcStats;
use crate::units::{Span, Time};
use crate::wire::pfc::PfcFrame;

/// The set bits of a priority mask, lowest first.
#[inline]
pub(crate) fn bits(mut mask: u8) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let p = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(p)
    })
}

/// Flow control state of one port. Bit p of a mask is priority p, as it stands in PFC frames, if nothing else is said.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct PortPfc {
    /// Egress queues that may not send, a bit each.
    paused: u8,
    /// Ingress priorities whose group is in XOFF.
    xoff: u8,
    /// Ingress priorities whose last message to the far end was XOFF.
    told: u8,
    /// Ingress priorities with a message to send.
    pending: u8,
    paused_until: [Time; PRIORITIES],
    refresh_at: [Time; PRIORITIES],
    /// Egress priorities that were asked to be silent.
    silent: u8,
    /// Queue of each priority.
    queue_of: [u8; PRIORITIES],
}

impl PortPfc {
    /// A port that neither waits nor makes anyone wait.
    /// `queue_of`: the queue that each priority stops.
    pub fn new(queue_of: [u8; PRIORITIES]) -> PortPfc {
        let never = [Time::NEVER; PRIORITIES];
        let (paused, xoff, told, pending, silent) = (0, 0, 0, 0, 0);
        PortPfc { paused, xoff, told, pending, paused_until: never, refresh_at: never, silent, queue_of }
    }

    /// Queues of the priorities that were asked to be silent.
    fn stop_queues(&mut self) {
        self.paused = bits(self.silent).fold(0, |mask, p| mask | 1 << self.queue_of[p]);
    }

    /// Egress queues that may not send, a bit each.
    #[inline]
    pub fn paused(&self) -> u8 {
        self.paused
    }
    /// Ingress priorities with a message to send.
    #[inline]
    pub fn pending(&self) -> u8 {
        self.pending
    }
    /// The far end asked this priority to be silent for `pause` (zero: to go on). A new pause replaces the old one.
    pub fn receive(&mut self, now: Time, priority: usize, pause: Span, stats: &mut PfcStats) {
        let bit = 1 << priority;
        let was_paused = self.silent & bit != 0 && self.paused_until[priority] > now;
        match (pause == Span::ZERO, was_paused) {
            (true, true) => stats.xon_rx += 1,
            (true, false) => {}
            (false, true) => stats.refresh_rx += 1,
            (false, false) => stats.xoff_rx += 1,
        }
        if pause == Span::ZERO {
            self.silent &= !bit;
        } else {
            self.silent |= bit;
            self.paused_until[priority] = now + pause;
        }
        self.stop_queues();
    }

    /// Ends the pauses whose time is over. Among the `waiting` queues, the first end still to come.
    #[inline]
    pub fn expire(&mut self, now: Time, waiting: u8) -> Time {
        let (mut next, before) = (Time::NEVER, self.silent);
        for p in bits(self.silent) {
            if self.paused_until[p] <= now {
                self.silent &= !(1 << p);
            } else if waiting & (1 << self.queue_of[p]) != 0 {
                next = next.min(self.paused_until[p]);
            }
        }
        if self.silent != before {
            self.stop_queues();
        }
        next
    }

    /// A group of this port went to XOFF. Returns when its refresh is due: an XON that never left is simply
    /// withdrawn, and the pause that the far end still keeps goes on.
    pub fn set_xoff(&mut self, priority: usize) -> Time {
        let bit = 1 << priority;
        self.xoff |= bit;
        if self.told & bit == 0 {
            self.pending |= bit;
            Time::NEVER
        } else {
            self.pending &= !bit;
            self.refresh_at[priority]
        }
    }

    /// A group of this port went to XON. An XOFF that never left is simply withdrawn.
    pub fn set_xon(&mut self, priority: usize) {
        let bit = 1 << priority;
        self.xoff &= !bit;
        self.pending = (self.pending & !bit) | (self.told & bit);
    }

    /// The link was down: neither end knows of a pause any more, and what is in XOFF has to be said anew.
    pub fn forget(&mut self) {
        (self.paused, self.silent) = (0, 0);
        self.told = 0;
        self.pending = self.xoff;
    }

    /// Ingress priorities that are in XOFF and whose far end was told so.
    pub fn holds_back(&self) -> u8 {
        self.xoff & self.told
    }

    /// Priorities whose XOFF has to be said again by `now`, and when the next one after them is due.
    pub fn due(&self, now: Time) -> (u8, Time) {
        let (mut due, mut next) = (0, Time::NEVER);
        for p in bits(self.told & self.xoff & !self.pending) {
            if self.refresh_at[p] <= now {
                due |= 1 << p;
            } else {
                next = next.min(self.refresh_at[p]);
            }
        }
        (due, next)
    }

    /// Queues a refresh.
    pub fn refresh(&mut self, priority: usize) {
        self.pending |= 1 << priority;
    }

    /// Takes everything there is to say at `now`: XOFF with `quanta`, again at the latest after `refresh`. Returns the
    /// message and when its first refresh is due.
    pub fn take_message(
        &mut self,
        now: Time,
        quanta: u16,
        refresh: Span,
        stats: &mut [PfcStats; PRIORITIES],
    ) -> (PfcFrame, Time) {
        let mut message = PfcFrame { enable: self.pending, ..PfcFrame::default() };
        let mut due = Time::NEVER;
        for p in bits(self.pending) {
            let bit = 1 << p;
            if self.xoff & bit == 0 {
                stats[p].xon_tx += 1;
                self.told &= !bit;
                continue;
            }
            if self.told & bit == 0 {
                stats[p].xoff_tx += 1;
            } else {
                stats[p].refresh_tx += 1;
            }
            self.told |= bit;
            message.quanta[p] = quanta;
            self.refresh_at[p] = now + refresh;
            due = self.refresh_at[p];
        }
        self.pending = 0;
        (message, due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: [u8; PRIORITIES] = [0, 1, 2, 3, 4, 5, 6, 7];

    #[test]
    fn a_queue_of_two_priorities_waits_for_both() {
        let (mut pfc, mut s) = (PortPfc::new([0, 1, 2, 3, 3, 5, 6, 7]), PfcStats::default());
        pfc.receive(Time(0), 3, Span(100), &mut s);
        pfc.receive(Time(10), 4, Span(200), &mut s);
        assert_eq!(pfc.paused(), 0b1000);
        pfc.receive(Time(20), 3, Span::ZERO, &mut s);
        assert_eq!(pfc.paused(), 0b1000, "priority 4 still holds queue 3");
        assert_eq!((pfc.expire(Time(210), 0xff), pfc.paused()), (Time::NEVER, 0));
    }

    #[test]
    fn a_pause_is_replaced_ends_by_itself_and_is_counted_apart() {
        let (mut pfc, mut s) = (PortPfc::new(SAME), PfcStats::default());
        pfc.receive(Time(0), 3, Span(100), &mut s);
        pfc.receive(Time(50), 3, Span(100), &mut s); // refresh: now until 150
        assert_eq!((pfc.expire(Time(100), 0xff), pfc.paused()), (Time(150), 0b1000));
        assert_eq!((pfc.expire(Time(150), 0xff), pfc.paused()), (Time::NEVER, 0));
        pfc.receive(Time(200), 3, Span::ZERO, &mut s); // not paused: says nothing
        pfc.receive(Time(300), 3, Span(100), &mut s);
        pfc.receive(Time(350), 3, Span::ZERO, &mut s);
        assert_eq!(pfc.paused(), 0);
        assert_eq!((s.xoff_rx, s.refresh_rx, s.xon_rx), (2, 1, 1));
    }

    #[test]
    fn messages_that_never_left_are_withdrawn() {
        let (mut pfc, mut s) = (PortPfc::new(SAME), [PfcStats::default(); PRIORITIES]);
        pfc.set_xoff(3);
        pfc.set_xon(3);
        assert_eq!(pfc.pending(), 0, "the far end never heard of it");
        pfc.set_xoff(3);
        let (m, due) = pfc.take_message(Time(10), 0xffff, Span(50), &mut s);
        assert_eq!((m.enable, m.quanta[3], due), (0b1000, 0xffff, Time(60)));
        pfc.set_xon(3);
        assert_eq!(pfc.set_xoff(3), Time(60), "the old pause still runs and needs its refresh");
        assert_eq!((pfc.pending(), pfc.due(Time(59)), pfc.due(Time(60)).0), (0, (0, Time(60)), 0b1000));
        pfc.refresh(3);
        pfc.set_xoff(4);
        let (m, _) = pfc.take_message(Time(60), 0xffff, Span(50), &mut s);
        assert_eq!(m.enable, 0b11000, "one frame speaks for all priorities");
        pfc.set_xon(3);
        let (m, due) = pfc.take_message(Time(70), 0xffff, Span(50), &mut s);
        assert_eq!((m.enable, m.quanta[3], due), (0b1000, 0, Time::NEVER));
        assert_eq!((s[3].xoff_tx, s[3].refresh_tx, s[3].xon_tx, s[4].xoff_tx), (1, 1, 1, 1));
    }
}
