//! READs of ours: requests out, responses in, what is missing asked for again.

use super::rx::addr_va;
use super::tx::{RKEY, Step, charge};
use super::{Failure, Host};
use crate::frame::{Fill, Frame, FrameMeta, FramePool, HEAD_MAX, TxBatch};
use crate::measure::record::Record;
use crate::transport::reads::Response;
use crate::transport::requester::flags as sender;
use crate::units::{ClassIx, FrameLen, Span, Time};
use crate::wire::fast::Fast;
use crate::wire::headers::{Ext, Reth};
use crate::wire::opcode::Opcode;
use crate::wire::psn;
use crate::wire::template::BthFields;

impl Host {
    /// Sends the request of the READ at the cursor of a queue pair, which stands first in `list`; or lets it wait when
    /// too many are out.
    #[cold]
    pub(super) fn send_read<P: FramePool>(
        &mut self,
        now: Time,
        list: u8,
        qp: u32,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
    ) -> Step {
        let reads_out = self.rare(qp).reads_out;
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let request =
            q.req.read_request(shared).filter(|r| r.again || reads_out < u32::from(shared.max_rd_atomic));
        let (Some(r), Some(flow)) = (request, self.flows[qp as usize].as_ref()) else {
            q.req.flags |= sender::STALLED;
            self.ready.leave(list);
            q.req.flags &= !sender::READY;
            self.wake(qp, now);
            return Step::Skipped;
        };
        let mut reth = Reth { va: addr_va(r.tag, r.offset), rkey: RKEY, dma_len: r.bytes };
        if shared.fill == Fill::Writable {
            reth = self.memories.read_reth(qp, &r);
        }
        let ext = Ext::Reth(reth);
        let len = FrameLen(shared.base_len + ext.len() as u16);
        let Some(mut frame) = pool.take(Fill::Control, len) else { return Step::PoolEmpty };
        let (_, counter_expired) = charge(&mut q.resp.pace, now, shared, len, 0);
        let bth = BthFields {
            opcode: Opcode::RcReadRequest as u8,
            dest_qp: q.peer_qpn(),
            psn: r.psn,
            ack_req: true,
            ..BthFields::default()
        };
        let wire = flow.data.write(frame.head_mut(), &bth, &ext, 0);
        let meta = frame.meta_mut();
        (meta.intended, meta.class) = (r.intended, shared.class);
        q.req.read_sent(now, &r, &self.messages, shared);
        if shared.ack_timeout != Span::ZERO && q.req.flags & sender::TIMER == 0 {
            q.req.flags |= sender::TIMER;
            self.wheel.set(self.timers.ack + qp, now + shared.ack_timeout);
        }
        self.ready.leave(list);
        q.req.flags &= !sender::READY;
        self.stats.read_tx += 1;
        if r.again {
            self.stats.read_again += 1;
            self.messages.get_mut(r.message).retransmitted += 1;
        } else {
            self.rare(qp).reads_out += 1;
            self.message_started(now, qp, r.message);
        }
        if counter_expired {
            self.advance_rate(now, qp, true);
        }
        self.wake(qp, now);
        self.seal(now, &mut frame, wire, qp, pool);
        out.data.push(frame);
        Step::Sent
    }

    /// A READ is complete.
    #[cold]
    pub(super) fn read_finished(&mut self, qp: u32) {
        let rare = self.rare(qp);
        rare.reads_out = rare.reads_out.saturating_sub(1);
        if rare.reads_out == 0 {
            self.qps[qp as usize].req.flags &= !sender::READS_OUT;
        }
    }

    /// An acknowledgement of every PSN before `upto` while READs are out.
    #[cold]
    pub(super) fn acknowledge_around_reads(&mut self, now: Time, qp: u32, upto: u32, rec: &mut impl Record) {
        let req = &mut self.qps[qp as usize].req;
        let shared = &self.shared[usize::from(req.profile)];
        if req.is_ahead(upto) {
            return;
        }
        let reach = req.reach(upto, &self.messages);
        if req.acknowledge(now, reach, shared) {
            self.complete(now, qp, rec);
        }
        if reach != upto {
            self.ask_again(now, qp, rec);
        }
        self.wake(qp, now);
    }

    /// Responses are missing, and everything before them is acknowledged: implied NAK, once per gap.
    fn ask_again(&mut self, now: Time, qp: u32, rec: &mut impl Record) {
        if std::mem::replace(&mut self.rare(qp).asked_again, true) {
            return;
        }
        let req = &mut self.qps[qp as usize].req;
        let retry = req.implied_nak(now, &self.shared[usize::from(req.profile)]);
        self.stats.implied_nak += 1;
        self.recover(now, qp, retry, rec);
    }

    /// A READ response: data for us.
    #[cold]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn on_read_response(
        &mut self,
        now: Time,
        qp: u32,
        opcode: Opcode,
        f: &Fast,
        head: &[u8; HEAD_MAX],
        meta: &FrameMeta,
        rec: &mut impl Record,
    ) {
        let req = &mut self.qps[qp as usize].req;
        let shared = &self.shared[usize::from(req.profile)];
        let class = &mut self.stats.classes[usize::from(shared.class)];
        class.arrivals += 1;
        rec.arrival(now, meta, ClassIx(shared.class));
        if f.ecn == 3 {
            class.ce += 1;
            self.stats.ce_rx += 1;
            self.notify(now, qp);
        }
        let req = &mut self.qps[qp as usize].req;
        let shared = &self.shared[usize::from(req.profile)];
        if req.failed() || f.aeth(head).is_some_and(|a| a.syndrome >> 5 != 0) {
            self.stats.rx_unknown += 1;
            return;
        }
        match req.response(f.psn, opcode, f.payload_len, &self.messages, shared) {
            Response::New => {
                self.stats.payload_bytes += u64::from(f.payload_len);
                req.acknowledge(now, psn::add(f.psn, 1), shared);
                self.rare(qp).asked_again = false;
                self.complete(now, qp, rec);
                self.wake(qp, now);
            }
            Response::Duplicate => self.stats.duplicates += 1,
            Response::Gap(expected) => {
                self.stats.out_of_order += 1;
                if req.acknowledge(now, expected, shared) {
                    self.complete(now, qp, rec);
                }
                self.ask_again(now, qp, rec);
            }
            Response::Stray => self.stats.rx_unknown += 1,
            Response::Malformed => self.fail(now, qp, Failure::BadResponse, rec),
        }
    }
}
