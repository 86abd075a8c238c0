//! The programs of the ranks behind a port: what they post, and what reaches them.

use std::collections::{BTreeMap, VecDeque};

use super::config::HostConfig;
use super::parts::{Ended, Gather, part};
use super::{Failure, Host, HostEvent};
use crate::measure::record::{MessageRecord, Outcome, Record};
use crate::transport::config::Spread;
use crate::transport::messages::{self, Message};
use crate::transport::reads::PSNS_MAX;
use crate::units::{RankId, Time};
use crate::wire::psn;
use crate::workload::interp::{Interp, Post};

/// The program of one rank in one workload.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) interp: Interp,
    workload: u16,
    rank: RankId,
    /// Its part of [`Programs::routes`], sorted by peer.
    routes: (u32, u32),
    dirty: bool,
    done: bool,
}

/// The queue pairs from one program to one peer; messages take them in turn or by their tag.
#[derive(Debug)]
pub(super) struct Route {
    peer: RankId,
    first: u32,
    count: u32,
    turn: u32,
    spread: Spread,
}

/// All programs of a port.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Programs {
    /// Slots whose program may have something new to send.
    dirty: VecDeque<u32>,
    pub(super) slots: Vec<Slot>,
    routes: Vec<Route>,
    /// Parts of messages that arrive, by route.
    gathers: BTreeMap<u32, Gather>,
    /// (workload, rank, slot), sorted.
    by_rank: Vec<(u16, RankId, u32)>,
    local_delivery: bool,
    iteration: u32,
    /// Programs that have not finished the iteration.
    open: u32,
}

impl Programs {
    pub(super) fn new(cfg: &HostConfig) -> Programs {
        let mut slots = Vec::new();
        let mut by_rank = Vec::new();
        for (w, workload) in cfg.workloads.iter().enumerate() {
            for r in &cfg.ranks {
                let Some(interp) = Interp::new(workload, w as u16, r.rank, cfg.seed) else { continue };
                by_rank.push((w as u16, r.rank, slots.len() as u32));
                let slot = Slot {
                    interp,
                    workload: w as u16,
                    rank: r.rank,
                    routes: (0, 0),
                    dirty: false,
                    done: true,
                };
                slots.push(slot);
            }
        }
        by_rank.sort_unstable();
        let dirty = VecDeque::with_capacity(slots.len());
        let mut p = Programs {
            slots,
            routes: Vec::new(),
            gathers: BTreeMap::new(),
            by_rank,
            dirty,
            local_delivery: cfg.local_delivery,
            iteration: 0,
            open: 0,
        };
        p.connect(cfg);
        p
    }

