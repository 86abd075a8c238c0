//! The wire: RoCEv2, Ethernet and PFC frames as bytes. Pure functions over slices; nothing here knows about
//! queue pairs, switches or time.
//!
//! Two parsers, for two readers. [`fast`] reads the handful of fields hosts and switches need from the head
//! of a frame and allocates nothing; [`dissect`] explains every field of arbitrary bytes for people and keeps
//! enough to write the same bytes again. [`template`] is the fast writer, [`icrc`] the checksum both ends
//! rely on.
//!
//! Sources: InfiniBand Architecture Specification volume 1 (chapter 9, annexes A16 and A17), IEEE 802.1Q,
//! 802.3 clause 31D, RFC 768, 791, 1624, 3168, 8200.

pub mod aeth;
pub mod capture;
pub mod common;
pub mod dissect;
pub mod fast;
pub mod fixed;
pub mod form;
pub mod headers;
pub mod icrc;
pub mod messages;
pub mod neighbour;
pub mod opcode;
pub mod pfc;
pub mod psn;
pub mod stamp;
pub mod template;

/// Header bytes a frame can hold: Ethernet 14, VLAN 4, IPv6 40, UDP 8, BTH 12, AtomicETH 28 and some room.
/// PFC and CNP frames fit whole.
pub const HEAD_MAX: usize = 126;

/// The byte that fills the payload of generated messages.
pub const PAYLOAD_BYTE: u8 = 0x5a;

/// UDP destination port of RoCEv2 (IANA "roce").
pub const ROCE_UDP_PORT: u16 = 4791;

/// Ethernet header without tags.
pub const ETH_LEN: usize = 14;
/// One 802.1Q tag.
pub const VLAN_LEN: usize = 4;
/// IPv4 header without options.
pub const IPV4_LEN: usize = 20;
/// IPv6 header without extension headers.
pub const IPV6_LEN: usize = 40;
/// UDP header.
pub const UDP_LEN: usize = 8;
/// Base transport header.
pub const BTH_LEN: usize = 12;
/// Invariant CRC at the end of every RoCE packet.
pub const ICRC_LEN: usize = 4;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// EtherType of an 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// EtherType of MAC control frames, PFC among them.
pub const ETHERTYPE_MAC_CONTROL: u16 = 0x8808;
/// IP protocol number of UDP.
pub const PROTO_UDP: u8 = 17;

/// Pad bytes that bring a payload to a multiple of four (IBTA volume 1, 9.2.3: PadCnt).
#[inline]
pub const fn pad_of(payload_len: u16) -> u8 {
    (payload_len.wrapping_neg() & 3) as u8
}

/// `N` bytes of `bytes` from `off` on, or `None` when they are not all there. Free after inlining.
#[inline]
pub fn bytes_at<const N: usize>(bytes: &[u8], off: usize) -> Option<&[u8; N]> {
    bytes.get(off..)?.first_chunk()
}

/// Big-endian 16 bits at `off`; 0 beyond the end. For reading heads whose offsets are known to be inside.
#[inline]
pub(crate) fn be16(bytes: &[u8], off: usize) -> u16 {
    bytes_at(bytes, off).map_or(0, |b| u16::from_be_bytes(*b))
}

/// Big-endian 32 bits at `off`; 0 beyond the end.
#[inline]
pub(crate) fn be32(bytes: &[u8], off: usize) -> u32 {
    bytes_at(bytes, off).map_or(0, |b| u32::from_be_bytes(*b))
}

/// Big-endian 64 bits at `off`; 0 beyond the end.
#[inline]
pub(crate) fn be64(bytes: &[u8], off: usize) -> u64 {
    bytes_at(bytes, off).map_or(0, |b| u64::from_be_bytes(*b))
}

/// Copies `src` to `dst[off..]`. Nothing is written when it does not fit.
#[inline]
pub(crate) fn put(dst: &mut [u8], off: usize, src: &[u8]) {
    if let Some(d) = dst.get_mut(off..off + src.len()) {
        d.copy_from_slice(src);
    }
}
