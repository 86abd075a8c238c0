//! DPDK >= 22.11 as far as rankstorm uses it: hand-declared functions over opaque pointers, and byte offsets
//! into `struct rte_mbuf` that the build holds against the installed headers.
//!
//! Names and meanings are those of the DPDK API reference; functions named `rs_*` are the one-line wrappers
//! of `shim.c` around what DPDK has only as a static inline. Nothing here is safe to call without that
//! reference at hand; `rankstorm::dpdk` is the safe layer.

#![no_std]
#![allow(non_camel_case_types)]
#![warn(missing_docs)]

use core::ffi::{c_char, c_int, c_uint, c_void};

include!("layout.rs");

mod eth;
pub use eth::*;

/// `SOCKET_ID_ANY`: memory of any NUMA node.
pub const SOCKET_ID_ANY: c_int = -1;
/// `LCORE_ID_ANY`: the calling thread is unknown to EAL.
pub const LCORE_ID_ANY: c_uint = c_uint::MAX;
/// `RING_F_SP_ENQ`: one producer.
pub const RING_F_SP_ENQ: c_uint = 1;
/// `RING_F_SC_DEQ`: one consumer.
pub const RING_F_SC_DEQ: c_uint = 2;
/// `RING_F_EXACT_SZ`: the ring holds as many objects as asked for.
pub const RING_F_EXACT_SZ: c_uint = 4;

/// A pool of equal objects.
#[repr(C)]
pub struct rte_mempool {
    _opaque: [u8; 0],
}

/// A queue of pointers.
#[repr(C)]
pub struct rte_ring {
    _opaque: [u8; 0],
}

/// Called for each object of a pool: pool, argument, object, index of the object.
pub type rte_mempool_obj_cb_t = unsafe extern "C" fn(*mut rte_mempool, *mut c_void, *mut c_void, c_uint);

unsafe extern "C" {
    /// Starts EAL; once per process. Keeps pointers into `argv`. -1 and `rte_errno` on failure.
    pub fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int;
    /// The folder EAL keeps its files in.
    pub fn rte_eal_get_runtime_dir() -> *const c_char;
    /// "DPDK 22.11.0".
    pub fn rte_version() -> *const c_char;
    /// Text for an error number; valid until the thread's next call.
    pub fn rte_strerror(errnum: c_int) -> *const c_char;
    /// Makes the calling thread an lcore with caches of its own. -1 and `rte_errno` on failure.
    pub fn rte_thread_register() -> c_int;
    /// Undoes [`rte_thread_register`] for the calling thread.
    pub fn rte_thread_unregister();

    /// A pool of `n` mbufs with `priv_size` bytes between mbuf and buffer. Null and `rte_errno` on failure.
    pub fn rte_pktmbuf_pool_create(
        name: *const c_char,
        n: c_uint,
        cache_size: c_uint,
        priv_size: u16,
        data_room_size: u16,
        socket_id: c_int,
    ) -> *mut rte_mempool;
    /// The same, and its objects may cross borders of pages: for memory that no device reads by itself.
    pub fn rs_pktmbuf_pool_create_packed(
        name: *const c_char,
        n: c_uint,
        cache_size: c_uint,
        priv_size: u16,
        data_room_size: u16,
        socket_id: c_int,
    ) -> *mut rte_mempool;
    /// Frees a pool that has lent nothing.
    pub fn rte_mempool_free(pool: *mut rte_mempool);
    /// Objects lent; approximate while other threads take and give.
    pub fn rte_mempool_in_use_count(pool: *const rte_mempool) -> c_uint;
    /// Calls `callback` for every object and returns how many there were.
    pub fn rte_mempool_obj_iter(
        pool: *mut rte_mempool,
        callback: rte_mempool_obj_cb_t,
        argument: *mut c_void,
    ) -> u32;

    /// A ring of at least `count` pointers. Null and `rte_errno` on failure.
    pub fn rte_ring_create(
        name: *const c_char,
        count: c_uint,
        socket_id: c_int,
        flags: c_uint,
    ) -> *mut rte_ring;
    /// Frees a ring; what it holds is forgotten.
    pub fn rte_ring_free(ring: *mut rte_ring);

    /// `rte_errno` of the calling thread.
    pub fn rs_errno() -> c_int;
    /// `rte_lcore_id`.
    pub fn rs_lcore_id() -> c_uint;
    /// `rte_mempool_get_bulk`: all `n` or none (not 0).
    pub fn rs_mempool_get_bulk(pool: *mut rte_mempool, objects: *mut *mut c_void, n: c_uint) -> c_int;
    /// `rte_mempool_put_bulk`.
    pub fn rs_mempool_put_bulk(pool: *mut rte_mempool, objects: *const *mut c_void, n: c_uint);
    /// `rte_ring_sp_enqueue_burst`: how many of `n` went in.
    pub fn rs_ring_sp_enqueue_burst(ring: *mut rte_ring, objects: *const *mut c_void, n: c_uint) -> c_uint;
    /// `rte_ring_sc_dequeue_burst`: how many came out.
    pub fn rs_ring_sc_dequeue_burst(ring: *mut rte_ring, objects: *mut *mut c_void, n: c_uint) -> c_uint;
    /// `rte_ring_count`.
    pub fn rs_ring_count(ring: *const rte_ring) -> c_uint;
    /// `rte_ring_free_count`.
    pub fn rs_ring_free_count(ring: *const rte_ring) -> c_uint;
}
