//! Behaviour of the whole switch against figures from outside: vendors' lists, closed forms, the standards.

use proptest::prelude::*;

use super::config::{
    EgressPool, IngressPool, Limit, LoadBalance, MarkAt, Shaper, Slices, SwitchConfig, Wred,
    buffer_frames_max,
};
use super::testing::{Bench, Left, config};
use super::{AddressMap, Admit, GroupState, Routes, Switch, slot};
use crate::frame::boxed::{BoxFrame, BoxPool};
use crate::frame::{Fill, Frame, FramePool, HEAD_MAX, flags};
use crate::measure::record::{DropReason, NoRecord};
use crate::units::{Bytes, FrameLen, LinkTiming, PortId, Rate, Span, Time};
use crate::wire::pfc::PfcFrame;

const CELL: u64 = 254;

/// Cells accepted by successive priority groups before each asks for a pause: priorities 3 and 4 of ports 1, 2, ...,
/// all to the silent port 0, each filled until it goes to XOFF.
fn fill_group_after_group(reserved: u64, shared: u64, headroom: u64, groups: usize) -> Vec<u32> {
    let ports = groups.div_ceil(2) + 1;
    let lossless_groups = 2 * ports as u64;
    let mut c = config(ports, shared + lossless_groups * (reserved + headroom));
    for p in [3, 4] {
        c.profiles[0].priorities[p].reserved = Bytes(reserved * CELL);
        c.profiles[0].priorities[p].headroom = Bytes(headroom * CELL);
    }
    assert_eq!(c.validate().unwrap().shared, shared);
    let mut b = Bench::new(c);
    (0..groups)
        .map(|k| {
            let (port, priority) = (1 + (k / 2) as u16, 3 + (k % 2) as u8);
            let mut cells = 0;
            while !b.is_xoff(port, priority) {
                assert_eq!(b.offer_cell(port, 0, priority), None);
                cells += 1;
            }
            cells
        })
        .collect()
}

/// Packets of one cell that trigger PFC on Tomahawk 5, one priority group after the other, as published with
/// sonic-mgmt's QoS tests: (reserved cells, headroom cells, packets).
const TOMAHAWK5: [(u64, u64, &[u32]); 3] = [
    (
        74,
        1185,
        &[
            120117, 60096, 30085, 15079, 7577, 3825, 1950, 1012, 543, 308, 191, 133, 103, 89, 81, 78, 76, 75,
            74, 74,
        ],
    ),
    (
        34,
        2853,
        &[125589, 62811, 31423, 15728, 7881, 3958, 1996, 1015, 524, 279, 157, 95, 65, 49, 42, 38, 36, 35, 34],
    ),
    (
        74,
        1548,
        &[
            134725, 67400, 33737, 16905, 8490, 4282, 2178, 1126, 600, 337, 205, 140, 107, 90, 82, 78, 76, 75,
            75, 74,
        ],
    ),
];

#[test]
fn tomahawk5_pfc_thresholds_come_out_within_one_cell() {
    for (reserved, headroom, published) in TOMAHAWK5 {
        let shared = 2 * (u64::from(published[0]) - reserved);
        let ours = fill_group_after_group(reserved, shared, headroom, published.len());
        for (k, (&want, &got)) in published.iter().zip(&ours).enumerate() {
            assert!(got.abs_diff(want) <= 1, "group {k}: {got} instead of {want}\n{ours:?}\n{published:?}");
        }
    }
}

/// Choudhury and Hahne: n queues at their threshold hold alpha S / (1 + n alpha) each.
#[test]
fn equal_queues_settle_at_the_dynamic_threshold() {
    let shared = 60_000u64;
    for (num, den) in [(1, 8), (1, 2), (1, 1), (2, 1), (8, 1)] {
        for n in [1u16, 2, 4, 16, 32] {
            let mut c = config(usize::from(n) + 1, shared);
            c.profiles[0].priorities[0].limit = Limit::Dynamic(num, den);
            let mut b = Bench::new(c);
            let mut open = vec![true; usize::from(n)];
            while open.iter().any(|&o| o) {
                for i in 0..n {
                    // One queue per ingress port, all on different egress ports: nobody departs.
                    open[usize::from(i)] = b.offer_cell(i, u32::from(i), 0).is_none();
                }
            }
            let alpha = f64::from(num) / f64::from(den);
            let want = alpha * shared as f64 / (1.0 + f64::from(n) * alpha);
            for i in 0..n {
                let got = f64::from(b.switch.mmu().group_used(slot(i, 0)).0);
                // The last cells go round-robin; each queue is within alpha cells of the ideal.
                assert!(
                    (got - want).abs() <= 1.0 + alpha,
                    "alpha {num}/{den}, {n} queues: {got}, {want} expected"
                );
            }
        }
    }
}

