//! The PFC watchdog of one port: finds queues that a neighbour's pauses hold for too long, and lets go of them.

use super::config::{Watchdog, WatchdogAction};
use super::pfc::bits;
use crate::limits::PRIORITIES;
use crate::units::Time;

/// What a look at a port found. Bit p of every mask is priority p.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Queues that have just been found stuck.
    pub stuck: u8,
    /// Queues that have just been restored.
    pub restored: u8,
}

/// Watchdog state of one port.
#[derive(Debug)]
pub struct Watch {
    config: Watchdog,
    guarded: u8,
    /// Queues found stuck and not restored yet.
    stormed: u8,
    /// Since when a queue is paused with frames waiting, or, once found stuck, not paused any more.
    since: [Time; PRIORITIES],
}

impl Watch {
    /// A watchdog over the lossless queues of a port, a bit each.
    pub fn new(config: Watchdog, guarded: u8) -> Watch {
        Watch { config, guarded, stormed: 0, since: [Time::NEVER; PRIORITIES] }
    }

    /// Queues found stuck and not restored yet.
    pub fn stormed(&self) -> u8 {
        self.stormed
    }
    /// What happens to stuck queues.
    pub fn action(&self) -> WatchdogAction {
        self.config.action
    }

    /// The port at `now`: which priorities are paused and which have frames waiting. To be called whenever either
    /// changes. Returns what was found, and when to look again.
    pub fn look(&mut self, now: Time, paused: u8, waiting: u8) -> (Found, Time) {
        let (mut found, mut next) = (Found::default(), Time::NEVER);
        for p in bits(self.guarded) {
            let (bit, since) = (1 << p, &mut self.since[p]);
            let was_stormed = self.stormed & bit != 0;
            let (counts, span) = match was_stormed {
                true => (paused & bit == 0, self.config.restore),
                false => (paused & waiting & bit != 0, self.config.detect),
            };
            if !counts {
                *since = Time::NEVER;
                continue;
            }
            if *since == Time::NEVER {
                *since = now;
            }
            let due = *since + span;
            if due > now {
                next = next.min(due);
                continue;
            }
            *since = Time::NEVER;
            self.stormed ^= bit;
            match was_stormed {
                true => found.restored |= bit,
                false => found.stuck |= bit,
            }
        }
        (found, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    /// SONiC's usual 200 ms and 200 ms, in microseconds here.
    fn watch() -> Watch {
        let watchdog = Watchdog {
            detect: Span::from_us(200),
            restore: Span::from_us(300),
            action: WatchdogAction::Drop,
        };
        Watch::new(watchdog, 0b1_1000)
    }
    fn us(n: u64) -> Time {
        Time::ZERO + Span::from_us(n)
    }

    #[test]
    fn a_queue_is_stuck_after_the_whole_window_and_any_break_starts_it_again() {
        let mut w = watch();
        let (three, none) = (0b1000, Found::default());
        assert_eq!(w.look(us(0), three, three), (none, us(200)));
        assert_eq!(w.look(us(199), 0, three), (none, Time::NEVER), "the pause ended");
        assert_eq!(w.look(us(200), three, three), (none, us(400)));
        assert_eq!(w.look(us(399), three, three), (none, us(400)), "a refresh changes nothing");
        assert_eq!(w.look(us(400), three, three), (Found { stuck: three, restored: 0 }, Time::NEVER));
        assert_eq!(w.stormed(), three);
        assert_eq!(w.look(us(500), 0, 0), (none, us(800)));
        assert_eq!(w.look(us(600), three, 0), (none, Time::NEVER), "paused again: not quiet for long enough");
        assert_eq!(w.look(us(900), 0, 0), (none, us(1200)));
        assert_eq!(w.look(us(1200), 0, 0), (Found { stuck: 0, restored: three }, Time::NEVER));
        assert_eq!(w.stormed(), 0);
    }

    #[test]
    fn an_empty_queue_or_a_lossy_one_is_never_stuck() {
        let mut w = watch();
        assert_eq!(w.look(us(0), 0b1000, 0), (Found::default(), Time::NEVER), "nothing waits");
        assert_eq!(w.look(us(0), 0b0001, 0b0001), (Found::default(), Time::NEVER), "priority 0 has no PFC");
    }
}
