//! Speed of virtual time: link transmissions per CPU second on three scenarios that were also timed on other simulators.

use std::sync::Arc;

use anyhow::{Context, bail};

use super::{Figure, Peer, Rounds, Unit};
use crate::plan::{Mode, Plan};
use crate::profile::{self, Overrides};
use crate::run::samples::PARTS;
use crate::run::{self, Options};
use crate::units::RankId;
use crate::workload::schedule::{Op, OpKind, Schedule};

const RUNS: usize = 5;

/// 32 senders, 1 MB each, into one port; PFC only. The peers carry 1,000 B of payload in a packet; an RDMA path MTU
/// has no such size, so these frames carry 1,024. Sixteen measured bursts make a run of about 0.3 CPU seconds. Every frame is acknowledged on its own, as theirs are: ACKs count as
/// link transmissions on both sides. Links of 1,000 ns: no FEC, no pipeline.
pub(super) const INCAST: &str = r#"
schema = 1
name = "virtual-s2"
run = { warmup = 1, repeats = 16, gap = "100 us", limit = "10 s", seed = 1 }

[[workload]]
kind = "incast"
senders = 32
message = "1 MB"
class = "roce"
rate_control = "none"
ack_every = 1

[class.roce]
dscp = 3
mtu = 1024

[switch]
preset = "generic-32mib"
buffer = "32 MiB"
alpha = "1/8"
wred = "off"
pipeline = "0 ns"
ports = { count = 33, rate = "100G", cable = "1 us", fec = "none" }
"#;

/// A ring all-reduce over 16 ranks, 8 on each of two leaves, 4:1; DCQCN as in the HPCC simulations. The vector is a
/// quarter of theirs, to keep the run short: a step moves 1 MB, and the fabric is as busy.
const RING: &str = r#"
schema = 1
name = "virtual-ring"
run = { warmup = 0, repeats = 1, gap = "100 us", limit = "10 s", seed = 1 }

[[workload]]
kind = "ring-all-reduce"
ranks = 16
vector = "16 MB"
chunk = "1 MB"
placement = "packed"
class = "roce"
rate_control = "dcqcn:hpcc"
ack_every = 1

[class.roce]
dscp = 3
mtu = 1024

[switch]
preset = "generic-32mib"
buffer = "32 MiB"
alpha = "1/8"
wred = { kmin = "400 kB", kmax = "1600 kB", pmax = 0.2 }
pipeline = "0 ns"

[fabric]
kind = "leaf-spine"
leaves = 2
spines = 2
hosts_per_leaf = 8
host_rate = "100G"
uplink_rate = "100G"
uplinks = 1
cable = "1 us"
"#;

/// Every rank sends to every other one at the same moment: 63 queue pairs on each host, all with data.
const ALL_TO_ALL: &str = r#"
schema = 1
name = "virtual-a2a"
run = { warmup = 0, repeats = 1, gap = "100 us", limit = "10 s", seed = 1 }

[[workload]]
kind = "replay"
file = "all-to-all"
class = "roce"
rate_control = "none"
ack_every = 1

[class.roce]
dscp = 3
mtu = 1024

[switch]
preset = "generic-32mib"
buffer = "32 MiB"
alpha = "1/8"
wred = "off"
pipeline = "0 ns"

[fabric]
kind = "leaf-spine"
leaves = 8
spines = 8
hosts_per_leaf = 8
host_rate = "100G"
uplink_rate = "100G"
uplinks = 1
cable = "1 us"
"#;

const A2A_RANKS: u32 = 64;
const A2A_BYTES: u64 = 256 * 1024;

/// A simulator that was timed on the same scenario: M link transmissions per CPU second, one core, its quietest run.
/// Constants: none of them comes as a package, so they were timed once and not in this run. Where that gave a range, the
/// faster end stands here. See docs/PERFORMANCE.md.
struct Recorded {
    name: &'static str,
    speed: f64,
}

const NS3: &str = "HPCC ns-3 (recorded earlier)";
const HTSIM: &str = "csg-htsim, static thresholds (recorded earlier)";

