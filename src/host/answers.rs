//! What a responder answers with data: READ and atomics.
//!
//! A READ request takes as many PSNs as its answer has packets and is executed when it is accepted: its responses
//! leave one by one, before any later ACK, and carry the MSN of that moment. They are data: they take turns with the
//! requests of the queue pair in the list of its class, and obey its pause and its rate control. A repeated request is
//! executed again for the bytes it names (they do not change); a repeated atomic gets the answer of the first time,
//! from the last [`ATOMICS_KEPT`] ones. Memory is not emulated: READs return the payload byte, and each queue pair has
//! a single 8-byte word, which starts at 0, for all addresses. Source: IBTA volume 1, 9.4 and 9.7.5, and what rxe
//! answers.

use std::collections::VecDeque;

use super::rx::key_ok;
use super::tx::{Step, charge};
use super::{Host, NONE};
use crate::frame::{Fill, Frame, FramePool, HEAD_MAX, TxBatch, flags as frame_flags};
use crate::transport::requester::flags as sender;
use crate::transport::responder::{Data, Verdict, flags};
use crate::units::{FrameLen, Time};
use crate::wire::fast::Fast;
use crate::wire::headers::{Aeth, AtomicAckEth, AtomicEth, Ext};
use crate::wire::opcode::Opcode;
use crate::wire::psn;
use crate::wire::template::BthFields;

/// Results of atomics that a queue pair keeps for repeated requests: what NICs allow outstanding at most.
const ATOMICS_KEPT: usize = 16;
/// Syndrome of an ACK without credit limit.
const ACK_SYNDROME: u8 = 0x1f;

/// An answer that has not left, or not all of it.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// PSN of its first packet.
    psn: u32,
    /// Packets, and how many of them have left.
    packets: u32,
    next: u32,
    msn: u32,
    /// When it was asked for.
    at: Time,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// So many bytes.
    Read(u32),
    /// The value before the operation.
    Atomic(u64),
}

/// One queue pair's answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// In the order of their PSNs.
    due: VecDeque<Answer>,
    /// PSN behind the last packet that ever left.
    sent: u32,
    /// What atomics work on.
    pub(super) word: u64,
    done: VecDeque<(u32, u64)>,
}

impl Answers {
    /// Adds an answer in its place. Whatever was still to be sent of what it asks for is what it asks for now.
    fn add(&mut self, a: Answer) {
        let end = |a: &Answer| psn::add(a.psn, a.packets);
        self.due.retain(|d| !psn::before(d.psn, end(&a)) || !psn::before(a.psn, end(d)));
        let place = self.due.partition_point(|d| psn::before(d.psn, a.psn));
        self.due.insert(place, a);
    }

    /// Does an atomic, or finds what it gave the first time; `None` when that is not kept any more.
    fn atomic(&mut self, op: Opcode, at: u32, a: &AtomicEth, again: bool) -> Option<u64> {
        if again {
            return self.done.iter().find(|d| d.0 == at).map(|d| d.1);
        }
        let before = self.word;
        self.word = match op {
            Opcode::RcFetchAdd => before.wrapping_add(a.swap_add),
            _ if before == a.compare => a.swap_add,
            _ => before,
        };
        if self.done.len() == ATOMICS_KEPT {
            self.done.pop_front();
        }
        self.done.push_back((at, before));
        Some(before)
    }
}

impl Host {
    /// A READ or atomic request.
    #[cold]
    pub(super) fn on_request(&mut self, now: Time, qp: u32, op: Opcode, f: &Fast, head: &[u8; HEAD_MAX]) {
        if f.ecn == 3 {
            self.notify(now, qp);
        }
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let rx = &mut q.resp.rx;
        if rx.flags & flags::DEAD != 0 {
            return;
        }
        let (bytes, key_ok, atomic) = match f.ext(head) {
            Some(Ext::Reth(r)) => (r.dma_len, key_ok(&r, shared), None),
            Some(Ext::Atomic(a)) => (0, a.rkey == shared.rkey, Some(a)),
            _ => return,
        };
        let packets = if atomic.is_some() { 1 } else { psn::packets(bytes.into(), shared.mtu) as u32 };
        let key_ok = key_ok && bytes <= 1 << 31;
        let ahead = psn::diff(f.psn, rx.expected_psn());
        let reorder = self.reorders.get_mut(self.cold[qp as usize].reorder as usize);
        match reorder {
            Some(reorder) if ahead > 0 => {
                // It is not kept: it will come again.
                reorder.overtaken(rx, ahead as u32, shared);
                self.stats.out_of_order += 1;
            }
            _ if ahead > 0 || ahead == 0 && !(key_ok && rx.idle()) => {
                // Out of order, out of place or with a bad key: the responder knows what to say.
                let d = Data {
                    opcode: op,
                    psn: f.psn,
                    ack_req: true,
                    payload_len: 0,
                    reth: (0, 0),
                    imm: 0,
                    key_ok,
                };
                if rx.on_data(&d, shared) == Verdict::Ahead {
                    self.stats.out_of_order += 1;
                }
            }
            _ => {
                let again = ahead < 0;
                if again {
                    self.stats.duplicates += 1;
                    if psn::diff(psn::add(f.psn, packets), rx.expected_psn()) > 0 {
                        return; // more than was ever asked for
                    }
                } else {
                    rx.take_request(packets);
                }
                let msn = rx.msn();
                let answers = &mut self.rare(qp).answers;
                if !again && answers.due.is_empty() {
                    answers.sent = f.psn;
                }
                let what = match &atomic {
                    None => What::Read(bytes),
                    Some(a) => match answers.atomic(op, f.psn, a, again) {
                        Some(original) => What::Atomic(original),
                        None => return,
                    },
                };
                answers.add(Answer { psn: f.psn, packets, next: 0, msn, at: now, what });
                self.qps[qp as usize].resp.rx.flags |= flags::ANSWERS;
                self.stats.read_rx += u64::from(atomic.is_none());
                if !again && self.cold[qp as usize].reorder != NONE {
                    self.take_over(now, qp);
                }
                self.wake(qp, now);
            }
        }
        self.speak(qp);
    }

