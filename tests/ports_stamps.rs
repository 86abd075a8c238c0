//! Stamps in some frames of a run on real ports: how many, which ones, and that nothing else changes. Both ends of a memif,
//! where ICRCs are checked.
#![cfg(all(feature = "dpdk", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{rankstorm, run_into, text};
use rankstorm::plan::Mode;
use rankstorm::profile::{self, Overrides};
use rankstorm::report::model::RunReport;
use rankstorm::run::{self, Options};

/// A run from port 0, with these keys in its `[[port]]`, to port 1.
fn run(name: &str, run_keys: &str, port_keys: &str, traffic: &str) -> (RunReport, String) {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("@rs-stamps-{name}-{}", std::process::id());
    let port = |i: u32, role: &str, keys: &str| {
        format!("[[port]]\ndevice = \"net_memif{i},role={role},socket={socket}\"\nrate = \"1G\"\n{keys}")
    };
    let profile = format!(
        "[run]\non = \"ports\"\ngap = \"1ms\"\nlimit = \"20s\"\nstall_max = \"5s\"\nworkers = 1\n{run_keys}{}{}{traffic}",
        port(0, "server", port_keys),
        port(1, "client", "")
    );
    std::fs::write(dir.path().join("p.toml"), profile).unwrap();
    let out = dir.path().join("out");
    let r = run_into(&out, &dir.path().join("p.toml"), &[], 0);
    assert!(r.tester.trustworthy, "{:?}", r.tester.why);
    for p in &r.tester.ports {
        assert_eq!(p.icrc_errors, 0, "{p:?}");
    }
    (r, std::fs::read_to_string(out.join("report.txt")).unwrap())
}

fn latency(r: &RunReport, from: &str) -> u64 {
    let row = r.latency_ns.iter().find(|l| (l.from.as_str(), l.to.as_str()) == (from, "wire_in"));
    row.map_or(0, |l| l.percentiles.n)
}

/// Two streams that take turns: every tenth frame of the port would be of one of them alone.
const STREAMS: &str = "[[stream]]\nfrom = 0\nto = 1\nsize = 1086\nload = \"4%\"\nduration = \"200 ms\"\n\
    [[stream]]\nfrom = 0\nto = 1\nsize = 1086\nload = \"4%\"\nduration = \"200 ms\"\nstart = \"20 us\"\n";

#[test]
fn every_tenth_frame_of_each_stream_brings_its_stamps_and_the_rest_are_counted() {
    for (name, run_keys, class) in
        [("v4", "", ""), ("v6", "ip = \"v6\"\n", "[class.roce]\nmtu = 1024\nvlan = 100\n")]
    {
        let (r, said) = run(name, run_keys, "stamp_every = 10\n", &format!("{STREAMS}{class}"));
        let [a, b] = r.tester.ports.as_slice() else { panic!("{:?}", r.tester.ports) };
        let s = r.streams.as_ref().unwrap();
        // Each stream sends as many, and its first frame is stamped.
        let stamped = 2 * (s.frames_tx / 2).div_ceil(10);
        assert!(s.frames_tx > 1_000 && s.frames_tx % 2 == 0 && s.frames_rx == s.frames_tx, "{s:?}");
        assert_eq!((a.stamp_every, a.tx_stamped), (Some(10), stamped), "{name}: {a:?}");
        assert_eq!((b.stamp_every, b.tx_stamped), (Some(1), 0), "it sends no data");
        assert_eq!(b.unstamped, s.frames_rx - stamped, "{name}");
        assert_eq!((latency(&r, "wire_out"), latency(&r, "intended")), (stamped, stamped), "{name}");
        assert_eq!(r.classes[0].arrivals, s.frames_rx, "frames without stamps count");
        assert_eq!(s.with_latency, 2, "of both streams");
        assert!(said.contains("frames with stamps, 1 of 10"), "{said}");
    }
}

#[test]
fn every_seventh_packet_of_a_queue_pair_does_and_round_trips_go_on() {
    // A machine that is busy with other things makes nobody send again.
    let incast = "[[workload]]\nname = \"in\"\nkind = \"incast\"\nsenders = 1\nmessage = \"1 MiB\"\nack_timeout = \"4 s\"\n";
    let (r, _) = run("rc", "warmup = 1\nrepeats = 5\n", "stamp_every = 7\n", incast);
    let [a, b] = r.tester.ports.as_slice() else { panic!("{:?}", r.tester.ports) };
    // 256 packets of 4,096 B an iteration, six of them, with PSNs that follow each other.
    let (all, measured) = (6 * 256, 5 * 256);
    let share = |of: u64, n: u64| (of / 7..=of.div_ceil(7)).contains(&n);
    assert_eq!(r.flows.retransmitted, 0);
    assert!(share(all, a.tx_stamped), "{}", a.tx_stamped);
    assert_eq!(b.unstamped, all - a.tx_stamped);
    assert!(share(measured, latency(&r, "wire_out")), "{}", latency(&r, "wire_out"));
    let round_trips = r.latency_ns.iter().find(|l| l.to == "ack_in").unwrap();
    assert!(round_trips.percentiles.n >= 5, "they need no stamps: {round_trips:?}");
}

