//! The receiving side of a reliable connection: order, acknowledgement, one NAK per gap.
//!
//! Source: IBTA volume 1, 9.7.4 and 9.9, and what the Linux kernel's rxe answers.

use super::qp::Shared;
use crate::wire::opcode::Opcode;
use crate::wire::psn;

/// Responder state: 24 bytes.
#[derive(Debug)]
pub struct Responder {
    /// Next PSN expected.
    epsn: u32,
    /// Messages completed, 24 bits.
    msn: u32,
    /// Tag of the message arriving.
    tag: u32,
    /// Bytes its RETH announced.
    announced: u32,
    /// Bytes of it that have arrived.
    bytes: u32,
    /// Frames accepted since the last acknowledgement.
    unacked: u16,
    /// Bits of [`flags`].
    pub flags: u8,
    phase: Phase,
}

const _: () = assert!(size_of::<Responder>() == 24);

/// Bits of [`Responder::flags`].
pub mod flags {
    /// An ACK is due.
    pub const ACK: u8 = 1;
    /// A NAK is due.
    pub const NAK: u8 = 2;
    /// A NAK was called for in this gap; nothing more is said until the expected PSN arrives.
    pub const GAP: u8 = 4;
    /// The connection was refused: NAK invalid request, then silence.
    pub const DEAD: u8 = 8;
    /// Stands in the list of those with an ACK or NAK to send.
    pub const ACK_QUEUED: u8 = 16;
    /// Stands in the list of those with a CNP to send.
    pub const CNP_QUEUED: u8 = 32;
    /// The next ACK tells of a frame that carried CE.
    pub const ECHO: u8 = 64;
    /// Answers to READs or atomics are to be sent; no ACK or NAK leaves before them.
    pub const ANSWERS: u8 = 128;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Send,
    Write,
    /// Refused for its key rather than for its form.
    Access,
}

/// A data packet, as the responder needs it.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    /// Opcode.
    pub opcode: Opcode,
    /// PSN.
    pub psn: u32,
    /// The requester asks for an acknowledgement.
    pub ack_req: bool,
    /// Payload bytes without pad.
    pub payload_len: u16,
    /// Tag and length out of RETH (0 without one).
    pub reth: (u32, u32),
    /// Immediate data (0 without any).
    pub imm: u32,
    /// The remote key is ours (true without one).
    pub key_ok: bool,
}

/// What became of a data packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In order.
    Accepted,
    /// In order, and the last of a message of so many bytes with this tag.
    Complete {
        /// Tag.
        tag: u32,
        /// Bytes.
        bytes: u32,
    },
    /// Ahead of the expected PSN and thrown away.
    Ahead,
    /// Ahead of the expected PSN and kept (selective repeat).
    Stored,
    /// Behind the expected PSN.
    Duplicate,
    /// Out of opcode order or of the wrong length: the connection is dead.
    Invalid,
    /// The connection was dead already.
    Ignored,
    /// No receive buffer: thrown away, RNR NAK.
    NotReady,
}

/// Syndrome of an ACK without credit limit, NAK PSN sequence error, NAK invalid request.
const ACK_SYNDROME: u8 = 0x1f;
const NAK_SEQUENCE: u8 = 0x60;
const NAK_INVALID: u8 = 0x61;
/// Remote access error.
const NAK_ACCESS: u8 = 0x62;

impl Responder {
    /// Expects `psn_first` first.
    pub fn new(psn_first: u32) -> Responder {
        Responder {
            epsn: psn_first & psn::MASK,
            msn: 0,
            tag: 0,
            announced: 0,
            bytes: 0,
            unacked: 0,
            flags: 0,
            phase: Phase::Idle,
        }
    }

    /// Something is to be said that is not yet in the list.
    #[inline]
    pub fn wants_control(&self) -> bool {
        self.flags & (flags::ACK | flags::NAK) != 0 && self.flags & flags::ACK_QUEUED == 0
    }

    /// A packet in the middle of a message is the next and nothing is wrong with it.
    #[inline(always)]
    pub fn expects_middle(&self, is_send: bool, psn: u32, payload_len: u16, shared: &Shared) -> bool {
        payload_len == shared.mtu && self.expects_full(is_send, psn)
    }

    /// The same of one that is as long as the path MTU.
    #[inline(always)]
    pub fn expects_full(&self, is_send: bool, psn: u32) -> bool {
        let phase = if is_send { Phase::Send } else { Phase::Write };
        self.phase == phase && psn == self.epsn && self.flags & (flags::DEAD | flags::GAP | flags::NAK) == 0
    }

    /// Takes such a packet, as [`Responder::on_data`] would.
    #[inline(always)]
    pub fn take_middle(&mut self, ack_req: bool, shared: &Shared) {
        self.bytes = self.bytes.wrapping_add(shared.mtu.into());
        self.epsn = psn::add(self.epsn, 1);
        self.unacked = self.unacked.saturating_add(1);
        if ack_req || self.unacked >= shared.ack_every {
            self.flags |= flags::ACK;
        }
    }

    /// Handles a data packet and notes which answer is due.
    #[inline]
    pub fn on_data(&mut self, d: &Data, shared: &Shared) -> Verdict {
        if self.flags & flags::DEAD != 0 {
            return Verdict::Ignored;
        }
        let ahead = psn::diff(d.psn, self.epsn);
        if ahead > 0 {
            if self.flags & flags::GAP == 0 {
                self.flags |= flags::GAP | flags::NAK;
            }
            return Verdict::Ahead;
        }
        if ahead < 0 {
            self.flags |= flags::ACK;
            return Verdict::Duplicate;
        }
        self.in_order(d, shared)
    }

