//! The one-screen summary: at most 100 columns, every number computed or its line absent.

use super::model::*;
use super::number::{bytes, counted, grouped, percent, plain, significant, time, time_unit};
use crate::measure::distribution::Percentiles;

/// Columns of the screen.
pub const WIDTH: usize = 100;
/// A space at which no line breaks.
const KEEP: char = '\u{a0}';
const LABEL: usize = 30;
const COLUMN: usize = 10;
/// Inferred queues of less are not worth a word, bytes.
const QUEUE_TOLD_MIN: f64 = 20_000.0;

/// The summary of one run. `out` is the directory of its results, named in the commands it suggests.
pub fn render(r: &RunReport, out: Option<&str>) -> String {
    let mut s = Screen { lines: Vec::new() };
    s.header(r);
    s.field("question", r.question.as_deref().unwrap_or_default());
    s.field("answer", &r.answer);
    s.fan_in(r);
    s.completion(r);
    s.streams(r);
    s.latency(r);
    s.pfc(r);
    s.switch(r);
    s.transport(r);
    for (label, text) in super::text_fabric::lines(&r.fabric, r.switches.len()) {
        s.field(label, &text);
    }
    s.who_waited(r);
    s.rate_control(r);
    s.warnings(r);
    s.field("NOT MEASURED", &joined(&r.not_measured, ", "));
    s.ports(r);
    s.tester(r);
    s.expect(r);
    s.repeat(r, out);
    s.lines.push(String::new());
    s.lines.join("\n")
}

struct Screen {
    lines: Vec<String>,
}

fn joined(items: &[String], by: &str) -> String {
    items.join(by)
}

/// A row of right-aligned columns after a label.
fn row(label: &str, columns: &[String]) -> String {
    row_of(LABEL, COLUMN, label, columns)
}

fn row_of(first: usize, column: usize, label: &str, columns: &[String]) -> String {
    let mut line = format!("{label:<first$}");
    for c in columns {
        // A label that is too long takes room from the columns that follow.
        let used = line.chars().count().saturating_sub(first) % column;
        let width = if used > 0 { column.saturating_sub(used) } else { column };
        let cell = format!("{c:>width$}");
        // Two columns without a space between them read as one.
        if !cell.starts_with(' ') {
            line.push(' ');
        }
        line.push_str(&cell);
    }
    line.trim_end().to_owned()
}

fn cells(values: &[Option<f64>], show: impl Fn(f64) -> String) -> Vec<String> {
    values.iter().map(|v| v.map_or("-".into(), &show)).collect()
}

/// Digits after the point for a column whose largest value is `max`.
fn decimals(max: f64) -> usize {
    match max {
        m if m >= 1_000.0 => 1,
        m if m >= 100.0 => 2,
        _ => 3,
    }
}

impl Screen {
    fn push(&mut self, line: String) {
        self.lines.push(line.replace(KEEP, " "));
    }

    /// `label  text`, wrapped under itself; [`KEEP`] is a space that does not wrap. Nothing when there is no text.
    fn field(&mut self, label: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let indent = if label.len() < 9 { 10 } else { 14 };
        let mut line = format!("{label:<indent$}");
        let mut empty = true;
        for word in text.split(' ') {
            if !empty && line.chars().count() + word.chars().count() + 1 > WIDTH {
                self.push(line.trim_end().to_owned());
                line = " ".repeat(indent);
                empty = true;
            }
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
            empty = false;
        }
        self.push(line.trim_end().to_owned());
    }

    fn header(&mut self, r: &RunReport) {
        let on = match r.mode.as_str() {
            "virtual" => "VIRTUAL time (embedded switch, a model)".to_owned(),
            "rings" => "RINGS (embedded switch, a model)".to_owned(),
            other => {
                let dut = r.dut.as_ref().and_then(|d| d.name.as_deref()).unwrap_or("an unnamed switch");
                format!("{} {dut}", other.to_uppercase())
            }
        };
        let v = r.verdict();
        let what = format!("rankstorm {}  {}  on {on}  seed {}", r.tool.version, r.name, r.seed);
        let how = format!("{:.1} s  {}, exit {}", r.tester.wall_s, v.word(), v.exit_code());
        if what.chars().count() + how.len() + 2 <= WIDTH {
            self.push(format!("{what}  {how}"));
        } else {
            self.push(what);
            self.push(format!("{:10}{how}", ""));
        }
    }

