//! Ring all-reduce: reduce-scatter, then all-gather, in 2(n-1) steps.
//!
//! The vector of `S` bytes is cut into `n` parts of whole 4-byte elements whose sizes differ by at most one
//! element; bytes that fill no element go to the last part. Rank `i` sends part `(i - k) mod n` in step `k`;
//! steps `0..n-1` reduce, steps `n-1..2(n-1)` gather. Each part is cut into messages of `chunk` bytes, the
//! last one shorter (a part without bytes is one message of length 0, so that the chain of steps holds).
//! Chunk `c` of step `k + 1` is sent because chunk `c` of step `k` arrived, after the span of its reduction
//! when step `k` reduces, and for no other reason: chunks overtake nothing and pipeline through the steps.
//! Per rank exactly 2(n-1)/n x S bytes are sent when n x 4 divides S, otherwise 2S less the two parts
//! (i + 1 and i + 2) the rank sends once instead of twice.
//!
//! The tag of a message is `step x chunks + chunk`, where `chunks` counts those of the longest part. It is
//! also the operation's number, so a rank keeps no list: only the chunks it has received and not yet passed
//! on. Those are bounded by `(n - 1) x chunks`: a rank that sends nothing holds its predecessor up after one
//! turn of the ring. Room is reserved for what skew and reduction explain; a rank further behind grows its
//! queue up to that bound.
//!
//! **Hierarchical** (`per_node = g` above 1): the g ranks of a node reduce-scatter and in the end gather among themselves
//! in no time; between, rank l of every node is in a ring of its own with the l-th share of the vector, cut like parts. A
//! port then carries 2(N-1)/N x S/g for N nodes.

use crate::units::{RankId, Rate, Span, Time};
use crate::workload::config::WorkloadConfig;
use crate::workload::interp::Agenda;

/// Bytes of an element (f32).
const ELEMENT: u64 = 4;
/// No link delivers faster, so chunks never come closer together than at this rate.
const RATE_MAX: Rate = Rate::gbps(1600);
/// Messages that become ready at one time, for which there is room from the start.
const READY_USUAL: usize = 32;

/// How a vector is cut into parts and the parts into chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    parts: u32,
    chunk: u64,
    elements: u64,
    rest: u64,
}

impl Split {
    /// A vector of `vector` bytes over `parts` ranks (at least 1), in messages of at most `chunk` bytes (at
    /// least 1).
    pub fn new(parts: u32, vector: u64, chunk: u64) -> Split {
        Split { parts: parts.max(1), chunk: chunk.max(1), elements: vector / ELEMENT, rest: vector % ELEMENT }
    }
    /// Bytes of a part.
    pub fn part(&self, part: u32) -> u64 {
        let n = u64::from(self.parts);
        let elements = self.elements / n + u64::from(u64::from(part) < self.elements % n);
        elements * ELEMENT + if part + 1 == self.parts { self.rest } else { 0 }
    }
    /// Bytes of the longest part.
    pub fn part_max(&self) -> u64 {
        self.part(0).max(self.part(self.parts - 1))
    }
    /// Messages of a part.
    pub fn chunks(&self, part: u32) -> u64 {
        self.part(part).div_ceil(self.chunk).max(1)
    }
    /// Messages of the longest part: the stride of tags.
    pub fn chunks_max(&self) -> u64 {
        self.part_max().div_ceil(self.chunk).max(1)
    }
    /// Bytes of one message; 0 when the part has no such chunk.
    pub fn bytes(&self, part: u32, chunk: u64) -> u64 {
        self.part(part).saturating_sub(chunk.saturating_mul(self.chunk)).min(self.chunk)
    }
    /// The part that rank `index` of the ring sends in `step`.
    pub fn part_sent(&self, index: u32, step: u32) -> u32 {
        let n = self.parts;
        (index % n + n - step % n) % n
    }
    /// The at most three sizes of parts as (a part of that size, how many): longer ones first, then shorter
    /// ones, then the last with the rest.
    fn sizes(&self) -> [(u32, u64); 3] {
        let last = self.parts - 1;
        let long = ((self.elements % u64::from(self.parts)) as u32).min(last);
        [(0, u64::from(long)), (last.saturating_sub(1), u64::from(last - long)), (last, 1)]
    }
    /// Messages of all parts together.
    fn chunks_all(&self) -> u64 {
        self.sizes().iter().map(|(part, count)| count * self.chunks(*part)).sum()
    }
    /// Messages that rank `index` sends in one iteration: all parts twice, two of them once.
    pub fn messages_sent(&self, index: u32) -> u64 {
        if self.parts < 2 {
            return 0;
        }
        let skipped = |ahead: u32| self.chunks((index % self.parts + ahead) % self.parts);
        2 * self.chunks_all() - skipped(1) - skipped(2)
    }
    /// Calls `each(bytes, count)` for the messages rank `index` sends in one iteration (a count may be 0).
    /// Cost: O(1).
    pub fn sent_by(&self, index: u32, mut each: impl FnMut(u64, u64)) {
        let n = self.parts;
        if n < 2 {
            return;
        }
        let long = self.sizes()[0].1;
        let mut times = self.sizes().map(|(part, count)| (part, 2 * count));
        for skipped in [(index % n + 1) % n, (index % n + 2) % n] {
            let size = if skipped + 1 == n { 2 } else { usize::from(u64::from(skipped) >= long) };
            times[size].1 -= 1;
        }
        for (part, times) in times {
            let full = self.part(part) / self.chunk;
            each(self.chunk, full * times);
            each(self.part(part) % self.chunk, (self.chunks(part) - full) * times);
        }
    }
}

