//! The measurement of a run: implements [`Record`]. One recorder per engine, merged at the end.

use arrayvec::ArrayVec;
use sha2::{Digest, Sha256};

use super::distribution::Distribution;
use super::iterations::{Iteration, RankTotal, WorkloadIterations};
use super::network::{NetworkRecord, XoffCause};
use super::pauses::{PauseSummary, Pauses};
use super::rates::RateSeries;
use super::record::{DropReason, MessageRecord, Outcome, RankIteration, Record};
use super::streams::StreamLatency;
use crate::frame::{FrameMeta, flags};
use crate::limits::{FLOW_ROWS_MAX, PRIORITIES, QUEUE_HISTOGRAMS_MAX, STREAM_HISTOGRAMS_MAX};
use crate::rng::mix;
use crate::units::{ClassIx, RankId, Span, Time, WIRE_OVERHEAD_BYTES};

/// Longest latency a histogram tells apart, nanoseconds: one hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
const NO_SLOT: u32 = u32::MAX;
/// Queue depths are counted so many at a time. Each is in another histogram and those of a fabric fill no cache: counted
/// together, their cache misses wait for each other no more.
const DEPTHS: usize = 64;

/// What a recorder must have room for.
#[derive(Clone, Debug, Default)]
pub struct RecorderConfig {
    /// Tester ports.
    pub ports: usize,
    /// Traffic classes.
    pub classes: usize,
    /// Ranks of each closed-loop workload.
    pub workloads: Vec<Vec<RankId>>,
    /// Iterations left out at the start.
    pub warmup: u32,
    /// Iterations measured.
    pub repeats: u32,
    /// Measured messages expected; their rows are kept up to [`FLOW_ROWS_MAX`].
    pub messages: u64,
    /// Open-loop streams; each of them, up to [`STREAM_HISTOGRAMS_MAX`], has its latency kept.
    pub streams: usize,
    /// Per switch.
    pub switches: Vec<SwitchShape>,
    /// Arrivals by flow and time, where rate control is to be judged.
    pub rates: Option<RateSeries>,
}

/// The queues of one switch.
#[derive(Clone, Copy, Debug, Default)]
pub struct SwitchShape {
    /// Ports.
    pub ports: u16,
    /// Bit q is set when frames wait in queue q: only these queues get a depth histogram.
    pub queues: u8,
    /// Packet buffer, the deepest a queue can be.
    pub buffer_bytes: u64,
}

/// Data frames of one class as they arrived, with both latencies.
#[derive(Clone, Debug)]
pub struct ClassArrivals {
    /// Frames, duplicates included.
    pub frames: u64,
    /// Bytes, FCS included.
    pub bytes: u64,
    /// First arrival.
    pub first: Time,
    /// Last arrival.
    pub last: Time,
    /// Data frames a switch dropped.
    pub dropped: u64,
    /// `wire_out -> wire_in`, nanoseconds: what the network did.
    pub network_ns: Distribution<u64>,
    /// `intended -> wire_in`, nanoseconds: what the job felt.
    pub felt_ns: Distribution<u64>,
    /// `wire_out -> ack_in`, nanoseconds, of packets that asked for an acknowledgement; on real ports alone.
    pub round_trip_ns: Option<Distribution<u32>>,
}

/// Messages of one workload.
#[derive(Clone, Debug)]
pub struct WorkloadMessages {
    /// Completed over the wire.
    pub completed: u64,
    /// Delivered inside a port.
    pub local: u64,
    /// Given up or refused.
    pub failed: u64,
    /// Bytes of the completed ones.
    pub bytes: u64,
    /// Intended to finished, nanoseconds, of the completed ones.
    pub fct_ns: Distribution<u64>,
    /// Sum over all messages of a 64-bit digest each: the same in any order.
    digest: u128,
}

/// Depth of one egress queue right after each frame joined it.
#[derive(Clone, Debug)]
pub struct QueueDepth {
    /// Switch.
    pub switch: u16,
    /// Egress port.
    pub port: u16,
    /// Priority.
    pub priority: u8,
    /// Bytes.
    pub depth_bytes: Distribution<u32>,
}

