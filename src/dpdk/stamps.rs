//! Clocks of devices, laid against the TSC: times of arrival as devices stamp them, and times at which they are to send.
//!
//! A device counts in a unit of its own. Its clock and the TSC are read together now and then: the newest such pair is the
//! point stamps are reckoned from, and it and the one before give the rate.

use super::{DpdkError, Eal, MbufFrame, text_of};
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

    /// What the device's clock shows at this tick, by [`StampClock::tick_of`] the other way round; `None` while the rate is
    /// not known, and for what was before its zero.
    #[inline]
    pub fn stamp_of(&self, tick: u64) -> Option<u64> {
        let newest = self.newest.filter(|_| self.per > 0.0)?;
        let ahead = tick.wrapping_sub(newest.tick) as i64;
        newest.device.checked_add_signed((ahead as f64 / self.per).round() as i64).filter(|stamp| *stamp != 0)
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

/// Makes room in mbufs for the time at which they are to be sent.
///
/// # Errors
/// DPDK has no room left for it.
pub fn register_send_times(_eal: &Eal) -> Result<(), DpdkError> {
    // SAFETY: EAL runs; no arguments; registers a field of mbufs, once.
    let code = unsafe { dpdk_sys::rs_send_times() };
    (code >= 0).then_some(()).ok_or_else(|| DpdkError::Device {
        device: "every one".into(),
        what: "cannot be told when to send",
        reason: text_of(-code),
    })
}

impl MbufFrame {
    /// Has a device that can do so send the frame at `time` of its own clock, and not before the frames ahead of it; `None`: as
    /// soon as those have left. Frames that were used before may have the time of that use: one of the two is to be said of
    /// every frame such a device gets. Nothing before [`register_send_times`].
    #[inline]
    pub fn set_send_time(&mut self, time: Option<u64>) {
        // SAFETY: a frame owns a valid mbuf, and `&mut self` is its only owner.
        unsafe { dpdk_sys::rs_mbuf_set_send_time(self.mbuf().cast_mut(), time.unwrap_or(0)) };
    }

    /// That time.
    pub fn send_time(&self) -> Option<u64> {
        // SAFETY: a frame owns a valid mbuf, which is only read.
        Some(unsafe { dpdk_sys::rs_mbuf_send_time(self.mbuf()) }).filter(|time| *time != 0)
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
    fn a_time_to_send_at_is_the_stamp_of_that_tick() {
        // 2.5 ticks a unit: a NIC that counts nanoseconds beside a TSC of 2.5 GHz.
        let c = laid(StampSource::Device, &[(1_000_000, 7_000), (11_000_000, 4_007_000)]);
        assert_eq!(c.stamp_of(11_000_000), Some(4_007_000));
        assert_eq!(c.stamp_of(11_012_500), Some(4_012_000), "5 us ahead");
        assert_eq!(c.stamp_of(11_000_000 - 2_500), Some(4_006_000), "already over");
        for ahead in [0u64, 1, 1_249, 12_500, 1_000_000_007] {
            let tick = 11_000_000 + ahead;
            let back = c.stamp_of(tick).and_then(|s| c.tick_of(s)).unwrap();
            assert!(back.abs_diff(tick) <= 2, "{tick} comes back as {back}");
        }
        // A clock of 1 GHz that has run for 30 years, and one of 156.25 MHz.
        let far =
            laid(StampSource::Device, &[(0, 946_080_000_000_000_000), (25_000_000, 946_080_000_010_000_000)]);
        assert_eq!(far.stamp_of(25_012_500), Some(946_080_000_010_005_000), "no digit is lost");
        let slow = laid(StampSource::Device, &[(0, 1_000), (32_000_000, 2_001_000)]);
        assert_eq!(slow.stamp_of(32_000_000 + 16 * 781), Some(2_001_781));
        assert_eq!(laid(StampSource::Device, &[(5, 5)]).stamp_of(9), None, "no rate yet");
        assert_eq!(c.stamp_of(11_000_000 - 10_017_500), None, "before its zero");
    }

    #[test]
    fn without_two_pairs_that_lie_apart_there_is_no_rate() {
        assert_eq!(laid(StampSource::Device, &[(5, 5)]).tick_of(9), None);
        assert_eq!(laid(StampSource::Device, &[(5, 5), (6, 6)]).tick_of(9), None, "too close");
        let back = laid(StampSource::Device, &[(0, 900), (10_000_000, 100)]);
        assert_eq!(back.tick_of(9), None, "set back");
    }
}
