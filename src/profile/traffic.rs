//! Workloads, streams and the timeline, from the filled document.

use std::sync::Arc;

use super::classes::{self, ranged};
use super::doc::*;
use super::ports::Layout;
use super::reliability;
use super::source::{Fault, fault};
use crate::limits::{MESSAGE_BYTES_MAX, RANKS_MAX};
use crate::transport::config::{ClassConfig, Verb};
use crate::units::{Bytes, ClassIx, PortId, RankId, Rate, Span, Time};
use crate::workload::config::{
    Action, Load, Skew, StreamConfig, StreamVerb, TimedAction, Until, WorkloadConfig, WorkloadKind,
};
use crate::workload::schedule::Schedule;

/// What the filled document and the layout say about traffic.
pub(super) struct Ground<'d> {
    pub doc: &'d ProfileDoc,
    pub layout: &'d Layout,
    pub classes: &'d [ClassConfig],
    /// Schedule of each workload that replays one.
    pub schedules: &'d [Option<Arc<Schedule>>],
}

/// All workloads.
pub(super) fn workloads(g: &Ground<'_>) -> Result<Vec<WorkloadConfig>, Fault> {
    g.doc.workload.iter().enumerate().map(|(i, w)| workload(g, i, w)).collect()
}

fn workload(g: &Ground<'_>, i: usize, w: &WorkloadDoc) -> Result<WorkloadConfig, Fault> {
    let key = |k: &str| format!("workload[{i}].{k}");
    let name = w.name.clone().unwrap_or_default();
    if g.doc.workload[..i].iter().any(|o| o.name == w.name) {
        return fault(key("name"), "two workloads have this name; names must differ");
    }
    let placement = w.placement.unwrap_or(Placement::Packed);
    let line = g.layout.ports.iter().map(|p| p.rate).max().unwrap_or(Rate::gbps(100));
    let (kind, ranks) = match w.kind {
        Some(KindDoc::Incast) => {
            let message = size(&key("message"), w.message.map(|s| s.0), 0, MESSAGE_BYTES_MAX)?;
            (WorkloadKind::Incast { message }, incast_ranks(g, i, w, placement)?)
        }
        Some(KindDoc::RingAllReduce) => {
            let n = ranged(&key("ranks"), w.ranks, 2, RANKS_MAX as u32)?;
            let vector = size(&key("vector"), w.vector.map(|s| s.0), 1, 1 << 44)?;
            let chunk = size(&key("chunk"), w.chunk.map(|s| s.0), 1, MESSAGE_BYTES_MAX)?;
            let reduce = w.reduce.map_or(Span::ZERO, |d| d.0);
            let per_node = ranged(&key("per_node"), w.per_node, 1, n / 2)?;
            if !n.is_multiple_of(per_node) {
                let text = format!("{per_node} does not divide the {n} ranks; use whole nodes");
                return fault(key("per_node"), text);
            }
            let kind = WorkloadKind::RingAllReduce { vector, chunk, reduce, per_node };
            (kind, choose(g, &key("ranks"), u64::from(n), placement)?)
        }
        _ => {
            let Some(schedule) = g.schedules.get(i).and_then(Option::as_ref) else {
                return fault(key("file"), "is not a schedule that was read");
            };
            let ranks = choose(g, &key("file"), schedule.ranks.len() as u64, placement)?;
            (WorkloadKind::Replay(schedule.clone()), ranks)
        }
    };
    let class = classes::find(g.classes, &key("class"), w.class.as_deref())?;
    let workload = WorkloadConfig {
        name,
        kind,
        ranks: ranks.into(),
        class,
        verb: w.verb.map_or(Verb::Write, Verb::from),
        qps_per_pair: ranged(&key("qps_per_pair"), w.qps_per_pair, 1, 1024)?,
        rate_control: super::rate::control(w, &format!("workload[{i}]"), line)?,
        rc: reliability::rc(w, i)?,
        skew: skew(&key("start"), w.start.as_ref())?,
    };
    reliability::check(&workload, i, &g.classes[usize::from(class.0)])?;
    Ok(workload)
}

fn skew(path: &str, start: Option<&StartDoc>) -> Result<Skew, Fault> {
    match start.map(|s| (s.skew, s.uniform)) {
        Some((Some(_), Some(_))) => fault(path, "has both skew and uniform; keep one"),
        Some((None, Some(span))) => Ok(Skew::Uniform(span.0)),
        Some((Some(step), None)) => Ok(Skew::Fixed(step.0)),
        _ => fault(path, "is empty; write { skew = \"0 ns\" } or { uniform = \"5 us\" }"),
    }
}

