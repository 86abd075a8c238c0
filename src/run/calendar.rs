//! The event queue of an engine: a calendar of slots that are sorted when their time has come, and a heap for what lies
//! beyond its horizon.
//!
//! An event is 16 bytes: when, and what ([`Key`]). Events come out in (time, key) order, and that order is part of
//! the physics: two drivers that use it give the same outcome. Putting an event in costs the same however many are
//! pending; taking one out costs its share of sorting its slot, a few nanoseconds while the slot width is near the mean
//! distance between events. The heap takes the rare far ones (timeouts, the next iteration).

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
/// A word of bits for each bit of a word; their lists are a third of the first-level cache.
const SLOTS: usize = 64 * WORDS;
const WORDS: usize = 64;
/// Width of the widest: a time inside a slot has 32 bits.
const SHIFT_MAX: u32 = 32;
/// So many events of a slot are sorted by insertion.
const FEW: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Node {
    time: u64,
    key: u32,
    next: u32,
}

const _: () = assert!(size_of::<Node>() == 16);

/// Time and key as one number that sorts like the two.
type Packed = u128;

#[inline]
fn pack(time: u64, key: u32) -> Packed {
    Packed::from(time) << 32 | Packed::from(key)
}

#[inline]
fn time_of(event: Packed) -> u64 {
    (event >> 32) as u64
}

/// The queue. Grows only when more events are pending than it was made for.
#[derive(Debug)]
pub struct Calendar {
    shift: u32,
    /// Number (time >> shift) of the open slot. Nothing pending lies before it.
    base: u64,
    /// The first slot after it that is not empty; [`NO_SLOT`] when all are.
    soon: u64,
    /// Events of the open slot, last one first: time since the start of the slot, then key.
    open: Vec<u64>,
    /// Lists of the later slots, in no order.
    heads: Box<[u32; SLOTS]>,
    /// A bit for each slot that is not empty, and one for each such word of them.
    bits: [u64; WORDS],
    summary: u64,
    nodes: Vec<Node>,
    free: u32,
    /// Events that lay beyond the horizon when they came. None is of the open slot.
    far: BinaryHeap<Reverse<Packed>>,
    /// Slot of the first of them; [`NO_SLOT`] when there is none.
    far_slot: u64,
}

/// No slot has this number.
const NO_SLOT: u64 = u64::MAX;

impl Calendar {
    /// A calendar for about `pending` events at a time whose mean distance is `spacing`; the slot width is a quarter to
    /// a half of it, so that most events are alone, and not so small that events less than `ahead` away would lie beyond
    /// the horizon.
    pub fn new(pending: usize, spacing: Span, ahead: Span) -> Calendar {
        let reach = (ahead.0 / SLOTS as u64 + 1).ilog2() + 1;
        let shift = (spacing.0 / 2).max(1).ilog2().max(reach).min(SHIFT_MAX);
        Calendar {
            shift,
            base: 0,
            soon: NO_SLOT,
            open: Vec::with_capacity(pending.min(1 << 16)),
            heads: Box::new([NIL; SLOTS]),
            bits: [0; WORDS],
            summary: 0,
            nodes: Vec::with_capacity(pending),
            free: NIL,
            far: BinaryHeap::with_capacity(pending.min(1 << 16)),
            far_slot: NO_SLOT,
        }
    }

    /// Adds an event. `time` must not lie before the last event popped.
    #[inline]
    pub fn push(&mut self, time: Time, key: Key) {
        let slot = time.0 >> self.shift;
        let ahead = slot.wrapping_sub(self.base);
        if ahead.wrapping_sub(1) >= SLOTS as u64 - 1 {
            return self.push_aside(ahead == 0, pack(time.0, key.0));
        }
        if self.free == NIL {
            self.grow();
        }
        let (s, n) = (slot as usize % SLOTS, self.free);
        let node = &mut self.nodes[n as usize];
        self.free = node.next;
        *node = Node { time: time.0, key: key.0, next: self.heads[s] };
        self.heads[s] = n;
        self.bits[s / 64] |= 1 << (s % 64);
        self.summary |= 1 << (s / 64);
        self.soon = self.soon.min(slot);
    }

