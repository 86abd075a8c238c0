//! Headroom as `check` computes it: enough whenever it says so, and not a cell too much in the worst case.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rankstorm::frame::boxed::{BoxFrame, BoxPool};
use rankstorm::frame::{Fill, Frame, FramePool, flags};
use rankstorm::measure::record::NoRecord;
use rankstorm::plan::Mode;
use rankstorm::plan::headroom::{Frames, needed_cells, silence_after};
use rankstorm::profile::{self, Overrides};
use rankstorm::run::{Options, execute};
use rankstorm::switch::config::{
    ClassMaps, Color, FlowControl, Limit, LoadBalance, MarkAt, PriorityConfig, Slices, SwitchConfig,
    SwitchPortConfig,
};
use rankstorm::switch::{AddressMap, Admit, Routes, Switch};
use rankstorm::units::{Bytes, FrameLen, LinkTiming, Rate, Span, Time};

const CELL: u16 = 254;

/// Two ports; what comes in by port 0 waits for port 1, which never sends.
fn switch(limit_cells: u64, headroom_cells: u64, link: LinkTiming) -> Switch<BoxFrame> {
    let cell = u64::from(CELL);
    let mut priorities = [PriorityConfig::default(); 8];
    priorities[3] = PriorityConfig {
        lossless: true,
        limit: Limit::Static(Bytes(limit_cells * cell)),
        headroom: Bytes(headroom_cells * cell),
        ..PriorityConfig::default()
    };
    let port = |p: u8| SwitchPortConfig {
        name: format!("Ethernet{p}"),
        egress: link,
        mac: [2, 0, 0, 0, 0, p],
        profile: 0,
        pipe: 0,
    };
    let config = SwitchConfig {
        name: "dut".into(),
        ports: vec![port(0), port(1)],
        buffer: Bytes((2 * headroom_cells + limit_cells + 1_000) * cell),
        cell: CELL,
        profiles: vec![priorities.into()],
        ingress_pools: Vec::new(),
        egress_pools: Vec::new(),
        dscp_map: [3; 64],
        pcp_map: None,
        dscp_color: [Color::Green; 64],
        maps: ClassMaps::default(),
        slices: Slices::Whole,
        balance: LoadBalance::Ecmp,
        hash_dest_qp: false,
        hash_seed: 1,
        pause_quanta: u16::MAX,
        mark_at: MarkAt::Dequeue,
        flow_control: FlowControl::Pfc,
        cut_through: false,
        seed: 1,
    };
    let routes = Routes { ports_to: vec![Arc::from([0u16]), Arc::from([1u16])] };
    Switch::new(config, 0, &routes, AddressMap::default()).unwrap()
}

/// Lossless frames lost when everything that can go wrong does: frames of `len` arrive back to back; the one that
/// crosses the threshold does not fit as a whole; the port has just begun to send `blocking`; and the far end has just
/// begun another frame when it obeys.
fn lost(len: FrameLen, blocking: FrameLen, headroom_cells: u64, way: Span, response: Span) -> u64 {
    let link = LinkTiming::new(Rate::gbps(100), way);
    let cells = u64::from((len.0 + 4).div_ceil(CELL));
    // One cell more than whole frames: the next frame does not fit, though a cell would.
    let mut s = switch(20 * cells + u64::from(cells > 1), headroom_cells, link);
    let mut pool = BoxPool::new(0, 1 << 12);
    let frame_time = link.wire_time(len);
    let (mut silent_from, mut now, mut lost) = (None, Time::ZERO + way, 0);
    loop {
        now += frame_time;
        // The far end started this frame so long ago.
        let started = now.since(Time::ZERO + way + frame_time);
        if silent_from.is_some_and(|t: Time| Time::ZERO + started > t) {
            return lost;
        }
        let mut f = pool.take(Fill::Const, len).unwrap();
        f.head_mut()[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x02]);
        let meta = f.meta_mut();
        (meta.dst, meta.priority, meta.flags, meta.head_len) = (1, 3, flags::PARSED, 54);
        meta.ttl = 64;
        match s.on_frame(now, 0, f, &mut NoRecord) {
            Admit::Queued => {}
            Admit::Dropped(_, f) | Admit::Consumed(f) => {
                lost += 1;
                pool.give(f);
            }
        }
        if silent_from.is_none() && s.mmu().is_xoff(3) {
            let out = now + link.wire_time(blocking);
            let pfc = s.depart(out, 0, &mut pool, &mut NoRecord).unwrap();
            let heard = out + link.wire_time(pfc.len()) + way;
            pool.give(pfc);
            silent_from = Some(heard + response);
        }
    }
}

