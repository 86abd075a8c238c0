//! One profile over DPDK rings and in virtual time: the same outcome to the last counter, whatever the machine does to
//! the threads of the rings run. Each rings run is a process of its own, since a process has one EAL.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{rankstorm, run_into, shipped, text};
use rankstorm::report::model::RunReport;

/// Rings runs want the cores for themselves: one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static CORES: Mutex<()> = Mutex::new(());
    CORES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `profile` on rings and in virtual time, each of which must exit with `code`; outcome and `compare` must not
/// tell them apart.
fn equal(profile: &Path, set: &[&str], code: i32) -> RunReport {
    let dir = tempfile::tempdir().unwrap();
    let at = |mode: &str| dir.path().join(mode);
    let run = |mode: &str| {
        let mut flags = vec!["--on", mode, "--allow-pfc-generation"];
        set.iter().for_each(|s| flags.extend(["--set", *s]));
        run_into(&at(mode), profile, &flags, code)
    };
    let (rings, ideal) = (run("rings"), run("virtual"));
    assert_eq!((rings.mode.as_str(), ideal.mode.as_str()), ("rings", "virtual"));
    assert!(rings.outcome_hash.is_some());
    assert_eq!(rings.outcome_hash, ideal.outcome_hash, "{}", profile.display());
    let o = rankstorm(&["compare".as_ref(), at("rings").as_os_str(), at("virtual").as_os_str()]);
    let said = text(&o.stdout);
    assert_eq!(o.status.code(), Some(0), "{said}");
    assert!(said.contains("no difference"), "{said}");
    // The machine shows in the dilation and nowhere else.
    assert!(rings.dilation.unwrap() > 0.0 && ideal.dilation.is_none());
    assert!(rings.tester.trustworthy, "{:?}", rings.tester.why);
    assert!(rings.conservation.holds && rings.conservation.inside_frames == 0);
    rings
}

const INCAST: [&str; 3] = ["run.warmup=1", "run.repeats=2", "workload.message=512 KiB"];

#[test]
fn incast_with_pfc() {
    let _alone = alone();
    // Small messages fit the threshold: a smaller buffer brings the pauses back.
    let set = [&INCAST[..], &["switch.buffer=8 MiB"]].concat();
    let r = equal(&shipped("incast-32to1"), &set, 0);
    assert!(r.ports.iter().flat_map(|p| &p.pfc).map(|p| p.xoff_rx).sum::<u64>() > 32);
}

/// Both ends of a link know when it fell: where the engines are cut does not show. Tester ports are in one worker and
/// switches in the other, so the cable of a port is the one that is cut.
#[test]
fn links_that_fail() {
    let _alone = alone();
    let r = equal(&shipped("link-failure"), &[], 0);
    assert!(r.fabric.links.iter().map(|l| l.blackholed).sum::<u64>() > 0);
    let cut = [
        r#"at=[{ time = "300 us", link = { cable = "port 1", flap = { period = "1 ms", down = "50 us", count = 3 } } }]"#,
        "fabric.reconvergence=1 s",
    ];
    let r = equal(&shipped("link-failure"), &cut, 0);
    assert!(r.fabric.links.iter().map(|l| l.in_flight).sum::<u64>() > 0, "{:?}", r.fabric.links);
}

/// A deadlock ends both at the same moment with the same frames inside.
#[test]
fn a_deadlock() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let run = |mode: &str| run_into(&dir.path().join(mode), &shipped("deadlock-ring"), &["--on", mode], 0);
    let (rings, ideal) = (run("rings"), run("virtual"));
    assert_eq!(rings.fabric.deadlocks, ideal.fabric.deadlocks);
    assert_eq!((rings.outcome_hash, rings.conservation), (ideal.outcome_hash, ideal.conservation));
    assert_eq!(rings.fabric.deadlocks.len(), 1);
}

#[test]
fn incast_with_dcqcn() {
    let _alone = alone();
    let set = ["run.repeats=1", "workload.message=512 kB"];
    let r = equal(&shipped("incast-32to1-dcqcn"), &set, 0);
    assert!(r.flows.cnp_rx > 0);
}

#[test]
fn two_flows_with_swift_and_a_static_window() {
    let _alone = alone();
    for control in ["workload.rate_control=swift", "workload.rate_control=window"] {
        let set = ["workload.message=5 MB", "workload.start.skew=100 us", control];
        let r = equal(&shipped("fair-share"), &set, 0);
        assert!(r.workload[0].rate_control.is_some());
    }
}