    fn connect(&mut self, cfg: &HostConfig) {
        let qps = &cfg.qps;
        let key = |i: u32| {
            let q = &qps[i as usize];
            (q.workload, q.local_rank, q.peer_rank)
        };
        let mut order: Vec<u32> = (0..qps.len() as u32).collect();
        order.sort_by_key(|i| key(*i)); // stable: queue pairs of one pair keep their order and stand together
        for group in order.chunk_by(|a, b| key(*a) == key(*b)) {
            let (workload, rank, peer) = key(group[0]);
            let Some(slot) = self.find(workload, rank) else { continue };
            let at = self.routes.len() as u32;
            let s = &mut self.slots[slot as usize];
            s.routes = if s.routes.0 == s.routes.1 { (at, at + 1) } else { (s.routes.0, at + 1) };
            let spread = cfg.workloads[usize::from(workload)].rc.spread;
            self.routes.push(Route { peer, first: group[0], count: group.len() as u32, turn: 0, spread });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, workload: u16, rank: RankId) -> Option<u32> {
        let i = self.by_rank.binary_search_by_key(&(workload, rank), |e| (e.0, e.1)).ok()?;
        Some(self.by_rank[i].2)
    }

    /// Number of the route of a program to a peer.
    fn find_route(&self, slot: u32, peer: RankId) -> Option<usize> {
        let (from, to) = self.slots.get(slot as usize)?.routes;
        let mine = &self.routes[from as usize..to as usize];
        Some(from as usize + mine.binary_search_by_key(&peer, |r| r.peer).ok()?)
    }

    /// A part of a message arrived: tag and bytes of the message when it is whole.
    pub(super) fn gather(
        &mut self,
        slot: u32,
        peer: RankId,
        qp: u32,
        tag: u32,
        bytes: u64,
    ) -> Option<(u32, u64)> {
        let route = self.find_route(slot, peer)?;
        let (first, count) = (self.routes[route].first, self.routes[route].count);
        self.gathers.entry(route as u32).or_default().take((qp - first) as usize, count, tag, bytes)
    }

    /// The queue pair that carries the next message of a program to a peer, and how many from there carry a part.
    fn route(&mut self, slot: u32, peer: RankId, tag: u32) -> Option<(u32, u32)> {
        let at = self.find_route(slot, peer)?;
        let r = &mut self.routes[at];
        let turn = match r.spread {
            Spread::RoundRobin => {
                let next = (r.turn + 1) % r.count;
                std::mem::replace(&mut r.turn, next)
            }
            Spread::Hash => (crate::rng::mix(u64::from(tag)) % u64::from(r.count)) as u32,
            Spread::Chunks => return Some((r.first, r.count)),
        };
        Some((r.first + turn, 1))
    }

    #[inline]
    pub(super) fn any_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    #[inline]
    pub(super) fn touch(&mut self, slot: u32) {
        let s = &mut self.slots[slot as usize];
        if !s.dirty {
            s.dirty = true;
            self.dirty.push_back(slot);
        }
    }

    /// The iteration that runs.
    #[inline]
    pub(super) fn iteration(&self) -> u32 {
        self.iteration
    }
}

impl Host {
    /// Starts an iteration of all workloads: every rank here begins at `released` plus its skew.
    pub fn start_iteration(&mut self, iteration: u32, released: Time) {
        self.programs.iteration = iteration;
        self.programs.open = self.programs.slots.len() as u32;
        for (i, s) in self.programs.slots.iter_mut().enumerate() {
            s.interp.start(iteration, released);
            s.done = false;
            self.wheel.set(self.timers.program + i as u32, s.interp.next_deadline());
        }
        if self.programs.open == 0 {
            self.events.push_back(HostEvent::IterationDone { iteration, at: released });
        }
    }

    /// Word from outside for the program of `rank` in `workload`, as if a message without bytes had come from `from`.
    pub fn on_signal(
        &mut self,
        now: Time,
        workload: u16,
        rank: RankId,
        from: RankId,
        tag: u32,
        rec: &mut impl Record,
    ) {
        let Some(slot) = self.programs.find(workload, rank) else { return };
        self.programs.slots[slot as usize].interp.on_recv(now, from, tag, 0);
        self.programs.touch(slot);
        self.run_programs(now, rec);
    }

    /// Lets programs post what they can, until none has anything new to say.
    pub(super) fn run_programs(&mut self, now: Time, rec: &mut impl Record) {
        while let Some(slot) = self.programs.dirty.pop_front() {
            self.programs.slots[slot as usize].dirty = false;
            while let Some(post) = self.programs.slots[slot as usize].interp.poll(now) {
                self.post(now, slot, &post, rec);
            }
            let s = &mut self.programs.slots[slot as usize];
            let (timer, deadline) = (self.timers.program + slot, s.interp.next_deadline());
            if self.wheel.deadline(timer) != deadline {
                self.wheel.set(timer, deadline);
            }
            if s.interp.finished() && !s.done {
                s.done = true;
                let it = s.interp.rank_iteration();
                rec.rank_iteration(&it);
                self.programs.open -= 1;
                if self.programs.open == 0 {
                    self.events.push_back(HostEvent::IterationDone { iteration: it.iteration, at: now });
                }
            }
        }
    }

