//! The filled document becomes a [`Plan`].

use std::path::PathBuf;
use std::sync::Arc;

use super::doc::{ClockDoc, Dilation, ProfileDoc};
use super::sonic::{self, Imported};
use super::source::{Fault, fault};
use super::traffic::{self, Ground};
use super::{classes, connect, ecmp, expect, fabric, faults, links, pfc, ports, rate};
use crate::limits::RUN_SECONDS_MAX;
use crate::plan::advice::advice;
use crate::plan::headroom::short_pools;
use crate::plan::predict::{Basis, predict};
use crate::plan::{Clock, Compat, Plan};
use crate::units::{Span, Time};
use crate::workload::config::{WorkloadConfig, WorkloadKind};
use crate::workload::generate;
use crate::workload::schedule::Schedule;

/// Format version this build reads.
const SCHEMA: u32 = 1;

/// Builds and checks the plan of a document that [`super::defaults::fill`] has filled. `schedules[i]`
/// belongs to
/// workload i.
pub(super) fn build(
    doc: &ProfileDoc,
    schedules: &[Option<Arc<Schedule>>],
    imported: Option<&Imported>,
    source: Option<PathBuf>,
) -> Result<Plan, Fault> {
    if doc.schema != Some(SCHEMA) {
        return fault("schema", format!("this build reads schema {SCHEMA} only"));
    }
    let Some(run) = &doc.run else { return fault("run", "is missing") };
    if doc.workload.is_empty() && doc.stream.is_empty() && doc.at.is_empty() && doc.pfc.is_empty() {
        return fault("", "the profile sends nothing; add a [[workload]], a [[stream]] or an [[at]]");
    }
    let name = doc.name.clone().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return fault("name", "is the name of the output folder: letters, digits, - _ . and not empty");
    }
    let mut warnings = Vec::new();
    let class_plan = classes::build(doc, imported, &mut warnings)?;
    let class_list = class_plan.list.clone();
    let mut layout = ports::build(doc)?;
    if let Some(imported) = imported {
        fabric::name_ports(doc, &mut layout, imported);
        warnings.extend(imported.warnings.iter().cloned());
        let addresses = layout.ranks.iter().map(|r| r.ip);
        warnings.extend(sonic::remarks(imported, doc, &class_list, addresses));
    }
    pfc::guard(&mut layout, &class_list, &doc.at)?;
    let ground = Ground { doc, layout: &layout, classes: &class_list, schedules };
    let mut workloads = traffic::workloads(&ground)?;
    for (i, w) in workloads.iter().enumerate() {
        generate::check(w).map_err(|e| Fault { path: format!("workload[{i}]"), text: e.to_string() })?;
        if let WorkloadKind::Replay(schedule) = &w.kind {
            warnings.extend(schedule.warnings.iter().map(|text| ("replay".into(), text.clone())));
        }
    }
    let mut streams = traffic::streams(&ground)?;
    let mut timeline = traffic::timeline(&ground)?;
    streams.append(&mut timeline.bursts);
    pfc::generate(doc, &layout, run.limit.map_or(Span::ZERO, |d| d.0), &mut timeline, &mut warnings)?;
    let fabric = fabric::build(doc, &layout, &class_plan, imported)?;
    rate::windows(doc, &mut workloads, &class_list, &layout.ranks, &fabric)?;
    let workloads: Arc<[WorkloadConfig]> = workloads.into();
    let faults = faults::build(doc, &layout, &mut warnings)?;
    let links = links::build(doc, &layout, &fabric, &timeline.links, &mut warnings)?;
    let actions = std::mem::take(&mut timeline.fabric);
    let last_action = timeline.ports.iter().map(|(_, a)| a).chain(&actions).map(|a| a.end()).max();
    let seed = run.seed.unwrap_or(1);
    let hosts = connect::hosts(connect::Parts {
        layout: &layout,
        fabric: &fabric,
        classes: class_list.clone(),
        workloads: workloads.clone(),
        streams,
        timeline,
        hairpin: run.hairpin.unwrap_or(false),
        seed,
    })?;
    let lab = super::lab::build(doc, &hosts)?;
    let (warmup, repeats) = (run.warmup.unwrap_or(0), run.repeats.unwrap_or(1));
    let (gap, limit) = (run.gap.map_or(Span::ZERO, |d| d.0), run.limit.map_or(Span::ZERO, |d| d.0));
    bounds(warmup, repeats, limit)?;
    let basis = Basis {
        hosts: &hosts,
        workloads: &workloads,
        ranks: &layout.ranks,
        classes: &class_list,
        fabric: &fabric,
        iterations: warmup + repeats,
        gap,
        last_action: last_action.unwrap_or(Time::ZERO),
        repeats,
    };
    let mut predicted = predict(&basis);
    // First, so that the screen of a run has them.
    warnings.splice(0..0, advice(&basis));
    if predicted.duration > limit {
        let text = format!(
            "the run needs at least {} for {} iterations; raise limit or lower repeats, message or \
                 vector sizes",
            predicted.duration,
            warmup + repeats
        );
        return fault("run.limit", text);
    }
    for w in workloads.iter() {
        if matches!(w.kind, WorkloadKind::Incast { .. }) && predicted.fan_in_physical <= 1.0 {
            let text = format!(
                "workload {}: {} ranks send, but their ports are no faster than the receiver's ({:.2}:1 \
                     physical); ranks \
                 behind one port make no pressure: spread them over more ports or slow the receiver",
                w.name,
                w.ranks.len() - 1,
                predicted.fan_in_physical
            );
            warnings.push(("incast_without_pressure".into(), text));
        }
    }
    if let Some(h) = predicted.headroom
        && h.needed > h.configured
    {
        let text = format!(
            "headroom of {} B per port and priority, {} B needed in the worst case: lossless frames may \
                 be lost",
            h.configured.0, h.needed.0
        );
        warnings.push(("headroom_too_small".into(), text));
    }
    for (i, switch) in fabric.switches.iter().enumerate() {
        for (pool, has, needed) in short_pools(switch, i as u16, &predicted.headrooms) {
            let text = format!(
                "switch {}: shared headroom pool {pool} has {} B, all ports together need {} B in the worst case: \
                 lossless frames may be lost",
                switch.name, has.0, needed.0
            );
            warnings.push(("shared_headroom_too_small".into(), text));
        }
    }
    if let Some((text, paths)) = ecmp::spread(&fabric, &hosts, &workloads) {
        warnings.extend(text.map(|text| ("ecmp_collisions".to_owned(), text)));
        predicted.paths = paths;
    }
    Ok(Plan {
        name,
        question: doc.question.clone(),
        expectation: doc.expectation.clone(),
        seed,
        warmup,
        repeats,
        gap,
        limit,
        compat: Compat::Own,
        clock: clock(doc)?,
        mode: run.on,
        classes: class_list,
        ranks: layout.ranks.into(),
        hosts,
        workloads,
        actions,
        fabric,
        faults,
        links,
        lab,
        expect: expect::build(doc.expect.as_ref())?,
        predicted,
        warnings,
        effective: String::new(),
        source,
    })
}

