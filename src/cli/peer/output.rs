//! What a peer prints: a line per message, then the totals.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::args::{OpArg, PeerArgs};
use super::build;
use crate::frame::FrameMeta;
use crate::host::memory::{Received, RegionConfig, pattern};
use crate::host::{Failure, Host};
use crate::measure::record::{DropReason, MessageRecord, Outcome, RankIteration, Record};
use crate::run::realtime::RealtimeStats;
use crate::sys::socket_port::SocketStats;
use crate::transport::config::QPN_FIRST;
use crate::units::{ClassIx, RankId, Time};

/// Collects what hosts report and writes it as it comes.
pub struct Printer<'a> {
    args: &'a PeerArgs,
    out: &'a mut dyn Write,
    /// Lines not yet written.
    text: String,
    /// Per queue pair: messages completed, and whether it failed.
    completed: Vec<u32>,
    failed: Vec<Option<Failure>>,
    received: u64,
    received_bytes: u64,
    /// What the other ends' regions must hold, as far as messages are acknowledged.
    shadow: Vec<Vec<u8>>,
    source: Vec<u8>,
    regions: Vec<RegionConfig>,
    first: Time,
    last: Time,
}

impl<'a> Printer<'a> {
    pub fn new(args: &'a PeerArgs, out: &'a mut dyn Write) -> Printer<'a> {
        let queue_pairs = args.ends.peer_qpn.len();
        let (mut shadow, mut source) = (Vec::new(), Vec::new());
        if build::sends(args) {
            let bytes = args.work.peer_region.unwrap_or(args.memory.region);
            shadow = vec![vec![0; bytes as usize]; queue_pairs];
            source = pattern(args.memory.region as usize);
        }
        Printer {
            args,
            out,
            text: String::new(),
            completed: vec![0; queue_pairs],
            failed: vec![None; queue_pairs],
            received: 0,
            received_bytes: 0,
            shadow,
            source,
            regions: (0..queue_pairs).filter_map(|qp| build::region(args, qp).ok()).collect(),
            first: Time::NEVER,
            last: Time::ZERO,
        }
    }

    /// Tells that frames are answered from now on, and what the other end must be told.
    pub fn ready(&mut self) -> io::Result<()> {
        let (e, m) = (&self.args.ends, &self.args.memory);
        let n = e.peer_qpn.len() as u32;
        let last = if n > 1 { format!("..{:#x}", QPN_FIRST + n - 1) } else { String::new() };
        if self.args.run.json {
            let qpns: Vec<u32> = (0..n).map(|i| QPN_FIRST + i).collect();
            let line = json!({ "ready": true, "qpn": qpns, "rkey": m.rkey, "vaddr": m.vaddr, "psn": e.psn });
            writeln!(self.out, "{line}")?;
        } else {
            writeln!(
                self.out,
                "READY qpn={QPN_FIRST:#x}{last} rkey={:#010x} vaddr={:#x} region={} psn={:#x} mtu={}",
                m.rkey, m.vaddr, m.region, e.psn, e.mtu
            )?;
        }
        self.out.flush()
    }

    /// A message arrived.
    pub fn received(&mut self, r: &Received) {
        self.received += 1;
        self.received_bytes += u64::from(r.bytes);
        self.note(r.at, r.at);
        if self.args.run.quiet {
            return;
        }
        let qpn = QPN_FIRST + r.qp;
        if self.args.run.json {
            let line = json!({ "received": r.opcode.name(), "qpn": qpn, "offset": r.offset, "bytes": r.bytes,
                               "imm": r.imm, "at_us": us(r.at) });
            let _ = writeln!(self.text, "{line}");
        } else {
            let imm = r.imm.map_or(String::new(), |i| format!(" imm={i:#010x}"));
            let _ = writeln!(
                self.text,
                "RECEIVED qpn={qpn:#x} {} offset={} bytes={}{imm} at_us={:.1}",
                r.opcode.name(),
                r.offset,
                r.bytes,
                us(r.at)
            );
        }
    }

    /// A queue pair can do no more.
    pub fn failed(&mut self, from: RankId, to: RankId, cause: Failure) {
        if let Some(f) = self.failed.get_mut(build::qp_of(from, to)) {
            *f = Some(cause);
        }
    }

    /// Writes what is waiting.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.text.is_empty() {
            self.out.write_all(self.text.as_bytes())?;
            self.out.flush()?;
            self.text.clear();
        }
        Ok(())
    }

    /// Every queue pair has sent everything or failed.
    pub fn all_sent(&self) -> bool {
        self.completed.iter().zip(&self.failed).all(|(c, f)| *c == self.args.work.count || f.is_some())
    }

    /// Every message was acknowledged.
    pub fn all_completed(&self) -> bool {
        self.completed.iter().all(|c| *c == self.args.work.count)
    }

    /// Messages that arrived.
    pub fn messages_received(&self) -> u64 {
        self.received
    }

    fn note(&mut self, began: Time, ended: Time) {
        self.first = self.first.min(began);
        self.last = self.last.max(ended);
    }

    /// The totals.
    pub fn summary(
        &mut self,
        host: &Host,
        driver: &RealtimeStats,
        port: &SocketStats,
        now: Time,
        ended: &str,
        complete: bool,
    ) -> io::Result<()> {
        self.flush()?;
        let stats = host.stats();
        let completed: u64 = self.completed.iter().map(|c| u64::from(*c)).sum();
        let seconds = if self.first == Time::NEVER { 0.0 } else { self.last.since(self.first).as_s_f64() };
        let bytes = match self.args.work.op {
            OpArg::Serve => self.received_bytes,
            _ => completed * self.args.work.size,
        };
        let crcs = |regions: &mut dyn Iterator<Item = &[u8]>| -> Vec<String> {
            regions.map(|r| format!("{:#010x}", crc32fast::hash(r))).collect()
        };
        let regions = crcs(&mut (0..self.completed.len() as u32).filter_map(|qp| host.memory(qp)));
        let expect = crcs(&mut self.shadow.iter().map(Vec::as_slice));
        let psns: Vec<String> = (0..self.completed.len() as u32)
            .filter_map(|qp| host.psn_next(qp))
            .map(|psn| format!("{psn:#08x}"))
            .collect();
        let failures: Vec<String> = self.failed.iter().flatten().map(ToString::to_string).collect();
        let fields: Vec<(&str, Value)> = vec![
            ("complete", json!(complete)),
            ("ended", json!(ended)),
            ("messages_sent", json!(completed)),
            ("messages_received", json!(self.received)),
            ("messages_failed", json!(stats.messages_failed)),
            ("failure", json!(failures.join("; "))),
            ("bytes", json!(bytes)),
            ("seconds", json!(seconds)),
            ("mbit_s", json!(if seconds > 0.0 { bytes as f64 * 8e-6 / seconds } else { 0.0 })),
            ("run_seconds", json!(now.since(Time::ZERO).as_s_f64())),
            ("region_crc32", json!(regions.join(","))),
            ("expect_crc32", json!(expect.join(","))),
            ("next_psn", json!(psns.join(","))),
            ("tx_frames", json!(driver.tx_frames)),
            ("rx_frames", json!(driver.rx_frames)),
            ("retransmitted", json!(stats.retransmitted)),
            ("acks_received", json!(stats.ack_rx)),
            ("acks_sent", json!(stats.ack_tx)),
            ("naks_received", json!(stats.nak_rx)),
            ("naks_sent", json!(stats.nak_tx)),
            ("rnr_naks_received", json!(stats.rnr_nak_rx)),
            ("implied_naks", json!(stats.implied_nak)),
            ("reads_again", json!(stats.read_again)),
            ("timeouts", json!(stats.timeouts)),
            ("out_of_order", json!(stats.out_of_order)),
            ("duplicates", json!(stats.duplicates)),
            ("cnps_received", json!(stats.cnp_rx)),
            ("cnps_sent", json!(stats.cnp_tx)),
            ("icrc_errors", json!(driver.rx_icrc_errors)),
            ("rx_malformed", json!(stats.rx_malformed)),
            ("rx_unknown", json!(stats.rx_unknown)),
            ("neighbour_answers", json!(driver.neighbour_answers)),
            ("fault_drops", json!(driver.fault_drops)),
            ("tx_refused", json!(driver.tx_refused)),
            ("tx_unplugged", json!(port.tx_unplugged)),
            ("rx_missed", json!(port.rx_missed)),
            ("pool_empty", json!(stats.pool_empty)),
            ("late_max_us", json!(driver.late_max.as_ns_f64() / 1e3)),
        ];
        if self.args.run.json {
            let object: Map<String, Value> = fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
            writeln!(self.out, "{}", Value::Object(object))?;
        } else {
            for (key, value) in fields {
                let text = match &value {
                    Value::String(s) => s.clone(),
                    Value::Number(n) if n.is_f64() => format!("{:.6}", n.as_f64().unwrap_or(0.0)),
                    other => other.to_string(),
                };
                writeln!(self.out, "{}={text}", key.to_uppercase())?;
            }
        }
        self.out.flush()
    }
}

