//! Header templates: everything that stays the same between two frames of one flow, laid out once; per frame
//! a copy of whole words and a handful of patched stores.

use std::net::IpAddr;

use crate::units::FrameLen;

use super::fast::{fold, ipv4_sum};
use super::headers::{Ext, Opcode, PKEY_DEFAULT};
use super::{
    BTH_LEN, ETH_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, HEAD_MAX, ICRC_LEN, IPV4_LEN, IPV6_LEN,
    PROTO_UDP, ROCE_UDP_PORT, UDP_LEN, VLAN_LEN, put,
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

/// Lengths of a frame whose headers were just written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLen {
    /// Bytes written to the head, in front of the payload.
    pub head_len: u8,
    /// Whole frame without FCS, ICRC included. May be below 60; the MAC pads.
    pub len: FrameLen,
}

/// Longest Ethernet + IP header of a template: 14 + 4 + 40.
const L3_MAX: usize = ETH_LEN + VLAN_LEN + IPV6_LEN;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Shape {
    V4,
    V4Tagged,
    V6,
    V6Tagged,
}

/// Header bytes of one flow: one cache line.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Template {
    bytes: [u8; L3_MAX],
    sport: [u8; 2],
    /// Sum of the IPv4 header without total length and checksum.
    sum: u16,
    shape: Shape,
}

const _: () = assert!(size_of::<Template>() == 64);

