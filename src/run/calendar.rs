//! The event queue of an engine: a calendar of sorted slots, and a heap for what lies beyond its horizon.
//!
//! An event is 16 bytes: when, and what ([`Key`]). Events come out in (time, key) order, and that order is part of
//! the physics: two drivers that use it give the same outcome. Push and pop cost a few nanoseconds while the slot
//! width is near the mean distance between events; the heap takes the rare far ones (timeouts, the next iteration).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::units::{Span, Time};

/// What an event is: a kind in the high 4 bits and the number of the thing it concerns in the low 28. Kinds of one
/// instant are handled in their numerical order, things of one kind in theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(u32);

impl Key {
    /// A key of `kind` (0..16) for thing `index` (below 2^28).
    #[inline]
    pub const fn new(kind: u32, index: u32) -> Key {
        Key((kind << 28) | (index & 0x0fff_ffff))
    }
    /// The kind.
    #[inline]
    pub const fn kind(self) -> u32 {
        self.0 >> 28
    }
    /// The thing.
    #[inline]
    pub const fn index(self) -> u32 {
        self.0 & 0x0fff_ffff
    }
}

const NIL: u32 = u32::MAX;
const SLOTS: usize = 4096;
const WORDS: usize = SLOTS / 64;

#[derive(Clone, Copy, Debug)]
struct Node {
    time: u64,
    key: u32,
    next: u32,
}

const _: () = assert!(size_of::<Node>() == 16);

/// The queue. Grows only when more events are pending than it was made for.
#[derive(Debug)]
pub struct Calendar {
    shift: u32,
    /// Slot number (time >> shift) that nothing pending lies before.
    base: u64,
    heads: Vec<u32>,
    /// Last node of each slot that is not empty: events of one instant mostly come in order.
    tails: Vec<u32>,
    bits: [u64; WORDS],
    summary: u64,
    nodes: Vec<Node>,
    free: u32,
    far: BinaryHeap<Reverse<(u64, u32)>>,
    len: usize,
}

impl Calendar {
    /// A calendar for about `pending` events at a time whose mean distance is `spacing`; the slot width is the next
    /// power of two above it.
    pub fn new(pending: usize, spacing: Span) -> Calendar {
        let shift = spacing.0.max(1).next_power_of_two().trailing_zeros();
        Calendar {
            shift,
            base: 0,
            heads: vec![NIL; SLOTS],
            tails: vec![NIL; SLOTS],
            bits: [0; WORDS],
            summary: 0,
            nodes: Vec::with_capacity(pending),
            free: NIL,
            far: BinaryHeap::with_capacity(pending.min(1 << 16)),
            len: 0,
        }
    }

    /// Events pending.
    pub fn len(&self) -> usize {
        self.len
    }
    /// True when nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an event. `time` must not lie before the last event popped.
    #[inline]
    pub fn push(&mut self, time: Time, key: Key) {
        self.len += 1;
        let slot = time.0 >> self.shift;
        if slot.wrapping_sub(self.base) >= SLOTS as u64 {
            self.far.push(Reverse((time.0, key.0)));
            return;
        }
        let s = slot as usize % SLOTS;
        let n = self.node(time.0, key.0);
        let mut at = self.heads[s];
        if at == NIL {
            self.heads[s] = n;
            self.tails[s] = n;
            self.bits[s / 64] |= 1 << (s % 64);
            self.summary |= 1 << (s / 64);
            return;
        }
        let tail = self.tails[s];
        if self.order(tail) <= (time.0, key.0) {
            self.nodes[tail as usize].next = n;
            self.tails[s] = n;
            return;
        }
        if (time.0, key.0) < self.order(at) {
            self.nodes[n as usize].next = at;
            self.heads[s] = n;
            return;
        }
        loop {
            let next = self.nodes[at as usize].next;
            if next == NIL || (time.0, key.0) < self.order(next) {
                self.nodes[n as usize].next = next;
                self.nodes[at as usize].next = n;
                return;
            }
            at = next;
        }
    }

    /// Time of the earliest event; [`Time::NEVER`] when nothing is pending.
    pub fn next_time(&self) -> Time {
        let near = self.near().map_or(u64::MAX, |s| self.nodes[self.heads[s] as usize].time);
        let far = self.far.peek().map_or(u64::MAX, |Reverse((t, _))| *t);
        Time(near.min(far))
    }

