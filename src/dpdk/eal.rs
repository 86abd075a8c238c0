//! The environment abstraction layer: DPDK's memory and threads, started once per process.

use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::{DpdkError, last_error};
use crate::sys::{affinity, memory};

const MIB: u64 = 1 << 20;

/// What EAL itself takes and what its heap loses between blocks, on top of what callers ask for.
const fn with_overhead(bytes: u64) -> u64 {
    bytes + bytes / 16 + 24 * MIB
}

/// What a run needs of EAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EalOptions {
    /// Memory for pools and rings: the sum of [`super::PoolSpec::memory_bytes`] and
    /// [`super::FrameRing::memory_bytes`].
    pub memory_bytes: u64,
    /// Leave huge pages alone even when enough are free.
    pub no_huge: bool,
    /// NICs will be attached: look at the PCI bus.
    pub pci: bool,
    /// Another process is to see our memory (vhost-user): it is handed over file by file, and takes eight at most.
    pub shared: bool,
}

/// Where EAL's memory comes from. Ordinary pages cost about a fifth of the frame rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Huge pages: enough were free.
    HugePages,
    /// Ordinary pages; the amount is fixed at the start.
    Ordinary,
}

/// DPDK, started. There is one for the life of the process.
#[derive(Debug)]
pub struct Eal {
    kind: MemoryKind,
    memory_bytes: u64,
    arguments: Vec<String>,
}

static EAL: OnceLock<Eal> = OnceLock::new();

/// How many threads are lcores by [`Eal::register_thread`]. Held while a pool decides whether it may be
/// freed.
static REGISTERED: Mutex<usize> = Mutex::new(0);

/// DPDK's name and version ("DPDK 22.11.11"); needs no EAL.
pub fn version() -> String {
    // SAFETY: returns a constant terminated string.
    unsafe { CStr::from_ptr(dpdk_sys::rte_version()) }.to_string_lossy().into_owned()
}

/// True when the calling thread is an lcore: EAL's main thread, or registered.
pub fn is_lcore() -> bool {
    lcore() != dpdk_sys::LCORE_ID_ANY
}

fn lcore() -> u32 {
    // SAFETY: reads a thread-local.
    unsafe { dpdk_sys::rs_lcore_id() }
}

/// Takes the count of registered threads; nobody can register while it is held.
fn registered() -> MutexGuard<'static, usize> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f` while the calling thread is the only lcore and stays so; `None` when there are others.
pub(super) fn while_only_lcore<R>(f: impl FnOnce() -> R) -> Option<R> {
    let count = registered();
    let main = lcore() == 0;
    (main && *count == 0).then(f)
}

impl Eal {
    /// Starts EAL, or returns the one that runs when it holds enough memory. Call it on the main thread: it
    /// becomes lcore 0 and may keep running on every core of the process.
    ///
    /// Takes huge pages when as many as needed are free, else ordinary memory ([`Eal::memory_kind`] tells).
    /// Touches no device and leaves no file. Takes 0.15 to 0.4 s, most of it for loading drivers.
    pub fn init(options: EalOptions) -> Result<&'static Eal, DpdkError> {
        static STARTING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let needed = with_overhead(options.memory_bytes);
        if let Some(eal) = EAL.get() {
            return if eal.kind == MemoryKind::HugePages || needed <= eal.memory_bytes {
                Ok(eal)
            } else {
                Err(DpdkError::Fixed { held_mib: eal.memory_bytes / MIB, needed_mib: needed / MIB })
            };
        }
        let huge_free: u64 = memory::huge_pages().iter().map(memory::HugePages::free_bytes).sum();
        let kind = if !options.no_huge && huge_free >= needed {
            MemoryKind::HugePages
        } else {
            MemoryKind::Ordinary
        };
        if let (MemoryKind::Ordinary, Some(available)) = (kind, memory::available_bytes())
            && needed > available
        {
            return Err(DpdkError::Memory { needed_mib: needed / MIB, available_mib: available / MIB });
        }
        let arguments = arguments(kind, needed, &options, affinity::cores());
        start(&arguments)?;
        Ok(EAL.get_or_init(|| Eal { kind, memory_bytes: needed, arguments }))
    }

    /// The EAL that runs.
    pub fn get() -> Result<&'static Eal, DpdkError> {
        EAL.get().ok_or(DpdkError::NotStarted)
    }

    /// Where its memory comes from.
    pub fn memory_kind(&self) -> MemoryKind {
        self.kind
    }

    /// What it was started with.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Makes the calling thread an lcore until the guard is dropped, so that pools keep a cache for it. A
    /// thread that already is one gets a guard that does nothing. Affinity stays as it is.
    pub fn register_thread(&self) -> Result<ThreadGuard, DpdkError> {
        let mut count = registered();
        if is_lcore() {
            return Ok(ThreadGuard { registered: false, _stays_on_its_thread: PhantomData });
        }
        // SAFETY: EAL runs (`self` proves it) and this thread is not an lcore yet.
        if unsafe { dpdk_sys::rte_thread_register() } != 0 {
            return Err(DpdkError::Thread(last_error()));
        }
        *count += 1;
        Ok(ThreadGuard { registered: true, _stays_on_its_thread: PhantomData })
    }
}

