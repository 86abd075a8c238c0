//! Traffic classes, priority groups and queues that have different numbers; colours; buffers in slices.

use super::config::{Color, Limit, MarkAt, Slices, SwitchConfig, Wred};
use super::testing::{Bench, Left, config};
use crate::frame::boxed::BoxFrame;
use crate::frame::{COLOR_SHIFT, Fill, Frame, FramePool};
use crate::limits::PRIORITIES;
use crate::measure::record::{DropReason, NoRecord};
use crate::switch::{AddressMap, Admit, Routes, Switch, headers, slot};
use crate::units::{Bytes, FrameLen, Span, Time};
use crate::wire::pfc::PfcFrame;

const CELL: u64 = 254;

/// What a PFC frame says: priorities, and whether each is to stop.
fn said(left: Option<Left>) -> (u8, Vec<(usize, bool)>) {
    let Some(Left::Pfc(PfcFrame { enable, quanta })) = left else { panic!("no PFC frame but {left:?}") };
    let stops = |p: &usize| (*p, quanta[*p] > 0);
    (enable, (0..PRIORITIES).filter(|p| enable & 1 << p != 0).map(|p| stops(&p)).collect())
}

/// Classes 3 and 4 share group 3: what both hold counts against one threshold, one message names both, and each waits in
/// its own queue.
#[test]
fn classes_of_one_group_share_its_threshold_and_its_pauses() {
    let mut c = config(3, 300);
    c.maps.group[4] = 3;
    c.profiles[0].priorities[3].headroom = Bytes(20 * CELL);
    c.profiles[0].priorities[4].lossless = false; // nobody feeds group 4
    let shared = c.validate().unwrap().shared;
    assert_eq!(shared, 300 - 3 * 20);
    let mut b = Bench::new(c);
    // Alpha 1: the group asks for silence with half of the pool, whichever class brought it.
    for n in 0..shared / 2 {
        assert!(!b.is_xoff(0, 3), "after {n}");
        assert_eq!(b.offer_cell(0, 1, 3 + (n % 2) as u8), None);
    }
    assert!(b.is_xoff(0, 3) && !b.is_xoff(0, 4));
    let (enable, stops) = said(b.depart(Time(1), 0));
    assert_eq!((enable, stops), (0b1_1000, vec![(3, true), (4, true)]));
    let depth = |b: &Bench, queue| b.switch.queued_frames(1, queue);
    assert_eq!((depth(&b, 3), depth(&b, 4)), (60, 60));
    // Draining either queue lets the group go on.
    b.pause(Time(2), 1, 3, 0xffff);
    let mut sent = 0;
    while b.is_xoff(0, 3) {
        assert!(matches!(b.depart(Time(3), 1), Some(Left::Data { priority: 4, .. })));
        sent += 1;
    }
    assert!(sent <= 2, "{sent} frames of class 4 left before the group went on");
    assert_eq!(said(b.depart(Time(4), 0)).1, [(3, false), (4, false)]);
}

/// Classes 3 and 4 wait in queue 3: a pause of either stops both, and a weight or a limit of queue 4 does nothing.
#[test]
fn a_pause_of_one_class_stops_the_queue_of_both() {
    let mut c = config(2, 300);
    c.maps.queue[4] = 3;
    let mut b = Bench::new(c);
    assert_eq!(b.offer_cell(0, 1, 3), None);
    assert_eq!(b.offer_cell(0, 1, 4), None);
    assert_eq!((b.switch.queued_frames(1, 3), b.switch.queued_frames(1, 4)), (2, 0));
    b.pause(Time(1), 1, 4, 0xffff);
    assert_eq!(b.depart(Time(2), 1), None);
    let paused: Vec<_> = b.switch.paused_queues().collect();
    assert_eq!(paused, [(1, 3)]);
    b.pause(Time(3), 1, 4, 0);
    assert!(matches!(b.depart(Time(4), 1), Some(Left::Data { priority: 3, .. })));
    assert!(matches!(b.depart(Time(5), 1), Some(Left::Data { priority: 4, .. })));
    // Groups are still apart: each class is charged to its own.
    assert_eq!(b.offer_cell(0, 1, 4), None);
    assert_eq!((b.switch.mmu().group_used(3), b.switch.mmu().group_used(4)), ((0, 0), (1, 0)));
}

