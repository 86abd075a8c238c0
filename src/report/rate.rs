//! What rate control did: fairness and convergence, phase by phase.
//!
//! A phase is a stretch of time in which the same flows (pairs of ranks) send; it begins when one starts or ends. Its
//! fair share is max-min over the rates of the tester ports, and no more than a constant rate allows. A flow has converged when its rate is within
//! [`BAND`] of its share and stays there until the phase is over (BMWG training draft, test 3.3).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::build::ratio;
use crate::measure::rates::{FlowKey, RateSeries};
use crate::measure::record::Outcome;
use crate::plan::Plan;
use crate::run::result::RunResult;
use crate::units::Time;

/// How near to its fair share a rate has to be.
const BAND: f64 = 0.1;
/// Frames that make a rate: fewer, and one frame more or less would leave the band.
const FRAMES: u64 = 25;
/// Rates that make a phase; shorter ones are not judged.
const RATES_MIN: usize = 8;
/// Phases listed in the report.
const PHASES_MAX: usize = 64;
/// Starts and ends that are looked at.
const CHANGES_MAX: usize = 1 << 14;

/// Rate control of a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RateControlFigure {
    /// `fixed`, `dcqcn`, `window` or `swift`.
    pub control: String,
    /// Name of the set of parameters.
    pub set: Option<String>,
    /// Where the parameters come from.
    pub origin: Option<String>,
    /// Pairs of ranks that were followed; 0 = too many, nothing below was measured.
    pub flows: u32,
    /// Jain's index of rate over fair share, second half of the longest phase with at least two flows.
    pub jain: Option<f64>,
    /// Longest convergence of all phases; null when one did not converge or none was judged.
    pub convergence_ns: Option<f64>,
    /// Phases judged, and those that converged.
    pub judged: u32,
    /// See `judged`.
    pub converged: u32,
    /// The phases that were judged (the first 64).
    pub phases: Vec<Phase>,
}

/// The same flows sent all the time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Phase {
    /// A flow started or ended here, since the start of the run...
    pub from_ns: f64,
    /// ... and here.
    pub to_ns: f64,
    /// Flows of this workload.
    pub flows: u32,
    /// Span over which a rate is taken.
    pub resolution_ns: f64,
    /// Jain's index of rate over fair share in the second half; null below two flows.
    pub jain: Option<f64>,
    /// Smallest and largest rate over fair share in the second half, and the mean.
    pub share_min: Option<f64>,
    /// See `share_min`.
    pub share_max: Option<f64>,
    /// See `share_min`.
    pub share_mean: Option<f64>,
    /// Time until every rate stays within 10 % of its share; null when one never did.
    pub convergence_ns: Option<f64>,
}

/// The figure of workload `ix`; nothing without rate control.
pub(super) fn figure(plan: &Plan, result: &RunResult, ix: usize) -> Option<RateControlFigure> {
    let config = plan.workloads.get(ix)?;
    let control = config.rate_control.kind();
    if control == "none" {
        return None;
    }
    let (set, origin) = config.rate_control.origin();
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut figure = RateControlFigure {
        control: control.into(),
        set: some(set),
        origin: some(origin),
        ..RateControlFigure::default()
    };
    let Some(series) = result.recorder.rates().filter(|_| result.recorder.rows_left_out() == 0) else {
        return Some(figure);
    };
    figure.flows = series.flows().iter().filter(|f| usize::from(f.workload) == ix).count() as u32;
    let frame = u64::from(plan.classes.get(usize::from(config.class.0)).map_or(4096, |c| c.mtu)) + 82;
    let judge = Judge { plan, series, workload: ix as u16, frame };
    let phases = judge.phases(&changes(result, series));
    let two = phases.iter().filter(|p| p.flows >= 2);
    let longest = two.max_by(|a, b| (a.to_ns - a.from_ns).total_cmp(&(b.to_ns - b.from_ns)));
    figure.jain = longest.and_then(|p| p.jain);
    figure.judged = phases.len() as u32;
    figure.converged = phases.iter().filter(|p| p.convergence_ns.is_some()).count() as u32;
    if figure.converged == figure.judged {
        figure.convergence_ns = phases.iter().filter_map(|p| p.convergence_ns).reduce(f64::max);
    }
    figure.phases = phases.into_iter().take(PHASES_MAX).collect();
    Some(figure)
}

