//! DCQCN: how a sender reacts to congestion notification packets.
//!
//! Two reaction points, told apart by [`DcqcnParams::decrease_period`]: that of the SIGCOMM'15 paper (a cut
//! at every CNP) and the one of the Mellanox firmware as the HPCC simulator models it (CNPs set flags that
//! periodic checks read). Both advance lazily: no timer runs; the state catches up when a frame is about to
//! go or a CNP arrives.

use super::rate::DcqcnParams;
use crate::units::{Rate, Span, Time};

pub use super::dcqcn_sets::{FIRMWARE_BYTES, firmware_gain, named, names, percent_of};

/// Rate state of one queue pair. Touched when a CNP comes or a rate step is due, not with every frame.
#[derive(Clone, Debug, PartialEq)]
pub struct ReactionPoint {
    rate: u64,
    target: u64,
    line: u64,
    alpha: f64,
    /// Last update of alpha, or the CNP that restarted its period; `NEVER` before the first.
    alpha_at: Time,
    /// First CNP ever; periods of the firmware's checks count from it.
    anchor: Time,
    /// Next check that will cut (firmware), `NEVER` while no CNP is noted.
    decrease_at: Time,
    /// Next run of the increase timer, `NEVER` when there is nothing to increase.
    increase_at: Time,
    /// Runs of timer and byte counter since the last cut.
    timer_stage: u32,
    byte_stage: u32,
    /// A CNP came since the last update of alpha (firmware).
    alpha_noted: bool,
}

impl ReactionPoint {
    /// Starts at line rate.
    pub fn new(p: &DcqcnParams, line: Rate) -> ReactionPoint {
        ReactionPoint {
            rate: line.bits_per_s,
            target: line.bits_per_s,
            line: line.bits_per_s,
            alpha: p.alpha_initial,
            alpha_at: Time::NEVER,
            anchor: Time::NEVER,
            decrease_at: Time::NEVER,
            increase_at: Time::NEVER,
            timer_stage: 0,
            byte_stage: 0,
            alpha_noted: false,
        }
    }

    /// Rate of the frames from now on, as of the last call that took a time.
    pub fn rate(&self) -> Rate {
        Rate { bits_per_s: self.rate }
    }
    /// At line rate with nothing left to recover: frames need neither pacing nor counting until the next CNP.
    pub fn saturated(&self) -> bool {
        self.rate == self.line && self.target == self.line
    }
    /// When [`ReactionPoint::advance`] has something to do next; `NEVER` = not before the next CNP.
    pub fn next_event(&self) -> Time {
        self.decrease_at.min(self.increase_at)
    }

    /// The next check that will cut, when no increase comes before it.
    pub fn next_check(&self) -> Time {
        if self.decrease_at < self.increase_at { self.decrease_at } else { Time::NEVER }
    }

    /// Catches up with the time. True when the rate was cut (the byte counter starts again).
    #[inline]
    pub fn advance(&mut self, p: &DcqcnParams, now: Time) -> bool {
        self.next_event() <= now && self.advance_due(p, now)
    }

    #[inline(never)]
    fn advance_due(&mut self, p: &DcqcnParams, now: Time) -> bool {
        let mut cut = false;
        while self.next_event() <= now {
            let tie_cuts = p.ordered.is_none() || p.increase_timer < p.decrease_period;
            if self.decrease_at < self.increase_at || (self.decrease_at == self.increase_at && tie_cuts) {
                let at = self.decrease_at;
                self.decrease_at = Time::NEVER;
                self.update_alpha(p, at);
                self.cut(p, at);
                cut = true;
            } else {
                self.increase_at += p.increase_timer;
                self.timer_stage += 1;
                self.increase(p);
            }
        }
        cut
    }

