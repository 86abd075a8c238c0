//! Ctrl-C in the middle of a long run: the process ends soon, not with 0, and what it leaves can be read and says what
//! is missing.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{rankstorm, shipped, text};
use rankstorm::report::files;

/// SIGINT, by the shell itself: a bare machine has no `kill` program.
fn interrupt(pid: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -INT {pid}")]).status().unwrap();
    assert!(sent.success());
}

/// A run that does not outlive the test, whatever the test does.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start(dir: &Path, mode: &str) -> Child {
    // Short iterations, so that a loaded machine finishes some before it is interrupted, and minutes of them.
    Command::new(env!("CARGO_BIN_EXE_rankstorm"))
        .arg("run")
        .arg(shipped("incast-32to1"))
        .args(["--on", mode, "--set", "run.repeats=40000", "--set", "run.limit=1000 s"])
        .args(["--set", "workload.0.message=256 KiB", "--out"])
        .arg(dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn interrupted(mode: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Running(Some(start(dir.path(), mode)));
    let child = running.0.as_mut().unwrap();
    // Into the measured iterations: two of warm-up come first.
    std::thread::sleep(Duration::from_secs(3));
    assert!(child.try_wait().unwrap().is_none(), "the run is over before it could be interrupted");
    let asked = Instant::now();
    interrupt(child.id());
    while child.try_wait().unwrap().is_none() {
        if asked.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = asked.elapsed();
    let o = running.0.take().unwrap().wait_with_output().unwrap();
    let (out, err) = (text(&o.stdout), text(&o.stderr));
    assert_eq!(o.status.code(), Some(1), "{mode}: {err}{out}");
    assert!(took < Duration::from_secs(10), "{mode}: it took {took:?}");
    let r = files::read(dir.path()).unwrap();
    assert!(!r.complete);
    assert!(r.missing[0].starts_with("interrupted by the user in iteration "), "{:?}", r.missing);
    assert!(r.missing[0].ends_with(" of 40002"), "{:?}", r.missing);
    assert!(
        r.workload[0].iterations > 0 && r.workload[0].iterations < 40_000,
        "{}",
        r.workload[0].iterations
    );
    assert_eq!(r.workload[0].completion_ns.percentiles.n, u64::from(r.workload[0].iterations));
    // What was under way is counted as inside, and nothing else is missing.
    assert!(r.conservation.holds, "{:?}", r.conservation);
    assert!(r.tester.trustworthy, "{:?}", r.tester.why);
    assert!(out.contains("INCOMPLETE") && out.contains(&r.missing[0]), "{out}");
    for name in [files::REPORT_TXT, files::FLOWS_CSV, files::PROFILE_TOML] {
        assert!(dir.path().join(name).exists(), "{name}");
    }
    let again = rankstorm(&["report".as_ref(), dir.path().as_os_str()]);
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn virtual_time_leaves_what_it_has() {
    interrupted("virtual");
}

#[cfg(feature = "dpdk")]
#[test]
fn a_rings_run_leaves_what_it_has() {
    interrupted("rings");
}