/// SONiC's maps: classes 0, 1, 2, 5 and 6 feed group 0, and its limit holds for all of them together.
#[test]
fn lossy_classes_of_group_0_are_dropped_at_one_threshold() {
    let drops_at = |group: [u8; PRIORITIES]| {
        let mut c = config(2, 300);
        c.maps.group = group;
        for p in &mut c.profiles[0].priorities {
            p.egress_limit = Some(Limit::Pool);
        }
        let mut b = Bench::new(c);
        let classes = [0, 1, 2, 5, 6];
        let taken = (0..300).take_while(|n| b.offer_cell(0, 1, classes[n % 5]).is_none()).count();
        (taken, b.switch.stats().ports[1].queues.map(|q| q.drops))
    };
    // Alpha 1: one group has half of the pool; five groups of one cell each in turn have five sixths.
    assert_eq!(drops_at([0, 0, 0, 3, 4, 0, 0, 7]), (150, [1, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(drops_at([0, 1, 2, 3, 4, 5, 6, 7]).0, 250);
}

/// A flow's deadlock look sees queues, not classes.
#[test]
fn who_holds_a_queue_is_found_through_both_maps() {
    let mut c = config(3, 40);
    (c.maps.group[4], c.maps.queue[4]) = (3, 5);
    c.profiles[0].priorities[3].headroom = Bytes(4 * CELL);
    let mut b = Bench::new(c);
    while !b.is_xoff(0, 3) {
        assert_eq!(b.offer_cell(0, 1, 4), None);
    }
    said(b.depart(Time(1), 0));
    // The far end's queues 3 (class 3) and 5 (class 4) are silent because of group 3, whose frames wait in queue 5.
    assert_eq!((b.switch.held_by(0, 3), b.switch.held_by(0, 5), b.switch.held_by(0, 4)), (0b1000, 0b1000, 0));
    assert_eq!(b.switch.queues_from(0, 3), [(1, 5)]);
}

fn curve(kmin: u64, ecn: bool) -> Option<Wred> {
    Some(Wred { kmin: Bytes(kmin), kmax: Bytes(kmin), pmax: 1.0, ecn })
}

/// Offers frames of one cell with a DSCP (class 3, ECT) until one is marked or lost: how many stood in the queue.
fn until_touched(mut c: SwitchConfig, color: Color) -> (usize, Option<DropReason>) {
    c.mark_at = MarkAt::Enqueue;
    let mut b = Bench::new(c);
    for n in 0.. {
        let frame = b.frame(1, 3 | (color as u8) << COLOR_SHIFT, 250);
        match b.switch.on_frame(Time::ZERO, 0, frame, &mut NoRecord) {
            Admit::Queued if b.switch.stats().ce_marked > 0 => return (n, None),
            Admit::Queued => {}
            Admit::Dropped(reason, _) => return (n, Some(reason)),
            Admit::Consumed(_) => panic!("consumed"),
        }
    }
    unreachable!()
}

/// Three curves in one queue: red frames are dropped above 10 cells, yellow ones marked above 20, green ones above 40.
#[test]
fn every_colour_has_its_curve() {
    let mut c = config(2, 1_000);
    c.profiles[0].priorities[3].wred =
        [curve(40 * CELL, true), curve(20 * CELL, true), curve(10 * CELL, false)];
    assert_eq!(until_touched(c.clone(), Color::Green), (41, None));
    assert_eq!(until_touched(c.clone(), Color::Yellow), (21, None));
    assert_eq!(until_touched(c.clone(), Color::Red), (11, Some(DropReason::Wred)));
    c.profiles[0].priorities[3].wred[Color::Yellow as usize] = None;
    c.profiles[0].priorities[3].limit = Limit::Static(Bytes(100 * CELL));
    assert_eq!(until_touched(c, Color::Yellow), (100, Some(DropReason::Headroom)), "no curve, no WRED");
}

/// The colour of a DSCP is read with it at the first switch, and marks at dequeue as well.
#[test]
fn a_dscp_brings_its_colour() {
    let marked = |dscp_color: Option<(usize, Color)>| {
        let mut c = config(2, 1_000);
        c.dscp_map = [3; 64];
        if let Some((dscp, color)) = dscp_color {
            c.dscp_color[dscp] = color;
        }
        c.profiles[0].priorities[3].wred[Color::Yellow as usize] = curve(0, true);
        let addresses = AddressMap::new([("198.18.0.2".parse().unwrap(), crate::units::PortId(1))]);
        let routes = Routes { ports_to: vec![[0].into(), [1].into()] };
        let mut s: Switch<BoxFrame> = Switch::new(c, 0, &routes, addresses).unwrap();
        let mut pool = crate::frame::boxed::BoxPool::new(0, 16);
        for _ in 0..2 {
            let mut f = pool.take(Fill::Const, FrameLen(62)).unwrap();
            super::tests::write_ipv4_roce(f.head_mut()); // DSCP 26, ECT(0)
            assert!(matches!(s.on_frame(Time(5), 0, f, &mut NoRecord), Admit::Queued));
        }
        let first = s.depart(Time(10), 1, &mut pool, &mut NoRecord).unwrap();
        assert_eq!(first.meta().priority & 7, 3);
        (s.stats().ce_marked, headers::is_ecn_capable(first.head()))
    };
    assert_eq!(marked(None), (0, true));
    assert_eq!(marked(Some((25, Color::Yellow))), (0, true), "another DSCP");
    assert_eq!(marked(Some((26, Color::Yellow))), (1, true), "one cell is left behind the first");
}

/// 16 ports in four pipes of four, four slices of 1,000 cells: a lone group has alpha/(1 + alpha) of one slice.
fn sliced(cells: u64) -> SwitchConfig {
    let mut c = config(16, 4 * cells);
    c.slices = Slices::Crosspoints;
    c.ports.iter_mut().enumerate().for_each(|(i, p)| p.pipe = (i / 4) as u8);
    c
}

#[test]
fn a_lone_group_has_its_share_of_one_slice() {
    let mut b = Bench::new(sliced(1_000));
    let mut taken = 0;
    while !b.is_xoff(0, 3) {
        assert_eq!(b.offer_cell(0, 1, 3), None);
        taken += 1;
    }
    assert_eq!(taken, 500, "of 4,000 cells");
    // The vendor's map: pipes 0 and 3 share slices by where they go to; from pipe 1 it is another memory.
    let free_for = |b: &mut Bench, ingress: u16, egress: u32| {
        let mut taken = 0;
        while !b.is_xoff(ingress, 3) {
            assert_eq!(b.offer_cell(ingress, egress, 3), None);
            taken += 1;
        }
        taken
    };
    assert_eq!(free_for(&mut b, 12, 5), 250, "pipe 3 to pipe 1: the slice of the first group");
    assert_eq!(free_for(&mut b, 4, 2), 500, "pipe 1 to pipe 0: a slice of its own");
    assert_eq!(free_for(&mut b, 1, 9), 500, "pipe 0 to pipe 2: a slice of its own");
}

/// A group that is over its threshold in one slice is told to stop, and to go on when it is over it in none.
#[test]
fn a_group_goes_on_when_all_its_slices_do() {
    let mut b = Bench::new(sliced(20));
    let xoff_tx = |b: &Bench| b.switch.stats().ports[0].pfc[3].xoff_tx;
    for dst in [1, 9] {
        for _ in 0..10 {
            assert_eq!(b.offer_cell(0, dst, 3), None);
        }
    }
    assert!(b.is_xoff(0, 3));
    assert_eq!(said(b.depart(Time(1), 0)).1, [(3, true)]);
    assert_eq!((b.switch.has_pending(0), xoff_tx(&b)), (false, 1), "said once for both slices");
    while b.depart(Time(2), 1).is_some() {}
    assert!(b.is_xoff(0, 3), "the slice towards port 9 is as full as before");
    assert!(!b.switch.has_pending(0));
    while b.depart(Time(3), 9).is_some() {}
    assert!(!b.is_xoff(0, 3));
    assert_eq!(said(b.depart(Time(4), 0)).1, [(3, false)]);
}

/// What a group reserves, and its headroom, it has in each of the two slices it may use; the pools are divided by four.
#[test]
fn reserves_and_headroom_are_per_slice() {
    let mut c = sliced(1_000);
    let group = &mut c.profiles[0].priorities[3];
    (group.reserved, group.headroom) = (Bytes(10 * CELL), Bytes(20 * CELL));
    let cells = c.validate().unwrap();
    // 16 groups in 2 of 4 slices each: 8 per slice.
    assert_eq!((cells.reserved, cells.headroom, cells.shared), (320, 640, 4_000 - 960));
    assert_eq!(c.shared_size_in(0, 0).unwrap(), Bytes(760 * CELL));
    let mut b = Bench::new(c);
    for dst in [1, 9] {
        let mut taken = 0;
        while b.offer_cell(0, dst, 3).is_none() {
            taken += 1;
        }
        assert_eq!(taken, 10 + 380 + 20, "reserved, half of the slice's pool, headroom; towards {dst}");
    }
    assert_eq!(b.switch.mmu().group_used(slot(0, 3)), (780, 40));
    b.switch.drain(&mut b.pool);
    assert_eq!(b.switch.mmu().group_used(slot(0, 3)), (0, 0));
    b.switch.on_deadline(Time::ZERO + Span::from_ms(1), &mut NoRecord);
    assert!(!b.is_xoff(0, 3));
}

/// Too small a buffer is told slice by slice.
#[test]
fn a_slice_that_cannot_hold_what_is_reserved_is_refused() {
    let mut c = sliced(100);
    c.profiles[0].priorities[3].headroom = Bytes(20 * CELL);
    let text = c.validate().unwrap_err().to_string();
    assert!(text.contains("in each of 4 slices"), "{text}");
}
