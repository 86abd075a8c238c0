//! Closed forms: what messages weigh on the wire, and how fast an iteration could be at best.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::config::{Skew, WorkloadConfig, WorkloadKind};
use super::generate::ring::{Split, ring_of};
use super::generate::{pairs, traffic};
use super::interp::Interp;
use crate::transport::config::{ClassConfig, Verb};
use crate::units::{FRAME_LEN_MIN, FrameLen, PortId, RankId, Rate, Span, Time, WIRE_OVERHEAD_BYTES};

/// How messages become frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// RDMA path MTU in payload bytes.
    pub mtu: u16,
    /// Operation that carries the messages.
    pub verb: Verb,
    /// IPv6 instead of IPv4.
    pub v6: bool,
    /// Frames carry a VLAN tag.
    pub vlan: bool,
}

impl Framing {
    /// The framing of a class's messages.
    pub fn of(class: &ClassConfig, verb: Verb, v6: bool) -> Framing {
        Framing { mtu: class.mtu, verb, v6, vlan: class.vlan.is_some() }
    }
    fn headers(&self) -> u64 {
        14 + if self.vlan { 4 } else { 0 } + if self.v6 { 40 } else { 20 } + 8 + 12 + 4
    }
    /// Length of a full frame in the middle of a message, without FCS.
    pub fn full_len(&self) -> FrameLen {
        FrameLen((u64::from(self.mtu) + self.headers()) as u16)
    }
    /// Bytes of such a frame on the wire, preamble and gap counted.
    pub fn full_wire(&self) -> u64 {
        u64::from(self.full_len().0) + u64::from(crate::units::WIRE_OVERHEAD_BYTES)
    }
    /// Frames of one message.
    pub fn frames(&self, message_bytes: u64) -> u64 {
        message_bytes.div_ceil(u64::from(self.mtu.max(1))).max(1)
    }
    /// Bytes of one message on the wire, preamble and gap counted.
    pub fn wire(&self, message_bytes: u64) -> u64 {
        self.wire_bytes(message_bytes).1
    }
    /// Frames of one message and the bytes they occupy on the wire: Ethernet 14 (+4 VLAN), IP 20 or 40, UDP
    /// 8, BTH 12, payload, pad to 4 bytes, ICRC 4, padded to the shortest frame, and 24 of FCS, preamble and
    /// gap. RETH adds 16 to the first frame of a WRITE, the immediate 4 to the last, AETH 4 to the first and the last
    /// response of a READ, DETH and immediate 12 to a datagram (IBTA volume 1 chapter 9).
    pub fn wire_bytes(&self, message_bytes: u64) -> (u64, u64) {
        let mtu = u64::from(self.mtu.max(1));
        let frames = self.frames(message_bytes);
        let headers = self.headers();
        let overhead = u64::from(WIRE_OVERHEAD_BYTES);
        let (first, last) = match self.verb {
            Verb::Write => (16, 0),
            Verb::WriteImm => (16, 4),
            Verb::Send => (0, 0),
            Verb::UdSend => (12, 0),
            Verb::Read if frames == 1 => (4, 0),
            Verb::Read => (4, 4),
        };
        let frame = |payload: u64, extensions: u64| {
            (headers + extensions + payload.next_multiple_of(4)).max(u64::from(FRAME_LEN_MIN)) + overhead
        };
        let tail = message_bytes - (frames - 1) * mtu;
        let bytes = match frames {
            1 => frame(tail, first + last),
            n => frame(mtu, first) + (n - 2) * frame(mtu, 0) + frame(tail, last),
        };
        (frames, bytes)
    }
}

/// [`Framing::wire_bytes`] spelt out: (frames, bytes on the wire) of one message.
pub fn wire_bytes(message_bytes: u64, mtu: u16, verb: Verb, v6: bool, vlan: bool) -> (u64, u64) {
    Framing { mtu, verb, v6, vlan }.wire_bytes(message_bytes)
}

/// Data frames of one iteration, all ranks together.
pub fn frames_per_iteration(cfg: &WorkloadConfig, framing: Framing) -> u64 {
    let mut frames = 0u64;
    traffic(cfg, |_, _, bytes, count| frames += framing.wire_bytes(bytes).0 * count);
    frames
}

