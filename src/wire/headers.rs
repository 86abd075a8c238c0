//! The InfiniBand headers of RoCEv2 as plain structs: parse from and write to fixed-size byte arrays, byte
//! exact in both directions (reserved bits are kept).
//!
//! Source: IBTA volume 1, 9.2 (BTH) and 9.3 (extended transport headers). All fields are big endian on the
//! wire.

pub use super::opcode::{ExtLayout, Opcode, Operation};
use super::{be16, be32, bytes_at, put};

const BITS24: u32 = 0xff_ffff;

/// P_Key of the default partition.
pub const PKEY_DEFAULT: u16 = 0xffff;

/// Base transport header, 12 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bth {
    /// Opcode, raw; see [`Opcode::from_u8`].
    pub opcode: u8,
    /// Solicited event.
    pub solicited: bool,
    /// Path migration state.
    pub migreq: bool,
    /// Pad bytes behind the payload, 0..4.
    pub pad: u8,
    /// Transport header version, 0..16; 0 today.
    pub tver: u8,
    /// Partition key.
    pub pkey: u16,
    /// Forward congestion notification.
    pub fecn: bool,
    /// Backward congestion notification.
    pub becn: bool,
    /// Reserved six bits behind FECN and BECN.
    pub resv6: u8,
    /// Destination queue pair, 24 bits.
    pub dest_qp: u32,
    /// The responder is asked to acknowledge.
    pub ack_req: bool,
    /// Reserved seven bits behind AckReq.
    pub resv7: u8,
    /// Packet sequence number, 24 bits.
    pub psn: u32,
}

impl Bth {
    /// Reads a BTH.
    #[inline]
    pub fn parse(b: &[u8; 12]) -> Bth {
        let (w1, w2) = (be32(b, 4), be32(b, 8));
        Bth {
            opcode: b[0],
            solicited: b[1] & 0x80 != 0,
            migreq: b[1] & 0x40 != 0,
            pad: (b[1] >> 4) & 3,
            tver: b[1] & 0xf,
            pkey: be16(b, 2),
            fecn: w1 >> 31 != 0,
            becn: (w1 >> 30) & 1 != 0,
            resv6: ((w1 >> 24) & 0x3f) as u8,
            dest_qp: w1 & BITS24,
            ack_req: w2 >> 31 != 0,
            resv7: ((w2 >> 24) & 0x7f) as u8,
            psn: w2 & BITS24,
        }
    }
    /// Writes the BTH; bits beyond a field's width are dropped.
    #[inline]
    pub fn write(&self, b: &mut [u8; 12]) {
        let flags = u8::from(self.solicited) << 7
            | u8::from(self.migreq) << 6
            | (self.pad & 3) << 4
            | (self.tver & 0xf);
        let w1 = u32::from(self.fecn) << 31
            | u32::from(self.becn) << 30
            | u32::from(self.resv6 & 0x3f) << 24
            | (self.dest_qp & BITS24);
        let w2 = u32::from(self.ack_req) << 31 | u32::from(self.resv7 & 0x7f) << 24 | (self.psn & BITS24);
        b[0] = self.opcode;
        b[1] = flags;
        put(b, 2, &self.pkey.to_be_bytes());
        put(b, 4, &w1.to_be_bytes());
        put(b, 8, &w2.to_be_bytes());
    }
}

/// RDMA extended transport header, 16 bytes: what a WRITE or READ reaches for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reth {
    /// Virtual address at the responder.
    pub va: u64,
    /// Remote key.
    pub rkey: u32,
    /// Length of the whole message in bytes.
    pub dma_len: u32,
}

impl Reth {
    /// Reads a RETH.
    #[inline]
    pub fn parse(b: &[u8; 16]) -> Reth {
        Reth { va: be64(b, 0), rkey: be32(b, 8), dma_len: be32(b, 12) }
    }
    /// Writes the RETH.
    #[inline]
    pub fn write(&self, b: &mut [u8; 16]) {
        put(b, 0, &self.va.to_be_bytes());
        put(b, 8, &self.rkey.to_be_bytes());
        put(b, 12, &self.dma_len.to_be_bytes());
    }
}

/// ACK extended transport header, 4 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aeth {
    /// Syndrome, raw; see [`super::aeth::Syndrome`].
    pub syndrome: u8,
    /// Message sequence number, 24 bits: messages the responder has completed.
    pub msn: u32,
}

impl Aeth {
    /// Reads an AETH.
    #[inline]
    pub fn parse(b: &[u8; 4]) -> Aeth {
        Aeth { syndrome: b[0], msn: u32::from_be_bytes(*b) & BITS24 }
    }
    /// Writes the AETH.
    #[inline]
    pub fn write(&self, b: &mut [u8; 4]) {
        *b = (u32::from(self.syndrome) << 24 | (self.msn & BITS24)).to_be_bytes();
    }
}