fn bounds(warmup: u32, repeats: u32, limit: Span) -> Result<(), Fault> {
    if repeats == 0 {
        return fault("run.repeats", "must be at least 1");
    }
    if u64::from(warmup) + u64::from(repeats) > 1_000_000 {
        return fault("run.repeats", "warmup and repeats together must be at most 1000000");
    }
    let most = Span(RUN_SECONDS_MAX * 1_000_000_000_000);
    if limit == Span::ZERO || limit > most {
        return fault("run.limit", format!("must be above 0 and at most {} h", RUN_SECONDS_MAX / 3600));
    }
    Ok(())
}

fn clock(doc: &ProfileDoc) -> Result<Clock, Fault> {
    let run = doc.run.as_ref();
    match (run.and_then(|r| r.clock), run.and_then(|r| r.dilation)) {
        (Some(ClockDoc::Free), Some(Dilation::Factor(dilation))) => Ok(Clock::Free { dilation }),
        (Some(ClockDoc::Free), _) => {
            fault("run.dilation", "clock = \"free\" keeps one dilation; give it as a number, for example 50")
        }
        (_, Some(Dilation::Factor(k))) => Ok(Clock::Elastic { dilation: Some(k) }),
        _ => Ok(Clock::Elastic { dilation: None }),
    }
}
