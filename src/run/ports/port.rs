//! A device as the driver sees it: paced to the rate of the wire, answering neighbours, with both stamps of every frame.
//!
//! **Backlog.** What a device has taken cannot be held back when a pause comes, and a full transmit ring is far more than
//! the headroom of a switch. So the wire is reckoned here: every frame handed over keeps it busy for its time at the
//! port's rate, and no more is handed over than `backlog` ahead of it. That paces the port as well.
//!
//! **Stamps.** A frame's `intended` and `start` do not travel on a real wire. They wait in a table shared by all ports of
//! the run, under queue pair and PSN, until the frame arrives at another of our ports. `start` is the moment the frame is
//! handed over: what the device holds back, at most the backlog, is part of the network's delay.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::frame::{Burst, Fill, Frame, FramePool, Port, PortCaps, TxBatch, flags};
use crate::limits::BURST;
use crate::measure::distribution::{Distribution, Percentiles};
use crate::plan::lab::PfcMode;
use crate::rng::mix;
use crate::sys::tsc::{Tsc, ticks};
use crate::units::{FrameLen, LinkTiming, Span, Time};
use crate::wire::fast::{self, Fast, IpKey, Kind};
use crate::wire::headers::{Deth, Ext, Opcode};
use crate::wire::icrc;
use crate::wire::neighbour::{self, Neighbour};
use crate::wire::pfc::PfcFrame;
use crate::wire::template::{BthFields, Template};
use crate::wire::{HEAD_MAX, be32, psn};

/// Frames whose stamps are kept; a power of two. More in flight than this lose theirs, and are counted.
const STAMPS: usize = 1 << 16;
/// Bytes of the last word of a BTH, which ends in the PSN.
const PSN_WORD: usize = 4;
/// Mark of arrived frames that are not for the host.
const OTHERS: u32 = u32::MAX;
/// Answers to neighbours that wait for room.
const ANSWERS_MAX: usize = BURST;
/// Longest delay told apart, nanoseconds.
const DELAY_NS_MAX: u64 = 10_000_000_000;
/// Neighbours remembered.
const TOLD_MAX: usize = 1 << 16;

/// Queue pair of probes: behind ours, before those of streams.
const PROBE_QPN: u32 = 0x00ef_fff0;
/// Their queue key, which is not a privileged one.
const PROBE_QKEY: u32 = 0x0072_7370;
/// Probes kept until somebody looks.
const PROBES_MAX: usize = 1_024;

/// A probe that came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub at: Time,
    /// Number it was sent with.
    pub number: u32,
    pub dscp: u8,
    pub ecn: u8,
    pub pcp: Option<u8>,
    /// Its ICRC is right.
    pub intact: bool,
}

/// The time all ports of a run go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub tsc: Tsc,
    pub origin: u64,
}

impl Clock {
    #[inline]
    pub fn now(&self) -> Time {
        self.at(ticks())
    }

    /// The time at this tick.
    #[inline]
    pub fn at(&self, tick: u64) -> Time {
        Time::ZERO + self.tsc.span(tick.saturating_sub(self.origin))
    }
}

/// One frame's stamps. Workers share the table without locks: a writer empties the key first and sets it last, and a
/// reader who finds the same key before and after has read what belongs to it.
#[derive(Default)]
struct Stamp {
    key: AtomicU64,
    intended: AtomicU64,
    start: AtomicU64,
    /// Sending port, and its queue pair or stream.
    sender: AtomicU64,
    /// Class and flags.
    kind: AtomicU64,
}

/// Stamps of frames in flight.
pub(super) struct Stamps(Vec<Stamp>);

impl Stamps {
    pub fn shared() -> Arc<Stamps> {
        Arc::new(Stamps((0..STAMPS).map(|_| Stamp::default()).collect()))
    }

    /// What a queue pair is known by.
    fn flow(f: &Fast) -> u64 {
        let (src, dst) = (f.src.0, f.dst.0);
        mix((src >> 64) as u64 ^ src as u64 ^ mix((dst >> 64) as u64 ^ dst as u64) ^ u64::from(f.dest_qp))
    }