/// The ring that rank number `index` of `ranks` is in: how its vector is split, and the rank's place in it. `per_node`
/// divides `ranks`.
pub fn ring_of(ranks: usize, per_node: u32, vector: u64, chunk: u64, index: usize) -> (Split, u32) {
    let g = per_node.max(1);
    let nodes = ranks as u32 / g;
    let share = Split::new(g, vector, chunk).part(index as u32 % g);
    (Split::new(nodes, share, chunk), index as u32 / g)
}

/// One rank of a ring all-reduce.
#[derive(Debug)]
pub struct Ring {
    split: Split,
    stride: u32,
    index: u32,
    next: RankId,
    prev: RankId,
    reduce: Span,
    /// Tags of chunks that came before the start of their iteration.
    early: Vec<u32>,
}

impl Ring {
    pub(super) fn new(
        cfg: &WorkloadConfig,
        index: usize,
        vector: u64,
        chunk: u64,
        reduce: Span,
        per_node: u32,
    ) -> Option<Ring> {
        let (n, g) = (cfg.ranks.len(), per_node.max(1) as usize);
        if n < 2 * g {
            return None;
        }
        let (split, place) = ring_of(n, per_node, vector, chunk, index);
        let mut ring = Ring {
            split,
            stride: u32::try_from(split.chunks_max()).unwrap_or(u32::MAX),
            index: place,
            next: cfg.ranks[(index + g) % n],
            prev: cfg.ranks[(index + n - g) % n],
            reduce,
            early: Vec::new(),
        };
        ring.early.reserve_exact(ring.backlog(super::skew_max(cfg.skew, n)));
        Some(ring)
    }

    /// Chunks that can come in during `span`, at most all that the predecessor can send without us.
    fn backlog(&self, span: Span) -> usize {
        if span == Span::ZERO {
            return 0;
        }
        let all = u64::from(self.split.parts - 1) * u64::from(self.stride);
        let shortest = self.split.chunk.min(self.split.elements / u64::from(self.split.parts) * ELEMENT);
        let fast = span.0 / RATE_MAX.time_for(shortest.max(64)).0.max(1) + 1;
        fast.min(all) as usize
    }

    pub(super) fn capacity(&self) -> (usize, usize) {
        let reducing = self.backlog(self.reduce) + self.early.capacity();
        (READY_USUAL.min(self.split.parts as usize * self.stride as usize), reducing)
    }

