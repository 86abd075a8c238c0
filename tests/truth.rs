//! Whole runs in virtual time against closed forms: what must come out is worked out here from the header lengths, the
//! rates and the definition of the threshold, never taken from the program.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::buffer::{Buffer, sonic_files};
use common::{assert_near_bound, assert_whole, conserved, plan, plan_of, virtually, wire_ns, write_on_wire};
use rankstorm::plan::Plan;
use rankstorm::profile::{self, Overrides};
use rankstorm::report::model::RunReport;
use rankstorm::units::RankId;
use rankstorm::workload::schedule::{Op, OpKind, Schedule};

const MIB: u64 = 1 << 20;

/// Tester ports that were paused at least once.
fn paused(r: &RunReport) -> usize {
    r.ports.iter().filter(|p| p.pfc.iter().any(|c| c.xoff_rx > 0)).count()
}

fn mean_ns(r: &RunReport) -> f64 {
    r.workload[0].completion_ns.percentiles.mean.unwrap()
}

fn ratio(r: &RunReport) -> f64 {
    r.workload[0].ideal_ratio.unwrap()
}

fn warned(p: &Plan, code: &str) -> bool {
    p.warnings.iter().any(|(c, _)| c == code)
}

#[test]
fn incast_32_to_1_is_lossless_pauses_all_and_ends_at_wire_time() {
    let (result, r) = conserved(&plan("incast-32to1", &["run.warmup=1", "run.repeats=2"]));
    let (frames, bytes) = write_on_wire(4 * MIB, 4096);
    assert_near_bound("incast 32:1", mean_ns(&r), wire_ns(32 * bytes, 100.0), 0.01);
    assert_eq!(result.conservation.dropped_frames, 0);
    assert_eq!(paused(&r), 32);
    assert_eq!((r.flows.completed, r.flows.failed, r.flows.retransmitted), (64, 0, 0));
    assert_eq!((r.flows.payload_bytes, r.classes[0].transmissions), (64 * 4 * MIB, 64 * frames));
    assert_eq!((r.fan_in.ranks, r.fan_in.physical), (32.0, 32.0));
    // 32 groups share S = 32 MiB less 33 headrooms with alpha = 1/8: each reaches alpha S / (1 + 32 alpha), and the
    // one that is first may be ahead of the others by what arrives while they catch up.
    let shared = 32.0 * MIB as f64 - 33.0 * 117_348.0;
    let xoff = shared / 8.0 / (1.0 + 32.0 / 8.0);
    let reached = r.switches[0].ingress_bytes_max.unwrap() as f64;
    assert!((xoff..1.05 * xoff).contains(&reached), "{reached} against {xoff}");
    assert!(r.switches[0].headroom_bytes_max.unwrap() <= 117_348);
}

#[test]
fn dcqcn_with_the_hpcc_set_carries_1_mb_without_a_pause() {
    let (_, r) = conserved(&plan("incast-32to1-dcqcn", &["run.repeats=1"]));
    assert_eq!((paused(&r), r.switches[0].drops), (0, Some(0)));
    assert!(r.flows.cnp_rx > 0 && r.switches[0].ce_marked.unwrap() > 0);
    // The slow set is too late: the buffer reaches the threshold before the rates are down.
    let (_, slow) = conserved(&plan("incast-32to1-dcqcn-hpcc-paper", &["run.repeats=1"]));
    assert_eq!(slow.switches[0].drops_lossless, Some(0));
    assert!(paused(&slow) > 0);
}

const REFERENCE_INCAST: &str = r#"
name = "reference-incast"
run = { warmup = 0, repeats = 1, limit = "1 s" }
[[workload]]
kind = "replay"
file = "incast"
verb = "send"
rate_control = "none"
ack_every = 1
[class.roce]
dscp = 3
mtu = 1024
[switch]
buffer = "32 MiB"
alpha = "1/8"
wred = "off"
pipeline = "0 ns"
ports = { count = 33, rate = "100G", cable = "1 us", fec = "none" }
"#;

