//! Ways through an idle fabric: delay, round trip, slowest link.

use std::collections::BTreeMap;

use crate::limits::HOPS_MAX;
use crate::topology::{End, Fabric, Link};
use crate::units::{FRAME_LEN_MIN, FrameLen, Rate, Span};

/// The links of a fabric by where they start.
#[derive(Debug)]
pub struct Paths<'f> {
    fabric: &'f Fabric,
    from_host: BTreeMap<u32, usize>,
    from_switch: BTreeMap<(u16, u16), usize>,
}

/// A round trip when nothing queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// From the first bit of a data frame leaving to the last bit of its ACK arriving.
    pub span: Span,
    /// Slowest link on the way there.
    pub rate: Rate,
}

impl RoundTrip {
    /// Bandwidth-delay product in wire bytes, rounded up.
    pub fn bdp_bytes(&self) -> u64 {
        let bits = u128::from(self.span.0) * u128::from(self.rate.bits_per_s);
        u64::try_from(bits.div_ceil(8 * 1_000_000_000_000)).unwrap_or(u64::MAX)
    }
}

impl<'f> Paths<'f> {
    /// An index over the links of `fabric`.
    pub fn new(fabric: &'f Fabric) -> Paths<'f> {
        let (mut from_host, mut from_switch) = (BTreeMap::new(), BTreeMap::new());
        for (i, l) in fabric.links.iter().enumerate() {
            match l.from {
                End::Host(p) => from_host.insert(p.0, i),
                End::Switch(s, p) => from_switch.insert((s, p), i),
            };
        }
        Paths { fabric, from_host, from_switch }
    }

    /// The links from one tester port to another, the first of equal-cost ones at each switch; `None` where there is no
    /// way.
    pub fn links(&self, from: u32, to: u32) -> Option<Vec<&'f Link>> {
        let mut links = vec![self.fabric.links.get(*self.from_host.get(&from)?)?];
        while let Some(End::Switch(s, _)) = links.last().map(|l| l.to) {
            if links.len() > usize::from(HOPS_MAX) {
                return None;
            }
            let port = *self.fabric.routes.get(usize::from(s))?.ports_to.get(to as usize)?.first()?;
            links.push(self.fabric.links.get(*self.from_switch.get(&(s, port))?)?);
        }
        Some(links)
    }

    /// What the way adds to a frame's time on the sender's own link.
    pub fn extra(&self, from: u32, to: u32, len: FrameLen) -> Option<Span> {
        let links = self.links(from, to)?;
        let (first, rest) = links.split_first()?;
        let hop = |l: &&Link| l.timing.wire_time(len) + l.timing.propagation();
        Some(rest.iter().map(hop).fold(first.timing.propagation(), |sum, hop| sum + hop))
    }

    /// A data frame of `len` there and its ACK back.
    pub fn round_trip(&self, from: u32, to: u32, len: FrameLen) -> Option<RoundTrip> {
        let there = self.links(from, to)?;
        let first = there.first()?.timing.wire_time(len);
        let ack = FrameLen(FRAME_LEN_MIN);
        let ack_first = self.links(to, from)?.first()?.timing.wire_time(ack);
        let span = first + self.extra(from, to, len)? + ack_first + self.extra(to, from, ack)?;
        let rate = there.iter().map(|l| l.timing.rate()).min()?;
        Some(RoundTrip { span, rate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bandwidth_delay_product_counts_every_bit() {
        // 8 us at 100G are 100,000 bytes; a picosecond more needs another one.
        let at = |ps| RoundTrip { span: Span(ps), rate: Rate::gbps(100) }.bdp_bytes();
        assert_eq!((at(8_000_000), at(8_000_001)), (100_000, 100_001));
    }
}
