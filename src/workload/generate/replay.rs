//! Replay of one rank of a schedule: any dependency graph, a few bytes of state per operation.

use std::sync::Arc;

use crate::units::{RankId, Span, Time};
use crate::workload::config::WorkloadConfig;
use crate::workload::interp::Agenda;
use crate::workload::schedule::{Op, OpId, OpKind, Schedule};

/// End of a list of operations.
const NONE: u32 = u32::MAX;

/// One rank of a schedule. Memory per operation: 9 bytes of state and 4 per dependency, besides the shared
/// schedule.
#[derive(Debug)]
pub struct Replay {
    schedule: Arc<Schedule>,
    ranks: Arc<[RankId]>,
    index: usize,
    /// Per operation: dependencies not yet met.
    pending: Box<[u8]>,
    /// Per operation: it has started.
    started: Box<[bool]>,
    /// Per operation: where its dependants begin in `dependants`; one more entry for the end.
    first_dependant: Box<[u32]>,
    /// Operation number x 2, + 1 when it waits for the start only.
    dependants: Box<[u32]>,
    /// Per receive: the next receive that waits for the same peer and tag.
    next_waiting: Box<[u32]>,
    /// Sorted by (peer, tag).
    channels: Box<[Channel]>,
    /// Operations whose dependencies are met, to be started now.
    work: Vec<OpId>,
}

/// Messages of one (peer, tag): matched first come, first served.
#[derive(Clone, Copy, Debug)]
struct Channel {
    peer: RankId,
    tag: u32,
    /// Messages that no receive has asked for yet.
    arrived: u32,
    /// First and last receive that waits.
    head: u32,
    tail: u32,
}

