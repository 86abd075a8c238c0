//! The event engine: hosts, switches and the links between them, advanced in (time, kind, number) order.
//!
//! One engine over everything is virtual time. Several engines, each over a part, joined by rings, are a rings run:
//! an engine may handle every event before the bound its neighbours allow ([`Engine::advance`]). Components meet only
//! through links that take time, so the order of events inside each component, and with it the outcome, is the same
//! however the parts are cut.

use std::collections::VecDeque;
use std::mem;

use super::calendar::{Calendar, Key};
use super::deadlock::Watch;
use super::faults::FaultLinks;
use super::links::HurtLinks;
use super::phases::{Milestone, Phases};
use super::result::{Conservation, Snapshot};
use super::samples::{Part, Samples};
use crate::frame::{Frame, FramePool, TxBatch, flags};
use crate::hint::prefetch;
use crate::host::{Host, HostEvent};
use crate::measure::recorder::Recorder;
use crate::measure::stats::{HostStats, SwitchStats};
pub(super) use crate::plan::memory::frames_on_link;
use crate::switch::{Admit, Switch, settle_ttl};
use crate::sys::tsc::ticks;
use crate::topology::{End, Fabric};
use crate::units::{FrameLen, LinkTiming, Span, Time};

/// Kinds of event; those of one instant run in this order.
pub(super) mod kind {
    /// Counters start to count (end of the warm-up).
    pub const MARK: u32 = 0;
    /// An iteration starts.
    pub const RELEASE: u32 = 1;
    /// A frame's last bit reaches the far end of a link.
    pub const ARRIVE: u32 = 2;
    /// Pauses end or want a refresh in a switch.
    pub const SWITCH: u32 = 3;
    /// A switch port can send again.
    pub const FREE: u32 = 4;
    /// A host may have something to send.
    pub const HOST: u32 = 5;
    /// The timeline asks for a snapshot.
    pub const SNAPSHOT: u32 = 6;
    /// See whether streams and timed actions are over.
    pub const OPEN_LOOP: u32 = 7;
    /// A frame that a fault held back goes on.
    pub const FAULT: u32 = 8;
    /// Something happens to a cable.
    pub const LINK: u32 = 9;
    /// Switches take other routes.
    pub const ROUTES: u32 = 10;
    /// See whether queues wait for each other.
    pub const WATCH: u32 = 11;
}

/// FCS bytes, which counters include and captures do not.
const FCS: u64 = 4;
/// Frames on a link for which there is room from the start: data frames of 1 KB on 1 us of cable at 100G, and their ACKs.
const ON_LINK_USUAL: usize = 32;
/// The rows of so many queue pairs, all hosts together, stay in the second-level cache anyway.
const QPS_WARM: usize = 1_024;
/// So do the rows of so many hosts, their links and their switches.
const HOSTS_WARM: usize = 128;

pub(super) struct HostSlot {
    pub(super) host: Host,
    base: Option<HostStats>,
}

/// When a host wants to be asked, and its link. Beside the hosts, since a host is large and this is looked at with every
/// event of it.
pub(super) struct Alarm {
    armed: Time,
    /// Time of a later entry of the calendar that an earlier one has superseded: it is used again, so that an alarm far
    /// ahead (an ACK timeout) which is put off with every frame has one entry and not one per frame.
    standby: Time,
    link: u32,
}

pub(super) struct SwitchSlot<F: Frame> {
    pub(super) switch: Switch<F>,
    index: u16,
    links: Box<[u32]>,
    armed: Time,
    base: Option<SwitchStats>,
}

#[derive(Clone, Copy)]
pub(super) enum Place {
    Host(u32),
    Switch(u32, u16),
    /// Somewhere, but something may happen to the link: see [`super::links`].
    Hurt,
    Elsewhere,
}

/// A link: its sending end, what is on it, and where that arrives. A cache line.
#[repr(align(64))]
pub(super) struct Link {
    pub(super) timing: LinkTiming,
    busy_until: Time,
    from: Place,
    pub(super) to: Place,
    /// The sending port has an entry in the calendar for when it is free.
    free_armed: bool,
    /// The far end is here and nothing ever happens to the link.
    local: bool,
    /// Something may happen to the link.
    hurt: bool,
}
const _: () = assert!(size_of::<Link>() == 64);

