//! The worker: resolves neighbours, then turns every port until the run is over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crossbeam_channel::Sender;
use hdrhistogram::Histogram;

use super::alive::Alive;
use super::figures::Left as QueueLeft;
use super::port::{Clock, LabPort};
use super::setup::{self, Open};
use super::siblings::Siblings;
use super::stamp::Stamper;
use super::tally::Tally;
use crate::dpdk::{Eal, EthPort, MbufFrame, MbufFrames};
use crate::frame::{Burst, Port};
use crate::host::config::HostConfig;
use crate::host::{Host, HostEvent, stream_base_len};
use crate::measure::recorder::Recorder;
use crate::measure::stats::HostStats;
use crate::plan::Plan;
use crate::plan::device::{DeviceKind, DeviceSpec};
use crate::plan::shards::Shard;
use crate::run::phases::{Milestone, Phases, Shared};
use crate::run::realtime::{Between, Realtime};
use crate::run::result::WorkerStats;
use crate::sys;
use crate::sys::signals::StopFlag;
use crate::sys::tsc::{Tsc, ticks};
use crate::units::{LinkTiming, Span, Time};
use crate::workload::config::Action;

/// Longest wait for links to come up and neighbours to answer.
const READY_WAIT: Span = Span::from_ms(5_000);
/// A question to a neighbour is repeated after this.
const ASK_AGAIN: Span = Span::from_ms(200);
/// How often links, the heart of the control thread and the progress are looked at.
const LOOK: Span = Span::from_ms(100);
/// The control thread is taken for dead after so long a silence, and sending stops.
const HEART_MAX: Span = Span::from_ms(2_000);
/// Wait for frames on their way when the run is over.
const DRAIN: Span = Span::from_ms(20);
/// Longest lateness told apart: 17 s, in picoseconds.
const LATENESS_MAX: u64 = 1 << 44;
/// Streams may fall behind by this part of the run: a tenth of a percent of the rate.
const BEHIND_PART: u64 = 1_000;
/// Streams that ask for more of their link than this cannot all leave at their times.
const FULL: f64 = 1.0 + 1e-6;
/// Payload lengths that checksums are prepared for.
const PAYLOADS_MAX: usize = 16;
/// Bytes of the FCS, which the sizes of streams include.
const FCS: u16 = 4;
/// Turns without a frame before others may have the core.
const IDLE_TURNS: u32 = 2_000;
/// A turn that took longer may have been interrupted: the kernel is asked.
const TURN_LONG: Span = Span::from_us(20);
/// Next hop on a device where nobody is ([`DeviceSpec::is_sink`]).
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0];
/// Events kept.
const EVENTS_MAX: usize = 1_000;

type LivePort = LabPort<EthPort, MbufFrames>;
type Live = Realtime<LivePort, MbufFrames>;

/// How long before the common start it is agreed on.
const START_AHEAD: Span = Span::from_us(500);
/// Frames are made so far ahead of their time: about what it takes.
const DEADLINE_NEAR: Span = Span::from_ns(150);
/// With a deadline closer than this no breath is taken between two turns.
const DEADLINE_SOON: Span = Span::from_us(2);

/// Where the workers of a run meet before their first frame.
#[derive(Debug)]
pub(super) struct Gate {
    workers: u32,
    ready: AtomicU32,
    /// Ticks of the common start; 0 until all are ready.
    start: AtomicU64,
    failed: AtomicBool,
}

impl Gate {
    pub fn new(workers: usize) -> Arc<Gate> {
        let (ready, start, failed) = (AtomicU32::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Gate { workers: workers as u32, ready, start, failed })
    }

    /// One worker will not come.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// This worker's ports are ready; the last one sets the start.
    fn arrive(&self, tsc: &Tsc) {
        if self.ready.fetch_add(1, Ordering::AcqRel) + 1 == self.workers {
            self.start.store(ticks() + tsc.ticks_in(START_AHEAD), Ordering::Release);
        }
    }

    fn start(&self) -> Option<u64> {
        Some(self.start.load(Ordering::Acquire)).filter(|s| *s != 0)
    }
}

