//! Which queue of a port sends next: strict priorities first (higher first), then deficit weighted round robin by
//! bytes among the others (Shreedhar and Varghese, SIGCOMM 1995; ETS of 802.1Qaz shares what strict queues leave).

use super::config::{PriorityConfig, SwitchConfig};
use crate::limits::PRIORITIES;

/// Least quantum of a weighted queue: above the longest Ethernet frame in use, so that every visit sends something and
/// a choice costs at most one round over the eight queues.
const QUANTUM_BYTES_MIN: u64 = 10_240;
/// Largest quantum, so that a deficit cannot overflow.
const QUANTUM_BYTES_MAX: u64 = 1 << 29;
/// What a queue may carry over from one turn to the next: one frame of any length. A queue that is paused in its turn
/// again and again saves up no more.
const CARRY_BYTES_MAX: u32 = 1 << 17;

/// Round-robin state of one port.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// What each queue may still send in its turn, bytes.
    deficit: [u32; PRIORITIES],
    /// Whose turn it is.
    current: u8,
    /// Strict priorities.
    strict: u8,
    /// Its row of quanta.
    profile: u16,
}

/// The schedulers of all ports of one switch.
#[derive(Debug)]
pub struct Scheduler {
    /// By profile.
    quantum: Vec<[u32; PRIORITIES]>,
    turns: Vec<Turn>,
}

impl Scheduler {
    /// Schedulers of the ports with the weights of their profiles (0 = strict).
    pub fn new(config: &SwitchConfig) -> Scheduler {
        let quantum = config.profiles.iter().map(|p| quanta(&p.priorities)).collect();
        let turn = |port| {
            let weights = config.of_port(port).priorities.iter().map(|p| p.weight).enumerate();
            let strict = weights.filter(|(_, w)| *w == 0).fold(0, |mask, (p, _)| mask | 1 << p);
            Turn { strict, profile: config.ports[port].profile, ..Turn::default() }
        };
        Scheduler { quantum, turns: (0..config.ports.len()).map(turn).collect() }
    }

    /// The priority that sends next on `port`, among those whose bit is set in `ready` (not empty and not paused).
    /// `head_bytes` gives the length of the frame at the head of a queue. The caller sends it.
    #[inline]
    pub fn pick(&mut self, port: usize, ready: u8, head_bytes: impl Fn(u8) -> u32) -> Option<u8> {
        if ready == 0 {
            return None;
        }
        if ready.is_power_of_two() {
            return Some(ready.trailing_zeros() as u8); // alone: sends whatever its deficit
        }
        let turn = &mut self.turns[port];
        let strict = ready & turn.strict;
        if strict != 0 {
            return Some(7 - strict.leading_zeros() as u8);
        }
        let quantum = &self.quantum[usize::from(turn.profile)];
        loop {
            let p = turn.current & 7;
            let deficit = &mut turn.deficit[usize::from(p)];
            if ready & (1 << p) != 0 {
                let bytes = head_bytes(p);
                if *deficit >= bytes {
                    *deficit -= bytes;
                    return Some(p);
                }
            }
            let next = next_after(ready, p);
            turn.current = next;
            let deficit = &mut turn.deficit[usize::from(next)];
            *deficit = (*deficit).min(CARRY_BYTES_MAX) + quantum[usize::from(next)];
        }
    }

    /// A queue that runs empty gives up what is left of its turn.
    #[inline]
    pub fn emptied(&mut self, port: usize, priority: u8) {
        self.turns[port].deficit[usize::from(priority) % PRIORITIES] = 0;
    }
}

/// Bytes of a turn of each weighted queue.
fn quanta(priorities: &[PriorityConfig; PRIORITIES]) -> [u32; PRIORITIES] {
    let weights = || priorities.iter().map(|p| u64::from(p.weight));
    let least = weights().filter(|&w| w > 0).min().unwrap_or(1);
    let per_weight = QUANTUM_BYTES_MIN.div_ceil(least);
    let mut quantum = [0; PRIORITIES];
    for (q, w) in quantum.iter_mut().zip(weights()) {
        *q = (w * per_weight).min(QUANTUM_BYTES_MAX) as u32;
    }
    quantum
}

/// The set bit of `ready` that follows bit `p`, cyclically. `ready` is not 0.
#[inline]
fn next_after(ready: u8, p: u8) -> u8 {
    let rotated = ready.rotate_right(u32::from(p) + 1);
    (p + 1 + rotated.trailing_zeros() as u8) & 7
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::testing::config;

    fn scheduler(weights: [u16; PRIORITIES]) -> Scheduler {
        let mut c = config(1, 100);
        for (p, w) in c.profiles[0].priorities.iter_mut().zip(weights) {
            p.weight = w;
        }
        Scheduler::new(&c)
    }

    #[test]
    fn strict_goes_first_and_higher_before_lower() {
        let mut s = scheduler([1, 1, 1, 1, 1, 0, 0, 1]);
        assert_eq!(s.pick(0, 0b1111_1111, |_| 1500), Some(6));
        assert_eq!(s.pick(0, 0b1011_1111, |_| 1500), Some(5));
        assert_eq!(s.pick(0, 0b1000_0000, |_| 1500), Some(7));
        assert_eq!(s.pick(0, 0, |_| 1500), None);
    }

    /// SONiC's ComputeAI backend map: DWRR 40/30/25/5 on queues 0, 1, 3, 4. Shares are by bytes whatever the frame
    /// lengths are.
    #[test]
    fn weights_share_bytes_with_unequal_frames() {
        let mut s = scheduler([40, 30, 0, 25, 5, 0, 0, 0]);
        let len = [64u32, 4158, 0, 1042, 9216, 0, 0, 0];
        let mut sent = [0u64; 8];
        for _ in 0..2_000_000 {
            let p = s.pick(0, 0b0001_1011, |p| len[usize::from(p)]).unwrap();
            sent[usize::from(p)] += u64::from(len[usize::from(p)]);
        }
        let total: u64 = sent.iter().sum();
        for (p, share) in [(0, 0.40), (1, 0.30), (3, 0.25), (4, 0.05)] {
            let got = sent[p] as f64 / total as f64;
            assert!((got - share).abs() < 0.002, "queue {p}: {got} instead of {share}");
        }
    }

    #[test]
    fn a_paused_queue_leaves_its_share_to_the_others() {
        let mut s = scheduler([1, 1, 2, 0, 0, 0, 0, 0]);
        let mut sent = [0u32; 3];
        for _ in 0..4000 {
            sent[usize::from(s.pick(0, 0b011, |_| 1000).unwrap())] += 1;
        }
        assert!(sent[0].abs_diff(sent[1]) <= 11, "{sent:?}"); // within one quantum
        assert_eq!(sent[2], 0);
    }

    #[test]
    fn a_queue_paused_in_every_turn_saves_up_little() {
        let mut s = scheduler([1, 1, 1, 0, 0, 0, 0, 0]);
        for _ in 0..10_000 {
            while s.pick(0, 0b111, |_| 1000) != Some(2) {}
            for _ in 0..20 {
                s.pick(0, 0b011, |_| 1000); // paused again after one frame
            }
        }
        let burst = (0..).take_while(|_| s.pick(0, 0b111, |_| 1000) == Some(2)).count();
        assert!(burst <= 150, "{burst} frames at once");
    }
}