    fn fan_in(&mut self, r: &RunReport) {
        if r.fan_in.physical <= 0.0 || r.workload.is_empty() {
            return;
        }
        let rate = r.ports.first().map(|p| p.rate_gbps);
        let rate = rate.filter(|x| r.ports.iter().all(|p| p.rate_gbps == *x));
        let rate = rate.map(|x| format!(" x {}G", plain(x))).unwrap_or_default();
        let spread = r.workload.iter().filter_map(|w| w.start_spread_ns.max).reduce(f64::max).map(time);
        let spread = spread.map(|s| format!("; start spread {s} at most")).unwrap_or_default();
        self.field(
            "fan-in",
            &format!(
                "{}{rate}: {:.1}:1 physical; {} at once{spread}",
                counted(r.fan_in.sender_ports.into(), "sending port"),
                r.fan_in.physical,
                counted(r.fan_in.ranks.round() as u64, "rank"),
            ),
        );
    }

    fn completion(&mut self, r: &RunReport) {
        if r.workload.is_empty() {
            return;
        }
        let one = (r.workload.len() == 1).then(|| &r.workload[0]);
        let title = match one {
            Some(w) => format!("{} (n={}, {} warm-up)", title_of(&w.kind), w.iterations, r.warmup),
            None => format!("COMPLETION ({} warm-up)", r.warmup),
        };
        let heads = ["min", "p50", "p95", "max", "ideal", "ratio", "CV"].map(str::to_owned);
        self.push(row(&title, &heads));
        for w in &r.workload {
            let p = &w.completion_ns.percentiles;
            let name = if one.is_some() { "completion".into() } else { format!("{} (n={})", w.name, p.n) };
            let mut line = time_cells(&[p.min, p.p50, p.p95, p.max, w.ideal_ns]);
            line.1.push(w.ideal_ratio.map_or("-".into(), |x| format!("{x:.3}")));
            line.1.push(w.completion_ns.cv.map_or("-".into(), |x| format!("{:.1} %", x * 100.0)));
            self.push(row(&format!("  {name}, {}", line.0), &line.1));
            let m = &w.message_ns;
            if m.n > 0 && one.is_some() {
                let (unit, columns) = time_cells(&[m.min, m.p50, m.p95, m.max]);
                self.push(row(&format!("  message (n={}), {unit}", grouped(m.n)), &columns));
            }
            self.bandwidth(r, w);
        }
    }

    fn bandwidth(&mut self, r: &RunReport, w: &Workload) {
        let Some(algbw) = w.algbw_gbps else { return };
        let rate = r.ports.iter().map(|p| p.rate_gbps).reduce(f64::min).unwrap_or(0.0);
        match (w.busbw_gbps, w.payload_limit_gbps) {
            (Some(busbw), _) => {
                let per_port = w.ranks == r.fan_in.sender_ports && rate > 0.0;
                // The ranks of a node share its work, and all of its ports.
                let share = match w.ranks_per_node {
                    _ if !per_port => String::new(),
                    1 => format!(" = {} of {}G", percent(busbw / rate), plain(rate)),
                    n => format!(
                        " = {} of a node's {n} x {}G",
                        percent(busbw / rate / f64::from(n)),
                        plain(rate)
                    ),
                };
                self.push(format!(
                    "  algbw {algbw:.1} Gb/s   busbw {busbw:.1} Gb/s{share}   ({})",
                    counted(w.ranks.into(), "rank")
                ));
            }
            (None, Some(limit)) => self.push(format!(
                "  goodput at the receiver {algbw:.1} Gb/s payload = {} of what its link can carry",
                percent(algbw / limit)
            )),
            (None, None) => {
                self.push(format!("  payload {}: {algbw:.1} Gb/s over all ranks", bytes(w.bytes)))
            }
        }
        if w.kind == "incast" || w.iteration_ns.is_empty() || w.iteration_ns.len() > 12 {
            return;
        }
        let (unit, columns) = time_cells(&w.iteration_ns.iter().map(|x| Some(*x)).collect::<Vec<_>>());
        let ratios: Vec<String> = match w.ideal_ns {
            Some(ideal) => w.iteration_ns.iter().map(|x| format!("{:.3}", x / ideal)).collect(),
            None => Vec::new(),
        };
        self.wide("  by iteration, ", unit, &columns);
        if !ratios.is_empty() {
            self.wide("  over ideal", "", &ratios);
        }
    }

