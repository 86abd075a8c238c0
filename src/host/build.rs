//! From the configuration of a tester port to its queue pairs, streams and programs.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::config::{HostConfig, StreamPeer};
use super::lanes::Lanes;
use super::pfc::{Obeyed, Order, Receive, Sent};
use super::programs::Programs;
use super::stream::{Groups, Receivers, Sender};
use super::{Cold, Failure, Host, HostEvent, NONE, Timers};
use crate::hint;
use crate::limits::PRIORITIES;
use crate::measure::stats::{ClassStats, HostStats};
use crate::transport::config::{AckReqPolicy, ClassConfig, QpConfig};
use crate::transport::messages::Messages;
use crate::transport::qp::{Markings, NO_TEMPLATE, Qp, Shared};
use crate::transport::rate::{RateControl, Reaction};
use crate::transport::ready::{Ready, UNPAUSED};
use crate::transport::reorder::Reorder;
use crate::transport::wheel::Wheel;
use crate::units::{ClassIx, RankId, Span, Time, WIRE_OVERHEAD_BYTES};
use crate::wire::psn;
use crate::wire::template::{FrameSpec, SpecError, Template};
use crate::workload::config::{Action, PfcTrain, StreamConfig};

impl Host {
    /// The ranks of one tester port, nothing started yet. All memory of the packet path is reserved here.
    ///
    /// `cfg` comes from a checked plan: classes and workloads that its queue pairs and streams name exist.
    /// Addresses or markings that do not fit into headers are reported by [`Host::poll_event`] as
    /// [`Failure::Headers`].
    pub fn new(cfg: HostConfig) -> Host {
        let mut b = Builder { events: VecDeque::with_capacity(16), ..Builder::default() };
        let programs = Programs::new(&cfg);
        let controls: Vec<RateControl> = cfg.workloads.iter().map(|w| w.rate_control.clone()).collect();

        let mut qps = hint::table(cfg.qps.len());
        let mut cold = Vec::with_capacity(cfg.qps.len());
        let mut reactions = Vec::with_capacity(cfg.qps.len());
        let mut windows = Vec::with_capacity(cfg.qps.len());
        let mut reorders = Vec::new();
        let mut capacity = [[0usize; PRIORITIES + 1]; 2];
        for q in &cfg.qps {
            let profile = b.profile(&cfg, q);
            let template = b.template(&cfg, q, profile);
            let shared = &b.shared[usize::from(profile)];
            let addr = super::rx::addr_of(q.peer_ip.into(), q.local_ip.into());
            let mut qp = Qp::new(q, profile, shared, addr, template.unwrap_or(NO_TEMPLATE));
            if let Some(rate) = shared.fixed_rate.filter(|r| *r < cfg.rate) {
                qp.resp.pace.set_rate(rate);
            }
            let mut window = shared.window;
            let control = controls.get(usize::from(q.workload));
            let reaction = control.and_then(|c| Reaction::new(c, cfg.rate));
            if let Some(state) = &reaction {
                window = super::rate::begin(&mut qp, state, window);
            }
            reactions.push(reaction);
            let mut reorder = NONE;
            if shared.reorder != 0 {
                reorder = reorders.len() as u32;
                reorders.push(Reorder::default());
            }
            capacity[0][usize::from(shared.priority)] += 1;
            capacity[1][usize::from(shared.ack_priority)] += 1;
            capacity[1][usize::from(shared.cnp_priority)] += usize::from(shared.cnp_interval.is_some());
            qps.push(qp);
            windows.push(window);
            cold.push(Cold {
                program: programs.find(q.workload, q.local_rank).unwrap_or(NONE),
                from: q.local_rank,
                to: q.peer_rank,
                tail: NONE,
                psn_post: q.psn_first & psn::MASK,
                reorder,
                rare: NONE,
                cnp_after: Time::ZERO,
                failure: template.err(),
            });
        }

        if b.shared.iter().all(|s| !s.delay_based) {
            windows = Vec::new();
        }
        if reactions.iter().all(Option::is_none) {
            reactions = Vec::new();
        }
        let mut streams = b.streams(&cfg);
        let lanes = Lanes::new(&mut streams);
        for s in &streams {
            capacity[0][usize::from(s.list)] += 1;
        }
        let senders = (qps.len() + streams.len()) as u32;
        let timers = Timers { ack: senders, program: senders + qps.len() as u32 };
        let mut wheel = Wheel::new(senders as usize + qps.len() + programs.len());
        for (i, s) in streams.iter().enumerate() {
            wheel.set((qps.len() + i) as u32, s.next());
        }

        let (orders, trains) = (orders(&cfg), trains(&cfg));
        let pauses = !orders.is_empty() || !trains.is_empty() || cfg.receive.is_some();
        let delays = b.shared.iter().any(|s| s.ack_delay != Span::ZERO);
        let pfc_tx = pauses.then(|| Box::new(Sent::new(orders, trains, cfg.rate)));
        Host {
            plain: streams.is_empty() && !pauses && !delays,
            direct: cfg.receive.is_none(),
            port: cfg.port.0,
            mac: cfg.mac,
            messages: Messages::new(qps.len().min(1 << 20)),
            qps,
            templates: b.templates,
            common: Vec::new(),
            middles: Default::default(),
            shared: b.shared,
            cold,
            reactions,
            reorders,
            rares: Vec::new(),
            turns: None,
            memories: Default::default(),
            delayed: Default::default(),
            wholes: Default::default(),
            windows,
            controls,
            wheel,
            timers,
            ready: Ready::new(capacity[0]),
            control: Ready::new(capacity[1]),
            pfc_rx: Obeyed::new(cfg.rate, cfg.pfc_response),
            pfc_tx,
            receive: cfg.receive.map(|r| Box::new(Receive::new(r))),
            streams,
            groups: b.groups,
            lanes,
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
#[derive(Default)]
struct Builder {
    events: VecDeque<HostEvent>,
    shared: Vec<Shared>,
    /// (workload, class, IPv6) of each entry of `shared`, and what is wrong with its markings.
    keys: Vec<(u16, u8, bool, Option<SpecError>)>,
    templates: Vec<Template>,
    groups: Groups,
    /// Number in `templates` by addresses, next hop and VLAN.
    by_peer: BTreeMap<(IpAddr, IpAddr, [u8; 6], Option<u16>), u32>,
}

impl Builder {
    /// The entry of `shared` for a queue pair, made when it is the first of its kind.
    fn profile(&mut self, cfg: &HostConfig, q: &QpConfig) -> u16 {
        let key = (q.workload, q.class.0, q.local_ip.is_ipv6());
        if let Some(i) = self.keys.iter().position(|k| (k.0, k.1, k.2) == key) {
            return i as u16;
        }
        let workload = &cfg.workloads[usize::from(q.workload)];
        let class = class_of(cfg, q.class);
        let mut shared = Shared::new(
            q.workload,
            workload.verb,
            &workload.rc,
            &workload.rate_control,
            q.class.0,
            class,
            key.2,
        );
        let markings = Markings::of(class);
        self.keys.push((key.0, key.1, key.2, markings.err()));
        shared.markings = markings.unwrap_or_default();
        // A policy that says exactly when to ask is left alone.
        if shared.ack_timeout != Span::ZERO && workload.rc.ack_req == AckReqPolicy::Count {
            let frame = cfg.rate.time_for(u64::from(shared.mtu + shared.base_len + WIRE_OVERHEAD_BYTES));
            let frames = shared.ack_timeout.0 / 2 / frame.0.max(1);
            shared.frames_in_timeout = u32::try_from(frames).unwrap_or(u32::MAX);
        }
        self.shared.push(shared);
        (self.shared.len() - 1) as u16
    }

    /// Number of the headers of a queue pair's frames, made when no other one has them yet, or why there can be none.
    fn template(&mut self, cfg: &HostConfig, q: &QpConfig, profile: u16) -> Result<u32, Failure> {
        let class = class_of(cfg, q.class);
        let mut make = || {
            if let Some(error) = self.keys[usize::from(profile)].3 {
                return Err(error);
            }
            let key = (q.local_ip, q.peer_ip, q.peer_mac, class.vlan);
            if let Some(number) = self.by_peer.get(&key) {
                return Ok(*number);
            }
            let number = self.templates.len() as u32;
            self.templates.push(Template::new(&FrameSpec {
                src_mac: cfg.mac,
                dst_mac: q.peer_mac,
                vlan: class.vlan.map(|vid| (0, vid)),
                src_ip: q.local_ip,
                dst_ip: q.peer_ip,
                ..FrameSpec::default()
            })?);
            self.by_peer.insert(key, number);
            Ok(number)
        };
        make().map_err(|e| self.refuse(e, (q.workload, q.local_rank, q.peer_rank)))
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
        let mut senders = hint::table(cfg.stream_to.len());
        senders.extend(both.filter_map(|((s, start), to)| self.stream(cfg, s, start, to)));
        senders
    }

    fn stream(&mut self, cfg: &HostConfig, s: &StreamConfig, start: Time, to: &StreamPeer) -> Option<Sender> {
        let class = class_of(cfg, s.class);
        let from = cfg.ranks.iter().find(|r| r.rank == s.from);
        let spec = FrameSpec {
            src_mac: cfg.mac,
            dst_mac: to.mac,
            vlan: class.vlan.map(|vid| (class.pcps()[0], vid)),
            src_ip: from.map_or(IpAddr::from([0, 0, 0, 0]), |r| r.ip),
            dst_ip: to.ip,
            dscp: class.dscp,
            ecn_bits: class.ecn.bits(),
            sport: to.sport,
            ..FrameSpec::default()
        };
        let template = Template::new(&spec).map_err(|e| self.refuse(e, (u16::MAX, s.from, s.to))).ok()?;
        let list = if s.obey_pfc { class.priority & 7 } else { UNPAUSED };
        let base = super::stream_base_len(class, to.ip.is_ipv6(), s.verb);
        let mut sender = Sender::new(s, start, cfg.rate, template, base, to.index, list);
        sender.join(&mut self.groups);
        Some(sender)
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
        Action::Burst(_) | Action::Pfc { .. } | Action::Snapshot { .. } => None,
    };
    cfg.actions.iter().filter_map(order).collect()
}

fn trains(cfg: &HostConfig) -> Vec<(Time, PfcTrain)> {
    let train = |a: &crate::workload::config::TimedAction| match &a.action {
        Action::Pfc { train, .. } => Some((a.at, train.clone())),
        _ => None,
    };
    cfg.actions.iter().filter_map(train).collect()
}
