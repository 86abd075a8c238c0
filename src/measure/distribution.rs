//! Distributions: histograms with exact ends, and the percentiles that a number of samples can carry.

use hdrhistogram::{Counter, Histogram};
use serde::{Deserialize, Serialize};

use crate::hint::prefetch;

/// A histogram of fixed size with exact minimum, maximum and mean. Values above its range are counted as saturated
/// and enter the histogram at its end; the exact maximum keeps them.
///
/// The counts are kept here in the layout of hdrhistogram, so that counting is a few instructions and the line of a
/// count can be asked for in advance; whatever is read out of them is read by hdrhistogram.
#[derive(Clone, Debug)]
pub struct Distribution<C: Counter> {
    /// Linear up to 2^`magnitude`, then 2^(`magnitude` - 1) counts for each power of two.
    counts: Box<[C]>,
    magnitude: u32,
    digits: u8,
    high: u64,
    n: u64,
    min: u64,
    max: u64,
    sum: u128,
    saturated: u64,
}

impl<C: Counter> Distribution<C> {
    /// A distribution of values 0..=`high` with `digits` (1..=5) significant digits. Allocates here and never again:
    /// about 8 KB (2 digits) or 64 KB (3 digits) per 4-byte counter type and a range of 10^8.
    pub fn new(high: u64, digits: u8) -> Distribution<C> {
        let (high, digits) = (high.max(2), digits.clamp(1, 5));
        // Twice as many steps as digits tell apart: each step is then fine enough at both ends of its power of two.
        let magnitude = (2 * 10u64.pow(digits.into())).next_power_of_two().trailing_zeros();
        let last = index(high, magnitude);
        let powers = (last >> (magnitude - 1)).max(1);
        let counts = vec![C::zero(); (powers + 1) << (magnitude - 1)].into_boxed_slice();
        Distribution { counts, magnitude, digits, high, n: 0, min: u64::MAX, max: 0, sum: 0, saturated: 0 }
    }
    /// What was recorded, for reading.
    fn histogram(&self) -> Histogram<C> {
        let mut histogram = Histogram::new_with_bounds(1, self.high, self.digits)
            .unwrap_or_else(|e| unreachable!("bounds 1..{} are in range: {e}", self.high));
        for (i, &count) in self.counts.iter().enumerate().filter(|(_, c)| !c.is_zero()) {
            histogram.saturating_record_n(lowest(i, self.magnitude), count);
        }
        histogram
    }
    /// Where a value is counted; the memory of its count is asked for.
    #[inline]
    pub fn place(&self, value: u64) -> usize {
        let at = index(value, self.magnitude);
        let at = if at < self.counts.len() { at } else { index(self.high, self.magnitude) };
        prefetch(self.counts.as_ptr().wrapping_add(at));
        at
    }
    /// Bytes of memory it takes.
    pub fn bytes(&self) -> u64 {
        (self.counts.len() * size_of::<C>() + size_of::<Self>()) as u64
    }
    /// Counts one value. Cost: a few nanoseconds, no allocation.
    #[inline]
    pub fn record(&mut self, value: u64) {
        self.record_at(self.place(value), value);
    }
    /// Counts one value whose [`Distribution::place`] is known.
    #[inline]
    pub fn record_at(&mut self, place: usize, value: u64) {
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(C::one());
        }
        self.note(value, 1);
    }
    /// Counts one value `n` times, as many as a counter holds.
    pub fn record_n(&mut self, value: u64, n: u64) {
        if n == 0 {
            return;
        }
        let place = self.place(value);
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(C::from_u64(n).unwrap_or_else(C::one));
        }
        self.note(value, n);
    }
    /// Everything but the count of a value that came `n` times.
    #[inline(always)]
    fn note(&mut self, value: u64, n: u64) {
        self.saturated += if value > self.high { n } else { 0 };
        self.n += n;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += u128::from(value) * u128::from(n);
    }
    /// Adds the values of another distribution of the same shape.
    pub fn merge(&mut self, other: &Distribution<C>) {
        for (count, &more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(more);
        }
        self.n += other.n;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.saturated += other.saturated;
    }
    /// Number of values.
    pub fn count(&self) -> u64 {
        self.n
    }
    /// Values above the range.
    pub fn saturated(&self) -> u64 {
        self.saturated
    }
    /// Largest value, exact; `None` when empty.
    pub fn max(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.max)
    }
    /// Smallest value, exact; `None` when empty.
    pub fn min(&self) -> Option<u64> {
        (self.count() > 0).then_some(self.min)
    }
    /// The percentiles that the number of values can carry.
    pub fn percentiles(&self) -> Percentiles {
        let n = self.count();
        if n == 0 {
            return Percentiles::default();
        }
        let mean = self.sum as f64 / n as f64;
        let histogram = self.histogram();
        Percentiles::carried(n, self.min as f64, mean, self.max as f64, |q| {
            histogram.value_at_quantile(q).clamp(self.min, self.max) as f64
        })
    }
    /// Calls `f` with every (value, count) that was recorded, in order: the canonical content.
    pub fn for_each_count(&self, mut f: impl FnMut(u64, u64)) {
        for v in self.histogram().iter_recorded() {
            f(v.value_iterated_to(), v.count_at_value().as_u64());
        }
    }
}