    /// Consecutive packets of a queue pair take consecutive places.
    #[inline]
    fn place(flow: u64, psn: u32) -> (u64, usize) {
        // Never 0, which marks an empty place.
        (flow << 24 | u64::from(psn) | 1 << 63, (flow as usize).wrapping_add(psn as usize) % STAMPS)
    }

    #[inline]
    fn put<F: Frame>(&self, (key, at): (u64, usize), frame: &F, start: Time) {
        let (s, m) = (&self.0[at], frame.meta());
        s.key.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        s.intended.store(m.intended.0, Ordering::Relaxed);
        s.start.store(start.0, Ordering::Relaxed);
        s.sender.store(u64::from(m.src) << 32 | u64::from(m.flow), Ordering::Relaxed);
        s.kind.store(u64::from(m.class) << 8 | u64::from(m.flags), Ordering::Relaxed);
        s.key.store(key, Ordering::Release);
    }

    /// Gives a frame its stamps back; false when they are gone.
    #[inline]
    fn restore<F: Frame>(&self, f: &Fast, frame: &mut F) -> bool {
        let (key, at) = Stamps::place(Stamps::flow(f), f.psn);
        let s = &self.0[at];
        if s.key.load(Ordering::Acquire) != key {
            return false;
        }
        let (intended, start) = (s.intended.load(Ordering::Relaxed), s.start.load(Ordering::Relaxed));
        let (sender, kind) = (s.sender.load(Ordering::Relaxed), s.kind.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if s.key.load(Ordering::Relaxed) != key {
            return false;
        }
        let m = frame.meta_mut();
        (m.intended, m.start) = (Time(intended), Time(start));
        (m.src, m.flow) = ((sender >> 32) as u32, sender as u32);
        (m.class, m.flags) = ((kind >> 8) as u8, kind as u8);
        true
    }
}

/// What a port counted on top of host and device.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WireStats {
    /// Frames and bytes (with FCS) handed over.
    pub tx_frames: u64,
    pub tx_bytes: u64,
    /// Frames taken from the device, and bytes.
    pub rx_frames: u64,
    pub rx_bytes: u64,
    /// Times the device took less than it was offered.
    pub refused: u64,
    /// PFC frames seen.
    pub pfc_seen: u64,
    /// Longest span from an XOFF to the end of the last frame that was handed over before.
    pub xoff_backlog: Span,
    /// Neighbours answered.
    pub answered: u64,
    /// Frames that are neither RoCEv2 nor PFC nor about neighbours.
    pub other: u64,
    /// Data frames whose stamps were gone.
    pub unstamped: u64,
    /// Frames lost because the link was down.
    pub lost_down: u64,
    /// Arrivals that the device had stamped.
    pub stamped: u64,
}

/// What a port saw of the way its data frames came: delays by our own stamps, and marks.
#[derive(Debug)]
pub(super) struct Seen {
    /// From being handed over to being taken in, nanoseconds.
    delay_ns: Distribution<u32>,
    /// Bytes of these frames with FCS.
    bytes: u64,
    /// Data frames with CE.
    pub ce: u64,
    /// Data frames that were taken in too late for their delay to say anything about the way.
    pub blurred: u64,
}

impl Seen {
    fn new() -> Seen {
        Seen { delay_ns: Distribution::new(DELAY_NS_MAX, 3), bytes: 0, ce: 0, blurred: 0 }
    }

    /// A data frame that took so long; not `sharp`: it may have waited for us.
    fn frame(&mut self, took: Span, sharp: bool, bytes: u64, ce: bool) {
        self.ce += u64::from(ce);
        if sharp {
            self.delay_ns.record(took.0 / 1_000);
            self.bytes += bytes;
        } else {
            self.blurred += 1;
        }
    }

    /// Delay by our own stamps.
    pub fn delay_ns(&self) -> Percentiles {
        self.delay_ns.percentiles()
    }

