//! What a plan will do, in closed form: bytes, frames, ideal completion, the bound of the fabric, the first
//! XOFF,
//! headroom, duration and memory. Nothing here runs a frame.

use std::collections::{BTreeMap, BTreeSet};

use super::{HeadroomPrediction, PortHeadroom, Prediction, XoffPrediction, memory};
use crate::host::config::{HostConfig, RankAddr};
use crate::switch::config::{FCS_BYTES, Limit, SwitchConfig};
use crate::topology::{End, Fabric, Flow, Link, fabric_bound};
use crate::transport::config::{ClassConfig, RateControl};
use crate::units::{Bytes, FRAME_LEN_MIN, FrameLen, LinkTiming, PortId, Rate, Span, Time};
use crate::workload::config::{Load, Until, WorkloadConfig, WorkloadKind};
use crate::workload::generate::{pairs, traffic};
use crate::workload::ideal::{self, Framing};

/// What the prediction looks at.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'b> {
    /// Tester ports.
    pub hosts: &'b [HostConfig],
    /// Closed-loop workloads.
    pub workloads: &'b [WorkloadConfig],
    /// Ranks by number.
    pub ranks: &'b [RankAddr],
    /// Traffic classes.
    pub classes: &'b [ClassConfig],
    /// Switches and links.
    pub fabric: &'b Fabric,
    /// Iterations, warm-up included.
    pub iterations: u32,
    /// Silence between iterations.
    pub gap: Span,
    /// Latest action of the timeline.
    pub last_action: Time,
    /// Iterations that count.
    pub repeats: u32,
}

/// Longest time a port may take to obey a PFC frame, in quanta, by rate in Gb/s (IEEE 802.3 31B.3.7 as
/// SONiC's headroom
/// script lists it). Rates in between take the next higher line.
const RESPONSE_QUANTA: [(u64, u16); 8] =
    [(10, 67), (25, 80), (40, 118), (50, 147), (100, 394), (200, 453), (400, 905), (800, 905)];

/// Quanta a port at `rate` may take to obey a PFC frame.
pub fn response_quanta(rate: Rate) -> u16 {
    RESPONSE_QUANTA.iter().find(|(gbps, _)| Rate::gbps(*gbps) >= rate).map_or(905, |(_, quanta)| *quanta)
}

/// What one workload puts on every port in one iteration.
struct Loads {
    payload: u64,
    frames: u64,
    local_messages: u64,
    tx: Vec<u64>,
    rx: Vec<u64>,
    flows: BTreeMap<(u32, u32), u64>,
    /// Pairs of ranks that use a wire, and all pairs.
    remote: u64,
    pairs: u64,
}

impl Loads {
    fn add_flow(&mut self, ((from, to), wire): ((u32, u32), u64)) {
        if wire > 0 {
            self.tx[from as usize] = self.tx[from as usize].saturating_add(wire);
            self.rx[to as usize] = self.rx[to as usize].saturating_add(wire);
            let flow = self.flows.entry((from, to)).or_insert(0);
            *flow = flow.saturating_add(wire);
        }
    }
}

/// Everything `check` says. Cost: O(pairs of ranks + messages of replays).
pub fn predict(b: &Basis<'_>) -> Prediction {
    let v6 = b.ranks.first().is_some_and(|r| r.ip.is_ipv6());
    let mut p = Prediction::default();
    let mut busy = Span::ZERO;
    for w in b.workloads {
        let framing = Framing::of(&b.classes[usize::from(w.class.0)], w.verb, v6);
        let loads = loads(b, w, &framing);
        p.iteration_bytes = Bytes(p.iteration_bytes.0.saturating_add(loads.payload));
        p.iteration_frames = p.iteration_frames.saturating_add(loads.frames);
        p.local_messages += loads.local_messages;
        let ends = ends_busy(b, &loads);
        let link = fabric_busy(b.fabric, &loads.flows);
        let ideal = completion(b, w, &framing, &loads, ends, ends);
        let bound = completion(b, w, &framing, &loads, ends, ends.max(link));
        busy = busy.max(bound).max(paced(w, &framing));
        p.ideal.push(ideal);
        p.fabric_bound.push(bound);
    }
    (p.fan_in_ranks, p.fan_in_physical) = fan_in(b);
    p.xoff = xoff(b, v6);
    p.headrooms = super::headroom::all(b, v6);
    p.headroom = least(&p.headrooms);
    let each = busy + b.gap;
    let closed = if b.workloads.is_empty() { 0 } else { each.0.saturating_mul(u64::from(b.iterations)) };
    p.duration = Span(closed.max(streams_end(b).0).max(b.last_action.0));
    p.memory = memory::predict(b);
    p
}

