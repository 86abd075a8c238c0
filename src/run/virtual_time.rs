//! Virtual time: one engine over the whole fabric, no bound but the end of the run. Exact and repeatable.

use std::time::Instant;

use super::assemble::{self, Assembled};
use super::engine::Engine;
use super::result::{RunResult, SimStats, TesterStats, WorkerStats};
use super::{Options, Progress, RunError};
use crate::frame::boxed::{BoxFrame, BoxPool};
use crate::plan::{Mode, Plan};
use crate::{hint, sys};

/// Events between two looks at the stop flag and the progress.
const SLICE: u64 = 1 << 17;

/// Runs `plan` to its end, or until the stop flag is up.
///
/// # Errors
/// What cannot be set up (capture file, switch configuration).
pub fn run(plan: &Plan, mut opts: Options<'_>) -> Result<RunResult, RunError> {
    let shared = assemble::agreement(plan, 1);
    let (frames, ready) = assemble::pool_frames(plan);
    let mut engine: Engine<BoxFrame, BoxPool> = assemble::engine(
        plan,
        assemble::Share::all(plan),
        BoxPool::new(ready, frames),
        &shared,
        opts.tee::<BoxFrame>()?,
    )?;
    hint::heap_in_huge_pages();
    let wall = Instant::now();
    let cpu = sys::cpu::thread_cpu_s();
    let mut stopped = false;
    engine.take_milestones();
    loop {
        let handled = engine.advance(crate::units::Time::NEVER, SLICE);
        if handled < SLICE {
            break;
        }
        if opts.stop.is_raised() {
            stopped = true;
            break;
        }
        opts.report(&Progress {
            iteration: shared.iterations_done(),
            iterations: shared.iterations(),
            now: engine.now(),
            wall_s: wall.elapsed().as_secs_f64(),
            dilation: None,
        });
    }
    let cpu_s = sys::cpu::thread_cpu_s() - cpu;
    let wall_s = wall.elapsed().as_secs_f64();
    let sim = SimStats {
        events: engine.stats.events,
        link_transmissions: engine.stats.link_transmissions,
        cpu_s,
        shares: engine.stats.samples.shares(),
    };
    let ended = assemble::end_of(&shared, engine.now(), stopped);
    let (hosts, switches, snapshots) = engine.finish(ended);
    let mut conservation = engine.conservation;
    conservation.pool_in_use = engine.pool.in_use() as u64;
    let tester = TesterStats {
        wall_s,
        workers: vec![WorkerStats {
            name: "virtual time".to_owned(),
            core: None,
            frames: sim.link_transmissions,
            busy_s: cpu_s,
            total_s: wall_s,
            ..WorkerStats::default()
        }],
        tx_refused: hosts.iter().map(|h| h.pool_empty).sum(),
        ..TesterStats::default()
    };
    let recorder = std::mem::take(&mut engine.recorder);
    let assembled = Assembled {
        mode: Mode::Virtual,
        hosts,
        switches,
        snapshots,
        conservation,
        ended,
        stopped,
        sim: Some(sim),
    };
    Ok(assemble::result(plan, &shared, recorder, tester, assembled))
}
