//! Every field of a frame, for people: arbitrary bytes in, a structure out, and the same bytes again from it.
//!
//! Ethernet, VLAN, IP and UDP are read by etherparse, the InfiniBand headers by [`super::headers`]. A frame
//! is RoCEv2 when its UDP destination port is 4791, and by nothing else.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, SingleVlanHeader, UdpHeader};

use crate::units::FrameLen;

use super::fast::Malformed;
use super::headers::{Bth, Ext, Opcode};
use super::icrc::{self, Offsets};
use super::pfc::PfcFrame;
use super::{BTH_LEN, ETH_LEN, HEAD_MAX, ICRC_LEN, ROCE_UDP_PORT, UDP_LEN, bytes_at};

/// A frame taken apart. Payload and trailers are borrowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Dissected<'a> {
    /// Ethernet header; its EtherType is that of the first tag, if any.
    pub ethernet: Ethernet2Header,
    /// VLAN tags, outermost first: 802.1Q, also behind an 802.1ad tag.
    pub tags: ArrayVec<SingleVlanHeader, 2>,
    /// What the frame carries.
    pub body: Body<'a>,
    /// Bytes behind the IP packet: padding to 60 bytes. Of a cut frame, what is left of the ICRC.
    pub trailer: &'a [u8],
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body<'a> {
    /// A RoCEv2 packet.
    Roce(Box<Roce<'a>>),
    /// Priority flow control; the raw bytes keep what receivers ignore.
    Pfc(PfcFrame, &'a [u8]),
    /// Anything else, raw.
    Other {
        /// Source and destination, when it is IP.
        addresses: Option<(IpAddr, IpAddr)>,
        /// Set when the bytes contradict themselves.
        why: Option<Malformed>,
        /// Everything behind Ethernet and tags.
        bytes: &'a [u8],
    },
}

/// A RoCEv2 packet taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Roce<'a> {
    /// IP header.
    pub net: Net,
    /// UDP header.
    pub udp: UdpHeader,
    /// Base transport header.
    pub bth: Bth,
    /// Extended headers; none for opcodes we do not know, whose payload then begins right behind the BTH.
    pub ext: Ext,
    /// Payload bytes on the wire.
    pub payload_len: u16,
    /// Payload bytes captured: shorter than `payload_len` when the capture cuts frames.
    pub payload: &'a [u8],
    /// Pad bytes captured.
    pub pad: &'a [u8],
    /// ICRC found, as a number (the wire has its least significant byte first); `None` when cut off.
    pub icrc: Option<u32>,
    /// The ICRC is right; `None` when cut off.
    pub icrc_ok: Option<bool>,
}

impl Roce<'_> {
    /// The opcode, when we know it.
    pub const fn opcode(&self) -> Option<Opcode> {
        Opcode::from_u8(self.bth.opcode)
    }
}

/// An IP header.
#[derive(Clone, Debug, PartialEq)]
pub enum Net {
    /// IPv4, checksum as found.
    V4(Ipv4Header),
    /// IPv6 without extension headers.
    V6(Ipv6Header),
}

