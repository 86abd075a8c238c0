//! What happens between switches: frames lost on links, who was paused for how long, which pause led to which, and
//! deadlocks. Bounded, and nothing is allocated after the start.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::limits::PRIORITIES;
use crate::units::{Span, Time};

/// Pairs of (paused ingress, queue to blame) told apart; the rest is counted together.
const XOFF_ROWS_MAX: usize = 4_096;
/// Deadlocks kept.
pub const DEADLOCKS_MAX: usize = 16;

/// Frames that a link lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LinkLoss {
    /// Number of the directed link.
    pub link: u32,
    /// Sent while it was down.
    pub blackholed: u64,
    /// On their way when it went down.
    pub in_flight: u64,
    /// With a wrong bit, so that the next node dropped them.
    pub bit_errors: u64,
}

/// Pauses that one egress of a switch had to obey, for one priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PauseMeter {
    /// Union of the pauses.
    pub paused: Span,
    /// The longest without a break.
    pub longest: Span,
    /// Pauses.
    pub pauses: u64,
    since: Time,
    until: Time,
}

impl PauseMeter {
    fn close(&mut self, at: Time) {
        let span = at.since(self.since);
        self.paused = Span(self.paused.0 + span.0);
        self.longest = self.longest.max(span);
        self.until = Time::ZERO;
    }

    /// A PFC frame that pauses until `until` (now: ends the pause) came at `now`.
    fn set(&mut self, now: Time, until: Time) {
        let open = self.until > Time::ZERO;
        if open && self.until < now {
            self.close(self.until);
        }
        match (self.until > Time::ZERO, until > now) {
            (true, true) => self.until = until,
            (true, false) => self.close(now),
            (false, true) => {
                (self.since, self.until) = (now, until);
                self.pauses += 1;
            }
            (false, false) => {}
        }
    }
}

/// Why an ingress was paused: its frames waited in this queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct XoffCause {
    /// The switch that paused.
    pub switch: u16,
    /// Its port whose far end was paused.
    pub ingress: u16,
    /// The egress port of the queue.
    pub egress: u16,
    /// Priority of both.
    pub priority: u8,
    /// That queue was paused itself since it was last empty; otherwise it is where the congestion is.
    pub paused: bool,
}

/// How often one cause struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct XoffRow {
    /// Cause.
    pub cause: XoffCause,
    /// XOFFs.
    pub xoffs: u64,
    /// First of them.
    pub first: Time,
}

/// Queues that wait for each other and will for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deadlock {
    /// When nothing in it had moved for one refresh of its pauses.
    pub confirmed: Time,
    /// Egress queues in a circle, each paused by the switch of the next: (switch, port, priority).
    pub cycle: Vec<(u16, u16, u8)>,
    /// Queues that can never move again, those of the cycle and those that wait for it.
    pub queues: u32,
    /// Frames in them.
    pub frames: u64,
}

/// The record of one engine.
#[derive(Clone, Debug, Default)]
pub struct NetworkRecord {
    losses: Vec<LinkLoss>,
    base: Vec<usize>,
    meters: Vec<PauseMeter>,
    xoffs: Vec<XoffRow>,
    xoffs_left_out: u64,
    deadlocks: Vec<Deadlock>,
}

impl NetworkRecord {
    /// Room for switches with so many ports.
    pub fn new(ports: impl IntoIterator<Item = u16>) -> NetworkRecord {
        let mut r =
            NetworkRecord { deadlocks: Vec::with_capacity(DEADLOCKS_MAX), ..NetworkRecord::default() };
        let mut slots = 0;
        for ports in ports {
            r.base.push(slots);
            slots += usize::from(ports) * PRIORITIES;
        }
        r.meters = vec![PauseMeter::default(); slots];
        r.xoffs = Vec::with_capacity(XOFF_ROWS_MAX.min(slots * 8));
        r
    }

    /// Bytes of memory of a record for switches with so many ports, all its rows in use.
    pub fn bytes_for(ports: impl IntoIterator<Item = u16>) -> u64 {
        let slots: usize = ports.into_iter().map(|p| usize::from(p) * PRIORITIES).sum();
        let rows = XOFF_ROWS_MAX.min(slots * 8);
        (slots * size_of::<PauseMeter>() + rows * size_of::<XoffRow>()) as u64
    }

    /// Counts losses of these links, in order.
    pub fn watch_links(&mut self, links: impl Iterator<Item = u32>) {
        self.losses = links.map(|link| LinkLoss { link, ..LinkLoss::default() }).collect();
    }

    /// The counters of a watched link.
    pub fn loss(&mut self, link: u32) -> Option<&mut LinkLoss> {
        let at = self.losses.binary_search_by_key(&link, |l| l.link).ok()?;
        self.losses.get_mut(at)
    }