impl Template {
    /// Lays out the headers of a flow.
    ///
    /// # Errors
    /// [`SpecError`] when the addresses are of two families or a field is out of range.
    pub fn new(spec: &FrameSpec) -> Result<Template, SpecError> {
        let (pcp, vid) = spec.vlan.unwrap_or_default();
        range("DSCP", spec.dscp.into(), 64)?;
        range("ECN field", spec.ecn_bits.into(), 4)?;
        range("VLAN priority", pcp.into(), 8)?;
        range("VLAN id", vid, 4096)?;

        let mut bytes = [0; L3_MAX];
        let ethertype = if spec.src_ip.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        put(&mut bytes, 0, &spec.dst_mac);
        put(&mut bytes, 6, &spec.src_mac);
        let ip_off = if spec.vlan.is_some() {
            put(&mut bytes, 12, &ETHERTYPE_VLAN.to_be_bytes());
            put(&mut bytes, 14, &(u16::from(pcp) << 13 | vid).to_be_bytes());
            ETH_LEN + VLAN_LEN
        } else {
            ETH_LEN
        };
        put(&mut bytes, ip_off - 2, &ethertype.to_be_bytes());

        let tos = spec.dscp << 2 | spec.ecn_bits;
        let ip = &mut bytes[ip_off..];
        let sum = match (spec.src_ip, spec.dst_ip) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                put(ip, 0, &[0x45, tos, 0, 0]);
                put(ip, 4, &spec.ip_id.to_be_bytes());
                put(ip, 6, &[0x40, 0, spec.ttl, PROTO_UDP]);
                put(ip, 12, &src.octets());
                put(ip, 16, &dst.octets());
                ipv4_sum(&ip[..IPV4_LEN])
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                put(ip, 0, &(6 << 28 | u32::from(tos) << 20).to_be_bytes());
                put(ip, 6, &[PROTO_UDP, spec.ttl]);
                put(ip, 8, &src.octets());
                put(ip, 24, &dst.octets());
                0
            }
            (src, dst) => return Err(SpecError::MixedFamilies(src, dst)),
        };
        let shape = match (spec.src_ip.is_ipv4(), spec.vlan.is_some()) {
            (true, false) => Shape::V4,
            (true, true) => Shape::V4Tagged,
            (false, false) => Shape::V6,
            (false, true) => Shape::V6Tagged,
        };
        Ok(Template { bytes, sport: spec.sport.to_be_bytes(), sum, shape })
    }

    /// Changes the UDP source port of the frames from now on.
    #[inline]
    pub fn set_sport(&mut self, sport: u16) {
        self.sport = sport.to_be_bytes();
    }

    /// Writes the headers of one frame that carries `payload_len` bytes (at most 9,000) and `bth.pad` pad
    /// bytes. Payload, pad and ICRC are not touched. The extended headers must be those the opcode calls for.
    ///
    /// IP and UDP lengths, the IPv4 checksum and the BTH are set; the UDP checksum is 0, as hardware sends
    /// it. Cost: about 6 ns, no allocation.
    #[inline]
    pub fn write(&self, head: &mut [u8; HEAD_MAX], bth: &BthFields, ext: &Ext, payload_len: u16) -> WireLen {
        debug_assert!(Opcode::from_u8(bth.opcode).is_none_or(|op| op.ext() == ext.layout()));
        match self.shape {
            Shape::V4 => self.write_at::<ETH_LEN, false>(head, bth, ext, payload_len),
            Shape::V4Tagged => self.write_at::<{ ETH_LEN + VLAN_LEN }, false>(head, bth, ext, payload_len),
            Shape::V6 => self.write_at::<ETH_LEN, true>(head, bth, ext, payload_len),
            Shape::V6Tagged => self.write_at::<{ ETH_LEN + VLAN_LEN }, true>(head, bth, ext, payload_len),
        }
    }

    /// Writes a congestion notification packet that asks queue pair `dest_qp` to slow down: BECN, PSN 0, and
    /// 16 zero bytes (RoCEv2 annex A17.9.3). The template says which DSCP it travels with.
    #[inline]
    pub fn write_cnp(&self, head: &mut [u8; HEAD_MAX], dest_qp: u32) -> WireLen {
        let bth = BthFields { opcode: Opcode::Cnp.into(), dest_qp, becn: true, ..BthFields::default() };
        self.write(head, &bth, &Ext::Cnp([0; 16]), 0)
    }

    #[inline(always)]
    fn write_at<const IP_OFF: usize, const V6: bool>(
        &self,
        head: &mut [u8; HEAD_MAX],
        bth: &BthFields,
        ext: &Ext,
        payload_len: u16,
    ) -> WireLen {
        let ip_len = if V6 { IPV6_LEN } else { IPV4_LEN };
        let udp_off = IP_OFF + ip_len;
        let bth_off = udp_off + UDP_LEN;
        let ext_off = bth_off + BTH_LEN;

        put(head, 0, &self.bytes);
        let ext_len = match head.get_mut(ext_off..).and_then(|b| b.first_chunk_mut()) {
            Some(b) => ext.write(b),
            None => 0,
        };
        let udp_len =
            (UDP_LEN + BTH_LEN + ext_len + ICRC_LEN) as u32 + u32::from(payload_len) + u32::from(bth.pad & 3);
        if V6 {
            put(head, IP_OFF + 4, &(udp_len as u16).to_be_bytes());
        } else {
            let total = udp_len as u16 + IPV4_LEN as u16;
            put(head, IP_OFF + 2, &total.to_be_bytes());
            let checksum = !fold(u32::from(self.sum) + u32::from(total));
            put(head, IP_OFF + 10, &checksum.to_be_bytes());
        }
        put(head, udp_off, &self.sport);
        let ports_len = u64::from(ROCE_UDP_PORT) << 32 | u64::from(udp_len as u16) << 16;
        put(head, udp_off + 2, &ports_len.to_be_bytes()[2..]);

        let w0 = u32::from(bth.opcode) << 24 | u32::from(bth.pad & 3) << 20 | u32::from(PKEY_DEFAULT);
        let w1 = u32::from(bth.becn) << 30 | (bth.dest_qp & 0xff_ffff);
        let w2 = u32::from(bth.ack_req) << 31 | (bth.psn & 0xff_ffff);
        put(head, bth_off, &w0.to_be_bytes());
        put(head, bth_off + 4, &w1.to_be_bytes());
        put(head, bth_off + 8, &w2.to_be_bytes());
        WireLen { head_len: (ext_off + ext_len) as u8, len: FrameLen((udp_off as u32 + udp_len) as u16) }
    }
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
