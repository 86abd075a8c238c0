//! Imports of real files, and of broken ones.
#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests count as code outside tests

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use rankstorm::transport::config::{RateControl, RcConfig, Verb};
use rankstorm::units::{ClassIx, PortId, RankId, Rate, Span};
use rankstorm::wire::capture::CaptureReader;
use rankstorm::wire::dissect::{Body, dissect};
use rankstorm::wire::fast::IpKey;
use rankstorm::wire::messages::{MessageCounter, MessageTotals};
use rankstorm::workload::config::{Skew, WorkloadConfig, WorkloadKind};
use rankstorm::workload::generate;
use rankstorm::workload::ideal::{Framing, ideal};
use rankstorm::workload::import::{Format, ImportError, Imported, Replay, flows, load};
use rankstorm::workload::schedule::{OpKind, Schedule};

/// A file of the reference data, or `None` (said aloud) where the folder is absent.
fn data(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(path);
    if !path.exists() {
        eprintln!("skipped: {} is not on this machine", path.display());
        return None;
    }
    Some(path)
}

fn import(path: &str) -> Option<Imported> {
    Some(load(&data(path)?, None, Replay::default()).unwrap())
}

fn replay(schedule: Schedule) -> WorkloadConfig {
    let cfg = WorkloadConfig {
        name: "trace".into(),
        ranks: (0..schedule.ranks.len() as u32).map(RankId).collect(),
        kind: WorkloadKind::Replay(Arc::new(schedule)),
        class: ClassIx(0),
        verb: Verb::Write,
        qps_per_pair: 1,
        rate_control: RateControl::None,
        rc: RcConfig::default(),
        skew: Skew::Fixed(Span::ZERO),
    };
    generate::check(&cfg).unwrap();
    cfg
}

/// Least completion with every rank on its own port of 100 Gb/s at MTU 1024; proves that the replay ends.
fn ideal_100g(schedule: Schedule) -> Span {
    let framing = Framing { mtu: 1024, verb: Verb::Write, v6: false, vlan: false };
    ideal(&replay(schedule), framing, |r| (PortId(r.0), Rate::gbps(100)))
}

