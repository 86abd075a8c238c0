//! Turns of queue pairs as a simulated NIC gives them: by place in the list of those that began, from the last one on.
//!
//! Only for comparisons with that simulator (HPCC ns-3): a queue pair that is done leaves the list when a search meets
//! it, and the places behind move up without the last turn being moved with them.

use super::Host;
use crate::transport::rate::{RateControl, Reaction};
use crate::units::{Span, Time};

/// Who began, in order, and the place that had the last turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// How long ago the alarm was set that is ringing.
    alarm: Span,
    began: Vec<u32>,
    last: usize,
}

/// What a queue pair is to a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// May send.
    Free,
    /// Done.
    Done,
    /// Has to wait, or has nothing to send.
    Waits,
}

impl Turns {
    fn next(&mut self, state: impl Fn(u32) -> State) -> Option<u32> {
        let n = self.began.len();
        let (mut free, mut done) = (None, usize::MAX);
        for place in (1..=n).map(|k| (k + self.last) % n) {
            match state(self.began[place]) {
                State::Free => {
                    free = Some(self.began[place]);
                    break;
                }
                State::Done => done = done.min(place),
                State::Waits => {}
            }
        }
        if done != usize::MAX {
            let mut place = 0;
            self.began.retain(|&qp| {
                let stays = place < done || state(qp) != State::Done;
                place += 1;
                stays
            });
        }
        let place = self.began.iter().position(|qp| Some(*qp) == free)?;
        self.last = place;
        free
    }
}

impl Host {
    /// A message was posted: its queue pair begins.
    #[cold]
    pub(super) fn begin_turns(&mut self, qp: u32) {
        if let Some(turns) = &mut self.turns
            && !turns.began.contains(&qp)
        {
            turns.began.push(qp);
        }
    }

    /// Puts whose turn it is at the front of its list; false when nobody may send.
    #[cold]
    pub(super) fn give_turn(&mut self, now: Time) -> bool {
        let Some(turns) = &mut self.turns else { return true };
        let (qps, shared, paused) = (&self.qps, &self.shared, self.pfc_rx.mask());
        let next = turns.next(|qp| {
            let q = &qps[qp as usize];
            let shared = &shared[usize::from(q.req.profile)];
            match q.req.has_work(shared.window) && paused & 1 << shared.priority == 0 {
                true if q.resp.pace.next <= now => State::Free,
                false if q.req.idle() => State::Done,
                _ => State::Waits,
            }
        });
        let Some(qp) = next else { return false };
        let list = shared[usize::from(qps[qp as usize].req.profile)].priority;
        self.ready.prefer(list, qp);
        true
    }

    /// When the first of those with something to send may, if that is still to come.
    pub fn next_turn(&self, now: Time) -> Option<Time> {
        let began = self.turns.iter().flat_map(|t| &t.began).map(|qp| &self.qps[*qp as usize]);
        let waiting = began.filter(|q| q.req.has_work(self.shared[usize::from(q.req.profile)].window));
        waiting.map(|q| q.resp.pace.next).min().filter(|at| *at > now)
    }

    /// The alarm of [`Host::next_turn`] rings, set so long ago; `None`: it has rung.
    pub fn ring(&mut self, set: Option<Span>) {
        if let Some(turns) = &mut self.turns {
            turns.alarm = set.unwrap_or_default();
        }
    }

    /// A frame and a check of the rate fall on one instant, and the alarm for the frame was set before that for the
    /// check: it leaves, and is paced, at the rate before.
    #[cold]
    pub(super) fn sends_before_check(&self, now: Time, qp: u32) -> bool {
        let workload = self.shared[usize::from(self.qps[qp as usize].req.profile)].workload;
        let reaction = self.reactions.get(qp as usize).and_then(Option::as_ref);
        let control = self.controls.get(usize::from(workload));
        let (Some(turns), Some(Reaction::Dcqcn(r)), Some(RateControl::Dcqcn(p))) =
            (&self.turns, reaction, control)
        else {
            return false;
        };
        r.next_check() == now && turns.alarm > p.decrease_period
    }

    /// When a program goes on by itself.
    pub fn next_start(&self) -> Time {
        self.programs.slots.iter().map(|s| s.interp.next_deadline()).min().unwrap_or(Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_round_and_the_done_leave_when_met() {
        let mut turns = Turns { began: vec![7, 8, 9], ..Turns::default() };
        let all = |_| State::Free;
        assert_eq!([turns.next(all), turns.next(all), turns.next(all)], [Some(8), Some(9), Some(7)]);
        // 8 is met and leaves; 9 moves to place 1 and has the turn there.
        assert_eq!(turns.next(|qp| if qp == 8 { State::Done } else { State::Free }), Some(9));
        assert_eq!((turns.began.clone(), turns.last), (vec![7, 9], 1));
        assert_eq!(turns.next(|qp| if qp == 7 { State::Done } else { State::Waits }), None);
        assert_eq!(turns.next(|_| State::Free), Some(9));
    }
}