/// Sees every frame that a tester port receives; used for captures.
pub trait Tee<F>: Send {
    /// `now` is the arrival of the last bit.
    fn frame(&mut self, now: Time, frame: &F);
}

/// What an engine is made of.
pub struct Parts<F: Frame> {
    /// Hosts, in port order.
    pub hosts: Vec<Host>,
    /// Switches with their index in the fabric.
    pub switches: Vec<(u16, Switch<F>)>,
}

/// Counters of an engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineStats {
    /// Events handled.
    pub events: u64,
    /// Frames serialised onto a link.
    pub link_transmissions: u64,
    /// Frames handled later than their time (free clock only).
    pub late_frames: u64,
    /// Worst lateness, picoseconds.
    pub late_ps_max: u64,
    /// Where the time goes.
    pub samples: Samples,
}

/// Hosts, switches and links of one worker.
pub struct Engine<F: Frame, P: FramePool<Frame = F>> {
    pub(super) hosts: Vec<HostSlot>,
    pub(super) alarms: Vec<Alarm>,
    pub(super) switches: Vec<SwitchSlot<F>>,
    pub(super) links: Vec<Link>,
    /// Events to come; those of kind ARRIVE carry their frame: what is on the links is here.
    pub(super) calendar: Calendar<F>,
    pub(super) now: Time,
    batch: TxBatch<F>,
    phases: Phases,
    snapshots: Vec<Snapshot>,
    snapshot_names: Vec<(Time, String)>,
    /// There are more queue pairs than the caches hold.
    pub(super) qps_cold: bool,
    /// So are hosts and links.
    pub(super) rows_cold: bool,
    /// Frames for links whose far end is in another engine; the driver empties it after every [`Engine::advance`].
    pub outbox: VecDeque<F>,
    /// When the last frame from another engine arrives, by link.
    injected: Vec<Time>,
    /// Frames and bytes since the start.
    pub conservation: Conservation,
    /// Speed and lateness.
    pub stats: EngineStats,
    /// Where frames come from.
    pub pool: P,
    /// Where events go.
    pub recorder: Recorder,
    tee: Option<Box<dyn Tee<F>>>,
    /// `None` unless the plan injects faults here.
    pub(super) faults: Option<Box<FaultLinks<F>>>,
    /// `None` unless something happens to cables.
    pub(super) hurt_links: Option<Box<HurtLinks>>,
    /// `None` unless a deadlock is possible.
    pub(super) watch: Option<Box<Watch>>,
}

