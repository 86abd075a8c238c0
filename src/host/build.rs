//! From the configuration of a tester port to its queue pairs, streams and programs.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::config::{HostConfig, StreamPeer};
use super::pfc::{Obeyed, Order, Sent};
use super::programs::Programs;
use super::stream::{Receivers, Sender};
use super::{Cold, Failure, Flow, Host, HostEvent, NONE, Timers};
use crate::limits::PRIORITIES;
use crate::measure::stats::{ClassStats, HostStats};
use crate::transport::config::{ClassConfig, DcqcnParams, QpConfig, RateControl};
use crate::transport::dcqcn::ReactionPoint;
use crate::transport::messages::Messages;
use crate::transport::qp::{Qp, Shared};
use crate::transport::ready::{Ready, UNPAUSED};
use crate::transport::reorder::Reorder;
use crate::transport::wheel::Wheel;
use crate::units::{ClassIx, RankId, Time};
use crate::wire::psn;
use crate::wire::template::{FrameSpec, SpecError, Template};
use crate::workload::config::{Action, StreamConfig};

impl Host {
    /// The ranks of one tester port, nothing started yet. All memory of the packet path is reserved here.
    ///
    /// `cfg` comes from a checked plan: classes and workloads that its queue pairs and streams name exist.
    /// Addresses or markings that do not fit into headers are reported by [`Host::poll_event`] as
    /// [`Failure::Headers`].
    pub fn new(cfg: HostConfig) -> Host {
        let mut b = Builder { events: VecDeque::with_capacity(16), shared: Vec::new(), keys: Vec::new() };
        let programs = Programs::new(&cfg);
        let dcqcn: Vec<Option<DcqcnParams>> = cfg
            .workloads
            .iter()
            .map(|w| match &w.rate_control {
                RateControl::Dcqcn(p) => Some(p.clone()),
                RateControl::None | RateControl::Fixed(_) => None,
            })
            .collect();

        let mut qps = Vec::with_capacity(cfg.qps.len());
        let mut flows = Vec::with_capacity(cfg.qps.len());
        let mut cold = Vec::with_capacity(cfg.qps.len());
        let mut reactions = Vec::new();
        let mut reorders = Vec::new();
        let mut capacity = [[0usize; PRIORITIES + 1]; 2];
        for q in &cfg.qps {
            let profile = b.profile(&cfg, q);
            let shared = &b.shared[usize::from(profile)];
            let mut qp = Qp::new(q, profile, shared, super::rx::addr_of(q.peer_ip.into(), q.local_ip.into()));
            if let Some(rate) = shared.fixed_rate.filter(|r| *r < cfg.rate) {
                qp.resp.pace.set_rate(rate);
            }
            let mut reaction = NONE;
            if let Some(Some(p)) = dcqcn.get(usize::from(q.workload)) {
                reaction = reactions.len() as u32;
                reactions.push(ReactionPoint::new(p, cfg.rate));
            }
            let mut reorder = NONE;
            if shared.reorder != 0 {
                reorder = reorders.len() as u32;
                reorders.push(Reorder::default());
            }
            capacity[0][usize::from(shared.priority)] += 1;
            capacity[1][usize::from(shared.ack_priority)] += 1;
            capacity[1][usize::from(shared.cnp_priority)] += usize::from(shared.cnp_interval.is_some());
            qps.push(qp);
            let flow = b.flow(&cfg, q);
            cold.push(Cold {
                program: programs.find(q.workload, q.local_rank).unwrap_or(NONE),
                from: q.local_rank,
                to: q.peer_rank,
                tail: NONE,
                psn_post: q.psn_first & psn::MASK,
                reaction,
                reorder,
                rare: NONE,
                cnp_after: Time::ZERO,
                failure: flow.as_ref().err().copied(),
            });
            flows.push(flow.ok());
        }

        let streams = b.streams(&cfg);
        for s in &streams {
            capacity[0][usize::from(s.list)] += 1;
        }
        let senders = (qps.len() + streams.len()) as u32;
        let timers = Timers { ack: senders, program: senders + qps.len() as u32 };
        let mut wheel = Wheel::new(senders as usize + qps.len() + programs.len());
        for (i, s) in streams.iter().enumerate() {
            wheel.set((qps.len() + i) as u32, s.next());
        }

        Host {
            port: cfg.port.0,
            mac: cfg.mac,
            messages: Messages::new(qps.len().min(1 << 20)),
            qps,
            flows,
            shared: b.shared,
            cold,
            reactions,
            reorders,
            rares: Vec::new(),
            memories: Default::default(),
            dcqcn,
            wheel,
            timers,
            ready: Ready::new(capacity[0]),
            control: Ready::new(capacity[1]),
            pfc_rx: Obeyed::new(cfg.rate, cfg.pfc_response),
            pfc_tx: Sent::new(orders(&cfg), cfg.rate),
            streams,
            stream_rx: Receivers::new(&cfg),
            programs,
            events: b.events,
            stats: HostStats {
                classes: vec![ClassStats::default(); cfg.classes.len()],
                ..HostStats::default()
            },
        }
    }
}