    pub(super) fn begin(&mut self, agenda: &mut Agenda, at: Time) {
        let n = self.split.parts;
        let prev = (self.index + n - 1) % n;
        agenda.expect(self.split.messages_sent(self.index) + self.split.messages_sent(prev));
        agenda.send_first(at, 0..self.split.chunks(self.index) as u32);
        let mut early = std::mem::take(&mut self.early);
        early.drain(..).for_each(|tag| self.received(agenda, at, tag));
        self.early = early;
    }

    pub(super) fn message(&self, op: u32) -> (RankId, u64, u32) {
        let (step, chunk) = (op / self.stride, op % self.stride);
        (self.next, self.split.bytes(self.split.part_sent(self.index, step), u64::from(chunk)), op)
    }

    pub(super) fn on_recv(
        &mut self,
        agenda: &mut Agenda,
        now: Time,
        started: bool,
        peer: RankId,
        tag: u32,
        bytes: u64,
    ) -> bool {
        let (step, chunk) = (tag / self.stride, u64::from(tag % self.stride));
        let part = self.split.part_sent((self.index + self.split.parts - 1) % self.split.parts, step);
        let known = peer == self.prev
            && step < 2 * (self.split.parts - 1)
            && chunk < self.split.chunks(part)
            && bytes == self.split.bytes(part, chunk);
        if known && started {
            self.received(agenda, now, tag);
        } else if known {
            self.early.push(tag);
        }
        known
    }

