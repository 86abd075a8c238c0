//! One port of a switch: what the hot path asks first, then its flow control, shapers and watchdog.

use super::config::{ClassMaps, PortProfile, SwitchPortConfig, WatchdogAction};
use super::pfc::{PortPfc, bits};
use super::shape::Shaping;
use super::watchdog::Watch;
use crate::measure::stats::SwitchPortStats;
use crate::units::{FrameLen, LinkTiming, Span, Time};

/// One port. Bit q of every mask is queue q. Fields stand in this order, so that one cache line holds what every
/// frame asks.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Port {
    /// Queues with frames waiting to leave here.
    pub waiting: u8,
    /// Queues that a shaper holds.
    held: u8,
    /// Queues that send in spite of a pause.
    deaf: u8,
    /// Queues whose frames the watchdog drops.
    pub dropping: u8,
    /// Queues that were paused since they were last empty: what waits there has others to blame.
    pub excused: u8,
    /// Groups in XOFF, where the whole link is asked to stop.
    pub stopping: u8,
    /// The driver will ask this port again by itself: a wake is out, or something was left when it last asked.
    pub armed: bool,
    /// Stands in the list of wakes.
    pub listed: bool,
    /// First row of its limits: profile x 8.
    pub rows: u16,
    shaping: Option<Box<Shaping>>,
    pub pfc: PortPfc,
    pub egress: LinkTiming,
    watch: Option<Box<Watch>>,
    /// XOFF is said again after this span: half the pause.
    pub refresh: Span,
    pub mac: [u8; 6],
}

impl Port {
    pub fn new(
        config: &SwitchPortConfig,
        profile: &PortProfile,
        maps: &ClassMaps,
        pause_quanta: u16,
    ) -> Port {
        Port {
            waiting: 0,
            held: 0,
            deaf: 0,
            dropping: 0,
            excused: 0,
            stopping: 0,
            armed: false,
            listed: false,
            rows: config.profile * 8,
            egress: config.egress,
            pfc: PortPfc::new(maps.queue),
            mac: config.mac,
            refresh: Span(config.egress.rate().quanta(pause_quanta).0 / 2),
            shaping: Shaping::new(profile).map(Box::new),
            watch: profile.watchdog.map(|w| Box::new(Watch::new(w, maps.lossless_queues(profile)))),
        }
    }

    /// Queues that may send now.
    #[inline]
    pub fn ready(&self) -> u8 {
        self.waiting & !(self.pfc.paused() & !self.deaf | self.held | self.dropping)
    }
    /// Queues with frames that wait for a pause to end.
    pub fn stopped(&self) -> u8 {
        self.waiting & self.pfc.paused() & !(self.deaf | self.dropping)
    }
    /// Queues with frames that are to be dropped.
    #[inline]
    pub fn doomed(&self) -> u8 {
        self.waiting & self.dropping
    }
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.ready() != 0 || self.pfc.pending() != 0 || self.doomed() != 0
    }

    /// A frame of the queue with this bit would leave at once if the link is idle: nothing waits here, the driver does not
    /// come by itself, and neither pause nor shaper nor watchdog stands in its way.
    #[inline]
    pub fn lets_pass(&self, bit: u8) -> bool {
        !self.armed
            && self.waiting == 0
            && bit & (self.pfc.paused() | self.dropping) == 0
            && self.pfc.pending() == 0
            && self.shaping.is_none()
    }

    /// A frame starts to leave. Returns when a shaper lets the next one go.
    #[inline]
    pub fn sent(&mut self, now: Time, queue: u8, len: FrameLen) -> Time {
        match &mut self.shaping {
            None => Time::NEVER,
            Some(shaping) => {
                shaping.sent(now, queue, len);
                let (held, next) = shaping.held(now);
                self.held = held;
                next
            }
        }
    }

    /// Brings pauses, shapers and watchdog up to `now`. Returns when the first of them changes next, as far as it
    /// matters to a frame.
    pub fn look(&mut self, now: Time, stats: &mut SwitchPortStats) -> Time {
        let mut next = self.pauses(now, stats);
        if let Some(shaping) = &self.shaping {
            let (held, open) = shaping.held(now);
            self.held = held;
            next = next.min(open);
        }
        next
    }

    /// As [`Port::look`], without the shapers: after a pause has come, or a frame has joined a paused queue.
    pub fn pauses(&mut self, now: Time, stats: &mut SwitchPortStats) -> Time {
        let Some(watch) = &mut self.watch else { return self.pfc.expire(now, self.waiting) };
        let end = self.pfc.expire(now, self.waiting | watch.stormed());
        let (found, due) = watch.look(now, self.pfc.paused(), self.waiting);
        for p in bits(found.stuck) {
            stats.watchdog[p].storms += 1;
        }
        for p in bits(found.restored) {
            stats.watchdog[p].restored += 1;
        }
        let mask = match watch.action() {
            WatchdogAction::Drop => &mut self.dropping,
            WatchdogAction::Forward => &mut self.deaf,
            WatchdogAction::Alert => return end.min(due),
        };
        *mask = (*mask | found.stuck) & !found.restored;
        // Pauses of a queue that is stuck from now on end it by their silence.
        let end = end.min(self.pfc.expire(now, found.stuck));
        end.min(due)
    }
}
