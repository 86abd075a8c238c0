//! The embedded shared-buffer switch: output-queued, one packet buffer for all ports, PFC, WRED/ECN, strict and DWRR
//! scheduling, ECMP.
//!
//! A frame comes in by [`Switch::on_frame`], which classifies it (first switch only), picks the egress port, charges
//! the buffer ([`mmu`]) and queues it; [`Switch::depart`] is called whenever an egress link is free. The driver learns
//! from [`Switch::poll_wake`] which idle ports have become worth asking, so nobody ever scans ports; it calls
//! [`Switch::on_deadline`] when [`Switch::next_deadline`] has come. Nothing is allocated after [`Switch::new`].
//!
//! A switch sets CE and takes one from the TTL; MAC addresses are not rewritten. What is left of the TTL travels in the
//! meta and is written into the bytes by whom they matter to ([`settle_ttl`]). It stores and forwards: a frame is handed
//! in when its last bit has arrived, and the fixed pipeline delay is part of the link before.

mod balance;
pub mod config;
mod division;
mod ecn;
mod headers;
mod links;
pub mod mmu;
mod pausing;
mod pfc;
mod port;
mod queues;
pub mod route;
mod sched;
mod shape;
mod watchdog;

use std::convert::Infallible;

pub use self::config::buffer_frames_max;
use self::config::{ClassMaps, ConfigError, FlowControl, MarkAt, SwitchConfig};
use self::ecn::Marker;
pub use self::ecn::SharedCoins;
use self::headers::Seen;
pub use self::headers::settle_ttl;
use self::mmu::Mmu;
pub(crate) use self::pfc::bits;
use self::port::Port;
use self::queues::{Entry, Queues};
pub use self::route::{AddressMap, Routes};
use self::route::{Choice, Router};
use self::sched::Scheduler;
use crate::frame::{COLOR_SHIFT, Fill, Frame, FramePool, flags};
use crate::hint::prefetch;
use crate::limits::PRIORITIES;
use crate::measure::record::{DropReason, Record};
use crate::measure::stats::{SwitchPortStats, SwitchStats};
use crate::units::{FRAME_LEN_MIN, FrameLen, Span, Time};

/// What became of a frame.
#[derive(Debug)]
#[must_use]
pub enum Admit<F> {
    /// The switch keeps it until it departs.
    Queued,
    /// A PFC frame, obeyed; the caller gives it back to its pool.
    Consumed(F),
    /// Dropped and counted; the caller gives it back to its pool.
    Dropped(DropReason, F),
}

/// The buffer and queues at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchState {
    /// Bytes (cells x cell size) in the shared pool.
    pub shared_bytes: u64,
    /// Bytes in all headrooms.
    pub headroom_bytes: u64,
    /// (port, queue, bytes) of queues that are not empty.
    pub queues: Vec<(u16, u8, u64)>,
    /// Priority groups that hold something or are in XOFF.
    pub groups: Vec<GroupState>,
}

/// A priority group at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupState {
    /// Ingress port.
    pub port: u16,
    /// Its number, 0 to 7.
    pub priority: u8,
    /// Reserved and shared bytes in use.
    pub used_bytes: u64,
    /// Bytes in its headroom.
    pub headroom_bytes: u64,
    /// What its shared bytes may come to at this moment.
    pub limit_bytes: u64,
    /// Its senders were told to stop.
    pub xoff: bool,
}

/// A shared-buffer switch that forwards frames of type `F`.
///
/// Cost: a frame in and out takes 25 to 30 ns while its memory is warm (`cargo bench --bench switch`). Memory: 24 bytes
/// per frame the buffer can hold, and about 1.8 KB per port.
#[derive(Debug)]
#[repr(C, align(64))] // What every frame asks stands in front, what only the first switch of a path asks behind.
pub struct Switch<F> {
    maps: ClassMaps,
    /// Queue that the last data frame left.
    last_queue: usize,
    /// No pause ends and no refresh is due before.
    deadline: Time,
    ports: Vec<Port>,
    flow_control: FlowControl,
    /// Some port has a watchdog.
    watched: bool,
    /// Manners of a simulated switch, see [`Switch::imitate`].
    imitates: bool,
    /// The port that sent last has more to send.
    more: bool,
    hash_dest_qp: bool,
    index: u16,
    queues: Queues<F>,
    mmu: Mmu,
    router: Router,
    marker: Marker,
    /// Ports to try next, each at most once, and how many of them have been named.
    wakes: Vec<u16>,
    named: usize,
    stats: SwitchStats,
    sched: Scheduler,
    addresses: AddressMap,
    /// Traffic class and colour.
    dscp_map: [u8; 64],
    pcp_map: Option<[u8; PRIORITIES]>,
    /// Traffic classes that feed each group, a bit each: an XOFF of the group names them.
    voices: [u8; PRIORITIES],
    pause_quanta: u16,
    /// What the watchdog took out of queues, since the start: frames and bytes.
    flushed: (u64, u64),
}

