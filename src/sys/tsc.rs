//! The counter that real-time drivers read: the CPU's time stamp counter, calibrated by ourselves.
//!
//! What firmware, kernel messages and DPDK say of its frequency may be rounded (1,494 ppm off on one machine,
//! as DPDK rounds to 10 MHz), which would falsify every rate and latency; so it is measured against
//! `CLOCK_MONOTONIC_RAW`, which no time daemon bends.

use std::time::Duration;

use crate::units::Span;

/// Window for [`Tsc::calibrate`] at the start of a run: errors of about 1 ppm on an idle machine.
pub const CALIBRATION_WINDOW: Duration = Duration::from_millis(80);

/// Brackets tried at either end of a calibration; the tightest counts.
const BRACKETS: usize = 64;
/// Calibrations tried when the scheduler spoils the bracket.
const ATTEMPTS: usize = 3;
/// Largest error of a usable calibration. Ethernet's own oscillators may be 100 ppm off (IEEE 802.3).
const ERROR_PPM_MAX: f64 = 100.0;

/// Why there is no usable counter.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum TscError {
    /// The counter did not advance, or beyond 100 GHz.
    #[error(
        "the time stamp counter advanced {ticks} ticks in {ns} ns: boot with a stable TSC (clocksource=tsc)"
    )]
    NotAClock {
        /// Ticks in the window.
        ticks: u64,
        /// The window in nanoseconds.
        ns: u64,
    },
    /// The machine was too busy to tell the frequency.
    #[error(
        "the TSC frequency is known to {error_ppm:.0} ppm only, as the machine stalled meanwhile: try again"
    )]
    TooCoarse {
        /// Bound of the relative error, parts per million.
        error_ppm: f64,
    },
}

/// The counter now, in ticks. Cost: about 10 ns. Not ordered with the loads and stores around it.
#[inline]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC exists on every x86-64 CPU, and Linux lets user space execute it.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    raw_ns()
}

/// `CLOCK_MONOTONIC_RAW` in nanoseconds.
fn raw_ns() -> u64 {
    u64::try_from(super::clock(libc::CLOCK_MONOTONIC_RAW).as_nanos()).unwrap_or(u64::MAX)
}

/// True when the counter runs at one rate in every power state (CPUID 0x8000_0007, EDX bit 8); true for the
/// kernel clock that stands in for it on other architectures.
pub fn is_invariant() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::__cpuid;
        // SAFETY: CPUID exists on every x86-64 CPU, and the second leaf is only asked for when the first
        // names it.
        #[allow(unused_unsafe)]
        unsafe {
            __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    true
}

/// A calibrated counter: converts its ticks to picoseconds and back in fixed point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tsc {
    hz: f64,
    error_ppm: f64,
    /// Picoseconds per tick, 32 fractional bits.
    ps_per_tick_fp: u64,
    /// Ticks per picosecond, 64 fractional bits.
    ticks_per_ps_fp: u64,
}

/// Counter and clock read together: the clock was `ns` at some moment between `before` and `after`.
#[derive(Clone, Copy)]
struct Bracket {
    before: u64,
    ns: u64,
    after: u64,
}

impl Bracket {
    /// The tightest of several.
    fn read() -> Bracket {
        let one = || {
            let before = ticks();
            let ns = raw_ns();
            Bracket { before, ns, after: ticks() }
        };
        (1..BRACKETS).map(|_| one()).fold(one(), |best, b| if b.width() < best.width() { b } else { best })
    }
    fn width(&self) -> u64 {
        self.after.saturating_sub(self.before)
    }
    fn middle(&self) -> u64 {
        self.before + self.width() / 2
    }
}

/// Counter and clock at one moment, to be looked at again later.
#[derive(Clone, Copy)]
pub struct Watch(Bracket);

impl Watch {
    /// Starts now.
    pub fn start() -> Watch {
        Watch(Bracket::read())
    }

    /// By how much `tsc` has run ahead of `CLOCK_MONOTONIC_RAW` since the start, parts per million, and the bound of the
    /// error of that.
    pub fn drift_ppm(&self, tsc: &Tsc) -> (f64, f64) {
        let (start, end) = (&self.0, Bracket::read());
        let ticks = end.middle().wrapping_sub(start.middle());
        let ns = end.ns.saturating_sub(start.ns).max(1) as f64;
        let doubt = (start.width() + end.width()) as f64 / 2.0 / ticks.max(1) as f64 + 1.0 / ns;
        ((tsc.span(ticks).as_ns_f64() / ns - 1.0) * 1e6, doubt * 1e6)
    }
}

impl Tsc {
    /// Measures the counter over `window` (sleeping; [`CALIBRATION_WINDOW`] is a good one), again when the
    /// result is not known to 100 ppm.
    pub fn calibrate(window: Duration) -> Result<Tsc, TscError> {
        let mut best = Tsc::measure(window)?;
        for _ in 1..ATTEMPTS {
            if best.error_ppm <= ERROR_PPM_MAX {
                break;
            }
            let next = Tsc::measure(window)?;
            if next.error_ppm < best.error_ppm {
                best = next;
            }
        }
        if best.error_ppm > ERROR_PPM_MAX {
            return Err(TscError::TooCoarse { error_ppm: best.error_ppm });
        }
        Ok(best)
    }

    fn measure(window: Duration) -> Result<Tsc, TscError> {
        let start = Bracket::read();
        std::thread::sleep(window);
        let end = Bracket::read();
        let ticks = end.middle().wrapping_sub(start.middle());
        let ns = end.ns.saturating_sub(start.ns);
        // The clock was read anywhere inside either bracket, and counts whole nanoseconds.
        let doubt = (start.width() + end.width()) as f64 / 2.0 / ticks.max(1) as f64 + 1.0 / ns.max(1) as f64;
        Tsc::from_counts(ticks, ns, doubt * 1e6)
    }

