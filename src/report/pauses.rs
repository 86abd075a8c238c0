//! From counters to the fabric part of a report: the spread, the pause tree, victims, storms, deadlocks.

use std::collections::{BTreeMap, BTreeSet};

use super::fabric::{
    Deadlock, Drops, Event, Fabric, Link, Paths, PauseEdge, PauseRoot, Storm, Victim, Victims,
};
use crate::limits::PRIORITIES;
use crate::measure::network::{NetworkRecord, XoffRow};
use crate::measure::record::DropReason;
use crate::plan::Plan;
use crate::plan::flows::{PlanFlow, flows};
use crate::plan::links::LinkChange;
use crate::run::result::RunResult;
use crate::topology::{End, Wiring, tier_paths, trace};
use crate::units::Span;

/// Rows of lists that could grow with the fabric.
const ROWS_MAX: usize = 256;
/// Flows whose way is looked at.
const FLOWS_MAX: usize = 1 << 16;
/// Victims listed.
const VICTIMS_MAX: usize = 16;
/// Maximal pauses (65,535 quanta) in a row that make a storm: eight refreshes by a sender that refreshes at half time.
/// Our choice; watchdogs of switches wait 100 ms and more.
const STORM_PAUSES: u64 = 4;

/// A sender that can be paused, by the link it sends into.
type Queue = (u32, u8);

struct Maker<'a> {
    plan: &'a Plan,
    result: &'a RunResult,
    net: &'a NetworkRecord,
    wiring: Wiring,
}

/// The fabric part of the report.
pub(super) fn fabric(plan: &Plan, result: &RunResult) -> Fabric {
    let net = result.recorder.network();
    // Lossless where a class or the switch says so.
    let promised = |p: usize| plan.classes.iter().any(|c| c.lossless && usize::from(c.priority) == p);
    let group = |s: &crate::switch::config::SwitchConfig, p: usize| {
        s.first().priorities[s.maps.group_of(p as u8)].lossless
    };
    let kept = |p: usize| plan.fabric.switches.first().is_some_and(|s| group(s, p));
    let lossless = std::array::from_fn::<bool, PRIORITIES, _>(|p| promised(p) || kept(p));
    let drops = DropReason::ALL.iter().map(|r| {
        let each = result.recorder.drops(*r);
        let kept: u64 = each.iter().zip(lossless).filter(|(_, l)| *l).map(|(n, _)| n).sum();
        Drops { cause: cause(*r), frames: each.iter().sum(), lossless: kept }
    });
    let mut out = Fabric {
        shape: plan.fabric.shape.clone(),
        drops: drops.filter(|d| d.frames > 0).collect(),
        ..Fabric::default()
    };
    let Ok(wiring) = Wiring::new(&plan.fabric) else { return out };
    let m = Maker { plan, result, net, wiring };
    out.paths = m.paths();
    out.events = m.events();
    out.links = m.links();
    m.pauses(&mut out);
    out.storms = m.storms();
    out.deadlocks = m.deadlocks();
    out
}

