//! Before a run, and as `rankstorm preflight`: whether the lab is what the profile takes it for. A few probes per pair of
//! ports: datagrams to a queue pair that nobody has, with right ICRCs, so that switches treat them as the traffic to come.
//!
//! Everything is looked at with the devices of the run, which go back to it afterwards. Nothing is sent to an address that
//! the run would not send to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::port::{Clock, LabPort, Probe};
use super::setup::{self, Open};
use crate::dpdk::ethdev::FlowControl;
use crate::dpdk::{EthPort, MbufFrame, MbufFrames};
use crate::frame::{Burst, Port};
use crate::measure::distribution::Distribution;
use crate::plan::Plan;
use crate::plan::device::{DeviceKind, DeviceSpec, Steering};
use crate::plan::lab::PfcMode;
use crate::plan::shards::{Homes, low_word};
use crate::run::preflight::{Check, Outcome, PairFigures, Preflight};
use crate::sys::signals::StopFlag;
use crate::sys::tsc::{Tsc, ticks};
use crate::units::{Span, Time};
use crate::wire::template::{FrameSpec, Template};

/// Longest wait for links.
const LINK_WAIT: Span = Span::from_ms(5_000);
/// Longest wait for neighbours.
const NEIGHBOUR_WAIT: Span = Span::from_ms(3_000);
/// A question to a neighbour is repeated after this.
const ASK_AGAIN: Span = Span::from_ms(200);
/// Probes are sent for so long; pairs that have had none by then are said to be skipped.
const PROBE_TIME: Span = Span::from_ms(2_000);
/// A probe is taken for lost after this. Switches that learn addresses, or ask for them, need it.
const PROBE_WAIT: Span = Span::from_ms(100);
/// Probes per pair for its latency.
const PROBES: u32 = 20;
/// Lost probes of a pair after which it is given up.
const LOST_MAX: u32 = 3;
/// Length of most probes without FCS.
const PROBE_LEN: u16 = 82;
/// How long a priority is held.
const HOLD: Span = Span::from_ms(20);
/// An XOFF has this long to take hold of the network, or to come through it, before the first probe.
const SETTLE: Span = Span::from_us(200);
const THROUGH_WAIT: Span = Span::from_ms(3);
/// Attempts at a pause.
const PAUSE_TRIES: u32 = 3;
/// The XOFF is repeated after this, and no more often than four times a pause: below the longest one of any port up to 800G
/// (42 us) times the turns it may take.
const HOLD_AGAIN: Span = Span::from_us(20);
/// The longest pause.
const QUANTA_MAX: u16 = u16::MAX;
/// Failures listed one by one; more of a kind are counted.
const LISTED_MAX: usize = 8;

type LivePort = LabPort<EthPort, MbufFrames>;

/// How probes are marked: DSCP, ECN, code point of the tag; and the priority they should find.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Marks {
    dscp: u8,
    ecn: u8,
    pcp: u8,
    priority: u8,
}

struct Examiner<'a> {
    plan: &'a Plan,
    stop: &'a StopFlag,
    clock: Clock,
    ports: Vec<LivePort>,
    /// Of each port.
    homes: Vec<Homes>,
    frame_len: u16,
    number: u32,
    until: Time,
    found: Preflight,
}

/// Looks at everything. `pauses`: also at what an XOFF stops, where the profile allows pauses.
pub(super) fn examine(plan: &Plan, tsc: Tsc, stop: &StopFlag, pauses: bool, open: &mut Open) -> Preflight {
    let clock = Clock { tsc, origin: ticks() };
    let mut e = Examiner {
        plan,
        stop,
        clock,
        ports: lab_ports(plan, open, clock),
        homes: (0..plan.hosts.len()).map(|i| Homes::new(&plan.hosts[i].ranks, plan.lab.queues(i))).collect(),
        frame_len: longest_frame(plan),
        number: 0,
        until: Time::NEVER,
        found: Preflight::default(),
    };
    e.links();
    e.flow_control();
    if e.found.passed() {
        e.neighbours();
    }
    if e.found.passed() {
        e.until = e.clock.now() + PROBE_TIME;
        e.pairs();
    }
    if pauses && e.found.passed() {
        e.pauses();
    }
    // What is still on its way is none of the run's.
    e.turns(Span::from_ms(2));
    let Examiner { mut found, ports, clock, .. } = e;
    found.frames = ports.iter().map(|p| (p.stats.tx_frames, p.stats.rx_frames)).collect();
    found.wall_s = clock.now().0 as f64 / 1e12;
    for port in ports {
        let mut device = port.device;
        device.count_from_here();
        open.ports.push(device);
    }
    found
}

