//! A queue pair as two adjacent cache lines, and what the queue pairs of one workload and class share.

use super::config::{ClassConfig, QpConfig, RateControl, RcConfig, Retransmission, SourcePort, Verb};
use super::pace::Pace;
use super::requester::Requester;
use super::responder::Responder;
use crate::frame::Fill;
use crate::units::{Rate, Span};

/// R_Key of every WRITE of a run; a request with another one is refused.
pub const RKEY: u32 = 0x1234_5678;

/// One end of a reliable connection: all a frame touches, 128 bytes.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Qp {
    /// What we send.
    pub req: Requester,
    /// What we receive, and how fast we send.
    pub resp: Hot,
}

/// The second line of a [`Qp`].
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Hot {
    /// What we receive.
    pub rx: Responder,
    /// When the next frame may go.
    pub pace: Pace,
    /// Number of the queue pair at the other end.
    pub peer_qpn: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Requester>() == 64 && size_of::<Hot>() == 64 && size_of::<Qp>() == 128);

impl Qp {
    /// Number of the queue pair at the other end.
    #[inline]
    pub fn peer_qpn(&self) -> u32 {
        self.resp.peer_qpn
    }
    /// A connected queue pair with nothing to send. `profile` is its number in the host's table, `shared`
    /// that entry.
    pub fn new(cfg: &QpConfig, profile: u16, shared: &Shared, addr: u32) -> Qp {
        Qp {
            req: Requester::new(cfg.psn_first, profile, shared, addr),
            resp: Hot {
                rx: Responder::new(cfg.peer_psn_first),
                pace: Pace::unlimited(),
                peer_qpn: cfg.peer_qpn,
                reserved: 0,
            },
        }
    }
}

/// What all queue pairs of one workload and class have in common. A run has few of these; they stay in the L1
/// cache.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Path MTU: payload bytes per packet.
    pub mtu: u16,
    /// The responder acknowledges at least every so many frames.
    pub ack_every: u16,
    /// AckReq is set after so many packets without it.
    pub ack_req_every: u16,
    /// Workload (index in the plan).
    pub workload: u16,
    /// Packets in flight allowed.
    pub window: u32,
    /// Local ACK timeout; `ZERO` = never.
    pub ack_timeout: Span,
    /// Least span between CNPs of one queue pair; `None` = no CNPs.
    pub cnp_interval: Option<Span>,
    /// Retries before the queue pair fails.
    pub retry_count: u8,
    /// Waits for a receiver that is not ready; 7 = for ever.
    pub rnr_retry: u8,
    /// READ requests without a complete answer allowed.
    pub max_rd_atomic: u8,
    /// Packets that may overtake a missing one before it is asked for; 0 = go-back-N, nothing may.
    pub reorder: u16,
    /// Each message has a UDP source port of its own.
    pub sport_per_message: bool,
    /// Traffic class number.
    pub class: u8,
    /// Priority data obeys.
    pub priority: u8,
    /// Priority ACKs and NAKs obey.
    pub ack_priority: u8,
    /// Priority CNPs obey.
    pub cnp_priority: u8,
    /// Operation that carries messages.
    pub verb: Verb,
    /// Bytes of a frame without extended headers and payload: Ethernet to BTH, and ICRC.
    pub base_len: u16,
    /// Constant rate, if any.
    pub fixed_rate: Option<Rate>,
    /// Every data frame is answered by an ACK of its own, and one that carried CE is told there (BECN) instead of by a
    /// CNP.
    pub ack_each: bool,
    /// What fills payloads: [`Fill::Writable`] where memory stands behind the queue pairs.
    pub fill: Fill,
    /// Key that requests of the other end must name.
    pub rkey: u32,
    /// Pace counts the payload and so many bytes of each frame, gaps cut to whole nanoseconds; 0 = every bit on the wire.
    pub pace_overhead: u16,
}

impl Shared {
    /// The shared part of the queue pairs of a workload in a class, over IPv6 or IPv4.
    pub fn new(
        workload: u16,
        verb: Verb,
        rc: &RcConfig,
        rate_control: &RateControl,
        class_ix: u8,
        class: &ClassConfig,
        is_v6: bool,
    ) -> Shared {
        let reorder = match rc.retransmission {
            Retransmission::GoBackN => 0,
            Retransmission::SelectiveRepeat => rc.reorder.max(1),
        };
        let window_max = if reorder == 0 { (1 << 23) - 1 } else { super::reorder::PACKETS_MAX };
        let window = rc.window.clamp(1, window_max);
        // A window that ends without a question would wait for the timeout: ask at least twice per window.
        let half_window = u16::try_from(window / 2).unwrap_or(u16::MAX);
        Shared {
            mtu: class.mtu.max(1),
            ack_every: rc.ack_every.max(1),
            ack_req_every: rc.ack_req_every.min(half_window).max(1),
            workload,
            window,
            ack_timeout: rc.ack_timeout,
            cnp_interval: match rate_control {
                RateControl::Dcqcn(p) => Some(p.cnp_interval),
                RateControl::None | RateControl::Fixed(_) => None,
            },
            retry_count: rc.retry_count.min(7),
            rnr_retry: rc.rnr_retry.min(7),
            max_rd_atomic: rc.max_rd_atomic.max(1),
            reorder,
            sport_per_message: rc.source_port == SourcePort::PerMessage,
            class: class_ix,
            priority: class.priority & 7,
            ack_priority: class.ack_priority & 7,
            cnp_priority: class.cnp_priority & 7,
            verb,
            base_len: base_len(class, is_v6),
            fixed_rate: match rate_control {
                RateControl::Fixed(rate) => Some(*rate),
                RateControl::None | RateControl::Dcqcn(_) => None,
            },
            ack_each: false,
            fill: Fill::Const,
            rkey: RKEY,
            pace_overhead: 0,
        }
    }
}

/// Bytes of a frame of a class without extended headers and payload: Ethernet, tag, IP, UDP, BTH, and ICRC.
pub fn base_len(class: &ClassConfig, is_v6: bool) -> u16 {
    14 + if class.vlan.is_some() { 4 } else { 0 } + if is_v6 { 40 } else { 20 } + 8 + 12 + 4
}
