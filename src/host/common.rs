//! Packets in the middle of messages, and ACKs, where frames have real bytes: sent by a short way that does what the long
//! one does.

use super::Host;
use super::tx::{PREFETCH_TURNS, window};
use crate::frame::{
    Fill, Frame, FrameMeta, FramePool, STAMPED, STAMPED_ASKS, TxBatch, Written, flags as frame_flags,
};
use crate::hint::prefetch;
use crate::limits::BURST;
use crate::transport::config::Verb;
use crate::transport::qp::Qp;
use crate::transport::requester::flags as sender;
use crate::transport::responder::flags as answer;
use crate::units::{Span, Time};
use crate::wire::common::CommonHead;
use crate::wire::fixed::PsnSums;
use crate::wire::headers::Aeth;
use crate::wire::icrc::Advance;
use crate::wire::opcode::Opcode;
use crate::wire::stamp::{self, STAMP, Signature};
use crate::wire::{HEAD_MAX, psn};

/// Heads of one profile between two addresses.
#[derive(Clone, Debug)]
pub(super) struct Heads {
    middle: CommonHead,
    ack: CommonHead,
}

/// What packets in the middle of messages need besides their heads.
#[derive(Debug, Default)]
pub(super) struct Middles {
    signature: Option<Signature>,
    /// By profile.
    sums: Vec<Option<Sums>>,
    /// By queue pair; of time `NEVER` before the first.
    next: Vec<Next>,
}

/// Checksums of such packets of one profile.
#[derive(Debug)]
struct Sums {
    psn: PsnSums,
    /// From behind a stamp to the end of the payload, where one has room.
    behind: Option<Advance>,
}

impl Sums {
    fn of(payload_len: u16, head_len: u8) -> Sums {
        let fits = usize::from(head_len) + STAMP <= HEAD_MAX;
        let behind = stamp::behind(payload_len).filter(|_| fits).map(Advance::new);
        Sums { psn: PsnSums::of(payload_len, 0, 0), behind }
    }
}

/// The ICRC of the next such packet of a queue pair, without AckReq, provided that it has this PSN and this time.
#[derive(Clone, Copy, Debug)]
struct Next {
    intended: Time,
    psn: u32,
    icrc: u32,
}

/// Bytes of memory per queue pair, where frames have real bytes.
pub(super) const BYTES_PER_QP: usize = size_of::<Next>();

impl Next {
    #[cold]
    #[inline(never)]
    fn of(
        middle: &CommonHead,
        sums: &Sums,
        signature: Option<Signature>,
        (q, id): (&Qp, u32),
        (psn, intended): (u32, Time),
    ) -> Next {
        let mut icrc = sums.psn.icrc(middle.register(q.sport(), q.peer_qpn()), psn);
        if let (Some(s), Some(behind)) = (signature, &sums.behind) {
            icrc ^= behind.over(s.change(id, Time::ZERO, intended));
        }
        Next { intended, psn, icrc }
    }
}

