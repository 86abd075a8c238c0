//! Timers of one host: a hierarchical wheel that keeps exact deadlines.
//!
//! Eight levels of 64 slots, 8 KB: a word says which slots of a level are in use, a cache line says it of all. Slots
//! hold intrusive lists, and each slot remembers its earliest deadline, so the next deadline of all timers is exact and
//! cached. Timers of the slot in which the clock stands sit in a small heap, which alone is sorted. Setting, clearing
//! and firing cost the same with 64 and with 65,536 timers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::units::Time;

/// Width of a slot of the lowest level: 2^16 ps = 65.5 ns, less than a full frame takes at 400G.
const SLOT_BITS: u32 = 16;
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = 8;
const _: () = assert!(SLOTS == 64, "a word per level");

const NONE: u32 = u32::MAX;
/// `prev` of a timer that sits in the heap.
const DUE: u32 = u32::MAX - 1;
/// `prev` of the timer that waits in front of the wheel.
const FRONT: u32 = u32::MAX - 2;
/// No timer waits there.
const NOBODY: (Time, u32) = (Time::NEVER, NONE);

/// One timer: 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Node {
    deadline: Time,
    next: u32,
    prev: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    earliest: Time,
    head: u32,
}

/// Timers numbered from 0, each set at most once at a time. One cache line holds what a timer in front needs.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Wheel {
    next: Time,
    /// The first of all timers, or [`NOBODY`]: one that came in before all others, as the next frame of a paced sender does,
    /// never enters the wheel.
    front: (Time, u32),
    /// As `next`, but for that one.
    rest: Time,
    /// Slot number (deadline >> SLOT_BITS) up to which timers are in `due`.
    cursor: u64,
    nodes: Vec<Node>,
    slots: Vec<Slot>,
    due: BinaryHeap<Reverse<(Time, u32)>>,
    /// By level, a bit per slot.
    occupied: [u64; LEVELS],
}

/// Bytes of memory per timer.
pub const BYTES_PER_TIMER: usize = size_of::<Node>();

/// Bytes of memory of a wheel without its timers.
pub const BYTES_PER_WHEEL: usize = LEVELS * SLOTS * size_of::<Slot>();

impl Wheel {
    /// A wheel for timers `0..timers`, none of them set.
    pub fn new(timers: usize) -> Wheel {
        Wheel {
            nodes: vec![Node { deadline: Time::NEVER, next: NONE, prev: NONE }; timers],
            slots: vec![Slot { earliest: Time::NEVER, head: NONE }; LEVELS * SLOTS],
            occupied: [0; LEVELS],
            cursor: 0,
            due: BinaryHeap::with_capacity(timers.min(4096)),
            next: Time::NEVER,
            front: NOBODY,
            rest: Time::NEVER,
        }
    }

    /// The earliest deadline of all timers, exact; `NEVER` when none is set. Cost: one load.
    #[inline]
    pub fn next(&self) -> Time {
        self.next
    }

    /// Deadline of one timer; `NEVER` when it is not set.
    #[inline]
    pub fn deadline(&self, timer: u32) -> Time {
        self.nodes[timer as usize].deadline
    }

    /// Sets (or moves) a timer. A deadline in the past fires at the next [`Wheel::pop`]; `NEVER` clears it.
    #[inline]
    pub fn set(&mut self, timer: u32, deadline: Time) {
        if self.nodes[timer as usize].deadline != Time::NEVER {
            self.clear(timer);
        }
        if deadline == Time::NEVER {
            return;
        }
        let next = (deadline, timer);
        if next < self.front && (self.front != NOBODY || deadline < self.rest) {
            let was = std::mem::replace(&mut self.front, next);
            self.nodes[timer as usize] = Node { deadline, next: NONE, prev: FRONT };
            self.next = deadline;
            if was != NOBODY {
                self.place(was.1, was.0);
                self.rest = was.0;
            }
            return;
        }
        self.place(timer, deadline);
        self.rest = self.rest.min(deadline);
        self.next = self.next.min(deadline);
    }

    /// Clears a timer; nothing happens when it is not set.
    pub fn clear(&mut self, timer: u32) {
        let node = self.nodes[timer as usize];
        if node.deadline == Time::NEVER {
            return;
        }
        self.nodes[timer as usize] = Node { deadline: Time::NEVER, next: NONE, prev: NONE };
        if node.prev == FRONT {
            (self.front, self.next) = (NOBODY, self.rest);
            return;
        }
        if node.prev != DUE {
            self.unlink(node);
        }
        if node.deadline == self.rest {
            self.refresh_rest();
        }
    }