/// `virtual-s2`, then the same with rate control, beside nothing.
pub(super) fn incast() -> anyhow::Result<Vec<Figure>> {
    let paused = plan(INCAST, Overrides::default())?;
    let mut all =
        figures(&paused, &[Recorded { name: NS3, speed: 0.18 }, Recorded { name: HTSIM, speed: 5.7 }])?;
    all.extend(figures(&plan(&with_dcqcn(INCAST), Overrides::default())?, &[])?);
    Ok(all)
}

/// A profile that only pauses, with DCQCN and WRED as in [`RING`]; its name ends in "-dcqcn".
fn with_dcqcn(text: &str) -> String {
    text.replacen("\"\nrun", "-dcqcn\"\nrun", 1)
        .replace("rate_control = \"none\"", "rate_control = \"dcqcn:hpcc\"")
        .replace("wred = \"off\"", "wred = { kmin = \"400 kB\", kmax = \"1600 kB\", pmax = 0.2 }")
}

/// `virtual-ring`.
pub(super) fn ring() -> anyhow::Result<Vec<Figure>> {
    let plan = plan(RING, Overrides::default())?;
    figures(&plan, &[Recorded { name: NS3, speed: 0.22 }, Recorded { name: HTSIM, speed: 2.4 }])
}

/// `virtual-a2a`, then the same with rate control, beside nothing.
pub(super) fn all_to_all() -> anyhow::Result<Vec<Figure>> {
    let schedules = vec![("all-to-all".to_owned(), Arc::new(everyone_to_everyone(A2A_RANKS, A2A_BYTES)))];
    let overrides = Overrides { schedules, ..Overrides::default() };
    let mut all = figures(
        &plan(ALL_TO_ALL, overrides.clone())?,
        &[Recorded { name: NS3, speed: 0.14 }, Recorded { name: HTSIM, speed: 0.76 }],
    )?;
    all.extend(figures(&plan(&with_dcqcn(ALL_TO_ALL), overrides)?, &[])?);
    Ok(all)
}

/// The plan of a built-in profile.
pub(super) fn plan(text: &str, overrides: Overrides) -> anyhow::Result<Plan> {
    profile::from_str("built-in", text, &overrides).context("a built-in profile of bench")
}

/// One message from each rank to each other one, no dependencies. Rank r starts with its right neighbour, so that the
/// order of posting is no incast of its own.
fn everyone_to_everyone(ranks: u32, bytes: u64) -> Schedule {
    let program = |r: u32| {
        let others = (1..ranks).map(move |d| RankId((r + d) % ranks));
        let sends = others.clone().map(move |peer| Op::new(OpKind::Send { peer, bytes, tag: 0 }));
        let recvs = others.map(move |peer| Op::new(OpKind::Recv { peer, bytes, tag: 0 }));
        recvs.chain(sends).collect()
    };
    Schedule { ranks: (0..ranks).map(program).collect(), origin: "all to all".into(), ..Schedule::default() }
}

