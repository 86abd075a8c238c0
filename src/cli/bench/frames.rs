//! What one frame costs in `wire` and `measure`: its ICRC, its head, its place in the histograms.

use std::hint::black_box;

use anyhow::{anyhow, bail};
use etherparse::{PacketBuilder, SlicedPacket};

use super::{Figure, Peer, Rounds, Unit, per_call};
use crate::frame::{FrameMeta, flags};
use crate::measure::record::Record;
use crate::measure::recorder::{Recorder, RecorderConfig, SwitchShape};
use crate::units::{ClassIx, FrameLen, Time};
use crate::wire::fast::{self, Fast};
use crate::wire::headers::{Ext, Opcode};
use crate::wire::icrc::{self, ConstPayload};
use crate::wire::template::{BthFields, FrameSpec, Template, WireLen};
use crate::wire::{HEAD_MAX, PAYLOAD_BYTE};

const CALLS: u64 = 1_000_000;
/// Bytes in front of the BTH of an untagged IPv4 frame.
const UDP_END: usize = 14 + 20 + 8;

fn line(name: impl Into<String>, ours: Rounds, peer: Peer) -> Figure {
    Figure::new(name, Unit::Nanoseconds, ours, peer)
}

fn template_v4() -> anyhow::Result<Template> {
    let spec = FrameSpec { dscp: 26, ecn_bits: 2, ..FrameSpec::default() };
    Template::new(&spec).map_err(|e| anyhow!("{e}"))
}

fn write(t: &Template, head: &mut [u8; HEAD_MAX], psn: u32, payload_len: u16) -> WireLen {
    let opcode = Opcode::RcWriteMiddle as u8;
    let bth = BthFields { opcode, dest_qp: 0x11, psn, ack_req: false, pad: 0, becn: false };
    t.write(head, &bth, &Ext::None, payload_len)
}

/// `icrc`: the constant-payload way, fed with a head that changes from frame to frame, against crc32fast over the whole
/// frame. Both are checked to agree before they are timed.
pub(super) fn icrc() -> anyhow::Result<Vec<Figure>> {
    let template = template_v4()?;
    let mut figures = Vec::new();
    for payload in [64u16, 1_024, 4_096] {
        let mut head = [0; HEAD_MAX];
        let len = write(&template, &mut head, 1, payload);
        let f: Fast = fast::parse(&head, len.len).map_err(|e| anyhow!("{e}"))?;
        let mut whole = head[..usize::from(len.head_len)].to_vec();
        whole.resize(usize::from(len.len.0) - 4, PAYLOAD_BYTE);
        whole.extend([0; 4]);
        let ours = ConstPayload::new(payload, PAYLOAD_BYTE, 0);
        let theirs = icrc::of_frame(&whole).map_err(|e| anyhow!("{e}"))?.expected;
        if ours.icrc(&head, &f) != theirs {
            bail!("the two ways to the ICRC of {payload} bytes disagree; nothing to time");
        }
        // The PSN lies in the last three bytes of the BTH.
        let psn_at = UDP_END + 9;
        let constant = per_call(CALLS, |i| {
            head[psn_at + 2] = i as u8;
            black_box(ours.icrc(black_box(&head), &f));
        });
        let naive = per_call(CALLS / 4, |i| {
            whole[psn_at + 2] = i as u8;
            black_box(icrc::of_frame(black_box(&whole)).is_ok());
        });
        let peer = Peer::measured("crc32fast over the whole frame", &naive);
        figures.push(line(format!("icrc/{payload}"), constant, peer));
    }
    Ok(figures)
}

/// `wire-template`: writing and reading the head of a WRITE MIDDLE, against etherparse, which leaves the BTH to its user.
pub(super) fn template() -> anyhow::Result<Vec<Figure>> {
    let t = template_v4()?;
    let mut head = [0; HEAD_MAX];
    let written = per_call(CALLS, |i| {
        black_box(write(&t, &mut head, i as u32, black_box(1_024)));
        black_box(&mut head);
    });
    let len = write(&t, &mut head, 1, 1_024);
    let read = per_call(CALLS, |_| {
        black_box(fast::parse(black_box(&head), black_box(len.len)).is_ok());
    });

    let bth = head[UDP_END..UDP_END + 12].to_vec();
    let mut packet = Vec::with_capacity(256);
    let built = per_call(CALLS / 8, |_| {
        packet.clear();
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([198, 18, 0, 1], [198, 18, 0, 2], 64)
            .udp(0xc000, 4_791);
        black_box(builder.write(&mut packet, black_box(&bth)).is_ok());
    });
    let sliced = per_call(CALLS / 8, |_| {
        black_box(SlicedPacket::from_ethernet(black_box(&packet)).is_ok());
    });
    Ok(vec![
        line("wire-template/write", written, Peer::measured("etherparse, without BTH", &built)),
        line("wire-template/read", read, Peer::measured("etherparse, without BTH", &sliced)),
    ])
}

/// `record`: one data frame into the latency histograms, and one departure into that of its queue.
pub(super) fn record() -> anyhow::Result<Vec<Figure>> {
    let mut r = Recorder::new(&RecorderConfig {
        ports: 33,
        classes: 1,
        switches: vec![SwitchShape { ports: 33, queues: 8, buffer_bytes: 32 << 20 }],
        ..RecorderConfig::default()
    });
    let meta = FrameMeta { len: FrameLen(4_154), flags: flags::DATA, ..FrameMeta::default() };
    let arrival = per_call(CALLS / 4, |i| r.arrival(Time(black_box(i * 334_240)), &meta, ClassIx(0)));
    let depth = per_call(CALLS / 4, |i| r.queue_depth(Time(i), 0, 32, 3, black_box(i * 4_158 % (24 << 20))));
    black_box(r.queues().len());
    let none = || Peer::Missing("no peer".into());
    Ok(vec![line("record/arrival", arrival, none()), line("record/queue-depth", depth, none())])
}
