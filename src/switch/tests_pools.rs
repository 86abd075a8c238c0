//! Pools, static limits, shared headroom, limits per port, watchdog, link pause and shapers of the whole switch.

use super::config::{
    EgressPool, FlowControl, IngressPool, Limit, Shaper, SwitchConfig, Watchdog, WatchdogAction, Wred,
};
use super::slot;
use super::testing::{Bench, Left, config};
use crate::frame::{Fill, Frame, FramePool};
use crate::measure::record::{DropReason, NoRecord};
use crate::switch::{Admit, headers};
use crate::units::{Bytes, FrameLen, Rate, Span, Time};

const CELL: u64 = 254;

/// Frames of one cell until the group asks for a pause, and until one is lost.
fn trigger_and_drop(c: SwitchConfig) -> (u64, u64) {
    let mut b = Bench::new(c);
    let (mut trigger, mut held) = (0, 0);
    while !b.is_xoff(0, 3) {
        assert_eq!(b.offer(Time::ZERO, 0, 1, 3, 80), None);
        trigger += 1;
    }
    while b.offer(Time::ZERO, 0, 1, 3, 80).is_none() {
        held += 1;
    }
    (trigger, trigger + held)
}

/// Packets of one cell into a single group with its egress blocked, as published with sonic-mgmt's QoS tests: when PFC
/// comes, and when the first packet is lost. Their difference is the headroom of the port's cable (100G, 300 m).
#[test]
fn single_group_thresholds_of_three_chips_come_out() {
    let chips = [
        ("Trident 3", 256, 59_605, 60_228),
        ("Tomahawk 2", 208, 19_994, 20_481),
        ("Tomahawk 3", 254, 22_026, 22_488),
    ];
    for (name, cell, trigger, drop) in chips {
        let headroom = drop - trigger;
        for limit in [Limit::Dynamic(1, 1), Limit::Static(Bytes(trigger * cell))] {
            // With alpha 1 a lone group gets half of the pool.
            let mut c = config(2, 2 * trigger + 4 * headroom);
            c.cell = cell as u16;
            c.buffer = Bytes((2 * trigger + 4 * headroom) * cell);
            for p in [3, 4] {
                let group = &mut c.profiles[0].priorities[p];
                (group.limit, group.headroom) = (limit, Bytes(headroom * cell));
            }
            assert_eq!(trigger_and_drop(c), (trigger, drop), "{name}, {limit:?}");
        }
    }
}

/// Spectrum: PFC at (static_th - headroom) + xon, the first loss `headroom` later; sonic-mgmt's generator of QoS
/// parameters. Figures of a 100G port with 5 m on SN4700: xon 19456 B, xoff 33792 B, cells of 144 bytes.
#[test]
fn spectrum_triggers_at_its_static_threshold_less_headroom_plus_xon() {
    let (cell, xon, headroom, static_th) = (144, 19_456u64, 33_792u64, 400_000u64);
    let mut c = config(2, 10_000);
    c.cell = cell as u16;
    c.buffer = Bytes(20_000_000);
    let group = &mut c.profiles[0].priorities[3];
    group.limit = Limit::Static(Bytes(static_th - headroom));
    (group.reserved, group.headroom, group.xon) = (Bytes(xon), Bytes(headroom), Bytes(xon));
    let cells = |bytes: u64| bytes.div_ceil(cell);
    let trigger = (static_th - headroom) / cell + cells(xon);
    assert_eq!(trigger_and_drop(c), (trigger, trigger + cells(headroom)));
}

#[test]
fn a_static_limit_does_not_move_with_the_pool_and_never_lets_it_overflow() {
    let with = |others: u64, cells: u64| {
        let mut c = config(3, cells);
        c.profiles[0].priorities[3].limit = Limit::Static(Bytes(100 * CELL));
        c.profiles[0].priorities[0].limit = Limit::Pool;
        let mut b = Bench::new(c);
        (0..others).for_each(|_| assert_eq!(b.offer_cell(2, 1, 0), None));
        let mut taken = 0;
        while !b.is_xoff(0, 3) && b.offer_cell(0, 1, 3).is_none() {
            taken += 1;
        }
        taken
    };
    assert_eq!([with(0, 1_000), with(500, 1_000), with(900, 1_000)], [100, 100, 100]);
    assert_eq!(with(950, 1_000), 50, "the pool is full before the limit");
}

