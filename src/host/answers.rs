//! What a responder answers with data: READ and atomics. Cold: a run without them has an empty map here.
//!
//! A READ request takes as many PSNs as its answer has packets and is executed when it is accepted: its responses
//! leave one by one, before any later ACK, and carry the MSN of that moment. A repeated request is executed again for
//! the bytes it names (they do not change); a repeated atomic gets the answer of the first time, from the last
//! [`ATOMICS_KEPT`] ones. Without memory behind the queue pair ([`super::memory`]) READs return the payload byte, and
//! there is a single 8-byte word, which starts at 0, for all addresses. Source: IBTA volume 1, 9.4 and 9.7.5, and what rxe answers.

use std::collections::{BTreeMap, VecDeque};

use super::Host;
use super::rx::key_ok;
use super::tx::Step;
use crate::frame::{Fill, Frame, FramePool, HEAD_MAX, TxBatch, flags as frame_flags};
use crate::transport::responder::{Data, Verdict, flags};
use crate::units::{FrameLen, Time};
use crate::wire::fast::Fast;
use crate::wire::headers::{Aeth, AtomicAckEth, Ext};
use crate::wire::opcode::Opcode;
use crate::wire::psn;
use crate::wire::template::BthFields;

/// Results of atomics that a queue pair keeps for repeated requests: what NICs allow outstanding at most.
const ATOMICS_KEPT: usize = 16;
/// Syndrome of an ACK without credit limit.
const ACK_SYNDROME: u8 = 0x1f;

/// An answer that has not left, or not all of it.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Response packets `next..packets`, the first of which has `psn`.
    Read { psn: u32, next: u32, packets: u32, bytes: u32, msn: u32 },
    /// The value before the operation.
    Atomic { psn: u32, original: u64, msn: u32 },
}

/// One queue pair's answers.
#[derive(Debug, Default)]
struct Answers {
    due: VecDeque<Answer>,
    word: u64,
    done: VecDeque<(u32, u64)>,
}

/// The queue pairs that were ever read from.
#[derive(Debug, Default)]
pub(super) struct AllAnswers(BTreeMap<u32, Answers>);

impl AllAnswers {
    /// Something waits to be sent on a queue pair.
    #[inline]
    pub(super) fn due(&self, qp: u32) -> bool {
        !self.0.is_empty() && self.0.get(&qp).is_some_and(|a| !a.due.is_empty())
    }
    /// The word that atomics on a queue pair work on.
    pub(super) fn word(&self, qp: u32) -> Option<u64> {
        self.0.get(&qp).map(|a| a.word)
    }
    /// Sets it, where memory stands behind it.
    pub(super) fn set_word(&mut self, qp: u32, word: u64) {
        self.0.entry(qp).or_default().word = word;
    }
}

