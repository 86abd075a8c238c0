//! MRG32k3a (L'Ecuyer 1999) with its streams and substreams (L'Ecuyer, Simard, Chen and Kelton, "An object-oriented
//! random-number package with many long streams and substreams", Operations Research 2002).
//!
//! Only for comparisons with a simulator that draws from it: every number here is the first of a stream of its own.

/// Moduli of the two components.
const M: [u64; 2] = [4_294_967_087, 4_294_944_443];
/// One step of each component: the state is its last three numbers, oldest first.
const STEP: [Matrix; 2] = [
    [[0, 1, 0], [0, 0, 1], [M[0] - 810_728, 1_403_580, 0]],
    [[0, 1, 0], [0, 0, 1], [M[1] - 1_370_589, 0, 527_612]],
];
/// Steps from stream to stream and from substream to substream, as powers of two.
const STREAM: u32 = 127;
const SUBSTREAM: u32 = 76;
/// 1 / (M[0] + 1), to the digits that the authors give.
const NORM: f64 = 2.328_306_549_295_728e-10;

type Matrix = [[u64; 3]; 3];
type Vector = [u64; 3];

fn dot(a: Vector, b: Vector, m: u64) -> u64 {
    let sum: u128 = a.iter().zip(b).map(|(x, y)| u128::from(*x) * u128::from(y)).sum();
    (sum % u128::from(m)) as u64
}

fn apply(a: &Matrix, v: Vector, m: u64) -> Vector {
    a.map(|row| dot(row, v, m))
}

fn times(a: &Matrix, b: &Matrix, m: u64) -> Matrix {
    let column = |j: usize| [b[0][j], b[1][j], b[2][j]];
    a.map(|row| [0, 1, 2].map(|j| dot(row, column(j), m)))
}

/// `a` squared `n` times.
fn squared(a: &Matrix, n: u32, m: u64) -> Matrix {
    (0..n).fold(*a, |a, _| times(&a, &a, m))
}

/// `v` after `n` times `a`.
fn advance(a: &Matrix, mut n: u64, mut v: Vector, m: u64) -> Vector {
    let mut a = *a;
    while n > 0 {
        if n & 1 == 1 {
            v = apply(&a, v, m);
        }
        a = times(&a, &a, m);
        n >>= 1;
    }
    v
}

/// Numbers that are each the first of the next stream, all in the same substream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streams {
    state: [Vector; 2],
    /// From stream to stream.
    jump: [Matrix; 2],
}

impl Streams {
    /// From stream number `first` on, in substream `substream`, with all six words of the seed equal to `seed`.
    pub fn new(seed: u32, first: u64, substream: u64) -> Streams {
        let jump = [0, 1].map(|c| squared(&STEP[c], STREAM, M[c]));
        let state = [0, 1].map(|c| {
            let start = advance(&jump[c], first, [u64::from(seed); 3], M[c]);
            advance(&squared(&STEP[c], SUBSTREAM, M[c]), substream, start, M[c])
        });
        Streams { state, jump }
    }

    /// The first number of the next stream, in (0, 1).
    pub fn next_first(&mut self) -> f64 {
        let number = [0, 1].map(|c| apply(&STEP[c], self.state[c], M[c])[2]);
        self.state = [0, 1].map(|c| apply(&self.jump[c], self.state[c], M[c]));
        let [a, b] = number;
        let difference = if a > b { a - b } else { a + M[0] - b };
        difference as f64 * NORM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Initial states of the second and third stream and of the second substream, as the authors publish them with
    /// their package for the seed 12345.
    #[test]
    fn streams_start_where_their_authors_say() {
        let start = |first, sub| Streams::new(12_345, first, sub).state;
        assert_eq!(start(0, 0), [[12_345; 3]; 2]);
        assert_eq!(
            start(1, 0),
            [[3_692_455_944, 1_366_884_236, 2_968_912_127], [335_948_734, 4_161_675_175, 475_798_818]]
        );
        assert_eq!(
            start(2, 0),
            [[1_015_873_554, 1_310_354_410, 2_249_465_273], [994_084_013, 2_912_484_720, 3_876_682_925]]
        );
        assert_eq!(
            start(0, 1),
            [[870_504_860, 2_641_697_727, 884_013_853], [339_352_413, 2_374_306_706, 3_651_603_887]]
        );
    }

    #[test]
    fn every_number_is_the_first_of_its_stream() {
        let mut all = Streams::new(12_345, 0, 0);
        assert!((all.next_first() - 0.127_011_122_046_577).abs() < 1e-15);
        for stream in 1..5 {
            assert_eq!(all.next_first(), Streams::new(12_345, stream, 0).next_first());
        }
    }
}
