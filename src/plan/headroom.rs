//! Headroom: what may still arrive at a switch port after a priority group has asked for silence.
//!
//! The group crosses its threshold when a frame has arrived. The worst case from there, in order of time: that frame did
//! not fit as a whole and is in headroom already; the largest frame has just begun to leave by the same port, and the
//! PFC frame waits for it; the PFC frame's own time; the way back; the time the far end may take to obey; at that moment
//! the far end has just begun another largest frame, which it may finish; and the way here. What arrives meanwhile is of
//! the kind that holds most cells for its time on the link.

use std::collections::BTreeMap;

use super::predict::{Basis, response_quanta};
use super::{HeadroomPrediction, PortHeadroom};
use crate::limits::PRIORITIES;
use crate::switch::config::{FCS_BYTES, SwitchConfig};
use crate::topology::{End, Link};
use crate::transport::config::Verb;
use crate::units::{Bytes, FRAME_LEN_MIN, FrameLen, LinkTiming, Span, WIRE_OVERHEAD_BYTES};
use crate::workload::generate::traffic;
use crate::workload::ideal::Framing;

/// What travels in one priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Lengths of data frames, without FCS.
    pub lens: Vec<FrameLen>,
    /// Acknowledgements travel here too: at most one for every data frame.
    pub acks: bool,
}

impl Frames {
    /// What travels in several priorities.
    fn of_all<'a>(all: impl Iterator<Item = &'a Frames>) -> Frames {
        let mut sum = Frames::default();
        for one in all {
            sum.lens.extend(one.lens.iter().filter(|len| !sum.lens.contains(len)).collect::<Vec<_>>());
            sum.acks |= one.acks;
        }
        sum
    }
}

/// Cells of a frame with FCS, padded.
fn cells(len: FrameLen, cell: u16) -> u64 {
    (u64::from(len.0.max(FRAME_LEN_MIN)) + u64::from(FCS_BYTES)).div_ceil(u64::from(cell.max(1)))
}

/// Time from a group's XOFF until the last frame that may still come has been started at the far end, plus the way here:
/// the largest frame on the way out (`blocking`), the PFC frame, both ways, and the response of the far end.
pub fn silence_after(into: &LinkTiming, back: &LinkTiming, response: Span, blocking: FrameLen) -> Span {
    let pfc = back.wire_time(FrameLen(FRAME_LEN_MIN));
    back.wire_time(blocking) + pfc + back.propagation() + response + into.propagation()
}

/// Cells of headroom that `frames` on the link `into` may need when its far end falls silent after `span` (see
/// [`silence_after`]). Exact when all frames have one length, never too few otherwise.
pub fn needed_cells(span: Span, into: &LinkTiming, frames: &Frames, cell: u16) -> u64 {
    let held = |len: &FrameLen| u128::from(cells(*len, cell));
    let time = |len: &FrameLen| u128::from(into.wire_time(*len).0.max(1));
    let span = u128::from(span.0);
    let largest = frames.lens.iter().map(held).max().unwrap_or(0);
    let back_to_back = match frames.lens.as_slice() {
        [one] => span / time(one) * held(one),
        all => all.iter().map(|len| (span * held(len)).div_ceil(time(len))).max().unwrap_or(0),
    };
    let shortest = frames.lens.iter().map(time).min().unwrap_or(1);
    let ack = held(&FrameLen(FRAME_LEN_MIN)) * (span / shortest + 1);
    let all = 2 * largest + back_to_back + if frames.acks { ack } else { 0 };
    u64::try_from(all).unwrap_or(u64::MAX)
}

/// What the run sends in every priority, and the largest frame of all.
fn in_priorities(b: &Basis<'_>, v6: bool) -> ([Frames; PRIORITIES], FrameLen) {
    let mut all: [Frames; PRIORITIES] = Default::default();
    let mut put = |priority: u8, len: FrameLen| {
        let lens = &mut all[usize::from(priority) % PRIORITIES].lens;
        if !lens.contains(&len) {
            lens.push(len);
        }
    };
    for w in b.workloads {
        let class = &b.classes[usize::from(w.class.0)];
        let framing = Framing::of(class, w.verb, v6);
        let mut tails: BTreeMap<u64, ()> = BTreeMap::new();
        traffic(w, |_, _, bytes, _| {
            let tail = bytes % u64::from(class.mtu.max(1));
            if tails.len() < 64 || bytes == 0 {
                tails.insert(tail, ());
            }
        });
        put(class.priority, framing.full_len());
        for tail in tails.into_keys().filter(|t| *t > 0) {
            let wire = framing.wire(tail).saturating_sub(u64::from(WIRE_OVERHEAD_BYTES));
            put(class.priority, FrameLen(wire.min(u64::from(framing.full_len().0)) as u16));
        }
    }
    for s in b.hosts.iter().flat_map(|h| h.streams.iter()) {
        let class = &b.classes[usize::from(s.class.0)];
        s.sizes.iter().for_each(|(len, _)| put(class.priority, FrameLen(len.saturating_sub(FCS_BYTES))));
    }
    // A class that nothing names yet may still be used by bursts: full frames.
    for class in b.classes {
        if all[usize::from(class.priority) % PRIORITIES].lens.is_empty() {
            let lens = &mut all[usize::from(class.priority) % PRIORITIES].lens;
            lens.push(Framing::of(class, Verb::Write, v6).full_len());
        }
    }
    for w in b.workloads {
        let ack = b.classes[usize::from(w.class.0)].ack_priority;
        all[usize::from(ack) % PRIORITIES].acks = true;
    }
    let largest = all.iter().flat_map(|f| &f.lens).max().copied().unwrap_or(FrameLen(FRAME_LEN_MIN));
    (all, largest)
}

