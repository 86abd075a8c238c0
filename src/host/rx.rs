//! Frames in: data to responders, answers to requesters, pauses to the port.

use super::pfc::{AtWire, Held};
use super::{Failure, Host};
use crate::frame::{Frame, FrameMeta, HEAD_MAX, flags as flags_of};
use crate::host::config::STREAM_QPN_FIRST;
use crate::measure::record::Record;
use crate::transport::config::{QPN_FIRST, Verb};
use crate::transport::qp::Shared;
use crate::transport::requester::flags as sender;
use crate::transport::responder::{Data, Verdict, flags};
use crate::units::{ClassIx, FrameLen, Span, Time};
use crate::wire::aeth::{NakCode, Syndrome, rnr_timer};
use crate::wire::fast::{self, Fast, IpKey, Kind};
use crate::wire::headers::{Aeth, Reth};
use crate::wire::icrc;
use crate::wire::opcode::Opcode;
use crate::wire::pfc::{PfcFrame, global_pause};
use crate::wire::psn;
use crate::wire::template::TTL_DEFAULT;

/// Opcodes of packets in the middle of messages.
pub(super) const MIDDLE_SEND: u8 = Opcode::RcSendMiddle as u8;
pub(super) const MIDDLE_WRITE: u8 = Opcode::RcWriteMiddle as u8;

/// Source and destination address folded to 32 bits: a frame that does not match strayed here.
#[inline]
pub(super) fn addr_of(src: IpKey, dst: IpKey) -> u32 {
    let x = src.0 ^ dst.0.rotate_left(21);
    let x = (x >> 64) as u64 ^ x as u64;
    (x >> 32) as u32 ^ x as u32
}

/// Address of byte `offset` of the message with this tag.
#[inline]
pub(super) fn addr_va(tag: u32, offset: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(offset)
}

/// Switches that a frame of another host of ours has crossed: what its time to live has lost.
#[inline]
fn hops(meta: &FrameMeta) -> u8 {
    match meta.flags & flags_of::PARSED {
        0 => 0,
        _ => TTL_DEFAULT.saturating_sub(meta.ttl),
    }
}

impl Host {
    /// Takes a frame that arrived at `now`: data, ACK, NAK, CNP and PFC (which calls [`Host::on_pause`]
    /// itself). Frames for nobody here are counted as unknown, contradictory ones as malformed.
    pub fn on_frame<F: Frame>(&mut self, now: Time, frame: &F, rec: &mut impl Record) {
        self.stats.rx_frames += 1;
        self.stats.rx_bytes += frame.len().counted();
        if frame.meta().flags & flags_of::CORRUPT != 0 && !intact(frame) {
            self.stats.rx_malformed += 1;
            return;
        }
        if self.direct {
            self.accept_at_once(now, frame.head(), frame.meta(), rec);
        } else if self.memories.any() {
            self.accept_with_memory(now, frame, rec);
        } else {
            self.buffer(now, frame, rec);
        }
    }

    /// As [`Host::on_frame`] for a whole RoCEv2 frame that was parsed already.
    #[inline]
    pub fn on_parsed<F: Frame>(&mut self, now: Time, f: &Fast, frame: &F, rec: &mut impl Record) {
        if !self.direct {
            return self.on_frame(now, frame, rec);
        }
        self.stats.rx_frames += 1;
        self.stats.rx_bytes += frame.len().counted();
        self.on_roce(now, f, frame.head(), frame.meta(), rec);
        if self.programs.any_dirty() {
            self.run_programs(now, rec);
        }
    }

