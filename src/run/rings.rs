//! A live run without a NIC: engines on pinned workers that exchange mbufs over DPDK rings.
//!
//! **Elastic time.** Each worker publishes the time up to which it has handled everything. A frame that a neighbour
//! sends later than what it has published cannot arrive before that time plus the shortest delay of the links between
//! them, so a worker may handle every event before `min(TSC / dilation, neighbour's time + that delay)` and never be
//! surprised. A stall of the machine stretches the run and never changes its physics: the outcome is that of virtual
//! time. (Conservative parallel simulation with null messages: Chandy and Misra 1979, Bryant 1977.)
//!
//! **Free clock.** Time is TSC / dilation whatever the workers manage. Frames that come too late are handled late and
//! counted, and a lag above the shortest link delay makes the result untrustworthy: a self-test of the machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use hdrhistogram::Histogram;

use super::assemble::{self, Assembled, Share};
use super::engine::{Engine, EngineStats, frames_on_link};
use super::phases::Shared;
use super::result::{Conservation, RunResult, Snapshot, TesterStats, WorkerStats};
use super::{Options, Progress, RunError};
use crate::dpdk::{
    DpdkError, Eal, EalOptions, FrameRing, MbufFrame, MbufFrames, MbufPool, PoolSpec, RingRx, RingTx,
};
use crate::frame::{Burst, Frame as _, FramePool};
use crate::hint::prefetch;
use crate::measure::recorder::Recorder;
use crate::measure::stats::{HostStats, SwitchStats};
use crate::plan::pools::data_frame_bytes;
use crate::plan::{Clock, Mode, Plan};
use crate::sys;
use crate::sys::signals::StopFlag;
use crate::sys::tsc::Tsc;
use crate::topology::End;
use crate::units::{Span, Time};

/// Loops without an event before a worker lets others have its core.
const IDLE_LOOPS: u32 = 2_000;
/// Events a worker on a free clock handles between two looks at its rings, the end and the stop flag: one that has
/// fallen behind would otherwise not come back before it has caught up, which may be never.
const FREE_BUDGET: u64 = 4_096;
/// Real seconds behind the free clock at which a worker gives up: it will not catch up, and the answer is known.
const FREE_LAG_S: f64 = 0.25;
/// What a report then misses.
const GAVE_UP: &str = "given up: a worker cannot keep up with clock = \"free\"; raise run.dilation";
/// Longest lag told apart: 17 s, in picoseconds.
const LATENESS_MAX: u64 = 1 << 44;
/// Window of the TSC calibration.
const CALIBRATION: Duration = Duration::from_millis(100);
/// Worker statistics go to the control thread this often, in real seconds.
const REPORT_S: f64 = 0.1;

/// The published time of one worker, alone on its cache line.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Published(AtomicU64);

/// What one worker shares with a neighbour.
struct Peer {
    clock: Arc<Published>,
    /// Shortest delay of the links from the neighbour to us.
    lookahead: Span,
    rx: RingRx,
    tx: RingTx,
}

/// How a worker's clock runs.
#[derive(Clone, Copy)]
struct Pace {
    tsc: Tsc,
    start: u64,
    dilation: f64,
    free: bool,
}

impl Pace {
    fn nominal(&self, tsc: u64) -> Time {
        let real = self.tsc.span(tsc.saturating_sub(self.start)).0;
        if self.dilation == 1.0 { Time(real) } else { Time((real as f64 / self.dilation) as u64) }
    }
}

struct Worker {
    name: String,
    core: Option<usize>,
    engine: Engine<MbufFrame, MbufFrames>,
    peers: Vec<Peer>,
    /// Link number -> index of the peer that receives it.
    peer_of_link: Vec<u16>,
    clock: Arc<Published>,
    shared: Arc<Shared>,
    stop: StopFlag,
    progress: Option<Sender<Time>>,
}

struct Left {
    stats: WorkerStats,
    engine_stats: EngineStats,
    lag_ps_max: u64,
    lateness: Option<Histogram<u64>>,
    hosts: Vec<HostStats>,
    switches: Vec<(u16, SwitchStats)>,
    snapshots: Vec<Snapshot>,
    conservation: Conservation,
    recorder: Recorder,
    now: Time,
}

