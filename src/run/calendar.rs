//! The event queue of an engine: a calendar of slots that are sorted when their time has come, and a heap for what lies
//! beyond its horizon.
//!
//! An event is when, what ([`Key`]), and perhaps an item: the frame that arrives. Events come out in (time, key) order, and that order is part of
//! the physics: two drivers that use it give the same outcome. Putting an event in costs the same however many are
//! pending; taking one out costs its share of sorting its slot, a few nanoseconds while the slot width is near the mean
//! distance between events. The heap takes the rare far ones (timeouts, the next iteration).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::select_unpredictable;

use crate::hint::prefetch;
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
/// Width of the widest, 4 ms: the horizon lies 18 s ahead then.
const SHIFT_MAX: u32 = 32;
/// So many events of a slot are sorted by insertion.
const FEW: usize = 16;

#[derive(Debug)]
struct Node<T> {
    time: u64,
    key: u32,
    next: u32,
    item: Option<T>,
}

/// Time, key and node as one number that sorts like the first two.
type Packed = u128;

#[inline]
fn pack(time: u64, key: u32, node: u32) -> Packed {
    Packed::from(time) << 64 | Packed::from(u64::from(key) << 32 | u64::from(node))
}

#[inline]
fn time_of(event: Packed) -> u64 {
    (event >> 64) as u64
}

/// The queue. Grows only when more events are pending than it was made for.
#[derive(Debug)]
pub struct Calendar<T> {
    shift: u32,
    /// Number (time >> shift) of the open slot. Nothing pending lies before it.
    base: u64,
    /// The first slot after it that is not empty; [`NO_SLOT`] when all are.
    soon: u64,
    /// Events of the open slot, last one first.
    open: Vec<Packed>,
    /// Lists of the later slots, in no order.
    heads: Box<[u32; SLOTS]>,
    /// A bit for each slot that is not empty, and one for each such word of them.
    bits: [u64; WORDS],
    summary: u64,
    /// Every pending event, wherever it is listed, and free ones.
    nodes: Vec<Node<T>>,
    free: u32,
    /// Events that lay beyond the horizon when they came. None is of the open slot.
    far: BinaryHeap<Reverse<Packed>>,
    /// Slot of the first of them; [`NO_SLOT`] when there is none.
    far_slot: u64,
}

/// Sorts events that are nearly in order, last one first.
#[inline]
fn sort_few(events: &mut [Packed]) {
    for i in 1..events.len() {
        let event = events[i];
        let mut at = i;
        while at > 0 && events[at - 1] < event {
            events[at] = events[at - 1];
            at -= 1;
        }
        events[at] = event;
    }
}

/// No slot has this number.
const NO_SLOT: u64 = u64::MAX;

