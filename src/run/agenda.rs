//! An event queue in whole nanoseconds whose events of one instant come out in the order in which they were put in.
//!
//! One bucket per nanosecond up to a horizon, a heap beyond it. An event leaves the heap when its bucket comes within
//! the horizon, before anything later can be put into that bucket: so the order of putting in is kept throughout.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nanoseconds that the buckets cover: more than the longest usual link.
const HORIZON: u64 = 1 << 14;

/// The queue; `u32` says what happens.
#[derive(Debug)]
pub struct Agenda {
    /// Nanosecond of the bucket being emptied.
    now: u64,
    /// Events of it that came out.
    taken: usize,
    buckets: Vec<Vec<u32>>,
    /// Events in all buckets that have not come out.
    near: usize,
    far: BinaryHeap<Reverse<(u64, u64, u32)>>,
    sequence: u64,
}

impl Agenda {
    /// An empty queue at time 0.
    pub fn new() -> Agenda {
        let buckets = vec![Vec::new(); HORIZON as usize];
        Agenda { now: 0, taken: 0, buckets, near: 0, far: BinaryHeap::new(), sequence: 0 }
    }

    /// Puts an event in at `ns`, not before the last one that came out.
    #[inline]
    pub fn push(&mut self, ns: u64, event: u32) {
        if ns < self.now + HORIZON {
            self.buckets[(ns % HORIZON) as usize].push(event);
            self.near += 1;
        } else {
            self.far.push(Reverse((ns, self.sequence, event)));
            self.sequence += 1;
        }
    }

    /// The next event and its nanosecond.
    #[inline]
    pub fn pop(&mut self) -> Option<(u64, u32)> {
        loop {
            let bucket = &mut self.buckets[(self.now % HORIZON) as usize];
            if let Some(&event) = bucket.get(self.taken) {
                self.taken += 1;
                self.near -= 1;
                return Some((self.now, event));
            }
            bucket.clear();
            self.taken = 0;
            self.now = match self.near {
                0 => self.far.peek()?.0.0,
                _ => self.now + 1,
            };
            while let Some(&Reverse((ns, _, event))) = self.far.peek()
                && ns < self.now + HORIZON
            {
                self.far.pop();
                self.buckets[(ns % HORIZON) as usize].push(event);
                self.near += 1;
            }
        }
    }
}

impl Default for Agenda {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn events_come_by_time_and_then_in_the_order_they_were_put_in() {
        let mut rng = Rng::new(1, "agenda", 0);
        let mut agenda = Agenda::new();
        let (mut now, mut number) = (0, 0);
        let mut expected = std::collections::BTreeSet::new();
        for _ in 0..50_000 {
            if expected.len() < 20 || rng.below(2) == 0 {
                // Ties, neighbours, and some far beyond the horizon.
                let reach = [3, 1_000, 3 * HORIZON][rng.below(3) as usize];
                let at = now + rng.below(reach);
                agenda.push(at, number);
                expected.insert((at, number));
                number += 1;
            } else {
                let first = expected.pop_first().unwrap();
                assert_eq!(agenda.pop(), Some(first));
                now = first.0;
            }
        }
        while let Some(first) = expected.pop_first() {
            assert_eq!(agenda.pop(), Some(first));
        }
        assert_eq!(agenda.pop(), None);
    }
}
