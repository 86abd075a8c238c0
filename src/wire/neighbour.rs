//! Who has this address? ARP (RFC 826) for IPv4, neighbour discovery (RFC 4861) for IPv6, over untagged or tagged
//! Ethernet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ETH_LEN, ETHERTYPE_IPV6, ETHERTYPE_VLAN, HEAD_MAX, IPV6_LEN, VLAN_LEN, be16, bytes_at, put};
use crate::units::FrameLen;

/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const PROTO_ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// An advertisement overrides what is known...
const OVERRIDE: u8 = 0x20;
/// ...and was asked for by one that has an address (RFC 4861, 7.2.4).
const SOLICITED: u8 = 0x40;
/// Options of RFC 4861, 4.6.1: the link-layer address of who asks, and of the one asked for.
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;
/// ICMPv6 header with its target.
const ND_HEAD: usize = 24;
/// With one link-layer address option.
const ND_LEN: usize = ND_HEAD + 8;
/// Neighbour discovery comes with the hop limit that no router passes on (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;

/// What a neighbour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// It asks for the MAC of `target`.
    Asks {
        /// Who asks; unspecified while it looks for duplicates of its own address.
        ip: IpAddr,
        /// Its MAC.
        mac: [u8; 6],
        /// The address asked for.
        target: IpAddr,
    },
    /// It tells its own MAC.
    Tells {
        /// Its address.
        ip: IpAddr,
        /// Its MAC.
        mac: [u8; 6],
    },
}

/// Reads an ARP or neighbour discovery frame without FCS, with one VLAN tag or none; `None` for everything else. What
/// lies beyond the end of a longer frame need not be given.
pub fn parse(frame: &[u8]) -> Option<Neighbour> {
    let l3 = ETH_LEN + if tag(frame).is_some() { VLAN_LEN } else { 0 };
    let body = frame.get(l3..)?;
    match be16(frame, l3 - 2) {
        ETHERTYPE_ARP => arp(body),
        ETHERTYPE_IPV6 => discovery(*bytes_at(frame, 6)?, body),
        _ => None,
    }
}

/// The VLAN tag of a frame (PCP, DEI and VID).
fn tag(frame: &[u8]) -> Option<u16> {
    (be16(frame, 12) == ETHERTYPE_VLAN).then(|| be16(frame, ETH_LEN))
}

fn arp(b: &[u8]) -> Option<Neighbour> {
    // Ethernet, IPv4, 6 and 4 bytes.
    if b.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let ip = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(*bytes_at::<4>(b, at)?)));
    let (mac, sender, target) = (*bytes_at(b, 8)?, ip(14)?, ip(24)?);
    match be16(b, 6) {
        ARP_REQUEST => Some(Neighbour::Asks { ip: sender, mac, target }),
        ARP_REPLY => Some(Neighbour::Tells { ip: sender, mac }),
        _ => None,
    }
}

/// One that looks for duplicates of its address gives no MAC, and one that asks again need not (RFC 4861, 4.3): then
/// the frame's own source is it.
fn discovery(from: [u8; 6], b: &[u8]) -> Option<Neighbour> {
    let icmp = b.get(IPV6_LEN..)?;
    let icmp = icmp.get(..icmp.len().min(usize::from(be16(b, 4))))?;
    if b.get(6..8)? != [PROTO_ICMPV6, HOP_LIMIT] || icmp.get(1)? != &0 {
        return None;
    }
    let ip = |b: &[u8], at: usize| Some(IpAddr::V6(Ipv6Addr::from(*bytes_at::<16>(b, at)?)));
    let (source, target) = (ip(b, 8)?, ip(icmp, 8)?);
    let options = icmp.get(ND_HEAD..)?;
    match *icmp.first()? {
        SOLICITATION => {
            let mac = option(options, OPTION_SOURCE).unwrap_or(from);
            Some(Neighbour::Asks { ip: source, mac, target })
        }
        ADVERTISEMENT => Some(Neighbour::Tells { ip: target, mac: option(options, OPTION_TARGET)? }),
        _ => None,
    }
}

/// The link-layer address in the option of a kind, among options of a type, a length in units of 8 bytes, and a value.
fn option(mut options: &[u8], kind: u8) -> Option<[u8; 6]> {
    loop {
        let len = usize::from(*options.get(1)?) * 8;
        if len == 0 {
            return None;
        }
        if options.first() == Some(&kind) {
            return bytes_at(options, 2).copied();
        }
        options = options.get(len..)?;
    }
}