/// Slot of the queue or priority group of this number on a port.
#[inline]
fn slot(port: u16, number: u8) -> usize {
    usize::from(port) * PRIORITIES + usize::from(number)
}

/// Port and number of a slot.
#[inline]
fn port_of(slot: usize) -> (u16, u8) {
    ((slot / PRIORITIES) as u16, (slot % PRIORITIES) as u8)
}

impl<F: Frame> Switch<F> {
    /// Switch number `index` of a run. `addresses` is shared between all switches.
    ///
    /// # Errors
    /// What [`SwitchConfig::validate`] finds, or a route to a port that does not exist.
    pub fn new(
        config: SwitchConfig,
        index: u16,
        routes: &Routes,
        addresses: AddressMap,
    ) -> Result<Switch<F>, ConfigError> {
        let mmu = Mmu::new(&config)?;
        let n = config.ports.len();
        for (endpoint, to) in routes.ports_to.iter().enumerate() {
            if let Some(&port) = to.iter().find(|&&p| usize::from(p) >= n) {
                return Err(ConfigError::Route { switch: config.name, endpoint, port, ports: n });
            }
        }
        let stats = SwitchStats { ports: vec![SwitchPortStats::default(); n], ..SwitchStats::default() };
        Ok(Switch {
            index,
            ports: (config.ports.iter().enumerate())
                .map(|(i, p)| Port::new(p, config.of_port(i), &config.maps, config.pause_quanta))
                .collect(),
            queues: Queues::new(n, buffer_frames_max(&config)),
            mmu,
            router: Router::new(routes, config.balance, config.hash_seed),
            marker: Marker::new(&config.profiles, config.mark_at, config.seed, index),
            sched: Scheduler::new(&config),
            addresses,
            dscp_map: headers::classifier(&config.dscp_map, &config.dscp_color),
            pcp_map: config.pcp_map,
            maps: config.maps,
            voices: std::array::from_fn(|group| config.maps.into_group(group)),
            hash_dest_qp: config.hash_dest_qp,
            pause_quanta: config.pause_quanta,
            flow_control: config.flow_control,
            watched: config.profiles.iter().any(|p| p.watchdog.is_some()),
            imitates: false,
            wakes: Vec::with_capacity(n),
            named: 0,
            more: false,
            last_queue: 0,
            deadline: Time::NEVER,
            stats,
            flushed: (0, 0),
        })
    }

    /// Takes over the manners of a simulated switch: frames count with the length they claim, however short; pauses
    /// hold until they are lifted; WRED never drops, and tosses `coins`. Before the first frame only.
    pub fn imitate(&mut self, coins: SharedCoins) {
        self.imitates = true;
        self.marker.share(coins);
        self.mmu.set_frame_len_min(0);
        self.ports.iter_mut().for_each(|p| p.refresh = Span(u64::MAX));
    }

    /// A frame has arrived at port `ingress`, all of it; it waits until [`Switch::depart`] asks for it.
    ///
    /// PFC frames are obeyed and handed back. Others are queued or dropped. What the headers say is read at the first
    /// switch and travels in the meta (`flags::PARSED`); later switches mix its hash with their own seed.
    pub fn on_frame(&mut self, now: Time, ingress: u16, frame: F, rec: &mut impl Record) -> Admit<F> {
        match self.forward(now, ingress, frame, rec, |_| None::<Infallible>) {
            Ok((never, _)) => match never {},
            Err(admit) => admit,
        }
    }

