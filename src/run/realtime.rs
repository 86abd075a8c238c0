//! The real-time driver: one host on one port, by the time stamp counter.
//!
//! One turn reads the counter once, takes what has arrived, asks the host what may leave, and hands that to the port.
//! Frames the port refuses are kept and go first with the next turn: none is lost here. Time is never stretched; what
//! the machine is late by is counted instead ([`RealtimeStats`]).

use std::collections::VecDeque;

use super::engine::Tee;
use crate::frame::fault::FaultLine;
use crate::frame::{Burst, Fill, Frame, FramePool, Port, TxBatch};
use crate::host::{Host, Streaks};
use crate::limits::BURST;
use crate::measure::record::Record;
use crate::sys::signals::StopFlag;
use crate::sys::tsc::{Tsc, ticks};
use crate::units::{Span, Time};
use crate::wire::fast::{self, Kind};
use crate::wire::icrc;
use crate::wire::neighbour::Own;

/// Longest sleep of an idle turn: how soon a stop flag is seen.
const WAIT_MAX: Span = Span::from_ms(10);
/// How many frames ahead of its turn a received frame is announced to its host.
const EXPECT_FRAMES: usize = 4;
/// Sleep while the port refuses frames: a few of them leave in that time at 100 Mbit/s.
const WAIT_REFUSED: Span = Span::from_us(20);

/// Most bursts that leave in one turn, and most that are taken in.
pub(super) const TX_BURSTS: usize = 4;
const RX_BURSTS: usize = 4;

/// How well the machine kept up, and what the port did not take.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RealtimeStats {
    /// Turns of the loop.
    pub turns: u64,
    /// Frames handed to the port.
    pub tx_frames: u64,
    /// Frames taken from the port.
    pub rx_frames: u64,
    /// Turns that ended with frames the port had refused; they were sent later.
    pub tx_refused: u64,
    /// RoCEv2 frames received with a wrong ICRC: dropped.
    pub rx_icrc_errors: u64,
    /// Questions for our MAC answered.
    pub neighbour_answers: u64,
    /// Frames dropped on purpose (faults).
    pub fault_drops: u64,
    /// Deadlines of the host that were met late, by any span.
    pub late: u64,
    /// Latest of them.
    pub late_max: Span,
    /// Sum over all of them, for the mean.
    pub late_total: Span,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The caller had what it wanted.
    Done,
    /// The time was over.
    TimeOver,
    /// The stop flag was raised.
    Stopped,
}

/// What stands between host and port, besides time.
pub struct Between<F> {
    /// Our address, for whoever asks for its MAC (ARP, neighbour discovery).
    pub neighbour: Option<Own>,
    /// Check the ICRC of what arrives. Not needed where the device does.
    pub check_icrc: bool,
    /// Faults on what is sent.
    pub tx_faults: Option<FaultLine<F>>,
    /// Faults on what arrives, before its ICRC is checked.
    pub rx_faults: Option<FaultLine<F>>,
    /// Capture of both directions, as on the wire.
    pub tee: Option<Box<dyn Tee<F>>>,
}

impl<F> Between<F> {
    /// Checks the ICRC and nothing else.
    pub fn checked() -> Between<F> {
        Between { neighbour: None, check_icrc: true, tx_faults: None, rx_faults: None, tee: None }
    }
}

/// A host, its port, and the clock.
pub struct Realtime<P: Port, L: FramePool<Frame = P::Frame>> {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: P,
    pool: L,
    tsc: Tsc,
    origin: u64,
    between: Between<P::Frame>,
    /// Asked for and not taken by the port yet.
    batch: TxBatch<P::Frame>,
    /// Came out of the faults of the sending side and not yet in `batch`.
    spoilt: VecDeque<P::Frame>,
    /// What comes in one behind the other.
    streaks: Streaks,
    /// How far ahead of its time a frame may be made: [`Realtime::make_ahead`].
    lead: Span,
    /// What the host has been told of the time.
    reached: Time,
    stats: RealtimeStats,
}

