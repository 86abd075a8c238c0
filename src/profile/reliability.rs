//! What a workload says about its queue pairs: retries, windows, acknowledgements, receive queues.

use super::classes::ranged;
use super::doc::*;
use super::quantity::parse_span;
use super::source::{Fault, fault};
use crate::transport::config::{
    AckPolicy, AckReqPolicy, ClassConfig, RcConfig, Retransmission, SourcePort, Spread, Verb,
};
use crate::transport::rate::RateControl;
use crate::units::Span;
use crate::wire::psn;
use crate::workload::config::WorkloadConfig;
use crate::workload::generate::traffic;

/// The knobs of workload `i`, each checked for itself.
pub(super) fn rc(w: &WorkloadDoc, i: usize) -> Result<RcConfig, Fault> {
    let key = |k: &str| format!("workload[{i}].{k}");
    let retransmission = w.retransmission.map_or(Retransmission::GoBackN, Retransmission::from);
    let usual = RcConfig::default();
    Ok(RcConfig {
        ack_every: ranged(&key("ack_every"), w.ack_every, 1, 4096)?,
        ack_req_every: ranged(&key("ack_req_every"), w.ack_req_every, 1, 4096)?,
        ack_policy: ack_policy(&key("ack_policy"), w.ack_policy.as_deref())?,
        ack_req: ack_req(&key("ack_req"), w.ack_req.as_deref())?,
        ack_timeout: w.ack_timeout.map_or(Span::ZERO, |d| d.0),
        retry_count: ranged(&key("retry_count"), w.retry_count, 0, 7)?,
        rnr_retry: ranged(&key("rnr_retry"), w.rnr_retry, 0, 7)?,
        window: super::rate::packets(w.window),
        max_rd_atomic: ranged(&key("max_rd_atomic"), w.max_rd_atomic, 1, 128)?,
        receive_queue: ranged(&key("receive_queue"), w.receive_queue, 0, 32_768)?,
        receive_delay: w.receive_delay.map_or(Span::ZERO, |d| d.0),
        min_rnr_timer: match w.min_rnr_timer {
            Some(_) => ranged(&key("min_rnr_timer"), w.min_rnr_timer, 0, 31)?,
            None => usual.min_rnr_timer,
        },
        credits: w.credits.unwrap_or(false),
        retransmission,
        reorder: match w.reorder {
            Some(_) => ranged(&key("reorder"), w.reorder, 1, 512)?,
            None => usual.reorder,
        },
        source_port: source_port(&key("source_port"), w.source_port.as_deref())?,
        spread: match w.spread {
            Some(SpreadDoc::Hash) => Spread::Hash,
            Some(SpreadDoc::Chunks) => Spread::Chunks,
            _ => Spread::RoundRobin,
        },
    })
}

