//! Before the first frame: what is refused, and the devices opened.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::asked::Asked;
use super::port::{self, Clock, Identity, Wire};
use super::stamp::{Every, Stamper};
use super::steer::{Steered, steer};
use crate::dpdk::ethdev::FlowControl;
use crate::dpdk::{DpdkError, Eal, EalOptions, EthPort, LoopCable, MbufFrames, MbufPool, PoolSpec, PortSpec};
use crate::host::config::HostConfig;
use crate::limits::QUEUES_MAX;
use crate::plan::device::{DeviceKind, Steering};
use crate::plan::lab::{LabPort, PfcMode, backlog_default};
use crate::plan::pools::{Pools, frame_bytes_max};
use crate::plan::shards::neighbours_apart;
use crate::plan::{Plan, device::DeviceSpec};
use crate::sys::interface::{Interface, InterfaceError};
use crate::units::{FrameLen, LinkTiming, Span};
use crate::workload::config::{Action, StreamConfig};

/// Where the device paces, frames leave so long after the time they are meant for: what a worker on a core of its own is late
/// by at most, so that the device has each before its time. A frame that is later goes at once.
const PACED_AHEAD: Span = Span::from_us(5);

/// The devices of a run.
pub(super) struct Open {
    /// In port order; those of a worker: one for each of its queues. Before the pools, as devices hold frames of them.
    pub ports: Vec<EthPort>,
    /// How frames find the queues of each port.
    pub steered: Vec<Steered>,
    /// Control frames, data frames.
    pub control: MbufPool,
    pub data: MbufPool,
    /// Pools to be asked at the end what is still lent. AF_XDP keeps its receive buffers until its pool goes.
    pub pools: Vec<MbufPool>,
    /// Longest frame without FCS.
    pub frame_max: u16,
}

fn devices(plan: &Plan) -> impl Iterator<Item = (&str, &LabPort, &DeviceSpec)> {
    let ports = plan.hosts.iter().zip(&plan.lab.ports);
    ports.filter_map(|(h, p)| Some((h.name.as_str(), p, p.device.as_ref()?)))
}

/// Refuses what would harm a network, or is not there yet. Each refusal names the line that overrides it, where one may.
pub(super) fn refuse(plan: &Plan, capture: bool) -> Result<(), String> {
    if devices(plan).count() != plan.hosts.len() {
        return Err("--on ports needs a [[port]] with its device for each of the run's ports".into());
    }
    if !plan.faults.is_empty() {
        return Err("[[fault]] is not supported with --on ports yet: use --on rings or --on virtual".into());
    }
    if capture {
        return Err(
            "--pcap is not supported with --on ports yet: capture at the device (dpdk-dumpcap, tcpdump)"
                .into(),
        );
    }
    if !plan.links.events.is_empty() {
        return Err(
            "failures of cables ([[at]] with link) are not made with --on ports, where the cables are \
                    real: use --on rings or --on virtual"
                .into(),
        );
    }
    if plan.actions.iter().any(|a| matches!(a.action, Action::Snapshot { .. })) {
        return Err(
            "snapshots show queues of the embedded switch, and --on ports has none: leave them out".into()
        );
    }
    let pauses = |h: &crate::host::config::HostConfig| {
        let sends =
            |a: &Action| matches!(a, Action::Pause { .. } | Action::Release { .. } | Action::Pfc { .. });
        h.receive.is_some() || h.actions.iter().any(|a| sends(&a.action))
    };
    if plan.hosts.iter().any(pauses) && !plan.lab.allow_pfc {
        return Err(
            "the profile sends pauses into a real network, which can stop it: add allow_pfc = true to [run] if it is yours"
                .into(),
        );
    }
    refuse_many(plan)?;
    refuse_queues(plan)?;
    if let Some(ip) = plan.lab.forbidden(plan.ranks.iter().map(|r| r.ip)) {
        let bits = if ip.is_ipv4() { 24 } else { 64 };
        return Err(format!(
            "{ip} is outside the networks for tests (198.18.0.0/15, 2001:2::/48): add allow = [\"{ip}/{bits}\"] (the \
             network it is in) to [run] if nobody else lives there"
        ));
    }
    for (name, port, device) in devices(plan) {
        if port.pfc == PfcMode::Hardware && device.kind != DeviceKind::Pci {
            return Err(format!(
                "port {name}: {} obeys no pauses itself; use pfc = \"software\" or \"ignore\"",
                device.text
            ));
        }
        let needed = u32::from(frame_bytes_max(plan)) - 14;
        for interface in device.interfaces() {
            let found = Interface::find(interface).map_err(|e| format!("port {name}: {e}"))?;
            match found.refuse_in_use() {
                Err(InterfaceError::InUse { reason, .. }) if !port.allow_in_use => {
                    return Err(format!(
                        "port {name}: interface {interface} {reason}: test traffic is refused there; use an interface of \
                         its own, or add allow_in_use = true to [[port]] {name}"
                    ));
                }
                Err(e @ (InterfaceError::Missing(_) | InterfaceError::Unreadable { .. })) => {
                    return Err(format!("port {name}: {e}"));
                }
                _ => {}
            }
            if found.mtu + 4 < needed {
                return Err(format!(
                    "port {name}: interface {interface} has an MTU of {} and {needed} is needed: ip link set {interface} mtu \
                     {needed}",
                    found.mtu
                ));
            }
        }
    }
    Ok(())
}

