//! What the transport is told: plain types, filled in by the profile.

use std::net::IpAddr;

use serde::Serialize;

pub use super::rate::{DcqcnParams, RateControl, StaticWindow, SwiftParams};
use crate::units::{ClassIx, RankId, Span};

/// The ECN field a class sends (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecn {
    /// Not ECN capable: switches drop instead of marking.
    Off,
    /// ECT(0), binary 10: the default.
    Ect0,
    /// ECT(1), binary 01.
    Ect1,
}

impl Ecn {
    /// The two ECN bits.
    pub fn bits(self) -> u8 {
        match self {
            Ecn::Off => 0,
            Ecn::Ect0 => 2,
            Ecn::Ect1 => 1,
        }
    }
}

/// A traffic class: how its frames are marked and which PFC priority it obeys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassConfig {
    /// Name in the profile.
    pub name: String,
    /// DSCP of data frames, 0..64.
    pub dscp: u8,
    /// Priority (PFC class) the data obeys, 0..8.
    pub priority: u8,
    /// The class must not lose frames.
    pub lossless: bool,
    /// ECN field of all frames, ACKs and CNPs included: it belongs to the traffic class of the queue pair.
    pub ecn: Ecn,
    /// DSCP and priority of ACKs and NAKs.
    pub ack_dscp: u8,
    /// Priority the ACKs obey.
    pub ack_priority: u8,
    /// DSCP of CNPs.
    pub cnp_dscp: u8,
    /// Priority the CNPs obey.
    pub cnp_priority: u8,
    /// RDMA path MTU: 256, 512, 1024, 2048 or 4096 payload bytes.
    pub mtu: u16,
    /// VLAN id when frames are tagged.
    pub vlan: Option<u16>,
    /// Priority code points of tagged data frames, ACKs and CNPs; `None` = their priorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pcp: Option<[u8; 3]>,
}

impl ClassConfig {
    /// Priority code points of tagged data frames, ACKs and CNPs.
    pub fn pcps(&self) -> [u8; 3] {
        self.pcp.unwrap_or([self.priority, self.ack_priority, self.cnp_priority])
    }
}

/// RDMA operation that carries a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// RDMA WRITE.
    Write,
    /// RDMA WRITE with immediate on the last packet.
    WriteImm,
    /// SEND.
    Send,
    /// RDMA READ: whoever gets the data asks for it.
    Read,
    /// Unreliable datagram: one packet per message, no acknowledgement.
    UdSend,
}

/// What a requester sends again after a loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retransmission {
    /// Everything from the lost packet on; the responder throws away what comes out of order (IBTA volume 1, 9.7).
    #[default]
    GoBackN,
    /// The lost packet alone; the responder keeps what comes out of order ([`super::reorder`]).
    SelectiveRepeat,
}

/// How the UDP source ports of a workload's queue pairs are chosen: the entropy that ECMP sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourcePort {
    /// From both queue pair numbers, as the Linux kernel does.
    #[default]
    Kernel,
    /// The lower 14 bits of the local queue pair number.
    Qpn,
    /// One port for all.
    Fixed(u16),
    /// Random per queue pair, from the seed.
    Random,
    /// Another one for each message; its packets stay together.
    PerMessage,
}

/// When a responder acknowledges without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckPolicy {
    /// After `ack_every` frames.
    #[default]
    Count,
    /// Every frame.
    Frame,
    /// The last frame of a message.
    Message,
    /// So long after the first frame that is not acknowledged.
    Delay(Span),
}

/// When a requester asks for an acknowledgement (AckReq).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckReqPolicy {
    /// With the last packet of a message, and after `ack_req_every` packets without asking.
    #[default]
    Count,
    /// With the last packet of a message.
    Last,
    /// With every packet.
    Packet,
    /// With the packet that fills the window.
    Window,
}

