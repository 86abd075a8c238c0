//! Frames out: PFC first, then ACK, NAK and CNP, then data of whoever may send.

use super::{Failure, Host};
use crate::frame::{Fill, Frame, FramePool, TxBatch, flags};
use crate::hint::prefetch;
use crate::measure::record::Record;
use crate::transport::config::{QPN_FIRST, Verb};
use crate::transport::pace::{Pace, SLOW_GAP};
use crate::transport::qp::Shared;
use crate::transport::ready::UNPAUSED;
use crate::transport::requester::{Packet, Timeout, flags as sender};
use crate::transport::responder::flags as answer;
use crate::units::{FrameLen, Span, Time};
use crate::wire::fast;
use crate::wire::headers::{Aeth, Ext, ImmDt, Reth};
use crate::wire::icrc::AfterHead;
use crate::wire::opcode::Opcode;
use crate::wire::template::{BthFields, Entropy, Template, WireLen};

pub use crate::transport::qp::RKEY;

/// Queue pairs are asked for this many turns before they send: some 100 ns, what the last-level cache takes.
pub(super) const PREFETCH_TURNS: usize = 4;
/// So many templates stay in the caches anyway, whatever other hosts need.
const TEMPLATES_WARM: usize = 16;

/// How one attempt to send went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A frame is in the batch.
    Sent,
    /// Nothing to send there after all; try again.
    Skipped,
    /// Nobody may send.
    Nobody,
    /// The pool is empty.
    PoolEmpty,
}

impl Host {
    /// Appends up to `room` frames that may start at `now` to `out` (as far as it has room), and returns how
    /// many. Control frames come first and obey the pause of their own priority, PFC frames obey none; data
    /// goes round-robin over queue pairs and streams. The driver corrects `meta.start` when it serialises.
    ///
    /// An empty pool is counted and changes nothing: the same frames come with the next call.
    pub fn poll_tx<P: FramePool>(
        &mut self,
        now: Time,
        room: usize,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
        rec: &mut impl Record,
    ) -> usize {
        if self.next_timer() <= now || self.programs.any_dirty() {
            self.advance(now, rec);
        }
        out.forget_alike();
        let mut sent = 0;
        while sent < room {
            let step = if !out.control.is_full() && self.pause_due() {
                self.send_pfc(now, pool, out)
            } else if !out.control.is_full() && self.control.any(self.pfc_rx.mask()) {
                if P::WRITES_BYTES
                    && let acks @ 1.. = self.send_acks(now, room - sent, pool, out)
                {
                    sent += acks;
                    continue;
                }
                self.send_control(now, pool, out)
            } else if !out.data.is_full() {
                if P::WRITES_BYTES {
                    sent += self.send_middles(now, room - sent, pool, out);
                    if sent == room || out.data.is_full() {
                        break;
                    }
                }
                if !self.plain && !self.streams.is_empty() {
                    sent += self.send_streams(now, room - sent, pool, out);
                    if sent == room || out.data.is_full() {
                        break;
                    }
                }
                self.send_data(now, pool, out, rec)
            } else {
                Step::Nobody
            };
            match step {
                Step::Sent => sent += 1,
                Step::Skipped => {}
                Step::Nobody => break,
                Step::PoolEmpty => {
                    self.stats.pool_empty += 1;
                    break;
                }
            }
        }
        if self.programs.any_dirty() {
            self.run_programs(now, rec);
        }
        sent
    }

    /// Brings everything that depends on the time up to date.
    #[inline]
    fn advance(&mut self, now: Time, rec: &mut impl Record) {
        if self.plain {
            self.pfc_rx.advance(now, &mut self.stats, self.port, rec);
        } else {
            self.advance_rare(now, rec);
        }
        while let Some((timer, _)) = self.wheel.pop(now) {
            self.on_timer(now, timer, rec);
        }
        if self.programs.any_dirty() {
            self.run_programs(now, rec);
        }
    }

