//! Packets in the middle of messages, and ACKs, where frames have real bytes: sent by a short way that does what the long
//! one does.

use super::Host;
use super::tx::{PREFETCH_TURNS, Step, window};
use crate::frame::{Fill, Frame, FramePool, TxBatch, flags as frame_flags};
use crate::transport::config::Verb;
use crate::transport::requester::flags as sender;
use crate::transport::responder::flags as answer;
use crate::units::{Span, Time};
use crate::wire::common::CommonHead;
use crate::wire::headers::Aeth;
use crate::wire::opcode::Opcode;

/// Heads of one profile between two addresses.
#[derive(Clone, Debug)]
pub(super) struct Heads {
    middle: CommonHead,
    ack: CommonHead,
}

impl Host {
    /// Sends packets in the middle of messages as long as one is next among all senders and nothing else can come in
    /// between: they call for no control frames, and one list is all there is. Returns how many left.
    #[inline]
    pub(super) fn send_middles<P: FramePool>(
        &mut self,
        now: Time,
        room: usize,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
    ) -> usize {
        let Some(list) = self.ready.only(self.pfc_rx.mask()) else { return 0 };
        let mut sent = 0;
        while sent < room && !out.data.is_full() {
            let Some(qp) = self.ready.behind(list, 0) else { break };
            if let Some(soon) = self.ready.behind(list, PREFETCH_TURNS) {
                self.prefetch_qp(soon);
            }
            // Whatever else it is goes the long way.
            if self.send_middle(now, list, qp, pool, out) != Some(Step::Sent) {
                break;
            }
            sent += 1;
        }
        sent
    }

    /// Sends the next packet of a queue pair, which stands first in `list`, when it is such a one.
    #[inline(always)]
    fn send_middle<P: FramePool>(
        &mut self,
        now: Time,
        list: u8,
        qp: u32,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
    ) -> Option<Step> {
        let q = self.qps.get_mut(qp as usize)?;
        let shared = self.shared.get(usize::from(q.req.profile))?;
        let paced = q.resp.pace.limited() || q.resp.pace.next > now || q.resp.pace.event <= now;
        let plain = shared.plain_middle && shared.fill == Fill::Const;
        if !plain || paced || q.resp.rx.flags & answer::ANSWERS != 0 {
            return None;
        }
        let window = window(&self.windows, qp, shared);
        let mut p = q.req.middle(window, shared)?;
        let slot = usize::from(q.req.profile) * self.templates.len() + q.template() as usize;
        let Some(Some(Heads { middle, .. })) = self.common.get(slot) else {
            self.lay_out(qp, slot);
            return None;
        };
        // See the long way.
        let turns = u64::from(q.req.since_ack_req()) + 1;
        p.ack_req |= turns * self.ready.len(list) as u64 >= u64::from(shared.frames_in_timeout);
        let Some(mut frame) = pool.take(Fill::Const, middle.len()) else { return Some(Step::PoolEmpty) };
        let (wire, after) = middle.write(frame.head_mut(), q.sport(), q.peer_qpn(), p.psn, p.ack_req);
        let meta = frame.meta_mut();
        (meta.intended, meta.class, meta.flags) = (q.req.intended(), shared.class, frame_flags::DATA);
        self.stats.classes[usize::from(shared.class)].transmissions += 1;
        let more = q.req.sent_middle(now, p.ack_req, window);
        if shared.ack_timeout != Span::ZERO && q.req.flags & sender::TIMER == 0 {
            q.req.flags |= sender::TIMER;
            self.wheel.set(self.timers.ack + qp, now + shared.ack_timeout);
        }
        if more && list == shared.priority {
            self.ready.rotate(list);
        } else {
            q.req.flags &= !sender::READY;
            self.ready.leave(list);
            self.wake(qp, now);
        }
        self.pfc_rx.left(now, list, wire.len);
        self.seal(now, &mut frame, wire, Some(after), qp, pool);
        out.data.push(frame);
        Some(Step::Sent)
    }

    /// Sends the ACK of a queue pair, which stands first in `list`, when it is no more than that.
    #[inline(always)]
    pub(super) fn send_ack<P: FramePool>(
        &mut self,
        now: Time,
        list: u8,
        qp: u32,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
    ) -> Option<Step> {
        let q = self.qps.get_mut(qp as usize)?;
        let shared = self.shared.get(usize::from(q.req.profile))?;
        let special = answer::NAK | answer::DEAD | answer::ECHO | answer::ANSWERS;
        let plain = q.resp.rx.flags & (answer::ACK | special) == answer::ACK;
        if !plain || shared.receive_queue != 0 || shared.ack_each {
            return None;
        }
        let slot = usize::from(q.req.profile) * self.templates.len() + q.template() as usize;
        let Some(Some(Heads { ack, .. })) = self.common.get(slot) else {
            self.lay_out(qp, slot);
            return None;
        };
        let Some(mut frame) = pool.take(Fill::Control, ack.len()) else { return Some(Step::PoolEmpty) };
        let (psn, syndrome, msn) = q.resp.rx.answer();
        let aeth = Aeth { syndrome, msn };
        let (wire, after) = ack.write_ack(frame.head_mut(), q.sport(), q.peer_qpn(), psn, aeth);
        let meta = frame.meta_mut();
        (meta.intended, meta.class) = (now, shared.class);
        q.resp.rx.answered();
        self.stats.ack_tx += 1;
        self.control.leave(list);
        self.pfc_rx.left(now, list, wire.len);
        self.seal(now, &mut frame, wire, Some(after), qp, pool);
        out.control.push(frame);
        Some(Step::Sent)
    }

    /// Lays out the heads of a queue pair: once for all between its addresses.
    #[cold]
    #[inline(never)]
    fn lay_out(&mut self, qp: u32, slot: usize) {
        let q = &self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let Some(template) = self.templates.get(q.template() as usize) else { return };
        let opcode = if shared.verb == Verb::Send { Opcode::RcSendMiddle } else { Opcode::RcWriteMiddle };
        if self.common.is_empty() {
            self.common.resize(self.shared.len() * self.templates.len(), None);
        }
        if let Some(heads) = self.common.get_mut(slot) {
            *heads = Some(Heads {
                middle: CommonHead::middle(template, shared.markings.data, opcode, shared.mtu),
                ack: CommonHead::ack(template, shared.markings.ack),
            });
        }
    }
}
