//! Where the time of an engine goes: one event of some sixty is timed. Nothing but these figures depends on the clock.

use crate::sys::tsc::ticks;

/// Every so many events one is timed; odd, so that it falls into step with no traffic.
const EVERY: u32 = 241;
/// Events that took longer were interrupted: some 20 us. They are left out.
const TICKS_MAX: u64 = 50_000;

/// What is told apart, in the order of [`Samples::shares`].
pub const PARTS: [&str; 6] =
    ["calendar", "arrivals at switches", "switch ports", "arrivals at hosts", "hosts sending", "other"];

/// One of [`PARTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Calendar,
    SwitchArrival,
    SwitchPort,
    HostArrival,
    HostSend,
    Other,
}

/// Ticks of the timed events.
#[derive(Clone, Copy, Debug)]
pub struct Samples {
    ticks: [u64; PARTS.len()],
    /// Events before the next one that is timed.
    left: u32,
}

impl Default for Samples {
    fn default() -> Samples {
        Samples { ticks: [0; PARTS.len()], left: EVERY - 1 }
    }
}

impl Samples {
    /// Events before the next one that is timed.
    #[inline]
    pub(super) fn untimed(&self) -> u64 {
        self.left.into()
    }

    /// So many of them have passed.
    #[inline]
    pub(super) fn passed(&mut self, events: u64) {
        self.left -= events as u32;
    }

    /// The event has been taken from the calendar at `taken`, and is over now.
    #[cold]
    pub(super) fn end(&mut self, begun: u64, taken: u64, part: Part) {
        self.left = EVERY - 1;
        let now = ticks();
        if now.wrapping_sub(begun) < TICKS_MAX {
            self.ticks[Part::Calendar as usize] += taken.wrapping_sub(begun);
            self.ticks[part as usize] += now.wrapping_sub(taken);
        }
    }

    /// Share of each of [`PARTS`] in the time of all events; `None` when none was timed.
    pub fn shares(&self) -> Option<[f64; PARTS.len()]> {
        let all: u64 = self.ticks.iter().sum();
        (all > 0).then(|| self.ticks.map(|t| t as f64 / all as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_of_many_is_timed_and_interrupted_ones_are_left_out() {
        let mut s = Samples::default();
        assert_eq!(s.shares(), None);
        assert_eq!(s.untimed(), u64::from(EVERY) - 1);
        s.passed(20);
        assert_eq!(s.untimed(), u64::from(EVERY) - 21);
        let now = ticks();
        s.end(now.wrapping_sub(2 * TICKS_MAX), now, Part::HostSend);
        assert_eq!((s.shares(), s.untimed()), (None, u64::from(EVERY) - 1), "interrupted");
        s.end(now, now, Part::HostSend);
        let shares = s.shares().unwrap();
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && shares[Part::HostSend as usize] > 0.99);
    }
}