/// Starts and ends of flows in the order of time: flow and whether it starts. Pauses shorter than two bins are none.
fn changes(result: &RunResult, series: &RateSeries) -> Vec<(Time, usize, bool)> {
    let mut spans: BTreeMap<usize, Vec<(Time, Time)>> = BTreeMap::new();
    for m in result.recorder.rows().iter().filter(|m| m.outcome == Outcome::Completed) {
        let key = FlowKey { workload: m.workload, from: m.from, to: m.to };
        if let Ok(flow) = series.flows().binary_search(&key) {
            spans.entry(flow).or_default().push((m.started, m.finished));
        }
    }
    let mut all = Vec::new();
    for (flow, mut list) in spans {
        list.sort_unstable();
        let mut joined: Vec<(Time, Time)> = Vec::new();
        for (from, to) in list {
            match joined.last_mut() {
                Some(last) if from.since(last.1).0 <= 2 * series.width().0 => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        all.extend(joined.into_iter().flat_map(|(from, to)| [(from, flow, true), (to, flow, false)]));
    }
    all.sort_unstable();
    if all.len() > CHANGES_MAX { Vec::new() } else { all }
}

struct Judge<'a> {
    plan: &'a Plan,
    series: &'a RateSeries,
    workload: u16,
    /// Bytes of a full frame.
    frame: u64,
}

impl Judge<'_> {
    fn phases(&self, changes: &[(Time, usize, bool)]) -> Vec<Phase> {
        let mut active: BTreeSet<usize> = BTreeSet::new();
        let mut phases = Vec::new();
        for pair in changes.windows(2) {
            let [(from, flow, starts), (to, ..)] = pair else { continue };
            if *starts {
                active.insert(*flow)
            } else {
                active.remove(flow)
            };
            phases.extend((from < to).then(|| self.phase(*from, *to, &active)).flatten());
        }
        phases
    }

    fn phase(&self, from: Time, to: Time, active: &BTreeSet<usize>) -> Option<Phase> {
        let fair = self.fair(active);
        let own = |f: &&(usize, f64)| self.series.flows()[f.0].workload == self.workload;
        let fair: Vec<(usize, f64)> = fair.iter().filter(own).copied().collect();
        let slowest = fair.iter().map(|f| f.1).reduce(f64::min).filter(|r| *r > 0.0)?;
        let width_ns = self.series.width().as_ns_f64();
        // So many bins that the slowest flow's share fills them with enough frames.
        let needed_ns = (FRAMES * self.frame * 8) as f64 / slowest;
        let stride = (needed_ns / width_ns).ceil().max(1.0) as usize;
        let first = from.0.div_ceil(self.series.width().0) as usize;
        // The last bin is cut short by the end, and the one before by what was still on its way.
        let last = (to.0 / self.series.width().0).saturating_sub(1) as usize;
        let rates = last.saturating_sub(first) / stride;
        if rates < RATES_MIN {
            return None;
        }
        let span_ns = width_ns * stride as f64;
        let share = |(flow, fair): (usize, f64), i: usize| {
            let at = first + i * stride;
            let bytes: u64 = self.series.bins(flow).iter().skip(at).take(stride).sum();
            bytes as f64 * 8.0 / span_ns / fair
        };
        let good = |i: usize| fair.iter().all(|f| (share(*f, i) - 1.0).abs() <= BAND);
        let bad = (0..rates).rev().find(|i| !good(*i));
        let settled = bad.map_or(0, |i| i + 1);
        let since = |i: usize| (first + i * stride) as f64 * width_ns - from.as_ns_f64();
        let half = rates / 2..rates;
        let mean = |f: (usize, f64)| half.clone().map(|i| share(f, i)).sum::<f64>() / half.len() as f64;
        let means: Vec<f64> = fair.iter().map(|f| mean(*f)).collect();
        Some(Phase {
            from_ns: from.as_ns_f64(),
            to_ns: to.as_ns_f64(),
            flows: fair.len() as u32,
            resolution_ns: span_ns,
            jain: if fair.len() < 2 { None } else { jain(&means) },
            share_min: means.iter().copied().reduce(f64::min),
            share_max: means.iter().copied().reduce(f64::max),
            share_mean: ratio(means.iter().sum(), means.len() as f64),
            convergence_ns: (settled < rates).then(|| if settled == 0 { 0.0 } else { since(settled) }),
        })
    }

    /// Max-min share of every active flow in Gb/s, from the rates of the ports at both ends: the tightest port divides
    /// what it has left, and so on.
    fn fair(&self, active: &BTreeSet<usize>) -> Vec<(usize, f64)> {
        let port = |r: crate::units::RankId| self.plan.ranks.get(r.0 as usize).map_or(0, |a| a.port.0);
        // A port has two directions; a constant rate is a third end of its flow, beyond all ports.
        let ends = |f: usize| {
            let key = self.series.flows()[f];
            [(port(key.from), true), (port(key.to), false), (u32::MAX - f as u32, true)]
        };
        let rate = |p: u32| match self.plan.hosts.get(p as usize) {
            Some(h) => h.rate.as_gbps_f64(),
            None => self.constant((u32::MAX - p) as usize),
        };
        let mut open: BTreeSet<usize> = active.clone();
        let mut left: BTreeMap<(u32, bool), f64> = BTreeMap::new();
        open.iter().flat_map(|f| ends(*f)).for_each(|e| {
            left.insert(e, rate(e.0));
        });
        let mut shares = Vec::with_capacity(active.len());
        while !open.is_empty() {
            let users = |e: &(u32, bool)| open.iter().filter(|f| ends(**f).contains(e)).count();
            let each = left.iter().map(|(e, r)| (users(e), *e, *r)).filter(|u| u.0 > 0);
            let tightest = each.map(|(n, e, r)| (r / n as f64, e)).min_by(|a, b| a.0.total_cmp(&b.0));
            let Some((share, end)) = tightest else { break };
            for f in open.clone().into_iter().filter(|f| ends(*f).contains(&end)) {
                open.remove(&f);
                shares.push((f, share));
                ends(f).iter().for_each(|e| *left.entry(*e).or_default() -= share);
            }
        }
        shares.sort_unstable_by_key(|s| s.0);
        shares
    }

    /// The constant rate of a flow in Gb/s, its queue pairs together; infinite without one.
    fn constant(&self, flow: usize) -> f64 {
        let w = self.series.flows().get(flow).and_then(|f| self.plan.workloads.get(usize::from(f.workload)));
        let rate =
            w.and_then(|w| Some(w.rate_control.fixed_rate()?.as_gbps_f64() * f64::from(w.qps_per_pair)));
        rate.unwrap_or(f64::INFINITY)
    }
}

/// Jain's index: 1 = all alike, 1/n = one has all.
fn jain(x: &[f64]) -> Option<f64> {
    let (sum, squares) = x.iter().fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
    ratio(sum * sum, x.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jain_is_one_for_equals_and_one_over_n_when_one_has_all() {
        assert_eq!(jain(&[0.5, 0.5]), Some(1.0));
        assert_eq!(jain(&[1.0, 0.0, 0.0, 0.0]), Some(0.25));
        assert_eq!(jain(&[0.0, 0.0]), None);
    }
}
