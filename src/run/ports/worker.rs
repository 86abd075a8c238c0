//! The worker: resolves neighbours, then turns every port until the run is over.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::Sender;
use hdrhistogram::Histogram;

use super::port::{Clock, Identity, LabPort, Stamps, Wire};
use super::setup::{self, Open};
use crate::dpdk::{Eal, EthPort, MbufFrames};
use crate::frame::{Burst, PfcSeen, Port};
use crate::host::config::HostConfig;
use crate::host::{Host, HostEvent};
use crate::measure::recorder::Recorder;
use crate::measure::stats::HostStats;
use crate::plan::Plan;
use crate::run::phases::{Milestone, Phases, Shared};
use crate::run::realtime::{Between, Realtime};
use crate::run::result::{PortFigures, WorkerStats};
use crate::sys;
use crate::sys::signals::StopFlag;
use crate::sys::tsc::{Tsc, ticks};
use crate::units::{FrameLen, LinkTiming, Span, Time};

/// Longest wait for links to come up and neighbours to answer.
const READY_WAIT: Span = Span::from_ms(5_000);
/// A question to a neighbour is repeated after this.
const ASK_AGAIN: Span = Span::from_ms(200);
/// Neighbours are told that we are still there, so that no switch forgets us while we are silent.
const KEEP_ALIVE: Span = Span::from_ms(20_000);
/// How often links, the heart of the control thread and the progress are looked at.
const LOOK: Span = Span::from_ms(100);
/// The control thread is taken for dead after so long a silence, and sending stops.
const HEART_MAX: Span = Span::from_ms(2_000);
/// Wait for frames on their way when the run is over.
const DRAIN: Span = Span::from_ms(20);
/// Turns without a frame before others may have the core.
const IDLE_TURNS: u32 = 2_000;
/// Events kept.
const EVENTS_MAX: usize = 1_000;

type LivePort = LabPort<EthPort, MbufFrames>;
type Live = Realtime<LivePort, MbufFrames>;

pub(super) struct Job<'a> {
    pub plan: &'a Plan,
    pub tsc: Tsc,
    pub core: Option<usize>,
    pub shared: Arc<Shared>,
    pub stop: StopFlag,
    pub heart: Arc<AtomicU64>,
    pub progress: Sender<Time>,
}

/// What the worker leaves.
pub(super) struct Left {
    pub hosts: Vec<HostStats>,
    pub recorder: Recorder,
    pub now: Time,
    pub worker: WorkerStats,
    pub ports: Vec<PortFigures>,
    pub events: Vec<String>,
    pub why: Vec<String>,
    pub lateness_ps: Option<[u64; 3]>,
    pub late: u64,
    /// From the wish to stop to the moment from which nothing was handed over.
    pub stop: Option<Span>,
}

/// Runs to the agreed end. `Err`: the lab is not ready.
pub(super) fn run(job: Job<'_>, mut open: Open) -> Result<Left, String> {
    let mut core = job.core;
    if let Some(c) = core
        && sys::affinity::pin_current(c).is_err()
    {
        core = None;
    }
    // Without registration pools work as well, only slower.
    let _registered = Eal::get().and_then(Eal::register_thread);
    let clock = Clock { tsc: job.tsc, origin: ticks() };
    let mut ports = live_ports(&job, &mut open, clock);
    wait_for_links(&job, &ports, clock)?;
    let hosts = resolve(&job, &mut ports, clock)?;
    if job.stop.is_raised() {
        return Err("interrupted before the first frame".into());
    }
    let mtus = payloads(job.plan);
    let origin = ticks();
    let mut lives: Vec<Live> = Vec::new();
    for (cfg, mut port) in hosts.into_iter().zip(ports) {
        port.clock_from(origin);
        let pool = MbufFrames::new(&open.control, &open.data, &mtus);
        lives.push(Realtime::new(Host::new(cfg), port, pool, job.tsc, Between::checked()));
    }
    let clock = Clock { tsc: job.tsc, origin };
    let mut turner = Turner::new(&job, clock, lives);
    let why_stopped = turner.go();
    let left = turner.finish(core, open.frame_max, why_stopped);
    drop(open);
    Ok(left)
}

/// Payload lengths of most frames, for quick checksums.
fn payloads(plan: &Plan) -> Vec<u16> {
    let mut mtus: Vec<u16> = plan.classes.iter().map(|c| c.mtu).collect();
    mtus.sort_unstable();
    mtus.dedup();
    mtus
}

