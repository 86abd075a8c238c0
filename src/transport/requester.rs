//! The sending side of a reliable connection: segmentation, PSNs, acknowledgement, go-back-N and retries.
//!
//! Source: IBTA volume 1, 9.7 (reliable service) and what the Linux kernel's rxe does with it.

use super::config::Verb;
use super::messages::{Message, Messages, NONE};
use super::qp::Shared;
use crate::units::Time;
use crate::wire::opcode::Opcode;
use crate::wire::psn;

/// Requester state: one cache line. PSNs have 24 bits.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Requester {
    /// Next PSN to send; behind `psn_max` while going back.
    pub(super) psn_next: u32,
    /// Oldest PSN not acknowledged.
    pub(super) psn_una: u32,
    /// First PSN never sent.
    pub(super) psn_max: u32,
    /// First PSN of the message at the cursor, and its packets, bytes and tag.
    pub(super) msg_psn: u32,
    pub(super) msg_packets: u32,
    pub(super) msg_bytes: u32,
    pub(super) msg_tag: u32,
    /// Oldest message not acknowledged, and the message being sent ([`NONE`] when all is sent).
    pub(super) head: u32,
    pub(super) cursor: u32,
    /// Fold of the addresses frames for us carry.
    pub addr: u32,
    /// Packets since AckReq was last set.
    pub(super) since_ack_req: u16,
    /// Payload bytes of the last packet of the message at the cursor.
    last_bytes: u16,
    /// Number of our [`Shared`].
    pub profile: u16,
    /// Bits of [`flags`].
    pub flags: u8,
    retries: Retries,
    pub(super) msg_intended: Time,
    /// When the ACK timeout last began anew.
    pub(super) progress: Time,
}

/// Retries left: after loss in the lower half, for a receiver that is not ready in the upper.
#[derive(Clone, Copy, Debug)]
struct Retries(u8);

impl Retries {
    #[inline]
    fn full(shared: &Shared) -> Retries {
        Retries(shared.retry_count | shared.rnr_retry << 4)
    }
    /// Takes one after a loss; false when none is left.
    ///
    /// In plain branches on purpose: rustc 1.95 (LLVM 22) drops the store of `self.0 -= u8::from(some)` from optimised
    /// builds. The stage "optimised tests" of tools/test is there to find the like.
    fn take(&mut self) -> bool {
        if self.0 & 0xf == 0 {
            return false;
        }
        self.0 -= 1;
        true
    }
    /// Takes one for a receiver that is not ready; 7 of them never end.
    fn take_rnr(&mut self) -> bool {
        let left = self.0 >> 4;
        self.0 -= if (1..7).contains(&left) { 0x10 } else { 0 };
        left != 0
    }
}

/// Bits of [`Requester::flags`].
pub mod flags {
    /// Out of retries or refused: sends nothing any more.
    pub const FAILED: u8 = 1;
    /// Stands in a list of those who may send.
    pub const READY: u8 = 2;
    /// Waits in the wheel for its pace.
    pub const PACED: u8 = 4;
    /// The ACK timer is set.
    pub const TIMER: u8 = 8;
    /// Selective repeat: one packet is sent again, then the rest goes on where it was.
    pub const DETOUR: u8 = 16;
    /// The message at the cursor is a READ ([`super::super::reads`]).
    pub const READ: u8 = 32;
    /// The message at the cursor waits for an acknowledgement or a response before it may start.
    pub const STALLED: u8 = 64;
    /// READ requests are on their way or being answered.
    pub const READS_OUT: u8 = 128;
}

/// The next packet to send, as the cursor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Opcode.
    pub opcode: Opcode,
    /// PSN.
    pub psn: u32,
    /// Asks for an acknowledgement.
    pub ack_req: bool,
    /// Payload bytes, without pad.
    pub payload_len: u16,
    /// Pad bytes 0..4.
    pub pad: u8,
    /// The packet was sent before.
    pub again: bool,
    /// First packet of its message.
    pub first: bool,
    /// Last packet of its message.
    pub last: bool,
    /// Bytes of the whole message.
    pub msg_bytes: u32,
    /// Tag of the message.
    pub tag: u32,
    /// When the message's dependencies were met.
    pub intended: Time,
    /// The message.
    pub message: u32,
}

