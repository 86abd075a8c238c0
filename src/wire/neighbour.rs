//! Who has this address? Answers to ARP (RFC 826) and to neighbour solicitations (RFC 4861, 7.1 and 4.4), so that an
//! endpoint that is no host of its own can be found by one whose kernel asks.

use std::net::{IpAddr, Ipv6Addr};

use super::{ETH_LEN, ETHERTYPE_IPV6, ETHERTYPE_VLAN, HEAD_MAX, IPV6_LEN, VLAN_LEN, be16, bytes_at, put};

const ETHERTYPE_ARP: u16 = 0x0806;
/// Ethernet hardware, IPv4 protocol, 6 and 4 address bytes; then the operation.
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_LEN: usize = 28;
const PROTO_ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// An advertisement with the target's link-layer address.
const ADVERTISEMENT_LEN: usize = 24 + 8;
/// Both kinds come with the hop limit that no router passes on.
const HOP_LIMIT: u8 = 255;

/// An address of ours and the MAC that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The address.
    pub ip: IpAddr,
    /// The MAC.
    pub mac: [u8; 6],
}

impl Neighbour {
    /// Writes the answer to `request` (a whole frame, with one VLAN tag or none) to `out` and returns its length;
    /// `None` when it does not ask for us.
    pub fn answer(&self, request: &[u8], out: &mut [u8; HEAD_MAX]) -> Option<usize> {
        let tagged = be16(request, 12) == ETHERTYPE_VLAN;
        let l3 = ETH_LEN + if tagged { VLAN_LEN } else { 0 };
        let body = request.get(l3..)?;
        let written = match (be16(request, l3 - 2), self.ip) {
            (ETHERTYPE_ARP, IpAddr::V4(ip)) => self.arp(ip.octets(), body, out.get_mut(l3..)?)?,
            (ETHERTYPE_IPV6, IpAddr::V6(ip)) => self.advertisement(ip, body, out.get_mut(l3..)?)?,
            _ => return None,
        };
        let asker: [u8; 6] = *bytes_at(request, 6)?;
        put(out, 12, request.get(12..l3)?);
        put(out, 0, &asker);
        put(out, 6, &self.mac);
        Some(l3 + written)
    }

    fn arp(&self, ip: [u8; 4], ask: &[u8], out: &mut [u8]) -> Option<usize> {
        let wanted = ask.get(..6)? == ARP_HEAD && be16(ask, 6) == 1 && ask.get(24..ARP_LEN)? == ip;
        wanted.then_some(())?;
        put(out, 0, &ARP_HEAD);
        put(out, 6, &2u16.to_be_bytes());
        put(out, 8, &self.mac);
        put(out, 14, &ip);
        put(out, 18, ask.get(8..18)?);
        Some(ARP_LEN)
    }

    fn advertisement(&self, ip: Ipv6Addr, ask: &[u8], out: &mut [u8]) -> Option<usize> {
        let icmp = ask.get(IPV6_LEN..)?;
        let wanted = ask.get(6..8)? == [PROTO_ICMPV6, HOP_LIMIT]
            && icmp.get(..2)? == [SOLICITATION, 0]
            && icmp.get(8..24)? == ip.octets();
        wanted.then_some(())?;
        let asker = Ipv6Addr::from(*bytes_at::<16>(ask, 8)?);
        // One that has no address yet checks whether ours is taken (RFC 4862); it listens to all nodes.
        let (to, flags) = match asker.is_unspecified() {
            true => (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0x20),
            false => (asker, 0x60),
        };
        put(out, 0, &[0x60, 0, 0, 0, 0, ADVERTISEMENT_LEN as u8, PROTO_ICMPV6, HOP_LIMIT]);
        put(out, 8, &ip.octets());
        put(out, 24, &to.octets());
        put(out, IPV6_LEN, &[ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0]);
        put(out, IPV6_LEN + 8, &ip.octets());
        put(out, IPV6_LEN + 24, &[2, 1]);
        put(out, IPV6_LEN + 26, &self.mac);
        let end = IPV6_LEN + ADVERTISEMENT_LEN;
        let sum = checksum(out.get(..end)?);
        put(out, IPV6_LEN + 2, &sum.to_be_bytes());
        Some(end)
    }
}

