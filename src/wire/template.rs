//! Header templates: everything that is the same in all frames from one address to another, laid out once; per frame a
//! copy of whole words and a handful of patched stores.

use std::net::IpAddr;

use crate::units::FrameLen;

use super::fast::{fold, ipv4_sum};
use super::headers::{Ext, Opcode, PKEY_DEFAULT};
use super::icrc;
use super::{
    BTH_LEN, ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, HEAD_MAX, ICRC_LEN, IPV4_LEN, IPV6_LEN,
    PROTO_UDP, ROCE_UDP_PORT, UDP_LEN, VLAN_LEN, be16, put,
};

/// Hop limit of generated frames.
pub const TTL_DEFAULT: u8 = 64;

/// What the frames of one flow have in common below the BTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSpec {
    /// Source MAC.
    pub src_mac: [u8; 6],
    /// Destination MAC (next hop).
    pub dst_mac: [u8; 6],
    /// 802.1Q tag: priority code point 0..8 and VLAN id 0..4096.
    pub vlan: Option<(u8, u16)>,
    /// Source address.
    pub src_ip: IpAddr,
    /// Destination address, of the same family.
    pub dst_ip: IpAddr,
    /// DSCP, 0..64.
    pub dscp: u8,
    /// ECN field, 0..4.
    pub ecn_bits: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4 identification; 0 as senders that set "don't fragment" may (RFC 6864).
    pub ip_id: u16,
    /// UDP source port: the entropy of the flow.
    pub sport: u16,
}

impl Default for FrameSpec {
    fn default() -> FrameSpec {
        FrameSpec {
            src_mac: [0; 6],
            dst_mac: [0; 6],
            vlan: None,
            src_ip: IpAddr::from([0u8; 4]),
            dst_ip: IpAddr::from([0u8; 4]),
            dscp: 0,
            ecn_bits: 0,
            ttl: TTL_DEFAULT,
            ip_id: 0,
            sport: 0xc000,
        }
    }
}

/// A flow that cannot be put into headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// One address is IPv4, the other IPv6.
    #[error("source {0} and destination {1} are of different IP families; give both the same")]
    MixedFamilies(IpAddr, IpAddr),
    /// A value does not fit its field.
    #[error("{field} {value} is out of range 0..{limit}")]
    Range {
        /// Name of the field.
        field: &'static str,
        /// Value given.
        value: u16,
        /// First value that does not fit.
        limit: u16,
    },
}

/// The BTH fields that change from frame to frame. The rest: P_Key 0xffff, MigReq 0, FECN 0, version 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BthFields {
    /// Opcode, raw.
    pub opcode: u8,
    /// Destination queue pair, 24 bits.
    pub dest_qp: u32,
    /// Packet sequence number, 24 bits.
    pub psn: u32,
    /// Ask the responder to acknowledge.
    pub ack_req: bool,
    /// Pad bytes behind the payload, 0..4; see [`super::pad_of`].
    pub pad: u8,
    /// Backward congestion notification: set in CNPs only.
    pub becn: bool,
}

impl BthFields {
    /// Those of a congestion notification packet.
    #[inline]
    pub fn cnp(dest_qp: u32) -> BthFields {
        BthFields { opcode: Opcode::Cnp.into(), dest_qp, becn: true, ..BthFields::default() }
    }

    /// The header as three words.
    #[inline(always)]
    pub(super) fn words(&self) -> [u32; BTH_LEN / 4] {
        [
            u32::from(self.opcode) << 24 | u32::from(self.pad & 3) << 20 | u32::from(PKEY_DEFAULT),
            u32::from(self.becn) << 30 | (self.dest_qp & 0xff_ffff),
            u32::from(self.ack_req) << 31 | (self.psn & 0xff_ffff),
        ]
    }
}

/// Lengths of a frame whose headers were just written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLen {
    /// Bytes written to the head, in front of the payload.
    pub head_len: u8,
    /// Whole frame without FCS, ICRC included. May be below 60; the MAC pads.
    pub len: FrameLen,
}

/// How frames of one kind are marked: what differs between data, ACKs and CNPs of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marking {
    /// Type of service or traffic class: DSCP and ECN field.
    tos: u8,
    /// 802.1Q priority, for tagged frames.
    pcp: u8,
}

