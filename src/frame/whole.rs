//! Frames with all their bytes, for ports that are sockets: every payload byte is real and the ICRC is right.
//!
//! Unlike the boxes of virtual time these may go to anyone's NIC. Unlike mbufs they need no DPDK. They are sized for
//! the largest RoCEv2 frame (path MTU 4096), and lent by a pool whose clones share one free list, so that a port can
//! fill frames that its driver gives back.

use std::cell::{Cell as Shared, RefCell};
use std::rc::Rc;

use super::{Fill, Frame, FrameMeta, FramePool, HEAD_MAX, PAYLOAD_BYTE, Payload, flags};
use crate::units::FrameLen;
use crate::wire::fast::{self, Kind};
use crate::wire::{ICRC_LEN, icrc};

/// Pieces of [`HEAD_MAX`] bytes in a frame.
const PIECES: usize = 34;
/// Longest frame, without FCS: Ethernet, VLAN, IPv6, UDP, BTH, AtomicETH, 4096 bytes and ICRC are 4,206.
pub const FRAME_BYTES_MAX: usize = PIECES * HEAD_MAX;

const _: () = assert!(FRAME_BYTES_MAX >= 14 + 4 + 40 + 8 + 12 + 28 + 4096 + 4);

#[repr(C, align(64))]
#[derive(Debug)]
struct Cell {
    meta: FrameMeta,
    /// The bytes from the destination MAC on; the first piece is the head.
    bytes: [[u8; HEAD_MAX]; PIECES],
}

/// A frame with all its bytes.
#[derive(Debug)]
pub struct WholeFrame(Box<Cell>);

impl WholeFrame {
    fn fresh() -> WholeFrame {
        WholeFrame(Box::new(Cell { meta: FrameMeta::default(), bytes: [[0; HEAD_MAX]; PIECES] }))
    }

    /// All bytes the frame has room for; what a port receives into.
    pub fn room_mut(&mut self) -> &mut [u8] {
        self.0.bytes.as_flattened_mut()
    }

    /// Where the payload (with pad) lies.
    fn payload_range(&self) -> std::ops::Range<usize> {
        let m = &self.0.meta;
        let end = usize::from(m.len.0).saturating_sub(ICRC_LEN).min(FRAME_BYTES_MAX);
        match m.fill {
            Fill::Control => 0..0,
            Fill::Const | Fill::Writable => usize::from(m.head_len).min(end)..end,
        }
    }
}

impl Frame for WholeFrame {
    #[inline]
    fn head(&self) -> &[u8; HEAD_MAX] {
        &self.0.bytes[0]
    }
    #[inline]
    fn head_mut(&mut self) -> &mut [u8; HEAD_MAX] {
        &mut self.0.bytes[0]
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
        Payload::Bytes(self.0.bytes.as_flattened().get(self.payload_range()).unwrap_or_default())
    }
    fn payload_mut(&mut self) -> Option<&mut [u8]> {
        let range = self.payload_range();
        self.0.bytes.as_flattened_mut().get_mut(range)
    }
    fn wire_bytes(&self) -> Option<&[u8]> {
        self.0.bytes.as_flattened().get(..usize::from(self.0.meta.len.0))
    }
    fn wire_bytes_mut(&mut self) -> Option<&mut [u8]> {
        let len = usize::from(self.0.meta.len.0);
        self.0.bytes.as_flattened_mut().get_mut(..len)
    }
    fn corrupt(&mut self) {
        let last = usize::from(self.0.meta.len.0).wrapping_sub(1);
        if self.0.meta.flags & flags::CORRUPT == 0
            && let Some(b) = self.0.bytes.as_flattened_mut().get_mut(last)
        {
            *b = !*b;
        }
        self.0.meta.flags |= flags::CORRUPT;
    }
}

/// Lends [`WholeFrame`]s. Clones share one free list and one count; they stay in one thread.
#[derive(Clone, Debug)]
pub struct WholePool {
    free: Rc<RefCell<Vec<WholeFrame>>>,
    lent: Rc<Shared<usize>>,
    limit: usize,
}

impl WholePool {
    /// A pool that lends at most `limit` frames at a time, all of them allocated now.
    pub fn new(limit: usize) -> WholePool {
        let free = (0..limit).map(|_| WholeFrame::fresh()).collect();
        WholePool { free: Rc::new(RefCell::new(free)), lent: Rc::new(Shared::new(0)), limit }
    }
    /// Frames lent now.
    pub fn in_use(&self) -> usize {
        self.lent.get()
    }
}

impl FramePool for WholePool {
    type Frame = WholeFrame;