fn port_of(b: &Basis<'_>, rank: crate::units::RankId) -> Option<u32> {
    b.ranks.get(rank.0 as usize).map(|r| r.port.0)
}

/// Both ranks behind one port, and delivered there.
fn local(b: &Basis<'_>, from: u32, to: u32) -> bool {
    from == to && b.hosts.get(from as usize).is_some_and(|h| h.local_delivery)
}

fn loads(b: &Basis<'_>, w: &WorkloadConfig, framing: &Framing) -> Loads {
    let n = b.hosts.len();
    let mut l = Loads {
        payload: 0,
        frames: 0,
        local_messages: 0,
        tx: vec![0; n],
        rx: vec![0; n],
        flows: BTreeMap::new(),
        remote: 0,
        pairs: 0,
    };
    // Messages of one pair come in a row: one map entry per row, not per message.
    let mut row = ((0, 0), 0u64);
    traffic(w, |from, to, bytes, count| {
        let (Some(from), Some(to)) = (port_of(b, from), port_of(b, to)) else { return };
        l.payload = l.payload.saturating_add(bytes.saturating_mul(count));
        if local(b, from, to) {
            l.local_messages += count;
            return;
        }
        l.frames = l.frames.saturating_add(framing.frames(bytes).saturating_mul(count));
        if row.0 != (from, to) {
            l.add_flow(row);
            row = ((from, to), 0);
        }
        row.1 = row.1.saturating_add(framing.wire(bytes).saturating_mul(count));
    });
    l.add_flow(row);
    for (from, to) in pairs(w) {
        if let (Some(from), Some(to)) = (port_of(b, from), port_of(b, to)) {
            l.pairs += 1;
            l.remote += u64::from(!local(b, from, to));
        }
    }
    l
}

/// Time the busiest tester port needs for its share, in either direction.
fn ends_busy(b: &Basis<'_>, loads: &Loads) -> Span {
    let port = |(i, h): (usize, &HostConfig)| h.rate.time_for(loads.tx[i].max(loads.rx[i]));
    b.hosts
        .iter()
        .enumerate()
        .filter(|(i, _)| loads.tx[*i].max(loads.rx[*i]) > 0)
        .map(port)
        .max()
        .unwrap_or(Span::ZERO)
}

/// Time the busiest link inside the fabric needs when equal-cost paths share evenly.
fn fabric_busy(fabric: &Fabric, flows: &BTreeMap<(u32, u32), u64>) -> Span {
    let flows: Vec<Flow> = flows.iter().map(|(&(src, dst), &bytes)| Flow { src, dst, bytes }).collect();
    // A fabric that the profile built has a route for every flow.
    fabric_bound(fabric, &flows).map_or(Span::ZERO, |bound| bound.span)
}

/// What the way through an idle fabric adds to a frame's time on the sender's own link.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// Along the longest path any frame of the workload takes.
    longest: Span,
    /// Mean over the workload's sender-receiver pairs: what a chain through all of them pays per hop.
    mean: Span,
}

/// The way of a frame of `len`, over the first 65,536 pairs.
fn path_extra(b: &Basis<'_>, flows: &BTreeMap<(u32, u32), u64>, len: FrameLen) -> Way {
    let paths = super::path::Paths::new(b.fabric);
    let one = |from: u32, to: u32| paths.extra(from, to, len);
    let (mut way, mut sum, mut pairs) = (Way::default(), 0u128, 0u128);
    for extra in flows.keys().take(1 << 16).filter_map(|&(from, to)| one(from, to)) {
        way.longest = way.longest.max(extra);
        sum += u128::from(extra.0);
        pairs += 1;
    }
    way.mean = Span(sum.checked_div(pairs).unwrap_or(0) as u64);
    way
}