/// ICMPv6 checksum of an IPv6 packet whose checksum field is zero: over addresses, length, next header and body.
fn checksum(packet: &[u8]) -> u16 {
    let words = |from: usize, to: usize| (from..to).step_by(2).map(|at| u32::from(be16(packet, at)));
    let length = (packet.len() - IPV6_LEN) as u32;
    let mut sum: u32 = words(8, packet.len()).sum::<u32>() + length + u32::from(PROTO_ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEM: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x11];

    #[test]
    fn arp_is_answered_as_rfc_826_says() {
        let us = Neighbour { ip: "192.168.77.1".parse().expect("an address"), mac: US };
        let mut ask = [[0xff; 6], THEM].concat();
        ask.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        ask.extend(THEM);
        ask.extend([192, 168, 77, 11, 0, 0, 0, 0, 0, 0, 192, 168, 77, 1]);
        let mut out = [0; HEAD_MAX];
        let n = us.answer(&ask, &mut out).expect("it asks for us");
        let mut want = [THEM, US].concat();
        want.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        want.extend(US);
        want.extend([192, 168, 77, 1]);
        want.extend(THEM);
        want.extend([192, 168, 77, 11]);
        assert_eq!(out[..n], want);

        // Behind a tag the answer has the same tag.
        let tagged = [&ask[..12], &[0x81, 0, 0, 5], &ask[12..]].concat();
        let n = us.answer(&tagged, &mut out).expect("tagged");
        assert_eq!(out[..n], [&want[..12], &[0x81, 0, 0, 5], &want[12..]].concat());

        ask[41] = 2;
        assert_eq!(us.answer(&ask, &mut out), None, "another address");
        ask[41] = 1;
        ask[21] = 2;
        assert_eq!(us.answer(&ask, &mut out), None, "an answer");
        for n in 0..ask.len() {
            assert_eq!(us.answer(&ask[..n], &mut out), None, "cut after {n}");
        }
    }

    #[test]
    fn solicitations_are_answered_as_rfc_4861_says() {
        let ip: Ipv6Addr = "fd00:77::1".parse().expect("an address");
        let us = Neighbour { ip: ip.into(), mac: US };
        let from: Ipv6Addr = "fd00:77::11".parse().expect("an address");
        let ask = |from: Ipv6Addr| {
            let mut ask = [[0x33, 0x33, 0xff, 0, 0, 1], THEM].concat();
            ask.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
            ask.extend(from.octets());
            ask.extend("ff02::1:ff00:1".parse::<Ipv6Addr>().expect("a group").octets());
            ask.extend([135, 0, 0, 0, 0, 0, 0, 0]);
            ask.extend(ip.octets());
            ask.extend([1, 1]);
            ask.extend(THEM);
            ask
        };
        let mut out = [0; HEAD_MAX];
        let n = us.answer(&ask(from), &mut out).expect("it asks for us");
        let answer = &out[..n];
        assert_eq!((n, &answer[..6], &answer[6..12]), (86, &THEM[..], &US[..]));
        assert_eq!((&answer[22..38], &answer[38..54]), (&ip.octets()[..], &from.octets()[..]));
        assert_eq!(
            (answer[21], answer[54], answer[58]),
            (255, 136, 0x60),
            "hop limit, type, solicited and override"
        );
        assert_eq!(
            (&answer[62..78], &answer[78..80], &answer[80..]),
            (&ip.octets()[..], &[2, 1][..], &US[..])
        );
        // A right checksum makes the sum of everything with it all ones.
        let sum = |p: &[u8]| -> u64 { p.chunks(2).map(|w| u64::from(w[0]) << 8 | u64::from(w[1])).sum() };
        let total = sum(&answer[22..]) + 32 + 58;
        assert_eq!((total & 0xffff) + (total >> 16), 0xffff);

        let n = us.answer(&ask(Ipv6Addr::UNSPECIFIED), &mut out).expect("duplicate address detection");
        assert_eq!(
            (&out[38..40], out[53], out[58], n),
            (&[0xff, 2][..], 1, 0x20, 86),
            "to all nodes, not solicited"
        );
        let mut routed = ask(from);
        routed[21] = 254;
        assert_eq!(us.answer(&routed, &mut out), None, "it came through a router");
    }
}
