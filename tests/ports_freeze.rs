//! Threads of a run on real ports that stop where they are: the control, whose death must end the sending; and a worker, whose
//! port then takes nothing, so that devices refuse bursts and pools run dry. Skips with a reason where threads cannot be held
//! (python3, ptrace) or there is one core.
#![cfg(all(feature = "dpdk", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::lab::{RUN, ports, write};
use rankstorm::report::files;
use rankstorm::report::model::RunReport;

/// Holds thread ARGV[1] for ARGV[2] seconds: PTRACE_SEIZE, PTRACE_INTERRUPT, and PTRACE_DETACH.
const HOLD: &str = "import ctypes, os, sys, time
t, c = int(sys.argv[1]), ctypes.CDLL(None)
c.ptrace.argtypes = [ctypes.c_long] * 4
if c.ptrace(0x4206, t, 0, 0) or c.ptrace(0x4207, t, 0, 0): sys.exit(9)
os.waitpid(t, 0x40000000)
time.sleep(float(sys.argv[2]))
c.ptrace(17, t, 0, 0)";

/// Two workers, one for each end of a cable, and a stream that fills it.
fn profile(seconds: u32, more: &str) -> String {
    let run = RUN.replace("stall_max = \"5s\"", &format!("stall_max = \"1s\"\nworkers = 2\n{more}"));
    let stream = "[[stream]]\nfrom = 0\nto = 1\nsize = 1086\nload = \"50 %\"\n";
    format!("{run}{}{stream}duration = \"{seconds} s\"\n", ports(&["loop:x", "loop:x"], "1G"))
}

/// The main thread and the workers of a process, in the order they were started in.
fn threads(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let ours = |t: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/task/{t}/comm"));
        name.is_ok_and(|n| n.trim() == "rankstorm")
    };
    let mut all: Vec<u32> = tasks.filter_map(|t| t.file_name().to_str()?.parse().ok()).filter(ours).collect();
    all.sort_unstable();
    all
}

/// Runs `profile` and holds one of its threads (0: control, 1 and 2: workers) for `seconds`. `None`, with the reason on
/// stderr, where that cannot be.
fn held(dir: &Path, profile: &str, thread: usize, seconds: &str) -> Option<RunReport> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("SKIPPED: one core, so one worker has both ports");
        return None;
    }
    write(dir, "p.toml", profile);
    let mut child = Command::new(env!("CARGO_BIN_EXE_rankstorm"))
        .args(["run", "p.toml", "--quiet", "--out", "out"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while threads(child.id()).len() < 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "no workers after a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(700));
    let thread = threads(child.id())[thread].to_string();
    let hold = Command::new("python3").args(["-c", HOLD, &thread, seconds]).status();
    let ended = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(ended.elapsed() < Duration::from_secs(60), "it hangs");
        std::thread::sleep(Duration::from_millis(20));
    };
    if !hold.is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: threads cannot be held here (python3, ptrace)");
        return None;
    }
    let r: RunReport = files::read(&dir.join("out")).unwrap();
    assert_eq!(status.code(), Some(if r.tester.trustworthy { 0 } else { 3 }), "{:?}", r.tester.why);
    Some(r)
}

#[test]
fn workers_stop_sending_when_the_control_thread_does_not_move() {
    let dir = tempfile::tempdir().unwrap();
    let Some(r) = held(dir.path(), &profile(8, ""), 0, "4") else { return };
    assert!(r.tester.why.iter().any(|w| w.contains("the control thread did not move")), "{:?}", r.tester.why);
    // The stream was to last 8 s; 2 s of silence end it.
    assert!(r.streams.unwrap().frames_tx > 0 && r.tester.wall_s < 7.5, "{} s", r.tester.wall_s);
}

#[test]
fn a_device_that_takes_nothing_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let Some(r) = held(dir.path(), &profile(4, ""), 2, "1.5") else { return };
    let refused = r.tester.ports[0].tx_refused;
    assert!(refused > 0, "a full ring refuses: {:?}", r.tester.ports[0]);
    // Whether or not the worker had something due: what waited for it says so.
    assert!(r.tester.ports[1].delay_blurred > 900, "{:?}", r.tester.ports[1]);
    // What it had taken arrives late; what it refused was sent then.
    let streams = r.streams.unwrap();
    assert_eq!(streams.frames_tx, streams.frames_rx, "nothing is lost");
    assert_eq!(r.tester.ports.iter().map(|p| p.icrc_errors).sum::<u64>(), 0);
}

#[test]
fn an_empty_pool_is_the_testers_fault_and_ends_in_a_report() {
    let dir = tempfile::tempdir().unwrap();
    // Fewer frames than the cable holds: with nobody to give them back, the sender has none.
    let Some(r) = held(dir.path(), &profile(4, "pool_frames = 512\n"), 2, "1.5") else { return };
    assert!(r.tester.why.iter().any(|w| w.contains("frame pool was empty")), "{:?}", r.tester.why);
    let streams = r.streams.unwrap();
    assert_eq!(streams.frames_tx, streams.frames_rx, "nothing is lost");
}
