//! `ports`: runs on devices that need no NIC, each beside a peer on the same device, in turns.
//!
//! Ours are whole runs of `--on ports`: hosts, ports and workers as they are, from a profile; no generator of the bench's
//! own. A figure is frames per TSC second in which the worker moved frames; turns in which the kernel gave the core to
//! others are left out. Peers are measured per CPU second of the thread that forwards.

use std::sync::Arc;

use anyhow::bail;

use super::testpmd::{NOT_INSTALLED, Testpmd};
use super::{Figure, Peer, ROUNDS, Rounds, Unit};
use crate::host::Host;
use crate::plan::{Mode, Plan};
use crate::profile::{self, Overrides};
use crate::run::result::RunResult;
use crate::run::{self, Options};
use crate::units::{RankId, Rate, Span};
use crate::workload::config::Load;
use crate::workload::schedule::{Op, OpKind, Schedule};

/// Frame lengths with FCS of frames of 0, 1,024 and 4,096 B of payload. The first is 62 B as it is handed over; a MAC
/// makes it 64.
const SIZES: [(&str, u16); 3] = [("64", 62), ("1086", 1_086), ("4158", 4_158)];
/// Queue pairs of most figures.
const QPS: u32 = 1_024;
/// Queue pairs that are compared.
const CROWDS: [u32; 4] = [64, 1_024, 16_384, 65_536];
/// The same traffic in RC: path MTU, and length of its full frames. 256 is the smallest there is.
const MTUS: [(&str, u16); 3] = [("318", 256), ("1086", 1_024), ("4158", 4_096)];
/// A rate that no core reaches: one picosecond per byte.
const BEYOND: Rate = Rate::gbps(8_000);
/// More frames per second than any core makes.
const BEYOND_FPS: f64 = 1e10;
/// Nominal length of a run.
const LENGTH: Span = Span::from_ms(400);
/// Bytes each queue pair of the closed loop has to write.
const MESSAGE: u64 = 64 << 20;
/// Memory of DPDK for two ports and frames of 4,158 B, twice over.
#[cfg(feature = "dpdk")]
const EAL_BYTES: u64 = 192 << 20;
/// Preamble and gap.
const L1_BYTES: f64 = 20.0;
/// Where frames of SEND ONLY end.
const NULL: [&str; 2] = ["net_null0,no-rx=1", "net_null1,no-rx=1"];

fn profile(devices: [&str; 2], ranks: u32, traffic: &str, overrides: &Overrides) -> anyhow::Result<Plan> {
    let port = |d: &str| format!("[[port]]\ndevice = \"{d}\"\nrate = \"800G\"\nranks_per_port = {ranks}\n");
    let text = format!(
        "schema = 1\nname = \"bench-ports\"\n[run]\non = \"ports\"\nlimit = \"60 s\"\nstall_max = \"30 s\"\nworkers = 1\n{}{}{traffic}",
        port(devices[0]),
        port(devices[1])
    );
    let mut plan = profile::from_str("built-in", &text, overrides)?;
    plan.limit = LENGTH;
    Ok(plan)
}

/// Both ports send frames of `size` bytes to nobody, over `qps` queue pairs each, of which each wants `load` frames per second.
fn transmit(devices: [&str; 2], size: u16, qps: u32, load: impl Fn(u32) -> f64) -> anyhow::Result<Plan> {
    transmit_ranks(devices, 1, size, qps, load)
}

/// The same with several ranks behind each port, which have the queue pairs in turn.
fn transmit_ranks(
    devices: [&str; 2],
    ranks: u32,
    size: u16,
    qps: u32,
    load: impl Fn(u32) -> f64,
) -> anyhow::Result<Plan> {
    let stream = |port: u32| {
        format!(
            "[[stream]]\nfrom = {}\nto = {}\nsize = 64\nload = \"10%\"\nduration = \"10 s\"\n",
            port * ranks,
            (1 - port) * ranks
        )
    };
    let mut plan = profile(devices, ranks, &(stream(0) + &stream(1)), &Overrides::default())?;
    for (h, host) in plan.hosts.iter_mut().enumerate() {
        let (Some(stream), Some(to)) = (host.streams.first().cloned(), host.stream_to.first().copied())
        else {
            bail!("the built-in profile has no stream at port {h}");
        };
        host.rate = BEYOND;
        let (mut streams, mut peers) = (Vec::new(), Vec::new());
        // Queue pairs that started at different times: those that start at once queue behind each other for good.
        let fps = load(qps);
        let apart = 1e12 / fps / f64::from(qps);
        for i in 0..qps {
            let (mut s, mut t) = (stream.clone(), to);
            (s.sizes, s.load) = (vec![(size, 1)], Load::Fps(fps));
            s.start += Span((apart * f64::from(i)) as u64);
            s.from = RankId(h as u32 * ranks + i % ranks);
            (t.index, t.sport) = (h as u32 * qps + i, 0xc000 | (i & 0x3fff) as u16);
            streams.push(s);
            peers.push(t);
        }
        (host.streams, host.stream_to) = (streams, peers);
    }
    Ok(plan)
}

