//! Seeded random streams: one per component, so that a draw in one place never shifts the draws of another.

pub mod streams;

use rand_core::{Rng as _, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// A reproducible stream of random numbers, named by the run's seed and the component that draws from it.
#[derive(Clone, Debug)]
pub struct Rng(Pcg64Mcg);

impl Rng {
    /// The stream of `component` number `index` in a run with `seed`.
    pub fn new(seed: u64, component: &str, index: u64) -> Rng {
        let mut h = 0xcbf2_9ce4_8422_2325u64; // FNV-1a over the name, so that names and not code order pick the stream
        for b in component.bytes() {
            h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
        let mixed = mix(seed ^ mix(h ^ mix(index)));
        Rng(Pcg64Mcg::seed_from_u64(mixed))
    }
    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
    /// Uniform in [0, 1) with 53 bits.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
    /// Uniform in 0..n (0 when n is 0), without modulo bias worth noticing (128-bit multiply).
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }
}

/// A 64-bit finaliser (SplitMix64): spreads every input bit over the whole word.
#[inline]
pub fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_reproducible_and_apart() {
        let draw = |s, c, i| Rng::new(s, c, i).next_u64();
        assert_eq!(draw(1, "wred", 3), draw(1, "wred", 3));
        assert_ne!(draw(1, "wred", 3), draw(1, "wred", 4));
        assert_ne!(draw(1, "wred", 3), draw(2, "wred", 3));
        assert_ne!(draw(1, "wred", 3), draw(1, "skew", 3));
    }

    #[test]
    fn below_stays_below() {
        let mut r = Rng::new(7, "t", 0);
        assert!((0..1000).all(|_| r.below(10) < 10));
        assert_eq!(r.below(0), 0);
    }
}
