//! `[expect]`: the names a profile may use, and how each is judged.

use super::model::{Judged, RunReport, Switch};
use super::{answer, number};
use crate::plan::Expectation;

/// How a limit holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// The value is the limit.
    Equal,
    /// The value is the limit or below.
    AtMost,
    /// The value is the limit or above.
    AtLeast,
}

/// What a limit is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Frames, ports.
    Count,
    /// No unit.
    Ratio,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
}

/// One name of `[expect]`.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Key in the profile.
    pub name: &'static str,
    /// How it is compared.
    pub holds: Holds,
    /// Unit of the limit.
    pub unit: Unit,
    value: fn(&RunReport) -> Result<f64, &'static str>,
}

/// Every name a profile may use in `[expect]`.
pub const KNOWN: [Known; 17] = [
    known("lossless_drops", Holds::Equal, Unit::Count, lossless_drops),
    known("drops", Holds::Equal, Unit::Count, |r| over_switches(r, |s| s.drops).map(|v| v.iter().sum())),
    known("ideal_ratio_max", Holds::AtMost, Unit::Ratio, |r| {
        ideal_ratios(r).map(|v| v.into_iter().fold(0.0, f64::max))
    }),
    known("ideal_ratio_min", Holds::AtLeast, Unit::Ratio, |r| {
        ideal_ratios(r).map(|v| v.into_iter().fold(f64::INFINITY, f64::min))
    }),
    known("headroom_bytes_max", Holds::AtMost, Unit::Bytes, |r| {
        over_switches(r, |s| s.headroom_bytes_max).map(|v| v.into_iter().fold(0.0, f64::max))
    }),
    known("pfc_ports", Holds::Equal, Unit::Count, pfc_ports),
    known("pfc_ports_min", Holds::AtLeast, Unit::Count, pfc_ports),
    known("pfc_ports_max", Holds::AtMost, Unit::Count, pfc_ports),
    known("pfc_xoff_max", Holds::AtMost, Unit::Count, pfc_xoff),
    known("pfc_xoff_min", Holds::AtLeast, Unit::Count, pfc_xoff),
    known("ce_marked_max", Holds::AtMost, Unit::Count, ce_marked),
    known("ce_marked_min", Holds::AtLeast, Unit::Count, ce_marked),
    known("retransmitted_max", Holds::AtMost, Unit::Count, |r| Ok(r.flows.retransmitted as f64)),
    known("completion_max", Holds::AtMost, Unit::Nanoseconds, |r| {
        let each = r.workload.iter().map(|w| w.completion_ns.percentiles.max);
        worst(each, "no iteration was finished by all ranks").map(|v| v.into_iter().fold(0.0, f64::max))
    }),
    known("deadlocks", Holds::Equal, Unit::Count, |r| Ok(r.fabric.deadlocks.len() as f64)),
    known("victims_max", Holds::AtMost, Unit::Count, |r| match &r.fabric.victims {
        Some(v) => Ok(f64::from(v.victims)),
        None => Err("paths are not fixed"),
    }),
    known("failed_max", Holds::AtMost, Unit::Count, |r| Ok(r.flows.failed as f64)),
];

const fn known(
    name: &'static str,
    holds: Holds,
    unit: Unit,
    value: fn(&RunReport) -> Result<f64, &'static str>,
) -> Known {
    Known { name, holds, unit, value }
}

/// The entry of `name`; `None` when a profile must not use it.
pub fn find(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|k| k.name == name)
}

/// Without a lossless class there is nothing to keep: zero says nothing then.
fn lossless_drops(r: &RunReport) -> Result<f64, &'static str> {
    let drops: f64 = over_switches(r, |s| s.drops_lossless)?.iter().sum();
    match drops == 0.0 && !r.classes.iter().any(|c| c.lossless) {
        true => Err("no class is lossless; use drops = 0"),
        false => Ok(drops),
    }
}

fn over_switches(r: &RunReport, f: impl Fn(&Switch) -> Option<u64>) -> Result<Vec<f64>, &'static str> {
    worst(r.switches.iter().map(|s| f(s).map(|n| n as f64)), "no switch counters")
}

/// All values, or the reason when one is missing: a value not measured must not pass.
fn worst(values: impl Iterator<Item = Option<f64>>, missing: &'static str) -> Result<Vec<f64>, &'static str> {
    let all: Option<Vec<f64>> = values.collect();
    all.filter(|v| !v.is_empty()).ok_or(missing)
}

fn ideal_ratios(r: &RunReport) -> Result<Vec<f64>, &'static str> {
    worst(r.workload.iter().map(|w| w.ideal_ratio), "no completion or no closed-form ideal")
}

fn pfc_ports(r: &RunReport) -> Result<f64, &'static str> {
    if r.ports.iter().flat_map(|p| &p.pfc).any(|p| p.seen == "unknown") {
        return Err("pauses of the ports are not known");
    }
    let paused = |p: &&super::model::Port| p.pfc.iter().any(|c| c.xoff_rx > 0);
    Ok(r.ports.iter().filter(paused).count() as f64)
}

/// XOFFs that reached tester ports, refreshes left out.
fn pfc_xoff(r: &RunReport) -> Result<f64, &'static str> {
    pfc_ports(r)?;
    Ok(r.ports.iter().flat_map(|p| &p.pfc).map(|p| p.xoff_rx).sum::<u64>() as f64)
}