/// Completion of one iteration when the busiest resource needs `busy` and the busiest endpoint `ends`.
fn completion(
    b: &Basis<'_>,
    w: &WorkloadConfig,
    framing: &Framing,
    loads: &Loads,
    ends: Span,
    busy: Span,
) -> Span {
    let ack = path_extra(b, &loads.flows, FrameLen(FRAME_LEN_MIN)).longest + ack_wire(b);
    let way = path_extra(b, &loads.flows, framing.full_len());
    let there = way.longest;
    match &w.kind {
        WorkloadKind::RingAllReduce { vector, chunk, reduce, per_node } => {
            let n = w.ranks.len() as u64 / u64::from((*per_node).max(1));
            let steps = 2 * (n - 1);
            if loads.remote == 0 || steps == 0 {
                return Span(reduce.0.saturating_mul(n.saturating_sub(1)));
            }
            let part = Span(busy.0 / steps);
            let bytes = vector.0.div_ceil(w.ranks.len() as u64).min(chunk.0);
            let rate = b.hosts.iter().map(|h| h.rate).min().unwrap_or_default();
            // A slower fabric slows a message as much as it slows the whole.
            let message =
                rate.time_for(framing.wire(bytes)).0 as f64 * (busy.0 as f64 / ends.0.max(1) as f64);
            let hop = Span(message as u64) + way.mean;
            let remote =
                |hops: u64| (hops as u128 * u128::from(loads.remote) / u128::from(loads.pairs)) as u64;
            let chain = hop.0.saturating_mul(remote(steps - 1)).saturating_add(reduce.0 * (n - 1));
            let stream = part.0.saturating_mul(steps - 1);
            Span(stream.max(chain)) + part + there + ack
        }
        // Captured gaps and dependencies count: nothing can end before its longest chain.
        WorkloadKind::Replay(_) => {
            let endpoint = |rank| {
                let port = port_of(b, rank).unwrap_or_default();
                (PortId(port), b.hosts.get(port as usize).map_or(Rate::gbps(1), |h| h.rate))
            };
            let chain = ideal::ideal(w, *framing, endpoint);
            if chain.max(busy) == Span::ZERO { Span::ZERO } else { chain.max(busy) + there + ack }
        }
        // All data, then the last frame's way and its acknowledgement.
        WorkloadKind::Incast { .. } if busy == Span::ZERO => Span::ZERO,
        WorkloadKind::Incast { .. } => busy + there + ack,
    }
}

fn ack_wire(b: &Basis<'_>) -> Span {
    let timing = b.hosts.first().map(|h| LinkTiming::new(h.rate, Span::ZERO));
    timing.map_or(Span::ZERO, |t| t.wire_time(FrameLen(FRAME_LEN_MIN)))
}

/// Time a constant rate per queue pair needs for the largest message.
fn paced(w: &WorkloadConfig, framing: &Framing) -> Span {
    let RateControl::Fixed(rate) = w.rate_control else { return Span::ZERO };
    let mut sums: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    traffic(w, |from, to, bytes, count| {
        let sum = sums.entry((from.0, to.0)).or_insert(0);
        *sum = sum.saturating_add(framing.wire(bytes).saturating_mul(count));
    });
    let most = sums.values().max().copied().unwrap_or(0);
    rate.time_for(most / u64::from(w.qps_per_pair.max(1)))
}