    /// Takes the earliest timer whose deadline is not after `now`. Equal deadlines come in order of their
    /// numbers.
    #[inline]
    pub fn pop(&mut self, now: Time) -> Option<(u32, Time)> {
        if self.next > now {
            return None;
        }
        self.pop_due((now, NONE))
    }

    /// As [`Wheel::pop`] as long as deadline and number are below `limit`.
    #[inline]
    pub fn pop_before(&mut self, limit: (Time, u32)) -> Option<(u32, Time)> {
        if self.next > limit.0 {
            return None;
        }
        self.pop_due(limit)
    }

    #[inline]
    fn pop_due(&mut self, limit: (Time, u32)) -> Option<(u32, Time)> {
        if self.front == NOBODY {
            return self.pop_wheel(limit);
        }
        if self.front >= limit {
            return None;
        }
        let (deadline, timer) = std::mem::replace(&mut self.front, NOBODY);
        self.nodes[timer as usize] = Node { deadline: Time::NEVER, next: NONE, prev: NONE };
        self.next = self.rest;
        Some((timer, deadline))
    }

    /// As [`Wheel::pop_due`] when nobody is in front.
    #[inline(never)]
    fn pop_wheel(&mut self, limit: (Time, u32)) -> Option<(u32, Time)> {
        loop {
            self.drop_stale();
            if let Some(&Reverse((deadline, timer))) = self.due.peek() {
                if (deadline, timer) >= limit {
                    (self.rest, self.next) = (deadline, deadline);
                    return None;
                }
                self.due.pop();
                self.nodes[timer as usize] = Node { deadline: Time::NEVER, next: NONE, prev: NONE };
                self.refresh_rest();
                return Some((timer, deadline));
            }
            let (level, index) = self.first_slot()?;
            let earliest = self.slots[level * SLOTS + index].earliest;
            if earliest > limit.0 {
                (self.rest, self.next) = (earliest, earliest);
                return None;
            }
            let timer = self.slots[level * SLOTS + index].head;
            let node = self.nodes[timer as usize];
            if node.next == NONE {
                // Alone in the first slot: the earliest of all.
                self.enter(level, index);
                self.nodes[timer as usize] = Node { deadline: Time::NEVER, next: NONE, prev: NONE };
                self.refresh_rest();
                return Some((timer, node.deadline));
            }
            self.open(level, index);
        }
    }

    /// Moves the cursor to the start of a slot and deals its timers out again: to lower levels, or to the
    /// heap.
    fn open(&mut self, level: usize, index: usize) {
        let mut timer = self.enter(level, index);
        while timer != NONE {
            let node = self.nodes[timer as usize];
            self.place(timer, node.deadline);
            timer = node.next;
        }
    }

    /// Moves the cursor to the start of a slot, empties it and returns its list.
    #[inline]
    fn enter(&mut self, level: usize, index: usize) -> u32 {
        let shift = DIGIT_BITS * level as u32;
        let above = self.cursor >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
        self.cursor = above | (index as u64) << shift;
        self.occupied[level] &= !(1 << index);
        let empty = Slot { earliest: Time::NEVER, head: NONE };
        std::mem::replace(&mut self.slots[level * SLOTS + index], empty).head
    }

    #[inline]
    fn place(&mut self, timer: u32, deadline: Time) {
        let slot = deadline.0 >> SLOT_BITS;
        if slot <= self.cursor {
            self.nodes[timer as usize] = Node { deadline, next: NONE, prev: DUE };
            self.due.push(Reverse((deadline, timer)));
            return;
        }
        let (level, index) = self.slot_of(slot);
        let at = level * SLOTS + index;
        let head = self.slots[at].head;
        self.nodes[timer as usize] = Node { deadline, next: head, prev: NONE };
        if head != NONE {
            self.nodes[head as usize].prev = timer;
        }
        self.slots[at] = Slot { earliest: self.slots[at].earliest.min(deadline), head: timer };
        self.occupied[level] |= 1 << index;
    }

