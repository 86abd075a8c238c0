//! PFC frames generated on purpose: storms, throttles, pulses, sweeps, and frames that no port should obey.

use crate::limits::PRIORITIES;
use crate::measure::stats::HostStats;
use crate::units::{Rate, Time};
use crate::wire::pfc::{Form, PfcFrame};
use crate::workload::config::PfcTrain;

/// Trains of one port. Frames leave at their times or, when the port is busy then, right after.
#[derive(Debug)]
pub(super) struct Trains {
    trains: Vec<(Time, PfcTrain)>,
    /// Frames sent and time of the next one, by train.
    state: Vec<(u64, Time)>,
    /// Until when the far end was told to be silent.
    told: [Time; PRIORITIES],
    rate: Rate,
    next: Time,
    /// Train whose frame is due.
    due: Option<usize>,
}

impl Trains {
    /// Trains and when they start.
    pub fn new(trains: Vec<(Time, PfcTrain)>, rate: Rate) -> Trains {
        let state = trains.iter().map(|(at, t)| (0, if t.frames == 0 { Time::NEVER } else { *at })).collect();
        let mut all =
            Trains { trains, state, told: [Time::ZERO; PRIORITIES], rate, next: Time::NEVER, due: None };
        all.look();
        all
    }

    /// Time of the next frame; `NEVER` when all are sent.
    #[inline]
    pub fn next(&self) -> Time {
        self.next
    }

    /// True when a frame is to be sent now.
    #[inline]
    pub fn due(&self) -> bool {
        self.due.is_some()
    }

    /// Brings the trains up to `now`.
    #[inline]
    pub fn advance(&mut self, now: Time) {
        if self.next <= now {
            self.due = self.state.iter().position(|s| s.1 == self.next);
        }
    }

    fn look(&mut self) {
        self.next = self.state.iter().map(|s| s.1).min().unwrap_or(Time::NEVER);
    }

    /// The frame that is due and how it is written.
    pub fn frame(&self) -> Option<(PfcFrame, Form)> {
        let ix = self.due?;
        let (_, train) = self.trains.get(ix)?;
        let quanta =
            *train.quanta.get((self.state.get(ix)?.0 % train.quanta.len().max(1) as u64) as usize)?;
        let times = std::array::from_fn(|p| if train.enable & (1 << p) != 0 { quanta } else { 0 });
        Some((PfcFrame { enable: train.enable, quanta: times }, train.form))
    }

    /// The frame was handed over at `now`.
    pub fn sent(&mut self, now: Time, stats: &mut HostStats) {
        let (Some((frame, form)), Some(ix)) = (self.frame(), self.due.take()) else { return };
        if form.is_obeyed() {
            for p in (0..PRIORITIES).filter(|p| frame.enable & (1 << p) != 0) {
                let count = &mut stats.pfc[p];
                match (frame.quanta[p], self.told[p] > now) {
                    (0, _) => count.xon_tx += 1,
                    (_, true) => count.refresh_tx += 1,
                    (_, false) => count.xoff_tx += 1,
                }
                self.told[p] = now + self.rate.quanta(frame.quanta[p]);
            }
        } else {
            stats.pfc_malformed_tx += 1;
        }
        let (at, train) = &self.trains[ix];
        let (count, next) = &mut self.state[ix];
        *count += 1;
        // From the start, so that a late frame does not shift those behind it.
        let offset = u128::from(train.period.0) * u128::from(*count);
        *next = if *count < train.frames {
            Time(u64::try_from(u128::from(at.0) + offset).unwrap_or(u64::MAX))
        } else {
            Time::NEVER
        };
        self.look();
        self.advance(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    #[test]
    fn a_late_frame_does_not_shift_the_train_and_refreshes_are_told_apart() {
        let train = PfcTrain {
            form: Form::Valid,
            enable: 0b1_1000,
            quanta: vec![100, 0],
            frames: 4,
            period: Span(1_000),
        };
        let mut t = Trains::new(vec![(Time(5_000), train)], Rate::gbps(100));
        let mut s = HostStats::default();
        let mut seen = Vec::new();
        for now in [5_000, 6_300, 7_000, 8_000] {
            assert!(t.next() <= Time(now) && !t.due());
            t.advance(Time(now));
            let (frame, _) = t.frame().unwrap();
            seen.push((frame.enable, frame.quanta_of(3), frame.quanta_of(4), frame.quanta_of(5)));
            t.sent(Time(now), &mut s);
        }
        let (on, off) = ((0x18, Some(100), Some(100), None), (0x18, Some(0), Some(0), None));
        assert_eq!(seen, [on, off, on, off]);
        assert_eq!((t.next(), t.due()), (Time::NEVER, false));
        assert_eq!((s.pfc[3].xoff_tx, s.pfc[3].refresh_tx, s.pfc[4].xon_tx, s.pfc[5].xon_tx), (2, 0, 2, 0));
    }
}