impl<F: Frame, P: FramePool<Frame = F>> Engine<F, P> {
    /// Wires `parts` together. Links whose ends are both elsewhere cost a few bytes each. Everything the packet path
    /// needs is allocated here.
    pub fn new(
        fabric: &Fabric,
        parts: Parts<F>,
        pool: P,
        recorder: Recorder,
        phases: Phases,
        snapshot_names: Vec<(Time, String)>,
        tee: Option<Box<dyn Tee<F>>>,
    ) -> Engine<F, P> {
        let mut host_at = vec![None; fabric.endpoints as usize];
        for (i, h) in parts.hosts.iter().enumerate() {
            host_at[h.port().0 as usize] = Some(i as u32);
        }
        let mut switch_at = vec![None; fabric.switches.len()];
        for (i, (index, _)) in parts.switches.iter().enumerate() {
            switch_at[*index as usize] = Some(i as u32);
        }
        let place = |end: End| match end {
            End::Host(p) => host_at[p.0 as usize].map_or(Place::Elsewhere, Place::Host),
            End::Switch(s, port) => {
                switch_at[s as usize].map_or(Place::Elsewhere, |i| Place::Switch(i, port))
            }
        };
        let mut host_links = vec![0u32; parts.hosts.len()];
        let mut switch_links: Vec<Box<[u32]>> = parts
            .switches
            .iter()
            .map(|(s, _)| vec![0u32; fabric.switches[*s as usize].ports.len()].into_boxed_slice())
            .collect();
        let (mut links, mut on_links) = (Vec::with_capacity(fabric.links.len()), 0);
        for (l, link) in fabric.links.iter().enumerate() {
            let (from, to) = (place(link.from), place(link.to));
            match from {
                Place::Host(h) => host_links[h as usize] = l as u32,
                Place::Switch(s, p) => switch_links[s as usize][p as usize] = l as u32,
                Place::Elsewhere | Place::Hurt => {}
            }
            let local = !matches!(to, Place::Elsewhere);
            if local {
                on_links += frames_on_link(&link.timing).min(ON_LINK_USUAL);
            }
            links.push(Link {
                timing: link.timing,
                busy_until: Time::ZERO,
                from,
                to,
                free_armed: false,
                local,
                hurt: false,
            });
        }
        let (qps, hosts) = (parts.hosts.iter().map(Host::queue_pairs).sum::<usize>(), parts.hosts.len());
        let pending = on_links + fabric.links.len() + 4 * (parts.hosts.len() + parts.switches.len()) + 64;
        let mut engine = Engine {
            hosts: parts.hosts.into_iter().map(|host| HostSlot { host, base: None }).collect(),
            alarms: host_links
                .into_iter()
                .map(|link| Alarm { armed: Time::NEVER, standby: Time::NEVER, link })
                .collect(),
            switches: parts
                .switches
                .into_iter()
                .zip(switch_links)
                .map(|((index, switch), links)| SwitchSlot {
                    switch,
                    index,
                    links,
                    armed: Time::NEVER,
                    base: None,
                })
                .collect(),
            injected: vec![Time::ZERO; links.len()],
            links,
            calendar: calendar(fabric, pending),
            now: Time::ZERO,
            batch: TxBatch::new(),
            phases,
            snapshots: Vec::with_capacity(snapshot_names.len()),
            snapshot_names,
            qps_cold: qps > QPS_WARM,
            rows_cold: hosts > HOSTS_WARM,
            outbox: VecDeque::with_capacity(1024),
            conservation: Conservation::default(),
            stats: EngineStats::default(),
            pool,
            recorder,
            tee,
            faults: None,
            hurt_links: None,
            watch: None,
        };
        for (i, (at, _)) in engine.snapshot_names.iter().enumerate() {
            engine.calendar.push(*at, Key::new(kind::SNAPSHOT, i as u32));
        }
        for h in 0..engine.hosts.len() {
            engine.arm_host(h, engine.hosts[h].host.next_deadline());
        }
        if !engine.hosts.is_empty() {
            engine.calendar.push(Time::ZERO, Key::new(kind::OPEN_LOOP, 0));
        }
        engine
    }

    /// The time of the last event handled.
    pub fn now(&self) -> Time {
        self.now
    }
    /// Time of the next event; `NEVER` when nothing can happen without a frame from elsewhere.
    pub fn next_time(&self) -> Time {
        self.calendar.next_time()
    }
    /// Phases of the run as this engine sees them.
    pub fn phases(&mut self) -> &mut Phases {
        &mut self.phases
    }

    /// Takes what the other engines have agreed on (next iteration, end of the run) into the calendar.
    pub fn take_milestones(&mut self) {
        while let Some(m) = self.phases.poll_milestone() {
            match m {
                Milestone::Measure(at) => {
                    self.recorder.set_measure_from(at);
                    self.calendar.push(at.max(self.now), Key::new(kind::MARK, 0));
                }
                Milestone::Release(iteration, at) => {
                    if !self.hosts.is_empty() {
                        self.calendar.push(at.max(self.now), Key::new(kind::RELEASE, iteration));
                    }
                }
            }
        }
    }

    /// Handles events before `bound`, at most `budget` of them. Returns how many were handled.
    pub fn advance(&mut self, bound: Time, budget: u64) -> u64 {
        let mut handled = 0;
        while handled < budget {
            let untimed = self.stats.samples.untimed().min(budget - handled);
            let done = self.advance_untimed(bound, untimed);
            self.stats.samples.passed(done);
            handled += done;
            if done < untimed {
                break;
            }
            if handled < budget {
                if !self.handle_timed(bound) {
                    break;
                }
                handled += 1;
            }
        }
        self.stats.events += handled;
        handled
    }