/// The incast that the HPCC simulator runs in 2,660,091 ns (tests/hpcc.rs), by Ethernet's arithmetic: 32 x 1,000 packets of
/// 1,000 B in frames of 1,082 B with FCS, preamble and gap, 86.56 ns each and 2,769.92 us together; then the last one's
/// way, and that of its ACK. The receiver's link may run dry when the last senders wait for their XON.
#[test]
fn the_incast_of_the_reference_takes_longer_by_what_ethernet_adds() {
    let sends = |r: u32| match r {
        32 => (0..32_000).map(|n| OpKind::Recv { peer: RankId(n % 32), bytes: 1_000, tag: n / 32 }).collect(),
        _ => (0..1_000).map(|tag| OpKind::Send { peer: RankId(32), bytes: 1_000, tag }).collect::<Vec<_>>(),
    };
    let ranks = (0..33).map(|r| sends(r).into_iter().map(Op::new).collect()).collect();
    let schedule = Schedule { ranks, origin: "incast".into(), ..Schedule::default() };
    let schedules = vec![("incast".to_owned(), Arc::new(schedule))];
    let overrides = Overrides { schedules, ..Overrides::default() };
    let (_, r) = conserved(&profile::from_str("reference-incast", REFERENCE_INCAST, &overrides).unwrap());
    let (frame, ack, link) = (wire_ns(1_082, 100.0), wire_ns(86, 100.0), 1_000.0);
    assert_eq!((32_000.0 * frame).round(), 2_769_920.0);
    let bound = frame + link + 32_000.0 * frame + link + 2.0 * (ack + link);
    assert_near_bound("reference incast", mean_ns(&r), bound, 0.005);
    assert_eq!((paused(&r), r.switches[0].drops), (32, Some(0)));
}

const RING: &str = r#"
name = "ring"
[run]
repeats = 2
limit = "5 s"
[[workload]]
kind = "ring-all-reduce"
ranks = 8
vector = "64 MiB"
chunk = "1 MiB"
[class.roce]
dscp = 3
mtu = 4096
[switch]
ports = { count = 8, rate = "100G", cable = "5 m" }
"#;

#[test]
fn a_ring_on_one_switch_takes_the_closed_form() {
    for n in [2u64, 8] {
        let set = [format!("workload.ranks={n}"), format!("switch.ports.count={n}")];
        let (_, r) = conserved(&plan_of(RING, &[&set[0], &set[1]]));
        // 2 (n-1)/n x S of payload per rank, 4096 of 4178 wire bytes being payload.
        let goodput = 100.0 * 4096.0 / 4178.0;
        let bound = wire_ns(2 * (n - 1) * 64 * MIB / n, goodput);
        assert_near_bound(&format!("ring of {n}"), mean_ns(&r), bound, 0.02);
        assert_eq!((paused(&r), r.switches[0].drops), (0, Some(0)));
        // Every part goes round twice less one hop each: n ranks x 2 (n-1) parts of S/n.
        assert_eq!(r.flows.payload_bytes, 2 * 2 * (n - 1) * 64 * MIB);
    }
}

#[test]
fn a_non_blocking_leaf_spine_costs_nothing_with_pinned_or_sprayed_paths() {
    for balance in ["pinned", "spray"] {
        let set = ["run.warmup=0", "run.repeats=1", &format!("switch.balance={balance}")];
        let (_, r) = conserved(&plan("ring-allreduce-16-1to1", &set));
        let bound = wire_ns(2 * 15 * 64_000_000 / 16, 100.0 * 4096.0 / 4178.0);
        assert_near_bound(balance, mean_ns(&r), bound, 0.02);
    }
}

