//! Frames of streams that the device sends at given times (`RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP`).
//!
//! A worker hands a frame over some hundred nanoseconds after the time it is meant for, now and then microseconds. So each
//! frame is to leave [`LabPort::ahead`] after that time: the worker's lateness is hidden as long as it is less, and all
//! frames of all streams are shifted by the same. Nothing is made before its time, and what the device holds back of a
//! stream is bounded: frames for so long, which no pause can hold any more.
//!
//! Packets of queue pairs have no times of their own and leave as soon as what was handed over before them has, as do ACKs:
//! a queue of the device keeps its order, so that they wait behind frames of streams for up to as long.

use super::port::LabPort;
use super::stamp::Together;
use crate::frame::{Frame, FramePool, Port, TxBatch, flags};
use crate::limits::BURST;
use crate::units::Time;
use crate::wire::template::bth_offset;
use crate::wire::{be32, psn};

// A bit for each frame of a batch.
const _: () = assert!(2 * BURST <= u128::BITS as usize);

/// What a batch was given before it is handed over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    /// Data frames that have a stamp.
    pub stamped: u64,
    /// Frames with a time at which they are to be sent, a bit each in the order in which they leave.
    paced: u128,
    /// When the last frame leaves.
    pub last: Time,
}

impl Given {
    /// Nothing: the device sends all of it at once.
    #[inline]
    pub fn nothing(now: Time) -> Given {
        Given { last: now, ..Given::default() }
    }

    /// How many of the first `sent` frames have a time.
    #[inline]
    pub fn paced_of(&self, sent: usize) -> u64 {
        let first = 1u128.checked_shl(sent as u32).map_or(u128::MAX, |bit| bit - 1);
        u64::from((self.paced & first).count_ones())
    }
}

impl<P: Port, L: FramePool<Frame = P::Frame>> LabPort<P, L> {
    /// Gives frames of streams whose time has not come that time, and takes from all others what earlier uses of their memory
    /// have left; stamps data frames with the time at which they leave.
    #[inline(never)]
    pub(super) fn pace(&mut self, now: Time, batch: &mut TxBatch<P::Frame>) -> Given {
        let mut given = Given::nothing(now);
        let mut together: Option<(Time, Together)> = None;
        for (i, frame) in batch.control.iter_mut().chain(&mut batch.data).enumerate() {
            let m = frame.meta();
            let (data, stream) = (m.flags & flags::DATA != 0, m.flow >= self.streams_from);
            // In the order of the queue.
            let at = (m.intended + self.ahead).max(self.paced_until);
            let tick = (data && stream && at > now).then(|| self.clock.tick_of(at));
            if self.device.send_at(frame, tick) {
                given.paced |= 1u128.checked_shl(i as u32).unwrap_or(0);
                self.paced_until = at;
            }
            given.last = now.max(self.paced_until);
            if let (true, Some(stamps)) = (data, &self.stamps) {
                let head = frame.head();
                if stamps.every().has(be32(head, bth_offset(head) + 8) & psn::MASK) {
                    let same = together.filter(|(at, _)| *at == given.last);
                    let (_, mut burst) = same.unwrap_or_else(|| (given.last, stamps.together(given.last)));
                    given.stamped += u64::from(stamps.write(&mut burst, frame));
                    together = Some((given.last, burst));
                }
                if !stream {
                    self.asked.sent(now, frame);
                }
            }
        }
        given
    }
}