    /// A CNP arrived. True when the rate was cut on the way.
    pub fn on_cnp(&mut self, p: &DcqcnParams, now: Time) -> bool {
        let cut = self.advance(p, now);
        let first = self.anchor == Time::NEVER;
        if first {
            // The simulator checks a nanosecond after the update of alpha.
            self.anchor = now + p.ordered.map_or(Span::ZERO, |_| Span::from_ns(1));
        }
        if p.decrease_period == Span::ZERO {
            self.decay_alpha(p, now);
            match p.rate_first_cnp.filter(|_| first) {
                Some(rate) => self.set_rate(p, now, rate),
                None => self.cut(p, now),
            }
            self.alpha = (1.0 - p.g) * self.alpha + p.g;
            self.alpha_at = now;
            return true;
        }
        if first {
            self.alpha_at = now;
            self.alpha = p.alpha_initial;
            if let Some(rate) = p.rate_first_cnp {
                self.set_rate(p, now, rate);
            }
        } else {
            // What was scheduled first happens first: an ACK, or the update of alpha a period after the last.
            let ack_first = p.ordered.is_some_and(|ack| p.alpha_period <= ack);
            self.update_alpha(p, Time(now.0.saturating_sub(u64::from(ack_first))));
            self.alpha_noted = true;
        }
        if self.decrease_at == Time::NEVER {
            let periods = now.since(self.anchor).0 / p.decrease_period.0 + 1;
            self.decrease_at = self.anchor + Span(periods.saturating_mul(p.decrease_period.0));
        }
        cut || (first && !self.saturated())
    }

    /// The byte counter expired.
    pub fn on_bytes(&mut self, p: &DcqcnParams) {
        if !self.saturated() {
            self.byte_stage += 1;
            self.increase(p);
        }
    }

    /// Paper: alpha decays for every whole period since the last CNP or update.
    fn decay_alpha(&mut self, p: &DcqcnParams, now: Time) {
        let since = now.since(self.alpha_at);
        if since < p.alpha_period {
            self.alpha = self.alpha.max(p.alpha_min);
            return;
        }
        let periods = since.0.checked_div(p.alpha_period.0).unwrap_or(0);
        self.alpha = (self.alpha * power(1.0 - p.g, periods)).max(p.alpha_min);
        self.alpha_at += Span(periods * p.alpha_period.0);
    }

    /// Firmware: the first period since the last update saw the noted CNP, the others none.
    fn update_alpha(&mut self, p: &DcqcnParams, now: Time) {
        if self.alpha_noted && now.since(self.alpha_at) >= p.alpha_period {
            self.alpha = (1.0 - p.g) * self.alpha + p.g;
            self.alpha_at += p.alpha_period;
            self.alpha_noted = false;
        }
        self.decay_alpha(p, now);
    }

    /// The first CNP sets the rate; the target stays where recovery goes to, as with a cut.
    fn set_rate(&mut self, p: &DcqcnParams, now: Time, rate: Rate) {
        if rate.bits_per_s < self.rate {
            self.rate = rate.bits_per_s.max(p.rate_min.bits_per_s).min(self.line);
            self.recover(p, now);
        }
    }

    fn cut(&mut self, p: &DcqcnParams, now: Time) {
        let raised = self.byte_stage > 0 || p.clamp_after_timer && self.timer_stage > 0;
        if p.clamp_target || raised {
            self.target = self.rate;
        }
        let share = (1.0 - self.alpha / f64::from(p.cut_divisor.max(1))).max(1.0 - p.cut_max);
        let floor = p.rate_min.bits_per_s.min(self.line);
        self.rate = ((self.rate as f64 * share) as u64).max(floor);
        self.recover(p, now);
    }

    /// Recovery begins anew.
    fn recover(&mut self, p: &DcqcnParams, now: Time) {
        (self.timer_stage, self.byte_stage) = (0, 0);
        self.increase_at = if p.increase_timer == Span::ZERO { Time::NEVER } else { now + p.increase_timer };
    }