#[test]
fn oversubscription_costs_nothing_packed_and_four_times_interleaved() {
    let set = ["run.warmup=0", "run.repeats=1"];
    let (_, packed) = conserved(&plan("ring-allreduce-16-4to1-packed", &set));
    assert!((1.0..1.005).contains(&ratio(&packed)), "{}", ratio(&packed));
    let (_, spread) = conserved(&plan("ring-allreduce-16-4to1-interleaved", &set));
    assert!(ratio(&spread) >= 4.0, "{}", ratio(&spread));
    // Pinned paths do not collide: 8 x 100G over 2 x 100G is four times the wire time, and little more.
    let set = ["run.warmup=0", "run.repeats=1", "switch.balance=pinned"];
    let (_, pinned) = conserved(&plan("ring-allreduce-16-4to1-interleaved", &set));
    assert!((4.0..4.2).contains(&ratio(&pinned)), "{}", ratio(&pinned));
}

#[test]
fn a_sender_that_ignores_pfc_fills_threshold_and_headroom_and_then_loses() {
    let (result, r) = conserved(&plan("headroom-probe", &[]));
    // One group of S = 4 MiB less two headrooms fills to alpha S / (1 + alpha), then its headroom. A frame of 1024
    // bytes takes five cells of 254. One more frame is in the port before the pause acts on the egress.
    let shared = (4 * MIB - 2 * 117_348) as f64;
    let held = ((shared / 9.0 + 117_348.0) / (5.0 * 254.0)).floor() as u64;
    let got = r.streams.as_ref().unwrap().frames_rx;
    assert!(got.abs_diff(held) <= 2, "{got} frames survived, {held} fit");
    let headroom = r.switches[0].headroom_bytes_max.unwrap();
    assert!((117_348 - 5 * 254..=117_348).contains(&headroom), "{headroom}");
    assert_eq!(r.switches[0].drops_lossless, Some(result.conservation.dropped_frames));
    assert!(result.conservation.dropped_frames > 10_000);
    let s = r.streams.unwrap();
    assert_eq!(s.lost, s.frames_tx - s.frames_rx, "what never arrived is lost, also at the end of a stream");

    let (_, obeys) = conserved(&plan("headroom-probe", &["stream.obey_pfc=true"]));
    assert_eq!(obeys.switches[0].drops, Some(0));
    assert_eq!(obeys.streams.unwrap().lost, 0);
}

const LOSSY: &str = r#"
name = "lossy"
[run]
repeats = 2
limit = "5 s"
[[workload]]
kind = "incast"
senders = 8
message = "1 MiB"
[class.roce]
dscp = 26
lossless = false
mtu = 1024
[switch]
buffer = "1 MiB"
ports = { count = 9, rate = "100G", cable = "5 m" }
"#;

#[test]
fn a_lossy_class_drops_and_go_back_n_brings_every_byte() {
    let (result, r) = conserved(&plan_of(LOSSY, &[]));
    assert!(result.conservation.dropped_frames > 0);
    assert_eq!(r.switches[0].drops_lossless, Some(0));
    assert_eq!(paused(&r), 0, "a lossy priority is never paused");
    let f = &r.flows;
    assert_eq!((f.completed, f.failed, f.payload_bytes), (16, 0, 16 * MIB));
    assert!(f.nak_rx > 0 && f.out_of_order > 0);
    // Whatever was dropped had to be sent again, and go-back-N sends more than that.
    assert!(f.retransmitted >= r.classes[0].lost, "{} < {}", f.retransmitted, r.classes[0].lost);
    assert_eq!(r.classes[0].transmissions, 16 * 1024 + f.retransmitted);
    assert_eq!(r.classes[0].transmissions, r.classes[0].arrivals + r.classes[0].lost);
}