/// As [`transmit`] with the first port alone.
fn transmit_one(device: &str, size: u16, qps: u32, load: impl Fn(u32) -> f64) -> anyhow::Result<Plan> {
    Ok(alone(transmit([device, NULL[1]], size, qps, load)?))
}

/// The first port of a plan and nothing else.
fn alone(mut plan: Plan) -> Plan {
    plan.hosts.truncate(1);
    plan.lab.ports.truncate(1);
    plan
}

fn beyond(qps: u32) -> f64 {
    BEYOND_FPS / f64::from(qps)
}

/// Port 0 writes to port 1 over a cable of rings, [`QPS`] queue pairs, an ACK for every fourth frame.
fn closed_loop(mtu: u16) -> anyhow::Result<Plan> {
    closed_loop_ranks(mtu, 1)
}

/// The same from so many ranks of port 0, which share the queue pairs, to as many of port 1.
fn closed_loop_ranks(mtu: u16, ranks: u32) -> anyhow::Result<Plan> {
    let qps = QPS / ranks;
    let traffic = format!(
        "[class.roce]\ndscp = 3\nmtu = {mtu}\n[[workload]]\nkind = \"replay\"\nfile = \"writes\"\nclass = \"roce\"\n\
         qps_per_pair = {qps}\nrate_control = \"none\"\nack_every = 4\n"
    );
    // One message per queue pair, far more than a run can send.
    let send = |from, tag| Op::new(OpKind::Send { peer: RankId(ranks + from), bytes: MESSAGE, tag });
    let recv = |to, tag| Op::new(OpKind::Recv { peer: RankId(to), bytes: MESSAGE, tag });
    let sends = (0..ranks).map(|i| (0..qps).map(|tag| send(i, tag)).collect());
    let receives = (0..ranks).map(|i| (0..qps).map(|tag| recv(i, tag)).collect());
    let ranks_of = sends.chain(receives).collect();
    let writes = Arc::new(Schedule { ranks: ranks_of, ..Schedule::default() });
    let overrides = Overrides { schedules: vec![("writes".to_owned(), writes)], ..Overrides::default() };
    let mut plan = profile(["loop:bench", "loop:bench"], ranks, &traffic, &overrides)?;
    plan.hosts.iter_mut().for_each(|h| h.rate = BEYOND);
    Ok(plan)
}

fn execute(plan: &Plan) -> anyhow::Result<RunResult> {
    let result = run::execute(plan, Options::new(Mode::Ports))?;
    if !result.tester.trustworthy {
        bail!("{}: {}", plan.name, result.tester.why.join("; "));
    }
    Ok(result)
}

/// Millions of frames sent per busy second, all workers together.
fn speed(result: &RunResult) -> f64 {
    let sent: u64 = result.tester.ports.iter().map(|p| p.tx_frames).sum();
    let workers = &result.tester.workers;
    // Every port of a worker is busy while one is.
    let busy = workers.iter().map(|w| w.busy_s).sum::<f64>() / workers.len().max(1) as f64;
    sent as f64 / 1e6 / busy
}

fn testpmd_or(peer: &Option<Testpmd>, name: &str, theirs: Vec<f64>) -> Peer {
    match peer {
        Some(_) => Peer::measured(name, &Rounds::from(theirs)),
        None => Peer::Missing(NOT_INSTALLED.into()),
    }
}

/// Starts DPDK with what the largest of the runs needs: on ordinary pages it cannot grow.
#[cfg(feature = "dpdk")]
fn prepare() -> anyhow::Result<()> {
    // Before EAL, which pins whoever asks later.
    crate::sys::affinity::cores();
    let options = crate::dpdk::EalOptions { memory_bytes: EAL_BYTES, ..Default::default() };
    crate::dpdk::Eal::init(options)?;
    Ok(())
}

/// Nothing to start: runs say that there is no DPDK.
#[cfg(not(feature = "dpdk"))]
fn prepare() -> anyhow::Result<()> {
    Ok(())
}

