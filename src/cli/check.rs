//! `rankstorm check`: one screen about a run before it runs.

use std::fmt::Write as _;

use crate::plan::pools::Pools;
use crate::plan::{Mode, Plan, PortHeadroom};
use crate::profile::quantity::{size_text, span_text};
use crate::switch::config::{Limit, SwitchConfig};
use crate::topology::TierPaths;
use crate::transport::config::{RateControl, Verb};
use crate::units::{Bytes, Rate, Span};
use crate::workload::config::{Skew, StreamConfig, Until, WorkloadConfig, WorkloadKind};

/// Columns of the screen.
const WIDTH: usize = 100;
/// Column at which the text of a line starts.
const INDENT: usize = 11;

/// What will run and what is expected of it, in one screen of 100 columns.
pub fn check_text(plan: &Plan) -> String {
    let mut s = Screen(String::new());
    let file = plan.source.as_ref().map_or_else(|| "a profile in memory".into(), |p| p.display().to_string());
    s.line(&plan.name, &format!("valid: {file}"));
    s.some("question", plan.question.as_deref());
    s.some("expects", plan.expectation.as_deref());
    let on = match plan.mode {
        Some(Mode::Ports) => "ports",
        Some(Mode::Rings) => "rings",
        Some(Mode::Virtual) => "virtual",
        None => "rings unless --on says otherwise",
    };
    s.line(
        "run",
        &format!(
            "{} warm-up + {} measured, gap {}, limit {}, seed {}, on {on}",
            plan.warmup, plan.repeats, plan.gap, plan.limit, plan.seed
        ),
    );
    s.line("fabric", &fabric_text(plan));
    for class in plan.classes.iter() {
        s.line(
            "class",
            &format!(
                "{}: DSCP {} -> priority {}{}, {}, MTU {}; ACK DSCP {} -> {}; CNP DSCP {} -> {}",
                class.name,
                class.dscp,
                class.priority,
                group_and_queue(plan, class.priority),
                if class.lossless { "lossless" } else { "lossy" },
                class.mtu,
                class.ack_dscp,
                class.ack_priority,
                class.cnp_dscp,
                class.cnp_priority
            ),
        );
    }
    for workload in plan.workloads.iter() {
        s.line("workload", &workload_text(workload));
    }
    for stream in plan.hosts.iter().flat_map(|h| &h.streams) {
        s.line("stream", &stream_text(stream));
    }
    for h in &plan.hosts {
        if let Some(r) = h.receive {
            let text = format!(
                "{}: {} drained at {}; XOFF above {}, XON at {}",
                h.name,
                bytes_text(r.buffer),
                r.drain,
                bytes_text(r.xoff),
                bytes_text(r.xon)
            );
            s.line("receive", &text);
        }
    }
    predictions(plan, &mut s);
    if !plan.expect.is_empty() {
        let all: Vec<String> = plan.expect.iter().map(|e| format!("{} {}", e.name, e.typed)).collect();
        s.line("expect", &all.join(", "));
    }
    for (code, text) in &plan.warnings {
        s.line("WARNING", &format!("{code}: {text}"));
    }
    if let Some(source) = &plan.source {
        let flag = if plan.pfc_generators().is_empty() { "" } else { " --allow-pfc-generation" };
        s.line("NEXT", &format!("rankstorm run {}{flag}", source.display()));
    }
    s.0
}