/// Lossy queue on TH-style buffers: N ingress ports share the pool, one egress queue is held by `egress_alpha`.
#[test]
fn an_egress_queue_is_held_by_its_own_alpha() {
    let shared = 30_000u32;
    let mut c = config(9, u64::from(shared));
    c.profiles[0].priorities[0].limit = Limit::Dynamic(8, 1);
    c.profiles[0].priorities[0].egress_limit = Some(Limit::Dynamic(1, 2));
    let mut b = Bench::new(c);
    let mut refused = 0;
    for i in 0..u64::from(shared) {
        refused += u64::from(b.offer_cell((i % 8) as u16, 8, 0) == Some(DropReason::Threshold));
    }
    let want = shared / 3; // alpha S / (1 + alpha), alpha = 1/2
    assert!(b.switch.mmu().shared_used().abs_diff(want) <= 1, "{}", b.switch.mmu().shared_used());
    let s = b.switch.stats();
    assert_eq!((s.drops, s.drops_lossless, s.ports[8].queues[0].drops), (refused, 0, refused));
}

/// One lossless group: 1000 shared cells with alpha 1, so XOFF at 500; `headroom` cells behind.
fn one_group(headroom: u64, xon_offset: u64) -> Bench {
    let mut c = config(2, 1000 + 4 * headroom);
    for p in [3, 4] {
        c.profiles[0].priorities[p].headroom = Bytes(headroom * CELL);
        c.profiles[0].priorities[p].xon_offset = Bytes(xon_offset * CELL);
    }
    Bench::new(c)
}

#[test]
fn xoff_and_xon_have_hysteresis() {
    let offset = 14;
    let mut b = one_group(100, offset);
    for _ in 0..499 {
        b.offer_cell(0, 1, 3);
    }
    assert!(!b.is_xoff(0, 3));
    b.offer_cell(0, 1, 3);
    assert!(b.is_xoff(0, 3), "use 500 has reached the threshold 1000 - 500");
    for _ in 0..60 {
        assert_eq!(b.offer_cell(0, 1, 3), None);
    }
    assert_eq!(b.switch.mmu().group_used(slot(0, 3)), (500, 60), "everything after XOFF is held in headroom");
    // XON when headroom is empty and q + 14 <= 1000 - q: at q = 493, after 67 departures.
    let mut left = 0;
    while b.is_xoff(0, 3) {
        b.depart(Time::ZERO, 1);
        left += 1;
    }
    assert_eq!(left, 60 + 7);
    for _ in 0..6 {
        b.offer_cell(0, 1, 3);
    }
    assert!(!b.is_xoff(0, 3), "between XON and XOFF nothing changes");
    b.offer_cell(0, 1, 3);
    assert!(b.is_xoff(0, 3));
}

#[test]
fn headroom_overflows_one_cell_after_it_is_full() {
    let mut b = one_group(462, 0); // Tomahawk 3, 100G, 300 m: 462 cells
    for _ in 0..500 + 462 {
        assert_eq!(b.offer_cell(0, 1, 3), None);
    }
    assert_eq!(b.offer_cell(0, 1, 3), Some(DropReason::Headroom));
    let s = b.switch.stats();
    assert_eq!((s.drops, s.drops_lossless, s.ports[0].ingress_drops), (1, 1, 1));
    assert_eq!((s.headroom_bytes_max, s.ingress_bytes_max), (462 * CELL, 500 * CELL));
    b.depart(Time::ZERO, 1);
    assert_eq!(b.offer_cell(0, 1, 3), None, "one cell is free again");
    // Headroom belongs to its group: priority 4 of the same port still has all of its own.
    for _ in 0..462 {
        assert_eq!(b.offer_cell(0, 1, 4), None);
    }
}

#[test]
fn reserved_cells_are_a_guarantee() {
    let mut c = config(3, 100 + 3 * 10);
    c.profiles[0].priorities[0].limit = Limit::Dynamic(128, 1);
    c.profiles[0].priorities[1].reserved = Bytes(10 * CELL);
    let mut b = Bench::new(c);
    while b.offer_cell(0, 2, 0).is_none() {}
    assert_eq!(b.switch.mmu().shared_used(), 100, "alpha 128 takes the whole pool");
    assert_eq!(b.offer_cell(1, 2, 0), Some(DropReason::Buffer));
    for _ in 0..10 {
        assert_eq!(b.offer_cell(1, 2, 1), None);
    }
    assert_eq!(b.offer_cell(1, 2, 1), Some(DropReason::Buffer));
}

