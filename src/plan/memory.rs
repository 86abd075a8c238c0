//! What a run takes in memory, by parts, before it runs: what is touched for certain, and what full buffers would add.
//!
//! The figures are those of virtual time, or of real ports where the profile runs on them. A rings run has its frames in
//! mbufs of the size of the longest frame instead; what they take is asked for, and refused, at its start.

use super::pools::Pools;
use super::predict::Basis;
use super::{MemoryPrediction, Plan};
use crate::frame::boxed;
use crate::host::Host;
use crate::host::config::{HostConfig, RankAddr};
use crate::limits::PRIORITIES;
use crate::measure::network::NetworkRecord;
use crate::measure::recorder::{Recorder, RecorderConfig, SwitchShape};
use crate::measure::stats::SwitchPortStats;
use crate::switch::buffer_frames_max;
use crate::switch::config::{SwitchConfig, SwitchPortConfig};
use crate::topology::{Fabric, Link};
use crate::transport::config::{ClassConfig, QpConfig, Retransmission};
use crate::transport::reorder;
use crate::units::{FrameLen, LinkTiming};
use crate::workload::config::{WorkloadConfig, WorkloadKind};
use crate::workload::generate::messages_per_iteration;
use crate::workload::schedule::Op;

/// The program, its libraries and the C library's own: measured on a run of two ports.
const PROGRAM_BYTES: u64 = 14 << 20;
/// The same with DPDK, its drivers and what EAL keeps for itself: measured on runs over net_null and over cables of rings.
const PROGRAM_DPDK_BYTES: u64 = 30 << 20;
/// Besides pools, what a worker keeps for a queue: delays, round trips, checksums prepared.
const PORT_QUEUE_BYTES: u64 = 512 << 10;
/// What a worker keeps besides a recorder: lateness, and its stack.
const WORKER_BYTES: u64 = 512 << 10;
/// Frames in buffers that are allocated before the start; more come when queues grow so long.
const READY_FRAMES: usize = 1 << 16;
/// One queue of a switch port, with its priority group.
const QUEUE_BYTES: u64 = 128;
/// What an engine keeps for a link and for the events it may have pending.
const LINK_BYTES: u64 = 160;
/// Frames in the ring of a link, which grows with what is on the link and not with what could be.
const RING_FRAMES: usize = 32;
/// One of them: when it arrives, and its handle.
const RING_ENTRY_BYTES: u64 = 16;
/// A route in the form of the packet path.
const ROUTE_ROW_BYTES: u64 = 8;
/// What a report holds for a port of either side while it is made, measured on 49,152 of them.
const REPORT_PORT_BYTES: u64 = 1_250;
/// Per operation of a captured program: what the interpreter keeps beside the schedule.
const REPLAY_OP_BYTES: u64 = 24;

/// Frames that fit on a link at once, and one more.
pub fn frames_on_link(timing: &LinkTiming) -> usize {
    let shortest = timing.wire_time(FrameLen(60)).0.max(1);
    (timing.propagation().0 / shortest) as usize + 4
}

/// Frames that can be in flight at most (every buffer full, every link full of the shortest frames) and how many to
/// allocate at the start: every link full of the shortest full frames of any class or stream, and some to wait in buffers.
pub fn pool_frames(fabric: &Fabric, hosts: &[HostConfig], classes: &[ClassConfig]) -> (usize, usize) {
    let buffers: usize = fabric.switches.iter().map(buffer_frames_max).sum();
    let links: usize = fabric.links.iter().map(|l| frames_on_link(&l.timing)).sum();
    let all = buffers + links + 4 * hosts.len() + 64;
    let streams = hosts.iter().flat_map(|h| &h.streams).flat_map(|s| &s.sizes).map(|(bytes, _)| *bytes);
    let shortest = FrameLen(classes.iter().map(|c| c.mtu).chain(streams).min().unwrap_or(0).max(60));
    let usual = |l: &Link| (l.timing.propagation().0 / l.timing.wire_time(shortest).0.max(1)) as usize + 4;
    let ready: usize = fabric.links.iter().map(usual).sum();
    (all, all.min(ready + READY_FRAMES))
}

