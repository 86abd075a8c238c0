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
    /// Where the PSN is.
    psn_at: u8,
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
            psn_at: wire.head_len - (ext.len() + PSN_WORD) as u8,
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
        let at = usize::from(shape.psn_at) & (KEPT - 1);
        if let Some(word) = head[at..].first_chunk_mut::<PSN_WORD>() {
            *word = (psn & super::psn::MASK).to_be_bytes();
        }
    }
}

/// Checksums of frames of one [`Shape`] with constant payload. The CRC is linear: a PSN that counts up by one changes it by
/// what the bits do that flip, and those are the lowest ones up to the first zero.
#[derive(Clone, Debug)]
pub struct PsnSums {
    tail: ConstPayload,
    ext_len: usize,
    /// By number of bits below that zero.
    steps: [u32; 32],
    ask: u32,
}

impl PsnSums {
    /// Cost: one pass over the payload, and some 15 us; 4 KiB.
    pub fn new(shape: &Shape) -> PsnSums {
        PsnSums::of(shape.payload_len, shape.pad, shape.ext_len.into())
    }

    /// As [`PsnSums::new`] for frames with so much payload, pad, and extended headers.
    pub fn of(payload_len: u16, pad: u8, ext_len: usize) -> PsnSums {
        let tail = ConstPayload::new(payload_len, PAYLOAD_BYTE, pad);
        let mut steps = [0; 32];
        for (ones, step) in steps.iter_mut().enumerate() {
            let flipped = ((2u64 << ones) - 1) as u32 & super::psn::MASK;
            *step = tail.finish(icrc::of_psn(flipped, ext_len)) ^ tail.finish(0);
        }
        PsnSums { ask: tail.finish(icrc::of_ack_req()) ^ tail.finish(0), tail, ext_len, steps }
    }

    /// ICRC of the frame with this PSN, from the register behind its head with PSN 0.
    pub fn icrc(&self, register: u32, psn: u32) -> u32 {
        self.tail.finish(register ^ icrc::of_psn(psn & super::psn::MASK, self.ext_len))
    }

    /// What AckReq changes in the ICRC, where the BTH ends the head.
    #[inline(always)]
    pub fn ask(&self) -> u32 {
        self.ask
    }

    /// ICRC of the frame behind the one with this PSN and ICRC. Cost: one table lookup.
    #[inline(always)]
    pub fn next(&self, icrc: u32, psn: u32) -> u32 {
        icrc ^ self.steps[psn.trailing_ones() as usize & 31]
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
            for psn in [0, 1, 7, 0x12_3456, 0x7f_ffff, 0xff_ffff] {
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
                assert_eq!(sums.icrc(register, psn), icrc, "PSN {psn}");
                let after = (psn + 1) & crate::wire::psn::MASK;
                assert_eq!(sums.next(icrc, psn), sums.icrc(register, after), "PSN {psn} and the next");
            }
        }
    }
}