fn lab_ports(plan: &Plan, open: &mut Open, clock: Clock) -> Vec<LivePort> {
    let wired = std::mem::take(&mut open.ports).into_iter().enumerate().map(|(i, device)| {
        let pool = MbufFrames::new(&open.control, &open.data, &[]);
        setup::lab_port(plan, (i, &plan.hosts[i]), device, pool, open.frame_max, clock, None)
    });
    wired.collect()
}

/// Longest frame that the run will send, without FCS: a packet with a RETH, or that of a stream.
fn longest_frame(plan: &Plan) -> u16 {
    let v6 = plan.ranks.first().is_some_and(|r| r.ip.is_ipv6());
    let heads = |c: &crate::transport::config::ClassConfig| {
        14 + if c.vlan.is_some() { 4 } else { 0 } + if v6 { 40 } else { 20 } + 8 + 12 + 16 + 4
    };
    let messages = plan.workloads.iter().filter_map(|w| plan.classes.get(usize::from(w.class.0)));
    let streams = plan.hosts.iter().flat_map(|h| &h.streams).flat_map(|s| &s.sizes);
    let lens = messages.map(|c| c.mtu + heads(c)).chain(streams.map(|(size, _)| size.saturating_sub(4)));
    lens.max().unwrap_or(PROBE_LEN)
}

/// Sends, and never receives.
fn sink(plan: &Plan, port: usize) -> bool {
    plan.lab.ports[port].device.as_ref().is_some_and(|d: &DeviceSpec| d.is_sink() || d.is_file())
}