/// Two groups, each with 40 cells of headroom, and 60 for both.
#[test]
fn a_shared_headroom_pool_runs_out_for_all() {
    let mut c = config(3, 1_000);
    c.profiles[0].priorities[3].limit = Limit::Static(Bytes(10 * CELL));
    c.profiles[0].priorities[3].headroom = Bytes(40 * CELL);
    c.ingress_pools =
        vec![IngressPool { name: "lossless".into(), shared: None, headroom: Some(Bytes(60 * CELL)) }];
    assert_eq!(c.validate().unwrap().headroom, 60, "not 3 x 40");
    let mut b = Bench::new(c);
    for _ in 0..50 {
        assert_eq!(b.offer_cell(0, 1, 3), None);
    }
    assert_eq!(b.offer_cell(0, 1, 3), Some(DropReason::Headroom), "its own 40 are used up");
    for _ in 0..30 {
        assert_eq!(b.offer_cell(2, 1, 3), None);
    }
    assert_eq!(b.offer_cell(2, 1, 3), Some(DropReason::Headroom), "20 of 40, but the pool is empty");
    assert_eq!(b.switch.mmu().pool_used(0).2, 60);
    b.depart(Time::ZERO, 1);
    assert_eq!(b.offer_cell(2, 1, 3), None, "what one group gives back another may take");
}

#[test]
fn lossy_traffic_in_a_pool_of_its_own_leaves_the_lossless_threshold_alone() {
    let trigger = |own_pool: bool| {
        let mut c = config(3, 1_000);
        c.profiles[0].priorities[0].limit = Limit::Pool;
        if own_pool {
            c.buffer = Bytes(1_500 * CELL);
            let pool = |name: &str, shared| IngressPool { name: name.into(), shared, headroom: None };
            c.ingress_pools = vec![pool("lossless", None), pool("lossy", Some(Bytes(500 * CELL)))];
            c.profiles[0].priorities[0].pool = 1;
        }
        let mut b = Bench::new(c);
        let lossy = (0..500).filter(|_| b.offer_cell(2, 1, 0).is_none()).count();
        assert_eq!(lossy, 500);
        if own_pool {
            assert_eq!(b.offer_cell(2, 1, 0), Some(DropReason::Buffer), "its own pool is full");
        }
        let mut taken = 0;
        while !b.is_xoff(0, 3) {
            b.offer_cell(0, 1, 3);
            taken += 1;
        }
        taken
    };
    assert_eq!((trigger(false), trigger(true)), (250, 500), "alpha 1: half of what is free");
}

/// An egress pool of 100 cells: 10 reserved for each of two queues of port 1, alpha 1 over the rest for both.
#[test]
fn egress_pools_reserve_and_share() {
    let mut c = config(2, 10_000);
    for p in [0, 1] {
        let queue = &mut c.profiles[0].priorities[p];
        queue.limit = Limit::Pool;
        queue.egress_limit = Some(Limit::Dynamic(1, 1));
        queue.egress_reserved = Bytes(10 * CELL);
        queue.egress_pool = 1;
    }
    let pool = |name: &str, cells: u64| EgressPool { name: name.into(), size: Bytes(cells * CELL) };
    c.egress_pools = vec![pool("rest", 10_000), pool("lossy", 120)];
    let mut b = Bench::new(c.clone());
    let fill = |b: &mut Bench, priority| (0..).take_while(|_| b.offer_cell(0, 1, priority).is_none()).count();
    // 120 less 2 x 10 for each of two ports are 80: the first queue gets 10 and half of 80, the second half of the rest.
    assert_eq!(fill(&mut b, 0), 10 + 40);
    assert_eq!(fill(&mut b, 1), 10 + 20);
    assert_eq!(b.switch.mmu().egress_pool_used(1), (80, 60));
    while b.depart(Time::ZERO, 1).is_some() {}
    assert_eq!(b.switch.mmu().egress_pool_used(1), (80, 0));
    // A lossless queue over its egress limit drops: such a switch is not lossless.
    c.profiles[0].priorities[3].egress_limit = Some(Limit::Static(Bytes(7 * CELL)));
    let mut b = Bench::new(c.clone());
    assert_eq!(fill(&mut b, 3), 7);
    assert_eq!(b.switch.stats().drops_lossless, 1);
    c.egress_pools[1].size = Bytes(39 * CELL);
    assert!(
        c.validate().unwrap_err().to_string().contains("egress pool lossy: its queues reserve 10160 bytes")
    );
}