    /// As [`Switch::on_frame`] for a driver that can send at once: `idle` gives its handle of the link behind a port while
    /// nothing is on it. A frame for which nothing waits there is handed back with the handle, accounted for as if it had
    /// been queued and had departed at the same moment.
    ///
    /// # Errors
    /// What became of a frame that does not leave at once.
    #[inline]
    pub fn forward<L>(
        &mut self,
        now: Time,
        ingress: u16,
        mut frame: F,
        rec: &mut impl Record,
        idle: impl Fn(u16) -> Option<L>,
    ) -> Result<(L, F), Admit<F>> {
        let mut refused = None;
        if frame.meta().flags & flags::PARSED == 0 {
            let by = headers::Maps {
                addresses: &self.addresses,
                dscp: &self.dscp_map,
                hash_dest_qp: self.hash_dest_qp,
            };
            match headers::read_usual(&mut frame, &by) {
                Some(seen) => refused = seen.err(),
                None => match headers::read(&mut frame, &by, self.pcp_map.as_ref()) {
                    Ok(Seen::Forward) => {}
                    Ok(Seen::Pfc(message)) => {
                        self.on_pfc(now, ingress, &message, rec);
                        return Err(Admit::Consumed(frame));
                    }
                    Ok(Seen::Pause(quanta)) => {
                        self.on_pause(now, ingress, quanta, rec);
                        return Err(Admit::Consumed(frame));
                    }
                    Err(reason) => refused = Some(reason),
                },
            }
        }
        let bytes = self.mmu.frame_bytes(frame.len());
        self.stats.rx_frames += 1;
        self.stats.rx_bytes += u64::from(bytes);
        if let Some(reason) = refused {
            return Err(self.refuse(now, ingress, None, frame, reason, rec));
        }
        let meta = frame.meta();
        let (class, color) = (usize::from(meta.priority & 7), meta.priority >> COLOR_SHIFT);
        let (q, group) = (self.maps.queue[class], self.maps.group[class]);
        if meta.ttl <= 1 {
            return Err(self.refuse(now, ingress, None, frame, DropReason::Loop, rec));
        }
        let by = Choice { now, hash: meta.hash, ingress };
        let (queues, ports) = (&self.queues, &self.ports);
        let load = |port: u16| {
            let rate = ports[usize::from(port)].egress.rate().bits_per_s / 1_000_000;
            u64::from(queues.depth_bytes(slot(port, q))) * 8_000_000 / rate.max(1)
        };
        let Some(egress) = self.router.egress(meta.dst, by, load) else {
            return Err(self.refuse(now, ingress, None, frame, DropReason::NoRoute, rec));
        };

        let (queue, bit) = (slot(egress, q), 1 << q);
        let port = &self.ports[usize::from(egress)];
        if self.watched && (port.dropping | self.ports[usize::from(ingress)].dropping) & bit != 0 {
            return Err(self.refuse_stuck(now, ingress, egress, frame, rec));
        }
        let depth = self.queues.depth(queue);
        let (row, mut mark) = (usize::from(port.rows) + usize::from(q), false);
        let curve = Marker::curve(row, color);
        if self.marker.applies(curve, depth.bytes) {
            let capable = self.marker.marks(curve) && headers::is_ecn_capable(frame.head());
            if ((!capable && !self.imitates) || self.marker.at() == MarkAt::Enqueue)
                && self.marker.hits(curve, depth.bytes)
            {
                if !capable {
                    return Err(self.refuse(now, ingress, Some(egress), frame, DropReason::Wred, rec));
                }
                mark = true;
            }
        }

        let cells = self.mmu.cells(frame.len());
        let (group, held) = self.mmu.places(slot(ingress, group), queue);
        let admitted = match self.mmu.admit(group, cells, held, depth.cells) {
            Ok(admitted) => admitted,
            Err(reason) => return Err(self.refuse_full(now, ingress, egress, frame, reason, rec)),
        };
        if mark {
            self.set_ce(egress, q, &mut frame);
        }
        let meta = frame.meta_mut();
        meta.enqueued = now;
        meta.cells = cells;
        meta.ingress = ingress;
        meta.ttl -= 1;
        meta.flags = meta.flags & !(flags::IN_HEADROOM | flags::IN_RESERVED) | admitted.flags;
        let port = &self.ports[usize::from(egress)];
        if !admitted.xoff
            && port.lets_pass(bit)
            && let Some(link) = idle(egress)
        {
            self.queues.pass(queue, bytes);
            rec.queue_depth(now, self.index, egress, q, u64::from(bytes));
            if self.mmu.release(group, cells, held, 0) {
                self.go_on(group);
            }
            return Ok((link, frame));
        }
        let entry = Entry { frame, bytes, cells, group: group as u16, color };
        let depth = match self.queues.push(queue, entry) {
            Ok(depth) => u64::from(depth),
            Err(entry) => {
                // The slab holds what the buffer holds; refusing is still better than losing count.
                self.mmu.release(group, cells, held, depth.cells);
                return Err(self.refuse(now, ingress, Some(egress), entry.frame, DropReason::Buffer, rec));
            }
        };
        rec.queue_depth(now, self.index, egress, q, depth);

        let port = &mut self.ports[usize::from(egress)];
        port.waiting |= bit;
        if port.pfc.paused() & bit != 0 {
            let first_end = port.pauses(now, &mut self.stats.ports[usize::from(egress)]);
            port.excused |= port.pfc.paused() & bit;
            self.deadline = self.deadline.min(first_end);
        }
        self.wake(egress);
        if admitted.xoff {
            rec.xoff(now, self.blame(ingress, egress, class as u8));
            self.stop(group);
        }
        Err(Admit::Queued)
    }

