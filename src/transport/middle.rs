//! Packets in the middle of messages, never sent before and in order: most of all packets, and nothing else can happen to
//! them.

use super::qp::Shared;
use super::requester::{Requester, flags};
use crate::units::Time;
use crate::wire::psn;

/// The next packet of a queue pair, when it is such a one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Middle {
    /// PSN.
    pub psn: u32,
    /// Asks for an acknowledgement.
    pub ack_req: bool,
}

impl Requester {
    /// The packet at the cursor, when it is in the middle of its message and new, and a window of so many packets allows
    /// it. As [`Requester::has_work`] and [`Requester::packet`] say.
    #[inline(always)]
    pub fn middle(&self, window: u32, shared: &Shared) -> Option<Middle> {
        let index = psn::sub(self.psn_next, self.msg_psn);
        let in_flight = psn::diff(self.psn_next, self.psn_una);
        let special = flags::FAILED | flags::STALLED | flags::DETOUR | flags::READ;
        let plain = self.cursor != super::messages::NONE
            && self.flags & special == 0
            && self.psn_next == self.psn_max
            && index != 0
            && index + 1 < self.msg_packets
            && in_flight < window as i32;
        plain.then(|| Middle {
            psn: self.psn_next,
            ack_req: self.since_ack_req.saturating_add(1) >= shared.ack_req_every
                || shared.ask_window && in_flight + 1 >= shared.window as i32,
        })
    }

    /// It has been handed over, as [`Requester::sent`]. Says whether another packet may go out.
    #[inline(always)]
    pub fn sent_middle(&mut self, now: Time, ack_req: bool, window: u32) -> bool {
        if self.psn_una == self.psn_max {
            self.progress = now;
        }
        self.psn_next = psn::add(self.psn_next, 1);
        self.psn_max = self.psn_next;
        self.since_ack_req = if ack_req { 0 } else { self.since_ack_req.saturating_add(1) };
        psn::diff(self.psn_next, self.psn_una) < window as i32
    }
}
