//! Packets in the middle of messages, and ACKs, that come in one behind the other where frames have real bytes: what they
//! have in common is looked at once.

use super::Host;
use super::rx::{MIDDLE_SEND, MIDDLE_WRITE, addr_of};
use crate::frame::{Frame, Port};
use crate::measure::record::Record;
use crate::transport::config::QPN_FIRST;
use crate::transport::qp::{Qp, Shared};
use crate::transport::requester::flags as sender;
use crate::transport::responder::flags;
use crate::units::{ClassIx, FrameLen, Time};
use crate::wire::fast::{self, Fast};
use crate::wire::form::{Fields, Form, opcode_guess, syndrome};
use crate::wire::opcode::Opcode;
use crate::wire::{HEAD_MAX, psn};

const ACK: u8 = Opcode::RcAck as u8;

/// Packets of one kind with headers of one form, for queue pairs of one profile.
#[derive(Debug)]
struct Streak {
    form: Form,
    /// Fold of their addresses.
    addr: u32,
    profile: u16,
    len: FrameLen,
    /// Where payloads begin, and their bytes.
    payload: (u8, u16),
    is_send: bool,
    /// Taken in and not counted yet.
    frames: u64,
}

impl Streak {
    /// The queue pair of a frame of this form; `None` when it is of others, which ends the streak, as more of them may follow.
    #[inline(always)]
    fn of<'h>(
        &mut self,
        qp: u32,
        qps: &'h mut [Qp],
        shared: &'h [Shared],
    ) -> Option<(&'h mut Qp, &'h Shared)> {
        let found = (qps.get_mut(qp as usize)?, shared.get(usize::from(self.profile))?);
        if found.0.req.addr != self.addr || found.0.req.profile != self.profile {
            self.form = Form::NONE;
            return None;
        }
        Some(found)
    }
}

/// What comes in one behind the other.
#[derive(Debug, Default)]
pub struct Streaks {
    middles: Streak,
    acks: Streak,
}

impl Default for Streak {
    fn default() -> Streak {
        Streak {
            form: Form::NONE,
            addr: 0,
            profile: 0,
            len: FrameLen(0),
            payload: (0, 0),
            is_send: false,
            frames: 0,
        }
    }
}

impl Host {
    /// Takes a frame of `port` that arrived at `now` when it is a packet in the middle of a message, the next one and as it
    /// should be, or an ACK, and nothing else may act. False when it is not: then nothing has happened. `is_right` may refuse
    /// it.
    ///
    /// To be counted with [`Host::count_streaks`] before anybody looks at counters.
    #[inline(always)]
    pub fn on_streak<P: Port>(
        &mut self,
        now: Time,
        (port, frame): (&mut P, &mut P::Frame),
        streaks: &mut Streaks,
        rec: &mut impl Record,
        mut is_right: impl FnMut(&P::Frame) -> bool,
    ) -> bool {
        let (head, len, Streaks { middles, acks }) = (frame.head(), frame.len(), streaks);
        if middles.form.fits(head, len)
            || matches!(opcode_guess(head), MIDDLE_SEND | MIDDLE_WRITE)
                && self.begin_middles(head, len, middles)
        {
            return self.on_middle(now, (port, frame), middles, rec, &mut is_right);
        }
        (acks.form.fits(head, len) || opcode_guess(head) == ACK && self.begin_acks(head, len, acks))
            && self.on_ack(now, (port, frame), acks, rec, &mut is_right)
    }

    #[inline(always)]
    fn on_middle<P: Port>(
        &mut self,
        now: Time,
        (port, frame): (&mut P, &mut P::Frame),
        streak: &mut Streak,
        rec: &mut impl Record,
        is_right: &mut impl FnMut(&P::Frame) -> bool,
    ) -> bool {
        let Fields { dest_qp, psn, ack_req, ecn, .. } = Fields::of(frame.head());
        let qp = dest_qp.wrapping_sub(QPN_FIRST);
        let Some((q, shared)) = streak.of(qp, &mut self.qps, &self.shared) else { return false };
        if !q.resp.rx.expects_full(streak.is_send, psn) {
            return false;
        }
        if !is_right(frame) || !port.admit_middle(streak.payload, ecn, frame) {
            return true;
        }
        streak.frames += 1;
        let rx = &mut q.resp.rx;
        rx.take_middle(ack_req, shared);
        if rx.wants_control() && !shared.ack_each && ecn != 3 {
            rx.flags |= flags::ACK_QUEUED;
            self.control.join(shared.ack_priority, 2 * qp);
        }
        rec.arrival(now, frame.meta(), ClassIx(shared.class));
        if ecn == 3 || shared.ack_each {
            self.on_middle_marked(now, qp, ecn == 3);
        }
        true
    }