impl Host {
    /// A READ or atomic request.
    #[cold]
    pub(super) fn on_request(&mut self, qp: u32, op: Opcode, f: &Fast, head: &[u8; HEAD_MAX]) {
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
        if ahead > 0 || ahead == 0 && !(key_ok && rx.idle()) {
            // Out of order, out of place or with a bad key: the responder knows what to say.
            let d =
                Data { opcode: op, psn: f.psn, ack_req: true, payload_len: 0, reth: (0, 0), imm: 0, key_ok };
            if rx.on_data(&d, shared) == Verdict::Ahead {
                self.stats.out_of_order += 1;
            }
        } else {
            let all = self.answers.0.entry(qp).or_default();
            let again = ahead < 0;
            if again {
                self.stats.duplicates += 1;
                // Whatever was still to be sent from there on is what is asked for now.
                all.due.retain(|a| match a {
                    Answer::Read { psn, .. } | Answer::Atomic { psn, .. } => psn::before(*psn, f.psn),
                });
                if psn::diff(psn::add(f.psn, packets), rx.expected_psn()) > 0 {
                    return; // more than was ever asked for
                }
            } else {
                rx.take_request(packets);
            }
            let msn = rx.msn();
            match atomic {
                None => all.due.push_back(Answer::Read { psn: f.psn, next: 0, packets, bytes, msn }),
                Some(a) => {
                    let kept = all.done.iter().find(|d| d.0 == f.psn).map(|d| d.1);
                    let original = match (again, kept) {
                        (true, Some(kept)) => kept,
                        (true, None) => return,
                        (false, _) => {
                            let before = all.word;
                            all.word = match op {
                                Opcode::RcFetchAdd => before.wrapping_add(a.swap_add),
                                _ if before == a.compare => a.swap_add,
                                _ => before,
                            };
                            if all.done.len() == ATOMICS_KEPT {
                                all.done.pop_front();
                            }
                            all.done.push_back((f.psn, before));
                            before
                        }
                    };
                    all.due.push_back(Answer::Atomic { psn: f.psn, original, msn });
                }
            }
        }
        let rx = &mut self.qps[qp as usize].resp.rx;
        if (self.answers.due(qp) || rx.wants_control()) && rx.flags & flags::ACK_QUEUED == 0 {
            rx.flags |= flags::ACK_QUEUED;
            let list = self.shared[usize::from(self.qps[qp as usize].req.profile)].priority;
            self.control.join(list, 2 * qp);
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
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let all = self.answers.0.get_mut(&qp);
        let (Some(all), Some(flow)) = (all, self.flows.get(qp as usize).and_then(Option::as_ref)) else {
            self.control.leave(list);
            return Step::Skipped;
        };
        let Some(answer) = all.due.front_mut() else { return Step::Skipped };
        let (opcode, at, ext, len) = match answer {
            Answer::Atomic { psn, original, msn } => {
                let aeth = Aeth { syndrome: ACK_SYNDROME, msn: *msn };
                let ext = Ext::AethAtomicAck(aeth, AtomicAckEth { original: *original });
                (Opcode::RcAtomicAck, *psn, ext, 0)
            }
            Answer::Read { psn, next, packets, bytes, msn } => {
                let (first, last) = (*next == 0, *next + 1 == *packets);
                let opcode = match (first, last) {
                    (true, true) => Opcode::RcReadResponseOnly,
                    (true, false) => Opcode::RcReadResponseFirst,
                    (false, false) => Opcode::RcReadResponseMiddle,
                    (false, true) => Opcode::RcReadResponseLast,
                };
                let aeth = Aeth { syndrome: ACK_SYNDROME, msn: *msn };
                let ext = if first || last { Ext::Aeth(aeth) } else { Ext::None };
                let rest = *bytes - *next * u32::from(shared.mtu);
                (opcode, psn::add(*psn, *next), ext, rest.min(shared.mtu.into()) as u16)
            }
        };
        let pad = (len.wrapping_neg() & 3) as u8;
        let payload = len + u16::from(pad);
        let frame_len = FrameLen(shared.base_len + ext.len() as u16 + payload);
        let fill = if payload == 0 { Fill::Control } else { shared.fill };
        let Some(mut frame) = pool.take(fill, frame_len) else { return Step::PoolEmpty };
        let bth =
            BthFields { opcode: opcode as u8, dest_qp: q.peer_qpn(), psn: at, pad, ..BthFields::default() };
        let wire = flow.data.write(frame.head_mut(), &bth, &ext, len);
        if fill == Fill::Writable {
            let offset = self.memories.read_offset(qp, at, shared.mtu);
            self.memories.fill(qp, offset, len, wire, &mut frame);
        }
        let meta = frame.meta_mut();
        (meta.intended, meta.class, meta.flags) = (now, shared.class, frame_flags::DATA);
        let finished = match answer {
            Answer::Read { next, packets, .. } => {
                *next += 1;
                next == packets
            }
            Answer::Atomic { .. } => true,
        };
        if finished {
            all.due.pop_front();
        }
        let rx = &mut q.resp.rx;
        self.control.leave(list);
        if !all.due.is_empty() || rx.flags & (flags::ACK | flags::NAK) != 0 {
            self.control.join(list, 2 * qp);
        } else {
            rx.flags &= !flags::ACK_QUEUED;
        }
        self.stats.classes[usize::from(shared.class)].transmissions += 1;
        self.seal(now, &mut frame, wire, qp, pool);
        out.control.push(frame);
        Step::Sent
    }
}
