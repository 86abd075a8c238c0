//! Hand-made runs for the tests of this layer: plain arithmetic, no engine.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::build::Meta;
use super::model::RunReport;
use crate::frame::{FrameMeta, flags};
use crate::host::config::{HostConfig, RankAddr};
use crate::measure::record::{DropReason, MessageRecord, Outcome, RankIteration, Record};
use crate::measure::recorder::Recorder;
use crate::measure::stats::{ClassStats, HostStats, PfcStats, QueueStats, SwitchPortStats, SwitchStats};
use crate::plan::*;
use crate::run::result::{Conservation, RunResult, SimStats, TesterStats};
use crate::switch::config::*;
use crate::topology::{End, Fabric, Link};
use crate::transport::config::{ClassConfig, Ecn, RateControl, RcConfig, Verb};
use crate::units::*;
use crate::workload::config::*;

fn class(name: &str, priority: u8, lossless: bool) -> ClassConfig {
    ClassConfig {
        name: name.into(),
        dscp: priority,
        priority,
        lossless,
        ecn: Ecn::Ect0,
        ack_dscp: priority,
        ack_priority: priority,
        cnp_dscp: priority,
        cnp_priority: priority,
        mtu: 4096,
        vlan: None,
        pcp: None,
    }
}

fn switch(ports: u16) -> SwitchConfig {
    let priority = PriorityConfig {
        limit: Limit::Dynamic(1, 8),
        headroom: Bytes(117_348),
        xon_offset: Bytes(18_432),
        ..PriorityConfig::default()
    };
    let mut priorities = [priority; 8];
    priorities[3].lossless = true;
    SwitchConfig {
        name: "leaf0".into(),
        ports: (0..ports)
            .map(|p| SwitchPortConfig {
                name: format!("Ethernet{}", p * 4),
                egress: LinkTiming::new(Rate::gbps(100), Span::from_ns(250)),
                mac: [2, 0, 0, 0, 1, p as u8],
                profile: 0,
                pipe: 0,
            })
            .collect(),
        buffer: Bytes(32 << 20),
        cell: 254,
        profiles: vec![priorities.into()],
        ingress_pools: Vec::new(),
        egress_pools: Vec::new(),
        dscp_map: std::array::from_fn(|d| (d % 8) as u8),
        pcp_map: None,
        dscp_color: [Color::Green; 64],
        maps: ClassMaps::default(),
        slices: Slices::Whole,
        balance: LoadBalance::Ecmp,
        hash_dest_qp: false,
        hash_seed: 1,
        pause_quanta: 65_535,
        mark_at: MarkAt::Dequeue,
        flow_control: FlowControl::Pfc,
        cut_through: false,
        seed: 1,
    }
}

fn plan(name: &str, ports: u16, classes: Vec<ClassConfig>, workloads: Vec<WorkloadConfig>) -> Plan {
    let classes: Arc<[ClassConfig]> = classes.into();
    let workloads: Arc<[WorkloadConfig]> = workloads.into();
    let ip = |p: u16| IpAddr::V4(Ipv4Addr::new(198, 18, 0, p as u8 + 1));
    let rank = |p: u16| RankAddr { rank: RankId(p.into()), port: PortId(p.into()), ip: ip(p) };
    let host = |p: u16| HostConfig {
        port: PortId(p.into()),
        name: format!("h{p}"),
        host: "local".into(),
        mac: [2, 0, 0, 0, 0, p as u8],
        rate: Rate::gbps(100),
        ranks: vec![rank(p)],
        classes: classes.clone(),
        workloads: workloads.clone(),
        qps: Vec::new(),
        local_delivery: true,
        streams: Vec::new(),
        stream_to: Vec::new(),
        actions: Vec::new(),
        pfc_response: Span::ZERO,
        receive: None,
        seed: 1,
    };
    let timing = LinkTiming::new(Rate::gbps(100), Span::from_ns(250));
    let cable = |p: u16| {
        let (a, b) = (End::Host(PortId(p.into())), End::Switch(0, p));
        [Link { from: a, to: b, timing }, Link { from: b, to: a, timing }]
    };
    Plan {
        name: name.into(),
        question: None,
        expectation: None,
        seed: 1,
        warmup: 2,
        repeats: 20,
        gap: Span::from_ms(2),
        limit: Span::from_ms(60_000),
        compat: Compat::Own,
        clock: Clock::Elastic { dilation: None },
        mode: None,
        hosts: (0..ports).map(host).collect(),
        ranks: (0..ports).map(rank).collect::<Vec<_>>().into(),
        classes: classes.clone(),
        workloads: workloads.clone(),
        actions: Vec::new(),
        fabric: Fabric {
            endpoints: ports.into(),
            switches: vec![switch(ports)],
            links: (0..ports).flat_map(cable).collect(),
            routes: Vec::new(),
            given: Vec::new(),
            shape: "single switch".into(),
        },
        faults: Vec::new(),
        links: crate::plan::LinkPlan::default(),
        lab: Default::default(),
        expect: Vec::new(),
        predicted: Prediction::default(),
        warnings: Vec::new(),
        effective: format!("name = \"{name}\"\n"),
        source: None,
    }
}

