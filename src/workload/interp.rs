//! Runs the program of one rank in one workload. A host tells it what started, finished and arrived and asks
//! it what to send next; the interpreter knows no packets and no clock but the `now` it is given.
//!
//! Operations of one rank do not compete: computations overlap, and all sends whose dependencies are met are
//! posted at once (the queue pairs order them). An importer whose source serialises work says so with
//! dependencies.

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
    /// Receiving rank; for a READ the one that has the data.
    pub peer: RankId,
    /// Message size.
    pub bytes: u64,
    /// Tag for the receiver.
    pub tag: u32,
    /// The message is fetched, not sent.
    pub read: bool,
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
/// [`crate::workload::generate::ring`]: a ring rank that falls behind by more than its span of skew and
/// reduction explains grows its queue of received chunks. Cost per operation: O(1), plus O(log) of the
/// computations in progress and, in replays, of the rank's distinct (peer, tag) pairs.
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

    /// Releases an iteration. The rank starts at `released` plus its skew, which depends on the seed, the
    /// workload, the rank and the iteration alone and is therefore the same in every driver.
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
        Some(Post { op, peer, bytes, tag, read: self.program.reads(op), intended })
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

    /// When [`Interp::poll`] has something to do next without new data: the skewed start, the earliest end of
    /// a computation, or the past when sends are ready; `NEVER` when only data can wake the rank.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::units::Bytes;
    use crate::workload::config::WorkloadKind;
    use crate::workload::schedule::{Op, OpKind, Schedule};
    use crate::workload::tests::workload;

    fn incast(senders: u32) -> WorkloadConfig {
        workload(senders + 1, WorkloadKind::Incast { message: Bytes(1 << 20) })
    }

    fn replay(ranks: Vec<Vec<Op>>) -> WorkloadConfig {
        let schedule = Schedule { ranks, ..Schedule::default() };
        schedule.check().unwrap();
        workload(schedule.ranks.len() as u32, WorkloadKind::Replay(Arc::new(schedule)))
    }

    fn send(peer: u32, tag: u32) -> Op {
        Op::new(OpKind::Send { peer: RankId(peer), bytes: 100, tag })
    }
    fn recv(peer: u32, tag: u32) -> Op {
        Op::new(OpKind::Recv { peer: RankId(peer), bytes: 100, tag })
    }
    fn calc(ns: u64) -> Op {
        Op::new(OpKind::Calc { span: Span::from_ns(ns) })
    }
    fn after(mut op: Op, on: &[OpId]) -> Op {
        op.after.extend(on.iter().copied());
        op
    }
    fn after_start(mut op: Op, on: &[OpId]) -> Op {
        op.after_start.extend(on.iter().copied());
        op
    }
    fn running(cfg: &WorkloadConfig, rank: u32) -> Interp {
        let mut rank = Interp::new(cfg, 0, RankId(rank), 7).unwrap();
        rank.start(0, Time::ZERO);
        rank
    }
    fn ops(rank: &mut Interp, now: u64) -> Vec<(OpId, u64)> {
        std::iter::from_fn(|| rank.poll(Time(now))).map(|p| (p.op, p.intended.0)).collect()
    }

    #[test]
    fn an_incast_ends_when_every_message_has_arrived() {
        let cfg = incast(3);
        assert!(Interp::new(&cfg, 0, RankId(4), 7).is_none());
        let mut sender = running(&cfg, 1);
        let post = sender.poll(Time::ZERO).unwrap();
        assert_eq!((post.peer, post.bytes, post.tag), (RankId(3), 1 << 20, 1));
        assert_eq!(sender.poll(Time::ZERO), None);
        sender.on_send_started(Time(50), post.op);
        sender.on_send_done(Time(90), post.op);
        assert!(sender.finished());
        assert_eq!(sender.rank_iteration().first_byte, Time(50));
        assert_eq!(sender.rank_iteration().waited_ps, 0);

        let mut receiver = running(&cfg, 3);
        for tag in [2, 0, 1] {
            assert!(!receiver.finished());
            receiver.on_recv(Time(100 + u64::from(tag)), RankId(tag), tag, 1 << 20);
        }
        assert!(receiver.finished());
        assert_eq!(receiver.rank_iteration().finished, Time(102));
        assert_eq!(receiver.rank_iteration().waited_ps, 102);
        receiver.on_recv(Time(200), RankId(9), 9, 1);
        assert_eq!(receiver.unexpected(), 1);
    }

    #[test]
    fn skew_depends_on_seed_rank_and_iteration_alone() {
        let mut cfg = incast(3);
        cfg.skew = Skew::Fixed(Span::from_ns(10));
        assert_eq!(running(&cfg, 2).next_deadline(), Time(20_000));
        cfg.skew = Skew::Uniform(Span::from_us(5));
        let start = |rank, iteration, seed| {
            let mut r = Interp::new(&cfg, 0, RankId(rank), seed).unwrap();
            r.start(iteration, Time(100));
            r.next_deadline()
        };
        assert_eq!(start(1, 4, 7), start(1, 4, 7));
        assert_ne!(start(1, 4, 7), start(1, 5, 7));
        assert_ne!(start(1, 4, 7), start(2, 4, 7));
        assert_ne!(start(1, 4, 7), start(1, 4, 8));
        assert!((0..200).all(|i| (100..=5_000_100).contains(&start(0, i, 1).0)));
    }

    #[test]
    fn a_failed_send_leaves_the_rank_unfinished() {
        let mut sender = running(&incast(2), 0);
        let post = sender.poll(Time::ZERO).unwrap();
        sender.on_failed(Time(10), post.op);
        assert!(sender.failed() && !sender.finished());
        assert_eq!(sender.next_deadline(), Time::NEVER);
        assert_eq!(sender.rank_iteration().finished, Time::NEVER);
    }

    #[test]
    fn dependencies_on_end_and_start_are_kept_apart() {
        // 0: send; 1: calc 5 ns after the START of 0; 2: send after 1; 3: send after the END of 0 and of 1.
        let program =
            vec![send(1, 0), after_start(calc(5), &[0]), after(send(1, 1), &[1]), after(send(1, 2), &[0, 1])];
        let mut rank = running(&replay(vec![program, vec![recv(0, 0), recv(0, 1), recv(0, 2)]]), 0);
        assert_eq!(ops(&mut rank, 0), [(0, 0)]);
        assert_eq!(rank.next_deadline(), Time::NEVER);
        rank.on_send_started(Time(1_000), 0);
        assert_eq!(rank.next_deadline(), Time(6_000));
        assert_eq!(ops(&mut rank, 5_999), []);
        assert_eq!(ops(&mut rank, 6_500), [(2, 6_000)]);
        rank.on_send_done(Time(8_000), 0);
        assert_eq!(ops(&mut rank, 8_000), [(3, 8_000)]);
        rank.on_send_started(Time(8_000), 2);
        rank.on_send_done(Time(9_000), 2);
        rank.on_send_done(Time(9_500), 3);
        assert!(rank.finished());
        assert_eq!(rank.rank_iteration().finished, Time(9_500));
    }

    #[test]
    fn messages_before_their_receive_are_matched_first_come_first_served() {
        // Two receives with the same tag, the second only after a calc; a third with another tag.
        let program = vec![
            recv(1, 7),
            after(calc(10), &[0]),
            after(recv(1, 7), &[1]),
            after(send(1, 0), &[2]),
            recv(1, 8),
        ];
        let cfg = replay(vec![program, vec![send(0, 7), send(0, 7), send(0, 8), recv(0, 0)]]);
        let mut rank = Interp::new(&cfg, 0, RankId(0), 7).unwrap();
        rank.on_recv(Time::ZERO, RankId(1), 7, 100); // before the rank starts
        for iteration in 0..2 {
            let t = u64::from(iteration) * 1_000_000;
            rank.start(iteration, Time(t));
            if iteration == 1 {
                rank.on_recv(Time(t + 500), RankId(1), 7, 100);
            }
            assert_eq!(ops(&mut rank, t), []);
            rank.on_recv(Time(t + 1_000), RankId(1), 7, 100); // before the receive is reached
            assert_eq!(ops(&mut rank, t + 9_999), []);
            let ready = if iteration == 0 { 10_000 } else { 10_500 };
            assert_eq!(ops(&mut rank, t + 11_000), [(3, t + ready)]);
            rank.on_send_done(Time(t + 12_000), 3);
            assert!(!rank.finished());
            rank.on_recv(Time(t + 13_000), RankId(1), 8, 100);
            assert!(rank.finished());
        }
        assert_eq!(rank.unexpected(), 0);
    }

    #[test]
    fn impossible_schedules_are_refused_by_name() {
        let error = |ranks| Schedule { ranks, ..Schedule::default() }.check().unwrap_err().to_string();
        assert!(
            error(vec![vec![after(calc(1), &[0])]])
                .starts_with("operation 0 of rank 0 depends on operation 0")
        );
        assert!(error(vec![vec![send(1, 0)]]).contains("names rank 1"));
        assert!(
            error(vec![vec![send(1, 3)], vec![recv(0, 4)]]).starts_with("rank 0 sends 1 messages with tag 3")
        );
    }
}
