//! A run on real ports: the hosts of the plan on DPDK devices, in real time, through whatever lies between.
//!
//! Workers turn the ports, each its own on a core of its own ([`worker`]); the calling thread is the control: it reports
//! progress, raises the stop flag and beats a heart that the workers watch. All start at one agreed tick. Nothing is
//! modelled here, so there are no switch counters and no outcome hash; what the tester itself did wrong is measured and
//! makes the result untrustworthy.

mod asked;
mod port;
#[cfg(test)]
mod port_tests;
mod preflight;
mod setup;
mod stamp;
mod tally;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use hdrhistogram::Histogram;

use super::assemble::{self, Assembled};
use super::preflight::Preflight;
use super::result::{Conservation, PortFigures, RunResult, TesterStats, WorkerStats};
use super::{Options, Progress, RunError};
use crate::measure::recorder::Recorder;
use crate::measure::stats::HostStats;
use crate::plan::{Mode, Plan};
use crate::sys;
use crate::sys::signals::StopFlag;
use crate::sys::tsc::{CALIBRATION_WINDOW, Tsc, Watch};
use crate::units::{Span, Time};
use worker::{Gate, Job, Left};

/// The control thread's heart beats this often.
const BEAT: Duration = Duration::from_millis(50);

/// Most that the TSC may drift against CLOCK_MONOTONIC_RAW besides what cannot be told: as much as Ethernet's own
/// oscillators may be off (IEEE 802.3).
const DRIFT_PPM_MAX: f64 = 100.0;

/// Looks at the lab of `plan` and runs nothing.
///
/// # Errors
/// What is refused or cannot be opened; what was found wrong on the wire is in the result.
pub fn preflight(plan: &Plan, stop: &StopFlag) -> Result<Preflight, RunError> {
    let setup = |e: String| RunError::Setup(e);
    setup::refuse(plan, false).map_err(setup)?;
    let tsc = Tsc::calibrate(CALIBRATION_WINDOW).map_err(|e| RunError::Setup(e.to_string()))?;
    let mut lab = setup::open(plan).map_err(setup)?;
    Ok(preflight::examine(plan, tsc, stop, true, &mut lab))
}

