//! Swift: a window that keeps the round-trip delay near a target (Kumar et al., SIGCOMM 2020).
//!
//! One packet at a time is timed per queue pair: it asks for an acknowledgement, and the time until that comes is the
//! sample. Below the target the window grows by `ai` packets per round trip, above it shrinks by `beta` times the
//! excess, at most once per round trip and never by more than `max_mdf`. Below one packet, one packet is sent every
//! round trip over window. All figures stay finite whatever the delays: a pause is a long delay and no more.

use super::rate::SwiftParams;
use crate::units::{Span, Time};
use crate::wire::psn;

/// Names that [`named`] knows.
pub fn names() -> &'static [&'static str] {
    &["htsim", "fabric"]
}

/// The parameters with this name; `None` for an unknown name (see [`names`]).
pub fn named(name: &str) -> Option<SwiftParams> {
    let base = Span::from_us(20);
    let htsim = SwiftParams {
        name: name.to_owned(),
        origin: "csg-htsim (Broadcom), sim/swift.cpp: the paper's algorithm, most constants marked there as guesses; its \
                 initial window of 12 read as packets, its smallest of 10 bytes taken as 0.01 packets"
            .to_owned(),
        base_target: base,
        // base / 6.55
        per_hop: Span::from_ns(3_053),
        ai: 1.0,
        beta: 0.8,
        max_mdf: 0.5,
        fs_range: Span(5 * base.0),
        fs_min_cwnd: 0.1,
        fs_max_cwnd: 100.0,
        cwnd_initial: 12.0,
        cwnd_min: 0.01,
        cwnd_max: 1_000.0,
        retries_to_min: 5,
    };
    Some(match name {
        "htsim" => htsim,
        "fabric" => {
            let base = Span::from_us(5);
            SwiftParams {
                origin: "htsim's constants with a base target of 5 us and 0.75 us per hop, near the round-trip time of a \
                         100G fabric without host delays; ours"
                    .to_owned(),
                base_target: base,
                per_hop: Span::from_ns(750),
                fs_range: Span(5 * base.0),
                ..htsim
            }
        }
        _ => return None,
    })
}

/// Rate state of one queue pair. Touched when a packet is timed and when its acknowledgement comes.
#[derive(Clone, Debug, PartialEq)]
pub struct Swift {
    cwnd: f64,
    /// PSN of the timed packet and when it left; `NEVER` = none is timed.
    sample: (u32, Time),
    /// PSNs before this were acknowledged at the last sample.
    counted: u32,
    /// Smoothed round-trip time; zero before the first sample.
    rtt: Span,
    last_cut: Option<Time>,
    /// Timeouts since the last acknowledgement of a timed packet.
    retries: u32,
}

/// What a queue pair may do now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// Packets in flight, at least 1.
    pub window: u32,
    /// Least span between packets; zero = none.
    pub gap: Span,
}

impl Swift {
    /// The initial window and no sample.
    pub fn new(p: &SwiftParams) -> Swift {
        let cwnd = bounded(p, p.cwnd_initial);
        Swift { cwnd, sample: (0, Time::NEVER), counted: 0, rtt: Span::ZERO, last_cut: None, retries: 0 }
    }

    /// The window in packets.
    pub fn cwnd(&self) -> f64 {
        self.cwnd
    }

    /// The window in whole packets, or below one packet the gap that stands for it.
    pub fn allowance(&self) -> Allowance {
        if self.cwnd >= 1.0 {
            return Allowance { window: self.cwnd as u32, gap: Span::ZERO };
        }
        Allowance { window: 1, gap: Span((self.rtt.0 as f64 / self.cwnd) as u64) }
    }

    /// A packet is being timed.
    pub fn timing(&self) -> bool {
        self.sample.1 != Time::NEVER
    }

    /// Times the packet `psn`, which leaves at `now`; PSNs before `acknowledged` have been acknowledged.
    pub fn stamp(&mut self, now: Time, psn: u32, acknowledged: u32) {
        if self.rtt == Span::ZERO {
            self.counted = acknowledged;
        }
        self.sample = (psn, now);
    }

    /// Everything before `upto` is acknowledged; the acknowledgement crossed `hops` switches. True when the timed packet
    /// was among it and the window is a new one.
    pub fn on_ack(&mut self, p: &SwiftParams, now: Time, upto: u32, hops: u8) -> bool {
        let (timed, since) = self.sample;
        if !self.timing() || psn::diff(upto, timed) <= 0 {
            return false;
        }
        let delay = Span(now.since(since).0.max(1));
        self.rtt = if self.rtt == Span::ZERO { delay } else { Span((7 * self.rtt.0 + delay.0) / 8) };
        let acked = psn::diff(upto, self.counted).max(1);
        self.sample.1 = Time::NEVER;
        (self.counted, self.retries) = (upto, 0);
        let (delay, target) = (delay.0 as f64, self.target(p, hops));
        if delay < target {
            let grown = p.ai * f64::from(acked) / self.cwnd.max(1.0);
            self.cwnd = bounded(p, self.cwnd + grown);
        } else {
            self.cut(p, now, p.beta * (delay - target) / delay);
        }
        true
    }

    /// What is being timed may be sent again and says nothing any more.
    pub fn forget(&mut self) {
        self.sample.1 = Time::NEVER;
    }

    /// A packet is lost, as a NAK or (`timeout`) an acknowledgement that never came says.
    pub fn on_loss(&mut self, p: &SwiftParams, now: Time, timeout: bool) {
        self.forget();
        self.retries += u32::from(timeout);
        if timeout && self.retries >= p.retries_to_min {
            self.cwnd = p.cwnd_min;
        } else {
            self.cut(p, now, p.max_mdf);
        }
    }