impl Worker {
    /// Runs to the agreed end. The start is common: everyone waits at `gate`, then for the TSC named in `start`.
    fn run(mut self, mut pace: Pace, gate: &Barrier, start: &AtomicU64) -> Left {
        if let Some(core) = self.core
            && sys::affinity::pin_current(core).is_err()
        {
            self.core = None;
        }
        // Without registration pools work as well, only slower.
        let registered = Eal::get().and_then(Eal::register_thread);
        if gate.wait().is_leader() {
            let ticks = pace.tsc.ticks_in(Span::from_us(500));
            start.store(sys::tsc::ticks() + ticks, Ordering::Release);
        }
        gate.wait();
        pace.start = start.load(Ordering::Acquire);
        while sys::tsc::ticks() < pace.start {
            std::hint::spin_loop();
        }
        let began = pace.start;
        let mut lateness = pace.free.then(|| Histogram::new_with_bounds(1, LATENESS_MAX, 3).ok()).flatten();
        let (mut lag_ps_max, mut busy, mut idle_loops) = (0u64, 0u64, 0u32);
        let (mut last, mut worked, mut published) = (began, false, Time::ZERO);
        let report_ticks = pace.tsc.ticks_in(Span((REPORT_S * 1e12) as u64));
        let mut next_report = began + report_ticks;
        // The slowest worker may always go on by a whole lookahead, so waiting for half of one never stops all; and what
        // is handled at once is exchanged at once.
        let lookaheads = self.peers.iter().map(|p| p.lookahead.0).filter(|l| *l != u64::MAX);
        let least = lookaheads.min().unwrap_or(0) / 2;
        let mut waited = 0;
        let free_lag = Span((FREE_LAG_S * 1e12 / pace.dilation) as u64);
        let mut burst = Burst::new();
        let mut end;
        loop {
            let tsc = sys::tsc::ticks();
            if worked {
                busy += tsc - last;
            }
            last = tsc;
            end = self.shared.end();
            let mut bound = pace.nominal(tsc).min(end);
            if pace.free {
                let lag = bound.since(published).0;
                if published > Time::ZERO {
                    lag_ps_max = lag_ps_max.max(lag);
                    if let Some(h) = &mut lateness {
                        h.saturating_record(lag.max(1));
                    }
                }
            } else {
                for p in &self.peers {
                    bound = bound.min(Time(p.clock.0.load(Ordering::Acquire)) + p.lookahead);
                }
                if bound.since(published).0 < least && bound < end {
                    bound = published;
                }
            }
            let taken = self.take_in(&mut burst);
            self.engine.take_milestones();
            let handled = self.engine.advance(bound, if pace.free { FREE_BUDGET } else { u64::MAX });
            waited += self.flush(&mut burst);
            if pace.free && handled == FREE_BUDGET {
                // Behind the clock, so this far and no further.
                bound = bound.min(self.engine.now());
                if pace.nominal(tsc).since(bound).0 > free_lag.0 {
                    self.shared.give_up(bound, GAVE_UP);
                }
            }
            if bound > published {
                published = bound;
                self.clock.0.store(bound.0, Ordering::Release);
            }
            worked = handled > 0 || taken > 0;
            if bound >= self.shared.end() {
                break;
            }
            if worked {
                idle_loops = 0;
            } else {
                idle_loops += 1;
                std::hint::spin_loop();
                if idle_loops > IDLE_LOOPS && !pace.free {
                    idle_loops = 0;
                    std::thread::yield_now();
                }
            }
            if tsc >= next_report {
                next_report = tsc + report_ticks;
                if let Some(tx) = &self.progress {
                    let _ = tx.try_send(published);
                }
                if self.stop.is_raised() {
                    self.shared.end_at(published);
                }
            }
        }
        let total = sys::tsc::ticks() - began;
        // Everyone has passed the end: whatever is still in the rings is counted as inside.
        self.clock.0.store(u64::MAX, Ordering::Release);
        gate.wait();
        self.take_in(&mut burst);
        let now = self.engine.now();
        let (hosts, switches, snapshots) = self.engine.finish(end);
        let left = Left {
            stats: WorkerStats {
                name: self.name,
                core: self.core,
                frames: self.engine.stats.link_transmissions,
                busy_s: pace.tsc.span(busy.saturating_sub(waited)).as_s_f64(),
                total_s: pace.tsc.span(total).as_s_f64(),
                ..WorkerStats::default()
            },
            engine_stats: self.engine.stats,
            lag_ps_max,
            lateness,
            hosts,
            switches,
            snapshots,
            conservation: self.engine.conservation,
            recorder: std::mem::take(&mut self.engine.recorder),
            now,
        };
        drop(self.engine);
        gate.wait();
        drop(registered);
        left
    }

