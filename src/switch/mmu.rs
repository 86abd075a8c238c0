//! Buffer accounting of a shared-memory switch: who may take a cell, who is told to stop, who may go on.
//!
//! Every frame is charged to the priority group (ingress port, priority) it came in by, first to the group's reserved
//! cells, then to the shared pool up to the dynamic threshold `alpha x (shared size - shared used)` (Choudhury and
//! Hahne, "Dynamic queue length thresholds", 1998), then, for lossless groups, to its headroom, and after that it is
//! lost. A frame is admitted to the shared pool only if all of it fits under the threshold. Cells go back in the
//! reverse order: headroom first, then shared, then reserved, as in SAI and in the HPCC switch.
//!
//! - **XOFF** when the group's use has reached `reserved + threshold`, so that the next cell would have to go to
//!   headroom; looked at when a frame of the group is admitted. This reproduces the vendor's lists for Tomahawk 5 cell
//!   by cell.
//! - **XON** when headroom is empty and shared use is `xon_offset` below the threshold, or zero. Looked at when a frame
//!   of the group leaves. The threshold of a group also grows when others leave; hardware does not recompute thousands
//!   of groups per cell, and neither do we: such a group is looked at when its XOFF would have to be refreshed. A group
//!   cannot be forgotten: when its last frame leaves, its shared use is zero.
//! - **Lossy** groups are dropped over the threshold; so are frames whose egress queue is over its own limit
//!   (`egress_alpha`). Reserved cells are a guarantee: both limits bind only frames that need shared cells.
//!
//! All arithmetic is on whole cells; thresholds are compared as products, never divided.

use super::config::{BufferCells, ConfigError, FCS_BYTES, PriorityConfig, SwitchConfig};
use crate::limits::PRIORITIES;
use crate::measure::record::DropReason;
use crate::units::{FRAME_LEN_MIN, FrameLen};

/// `alpha` of a dynamic threshold.
#[derive(Clone, Copy, Debug)]
struct Alpha {
    num: u64,
    den: u64,
}

impl Alpha {
    fn new((num, den): (u32, u32)) -> Alpha {
        Alpha { num: u64::from(num), den: u64::from(den) }
    }
    /// True when `used` cells are within alpha x `free`.
    #[inline]
    fn allows(self, used: u32, free: u32) -> bool {
        u64::from(used) * self.den <= u64::from(free) * self.num
    }
}

/// Limits of every priority group of one priority, in cells.
#[derive(Clone, Copy, Debug)]
struct Limits {
    lossless: bool,
    alpha: Alpha,
    egress_alpha: Alpha,
    reserved: u32,
    headroom: u32,
    xon_offset: u32,
}

impl Limits {
    fn new(p: &PriorityConfig, cell: u64) -> Limits {
        // Fits: `validate` keeps the sums below 2^31; the offset is only ever compared.
        let cells = |bytes: u64| u32::try_from(bytes.div_ceil(cell)).unwrap_or(u32::MAX >> 1);
        Limits {
            lossless: p.lossless,
            alpha: Alpha::new(p.alpha),
            egress_alpha: Alpha::new(p.egress_alpha.unwrap_or(p.alpha)),
            reserved: cells(p.reserved.0),
            headroom: cells(p.headroom().0),
            xon_offset: cells(p.xon_offset.0).min(u32::MAX >> 1),
        }
    }
}

/// Cells of one priority group.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Reserved and shared cells; reserved ones are used first.
    used: u32,
    /// Headroom cells.
    headroom: u32,
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
    /// Headroom of one priority group.
    pub headroom: u32,
    /// Shared cells of one priority group.
    pub group: u32,
}

/// How a frame was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The group has just gone from XON to XOFF.
    pub xoff: bool,
    /// The frame is held in headroom.
    pub in_headroom: bool,
    /// The frame fits the reserved cells.
    pub in_reserved: bool,
    /// A peak has moved.
    pub peak: bool,
}