impl Replay {
    pub(super) fn new(cfg: &WorkloadConfig, index: usize, schedule: &Arc<Schedule>) -> Option<Replay> {
        let ops = schedule.ranks.get(index)?;
        if ops.is_empty() {
            return None;
        }
        let mut first_dependant = vec![0u32; ops.len() + 1];
        let edges = |op: &Op| {
            let finish = op.after.clone().into_iter().map(|on| (on, 0));
            finish.chain(op.after_start.clone().into_iter().map(|on| (on, 1)))
        };
        for (on, _) in ops.iter().flat_map(edges) {
            if let Some(count) = first_dependant.get_mut(on as usize + 1) {
                *count += 1;
            }
        }
        for i in 1..first_dependant.len() {
            first_dependant[i] += first_dependant[i - 1];
        }
        let mut fill = first_dependant.clone();
        let mut dependants = vec![0u32; first_dependant[ops.len()] as usize];
        for (op, (on, start)) in
            ops.iter().enumerate().flat_map(|(i, op)| edges(op).map(move |edge| (i as u32, edge)))
        {
            if (on as usize) < ops.len() {
                dependants[fill[on as usize] as usize] = op * 2 + start;
                fill[on as usize] += 1;
            }
        }
        let mut keys: Vec<(RankId, u32)> = ops
            .iter()
            .filter_map(|op| match op.kind {
                OpKind::Recv { peer, tag, .. } => Some((*cfg.ranks.get(peer.0 as usize)?, tag)),
                _ => None,
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let channels =
            keys.into_iter().map(|(peer, tag)| Channel { peer, tag, arrived: 0, head: NONE, tail: NONE });
        Some(Replay {
            schedule: Arc::clone(schedule),
            ranks: Arc::clone(&cfg.ranks),
            index,
            pending: vec![0; ops.len()].into(),
            started: vec![false; ops.len()].into(),
            first_dependant: first_dependant.into(),
            dependants: dependants.into(),
            next_waiting: vec![NONE; ops.len()].into(),
            channels: channels.collect(),
            work: Vec::with_capacity(ops.len()),
        })
    }

    fn ops(&self) -> &[Op] {
        self.schedule.ranks.get(self.index).map_or(&[], Vec::as_slice)
    }

    fn kind(&self, op: OpId) -> Option<OpKind> {
        self.ops().get(op as usize).map(|op| op.kind)
    }

    pub(super) fn capacity(&self) -> (usize, usize) {
        let count = |f: fn(&OpKind) -> bool| self.ops().iter().filter(|op| f(&op.kind)).count();
        (
            count(|k| matches!(k, OpKind::Send { .. } | OpKind::Read { .. })),
            count(|k| matches!(k, OpKind::Calc { span } if *span > Span::ZERO)),
        )
    }

    pub(super) fn begin(&mut self, agenda: &mut Agenda, at: Time) {
        let schedule = Arc::clone(&self.schedule);
        let Some(ops) = schedule.ranks.get(self.index) else { return };
        agenda.expect(ops.len() as u64);
        self.started.fill(false);
        self.next_waiting.fill(NONE);
        for channel in &mut self.channels {
            (channel.head, channel.tail) = (NONE, NONE);
        }
        for (pending, op) in self.pending.iter_mut().zip(ops) {
            *pending = (op.after.len() + op.after_start.len()) as u8;
        }
        self.work.clear();
        self.work.extend((0..ops.len() as u32).rev().filter(|i| self.pending[*i as usize] == 0));
        self.run(agenda, at);
    }

    pub(super) fn message(&self, op: OpId) -> (RankId, u64, u32) {
        match self.kind(op) {
            Some(OpKind::Send { peer, bytes, tag } | OpKind::Read { peer, bytes, tag }) => {
                (self.ranks.get(peer.0 as usize).copied().unwrap_or(peer), bytes, tag)
            }
            _ => (RankId(NONE), 0, 0), // no other operation is ever handed out as a send
        }
    }

    pub(super) fn reads(&self, op: OpId) -> bool {
        matches!(self.kind(op), Some(OpKind::Read { .. }))
    }

    /// A send is on the wire.
    pub(super) fn on_started(&mut self, agenda: &mut Agenda, now: Time, op: OpId) {
        self.mark_started(op);
        self.run(agenda, now);
    }

    /// A send is acknowledged.
    pub(super) fn on_finished(&mut self, agenda: &mut Agenda, now: Time, op: OpId) {
        self.mark_started(op);
        self.mark(op, 0);
        self.run(agenda, now);
    }

    pub(super) fn on_calc_done(&mut self, agenda: &mut Agenda, at: Time, op: OpId) {
        agenda.finish(at);
        self.mark(op, 0);
        self.run(agenda, at);
    }

    pub(super) fn on_recv(&mut self, agenda: &mut Agenda, now: Time, peer: RankId, tag: u32) -> bool {
        let Some(channel) = self.channel(peer, tag) else { return false };
        let op = channel.head;
        if op == NONE {
            channel.arrived += 1;
            return true;
        }
        let next = self.next_waiting.get(op as usize).copied().unwrap_or(NONE);
        if let Some(channel) = self.channel(peer, tag) {
            channel.head = next;
        }
        agenda.finish(now);
        self.mark(op, 0);
        self.run(agenda, now);
        true
    }

    fn channel(&mut self, peer: RankId, tag: u32) -> Option<&mut Channel> {
        let at = self.channels.binary_search_by_key(&(peer, tag), |c| (c.peer, c.tag)).ok()?;
        self.channels.get_mut(at)
    }

    fn mark_started(&mut self, op: OpId) {
        if let Some(started) = self.started.get_mut(op as usize)
            && !*started
        {
            *started = true;
            self.mark(op, 1);
        }
    }

    /// Meets the dependencies on the end (`edge` 0) or start (1) of an operation.
    fn mark(&mut self, op: OpId, edge: u32) {
        let op = op as usize;
        let (Some(from), Some(to)) = (self.first_dependant.get(op), self.first_dependant.get(op + 1)) else {
            return;
        };
        for dependant in &self.dependants[*from as usize..*to as usize] {
            if dependant & 1 == edge {
                let pending = &mut self.pending[(dependant >> 1) as usize];
                *pending -= 1;
                if *pending == 0 {
                    self.work.push(dependant >> 1);
                }
            }
        }
    }

    /// Starts every operation whose dependencies are met, and what that makes possible in turn.
    fn run(&mut self, agenda: &mut Agenda, at: Time) {
        while let Some(op) = self.work.pop() {
            match self.kind(op) {
                Some(OpKind::Send { .. } | OpKind::Read { .. }) => agenda.send(at, op),
                Some(OpKind::Calc { span }) => {
                    self.mark_started(op);
                    if span == Span::ZERO {
                        agenda.finish(at);
                        self.mark(op, 0);
                    } else {
                        agenda.calc(at, span, op);
                    }
                }
                Some(OpKind::Recv { peer, tag, .. }) => {
                    self.mark_started(op);
                    self.wait_for(agenda, at, op, peer, tag);
                }
                None => {}
            }
        }
    }

    /// Takes a message that is already there, or joins the queue for it.
    fn wait_for(&mut self, agenda: &mut Agenda, at: Time, op: OpId, peer: RankId, tag: u32) {
        let peer = self.ranks.get(peer.0 as usize).copied().unwrap_or(peer);
        let Some(channel) = self.channel(peer, tag) else { return };
        if channel.arrived > 0 {
            channel.arrived -= 1;
            agenda.finish(at);
            self.mark(op, 0);
            return;
        }
        let last = std::mem::replace(&mut channel.tail, op);
        if channel.head == NONE {
            channel.head = op;
        } else if let Some(next) = self.next_waiting.get_mut(last as usize) {
            *next = op;
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        size_of::<Replay>()
            + self.pending.len() * 2
            + (self.first_dependant.len() + self.dependants.len() + self.next_waiting.len()) * 4
            + self.channels.len() * size_of::<Channel>()
            + self.work.capacity() * 4
    }
}
