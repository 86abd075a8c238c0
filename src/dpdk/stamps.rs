//! Times of arrival as devices stamp them, laid against the TSC.
//!
//! A device counts in a unit of its own. Its clock and the TSC are read together now and then: the newest such pair is the
//! point stamps are reckoned from, and it and the one before give the rate.

use crate::sys::tsc::ticks;

/// Readings per pair, of which the one that took least counts.
const READINGS: usize = 5;
/// Ticks between two pairs that give a rate: half a millisecond at least on any machine.
const APART_MIN: u64 = 2_000_000;

/// Who stamps arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StampSource {
    /// The NIC.
    Device,
    /// The kernel, when it takes the frame from its driver; to the microsecond.
    Kernel,
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
struct Pair {
    tick: u64,
    device: u64,
}

/// A device's clock.
#[derive(Clone, Debug)]
pub(super) struct StampClock {
    source: StampSource,
    port: u16,
    newest: Option<Pair>,
    /// Ticks per unit; 0 while it is not known.
    per: f64,
    /// Half of what the reading of the newest pair took, ticks.
    doubt: u64,
}

impl StampClock {
    pub fn new(source: StampSource, port: u16) -> StampClock {
        StampClock { source, port, newest: None, per: 0.0, doubt: 0 }
    }

    pub fn source(&self) -> StampSource {
        self.source
    }

    /// The device's clock; nanoseconds for the kernel's.
    fn device_now(&self) -> Option<u64> {
        match self.source {
            StampSource::Kernel => {
                let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
                u64::try_from(now.as_nanos()).ok()
            }
            StampSource::Device => {
                let mut now = 0;
                // SAFETY: the port is open, and `now` is written to during the call only.
                (unsafe { dpdk_sys::rs_eth_read_clock(self.port, &mut now) } == 0).then_some(now)
            }
        }
    }

    /// Reads both clocks. False when the device does not tell its own.
    pub fn observe(&mut self) -> bool {
        let mut best: Option<(u64, Pair)> = None;
        for _ in 0..READINGS {
            let before = ticks();
            let Some(device) = self.device_now() else { return false };
            let took = ticks().saturating_sub(before);
            if best.is_none_or(|(least, _)| took < least) {
                best = Some((took, Pair { tick: before + took / 2, device }));
            }
        }
        let Some((took, pair)) = best else { return false };
        self.lay(pair, took / 2);
        true
    }

    fn lay(&mut self, pair: Pair, doubt: u64) {
        if let Some(old) = self.newest {
            let (apart, units) = (pair.tick.saturating_sub(old.tick), pair.device.saturating_sub(old.device));
            if apart < APART_MIN {
                return;
            }
            // A clock that was set back gives no rate until it has gone on.
            self.per = if units == 0 { 0.0 } else { apart as f64 / units as f64 };
        }
        (self.newest, self.doubt) = (Some(pair), doubt);
    }

    /// The tick at which a frame with this stamp arrived; `None` while the rate is not known.
    #[inline]
    pub fn tick_of(&self, stamp: u64) -> Option<u64> {
        let newest = self.newest.filter(|_| self.per > 0.0 && stamp != 0)?;
        let units = match self.source {
            // Microseconds that are over: on average half of one more.
            StampSource::Kernel => stamp.wrapping_mul(1_000).wrapping_add(500),
            StampSource::Device => stamp,
        };
        let ahead = units.wrapping_sub(newest.device) as i64;
        Some(newest.tick.wrapping_add_signed((ahead as f64 * self.per) as i64))
    }

    /// How far [`StampClock::tick_of`] may be off, in ticks.
    pub fn doubt_ticks(&self) -> u64 {
        let rounding = match self.source {
            StampSource::Kernel => (500.0 * self.per) as u64,
            StampSource::Device => self.per as u64,
        };
        self.doubt + rounding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid(source: StampSource, pairs: &[(u64, u64)]) -> StampClock {
        let mut c = StampClock::new(source, 0);
        pairs.iter().for_each(|&(tick, device)| c.lay(Pair { tick, device }, 10));
        c
    }

    #[test]
    fn stamps_are_reckoned_from_the_newest_pair_at_the_rate_between_the_last_two() {
        // 2.5 ticks a unit.
        let c = laid(StampSource::Device, &[(1_000_000, 7_000), (11_000_000, 4_007_000)]);
        assert_eq!(c.tick_of(4_007_000), Some(11_000_000));
        assert_eq!(c.tick_of(4_006_000), Some(11_000_000 - 2_500), "a frame from before the reading");
        assert_eq!(c.tick_of(4_008_000), Some(11_000_000 + 2_500));
        assert_eq!((c.tick_of(0), c.doubt_ticks()), (None, 12), "no stamp, no time");
        // The kernel's microseconds against readings in nanoseconds: 3 ticks a nanosecond.
        let k = laid(StampSource::Kernel, &[(0, 1_000_000), (30_000_000, 11_000_000)]);
        assert_eq!(k.tick_of(11_000), Some(30_000_000 + 1_500));
        assert_eq!(k.doubt_ticks(), 1_510);
    }

    #[test]
    fn without_two_pairs_that_lie_apart_there_is_no_rate() {
        assert_eq!(laid(StampSource::Device, &[(5, 5)]).tick_of(9), None);
        assert_eq!(laid(StampSource::Device, &[(5, 5), (6, 6)]).tick_of(9), None, "too close");
        let back = laid(StampSource::Device, &[(0, 900), (10_000_000, 100)]);
        assert_eq!(back.tick_of(9), None, "set back");
    }
}