    /// Level and slot of a deadline beyond the cursor. A timer keeps its place until its slot is opened,
    /// because the cursor never enters a slot that has not been opened.
    #[inline]
    fn slot_of(&self, slot: u64) -> (usize, usize) {
        let level = ((63 - (slot ^ self.cursor).leading_zeros()) / DIGIT_BITS) as usize;
        (level, (slot >> (DIGIT_BITS * level as u32)) as usize % SLOTS)
    }

    fn unlink(&mut self, node: Node) {
        let (level, index) = self.slot_of(node.deadline.0 >> SLOT_BITS);
        let at = level * SLOTS + index;
        if node.next != NONE {
            self.nodes[node.next as usize].prev = node.prev;
        }
        if node.prev == NONE {
            self.slots[at].head = node.next;
        } else {
            self.nodes[node.prev as usize].next = node.next;
        }
        if self.slots[at].head == NONE {
            self.slots[at].earliest = Time::NEVER;
            self.occupied[level] &= !(1 << index);
        } else if self.slots[at].earliest == node.deadline {
            self.slots[at].earliest = self.earliest_of(self.slots[at].head);
        }
    }

    fn earliest_of(&self, mut timer: u32) -> Time {
        let mut earliest = Time::NEVER;
        while timer != NONE {
            let node = self.nodes[timer as usize];
            earliest = earliest.min(node.deadline);
            timer = node.next;
        }
        earliest
    }

    /// The first slot with timers: every timer of a level is earlier than all those of the levels above.
    #[inline]
    fn first_slot(&self) -> Option<(usize, usize)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        Some((level, self.occupied[level].trailing_zeros() as usize))
    }

    /// Removes heap entries of timers that were cleared or moved since.
    #[inline]
    fn drop_stale(&mut self) {
        while let Some(&Reverse((deadline, timer))) = self.due.peek() {
            let node = self.nodes[timer as usize];
            if node.prev == DUE && node.deadline == deadline {
                return;
            }
            self.due.pop();
        }
    }

    fn refresh_rest(&mut self) {
        self.drop_stale();
        self.rest = match self.due.peek() {
            Some(&Reverse((deadline, _))) => deadline,
            None => self.first_slot().map_or(Time::NEVER, |(l, i)| self.slots[l * SLOTS + i].earliest),
        };
        self.next = self.front.0.min(self.rest);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        Clear(u32),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let span = prop_oneof![0u64..200, 0u64..200_000, 0u64..50_000_000, 0u64..200_000_000_000];
        prop_oneof![
            4 => (0u32..40, span.clone()).prop_map(|(t, d)| Step::Set(t, d)),
            1 => (0u32..40).prop_map(Step::Clear),
            3 => span.prop_map(Step::Advance),
        ]
    }

    proptest! {
        #[test]
        fn fires_like_a_sorted_set(steps in proptest::collection::vec(step(), 1..200)) {
            let mut wheel = Wheel::new(40);
            let mut model: BTreeSet<(Time, u32)> = BTreeSet::new();
            let mut now = Time::ZERO;
            for s in steps {
                match s {
                    Step::Set(t, d) => {
                        let at = Time(now.0 + d);
                        model.retain(|e| e.1 != t);
                        model.insert((at, t));
                        wheel.set(t, at);
                    }
                    Step::Clear(t) => {
                        model.retain(|e| e.1 != t);
                        wheel.clear(t);
                    }
                    Step::Advance(d) => {
                        now = Time(now.0 + d);
                        while let Some(&(at, t)) = model.first().filter(|e| e.0 <= now) {
                            prop_assert_eq!(wheel.pop(now), Some((t, at)));
                            model.pop_first();
                        }
                        prop_assert_eq!(wheel.pop(now), None);
                    }
                }
                prop_assert_eq!(wheel.next(), model.first().map_or(Time::NEVER, |e| e.0));
            }
        }
    }

    #[test]
    fn a_far_timer_does_not_hide_a_near_one() {
        let mut w = Wheel::new(2);
        w.set(0, Time(67_108_864_000));
        assert_eq!(w.next(), Time(67_108_864_000));
        w.set(1, Time(5));
        assert_eq!(w.next(), Time(5));
        assert_eq!(w.pop(Time(4)), None);
        assert_eq!(w.pop(Time(5)), Some((1, Time(5))));
        assert_eq!(w.next(), Time(67_108_864_000));
    }
}