#[test]
fn a_paused_priority_stops_alone_and_for_its_quanta_only() {
    let mut b = Bench::new(config(2, 1000));
    b.pause(Time(0), 1, 3, 1000);
    for p in [3, 4, 0] {
        b.offer(Time(0), 0, 1, p, 1000);
    }
    assert_eq!(b.switch.poll_wake(), Some(1));
    let priority = |left: Option<Left>| match left {
        Some(Left::Data { priority, .. }) => Some(priority),
        None => None,
        other => panic!("{other:?}"),
    };
    let first = [priority(b.depart(Time(0), 1)), priority(b.depart(Time(100_000), 1))];
    assert!(first.contains(&Some(4)) && first.contains(&Some(0)), "{first:?}");
    assert_eq!(b.depart(Time(200_000), 1), None);
    assert!(!b.switch.has_pending(1));
    // 1000 quanta of 512 bits at 100G: 5.12 us.
    let end = Time(5_120_000);
    assert_eq!(b.switch.next_deadline(), end);
    b.switch.on_deadline(Time(end.0 - 1), &mut NoRecord);
    assert_eq!(b.switch.poll_wake(), None);
    b.switch.on_deadline(end, &mut NoRecord);
    assert_eq!(b.switch.poll_wake(), Some(1));
    assert_eq!(priority(b.depart(end, 1)), Some(3));
    assert_eq!(b.switch.next_deadline(), Time::NEVER);
    let pfc = b.switch.stats().ports[1].pfc[3];
    assert_eq!((pfc.xoff_rx, pfc.refresh_rx, pfc.xon_rx), (1, 0, 0));
}

#[test]
fn xon_ends_a_pause_and_lossy_priorities_have_none() {
    let mut b = Bench::new(config(2, 1000));
    b.pause(Time(0), 1, 3, 0xffff);
    b.pause(Time(10), 1, 3, 0xffff);
    b.pause(Time(10), 1, 0, 0xffff);
    b.offer(Time(20), 0, 1, 3, 1000);
    assert_eq!(b.switch.poll_wake(), None);
    b.pause(Time(30), 1, 3, 0);
    assert_eq!(b.switch.poll_wake(), Some(1));
    assert!(b.depart(Time(30), 1).is_some());
    let pfc = b.switch.stats().ports[1].pfc;
    assert_eq!((pfc[3].xoff_rx, pfc[3].refresh_rx, pfc[3].xon_rx, pfc[0].xoff_rx), (1, 1, 1, 0));
}

#[test]
fn xoff_goes_out_before_data_is_refreshed_and_ends_with_xon() {
    let mut b = one_group(100, 0);
    b.offer(Time(0), 1, 0, 0, 1000); // data that waits on port 0, the port that will pause
    for _ in 0..500 {
        b.offer_cell(0, 1, 3);
    }
    let mut woken: Vec<u16> = std::iter::from_fn(|| b.switch.poll_wake()).collect();
    woken.sort_unstable();
    assert_eq!(woken, [0, 1], "each port is listed once");
    assert_eq!(b.depart(Time(0), 0), Some(Left::Pfc(PfcFrame::one(3, 0xffff))));
    assert!(b.switch.has_pending(0), "the data frame is next");
    assert!(matches!(b.depart(Time(6_720), 0), Some(Left::Data { priority: 0, .. })));
    // Still congested: again after half the pause of 65535 x 512 bits at 100G.
    let half = Time(335_539_200 / 2);
    assert_eq!(b.switch.next_deadline(), half);
    b.switch.on_deadline(half, &mut NoRecord);
    assert_eq!(b.switch.poll_wake(), Some(0));
    assert_eq!(b.depart(half, 0), Some(Left::Pfc(PfcFrame::one(3, 0xffff))));
    while b.is_xoff(0, 3) {
        assert!(b.depart(half, 1).is_some());
    }
    assert_eq!(b.switch.poll_wake(), Some(0), "as soon as its PFC frame has left");
    assert_eq!(b.depart(Time(half.0 + 6_720), 0), Some(Left::Pfc(PfcFrame::one(3, 0))));
    let pfc = b.switch.stats().ports[0].pfc[3];
    assert_eq!((pfc.xoff_tx, pfc.refresh_tx, pfc.xon_tx), (1, 1, 1));
    let s = b.switch.stats();
    assert_eq!(s.tx_frames + b.switch.inside_frames(), 501, "PFC frames are not counted among frames");
}

