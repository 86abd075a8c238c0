//! `veth`: frames into a packet socket on a veth pair, beside every generator that sends on one, in turns.
//!
//! The pair lives in a namespace of its own, which ends with the process that has it. What is sent is thrown away at the
//! far end before the kernel looks at it. The kernel does nearly all of the work, in the sender's time: so all are
//! counted by the interface, and measured per CPU second of the thread that sends.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use super::testpmd::{self, Sample, Testpmd};
use super::{Figure, Peer, ROUNDS, Rounds, Unit};
use crate::plan::device::DeviceSpec;
use crate::plan::{Mode, Plan};
use crate::profile::{self, Overrides};
use crate::run::{self, Options};
use crate::units::{Rate, Span};
use crate::workload::config::Load;

/// Frame lengths with FCS, as in `ports`.
const SIZES: [(&str, u16); 3] = [("64", 62), ("1086", 1_086), ("4158", 4_158)];
const QPS: u32 = 1_024;
/// How long a peer is left alone before it is looked at, and how long it is looked at.
const SETTLE: Duration = Duration::from_millis(1_500);
const LOOK: Duration = Duration::from_millis(1_500);
/// Nominal length of our runs.
const LENGTH: Span = Span::from_ms(1_500);
/// Frames in the capture that is replayed.
const CAPTURED: usize = 64;

const LAB: &str = "mount -t sysfs none /sys && ip link set lo up && ip link add a0 type veth peer name b0 && \
    sysctl -qw net.ipv6.conf.a0.disable_ipv6=1 net.ipv6.conf.b0.disable_ipv6=1 && \
    ip link set a0 mtu 9000 up && ip link set b0 mtu 9000 up && ip addr add 198.18.0.2/24 dev b0 && \
    tc qdisc add dev b0 clsact && tc filter add dev b0 ingress protocol ip bpf da bytecode '1,6 0 0 2' && exec \"$0\" bench veth-inside";

/// Makes the namespace and measures in it.
pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let us = std::env::current_exe().context("our own program")?;
    let out = Command::new("unshare")
        .args(["-rnm", "sh", "-c", LAB])
        .arg(us)
        .stderr(Stdio::inherit())
        .output()
        .context("unshare (util-linux) could not be started")?;
    let text = String::from_utf8_lossy(&out.stdout);
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("veth/")).collect();
    if lines.is_empty() || !out.status.success() {
        let why =
            text.lines().last().unwrap_or("no namespace, or no ip and tc (Debian: apt-get install iproute2)");
        bail!("nothing was measured on veth ({}): {why}", out.status);
    }
    let none = || Figure::new("", Unit::Frames, Rounds::from(Vec::new()), Peer::Missing(String::new()));
    Ok(lines.iter().map(|l| Figure { said: Some((*l).to_owned()), ..none() }).collect())
}