    /// Passes a chunk on: after its reduction in the first n-1 steps, at once in the later ones, not at all
    /// in the last.
    fn received(&self, agenda: &mut Agenda, at: Time, tag: u32) {
        agenda.finish(at);
        let (step, n) = (tag / self.stride, self.split.parts);
        let onward = tag.wrapping_add(self.stride);
        if step + 1 < n && self.reduce > Span::ZERO {
            agenda.calc(at, self.reduce, onward);
        } else if step + 1 < 2 * (n - 1) {
            agenda.send(at, onward);
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.early.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::units::Bytes;
    use crate::workload::config::{Skew, WorkloadConfig, WorkloadKind};
    use crate::workload::generate::{bytes_per_iteration, check, messages_per_iteration};
    use crate::workload::interp::Interp;
    use crate::workload::tests::workload;
    use std::collections::BTreeMap;

    /// A message on its way: from, to, tag, bytes, contributions inside (an acknowledgement has none).
    type Flight = (u32, u32, u32, u64, Option<u64>);

    fn ring(n: u32, vector: u64, chunk: u64, reduce_ns: u64) -> WorkloadConfig {
        let (vector, chunk, reduce) = (Bytes(vector), Bytes(chunk), Span::from_ns(reduce_ns));
        workload(n, WorkloadKind::RingAllReduce { vector, chunk, reduce, per_node: 1 })
    }

    /// Two nodes of three ranks: rank 1 of node 0 talks to rank 1 of node 1 and to nobody else, and sends its third of
    /// the vector, as 2(N-1)/N x S/g says.
    #[test]
    fn ranks_of_a_node_are_in_rings_of_their_own() {
        let (vector, chunk, reduce) = (Bytes(24_000), Bytes(1 << 20), Span::ZERO);
        let cfg = workload(6, WorkloadKind::RingAllReduce { vector, chunk, reduce, per_node: 3 });
        check(&cfg).unwrap();
        assert_eq!((bytes_per_iteration(&cfg), messages_per_iteration(&cfg)), (6 * 8_000, 6 * 2));
        let mut ranks: Vec<Interp> = (0..6).map(|r| Interp::new(&cfg, 0, RankId(r), 1).unwrap()).collect();
        ranks.iter_mut().for_each(|r| r.start(0, Time::ZERO));
        let mut moved = [0u64; 6];
        for now in (0..9).map(Time) {
            for r in 0..6u32 {
                while let Some(post) = ranks[r as usize].poll(now) {
                    assert_eq!((post.peer, post.bytes), (RankId((r + 3) % 6), 4_000));
                    moved[r as usize] += post.bytes;
                    ranks[r as usize].on_send_started(now, post.op);
                    ranks[r as usize].on_send_done(now, post.op);
                    ranks[post.peer.0 as usize].on_recv(now, RankId(r), post.tag, post.bytes);
                }
            }
        }
        assert!(ranks.iter().all(|r| r.finished() && r.unexpected() == 0));
        assert_eq!(moved, [8_000; 6]);
        let one = WorkloadKind::RingAllReduce { vector, chunk, reduce, per_node: 6 };
        assert!(check(&workload(6, one)).unwrap_err().to_string().contains("2 nodes"));
    }

    /// Carries messages between interpreters with random delays (messages may overtake) and checks that data,
    /// not time, drives the ring: every contribution is added exactly once and everybody ends with the full
    /// sum.
    fn all_reduce(n: u32, vector: u64, chunk: u64, reduce_ns: u64, skew: Skew, seed: u64) {
        let mut cfg = ring(n, vector, chunk, reduce_ns);
        cfg.skew = skew;
        check(&cfg).unwrap();
        let split = Split::new(n, vector, chunk);
        let stride = split.chunks_max();
        let mut rng = Rng::new(seed, "delays", u64::from(n));
        let mut ranks: Vec<Interp> = (0..n).map(|r| Interp::new(&cfg, 0, RankId(r), seed).unwrap()).collect();
        for iteration in 0..2 {
            let released = Time(u64::from(iteration) * 1_000_000_000_000);
            // sums[rank][(part, chunk)]: which ranks' contributions are inside, one bit each.
            let mut sums: Vec<BTreeMap<(u32, u64), u64>> = (0..n)
                .map(|r| (0..n).flat_map(|p| (0..split.chunks(p)).map(move |c| ((p, c), 1 << r))).collect())
                .collect();
            let mut sent = vec![0u64; n as usize];
            let mut messages = 0;
            let mut network: BTreeMap<(Time, u64), Flight> = BTreeMap::new();
            let mut order = 0u64;
            ranks.iter_mut().for_each(|r| r.start(iteration, released));
            let mut now = released;
            loop {
                for r in 0..n {
                    while let Some(post) = ranks[r as usize].poll(now) {
                        let step = post.tag / stride as u32;
                        let key = (split.part_sent(r, step), u64::from(post.tag) % stride);
                        assert_eq!(post.bytes, split.bytes(key.0, key.1));
                        assert!(post.intended <= now);
                        assert_eq!(post.peer, RankId((r + 1) % n));
                        sent[r as usize] += post.bytes;
                        messages += 1;
                        ranks[r as usize].on_send_started(now, post.op);
                        let data = sums[r as usize][&key];
                        let at = now + Span(1 + rng.below(5_000_000));
                        network.insert((at, order), (r, post.peer.0, post.tag, post.bytes, Some(data)));
                        let acked = at + Span(500);
                        network.insert((acked, order + 1), (r, post.peer.0, post.op, 0, None));
                        order += 2;
                    }
                }
                let message = network.first_key_value().map_or(Time::NEVER, |((at, _), _)| *at);
                let calc = ranks.iter().map(Interp::next_deadline).min().unwrap();
                now = message.min(calc);
                if now == Time::NEVER {
                    break;
                }
                if message > now {
                    continue;
                }
                let (_, (from, to, tag, bytes, data)) = network.pop_first().unwrap();
                let Some(data) = data else {
                    ranks[from as usize].on_send_done(now, tag);
                    continue;
                };
                let step = tag / stride as u32;
                let key = (split.part_sent(from, step), u64::from(tag) % stride);
                let sum = sums[to as usize].get_mut(&key).unwrap();
                if step < n - 1 {
                    assert_eq!(*sum & data, 0, "added twice: seed {seed}, n {n}, step {step}");
                    *sum |= data;
                } else {
                    *sum = data;
                }
                ranks[to as usize].on_recv(now, RankId(from), tag, bytes);
            }
            for (r, rank) in ranks.iter().enumerate() {
                assert!(rank.finished(), "rank {r} of {n} stalled, seed {seed}");
                assert_eq!(rank.unexpected(), 0);
                assert!(sums[r].values().all(|sum| *sum == (1 << n) - 1), "rank {r} of {n}");
                let skipped = |k| split.part((r as u32 + k) % n);
                assert_eq!(sent[r], 2 * vector - skipped(1) - skipped(2));
                if vector.is_multiple_of(4 * u64::from(n)) {
                    assert_eq!(sent[r], 2 * (u64::from(n) - 1) * vector / u64::from(n));
                }
            }
            assert_eq!(sent.iter().sum::<u64>(), bytes_per_iteration(&cfg));
            assert_eq!(messages, messages_per_iteration(&cfg));
        }
    }

    #[test]
    fn every_rank_ends_with_the_full_sum() {
        for n in [2, 3, 8, 13] {
            for (vector, chunk) in [(312 * 4000, 4096), (1 << 20, 1 << 20), (1_000_003, 65_536), (7, 4)] {
                for (reduce, skew) in [
                    (0, Skew::Fixed(Span::ZERO)),
                    (700, Skew::Fixed(Span::from_us(3))),
                    (2_000, Skew::Uniform(Span::from_us(40))),
                ] {
                    all_reduce(n, vector, chunk, reduce, skew, u64::from(n) + vector + reduce);
                }
            }
        }
    }

    #[test]
    fn parts_differ_by_at_most_an_element() {
        for (n, vector) in [(2, 9), (3, 1 << 20), (13, 1_000_003), (1024, 64 << 20), (5, 3)] {
            let split = Split::new(n, vector, 4096);
            assert_eq!((0..n).map(|p| split.part(p)).sum::<u64>(), vector);
            let elements = |p| split.part(p) / 4;
            assert!((0..n).map(elements).max().unwrap() - (0..n).map(elements).min().unwrap() <= 1);
            assert_eq!((0..n).map(|p| split.chunks(p)).sum::<u64>(), split.chunks_all(), "n {n} S {vector}");
            assert_eq!((0..n).map(|p| split.chunks(p)).max().unwrap(), split.chunks_max());
        }
    }

    #[test]
    fn a_rank_is_small_however_long_its_ring() {
        for (n, vector) in [(8u32, 64 << 20), (1024, 64 << 20), (8192, 64 << 20)] {
            let rank = Interp::new(&ring(n, vector, 1 << 20, 1_000), 0, RankId(3), 1).unwrap();
            assert!(rank.bytes_in_memory() <= 1600, "{} bytes at n = {n}", rank.bytes_in_memory());
        }
    }

    #[test]
    fn a_chunk_waits_for_its_reduction_and_the_gather_does_not() {
        // Two ranks, one chunk per part: step 0 reduces, step 1 gathers.
        let cfg = ring(2, 8192, 4096, 500);
        let mut rank = Interp::new(&cfg, 0, RankId(0), 1).unwrap();
        rank.start(0, Time(1_000));
        assert_eq!(rank.next_deadline(), Time(1_000));
        assert_eq!(rank.poll(Time(999)), None);
        let own = rank.poll(Time(1_000)).unwrap();
        assert_eq!((own.tag, own.bytes, own.intended), (0, 4096, Time(1_000)));
        rank.on_send_started(Time(1_000), own.op);
        rank.on_send_done(Time(400_000), own.op);
        // Waits 400 ns to 600 ns for data, then reduces until 1100 ns.
        rank.on_recv(Time(600_000), RankId(1), 0, 4096);
        assert_eq!(rank.poll(Time(600_000)), None);
        assert_eq!(rank.next_deadline(), Time(1_100_000));
        let sum = rank.poll(Time(1_300_000)).unwrap();
        assert_eq!((sum.tag, sum.intended), (1, Time(1_100_000)));
        rank.on_send_started(Time(1_300_000), sum.op);
        rank.on_send_done(Time(1_400_000), sum.op);
        rank.on_recv(Time(1_500_000), RankId(1), 1, 4096);
        assert!(rank.finished());
        let it = rank.rank_iteration();
        assert_eq!((it.first_byte, it.finished), (Time(1_000), Time(1_500_000)));
        assert_eq!(it.waited_ps, 200_000 + 100_000);
    }
}