/// Collects the events of one engine. Every event costs a few histogram increments and allocates nothing.
#[derive(Clone, Debug)]
pub struct Recorder {
    measure_from: Time,
    warmup: u32,
    classes: Vec<ClassArrivals>,
    messages: Vec<WorkloadMessages>,
    iterations: Vec<WorkloadIterations>,
    rows: Vec<MessageRecord>,
    rows_max: usize,
    pauses: Pauses,
    queue_base: Vec<usize>,
    queue_slot: Vec<u32>,
    queues: Vec<QueueDepth>,
    /// Place in `queues` and depth of the last ones, not yet counted there.
    depths: ArrayVec<(u32, u32), DEPTHS>,
    queues_left_out: usize,
    drops: [[u64; PRIORITIES]; DropReason::ALL.len()],
    rates: Option<Box<RateSeries>>,
    network: NetworkRecord,
    streams: StreamLatency,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder::new(&RecorderConfig::default())
    }
}

impl Recorder {
    /// Allocates everything the run will need: about 0.6 MB per class, 0.3 MB per workload, 10 KB per used queue.
    ///
    /// With `warmup` iterations of some workload nothing is counted until [`Recorder::set_measure_from`]; without,
    /// everything counts from time zero.
    pub fn new(config: &RecorderConfig) -> Recorder {
        let latency = || Distribution::new(LATENCY_NS_MAX, 3);
        let class = || ClassArrivals {
            frames: 0,
            bytes: 0,
            first: Time::NEVER,
            last: Time::ZERO,
            dropped: 0,
            network_ns: latency(),
            felt_ns: latency(),
            round_trip_ns: None,
        };
        let messages =
            || WorkloadMessages { completed: 0, local: 0, failed: 0, bytes: 0, fct_ns: latency(), digest: 0 };
        let rows_max = usize::try_from(config.messages).unwrap_or(usize::MAX).min(FLOW_ROWS_MAX);
        let waits = config.warmup > 0 && !config.workloads.is_empty();
        let mut r = Recorder {
            measure_from: if waits { Time::NEVER } else { Time::ZERO },
            warmup: config.warmup,
            classes: (0..config.classes).map(|_| class()).collect(),
            messages: config.workloads.iter().map(|_| messages()).collect(),
            iterations: config
                .workloads
                .iter()
                .map(|ranks| WorkloadIterations::new(ranks, config.warmup, config.repeats))
                .collect(),
            rows: Vec::with_capacity(rows_max),
            rows_max,
            pauses: Pauses::new(config.ports),
            queue_base: Vec::with_capacity(config.switches.len()),
            queue_slot: Vec::new(),
            queues: Vec::new(),
            depths: ArrayVec::new(),
            queues_left_out: 0,
            drops: Default::default(),
            rates: config.rates.clone().map(Box::new),
            network: NetworkRecord::new(config.switches.iter().map(|s| s.ports)),
            streams: StreamLatency::new(config.streams.min(STREAM_HISTOGRAMS_MAX)),
        };
        for (switch, shape) in config.switches.iter().enumerate() {
            r.queue_base.push(r.queue_slot.len());
            for (port, priority) in (0..shape.ports).flat_map(|p| (0..PRIORITIES).map(move |q| (p, q))) {
                let slot = r.new_queue(switch as u16, port, priority as u8, shape);
                r.queue_slot.push(slot);
            }
        }
        r
    }

    /// Bytes of memory that a recorder touches: histograms and the like, and rows of messages.
    pub fn bytes_for(config: &RecorderConfig) -> (u64, u64) {
        let latency = Distribution::<u64>::new(LATENCY_NS_MAX, 3).bytes();
        let mut bytes = latency * (2 * config.classes + config.workloads.len()) as u64;
        let mut left = QUEUE_HISTOGRAMS_MAX;
        for s in &config.switches {
            let queues = (usize::from(s.ports) * s.queues.count_ones() as usize).min(left);
            left -= queues;
            if queues > 0 {
                bytes += queues as u64 * Distribution::<u32>::new(s.buffer_bytes.max(1 << 20), 2).bytes();
            }
        }
        let ranks: usize = config.workloads.iter().map(Vec::len).sum();
        let iterations = config.workloads.len() * config.repeats as usize;
        bytes += (ranks * size_of::<RankTotal>() + iterations * size_of::<Iteration>()) as u64;
        bytes += StreamLatency::bytes_for(config.streams.min(STREAM_HISTOGRAMS_MAX));
        bytes += (config.ports * size_of::<[PauseSummary; PRIORITIES]>()) as u64;
        (bytes, config.messages.min(FLOW_ROWS_MAX as u64) * size_of::<MessageRecord>() as u64)
    }

