//! Pools of mbufs laid out for frames: mbuf, [`FrameMeta`], headroom, data.
//!
//! All data bytes of a fresh pool are [`PAYLOAD_BYTE`]: a frame of generated payload then costs a header and
//! a checksum, whatever its length. [`super::frame`] keeps it so.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys::{MBUF_BUF_ADDR, MBUF_BUF_LEN, MBUF_DATA_OFF, MBUF_HEADROOM_BYTES, MBUF_USER, rte_mempool};

use super::frame::{Buffer, DATA_AT};
use super::seal::ROOM_BYTES_MIN;
use super::{DpdkError, Eal, c_name, eal, last_error};
use crate::frame::{FrameMeta, PAYLOAD_BYTE};
use crate::plan::pools::{self, PoolSize};

/// Largest cache a pool keeps per thread (`RTE_MEMPOOL_CACHE_MAX_SIZE`).
pub const CACHE_MAX: u32 = 512;

// What is predicted of a buffer is what it is.
const _: () = assert!(pools::DATA_AT == DATA_AT && pools::ROOM_BYTES_MIN == ROOM_BYTES_MIN);

/// A pool to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Name, unique in the process; up to 25 characters.
    pub name: String,
    /// Mbufs in the pool. Each worker may hold back [`super::frame::SHELF_FRAMES`] of them, and half as many
    /// again as `cache`.
    pub frames: u32,
    /// Longest frame in bytes, FCS not included.
    pub frame_bytes_max: u16,
    /// Mbufs each registered thread may keep for itself: 0 to [`CACHE_MAX`], at most two thirds of `frames`.
    /// 0 is best with [`super::MbufFrames`], which keeps some at hand itself: no mbuf is out of reach of the
    /// other threads, and 1 MiB of memory is saved.
    pub cache: u32,
}

impl PoolSpec {
    /// A pool of this size.
    pub fn of(name: &str, size: PoolSize) -> PoolSpec {
        let PoolSize { frames, frame_bytes_max, cache } = size;
        PoolSpec { name: name.to_owned(), frames, frame_bytes_max, cache }
    }

    fn size(&self) -> PoolSize {
        PoolSize { frames: self.frames, frame_bytes_max: self.frame_bytes_max, cache: self.cache }
    }

    /// Memory the pool takes of EAL, in bytes; slightly more than it will.
    pub fn memory_bytes(&self) -> u64 {
        self.size().memory_bytes(false)
    }
}

/// What makes a pool.
type Make = unsafe extern "C" fn(*const c_char, c_uint, c_uint, u16, u16, c_int) -> *mut rte_mempool;

/// A pool of mbufs. Clones share it.
///
/// The memory goes back to EAL with the last clone, provided that it is dropped on EAL's main thread, nothing
/// is lent and no other thread is registered; otherwise it stays until the process ends, as a frame might
/// still come home.
#[derive(Clone, Debug)]
pub struct MbufPool(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    raw: NonNull<rte_mempool>,
    frame_bytes_max: u16,
}

