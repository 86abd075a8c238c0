//! Heads of the most common packets, those in the middle of messages and ACKs: between two addresses they differ in source
//! port, queue pair, PSN and AckReq alone, and ACKs in their AETH. Written once, then copied and patched.

use crate::units::FrameLen;

use super::headers::{Aeth, Ext, Opcode};
use super::icrc::{self, AfterHead};
use super::template::{BthFields, Entropy, Marking, Template, WireLen};
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

    /// Writes a head in the middle of a message; what lies behind it, up to the 96th byte, becomes payload. Cost: eight
    /// table lookups.
    #[inline(always)]
    pub fn write(
        &self,
        head: &mut [u8; HEAD_MAX],
        sport: u16,
        dest_qp: u32,
        psn: u32,
        ack_req: bool,
    ) -> (WireLen, AfterHead) {
        self.copy(head, 0, sport, dest_qp, u32::from(ack_req) << 31 | psn & super::psn::MASK);
        let asked = if ack_req { icrc::of_ack_req() } else { 0 };
        self.wrote(icrc::of_flow::<0>(sport, dest_qp, psn) ^ asked)
    }

    /// Writes the head of an ACK.
    #[inline(always)]
    pub fn write_ack(
        &self,
        head: &mut [u8; HEAD_MAX],
        sport: u16,
        dest_qp: u32,
        psn: u32,
        aeth: Aeth,
    ) -> (WireLen, AfterHead) {
        self.copy(head, AETH_LEN, sport, dest_qp, psn & super::psn::MASK);
        let word = u32::from(aeth.syndrome) << 24 | aeth.msn & super::psn::MASK;
        put(head, usize::from(self.head_len) - AETH_LEN, &word.to_be_bytes());
        self.wrote(icrc::of_flow::<AETH_LEN>(sport, dest_qp, psn) ^ icrc::of_last_word(word))
    }

    #[inline(always)]
    fn copy(&self, head: &mut [u8; HEAD_MAX], ext_len: usize, sport: u16, dest_qp: u32, psn_word: u32) {
        if let Some(first) = head.first_chunk_mut() {
            *first = self.head;
        }
        let bth = usize::from(self.head_len) - BTH_LEN - ext_len;
        put(head, bth - UDP_LEN, &sport.to_be_bytes());
        put(head, bth + 4, &(dest_qp & super::psn::MASK).to_be_bytes());
        put(head, bth + 8, &psn_word.to_be_bytes());
    }

    #[inline(always)]
    fn wrote(&self, differs: u32) -> (WireLen, AfterHead) {
        (
            WireLen { head_len: self.head_len, len: self.len },
            AfterHead { register: self.register ^ differs, payload_len: self.payload_len, pad: self.pad },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
                let (got, after) = ack.write_ack(&mut ours, sport, qp, psn, aeth);
                let n = usize::from(wire.head_len);
                assert_eq!((got, &ours[..n]), (wire, &theirs[..n]), "{spec:?}");
                assert_eq!(after, AfterHead { register, payload_len: 0, pad: 0 });
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
                    let register = t.register(sport, &bth, &theirs, wire);
                    let (got, after) = middle.write(&mut ours, sport, qp, psn, ack_req);
                    let n = usize::from(wire.head_len);
                    assert_eq!((got, &ours[..n]), (wire, &theirs[..n]), "{spec:?}");
                    assert_eq!(after, AfterHead { register, payload_len: payload, pad });
                    assert!(ours[n..KEPT].iter().all(|b| *b == crate::wire::PAYLOAD_BYTE));
                }
            }
        }
    }
}
