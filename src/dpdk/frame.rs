//! Frames that own an mbuf, and the pool that lends them to one worker.
//!
//! A buffer is mbuf (128 B), [`FrameMeta`] (64 B), headroom (128 B), data; the Ethernet header starts a cache
//! line.
//!
//! # Payload without writing it
//! Data bytes of a pool are [`PAYLOAD_BYTE`] from the start, so that a [`Fill::Const`] frame only needs its
//! header and checksum written. What earlier frames in the same mbuf left behind is repaired in two places:
//!
//! * The head: writers may touch any of the [`HEAD_MAX`] bytes. [`FramePool::seal`] puts the payload byte
//!   back from the end of the headers to at least [`HEAD_MAX`], always: two cache lines that the header has
//!   warmed already.
//! * The tail: pad and ICRC lie where the earlier, perhaps shorter frame ended; a frame of another [`Fill`]
//!   may have changed everything. The mbuf's user word keeps that range (`Mark`) while the mbuf rests in the
//!   pool or sits in another thread's cache, and [`FramePool::take`] puts the payload byte back: 8 bytes
//!   after a constant frame.
//!
//! So a frame's bytes are right after `seal`, and not before.

use std::hint::black_box;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

use arrayvec::ArrayVec;
use dpdk_sys::{
    MBUF_BUF_LEN, MBUF_BYTES, MBUF_DATA_LEN, MBUF_DATA_OFF, MBUF_HEADROOM_BYTES, MBUF_PKT_LEN, MBUF_POOL,
    MBUF_USER, rte_mempool,
};

use super::mempool::MbufPool;
use super::seal::Sealer;
use crate::frame::{
    Burst, Fill, Frame, FrameMeta, FramePool, HEAD_MAX, PAYLOAD_BYTE, Payload, Written, flags,
};
use crate::units::FrameLen;
use crate::wire::ICRC_LEN;
use crate::wire::icrc::AfterHead;

/// Frames a [`MbufFrames`] may hold back of each of its pools.
pub const SHELF_FRAMES: usize = 64;
/// Frames moved between shelf and pool at a time.
const SHELF_MOVE: usize = SHELF_FRAMES / 2;
/// How many frames ahead of their use buffers are prefetched.
const PREFETCH_FRAMES: usize = 4;

/// The front of every buffer.
#[repr(C, align(64))]
pub(super) struct Buffer {
    mbuf: [u8; MBUF_BYTES],
    meta: FrameMeta,
    headroom: [u8; MBUF_HEADROOM_BYTES],
    head: [u8; HEAD_MAX],
}

/// Where data starts, in bytes from the mbuf.
pub(super) const DATA_AT: usize = std::mem::offset_of!(Buffer, head);

const _: () = assert!(std::mem::offset_of!(Buffer, meta) == MBUF_BYTES && DATA_AT.is_multiple_of(64));

/// Bytes of a head that is written whole ([`crate::wire::fixed::FixedHead`]): the first line of two.
const HEAD_LINE: usize = 64;
const _: () = assert!(HEAD_MAX <= 2 * HEAD_LINE && 2 * HEAD_LINE <= super::seal::ROOM_BYTES_MIN);

/// Bytes of pad and ICRC at most, rounded up to one store.
const TAIL: usize = 8;

/// Range of data bytes that may differ from [`PAYLOAD_BYTE`], apart from the head: where it starts and where
/// it ends.
#[derive(Clone, Copy, Default)]
struct Mark {
    from: u16,
    to: u16,
}

impl Mark {
    fn from_word(word: u32) -> Mark {
        Mark { from: word as u16, to: (word >> 16) as u16 }
    }
    fn word(self) -> u32 {
        u32::from(self.from) | u32::from(self.to) << 16
    }
}

/// A field of the mbuf and its type.
struct Field<T> {
    at: usize,
    _type: PhantomData<T>,
}

impl<T> Field<T> {
    /// # Safety
    /// `at` is the offset from dpdk-sys of a field of this type.
    const unsafe fn new(at: usize) -> Field<T> {
        Field { at, _type: PhantomData }
    }
}