fn predictions(plan: &Plan, s: &mut Screen) {
    let p = &plan.predicted;
    let ranks = if p.fan_in_ranks == 1.0 { "rank sends" } else { "ranks send" };
    s.line(
        "fan-in",
        &format!(
            "{:.1}:1 physical (sender ports over receiver port); {} {ranks} to the busiest port",
            p.fan_in_physical, p.fan_in_ranks
        ),
    );
    if !plan.workloads.is_empty() {
        s.line(
            "traffic",
            &format!(
                "{} payload in {} frames per iteration; {} messages stay inside a port",
                bytes_text(p.iteration_bytes),
                grouped(p.iteration_frames),
                grouped(p.local_messages)
            ),
        );
    }
    for (i, workload) in plan.workloads.iter().enumerate() {
        if let (Some(ideal), Some(bound)) = (p.ideal.get(i), p.fabric_bound.get(i)) {
            let fabric = if bound > ideal {
                format!("; {bound} with this fabric and placement")
            } else {
                "; the fabric does not slow it".into()
            };
            s.line("ideal", &format!("{}: {ideal} per iteration{fabric}", workload.name));
        }
    }
    if !p.paths.is_empty() {
        let tier = |t: &TierPaths| {
            format!(
                "{} -> {}: {} of {} links used, {:.1} effective",
                t.from, t.to, t.used, t.links, t.effective
            )
        };
        s.line("paths", &p.paths.iter().map(tier).collect::<Vec<_>>().join("; "));
    }
    if let Some(x) = p.xoff {
        let controlled = plan.workloads.iter().any(|w| matches!(w.rate_control, RateControl::Dcqcn(_)));
        let slices = plan.fabric.switches.first().map_or(1, |s| s.slices.count());
        let of_slice = match slices {
            1 => String::new(),
            n => format!(", S and n those of one of {n} slices"),
        };
        let how = if controlled { " at line rate; DCQCN may come first" } else { "" };
        let text = if x.reached {
            format!(
                "reached +{} after the start{how}: a priority group holds {} = alpha S / (1 + n alpha){of_slice}",
                x.first,
                bytes_text(x.group_bytes)
            )
        } else {
            format!("not reached: no priority group fills to {}", bytes_text(x.group_bytes))
        };
        s.line("XOFF", &text);
    }
    for text in headroom_lines(plan) {
        s.line("headroom", &text);
    }
    s.line(
        "duration",
        &format!("{} nominal, {:.2} % of the limit", p.duration, percent(p.duration.0, plan.limit.0)),
    );
    s.line("memory", &memory_text(plan));
}

/// The parts of the predicted memory.
fn memory_text(plan: &Plan) -> String {
    let m = &plan.predicted.memory;
    let qps: usize = plan.hosts.iter().map(|h| h.qps.len()).sum();
    let bytes = |n: u64| bytes_text(Bytes(n));
    let (mode, frames) = if plan.mode == Some(Mode::Ports) {
        let pools = Pools::of(plan);
        let queues: u64 = (0..plan.hosts.len()).map(|i| u64::from(plan.lab.queues(i))).sum();
        let rx: u64 = pools.rx.iter().map(|p| u64::from(p.frames)).sum();
        let frames = format!(
            "queues of ports {} ({} with 2 x {} frames to send, of up to {} B, and {} to receive)",
            bytes(m.ports_bytes),
            grouped(queues),
            grouped(pools.data.frames.into()),
            grouped(pools.data.frame_bytes_max.into()),
            grouped(rx),
        );
        ("on ports, without huge pages", frames)
    } else {
        let frames = format!(
            "network {}, frames {} ({} x {} B; {} with full buffers)",
            bytes(m.network_bytes),
            bytes(m.frames_bytes),
            grouped(m.frames),
            m.bytes_per_frame,
            bytes(m.frames_max * m.bytes_per_frame),
        );
        ("in virtual time", frames)
    };
    format!(
        "{} {mode}: queue pairs {} ({} x {} B and the plan's list), ranks and ports {}, recorder {}, flows {}, {frames}, \
         switches {}, schedule {}, program {}",
        bytes(m.peak_bytes),
        bytes(m.queue_pairs_bytes),
        grouped(qps as u64),
        m.bytes_per_qp,
        bytes(m.ranks_bytes),
        bytes(m.recorder_bytes),
        bytes(m.flows_bytes),
        bytes(m.switches_bytes),
        bytes(m.schedule_bytes),
        bytes(m.program_bytes),
    )
}

/// Headroom needed and configured: ports with equal figures on one line, those with least margin first.
fn headroom_lines(plan: &Plan) -> Vec<String> {
    const LINES_MOST: usize = 8;
    let mut kinds: Vec<(&PortHeadroom, Vec<String>)> = Vec::new();
    for row in &plan.predicted.headrooms {
        let name = port_name(plan, row);
        let like = |k: &PortHeadroom| {
            (k.priority, k.rate, k.delay, k.headroom) == (row.priority, row.rate, row.delay, row.headroom)
        };
        match kinds.iter_mut().find(|(k, _)| like(k)) {
            Some((_, names)) => names.push(name),
            None => kinds.push((row, vec![name])),
        }
    }
    let margin = |h: &PortHeadroom| i128::from(h.headroom.configured.0) - i128::from(h.headroom.needed.0);
    kinds.sort_by_key(|(k, _)| margin(k));
    let more = kinds.len().saturating_sub(LINES_MOST);
    let mut lines: Vec<String> =
        kinds.iter().take(LINES_MOST).map(|(k, names)| headroom_line(k, names)).collect();
    if more > 0 {
        lines.push(format!("{more} more kinds of ports, with larger margins"));
    }
    lines
}

