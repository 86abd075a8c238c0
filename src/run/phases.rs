//! Phases of a run: iterations released one after another, the end of the warm-up, the end of the run.
//!
//! An iteration ends when every rank of every host has finished it; the next starts a gap later, at one nominal time
//! for all. Engines agree through [`Shared`]: each publishes when its own hosts are done, and whoever completes the
//! picture sets the next milestone. The gap is far longer than what engines may run apart, so every engine learns of
//! a milestone before it gets there; [`Phases::late`] says if one ever did not.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::units::{Span, Time};

/// What the engines agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// Results count from here.
    Measure(Time),
    /// Iteration and its start.
    Release(u32, Time),
}

/// The agreement between engines.
#[derive(Debug)]
pub struct Shared {
    warmup: u32,
    iterations: u32,
    gap: Span,
    limit: Time,
    engines: u32,
    /// Number of milestones published; readers look here first.
    published: AtomicU32,
    end: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    milestones: Vec<Milestone>,
    done_engines: u32,
    done_at: Time,
    iterations_done: u32,
    open_loop_engines: u32,
    failures: Vec<String>,
}

impl Shared {
    /// An agreement between `engines` engines that own hosts, over `warmup + repeats` iterations (0 = streams only).
    pub fn new(warmup: u32, repeats: u32, gap: Span, limit: Time, engines: u32) -> Arc<Shared> {
        let iterations = warmup + repeats;
        let mut state = State::default();
        if warmup == 0 {
            state.milestones.push(Milestone::Measure(Time::ZERO));
        }
        if iterations > 0 {
            state.milestones.push(Milestone::Release(0, Time::ZERO));
        }
        Arc::new(Shared {
            warmup,
            iterations,
            gap,
            limit,
            engines,
            published: AtomicU32::new(state.milestones.len() as u32),
            end: AtomicU64::new(limit.0),
            state: Mutex::new(state),
        })
    }

    /// Nominal end of the run, as far as it is known; events at or after it do not happen.
    #[inline]
    pub fn end(&self) -> Time {
        Time(self.end.load(Ordering::Relaxed))
    }

    /// Moves the end of the run forward to `at` (never beyond the limit, never later than it is).
    pub fn end_at(&self, at: Time) {
        self.end.fetch_min(at.min(self.limit).0, Ordering::Release);
    }

    /// Ends the run at `at` (or as soon as it can), with the reason; the first one stays.
    pub fn give_up(&self, at: Time, why: &str) {
        let mut s = self.lock();
        if s.failures.is_empty() {
            s.failures.push(why.to_owned());
        }
        drop(s);
        self.end_at(at);
    }

    /// Iterations that every rank finished, warm-up included.
    pub fn iterations_done(&self) -> u32 {
        self.lock().iterations_done
    }
    /// Iterations of the run, warm-up included.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }
    /// Why iterations could not finish.
    pub fn failures(&self) -> Vec<String> {
        self.lock().failures.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_if_over(&self, s: &State) {
        if s.iterations_done == self.iterations && s.open_loop_engines == self.engines {
            self.end_at(s.done_at + self.gap);
        }
    }

    fn engine_done(&self, at: Time) {
        let mut s = self.lock();
        s.done_engines += 1;
        s.done_at = s.done_at.max(at);
        if s.done_engines < self.engines {
            return;
        }
        s.done_engines = 0;
        s.iterations_done += 1;
        let (done, next) = (s.iterations_done, s.done_at + self.gap);
        if done == self.iterations {
            self.end_if_over(&s);
            return;
        }
        if done == self.warmup {
            s.milestones.push(Milestone::Measure(next));
        }
        s.milestones.push(Milestone::Release(done, next));
        self.published.store(s.milestones.len() as u32, Ordering::Release);
    }
}

/// One engine's view of the agreement.
#[derive(Debug)]
pub struct Phases {
    shared: Arc<Shared>,
    hosts: u32,
    hosts_done: u32,
    done_at: Time,
    taken: u32,
}

impl Phases {
    /// The view of an engine with `hosts` hosts.
    pub fn new(shared: Arc<Shared>, hosts: u32) -> Phases {
        Phases { shared, hosts, hosts_done: 0, done_at: Time::ZERO, taken: 0 }
    }