/// Transmit to nobody, by frame size.
pub(super) fn null() -> anyhow::Result<Vec<Figure>> {
    prepare()?;
    let peer = Testpmd::find();
    let mut ours: [Vec<f64>; SIZES.len()] = Default::default();
    let mut theirs = ours.clone();
    let mut paced = ours.clone();
    for _ in 0..ROUNDS {
        for (i, (_, size)) in SIZES.into_iter().enumerate() {
            let speed_beyond = speed(&execute(&transmit_one(NULL[0], size, QPS, beyond)?)?);
            ours[i].push(speed_beyond);
            // Nine tenths of what it can, so that every queue pair waits for its time.
            let fps = speed_beyond * 0.9e6;
            let plan = transmit_one(NULL[0], size, QPS, |qps| fps / f64::from(qps))?;
            paced[i].push(speed(&execute(&plan)?));
            if let Some(testpmd) = &peer {
                theirs[i].push(testpmd.speed("txonly", "net_null0", size - 4)? / 1e6);
            }
        }
    }
    let mut figures = Vec::new();
    for ((i, (name, size)), (ours, paced)) in SIZES.into_iter().enumerate().zip(ours.into_iter().zip(paced)) {
        // On the wire the shortest frame is 64 B.
        let bits = (f64::from(size.max(64)) + L1_BYTES) * 8.0 / 1e3;
        let l1 = |r: &[f64]| r.iter().map(|m| m * bits).collect::<Vec<_>>();
        let beside = |theirs| testpmd_or(&peer, "dpdk-testpmd txonly, per CPU s", theirs);
        let rounds = Rounds::from(ours.clone());
        let at_once = Peer::measured("all at once", &rounds);
        figures.push(Figure::new(
            format!("ports/null-{name}"),
            Unit::Frames,
            rounds,
            beside(theirs[i].clone()),
        ));
        let (ours, theirs) = (Rounds::from(l1(&ours)), beside(l1(&theirs[i])));
        figures.push(Figure::new(format!("ports/null-{name}-L1"), Unit::Gigabits, ours, theirs));
        let name = format!("ports/null-{name}-paced");
        figures.push(Figure::new(name, Unit::Frames, Rounds::from(paced), at_once));
    }
    Ok(figures)
}

/// The same by number of queue pairs.
pub(super) fn crowds() -> anyhow::Result<Vec<Figure>> {
    prepare()?;
    let (_, size) = SIZES[1];
    let plans: Vec<Plan> =
        CROWDS.into_iter().map(|qps| transmit_one(NULL[0], size, qps, beyond)).collect::<Result<_, _>>()?;
    let mut ours: [Vec<f64>; CROWDS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for (plan, ours) in plans.iter().zip(&mut ours) {
            ours.push(speed(&execute(plan)?));
        }
    }
    let few = Rounds::from(ours[0].clone());
    let line = |(qps, ours): (u32, Vec<f64>)| {
        let peer = match qps {
            64 => Peer::Missing("no peer".into()),
            _ => Peer::measured("same, 64 queue pairs", &few),
        };
        Figure::new(format!("ports/null-1086-qps-{qps}"), Unit::Frames, Rounds::from(ours), peer)
    };
    let mut figures: Vec<Figure> = CROWDS.into_iter().zip(ours).map(line).collect();
    let bytes = |b: u64| Rounds::from(vec![b as f64]);
    let none = || Peer::Missing("by size of its rows".into());
    figures.push(Figure::new(
        "ports/memory-per-stream",
        Unit::Bytes,
        bytes(Host::bytes_per_stream()),
        none(),
    ));
    let rank = Host::bytes_per_qp() + Host::bytes_per_rank();
    figures.push(Figure::new("ports/memory-per-rank-1qp", Unit::Bytes, bytes(rank), none()));
    Ok(figures)
}

/// Data out and ACKs back through a cable of rings, both ends ours: every frame is counted where it is sent.
pub(super) fn rings() -> anyhow::Result<Vec<Figure>> {
    prepare()?;
    let peer = Testpmd::find();
    let mut ours: [Vec<f64>; MTUS.len()] = Default::default();
    let mut theirs = Vec::new();
    for _ in 0..ROUNDS {
        for ((_, mtu), ours) in MTUS.into_iter().zip(&mut ours) {
            ours.push(speed(&execute(&closed_loop(mtu)?)?));
        }
        if let Some(testpmd) = &peer {
            theirs.push(testpmd.flowgen()? / 1e6);
        }
    }
    let line = |((name, _), ours): ((&str, u16), Vec<f64>)| {
        let peer = testpmd_or(&peer, "dpdk-testpmd flowgen on net_ring, per CPU s", theirs.clone());
        Figure::new(format!("ports/loop-{name}+acks"), Unit::Frames, Rounds::from(ours), peer)
    };
    Ok(MTUS.into_iter().zip(ours).map(line).collect())
}