fn temp(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

#[test]
fn an_hpcc_ring_with_dependencies_is_480_flows_of_4_mb() {
    let Some(got) = import("sim-refs/hpcc-ns3/S3-ring16-1to1-dcqcn/flow.txt") else { return };
    assert_eq!(got.format, Format::Hpcc);
    assert!(got.schedule.origin.contains("dep.txt"));
    assert_eq!(got.schedule.warnings, Vec::<String>::new());
    let summary = got.schedule.summary();
    assert_eq!((summary.ranks, summary.messages, summary.ops), (16, 480, 960));
    assert_eq!(summary.bytes_total, 480 * 4_000_000);
    assert_eq!(summary.bytes_sent_per_rank, vec![120_000_000; 16]);
    // 30 steps in a chain, each 4 MB: 3906 full frames of 1106 B and one of 256 B, RETH once, at 100G.
    let step = Rate::gbps(100).time_for(3_906 * 1_106 + 256 + 82 + 16);
    let all = Rate::gbps(100).time_for(30 * (3_906 * 1_106 + 256 + 82 + 16));
    let got = ideal_100g(got.schedule);
    assert!(got >= all && got.0 <= 30 * step.0, "{got} for 30 steps of {step}");
}

#[test]
fn an_hpcc_folder_is_read_like_its_flow_file() {
    let Some(dir) = data("sim-refs/hpcc-ns3/S2-incast32-pfconly") else { return };
    let got = load(&dir, None, Replay::default()).unwrap();
    let summary = got.schedule.summary();
    assert_eq!((summary.ranks, summary.messages, summary.bytes_total), (33, 32, 32_000_000));
    assert_eq!(summary.bytes_sent_per_rank[32], 0);
}

#[test]
fn lines_beyond_the_count_are_ignored_and_named() {
    let Some(got) = import("traces/ns3-flow/hpcc_flow.txt") else { return };
    let summary = got.schedule.summary();
    assert_eq!((summary.ranks, summary.messages, summary.bytes_total), (3, 2, 400_000_000));
    assert!(got.schedule.warnings[0].contains("beyond the count of 2"), "{:?}", got.schedule.warnings);
    assert!(got.schedule.warnings[1].contains("nodes 1, 2, 3 became ranks 0 to 2"));
}

#[test]
fn start_times_of_flows_are_kept_to_the_picosecond() {
    let (_dir, path) = temp("flow.txt", "3\n0 1 3 100 1000 2\n1 0 3 100 50 2.000000001\n0 1 3 100 7 2.5\n");
    let got = load(&path, None, Replay::default()).unwrap();
    let calcs: Vec<OpKind> = got
        .schedule
        .ranks
        .iter()
        .flatten()
        .map(|op| op.kind)
        .filter(|k| matches!(k, OpKind::Calc { .. }))
        .collect();
    assert_eq!(calcs, [OpKind::Calc { span: Span::from_ms(500) }, OpKind::Calc { span: Span::from_ns(1) }]);
    let end = ideal_100g(got.schedule);
    assert_eq!(end, Span::from_ms(500) + Rate::gbps(100).time_for(8 + 58 + 16 + 24));
}

#[test]
fn csv_columns_come_in_any_order() {
    let (_dir, path) =
        temp("load.csv", "start_ns,Src,dst,bytes,comment\n0,0,2,10,a\n1500,1,2,3000000000,b\n");
    let got = load(&path, None, Replay::default()).unwrap();
    assert_eq!(got.format, Format::Flows);
    let summary = got.schedule.summary();
    // 3 GB do not fit one RDMA message of 2 GiB: two messages.
    assert_eq!((summary.messages, summary.bytes_total), (3, 3_000_000_010));
    assert_eq!(summary.bytes_sent_per_rank, [10, 3_000_000_000, 0]);
}

#[test]
fn many_prerequisites_are_gathered() {
    let flows: String = (1..8).map(|n| format!("{n} 0 3 100 1000 0\n")).collect();
    let (dir, path) = temp("flow.txt", &format!("8\n0 9 3 100 5 0\n{flows}"));
    std::fs::write(dir.path().join("dep.txt"), (1..8).map(|n| format!("0 {n}\n")).collect::<String>())
        .unwrap();
    let got = load(&path, None, Replay::default()).unwrap();
    assert_eq!(got.schedule.summary().messages, 8);
    let (all, one) = (Rate::gbps(100).time_for(7 * 1098), Rate::gbps(100).time_for(1098));
    assert_eq!(ideal_100g(got.schedule), all.max(one + Rate::gbps(100).time_for(8 + 58 + 16 + 24)));
}

#[test]
fn errors_name_the_line_and_the_mend() {
    let error = |name: &str, text: &str| {
        let (_dir, path) = temp(name, text);
        load(&path, None, Replay::default()).unwrap_err().to_string()
    };
    let cases = [
        ("flow.txt", "2\n0 1 3 100 10 2\n0 1 3 100 10 1\n", "line 3: start 1 s is before that of line 2"),
        ("flow.txt", "2\n0 1 3 100 10 2\n", "line 2: the file ends after 1 of 2 flows"),
        ("flow.txt", "1\n0 0 3 100 10 2\n", "line 2: a flow from node 0 to itself"),
        ("flow.txt", "1\n0 1 3 100 -5 2\n", "line 2: bytes must be a whole number"),
        ("flow.txt", "1\n0 1 3 100 5 -2\n", "line 2: start \"-2\" is no time"),
        ("flow.txt", "1\n0 1 3 100 5 1e300\n", "is no time"),
        ("flow.txt", "999999999999\n0 1 3 100 5 2\n", "line 1: 999999999999 flows are more than"),
        ("flow.txt", "1\n0 1 3 100 18446744073709551615 2\n", "messages of 2 GiB"),
        ("flow.txt", "0\n", "no flows"),
        ("a.csv", "src,dst,bytes,start_ns\n0,1,5\n", "line 2: 3 columns are fewer"),
        ("a.csv", "src,dst,bytes\n", "line 1: no column \"start_ns\""),
        ("a.bin", "\u{1}\u{2}nothing", "name it with --format: pcap"),
    ];
    for (name, text, expected) in cases {
        let got = error(name, text);
        assert!(got.contains(expected), "{text:?}: {got}");
    }
}

#[test]
fn prerequisites_that_cannot_be_met_are_refused() {
    let error = |deps: &str| {
        let (dir, path) = temp("flow.txt", "3\n0 1 3 100 10 2\n1 2 3 100 10 2\n2 3 3 100 10 2\n");
        std::fs::write(dir.path().join("dep.txt"), deps).unwrap();
        load(&path, None, Replay::default()).map_err(|e| e.to_string())
    };
    assert!(error("1 0\n2 1\n").is_ok());
    assert!(
        error("2 0\n")
            .unwrap_err()
            .contains("line 1: flow 2 starts at node 2, which flow 0 (0 -> 1) neither")
    );
    assert!(error("1 9\n").unwrap_err().contains("flows are numbered 0 to 2"));
    assert!(error("1 1\n").unwrap_err().contains("flow 1 waits for itself"));
}

#[test]
fn formats_to_come_are_refused_in_one_line() {
    let goal = Format::named("goal").unwrap_err();
    assert!(matches!(goal, ImportError::NotYet { .. }));
    assert_eq!(
        goal.to_string(),
        "format \"goal\" is not supported yet: this version reads pcap, flows and hpcc"
    );
    assert!(Format::named("gaol").unwrap_err().to_string().starts_with("no format is called \"gaol\""));
    assert_eq!(Format::named("auto").unwrap(), None);
}

/// What `dissect` counts in the same file, by its own code.
fn counted(path: &Path) -> (MessageTotals, u64) {
    let mut reader = CaptureReader::open(path).unwrap();
    let (mut counter, mut last_start_ns, mut first) = (MessageCounter::new(), 0, None);
    while let Some(frame) = reader.read().unwrap() {
        let dissected = dissect(frame.bytes, frame.wire_len).unwrap();
        let Body::Roce(roce) = &dissected.body else { continue };
        if roce.icrc_ok == Some(false) {
            continue;
        }
        let since = frame.ts_ns - *first.get_or_insert(frame.ts_ns);
        if roce.opcode().is_some_and(|o| o.has_payload() && o.starts_message()) {
            last_start_ns = since;
        }
        let (src, dst) = (IpKey::from(roce.net.src()), IpKey::from(roce.net.dst()));
        counter.on_packet(src, dst, &roce.bth, &roce.ext, roce.payload_len);
    }
    (counter.finish(), last_start_ns)
}

#[test]
fn captures_hold_the_messages_they_were_made_with() {
    // (file, messages, bytes sent by each rank, part of the warnings); rank 0 is the requester.
    let cases: [(&str, u64, [u64; 2], &str); 20] = [
        ("rc_write_pipelined", 16, [65_536, 0], ""),
        ("rc_write_5000_mtu1024", 2, [10_000, 0], ""),
        ("rc_write_small_pads", 1, [1, 0], ""),
        ("rc_write_len1027", 1, [1_027, 0], ""),
        ("rc_write_len0", 1, [0, 0], ""),
        ("rc_write_20000_mtu4096", 1, [20_000, 0], ""),
        ("rc_write_psn_wrap", 1, [5_000, 0], ""),
        ("rc_send_3000", 2, [6_000, 0], ""),
        ("rc_read_5000", 2, [0, 10_000], ""),
        ("rc_write_drop_middle", 1, [5_000, 0], "3 retransmitted"),
        ("rc_write_drop_middle", 1, [5_000, 0], "1 NAKs"),
        ("rc_write_drop_middle.at_responder", 1, [5_000, 0], "2 retransmitted"),
        ("rc_write_drop_last", 1, [5_000, 0], "5 retransmitted"),
        ("rc_write_drop_ack.at_responder", 1, [5_000, 0], "5 retransmitted"),
        ("rc_write_dup.at_responder", 1, [3_000, 0], "3 retransmitted or duplicate"),
        ("rc_write_bad_icrc.at_responder", 1, [3_000, 0], "1 frames with a wrong ICRC"),
        ("rc_write_retry_exceeded", 1, [1_000, 0], "3 retransmitted"),
        ("ud_send", 4, [1_024, 0], "4 UD datagrams"),
        ("ib_write_bw", 200, [200 * 8_192, 0], ""), // 1800 frames: 8 of 1024 B and an ACK each
        ("ib_send_lat", 200, [100 * 64, 100 * 64], ""),
    ];
    for (name, messages, sent, warning) in cases {
        let Some(got) = import(&format!("rxe-pcaps/{name}.pcap")) else { return };
        let summary = got.schedule.summary();
        assert_eq!((summary.messages, &summary.bytes_sent_per_rank[..]), (messages, &sent[..]), "{name}");
        let warnings = got.schedule.warnings;
        assert_eq!(warnings.is_empty(), warning.is_empty(), "{name}: {warnings:?}");
        assert!(
            warning.is_empty() || warnings.iter().any(|w| w.starts_with(warning)),
            "{name}: {warnings:?}"
        );
    }
}

#[test]
fn every_capture_runs_and_adds_up_to_what_dissect_counts() {
    let Some(dir) = data("rxe-pcaps") else { return };
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "pcap"));
    files.extend(data("traces/pcap-rocev2/scapy_uts_connectx4lx_cnp_rocev1.pcap"));
    for file in files {
        let (expected, _) = counted(&file);
        for mode in [Replay::Timed, Replay::Dependent] {
            match load(&file, None, mode) {
                Ok(got) => {
                    let summary = got.schedule.summary();
                    let totals = (summary.messages, summary.bytes_total);
                    assert_eq!(totals, (expected.messages, expected.message_bytes), "{}", file.display());
                    assert!(ideal_100g(got.schedule) > Span::ZERO);
                }
                Err(error) => {
                    assert_eq!(expected.messages, 0, "{error}");
                    let text = error.to_string();
                    assert!(text.contains("no RoCEv2") || text.contains("no complete message"), "{text}");
                }
            }
        }
    }
}