impl Examiner<'_> {
    fn say(&mut self, name: &str, place: String, outcome: Outcome, text: String, fix: Option<String>) {
        self.found.checks.push(Check { name: name.into(), place, outcome, text, fix });
    }

    fn port_name(&self, i: usize) -> String {
        format!("port {}", self.plan.hosts[i].name)
    }

    /// One round over all ports: frames in, answers out.
    fn turn(&mut self) {
        let mut rest: Burst<MbufFrame> = Burst::new();
        for p in &mut self.ports {
            p.rx_burst(&mut rest);
            rest.clear();
            p.flush();
        }
    }

    fn turns(&mut self, span: Span) {
        let until = self.clock.now() + span;
        while self.clock.now() < until {
            self.turn();
        }
        self.ports.iter_mut().for_each(|p| p.probes.clear());
    }

    // --- Links and neighbours ---

    fn links(&mut self) {
        let deadline = self.clock.now() + LINK_WAIT;
        let down = |p: &LivePort| !p.device.link().is_ok_and(|l| l.up);
        while self.ports.iter().any(down) && self.clock.now() < deadline && !self.stop.is_raised() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let mut up = 0;
        for i in 0..self.ports.len() {
            let device = &self.ports[i].device;
            let (name, link) = (device.name().to_owned(), device.link());
            let place = format!("{} ({name})", self.port_name(i));
            if down(&self.ports[i]) {
                let fix = "is the cable in and the other end up?".to_owned();
                self.say("link", place, Outcome::Fail, "no link".into(), Some(fix));
                continue;
            }
            up += 1;
            let asked = self.plan.hosts[i].rate;
            let real = self.plan.lab.ports[i].device.as_ref().is_some_and(|d| d.kind == DeviceKind::Pci);
            let Some(rate) = link.ok().and_then(|l| l.rate).filter(|_| real) else { continue };
            if rate == asked {
                self.say("rate", place, Outcome::Pass, format!("{rate}, as the profile says"), None);
            } else {
                let fix =
                    format!("set rate = \"{}G\" in [[port]], or the speed of the link", rate.as_gbps_f64());
                let text = format!("the link runs at {rate}, the profile says {asked}");
                self.say("rate", place, Outcome::Fail, text, Some(fix));
            }
        }
        if up == self.ports.len() {
            self.say("link", ports_text(up), Outcome::Pass, "up".into(), None);
        }
        let software = (0..self.ports.len())
            .filter(|i| self.plan.lab.ports[*i].device.as_ref().is_some_and(|d| d.kind != DeviceKind::Pci));
        let software = software.count();
        if software > 0 {
            let text = "software devices have no rate and no FEC of their own".to_owned();
            self.say("rate", ports_text(software), Outcome::Skipped, text, None);
        }
        for i in 0..self.ports.len() {
            if self.plan.lab.ports[i].device.as_ref().is_none_or(|d| d.kind != DeviceKind::Pci) {
                continue;
            }
            let (outcome, text) = match self.ports[i].device.fec() {
                Some(mode) => {
                    (Outcome::Pass, format!("{mode}, as the device says; the other end must have the same"))
                }
                None => (Outcome::Skipped, "the device does not tell".to_owned()),
            };
            self.say("fec", self.port_name(i), outcome, text, None);
        }
    }

    /// Whether the device itself stops at pauses that ought to be ours.
    fn flow_control(&mut self) {
        let mut fine = 0;
        for i in 0..self.ports.len() {
            let Some(found) = self.ports[i].device.flow_control() else { continue };
            let obeys = matches!(found, FlowControl::Obeys | FlowControl::Both);
            if !obeys || self.plan.lab.ports[i].pfc == PfcMode::Hardware {
                fine += 1;
                continue;
            }
            let fix = "set_flow_control = true in [[port]], or: ethtool -A INTERFACE rx off".to_owned();
            let text = "the device obeys 802.3x pauses, which stop every class".to_owned();
            self.say("flow-control", self.port_name(i), Outcome::Fail, text, Some(fix));
        }
        if fine > 0 {
            let text = "link-level pauses of the device are as pfc needs them".to_owned();
            self.say("flow-control", ports_text(fine), Outcome::Pass, text, None);
        }
    }

    /// Pairs of ports that can send and receive.
    fn pairs_of_ports(&self) -> Vec<(usize, usize)> {
        let live = |i: &usize| !sink(self.plan, *i) && !self.plan.hosts[*i].ranks.is_empty();
        let all: Vec<usize> = (0..self.ports.len()).filter(live).collect();
        let pair = |a: usize| all.iter().filter(move |b| **b != a).map(move |b| (a, *b));
        all.iter().flat_map(|a| pair(*a)).collect()
    }

    /// The addresses of probe number `turn` of a pair: all ranks have their turn.
    fn addresses(&self, (from, to): (usize, usize), turn: u32) -> (IpAddr, IpAddr) {
        let ip = |port: usize| {
            let ranks = &self.plan.hosts[port].ranks;
            ranks[turn as usize % ranks.len()].ip
        };
        (ip(from), ip(to))
    }

    fn neighbours(&mut self) {
        // (port, next hop) -> our address.
        let mut wanted: BTreeMap<(usize, IpAddr), IpAddr> = BTreeMap::new();
        for pair in self.pairs_of_ports() {
            for turn in 0..PROBES {
                let (from, to) = self.addresses(pair, turn);
                let (from, hop) = setup::next_hop(self.plan, pair.0, from, to);
                wanted.entry((pair.0, hop)).or_insert(from);
            }
        }
        let give_up = self.clock.now() + NEIGHBOUR_WAIT;
        let mut ask_at = Time::ZERO;
        let open = loop {
            let open: Vec<_> =
                wanted.iter().filter(|((p, hop), _)| self.ports[*p].mac_of(*hop).is_none()).collect();
            let now = self.clock.now();
            if open.is_empty() || now > give_up || self.stop.is_raised() {
                break open.into_iter().map(|(k, _)| *k).collect::<Vec<_>>();
            }
            if now >= ask_at {
                open.iter().for_each(|((p, hop), from)| self.ports[*p].ask(**from, *hop));
                ask_at = now + if open.len() > 1_000 { Span::from_ms(2) } else { ASK_AGAIN };
            }
            self.turn();
            std::thread::yield_now();
        };
        if open.is_empty() {
            let text = "all answer for their addresses".to_owned();
            self.say("neighbour", format!("{} next hops", wanted.len()), Outcome::Pass, text, None);
        }
        let silent: BTreeSet<usize> = open.iter().map(|(p, _)| *p).collect();
        for port in silent {
            let mut hops = open.iter().filter(|(p, _)| *p == port);
            let Some((_, first)) = hops.next() else { continue };
            let more = match hops.count() {
                0 => String::new(),
                n => format!(", and {n} more"),
            };
            let name = &self.plan.hosts[port].name;
            let fix = match self.plan.lab.ports[port].gateway {
                Some(_) => format!(
                    "is {first} the switch's address on this link, and address = ... of [[port]] {name} in the same network \
                     (check --print-dut sonic)?"
                ),
                None => format!(
                    "is the port on the right network, and is a gateway needed (gateway = ... in [[port]] {name})?"
                ),
            };
            let text = format!("nobody answers for {first}{more}");
            self.say("neighbour", self.port_name(port), Outcome::Fail, text, Some(fix));
        }
    }

    // --- Probes ---

    fn template(
        &self,
        (from, to): (usize, usize),
        (src, dst): (IpAddr, IpAddr),
        m: Marks,
    ) -> Option<Template> {
        let (_, hop) = setup::next_hop(self.plan, from, src, dst);
        let who = &self.ports[from].who;
        let spec = FrameSpec {
            src_mac: who.mac,
            dst_mac: self.ports[from].mac_of(hop)?,
            vlan: who.vlan.map(|vid| (m.pcp, vid)),
            src_ip: src,
            dst_ip: dst,
            dscp: m.dscp,
            ecn_bits: m.ecn,
            sport: 0xc000 | (to as u16 & 0x3fff),
            ..FrameSpec::default()
        };
        Template::new(&spec).ok()
    }

    /// Sends one probe, on the queue of the rank it is from; its number and when it was handed over.
    fn send(&mut self, pair: (usize, usize), turn: u32, m: Marks, len: u16) -> Option<(u32, Time)> {
        let addresses = self.addresses(pair, turn);
        let template = self.template(pair, addresses, m)?;
        self.number = (self.number + 1) & 0xff_ffff;
        let queue = self.queue_of(pair.0, addresses.0);
        let port = &mut self.ports[pair.0];
        port.device.send_on(queue);
        let at = port.probe(&template, self.number, len);
        port.device.send_on(0);
        Some((self.number, at?))
    }

    /// The queue of the rank at `ip`.
    fn queue_of(&self, port: usize, ip: IpAddr) -> u16 {
        self.homes[port].of(low_word(ip)).unwrap_or(0)
    }

    /// Waits until probe `number` is in at port `to`.
    fn wait(&mut self, to: usize, number: u32, at_most: Span) -> Option<Probe> {
        let until = self.clock.now() + at_most;
        let mut idle = 0;
        loop {
            self.turn();
            if let Some(at) = self.ports[to].probes.iter().position(|p| p.number == number) {
                return Some(self.ports[to].probes.swap_remove(at));
            }
            if self.clock.now() > until || self.stop.is_raised() {
                return None;
            }
            idle += 1;
            if idle % 200 == 0 {
                // The kernel may have to carry it on this core.
                std::thread::yield_now();
            }
        }
    }

    fn marks(&self) -> Vec<Marks> {
        let mut all = BTreeSet::new();
        for c in self.plan.classes.iter() {
            let (ecn, [pcp, ack_pcp, cnp_pcp]) = (c.ecn.bits(), c.pcps());
            all.insert(Marks { dscp: c.dscp, ecn, pcp, priority: c.priority });
            all.insert(Marks { dscp: c.ack_dscp, ecn, pcp: ack_pcp, priority: c.ack_priority });
            all.insert(Marks { dscp: c.cnp_dscp, ecn, pcp: cnp_pcp, priority: c.cnp_priority });
        }
        all.into_iter().collect()
    }

    fn pairs(&mut self) {
        let (pairs, marks) = (self.pairs_of_ports(), self.marks());
        let first = marks.first().copied().unwrap_or(Marks { dscp: 0, ecn: 0, pcp: 0, priority: 0 });
        let mut rows = [Row::new("reach"), Row::new("icrc"), Row::new("frame-size"), Row::new("marks")];
        let mut reached = Vec::new();
        for pair in &pairs {
            if self.clock.now() > self.until || self.stop.is_raised() {
                rows.iter_mut().for_each(|r| r.skipped += 1);
                continue;
            }
            let [reach, icrc, _, marked] = &mut rows;
            let intact = self.reach(*pair, first, reach);
            if reach.last_failed {
                rows[1..].iter_mut().for_each(|r| r.skipped += 1);
                continue;
            }
            match intact {
                true => icrc.good += 1,
                false => icrc.bad(
                    self.pair_name(*pair),
                    "probes arrive with a wrong ICRC".into(),
                    "something on the way changes what it may not (NAT, a tunnel, a middlebox): take it out"
                        .into(),
                ),
            }
            self.unchanged(*pair, &marks, marked);
            reached.push(*pair);
        }
        // Last: a packet socket that sends too long a frame into a veth has its ring blocked by it.
        for pair in reached {
            match self.clock.now() > self.until || self.stop.is_raised() {
                true => rows[2].skipped += 1,
                false => self.full_size(pair, first, &mut rows[2]),
            }
        }
        for r in rows {
            r.close(self);
        }
        if pairs.is_empty() {
            let text = "no two ports of this run can reach each other".to_owned();
            self.say("reach", ports_text(self.ports.len()), Outcome::Skipped, text, None);
        }
    }

    fn pair_name(&self, (from, to): (usize, usize)) -> String {
        format!("port {} -> {}", self.plan.hosts[from].name, self.plan.hosts[to].name)
    }

    /// Small probes one after the other; true when all that arrived had a right ICRC.
    fn reach(&mut self, pair: (usize, usize), m: Marks, row: &mut Row) -> bool {
        let (mut sent, mut arrived, mut intact) = (0, 0, true);
        let mut took = Distribution::<u32>::new(1_000_000_000, 3);
        let mut lost = None;
        // Queues whose probes arrived, and those whose did not.
        let (mut alive, mut dead) = (BTreeSet::new(), BTreeSet::new());
        for turn in 0..PROBES {
            let Some((number, at)) = self.send(pair, turn, m, PROBE_LEN) else { continue };
            sent += 1;
            let addresses = self.addresses(pair, turn);
            let queue = self.queue_of(pair.0, addresses.0);
            match self.wait(pair.1, number, PROBE_WAIT) {
                Some(p) => {
                    arrived += 1;
                    intact &= p.intact;
                    took.record(p.at.since(at).0 / 1_000);
                    alive.insert(queue);
                }
                None => {
                    lost = Some(addresses);
                    dead.insert(queue);
                }
            }
            if sent - arrived >= LOST_MAX {
                break;
            }
        }
        // Elsewhere queues are ours alone.
        let device = self.plan.lab.ports[pair.0].device.as_ref();
        let shared = device.is_some_and(|d| d.steering() == Steering::QueueToQueue) && !alive.is_empty();
        dead.retain(|q| shared && !alive.contains(q) && !self.leads_there(pair, *q, m));
        let (from, to) = (self.plan.hosts[pair.0].name.clone(), self.plan.hosts[pair.1].name.clone());
        let latency_ns = took.percentiles();
        self.found.pairs.push(PairFigures { from, to, sent, arrived, latency_ns });
        match lost {
            None => row.pass(),
            Some(_) if !dead.is_empty() => {
                let numbers =
                    |all: &BTreeSet<u16>| all.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
                let (dead, alive) = (numbers(&dead), numbers(&alive));
                row.bad(
                    self.pair_name(pair),
                    format!("what is sent on queue {dead} does not arrive, on {alive} it does"),
                    "does the other end have as many queues, and serve them all (testpmd: queues= of the device, --rxq \
                     and --txq)? Else queues = 1"
                        .into(),
                )
            }
            // One may be lost while a switch learns where the address is.
            Some(_) if arrived > 0 && sent - arrived < LOST_MAX => row.pass(),
            Some((src, dst)) => row.bad(
                self.pair_name(pair),
                format!("{} of {sent} probes from {src} to {dst} (UDP 4791) do not arrive", sent - arrived),
                "is there a route and no filter for UDP 4791 on the way (check --print-dut sonic)?".into(),
            ),
        }
        intact
    }

    /// A queue whose probes were lost has two more.
    fn leads_there(&mut self, pair: (usize, usize), queue: u16, m: Marks) -> bool {
        let ranks = self.plan.hosts[pair.0].ranks.len() as u32;
        let of_queue = |turn: &u32| self.queue_of(pair.0, self.addresses(pair, *turn).0) == queue;
        let Some(turn) = (0..ranks).find(of_queue) else { return true };
        (0..2).any(|_| {
            self.send(pair, turn, m, PROBE_LEN)
                .is_some_and(|(number, _)| self.wait(pair.1, number, PROBE_WAIT).is_some())
        })
    }

    /// One frame as long as the longest of the run.
    fn full_size(&mut self, pair: (usize, usize), m: Marks, row: &mut Row) {
        let len = self.frame_len;
        for turn in 0..3 {
            let sent = self.send(pair, turn, m, len);
            if sent.is_some_and(|(number, _)| self.wait(pair.1, number, PROBE_WAIT).is_some()) {
                return row.pass();
            }
        }
        row.bad(
            self.pair_name(pair),
            format!("frames of {} B with FCS do not arrive, short ones do", len + 4),
            format!("raise the MTU on the way to {} at least, or lower mtu in [class]", len - 14),
        );
    }

    /// Every marking of the run arrives as it was sent.
    fn unchanged(&mut self, pair: (usize, usize), marks: &[Marks], row: &mut Row) {
        for m in marks {
            let mut seen = None;
            for turn in 0..3 {
                if let Some((number, _)) = self.send(pair, turn, *m, PROBE_LEN) {
                    seen = self.wait(pair.1, number, PROBE_WAIT);
                }
                if seen.is_some() {
                    break;
                }
            }
            let place = self.pair_name(pair);
            let Some(p) = seen else {
                let fix = "is there a filter, or a queue for it with no room?".to_owned();
                return row.bad(place, format!("frames with DSCP {} do not arrive", m.dscp), fix);
            };
            if p.dscp != m.dscp {
                let fix = "let the switch trust the DSCP, or stop it from writing it".to_owned();
                return row.bad(place, format!("DSCP {} arrives as {}", m.dscp, p.dscp), fix);
            }
            if p.ecn != m.ecn {
                let (text, fix) = match (m.ecn, p.ecn) {
                    (1 | 2, 3) => (
                        "frames arrive with CE though nothing else is sent".to_owned(),
                        "is there other traffic on the way, or a threshold of 0?",
                    ),
                    (a, b) => (
                        format!("ECN {a:02b} arrives as {b:02b}"),
                        "stop the switch from writing the ECN field",
                    ),
                };
                return row.bad(place, text, fix.into());
            }
            let tagged = self.ports[pair.0].who.vlan.is_some();
            if tagged && p.pcp.is_some_and(|pcp| pcp != m.pcp) {
                let text = format!("VLAN priority {} arrives as {}", m.pcp, p.pcp.unwrap_or_default());
                return row.bad(place, text, "let the switch keep the 802.1Q priority".into());
            }
        }
        row.pass();
    }

    // --- Pauses ---

    /// An XOFF from a port holds frames of its priority on their way to that port, and no others.
    fn pauses(&mut self) {
        let lossless: Vec<Marks> = self.plan.classes.iter().filter(|c| c.lossless).map(data_marks).collect();
        if lossless.is_empty() {
            return self.say(
                "pauses",
                ports_text(self.ports.len()),
                Outcome::Skipped,
                "no class is lossless".into(),
                None,
            );
        }
        if !self.plan.lab.allow_pfc {
            let text = "no consent to send pauses into this network".to_owned();
            let fix = Some("allow_pfc = true in [run], if it is yours".to_owned());
            return self.say("pauses", ports_text(self.ports.len()), Outcome::Skipped, text, fix);
        }
        let mut rows = [Row::new("pauses"), Row::new("pauses")];
        rows[1].what =
            Some("an XOFF passes to the sender and stops its priority and no other; so does the XON");
        let pairs = self.pairs_of_ports();
        let receivers: BTreeSet<usize> = pairs.iter().map(|p| p.1).collect();
        for to in receivers {
            let lab = self.plan.lab.ports[to].device.as_ref();
            let Some(pair) = pairs.iter().find(|p| p.1 == to) else { continue };
            if lab.is_some_and(|d| d.kind == DeviceKind::Loop) {
                rows[0].skipped += 1;
                rows[0].why = "there is no switch between the ports";
                continue;
            }
            lossless.iter().for_each(|m| self.pause(*pair, *m, &mut rows));
        }
        rows.into_iter().for_each(|row| row.close(self));
    }

    /// Turns the ports for `span`, or until `over`; the far end of port `to` is asked to wait all the while.
    fn hold(&mut self, to: usize, priority: u8, span: Span, mut over: impl FnMut(&mut Self) -> bool) {
        let until = self.clock.now() + span;
        let every = HOLD_AGAIN.max(Span(self.plan.hosts[to].rate.quanta(QUANTA_MAX).0 / 4));
        let mut again = Time::ZERO;
        while self.clock.now() < until && !over(self) {
            if self.clock.now() >= again {
                self.ports[to].pause(priority, QUANTA_MAX);
                again = self.clock.now() + every;
            }
            self.turn();
        }
    }

    /// An XOFF of the priority of `m`: `rows` are that of switches which obey, and that of ways which let it through.
    fn pause(&mut self, pair: (usize, usize), m: Marks, rows: &mut [Row; 2]) {
        let place = format!("{}, priority {}", self.port_name(pair.1), m.priority);
        let spared = (self.plan.classes.iter().map(data_marks))
            .chain([
                Marks { dscp: 0, ecn: 0, pcp: 0, priority: 0 },
                Marks { dscp: 8, ecn: 0, pcp: 1, priority: 1 },
            ])
            .find(|o| o.priority != m.priority);
        let Some(spared) = spared else { return };
        // A device in software may be away from its core for a while: it fails when it fails every time. A leak is a leak,
        // unless the XOFF turns out to have come through too late.
        for attempt in 1..=PAUSE_TRIES {
            let seen = self.ports[pair.0].stats.pfc_seen;
            let (through, found) = self.try_pause(pair, m, spared);
            let late = self.ports[pair.0].stats.pfc_seen > seen && !through;
            match found {
                Ok(()) => return rows[usize::from(through)].pass(),
                Err((leaked, text, fix)) => {
                    if attempt == PAUSE_TRIES || (leaked && !late) || self.stop.is_raised() {
                        return rows[usize::from(through)].bad(place, text, fix);
                    }
                }
            }
        }
    }

    /// Port `to` sends an XOFF, probes of its priority and of another come, and it sends an XON. Whether the XOFF came through
    /// to port `from`, and what was wrong, frames that it did not stop above all.
    fn try_pause(
        &mut self,
        pair: (usize, usize),
        m: Marks,
        spared: Marks,
    ) -> (bool, Result<(), (bool, String, String)>) {
        let (from, to) = pair;
        let began = self.clock.now();
        // The frame is in the switch before the probes are: they cross another link first.
        self.hold(to, m.priority, THROUGH_WAIT, |e| {
            e.clock.now() > began + SETTLE && e.ports[from].held(m.priority)
        });
        let through = self.ports[from].held(m.priority);
        let obeys = self.ports[from].obeys();
        // What has come through is for us to obey.
        let may_send = |e: &Self, m: Marks| !obeys || !e.ports[from].held(m.priority);
        let (mut held, mut free) = (None, None);
        let (mut leaked, mut passed) = (false, false);
        self.hold(to, m.priority, HOLD, |e| {
            for (number, m) in [(&mut held, m), (&mut free, spared)] {
                if number.is_none() && may_send(e, m) {
                    *number = e.send(pair, 0, m, PROBE_LEN);
                }
            }
            let came = |n: Option<(u32, Time)>| {
                n.is_some_and(|(n, _)| e.ports[to].probes.iter().any(|p| p.number == n))
            };
            (leaked, passed) = (came(held), came(free));
            leaked && passed
        });
        self.ports[to].pause(m.priority, 0);
        let until = self.clock.now() + PROBE_WAIT;
        while held.is_none() && self.clock.now() < until {
            self.turn();
            if may_send(self, m) {
                held = self.send(pair, 0, m, PROBE_LEN);
            }
        }
        let released = held.is_some_and(|(n, _)| self.wait(to, n, PROBE_WAIT).is_some());
        self.ports[to].probes.clear();
        let (p, dscp) = (m.priority, m.dscp);
        let found = if leaked && through {
            let sender = &self.plan.hosts[from].name;
            Err((
                true,
                format!("an XOFF passes to port {sender}, which does not stop frames with DSCP {dscp}"),
                format!("pfc = \"software\" in [[port]] {sender}; nothing between the ports obeys pauses"),
            ))
        } else if leaked {
            Err((
                true,
                format!("an XOFF does not stop frames with DSCP {dscp}"),
                format!(
                    "make priority {p} lossless on the switch port (SONiC: pfc_enable), and map DSCP {dscp} to it"
                ),
            ))
        } else if !passed {
            Err((
                false,
                format!("an XOFF of priority {p} stops frames with DSCP {} too", spared.dscp),
                "turn 802.3x flow control off, and map the two DSCPs to two priorities".into(),
            ))
        } else if !released {
            let fix = "is a PFC watchdog dropping them?".into();
            Err((false, "frames held by an XOFF do not come when it is lifted".into(), fix))
        } else {
            Ok(())
        };
        (through, found)
    }
}

