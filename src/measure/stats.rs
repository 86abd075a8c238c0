//! Plain counters that hosts and switches keep themselves. All can be merged, subtracted (to leave the warm-up out)
//! and hashed.

use serde::Serialize;

use crate::limits::PRIORITIES;

/// Counters of one tester port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostStats {
    /// Frames sent, all kinds.
    pub tx_frames: u64,
    /// Bytes sent, FCS included, no preamble or gap.
    pub tx_bytes: u64,
    /// Frames received, all kinds.
    pub rx_frames: u64,
    /// Bytes received, FCS included.
    pub rx_bytes: u64,
    /// Per class.
    pub classes: Vec<ClassStats>,
    /// Messages posted.
    pub messages_started: u64,
    /// Messages completed over the wire.
    pub messages_completed: u64,
    /// Messages failed.
    pub messages_failed: u64,
    /// Messages delivered inside the port.
    pub local_messages: u64,
    /// Payload bytes of new (not duplicate) data accepted by responders here.
    pub payload_bytes: u64,
    /// Frames sent again.
    pub retransmitted: u64,
    /// NAKs (PSN sequence error and fatal) sent.
    pub nak_tx: u64,
    /// NAKs received.
    pub nak_rx: u64,
    /// RNR NAKs received.
    pub rnr_nak_rx: u64,
    /// ACK timeouts.
    pub timeouts: u64,
    /// Data frames ahead of the expected PSN.
    pub out_of_order: u64,
    /// Data frames behind the expected PSN.
    pub duplicates: u64,
    /// ACK frames sent.
    pub ack_tx: u64,
    /// ACK frames received.
    pub ack_rx: u64,
    /// CNPs sent.
    pub cnp_tx: u64,
    /// CNPs received.
    pub cnp_rx: u64,
    /// Data frames with CE received.
    pub ce_rx: u64,
    /// Frames that belong to nothing here (unknown queue pair, wrong address).
    pub rx_unknown: u64,
    /// Frames with a header that does not parse, or a wrong ICRC where it is checked.
    pub rx_malformed: u64,
    /// `poll_tx` wanted a frame and the pool had none: the tester's own fault.
    pub pool_empty: u64,
    /// PFC per priority.
    pub pfc: [PfcStats; PRIORITIES],
    /// Frames of open-loop streams sent.
    pub stream_tx: u64,
    /// Frames of open-loop streams received.
    pub stream_rx: u64,
    /// Stream frames missing at the end (gaps in their PSNs).
    pub stream_lost: u64,
    /// READ requests sent, repeated ones included. This and what follows is left out of the outcome hash while zero.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_tx: u64,
    /// READ requests for what was asked for before.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_again: u64,
    /// READ responses found missing because something behind them arrived (implied NAK).
    #[serde(skip_serializing_if = "is_zero")]
    pub implied_nak: u64,
    /// READ requests answered, repeated ones included.
    #[serde(skip_serializing_if = "is_zero")]
    pub read_rx: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Counters of one class on one tester port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassStats {
    /// Data frames sent, retransmissions included.
    pub transmissions: u64,
    /// Data frames received, duplicates included.
    pub arrivals: u64,
    /// Data frames sent again.
    pub retransmitted: u64,
    /// Data frames received with CE.
    pub ce: u64,
}

/// PFC of one port and priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PfcStats {
    /// Non-zero quanta while not paused.
    pub xoff_rx: u64,
    /// Non-zero quanta while already paused.
    pub refresh_rx: u64,
    /// Zero quanta while paused.
    pub xon_rx: u64,
    /// Sent likewise.
    pub xoff_tx: u64,
    /// Refreshes sent.
    pub refresh_tx: u64,
    /// XONs sent.
    pub xon_tx: u64,
}

/// Counters of one switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SwitchStats {
    /// Frames that came in (PFC not counted).
    pub rx_frames: u64,
    /// Bytes that came in, FCS included.
    pub rx_bytes: u64,
    /// Frames that left (PFC not counted).
    pub tx_frames: u64,
    /// Bytes that left.
    pub tx_bytes: u64,
    /// Frames dropped, all reasons.
    pub drops: u64,
    /// Bytes dropped.
    pub drop_bytes: u64,
    /// Dropped frames of lossless priorities.
    pub drops_lossless: u64,
    /// Frames marked CE.
    pub ce_marked: u64,
    /// Most bytes (cells x cell size) in the whole buffer.
    pub buffer_bytes_max: u64,
    /// Most bytes in the shared pool.
    pub shared_bytes_max: u64,
    /// Most bytes in the headroom of one priority group.
    pub headroom_bytes_max: u64,
    /// Most shared bytes of one priority group (port, priority).
    pub ingress_bytes_max: u64,
    /// Per port.
    pub ports: Vec<SwitchPortStats>,
}

/// Counters of one switch port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SwitchPortStats {
    /// PFC per priority, as this port sent and received it.
    pub pfc: [PfcStats; PRIORITIES],
    /// Per egress queue.
    pub queues: [QueueStats; PRIORITIES],
    /// Frames dropped that came in here.
    pub ingress_drops: u64,
}

/// Counters of one egress queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueStats {
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames marked CE.
    pub ce_marked: u64,
    /// Frames dropped that were bound here.
    pub drops: u64,
    /// Deepest, in bytes.
    pub depth_bytes_max: u64,
}