    /// The queue pair that a frame is for when it is a packet in the middle of a message, the next one and as it should be,
    /// and nothing else may act.
    #[inline(always)]
    pub(super) fn next_middle(&self, f: &Fast) -> Option<u32> {
        if !matches!(f.opcode, MIDDLE_SEND | MIDDLE_WRITE) || !self.direct {
            return None;
        }
        let qp = f.dest_qp.wrapping_sub(QPN_FIRST);
        let q = self.qps.get(qp as usize).filter(|q| q.req.addr == addr_of(f.src, f.dst))?;
        let shared = self.shared.get(usize::from(q.req.profile))?;
        let is_send = f.opcode == MIDDLE_SEND;
        (shared.plain_rx && q.resp.rx.expects_middle(is_send, f.psn, f.payload_len, shared)).then_some(qp)
    }

    /// Takes a frame out of the port's hands, where that is rare.
    #[inline(never)]
    pub(super) fn accept(
        &mut self,
        now: Time,
        head: &[u8; HEAD_MAX],
        meta: &FrameMeta,
        rec: &mut impl Record,
    ) {
        self.accept_at_once(now, head, meta, rec);
    }

    #[inline(always)]
    fn accept_at_once(&mut self, now: Time, head: &[u8; HEAD_MAX], meta: &FrameMeta, rec: &mut impl Record) {
        match fast::parse_usual(head, meta.len) {
            Some(f) => self.on_roce(now, &f, head, meta, rec),
            None => self.accept_other(now, head, meta, rec),
        }
        if self.programs.any_dirty() {
            self.run_programs(now, rec);
        }
    }

    /// Whatever is not a RoCEv2 frame over untagged IPv4.
    #[inline(never)]
    fn accept_other(&mut self, now: Time, head: &[u8; HEAD_MAX], meta: &FrameMeta, rec: &mut impl Record) {
        match fast::parse(head, meta.len) {
            Ok(f) if f.kind == Kind::Roce => self.on_roce_apart(now, &f, head, meta, rec),
            Ok(f) if f.kind == Kind::Pfc => self.on_pfc(now, head, meta.len, rec),
            Ok(_) => self.stats.rx_unknown += 1,
            Err(_) => self.stats.rx_malformed += 1,
        }
    }

    /// Puts a frame into the receive buffer. What ends at the port (PFC, broken headers) does not wait there.
    #[cold]
    fn buffer<F: Frame>(&mut self, now: Time, frame: &F, rec: &mut impl Record) {
        self.drain(now, rec);
        let waits = fast::parse(frame.head(), frame.len()).is_ok_and(|f| f.kind != Kind::Pfc);
        let Some(r) = self.receive.as_mut().filter(|_| waits) else {
            return self.accept(now, frame.head(), frame.meta(), rec);
        };
        if !r.put(now, frame.head(), frame.meta(), frame.len().counted()) {
            self.stats.rx_overflow += 1;
            return;
        }
        self.stats.rx_buffer_bytes_max = self.stats.rx_buffer_bytes_max.max(r.occupied());
        self.turn(now);
    }

    /// Takes over what the receive buffer has drained by `now`, each frame at its own time.
    pub(super) fn drain(&mut self, now: Time, rec: &mut impl Record) {
        while let Some(Held { head, meta, arrived, done, .. }) =
            self.receive.as_mut().and_then(|r| r.take(now))
        {
            self.turn(done);
            self.accept(done, &head, &meta, &mut AtWire { rec, arrived });
        }
    }

    fn turn(&mut self, now: Time) {
        if let (Some(r), Some(pauses)) = (&mut self.receive, &mut self.pfc_tx)
            && let Some(on) = r.turn()
        {
            pauses.hold(now, r.priorities(), on);
        }
    }

    /// A pause (or with 0 quanta a resume) for one priority, obeyed after the port's response time.
    pub fn on_pause(&mut self, now: Time, priority: u8, quanta: u16, rec: &mut impl Record) {
        self.pfc_rx.on_pause(now, priority, quanta, &mut self.stats, self.port, rec);
    }

    fn on_pfc(&mut self, now: Time, head: &[u8; HEAD_MAX], len: FrameLen, rec: &mut impl Record) {
        // A pause of the whole link is one of every priority.
        let link = global_pause(head, len);
        let Some(pfc) = PfcFrame::parse(head, len).or(link.map(|_| PfcFrame::default())) else { return };
        for priority in 0..8 {
            if let Some(quanta) = link.or_else(|| pfc.quanta_of(priority)) {
                self.on_pause(now, priority, quanta, rec);
            }
        }
    }