    /// Takes in what the neighbours have sent. The frames lie in the other core's cache: all of a burst are asked for
    /// before the first is looked at. Returns how many there were.
    fn take_in(&mut self, burst: &mut Burst<MbufFrame>) -> usize {
        let mut taken = 0;
        for p in &mut self.peers {
            while p.rx.pop(burst) > 0 {
                burst.iter().flat_map(MbufFrame::cache_lines).for_each(prefetch);
                taken += burst.len();
                for f in burst.drain(..) {
                    self.engine.inject(f);
                }
            }
        }
        taken
    }

    /// Hands what the engine sent across to the neighbours. A full ring is waited for; meanwhile our own are emptied,
    /// so that two workers never wait for each other. Returns the TSC ticks that the waiting took.
    fn flush(&mut self, burst: &mut Burst<MbufFrame>) -> u64 {
        let mut waited = 0;
        while let Some(first) = self.engine.outbox.pop_front() {
            let peer = self.peer_of_link[first.meta().driver as usize] as usize;
            burst.push(first);
            while !burst.is_full() {
                let same = self
                    .engine
                    .outbox
                    .front()
                    .is_some_and(|f| self.peer_of_link[f.meta().driver as usize] as usize == peer);
                if !same {
                    break;
                }
                if let Some(f) = self.engine.outbox.pop_front() {
                    burst.push(f);
                }
            }
            while !burst.is_empty() {
                if self.peers[peer].tx.push(burst) == 0 {
                    if self.peers[peer].clock.0.load(Ordering::Acquire) == u64::MAX {
                        // It has passed the end and takes nothing in before all have: what is for it stays on its link.
                        self.engine.conservation.inside_frames += burst.len() as u64;
                        self.engine.pool.give_many(burst);
                        break;
                    }
                    let since = sys::tsc::ticks();
                    self.take_in(&mut Burst::new());
                    std::hint::spin_loop();
                    waited += sys::tsc::ticks() - since;
                }
            }
        }
        waited
    }
}

/// Directed rings between `workers` workers.
fn count_pairs(workers: usize) -> usize {
    workers * workers.saturating_sub(1)
}

/// How many mbufs a plan needs at most, and of what size.
struct PoolSizes {
    /// Control frames, then data frames.
    specs: [PoolSpec; 2],
    /// Frames on all links at once, twice.
    on_links: u32,
}

impl PoolSizes {
    /// Buffers full of the smallest frames of their kind, links full, and what workers hold back.
    fn of(plan: &Plan) -> PoolSizes {
        let on_links: usize = plan.fabric.links.iter().map(|l| 2 * frames_on_link(&l.timing)).sum();
        let spare = on_links + 4 * plan.hosts.len() + 4096;
        let fit = |bytes: u64| -> u64 {
            plan.fabric
                .switches
                .iter()
                .map(|s| {
                    let cell = u64::from(s.cell.max(1));
                    (s.buffer.0 / cell) / bytes.div_ceil(cell).max(1)
                })
                .sum()
        };
        let (smallest, largest, tails) = data_frame_bytes(plan);
        let data = fit(smallest) * if tails { 2 } else { 1 };
        let count = |n: u64| u32::try_from(n + spare as u64).unwrap_or(u32::MAX);
        let spec = |name: &str, frames: u32, bytes: u64| PoolSpec {
            name: name.to_owned(),
            frames,
            frame_bytes_max: u16::try_from(bytes).unwrap_or(u16::MAX),
            // Workers keep a shelf of their own.
            cache: 0,
        };
        PoolSizes {
            specs: [spec("rs_control", count(fit(64)), 126), spec("rs_data", count(data), largest)],
            on_links: u32::try_from(on_links).unwrap_or(u32::MAX),
        }
    }
}