pub(super) struct Job<'a> {
    pub plan: &'a Plan,
    /// All queues of the run, of which this worker turns some: number of its first one, and how many.
    pub shards: &'a [Shard],
    pub first: usize,
    pub count: usize,
    pub gate: Arc<Gate>,
    /// Number that stamps of this run carry.
    pub number: u32,
    pub tsc: Tsc,
    pub core: Option<usize>,
    pub shared: Arc<Shared>,
    pub stop: StopFlag,
    pub heart: Arc<AtomicU64>,
    pub progress: Sender<Time>,
}

/// What the worker leaves.
pub(super) struct Left {
    pub recorder: Recorder,
    pub now: Time,
    pub worker: WorkerStats,
    pub queues: Vec<QueueLeft>,
    pub events: Vec<String>,
    pub why: Vec<String>,
    pub lateness: Option<Histogram<u64>>,
    pub late: u64,
    /// From the wish to stop to the moment from which nothing was handed over.
    pub stop: Option<Span>,
}

/// Runs to the agreed end. `Err`: the lab is not ready, or, empty, that of another worker is not.
pub(super) fn run(
    job: Job<'_>,
    mut open: Open,
    siblings: Vec<Option<Siblings<MbufFrame>>>,
) -> Result<Left, String> {
    let mut core = job.core;
    if let Some(c) = core
        && sys::affinity::pin_current(c).is_err()
    {
        core = None;
    }
    // Without registration pools work as well, only slower.
    let _registered = Eal::get().and_then(Eal::register_thread);
    let clock = Clock { tsc: job.tsc, origin: ticks() };
    let mut ports = live_ports(&job, &mut open, siblings, clock);
    wait_for_links(&job, &ports, clock)?;
    let hosts = resolve(&job, &mut ports, clock)?;
    if job.stop.is_raised() {
        return Err("interrupted before the first frame".into());
    }
    let mtus = payloads(job.plan);
    let mut lives: Vec<Live> = Vec::new();
    for (i, (cfg, port)) in hosts.into_iter().zip(ports).enumerate() {
        let pool = MbufFrames::new(&open.control, &open.data, &mtus);
        // What travels in our own memory cannot be changed on its way.
        let check_icrc = job.device(i).is_none_or(|d| d.kind != DeviceKind::Loop);
        let between = Between { check_icrc, ..Between::checked() };
        let mut host = Host::new(cfg);
        host.prepare_checksums();
        if let Some(signature) = port.signature() {
            host.sign(signature);
        }
        lives.push(Realtime::new(host, port, pool, job.tsc, between));
    }
    // A frame in hand keeps other ports waiting.
    if let [live] = lives.as_mut_slice() {
        live.make_ahead(DEADLINE_NEAR);
    }
    // All that takes time comes before the workers meet: the start is near once they have.
    let mut turner = Turner::new(&job, clock, lives);
    let origin = meet(&job, &mut turner.lives)?;
    turner.clock_from(origin);
    while ticks() < origin {}
    turner.started_late = turner.clock.now().since(Time::ZERO);
    let why_stopped = turner.go();
    let left = turner.finish(core, why_stopped);
    drop(open);
    Ok(left)
}

/// Waits until every worker is ready, answering neighbours meanwhile, and says when all start.
fn meet(job: &Job<'_>, lives: &mut [Live]) -> Result<u64, String> {
    job.gate.arrive(&job.tsc);
    let mut nothing: Burst<MbufFrame> = Burst::new();
    loop {
        if let Some(start) = job.gate.start() {
            return Ok(start);
        }
        if job.gate.failed.load(Ordering::Acquire) || job.stop.is_raised() {
            return Err(String::new());
        }
        for live in lives.iter_mut() {
            live.port.rx_burst(&mut nothing);
            nothing.clear();
        }
        std::thread::yield_now();
    }
}

impl<'a> Job<'a> {
    /// The queues of this worker.
    fn own(&self) -> &'a [Shard] {
        &self.shards[self.first..self.first + self.count]
    }

    /// The number of the port of a queue of this worker.
    fn port(&self, i: usize) -> usize {
        self.own()[i].port
    }

    /// Name of that port.
    fn name(&self, i: usize) -> &'a str {
        &self.own()[i].host.name
    }

    /// Its device.
    fn device(&self, i: usize) -> Option<&DeviceSpec> {
        self.plan.lab.ports.get(self.port(i)).and_then(|p| p.device.as_ref())
    }

    /// What belongs to the port as such is the business of its first queue.
    fn leads(&self, i: usize) -> bool {
        self.own()[i].queue == 0
    }

    /// What the queue says to neighbours of its port.
    fn alive(&self, i: usize) -> Alive {
        if self.leads(i) { Alive::new(self.plan, self.port(i)) } else { Alive::silent() }
    }

    /// Nobody is behind the port of this queue.
    fn sink(&self, i: usize) -> bool {
        self.device(i).is_some_and(DeviceSpec::is_sink)
    }
}