fn size(path: &str, value: Option<Bytes>, low: u64, high: u64) -> Result<Bytes, Fault> {
    match value {
        Some(v) if v.0 >= low && v.0 <= high => Ok(v),
        Some(_) => fault(path, format!("must be from {low} B to {high} B")),
        None => fault(path, "is missing"),
    }
}

/// Senders, then the receiver.
fn incast_ranks(
    g: &Ground<'_>,
    i: usize,
    w: &WorkloadDoc,
    placement: Placement,
) -> Result<Vec<RankId>, Fault> {
    let path = format!("workload[{i}].senders");
    let total = g.layout.ranks.len() as u64;
    let senders = u64::from(ranged(&path, w.senders, 1, RANKS_MAX as u32)?);
    if senders + 1 > total {
        return too_few(g, &path, senders + 1, "the receiver included");
    }
    let role = |r: &RankId| g.layout.port_of(*r).map(|a| g.layout.ports[a.port.0 as usize].role);
    let order = order(g.layout, placement);
    let receiver = match w.receiver {
        Some(r) if u64::from(r) < total => RankId(r),
        Some(_) => {
            return fault(format!("workload[{i}].receiver"), format!("the run has ranks 0 to {}", total - 1));
        }
        // The first rank of a receiving port; otherwise the rank after the senders.
        None => match order.iter().find(|r| role(r) == Some(Role::Receive)) {
            Some(r) => *r,
            None => order[senders as usize],
        },
    };
    let mut ranks: Vec<RankId> = order
        .into_iter()
        .filter(|r| *r != receiver && role(r) != Some(Role::Receive))
        .take(senders as usize)
        .collect();
    if ranks.len() < senders as usize {
        let text = format!(
            "only {} ranks may send beside the receiver; a port with role = \"receive\" has no sender",
            ranks.len()
        );
        return fault(path, text);
    }
    ranks.push(receiver);
    Ok(ranks)
}

/// The first `n` ranks in the order of the placement.
fn choose(g: &Ground<'_>, path: &str, n: u64, placement: Placement) -> Result<Vec<RankId>, Fault> {
    if n > g.layout.ranks.len() as u64 {
        return too_few(g, path, n, "all of them");
    }
    let mut ranks = order(g.layout, placement);
    ranks.truncate(n as usize);
    Ok(ranks)
}

fn too_few<T>(g: &Ground<'_>, path: &str, needed: u64, what: &str) -> Result<T, Fault> {
    let (ranks, ports) = (g.layout.ranks.len(), g.layout.ports.len());
    let text = format!(
        "needs {needed} ranks, {what}; the run has {ranks} on {ports} ports: add ports \
             (switch.ports.count, or \
         hosts_per_leaf) or set ranks_per_port"
    );
    fault(path, text)
}

/// All ranks: by number, or round-robin over the leaves (single switch: over the ports).
fn order(layout: &Layout, placement: Placement) -> Vec<RankId> {
    let mut ranks: Vec<RankId> = layout.ranks.iter().map(|r| r.rank).collect();
    if placement == Placement::Interleaved {
        let mut seen: Vec<u32> = vec![0; layout.ports.len()];
        let mut turn: Vec<(u32, u32)> = Vec::with_capacity(ranks.len());
        for r in &layout.ranks {
            let group = layout.ports[r.port.0 as usize].group;
            turn.push((seen[group as usize], group));
            seen[group as usize] += 1;
        }
        ranks.sort_by_key(|r| turn[r.0 as usize]);
    }
    ranks
}