    /// As [`Host::on_roce`], where that is rare.
    #[inline(never)]
    pub(super) fn on_roce_apart(
        &mut self,
        now: Time,
        f: &Fast,
        head: &[u8; HEAD_MAX],
        meta: &FrameMeta,
        rec: &mut impl Record,
    ) {
        self.on_roce(now, f, head, meta, rec);
    }

    /// Takes a RoCEv2 frame. Inlined, so that of what was parsed nothing goes to memory that is not asked for.
    #[inline(always)]
    pub(super) fn on_roce(
        &mut self,
        now: Time,
        f: &Fast,
        head: &[u8; HEAD_MAX],
        meta: &FrameMeta,
        rec: &mut impl Record,
    ) {
        use Opcode::*;
        // Rare calls take copies, so that what the usual ones read of it never goes to memory.
        if f.dest_qp >= STREAM_QPN_FIRST {
            return self.on_stream(now, &{ *f }, meta, rec);
        }
        let qp = f.dest_qp.wrapping_sub(QPN_FIRST);
        let addr = addr_of(f.src, f.dst);
        if self.qps.get(qp as usize).is_none_or(|q| q.req.addr != addr) {
            self.stats.rx_unknown += 1;
            return;
        }
        if let Some(qp) = self.next_middle(f) {
            return self.take_middle(now, qp, (f.ack_req, f.ecn), meta, rec);
        }
        if f.opcode == RcAck as u8 {
            let Some(aeth) = f.aeth(head) else { return };
            return self.on_acknowledge(now, qp, (f.psn, f.becn), aeth, meta, rec);
        }
        match f.op() {
            Some(
                op @ (RcSendFirst | RcSendMiddle | RcSendLast | RcSendLastImm | RcSendOnly | RcSendOnlyImm
                | RcWriteFirst | RcWriteMiddle | RcWriteLast | RcWriteLastImm | RcWriteOnly
                | RcWriteOnlyImm),
            ) => self.on_data(now, qp, op, f, head, meta, rec),
            Some(Cnp) => self.on_cnp(now, qp),
            Some(op @ (RcReadRequest | RcCompareSwap | RcFetchAdd)) => {
                self.on_request(now, qp, op, &{ *f }, head)
            }
            Some(
                op @ (RcReadResponseFirst | RcReadResponseMiddle | RcReadResponseLast | RcReadResponseOnly),
            ) => self.on_read_response(now, qp, op, &{ *f }, head, meta, rec),
            Some(UdSendOnly | UdSendOnlyImm)
                if self.shared[usize::from(self.qps[qp as usize].req.profile)].verb == Verb::UdSend =>
            {
                self.on_datagram(now, qp, &{ *f }, head, meta, rec)
            }
            _ => self.stats.rx_unknown += 1,
        }
    }

    /// Takes a packet of [`Host::next_middle`], whether it asks for an ACK, and its ECN field.
    #[inline(always)]
    fn take_middle(
        &mut self,
        now: Time,
        qp: u32,
        (ack_req, ecn): (bool, u8),
        meta: &FrameMeta,
        rec: &mut impl Record,
    ) {
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let rx = &mut q.resp.rx;
        rx.take_middle(ack_req, shared);
        if rx.wants_control() && !shared.ack_each && ecn != 3 {
            rx.flags |= flags::ACK_QUEUED;
            self.control.join(shared.ack_priority, 2 * qp);
        }
        let class = &mut self.stats.classes[usize::from(shared.class)];
        class.arrivals += 1;
        self.stats.payload_bytes += u64::from(shared.mtu);
        rec.arrival(now, meta, ClassIx(shared.class));
        if ecn == 3 || shared.ack_each {
            self.on_middle_marked(now, qp, ecn == 3);
        }
    }