    /// Brings pauses up to date, and what few hosts have.
    #[inline]
    fn advance_rare(&mut self, now: Time, rec: &mut impl Record) {
        if self.receive.is_some() {
            self.drain(now, rec);
        }
        self.pfc_rx.advance(now, &mut self.stats, self.port, rec);
        if let Some(pauses) = &mut self.pfc_tx {
            pauses.advance(now);
        }
        if self.delayed.next() <= now {
            self.release_acks(now);
        }
        if self.lanes.next() <= now {
            self.leave_lanes(now, rec);
        }
    }

    pub(super) fn on_timer(&mut self, now: Time, timer: u32, rec: &mut impl Record) {
        if timer >= self.timers.program {
            self.programs.touch(timer - self.timers.program);
        } else if timer >= self.timers.ack {
            self.on_ack_timer(now, timer - self.timers.ack, rec);
        } else if (timer as usize) < self.qps.len() {
            self.qps[timer as usize].req.flags &= !sender::PACED;
            self.wake(timer, now);
        } else {
            self.ready.join(self.streams[timer as usize - self.qps.len()].list, timer);
        }
    }

    fn on_ack_timer(&mut self, now: Time, qp: u32, rec: &mut impl Record) {
        let q = &mut self.qps[qp as usize];
        let (req, resend) = (&mut q.req, q.resp.pace.next);
        let shared = &self.shared[usize::from(req.profile)];
        if resend > now && req.rewound() {
            // Its pace holds back what would be sent again: the network has had no chance to answer.
            self.wheel.set(self.timers.ack + qp, resend + shared.ack_timeout);
            return;
        }
        let timeout = req.timeout(now, &self.messages, shared);
        let retried = timeout == Timeout::Retry && shared.delay_based;
        let again = match timeout {
            Timeout::Idle => Time::NEVER,
            Timeout::Later(at) => at,
            Timeout::Retry => {
                self.stats.timeouts += 1;
                now + shared.ack_timeout
            }
            Timeout::Exceeded => {
                self.stats.timeouts += 1;
                req.flags &= !sender::TIMER;
                return self.fail(now, qp, Failure::RetryExceeded, rec);
            }
        };
        if again == Time::NEVER {
            req.flags &= !sender::TIMER;
            return;
        }
        self.wheel.set(self.timers.ack + qp, again);
        if retried {
            self.on_timed_loss(now, qp, true);
        }
        self.wake(qp, now);
    }

    /// Puts a queue pair that has something to send where it belongs: into its list, or into the wheel until
    /// its pace allows the next frame.
    #[inline]
    pub(super) fn wake(&mut self, qp: u32, now: Time) {
        if self.qps[qp as usize].req.flags & (sender::READY | sender::PACED) == 0 {
            self.wake_apart(qp, now);
        }
    }

    #[inline(never)]
    fn wake_apart(&mut self, qp: u32, now: Time) {
        self.wake_at_once(qp, now);
    }

    /// As [`Host::wake`], for those who do it with every frame.
    #[inline(always)]
    fn wake_at_once(&mut self, qp: u32, now: Time) {
        let q = &mut self.qps[qp as usize];
        if q.req.flags & (sender::READY | sender::PACED) != 0 {
            return;
        }
        let shared = &self.shared[usize::from(q.req.profile)];
        let window = window(&self.windows, qp, shared);
        if !q.req.has_work(window) && q.resp.rx.flags & answer::ANSWERS == 0 {
            return;
        }
        if q.resp.pace.next > now {
            q.req.flags |= sender::PACED;
            self.wheel.set(qp, q.resp.pace.next);
        } else {
            q.req.flags |= sender::READY;
            self.ready.join(shared.priority, qp);
        }
    }

