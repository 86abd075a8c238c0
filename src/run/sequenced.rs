//! The engine of `compat = "hpcc"`: virtual time in whole nanoseconds, with the events of one instant handled in the
//! order in which they were scheduled.
//!
//! It follows the HPCC ns-3 simulator event by event: the end of every transmission is an event of its own, after
//! which the sender looks for the next frame; an arrival is scheduled when its transmission starts. Which of two events
//! of one nanosecond comes first decides who meets a threshold, so this order is part of what is compared. Hosts and
//! switches are those of every other run, told to imitate that simulator's; frames have its lengths on links and in
//! buffers ([`crate::plan::HpccFrames`]), and their own bytes in hosts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::agenda::Agenda;
use super::assemble::{self, Assembled};
use super::engine::{EngineStats, Tee};
use super::phases::{Milestone, Phases};
use super::result::{Conservation, RunResult, SimStats, Snapshot, TesterStats, WorkerStats};
use super::{Options, Progress, RunError};
use crate::frame::boxed::{BoxFrame, BoxPool};
use crate::frame::{Frame, FrameMeta, FramePool, TxBatch, flags};
use crate::host::{Host, HostEvent};
use crate::measure::network::XoffCause;
use crate::measure::record::{DropReason, MessageRecord, Outcome, RankIteration, Record};
use crate::measure::recorder::Recorder;
use crate::plan::{Hpcc, HpccFrames, Mode, Plan};
use crate::switch::config::FCS_BYTES;
use crate::switch::{AddressMap, Admit, Switch};
use crate::sys;
use crate::topology::{End, Wiring};
use crate::units::{ClassIx, FrameLen, LinkTiming, PortId, RankId, Time};
use crate::wire::fast;
use crate::workload::config::{Action, TimedAction};
use crate::workload::import::hpcc::SIGNAL;

/// Events between two looks at the stop flag and the progress.
const SLICE: u64 = 1 << 17;

/// What an event is, in its three highest bits; the rest is the number of the link, host or snapshot, or of the step.
const ARRIVE: u32 = 0;
const FREE: u32 = 1 << 29;
const HOST: u32 = 2 << 29;
const SNAPSHOT: u32 = 3 << 29;
const BEGIN: u32 = 4 << 29;
const KIND: u32 = 7 << 29;

/// Steps from the end of a flow to the start of one that waits for it: the simulator adds an application to the node,
/// which starts it, which adds a queue pair. Each is an event of its own in the same nanosecond.
const BEGIN_STEPS: u32 = 2;

/// The recorder, and what the flows that wait for others must hear.
struct Tap {
    recorder: Recorder,
    /// Messages acknowledged since the last look: (tag, sender).
    completed: Vec<(u32, RankId)>,
}

impl Record for Tap {
    fn arrival(&mut self, now: Time, meta: &FrameMeta, class: ClassIx) {
        self.recorder.arrival(now, meta, class);
    }
    fn stream(&mut self, now: Time, stream: u32, meta: &FrameMeta) {
        self.recorder.stream(now, stream, meta);
    }
    fn message(&mut self, message: &MessageRecord) {
        if message.outcome == Outcome::Completed {
            self.completed.push((message.tag, message.from));
        }
        self.recorder.message(message);
    }
    fn rank_iteration(&mut self, it: &RankIteration) {
        self.recorder.rank_iteration(it);
    }
    fn port_pause(&mut self, now: Time, port: u32, priority: u8, on: bool) {
        self.recorder.port_pause(now, port, priority, on);
    }
    fn queue_depth(&mut self, now: Time, switch: u16, port: u16, priority: u8, bytes: u64) {
        self.recorder.queue_depth(now, switch, port, priority, bytes);
    }
    fn switch_paused(&mut self, now: Time, switch: u16, port: u16, priority: u8, until: Time) {
        self.recorder.switch_paused(now, switch, port, priority, until);
    }
    fn xoff(&mut self, now: Time, cause: XoffCause) {
        self.recorder.xoff(now, cause);
    }
    fn drop(&mut self, now: Time, switch: u16, ingress: u16, meta: &FrameMeta, reason: DropReason) {
        self.recorder.drop(now, switch, ingress, meta, reason);
    }
}