/// Refuses what could only end in a timeout, and messages that the verb cannot carry.
pub(super) fn check(w: &WorkloadConfig, i: usize, class: &ClassConfig) -> Result<(), Fault> {
    let key = |k: &str| format!("workload[{i}].{k}");
    let mut largest = 0;
    traffic(w, |_, _, bytes, _| largest = largest.max(bytes));
    let (rc, packets) = (&w.rc, psn::packets(largest, class.mtu));
    if w.verb == Verb::UdSend && largest > u64::from(class.mtu) {
        let text = format!(
            "\"ud-send\" carries one packet of at most {} B (class.{}.mtu) per message, and there is one of \
             {largest} B; make messages smaller or use \"send\"",
            class.mtu, class.name
        );
        return fault(key("verb"), text);
    }
    if w.verb == Verb::Read && packets > u64::from(crate::transport::reads::PSNS_MAX) {
        let text = format!(
            "a READ of {largest} B has more packets than PSNs tell apart; use a larger class.{}.mtu",
            class.name
        );
        return fault(key("verb"), text);
    }
    if w.verb == Verb::UdSend && rc.retransmission == Retransmission::SelectiveRepeat {
        return fault(key("retransmission"), "nothing is sent again with verb = \"ud-send\"; remove it");
    }
    if w.verb == Verb::UdSend && rc.spread == Spread::Chunks {
        let text = "\"chunks\" needs every part to arrive in its order, which verb = \"ud-send\" does not promise; use \"hash\"";
        return fault(key("spread"), text);
    }
    if rc.receive_queue != 0 && rc.retransmission == Retransmission::SelectiveRepeat {
        let text = "does not go with retransmission = \"selective-repeat\": what comes out of order would take \
             buffers out of order; use \"go-back-n\" or receive_queue = 0";
        return fault(key("receive_queue"), text);
    }
    if rc.receive_queue != 0 && !matches!(w.verb, Verb::Send | Verb::WriteImm) {
        let text = "acts with verb = \"send\" and \"write-imm\" only: other operations take no receive buffer; \
             remove it or change the verb";
        return fault(key("receive_queue"), text);
    }
    let unasked = match rc.ack_policy {
        AckPolicy::Count => rc.ack_every.into(),
        AckPolicy::Frame | AckPolicy::Delay(_) => 1,
        AckPolicy::Message => packets,
    };
    if rc.ack_req == AckReqPolicy::Last && packets > u64::from(rc.window) && unasked > u64::from(rc.window) {
        let text = format!(
            "\"last\" asks for no ACK within a window of {} packets, a message has {packets}, and the responder \
             acknowledges after {unasked}: the window would close until the timeout; use \"count\" or a larger window",
            rc.window
        );
        return fault(key("ack_req"), text);
    }
    if rc.ack_req == AckReqPolicy::Window && matches!(w.rate_control, RateControl::Swift(_)) {
        let text =
            "\"window\" asks at the end of a fixed window, and swift changes it; use \"last\" or \"count\"";
        return fault(key("ack_req"), text);
    }
    if rc.ack_req == AckReqPolicy::Window && rc.ack_policy == AckPolicy::Count && rc.ack_every > 1 {
        let text = format!(
            "\"window\" does not ask at the end of a message, and ack_policy = \"count\" leaves the last \
             {} frames without an ACK until the timeout; use ack_policy = \"message\", \"frame\" or \"delay:10us\"",
            rc.ack_every - 1
        );
        return fault(key("ack_req"), text);
    }
    if let AckPolicy::Delay(delay) = rc.ack_policy
        && rc.ack_timeout != Span::ZERO
        && delay >= rc.ack_timeout
    {
        return fault(
            key("ack_policy"),
            "delays ACKs beyond ack_timeout; use a shorter delay or a longer timeout",
        );
    }
    Ok(())
}

fn ack_policy(path: &str, typed: Option<&str>) -> Result<AckPolicy, Fault> {
    let text = "must be \"count\", \"frame\", \"message\" or \"delay:10us\"";
    match typed.unwrap_or("count") {
        "count" => Ok(AckPolicy::Count),
        "frame" => Ok(AckPolicy::Frame),
        "message" => Ok(AckPolicy::Message),
        other => match other.strip_prefix("delay:").map(parse_span) {
            Some(Ok(span)) if span > Span::ZERO => Ok(AckPolicy::Delay(span)),
            _ => fault(path, text),
        },
    }
}

fn ack_req(path: &str, typed: Option<&str>) -> Result<AckReqPolicy, Fault> {
    match typed.unwrap_or("count") {
        "count" => Ok(AckReqPolicy::Count),
        "last" => Ok(AckReqPolicy::Last),
        "packet" => Ok(AckReqPolicy::Packet),
        "window" => Ok(AckReqPolicy::Window),
        _ => fault(path, "must be \"count\", \"last\", \"packet\" or \"window\""),
    }
}

fn source_port(path: &str, typed: Option<&str>) -> Result<SourcePort, Fault> {
    let text = "must be \"kernel\", \"qpn\", \"fixed:49152\", \"random\" or \"per-message\"";
    match typed.unwrap_or("kernel") {
        "kernel" => Ok(SourcePort::Kernel),
        "qpn" => Ok(SourcePort::Qpn),
        "random" => Ok(SourcePort::Random),
        "per-message" => Ok(SourcePort::PerMessage),
        other => match other.strip_prefix("fixed:").and_then(|p| p.parse().ok()) {
            Some(port) if port != 0 => Ok(SourcePort::Fixed(port)),
            _ => fault(path, text),
        },
    }
}
