//! Units as types: time in picoseconds, rates in bits per second, lengths in bytes, and the small indices every
//! layer shares. Nothing here allocates, reads a clock or knows about packets.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::Serialize;

/// A point in nominal time: picoseconds since the start of the run. Range: 213 days.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize)]
#[serde(transparent)]
pub struct Time(pub u64);

/// A length of nominal time in picoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize)]
#[serde(transparent)]
pub struct Span(pub u64);

impl Time {
    /// The start of the run.
    pub const ZERO: Time = Time(0);
    /// "No deadline": later than every real time.
    pub const NEVER: Time = Time(u64::MAX);

    /// Span since `earlier`; zero when `earlier` is later than `self`.
    #[inline]
    pub fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// Nanoseconds since the start of the run, as a float (for reports only).
    pub fn as_ns_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// A span of `n` nanoseconds.
    pub const fn from_ns(n: u64) -> Span {
        Span(n.saturating_mul(1_000))
    }
    /// A span of `n` microseconds.
    pub const fn from_us(n: u64) -> Span {
        Span(n.saturating_mul(1_000_000))
    }
    /// A span of `n` milliseconds.
    pub const fn from_ms(n: u64) -> Span {
        Span(n.saturating_mul(1_000_000_000))
    }
    /// Nanoseconds as a float (for reports only).
    pub fn as_ns_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }
    /// Seconds as a float (for reports only).
    pub fn as_s_f64(self) -> f64 {
        self.0 as f64 / 1e12
    }
}

impl Add<Span> for Time {
    type Output = Time;
    #[inline]
    fn add(self, s: Span) -> Time {
        Time(self.0.saturating_add(s.0))
    }
}
impl AddAssign<Span> for Time {
    #[inline]
    fn add_assign(&mut self, s: Span) {
        *self = *self + s;
    }
}
impl Add for Span {
    type Output = Span;
    #[inline]
    fn add(self, s: Span) -> Span {
        Span(self.0.saturating_add(s.0))
    }
}
impl AddAssign for Span {
    #[inline]
    fn add_assign(&mut self, s: Span) {
        *self = *self + s;
    }
}
impl Sub for Span {
    type Output = Span;
    #[inline]
    fn sub(self, s: Span) -> Span {
        Span(self.0.saturating_sub(s.0))
    }
}
impl SubAssign for Span {
    #[inline]
    fn sub_assign(&mut self, s: Span) {
        *self = *self - s;
    }
}

