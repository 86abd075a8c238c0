//! What a host is told: the ranks, queue pairs and streams of one tester port.

use std::net::IpAddr;
use std::sync::Arc;

use crate::transport::config::{ClassConfig, QpConfig};
use crate::units::{Bytes, PortId, RankId, Rate, Span};
#[cfg(doc)]
use crate::workload::config::Action;
use crate::workload::config::{StreamConfig, TimedAction, WorkloadConfig};

/// A rank and where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankAddr {
    /// The rank.
    pub rank: RankId,
    /// Its port.
    pub port: PortId,
    /// Its address.
    pub ip: IpAddr,
}

/// The receiver of a stream, as its sender addresses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPeer {
    /// Number of the stream in the whole run, below 2^20: names the receiving queue pair
    /// ([`STREAM_QPN_FIRST`]).
    pub index: u32,
    /// Address.
    pub ip: IpAddr,
    /// Next-hop MAC.
    pub mac: [u8; 6],
    /// UDP source port.
    pub sport: u16,
}

/// Stream number i of the run is received by queue pair `STREAM_QPN_FIRST + i`.
pub const STREAM_QPN_FIRST: u32 = 0x00f0_0000;

/// The receive buffer of a port whose machine is slower than its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveConfig {
    /// Bytes it holds; frames with FCS count.
    pub buffer: Bytes,
    /// Rate at which frames (with FCS, without preamble and gap) are taken out.
    pub drain: Rate,
    /// The switch is paused while it holds more, ...
    pub xoff: Bytes,
    /// ... until it holds no more than this.
    pub xon: Bytes,
    /// Bit p: priority p is paused.
    pub priorities: u8,
}

/// Everything the ranks of one tester port need.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Tester port number; also the fabric endpoint.
    pub port: PortId,
    /// Port name in reports.
    pub name: String,
    /// Host machine that owns the port (`host = "gen1"`).
    pub host: String,
    /// Our MAC.
    pub mac: [u8; 6],
    /// Rate of the port.
    pub rate: Rate,
    /// Ranks behind this port.
    pub ranks: Vec<RankAddr>,
    /// Traffic classes of the run.
    pub classes: Arc<[ClassConfig]>,
    /// All workloads of the run (a host runs the programs of its own ranks).
    pub workloads: Arc<[WorkloadConfig]>,
    /// Our ends of the connections; `qps[i].local_qpn == QPN_FIRST + i`. Those of one (workload, local rank,
    /// peer rank) stand together.
    pub qps: Vec<QpConfig>,
    /// Pairs of ranks behind this port are delivered inside instead of through the switch.
    pub local_delivery: bool,
    /// Streams that start here.
    pub streams: Vec<StreamConfig>,
    /// Receivers: one entry per stream in `streams`, then one per [`Action::Burst`] in `actions`, in their
    /// order.
    pub stream_to: Vec<StreamPeer>,
    /// Timed actions of this port, in time order.
    pub actions: Vec<TimedAction>,
    /// Span between a PFC frame's arrival and the port obeying it (the frame in flight always finishes).
    pub pfc_response: Span,
    /// Receive buffer; `None` = frames are taken as they arrive.
    pub receive: Option<ReceiveConfig>,
    /// Seed of the run.
    pub seed: u64,
}
