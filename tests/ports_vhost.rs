//! Ports of several queues that share memory with another process (vhost-user): both ends in one run, and `dpdk-testpmd` as the
//! other end of either.
#![cfg(all(feature = "dpdk", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{rankstorm, run_into, text};
use rankstorm::report::files;
use rankstorm::report::model::RunReport;

/// Ports of four ranks and so many queues; every rank of the first writes to one of the second.
fn profile(
    dir: &Path,
    devices: [&str; 2],
    queues: u32,
    repeats: u32,
    traffic: [u32; 4],
) -> std::path::PathBuf {
    let port = |d: &str| {
        format!("[[port]]\ndevice = \"{d}\"\nrate = \"1G\"\nranks_per_port = 4\nqueues = {queues}\n")
    };
    let ports: String = devices.iter().map(|d| port(d)).collect();
    let rows: String = (0..).zip(traffic).map(|(from, to)| format!("0,{from},{to},262144\n")).collect();
    std::fs::write(dir.join("w.csv"), format!("start_ns,src,dst,bytes\n{rows}")).unwrap();
    let path = dir.join("p.toml");
    let text = format!(
        "[run]\non = \"ports\"\nlimit = \"50s\"\ngap = \"1ms\"\nstall_max = \"5s\"\nworkers = 2\nrepeats = {repeats}\n{ports}\
         [[workload]]\nname = \"w\"\nkind = \"replay\"\nfile = \"w.csv\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// To the rank of the same queue.
const STRAIGHT: [u32; 4] = [4, 5, 6, 7];

/// Everything has arrived, each frame at the queue of its rank. A busy machine sends some again.
fn all_at_home(r: &RunReport, repeats: u64) {
    let first = r.classes.iter().map(|c| (c.arrivals - r.flows.retransmitted.min(c.arrivals), c.lost));
    assert_eq!((first.collect::<Vec<_>>(), r.flows.failed), (vec![(4 * 64 * repeats, 0)], 0));
    for p in &r.tester.ports {
        assert_eq!((p.queues, p.steering.as_deref(), p.misdirected), (2, Some("queue-to-queue"), 0), "{p:?}");
        assert_eq!((p.icrc_errors, p.unstamped), (0, 0), "{p:?}");
    }
}

#[test]
fn both_ends_in_one_run_keep_the_queue_and_hand_over_what_changes_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s").display().to_string();
    let ends = [format!("net_vhost0,iface={socket}"), format!("net_virtio_user0,path={socket}")];
    let ends = [ends[0].as_str(), ends[1].as_str()];
    let path = profile(dir.path(), ends, 2, 3, STRAIGHT);
    all_at_home(&run_into(&dir.path().join("out"), &path, &[], 0), 3);
    let path = profile(dir.path(), ends, 2, 3, [5, 4, 7, 6]);
    let r = run_into(&dir.path().join("crossed"), &path, &[], 0);
    assert_eq!((r.classes[0].lost, r.flows.failed), (0, 0));
    assert!(r.tester.ports[1].misdirected >= 4 * 64 * 3, "{:?}", r.tester.ports[1]);
    assert!(!Path::new(&socket).exists(), "the socket goes with its server");
}

#[test]
fn sockets_that_nobody_serves_and_those_that_are_left_over_are_said_to_be_so() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s").display().to_string();
    let refusal = |device: &str| {
        let path = profile(dir.path(), [device, "net_null0"], 2, 1, STRAIGHT);
        let o = rankstorm(&["run".as_ref(), path.as_os_str(), "--out".as_ref(), dir.path().as_os_str()]);
        let said = text(&o.stderr);
        assert_eq!(o.status.code(), Some(2), "{said}");
        said.lines().find(|l| l.starts_with("error:")).unwrap_or(&said).to_owned()
    };
    let nobody = refusal(&format!("net_virtio_user0,path={socket}"));
    assert!(nobody.contains("does anybody serve") && nobody.contains("(server=1)"), "{nobody}");
    // What a run that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    for device in ["net_virtio_user0,server=1,path=", "net_vhost0,iface="] {
        let left = refusal(&format!("{device}{socket}"));
        assert!(left.contains(&format!("is {socket} there already? Remove it")), "{left}");
    }
}

/// `dpdk-testpmd` as a wire between two devices of so many queues, of which it serves some.
struct Wire(Child, String);

