//! `preflight`: the lab before a real run, as a table.

use std::io::Write;

use anyhow::Context;

use super::EXIT_USAGE;
use super::args::PreflightArgs;
use crate::plan::Mode;
use crate::profile::{self, Overrides};
use crate::report::number::time;
use crate::run::{self as driver, preflight::Preflight};
use crate::sys::signals::StopFlag;

/// Pairs whose latency is printed line by line.
const PAIRS_LISTED: usize = 16;

/// Looks at the lab and prints what was found.
pub fn preflight(args: &PreflightArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    driver::supported(Mode::Ports)?;
    let overrides = Overrides { set: args.set.clone(), on: Some(Mode::Ports), ..Overrides::default() };
    let plan = profile::load(&args.profile, &overrides)?;
    let stop = StopFlag::on_signals().context("signal handlers")?;
    let found = driver::preflight(&plan, &stop)?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&found)?)?;
    } else {
        write!(out, "{}", table(&found))?;
    }
    Ok(if found.passed() { 0 } else { EXIT_USAGE })
}

fn table(p: &Preflight) -> String {
    let mut s = String::new();
    for c in &p.checks {
        let (word, name) = (c.outcome.word(), &c.name);
        s.push_str(&format!("{word:<8} {name:<11} {:<24} {}\n", c.place, c.text));
        if let Some(fix) = &c.fix {
            s.push_str(&format!("{:21}-> {fix}\n", ""));
        }
    }
    let mut pairs: Vec<_> = p.pairs.iter().filter(|p| p.arrived > 0).collect();
    pairs.sort_by(|a, b| {
        b.latency_ns.mean.partial_cmp(&a.latency_ns.mean).unwrap_or(std::cmp::Ordering::Equal)
    });
    let cell = |ns: Option<f64>| ns.map_or("-".into(), time);
    if !pairs.is_empty() {
        let which = if pairs.len() > PAIRS_LISTED { ", the slowest pairs" } else { "" };
        s.push_str(&format!("LATENCY of an idle way, handed over -> taken in{which}\n"));
        s.push_str(&format!("  {:<40}{:>12}{:>12}{:>12}{:>8}\n", "", "min", "p50", "max", "probes"));
    }
    for p in pairs.iter().take(PAIRS_LISTED) {
        let (l, way) = (&p.latency_ns, format!("{} -> {}", p.from, p.to));
        let [min, p50, max] = [l.min, l.p50, l.max].map(cell);
        s.push_str(&format!("  {way:<40}{min:>12}{p50:>12}{max:>12}{:>8}\n", p.arrived));
    }
    let failed = p.checks.iter().filter(|c| c.fix.is_some() && c.outcome.word() == "FAIL").count();
    let word = if p.passed() { "READY".to_owned() } else { format!("NOT READY: {failed} failed") };
    s.push_str(&format!("{word} ({:.1} s)\n", p.wall_s));
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::preflight::{Check, Outcome, PairFigures};

    #[test]
    fn every_failure_has_its_fix_below_it() {
        let check = |name: &str, outcome, fix: Option<&str>| Check {
            name: name.into(),
            place: "port a -> b".into(),
            outcome,
            text: "DSCP 3 arrives as 0".into(),
            fix: fix.map(str::to_owned),
        };
        let pair =
            PairFigures { from: "a".into(), to: "b".into(), sent: 3, arrived: 3, ..PairFigures::default() };
        let p = Preflight {
            checks: vec![check("link", Outcome::Pass, None), check("marks", Outcome::Fail, Some("trust it"))],
            pairs: vec![pair],
            ..Preflight::default()
        };
        let text = table(&p);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("FAIL     marks") && lines[2].trim() == "-> trust it", "{text}");
        assert!(lines[5].contains("a -> b") && lines[6].starts_with("NOT READY: 1 failed"), "{text}");
    }
}