impl<T> Calendar<T> {
    /// A calendar for about `pending` events at a time whose mean distance is `spacing`; the slot width is a quarter to
    /// a half of it, so that most events are alone, and not so small that events less than twice `ahead` away would lie
    /// beyond the horizon: paced senders wait for longer than a frame takes.
    pub fn new(pending: usize, spacing: Span, ahead: Span) -> Calendar<T> {
        let reach = (2 * ahead.0 / SLOTS as u64 + 1).ilog2() + 1;
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

    /// Adds an event without an item. `time` must not lie before the last event popped.
    #[inline]
    pub fn push(&mut self, time: Time, key: Key) {
        self.push_item(time, key, None);
    }

    /// Adds an event and what it is about. `time` must not lie before the last event popped. Two events of one time and
    /// key come out in no order: give those with items times of their own.
    #[inline(always)]
    pub fn push_item(&mut self, time: Time, key: Key, item: Option<T>) {
        if self.free == NIL {
            self.grow();
        }
        let (slot, n) = (time.0 >> self.shift, self.free);
        let node = &mut self.nodes[n as usize];
        self.free = node.next;
        (node.time, node.key, node.item) = (time.0, key.0, item);
        let ahead = slot.wrapping_sub(self.base);
        if ahead.wrapping_sub(1) >= SLOTS as u64 - 1 {
            return self.push_aside(ahead == 0, pack(time.0, key.0, n));
        }
        let s = slot as usize % SLOTS;
        node.next = self.heads[s];
        self.heads[s] = n;
        self.bits[s / 64] |= 1 << (s % 64);
        self.summary |= 1 << (s / 64);
        self.soon = self.soon.min(slot);
    }

    /// Adds an event to the open slot, or beyond the horizon.
    #[inline(never)]
    fn push_aside(&mut self, open: bool, event: Packed) {
        if open {
            self.insert(event);
        } else {
            self.far_slot = self.far_slot.min(time_of(event) >> self.shift);
            self.far.push(Reverse(event));
        }
    }

    /// Adds an event to the open slot, behind those that come later.
    #[inline]
    fn insert(&mut self, event: Packed) {
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

    /// Makes one more node and puts it on the free list.
    #[cold]
    fn grow(&mut self) {
        self.free = self.nodes.len() as u32;
        self.nodes.push(Node { time: 0, key: 0, next: NIL, item: None });
    }

    /// Time of the earliest event; [`Time::NEVER`] when nothing is pending.
    pub fn next_time(&self) -> Time {
        if let Some(&event) = self.open.last() {
            return Time(time_of(event));
        }
        let near = if self.soon == NO_SLOT { u64::MAX } else { self.earliest(self.soon) };
        let far = self.far.peek().map_or(u64::MAX, |Reverse(event)| time_of(*event));
        Time(near.min(far))
    }

    /// Removes and returns the earliest event that lies before `bound`, with its item.
    #[inline(always)]
    pub fn pop_before(&mut self, bound: Time) -> Option<(Time, Key, Option<T>)> {
        let Some(&event) = self.open.last() else { return self.pop_later(bound) };
        if time_of(event) >= bound.0 {
            return None;
        }
        self.open.pop();
        Some(self.take(event as u32))
    }

    /// Empties a node.
    #[inline(always)]
    fn take(&mut self, n: u32) -> (Time, Key, Option<T>) {
        let node = &mut self.nodes[n as usize];
        node.next = self.free;
        self.free = n;
        (Time(node.time), Key(node.key), node.item.take())
    }

    /// As [`Calendar::pop_before`] when the open slot is empty. The slot of the event it takes is open then; none is
    /// opened for an event that does not lie before `bound`: what comes from elsewhere may still lie before it.
    #[inline(always)]
    fn pop_later(&mut self, bound: Time) -> Option<(Time, Key, Option<T>)> {
        let slot = self.soon;
        if slot < self.far_slot {
            let n = self.heads[slot as usize % SLOTS];
            let node = &self.nodes[n as usize];
            if node.next == NIL {
                // Alone, as most are.
                if node.time >= bound.0 {
                    return None;
                }
                self.leave_for(slot);
                // The next one lies where the caches last put it; its own turn comes a hundred nanoseconds later.
                prefetch(self.nodes.as_ptr().wrapping_add(self.heads[self.soon as usize % SLOTS] as usize));
                return Some(self.take(n));
            }
        }
        self.pop_crowded(bound)
    }

    /// As [`Calendar::pop_later`] when the first event is not alone in its slot, or lay beyond the horizon.
    #[inline(never)]
    fn pop_crowded(&mut self, bound: Time) -> Option<(Time, Key, Option<T>)> {
        let slot = self.soon;
        if slot < self.far_slot {
            let n = self.heads[slot as usize % SLOTS];
            let node = &self.nodes[n as usize];
            let other = &self.nodes[node.next as usize];
            if other.next == NIL {
                // Two, as most of the others are: no list to sort.
                let (a, b) = (pack(node.time, node.key, n), pack(other.time, other.key, node.next));
                let first = a.min(b);
                if time_of(first) >= bound.0 {
                    return None;
                }
                self.open.push(a.max(b));
                self.leave_for(slot);
                return Some(self.take(first as u32));
            }
        }
        self.open_slot(bound).then(|| self.pop_before(bound)).flatten()
    }

    /// Makes `slot`, the first one with events, the open one.
    #[inline(always)]
    fn leave_for(&mut self, slot: u64) -> u32 {
        self.base = slot;
        let list = self.take_slot(slot as usize % SLOTS);
        self.soon = self.near();
        list
    }

    /// Opens the slot of the earliest event, if it lies before `bound`.
    #[inline(never)]
    fn open_slot(&mut self, bound: Time) -> bool {
        let slot = self.soon.min(self.far_slot);
        if slot == NO_SLOT || (slot >= bound.0 >> self.shift && self.next_time() >= bound) {
            return false;
        }
        let mut n = NIL;
        if self.soon == slot {
            n = self.leave_for(slot);
        } else {
            self.base = slot;
            self.soon = self.near();
        }
        while n != NIL {
            let node = &self.nodes[n as usize];
            self.open.push(pack(node.time, node.key, n));
            n = node.next;
        }
        while self.far_slot == slot {
            if let Some(Reverse(event)) = self.far.pop() {
                self.open.push(event);
            }
            self.far_slot = self.far.peek().map_or(NO_SLOT, |Reverse(event)| time_of(*event) >> self.shift);
        }
        match &mut self.open[..] {
            few if few.len() <= FEW => sort_few(few),
            many => many.sort_unstable_by(|a, b| b.cmp(a)),
        }
        true
    }

    /// Empties slot `s` and returns its list.
    #[inline]
    fn take_slot(&mut self, s: usize) -> u32 {
        let word = &mut self.bits[s / 64];
        *word &= !(1 << (s % 64));
        let empty = u64::from(*word == 0);
        self.summary &= !(empty << (s / 64));
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

    /// An event that is likely to come after `others` more, with its item: one of the open slot, or the first after
    /// those. For prefetching.
    #[inline]
    pub fn upcoming(&self, others: usize) -> Option<(Key, Option<&T>)> {
        let n = match self.open.len().checked_sub(others + 1) {
            Some(at) => *self.open.get(at)? as u32,
            None => self.heads[self.soon as usize % SLOTS],
        };
        self.nodes.get(n as usize).map(|node| (Key(node.key), node.item.as_ref()))
    }

    /// Events left in the open slot.
    #[inline]
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Number of the first slot after the open one that is not empty; [`NO_SLOT`] when all are.
    ///
    /// Whether it lies in the word of the open slot is a coin that no branch predictor foretells, so both answers are
    /// worked out and one is chosen.
    #[inline]
    fn near(&self) -> u64 {
        if self.summary == 0 {
            return NO_SLOT;
        }
        let start = self.base as usize % SLOTS;
        let w = start / 64;
        let here = self.bits[w] & (u64::MAX << (start % 64));
        // Later words, then those from the start up to `w` itself, whose low part comes last.
        let later = self.summary & (u64::MAX << w << 1);
        let words = select_unpredictable(later != 0, later, self.summary);
        let other = words.trailing_zeros() as usize % WORDS;
        let there = self.bits[other];
        let word = select_unpredictable(here != 0, w, other);
        let bits = select_unpredictable(here != 0, here, there);
        let s = word * 64 + bits.trailing_zeros() as usize;
        self.base + (s.wrapping_sub(start) % SLOTS) as u64
    }

    /// Takes out all items.
    pub fn drain_items(&mut self) -> impl Iterator<Item = T> + '_ {
        self.nodes.iter_mut().filter_map(|node| node.item.take())
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
            let mut cal = Calendar::<u32>::new(64, Span(100), Span(3_000));
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
                        cal.push_item(Time(e.0), Key(e.1), e.1.is_multiple_of(3).then_some(e.1));
                    }
                } else {
                    let want = reference.pop_first().unwrap();
                    let (t, k, item) = cal.pop_before(Time::NEVER).unwrap();
                    assert_eq!(item, k.0.is_multiple_of(3).then_some(k.0));
                    assert_eq!((t.0, k.0), want, "seed {seed} step {step}");
                    now = t.0;
                }
                assert_eq!(cal.next_time().0, reference.first().map_or(u64::MAX, |e| e.0), "seed {seed}");
            }
        }
    }

    #[test]
    fn nothing_at_or_after_the_bound_is_popped() {
        let mut cal = Calendar::<()>::new(4, Span(10), Span(100));
        cal.push(Time(100), Key::new(1, 2));
        cal.push(Time(5_000_000), Key::new(1, 3));
        assert_eq!(cal.pop_before(Time(100)), None);
        assert_eq!(cal.pop_before(Time(101)), Some((Time(100), Key::new(1, 2), None)));
        assert_eq!(cal.pop_before(Time(5_000_000)), None);
        assert_eq!(cal.pop_before(Time(5_000_001)), Some((Time(5_000_000), Key::new(1, 3), None)));
        assert_eq!(cal.next_time(), Time::NEVER);
    }
}
