//! Cost of the host per frame: data out, data in with its acknowledgement noted, ACK out and in; from 64 to
//! 65,536 queue pairs on one port, all sending.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rankstorm::frame::boxed::{BoxFrame, BoxPool};
use rankstorm::frame::{FramePool, TxBatch};
use rankstorm::host::Host;
use rankstorm::host::config::{HostConfig, RankAddr};
use rankstorm::measure::record::NoRecord;
use rankstorm::transport::config::{ClassConfig, Ecn, QPN_FIRST, QpConfig, RateControl, RcConfig, Verb};
use rankstorm::transport::dcqcn;
use rankstorm::units::{ClassIx, PortId, RankId, Rate, Span, Time};
use rankstorm::workload::config::{Skew, WorkloadConfig, WorkloadKind};
use rankstorm::workload::schedule::{Op, OpKind, Schedule};

const LINE: Rate = Rate::gbps(100);
/// Wire time of 32 full frames.
const BURST_TIME: Span = Span(32 * 334_240);

fn config(host: u32, qps: u32, rate_control: RateControl) -> HostConfig {
    let bytes = 1u64 << 31;
    let send = |tag| Op::new(OpKind::Send { peer: RankId(1), bytes, tag });
    let recv = |tag| Op::new(OpKind::Recv { peer: RankId(0), bytes, tag });
    let ranks = vec![(0..qps).map(send).collect(), (0..qps).map(recv).collect()];
    let workload = WorkloadConfig {
        name: "w".into(),
        kind: WorkloadKind::Replay(Arc::new(Schedule { ranks, ..Schedule::default() })),
        ranks: Arc::from([RankId(0), RankId(1)]),
        class: ClassIx(0),
        verb: Verb::Write,
        qps_per_pair: qps.min(u32::from(u16::MAX)) as u16,
        rate_control,
        rc: RcConfig::default(),
        skew: Skew::Fixed(Span::ZERO),
    };
    let class = ClassConfig {
        name: "roce".into(),
        dscp: 3,
        priority: 3,
        lossless: true,
        ecn: Ecn::Ect0,
        ack_dscp: 3,
        ack_priority: 3,
        cnp_dscp: 48,
        cnp_priority: 6,
        mtu: 4096,
        vlan: None,
    };
    let ip = |h: u32| IpAddr::from([198, 18, 0, h as u8 + 1]);
    let qp = |i: u32| QpConfig {
        workload: 0,
        local_rank: RankId(host),
        peer_rank: RankId(1 - host),
        local_ip: ip(host),
        peer_ip: ip(1 - host),
        peer_mac: [2, 0, 0, 0, 0, 1 - host as u8],
        local_qpn: QPN_FIRST + i,
        peer_qpn: QPN_FIRST + i,
        sport: 0xc000 + (i & 0x3fff) as u16,
        psn_first: 0,
        peer_psn_first: 0,
        class: ClassIx(0),
    };
    HostConfig {
        port: PortId(host),
        name: "p".into(),
        host: "h".into(),
        mac: [2, 0, 0, 0, 0, host as u8],
        rate: LINE,
        ranks: vec![RankAddr { rank: RankId(host), port: PortId(host), ip: ip(host) }],
        classes: Arc::from([class]),
        workloads: Arc::from([workload]),
        qps: (0..qps).map(qp).collect(),
        local_delivery: true,
        streams: Vec::new(),
        stream_to: Vec::new(),
        actions: Vec::new(),
        pfc_response: Span::ZERO,
        seed: 1,
    }
}

/// Time spent in each part, over `frames` data frames.
fn run(hosts: &mut [Host; 2], now: &mut Time, frames: u64) -> [Duration; 3] {
    let mut pool = BoxPool::new(256, 256);
    let (mut data, mut acks) = (TxBatch::<BoxFrame>::new(), TxBatch::<BoxFrame>::new());
    let mut spent = [Duration::ZERO; 3];
    let mut sent = 0;
    while sent < frames {
        *now += BURST_TIME;
        let t0 = Instant::now();
        sent += hosts[0].poll_tx(*now, 32, &mut pool, &mut data, &mut NoRecord) as u64;
        let t1 = Instant::now();
        for f in data.data.drain(..) {
            hosts[1].on_frame(*now, &f, &mut NoRecord);
            pool.give(f);
        }
        let t2 = Instant::now();
        hosts[1].poll_tx(*now, 32, &mut pool, &mut acks, &mut NoRecord);
        for f in acks.control.drain(..) {
            hosts[0].on_frame(*now, &f, &mut NoRecord);
            pool.give(f);
        }
        let t3 = Instant::now();
        for (sum, d) in spent.iter_mut().zip([t1 - t0, t2 - t1, t3 - t2]) {
            *sum += d;
        }
    }
    spent
}

fn host(c: &mut Criterion) {
    let dcqcn = || dcqcn::named("hpcc", LINE).map_or(RateControl::None, RateControl::Dcqcn);
    let per_qp = |n: u64| RateControl::Fixed(Rate { bits_per_s: LINE.bits_per_s / n });
    for qps in [64u32, 4_096, 65_536] {
        let controls = [("none", RateControl::None), ("dcqcn", dcqcn()), ("paced", per_qp(qps.into()))];
        for (name, control) in controls {
            let mut hosts = [0, 1].map(|h| Host::new(config(h, qps, control.clone())));
            hosts.iter_mut().for_each(|h| h.start_iteration(0, Time::ZERO));
            let mut now = Time::ZERO;
            run(&mut hosts, &mut now, 4 * u64::from(qps));
            let mut group = c.benchmark_group(format!("host/{name}"));
            group.throughput(Throughput::Elements(1)).sample_size(10);
            group.measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(200));
            for (i, part) in ["poll_tx data", "on_frame data", "acks out and in"].into_iter().enumerate() {
                group.bench_function(BenchmarkId::new(part, qps), |b| {
                    b.iter_custom(|n| {
                        run(&mut hosts, &mut now, n.max(32))[i].mul_f64(n as f64 / n.max(32) as f64)
                    });
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, host);
criterion_main!(benches);
