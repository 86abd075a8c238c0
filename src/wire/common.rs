//! Heads of the most common packets, those in the middle of messages and ACKs: between two addresses they differ in source
//! port, queue pair, PSN and AckReq alone, and ACKs in their AETH. Written once, then copied and patched.

use crate::units::FrameLen;

use super::headers::{Aeth, Ext, Opcode};
use super::icrc;
use super::template::{BthFields, Entropy, Marking, Template};
use super::{BTH_LEN, HEAD_MAX, UDP_LEN, put};

/// Bytes kept of a head: a tagged one over IPv6 has 78, and 4 with an AETH.
const KEPT: usize = 96;
/// Bytes of an AETH.
const AETH_LEN: usize = 4;

/// See the module.
#[derive(Clone, Debug)]
pub struct CommonHead {
    head: [u8; KEPT],
    /// CRC register behind it, with zeros in what differs.
    register: u32,
    len: FrameLen,
    payload_len: u16,
    head_len: u8,
    pad: u8,
}

impl CommonHead {
    /// Lays out what [`Template::write_as`] writes for packets of this opcode, which must have no extended header.
    pub fn middle(template: &Template, marking: Marking, opcode: Opcode, payload_len: u16) -> CommonHead {
        CommonHead::new(template, marking, opcode, &Ext::None, payload_len)
    }

    /// Makes the time zero in the stamps behind the head, which say the rest themselves.
    pub fn for_stamps(&mut self) {
        put(&mut self.head, usize::from(self.head_len) + 8, &[0; 8]);
    }

    /// The same for ACKs.
    pub fn ack(template: &Template, marking: Marking) -> CommonHead {
        let none = Ext::Aeth(Aeth { syndrome: 0, msn: 0 });
        CommonHead::new(template, marking, Opcode::RcAck, &none, 0)
    }

    fn new(template: &Template, marking: Marking, opcode: Opcode, ext: &Ext, payload_len: u16) -> CommonHead {
        let bth = BthFields { opcode: opcode as u8, pad: super::pad_of(payload_len), ..BthFields::default() };
        let mut head = [super::PAYLOAD_BYTE; HEAD_MAX];
        let flow = Entropy { sport: 0, marking };
        let wire = template.write_as(flow, &mut head, &bth, ext, payload_len);
        CommonHead {
            register: template.register(0, &bth, &head, wire),
            head: *head.first_chunk().unwrap_or(&[0; KEPT]),
            len: wire.len,
            payload_len,
            head_len: wire.head_len,
            pad: bth.pad,
        }
    }

    /// Length of the frames.
    #[inline]
    pub fn len(&self) -> FrameLen {
        self.len
    }

    /// Bytes of payload and of pad behind it.
    #[inline]
    pub fn payload(&self) -> (u16, u8) {
        (self.payload_len, self.pad)
    }

    /// Bytes of the head.
    #[inline]
    pub fn head_len(&self) -> u8 {
        self.head_len
    }

    /// CRC register behind the head in the middle of a message of this flow, with PSN 0 and without AckReq.
    pub fn register(&self, sport: u16, dest_qp: u32) -> u32 {
        self.register ^ icrc::of_flow::<0>(sport, dest_qp, 0)
    }

    /// Writes a head in the middle of a message; what lies behind it, up to the 96th byte, becomes payload. `stamp`: its
    /// first and last word, where there is one ([`super::stamp`]) and the head is laid out for it ([`CommonHead::for_stamps`]).
    #[inline(always)]
    pub fn write(
        &self,
        head: &mut [u8; HEAD_MAX],
        (sport, dest_qp, psn, ack_req): (u16, u32, u32, bool),
        stamp: Option<(u64, u64)>,
    ) {
        const SPAN: usize = UDP_LEN + BTH_LEN + super::stamp::STAMP;
        let Some(span) = self.copy::<SPAN>(head, 0) else { return };
        Self::patch(span, (sport, dest_qp, u32::from(ack_req) << 31 | psn & super::psn::MASK));
        if let Some((first, intended)) = stamp {
            put(span, UDP_LEN + BTH_LEN, &first.to_le_bytes());
            put(span, UDP_LEN + BTH_LEN + 16, &intended.to_le_bytes());
        }
    }

    /// Writes the head of an ACK; returns its ICRC.
    #[inline(always)]
    pub fn write_ack(
        &self,
        head: &mut [u8; HEAD_MAX],
        sport: u16,
        dest_qp: u32,
        psn: u32,
        aeth: Aeth,
    ) -> u32 {
        let word = u32::from(aeth.syndrome) << 24 | aeth.msn & super::psn::MASK;
        if let Some(span) = self.copy::<{ UDP_LEN + BTH_LEN + AETH_LEN }>(head, AETH_LEN) {
            Self::patch(span, (sport, dest_qp, psn & super::psn::MASK));
            put(span, UDP_LEN + BTH_LEN, &word.to_be_bytes());
        }
        !(self.register ^ icrc::of_flow::<AETH_LEN>(sport, dest_qp, psn) ^ icrc::of_last_word(word))
    }