impl<P: Port, L: FramePool<Frame = P::Frame>> Realtime<P, L> {
    /// Time zero is now.
    pub fn new(host: Host, port: P, pool: L, tsc: Tsc, between: Between<P::Frame>) -> Realtime<P, L> {
        Realtime {
            host,
            port,
            pool,
            tsc,
            origin: ticks(),
            between,
            batch: TxBatch::new(),
            spoilt: VecDeque::new(),
            streaks: Streaks::default(),
            lead: Span::ZERO,
            reached: Time::ZERO,
            stats: RealtimeStats::default(),
        }
    }

    /// Time since the start.
    #[inline]
    pub fn now(&self) -> Time {
        Time::ZERO + self.tsc.span(ticks().wrapping_sub(self.origin))
    }

    /// Time zero is at `origin` ticks.
    pub fn clock_from(&mut self, origin: u64) {
        self.origin = origin;
    }

    /// Frames whose time is no further away than `lead` are made at once, for a port that holds them until then.
    pub fn make_ahead(&mut self, lead: Span) {
        self.lead = lead;
    }

    /// Counters since the start.
    pub fn stats(&self) -> &RealtimeStats {
        &self.stats
    }

    /// Takes turns until `done` says so, `until` is over or the flag is raised. `done` is asked once per turn, after
    /// the frames of the turn.
    pub fn run<R: Record>(
        &mut self,
        until: Time,
        stop: &StopFlag,
        rec: &mut R,
        mut done: impl FnMut(Time, &mut Host, &mut R) -> bool,
    ) -> Ended {
        loop {
            let now = self.now();
            let moved = self.turn(now, rec);
            if done(now, &mut self.host, rec) {
                return Ended::Done;
            }
            if now >= until {
                return Ended::TimeOver;
            }
            if stop.is_raised() {
                return Ended::Stopped;
            }
            if !self.batch.is_empty() {
                self.port.wait(WAIT_REFUSED);
            } else if !moved {
                let line = |l: &Option<FaultLine<P::Frame>>| l.as_ref().map_or(Time::NEVER, FaultLine::next);
                let held = line(&self.between.tx_faults).min(line(&self.between.rx_faults));
                let next = self.host.next_deadline().min(held).min(until);
                self.port.wait(next.since(now).min(WAIT_MAX));
            }
        }
    }

    /// One turn at `now`; false when nothing moved.
    pub fn turn(&mut self, now: Time, rec: &mut impl Record) -> bool {
        self.stats.turns += 1;
        let due = self.host.next_deadline();
        if due != Time::ZERO && due < now {
            let late = now.since(due);
            self.stats.late += 1;
            self.stats.late_max = self.stats.late_max.max(late);
            self.stats.late_total += late;
        }
        // What arrived may have left another core after the turn began: nothing is handled before it was sent.
        let (mut now, mut received, mut taken) = (now.max(self.reached), false, BURST);
        for _ in 0..RX_BURSTS {
            if taken < BURST {
                break;
            }
            let moved;
            (moved, taken, now) = self.receive(now, rec);
            received |= moved;
        }
        if !received {
            let due = self.host.next_deadline();
            now = if due.since(now) <= self.lead { now.max(due) } else { now };
        }
        self.reached = now;
        let mut sent = self.send(now, rec);
        let mut moved = received || sent > 0;
        // Without arrivals that wait for their turn, a few bursts leave in one: full ones, and without any arrivals single
        // frames that are so near that they are made at once as well.
        for _ in 1..TX_BURSTS {
            let due = self.host.next_deadline();
            match sent {
                _ if taken == BURST => break,
                BURST => {}
                1 if !received && due > now && due.since(now) <= self.lead => now = due,
                _ => break,
            }
            self.reached = now;
            sent = self.send(now, rec);
            moved |= sent > 0;
        }
        moved
    }

