//! Heads of a flow whose frames differ in their PSN alone: written once, then copied and patched.

use crate::units::FrameLen;

use super::headers::Ext;
use super::icrc::{self, AfterHead};
use super::template::{BthFields, Entropy, Template, WireLen};
use super::{BTH_LEN, HEAD_MAX, PAYLOAD_BYTE};

/// Bytes of the longest head that is kept: one cache line. IPv4 with DETH fits, IPv6 does not.
const KEPT: usize = 64;
/// The PSN is the last three bytes of the BTH.
const PSN_LEN: usize = 3;

/// A head without its PSN, and what the CRC register is behind it.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct FixedHead {
    head: [u8; KEPT],
    /// With PSN 0.
    register: u32,
    payload_len: u16,
    len: FrameLen,
    head_len: u8,
    psn_at: u8,
    /// Bytes of extended headers, behind the PSN.
    ext_len: u8,
    pad: u8,
}

impl FixedHead {
    /// Lays out what [`Template::write_as`] writes with these arguments, whatever the PSN in `bth`. `None` for heads that
    /// are longer than a cache line.
    pub fn new(
        template: &Template,
        flow: Entropy,
        bth: &BthFields,
        ext: &Ext,
        payload_len: u16,
    ) -> Option<FixedHead> {
        let mut head = [PAYLOAD_BYTE; HEAD_MAX];
        let bth = BthFields { psn: 0, ..*bth };
        let wire = template.write_as(flow, &mut head, &bth, ext, payload_len);
        let register = template.register(flow.sport, &bth, &head, wire);
        let head_len = usize::from(wire.head_len);
        let ext_len = ext.len();
        let psn_at = head_len.checked_sub(ext_len + PSN_LEN).filter(|at| *at >= BTH_LEN - PSN_LEN)?;
        (head_len <= KEPT).then(|| FixedHead {
            head: *head.first_chunk().unwrap_or(&[0; KEPT]),
            register,
            payload_len,
            len: wire.len,
            head_len: wire.head_len,
            psn_at: psn_at as u8,
            ext_len: ext_len as u8,
            pad: bth.pad,
        })
    }

    /// Length of the frame.
    #[inline]
    pub fn len(&self) -> FrameLen {
        self.len
    }

    /// Bytes between the headers and pad and ICRC.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        self.payload_len
    }

    /// Writes the head of the frame with this PSN. Behind it, up to the end of a cache line, the payload byte is written.
    /// Cost: one line, and three table lookups.
    #[inline(always)]
    pub fn write(&self, head: &mut [u8; HEAD_MAX], psn: u32) -> (WireLen, AfterHead) {
        if let Some(first) = head.first_chunk_mut() {
            *first = self.head;
        }
        let at = usize::from(self.psn_at);
        if let Some(three) = head.get_mut(at..).and_then(|h| h.first_chunk_mut::<PSN_LEN>()) {
            let [_, a, b, c] = psn.to_be_bytes();
            *three = [a, b, c];
        }
        let register = self.register ^ icrc::of_psn(psn, usize::from(self.ext_len));
        (
            WireLen { head_len: self.head_len, len: self.len },
            AfterHead { register, payload_len: self.payload_len, pad: self.pad },
        )
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
            let Some(fixed) = fixed else { continue };
            for psn in [0, 1, 0x12_3456, 0xff_ffff] {
                let (mut ours, mut theirs) = ([0; HEAD_MAX], [0; HEAD_MAX]);
                let bth = BthFields { psn, ..bth };
                let wire = t.write_as(t.flow(), &mut theirs, &bth, &ext, 1_024);
                let register = t.register(t.flow().sport, &bth, &theirs, wire);
                let (got, after) = fixed.write(&mut ours, psn);
                let n = usize::from(wire.head_len);
                assert_eq!((got, &ours[..n]), (wire, &theirs[..n]), "PSN {psn}");
                assert_eq!(after, AfterHead { register, payload_len: 1_024, pad: 0 });
                assert!(ours[n..KEPT].iter().all(|b| *b == PAYLOAD_BYTE));
            }
        }
    }
}