/// Senders of the busiest receiving port: ranks, and port rates (each port once) over the receiver's rate.
fn fan_in(b: &Basis<'_>) -> (f64, f64) {
    let mut ranks: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let mut rates: BTreeMap<u32, BTreeMap<u32, f64>> = BTreeMap::new();
    let mut add = |from: crate::units::RankId, to: crate::units::RankId, share: Option<f64>| {
        let (Some(src), Some(dst)) = (port_of(b, from), port_of(b, to)) else { return };
        if local(b, src, dst) {
            return;
        }
        ranks.entry(dst).or_default().insert(from.0);
        let rate = b.hosts[src as usize].rate.bits_per_s as f64;
        let used = rates.entry(dst).or_default().entry(src).or_insert(0.0);
        *used = (*used + share.unwrap_or(1.0) * rate).min(rate);
    };
    for w in b.workloads {
        pairs(w).into_iter().for_each(|(from, to)| add(from, to, None));
    }
    for s in b.hosts.iter().flat_map(|h| &h.streams) {
        let rate = port_of(b, s.from).map_or(Rate::gbps(1), |p| b.hosts[p as usize].rate);
        add(s.from, s.to, Some(stream_share(s.load, &s.sizes, rate)));
    }
    let mut best = (0.0, 0.0);
    for (dst, senders) in &rates {
        let physical = senders.values().sum::<f64>() / b.hosts[*dst as usize].rate.bits_per_s.max(1) as f64;
        if physical > best.1 {
            best = (ranks.get(dst).map_or(0, BTreeSet::len) as f64, physical);
        }
    }
    best
}

/// Share of a port that a stream fills, gap and preamble counted.
fn stream_share(load: Load, sizes: &[(u16, u32)], rate: Rate) -> f64 {
    let (frames, bytes) = sizes.iter().fold((0f64, 0f64), |(n, b), (len, weight)| {
        (n + f64::from(*weight), b + f64::from(*len) * f64::from(*weight))
    });
    let mean = bytes / frames.max(1.0);
    let fps = match load {
        Load::L1Share(x) => return x,
        Load::L2(r) => r.bits_per_s as f64 / (8.0 * mean),
        Load::Fps(x) => x,
    };
    fps * (mean + 20.0) * 8.0 / rate.bits_per_s.max(1) as f64
}

fn streams_end(b: &Basis<'_>) -> Time {
    let end = |h: &HostConfig| {
        h.streams
            .iter()
            .map(|s| {
                let span = match s.until {
                    Until::Span(span) => span,
                    Until::Frames(n) => {
                        let share = stream_share(s.load, &s.sizes, h.rate).max(1e-12);
                        let (frames, bytes) = s.sizes.iter().fold((0u64, 0u64), |(f, b), (len, w)| {
                            (f + u64::from(*w), b + (u64::from(*len) + 20) * u64::from(*w))
                        });
                        let mean = bytes as f64 / frames.max(1) as f64;
                        let s = n as f64 * mean * 8.0 / (share * h.rate.bits_per_s.max(1) as f64);
                        Span((s * 1e12) as u64)
                    }
                };
                s.start + span
            })
            .max()
            .unwrap_or(Time::ZERO)
    };
    b.hosts.iter().map(end).max().unwrap_or(Time::ZERO)
}

/// Bytes of buffer one full frame holds, and its time on a link of `rate`.
fn held(switch: &SwitchConfig, framing: &Framing) -> u64 {
    let cell = u64::from(switch.cell.max(1));
    (u64::from(framing.full_len().0) + u64::from(FCS_BYTES)).div_ceil(cell) * cell
}