fn workload(name: &str, kind: WorkloadKind, ranks: u32) -> WorkloadConfig {
    WorkloadConfig {
        name: name.into(),
        kind,
        ranks: (0..ranks).map(RankId).collect::<Vec<_>>().into(),
        class: ClassIx(0),
        verb: Verb::Write,
        qps_per_pair: 1,
        rate_control: RateControl::None,
        rc: RcConfig::default(),
        skew: Skew::Fixed(Span::ZERO),
    }
}

fn expect(name: &str, limit: f64) -> Expectation {
    Expectation { name: name.into(), limit, typed: limit.to_string() }
}

fn result(plan: &Plan, mode: Mode, recorder: Recorder, measured_from: Time, ended: Time) -> RunResult {
    let hosts =
        vec![
            HostStats { classes: vec![ClassStats::default(); plan.classes.len()], ..HostStats::default() };
            plan.hosts.len()
        ];
    RunResult {
        mode,
        recorder,
        hosts,
        switches: vec![SwitchStats {
            ports: vec![SwitchPortStats::default(); plan.hosts.len()],
            ..SwitchStats::default()
        }],
        ended,
        measured_from,
        complete: true,
        missing: Vec::new(),
        iterations_done: plan.warmup + plan.repeats,
        snapshots: Vec::new(),
        conservation: Conservation::default(),
        tester: TesterStats { wall_s: 6.2, trustworthy: true, ..TesterStats::default() },
        sim: None,
        peak_bytes: 180_000_000,
    }
}

/// The report of a fixture.
pub fn report(plan: &Plan, result: &RunResult) -> RunReport {
    let mut r = RunReport::build(plan, result, Meta { started: "2026-03-01T12:00:00Z".into(), repeat: None });
    // Stamps of the build do not belong into snapshots.
    r.tool.version = "0.0.0".into();
    r.tool.revision = "test".into();
    r
}