/// Payload lengths of most frames, for quick checksums: of full packets, and of streams' frames.
fn payloads(plan: &Plan) -> Vec<u16> {
    let mut lens: Vec<u16> = plan.classes.iter().map(|c| c.mtu).collect();
    let bursts = plan.hosts.iter().flat_map(|h| &h.actions).filter_map(|a| match &a.action {
        Action::Burst(s) => Some(s),
        _ => None,
    });
    for s in plan.hosts.iter().flat_map(|h| &h.streams).chain(bursts) {
        let v6 = plan.ranks.get(s.from.0 as usize).is_some_and(|r| r.ip.is_ipv6());
        let base = stream_base_len(&plan.classes[usize::from(s.class.0)], v6, s.verb);
        for (size, _) in &s.sizes {
            let payload = size.saturating_sub(FCS + base);
            if lens.len() < PAYLOADS_MAX && !lens.contains(&payload) {
                lens.push(payload);
            }
        }
    }
    lens.dedup();
    lens
}

fn live_ports(
    job: &Job<'_>,
    open: &mut Open,
    siblings: Vec<Option<Siblings<MbufFrame>>>,
    clock: Clock,
) -> Vec<LivePort> {
    let mtus = payloads(job.plan);
    let devices = std::mem::take(&mut open.ports).into_iter().zip(siblings);
    let wired = devices.enumerate().map(|(i, (device, siblings))| {
        let pool = MbufFrames::new(&open.control, &open.data, &[]);
        let stamps = (!job.sink(i)).then(|| Stamper::new(job.number, (job.first + i) as u8, &mtus));
        let host = (job.port(i), &job.own()[i].host);
        let mut port = setup::lab_port(job.plan, host, device, pool, open.frame_max, clock, stamps);
        port.siblings = siblings.map(Box::new);
        port
    });
    wired.collect()
}