// SAFETY: offsets and types as listed in dpdk-sys.
const POOL: Field<*mut rte_mempool> = unsafe { Field::new(MBUF_POOL) };
// SAFETY: as above.
const USER: Field<u32> = unsafe { Field::new(MBUF_USER) };
// SAFETY: as above.
const BUF_LEN: Field<u16> = unsafe { Field::new(MBUF_BUF_LEN) };
// SAFETY: as above.
const DATA_OFF: Field<u16> = unsafe { Field::new(MBUF_DATA_OFF) };
// SAFETY: as above.
const DATA_LEN: Field<u16> = unsafe { Field::new(MBUF_DATA_LEN) };
// SAFETY: as above.
const PKT_LEN: Field<u32> = unsafe { Field::new(MBUF_PKT_LEN) };

/// A frame in an mbuf of its own: the mbuf goes back to its pool when the frame is dropped. Giving it to a
/// [`MbufFrames`] instead is cheaper.
#[derive(Debug)]
#[repr(transparent)]
pub struct MbufFrame(NonNull<Buffer>);

// SAFETY: a frame owns its mbuf alone (reference count 1, one segment) and mbufs are tied to no thread.
unsafe impl Send for MbufFrame {}

impl MbufFrame {
    #[inline]
    fn get<T: Copy>(&self, field: &Field<T>) -> T {
        // SAFETY: the field lies inside the mbuf, aligned for T, and is initialised since the pool was made.
        unsafe { self.0.as_ptr().byte_add(field.at).cast::<T>().read() }
    }

    #[inline]
    fn set<T: Copy>(&mut self, field: &Field<T>, value: T) {
        // SAFETY: as in `get`; `&mut self` is the mbuf's only owner.
        unsafe { self.0.as_ptr().byte_add(field.at).cast::<T>().write(value) }
    }

    /// Bytes of the data area: fixed when the pool was made.
    #[inline]
    fn room_bytes(&self) -> usize {
        usize::from(self.get(&BUF_LEN)) - MBUF_HEADROOM_BYTES
    }

