//! Open-loop streams and the timeline: exact counts, rates by definition, and pauses that last as long as they say.
#![allow(clippy::unwrap_used)]

mod common;

use common::{conserved, plan_of};
use rankstorm::report::model::RunReport;

/// Two ports of 100G, one stream of rank 0 to rank 1; `%` stands for the keys of the stream.
const STREAM: &str = r#"
name = "stream"
[run]
limit = "1 s"
[[stream]]
name = "s"
from = 0
to = 1
%
[class.roce]
dscp = 3
[switch]
ports = { count = 2, rate = "100G", cable = "5 m" }
"#;

fn stream(keys: &str, more: &str) -> RunReport {
    let (_, r) = conserved(&plan_of(&format!("{}{more}", STREAM.replace('%', keys)), &[]));
    r
}

/// Frames that started in `us` microseconds when each takes `bits` of `gbps`: the first starts at once.
fn frames_in(us: f64, bits: f64, gbps: f64) -> u64 {
    (us * 1e3 * gbps / bits).ceil() as u64
}

#[test]
fn frame_counts_are_exact() {
    for n in [1u64, 999, 50_000] {
        let s = stream(&format!("size = 256\nload = \"37 %\"\nframes = {n}"), "").streams.unwrap();
        assert_eq!((s.frames_tx, s.frames_rx, s.lost), (n, n, 0));
    }
}

#[test]
fn rates_are_what_was_asked_for_in_every_unit() {
    // Per frame: 20 bytes of preamble and gap count for the share of the wire, and not for Gb/s.
    for (size, load, bits, gbps) in [
        (1024u32, "100 %", 1044.0 * 8.0, 100.0),
        (1024, "25 %", 1044.0 * 8.0, 25.0),
        (64, "50 %", 84.0 * 8.0, 50.0),
        (512, "20 Gb/s", 512.0 * 8.0, 20.0),
        (512, "2 Mpps", 1.0, 0.002),
    ] {
        let keys = format!("size = {size}\nload = \"{load}\"\nduration = \"500 us\"");
        let s = stream(&keys, "").streams.unwrap();
        let expected = frames_in(500.0, bits, gbps);
        assert!(s.frames_tx.abs_diff(expected) <= 1, "{size} B, {load}: {} against {expected}", s.frames_tx);
        assert_eq!(s.frames_tx, s.frames_rx);
    }
}

#[test]
fn each_stream_has_a_line_with_its_latency() {
    let dir = tempfile::tempdir().unwrap();
    let two = "[[stream]]\nname = \"other\"\nfrom = 1\nto = 0\nsize = 4096\nload = \"10 %\"\nframes = 500\n";
    let keys = "size = 1024\nload = \"10 %\"\nframes = 2000";
    std::fs::write(
        dir.path().join("s.toml"),
        STREAM.replace('%', keys).replace("[class", &format!("{two}[class")),
    )
    .unwrap();
    let r = common::run_into(&dir.path().join("out"), &dir.path().join("s.toml"), &["--on", "virtual"], 0);
    assert_eq!(r.streams.unwrap().with_latency, 2);
    let csv = std::fs::read_to_string(dir.path().join("out/streams.csv")).unwrap();
    let lines: Vec<Vec<&str>> = csv.lines().skip(1).map(|l| l.split(',').collect()).collect();
    let network = r.latency_ns.iter().find(|l| l.from == "wire_out").unwrap().percentiles;
    let ends: Vec<f64> = lines.iter().flat_map(|l| [l[6], l[12]]).map(|ns| ns.parse().unwrap()).collect();
    assert_eq!(
        lines.iter().map(|l| &l[..6]).collect::<Vec<_>>(),
        [["0", "\"s\"", "0", "1", "roce", "2000"], ["1", "\"other\"", "1", "0", "roce", "500"],]
    );
    // Nobody waits: all frames of a stream take the same time, the longer ones longer.
    assert_eq!((ends[0], ends[2]), (ends[1], ends[3]));
    assert_eq!((network.min, network.max), (Some(ends[0]), Some(ends[2])));
    // Two digits; 99.9 % of 500 frames leaves nothing beyond.
    let p99: f64 = lines[0][10].parse().unwrap();
    assert!((p99 / ends[0] - 1.0).abs() < 0.01 && lines[1][11].is_empty(), "{csv}");
}

