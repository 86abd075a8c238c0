//! Receive queues at responders, and the credits by which requesters know of them.
//!
//! A queue of N buffers per queue pair: a SEND takes one with its first packet, a WRITE with immediate with its last,
//! and it is posted again a while after the message is complete. A message that finds none is answered by an RNR NAK
//! with the configured timer and thrown away; then nothing is said until it comes again. Every ACK announces the
//! buffers that are free as credits, rounded down to what the 5-bit code can say. A requester that obeys them starts
//! SENDs up to MSN + credits; beyond, it sends one first packet with AckReq and waits for its answer. Source: IBTA
//! volume 1, 9.7.5.2.8 and 9.7.7.2.

use std::collections::VecDeque;

use super::Host;
use crate::transport::config::Verb;
use crate::transport::requester::flags as sender;
use crate::transport::responder::{Data, Verdict};
use crate::units::Time;
use crate::wire::aeth::{self, Syndrome};
use crate::wire::headers::Aeth;
use crate::wire::opcode::Opcode;
use crate::wire::psn;

/// The buffers of one queue pair.
#[derive(Debug)]
pub(super) struct ReceiveQueue {
    free: u32,
    /// When the others are posted again, in order of time.
    back: VecDeque<Time>,
    /// The NAK that is due is an RNR NAK.
    not_ready: bool,
}

impl ReceiveQueue {
    fn new(buffers: u32) -> ReceiveQueue {
        ReceiveQueue { free: buffers, back: VecDeque::new(), not_ready: false }
    }

    /// Buffers free at `now`.
    fn free(&mut self, now: Time) -> u32 {
        while self.back.front().is_some_and(|at| *at <= now) {
            self.back.pop_front();
            self.free += 1;
        }
        self.free
    }
}

/// What a requester knows of the other end's buffers. Messages are counted from 1, all operations, 24 bits.
#[derive(Debug)]
pub(super) struct Credits {
    /// Last message that may start.
    limit: u32,
    /// Message that started last.
    started: u32,
    /// PSN of a first packet sent beyond the limit, not answered yet.
    probe: Option<u32>,
}

impl Credits {
    fn new(buffers: u32) -> Credits {
        // Nothing was announced yet; both ends are set up with the same queue.
        Credits { limit: aeth::credits(aeth::credit_code(buffers)).unwrap_or(0), started: 0, probe: None }
    }
}

/// The packet takes a buffer.
fn takes_buffer(opcode: Opcode) -> bool {
    match opcode.is_send() {
        true => opcode.starts_message(),
        false => opcode.has_imm(),
    }
}

impl Host {
    fn receive_queue(&mut self, qp: u32) -> &mut ReceiveQueue {
        let buffers = self.shared[usize::from(self.qps[qp as usize].req.profile)].receive_queue;
        self.rare(qp).receive.get_or_insert_with(|| ReceiveQueue::new(buffers))
    }

    fn credits(&mut self, qp: u32) -> &mut Credits {
        let buffers = self.shared[usize::from(self.qps[qp as usize].req.profile)].receive_queue;
        self.rare(qp).credits.get_or_insert_with(|| Credits::new(buffers))
    }

    /// A packet for a queue pair with a receive queue: false when it needs a buffer and there is none.
    pub(super) fn buffer_ready(&mut self, now: Time, qp: u32, d: &Data) -> bool {
        let rx = &self.qps[qp as usize].resp.rx;
        if !takes_buffer(d.opcode) || d.psn != rx.expected_psn() || rx.is_dead() {
            return true;
        }
        let queue = self.receive_queue(qp);
        queue.not_ready = queue.free(now) == 0;
        if queue.not_ready {
            self.qps[qp as usize].resp.rx.not_ready();
            return false;
        }
        queue.free -= 1;
        true
    }

    /// A packet with this opcode was handled: its message may give its buffer back.
    pub(super) fn buffer_done(&mut self, now: Time, qp: u32, opcode: Opcode, verdict: Verdict) {
        if !matches!(verdict, Verdict::Complete { .. }) || !(opcode.is_send() || opcode.has_imm()) {
            return;
        }
        let delay = self.shared[usize::from(self.qps[qp as usize].req.profile)].receive_delay;
        self.receive_queue(qp).back.push_back(now + delay);
    }

    /// The syndrome of an answer of a queue pair with a receive queue, which would be `syndrome` without.
    pub(super) fn syndrome(&mut self, now: Time, qp: u32, syndrome: u8) -> u8 {
        let timer = self.shared[usize::from(self.qps[qp as usize].req.profile)].min_rnr_timer;
        let queue = self.receive_queue(qp);
        match Syndrome::from_u8(syndrome) {
            Syndrome::Ack { .. } => aeth::credit_code(queue.free(now)),
            Syndrome::Nak(aeth::NakCode::PsnSequenceError) if queue.not_ready => {
                Syndrome::RnrNak { timer }.to_u8()
            }
            _ => syndrome,
        }
    }

    /// An acknowledgement came: takes its credits, and lets the queue pair look again whether it may send.
    pub(super) fn take_credits(&mut self, qp: u32, at: u32, aeth: Aeth) {
        let Syndrome::Ack { credit } = aeth.meaning() else { return };
        let c = self.credits(qp);
        let limit = match aeth::credits(credit) {
            Some(n) => psn::add(aeth.msn, n),
            None => psn::add(aeth.msn, (1 << 23) - 1),
        };
        if psn::before(c.limit, limit) {
            c.limit = limit;
        }
        if c.probe.is_some_and(|probe| !psn::before(at, probe)) {
            c.probe = None; // it found a buffer: the rest of the message may follow
            if psn::before(c.limit, c.started) {
                c.limit = c.started;
            }
        }
        self.qps[qp as usize].req.flags &= !sender::STALLED;
    }

    /// Whether the packet at the cursor may go out; if not, the queue pair waits for an acknowledgement.
    pub(super) fn has_credit(&mut self, qp: u32) -> bool {
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let p = q.req.packet(shared);
        if p.again || !matches!(shared.verb, Verb::Send | Verb::WriteImm) {
            return true;
        }
        let c = self.credits(qp);
        let number = if p.first { psn::add(c.started, 1) } else { c.started };
        if !psn::before(c.limit, number) {
            return true;
        }
        let probe = p.first && c.probe.is_none();
        let req = &mut self.qps[qp as usize].req;
        match probe {
            true => req.ask(),
            false => req.flags |= sender::STALLED,
        }
        self.stats.credit_waits += u64::from(!probe);
        probe
    }

    /// The first packet of a message went out, with this PSN.
    pub(super) fn credit_used(&mut self, qp: u32, at: u32, beyond: bool) {
        let c = self.credits(qp);
        c.started = psn::add(c.started, 1);
        if beyond && psn::before(c.limit, c.started) {
            c.probe = Some(at);
        }
    }
}
