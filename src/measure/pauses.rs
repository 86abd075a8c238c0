//! Pauses of tester ports: the union of paused intervals per port and priority.

use serde::Serialize;

use crate::limits::PRIORITIES;
use crate::units::{Span, Time};

/// Pauses of one port and priority since the measurement began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PauseSummary {
    /// Paused time in all. Intervals of one priority never overlap, so this is their union.
    pub paused: Span,
    /// Longest interval.
    pub longest: Span,
    /// When the first pause began; `NEVER` when there was none. A pause that began before the measurement counts
    /// from the measurement's start in `paused` and `longest`, and not at all here and in `pauses`.
    pub first: Time,
    /// Pauses that began.
    pub pauses: u64,
    /// Quickest obedience: from the arrival of a PFC frame to the last bit of the last frame of the priority. Beyond
    /// `response_max` when nothing was leaving at any of the pauses.
    pub response_min: Span,
    /// Slowest obedience.
    pub response_max: Span,
    /// Since when the port is paused now; `NEVER` when it is not.
    since: Time,
}

impl Default for PauseSummary {
    fn default() -> Self {
        PauseSummary {
            paused: Span::ZERO,
            longest: Span::ZERO,
            first: Time::NEVER,
            pauses: 0,
            response_min: Span(u64::MAX),
            response_max: Span::ZERO,
            since: Time::NEVER,
        }
    }
}

impl PauseSummary {
    /// Quickest and slowest obedience, when any could be measured.
    pub fn responses(&self) -> Option<(Span, Span)> {
        (self.response_min <= self.response_max).then_some((self.response_min, self.response_max))
    }
    fn close(&mut self, now: Time, from: Time) {
        if self.since != Time::NEVER && now > from {
            let span = now.since(self.since.max(from));
            self.paused += span;
            self.longest = self.longest.max(span);
        }
        self.since = Time::NEVER;
    }
}

/// Pauses of all tester ports.
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    rows: Vec<[PauseSummary; PRIORITIES]>,
}

impl Pauses {
    /// Room for `ports` tester ports.
    pub fn new(ports: usize) -> Pauses {
        Pauses { rows: vec![Default::default(); ports] }
    }
    /// A pause begins (`on`) or ends. Only time from `from` on is counted.
    #[inline]
    pub fn set(&mut self, now: Time, from: Time, port: u32, priority: u8, on: bool) {
        let Some(row) = self.rows.get_mut(port as usize).and_then(|p| p.get_mut(usize::from(priority)))
        else {
            return;
        };
        match (on, row.since == Time::NEVER) {
            (true, true) => {
                row.since = now;
                if now >= from {
                    row.pauses += 1;
                    row.first = row.first.min(now);
                }
            }
            (false, false) => row.close(now, from),
            _ => {}
        }
    }
    /// A port obeyed a PFC frame `span` after it had arrived.
    pub fn respond(&mut self, port: u32, priority: u8, span: Span) {
        let row = self.rows.get_mut(port as usize).and_then(|p| p.get_mut(usize::from(priority)));
        if let Some(row) = row {
            row.response_min = row.response_min.min(span);
            row.response_max = row.response_max.max(span);
        }
    }
    /// Ends all open pauses at `now`.
    pub fn finish(&mut self, now: Time, from: Time) {
        self.rows.iter_mut().flatten().for_each(|row| row.close(now, from));
    }
    /// Adds the pauses of another engine's ports.
    pub fn merge(&mut self, other: &Pauses) {
        for (a, b) in self.rows.iter_mut().flatten().zip(other.rows.iter().flatten()) {
            a.paused += b.paused;
            a.longest = a.longest.max(b.longest);
            a.first = a.first.min(b.first);
            a.pauses += b.pauses;
            a.response_min = a.response_min.min(b.response_min);
            a.response_max = a.response_max.max(b.response_max);
            a.since = a.since.min(b.since);
        }
    }
    /// Per port and priority.
    pub fn rows(&self) -> &[[PauseSummary; PRIORITIES]] {
        &self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_add_up_and_the_warm_up_is_cut_off() {
        let (mut p, from) = (Pauses::new(2), Time(1_000));
        p.set(Time(100), from, 1, 3, true); // before the measurement, ends inside
        p.set(Time(1_500), from, 1, 3, false);
        p.set(Time(2_000), from, 1, 3, true);
        p.set(Time(2_100), from, 1, 3, true); // a refresh by mistake changes nothing
        p.set(Time(2_700), from, 1, 3, false);
        p.set(Time(3_000), from, 1, 3, true); // still open at the end
        p.finish(Time(3_100), from);
        let row = p.rows()[1][3];
        assert_eq!(
            (row.paused, row.longest, row.first, row.pauses),
            (Span(1_300), Span(700), Time(2_000), 2)
        );
        assert_eq!(p.rows()[0][3], PauseSummary::default());
    }
}