    /// Copies the head, and returns so many bytes of it from UDP on: one look whether all of them are there.
    #[inline(always)]
    fn copy<'h, const N: usize>(
        &self,
        head: &'h mut [u8; HEAD_MAX],
        ext_len: usize,
    ) -> Option<&'h mut [u8; N]> {
        if let Some(first) = head.first_chunk_mut() {
            *first = self.head;
        }
        let udp = usize::from(self.head_len).wrapping_sub(UDP_LEN + BTH_LEN + ext_len);
        head.get_mut(udp..)?.first_chunk_mut()
    }

    #[inline(always)]
    fn patch(from_udp: &mut [u8], (sport, dest_qp, psn_word): (u16, u32, u32)) {
        put(from_udp, 0, &sport.to_be_bytes());
        put(from_udp, UDP_LEN + 4, &(dest_qp & super::psn::MASK).to_be_bytes());
        put(from_udp, UDP_LEN + 8, &psn_word.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixed::PsnSums;
    use crate::wire::template::FrameSpec;

    #[test]
    fn common_heads_are_what_their_template_writes() {
        let ip = |a: &str| a.parse().expect("an address");
        let v4 = FrameSpec { dscp: 26, ecn_bits: 2, ..FrameSpec::default() };
        let tagged = FrameSpec { vlan: Some((3, 100)), ..v4 };
        let v6 = FrameSpec { src_ip: ip("2001:2::1"), dst_ip: ip("2001:2::2"), ..v4 };
        let v6_tagged = FrameSpec { vlan: Some((3, 100)), ..v6 };
        for spec in [v4, tagged, v6, v6_tagged] {
            let t = Template::new(&spec).expect("a template");
            let marking = t.flow().marking;
            let opcode = Opcode::RcWriteMiddle as u8;
            let ack = CommonHead::ack(&t, marking);
            for (sport, qp, psn, aeth) in [
                (0xc000, 17, 0, Aeth { syndrome: 0x1f, msn: 0 }),
                (0xd123, 0xff_fffe, 0xff_ffff, Aeth { syndrome: 0x60, msn: 0x12_3456 }),
            ] {
                let (mut ours, mut theirs) = ([0; HEAD_MAX], [0; HEAD_MAX]);
                let bth = BthFields { opcode: Opcode::RcAck as u8, dest_qp: qp, psn, ..BthFields::default() };
                let flow = Entropy { sport, marking };
                let wire = t.write_as(flow, &mut theirs, &bth, &Ext::Aeth(aeth), 0);
                let register = t.register(sport, &bth, &theirs, wire);
                let icrc = ack.write_ack(&mut ours, sport, qp, psn, aeth);
                let n = usize::from(wire.head_len);
                assert_eq!((ack.len(), &ours[..n]), (wire.len, &theirs[..n]), "{spec:?}");
                assert_eq!(icrc, !register);
            }
            for payload in [256, 1_024, 1_001, 4_096] {
                let middle = CommonHead::middle(&t, marking, Opcode::RcWriteMiddle, payload);
                for (sport, qp, psn, ack_req) in [
                    (0xc000, 17, 0, false),
                    (0xffff, 0xff_ffff, 0xff_ffff, true),
                    (0xc123, 0x1_0203, 5, true),
                ] {
                    let (mut ours, mut theirs) = ([0; HEAD_MAX], [0; HEAD_MAX]);
                    let pad = crate::wire::pad_of(payload);
                    let bth = BthFields { opcode, dest_qp: qp, psn, ack_req, pad, becn: false };
                    let flow = Entropy { sport, marking };
                    let wire = t.write_as(flow, &mut theirs, &bth, &Ext::None, payload);
                    middle.write(&mut ours, (sport, qp, psn, ack_req), None);
                    let n = usize::from(wire.head_len);
                    assert_eq!(ours[..n], theirs[..n], "{spec:?}");
                    assert_eq!((middle.len(), middle.head_len()), (wire.len, wire.head_len));
                    let sums = PsnSums::of(payload, pad, 0);
                    let asked = if ack_req { sums.ask() } else { 0 };
                    let icrc = sums.icrc(middle.register(sport, qp), psn) ^ asked;
                    assert_eq!(icrc, sums.icrc(t.register(sport, &bth, &theirs, wire), 0), "{spec:?} {psn}");
                    assert!(ours[n..KEPT].iter().all(|b| *b == crate::wire::PAYLOAD_BYTE));
                }
            }
        }
    }
}
