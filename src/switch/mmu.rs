//! Buffer accounting of a shared-memory switch: who may take a cell, who is told to stop, who may go on.
//!
//! Every frame is charged to the priority group (ingress port, priority) it came in by, first to the group's reserved
//! cells, then to its ingress pool up to the group's threshold, then, for lossless groups, to its headroom, and after
//! that it is lost. The threshold is dynamic, `alpha x (pool size - pool use)` (Choudhury and Hahne, "Dynamic queue
//! length thresholds", 1998), or static. A frame is admitted to the pool only if all of it fits under the threshold.
//! Cells go back in the reverse order: headroom first, then shared, then reserved, as in SAI and in the HPCC switch.
//!
//! - **XOFF** when the group's use has reached `reserved + threshold`, so that the next cell would have to go to
//!   headroom, or a frame has gone there; looked at when a frame of the group is admitted. This reproduces the
//!   vendor's lists for Tomahawk 5 cell by cell.
//! - **XON** when headroom is empty and shared use is `xon_offset` below the threshold, or no more than `xon`, or zero.
//!   Looked at when a frame of the group leaves. The threshold of a group also grows when others leave; hardware does
//!   not recompute thousands of groups per cell, and neither do we: such a group is looked at when its XOFF would have
//!   to be refreshed. A group cannot be forgotten: when its last frame leaves, its shared use is zero.
//! - **Headroom** of a group is its own, or bounded with that of others by the shared headroom pool of its ingress pool.
//! - **Lossy** groups are dropped over the threshold. So are frames whose egress queue is over its own limit, lossless
//!   ones included. Without egress pools that limit acts on the ingress pool, and reserved ingress cells are a guarantee:
//!   both limits bind only frames that need shared cells. With egress pools a queue holds its reserved cells first and
//!   then shared cells of its egress pool; a frame has to be admitted on both sides.
//!
//! Where the buffer is sliced ([`Slices`]) every slice has its part of the pools, and a group its own count, reserved cells
//! and headroom in each; its far end is told to stop when it is over the threshold in one, and to go on when it is so in none.
//!
//! Ports with equal settings share one row of limits, which each group names, so limits per port cost a frame nothing.
//! All arithmetic is on whole cells; thresholds are compared as products, never divided.

use super::config::{ConfigError, FCS_BYTES, Limit, PoolCells, PriorityConfig, Slices, SwitchConfig};
use crate::frame::flags;
use crate::hint::prefetch;
use crate::limits::PRIORITIES;
use crate::measure::record::DropReason;
use crate::units::{FRAME_LEN_MIN, FrameLen};

/// A limit of shared cells: `used x den <= free x num + plus`, which is dynamic with plus = 0, static with num = 0, and
/// never binds with all three zero.
#[derive(Clone, Copy, Debug)]
struct Threshold {
    num: u64,
    den: u64,
    plus: u64,
}

impl Threshold {
    fn new(limit: Limit, cell: u64) -> Threshold {
        match limit {
            Limit::Dynamic(num, den) => Threshold { num: u64::from(num), den: u64::from(den), plus: 0 },
            Limit::Static(bytes) => Threshold { num: 0, den: 1, plus: bytes.0 / cell },
            Limit::Pool => Threshold { num: 0, den: 0, plus: 0 },
        }
    }
    /// True when `used` cells are within the limit while `free` cells of the pool are free.
    #[inline]
    fn allows(self, used: u32, free: u32) -> bool {
        u64::from(used) * self.den <= u64::from(free) * self.num + self.plus
    }
}

/// Limits of the group and the queue of one number on the ports of one profile in one slice, in cells.
#[derive(Clone, Copy, Debug)]
struct Limits {
    shared: Threshold,
    egress: Threshold,
    reserved: u32,
    headroom: u32,
    xon_offset: u32,
    xon: u32,
    egress_reserved: u32,
    lossless: bool,
    pool: u8,
    egress_pool: u8,
}