/// Place of a value among counts that are linear up to 2^`magnitude`.
#[inline]
pub(super) fn index(value: u64, magnitude: u32) -> usize {
    let linear = (1u64 << magnitude) - 1;
    let power = 64 - magnitude - (value | linear).leading_zeros();
    ((power as usize) << (magnitude - 1)) + (value >> power) as usize
}

/// The least value with this place.
pub(super) fn lowest(index: usize, magnitude: u32) -> u64 {
    let half = magnitude - 1;
    let power = (index >> half).saturating_sub(1);
    ((index - (power << half)) as u64) << power
}

/// What is said of a set of samples. A percentile p is `None` unless at least ten samples lie beyond it
/// (n (1 - p) >= 10): p50 from 20 samples, p99 from 1,000, p99.9 from 10,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Samples.
    pub n: u64,
    /// Smallest, exact.
    pub min: Option<f64>,
    /// Mean, exact.
    pub mean: Option<f64>,
    /// Median.
    pub p50: Option<f64>,
    /// 90 %.
    pub p90: Option<f64>,
    /// 95 %.
    pub p95: Option<f64>,
    /// 99 %.
    pub p99: Option<f64>,
    /// 99.9 %.
    pub p999: Option<f64>,
    /// 99.99 %.
    pub p9999: Option<f64>,
    /// Largest, exact.
    pub max: Option<f64>,
}

/// Samples that must lie beyond a percentile before it is printed.
pub const SAMPLES_BEYOND: u64 = 10;