/// Streams of the profile, then those of the timeline's bursts.
pub(super) fn streams(g: &Ground<'_>) -> Result<Vec<StreamConfig>, Fault> {
    let mut all = Vec::with_capacity(g.doc.stream.len());
    for (i, s) in g.doc.stream.iter().enumerate() {
        let key = |k: &str| format!("stream[{i}].{k}");
        let (from, to) = (rank(g, &key("from"), s.from)?, rank(g, &key("to"), s.to)?);
        if from == to {
            return fault(key("to"), "a stream cannot go to its own sender; use another rank");
        }
        let sizes = match (&s.imix, s.size) {
            (Some(_), Some(_)) => return fault(key("imix"), "does not go with size; keep one"),
            (Some(imix), None) => imix.0.clone(),
            (None, size) => vec![(size.unwrap_or(0), 1)],
        };
        let sizes_key = if s.imix.is_some() { key("imix") } else { key("size") };
        frame_sizes(g, &sizes_key, &sizes, s.verb.unwrap_or_default())?;
        let until = match (s.frames, s.duration) {
            (Some(0), _) => return fault(key("frames"), "must be at least 1"),
            (Some(n), None) => Until::Frames(n),
            (None, Some(d)) => Until::Span(d.0),
            (Some(_), Some(_)) => return fault(key("duration"), "does not go with frames; keep one"),
            (None, None) => {
                let text = "needs an end: frames = 1000 or duration = \"10 ms\"";
                return fault(format!("stream[{i}]"), text);
            }
        };
        all.push(StreamConfig {
            name: s.name.clone().unwrap_or_default(),
            from,
            to,
            class: classes::find(g.classes, &key("class"), s.class.as_deref())?,
            load: load(g, &key("load"), s, from, &sizes)?,
            sizes,
            start: Time::ZERO + s.start.map_or(Span::ZERO, |d| d.0),
            until,
            obey_pfc: s.obey_pfc.unwrap_or(true),
            verb: s.verb.unwrap_or_default(),
        });
    }
    Ok(all)
}

fn rank(g: &Ground<'_>, path: &str, rank: Option<u32>) -> Result<RankId, Fault> {
    let last = g.layout.ranks.len() as u32 - 1;
    ranged(path, rank, 0, last).map(RankId)
}

/// Shortest stream frame with FCS: Ethernet, IP, UDP, BTH, ICRC and FCS around no payload, and at least 64.
fn frame_sizes(g: &Ground<'_>, path: &str, sizes: &[(u16, u32)], verb: StreamVerb) -> Result<(), Fault> {
    let v6 = g.doc.run.as_ref().and_then(|r| r.ip) == Some(IpVersion::V6);
    let deth = if verb == StreamVerb::UdSend { 8 } else { 0 };
    let low = deth + if v6 { 86 } else { 68 };
    if sizes.is_empty() || sizes.iter().all(|(_, weight)| *weight == 0) {
        return fault(path, "has no frames; write \"simple\" or [[64, 7], [1518, 1]]");
    }
    if sizes.len() > 16 {
        return fault(path, "has more than 16 sizes; use fewer");
    }
    let low = if low == 68 { 64 } else { low };
    match sizes.iter().find(|(bytes, _)| !(low..=9216).contains(bytes)) {
        Some((bytes, _)) => {
            fault(path, format!("a frame of {bytes} B is not possible; use {low} to 9216 B with FCS"))
        }
        None => Ok(()),
    }
}

fn load(
    g: &Ground<'_>,
    path: &str,
    s: &StreamDoc,
    from: RankId,
    sizes: &[(u16, u32)],
) -> Result<Load, Fault> {
    use super::quantity::LoadText;
    let port = g.layout.port_of(from).map_or(Rate::gbps(0), |a| g.layout.ports[a.port.0 as usize].rate);
    let (frames, bytes) = sizes.iter().fold((0u64, 0u64), |(n, b), (len, weight)| {
        (n + u64::from(*weight), b + u64::from(*len) * u64::from(*weight))
    });
    let mean = bytes as f64 / frames.max(1) as f64;
    let fps_max = port.bits_per_s as f64 / (8.0 * (mean + 20.0));
    let zero = || Fault { path: path.into(), text: "must be above 0".into() };
    let over = |share: f64| Fault {
        path: path.into(),
        text: format!(
            "is {:.1} % of the {port} port with frames of {mean:.0} B; at most \"100 %\"",
            share * 100.0
        ),
    };
    match s.load {
        Some(LoadText::Share(x)) if x > 0.0 => Ok(Load::L1Share(x)),
        Some(LoadText::Rate(r)) if r.bits_per_s > 0 => {
            let share = r.bits_per_s as f64 / (8.0 * mean) / fps_max;
            if share > 1.0 { Err(over(share)) } else { Ok(Load::L2(r)) }
        }
        Some(LoadText::Fps(x)) if x > 0.0 => {
            if x > fps_max {
                Err(over(x / fps_max))
            } else {
                Ok(Load::Fps(x))
            }
        }
        _ => Err(zero()),
    }
}