struct HostSlot {
    host: Host,
    link: u32,
    /// Next turn it was told to wait for, and next start of a flow; `NEVER` when there is none.
    turn: Time,
    turn_set: Time,
    start: Time,
}

/// A flow that begins in this nanosecond: its sender, and whose message it waited for.
struct Begin {
    port: PortId,
    rank: RankId,
    from: RankId,
    tag: u32,
}

struct LinkSlot {
    timing: LinkTiming,
    from: End,
    to: End,
    busy: bool,
    on_link: VecDeque<BoxFrame>,
}

/// Hosts, switches and links of a whole run.
struct Sequenced<'p> {
    rules: &'p Hpcc,
    hosts: Vec<HostSlot>,
    switches: Vec<Switch<BoxFrame>>,
    links: Vec<LinkSlot>,
    wiring: Wiring,
    addresses: AddressMap,
    dscp_map: [u8; 64],
    agenda: Agenda,
    beginning: VecDeque<Begin>,
    now: Time,
    batch: TxBatch<BoxFrame>,
    pool: BoxPool,
    tap: Tap,
    phases: Phases,
    conservation: Conservation,
    stats: EngineStats,
    /// Snapshots to take, in order of time; each is scheduled by the one before it.
    asked: Vec<(Time, String)>,
    snapshots: Vec<Snapshot>,
    tee: Option<Box<dyn Tee<BoxFrame>>>,
}

