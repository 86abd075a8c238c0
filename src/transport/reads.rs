//! The requester's side of RDMA READ.
//!
//! A READ takes as many PSNs as its answer has packets; the request goes out with the first of them, and the responses
//! carry them. Only a response acknowledges a PSN of a READ: an ACK that lies behind one, or a response that does,
//! tells that responses were lost (implied NAK), and what is missing is asked for again by a READ request for the rest,
//! with the PSN of the first missing response. Source: IBTA volume 1, 9.4.4 and 9.7.5.1, and what rxe does.

use super::messages::{Message, Messages, NONE};
use super::qp::Shared;
use super::requester::{Requester, flags};
use crate::units::Time;
use crate::wire::opcode::Opcode;
use crate::wire::psn;

/// PSNs in flight at most: half the space, so that they compare.
pub const PSNS_MAX: u32 = (1 << 23) - 1;

/// The request that is to be sent for the READ at the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// PSN of the request and of its first response.
    pub psn: u32,
    /// Bytes of the message that are here already.
    pub offset: u32,
    /// Bytes asked for.
    pub bytes: u32,
    /// Something of this message was asked for before.
    pub again: bool,
    /// Tag of the message.
    pub tag: u32,
    /// When the message's dependencies were met.
    pub intended: Time,
    /// The message.
    pub message: u32,
}

/// What a READ response is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// The one that is expected.
    New,
    /// It was here before.
    Duplicate,
    /// This PSN is expected first.
    Gap(u32),
    /// Nothing was asked for under this PSN.
    Stray,
    /// Its place or its length is not what was asked for.
    Malformed,
}

impl Requester {
    /// The request for what is missing of the READ at the cursor. Changes nothing. `None` while its PSNs would not be
    /// told apart from those in flight.
    pub fn read_request(&self, shared: &Shared) -> Option<ReadRequest> {
        let end = psn::add(self.msg_psn, self.msg_packets);
        if psn::sub(end, self.psn_una) > PSNS_MAX {
            return None;
        }
        let offset = psn::sub(self.psn_next, self.msg_psn) * u32::from(shared.mtu);
        Some(ReadRequest {
            psn: self.psn_next,
            offset,
            bytes: self.msg_bytes.saturating_sub(offset),
            again: psn::before(self.psn_next, self.psn_max),
            tag: self.msg_tag,
            intended: self.msg_intended,
            message: self.cursor,
        })
    }

    /// The request has been handed over: moves on to what follows the READ.
    pub fn read_sent(&mut self, now: Time, r: &ReadRequest, messages: &Messages, shared: &Shared) {
        if !self.outstanding() {
            self.progress = now;
        }
        self.psn_next = psn::add(self.msg_psn, self.msg_packets);
        if !r.again {
            self.psn_max = self.psn_next;
        }
        self.since_ack_req = 0;
        self.flags |= flags::READS_OUT;
        if self.flags & flags::DETOUR != 0 {
            self.rejoin(messages, shared);
        } else {
            self.seek(messages.get(self.cursor).next, messages, shared);
        }
    }

    /// The first READ that is not complete and starts before `psn`. Cost: the messages before it.
    fn first_read<'m>(&self, upto: u32, messages: &'m Messages) -> Option<&'m Message> {
        let mut at = self.head;
        while at != NONE {
            let m = messages.get(at);
            if !psn::before(m.psn_first, upto) {
                return None;
            }
            if m.read {
                return Some(m);
            }
            at = m.next;
        }
        None
    }

    /// How far an acknowledgement of every PSN before `upto` counts: not into a READ, whose responses must arrive.
    pub fn reach(&self, upto: u32, messages: &Messages) -> u32 {
        if self.flags & flags::READS_OUT == 0 {
            return upto;
        }
        match self.first_read(upto, messages).map(|m| self.missing(m)) {
            Some(missing) if psn::before(missing, upto) => missing,
            _ => upto,
        }
    }

    /// `upto` lies beyond everything that was sent.
    pub fn is_ahead(&self, upto: u32) -> bool {
        psn::diff(upto, self.psn_max) > 0
    }

    /// First PSN of a READ without its response.
    fn missing(&self, m: &Message) -> u32 {
        if psn::before(m.psn_first, self.psn_una) { self.psn_una } else { m.psn_first }
    }

    /// What a READ response with this PSN, opcode and payload is. Changes nothing.
    pub fn response(
        &self,
        at: u32,
        opcode: Opcode,
        payload_len: u16,
        messages: &Messages,
        shared: &Shared,
    ) -> Response {
        if self.flags & flags::READS_OUT == 0 || psn::diff(at, self.psn_max) >= 0 {
            return Response::Stray;
        }
        if psn::before(at, self.psn_una) {
            return Response::Duplicate;
        }
        let Some(m) = self.first_read(psn::add(at, 1), messages) else { return Response::Stray };
        let expected = self.missing(m);
        if at != expected {
            return Response::Gap(expected);
        }
        let index = psn::sub(at, m.psn_first);
        let last = index + 1 == m.packets;
        let rest = m.bytes - index * u32::from(shared.mtu);
        match opcode.ends_message() == last && u32::from(payload_len) == rest.min(shared.mtu.into()) {
            true => Response::New,
            false => Response::Malformed,
        }
    }

    /// The READ whose response has this PSN, and the offset of that response in it.
    pub fn reading<'m>(
        &self,
        at: u32,
        messages: &'m Messages,
        shared: &Shared,
    ) -> Option<(&'m Message, u32)> {
        let m = self.first_read(psn::add(at, 1), messages)?;
        Some((m, psn::sub(at, m.psn_first) * u32::from(shared.mtu)))
    }

    /// Responses were lost: takes a retry and goes back to the first that is missing, which is the oldest PSN without
    /// an acknowledgement. False when no retry is left.
    pub fn implied_nak(&mut self, now: Time, shared: &Shared) -> bool {
        self.progress = now;
        self.take_retry(shared)
    }
}