/// What the recorder of a run must have room for.
pub fn recorder_config(
    ports: usize,
    classes: &[ClassConfig],
    workloads: &[WorkloadConfig],
    fabric: &Fabric,
    warmup: u32,
    repeats: u32,
) -> RecorderConfig {
    let per_iteration: u64 = workloads.iter().map(messages_per_iteration).sum();
    let queue = |s: &SwitchConfig, class: u8| 1u8 << s.maps.queue_of(class);
    let tagged = |s: &SwitchConfig| {
        let used = classes.iter().filter(|c| c.vlan.is_some()).flat_map(ClassConfig::pcps);
        s.pcp_map.map_or(0, |map| used.fold(0, |bits, pcp| bits | queue(s, map[usize::from(pcp & 7)])))
    };
    let switches = fabric.switches.iter().map(|s| {
        let used = classes.iter().flat_map(|c| [c.dscp, c.ack_dscp, c.cnp_dscp]);
        SwitchShape {
            ports: s.ports.len() as u16,
            queues: used.fold(tagged(s), |bits, dscp| bits | queue(s, s.dscp_map[usize::from(dscp & 63)])),
            buffer_bytes: s.buffer.0,
        }
    });
    RecorderConfig {
        ports,
        classes: classes.len(),
        workloads: workloads.iter().map(WorkloadConfig::busy_ranks).collect(),
        warmup,
        repeats,
        messages: per_iteration.saturating_mul(repeats.into()),
        streams: 0,
        switches: switches.collect(),
        rates: None,
    }
}

/// Streams of a run, bursts of the timeline included.
pub fn streams(hosts: &[HostConfig]) -> usize {
    hosts.iter().map(|h| h.stream_to.len()).sum()
}

/// The arithmetic.
pub(super) fn predict(b: &Basis<'_>) -> MemoryPrediction {
    let (qps, ranks) = (b.hosts.iter().map(|h| h.qps.len() as u64).sum::<u64>(), b.ranks.len() as u64);
    let bytes_per_qp = Host::bytes_per_qp();
    let bytes_per_rank = Host::bytes_per_rank() + size_of::<RankAddr>() as u64;
    // The plan keeps its own list of connections.
    let queue_pairs_bytes = qps * (bytes_per_qp + size_of::<QpConfig>() as u64) + reordering(b);
    let per_port = Host::bytes_per_port() + size_of::<HostConfig>() as u64 + REPORT_PORT_BYTES;
    let ranks_bytes = ranks * bytes_per_rank + b.hosts.len() as u64 * per_port;
    let warmup = b.iterations - b.repeats;
    let config = recorder_config(b.hosts.len(), b.classes, b.workloads, b.fabric, warmup, b.repeats);
    let config = RecorderConfig { streams: streams(b.hosts), ..config };
    let (recorder_bytes, flows_bytes) = Recorder::bytes_for(&config);
    let network_bytes = NetworkRecord::bytes_for(b.fabric.switches.iter().map(|s| s.ports.len() as u16));
    let (frames_max, frames) = pool_frames(b.fabric, b.hosts, b.classes);
    let bytes_per_frame = boxed::BYTES_PER_FRAME as u64;
    let frames_bytes = frames as u64 * bytes_per_frame;
    let switches_bytes = switches(b.fabric);
    let schedule_bytes = schedules(b);
    let share = (qps * bytes_per_qp).checked_div(ranks).unwrap_or(0);
    MemoryPrediction {
        bytes_per_qp,
        bytes_per_rank: bytes_per_rank + share,
        bytes_per_frame,
        frames: frames as u64,
        frames_max: frames_max as u64,
        queue_pairs_bytes,
        ranks_bytes,
        recorder_bytes,
        network_bytes,
        flows_bytes,
        frames_bytes,
        switches_bytes,
        schedule_bytes,
        program_bytes: PROGRAM_BYTES,
        ports_bytes: 0,
        peak_bytes: queue_pairs_bytes
            + ranks_bytes
            + recorder_bytes
            + network_bytes
            + flows_bytes
            + frames_bytes
            + switches_bytes
            + schedule_bytes
            + PROGRAM_BYTES,
    }
}

