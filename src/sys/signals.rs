//! Ctrl-C and SIGTERM: the first asks a run to end and report what it has, the second ends the process at
//! once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use super::tsc::ticks;

/// A wish to stop that every worker polls. Clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>, Arc<AtomicU64>);

impl StopFlag {
    /// A flag nobody has raised and no signal raises.
    pub fn new() -> StopFlag {
        StopFlag::default()
    }

    /// A flag raised by the first SIGINT or SIGTERM; a further one ends the process at once with exit code
    /// 130 or 143 (128 + signal, as shells report it). Signals that come after [`StopFlag::raise`] also end
    /// it at once.
    pub fn on_signals() -> io::Result<StopFlag> {
        let stop = StopFlag::new();
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the exit looks at the flag before this signal raises it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop.0))?;
            let at = Arc::clone(&stop.1);
            let note = move || {
                let _ = at.compare_exchange(0, ticks(), Ordering::Relaxed, Ordering::Relaxed);
            };
            // SAFETY: the handler reads a counter and stores it; nothing else.
            unsafe { low_level::register(signal, note)? };
            flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// Ticks of the time stamp counter when it was raised; `None` before that.
    pub fn raised_at(&self) -> Option<u64> {
        Some(self.1.load(Ordering::Relaxed)).filter(|t| *t > 0)
    }

    /// Asks everyone to stop.
    pub fn raise(&self) {
        let _ = self.1.compare_exchange(0, ticks(), Ordering::Relaxed, Ordering::Relaxed);
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once someone has asked to stop. Cost: one relaxed load.
    #[inline]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Set in the child process that [`the_first_signal_asks_and_the_second_exits`] starts.
    const CHILD: &str = "RANKSTORM_TEST_SIGNALS";

    #[test]
    fn clones_share_the_flag() {
        let stop = StopFlag::new();
        let seen = stop.clone();
        assert!(!seen.is_raised());
        stop.raise();
        assert!(seen.is_raised());
    }

    #[test]
    fn the_first_signal_asks_and_the_second_exits() {
        if let Ok(signal) = std::env::var(CHILD) {
            let signal = signal.parse().unwrap();
            let stop = StopFlag::on_signals().unwrap();
            signal_hook::low_level::raise(signal).unwrap();
            assert!(stop.is_raised(), "the first signal must only ask");
            signal_hook::low_level::raise(signal).unwrap();
            unreachable!("the second signal must end the process");
        }
        let name = "sys::signals::tests::the_first_signal_asks_and_the_second_exits";
        for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)] {
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name, "--nocapture"])
                .env(CHILD, signal.to_string())
                .output()
                .unwrap();
            assert_eq!(child.status.code(), Some(code), "{}", String::from_utf8_lossy(&child.stderr));
        }
    }
}
