//! What `check` says a run takes in memory, beside what the process then held.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fmt::Write as _;

use common::{plan, rankstorm, run_into, shipped, text};
use rankstorm::plan::Plan;
use rankstorm::profile::{self, Overrides};

/// Runs `profile` in a process of its own and holds its peak against the plan's, within `off` (a share).
fn held(profile: &std::path::Path, plan: &Plan, off: f64) {
    let dir = tempfile::tempdir().unwrap();
    let report = run_into(dir.path(), profile, &["--on", "virtual"], 0);
    let (said, was) = (plan.predicted.memory.peak_bytes as f64, report.memory.peak_bytes as f64);
    assert!((said / was - 1.0).abs() <= off, "{}: {said} B said, {was} B held", profile.display());
}

#[test]
fn an_incast_takes_what_check_says() {
    held(&shipped("incast-32to1"), &plan("incast-32to1", &[]), 0.25);
}

#[test]
fn a_ring_over_many_ports_takes_what_check_says() {
    // 512 ports on 32 switches, small messages: what each rank, port and queue takes decides.
    let mut profile = String::from(
        "schema = 1\nname = \"many\"\n[run]\nrepeats = 1\nlimit = \"1 s\"\n\
         [class.roce]\ndscp = 3\nmtu = 4096\n[switch]\npreset = \"generic-32mib\"\n",
    );
    let _ = write!(
        profile,
        "[[workload]]\nkind = \"ring-all-reduce\"\nranks = 512\nvector = \"16 kB\"\nchunk = \"1 MB\"\n\
         [fabric]\nkind = \"leaf-spine\"\nleaves = 16\nspines = 16\nhosts_per_leaf = 32\n\
         host_rate = \"100G\"\nuplink_rate = \"100G\"\nuplinks = 1\ncable = \"5 m\"\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("many.toml");
    std::fs::write(&file, profile).unwrap();
    held(&file, &profile::load(&file, &Overrides::default()).unwrap(), 0.25);
}

#[test]
fn check_prints_the_parts() {
    let said = text(&rankstorm(&["check".as_ref(), shipped("incast-32to1").as_os_str()]).stdout);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["in virtual time: queue pairs", "ranks and ports", "recorder", "flows", "frames", "schedule"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}

/// Runs a profile on real ports in a process of its own and holds its peak against the plan's, within `off` (a share).
#[cfg(feature = "dpdk")]
fn held_on_ports(name: &str, text: &str, off: f64) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    std::fs::write(&file, text).unwrap();
    let plan = profile::load(&file, &Overrides::default()).unwrap();
    let report = run_into(&dir.path().join("out"), &file, &[], 0);
    let (said, was) = (plan.predicted.memory.peak_bytes as f64, report.memory.peak_bytes as f64);
    assert!((said / was - 1.0).abs() <= off, "{name}: {said} B said, {was} B held");
    was
}

/// Two ports with so many queues each, one worker for all, and short frames from rank 0 to the first of the other port.
#[cfg(feature = "dpdk")]
fn on_ports(devices: [&str; 2], queues: u32, run: &str) -> String {
    let port = |d: &str| {
        format!("[[port]]\ndevice = \"{d}\"\nrate = \"1G\"\nranks_per_port = {queues}\nqueues = {queues}\n")
    };
    format!(
        "[run]\non = \"ports\"\nlimit = \"5s\"\nstall_max = \"5s\"\nworkers = 1\n{run}{}{}\
         [[stream]]\nfrom = 0\nto = {queues}\nsize = 1086\nload = \"1%\"\nduration = \"20 ms\"\n",
        port(devices[0]),
        port(devices[1])
    )
}

#[cfg(feature = "dpdk")]
#[test]
fn queues_of_real_ports_take_what_check_says() {
    let huge = rankstorm::sys::memory::huge_pages().iter().any(|h| h.total > 0);
    if huge {
        return eprintln!("SKIPPED: figures are those of ordinary pages, and this machine has huge ones");
    }
    let null = ["net_null0,no-rx=1", "net_null1,no-rx=1"];
    let cable = ["loop:x", "loop:x"];
    // Of 49 MB at one queue the program is 31; with more queues and frames the pools decide.
    let one = held_on_ports("cable", &on_ports(cable, 1, ""), 0.12);
    let eight = held_on_ports("cable of eight queues", &on_ports(cable, 8, ""), 0.12);
    assert!(eight > one + 50e6, "seven queues more at both ends: {one} and {eight} B");
    held_on_ports("net_null", &on_ports(null, 1, ""), 0.12);
    held_on_ports("net_null of four queues", &on_ports(null, 4, ""), 0.12);
    held_on_ports("many frames", &on_ports(cable, 1, "pool_frames = 60000\n"), 0.12);
    // What check prints is that, with its parts.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    std::fs::write(&file, on_ports(null, 4, "")).unwrap();
    let said = text(&rankstorm(&["check".as_ref(), file.as_os_str()]).stdout);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    // 2 ports x 4 queues x 3,072 frames; 2 x 16,383 buffers.
    for part in
        ["on ports, without huge pages", "(8 with 2 x 24,576 frames to send", "and 32,766 to receive)"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("in virtual time"), "{said}");
}