/// Runs `plan` in virtual time [`RUNS`] times: its speed beside each peer, then its events per transmission.
fn figures(plan: &Plan, peers: &[Recorded]) -> anyhow::Result<Vec<Figure>> {
    let (mut speed, mut events, mut shares) = (Vec::new(), Vec::new(), vec![Vec::new(); PARTS.len()]);
    for _ in 0..RUNS {
        let result = run::execute(plan, Options::new(Mode::Virtual))?;
        let drops: u64 = result.conservation.dropped_frames;
        if !result.complete || drops > 0 {
            bail!("{}: {drops} frames dropped, complete: {}; nothing to time", plan.name, result.complete);
        }
        let Some(sim) = result.sim else { bail!("{}: no speed in the result", plan.name) };
        speed.push(sim.link_transmissions as f64 / 1e6 / sim.cpu_s);
        events.push(sim.events as f64 / sim.link_transmissions as f64);
        for (all, share) in shares.iter_mut().zip(sim.shares.into_iter().flatten()) {
            all.push(share * 100.0);
        }
    }
    let speed = Rounds::from(speed);
    let beside = |p: &Recorded| {
        let peer = Peer::Is(p.name.to_owned(), p.speed);
        Figure::new(&plan.name, Unit::Transmissions, speed.clone(), peer)
    };
    let mut figures: Vec<Figure> = peers.iter().map(beside).collect();
    if peers.is_empty() {
        let none = Peer::Missing("no peer".into());
        figures.push(Figure::new(&plan.name, Unit::Transmissions, speed.clone(), none));
    }
    let none = Peer::Missing("no peer: events differ between simulators".into());
    figures.push(Figure::new(format!("{}/events", plan.name), Unit::Events, Rounds::from(events), none));
    for (part, share) in PARTS.iter().zip(shares).filter(|(_, share)| !share.is_empty()) {
        let sampled = Peer::Missing(format!("{part}; one event of 241 timed"));
        figures.push(Figure::new(format!("{}/time", plan.name), Unit::Percent, Rounds::from(share), sampled));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::config::RateControl;

    #[test]
    fn the_built_in_profiles_make_the_fabrics_they_speak_of() {
        let s2 = plan(INCAST, Overrides::default()).unwrap();
        assert_eq!((s2.hosts.len(), s2.fabric.switches.len()), (33, 1));
        // A link of 1,000 ns, and nothing else that delays.
        for link in s2.fabric.links.iter() {
            assert_eq!(link.timing.propagation().0, 1_000_000);
        }
        let ring = plan(RING, Overrides::default()).unwrap();
        assert_eq!((ring.hosts.len(), ring.fabric.switches.len()), (16, 4));
        let schedules = vec![("all-to-all".to_owned(), Arc::new(everyone_to_everyone(64, 1 << 16)))];
        let a2a = plan(ALL_TO_ALL, Overrides { schedules, ..Overrides::default() }).unwrap();
        assert_eq!((a2a.hosts.len(), a2a.fabric.switches.len()), (64, 16));
    }

    #[test]
    fn rate_control_is_on_where_the_name_says_so() {
        let plan = plan(&with_dcqcn(INCAST), Overrides::default()).unwrap();
        assert_eq!(plan.name, "virtual-s2-dcqcn");
        assert!(matches!(plan.workloads[0].rate_control, RateControl::Dcqcn(_)));
        let profile = &plan.fabric.switches[0].profiles[0];
        assert!(profile.priorities.iter().any(|p| p.green().is_some()));
    }

    /// One burst of the incast, by closed form: 31,264 data frames and as many ACKs, two links each. What is more are
    /// PFC frames, one link each: each sender is paused at least once.
    #[test]
    fn transmissions_of_the_incast_are_those_of_the_closed_form() {
        let set = vec!["run.repeats=1".to_owned(), "run.warmup=0".to_owned()];
        let plan = plan(INCAST, Overrides { set, ..Overrides::default() }).unwrap();
        let result = run::execute(&plan, Options::new(Mode::Virtual)).unwrap();
        let frames = 32 * 1_000_000u64.div_ceil(1_024);
        let sent = result.sim.unwrap().link_transmissions;
        assert!(result.complete && result.conservation.dropped_frames == 0);
        let pfc = sent - 4 * frames;
        assert!((64..4_000).contains(&pfc), "{pfc} PFC frames");
    }

    #[test]
    fn everyone_sends_once_to_everyone_else() {
        let s = everyone_to_everyone(5, 100);
        for (r, ops) in s.ranks.iter().enumerate() {
            let sends = ops.iter().filter_map(|op| match op.kind {
                OpKind::Send { peer, bytes: 100, tag: 0 } => Some(peer.0 as usize),
                _ => None,
            });
            let mut to: Vec<usize> = sends.collect();
            to.sort_unstable();
            assert_eq!(to, (0..5).filter(|p| *p != r).collect::<Vec<_>>());
            assert_eq!(ops.len(), 8);
        }
    }
}
