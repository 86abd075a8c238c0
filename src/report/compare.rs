//! Reports side by side: what differs, by how much, and whether that is beyond a tolerance.

use super::model::{RunReport, Warning};
use super::number::{bytes, plain, time};

/// One figure that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// What it is.
    pub name: String,
    /// Mean over the reports of side A.
    pub a: Option<f64>,
    /// Mean over the reports of side B.
    pub b: Option<f64>,
    /// (B - A) / A; `None` when A is 0 or one side is missing.
    pub relative: Option<f64>,
    /// Beyond the tolerance.
    pub beyond: bool,
    kind: Kind,
}

/// How a figure is printed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Time,
    Bytes,
    Number,
}

/// Two sides laid next to each other.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Figures that differ, in the order of the report.
    pub differences: Vec<Difference>,
    /// Figures looked at.
    pub figures: usize,
    /// What makes the two hard to compare.
    pub warnings: Vec<Warning>,
    /// Whether all outcome hashes are equal; `None` when one is missing.
    pub hashes_equal: Option<bool>,
    names: [String; 2],
    tolerance: f64,
}

/// Figures of one report: name, value, how to print it. Every report of one profile gives the same names in the same
/// order, but for ports and queues that one of them never used.
fn figures(r: &RunReport) -> Vec<(String, Option<f64>, Kind)> {
    let mut all: Vec<(String, Option<f64>, Kind)> = Vec::new();
    let mut put = |name: String, value: Option<f64>, kind: Kind| all.push((name, value, kind));
    for w in &r.workload {
        let p = &w.completion_ns.percentiles;
        for (what, value) in [("min", p.min), ("mean", p.mean), ("p50", p.p50), ("max", p.max)] {
            put(format!("{} completion {what}", w.name), value, Kind::Time);
        }
        put(format!("{} iterations", w.name), Some(f64::from(w.iterations)), Kind::Number);
        put(format!("{} ideal ratio", w.name), w.ideal_ratio, Kind::Number);
        put(format!("{} algbw, Gb/s", w.name), w.algbw_gbps, Kind::Number);
        put(format!("{} busbw, Gb/s", w.name), w.busbw_gbps, Kind::Number);
        put(format!("{} idle, mean share", w.name), w.idle_fraction.mean, Kind::Number);
        put(format!("{} message p50", w.name), w.message_ns.p50, Kind::Time);
        put(format!("{} message p99", w.name), w.message_ns.p99, Kind::Time);
        put(format!("{} message max", w.name), w.message_ns.max, Kind::Time);
    }
    for l in &r.latency_ns {
        let p = &l.percentiles;
        for (what, value) in [("p50", p.p50), ("p99", p.p99), ("p99.9", p.p999), ("max", p.max)] {
            put(format!("{} {} -> {} {what}", l.class, l.from, l.to), value, Kind::Time);
        }
    }
    for c in &r.classes {
        put(format!("{} frames sent", c.name), Some(c.transmissions as f64), Kind::Number);
        put(format!("{} frames lost", c.name), Some(c.lost as f64), Kind::Number);
        put(format!("{} frames sent again", c.name), Some(c.retransmitted as f64), Kind::Number);
        put(format!("{} frames with CE", c.name), Some(c.ce as f64), Kind::Number);
        put(format!("{} paused, all ports", c.name), c.paused_ns, Kind::Time);
        put(format!("{} arrival, L2 Gb/s", c.name), c.arrival_l2_gbps, Kind::Number);
    }
    let pfc = || r.ports.iter().flat_map(|p| &p.pfc);
    put("XOFF at tester ports".into(), Some(pfc().map(|p| p.xoff_rx).sum::<u64>() as f64), Kind::Number);
    put(
        "PFC refreshes at tester ports".into(),
        Some(pfc().map(|p| p.refresh_rx).sum::<u64>() as f64),
        Kind::Number,
    );
    put("XON at tester ports".into(), Some(pfc().map(|p| p.xon_rx).sum::<u64>() as f64), Kind::Number);
    put("longest pause".into(), pfc().filter_map(|p| p.longest_pause_ns).reduce(f64::max), Kind::Time);
    put("first XOFF".into(), pfc().filter_map(|p| p.first_xoff_ns).reduce(f64::min), Kind::Time);
    for s in &r.switches {
        let n = |v: Option<u64>| v.map(|v| v as f64);
        put(format!("{} drops", s.name), n(s.drops), Kind::Number);
        put(format!("{} lossless drops", s.name), n(s.drops_lossless), Kind::Number);
        put(format!("{} CE marked", s.name), n(s.ce_marked), Kind::Number);
        put(format!("{} shared pool max", s.name), n(s.shared_bytes_max), Kind::Bytes);
        put(format!("{} headroom max", s.name), n(s.headroom_bytes_max), Kind::Bytes);
        put(format!("{} priority group max", s.name), n(s.ingress_bytes_max), Kind::Bytes);
        let deepest = s.queues.iter().filter_map(|q| q.depth_bytes.max).reduce(f64::max);
        put(format!("{} deepest queue", s.name), deepest, Kind::Bytes);
    }
    let f = &r.flows;
    for (what, value) in [
        ("messages completed", f.completed),
        ("messages failed", f.failed),
        ("NAKs", f.nak_rx),
        ("timeouts", f.timeouts),
        ("CNPs", f.cnp_rx),
        ("frames out of order", f.out_of_order),
        ("payload, bytes", f.payload_bytes),
    ] {
        put(what.into(), Some(value as f64), Kind::Number);
    }
    put("goodput, Gb/s".into(), f.goodput_gbps, Kind::Number);
    if let Some(s) = &r.streams {
        put("stream frames sent".into(), Some(s.frames_tx as f64), Kind::Number);
        put("stream frames lost".into(), Some(s.lost as f64), Kind::Number);
    }
    all
}