/// 32 senders of 4 MiB into one 100G port on a lossless class: 2 warm-up bursts and 20 measured ones of about
/// 10.96 ms, every sender paused.
pub fn incast() -> (Plan, RunResult) {
    let senders = 32u32;
    let kind = WorkloadKind::Incast { message: Bytes(4 << 20) };
    let mut plan =
        plan("incast-32to1", 33, vec![class("roce", 3, true)], vec![workload("incast", kind, senders + 1)]);
    plan.question = Some("does a 32:1 incast stay lossless, and who pays for it?".into());
    plan.expect = vec![
        expect("lossless_drops", 0.0),
        expect("ideal_ratio_max", 1.02),
        expect("headroom_bytes_max", 117_348.0),
        expect("pfc_ports", 32.0),
    ];
    plan.predicted = Prediction {
        fan_in_ranks: 32.0,
        fan_in_physical: 32.0,
        ideal: vec![Span(10_955_000_000)],
        fabric_bound: vec![Span(10_956_000_000)],
        xoff: Some(XoffPrediction { reached: true, group_bytes: Bytes(742_000), first: Span(61_300_000) }),
        memory: MemoryPrediction { bytes_per_qp: 256, bytes_per_rank: 4_096, ..MemoryPrediction::default() },
        ..Prediction::default()
    };
    let mut r = Recorder::for_plan(&plan);
    let period = 13_000_000_000u64;
    let measured_from = Time(2 * period);
    r.set_measure_from(measured_from);
    for iteration in 0..22u32 {
        let start = Time(u64::from(iteration) * period);
        for rank in 0..senders {
            // Ranks finish 1 us apart, in an order that turns with the iteration; every burst is 1 us longer.
            let turn = u64::from((rank + iteration) % senders);
            let finished = start + Span(10_900_000_000 + (turn + u64::from(iteration)) * 1_000_000);
            for frame in 0..20u64 {
                let at = start + Span(2_100_000_000 + 400_000_000 * frame);
                let meta = FrameMeta {
                    intended: start,
                    start: Time(at.0 - 1_900_000_000 - u64::from(rank) * 100_000),
                    len: FrameLen(4154),
                    flags: flags::DATA,
                    ..FrameMeta::default()
                };
                r.arrival(at, &meta, ClassIx(0));
            }
            r.port_pause(start + Span(61_300_000 + turn * 1_000), rank, 3, true);
            r.port_pause(start + Span(8_641_300_000), rank, 3, false);
            r.message(&MessageRecord {
                workload: 0,
                iteration,
                from: RankId(rank),
                to: RankId(senders),
                bytes: 4 << 20,
                tag: 0,
                intended: start,
                started: start,
                finished,
                outcome: Outcome::Completed,
                retransmitted: 0,
            });
            r.rank_iteration(&RankIteration {
                workload: 0,
                iteration,
                rank: RankId(rank),
                released: start,
                first_byte: start + Span(turn * 3),
                finished,
                waited_ps: 0,
            });
        }
        let finished = start + Span(10_931_000_000 + u64::from(iteration) * 1_000_000);
        r.rank_iteration(&RankIteration {
            workload: 0,
            iteration,
            rank: RankId(senders),
            released: start,
            first_byte: Time::NEVER,
            finished,
            waited_ps: 10_000_000_000,
        });
        r.queue_depth(start + Span(1_000), 0, 32, 3, 23_800_000);
    }
    let ended = Time(22 * period);
    r.finish(ended);
    let mut out = result(&plan, Mode::Rings, r, measured_from, ended);
    for h in out.hosts.iter_mut().take(32) {
        h.classes[0].transmissions = 20 * 1_024;
        (h.tx_frames, h.tx_bytes) = (20 * 1_024, 20 * 1_024 * 4_158);
        (h.messages_started, h.messages_completed) = (20, 20);
        h.pfc[3] = PfcStats { xoff_rx: 1_460, xon_rx: 1_460, ..PfcStats::default() };
    }
    out.hosts[32].classes[0].arrivals = 655_360;
    (out.hosts[32].rx_frames, out.hosts[32].rx_bytes) = (655_360, 655_360 * 4_158);
    out.hosts[32].payload_bytes = 32 * 20 * (4 << 20);
    let s = &mut out.switches[0];
    s.buffer_bytes_max = 24_500_000;
    s.shared_bytes_max = 23_800_000;
    s.headroom_bytes_max = 30_226;
    s.ingress_bytes_max = 742_000;
    for p in s.ports.iter_mut().take(32) {
        p.pfc[3] = PfcStats { xoff_tx: 1_460, xon_tx: 1_460, ..PfcStats::default() };
    }
    s.ports[32].queues[3] = QueueStats {
        tx_frames: 655_360,
        tx_bytes: 655_360 * 4_158,
        depth_bytes_max: 23_800_000,
        ..QueueStats::default()
    };
    out.conservation =
        Conservation { sent_frames: 655_360, received_frames: 655_360, ..Conservation::default() };
    out.tester.dilation = Some(32.0);
    out.tester.lateness_ps = Some([0, 9_000, 41_000]);
    (plan, out)
}