impl Limits {
    /// `slice`: which of how many. `unlimited`: a queue without a limit of its own has none.
    fn new(p: &PriorityConfig, cell: u64, slice: (u8, u8), unlimited: bool) -> Limits {
        // Fits: `validate` keeps the sums below 2^31; offset and floor are only ever compared.
        let cells = |bytes: u64| u32::try_from(bytes.div_ceil(cell)).unwrap_or(u32::MAX >> 1);
        let own = if unlimited { Limit::Pool } else { p.limit };
        Limits {
            shared: Threshold::new(p.limit, cell),
            egress: Threshold::new(p.egress_limit.unwrap_or(own), cell),
            reserved: cells(p.reserved.0),
            headroom: cells(p.headroom().0),
            xon_offset: cells(p.xon_offset.0).min(u32::MAX >> 1),
            xon: u32::try_from(p.xon.0 / cell).unwrap_or(u32::MAX >> 1),
            egress_reserved: cells(p.egress_reserved.0),
            lossless: p.lossless,
            pool: p.pool * slice.1 + slice.0,
            egress_pool: p.egress_pool * slice.1 + slice.0,
        }
    }
}

/// The bits of a mask, lowest first.
fn bits_of(mask: u8) -> impl Iterator<Item = bool> {
    (0..PRIORITIES).map(move |bit| mask & 1 << bit != 0)
}

/// An ingress pool, in cells.
#[derive(Clone, Copy, Debug)]
struct Pool {
    size: u32,
    used: u32,
    /// Shared headroom; without a shared headroom pool nothing is counted and this is never reached.
    headroom_size: u32,
    headroom_used: u32,
}

impl Pool {
    fn new(p: PoolCells) -> Pool {
        let cells = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let headroom_size = p.headroom.map_or(u32::MAX, cells);
        Pool { size: cells(p.shared), used: 0, headroom_size, headroom_used: 0 }
    }
}

/// An egress pool, in cells.
#[derive(Clone, Copy, Debug)]
struct Shared {
    size: u32,
    used: u32,
}

/// Cells of one priority group.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Reserved and shared cells; reserved ones are used first.
    used: u32,
    /// Headroom cells.
    headroom: u32,
    /// Its row of limits.
    limits: u16,
    /// Told (or about to be told) to stop.
    xoff: bool,
}

/// Highest use since the last mark, in cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Whole buffer.
    pub buffer: u32,
    /// Shared pool.
    pub shared: u32,
    /// Headroom of one priority group, in one slice.
    pub headroom: u32,
    /// Shared cells of one priority group, in one slice.
    pub group: u32,
}

/// How a frame was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The group has just gone from XON to XOFF.
    pub xoff: bool,
    /// Where the frame is held: [`flags::IN_HEADROOM`], [`flags::IN_RESERVED`], or neither.
    pub flags: u8,
}

/// What a buffer in slices needs beside.
#[derive(Debug)]
struct Sliced {
    slices: Slices,
    /// log2 of their number.
    bits: u32,
    /// Pipe of every port.
    pipes: Vec<u8>,
    /// Cells of every queue, by place.
    queued: Vec<u32>,
}

impl Sliced {
    /// The slice of a place.
    fn of(&self, place: usize) -> usize {
        place & ((1 << self.bits) - 1)
    }
}

/// The memory management unit of one switch. A group or queue is known by its slot, `port * 8 + number`; where the buffer
/// is sliced it has a place in every slice, [`Mmu::place`].
#[derive(Debug)]
pub struct Mmu {
    groups: Vec<Group>,
    /// Rows by profile, number and slice.
    limits: Vec<Limits>,
    /// By pool and slice.
    pools: Vec<Pool>,
    /// The same; empty without egress pools.
    egress_pools: Vec<Shared>,
    /// Numbers of queues that have a limit of their own, on any port, a bit each.
    egress_limited: u8,
    sliced: Option<Box<Sliced>>,
    shared_size: u32,
    shared_used: u32,
    headroom_used: u32,
    total_used: u32,
    cell: u32,
    /// ceil(2^40 / cell): division by the cell size as a multiplication, exact below 2^17.
    cell_inverse: u64,
    /// Shorter frames are padded to this.
    frame_len_min: u16,
    peaks: Peaks,
}

