//! WRED on the instantaneous egress queue, in bytes: 0 up to kmin, a ramp to pmax at kmax, certain above.

use std::sync::{Arc, Mutex, PoisonError};

use super::config::{COLORS, MarkAt, PortProfile, Wred};
use crate::rng::Rng;
use crate::rng::streams::Streams;

/// Probability one, as the coin is 63 bits.
const CERTAIN: u64 = 1 << 63;

#[derive(Clone, Copy, Debug)]
struct Ramp {
    kmin: u64,
    kmax: u64,
    /// Probability per byte above kmin, times 2^63.
    slope: u64,
    pmax: f64,
    /// Marks what can be marked.
    ecn: bool,
}

/// WRED that never applies.
const OFF: Ramp = Ramp { kmin: u64::MAX, kmax: u64::MAX, slope: 0, pmax: 0.0, ecn: true };

impl Ramp {
    fn new(w: &Wred) -> Ramp {
        let width = w.kmax.0.saturating_sub(w.kmin.0).max(1);
        Ramp {
            kmin: w.kmin.0,
            kmax: w.kmax.0,
            slope: (w.pmax * CERTAIN as f64 / width as f64) as u64,
            pmax: w.pmax,
            ecn: w.ecn,
        }
    }
    /// Probability times 2^63 at a queue of `depth` bytes.
    #[inline]
    fn probability(&self, depth: u64) -> u64 {
        match depth {
            d if d > self.kmax => CERTAIN,
            d if d > self.kmin => (d - self.kmin).saturating_mul(self.slope),
            _ => 0,
        }
    }
}

/// Coins that all switches of a simulated network toss in turn.
pub type SharedCoins = Arc<Mutex<Streams>>;

#[derive(Debug)]
enum Coin {
    Own(Rng),
    Shared(SharedCoins),
}

/// Decides which frames meet congestion. One coin per switch, seeded by the run.
#[derive(Debug)]
pub struct Marker {
    /// By profile, queue and colour.
    ramps: Vec<Ramp>,
    at: MarkAt,
    coin: Coin,
}

impl Marker {
    /// The marker of switch number `index`.
    pub fn new(profiles: &[PortProfile], at: MarkAt, seed: u64, index: u16) -> Marker {
        let ramp = |w: &Option<Wred>| w.as_ref().map_or(OFF, Ramp::new);
        let queues = profiles.iter().flat_map(|p| &p.priorities);
        let ramps = queues.flat_map(|q| q.wred.iter().map(ramp)).collect();
        Marker { ramps, at, coin: Coin::Own(Rng::new(seed, "wred", u64::from(index))) }
    }

    /// Where frames that can be marked are looked at. Frames that cannot are always judged when they join.
    #[inline]
    pub fn at(&self) -> MarkAt {
        self.at
    }

    /// Number of the curve for frames of a colour in the queue of a row (profile x 8 + queue).
    #[inline]
    pub fn curve(row: usize, color: u8) -> usize {
        row * COLORS + usize::from(color)
    }

    /// True when the curve is on and `depth` is above its kmin: only then is a coin worth tossing.
    #[inline]
    pub fn applies(&self, curve: usize, depth: u32) -> bool {
        u64::from(depth) > self.ramps[curve].kmin
    }

    /// True when WRED marks frames that can be marked, false when it drops them like all others.
    #[inline]
    pub fn marks(&self, curve: usize) -> bool {
        self.ramps[curve].ecn
    }

    /// Tosses the coin for one frame that sees a queue of `depth` bytes.
    #[inline]
    pub fn hits(&mut self, curve: usize, depth: u32) -> bool {
        match &mut self.coin {
            Coin::Own(coin) => {
                let p = self.ramps[curve].probability(u64::from(depth));
                p >= CERTAIN || (p > 0 && coin.next_u64() >> 1 < p)
            }
            Coin::Shared(coins) => toss(&self.ramps[curve], u64::from(depth), coins),
        }
    }

    /// A PFC frame is made: the simulator that shared coins are from takes its number from the same generator.
    pub fn number_pfc(&mut self) {
        if let Coin::Shared(coins) = &self.coin {
            coins.lock().unwrap_or_else(PoisonError::into_inner).next_first();
        }
    }

    /// Tosses `coins` from now on, in the arithmetic of the simulator that they are from.
    pub fn share(&mut self, coins: SharedCoins) {
        self.coin = Coin::Shared(coins);
    }
}

#[cold]
fn toss(ramp: &Ramp, depth: u64, coins: &SharedCoins) -> bool {
    if depth > ramp.kmax || depth <= ramp.kmin {
        return depth > ramp.kmax;
    }
    let p = ramp.pmax * (depth - ramp.kmin) as f64 / (ramp.kmax - ramp.kmin) as f64;
    let mut coins = coins.lock().unwrap_or_else(PoisonError::into_inner);
    coins.next_first() < p
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::testing::config;
    use crate::units::Bytes;

    /// Curve of green frames in queue 3.
    const GREEN_3: usize = 3 * COLORS;

    fn marker(kmin: u64, kmax: u64, pmax: f64, seed: u64) -> Marker {
        let mut c = config(1, 100);
        c.profiles[0].priorities[3].wred =
            [Some(Wred { kmin: Bytes(kmin), kmax: Bytes(kmax), pmax, ecn: true }), None, None];
        Marker::new(&c.profiles, MarkAt::Dequeue, seed, 0)
    }

    /// SONiC's AZURE_LOSSLESS: 1 MiB to 2 MiB, 5 %. Frequencies within 4.5 standard deviations of the ramp.
    #[test]
    fn frequencies_follow_the_ramp() {
        const SEED: u64 = 20_260_801;
        let (kmin, kmax, pmax) = (1_048_576u64, 2_097_152u64, 0.05);
        let mut m = marker(kmin, kmax, pmax, SEED);
        let n = 200_000u32;
        for eighth in 0..=8u64 {
            let depth = kmin + (kmax - kmin) * eighth / 8;
            let p = pmax * eighth as f64 / 8.0;
            let hits = (0..n).filter(|_| m.hits(GREEN_3, depth as u32)).count() as f64;
            let mean = p * f64::from(n);
            let bound = 4.5 * (mean * (1.0 - p)).sqrt();
            assert!((hits - mean).abs() <= bound, "seed {SEED}, depth {depth}: {hits} hits, {mean} expected");
        }
    }

    #[test]
    fn nothing_below_kmin_everything_above_kmax() {
        let mut m = marker(100_000, 400_000, 0.2, 1);
        assert!((0..1000).all(|_| !m.hits(GREEN_3, 100_000)));
        assert!((0..1000).all(|_| m.hits(GREEN_3, 400_001)));
        assert!((0..1000).all(|_| !m.hits(GREEN_3 + 3, 10_000_000)), "no WRED on other priorities");
        let mut step = marker(30_000, 30_000, 1.0, 1); // DCTCP: kmin = kmax
        assert!(!step.hits(GREEN_3, 30_000) && step.hits(GREEN_3, 30_001));
    }
}