    /// Removes and returns the earliest event that lies before `bound`.
    #[inline]
    pub fn pop_before(&mut self, bound: Time) -> Option<(Time, Key)> {
        let near = self.near();
        let head = near.map(|s| (s, self.heads[s]));
        if let Some(&Reverse(first)) = self.far.peek()
            && head.is_none_or(|(_, n)| first < self.order(n))
        {
            if first.0 >= bound.0 {
                return None;
            }
            self.far.pop();
            self.len -= 1;
            self.base = self.base.max(first.0 >> self.shift);
            return Some((Time(first.0), Key(first.1)));
        }
        let (s, n) = head?;
        let Node { time, key, next } = self.nodes[n as usize];
        if time >= bound.0 {
            return None;
        }
        self.heads[s] = next;
        if next == NIL {
            self.bits[s / 64] &= !(1 << (s % 64));
            if self.bits[s / 64] == 0 {
                self.summary &= !(1 << (s / 64));
            }
        }
        self.nodes[n as usize].next = self.free;
        self.free = n;
        self.len -= 1;
        self.base = time >> self.shift;
        Some((Time(time), Key(key)))
    }

    #[inline]
    fn order(&self, n: u32) -> (u64, u32) {
        let n = &self.nodes[n as usize];
        (n.time, n.key)
    }

    #[inline]
    fn node(&mut self, time: u64, key: u32) -> u32 {
        let node = Node { time, key, next: NIL };
        if self.free != NIL {
            let n = self.free;
            self.free = self.nodes[n as usize].next;
            self.nodes[n as usize] = node;
            return n;
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    /// The first occupied slot at or after `base`, in circular order.
    #[inline]
    fn near(&self) -> Option<usize> {
        if self.summary == 0 {
            return None;
        }
        let start = self.base as usize % SLOTS;
        let w = start / 64;
        let first = self.bits[w] & (u64::MAX << (start % 64));
        if first != 0 {
            return Some(w * 64 + first.trailing_zeros() as usize);
        }
        // Later words, then earlier ones, then the low part of the starting word.
        let later = if w == 63 { 0 } else { self.summary & (u64::MAX << (w + 1)) };
        let word = if later != 0 { later.trailing_zeros() } else { self.summary.trailing_zeros() } as usize;
        Some(word * 64 + self.bits[word].trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn pops_in_time_then_key_order_like_a_sorted_list() {
        for seed in 0..20 {
            let mut rng = Rng::new(seed, "calendar", 0);
            let mut cal = Calendar::new(64, Span(100));
            let mut reference = std::collections::BTreeSet::new();
            let mut now = 0u64;
            for step in 0..20_000u32 {
                if reference.len() < 50 || rng.below(2) == 0 {
                    // Near ones, ties, and some far beyond the horizon of 4096 slots.
                    let ahead = match rng.below(20) {
                        0 => rng.below(10_000_000),
                        1..=4 => 0,
                        _ => rng.below(3_000),
                    };
                    let e = (now + ahead, step & 0xff | (rng.below(4) as u32) << 28);
                    if reference.insert(e) {
                        cal.push(Time(e.0), Key(e.1));
                    }
                } else {
                    let want = reference.pop_first().unwrap();
                    let (t, k) = cal.pop_before(Time::NEVER).unwrap();
                    assert_eq!((t.0, k.0), want, "seed {seed} step {step}");
                    now = t.0;
                }
                assert_eq!(cal.len(), reference.len());
                assert_eq!(cal.next_time().0, reference.first().map_or(u64::MAX, |e| e.0), "seed {seed}");
            }
        }
    }

    #[test]
    fn nothing_at_or_after_the_bound_is_popped() {
        let mut cal = Calendar::new(4, Span(10));
        cal.push(Time(100), Key::new(1, 2));
        cal.push(Time(5_000_000), Key::new(1, 3));
        assert_eq!(cal.pop_before(Time(100)), None);
        assert_eq!(cal.pop_before(Time(101)), Some((Time(100), Key::new(1, 2))));
        assert_eq!(cal.pop_before(Time(5_000_000)), None);
        assert_eq!(cal.pop_before(Time(5_000_001)), Some((Time(5_000_000), Key::new(1, 3))));
        assert!(cal.is_empty());
    }
}
