//! Cores of this process, and pinning threads to them.

use std::sync::OnceLock;

use core_affinity::CoreId;

/// Why a thread could not be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "core {core} refused a thread: choose cores this process may use (taskset -p {}, cpuset)",
    std::process::id()
)]
pub struct PinError {
    /// The core asked for.
    pub core: usize,
}

/// Cores this process was given (its affinity mask), in ascending order, as they were when first asked for.
///
/// Ask before EAL starts: afterwards the calling thread, and each thread it makes, may see one core only.
/// Empty when the system does not tell.
pub fn cores() -> &'static [usize] {
    static CORES: OnceLock<Vec<usize>> = OnceLock::new();
    CORES.get_or_init(|| {
        let mut cores: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        cores.sort_unstable();
        cores
    })
}

/// Pins the calling thread to `core`; threads it makes from then on inherit that.
pub fn pin_current(core: usize) -> Result<(), PinError> {
    if core_affinity::set_for_current(CoreId { id: core }) { Ok(()) } else { Err(PinError { core }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_stays_on_its_core_and_others_keep_theirs() {
        let all = cores();
        assert!(!all.is_empty());
        let &last = all.last().unwrap();
        std::thread::spawn(move || {
            pin_current(last).unwrap();
            let now: Vec<usize> = core_affinity::get_core_ids().unwrap().iter().map(|c| c.id).collect();
            assert_eq!(now, [last]);
            assert_eq!(cores(), all, "the list must not shrink once it has been read");
        })
        .join()
        .unwrap();
        assert_eq!(core_affinity::get_core_ids().unwrap().len(), all.len());
    }

    #[test]
    fn a_core_that_does_not_exist_is_refused_by_number() {
        let refused = std::thread::spawn(|| pin_current(1000)).join().unwrap();
        assert_eq!(refused, Err(PinError { core: 1000 }));
        assert!(PinError { core: 1000 }.to_string().starts_with("core 1000 refused"));
    }
}