#[test]
fn a_timed_replay_keeps_the_spacing_of_the_capture() {
    for name in ["rc_write_pipelined", "ib_write_bw", "rc_send_3000"] {
        let Some(file) = data(&format!("rxe-pcaps/{name}.pcap")) else { return };
        let (_, last_start_ns) = counted(&file);
        let schedule = load(&file, None, Replay::Timed).unwrap().schedule;
        // On links that take no time to speak of, the last message ends when it starts.
        let framing = Framing { mtu: 1024, verb: Verb::Write, v6: false, vlan: false };
        let end = ideal(&replay(schedule), framing, |r| (PortId(r.0), Rate { bits_per_s: 1 << 62 }));
        let late = end.0 - Span::from_ns(last_start_ns).0;
        assert!(late <= 200, "{name}: ends {end}, last start {last_start_ns} ns");
    }
}

#[test]
fn a_dependent_replay_answers_what_it_received() {
    // perftest's ping-pong: every message but the first few follows one from the other side.
    let Some(got) = import("rxe-pcaps/ib_send_lat.pcap") else { return };
    let mut caused = 0;
    for ops in &got.schedule.ranks {
        for op in ops.iter().filter(|op| matches!(op.kind, OpKind::Send { .. })) {
            let direct = op.after.iter().map(|on| &ops[*on as usize]);
            let through = direct.clone().flat_map(|op| op.after.iter().map(|on| &ops[*on as usize]));
            caused += u32::from(direct.chain(through).any(|op| matches!(op.kind, OpKind::Recv { .. })));
        }
    }
    assert!(caused >= 190, "{caused} of 200");
}

