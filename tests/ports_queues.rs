//! Ports with several queues: ranks divided among them, a worker each, one wire, and pauses that concern all.
#![cfg(all(feature = "dpdk", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::path::Path;

use common::lab::in_lab;
use common::{rankstorm, run_into, text};
use rankstorm::report::model::RunReport;

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One `[[port]]` per device, all with so many ranks and queues.
fn ports(devices: &[&str], rate: &str, ranks: u32, queues: u32) -> String {
    let one = |d: &&str| {
        format!(
            "[[port]]\ndevice = \"{d}\"\nrate = \"{rate}\"\nranks_per_port = {ranks}\nqueues = {queues}\n"
        )
    };
    devices.iter().map(one).collect()
}

/// `traffic` is tables of a profile, or what w.csv has below its first line.
fn profile(dir: &Path, run: &str, ports: &str, traffic: &str) -> std::path::PathBuf {
    let traffic = match traffic.starts_with('[') {
        true => traffic.to_owned(),
        false => {
            std::fs::write(dir.join("w.csv"), format!("start_ns,src,dst,bytes\n{traffic}")).unwrap();
            REPLAY.to_owned()
        }
    };
    let path = dir.join("p.toml");
    let text = format!(
        "[run]\non = \"ports\"\nlimit = \"20s\"\ngap = \"1ms\"\nstall_max = \"5s\"\n{run}{ports}{traffic}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn run(run: &str, ports: &str, traffic: &str) -> RunReport {
    let dir = tempfile::tempdir().unwrap();
    run_into(&dir.path().join("out"), &profile(dir.path(), run, ports, traffic), &[], 0)
}

/// What a run is refused with before its first frame.
fn refusal(run: &str, ports: &str, traffic: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = profile(dir.path(), run, ports, traffic);
    let out = dir.path().join("out");
    let o = rankstorm(&["run".as_ref(), path.as_os_str(), "--out".as_ref(), out.as_os_str()]);
    assert_eq!(o.status.code(), Some(2), "{}", text(&o.stderr));
    text(&o.stderr)
}

fn stream(from: u32, to: u32, load: &str) -> String {
    format!("[[stream]]\nfrom = {from}\nto = {to}\nsize = 1086\nload = \"{load}\"\nduration = \"100 ms\"\n")
}

/// A replay of w.csv. A busy machine takes its time to answer: nothing is sent again for it.
const REPLAY: &str =
    "[[workload]]\nname = \"w\"\nkind = \"replay\"\nfile = \"w.csv\"\nack_timeout = \"4 s\"\n";

#[test]
fn two_queues_send_over_one_wire_and_the_port_is_their_sum() {
    let streams = stream(0, 4, "20%") + &stream(1, 5, "20%");
    let devices = ["net_null0,no-rx=1", "net_null1,no-rx=1"];
    let r = run("workers = 2\n", &ports(&devices, "1G", 2, 2), &streams.replace("4", "2").replace("5", "3"));
    assert!(r.tester.trustworthy, "{:?}", r.tester.why);
    let p = &r.tester.ports[0];
    assert_eq!((p.queues, p.steering.as_deref(), p.misdirected), (2, None, 0));
    // 20 % of 1 Gbit/s in frames of 1,106 B on the wire, for 0.1 s, twice.
    let asked = 2.0 * 0.1 * 0.2 * 1e9 / (1_106.0 * 8.0);
    assert!((p.tx_frames as f64 - asked).abs() <= 4.0, "{} of {asked}", p.tx_frames);
    assert_eq!(p.device_tx_frames, Some(p.tx_frames), "the device has sent what both queues say");
    assert_eq!(p.rate_error, Some(0.0));
    let names: Vec<&str> = r.tester.workers.iter().map(|w| w.name.as_str()).collect();
    if cores() > 1 {
        assert_eq!(names, ["port 0 queue 0, port 1 queue 0", "port 0 queue 1, port 1 queue 1"]);
        assert!(r.tester.workers.iter().all(|w| w.frames * 2 == p.tx_frames), "{:?}", r.tester.workers);
    }
}

#[test]
fn the_queues_of_a_port_share_its_rate() {
    // Each alone would fill the wire. How much of it two busy cores fill is not ours to say.
    let streams = stream(0, 2, "100%") + &stream(1, 3, "100%");
    let devices = ["net_null0,no-rx=1", "net_null1,no-rx=1"];
    let r = run("workers = 2\n", &ports(&devices, "1G", 2, 2), &streams);
    let p = &r.tester.ports[0];
    assert!(p.tx_utilisation < 1.01, "{}", p.tx_utilisation);
    assert!(r.tester.workers.iter().all(|w| w.frames > 0), "{:?}", r.tester.workers);
}

#[test]
fn a_closed_loop_has_the_same_answers_with_two_queues() {
    let answers = |queues: u32| {
        let r = run(
            "warmup = 1\nrepeats = 5\nworkers = 2\n",
            &ports(&["loop:x", "loop:x"], "10G", 4, queues),
            "0,0,4,262144\n0,1,5,262144\n0,2,6,262144\n0,3,7,262144\n",
        );
        assert!(r.tester.trustworthy, "{:?}", r.tester.why);
        let [a, b] = r.tester.ports.as_slice() else { panic!("{:?}", r.tester.ports) };
        assert_eq!((a.queues, b.queues), (queues as u16, queues as u16));
        assert_eq!((a.misdirected, b.misdirected), (0, 0), "ranks talk to those of the same queue");
        assert_eq!(a.steering.as_deref(), (queues > 1).then_some("queue-to-queue"));
        assert_eq!((a.icrc_errors, b.icrc_errors, a.rx_other, b.rx_other, b.unstamped), (0, 0, 0, 0, 0));
        assert_eq!((a.tx_frames, a.rx_frames), (b.rx_frames, b.tx_frames), "{a:?} {b:?}");
        assert!(r.tester.ports.iter().all(|p| p.device_tx_frames == Some(p.tx_frames)), "{a:?} {b:?}");
        let network = r.latency_ns.iter().find(|l| l.from == "wire_out" && l.to == "wire_in").unwrap();
        assert_eq!(network.percentiles.n, 4 * 64 * 5, "every frame has brought its stamps");
        let classes: Vec<_> = r.classes.iter().map(|c| (c.arrivals, c.lost)).collect();
        let done: Vec<_> = r.workload.iter().map(|w| w.completion_ns.percentiles.n).collect();
        (classes, done, r.flows.completed, r.flows.failed, r.flows.retransmitted)
    };
    let one = answers(1);
    assert_eq!(one.0, [(4 * 64 * 5, 0)]);
    assert_eq!(one, answers(2));
    assert_eq!(one, answers(4));
}

#[test]
fn frames_that_come_to_another_queue_than_their_ranks_are_handed_over_and_counted() {
    // Even ranks (queue 0) write to rank 5 (queue 1), odd ones to rank 4: every frame, and every ACK, has to change queues.
    let traffic = "0,0,5,65536\n0,1,4,65536\n0,2,5,65536\n0,3,4,65536\n";
    let r = run("repeats = 5\nworkers = 2\n", &ports(&["loop:x", "loop:x"], "1G", 4, 2), traffic);
    assert_eq!(r.classes.iter().map(|c| (c.arrivals, c.lost)).collect::<Vec<_>>(), [(4 * 16 * 5, 0)]);
    assert_eq!(r.flows.failed, 0);
    let [a, b] = r.tester.ports.as_slice() else { panic!("{:?}", r.tester.ports) };
    assert_eq!(b.misdirected, 4 * 16 * 5, "{b:?}");
    assert!(a.misdirected > 0, "{a:?}");
    let page = rankstorm::report::text::render(&r, None);
    assert!(page.contains("320 came to another queue"), "{page}");
}

#[test]
fn a_pause_that_comes_to_one_queue_silences_its_priority_on_all() {
    // Port 1 pauses priority 3 from 1 ms on; at 10 Mbit/s one XOFF lasts for 3 s, until after the end. From 300 ms on, streams
    // of both classes want to leave from both queues of port 0.
    let mut traffic = "[class.roce]\ndscp = 3\npriority = 3\n\
                       [class.other]\ndscp = 8\npriority = 0\nlossless = false\n"
        .to_owned();
    for (from, to) in [(0, 4), (1, 5)] {
        for class in ["roce", "other"] {
            traffic += &format!("{}start = \"300 ms\"\nclass = \"{class}\"\n", stream(from, to, "10%"));
        }
    }
    traffic += "[[at]]\ntime = \"1 ms\"\npause = { port = 1, priority = 3, hold = \"2 s\" }\n";
    let ports = ports(&["loop:x", "loop:x"], "10M", 4, 2).replace("queues", "pfc = \"software\"\nqueues");
    let dir = tempfile::tempdir().unwrap();
    let path = profile(dir.path(), "allow_pfc = true\nworkers = 2\n", &ports, &traffic);
    let text = std::fs::read_to_string(&path).unwrap().replace("limit = \"20s\"", "limit = \"500ms\"");
    std::fs::write(&path, text).unwrap();
    let r = run_into(&dir.path().join("out"), &path, &[], 0);
    assert!(r.tester.ports[0].pfc_frames.is_some_and(|n| n > 0), "{:?}", r.tester.ports[0]);
    let of = |name: &str| r.classes.iter().find(|c| c.name == name).unwrap();
    let (roce, other) = (of("roce"), of("other"));
    assert_eq!(roce.transmissions, 0, "both queues stand still");
    assert!(other.transmissions > 0, "and other priorities do not: {other:?}");
    let paused = roce.paused_ns.unwrap() / 1e6;
    // The pause outlasts the run: it ends with it, and not with the wait for frames on their way that follows.
    assert!(paused > 200.0 && paused < 499.1, "counted once for the port, from 1 ms to 500 ms: {paused} ms");
}

#[test]
fn a_memif_keeps_the_queue_and_its_ends_say_so() {
    let socket = format!("@rs-queues-{}", std::process::id());
    let (a, b) = (
        format!("net_memif0,role=server,socket={socket}"),
        format!("net_memif1,role=client,socket={socket}"),
    );
    let traffic = "0,0,4,262144\n0,1,5,262144\n0,2,6,262144\n0,3,7,262144\n";
    let r = run("repeats = 3\nworkers = 2\n", &ports(&[&a, &b], "1G", 4, 2), traffic);
    assert_eq!(r.classes.iter().map(|c| (c.arrivals, c.lost)).collect::<Vec<_>>(), [(4 * 64 * 3, 0)]);
    for p in &r.tester.ports {
        assert_eq!((p.queues, p.steering.as_deref(), p.misdirected), (2, Some("queue-to-queue"), 0), "{p:?}");
    }
}

/// Whether this kernel has what a tap needs for rules is not known before: without, the tap says so and is refused. tools/lab-vm
/// runs the same where the kernel has it.
#[test]
fn a_tap_leads_each_rank_to_its_queue_or_says_that_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let devices = ports(&["net_tap0,iface=rs0", "net_tap1,iface=rs1"], "100M", 4, 2);
    let devices = format!("{devices}[class.roce]\nmtu = 1024\n");
    profile(
        dir.path(),
        "repeats = 3\nworkers = 2\n",
        &devices,
        "0,0,4,65536\n0,1,5,65536\n0,2,7,65536\n0,3,6,65536\n",
    );
    let script = "(while sleep 0.02; do for i in 0 1; do ip link set rs$i master br0 up 2>/dev/null; done; done) & plug=$!\n\
                  timeout 60 $RS run p.toml --out out --quiet; echo rc $?; kill $plug; echo links; ip -br link";
    let Some(o) = in_lab(dir.path(), script) else { return };
    let (said, why) = (text(&o.stdout), text(&o.stderr));
    let links = said.split("links\n").nth(1).unwrap_or_else(|| panic!("{said}{why}"));
    assert!(
        links.contains("br0") && !links.contains("rs0") && !links.contains("rs1"),
        "no tap is left: {links}"
    );
    if said.contains("rc 2") {
        let line = why.lines().find(|l| l.starts_with("error:")).unwrap_or(&why).to_owned();
        assert!(line.contains("net_tap0,iface=rs0 takes no rule") && line.contains("queues = 1"), "{line}");
        eprintln!(
            "SKIPPED: this kernel has no tc flower, skbedit or multiq, which taps make rules with: {line}"
        );
        return;
    }
    assert!(said.contains("rc 0"), "{said}{why}");
    let r: RunReport = rankstorm::report::files::read(&dir.path().join("out")).unwrap();
    for p in &r.tester.ports {
        assert_eq!((p.steering.as_deref(), p.misdirected), (Some("rules"), 0), "{p:?}");
    }
    // A slow machine sends some again.
    let first = r.classes.iter().map(|c| (c.arrivals - r.flows.retransmitted.min(c.arrivals), c.lost));
    assert_eq!((first.collect::<Vec<_>>(), r.flows.failed), (vec![(4 * 64 * 3, 0)], 0));
}

