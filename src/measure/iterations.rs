//! Iterations of closed-loop workloads: when they completed, who was last, who waited.

use serde::Serialize;

use super::record::RankIteration;
use crate::units::{RankId, Span, Time};

/// One iteration of one workload over all its ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Iteration {
    /// Nominal start.
    pub released: Time,
    /// Last rank finished.
    pub finished: Time,
    /// Ranks that finished.
    pub ranks: u32,
    /// First bit of the first rank that sent; `NEVER` when none did.
    pub first_byte_min: Time,
    /// First bit of the last rank to start sending; zero when none did.
    pub first_byte_max: Time,
    /// The sending rank that finished last (the lowest of them on a tie), and when.
    pub slowest: Option<(Time, RankId)>,
    /// Sum over ranks of the share of their own time spent waiting for data, in parts per 10^9.
    pub waited_ppb_sum: u64,
    /// Largest such share.
    pub waited_ppb_max: u64,
}

impl Default for Iteration {
    fn default() -> Self {
        Iteration {
            released: Time::NEVER,
            finished: Time::ZERO,
            ranks: 0,
            first_byte_min: Time::NEVER,
            first_byte_max: Time::ZERO,
            slowest: None,
            waited_ppb_sum: 0,
            waited_ppb_max: 0,
        }
    }
}

impl Iteration {
    /// From release to the last rank's finish; `None` before any rank finished.
    pub fn completion(&self) -> Option<Span> {
        (self.ranks > 0).then(|| self.finished.since(self.released))
    }
    /// Spread of first bytes over the ranks that sent; `None` when none did.
    pub fn start_spread(&self) -> Option<Span> {
        (self.first_byte_min != Time::NEVER).then(|| self.first_byte_max.since(self.first_byte_min))
    }
    fn slower(a: Option<(Time, RankId)>, b: Option<(Time, RankId)>) -> Option<(Time, RankId)> {
        match (a, b) {
            (Some((ta, ra)), Some((tb, rb))) if (tb, ra) <= (ta, rb) => Some((ta, ra)),
            (a, None) => a,
            (_, b) => b,
        }
    }
    fn add(&mut self, it: &RankIteration) {
        self.released = self.released.min(it.released);
        self.finished = self.finished.max(it.finished);
        self.ranks += 1;
        let span = it.finished.since(it.released).0;
        let waited = u128::from(it.waited_ps.min(span)) * 1_000_000_000;
        let ppb = waited.checked_div(u128::from(span)).unwrap_or(0) as u64;
        self.waited_ppb_sum += ppb;
        self.waited_ppb_max = self.waited_ppb_max.max(ppb);
        if it.first_byte != Time::NEVER {
            self.first_byte_min = self.first_byte_min.min(it.first_byte);
            self.first_byte_max = self.first_byte_max.max(it.first_byte);
            self.slowest = Iteration::slower(self.slowest, Some((it.finished, it.rank)));
        }
    }
    fn merge(&mut self, o: &Iteration) {
        self.released = self.released.min(o.released);
        self.finished = self.finished.max(o.finished);
        self.ranks += o.ranks;
        self.first_byte_min = self.first_byte_min.min(o.first_byte_min);
        self.first_byte_max = self.first_byte_max.max(o.first_byte_max);
        self.slowest = Iteration::slower(self.slowest, o.slowest);
        self.waited_ppb_sum += o.waited_ppb_sum;
        self.waited_ppb_max = self.waited_ppb_max.max(o.waited_ppb_max);
    }
}

/// What one rank took over all measured iterations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RankTotal {
    /// Iterations it finished and sent in.
    pub iterations: u32,
    /// Sum of release to finish over these, picoseconds.
    pub finish_ps_sum: u64,
}

/// All measured iterations of one workload.
#[derive(Clone, Debug)]
pub struct WorkloadIterations {
    /// Ranks, ascending.
    pub ranks: Vec<RankId>,
    /// Per rank, as `ranks`.
    pub totals: Vec<RankTotal>,
    /// Measured iterations; those not reached stay at their default.
    pub rows: Vec<Iteration>,
    warmup: u32,
}

