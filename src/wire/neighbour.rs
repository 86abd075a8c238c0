//! Who has this address? ARP (RFC 826) for IPv4, neighbour discovery (RFC 4861) for IPv6, over untagged or tagged
//! Ethernet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{ETH_LEN, ETHERTYPE_IPV6, ETHERTYPE_VLAN, HEAD_MAX, VLAN_LEN, be16, put};
use crate::units::FrameLen;

/// EtherType of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const PROTO_ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Solicited, and overrides what is known.
const ADVERTISEMENT_FLAGS: u8 = 0x60;
/// ICMPv6 header with its target, and one link-layer address option.
const ND_LEN: usize = 32;

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

/// Reads an ARP or neighbour discovery frame; `None` for everything else.
pub fn parse(head: &[u8; HEAD_MAX], len: FrameLen) -> Option<Neighbour> {
    let (mut ethertype, mut at) = (be16(head, 12), ETH_LEN);
    if ethertype == ETHERTYPE_VLAN {
        (ethertype, at) = (be16(head, at + 2), at + VLAN_LEN);
    }
    let bytes = head.get(at..usize::from(len.0).min(HEAD_MAX))?;
    match ethertype {
        ETHERTYPE_ARP => arp(bytes),
        ETHERTYPE_IPV6 => discovery(bytes),
        _ => None,
    }
}

fn arp(b: &[u8]) -> Option<Neighbour> {
    // Ethernet, IPv4, 6 and 4 bytes.
    if b.len() < 28 || b[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let ip = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(*b.get(at..)?.first_chunk::<4>()?)));
    let (mac, sender, target) = (*b.get(8..)?.first_chunk::<6>()?, ip(14)?, ip(24)?);
    match u16::from_be_bytes([b[6], b[7]]) {
        ARP_REQUEST => Some(Neighbour::Asks { ip: sender, mac, target }),
        ARP_REPLY => Some(Neighbour::Tells { ip: sender, mac }),
        _ => None,
    }
}

fn discovery(b: &[u8]) -> Option<Neighbour> {
    let icmp = b.get(40..)?;
    // Hop limit 255: it has crossed no router (RFC 4861, 7.1).
    if b[6] != PROTO_ICMPV6 || b[7] != 255 || icmp.len() < ND_LEN || icmp[1] != 0 {
        return None;
    }
    let ip = |b: &[u8]| Some(IpAddr::V6(Ipv6Addr::from(*b.first_chunk::<16>()?)));
    let (source, target) = (ip(b.get(8..)?)?, ip(icmp.get(8..)?)?);
    let mac = *icmp.get(26..)?.first_chunk::<6>()?;
    match (icmp[0], icmp[24], icmp[25]) {
        (SOLICITATION, 1, 1) => Some(Neighbour::Asks { ip: source, mac, target }),
        (ADVERTISEMENT, 2, 1) => Some(Neighbour::Tells { ip: target, mac }),
        _ => None,
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
            Some(nd_body(head, at, (SOLICITATION, 0, 1), (ip, group), target, mac))
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
            let to = if to.is_unspecified() { Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1) } else { to };
            let dst = if to.is_multicast() { [0x33, 0x33, 0, 0, 0, 1] } else { asker.0 };
            let at = ethernet(head, dst, mac, vlan, ETHERTYPE_IPV6);
            Some(nd_body(head, at, (ADVERTISEMENT, ADVERTISEMENT_FLAGS, 2), (ip, to), ip, mac))
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
        Some(vid) => {
            put(head, 12, &ETHERTYPE_VLAN.to_be_bytes());
            put(head, 14, &vid.to_be_bytes());
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
    put(head, at, &[0x60, 0, 0, 0, 0, ND_LEN as u8, PROTO_ICMPV6, 255]);
    put(head, at + 8, &src.octets());
    put(head, at + 24, &dst.octets());
    let icmp = at + 40;
    put(head, icmp, &[kind, 0, 0, 0, flags, 0, 0, 0]);
    put(head, icmp + 8, &target.octets());
    put(head, icmp + 24, &[option, 1]);
    put(head, icmp + 26, &mac);
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
        assert_eq!(parse(&head, len), Some(asks));
        assert_eq!(parse(&head, FrameLen(40)), None, "cut");

        let len = tell(&mut head, Some(100), B, ip("198.18.0.2"), (A, ip("198.18.0.1"))).unwrap();
        let expected = hex(
            "020000000001 020000000002 8100 0064 0806 0001 0800 06 04 0002 020000000002 c6120002 020000000001",
        );
        assert_eq!(head[..expected.len()], expected);
        assert_eq!(parse(&head, len), Some(Neighbour::Tells { ip: ip("198.18.0.2"), mac: B }));
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
        assert_eq!(parse(&head, len), Some(asks));

        let len = tell(&mut head, None, B, ip("2001:2::2"), (A, ip("2001:2::1"))).unwrap();
        assert_eq!(parse(&head, len), Some(Neighbour::Tells { ip: ip("2001:2::2"), mac: B }));
        assert_eq!(head[58], ADVERTISEMENT_FLAGS);
        tell(&mut head, None, B, ip("2001:2::2"), (A, ip("::"))).unwrap();
        assert_eq!(head[..6], [0x33, 0x33, 0, 0, 0, 1], "all nodes");
        head[21] = 64;
        assert_eq!(parse(&head, len), None, "a router has passed it on");
    }
}