    fn new_queue(&mut self, switch: u16, port: u16, priority: u8, shape: &SwitchShape) -> u32 {
        if shape.queues & (1 << priority) == 0 {
            return NO_SLOT;
        }
        if self.queues.len() >= QUEUE_HISTOGRAMS_MAX {
            self.queues_left_out += 1;
            return NO_SLOT;
        }
        let depth_bytes = Distribution::new(shape.buffer_bytes.max(1 << 20), 2);
        self.queues.push(QueueDepth { switch, port, priority, depth_bytes });
        (self.queues.len() - 1) as u32
    }

    /// Leaves out every event before `from`, the release of the first measured iteration. Call it before events at
    /// or after `from` are recorded.
    pub fn set_measure_from(&mut self, from: Time) {
        self.measure_from = from;
    }
    /// From when events count; `NEVER` while the warm-up lasts.
    pub fn measure_from(&self) -> Time {
        self.measure_from
    }
    /// Ends the run: open pauses are closed at `now`, and everything is counted.
    pub fn finish(&mut self, now: Time) {
        self.count_depths();
        self.streams.settle();
        self.pauses.finish(now, self.measure_from);
        self.network.finish(now);
    }
    /// Counts the depths of queues that wait for it.
    #[inline(never)]
    fn count_depths(&mut self) {
        let mut places = [0; DEPTHS];
        for (&(slot, bytes), place) in self.depths.iter().zip(&mut places) {
            if let Some(q) = self.queues.get(slot as usize) {
                *place = q.depth_bytes.place(u64::from(bytes));
            }
        }
        for (&(slot, bytes), place) in self.depths.iter().zip(places) {
            if let Some(q) = self.queues.get_mut(slot as usize) {
                q.depth_bytes.record_at(place, u64::from(bytes));
            }
        }
        self.depths.clear();
    }

    /// Adds what another engine of the same run recorded. Engines own disjoint ports and switches; the order of
    /// merging does not matter. Both have been finished.
    pub fn merge(&mut self, mut other: Recorder) {
        self.count_depths();
        other.count_depths();
        self.measure_from = self.measure_from.min(other.measure_from);
        for (a, b) in self.classes.iter_mut().zip(&other.classes) {
            a.frames += b.frames;
            a.bytes += b.bytes;
            a.first = a.first.min(b.first);
            a.last = a.last.max(b.last);
            a.dropped += b.dropped;
            a.network_ns.merge(&b.network_ns);
            a.felt_ns.merge(&b.felt_ns);
            if let Some(b) = &b.round_trip_ns {
                merge_into(&mut a.round_trip_ns, b);
            }
        }
        for (a, b) in self.messages.iter_mut().zip(&other.messages) {
            a.completed += b.completed;
            a.local += b.local;
            a.failed += b.failed;
            a.bytes += b.bytes;
            a.fct_ns.merge(&b.fct_ns);
            a.digest = a.digest.wrapping_add(b.digest);
        }
        self.iterations.iter_mut().zip(&other.iterations).for_each(|(a, b)| a.merge(b));
        self.rows.extend_from_slice(&other.rows);
        if let (Some(a), Some(b)) = (&mut self.rates, other.rates) {
            a.merge(*b);
        }
        self.rows.sort_unstable_by_key(row_order);
        self.rows.truncate(self.rows_max);
        self.pauses.merge(&other.pauses);
        self.queues.iter_mut().zip(&other.queues).for_each(|(a, b)| a.depth_bytes.merge(&b.depth_bytes));
        for (a, b) in self.drops.iter_mut().flatten().zip(other.drops.iter().flatten()) {
            *a += b;
        }
        self.network.merge(&other.network);
        self.streams.merge(&other.streams);
    }

