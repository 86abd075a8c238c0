//! RoCEv2 captures: frames -> packets -> messages -> schedule. Ranks are the IP addresses in order of
//! appearance.
//!
//! Works with captures that cut frames: lengths come from the IP header and RETH.

use std::path::Path;

use super::messages::{Messages, Packet, Reassembly};
use super::{ImportError, MESSAGES_MAX, Replay, captured};
use crate::limits::RANKS_MAX;
use crate::units::{Span, Time};
use crate::wire::capture::{CaptureError, CaptureReader};
use crate::wire::dissect::{Body, Roce, dissect};
use crate::wire::headers::{Ext, Opcode};
use crate::workload::schedule::Schedule;

/// Frames of a capture that carry nothing for a schedule.
#[derive(Debug, Default)]
struct Ignored {
    not_roce: u64,
    bad_icrc: u64,
    unknown_opcode: u64,
}

/// Reads a capture. A file that breaks off is used up to there, with a warning.
pub fn read(path: &Path, replay: Replay) -> Result<Schedule, ImportError> {
    let file = path.display().to_string();
    let error = |what: String| ImportError::File { file: file.clone(), what };
    let mut reader = CaptureReader::open(path).map_err(|e| match e {
        CaptureError::Open { source, .. } => ImportError::Io { file: file.clone(), error: source },
        other => ImportError::Capture(other),
    })?;
    let mut reassembly = Reassembly::default();
    let mut ignored = Ignored::default();
    let (mut first_ns, mut frames, mut roce) = (None, 0u64, 0u64);
    let damage = loop {
        let frame = match reader.read() {
            Ok(Some(frame)) => frame,
            Ok(None) => break None,
            Err(damage) => break Some(damage),
        };
        frames = frame.index;
        let Ok(dissected) = dissect(frame.bytes, frame.wire_len) else {
            ignored.not_roce += 1;
            continue;
        };
        let Body::Roce(packet) = &dissected.body else {
            ignored.not_roce += 1;
            continue;
        };
        roce += 1;
        if packet.icrc_ok == Some(false) {
            ignored.bad_icrc += 1;
            continue;
        }
        let Some(opcode) = packet.opcode() else {
            ignored.unknown_opcode += 1;
            continue;
        };
        let since = frame.ts_ns.saturating_sub(*first_ns.get_or_insert(frame.ts_ns));
        reassembly.on_packet(&seen(packet, opcode, Time::ZERO + Span::from_ns(since)));
        if reassembly.len() > MESSAGES_MAX || reassembly.ranks() > RANKS_MAX {
            return Err(error(format!(
                "frame {frames}: more than {MESSAGES_MAX} messages and flows or {RANKS_MAX} addresses: \
                 cut the capture (editcap -r)"
            )));
        }
    };
    if let (Some(damage), 0) = (&damage, frames) {
        return Err(error(format!("nothing can be read: {damage}")));
    }
    if roce == 0 {
        return Err(error(format!(
            "no RoCEv2 among its {frames} frames (UDP port 4791): capture the port that carries RDMA, \
             and not through a bypass that hides it from the host"
        )));
    }
    let mut messages = reassembly.finish();
    let own = messages.messages.len();
    messages.messages.retain(|m| m.from != m.to);
    let loopback = own - messages.messages.len();
    if messages.messages.is_empty() {
        return Err(error(format!(
            "no complete message among its {roce} RoCEv2 frames: capture from before the first packet of a \
             message to its last"
        )));
    }
    let mut warnings = warnings(&messages, &ignored, loopback);
    if let Some(damage) = damage {
        warnings.push(format!("only the frames before the damage were used: {damage}"));
    }
    Ok(Schedule { ranks: captured::lower(&messages, replay), origin: file, warnings })
}

fn seen(packet: &Roce<'_>, opcode: Opcode, at: Time) -> Packet {
    let positive = |syndrome: u8| syndrome >> 5 == 0;
    Packet {
        at,
        src: packet.net.src(),
        dst: packet.net.dst(),
        sport: packet.udp.source_port,
        opcode,
        dest_qp: packet.bth.dest_qp,
        psn: packet.bth.psn,
        payload: packet.payload_len,
        announced: match packet.ext {
            Ext::Reth(reth) | Ext::RethImm(reth, _) => Some(reth.dma_len),
            _ => None,
        },
        acknowledges: match packet.ext {
            Ext::Aeth(aeth) | Ext::AethAtomicAck(aeth, _) => positive(aeth.syndrome),
            _ => false,
        },
    }
}

fn warnings(m: &Messages, ignored: &Ignored, loopback: usize) -> Vec<String> {
    let counted = [
        (m.retransmitted, "retransmitted or duplicate packets were left out"),
        (m.naks, "NAKs were seen: what they repaired is left out, the replay starts from an intact network"),
        (m.atomics, "atomic operations carry no message and were left out"),
        (m.datagrams, "UD datagrams became messages of a reliable connection"),
        (m.cnps, "CNPs were seen: the sources were being slowed down while this was captured"),
        (ignored.bad_icrc, "frames with a wrong ICRC were left out, as a receiver would"),
        (ignored.unknown_opcode, "RoCEv2 frames with an opcode this tool does not know were left out"),
        (ignored.not_roce, "frames are not RoCEv2 and were left out"),
        (loopback as u64, "messages of an address to itself were left out"),
    ];
    let mut out: Vec<String> = counted
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if m.incomplete > 0 || m.incomplete_bytes > 0 {
        out.push(format!(
            "{} messages without their beginning or end in the capture were left out ({} bytes of them seen)",
            m.incomplete, m.incomplete_bytes
        ));
    }
    out
}