/// What the parts of a host are made with.
struct Builder {
    events: VecDeque<HostEvent>,
    shared: Vec<Shared>,
    /// (workload, class, IPv6) of each entry of `shared`.
    keys: Vec<(u16, u8, bool)>,
}

impl Builder {
    /// The entry of `shared` for a queue pair, made when it is the first of its kind.
    fn profile(&mut self, cfg: &HostConfig, q: &QpConfig) -> u16 {
        let key = (q.workload, q.class.0, q.local_ip.is_ipv6());
        if let Some(i) = self.keys.iter().position(|k| *k == key) {
            return i as u16;
        }
        let workload = &cfg.workloads[usize::from(q.workload)];
        self.keys.push(key);
        self.shared.push(Shared::new(
            q.workload,
            workload.verb,
            &workload.rc,
            &workload.rate_control,
            q.class.0,
            class_of(cfg, q.class),
            key.2,
        ));
        (self.shared.len() - 1) as u16
    }

    /// Headers of a queue pair's frames, or why there can be none.
    fn flow(&mut self, cfg: &HostConfig, q: &QpConfig) -> Result<Flow, Failure> {
        let class = class_of(cfg, q.class);
        let template = |dscp, priority, ecn_bits| {
            Template::new(&FrameSpec {
                src_mac: cfg.mac,
                dst_mac: q.peer_mac,
                vlan: class.vlan.map(|vid| (priority, vid)),
                src_ip: q.local_ip,
                dst_ip: q.peer_ip,
                dscp,
                ecn_bits,
                sport: q.sport,
                ..FrameSpec::default()
            })
        };
        let flow = || {
            Ok(Flow {
                data: template(class.dscp, class.priority, class.ecn.bits())?,
                ack: template(class.ack_dscp, class.ack_priority, 0)?,
                cnp: template(class.cnp_dscp, class.cnp_priority, 0)?,
            })
        };
        flow().map_err(|e| self.refuse(e, (q.workload, q.local_rank, q.peer_rank)))
    }

    fn refuse(&mut self, error: SpecError, (workload, from, to): (u16, RankId, RankId)) -> Failure {
        let cause = Failure::Headers(error);
        self.events.push_back(HostEvent::Failed { workload, iteration: 0, from, to, at: Time::ZERO, cause });
        cause
    }

    /// Streams, then bursts, as [`HostConfig::stream_to`] lists their receivers.
    fn streams(&mut self, cfg: &HostConfig) -> Vec<Sender> {
        let streams = cfg.streams.iter().map(|s| (s, s.start));
        let bursts = cfg.actions.iter().filter_map(|a| match &a.action {
            Action::Burst(s) => Some((s, a.at)),
            _ => None,
        });
        let both = streams.chain(bursts).zip(&cfg.stream_to);
        both.filter_map(|((s, start), to)| self.stream(cfg, s, start, to)).collect()
    }

    fn stream(&mut self, cfg: &HostConfig, s: &StreamConfig, start: Time, to: &StreamPeer) -> Option<Sender> {
        let class = class_of(cfg, s.class);
        let from = cfg.ranks.iter().find(|r| r.rank == s.from);
        let spec = FrameSpec {
            src_mac: cfg.mac,
            dst_mac: to.mac,
            vlan: class.vlan.map(|vid| (class.priority, vid)),
            src_ip: from.map_or(IpAddr::from([0, 0, 0, 0]), |r| r.ip),
            dst_ip: to.ip,
            dscp: class.dscp,
            ecn_bits: class.ecn.bits(),
            sport: to.sport,
            ..FrameSpec::default()
        };
        let template = Template::new(&spec).map_err(|e| self.refuse(e, (u16::MAX, s.from, s.to))).ok()?;
        let list = if s.obey_pfc { class.priority & 7 } else { UNPAUSED };
        let base = crate::transport::qp::base_len(class, to.ip.is_ipv6());
        Some(Sender::new(s, start, cfg.rate, template, base, to.index, list))
    }
}

fn class_of(cfg: &HostConfig, class: ClassIx) -> &ClassConfig {
    &cfg.classes[usize::from(class.0)]
}

fn orders(cfg: &HostConfig) -> Vec<Order> {
    let order = |a: &crate::workload::config::TimedAction| match a.action {
        Action::Pause { priority, hold, .. } => {
            Some(Order { at: a.at, priority, pause_until: Some(hold.map_or(Time::NEVER, |h| a.at + h)) })
        }
        Action::Release { priority, .. } => Some(Order { at: a.at, priority, pause_until: None }),
        Action::Burst(_) | Action::Snapshot { .. } => None,
    };
    cfg.actions.iter().filter_map(order).collect()
}