    #[inline(always)]
    fn on_ack<P: Port>(
        &mut self,
        now: Time,
        (port, frame): (&mut P, &mut P::Frame),
        streak: &mut Streak,
        rec: &mut impl Record,
        is_right: &mut impl FnMut(&P::Frame) -> bool,
    ) -> bool {
        let Fields { dest_qp, psn: at, becn, .. } = Fields::of(frame.head());
        let qp = dest_qp.wrapping_sub(QPN_FIRST);
        let Some((q, shared)) = streak.of(qp, &mut self.qps, &self.shared) else { return false };
        let positive = syndrome(frame.head()) >> 5 == 0;
        if !positive || becn || q.req.flags & sender::READS_OUT != 0 {
            return false;
        }
        if !is_right(frame) || !port.admit_ack(dest_qp, at, frame) {
            return true;
        }
        streak.frames += 1;
        if !q.req.acknowledge(now, psn::add(at, 1), shared) {
            return true;
        }
        self.complete(now, qp, rec);
        self.wake(qp, now);
        if self.programs.any_dirty() {
            self.run_programs(now, rec);
        }
        true
    }

    /// Begins another streak of packets in the middle of messages with this one; false when it is none of any.
    #[inline(never)]
    fn begin_middles(&mut self, head: &[u8; HEAD_MAX], len: FrameLen, streak: &mut Streak) -> bool {
        let Some(first) = fast::parse_usual(head, len) else { return false };
        let Some(qp) = self.next_middle(&first) else { return false };
        self.count_middles(streak);
        *streak = self.streak(qp, &first, head, len);
        true
    }

    /// Begins another streak of ACKs with this one.
    #[inline(never)]
    fn begin_acks(&mut self, head: &[u8; HEAD_MAX], len: FrameLen, streak: &mut Streak) -> bool {
        let Some(first) = fast::parse_usual(head, len) else { return false };
        let qp = first.dest_qp.wrapping_sub(QPN_FIRST);
        let Some(q) = self.qps.get(qp as usize) else { return false };
        let shared = &self.shared[usize::from(q.req.profile)];
        let special = shared.credits || shared.delay_based || !self.direct;
        if special || first.payload_len > 0 {
            return false;
        }
        self.count_acks(streak);
        *streak = self.streak(qp, &first, head, len);
        true
    }

    fn streak(&self, qp: u32, first: &Fast, head: &[u8; HEAD_MAX], len: FrameLen) -> Streak {
        Streak {
            form: Form::of(head, len),
            addr: addr_of(first.src, first.dst),
            profile: self.qps[qp as usize].req.profile,
            len,
            payload: (first.head_len(), first.payload_len),
            is_send: first.opcode == MIDDLE_SEND,
            frames: 0,
        }
    }

    /// Counts what has been taken in, and ends the streaks.
    #[inline]
    pub fn count_streaks(&mut self, streaks: &mut Streaks) {
        self.count_middles(&mut streaks.middles);
        self.count_acks(&mut streaks.acks);
    }

    #[inline]
    fn count_middles(&mut self, streak: &mut Streak) {
        let n = self.count(streak);
        let Some(shared) = self.shared.get(usize::from(streak.profile)).filter(|_| n > 0) else { return };
        self.stats.classes[usize::from(shared.class)].arrivals += n;
        self.stats.payload_bytes += n * u64::from(shared.mtu);
    }

    #[inline]
    fn count_acks(&mut self, streak: &mut Streak) {
        self.stats.ack_rx += self.count(streak);
    }

    #[inline]
    fn count(&mut self, streak: &mut Streak) -> u64 {
        streak.form = Form::NONE;
        let n = std::mem::take(&mut streak.frames);
        self.stats.rx_frames += n;
        self.stats.rx_bytes += n * streak.len.counted();
        n
    }
}