/// Datagram extended transport header, 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deth {
    /// Queue key.
    pub qkey: u32,
    /// Reserved byte.
    pub resv8: u8,
    /// Sending queue pair, 24 bits.
    pub src_qp: u32,
}

impl Deth {
    /// Reads a DETH.
    #[inline]
    pub fn parse(b: &[u8; 8]) -> Deth {
        Deth { qkey: be32(b, 0), resv8: b[4], src_qp: be32(b, 4) & BITS24 }
    }
    /// Writes the DETH.
    #[inline]
    pub fn write(&self, b: &mut [u8; 8]) {
        put(b, 0, &self.qkey.to_be_bytes());
        put(b, 4, &(u32::from(self.resv8) << 24 | (self.src_qp & BITS24)).to_be_bytes());
    }
}

/// Atomic extended transport header, 28 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtomicEth {
    /// Virtual address at the responder, 8-byte aligned.
    pub va: u64,
    /// Remote key.
    pub rkey: u32,
    /// New value (CompareSwap) or addend (FetchAdd).
    pub swap_add: u64,
    /// Expected value (CompareSwap).
    pub compare: u64,
}

impl AtomicEth {
    /// Reads an AtomicETH.
    #[inline]
    pub fn parse(b: &[u8; 28]) -> AtomicEth {
        AtomicEth { va: be64(b, 0), rkey: be32(b, 8), swap_add: be64(b, 12), compare: be64(b, 20) }
    }
    /// Writes the AtomicETH.
    #[inline]
    pub fn write(&self, b: &mut [u8; 28]) {
        put(b, 0, &self.va.to_be_bytes());
        put(b, 8, &self.rkey.to_be_bytes());
        put(b, 12, &self.swap_add.to_be_bytes());
        put(b, 20, &self.compare.to_be_bytes());
    }
}

/// Atomic acknowledge extended transport header, 8 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtomicAckEth {
    /// Value at the address before the operation.
    pub original: u64,
}

/// Immediate data, 4 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImmDt(pub u32);

/// Invalidate extended transport header, 4 bytes: the R_Key the receiver is to invalidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ieth(pub u32);

/// The extended headers of one packet, in wire order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ext {
    /// None: SEND and MIDDLE packets.
    #[default]
    None,
    /// WRITE FIRST and ONLY, READ request.
    Reth(Reth),
    /// WRITE ONLY with immediate.
    RethImm(Reth, ImmDt),
    /// LAST with immediate, SEND ONLY with immediate.
    Imm(ImmDt),
    /// SEND with invalidate.
    Ieth(Ieth),
    /// ACK, NAK, READ response FIRST, LAST and ONLY.
    Aeth(Aeth),
    /// Atomic acknowledge.
    AethAtomicAck(Aeth, AtomicAckEth),
    /// CompareSwap, FetchAdd.
    Atomic(AtomicEth),
    /// UD SEND.
    Deth(Deth),
    /// UD SEND with immediate.
    DethImm(Deth, ImmDt),
    /// The 16 reserved bytes of a CNP, zero when sent.
    Cnp([u8; 16]),
}