    /// Adds round trips that a port has timed, by class.
    pub fn add_round_trips(&mut self, round_trip_ns: &[Distribution<u32>]) {
        for (c, d) in self.classes.iter_mut().zip(round_trip_ns).filter(|(_, d)| d.count() > 0) {
            merge_into(&mut c.round_trip_ns, d);
        }
    }

    /// `n` data frames of `bytes` in all, FCS included, arrived at `now`.
    #[inline]
    pub fn count_arrivals(&mut self, now: Time, class: ClassIx, n: u64, bytes: u64) {
        let Some(c) = self.classes.get_mut(usize::from(class.0)).filter(|_| now >= self.measure_from) else {
            return;
        };
        c.frames += n;
        c.bytes += bytes;
        c.first = c.first.min(now);
        c.last = c.last.max(now);
    }

    /// So many frames that arrived at `now` were first on a wire at `start`, or meant to be at `intended`; `NEVER` says
    /// nothing.
    #[inline]
    pub fn count_latencies(&mut self, now: Time, class: ClassIx, since: Since, n: u64) {
        let Some(c) = self.classes.get_mut(usize::from(class.0)).filter(|_| now >= self.measure_from) else {
            return;
        };
        let (distribution, from) = match since {
            Since::WireOut(start) => (&mut c.network_ns, start),
            Since::Intended(at) => (&mut c.felt_ns, at),
        };
        if from != Time::NEVER {
            distribution.record_n(now.since(from).0 / 1_000, n);
        }
    }

    /// Arrivals are looked at one by one, for rate control.
    #[inline]
    pub fn wants_each(&self) -> bool {
        self.rates.is_some()
    }

    /// Arrivals by flow and time; none without rate control, and with too many flows.
    pub fn rates(&self) -> Option<&RateSeries> {
        self.rates.as_deref()
    }
    /// Arrivals per class.
    pub fn classes(&self) -> &[ClassArrivals] {
        &self.classes
    }
    /// Messages per workload.
    pub fn messages(&self) -> &[WorkloadMessages] {
        &self.messages
    }
    /// Iterations per workload.
    pub fn iterations(&self) -> &[WorkloadIterations] {
        &self.iterations
    }
    /// The first measured messages, up to [`FLOW_ROWS_MAX`]; ordered by time after a merge.
    pub fn rows(&self) -> &[MessageRecord] {
        &self.rows
    }
    /// Measured messages that have no row.
    pub fn rows_left_out(&self) -> u64 {
        let all: u64 = self.messages.iter().map(|m| m.completed + m.local + m.failed).sum();
        all.saturating_sub(self.rows.len() as u64)
    }
    /// Pauses of the tester ports.
    pub fn pauses(&self) -> &Pauses {
        &self.pauses
    }
    /// Depth histograms, by switch, port and priority. After [`Recorder::finish`].
    pub fn queues(&self) -> &[QueueDepth] {
        &self.queues
    }
    /// Used queues beyond [`QUEUE_HISTOGRAMS_MAX`]: their deepest value is in the switch's counters only.
    pub fn queues_left_out(&self) -> usize {
        self.queues_left_out
    }
    /// Dropped frames of one reason, per priority.
    pub fn drops(&self, reason: DropReason) -> &[u64; PRIORITIES] {
        &self.drops[reason as usize]
    }
    /// Latency of each stream. After [`Recorder::finish`].
    pub fn streams(&self) -> &StreamLatency {
        &self.streams
    }
    /// What happened between switches.
    pub fn network(&self) -> &NetworkRecord {
        &self.network
    }
    /// The same, for those who see it happen.
    pub fn network_mut(&mut self) -> &mut NetworkRecord {
        &mut self.network
    }
    /// Values that lay beyond a histogram's range, all histograms together.
    pub fn saturated(&self) -> u64 {
        let classes = self.classes.iter().map(|c| c.network_ns.saturated() + c.felt_ns.saturated());
        let messages = self.messages.iter().map(|m| m.fct_ns.saturated());
        classes.chain(messages).sum::<u64>()
            + self.queues.iter().map(|q| q.depth_bytes.saturated()).sum::<u64>()
    }

