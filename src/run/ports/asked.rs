//! Round trips: from a packet that asks for an acknowledgement to that acknowledgement.
//!
//! One packet at a time of every queue pair is timed: the oldest with AckReq that is not answered. The far end answers such
//! a packet at once, so the time is that of the network both ways and of the far end, not of its coalescing. What is sent
//! again is not timed, as nobody can tell which of the two is acknowledged (RFC 6298, 3).

use super::seen::DELAY_NS_MAX;
use crate::frame::{Frame, flags};
use crate::measure::distribution::Distribution;
use crate::transport::config::QPN_FIRST;
use crate::units::Time;
use crate::wire::template::bth_offset;
use crate::wire::{be32, psn};

/// A packet that is timed.
#[derive(Clone, Copy, Debug)]
struct Packet {
    /// `NEVER`: none is.
    at: Time,
    psn: u32,
    class: u8,
}

const NONE: Packet = Packet { at: Time::NEVER, psn: 0, class: 0 };

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// By queue pair.
    packets: Vec<Packet>,
    /// By class, nanoseconds.
    round_trip_ns: Vec<Distribution<u32>>,
}

impl Asked {
    /// Makes room for so many queue pairs and classes.
    pub fn new(queue_pairs: usize, classes: usize) -> Asked {
        let round_trip_ns = (0..classes).map(|_| Distribution::new(DELAY_NS_MAX, 3)).collect();
        Asked { packets: vec![NONE; queue_pairs], round_trip_ns }
    }

    /// Round trips count from now on: those of the warm-up, and of what is on its way, do not.
    pub fn mark(&mut self) {
        *self = Asked::new(self.packets.len(), self.round_trip_ns.len());
    }

    /// A data packet of a queue pair is handed over.
    #[inline(always)]
    pub fn sent<F: Frame>(&mut self, now: Time, frame: &F) {
        let (head, meta) = (frame.head(), frame.meta());
        let word = be32(head, bth_offset(head) + 8);
        let again = meta.flags & flags::RETRANSMITTED != 0;
        if word >> 31 == 0 && !again {
            return;
        }
        let Some(packet) = self.packets.get_mut(meta.flow as usize) else { return };
        if again {
            *packet = NONE;
        } else if packet.at == Time::NEVER {
            *packet = Packet { at: now, psn: word & psn::MASK, class: meta.class };
        }
    }

    /// An ACK of this PSN came in to a queue pair, or, not `positive`, a NAK.
    #[inline]
    pub fn answered(&mut self, now: Time, dest_qp: u32, psn: u32, positive: bool) {
        let Some(packet) = self.packets.get_mut(dest_qp.wrapping_sub(QPN_FIRST) as usize) else { return };
        if packet.at == Time::NEVER || positive && psn::before(psn, packet.psn) {
            return;
        }
        let Packet { at, class, .. } = std::mem::replace(packet, NONE);
        if let Some(d) = self.round_trip_ns.get_mut(usize::from(class)).filter(|_| positive) {
            d.record(now.since(at).0 / 1_000);
        }
    }

    /// Round trips by class, nanoseconds.
    pub fn round_trip_ns(&self) -> &[Distribution<u32>] {
        &self.round_trip_ns
    }
}