#[test]
fn an_empty_pool_delays_a_pause_and_loses_none() {
    let mut b = one_group(100, 0);
    for _ in 0..500 {
        b.offer_cell(0, 1, 3);
    }
    b.switch.poll_wake();
    let mut empty = BoxPool::new(0, 0);
    assert!(b.switch.depart(Time(0), 0, &mut empty, &mut NoRecord).is_none());
    assert!(b.switch.has_pending(0));
    b.offer(Time(1), 1, 0, 0, 1000);
    assert!(
        std::iter::from_fn(|| b.switch.poll_wake()).any(|port| port == 0),
        "whatever happens next wakes the port"
    );
    assert_eq!(b.depart(Time(1), 0), Some(Left::Pfc(PfcFrame::one(3, 0xffff))));
}

#[test]
fn wakes_stay_bounded_when_nobody_reads_them() {
    let mut b = Bench::new(config(2, 1000));
    for n in 0..1000 {
        b.offer(Time(n), 0, 1, 0, 100);
        assert!(b.depart(Time(n), 1).is_some());
    }
    assert_eq!(b.switch.poll_wake(), Some(1));
    assert_eq!(b.switch.poll_wake(), None);
}

/// A group whose own frames are stuck is let go at its refresh when others have made room.
#[test]
fn room_made_by_others_is_noticed_at_the_refresh() {
    let mut b = one_group(0, 0);
    for _ in 0..500 {
        b.offer_cell(0, 0, 4); // the other group takes half
    }
    for _ in 0..250 {
        b.offer_cell(1, 1, 3); // half of the rest: XOFF
    }
    assert!(b.is_xoff(1, 3));
    b.pause(Time(0), 1, 3, 0xffff); // its frames cannot leave
    assert!(matches!(b.depart(Time(0), 1), Some(Left::Pfc(_))));
    while b.depart(Time(0), 0).is_some() {}
    assert!(b.is_xoff(1, 3));
    b.switch.on_deadline(b.switch.next_deadline(), &mut NoRecord);
    assert!(!b.is_xoff(1, 3));
    assert!(matches!(b.depart(Time(335_539_200 / 2), 1), Some(Left::Pfc(m)) if m.quanta_of(3) == Some(0)));
}

/// SONiC's egress marking test: kmin = kmax = N KB, 2N KB queued on a paused port. With dequeue marking the first
/// frame out carries CE and the last does not; with enqueue marking it is the other way round.
#[test]
fn marking_looks_at_the_queue_where_it_is_told_to() {
    for (at, first, last) in [(MarkAt::Dequeue, true, false), (MarkAt::Enqueue, false, true)] {
        let mut c = config(2, 10_000);
        c.profiles[0].priorities[3].wred[0] =
            Some(Wred { kmin: Bytes(100_000), kmax: Bytes(100_000), pmax: 1.0, ecn: true });
        c.mark_at = at;
        let mut b = Bench::new(c);
        for _ in 0..200 {
            assert_eq!(b.offer(Time(0), 0, 1, 3, 996), None); // 1000 B with FCS
        }
        let marks: Vec<bool> = std::iter::from_fn(|| b.depart(Time(0), 1))
            .map(|left| matches!(left, Left::Data { ce: true, .. }))
            .collect();
        assert_eq!((marks[0], marks[199]), (first, last), "{at:?}");
        // 101 to 199 frames in front of the joining, or behind the leaving frame.
        assert_eq!(marks.iter().filter(|m| **m).count(), 99, "{at:?}");
        assert_eq!(b.switch.stats().ce_marked, 99);
    }
}

#[test]
fn frames_that_cannot_be_marked_are_dropped_when_they_join() {
    let mut c = config(2, 10_000);
    c.profiles[0].priorities[0].wred[0] =
        Some(Wred { kmin: Bytes(10_000), kmax: Bytes(10_000), pmax: 1.0, ecn: true });
    let mut b = Bench::new(c);
    let mut dropped = 0;
    for _ in 0..20 {
        let mut f = b.frame(1, 0, 996);
        f.head_mut()[15] = 0; // not ECT
        if let Admit::Dropped(reason, f) = b.switch.on_frame(Time(0), 0, f, &mut NoRecord) {
            assert_eq!(reason, DropReason::Wred);
            b.pool.give(f);
            dropped += 1;
        }
    }
    assert_eq!(dropped, 9, "the 12th to the 20th see more than 10,000 bytes");
}

