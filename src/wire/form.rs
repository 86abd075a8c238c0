//! What the frames of a burst have in common: whoever has read one knows the others by comparing a few words.

use super::{BTH_LEN, ETH_LEN, HEAD_MAX, IPV4_LEN, UDP_LEN, be32, bytes_at};
use crate::units::FrameLen;

const UDP_OFF: usize = ETH_LEN + IPV4_LEN;
const BTH_OFF: usize = UDP_OFF + UDP_LEN;

/// Where the words stand, and what of them counts: all that [`super::fast::parse_usual`] reads but [`Fields`].
/// EtherType, version, DSCP and length, not the identification.
const TYPE_TO_ID: (usize, u64) =
    (ETH_LEN - 2, u64::from_ne_bytes([0xff, 0xff, 0xff, 0xfc, 0xff, 0xff, 0, 0]));
/// Fragments and protocol, neither time to live nor checksum.
const FRAGMENT_TO_SUM: (usize, u64) = (ETH_LEN + 6, u64::from_ne_bytes([0x3f, 0xff, 0, 0xff, 0, 0, 0, 0]));
const ADDRESSES: (usize, u64) = (ETH_LEN + 12, u64::MAX);
/// Destination port and length.
const UDP: (usize, u64) = (UDP_OFF, u64::from_ne_bytes([0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]));
/// Opcode and pad.
const BTH: (usize, u64) = (BTH_OFF - 4, u64::from_ne_bytes([0, 0, 0, 0, 0xff, 0x30, 0, 0]));
const WORDS: [(usize, u64); 5] = [TYPE_TO_ID, FRAGMENT_TO_SUM, ADDRESSES, UDP, BTH];
const _: () = assert!(BTH_OFF + BTH_LEN <= HEAD_MAX);

/// The form of sound RoCEv2 frames over untagged IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    words: [u64; WORDS.len()],
    len: FrameLen,
}

impl Form {
    /// No frame has it.
    pub const NONE: Form = Form { words: [u64::MAX; WORDS.len()], len: FrameLen(0) };

    /// The form of a frame that [`super::fast::parse_usual`] reads.
    pub fn of(head: &[u8; HEAD_MAX], len: FrameLen) -> Form {
        Form { words: WORDS.map(|(at, mask)| word(head, at) & mask), len }
    }

    /// True when [`super::fast::parse_usual`] reads of this frame what it reads of others of the form, but for [`Fields`].
    #[inline(always)]
    pub fn fits(&self, head: &[u8; HEAD_MAX], len: FrameLen) -> bool {
        let [a, b, c, d, e] = WORDS.map(|(at, mask)| word(head, at) & mask);
        let [f, g, h, i, j] = self.words;
        // One after the other: all at once they go through vector registers, which is slower.
        len == self.len && a == f && b == g && c == h && d == i && e == j
    }
}

/// What frames of one form differ in, of what is looked at in the middle of messages and in ACKs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Destination queue pair.
    pub dest_qp: u32,
    /// Packet sequence number.
    pub psn: u32,
    /// The responder is asked to acknowledge.
    pub ack_req: bool,
    /// Backward congestion notification.
    pub becn: bool,
    /// ECN field.
    pub ecn: u8,
}

impl Fields {
    /// Reads them of a frame that has a form.
    #[inline(always)]
    pub fn of(head: &[u8; HEAD_MAX]) -> Fields {
        let (qp, psn) = (be32(head, BTH_OFF + 4), be32(head, BTH_OFF + 8));
        Fields {
            dest_qp: qp & 0xff_ffff,
            psn: psn & 0xff_ffff,
            ack_req: psn >> 31 != 0,
            becn: qp >> 30 & 1 != 0,
            ecn: head[ETH_LEN + 1] & 3,
        }
    }
}

/// The syndrome of a frame of a form with an AETH.
#[inline(always)]
pub fn syndrome(head: &[u8; HEAD_MAX]) -> u8 {
    head[BTH_OFF + BTH_LEN]
}

/// The opcode, provided that a frame is RoCEv2 over untagged IPv4.
#[inline(always)]
pub fn opcode_guess(head: &[u8; HEAD_MAX]) -> u8 {
    head[BTH_OFF]
}

#[inline(always)]
fn word(head: &[u8; HEAD_MAX], at: usize) -> u64 {
    bytes_at(head, at).map_or(0, |b| u64::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::fast::{self, Fast};
    use crate::wire::headers::{Ext, Opcode};
    use crate::wire::template::{BthFields, FrameSpec, Template};

    fn middle(payload: u16) -> ([u8; HEAD_MAX], FrameLen) {
        let mut head = [0; HEAD_MAX];
        let bth = BthFields {
            opcode: Opcode::RcWriteMiddle as u8,
            dest_qp: 17,
            psn: 0x12_3456,
            ..BthFields::default()
        };
        let wire = Template::new(&FrameSpec::default()).expect("a template").write(
            &mut head,
            &bth,
            &Ext::None,
            payload,
        );
        (head, wire.len)
    }

    proptest! {
        /// Whatever is changed in a head: a frame that fits is read as the parser reads it.
        #[test]
        fn what_fits_is_read_as_the_parser_reads_it(
            changes in proptest::collection::vec((0usize..60, any::<u8>()), 0..4),
            longer in 0u16..2,
        ) {
            let (head, len) = middle(256);
            let form = Form::of(&head, len);
            let first = fast::parse_usual(&head, len).expect("a middle");
            let (mut other, len) = (head, FrameLen(len.0 + longer));
            changes.iter().for_each(|(at, bits)| other[*at] ^= bits);
            // What the parser would read of it if all else were as in the first.
            let Fields { dest_qp, psn, ack_req, becn, ecn } = Fields::of(&other);
            let read = Fast { dest_qp, psn, ack_req, becn, ecn, ..first };
            let parsed = fast::parse_usual(&other, len).map(|p| Fast { sport: first.sport, ..p });
            if longer == 0 {
                prop_assert_eq!(form.fits(&other, len), parsed == Some(read));
            } else {
                prop_assert!(!form.fits(&other, len));
            }
        }
    }

    #[test]
    fn nothing_fits_none() {
        let (head, len) = middle(1_024);
        assert!(!Form::NONE.fits(&head, len) && !Form::NONE.fits(&[0; HEAD_MAX], FrameLen(0)));
        assert!(!Form::NONE.fits(&[0xff; HEAD_MAX], FrameLen(0)));
        assert!(Form::of(&head, len).fits(&head, len));
        assert_eq!(opcode_guess(&head), Opcode::RcWriteMiddle as u8);
    }
}