impl Mmu {
    /// An empty buffer.
    ///
    /// # Errors
    /// As [`SwitchConfig::validate`].
    pub fn new(config: &SwitchConfig) -> Result<Mmu, ConfigError> {
        let (cells, pools) = config.divide()?;
        let (cell, slices) = (u64::from(config.cell), config.slices.count());
        let egress = !config.egress_pools.is_empty();
        let rows = config.profiles.iter().flat_map(|p| &p.priorities);
        let limits: Vec<Limits> = rows
            .zip(config.profiles.iter().flat_map(|p| bits_of(config.maps.lossless_queues(p))))
            .flat_map(|(p, kept)| {
                (0..slices).map(move |s| Limits::new(p, cell, (s as u8, slices as u8), egress || kept))
            })
            .collect();
        let place = |place: usize| {
            let (slot, slice) = (place / slices, place % slices);
            let profile = usize::from(config.ports[slot / PRIORITIES].profile);
            let row = profile * PRIORITIES + slot % PRIORITIES;
            Group { limits: (row * slices + slice) as u16, ..Group::default() }
        };
        let places = config.ports.len() * PRIORITIES * slices;
        let limited = limits.iter().enumerate().filter(|(_, l)| l.egress.den > 0 || egress);
        let egress_limited = limited.fold(0, |mask, (row, _)| mask | 1 << (row / slices % PRIORITIES));
        let shared = |size: u64| Shared { size: u32::try_from(size).unwrap_or(u32::MAX), used: 0 };
        let sliced = (slices > 1).then(|| {
            Box::new(Sliced {
                slices: config.slices,
                bits: config.slices.bits(),
                pipes: config.ports.iter().map(|p| p.pipe).collect(),
                queued: vec![0; places],
            })
        });
        Ok(Mmu {
            groups: (0..places).map(place).collect(),
            limits,
            pools: pools.into_iter().map(Pool::new).collect(),
            egress_pools: config.egress_cells()?.into_iter().map(shared).collect(),
            egress_limited,
            sliced,
            shared_size: u32::try_from(cells.shared).unwrap_or(u32::MAX),
            shared_used: 0,
            headroom_used: 0,
            total_used: 0,
            cell: u32::from(config.cell),
            cell_inverse: (1u64 << 40).div_ceil(cell),
            frame_len_min: FRAME_LEN_MIN,
            peaks: Peaks::default(),
        })
    }

    /// Asks for the row of the group in a slot.
    #[inline]
    pub fn expect(&self, slot: usize) {
        prefetch(self.groups.as_ptr().wrapping_add(self.place(slot, 0)));
    }

    /// Places of a group and a queue, by their slots, for a frame from one to the other.
    #[inline]
    pub fn places(&self, group: usize, queue: usize) -> (usize, usize) {
        let Some(sliced) = &self.sliced else { return (group, queue) };
        let pipe = |slot: usize| sliced.pipes[slot / PRIORITIES];
        let slice = sliced.slices.of_pipes(pipe(group), pipe(queue));
        (self.place(group, slice), self.place(queue, slice))
    }
    /// Place of a slot in a slice.
    #[inline]
    fn place(&self, slot: usize, slice: usize) -> usize {
        self.sliced.as_ref().map_or(slot, |s| slot << s.bits | slice)
    }
    /// Slot of a place.
    #[inline]
    pub fn slot(&self, place: usize) -> usize {
        self.sliced.as_ref().map_or(place, |s| place >> s.bits)
    }
    /// Place of a queue in the slice in which this place of a group is.
    #[inline]
    pub fn beside(&self, queue: usize, place: usize) -> usize {
        self.sliced.as_ref().map_or(queue, |s| queue << s.bits | s.of(place))
    }
    /// Slices there are.
    fn count(&self) -> usize {
        self.sliced.as_ref().map_or(1, |s| 1 << s.bits)
    }
    /// Places of a slot in all slices.
    #[inline]
    fn all_places(&self, slot: usize) -> std::ops::Range<usize> {
        self.place(slot, 0)..self.place(slot + 1, 0)
    }