#[test]
fn loops_and_unknown_destinations_end() {
    let mut b = Bench::new(config(2, 100));
    let mut f = b.frame(1, 0, 100);
    f.meta_mut().ttl = 1;
    assert!(matches!(b.switch.on_frame(Time(0), 0, f, &mut NoRecord), Admit::Dropped(DropReason::Loop, _)));
    assert_eq!(b.offer(Time(0), 0, 7, 0, 100), Some(DropReason::NoRoute));
    assert_eq!(b.switch.stats().drops, 2);
}

/// Real headers: IPv4 and IPv6 RoCEv2 as they come off a wire, classified by DSCP and routed by address.
#[test]
fn headers_are_read_once_and_ce_leaves_a_valid_checksum() {
    let mut c = config(4, 10_000);
    c.dscp_map = [0; 64];
    c.dscp_map[26] = 3;
    c.profiles[0].priorities[3].wred[0] = Some(Wred { kmin: Bytes(0), kmax: Bytes(0), pmax: 1.0, ecn: true });
    c.mark_at = MarkAt::Enqueue;
    let hosts = [("198.18.0.1", 1), ("198.18.0.2", 2), ("2001:2::3", 3)];
    let addresses = AddressMap::new(hosts.iter().map(|(ip, e)| (ip.parse().unwrap(), PortId(*e))));
    let routes = Routes { ports_to: (0..4).map(|p| [p].into()).collect() };
    let mut s = Switch::new(c, 0, &routes, addresses).unwrap();
    let mut pool = BoxPool::new(0, 16);
    let mut v4 = || {
        let mut f = pool.take(Fill::Const, FrameLen(62)).unwrap();
        write_ipv4_roce(f.head_mut());
        f
    };
    let ttl = v4().head()[22];
    assert!(matches!(s.on_frame(Time(5), 1, v4(), &mut NoRecord), Admit::Queued));
    assert!(matches!(s.on_frame(Time(6), 1, v4(), &mut NoRecord), Admit::Queued));
    let first = s.depart(Time(10), 2, &mut pool, &mut NoRecord).unwrap();
    let m = first.meta();
    assert_eq!((m.dst, m.priority, m.ingress, m.ttl, m.enqueued, m.cells), (2, 3, 1, ttl - 1, Time(5), 1));
    assert_eq!(first.head()[15] & 3, 2, "nothing was in front of the first");
    let second = s.depart(Time(10), 2, &mut pool, &mut NoRecord).unwrap();
    assert_eq!((second.head()[15] & 3, second.meta().flags & flags::CE), (3, flags::CE));
    assert_eq!(second.meta().hash, m.hash);
    let sum: u32 = second.head()[14..34].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "IPv4 checksum");
    // An address nobody has, and bytes that are no frame.
    let mut stray = pool.take(Fill::Const, FrameLen(62)).unwrap();
    write_ipv4_roce(stray.head_mut());
    stray.head_mut()[33] = 77;
    assert!(matches!(s.on_frame(Time(7), 1, stray, &mut NoRecord), Admit::Dropped(DropReason::NoRoute, _)));
    let mut broken = pool.take(Fill::Const, FrameLen(40)).unwrap();
    write_ipv4_roce(broken.head_mut());
    assert!(matches!(
        s.on_frame(Time(7), 1, broken, &mut NoRecord),
        Admit::Dropped(DropReason::Malformed, _)
    ));
}

/// Where tags are trusted a tagged frame goes by its PCP and an untagged one by the DSCP map; elsewhere all go by that.
#[test]
fn a_trusted_vlan_tag_decides_the_priority() {
    let seen = |pcp_map, tci: Option<u16>| {
        let mut c = config(2, 1_000);
        (c.dscp_map, c.pcp_map) = ([1; 64], pcp_map);
        let addresses = AddressMap::new([("198.18.0.2".parse().unwrap(), PortId(1))]);
        let routes = Routes { ports_to: vec![[0].into(), [1].into()] };
        let mut s = Switch::new(c, 0, &routes, addresses).unwrap();
        let mut pool = BoxPool::new(0, 16);
        let mut f = pool.take(Fill::Const, FrameLen(if tci.is_some() { 66 } else { 62 })).unwrap();
        write_ipv4_roce(f.head_mut());
        if let Some(tci) = tci {
            f.head_mut().copy_within(12..54, 16);
            f.head_mut()[12..14].copy_from_slice(&[0x81, 0]);
            f.head_mut()[14..16].copy_from_slice(&tci.to_be_bytes());
        }
        assert!(matches!(s.on_frame(Time(5), 0, f, &mut NoRecord), Admit::Queued));
        s.depart(Time(10), 1, &mut pool, &mut NoRecord).unwrap().meta().priority
    };
    let map = Some([0, 1, 2, 3, 4, 6, 5, 7]);
    assert_eq!((seen(None, None), seen(None, Some(5 << 13 | 10))), (1, 1));
    assert_eq!((seen(map, None), seen(map, Some(5 << 13 | 10)), seen(map, Some(10))), (1, 6, 0));
}