    fn from_counts(ticks: u64, ns: u64, error_ppm: f64) -> Result<Tsc, TscError> {
        let not_a_clock = TscError::NotAClock { ticks, ns };
        // 1 kHz .. 100 GHz: both factors fit their words with room to spare.
        if ns == 0 || ticks > ns.saturating_mul(100) || ticks.saturating_mul(1_000_000) < ns {
            return Err(not_a_clock);
        }
        let ps = u128::from(ns) * 1_000;
        let ps_per_tick_fp = u64::try_from((ps << 32) / u128::from(ticks)).map_err(|_| not_a_clock)?;
        let ticks_per_ps_fp = u64::try_from((u128::from(ticks) << 64) / ps).map_err(|_| not_a_clock)?;
        Ok(Tsc { hz: ticks as f64 * 1e9 / ns as f64, error_ppm, ps_per_tick_fp, ticks_per_ps_fp })
    }

    /// Ticks per second, as measured.
    pub fn hz(&self) -> f64 {
        self.hz
    }

    /// Bound of the relative error of [`Tsc::hz`], parts per million.
    pub fn error_ppm(&self) -> f64 {
        self.error_ppm
    }

    /// The span that `ticks` took; exact to 1e-12 of it, saturating at 213 days. Cost: one multiplication.
    #[inline]
    pub fn span(&self, ticks: u64) -> Span {
        let ps = (u128::from(ticks) * u128::from(self.ps_per_tick_fp)) >> 32;
        Span(if ps >> 64 == 0 { ps as u64 } else { u64::MAX })
    }

    /// Whole ticks within `span`, rounded down. Cost: one multiplication.
    #[inline]
    pub fn ticks_in(&self, span: Span) -> u64 {
        ((u128::from(span.0) * u128::from(self.ticks_per_ps_fp)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_hold_over_a_day_at_an_awkward_frequency() {
        // 2,596,122,000 Hz over one second: what one machine's TSC was.
        let tsc = Tsc::from_counts(2_596_122_000, 1_000_000_000, 0.0).unwrap();
        assert_eq!(tsc.hz(), 2_596_122_000.0);
        let day = 86_400_u64;
        let ps = tsc.span(2_596_122_000 * day).0;
        let exact = day * 1_000_000_000_000;
        assert!(exact - ps < exact / 1_000_000_000_000 + 1, "{} ps short in a day", exact - ps);
        // There and back loses less than two ticks, from a nanosecond to a day.
        for span in [Span::from_ns(1), Span::from_us(100), Span::from_ms(7), Span(exact)] {
            let back = tsc.span(tsc.ticks_in(span));
            assert!(span.0 - back.0 < 2 * 386 + exact / 1_000_000_000_000, "{span:?} came back as {back:?}");
        }
        // A slot of 334.24 ns (4096 B at 100G) is 867.7 ticks: the step must not be cut to whole nanoseconds.
        assert_eq!(tsc.ticks_in(Span(334_240)), 867);
        assert_eq!(tsc.span(u64::MAX), Span(u64::MAX), "saturates");
    }

    #[test]
    fn a_counter_in_nanoseconds_is_exact() {
        let ns = Tsc::from_counts(50_000_000, 50_000_000, 0.0).unwrap();
        assert_eq!(ns.span(1_234_567_890), Span(1_234_567_890_000));
        assert!(ns.ticks_in(Span::from_ms(1)).abs_diff(1_000_000) <= 1);
    }

    #[test]
    fn a_watch_tells_a_wrong_calibration() {
        let right = Tsc::calibrate(Duration::from_millis(20)).unwrap();
        let wrong = Tsc::from_counts((right.hz() * 1.001) as u64, 1_000_000_000, 0.0).unwrap();
        let watch = Watch::start();
        std::thread::sleep(Duration::from_millis(30));
        let ((good, doubt), (bad, _)) = (watch.drift_ppm(&right), watch.drift_ppm(&wrong));
        assert!(good.abs() < doubt + right.error_ppm() + 1.0, "{good} ppm, {doubt} of doubt");
        // Ticks that are taken for shorter than they are: 1,000 ppm behind.
        assert!((bad - good + 999.0).abs() < 50.0 + doubt, "{bad} ppm against {good}");
    }

    #[test]
    fn what_is_no_clock_is_refused() {
        assert!(matches!(Tsc::from_counts(0, 50_000_000, 0.0), Err(TscError::NotAClock { .. })));
        assert!(matches!(Tsc::from_counts(1 << 60, 50_000_000, 0.0), Err(TscError::NotAClock { .. })));
        assert!(matches!(Tsc::from_counts(1_000, 0, 0.0), Err(TscError::NotAClock { .. })));
    }

    #[test]
    fn two_calibrations_agree_within_what_they_claim() {
        let a = Tsc::calibrate(Duration::from_millis(50)).unwrap();
        let b = Tsc::calibrate(Duration::from_millis(50)).unwrap();
        let apart_ppm = (a.hz() / b.hz() - 1.0).abs() * 1e6;
        assert!(a.hz() > 1e6, "{a:?}");
        // Half a ppm on top: virtual machines' clocks wander that much between two windows.
        assert!(apart_ppm <= a.error_ppm() + b.error_ppm() + 0.5, "{apart_ppm:.2} ppm apart: {a:?} {b:?}");

        // And against the system's own clock over another window.
        let (t0, wall) = (ticks(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        let (span, wall) = (a.span(ticks() - t0), wall.elapsed());
        let off = (span.as_s_f64() / wall.as_secs_f64() - 1.0).abs();
        assert!(off < 0.01, "{span} by the counter, {wall:?} by the system");
    }
}