#[test]
fn one_seed_one_outcome_and_another_seed_another() {
    let ecmp = ["workload.vector=8 MB", "run.repeats=1", "run.warmup=0"];
    let wred = ["workload.message=128 kB", "run.repeats=1"];
    for (name, set) in [("ring-allreduce-16-4to1-interleaved", &ecmp[..]), ("incast-32to1-dcqcn", &wred)] {
        let hash = |seed: &str| {
            let (result, _) = conserved(&plan(name, &[set, &[seed]].concat()));
            result.outcome_hash()
        };
        let first = hash("run.seed=1");
        assert_eq!(first, hash("run.seed=1"), "{name}");
        assert_ne!(first, hash("run.seed=2"), "{name}");
    }
}

#[test]
fn four_ports_make_30_to_1_with_a_slow_receiver() {
    let p = plan("incast-3to1-slow-receiver", &["run.warmup=0", "run.repeats=2"]);
    assert!(!warned(&p, "incast_without_pressure"));
    let (_, r) = conserved(&p);
    assert_eq!((r.fan_in.ranks, r.fan_in.physical, r.fan_in.sender_ports), (30.0, 30.0, 3));
    let bound = wire_ns(30 * write_on_wire(MIB, 4096).1, 10.0);
    assert_near_bound("30:1", mean_ns(&r), bound, 0.01);
    assert_eq!((paused(&r), r.switches[0].drops), (3, Some(0)));
}

const ONE_PORT: &str = r#"
name = "one-port"
[run]
repeats = 2
limit = "5 s"
[[workload]]
kind = "incast"
senders = 32
message = "256 KiB"
[class.roce]
dscp = 3
mtu = 4096
[switch]
[[port]]
role = "send"
rate = "100G"
ranks_per_port = 32
[[port]]
role = "receive"
rate = "100G"
"#;

#[test]
fn ranks_behind_one_port_press_no_harder_than_one() {
    let many = plan_of(ONE_PORT, &[]);
    assert!(warned(&many, "incast_without_pressure"), "{:?}", many.warnings);
    let (_, many) = conserved(&many);
    assert!(many.warnings.iter().any(|w| w.code == "incast_without_pressure"));
    assert_eq!((many.fan_in.ranks, many.fan_in.physical), (32.0, 1.0));
    let one = ["workload.senders=1", "port.0.ranks_per_port=1", "workload.message=8 MiB"];
    let (_, one) = conserved(&plan_of(ONE_PORT, &one));
    let deepest =
        |r: &RunReport| r.switches[0].queues.iter().map(|q| q.depth_bytes.max.unwrap()).fold(0.0, f64::max);
    assert_eq!((paused(&many), paused(&one)), (0, 0));
    // Two frames at most: the one that leaves and the one that joins.
    assert!(deepest(&one) <= 2.0 * 17.0 * 254.0, "{}", deepest(&one));
    assert_eq!(deepest(&many), deepest(&one));
    assert_near_bound(
        "32 ranks, one port",
        mean_ns(&many),
        wire_ns(32 * write_on_wire(MIB / 4, 4096).1, 100.0),
        0.01,
    );
}

const NEIGHBOURS: &str = r#"
name = "neighbours"
[run]
repeats = 3
limit = "5 s"
[[workload]]
kind = "incast"
senders = 3
message = "1 MiB"
placement = "packed"
[class.roce]
dscp = 3
mtu = 4096
[switch]
ports = { count = 2, rate = "100G", cable = "5 m", ranks_per_port = 2 }
"#;

#[test]
fn ranks_behind_one_port_talk_inside_it_or_through_the_switch_when_asked() {
    // Ranks 0 and 1 are behind port 0, 2 and 3 behind port 1; rank 3 receives.
    let (inside, r) = conserved(&plan_of(NEIGHBOURS, &[]));
    assert_eq!((r.flows.local_messages, r.flows.completed, r.flows.payload_bytes), (3, 6, 6 * MIB));
    assert_eq!(inside.hosts[1].classes[0].transmissions, 0, "port 1 sends no data frame");
    let (hairpin, r) = conserved(&plan_of(NEIGHBOURS, &["run.hairpin=true"]));
    assert_eq!((r.flows.local_messages, r.flows.completed, r.flows.payload_bytes), (0, 9, 9 * MIB));
    assert_eq!(hairpin.hosts[1].classes[0].transmissions, 3 * 256);
    assert_ne!(inside.outcome_hash(), hairpin.outcome_hash());
}