/// 198.18.0.1 -> 198.18.0.2, DSCP 26, ECT(0), UDP 49152 -> 4791, WRITE middle with 4 bytes of payload: 62 bytes.
pub(super) fn write_ipv4_roce(head: &mut [u8; HEAD_MAX]) {
    let bytes: [u8; 54] = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
        0x45, 0x6a, 0, 48, 0, 0, 0x40, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2, // IPv4
        0xc0, 0, 0x12, 0xb7, 0, 28, 0, 0, // UDP
        7, 0, 0xff, 0xff, 0, 0, 0, 17, 0, 0, 0, 1, // BTH
    ];
    head[..54].copy_from_slice(&bytes);
    let sum: u32 = bytes[14..34].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    head[24..26].copy_from_slice(&(!(folded as u16)).to_be_bytes());
}

/// `kind`: bit 0, classes that share groups and queues; bit 1, a buffer in slices.
pub(super) fn random_config(ports: usize, cells: u64, kind: u8) -> SwitchConfig {
    let mut c = config(ports, cells);
    if kind & 1 != 0 {
        c.maps.group = [0, 0, 2, 3, 3, 0, 2, 7];
        c.maps.queue = [0, 1, 2, 3, 4, 0, 6, 4];
    }
    if kind & 2 != 0 {
        c.slices = Slices::Crosspoints;
        c.ports.iter_mut().enumerate().for_each(|(i, p)| p.pipe = i as u8 % 4);
    }
    for (p, q) in c.profiles[0].priorities.iter_mut().enumerate() {
        q.reserved = Bytes(CELL * (p as u64 % 3));
        q.limit = [(1, 8), (1, 2), (1, 1), (4, 1)].map(|(n, d)| Limit::Dynamic(n, d))[p % 4];
        q.headroom = Bytes(CELL * 20);
        q.xon_offset = Bytes(CELL * 2);
        q.weight = [0, 1, 3, 2][p % 4];
        q.wred[0] =
            (p % 2 == 1).then_some(Wred { kmin: Bytes(2_000), kmax: Bytes(20_000), pmax: 0.5, ecn: true });
    }
    for (p, q) in c.profiles[0].priorities.iter_mut().enumerate().filter(|(_, q)| !q.lossless) {
        (q.pool, q.egress_pool, q.egress_reserved) = (1, 1, Bytes(CELL * (p as u64 % 2)));
        q.egress_limit = (p == 2).then_some(Limit::Dynamic(1, 2));
    }
    let pool = |name: &str, shared: Option<u64>, headroom: Option<u64>| IngressPool {
        name: name.into(),
        shared: shared.map(|n| Bytes(n * CELL)),
        headroom: headroom.map(|n| Bytes(n * CELL)),
    };
    c.ingress_pools = vec![pool("lossless", None, Some(90)), pool("lossy", Some(200), None)];
    let pool = |name: &str, n: u64| EgressPool { name: name.into(), size: Bytes(n * CELL) };
    c.egress_pools = vec![pool("lossless", cells), pool("lossy", 150)];
    let mut other = c.profiles[0].clone();
    other.priorities[3].limit = Limit::Static(Bytes(CELL * 30));
    other.priorities[5].shaper = Some(Shaper { rate: Rate::gbps(10), burst: Bytes(3_000) });
    other.shaper = Some(Shaper { rate: Rate::gbps(80), burst: Bytes(0) });
    c.ports[2].profile = c.profile(other);
    c
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Arrive { ingress: u16, dst: u32, priority: u8, len: u16 },
    Depart { port: u16 },
    Pause { port: u16, priority: u8, quanta: u16 },
    Deadline,
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0u16..4, 0u32..5, 0u8..8, 60u16..4200)
            .prop_map(|(ingress, dst, priority, len)| Event::Arrive { ingress, dst, priority, len }),
        4 => (0u16..4).prop_map(|port| Event::Depart { port }),
        1 => (0u16..4, 0u8..8, prop_oneof![Just(0u16), 1u16..200])
            .prop_map(|(port, priority, quanta)| Event::Pause { port, priority, quanta }),
        1 => Just(Event::Deadline),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing is lost or made: frames and bytes in = out + dropped + inside, cells follow the frames inside, the
    /// buffer is never overrun, and everything is free again at the end.
    #[test]
    fn frames_and_cells_are_conserved(
        events in proptest::collection::vec(event(), 1..1500),
        kind in 0u8..4,
    ) {
        let cells = 700;
        let c = random_config(4, cells, kind);
        let frames_max = buffer_frames_max(&c);
        let shared_size = c.validate().unwrap().shared;
        let mut b = Bench::new(c);
        let mut now = Time(0);
        let (mut inside_cells, mut pfc_out) = (std::collections::VecDeque::new(), 0u64);
        for e in events {
            now += Span::from_ns(50);
            match e {
                Event::Arrive { ingress, dst, priority, len } => {
                    if b.offer(now, ingress, dst, priority, len).is_none() {
                        inside_cells.push_back(u64::from(len + 4).div_ceil(CELL));
                    }
                }
                Event::Depart { port } => match b.depart(now, port) {
                    Some(Left::Data { len, .. }) => {
                        let cells = u64::from(len + 4).div_ceil(CELL);
                        let at = inside_cells.iter().position(|&c| c == cells);
                        prop_assert!(at.is_some());
                        inside_cells.remove(at.unwrap_or(0));
                    }
                    Some(Left::Pfc(_)) => pfc_out += 1,
                    None => prop_assert!(!b.switch.has_pending(port)),
                },
                Event::Pause { port, priority, quanta } => b.pause(now, port, priority, quanta),
                Event::Deadline => b.switch.on_deadline(now, &mut NoRecord),
            }
            let s = b.switch.stats();
            prop_assert_eq!(s.rx_frames, s.tx_frames + s.drops + b.switch.inside_frames());
            prop_assert_eq!(b.switch.inside_frames(), inside_cells.len() as u64);
            prop_assert!(inside_cells.len() <= frames_max);
            let mmu = b.switch.mmu();
            prop_assert_eq!(u64::from(mmu.total_used()), inside_cells.iter().sum::<u64>());
            prop_assert!(u64::from(mmu.shared_used()) <= shared_size && u64::from(mmu.total_used()) <= cells);
        }
        let sent: u64 = b.switch.stats().ports.iter().flat_map(|p| p.pfc.iter())
            .map(|p| p.xoff_tx + p.refresh_tx + p.xon_tx).sum();
        prop_assert!(sent >= pfc_out, "one frame may speak for two priorities, never for none");
        b.switch.drain(&mut b.pool);
        prop_assert_eq!(b.pool.in_use(), 0);
        let mmu = b.switch.mmu();
        prop_assert_eq!((mmu.total_used(), mmu.shared_used(), mmu.headroom_used()), (0, 0, 0));
        for pool in 0..2 {
            let (ingress, egress) = (mmu.pool_used(pool), mmu.egress_pool_used(pool));
            prop_assert_eq!((ingress.1, ingress.2, egress.1), (0, 0, 0));
        }
        for group in 0..32 {
            prop_assert_eq!(mmu.group_used(group), (0, 0));
            prop_assert!(!mmu.is_xoff(group), "nobody is left waiting at an empty switch");
        }
    }

    /// A driver that asks only the ports it is told about gets everything out.
    #[test]
    fn wakes_and_deadlines_reach_every_frame(
        events in proptest::collection::vec(event(), 1..600),
        kind in 0u8..4,
    ) {
        let mut b = Bench::new(random_config(4, 2000, kind));
        let mut asks: Vec<(Time, u16)> = Vec::new();
        let (mut now, mut arrived, mut left) = (Time(0), 0u64, 0u64);
        let mut free = [Time(0); 4];
        let mut input = events.into_iter();
        loop {
            let next_input = now + Span::from_ns(80);
            let ask = asks.iter().min().copied();
            let ask_at = ask.map_or(Time::NEVER, |a| a.0);
            let deadline = b.switch.next_deadline();
            if ask_at <= next_input.min(deadline) {
                now = now.max(ask_at);
                let Some((_, port)) = ask else { break };
                asks.retain(|a| a.1 != port);
                if let Some(l) = b.depart(now, port) {
                    left += u64::from(matches!(l, Left::Data { .. }));
                    free[usize::from(port)] = now + Span::from_ns(340);
                    if b.switch.left_more() {
                        asks.push((free[usize::from(port)], port));
                    }
                }
            } else if deadline <= next_input {
                now = now.max(deadline);
                b.switch.on_deadline(now, &mut NoRecord);
            } else {
                now = next_input;
                match input.next() {
                    Some(Event::Arrive { ingress, dst, priority, len }) => {
                        arrived += u64::from(b.offer(now, ingress, dst, priority, len).is_none());
                    }
                    Some(Event::Pause { port, priority, quanta }) => b.pause(now, port, priority, quanta),
                    Some(_) => {}
                    None if asks.is_empty() && deadline == Time::NEVER => break,
                    None => {}
                }
            }
            while let Some(port) = b.switch.poll_wake() {
                prop_assert!(asks.iter().all(|a| a.1 != port), "port {} listed twice", port);
                asks.push((free[usize::from(port)].max(now), port));
            }
        }
        prop_assert_eq!((left, b.switch.inside_frames()), (arrived, 0));
        for p in &b.switch.stats().ports {
            prop_assert!(p.pfc.iter().all(|q| q.xoff_tx == q.xon_tx), "every XOFF was taken back");
        }
    }
}