    /// One step up: fast recovery, additive or hyper increase, by the stages reached.
    fn increase(&mut self, p: &DcqcnParams) {
        let paper = p.decrease_period == Span::ZERO;
        // The paper counts the run that is happening, the firmware only those before it.
        let (t, b) = if paper {
            (self.timer_stage, self.byte_stage)
        } else {
            (self.timer_stage.saturating_sub(1), self.byte_stage.saturating_sub(1))
        };
        let (low, high) = if p.byte_counter == 0 { (t, t) } else { (t.min(b), t.max(b)) };
        if low > p.fast_recovery {
            let steps = if paper { u64::from(low - p.fast_recovery) } else { 1 };
            self.target = self.target.saturating_add(steps.saturating_mul(p.rate_hai.bits_per_s));
        } else if high >= p.fast_recovery {
            self.target = self.target.saturating_add(p.rate_ai.bits_per_s);
        }
        self.target = self.target.min(self.line);
        self.rate = match p.ordered {
            None => (self.rate + self.target).div_ceil(2),
            Some(_) => self.rate / 2 + self.target / 2,
        };
        if self.saturated() {
            self.increase_at = Time::NEVER;
        }
    }
}

/// `base` to the `n`-th power.
fn power(base: f64, n: u64) -> f64 {
    match n {
        0 => 1.0,
        1 => base,
        _ => base.powi(i32::try_from(n).unwrap_or(i32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINE: Rate = Rate::gbps(100);

    fn set(name: &str) -> DcqcnParams {
        named(name, LINE).expect("a known set")
    }

    #[test]
    fn the_first_cnp_halves_the_rate() {
        // Paper: alpha starts at 1, so Rc = Rc (1 - 1/2), at once.
        let p = set("paper");
        let mut r = ReactionPoint::new(&p, LINE);
        assert!(r.on_cnp(&p, Time(7_000)));
        assert_eq!(r.rate(), Rate::gbps(50));
        // Firmware: nothing happens until the check, 4 us later; alpha then has decayed 4 times from 1.
        let p = set("hpcc");
        let mut r = ReactionPoint::new(&p, LINE);
        assert!(!r.on_cnp(&p, Time(7_000)));
        assert_eq!((r.rate(), r.next_event()), (LINE, Time(4_007_000)));
        assert!(r.advance(&p, Time(4_007_000)));
        let expected = 100e9 * (1.0 - (255.0f64 / 256.0).powi(4) / 2.0);
        assert!((r.rate().bits_per_s as f64 - expected).abs() < 2.0, "{}", r.rate());
    }

    #[test]
    fn fast_recovery_halves_the_gap_then_additive_increase_moves_the_target() {
        let p = DcqcnParams { byte_counter: 0, ..set("paper") };
        let mut r = ReactionPoint::new(&p, LINE);
        r.on_cnp(&p, Time::ZERO);
        r.on_cnp(&p, Time(1)); // target 50 G, rate 50 G * (1 - alpha/2) with alpha = 1 (decay and gain cancel)
        assert_eq!((r.target, r.rate), (50_000_000_000, 25_000_000_000));
        let mut gap = 25_000_000_000u64;
        for k in 1..5u64 {
            r.advance(&p, Time(1 + k * p.increase_timer.0));
            gap /= 2;
            assert!((r.target - r.rate).abs_diff(gap) <= 1, "step {k}");
        }
        r.advance(&p, Time(1 + 5 * p.increase_timer.0)); // the fifth run reaches F = 5: additive
        assert_eq!(r.target, 50_000_000_000 + p.rate_ai.bits_per_s);
    }

    #[test]
    fn alpha_decays_by_1_minus_g_per_period_without_cnp() {
        let p = set("paper");
        let mut r = ReactionPoint::new(&p, LINE);
        r.on_cnp(&p, Time::ZERO);
        let quiet = 10;
        r.on_cnp(&p, Time(quiet * p.alpha_period.0));
        let before = (255.0f64 / 256.0).powi(10);
        let after = before * 255.0 / 256.0 + 1.0 / 256.0;
        assert!((r.alpha - after).abs() < 1e-12, "{} {after}", r.alpha);
    }

    #[test]
    fn the_rate_stays_above_the_floor_and_comes_back_to_the_line() {
        for name in names() {
            let p = set(name);
            let mut r = ReactionPoint::new(&p, LINE);
            for i in 0..1000 {
                r.on_cnp(&p, Time(i * 50_000_000));
            }
            assert!(r.rate() >= p.rate_min && r.rate() < Rate::gbps(20), "{name}: {}", r.rate());
            // Byte counters count too: let both run until the line is reached again.
            for i in 0..2_000_000u64 {
                r.advance(&p, Time(1_000_000_000_000 + i * 300_000_000));
                r.on_bytes(&p);
                if r.saturated() {
                    break;
                }
            }
            assert!(r.saturated(), "{name} ends at {}", r.rate());
            assert_eq!(r.next_event(), Time::NEVER, "{name}: nothing left to do at line rate");
        }
    }

    #[test]
    fn without_clamping_the_target_survives_cuts_in_a_row() {
        let p = set("hpcc");
        let mut r = ReactionPoint::new(&p, LINE);
        for i in 0..4 {
            r.on_cnp(&p, Time(i * 4_000_000 + 1));
        }
        r.advance(&p, Time(20_000_000));
        assert_eq!(r.target, LINE.bits_per_s, "no increase came in between");
        let clamped = DcqcnParams { clamp_target: true, ..p.clone() };
        let mut r = ReactionPoint::new(&clamped, LINE);
        for i in 0..4 {
            r.on_cnp(&clamped, Time(i * 4_000_000 + 1));
        }
        r.advance(&clamped, Time(20_000_000));
        assert!(r.target < Rate::gbps(30).bits_per_s);
    }

    #[test]
    fn the_first_cnp_sets_the_rate_and_recovery_goes_back_to_where_it_was() {
        let first = Some(Rate::gbps(10));
        // Firmware: at once, and the check one period later may take up to its largest cut besides.
        let p = DcqcnParams { rate_first_cnp: first, ..set("nvidia-fw") };
        let mut r = ReactionPoint::new(&p, LINE);
        assert!(r.on_cnp(&p, Time(7_000)), "the byte counter starts again");
        assert_eq!((r.rate(), r.target), (Rate::gbps(10), LINE.bits_per_s));
        r.advance(&p, Time(4_007_000));
        let cut = 10e9 * (1.0 - (1019.0f64 / 1024.0).powi(4) / 2.0);
        assert!((r.rate().bits_per_s as f64 - cut).abs() < 2.0, "{}", r.rate());
        r.advance(&p, Time(4_007_000 + p.increase_timer.0));
        let back = (cut + 100e9) / 2.0;
        assert!((r.rate().bits_per_s as f64 - back).abs() < 2.0, "half the way back to the line");
        // Paper: instead of the first cut.
        let p = DcqcnParams { rate_first_cnp: first, ..set("paper") };
        let mut r = ReactionPoint::new(&p, LINE);
        r.on_cnp(&p, Time(7_000));
        assert_eq!(r.rate(), Rate::gbps(10));
    }

    #[test]
    fn cuts_obey_divisor_largest_cut_and_least_alpha() {
        let base = set("paper");
        let after = |p: DcqcnParams, quiet: u64| {
            let mut r = ReactionPoint::new(&p, LINE);
            r.on_cnp(&p, Time::ZERO);
            r.rate = LINE.bits_per_s;
            r.on_cnp(&p, Time(quiet));
            r.rate().bits_per_s as f64 / 1e9
        };
        // Alpha is 1 at both: half, the largest cut, all but the floor.
        assert_eq!(after(base.clone(), 1), 50.0);
        assert_eq!(after(DcqcnParams { cut_max: 0.1, ..base.clone() }, 1), 90.0);
        assert_eq!(after(DcqcnParams { cut_divisor: 1, ..base.clone() }, 1), 0.01);
        // A second of silence leaves the least alpha: a thousandth over 2.
        let second = 1_000_000_000_000;
        assert!((after(DcqcnParams { alpha_min: 0.001, ..base.clone() }, second) - 99.95).abs() < 1e-6);
        assert!((after(base, second) - 100.0).abs() < 1e-6);
    }

    #[test]
    fn without_clamping_a_timer_alone_moves_the_target_only_when_it_may() {
        let target = |clamp_after_timer: bool| {
            let p = DcqcnParams { clamp_target: false, clamp_after_timer, ..set("paper") };
            let mut r = ReactionPoint::new(&p, LINE);
            r.on_cnp(&p, Time::ZERO);
            r.on_cnp(&p, Time(p.increase_timer.0));
            r.target
        };
        assert_eq!(target(true), 75_000_000_000, "50 G raised halfway, then cut");
        assert_eq!(target(false), LINE.bits_per_s);
    }

    /// The same reaction point with every timer run one by one, nanosecond by nanosecond: slow and obvious.
    struct Stepwise {
        r: ReactionPoint,
        ns: u64,
        alpha_timer: Option<u64>,
        check_timer: Option<u64>,
        increase_timer: Option<u64>,
        check_noted: bool,
    }

    impl Stepwise {
        fn run_to(&mut self, p: &DcqcnParams, ns: u64) {
            let (k, d, t) = (p.alpha_period.0 / 1000, p.decrease_period.0 / 1000, p.increase_timer.0 / 1000);
            while self.ns < ns {
                self.ns += 1;
                if self.alpha_timer == Some(self.ns) {
                    self.r.alpha = (self.r.alpha * (1.0 - p.g)).max(p.alpha_min);
                    if self.r.alpha_noted {
                        self.r.alpha += p.g;
                    }
                    self.r.alpha_noted = false;
                    self.alpha_timer = Some(self.ns + k);
                }
                if self.check_timer == Some(self.ns) {
                    self.check_timer = Some(self.ns + d);
                    if std::mem::take(&mut self.check_noted) {
                        self.r.cut(p, Time(self.ns * 1000));
                        self.increase_timer = Some(self.ns + t);
                    }
                }
                if self.increase_timer == Some(self.ns) {
                    self.increase_timer = Some(self.ns + t);
                    self.r.timer_stage += 1;
                    self.r.increase(p);
                }
            }
        }
        fn on_cnp(&mut self, p: &DcqcnParams) {
            let (k, d, t) = (p.alpha_period.0 / 1000, p.decrease_period.0 / 1000, p.increase_timer.0 / 1000);
            if d == 0 {
                self.r.cut(p, Time(self.ns * 1000));
                self.r.alpha = (1.0 - p.g) * self.r.alpha + p.g;
                self.alpha_timer = Some(self.ns + k);
                self.increase_timer = Some(self.ns + t);
                return;
            }
            self.check_noted = true;
            if self.alpha_timer.is_none() {
                self.alpha_timer = Some(self.ns + k);
                self.check_timer = Some(self.ns + d);
                if let Some(rate) = p.rate_first_cnp.filter(|r| r.bits_per_s < self.r.rate) {
                    self.r.rate = rate.bits_per_s;
                    self.increase_timer = Some(self.ns + t);
                }
            } else {
                self.r.alpha_noted = true;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn lazy_advance_equals_stepping_every_timer(
            which in 0..names().len(),
            calls in proptest::collection::vec((1u64..40_000, 0u8..3), 1..40),
        ) {
            let p = set(names()[which]);
            let mut lazy = ReactionPoint::new(&p, LINE);
            let mut slow = Stepwise {
                r: ReactionPoint::new(&p, LINE),
                ns: 0,
                alpha_timer: None,
                check_timer: None,
                increase_timer: None,
                check_noted: false,
            };
            for (wait, call) in calls {
                let ns = slow.ns + wait;
                slow.run_to(&p, ns);
                match call {
                    0 => {
                        slow.on_cnp(&p);
                        lazy.on_cnp(&p, Time(ns * 1000));
                    }
                    1 => {
                        slow.r.on_bytes(&p);
                        lazy.advance(&p, Time(ns * 1000));
                        lazy.on_bytes(&p);
                    }
                    _ => {
                        lazy.advance(&p, Time(ns * 1000));
                    }
                }
                lazy.advance(&p, Time(ns * 1000));
                prop_assert!(lazy.rate.abs_diff(slow.r.rate) <= 1_000, "{} {}", lazy.rate, slow.r.rate);
                prop_assert!(lazy.target.abs_diff(slow.r.target) <= 1_000);
            }
        }
    }
}
