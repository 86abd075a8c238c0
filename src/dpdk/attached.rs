//! What is attached: a device of DPDK, open until the last port of it goes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::MbufPool;
use super::cable::LoopCable;
use super::ethdev::FlowControl;

/// Longest wait for DPDK's interrupt thread when a port is closed.
const SETTLE_MS_MAX: u32 = 500;

/// A device that is closed and removed when this is dropped.
#[derive(Debug)]
pub(super) struct Attached {
    id: u16,
    rules: AtomicBool,
    /// Link-level flow control as it was found, where we have set it.
    flow_before: Mutex<Option<FlowControl>>,
    /// Both outlive the device.
    _rx_pool: MbufPool,
    _cable: Option<LoopCable>,
}

impl Attached {
    pub fn new(id: u16, rx: MbufPool, cable: Option<LoopCable>) -> Attached {
        Attached {
            id,
            rules: AtomicBool::new(false),
            flow_before: Mutex::new(None),
            _rx_pool: rx,
            _cable: cable,
        }
    }

    /// Flow control was `before` we set it; the first one counts.
    pub fn flow_was(&self, before: FlowControl) {
        self.flow_before.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(before);
    }

    /// Rules have been made.
    pub fn has_rules(&self) {
        self.rules.store(true, Ordering::Relaxed);
    }

    /// Removes every rule that was made.
    pub fn forget_rules(&self) {
        if self.rules.swap(false, Ordering::Relaxed) {
            // SAFETY: the port is open. What a device keeps in spite of it goes when it is closed.
            unsafe { dpdk_sys::rs_eth_forget_rules(self.id) };
        }
    }
}

/// Ports are closed one at a time: DPDK's list of devices has no lock of its own for that.
static CLOSING: Mutex<()> = Mutex::new(());

impl Drop for Attached {
    fn drop(&mut self) {
        let _one_at_a_time = CLOSING.lock().unwrap_or_else(PoisonError::into_inner);
        self.forget_rules();
        let before = self.flow_before.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        // SAFETY: the port is open and nobody uses it any more; its device goes with it. Flow control goes back as it came:
        // there is nobody to tell when it refuses. Frames it held go back to their pools, which `_rx_pool` and the caller's
        // clones keep alive.
        unsafe {
            if let Some(before) = before {
                dpdk_sys::rs_eth_set_flow_control(self.id, before as i32, 0);
            }
            dpdk_sys::rte_eth_dev_stop(self.id);
            dpdk_sys::rs_eth_detach(self.id);
        }
        settle();
    }
}

/// Rounds of DPDK's interrupt thread since the start.
static ROUNDS: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn count_round(_: *mut std::ffi::c_void) {
    ROUNDS.fetch_add(1, Ordering::Release);
}

/// Waits until DPDK's interrupt thread has seen what happened before. Closing a memif makes that thread tear down the
/// other end, without a lock: closing that one as well meanwhile crashes the process (DPDK 22.11).
fn settle() {
    // Twice: the first round may have begun before.
    for _ in 0..2 {
        let before = ROUNDS.load(Ordering::Acquire);
        // SAFETY: EAL runs; the callback is a function that stays and ignores its argument.
        if unsafe { dpdk_sys::rte_eal_alarm_set(1, count_round, std::ptr::null_mut()) } != 0 {
            return;
        }
        for _ in 0..SETTLE_MS_MAX {
            if ROUNDS.load(Ordering::Acquire) != before {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