    /// Puts a queue pair with an ACK or NAK to send into its list.
    fn speak(&mut self, qp: u32) {
        let q = &mut self.qps[qp as usize];
        if q.resp.rx.wants_control() {
            q.resp.rx.flags |= flags::ACK_QUEUED;
            self.control.join(self.shared[usize::from(q.req.profile)].ack_priority, 2 * qp);
        }
    }

    /// Sends the oldest packet of the answers of a queue pair, which stands first in `list`.
    #[cold]
    pub(super) fn send_answer<P: FramePool>(
        &mut self,
        now: Time,
        list: u8,
        qp: u32,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
    ) -> Step {
        self.rare(qp);
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let answers = &mut self.rares[self.cold[qp as usize].rare as usize].answers;
        let (Some(answer), Some(flow)) = (answers.due.front_mut(), self.flows[qp as usize].as_ref()) else {
            q.resp.rx.flags &= !flags::ANSWERS;
            return Step::Skipped;
        };
        let (first, last) = (answer.next == 0, answer.next + 1 == answer.packets);
        let aeth = Aeth { syndrome: ACK_SYNDROME, msn: answer.msn };
        let (opcode, ext, len) = match answer.what {
            What::Atomic(original) => {
                (Opcode::RcAtomicAck, Ext::AethAtomicAck(aeth, AtomicAckEth { original }), 0)
            }
            What::Read(bytes) => {
                let opcode = match (first, last) {
                    (true, true) => Opcode::RcReadResponseOnly,
                    (true, false) => Opcode::RcReadResponseFirst,
                    (false, false) => Opcode::RcReadResponseMiddle,
                    (false, true) => Opcode::RcReadResponseLast,
                };
                let ext = if first || last { Ext::Aeth(aeth) } else { Ext::None };
                let rest = bytes - answer.next * u32::from(shared.mtu);
                (opcode, ext, rest.min(shared.mtu.into()) as u16)
            }
        };
        let at = psn::add(answer.psn, answer.next);
        let pad = (len.wrapping_neg() & 3) as u8;
        let payload = len + u16::from(pad);
        let frame_len = FrameLen(shared.base_len + ext.len() as u16 + payload);
        let fill = if payload == 0 { Fill::Control } else { shared.fill };
        let Some(mut frame) = pool.take(fill, frame_len) else { return Step::PoolEmpty };
        let (_, counter_expired) = charge(&mut q.resp.pace, now, shared, frame_len, len);
        let bth =
            BthFields { opcode: opcode as u8, dest_qp: q.peer_qpn(), psn: at, pad, ..BthFields::default() };
        let wire = flow.data.write(frame.head_mut(), &bth, &ext, len);
        if fill == Fill::Writable {
            let offset = self.memories.read_offset(qp, at, shared.mtu);
            self.memories.fill(qp, offset, len, wire, &mut frame);
        }
        let meta = frame.meta_mut();
        (meta.intended, meta.class, meta.flags) = (answer.at, shared.class, frame_flags::DATA);

        let class = &mut self.stats.classes[usize::from(shared.class)];
        class.transmissions += 1;
        if psn::before(at, answers.sent) {
            meta.flags |= frame_flags::RETRANSMITTED;
            class.retransmitted += 1;
            self.stats.retransmitted += 1;
        } else {
            answers.sent = psn::add(at, 1);
        }
        answer.next += 1;
        if last {
            answers.due.pop_front();
        }
        if answers.due.is_empty() {
            q.resp.rx.flags &= !flags::ANSWERS;
        }
        self.ready.leave(list);
        q.req.flags &= !sender::READY;
        if counter_expired {
            self.advance_rate(now, qp, true);
        }
        if self.qps[qp as usize].resp.rx.flags & flags::ANSWERS == 0 {
            self.speak(qp);
        }
        self.wake(qp, now);
        self.seal(now, &mut frame, wire, qp, pool);
        out.data.push(frame);
        Step::Sent
    }
}