/// Least completion of one iteration: endpoints at their rates on a fabric without delay or contention, no
/// acknowledgements, ranks starting together. `endpoint` gives the tester port of a rank and that port's
/// rate; messages between ranks behind one port take no time.
///
/// Incast: serialisation of all frames into the receiver (or out of the busiest sending port). Ring: the
/// frames of 2(n-1)/n x S at the busiest port, plus, in the reducing half, what a reduction takes longer than
/// the other chunks of its part can hide. Replay: the larger of the busiest port and the longest chain of
/// dependencies.
pub fn ideal(cfg: &WorkloadConfig, framing: Framing, endpoint: impl Fn(RankId) -> (PortId, Rate)) -> Span {
    let load = busiest_port(cfg, framing, &endpoint);
    match &cfg.kind {
        WorkloadKind::Incast { .. } => load,
        WorkloadKind::RingAllReduce { vector, chunk, reduce, per_node } => {
            let (split, _) = ring_of(cfg.ranks.len(), *per_node, vector.0, chunk.0, 0);
            load + ring_stalls(cfg, framing, split, (*reduce, *per_node), &endpoint)
        }
        WorkloadKind::Replay(_) => load.max(longest_chain(cfg, framing, &endpoint)),
    }
}

/// Time the busiest port needs for the frames it sends or receives.
fn busiest_port(
    cfg: &WorkloadConfig,
    framing: Framing,
    endpoint: &impl Fn(RankId) -> (PortId, Rate),
) -> Span {
    let mut ports: BTreeMap<PortId, (Rate, u64, u64)> = BTreeMap::new();
    traffic(cfg, |from, to, bytes, count| {
        let ((out, out_rate), (into, into_rate)) = (endpoint(from), endpoint(to));
        if out != into {
            let wire = framing.wire_bytes(bytes).1.saturating_mul(count);
            let sent = &mut ports.entry(out).or_insert((out_rate, 0, 0)).1;
            *sent = sent.saturating_add(wire);
            let received = &mut ports.entry(into).or_insert((into_rate, 0, 0)).2;
            *received = received.saturating_add(wire);
        }
    });
    ports
        .values()
        .map(|(rate, sent, received)| rate.time_for(*sent.max(received)))
        .max()
        .unwrap_or(Span::ZERO)
}

/// What the n-1 reductions on the way of a chunk add (n ranks in one ring): each stalls the ring when it and the chunk's
/// transmission take longer than the transmission of the whole part.
fn ring_stalls(
    cfg: &WorkloadConfig,
    framing: Framing,
    split: Split,
    (reduce, per_node): (Span, u32),
    endpoint: &impl Fn(RankId) -> (PortId, Rate),
) -> Span {
    let part = split.part_max();
    let chunk = framing.wire_bytes(split.bytes(0, 0)).1;
    let tail = part - split.bytes(0, 0) * (split.chunks_max() - 1).min(part);
    let whole = chunk * (split.chunks_max() - 1) + framing.wire_bytes(tail).1;
    let (mut slowest, mut sum, mut links) = (Span::ZERO, 0u64, 0u64);
    for (from, to) in pairs(cfg) {
        let ((out, out_rate), (into, into_rate)) = (endpoint(from), endpoint(to));
        links += 1;
        if out != into {
            let rate = out_rate.min(into_rate);
            slowest = slowest.max(rate.time_for(whole));
            sum = sum.saturating_add(rate.time_for(chunk).0);
        }
    }
    let hop = Span(sum / links.max(1)) + reduce;
    let ring = links / u64::from(per_node.max(1));
    Span((hop - slowest).0.saturating_mul(ring.saturating_sub(1)))
}

