//! Memory of this process and huge pages of the machine, as Linux tells them. All sizes in bytes.

use std::fs;
use std::path::Path;

/// Memory this process holds. The kernel's figures for ordinary memory may be off by some hundred kilobytes
/// per core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident now (`VmRSS`), huge pages not included.
    pub resident_bytes: u64,
    /// Most that was resident at one time (`VmHWM`), huge pages not included.
    pub resident_bytes_max: u64,
    /// Huge pages mapped now (`HugetlbPages`).
    pub huge_bytes: u64,
}

impl ProcessMemory {
    /// The most ordinary memory that was resident at one time, plus the huge pages mapped now.
    pub fn peak_bytes(&self) -> u64 {
        self.resident_bytes_max + self.huge_bytes
    }
}

/// Huge pages of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// Size of a page.
    pub page_bytes: u64,
    /// Pages the machine has set aside.
    pub total: u64,
    /// Pages of those that nobody uses or has reserved.
    pub free: u64,
}

impl HugePages {
    /// Bytes in free pages.
    pub fn free_bytes(&self) -> u64 {
        self.page_bytes.saturating_mul(self.free)
    }
}

/// What this process holds now; zeroes where the system has no `/proc`. Cost: some 20 us.
pub fn process() -> ProcessMemory {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ProcessMemory {
        resident_bytes: kb_field(&status, "VmRSS:").unwrap_or(0),
        resident_bytes_max: kb_field(&status, "VmHWM:").unwrap_or(0),
        huge_bytes: kb_field(&status, "HugetlbPages:").unwrap_or(0),
    }
}

/// Ordinary memory the machine could still give without swapping (`MemAvailable`); `None` when it does not
/// tell.
pub fn available_bytes() -> Option<u64> {
    kb_field(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// Huge pages of every size the machine knows, smallest size first. Empty without support for huge pages.
pub fn huge_pages() -> Vec<HugePages> {
    huge_pages_under(Path::new("/sys/kernel/mm/hugepages"))
}

fn huge_pages_under(folder: &Path) -> Vec<HugePages> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut sizes: Vec<HugePages> = entries.flatten().filter_map(|e| huge_pages_of(&e.path())).collect();
    sizes.sort_unstable_by_key(|pages| pages.page_bytes);
    sizes
}

/// Reads one folder of the form `hugepages-2048kB`.
fn huge_pages_of(folder: &Path) -> Option<HugePages> {
    let name = folder.file_name()?.to_str()?;
    let kb: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let count = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let free = count("free_hugepages")?.saturating_sub(count("resv_hugepages").unwrap_or(0));
    Some(HugePages { page_bytes: kb * 1024, total: count("nr_hugepages")?, free })
}

/// The number behind `key` in a text of lines `Key:  1234 kB`, as bytes.
fn kb_field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_follows_what_was_touched_and_stays() {
        const BYTES: usize = 64 << 20;
        // Linux counts resident pages per core and sums them lazily.
        const SLACK: u64 = 4 << 20;
        // Other tests share this process and give memory back meanwhile, so only what must hold whatever they
        // do is asked: while the block is held, so much was resident; and the peak never goes down again.
        let touched = std::hint::black_box(vec![1u8; BYTES]);
        let during = process();
        drop(touched);
        assert!(during.resident_bytes + SLACK >= BYTES as u64);
        assert!(during.resident_bytes_max + SLACK >= during.resident_bytes);
        assert!(process().resident_bytes_max + SLACK >= during.resident_bytes_max);
        assert!(available_bytes().unwrap() > 0);
    }

    #[test]
    fn huge_pages_are_read_per_size_without_the_reserved_ones() {
        let folder = tempfile::tempdir().unwrap();
        for (name, total, free, reserved) in
            [("hugepages-1048576kB", 1, 1, 0), ("hugepages-2048kB", 256, 100, 30)]
        {
            let dir = folder.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("nr_hugepages"), format!("{total}\n")).unwrap();
            fs::write(dir.join("free_hugepages"), format!("{free}\n")).unwrap();
            fs::write(dir.join("resv_hugepages"), format!("{reserved}\n")).unwrap();
        }
        fs::create_dir(folder.path().join("something-else")).unwrap();
        let sizes = huge_pages_under(folder.path());
        assert_eq!(
            sizes,
            [
                HugePages { page_bytes: 2 << 20, total: 256, free: 70 },
                HugePages { page_bytes: 1 << 30, total: 1, free: 1 }
            ]
        );
        assert_eq!(sizes[0].free_bytes(), 140 << 20);
        assert!(huge_pages_under(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn fields_of_proc_are_kilobytes() {
        let text = "VmPeak:\t  123 kB\nVmHWM:\t    2048 kB\nBroken:\n";
        assert_eq!(kb_field(text, "VmHWM:"), Some(2 << 20));
        assert_eq!(kb_field(text, "VmRSS:"), None);
        assert_eq!(kb_field(text, "Broken:"), None);
    }
}
