//! A run on real ports: the hosts of the plan on DPDK devices, in real time, through whatever lies between.
//!
//! One worker turns all ports ([`worker`]); the calling thread is the control: it reports progress, raises the stop flag
//! and beats a heart that the worker watches. Nothing is modelled here, so there are no switch counters and no outcome
//! hash; what the tester itself did wrong is measured and makes the result untrustworthy.

mod port;
#[cfg(test)]
mod port_tests;
mod preflight;
mod setup;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::assemble::{self, Assembled};
use super::preflight::Preflight;
use super::result::{Conservation, RunResult, TesterStats};
use super::{Options, Progress, RunError};
use crate::plan::{Mode, Plan};
use crate::sys;
use crate::sys::signals::StopFlag;
use crate::sys::tsc::{CALIBRATION_WINDOW, Tsc};

/// The control thread's heart beats this often.
const BEAT: Duration = Duration::from_millis(50);

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
    let shared = assemble::agreement(plan, 1);
    let heart = Arc::new(AtomicU64::new(sys::tsc::ticks()));
    let (progress_tx, progress_rx) = bounded(16);
    let core = (cores.len() > 1).then(|| cores[cores.len() - 1]);
    let job = worker::Job {
        plan,
        tsc,
        core,
        shared: shared.clone(),
        stop: opts.stop.clone(),
        heart: heart.clone(),
        progress: progress_tx,
    };
    let wall = Instant::now();
    let done = std::thread::scope(|threads| {
        let worker = threads.spawn(move || catch_unwind(AssertUnwindSafe(|| worker::run(job, lab))));
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
        worker.join()
    });
    let wall_s = wall.elapsed().as_secs_f64();
    let left = match done {
        Ok(Ok(Ok(left))) => left,
        Ok(Ok(Err(refused))) => return Err(RunError::Setup(refused)),
        _ => {
            return Err(RunError::Setup(
                "the worker died; its ports are closed and nothing was measured".into(),
            ));
        }
    };
    let stopped = opts.stop.is_raised();
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
    let tester = TesterStats {
        wall_s,
        tsc_hz: Some(tsc.hz()),
        workers: vec![left.worker],
        tx_refused: left.hosts.iter().map(|h| h.pool_empty).sum(),
        rx_missed: left.ports.iter().map(|p| p.rx_missed).sum(),
        lateness_ps: left.lateness_ps,
        late_frames: left.late,
        why: left.why,
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