impl WorkloadIterations {
    /// Room for `repeats` iterations after `warmup` of these ranks.
    pub fn new(ranks: &[RankId], warmup: u32, repeats: u32) -> WorkloadIterations {
        let mut ranks = ranks.to_vec();
        ranks.sort_unstable();
        ranks.dedup();
        WorkloadIterations {
            totals: vec![RankTotal::default(); ranks.len()],
            rows: vec![Iteration::default(); repeats as usize],
            ranks,
            warmup,
        }
    }
    /// A rank finished an iteration. Warm-up and iterations beyond the plan are left out.
    pub fn add(&mut self, it: &RankIteration) {
        let row = it.iteration.checked_sub(self.warmup).and_then(|i| self.rows.get_mut(i as usize));
        let (Some(row), Ok(rank)) = (row, self.ranks.binary_search(&it.rank)) else { return };
        row.add(it);
        if it.first_byte != Time::NEVER {
            self.totals[rank].iterations += 1;
            self.totals[rank].finish_ps_sum += it.finished.since(it.released).0;
        }
    }
    /// Adds what another engine's ranks did.
    pub fn merge(&mut self, other: &WorkloadIterations) {
        self.rows.iter_mut().zip(&other.rows).for_each(|(a, b)| a.merge(b));
        for (a, b) in self.totals.iter_mut().zip(&other.totals) {
            a.iterations += b.iterations;
            a.finish_ps_sum += b.finish_ps_sum;
        }
    }
    /// Iterations that every rank finished.
    pub fn finished(&self) -> impl Iterator<Item = &Iteration> {
        let all = self.ranks.len() as u32;
        self.rows.iter().filter(move |r| r.ranks > 0 && r.ranks >= all)
    }
    /// Jain's fairness index of the mean finish of the ranks that sent, 1/n (one bears all) to 1 (all alike).
    pub fn jain(&self) -> Option<f64> {
        let means = self.totals.iter().filter(|t| t.iterations > 0);
        let x: Vec<f64> = means.map(|t| t.finish_ps_sum as f64 / f64::from(t.iterations)).collect();
        let (sum, squares) = x.iter().fold((0.0, 0.0), |(s, q), v| (s + v, q + v * v));
        (squares > 0.0).then(|| sum * sum / (x.len() as f64 * squares))
    }
    /// Ranks whose mean finish is beyond twice the median of the ranks that sent.
    pub fn starved(&self) -> u32 {
        let means = self.totals.iter().filter(|t| t.iterations > 0);
        let mut x: Vec<u64> = means.map(|t| t.finish_ps_sum / u64::from(t.iterations)).collect();
        x.sort_unstable();
        let median = x.get(x.len() / 2).copied().unwrap_or(0);
        x.iter().filter(|v| **v / 2 > median).count() as u32
    }
    /// The rank that was last most often, how often, and among how many ranks.
    pub fn most_often_last(&self) -> Option<(RankId, u32, usize)> {
        let mut last: Vec<RankId> = self.finished().filter_map(|r| r.slowest.map(|s| s.1)).collect();
        last.sort_unstable();
        let mut best: Option<(RankId, u32)> = None;
        for group in last.chunk_by(|a, b| a == b) {
            if best.is_none_or(|(_, n)| group.len() as u32 > n) {
                best = Some((group[0], group.len() as u32));
            }
        }
        let senders = self.totals.iter().filter(|t| t.iterations > 0).count();
        best.map(|(rank, times)| (rank, times, senders))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn it(iteration: u32, rank: u32, first: u64, finished: u64, waited: u64) -> RankIteration {
        RankIteration {
            workload: 0,
            iteration,
            rank: RankId(rank),
            released: Time(u64::from(iteration) * 1_000_000),
            first_byte: if first == 0 { Time::NEVER } else { Time(first) },
            finished: Time(u64::from(iteration) * 1_000_000 + finished),
            waited_ps: waited,
        }
    }

    #[test]
    fn completion_spread_and_the_last_rank_come_from_all_ranks() {
        let mut w = WorkloadIterations::new(&[RankId(2), RankId(0), RankId(1)], 1, 2);
        w.add(&it(0, 0, 5, 9_999, 0)); // warm-up
        w.add(&it(1, 0, 1_000_010, 500, 0));
        w.add(&it(1, 1, 1_000_040, 600, 300));
        assert_eq!(w.finished().count(), 0, "rank 2 is not done");
        w.add(&it(1, 2, 0, 650, 650)); // the receiver: finishes last, sends nothing
        let row = *w.finished().next().unwrap();
        assert_eq!(row.completion(), Some(Span(650)));
        assert_eq!(row.start_spread(), Some(Span(30)));
        assert_eq!(row.slowest, Some((Time(1_000_600), RankId(1))));
        assert_eq!((row.waited_ppb_max, row.waited_ppb_sum), (1_000_000_000, 1_500_000_000));
        assert_eq!(w.most_often_last(), Some((RankId(1), 1, 2)));
        // Jain of (500, 600) by hand: 1100^2 / (2 (250000 + 360000)) = 0.99180...
        assert!((w.jain().unwrap() - 1_210_000.0 / 1_220_000.0).abs() < 1e-12);
    }

    #[test]
    fn the_lowest_of_equally_late_ranks_is_named_in_any_order() {
        let orders = [[3, 1, 2], [2, 3, 1], [1, 2, 3]];
        for ranks in orders {
            let mut w = WorkloadIterations::new(&[RankId(1), RankId(2), RankId(3)], 0, 1);
            ranks.iter().for_each(|&r| w.add(&it(0, r, 10, 700, 0)));
            assert_eq!(w.rows[0].slowest, Some((Time(700), RankId(1))), "{ranks:?}");
        }
    }
}
