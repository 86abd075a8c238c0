//! Frames of virtual time: recycled cells of 192 bytes.
//!
//! The meta is the first cache line. Ethernet starts at offset 2 of the second, so that IPv4, UDP, BTH and AETH end
//! inside it; only RETH, IPv6 and the like reach the third.
//!
//! Cells come in tables that lie in huge pages where the kernel gives them: frames of full buffers are met in no order,
//! and each would miss the TLB besides the caches. A pool that is dropped leaves its cells to later pools of the process;
//! memory never goes back to the system before the process ends, and there are never more cells than pools of one time
//! held together.

use std::sync::{Mutex, PoisonError};

use super::{Fill, Frame, FrameMeta, FramePool, HEAD_MAX, Payload};
use crate::hint;
use crate::units::FrameLen;

#[repr(C, align(64))]
#[derive(Debug)]
struct Cell {
    meta: FrameMeta,
    align: [u8; 2],
    head: [u8; HEAD_MAX],
}

const _: () = assert!(size_of::<Cell>() == 192);

/// Cells of pools that are no more.
static SPARE: Mutex<Vec<BoxFrame>> = Mutex::new(Vec::new());

/// Most cells that a pool takes at once when it has run short: 6 MiB.
const GROW_MAX: usize = 1 << 15;

/// A frame in a recycled cell. Dropping it instead of giving it back to its pool loses the cell and shows in
/// [`BoxPool::in_use`].
#[derive(Debug)]
pub struct BoxFrame(&'static mut Cell);

/// Bytes of memory behind one simulated frame in flight.
pub const BYTES_PER_FRAME: usize = size_of::<Cell>() + size_of::<BoxFrame>();

impl Frame for BoxFrame {
    #[inline]
    fn head(&self) -> &[u8; HEAD_MAX] {
        &self.0.head
    }
    #[inline]
    fn head_mut(&mut self) -> &mut [u8; HEAD_MAX] {
        &mut self.0.head
    }
    #[inline]
    fn meta(&self) -> &FrameMeta {
        &self.0.meta
    }
    #[inline]
    fn meta_mut(&mut self) -> &mut FrameMeta {
        &mut self.0.meta
    }
    fn payload(&self) -> Payload<'_> {
        let m = &self.0.meta;
        match m.fill {
            Fill::Control => Payload::Bytes(&[]),
            Fill::Const | Fill::Writable => {
                Payload::Const { len: m.len.0.saturating_sub(u16::from(m.head_len) + 4) }
            }
        }
    }
}

/// The free list of [`BoxFrame`]s: given back last, lent first.
#[derive(Debug)]
pub struct BoxPool {
    free: Vec<BoxFrame>,
    /// Cells taken over, free and lent.
    cells: usize,
    lent: usize,
    lent_max: usize,
    limit: usize,
}

impl BoxPool {
    /// A pool that lends at most `limit` frames at a time; the first `ready` of them are allocated now.
    pub fn new(ready: usize, limit: usize) -> BoxPool {
        let free = Vec::with_capacity(limit.min(1 << 24));
        let mut pool = BoxPool { free, cells: 0, lent: 0, lent_max: 0, limit };
        pool.grow(ready.min(limit));
        pool
    }

    /// Takes over `cells` more: what other pools have left, and for the rest new ones.
    fn grow(&mut self, cells: usize) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = spare.len().saturating_sub(cells);
        self.free.extend(spare.drain(kept..));
        drop(spare);
        let missing = cells.saturating_sub(self.free.len());
        let mut table: Vec<Cell> = hint::table(missing);
        table.resize_with(missing, Cell::default);
        self.free.extend(table.leak().iter_mut().map(BoxFrame));
        self.cells += cells;
    }

    /// As many again as there are, within bounds. The pool has nothing left, and may lend more.
    #[cold]
    fn run_short(&mut self) {
        self.grow(self.cells.clamp(64, GROW_MAX).min(self.limit - self.cells));
    }

    /// Frames lent now; 0 at the end of a run that lost none.
    pub fn in_use(&self) -> usize {
        self.lent
    }
    /// Most frames lent at one time.
    pub fn in_use_max(&self) -> usize {
        self.lent_max
    }
}

impl Default for Cell {
    fn default() -> Cell {
        Cell { meta: FrameMeta::default(), align: [0; 2], head: [0; HEAD_MAX] }
    }
}

impl Drop for BoxPool {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        spare.append(&mut self.free);
    }
}

impl FramePool for BoxPool {
    type Frame = BoxFrame;

    #[inline]
    fn take(&mut self, fill: Fill, len: FrameLen) -> Option<BoxFrame> {
        if self.lent >= self.limit {
            return None;
        }
        if self.free.is_empty() {
            self.run_short();
        }
        let f = self.free.pop()?;
        self.lent += 1;
        self.lent_max = self.lent_max.max(self.lent);
        f.0.meta = FrameMeta { fill, len, ..FrameMeta::default() };
        Some(f)
    }
    #[inline]
    fn upcoming(&self) -> Option<&BoxFrame> {
        // Two takes ahead: the next one may come at once.
        self.free.len().checked_sub(2).and_then(|at| self.free.get(at))
    }
    #[inline]
    fn give(&mut self, frame: BoxFrame) {
        self.lent -= 1;
        self.free.push(frame);
    }
    #[inline]
    fn seal(&mut self, _frame: &mut BoxFrame) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_lends_up_to_its_limit_and_each_cell_once() {
        let mut pool = BoxPool::new(3, 1_000);
        for _ in 0..2 {
            let mut lent: Vec<BoxFrame> =
                std::iter::from_fn(|| pool.take(Fill::Const, FrameLen(100))).collect();
            assert_eq!((lent.len(), pool.in_use(), pool.in_use_max()), (1_000, 1_000, 1_000));
            for (i, frame) in lent.iter_mut().enumerate() {
                assert_eq!(
                    (frame.len(), frame.meta().flow, frame.meta().fill),
                    (FrameLen(100), 0, Fill::Const)
                );
                frame.meta_mut().flow = i as u32 + 1;
                frame.head_mut()[HEAD_MAX - 1] = 7;
            }
            // A cell lent twice would have lost the number of its first frame.
            assert!(lent.iter().enumerate().all(|(i, frame)| frame.meta().flow == i as u32 + 1));
            lent.into_iter().for_each(|frame| pool.give(frame));
        }
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_pool_of_none_lends_none() {
        assert!(BoxPool::new(0, 0).take(Fill::Control, FrameLen(60)).is_none());
    }
}