    /// Feeds everything recorded to a hash, in a canonical order that no merging order changes.
    pub fn digest(&self, hash: &mut Sha256) {
        if !self.depths.is_empty() {
            let mut whole = self.clone();
            whole.count_depths();
            return whole.digest(hash);
        }
        let mut put = |values: &[u64]| values.iter().for_each(|v| hash.update(v.to_le_bytes()));
        for c in &self.classes {
            put(&[c.frames, c.bytes, c.first.0, c.last.0, c.dropped]);
            c.network_ns.for_each_count(|v, n| put(&[v, n]));
            c.felt_ns.for_each_count(|v, n| put(&[v, n]));
        }
        for m in &self.messages {
            put(&[m.completed, m.local, m.failed, m.bytes, m.digest as u64, (m.digest >> 64) as u64]);
            m.fct_ns.for_each_count(|v, n| put(&[v, n]));
        }
        for w in &self.iterations {
            for r in &w.rows {
                let (late, rank) = r.slowest.unwrap_or((Time::ZERO, RankId(u32::MAX)));
                put(&[r.released.0, r.finished.0, r.ranks.into(), r.first_byte_min.0, r.first_byte_max.0]);
                put(&[late.0, rank.0.into(), r.waited_ppb_sum, r.waited_ppb_max]);
            }
            w.totals.iter().for_each(|t| put(&[t.iterations.into(), t.finish_ps_sum]));
        }
        // Response times follow from pauses and frames; they are younger than the digest.
        for p in self.pauses.rows().iter().flatten() {
            put(&[p.paused.0, p.longest.0, p.first.0, p.pauses]);
        }
        for q in &self.queues {
            put(&[q.switch.into(), q.port.into(), q.priority.into()]);
            put(&[q.depth_bytes.min().unwrap_or(0), q.depth_bytes.max().unwrap_or(0)]);
            q.depth_bytes.for_each_count(|v, n| put(&[v, n]));
        }
        // Reasons younger than the digest count where they struck: runs without them keep theirs.
        let (usual, younger) = self.drops.split_at(DropReason::Watchdog as usize);
        usual.iter().for_each(|d| put(d));
        younger.iter().filter(|d| **d != [0; PRIORITIES]).for_each(|d| put(d));
        self.network.digest(hash);
    }
}

/// What a latency is counted from.
#[derive(Clone, Copy, Debug)]
pub enum Since {
    /// The first bit on the sender's wire.
    WireOut(Time),
    /// When the job wanted the frame there.
    Intended(Time),
}

fn merge_into(all: &mut Option<Distribution<u32>>, more: &Distribution<u32>) {
    match all {
        Some(all) => all.merge(more),
        None => *all = Some(more.clone()),
    }
}

/// The order of message rows: by end, then by everything that tells two messages apart.
fn row_order(m: &MessageRecord) -> (Time, u16, u32, RankId, RankId, u32, Time) {
    (m.finished, m.workload, m.iteration, m.from, m.to, m.tag, m.started)
}

fn message_digest(m: &MessageRecord) -> u64 {
    let ids = [
        u64::from(m.workload) << 32 | u64::from(m.iteration),
        u64::from(m.from.0) << 32 | u64::from(m.to.0),
        u64::from(m.tag) << 32 | u64::from(m.retransmitted),
        m.bytes,
        m.intended.0,
        m.started.0,
        m.finished.0,
        m.outcome as u64,
    ];
    ids.iter().fold(0, |h, v| mix(h ^ v))
}

impl Record for Recorder {
    #[inline]
    fn arrival(&mut self, now: Time, meta: &FrameMeta, class: ClassIx) {
        if now < self.measure_from {
            return;
        }
        let Some(c) = self.classes.get_mut(usize::from(class.0)) else { return };
        c.frames += 1;
        c.bytes += u64::from(meta.len.0) + 4;
        c.first = c.first.min(now);
        c.last = c.last.max(now);
        if meta.start != Time::NEVER {
            c.network_ns.record(now.since(meta.start).0 / 1_000);
            c.felt_ns.record(now.since(meta.intended).0 / 1_000);
        }
        if let Some(rates) = &mut self.rates {
            rates.add(now, meta.src, meta.flow, u64::from(meta.len.0) + u64::from(WIRE_OVERHEAD_BYTES));
        }
    }

    #[inline]
    fn stream(&mut self, now: Time, stream: u32, meta: &FrameMeta) {
        if now >= self.measure_from && meta.start != Time::NEVER {
            self.streams.record(stream, now.since(meta.start).0 / 1_000);
        }
    }

