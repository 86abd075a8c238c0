//! The plan of an HPCC scenario: its parameters turned into ours, once, so that nothing later asks where they came
//! from.
//!
//! Arithmetic of HPCC ns-3 (alibaba-edu, commit 9f4be2a): a packet is its payload and 48 bytes, an ACK 60, a PFC frame
//! 43; serialisation is cut to whole nanoseconds; per ingress port a threshold of (buffer - headroom of all ports -
//! 4 KiB per port - shared use) / 8 at the rate of the hosts and twice that for every doubling, XON 3 KiB below it;
//! headroom 3 x rate x delay; ECN at dequeue on what is left in
//! the queue; ACKs share the queue of the data in switches and have one of their own in senders.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::hpcc_ideal::{Lengths, ideal};
use super::predict::{Basis, predict};
use super::steer::Steering;
use super::{Clock, Compat, Mode, Plan};
use crate::host::config::{HostConfig, RankAddr};
use crate::limits::PORTS_MAX;
use crate::rng::streams::Streams;
use crate::rng::{Rng, mix};
use crate::switch::config::{
    COLORS, ClassMaps, Color, ConfigError, FlowControl, Limit, LoadBalance, MarkAt, PortProfile,
    PriorityConfig, Slices, SwitchConfig, Wred,
};
use crate::topology::{End, Fabric, Graph, GraphCable, GraphEnd, TopologyError, Wiring, graph};
use crate::transport::config::{
    ClassConfig, DcqcnParams, Ecn, QPN_FIRST, QpConfig, RateControl, RcConfig, Verb,
};
use crate::units::{Bytes, ClassIx, LinkTiming, PortId, RankId, Rate, Span, Time};
use crate::workload::config::{Skew, WorkloadConfig, WorkloadKind};
use crate::workload::import::hpcc::{Folder, Marking, Rates, Topology};

/// Lengths of frames in that simulator, on links and in buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HpccFrames {
    /// Bytes of a data packet beside its payload.
    pub data_overhead: u16,
    /// Bytes of an ACK.
    pub ack: u16,
    /// Bytes of a PFC frame.
    pub pfc: u16,
}