/// How the messages from one rank to another take turns on their queue pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// One after the other.
    #[default]
    RoundRobin,
    /// By a hash of the message's tag.
    Hash,
    /// Each message in as many parts as there are queue pairs.
    Chunks,
}

/// Reliability knobs of a queue pair (IBTA volume 1 chapter 9; the names are those of `ibv_modify_qp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RcConfig {
    /// The responder acknowledges at least every so many frames (and always when AckReq is set).
    pub ack_every: u16,
    /// AckReq is set on the last packet of a message and after so many packets without it.
    pub ack_req_every: u16,
    /// Local ACK timeout, already as a span (4.096 us x 2^timeout); `Span::ZERO` = never.
    pub ack_timeout: Span,
    /// Retries before the queue pair fails.
    pub retry_count: u8,
    /// Waits for a receiver that is not ready before the queue pair fails; 7 = for ever.
    pub rnr_retry: u8,
    /// Unacknowledged packets allowed in flight (static window), 1..=2^23-1.
    pub window: u32,
    /// When the responder acknowledges without being asked.
    pub ack_policy: AckPolicy,
    /// When the requester asks.
    pub ack_req: AckReqPolicy,
    /// Receive buffers of a responder; 0 = no limit (a shared receive queue).
    pub receive_queue: u32,
    /// From the end of a message until its buffer is posted again.
    pub receive_delay: Span,
    /// Timer code of RNR NAKs, 0..32 (`min_rnr_timer`).
    pub min_rnr_timer: u8,
    /// The requester obeys credits.
    pub credits: bool,
    /// How messages spread over the queue pairs of a pair of ranks.
    pub spread: Spread,
    /// READ requests without a complete answer that a requester may have (`max_rd_atomic`), at least 1.
    pub max_rd_atomic: u8,
    /// What is sent again after a loss.
    pub retransmission: Retransmission,
    /// Selective repeat: packets that may overtake a missing one before the responder asks for it.
    pub reorder: u16,
    /// UDP source ports of data.
    pub source_port: SourcePort,
}

impl Default for RcConfig {
    fn default() -> Self {
        // timeout 14 = 67.1 ms and retry 7: perftest's and NCCL's neighbourhood (reference: local ACK
        // timeout).
        RcConfig {
            ack_every: 16,
            ack_req_every: 64,
            ack_timeout: Span(4_096_000 << 14),
            retry_count: 7,
            rnr_retry: 7,
            window: (1 << 23) - 1,
            ack_policy: AckPolicy::Count,
            ack_req: AckReqPolicy::Count,
            receive_queue: 0,
            receive_delay: Span::ZERO,
            min_rnr_timer: 12, // 0.64 ms, what the examples of libibverbs set
            credits: false,
            spread: Spread::RoundRobin,
            max_rd_atomic: 16,
            retransmission: Retransmission::GoBackN,
            reorder: 32,
            source_port: SourcePort::Kernel,
        }
    }
}

/// One end of a reliable connection, as the host that owns it sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QpConfig {
    /// Workload (index in the plan) the connection belongs to.
    pub workload: u16,
    /// Our rank.
    pub local_rank: RankId,
    /// The rank at the other end.
    pub peer_rank: RankId,
    /// Our address.
    pub local_ip: IpAddr,
    /// Their address.
    pub peer_ip: IpAddr,
    /// Next-hop MAC.
    pub peer_mac: [u8; 6],
    /// Our queue pair number: `QPN_FIRST + index` in the host's table.
    pub local_qpn: u32,
    /// Theirs.
    pub peer_qpn: u32,
    /// UDP source port of both directions.
    pub sport: u16,
    /// First PSN we send.
    pub psn_first: u32,
    /// First PSN they send.
    pub peer_psn_first: u32,
    /// Traffic class.
    pub class: ClassIx,
}

/// Queue pair numbers start here (0 and 1 are reserved by the IBTA).
pub const QPN_FIRST: u32 = 0x11;