    /// Depth of the queue that the frames waited in, as the delay above the least of them says when it drains at the
    /// rate of `timing`: bytes with FCS.
    pub fn queue_bytes(&self, timing: &LinkTiming) -> Percentiles {
        let p = self.delay_ns();
        let (Some(least), Some(mean)) = (p.min, (p.n > 0).then(|| self.bytes as f64 / p.n as f64)) else {
            return p;
        };
        let per_ns = timing.rate().bits_per_s as f64 / 8e9 * mean / (mean + 20.0);
        let bytes = |ns: Option<f64>| ns.map(|ns| ((ns - least) * per_ns).round());
        Percentiles {
            n: p.n,
            min: bytes(p.min),
            mean: bytes(p.mean),
            p50: bytes(p.p50),
            p90: bytes(p.p90),
            p95: bytes(p.p95),
            p99: bytes(p.p99),
            p999: bytes(p.p999),
            p9999: bytes(p.p9999),
            max: bytes(p.max),
        }
    }
}

/// Who we are on a link.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    pub mac: [u8; 6],
    pub vlan: Option<u16>,
    /// Every address that is answered for.
    pub ips: Vec<IpAddr>,
}

/// See the module.
pub(super) struct LabPort<P: Port, L> {
    pub device: P,
    pool: L,
    pub who: Identity,
    pfc: PfcMode,
    pub timing: LinkTiming,
    backlog: Span,
    frame_time: Span,
    clock: Clock,
    /// The reckoned wire is busy until then.
    free_at: Time,
    /// When the device had nothing more for us: what comes later has arrived since.
    emptied_at: Time,
    /// `None` where nothing ever arrives.
    stamps: Option<Arc<Stamps>>,
    /// By number of the sending queue pair or stream: [`Stamps::flow`], and where its frames have their PSN.
    flows: Vec<(u64, usize)>,
    /// The device says when a frame came.
    stamps_arrivals: bool,
    answers: TxBatch<P::Frame>,
    /// Streams' frames have this number or a higher one as their `flow`.
    streams_from: u32,
    /// How late the oldest stream's frame of the last burst was handed over.
    pub lateness: Option<Span>,
    /// MACs neighbours have told.
    pub told: Vec<(IpAddr, [u8; 6])>,
    pub stats: WireStats,
    pub seen: Seen,
    /// Probes that came in for us.
    pub probes: Vec<Probe>,
    /// Until when pauses that came in ask each priority to wait. Hosts have their own book of it; this is the preflight's.
    held_until: [Time; 8],
    /// Nothing leaves any more.
    pub silent: bool,
    /// When the turn began: what the room is reckoned from, so that a turn without frames reads no clock.
    pub turn_at: Time,
    /// There is no link: what is sent is lost, as on any cable, rather than kept by a device that takes nothing.
    pub down: bool,
}

/// What a port is made with, besides its device.
pub(super) struct Wire {
    pub who: Identity,
    pub pfc: PfcMode,
    pub timing: LinkTiming,
    /// Bytes ahead of the wire.
    pub backlog_bytes: u64,
    pub frame_max: FrameLen,
    /// Number of the first stream among the senders of the port.
    pub streams_from: u32,
    pub clock: Clock,
}

impl<P: Port, L: FramePool<Frame = P::Frame>> LabPort<P, L> {
    pub fn new(device: P, pool: L, wire: Wire, stamps: Option<Arc<Stamps>>) -> LabPort<P, L> {
        let rate = wire.timing.rate().bits_per_s.max(1);
        LabPort {
            stamps_arrivals: device.caps().rx_timestamps,
            device,
            pool,
            who: wire.who,
            pfc: wire.pfc,
            timing: wire.timing,
            backlog: Span((u128::from(wire.backlog_bytes) * 8 * 1_000_000_000_000 / u128::from(rate)) as u64),
            frame_time: wire.timing.wire_time(wire.frame_max),
            clock: wire.clock,
            free_at: Time::ZERO,
            emptied_at: Time::ZERO,
            stamps,
            flows: Vec::new(),
            answers: TxBatch::new(),
            streams_from: wire.streams_from,
            lateness: None,
            told: Vec::new(),
            stats: WireStats::default(),
            seen: Seen::new(),
            probes: Vec::new(),
            held_until: [Time::ZERO; 8],
            silent: false,
            turn_at: Time::ZERO,
            down: false,
        }
    }

