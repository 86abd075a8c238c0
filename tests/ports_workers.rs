//! Runs on real ports with several workers: one start, stamps that cross between them, and what the report says of it.
#![cfg(all(feature = "dpdk", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use common::{rankstorm, run_into, text};
use rankstorm::report::model::RunReport;

const RUN: &str = "on = \"ports\"\ngap = \"1ms\"\nstall_max = \"5s\"\n";

fn run(run: &str, devices: &[&str], rate: &str, traffic: &str, code: i32) -> RunReport {
    let dir = tempfile::tempdir().unwrap();
    let one = |d: &&str| format!("[[port]]\ndevice = \"{d}\"\nrate = \"{rate}\"\n");
    let ports: String = devices.iter().map(one).collect();
    std::fs::write(dir.path().join("p.toml"), format!("[run]\n{RUN}{run}{ports}{traffic}")).unwrap();
    run_into(&dir.path().join("out"), &dir.path().join("p.toml"), &[], code)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn two_workers_share_a_cable_and_lose_no_stamp() {
    if cores() < 2 {
        eprintln!("SKIPPED: two workers need two cores");
        return;
    }
    let traffic = "[[workload]]\nname = \"in\"\nkind = \"incast\"\nsenders = 1\nmessage = \"1 MiB\"\n";
    let r = run(
        "limit = \"20s\"\nworkers = 2\nwarmup = 1\nrepeats = 5\n",
        &["loop:x", "loop:x"],
        "10G",
        traffic,
        0,
    );
    let names: Vec<&str> = r.tester.workers.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["port 0", "port 1"]);
    let held: Vec<Option<usize>> = r.tester.workers.iter().map(|w| w.core).collect();
    assert!(held[0].is_some() && held[0] != held[1], "a core each: {held:?}");
    assert!(r.tester.trustworthy, "{:?}", r.tester.why);
    let [a, b] = r.tester.ports.as_slice() else { panic!("{:?}", r.tester.ports) };
    // 256 frames of 4096 B an iteration, six of them; a question and an answer about neighbours each way. Whoever is ready
    // first asks again every 200 ms, and each question has its answer.
    assert!(a.answered >= 1 && b.answered >= 1, "{a:?} {b:?}");
    let sent = 6 * 256 + a.answered + b.answered;
    assert_eq!((a.tx_frames, b.rx_frames, r.flows.retransmitted), (sent, sent, 0), "{a:?} {b:?}");
    assert_eq!((b.tx_frames, a.rx_frames), (a.rx_frames, b.tx_frames));
    assert_eq!(r.classes.iter().map(|c| (c.arrivals, c.lost)).collect::<Vec<_>>(), [(5 * 256, 0)]);
    // Every frame has brought its stamps from the other worker.
    assert_eq!((a.unstamped, b.unstamped), (0, 0));
    let latency =
        |from, to| r.latency_ns.iter().find(|l| (l.from.as_str(), l.to.as_str()) == (from, to)).unwrap();
    let network = latency("wire_out", "wire_in");
    assert_eq!(network.percentiles.n, 5 * 256);
    assert!(network.percentiles.min.is_some_and(|ns| ns > 0.0), "{network:?}");
    // The last packet of each of the five messages asks for an acknowledgement, and others do on the way.
    let there_and_back = latency("wire_out", "ack_in").percentiles;
    assert!(there_and_back.n >= 5 && there_and_back.min > network.percentiles.min, "{there_and_back:?}");
    assert!(r.tester.start_spread_ns.is_some_and(|ns| ns >= 0.0), "{:?}", r.tester.start_spread_ns);
    let control = r.tester.control.unwrap();
    assert_eq!(control == "shares a core with a worker", cores() == 2, "{control}");
}

#[test]
fn a_stream_keeps_its_rate_and_says_where_it_was_late() {
    let traffic = "[[stream]]\nfrom = 0\nto = 1\nsize = 1086\nload = \"1%\"\nduration = \"300 ms\"\n";
    let r = run("limit = \"20s\"\nworkers = 1\n", &["loop:y", "loop:y"], "10G", traffic, 0);
    assert!(r.tester.trustworthy, "{:?}", r.tester.why);
    // 1 % of 10 Gbit/s in frames of 1,106 B on the wire, for 0.3 s.
    let asked = 0.3 * 0.01 * 10e9 / (1_106.0 * 8.0);
    let sent = r.tester.ports[0].tx_frames as f64 - 2.0;
    assert!((sent - asked).abs() <= 3.0, "{sent} of {asked}");
    assert_eq!(r.tester.ports[0].rate_error, Some(0.0), "all of them left before the end");
    assert_eq!(r.tester.rate_error, Some(0.0));
    assert_eq!(r.tester.ports[1].rate_error, None, "nothing was asked of the other port");
    assert_eq!((r.tester.ports[1].unstamped, r.streams.unwrap().with_latency), (0, 1));
    assert_eq!(r.tester.pacing_point.as_deref(), Some("enqueue"));
    let late = r.tester.workers[0].lateness_ns.as_ref().unwrap();
    // No frame can be handed over before its time, and a loop of some ten nanoseconds cannot hit it exactly.
    assert!(late.p50 > 0.0 && late.p50 <= late.p99 && late.p99 <= late.max, "{late:?}");
    let clock = &r.tester.clock;
    let (ppm, doubt) = (clock.tsc_drift_ppm.unwrap(), clock.tsc_drift_doubt_ppm.unwrap());
    assert!(ppm.abs() < doubt + 100.0, "{ppm} ppm, known to {doubt}");
}