    #[inline]
    fn advance_untimed(&mut self, bound: Time, budget: u64) -> u64 {
        for handled in 0..budget {
            let next = self.calendar.pop_before(bound.min(self.phases.end()));
            let Some((at, key, frame)) = next else { return handled };
            if self.rows_cold {
                self.look_ahead();
            }
            self.handle(at, key, frame);
        }
        budget
    }

    /// Handles one event and times it; false when there is none.
    #[inline(never)]
    fn handle_timed(&mut self, bound: Time) -> bool {
        let begun = ticks();
        let next = self.calendar.pop_before(bound.min(self.phases.end()));
        let Some((at, key, frame)) = next else { return false };
        let (taken, part) = (ticks(), self.part(key));
        self.handle_apart(at, key, frame);
        self.stats.samples.end(begun, taken, part);
        true
    }

    #[inline(never)]
    fn handle_apart(&mut self, at: Time, key: Key, frame: Option<F>) {
        self.handle(at, key, frame);
    }

    #[inline(always)]
    fn handle(&mut self, at: Time, key: Key, frame: Option<F>) {
        self.now = at;
        if let Some(frame) = frame {
            let link = key.index() as usize;
            return self.land(self.links[link].to, link, frame);
        }
        match key.kind() {
            kind::HOST => {
                let h = key.index() as usize;
                let alarm = &mut self.alarms[h];
                if alarm.armed == at {
                    alarm.armed = Time::NEVER;
                    self.kick_host(h);
                } else if alarm.standby == at {
                    alarm.standby = Time::NEVER;
                    self.arm_host(h, self.hosts[h].host.next_deadline());
                }
            }
            kind::FREE => {
                let link = &mut self.links[key.index() as usize];
                link.free_armed = false;
                if let Place::Switch(s, port) = link.from {
                    self.depart(s as usize, port);
                    self.wake_switch(s as usize);
                }
            }
            kind::SWITCH => {
                let s = key.index() as usize;
                if self.switches[s].armed == at {
                    self.switches[s].armed = Time::NEVER;
                    self.switches[s].switch.on_deadline(at, &mut self.recorder);
                    self.wake_switch(s);
                }
            }
            kind::RELEASE => self.release(key.index()),
            kind::MARK => self.mark(),
            kind::OPEN_LOOP => self.watch_open_loop(),
            kind::FAULT => self.fault_due(key.index()),
            kind::LINK => self.link_event(key.index()),
            kind::ROUTES => self.reroute(key.index()),
            kind::WATCH => self.look_for_deadlock(),
            _ => self.snapshot(key.index() as usize),
        }
    }

    /// To whom an event's time is put down.
    #[cold]
    fn part(&self, key: Key) -> Part {
        match (key.kind(), self.links.get(key.index() as usize).map(|l| l.to)) {
            (kind::ARRIVE, Some(Place::Switch(..))) => Part::SwitchArrival,
            (kind::ARRIVE, Some(Place::Host(_))) => Part::HostArrival,
            (kind::FREE | kind::SWITCH, _) => Part::SwitchPort,
            (kind::HOST, _) => Part::HostSend,
            _ => Part::Other,
        }
    }

    /// A frame from another engine, `meta.driver` naming its link. Late ones (free clock) are handled now and counted; a
    /// link keeps the order of its frames.
    pub fn inject(&mut self, mut frame: F) {
        let link = frame.meta().driver as usize;
        let arrive = frame.meta().arrive;
        if arrive < self.now {
            self.stats.late_frames += 1;
            self.stats.late_ps_max = self.stats.late_ps_max.max(self.now.since(arrive).0);
        }
        let last = &mut self.injected[link];
        let at = arrive.max(self.now).max(*last + Span(1));
        *last = at;
        frame.meta_mut().arrive = at;
        self.deliver(link, at, frame);
    }

    /// A frame is on its link and arrives at `at`.
    #[inline]
    pub(super) fn deliver(&mut self, link: usize, at: Time, frame: F) {
        self.calendar.push_item(at, Key::new(kind::ARRIVE, link as u32), Some(frame));
    }