impl Net {
    /// Source address.
    pub fn src(&self) -> IpAddr {
        match self {
            Net::V4(h) => IpAddr::from(h.source),
            Net::V6(h) => IpAddr::from(h.source),
        }
    }
    /// Destination address.
    pub fn dst(&self) -> IpAddr {
        match self {
            Net::V4(h) => IpAddr::from(h.destination),
            Net::V6(h) => IpAddr::from(h.destination),
        }
    }
    /// Differentiated services code point.
    pub fn dscp(&self) -> u8 {
        match self {
            Net::V4(h) => h.dscp.value(),
            Net::V6(h) => h.dscp().value(),
        }
    }
    /// ECN field: 0 not ECT, 1 ECT(1), 2 ECT(0), 3 CE.
    pub fn ecn(&self) -> u8 {
        match self {
            Net::V4(h) => h.ecn.value(),
            Net::V6(h) => h.ecn().value(),
        }
    }
    /// Bytes of this header.
    pub fn header_len(&self) -> usize {
        match self {
            Net::V4(h) => h.header_len(),
            Net::V6(h) => h.header_len(),
        }
    }
    /// Bytes of the IP packet, this header included.
    fn packet_len(&self) -> usize {
        match self {
            Net::V4(h) => h.total_len.into(),
            Net::V6(h) => h.header_len() + usize::from(h.payload_length),
        }
    }
    /// UDP directly behind this header, and not a fragment.
    fn carries_udp(&self) -> bool {
        match self {
            Net::V4(h) => h.protocol == IpNumber::UDP && !h.is_fragmenting_payload(),
            Net::V6(h) => h.next_header == IpNumber::UDP,
        }
    }
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Net::V4(h) => out.extend(h.to_bytes()),
            Net::V6(h) => out.extend(h.to_bytes()),
        }
    }
    /// Reads an IP header from the front of `bytes`; `None` when it is cut, broken, or sets bits that could
    /// not be written back (the reserved flag of IPv4).
    fn read(ethertype: EtherType, bytes: &[u8]) -> Option<Net> {
        let net = match ethertype {
            EtherType::IPV4 => Net::V4(Ipv4Header::from_slice(bytes).ok()?.0),
            EtherType::IPV6 => Net::V6(Ipv6Header::from_slice(bytes).ok()?.0),
            _ => return None,
        };
        let mut again = Vec::with_capacity(60);
        net.write(&mut again);
        bytes.starts_with(&again).then_some(net)
    }
}

/// Takes a frame apart. `frame` is what was captured from the destination MAC on, without FCS; `wire_len` the
/// length the frame had on the wire, larger when the capture cuts frames. Any bytes are fine: what cannot be
/// read is kept raw.
///
/// # Errors
/// [`Malformed::Short`] when not even the Ethernet header and the tags it announces are there.
pub fn dissect(frame: &[u8], wire_len: usize) -> Result<Dissected<'_>, Malformed> {
    let (ethernet, mut rest) = Ethernet2Header::from_slice(frame).map_err(|_| Malformed::Short)?;
    let mut tags = ArrayVec::new();
    let mut ethertype = ethernet.ether_type;
    while matches!(ethertype, EtherType::VLAN_TAGGED_FRAME | EtherType::PROVIDER_BRIDGING) && !tags.is_full()
    {
        let (tag, behind) = SingleVlanHeader::from_slice(rest).map_err(|_| Malformed::Short)?;
        ethertype = tag.ether_type;
        tags.push(tag);
        rest = behind;
    }
    let mut d = Dissected {
        ethernet,
        tags,
        body: Body::Other { addresses: None, why: None, bytes: rest },
        trailer: &[],
    };
    let ip_off = frame.len() - rest.len();
    let wire_len = wire_len.max(frame.len());
    if let Some(pfc) = pfc(frame).filter(|_| d.tags.is_empty()) {
        d.body = Body::Pfc(pfc, rest);
    } else if matches!(ethertype, EtherType::IPV4 | EtherType::IPV6) {
        d.body = match Net::read(ethertype, rest) {
            None => Body::Other { addresses: None, why: Some(Malformed::IpLength), bytes: rest },
            Some(net) => match roce(frame, ip_off, wire_len, &net) {
                Ok(Some((packet, trailer))) => {
                    d.trailer = trailer;
                    Body::Roce(Box::new(packet))
                }
                other => {
                    Body::Other { addresses: Some((net.src(), net.dst())), why: other.err(), bytes: rest }
                }
            },
        };
    }
    Ok(d)
}

fn pfc(frame: &[u8]) -> Option<PfcFrame> {
    let mut head = [0; HEAD_MAX];
    let n = frame.len().min(HEAD_MAX);
    head.get_mut(..n)?.copy_from_slice(frame.get(..n)?);
    PfcFrame::parse(&head, FrameLen(n as u16))
}

