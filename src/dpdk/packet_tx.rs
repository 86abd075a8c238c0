//! The transmit queue of a packet socket: frames go to the kernel by a socket of ours, past DPDK's driver, which receives.
//!
//! See [`crate::sys::packet`] for why, and for what the kernel says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrayvec::ArrayVec;

use super::MbufFrame;
use crate::sys::interface::Interface;
use crate::sys::packet::{PacketSender, Unsent};

/// What a queue has sent, as a device would count it. Written by its worker, read by all.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Books {
    pub frames: AtomicU64,
    pub bytes: AtomicU64,
    /// Frames that were taken and not sent.
    pub lost: AtomicU64,
    /// Why the first of them was.
    pub why: OnceLock<String>,
}

/// One queue.
#[derive(Debug)]
pub(super) struct PacketTx {
    sender: PacketSender,
    pub books: Arc<Books>,
}

impl PacketTx {
    /// A queue that sends on this interface. The error says why it cannot be.
    pub fn open(interface: &str) -> Result<PacketTx, String> {
        let interface = Interface::find(interface).map_err(|e| e.to_string())?;
        let sender = PacketSender::open(&interface)
            .map_err(|e| format!("no packet socket ({e}); may this user open one (CAP_NET_RAW)?"))?;
        Ok(PacketTx { sender, books: Arc::default() })
    }

    /// Takes frames from the front, as a device does, and returns how many. They are sent, or lost and counted.
    #[inline]
    pub fn send<const N: usize>(&mut self, frames: &mut ArrayVec<MbufFrame, N>) -> usize {
        let mut taken = 0;
        while taken < frames.len() {
            match self.sender.send(frames[taken..].iter().map(MbufFrame::bytes)) {
                Ok(sent) => {
                    taken += sent.frames;
                    self.books.frames.fetch_add(sent.frames as u64, Ordering::Relaxed);
                    self.books.bytes.fetch_add(sent.bytes, Ordering::Relaxed);
                }
                Err(Unsent::Refused) => break,
                Err(Unsent::Lost(error)) => taken += self.lose(error, &frames[taken..=taken]),
                Err(Unsent::Unplugged(error)) => taken += self.lose(error, &frames[taken..]),
            }
        }
        MbufFrame::give_back(frames, taken);
        taken
    }

    #[cold]
    fn lose(&self, error: i32, frames: &[MbufFrame]) -> usize {
        self.books.lost.fetch_add(frames.len() as u64, Ordering::Relaxed);
        let bytes = frames.first().map_or(0, |f| f.bytes().len());
        self.books.why.get_or_init(|| self.sender.why(error, bytes));
        frames.len()
    }
}