    fn send_pfc<P: FramePool>(&mut self, now: Time, pool: &mut P, out: &mut TxBatch<P::Frame>) -> Step {
        let Some(pauses) = &mut self.pfc_tx else { return Step::Nobody };
        let Some((message, form)) = pauses.frame() else { return Step::Nobody };
        let Some(mut frame) = pool.take(Fill::Control, form.len()) else { return Step::PoolEmpty };
        let wire = message.write_as(form, frame.head_mut(), self.mac);
        let meta = frame.meta_mut();
        (meta.intended, meta.flags) = (now, flags::PFC);
        pauses.sent(now, &mut self.stats);
        self.pfc_rx.left(now, UNPAUSED, wire.len);
        self.seal(now, &mut frame, wire, None, u32::MAX, pool);
        out.control.push(frame);
        Step::Sent
    }

    fn send_control<P: FramePool>(&mut self, now: Time, pool: &mut P, out: &mut TxBatch<P::Frame>) -> Step {
        let Some((list, entry)) = self.control.front(self.pfc_rx.mask()) else { return Step::Nobody };
        let (qp, is_cnp) = (entry / 2, entry % 2 == 1);
        if let Some(soon) = self.control.behind(list, PREFETCH_TURNS) {
            self.prefetch_qp(soon / 2);
        }
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let (peer_qpn, sport, template) = (q.peer_qpn(), q.sport(), q.template());
        let rx = &mut q.resp.rx;
        // What a READ is answered with leaves before any later ACK.
        let nothing = rx.flags & (answer::ACK | answer::NAK) == 0 && !shared.ack_each;
        if !is_cnp && (nothing || rx.flags & answer::ANSWERS != 0) {
            rx.flags &= !answer::ACK_QUEUED;
            self.control.leave(list);
            return Step::Skipped;
        }
        if self.templates.get(template as usize).is_none() {
            self.control.leave(list);
            return Step::Skipped;
        }
        // The credits or the RNR timer of a receive queue.
        let special = match (is_cnp, shared.receive_queue) {
            (true, _) | (_, 0) => None,
            _ => {
                let plain = rx.answer().1;
                Some(self.syndrome(now, qp, plain))
            }
        };
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let rx = &mut q.resp.rx;
        let Some(template) = self.templates.get(template as usize) else { return Step::Skipped };
        let ext_len = if is_cnp { 16 } else { 4 };
        let len = FrameLen(shared.base_len + ext_len);
        let Some(mut frame) = pool.take(Fill::Control, len) else { return Step::PoolEmpty };
        let (bth, ext, marking) = if is_cnp {
            rx.flags &= !answer::CNP_QUEUED;
            self.stats.cnp_tx += 1;
            (BthFields::cnp(peer_qpn), Ext::Cnp([0; 16]), shared.markings.cnp)
        } else {
            let (psn, syndrome, msn) = rx.answer();
            let syndrome = special.unwrap_or(syndrome);
            let becn = rx.flags & answer::ECHO != 0;
            rx.flags &= !answer::ECHO;
            rx.answered();
            self.stats.cnp_tx += u64::from(becn);
            match syndrome >> 5 {
                0 => self.stats.ack_tx += 1,
                1 => self.stats.rnr_nak_tx += 1,
                _ => self.stats.nak_tx += 1,
            }
            let opcode = Opcode::RcAck as u8;
            let bth = BthFields { opcode, dest_qp: peer_qpn, psn, becn, ..BthFields::default() };
            (bth, Ext::Aeth(Aeth { syndrome, msn }), shared.markings.ack)
        };
        let flow = Entropy { sport, marking };
        let (wire, after) = write_head::<P>(template, flow, &mut frame, &bth, &ext, 0);
        self.control.leave(list);
        self.pfc_rx.left(now, list, wire.len);
        let meta = frame.meta_mut();
        (meta.intended, meta.class) = (now, shared.class);
        self.seal(now, &mut frame, wire, after, qp, pool);
        out.control.push(frame);
        Step::Sent
    }

