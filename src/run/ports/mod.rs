//! A run on real ports: the hosts of the plan on DPDK devices, in real time, through whatever lies between.
//!
//! Workers turn the ports, or queues of them, each its own on a core of its own ([`worker`]); the calling thread is the
//! control: it reports progress, raises the stop flag and beats a heart that the workers watch. All start at one agreed tick. Nothing is
//! modelled here, so there are no switch counters and no outcome hash; what the tester itself did wrong is measured and
//! makes the result untrustworthy.

mod alive;
mod asked;
mod figures;
mod pace;
mod port;
#[cfg(test)]
mod port_tests;
mod preflight;
mod seen;
mod setup;
mod siblings;
mod stamp;
mod steer;
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
use super::result::{Conservation, RunResult, TesterStats, WorkerStats};
use super::{Options, Progress, RunError};
use crate::dpdk::{EthPort, MbufFrame};
use crate::measure::recorder::Recorder;
use crate::measure::stats::HostStats;
use crate::plan::shards::{Homes, Shard, shards};
use crate::plan::{Mode, Plan};
use crate::sys;
use crate::sys::signals::StopFlag;
use crate::sys::tsc::{CALIBRATION_WINDOW, Tsc, Watch};
use crate::units::{Span, Time};
use siblings::Siblings;
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
    let (frame_max, steered) = (lab.frame_max, std::mem::take(&mut lab.steered));
    let shards = shards(plan);
    let count = plan.lab.workers(shards.len(), cores.len());
    let shared = assemble::agreement(plan, count as u32);
    let heart = Arc::new(AtomicU64::new(sys::tsc::ticks()));
    let (progress_tx, progress_rx) = bounded(16);
    let (gate, number) = (Gate::new(count), stamp::run_number(sys::tsc::ticks()));
    let job = |w: usize| Job {
        plan,
        shards: &shards,
        first: first_of(shards.len(), count, w),
        count: first_of(shards.len(), count, w + 1) - first_of(shards.len(), count, w),
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
    let jobs: Vec<(Job<'_>, Share)> = (0..count).map(job).zip(split(plan, &shards, lab, count)).collect();
    drop(progress_tx);
    let (wall, watch) = (Instant::now(), Watch::start());
    let done: Vec<_> = std::thread::scope(|threads| {
        let start = |(job, (lab, siblings)): (Job<'_>, Share)| {
            let (gate, shared) = (job.gate.clone(), job.shared.clone());
            catch_unwind(AssertUnwindSafe(|| worker::run(job, lab, siblings)))
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
    let mut left = Sum::of(lefts);
    let mut queues = figures::ports(std::mem::take(&mut left.queues));
    let hosts: Vec<HostStats> = queues.iter().map(|q| q.host.clone()).collect();
    let mut ports = Vec::with_capacity(queues.len());
    for q in &mut queues {
        let steering = steered.get(q.port).copied().flatten();
        let port = figures::figures(plan, q, steering, frame_max, (&tsc, left.now));
        left.why.extend(figures::doubt(plan, q.port, &port));
        left.events.extend(figures::events(q, &port));
        ports.push(port);
    }
    // Frames that devices hold go back to their pools.
    drop(queues);
    let ended = if stopped { left.now } else { shared.end().min(left.now) };
    let (sent, received) = (
        hosts.iter().map(|h| h.tx_frames).sum::<u64>(),
        hosts.iter().map(|h| h.rx_frames - h.rx_unknown.min(h.rx_frames)).sum::<u64>(),
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
        tx_refused: hosts.iter().map(|h| h.pool_empty).sum(),
        rx_missed: ports.iter().map(|p| p.rx_missed).sum(),
        lateness_ps: left.lateness.as_ref().map(worker::percentiles),
        late_frames: left.late,
        why,
        ports,
        preflight: found,
        stop_ps: left.stop.map(|s| s.0),
        events: left.events,
        ..TesterStats::default()
    };
    let a = Assembled {
        mode: Mode::Ports,
        hosts,
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

/// First queue of worker `w` of `count`, of so many: as many for each as can be, the last ones one more.
fn first_of(queues: usize, count: usize, w: usize) -> usize {
    queues * w / count
}

/// The devices of a worker, and what each shares with others of its port.
type Share = (setup::Open, Vec<Option<Siblings<MbufFrame>>>);

/// The share of each worker, in the order of `shards`.
fn split(plan: &Plan, shards: &[Shard], lab: setup::Open, count: usize) -> Vec<Share> {
    // The queues of each port, last first.
    let mut devices: Vec<Vec<EthPort>> = Vec::new();
    let mut families: Vec<Vec<Siblings<MbufFrame>>> = Vec::new();
    for (i, device) in lab.ports.into_iter().enumerate() {
        let queues = plan.lab.queues(i);
        devices.push(device.into_queues().into_iter().rev().collect());
        let family = siblings::family(Homes::new(&plan.hosts[i].ranks, queues), queues);
        families.push(family.into_iter().rev().collect());
    }
    let share = |w: usize| {
        let own = &shards[first_of(shards.len(), count, w)..first_of(shards.len(), count, w + 1)];
        let open = setup::Open {
            ports: own.iter().filter_map(|s| devices[s.port].pop()).collect(),
            steered: Vec::new(),
            control: lab.control.clone(),
            data: lab.data.clone(),
            pools: lab.pools.clone(),
            frame_max: lab.frame_max,
        };
        (open, own.iter().map(|s| families[s.port].pop()).collect())
    };
    (0..count).map(share).collect()
}

/// What all workers left.
#[derive(Default)]
struct Sum {
    recorder: Recorder,
    now: Time,
    workers: Vec<WorkerStats>,
    queues: Vec<figures::Left>,
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
            sum.now = sum.now.max(left.now);
            sum.workers.push(left.worker);
            sum.queues.extend(left.queues);
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