impl<'p> Sequenced<'p> {
    fn new(
        plan: &'p Plan,
        rules: &'p Hpcc,
        phases: Phases,
        tee: Option<Box<dyn Tee<BoxFrame>>>,
    ) -> Result<Sequenced<'p>, RunError> {
        let addresses = AddressMap::new(plan.ranks.iter().map(|r| (r.ip, r.port)));
        let wiring = Wiring::new(&plan.fabric).map_err(|e| RunError::Setup(e.to_string()))?;
        let coins = Arc::new(Mutex::new((*rules.coins).clone()));
        let mut switches = Vec::new();
        for (s, config) in plan.fabric.switches.iter().enumerate() {
            let routes = &plan.fabric.routes[s];
            let mut switch = Switch::new(config.clone(), s as u16, routes, addresses.clone())
                .map_err(|e| RunError::Setup(e.to_string()))?;
            switch.imitate(coins.clone());
            switches.push(switch);
        }
        let host = |(i, cfg): (usize, &crate::host::config::HostConfig)| {
            let mut host = Host::new(cfg.clone());
            host.imitate(rules.frames.data_overhead);
            HostSlot {
                host,
                link: wiring.from_host[i],
                turn: Time::NEVER,
                turn_set: Time::ZERO,
                start: Time::NEVER,
            }
        };
        let hosts = plan.hosts.iter().enumerate().map(host).collect();
        let link = |l: &crate::topology::Link| LinkSlot {
            timing: l.timing,
            from: l.from,
            to: l.to,
            busy: false,
            on_link: VecDeque::with_capacity(64),
        };
        let (frames, ready) = assemble::pool_frames(plan);
        Ok(Sequenced {
            rules,
            hosts,
            switches,
            links: plan.fabric.links.iter().map(link).collect(),
            wiring,
            addresses,
            dscp_map: plan.fabric.switches.first().map_or([0; 64], |s| s.dscp_map),
            agenda: Agenda::new(),
            beginning: VecDeque::new(),
            now: Time::ZERO,
            batch: TxBatch::new(),
            pool: BoxPool::new(ready, frames),
            tap: Tap { recorder: Recorder::for_plan(plan), completed: Vec::new() },
            phases,
            conservation: Conservation::default(),
            stats: EngineStats::default(),
            asked: plan.actions.iter().filter_map(asked).collect(),
            snapshots: Vec::new(),
            tee,
        })
    }

    /// Releases the one iteration.
    fn start(&mut self) {
        self.phases.open_loop_done(Time::ZERO);
        while let Some(milestone) = self.phases.poll_milestone() {
            match milestone {
                Milestone::Measure(at) => self.tap.recorder.set_measure_from(at),
                Milestone::Release(iteration, at) => {
                    self.hosts.iter_mut().for_each(|h| h.host.start_iteration(iteration, at));
                }
            }
        }
        for h in 0..self.hosts.len() {
            self.kick(h);
        }
        self.schedule_snapshot(0);
    }

    fn schedule_snapshot(&mut self, number: usize) {
        if let Some((at, _)) = self.asked.get(number) {
            self.agenda.push((at.0 / 1_000).max(self.now.0 / 1_000), SNAPSHOT | number as u32);
        }
    }

    fn snapshot(&mut self, number: usize) {
        let switches = self.switches.iter().map(|s| s.snapshot().into());
        let name = self.asked[number].1.clone();
        self.snapshots.push(Snapshot { name, at: self.now, switches: switches.collect() });
        self.schedule_snapshot(number + 1);
    }

    /// Handles up to `budget` events; fewer when the run is over.
    fn advance(&mut self, budget: u64) -> u64 {
        let mut handled = 0;
        while handled < budget {
            let Some((ns, event)) = self.agenda.pop() else { break };
            let now = Time(ns * 1_000);
            if now >= self.phases.end() {
                break;
            }
            self.now = now;
            handled += 1;
            let number = (event & !KIND) as usize;
            match event & KIND {
                ARRIVE => self.arrive(number),
                FREE => {
                    self.links[number].busy = false;
                    match self.links[number].from {
                        End::Host(p) => self.kick(p.0 as usize),
                        End::Switch(s, port) => self.depart(s, port),
                    }
                }
                SNAPSHOT => self.snapshot(number),
                BEGIN => self.begin(event & !KIND),
                _ => {
                    let slot = &mut self.hosts[number];
                    if slot.turn == now {
                        slot.turn = Time::NEVER;
                        slot.host.ring(Some(now.since(slot.turn_set)));
                        self.kick(number);
                        self.hosts[number].host.ring(None);
                    } else if slot.start == now {
                        slot.start = Time::NEVER;
                        self.kick(number);
                    }
                }
            }
        }
        self.stats.events += handled;
        handled
    }

    fn arrive(&mut self, link: usize) {
        let now = self.now;
        let Some(mut frame) = self.links[link].on_link.pop_front() else { return };
        match self.links[link].to {
            End::Host(p) => {
                let h = p.0 as usize;
                restore(&mut frame);
                if let Some(tee) = &mut self.tee {
                    tee.frame(now, &frame);
                }
                self.conservation.received_frames += 1;
                self.conservation.received_bytes += bytes_of(frame.len());
                self.hosts[h].host.on_frame(now, &frame, &mut self.tap);
                self.pool.give(frame);
                self.pass_on_completions();
                self.kick(h);
            }
            End::Switch(s, port) => {
                let c = &mut self.conservation;
                match self.switches[usize::from(s)].on_frame(now, port, frame, &mut self.tap) {
                    Admit::Queued => {}
                    Admit::Consumed(mut f) => {
                        restore(&mut f);
                        c.received_frames += 1;
                        c.received_bytes += bytes_of(f.len());
                        self.pool.give(f);
                    }
                    Admit::Dropped(_, mut f) => {
                        restore(&mut f);
                        c.dropped_frames += 1;
                        c.dropped_bytes += bytes_of(f.len());
                        self.pool.give(f);
                    }
                }
                self.wake(s);
            }
        }
    }

    /// Schedules the flows that waited for those that ended.
    fn pass_on_completions(&mut self) {
        while let Some((tag, from)) = self.tap.completed.pop() {
            let waiting = self.rules.started_by.get(tag as usize).map_or(&[][..], Vec::as_slice);
            for &(port, rank) in waiting {
                self.beginning.push_back(Begin { port, rank, from, tag });
                self.agenda.push(self.now.0 / 1_000, BEGIN);
            }
        }
    }

    /// One more step of the oldest flow that has come so far; after the last, its program is told.
    fn begin(&mut self, step: u32) {
        if step + 1 < BEGIN_STEPS {
            self.agenda.push(self.now.0 / 1_000, BEGIN | (step + 1));
        } else if let Some(Begin { port, rank, from, tag }) = self.beginning.pop_front() {
            let h = port.0 as usize;
            self.hosts[h].host.on_signal(self.now, 0, rank, from, SIGNAL | tag, &mut self.tap);
            self.kick(h);
        }
    }

    /// Lets a host send if its link is idle, hears what it has to say, and sets its alarm.
    fn kick(&mut self, h: usize) {
        let now = self.now;
        let slot = &mut self.hosts[h];
        let link = slot.link as usize;
        let room = usize::from(!self.links[link].busy);
        slot.host.poll_tx(now, room, &mut self.pool, &mut self.batch, &mut self.tap);
        if let Some(mut frame) = self.batch.control.pop().or_else(|| self.batch.data.pop()) {
            self.conservation.sent_frames += 1;
            self.conservation.sent_bytes += bytes_of(frame.len());
            frame.meta_mut().start = now;
            dress(&mut frame, &self.addresses, &self.dscp_map, &self.rules.frames);
            self.transmit(link, frame);
        }
        while let Some(event) = self.hosts[h].host.poll_event() {
            match event {
                HostEvent::IterationDone { iteration, at } => self.phases.host_done(iteration, at),
                HostEvent::Failed { workload, iteration, from, to, at, cause } => {
                    let why = format!("rank {} -> rank {} (workload {workload}): {cause}", from.0, to.0);
                    self.phases.host_failed(at, iteration, why);
                }
            }
        }
        let slot = &mut self.hosts[h];
        let start = slot.host.next_start();
        if start > now && start < slot.start {
            slot.start = Time(start.0.div_ceil(1_000) * 1_000);
            self.agenda.push(slot.start.0 / 1_000, HOST | h as u32);
        }
        // One alarm at a time, as in that simulator: a turn that comes earlier than it waits for it, or for a frame.
        if slot.turn == Time::NEVER
            && !self.links[link].busy
            && let Some(turn) = slot.host.next_turn(now)
        {
            (slot.turn, slot.turn_set) = (turn, now);
            self.agenda.push(turn.0 / 1_000, HOST | h as u32);
        }
    }

    fn wake(&mut self, s: u16) {
        while let Some(port) = self.switches[usize::from(s)].poll_wake() {
            self.depart(s, port);
        }
    }

    fn depart(&mut self, s: u16, port: u16) {
        let link = self.wiring.from_switch[usize::from(s)][usize::from(port)] as usize;
        if self.links[link].busy {
            return; // asked again when the frame on the link has left
        }
        let switch = &mut self.switches[usize::from(s)];
        if let Some(frame) = switch.depart(self.now, port, &mut self.pool, &mut self.tap) {
            if frame.meta().flags & flags::PFC != 0 {
                self.conservation.sent_frames += 1;
                self.conservation.sent_bytes += bytes_of(frame.len());
            }
            self.transmit(link, frame);
            self.wake(s);
        }
    }

    fn transmit(&mut self, link: usize, mut frame: BoxFrame) {
        let l = &mut self.links[link];
        let bytes = match frame.meta().flags & flags::PFC {
            0 => bytes_of(frame.len()),
            _ => u64::from(self.rules.frames.pfc),
        };
        let end = self.now + l.timing.whole_ns(bytes);
        let arrive = end + l.timing.propagation();
        frame.meta_mut().arrive = arrive;
        l.busy = true;
        l.on_link.push_back(frame);
        self.stats.link_transmissions += 1;
        self.agenda.push(end.0 / 1_000, FREE | link as u32);
        self.agenda.push(arrive.0 / 1_000, ARRIVE | link as u32);
    }
}