    /// Bytes of a frame in buffers and counters: with padding and FCS.
    #[inline]
    pub fn frame_bytes(&self, len: FrameLen) -> u32 {
        u32::from(len.0.max(self.frame_len_min)) + u32::from(FCS_BYTES)
    }

    /// Pads frames to another length than Ethernet's.
    pub fn set_frame_len_min(&mut self, bytes: u16) {
        self.frame_len_min = bytes;
    }

    /// Cells that a frame of `len` holds: its bytes with FCS, rounded up.
    #[inline]
    pub fn cells(&self, len: FrameLen) -> u16 {
        let bytes = u64::from(self.frame_bytes(len));
        let cells = ((bytes + u64::from(self.cell) - 1) * self.cell_inverse) >> 40;
        cells.min(u64::from(u16::MAX)) as u16
    }

    /// Charges a frame of `cells` to `group` and, with egress pools, to `queue`, which holds `queue_cells` already; both by
    /// place.
    ///
    /// # Errors
    /// [`DropReason::Threshold`] or [`DropReason::Buffer`], for lossless groups also [`DropReason::Headroom`].
    #[inline(always)]
    pub fn admit(
        &mut self,
        group: usize,
        cells: u16,
        queue: usize,
        queue_cells: u32,
    ) -> Result<Admitted, DropReason> {
        let limited = self.egress_limited & (1 << (self.slot(queue) % PRIORITIES)) != 0;
        // Of a sliced buffer only what the queue holds in this slice counts.
        let queue_cells = self.sliced.as_ref().map_or(queue_cells, |s| s.queued[queue]);
        let queue_row = if limited { self.groups[queue].limits } else { 0 };
        let g = &mut self.groups[group];
        let limits = &self.limits[usize::from(g.limits)];
        let pool = &mut self.pools[usize::from(limits.pool)];
        let (lossless, cells) = (limits.lossless, u32::from(cells));
        let free = pool.size - pool.used;
        let shared_after = (g.used + cells).saturating_sub(limits.reserved);
        let take = shared_after - g.used.saturating_sub(limits.reserved);
        let in_reserved = take == 0;
        let fits = in_reserved || (take <= free && limits.shared.allows(shared_after, free));
        if !lossless && !fits {
            return Err(if take > free { DropReason::Buffer } else { DropReason::Threshold });
        }
        let in_headroom = !fits;
        if in_headroom
            && (g.headroom + cells > limits.headroom || cells > pool.headroom_size - pool.headroom_used)
        {
            return Err(DropReason::Headroom);
        }
        if limited {
            let limits = &self.limits[usize::from(queue_row)];
            match self.egress_pools.get_mut(usize::from(limits.egress_pool)) {
                None if in_reserved || limits.egress.allows(queue_cells + cells, free) => {}
                None => return Err(if take > free { DropReason::Buffer } else { DropReason::Threshold }),
                Some(pool) => {
                    let (before, after) = (queue_cells, queue_cells + cells);
                    let over = |n: u32| n.saturating_sub(limits.egress_reserved);
                    let (take, free) = (over(after) - over(before), pool.size - pool.used);
                    if take > free {
                        return Err(DropReason::Buffer);
                    }
                    if take > 0 && !limits.egress.allows(over(after), free) {
                        return Err(DropReason::Threshold);
                    }
                    pool.used += take;
                }
            }
        }
        let place = match (in_headroom, in_reserved) {
            (true, _) => flags::IN_HEADROOM,
            (_, true) => flags::IN_RESERVED,
            _ => 0,
        };
        let reached = if in_headroom {
            g.headroom += cells;
            self.headroom_used += cells;
            if pool.headroom_size != u32::MAX {
                pool.headroom_used += cells;
            }
            true
        } else {
            g.used += cells;
            pool.used += take;
            self.shared_used += take;
            lossless && g.used >= limits.reserved && !limits.shared.allows(shared_after + 1, free - take)
        };
        let mut xoff = reached && !g.xoff;
        g.xoff |= reached;
        self.total_used += cells;
        let p = &mut self.peaks;
        if self.total_used > p.buffer
            || self.shared_used > p.shared
            || shared_after > p.group
            || g.headroom > p.headroom
        {
            p.buffer = p.buffer.max(self.total_used);
            p.shared = p.shared.max(self.shared_used);
            p.headroom = p.headroom.max(g.headroom);
            p.group = p.group.max(g.used.saturating_sub(limits.reserved));
        }
        if let Some(sliced) = &mut self.sliced {
            sliced.queued[queue] += cells;
            xoff = xoff && self.only_here(group);
        }
        Ok(Admitted { xoff, flags: place })
    }

