//! A queue pair as two adjacent cache lines, and what the queue pairs of one workload and class share.

use super::config::{
    AckPolicy, AckReqPolicy, ClassConfig, QpConfig, RateControl, RcConfig, Retransmission, SourcePort,
    Spread, Verb,
};
use super::pace::Pace;
use super::requester::Requester;
use super::responder::Responder;
use crate::frame::Fill;
use crate::units::{Rate, Span};
use crate::wire::template::{Marking, SpecError};

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
    /// Number of the queue pair at the other end (24 bits), and above it the upper bits of the template's number.
    peer: u32,
    /// Lower bits of the number of the header template.
    template: u16,
    /// UDP source port.
    sport: u16,
}

/// Number of no header template: the plan's addresses do not fit into headers.
pub const NO_TEMPLATE: u32 = 0xff_ffff;

const _: () = assert!(size_of::<Requester>() == 64 && size_of::<Hot>() == 64 && size_of::<Qp>() == 128);

impl Qp {
    /// Number of the queue pair at the other end.
    #[inline]
    pub fn peer_qpn(&self) -> u32 {
        self.resp.peer & 0xff_ffff
    }
    /// UDP source port, where messages have none of their own.
    #[inline]
    pub fn sport(&self) -> u16 {
        self.resp.sport
    }
    /// Number of the header template in the host's table, 24 bits; [`NO_TEMPLATE`] sends nothing.
    #[inline]
    pub fn template(&self) -> u32 {
        self.resp.peer >> 24 << 16 | u32::from(self.resp.template)
    }
    /// A connected queue pair with nothing to send. `profile` is its number in the host's table, `shared`
    /// that entry; `template` the number of its headers.
    pub fn new(cfg: &QpConfig, profile: u16, shared: &Shared, addr: u32, template: u32) -> Qp {
        Qp {
            req: Requester::new(cfg.psn_first, profile, shared, addr),
            resp: Hot {
                rx: Responder::new(cfg.peer_psn_first),
                pace: Pace::unlimited(),
                peer: cfg.peer_qpn & 0xff_ffff | template >> 16 << 24,
                template: template as u16,
                sport: cfg.sport,
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
    /// Full frames the link carries in half the ACK timeout. Where a queue pair waits so long for its turns that ACKs
    /// would come later than that, it asks for them more often.
    pub frames_in_timeout: u32,
    /// Least span between CNPs of one queue pair; `None` = no CNPs.
    pub cnp_interval: Option<Span>,
    /// Retries before the queue pair fails.
    pub retry_count: u8,
    /// Waits for a receiver that is not ready; 7 = for ever.
    pub rnr_retry: u8,
    /// AckReq is set on the last packet of a message.
    pub ask_last: bool,
    /// AckReq is set on the packet that fills the window.
    pub ask_window: bool,
    /// The responder acknowledges every whole message.
    pub ack_message: bool,
    /// The requester obeys credits.
    pub credits: bool,
    /// Messages are parts of messages.
    pub parts: bool,
    /// Data takes the short path: no receive queue, no other order, no ACK by time.
    pub plain_rx: bool,
    /// So do packets sent: no credits, no datagrams.
    pub plain_tx: bool,
    /// Packets in the middle of messages may take the shortest way there is.
    pub plain_middle: bool,
    /// Timer code of RNR NAKs.
    pub min_rnr_timer: u8,
    /// Receive buffers; 0 = no limit.
    pub receive_queue: u32,
    /// From the end of a message until its buffer is posted again.
    pub receive_delay: Span,
    /// From the first frame that is not acknowledged to its ACK; `ZERO` = other rules.
    pub ack_delay: Span,
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
    /// Markings of data, of ACKs and NAKs, and of CNPs.
    pub markings: Markings,
    /// Bytes of a frame without extended headers and payload: Ethernet to BTH, and ICRC.
    pub base_len: u16,
    /// Constant rate, if any.
    pub fixed_rate: Option<Rate>,
    /// Acknowledgements are timed for rate control.
    pub delay_based: bool,
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

/// How the frames of a class are marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Markings {
    /// Data, and what answers a READ.
    pub data: Marking,
    /// ACKs and NAKs.
    pub ack: Marking,
    /// CNPs.
    pub cnp: Marking,
}

impl Markings {
    /// Those of a class.
    ///
    /// # Errors
    /// [`SpecError::Range`] when one does not fit its field.
    pub fn of(class: &ClassConfig) -> Result<Markings, SpecError> {
        // Untagged frames have nowhere to put a priority, so none is too large for them.
        let [data, ack, cnp] = if class.vlan.is_some() { class.pcps() } else { [0; 3] };
        Ok(Markings {
            data: Marking::new(class.dscp, class.ecn.bits(), data)?,
            ack: Marking::new(class.ack_dscp, class.ecn.bits(), ack)?,
            cnp: Marking::new(class.cnp_dscp, class.ecn.bits(), cnp)?,
        })
    }
}

impl Shared {
    /// The shared part of the queue pairs of a workload in a class, over IPv6 or IPv4. Its markings and `frames_in_timeout`
    /// are to be set.
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
        let ack_delay = match rc.ack_policy {
            AckPolicy::Delay(span) => span,
            _ => Span::ZERO,
        };
        let credits = rc.credits && rc.receive_queue != 0;
        Shared {
            mtu: class.mtu.max(1),
            ack_every: match rc.ack_policy {
                AckPolicy::Count => rc.ack_every.max(1),
                AckPolicy::Frame => 1,
                AckPolicy::Message | AckPolicy::Delay(_) => u16::MAX,
            },
            ack_req_every: match rc.ack_req {
                AckReqPolicy::Count => rc.ack_req_every.min(half_window).max(1),
                AckReqPolicy::Packet => 1,
                AckReqPolicy::Last | AckReqPolicy::Window => u16::MAX,
            },
            ask_last: rc.ack_req != AckReqPolicy::Window,
            ask_window: rc.ack_req == AckReqPolicy::Window,
            ack_message: rc.ack_policy == AckPolicy::Message,
            credits,
            parts: rc.spread == Spread::Chunks,
            plain_rx: reorder == 0 && rc.receive_queue == 0 && ack_delay == Span::ZERO,
            plain_tx: !credits && verb != Verb::UdSend,
            plain_middle: !credits && verb != Verb::UdSend && rc.source_port != SourcePort::PerMessage,
            min_rnr_timer: rc.min_rnr_timer & 0x1f,
            receive_queue: rc.receive_queue,
            receive_delay: rc.receive_delay,
            ack_delay,
            workload,
            window,
            ack_timeout: if verb == Verb::UdSend { Span::ZERO } else { rc.ack_timeout },
            frames_in_timeout: u32::MAX,
            cnp_interval: rate_control.cnp_interval(),
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
            markings: Markings::default(),
            base_len: base_len(class, is_v6),
            fixed_rate: rate_control.fixed_rate(),
            delay_based: matches!(rate_control, RateControl::Swift(_)),
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