/// Plays a schedule on a network where every message has a link of its own: the longest chain of
/// dependencies.
fn longest_chain(
    cfg: &WorkloadConfig,
    framing: Framing,
    endpoint: &impl Fn(RankId) -> (PortId, Rate),
) -> Span {
    let cfg = WorkloadConfig { skew: Skew::Fixed(Span::ZERO), ..cfg.clone() };
    // Each rank with the time of the wake that is under way for it.
    let mut ranks: BTreeMap<RankId, (Interp, Time)> = BTreeMap::new();
    for id in cfg.ranks.iter() {
        if let Some(mut rank) = Interp::new(&cfg, 0, *id, 0) {
            rank.start(0, Time::ZERO);
            ranks.insert(*id, (rank, Time::ZERO));
        }
    }
    /// What happens to a rank at a time.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Event {
        Sent { op: u32 },
        Arrived { from: RankId, tag: u32, bytes: u64 },
        Wake,
    }
    let mut events: BinaryHeap<Reverse<(Time, u64, RankId, Event)>> =
        ranks.keys().map(|r| Reverse((Time::ZERO, 0, *r, Event::Wake))).collect();
    let (mut order, mut end) = (0u64, Time::ZERO);
    while let Some(Reverse((now, _, id, event))) = events.pop() {
        let Some((rank, armed)) = ranks.get_mut(&id) else { continue };
        match event {
            Event::Sent { op } => rank.on_send_done(now, op),
            Event::Arrived { from, tag, bytes } => rank.on_recv(now, from, tag, bytes),
            Event::Wake => {}
        }
        let mut add = |at, rank, event| {
            order += 1;
            events.push(Reverse((at, order, rank, event)));
        };
        while let Some(post) = rank.poll(now) {
            rank.on_send_started(now, post.op);
            let ((out, out_rate), (into, into_rate)) = (endpoint(id), endpoint(post.peer));
            let wire = framing.wire_bytes(post.bytes).1;
            let span = if out == into { Span::ZERO } else { out_rate.min(into_rate).time_for(wire) };
            add(now + span, id, Event::Sent { op: post.op });
            add(now + span, post.peer, Event::Arrived { from: id, tag: post.tag, bytes: post.bytes });
        }
        let wake = rank.next_deadline();
        if wake != Time::NEVER && (wake < *armed || *armed <= now) {
            *armed = wake;
            add(wake, id, Event::Wake);
        }
        end = end.max(now);
    }
    end.since(Time::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;
    use crate::workload::tests::workload;

    const W4K: Framing = Framing { mtu: 4096, verb: Verb::Write, v6: false, vlan: false };

    fn own_port(gbps: u64) -> impl Fn(RankId) -> (PortId, Rate) {
        move |r| (PortId(r.0), Rate::gbps(gbps))
    }

    #[test]
    fn frames_weigh_what_captures_show() {
        // Lengths of real frames without FCS: WRITE Only of 4096 B is 4170 (58 + 16 + 4096), a MIDDLE of 4096
        // B 4154.
        assert_eq!(W4K.wire_bytes(4096), (1, 4170 + 24));
        assert_eq!(W4K.wire_bytes(3 * 4096), (3, 4170 + 2 * 4154 + 3 * 24));
        // 5000 B at MTU 1024: First, 3 Middle, Last of 904 B.
        assert_eq!(wire_bytes(5000, 1024, Verb::Write, false, false), (5, 5 * (58 + 24) + 16 + 5000));
        // Zero-length WRITE Only: 74 B. SEND Only of 1 B with pad 3: 62 B.
        assert_eq!(W4K.wire_bytes(0), (1, 74 + 24));
        assert_eq!(wire_bytes(1, 1024, Verb::Send, false, false), (1, 62 + 24));
        // Zero-length SEND Only: 58 B, padded to 60 on the wire.
        assert_eq!(wire_bytes(0, 1024, Verb::Send, false, false), (1, 60 + 24));
        assert_eq!(
            wire_bytes(8192, 4096, Verb::WriteImm, true, true),
            (2, 16 + 4 + 2 * (4096 + 58 + 20 + 4 + 24))
        );
    }

    #[test]
    fn incast_is_bound_by_the_receiver_or_by_shared_senders() {
        let cfg = workload(33, WorkloadKind::Incast { message: Bytes(4 << 20) });
        // 32 x 1024 frames of 4178 B and one RETH per message, at 100G.
        let bytes = 32 * (1024 * 4178 + 16);
        assert_eq!(ideal(&cfg, W4K, own_port(100)), Rate::gbps(100).time_for(bytes));
        // All senders behind one 100G port, receiver at 400G: the sending port decides.
        let shared =
            |r: RankId| (PortId(r.0 / 32), if r.0 == 32 { Rate::gbps(400) } else { Rate::gbps(100) });
        assert_eq!(ideal(&cfg, W4K, shared), Rate::gbps(100).time_for(bytes));
        assert_eq!(ideal(&cfg, W4K, |_| (PortId(0), Rate::gbps(100))), Span::ZERO);
    }

    #[test]
    fn ring_matches_the_table_of_bounds() {
        // 1 GiB at 400G and MTU 4096: 38.33, 43.12, 43.72 ms for n = 8, 64, 512 (RETH adds less than 0.1 %).
        for (n, ms) in [(8, 38.33), (64, 43.12), (512, 43.72)] {
            let (vector, chunk, reduce) = (Bytes(1 << 30), Bytes(1 << 20), Span::ZERO);
            let cfg = workload(n, WorkloadKind::RingAllReduce { vector, chunk, reduce, per_node: 1 });
            let got = ideal(&cfg, W4K, own_port(400)).as_s_f64() * 1e3;
            assert!((got / ms - 1.0).abs() < 1e-3, "n {n}: {got} ms, expected {ms}");
        }
    }

    #[test]
    fn a_reduction_counts_only_when_nothing_hides_it() {
        let ring = |chunk, reduce| {
            let (vector, chunk) = (Bytes(8 << 20), Bytes(chunk));
            let kind = WorkloadKind::RingAllReduce { vector, chunk, reduce, per_node: 1 };
            ideal(&workload(8, kind), W4K, own_port(100))
        };
        let us = Span::from_us(5);
        assert_eq!(ring(1 << 20, us), ring(1 << 20, Span::ZERO) + Span(7 * us.0)); // one chunk per part
        assert_eq!(ring(1 << 17, us), ring(1 << 17, Span::ZERO)); // 8 chunks, 10.7 us each
    }
}