/// What a run by that simulator's rules needs beside the plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Hpcc {
    /// Lengths of frames.
    pub frames: HpccFrames,
    /// `started_by[tag]`: ranks and their ports that wait for this message to end at its sender, in order.
    pub started_by: Vec<Vec<(PortId, RankId)>>,
    /// What WRED draws, over all switches.
    pub coins: Box<Streams>,
}

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum HpccError {
    /// The network cannot be built.
    #[error("topology: {0}")]
    Topology(#[from] TopologyError),
    /// A switch cannot be built.
    #[error("topology: {0}")]
    Switch(#[from] ConfigError),
    /// Something this version does not model.
    #[error("{0}")]
    Refused(String),
}

/// Reserved bytes of every ingress port's group, and how far below the threshold it resumes.
const RESERVED: Bytes = Bytes(4 << 10);
const RESUME_OFFSET: Bytes = Bytes(3 << 10);
/// The dynamic threshold is the free buffer shifted by this.
const ALPHA_SHIFT: u32 = 3;
/// Bytes of an ACK.
const ACK: u16 = 60;
/// Its seed, and the streams that its nodes and its link errors take before the first coin.
const SEED: u32 = 1;
const STREAMS_PER_NODE: u64 = 6;
const STREAMS_BESIDE: u64 = 2;
/// Silence after the last flow, before the run ends.
const GAP: Span = Span::from_us(10);

/// The plan of a scenario; `seed` decides marking and what is not pinned.
///
/// # Errors
/// What is not modelled, with its place.
pub fn plan(folder: &Folder, name: String, seed: u64, mode: Option<Mode>) -> Result<Plan, HpccError> {
    let hosts = folder.topology.hosts();
    if hosts.len() > PORTS_MAX {
        return Err(HpccError::Refused(format!("{} hosts; at most {PORTS_MAX}", hosts.len())));
    }
    let fabric = fabric(folder, &hosts, seed)?;
    // Where there is one way only, there is nothing to pin.
    let choice = fabric.routes.iter().flat_map(|r| &r.ports_to).any(|candidates| candidates.len() > 1);
    if let Some(file) = folder.pins_missing.as_ref().filter(|_| choice) {
        return Err(HpccError::Refused(format!(
            "{}/config.txt: PATH_FILE names {file}, which is not there, and the flows have several ways: put the file \
             there, or take the line out to have their ways hashed",
            folder.dir
        )));
    }
    let line =
        |end: u32| fabric.links.iter().find(|l| l.from == End::Host(PortId(end))).map(|l| l.timing.rate());
    let group = folder.group;
    let classes: Arc<[ClassConfig]> = Arc::new([ClassConfig {
        name: format!("pg{group}"),
        dscp: group,
        priority: group,
        lossless: true,
        ecn: if folder.config.ecn { Ecn::Ect0 } else { Ecn::Off },
        ack_dscp: group,
        ack_priority: if folder.config.acks_first { 0 } else { group },
        cnp_dscp: group,
        cnp_priority: 0,
        mtu: folder.config.payload,
        vlan: None,
        pcp: None,
    }]);
    let rank = |i: usize| RankAddr {
        rank: RankId(i as u32),
        port: PortId(i as u32),
        ip: IpAddr::V4(Ipv4Addr::from_bits(0xc612_0001 + i as u32)), // 198.18.0.0/15, RFC 2544
    };
    let ranks: Arc<[RankAddr]> = (0..hosts.len()).map(rank).collect();
    let workloads: Arc<[WorkloadConfig]> = Arc::new([WorkloadConfig {
        name: "flows".into(),
        kind: WorkloadKind::Replay(folder.schedule.clone()),
        ranks: ranks.iter().map(|r| r.rank).collect(),
        class: ClassIx(0),
        verb: Verb::Send,
        qps_per_pair: 1,
        rate_control: folder
            .config
            .rates
            .as_ref()
            .map_or(RateControl::None, |r| RateControl::Dcqcn(dcqcn(r, ack_span(folder)))),
        rc: RcConfig { ack_every: 1, ack_req_every: 1, ack_timeout: Span::ZERO, ..RcConfig::default() },
        skew: Skew::Fixed(Span::ZERO),
    }]);
    let mut host_configs: Vec<HostConfig> = (hosts.iter().enumerate())
        .map(|(i, node)| HostConfig {
            port: PortId(i as u32),
            name: format!("node{node}"),
            host: "local".into(),
            mac: [0x02, 0x48, 0, (i >> 16) as u8, (i >> 8) as u8, i as u8], // locally administered, "H" for host
            rate: line(i as u32).unwrap_or_default(),
            ranks: vec![ranks[i]],
            classes: classes.clone(),
            workloads: workloads.clone(),
            qps: Vec::new(),
            local_delivery: false,
            streams: Vec::new(),
            stream_to: Vec::new(),
            actions: Vec::new(),
            pfc_response: Span::ZERO,
            receive: None,
            seed,
        })
        .collect();
    connect(folder, &hosts, &fabric, &ranks, seed, &mut host_configs)?;
    let limit = folder.config.stop.since(folder.base);
    if limit == Span::ZERO {
        return Err(HpccError::Refused("SIMULATOR_STOP_TIME is not after the first flow: raise it".into()));
    }
    let at_rank = |flow: &u32| {
        let node = folder.flows[*flow as usize].src;
        let i = hosts.binary_search(&node).unwrap_or(0) as u32;
        (PortId(i), RankId(i))
    };
    let started_by = folder.waiting.iter().map(|flows| flows.iter().map(at_rank).collect()).collect();
    let nodes = (hosts.len() + folder.topology.switches.len()) as u64;
    let coins = Box::new(Streams::new(SEED, nodes * STREAMS_PER_NODE + STREAMS_BESIDE, seed));
    let frames = HpccFrames { data_overhead: 48, ack: ACK, pfc: 43 };
    let mut predicted = predict(&Basis {
        hosts: &host_configs,
        workloads: &workloads,
        ranks: &ranks,
        classes: &classes,
        fabric: &fabric,
        iterations: 1,
        gap: GAP,
        last_action: Time::ZERO,
        repeats: 1,
    });
    let lengths = Lengths {
        payload: folder.config.payload.into(),
        overhead: frames.data_overhead.into(),
        ack: frames.ack.into(),
    };
    let (ideal, bound) = ideal(folder, &hosts, &fabric, lengths);
    (predicted.ideal, predicted.fabric_bound) = (vec![ideal], vec![bound]);
    Ok(Plan {
        faults: Vec::new(),
        links: crate::plan::LinkPlan::default(),
        name,
        question: Some(format!("what the flows of {} do by the HPCC simulator's arithmetic", folder.dir)),
        expectation: None,
        seed,
        warmup: 0,
        repeats: 1,
        gap: GAP,
        limit: limit.min(Span(crate::limits::RUN_SECONDS_MAX * 1_000_000_000_000)),
        compat: Compat::Hpcc(Hpcc { frames, started_by, coins }),
        clock: Clock::Elastic { dilation: None },
        mode,
        classes,
        ranks,
        hosts: host_configs,
        workloads,
        actions: Vec::new(),
        fabric,
        lab: Default::default(),
        expect: Vec::new(),
        predicted,
        warnings: folder.notes.iter().map(|n| ("hpcc".to_owned(), n.clone())).collect(),
        effective: format!("# No profile: the parameters are those of {}/config.txt.\n", folder.dir),
        source: None,
    })
}

/// From the start of an ACK on the last link to its arrival.
fn ack_span(folder: &Folder) -> Span {
    let first = folder.topology.cables.first();
    first.map_or(Span::ZERO, |c| c.delay + LinkTiming::new(c.rate, c.delay).whole_ns(ACK.into()))
}

fn dcqcn(r: &Rates, ack: Span) -> DcqcnParams {
    DcqcnParams {
        name: "hpcc-config".into(),
        origin: "config.txt of the scenario; every ACK of a marked frame acts as a CNP".into(),
        cnp_interval: Span::ZERO,
        alpha_period: r.alpha_period,
        decrease_period: r.decrease_period,
        increase_timer: r.increase_timer,
        byte_counter: 0,
        fast_recovery: r.fast_recovery,
        g: r.g,
        rate_ai: r.rate_ai,
        rate_hai: r.rate_hai,
        rate_min: r.rate_min,
        rate_first_cnp: None,
        clamp_target: r.clamp_target,
        clamp_after_timer: true,
        cut_max: 1.0,
        cut_divisor: 2,
        alpha_initial: 1.0,
        alpha_min: 0.0,
        ordered: Some(ack),
    }
}

fn fabric(folder: &Folder, hosts: &[u32], seed: u64) -> Result<Fabric, HpccError> {
    let t = &folder.topology;
    let end = |node: u32| match t.switches.binary_search(&node) {
        Ok(s) => GraphEnd::Switch(s as u16),
        Err(_) => GraphEnd::Host(hosts.binary_search(&node).unwrap_or(0) as u32),
    };
    let cables =
        t.cables.iter().map(|c| GraphCable { ends: [end(c.a), end(c.b)], rate: c.rate, delay: c.delay });
    // The rate of the first host's first cable stands for all hosts.
    let first = hosts.first().and_then(|h| t.cables.iter().find(|c| c.a == *h || c.b == *h));
    let nic_rate = first.map(|c| c.rate).unwrap_or_default();
    let mut switches = Vec::new();
    for (s, node) in t.switches.iter().enumerate() {
        switches.push(switch(folder, t, *node, nic_rate, mix(seed ^ mix(s as u64)), seed)?);
    }
    let n = (hosts.len(), switches.len());
    let shape = format!("{} hosts, {} switches as wired in {}", n.0, n.1, folder.config.topology_file);
    let mut fabric = graph(Graph { shape, hosts: hosts.len(), switches, cables: cables.collect() })?;
    // Ports have their limits by rate and delay.
    for link in &fabric.links {
        let End::Switch(s, p) = link.from else { continue };
        let node = t.switches.get(usize::from(s)).copied().unwrap_or_default();
        let own = port_profile(folder, link.timing.rate(), link.timing.propagation(), nic_rate, node)?;
        if let Some(switch) = fabric.switches.get_mut(usize::from(s)) {
            let profile = switch.profile(own);
            if let Some(port) = switch.ports.get_mut(usize::from(p)) {
                port.profile = profile;
            }
        }
    }
    for switch in &fabric.switches {
        switch.validate()?;
    }
    Ok(fabric)
}

fn switch(
    folder: &Folder,
    t: &Topology,
    node: u32,
    nic_rate: Rate,
    hash_seed: u64,
    seed: u64,
) -> Result<SwitchConfig, HpccError> {
    // The ports are told apart once they are wired.
    let first = t.cables.iter().find(|c| c.a == node || c.b == node);
    let profiles = match first {
        Some(c) => vec![port_profile(folder, c.rate, c.delay, nic_rate, node)?],
        None => vec![[PriorityConfig::default(); 8].into()],
    };
    Ok(SwitchConfig {
        name: format!("switch{node}"),
        ports: Vec::new(),
        buffer: folder.config.buffer,
        cell: 1,
        profiles,
        ingress_pools: Vec::new(),
        egress_pools: Vec::new(),
        dscp_map: std::array::from_fn(|dscp| (dscp & 7) as u8),
        pcp_map: None,
        dscp_color: [Color::Green; 64],
        maps: ClassMaps::default(),
        slices: Slices::Whole,
        balance: LoadBalance::Ecmp,
        hash_dest_qp: false,
        hash_seed,
        pause_quanta: u16::MAX,
        mark_at: MarkAt::Dequeue,
        flow_control: FlowControl::Pfc,
        cut_through: false,
        seed,
    })
}

/// What a port of `rate` with a cable of `delay` may use. Its threshold is 1/8 of what is free at the rate of the hosts
/// (`nic_rate`), and twice that for every doubling of the rate up to all of it.
fn port_profile(
    folder: &Folder,
    rate: Rate,
    delay: Span,
    nic_rate: Rate,
    node: u32,
) -> Result<PortProfile, HpccError> {
    let marking = folder.config.marking.iter().find(|m| m.rate == rate);
    if folder.config.ecn && marking.is_none() {
        return Err(HpccError::Refused(format!(
            "KMIN_MAP has no entry for {rate}, the rate of a port of switch {node}"
        )));
    }
    // Whole bytes and nanoseconds, in this order.
    let headroom = u128::from(rate.bits_per_s / 8) * u128::from(delay.0 / 1_000) / 1_000_000_000 * 3;
    let headroom = u64::try_from(headroom).ok().filter(|bytes| *bytes <= folder.config.buffer.0).ok_or_else(|| {
        HpccError::Refused(format!(
            "switch {node}: the headroom of a cable of {delay} at {rate} is larger than BUFFER_SIZE; use a shorter \
             delay or a larger buffer"
        ))
    })?;
    let (mut shift, mut above) = (ALPHA_SHIFT, rate.bits_per_s);
    while above > nic_rate.bits_per_s && shift > 0 {
        shift -= 1;
        above /= 2;
    }
    let wred = |m: &Marking| Wred { kmin: m.kmin, kmax: m.kmax, pmax: m.pmax, ecn: true };
    let idle = PriorityConfig { limit: Limit::Dynamic(1, 8), ..PriorityConfig::default() };
    let mut priorities = [idle; 8];
    priorities[usize::from(folder.group)] = PriorityConfig {
        lossless: true,
        limit: Limit::Dynamic(1, 1 << shift),
        reserved: RESERVED,
        headroom: Bytes(headroom),
        xon_offset: RESUME_OFFSET,
        wred: [marking.filter(|_| folder.config.ecn).map(wred); COLORS],
        ..idle
    };
    Ok(priorities.into())
}

/// A queue pair for every flow: the n-th flow of a pair of hosts takes the n-th of theirs.
fn connect(
    folder: &Folder,
    hosts: &[u32],
    fabric: &Fabric,
    ranks: &[RankAddr],
    seed: u64,
    configs: &mut [HostConfig],
) -> Result<(), HpccError> {
    let rank = |node: u32| hosts.binary_search(&node).unwrap_or(0) as u32;
    let mut flows: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for f in &folder.flows {
        *flows.entry((rank(f.src), rank(f.dst))).or_default() += 1;
    }
    let mut links: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    for (&(from, to), &n) in &flows {
        let link = links.entry((from.min(to), from.max(to))).or_default();
        *link = (*link).max(n);
    }
    let wiring = Wiring::new(fabric)?;
    let steering = Steering::new(folder, fabric, &wiring, ranks)?;
    // The ends of every connection, port by port, so that those of a pair of ranks stand together.
    let mut ends = Vec::new();
    for (&(a, b), &n) in &links {
        for nth in 0..n {
            let number = ends.len() as u64;
            let sport = steering.sport(a, b, nth).ok_or_else(|| {
                let (a, b) = (hosts[a as usize], hosts[b as usize]);
                HpccError::Refused(format!(
                    "paths: no source port takes flow {nth} between nodes {a} and {b} along its path"
                ))
            })?;
            ends.push((a, b, nth, sport, number));
            ends.push((b, a, nth, sport, number));
        }
    }
    ends.sort_unstable_by_key(|e| (e.0, e.1, e.2));
    let mut qpn: BTreeMap<(u32, u32, u32), u32> = BTreeMap::new();
    let mut count = vec![0u32; configs.len()];
    for &(local, peer, nth, _, _) in &ends {
        qpn.insert((local, peer, nth), QPN_FIRST + count[local as usize]);
        count[local as usize] += 1;
    }
    let psn = |number: u64, forward: bool| {
        Rng::new(seed, "psn", number * 2 + u64::from(forward)).below(1 << 24) as u32
    };
    for &(local, peer, nth, sport, number) in &ends {
        let first_link = &fabric.links[wiring.from_host[local as usize] as usize];
        let peer_mac = match first_link.to {
            End::Switch(s, p) => fabric.switches[usize::from(s)].ports[usize::from(p)].mac,
            End::Host(_) => [0; 6],
        };
        let number_of = |key| qpn.get(&key).copied().unwrap_or_default();
        configs[local as usize].qps.push(QpConfig {
            workload: 0,
            local_rank: RankId(local),
            peer_rank: RankId(peer),
            local_ip: ranks[local as usize].ip,
            peer_ip: ranks[peer as usize].ip,
            peer_mac,
            local_qpn: number_of((local, peer, nth)),
            peer_qpn: number_of((peer, local, nth)),
            sport,
            psn_first: psn(number, local < peer),
            peer_psn_first: psn(number, local > peer),
            class: ClassIx(0),
        });
    }
    Ok(())
}