/// What the timeline lowers to.
#[derive(Default)]
pub(super) struct Timeline {
    /// Pauses and releases, by port.
    pub ports: Vec<(PortId, TimedAction)>,
    /// Snapshots.
    pub fabric: Vec<TimedAction>,
    /// Entries that speak of links.
    pub links: Vec<(usize, Time)>,
    /// Bursts, as streams at line rate.
    pub bursts: Vec<StreamConfig>,
}

/// Most snapshots that one line asks for: some 20 MB of a run that fills 32 ports, three times that in report.json.
const SNAPSHOTS_MAX: u32 = 10_000;

/// The timeline at absolute times, each list in time order.
pub(super) fn timeline(g: &Ground<'_>) -> Result<Timeline, Fault> {
    let mut out = Timeline::default();
    let mut base = Time::ZERO;
    for (i, at) in g.doc.at.iter().enumerate() {
        let path = format!("at[{i}]");
        let key = |k: &str| format!("{path}.{k}");
        let actions = [
            at.pause.is_some(),
            at.release.is_some(),
            at.burst.is_some(),
            at.wait.is_some(),
            at.snapshot.is_some(),
            at.link.is_some(),
        ];
        if actions.iter().filter(|a| **a).count() != 1 {
            return fault(path, "needs exactly one of pause, release, burst, wait, snapshot, link");
        }
        if at.snapshot.is_none() && (at.every.is_some() || at.count.is_some()) {
            return fault(path, "every and count go with snapshot only");
        }
        if let Some(wait) = at.wait {
            if at.time.is_some() {
                return fault(key("time"), "does not go with wait; a wait counts from the wait before it");
            }
            base += wait.0;
            continue;
        }
        let Some(time) = at.time else {
            return fault(path, "time is missing; write time = \"1 ms\"");
        };
        let when = base + time.0;
        if let Some(p) = &at.pause {
            let port = g.layout.find(&key("pause.port"), p.port.as_ref())?;
            let priority = ranged(&key("pause.priority"), p.priority, 0, 7)?;
            let action = Action::Pause { port, priority, hold: p.hold.map(|d| d.0) };
            out.ports.push((port, TimedAction { at: when, action }));
        } else if let Some(r) = &at.release {
            let port = g.layout.find(&key("release.port"), r.port.as_ref())?;
            let priority = ranged(&key("release.priority"), r.priority, 0, 7)?;
            out.ports.push((port, TimedAction { at: when, action: Action::Release { port, priority } }));
        } else if let Some(b) = &at.burst {
            out.bursts.push(burst(g, i, b, when)?);
        } else if let Some(name) = &at.snapshot {
            let (every, count) = match (at.every, at.count) {
                (None, None) => (Span::ZERO, 1),
                (Some(every), count) if every.0 > Span::ZERO => {
                    (every.0, ranged(&key("count"), count, 1, SNAPSHOTS_MAX)?)
                }
                _ => return fault(path, "give every (above 0 ns) and count together"),
            };
            for n in 0..u64::from(count) {
                let action = Action::Snapshot { name: name.clone() };
                out.fabric.push(TimedAction { at: when + Span(every.0.saturating_mul(n)), action });
            }
        } else if at.link.is_some() {
            out.links.push((i, when));
        }
    }
    out.ports.sort_by_key(|(_, a)| a.at);
    out.fabric.sort_by_key(|a| a.at);
    Ok(out)
}

fn burst(g: &Ground<'_>, i: usize, b: &BurstDoc, start: Time) -> Result<StreamConfig, Fault> {
    let key = |k: &str| format!("at[{i}].burst.{k}");
    let (from, to) = (rank(g, &key("from"), b.from)?, rank(g, &key("to"), b.to)?);
    if from == to {
        return fault(key("to"), "a burst cannot go to its own sender; use another rank");
    }
    let frames = match b.frames {
        Some(n) if n > 0 => n,
        Some(_) => return fault(key("frames"), "must be at least 1"),
        None => return fault(format!("at[{i}].burst"), "frames is missing; write frames = 100"),
    };
    let sizes = vec![(b.size.unwrap_or(0), 1)];
    frame_sizes(g, &key("size"), &sizes, StreamVerb::UcSend)?;
    let class: ClassIx = classes::find(g.classes, &key("class"), b.class.as_deref())?;
    Ok(StreamConfig {
        name: format!("burst-{i}"),
        from,
        to,
        class,
        sizes,
        load: Load::L1Share(1.0),
        start,
        until: Until::Frames(frames),
        obey_pfc: b.obey_pfc.unwrap_or(true),
        verb: StreamVerb::UcSend,
    })
}
