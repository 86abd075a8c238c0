//! Cost of the embedded switch: one frame in and out, memory warm.

#![allow(clippy::expect_used, missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rankstorm::cli::bench::switches::{Crossing, PORTS};

fn on_frame_and_depart(c: &mut Criterion) {
    let mut group = c.benchmark_group("switch");
    group.throughput(Throughput::Elements(u64::from(PORTS)));
    for (waiting, first_hop) in [(0, false), (16, false), (16, true)] {
        let mut crossing = Crossing::new(waiting, first_hop).expect("a switch with room");
        let hop = if first_hop { "first" } else { "later" };
        group.bench_function(format!("64 frames, {hop} hop, {waiting} waiting per port"), |b| {
            b.iter(|| crossing.round().expect("every frame is queued"));
        });
    }
    group.finish();
}

criterion_group!(benches, on_frame_and_depart);
criterion_main!(benches);