    fn post(&mut self, now: Time, slot: u32, post: &Post, rec: &mut impl Record) {
        let workload = self.programs.slots[slot as usize].workload;
        if let Some((qp, parts)) = self.programs.route(slot, post.peer, post.tag) {
            return match self.shared[usize::from(self.qps[qp as usize].req.profile)].parts {
                true => self.post_parts(now, qp, parts, post, rec),
                false => self.post_wire(now, qp, post, messages::NONE, rec),
            };
        }
        match self.programs.find(workload, post.peer).filter(|_| self.programs.local_delivery) {
            Some(peer) => self.deliver_local(now, slot, peer, post, rec),
            None => self.fail_post(now, slot, post, Failure::NoConnection, rec),
        }
    }

    /// A message in parts, one on each of the queue pairs from `first`.
    fn post_parts(&mut self, now: Time, first: u32, parts: u32, post: &Post, rec: &mut impl Record) {
        let all = first..first + parts;
        let long = (post.bytes > crate::limits::MESSAGE_BYTES_MAX).then_some(Failure::MessageTooLong);
        if let Some(failure) = all.clone().find_map(|qp| self.cold[qp as usize].failure).or(long) {
            return self.fail_post(now, self.cold[first as usize].program, post, failure, rec);
        }
        let mtu = self.shared[usize::from(self.qps[first as usize].req.profile)].mtu;
        let whole = self.wholes.insert(post.bytes, parts);
        for (n, qp) in (0..parts).zip(all) {
            let post = Post { bytes: part(post.bytes, mtu, parts, n), ..*post };
            self.post_wire(now, qp, &post, whole, rec);
        }
        self.stats.messages_started += 1;
    }

    fn post_wire(&mut self, now: Time, qp: u32, post: &Post, whole: u32, rec: &mut impl Record) {
        let cold = &mut self.cold[qp as usize];
        let slot = cold.program;
        if let Some(failure) = cold.failure {
            return self.fail_post(now, slot, post, failure, rec);
        }
        if post.bytes > crate::limits::MESSAGE_BYTES_MAX {
            return self.fail_post(now, slot, post, Failure::MessageTooLong, rec);
        }
        let req = &mut self.qps[qp as usize].req;
        let shared = &self.shared[usize::from(req.profile)];
        let packets = psn::packets(post.bytes, shared.mtu) as u32;
        if post.read && packets > PSNS_MAX {
            return self.fail_post(now, slot, post, Failure::MessageTooLong, rec);
        }
        let at = self.messages.insert(Message {
            intended: post.intended,
            started: Time::NEVER,
            next: messages::NONE,
            op: post.op,
            iteration: self.programs.iteration,
            bytes: post.bytes as u32,
            tag: post.tag,
            psn_first: cold.psn_post,
            packets,
            retransmitted: 0,
            read: post.read,
            whole,
        });
        if !req.idle() {
            self.messages.get_mut(cold.tail).next = at;
        }
        cold.tail = at;
        cold.psn_post = psn::add(cold.psn_post, packets);
        self.stats.messages_started += u64::from(whole == messages::NONE);
        req.posted(at, &self.messages, shared);
        if self.turns.is_some() {
            self.begin_turns(qp);
        }
        self.wake(qp, now);
    }

    /// Both ranks live behind this port: the message is there at once, without frames.
    fn deliver_local(&mut self, now: Time, slot: u32, peer: u32, post: &Post, rec: &mut impl Record) {
        let s = &mut self.programs.slots[slot as usize];
        let (workload, from) = (s.workload, s.rank);
        s.interp.on_send_started(now, post.op);
        if !post.read {
            self.programs.slots[peer as usize].interp.on_recv(now, from, post.tag, post.bytes);
        }
        self.programs.slots[slot as usize].interp.on_send_done(now, post.op);
        self.programs.touch(slot);
        self.programs.touch(peer);
        self.stats.local_messages += 1;
        rec.message(&MessageRecord {
            workload,
            iteration: self.programs.iteration,
            from: if post.read { post.peer } else { from },
            to: if post.read { from } else { post.peer },
            bytes: post.bytes,
            tag: post.tag,
            intended: post.intended,
            started: post.intended,
            finished: now,
            outcome: Outcome::Local,
            retransmitted: 0,
        });
    }