/// First XOFF of an incast on one switch. Senders start together at their line rates; group i then grows by
/// `c_i = r_i (1 - 1/F)` and meets the threshold `alpha (S - t sum c)` at `t = alpha S / (c_i + alpha sum
/// c)`, which
/// for equal senders is a use of `alpha S / (1 + n alpha)` each. Where the buffer is sliced, pool and senders are those of
/// one slice.
fn xoff(b: &Basis<'_>, v6: bool) -> Option<XoffPrediction> {
    let [switch] = b.fabric.switches.as_slice() else { return None };
    let mut best: Option<XoffPrediction> = None;
    for w in b.workloads {
        let WorkloadKind::Incast { message } = &w.kind else { continue };
        let class = &b.classes[usize::from(w.class.0)];
        // Of a switch whose ports differ, the first port's limits stand for all.
        let priority = switch.group_of(0, class.priority);
        let Limit::Dynamic(num, den) = priority.limit else { continue };
        if !class.lossless || !priority.lossless {
            continue;
        }
        let framing = Framing::of(class, w.verb, v6);
        // Per sending port: connections.
        let mut senders: BTreeMap<u32, u64> = BTreeMap::new();
        let mut receiver = None;
        for (from, to) in pairs(w) {
            let (Some(src), Some(dst)) = (port_of(b, from), port_of(b, to)) else { continue };
            if !local(b, src, dst) {
                *senders.entry(src).or_insert(0) += 1;
                receiver = Some(dst);
            }
        }
        let Some(receiver) = receiver else { continue };
        let out = b.hosts[receiver as usize].rate.bits_per_s as f64;
        let slice = |src: &u32| switch.slice_of(port_at(b, *src), port_at(b, receiver));
        let rate = |(src, ranks): (&u32, &u64)| {
            let line = b.hosts[*src as usize].rate.bits_per_s as f64;
            match w.rate_control {
                RateControl::Fixed(r) => {
                    line.min(r.bits_per_s as f64 * (*ranks * u64::from(w.qps_per_pair)) as f64)
                }
                _ => line,
            }
        };
        let sum: f64 = senders.iter().map(rate).sum();
        let keep = 1.0 - out / sum;
        let (alpha, reserved) = (f64::from(num) / f64::from(den.max(1)), priority.reserved.0);
        let per_wire = held(switch, &framing) as f64 / (f64::from(framing.full_len().0) + 24.0) / 8.0;
        // Buffer bytes per second.
        let grow = |r: f64| r * keep * per_wire;
        // Of every slice: what its senders take together, and its shared bytes.
        let mut slices = vec![(0.0, 0.0); switch.slices.count()];
        for (i, s) in slices.iter_mut().enumerate() {
            let mine = senders.iter().filter(|(src, _)| slice(src) == i);
            *s = (grow(mine.map(rate).sum()), switch.shared_size_in(priority.pool, i).ok()?.0 as f64);
        }
        let mut first: Option<(f64, f64, bool)> = None;
        for (src, ranks) in &senders {
            let c = grow(rate((src, ranks)));
            let (all, shared) = slices[slice(src)];
            let t = alpha * shared / (c + alpha * all);
            let use_bytes = c * t;
            let in_flight = u64::from(w.rc.window).saturating_mul(u64::from(w.qps_per_pair));
            let frames = framing.frames(message.0).min(in_flight).saturating_mul(*ranks);
            let peak = frames as f64 * held(switch, &framing) as f64 * keep;
            let reached = keep > 0.0 && peak >= use_bytes + reserved as f64;
            let when = t + if c > 0.0 { reserved as f64 / c } else { 0.0 };
            if first.is_none_or(|f| (reached, -when) > (f.2, -f.1)) {
                first = Some((use_bytes, when, reached));
            }
        }
        let Some((use_bytes, when, reached)) = first else { continue };
        let way = b.fabric.links.iter().find(|l| matches!(l.from, End::Host(_))).map(|l| l.timing);
        let way = way.map_or(Span::ZERO, |t| t.wire_time(framing.full_len()) + t.propagation());
        let one = XoffPrediction {
            reached,
            group_bytes: Bytes(if keep > 0.0 {
                use_bytes
            } else {
                alpha * slices[0].1 / (1.0 + alpha * senders.len() as f64)
            } as u64),
            first: if reached { Span((when * 1e12) as u64) + way } else { Span::ZERO },
        };
        if best.is_none_or(|b| one.reached && (!b.reached || one.first < b.first)) {
            best = Some(one);
        }
    }
    best
}

/// The port of the first switch behind which a tester port is.
fn port_at(b: &Basis<'_>, host: u32) -> usize {
    let at = |l: &Link| match (l.from, l.to) {
        (End::Host(h), End::Switch(_, p)) if h.0 == host => Some(usize::from(p)),
        _ => None,
    };
    b.fabric.links.iter().find_map(at).unwrap_or(0)
}

/// The one with the least margin.
fn least(all: &[PortHeadroom]) -> Option<HeadroomPrediction> {
    let margin = |h: &HeadroomPrediction| i128::from(h.configured.0) - i128::from(h.needed.0);
    all.iter().map(|p| p.headroom).min_by_key(|h| (margin(h), std::cmp::Reverse(h.needed.0)))
}