/// The RoCEv2 packet whose IP header `net` starts at `ip_off`, and what lies behind it; `None` when it is not
/// RoCEv2.
fn roce<'a>(
    frame: &'a [u8],
    ip_off: usize,
    wire_len: usize,
    net: &Net,
) -> Result<Option<(Roce<'a>, &'a [u8])>, Malformed> {
    if !net.carries_udp() {
        return Ok(None);
    }
    let end = ip_off + net.packet_len();
    let udp_off = ip_off + net.header_len();
    if end > wire_len || udp_off + UDP_LEN > end {
        return Err(Malformed::IpLength);
    }
    let (udp, _) =
        UdpHeader::from_slice(frame.get(udp_off..).unwrap_or_default()).map_err(|_| Malformed::Short)?;
    if udp.destination_port != ROCE_UDP_PORT {
        return Ok(None);
    }
    if udp_off + usize::from(udp.length) != end {
        return Err(Malformed::UdpLength);
    }
    let bth_off = udp_off + UDP_LEN;
    let ext_off = bth_off + BTH_LEN;
    let bth = Bth::parse(bytes_at(frame, bth_off).ok_or(Malformed::Short)?);
    let layout = Opcode::from_u8(bth.opcode).map_or(super::headers::ExtLayout::None, Opcode::ext);
    let payload_off = ext_off + layout.len();
    let pad_len = usize::from(bth.pad);
    let payload_len = end.checked_sub(payload_off + pad_len + ICRC_LEN).ok_or(Malformed::RoceLength)?;
    let ext = Ext::parse(layout, frame.get(ext_off..).unwrap_or_default()).ok_or(Malformed::Short)?;

    let captured = |from: usize, len: usize| {
        let until = frame.len().min(from + len);
        frame.get(from.min(until)..until).unwrap_or_default()
    };
    let icrc_off = end - ICRC_LEN;
    let found = bytes_at(frame, icrc_off).map(|b| u32::from_le_bytes(*b));
    let at = Offsets { ip: ip_off, udp: udp_off, is_v6: matches!(net, Net::V6(_)) };
    let expected = icrc::of_span(frame, at, icrc_off);
    let packet = Roce {
        net: net.clone(),
        udp,
        bth,
        ext,
        payload_len: payload_len as u16,
        payload: captured(payload_off, payload_len),
        pad: captured(payload_off + payload_len, pad_len),
        icrc: found,
        icrc_ok: found.map(|f| Some(f) == expected),
    };
    let behind = if found.is_some() { end } else { icrc_off };
    Ok(Some((packet, frame.get(behind..).unwrap_or_default())))
}

/// Writes a frame back, byte for byte what [`dissect`] read, but for the ICRC, which is computed afresh.
/// Lengths and checksums are those of the headers.
pub fn encode(d: &Dissected<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(ETH_LEN + 64);
    out.extend(d.ethernet.to_bytes());
    for tag in &d.tags {
        out.extend(tag.to_bytes());
    }
    match &d.body {
        Body::Pfc(_, bytes) | Body::Other { bytes, .. } => out.extend(*bytes),
        Body::Roce(r) => {
            let ip = out.len();
            r.net.write(&mut out);
            let at = Offsets { ip, udp: out.len(), is_v6: matches!(r.net, Net::V6(_)) };
            out.extend(r.udp.to_bytes());
            let (mut bth, mut ext) = ([0; 12], [0; 28]);
            r.bth.write(&mut bth);
            let ext_len = r.ext.write(&mut ext);
            out.extend(bth);
            out.extend(ext.iter().take(ext_len));
            out.extend(r.payload);
            out.extend(r.pad);
            if r.icrc.is_some() {
                let icrc = icrc::of_span(&out, at, out.len()).unwrap_or(0);
                out.extend(icrc.to_le_bytes());
            }
        }
    }
    out.extend(d.trailer);
    out
}
