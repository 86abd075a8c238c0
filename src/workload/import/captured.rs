//! Messages of a capture -> schedule, keeping either their times or their causes.

use super::messages::{Message, Messages};
use super::{Replay, append};
use crate::units::{RankId, Span, Time};
use crate::workload::schedule::{Op, OpId, OpKind};

/// A message that starts within this span after one that came in is taken for its consequence: a host that
/// answers at once needs less for NIC, completion queue and a round of software.
pub const JUST_AFTER: Span = Span::from_us(100);
/// Slow hosts (emulated NICs, a computation in between) get this long, provided that nothing happened to the
/// message's own queue pair since.
pub const AFTER_NOTHING_ELSE: Span = Span::from_ms(10);

/// Lowers the messages of a capture, sorted by start.
pub(super) fn lower(messages: &Messages, replay: Replay) -> Vec<Vec<Op>> {
    let mut ranks = vec![Vec::new(); messages.addresses.len()];
    match replay {
        Replay::Timed => timed(messages, &mut ranks),
        Replay::Dependent => dependent(messages, &mut ranks),
    }
    ranks
}

/// Every message of a source starts as long after the START of the one before as it did.
fn timed(messages: &Messages, ranks: &mut [Vec<Op>]) {
    let mut previous: Vec<Option<(Time, OpId)>> = vec![None; ranks.len()];
    for (tag, m) in messages.messages.iter().enumerate() {
        let (since, started) = match previous[m.from as usize] {
            Some((start, send)) => (start, vec![send]),
            None => (Time::ZERO, Vec::new()),
        };
        let (send, _) = message(ranks, m, tag as u32, m.start.since(since), &[], &started);
        previous[m.from as usize] = Some((m.start, send));
    }
}

/// A message follows the one that came in just before, or else the previous one of its queue pair: its end
/// when its acknowledgement was seen, its start otherwise. The first one of a queue pair starts at its time.
fn dependent(messages: &Messages, ranks: &mut [Vec<Op>]) {
    // Arrivals in order of time, taken up as the starts pass them.
    let mut arrivals: Vec<u32> = (0..messages.messages.len() as u32).collect();
    arrivals.sort_by_key(|i| (messages.messages[*i as usize].arrived, *i));
    let mut arrivals = arrivals.into_iter().peekable();
    let mut recvs: Vec<OpId> = Vec::with_capacity(messages.messages.len());
    let mut latest: Vec<Option<(Time, OpId)>> = vec![None; ranks.len()];
    let flows = messages.messages.iter().map(|m| m.flow as usize + 1).max().unwrap_or(0);
    let mut previous: Vec<Option<(Message, OpId)>> = vec![None; flows];
    for (tag, m) in messages.messages.iter().enumerate() {
        while let Some(i) = arrivals.next_if(|i| messages.messages[*i as usize].arrived < m.start) {
            let arrived = &messages.messages[i as usize];
            latest[arrived.to as usize] = Some((arrived.arrived, recvs[i as usize]));
        }
        let before = previous[m.flow as usize];
        let cause = latest[m.from as usize].filter(|(at, _)| {
            let gap = m.start.since(*at);
            let (start, acked) = before.map_or((None, None), |(p, _)| (Some(p.start), p.acked));
            let nothing_else = acked.filter(|acked| *acked <= m.start) < Some(*at);
            start < Some(*at) && (gap <= JUST_AFTER || gap <= AFTER_NOTHING_ELSE && nothing_else)
        });
        let (since, after, started) = match (cause, before) {
            (Some((at, recv)), _) => (at, vec![recv], before.map(|(_, send)| send)),
            (None, Some((Message { acked: Some(acked), .. }, send))) if acked <= m.start => {
                (acked, vec![send], None)
            }
            (None, Some((previous, send))) => (previous.start, Vec::new(), Some(send)),
            (None, None) => (Time::ZERO, Vec::new(), None),
        };
        let started: Vec<OpId> = started.into_iter().collect();
        let (send, recv) = message(ranks, m, tag as u32, m.start.since(since), &after, &started);
        previous[m.flow as usize] = Some((*m, send));
        recvs.push(recv);
    }
}

/// Appends the send and the receive of a message, the send `gap` after its dependencies.
fn message(
    ranks: &mut [Vec<Op>],
    m: &Message,
    tag: u32,
    gap: Span,
    after: &[OpId],
    started: &[OpId],
) -> (OpId, OpId) {
    let (peer, bytes) = (RankId(m.to), m.bytes);
    let send = OpKind::Send { peer, bytes, tag };
    let ops = &mut ranks[m.from as usize];
    let send = if gap == Span::ZERO {
        append(ops, send, after, started)
    } else {
        let wait = append(ops, OpKind::Calc { span: gap }, after, started);
        append(ops, send, &[wait], &[])
    };
    let recv = OpKind::Recv { peer: RankId(m.from), bytes: m.bytes, tag };
    (send, append(&mut ranks[m.to as usize], recv, &[], &[]))
}
