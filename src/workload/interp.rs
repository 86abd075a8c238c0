//! Runs the program of one rank in one workload. A host tells it what started, finished and arrived and asks it what
//! to send next; the interpreter knows no packets and no clock but the `now` it is given.
//!
//! Operations of one rank do not compete: computations overlap, and all sends whose dependencies are met are posted
//! at once (the queue pairs order them). An importer whose source serialises work says so with dependencies.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;

use super::config::{Skew, WorkloadConfig};
use super::generate::Program;
use super::schedule::OpId;
use crate::measure::record::RankIteration;
use crate::rng::Rng;
use crate::units::{RankId, Span, Time};

/// A message to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Post {
    /// The operation: names the send in the calls that follow.
    pub op: OpId,
    /// Receiving rank.
    pub peer: RankId,
    /// Message size.
    pub bytes: u64,
    /// Tag for the receiver.
    pub tag: u32,
    /// When its dependencies were met.
    pub intended: Time,
}

/// Where a rank is in its iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the first iteration.
    Idle,
    /// Released, starts at this time (skew).
    Released(Time),
    /// Started.
    Running,
    /// Every operation finished.
    Finished,
}

/// The program of one rank in one workload, as it runs.
///
/// Allocates in [`Interp::new`] only. One exception, bounded by the messages of one vector and documented at
/// [`crate::workload::generate::ring`]: a ring rank that falls behind by more than its span of skew and reduction
/// explains grows its queue of received chunks. Cost per operation: O(1), plus O(log) of the computations in
/// progress and, in replays, of the rank's distinct (peer, tag) pairs.
#[derive(Debug)]
pub struct Interp {
    rank: RankId,
    /// Position in the workload's list of ranks.
    index: u32,
    skew: Skew,
    seed: u64,
    phase: Phase,
    failed: bool,
    unexpected: u64,
    it: RankIteration,
    agenda: Agenda,
    program: Program,
}

impl Interp {
    /// The program of `rank` in workload number `workload`; `None` when the rank has nothing to do in it.
    /// `cfg` has passed [`super::generate::check`].
    pub fn new(cfg: &WorkloadConfig, workload: u16, rank: RankId, seed: u64) -> Option<Interp> {
        let index = cfg.ranks.iter().position(|r| *r == rank)?;
        let program = Program::new(cfg, index)?;
        let (ready, calcs) = program.capacity();
        Some(Interp {
            rank,
            index: index as u32,
            skew: cfg.skew,
            seed,
            phase: Phase::Idle,
            failed: false,
            unexpected: 0,
            it: RankIteration {
                workload,
                iteration: 0,
                rank,
                released: Time::ZERO,
                first_byte: Time::NEVER,
                finished: Time::NEVER,
                waited_ps: 0,
            },
            agenda: Agenda::new(ready, calcs),
            program,
        })
    }

    /// Releases an iteration. The rank starts at `released` plus its skew, which depends on the seed, the workload,
    /// the rank and the iteration alone and is therefore the same in every driver.
    pub fn start(&mut self, iteration: u32, released: Time) {
        let at = released + self.skew_of(iteration);
        self.it = RankIteration {
            iteration,
            released,
            first_byte: Time::NEVER,
            finished: Time::NEVER,
            waited_ps: 0,
            ..self.it
        };
        self.failed = false;
        self.phase = Phase::Released(at);
        self.agenda.reset(at);
    }

    /// The next send whose dependencies are met by `now`; call until `None`. Ends computations that are over.
    pub fn poll(&mut self, now: Time) -> Option<Post> {
        self.advance(now);
        let (intended, op) = self.agenda.next_send()?;
        let (peer, bytes, tag) = self.program.message(op);
        Some(Post { op, peer, bytes, tag, intended })
    }

    /// The first bit of a send is on the wire (or its local delivery began).
    pub fn on_send_started(&mut self, now: Time, op: OpId) {
        self.advance(now);
        if self.it.first_byte == Time::NEVER {
            self.it.first_byte = now;
        }
        self.program.on_send_started(&mut self.agenda, now, op);
        self.close();
    }

    /// The last byte of a send is acknowledged.
    pub fn on_send_done(&mut self, now: Time, op: OpId) {
        self.advance(now);
        self.agenda.release(now);
        self.agenda.finish(now);
        self.program.on_send_done(&mut self.agenda, now, op);
        self.close();
    }

    /// A whole message arrived. It may come before its receive is reached, even before the rank has started.
    /// A message the program does not expect is counted ([`Interp::unexpected`]) and has no effect.
    pub fn on_recv(&mut self, now: Time, peer: RankId, tag: u32, bytes: u64) {
        self.advance(now);
        let started = self.phase == Phase::Running;
        if !self.program.on_recv(&mut self.agenda, now, started, peer, tag, bytes) {
            self.unexpected += 1;
        }
        self.close();
    }

    /// A send will never complete: this iteration of the rank cannot finish any more.
    pub fn on_failed(&mut self, now: Time, _op: OpId) {
        self.advance(now);
        self.failed = true;
        self.agenda.release(now);
    }

    /// When [`Interp::poll`] has something to do next without new data: the skewed start, the earliest end of a
    /// computation, or the past when sends are ready; `NEVER` when only data can wake the rank.
    pub fn next_deadline(&self) -> Time {
        match self.phase {
            Phase::Released(at) => at,
            Phase::Running => self.agenda.next_deadline(),
            Phase::Idle | Phase::Finished => Time::NEVER,
        }
    }

    /// Every operation of the iteration has finished.
    pub fn finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// A send of this iteration failed ([`Interp::on_failed`]).
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// The rank's share of the current iteration; complete once [`Interp::finished`].
    pub fn rank_iteration(&self) -> RankIteration {
        self.it
    }