    /// Starts the port's time again at `origin`.
    pub fn clock_from(&mut self, origin: u64) {
        self.clock.origin = origin;
        self.free_at = Time::ZERO;
        self.emptied_at = Time::ZERO;
    }

    /// Asks who has `target`.
    pub fn ask(&mut self, from: IpAddr, target: IpAddr) {
        let who = (self.who.mac, self.who.vlan);
        self.speak(|head| neighbour::ask(head, who.1, who.0, from, target));
    }

    /// The MAC a neighbour has told for an address.
    pub fn mac_of(&self, ip: IpAddr) -> Option<[u8; 6]> {
        self.told.iter().find(|(i, _)| *i == ip).map(|(_, mac)| *mac)
    }

    /// Sends probe `number`: a datagram of `len` bytes without FCS (its payload cut to whole words) that no host answers.
    /// `None` when there is no room for it.
    pub fn probe(&mut self, template: &Template, number: u32, len: u16) -> Option<Time> {
        if self.answers.data.is_full() {
            return None;
        }
        let mut frame = self.pool.take(Fill::Const, FrameLen(len.max(HEAD_MAX as u16)))?;
        let bth = BthFields {
            opcode: Opcode::UdSendOnly.into(),
            dest_qp: PROBE_QPN,
            psn: number,
            ..BthFields::default()
        };
        let ext = Ext::Deth(Deth { qkey: PROBE_QKEY, resv8: 0, src_qp: PROBE_QPN });
        let empty = template.write(frame.head_mut(), &bth, &ext, 0);
        let payload = len.saturating_sub(empty.len.0) & !3;
        let wire = template.write(frame.head_mut(), &bth, &ext, payload);
        let m = frame.meta_mut();
        (m.len, m.head_len, m.flags) = (wire.len, wire.head_len, 0);
        self.pool.seal(&mut frame);
        self.answers.data.push(frame);
        let at = self.clock.now();
        self.flush();
        Some(at)
    }

    /// Nanoseconds of so many ticks.
    pub fn ns_of(&self, ticks: u64) -> f64 {
        self.clock.tsc.span(ticks).as_ns_f64()
    }

    /// A pause that came in asks this priority to wait now.
    pub fn held(&self, priority: u8) -> bool {
        self.held_until[usize::from(priority & 7)] > self.clock.now()
    }

    /// This port obeys pauses that reach it.
    pub fn obeys(&self) -> bool {
        self.pfc != PfcMode::Ignore
    }

    /// Asks the far end to hold one priority for so many quanta; 0 releases it.
    pub fn pause(&mut self, priority: u8, quanta: u16) {
        let mac = self.who.mac;
        self.speak(|head| Some(PfcFrame::one(priority, quanta).write(head, mac).len));
        self.flush();
    }

    fn speak(&mut self, write: impl FnOnce(&mut [u8; HEAD_MAX]) -> Option<FrameLen>) {
        if self.answers.control.len() >= ANSWERS_MAX {
            return;
        }
        let Some(mut frame) = self.pool.take(Fill::Control, FrameLen(HEAD_MAX as u16)) else {
            return;
        };
        let Some(len) = write(frame.head_mut()) else { return self.pool.give(frame) };
        let m = frame.meta_mut();
        (m.len, m.head_len, m.flags) = (len, len.0 as u8, flags::PFC);
        self.pool.seal(&mut frame);
        self.answers.control.push(frame);
    }

    /// Sends what is to be said to neighbours.
    pub fn flush(&mut self) {
        if self.silent {
            let TxBatch { control, data } = &mut self.answers;
            for f in control.drain(..).chain(data.drain(..)) {
                self.pool.give(f);
            }
        } else if !self.answers.is_empty() {
            let mut answers = std::mem::take(&mut self.answers);
            self.hand_over(&mut answers);
            self.answers = answers;
        }
    }

    /// When the turn began; now where nobody takes turns.
    #[inline]
    fn turn_began(&self) -> Time {
        if self.turn_at == Time::ZERO { self.clock.now() } else { self.turn_at }
    }

