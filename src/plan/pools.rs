//! What a run on real ports holds for frames, port by port and queue by queue: pools of mbufs and rings.
//!
//! One arithmetic for two readers: the run makes pools of these sizes, and `check` says what they take. Bytes are those of
//! ordinary pages; huge pages waste less (some per cent).

use super::Plan;
use super::device::{DeviceKind, DeviceSpec};
use crate::frame::FrameMeta;
use crate::limits::BURST;
use crate::wire::HEAD_MAX;
use crate::workload::config::{Action, WorkloadKind};
use crate::workload::schedule::OpKind;

/// Descriptors per ring asked for; the device may want fewer or more.
pub const DESCRIPTORS: u16 = 1_024;
/// Frames a `loop:` cable holds in each direction.
pub const LOOP_FRAMES: u32 = 1_024;
/// Receive buffers of a queue: its ring, and bursts on their way. AF_XDP keeps two rings more.
const RX_FRAMES: u32 = 4_095;
/// Buffers of a queue whose ring may be longer.
const RX_FRAMES_LONG: u32 = 8_191;
/// Buffers of a queue that hands on those of its far end.
const RX_FRAMES_RINGS: u32 = 511;
/// Frames each queue may hold of each kind besides its device: shelves of two lenders, batches, answers.
const FRAMES_AT_HAND: u32 = 4 * BURST as u32 + 256;

/// Frames a worker's cache in front of a pool aims at: devices give frames back one by one, and the pool itself is shared.
const CACHE: u32 = 256;
/// Pools smaller than this have no caches: those would hold most of it.
const CACHED_FRAMES_MIN: u32 = 8 * CACHE;
/// The same for pools of receive buffers.
const CACHED_RX_FRAMES_MIN: u32 = 600;

/// A pool: so many frames of at most so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Mbufs.
    pub frames: u32,
    /// Longest frame in bytes, without FCS.
    pub frame_bytes_max: u16,
    /// Mbufs each worker may keep in front of the pool.
    pub cache: u32,
}

/// All pools of a run on real ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    /// Frames without payload on their way out, of all ports.
    pub control: PoolSize,
    /// Data frames on their way out, of all ports.
    pub data: PoolSize,
    /// Buffers to receive into, by port: those of all its queues.
    pub rx: Vec<PoolSize>,
    /// Rings of cables between ports of the run.
    pub rings_bytes: u64,
    /// Buffers of frames to be sent may lie where they like ([`PoolSize::memory_bytes`]).
    pub packed: bool,
}

impl PoolSize {
    /// Data bytes of each mbuf: the frame, and at least the head that hosts and switches may write.
    pub fn data_bytes(&self) -> usize {
        usize::from(self.frame_bytes_max).next_multiple_of(64).max(ROOM_BYTES_MIN)
    }

    /// Memory of the pool in bytes; slightly more than it will be. Packed: no object cares for the borders of pages.
    pub fn memory_bytes(&self, packed: bool) -> u64 {
        // Per object: its header in the pool, the mbuf, the spread over memory channels, its slot in the
        // pool's ring of a power of two. Then caches, two lists of pointers for each thread that EAL knows.
        let object = (64 + DATA_AT + self.data_bytes() + 64) as u64;
        let object = if packed { object } else { in_pages(object) } + 16;
        let caches = if self.cache == 0 { 0 } else { 128 * (CACHE_MAX * 2 * 8 + 64) };
        u64::from(self.frames) * object + caches + (64 << 10)
    }
}

/// Room of a buffer at least, however short its frames.
pub const ROOM_BYTES_MIN: usize = 256;
/// Where the data of a buffer starts: behind the mbuf, what travels with the frame, and DPDK's headroom.
pub const DATA_AT: usize = 128 + size_of::<FrameMeta>() + 128;
/// Largest cache a pool keeps per thread (`RTE_MEMPOOL_CACHE_MAX_SIZE`).
const CACHE_MAX: u64 = 512;

/// Bytes an object takes of ordinary pages, on average: DPDK lets none cross a page border, and one that is longer than
/// a page takes whole ones (`rte_mempool_op_calc_mem_size_helper`). Huge pages waste nothing to speak of.
fn in_pages(object: u64) -> u64 {
    const PAGE: u64 = 4_096;
    match PAGE / object.max(1) {
        0 => object.next_multiple_of(PAGE),
        fit => PAGE.div_ceil(fit),
    }
}

/// Bytes of a ring for so many pointers (`rte_ring_get_memsize`).
pub fn ring_bytes(frames: u32) -> u64 {
    (u64::from(frames) + 1).next_power_of_two() * 8 + 1_024
}

/// Buffers that a device with so many queues receives into, each with room for `room` bytes.
pub fn rx_pool(device: &DeviceSpec, queues: u16, room: u16) -> PoolSize {
    let frames = match device.driver() {
        "pci" | "net_af_xdp" => RX_FRAMES_LONG,
        "loop" | "net_ring" => RX_FRAMES_RINGS,
        _ => RX_FRAMES,
    };
    // One less than a power of two wastes no memory.
    let frames = (frames + 1) * u32::from(queues) - 1;
    let cache = if frames > CACHED_RX_FRAMES_MIN { CACHE } else { 0 };
    PoolSize { frames, frame_bytes_max: room, cache }
}