    /// Number of the workload.
    pub fn workload(&self) -> u16 {
        self.it.workload
    }

    /// The rank.
    pub fn rank(&self) -> RankId {
        self.rank
    }

    /// Messages that arrived and that the program never asked for, over all iterations.
    pub fn unexpected(&self) -> u64 {
        self.unexpected
    }

    /// Bytes of memory of this interpreter, queues at their present capacity.
    pub fn bytes_in_memory(&self) -> usize {
        size_of::<Interp>() + self.agenda.heap_bytes() + self.program.heap_bytes()
    }

    /// Begins the iteration when its time has come, then ends computations in order of time.
    fn advance(&mut self, now: Time) {
        if let Phase::Released(at) = self.phase
            && at <= now
        {
            self.phase = Phase::Running;
            self.program.begin(&mut self.agenda, at);
            self.close();
        }
        if self.phase != Phase::Running {
            return;
        }
        while let Some((at, op)) = self.agenda.next_calc(now) {
            self.agenda.release(at);
            self.program.on_calc_done(&mut self.agenda, at, op);
            self.close();
        }
    }

    /// Ends the iteration once nothing is left.
    fn close(&mut self) {
        if self.phase == Phase::Running && self.agenda.left == 0 && !self.failed {
            self.phase = Phase::Finished;
            self.agenda.stop();
            self.it.finished = self.agenda.last;
            self.it.waited_ps = self.agenda.waited.0;
        }
    }

    fn skew_of(&self, iteration: u32) -> Span {
        match self.skew {
            Skew::Fixed(step) => Span(step.0.saturating_mul(u64::from(self.index))),
            Skew::Uniform(span) => {
                let stream =
                    u64::from(self.it.workload) << 52 | u64::from(iteration) << 20 | u64::from(self.rank.0);
                Span(Rng::new(self.seed, "skew", stream).below(span.0.saturating_add(1)))
            }
        }
    }
}

/// What a program has asked for and what is still open; the part of the interpreter that programs write to.
#[derive(Debug)]
pub(super) struct Agenda {
    /// Sends ready from the start of the iteration, by number, so that a thousand of them take no memory.
    first: Range<OpId>,
    first_at: Time,
    /// Sends ready since, in order of time.
    ready: VecDeque<(Time, OpId)>,
    /// Computations in progress, by end.
    calcs: BinaryHeap<Reverse<(Time, OpId)>>,
    /// Operations that have not finished.
    left: u64,
    /// Sends and computations in progress.
    busy: u64,
    idle_since: Time,
    waited: Span,
    /// When the latest operation finished.
    last: Time,
}

impl Agenda {
    fn new(ready: usize, calcs: usize) -> Agenda {
        Agenda {
            first: 0..0,
            first_at: Time::ZERO,
            ready: VecDeque::with_capacity(ready),
            calcs: BinaryHeap::with_capacity(calcs),
            left: 0,
            busy: 0,
            idle_since: Time::ZERO,
            waited: Span::ZERO,
            last: Time::ZERO,
        }
    }

    fn reset(&mut self, start: Time) {
        self.first = 0..0;
        self.ready.clear();
        self.calcs.clear();
        self.left = 0;
        self.busy = 0;
        self.idle_since = start;
        self.waited = Span::ZERO;
        self.last = start;
    }

    /// Sets the number of operations that must finish.
    pub(super) fn expect(&mut self, operations: u64) {
        self.left = operations;
    }

    /// Makes the sends with these numbers ready at the start of the iteration.
    pub(super) fn send_first(&mut self, at: Time, ops: Range<OpId>) {
        if !ops.is_empty() {
            self.occupy(at);
            self.busy += ops.len() as u64 - 1;
        }
        self.first = ops;
        self.first_at = at;
    }

    /// Makes a send ready; `at` never goes back.
    pub(super) fn send(&mut self, at: Time, op: OpId) {
        self.occupy(at);
        self.ready.push_back((at, op));
    }

    /// Starts a computation that ends at `at + span`.
    pub(super) fn calc(&mut self, at: Time, span: Span, op: OpId) {
        self.occupy(at);
        self.calcs.push(Reverse((at + span, op)));
    }

    /// One operation has finished.
    pub(super) fn finish(&mut self, at: Time) {
        self.left = self.left.saturating_sub(1);
        self.last = self.last.max(at);
    }

    fn occupy(&mut self, at: Time) {
        if self.busy == 0 {
            self.waited += at.since(self.idle_since);
        }
        self.busy += 1;
    }

    /// A send or computation is no longer in progress.
    fn release(&mut self, at: Time) {
        self.busy = self.busy.saturating_sub(1);
        if self.busy == 0 {
            self.idle_since = at;
        }
    }

    fn stop(&mut self) {
        if self.busy == 0 {
            self.waited += self.last.since(self.idle_since);
        }
    }

    fn next_send(&mut self) -> Option<(Time, OpId)> {
        match self.first.next() {
            Some(op) => Some((self.first_at, op)),
            None => self.ready.pop_front(),
        }
    }

    fn next_calc(&mut self, now: Time) -> Option<(Time, OpId)> {
        let Reverse((at, _)) = self.calcs.peek()?;
        if *at > now {
            return None;
        }
        self.calcs.pop().map(|Reverse(calc)| calc)
    }

    fn next_deadline(&self) -> Time {
        if !self.first.is_empty() {
            return self.first_at;
        }
        let ready = self.ready.front().map_or(Time::NEVER, |(at, _)| *at);
        let calc = self.calcs.peek().map_or(Time::NEVER, |Reverse((at, _))| *at);
        ready.min(calc)
    }

    fn heap_bytes(&self) -> usize {
        (self.ready.capacity() + self.calcs.capacity()) * size_of::<(Time, OpId)>()
    }
}
