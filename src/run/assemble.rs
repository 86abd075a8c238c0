//! From a plan to engines, and from engines to a result: what all drivers share.

use std::sync::Arc;

use super::RunError;
use super::engine::{Engine, Parts, Tee};
use super::phases::{Phases, Shared};
use super::result::{Conservation, RunResult, SimStats, Snapshot, TesterStats};
use crate::frame::{Frame, FramePool};
use crate::host::Host;
use crate::measure::recorder::Recorder;
use crate::measure::stats::{HostStats, SwitchStats};
use crate::plan::{Mode, Plan, memory};
use crate::switch::{AddressMap, Switch};
use crate::sys;
use crate::units::{PortId, Time};
use crate::workload::config::Action;

/// The part of a plan that one engine runs.
#[derive(Clone, Debug)]
pub struct Share {
    /// Tester ports.
    pub hosts: std::ops::Range<usize>,
    /// Switches.
    pub switches: std::ops::Range<usize>,
}

impl Share {
    /// Everything.
    pub fn all(plan: &Plan) -> Share {
        Share { hosts: 0..plan.hosts.len(), switches: 0..plan.fabric.switches.len() }
    }
}

/// The agreement between `engines` engines with hosts about the phases of `plan`.
pub fn agreement(plan: &Plan, engines: u32) -> Arc<Shared> {
    let (warmup, repeats) = if plan.workloads.is_empty() { (0, 0) } else { (plan.warmup, plan.repeats) };
    Shared::new(warmup, repeats, plan.gap, plan.end(), engines)
}

/// Frames that can be in flight at most (every buffer full, every link full) and how many to allocate at the start.
pub fn pool_frames(plan: &Plan) -> (usize, usize) {
    memory::pool_frames(&plan.fabric, &plan.hosts, &plan.classes)
}

/// Builds the engine of one share.
///
/// # Errors
/// A switch configuration that cannot be.
pub fn engine<F: Frame, P: FramePool<Frame = F>>(
    plan: &Plan,
    share: Share,
    pool: P,
    shared: &Arc<Shared>,
    tee: Option<Box<dyn Tee<F>>>,
) -> Result<Engine<F, P>, RunError> {
    let addresses = AddressMap::new(plan.ranks.iter().map(|r| (r.ip, r.port)));
    let mut hosts: Vec<Host> = plan.hosts[share.hosts.clone()].iter().cloned().map(Host::new).collect();
    if P::WRITES_BYTES {
        hosts.iter_mut().for_each(Host::prepare_checksums);
    }
    let mut switches = Vec::new();
    for s in share.switches {
        let config = plan.fabric.switches[s].clone();
        switches.push((
            s as u16,
            Switch::new(config, s as u16, &plan.fabric.routes[s], addresses.clone())
                .map_err(|e| RunError::Setup(e.to_string()))?,
        ));
    }
    let snapshots = plan
        .actions
        .iter()
        .filter_map(|a| match &a.action {
            Action::Snapshot { name } if !switches.is_empty() => Some((a.at, name.clone())),
            _ => None,
        })
        .collect();
    let phases = Phases::new(shared.clone(), hosts.len() as u32);
    let recorder = Recorder::for_plan(plan);
    let mut engine =
        Engine::new(&plan.fabric, Parts { hosts, switches }, pool, recorder, phases, snapshots, tee);
    engine.inject_faults(&plan.fabric, &plan.faults, plan.seed);
    if !plan.links.events.is_empty() {
        engine.watch_links(&plan.fabric, &plan.links, plan.seed);
    }
    if plan.links.watch {
        engine.watch_deadlocks(&plan.fabric, plan.links.deadlock_ends);
    }
    Ok(engine)
}

/// Nominal end of a run: the agreed end, or where it was stopped.
pub fn end_of(shared: &Shared, now: Time, stopped: bool) -> Time {
    if stopped { now } else { shared.end() }
}

/// What a driver hands over when its engines have finished.
#[derive(Debug)]
pub struct Assembled {
    /// How it ran.
    pub mode: Mode,
    /// Counters in port order.
    pub hosts: Vec<HostStats>,
    /// Counters with fabric index.
    pub switches: Vec<(u16, SwitchStats)>,
    /// Snapshots.
    pub snapshots: Vec<Snapshot>,
    /// Frames and bytes of the whole run.
    pub conservation: Conservation,
    /// Nominal end.
    pub ended: Time,
    /// Interrupted by the user.
    pub stopped: bool,
    /// Speed, virtual time only.
    pub sim: Option<SimStats>,
}

/// Puts a result together and says what is missing and whether the tester can be trusted.
pub fn result(
    plan: &Plan,
    shared: &Shared,
    recorder: Recorder,
    mut tester: TesterStats,
    mut a: Assembled,
) -> RunResult {
    let done = shared.iterations_done();
    let mut missing = Vec::new();
    if a.stopped {
        missing.push(format!("interrupted by the user in iteration {} of {}", done + 1, shared.iterations()));
    }
    missing.extend(shared.failures());
    if !a.stopped && missing.is_empty() && done < shared.iterations() {
        missing.push(format!(
            "iteration {} of {} did not finish before the limit of {}: see frames left inside",
            done + 1,
            shared.iterations(),
            plan.limit
        ));
    }
    if !a.conservation.holds() {
        tester.why.push(format!(
            "frames are not conserved: sent {} = received {} + dropped {} + inside {} does not hold, {} not returned to their pool",
            a.conservation.sent_frames,
            a.conservation.received_frames,
            a.conservation.dropped_frames,
            a.conservation.inside_frames,
            a.conservation.pool_in_use
        ));
    }
    if tester.tx_refused > 0 {
        tester
            .why
            .push(format!("{} frames were refused for want of buffers in the tester", tester.tx_refused));
    }
    if tester.rx_missed > 0 {
        tester.why.push(format!("{} frames arrived and were not taken by the tester", tester.rx_missed));
    }
    tester.trustworthy = tester.why.is_empty();
    a.switches.sort_by_key(|(i, _)| *i);
    let measured_from = recorder.measure_from();
    RunResult {
        mode: a.mode,
        measured_from,
        recorder,
        hosts: a.hosts,
        switches: a.switches.into_iter().map(|(_, s)| s).collect(),
        ended: a.ended,
        complete: missing.is_empty(),
        missing,
        iterations_done: done,
        snapshots: a.snapshots,
        conservation: a.conservation,
        tester,
        sim: a.sim,
        peak_bytes: sys::memory::process().peak_bytes(),
    }
}

/// The ports of a share, for names.
pub fn port_range(share: &Share) -> String {
    match share.hosts.len() {
        0 => String::new(),
        _ => format!("{}-{}", PortId(share.hosts.start as u32).0, share.hosts.end - 1),
    }
}