/// Lays side A and side B next to each other. Figures whose relative difference is at most `tolerance` (0.01 = 1 %)
/// are shown but do not count.
pub fn compare(a: &[RunReport], b: &[RunReport], names: [String; 2], tolerance: f64) -> Comparison {
    let (fa, fb) = (mean_figures(a), mean_figures(b));
    let mut order: Vec<(String, Kind)> = fa.iter().map(|(n, _, k)| (n.clone(), *k)).collect();
    order.extend(
        fb.iter().filter(|(n, ..)| !fa.iter().any(|(m, ..)| m == n)).map(|(n, _, k)| (n.clone(), *k)),
    );
    let value = |side: &[(String, Option<f64>, Kind)], name: &str| {
        side.iter().find(|(n, ..)| n == name).and_then(|(_, v, _)| *v)
    };
    let mut differences = Vec::new();
    for (name, kind) in &order {
        let (x, y) = (value(&fa, name), value(&fb, name));
        if x == y {
            continue;
        }
        let relative = x.zip(y).filter(|(x, _)| *x != 0.0).map(|(x, y)| (y - x) / x);
        let beyond = relative.is_none_or(|r| r.abs() > tolerance);
        differences.push(Difference { name: name.clone(), a: x, b: y, relative, beyond, kind: *kind });
    }
    let hashes: Option<Vec<&str>> = a.iter().chain(b).map(|r| r.outcome_hash.as_deref()).collect();
    let hashes_equal = hashes.map(|h| h.windows(2).all(|w| w[0] == w[1]));
    Comparison { differences, figures: order.len(), warnings: warnings(a, b), hashes_equal, names, tolerance }
}

/// Figures of several reports: the mean where all have a value.
fn mean_figures(reports: &[RunReport]) -> Vec<(String, Option<f64>, Kind)> {
    let each: Vec<_> = reports.iter().map(figures).collect();
    let Some(first) = each.first() else { return Vec::new() };
    let mean = |(name, _, kind): &(String, Option<f64>, Kind)| {
        let values: Option<Vec<f64>> =
            each.iter().map(|f| f.iter().find(|(n, ..)| n == name).and_then(|(_, v, _)| *v)).collect();
        (name.clone(), values.map(|v| v.iter().sum::<f64>() / v.len() as f64), *kind)
    };
    first.iter().map(mean).collect()
}

fn warnings(a: &[RunReport], b: &[RunReport]) -> Vec<Warning> {
    let (Some(x), Some(y)) = (a.first(), b.first()) else { return Vec::new() };
    let mut all = Vec::new();
    let mut warn = |code: &str, text: String| all.push(Warning { code: code.into(), text });
    if x.name != y.name {
        warn("other-profile", format!("different profiles: {} and {}", x.name, y.name));
    }
    let shape = |r: &RunReport| -> Vec<(String, u32, u64)> {
        r.workload.iter().map(|w| (w.kind.clone(), w.ranks, w.bytes)).collect()
    };
    if shape(x) != shape(y) {
        warn("other-workload", "the workloads differ in kind, ranks or bytes".into());
    }
    if x.seed != y.seed {
        warn("other-seed", format!("different seeds: {} and {}", x.seed, y.seed));
    }
    if x.tool.revision != y.tool.revision {
        warn("other-revision", format!("made by {} and {}", x.tool.revision, y.tool.revision));
    }
    for r in a.iter().chain(b) {
        if !r.complete {
            warn("incomplete", format!("one run of {} did not complete", r.name));
        }
        if !r.tester.trustworthy {
            warn("not-trusted", format!("one run of {} is not trustworthy", r.name));
        }
    }
    all
}