/// The memory management unit of one switch. Groups are numbered `port * 8 + priority`.
#[derive(Debug)]
pub struct Mmu {
    groups: Vec<Group>,
    limits: [Limits; PRIORITIES],
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
        let BufferCells { shared, .. } = config.validate()?;
        let cell = u64::from(config.cell);
        Ok(Mmu {
            groups: vec![Group::default(); config.ports.len() * PRIORITIES],
            limits: std::array::from_fn(|p| Limits::new(&config.priorities[p], cell)),
            shared_size: u32::try_from(shared).unwrap_or(u32::MAX),
            shared_used: 0,
            headroom_used: 0,
            total_used: 0,
            cell: u32::from(config.cell),
            cell_inverse: (1u64 << 40).div_ceil(cell),
            frame_len_min: FRAME_LEN_MIN,
            peaks: Peaks::default(),
        })
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

    /// Charges a frame of `cells` to `group`; `queue_cells` is what its egress queue holds already.
    ///
    /// # Errors
    /// [`DropReason::Threshold`] or [`DropReason::Buffer`] for lossy, [`DropReason::Headroom`] for lossless groups.
    #[inline]
    pub fn admit(&mut self, group: usize, cells: u16, queue_cells: u32) -> Result<Admitted, DropReason> {
        let limits = &self.limits[group % PRIORITIES];
        let g = &mut self.groups[group];
        let cells = u32::from(cells);
        let free = self.shared_size - self.shared_used;
        let shared_after = (g.used + cells).saturating_sub(limits.reserved);
        let take = shared_after - g.used.saturating_sub(limits.reserved);
        let in_reserved = take == 0;
        let fits = in_reserved || (take <= free && limits.alpha.allows(shared_after, free));
        let mut admitted = Admitted { xoff: false, in_headroom: false, in_reserved, peak: false };
        if limits.lossless {
            let reached = if fits {
                g.used += cells;
                self.shared_used += take;
                g.used >= limits.reserved && !limits.alpha.allows(shared_after + 1, free - take)
            } else if g.headroom + cells <= limits.headroom {
                g.headroom += cells;
                self.headroom_used += cells;
                admitted.in_headroom = true;
                true
            } else {
                return Err(DropReason::Headroom);
            };
            admitted.xoff = reached && !g.xoff;
            g.xoff |= reached;
        } else {
            if !fits || !(in_reserved || limits.egress_alpha.allows(queue_cells + cells, free)) {
                return Err(if take > free { DropReason::Buffer } else { DropReason::Threshold });
            }
            g.used += cells;
            self.shared_used += take;
        }
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
            admitted.peak = true;
        }
        Ok(admitted)
    }

    /// Gives the cells of a leaving frame back. True when the group has just gone from XOFF to XON.
    #[inline]
    pub fn release(&mut self, group: usize, cells: u16) -> bool {
        let g = &mut self.groups[group];
        let cells = u32::from(cells);
        let from_headroom = g.headroom.min(cells);
        let rest = cells - from_headroom;
        let from_shared = g.used.saturating_sub(self.limits[group % PRIORITIES].reserved).min(rest);
        g.headroom -= from_headroom;
        g.used -= rest;
        self.headroom_used -= from_headroom;
        self.shared_used -= from_shared;
        self.total_used -= cells;
        g.xoff && self.try_xon(group)
    }

    /// Looks whether a group in XOFF may go on under the threshold of this moment; true when it has just changed.
    #[inline]
    pub fn try_xon(&mut self, group: usize) -> bool {
        let limits = &self.limits[group % PRIORITIES];
        let free = self.shared_size - self.shared_used;
        let g = &mut self.groups[group];
        let shared = g.used.saturating_sub(limits.reserved);
        let go = g.xoff
            && g.headroom == 0
            && (shared == 0 || limits.alpha.allows(shared + limits.xon_offset, free));
        g.xoff &= !go;
        go
    }

    /// True while the group is in XOFF.
    #[inline]
    pub fn is_xoff(&self, group: usize) -> bool {
        self.groups[group].xoff
    }
    /// True when frames of this priority are never to be lost.
    #[inline]
    pub fn is_lossless(&self, priority: u8) -> bool {
        self.limits[usize::from(priority) % PRIORITIES].lossless
    }
    /// Size of the shared pool, cells.
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
    /// Cells of one group: (reserved and shared, headroom).
    pub fn group_used(&self, group: usize) -> (u32, u32) {
        (self.groups[group].used, self.groups[group].headroom)
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
        for (i, g) in self.groups.iter().enumerate() {
            p.headroom = p.headroom.max(g.headroom);
            p.group = p.group.max(g.used.saturating_sub(self.limits[i % PRIORITIES].reserved));
        }
        self.peaks = p;
    }
}