/// "leaf0 Ethernet3"; on a single switch the port alone.
fn port_name(plan: &Plan, row: &PortHeadroom) -> String {
    let Some(switch) = plan.fabric.switches.get(usize::from(row.switch)) else { return "?".into() };
    let port = switch.ports.get(usize::from(row.port)).map_or("?", |p| p.name.as_str());
    if plan.fabric.switches.len() > 1 { format!("{} {port}", switch.name) } else { port.into() }
}

fn headroom_line(k: &PortHeadroom, names: &[String]) -> String {
    let (have, need) = (k.headroom.configured.0, k.headroom.needed.0);
    let margin = match have >= need {
        true => format!("margin {} B", grouped(have - need)),
        false => format!("{} B SHORT", grouped(need - have)),
    };
    let ports = match names {
        [one] => one.clone(),
        [first, .., last] => format!("{} ports, {first} to {last}", names.len()),
        [] => String::new(),
    };
    format!(
        "{} B configured, {} B needed at worst: {margin} (priority {}; {ports}; {}, {} there and back)",
        grouped(have),
        grouped(need),
        k.priority,
        k.rate,
        k.delay
    )
}

/// The effective profile, then ports and ranks as comments: still a profile that loads to the same plan.
pub fn plan_text(plan: &Plan) -> String {
    let mut out = plan.effective.clone();
    let _ = writeln!(out, "\n# port  name              rate     MAC                ranks  first address");
    for h in &plan.hosts {
        let mac: Vec<String> = h.mac.iter().map(|b| format!("{b:02x}")).collect();
        let ip = h.ranks.first().map_or_else(|| "-".into(), |r| r.ip.to_string());
        let rate = h.rate.to_string();
        let _ = writeln!(
            out,
            "# {:<5} {:<17} {:<8} {}  {:<6} {ip}",
            h.port.0,
            h.name,
            rate,
            mac.join(":"),
            h.ranks.len()
        );
    }
    let _ = writeln!(out, "\n# rank  port  queue pairs  address");
    for r in plan.ranks.iter() {
        let qps = plan
            .hosts
            .get(r.port.0 as usize)
            .map_or(0, |h| h.qps.iter().filter(|q| q.local_rank == r.rank).count());
        let _ = writeln!(out, "# {:<5} {:<5} {:<12} {}", r.rank.0, r.port.0, qps, r.ip);
    }
    out
}

/// Group and queue of a class where they have other numbers.
fn group_and_queue(plan: &Plan, class: u8) -> String {
    let maps = plan.fabric.switches.first().map(|s| s.maps).unwrap_or_default();
    match (maps.group_of(class), maps.queue_of(class)) {
        (group, queue) if group == usize::from(class) && queue == group => String::new(),
        (group, queue) => format!(" (priority group {group}, queue {queue})"),
    }
}

fn fabric_text(plan: &Plan) -> String {
    let f = &plan.fabric;
    if plan.lab.no_model {
        return format!("a real one, of which the profile says nothing; {}", ports_text(plan));
    }
    let Some(sw) = f.switches.first() else { return "no embedded switch".into() };
    let shared = sw.shared_size().map_or_else(|_| "?".into(), bytes_text);
    format!(
        "{}, {}; buffer {}{}, {shared} of it shared, {}",
        f.shape,
        ports_text(plan),
        bytes_text(sw.buffer),
        if sw.slices.count() > 1 { format!(" in {} slices", sw.slices.count()) } else { String::new() },
        alpha_text(sw)
    )
}

fn ports_text(plan: &Plan) -> String {
    let mut rates: Vec<(Rate, usize)> = Vec::new();
    for h in &plan.hosts {
        match rates.iter_mut().find(|(r, _)| *r == h.rate) {
            Some((_, n)) => *n += 1,
            None => rates.push((h.rate, 1)),
        }
    }
    let each: Vec<String> = rates.iter().map(|(r, n)| format!("{n} x {r}")).collect();
    let tiers = plan.fabric.oversubscriptions();
    let over = match tiers.as_slice() {
        [] => String::new(),
        [(_, over)] => format!(", {over} host rate over uplinks"),
        tiers => {
            let each: Vec<String> = tiers.iter().map(|(name, over)| format!("{name} {over}")).collect();
            format!(", rate from below over rate upwards: {}", each.join(", "))
        }
    };
    let over = match plan.fabric.hops_max() {
        _ if plan.fabric.switches.len() < 2 => over,
        0 => format!("{over}, routes in a loop"),
        hops => format!("{over}, {hops} switches on the longest way"),
    };
    format!("{} ports{over}", each.join(" + "))
}