fn ce_marked(r: &RunReport) -> Result<f64, &'static str> {
    over_switches(r, |s| s.ce_marked).map(|v| v.iter().sum())
}

/// Judges one expectation. What was not measured fails and says why.
pub fn judge(e: &Expectation, report: &RunReport) -> Judged {
    let fail = |reason: &str| Judged {
        name: e.name.clone(),
        limit: e.limit,
        value: None,
        pass: false,
        reason: Some(reason.to_owned()),
        note: None,
    };
    let Some(known) = find(&e.name) else { return fail("unknown name") };
    let value = match (known.value)(report) {
        Ok(value) => value,
        Err(reason) => return fail(&format!("not measured: {reason}")),
    };
    let pass = match known.holds {
        Holds::Equal => value == e.limit,
        Holds::AtMost => value <= e.limit,
        Holds::AtLeast => value >= e.limit,
    };
    let lost = match e.name.as_str() {
        "lossless_drops" => answer::lost_on_links(report, Some(true)),
        "drops" => answer::lost_on_links(report, None),
        _ => 0,
    };
    let note = (lost > 0).then(|| format!("by switches; links lost {}", number::grouped(lost)));
    Judged { name: e.name.clone(), limit: e.limit, value: Some(value), pass, reason: None, note }
}

/// "lossless_drops 0=0", "drops 0=0 (by switches; links lost 54)", "headroom_bytes_max 30.0 kB<=117 kB", "ideal_ratio_max 1.05>1.02 FAILED".
pub fn line(j: &Judged) -> String {
    let unit = find(&j.name).map_or(Unit::Ratio, |k| k.unit);
    let show = |x: f64| match unit {
        Unit::Bytes => number::bytes(x as u64),
        Unit::Nanoseconds => number::time(x),
        Unit::Count | Unit::Ratio => number::plain(x),
    };
    let Some(value) = j.value else {
        return format!("{} FAILED ({})", j.name, j.reason.as_deref().unwrap_or("not measured"));
    };
    let sign = match find(&j.name).map(|k| k.holds) {
        _ if value == j.limit && !j.name.ends_with("_max") && !j.name.ends_with("_min") => "=",
        Some(Holds::AtMost) if j.pass => "<=",
        Some(Holds::AtLeast) if j.pass => ">=",
        _ if value < j.limit => "<",
        _ => ">",
    };
    let failed = if j.pass { "" } else { " FAILED" };
    let note = j.note.as_ref().map_or_else(String::new, |n| format!(" ({n})"));
    format!("{} {}{sign}{}{failed}{note}", j.name, show(value), show(j.limit))
}

#[cfg(test)]
mod tests {
    use super::super::fabric::Drops;
    use super::super::model::Class;
    use super::*;

    fn judged(name: &str, limit: f64, report: &RunReport) -> (bool, String) {
        let j = judge(&Expectation { name: name.into(), limit, typed: limit.to_string() }, report);
        (j.pass, line(&j))
    }

    #[test]
    fn limits_hold_as_their_names_say() {
        let switch =
            Switch { drops_lossless: Some(3), headroom_bytes_max: Some(30_480), ..Switch::default() };
        let mut r = RunReport { switches: vec![switch], ..RunReport::default() };
        assert_eq!(judged("lossless_drops", 0.0, &r), (false, "lossless_drops 3>0 FAILED".into()));
        assert_eq!(judged("lossless_drops", 3.0, &r), (true, "lossless_drops 3=3".into()));
        assert_eq!(
            judged("headroom_bytes_max", 117_348.0, &r),
            (true, "headroom_bytes_max 30.5 kB<=117 kB".into())
        );
        assert_eq!(judged("pfc_ports_min", 1.0, &r), (false, "pfc_ports_min 0<1 FAILED".into()));
        r.fabric.drops = vec![Drops { cause: "link-down".into(), frames: 1_031, lossless: 1_000 }];
        assert_eq!(
            judged("lossless_drops", 3.0, &r),
            (true, "lossless_drops 3=3 (by switches; links lost 1,000)".into())
        );
    }

    #[test]
    fn nothing_lost_where_nothing_is_kept_proves_nothing() {
        let class = |lossless| Class { lossless, ..Class::default() };
        let switch = Switch { drops_lossless: Some(0), ..Switch::default() };
        let r = |lossless| RunReport {
            switches: vec![switch.clone()],
            classes: vec![class(false), class(lossless)],
            ..RunReport::default()
        };
        assert_eq!(judged("lossless_drops", 0.0, &r(true)), (true, "lossless_drops 0=0".into()));
        let (pass, text) = judged("lossless_drops", 0.0, &r(false));
        assert!(
            !pass && text.contains("FAILED (not measured: no class is lossless; use drops = 0"),
            "{text}"
        );
    }

    #[test]
    fn what_was_not_measured_fails_with_a_reason() {
        let r = RunReport { switches: vec![Switch::default()], ..RunReport::default() };
        assert_eq!(
            judged("drops", 0.0, &r),
            (false, "drops FAILED (not measured: no switch counters)".into())
        );
        let (pass, text) = judged("ideal_ratio_max", 1.02, &r);
        assert!(!pass && text.contains("no closed-form ideal"), "{text}");
        assert!(!judged("no_such_thing", 1.0, &r).0);
    }
}