/// What an ACK timer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// Nothing is outstanding: the timer stays off.
    Idle,
    /// There was progress: look again at this time.
    Later(Time),
    /// Timed out and gone back.
    Retry,
    /// Timed out and no retry left.
    Exceeded,
}

impl Requester {
    /// Nothing to send; the first packet gets `psn_first`.
    pub fn new(psn_first: u32, profile: u16, shared: &Shared, addr: u32) -> Requester {
        let psn_first = psn_first & psn::MASK;
        Requester {
            psn_next: psn_first,
            psn_una: psn_first,
            psn_max: psn_first,
            msg_psn: psn_first,
            msg_packets: 0,
            msg_bytes: 0,
            msg_tag: 0,
            head: NONE,
            cursor: NONE,
            addr,
            since_ack_req: 0,
            last_bytes: 0,
            profile,
            flags: 0,
            retries: Retries::full(shared),
            msg_intended: Time::ZERO,
            progress: Time::ZERO,
        }
    }

    /// A packet can go out as far as messages and a window of so many packets are concerned.
    #[inline]
    pub fn has_work(&self, window: u32) -> bool {
        self.cursor != NONE
            && self.flags & (flags::FAILED | flags::STALLED) == 0
            && psn::diff(self.psn_next, self.psn_una) < window as i32
    }

    /// Packets are sent and not acknowledged.
    #[inline]
    pub fn outstanding(&self) -> bool {
        self.psn_una != self.psn_max
    }

    /// The next packet was never sent before; its PSN.
    pub fn fresh(&self) -> Option<u32> {
        (self.psn_next == self.psn_max).then_some(self.psn_next)
    }

    /// Gone back, and nothing sent again yet.
    pub fn rewound(&self) -> bool {
        self.psn_next == self.psn_una && self.outstanding()
    }

    /// Every PSN before this is acknowledged.
    pub fn acknowledged(&self) -> u32 {
        self.psn_una
    }

    /// No message is queued or outstanding.
    #[inline]
    pub fn idle(&self) -> bool {
        self.head == NONE
    }

    /// Oldest message not acknowledged; [`NONE`] when there is none.
    #[inline]
    pub fn oldest(&self) -> u32 {
        self.head
    }

    /// Oldest PSN not acknowledged.
    pub fn oldest_psn(&self) -> u32 {
        self.psn_una
    }

    /// Packets sent since an acknowledgement was last asked for.
    #[inline]
    pub fn since_ack_req(&self) -> u16 {
        self.since_ack_req
    }

    /// First PSN of the message at the cursor.
    #[inline]
    pub fn message_psn(&self) -> u32 {
        self.msg_psn
    }

    /// When the dependencies of the message at the cursor were met.
    #[inline]
    pub fn intended(&self) -> Time {
        self.msg_intended
    }

    /// The queue pair has failed.
    #[inline]
    pub fn failed(&self) -> bool {
        self.flags & flags::FAILED != 0
    }

    /// Takes note of a message that was linked behind the others of this queue pair.
    pub fn posted(&mut self, at: u32, messages: &Messages, shared: &Shared) {
        if self.head == NONE {
            self.head = at;
        }
        if self.cursor == NONE {
            self.seek(at, messages, shared);
        }
    }