    /// True when the group of this place is in XOFF in no other slice: the message is about all of them.
    fn only_here(&self, place: usize) -> bool {
        self.all_places(self.slot(place)).all(|p| p == place || !self.groups[p].xoff)
    }

    /// A frame for which there was no headroom has crossed the threshold of its group all the same; true when the group has
    /// just gone from XON to XOFF. An empty group has nothing whose leaving could let it go on.
    #[inline(never)]
    pub fn cross(&mut self, group: usize) -> bool {
        let g = &mut self.groups[group];
        let crossed = !g.xoff && g.used + g.headroom > 0;
        g.xoff |= crossed;
        crossed && self.only_here(group)
    }

    /// Gives the cells of a leaving frame back; `queue_cells` is what is left behind it in `queue`. True when the group
    /// has just gone from XOFF to XON, in all slices.
    #[inline(always)]
    pub fn release(&mut self, group: usize, cells: u16, queue: usize, queue_cells: u32) -> bool {
        let cells = u32::from(cells);
        let mut queue_cells = queue_cells;
        if let Some(sliced) = &mut self.sliced {
            sliced.queued[queue] -= cells;
            queue_cells = sliced.queued[queue];
        }
        if !self.egress_pools.is_empty() {
            self.release_egress(queue, cells, queue_cells);
        }
        let g = &mut self.groups[group];
        let limits = &self.limits[usize::from(g.limits)];
        let pool = &mut self.pools[usize::from(limits.pool)];
        let from_headroom = g.headroom.min(cells);
        let rest = cells - from_headroom;
        let from_shared = g.used.saturating_sub(limits.reserved).min(rest);
        g.headroom -= from_headroom;
        g.used -= rest;
        self.headroom_used -= from_headroom;
        if pool.headroom_size != u32::MAX {
            pool.headroom_used -= from_headroom;
        }
        pool.used -= from_shared;
        self.shared_used -= from_shared;
        self.total_used -= cells;
        g.xoff && self.try_xon_in(group)
    }

    #[inline(never)]
    fn release_egress(&mut self, queue: usize, cells: u32, left: u32) {
        let limits = &self.limits[usize::from(self.groups[queue].limits)];
        let over = |n: u32| n.saturating_sub(limits.egress_reserved);
        if let Some(pool) = self.egress_pools.get_mut(usize::from(limits.egress_pool)) {
            pool.used -= over(left + cells) - over(left);
        }
    }

    /// Looks whether the group of a slot may go on under the threshold of this moment; true when it has just changed.
    pub fn try_xon(&mut self, slot: usize) -> bool {
        let mut went_on = false;
        for place in self.all_places(slot) {
            went_on |= self.try_xon_in(place);
        }
        went_on
    }

