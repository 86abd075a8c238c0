//! Balance that remembers: flowlets and adaptive choice.
//!
//! A flow may take another path only when it was silent for longer than paths differ in delay; then nothing is
//! reordered. The table is one of slots without keys, as in switches: flows that meet in a slot share their silence,
//! and a shared slot only makes changes rarer.

use crate::rng::mix;
use crate::units::{Span, Time};

/// Slots of one switch, a power of two: 64 KB.
const SLOTS: usize = 4096;
/// No choice yet.
const NONE: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    last: Time,
    choice: u16,
    /// Flowlets begun, for the next draw.
    begun: u32,
}

/// The flowlets of one switch.
#[derive(Debug)]
pub struct Flowlets {
    slots: Box<[Slot]>,
    gap: Span,
}

impl Flowlets {
    /// A table for flowlets that `gap` of silence separates.
    pub fn new(gap: Span) -> Flowlets {
        let slot = Slot { last: Time::ZERO, choice: NONE, begun: 0 };
        Flowlets { slots: vec![slot; SLOTS].into_boxed_slice(), gap }
    }

    /// Which of `n` ports a frame of the flow `key` takes at `now`: that of its flowlet, or what `choose` says when a
    /// new one begins. `choose` is given how many flowlets began in this slot before.
    #[inline]
    pub fn choose(&mut self, now: Time, key: u64, n: usize, choose: impl FnOnce(u32) -> usize) -> usize {
        let slot = &mut self.slots[mix(key) as usize % SLOTS];
        let over = slot.choice == NONE || now.since(slot.last) > self.gap;
        slot.last = now;
        if over || usize::from(slot.choice) >= n {
            slot.choice = choose(slot.begun) as u16;
            slot.begun = slot.begun.wrapping_add(1);
        }
        usize::from(slot.choice)
    }
}

/// The least loaded of `n` ports; among equals the first from `from` on, in a circle.
#[inline]
pub fn least_loaded(n: usize, from: usize, mut load: impl FnMut(usize) -> u64) -> usize {
    let (mut best, mut least) = (from % n.max(1), u64::MAX);
    for i in (0..n).map(|i| (from + i) % n) {
        let load = load(i);
        if load < least {
            (best, least) = (i, load);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flowlet_keeps_its_port_until_it_was_silent() {
        let mut f = Flowlets::new(Span(100));
        let mut at = |now: u64| f.choose(Time(now), 7, 4, |begun| begun as usize % 4);
        assert_eq!([at(0), at(100), at(200), at(300)], [0; 4], "silences of exactly the gap");
        assert_eq!([at(401), at(450)], [1, 1]);
        assert_eq!(at(1_000), 2);
        // Fewer ports than before: the choice is made again.
        assert_eq!(f.choose(Time(1_001), 7, 2, |_| 1), 1);
    }

    #[test]
    fn the_least_loaded_port_is_taken_and_ties_go_round() {
        let loads = [5, 3, 9, 3];
        assert_eq!((0..4).map(|from| least_loaded(4, from, |i| loads[i])).collect::<Vec<_>>(), [1, 1, 3, 3]);
        assert_eq!(least_loaded(1, 9, |_| 0), 0);
    }
}
