//! dpdk-testpmd as a child process: its flow generator on a ring that leads back to it, timed from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

use crate::sys;

/// What a figure says when there is no such program.
pub(super) const NOT_INSTALLED: &str = "dpdk-testpmd is not installed (Debian: apt-get install dpdk-dev)";
const PROGRAM: &str = "dpdk-testpmd";
/// Seconds after which `timeout` ends it, and after which it is killed if it does not listen.
const SECONDS: [&str; 2] = ["4", "2"];
/// A frame of 1,024 B payload with its headers, as our frames are.
const FRAME_BYTES: u16 = 1_082;

/// A testpmd that can be started.
#[derive(Clone, Debug)]
pub(super) struct Testpmd(PathBuf);

/// Packets sent since the start, and CPU nanoseconds of every thread.
pub(super) struct Sample {
    pub(super) packets: u64,
    pub(super) threads: BTreeMap<String, u64>,
}

impl Testpmd {
    /// The first one in PATH.
    pub(super) fn find() -> Option<Testpmd> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join(PROGRAM)).find(|p| p.is_file()).map(Testpmd)
    }

    /// [`Testpmd::speed`] of its flow generator on a ring that leads back to it.
    pub(super) fn flowgen(&self) -> anyhow::Result<f64> {
        self.speed("flowgen", "net_ring0", FRAME_BYTES)
    }

    /// Packets per CPU second of its forwarding thread, in forwarding mode `mode` on a virtual device, with frames of so
    /// many bytes (without FCS). Takes some four seconds; `timeout` (coreutils) ends it whatever
    /// becomes of us.
    pub(super) fn speed(&self, mode: &str, device: &str, frame_bytes: u16) -> anyhow::Result<f64> {
        let mut child = self.start(mode, device, frame_bytes)?;
        let samples = child.stdout.take().map(|out| read(BufReader::new(out), child.id()));
        let status = child.wait().context(PROGRAM)?;
        let samples = samples.unwrap_or_default();
        // The first one falls into the start.
        let (Some(first), Some(last)) = (samples.get(1), samples.last()) else {
            bail!("{PROGRAM} showed no statistics and ended with {status}: try it by hand");
        };
        rate(first, last).with_context(|| format!("{PROGRAM} sent nothing between two of its statistics"))
    }

    /// Starts it; `timeout` ends it after [`SECONDS`].
    pub(super) fn start(&self, mode: &str, device: &str, frame_bytes: u16) -> anyhow::Result<Child> {
        let cores = sys::affinity::cores();
        let (first, last) = (cores.first().unwrap_or(&0), cores.last().unwrap_or(&0));
        let lcores = format!("0@{first},1@{last}");
        // Packet sockets want buffers for a whole slot, however short the frames.
        let slot = device.split_once("framesz=").and_then(|(_, s)| s.split(',').next()?.parse().ok());
        let room = slot.unwrap_or(u32::from(frame_bytes)).max(1_920) + 256;
        let prefix = format!("rankstorm-bench-{}", std::process::id());
        Command::new("timeout")
            .args(["--signal=INT", "--kill-after", SECONDS[1], SECONDS[0]])
            .arg(&self.0)
            .args(["--lcores", &lcores, "--no-huge", "-m", "128", "--no-shconf", "--file-prefix", &prefix])
            .args(["--no-pci", "--no-telemetry", "--log-level=error", "--vdev", device, "--"])
            // The size of a buffer has to come before that of a frame, or frames stay at 64 B.
            .args(["--mbuf-size", &room.to_string()])
            .args([&format!("--forward-mode={mode}"), "--total-num-mbufs=8192", "--no-mlockall"])
            .args(["--txpkts", &frame_bytes.to_string(), "--stats-period", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("timeout (coreutils) could not be started")
    }
}

/// Reads the statistics as they come; CPU times are taken at the same moment. `timeout` is the process `parent`.
fn read(lines: impl BufRead, parent: u32) -> Vec<Sample> {
    let mut samples = Vec::new();
    for line in lines.lines().map_while(Result::ok) {
        // The summary at the end has a TX-total.
        if let Some(packets) = packets(&line).filter(|_| !line.contains("TX-total")) {
            samples.push(Sample { packets, threads: threads_below(parent) });
        }
    }
    samples
}

/// 51238496 from "  TX-packets: 51238496   TX-errors: 0          TX-bytes:  0".
fn packets(line: &str) -> Option<u64> {
    line.trim_start().strip_prefix("TX-packets:")?.split_ascii_whitespace().next()?.parse().ok()
}

/// Packets per CPU second of the thread that used most CPU between two samples: the one that forwards.
pub(super) fn rate(first: &Sample, last: &Sample) -> Option<f64> {
    let used = |(tid, ns): (&String, &u64)| ns.checked_sub(*first.threads.get(tid)?);
    let busiest = last.threads.iter().filter_map(used).max().filter(|ns| *ns > 0)?;
    let packets = last.packets.checked_sub(first.packets).filter(|n| *n > 0)?;
    Some(packets as f64 * 1e9 / busiest as f64)
}

/// CPU nanoseconds of every thread of every process that comes from `parent`.
pub(super) fn threads_below(parent: u32) -> BTreeMap<String, u64> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let mut threads = BTreeMap::new();
    for child in children.split_ascii_whitespace().filter_map(|c| c.parse().ok()) {
        let tasks = fs::read_dir(format!("/proc/{child}/task")).into_iter().flatten().flatten();
        threads.extend(tasks.filter_map(|t| Some((t.file_name().to_str()?.to_owned(), cpu_ns(&t.path())?))));
        threads.extend(threads_below(child));
    }
    threads
}

/// The first number of `schedstat`: nanoseconds on a core.
fn cpu_ns(task: &Path) -> Option<u64> {
    fs::read_to_string(task.join("schedstat")).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As testpmd 22.11 writes it, columns and all.
    const SHOWN: &str = "\
Port statistics ====================================
  ######################## NIC statistics for port 0  ########################
  RX-packets: 51238496   RX-missed: 0          RX-bytes:  0
  RX-errors: 0
  RX-nombuf:  0
  TX-packets: 51238496   TX-errors: 0          TX-bytes:  0

  Throughput (since last show)
  Tx-pps:     51228116          Tx-bps:            0
  ############################################################################
  TX-packets: 96611520   TX-errors: 0          TX-bytes:  0
  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++
  TX-packets: 301958336      TX-dropped: 0             TX-total: 301958336
";

    #[test]
    fn statistics_are_read_and_the_summary_is_not() {
        let samples = read(SHOWN.as_bytes(), std::process::id());
        let packets: Vec<u64> = samples.iter().map(|s| s.packets).collect();
        assert_eq!(packets, [51_238_496, 96_611_520]);
    }

    #[test]
    fn the_busiest_thread_is_the_one_that_forwards() {
        let sample = |packets, busy: u64| Sample {
            packets,
            threads: [("10".to_owned(), 900 + busy / 1_000), ("12".to_owned(), busy)].into(),
        };
        assert_eq!(rate(&sample(1_000, 0), &sample(61_000_000, 1_000_000_000)), Some(60_999_000.0));
        assert_eq!(rate(&sample(1_000, 0), &sample(1_000, 1_000_000_000)), None);
    }
}