fn asked(action: &TimedAction) -> Option<(Time, String)> {
    match &action.action {
        Action::Snapshot { name } => Some((action.at, name.clone())),
        _ => None,
    }
}

/// Bytes of a frame with FCS.
fn bytes_of(len: FrameLen) -> u64 {
    u64::from(len.0) + u64::from(FCS_BYTES)
}

/// Reads the headers as the first switch would, then gives the frame the length it has in the simulator; its own is
/// kept aside. What cannot be read goes on as it is, for the switch to refuse.
fn dress(frame: &mut BoxFrame, addresses: &AddressMap, dscp_map: &[u8; 64], frames: &HpccFrames) {
    let Ok(seen) = fast::parse(frame.head(), frame.len()) else { return };
    let Some(dst) = addresses.get(seen.dst) else { return };
    let ttl = fast::ttl(frame.head(), &seen);
    let meta = frame.meta_mut();
    meta.ttl = ttl;
    meta.dst = dst.0;
    meta.priority = dscp_map[usize::from(seen.dscp & 63)];
    meta.hash = fast::ecmp_hash(&seen, 0);
    meta.driver = u32::from(meta.len.0);
    let bytes = match meta.flags & flags::DATA {
        0 => frames.ack,
        _ => seen.payload_len + frames.data_overhead,
    };
    meta.flags |= flags::PARSED;
    meta.len = FrameLen(bytes.saturating_sub(FCS_BYTES));
}