/// Refuses more queues than stamps can name. Profiles that say `on = "ports"` were refused before.
fn refuse_many(plan: &Plan) -> Result<(), String> {
    let all: usize = (0..plan.hosts.len()).map(|i| usize::from(plan.lab.queues(i))).sum();
    if all > QUEUES_MAX {
        return Err(format!(
            "{all} queues in all [[port]] are more than the {QUEUES_MAX} a run on real ports may have: stamps name the one that \
             sent with 8 bits; use fewer ports, or fewer queues"
        ));
    }
    Ok(())
}

/// Refuses ports with several queues whose frames would not find them.
fn refuse_queues(plan: &Plan) -> Result<(), String> {
    if let Some((a, b)) = neighbours_apart(plan) {
        let port = plan.ranks.get(a.0 as usize).and_then(|r| plan.hosts.get(r.port.0 as usize));
        return Err(format!(
            "ranks {} and {} exchange messages inside port {} and are on two of its queues: use queues = 1 there, other ranks \
             for the workload, or hairpin = true in [run]",
            a.0,
            b.0,
            port.map_or("", |h| h.name.as_str())
        ));
    }
    for (name, port, device) in devices(plan).filter(|(_, p, _)| p.queues > 1) {
        if device.is_sink() || device.steering() != Steering::None {
            continue;
        }
        let ranks =
            plan.hosts.iter().find(|h| h.name == name).map(|h| h.ranks.as_slice()).unwrap_or_default();
        let bursts = plan.hosts.iter().flat_map(|h| &h.actions).filter_map(|a| match &a.action {
            Action::Burst(s) => Some(s),
            _ => None,
        });
        let here = |s: &StreamConfig| ranks.iter().any(|r| r.rank == s.to);
        let mut streams = plan.hosts.iter().flat_map(|h| &h.streams).chain(bursts);
        if !plan.workloads.is_empty() || streams.any(here) {
            return Err(format!(
                "port {name}: {} neither takes rules that lead an address to a queue nor keeps the queue a frame was sent on, \
                 so that what arrives for a rank would not find its worker: use queues = 1 ({} asked for), or send streams \
                 from it only",
                device.text, port.queues
            ));
        }
    }
    Ok(())
}

/// Opens the devices.
pub(super) fn open(plan: &Plan) -> Result<Open, String> {
    let text = |e: DpdkError| e.to_string();
    let frame_max = frame_bytes_max(plan);
    let specs: Vec<PortSpec> = devices(plan)
        .map(|(_, p, device)| PortSpec {
            device: device.clone(),
            frame_bytes_max: frame_max,
            promiscuous: p.mac.is_some(),
            queues: p.queues.max(1),
            pacing: p.pacing,
        })
        .collect();
    let sizes = Pools::of(plan);
    let mut pools = vec![PoolSpec::of("rs_control", sizes.control), PoolSpec::of("rs_data", sizes.data)];
    for (i, s) in specs.iter().enumerate() {
        pools.push(s.rx_pool(format!("rs_rx_{i}")).map_err(text)?);
    }
    let memory_bytes = pools.iter().map(PoolSpec::memory_bytes).sum::<u64>()
        + specs.iter().map(|s| LoopCable::memory_bytes(s.queues) + (4 << 20)).sum::<u64>();
    let pci = specs.iter().any(|s| s.device.kind == DeviceKind::Pci);
    let shared = specs.iter().any(|s| s.device.shares_memory());
    let options = EalOptions { memory_bytes, pci, shared, ..EalOptions::default() };
    let eal = Eal::init(options).map_err(text)?;
    // The first two are of frames to be sent, which most virtual devices read as any program does.
    let make = |(i, pool): (usize, &PoolSpec)| match i {
        0 | 1 if sizes.packed => MbufPool::create_packed(eal, pool),
        _ => MbufPool::create(eal, pool),
    };
    let pools: Result<Vec<MbufPool>, DpdkError> = pools.iter().enumerate().map(make).collect();
    let pools = pools.map_err(text)?;
    let mut cables: Vec<(String, LoopCable)> = Vec::new();
    let (mut ports, mut steered) = (Vec::new(), Vec::new());
    for (i, spec) in specs.iter().enumerate() {
        let rx = &pools[2 + i];
        let port = if spec.device.kind == DeviceKind::Loop {
            let known = cables.iter().position(|(n, _)| *n == spec.device.name);
            let (end, cable) = match known {
                Some(at) => (1, cables[at].1.clone()),
                None => {
                    let cable = LoopCable::create(eal, &spec.device.name, spec.queues).map_err(text)?;
                    cables.push((spec.device.name.clone(), cable.clone()));
                    (0, cable)
                }
            };
            cable.open(eal, end, spec, rx)
        } else {
            EthPort::open(eal, spec, rx)
        };
        let mut port = port.map_err(text)?;
        set_flow_control(plan, i, &mut port).map_err(|e| format!("port {}: {e}", plan.hosts[i].name))?;
        steered.push(
            steer(plan, i, &mut port).map_err(|e| {
                format!("port {}: {e}; use queues = 1, or another device", plan.hosts[i].name)
            })?,
        );
        ports.push(port);
    }
    let (control, data) = (pools[0].clone(), pools[1].clone());
    let keeps = |i: usize| i >= 2 && specs[i - 2].device.driver() == "net_af_xdp";
    let pools = pools.into_iter().enumerate().filter(|(i, _)| !keeps(*i)).map(|(_, p)| p).collect();
    Ok(Open { ports, steered, control, data, pools, frame_max })
}