/// Runs `plan` on its ports.
///
/// # Errors
/// What is refused, is not there, or does not answer: nothing but questions to neighbours has been sent then.
pub fn run(plan: &Plan, mut opts: Options<'_>) -> Result<RunResult, RunError> {
    let setup = |e: String| RunError::Setup(e);
    setup::refuse(plan, opts.pcap.is_some()).map_err(setup)?;
    let cores = sys::affinity::cores();
    let tsc = Tsc::calibrate(CALIBRATION_WINDOW).map_err(|e| RunError::Setup(e.to_string()))?;
    let mut lab = setup::open(plan).map_err(setup)?;
    let found = opts.preflight.then(|| preflight::examine(plan, tsc, &opts.stop, false, &mut lab));
    if opts.stop.is_raised() {
        return Err(RunError::Setup("interrupted before the first frame".into()));
    }
    if let Some(refusal) = found.as_ref().and_then(Preflight::refusal) {
        return Err(RunError::Setup(refusal));
    }
    let pools = lab.pools.clone();
    let count = plan.lab.workers(plan.hosts.len(), cores.len());
    let shared = assemble::agreement(plan, count as u32);
    let heart = Arc::new(AtomicU64::new(sys::tsc::ticks()));
    let (progress_tx, progress_rx) = bounded(16);
    let (gate, number) = (Gate::new(count), stamp::run_number(sys::tsc::ticks()));
    let job = |w: usize| Job {
        plan,
        first: first_port(plan, count, w),
        gate: gate.clone(),
        number,
        tsc,
        // From the last core down: the first one is where most systems do their housekeeping.
        core: (cores.len() > 1).then(|| cores[cores.len() - 1 - w]),
        shared: shared.clone(),
        stop: opts.stop.clone(),
        heart: heart.clone(),
        progress: progress_tx.clone(),
    };
    let jobs: Vec<(Job<'_>, setup::Open)> = (0..count).map(job).zip(split(plan, lab, count)).collect();
    drop(progress_tx);
    let (wall, watch) = (Instant::now(), Watch::start());
    let done: Vec<_> = std::thread::scope(|threads| {
        let start = |(job, lab): (Job<'_>, setup::Open)| {
            let (gate, shared) = (job.gate.clone(), job.shared.clone());
            catch_unwind(AssertUnwindSafe(|| worker::run(job, lab)))
                .inspect(|left| {
                    if left.is_err() {
                        gate.fail();
                    }
                })
                .inspect_err(|_| {
                    // The others stop as well, and their ports are closed.
                    gate.fail();
                    shared.end_at(Time::ZERO);
                })
        };
        let workers: Vec<_> = jobs.into_iter().map(|one| threads.spawn(move || start(one))).collect();
        loop {
            heart.store(sys::tsc::ticks(), std::sync::atomic::Ordering::Relaxed);
            match progress_rx.recv_timeout(BEAT) {
                Ok(now) => opts.report(&Progress {
                    iteration: shared.iterations_done(),
                    iterations: shared.iterations(),
                    now,
                    wall_s: wall.elapsed().as_secs_f64(),
                    dilation: None,
                }),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
            }
        }
        workers.into_iter().map(|w| w.join()).collect()
    });
    let wall_s = wall.elapsed().as_secs_f64();
    let drift = watch.drift_ppm(&tsc);
    let mut lefts = Vec::new();
    let (mut refusals, mut died) = (Vec::new(), 0);
    for one in done {
        match one {
            Ok(Ok(Ok(left))) => lefts.push(left),
            Ok(Ok(Err(refused))) => refusals.push(refused),
            _ => died += 1,
        }
    }
    if died > 0 {
        return Err(RunError::Setup(format!(
            "{died} of {count} workers died; all ports are closed and nothing was measured"
        )));
    }
    // One worker knows why; those that waited for it say nothing.
    if let Some(refused) = refusals.into_iter().max_by_key(String::len) {
        return Err(RunError::Setup(refused));
    }
    let stopped = opts.stop.is_raised();
    let left = Sum::of(lefts);
    let ended = if stopped { left.now } else { shared.end().min(left.now) };
    let (sent, received) = (
        left.hosts.iter().map(|h| h.tx_frames).sum::<u64>(),
        left.hosts.iter().map(|h| h.rx_frames - h.rx_unknown.min(h.rx_frames)).sum::<u64>(),
    );
    let conservation = Conservation {
        sent_frames: sent,
        received_frames: received.min(sent),
        // What a network lost or still holds cannot be told apart from outside.
        inside_frames: sent.saturating_sub(received),
        pool_in_use: pools.iter().map(|p| u64::from(p.in_use())).sum(),
        ..Conservation::default()
    };
    let mut why = left.why;
    let (ppm, doubt) = drift;
    if ppm.abs() > doubt + DRIFT_PPM_MAX {
        why.push(format!(
            "the TSC drifted by {ppm:.0} ppm (known to {doubt:.1}) against CLOCK_MONOTONIC_RAW: rates and latencies are wrong \
             by that"
        ));
    }
    let tester = TesterStats {
        wall_s,
        tsc_hz: Some(tsc.hz()),
        tsc_drift_ppm: Some([ppm, doubt]),
        control: Some(control(cores.len(), count)),
        workers: left.workers,
        tx_refused: left.hosts.iter().map(|h| h.pool_empty).sum(),
        rx_missed: left.ports.iter().map(|p| p.rx_missed).sum(),
        lateness_ps: left.lateness.as_ref().map(worker::percentiles),
        late_frames: left.late,
        why,
        ports: left.ports,
        preflight: found,
        stop_ps: left.stop.map(|s| s.0),
        events: left.events,
        ..TesterStats::default()
    };
    let a = Assembled {
        mode: Mode::Ports,
        hosts: left.hosts,
        switches: Vec::new(),
        snapshots: Vec::new(),
        conservation,
        ended,
        stopped,
        sim: None,
    };
    Ok(assemble::result(plan, &shared, left.recorder, tester, a))
}

/// Where the control plane has its core.
fn control(cores: usize, workers: usize) -> String {
    let word = match cores.saturating_sub(workers) {
        0 => "shares a core with a worker",
        1 => "has a core of its own",
        _ => "has cores of its own",
    };
    word.into()
}

/// First port of worker `w` of `count`: as many for each as can be, the last ones one more.
fn first_port(plan: &Plan, count: usize, w: usize) -> usize {
    plan.hosts.len() * w / count
}

/// The devices of each worker, in port order.
fn split(plan: &Plan, mut lab: setup::Open, count: usize) -> Vec<setup::Open> {
    let mut shares: Vec<setup::Open> = (0..count)
        .rev()
        .map(|w| setup::Open {
            ports: lab.ports.split_off(first_port(plan, count, w).min(lab.ports.len())),
            control: lab.control.clone(),
            data: lab.data.clone(),
            pools: lab.pools.clone(),
            frame_max: lab.frame_max,
        })
        .collect();
    shares.reverse();
    shares
}

/// What all workers left, in port order.
#[derive(Default)]
struct Sum {
    hosts: Vec<HostStats>,
    recorder: Recorder,
    now: Time,
    workers: Vec<WorkerStats>,
    ports: Vec<PortFigures>,
    events: Vec<String>,
    why: Vec<String>,
    lateness: Option<Histogram<u64>>,
    late: u64,
    /// The worker that stopped last.
    stop: Option<Span>,
}

impl Sum {
    fn of(lefts: Vec<Left>) -> Sum {
        let mut sum = Sum::default();
        for (i, left) in lefts.into_iter().enumerate() {
            sum.hosts.extend(left.hosts);
            sum.now = sum.now.max(left.now);
            sum.workers.push(left.worker);
            sum.ports.extend(left.ports);
            sum.events.extend(left.events);
            for why in left.why {
                // What concerns all of them is said once.
                if !sum.why.contains(&why) {
                    sum.why.push(why);
                }
            }
            sum.late += left.late;
            sum.stop = sum.stop.max(left.stop);
            match (&mut sum.lateness, left.lateness) {
                (Some(all), Some(one)) => {
                    // Of one shape: nothing can be out of range.
                    let _ = all.add(one);
                }
                (all, one) => *all = all.take().or(one),
            }
            if i == 0 {
                sum.recorder = left.recorder;
            } else {
                sum.recorder.merge(left.recorder);
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_where_the_control_plane_is() {
        assert_eq!(control(2, 2), "shares a core with a worker");
        assert_eq!(control(2, 1), "has a core of its own");
        assert_eq!(control(16, 4), "has cores of its own");
    }
}