#[test]
fn xon_has_a_floor() {
    let mut c = config(2, 1_000);
    let group = &mut c.profiles[0].priorities[3];
    (group.limit, group.xon_offset) = (Limit::Static(Bytes(20 * CELL)), Bytes(100 * CELL));
    let left_at_xon = |c: &SwitchConfig| {
        let mut b = Bench::new(c.clone());
        (0..20).for_each(|_| assert_eq!(b.offer_cell(0, 1, 3), None));
        assert!(b.is_xoff(0, 3));
        while b.is_xoff(0, 3) {
            b.depart(Time::ZERO, 1);
        }
        b.switch.mmu().group_used(slot(0, 3)).0
    };
    assert_eq!(left_at_xon(&c), 0, "the offset is larger than the limit");
    c.profiles[0].priorities[3].xon = Bytes(6 * CELL);
    assert_eq!(left_at_xon(&c), 6);
}

#[test]
fn ports_have_limits_of_their_own() {
    let mut c = config(4, 1_000);
    let mut fast = c.profiles[0].clone();
    fast.priorities[3].limit = Limit::Static(Bytes(300 * CELL));
    fast.priorities[3].headroom = Bytes(50 * CELL);
    fast.priorities[0].lossless = true;
    fast.priorities[5].weight = 0;
    c.profiles[0].priorities[3].limit = Limit::Static(Bytes(100 * CELL));
    let profile = c.profile(fast.clone());
    assert_eq!((profile, c.profile(fast)), (1, 1), "equal profiles are one");
    c.ports[2].profile = profile;
    assert_eq!(c.validate().unwrap().headroom, 50);
    let mut b = Bench::new(c.clone());
    let mut fill = |port: u16| {
        let mut n = 0;
        while !b.is_xoff(port, 3) {
            b.offer_cell(port, 1, 3);
            n += 1;
        }
        n
    };
    assert_eq!((fill(0), fill(2)), (100, 300));
    // Strict on port 2 only.
    let mut b = Bench::new(c.clone());
    for egress in [1, 2] {
        (0..3).for_each(|_| assert_eq!(b.offer(Time::ZERO, 0, egress, 1, 4_000), None));
        (0..3).for_each(|_| assert_eq!(b.offer(Time::ZERO, 0, egress, 5, 4_000), None));
    }
    let first = |b: &mut Bench, port| match b.depart(Time::ZERO, port) {
        Some(Left::Data { priority, .. }) => priority,
        other => panic!("{other:?}"),
    };
    assert_eq!([first(&mut b, 2), first(&mut b, 2), first(&mut b, 2)], [5; 3]);
    c.ports[3].profile = 9;
    assert!(c.validate().unwrap_err().to_string().contains("port Ethernet3 names profile 9 of 2"));
}

#[test]
fn wred_without_ecn_drops_what_it_would_mark() {
    let mut c = config(2, 1_000);
    c.profiles[0].priorities[1].wred[0] =
        Some(Wred { kmin: Bytes(1_000), kmax: Bytes(1_000), pmax: 1.0, ecn: false });
    let mut b = Bench::new(c);
    let taken = (0..10).filter(|_| b.offer_cell(0, 1, 1).is_none()).count();
    assert_eq!(taken, 4, "the fifth sees 1,016 bytes");
    assert_eq!((b.switch.stats().drops, b.switch.stats().ce_marked), (6, 0));
}

fn watched(action: WatchdogAction) -> Bench {
    let mut c = config(3, 1_000);
    c.profiles[0].watchdog =
        Some(Watchdog { detect: Span::from_us(100), restore: Span::from_us(50), action });
    Bench::new(c)
}

fn us(n: u64) -> Time {
    Time::ZERO + Span::from_us(n)
}

/// Keeps priority 3 of port 1 paused until `end`, with a pause every 50 us, and lets the switch look when it wants to.
fn storm(b: &mut Bench, start: u64, end: u64) {
    for at in (start..end).step_by(50) {
        b.pause(us(at), 1, 3, 15_625); // 80 us at 100G
        run_until(b, us(at + 50));
    }
}