    /// The same in one slice; true when the group has just gone to XON in all.
    #[inline(never)]
    fn try_xon_in(&mut self, group: usize) -> bool {
        let g = &mut self.groups[group];
        let limits = &self.limits[usize::from(g.limits)];
        let pool = &self.pools[usize::from(limits.pool)];
        let shared = g.used.saturating_sub(limits.reserved);
        let go = g.xoff
            && g.headroom == 0
            && (shared <= limits.xon
                || limits.shared.allows(shared + limits.xon_offset, pool.size - pool.used));
        g.xoff &= !go;
        go && self.only_here(group)
    }

    /// True while the group of a slot is in XOFF, in any slice.
    #[inline]
    pub fn is_xoff(&self, slot: usize) -> bool {
        self.groups[self.all_places(slot)].iter().any(|g| g.xoff)
    }
    /// True when frames of the group of a slot are never to be lost.
    #[inline]
    pub fn is_lossless(&self, slot: usize) -> bool {
        self.limits[usize::from(self.groups[self.place(slot, 0)].limits)].lossless
    }
    /// Cells of an ingress pool: (size, in use, shared headroom in use).
    pub fn pool_used(&self, pool: usize) -> (u32, u32, u32) {
        let parts = self.pools.iter().skip(self.place(pool, 0)).take(self.count());
        parts.fold((0, 0, 0), |all, p| (all.0 + p.size, all.1 + p.used, all.2 + p.headroom_used))
    }
    /// Shared cells of an egress pool: (size, in use).
    pub fn egress_pool_used(&self, pool: usize) -> (u32, u32) {
        let parts = self.egress_pools.iter().skip(self.place(pool, 0)).take(self.count());
        parts.fold((0, 0), |all, p| (all.0 + p.size, all.1 + p.used))
    }
    /// Size of all shared pools, cells.
    pub fn shared_size(&self) -> u32 {
        self.shared_size
    }
    /// Shared cells in use.
    pub fn shared_used(&self) -> u32 {
        self.shared_used
    }
    /// Headroom cells in use, all groups.
    pub fn headroom_used(&self) -> u32 {
        self.headroom_used
    }
    /// All cells in use.
    pub fn total_used(&self) -> u32 {
        self.total_used
    }
    /// Cells of the group of a slot: (reserved and shared, headroom).
    pub fn group_used(&self, slot: usize) -> (u32, u32) {
        let places = self.groups[self.all_places(slot)].iter();
        places.fold((0, 0), |all, g| (all.0 + g.used, all.1 + g.headroom))
    }
    /// What the shared cells of the group of a slot may come to while its pool is as it is, in all slices it may use.
    pub fn limit(&self, slot: usize) -> u64 {
        let mine = |place: &usize| {
            self.sliced
                .as_ref()
                .is_none_or(|s| s.slices.holds_ingress(s.of(*place), s.pipes[slot / PRIORITIES]))
        };
        self.all_places(slot).filter(mine).map(|place| self.limit_in(place)).sum()
    }

    fn limit_in(&self, place: usize) -> u64 {
        let limits = &self.limits[usize::from(self.groups[place].limits)];
        let pool = &self.pools[usize::from(limits.pool)];
        let Threshold { num, den, plus } = limits.shared;
        let product = u64::from(pool.size - pool.used) * num + plus;
        product.checked_div(den).unwrap_or(pool.size.into()).min(pool.size.into())
    }
    /// Highest use since the last mark.
    pub fn peaks(&self) -> Peaks {
        self.peaks
    }
    /// Cell size in bytes.
    pub fn cell(&self) -> u32 {
        self.cell
    }

    /// Starts the peaks again from what is in use now.
    pub fn mark(&mut self) {
        let mut p = Peaks { buffer: self.total_used, shared: self.shared_used, ..Peaks::default() };
        for g in &self.groups {
            let reserved = self.limits[usize::from(g.limits)].reserved;
            p.headroom = p.headroom.max(g.headroom);
            p.group = p.group.max(g.used.saturating_sub(reserved));
        }
        self.peaks = p;
    }
}
