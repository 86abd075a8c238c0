//! Messages in parts (`spread = "chunks"`): each message is cut into as many parts as its pair of ranks has queue
//! pairs, whole packets each, and every queue pair carries one part of every message.
//!
//! Queue pairs keep the order of their parts, so the n-th part that arrives on each of them belongs to the n-th
//! message: nothing on the wire says which message a part is of. Parts without bytes are sent too.

use std::collections::VecDeque;

use super::NONE;
use crate::measure::record::Outcome;
use crate::units::Time;

/// A message some of whose parts are under way, at its sender (with READ at its reader).
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole {
    /// Parts that have not ended.
    left: u32,
    /// Bytes of the message.
    bytes: u64,
    /// When its first part started.
    started: Time,
    retransmitted: u32,
    /// Completed, until a part failed.
    outcome: Outcome,
    /// Next free row.
    next: u32,
}

/// The messages in parts of one host.
#[derive(Debug)]
pub(super) struct Wholes {
    rows: Vec<Whole>,
    free: u32,
}

impl Default for Wholes {
    fn default() -> Wholes {
        Wholes { rows: Vec::new(), free: NONE }
    }
}

/// A part, or a message all of whose parts have ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) bytes: u64,
    pub(super) started: Time,
    pub(super) retransmitted: u32,
    pub(super) outcome: Outcome,
}

impl Wholes {
    /// Notes a message of `bytes` in `parts`.
    pub(super) fn insert(&mut self, bytes: u64, parts: u32) -> u32 {
        let whole = Whole {
            left: parts,
            bytes,
            started: Time::NEVER,
            retransmitted: 0,
            outcome: Outcome::Completed,
            next: NONE,
        };
        let at = self.free;
        if at == NONE {
            self.rows.push(whole);
            return self.rows.len() as u32 - 1;
        }
        self.free = self.rows[at as usize].next;
        self.rows[at as usize] = whole;
        at
    }

    /// A part has ended: the whole message when it was the last.
    pub(super) fn end(&mut self, at: u32, part: &Ended) -> Option<Ended> {
        let w = &mut self.rows[at as usize];
        w.left -= 1;
        w.started = w.started.min(part.started);
        w.retransmitted += part.retransmitted;
        if part.outcome != Outcome::Completed {
            w.outcome = part.outcome;
        }
        if w.left > 0 {
            return None;
        }
        let ended =
            Ended { bytes: w.bytes, started: w.started, retransmitted: w.retransmitted, outcome: w.outcome };
        w.next = self.free;
        self.free = at;
        Some(ended)
    }
}

/// Bytes of part `n` of `parts` of a message: whole packets of `mtu`, the first parts one more where they do not come
/// out even, and what is left over in the last that has any.
pub(super) fn part(bytes: u64, mtu: u16, parts: u32, n: u32) -> u64 {
    let (mtu, parts, n) = (u64::from(mtu.max(1)), u64::from(parts.max(1)), u64::from(n));
    let packets = bytes.div_ceil(mtu);
    let upto = |n: u64| (packets / parts * n + (packets % parts).min(n)) * mtu;
    upto(n + 1).min(bytes) - upto(n).min(bytes)
}

/// Parts of messages as they arrive from one peer.
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// Messages that came whole, of all.
    whole: u64,
    /// Parts that arrived on each queue pair.
    arrived: Vec<u64>,
    /// Of the messages behind those: parts missing, tag, bytes so far.
    open: VecDeque<(u32, u32, u64)>,
}

impl Gather {
    /// A part arrived on queue pair `n` of `parts`: tag and bytes of the message when it is whole now.
    pub(super) fn take(&mut self, n: usize, parts: u32, tag: u32, bytes: u64) -> Option<(u32, u64)> {
        self.arrived.resize(parts as usize, 0);
        let at = (self.arrived[n] - self.whole) as usize;
        self.arrived[n] += 1;
        while self.open.len() <= at {
            self.open.push_back((parts, tag, 0));
        }
        let message = &mut self.open[at];
        message.0 -= 1;
        message.2 += bytes;
        let whole = (message.0 == 0).then_some((message.1, message.2));
        while self.open.front().is_some_and(|m| m.0 == 0) {
            self.open.pop_front();
            self.whole += 1;
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_packets_and_add_up() {
        for (bytes, mtu, parts) in
            [(0, 1024, 4), (1, 1024, 4), (5000, 1024, 2), (1 << 20, 4096, 7), (4096, 4096, 3)]
        {
            let all: Vec<u64> = (0..parts).map(|n| part(bytes, mtu, parts, n)).collect();
            assert_eq!(all.iter().sum::<u64>(), bytes);
            let uneven = all.iter().filter(|b| **b % u64::from(mtu) != 0).count();
            assert!(uneven <= 1, "{all:?}");
        }
        assert_eq!((part(5000, 1024, 2, 0), part(5000, 1024, 2, 1)), (3072, 1928));
    }

    #[test]
    fn the_nth_parts_of_all_queue_pairs_make_the_nth_message() {
        let mut g = Gather::default();
        assert_eq!(g.take(0, 2, 7, 10), None);
        assert_eq!(g.take(0, 2, 8, 20), None);
        assert_eq!(g.take(0, 2, 9, 30), None);
        assert_eq!(g.take(1, 2, 7, 1), Some((7, 11)));
        assert_eq!(g.take(1, 2, 8, 2), Some((8, 22)));
        assert_eq!(g.take(1, 2, 9, 3), Some((9, 33)));
        assert!(g.open.is_empty());
    }
}