    fn take(&mut self, fill: Fill, len: FrameLen) -> Option<WholeFrame> {
        if self.lent.get() >= self.limit || usize::from(len.0) > FRAME_BYTES_MAX {
            return None;
        }
        let mut f = self.free.borrow_mut().pop().unwrap_or_else(WholeFrame::fresh);
        self.lent.set(self.lent.get() + 1);
        f.0.meta = FrameMeta { fill, len, ..FrameMeta::default() };
        Some(f)
    }
    fn give(&mut self, frame: WholeFrame) {
        self.lent.set(self.lent.get().saturating_sub(1));
        self.free.borrow_mut().push(frame);
    }
    /// Fills a constant payload, zeroes the pad and writes the ICRC.
    fn seal(&mut self, frame: &mut WholeFrame) {
        let meta = frame.0.meta;
        let (head_end, end) = (usize::from(meta.head_len), usize::from(meta.len.0));
        let is_pfc = meta.flags & flags::PFC != 0;
        let parsed = fast::parse(frame.head(), meta.len).ok().filter(|f| f.kind == Kind::Roce && !is_pfc);
        let Some(bytes) = frame.0.bytes.as_flattened_mut().get_mut(..end) else { return };
        let mut zero = |from: usize, to: usize| {
            if let Some(b) = bytes.get_mut(from..to) {
                b.fill(0);
            }
        };
        let Some(f) = parsed else { return zero(head_end, end) };
        let pad_at = usize::from(f.head_len()) + usize::from(f.payload_len);
        zero(pad_at, end);
        if meta.fill == Fill::Const
            && let Some(payload) = bytes.get_mut(head_end..pad_at)
        {
            payload.fill(PAYLOAD_BYTE);
        }
        // Headers that parse have room for their ICRC.
        let _ = icrc::seal(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::boxed::BoxPool;
    use crate::frame::bytes::materialise;
    use crate::wire::headers::Ext;
    use crate::wire::opcode::Opcode;
    use crate::wire::pad_of;
    use crate::wire::template::{BthFields, FrameSpec, Template};

    fn make<P: FramePool>(pool: &mut P, fill: Fill, len: u16) -> P::Frame {
        let pad = pad_of(len);
        let bth = BthFields {
            opcode: Opcode::RcWriteMiddle as u8,
            dest_qp: 7,
            psn: 9,
            pad,
            ..BthFields::default()
        };
        let fill = if len == 0 { Fill::Control } else { fill };
        let mut f = pool.take(fill, FrameLen(58 + len + u16::from(pad))).expect("room");
        let spec = FrameSpec::default();
        let wire = Template::new(&spec).expect("IPv4").write(f.head_mut(), &bth, &Ext::None, len);
        f.meta_mut().head_len = wire.head_len;
        f
    }

    #[test]
    fn the_bytes_are_those_a_virtual_frame_stands_for() {
        let (mut whole, mut boxed) = (WholePool::new(4), BoxPool::new(1, 4));
        for len in [4096, 0, 1, 2, 3, 64, 65, 1024, 127] {
            let mut f = make(&mut whole, Fill::Const, len);
            whole.seal(&mut f);
            let b = make(&mut boxed, Fill::Const, len);
            let mut want = Vec::new();
            materialise(&b, &mut want).expect("RoCE");
            assert_eq!(f.wire_bytes(), Some(want.as_slice()), "{len} bytes");
            assert!(icrc::verify(&want).expect("RoCE"));
            whole.give(f);
            boxed.give(b);
        }
        assert_eq!(whole.in_use(), 0);
    }

    #[test]
    fn written_payload_is_kept_and_checked() {
        let mut pool = WholePool::new(2);
        let mut f = make(&mut pool, Fill::Writable, 1021);
        for (i, b) in f.payload_mut().expect("writable").iter_mut().enumerate() {
            *b = i as u8; // over the pad too: sealing must clear it
        }
        pool.seal(&mut f);
        let bytes = f.wire_bytes().expect("whole").to_vec();
        assert!(icrc::verify(&bytes).expect("RoCE"));
        let (payload, tail) = bytes[54..].split_at(1021);
        assert!(payload.iter().enumerate().all(|(i, b)| *b == i as u8));
        assert_eq!(tail[..3], [0; 3]);
        f.corrupt();
        f.corrupt();
        assert!(!icrc::verify(f.wire_bytes().expect("whole")).expect("RoCE"));
    }

    #[test]
    fn clones_share_what_they_lend() {
        let mut pool = WholePool::new(1);
        let mut other = pool.clone();
        let f = pool.take(Fill::Control, FrameLen(64)).expect("room");
        assert!(other.take(Fill::Control, FrameLen(64)).is_none());
        other.give(f);
        assert!(pool.take(Fill::Control, FrameLen(64)).is_some());
        assert!(pool.take(Fill::Control, FrameLen(9000)).is_none(), "longer than any RoCE frame");
    }
}