/// How the plan is cut: hosts in one worker, switches in another.
fn shares(plan: &Plan) -> Vec<(String, Share)> {
    let all = Share::all(plan);
    vec![
        (format!("hosts ({} ports)", all.hosts.len()), Share { hosts: all.hosts.clone(), switches: 0..0 }),
        (format!("switches ({})", all.switches.len()), Share { hosts: 0..0, switches: all.switches.clone() }),
    ]
}

/// Worker that owns one end of a link.
fn owner(shares: &[(String, Share)], end: End) -> usize {
    let holds = |s: &Share| match end {
        End::Host(p) => s.hosts.contains(&(p.0 as usize)),
        End::Switch(i, _) => s.switches.contains(&(i as usize)),
    };
    shares.iter().position(|(_, s)| holds(s)).unwrap_or(0)
}

/// Runs `plan` over rings.
///
/// # Errors
/// DPDK cannot be set up here (memory, rights), or the plan cannot be cut.
pub fn run(plan: &Plan, mut opts: Options<'_>) -> Result<RunResult, RunError> {
    let setup = |e: DpdkError| RunError::Setup(e.to_string());
    let cores = sys::affinity::cores();
    let tsc = Tsc::calibrate(CALIBRATION).map_err(|e| RunError::Setup(e.to_string()))?;
    let shares = shares(plan);
    let sizes = PoolSizes::of(plan);
    let rings_bytes =
        (0..count_pairs(shares.len())).map(|_| FrameRing::memory_bytes(sizes.on_links)).sum::<u64>();
    let memory_bytes = sizes.specs.iter().map(PoolSpec::memory_bytes).sum::<u64>() + rings_bytes;
    let eal = Eal::init(EalOptions { memory_bytes, ..EalOptions::default() }).map_err(setup)?;
    let control = MbufPool::create_packed(eal, &sizes.specs[0]).map_err(setup)?;
    let data = MbufPool::create_packed(eal, &sizes.specs[1]).map_err(setup)?;
    let mut mtus: Vec<u16> = plan.classes.iter().map(|c| c.mtu).collect();
    mtus.sort_unstable();
    mtus.dedup();

    let (clock_free, dilation) = match plan.clock {
        Clock::Free { dilation } => (true, dilation),
        Clock::Elastic { dilation } => (false, dilation.unwrap_or(1.0)),
    };
    let pace = Pace { tsc, start: 0, dilation: dilation.max(1.0), free: clock_free };

    let shared = assemble::agreement(plan, 1);
    let count = shares.len();
    let clocks: Vec<Arc<Published>> = (0..count).map(|_| Arc::default()).collect();
    let owners: Vec<(usize, usize)> =
        plan.fabric.links.iter().map(|l| (owner(&shares, l.from), owner(&shares, l.to))).collect();
    let lookahead = |from: usize, to: usize| {
        plan.fabric
            .links
            .iter()
            .zip(&owners)
            .filter(|(_, o)| **o == (from, to))
            .map(|(l, _)| l.timing.delay_min())
            .min()
    };
    let horizon = (0..count)
        .flat_map(|a| (0..count).map(move |b| (a, b)))
        .filter_map(|(a, b)| lookahead(a, b).filter(|_| a != b))
        .min()
        .unwrap_or(Span::from_us(1));
    if plan.gap.0 < 8 * horizon.0 {
        return Err(RunError::Setup(format!(
            "[run] gap = {} is too short for rings: workers may run {horizon} apart, so the gap must be at least {}",
            plan.gap,
            Span(8 * horizon.0)
        )));
    }
    let ends = wire_workers(eal, plan, count, &owners).map_err(setup)?;
    let (progress_tx, progress_rx) = bounded(16);
    let mut workers = Vec::new();
    let mut tee = opts.tee::<MbufFrame>()?;
    for (w, ((name, share), ends)) in shares.iter().zip(ends).enumerate() {
        let has_hosts = !share.hosts.is_empty();
        let mut peer_ix = vec![u16::MAX; count];
        let mut peers = Vec::new();
        for (v, rx, tx) in ends {
            peer_ix[v] = peers.len() as u16;
            peers.push(Peer {
                clock: clocks[v].clone(),
                lookahead: lookahead(v, w).unwrap_or(Span(u64::MAX)),
                rx,
                tx,
            });
        }
        let peer_of_link = owners.iter().map(|&(_, to)| peer_ix[to]).collect();
        let engine = assemble::engine(
            plan,
            share.clone(),
            MbufFrames::new(&control, &data, &mtus),
            &shared,
            if has_hosts { tee.take() } else { None },
        )?;
        workers.push(Worker {
            name: name.clone(),
            core: (cores.len() > 1).then(|| cores[w % cores.len()]),
            engine,
            peers,
            peer_of_link,
            clock: clocks[w].clone(),
            shared: shared.clone(),
            stop: opts.stop.clone(),
            progress: has_hosts.then(|| progress_tx.clone()),
        });
    }
    drop(progress_tx);
    let wall = Instant::now();
    let (lefts, crashed) = drive(workers, pace, &shared, &progress_rx, &mut opts, wall);
    let wall_s = wall.elapsed().as_secs_f64();
    let stopped = opts.stop.is_raised();
    let mut left = Collected::default();
    let mut tester = TesterStats { wall_s, tsc_hz: Some(tsc.hz()), why: crashed, ..TesterStats::default() };
    for l in lefts {
        left.add(l, &mut tester);
    }
    left.conservation.pool_in_use = u64::from(control.in_use() + data.in_use());
    let ended = assemble::end_of(&shared, left.now, stopped);
    if ended > Time::ZERO {
        tester.dilation = Some(wall_s / (ended.0 as f64 / 1e12));
    }
    tester.tx_refused = left.hosts.iter().map(|h| h.pool_empty).sum();
    judge_clock(&pace, horizon, &mut tester, &left);
    let a = Assembled {
        mode: Mode::Rings,
        hosts: left.hosts,
        switches: left.switches,
        snapshots: left.snapshots,
        conservation: left.conservation,
        ended,
        stopped,
        sim: None,
    };
    Ok(assemble::result(plan, &shared, left.recorder, tester, a))
}