/// Keeps a thread registered with EAL; see [`Eal::register_thread`].
#[derive(Debug)]
pub struct ThreadGuard {
    registered: bool,
    _stays_on_its_thread: PhantomData<*const ()>,
}

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        if self.registered {
            let mut count = registered();
            // SAFETY: this very thread was registered (the guard is not Send), and only once.
            unsafe { dpdk_sys::rte_thread_unregister() };
            *count -= 1;
        }
    }
}

/// EAL's command line.
fn arguments(kind: MemoryKind, bytes: u64, options: &EalOptions, cores: &[usize]) -> Vec<String> {
    let mib = bytes.div_ceil(MIB).to_string();
    let prefix = format!("rankstorm-{}", std::process::id());
    // Only errors, no devices, no socket for telemetry, virtual addresses for devices.
    let mut list = vec!["rankstorm", "--log-level=error", "--no-telemetry", "--iova-mode=va"];
    match options.pci {
        // An allow list that names no NIC: EAL touches none by itself, and those of the profile are attached later.
        true => list.extend(["-a", "0000:00:00.0"]),
        false => list.push("--no-pci"),
    }
    match kind {
        // No mounted hugetlbfs needed, and no file left behind, even after a kill.
        MemoryKind::HugePages => {
            list.extend(["--in-memory", "-m", &mib]);
            if options.shared {
                // One file for all pages instead of one for each.
                list.push("--single-file-segments");
            }
        }
        // DPDK 22.11 refuses --in-memory here; this leaves an empty folder, which `start` removes.
        MemoryKind::Ordinary => {
            list.extend(["--no-huge", "--no-shconf", "-m", &mib, "--file-prefix", &prefix])
        }
    }
    let mut list: Vec<String> = list.into_iter().map(str::to_owned).collect();
    if !cores.is_empty() {
        // One lcore that floats over all cores: otherwise EAL pins its caller, and later threads inherit
        // that.
        let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
        list.extend(["--lcores".to_owned(), format!("0@({})", cores.join(","))]);
    }
    list
}

fn start(arguments: &[String]) -> Result<(), DpdkError> {
    let strings: Result<Vec<CString>, DpdkError> = arguments.iter().map(|a| super::c_name(a)).collect();
    // EAL keeps pointers into its arguments for good.
    let mut argv: Vec<*mut c_char> = strings?.into_iter().map(CString::into_raw).collect();
    let argc = i32::try_from(argv.len()).unwrap_or(i32::MAX);
    argv.push(std::ptr::null_mut());
    // SAFETY: `argv` holds `argc` terminated strings and a null, all leaked; EAL was not started before, as
    // `init` is the only caller, one at a time, and returns early once it has succeeded.
    let parsed = unsafe { dpdk_sys::rte_eal_init(argc, argv.leak().as_mut_ptr()) };
    if parsed < 0 {
        return Err(DpdkError::Init { reason: last_error(), arguments: arguments.join(" ") });
    }
    // SAFETY: EAL runs; the path is a terminated string that stays.
    let folder = unsafe { CStr::from_ptr(dpdk_sys::rte_eal_get_runtime_dir()) };
    // Only an empty folder can be removed this way, and EAL without shared files needs none.
    let _ = std::fs::remove_dir(&*folder.to_string_lossy());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_leaves_nothing_behind_and_pins_nobody() {
        let (alone, nic) =
            (EalOptions::default(), EalOptions { pci: true, shared: true, ..EalOptions::default() });
        let huge = arguments(MemoryKind::HugePages, 100 * MIB + 1, &alone, &[0, 1, 5]).join(" ");
        assert!(huge.contains("--in-memory -m 101") && huge.ends_with("--lcores 0@(0,1,5)"), "{huge}");
        let plain = arguments(MemoryKind::Ordinary, 64 * MIB, &nic, &[]).join(" ");
        assert!(plain.contains("--no-huge --no-shconf -m 64 --file-prefix rankstorm-"), "{plain}");
        assert!(huge.contains("--no-pci") && !plain.contains("--no-pci"), "{plain}");
        // Ordinary memory is one file already, and the flag is for huge pages alone.
        let lent = arguments(MemoryKind::HugePages, MIB, &nic, &[]).join(" ");
        assert!(lent.contains("--single-file-segments"), "{lent}");
        assert!(!(huge + &plain).contains("single-file"), "{plain}");
    }

    #[test]
    fn without_eal_everything_says_so() {
        // No unit test of this crate starts EAL; tests/dpdk.rs does, in a process of its own.
        assert_eq!(Eal::get().unwrap_err(), DpdkError::NotStarted);
        let all = EalOptions { memory_bytes: 1 << 50, ..EalOptions::default() };
        let error = Eal::init(all).unwrap_err().to_string();
        assert!(error.starts_with("frames need 11408") && error.contains("are available"), "{error}");
        assert!(!is_lcore());
        assert!(version().starts_with("DPDK "), "{}", version());
    }
}
