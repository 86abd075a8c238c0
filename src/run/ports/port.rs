//! A device as the driver sees it: paced to the rate of the wire, answering neighbours, with both stamps of every frame.
//!
//! **Backlog.** What a device has taken cannot be held back when a pause comes, and a full transmit ring is far more than
//! the headroom of a switch. So the wire is reckoned here: every frame handed over keeps it busy for its time at the
//! port's rate, and no more is handed over than `backlog` ahead of it. That paces the port as well.
//!
//! **Times.** A device that sends frames at given times gets those of streams [`LabPort::ahead`] before theirs ([`pace`]).
//!
//! **Stamps.** Both times of a data frame travel in its payload ([`super::stamp`]). `start` is the moment the frame is
//! handed over: what the device holds back, at most the backlog, is part of the network's delay.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::asked::Asked;
use super::pace::Given;
use super::seen::{Seen, WireStats};
use super::siblings::{News, Siblings};
use super::stamp::Stamper;
use crate::frame::{Arrived, Burst, Fill, Frame, FramePool, Port, PortCaps, STAMPED, TxBatch, flags};
use crate::limits::BURST;
use crate::plan::lab::PfcMode;
use crate::run::realtime::TX_BURSTS;
use crate::sys::tsc::{Tsc, ticks};
use crate::units::{FrameLen, LinkTiming, Span, Time};
use crate::wire::fast::{self, Fast, IpKey, Kind};
use crate::wire::headers::{Deth, Ext, Opcode};
use crate::wire::icrc;
use crate::wire::neighbour::{self, Neighbour};
use crate::wire::pfc::{PfcFrame, global_pause};
use crate::wire::stamp::Signature;
use crate::wire::template::{BthFields, Template, bth_offset};
use crate::wire::{HEAD_MAX, be32, psn};

/// Answers to neighbours that wait for room.
pub(super) const ANSWERS_MAX: usize = BURST;
/// Neighbours remembered.
const TOLD_MAX: usize = 1 << 16;

