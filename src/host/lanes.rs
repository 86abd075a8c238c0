//! Streams that wait for the time of their next frame.
//!
//! Streams with one gap between frames come round in one order: whoever has just sent is the last of them to send again.
//! They stand in a lane, a queue that is sorted as it is. It is kept sorted to the picosecond, remainders of gaps and all;
//! who does not fit near its end waits in the wheel like everybody else.

use std::collections::VecDeque;

use super::stream::Sender;
use crate::units::Time;

/// Streams with further gaps use the wheel.
const LANES_MAX: usize = 4;
/// Places that a stream may have to move ahead: gaps that are no whole number of picoseconds differ by one.
const STEPS_MAX: usize = 8;
/// A stream without a lane.
pub(super) const NO_LANE: u8 = u8::MAX;

/// Bytes of memory per stream.
pub(super) const BYTES_PER_STREAM: usize = size_of::<(Time, u32)>();

/// All lanes of a host. Senders are known by their number among all senders.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: Vec<VecDeque<(Time, u32)>>,
    /// Earliest of them all, exact.
    next: Time,
}

impl Lanes {
    /// Gives each stream its lane, and lanes room for all their streams.
    pub(super) fn new(streams: &mut [Sender]) -> Lanes {
        let mut gaps: Vec<((u64, u64, u64), usize)> = Vec::new();
        for s in streams {
            s.lane = NO_LANE;
            let Some(gap) = s.gap() else { continue };
            let known = gaps.iter().position(|(g, _)| *g == gap);
            let lane = known.unwrap_or(gaps.len());
            if lane == gaps.len() {
                if lane == LANES_MAX {
                    continue;
                }
                gaps.push((gap, 0));
            }
            gaps[lane].1 += 1;
            s.lane = lane as u8;
        }
        let lanes = gaps.iter().map(|(_, count)| VecDeque::with_capacity(*count + 1)).collect();
        Lanes { lanes, next: Time::NEVER }
    }

    /// The earliest time of all; `NEVER` when nobody waits. Cost: one load.
    #[inline(always)]
    pub(super) fn next(&self) -> Time {
        self.next
    }

    /// Lets a sender wait until `at`; false when it does not fit.
    #[inline(always)]
    pub(super) fn set(&mut self, lane: u8, sender: u32, at: Time) -> bool {
        let Some(queue) = self.lanes.get_mut(usize::from(lane)) else { return false };
        if queue.back().is_some_and(|last| *last > (at, sender)) {
            if !squeeze_in(queue, (at, sender)) {
                return false;
            }
        } else {
            queue.push_back((at, sender));
        }
        self.next = self.next.min(at);
        true
    }

    /// The earliest time and its sender, the lower number of two.
    #[inline]
    pub(super) fn front(&self) -> Option<(Time, u32)> {
        self.lanes.iter().filter_map(VecDeque::front).min().copied()
    }

    /// Takes what [`Lanes::front`] shows, and says who stands `ahead` places behind it.
    #[inline]
    pub(super) fn leave(&mut self, ahead: usize) -> Option<u32> {
        let front = self.front()?;
        let lane = self.lanes.iter_mut().find(|l| l.front() == Some(&front))?;
        lane.pop_front();
        let soon = lane.get(ahead).map(|(_, sender)| *sender);
        self.next = self.front().map_or(Time::NEVER, |(at, _)| at);
        soon
    }
}

/// Puts an entry in its place near the end; false when that is far from it.
#[cold]
fn squeeze_in(queue: &mut VecDeque<(Time, u32)>, me: (Time, u32)) -> bool {
    let before = queue.iter().rev().take(STEPS_MAX + 1).take_while(|other| **other > me).count();
    if before > STEPS_MAX {
        return false;
    }
    queue.insert(queue.len() - before, me);
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transport::wheel::Wheel;

    proptest! {
        /// Lanes and wheel together let senders go in the order in which the wheel alone does.
        #[test]
        fn lanes_keep_the_order_of_the_wheel(
            gaps in proptest::collection::vec((900u64..1_100, 0u64..3_000), 1..40),
            steps in proptest::collection::vec(0u64..400, 1..400),
        ) {
            let count = gaps.len();
            let mut plain = Wheel::new(count);
            let mut wheel = Wheel::new(count);
            let mut lanes = Lanes { lanes: vec![VecDeque::new(); 2], next: Time::NEVER };
            for (i, (_, start)) in gaps.iter().enumerate() {
                plain.set(i as u32, Time(*start));
                wheel.set(i as u32, Time(*start));
            }
            let mut now = Time::ZERO;
            for s in steps {
                now = Time(now.0 + s);
                let mut due = Vec::new();
                while let Some((timer, at)) = plain.pop(now) {
                    due.push((timer, at));
                }
                let mut got = Vec::new();
                while let Some((at, sender)) = lanes.front().filter(|f| f.0 <= now) {
                    while let Some(first) = wheel.pop_before((at, sender)) {
                        got.push(first);
                    }
                    lanes.leave(0);
                    got.push((sender, at));
                }
                while let Some(first) = wheel.pop(now) {
                    got.push(first);
                }
                prop_assert_eq!(&due, &got);
                for (timer, at) in due {
                    let i = timer as usize;
                    // Two kinds of gaps, a picosecond more now and then.
                    let next = Time((at.0 + gaps[i].0 / 100 * 100 + (now.0 & 1)).max(now.0 + 1));
                    plain.set(timer, next);
                    if !lanes.set((i % 3) as u8, timer, next) {
                        wheel.set(timer, next);
                    }
                }
                prop_assert_eq!(plain.next(), wheel.next().min(lanes.next()));
            }
        }
    }
}