fn data_marks(c: &crate::transport::config::ClassConfig) -> Marks {
    Marks { dscp: c.dscp, ecn: c.ecn.bits(), pcp: c.pcps()[0], priority: c.priority }
}

fn ports_text(n: usize) -> String {
    if n == 1 { "1 port".into() } else { format!("{n} ports") }
}

/// One check over many places.
struct Row {
    name: &'static str,
    good: usize,
    failed: Vec<(String, String, String)>,
    skipped: usize,
    why: &'static str,
    last_failed: bool,
    /// What it means that all is well, where that is not the usual.
    what: Option<&'static str>,
}

impl Row {
    fn new(name: &'static str) -> Row {
        let why = "the time for probes was over, or the pair does not reach each other";
        Row { name, good: 0, failed: Vec::new(), skipped: 0, why, last_failed: false, what: None }
    }

    fn pass(&mut self) {
        self.good += 1;
        self.last_failed = false;
    }

    fn bad(&mut self, place: String, text: String, fix: String) {
        self.failed.push((place, text, fix));
        self.last_failed = true;
    }

    fn close(self, e: &mut Examiner<'_>) {
        let what = match self.name {
            _ if self.what.is_some() => self.what.unwrap_or_default().to_owned(),
            "reach" => "probes to UDP 4791 arrive".to_owned(),
            "icrc" => "ICRCs are right on arrival".to_owned(),
            "frame-size" => format!("frames of {} B with FCS arrive", e.frame_len + 4),
            "marks" => "DSCP and ECN arrive unchanged".to_owned(),
            _ => "an XOFF stops its priority and no other, and an XON releases it".to_owned(),
        };
        let (one, many) = match self.name {
            "pauses" => ("port and priority", "ports and priorities"),
            _ => ("pair", "pairs"),
        };
        let places = |n: usize| format!("{n} {}", if n == 1 { one } else { many });
        if self.good > 0 {
            e.say(self.name, places(self.good), Outcome::Pass, what, None);
        }
        let more = self.failed.len().saturating_sub(LISTED_MAX);
        for (i, (place, mut text, fix)) in self.failed.into_iter().take(LISTED_MAX).enumerate() {
            if more > 0 && i + 1 == LISTED_MAX {
                text.push_str(&format!("; {more} more like this"));
            }
            e.say(self.name, place, Outcome::Fail, text, Some(fix));
        }
        if self.skipped > 0 {
            e.say(self.name, places(self.skipped), Outcome::Skipped, self.why.into(), None);
        }
    }
}
