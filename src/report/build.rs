//! From what a run measured to what its report says.

use std::collections::BTreeSet;

use super::model::*;
use super::network::Watchdog;
use super::{answer, expect, rate};
use crate::limits::PRIORITIES;
use crate::measure::distribution::{Distribution, Percentiles};
use crate::measure::iterations::WorkloadIterations;
use crate::measure::stats::{HostStats, PfcStats, SwitchPortStats, SwitchStats, WatchdogStats};
use crate::plan::{Mode, Plan};
use crate::run::result::{PortFigures, RunResult, WorkerStats};
use crate::switch::config::SwitchConfig;
use crate::topology::End;
use crate::transport::config::Verb;
use crate::units::{PortId, Time};
use crate::workload::config::{Action, WorkloadConfig, WorkloadKind};

/// Iterations listed one by one in the report.
const ITERATIONS_MAX: usize = 4_096;
/// Preamble, start delimiter and gap: what layer 1 adds to a frame with FCS.
const L1_BYTES: u64 = 20;

/// What the run itself does not know.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// When the run began, RFC 3339, UTC.
    pub started: String,
    /// The command that repeats it.
    pub repeat: Option<String>,
}

/// Where lateness was measured: where the device sends all frames of streams at their times, it is that of handing them over
/// in time for that.
fn pacing_point(mode: Mode, ports: &[PortFigures]) -> &'static str {
    let mut streams = ports.iter().filter(|p| p.rate_error.is_some()).peekable();
    match mode {
        Mode::Ports if streams.peek().is_some() && streams.all(|p| p.pacing == "hardware") => "device",
        Mode::Ports => "enqueue",
        Mode::Rings | Mode::Virtual => "wire",
    }
}

/// Percentiles in nanoseconds of those in picoseconds.
fn pacing([p50, p99, max]: [u64; 3]) -> Pacing {
    Pacing { p50: p50 as f64 / 1e3, p99: p99 as f64 / 1e3, max: max as f64 / 1e3 }
}

/// From the first turn of the first worker to that of the last, picoseconds; `None` for one worker.
fn spread(workers: &[WorkerStats]) -> Option<u64> {
    let late: Vec<u64> = workers.iter().filter_map(|w| w.started_late_ps).collect();
    let (least, most) = (late.iter().min()?, late.iter().max()?);
    (late.len() > 1).then(|| most - least)
}

impl RunReport {
    /// The report of a run: every figure computed from `result`, or absent.
    pub fn build(plan: &Plan, result: &RunResult, meta: Meta) -> RunReport {
        let b = Builder { plan, result, source: if result.mode == Mode::Ports { "wire" } else { "model" } };
        let mut report = RunReport {
            schema: SCHEMA,
            tool: Tool {
                version: env!("CARGO_PKG_VERSION").into(),
                revision: env!("RANKSTORM_REVISION").into(),
                dpdk: env!("RANKSTORM_DPDK").into(),
            },
            name: plan.name.clone(),
            repeat: meta.repeat,
            mode: mode_name(result.mode).into(),
            seed: plan.seed,
            outcome_hash: (result.mode != Mode::Ports).then(|| result.outcome_hash()),
            dilation: result.tester.dilation,
            started: meta.started,
            duration_ns: result.ended.as_ns_f64(),
            complete: result.complete,
            missing: result.missing.clone(),
            question: plan.question.clone(),
            answer: String::new(),
            repeats: plan.repeats,
            warmup: plan.warmup,
            fan_in: b.fan_in(),
            workload: (0..plan.workloads.len()).map(|ix| b.workload(ix)).collect(),
            classes: b.classes(),
            streams: b.streams(),
            flows: b.flows(),
            latency_ns: b.latency(),
            hosts: b.hosts(),
            ports: b.ports(),
            switches: b.switches(),
            fabric: super::pauses::fabric(plan, result),
            snapshots: b.snapshots(),
            dut: None,
            tester: b.tester(),
            memory: Memory {
                bytes_per_qp: plan.predicted.memory.bytes_per_qp,
                bytes_per_rank: plan.predicted.memory.bytes_per_rank,
                peak_bytes: result.peak_bytes,
            },
            sim: result.sim.map(|s| Sim {
                events: s.events,
                link_transmissions: s.link_transmissions,
                cpu_s: s.cpu_s,
                link_tx_per_cpu_s: ratio(s.link_transmissions as f64, s.cpu_s),
            }),
            conservation: Conservation {
                sent_frames: result.conservation.sent_frames,
                received_frames: result.conservation.received_frames,
                dropped_frames: result.conservation.dropped_frames,
                inside_frames: result.conservation.inside_frames,
                holds: result.conservation.holds(),
            },
            expectations: Vec::new(),
            not_measured: Vec::new(),
            warnings: b.warnings(),
        };
        report.not_measured = answer::not_measured(&report);
        report.expectations = plan.expect.iter().map(|e| expect::judge(e, &report)).collect();
        report.answer = answer::answer(&report);
        report
    }
}

