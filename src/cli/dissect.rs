//! `rankstorm dissect`: every frame of a capture decoded and its ICRC checked, as a table or as JSON lines.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;

use etherparse::SingleVlanHeader;
use serde::Serialize;
use serde_json::{Value, json};

use crate::wire::aeth::{Syndrome, credits, rnr_timer};
use crate::wire::capture::{CaptureReader, Captured};
use crate::wire::dissect::{Body, Dissected, Roce, dissect as take_apart};
use crate::wire::fast::{IpKey, Malformed};
use crate::wire::headers::{Aeth, Ext};
use crate::wire::messages::MessageCounter;
use crate::wire::pfc::PfcFrame;

/// Decodes the capture at `path` to `out`: one JSON object per frame and a last line of totals with `json`,
/// or else a table. Frames before a damaged one are printed before the error is returned.
///
/// # Errors
/// A capture that cannot be read ([`crate::wire::capture::CaptureError`]), or `out` that cannot be written.
pub fn dissect(path: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut reader = CaptureReader::open(path)?;
    let mut totals = Totals::default();
    let mut counter = MessageCounter::new();
    let mut first_ns = None;
    if !json {
        writeln!(out, "{}", table_head())?;
    }
    while let Some(frame) = reader.read()? {
        let taken = take_apart(frame.bytes, frame.wire_len);
        totals.frames += 1;
        if let Ok(Dissected { body: Body::Roce(r), .. }) = &taken {
            totals.rocev2 += 1;
            if r.icrc_ok == Some(false) {
                totals.icrc_bad += 1;
            } else {
                let (src, dst) = (IpKey::from(r.net.src()), IpKey::from(r.net.dst()));
                counter.on_packet(src, dst, &r.bth, &r.ext, r.payload_len);
            }
        }
        if json {
            serde_json::to_writer(&mut *out, &line(&frame, &taken))?;
            writeln!(out)?;
        } else {
            let since = frame.ts_ns.saturating_sub(*first_ns.get_or_insert(frame.ts_ns));
            writeln!(out, "{}", row(&frame, since, &taken))?;
        }
    }
    let messages = counter.finish();
    totals.messages = messages.messages;
    totals.message_bytes = messages.message_bytes;
    totals.retransmitted = messages.retransmitted;
    if json {
        serde_json::to_writer(&mut *out, &totals)?;
        writeln!(out)?;
    } else {
        let Totals { frames, rocev2, icrc_bad, messages, message_bytes, retransmitted } = totals;
        writeln!(
            out,
            "{frames} frames, {rocev2} RoCEv2, {icrc_bad} with a wrong ICRC, {retransmitted} seen again"
        )?;
        writeln!(out, "{messages} messages, {message_bytes} bytes")?;
    }
    Ok(())
}

/// The last JSON line.
#[derive(Debug, Default, Serialize)]
struct Totals {
    frames: u64,
    rocev2: u64,
    icrc_bad: u64,
    messages: u64,
    message_bytes: u64,
    retransmitted: u64,
}

/// One JSON line. What a frame does not have is null; what only some frames have is left out of the others.
#[derive(Debug, Default, Serialize)]
struct Line {
    index: u64,
    ts_ns: u64,
    opcode: Option<u8>,
    opcode_name: Option<&'static str>,
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    udp_sport: Option<u16>,
    dest_qp: Option<u32>,
    psn: Option<u32>,
    ack_req: Option<bool>,
    pad: Option<u8>,
    payload_bytes: Option<u16>,
    dscp: Option<u8>,
    ecn: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vlan: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reth: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aeth: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    imm: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ieth: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deth: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    atomic: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pfc: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    becn: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    malformed: Option<String>,
    icrc: Option<String>,
    icrc_ok: Option<bool>,
}