/// A ring all-reduce of 64 MiB over 8 ranks: 4 iterations after 1 of warm-up, ideal 9.52 ms.
pub fn ring() -> (Plan, RunResult) {
    let (vector, chunk, reduce) = (Bytes(64 << 20), Bytes(1 << 20), Span::ZERO);
    let kind = WorkloadKind::RingAllReduce { vector, chunk, reduce, per_node: 1 };
    let mut plan = plan("ring-8", 8, vec![class("roce", 3, true)], vec![workload("ring", kind, 8)]);
    (plan.warmup, plan.repeats) = (1, 4);
    plan.question = Some("how close to ideal is a ring all-reduce over eight ranks?".into());
    plan.expect = vec![expect("ideal_ratio_max", 1.10)];
    plan.predicted.fan_in_ranks = 1.0;
    plan.predicted.fan_in_physical = 1.0;
    plan.predicted.ideal = vec![Span(9_586_980_864)];
    plan.warnings =
        vec![("ecmp-collision".into(), "2 of 8 flows share an uplink: at best 0.5 of line rate".into())];
    let mut r = Recorder::for_plan(&plan);
    r.set_measure_from(Time(20_000_000_000));
    for iteration in 0..5u32 {
        let start = Time(u64::from(iteration) * 20_000_000_000);
        for rank in 0..8u32 {
            let span =
                9_600_000_000 + u64::from(iteration) * 300_000_000 + if rank == 5 { 7_000_000 } else { 0 };
            r.rank_iteration(&RankIteration {
                workload: 0,
                iteration,
                rank: RankId(rank),
                released: start,
                first_byte: start + Span(1),
                finished: start + Span(span),
                waited_ps: 100_000_000 * u64::from(rank),
            });
        }
    }
    let ended = Time(100_000_000_000);
    r.finish(ended);
    let mut out = result(&plan, Mode::Virtual, r, Time(20_000_000_000), ended);
    for h in &mut out.hosts {
        h.classes[0] = ClassStats { transmissions: 114_688, arrivals: 114_688, ..ClassStats::default() };
    }
    out.conservation =
        Conservation { sent_frames: 917_504, received_frames: 917_504, ..Conservation::default() };
    out.sim = Some(SimStats { events: 5_505_024, link_transmissions: 1_835_008, cpu_s: 0.18, shares: None });
    (plan, out)
}

/// Two open-loop streams of a lossy class into one port, 2:1, a third of the frames dropped by threshold.
pub fn streams() -> (Plan, RunResult) {
    let mut plan = plan("lossy-2to1", 3, vec![class("bulk", 1, false)], Vec::new());
    plan.question = Some("what does a lossy class lose at 2:1?".into());
    plan.expect = vec![expect("drops", 0.0), expect("ce_marked_max", 0.0)];
    let stream = |from: u32| StreamConfig {
        name: format!("s{from}"),
        from: RankId(from),
        to: RankId(2),
        class: ClassIx(0),
        sizes: vec![(1_518, 1)],
        load: Load::L1Share(1.0),
        start: Time::ZERO,
        until: Until::Frames(1_500),
        obey_pfc: true,
        verb: Default::default(),
    };
    (0..2).for_each(|h| plan.hosts[h].streams.push(stream(h as u32)));
    let mut r = Recorder::for_plan(&plan);
    let meta = FrameMeta { len: FrameLen(1_514), flags: flags::DATA, priority: 1, ..FrameMeta::default() };
    for i in 0..2_000u64 {
        // 1,538 bytes on the wire at 100G: 123.04 ns a frame.
        let at = Time(1_000_000 + i * 123_040);
        r.arrival(
            at,
            &FrameMeta { start: Time(at.0 - 700_000), intended: Time(at.0 - 800_000), ..meta },
            ClassIx(0),
        );
    }
    (0..1_000u64).for_each(|i| r.drop(Time(i), 0, 0, &meta, DropReason::Threshold));
    let ended = Time(300_000_000);
    r.finish(ended);
    let mut out = result(&plan, Mode::Virtual, r, Time::ZERO, ended);
    for h in &mut out.hosts[..2] {
        (h.stream_tx, h.tx_frames, h.tx_bytes) = (1_500, 1_500, 1_500 * 1_518);
        h.classes[0].transmissions = 1_500;
    }
    out.hosts[2].classes[0].arrivals = 2_000;
    (out.hosts[2].stream_rx, out.hosts[2].stream_lost) = (2_000, 1_000);
    (out.hosts[2].rx_frames, out.hosts[2].rx_bytes) = (2_000, 2_000 * 1_518);
    out.switches[0].drops = 1_000;
    out.switches[0].ports[2].queues[1] =
        QueueStats { tx_frames: 2_000, drops: 1_000, ..QueueStats::default() };
    out.conservation = Conservation {
        sent_frames: 3_000,
        received_frames: 2_000,
        dropped_frames: 1_000,
        ..Conservation::default()
    };
    out.sim = Some(SimStats { events: 20_000, link_transmissions: 5_000, cpu_s: 0.001, shares: None });
    (plan, out)
}