impl Host {
    /// Drivers carry stamps with this signature in their payloads: it may be written here already, all but the time.
    pub fn sign(&mut self, signature: Signature) {
        self.middles.signature = Some(signature);
    }

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
            // Whatever else is next goes the long way.
            let Some(left @ 1..) = self.send_row(now, list, room - sent, pool, out) else { break };
            sent += left;
        }
        sent
    }

    /// Sends the packets of queue pairs that come next in `list`, one each, as long as they are such, of one profile and
    /// between the same two addresses. `None` when not even the first is.
    #[inline]
    fn send_row<P: FramePool>(
        &mut self,
        now: Time,
        list: u8,
        room: usize,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
    ) -> Option<usize> {
        let row = self.ready.row(list);
        let mut waiting = row.len();
        let first = row.get(0)?;
        let q = self.qps.get(first as usize)?;
        let (profile, template) = (q.req.profile, q.template());
        let shared = self.shared.get(usize::from(profile))?;
        if !shared.plain_middle || shared.fill != Fill::Const || shared.priority != list {
            return None;
        }
        q.req.middle(window(&self.windows, first, shared), shared)?;
        let slot = usize::from(profile) * self.templates.len() + template as usize;
        let Some(Some(Heads { middle, .. })) = self.common.get(slot) else {
            self.lay_out(first, slot);
            return None;
        };
        let sums = self.middles.sums.get(usize::from(profile))?.as_ref()?;
        let signature = self.middles.signature.filter(|_| sums.behind.is_some());
        let meta = FrameMeta {
            start: now,
            src: self.port,
            len: middle.len(),
            head_len: middle.head_len(),
            fill: Fill::Const,
            class: shared.class,
            flags: frame_flags::DATA,
            driver: if signature.is_some() { STAMPED } else { 0 },
            ..FrameMeta::default()
        };
        let (mut again, mut agains) = ([0; BURST], 0);
        let (qps, nexts) = (&mut self.qps[..], &mut self.middles.next[..]);
        let before = out.data.len();
        let taken = pool.write_many(&meta, room.min(waiting), &mut out.data, |i, frame| {
            if let Some(q) = row.get(i + PREFETCH_TURNS).and_then(|qp| qps.get(qp as usize)) {
                prefetch(&raw const q.req);
                prefetch(&raw const q.resp);
            }
            let Some(id) = row.get(i) else { return Written::Nothing };
            let (Some(q), Some(next)) = (qps.get_mut(id as usize), nexts.get_mut(id as usize)) else {
                return Written::Nothing;
            };
            let alike = q.req.profile == profile && q.template() == template;
            let paced = q.resp.pace.limited() || q.resp.pace.next > now || q.resp.pace.event <= now;
            let window = window(&self.windows, id, shared);
            let Some(mut p) = q.req.middle(window, shared) else { return Written::Nothing };
            if !alike || paced || q.resp.rx.flags & answer::ANSWERS != 0 {
                return Written::Nothing;
            }
            // See the long way.
            let turns = u64::from(q.req.since_ack_req()) + 1;
            p.ack_req |= turns * waiting as u64 >= u64::from(shared.frames_in_timeout);
            let intended = q.req.intended();
            if (next.psn, next.intended) != (p.psn, intended) {
                *next = Next::of(middle, sums, signature, (q, id), (p.psn, intended));
            }
            let m = frame.meta_mut();
            (m.intended, m.flow) = (intended, id);
            let mut icrc = next.icrc;
            if p.ack_req {
                icrc ^= sums.psn.ask();
                m.driver = if signature.is_some() { STAMPED_ASKS } else { 0 };
            }
            next.icrc = sums.psn.next(next.icrc, p.psn);
            next.psn = psn::add(p.psn, 1);
            let flow = (q.sport(), q.peer_qpn(), p.psn, p.ack_req);
            middle.write(frame.head_mut(), flow, signature.map(|s| (s.first_word(id), intended.0)));
            let more = q.req.sent_middle(now, p.ack_req, window);
            if shared.ack_timeout != Span::ZERO && q.req.flags & sender::TIMER == 0 {
                q.req.flags |= sender::TIMER;
                self.wheel.set(self.timers.ack + id, now + shared.ack_timeout);
            }
            // A queue pair whose window is full is woken by an acknowledgement. At most a burst of the others.
            again[agains & (BURST - 1)] = id;
            agains += usize::from(more);
            if !more {
                q.req.flags &= !sender::READY;
                waiting -= 1;
            }
            Written::Whole(icrc)
        });
        let (class, len) = (usize::from(shared.class), meta.len);
        out.note_alike(before, len);
        self.ready.leave_many(list, taken);
        self.ready.join_many(list, again.get(..agains).unwrap_or_default());
        let n = taken as u64;
        self.stats.classes[class].transmissions += n;
        self.pfc_rx.left_many(now, list, len, n);
        self.stats.tx_frames += n;
        self.stats.tx_bytes += n * len.counted();
        Some(taken)
    }

    /// Sends the ACKs that come next among all control frames, as long as they are no more than that, of one profile and
    /// between the same two addresses. Returns how many left.
    #[inline]
    pub(super) fn send_acks<P: FramePool>(
        &mut self,
        now: Time,
        room: usize,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
    ) -> usize {
        let Some(list) = self.control.only(self.pfc_rx.mask()) else { return 0 };
        let row = self.control.row(list);
        let Some(qp) = row.get(0).map(|sender| sender / 2) else { return 0 };
        let Some(q) = self.qps.get(qp as usize) else { return 0 };
        let (profile, template) = (q.req.profile, q.template());
        let Some(shared) = self.shared.get(usize::from(profile)) else { return 0 };
        if shared.receive_queue != 0 || shared.ack_each {
            return 0;
        }
        let slot = usize::from(profile) * self.templates.len() + template as usize;
        let Some(Some(Heads { ack, .. })) = self.common.get(slot) else {
            self.lay_out(qp, slot);
            return 0;
        };
        let meta = FrameMeta {
            intended: now,
            start: now,
            src: self.port,
            len: ack.len(),
            head_len: ack.head_len(),
            fill: Fill::Control,
            class: shared.class,
            ..FrameMeta::default()
        };
        let qps = &mut self.qps[..];
        let taken = pool.write_many(&meta, room.min(row.len()), &mut out.control, |i, frame| {
            if let Some(q) = row.get(i + PREFETCH_TURNS).and_then(|s| qps.get(s as usize / 2)) {
                prefetch(&raw const q.req);
                prefetch(&raw const q.resp);
            }
            let Some(sender) = row.get(i) else { return Written::Nothing };
            let Some(q) = qps.get_mut(sender as usize / 2) else { return Written::Nothing };
            let special = answer::NAK | answer::DEAD | answer::ECHO | answer::ANSWERS;
            let plain = sender % 2 == 0 && q.resp.rx.flags & (answer::ACK | special) == answer::ACK;
            if !plain || q.req.profile != profile || q.template() != template {
                return Written::Nothing;
            }
            let (psn, syndrome, msn) = q.resp.rx.answer();
            frame.meta_mut().flow = sender / 2;
            let aeth = Aeth { syndrome, msn };
            let icrc = ack.write_ack(frame.head_mut(), q.sport(), q.peer_qpn(), psn, aeth);
            q.resp.rx.answered();
            Written::Whole(icrc)
        });
        let n = taken as u64;
        self.stats.ack_tx += n;
        self.control.leave_many(list, taken);
        self.pfc_rx.left_many(now, list, meta.len, n);
        self.stats.tx_frames += n;
        self.stats.tx_bytes += n * meta.len.counted();
        taken
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
        let mut middle = CommonHead::middle(template, shared.markings.data, opcode, shared.mtu);
        if self.middles.signature.is_some() {
            middle.for_stamps();
        }
        let (payload_len, pad) = middle.payload();
        let profile = usize::from(q.req.profile);
        self.middles.sums.resize_with(self.shared.len(), || None);
        self.middles.next.resize(self.qps.len(), Next { intended: Time::NEVER, psn: 0, icrc: 0 });
        // The long way writes pads.
        if let Some(sums) = self.middles.sums.get_mut(profile).filter(|_| pad == 0) {
            sums.get_or_insert_with(|| Sums::of(payload_len, middle.head_len()));
        }
        if let Some(heads) = self.common.get_mut(slot) {
            *heads = Some(Heads { middle, ack: CommonHead::ack(template, shared.markings.ack) });
        }
    }
}