fn line(frame: &Captured<'_>, taken: &Result<Dissected<'_>, Malformed>) -> Line {
    let mut l = Line { index: frame.index, ts_ns: frame.ts_ns, ..Line::default() };
    let d = match taken {
        Ok(d) => d,
        Err(why) => return Line { malformed: Some(why.to_string()), ..l },
    };
    l.vlan = d.tags.last().map(vlan_json);
    match &d.body {
        Body::Roce(r) => roce_line(&mut l, r),
        Body::Pfc(p, _) => l.pfc = Some(json!({ "enable": p.enable, "quanta": p.quanta })),
        Body::Other { addresses, why, .. } => {
            (l.src, l.dst) = addresses.unzip();
            l.malformed = why.map(|w| w.to_string());
        }
    }
    l
}

fn vlan_json(tag: &SingleVlanHeader) -> Value {
    json!({ "pcp": tag.pcp.value(), "dei": tag.drop_eligible_indicator, "vid": tag.vlan_id.value() })
}

fn roce_line(l: &mut Line, r: &Roce<'_>) {
    l.opcode = Some(r.bth.opcode);
    l.opcode_name = r.opcode().map(|o| o.name());
    (l.src, l.dst) = (Some(r.net.src()), Some(r.net.dst()));
    l.udp_sport = Some(r.udp.source_port);
    l.dest_qp = Some(r.bth.dest_qp);
    l.psn = Some(r.bth.psn);
    l.ack_req = Some(r.bth.ack_req);
    l.pad = Some(r.bth.pad);
    l.payload_bytes = Some(r.payload_len);
    (l.dscp, l.ecn) = (Some(r.net.dscp()), Some(r.net.ecn()));
    l.becn = r.bth.becn.then_some(true);
    // As on the wire, first byte first.
    l.icrc = r.icrc.map(|i| format!("{:08x}", i.swap_bytes()));
    l.icrc_ok = r.icrc_ok;
    match r.ext {
        Ext::None | Ext::Cnp(_) => {}
        Ext::Reth(h) | Ext::RethImm(h, _) => {
            l.reth = Some(json!({ "va": h.va, "rkey": h.rkey, "dma_len": h.dma_len }));
        }
        Ext::Aeth(h) => l.aeth = Some(aeth_json(&h)),
        Ext::AethAtomicAck(h, a) => {
            l.aeth = Some(aeth_json(&h));
            l.atomic = Some(json!({ "original": a.original }));
        }
        Ext::Atomic(a) => {
            l.atomic =
                Some(json!({ "va": a.va, "rkey": a.rkey, "swap_add": a.swap_add, "compare": a.compare }));
        }
        Ext::Deth(h) | Ext::DethImm(h, _) => l.deth = Some(json!({ "qkey": h.qkey, "src_qp": h.src_qp })),
        Ext::Ieth(h) => l.ieth = Some(h.0),
        Ext::Imm(_) => {}
    }
    if let Ext::Imm(i) | Ext::RethImm(_, i) | Ext::DethImm(_, i) = r.ext {
        l.imm = Some(i.0);
    }
}

fn aeth_json(a: &Aeth) -> Value {
    let mut v = json!({ "syndrome": a.syndrome, "msn": a.msn });
    let (kind, key, detail) = match a.meaning() {
        Syndrome::Ack { credit } => ("ack", "credits", json!(credits(credit))),
        Syndrome::RnrNak { timer } => ("rnr_nak", "timer_ns", json!(rnr_timer(timer).0 / 1_000)),
        Syndrome::Nak(code) => ("nak", "nak", json!(code.name())),
        Syndrome::Reserved(_) => ("reserved", "nak", Value::Null),
    };
    v["kind"] = json!(kind);
    v[key] = detail;
    v
}

fn table_head() -> String {
    format!(
        "{:>5} {:>11}  {:<39}  {:<28} {:>5} {:>8}  {:>5}  {:<4} icrc",
        "frame", "time us", "source > destination", "opcode", "qp", "psn", "bytes", "ecn"
    )
}