#[test]
fn in_the_worst_case_one_cell_less_loses_a_frame() {
    for len in [4_154, 1_082, 2_106, 511].map(FrameLen) {
        let blocking = FrameLen(4_154);
        for metres in [5, 300] {
            let way = Span::from_ns(600 + 5 * metres);
            let link = LinkTiming::new(Rate::gbps(100), way);
            // The response that makes the last frame one that has just begun.
            let base = silence_after(&link, &link, Span::ZERO, blocking).0;
            let time = link.wire_time(len).0;
            let response = Span((base + 2_017_280).next_multiple_of(time) - base);
            let span = silence_after(&link, &link, response, blocking);
            let frames = Frames { lens: vec![len], acks: false };
            let needed = needed_cells(span, &link, &frames, CELL);
            assert_eq!(lost(len, blocking, needed, way, response), 0, "{len:?}, {metres} m: {needed} cells");
            assert_eq!(
                lost(len, blocking, needed - 1, way, response),
                1,
                "{len:?}, {metres} m: one cell less"
            );
        }
    }
}

/// Senders at full rate into one receiver, frames of any length, through the whole program.
fn profile(senders: u32, gbps: u32, metres: u32, size: u16, other: u16, cell: u16, headroom: u64) -> String {
    let mut text = format!(
        "schema = 1\nname = \"headroom\"\n[run]\nlimit = \"50 ms\"\non = \"virtual\"\n[class.roce]\ndscp = 3\n\
         [switch]\ncell = {cell}\nbuffer = \"2 MB\"\nstatic_th = \"40 kB\"\nreserved = \"0 B\"\nxon_offset = \"2000 B\"\n\
         xoff_headroom = \"{headroom} B\"\n\
         ports = {{ count = {}, rate = \"{gbps}G\", cable = \"{metres} m\" }}\n",
        senders + 1
    );
    for s in 0..senders {
        let size = if s % 2 == 0 { size } else { other };
        text += &format!(
            "[[stream]]\nname = \"s{s}\"\nfrom = {s}\nto = {senders}\nsize = {size}\nload = \"100 %\"\n\
             duration = \"60 us\"\nstart = \"{} ns\"\n",
            u64::from(s) * 37
        );
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(4),
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_lossless_is_lost_when_check_says_the_headroom_suffices(
        senders in 2u32..5,
        gbps in prop::sample::select(vec![25u32, 100, 200]),
        metres in prop::sample::select(vec![2u32, 40, 150]),
        size in 64u16..4_200,
        other in 64u16..4_200,
        cell in prop::sample::select(vec![144u16, 208, 254, 256]),
    ) {
        let load = |headroom: u64| {
            let text = profile(senders, gbps, metres, size, other, cell, headroom);
            profile::from_str("headroom.toml", &text, &Overrides::default())
        };
        let needed = match load(1_000) {
            Ok(plan) => {
                prop_assert!(plan.warnings.iter().any(|(code, _)| code == "headroom_too_small"));
                plan.predicted.headrooms.iter().map(|h| h.headroom.needed.0).max().unwrap()
            }
            Err(e) => panic!("{e}"),
        };
        // Four or five ports with more than this leave nothing of 2 MB to share.
        prop_assume!(needed * u64::from(senders + 1) < 1_800_000);
        let plan = load(needed).unwrap();
        prop_assert!(!plan.warnings.iter().any(|(code, _)| code == "headroom_too_small"), "{:?}", plan.warnings);
        let result = execute(&plan, Options::new(Mode::Virtual)).unwrap();
        let s = &result.switches[0];
        prop_assert_eq!(s.drops, 0, "needed {}", needed);
        let xoffs: u64 = s.ports.iter().map(|p| p.pfc[3].xoff_tx).sum();
        prop_assert!(xoffs > 0, "the group never reached its threshold");
    }
}