#[test]
fn a_mix_has_its_shares() {
    // The mix of test equipment: 7 x 64, 4 x 570, 1 x 1518.
    let r = stream("imix = \"simple\"\nload = \"60 %\"\nframes = 12000", "");
    let bytes = 1_000 * (7 * 64 + 4 * 570 + 1518);
    assert_eq!((r.ports[0].tx_frames, r.ports[0].tx_bytes), (12_000, bytes));
    assert_eq!((r.ports[1].rx_frames, r.ports[1].rx_bytes), (12_000, bytes));
}

/// The receiving end of the timeline: port 1 holds priority 3 of the switch, which backs up into port 0.
const HELD: &str = r#"
[[at]]
time = "100 us"
pause = { port = 1, priority = 3, hold = "300 us" }
"#;

#[test]
fn a_pause_holds_the_switch_and_the_switch_holds_who_obeys() {
    let keys = "size = 1024\nload = \"100 %\"\nduration = \"1 ms\"";
    let free = stream(keys, "").streams.unwrap().frames_tx;
    let r = stream(keys, HELD);
    assert_eq!((r.switches[0].drops, r.streams.as_ref().unwrap().lost), (Some(0), 0));
    let pfc = r.ports[0].pfc.iter().find(|p| p.priority == 3).unwrap();
    assert!(pfc.xoff_rx >= 1, "the switch passes the pressure on");
    // 3.7 MB arrive in 300 us at 100G; the threshold of one group, alpha S / (1 + alpha) of some 30 MB, comes first.
    // Held frames go late and none is left out.
    assert_eq!(r.streams.unwrap().frames_tx, free);
    let hold = r.ports[1].pfc.iter().find(|p| p.priority == 3).unwrap();
    assert!(hold.xoff_tx == 1 && hold.xon_tx == 1, "{hold:?}");
}

#[test]
fn a_release_ends_a_pause_before_its_time() {
    let keys = "size = 1024\nload = \"100 %\"\nduration = \"1 ms\"";
    let release = "[[at]]\ntime = \"150 us\"\nrelease = { port = 1, priority = 3 }\n";
    let depth = |more: &str| stream(keys, more).switches[0].queues[0].depth_bytes.max.unwrap();
    let (held, released) = (depth(HELD), depth(&format!("{HELD}{release}")));
    // 50 us of 100G in frames of 1024 in 1044 bytes, each in five cells of 254: half a frame more or less on its way.
    let queued = 50_000.0 * 12.5 / 1044.0;
    assert!(
        (released / 1270.0 - queued).abs() < 5.0 || (released / 1024.0 - queued).abs() < 5.0,
        "{released}"
    );
    assert!(held > 4.0 * released, "{held} {released}");
}

#[test]
fn bursts_waits_and_snapshots_come_when_they_are_due() {
    let keys = "size = 64\nload = \"1 %\"\nframes = 10";
    let steps = r#"
[[at]]
time = "0 ns"
pause = { port = 1, priority = 3, hold = "1 ms" }
[[at]]
time = "10 us"
burst = { from = 0, to = 1, frames = 100, size = 1024 }
[[at]]
wait = "50 us"
[[at]]
time = "40 us"
snapshot = "full"
[[at]]
time = "45 us"
release = { port = 1, priority = 3 }
[[at]]
time = "200 us"
snapshot = "empty"
"#;
    let r = stream(keys, steps);
    let s = r.streams.as_ref().unwrap();
    assert_eq!((s.streams, s.frames_tx, s.frames_rx), (2, 110, 110));
    let at: Vec<(&str, f64)> = r.snapshots.iter().map(|s| (s.name.as_str(), s.at_ns)).collect();
    // The wait moves everything behind it by its length.
    assert_eq!(at, [("full", 90_000.0), ("empty", 250_000.0)]);
    let queued: u64 = r.snapshots[0].switches[0].queues.iter().map(|q| q.depth_bytes).sum();
    // The burst and what the slow stream had sent by then, less what was in the port when the pause came.
    assert!((100 * 1024..=100 * 5 * 254 + 11 * 254).contains(&queued), "{queued}");
    assert!(r.snapshots[1].switches[0].queues.is_empty());
}
