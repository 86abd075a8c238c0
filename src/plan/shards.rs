//! Shards: the queues of real ports, each with the ranks that live behind it.
//!
//! Queue `q` of a port with N queues has the ranks whose number among those of the port is `q` modulo N, with their queue
//! pairs and streams: a host of its own, which shares no queue pair with another. What belongs to the port as such
//! (neighbours, PFC, link, counters) is the business of queue 0.

use std::net::IpAddr;

use super::Plan;
use crate::host::config::{HostConfig, RankAddr};
use crate::transport::config::{QPN_FIRST, QpConfig};
use crate::units::RankId;
use crate::workload::config::Action;
use crate::workload::generate::pairs;

/// A queue of a port, and what lives behind it.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Number of the port.
    pub port: usize,
    /// Number of the queue.
    pub queue: u16,
    /// Queues of the port.
    pub queues: u16,
    /// Its ranks, queue pairs (numbered anew from [`QPN_FIRST`]), streams and actions; timed pauses are those of queue 0.
    pub host: HostConfig,
}

/// The queue of a rank among the `ranks` of its port.
fn home(ranks: &[RankAddr], rank: RankId, queues: u16) -> u16 {
    let nth = ranks.first().map_or(0, |first| rank.0.wrapping_sub(first.rank.0));
    (nth % u32::from(queues.max(1))) as u16
}

/// All shards of a plan: queue 0 of every port, then queue 1 of those that have one, and so on, so that consecutive shards
/// burden all ports alike. Cost: a copy of every host.
pub fn shards(plan: &Plan) -> Vec<Shard> {
    let mut shards: Vec<Shard> = Vec::new();
    // New numbers of the queue pairs of each port.
    let mut numbers: Vec<Vec<u32>> = Vec::with_capacity(plan.hosts.len());
    for (port, host) in plan.hosts.iter().enumerate() {
        let queues = plan.lab.queues(port);
        let (parts, renumbered) = divide(host, queues);
        numbers.push(renumbered);
        let shard = |(queue, host)| Shard { port, queue, queues, host };
        shards.extend((0..queues).zip(parts).map(shard));
    }
    let theirs = |q: &QpConfig| {
        let port = plan.ranks.get(q.peer_rank.0 as usize)?.port.0 as usize;
        numbers.get(port)?.get(q.peer_qpn.checked_sub(QPN_FIRST)? as usize).copied()
    };
    for q in shards.iter_mut().flat_map(|s| &mut s.host.qps) {
        q.peer_qpn = theirs(q).unwrap_or(q.peer_qpn);
    }
    shards.sort_by_key(|s| (s.queue, s.port));
    shards
}

/// The parts of a host, and the new number of each of its queue pairs.
fn divide(host: &HostConfig, queues: u16) -> (Vec<HostConfig>, Vec<u32>) {
    if queues == 1 {
        return (vec![host.clone()], host.qps.iter().map(|q| q.local_qpn).collect());
    }
    let of = |rank| home(&host.ranks, rank, queues);
    let mut streams_to = host.stream_to.iter().copied();
    let mut parts: Vec<HostConfig> = (0..queues)
        .map(|q| HostConfig {
            ranks: host.ranks.iter().filter(|r| of(r.rank) == q).copied().collect(),
            qps: Vec::new(),
            streams: Vec::new(),
            stream_to: Vec::new(),
            actions: Vec::new(),
            receive: host.receive.filter(|_| q == 0),
            ..host.clone()
        })
        .collect();
    let mut numbers = Vec::with_capacity(host.qps.len());
    for q in &host.qps {
        let qps = &mut parts[usize::from(of(q.local_rank))].qps;
        let local_qpn = QPN_FIRST + qps.len() as u32;
        numbers.push(local_qpn);
        qps.push(QpConfig { local_qpn, ..q.clone() });
    }
    for stream in &host.streams {
        let part = &mut parts[usize::from(of(stream.from))];
        part.stream_to.extend(streams_to.next());
        part.streams.push(stream.clone());
    }
    for action in &host.actions {
        let part = match &action.action {
            Action::Burst(stream) => {
                let part = &mut parts[usize::from(of(stream.from))];
                part.stream_to.extend(streams_to.next());
                part
            }
            _ => &mut parts[0],
        };
        part.actions.push(action.clone());
    }
    (parts, numbers)
}

/// Two ranks of one port, on two queues, that would exchange messages inside the port: hosts deliver those among their own
/// ranks only.
pub fn neighbours_apart(plan: &Plan) -> Option<(RankId, RankId)> {
    let queue = |rank: RankId| {
        let port = plan.ranks.get(rank.0 as usize)?.port.0 as usize;
        let host = plan.hosts.get(port).filter(|h| h.local_delivery)?;
        Some((port, home(&host.ranks, rank, plan.lab.queues(port))))
    };
    let apart = |(a, b): &(RankId, RankId)| match (queue(*a), queue(*b)) {
        (Some((port, one)), Some((same, other))) => port == same && one != other,
        _ => false,
    };
    if plan.lab.ports.iter().all(|p| p.queues <= 1) {
        return None;
    }
    plan.workloads.iter().flat_map(pairs).find(apart)
}

/// Which queue of a port an address lives on. Addresses of a port follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Homes {
    /// Low word of the first address.
    first: u32,
    count: u32,
    queues: u32,
}

impl Homes {
    /// Those of the ranks of one port.
    pub fn new(ranks: &[RankAddr], queues: u16) -> Homes {
        let first = ranks.first().map_or(0, |r| low_word(r.ip));
        Homes { first, count: ranks.len() as u32, queues: queues.max(1).into() }
    }

    /// The queue of the address with this low word; `None` for one that is not of this port. Cost: a division.
    #[inline]
    pub fn of(&self, low: u32) -> Option<u16> {
        let nth = low.wrapping_sub(self.first);
        (nth < self.count).then(|| (nth % self.queues) as u16)
    }
}

/// The last four bytes of an address.
pub fn low_word(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(a) => a.into(),
        IpAddr::V6(a) => u128::from(a) as u32,
    }
}