impl Marking {
    /// DSCP 0..64, ECN field 0..4, 802.1Q priority 0..8 (untagged frames do not carry it).
    ///
    /// # Errors
    /// [`SpecError::Range`].
    pub fn new(dscp: u8, ecn_bits: u8, pcp: u8) -> Result<Marking, SpecError> {
        range("DSCP", dscp.into(), 64)?;
        range("ECN field", ecn_bits.into(), 4)?;
        range("VLAN priority", pcp.into(), 8)?;
        Ok(Marking { tos: dscp << 2 | ecn_bits, pcp })
    }
}

/// What tells the flows of one template apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entropy {
    /// UDP source port.
    pub sport: u16,
    /// Markings.
    pub marking: Marking,
}

/// Ethernet header and 802.1Q tag.
const L2_MAX: usize = ETH_LEN + VLAN_LEN;
/// Bytes of an IP header that stay: all behind the payload length (IPv6) or the total length (IPv4, fewer bytes).
const L3_MAX: usize = IPV6_LEN - 6;
/// The same of an IPv4 header.
const L3_V4: usize = IPV4_LEN - 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Shape {
    V4,
    V4Tagged,
    V6,
    V6Tagged,
}

/// Header bytes of everything one address sends to another: one cache line. A flow adds its source port and markings
/// ([`Entropy`]), a frame its BTH and lengths.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Template {
    /// CRC register after the masked headers up to the BTH, all that varies between frames taken as zero.
    register: u32,
    /// Sum of the IPv4 header without type of service, total length and checksum.
    sum: u16,
    /// The source port and the markings of [`Template::write`].
    sport: u16,
    marking: Marking,
    shape: Shape,
    /// Ethernet header and tag, with the VLAN id alone.
    l2: [u8; L2_MAX],
    /// The IP header behind its length.
    l3: [u8; L3_MAX],
}

const _: () = assert!(size_of::<Template>() == 64);

