//! What a port counts, and what it sees of the way its frames came.

use crate::measure::distribution::{Distribution, Percentiles};
use crate::units::{LinkTiming, Span};

/// Longest delay told apart, nanoseconds.
pub(super) const DELAY_NS_MAX: u64 = 10_000_000_000;

/// What a port counted on top of host and device.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WireStats {
    /// Frames and bytes (with FCS) handed over.
    pub tx_frames: u64,
    pub tx_bytes: u64,
    /// Frames taken from the device, and bytes.
    pub rx_frames: u64,
    pub rx_bytes: u64,
    /// Times the device took less than it was offered.
    pub refused: u64,
    /// PFC frames seen.
    pub pfc_seen: u64,
    /// Longest span from an XOFF to the end of the last frame that was handed over before.
    pub xoff_backlog: Span,
    /// Neighbours answered.
    pub answered: u64,
    /// Frames that are neither RoCEv2 nor PFC nor about neighbours.
    pub other: u64,
    /// Data frames that came without stamps of this run.
    pub unstamped: u64,
    /// Frames lost because the link was down.
    pub lost_down: u64,
    /// Arrivals that the device had stamped.
    pub stamped: u64,
    /// Data frames handed over with a stamp of ours.
    pub tx_stamped: u64,
    /// Frames handed over before their time, for the device to send at it.
    pub tx_paced: u64,
}

/// What a port saw of the way its data frames came: delays by our own stamps, and marks.
#[derive(Debug)]
pub(super) struct Seen {
    /// From being handed over to being taken in, nanoseconds.
    delay_ns: Distribution<u32>,
    /// Bytes of these frames with FCS.
    bytes: u64,
    /// Data frames with CE.
    pub ce: u64,
    /// Data frames that were taken in too late for their delay to say anything about the way.
    pub blurred: u64,
    /// The last delay, and how many have it that are not counted yet: those of a burst often have the same.
    last: (Span, u64),
}

impl WireStats {
    /// Adds what another queue of the port counted.
    pub fn add(&mut self, other: &WireStats) {
        *self = WireStats {
            tx_frames: self.tx_frames + other.tx_frames,
            tx_bytes: self.tx_bytes + other.tx_bytes,
            rx_frames: self.rx_frames + other.rx_frames,
            rx_bytes: self.rx_bytes + other.rx_bytes,
            refused: self.refused + other.refused,
            pfc_seen: self.pfc_seen + other.pfc_seen,
            xoff_backlog: self.xoff_backlog.max(other.xoff_backlog),
            answered: self.answered + other.answered,
            other: self.other + other.other,
            unstamped: self.unstamped + other.unstamped,
            lost_down: self.lost_down + other.lost_down,
            stamped: self.stamped + other.stamped,
            tx_stamped: self.tx_stamped + other.tx_stamped,
            tx_paced: self.tx_paced + other.tx_paced,
        };
    }
}

impl Seen {
    /// Adds what another queue of the port saw.
    pub fn add(&mut self, mut other: Seen) {
        self.settle(Span::ZERO);
        other.settle(Span::ZERO);
        self.delay_ns.merge(&other.delay_ns);
        self.bytes += other.bytes;
        self.ce += other.ce;
        self.blurred += other.blurred;
    }

    pub fn new() -> Seen {
        Seen {
            delay_ns: Distribution::new(DELAY_NS_MAX, 3),
            bytes: 0,
            ce: 0,
            blurred: 0,
            last: (Span::ZERO, 0),
        }
    }

    /// A data frame that took so long; not `sharp`: it may have waited for us.
    #[inline(always)]
    pub fn frame(&mut self, took: Span, sharp: bool, bytes: u64, ce: bool) {
        self.ce += u64::from(ce);
        if sharp {
            if took != self.last.0 {
                self.settle(took);
            }
            self.last.1 += 1;
            self.bytes += bytes;
        } else {
            self.blurred += 1;
        }
    }

    /// Counts those of the last delay; others follow.
    #[inline(never)]
    fn settle(&mut self, next: Span) {
        let (took, n) = std::mem::replace(&mut self.last, (next, 0));
        self.delay_ns.record_n(took.0 / 1_000, n);
    }

    /// Delay by our own stamps.
    pub fn delay_ns(&mut self) -> Percentiles {
        self.settle(Span::ZERO);
        self.delay_ns.percentiles()
    }

    /// Depth of the queue that the frames waited in, as the delay above the least of them says when it drains at the
    /// rate of `timing`: bytes with FCS.
    pub fn queue_bytes(&mut self, timing: &LinkTiming) -> Percentiles {
        let p = self.delay_ns();
        let (Some(least), Some(mean)) = (p.min, (p.n > 0).then(|| self.bytes as f64 / p.n as f64)) else {
            return p;
        };
        let per_ns = timing.rate().bits_per_s as f64 / 8e9 * mean / (mean + 20.0);
        let bytes = |ns: Option<f64>| ns.map(|ns| ((ns - least) * per_ns).round());
        Percentiles {
            n: p.n,
            min: bytes(p.min),
            mean: bytes(p.mean),
            p50: bytes(p.p50),
            p90: bytes(p.p90),
            p95: bytes(p.p95),
            p99: bytes(p.p99),
            p999: bytes(p.p999),
            p9999: bytes(p.p9999),
            max: bytes(p.max),
        }
    }
}
