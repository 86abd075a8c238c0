//! Network namespaces of a test's own with a bridge in them, and profiles for ports there.
#![allow(clippy::print_stderr)] // says why tests are skipped

use std::path::Path;
use std::process::{Command, Output};

use super::text;

pub const RUN: &str =
    "[run]\non = \"ports\"\nwarmup = 1\nrepeats = 5\ngap = \"1ms\"\nlimit = \"20s\"\nstall_max = \"5s\"\n";

/// [`RUN`] for so many repeats, and at most 100 s.
pub fn long_run(repeats: u32) -> String {
    RUN.replace("repeats = 5", &format!("repeats = {repeats}")).replace("\"20s\"", "\"100s\"")
}

pub fn ports(devices: &[&str], rate: &str) -> String {
    let one = |d: &&str| format!("[[port]]\ndevice = \"{d}\"\nrate = \"{rate}\"\n");
    devices.iter().map(one).collect()
}

pub fn incast(senders: u32, message: &str) -> String {
    format!("[[workload]]\nname = \"in\"\nkind = \"incast\"\nsenders = {senders}\nmessage = \"{message}\"\n")
}

pub fn write(dir: &Path, name: &str, profile: &str) {
    std::fs::write(dir.join(name), profile).unwrap();
}

const LAB: &str = "set -e; mount -t sysfs none /sys; ip link set lo up; ip link add br0 type bridge\n\
    echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6\n\
    for i in 0 1 2; do ip link add t$i type veth peer name b$i\n\
    ip link set t$i mtu 9000 up; ip link set b$i mtu 9000 master br0 up; done\n\
    ip link set br0 mtu 9000 up; echo lab is up; set +e\n\
    busy() { for i in $(seq 600); do [ $(cat /sys/class/net/b0/statistics/rx_packets) -gt 500 ] && break; sleep 0.1; done; }\n";

/// Runs `script`, in which `busy` waits for traffic, as root of namespaces of its own with a bridge of three veth pairs: testers t0..t2, switch b0..b2.
/// `None`, with the reason on stderr, where that cannot be.
pub fn in_lab(dir: &Path, script: &str) -> Option<Output> {
    in_namespaces(dir, "-rnm", script)
}

/// As [`in_lab`], with the rights of the machine's root (for BPF programs); `None` for others.
pub fn in_roots_lab(dir: &Path, script: &str) -> Option<Output> {
    let id = Command::new("id").arg("-u").output().ok()?;
    if text(&id.stdout).trim() != "0" {
        eprintln!("SKIPPED: not root");
        return None;
    }
    in_namespaces(dir, "-nm", script)
}

fn in_namespaces(dir: &Path, which: &str, script: &str) -> Option<Output> {
    let out = Command::new("unshare")
        .args([which, "bash", "-c", &format!("{LAB}{script}")])
        .env("RS", env!("CARGO_BIN_EXE_rankstorm"))
        .current_dir(dir)
        .output();
    let out = out.ok().filter(|o| text(&o.stdout).contains("lab is up"));
    if out.is_none() {
        eprintln!("SKIPPED: no network namespace with a bridge can be made here (unshare {which}, ip link)");
    }
    out
}