impl Percentiles {
    /// Exact percentiles of all samples, by nearest rank. Sorts them.
    pub fn of_samples(samples: &mut [f64]) -> Percentiles {
        if samples.is_empty() {
            return Percentiles::default();
        }
        samples.sort_by(f64::total_cmp);
        let n = samples.len();
        let mean = samples.iter().sum::<f64>() / n as f64;
        let at = |q: f64| samples[((q * n as f64).ceil() as usize).clamp(1, n) - 1];
        Percentiles::carried(n as u64, samples[0], mean, samples[n - 1], at)
    }
    pub(super) fn carried(n: u64, min: f64, mean: f64, max: f64, at: impl Fn(f64) -> f64) -> Percentiles {
        // Parts per 10,000 keep the rule exact: 100 x (1 - 0.9) is 9.99... in floating point.
        let p = |parts: u64| {
            (u128::from(n) * u128::from(10_000 - parts) >= u128::from(SAMPLES_BEYOND) * 10_000)
                .then(|| at(parts as f64 / 1e4))
        };
        Percentiles {
            n,
            min: Some(min),
            mean: Some(mean),
            p50: p(5_000),
            p90: p(9_000),
            p95: p(9_500),
            p99: p(9_900),
            p999: p(9_990),
            p9999: p(9_999),
            max: Some(max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        let carried = |n: u64| {
            let mut d = Distribution::<u64>::new(1 << 40, 3);
            (1..=n).for_each(|v| d.record(v));
            let p = d.percentiles();
            [p.p50, p.p90, p.p95, p.p99, p.p999, p.p9999].iter().flatten().count()
        };
        let table: Vec<_> =
            [19, 20, 99, 100, 199, 200, 999, 1_000, 9_999, 10_000, 100_000].map(|n| (n, carried(n))).to_vec();
        let expected = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6];
        assert_eq!(table.iter().map(|t| t.1).collect::<Vec<_>>(), expected, "{table:?}");
    }

    #[test]
    fn ends_and_mean_are_exact_and_percentiles_keep_three_digits() {
        let mut d = Distribution::<u64>::new(10_000_000_000, 3);
        (0..10_000u64).for_each(|i| d.record(1_000_003 + i * 997));
        let p = d.percentiles();
        assert_eq!((p.min, p.max), (Some(1_000_003.0), Some(1_000_003.0 + 9_999.0 * 997.0)));
        assert_eq!(p.mean, Some(1_000_003.0 + 9_999.0 * 997.0 / 2.0));
        let exact = 1_000_003.0 + 9_899.0 * 997.0;
        assert!((p.p99.unwrap() / exact - 1.0).abs() < 1e-3, "{p:?}");
    }

    /// Every value, and every count up to saturation, reads as if hdrhistogram had recorded it.
    #[test]
    fn counts_lie_where_hdrhistogram_has_them() {
        let mut rng = crate::rng::Rng::new(1, "distribution", 0);
        for (high, digits) in [(1u64 << 20, 2), (32 << 20, 2), (3_600_000_000_000, 3), (1_000, 1), (2, 3)] {
            let mut ours = Distribution::<u64>::new(high, digits);
            let mut theirs = Histogram::<u64>::new_with_bounds(1, high, digits).unwrap();
            assert_eq!(ours.counts.len(), theirs.distinct_values(), "{high} {digits}");
            for _ in 0..20_000 {
                let value = rng.below(2 * high) >> rng.below(40);
                ours.record(value);
                theirs.saturating_record(value);
            }
            let mut got = Vec::new();
            ours.for_each_count(|v, n| got.push((v, n)));
            let want: Vec<_> =
                theirs.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect();
            assert_eq!(got, want, "{high} {digits}");
            assert_eq!(ours.count(), theirs.len());
            let p = ours.percentiles();
            let quantile = |q| theirs.value_at_quantile(q).clamp(ours.min, ours.max) as f64;
            assert_eq!([p.p50, p.p99, p.p999], [0.5, 0.99, 0.999].map(|q| Some(quantile(q))));
        }
    }

    #[test]
    fn values_beyond_the_range_are_counted_and_kept_as_the_maximum() {
        let mut d = Distribution::<u32>::new(1_000, 2);
        d.record(0);
        d.record(5_000_000);
        assert_eq!((d.count(), d.saturated(), d.min(), d.max()), (2, 1, Some(0), Some(5_000_000)));
    }

    #[test]
    fn samples_give_nearest_rank_percentiles() {
        let mut v: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        let p = Percentiles::of_samples(&mut v);
        assert_eq!((p.n, p.min, p.p50, p.p90, p.max), (20, Some(1.0), Some(10.0), None, Some(20.0)));
        assert_eq!(p.mean, Some(10.5));
        assert_eq!(Percentiles::of_samples(&mut []), Percentiles::default());
    }
}
