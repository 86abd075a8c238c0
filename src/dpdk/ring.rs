//! Rings: frames from one thread to one other, without locks.

use std::ptr::NonNull;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys::rte_ring;

use super::{DpdkError, Eal, MbufFrame, c_name, last_error};

/// A queue of frames with one producer and one consumer (`rte_ring`). Frames left in it are freed with the
/// last half.
#[derive(Debug)]
pub struct FrameRing {
    raw: NonNull<rte_ring>,
}

/// The end of a ring that frames go into.
#[derive(Debug)]
pub struct RingTx(Arc<FrameRing>);

/// The end of a ring that frames come out of.
#[derive(Debug)]
pub struct RingRx(Arc<FrameRing>);

// SAFETY: producer and consumer may be different threads: there is one of each, as neither half can be cloned
// and their methods take `&mut self`; counting from either side is allowed. The frames inside are Send.
unsafe impl Send for FrameRing {}
// SAFETY: as above; what `&FrameRing` itself offers only counts.
unsafe impl Sync for FrameRing {}

impl FrameRing {
    /// A ring that holds exactly `frames` frames, 1 to 2^30, under a `name` that is unique in the process and
    /// has up to 28 characters.
    pub fn create(_eal: &Eal, name: &str, frames: u32) -> Result<(RingTx, RingRx), DpdkError> {
        let refuse = |reason: String| DpdkError::Ring { name: name.to_owned(), frames, reason };
        if frames == 0 {
            return Err(refuse("a ring holds one frame at least".to_owned()));
        }
        let c_name = c_name(name)?;
        let flags = dpdk_sys::RING_F_SP_ENQ | dpdk_sys::RING_F_SC_DEQ | dpdk_sys::RING_F_EXACT_SZ;
        // SAFETY: EAL runs; the name is terminated and copied by the callee, which checks the size.
        let raw =
            unsafe { dpdk_sys::rte_ring_create(c_name.as_ptr(), frames, dpdk_sys::SOCKET_ID_ANY, flags) };
        let Some(raw) = NonNull::new(raw) else {
            return Err(refuse(last_error()));
        };
        let ring = Arc::new(FrameRing { raw });
        Ok((RingTx(Arc::clone(&ring)), RingRx(ring)))
    }

    /// Memory a ring of `frames` frames takes of EAL, in bytes.
    pub fn memory_bytes(frames: u32) -> u64 {
        crate::plan::pools::ring_bytes(frames)
    }

    fn len(&self) -> usize {
        // SAFETY: the ring lives as long as `self`; any thread may count.
        unsafe { dpdk_sys::rs_ring_count(self.raw.as_ptr()) as usize }
    }

    fn room(&self) -> usize {
        // SAFETY: as in `len`.
        unsafe { dpdk_sys::rs_ring_free_count(self.raw.as_ptr()) as usize }
    }

    /// Up to `max` frames from the ring into `at`.
    ///
    /// # Safety
    /// `at` has room for `max` frames, and no other thread takes from the ring.
    unsafe fn take(&self, at: *mut MbufFrame, max: usize) -> usize {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        // SAFETY: the caller vouches for room and for being the one consumer; MbufFrame is a transparent
        // pointer, and what the ring holds are frames that `push` moved into it.
        unsafe { dpdk_sys::rs_ring_sc_dequeue_burst(self.raw.as_ptr(), at.cast(), max) as usize }
    }
}

impl Drop for FrameRing {
    fn drop(&mut self) {
        let mut rest: ArrayVec<MbufFrame, 32> = ArrayVec::new();
        loop {
            // SAFETY: room for 32; both halves are gone, so this is the only user.
            let n = unsafe { self.take(rest.as_mut_ptr(), 32) };
            // SAFETY: the ring has written `n` frames, at most 32.
            unsafe { rest.set_len(n) };
            if rest.is_empty() {
                break;
            }
            rest.clear();
        }
        // SAFETY: made by rte_ring_create, and nobody uses it any more.
        unsafe { dpdk_sys::rte_ring_free(self.raw.as_ptr()) };
    }
}

impl RingTx {
    /// Moves frames from the front of `frames` into the ring until it is full; returns how many. What the
    /// producer wrote before, in the frames and elsewhere, is visible to the consumer that takes them. Cost:
    /// 1 to 2 ns per frame in bursts of 32.
    pub fn push<const N: usize>(&mut self, frames: &mut ArrayVec<MbufFrame, N>) -> usize {
        let count = frames.len();
        // SAFETY: the pointers are `count` valid frames, and `&mut self` on the only RingTx makes this the
        // one producer. u32 holds any burst.
        let sent = unsafe {
            dpdk_sys::rs_ring_sp_enqueue_burst(self.0.raw.as_ptr(), frames.as_ptr().cast(), count as u32)
                as usize
        };
        // SAFETY: the first `sent` frames now belong to the ring; the others move to the front, still `count
        // - sent` of them. Nothing in between can panic.
        unsafe {
            let first = frames.as_mut_ptr();
            frames.set_len(0);
            std::ptr::copy(first.add(sent), first, count - sent);
            frames.set_len(count - sent);
        }
        sent
    }

    /// The ring itself, for a device that takes over this end.
    pub(super) fn raw(&self) -> *mut rte_ring {
        self.0.raw.as_ptr()
    }

    /// Frames the ring can take now; more as soon as the consumer takes some.
    pub fn room(&self) -> usize {
        self.0.room()
    }
}

impl RingRx {
    /// Appends what has arrived to `frames`, as far as it has room; returns how many.
    pub fn pop<const N: usize>(&mut self, frames: &mut ArrayVec<MbufFrame, N>) -> usize {
        let len = frames.len();
        // SAFETY: there is room for N - len frames behind the first `len`, and `&mut self` on the only RingRx
        // makes this the one consumer.
        let taken = unsafe { self.0.take(frames.as_mut_ptr().add(len), N - len) };
        // SAFETY: `taken` frames, at most N - len, have been written there.
        unsafe { frames.set_len(len + taken) };
        taken
    }

    /// Frames that wait now.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when none waits.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}