impl fmt::Display for Span {
    /// Prints with the unit that keeps 1..1000 before the point: `250 ns`, `10.955 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ps = self.0 as f64;
        let (value, unit) = match self.0 {
            0..=999 => (ps, "ps"),
            1_000..=999_999 => (ps / 1e3, "ns"),
            1_000_000..=999_999_999 => (ps / 1e6, "us"),
            1_000_000_000..=999_999_999_999 => (ps / 1e9, "ms"),
            _ => (ps / 1e12, "s"),
        };
        let text = format!("{value:.3}");
        write!(f, "{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A rate in bits per second, exact to the bit (99.98 % of a line rate and DCQCN steps need it).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize)]
#[serde(transparent)]
pub struct Rate {
    /// Bits per second.
    pub bits_per_s: u64,
}

impl Rate {
    /// `n` Gb/s (10^9 bit/s).
    pub const fn gbps(n: u64) -> Rate {
        Rate { bits_per_s: n * 1_000_000_000 }
    }
    /// `n` Mb/s (10^6 bit/s).
    pub const fn mbps(n: u64) -> Rate {
        Rate { bits_per_s: n * 1_000_000 }
    }
    /// The rate in Gb/s as a float (for reports only).
    pub fn as_gbps_f64(self) -> f64 {
        self.bits_per_s as f64 / 1e9
    }
    /// Time to send `bytes` at this rate, rounded up to a picosecond; `Span(u64::MAX)` at rate zero.
    /// Cost: one 128-bit division, so not for the per-frame path (use [`LinkTiming`]).
    pub fn time_for(self, bytes: u64) -> Span {
        if self.bits_per_s == 0 {
            return Span(u64::MAX);
        }
        let bits = u128::from(bytes) * 8 * 1_000_000_000_000;
        Span(u64::try_from(bits.div_ceil(u128::from(self.bits_per_s))).unwrap_or(u64::MAX))
    }
    /// Time of one PFC quantum (512 bit times, IEEE 802.3 Annex 31B) times `quanta`.
    pub fn quanta(self, quanta: u16) -> Span {
        self.time_for(u64::from(quanta) * 64)
    }
    /// Time of `bytes` in the arithmetic of ns-3: seconds as a double, cut to 2^-64, times 10^9, cut to whole
    /// nanoseconds. What should come to a whole number is one less.
    pub fn whole_ns(self, bytes: u64) -> Span {
        let seconds = bytes as f64 * 8.0 / self.bits_per_s.max(1) as f64;
        let cut = (seconds * 2f64.powi(64)) as u128;
        Span::from_ns(((cut * 1_000_000_000) >> 64) as u64)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let b = self.bits_per_s;
        if b >= 1_000_000_000 {
            write!(f, "{}G", b as f64 / 1e9)
        } else if b >= 1_000_000 {
            write!(f, "{}M", b as f64 / 1e6)
        } else {
            write!(f, "{b} b/s")
        }
    }
}

/// Length of one frame in bytes from the destination MAC to the ICRC, without the FCS (what a capture holds).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct FrameLen(pub u16);

impl FrameLen {
    /// Bytes of the frame in counters: padded to the minimum, FCS included.
    #[inline]
    pub fn counted(self) -> u64 {
        u64::from(self.0.max(FRAME_LEN_MIN)) + 4
    }
}

/// A count of bytes: messages, buffers, counters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// Bytes that Ethernet adds on the wire to a [`FrameLen`]: FCS 4, preamble and SFD 8, minimum gap 12 (IEEE 802.3).
pub const WIRE_OVERHEAD_BYTES: u16 = 24;

/// The smallest [`FrameLen`] on a wire: shorter frames are padded to 60 bytes before the FCS (IEEE 802.3).
pub const FRAME_LEN_MIN: u16 = 60;

/// The only place where bytes become wire time.
///
/// Holds picoseconds per byte with 24 fractional bits: exact for every Ethernet rate up to 800G
/// (80 ps per byte at 100G); for other rates the error stays below 1e-7 of a frame time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkTiming {
    rate: Rate,
    overhead: u16,
    ps_per_byte_fp: u64,
    propagation: Span,
    /// The far end acts on a frame when its header is there.
    cut_through: bool,
}

/// Bytes of a frame that a cut-through switch waits for: enough for every header it looks at, and the shortest frame.
const HEADER_LEN: FrameLen = FrameLen(FRAME_LEN_MIN);

const FP: u32 = 24;

impl LinkTiming {
    /// A link at `rate`; `propagation` is the span from a bit leaving one end to that bit being seen at the other.
    pub fn new(rate: Rate, propagation: Span) -> LinkTiming {
        let bits = (8u128 * 1_000_000_000_000) << FP;
        let fp = bits.checked_div(u128::from(rate.bits_per_s)).unwrap_or(0);
        LinkTiming {
            rate,
            overhead: WIRE_OVERHEAD_BYTES,
            ps_per_byte_fp: u64::try_from(fp).unwrap_or(u64::MAX),
            propagation,
            cut_through: false,
        }
    }
    /// The same link into a switch that forwards a frame as soon as its header is there.
    pub fn cut_through(mut self) -> LinkTiming {
        self.cut_through = true;
        self
    }
    /// Whether it is.
    pub fn cuts_through(&self) -> bool {
        self.cut_through
    }
    /// From the start of a frame on this link to the far end acting on it.
    #[inline]
    pub fn delay(&self, len: FrameLen) -> Span {
        let seen = if self.cut_through { len.min(HEADER_LEN) } else { len };
        self.wire_time(seen) + self.propagation
    }
    /// [`LinkTiming::wire_time`] and [`LinkTiming::delay`] of one frame.
    #[inline]
    pub fn times(&self, len: FrameLen) -> (Span, Span) {
        let wire = self.wire_time(len);
        let delay = if self.cut_through { self.delay(len) } else { wire + self.propagation };
        (wire, delay)
    }
    /// Time the link is occupied by one frame: preamble, frame (padded to 60), FCS and gap.
    #[inline]
    pub fn wire_time(&self, len: FrameLen) -> Span {
        let bytes = u64::from(len.0.max(FRAME_LEN_MIN)) + u64::from(self.overhead);
        Span(((u128::from(bytes) * u128::from(self.ps_per_byte_fp)) >> FP) as u64)
    }
    /// Time of `bytes` at the link's rate with no overhead of ours, as [`Rate::whole_ns`].
    pub fn whole_ns(&self, bytes: u64) -> Span {
        self.rate.whole_ns(bytes)
    }
    /// Nominal rate of the link.
    pub fn rate(&self) -> Rate {
        self.rate
    }
    /// One-way delay of the link, cable and FEC and whatever the far end adds before it acts on a frame.
    pub fn propagation(&self) -> Span {
        self.propagation
    }
    /// The least time between a frame starting on this link and its arrival at the far end.
    pub fn delay_min(&self) -> Span {
        self.wire_time(FrameLen(FRAME_LEN_MIN)) + self.propagation
    }
}

/// A training rank (one emulated accelerator), numbered from 0 over the whole run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize)]
#[serde(transparent)]
pub struct RankId(pub u32);

/// A tester port, numbered from 0 over all hosts of the run; also the fabric's endpoint number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize)]
#[serde(transparent)]
pub struct PortId(pub u32);

/// A traffic class of the profile (`[class.NAME]`), in order of appearance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize)]
#[serde(transparent)]
pub struct ClassIx(pub u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_time_is_exact_at_ethernet_rates() {
        // 4096 B of payload in a MIDDLE frame: 4154 + 24 = 4178 B on the wire (standards: 8 x 4178 / 100G).
        let t = LinkTiming::new(Rate::gbps(100), Span::ZERO);
        assert_eq!(t.wire_time(FrameLen(4154)), Span(334_240));
        assert_eq!(LinkTiming::new(Rate::gbps(400), Span::ZERO).wire_time(FrameLen(4154)), Span(83_560));
        // The shortest frame: 64 B + 20 B = 84 B.
        assert_eq!(t.wire_time(FrameLen(30)), Span(6_720));
    }

    #[test]
    fn whole_nanoseconds_are_cut_not_rounded() {
        // HPCC ns-3: 1048 B take 83.84 ns at 100G and 20.96 ns at 400G; its ACK of 60 B 4.8 ns, its PFC frame of 43 B
        // 3.44 ns.
        let at = |gbps, bytes| LinkTiming::new(Rate::gbps(gbps), Span::ZERO).whole_ns(bytes).0 / 1_000;
        assert_eq!([at(100, 1048), at(400, 1048), at(100, 60), at(100, 43)], [83, 20, 4, 3]);
        // 80 ns and 8,384 ns are no sums of powers of two in seconds, so they are cut from just below.
        assert_eq!((at(100, 1000), at(1, 1048)), (79, 8_383));
    }

    #[test]
    fn quanta_match_the_standard_table() {
        assert_eq!(Rate::gbps(100).quanta(65535).0, 335_539_200);
        assert_eq!(Rate::gbps(10).quanta(1), Span(51_200));
    }

    #[test]
    fn spans_print_with_a_unit() {
        assert_eq!(Span(10_955_000_000).to_string(), "10.955 ms");
        assert_eq!(Span::from_ns(250).to_string(), "250 ns");
    }
}