fn live_ports(job: &Job<'_>, open: &mut Open, clock: Clock) -> Vec<LivePort> {
    let stamps = Stamps::shared();
    let vlan = job.plan.classes.iter().find_map(|c| c.vlan);
    let frame_max = open.frame_max;
    let wired = std::mem::take(&mut open.ports).into_iter().enumerate().map(|(i, device)| {
        let (host, lab) = (&job.plan.hosts[i], &job.plan.lab.ports[i]);
        let who = Identity {
            mac: setup::own_mac(lab, &device),
            vlan,
            ips: host.ranks.iter().map(|r| r.ip).chain(lab.address).collect(),
        };
        let wire = Wire {
            who,
            pfc: lab.pfc,
            timing: LinkTiming::new(host.rate, Span::ZERO),
            backlog_bytes: setup::backlog(job.plan, i, frame_max),
            frame_max: FrameLen(frame_max),
            clock,
        };
        LabPort::new(device, MbufFrames::new(&open.control, &open.data, &[]), wire, stamps.clone())
    });
    wired.collect()
}

fn wait_for_links(job: &Job<'_>, ports: &[LivePort], clock: Clock) -> Result<(), String> {
    loop {
        let down = ports.iter().position(|p| !p.device.link().is_ok_and(|l| l.up));
        let Some(down) = down else { return Ok(()) };
        if clock.now() > Time::ZERO + READY_WAIT || job.stop.is_raised() {
            let (name, device) = (&job.plan.hosts[down].name, ports[down].device.name());
            return Err(format!("port {name} ({device}): no link; is the cable in and the other end up?"));
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Asks for every next hop and puts the answers where headers are made from.
fn resolve(job: &Job<'_>, ports: &mut [LivePort], clock: Clock) -> Result<Vec<HostConfig>, String> {
    let mut hosts = job.plan.hosts.clone();
    // (port, next hop) -> our address.
    let mut wanted: BTreeMap<(usize, IpAddr), IpAddr> = BTreeMap::new();
    for (i, h) in hosts.iter().enumerate() {
        let Some(first) = h.ranks.first().map(|r| r.ip) else { continue };
        let qps = h.qps.iter().map(|q| (q.local_ip, q.peer_ip));
        for (from, to) in qps.chain(h.stream_to.iter().map(|s| (first, s.ip))) {
            let (from, hop) = setup::next_hop(job.plan, i, from, to);
            wanted.entry((i, hop)).or_insert(from);
        }
    }
    let mut ask_at = Time::ZERO;
    let give_up = clock.now() + READY_WAIT;
    let mut nothing: Burst<crate::dpdk::MbufFrame> = Burst::new();
    loop {
        let open: Vec<(usize, IpAddr, IpAddr)> = wanted
            .iter()
            .filter(|((port, hop), _)| ports[*port].mac_of(*hop).is_none())
            .map(|((port, hop), from)| (*port, *hop, *from))
            .collect();
        let now = clock.now();
        if open.is_empty() {
            break;
        }
        if now > give_up || job.stop.is_raised() {
            let (port, hop, _) = open[0];
            let more = if open.len() > 1 { format!(", and {} more", open.len() - 1) } else { String::new() };
            return Err(format!(
                "port {}: nobody answers for {hop}{more}; is the port on the right network, and is a gateway needed?",
                hosts[port].name
            ));
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
    for (i, h) in hosts.iter_mut().enumerate() {
        h.mac = ports[i].who.mac;
        let first = h.ranks.first().map_or(IpAddr::from([0, 0, 0, 0]), |r| r.ip);
        let mac = |from, to| ports[i].mac_of(setup::next_hop(job.plan, i, from, to).1).unwrap_or_default();
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
    recorder: Recorder,
    /// Milestones whose time has not come.
    ahead: Vec<Milestone>,
    base: Option<Vec<HostStats>>,
    open_loop_done: bool,
    open_loop_look: Time,
    lateness: Option<Histogram<u64>>,
    late: u64,
    stall: Span,
    links: Vec<bool>,
    events: Vec<String>,
    busy: u64,
    look_at: Time,
    keep_alive_at: Time,
}

impl<'j, 'a> Turner<'j, 'a> {
    fn new(job: &'j Job<'a>, clock: Clock, lives: Vec<Live>) -> Turner<'j, 'a> {
        let phases = Phases::new(job.shared.clone(), lives.len() as u32);
        Turner {
            links: vec![true; lives.len()],
            phases,
            recorder: Recorder::for_plan(job.plan),
            ahead: Vec::new(),
            base: None,
            open_loop_done: false,
            open_loop_look: Time::ZERO,
            lateness: Histogram::new(3).ok(),
            late: 0,
            stall: Span::ZERO,
            events: Vec::new(),
            busy: 0,
            look_at: Time::ZERO,
            keep_alive_at: Time::ZERO + KEEP_ALIVE,
            job,
            clock,
            lives,
        }
    }

    /// Until the end, the stop flag, or the death of the control thread; says why when it is that.
    fn go(&mut self) -> Option<String> {
        let mut last = self.clock.now();
        let mut idle = 0;
        loop {
            let now = self.clock.now();
            self.stall = self.stall.max(now.since(last));
            if self.job.stop.is_raised() || now >= self.phases.end() {
                return None;
            }
            let before = ticks();
            self.milestones(now);
            let mut moved = false;
            for live in &mut self.lives {
                // Each port by its own reading: frames that another one has just sent may be here.
                let now = self.clock.now();
                let due = live.host.next_deadline();
                if due != Time::ZERO && due < now {
                    self.late += 1;
                    if let Some(h) = &mut self.lateness {
                        h.saturating_record(now.since(due).0.max(1));
                    }
                }
                moved |= live.turn(now, &mut self.recorder);
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
            if moved {
                self.busy += ticks() - before;
                idle = 0;
            } else {
                idle += 1;
                std::hint::spin_loop();
                if idle > IDLE_TURNS {
                    idle = 0;
                    std::thread::yield_now();
                    // Time given away while there was nothing to do is no stall.
                    last = self.clock.now();
                }
            }
        }
    }

    /// Takes up what the phases have agreed on, at its time.
    fn milestones(&mut self, now: Time) {
        while let Some(m) = self.phases.poll_milestone() {
            if let Milestone::Measure(at) = m {
                self.recorder.set_measure_from(at);
            }
            self.ahead.push(m);
        }
        while let Some(&m) = self.ahead.first() {
            match m {
                Milestone::Measure(at) | Milestone::Release(_, at) if at > now => return,
                Milestone::Measure(_) => {
                    self.base = Some(self.lives.iter().map(|l| l.host.stats().clone()).collect());
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
            let up = live.port.device.link().is_ok_and(|l| l.up);
            live.port.down = !up;
            if up != self.links[i] && self.events.len() < EVENTS_MAX {
                let (name, word) = (&self.job.plan.hosts[i].name, if up { "up" } else { "down" });
                self.events.push(format!("port {name}: link {word} at {:.1} s", now.0 as f64 / 1e12));
            }
            self.links[i] = up;
        }
        if now >= self.keep_alive_at {
            self.keep_alive_at = now + KEEP_ALIVE;
            for (i, live) in self.lives.iter_mut().enumerate() {
                let Some(rank) = self.job.plan.hosts[i].ranks.first() else { continue };
                let peer = self.job.plan.hosts[i].qps.first().map_or(rank.ip, |q| q.peer_ip);
                let (from, hop) = setup::next_hop(self.job.plan, i, rank.ip, peer);
                live.port.ask(from, hop);
            }
        }
    }

    fn finish(mut self, core: Option<usize>, frame_max: u16, why_stopped: Option<String>) -> Left {
        let end = self.clock.now();
        let stopped = self.job.stop.is_raised() || why_stopped.is_some();
        let asked = self.job.stop.raised_at().map(|t| t.saturating_sub(self.clock.origin));
        let stop = asked.map(|t| end.since(Time::ZERO + self.clock.tsc.span(t)));
        if let Some(after) = stop {
            self.events.push(format!("asked to stop: nothing was handed over later than {after} after that"));
        }
        // Nothing leaves from here on; what is on its way is still counted when the run ended by itself.
        self.lives.iter_mut().for_each(|l| l.port.silent = true);
        while !stopped && self.clock.now() < end + DRAIN {
            let now = self.clock.now();
            for live in &mut self.lives {
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
        let mut ports = Vec::new();
        for (i, live) in self.lives.iter_mut().enumerate() {
            live.finish(&mut self.recorder);
            let figures = figures(self.job.plan, i, live, frame_max, end);
            let allowed = self.job.plan.hosts[i].pfc_response.as_ns_f64();
            if let Some(took) = figures.xoff_response_ns.filter(|took| *took > allowed) {
                why.push(format!(
                    "port {}: frames left for {took:.0} ns after an XOFF and {allowed:.0} ns are allowed (pfc_response): \
                     lossless drops may be the tester's; lower tx_backlog",
                    figures.name
                ));
            }
            if live.port.stats.unstamped > 0 {
                why.push(format!(
                    "port {}: {} frames arrived after their stamps were gone: latencies count them as 0",
                    figures.name, live.port.stats.unstamped
                ));
            }
            ports.push(figures);
        }
        self.recorder.finish(end);
        let hosts = self.lives.iter().map(|l| l.host.stats());
        let hosts = match &self.base {
            Some(base) => hosts.zip(base).map(|(now, base)| now.since(base)).collect(),
            None => hosts.cloned().collect(),
        };
        let total_s = end.0 as f64 / 1e12;
        Left {
            hosts,
            now: end,
            worker: WorkerStats {
                name: format!("ports 0-{}", self.lives.len().saturating_sub(1)),
                core,
                frames: ports.iter().map(|p| p.tx_frames + p.rx_frames).sum(),
                busy_s: self.clock.tsc.span(self.busy).as_s_f64(),
                total_s,
            },
            ports,
            events: self.events,
            why,
            lateness_ps: self
                .lateness
                .filter(|h| !h.is_empty())
                .map(|h| [h.value_at_quantile(0.5), h.value_at_quantile(0.99), h.max()]),
            late: self.late,
            stop,
            recorder: self.recorder,
        }
    }
}

/// What the device counted of pauses, under its own names.
fn pause_counters(device: &EthPort) -> Vec<(String, u64)> {
    let of_pauses = |n: &str| ["pause", "xoff", "xon", "pfc"].iter().any(|w| n.contains(w));
    let all = device.xstats().unwrap_or_default();
    all.into_iter().filter(|(n, v)| *v > 0 && of_pauses(n)).collect()
}

fn figures(plan: &Plan, i: usize, live: &Live, frame_max: u16, end: Time) -> PortFigures {
    let (host, lab, s) = (&plan.hosts[i], &plan.lab.ports[i], &live.port.stats);
    let device = &live.port.device;
    let counted = device.stats().ok();
    let seen = device.caps().pfc_seen;
    let wire_bits = (s.tx_bytes + 20 * s.tx_frames) as f64 * 8.0;
    let word = |x: &str| x.to_ascii_lowercase();
    PortFigures {
        name: host.name.clone(),
        device: device.name().to_owned(),
        driver: device.driver(),
        mac: live.port.who.mac.map(|b| format!("{b:02x}")).join(":"),
        pfc: word(&format!("{:?}", lab.pfc)),
        pfc_seen: word(&format!("{seen:?}")),
        pfc_frames: (seen == PfcSeen::Frames).then_some(s.pfc_seen),
        xoff_response_ns: (s.xoff_backlog > Span::ZERO).then(|| s.xoff_backlog.as_ns_f64()),
        tx_backlog_bytes_max: setup::backlog(plan, i, frame_max),
        tx_descriptors: device.tx_descriptors(),
        tx_frames: s.tx_frames,
        tx_bytes: s.tx_bytes,
        rx_frames: s.rx_frames,
        rx_bytes: s.rx_bytes,
        tx_utilisation: wire_bits / (end.0.max(1) as f64 / 1e12) / host.rate.bits_per_s.max(1) as f64,
        tx_refused: s.refused,
        tx_lost_down: s.lost_down,
        pause_counters: if seen == PfcSeen::Counters { pause_counters(device) } else { Vec::new() },
        rx_missed: counted.map_or(0, |c| c.rx_missed + c.rx_no_buffer),
        icrc_errors: live.stats().rx_icrc_errors,
        ce_rx: live.port.seen.ce,
        delay_ns: live.port.seen.delay_ns(),
        delay_blurred: live.port.seen.blurred,
        queue_bytes_inferred: live.port.seen.queue_bytes(&live.port.timing),
        rx_other: s.other,
        answered: s.answered,
        device_tx_frames: counted.map(|c| c.tx_frames),
        device_rx_frames: counted.map(|c| c.rx_frames),
    }
}