    #[inline]
    fn send_data<P: FramePool>(
        &mut self,
        now: Time,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
        rec: &mut impl Record,
    ) -> Step {
        if self.turns.is_some() && !self.give_turn(now) {
            return Step::Nobody;
        }
        let Some((list, id)) = self.ready.front(self.pfc_rx.mask()) else { return Step::Nobody };
        if id as usize >= self.qps.len() {
            return self.send_stream(now, list, id, pool, out);
        }
        if let Some(soon) = self.ready.behind(list, PREFETCH_TURNS) {
            self.prefetch_qp(soon);
        }
        if self.templates.len() > TEMPLATES_WARM
            && let Some(next) = self.ready.behind(list, 1)
        {
            self.prefetch_template(next);
        }
        if self.qps[id as usize].resp.pace.event <= now
            && !(self.turns.is_some() && self.sends_before_check(now, id))
        {
            self.advance_rate(now, id, false);
        }
        let q = &self.qps[id as usize];
        let credits = self.shared[usize::from(q.req.profile)].credits;
        if (q.req.flags & sender::READ != 0 || q.resp.rx.flags & answer::ANSWERS != 0 || credits)
            && let Some(step) = self.send_rare(now, list, id, pool, out)
        {
            return step;
        }
        let q = &mut self.qps[id as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let window = window(&self.windows, id, shared);
        let may = q.req.has_work(window) && q.resp.pace.next <= now;
        let Some(template) = self.templates.get(q.template() as usize).filter(|_| may) else {
            self.ready.leave(list);
            q.req.flags &= !sender::READY;
            self.wake(id, now);
            return Step::Skipped;
        };
        let mut p = q.req.packet(shared);
        // Nobody else may make this queue pair wait for its turns until its own ACK timeout runs out.
        let turns = u64::from(q.req.since_ack_req()) + 1;
        p.ack_req |= turns * self.ready.len(list) as u64 >= u64::from(shared.frames_in_timeout);
        let mut ext = match shared.verb {
            Verb::UdSend => super::datagrams::headers(QPN_FIRST + id, p.tag),
            _ => ext_of(&p, shared.verb),
        };
        let mut offset = 0;
        if shared.fill == Fill::Writable {
            offset = self.memories.address(id, q.req.message_psn(), shared.mtu, &mut p, &mut ext);
        }
        let payload = p.payload_len + u16::from(p.pad);
        let len = FrameLen(shared.base_len + ext.len() as u16 + payload);
        let fill = if payload == 0 { Fill::Control } else { shared.fill };
        let Some(mut frame) = pool.take(fill, len) else { return Step::PoolEmpty };

        let mut counter_expired = false;
        if q.resp.pace.limited() {
            let gap;
            (gap, counter_expired) = charge(&mut q.resp.pace, now, shared, len, p.payload_len);
            p.ack_req |= gap >= SLOW_GAP;
        }
        let bth = BthFields {
            opcode: p.opcode as u8,
            dest_qp: q.peer_qpn(),
            psn: p.psn,
            ack_req: p.ack_req && shared.verb != Verb::UdSend, // nobody would answer
            pad: p.pad,
            becn: false,
        };
        let sport = if shared.sport_per_message {
            let number = u64::from(q.peer_qpn()) << 24 | u64::from(q.req.message_psn());
            0xc000 | crate::rng::mix(number) as u16 & 0x3fff
        } else {
            q.sport()
        };
        let flow = Entropy { sport, marking: shared.markings.data };
        let (wire, after) = write_head::<P>(template, flow, &mut frame, &bth, &ext, p.payload_len);
        if fill == Fill::Writable {
            self.memories.fill(id, offset, p.payload_len, wire, &mut frame);
        }
        let meta = frame.meta_mut();
        (meta.intended, meta.class) = (p.intended, shared.class);
        meta.flags = if p.again { flags::DATA | flags::RETRANSMITTED } else { flags::DATA };

        let class = &mut self.stats.classes[usize::from(shared.class)];
        class.transmissions += 1;
        if p.again {
            class.retransmitted += 1;
            self.stats.retransmitted += 1;
            self.messages.get_mut(p.message).retransmitted += 1;
        } else if p.first {
            self.message_started(now, id, p.message);
        }
        let q = &mut self.qps[id as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        q.req.sent(now, &p, &self.messages, shared);
        let plain = shared.plain_tx;
        if shared.ack_timeout != Span::ZERO && q.req.flags & sender::TIMER == 0 {
            q.req.flags |= sender::TIMER;
            self.wheel.set(self.timers.ack + id, now + shared.ack_timeout);
        }
        self.ready.leave(list);
        self.pfc_rx.left(now, list, wire.len);
        q.req.flags &= !sender::READY;
        if counter_expired {
            self.advance_rate(now, id, true);
        }
        if !plain {
            self.sent_rare(now, id, &p, rec);
        }
        self.wake_at_once(id, now);
        self.seal(now, &mut frame, wire, after, id, pool);
        out.data.push(frame);
        Step::Sent
    }

    /// A packet went out where more than the plain rules act: credits, datagrams.
    #[cold]
    fn sent_rare(&mut self, now: Time, qp: u32, p: &Packet, rec: &mut impl Record) {
        let shared = &self.shared[usize::from(self.qps[qp as usize].req.profile)];
        if shared.verb == Verb::UdSend {
            self.datagram_sent(now, qp, p.psn, rec);
        } else if p.first && !p.again {
            self.credit_used(qp, p.psn, true);
        }
    }

    /// The first frame of a message goes out.
    #[inline]
    pub(super) fn message_started(&mut self, now: Time, qp: u32, message: u32) {
        let message = self.messages.get_mut(message);
        message.started = now;
        let (op, iteration) = (message.op, message.iteration);
        let program = self.cold[qp as usize].program;
        if iteration == self.programs.iteration()
            && let Some(slot) = self.programs.slots.get_mut(program as usize)
        {
            slot.interp.on_send_started(now, op);
            self.programs.touch(program);
        }
    }

    /// A queue pair with answers to READs or a READ at its cursor: they take turns. `None` when a data packet is next.
    #[cold]
    fn send_rare<P: FramePool>(
        &mut self,
        now: Time,
        list: u8,
        qp: u32,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
    ) -> Option<Step> {
        let q = &self.qps[qp as usize];
        if q.resp.pace.next > now {
            return None;
        }
        let shared = &self.shared[usize::from(q.req.profile)];
        let window = window(&self.windows, qp, shared);
        let (work, credits) = (q.req.has_work(window), shared.credits);
        let (answers, read) = (q.resp.rx.flags & answer::ANSWERS != 0, q.req.flags & sender::READ != 0);
        let rare = self.rare(qp);
        if answers && !(work && std::mem::replace(&mut rare.request_next, false)) {
            rare.request_next = true;
            return Some(self.send_answer(now, list, qp, pool, out));
        }
        if work && read {
            return Some(self.send_read(now, list, qp, pool, out));
        }
        if work && credits && !self.has_credit(qp) {
            self.ready.leave(list);
            self.qps[qp as usize].req.flags &= !sender::READY;
            self.wake(qp, now);
            return Some(Step::Skipped);
        }
        None
    }

    /// Says that a frame, whose head is at hand, will come a few frames from now: the rows of its queue pair are asked
    /// for. Worth it where there are more queue pairs than caches hold.
    #[inline]
    pub fn expect<F: Frame>(&self, frame: &F) {
        if let Some(qp) = fast::dest_qp_guess(frame.head()) {
            self.prefetch_qp(qp.wrapping_sub(QPN_FIRST));
        }
    }

    /// Says that a frame, for which [`Host::expect`] was called a frame ago, comes next: what the rows of its queue pair
    /// lead to is asked for.
    #[inline]
    pub fn expect_next<F: Frame>(&self, frame: &F) {
        if let Some(qp) = fast::dest_qp_guess(frame.head())
            && let Some(q) = self.qps.get(qp.wrapping_sub(QPN_FIRST) as usize)
        {
            self.messages.prefetch(q.req.oldest());
            self.prefetch_template(qp.wrapping_sub(QPN_FIRST));
        }
    }

    /// Asks for the rows of a queue pair that will be needed soon.
    #[inline]
    pub(super) fn prefetch_qp(&self, qp: u32) {
        if let Some(q) = self.qps.get(qp as usize) {
            prefetch(&raw const q.req);
            prefetch(&raw const q.resp);
        }
    }

    /// Asks for the headers of a queue pair whose rows are at hand.
    #[inline]
    fn prefetch_template(&self, qp: u32) {
        let template = self.qps.get(qp as usize).and_then(|q| self.templates.get(q.template() as usize));
        if let Some(t) = template {
            prefetch(t);
        }
    }

    /// Completes a frame whose headers are written.
    #[inline(always)]
    pub(super) fn seal<P: FramePool>(
        &mut self,
        now: Time,
        frame: &mut P::Frame,
        wire: WireLen,
        after: Option<AfterHead>,
        flow: u32,
        pool: &mut P,
    ) {
        let meta = frame.meta_mut();
        debug_assert_eq!(meta.len, wire.len);
        (meta.start, meta.flow, meta.src, meta.head_len) = (now, flow, self.port, wire.head_len);
        match &after {
            Some(after) => pool.seal_after(frame, after),
            None => pool.seal(frame),
        }
        self.stats.tx_frames += 1;
        self.stats.tx_bytes += wire.len.counted();
    }
}

/// Packets a queue pair may have in flight: the workload's window, or what rate control makes of it.
#[inline]
pub(super) fn window(windows: &[u32], qp: u32, shared: &Shared) -> u32 {
    windows.get(qp as usize).copied().unwrap_or(shared.window)
}

/// Writes the headers of a frame; where the pool writes bytes, says how its CRC stands then.
#[inline(always)]
pub(super) fn write_head<P: FramePool>(
    template: &Template,
    flow: Entropy,
    frame: &mut P::Frame,
    bth: &BthFields,
    ext: &Ext,
    payload_len: u16,
) -> (WireLen, Option<AfterHead>) {
    let head = frame.head_mut();
    let wire = template.write_as(flow, head, bth, ext, payload_len);
    let after = P::WRITES_BYTES.then(|| AfterHead {
        register: template.register(flow.sport, bth, head, wire),
        payload_len,
        pad: bth.pad,
    });
    (wire, after)
}

/// Accounts for a frame with so many payload bytes: the gap behind it, and whether the byte counter has expired.
#[inline]
pub(super) fn charge(
    pace: &mut Pace,
    now: Time,
    shared: &Shared,
    len: FrameLen,
    payload_len: u16,
) -> (Span, bool) {
    if !pace.limited() {
        return (Span::ZERO, false);
    }
    let gap = match shared.pace_overhead {
        0 => pace.charge(now, len),
        overhead => pace.charge_whole_ns(now, u64::from(payload_len + overhead)),
    };
    pace.bytes_left = pace.bytes_left.saturating_sub(u32::from(len.0) + 4);
    (gap, pace.bytes_left == 0)
}

/// Extended headers of a data packet. The tag of a message travels in the upper half of RETH's address, or as
/// the immediate data of a SEND.
#[inline]
fn ext_of(p: &Packet, verb: Verb) -> Ext {
    let reth = Reth { va: super::rx::addr_va(p.tag, 0), rkey: RKEY, dma_len: p.msg_bytes };
    match (verb, p.first, p.last) {
        (Verb::Write | Verb::Read, true, _) | (Verb::WriteImm, true, false) => Ext::Reth(reth),
        (Verb::WriteImm, true, true) => Ext::RethImm(reth, ImmDt(p.tag)),
        (Verb::WriteImm | Verb::Send, _, true) => Ext::Imm(ImmDt(p.tag)),
        _ => Ext::None,
    }
}
