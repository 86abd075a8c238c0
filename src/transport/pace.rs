//! Pacing: when the next frame of a queue pair may start.
//!
//! Rates count every bit a frame occupies on the wire, preamble and gap included, so the line rate is the
//! rate that never waits. Gaps are kept to 2^-24 ps: a fixed rate is met over any number of frames.

use crate::units::{FRAME_LEN_MIN, FrameLen, Rate, Span, Time, WIRE_OVERHEAD_BYTES};

const FP: u32 = 24;

/// A frame that goes out late may be made up for by at most this much: what a polled port loses between two
/// looks.
const CATCH_UP: Span = Span::from_us(2);

/// Above this gap a queue pair asks for an ACK with every frame, so that its ACK timeout measures the network
/// and not its own slowness.
pub const SLOW_GAP: Span = Span::from_us(10);

/// Rate state of a queue pair: 32 bytes.
#[derive(Debug)]
pub struct Pace {
    /// The next frame may start at this time.
    pub next: Time,
    /// Rate control has something to do at this time (`NEVER` without it).
    pub event: Time,
    /// Picoseconds per byte, 24 fractional bits, or the rate ([`Pace::set_whole_rate`]); 0 = not limited.
    ps_per_byte_fp: u64,
    /// Bytes left until the byte counter of rate control expires.
    pub bytes_left: u32,
    fraction: u32,
}

const _: () = assert!(size_of::<Pace>() == 32);

impl Pace {
    /// No limit but the link.
    pub fn unlimited() -> Pace {
        Pace { next: Time::ZERO, event: Time::NEVER, ps_per_byte_fp: 0, bytes_left: u32::MAX, fraction: 0 }
    }
    /// True when frames are spaced or rate control counts them.
    #[inline]
    pub fn limited(&self) -> bool {
        self.ps_per_byte_fp != 0
    }
    /// Lifts the limit.
    pub fn lift(&mut self) {
        self.ps_per_byte_fp = 0;
    }
    /// Sets the rate of the frames from now on. Rate 0 is taken as 1 bit/s. Cost: one 128-bit division.
    pub fn set_rate(&mut self, rate: Rate) {
        let fp = (8_000_000_000_000u128 << FP) / u128::from(rate.bits_per_s.max(1));
        self.ps_per_byte_fp = u64::try_from(fp).unwrap_or(u64::MAX).max(1);
    }
    /// Accounts for a frame that starts at `now` and returns the span until the next may start after it.
    #[inline]
    pub fn charge(&mut self, now: Time, len: FrameLen) -> Span {
        let bytes = u64::from(len.0.max(FRAME_LEN_MIN) + WIRE_OVERHEAD_BYTES);
        let fp = u128::from(bytes) * u128::from(self.ps_per_byte_fp) + u128::from(self.fraction);
        self.fraction = fp as u32 & ((1 << FP) - 1);
        let gap = Span(u64::try_from(fp >> FP).unwrap_or(u64::MAX));
        self.next = self.next.max(Time(now.0.saturating_sub(CATCH_UP.0))) + gap;
        gap
    }
    /// As [`Pace::set_rate`], for [`Pace::charge_whole_ns`].
    pub fn set_whole_rate(&mut self, rate: Rate) {
        self.ps_per_byte_fp = rate.bits_per_s.max(1);
    }
    /// As [`Pace::charge`] for a frame of `bytes`, all told, with gaps as [`Rate::whole_ns`] and nothing made up for.
    pub fn charge_whole_ns(&mut self, now: Time, bytes: u64) -> Span {
        let gap = Rate { bits_per_s: self.ps_per_byte_fp }.whole_ns(bytes);
        self.next = now + gap;
        gap
    }
    /// Gives up whatever could be made up for: after a cut the new rate holds at once.
    #[inline]
    pub fn forget_lag(&mut self, now: Time) {
        self.next = self.next.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_rate_is_met_exactly() {
        // 33.333333337 Gb/s, 4154 B frames: after n frames the next start is n * 4178 * 8 / rate, to the
        // picosecond.
        let rate = Rate { bits_per_s: 33_333_333_337 };
        let mut p = Pace::unlimited();
        p.set_rate(rate);
        let n = 10_000u64;
        for _ in 0..n {
            p.charge(p.next, FrameLen(4154));
        }
        let exact = rate.time_for(n * 4178);
        assert!(exact.0.abs_diff(p.next.0) <= exact.0 / 1_000_000_000 + 1, "{} vs {}", p.next.0, exact.0);
    }

    #[test]
    fn lateness_is_made_up_for_within_limits() {
        let mut p = Pace::unlimited();
        p.set_rate(Rate::gbps(100));
        p.charge(Time(1_000_000), FrameLen(4154));
        assert_eq!(p.next, Time(334_240), "started 1 us late: the next may start at once");
        p.charge(Time(1_000_000_000), FrameLen(4154));
        assert_eq!(p.next, Time(998_000_000 + 334_240), "a millisecond late is not made up for");
    }
}