    /// What [`Host::on_data`] does besides for a packet with CE, or where each is acknowledged.
    #[inline(never)]
    pub(super) fn on_middle_marked(&mut self, now: Time, qp: u32, marked: bool) {
        let shared = &self.shared[usize::from(self.qps[qp as usize].req.profile)];
        if marked {
            self.stats.classes[usize::from(shared.class)].ce += 1;
            self.stats.ce_rx += 1;
            self.notify(now, qp);
        }
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        if q.resp.rx.wants_control() || shared.ack_each {
            q.resp.rx.flags |= flags::ACK_QUEUED;
            self.control.join(shared.ack_priority, 2 * qp);
        }
    }

    #[allow(clippy::too_many_arguments)]
    #[inline]
    fn on_data(
        &mut self,
        now: Time,
        qp: u32,
        opcode: Opcode,
        f: &Fast,
        head: &[u8; HEAD_MAX],
        meta: &FrameMeta,
        rec: &mut impl Record,
    ) {
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let class_ix = shared.class;
        let class = &mut self.stats.classes[usize::from(class_ix)];
        class.arrivals += 1;
        rec.arrival(now, meta, ClassIx(shared.class));

        let (reth, key_ok) =
            f.reth(head).map_or(((0, 0), true), |r| (((r.va >> 32) as u32, r.dma_len), key_ok(&r, shared)));
        let imm = f.imm(head).map_or(0, |i| i.0);
        let data =
            Data { opcode, psn: f.psn, ack_req: f.ack_req, payload_len: f.payload_len, reth, imm, key_ok };
        let verdict = match shared.plain_rx {
            true => q.resp.rx.on_data(&data, shared),
            false => self.on_data_rare(now, qp, &data),
        };
        let class = &mut self.stats.classes[usize::from(class_ix)];
        if f.ecn == 3 {
            class.ce += 1;
            self.stats.ce_rx += 1;
            self.notify(now, qp);
        }
        match verdict {
            Verdict::Accepted => self.stats.payload_bytes += u64::from(f.payload_len),
            Verdict::Complete { tag, bytes } => {
                self.stats.payload_bytes += u64::from(f.payload_len);
                self.deliver(now, qp, tag, bytes);
            }
            Verdict::Ahead => self.stats.out_of_order += 1,
            Verdict::Stored => {
                self.stats.out_of_order += 1;
                self.stats.payload_bytes += u64::from(f.payload_len);
            }
            Verdict::Duplicate => self.stats.duplicates += 1,
            Verdict::Invalid | Verdict::Ignored | Verdict::NotReady => {}
        }
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        if q.resp.rx.wants_control() || shared.ack_each {
            q.resp.rx.flags |= flags::ACK_QUEUED;
            self.control.join(shared.ack_priority, 2 * qp);
        }
    }

    /// A data packet where more than the plain rules act: receive queue, any order, ACKs by time.
    #[cold]
    fn on_data_rare(&mut self, now: Time, qp: u32, data: &Data) -> Verdict {
        let shared = &self.shared[usize::from(self.qps[qp as usize].req.profile)];
        let (queue, delay) = (shared.receive_queue != 0, shared.ack_delay != Span::ZERO);
        if queue && !self.buffer_ready(now, qp, data) {
            return Verdict::NotReady;
        }
        let verdict = self.on_data_any_order(now, qp, data);
        if queue {
            self.buffer_done(now, qp, data.opcode, verdict);
        }
        if delay {
            self.delay_ack(now, qp, verdict);
        }
        verdict
    }

    /// A data packet with selective repeat. The messages it completes are delivered here.
    fn on_data_any_order(&mut self, now: Time, qp: u32, data: &Data) -> Verdict {
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let Some(reorder) = self.reorders.get_mut(self.cold[qp as usize].reorder as usize) else {
            return q.resp.rx.on_data(data, shared);
        };
        let verdict = reorder.on_data(&mut q.resp.rx, data, shared);
        match verdict {
            Verdict::Complete { tag, bytes } => self.deliver(now, qp, tag, bytes),
            Verdict::Accepted => {}
            _ => return verdict,
        }
        self.take_over(now, qp);
        Verdict::Accepted
    }