/// Both directions of a ring for every pair of workers that a link joins: per worker, (peer, receiver, sender).
#[allow(clippy::type_complexity)]
fn wire_workers(
    eal: &Eal,
    plan: &Plan,
    count: usize,
    owners: &[(usize, usize)],
) -> Result<Vec<Vec<(usize, RingRx, RingTx)>>, DpdkError> {
    let mut ends: Vec<Vec<(usize, RingRx, RingTx)>> = (0..count).map(|_| Vec::new()).collect();
    for a in 0..count {
        for b in a + 1..count {
            let on = |from, to| -> usize {
                plan.fabric
                    .links
                    .iter()
                    .zip(owners)
                    .filter(|(_, o)| **o == (from, to))
                    .map(|(l, _)| 2 * frames_on_link(&l.timing))
                    .sum()
            };
            let (there, back) = (on(a, b) as u32, on(b, a) as u32);
            if there + back == 0 {
                continue;
            }
            let (tx_ab, rx_ab) = FrameRing::create(eal, &format!("rs_{a}_{b}"), there.max(64))?;
            let (tx_ba, rx_ba) = FrameRing::create(eal, &format!("rs_{b}_{a}"), back.max(64))?;
            ends[a].push((b, rx_ba, tx_ab));
            ends[b].push((a, rx_ab, tx_ba));
        }
    }
    Ok(ends)
}