#[test]
fn skewed_starts_show_in_the_start_spread() {
    let spread = |start: &str| {
        let set = ["run.warmup=0", "run.repeats=2", "workload.message=64 KiB", start];
        let (_, r) = conserved(&plan("incast-32to1", &set));
        r.workload[0].start_spread_ns
    };
    assert_eq!(spread("workload.start.skew=0 ns").max, Some(0.0));
    assert_eq!(spread("workload.start.skew=1 us").max, Some(31_000.0), "rank number times a microsecond");
    let uniform = spread(r#"workload.start={ uniform = "5 us" }"#);
    // 32 draws from [0, 5] us: the spread misses neither end by 2 us but with probability 3e-6.
    assert!((3_000.0..=5_000.0).contains(&uniform.max.unwrap()), "{uniform:?}");
}

#[test]
fn a_limit_that_comes_too_early_leaves_a_result_that_says_so() {
    let mut p = plan("incast-32to1", &["run.warmup=0", "run.repeats=2"]);
    p.limit = rankstorm::units::Span::from_us(12_000);
    let (result, r) = virtually(&p);
    assert!(!r.complete && r.missing[0].contains("iteration 2 of 2"), "{:?}", r.missing);
    assert_eq!(r.workload[0].iterations, 1);
    assert!(result.conservation.holds(), "{:?}", result.conservation);
    let (whole, _) = virtually(&plan("stream-1to1", &["stream.frames=10"]));
    assert_whole(&whole);
}

/// A switch of 8 ports from a platform's rendered buffers and QoS, as the plan of a profile has it; `keys` beside them.
fn as_configured(buffers: &Path, qos: &Path, lookup: &Path, keys: &str) -> Buffer {
    let text = format!(
        "[[stream]]\nfrom = 0\nto = 1\nframes = 1\n[class.roce]\ndscp = 3\n[switch]\nconfig = [{buffers:?}, {qos:?}]\n\
         pg_profile_lookup = {lookup:?}\n{keys}\n"
    );
    Buffer::of(plan_of(&text, &[]).fabric.switches[0].clone())
}

/// XOFF of a lone group of one-cell packets, published in sonic-mgmt, against runs on the configuration that SONiC renders:
/// pool, slices, alpha and reserve all come out of the import. Their tests allow 2 to 4 packets; ours 2.
#[test]
fn an_imported_configuration_pauses_where_the_real_switch_does() {
    let Some(dir) = sonic_files() else { return };
    let arista = dir.join("qos/qos-arista7260-t0.json");
    let table = dir.join("pg_profile_lookup/common_profiles_th2_7260_BALANCED.ini");
    let keys =
        "cell = 208\nslices = \"crosspoints\"\nports = { count = 8, rate = \"100G\", cable = \"40 m\" }";
    // Tomahawk 2: 20034 (qos_params.th2.yaml, topo-any). Tomahawk 1, of two makers with one pool size: 6542 for 40G, 50G
    // and 100G (qos_params.th.yaml); alpha and reserve are those of the 7260's table, for want of one of theirs.
    for (buffers, published) in [
        ("buffers/buffer-arista7260-t0.json", 20_034),
        ("buffers/buffers-dell6100.json", 6_542),
        ("buffers/buffer-arista7060-t0.json", 6_542),
    ] {
        let mut b = as_configured(&dir.join(buffers), &arista, &table, keys);
        let xoff = b.fill(0, 3);
        eprintln!("{buffers}: XOFF at {xoff}, published {published}");
        assert!(xoff.abs_diff(published) <= 2, "{buffers}: {xoff}, published {published}");
    }

    // Tomahawk 5, O128: 108469, its first loss 112944 (qos_params.th5.yaml, topo-lt2-o128), with the line of headrooms of
    // the files that go with it (sonic-buildimage 4a379d2d9, .../Arista-7060X6-64PE-B-O128/pg_profile_lookup.ini).
    let table = std::env::temp_dir().join(format!("rankstorm-o128-{}.ini", std::process::id()));
    std::fs::write(&table, "400000 500m 8636 0 1136396 0 3556\n400000 5m 8636 0 1136396 0 3556\n").unwrap();
    let buffers = dir.join("buffers/buffer-frh-b-o128.json");
    let keys = "cell = 254\nports = { count = 8, rate = \"400G\", cable = \"5 m\" }";
    let mut b = as_configured(&buffers, &dir.join("qos/qos-arista7060x6.json"), &table, keys);
    std::fs::remove_file(&table).unwrap();
    let xoff = b.fill(0, 3);
    let lost = xoff + b.overflow(0, 3) + 1;
    eprintln!("Tomahawk 5: XOFF at {xoff}, first loss {lost}; published 108469, 112944");
    assert!(xoff.abs_diff(108_469) <= 2 && lost.abs_diff(112_944) <= 2, "{xoff}, {lost}");
}

/// Three senders at a receiver's port, looked at every 2 us: snapshots.csv has a line for everything that holds something,
/// the threshold is alpha of what is free at that moment, and queue and groups hold the same bytes.
#[test]
fn a_series_of_snapshots_is_a_table_to_plot() {
    let text = "[run]\nwarmup = 0\nrepeats = 1\n[[workload]]\nkind = \"incast\"\nsenders = 3\nmessage = \"1 MiB\"\n\
        [class.roce]\ndscp = 3\nmtu = 4096\n[switch]\nalpha = \"1/8\"\nbuffer = \"16 MB\"\nwred = \"off\"\n\
        ports = { count = 4, rate = \"100G\", cable = \"5 m\" }\n\
        [[at]]\ntime = \"0 ns\"\nsnapshot = \"series\"\nevery = \"2 us\"\ncount = 100\n";
    let (result, r) = conserved(&plan_of(text, &[]));
    let (alpha, shared) = (8, r.switches[0].limits.as_ref().unwrap().shared_bytes);
    let s = |n: usize| (&r.snapshots[n], &r.snapshots[n].switches[0]);
    assert_eq!((r.snapshots.len(), s(99).0.at_ns), (100, 198_000.0));
    let (mut lines, mut deepest) = (1, 0);
    for n in 0..100 {
        let (_, switch) = s(n);
        lines += 1 + switch.queues.len() + switch.groups.len();
        let held: u64 = switch.groups.iter().map(|g| g.used_bytes + g.headroom_bytes).sum();
        assert_eq!(held, switch.shared_bytes + switch.headroom_bytes, "nothing is reserved");
        for g in &switch.groups {
            let limit = (shared - switch.shared_bytes) / alpha;
            assert!(limit.abs_diff(g.limit_bytes) <= 254, "{g:?}, {limit}");
        }
        deepest = deepest.max(switch.groups.len());
    }
    assert_eq!(deepest, 3, "one group for each sender");
    let dir = tempfile::tempdir().unwrap();
    rankstorm::report::files::write(dir.path(), &r, result.recorder.rows(), "").unwrap();
    let table = std::fs::read_to_string(dir.path().join("snapshots.csv")).unwrap();
    assert_eq!(table.lines().count(), lines);
    let refused = |change: &str| {
        let text = text.replace("every = \"2 us\"\n", change);
        profile::from_str("t.toml", &text, &Overrides::default()).unwrap_err().to_string()
    };
    assert!(refused("").contains("give every (above 0 ns) and count together"));
    assert!(refused("every = \"0 ns\"\n").contains("give every (above 0 ns) and count together"));
}
