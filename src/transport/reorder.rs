//! A responder that keeps what comes out of order: the receiving half of selective repeat.
//!
//! Packets ahead of the expected PSN are noted in a bitmap, and those that are not MIDDLE with their headers. When the
//! expected packet arrives, everything behind it that is there already is taken over in order. A missing packet is
//! asked for (NAK PSN sequence error, as go-back-N uses it) only when `reorder` packets have overtaken it: paths
//! of different length are no losses. A hole that is still open after four times as many arrivals is asked for again,
//! and once a hole was asked for, the next one behind it is asked for at once.
//!
//! The wire stays plain RC. What a NAK means is agreed between both ends by configuration, as with NICs that do this:
//! no standard defines it. All of this is cold: a queue pair without holes does not touch it.

use super::qp::Shared;
use super::responder::{Data, Responder, Verdict, flags};
use crate::wire::opcode::Opcode;
use crate::wire::psn;

/// Packets in flight at most with selective repeat: what the bitmap holds. 400G over 160 us at 4096 bytes.
pub const PACKETS_MAX: u32 = 2_048;

/// Packets of one queue pair that came ahead of the expected one.
#[derive(Debug)]
pub struct Reorder {
    /// Bit `psn % PACKETS_MAX`.
    bits: Box<[u64]>,
    /// Packets that are not MIDDLE, sorted by PSN.
    edges: Vec<Data>,
    /// Packets kept.
    kept: u32,
    /// Arrivals since a hole was last asked for.
    since_nak: u32,
}

/// Bytes of memory per queue pair with selective repeat, edges not counted.
pub const BYTES_PER_QP: usize = size_of::<Reorder>() + PACKETS_MAX as usize / 8;

impl Default for Reorder {
    fn default() -> Reorder {
        let words = (PACKETS_MAX / 64) as usize;
        Reorder { bits: vec![0; words].into(), edges: Vec::with_capacity(16), kept: 0, since_nak: 0 }
    }
}

impl Reorder {
    /// Handles a data packet and notes which answer is due. After [`Verdict::Accepted`] or
    /// [`Verdict::Complete`], [`Reorder::next`] gives the packets that were waiting for it.
    pub fn on_data(&mut self, rx: &mut Responder, d: &Data, shared: &Shared) -> Verdict {
        let ahead = psn::diff(d.psn, rx.expected_psn());
        if ahead <= 0 || rx.flags & flags::DEAD != 0 {
            return match ahead {
                0 => self.fill(rx, d, shared),
                _ => rx.on_data(d, shared),
            };
        }
        self.overtaken(rx, ahead as u32, shared);
        if ahead as u32 >= PACKETS_MAX || !d.key_ok {
            return Verdict::Ahead;
        }
        let (word, bit) = place(d.psn);
        if self.bits[word] & bit != 0 {
            return Verdict::Duplicate;
        }
        let middle = matches!(d.opcode, Opcode::RcWriteMiddle | Opcode::RcSendMiddle);
        if middle && d.payload_len != shared.mtu {
            return Verdict::Ahead; // it will come again and be refused in its turn
        }
        if !middle {
            let at = self.edges.partition_point(|e| psn::before(e.psn, d.psn));
            self.edges.insert(at, *d);
        }
        self.bits[word] |= bit;
        self.kept += 1;
        Verdict::Stored
    }

    /// A packet came `ahead` PSNs before its turn: asks for the missing one when it is time.
    pub fn overtaken(&mut self, rx: &mut Responder, ahead: u32, shared: &Shared) {
        self.since_nak += 1;
        let again = shared.reorder.into();
        let ask = match rx.flags & flags::GAP {
            0 => ahead >= again,
            _ => self.since_nak >= 4 * again,
        };
        if ask {
            self.since_nak = 0;
            rx.flags |= flags::GAP | flags::NAK;
        }
    }

    /// The expected packet. A hole behind it is asked for at once when this one had been.
    fn fill(&mut self, rx: &mut Responder, d: &Data, shared: &Shared) -> Verdict {
        let asked = rx.flags & flags::GAP;
        let verdict = rx.on_data(d, shared);
        if self.kept > 0 && verdict != Verdict::Invalid {
            rx.flags |= asked;
        }
        verdict
    }

    /// Takes over the next packet if it is here already: what it completes. `None` when it is missing.
    pub fn next(&mut self, rx: &mut Responder, shared: &Shared) -> Option<Verdict> {
        if self.kept == 0 {
            return None;
        }
        let expected = rx.expected_psn();
        let (word, bit) = place(expected);
        if self.bits[word] & bit == 0 {
            if rx.flags & flags::GAP != 0 {
                (rx.flags, self.since_nak) = (rx.flags & !flags::ACK | flags::NAK, 0);
            }
            return None;
        }
        self.bits[word] &= !bit;
        self.kept -= 1;
        let middle = Data {
            opcode: rx.middle(),
            psn: expected,
            ack_req: false,
            payload_len: shared.mtu,
            reth: (0, 0),
            imm: 0,
            key_ok: true,
        };
        let d = match self.edges.first() {
            Some(e) if e.psn == expected => self.edges.remove(0),
            _ => middle,
        };
        let asked = rx.flags & flags::GAP;
        let verdict = rx.in_order(&d, shared);
        if self.kept > 0 && verdict != Verdict::Invalid {
            rx.flags |= asked;
        }
        Some(verdict)
    }
}

fn place(psn: u32) -> (usize, u64) {
    let bit = psn % PACKETS_MAX;
    ((bit / 64) as usize, 1 << (bit % 64))
}

const _: () = assert!((1 << 24) % PACKETS_MAX == 0, "places go on when PSNs wrap");