fn run_until(b: &mut Bench, until: Time) {
    while b.switch.next_deadline() <= until {
        let at = b.switch.next_deadline();
        b.switch.on_deadline(at, &mut NoRecord);
    }
}

#[test]
fn a_stuck_queue_is_dropped_and_restored() {
    let mut b = watched(WatchdogAction::Drop);
    for _ in 0..5 {
        assert_eq!(b.offer_cell(0, 1, 3), None);
    }
    storm(&mut b, 0, 200);
    let seen = |b: &Bench| b.switch.stats().ports[1].watchdog[3];
    assert_eq!((seen(&b).storms, seen(&b).restored), (1, 0));
    assert!(b.switch.has_pending(1), "there is something to throw away");
    assert_eq!(b.depart(us(200), 1), None);
    assert_eq!((b.switch.inside_frames(), b.switch.flushed().0, seen(&b).tx_drops), (0, 5, 5));
    assert_eq!(b.offer(us(201), 0, 1, 3, 1_000), Some(DropReason::Watchdog));
    assert_eq!(b.offer(us(201), 1, 2, 3, 1_000), Some(DropReason::Watchdog), "the same port and priority");
    assert_eq!(b.offer(us(201), 0, 2, 3, 1_000), None, "another port");
    assert_eq!(b.offer(us(201), 0, 1, 4, 1_000), None, "another priority");
    assert_eq!((seen(&b).tx_drops, seen(&b).rx_drops), (6, 1));
    // The last pause came at 150 us and ends at 230 us; quiet for 50 us from there.
    run_until(&mut b, us(279));
    assert_eq!(seen(&b).restored, 0);
    run_until(&mut b, us(280));
    assert_eq!(seen(&b).restored, 1);
    assert_eq!(b.offer(us(281), 0, 1, 3, 1_000), None);
    let left = b.depart(us(281), 1);
    assert!(matches!(left, Some(Left::Data { .. })), "{left:?}");
    let s = b.switch.stats();
    assert_eq!(s.rx_frames, s.tx_frames + s.drops + b.switch.inside_frames());
}

#[test]
fn a_stuck_queue_is_forwarded_or_only_counted() {
    let mut b = watched(WatchdogAction::Forward);
    b.offer(Time::ZERO, 0, 1, 3, 1_000);
    storm(&mut b, 0, 100);
    assert!(b.switch.has_pending(1), "in spite of the pause");
    assert!(matches!(b.depart(us(101), 1), Some(Left::Data { priority: 3, .. })));
    let mut b = watched(WatchdogAction::Alert);
    b.offer(Time::ZERO, 0, 1, 3, 1_000);
    storm(&mut b, 0, 1_000);
    assert_eq!(b.depart(us(1_000), 1), None);
    assert_eq!((b.switch.stats().ports[1].watchdog[3].storms, b.switch.stats().drops), (1, 0));
}

#[test]
fn pauses_with_gaps_are_no_storm() {
    let mut b = watched(WatchdogAction::Drop);
    for at in (0..2_000).step_by(100) {
        b.offer(us(at), 0, 1, 3, 1_000);
        b.pause(us(at), 1, 3, 15_625); // until 80 us later
        run_until(&mut b, us(at + 99));
        assert!(b.depart(us(at + 99), 1).is_some());
    }
    assert_eq!(b.switch.stats().ports[1].watchdog[3].storms, 0);
}