fn us(t: Time) -> f64 {
    t.as_ns_f64() / 1e3
}

impl Record for Printer<'_> {
    fn arrival(&mut self, _: Time, _: &FrameMeta, _: ClassIx) {}

    fn message(&mut self, m: &MessageRecord) {
        let qp = build::qp_of(m.from, m.to);
        self.note(m.intended, m.finished);
        if m.outcome == Outcome::Completed {
            if let Some(c) = self.completed.get_mut(qp) {
                *c += 1;
            }
            let place = self.regions.get(qp).and_then(|r| r.place(m.tag, m.bytes));
            if let (Some(place), Some(shadow)) = (place, self.shadow.get_mut(qp)) {
                let range = place..place + m.bytes as usize;
                if let (Some(to), Some(from)) = (shadow.get_mut(range.clone()), self.source.get(range)) {
                    to.copy_from_slice(from);
                }
            }
        }
        if self.args.run.quiet {
            return;
        }
        let qpn = QPN_FIRST + qp as u32;
        let outcome = match m.outcome {
            Outcome::Completed | Outcome::Local => "completed",
            Outcome::RetryExceeded => "retry-exceeded",
            Outcome::RemoteError => "remote-error",
        };
        let took = us(m.finished) - us(m.intended);
        if self.args.run.json {
            let line = json!({ "message": m.tag, "qpn": qpn, "outcome": outcome, "bytes": m.bytes, "took_us": took,
                               "retransmitted": m.retransmitted });
            let _ = writeln!(self.text, "{line}");
        } else {
            let _ = writeln!(
                self.text,
                "MESSAGE qpn={qpn:#x} n={} {outcome} bytes={} took_us={took:.1} retransmitted={}",
                m.tag, m.bytes, m.retransmitted
            );
        }
    }

    fn rank_iteration(&mut self, _: &RankIteration) {}
    fn port_pause(&mut self, _: Time, _: u32, _: u8, _: bool) {}
    fn queue_depth(&mut self, _: Time, _: u16, _: u16, _: u8, _: u64) {}
    fn drop(&mut self, _: Time, _: u16, _: u16, _: &FrameMeta, _: DropReason) {}
}