// SAFETY: a mempool may be used by any number of threads at once: its ring is multi-producer and
// multi-consumer, its caches belong to one lcore each.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl MbufPool {
    /// Makes the pool and writes every data byte of it, so that no page fault is left for later. Cost: about
    /// 0.1 ms per MiB on huge pages.
    pub fn create(eal: &Eal, spec: &PoolSpec) -> Result<MbufPool, DpdkError> {
        MbufPool::create_as(eal, spec, dpdk_sys::rte_pktmbuf_pool_create)
    }

    /// As [`MbufPool::create`] for frames that no device reads by itself, as NICs do. On ordinary pages other pools have one
    /// or two buffers to a page, and the fronts of all fall into the same few places of the first-level cache: a dozen
    /// frames, and each touch of one is a miss.
    pub fn create_packed(eal: &Eal, spec: &PoolSpec) -> Result<MbufPool, DpdkError> {
        MbufPool::create_as(eal, spec, dpdk_sys::rs_pktmbuf_pool_create_packed)
    }

    fn create_as(_eal: &Eal, spec: &PoolSpec, make: Make) -> Result<MbufPool, DpdkError> {
        let refuse = |reason: String| DpdkError::Pool {
            name: spec.name.clone(),
            frames: spec.frames,
            frame_bytes_max: spec.frame_bytes_max,
            reason,
        };
        let room = MBUF_HEADROOM_BYTES + spec.size().data_bytes();
        let Ok(room) = u16::try_from(room) else {
            return Err(refuse(format!(
                "an mbuf holds {} B at most",
                usize::from(u16::MAX) - MBUF_HEADROOM_BYTES
            )));
        };
        let name = c_name(&spec.name)?;
        // SAFETY: EAL runs; `name` is a terminated string, copied by the callee; sizes are checked by the
        // callee.
        let raw = unsafe {
            make(
                name.as_ptr(),
                spec.frames,
                spec.cache,
                size_of::<FrameMeta>() as u16,
                room,
                dpdk_sys::SOCKET_ID_ANY,
            )
        };
        let Some(raw) = NonNull::new(raw) else { return Err(refuse(last_error())) };
        let pool = MbufPool(Arc::new(Owned { raw, frame_bytes_max: spec.frame_bytes_max }));
        let mut misfits: u32 = 0;
        // SAFETY: `prepare` fits the callback type and gets a pointer to a u32 that outlives the call;
        // nothing is lent yet, so no one else looks at the objects.
        unsafe { dpdk_sys::rte_mempool_obj_iter(raw.as_ptr(), prepare, (&raw mut misfits).cast()) };
        if misfits > 0 {
            return Err(refuse(format!("{misfits} mbufs are not laid out as this build expects")));
        }
        Ok(pool)
    }

    /// Mbufs lent or held back by [`super::MbufFrames`]; exact while no other thread takes or gives.
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool lives as long as `self`.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.raw()) }
    }

    /// Longest frame, FCS not included.
    pub fn frame_bytes_max(&self) -> u16 {
        self.0.frame_bytes_max
    }

    pub(super) fn raw(&self) -> *mut rte_mempool {
        self.0.raw.as_ptr()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let pool = self.raw.as_ptr();
        eal::while_only_lcore(|| {
            // SAFETY: the pool is alive. No clone is left to take from it, so nothing in use means that no
            // frame of it exists. Another thread could at most be inside the call that gave the last one
            // back: registered threads are excluded for the time of this closure, and others give straight to
            // the ring, whose count moves as the last step of that call.
            unsafe {
                if dpdk_sys::rte_mempool_in_use_count(pool) == 0 {
                    dpdk_sys::rte_mempool_free(pool);
                }
            }
        });
    }
}

/// Checks one mbuf's layout, fills its data and clears its mark. Counts misfits in `*misfits`.
unsafe extern "C" fn prepare(_: *mut rte_mempool, misfits: *mut c_void, object: *mut c_void, _: c_uint) {
    let mbuf = object.cast::<u8>();
    // SAFETY: `object` is an initialised mbuf of 128 bytes that nobody uses; the offsets lie inside it and
    // are aligned for their types (asserted against the headers by the build of dpdk-sys). Its `buf_addr`
    // points to `buf_len` writable bytes. `misfits` is the u32 of `create`.
    unsafe {
        let buffer = mbuf.add(MBUF_BUF_ADDR).cast::<*mut u8>().read();
        let data_off = usize::from(mbuf.add(MBUF_DATA_OFF).cast::<u16>().read());
        let buf_len = usize::from(mbuf.add(MBUF_BUF_LEN).cast::<u16>().read());
        if buffer.wrapping_add(data_off) != mbuf.wrapping_add(DATA_AT)
            || buf_len < data_off + ROOM_BYTES_MIN
            || !mbuf.cast::<Buffer>().is_aligned()
        {
            *misfits.cast::<u32>() += 1;
            return;
        }
        buffer.add(data_off).write_bytes(PAYLOAD_BYTE, buf_len - data_off);
        mbuf.add(MBUF_USER).cast::<u32>().write(0);
    }
}