    /// Asks for the lines that starting and sealing a frame write: in most runs another core had them last.
    #[inline]
    fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        for at in [0, MBUF_BYTES, DATA_AT, DATA_AT + 64] {
            use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            // SAFETY: a hint; every address lies inside the buffer, and prefetching has no effect on its
            // contents.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(self.0.as_ptr().byte_add(at).cast()) };
        }
    }

    /// All data bytes of the mbuf, beyond the frame too.
    #[inline]
    fn room(&self) -> &[u8] {
        // SAFETY: `MbufPool::create` has checked that data lies at DATA_AT and ends with the buffer, and has
        // initialised it; only the owner of the frame can reach it.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().byte_add(DATA_AT).cast(), self.room_bytes()) }
    }

    #[inline]
    fn room_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `room`, and `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr().byte_add(DATA_AT).cast(), self.room_bytes()) }
    }

    /// The whole frame from destination MAC to ICRC, as it goes on the wire. Right once sealed.
    pub fn bytes(&self) -> &[u8] {
        self.room().get(..usize::from(self.meta().len.0)).unwrap_or_default()
    }

    /// The payload of a [`Fill::Writable`] frame, to be written after the head and before `seal`; pad
    /// included. Empty for other frames.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let FrameMeta { fill, head_len, len, .. } = *self.meta();
        if fill != Fill::Writable {
            return &mut [];
        }
        let end = usize::from(len.0).saturating_sub(ICRC_LEN);
        self.room_mut().get_mut(usize::from(head_len)..end).unwrap_or_default()
    }

    /// Makes a buffer just taken from its pool a frame.
    #[inline]
    fn start(&mut self, fill: Fill, len: FrameLen) {
        // SAFETY: the private area behind the mbuf is a FrameMeta's size and alignment; it is ours to write.
        unsafe { (&raw mut (*self.0.as_ptr()).meta).write(FrameMeta { fill, len, ..FrameMeta::default() }) };
        self.place_data();
        self.clean(fill, len);
    }

    /// Puts the data where a device looks for it: drivers may have moved it when they last sent this mbuf.
    #[inline(always)]
    fn place_data(&mut self) {
        self.set(&DATA_OFF, MBUF_HEADROOM_BYTES as u16);
    }

    /// Puts back what an earlier frame has left behind its headers.
    #[inline(always)]
    fn clean(&mut self, fill: Fill, len: FrameLen) {
        let Mark { from, to } = Mark::from_word(self.get(&USER));
        match fill {
            Fill::Control | Fill::Writable => self.mark(0, to.max(len.0)),
            // The ICRC of a frame as long as this one: it will be written over.
            Fill::Const if usize::from(from) + ICRC_LEN == usize::from(to) && to == len.0 => {}
            Fill::Const => {
                let (from, to) = (usize::from(from), usize::from(to));
                if let Some(tail) = self.room_mut().get_mut(from..).and_then(|t| t.first_chunk_mut::<TAIL>())
                {
                    *tail = [PAYLOAD_BYTE; TAIL];
                }
                if to > from + TAIL
                    && let Some(rest) = self.room_mut().get_mut(from..to)
                {
                    rest.fill(PAYLOAD_BYTE);
                }
                self.mark(0, 0);
            }
        }
    }

    /// Gives the first `n` frames of a list back to their pools, with one call for as many of one pool as follow each other; the
    /// others move to the front.
    #[inline]
    pub(super) fn give_back<const N: usize>(frames: &mut ArrayVec<MbufFrame, N>, n: usize) {
        let (len, n) = (frames.len(), n.min(frames.len()));
        let mut from = 0;
        while from < n {
            let pool = frames[from].get(&POOL);
            let same = frames[from..n].iter().position(|f| f.get(&POOL) != pool).unwrap_or(n - from);
            // SAFETY: as in `drop` of each of them; they are forgotten below, and nothing in between can panic.
            unsafe { dpdk_sys::rs_mempool_put_bulk(pool, frames[from..].as_ptr().cast(), same as u32) };
            from += same;
        }
        // SAFETY: the first `n` frames belong to their pools; the others, `len - n` of them, move to the front.
        unsafe {
            let first = frames.as_mut_ptr();
            frames.set_len(0);
            std::ptr::copy(first.add(n), first, len - n);
            frames.set_len(len - n);
        }
    }

    /// The mbuf itself.
    #[inline]
    pub(super) fn mbuf(&self) -> *const std::ffi::c_void {
        self.0.as_ptr().cast()
    }

    /// Makes an mbuf that a device filled a frame with this meta and the length that the device says. Returns that, and whether
    /// all of it is there: no device may fill more than the buffer.
    #[inline]
    pub(super) fn arrived(&mut self, meta: &FrameMeta) -> (FrameLen, bool) {
        let len = FrameLen(self.get(&DATA_LEN));
        // SAFETY: as in `start`.
        unsafe { (&raw mut (*self.0.as_ptr()).meta).write(*meta) };
        self.meta_mut().len = len;
        // Not read back from the meta, whose stores are still on their way.
        (len, self.has_room_for(len))
    }

    /// The frame lies within its buffer, and has a head.
    #[inline]
    pub(super) fn has_all_bytes(&self) -> bool {
        self.has_room_for(self.meta().len)
    }

    #[inline]
    fn has_room_for(&self, len: FrameLen) -> bool {
        usize::from(len.0) <= self.room_bytes() && self.room_bytes() >= HEAD_MAX
    }

    #[inline]
    fn mark(&mut self, from: u16, to: u16) {
        self.set(&USER, Mark { from, to }.word());
    }

    /// Completes the bytes; see [`FramePool::seal`] and [`FramePool::seal_after`].
    #[inline]
    fn seal(&mut self, sealer: &Sealer, after: Option<&AfterHead>) {
        let FrameMeta { fill, head_len, flags, len, .. } = *self.meta();
        // Field by field: a copy of the whole would wait for the stores that have just written it.
        let meta = FrameMeta { fill, head_len, flags, len, ..FrameMeta::default() };
        let tail = match after {
            Some(after) => sealer.seal_after(&meta, after, self.room_mut()),
            None => sealer.seal(&meta, self.room_mut()),
        };
        if fill == Fill::Const {
            self.mark(tail.start as u16, tail.end as u16);
        }
        self.set(&DATA_LEN, len.0);
        self.set(&PKT_LEN, u32::from(len.0));
    }

    /// Makes the second 64 bytes of a [`Fill::Const`] frame payload. Up to HEAD_MAX and two bytes more: all of it is payload,
    /// or the ICRC that follows.
    #[inline(always)]
    fn clean_second_line(&mut self, fill: Fill) {
        if fill == Fill::Const {
            // SAFETY: the data area is at least ROOM_BYTES_MIN long, and ours.
            unsafe {
                let second = self.0.as_ptr().byte_add(DATA_AT + HEAD_LINE);
                second.cast::<[u8; HEAD_LINE]>().write([PAYLOAD_BYTE; HEAD_LINE]);
            }
        }
    }

    /// Completes a frame that only lacks this ICRC ([`Written::Whole`]) but for its mark.
    ///
    /// # Safety
    /// `len` bytes, at least [`ICRC_LEN`], fit into the data area.
    #[inline(always)]
    unsafe fn complete(&mut self, len: FrameLen, icrc: u32) {
        // SAFETY: the ICRC lies inside as the caller says.
        unsafe {
            let tail = self.0.as_ptr().byte_add(DATA_AT + usize::from(len.0) - ICRC_LEN);
            tail.cast::<u32>().write_unaligned(icrc.to_le());
        }
        self.set(&DATA_LEN, len.0);
        self.set(&PKT_LEN, u32::from(len.0));
    }
}

impl Drop for MbufFrame {
    fn drop(&mut self) {
        let object = self.0.as_ptr().cast();
        // SAFETY: the mbuf is ours alone, unsegmented and direct, and its pool lives as long as anything of
        // it is lent (see `MbufPool`).
        unsafe { dpdk_sys::rs_mempool_put_bulk(self.get(&POOL), &object, 1) };
    }
}

impl Frame for MbufFrame {
    fn payload_mut(&mut self) -> Option<&mut [u8]> {
        Some(MbufFrame::payload_mut(self))
    }
    fn wire_bytes(&self) -> Option<&[u8]> {
        Some(self.bytes())
    }
    /// Of a [`Fill::Const`] frame the first [`HEAD_MAX`] bytes and the ICRC may be changed, no others.
    #[inline]
    fn wire_bytes_mut(&mut self) -> Option<&mut [u8]> {
        let len = usize::from(self.meta().len.0);
        self.room_mut().get_mut(..len)
    }
    fn corrupt(&mut self) {
        let end = usize::from(self.meta().len.0);
        if self.meta().flags & flags::CORRUPT != 0 {
            return;
        }
        self.meta_mut().flags |= flags::CORRUPT;
        // Pad and ICRC end the frame, and the mark has them repaired before the mbuf's next use.
        if let Some(icrc) = self.room_mut().get_mut(end.saturating_sub(ICRC_LEN)..end) {
            icrc.iter_mut().for_each(|b| *b = !*b);
        }
    }
    #[inline]
    fn head(&self) -> &[u8; HEAD_MAX] {
        // SAFETY: the data area is initialised, at least ROOM_BYTES_MIN long, and ours.
        unsafe { &(*self.0.as_ptr()).head }
    }
    #[inline]
    fn head_mut(&mut self) -> &mut [u8; HEAD_MAX] {
        // SAFETY: as in `head`, and `&mut self` is the only way to it.
        unsafe { &mut (*self.0.as_ptr()).head }
    }
    #[inline]
    fn meta(&self) -> &FrameMeta {
        // SAFETY: every byte is zero since the pool was made, which is a meta, or was written by its users.
        unsafe { &(*self.0.as_ptr()).meta }
    }
    #[inline]
    fn meta_mut(&mut self) -> &mut FrameMeta {
        // SAFETY: as in `meta`, and `&mut self` is the only way to it.
        unsafe { &mut (*self.0.as_ptr()).meta }
    }
    fn payload(&self) -> Payload<'_> {
        let m = self.meta();
        let end = usize::from(m.len.0).saturating_sub(ICRC_LEN);
        Payload::Bytes(match m.fill {
            Fill::Control => &[],
            Fill::Const | Fill::Writable => self.room().get(usize::from(m.head_len)..end).unwrap_or_default(),
        })
    }
}

/// Frames at hand, on their way from and to one pool.
#[derive(Debug)]
struct Shelf {
    frames: ArrayVec<MbufFrame, SHELF_FRAMES>,
    pool: MbufPool,
    /// Those of `pool`, at hand.
    frame_bytes_max: u16,
    raw: *mut rte_mempool,
}

// SAFETY: `raw` is what `pool` holds, which may go to any thread.
unsafe impl Send for Shelf {}

impl Shelf {
    fn new(pool: &MbufPool) -> Shelf {
        Shelf {
            frames: ArrayVec::new(),
            frame_bytes_max: pool.frame_bytes_max(),
            raw: pool.raw(),
            pool: pool.clone(),
        }
    }

    #[inline]
    fn pop(&mut self) -> Option<MbufFrame> {
        if let Some(soon) = self.frames.len().checked_sub(PREFETCH_FRAMES).and_then(|i| self.frames.get(i)) {
            soon.prefetch();
        }
        self.frames.pop().or_else(|| self.refill())
    }

    /// Appends `n` frames to `out`, or as many as there are, and returns how many. `out` has room for them.
    #[inline]
    fn pop_many(&mut self, n: usize, out: &mut Burst<MbufFrame>) -> usize {
        let before = out.len();
        let n = n.min(out.capacity() - before);
        let kept = self.frames.len();
        if kept >= n {
            out.extend(self.frames.drain(kept - n..));
        } else if n >= SHELF_MOVE {
            // SAFETY: `out` has room for `n` pointers behind the first `before`; each pointer the pool hands out is an
            // initialised mbuf that nobody else holds.
            unsafe {
                let objects = out.as_mut_ptr().add(before).cast();
                if dpdk_sys::rs_mempool_get_bulk(self.pool.raw(), objects, n as u32) == 0 {
                    out.set_len(before + n);
                }
            }
        }
        while out.len() < before + n
            && let Some(frame) = self.pop()
        {
            out.push(frame);
        }
        out.len() - before
    }

    #[cold]
    fn refill(&mut self) -> Option<MbufFrame> {
        // The last frames of a pool are lent one by one.
        for want in [SHELF_MOVE, 1] {
            // SAFETY: the shelf is empty, so there is room for `want` pointers; each pointer the pool hands
            // out is an initialised mbuf that nobody else holds.
            unsafe {
                let objects = self.frames.as_mut_ptr().cast();
                if dpdk_sys::rs_mempool_get_bulk(self.pool.raw(), objects, want as u32) == 0 {
                    self.frames.set_len(want);
                    break;
                }
            }
        }
        self.frames.pop()
    }

    #[inline]
    fn push(&mut self, frame: MbufFrame) {
        if self.frames.is_full() {
            self.flush();
        }
        self.frames.push(frame);
    }

    /// Gives the coldest half back.
    #[cold]
    fn flush(&mut self) {
        let count = self.frames.len();
        let gone = SHELF_MOVE.min(count);
        // SAFETY: the first `gone` frames are this pool's and go to it; the others move to the front. Nothing
        // in between can panic, so none is dropped as well.
        unsafe {
            let first = self.frames.as_mut_ptr();
            self.frames.set_len(0);
            dpdk_sys::rs_mempool_put_bulk(self.pool.raw(), first.cast(), gone as u32);
            std::ptr::copy(first.add(gone), first, count - gone);
            self.frames.set_len(count - gone);
        }
    }
}

/// Lends [`MbufFrame`]s to one worker, from a pool of small mbufs for [`Fill::Control`] and one for data.
///
/// Holds back up to [`SHELF_FRAMES`] of each until it is dropped. The two pools differ: frames come home to
/// the pool they are of, whatever they were used for. A pool with a cache wants the worker's thread
/// registered ([`super::Eal::register_thread`]).
///
/// Cost per frame (taken, header written, sealed, given back; any payload length): about 35 ns on one thread,
/// of it 17 ns for the ICRC; about 100 ns when another core had the mbuf before.
#[derive(Debug)]
pub struct MbufFrames {
    control: Shelf,
    data: Shelf,
    sealer: Sealer,
}

impl MbufFrames {
    /// Lends from these two pools; other workers may lend from the same ones.
    ///
    /// `payload_lens` are the payload lengths of most data frames, the path MTU first: their ICRC costs the
    /// same for every length (some 15 ns), others one pass over the frame (100 ns for 4096 B). A handful at
    /// most; 4 KiB each.
    pub fn new(control: &MbufPool, data: &MbufPool, payload_lens: &[u16]) -> MbufFrames {
        MbufFrames { control: Shelf::new(control), data: Shelf::new(data), sealer: Sealer::new(payload_lens) }
    }
}

impl FramePool for MbufFrames {
    type Frame = MbufFrame;

    /// `None` also for a frame longer than the pool was made for.
    #[inline]
    fn take(&mut self, fill: Fill, len: FrameLen) -> Option<MbufFrame> {
        let shelf = if fill == Fill::Control { &mut self.control } else { &mut self.data };
        if len.0 > shelf.frame_bytes_max {
            return None;
        }
        let mut frame = shelf.pop()?;
        frame.start(fill, len);
        Some(frame)
    }

    #[inline]
    fn write_many(
        &mut self,
        common: &FrameMeta,
        n: usize,
        out: &mut Burst<MbufFrame>,
        mut each: impl FnMut(usize, &mut MbufFrame) -> Written,
    ) -> usize {
        let (fill, len) = (common.fill, common.len);
        let shelf = if fill == Fill::Control { &mut self.control } else { &mut self.data };
        if len.0 > shelf.frame_bytes_max || usize::from(len.0) < ICRC_LEN {
            return 0;
        }
        let before = out.len();
        shelf.pop_many(n, out);
        // What a frame like these leaves behind, which is what the next one writes over.
        let like_these = match fill {
            Fill::Const => Mark { from: len.0 - ICRC_LEN as u16, to: len.0 },
            _ => Mark { from: 0, to: len.0 },
        };
        // Laid out in memory, so that it is copied line by line.
        let common = black_box(*common);
        let (like_these, frames) = (like_these.word(), &mut out[before..]);
        let mut written = 0;
        while written < frames.len() {
            if let Some(soon) = frames.get(written + PREFETCH_FRAMES) {
                soon.prefetch();
            }
            // Another handle of the same frame, which is not looked up again after every store.
            let mut frame = ManuallyDrop::new(MbufFrame(frames[written].0));
            if frame.get(&USER) != like_these {
                frame.clean(fill, len);
                if fill == Fill::Const {
                    frame.set(&USER, like_these);
                }
            }
            frame.place_data();
            *frame.meta_mut() = common;
            frame.clean_second_line(fill);
            match each(written, &mut frame) {
                // SAFETY: frames of this shelf have room for `frame_bytes_max`, which `len` does not exceed.
                Written::Whole(icrc) => unsafe { frame.complete(len, icrc) },
                Written::Head => frame.seal(&self.sealer, None),
                Written::Nothing => break,
            }
            written += 1;
        }
        for frame in out.drain(before + written..) {
            shelf.push(frame);
        }
        written
    }

    /// Takes frames of any pool.
    #[inline]
    fn give(&mut self, frame: MbufFrame) {
        let pool = frame.get(&POOL);
        if pool == self.data.raw {
            self.data.push(frame);
        } else if pool == self.control.raw {
            self.control.push(frame);
        }
    }

    #[inline]
    fn give_many(&mut self, frames: &mut Burst<MbufFrame>) {
        let pool = frames.first().map_or(std::ptr::null_mut(), |f| f.get(&POOL));
        if frames.len() < SHELF_MOVE || frames.iter().any(|f| f.get(&POOL) != pool) {
            return frames.drain(..).for_each(|frame| self.give(frame));
        }
        // SAFETY: as in `drop` of each of them; they are forgotten at once.
        unsafe {
            dpdk_sys::rs_mempool_put_bulk(pool, frames.as_ptr().cast(), frames.len() as u32);
            frames.set_len(0);
        }
    }

    #[inline]
    fn seal(&mut self, frame: &mut MbufFrame) {
        frame.seal(&self.sealer, None);
    }

    const WRITES_BYTES: bool = true;

    #[inline]
    fn seal_after(&mut self, frame: &mut MbufFrame, after: &AfterHead) {
        frame.seal(&self.sealer, Some(after));
    }
}