    fn message(&mut self, m: &MessageRecord) {
        let Some(w) = self.messages.get_mut(usize::from(m.workload)) else { return };
        if m.iteration < self.warmup {
            return;
        }
        match m.outcome {
            Outcome::Completed => {
                w.completed += 1;
                w.bytes += m.bytes;
                w.fct_ns.record(m.finished.since(m.intended).0 / 1_000);
            }
            Outcome::Local => w.local += 1,
            Outcome::RetryExceeded | Outcome::RemoteError => w.failed += 1,
        }
        w.digest = w.digest.wrapping_add(u128::from(message_digest(m)));
        if self.rows.len() < self.rows_max {
            self.rows.push(*m);
        }
    }

    fn rank_iteration(&mut self, it: &RankIteration) {
        if let Some(w) = self.iterations.get_mut(usize::from(it.workload)) {
            w.add(it);
        }
    }

    #[inline]
    fn port_pause(&mut self, now: Time, port: u32, priority: u8, on: bool) {
        self.pauses.set(now, self.measure_from, port, priority, on);
    }

    fn pfc_response(&mut self, now: Time, port: u32, priority: u8, span: Span) {
        if now >= self.measure_from {
            self.pauses.respond(port, priority, span);
        }
    }

    #[inline]
    fn queue_depth(&mut self, now: Time, switch: u16, port: u16, priority: u8, bytes: u64) {
        if now < self.measure_from {
            return;
        }
        let Some(base) = self.queue_base.get(usize::from(switch)) else { return };
        let ix = base + usize::from(port) * PRIORITIES + usize::from(priority);
        let Some(&slot) = self.queue_slot.get(ix) else { return };
        if slot == NO_SLOT {
            return;
        }
        if self.depths.is_full() {
            self.count_depths();
        }
        // Buffers end below 4 GiB.
        self.depths.push((slot, bytes.min(u32::MAX.into()) as u32));
    }

    fn switch_paused(&mut self, now: Time, switch: u16, port: u16, priority: u8, until: Time) {
        if now >= self.measure_from {
            self.network.pause(now, switch, port, priority, until);
        }
    }

    fn xoff(&mut self, now: Time, cause: XoffCause) {
        if now >= self.measure_from {
            self.network.xoff(now, cause);
        }
    }