impl Template {
    /// Lays out the headers of a flow. `spec` says what [`Template::write`] marks frames with and which source port it
    /// gives them; other flows between the same addresses use [`Template::write_as`].
    ///
    /// # Errors
    /// [`SpecError`] when the addresses are of two families or a field is out of range.
    pub fn new(spec: &FrameSpec) -> Result<Template, SpecError> {
        let (pcp, vid) = spec.vlan.unwrap_or_default();
        let marking = Marking::new(spec.dscp, spec.ecn_bits, pcp)?;
        range("VLAN id", vid, 4096)?;

        let (mut l2, mut l3) = ([0; L2_MAX], [0; L3_MAX]);
        let is_v6 = spec.src_ip.is_ipv6();
        let ethertype = if is_v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        put(&mut l2, 0, &spec.dst_mac);
        put(&mut l2, 6, &spec.src_mac);
        if spec.vlan.is_some() {
            put(&mut l2, 12, &ETHERTYPE_VLAN.to_be_bytes());
            put(&mut l2, 14, &vid.to_be_bytes());
            put(&mut l2, 16, &ethertype.to_be_bytes());
        } else {
            put(&mut l2, 12, &ethertype.to_be_bytes());
        }
        match (spec.src_ip, spec.dst_ip) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                put(&mut l3, 0, &spec.ip_id.to_be_bytes());
                put(&mut l3, 2, &[0x40, 0, spec.ttl, PROTO_UDP]);
                put(&mut l3, 8, &src.octets());
                put(&mut l3, 12, &dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                put(&mut l3, 0, &[PROTO_UDP, spec.ttl]);
                put(&mut l3, 2, &src.octets());
                put(&mut l3, 18, &dst.octets());
            }
            (src, dst) => return Err(SpecError::MixedFamilies(src, dst)),
        }
        let shape = match (is_v6, spec.vlan.is_some()) {
            (false, false) => Shape::V4,
            (false, true) => Shape::V4Tagged,
            (true, false) => Shape::V6,
            (true, true) => Shape::V6Tagged,
        };
        let sum = if is_v6 { 0 } else { fold(0x4500 + u32::from(ipv4_sum(&l3[..L3_V4]))) };
        let register = if is_v6 {
            icrc::register_of_template(&[0x60, 0, 0, 0, 0, 0], &l3)
        } else {
            icrc::register_of_template(&[0x45, 0, 0, 0], &l3[..L3_V4])
        };
        Ok(Template { register, sum, sport: spec.sport, marking, shape, l2, l3 })
    }

    /// The flow of [`Template::write`].
    #[inline]
    pub fn flow(&self) -> Entropy {
        Entropy { sport: self.sport, marking: self.marking }
    }

    /// Writes the headers of one frame that carries `payload_len` bytes (at most 9,000) and `bth.pad` pad
    /// bytes. Payload, pad and ICRC are not touched. The extended headers must be those the opcode calls for.
    ///
    /// IP and UDP lengths, the IPv4 checksum and the BTH are set; the UDP checksum is 0, as hardware sends
    /// it. Cost: about 6 ns, no allocation.
    #[inline]
    pub fn write(&self, head: &mut [u8; HEAD_MAX], bth: &BthFields, ext: &Ext, payload_len: u16) -> WireLen {
        self.write_as(self.flow(), head, bth, ext, payload_len)
    }

    /// As [`Template::write`] for another flow between the same addresses.
    #[inline(always)]
    pub fn write_as(
        &self,
        flow: Entropy,
        head: &mut [u8; HEAD_MAX],
        bth: &BthFields,
        ext: &Ext,
        payload_len: u16,
    ) -> WireLen {
        debug_assert!(Opcode::from_u8(bth.opcode).is_none_or(|op| op.ext() == ext.layout()));
        // Its fields are at hand here; read from memory, they would wait for the bytes just written there.
        self.write_words(flow, head, bth.words(), ext, payload_len + u16::from(bth.pad & 3))
    }

    fn write_words(
        &self,
        flow: Entropy,
        head: &mut [u8; HEAD_MAX],
        bth: [u32; BTH_LEN / 4],
        ext: &Ext,
        payload_len: u16,
    ) -> WireLen {
        const TAGGED: usize = ETH_LEN + VLAN_LEN;
        match self.shape {
            Shape::V4 => self.write_at::<ETH_LEN, false>(flow, head, bth, ext, payload_len),
            Shape::V4Tagged => self.write_at::<TAGGED, false>(flow, head, bth, ext, payload_len),
            Shape::V6 => self.write_at::<ETH_LEN, true>(flow, head, bth, ext, payload_len),
            Shape::V6Tagged => self.write_at::<TAGGED, true>(flow, head, bth, ext, payload_len),
        }
    }

    /// Writes a congestion notification packet that asks queue pair `dest_qp` to slow down: BECN, PSN 0, and
    /// 16 zero bytes (RoCEv2 annex A17.9.3). The template says which DSCP it travels with.
    #[inline]
    pub fn write_cnp(&self, head: &mut [u8; HEAD_MAX], dest_qp: u32) -> WireLen {
        self.write(head, &BthFields::cnp(dest_qp), &Ext::Cnp([0; 16]), 0)
    }

    /// CRC register after the headers that [`Template::write_as`] has just written to `head` with these arguments and
    /// result, payload excluded: as [`icrc::register_after_head`], without reading them again but for the extended
    /// ones. Cost: 15 table lookups, and one step per word of extended headers.
    #[inline(always)]
    pub fn register(&self, sport: u16, bth: &BthFields, head: &[u8; HEAD_MAX], wire: WireLen) -> u32 {
        self.register_of(sport, bth.words(), head, wire)
    }

    fn register_of(&self, sport: u16, bth: [u32; BTH_LEN / 4], head: &[u8; HEAD_MAX], wire: WireLen) -> u32 {
        let is_v6 = matches!(self.shape, Shape::V6 | Shape::V6Tagged);
        let l2_len = match self.shape {
            Shape::V4 | Shape::V6 => ETH_LEN,
            Shape::V4Tagged | Shape::V6Tagged => L2_MAX,
        };
        let udp_off = l2_len + if is_v6 { IPV6_LEN } else { IPV4_LEN };
        let udp_len = wire.len.0 - udp_off as u16;
        let register = self.register
            ^ if is_v6 { icrc::of_length_v6(udp_len) } else { icrc::of_length_v4(udp_len + IPV4_LEN as u16) }
            ^ icrc::of_transport(sport, udp_len, bth);
        icrc::over_words(register, head, udp_off + UDP_LEN + BTH_LEN, wire.head_len.into())
    }

    #[inline(always)]
    fn write_at<const IP_OFF: usize, const V6: bool>(
        &self,
        flow: Entropy,
        head: &mut [u8; HEAD_MAX],
        bth: [u32; BTH_LEN / 4],
        ext: &Ext,
        payload_len: u16,
    ) -> WireLen {
        let ip_len = if V6 { IPV6_LEN } else { IPV4_LEN };
        let udp_off = IP_OFF + ip_len;
        let bth_off = udp_off + UDP_LEN;
        let ext_off = bth_off + BTH_LEN;
        let Marking { tos, pcp } = flow.marking;

        // Whole words, each written once: who reads the head next finds its loads in single stores.
        put(head, 0, &self.l2);
        if IP_OFF > ETH_LEN {
            let tci = u16::from(pcp) << 13 | u16::from_be_bytes([self.l2[14], self.l2[15]]);
            put(head, ETH_LEN, &tci.to_be_bytes());
        }
        let ext_len = match head.get_mut(ext_off..).and_then(|b| b.first_chunk_mut()) {
            Some(b) => ext.write(b),
            None => 0,
        };
        let udp_len = (UDP_LEN + BTH_LEN + ext_len + ICRC_LEN) as u32 + u32::from(payload_len);
        if V6 {
            put(head, IP_OFF, &(6 << 28 | u32::from(tos) << 20).to_be_bytes());
            put(head, IP_OFF + 4, &(udp_len as u16).to_be_bytes());
            put(head, IP_OFF + 6, &self.l3);
        } else {
            let total = udp_len as u16 + IPV4_LEN as u16;
            let first = 0x4500_0000 | u32::from(tos) << 16 | u32::from(total);
            put(head, IP_OFF, &first.to_be_bytes());
            put(head, IP_OFF + 4, &self.l3[..L3_V4]);
            let checksum = !fold(u32::from(self.sum) + u32::from(tos) + u32::from(total));
            put(head, IP_OFF + 10, &checksum.to_be_bytes());
        }
        let udp =
            u64::from(flow.sport) << 48 | u64::from(ROCE_UDP_PORT) << 32 | u64::from(udp_len as u16) << 16;
        put(head, udp_off, &udp.to_be_bytes());
        for (i, word) in bth.into_iter().enumerate() {
            put(head, bth_off + 4 * i, &word.to_be_bytes());
        }
        WireLen { head_len: (ext_off + ext_len) as u8, len: FrameLen((udp_off as u32 + udp_len) as u16) }
    }
}

