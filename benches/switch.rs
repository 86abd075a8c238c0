//! Cost of the embedded switch: one frame in and out, memory warm.

#![allow(clippy::expect_used, missing_docs)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rankstorm::frame::boxed::{BoxFrame, BoxPool};
use rankstorm::frame::{Fill, Frame, FramePool, flags};
use rankstorm::limits::PRIORITIES;
use rankstorm::measure::record::NoRecord;
use rankstorm::switch::config::{LoadBalance, MarkAt, PriorityConfig, SwitchConfig, SwitchPortConfig, Wred};
use rankstorm::switch::{AddressMap, Admit, Routes, Switch};
use rankstorm::units::{Bytes, FrameLen, LinkTiming, PortId, Rate, Span, Time};

const PORTS: u16 = 64;

fn switch(waiting: u32) -> (Switch<BoxFrame>, BoxPool) {
    let priority = |p: usize| PriorityConfig {
        lossless: p == 3,
        alpha: (1, 8),
        reserved: Bytes(0),
        headroom: Bytes(117_348),
        xon_offset: Bytes(18_432),
        egress_alpha: None,
        wred: Some(Wred { kmin: Bytes(1 << 20), kmax: Bytes(2 << 20), pmax: 0.05 }),
        weight: 1,
    };
    let port = |p: u16| SwitchPortConfig {
        name: format!("Ethernet{p}"),
        egress: LinkTiming::new(Rate::gbps(100), Span::ZERO),
        mac: [2, 0, 0, 0, 0, p as u8],
    };
    let config = SwitchConfig {
        name: "bench".into(),
        ports: (0..PORTS).map(port).collect(),
        buffer: Bytes(64 << 20),
        cell: 254,
        priorities: std::array::from_fn::<_, PRIORITIES, _>(priority),
        dscp_map: [3; 64],
        balance: LoadBalance::Ecmp,
        hash_seed: 1,
        pause_quanta: 0xffff,
        mark_at: MarkAt::Dequeue,
        seed: 1,
    };
    let routes = Routes { ports_to: (0..PORTS).map(|p| [p].into()).collect() };
    let address = |p: u16| (IpAddr::V4(Ipv4Addr::new(198, 18, 0, p as u8)), PortId(p.into()));
    let addresses = AddressMap::new((0..PORTS).map(address));
    let mut switch = Switch::new(config, 0, &routes, addresses).expect("a valid switch");
    let mut pool = BoxPool::new(1 << 16, 1 << 16);
    for _ in 0..waiting {
        for p in 0..PORTS {
            forward(&mut switch, &mut pool, p, (p + 1) % PORTS, false);
        }
    }
    (switch, pool)
}

/// IPv4, UDP to 4791, WRITE middle with 4096 bytes.
const HEAD: [u8; 54] = [
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
    0x45, 0x6a, 0x10, 0x2c, 0, 0, 0x40, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2, // IPv4
    0xc0, 0, 0x12, 0xb7, 0x10, 0x18, 0, 0, // UDP
    7, 0, 0xff, 0xff, 0, 0, 0, 17, 0, 0, 0, 1, // BTH
];

fn forward(switch: &mut Switch<BoxFrame>, pool: &mut BoxPool, ingress: u16, dst: u16, parse: bool) {
    let mut frame = pool.take(Fill::Const, FrameLen(4154)).expect("a frame");
    if parse {
        frame.head_mut()[..HEAD.len()].copy_from_slice(&HEAD);
        frame.head_mut()[33] = dst as u8;
    } else {
        let meta = frame.meta_mut();
        (meta.dst, meta.priority, meta.flags) = (u32::from(dst), 3, flags::PARSED);
    }
    assert!(matches!(switch.on_frame(Time::ZERO, ingress, frame, &mut NoRecord), Admit::Queued));
}

fn on_frame_and_depart(c: &mut Criterion) {
    let mut group = c.benchmark_group("switch");
    group.throughput(Throughput::Elements(u64::from(PORTS)));
    for (waiting, parse) in [(0, false), (16, false), (16, true)] {
        let (mut switch, mut pool) = switch(waiting);
        let hop = if parse { "first" } else { "later" };
        group.bench_function(format!("64 frames, {hop} hop, {waiting} waiting per port"), |b| {
            b.iter(|| {
                for p in 0..PORTS {
                    forward(&mut switch, &mut pool, p, (p + 1) % PORTS, parse);
                    black_box(switch.poll_wake());
                }
                for p in 0..PORTS {
                    if let Some(frame) = switch.depart(Time::ZERO, p, &mut pool, &mut NoRecord) {
                        pool.give(frame);
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, on_frame_and_depart);
criterion_main!(benches);