impl Comparison {
    /// Nothing differs beyond the tolerance.
    pub fn equal(&self) -> bool {
        let same = self.tolerance > 0.0 || self.hashes_equal != Some(false);
        same && self.differences.iter().all(|d| !d.beyond)
    }
    /// 0 equal, 1 different.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.equal())
    }
    /// The table.
    pub fn text(&self) -> String {
        let mut out = format!("A  {}\nB  {}\n", self.names[0], self.names[1]);
        self.warnings.iter().for_each(|w| out.push_str(&format!("WARNING  {} [{}]\n", w.text, w.code)));
        if self.differences.is_empty() {
            out.push_str(&format!("no difference in {} figures\n", self.figures));
        } else {
            out.push_str(&format!("{:<44}{:>14}{:>14}{:>14}{:>11}\n", "", "A", "B", "B - A", "relative"));
        }
        for d in &self.differences {
            let delta = d.a.zip(d.b).map(|(a, b)| b - a);
            let signed = |x: f64| if x > 0.0 { format!("+{}", d.show(x)) } else { d.show(x) };
            let relative = d.relative.map_or("-".into(), |r| format!("{:+.2} %", r * 100.0));
            let cell = |v: Option<f64>| v.map_or("-".into(), |v| d.show(v));
            let mark = if d.beyond || self.tolerance == 0.0 { "" } else { "  ok" };
            out.push_str(&format!(
                "{:<44}{:>14}{:>14}{:>14}{relative:>11}{mark}\n",
                d.name,
                cell(d.a),
                cell(d.b),
                delta.map_or("-".into(), signed)
            ));
        }
        out.push_str(match self.hashes_equal {
            Some(true) => "outcome hashes are equal\n",
            Some(false) => "outcome hashes differ\n",
            None => "outcome hashes: not on both sides\n",
        });
        let beyond = self.differences.iter().filter(|d| d.beyond).count();
        if self.tolerance > 0.0 {
            out.push_str(&format!(
                "{beyond} of {} figures differ by more than {}\n",
                self.figures,
                super::number::percent(self.tolerance)
            ));
        } else if beyond > 0 {
            out.push_str(&format!("{beyond} of {} figures differ\n", self.figures));
        }
        out
    }
}

impl Difference {
    fn show(&self, x: f64) -> String {
        match self.kind {
            // Times that differ by little must not print alike: picoseconds are kept below a millisecond.
            Kind::Time if x.abs() >= 1e6 => format!("{:.6} ms", x / 1e6),
            Kind::Time if x.abs() >= 1e3 => format!("{:.3} us", x / 1e3),
            Kind::Time => time(x),
            Kind::Bytes if x.abs() >= 1e7 || x < 0.0 => format!("{x:.0} B"),
            Kind::Bytes => bytes(x as u64),
            Kind::Number => plain(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref as slice;

    use super::*;
    use crate::report::fixture;

    fn names() -> [String; 2] {
        ["out/a".into(), "out/b".into()]
    }

    #[test]
    fn the_same_report_twice_shows_no_difference() {
        let (plan, result) = fixture::incast();
        let r = fixture::report(&plan, &result);
        let c = compare(slice(&r), slice(&r), names(), 0.0);
        assert_eq!((c.exit_code(), c.hashes_equal), (0, Some(true)));
        assert!(
            c.text().contains("no difference") && c.text().contains("outcome hashes are equal"),
            "{}",
            c.text()
        );
    }

    #[test]
    fn differences_are_shown_absolute_and_relative_and_judged_by_the_tolerance() {
        let (plan, result) = fixture::incast();
        let a = fixture::report(&plan, &result);
        let mut b = a.clone();
        b.outcome_hash = Some("0".repeat(64));
        b.workload[0].completion_ns.percentiles.max = Some(11_000_000.0);
        b.switches[0].drops = Some(17);
        b.seed = 2;
        let strict = compare(slice(&a), slice(&b), names(), 0.0);
        assert_eq!(strict.exit_code(), 1);
        insta::assert_snapshot!(strict.text());
        b.switches[0].drops = a.switches[0].drops;
        assert_eq!(compare(slice(&a), slice(&b), names(), 0.01).exit_code(), 0);
        assert_eq!(compare(slice(&a), slice(&b), names(), 0.000_1).exit_code(), 1);
    }

    #[test]
    fn repeats_of_a_side_are_averaged() {
        let (plan, result) = fixture::incast();
        let a = fixture::report(&plan, &result);
        let with = |drops| {
            let mut r = a.clone();
            r.switches[0].drops = Some(drops);
            r
        };
        let c = compare(&[with(10), with(30)], &[with(20)], names(), 0.0);
        assert!(c.differences.is_empty(), "{:?}", c.differences);
    }
}