#[test]
fn frames_too_short_for_stamps_count_and_have_no_latency() {
    let traffic = "[[stream]]\nfrom = 0\nto = 1\nsize = 80\nload = \"1%\"\nduration = \"50 ms\"\n";
    let r = run("limit = \"20s\"\nworkers = 1\n", &["loop:z", "loop:z"], "1G", traffic, 0);
    assert!(r.tester.trustworthy, "{:?}", r.tester.why);
    let received = r.streams.unwrap().frames_rx;
    assert!(received > 0);
    assert_eq!(r.tester.ports[1].unstamped, received);
    assert_eq!(r.classes[0].arrivals, received);
    assert!(
        r.latency_ns.iter().all(|l| l.percentiles.n == 0 && l.percentiles.min.is_none()),
        "{:?}",
        r.latency_ns
    );
    let said = format!("latency of {received} frames without stamps");
    assert!(r.not_measured.contains(&said), "{:?}", r.not_measured);
}

#[test]
fn more_than_a_core_can_send_is_said_as_a_rate_error() {
    let traffic: String = (0..8)
        .map(|i| format!("[[stream]]\nname = \"s{i}\"\nfrom = 0\nto = 1\nsize = 64\nload = \"12%\"\nduration = \"200 ms\"\n"))
        .collect();
    // 1.1 billion frames a second.
    let r = run(
        "limit = \"250ms\"\nworkers = 1\n",
        &["net_null0,no-rx=1", "net_null1,no-rx=1"],
        "800G",
        &traffic,
        0,
    );
    let error = r.tester.ports[0].rate_error.unwrap();
    assert!(error < -0.1 && error > -1.0, "{error}");
}

#[test]
fn streams_that_the_worker_cannot_keep_up_with_are_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let port = "[[port]]\ndevice = \"loop:z\"\nrate = \"400G\"\n";
    let stream = |load: &str| {
        format!("[[stream]]\nfrom = 0\nto = 1\nsize = 64\nload = \"{load}\"\nduration = \"1 s\"\n")
    };
    let profile = |streams: &str| {
        let run = "on = \"ports\"\ngap = \"1ms\"\nstall_max = \"300 ms\"\nlimit = \"2 s\"\nworkers = 1\n";
        std::fs::write(dir.path().join("p.toml"), format!("[run]\n{run}{port}{port}{streams}")).unwrap();
    };
    // Six hundred million frames a second are more than any core makes.
    profile(&stream("100%"));
    let r = run_into(&dir.path().join("a"), &dir.path().join("p.toml"), &[], 3);
    let why = r
        .tester
        .why
        .iter()
        .find(|w| w.contains("after their time"))
        .unwrap_or_else(|| panic!("{:?}", r.tester.why));
    assert!(why.contains("streams of ports 0-1 left") && why.contains("300 ms allowed"), "{why}");
    // More than the link carries cannot leave in time, whoever the tester is.
    profile(&stream("60%").repeat(2));
    let r = run_into(&dir.path().join("b"), &dir.path().join("p.toml"), &[], 0);
    assert!(!r.tester.why.iter().any(|w| w.contains("after their time")), "{:?}", r.tester.why);
}

#[test]
fn a_stream_that_stays_inside_a_port_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let port = "[[port]]\ndevice = \"loop:s\"\nrate = \"1G\"\nranks_per_port = 2\n";
    let stream = "[[stream]]\nfrom = 0\nto = 1\nsize = 64\nload = \"1%\"\nduration = \"10 ms\"\n";
    let path = dir.path().join("p.toml");
    std::fs::write(&path, format!("[run]\n{RUN}limit = \"5 s\"\n{port}{port}{stream}")).unwrap();
    let out = dir.path().join("out");
    let o = rankstorm(&["run".as_ref(), path.as_os_str(), "--out".as_ref(), out.as_os_str()]);
    let said = text(&o.stderr);
    assert_eq!(o.status.code(), Some(2), "{said}");
    assert!(said.contains("nobody answers for 198.18.0.2; it is a rank of this very port"), "{said}");
}