/// Two weighted queues and a strict one on one port, all backlogged: the strict one first, the others 3:1 by bytes.
#[test]
fn the_port_obeys_its_scheduler() {
    let mut c = config(2, 60_000);
    (
        c.profiles[0].priorities[6].weight,
        c.profiles[0].priorities[3].weight,
        c.profiles[0].priorities[4].weight,
    ) = (0, 3, 1);
    let mut b = Bench::new(c);
    for _ in 0..1000 {
        b.offer(Time(0), 0, 1, 3, 4154);
        b.offer(Time(0), 0, 1, 4, 1054);
    }
    for _ in 0..10 {
        b.offer(Time(0), 0, 1, 6, 60);
    }
    let order: Vec<(u8, u16)> = std::iter::from_fn(|| b.depart(Time(0), 1))
        .map(|l| match l {
            Left::Data { priority, len, .. } => (priority, len),
            Left::Pfc(_) => (0, 0),
        })
        .take(800)
        .collect();
    assert!(order[..10].iter().all(|o| o.0 == 6));
    let bytes = |p| order.iter().filter(|o| o.0 == p).map(|o| f64::from(o.1 + 4)).sum::<f64>();
    let ratio = bytes(3) / bytes(4);
    assert!((ratio - 3.0).abs() < 0.1, "{ratio}");
}