fn wait_for_links(job: &Job<'_>, ports: &[LivePort], clock: Clock) -> Result<(), String> {
    loop {
        let down = ports.iter().position(|p| !p.device.link().is_ok_and(|l| l.up));
        let Some(down) = down else { return Ok(()) };
        if clock.now() > Time::ZERO + READY_WAIT || job.stop.is_raised() {
            let (name, device) = (job.name(down), ports[down].device.name());
            return Err(format!("port {name} ({device}): no link; is the cable in and the other end up?"));
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Asks for every next hop and puts the answers where headers are made from. The first queue of a port asks for all of them.
fn resolve(job: &Job<'_>, ports: &mut [LivePort], clock: Clock) -> Result<Vec<HostConfig>, String> {
    // (port of this worker, next hop) -> our address.
    let mut wanted: BTreeMap<(usize, IpAddr), IpAddr> = BTreeMap::new();
    let asking = (0..ports.len()).filter(|i| job.leads(*i) && !job.sink(*i));
    for i in asking {
        wanted
            .extend(setup::next_hops(job.plan, job.port(i)).into_iter().map(|(hop, from)| ((i, hop), from)));
    }
    let mut ask_at = Time::ZERO;
    let give_up = clock.now() + READY_WAIT;
    let mut nothing: Burst<MbufFrame> = Burst::new();
    loop {
        let open: Vec<(usize, IpAddr, IpAddr)> = wanted
            .iter()
            .filter(|((port, hop), _)| ports[*port].mac_of(*hop).is_none())
            .map(|((port, hop), from)| (*port, *hop, *from))
            .collect();
        for i in (0..ports.len()).filter(|i| job.leads(*i)) {
            if let Some(s) = &ports[i].siblings
                && open.iter().all(|(port, ..)| *port != i)
            {
                s.publish(&ports[i].told);
            }
        }
        let told = ports.iter().filter_map(|p| p.siblings.as_ref()).all(|s| s.told().is_some());
        let now = clock.now();
        if open.is_empty() && told {
            break;
        }
        if job.gate.failed.load(Ordering::Acquire) {
            return Err(String::new());
        }
        if job.stop.is_raised() && open.is_empty() {
            return Err("interrupted before the first frame".into());
        }
        if let Some((port, hop, _)) = open.first()
            && (now > give_up || job.stop.is_raised())
        {
            let more = if open.len() > 1 { format!(", and {} more", open.len() - 1) } else { String::new() };
            let own = job.plan.hosts[job.port(*port)].ranks.iter().any(|r| r.ip == *hop);
            let hint = match own {
                true => {
                    "it is a rank of this very port, and a switch sends nothing back where it came from: let streams join ranks of two ports"
                }
                false => "is the port on the right network, and is a gateway needed?",
            };
            return Err(format!("port {}: nobody answers for {hop}{more}; {hint}", job.name(*port)));
        }
        if now >= ask_at {
            // A burst of questions per port and round; the rest have their turn with the next.
            open.iter().for_each(|(port, hop, from)| ports[*port].ask(*from, *hop));
            ask_at = if open.len() > 1_000 { now + Span::from_ms(2) } else { now + ASK_AGAIN };
        }
        for p in ports.iter_mut() {
            p.rx_burst(&mut nothing);
            nothing.clear();
            p.flush();
        }
        std::thread::yield_now();
    }
    let mut hosts: Vec<HostConfig> = job.own().iter().map(|s| s.host.clone()).collect();
    for (i, h) in hosts.iter_mut().enumerate() {
        let port = &ports[i];
        h.mac = port.who.mac;
        let first = h.ranks.first().map_or(IpAddr::from([0, 0, 0, 0]), |r| r.ip);
        let unknown = if job.sink(i) { NOBODY } else { [0; 6] };
        let told = port.siblings.as_ref().and_then(|s| s.told()).unwrap_or(&port.told);
        let mac = |from, to| {
            let hop = setup::next_hop(job.plan, job.port(i), from, to).1;
            told.iter().find(|(ip, _)| *ip == hop).map_or(unknown, |(_, mac)| *mac)
        };
        for q in &mut h.qps {
            q.peer_mac = mac(q.local_ip, q.peer_ip);
        }
        for s in &mut h.stream_to {
            s.mac = mac(first, s.ip);
        }
    }
    Ok(hosts)
}

/// Turns all ports.
struct Turner<'j, 'a> {
    job: &'j Job<'a>,
    clock: Clock,
    lives: Vec<Live>,
    phases: Phases,
    recorder: Tally,
    /// Milestones whose time has not come.
    ahead: Vec<Milestone>,
    base: Option<Vec<HostStats>>,
    open_loop_done: bool,
    open_loop_look: Time,
    lateness: Option<Histogram<u64>>,
    late: u64,
    stall: Span,
    started_late: Span,
    links: Vec<bool>,
    events: Vec<String>,
    busy: u64,
    /// Ticks of turns in which others had the core, and how often that was.
    stolen: u64,
    preemptions: u64,
    cpu_from: f64,
    look_at: Time,
    alive: Vec<Alive>,
}

impl<'j, 'a> Turner<'j, 'a> {
    fn new(job: &'j Job<'a>, clock: Clock, lives: Vec<Live>) -> Turner<'j, 'a> {
        let phases = Phases::new(job.shared.clone(), lives.len() as u32);
        Turner {
            links: vec![true; lives.len()],
            phases,
            recorder: Tally::new(Recorder::for_senders(job.plan, &mut job.shards.iter().map(|s| &s.host))),
            ahead: Vec::new(),
            base: None,
            open_loop_done: false,
            open_loop_look: Time::ZERO,
            lateness: Histogram::new_with_bounds(1, LATENESS_MAX, 3).ok(),
            late: 0,
            stall: Span::ZERO,
            started_late: Span::ZERO,
            events: Vec::new(),
            busy: 0,
            stolen: 0,
            preemptions: 0,
            cpu_from: 0.0,
            look_at: Time::ZERO,
            alive: (0..lives.len()).map(|i| job.alive(i)).collect(),
            job,
            clock,
            lives,
        }
    }

    /// Starts the time of everything again at `origin`.
    fn clock_from(&mut self, origin: u64) {
        self.clock.origin = origin;
        for live in &mut self.lives {
            live.clock_from(origin);
            live.port.clock_from(origin);
        }
        (self.preemptions, self.cpu_from) = (sys::cpu::thread_preemptions(), sys::cpu::thread_cpu_s());
    }

    /// Until the end, the stop flag, or the death of the control thread; says why when it is that.
    fn go(&mut self) -> Option<String> {
        let mut last = self.clock.now();
        let mut idle = 0;
        let long = self.clock.tsc.ticks_in(TURN_LONG);
        let (mut before, mut worked) = (ticks(), false);
        loop {
            // One reading begins a turn and ends the one before: in a virtual machine each costs some ten nanoseconds.
            let tick = ticks();
            let now = self.clock.at(tick);
            if worked {
                // Waiting with a frame in hand is not work.
                let mut held = Span::ZERO;
                self.lives.iter_mut().for_each(|l| held += std::mem::take(&mut l.port.held));
                let took = (tick - before).saturating_sub(self.clock.tsc.ticks_in(held));
                if took > long && self.was_preempted() {
                    self.stolen += took;
                } else {
                    self.busy += took;
                }
            }
            before = tick;
            self.stall = self.stall.max(now.since(last));
            if self.job.stop.is_raised() || now >= self.phases.end() {
                return None;
            }
            self.milestones(now);
            let mut moved = false;
            for (live, shard) in self.lives.iter_mut().zip(self.job.own()) {
                // Frames that another port has just sent may be here: then by a reading of its own.
                let now = if moved { self.clock.now() } else { now };
                self.recorder.leads = shard.queue == 0;
                if let Some(news) = live.port.begin_turn(now) {
                    for (priority, quanta) in news {
                        live.host.on_pause(now, priority, quanta, &mut self.recorder);
                    }
                }
                let due = live.host.next_deadline();
                moved |= live.turn(now, &mut self.recorder);
                let mut late = std::mem::take(&mut live.port.lateness);
                if late.is_empty() && due != Time::ZERO && due < now {
                    late.push(now.since(due));
                }
                for late in late {
                    self.late += 1;
                    if let Some(h) = &mut self.lateness {
                        h.saturating_record(late.0.max(1));
                    }
                }
                while let Some(event) = live.host.poll_event() {
                    match event {
                        HostEvent::IterationDone { iteration, at } => self.phases.host_done(iteration, at),
                        HostEvent::Failed { workload, iteration, from, to, at, cause } => {
                            let why =
                                format!("rank {} -> rank {} (workload {workload}): {cause}", from.0, to.0);
                            self.phases.host_failed(at, iteration, why);
                        }
                    }
                }
            }
            if now >= self.open_loop_look && !self.open_loop_done {
                self.open_loop_done = self.lives.iter().all(|l| l.host.open_loop_done());
                if self.open_loop_done {
                    self.phases.open_loop_done(now);
                }
                self.open_loop_look = now + self.phases.gap().max(Span::from_us(1));
            }
            if now >= self.look_at {
                self.look_at = now + LOOK;
                self.look(now);
                let silence =
                    self.clock.tsc.span(ticks().saturating_sub(self.job.heart.load(Ordering::Relaxed)));
                if silence > HEART_MAX {
                    return Some(format!(
                        "the control thread did not move for {silence}: sending was stopped"
                    ));
                }
                let _ = self.job.progress.try_send(now);
            }
            last = now;
            worked = moved;
            if moved {
                idle = 0;
            } else {
                let due = self.lives.iter().map(|l| l.host.next_deadline()).min().unwrap_or(Time::NEVER);
                if due < now + DEADLINE_SOON {
                    // Nothing else may come between: what arrives meanwhile waits no longer than a turn takes.
                    if self.lives.len() > 1 && due < self.clock.now() + DEADLINE_NEAR {
                        while self.clock.now() < due {}
                    }
                    continue;
                }
                idle += 1;
                std::hint::spin_loop();
                if idle > IDLE_TURNS {
                    idle = 0;
                    std::thread::yield_now();
                    // Time given away while there was nothing to do is no stall; what fell due meanwhile has waited.
                    last = self.clock.now().min(self.due(due).max(now));
                }
            }
        }
    }

    /// When something is to be done next, of the hosts' `deadline` and the phases.
    fn due(&self, deadline: Time) -> Time {
        let first = self.ahead.first().map(|m| match m {
            Milestone::Measure(at) | Milestone::Release(_, at) => *at,
        });
        // A deadline of zero is "now": a host that waits for room or for a pause to end.
        let deadline = if deadline == Time::ZERO { Time::NEVER } else { deadline };
        first.map_or(deadline, |at| at.min(deadline))
    }

    /// Others had the core since the last question.
    #[cold]
    fn was_preempted(&mut self) -> bool {
        let before = std::mem::replace(&mut self.preemptions, sys::cpu::thread_preemptions());
        self.preemptions > before
    }

    /// Takes up what the phases have agreed on, at its time.
    fn milestones(&mut self, now: Time) {
        while let Some(m) = self.phases.poll_milestone() {
            if let Milestone::Measure(at) = m {
                self.recorder.recorder().set_measure_from(at);
            }
            self.ahead.push(m);
        }
        while let Some(&m) = self.ahead.first() {
            match m {
                Milestone::Measure(at) | Milestone::Release(_, at) if at > now => return,
                Milestone::Measure(_) => {
                    self.base = Some(self.lives.iter().map(|l| l.host.stats().clone()).collect());
                    self.lives.iter_mut().for_each(|l| l.port.asked.mark());
                }
                Milestone::Release(iteration, _) => {
                    self.lives.iter_mut().for_each(|l| l.host.start_iteration(iteration, now));
                }
            }
            self.ahead.remove(0);
        }
    }

    /// Links that came and went, and a word to the neighbours now and then.
    fn look(&mut self, now: Time) {
        for (i, live) in self.lives.iter_mut().enumerate() {
            live.port.device.observe_clock();
            let up = live.port.device.link().is_ok_and(|l| l.up);
            live.port.down = !up;
            if up != self.links[i] && self.job.leads(i) && self.events.len() < EVENTS_MAX {
                let (name, word) = (self.job.name(i), if up { "up" } else { "down" });
                self.events.push(format!("port {name}: link {word} at {:.1} s", now.0 as f64 / 1e12));
            }
            self.links[i] = up;
        }
        self.alive.iter_mut().zip(&mut self.lives).for_each(|(a, live)| a.speak(now, &mut live.port));
    }

    /// Why its streams cannot be trusted when they fell behind until `end`, by more than the worker may be absent: it could not
    /// make so many frames, or its device could not take them. Nothing is said where others may be the reason: ports that
    /// were paused or down, or whose streams ask for more than their link.
    fn behind(&self, end: Time) -> Option<String> {
        let p99 =
            self.lateness.as_ref().filter(|h| !h.is_empty()).map(|h| Span(h.value_at_quantile(0.99)))?;
        let excused = |(live, shard): (&Live, &Shard)| {
            let host = &self.job.plan.hosts[shard.port];
            let paused = live.host.stats().pfc.iter().any(|p| p.xoff_rx > 0);
            // Of all queues of the port, which are taken to have as much to send.
            let whole =
                live.host.stream_share(&LinkTiming::new(host.rate, Span::ZERO)) * f64::from(shard.queues);
            paused || live.port.stats.lost_down > 0 || whole > FULL
        };
        let allowed = self.job.plan.lab.stall_max.max(Span(end.0 / BEHIND_PART));
        if p99 <= allowed || self.lives.iter().zip(self.job.own()).any(excused) {
            return None;
        }
        Some(format!(
            "streams of {} left {p99} after their time or later ({allowed} allowed, one frame in a hundred): the worker or its \
             device cannot send so many frames; lower the load, send larger frames, give the port more queues and workers, or \
             raise stall_max in [run]",
            worker_name(self.job.own()),
        ))
    }

    fn finish(mut self, core: Option<usize>, why_stopped: Option<String>) -> Left {
        let (end, cpu_s) = (self.clock.now(), sys::cpu::thread_cpu_s() - self.cpu_from);
        let stopped = self.job.stop.is_raised() || why_stopped.is_some();
        let asked = self.job.stop.raised_at().map(|t| t.saturating_sub(self.clock.origin));
        let stop = asked.map(|t| end.since(Time::ZERO + self.clock.tsc.span(t)));
        if let Some(after) = stop {
            self.events.push(format!("asked to stop: nothing was handed over later than {after} after that"));
        }
        // Nothing leaves from here on; what is on its way is still counted when the run ended by itself.
        self.lives.iter_mut().for_each(|l| l.port.silent = true);
        self.recorder.over = self.phases.end().min(end);
        while !stopped && self.clock.now() < end + DRAIN {
            let now = self.clock.now();
            for (live, shard) in self.lives.iter_mut().zip(self.job.own()) {
                live.port.turn_at = now;
                self.recorder.leads = shard.queue == 0;
                live.turn(now, &mut self.recorder);
            }
        }
        let mut why: Vec<String> = why_stopped.into_iter().collect();
        if self.stall > self.job.plan.lab.stall_max {
            why.push(format!(
                "the machine kept the worker from its ports for {} ({} allowed): give it a core of its own, or raise stall_max \
                 in [run]",
                self.stall, self.job.plan.lab.stall_max
            ));
        }
        why.extend(self.behind(end));
        let mut frames = 0;
        for (live, shard) in self.lives.iter_mut().zip(self.job.own()) {
            self.recorder.leads = shard.queue == 0;
            live.finish(&mut self.recorder);
            self.recorder.recorder().add_round_trips(live.port.asked.round_trip_ns());
            frames += live.port.stats.tx_frames + live.port.stats.rx_frames;
        }
        let over = self.recorder.over;
        self.recorder.recorder().finish(over);
        let mut base = self.base.take().into_iter().flatten();
        let queues = std::mem::take(&mut self.lives).into_iter().zip(self.job.own());
        let queues: Vec<QueueLeft> =
            queues.map(|(live, shard)| queue_left(live, shard, base.next(), end)).collect();
        let total_s = end.0 as f64 / 1e12;
        Left {
            now: end,
            worker: WorkerStats {
                name: worker_name(self.job.own()),
                core,
                frames,
                busy_s: self.clock.tsc.span(self.busy).as_s_f64(),
                total_s,
                stolen_s: self.clock.tsc.span(self.stolen).as_s_f64(),
                cpu_s,
                lateness_ps: self.lateness.as_ref().filter(|h| !h.is_empty()).map(percentiles),
                started_late_ps: Some(self.started_late.0),
            },
            queues,
            events: self.events,
            why,
            lateness: self.lateness.filter(|h| !h.is_empty()),
            late: self.late,
            stop,
            recorder: self.recorder.into_recorder(),
        }
    }
}

/// p50, p99, max.
pub(super) fn percentiles(h: &Histogram<u64>) -> [u64; 3] {
    [h.value_at_quantile(0.5), h.value_at_quantile(0.99), h.max()]
}

/// "port 3", "ports 0-3" where all are whole and follow each other, or the queues one by one.
fn worker_name(own: &[Shard]) -> String {
    const LISTED_MAX: usize = 4;
    let whole = own.iter().all(|s| s.queues == 1);
    match own {
        [one] if whole => format!("port {}", one.port),
        [first, .., last] if whole => format!("ports {}-{}", first.port, last.port),
        _ => {
            let mut names: Vec<String> =
                own.iter().take(LISTED_MAX).map(|s| format!("port {} queue {}", s.port, s.queue)).collect();
            if own.len() > LISTED_MAX {
                names.push(format!("{} more", own.len() - LISTED_MAX));
            }
            names.join(", ")
        }
    }
}

/// What is left of a queue; its port stays open.
fn queue_left(live: Live, shard: &Shard, base: Option<HostStats>, end: Time) -> QueueLeft {
    let (icrc_errors, progress) = (live.stats().rx_icrc_errors, live.host.stream_progress(end));
    let Realtime { host, port, .. } = live;
    let LabPort { device, who, stats, seen, siblings, .. } = port;
    QueueLeft {
        port: shard.port,
        queue: shard.queue,
        unusable: device.rx_unusable(),
        device,
        mac: who.mac,
        host: base.map_or_else(|| host.stats().clone(), |base| host.stats().since(&base)),
        stats,
        seen,
        icrc_errors,
        progress,
        misdirected: siblings.map_or(0, |s| s.misdirected),
    }
}