#[test]
fn captures_that_cut_frames_or_break_off_still_count() {
    let Some(file) = data("rxe-pcaps/rc_write_pipelined.pcap") else { return };
    let (_, full) = (counted(&file), load(&file, None, Replay::Timed).unwrap().schedule);
    let mut reader = CaptureReader::open(&file).unwrap();
    // The same frames cut to 128 bytes, by hand: CaptureWriter writes whole frames only.
    let mut cut: Vec<u8> = Vec::new();
    for word in [0xa1b2_3c4du32, 0x0004_0002, 0, 0, 128, 1] {
        cut.extend(word.to_le_bytes());
    }
    while let Some(frame) = reader.read().unwrap() {
        let bytes = &frame.bytes[..frame.bytes.len().min(128)];
        let words = [frame.ts_ns / 1_000_000_000, frame.ts_ns % 1_000_000_000];
        for word in [words[0] as u32, words[1] as u32, bytes.len() as u32, frame.wire_len as u32] {
            cut.extend(word.to_le_bytes());
        }
        cut.extend(bytes);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.pcap");
    std::fs::write(&path, &cut).unwrap();
    assert_eq!(load(&path, None, Replay::Timed).unwrap().schedule.ranks, full.ranks);
    // Broken off inside a record: the messages before it remain, and the reader is told.
    std::fs::write(&path, &cut[..cut.len() / 2]).unwrap();
    let half = load(&path, None, Replay::Timed).unwrap().schedule;
    assert!((1..16).contains(&half.summary().messages), "{:?}", half.summary());
    assert!(half.warnings.iter().any(|w| w.contains("before the damage")), "{:?}", half.warnings);
}

proptest! {
    #[test]
    fn flow_lists_never_panic(text in "[0-9 .,e\\-\n#a-z]{0,300}", deps in "[0-9 \n]{0,60}") {
        let _ = flows::read_csv("x", text.as_bytes());
        let _ = flows::read_csv("x", format!("src,dst,bytes,start_ns\n{text}").as_bytes());
        let _ = flows::read_hpcc("x", text.as_bytes(), Some(("d".into(), deps.as_bytes())));
        let good = "3\n0 1 3 100 10 2\n1 2 3 100 10 2\n2 0 3 100 10 2\n";
        if let Ok(schedule) = flows::read_hpcc("x", good.as_bytes(), Some(("d".into(), deps.as_bytes()))) {
            prop_assert_eq!(schedule.check(), Ok(()));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = flows::read_csv("x", &bytes[..]);
        let _ = flows::read_hpcc("x", &bytes[..], None::<(String, &[u8])>);
        let _ = Format::detect(Path::new("x.dat"), &bytes);
    }

    #[test]
    fn damaged_captures_never_panic(hits in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..20)) {
        let Some(file) = data("rxe-pcaps/rc_write_drop_middle.pcap") else { return Ok(()) };
        let mut bytes = std::fs::read(file).unwrap();
        for (at, value) in hits {
            let at = at as usize % bytes.len();
            bytes[at] = value;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pcap");
        std::fs::write(&path, &bytes).unwrap();
        for mode in [Replay::Timed, Replay::Dependent] {
            if let Ok(got) = load(&path, Some(Format::Pcap), mode) {
                prop_assert_eq!(got.schedule.check(), Ok(()));
            }
        }
    }
}