/// Measures on a0 of the namespace this process is in.
pub(super) fn inside() -> anyhow::Result<Vec<Figure>> {
    if !Path::new("/sys/class/net/a0").exists() {
        bail!("there is no interface a0 here: this is a part of `bench veth`, which makes it");
    }
    let scratch = std::env::temp_dir().join(format!("rankstorm-veth-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("{}", scratch.display()))?;
    let done = measure(&scratch);
    let _ = fs::remove_dir_all(&scratch);
    done
}

fn measure(scratch: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    // The longest frames first: DPDK's memory cannot grow on ordinary pages.
    for (name, size) in SIZES.into_iter().rev() {
        let frame = frame(size - 4);
        let peers = peers(scratch, &frame)?;
        let plan = plan(size)?;
        let mut ours = Vec::new();
        let mut theirs = vec![Vec::new(); peers.len()];
        for _ in 0..ROUNDS {
            let result = run::execute(&plan, Options::new(Mode::Ports))?;
            if !result.tester.trustworthy {
                bail!("{}", result.tester.why.join("; "));
            }
            let cpu_s: f64 = result.tester.workers.iter().map(|w| w.cpu_s).sum();
            ours.push(result.tester.ports.iter().map(|p| p.tx_frames).sum::<u64>() as f64 / 1e6 / cpu_s);
            for (peer, theirs) in peers.iter().zip(&mut theirs) {
                if let Some(start) = &peer.start {
                    theirs.push(watch(peer.name, start()?)? / 1e6);
                }
            }
        }
        let ours = Rounds::from(ours);
        for (peer, theirs) in peers.iter().zip(theirs) {
            let beside = match peer.start {
                Some(_) => Peer::measured(&format!("{}, per CPU s", peer.name), &Rounds::from(theirs)),
                None => Peer::Missing(format!("{} is not installed ({})", peer.name, peer.package)),
            };
            figures.push(Figure::new(format!("veth/{name}"), Unit::Frames, ours.clone(), beside));
        }
    }
    Ok(figures)
}

/// Port 0 is a0; the kernel answers for rank 1.
fn plan(size: u16) -> anyhow::Result<Plan> {
    let text = "schema = 1\nname = \"bench-veth\"\n[run]\non = \"ports\"\nlimit = \"60 s\"\nstall_max = \"30 s\"\nworkers = 1\n\
                [[port]]\ndevice = \"a0\"\nrate = \"800G\"\n[[port]]\ndevice = \"net_null0\"\nrate = \"800G\"\n\
                [[stream]]\nfrom = 0\nto = 1\nsize = 64\nload = \"10%\"\nduration = \"10 s\"\n";
    let mut plan = profile::from_str("built-in", text, &Overrides::default())?;
    plan.limit = LENGTH;
    plan.hosts.truncate(1);
    plan.lab.ports.truncate(1);
    let host = &mut plan.hosts[0];
    let (Some(stream), Some(to)) = (host.streams.first().cloned(), host.stream_to.first().copied()) else {
        bail!("the built-in profile has no stream");
    };
    host.rate = Rate::gbps(8_000);
    (host.streams, host.stream_to) = (0..QPS)
        .map(|i| {
            let (mut s, mut t) = (stream.clone(), to);
            (s.sizes, s.load) = (vec![(size, 1)], Load::Fps(1e10 / f64::from(QPS)));
            (t.index, t.sport) = (i, 0xc000 | (i & 0x3fff) as u16);
            (s, t)
        })
        .unzip();
    Ok(plan)
}

/// A frame like ours: UDP from a rank to a rank, so many bytes without FCS.
fn frame(len: u16) -> Vec<u8> {
    let mut f = vec![0x5a; usize::from(len)];
    f[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    let [a, b] = (len - 14).to_be_bytes();
    f[14..34].copy_from_slice(&[0x45, 0, a, b, 0, 0, 0x40, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2]);
    let [a, b] = (len - 34).to_be_bytes();
    f[34..42].copy_from_slice(&[0xc0, 0, 0x12, 0xb7, a, b, 0, 0]);
    f
}

type Start = Box<dyn Fn() -> anyhow::Result<Child>>;

/// Another generator; `start` is `None` where it is not installed.
struct Other {
    name: &'static str,
    package: &'static str,
    start: Option<Start>,
}

fn peers(scratch: &Path, frame: &[u8]) -> anyhow::Result<Vec<Other>> {
    let conf = scratch.join(format!("{}.trafgen", frame.len()));
    let bytes: Vec<String> = frame.iter().map(|b| format!("0x{b:02x}")).collect();
    fs::write(&conf, format!("{{ {} }}\n", bytes.join(", ")))?;
    let pcap = scratch.join(format!("{}.pcap", frame.len()));
    capture(&pcap, frame)?;
    let len = frame.len() as u16;
    // The ring that ours receives by, which suits it best.
    let (device, _) = DeviceSpec::parse("net_af_packet0,iface=a0")?.arguments(len.into(), 1)?;
    let testpmd = Testpmd::find().map(|t| Box::new(move || t.start("txonly", &device, len)) as Start);
    let other = |name: &'static str, args: Vec<String>| {
        let program = which(name)?;
        Some(Box::new(move || {
            let child = Command::new("timeout")
                .args(["--signal=INT", "--kill-after", "2", "5"])
                .arg(&program)
                .args(&args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            child.context("timeout (coreutils) could not be started")
        }) as Start)
    };
    let text = |list: &[&str], file: &Path| {
        list.iter().map(|s| (*s).to_owned()).chain([file.display().to_string()]).collect::<Vec<_>>()
    };
    Ok(vec![
        Other { name: "dpdk-testpmd txonly", package: "Debian: apt-get install dpdk-dev", start: testpmd },
        Other {
            name: "trafgen",
            package: "Debian: apt-get install netsniff-ng",
            start: other("trafgen", text(&["-o", "a0", "-P", "1", "-t", "0", "-J", "-C", "-i"], &conf)),
        },
        Other {
            name: "tcpreplay",
            package: "Debian: apt-get install tcpreplay",
            start: other("tcpreplay", text(&["-q", "-K", "-t", "--loop=0", "-i", "a0"], &pcap)),
        },
    ])
}

fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| p.is_file())
}

/// A classic pcap file of [`CAPTURED`] copies.
fn capture(path: &Path, frame: &[u8]) -> anyhow::Result<()> {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        out.write_all(&word.to_le_bytes())?;
    }
    for i in 0..CAPTURED as u32 {
        for word in [0, i, frame.len() as u32, frame.len() as u32] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(frame)?;
    }
    fs::write(path, out).with_context(|| format!("{}", path.display()))
}

/// Packets per CPU second of the thread of `child` that used most of it.
fn watch(name: &str, mut child: Child) -> anyhow::Result<f64> {
    let sample = |pid: u32| Sample { packets: sent(), threads: testpmd::threads_below(pid) };
    // Whoever waits for its output to be read stands still otherwise.
    let reader = child
        .stdout
        .take()
        .map(|mut out| std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink())));
    std::thread::sleep(SETTLE);
    let first = sample(child.id());
    std::thread::sleep(LOOK);
    let last = sample(child.id());
    let status = child.wait().with_context(|| name.to_owned())?;
    drop(reader);
    testpmd::rate(&first, &last)
        .with_context(|| format!("{name} sent nothing on veth and ended with {status}: try it by hand"))
}

/// Packets that a0 has sent.
fn sent() -> u64 {
    let text = fs::read_to_string("/sys/class/net/a0/statistics/tx_packets").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}