/// Lateness and long-run rate at 100G.
pub(super) fn pacing() -> anyhow::Result<Vec<Figure>> {
    prepare()?;
    let mut figures = Vec::new();
    for (name, size, qps) in
        [("1086-qps-1", 1_086, 1), ("1086-qps-1024", 1_086, 1_024), ("4158-qps-1024", 4_158, 1_024)]
    {
        let rate = Rate::gbps(100);
        let most = rate.bits_per_s as f64 / 8.0 / (f64::from(size) + L1_BYTES);
        let mut plan = transmit_one(NULL[0], size, qps, |qps| 0.9 * most / f64::from(qps))?;
        plan.hosts[0].rate = rate;
        let (mut median, mut tail, mut off) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let t = execute(&plan)?.tester;
            let [p50, p99, _] = t.lateness_ps.unwrap_or_default().map(|ps| ps as f64 / 1e3);
            median.push(p50);
            tail.push(p99);
            // What the port sent by the counter, corrected by how that ran against the clock.
            let sent = t.ports.first().and_then(|p| p.rate_error).unwrap_or(f64::NAN);
            off.push((sent * 1e6 + t.tsc_drift_ppm.unwrap_or_default()[0]).abs());
        }
        let aim = |ns: f64| Peer::Is("aim".into(), ns);
        let p50 = if qps == 1 { aim(30.0) } else { Peer::Missing("no aim".into()) };
        figures.push(Figure::new(
            format!("ports/late-p50-{name}"),
            Unit::Nanoseconds,
            Rounds::from(median),
            p50,
        ));
        let none = Peer::Missing("no aim".into());
        figures.push(Figure::new(
            format!("ports/late-p99-{name}"),
            Unit::Nanoseconds,
            Rounds::from(tail),
            none,
        ));
        figures.push(Figure::new(
            format!("ports/rate-off-{name}"),
            Unit::Ppm,
            Rounds::from(off),
            aim(1_000.0),
        ));
    }
    Ok(figures)
}

/// Two ports that have nothing to do with each other, on one worker and on two.
pub(super) fn workers() -> anyhow::Result<Vec<Figure>> {
    prepare()?;
    let (name, size) = SIZES[1];
    let mut plan = transmit(NULL, size, QPS, beyond)?;
    let (mut one, mut two, mut spread) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plan.lab.workers = Some(1);
        one.push(speed(&execute(&plan)?));
        plan.lab.workers = Some(2);
        let result = execute(&plan)?;
        let late: Vec<u64> = result.tester.workers.iter().filter_map(|w| w.started_late_ps).collect();
        if late.len() < 2 {
            bail!("two workers need two cores");
        }
        two.push(speed(&result));
        spread.push((late.iter().max().unwrap_or(&0) - late.iter().min().unwrap_or(&0)) as f64 / 1e3);
    }
    let one = Rounds::from(one);
    let twice = Peer::Is("twice one worker".into(), 2.0 * one.median());
    let none = || Peer::Missing("no peer".into());
    Ok(vec![
        Figure::new(format!("ports/null-{name}-workers-1"), Unit::Frames, one, none()),
        Figure::new(format!("ports/null-{name}-workers-2"), Unit::Frames, Rounds::from(two), twice),
        Figure::new("ports/start-spread", Unit::Nanoseconds, Rounds::from(spread), none()),
    ])
}

/// Ports with one queue, with two on one worker, and with two on a worker each: to nobody, and over a cable with ACKs back.
pub(super) fn queues() -> anyhow::Result<Vec<Figure>> {
    prepare()?;
    let (name, size) = SIZES[1];
    let (_, mtu) = MTUS[1];
    let null = alone(transmit_ranks(NULL, 2, size, QPS, beyond)?);
    let mut plans =
        [(format!("null-{name}"), null), (format!("loop-{name}+acks"), closed_loop_ranks(mtu, 2)?)];
    let mut rounds: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..ROUNDS {
        for ((_, plan), rounds) in plans.iter_mut().zip(&mut rounds) {
            for ((queues, workers), rounds) in [(1, 1), (2, 1), (2, 2)].into_iter().zip(rounds) {
                plan.lab.ports.iter_mut().for_each(|p| p.queues = queues);
                plan.lab.workers = Some(workers);
                let result = execute(plan)?;
                if result.tester.workers.len() < usize::from(workers) {
                    bail!("two workers need two cores");
                }
                rounds.push(speed(&result));
            }
        }
    }
    let mut figures = Vec::new();
    for ((name, _), rounds) in plans.into_iter().zip(rounds) {
        let [one, shared, two] = rounds.map(Rounds::from);
        let name = |queues: &str| format!("ports/{name}-queues-{queues}");
        let same = Peer::Is("one queue".into(), one.median());
        let twice = Peer::Is("twice one queue".into(), 2.0 * one.median());
        figures.push(Figure::new(name("1"), Unit::Frames, one, Peer::Missing("no peer".into())));
        figures.push(Figure::new(name("2-workers-1"), Unit::Frames, shared, same));
        figures.push(Figure::new(name("2-workers-2"), Unit::Frames, two, twice));
    }
    Ok(figures)
}