/// What `plan` takes on real ports: no simulated frames and nothing of switches but their share of the plan; instead the
/// pools and rings of every queue, a recorder for each worker, and DPDK. Workers that the profile leaves open are counted
/// as one per queue; a machine with fewer cores has fewer.
pub fn on_ports(plan: &Plan) -> MemoryPrediction {
    let m = plan.predicted.memory;
    let queues: usize = (0..plan.hosts.len()).map(|i| usize::from(plan.lab.queues(i))).sum();
    let workers = plan.lab.workers.map_or(queues, |w| usize::from(w).min(queues)).max(1) as u64;
    let recorder_bytes = m.recorder_bytes * workers + workers * WORKER_BYTES;
    let ports_bytes = Pools::of(plan).memory_bytes() + queues as u64 * PORT_QUEUE_BYTES;
    let program_bytes = PROGRAM_DPDK_BYTES;
    MemoryPrediction {
        frames: 0,
        frames_max: 0,
        frames_bytes: 0,
        network_bytes: 0,
        recorder_bytes,
        ports_bytes,
        program_bytes,
        peak_bytes: m.queue_pairs_bytes
            + m.ranks_bytes
            + recorder_bytes
            + m.flows_bytes
            + m.switches_bytes
            + m.schedule_bytes
            + ports_bytes
            + program_bytes,
        ..m
    }
}

/// Switches as the plan and the engine have them, their links, counters (three times: as they count, as they stood when the
/// measurement began, and what is between), and routes: a list per endpoint in the plan, a row in the switch.
fn switches(fabric: &Fabric) -> u64 {
    let ports: u64 = fabric.switches.iter().map(|s| s.ports.len() as u64).sum();
    // A name is a string of its own.
    let config = 2 * (size_of::<SwitchPortConfig>() as u64 + 32);
    let per_port = PRIORITIES as u64 * QUEUE_BYTES
        + config
        + 3 * size_of::<SwitchPortStats>() as u64
        + REPORT_PORT_BYTES;
    let routes = fabric.switches.len() as u64 * u64::from(fabric.endpoints);
    let per_route = size_of::<std::sync::Arc<[u16]>>() as u64 + ROUTE_ROW_BYTES;
    let rings: usize = fabric.links.iter().map(|l| frames_on_link(&l.timing).min(RING_FRAMES)).sum();
    let links = fabric.links.len() as u64 * (size_of::<Link>() as u64 + LINK_BYTES);
    ports * per_port + routes * per_route + links + rings as u64 * RING_ENTRY_BYTES
}

/// Bitmaps of queue pairs with selective repeat.
fn reordering(b: &Basis<'_>) -> u64 {
    let selective = |w: u16| {
        b.workloads
            .get(usize::from(w))
            .is_some_and(|w| w.rc.retransmission == Retransmission::SelectiveRepeat)
    };
    let qps = b.hosts.iter().flat_map(|h| &h.qps).filter(|q| selective(q.workload)).count() as u64;
    qps * reorder::BYTES_PER_QP as u64
}

/// Captured programs; generated ones are streams and take nothing that grows.
fn schedules(b: &Basis<'_>) -> u64 {
    let ops = |w: &WorkloadConfig| match &w.kind {
        WorkloadKind::Replay(schedule) => schedule.ranks.iter().map(|r| r.len() as u64).sum(),
        WorkloadKind::Incast { .. } | WorkloadKind::RingAllReduce { .. } => 0u64,
    };
    b.workloads.iter().map(ops).sum::<u64>() * (size_of::<Op>() as u64 + REPLAY_OP_BYTES)
}
