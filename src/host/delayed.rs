//! Acknowledgements by time: an ACK leaves a while after the first frame that was not acknowledged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Host;
use crate::transport::responder::Verdict;
use crate::units::Time;

/// ACKs that become due, by time and queue pair. An entry whose time is not the queue pair's any more is void.
#[derive(Debug, Default)]
pub(super) struct Delayed(BinaryHeap<Reverse<(Time, u32)>>);

impl Delayed {
    /// When the next one may be due; `NEVER` without any.
    #[inline]
    pub(super) fn next(&self) -> Time {
        self.0.peek().map_or(Time::NEVER, |e| e.0.0)
    }
}

impl Host {
    /// A frame was handled: begins the delay with the first that is not acknowledged at once.
    pub(super) fn delay_ack(&mut self, now: Time, qp: u32, verdict: Verdict) {
        let q = &self.qps[qp as usize];
        let accepted = matches!(verdict, Verdict::Accepted | Verdict::Complete { .. });
        if !accepted || q.resp.rx.wants_control() || q.resp.rx.unacked() == 0 {
            return;
        }
        let at = now + self.shared[usize::from(q.req.profile)].ack_delay;
        let first = q.resp.rx.unacked() == 1;
        let rare = self.rare(qp);
        if first || rare.ack_at < now {
            rare.ack_at = at;
            self.delayed.0.push(Reverse((at, qp)));
        }
    }

    /// Lets ACKs that are due go.
    pub(super) fn release_acks(&mut self, now: Time) {
        while let Some(Reverse((at, qp))) = self.delayed.0.peek().copied().filter(|e| e.0.0 <= now) {
            self.delayed.0.pop();
            if self.rare(qp).ack_at == at && self.qps[qp as usize].resp.rx.unacked() > 0 {
                self.qps[qp as usize].resp.rx.ack_now();
                self.speak(qp);
            }
        }
    }
}