    /// The packet at the cursor. Call only while [`Requester::has_work`]; changes nothing.
    #[inline]
    pub fn packet(&self, shared: &Shared) -> Packet {
        use Opcode::*;
        let index = psn::sub(self.psn_next, self.msg_psn);
        let (first, last) = (index == 0, index + 1 == self.msg_packets);
        let opcode = match (shared.verb, first, last) {
            (Verb::UdSend, _, _) => UdSendOnlyImm,
            (Verb::Send, true, true) => RcSendOnlyImm,
            (Verb::Send, true, false) => RcSendFirst,
            (Verb::Send, false, true) => RcSendLastImm,
            (Verb::Send, false, false) => RcSendMiddle,
            (Verb::Write | Verb::Read, true, true) => RcWriteOnly,
            (Verb::WriteImm, true, true) => RcWriteOnlyImm,
            (Verb::Write | Verb::Read, false, true) => RcWriteLast,
            (Verb::WriteImm, false, true) => RcWriteLastImm,
            (_, true, false) => RcWriteFirst,
            (_, false, false) => RcWriteMiddle,
        };
        let payload_len = if last { self.last_bytes } else { shared.mtu };
        Packet {
            opcode,
            psn: self.psn_next,
            ack_req: last && shared.ask_last
                || self.since_ack_req.saturating_add(1) >= shared.ack_req_every
                || self.flags & flags::DETOUR != 0
                || shared.ask_window && self.fills_window(shared),
            payload_len,
            pad: (payload_len.wrapping_neg() & 3) as u8,
            again: psn::before(self.psn_next, self.psn_max),
            first,
            last,
            msg_bytes: self.msg_bytes,
            tag: self.msg_tag,
            intended: self.msg_intended,
            message: self.cursor,
        }
    }

    /// The packet at the cursor is the last that the window allows.
    fn fills_window(&self, shared: &Shared) -> bool {
        psn::diff(self.psn_next, self.psn_una) + 1 >= shared.window as i32
    }

    /// The next packet asks for an acknowledgement whatever came before it.
    pub fn ask(&mut self) {
        self.since_ack_req = u16::MAX;
    }

    /// The packet has been handed over: moves on.
    #[inline]
    pub fn sent(&mut self, now: Time, p: &Packet, messages: &Messages, shared: &Shared) {
        if !self.outstanding() {
            self.progress = now;
        }
        self.psn_next = psn::add(self.psn_next, 1);
        if !p.again {
            self.psn_max = self.psn_next;
        }
        self.since_ack_req = if p.ack_req { 0 } else { self.since_ack_req.saturating_add(1) };
        if self.flags & flags::DETOUR != 0 {
            self.rejoin(messages, shared);
        } else if p.last {
            self.seek(messages.get(self.cursor).next, messages, shared);
        }
    }

    /// Handles an acknowledgement of every PSN before `upto`. False when it says nothing new (a duplicate, or
    /// a PSN that was never sent). Finished messages are then due with [`Requester::finished`].
    #[inline]
    pub fn acknowledge(&mut self, now: Time, upto: u32, shared: &Shared) -> bool {
        if psn::diff(upto, self.psn_una) <= 0 || psn::diff(upto, self.psn_max) > 0 {
            return false;
        }
        self.psn_una = upto;
        self.retries = Retries::full(shared);
        self.progress = now;
        self.flags &= !flags::STALLED; // whether it still has to wait is found out when it is to be sent
        if psn::before(self.psn_next, upto) {
            self.psn_next = upto; // what we were about to send again has arrived after all
        }
        true
    }

    /// True when the oldest message is still being sent: it cannot be finished. Known without a look at the message.
    #[inline]
    pub fn amid_oldest(&self) -> bool {
        self.head == self.cursor && psn::before(self.psn_una, psn::add(self.msg_psn, self.msg_packets))
    }

    /// Takes the oldest message off when all its packets are acknowledged. Call until `None` after each
    /// [`Requester::acknowledge`] that returned true.
    #[inline]
    pub fn finished(&mut self, messages: &mut Messages, shared: &Shared) -> Option<Message> {
        if self.head == NONE || self.amid_oldest() {
            return None;
        }
        let m = messages.get(self.head);
        if psn::before(self.psn_una, psn::add(m.psn_first, m.packets)) {
            return None;
        }
        Some(self.drop_head(messages, shared))
    }

    /// Takes the oldest message off whatever its state: for queue pairs that failed.
    pub fn flush(&mut self, messages: &mut Messages, shared: &Shared) -> Option<Message> {
        (self.head != NONE).then(|| self.drop_head(messages, shared))
    }