fn alpha_text(sw: &SwitchConfig) -> String {
    match sw.of_port(0).priorities.iter().find(|p| p.lossless).map(|p| p.limit) {
        Some(Limit::Dynamic(n, 1)) => format!("alpha {n}"),
        Some(Limit::Dynamic(n, d)) => format!("alpha {n}/{d}"),
        Some(Limit::Static(b)) => format!("static limit {}", bytes_text(b)),
        Some(Limit::Pool) => "no limit but the pool".into(),
        None => "no lossless priority".into(),
    }
}

fn workload_text(w: &WorkloadConfig) -> String {
    let what = match &w.kind {
        WorkloadKind::Incast { message } => {
            let receiver = w.ranks.last().map_or(0, |r| r.0);
            format!(
                "incast, {} ranks -> rank {receiver}, {} each",
                w.ranks.len().saturating_sub(1),
                size_text(*message)
            )
        }
        WorkloadKind::RingAllReduce { vector, chunk, per_node, .. } => format!(
            "ring all-reduce, {} ranks{}, {} each, chunks of {}",
            w.ranks.len(),
            if *per_node > 1 { format!(" in nodes of {per_node}") } else { String::new() },
            size_text(*vector),
            size_text(*chunk)
        ),
        WorkloadKind::Replay(schedule) => {
            let ops: usize = schedule.ranks.iter().map(Vec::len).sum();
            format!(
                "replay of {}, {} ranks, {} operations",
                schedule.origin,
                w.ranks.len(),
                grouped(ops as u64)
            )
        }
    };
    let verb = match w.verb {
        Verb::Write => "WRITE",
        Verb::WriteImm => "WRITE with immediate",
        Verb::Send => "SEND",
        Verb::Read => "READ",
        Verb::UdSend => "UD SEND",
    };
    let (name, origin) = w.rate_control.origin();
    let control = match &w.rate_control {
        RateControl::None => "no rate control".into(),
        RateControl::Fixed(r) => format!("fixed at {r}"),
        RateControl::Dcqcn(_) => format!("DCQCN {name:?} ({origin})"),
        RateControl::Window(s) => format!("static window of {} ({origin})", bytes_text(s.bytes)),
        RateControl::Swift(_) => format!("Swift {name:?} ({origin})"),
    };
    let skew = match w.skew {
        Skew::Fixed(step) if step.0 == 0 => "all at once".into(),
        Skew::Fixed(step) => format!("{step} apart"),
        Skew::Uniform(span) => format!("within {span} at random"),
    };
    format!("{what}; {verb}, {} QP per pair, {skew}, {control}", w.qps_per_pair)
}

fn stream_text(s: &StreamConfig) -> String {
    let until = match s.until {
        Until::Frames(n) => format!("{} frames", grouped(n)),
        Until::Span(span) => span.to_string(),
    };
    let sizes: Vec<String> = s.sizes.iter().map(|(len, _)| len.to_string()).collect();
    let deaf = if s.obey_pfc { "" } else { ", ignores PFC" };
    format!(
        "{}: rank {} -> {}, {} B frames, {until} from +{}{deaf}",
        s.name,
        s.from.0,
        s.to.0,
        sizes.join("/"),
        span_text(Span(s.start.0))
    )
}

fn bytes_text(b: Bytes) -> String {
    match b.0 {
        0..=9_999 => format!("{} B", b.0),
        10_000..=999_999 => format!("{:.0} kB", b.0 as f64 / 1e3),
        1_000_000..=999_999_999 => format!("{:.1} MB", b.0 as f64 / 1e6),
        _ => format!("{:.1} GB", b.0 as f64 / 1e9),
    }
}

fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// Lines of a label and a text, wrapped at [`WIDTH`].
struct Screen(String);

impl Screen {
    fn some(&mut self, label: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.line(label, text);
        }
    }
    fn line(&mut self, label: &str, text: &str) {
        let mut column = label.chars().count().max(INDENT - 2);
        let _ = write!(self.0, "{label:<width$}", width = INDENT - 2);
        for word in text.split_whitespace() {
            let width = word.chars().count();
            if column + 1 + width > WIDTH && column > INDENT {
                let _ = write!(self.0, "\n{:width$}", "", width = INDENT - 2);
                column = INDENT - 2;
            }
            self.0.push(' ');
            self.0.push_str(word);
            column += 1 + width;
        }
        self.0.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(32_768), "32,768");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn long_lines_wrap_under_their_text() {
        let mut s = Screen(String::new());
        s.line("question", &"word ".repeat(40));
        assert!(s.0.lines().all(|l| l.chars().count() <= WIDTH), "{}", s.0);
        assert!(s.0.lines().nth(1).unwrap().starts_with("          word"));
    }
}