    fn hand_over(&mut self, batch: &mut TxBatch<P::Frame>) -> usize {
        let now = self.clock.now();
        if self.down {
            return self.lose(now, batch);
        }
        self.stamp(now, batch);
        if let Some(m) = batch.data.first().map(Frame::meta).filter(|m| m.flow >= self.streams_from) {
            self.lateness = Some(now.since(m.intended));
        }
        let (span, bytes) = self.on_wire(batch);
        let sent = self.device.tx_burst(batch);
        let (mut left, mut left_bytes) = (Span::ZERO, 0);
        if !batch.is_empty() {
            (left, left_bytes) = self.on_wire(batch);
            self.stats.refused += 1;
        }
        if sent > 0 {
            self.free_at = self.free_at.max(now) + Span(span.0 - left.0);
        }
        self.stats.tx_frames += sent as u64;
        self.stats.tx_bytes += bytes - left_bytes;
        sent
    }

    /// Sends into a link that is down.
    #[cold]
    fn lose(&mut self, now: Time, batch: &mut TxBatch<P::Frame>) -> usize {
        let lost = batch.frames();
        self.free_at = self.free_at.max(now);
        for f in batch.control.drain(..).chain(batch.data.drain(..)) {
            self.free_at += self.timing.wire_time(f.len());
            self.pool.give(f);
        }
        self.stats.lost_down += lost as u64;
        lost
    }

    /// How long the frames of a batch keep the wire busy, and their bytes with FCS.
    #[inline]
    fn on_wire(&self, batch: &TxBatch<P::Frame>) -> (Span, u64) {
        let (mut span, mut bytes) = (Span::ZERO, 0);
        for frames in [&batch.control, &batch.data] {
            for f in frames {
                span += self.timing.wire_time(f.len());
                bytes += u64::from(f.len().0.max(60)) + 4;
            }
        }
        (span, bytes)
    }

    /// Puts the stamps of data frames away.
    #[inline]
    fn stamp(&mut self, now: Time, batch: &TxBatch<P::Frame>) {
        let Some(stamps) = &self.stamps else { return };
        for frame in batch.control.iter().chain(&batch.data) {
            let m = frame.meta();
            if m.flags & flags::DATA == 0 {
                continue;
            }
            let number = m.flow as usize;
            if number >= self.flows.len() {
                self.flows.resize(number + 1, (0, 0));
            }
            let flow = &mut self.flows[number];
            if flow.1 == 0 {
                let seen = fast::parse(frame.head(), frame.len()).ok();
                let Some(f) = seen.filter(|f| f.kind == Kind::Roce) else { continue };
                *flow = (Stamps::flow(&f), usize::from(f.ext_off) - PSN_WORD);
            }
            let psn = be32(frame.head(), flow.1) & psn::MASK;
            stamps.put(Stamps::place(flow.0, psn), frame, now);
        }
    }