impl Wire {
    /// `None`, with the reason on stderr, where there is none. `ready` is in what it prints, or a file.
    fn start(dir: &Path, devices: [String; 2], queues: u32, ready: &str) -> Option<Wire> {
        let out = File::create(dir.join("testpmd.log")).unwrap();
        let cores: Vec<String> = rankstorm::sys::affinity::cores().iter().map(usize::to_string).collect();
        let (cores, q) = (cores.join(","), queues.to_string());
        let [a, b] = devices;
        let prefix = format!("rs-wire-{}-{q}", dir.file_name().unwrap().display());
        let started = Command::new("dpdk-testpmd")
            .args([
                "--no-pci",
                "--no-huge",
                "--no-shconf",
                "--no-telemetry",
                "-m",
                "256",
                "--log-level=error",
            ])
            .args(["--file-prefix", &prefix])
            .args(["--lcores", &format!("0@({cores}),1@({cores})"), "--vdev", &a, "--vdev", &b, "--"])
            .args(["--mbuf-size=10240", "--total-num-mbufs=8192", "--forward-mode=io", "--auto-start"])
            .args(["--stats-period", "1000", "--rxq", &q, "--txq", &q])
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn();
        let Ok(child) = started else {
            eprintln!("SKIPPED: no dpdk-testpmd here (Debian: dpdk-dev)");
            return None;
        };
        let mut wire = Wire(child, prefix);
        let log = || text(&std::fs::read(dir.join("testpmd.log")).unwrap());
        let began = Instant::now();
        while !log().contains(ready) && !dir.join(ready).exists() {
            let ended = wire.0.try_wait().unwrap().is_some();
            assert!(!ended && began.elapsed() < Duration::from_secs(60), "dpdk-testpmd: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(wire)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        // What is killed leaves it behind; of root's this is the place.
        let _ = std::fs::remove_dir_all(Path::new("/run/dpdk").join(&self.1));
    }
}

/// Their vhost ports serve, with `their` queues, of which `served` are forwarded; ours are virtio-user ports.
fn vhost_wire(dir: &Path, their: u32, served: u32) -> Option<(Wire, [String; 2])> {
    let socket = |i: u32| dir.join(format!("v{i}")).display().to_string();
    let theirs = [0, 1].map(|i| format!("net_vhost{i},iface={},queues={their}", socket(i)));
    let wire = Wire::start(dir, theirs, served, "packet forwarding")?;
    Some((wire, [0, 1].map(|i| format!("net_virtio_user{i},path={}", socket(i)))))
}

#[test]
fn a_wire_of_testpmd_keeps_the_queue_whoever_of_the_two_is_virtio() {
    let dir = tempfile::tempdir().unwrap();
    let Some((wire, ours)) = vhost_wire(dir.path(), 2, 2) else { return };
    let path = profile(dir.path(), [&ours[0], &ours[1]], 2, 3, STRAIGHT);
    all_at_home(&run_into(&dir.path().join("virtio"), &path, &[], 0), 3);
    drop(wire);
    // Theirs serve the sockets, and wait there for our vhost ports.
    let socket = |i: u32| dir.path().join(format!("u{i}")).display().to_string();
    let theirs =
        [0, 1].map(|i| format!("net_virtio_user{i},path={},server=1,queues=2,queue_size=1024", socket(i)));
    let wire = Wire::start(dir.path(), theirs, 2, "u0").unwrap();
    let ours = [0, 1].map(|i| format!("net_vhost{i},iface={},client=1", socket(i)));
    let path = profile(dir.path(), [&ours[0], &ours[1]], 2, 3, STRAIGHT);
    all_at_home(&run_into(&dir.path().join("vhost"), &path, &[], 0), 3);
    drop(wire);
}

#[test]
fn queues_that_lead_nowhere_are_found_before_the_first_frame() {
    for their in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let Some((_wire, ours)) = vhost_wire(dir.path(), their, 1) else { return };
        let path = profile(dir.path(), [&ours[0], &ours[1]], 2, 1, STRAIGHT);
        let out = dir.path().join("out");
        let o = rankstorm(&["run".as_ref(), path.as_os_str(), "--out".as_ref(), out.as_os_str()]);
        let said = text(&o.stderr);
        assert_eq!(o.status.code(), Some(2), "{their}: {said}");
        assert!(said.contains("what is sent on queue 1 does not arrive, on 0 it does"), "{their}: {said}");
        assert!(said.contains("--rxq") && said.contains("queues = 1"), "{their}: {said}");
    }
}

#[test]
fn a_wire_that_is_killed_ends_the_run_with_what_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let Some((wire, ours)) = vhost_wire(dir.path(), 2, 2) else { return };
    // Half a minute of it at least.
    let path = profile(dir.path(), [&ours[0], &ours[1]], 2, 3_000, STRAIGHT);
    let out = dir.path().join("out");
    let mut run = Command::new(env!("CARGO_BIN_EXE_rankstorm"))
        .args(["run".as_ref(), path.as_os_str(), "--quiet".as_ref(), "--out".as_ref(), out.as_os_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    // Preflight is over when workers have come.
    let workers = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", run.id())).into_iter().flatten().flatten();
        let names = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("comm")).ok());
        names.filter(|n| n.trim() == "rankstorm").count().saturating_sub(1)
    };
    while workers() == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "no workers after a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(1_500));
    drop(wire);
    let killed = Instant::now();
    let code = run.wait().unwrap().code();
    assert!(killed.elapsed() < Duration::from_secs(20), "{:?}", killed.elapsed());
    assert_eq!(code, Some(1));
    let r: RunReport = files::read(&out).unwrap();
    assert!(!r.complete && r.classes[0].arrivals > 0, "{:?}", r.missing);
    let down = r.tester.events.iter().filter(|e| e.contains("link down")).count();
    assert_eq!(down, 2, "{:?}", r.tester.events);
}