    /// Says that a frame comes in at port `ingress` soon: the rows of its group and of the queue it will join are asked for.
    /// Of a frame at its first switch neither is known.
    #[inline]
    pub fn expect(&self, ingress: u16, frame: &F) {
        let meta = frame.meta();
        if meta.flags & flags::PARSED == 0 {
            return;
        }
        let by = Choice { now: meta.arrive, hash: meta.hash, ingress };
        if let Some(egress) = self.router.likely(meta.dst, by) {
            prefetch(self.ports.as_ptr().wrapping_add(usize::from(egress)));
            self.queues.expect(slot(egress, self.maps.queue[usize::from(meta.priority & 7)]));
        }
        self.mmu.expect(slot(ingress, self.maps.group[usize::from(meta.priority & 7)]));
    }

    /// The egress link of a port is free at `now`: the next frame to send, if any. PFC frames go first and take link
    /// time like any other. When `pool` has no frame for one, data goes on and the PFC frame is tried again next time.
    pub fn depart<P: FramePool<Frame = F>>(
        &mut self,
        now: Time,
        egress: u16,
        pool: &mut P,
        rec: &mut impl Record,
    ) -> Option<F> {
        let port = &mut self.ports[usize::from(egress)];
        port.armed = true; // no wake for the port that is just being asked
        let first = port.pfc.pending() != 0 || port.doomed() != 0;
        let control = if first { self.depart_first(now, egress, pool, rec) } else { None };
        let frame = control.or_else(|| self.depart_data(now, egress));
        let port = &mut self.ports[usize::from(egress)];
        self.more = frame.is_some() && port.has_pending();
        port.armed = self.more;
        frame
    }

    /// Whether the port that sent last has more to send: it wants to be asked again when its frame has left, and will
    /// not be woken before.
    #[inline]
    pub fn left_more(&self) -> bool {
        self.more
    }

    /// The frame that will leave after the last one, when it waits in the same queue, and where the entry behind it
    /// lies. For prefetching: it leaves a frame time later.
    #[inline]
    pub fn upcoming(&self) -> Option<(&F, *const u8)> {
        self.queues.upcoming(self.last_queue)
    }