    /// Takes a burst of what has arrived; says whether anything has moved, how many frames the port gave, and the time
    /// afterwards.
    fn receive(&mut self, mut now: Time, rec: &mut impl Record) -> (bool, usize, Time) {
        let mut moved = false;
        while let Some(mut frame) = self.between.rx_faults.as_mut().and_then(|l| l.poll(now)) {
            self.hand_over(now, &mut frame, rec);
            self.pool.give(frame);
            moved = true;
        }
        let mut rx = Burst::new();
        if self.port.rx_raw(&mut rx) == 0 {
            return (moved, 0, now);
        }
        let taken = rx.len();
        self.stats.rx_frames += taken as u64;
        // Ports that read the clock when they take a burst say so.
        now = rx.first().map_or(now, |f| f.meta().arrive.max(now));
        rx.iter().take(EXPECT_FRAMES).for_each(|f| self.host.expect(f));
        let plain = self.between.tee.is_none() && self.between.rx_faults.is_none();
        for i in 0..rx.len() {
            if let Some(soon) = rx.get(i + EXPECT_FRAMES) {
                self.host.expect(soon);
            }
            let Some(frame) = rx.get_mut(i) else { break };
            if frame.meta().arrive == Time::ZERO {
                frame.meta_mut().arrive = now;
            }
            if plain && !self.hand_over_usual(now, frame, rec) {
                self.hand_over(now, frame, rec);
            }
        }
        if plain {
            self.host.count_streaks(&mut self.streaks);
            self.pool.give_many(&mut rx);
        } else {
            rx.drain(..).for_each(|frame| self.pass(now, frame, rec));
        }
        (true, taken, now)
    }

    /// Hands over a received frame by way of the capture and the faults.
    #[cold]
    fn pass(&mut self, now: Time, mut frame: P::Frame, rec: &mut impl Record) {
        if let Some(tee) = &mut self.between.tee {
            tee.frame(now, &frame);
        }
        let Some(line) = &mut self.between.rx_faults else {
            self.hand_over(now, &mut frame, rec);
            return self.pool.give(frame);
        };
        let passed = line.pass(now, frame, &mut self.pool);
        if let Some(lost) = passed.lost {
            self.stats.fault_drops += 1;
            self.pool.give(lost);
        }
        for mut frame in passed.on {
            self.hand_over(now, &mut frame, rec);
            self.pool.give(frame);
        }
    }

    /// Most frames: the next of their queue pair in the middle of a message, and ACKs. False when it is another, and nothing
    /// has happened. To be counted when the burst is over.
    #[inline(always)]
    fn hand_over_usual(&mut self, now: Time, frame: &mut P::Frame, rec: &mut impl Record) -> bool {
        let Realtime { host, port, between, stats, streaks, .. } = self;
        host.on_streak(now, (port, frame), streaks, rec, |frame| is_right(between, stats, frame))
    }

    /// Hands over a frame, whatever it is.
    #[inline(never)]
    fn hand_over(&mut self, now: Time, frame: &mut P::Frame, rec: &mut impl Record) {
        match fast::parse_usual(frame.head(), frame.len()) {
            Some(f) => {
                if is_right(&self.between, &mut self.stats, frame) && self.port.admit(now, &f, frame) {
                    self.host.on_parsed(now, &f, frame, rec);
                }
            }
            None => self.hand_over_other(now, frame, rec),
        }
    }

    /// A frame that is not RoCEv2 over untagged IPv4.
    #[inline(never)]
    fn hand_over_other(&mut self, now: Time, frame: &mut P::Frame, rec: &mut impl Record) {
        match fast::parse(frame.head(), frame.len()) {
            Ok(f) if f.kind == Kind::Roce => {
                if is_right(&self.between, &mut self.stats, frame) && self.port.admit(now, &f, frame) {
                    self.host.on_parsed(now, &f, frame, rec);
                }
            }
            _ if self.answer(frame) || !self.port.admit_other(now, frame) => {}
            _ => self.host.on_frame(now, frame, rec),
        }
    }

