//! Rate control as queue pairs feel it: what CNPs, timed acknowledgements and losses do to pace and window.

use super::Host;
use crate::transport::dcqcn::ReactionPoint;
use crate::transport::pace::Pace;
use crate::transport::qp::{Qp, Shared};
use crate::transport::rate::{RateControl, Reaction};
use crate::transport::requester::flags as sender;
use crate::transport::swift::Swift;
use crate::units::{FrameLen, Rate, Span, Time, WIRE_OVERHEAD_BYTES};

/// A new queue pair takes over the initial state of its rate control: its window, given the workload's.
pub(super) fn begin(qp: &mut Qp, state: &Reaction, window: u32) -> u32 {
    let Reaction::Swift(s) = state else { return window };
    qp.resp.pace.event = Time::ZERO; // the first packet is timed
    window.min(s.allowance().window)
}

impl Host {
    /// The state and the parameters of a queue pair's rate control, and the window it may set.
    #[allow(clippy::type_complexity)]
    fn reaction(&mut self, qp: u32) -> Option<(&mut Reaction, &RateControl, &mut Qp, Option<&mut u32>)> {
        let q = &mut self.qps[qp as usize];
        let workload = self.shared[usize::from(q.req.profile)].workload;
        let state = self.reactions.get_mut(qp as usize)?.as_mut()?;
        Some((state, self.controls.get(usize::from(workload))?, q, self.windows.get_mut(qp as usize)))
    }

    /// A CNP arrived, or an acknowledgement that says the same.
    pub(super) fn on_cnp(&mut self, now: Time, qp: u32) {
        self.stats.cnp_rx += 1;
        if let Some((Reaction::Dcqcn(r), RateControl::Dcqcn(p), q, _)) = self.reaction(qp) {
            let before = (r.rate(), r.saturated());
            let cut = r.on_cnp(p, now);
            let pace = &mut q.resp.pace;
            apply_rate(pace, now, r, before, p.ordered.is_some());
            if cut {
                restart(pace, now, p.byte_counter);
            }
        }
    }

    /// Lets rate control catch up before a frame goes out.
    pub(super) fn advance_rate(&mut self, now: Time, qp: u32, byte_counter_expired: bool) {
        match self.reaction(qp) {
            Some((Reaction::Dcqcn(r), RateControl::Dcqcn(p), q, _)) => {
                let pace = &mut q.resp.pace;
                let before = (r.rate(), r.saturated());
                if r.advance(p, now) {
                    restart(pace, now, p.byte_counter);
                }
                if byte_counter_expired {
                    pace.bytes_left = counter(p.byte_counter);
                    if p.byte_counter != 0 {
                        r.on_bytes(p);
                    }
                }
                apply_rate(pace, now, r, before, p.ordered.is_some());
            }
            Some((Reaction::Swift(_), _, q, _)) if byte_counter_expired => q.resp.pace.bytes_left = u32::MAX,
            Some((Reaction::Swift(s), _, q, Some(window))) => {
                // The packet that is about to leave is timed, if it is a new one.
                let leaves = q.req.has_work(*window) && q.resp.pace.next <= now;
                if let Some(psn) = q.req.fresh().filter(|_| leaves) {
                    s.stamp(now, psn, q.req.acknowledged());
                    q.req.ask();
                    q.resp.pace.event = Time::NEVER;
                }
            }
            _ => {
                let pace = &mut self.qps[qp as usize].resp.pace;
                (pace.event, pace.bytes_left) = (Time::NEVER, u32::MAX);
            }
        }
    }

    /// Swift: something new was acknowledged, by a frame that crossed `hops` switches.
    pub(super) fn on_timed_ack(&mut self, now: Time, qp: u32, hops: u8) {
        let limits = self.limits(qp);
        let Some((Reaction::Swift(s), RateControl::Swift(p), q, window)) = self.reaction(qp) else { return };
        if !s.on_ack(p, now, q.req.acknowledged(), hops) {
            return;
        }
        let paced = q.resp.pace.limited();
        apply_window(q, window, s, limits);
        if paced && !q.resp.pace.limited() && q.resp.pace.next > now {
            // A window again: what the pace held back may go at once.
            q.resp.pace.next = now;
            if q.req.flags & sender::PACED != 0 {
                self.wheel.set(qp, now);
            }
        }
    }

    /// Swift: packets of a queue pair were lost.
    #[cold]
    pub(super) fn on_timed_loss(&mut self, now: Time, qp: u32, timeout: bool) {
        let limits = self.limits(qp);
        if let Some((Reaction::Swift(s), RateControl::Swift(p), q, window)) = self.reaction(qp) {
            s.on_loss(p, now, timeout);
            apply_window(q, window, s, limits);
        }
    }

    /// Swift: packets of a queue pair are sent again because the receiver was not ready; their times say nothing.
    #[cold]
    pub(super) fn forget_timed(&mut self, qp: u32) {
        if let Some((Reaction::Swift(s), _, q, _)) = self.reaction(qp) {
            s.forget();
            q.resp.pace.event = Time::ZERO;
        }
    }

    fn shared_of(&self, qp: u32) -> &Shared {
        &self.shared[usize::from(self.qps[qp as usize].req.profile)]
    }

    fn limits(&self, qp: u32) -> Limits {
        let shared = self.shared_of(qp);
        Limits { window: shared.window, full: FrameLen(shared.base_len + shared.mtu) }
    }
}

/// What a window is held against.
#[derive(Clone, Copy)]
struct Limits {
    /// The workload's own window, packets.
    window: u32,
    /// Length of a packet with a whole MTU of payload.
    full: FrameLen,
}

/// Takes over Swift's window, or below one packet the pace that stands for it.
fn apply_window(q: &mut Qp, window: Option<&mut u32>, s: &Swift, limits: Limits) {
    let allowed = s.allowance();
    if let Some(window) = window {
        *window = allowed.window.min(limits.window);
    }
    let pace = &mut q.resp.pace;
    if !s.timing() {
        pace.event = Time::ZERO;
    }
    if allowed.gap == Span::ZERO {
        pace.lift();
    } else {
        let bits = u128::from(limits.full.0 + WIRE_OVERHEAD_BYTES) * 8 * 1_000_000_000_000;
        let rate = u64::try_from(bits / u128::from(allowed.gap.0)).unwrap_or(u64::MAX);
        pace.set_rate(Rate { bits_per_s: rate });
    }
}

/// Takes over the rate DCQCN decided, given what it was and whether nothing was left to recover.
fn apply_rate(pace: &mut Pace, now: Time, r: &ReactionPoint, before: (Rate, bool), whole_ns: bool) {
    pace.event = r.next_event();
    if before == (r.rate(), r.saturated()) {
        return;
    }
    if r.saturated() {
        pace.lift();
        return;
    }
    if !pace.limited() {
        pace.forget_lag(now);
    }
    match whole_ns {
        true => pace.set_whole_rate(r.rate()),
        false => pace.set_rate(r.rate()),
    }
}

/// After a cut the new rate holds at once, and the byte counter starts again.
fn restart(pace: &mut Pace, now: Time, byte_counter: u64) {
    pace.forget_lag(now);
    pace.bytes_left = counter(byte_counter);
}

fn counter(bytes: u64) -> u32 {
    if bytes == 0 { u32::MAX } else { u32::try_from(bytes).unwrap_or(u32::MAX) }
}
