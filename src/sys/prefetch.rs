//! Asking for a cache line before it is needed: a hint, never a fault.

/// Starts loading the line at `line` into all cache levels. Any address is allowed, valid or not; nothing is read.
/// Does nothing on processors without such an instruction.
#[inline(always)]
pub fn prefetch(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it neither reads nor faults whatever the address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}