fn row(frame: &Captured<'_>, since_ns: u64, taken: &Result<Dissected<'_>, Malformed>) -> String {
    let start = format!("{:>5} {:>11.3}", frame.index, since_ns as f64 / 1e3);
    let d = match taken {
        Ok(d) => d,
        Err(why) => return format!("{start}  malformed: {why}"),
    };
    let tags: String =
        d.tags.iter().map(|t| format!(" vlan {}.{}", t.vlan_id.value(), t.pcp.value())).collect();
    match &d.body {
        Body::Roce(r) => format!("{start}  {}{tags}", roce_row(r)),
        Body::Pfc(p, _) => format!("{start}  {:<39}  PFC {}", mac(&d.ethernet.source), pfc_text(p)),
        Body::Other { addresses, why, .. } => {
            let who = addresses.map_or_else(
                || format!("{} > {}", mac(&d.ethernet.source), mac(&d.ethernet.destination)),
                |(src, dst)| format!("{src} > {dst}"),
            );
            let what = why.map_or_else(
                || format!("not RoCEv2, {} bytes", frame.wire_len),
                |w| format!("malformed: {w}"),
            );
            format!("{start}  {who:<39}  {what}{tags}")
        }
    }
}

fn roce_row(r: &Roce<'_>) -> String {
    let who = format!("{} > {}", r.net.src(), r.net.dst());
    let name = r.opcode().map_or_else(|| format!("opcode {:#04x}", r.bth.opcode), |o| o.name().to_owned());
    let ecn = ["-", "ect1", "ect0", "CE"][usize::from(r.net.ecn() & 3)];
    let icrc = match r.icrc_ok {
        Some(true) => "ok",
        Some(false) => "BAD",
        None => "cut",
    };
    let mut more = String::new();
    if r.bth.ack_req {
        more += " AckReq";
    }
    if r.bth.becn {
        more += " BECN";
    }
    if r.bth.pad != 0 {
        more += &format!(" pad {}", r.bth.pad);
    }
    more += &ext_text(&r.ext);
    let row = format!(
        "{who:<39}  {name:<28} {:>5} {:>#8x}  {:>5}  {ecn:<4} {icrc:<4} {more}",
        r.bth.dest_qp, r.bth.psn, r.payload_len
    );
    row.trim_end().to_owned()
}

fn ext_text(ext: &Ext) -> String {
    let imm = |i: u32| format!(" imm {i:#x}");
    let reth = |va: u64, len: u32| format!(" va {va:#x} message {len} B");
    match ext {
        Ext::None | Ext::Cnp(_) => String::new(),
        Ext::Reth(h) => reth(h.va, h.dma_len),
        Ext::RethImm(h, i) => reth(h.va, h.dma_len) + &imm(i.0),
        Ext::Imm(i) => imm(i.0),
        Ext::Ieth(k) => format!(" invalidate {:#x}", k.0),
        Ext::Aeth(a) => aeth_text(a),
        Ext::AethAtomicAck(a, v) => format!("{} original {:#x}", aeth_text(a), v.original),
        Ext::Atomic(a) => format!(" va {:#x} swap/add {:#x} compare {:#x}", a.va, a.swap_add, a.compare),
        Ext::Deth(d) => format!(" from qp {} qkey {:#x}", d.src_qp, d.qkey),
        Ext::DethImm(d, i) => format!(" from qp {} qkey {:#x}", d.src_qp, d.qkey) + &imm(i.0),
    }
}

fn aeth_text(a: &Aeth) -> String {
    let what = match a.meaning() {
        Syndrome::Ack { credit } => match credits(credit) {
            Some(n) => format!("ACK credits {n}"),
            None => "ACK".to_owned(),
        },
        Syndrome::RnrNak { timer } => format!("RNR NAK, retry after {}", rnr_timer(timer)),
        Syndrome::Nak(code) => format!("NAK {}", code.name()),
        Syndrome::Reserved(raw) => format!("reserved syndrome {raw:#04x}"),
    };
    format!(" {what}, msn {}", a.msn)
}

fn pfc_text(p: &PfcFrame) -> String {
    let one = |i: u8| {
        p.quanta_of(i).map(|q| match q {
            0 => format!("priority {i} XON"),
            q => format!("priority {i} XOFF {q} quanta"),
        })
    };
    (0..8).filter_map(one).collect::<Vec<_>>().join(", ")
}

fn mac(m: &[u8; 6]) -> String {
    m.map(|b| format!("{b:02x}")).join(":")
}
