//! `ports`: runs on devices that need no NIC, each beside a peer on the same device.
//!
//! Ours are whole runs of `--on ports`: hosts, ports and the worker as they are, from a profile. A figure is frames per
//! TSC second in which the worker moved frames; turns in which the kernel gave the core to others are left out. Peers are
//! measured per CPU second of the thread that forwards.

use anyhow::bail;

use super::testpmd::{NOT_INSTALLED, Testpmd};
use super::{Figure, Peer, ROUNDS, Rounds, Unit};
use crate::plan::{Mode, Plan};
use crate::profile::{self, Overrides};
use crate::run::result::RunResult;
use crate::run::{self, Options};
use crate::units::Rate;
use crate::workload::config::Load;

/// Frame lengths with FCS: SEND ONLY with 0, 1,024 and 4,096 B of payload. The first is 62 B as it is handed over; a MAC
/// makes it 64.
const SIZES: [(&str, u16); 3] = [("64", 62), ("1086", 1_086), ("4158", 4_158)];
/// Queue pairs of most figures.
const QPS: u32 = 1_024;

/// A rate that no core reaches: one picosecond per byte.
const BEYOND: Rate = Rate::gbps(8_000);

fn profile(devices: [&str; 2], traffic: &str) -> String {
    let port = |d: &str| format!("[[port]]\ndevice = \"{d}\"\nrate = \"800G\"\n");
    format!(
        "schema = 1\nname = \"bench-ports\"\n[run]\non = \"ports\"\nlimit = \"400 ms\"\nstall_max = \"30 s\"\n{}{}{traffic}",
        port(devices[0]),
        port(devices[1])
    )
}

/// Port 0 sends `size` bytes to nobody over `qps` queue pairs, with so many frames per second together.
fn transmit(device: &str, size: u16, qps: u32, fps: f64) -> anyhow::Result<Plan> {
    let stream = format!("[[stream]]\nfrom = 0\nto = 1\nsize = 64\nload = \"10%\"\nduration = \"1 s\"\n");
    let other = "net_null9,no-rx=1";
    let mut plan = profile::from_str("built-in", &profile([device, other], &stream), &Overrides::default())?;
    // Only the port that sends.
    plan.hosts.truncate(1);
    plan.lab.ports.truncate(1);
    let host = &mut plan.hosts[0];
    host.rate = BEYOND;
    let (Some(stream), Some(to)) = (host.streams.first().cloned(), host.stream_to.first().copied()) else {
        bail!("the built-in profile has no stream");
    };
    let each = fps / f64::from(qps);
    host.streams = (0..qps)
        .map(|i| {
            let mut s = stream.clone();
            s.sizes = vec![(size, 1)];
            s.load = Load::Fps(each);
            // Spread over one gap, as queue pairs that started at different times are.
            s.start += crate::units::Span((f64::from(i) / fps * 1e12) as u64);
            s
        })
        .collect();
    host.stream_to = (0..qps)
        .map(|i| {
            let mut t = to;
            (t.index, t.sport) = (i, 0xc000 | (i & 0x3fff) as u16);
            t
        })
        .collect();
    Ok(plan)
}

fn execute(plan: &Plan) -> anyhow::Result<RunResult> {
    let result = run::execute(plan, Options::new(Mode::Ports))?;
    if !result.tester.trustworthy {
        bail!("{}: {}", plan.name, result.tester.why.join("; "));
    }
    Ok(result)
}

/// Frames per busy second of the worker.
fn speed(result: &RunResult) -> f64 {
    result.tester.workers.iter().map(|w| w.frames as f64 / w.busy_s).sum()
}

pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let peer = Testpmd::find();
    let mut figures = Vec::new();
    for (name, size) in SIZES {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let plan = transmit("net_null0,no-rx=1", size, QPS, 1e10)?;
            let result = execute(&plan)?;
            eprintln!("{name}: {:?}", result.tester.workers);
            ours.push(speed(&result) / 1e6);
            if let Some(testpmd) = &peer {
                theirs.push(testpmd.speed("txonly", "net_null0", size - 4)? / 1e6);
            }
        }
        let peer = match peer {
            Some(_) => Peer::measured("dpdk-testpmd txonly", &Rounds::from(theirs)),
            None => Peer::Missing(NOT_INSTALLED.into()),
        };
        figures.push(Figure::new(format!("ports/null-{name}"), Unit::Frames, Rounds::from(ours), peer));
    }
    Ok(figures)
}