/// Where the BTH of a head lies that a template has written: untagged or tagged, IPv4 without options or IPv6.
#[inline(always)]
pub fn bth_offset(head: &[u8; HEAD_MAX]) -> usize {
    let (at, kind) = match be16(head, 12) {
        ETHERTYPE_VLAN => (ETH_LEN + VLAN_LEN, be16(head, 16)),
        kind => (ETH_LEN, kind),
    };
    at + UDP_LEN + if kind == ETHERTYPE_IPV4 { IPV4_LEN } else { IPV6_LEN }
}

fn range(field: &'static str, value: u16, limit: u16) -> Result<(), SpecError> {
    if value < limit { Ok(()) } else { Err(SpecError::Range { field, value, limit }) }
}

/// UDP source port the Linux kernel gives a connection without a flow label, from the queue pair numbers of
/// its two ends: 0xc000..=0xffff, and the same seen from either end (`rdma_get_udp_sport`,
/// `rdma_flow_label_to_udp_sport`).
pub const fn udp_sport_kernel(local_qpn: u32, remote_qpn: u32) -> u16 {
    let mut v = local_qpn as u64 * remote_qpn as u64;
    v ^= v >> 20;
    v ^= v >> 40;
    let label = (v & 0xf_ffff) as u32;
    ((label & 0x3fff) ^ ((label & 0xf_c000) >> 14)) as u16 | 0xc000
}
