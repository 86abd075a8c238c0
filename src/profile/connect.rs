//! Hosts: queue pairs with both ends agreed, streams with their addresses, and the actions of each port.

use std::sync::Arc;

use super::ports::{Layout, port_mac};
use super::source::{Fault, fault};
use super::traffic::Timeline;
use crate::host::config::{HostConfig, RankAddr, STREAM_QPN_FIRST, StreamPeer};
use crate::limits::QPS_PER_PORT_MAX;
use crate::rng::Rng;
use crate::topology::{End, Fabric};
use crate::transport::config::{ClassConfig, QPN_FIRST, QpConfig, SourcePort};
use crate::units::{PortId, RankId};
use crate::wire::template::udp_sport_kernel;
use crate::workload::config::{Action, StreamConfig, WorkloadConfig};
use crate::workload::generate::pairs;

/// What hosts are made of.
pub(super) struct Parts<'p> {
    pub layout: &'p Layout,
    pub fabric: &'p Fabric,
    pub classes: Arc<[ClassConfig]>,
    pub workloads: Arc<[WorkloadConfig]>,
    pub streams: Vec<StreamConfig>,
    pub timeline: Timeline,
    pub hairpin: bool,
    pub seed: u64,
}

/// One end of a connection before queue pair numbers are known.
struct Half {
    port: u32,
    workload: u16,
    local: RankAddr,
    peer: RankAddr,
    /// Which of the pair's queue pairs.
    nth: u16,
    /// Connection, and which end of it.
    connection: u64,
    end: bool,
}

/// One host per tester port.
pub(super) fn hosts(parts: Parts<'_>) -> Result<Vec<HostConfig>, Fault> {
    let next_hops = next_hops(parts.layout, parts.fabric);
    let mut hosts: Vec<HostConfig> = (parts.layout.ports.iter().enumerate())
        .map(|(i, port)| HostConfig {
            port: PortId(i as u32),
            name: port.name.clone(),
            host: port.host.clone(),
            mac: port_mac(i as u32),
            rate: port.rate,
            ranks: port.ranks.clone().filter_map(|r| parts.layout.port_of(RankId(r)).copied()).collect(),
            classes: parts.classes.clone(),
            workloads: parts.workloads.clone(),
            qps: Vec::new(),
            local_delivery: !parts.hairpin,
            streams: Vec::new(),
            stream_to: Vec::new(),
            actions: Vec::new(),
            pfc_response: port.pfc_response,
            receive: port.receive,
            seed: parts.seed,
        })
        .collect();
    connect(&parts, &next_hops, &mut hosts)?;
    // Streams are numbered over the whole run; the number is the receiving queue pair's.
    let mut index = 0;
    let mut peer = |stream: &StreamConfig| {
        let (Some(from), Some(to)) = (parts.layout.port_of(stream.from), parts.layout.port_of(stream.to))
        else {
            return fault("stream", "names a rank that does not exist");
        };
        let sport = udp_sport_kernel(STREAM_QPN_FIRST + index, QPN_FIRST + to.rank.0);
        let mac = next_hops[from.port.0 as usize];
        let found = StreamPeer { index, ip: to.ip, mac, sport };
        index += 1;
        Ok((from.port.0 as usize, found))
    };
    for stream in &parts.streams {
        let (host, found) = peer(stream)?;
        hosts[host].stream_to.push(found);
        hosts[host].streams.push(stream.clone());
    }
    for (port, action) in &parts.timeline.ports {
        let mut host = port.0 as usize;
        if let Action::Burst(stream) = &action.action {
            let found;
            (host, found) = peer(stream)?;
            hosts[host].stream_to.push(found);
        }
        hosts[host].actions.push(action.clone());
    }
    Ok(hosts)
}

