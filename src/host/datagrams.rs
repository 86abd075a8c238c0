//! Unreliable datagrams: UD SEND with immediate, one packet per message, no acknowledgement.
//!
//! A message is done for its sender when its frame starts. The receiver tells from PSNs what is missing. Source: IBTA
//! volume 1, 9.8.3.

use super::Host;
use crate::frame::{FrameMeta, HEAD_MAX};
use crate::measure::record::Record;
use crate::units::{ClassIx, Time};
use crate::wire::fast::Fast;
use crate::wire::headers::{Deth, Ext, ImmDt};
use crate::wire::psn;

/// Q_Key of every datagram; one with another is dropped.
pub const QKEY: u32 = 0x1111_1111;

/// Headers of a datagram from `src_qp` with this tag.
pub(super) fn headers(src_qp: u32, tag: u32) -> Ext {
    Ext::DethImm(Deth { qkey: QKEY, resv8: 0, src_qp }, ImmDt(tag))
}

/// Headers of a datagram of a stream.
pub(super) fn stream_headers(src_qp: u32) -> Ext {
    Ext::Deth(Deth { qkey: QKEY, resv8: 0, src_qp })
}

impl Host {
    /// The datagram with this PSN is on the wire, which is all its sender ever learns.
    pub(super) fn datagram_sent(&mut self, now: Time, qp: u32, at: u32, rec: &mut impl Record) {
        let req = &mut self.qps[qp as usize].req;
        self.stats.datagram_tx += 1;
        if req.acknowledge(now, psn::add(at, 1), &self.shared[usize::from(req.profile)]) {
            self.complete(now, qp, rec);
        }
    }

    /// A datagram arrived.
    #[cold]
    pub(super) fn on_datagram(
        &mut self,
        now: Time,
        qp: u32,
        f: &Fast,
        head: &[u8; HEAD_MAX],
        meta: &FrameMeta,
        rec: &mut impl Record,
    ) {
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        // As with SEND the tag is the immediate, and 0 without one.
        let (deth, tag) = match f.ext(head) {
            Some(Ext::DethImm(deth, imm)) => (deth, imm.0),
            Some(Ext::Deth(deth)) => (deth, 0),
            _ => return,
        };
        if deth.qkey != QKEY || deth.src_qp != q.peer_qpn() {
            self.stats.rx_unknown += 1;
            return;
        }
        if f.payload_len > shared.mtu {
            self.stats.rx_malformed += 1;
            return;
        }
        let class_ix = shared.class;
        rec.arrival(now, meta, ClassIx(class_ix));
        match q.resp.rx.datagram(f.psn) {
            ahead @ 0.. => self.stats.datagram_lost += ahead as u64,
            _ => self.stats.datagram_lost = self.stats.datagram_lost.saturating_sub(1), // late, not lost
        }
        self.stats.datagram_rx += 1;
        self.stats.payload_bytes += u64::from(f.payload_len);
        let class = &mut self.stats.classes[usize::from(class_ix)];
        class.arrivals += 1;
        if f.ecn == 3 {
            class.ce += 1;
            self.stats.ce_rx += 1;
            self.notify(now, qp);
            self.speak(qp);
        }
        self.deliver(now, qp, tag, u32::from(f.payload_len));
    }
}