/// `a / b`, or nothing when `b` is not positive.
pub(super) fn ratio(a: f64, b: f64) -> Option<f64> {
    (b > 0.0).then(|| a / b)
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Ports => "ports",
        Mode::Rings => "rings",
        Mode::Virtual => "virtual",
    }
}

struct Builder<'a> {
    plan: &'a Plan,
    result: &'a RunResult,
    source: &'static str,
}

impl Builder<'_> {
    fn sum(&self, f: impl Fn(&HostStats) -> u64) -> u64 {
        self.result.hosts.iter().map(f).sum()
    }

    /// Nominal nanoseconds in which an iteration was under way; without closed-loop workloads, between the first and
    /// the last arrival.
    fn active_ns(&self) -> f64 {
        let rows = self.result.recorder.iterations().iter().flat_map(|w| w.finished());
        let mut spans: Vec<(Time, Time)> = rows.map(|r| (r.released, r.finished)).collect();
        if self.plan.workloads.is_empty() {
            spans.extend(self.result.recorder.classes().iter().map(|c| (c.first, c.last)));
        }
        spans.sort_unstable();
        let (mut sum, mut until) = (0.0, Time::ZERO);
        for (from, to) in spans {
            sum += to.since(from.max(until)).as_ns_f64();
            until = until.max(to);
        }
        sum
    }

    fn fan_in(&self) -> FanIn {
        let sends = |h: &&HostStats| h.classes.iter().any(|c| c.transmissions > 0);
        FanIn {
            ranks: self.plan.predicted.fan_in_ranks,
            physical: self.plan.predicted.fan_in_physical,
            sender_ports: self.result.hosts.iter().filter(sends).count() as u32,
        }
    }

    fn workload(&self, ix: usize) -> Workload {
        let config = &self.plan.workloads[ix];
        let ranks = config.ranks.len() as f64;
        let (kind, bytes, bus_factor) = match &config.kind {
            WorkloadKind::Incast { message } => {
                ("incast", message.0 * (config.ranks.len() as u64).saturating_sub(1), None)
            }
            WorkloadKind::RingAllReduce { vector, .. } => {
                ("ring-all-reduce", vector.0, Some(2.0 * (ranks - 1.0) / ranks))
            }
            WorkloadKind::Replay(schedule) => ("replay", schedule.summary().bytes_total, None),
        };
        let iterations = self.result.recorder.iterations().get(ix);
        let completions: Vec<f64> = iterations
            .iter()
            .flat_map(|w| w.finished())
            .filter_map(|r| r.completion().map(|s| s.as_ns_f64()))
            .collect();
        let percentiles = Percentiles::of_samples(&mut completions.clone());
        let mean = percentiles.mean.filter(|m| *m > 0.0);
        let span_ns = |spans: &[crate::units::Span]| {
            spans.get(ix).map(|s| s.as_ns_f64()).filter(|ns| *ns > 0.0 && *ns < 1e18)
        };
        let ideal_ns = span_ns(&self.plan.predicted.ideal);
        let algbw_gbps = mean.map(|m| bytes as f64 * 8.0 / m);
        let class = self.plan.classes.get(usize::from(config.class.0));
        Workload {
            name: config.name.clone(),
            kind: kind.into(),
            source: self.source.into(),
            class: class.map(|c| c.name.clone()).unwrap_or_default(),
            ranks: config.ranks.len() as u32,
            iterations: completions.len() as u32,
            bytes,
            completion_ns: Completion { cv: cv(&completions), percentiles },
            iteration_ns: completions.iter().take(ITERATIONS_MAX).copied().collect(),
            message_ns: self
                .result
                .recorder
                .messages()
                .get(ix)
                .map(|m| m.fct_ns.percentiles())
                .unwrap_or_default(),
            algbw_gbps,
            busbw_gbps: algbw_gbps.zip(bus_factor).map(|(a, f)| a * f),
            ranks_per_node: match config.kind {
                WorkloadKind::RingAllReduce { per_node, .. } => per_node,
                _ => 1,
            },
            ideal_ns,
            ideal_ratio: mean.zip(ideal_ns).map(|(m, i)| m / i),
            fabric_bound_ns: span_ns(&self.plan.predicted.fabric_bound),
            payload_limit_gbps: self.payload_limit_gbps(config),
            idle_fraction: iterations.map(idle).unwrap_or_default(),
            start_spread_ns: iterations.map(start_spread).unwrap_or_default(),
            fairness: iterations.and_then(fairness),
            rate_control: rate::figure(self.plan, self.result, ix),
        }
    }

    /// Payload rate of back-to-back messages into the receiver's port.
    fn payload_limit_gbps(&self, w: &WorkloadConfig) -> Option<f64> {
        let WorkloadKind::Incast { message } = w.kind else { return None };
        let rank = self.plan.ranks.get(w.ranks.last()?.0 as usize)?;
        let rate = self.plan.hosts.get(rank.port.0 as usize)?.rate.as_gbps_f64();
        let class = self.plan.classes.get(usize::from(w.class.0))?;
        let frames = message.0.div_ceil(class.mtu.into()).max(1);
        // Ethernet 14, IP 20 or 40, UDP 8, BTH 12, ICRC 4, FCS 4, preamble and gap 20; VLAN 4.
        let per_frame =
            62 + L1_BYTES + if rank.ip.is_ipv6() { 20 } else { 0 } + if class.vlan.is_some() { 4 } else { 0 };
        let per_message = match w.verb {
            Verb::Write => 16,
            Verb::WriteImm => 20,
            Verb::Send => 0,
            Verb::UdSend => 12,
            // An AETH in the first and in the last response.
            Verb::Read => {
                if frames == 1 {
                    4
                } else {
                    8
                }
            }
        };
        let pad = message.0.next_multiple_of(4) - message.0;
        ratio(message.0 as f64 * rate, (message.0 + pad + per_message + frames * per_frame) as f64)
    }

    fn classes(&self) -> Vec<Class> {
        let recorder = &self.result.recorder;
        let class = |(ix, c): (usize, &crate::transport::config::ClassConfig)| {
            let sum = |f: fn(&crate::measure::stats::ClassStats) -> u64| {
                self.result.hosts.iter().filter_map(|h| h.classes.get(ix)).map(f).sum::<u64>()
            };
            let arrived = recorder.classes().get(ix);
            let paused =
                recorder.pauses().rows().iter().map(|p| p[usize::from(c.priority) % PRIORITIES].paused);
            let span_ns = arrived.map(|a| a.last.since(a.first).as_ns_f64()).filter(|ns| *ns > 0.0);
            // The span from first to last arrival holds all frames but one.
            let all_but_one = |a: u64, n: u64| a as f64 * (n - 1) as f64 / n as f64;
            let rate = |extra: u64| {
                let a = arrived?;
                Some(all_but_one(a.bytes + extra * a.frames, a.frames.max(1)) * 8.0 / span_ns?)
            };
            Class {
                name: c.name.clone(),
                source: self.source.into(),
                lossless: c.lossless,
                dscp: c.dscp,
                priority: c.priority,
                transmissions: sum(|s| s.transmissions),
                arrivals: sum(|s| s.arrivals),
                // A real network tells nobody what it dropped: what has not arrived counts as lost there.
                lost: match self.result.mode {
                    Mode::Ports => sum(|s| s.transmissions).saturating_sub(sum(|s| s.arrivals)),
                    _ => arrived.map_or(0, |a| a.dropped),
                },
                retransmitted: sum(|s| s.retransmitted),
                ce: sum(|s| s.ce),
                paused_ns: Some(paused.map(|s| s.as_ns_f64()).sum()),
                arrival_l2_gbps: rate(0),
                arrival_l1_gbps: rate(L1_BYTES),
            }
        };
        self.plan.classes.iter().enumerate().map(class).collect()
    }

    fn streams(&self) -> Option<Streams> {
        let bursts = |a: &&crate::workload::config::TimedAction| matches!(a.action, Action::Burst(_));
        let count =
            |h: &crate::host::config::HostConfig| h.streams.len() + h.actions.iter().filter(bursts).count();
        let streams: usize = self.plan.hosts.iter().map(count).sum();
        let (frames_tx, frames_rx) = (self.sum(|h| h.stream_tx), self.sum(|h| h.stream_rx));
        // Gaps in the sequence numbers cannot show that the end of a stream is missing; when nothing is on its way any
        // more, what was sent and not received shows it.
        let drained = self.result.conservation.inside_frames == 0;
        let missing = if drained { frames_tx.saturating_sub(frames_rx) } else { 0 };
        let lost = self.sum(|h| h.stream_lost).max(missing);
        (streams > 0).then(|| Streams {
            streams: streams as u32,
            frames_tx,
            frames_rx,
            lost,
            loss_ratio: ratio(lost as f64, frames_tx as f64),
            with_latency: self.result.recorder.streams().used() as u32,
        })
    }

    fn flows(&self) -> Flows {
        let mut messages = self.result.recorder.messages().iter();
        let mut fct: Option<Distribution<u64>> = messages.next().map(|m| m.fct_ns.clone());
        for m in messages {
            if let Some(all) = fct.as_mut() {
                all.merge(&m.fct_ns);
            }
        }
        let payload_bytes = self.sum(|h| h.payload_bytes);
        Flows {
            source: self.source.into(),
            started: self.sum(|h| h.messages_started),
            completed: self.sum(|h| h.messages_completed),
            failed: self.sum(|h| h.messages_failed),
            fct_ns: fct.map(|d| d.percentiles()).unwrap_or_default(),
            payload_bytes,
            goodput_gbps: ratio(payload_bytes as f64 * 8.0, self.active_ns()),
            frames_tx: self.sum(|h| h.tx_frames),
            frames_rx: self.sum(|h| h.rx_frames),
            local_messages: self.sum(|h| h.local_messages),
            retransmitted: self.sum(|h| h.retransmitted),
            nak_tx: self.sum(|h| h.nak_tx),
            nak_rx: self.sum(|h| h.nak_rx),
            rnr_nak_rx: self.sum(|h| h.rnr_nak_rx),
            timeouts: self.sum(|h| h.timeouts),
            out_of_order: self.sum(|h| h.out_of_order),
            duplicates: self.sum(|h| h.duplicates),
            cnp_tx: self.sum(|h| h.cnp_tx),
            cnp_rx: self.sum(|h| h.cnp_rx),
            ce_rx: self.sum(|h| h.ce_rx),
            read_tx: self.sum(|h| h.read_tx),
            read_again: self.sum(|h| h.read_again),
            implied_nak: self.sum(|h| h.implied_nak),
            rnr_nak_tx: self.sum(|h| h.rnr_nak_tx),
            credit_waits: self.sum(|h| h.credit_waits),
            datagram_tx: self.sum(|h| h.datagram_tx),
            datagram_rx: self.sum(|h| h.datagram_rx),
            datagram_lost: self.sum(|h| h.datagram_lost),
        }
    }

    fn latency(&self) -> Vec<Latency> {
        let rows = self.plan.classes.iter().zip(self.result.recorder.classes());
        rows.filter(|(_, a)| a.frames > 0 || a.round_trip_ns.is_some())
            .flat_map(|(c, a)| {
                let one_way = [("wire_out", &a.network_ns), ("intended", &a.felt_ns)];
                let one_way = one_way.map(|(from, d)| (from, "wire_in", d.percentiles()));
                let back = a.round_trip_ns.as_ref().map(|d| ("wire_out", "ack_in", d.percentiles()));
                one_way.into_iter().chain(back).map(|(from, to, percentiles)| Latency {
                    class: c.name.clone(),
                    source: self.source.into(),
                    from: from.into(),
                    to: to.into(),
                    percentiles,
                })
            })
            .collect()
    }

    fn hosts(&self) -> Vec<Host> {
        let clock = match self.result.mode {
            Mode::Ports => "tsc",
            Mode::Rings if matches!(self.plan.clock, crate::plan::Clock::Free { .. }) => "tsc",
            Mode::Rings => "elastic",
            Mode::Virtual => "nominal",
        };
        let names: BTreeSet<&str> = self.plan.hosts.iter().map(|h| h.host.as_str()).collect();
        names.into_iter().map(|n| Host { name: n.into(), clock: clock.into() }).collect()
    }

    fn ports(&self) -> Vec<Port> {
        let release = self.first_release();
        let active_ns = self.active_ns();
        let lossless: u8 =
            self.plan.classes.iter().filter(|c| c.lossless).fold(0, |b, c| b | 1 << (c.priority & 7));
        let row = |(ix, (config, s)): (usize, (&crate::host::config::HostConfig, &HostStats))| {
            let pauses = self.result.recorder.pauses().rows().get(ix).copied().unwrap_or_default();
            let pfc = s
                .pfc
                .iter()
                .zip(pauses)
                .enumerate()
                .filter(|(p, (stats, _))| lossless & (1 << p) != 0 || **stats != PfcStats::default());
            let l1 = |frames: u64, bytes: u64| (bytes + frames * L1_BYTES) as f64 * 8.0;
            let busier = l1(s.tx_frames, s.tx_bytes).max(l1(s.rx_frames, s.rx_bytes));
            Port {
                name: config.name.clone(),
                host: config.host.clone(),
                dut_port: self.switch_port_of(config.port),
                rate_gbps: config.rate.as_gbps_f64(),
                tx_frames: s.tx_frames,
                tx_bytes: s.tx_bytes,
                rx_frames: s.rx_frames,
                rx_bytes: s.rx_bytes,
                utilisation: ratio(busier, active_ns * config.rate.as_gbps_f64()),
                pfc: pfc
                    .map(|(priority, (stats, pause))| PortPfc {
                        priority: priority as u8,
                        xoff_rx: stats.xoff_rx,
                        refresh_rx: stats.refresh_rx,
                        xon_rx: stats.xon_rx,
                        xoff_tx: stats.xoff_tx,
                        refresh_tx: stats.refresh_tx,
                        xon_tx: stats.xon_tx,
                        paused_ns: Some(pause.paused.as_ns_f64()),
                        longest_pause_ns: (pause.paused.0 > 0).then(|| pause.longest.as_ns_f64()),
                        first_xoff_ns: (pause.first != Time::NEVER)
                            .then(|| pause.first.since(release).as_ns_f64()),
                        response_ns_max: pause.responses().map(|r| r.1.as_ns_f64()),
                        response_ns_min: pause.responses().map(|r| r.0.as_ns_f64()),
                        response_ns_asked: Some(config.pfc_response.as_ns_f64()),
                        seen: "frames".into(),
                    })
                    .collect(),
                pfc_malformed_tx: config
                    .actions
                    .iter()
                    .any(|a| matches!(a.action, Action::Pfc { .. }))
                    .then_some(s.pfc_malformed_tx),
                rx_malformed: s.rx_malformed,
                receive: config.receive.map(|r| Receive {
                    buffer_bytes: r.buffer.0,
                    drain_gbps: r.drain.as_gbps_f64(),
                    occupied_bytes_max: s.rx_buffer_bytes_max,
                    dropped_frames: s.rx_overflow,
                }),
            }
        };
        self.plan.hosts.iter().zip(&self.result.hosts).enumerate().map(row).collect()
    }

    /// Release of the first measured iteration; without closed-loop workloads, the start of the measurement.
    fn first_release(&self) -> Time {
        let rows = self.result.recorder.iterations().iter().filter_map(|w| w.rows.first());
        let first = rows.map(|r| r.released).filter(|t| *t != Time::NEVER).min();
        first.unwrap_or(self.result.measured_from)
    }

    fn switch_port_of(&self, port: PortId) -> Option<String> {
        let link = self.plan.fabric.links.iter().find(|l| l.from == End::Host(port))?;
        let End::Switch(s, p) = link.to else { return None };
        let switch = self.plan.fabric.switches.get(usize::from(s))?;
        Some(switch.ports.get(usize::from(p))?.name.clone())
    }

    fn switches(&self) -> Vec<Switch> {
        let between: BTreeSet<(u16, u16)> = self
            .plan
            .fabric
            .links
            .iter()
            .filter_map(|l| match (l.from, l.to) {
                (End::Switch(s, p), End::Switch(..)) => Some((s, p)),
                _ => None,
            })
            .collect();
        let row = |(ix, (config, s)): (usize, (&SwitchConfig, &SwitchStats))| Switch {
            name: config.name.clone(),
            source: "model".into(),
            drops: Some(s.drops),
            drops_lossless: Some(s.drops_lossless),
            ce_marked: Some(s.ce_marked),
            buffer_bytes_max: Some(s.buffer_bytes_max),
            shared_bytes_max: Some(s.shared_bytes_max),
            headroom_bytes_max: Some(s.headroom_bytes_max),
            ingress_bytes_max: Some(s.ingress_bytes_max),
            limits: Some(self.limits(config, s)),
            ports: config
                .ports
                .iter()
                .zip(&s.ports)
                .enumerate()
                .filter(|(_, (_, stats))| stats.pfc.iter().any(|p| *p != PfcStats::default()))
                .map(|(p, (port, stats))| SwitchPort {
                    port: port.name.clone(),
                    fabric: between.contains(&(ix as u16, p as u16)),
                    pfc: sent_pfc(stats),
                })
                .collect(),
            watchdog: watchdogs(config, &s.ports),
            queues: self.queues(ix as u16, config, &s.ports),
        };
        self.plan.fabric.switches.iter().zip(&self.result.switches).enumerate().map(row).collect()
    }

    fn limits(&self, s: &SwitchConfig, stats: &SwitchStats) -> Limits {
        let all = s.profiles.iter().flat_map(|p| &p.priorities);
        let headroom =
            all.filter(|p| p.lossless).map(|p| p.headroom.0.next_multiple_of(s.cell.max(1).into()));
        // The pools of the traffic classes in whose queues frames came by.
        let carried = |q: &crate::measure::stats::QueueStats| q.tx_frames + q.drops > 0;
        let classes = 0..PRIORITIES as u8;
        let used: BTreeSet<u8> = (stats.ports.iter().enumerate())
            .flat_map(|(p, port)| classes.clone().map(move |c| (p, c, &port.queues[s.maps.queue_of(c)])))
            .filter_map(|(p, class, queue)| carried(queue).then_some(s.group_of(p, class).pool))
            .collect();
        let pools = s.ingress_pools.iter().zip(0u8..).map(|(pool, i)| Pool {
            name: pool.name.clone(),
            shared_bytes: s.shared_size_of(i).map_or(0, |b| b.0),
            used: used.contains(&i),
        });
        let xoff = self.plan.predicted.xoff.filter(|x| x.reached);
        Limits {
            buffer_bytes: s.buffer.0,
            shared_bytes: s.shared_size().map_or(0, |b| b.0),
            slices: (s.slices.count() > 1).then(|| s.slices.count() as u32),
            pools: if s.ingress_pools.len() > 1 { pools.collect() } else { Vec::new() },
            headroom_bytes: headroom.max(),
            xoff_bytes: xoff.map(|x| x.group_bytes.0),
        }
    }

    fn queues(&self, switch: u16, config: &SwitchConfig, ports: &[SwitchPortStats]) -> Vec<Queue> {
        let depths = self.result.recorder.queues();
        let key = |d: &crate::measure::recorder::QueueDepth| (d.switch, d.port, d.priority);
        let mut rows = Vec::new();
        for (p, (port, stats)) in config.ports.iter().zip(ports).enumerate() {
            for (priority, q) in stats.queues.iter().enumerate().filter(|(_, q)| q.tx_frames + q.drops > 0) {
                let slot = depths.binary_search_by_key(&(switch, p as u16, priority as u8), key);
                let mut depth_bytes = slot.map(|ix| depths[ix].depth_bytes.percentiles()).unwrap_or_default();
                depth_bytes.max = depth_bytes.max.or(Some(q.depth_bytes_max as f64));
                rows.push(Queue {
                    port: port.name.clone(),
                    priority: priority as u8,
                    depth_bytes,
                    tx_frames: q.tx_frames,
                    ce_marked: q.ce_marked,
                    drops: q.drops,
                });
            }
        }
        rows
    }

    fn snapshots(&self) -> Vec<Snapshot> {
        let queue =
            |&(port, priority, depth_bytes): &(u16, u8, u64)| QueueSnapshot { port, priority, depth_bytes };
        let group = |g: &crate::switch::GroupState| GroupSnapshot {
            port: g.port,
            priority: g.priority,
            used_bytes: g.used_bytes,
            headroom_bytes: g.headroom_bytes,
            limit_bytes: g.limit_bytes,
            xoff: g.xoff,
        };
        let switch = |s: &crate::run::result::SwitchSnapshot| SwitchSnapshot {
            shared_bytes: s.shared_bytes,
            headroom_bytes: s.headroom_bytes,
            queues: s.queues.iter().map(queue).collect(),
            groups: s.groups.iter().map(group).collect(),
        };
        let row = |s: &crate::run::result::Snapshot| Snapshot {
            name: s.name.clone(),
            at_ns: s.at.as_ns_f64(),
            switches: s.switches.iter().map(switch).collect(),
        };
        self.result.snapshots.iter().map(row).collect()
    }

    fn tester(&self) -> Tester {
        let t = &self.result.tester;
        let c = &self.result.conservation;
        let mut why = t.why.clone();
        if !c.holds() {
            why.push(format!(
                "frames unaccounted for ({} sent, {} received, {} dropped, {} inside, {} not given back)",
                c.sent_frames, c.received_frames, c.dropped_frames, c.inside_frames, c.pool_in_use
            ));
        }
        let empty = self.sum(|h| h.pool_empty);
        if empty > 0 {
            why.push(format!("the frame pool was empty {empty} times: the tester held frames back"));
        }
        let frames = self.sum(|h| h.tx_frames + h.rx_frames);
        let timed =
            matches!(self.plan.clock, crate::plan::Clock::Free { .. }) && self.result.mode == Mode::Rings;
        Tester {
            pacing_error_ns: t.lateness_ps.map(pacing),
            pacing_point: t.lateness_ps.map(|_| pacing_point(self.result.mode, &t.ports).into()),
            preflight: t.preflight.clone(),
            stop_ns: t.stop_ps.map(|ps| ps as f64 / 1e3),
            ports: t.ports.clone(),
            events: t.events.clone(),
            late_fraction: timed.then(|| ratio(t.late_frames as f64, frames as f64)).flatten(),
            tx_refused: t.tx_refused,
            rx_missed: t.rx_missed,
            rate_error: t
                .ports
                .iter()
                .filter_map(|p| p.rate_error)
                .max_by(|a, b| a.abs().total_cmp(&b.abs())),
            clock: Clock {
                tsc_hz: t.tsc_hz,
                lag_ns_max: t.lag_ps_max.map(|ps| ps as f64 / 1e3),
                tsc_drift_ppm: t.tsc_drift_ppm.map(|d| d[0]),
                tsc_drift_doubt_ppm: t.tsc_drift_ppm.map(|d| d[1]),
            },
            wall_s: t.wall_s,
            workers: t
                .workers
                .iter()
                .map(|w| Worker {
                    name: w.name.clone(),
                    core: w.core,
                    frames: w.frames,
                    busy_fraction: ratio(w.busy_s, w.total_s),
                    stolen_fraction: w.started_late_ps.and_then(|_| ratio(w.stolen_s, w.total_s)),
                    lateness_ns: w.lateness_ps.map(pacing),
                    started_late_ns: w.started_late_ps.map(|ps| ps as f64 / 1e3),
                })
                .collect(),
            start_spread_ns: spread(&t.workers).map(|ps| ps as f64 / 1e3),
            control: t.control.clone(),
            trustworthy: t.trustworthy && why.is_empty(),
            why,
        }
    }

    fn warnings(&self) -> Vec<Warning> {
        let r = &self.result.recorder;
        let mut all: Vec<Warning> = self
            .plan
            .warnings
            .iter()
            .map(|(code, text)| Warning { code: code.clone(), text: text.clone() })
            .collect();
        let mut warn = |code: &str, text: String| all.push(Warning { code: code.into(), text });
        if !self.result.complete {
            let missing = if self.result.missing.is_empty() {
                "no reason given".into()
            } else {
                self.result.missing.join("; ")
            };
            warn("incomplete", format!("the run did not complete: {missing}"));
        }
        for (w, its) in self.plan.workloads.iter().zip(r.iterations()) {
            if its.finished().next().is_none() {
                warn(
                    "no-iteration",
                    format!("no measured iteration of {} was finished by all ranks", w.name),
                );
            }
        }
        if r.rows_left_out() > 0 {
            warn(
                "flows-cut",
                format!(
                    "flows.csv holds the first {} messages; {} more are in the histograms only",
                    r.rows().len(),
                    r.rows_left_out()
                ),
            );
        }
        let streams = crate::plan::memory::streams(&self.plan.hosts);
        if streams > r.streams().streams() {
            warn(
                "streams-cut",
                format!(
                    "streams.csv has the latency of the first {} streams; the other {} are in the histogram of their class",
                    r.streams().streams(),
                    streams - r.streams().streams()
                ),
            );
        }
        if r.queues_left_out() > 0 {
            warn(
                "queues-cut",
                format!("{} queues have their deepest value only, no percentiles", r.queues_left_out()),
            );
        }
        if r.saturated() > 0 {
            warn(
                "histogram-range",
                format!(
                    "{} values lie beyond a histogram's range; only the maximum shows them",
                    r.saturated()
                ),
            );
        }
        let odd = self.sum(|h| h.rx_unknown + h.rx_malformed);
        if odd > 0 {
            warn(
                "frames-unknown",
                format!("{odd} frames that reached a tester port belong to nothing here or do not parse"),
            );
        }
        all
    }
}

