//! `bench`: what the hot paths cost here, against peers that do the same.
//!
//! One line per figure: name, ours, the peer and its figure, their ratio, and min/median/max of the rounds.

use std::hint::black_box;
use std::io::Write;
use std::time::Instant;

use anyhow::bail;

use crate::frame::{FrameMeta, flags};
use crate::measure::record::Record;
use crate::measure::recorder::{Recorder, RecorderConfig, SwitchShape};
use crate::units::{ClassIx, FrameLen, Time};
use crate::wire::icrc::ConstPayload;

const ROUNDS: usize = 9;
const CALLS: u64 = 200_000;

/// Nanoseconds per call: (min, median, max) of the rounds.
struct Cost([f64; 3]);

/// Times `call`, which is given the number of the call.
fn time(mut call: impl FnMut(u64)) -> Cost {
    let mut rounds = [0.0; ROUNDS];
    for r in &mut rounds {
        let start = Instant::now();
        (0..CALLS).for_each(&mut call);
        *r = start.elapsed().as_nanos() as f64 / CALLS as f64;
    }
    rounds.sort_by(f64::total_cmp);
    Cost([rounds[0], rounds[ROUNDS / 2], rounds[ROUNDS - 1]])
}

/// Our cost, and that of a peer by name.
type Figure = (Cost, Option<(&'static str, Cost)>);

struct Bench {
    name: &'static str,
    run: fn() -> Figure,
}

const BENCHES: [Bench; 3] = [
    Bench { name: "icrc-payload-4096", run: icrc },
    Bench { name: "record-arrival", run: arrival },
    Bench { name: "record-queue-depth", run: queue_depth },
];

/// Runs the benchmarks whose name contains `name`.
pub fn bench(name: Option<&str>, out: &mut dyn Write) -> anyhow::Result<u8> {
    let chosen: Vec<&Bench> = BENCHES.iter().filter(|b| name.is_none_or(|n| b.name.contains(n))).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = BENCHES.iter().map(|b| b.name).collect();
        bail!("no benchmark is called {:?}: there are {}", name.unwrap_or_default(), names.join(", "));
    }
    for b in chosen {
        let (ours, peer) = (b.run)();
        let Cost([min, median, max]) = ours;
        let against = match peer {
            Some((peer, Cost([_, theirs, _]))) => {
                format!("{peer} {theirs:.1} ns  {:.2}x", theirs / median)
            }
            None => "no peer  -".into(),
        };
        writeln!(
            out,
            "{:<20} {median:.1} ns  {against}  ({min:.1}/{median:.1}/{max:.1} of {ROUNDS})",
            b.name
        )?;
    }
    Ok(0)
}

/// ICRC of a 4 KiB frame of constant payload after its head, against the CRC of all its bytes.
fn icrc() -> Figure {
    let payload = ConstPayload::new(4_096, crate::frame::PAYLOAD_BYTE, 0);
    let ours = time(|i| {
        black_box(payload.finish(black_box(i as u32)));
    });
    let bytes = [crate::frame::PAYLOAD_BYTE; 4_096];
    let theirs = time(|i| {
        let mut crc = crc32fast::Hasher::new_with_initial(black_box(i as u32));
        crc.update(black_box(&bytes));
        black_box(crc.finalize());
    });
    (ours, Some(("crc32fast", theirs)))
}

fn recorder() -> Recorder {
    Recorder::new(&RecorderConfig {
        ports: 33,
        classes: 1,
        switches: vec![SwitchShape { ports: 33, priorities: 8, buffer_bytes: 32 << 20 }],
        ..RecorderConfig::default()
    })
}

/// One data frame into both latency histograms.
fn arrival() -> Figure {
    let mut r = recorder();
    let meta = FrameMeta { len: FrameLen(4_154), flags: flags::DATA, ..FrameMeta::default() };
    let cost = time(|i| r.arrival(Time(black_box(i * 334_240)), &meta, ClassIx(0)));
    black_box(r.classes()[0].frames);
    (cost, None)
}

/// One frame into the depth histogram of its queue.
fn queue_depth() -> Figure {
    let mut r = recorder();
    let cost = time(|i| r.queue_depth(Time(i), 0, 32, 3, black_box(i * 4_158 % (24 << 20))));
    black_box(r.queues().len());
    (cost, None)
}