    /// A switch port received a pause until `until`; `until = now` ends it.
    pub fn pause(&mut self, now: Time, switch: u16, port: u16, priority: u8, until: Time) {
        let Some(base) = self.base.get(usize::from(switch)) else { return };
        let slot = base + usize::from(port) * PRIORITIES + usize::from(priority);
        if let Some(meter) = self.meters.get_mut(slot) {
            meter.set(now, until);
        }
    }

    /// An ingress was paused.
    pub fn xoff(&mut self, now: Time, cause: XoffCause) {
        match self.xoffs.binary_search_by_key(&cause, |r| r.cause) {
            Ok(at) => self.xoffs[at].xoffs += 1,
            Err(at) if self.xoffs.len() < self.xoffs.capacity() => {
                self.xoffs.insert(at, XoffRow { cause, xoffs: 1, first: now });
            }
            Err(_) => self.xoffs_left_out += 1,
        }
    }

    /// A deadlock was confirmed.
    pub fn deadlock(&mut self, deadlock: Deadlock) {
        if self.deadlocks.len() < DEADLOCKS_MAX {
            self.deadlocks.push(deadlock);
        }
    }

    /// Ends the run: pauses that are open end now or when their time is over.
    pub fn finish(&mut self, now: Time) {
        for m in self.meters.iter_mut().filter(|m| m.until > Time::ZERO) {
            m.close(m.until.min(now));
        }
    }

    /// Adds the record of another engine, which owned other switches and ends of links.
    pub fn merge(&mut self, other: &NetworkRecord) {
        for (a, b) in self.losses.iter_mut().zip(&other.losses) {
            a.blackholed += b.blackholed;
            a.in_flight += b.in_flight;
            a.bit_errors += b.bit_errors;
        }
        for (a, b) in self.meters.iter_mut().zip(&other.meters).filter(|(_, b)| b.pauses > 0) {
            *a = *b;
        }
        self.xoffs.extend_from_slice(&other.xoffs);
        self.xoffs.sort_unstable_by_key(|r| r.cause);
        self.xoffs_left_out += other.xoffs_left_out;
        self.deadlocks.extend_from_slice(&other.deadlocks);
    }

    /// Losses of watched links, by link.
    pub fn losses(&self) -> &[LinkLoss] {
        &self.losses
    }
    /// Causes of pauses, in order.
    pub fn xoffs(&self) -> &[XoffRow] {
        &self.xoffs
    }
    /// XOFFs whose cause had no row left.
    pub fn xoffs_left_out(&self) -> u64 {
        self.xoffs_left_out
    }
    /// Deadlocks, the first ones.
    pub fn deadlocks(&self) -> &[Deadlock] {
        &self.deadlocks
    }
    /// Pauses of a switch's egress.
    pub fn meter(&self, switch: u16, port: u16, priority: u8) -> PauseMeter {
        let base = self.base.get(usize::from(switch)).copied().unwrap_or(usize::MAX);
        let slot = base.saturating_add(usize::from(port) * PRIORITIES + usize::from(priority));
        self.meters.get(slot).copied().unwrap_or_default()
    }

    /// Feeds losses and deadlocks to a hash; nothing when there were none and no link was watched.
    pub fn digest(&self, hash: &mut Sha256) {
        for l in &self.losses {
            for v in [u64::from(l.link), l.blackholed, l.in_flight, l.bit_errors] {
                hash.update(v.to_le_bytes());
            }
        }
        for d in &self.deadlocks {
            hash.update(d.confirmed.0.to_le_bytes());
            for (switch, port, priority) in &d.cycle {
                hash.update([switch.to_le_bytes(), port.to_le_bytes()].concat());
                hash.update([*priority]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_intervals_refreshed_ended_or_run_out() {
        let mut r = NetworkRecord::new([2, 4]);
        let mut at = |now: u64, until: u64| r.pause(Time(now), 1, 3, 3, Time(until));
        at(100, 200);
        at(150, 250); // refresh
        at(180, 180); // over: 80
        at(300, 400); // runs out at 400: 100
        at(1_000, 1_100);
        at(1_000, 1_000); // ends as it begins
        at(2_000, 9_000);
        r.finish(Time(2_050)); // still open: 50
        let m = r.meter(1, 3, 3);
        assert_eq!((m.paused, m.longest, m.pauses), (Span(230), Span(100), 4));
        assert_eq!(r.meter(0, 1, 3).pauses, 0);
        assert_eq!(r.meter(7, 0, 0).pauses, 0);
        assert!(NetworkRecord::bytes_for([2, 4]) >= (48 * size_of::<PauseMeter>()) as u64);
    }

    #[test]
    fn causes_are_counted_within_their_room() {
        let mut r = NetworkRecord::new([1]);
        let cause = |egress| XoffCause { egress, ..XoffCause::default() };
        for i in 0..100u16 {
            r.xoff(Time(i.into()), cause(i));
            r.xoff(Time(1_000), cause(0));
        }
        assert_eq!(r.xoffs().len(), 64);
        assert_eq!((r.xoffs()[0].xoffs, r.xoffs()[0].first, r.xoffs_left_out()), (101, Time(0), 36));
    }
}