    /// A message that cannot even be queued.
    fn fail_post(&mut self, now: Time, slot: u32, post: &Post, cause: Failure, rec: &mut impl Record) {
        let s = &mut self.programs.slots[slot as usize];
        s.interp.on_failed(now, post.op);
        let (workload, iteration, from, to) = (s.workload, self.programs.iteration, s.rank, post.peer);
        self.stats.messages_started += 1;
        self.stats.messages_failed += 1;
        rec.message(&MessageRecord {
            workload,
            iteration,
            from: if post.read { to } else { from },
            to: if post.read { from } else { to },
            bytes: post.bytes,
            tag: post.tag,
            intended: post.intended,
            started: Time::NEVER,
            finished: now,
            outcome: cause.outcome(),
            retransmitted: 0,
        });
        self.events.push_back(HostEvent::Failed { workload, iteration, from, to, at: now, cause });
    }

    /// Takes finished messages off a queue pair, tells their programs, and records them.
    #[inline]
    pub(super) fn complete(&mut self, now: Time, qp: u32, rec: &mut impl Record) {
        if !self.qps[qp as usize].req.amid_oldest() {
            self.complete_all(now, qp, rec);
        }
    }

    #[inline(never)]
    fn complete_all(&mut self, now: Time, qp: u32, rec: &mut impl Record) {
        loop {
            let req = &mut self.qps[qp as usize].req;
            let shared = &self.shared[usize::from(req.profile)];
            let Some(m) = req.finished(&mut self.messages, shared) else { return };
            if m.read {
                self.read_finished(qp);
            }
            self.conclude(now, qp, &m, Outcome::Completed, rec);
        }
    }

    /// A queue pair can do no more: everything it still had to send has failed.
    pub(super) fn fail(&mut self, now: Time, qp: u32, cause: Failure, rec: &mut impl Record) {
        use crate::transport::requester::flags::FAILED;
        let req = &mut self.qps[qp as usize].req;
        if req.failed() {
            return;
        }
        req.flags |= FAILED;
        let workload = self.shared[usize::from(req.profile)].workload;
        let cold = &mut self.cold[qp as usize];
        cold.failure = Some(cause);
        let (from, to, iteration) = (cold.from, cold.to, self.programs.iteration);
        self.events.push_back(HostEvent::Failed { workload, iteration, from, to, at: now, cause });
        loop {
            let req = &mut self.qps[qp as usize].req;
            let shared = &self.shared[usize::from(req.profile)];
            let Some(m) = req.flush(&mut self.messages, shared) else { return };
            self.conclude(now, qp, &m, cause.outcome(), rec);
        }
    }

    fn conclude(&mut self, now: Time, qp: u32, m: &Message, outcome: Outcome, rec: &mut impl Record) {
        let mut end =
            Ended { bytes: m.bytes.into(), started: m.started, retransmitted: m.retransmitted, outcome };
        if m.whole != messages::NONE {
            let Some(whole) = self.wholes.end(m.whole, &end) else { return };
            end = whole;
        }
        let outcome = end.outcome;
        match outcome {
            Outcome::Completed => self.stats.messages_completed += 1,
            _ => self.stats.messages_failed += 1,
        }
        let cold = &self.cold[qp as usize];
        rec.message(&MessageRecord {
            workload: self.shared[usize::from(self.qps[qp as usize].req.profile)].workload,
            iteration: m.iteration,
            from: if m.read { cold.to } else { cold.from },
            to: if m.read { cold.from } else { cold.to },
            bytes: end.bytes,
            tag: m.tag,
            intended: m.intended,
            started: end.started,
            finished: now,
            outcome,
            retransmitted: end.retransmitted,
        });
        if m.iteration != self.programs.iteration {
            return; // its iteration was given up
        }
        if let Some(s) = self.programs.slots.get_mut(cold.program as usize) {
            match outcome {
                Outcome::Completed => s.interp.on_send_done(now, m.op),
                _ => s.interp.on_failed(now, m.op),
            }
            self.programs.touch(cold.program);
        }
    }
}