/// Packet sockets divide what arrives by a hash: enough for a port that only sends.
#[test]
fn a_port_that_only_sends_needs_no_rules() {
    let dir = tempfile::tempdir().unwrap();
    let devices = ports(&["t0"], "1G", 2, 2) + &ports(&["t1"], "1G", 2, 1);
    let streams = stream(0, 2, "5%") + &stream(1, 3, "5%");
    profile(dir.path(), "workers = 2\n", &devices, &streams);
    let script = "timeout 60 $RS run p.toml --out out --quiet; echo rc $?";
    let Some(o) = in_lab(dir.path(), script) else { return };
    assert!(text(&o.stdout).contains("rc 0"), "{}{}", text(&o.stdout), text(&o.stderr));
    let r: RunReport = rankstorm::report::files::read(&dir.path().join("out")).unwrap();
    let [a, b] = r.tester.ports.as_slice() else { panic!("{:?}", r.tester.ports) };
    assert_eq!((a.queues, a.steering.as_deref(), b.queues, &b.steering), (2, Some("none"), 1, &None));
    let s = r.streams.as_ref().unwrap();
    assert!(s.frames_tx > 100 && s.frames_rx == s.frames_tx, "{s:?}");
    // Each queue by a socket of its own.
    assert_eq!((a.tx_path.as_str(), a.device_tx_frames), ("socket", Some(a.tx_frames)), "{a:?}");
    assert!(a.rx_frames < 10, "nothing comes back: {a:?}");
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let loops = ["loop:x", "loop:x"];
    let traffic = "[[workload]]\nkind = \"incast\"\nsenders = 1\nreceiver = 1\nmessage = \"64 KiB\"\n";
    let e = refusal("", &ports(&loops, "1G", 1, 2), traffic);
    assert!(e.contains("queues = 2") && e.contains("raise ranks_per_port"), "{e}");
    let e = refusal("", &ports(&loops, "1G", 4, 17), traffic);
    assert!(e.contains("queues = 17") && e.contains("from 1 to 16"), "{e}");
    let e = refusal("", &(ports(&loops[..1], "1G", 4, 2) + &ports(&loops[1..], "1G", 4, 4)), traffic);
    assert!(e.contains("both ends of a loop must have as many queues"), "{e}");
    let e = refusal("", &ports(&["t0", "t1"], "1G", 4, 2), &stream(4, 0, "1%"));
    assert!(e.contains("port port0: t0 neither takes rules") && e.contains("queues = 1"), "{e}");
    let ring = "[[workload]]\nkind = \"ring-all-reduce\"\nranks = 8\nvector = \"64 KiB\"\n";
    let e = refusal("", &ports(&loops, "1G", 4, 2), ring);
    assert!(e.contains("inside port port0") && e.contains("queues = 1"), "{e}");
}