    /// Selective repeat: takes over the packets that are next and here already.
    pub(super) fn take_over(&mut self, now: Time, qp: u32) {
        loop {
            let q = &mut self.qps[qp as usize];
            let shared = &self.shared[usize::from(q.req.profile)];
            let reorder = self.reorders.get_mut(self.cold[qp as usize].reorder as usize);
            match reorder.and_then(|r| r.next(&mut q.resp.rx, shared)) {
                Some(Verdict::Complete { tag, bytes }) => self.deliver(now, qp, tag, bytes),
                Some(_) => {}
                None => return,
            }
        }
    }

    /// A whole message arrived.
    pub(super) fn deliver(&mut self, now: Time, qp: u32, tag: u32, bytes: u32) {
        let cold = &self.cold[qp as usize];
        let (mut tag, mut bytes) = (tag, u64::from(bytes));
        if self.shared[usize::from(self.qps[qp as usize].req.profile)].parts {
            let Some(whole) = self.programs.gather(cold.program, cold.to, qp, tag, bytes) else { return };
            (tag, bytes) = whole;
        }
        if let Some(s) = self.programs.slots.get_mut(cold.program as usize) {
            s.interp.on_recv(now, cold.to, tag, bytes);
            self.programs.touch(cold.program);
        }
    }

    /// Notification point: a frame with CE arrived; asks the sender to slow down, at most once per CNP
    /// interval.
    #[inline]
    pub(super) fn notify(&mut self, now: Time, qp: u32) {
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let Some(interval) = shared.cnp_interval else { return };
        if shared.ack_each {
            q.resp.rx.flags |= flags::ECHO;
            return;
        }
        let cold = &mut self.cold[qp as usize];
        if now < cold.cnp_after || q.resp.rx.flags & flags::CNP_QUEUED != 0 {
            return;
        }
        cold.cnp_after = now + interval;
        q.resp.rx.flags |= flags::CNP_QUEUED;
        self.control.join(shared.cnp_priority, 2 * qp + 1);
    }

    /// An ACK or NAK with this PSN arrived, and whether it speaks of congestion.
    #[inline(always)]
    fn on_acknowledge(
        &mut self,
        now: Time,
        qp: u32,
        (psn, becn): (u32, bool),
        aeth: Aeth,
        meta: &FrameMeta,
        rec: &mut impl Record,
    ) {
        let Syndrome::Ack { .. } = aeth.meaning() else { return self.on_refusal(now, qp, psn, aeth, rec) };
        let req = &mut self.qps[qp as usize].req;
        let shared = &self.shared[usize::from(req.profile)];
        let (credits, delay_based) = (shared.credits, shared.delay_based);
        self.stats.ack_rx += 1;
        if req.flags & sender::READS_OUT != 0 {
            self.acknowledge_around_reads(now, qp, psn::add(psn, 1), rec);
        } else if req.acknowledge(now, psn::add(psn, 1), shared) {
            if delay_based {
                self.on_timed_ack(now, qp, hops(meta));
            }
            self.complete(now, qp, rec);
            self.wake(qp, now);
        }
        if credits {
            self.take_credits(qp, psn, aeth);
            self.wake(qp, now);
        }
        if becn {
            self.on_cnp(now, qp);
        }
    }