fn cause(reason: DropReason) -> String {
    let json = serde_json::to_value(reason).ok();
    json.and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

impl Maker<'_> {
    fn end(&self, end: End) -> String {
        match end {
            End::Host(p) => {
                let name = self.plan.hosts.get(p.0 as usize).map_or("?", |h| h.name.as_str());
                format!("port {name}")
            }
            End::Switch(s, p) => self.plan.fabric.port_name(s, p),
        }
    }

    /// The sender into a link.
    fn sender(&self, link: u32) -> String {
        self.plan.fabric.links.get(link as usize).map_or_else(String::new, |l| self.end(l.from))
    }

    fn leaving(&self, switch: u16, port: u16) -> Option<u32> {
        self.wiring.from_switch.get(usize::from(switch))?.get(usize::from(port)).copied()
    }

    fn paths(&self) -> Vec<Paths> {
        let sent = |l: &crate::topology::Link| match l.from {
            End::Switch(s, p) => {
                let ports = self.result.switches.get(usize::from(s)).map(|s| &s.ports);
                let port = ports.and_then(|p2| p2.get(usize::from(p)));
                port.map_or(0, |p| p.queues.iter().map(|q| q.tx_bytes).sum::<u64>()) as f64
            }
            End::Host(_) => 0.0,
        };
        let load: Vec<f64> = self.plan.fabric.links.iter().map(sent).collect();
        let row = |t: crate::topology::TierPaths| Paths {
            from: t.from,
            to: t.to,
            links: t.links,
            used: t.used,
            effective: t.effective,
        };
        tier_paths(&self.plan.fabric, &load).into_iter().map(row).collect()
    }

    fn events(&self) -> Vec<Event> {
        let links = &self.plan.fabric.links;
        let name = |end: End| match end {
            End::Switch(s, _) => {
                self.plan.fabric.switches.get(usize::from(s)).map_or("?".into(), |s| s.name.clone())
            }
            End::Host(_) => self.end(end),
        };
        let row = |e: &crate::plan::LinkEvent| Event {
            at_ns: e.at.as_ns_f64(),
            cable: links
                .get(2 * e.cable as usize)
                .map_or_else(String::new, |l| format!("{} - {}", name(l.from), name(l.to))),
            what: match e.change {
                LinkChange::Down => "down".into(),
                LinkChange::Up => "up".into(),
                LinkChange::Rate(r) => format!("at {r}"),
                LinkChange::BitErrors(ber) => format!("bit error rate {ber:e}"),
            },
        };
        let past = self.plan.links.events.iter().filter(|e| e.at < self.result.ended);
        past.take(ROWS_MAX).map(row).collect()
    }

    fn links(&self) -> Vec<Link> {
        let row = |l: &crate::measure::network::LinkLoss| {
            let link = self.plan.fabric.links.get(l.link as usize)?;
            Some(Link {
                link: format!("{} -> {}", self.end(link.from), self.end(link.to)),
                blackholed: l.blackholed,
                in_flight: l.in_flight,
                bit_errors: l.bit_errors,
            })
        };
        self.net.losses().iter().filter_map(row).collect()
    }

    /// The queue to blame, and the sender that was paused.
    fn ends_of(&self, row: &XoffRow) -> Option<(Queue, Queue)> {
        let c = &row.cause;
        // A cable is two links: what comes in by a port is the other half of what leaves by it.
        let queue = self.leaving(c.switch, c.egress)?;
        let paused = self.leaving(c.switch, c.ingress)? ^ 1;
        Some(((queue, c.priority), (paused, c.priority)))
    }

    /// Paused by the tester port behind it.
    fn held_by_receiver(&self, (link, priority): Queue) -> bool {
        match self.plan.fabric.links.get(link as usize).map(|l| (l.from, l.to)) {
            Some((End::Switch(s, p), End::Host(_))) => self.net.meter(s, p, priority).pauses > 0,
            _ => false,
        }
    }

    fn pauses(&self, out: &mut Fabric) {
        let mut edges: Vec<(Queue, Queue, &XoffRow)> = Vec::new();
        for row in self.net.xoffs() {
            if let Some((queue, paused)) = self.ends_of(row) {
                edges.push((queue, paused, row));
            }
        }
        // Per queue: whom it paused while it was free to send itself (or its receiver held it up), and otherwise.
        let mut started: BTreeMap<Queue, (u64, BTreeSet<Queue>)> = BTreeMap::new();
        let mut passed_on: BTreeMap<Queue, BTreeSet<Queue>> = BTreeMap::new();
        let starts = |queue: Queue, row: &XoffRow| !row.cause.paused || self.held_by_receiver(queue);
        for (queue, paused, row) in &edges {
            if starts(*queue, row) {
                let root = started.entry(*queue).or_default();
                root.0 += row.xoffs;
                root.1.insert(*paused);
            } else {
                passed_on.entry(*queue).or_default().insert(*paused);
            }
        }
        out.pause_roots =
            started.iter().map(|(q, (xoffs, first))| self.root(*q, *xoffs, first, &passed_on)).collect();
        out.pause_roots.sort_by_key(|r| std::cmp::Reverse(r.xoffs));
        out.pause_roots.truncate(ROWS_MAX);
        out.victims = self.victims(&started.keys().copied().collect());
        edges.sort_by_key(|(_, _, row)| (std::cmp::Reverse(row.xoffs), row.cause));
        let left: u64 = edges.iter().skip(ROWS_MAX).map(|(_, _, row)| row.xoffs).sum();
        out.pause_tree_left_out = left + self.net.xoffs_left_out();
        let edge = |(queue, paused, row): &(Queue, Queue, &XoffRow)| PauseEdge {
            queue: self.sender(queue.0),
            paused: self.sender(paused.0),
            priority: queue.1,
            xoffs: row.xoffs,
            first_ns: row.first.as_ns_f64(),
            root: starts(*queue, row),
        };
        out.pause_tree = edges.iter().take(ROWS_MAX).map(edge).collect();
    }

    fn root(
        &self,
        queue: Queue,
        xoffs: u64,
        first: &BTreeSet<Queue>,
        passed_on: &BTreeMap<Queue, BTreeSet<Queue>>,
    ) -> PauseRoot {
        let (mut seen, mut front, mut depth) = (first.clone(), first.clone(), 1);
        loop {
            let next: BTreeSet<Queue> = front
                .iter()
                .filter_map(|q| passed_on.get(q))
                .flatten()
                .filter(|q| !seen.contains(q))
                .copied()
                .collect();
            if next.is_empty() {
                break;
            }
            depth += 1;
            seen.extend(&next);
            front = next;
        }
        let host = |q: &&Queue| {
            self.plan.fabric.links.get(q.0 as usize).is_some_and(|l| matches!(l.from, End::Host(_)))
        };
        PauseRoot {
            queue: self.sender(queue.0),
            priority: queue.1,
            why: if self.held_by_receiver(queue) { "receiver" } else { "congested" }.into(),
            xoffs,
            ports: seen.iter().filter(host).count() as u32,
            depth,
        }
    }

    /// How long the sender into a link was paused.
    fn paused(&self, link: u32, priority: u8) -> Span {
        match self.plan.fabric.links.get(link as usize).map(|l| l.from) {
            Some(End::Switch(s, p)) => self.net.meter(s, p, priority).paused,
            Some(End::Host(h)) => {
                let rows = self.result.recorder.pauses().rows();
                rows.get(h.0 as usize).map_or(Span::ZERO, |p| p[usize::from(priority) % PRIORITIES].paused)
            }
            None => Span::ZERO,
        }
    }

    fn victims(&self, roots: &BTreeSet<Queue>) -> Option<Victims> {
        if !self.plan.links.reroutes.is_empty() {
            return None;
        }
        let dest_qp = self.plan.fabric.switches.iter().any(|s| s.hash_dest_qp);
        let all = flows(&self.plan.hosts, &self.plan.workloads, dest_qp);
        let mut out = Victims { flows: all.len().min(FLOWS_MAX) as u32, ..Victims::default() };
        let mut found: Vec<(Span, u32, &PlanFlow)> = Vec::new();
        for f in all.iter().take(FLOWS_MAX).filter(|f| f.hashed.src != f.hashed.dst) {
            let way = trace(&self.plan.fabric, &self.wiring, &f.hashed).ok()?;
            if way.iter().any(|l| roots.contains(&(*l, f.priority))) {
                continue;
            }
            let longest = way.iter().map(|l| (self.paused(*l, f.priority), *l)).max();
            if let Some((span, link)) = longest.filter(|(span, _)| *span > Span::ZERO) {
                found.push((span, link, f));
            }
        }
        out.victims = found.len() as u32;
        found.sort_by_key(|(span, _, f)| (std::cmp::Reverse(*span), f.from, f.to));
        let row = |(span, link, f): &(Span, u32, &PlanFlow)| Victim {
            from: f.from.0,
            to: f.to.0,
            paused_at: self.sender(*link),
            paused_ns: span.as_ns_f64(),
        };
        out.worst = found.iter().take(VICTIMS_MAX).map(row).collect();
        Some(out)
    }

    fn storms(&self) -> Vec<Storm> {
        let ends = self.plan.fabric.links.iter().filter_map(|l| match (l.from, l.to) {
            (End::Switch(s, p), End::Host(_)) => Some((s, p, l)),
            _ => None,
        });
        let mut all = Vec::new();
        for (s, p, link) in ends {
            let limit = link.timing.rate().quanta(u16::MAX).0 * STORM_PAUSES;
            for priority in 0..PRIORITIES as u8 {
                let meter = self.net.meter(s, p, priority);
                if meter.longest.0 > limit && all.len() < ROWS_MAX {
                    all.push(Storm {
                        port: self.end(link.to),
                        priority,
                        longest_ns: meter.longest.as_ns_f64(),
                        paused_ns: meter.paused.as_ns_f64(),
                    });
                }
            }
        }
        all
    }

    fn deadlocks(&self) -> Vec<Deadlock> {
        let row = |d: &crate::measure::network::Deadlock| Deadlock {
            confirmed_ns: d.confirmed.as_ns_f64(),
            priority: d.cycle.first().map_or(0, |q| q.2),
            cycle: d.cycle.iter().map(|(s, p, _)| self.plan.fabric.port_name(*s, *p)).collect(),
            queues: d.queues,
            frames: d.frames,
        };
        self.net.deadlocks().iter().map(row).collect()
    }
}