    /// A frame has reached the node at the end of a link.
    #[inline(always)]
    pub(super) fn land(&mut self, to: Place, link: usize, frame: F) {
        let now = self.now;
        match to {
            Place::Host(h) => {
                if self.faults.is_some() {
                    return self.arrive_faulty(link, h as usize, frame);
                }
                self.hand_over(h as usize, frame);
                self.kick_host(h as usize);
            }
            Place::Switch(s, port) => {
                let bytes = bytes_of(frame.len());
                let (slot, links) = (&mut self.switches[s as usize], &self.links);
                let (switch, own) = (&mut slot.switch, &slot.links);
                let idle = |egress: u16| {
                    let link = own[usize::from(egress)] as usize;
                    (links[link].busy_until <= now).then_some(link)
                };
                let c = &mut self.conservation;
                match switch.forward(now, port, frame, &mut self.recorder, idle) {
                    Ok((link, frame)) => self.transmit(link, frame, false),
                    Err(Admit::Queued) => {}
                    Err(Admit::Consumed(f)) => {
                        c.received_frames += 1;
                        c.received_bytes += bytes;
                        self.pool.give(f);
                    }
                    Err(Admit::Dropped(_, f)) => {
                        c.dropped_frames += 1;
                        c.dropped_bytes += bytes;
                        self.pool.give(f);
                    }
                }
                self.wake_switch(s as usize);
            }
            Place::Hurt => self.arrive_hurt(link, frame),
            Place::Elsewhere => self.pool.give(frame),
        }
    }

    /// Gives a frame to a host.
    #[inline(always)]
    pub(super) fn hand_over(&mut self, h: usize, mut frame: F) {
        if let Some(tee) = &mut self.tee {
            settle_ttl(&mut frame);
            tee.frame(self.now, &frame);
        }
        self.hosts[h].host.on_frame(self.now, &frame, &mut self.recorder);
        self.conservation.received_frames += 1;
        self.conservation.received_bytes += bytes_of(frame.len());
        self.pool.give(frame);
    }

    /// Puts a frame on its link now; the link is idle.
    #[inline(always)]
    pub(super) fn transmit(&mut self, link: usize, mut frame: F, first_hop: bool) {
        let now = self.now;
        let frame_len = frame.len();
        let l = &mut self.links[link];
        let (wire, delay) = l.timing.times(frame_len);
        l.busy_until = now + wire;
        let at = now + delay;
        let meta = frame.meta_mut();
        meta.arrive = at;
        if first_hop {
            meta.start = now;
        }
        if first_hop || meta.flags & flags::PFC != 0 {
            self.conservation.sent_frames += 1;
            self.conservation.sent_bytes += bytes_of(frame_len);
        }
        self.stats.link_transmissions += 1;
        if l.local {
            self.deliver(link, at, frame);
        } else if l.hurt {
            self.transmit_hurt(link, frame);
        } else {
            meta.driver = link as u32;
            self.outbox.push_back(frame);
        }
    }

    /// Puts a frame on its link behind what is on it already.
    pub(super) fn transmit_queued(&mut self, link: usize, frame: F) {
        let (now, free) = (self.now, self.links[link].busy_until);
        self.now = now.max(free);
        self.transmit(link, frame, true);
        self.now = now;
    }

    /// Takes a frame's time on its link without sending it.
    pub(super) fn occupy(&mut self, link: usize, frame: &F) {
        let l = &mut self.links[link];
        l.busy_until = self.now.max(l.busy_until) + l.timing.wire_time(frame.len());
    }

    /// Puts a link under the watch of [`super::links`]; returns where it leads and whether that is here.
    pub(super) fn hurt(&mut self, link: usize) -> (Place, bool) {
        let link = &mut self.links[link];
        let was = (link.to, link.local);
        (link.local, link.hurt, link.to) = (false, true, Place::Hurt);
        was
    }

    /// There are switches here.
    pub(super) fn has_switches(&self) -> bool {
        !self.switches.is_empty()
    }

    /// Number here of a switch of the fabric.
    pub(super) fn switch_index(&self, switch: u16) -> Option<usize> {
        self.switches.iter().position(|s| s.index == switch)
    }

    /// A switch by its number here.
    pub(super) fn switch_mut(&mut self, s: usize) -> &mut Switch<F> {
        &mut self.switches[s].switch
    }

