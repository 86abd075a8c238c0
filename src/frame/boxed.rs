//! Frames of virtual time: recycled boxes of 192 bytes.
//!
//! Ethernet starts at offset 2, so that IPv4, UDP, BTH and AETH end inside the first cache line; only RETH, IPv6 and
//! the like reach the second; the meta is the third.

use super::{Fill, Frame, FrameMeta, FramePool, HEAD_MAX, Payload};
use crate::units::FrameLen;

#[repr(C, align(64))]
#[derive(Debug)]
struct Cell {
    align: [u8; 2],
    head: [u8; HEAD_MAX],
    meta: FrameMeta,
}

const _: () = assert!(size_of::<Cell>() == 192);

/// A frame in a recycled box. Dropping it instead of giving it back to its pool costs an allocation later and shows
/// in [`BoxPool::in_use`].
#[derive(Debug)]
pub struct BoxFrame(Box<Cell>);

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

/// The free list of [`BoxFrame`]s.
#[derive(Debug)]
pub struct BoxPool {
    free: Vec<BoxFrame>,
    lent: usize,
    lent_max: usize,
    limit: usize,
}

impl BoxPool {
    /// A pool that lends at most `limit` frames at a time; the first `ready` of them are allocated now.
    pub fn new(ready: usize, limit: usize) -> BoxPool {
        let mut free = Vec::with_capacity(limit.min(1 << 24));
        free.extend((0..ready.min(limit)).map(|_| BoxFrame::fresh()));
        BoxPool { free, lent: 0, lent_max: 0, limit }
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

impl BoxFrame {
    fn fresh() -> BoxFrame {
        BoxFrame(Box::new(Cell { align: [0; 2], head: [0; HEAD_MAX], meta: FrameMeta::default() }))
    }
}

impl FramePool for BoxPool {
    type Frame = BoxFrame;

    #[inline]
    fn take(&mut self, fill: Fill, len: FrameLen) -> Option<BoxFrame> {
        if self.lent >= self.limit {
            return None;
        }
        let mut f = self.free.pop().unwrap_or_else(BoxFrame::fresh);
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