/// An address of ours and the MAC that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// The address.
    pub ip: IpAddr,
    /// The MAC.
    pub mac: [u8; 6],
}

impl Own {
    /// Writes the answer to `frame` behind the same tag; returns its length. `None` when the frame does not ask for us.
    pub fn answer(&self, frame: &[u8], out: &mut [u8; HEAD_MAX]) -> Option<FrameLen> {
        match parse(frame)? {
            Neighbour::Asks { ip, mac, target } if target == self.ip => {
                tell(out, tag(frame), self.mac, self.ip, (mac, ip))
            }
            _ => None,
        }
    }
}

/// Writes the question for the MAC of `target`; returns its length. `None` when the addresses are of two families.
pub fn ask(
    head: &mut [u8; HEAD_MAX],
    vlan: Option<u16>,
    mac: [u8; 6],
    ip: IpAddr,
    target: IpAddr,
) -> Option<FrameLen> {
    match (ip, target) {
        (IpAddr::V4(ip), IpAddr::V4(target)) => {
            let at = ethernet(head, [0xff; 6], mac, vlan, ETHERTYPE_ARP);
            Some(arp_body(head, at, ARP_REQUEST, (mac, ip), ([0; 6], target)))
        }
        (IpAddr::V6(ip), IpAddr::V6(target)) => {
            let [.., a, b, c] = target.octets();
            let at = ethernet(head, [0x33, 0x33, 0xff, a, b, c], mac, vlan, ETHERTYPE_IPV6);
            let group = Ipv6Addr::from(
                0xff02_0000_0000_0000_0000_0001_ff00_0000_u128 | u128::from(target) & 0xff_ffff,
            );
            Some(nd_body(head, at, (SOLICITATION, 0, OPTION_SOURCE), (ip, group), target, mac))
        }
        _ => None,
    }
}

/// Writes the answer that `ip` lives at `mac`, to the one who asked; returns its length. `None` when the addresses are of
/// two families.
pub fn tell(
    head: &mut [u8; HEAD_MAX],
    vlan: Option<u16>,
    mac: [u8; 6],
    ip: IpAddr,
    asker: ([u8; 6], IpAddr),
) -> Option<FrameLen> {
    match (ip, asker.1) {
        (IpAddr::V4(ip), IpAddr::V4(to)) => {
            let at = ethernet(head, asker.0, mac, vlan, ETHERTYPE_ARP);
            Some(arp_body(head, at, ARP_REPLY, (mac, ip), (asker.0, to)))
        }
        (IpAddr::V6(ip), IpAddr::V6(to)) => {
            // One that looks for duplicates has no address yet: everyone is told.
            let (to, dst, flags) = match to.is_unspecified() {
                true => (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), [0x33, 0x33, 0, 0, 0, 1], OVERRIDE),
                false => (to, asker.0, OVERRIDE | SOLICITED),
            };
            let at = ethernet(head, dst, mac, vlan, ETHERTYPE_IPV6);
            Some(nd_body(head, at, (ADVERTISEMENT, flags, OPTION_TARGET), (ip, to), ip, mac))
        }
        _ => None,
    }
}

fn ethernet(
    head: &mut [u8; HEAD_MAX],
    dst: [u8; 6],
    src: [u8; 6],
    vlan: Option<u16>,
    ethertype: u16,
) -> usize {
    put(head, 0, &dst);
    put(head, 6, &src);
    let at = match vlan {
        Some(tag) => {
            put(head, 12, &ETHERTYPE_VLAN.to_be_bytes());
            put(head, ETH_LEN, &tag.to_be_bytes());
            ETH_LEN + VLAN_LEN
        }
        None => ETH_LEN,
    };
    put(head, at - 2, &ethertype.to_be_bytes());
    at
}

fn arp_body(
    head: &mut [u8; HEAD_MAX],
    at: usize,
    operation: u16,
    from: ([u8; 6], Ipv4Addr),
    to: ([u8; 6], Ipv4Addr),
) -> FrameLen {
    put(head, at, &[0, 1, 8, 0, 6, 4]);
    put(head, at + 6, &operation.to_be_bytes());
    put(head, at + 8, &from.0);
    put(head, at + 14, &from.1.octets());
    put(head, at + 18, &to.0);
    put(head, at + 24, &to.1.octets());
    if let Some(pad) = head.get_mut(at + 28..64) {
        pad.fill(0);
    }
    FrameLen(at as u16 + 46)
}