    /// Up to twelve narrow columns.
    fn wide(&mut self, label: &str, unit: &str, columns: &[String]) {
        let mut line = format!("{:<22}", format!("{label}{unit}"));
        columns.iter().for_each(|c| line.push_str(&format!(" {c:>7}")));
        if line.chars().count() <= WIDTH {
            self.push(line);
        }
    }

    fn streams(&mut self, r: &RunReport) {
        let Some(st) = &r.streams else { return };
        let share = st.loss_ratio.map(|x| format!(" = {}", percent(x))).unwrap_or_default();
        self.push(format!(
            "STREAMS     {}: {} frames sent, {} received, {} lost{share}",
            st.streams,
            grouped(st.frames_tx),
            grouped(st.frames_rx),
            grouped(st.lost)
        ));
        let heads = ["sent", "received", "lost", "CE", "L2 Gb/s", "L1 Gb/s"].map(str::to_owned);
        self.push(row("CLASS", &heads));
        for c in r.classes.iter().filter(|c| c.transmissions > 0) {
            let kind = if c.lossless { "lossless" } else { "lossy" };
            let mut columns = [c.transmissions, c.arrivals, c.lost, c.ce].map(grouped).to_vec();
            columns.extend(cells(&[c.arrival_l2_gbps, c.arrival_l1_gbps], |x| format!("{x:.3}")));
            self.push(row(&format!("  {} ({kind}, prio {})", c.name, c.priority), &columns));
        }
    }

    fn latency(&mut self, r: &RunReport) {
        let rows: Vec<&Latency> = r.latency_ns.iter().filter(|l| l.percentiles.n > 0).take(6).collect();
        let Some(max) = rows.iter().filter_map(|l| l.percentiles.max).reduce(f64::max) else { return };
        let (unit, by) = if max >= 1e3 { ("us", 1e3) } else { ("ns", 1.0) };
        let digits = if by > 1.0 { decimals(max / by) } else { 0 };
        let n = match rows.iter().all(|l| l.percentiles.n == rows[0].percentiles.n) {
            true => format!(" (n={})", grouped(rows[0].percentiles.n)),
            false => String::new(),
        };
        let heads = ["p50", "p95", "p99", "p99.9", "max", "  from -> to"].map(str::to_owned);
        self.push(row_of(LABEL, 9, &format!("LATENCY, {unit}{n}"), &heads));
        for l in &rows {
            let p: &Percentiles = &l.percentiles;
            let what = match (l.from.as_str(), l.to.as_str()) {
                (_, "ack_in") => "there and back",
                ("wire_out", _) => "in the network",
                _ => "felt by the job",
            };
            let several = r.latency_ns.iter().any(|other| other.class != l.class);
            let count = if n.is_empty() { format!(" (n={})", grouped(p.n)) } else { String::new() };
            let label = if several { format!("  {what}, {}{count}", l.class) } else { format!("  {what}") };
            let columns = cells(&[p.p50, p.p95, p.p99, p.p999, p.max], |x| format!("{:.digits$}", x / by));
            let stamps = format!("{} -> {}", l.from, l.to).replace('_', " ");
            self.push(format!("{}  {stamps}", row_of(LABEL, 9, &label, &columns)));
        }
    }