/// Gives a frame its own length back.
fn restore(frame: &mut BoxFrame) {
    let meta = frame.meta_mut();
    if meta.driver != 0 {
        meta.len = FrameLen(meta.driver as u16);
        meta.driver = 0;
    }
}

/// Runs `plan` by the rules of that simulator.
///
/// # Errors
/// What cannot be set up (capture file, switch configuration).
pub fn run(plan: &Plan, rules: &Hpcc, mut opts: Options<'_>) -> Result<RunResult, RunError> {
    let shared = assemble::agreement(plan, 1);
    let phases = Phases::new(shared.clone(), plan.hosts.len() as u32);
    let mut engine = Sequenced::new(plan, rules, phases, opts.tee::<BoxFrame>()?)?;
    let (wall, cpu) = (Instant::now(), sys::cpu::thread_cpu_s());
    let mut stopped = false;
    engine.start();
    while engine.advance(SLICE) == SLICE {
        if opts.stop.is_raised() {
            stopped = true;
            break;
        }
        opts.report(&Progress {
            iteration: shared.iterations_done(),
            iterations: shared.iterations(),
            now: engine.now,
            wall_s: wall.elapsed().as_secs_f64(),
            dilation: None,
        });
    }
    let (cpu_s, wall_s) = (sys::cpu::thread_cpu_s() - cpu, wall.elapsed().as_secs_f64());
    let ended = assemble::end_of(&shared, engine.now, stopped);
    Ok(finish(plan, &shared, engine, ended, stopped, cpu_s, wall_s))
}

fn finish(
    plan: &Plan,
    shared: &super::phases::Shared,
    mut e: Sequenced<'_>,
    ended: Time,
    stopped: bool,
    cpu_s: f64,
    wall_s: f64,
) -> RunResult {
    for slot in &mut e.hosts {
        slot.host.finish(ended, &mut e.tap);
    }
    e.tap.recorder.finish(ended);
    for link in &mut e.links {
        for f in link.on_link.drain(..) {
            e.conservation.inside_frames += 1;
            e.pool.give(f);
        }
    }
    for switch in &mut e.switches {
        e.conservation.inside_frames += switch.inside_frames();
        switch.drain(&mut e.pool);
    }
    e.conservation.pool_in_use = e.pool.in_use() as u64;
    let hosts: Vec<_> = e.hosts.iter().map(|s| s.host.stats().clone()).collect();
    let switches = e.switches.iter().enumerate().map(|(i, s)| (i as u16, s.stats())).collect();
    let sim = SimStats {
        events: e.stats.events,
        link_transmissions: e.stats.link_transmissions,
        cpu_s,
        shares: None,
    };
    let tester = TesterStats {
        wall_s,
        workers: vec![WorkerStats {
            name: "virtual time, order of scheduling".to_owned(),
            core: None,
            frames: sim.link_transmissions,
            busy_s: cpu_s,
            total_s: wall_s,
            ..WorkerStats::default()
        }],
        tx_refused: hosts.iter().map(|h| h.pool_empty).sum(),
        ..TesterStats::default()
    };
    let assembled = Assembled {
        mode: Mode::Virtual,
        hosts,
        switches,
        snapshots: e.snapshots,
        conservation: e.conservation,
        ended,
        stopped,
        sim: Some(sim),
    };
    assemble::result(plan, shared, e.tap.recorder, tester, assembled)
}