/// Queue pair of probes: behind ours, before those of streams.
const PROBE_QPN: u32 = 0x00ef_fff0;
/// Their queue key, which is not a privileged one.
const PROBE_QKEY: u32 = 0x0072_7370;
/// Frames are never held for longer than this: more than any worker makes them ahead of their time.
const AHEAD_MAX: Span = Span::from_us(1);
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

    /// The tick at this time.
    #[inline]
    pub fn tick_of(&self, at: Time) -> u64 {
        self.origin.saturating_add(self.tsc.ticks_in(at.since(Time::ZERO)))
    }

    /// The time at this tick.
    #[inline]
    pub fn at(&self, tick: u64) -> Time {
        Time::ZERO + self.tsc.span(tick.saturating_sub(self.origin))
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
    pub(super) clock: Clock,
    /// The reckoned wire is busy until then.
    free_at: Time,
    /// Where the device sends frames of streams at given times: so long after those they are meant for. Zero elsewhere.
    pub ahead: Span,
    /// The last of these times.
    pub(super) paced_until: Time,
    /// When the device had nothing more for us: what comes later has arrived since.
    emptied_at: Time,
    /// What came last waited for us for no longer than the backlog lasts.
    sharp: bool,
    /// `None` where nothing ever arrives.
    pub(super) stamps: Option<Stamper>,
    /// Packets whose acknowledgements are awaited.
    pub asked: Asked,
    /// The device says when a frame came.
    stamps_arrivals: bool,
    /// When the last burst was taken in.
    taken_at: Time,
    answers: TxBatch<P::Frame>,
    /// Streams' frames have this number or a higher one as their `flow`.
    pub(super) streams_from: u32,
    /// How late the oldest stream's frame of each burst of the turn was handed over.
    pub lateness: ArrayVec<Span, TX_BURSTS>,
    /// Time in which frames were held, as they had been made ahead of theirs; for the owner to take.
    pub held: Span,
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
    /// What this queue shares with others of its port; `None` where it is the only one.
    pub siblings: Option<Box<Siblings<P::Frame>>>,
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
    pub fn new(device: P, pool: L, wire: Wire, stamps: Option<Stamper>) -> LabPort<P, L> {
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
            ahead: Span::ZERO,
            paced_until: Time::ZERO,
            emptied_at: Time::ZERO,
            sharp: false,
            taken_at: Time::ZERO,
            stamps,
            asked: Asked::default(),
            answers: TxBatch::new(),
            streams_from: wire.streams_from,
            lateness: ArrayVec::new(),
            held: Span::ZERO,
            told: Vec::new(),
            stats: WireStats::default(),
            seen: Seen::new(),
            probes: Vec::new(),
            held_until: [Time::ZERO; 8],
            silent: false,
            turn_at: Time::ZERO,
            down: false,
            siblings: None,
        }
    }

    /// What its stamps have in common, for hosts that write them into every frame; `None` where not every frame has one.
    pub fn signature(&self) -> Option<Signature> {
        self.stamps.as_ref().and_then(Stamper::signature)
    }

    /// Starts the port's time again at `origin`.
    pub fn clock_from(&mut self, origin: u64) {
        self.clock.origin = origin;
        (self.free_at, self.paced_until) = (Time::ZERO, Time::ZERO);
        if let Some(s) = &mut self.siblings {
            s.clock_from();
        }
        self.emptied_at = Time::ZERO;
    }

    /// Asks who has `target`.
    pub fn ask(&mut self, from: IpAddr, target: IpAddr) {
        let who = (self.who.mac, self.who.vlan);
        self.speak(|head| neighbour::ask(head, who.1, who.0, from, target));
    }

    /// Tells `to`, or all for an unspecified address, that `ours` lives here.
    pub fn announce(&mut self, ours: IpAddr, to: IpAddr) {
        let who = (self.who.mac, self.who.vlan);
        self.speak(|head| neighbour::tell(head, who.1, who.0, ours, ([0xff; 6], to)));
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

    /// Until when the wire is reckoned to be busy.
    #[inline]
    pub fn free_at(&self) -> Time {
        self.siblings.as_ref().map_or(self.free_at, |s| s.free_at())
    }

    /// Frames handed over at `now` keep the wire busy for `span`.
    #[inline]
    fn occupy(&mut self, now: Time, span: Span) {
        match &mut self.siblings {
            None => self.free_at = self.free_at.max(now) + span,
            Some(s) => s.occupy(now, span),
        }
    }

    /// Begins a turn at `now`. Pauses that came to other queues of the port since the last one, as priority and quanta left.
    #[inline]
    pub fn begin_turn(&mut self, now: Time) -> Option<News> {
        self.turn_at = now;
        self.siblings.is_some().then(|| self.begin_shared_turn(now))?
    }

    #[inline(never)]
    fn begin_shared_turn(&mut self, now: Time) -> Option<News> {
        let s = self.siblings.as_mut()?;
        s.begin_turn(now, self.backlog + self.ahead);
        let (news, leaving) = s.pauses(now, self.timing.rate()).filter(|_| self.pfc == PfcMode::Software)?;
        if news.iter().any(|(_, quanta)| *quanta > 0) {
            self.stats.xoff_backlog = self.stats.xoff_backlog.max(leaving);
        }
        Some(news)
    }

    /// Frames that came to other queues and belong here. They may have waited for either worker: how long they took says
    /// nothing about the way.
    #[inline(never)]
    fn take_over(&mut self, out: &mut Burst<P::Frame>) -> usize {
        let before = out.len();
        let taken = self.siblings.as_mut().map_or(0, |s| s.take(out));
        if taken > 0 {
            (self.taken_at, self.sharp) = (self.clock.now(), false);
            out[before..].iter_mut().for_each(|f| f.meta_mut().arrive = self.taken_at);
        }
        taken
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
            let TxBatch { control, data, .. } = &mut self.answers;
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

    /// Frames that were made ahead of their time are held until it comes, which is at most [`AHEAD_MAX`] away.
    fn hand_over(&mut self, batch: &mut TxBatch<P::Frame>) -> usize {
        let mut now = self.clock.now();
        if let Some(start) = batch.control.first().or(batch.data.first()).map(|f| f.meta().start)
            && start > now
        {
            let (from, start) = (now, start.min(now + AHEAD_MAX));
            while now < start {
                now = self.clock.now();
            }
            self.held += now.since(from);
        }
        if self.down {
            return self.lose(now, batch);
        }
        let mut given = Given::nothing(now);
        if self.ahead == Span::ZERO {
            given.stamped = self.stamp(now, batch);
        } else {
            given = self.pace(now, batch);
        }
        if let Some(m) = batch.data.first().map(Frame::meta).filter(|m| m.flow >= self.streams_from) {
            let _ = self.lateness.try_push(now.since(m.intended + self.ahead));
        }
        let (span, bytes) = self.on_wire(batch);
        let sent = self.device.tx_burst(batch);
        let (mut left, mut left_bytes) = (Span::ZERO, 0);
        if !batch.is_empty() {
            (left, left_bytes) = self.on_wire(batch);
            self.stats.refused += 1;
            let refused = batch.control.iter().chain(&batch.data);
            let again = refused.filter(|f| Stamper::is_timed(*f)).count() as u64;
            given.stamped = given.stamped.saturating_sub(again);
        }
        if sent > 0 {
            self.occupy(given.last, Span(span.0 - left.0));
        }
        self.stats.tx_frames += sent as u64;
        self.stats.tx_bytes += bytes - left_bytes;
        self.stats.tx_stamped += given.stamped;
        self.stats.tx_paced += given.paced_of(sent);
        sent
    }

    /// Sends into a link that is down.
    #[cold]
    fn lose(&mut self, now: Time, batch: &mut TxBatch<P::Frame>) -> usize {
        let lost = batch.frames();
        self.occupy(now, self.on_wire(batch).0);
        for f in batch.control.drain(..).chain(batch.data.drain(..)) {
            self.pool.give(f);
        }
        self.stats.lost_down += lost as u64;
        lost
    }

    /// How long the frames of a batch keep the wire busy, and their bytes with FCS.
    #[inline]
    fn on_wire(&self, batch: &TxBatch<P::Frame>) -> (Span, u64) {
        let (mut span, mut bytes) = (Span::ZERO, 0);
        let mut count = |len: FrameLen, n: usize| {
            span += Span(self.timing.wire_time(len).0 * n as u64);
            bytes += n as u64 * len.counted();
        };
        let mut data = &batch.data[..];
        if let Some(len) = batch.data_len() {
            count(len, data.len());
            data = &[];
        }
        for mut frames in [&batch.control[..], data] {
            // Most frames are as long as the one before.
            while let Some(len) = frames.first().map(Frame::len) {
                let n = frames.iter().position(|f| f.len() != len).unwrap_or(frames.len());
                count(len, n);
                frames = frames.get(n..).unwrap_or_default();
            }
        }
        (span, bytes)
    }

    /// Stamps data frames: all of them, or those that are selected. Returns how many have a stamp.
    #[inline]
    fn stamp(&mut self, now: Time, batch: &mut TxBatch<P::Frame>) -> u64 {
        let Some(stamps) = &self.stamps else { return 0 };
        if !stamps.every().all() {
            return self.stamp_selected(now, batch);
        }
        let mut together = stamps.together(now);
        let mut stamped = 0;
        for frame in &mut batch.data {
            // Most of them, and their hosts have said that they ask for nothing.
            let plain = frame.meta().driver == STAMPED;
            if !plain && frame.meta().flags & flags::DATA == 0 {
                continue;
            }
            stamped += u64::from(stamps.write(&mut together, frame));
            if !plain && frame.meta().flow < self.streams_from {
                self.asked.sent(now, frame);
            }
        }
        stamped
    }

    /// As [`LabPort::stamp`] where not every frame has a stamp. A frame without one costs a look at its PSN.
    #[inline(never)]
    fn stamp_selected(&mut self, now: Time, batch: &mut TxBatch<P::Frame>) -> u64 {
        let Some(stamps) = &self.stamps else { return 0 };
        let (mut together, every) = (stamps.together(now), stamps.every());
        let mut stamped = 0;
        for frame in &mut batch.data {
            let m = frame.meta();
            if m.flags & flags::DATA == 0 {
                continue;
            }
            let of_qp = m.flow < self.streams_from;
            let head = frame.head();
            if every.has(be32(head, bth_offset(head) + 8) & psn::MASK) {
                stamped += u64::from(stamps.write(&mut together, frame));
            }
            if of_qp {
                self.asked.sent(now, frame);
            }
        }
        stamped
    }

    /// Takes over what the stamp of a frame says; false when it has none of this run.
    #[inline(always)]
    fn read_stamp(&mut self, (at, payload_len): (u8, u16), ecn: u8, frame: &mut P::Frame) -> bool {
        let arrive = frame.meta().arrive;
        let stamps = self.stamps.as_ref();
        let stamp = stamps.and_then(|s| s.read(self.taken_at, frame.head(), at.into(), payload_len));
        let Some(stamp) = stamp else {
            let m = frame.meta_mut();
            (m.intended, m.start) = (Time::NEVER, Time::NEVER);
            return false;
        };
        let sharp = self.sharp || arrive < self.taken_at;
        self.seen.frame(arrive.since(stamp.wire_out), sharp, frame.len().counted(), ecn == 3);
        let m = frame.meta_mut();
        (m.intended, m.start) = (stamp.intended, stamp.wire_out);
        (m.src, m.flow) = (stamp.port.into(), stamp.sender);
        true
    }

    /// Keeps a probe that is for us.
    #[cold]
    fn probed(&mut self, now: Time, f: &Fast, frame: &P::Frame) {
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
    }

    /// A frame about neighbours, or of no interest.
    fn heard(&mut self, frame: &P::Frame) {
        let head = &frame.head()[..usize::from(frame.len().0).min(HEAD_MAX)];
        match neighbour::parse(head) {
            Some(Neighbour::Asks { ip, mac, target }) if self.who.ips.contains(&target) => {
                let (us, vlan) = (self.who.mac, self.who.vlan);
                self.stats.answered += 1;
                self.speak(|head| neighbour::tell(head, vlan, us, target, (mac, ip)));
            }
            Some(Neighbour::Tells { ip, mac }) => match self.told.iter().position(|(i, _)| *i == ip) {
                Some(at) => self.told[at].1 = mac,
                None if self.told.len() < TOLD_MAX => self.told.push((ip, mac)),
                None => {}
            },
            Some(_) => {}
            None => self.stats.other += 1,
        }
    }
}

impl<P: Port, L: FramePool<Frame = P::Frame>> Port for LabPort<P, L> {
    type Frame = P::Frame;

    /// As [`Port::rx_raw`] where no host is behind the port yet: what none would get is given back.
    fn rx_burst(&mut self, out: &mut Burst<P::Frame>) -> usize {
        let before = out.len();
        if self.rx_raw(out) == 0 {
            return 0;
        }
        let all = std::mem::take(out);
        for (i, mut frame) in all.into_iter().enumerate() {
            let now = frame.meta().arrive;
            let keep = i < before
                || match fast::parse(frame.head(), frame.len()) {
                    Ok(f) if f.kind == Kind::Roce => self.admit(now, &f, &mut frame),
                    _ => self.admit_other(now, &mut frame),
                };
            if keep {
                out.push(frame);
            } else {
                self.pool.give(frame);
            }
        }
        self.flush();
        out.len() - before
    }

    fn rx_raw(&mut self, out: &mut Burst<P::Frame>) -> usize {
        let before = out.len();
        let room = out.remaining_capacity();
        if let Some(s) = &mut self.siblings {
            if s.inbox_first() {
                return self.take_over(out);
            }
            if !s.deliver() {
                return 0;
            }
        }
        let clock = self.clock;
        let arrived = self.device.rx_timed(out, || clock.now());
        self.flush();
        let Some(Arrived { frames: taken, bytes, at: now }) = arrived else {
            // Seen empty after the turn began: good enough, and no clock is read for it.
            self.emptied_at = self.emptied_at.max(self.turn_began());
            return 0;
        };
        self.taken_at = now;
        // As exact as what is handed over ahead of the wire.
        self.sharp = now.since(self.emptied_at) <= self.backlog;
        if taken < room {
            self.emptied_at = now;
        }
        if self.stamps_arrivals {
            for frame in &mut out[before..] {
                if let Some(tick) = self.device.arrived_at(frame) {
                    // However long we were away, this is when it came.
                    frame.meta_mut().arrive = self.clock.at(tick).min(now);
                    self.stats.stamped += 1;
                }
            }
        }
        self.stats.rx_frames += taken as u64;
        self.stats.rx_bytes += bytes;
        if let Some(s) = &mut self.siblings {
            s.sort(out, before);
        }
        out.len() - before
    }

    #[inline(always)]
    fn admit(&mut self, _now: Time, f: &Fast, frame: &mut P::Frame) -> bool {
        // The device's stamp, where it has one.
        let at = frame.meta().arrive;
        if f.dest_qp == PROBE_QPN {
            // Copies, so that what is read of it of most frames never goes to memory.
            self.probed(at, &{ *f }, frame);
            return false;
        }
        if !self.read_stamp((f.head_len(), f.payload_len), f.ecn, frame) {
            if f.payload_len > 0 {
                self.stats.unstamped += 1;
            } else if f.opcode == Opcode::RcAck as u8 {
                let positive = f.aeth(frame.head()).is_some_and(|a| a.syndrome >> 5 == 0);
                self.asked.answered(at, f.dest_qp, f.psn, positive);
            }
        }
        true
    }

    #[inline(always)]
    fn admit_middle(&mut self, payload: (u8, u16), ecn: u8, frame: &mut P::Frame) -> bool {
        if !self.read_stamp(payload, ecn, frame) {
            self.stats.unstamped += 1;
        }
        true
    }

    #[inline(always)]
    fn admit_ack(&mut self, dest_qp: u32, psn: u32, frame: &P::Frame) -> bool {
        self.asked.answered(frame.meta().arrive, dest_qp, psn, true);
        true
    }

    #[cold]
    fn admit_other(&mut self, now: Time, frame: &mut P::Frame) -> bool {
        match fast::parse(frame.head(), frame.len()) {
            Ok(f) if f.kind == Kind::Pfc => {
                self.stats.pfc_seen += 1;
                let pause = PfcFrame::parse(frame.head(), frame.len());
                let quanta = |i: u8| pause.as_ref().and_then(|p| p.quanta_of(i));
                for (i, until) in (0u8..8).zip(&mut self.held_until) {
                    *until = quanta(i).map_or(*until, |q| now + self.timing.rate().quanta(q));
                }
                if (0..8).any(|i| quanta(i).is_some_and(|q| q > 0)) {
                    self.stats.xoff_backlog = self.stats.xoff_backlog.max(self.free_at().since(now));
                }
                if let Some(s) = &mut self.siblings {
                    let link = || global_pause(frame.head(), frame.len());
                    let link = || link().map(|q| PfcFrame { enable: u8::MAX, quanta: [q; 8] });
                    if let Some(pause) = pause.or_else(link) {
                        s.tell(now, &pause, self.timing.rate());
                    }
                }
                self.pfc == PfcMode::Software
            }
            _ => {
                self.heard(frame);
                false
            }
        }
    }

    fn tx_room(&mut self) -> usize {
        if self.silent {
            return 0;
        }
        let ahead = self.free_at().since(self.turn_began());
        if self.down {
            return if ahead == Span::ZERO { BURST } else { 0 };
        }
        let room = Span((self.backlog + self.ahead).0.saturating_sub(ahead.0));
        let room = self.siblings.as_ref().map_or(room, |s| s.part(room, self.frame_time));
        let frames = (room.0 / self.frame_time.0.max(1)) as usize;
        self.device.tx_room().min(if ahead == Span::ZERO { frames.max(1) } else { frames })
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