    fn pfc(&mut self, r: &RunReport) {
        let mut priorities: Vec<u8> = r.ports.iter().flat_map(|p| &p.pfc).map(|p| p.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        for priority in priorities {
            let rows: Vec<&PortPfc> =
                r.ports.iter().flat_map(|p| &p.pfc).filter(|p| p.priority == priority).collect();
            let paused: Vec<&&PortPfc> = rows.iter().filter(|p| p.xoff_rx > 0).collect();
            let fabric = fabric_pfc(r, priority);
            let title = format!("PFC prio {priority}");
            if paused.is_empty() && fabric.0 == 0 {
                self.push(format!("{title}  no XOFF reached any of {} tester ports", rows.len()));
                continue;
            }
            let heads =
                ["XOFF", "refresh", "XON", "paused max", "longest", "first XOFF", "seen"].map(str::to_owned);
            self.push(row_of(23, 11, &title, &heads));
            let most = |f: fn(&PortPfc) -> Option<f64>| rows.iter().filter_map(|p| f(p)).reduce(f64::max);
            let first = rows.iter().filter_map(|p| p.first_xoff_ns).reduce(f64::min);
            let sum = |f: fn(&PortPfc) -> u64| grouped(rows.iter().map(|p| f(p)).sum());
            self.push(row_of(
                23,
                11,
                &format!("  {} of {}", paused.len(), counted(rows.len() as u64, "port")),
                &[
                    sum(|p| p.xoff_rx),
                    sum(|p| p.refresh_rx),
                    sum(|p| p.xon_rx),
                    most(|p| p.paused_ns).map_or("-".into(), time),
                    most(|p| p.longest_pause_ns).map_or("-".into(), time),
                    first.map_or("-".into(), |x| format!("+{}", time(x))),
                    rows.first().map(|p| p.seen.clone()).unwrap_or_default(),
                ],
            ));
            if fabric.0 > 0 {
                let label = format!("  {}", counted(fabric.0, "fabric link"));
                self.push(row_of(23, 11, &label, &[fabric.1, fabric.2, fabric.3].map(grouped)));
            }
            if let Some(ns) = most(|p| p.response_ns_max) {
                let asked = most(|p| p.response_ns_asked).map_or("-".into(), time);
                let least = rows.iter().filter_map(|p| p.response_ns_min).fold(f64::INFINITY, f64::min);
                self.push(format!(
                    "  obeyed within {} to {} (asked: {asked} and the frame in flight)",
                    time(least),
                    time(ns)
                ));
            }
        }
    }

    fn switch(&mut self, r: &RunReport) {
        let used = |s: &&Switch| s.buffer_bytes_max.is_some();
        let fullest =
            r.switches.iter().filter(used).max_by_key(|s| (s.headroom_bytes_max, s.shared_bytes_max));
        let Some(s) = fullest else { return };
        let which = if r.switches.len() > 1 {
            format!(", {} (fullest of {})", s.name, r.switches.len())
        } else {
            String::new()
        };
        let limits = s.limits.clone().unwrap_or_default();
        let heads = ["max used", "limit", "  what the limit is"].map(str::to_owned);
        self.push(row(&format!("SWITCH ({}){which}", s.source), &heads));
        let mut line = |label: &str, used: Option<u64>, limit: Option<u64>, what: String| {
            let Some(used) = used else { return };
            let columns = [bytes(used), limit.map_or("-".into(), bytes)];
            self.push(format!("{}  {what}", row(label, &columns)));
        };
        let (shared, what) = shared_limit(&limits);
        line("  shared pool", s.shared_bytes_max, Some(shared), what);
        if let Some(xoff) = limits.xoff_bytes {
            line(
                "  prio group",
                s.ingress_bytes_max,
                Some(xoff),
                "XOFF expected at alpha S / (1 + n alpha)".into(),
            );
        } else {
            line("  prio group", s.ingress_bytes_max, None, "most of one port and priority".into());
        }
        let lossless = r.classes.iter().any(|c| c.lossless && c.transmissions > 0);
        if let (true, Some(used), Some(limit)) = (lossless, s.headroom_bytes_max, limits.headroom_bytes) {
            let beyond = |d: &&super::fabric::Drops| d.cause == "headroom";
            let beyond: u64 = r.fabric.drops.iter().filter(beyond).map(|d| d.frames).sum();
            let margin = match limit.checked_sub(used) {
                Some(_) if beyond > 0 => format!("{} lost for want of it", counted(beyond, "frame")),
                Some(margin) => format!("lossless drops beyond it (margin {})", bytes(margin)),
                None => "exceeded".into(),
            };
            line("  headroom", Some(used), Some(limit), margin);
        }
        let deepest = r.switches.iter().flat_map(|s| s.queues.iter().map(move |q| (s, q)));
        let depth = |q: &Queue| q.depth_bytes.max.unwrap_or(0.0);
        if let Some((at, q)) = deepest.max_by(|a, b| depth(a.1).total_cmp(&depth(b.1)))
            && q.depth_bytes.n > 0
        {
            let p99 = q.depth_bytes.p99.map(|x| format!(", p99 {}", bytes(x as u64))).unwrap_or_default();
            let name = if r.switches.len() > 1 { format!("{} {}", at.name, q.port) } else { q.port.clone() };
            self.push(format!(
                "  deepest queue {name} prio {}: {} at most{p99} (n={})",
                q.priority,
                bytes(depth(q) as u64),
                grouped(q.depth_bytes.n)
            ));
        }
        let stuck: Vec<_> = r.switches.iter().flat_map(|s| s.watchdog.iter().map(move |w| (s, w))).collect();
        if let Some((at, w)) = stuck.iter().max_by_key(|(_, w)| (w.storms, w.tx_drops)) {
            let dropped: u64 = stuck.iter().map(|(_, w)| w.tx_drops + w.rx_drops).sum();
            self.push(format!(
                "  PFC watchdog: {} queues found stuck, most often {} {} prio {} ({} times, {} restored); {} frames dropped",
                stuck.len(),
                at.name,
                w.port,
                w.priority,
                w.storms,
                w.restored,
                grouped(dropped)
            ));
        }
    }

    fn transport(&mut self, r: &RunReport) {
        let f = &r.flows;
        let marked: u64 = r.switches.iter().filter_map(|s| s.ce_marked).sum();
        self.push(format!(
            "CE / CNP / NAK / timeouts  {} / {} / {} / {}    sent again {}    out of order {}",
            grouped(marked.max(f.ce_rx)),
            grouped(f.cnp_rx),
            grouped(f.nak_rx),
            grouped(f.timeouts),
            grouped(f.retransmitted),
            grouped(f.out_of_order),
        ));
        // What only some runs have.
        let rare = [
            ("READ requests", f.read_tx, Some(("of them again", f.read_again))),
            ("RNR NAKs", f.rnr_nak_tx, None),
            ("waits for credits", f.credit_waits, None),
            ("datagrams", f.datagram_tx, Some(("found missing", f.datagram_lost))),
        ];
        let rare: Vec<String> = (rare.iter().filter(|r| r.1 > 0))
            .map(|(what, n, more)| match more {
                Some((of, m)) => format!("{what} {} ({of} {})", grouped(*n), grouped(*m)),
                None => format!("{what} {}", grouped(*n)),
            })
            .collect();
        self.field("OPERATIONS", &joined(&rare, "; "));
        if r.streams.is_some() {
            return;
        }
        let lossy: Vec<String> = r
            .classes
            .iter()
            .filter(|c| c.lost > 0)
            .map(|c| {
                let share = percent(c.lost as f64 / c.transmissions.max(1) as f64);
                format!(
                    "{} lost {} of {} frames ({share})",
                    c.name,
                    grouped(c.lost),
                    grouped(c.transmissions)
                )
            })
            .collect();
        self.field("LOST", &joined(&lossy, "; "));
    }

    fn who_waited(&mut self, r: &RunReport) {
        for w in &r.workload {
            let Some(f) = &w.fairness else { continue };
            let mut parts = Vec::new();
            if r.workload.len() > 1 {
                parts.push(w.name.clone());
            }
            parts.push(format!(
                "slowest rank {} ({} of {} iterations; chance alone {})",
                f.slowest_rank,
                f.slowest_times,
                w.iterations,
                significant(f.chance)
            ));
            parts.extend(f.jain.map(|j| format!("Jain {j:.4}")));
            parts.push(match f.starved {
                0 => "nobody starved".into(),
                n => format!("{} took over twice the median", counted(n.into(), "rank")),
            });
            if let (Some(mean), Some(max)) = (w.idle_fraction.mean, w.idle_fraction.max)
                && w.kind != "incast"
            {
                parts.push(format!("idle {} mean, {} max", percent(mean), percent(max)));
            }
            self.field("WHO WAITED", &joined(&parts, "; "));
        }
    }

    fn rate_control(&mut self, r: &RunReport) {
        for w in &r.workload {
            let Some(c) = &w.rate_control else { continue };
            let mut parts = Vec::new();
            if r.workload.len() > 1 {
                parts.push(w.name.clone());
            }
            parts.push(c.set.as_ref().map_or(c.control.clone(), |set| format!("{} {set}", c.control)));
            parts.extend(c.jain.map(|j| format!("Jain {j:.4}")));
            parts.push(match (c.convergence_ns, c.judged) {
                (Some(ns), 1) => format!("within 10 % of fair share after {}", time(ns)),
                (Some(ns), n) => format!("within 10 % of fair share after {} at most ({n} phases)", time(ns)),
                (None, 0) => "no phase was long enough to judge its rates".into(),
                (None, n) => {
                    format!("within 10 % of fair share in {} of {}", c.converged, counted(n.into(), "phase"))
                }
            });
            self.field("RATES", &joined(&parts, "; "));
        }
    }

    fn warnings(&mut self, r: &RunReport) {
        let (paths, others): (Vec<&Warning>, Vec<&Warning>) =
            r.warnings.iter().partition(|w| w.code.starts_with("ecmp"));
        paths.iter().take(2).for_each(|w| self.field("PATHS", &w.text));
        others.iter().take(3).for_each(|w| self.field("WARNING", &format!("{} [{}]", w.text, w.code)));
        if others.len() > 3 {
            self.push(format!("          and {} more warnings in report.json", others.len() - 3));
        }
    }

    fn tester(&mut self, r: &RunReport) {
        let t = &r.tester;
        let mut parts: Vec<String> = Vec::new();
        if t.trustworthy {
            parts.extend(r.dilation.map(|k| format!("time ran {}x slower", significant(k))));
            if let Some(p) = &t.pacing_error_ns {
                let point = t.pacing_point.as_deref().filter(|p| *p != "wire").unwrap_or("nominal");
                parts.push(format!("lateness p99 {} {point}", time(p.p99)));
            }
            parts.extend(t.rate_error.map(|e| format!("rate off by {} %", significant(e * 100.0))));
            if t.workers.len() > 1
                && let Some(ns) = t.start_spread_ns
            {
                parts.push(format!("{} workers started within {}", t.workers.len(), time(ns)));
            }
            if let Some(s) = &r.sim {
                let speed =
                    s.link_tx_per_cpu_s.map(|x| format!(", {} M link tx/CPU s", significant(x / 1e6)));
                parts.push(format!("{} events{}", grouped(s.events), speed.unwrap_or_default()));
            }
            parts.push(format!("tx refused {}, rx missed {}", grouped(t.tx_refused), grouped(t.rx_missed)));
            parts.push("no frame unaccounted for".into());
        } else {
            parts.extend(t.why.iter().cloned());
            if parts.is_empty() {
                parts.push("no reason given".into());
            }
        }
        let word = if t.trustworthy { "TRUSTED" } else { "NOT TRUSTED" };
        self.field("TESTER", &format!("{word}  {}", joined(&parts, "; ")));
    }

    fn ports(&mut self, r: &RunReport) {
        for p in &r.tester.ports {
            let mut parts = vec![
                format!("{} ({})", p.device, p.driver),
                format!(
                    "out {} frames, {} % of the rate",
                    grouped(p.tx_frames),
                    significant(p.tx_utilisation * 100.0)
                ),
                format!("in {}", grouped(p.rx_frames)),
            ];
            if p.queues > 1 {
                let how = p.steering.as_deref().map(|s| format!(" ({s})"));
                parts.push(format!("{} queues{}", p.queues, how.unwrap_or_default()));
            }
            if let Some(ns) = p.xoff_response_ns {
                parts.push(format!("obeyed XOFF within {}", time(ns)));
            }
            if let (Some(p50), Some(max)) = (p.delay_ns.p50, p.delay_ns.max) {
                parts.push(format!("delay p50 {}, max {}", time(p50), time(max)));
            }
            if let Some(doubt) = p.arrival_doubt_ns {
                parts.push(format!("arrivals stamped by the {}, to {}", p.arrival_point, time(doubt)));
            }
            if p.pacing == "hardware" {
                parts.push(format!("{} frames sent at their times by the device", grouped(p.tx_paced)));
            }
            if let Some(n) = p.stamp_every.filter(|n| *n > 1) {
                parts.push(format!(
                    "{} frames with stamps, 1 of {}",
                    grouped(p.tx_stamped),
                    grouped(n.into())
                ));
            }
            // What the way itself adds varies by a few frames.
            if let Some(depth) = p.queue_bytes_inferred.max.filter(|b| *b > QUEUE_TOLD_MIN) {
                parts.push(format!("queue before it up to {} by the delay", bytes(depth as u64)));
            }
            for (n, what) in [
                (p.ce_rx, "with CE"),
                (p.rx_missed, "missed"),
                (p.icrc_errors, "with a wrong ICRC"),
                (p.rx_other, "of others"),
                (p.misdirected, "came to another queue than their rank's"),
            ] {
                if n > 0 {
                    parts.push(format!("{} {what}", grouped(n)));
                }
            }
            self.field("PORT", &format!("{}  {}", p.name, joined(&parts, "; ")));
        }
        for e in r.tester.events.iter().take(5) {
            self.field("EVENT", e);
        }
    }

    fn expect(&mut self, r: &RunReport) {
        if r.expectations.is_empty() {
            return;
        }
        let passed = r.expectations.iter().filter(|e| e.pass).count();
        let mut lines: Vec<&Judged> = r.expectations.iter().collect();
        lines.sort_by_key(|e| e.pass);
        let unbroken = |e| super::expect::line(e).replace(' ', &KEEP.to_string());
        let lines: Vec<String> = lines.into_iter().map(unbroken).collect();
        self.field("EXPECT", &format!("{passed} of {}  {}", r.expectations.len(), joined(&lines, "  ")));
    }

    fn repeat(&mut self, r: &RunReport, out: Option<&str>) {
        let hash = r.hash_short().map(|h| format!("   hash {h}")).unwrap_or_default();
        let command = r.repeat.clone().or_else(|| {
            out.map(|o| format!("rankstorm run {o}/profile.effective.toml --seed {} --on {}", r.seed, r.mode))
        });
        match command {
            Some(c) => self.push(format!("REPEAT    {c}{hash}")),
            None if !hash.is_empty() => self.push(format!("OUTCOME  {hash}")),
            None => {}
        }
        if let Some(out) = out {
            self.push(format!("NEXT      rankstorm compare {out} --against OTHER"));
        }
    }
}

/// What the frames of the run could share, and which part of the buffer that is.
fn shared_limit(limits: &Limits) -> (u64, String) {
    let used: Vec<&Pool> = limits.pools.iter().filter(|p| p.used).collect();
    let (bytes, what) = match used.as_slice() {
        [] => (limits.shared_bytes, "buffer less reserved and headroom".to_owned()),
        [one] => (one.shared_bytes, format!("ingress pool {} of {}", one.name, limits.pools.len())),
        some => {
            let what = format!("{} of {} ingress pools", some.len(), limits.pools.len());
            (some.iter().map(|p| p.shared_bytes).sum(), what)
        }
    };
    match limits.slices {
        Some(n) => (bytes, format!("{what}, in {n} slices")),
        None => (bytes, what),
    }
}

fn title_of(kind: &str) -> &str {
    match kind {
        "incast" => "BURST",
        "ring-all-reduce" => "ALL-REDUCE",
        "replay" => "REPLAY",
        other => other,
    }
}

/// All values in the one unit that suits the largest.
fn time_cells(values: &[Option<f64>]) -> (&'static str, Vec<String>) {
    let max = values.iter().flatten().copied().fold(0.0, f64::max);
    let (unit, by) = time_unit(max);
    let digits = decimals(max / by);
    (unit, cells(values, |x| format!("{:.digits$}", x / by)))
}

/// Links between switches that carried XOFF of a priority, and XOFF, refresh, XON over them.
fn fabric_pfc(r: &RunReport, priority: u8) -> (u64, u64, u64, u64) {
    let ports = r.switches.iter().flat_map(|s| &s.ports).filter(|p| p.fabric);
    let rows = ports.flat_map(|p| &p.pfc).filter(|p| p.priority == priority && p.xoff_tx > 0);
    rows.fold((0, 0, 0, 0), |(n, x, f, o), p| (n + 1, x + p.xoff_tx, f + p.refresh_tx, o + p.xon_tx))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::report::fixture;
    use crate::run::result::RunResult;

    fn screen((plan, result): (Plan, RunResult)) -> String {
        let text = render(&fixture::report(&plan, &result), Some("out/x"));
        let wide: Vec<&str> = text.lines().filter(|l| l.chars().count() > WIDTH).collect();
        assert!(wide.is_empty(), "wider than {WIDTH} columns: {wide:#?}");
        assert!(text.lines().count() <= 30, "{text}");
        text
    }

    #[test]
    fn columns_that_are_full_keep_a_space_between_them() {
        let columns = ["27,499,564", "27,499,564", "0"].map(String::from);
        let line = row("  roce (lossless, prio 3), a long name", &columns);
        assert_eq!(
            line.split_whitespace().rev().take(3).collect::<Vec<_>>(),
            ["0", "27,499,564", "27,499,564"]
        );
        let head = row("SWITCH (model), leaf0 (fullest of 4)", &["max used".into(), "limit".into()]);
        assert!(head.starts_with("SWITCH (model), leaf0 (fullest of 4) max used "), "{head}");
    }

    #[test]
    fn incast_on_one_screen() {
        insta::assert_snapshot!(screen(fixture::incast()));
    }

    #[test]
    fn ring_on_one_screen() {
        insta::assert_snapshot!(screen(fixture::ring()));
    }

    #[test]
    fn streams_on_one_screen() {
        insta::assert_snapshot!(screen(fixture::streams()));
    }

    #[test]
    fn a_result_the_tester_spoilt_says_so_first_and_exits_3() {
        let (plan, mut result) = fixture::incast();
        result.conservation.sent_frames += 2;
        let text = screen((plan, result));
        assert!(text.lines().nth(1).unwrap().ends_with("NOT TRUSTED, exit 3"), "{text}");
        assert!(text.contains("NOT TRUSTED  frames unaccounted for (655362 sent"), "{text}");
    }

    #[test]
    fn an_interrupted_run_does_not_pass() {
        let (plan, mut result) = fixture::ring();
        result.complete = false;
        result.missing = vec!["interrupted in iteration 3 of 4".into()];
        let text = screen((plan, result));
        assert!(text.lines().next().unwrap().ends_with("FAIL, exit 1"), "{text}");
        assert!(text.contains("INCOMPLETE: interrupted in iteration 3 of 4"), "{text}");
    }
}