    /// Adds an event to the open slot, or beyond the horizon.
    #[inline(never)]
    fn push_aside(&mut self, open: bool, event: Packed) {
        if open {
            self.insert(time_of(event), event as u32);
        } else {
            self.far_slot = self.far_slot.min(time_of(event) >> self.shift);
            self.far.push(Reverse(event));
        }
    }

    /// Adds an event to the open slot, behind those that come later.
    #[inline]
    fn insert(&mut self, time: u64, key: u32) {
        let event = self.in_slot(time, key);
        let mut at = self.open.len();
        if at > FEW {
            at = self.open.partition_point(|e| *e > event);
            return self.open.insert(at, event);
        }
        self.open.push(event);
        while at > 0 && self.open[at - 1] < event {
            self.open[at] = self.open[at - 1];
            at -= 1;
        }
        self.open[at] = event;
    }

    /// An event as it stands in the open slot.
    #[inline]
    fn in_slot(&self, time: u64, key: u32) -> u64 {
        (time - (self.base << self.shift)) << 32 | u64::from(key)
    }

    /// Time of an event of the open slot.
    #[inline]
    fn time_in_slot(&self, event: u64) -> u64 {
        (self.base << self.shift) + (event >> 32)
    }

    /// Makes one more node and puts it on the free list.
    #[cold]
    fn grow(&mut self) {
        self.free = self.nodes.len() as u32;
        self.nodes.push(Node { time: 0, key: 0, next: NIL });
    }

    /// Time of the earliest event; [`Time::NEVER`] when nothing is pending.
    pub fn next_time(&self) -> Time {
        if let Some(&event) = self.open.last() {
            return Time(self.time_in_slot(event));
        }
        let near = if self.soon == NO_SLOT { u64::MAX } else { self.earliest(self.soon) };
        let far = self.far.peek().map_or(u64::MAX, |Reverse(event)| time_of(*event));
        Time(near.min(far))
    }

    /// Removes and returns the earliest event that lies before `bound`.
    #[inline]
    pub fn pop_before(&mut self, bound: Time) -> Option<(Time, Key)> {
        let Some(&event) = self.open.last() else { return self.pop_later(bound) };
        let time = self.time_in_slot(event);
        if time >= bound.0 {
            return None;
        }
        self.open.pop();
        Some((Time(time), Key(event as u32)))
    }

    /// As [`Calendar::pop_before`] when the open slot is empty. The slot of the event it takes is open then; none is
    /// opened for an event that does not lie before `bound`: what comes from elsewhere may still lie before it.
    #[inline(never)]
    fn pop_later(&mut self, bound: Time) -> Option<(Time, Key)> {
        let slot = self.soon;
        if slot < self.far_slot {
            let s = slot as usize % SLOTS;
            let n = self.heads[s];
            let node = &mut self.nodes[n as usize];
            if node.next == NIL {
                // Alone, as most are.
                if node.time >= bound.0 {
                    return None;
                }
                node.next = self.free;
                self.free = n;
                let event = (Time(node.time), Key(node.key));
                self.base = slot;
                self.take_slot(s);
                self.soon = self.near();
                return Some(event);
            }
        }
        self.open_slot(bound).then(|| self.pop_before(bound)).flatten()
    }

    /// Opens the slot of the earliest event, if it lies before `bound`.
    #[inline(never)]
    fn open_slot(&mut self, bound: Time) -> bool {
        let slot = self.soon.min(self.far_slot);
        if slot == NO_SLOT || (slot >= bound.0 >> self.shift && self.next_time() >= bound) {
            return false;
        }
        self.base = slot;
        let mut n = if self.soon == slot { self.take_slot(slot as usize % SLOTS) } else { NIL };
        self.soon = self.near();
        while n != NIL {
            let node = &mut self.nodes[n as usize];
            let (time, key, next) = (node.time, node.key, std::mem::replace(&mut node.next, self.free));
            self.free = n;
            n = next;
            if self.open.len() < FEW {
                self.insert(time, key);
            } else {
                self.open.push(self.in_slot(time, key));
            }
        }
        while self.far_slot == slot {
            if let Some(Reverse(event)) = self.far.pop() {
                self.open.push(self.in_slot(time_of(event), event as u32));
            }
            self.far_slot = self.far.peek().map_or(NO_SLOT, |Reverse(event)| time_of(*event) >> self.shift);
        }
        if !self.open.is_sorted_by(|a, b| a >= b) {
            self.open.sort_unstable_by(|a, b| b.cmp(a));
        }
        true
    }

