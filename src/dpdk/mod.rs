//! DPDK made safe: EAL, pools of mbufs, frames that own one, and rings that carry them between cores.
//!
//! Nothing outlives the process: EAL runs without files or sockets shared with others, so the kernel takes
//! back every page when the process ends, however it ends. One EAL per process, for life: DPDK cannot start
//! twice.
//!
//! Order of use: [`Eal::init`] on the main thread, [`MbufPool::create`] for control and data,
//! [`FrameRing::create`] per link, then per worker thread [`Eal::register_thread`] and one [`MbufFrames`].
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

mod attached;
mod cable;
pub mod eal;
pub mod ethdev;
pub mod frame;
pub mod mempool;
mod packet_tx;
pub mod ring;
mod seal;
pub mod stamps;

use std::ffi::CStr;

pub use cable::LoopCable;
pub use eal::{Eal, EalOptions, MemoryKind, ThreadGuard};
pub use ethdev::{EthPort, PortSpec};
pub use frame::{MbufFrame, MbufFrames};
pub use mempool::{MbufPool, PoolSpec};
pub use ring::{FrameRing, RingRx, RingTx};
pub use stamps::StampSource;

/// What DPDK refused, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DpdkError {
    /// [`Eal::get`] before [`Eal::init`].
    #[error("DPDK has not been started in this process: call Eal::init first")]
    NotStarted,
    /// EAL did not come up; it has printed its own lines to stderr.
    #[error("DPDK did not start ({reason}); arguments: {arguments}")]
    Init {
        /// Text of `rte_errno`.
        reason: String,
        /// What EAL was started with.
        arguments: String,
    },
    /// EAL runs with less memory than a later caller needs, and cannot grow.
    #[error("DPDK was started with {held_mib} MiB and {needed_mib} MiB are needed: start it with that much")]
    Fixed {
        /// Memory EAL holds.
        held_mib: u64,
        /// Memory asked for.
        needed_mib: u64,
    },
    /// The machine has not that much memory.
    #[error(
        "frames need {needed_mib} MiB of memory and {available_mib} MiB are available: use fewer \
         ports, a smaller switch buffer, or set aside huge pages"
    )]
    Memory {
        /// Memory asked for.
        needed_mib: u64,
        /// Ordinary memory that could be had.
        available_mib: u64,
    },
    /// A name with a zero byte in it.
    #[error("the name {0:?} holds a zero byte")]
    Name(String),
    /// A pool of mbufs could not be made.
    #[error("no pool '{name}' of {frames} frames of up to {frame_bytes_max} B: {reason}")]
    Pool {
        /// Name of the pool.
        name: String,
        /// Frames asked for.
        frames: u32,
        /// Room of each.
        frame_bytes_max: u16,
        /// Text of `rte_errno`, or what is wrong with the request.
        reason: String,
    },
    /// A ring could not be made.
    #[error("no ring '{name}' of {frames} frames: {reason}")]
    Ring {
        /// Name of the ring.
        name: String,
        /// Frames asked for.
        frames: u32,
        /// Text of `rte_errno`.
        reason: String,
    },
    /// A device could not be made a port, or does not do what is asked.
    #[error("device {device} {what}: {reason}")]
    Device {
        /// The device as the profile names it.
        device: String,
        /// What it did not do.
        what: &'static str,
        /// Why, and the fix where there is one.
        reason: String,
    },
    /// A thread could not become an lcore.
    #[error("DPDK refused a worker thread ({0}): use fewer workers, it knows 128 threads at most")]
    Thread(String),
}

/// The text of the calling thread's `rte_errno`.
fn last_error() -> String {
    // SAFETY: reads a thread-local; DPDK is linked, started or not.
    let code = unsafe { dpdk_sys::rs_errno() };
    text_of(code)
}

/// The text of an error number.
fn text_of(code: i32) -> String {
    // SAFETY: rte_strerror returns a terminated string for every number, valid until this thread asks again.
    let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(code)) };
    format!("{}, error {code}", text.to_string_lossy())
}

/// A name as C wants it.
fn c_name(name: &str) -> Result<std::ffi::CString, DpdkError> {
    std::ffi::CString::new(name).map_err(|_| DpdkError::Name(name.to_owned()))
}