    fn drop_head(&mut self, messages: &mut Messages, shared: &Shared) -> Message {
        let at = self.head;
        let message = messages.remove(at);
        self.head = message.next;
        if self.cursor == at {
            self.seek(message.next, messages, shared);
        }
        message
    }

    /// PSN sequence error: acknowledges what came before `expected` and goes back to it. `None` when it says
    /// nothing about packets in flight; `Some(false)` when no retry is left.
    pub fn nak(&mut self, now: Time, expected: u32, shared: &Shared) -> Option<bool> {
        if psn::before(expected, self.psn_una) || psn::diff(expected, self.psn_max) >= 0 {
            return None;
        }
        self.acknowledge(now, expected, shared);
        self.progress = now;
        Some(self.take_retry(shared))
    }

    /// Takes a retry after a loss that the other end told of; false when none is left.
    pub(super) fn take_retry(&mut self, shared: &Shared) -> bool {
        // With selective repeat several NAKs of one loss may be under way: only timeouts count there.
        shared.reorder != 0 || self.retries.take()
    }

    /// Receiver not ready: acknowledges what came before `expected`; everything from there waits until `resume`.
    /// Results as [`Requester::nak`], from a count of its own.
    pub fn rnr(&mut self, now: Time, resume: Time, expected: u32, shared: &Shared) -> Option<bool> {
        if psn::before(expected, self.psn_una) || psn::diff(expected, self.psn_max) >= 0 {
            return None;
        }
        self.acknowledge(now, expected, shared);
        self.progress = resume; // the wait is not the network's fault
        Some(self.retries.take_rnr())
    }

    /// Sends the oldest unacknowledged packet again and then goes on where it was. Finished messages must have
    /// been taken off.
    pub fn resend_one(&mut self, messages: &Messages, shared: &Shared) {
        self.psn_next = self.psn_una;
        self.flags |= flags::DETOUR;
        self.seek(self.head, messages, shared);
    }

    /// The end of a detour: new packets again.
    #[cold]
    pub(super) fn rejoin(&mut self, messages: &Messages, shared: &Shared) {
        self.flags &= !flags::DETOUR;
        self.psn_next = self.psn_max;
        let mut at = self.head;
        while at != NONE {
            let m = messages.get(at);
            if psn::before(self.psn_max, psn::add(m.psn_first, m.packets)) {
                break;
            }
            at = m.next;
        }
        self.seek(at, messages, shared);
    }

    /// Resends from the oldest unacknowledged PSN. Finished messages must have been taken off.
    pub fn go_back(&mut self, messages: &Messages, shared: &Shared) {
        self.psn_next = self.psn_una;
        self.flags &= !(flags::DETOUR | flags::STALLED);
        self.since_ack_req = 0;
        self.seek(self.head, messages, shared);
    }

    /// The ACK timer fired at `now`.
    pub fn timeout(&mut self, now: Time, messages: &Messages, shared: &Shared) -> Timeout {
        if !self.outstanding() || self.failed() {
            return Timeout::Idle;
        }
        let deadline = self.progress + shared.ack_timeout;
        if deadline > now {
            return Timeout::Later(deadline);
        }
        if !self.retries.take() {
            return Timeout::Exceeded;
        }
        self.progress = now;
        self.go_back(messages, shared);
        Timeout::Retry
    }

    /// Puts the cursor on a message. Its sending PSN is not touched: messages follow each other without gaps.
    pub(super) fn seek(&mut self, at: u32, messages: &Messages, shared: &Shared) {
        self.cursor = at;
        self.flags &= !flags::READ;
        if at == NONE {
            return;
        }
        let m = messages.get(at);
        if m.read {
            self.flags |= flags::READ;
        }
        self.msg_psn = m.psn_first;
        self.msg_packets = m.packets;
        self.msg_bytes = m.bytes;
        self.msg_tag = m.tag;
        self.msg_intended = m.intended;
        self.last_bytes = (m.bytes - (m.packets - 1) * u32::from(shared.mtu)) as u16;
    }
}
