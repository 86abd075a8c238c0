//! Latency of every open-loop stream: a histogram of two digits each, for tens of thousands of them at full rate.
//!
//! Every stream has 3,328 counts of 4 bytes and a row. The table is reserved whole and never touched before a count is
//! needed, so that memory is held by what streams saw: a page or two each. A count of some other stream is in no cache;
//! so many frames wait to be counted together, and their lines are asked for when they arrive.

use arrayvec::ArrayVec;

use super::distribution::{Percentiles, index, lowest};
use crate::hint::prefetch;

/// Counts are laid out as in [`super::distribution`]: linear up to 2^this, then half as many for each power of two.
/// Two digits.
const MAGNITUDE: u32 = 8;
/// Nanoseconds from which on delays are not told apart: 4.3 s.
const NS_MAX: u64 = u32::MAX as u64;
/// Counts of one stream.
const COUNTS: usize = (1 << MAGNITUDE) + (32 - MAGNITUDE as usize) * (1 << (MAGNITUDE - 1));
const PAGE: usize = 4_096;
/// Frames counted at a time.
const TOGETHER: usize = 64;

/// What is kept of a stream besides its counts.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
struct Row {
    frames: u64,
    sum_ns: u64,
    /// Least delay, complemented: 0 is none yet.
    min_ns_not: u32,
    max_ns: u32,
}

/// Latency of streams, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct StreamLatency {
    rows: Vec<Row>,
    counts: Vec<u32>,
    open: ArrayVec<(u32, u32), TOGETHER>,
}

impl StreamLatency {
    /// For streams 0..`streams`.
    pub fn new(streams: usize) -> StreamLatency {
        StreamLatency {
            rows: vec![Row::default(); streams],
            counts: vec![0; streams * COUNTS],
            open: ArrayVec::new(),
        }
    }

    /// Bytes of memory that so many streams hold: their rows, and two pages of counts each.
    pub fn bytes_for(streams: usize) -> u64 {
        (streams * (size_of::<Row>() + (COUNTS * size_of::<u32>()).min(2 * PAGE))) as u64
    }

    /// Streams it has room for.
    pub fn streams(&self) -> usize {
        self.rows.len()
    }

    /// Streams that have seen a frame. Settled before.
    pub fn used(&self) -> usize {
        self.rows.iter().filter(|r| r.frames > 0).count()
    }

    /// A frame of a stream took so long.
    #[inline]
    pub fn record(&mut self, stream: u32, ns: u64) {
        let ns = ns.min(NS_MAX) as u32;
        let row = stream as usize;
        if row >= self.rows.len() {
            return;
        }
        prefetch(self.rows.as_ptr().wrapping_add(row));
        prefetch(self.counts.as_ptr().wrapping_add(row * COUNTS + place(ns)));
        if self.open.is_full() {
            self.settle();
        }
        self.open.push((stream, ns));
    }

    /// Counts what waits for it.
    #[inline(never)]
    pub fn settle(&mut self) {
        for &(stream, ns) in &self.open {
            let at = stream as usize;
            if let (Some(row), Some(count)) =
                (self.rows.get_mut(at), self.counts.get_mut(at * COUNTS + place(ns)))
            {
                *count = count.saturating_add(1);
                row.frames += 1;
                row.sum_ns += u64::from(ns);
                row.min_ns_not = row.min_ns_not.max(!ns);
                row.max_ns = row.max_ns.max(ns);
            }
        }
        self.open.clear();
    }

    /// Adds what another recorder saw. Both are settled.
    pub fn merge(&mut self, other: &StreamLatency) {
        for (at, (a, b)) in
            self.rows.iter_mut().zip(&other.rows).enumerate().filter(|(_, (_, b))| b.frames > 0)
        {
            a.frames += b.frames;
            a.sum_ns += b.sum_ns;
            a.min_ns_not = a.min_ns_not.max(b.min_ns_not);
            a.max_ns = a.max_ns.max(b.max_ns);
            let counts = at * COUNTS..(at + 1) * COUNTS;
            if let (Some(a), Some(b)) = (self.counts.get_mut(counts.clone()), other.counts.get(counts)) {
                a.iter_mut().zip(b).for_each(|(a, b)| *a = a.saturating_add(*b));
            }
        }
    }

    /// Latency of one stream, nanoseconds. Settled before.
    pub fn percentiles(&self, stream: usize) -> Percentiles {
        let Some(row) = self.rows.get(stream).filter(|r| r.frames > 0) else { return Percentiles::default() };
        let counts = self.counts.get(stream * COUNTS..(stream + 1) * COUNTS).unwrap_or_default();
        let (min, max) = (f64::from(!row.min_ns_not), f64::from(row.max_ns));
        let at = |q: f64| {
            let wanted = (q * row.frames as f64).ceil() as u64;
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += u64::from(*count);
                seen >= wanted
            });
            (highest(found.unwrap_or(COUNTS - 1)) as f64).clamp(min, max)
        };
        Percentiles::carried(row.frames, min, row.sum_ns as f64 / row.frames as f64, max, at)
    }
}

/// Place of a delay among the counts of its stream.
#[inline]
fn place(ns: u32) -> usize {
    index(u64::from(ns), MAGNITUDE)
}

/// The largest delay with this place.
fn highest(place: usize) -> u64 {
    lowest(place + 1, MAGNITUDE) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn places_are_in_order_and_two_digits_apart() {
        let mut before = 0;
        for ns in (0..70_000).chain((1..100).map(|i| u32::MAX / 100 * i)).chain([u32::MAX]) {
            let at = place(ns);
            assert!(at >= before && at < COUNTS, "{ns}");
            before = at;
            let top = highest(at);
            assert!(top >= u64::from(ns) && top - u64::from(ns) <= u64::from(ns) / 100, "{ns}: {top}");
        }
        assert_eq!(place(u32::MAX), COUNTS - 1);
    }

    #[test]
    fn every_stream_has_its_own_percentiles_to_two_digits() {
        let mut rng = Rng::new(1, "streams", 0);
        let (mut one, mut two) = (StreamLatency::new(3), StreamLatency::new(3));
        let mut samples = vec![Vec::new(); 2];
        for i in 0..60_000u64 {
            let stream = i % 2;
            let ns = 500 + rng.below(1_000) * (1 + stream * 1_000);
            let to = if i < 30_000 { &mut one } else { &mut two };
            to.record(stream as u32, ns);
            samples[stream as usize].push(ns as f64);
        }
        one.record(3, 1); // beyond the table: nothing
        one.settle();
        two.settle();
        one.merge(&two);
        for (stream, samples) in samples.iter_mut().enumerate() {
            let (exact, got) = (Percentiles::of_samples(samples), one.percentiles(stream));
            assert_eq!((got.n, got.min, got.max), (exact.n, exact.min, exact.max));
            assert!((got.mean.unwrap() / exact.mean.unwrap() - 1.0).abs() < 1e-9);
            for (a, b) in [(got.p50, exact.p50), (got.p99, exact.p99), (got.p999, exact.p999)] {
                assert!((a.unwrap() / b.unwrap() - 1.0).abs() < 0.01, "{got:?} {exact:?}");
            }
        }
        assert_eq!(one.percentiles(2).n, 0);
    }
}