    /// Target delay in picoseconds at this window: base, hops, and more for small windows.
    fn target(&self, p: &SwiftParams, hops: u8) -> f64 {
        let of = |w: f64| 1.0 / w.sqrt();
        let range = p.fs_range.0 as f64;
        let span = of(p.fs_min_cwnd) - of(p.fs_max_cwnd);
        let share = if span > 0.0 { (of(self.cwnd) - of(p.fs_max_cwnd)) / span } else { 0.0 };
        p.base_target.0 as f64 + f64::from(hops) * p.per_hop.0 as f64 + range * share.clamp(0.0, 1.0)
    }

    fn cut(&mut self, p: &SwiftParams, now: Time, share: f64) {
        if self.last_cut.is_some_and(|at| now.since(at) < self.rtt) {
            return;
        }
        self.cwnd = bounded(p, self.cwnd * (1.0 - share.min(p.max_mdf)));
        self.last_cut = Some(now);
    }
}

/// Within the limits, which the profile keeps positive.
fn bounded(p: &SwiftParams, cwnd: f64) -> f64 {
    cwnd.min(p.cwnd_max).max(p.cwnd_min)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn params() -> SwiftParams {
        named("htsim").expect("listed")
    }

    fn us(n: u64) -> Time {
        Time(n * 1_000_000)
    }

    /// Times PSN `psn` from `from` to `to` with everything up to it acknowledged.
    fn round(s: &mut Swift, p: &SwiftParams, psn: u32, from: u64, to: u64) {
        s.stamp(us(from), psn, psn);
        assert!(s.on_ack(p, us(to), psn + 1, 1));
    }

    #[test]
    fn below_the_target_the_window_grows_by_ai_per_window_acknowledged() {
        let p = params();
        let mut s = Swift::new(&p);
        s.stamp(us(0), 100, 100);
        assert!(!s.on_ack(&p, us(5), 100, 1), "the timed packet is not among it");
        assert!(s.on_ack(&p, us(10), 112, 1));
        // 12 packets acknowledged at a window of 12: one more.
        assert!((s.cwnd() - 13.0).abs() < 1e-12, "{}", s.cwnd());
        assert_eq!(s.allowance(), Allowance { window: 13, gap: Span::ZERO });
    }

    #[test]
    fn above_the_target_it_shrinks_by_beta_of_the_excess_once_per_round_trip() {
        let p = params();
        let mut s = Swift::new(&p);
        // Target at a window of 12 over one hop: 20 us + 3.053 us + 100 us x (1/sqrt 12 - 1/10) / (1/sqrt 0.1 - 1/10).
        let share = (1.0 / 12f64.sqrt() - 0.1) / (1.0 / 0.1f64.sqrt() - 0.1);
        let target = 20.0 + 3.053 + 100.0 * share;
        round(&mut s, &p, 1, 0, 40);
        let expected = 12.0 * (1.0 - 0.8 * (40.0 - target) / 40.0);
        assert!((s.cwnd() - expected).abs() < 1e-9, "{} {expected}", s.cwnd());
        // 10 us later is within the round-trip time: no second cut.
        round(&mut s, &p, 2, 0, 50);
        assert!((s.cwnd() - expected).abs() < 1e-9);
        // A delay without measure takes half and no more.
        round(&mut s, &p, 3, 100, 1_000_000);
        assert!((s.cwnd() - expected / 2.0).abs() < 1e-9);
    }

    #[test]
    fn below_one_packet_the_gap_is_the_round_trip_time_over_the_window() {
        let p = params();
        let mut s = Swift::new(&p);
        s.rtt = Span::from_us(100);
        s.cwnd = 0.25;
        assert_eq!(s.allowance(), Allowance { window: 1, gap: Span::from_us(400) });
        // Growth there is ai per packet, not per window.
        s.stamp(us(1_000), 7, 7);
        s.counted = 7;
        s.on_ack(&p, us(1_010), 8, 1);
        assert!((s.cwnd() - 1.25).abs() < 1e-12, "{}", s.cwnd());
    }

    #[test]
    fn losses_take_the_largest_cut_and_timeouts_in_a_row_the_minimum() {
        let p = params();
        let mut s = Swift::new(&p);
        s.stamp(us(0), 5, 5);
        s.on_loss(&p, us(1), false);
        assert!(!s.timing(), "a packet that may be sent again is not timed");
        assert!((s.cwnd() - 6.0).abs() < 1e-12);
        (1..=5).for_each(|i| s.on_loss(&p, us(1_000 * i), true));
        assert!((s.cwnd() - p.cwnd_min).abs() < 1e-12);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        /// Whatever the delays, pauses of seconds and acknowledgements in no time included.
        #[test]
        fn the_window_stays_finite_and_within_bounds(
            steps in proptest::collection::vec((0u64..3_000_000_000_000, 0u8..4, 1u32..2_000, 0u8..10), 1..200),
        ) {
            let p = params();
            let mut s = Swift::new(&p);
            let (mut now, mut psn) = (Time::ZERO, 0u32);
            for (delay, call, acked, hops) in steps {
                match call {
                    0 => s.on_loss(&p, now, acked % 2 == 0),
                    _ => {
                        s.stamp(now, psn, psn);
                        now += Span(delay);
                        psn = psn::add(psn, acked);
                        s.on_ack(&p, now, psn, hops);
                    }
                }
                prop_assert!(s.cwnd().is_finite() && (p.cwnd_min..=p.cwnd_max).contains(&s.cwnd()), "{s:?}");
                let a = s.allowance();
                prop_assert!(a.window >= 1 && a.gap.0 <= 300_000_000_000_000, "{a:?}");
            }
        }
    }
}