#[test]
fn a_pause_of_the_link_stops_every_priority_and_is_sent_once_for_all_groups() {
    let mut c = config(2, 1_000);
    c.flow_control = FlowControl::Global;
    for p in [3, 4] {
        c.profiles[0].priorities[p].limit = Limit::Static(Bytes(10 * CELL));
        c.profiles[0].priorities[p].headroom = Bytes(100 * CELL);
    }
    let mut b = Bench::new(c);
    let link_pause = |b: &mut Bench, now: Time, quanta: u16| {
        let mut f = b.pool.take(Fill::Control, FrameLen(60)).unwrap();
        headers::write_pause(&mut f, [2; 6], quanta);
        match b.switch.on_frame(now, 1, f, &mut NoRecord) {
            Admit::Consumed(f) => b.pool.give(f),
            other => panic!("{other:?}"),
        }
    };
    link_pause(&mut b, Time::ZERO, 100);
    for p in 0..8 {
        b.offer(Time::ZERO, 0, 1, p, 1_000);
    }
    assert_eq!(b.depart(Time::ZERO, 1), None, "lossy priorities wait too");
    link_pause(&mut b, Time(1), 0);
    assert!((0..8).all(|_| b.depart(Time(1), 1).is_some()));

    let quanta = |b: &mut Bench| {
        let f = b.switch.depart(Time(2), 0, &mut b.pool, &mut NoRecord)?;
        let quanta = crate::wire::pfc::global_pause(f.head(), f.len());
        b.pool.give(f);
        quanta
    };
    for p in [3, 4] {
        (0..12).for_each(|_| assert_eq!(b.offer_cell(0, 1, p), None));
    }
    assert_eq!((quanta(&mut b), quanta(&mut b)), (Some(0xffff), None), "one frame for both groups");
    // Both groups have to drain before the link may go on.
    let mut left = 0;
    while quanta(&mut b) != Some(0) {
        assert!(b.depart(Time(2), 1).is_some());
        left += 1;
    }
    assert!(!b.is_xoff(0, 3) && !b.is_xoff(0, 4) && left >= 6, "{left}");
}

/// A queue at 25G (with a burst of two frames, since it also waits its turn) on a 100G port beside one without: 4,154-byte frames are 4,178 bytes on the wire.
#[test]
fn a_shaped_queue_gets_its_rate_and_the_others_the_rest() {
    let mut c = config(2, 60_000);
    c.profiles[0].priorities[3].shaper = Some(Shaper { rate: Rate::gbps(25), burst: Bytes(8_356) });
    let mut b = Bench::new(c);
    for _ in 0..800 {
        b.offer(Time::ZERO, 0, 1, 3, 4_154);
        b.offer(Time::ZERO, 0, 1, 4, 4_154);
    }
    let (mut now, mut sent) = (Time::ZERO, [0u32; 8]);
    while now < us(200) {
        run_until(&mut b, now);
        match b.depart(now, 1) {
            Some(Left::Data { priority, .. }) => {
                sent[usize::from(priority)] += 1;
                now += Span(334_240);
            }
            _ => now = b.switch.next_deadline(),
        }
    }
    // 200 us at 25G: 625,000 bytes, 149.6 frames, and the burst of 2. The whole link: 598.4 frames.
    assert!((149..=153).contains(&sent[3]), "{sent:?}");
    assert!((597..=599).contains(&(sent[3] + sent[4])), "{sent:?}");
}

/// A headroom smaller than a frame is a mistake that is made: frames are lost at the threshold, and the sender is stopped there.
#[test]
fn a_frame_that_finds_no_headroom_stops_its_sender_all_the_same() {
    for headroom in [0, 1] {
        let mut c = config(2, 1000 + 2 * headroom);
        c.profiles[0].priorities[3].headroom = Bytes(headroom * 254);
        let mut b = Bench::new(c);
        // 499 cells are below the threshold, 1000 - 499; a frame of four cells crosses it.
        for _ in 0..499 {
            assert_eq!(b.offer_cell(0, 1, 3), None);
        }
        assert!(!b.is_xoff(0, 3));
        assert_eq!(b.offer(Time::ZERO, 0, 1, 3, 1_000), Some(DropReason::Headroom));
        assert!(b.is_xoff(0, 3), "headroom {headroom}");
        match b.depart(Time::ZERO, 0) {
            Some(Left::Pfc(pause)) => assert_eq!(pause.quanta_of(3), Some(0xffff)),
            other => panic!("an XOFF was to leave: {other:?}"),
        }
        while b.is_xoff(0, 3) {
            assert!(b.depart(Time::ZERO, 1).is_some(), "XON once enough has left");
        }
    }
    // Nothing is in the group: no frame's leaving could ever lift the pause.
    let mut b = Bench::new(config(2, 2));
    assert_eq!(b.offer(Time::ZERO, 0, 1, 3, 1_000), Some(DropReason::Headroom));
    assert!(!b.is_xoff(0, 3));
}