    /// Answers a question for our MAC; false when the frame is none. Without room the asker asks again.
    fn answer(&mut self, frame: &P::Frame) -> bool {
        let Some(neighbour) = self.between.neighbour else { return false };
        let mut head = [0; crate::wire::HEAD_MAX];
        let len = frame.wire_bytes().and_then(|bytes| neighbour.answer(bytes, &mut head));
        let Some(len) = len else { return false };
        if !self.batch.control.is_full()
            && let Some(mut answer) = self.pool.take(Fill::Control, len)
        {
            *answer.head_mut() = head;
            answer.meta_mut().head_len = len.0 as u8;
            self.pool.seal(&mut answer);
            self.batch.control.push(answer);
            self.stats.neighbour_answers += 1;
        }
        true
    }

    /// Says how many frames the port took.
    fn send(&mut self, now: Time, rec: &mut impl Record) -> usize {
        if self.batch.is_empty() && self.spoilt.is_empty() {
            let room = self.port.tx_room().min(BURST);
            self.host.poll_tx(now, room, &mut self.pool, &mut self.batch, rec);
            if self.between.tx_faults.is_some() {
                self.spoil(now);
            }
        }
        while !self.batch.data.is_full()
            && let Some(frame) = self.spoilt.pop_front()
        {
            self.batch.data.push(frame);
        }
        if self.batch.is_empty() {
            return 0;
        }
        if let Some(tee) = &mut self.between.tee {
            // A refused frame is captured once: when it was first offered.
            for frame in self.batch.control.iter_mut().chain(self.batch.data.iter_mut()) {
                if frame.meta().driver == 0 {
                    frame.meta_mut().driver = 1;
                    tee.frame(now, frame);
                }
            }
        }
        let sent = self.port.tx_burst(&mut self.batch);
        self.stats.tx_frames += sent as u64;
        self.stats.tx_refused += u64::from(!self.batch.is_empty());
        sent
    }

    /// Sends the batch through the faults; what comes out waits in order in `spoilt`.
    #[cold]
    fn spoil(&mut self, now: Time) {
        let Some(line) = &mut self.between.tx_faults else { return };
        while let Some(held) = line.poll(now) {
            self.spoilt.push_back(held);
        }
        self.batch.forget_alike();
        let TxBatch { control, data, .. } = &mut self.batch;
        for frame in control.drain(..).chain(data.drain(..)) {
            let passed = line.pass(now, frame, &mut self.pool);
            if let Some(lost) = passed.lost {
                self.stats.fault_drops += 1;
                self.pool.give(lost);
            }
            self.spoilt.extend(passed.on);
        }
    }

    /// Ends the run: what waits is given back. The host and the port stay to be asked.
    pub fn finish(&mut self, rec: &mut impl Record) {
        let now = self.now();
        self.host.finish(now, rec);
        let lines = [self.between.tx_faults.as_mut(), self.between.rx_faults.as_mut()];
        let held: Vec<P::Frame> =
            lines.into_iter().flatten().flat_map(|l| l.drain().collect::<Vec<_>>()).collect();
        let TxBatch { control, data, .. } = std::mem::take(&mut self.batch);
        for frame in held.into_iter().chain(control).chain(data).chain(self.spoilt.drain(..)) {
            self.pool.give(frame);
        }
        self.between.tee = None;
    }
}

/// Whether the ICRC is right, where that is checked.
#[inline]
fn is_right<F: Frame>(between: &Between<F>, stats: &mut RealtimeStats, frame: &F) -> bool {
    let wrong =
        between.check_icrc && frame.wire_bytes().map(icrc::verify).is_some_and(|v| matches!(v, Ok(false)));
    stats.rx_icrc_errors += u64::from(wrong);
    !wrong
}
