//! Hints about memory, to the processor and to the kernel: they change how long something takes, never what it does.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]

/// Tables below this size gain nothing from huge pages.
const HUGE_BYTES_MIN: usize = 2 << 20;

/// Starts loading the line at `line` into all cache levels. Any address is allowed, valid or not; nothing is read.
/// Does nothing on processors without such an instruction.
#[inline(always)]
pub fn prefetch<T>(line: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it neither reads nor faults whatever the address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// An empty table for `entries`, which the kernel is asked to keep in huge pages when it is large: a table that is
/// walked in no order misses the TLB once per entry otherwise. Without huge pages it is an ordinary table.
pub fn table<T>(entries: usize) -> Vec<T> {
    let table: Vec<T> = Vec::with_capacity(entries);
    let bytes = table.capacity().saturating_mul(size_of::<T>());
    if bytes >= HUGE_BYTES_MIN {
        advise_huge(table.as_ptr().cast(), bytes);
    }
    table
}

#[cfg(target_os = "linux")]
fn advise_huge(start: *const u8, bytes: usize) {
    const PAGE: usize = 4096;
    let skip = start.align_offset(PAGE);
    let whole = bytes.saturating_sub(skip) / PAGE * PAGE;
    // SAFETY: the range lies inside an allocation of ours, in whole pages; the advice changes no contents, and a kernel
    // that does not take it says so and nothing else.
    unsafe {
        libc::madvise(start.wrapping_add(skip).cast_mut().cast(), whole, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_start: *const u8, _bytes: usize) {}

/// Asks the kernel to gather the small allocations made so far into huge pages: rows of hosts and links that a run meets
/// in no order miss the TLB besides the caches otherwise. Takes a millisecond or two for each hundred megabytes.
pub fn heap_in_huge_pages() {
    #[cfg(target_os = "linux")]
    if let Some((start, bytes)) = std::fs::read_to_string("/proc/self/maps").ok().as_deref().and_then(heap) {
        const MADV_COLLAPSE: libc::c_int = 25; // Linux 6.1
        // SAFETY: the range is a mapping of ours; the advice changes no contents, and a kernel that does not know it or
        // has no huge page left says so and nothing else.
        unsafe {
            libc::madvise(std::ptr::without_provenance_mut(start), bytes, MADV_COLLAPSE);
        }
    }
}

/// Start and size of the heap in a list of mappings as Linux prints it, when it is large.
fn heap(maps: &str) -> Option<(usize, usize)> {
    let range = maps.lines().find(|line| line.ends_with("[heap]"))?.split_ascii_whitespace().next()?;
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let bytes = usize::from_str_radix(end, 16).ok()?.checked_sub(start)?;
    (bytes >= HUGE_BYTES_MIN).then_some((start, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_found_when_it_is_large() {
        let maps = |end: &str| {
            format!(
                "00400000-00800000 r-xp 00000000 fe:00 123   /usr/bin/x\n\
                 01000000-{end} rw-p 00000000 00:00 0   [heap]\n\
                 7ffc00000000-7ffc00400000 rw-p 00000000 00:00 0   [stack]\n"
            )
        };
        assert_eq!(heap(&maps("01400000")), Some((0x0100_0000, 4 << 20)));
        assert_eq!((heap(&maps("01100000")), heap("")), (None, None));
        heap_in_huge_pages();
    }

    #[test]
    fn tables_are_ordinary_vectors_of_any_size() {
        for entries in [0, 1, 1_000, 300_000] {
            let mut t: Vec<u64> = table(entries);
            assert!(t.is_empty() && t.capacity() >= entries);
            t.extend(0..entries as u64);
            assert_eq!(t.iter().sum::<u64>(), (0..entries as u64).sum::<u64>());
            prefetch(t.as_ptr().wrapping_add(entries));
        }
    }
}