    #[inline(always)]
    fn depart_data(&mut self, now: Time, egress: u16) -> Option<F> {
        let p = usize::from(egress);
        let port = &mut self.ports[p];
        let queues = &self.queues;
        let q = self.sched.pick(p, port.ready(), |q| queues.head_bytes(slot(egress, q)))?;
        let queue = slot(egress, q);
        self.last_queue = queue;
        let (Entry { mut frame, bytes: _, cells, group, color }, behind) = self.queues.send(queue)?;
        if behind.bytes == 0 {
            port.waiting &= !(1 << q);
            port.excused &= !(1 << q);
            self.sched.emptied(p, q);
        }
        let open = port.sent(now, q, frame.len());
        self.deadline = self.deadline.min(open);
        let curve = Marker::curve(usize::from(port.rows) + usize::from(q), color);
        if self.marker.at() == MarkAt::Dequeue
            && self.marker.applies(curve, behind.bytes)
            && self.marker.marks(curve)
            && headers::is_ecn_capable(frame.head())
            && self.marker.hits(curve, behind.bytes)
        {
            self.set_ce(egress, q, &mut frame);
        }
        let group = usize::from(group);
        if self.mmu.release(group, cells, self.mmu.beside(queue, group), behind.cells) {
            self.go_on(group);
        }
        Some(frame)
    }

    /// What comes before data: frames that are thrown away, and PFC.
    #[inline(never)]
    fn depart_first<P: FramePool<Frame = F>>(
        &mut self,
        now: Time,
        egress: u16,
        pool: &mut P,
        rec: &mut impl Record,
    ) -> Option<F> {
        let p = usize::from(egress);
        if self.ports[p].doomed() != 0 {
            self.flush(now, egress, pool, rec);
        }
        if self.ports[p].pfc.pending() == 0 {
            return None;
        }
        let mut frame = pool.take(Fill::Control, FrameLen(FRAME_LEN_MIN))?;
        let port = &mut self.ports[p];
        let counters = &mut self.stats.ports[p].pfc;
        let (message, refresh_due) = port.pfc.take_message(now, self.pause_quanta, port.refresh, counters);
        self.deadline = self.deadline.min(refresh_due);
        match self.flow_control {
            FlowControl::Pfc => headers::write_pfc(&mut frame, port.mac, &message),
            FlowControl::Global => headers::write_pause(&mut frame, port.mac, message.quanta[0]),
        }
        pool.seal(&mut frame);
        Some(frame)
    }

    /// Drops what waits in queues that the watchdog has given up.
    #[cold]
    fn flush<P: FramePool<Frame = F>>(
        &mut self,
        now: Time,
        egress: u16,
        pool: &mut P,
        rec: &mut impl Record,
    ) {
        let p = usize::from(egress);
        for q in bits(self.ports[p].doomed()).map(|q| q as u8) {
            let queue = slot(egress, q);
            while let Some((Entry { frame, bytes, cells, group, color: _ }, left)) = self.queues.pop(queue) {
                let group = usize::from(group);
                let ingress = port_of(self.mmu.slot(group)).0;
                if self.mmu.release(group, cells, self.mmu.beside(queue, group), left.cells) {
                    self.go_on(group);
                }
                self.stats.ports[p].watchdog[usize::from(q)].tx_drops += 1;
                self.flushed.0 += 1;
                self.flushed.1 += u64::from(bytes);
                match self.refuse(now, ingress, Some(egress), frame, DropReason::Watchdog, rec) {
                    Admit::Dropped(_, frame) | Admit::Consumed(frame) => pool.give(frame),
                    Admit::Queued => {}
                }
            }
            self.ports[p].waiting &= !(1 << q);
            self.ports[p].excused &= !(1 << q);
            self.sched.emptied(p, q);
        }
    }

    /// A frame that would join a queue the watchdog has given up, or came in beside one.
    #[cold]
    fn refuse_stuck(
        &mut self,
        now: Time,
        ingress: u16,
        egress: u16,
        frame: F,
        rec: &mut impl Record,
    ) -> Admit<F> {
        let queue = self.maps.queue_of(frame.meta().priority);
        if self.ports[usize::from(egress)].dropping & (1 << queue) != 0 {
            self.stats.ports[usize::from(egress)].watchdog[queue].tx_drops += 1;
        } else {
            self.stats.ports[usize::from(ingress)].watchdog[queue].rx_drops += 1;
        }
        self.refuse(now, ingress, Some(egress), frame, DropReason::Watchdog, rec)
    }