    /// What becomes of an arrived frame: true when the host is to have it.
    fn sort(&mut self, now: Time, sharp: bool, frame: &mut P::Frame) -> bool {
        let bytes = u64::from(frame.len().0.max(60)) + 4;
        self.stats.rx_frames += 1;
        self.stats.rx_bytes += bytes;
        match fast::parse(frame.head(), frame.len()) {
            Ok(f) if f.kind == Kind::Roce && f.dest_qp == PROBE_QPN => {
                let ours = self.who.ips.iter().any(|ip| IpKey::from(*ip) == f.dst);
                if ours && self.probes.len() < PROBES_MAX {
                    self.probes.push(Probe {
                        at: now,
                        number: f.psn,
                        dscp: f.dscp,
                        ecn: f.ecn,
                        pcp: f.vlan.map(|v| v.pcp),
                        intact: frame.wire_bytes().is_some_and(|b| icrc::verify(b) == Ok(true)),
                    });
                }
                false
            }
            Ok(f) if f.kind == Kind::Roce => {
                let known = self.stamps.as_ref().is_some_and(|s| s.restore(&f, frame));
                if known {
                    self.seen.frame(now.since(frame.meta().start), sharp, bytes, f.ecn == 3);
                } else {
                    let m = frame.meta_mut();
                    (m.intended, m.start) = (now, now);
                    self.stats.unstamped += u64::from(f.payload_len > 0);
                }
                true
            }
            Ok(f) if f.kind == Kind::Pfc => {
                self.stats.pfc_seen += 1;
                let pause = PfcFrame::parse(frame.head(), frame.len());
                let quanta = |i: u8| pause.as_ref().and_then(|p| p.quanta_of(i));
                for (i, until) in (0u8..8).zip(&mut self.held_until) {
                    *until = quanta(i).map_or(*until, |q| now + self.timing.rate().quanta(q));
                }
                if (0..8).any(|i| quanta(i).is_some_and(|q| q > 0)) {
                    self.stats.xoff_backlog = self.stats.xoff_backlog.max(self.free_at.since(now));
                }
                self.pfc == PfcMode::Software
            }
            _ => {
                let head = &frame.head()[..usize::from(frame.len().0).min(HEAD_MAX)];
                match neighbour::parse(head) {
                    Some(Neighbour::Asks { ip, mac, target }) if self.who.ips.contains(&target) => {
                        let (us, vlan) = (self.who.mac, self.who.vlan);
                        self.stats.answered += 1;
                        self.speak(|head| neighbour::tell(head, vlan, us, target, (mac, ip)));
                    }
                    Some(Neighbour::Tells { ip, mac }) => {
                        match self.told.iter().position(|(i, _)| *i == ip) {
                            Some(at) => self.told[at].1 = mac,
                            None if self.told.len() < TOLD_MAX => self.told.push((ip, mac)),
                            None => {}
                        }
                    }
                    Some(_) => {}
                    None => self.stats.other += 1,
                }
                false
            }
        }
    }
}

impl<P: Port, L: FramePool<Frame = P::Frame>> Port for LabPort<P, L> {
    type Frame = P::Frame;

    fn rx_burst(&mut self, out: &mut Burst<P::Frame>) -> usize {
        let before = out.len();
        let room = out.remaining_capacity();
        let taken = self.device.rx_burst(out);
        if taken == 0 {
            // Seen empty after the turn began: good enough, and no clock is read for it.
            self.emptied_at = self.emptied_at.max(self.turn_began());
            self.flush();
            return 0;
        }
        let now = self.clock.now();
        // As exact as what is handed over ahead of the wire.
        let sharp = now.since(self.emptied_at) <= self.backlog;
        if taken < room {
            self.emptied_at = now;
        }
        let mut others = false;
        for frame in &mut out[before..] {
            let (mut at, mut sharp) = (now, sharp);
            if self.stamps_arrivals
                && let Some(tick) = self.device.arrived_at(frame)
            {
                // However long we were away, this is when it came.
                (at, sharp) = (self.clock.at(tick).min(now), true);
                self.stats.stamped += 1;
            }
            frame.meta_mut().arrive = at;
            let ours = self.sort(at, sharp, frame);
            // Who is not for the host is marked, and taken out afterwards: rare.
            if !ours {
                frame.meta_mut().driver = OTHERS;
                others = true;
            }
        }
        if others {
            let all = std::mem::take(out);
            for (i, frame) in all.into_iter().enumerate() {
                if i >= before && frame.meta().driver == OTHERS {
                    self.pool.give(frame);
                } else {
                    out.push(frame);
                }
            }
        }
        self.flush();
        out.len() - before
    }

    fn tx_room(&mut self) -> usize {
        if self.silent {
            return 0;
        }
        let ahead = self.free_at.since(self.turn_began());
        if self.down {
            return if ahead == Span::ZERO { BURST } else { 0 };
        }
        if ahead == Span::ZERO {
            return self.device.tx_room().min(((self.backlog.0 / self.frame_time.0.max(1)) as usize).max(1));
        }
        let room = self.backlog.0.saturating_sub(ahead.0) / self.frame_time.0.max(1);
        self.device.tx_room().min(room as usize)
    }

    fn tx_burst(&mut self, batch: &mut TxBatch<P::Frame>) -> usize {
        if self.silent { 0 } else { self.hand_over(batch) }
    }

    fn wait(&mut self, at_most: Span) {
        self.device.wait(at_most);
    }

    fn caps(&self) -> PortCaps {
        self.device.caps()
    }
}
