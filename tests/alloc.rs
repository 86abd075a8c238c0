//! The packet path does not allocate after the start, shown by an allocator that counts.
//!
//! What remains has nothing to do with frames: the mark at the end of the warm-up copies the counters of every port
//! once, so these runs have no warm-up, and a table that turns out too small doubles, which happens a few times in a
//! run of any length ([`DOUBLINGS`]).
//!
//! A binary of its own with one test: the counter belongs to the whole process.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code)] // an allocator cannot be written without

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{plan, plan_of};
use rankstorm::plan::{Mode, Plan};
use rankstorm::run::{self, Options};

/// Doublings of tables (calendar, messages under way) that may come after the first look.
const DOUBLINGS: u64 = 8;

struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations between the first and the last look of the engine at its progress (every 131,072 events), and the
/// frames put on links in that time.
fn between_looks(plan: &Plan) -> (u64, u64) {
    let looks = Arc::new([const { AtomicU64::new(u64::MAX) }; 2]);
    let seen = looks.clone();
    let mut options = Options::new(Mode::Virtual);
    options.progress = Some(Box::new(move |_| {
        let now = CALLS.load(Ordering::Relaxed);
        let _ = seen[0].compare_exchange(u64::MAX, now, Ordering::Relaxed, Ordering::Relaxed);
        seen[1].store(now, Ordering::Relaxed);
    }));
    let result = run::execute(plan, options).unwrap();
    assert!(result.complete, "{:?}", result.missing);
    let [first, last] = [0, 1].map(|i| looks[i].load(Ordering::Relaxed));
    assert!(first != u64::MAX, "too short a run to look at");
    (last - first, result.sim.unwrap().link_transmissions)
}

const LOSSY: &str = r#"
name = "lossy"
[run]
repeats = 20
limit = "5 s"
[[workload]]
kind = "incast"
senders = 8
message = "4 MiB"
[class.roce]
dscp = 26
lossless = false
mtu = 1024
[switch]
buffer = "1 MiB"
ports = { count = 9, rate = "100G", cable = "5 m" }
"#;

#[test]
fn the_packet_path_does_not_allocate_after_the_start() {
    let ring = ["workload.vector=32 MB", "run.warmup=0", "run.repeats=4"];
    let stream = ["stream.frames=400000"];
    let runs = [
        ("incast with PFC", plan("incast-32to1", &["run.warmup=0", "run.repeats=8"])),
        ("incast with DCQCN", plan("incast-32to1-dcqcn", &["run.repeats=10"])),
        ("ring on a leaf-spine", plan("ring-allreduce-16-4to1-interleaved", &ring)),
        ("stream", plan("stream-1to1", &stream)),
        ("loss and go-back-N", plan_of(LOSSY, &[])),
    ];
    for (name, plan) in runs {
        let (allocations, transmissions) = between_looks(&plan);
        assert!(transmissions > 500_000, "{name}: {transmissions} transmissions show little");
        assert!(
            allocations <= DOUBLINGS,
            "{name}: {allocations} allocations over {transmissions} transmissions"
        );
    }
}