#[test]
fn maxima_start_again_at_the_mark_and_counters_go_on() {
    let mut b = Bench::new(config(2, 1000));
    for _ in 0..40 {
        b.offer_cell(0, 1, 0);
    }
    for _ in 0..30 {
        b.depart(Time(0), 1);
    }
    assert_eq!(b.switch.stats().shared_bytes_max, 40 * CELL);
    b.switch.mark(Time(0));
    let s = b.switch.stats();
    assert_eq!(
        (s.shared_bytes_max, s.ports[1].queues[0].depth_bytes_max, s.rx_frames),
        (10 * CELL, 2540, 40)
    );
    let state = b.switch.snapshot();
    assert_eq!((state.shared_bytes, state.queues), (2540, vec![(1, 0, 2540)]));
    // Alpha 1 over what is free of 1,000 cells.
    let held = GroupState {
        port: 0,
        priority: 0,
        used_bytes: 2540,
        headroom_bytes: 0,
        limit_bytes: 990 * CELL,
        xoff: false,
    };
    assert_eq!(state.groups, [held]);
}

#[test]
fn pinned_paths_of_different_ingress_ports_do_not_meet() {
    let mut c = config(16, 10_000);
    c.balance = LoadBalance::Pinned;
    let routes = Routes { ports_to: vec![(8..16).collect()] };
    let mut s: Switch<BoxFrame> = Switch::new(c, 0, &routes, AddressMap::default()).unwrap();
    let mut b = Bench::new(config(1, 10));
    for ingress in 0..8 {
        let frame = b.frame(0, 0, 1000);
        assert!(matches!(s.on_frame(Time(0), ingress, frame, &mut NoRecord), Admit::Queued));
    }
    let queues = s.snapshot().queues;
    assert_eq!(queues.len(), 8, "{queues:?}");
}

#[test]
fn a_route_to_a_missing_port_is_refused() {
    let routes = Routes { ports_to: vec![[5].into()] };
    let e = Switch::<BoxFrame>::new(config(2, 10), 0, &routes, AddressMap::default()).unwrap_err();
    assert!(e.to_string().contains("port 5 of 2"), "{e}");
}

#[test]
fn a_slower_port_counts_longer_quanta() {
    let mut c = config(2, 1000);
    c.ports[1].egress = LinkTiming::new(Rate::gbps(10), Span::ZERO);
    let mut b = Bench::new(c);
    b.offer(Time(0), 0, 1, 3, 1000);
    b.pause(Time(0), 1, 3, 0xffff);
    assert_eq!(b.switch.next_deadline(), Time(3_355_392_000)); // 3355.4 us (802.3 Annex 31B)
}