impl Ext {
    /// The kinds of header this is, to be held against [`Opcode::ext`].
    #[inline]
    pub const fn layout(&self) -> ExtLayout {
        match self {
            Ext::None => ExtLayout::None,
            Ext::Reth(_) => ExtLayout::Reth,
            Ext::RethImm(..) => ExtLayout::RethImm,
            Ext::Imm(_) => ExtLayout::Imm,
            Ext::Ieth(_) => ExtLayout::Ieth,
            Ext::Aeth(_) => ExtLayout::Aeth,
            Ext::AethAtomicAck(..) => ExtLayout::AethAtomicAck,
            Ext::Atomic(_) => ExtLayout::Atomic,
            Ext::Deth(_) => ExtLayout::Deth,
            Ext::DethImm(..) => ExtLayout::DethImm,
            Ext::Cnp(_) => ExtLayout::Cnp,
        }
    }
    /// Bytes on the wire, 0..=28.
    #[inline]
    pub const fn len(&self) -> usize {
        self.layout().len()
    }
    /// No header at all.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        matches!(self, Ext::None)
    }
    /// Reads the headers `layout` names from the front of `b`; `None` when `b` is too short for them.
    pub fn parse(layout: ExtLayout, b: &[u8]) -> Option<Ext> {
        Some(match layout {
            ExtLayout::None => Ext::None,
            ExtLayout::Reth => Ext::Reth(Reth::parse(bytes_at(b, 0)?)),
            ExtLayout::RethImm => Ext::RethImm(Reth::parse(bytes_at(b, 0)?), ImmDt(word(b, 16)?)),
            ExtLayout::Imm => Ext::Imm(ImmDt(word(b, 0)?)),
            ExtLayout::Ieth => Ext::Ieth(Ieth(word(b, 0)?)),
            ExtLayout::Aeth => Ext::Aeth(Aeth::parse(bytes_at(b, 0)?)),
            ExtLayout::AethAtomicAck => {
                let original = u64::from_be_bytes(*bytes_at(b, 4)?);
                Ext::AethAtomicAck(Aeth::parse(bytes_at(b, 0)?), AtomicAckEth { original })
            }
            ExtLayout::Atomic => Ext::Atomic(AtomicEth::parse(bytes_at(b, 0)?)),
            ExtLayout::Deth => Ext::Deth(Deth::parse(bytes_at(b, 0)?)),
            ExtLayout::DethImm => Ext::DethImm(Deth::parse(bytes_at(b, 0)?), ImmDt(word(b, 8)?)),
            ExtLayout::Cnp => Ext::Cnp(*bytes_at(b, 0)?),
        })
    }
    /// Writes the headers and returns their length. `b` holds 28 bytes so that any of them fits.
    #[inline(always)]
    pub fn write(&self, b: &mut [u8; 28]) -> usize {
        match self {
            Ext::None => 0,
            Ext::Aeth(aeth) => {
                first(b, |b| aeth.write(b));
                4
            }
            rare => rare.write_rare(b),
        }
    }

    #[inline(never)]
    fn write_rare(&self, b: &mut [u8; 28]) -> usize {
        match self {
            Ext::None => {}
            Ext::Reth(r) | Ext::RethImm(r, _) => first(b, |b| r.write(b)),
            Ext::Aeth(a) | Ext::AethAtomicAck(a, _) => first(b, |b| a.write(b)),
            Ext::Deth(d) | Ext::DethImm(d, _) => first(b, |b| d.write(b)),
            Ext::Atomic(a) => a.write(b),
            Ext::Imm(ImmDt(w)) | Ext::Ieth(Ieth(w)) => put(b, 0, &w.to_be_bytes()),
            Ext::Cnp(reserved) => put(b, 0, reserved),
        }
        match self {
            Ext::RethImm(_, i) => put(b, 16, &i.0.to_be_bytes()),
            Ext::AethAtomicAck(_, v) => put(b, 4, &v.original.to_be_bytes()),
            Ext::DethImm(_, i) => put(b, 8, &i.0.to_be_bytes()),
            _ => {}
        }
        self.len()
    }
}

/// Hands the first `N` of 28 bytes to `write`.
#[inline(always)]
fn first<const N: usize>(b: &mut [u8; 28], write: impl FnOnce(&mut [u8; N])) {
    if let Some(b) = b.first_chunk_mut() {
        write(b);
    }
}

fn be64(b: &[u8], off: usize) -> u64 {
    bytes_at(b, off).map_or(0, |b| u64::from_be_bytes(*b))
}

fn word(b: &[u8], off: usize) -> Option<u32> {
    bytes_at(b, off).map(|b| u32::from_be_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_bth_is_written_back_as_it_was_read(bytes: [u8; 12]) {
            let mut out = [0; 12];
            Bth::parse(&bytes).write(&mut out);
            prop_assert_eq!(out, bytes);
        }

        #[test]
        fn every_extended_header_is_written_back_as_it_was_read(bytes: [u8; 28]) {
            for op in Opcode::ALL {
                let ext = Ext::parse(op.ext(), &bytes).ok_or_else(|| TestCaseError::fail("short"))?;
                prop_assert_eq!(ext.layout(), op.ext());
                let mut out = [0; 28];
                let len = ext.write(&mut out);
                prop_assert_eq!(&out[..len], &bytes[..len]);
                prop_assert!(len == 0 || Ext::parse(op.ext(), &bytes[..len - 1]).is_none());
            }
        }
    }

    #[test]
    fn fields_sit_where_the_standard_says() {
        // WRITE LAST with immediate, PadCnt 3, AckReq, PSN 0x123456, BECN set, for queue pair 0x11.
        let b = Bth::parse(&[0x09, 0x30, 0xff, 0xff, 0x40, 0, 0, 0x11, 0x80, 0x12, 0x34, 0x56]);
        assert_eq!((b.opcode, b.pad, b.pkey, b.dest_qp, b.psn), (9, 3, PKEY_DEFAULT, 0x11, 0x12_3456));
        assert!(b.becn && b.ack_req && !b.fecn && !b.solicited && !b.migreq);
        let a = Aeth::parse(&[0x60, 0, 0, 5]);
        assert_eq!((a.syndrome, a.msn), (0x60, 5));
    }
}