    /// See [`Shared::end`].
    #[inline]
    pub fn end(&self) -> Time {
        self.shared.end()
    }

    /// The agreement itself.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// One host finished an iteration. Iterations end in order, so a count is enough.
    pub fn host_done(&mut self, _iteration: u32, at: Time) {
        self.hosts_done += 1;
        self.done_at = self.done_at.max(at);
        if self.hosts_done == self.hosts {
            self.hosts_done = 0;
            self.shared.engine_done(self.done_at);
        }
    }

    /// The open-loop streams and timed actions of this engine are over (or it had none).
    pub fn open_loop_done(&mut self, now: Time) {
        let mut s = self.shared.lock();
        s.open_loop_engines += 1;
        s.done_at = s.done_at.max(now);
        self.shared.end_if_over(&s);
    }

    /// Silence between iterations.
    pub fn gap(&self) -> Span {
        self.shared.gap
    }

    /// A queue pair died: the iteration can never finish, so the run ends a gap later, with its reason.
    pub fn host_failed(&mut self, now: Time, iteration: u32, why: String) {
        let mut s = self.shared.lock();
        if s.failures.len() < 16 {
            s.failures.push(format!("iteration {iteration}: {why}"));
        }
        drop(s);
        self.shared.end_at(now + self.shared.gap);
    }

    /// The next milestone this engine has not taken yet.
    #[inline]
    pub fn poll_milestone(&mut self) -> Option<Milestone> {
        if self.taken == self.shared.published.load(Ordering::Acquire) {
            return None;
        }
        let m = self.shared.lock().milestones.get(self.taken as usize).copied();
        self.taken += u32::from(m.is_some());
        m
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iterations_follow_each_other_a_gap_apart_and_the_warmup_ends_once() {
        let shared = Shared::new(1, 2, Span(100), Time(1_000_000), 2);
        let mut a = Phases::new(shared.clone(), 2);
        let mut b = Phases::new(shared.clone(), 1);
        a.open_loop_done(Time::ZERO);
        b.open_loop_done(Time::ZERO);
        assert_eq!(a.poll_milestone(), Some(Milestone::Release(0, Time::ZERO)));
        assert_eq!(a.poll_milestone(), None);
        a.host_done(0, Time(40));
        a.host_done(0, Time(50));
        assert_eq!(b.poll_milestone(), Some(Milestone::Release(0, Time::ZERO)));
        assert_eq!(b.poll_milestone(), None, "one engine is not done");
        b.host_done(0, Time(45));
        assert_eq!(b.poll_milestone(), Some(Milestone::Measure(Time(150))));
        assert_eq!(b.poll_milestone(), Some(Milestone::Release(1, Time(150))));
        for (host, at) in [(0, 200), (1, 210), (2, 220)] {
            if host < 2 { a.host_done(1, Time(at)) } else { b.host_done(1, Time(at)) }
        }
        assert_eq!(shared.end(), Time(1_000_000));
        a.host_done(2, Time(400));
        a.host_done(2, Time(410));
        b.host_done(2, Time(420));
        assert_eq!(shared.end(), Time(520));
        assert_eq!(shared.iterations_done(), 3);
    }

    #[test]
    fn a_dead_queue_pair_ends_the_run_with_its_reason() {
        let shared = Shared::new(0, 5, Span(100), Time(1_000_000), 1);
        let mut a = Phases::new(shared.clone(), 1);
        a.host_failed(Time(300), 2, "rank 3 -> 4: retries exhausted".into());
        assert_eq!(shared.end(), Time(400));
        assert_eq!(shared.failures(), ["iteration 2: rank 3 -> 4: retries exhausted"]);
    }
}