/// Headroom of every switch port and lossless priority, in the order of switches and ports.
pub(super) fn all(b: &Basis<'_>, v6: bool) -> Vec<PortHeadroom> {
    let (frames, largest) = in_priorities(b, v6);
    let lossless = |p: usize| b.classes.iter().any(|c| c.lossless && usize::from(c.priority) == p);
    let mut rows = Vec::new();
    for (i, link) in b.fabric.links.iter().enumerate() {
        let End::Switch(s, port) = link.to else { continue };
        let (Some(switch), Some(back)) = (b.fabric.switches.get(usize::from(s)), b.fabric.links.get(i ^ 1))
        else {
            continue;
        };
        for p in (0..PRIORITIES).filter(|p| lossless(*p)) {
            // Lossless classes of one group share its headroom: one row, for the first of them.
            let into = switch.maps.into_group(switch.maps.group_of(p as u8));
            if (0..p).any(|other| lossless(other) && into & 1 << other != 0) {
                continue;
            }
            let frames = &Frames::of_all((0..PRIORITIES).filter(|c| into & 1 << c != 0).map(|c| &frames[c]));
            let configured = switch.group_of(usize::from(port), p as u8).headroom();
            let span = silence_after(&link.timing, &back.timing, response(b, link), largest);
            let needed = needed_cells(span, &link.timing, frames, switch.cell);
            rows.push(PortHeadroom {
                switch: s,
                port,
                priority: p as u8,
                rate: link.timing.rate(),
                delay: link.timing.propagation() + back.timing.propagation(),
                headroom: HeadroomPrediction {
                    configured,
                    needed: Bytes(needed.saturating_mul(u64::from(switch.cell))),
                },
            });
        }
    }
    rows.sort_by_key(|r| (r.switch, r.port, r.priority));
    rows
}

/// The longest a link's sending end may take to obey.
fn response(b: &Basis<'_>, link: &Link) -> Span {
    match link.from {
        End::Host(h) => b.hosts.get(h.0 as usize).map_or(Span::ZERO, |h| h.pfc_response),
        End::Switch(..) => link.timing.rate().quanta(response_quanta(link.timing.rate())),
    }
}

/// (pool, bytes it has, bytes that all groups of it may need at once) of shared headroom pools that are too small.
pub fn short_pools(switch: &SwitchConfig, index: u16, rows: &[PortHeadroom]) -> Vec<(String, Bytes, Bytes)> {
    let slices = switch.slices.count();
    let one = |(i, pool): (usize, &crate::switch::config::IngressPool)| {
        // Of a sliced buffer, the slice in which most may be needed.
        let in_slice = |slice: usize| -> u64 {
            let mine = rows.iter().filter(|r| {
                let group = switch.group_of(usize::from(r.port), r.priority);
                let pipe = switch.ports.get(usize::from(r.port)).map_or(0, |p| p.pipe);
                let held = switch.slices.holds_ingress(slice, pipe);
                r.switch == index && held && usize::from(group.pool) == i && group.lossless
            });
            mine.map(|r| r.headroom.needed.0).sum()
        };
        let needed = (0..slices).map(in_slice).max().unwrap_or(0);
        let has = pool.headroom?.0 / slices as u64;
        let name =
            if slices == 1 { pool.name.clone() } else { format!("{} in one of {slices} slices", pool.name) };
        (has < needed).then_some((name, Bytes(has), Bytes(needed)))
    };
    switch.ingress_pools.iter().enumerate().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rate;

    /// By hand: 100G, 4,154-byte frames (334.24 ns, 17 cells of 254 bytes), 1 us each way, 394 quanta of 5.12 ns.
    #[test]
    fn frames_of_one_length_come_out_as_counted_by_hand() {
        let link = LinkTiming::new(Rate::gbps(100), Span::from_us(1));
        let response = Rate::gbps(100).quanta(394);
        let len = FrameLen(4_154);
        let span = silence_after(&link, &link, response, len);
        assert_eq!(span, Span(334_240 + 6_720 + 1_000_000 + 2_017_280 + 1_000_000));
        // 4,358,240 ps hold 13 whole frames; one more has just begun, and one made the group cross its threshold.
        let frames = Frames { lens: vec![len], acks: false };
        assert_eq!(needed_cells(span, &link, &frames, 254), (13 + 2) * 17);
        // An ACK for each of them in one cell, and one.
        assert_eq!(needed_cells(span, &link, &Frames { acks: true, ..frames }, 254), 15 * 17 + 14);
    }

    /// 64 bytes with FCS take 84 on the wire and a whole cell: three times the buffer of full frames.
    #[test]
    fn short_frames_waste_cells() {
        let link = LinkTiming::new(Rate::gbps(100), Span::from_us(1));
        let needed = |lens: &[u16]| {
            let lens = lens.iter().map(|l| FrameLen(*l)).collect();
            needed_cells(Span::from_us(4), &link, &Frames { lens, acks: false }, 254)
        };
        assert_eq!(needed(&[60]), 4_000_000 / 6_720 + 2);
        assert_eq!(needed(&[60, 4_154]), 596 + 2 * 17, "the densest in between, the largest at both ends");
        assert!(needed(&[4_154]) < needed(&[60]));
    }
}
