//! Cost of the host per frame: data out, data in with its acknowledgement noted, ACK out and in; from 64 to
//! 65,536 queue pairs on one port, all sending.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rankstorm::cli::bench::hosts::{LINE, Pair, Spent};
use rankstorm::transport::config::RateControl;
use rankstorm::transport::dcqcn;
use rankstorm::units::Rate;

/// A name and the part of the time it stands for.
type Part = (&'static str, fn(&Spent) -> f64);

const PARTS: [Part; 3] =
    [("poll_tx data", |s| s.poll_tx), ("on_frame data", |s| s.on_frame), ("acks out and in", |s| s.acks)];

fn host(c: &mut Criterion) {
    let dcqcn = || dcqcn::named("hpcc", LINE).map_or(RateControl::None, RateControl::Dcqcn);
    let per_qp = |n: u64| RateControl::Fixed(Rate { bits_per_s: LINE.bits_per_s / n });
    for qps in [64u32, 4_096, 65_536] {
        let controls = [("none", RateControl::None), ("dcqcn", dcqcn()), ("paced", per_qp(qps.into()))];
        for (name, control) in controls {
            let mut pair = Pair::new(qps, &control);
            let mut group = c.benchmark_group(format!("host/{name}"));
            group.throughput(Throughput::Elements(1)).sample_size(10);
            group.measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(200));
            for (part, of) in PARTS {
                group.bench_function(BenchmarkId::new(part, qps), |b| {
                    b.iter_custom(|n| {
                        let spent = pair.run(n.max(128));
                        Duration::from_secs_f64(of(&spent) * n as f64 / spent.frames.max(1) as f64)
                    });
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, host);
criterion_main!(benches);