#[test]
fn ring_on_an_oversubscribed_leaf_spine() {
    let _alone = alone();
    let set = ["run.warmup=1", "run.repeats=1", "workload.vector=8 MB", "workload.chunk=256 kB"];
    equal(&shipped("ring-allreduce-16-4to1-interleaved"), &set, 0);
}

#[test]
fn streams_and_the_timeline() {
    let _alone = alone();
    let r = equal(&shipped("stream-1to1"), &["stream.frames=20000"], 0);
    assert_eq!(r.streams.unwrap().frames_rx, 20_000);
    let r = equal(&shipped("headroom-probe"), &[], 0);
    assert_eq!(r.snapshots.len(), 1);
    assert!(r.classes[0].lost > 0);
}

#[test]
fn a_slow_host_and_pfc_on_purpose() {
    let _alone = alone();
    let r = equal(&shipped("slow-host"), &["run.repeats=1", "workload.message=4 MiB"], 0);
    assert!(r.ports[3].receive.as_ref().unwrap().occupied_bytes_max > 512 << 10);
    let r = equal(&shipped("pfc-storm"), &["workload.message=4 MiB"], 0);
    assert!(r.ports[3].pfc[0].refresh_tx > 0);
    let r = equal(&shipped("pfc-storm"), &["workload.message=256 KiB", "pfc.form=vlan-tagged"], 1);
    assert!(r.ports[3].pfc_malformed_tx > Some(0) && r.switches[0].drops > Some(0));
}

#[test]
fn loss_and_go_back_n() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("lossy.toml");
    let shape = "name = \"lossy\"\n[run]\nrepeats = 2\nlimit = \"5 s\"\n[[workload]]\nkind = \"incast\"\n\
                 senders = 8\nmessage = \"512 KiB\"\n[class.roce]\ndscp = 26\nlossless = false\nmtu = 1024\n\
                 [switch]\nbuffer = \"1 MiB\"\nports = { count = 9, rate = \"100G\", cable = \"5 m\" }\n";
    std::fs::write(&profile, shape).unwrap();
    let r = equal(&profile, &[], 0);
    assert!(r.classes[0].lost > 0 && r.flows.retransmitted > 0);
}

#[test]
fn incast_while_others_take_the_cores() {
    let _alone = alone();
    let over = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let thieves: Vec<_> = (0..2)
        .map(|_| {
            let over = over.clone();
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) && began.elapsed() < Duration::from_secs(60) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    equal(&shipped("incast-32to1"), &INCAST, 1); // so little data pauses nobody, and the profile expects 32
    over.store(true, Ordering::Relaxed);
    thieves.into_iter().for_each(|t| t.join().unwrap());
}

#[test]
fn a_free_clock_that_is_too_fast_is_told_and_exits_3() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let flags = ["--on", "rings", "--dilation", "1", "--set", "run.clock=free", "--set", "run.repeats=2"];
    let r = run_into(dir.path(), &shipped("incast-32to1"), &flags, 3);
    assert!(!r.tester.trustworthy);
    assert!(r.tester.why.iter().any(|w| w.contains("free") && w.contains("behind")), "{:?}", r.tester.why);
    assert!(r.tester.clock.lag_ns_max.unwrap() > 0.0);
}

#[test]
fn a_capture_of_a_rings_run_has_every_frame_and_every_icrc_right() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let pcap = dir.path().join("run.pcap");
    let mut flags = vec!["--on", "rings", "--pcap", pcap.to_str().unwrap()];
    for s in ["run.warmup=0", "run.repeats=1", "workload.message=256 KiB", "switch.buffer=8 MiB"] {
        flags.extend(["--set", s]);
    }
    let r = run_into(&dir.path().join("out"), &shipped("incast-32to1"), &flags, 0);
    let o = rankstorm(&["dissect", "--json", pcap.to_str().unwrap()]);
    assert_eq!(o.status.code(), Some(0), "{}", text(&o.stderr));
    let out = text(&o.stdout);
    let sum: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    // Every frame that a tester port received: 32 x 64 data frames, their ACKs, and the PFC frames.
    assert_eq!(sum["frames"], r.flows.frames_rx);
    assert_eq!(sum["icrc_bad"], 0);
    let pfc: u64 = r.ports.iter().flat_map(|p| &p.pfc).map(|p| p.xoff_rx + p.refresh_rx + p.xon_rx).sum();
    assert!(pfc > 0);
    assert_eq!(sum["rocev2"], r.flows.frames_rx - pfc);
    assert_eq!(sum["messages"], 32);
    assert_eq!(sum["message_bytes"], 32 * 256 * 1024);
    assert!(sum["rocev2"].as_u64().unwrap() >= 32 * 64 + 32);
}