    /// Puts a port that has just become worth asking on the list, unless the driver will ask it anyway.
    #[inline]
    fn wake(&mut self, port: u16) {
        let state = &mut self.ports[usize::from(port)];
        if !state.armed && state.has_pending() {
            state.armed = true;
            if !std::mem::replace(&mut state.listed, true) {
                self.wakes.push(port);
            }
        }
    }

    fn set_ce(&mut self, egress: u16, queue: u8, frame: &mut F) {
        if headers::set_ce(frame) {
            self.stats.ce_marked += 1;
            self.stats.ports[usize::from(egress)].queues[usize::from(queue)].ce_marked += 1;
        }
    }

    /// Drops a frame that found no room. One that found no headroom stops its sender as one in the headroom would: too small a
    /// headroom loses frames, and is paused nevertheless.
    #[cold]
    fn refuse_full(
        &mut self,
        now: Time,
        ingress: u16,
        egress: u16,
        frame: F,
        reason: DropReason,
        rec: &mut impl Record,
    ) -> Admit<F> {
        let class = frame.meta().priority & 7;
        let (group, queue) = (self.maps.group_of(class) as u8, self.maps.queue_of(class) as u8);
        let (group, _) = self.mmu.places(slot(ingress, group), slot(egress, queue));
        if reason == DropReason::Headroom && self.mmu.cross(group) {
            rec.xoff(now, self.blame(ingress, egress, class));
            self.stop(group);
        }
        self.refuse(now, ingress, Some(egress), frame, reason, rec)
    }

    /// Counts a frame that is not forwarded.
    #[cold]
    fn refuse(
        &mut self,
        now: Time,
        ingress: u16,
        egress: Option<u16>,
        frame: F,
        reason: DropReason,
        rec: &mut impl Record,
    ) -> Admit<F> {
        let class = frame.meta().priority & 7;
        let (group, queue) = (self.maps.group_of(class) as u8, self.maps.queue_of(class));
        self.stats.drops += 1;
        self.stats.drop_bytes += u64::from(self.mmu.frame_bytes(frame.len()));
        let classified = frame.meta().flags & flags::PARSED != 0;
        self.stats.drops_lossless += u64::from(classified && self.mmu.is_lossless(slot(ingress, group)));
        self.stats.ports[usize::from(ingress)].ingress_drops += 1;
        if let Some(egress) = egress {
            self.stats.ports[usize::from(egress)].queues[queue].drops += 1;
        }
        rec.drop(now, self.index, ingress, frame.meta(), reason);
        Admit::Dropped(reason, frame)
    }

    /// Some port is to be tried: [`Switch::poll_wake`] names it.
    #[inline]
    pub fn has_wakes(&self) -> bool {
        !self.wakes.is_empty()
    }

    /// A port to try as soon as its link is free: it was idle and now has something to send. Each port is named at most
    /// once until it is asked; a port whose [`Switch::depart`] left something behind is not named, the driver asks it
    /// again when the frame has left.
    #[inline]
    pub fn poll_wake(&mut self) -> Option<u16> {
        let &port = self.wakes.get(self.named)?;
        self.named += 1;
        if self.named == self.wakes.len() {
            self.wakes.clear();
            self.named = 0;
        }
        self.ports[usize::from(port)].listed = false;
        Some(port)
    }

    /// True when this port could send something right now.
    #[inline]
    pub fn has_pending(&self, port: u16) -> bool {
        self.ports[usize::from(port)].has_pending()
    }

    /// When [`Switch::on_deadline`] has to be called: no pause of a port with waiting frames ends, no refresh is due, no
    /// shaper opens and no watchdog bites earlier. A bound that events in between may have made too early, never too late.
    #[inline]
    pub fn next_deadline(&self) -> Time {
        self.deadline
    }

    /// Ends pauses whose time is over, opens shapers, lets watchdogs bite, and says XOFF again where congestion lasts. Cost: a look at every port.
    pub fn on_deadline(&mut self, now: Time, _rec: &mut impl Record) {
        if now < self.deadline {
            return;
        }
        let mut next = Time::NEVER;
        for p in 0..self.ports.len() {
            let port = &mut self.ports[p];
            next = next.min(port.look(now, &mut self.stats.ports[p]));
            let (due, later) = port.pfc.due(now);
            next = next.min(later);
            for speaker in bits(due) {
                self.refresh(p, speaker);
            }
            self.wake(p as u16);
        }
        self.deadline = next;
    }

