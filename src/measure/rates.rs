//! Bytes that arrived by flow and time: what fairness and convergence of rate control are judged by.
//!
//! Memory is bounded whatever a run's length: [`BINS`] bins per flow, twice as wide each time the run outgrows them.
//! Bins begin at multiples of their width, so series of several engines add up to what one engine would have seen.

use crate::units::{RankId, Span, Time};

/// Bins of a flow.
pub const BINS: usize = 1_024;
/// Width of a bin at the start: 100 kB at 40G.
pub const WIDTH: Span = Span::from_us(20);
/// Flows of a run that are followed; a run with more follows none (2 MiB).
pub const FLOWS_MAX: usize = 256;

const NOBODY: u16 = u16::MAX;

/// A sender, a receiver and the workload they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// Workload index.
    pub workload: u16,
    /// Sender.
    pub from: RankId,
    /// Receiver.
    pub to: RankId,
}

/// Arrivals of some flows over time.
#[derive(Clone, Debug)]
pub struct RateSeries {
    flows: Vec<FlowKey>,
    /// First entry of a tester port in `slots`, and one more for the end.
    ports: Vec<u32>,
    /// Flow of each queue pair of each port, or [`NOBODY`].
    slots: Vec<u16>,
    width: Span,
    bytes: Vec<u64>,
    /// The bin of the last arrival: from, until, number.
    current: (Time, Time, usize),
}

impl RateSeries {
    /// Follows `flows`, sorted; `flow_of[port][queue pair]` says which of them a queue pair sends for. `None` for no
    /// flow at all, and for more than [`FLOWS_MAX`].
    pub fn new(flows: Vec<FlowKey>, flow_of: &[Vec<Option<FlowKey>>]) -> Option<RateSeries> {
        if flows.is_empty() || flows.len() > FLOWS_MAX {
            return None;
        }
        let (mut ports, mut slots) = (vec![0], Vec::new());
        for port in flow_of {
            let slot = |k: &Option<FlowKey>| k.and_then(|k| flows.binary_search(&k).ok());
            slots.extend(port.iter().map(|k| slot(k).map_or(NOBODY, |s| s as u16)));
            ports.push(slots.len() as u32);
        }
        let bytes = vec![0; flows.len() * BINS];
        Some(RateSeries { flows, ports, slots, width: WIDTH, bytes, current: (Time::ZERO, Time::ZERO, 0) })
    }

    /// The flows, sorted.
    pub fn flows(&self) -> &[FlowKey] {
        &self.flows
    }
    /// Width of a bin.
    pub fn width(&self) -> Span {
        self.width
    }
    /// Bytes of a flow by bin, from the start of the run.
    pub fn bins(&self, flow: usize) -> &[u64] {
        self.bytes.get(flow * BINS..(flow + 1) * BINS).unwrap_or_default()
    }

    /// `bytes` arrived at `now` from queue pair `qp` of tester port `port`.
    #[inline]
    pub fn add(&mut self, now: Time, port: u32, qp: u32, bytes: u64) {
        let Some(&[from, to]) = self.ports.get(port as usize..).and_then(|p| p.first_chunk()) else { return };
        let at = from.saturating_add(qp);
        let Some(&slot) = self.slots.get(at as usize).filter(|s| at < to && **s != NOBODY) else { return };
        if now < self.current.0 || now >= self.current.1 {
            self.seek(now);
        }
        if let Some(bin) = self.bytes.get_mut(usize::from(slot) * BINS + self.current.2) {
            *bin += bytes;
        }
    }

    #[cold]
    fn seek(&mut self, now: Time) {
        while now.0 / self.width.0 >= BINS as u64 {
            self.coarsen();
        }
        let bin = now.0 / self.width.0;
        let from = Time(bin * self.width.0);
        self.current = (from, from + self.width, bin as usize);
    }

    /// Bins of twice the width.
    fn coarsen(&mut self) {
        for bins in self.bytes.chunks_exact_mut(BINS) {
            for i in 0..BINS / 2 {
                bins[i] = bins[2 * i] + bins[2 * i + 1];
            }
            bins[BINS / 2..].fill(0);
        }
        self.width = Span(2 * self.width.0);
        self.current = (Time::ZERO, Time::ZERO, 0);
    }

    /// Adds what another engine saw of the same flows.
    pub fn merge(&mut self, mut other: RateSeries) {
        while self.width < other.width {
            self.coarsen();
        }
        while other.width < self.width {
            other.coarsen();
        }
        self.bytes.iter_mut().zip(&other.bytes).for_each(|(a, b)| *a += b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn key(from: u32) -> FlowKey {
        FlowKey { workload: 0, from: RankId(from), to: RankId(9) }
    }

    fn series() -> RateSeries {
        // Port 0 has two queue pairs of flow 0, port 1 one of nobody and one of flow 1.
        let of = [vec![Some(key(0)), Some(key(0))], vec![None, Some(key(1))]];
        RateSeries::new(vec![key(0), key(1)], &of).expect("two flows")
    }

    #[test]
    fn bytes_go_to_the_flow_of_their_queue_pair_and_others_nowhere() {
        let mut s = series();
        for (port, qp) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (7, 7)] {
            s.add(Time(WIDTH.0 + 5), port, qp, 100);
        }
        assert_eq!((s.bins(0)[1], s.bins(1)[1]), (200, 100));
        assert_eq!(s.bins(0).iter().sum::<u64>() + s.bins(1).iter().sum::<u64>(), 300);
    }

    #[test]
    fn a_long_run_has_wider_bins_and_loses_nothing_and_merging_does_not_care_who_saw_what() {
        let mut rng = Rng::new(1, "rates-test", 0);
        let (mut one, mut a, mut b) = (series(), series(), series());
        let (mut now, mut sum) = (Time::ZERO, 0);
        for _ in 0..5_000 {
            now += Span(rng.below(60_000_000));
            let (port, bytes) = (rng.below(2) as u32, rng.below(9_000));
            one.add(now, port, 1, bytes);
            if port == 0 {
                a.add(now, port, 1, bytes)
            } else {
                b.add(now, port, 1, bytes)
            }
            sum += bytes;
        }
        assert!(one.width() > WIDTH);
        assert_eq!(one.bytes.iter().sum::<u64>(), sum);
        // An engine that saw nothing late has narrower bins.
        b.add(Time(60_000 * WIDTH.0), 0, 7, 1);
        a.merge(b);
        assert_eq!((a.width(), &a.bytes), (one.width(), &one.bytes));
    }

    #[test]
    fn no_flow_and_too_many_are_not_followed() {
        assert!(RateSeries::new(Vec::new(), &[]).is_none());
        let many: Vec<FlowKey> = (0..=FLOWS_MAX as u32).map(key).collect();
        assert!(RateSeries::new(many, &[]).is_none());
    }
}