    /// Visits every switch with its number in the fabric.
    pub(super) fn each_switch(&mut self, mut visit: impl FnMut(u16, &mut Switch<F>)) {
        self.switches.iter_mut().for_each(|s| visit(s.index, &mut s.switch));
    }

    /// Number here of the host of a port.
    pub(super) fn host_index(&self, port: crate::units::PortId) -> Option<usize> {
        self.hosts.iter().position(|s| s.host.port() == port)
    }

    /// Lets a host send if its link is idle, hears what it has to say, and sets its alarm.
    pub(super) fn kick_host(&mut self, h: usize) {
        let now = self.now;
        let slot = &mut self.hosts[h];
        let link = self.alarms[h].link as usize;
        let mut due = slot.host.next_deadline();
        if due <= now && self.links[link].busy_until <= now {
            slot.host.poll_tx(now, 1, &mut self.pool, &mut self.batch, &mut self.recorder);
            due = slot.host.next_deadline();
            if let Some(frame) = self.batch.control.pop().or_else(|| self.batch.data.pop()) {
                if let Some(next) = self.pool.upcoming() {
                    next.cache_lines().into_iter().for_each(prefetch);
                }
                if self.faults.is_some() {
                    self.transmit_faulty(link, frame);
                } else {
                    self.transmit(link, frame, true);
                }
            }
        }
        if self.hosts[h].host.has_events() {
            self.hear(h);
        }
        self.arm_host(h, due);
    }

    /// Takes what a host has to say.
    #[cold]
    fn hear(&mut self, h: usize) {
        while let Some(event) = self.hosts[h].host.poll_event() {
            match event {
                HostEvent::IterationDone { iteration, at } => self.phases.host_done(iteration, at),
                HostEvent::Failed { workload, iteration, from, to, at, cause } => {
                    let why = format!("rank {} -> rank {} (workload {workload}): {cause}", from.0, to.0);
                    self.phases.host_failed(at, iteration, why);
                }
            }
        }
        self.take_milestones();
    }

    #[inline(always)]
    fn arm_host(&mut self, h: usize, due: Time) {
        if due == Time::NEVER {
            return;
        }
        let alarm = &mut self.alarms[h];
        let at = due.max(self.links[alarm.link as usize].busy_until).max(self.now);
        if at < alarm.armed {
            if alarm.armed != Time::NEVER {
                alarm.standby = alarm.standby.min(alarm.armed);
                alarm.armed = Time::NEVER;
            }
            if at < alarm.standby {
                alarm.armed = at;
                self.calendar.push(at, Key::new(kind::HOST, h as u32));
            }
        }
    }

    /// Tries every port the switch names, and sets the switch's alarm.
    #[inline(always)]
    pub(super) fn wake_switch(&mut self, s: usize) {
        let slot = &self.switches[s];
        if slot.switch.has_wakes() || slot.switch.next_deadline() < slot.armed {
            self.wake_ports(s);
        }
    }

    #[inline(never)]
    fn wake_ports(&mut self, s: usize) {
        while let Some(port) = self.switches[s].switch.poll_wake() {
            let link = self.switches[s].links[usize::from(port)];
            if self.links[link as usize].busy_until > self.now {
                self.arm_free(link);
            } else {
                self.depart(s, port);
            }
        }
        let slot = &mut self.switches[s];
        let due = slot.switch.next_deadline();
        if due < slot.armed {
            slot.armed = due;
            self.calendar.push(due.max(self.now), Key::new(kind::SWITCH, s as u32));
        }
    }

    /// Asks the port at the sending end of a link again when its frame has left.
    #[inline]
    fn arm_free(&mut self, link: u32) {
        let l = &mut self.links[link as usize];
        if !l.free_armed {
            l.free_armed = true;
            self.calendar.push(l.busy_until, Key::new(kind::FREE, link));
        }
    }

