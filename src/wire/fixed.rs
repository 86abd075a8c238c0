//! Heads of a flow whose frames differ in their PSN alone: written once, then copied and patched; and what a PSN does to
//! the checksum of such frames, in tables.

use crate::units::FrameLen;

use super::headers::Ext;
use super::icrc::{self, ConstPayload};
use super::template::{BthFields, Entropy, Template};
use super::{HEAD_MAX, PAYLOAD_BYTE};

/// Bytes of the longest head that is kept: one cache line. IPv4 with DETH fits, IPv6 does not.
const KEPT: usize = 64;
/// The PSN is the last word of the BTH but for its first byte, which is zero in frames that ask for no ACK.
const PSN_WORD: usize = 4;

/// A head with PSN 0, and the payload byte behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct FixedHead([u8; KEPT]);

/// What frames have in common that may differ in addresses, numbers and PSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Length of the frame.
    pub len: FrameLen,
    /// Bytes between the headers and pad and ICRC.
    pub payload_len: u16,
    /// Bytes of the headers.
    pub head_len: u8,
    /// Bytes of extended headers, behind the PSN.
    ext_len: u8,
    pad: u8,
}

impl Default for FixedHead {
    fn default() -> FixedHead {
        FixedHead([0; KEPT])
    }
}

impl FixedHead {
    /// Lays out what [`Template::write_as`] writes with these arguments, whatever the PSN in `bth`, with its shape and
    /// the CRC register behind it. `None` for heads that are longer than a cache line, and for frames that ask for an
    /// ACK.
    pub fn new(
        template: &Template,
        flow: Entropy,
        bth: &BthFields,
        ext: &Ext,
        payload_len: u16,
    ) -> Option<(FixedHead, Shape, u32)> {
        let mut head = [PAYLOAD_BYTE; HEAD_MAX];
        let bth = BthFields { psn: 0, ..*bth };
        let wire = template.write_as(flow, &mut head, &bth, ext, payload_len);
        if usize::from(wire.head_len) > KEPT || bth.ack_req {
            return None;
        }
        let register = template.register(flow.sport, &bth, &head, wire);
        let shape = Shape {
            len: wire.len,
            payload_len,
            head_len: wire.head_len,
            ext_len: ext.len() as u8,
            pad: bth.pad,
        };
        Some((FixedHead(*head.first_chunk()?), shape, register))
    }

    /// Writes the head of the frame with this PSN. Behind it, up to the end of a cache line, the payload byte is written.
    #[inline(always)]
    pub fn write(&self, head: &mut [u8; HEAD_MAX], psn: u32, shape: &Shape) {
        if let Some(first) = head.first_chunk_mut() {
            *first = self.0;
        }
        let at = usize::from(shape.head_len).wrapping_sub(usize::from(shape.ext_len) + PSN_WORD);
        if let Some(word) = head.get_mut(at..).and_then(|h| h.first_chunk_mut::<PSN_WORD>()) {
            *word = (psn & super::psn::MASK).to_be_bytes();
        }
    }
}

/// Checksums of frames of one [`Shape`] with constant payload: the CRC is linear, so a PSN changes it by what its three
/// bytes do, each by itself. 7 KiB.
#[derive(Clone, Debug)]
pub struct PsnSums {
    tail: ConstPayload,
    bytes: Box<[[u32; 256]; 3]>,
}

impl PsnSums {
    /// Cost: one pass over the payload, and some 50 us.
    pub fn new(shape: &Shape) -> PsnSums {
        let tail = ConstPayload::new(shape.payload_len, PAYLOAD_BYTE, shape.pad);
        let mut bytes = Box::new([[0; 256]; 3]);
        for (k, table) in bytes.iter_mut().enumerate() {
            for (b, sum) in (0u32..).zip(table.iter_mut()) {
                let register = icrc::of_psn(b << (8 * k), usize::from(shape.ext_len));
                *sum = tail.finish(register) ^ tail.finish(0);
            }
        }
        PsnSums { tail, bytes }
    }

    /// ICRC of the frame with PSN 0, from the register behind its head.
    pub fn first(&self, register: u32) -> u32 {
        self.tail.finish(register)
    }

    /// ICRC of the frame with this PSN, whose ICRC with PSN 0 is `first`. Cost: three table lookups.
    #[inline(always)]
    pub fn icrc(&self, first: u32, psn: u32) -> u32 {
        let [a, b, c] = &*self.bytes;
        let byte = |shift: u32| usize::from((psn >> shift) as u8);
        first ^ a[byte(0)] ^ b[byte(8)] ^ c[byte(16)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::headers::{Deth, Opcode};
    use crate::wire::template::FrameSpec;

    #[test]
    fn a_fixed_head_is_what_its_template_writes_for_every_psn() {
        let ip = |a: &str| a.parse().expect("an address");
        let v4 = FrameSpec { dscp: 26, ecn_bits: 2, sport: 0xc123, ..FrameSpec::default() };
        let tagged = FrameSpec { vlan: Some((3, 100)), ..v4 };
        let v6 = FrameSpec { src_ip: ip("2001:2::1"), dst_ip: ip("2001:2::2"), ..v4 };
        let deth = Ext::Deth(Deth { qkey: 7, resv8: 0, src_qp: 9 });
        for (spec, ext, fits) in [
            (v4, Ext::None, true),
            (v4, deth, true),
            (tagged, Ext::None, true),
            (tagged, deth, false),
            (v6, Ext::None, false),
        ] {
            let t = Template::new(&spec).expect("a template");
            let opcode = if ext.is_empty() { Opcode::UcSendOnly } else { Opcode::UdSendOnly } as u8;
            let bth = BthFields { opcode, dest_qp: 0xf0_0001, psn: 5, ..BthFields::default() };
            let fixed = FixedHead::new(&t, t.flow(), &bth, &ext, 1_024);
            assert_eq!(fixed.is_some(), fits, "{spec:?}");
            let asks = BthFields { ack_req: true, ..bth };
            assert!(FixedHead::new(&t, t.flow(), &asks, &ext, 1_024).is_none());
            let Some((fixed, shape, register)) = fixed else { continue };
            let sums = PsnSums::new(&shape);
            let first = sums.first(register);
            for psn in [0, 1, 0x12_3456, 0xff_ffff] {
                let (mut ours, mut theirs) = ([0; HEAD_MAX], vec![PAYLOAD_BYTE; 1_200]);
                let bth = BthFields { psn, ..bth };
                let head = theirs.first_chunk_mut().expect("long enough");
                let wire = t.write_as(t.flow(), head, &bth, &ext, 1_024);
                fixed.write(&mut ours, psn, &shape);
                let n = usize::from(wire.head_len);
                assert_eq!((shape.len, shape.head_len), (wire.len, wire.head_len));
                assert_eq!(ours[..n], theirs[..n], "PSN {psn}");
                assert!(ours[n..KEPT].iter().all(|b| *b == PAYLOAD_BYTE));
                // The whole frame, the plain way.
                theirs.truncate(usize::from(wire.len.0));
                let icrc = icrc::of_frame(&theirs).expect("RoCE").expected;
                assert_eq!(sums.icrc(first, psn), icrc, "PSN {psn}");
            }
        }
    }
}