fn nd_body(
    head: &mut [u8; HEAD_MAX],
    at: usize,
    (kind, flags, option): (u8, u8, u8),
    (src, dst): (Ipv6Addr, Ipv6Addr),
    target: Ipv6Addr,
    mac: [u8; 6],
) -> FrameLen {
    put(head, at, &[0x60, 0, 0, 0, 0, ND_LEN as u8, PROTO_ICMPV6, HOP_LIMIT]);
    put(head, at + 8, &src.octets());
    put(head, at + 24, &dst.octets());
    let icmp = at + IPV6_LEN;
    put(head, icmp, &[kind, 0, 0, 0, flags, 0, 0, 0]);
    put(head, icmp + 8, &target.octets());
    put(head, icmp + ND_HEAD, &[option, 1]);
    put(head, icmp + ND_HEAD + 2, &mac);
    let sum = checksum(head.get(at + 8..icmp + ND_LEN).unwrap_or_default());
    put(head, icmp + 2, &sum.to_be_bytes());
    FrameLen((icmp + ND_LEN) as u16)
}

/// ICMPv6 checksum (RFC 4443, 2.3) over addresses and message; the pseudo header adds length and protocol.
fn checksum(addresses_and_message: &[u8]) -> u16 {
    let words = addresses_and_message.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum = words.sum::<u32>() + ND_LEN as u32 + u32::from(PROTO_ICMPV6);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
    }

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn arp_is_written_as_rfc_826_has_it_and_read_back() {
        let (mut head, ip) = ([0xee; HEAD_MAX], |s: &str| s.parse::<IpAddr>().unwrap());
        let len = ask(&mut head, None, A, ip("198.18.0.1"), ip("198.18.0.2")).unwrap();
        let expected = hex(
            "ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 c6120001 000000000000 c6120002",
        );
        assert_eq!((len, &head[..42]), (FrameLen(60), expected.as_slice()));
        assert_eq!(head[42..60], [0; 18]);
        let asks = Neighbour::Asks { ip: ip("198.18.0.1"), mac: A, target: ip("198.18.0.2") };
        assert_eq!(parse(&head[..usize::from(len.0)]), Some(asks));
        assert_eq!(parse(&head[..40]), None, "cut");

        let len = tell(&mut head, Some(100), B, ip("198.18.0.2"), (A, ip("198.18.0.1"))).unwrap();
        let expected = hex(
            "020000000001 020000000002 8100 0064 0806 0001 0800 06 04 0002 020000000002 c6120002 020000000001",
        );
        assert_eq!(head[..expected.len()], expected);
        assert_eq!(
            parse(&head[..usize::from(len.0)]),
            Some(Neighbour::Tells { ip: ip("198.18.0.2"), mac: B })
        );
        assert_eq!(ask(&mut head, None, A, ip("198.18.0.1"), ip("2001:2::1")), None);
    }

    #[test]
    fn discovery_is_written_as_rfc_4861_has_it_and_read_back() {
        let (mut head, ip) = ([0xee; HEAD_MAX], |s: &str| s.parse::<IpAddr>().unwrap());
        let len = ask(&mut head, None, A, ip("2001:2::1"), ip("2001:2::12:3456")).unwrap();
        // Whatever the checksum: the sum of all words of pseudo header and message is ffff with it.
        let expected = hex(
            "3333ff123456 020000000001 86dd 60000000 0020 3a ff 20010002000000000000000000000001 \
             ff0200000000000000000001ff123456 8700 0000 00000000 20010002000000000000000000123456 01 01 020000000001",
        );
        assert_eq!(usize::from(len.0), expected.len());
        let (sum, rest) = (head[56..58].to_vec(), [&head[..56], &head[58..86]].concat());
        assert_eq!(rest, [&expected[..56], &expected[58..]].concat());
        let total: u32 =
            head[22..86].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum::<u32>() + 32 + 58;
        assert_eq!((total & 0xffff) + (total >> 16), 0xffff, "checksum {sum:02x?}");
        let asks = Neighbour::Asks { ip: ip("2001:2::1"), mac: A, target: ip("2001:2::12:3456") };
        assert_eq!(parse(&head[..usize::from(len.0)]), Some(asks));

        let len = tell(&mut head, None, B, ip("2001:2::2"), (A, ip("2001:2::1"))).unwrap();
        assert_eq!(
            parse(&head[..usize::from(len.0)]),
            Some(Neighbour::Tells { ip: ip("2001:2::2"), mac: B })
        );
        assert_eq!(head[58], 0x60, "solicited, override");
        tell(&mut head, None, B, ip("2001:2::2"), (A, ip("::"))).unwrap();
        assert_eq!((&head[..6], head[58]), (&[0x33, 0x33, 0, 0, 0, 1][..], 0x20), "all nodes, not solicited");
        head[21] = 64;
        assert_eq!(parse(&head[..usize::from(len.0)]), None, "a router has passed it on");
    }

    /// What a Linux kernel asks and what it is told, octet by octet.
    #[test]
    fn arp_for_us_is_answered_behind_the_same_tag() {
        let us = Own { ip: "192.168.77.1".parse().unwrap(), mac: A };
        let mut frame = hex(
            "ffffffffffff 525400000011 0806 0001 0800 06 04 0001 525400000011 c0a84d0b 000000000000 c0a84d01",
        );
        let want = hex(
            "525400000011 020000000001 0806 0001 0800 06 04 0002 020000000001 c0a84d01 525400000011 c0a84d0b",
        );
        let mut out = [0xee; HEAD_MAX];
        // Padded to the shortest frame, as every Ethernet has it.
        assert_eq!(us.answer(&frame, &mut out), Some(FrameLen(60)));
        assert_eq!((&out[..42], &out[42..60]), (&want[..], &[0; 18][..]));

        // PCP 5 stays, too.
        let tagged = [&frame[..12], &[0x81, 0, 0xa0, 5], &frame[12..]].concat();
        assert_eq!(us.answer(&tagged, &mut out), Some(FrameLen(64)));
        assert_eq!(out[..46], [&want[..12], &[0x81, 0, 0xa0, 5], &want[12..]].concat());

        for n in 0..frame.len() {
            assert_eq!(us.answer(&frame[..n], &mut out), None, "cut after {n}");
        }
        frame[41] = 2;
        assert_eq!(us.answer(&frame, &mut out), None, "another address");
        frame[41] = 1;
        frame[21] = 2;
        assert_eq!(us.answer(&frame, &mut out), None, "an answer");
    }

    #[test]
    fn solicitations_for_us_are_answered() {
        let ip: Ipv6Addr = "fd00:77::1".parse().unwrap();
        let (us, from) = (Own { ip: ip.into(), mac: A }, "fd00:77::11".parse::<Ipv6Addr>().unwrap());
        let solicit = |from: Ipv6Addr, options: &str| {
            let options = hex(options);
            let mut ask = hex("3333ff000001 525400000011 86dd 60000000 00");
            ask.extend([24 + options.len() as u8, 58, 255]);
            ask.extend(from.octets());
            ask.extend("ff02::1:ff00:1".parse::<Ipv6Addr>().unwrap().octets());
            ask.extend([135, 0, 0, 0, 0, 0, 0, 0]);
            ask.extend(ip.octets());
            ask.extend(options);
            ask
        };
        let mut out = [0; HEAD_MAX];
        let ask = solicit(from, "01 01 525400000011");
        assert_eq!(us.answer(&ask, &mut out), Some(FrameLen(86)));
        assert_eq!((&out[..6], &out[6..12]), (&ask[6..12], &A[..]));
        assert_eq!((&out[22..38], &out[38..54]), (&ip.octets()[..], &from.octets()[..]));
        assert_eq!((out[21], out[54], out[58]), (255, 136, 0x60), "hop limit, type, solicited and override");
        assert_eq!((&out[62..78], &out[78..80], &out[80..86]), (&ip.octets()[..], &[2, 1][..], &A[..]));
        for n in 0..ask.len() - 8 {
            assert_eq!(us.answer(&ask[..n], &mut out), None, "cut after {n}");
        }

        // Duplicate address detection has no address to give, and may bring a nonce (RFC 4862, RFC 7527).
        for options in ["", "0e 01 112233445566"] {
            let n = us.answer(&solicit(Ipv6Addr::UNSPECIFIED, options), &mut out);
            assert_eq!((n, &out[38..40], out[53], out[58]), (Some(FrameLen(86)), &[0xff, 2][..], 1, 0x20));
        }
        // The option of the asker wins over the frame's source, whichever comes first.
        let other = solicit(from, "0e 01 112233445566 01 01 020000000002");
        assert_eq!(us.answer(&other, &mut out), Some(FrameLen(86)));
        assert_eq!(out[..6], B);
        assert!(
            us.answer(&solicit(from, "0e 00 000000000000"), &mut out).is_some(),
            "an option without length"
        );

        let mut routed = ask;
        routed[21] = 254;
        assert_eq!(us.answer(&routed, &mut out), None, "it came through a router");
    }
}
