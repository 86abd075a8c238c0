//! What `check` says a run takes in memory, beside what the process then held.
#![allow(clippy::unwrap_used)]

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