    /// Empties slot `s` and returns its list.
    #[inline]
    fn take_slot(&mut self, s: usize) -> u32 {
        let word = &mut self.bits[s / 64];
        *word &= !(1 << (s % 64));
        if *word == 0 {
            self.summary &= !(1 << (s / 64));
        }
        std::mem::replace(&mut self.heads[s], NIL)
    }

    /// Time of the earliest event in a slot that is not open.
    fn earliest(&self, slot: u64) -> u64 {
        let mut n = self.heads[slot as usize % SLOTS];
        let mut earliest = u64::MAX;
        while n != NIL {
            let node = &self.nodes[n as usize];
            earliest = earliest.min(node.time);
            n = node.next;
        }
        earliest
    }

    /// An event that is likely to come after `others` more: one of the open slot, or the first after those. For
    /// prefetching.
    #[inline]
    pub fn upcoming(&self, others: usize) -> Option<Key> {
        if let Some(at) = self.open.len().checked_sub(others + 1) {
            return self.open.get(at).map(|event| Key(*event as u32));
        }
        let n = self.heads[self.soon as usize % SLOTS];
        self.nodes.get(n as usize).map(|node| Key(node.key))
    }

    /// Events left in the open slot.
    #[inline]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Number of the first slot after the open one that is not empty; [`NO_SLOT`] when all are.
    #[inline]
    fn near(&self) -> u64 {
        let start = self.base as usize % SLOTS;
        let w = start / 64;
        let first = self.bits[w] & (u64::MAX << (start % 64));
        let s = if first != 0 {
            w * 64 + first.trailing_zeros() as usize
        } else {
            let Some(word) = self.word_after(w) else { return NO_SLOT };
            word * 64 + self.bits[word].trailing_zeros() as usize
        };
        self.base + (s.wrapping_sub(start) % SLOTS) as u64
    }

    /// The first word of slots behind `w` that are not all empty: later ones, then those from the start up to `w` itself,
    /// whose low part comes last.
    #[inline]
    fn word_after(&self, w: usize) -> Option<usize> {
        let later = self.summary & (u64::MAX << w << 1);
        let words = if later != 0 { later } else { self.summary };
        (words != 0).then(|| words.trailing_zeros() as usize)
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
            let mut cal = Calendar::new(64, Span(100), Span(3_000));
            let mut reference = std::collections::BTreeSet::new();
            let mut now = 0u64;
            for step in 0..20_000u32 {
                if reference.len() < 50 || rng.below(2) == 0 {
                    // Near ones, ties, and some far beyond the horizon.
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
                assert_eq!(cal.next_time().0, reference.first().map_or(u64::MAX, |e| e.0), "seed {seed}");
            }
        }
    }

    #[test]
    fn nothing_at_or_after_the_bound_is_popped() {
        let mut cal = Calendar::new(4, Span(10), Span(100));
        cal.push(Time(100), Key::new(1, 2));
        cal.push(Time(5_000_000), Key::new(1, 3));
        assert_eq!(cal.pop_before(Time(100)), None);
        assert_eq!(cal.pop_before(Time(101)), Some((Time(100), Key::new(1, 2))));
        assert_eq!(cal.pop_before(Time(5_000_000)), None);
        assert_eq!(cal.pop_before(Time(5_000_001)), Some((Time(5_000_000), Key::new(1, 3))));
        assert_eq!(cal.next_time(), Time::NEVER);
    }
}
