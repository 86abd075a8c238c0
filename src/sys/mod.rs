//! What the machine offers a run: a calibrated counter, cores, memory, CPU time, the wish to stop, and ports that are
//! sockets.
//!
//! Knows nothing of DPDK, and works the same in a build without it. Read [`affinity::cores`]
//! before EAL starts: EAL pins its caller, and every later thread inherits that.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod affinity;
pub mod cpu;
pub mod interface;
pub mod memory;
pub mod packet;
pub mod signals;
pub mod socket;
pub mod socket_port;
pub mod tsc;

use std::time::Duration;

/// Reads one of the kernel's clocks; zero when it has none of that kind.
fn clock(id: libc::clockid_t) -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec to write to; an unknown clock leaves it as it is.
    unsafe { libc::clock_gettime(id, &mut t) };
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}