/// Standard deviation of the sample over its mean.
fn cv(samples: &[f64]) -> Option<f64> {
    if samples.len() < 2 {
        return None;
    }
    let n = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / n;
    let variance = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    ratio(variance.sqrt(), mean)
}

fn idle(w: &WorkloadIterations) -> IdleFraction {
    let (sum, ranks) =
        w.finished().fold((0u64, 0u64), |(s, n), r| (s + r.waited_ppb_sum, n + u64::from(r.ranks)));
    IdleFraction {
        mean: ratio(sum as f64 / 1e9, ranks as f64),
        max: w.finished().map(|r| r.waited_ppb_max).max().map(|m| m as f64 / 1e9),
    }
}

fn start_spread(w: &WorkloadIterations) -> Percentiles {
    let mut spreads: Vec<f64> =
        w.finished().filter_map(|r| r.start_spread().map(|s| s.as_ns_f64())).collect();
    Percentiles::of_samples(&mut spreads)
}

fn fairness(w: &WorkloadIterations) -> Option<Fairness> {
    let (rank, times, senders) = w.most_often_last()?;
    Some(Fairness {
        slowest_rank: rank.0,
        slowest_times: times,
        chance: w.finished().count() as f64 / senders.max(1) as f64,
        jain: w.jain(),
        starved: w.starved(),
    })
}

/// Queues that a watchdog has looked after.
fn watchdogs(config: &SwitchConfig, ports: &[SwitchPortStats]) -> Vec<Watchdog> {
    let mut rows = Vec::new();
    for (port, stats) in config.ports.iter().zip(ports) {
        for (priority, w) in
            stats.watchdog.iter().enumerate().filter(|(_, w)| **w != WatchdogStats::default())
        {
            rows.push(Watchdog {
                port: port.name.clone(),
                priority: priority as u8,
                storms: w.storms,
                restored: w.restored,
                tx_drops: w.tx_drops,
                rx_drops: w.rx_drops,
            });
        }
    }
    rows
}

fn sent_pfc(port: &SwitchPortStats) -> Vec<SentPfc> {
    let rows = port.pfc.iter().enumerate().filter(|(_, p)| p.xoff_tx + p.refresh_tx + p.xon_tx > 0);
    rows.map(|(priority, p)| SentPfc {
        priority: priority as u8,
        xoff_tx: p.xoff_tx,
        refresh_tx: p.refresh_tx,
        xon_tx: p.xon_tx,
    })
    .collect()
}