    #[inline]
    fn depart(&mut self, s: usize, port: u16) {
        let now = self.now;
        let slot = &mut self.switches[s];
        let link = slot.links[usize::from(port)];
        if self.links[link as usize].busy_until > now {
            return;
        }
        let Some(frame) = slot.switch.depart(now, port, &mut self.pool, &mut self.recorder) else { return };
        // What waited in a buffer has left the caches: ask for it a frame time before it is needed.
        prefetch(frame.cache_lines()[0]);
        if let Some((next, behind)) = slot.switch.upcoming() {
            next.cache_lines().into_iter().for_each(prefetch);
            prefetch(behind);
        }
        let more = slot.switch.left_more();
        self.transmit(link as usize, frame, false);
        if more {
            self.arm_free(link);
        }
    }

    #[cold]
    fn release(&mut self, iteration: u32) {
        for h in 0..self.hosts.len() {
            self.hosts[h].host.start_iteration(iteration, self.now);
        }
        for h in 0..self.hosts.len() {
            self.kick_host(h);
        }
    }

    /// Looks once a gap whether the streams and actions of the hosts here are over.
    #[cold]
    fn watch_open_loop(&mut self) {
        if self.hosts.iter().all(|s| s.host.open_loop_done()) {
            self.phases.open_loop_done(self.now);
        } else {
            let again = self.now + self.phases.gap().max(Span::from_us(1));
            self.calendar.push(again, Key::new(kind::OPEN_LOOP, 0));
        }
    }

    #[cold]
    fn mark(&mut self) {
        for slot in &mut self.hosts {
            slot.host.mark();
            slot.base = Some(slot.host.stats().clone());
        }
        for slot in &mut self.switches {
            slot.switch.mark(self.now);
            slot.base = Some(slot.switch.stats());
        }
    }

    #[cold]
    fn snapshot(&mut self, index: usize) {
        let switches = self.switches.iter().map(|s| s.switch.snapshot().into()).collect();
        if let Some((at, name)) = self.snapshot_names.get(index) {
            self.snapshots.push(Snapshot { name: name.clone(), at: *at, switches });
        }
    }

    /// Ends the run at `at`: closes measurements, gives every frame back, and returns the counters of the measured
    /// part: (hosts in port order, switches with their fabric index).
    pub fn finish(&mut self, at: Time) -> (Vec<HostStats>, Vec<(u16, SwitchStats)>, Vec<Snapshot>) {
        for slot in &mut self.hosts {
            slot.host.finish(at, &mut self.recorder);
        }
        self.recorder.finish(at);
        for f in self.calendar.drain_items() {
            self.conservation.inside_frames += 1;
            self.pool.give(f);
        }
        self.drain_faults();
        while let Some(f) = self.outbox.pop_front() {
            self.conservation.inside_frames += 1;
            self.pool.give(f);
        }
        for slot in &mut self.switches {
            self.conservation.inside_frames += slot.switch.inside_frames();
            let (frames, bytes) = slot.switch.flushed();
            self.conservation.dropped_frames += frames;
            self.conservation.dropped_bytes += bytes;
            slot.switch.drain(&mut self.pool);
        }
        let hosts = self
            .hosts
            .iter()
            .map(|s| s.base.as_ref().map_or_else(|| s.host.stats().clone(), |b| s.host.stats().since(b)))
            .collect();
        let measured = |s: &SwitchSlot<F>| match &s.base {
            Some(base) => s.switch.stats().since(base),
            None => s.switch.stats(),
        };
        let switches = self.switches.iter().map(|s| (s.index, measured(s))).collect();
        (hosts, switches, mem::take(&mut self.snapshots))
    }
}

#[inline]
pub(super) fn bytes_of(len: FrameLen) -> u64 {
    u64::from(len.0) + FCS
}

/// A calendar for so many events: their mean distance when every link carries frames of 1 KB, and how far ahead a frame
/// of usual length arrives at most.
fn calendar<F>(fabric: &Fabric, pending: usize) -> Calendar<F> {
    let links = || fabric.links.iter().map(|l| l.timing);
    let per_ps: f64 = links().map(|l| 2.0 / l.wire_time(FrameLen(1082)).0.max(1) as f64).sum();
    let spacing = Span(if per_ps > 0.0 { (1.0 / per_ps) as u64 } else { 1_000 });
    Calendar::new(pending, spacing, links().map(|l| l.delay(FrameLen(4154))).max().unwrap_or_default())
}