    fn drop(&mut self, now: Time, _switch: u16, _ingress: u16, meta: &FrameMeta, reason: DropReason) {
        if now < self.measure_from {
            return;
        }
        self.drops[reason as usize][usize::from(meta.priority) % PRIORITIES] += 1;
        if meta.flags & flags::DATA != 0
            && let Some(c) = self.classes.get_mut(usize::from(meta.class))
        {
            c.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::units::FrameLen;

    fn config() -> RecorderConfig {
        RecorderConfig {
            ports: 4,
            classes: 1,
            workloads: vec![vec![RankId(0), RankId(1), RankId(2), RankId(3)]],
            warmup: 1,
            repeats: 3,
            messages: 12,
            streams: 0,
            switches: vec![SwitchShape { ports: 4, queues: 1 << 3, buffer_bytes: 32 << 20 }; 2],
            rates: None,
        }
    }

    fn hash(r: &Recorder) -> Vec<u8> {
        let mut h = Sha256::new();
        r.digest(&mut h);
        h.finalize().to_vec()
    }

    /// One event of engine `engine` (which owns ranks, ports and a switch of its own) at `now`.
    fn event(r: &mut Recorder, engine: u32, now: Time, rng: &mut Rng) {
        let port = engine * 2 + rng.below(2) as u32;
        let iteration = rng.below(5) as u32;
        let meta = FrameMeta {
            intended: Time(now.0 / 3),
            start: Time(now.0 / 2),
            len: FrameLen(4154),
            priority: 3,
            flags: flags::DATA,
            ..FrameMeta::default()
        };
        match rng.below(6) {
            0 => r.arrival(now, &meta, ClassIx(0)),
            1 => r.port_pause(now, port, 3, rng.below(2) == 0),
            2 => r.queue_depth(now, engine as u16, 1, 3, rng.below(1 << 21)),
            3 => r.drop(now, engine as u16, 0, &meta, DropReason::Headroom),
            4 => r.message(&MessageRecord {
                workload: 0,
                iteration,
                from: RankId(port),
                to: RankId(3 - port),
                bytes: 4096,
                tag: rng.below(9) as u32,
                intended: Time(now.0 / 4),
                started: Time(now.0 / 3),
                finished: now,
                outcome: Outcome::Completed,
                retransmitted: 0,
            }),
            _ => r.rank_iteration(&RankIteration {
                workload: 0,
                iteration,
                rank: RankId(port),
                released: Time(0),
                first_byte: now,
                finished: now + Span(rng.below(50)),
                waited_ps: rng.below(now.0),
            }),
        }
    }

    #[test]
    fn events_split_over_engines_and_merged_in_any_order_give_the_same_hash() {
        for seed in 1..=20 {
            let mut rng = Rng::new(seed, "recorder-test", 0);
            let mut one = Recorder::new(&config());
            let mut split = [Recorder::new(&config()), Recorder::new(&config())];
            [&mut one].into_iter().chain(split.iter_mut()).for_each(|r| r.set_measure_from(Time(40_000)));
            for step in 1..=400u64 {
                let engine = rng.below(2) as u32;
                let draw = rng.clone();
                event(&mut one, engine, Time(step * 1_000), &mut rng);
                event(&mut split[engine as usize], engine, Time(step * 1_000), &mut draw.clone());
            }
            let end = Time(500_000);
            one.finish(end);
            split.iter_mut().for_each(|r| r.finish(end));
            let [a, b] = split;
            let (mut ab, mut ba) = (a.clone(), b.clone());
            ab.merge(b);
            ba.merge(a);
            assert_eq!(hash(&one), hash(&ab), "seed {seed}");
            assert_eq!(hash(&one), hash(&ba), "seed {seed}");
            one.rows.sort_unstable_by_key(row_order);
            assert_eq!(one.rows(), ab.rows(), "seed {seed}");
        }
    }

    #[test]
    fn one_event_more_changes_the_hash() {
        let (mut a, mut b) = (Recorder::new(&config()), Recorder::new(&config()));
        a.set_measure_from(Time::ZERO);
        b.set_measure_from(Time::ZERO);
        assert_eq!(hash(&a), hash(&b));
        a.queue_depth(Time(1), 1, 2, 3, 5_000);
        b.queue_depth(Time(1), 1, 1, 3, 5_000);
        assert_ne!(hash(&a), hash(&b), "the queue is part of the outcome");
    }

    #[test]
    fn the_warm_up_is_left_out() {
        let mut r = Recorder::new(&config());
        let meta =
            FrameMeta { start: Time(1_000), intended: Time(500), len: FrameLen(60), ..Default::default() };
        r.arrival(Time(9_000), &meta, ClassIx(0));
        assert_eq!(r.classes()[0].frames, 0, "no start of the measurement is known yet");
        r.set_measure_from(Time(10_000));
        r.arrival(Time(9_999), &meta, ClassIx(0));
        r.arrival(Time(701_000), &meta, ClassIx(0));
        let c = &r.classes()[0];
        assert_eq!((c.frames, c.bytes, c.network_ns.max(), c.felt_ns.max()), (1, 64, Some(700), Some(700)));
        assert_eq!(c.first, Time(701_000));
    }

    #[test]
    fn rows_are_bounded_and_the_rest_is_counted() {
        let mut r = Recorder::new(&RecorderConfig { messages: 2, warmup: 0, ..config() });
        for i in 0..5u64 {
            r.message(&MessageRecord {
                workload: 0,
                iteration: 0,
                from: RankId(0),
                to: RankId(1),
                bytes: 100,
                tag: 0,
                intended: Time(0),
                started: Time(0),
                finished: Time(2_000_000 * (i + 1)),
                outcome: if i == 4 { Outcome::RetryExceeded } else { Outcome::Completed },
                retransmitted: 0,
            });
        }
        assert_eq!((r.rows().len(), r.rows_left_out()), (2, 3));
        let m = &r.messages()[0];
        assert_eq!((m.completed, m.failed, m.bytes, m.fct_ns.max()), (4, 1, 400, Some(8_000)));
    }
}