    /// Handles the packet that is expected.
    #[inline]
    pub(super) fn in_order(&mut self, d: &Data, shared: &Shared) -> Verdict {
        let verdict = if d.key_ok { self.accept(d, shared) } else { None };
        let Some(verdict) = verdict else {
            if !d.key_ok {
                self.phase = Phase::Access;
            }
            self.flags = self.flags & !flags::ACK | flags::NAK | flags::DEAD;
            return Verdict::Invalid;
        };
        self.epsn = psn::add(self.epsn, 1);
        self.flags &= !(flags::GAP | flags::NAK); // a NAK that has not left yet would be out of date
        self.unacked = self.unacked.saturating_add(1);
        let whole = shared.ack_message && matches!(verdict, Verdict::Complete { .. });
        if d.ack_req || self.unacked >= shared.ack_every || whole {
            self.flags |= flags::ACK;
        }
        verdict
    }

    /// Checks opcode order and lengths of a packet in order, and counts its bytes. `None` when invalid.
    #[inline]
    fn accept(&mut self, d: &Data, shared: &Shared) -> Option<Verdict> {
        use Opcode::*;
        let full = d.payload_len == shared.mtu;
        let len = u32::from(d.payload_len);
        match d.opcode {
            RcWriteMiddle if self.phase == Phase::Write && full => self.bytes = self.bytes.wrapping_add(len),
            RcSendMiddle if self.phase == Phase::Send && full => self.bytes = self.bytes.wrapping_add(len),
            RcWriteFirst if self.phase == Phase::Idle && full => {
                (self.phase, self.bytes) = (Phase::Write, len);
                (self.tag, self.announced) = d.reth;
            }
            RcSendFirst if self.phase == Phase::Idle && full => (self.phase, self.bytes) = (Phase::Send, len),
            RcWriteLast | RcWriteLastImm if self.phase == Phase::Write && self.fits(d, shared) => {
                return Some(self.complete(self.tag, self.bytes + len));
            }
            // The tag is the immediate; a SEND without one has tag 0.
            RcSendLast | RcSendLastImm
                if self.phase == Phase::Send && len >= 1 && d.payload_len <= shared.mtu =>
            {
                return Some(self.complete(d.imm, self.bytes + len));
            }
            RcWriteOnly | RcWriteOnlyImm
                if self.phase == Phase::Idle && d.payload_len <= shared.mtu && d.reth.1 == len =>
            {
                return Some(self.complete(d.reth.0, len));
            }
            RcSendOnly | RcSendOnlyImm if self.phase == Phase::Idle && d.payload_len <= shared.mtu => {
                return Some(self.complete(d.imm, len));
            }
            _ => return None,
        }
        Some(Verdict::Accepted)
    }

    /// A LAST packet brings 1..=MTU bytes and exactly what RETH announced.
    #[inline]
    fn fits(&self, d: &Data, shared: &Shared) -> bool {
        (1..=shared.mtu).contains(&d.payload_len)
            && self.bytes.wrapping_add(u32::from(d.payload_len)) == self.announced
    }

    fn complete(&mut self, tag: u32, bytes: u32) -> Verdict {
        self.phase = Phase::Idle;
        self.msn = (self.msn + 1) & psn::MASK;
        Verdict::Complete { tag, bytes }
    }

    /// The answer to send now: (PSN, syndrome, MSN). A NAK says all an ACK would. Changes nothing.
    #[inline]
    pub fn answer(&self) -> (u32, u8, u32) {
        let (psn, syndrome) = match self.flags & (flags::NAK | flags::DEAD) {
            0 | flags::DEAD => (psn::sub(self.epsn, 1), ACK_SYNDROME),
            flags::NAK => (self.epsn, NAK_SEQUENCE),
            _ if self.phase == Phase::Access => (self.epsn, NAK_ACCESS),
            _ => (self.epsn, NAK_INVALID),
        };
        (psn, syndrome, self.msn)
    }

    /// The answer has been handed over.
    #[inline]
    pub fn answered(&mut self) {
        self.flags &= !(flags::ACK | flags::NAK | flags::ACK_QUEUED);
        self.unacked = 0;
    }

    /// Opcode of a MIDDLE packet of the message that is arriving.
    pub(super) fn middle(&self) -> Opcode {
        if self.phase == Phase::Send { Opcode::RcSendMiddle } else { Opcode::RcWriteMiddle }
    }

    /// No message is half way in.
    pub fn idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// The connection was refused.
    pub fn is_dead(&self) -> bool {
        self.flags & flags::DEAD != 0
    }

    /// The expected packet found no receive buffer: a NAK is due, then silence until it comes again.
    pub fn not_ready(&mut self) {
        self.flags |= flags::GAP | flags::NAK;
    }

    /// Frames accepted and not acknowledged.
    pub fn unacked(&self) -> u16 {
        self.unacked
    }

    /// An ACK is due.
    pub fn ack_now(&mut self) {
        self.flags |= flags::ACK;
    }

    /// A datagram with this PSN came: how many are missing before it; negative when it is late itself.
    pub fn datagram(&mut self, at: u32) -> i32 {
        let ahead = psn::diff(at, self.epsn);
        if ahead >= 0 {
            self.epsn = psn::add(at, 1);
        }
        ahead
    }

    /// Messages completed, 24 bits.
    pub fn msn(&self) -> u32 {
        self.msn
    }

    /// Takes the expected packet as a request that is answered with `packets` PSNs. The answer acknowledges
    /// everything before it.
    pub fn take_request(&mut self, packets: u32) {
        self.epsn = psn::add(self.epsn, packets);
        self.msn = (self.msn + 1) & psn::MASK;
        self.unacked = 0;
        self.flags &= !(flags::GAP | flags::NAK | flags::ACK);
    }

    /// Next PSN expected.
    pub fn expected_psn(&self) -> u32 {
        self.epsn
    }
}