/// Starts the workers, reports progress until they end, and collects what they leave. A worker that dies stops all.
fn drive(
    workers: Vec<Worker>,
    pace: Pace,
    shared: &Arc<Shared>,
    progress: &Receiver<Time>,
    opts: &mut Options<'_>,
    wall: Instant,
) -> (Vec<Left>, Vec<String>) {
    let gate = Arc::new(Barrier::new(workers.len()));
    let start = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for worker in workers {
        let (gate, start, clock) = (gate.clone(), start.clone(), worker.clock.clone());
        let (name, shared) = (worker.name.clone(), shared.clone());
        threads.push((
            name,
            std::thread::spawn(move || {
                let left = catch_unwind(AssertUnwindSafe(|| worker.run(pace, &gate, &start)));
                if left.is_err() {
                    // Let the others reach their end instead of waiting for a clock that stands still.
                    shared.end_at(Time::ZERO);
                    clock.0.store(u64::MAX, Ordering::Release);
                    gate.wait();
                    gate.wait();
                }
                left
            }),
        ));
    }
    loop {
        match progress.recv_timeout(Duration::from_millis(500)) {
            Ok(now) => {
                let wall_s = wall.elapsed().as_secs_f64();
                let nominal = now.0 as f64 / 1e12;
                opts.report(&Progress {
                    iteration: shared.iterations_done(),
                    iterations: shared.iterations(),
                    now,
                    wall_s,
                    dilation: (nominal > 0.0).then(|| wall_s / nominal),
                });
            }
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
        }
    }
    let (mut lefts, mut crashed) = (Vec::new(), Vec::new());
    for (name, t) in threads {
        match t.join() {
            Ok(Ok(left)) => lefts.push(left),
            _ => crashed.push(format!("worker {name} died; what it measured is missing")),
        }
    }
    (lefts, crashed)
}

#[derive(Default)]
struct Collected {
    hosts: Vec<HostStats>,
    switches: Vec<(u16, SwitchStats)>,
    snapshots: Vec<Snapshot>,
    conservation: Conservation,
    recorder: Recorder,
    merged: bool,
    lateness: Option<Histogram<u64>>,
    now: Time,
}

impl Collected {
    fn add(&mut self, left: Left, tester: &mut TesterStats) {
        tester.workers.push(left.stats);
        tester.late_frames += left.engine_stats.late_frames;
        if let Some(h) = left.lateness {
            tester.lag_ps_max = Some(tester.lag_ps_max.unwrap_or(0).max(left.lag_ps_max));
            match &mut self.lateness {
                Some(all) => {
                    let _ = all.add(&h);
                }
                None => self.lateness = Some(h),
            }
        }
        self.hosts.extend(left.hosts);
        self.switches.extend(left.switches);
        self.snapshots.extend(left.snapshots);
        let (c, l) = (&mut self.conservation, left.conservation);
        c.sent_frames += l.sent_frames;
        c.sent_bytes += l.sent_bytes;
        c.received_frames += l.received_frames;
        c.received_bytes += l.received_bytes;
        c.dropped_frames += l.dropped_frames;
        c.dropped_bytes += l.dropped_bytes;
        c.inside_frames += l.inside_frames;
        self.now = self.now.max(left.now);
        if self.merged {
            self.recorder.merge(left.recorder);
        } else {
            self.recorder = left.recorder;
            self.merged = true;
        }
    }
}

/// Says what a free clock showed of the machine.
fn judge_clock(pace: &Pace, horizon: Span, tester: &mut TesterStats, left: &Collected) {
    if !pace.free {
        return;
    }
    if let Some(h) = &left.lateness {
        tester.lateness_ps = Some([h.value_at_quantile(0.5), h.value_at_quantile(0.99), h.max()]);
    }
    let lag = Span(tester.lag_ps_max.unwrap_or(0));
    if lag > horizon {
        tester.why.push(format!(
            "clock = \"free\" at dilation {}: a worker fell {lag} behind, and {horizon} (the shortest link delay) is all the physics allow; {} frames were handled late",
            pace.dilation, tester.late_frames
        ));
    }
}