    /// A NAK arrived.
    #[inline(never)]
    fn on_refusal(&mut self, now: Time, qp: u32, psn: u32, aeth: Aeth, rec: &mut impl Record) {
        let req = &mut self.qps[qp as usize].req;
        let shared = &self.shared[usize::from(req.profile)];
        match aeth.meaning() {
            Syndrome::RnrNak { timer } => {
                self.stats.rnr_nak_rx += 1;
                let resume = now + rnr_timer(timer);
                let Some(retry) = req.rnr(now, resume, req.reach(psn, &self.messages), shared) else {
                    return;
                };
                if shared.delay_based {
                    self.forget_timed(qp);
                }
                let pace = &mut self.qps[qp as usize].resp.pace;
                pace.next = pace.next.max(resume);
                self.complete(now, qp, rec);
                self.go_back(now, qp, retry, Failure::RnrRetryExceeded, rec);
            }
            Syndrome::Nak(NakCode::PsnSequenceError) => {
                self.stats.nak_rx += 1;
                self.on_nak(now, qp, psn, rec);
            }
            Syndrome::Nak(_) => {
                self.stats.nak_rx += 1;
                if req.acknowledge(now, req.reach(psn, &self.messages), shared) {
                    self.complete(now, qp, rec);
                }
                self.fail(now, qp, Failure::RemoteError, rec);
            }
            _ => self.stats.rx_unknown += 1,
        }
    }

    /// Go back to the PSN the responder expects.
    fn on_nak(&mut self, now: Time, qp: u32, expected: u32, rec: &mut impl Record) {
        let req = &mut self.qps[qp as usize].req;
        let shared = &self.shared[usize::from(req.profile)];
        let Some(retry) = req.nak(now, req.reach(expected, &self.messages), shared) else { return };
        if shared.delay_based {
            self.on_timed_loss(now, qp, false);
        }
        self.complete(now, qp, rec);
        self.recover(now, qp, retry, rec);
    }

    /// Sends the oldest unacknowledged packet again, and with go-back-N everything behind it.
    pub(super) fn recover(&mut self, now: Time, qp: u32, retry: bool, rec: &mut impl Record) {
        let req = &mut self.qps[qp as usize].req;
        let shared = &self.shared[usize::from(req.profile)];
        if shared.reorder != 0 && retry {
            req.resend_one(&self.messages, shared);
            return self.wake(qp, now);
        }
        self.go_back(now, qp, retry, Failure::RetryExceeded, rec);
    }

    /// Resends from the oldest unacknowledged packet, or gives up.
    fn go_back(&mut self, now: Time, qp: u32, retry: bool, cause: Failure, rec: &mut impl Record) {
        if !retry {
            return self.fail(now, qp, cause, rec);
        }
        let req = &mut self.qps[qp as usize].req;
        req.go_back(&self.messages, &self.shared[usize::from(req.profile)]);
        self.wake(qp, now);
    }

    fn on_stream(&mut self, now: Time, f: &Fast, meta: &FrameMeta, rec: &mut impl Record) {
        let index = f.dest_qp - STREAM_QPN_FIRST;
        let class = self.stream_rx.belongs(index, f);
        let (Some(class), Some(Opcode::UcSendOnly | Opcode::UdSendOnly)) = (class, f.op()) else {
            self.stats.rx_unknown += 1;
            return;
        };
        self.stats.stream_rx += 1;
        self.stream_rx.on_frame(index, f.psn);
        self.stats.stream_lost = self.stream_rx.lost();
        let count = &mut self.stats.classes[usize::from(class)];
        count.arrivals += 1;
        if f.ecn == 3 {
            count.ce += 1;
            self.stats.ce_rx += 1;
        }
        rec.arrival(now, meta, ClassIx(class));
        rec.stream(now, index, meta);
    }
}

/// Whether a request names our memory. One for no bytes need not (IBTA volume 1, C9-88).
#[inline]
pub(super) fn key_ok(reth: &Reth, shared: &Shared) -> bool {
    reth.rkey == shared.rkey || reth.dma_len == 0
}

/// A frame marked as broken is whole after all: only where the driver carries bytes to check.
#[cold]
fn intact<F: Frame>(frame: &F) -> bool {
    frame.wire_bytes().is_some_and(|bytes| icrc::verify(bytes).unwrap_or(false))
}