#[test]
fn all_frames_are_stamped_unless_the_profile_says_otherwise() {
    let (r, said) = run("all", "", "", STREAMS);
    let s = r.streams.as_ref().unwrap();
    let [a, b] = r.tester.ports.as_slice() else { panic!("{:?}", r.tester.ports) };
    assert_eq!((a.stamp_every, a.tx_stamped, b.unstamped), (Some(1), s.frames_tx, 0));
    assert!(!said.contains("frames with stamps"), "{said}");
}

#[test]
fn more_queues_than_a_stamp_can_name_are_refused_and_not_counted_from_zero_again() {
    let port = |i: u32| {
        format!("[[port]]\ndevice = \"net_null{i}\"\nrate = \"1G\"\nranks_per_port = 16\nqueues = 16\n")
    };
    let text = |ports: u32| {
        (0..ports).map(port).collect::<String>() + "[[stream]]\nfrom = 0\nto = 16\nframes = 10\n"
    };
    let plan = |ports: u32, on: Option<Mode>| {
        profile::from_str("many.toml", &text(ports), &Overrides { on, ..Overrides::default() })
    };
    // 256 queues have a number each.
    plan(16, Some(Mode::Ports)).unwrap();
    let e = plan(17, Some(Mode::Ports)).unwrap_err().to_string();
    assert!(e.contains("272 queues in all [[port]] are more than the 256"), "{e}");
    // A profile for another mode may have them; it is refused when it is run on ports.
    let e = run::execute(&plan(17, None).unwrap(), Options::new(Mode::Ports)).unwrap_err().to_string();
    assert!(e.contains("272 queues") && e.contains("stamps name") && e.contains("use fewer"), "{e}");
}

#[test]
fn numbers_that_make_no_sense_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    for n in ["0", "1048577"] {
        let devices =
            format!("[[port]]\ndevice = \"loop:x\"\nstamp_every = {n}\n[[port]]\ndevice = \"loop:x\"\n");
        std::fs::write(dir.path().join("p.toml"), format!("{devices}{STREAMS}")).unwrap();
        let o = rankstorm(&["check".as_ref(), dir.path().join("p.toml").as_os_str()]);
        let e = text(&o.stderr);
        assert_eq!(o.status.code(), Some(2), "{e}");
        assert!(e.contains("p.toml:3") && e.contains("must be from 1") && e.contains("1048576"), "{e}");
    }
}

#[test]
fn pacing_by_the_device_is_refused_where_it_cannot_and_software_says_so() {
    let (r, _) = run("auto", "", "pacing = \"auto\"\n", STREAMS);
    let [a, b] = r.tester.ports.as_slice() else { panic!("{:?}", r.tester.ports) };
    assert_eq!((a.pacing.as_str(), a.tx_paced, a.paces_in_hardware), ("software", 0, false), "{a:?}");
    assert_eq!((b.pacing.as_str(), r.tester.pacing_point.as_deref()), ("software", Some("enqueue")));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    let port = |keys: &str| format!("[[port]]\ndevice = \"loop:x\"\nrate = \"1G\"\n{keys}");
    for (pacing, code, said) in [
        ("hardware", 2, "device loop:x cannot send at given times"),
        ("nic", 2, "pacing = \"nic\": unknown value \"nic\"; known: auto, software, hardware"),
        ("software", 0, ""),
    ] {
        let keys = format!("pacing = \"{pacing}\"\n");
        let profile =
            format!("[run]\non = \"ports\"\nstall_max = \"5s\"\n{}{}{STREAMS}", port(&keys), port(""));
        std::fs::write(&file, profile).unwrap();
        let out = dir.path().join("out");
        let args = ["run".as_ref(), file.as_os_str(), "--quiet".as_ref(), "--out".as_ref(), out.as_os_str()];
        let o = rankstorm(&args);
        let e = text(&o.stderr);
        assert_eq!(o.status.code(), Some(code), "{pacing}: {e}");
        assert!(e.contains(said), "{pacing}: {e}");
        assert!(code == 0 || e.trim_end().lines().filter(|l| l.starts_with("error")).count() == 1, "{e}");
    }
}