/// Sets the device's flow control to what `pfc` of the port needs, with consent.
fn set_flow_control(plan: &Plan, port: usize, device: &mut EthPort) -> Result<(), String> {
    let lab = &plan.lab.ports[port];
    if !lab.set_flow_control {
        return Ok(());
    }
    let said =
        |e: DpdkError| format!("{e}; leave set_flow_control out of [[port]], or set it by other means");
    if lab.pfc == PfcMode::Hardware {
        let mut lossless: Vec<u8> = plan.classes.iter().filter(|c| c.lossless).map(|c| c.priority).collect();
        lossless.dedup();
        return lossless.into_iter().try_for_each(|p| device.obey_pfc(p)).map_err(said);
    }
    // What the device obeyed or kept for itself, the tester could not obey.
    device.set_flow_control(FlowControl::Off, true).map_err(said)
}

/// Our MAC on a port. The kernel's end of a tap has the device's own, and a bridge keeps what is sent there for itself; one in
/// front of another interface (`remote=`) takes in what is for the MAC of both.
pub(super) fn own_mac(lab: &LabPort, device: &EthPort) -> [u8; 6] {
    let mut mac = lab.mac.unwrap_or_else(|| device.mac());
    let tap = lab.device.as_ref().is_some_and(|d| d.driver() == "net_tap" && d.arg("remote").is_none());
    if tap && lab.mac.is_none() {
        mac[5] ^= 0x80;
    }
    mac
}

/// Bytes a port may hand to its device ahead of the wire.
pub(super) fn backlog(plan: &Plan, port: usize, frame_max: u16) -> u64 {
    let typed = plan.lab.ports.get(port).and_then(|p| p.tx_backlog);
    typed.unwrap_or_else(|| backlog_default(plan.hosts[port].rate.bits_per_s, frame_max)).0
}

/// Next hop of a port towards `ip`, and our address to ask from.
pub(super) fn next_hop(plan: &Plan, port: usize, from: IpAddr, ip: IpAddr) -> (IpAddr, IpAddr) {
    let p = &plan.lab.ports[port];
    match p.gateway {
        Some(gateway) => (p.address.unwrap_or(from), gateway),
        None => (from, ip),
    }
}

/// Every next hop of a port, and the first of our addresses that sends by it.
pub(super) fn next_hops(plan: &Plan, port: usize) -> BTreeMap<IpAddr, IpAddr> {
    let host = &plan.hosts[port];
    let Some(first) = host.ranks.first().map(|r| r.ip) else { return BTreeMap::new() };
    let qps = host.qps.iter().map(|q| (q.local_ip, q.peer_ip));
    let mut hops = BTreeMap::new();
    for (from, to) in qps.chain(host.stream_to.iter().map(|s| (first, s.ip))) {
        let (from, hop) = next_hop(plan, port, from, to);
        hops.entry(hop).or_insert(from);
    }
    hops
}

/// Port `at` of the plan, or the queue of it that `host` is behind, on its device, which goes by `clock`. Without `stamps`
/// nothing ever arrives there.
pub(super) fn lab_port(
    plan: &Plan,
    (at, host): (usize, &HostConfig),
    mut device: EthPort,
    pool: MbufFrames,
    frame_max: u16,
    clock: Clock,
    stamps: Option<Stamper>,
) -> port::LabPort<EthPort, MbufFrames> {
    let (whole, lab) = (&plan.hosts[at], &plan.lab.ports[at]);
    let who = Identity {
        mac: own_mac(lab, &device),
        vlan: plan.classes.iter().find_map(|c| c.vlan),
        ips: whole.ranks.iter().map(|r| r.ip).chain(lab.address).collect(),
    };
    let wire = Wire {
        who,
        pfc: lab.pfc,
        timing: LinkTiming::new(host.rate, Span::ZERO),
        backlog_bytes: backlog(plan, at, frame_max),
        frame_max: FrameLen(frame_max),
        streams_from: host.qps.len() as u32,
        clock,
    };
    device.observe_clock();
    let paced = device.paces() && !host.stream_to.is_empty();
    let stamps = stamps.map(|s| s.select(Every::nth(lab.stamp_every)));
    let mut port = port::LabPort::new(device, pool, wire, stamps);
    if paced {
        port.ahead = PACED_AHEAD;
    }
    port.asked = Asked::new(host.qps.len(), plan.classes.len());
    port
}