/// Frames that a port may have on their way out: in its rings, and at hand.
fn tx_frames(queues: u16) -> u32 {
    (u32::from(DESCRIPTORS) + LOOP_FRAMES + FRAMES_AT_HAND + 2 * CACHE) * u32::from(queues)
}

impl Pools {
    /// Those of a plan whose ports all have a device.
    pub fn of(plan: &Plan) -> Pools {
        let longest = frame_bytes_max(plan);
        let devices: Vec<(&DeviceSpec, u16)> =
            plan.lab.ports.iter().filter_map(|p| Some((p.device.as_ref()?, p.queues.max(1)))).collect();
        let most: u32 = devices.iter().map(|(_, queues)| tx_frames(*queues)).sum();
        let frames = plan.lab.pool_frames.unwrap_or(most);
        let cache = if frames < CACHED_FRAMES_MIN { 0 } else { CACHE };
        let rx = |(device, queues): &(&DeviceSpec, u16)| {
            // A device that cannot carry the frames is refused when it is opened.
            let room = device.arguments(u32::from(longest), *queues).map_or(longest, |(_, room)| room);
            rx_pool(device, *queues, room)
        };
        let own_memory = |(d, _): &(&DeviceSpec, u16)| d.kind != DeviceKind::Pci && !d.shares_memory();
        let cables = devices.iter().filter(|(d, _)| d.kind == DeviceKind::Loop);
        Pools {
            control: PoolSize { frames, frame_bytes_max: HEAD_MAX as u16, cache },
            data: PoolSize { frames, frame_bytes_max: longest, cache },
            rx: devices.iter().map(rx).collect(),
            rings_bytes: cables.map(|(_, queues)| u64::from(*queues) * ring_bytes(LOOP_FRAMES)).sum(),
            packed: devices.iter().all(own_memory),
        }
    }

    /// Memory of all of them in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let rx: u64 = self.rx.iter().map(|p| p.memory_bytes(false)).sum();
        self.control.memory_bytes(self.packed) + self.data.memory_bytes(self.packed) + rx + self.rings_bytes
    }
}

/// Longest frame of the plan without FCS.
pub fn frame_bytes_max(plan: &Plan) -> u16 {
    let (_, longest, _) = data_frame_bytes(plan);
    // What a schedule says of sizes is with room for every header.
    longest.max(HEAD_MAX as u64) as u16
}

/// Data frames of a plan, in bytes with FCS where it matters for cells: the smallest full one, the longest (without
/// FCS), and whether messages end in shorter ones.
pub fn data_frame_bytes(plan: &Plan) -> (u64, u64, bool) {
    let overhead = HEAD_MAX as u64 + 8;
    let (mut smallest, mut longest, mut tails) = (u64::MAX, 128, false);
    let mut message = |bytes: u64, mtu: u64| {
        smallest = smallest.min(bytes.min(mtu) + 58 + 4);
        longest = longest.max(mtu + overhead);
        tails |= !bytes.is_multiple_of(mtu);
    };
    for w in plan.workloads.iter() {
        let mtu = u64::from(plan.classes[usize::from(w.class.0)].mtu);
        match &w.kind {
            WorkloadKind::Incast { message: m } => message(m.0, mtu),
            WorkloadKind::RingAllReduce { vector, chunk, .. } => {
                let part = vector.0 / w.ranks.len().max(1) as u64;
                message(part.min(chunk.0), mtu);
                message(part % chunk.0.max(1) + mtu, mtu);
            }
            WorkloadKind::Replay(schedule) => {
                for op in schedule.ranks.iter().flatten() {
                    if let OpKind::Send { bytes, .. } | OpKind::Read { bytes, .. } = op.kind {
                        message(bytes, mtu);
                    }
                }
            }
        }
    }
    let bursts = plan.hosts.iter().flat_map(|h| &h.actions).filter_map(|a| match &a.action {
        Action::Burst(s) => Some(s),
        _ => None,
    });
    for s in plan.hosts.iter().flat_map(|h| &h.streams).chain(bursts) {
        for (bytes, _) in &s.sizes {
            smallest = smallest.min(u64::from(*bytes));
            longest = longest.max(u64::from(*bytes));
        }
    }
    (smallest.clamp(64, 16_384), longest.min(16_384), tails)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_in_whole_pages() {
        // One to a page, two to a page, two pages each.
        assert_eq!([2_600, 1_500, 4_600].map(in_pages), [4_096, 2_048, 8_192]);
        assert_eq!(in_pages(448), 456);
    }

    #[test]
    fn every_queue_has_buffers_of_its_own() {
        let frames =
            |text: &str, queues| rx_pool(&DeviceSpec::parse(text).expect(text), queues, 1_518).frames;
        assert_eq!(["eth1", "0000:3b:00.0", "loop:a"].map(|d| frames(d, 1)), [4_095, 8_191, 511]);
        assert_eq!(["eth1", "0000:3b:00.0", "loop:a"].map(|d| frames(d, 4)), [16_383, 32_767, 2_047]);
        assert_eq!(tx_frames(4), 4 * tx_frames(1));
    }
}