fn connect(parts: &Parts<'_>, next_hops: &[[u8; 6]], hosts: &mut [HostConfig]) -> Result<(), Fault> {
    let mut halves: Vec<Half> = Vec::new();
    let mut connections = 0u64;
    for (w, workload) in parts.workloads.iter().enumerate() {
        // One connection carries both directions of a pair.
        let mut linked: Vec<(RankId, RankId)> =
            pairs(workload).into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
        linked.sort_unstable();
        linked.dedup();
        for (a, b) in linked {
            let (Some(a), Some(b)) = (parts.layout.port_of(a), parts.layout.port_of(b)) else {
                return fault(format!("workload[{w}]"), "names a rank that does not exist");
            };
            if a.port == b.port && !parts.hairpin {
                continue;
            }
            for nth in 0..workload.qps_per_pair {
                let half = |local: &RankAddr, peer: &RankAddr, end| Half {
                    port: local.port.0,
                    workload: w as u16,
                    local: *local,
                    peer: *peer,
                    nth,
                    connection: connections,
                    end,
                };
                halves.push(half(a, b, false));
                halves.push(half(b, a, true));
                connections += 1;
            }
        }
    }
    halves.sort_by_key(|h| (h.port, h.workload, h.local.rank, h.peer.rank, h.nth));
    let mut numbers = vec![[0u32; 2]; connections as usize];
    let mut counts = vec![0u32; hosts.len()];
    for half in &halves {
        let count = &mut counts[half.port as usize];
        numbers[half.connection as usize][usize::from(half.end)] = QPN_FIRST + *count;
        *count += 1;
        if *count as usize > QPS_PER_PORT_MAX {
            let name = &parts.layout.ports[half.port as usize].name;
            let text = format!(
                "port {name} would hold more than {QPS_PER_PORT_MAX} queue pairs; use fewer ranks per \
                     port or fewer qps_per_pair"
            );
            return fault(format!("workload[{}].qps_per_pair", half.workload), text);
        }
    }
    let psn = |connection: u64, end: bool| {
        Rng::new(parts.seed, "psn", connection * 2 + u64::from(end)).below(1 << 24) as u32
    };
    for (host, count) in hosts.iter_mut().zip(&counts) {
        host.qps.reserve_exact(*count as usize);
    }
    for half in &halves {
        let pair = numbers[half.connection as usize];
        let (local_qpn, peer_qpn) = (pair[usize::from(half.end)], pair[usize::from(!half.end)]);
        hosts[half.port as usize].qps.push(QpConfig {
            workload: half.workload,
            local_rank: half.local.rank,
            peer_rank: half.peer.rank,
            local_ip: half.local.ip,
            peer_ip: half.peer.ip,
            peer_mac: next_hops[half.port as usize],
            local_qpn,
            peer_qpn,
            sport: source_port(parts, half, local_qpn, peer_qpn),
            psn_first: psn(half.connection, half.end),
            peer_psn_first: psn(half.connection, !half.end),
            class: parts.workloads[usize::from(half.workload)].class,
        });
    }
    Ok(())
}

/// UDP source port of one end of a connection, as its workload wants it.
fn source_port(parts: &Parts<'_>, half: &Half, local_qpn: u32, peer_qpn: u32) -> u16 {
    match parts.workloads[usize::from(half.workload)].rc.source_port {
        SourcePort::Kernel | SourcePort::PerMessage => udp_sport_kernel(local_qpn, peer_qpn),
        SourcePort::Qpn => 0xc000 | local_qpn as u16 & 0x3fff,
        SourcePort::Fixed(port) => port,
        SourcePort::Random => {
            let stream = half.connection * 2 + u64::from(half.end);
            0xc000 | Rng::new(parts.seed, "sport", stream).below(1 << 14) as u16
        }
    }
}

/// MAC of the switch port at the other end of each tester port.
fn next_hops(layout: &Layout, fabric: &Fabric) -> Vec<[u8; 6]> {
    let mut macs = vec![[0u8; 6]; layout.ports.len()];
    for link in &fabric.links {
        if let (End::Host(port), End::Switch(s, p)) = (link.from, link.to)
            && let Some(slot) = macs.get_mut(port.0 as usize)
            && let Some(port) = fabric.switches.get(usize::from(s)).and_then(|s| s.ports.get(usize::from(p)))
        {
            *slot = port.mac;
        }
    }
    macs
}