    /// Counters since the start of the run, maxima since the last [`Switch::mark`]. Gathers them from where the packet
    /// path keeps them; not for that path.
    pub fn stats(&self) -> SwitchStats {
        let mut stats = self.stats.clone();
        for (p, port) in stats.ports.iter_mut().enumerate() {
            for (priority, q) in port.queues.iter_mut().enumerate() {
                let queue = p * PRIORITIES + priority;
                let sent = self.queues.sent(queue);
                (q.tx_frames, q.tx_bytes) = (sent.frames, sent.bytes);
                q.depth_bytes_max = u64::from(self.queues.deepest(queue));
                stats.tx_frames += sent.frames;
                stats.tx_bytes += sent.bytes;
            }
        }
        let (peaks, cell) = (self.mmu.peaks(), u64::from(self.mmu.cell()));
        stats.buffer_bytes_max = u64::from(peaks.buffer) * cell;
        stats.shared_bytes_max = u64::from(peaks.shared) * cell;
        stats.headroom_bytes_max = u64::from(peaks.headroom) * cell;
        stats.ingress_bytes_max = u64::from(peaks.group) * cell;
        stats
    }

    /// Starts the maxima again from what is in use now. Counters go on.
    pub fn mark(&mut self, _now: Time) {
        self.mmu.mark();
        self.queues.mark();
    }

    /// The buffer and queues as they are now. Allocates; for the timeline, not for the packet path.
    pub fn snapshot(&self) -> SwitchState {
        let cell = u64::from(self.mmu.cell());
        let queues = (0..self.ports.len() as u16)
            .flat_map(|port| (0..PRIORITIES as u8).map(move |priority| (port, priority)))
            .map(|(port, priority)| {
                (port, priority, u64::from(self.queues.depth_bytes(slot(port, priority))))
            })
            .filter(|&(_, _, bytes)| bytes > 0)
            .collect();
        let group = |(port, priority): (u16, u8)| {
            let group = slot(port, priority);
            let (used, headroom) = self.mmu.group_used(group);
            GroupState {
                port,
                priority,
                used_bytes: u64::from(used) * cell,
                headroom_bytes: u64::from(headroom) * cell,
                limit_bytes: self.mmu.limit(group) * cell,
                xoff: self.mmu.is_xoff(group),
            }
        };
        let slots = (0..self.ports.len() as u16).flat_map(|p| (0..PRIORITIES as u8).map(move |i| (p, i)));
        let held = |g: &GroupState| g.used_bytes > 0 || g.headroom_bytes > 0 || g.xoff;
        SwitchState {
            groups: slots.map(group).filter(held).collect(),
            shared_bytes: u64::from(self.mmu.shared_used()) * cell,
            headroom_bytes: u64::from(self.mmu.headroom_used()) * cell,
            queues,
        }
    }

    /// Buffer accounting, for those who want to look inside.
    pub fn mmu(&self) -> &Mmu {
        &self.mmu
    }

    /// Frames and bytes that the watchdog took out of queues, since the start; the pool has them back.
    pub fn flushed(&self) -> (u64, u64) {
        self.flushed
    }

    /// Frames waiting in queues.
    pub fn inside_frames(&self) -> u64 {
        self.queues.frames() as u64
    }

    /// Gives every waiting frame back to `pool` and its cells to the buffer; the end of a run. Nothing is counted.
    pub fn drain<P: FramePool<Frame = F>>(&mut self, pool: &mut P) {
        for port in 0..self.ports.len() as u16 {
            for priority in 0..PRIORITIES as u8 {
                let queue = slot(port, priority);
                while let Some((entry, left)) = self.queues.pop(queue) {
                    let group = usize::from(entry.group);
                    self.mmu.release(group, entry.cells, self.mmu.beside(queue, group), left.cells);
                    pool.give(entry.frame);
                }
            }
            self.ports[usize::from(port)].waiting = 0;
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_incast;
#[cfg(test)]
mod tests_maps;
#[cfg(test)]
mod tests_passing;
#[cfg(test)]
mod tests_pools;
