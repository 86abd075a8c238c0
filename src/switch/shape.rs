//! Shapers: queues and ports held below the rate of their link, each by a token bucket.

use super::config::{PortProfile, Shaper};
use super::pfc::bits;
use crate::limits::PRIORITIES;
use crate::units::{FrameLen, LinkTiming, Span, Time};

/// A token bucket, kept as the time at which it will be full: a frame may leave while that is no more than the burst's
/// own time ahead.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    timing: LinkTiming,
    burst: Span,
    full_at: Time,
}

impl Bucket {
    fn new(s: &Shaper) -> Bucket {
        let burst = s.rate.time_for(s.burst.0);
        Bucket { timing: LinkTiming::new(s.rate, Span::ZERO), burst, full_at: Time::ZERO }
    }
    /// From when a frame may leave.
    fn open_at(&self) -> Time {
        Time(self.full_at.0.saturating_sub(self.burst.0))
    }
    fn take(&mut self, now: Time, len: FrameLen) {
        self.full_at = self.full_at.max(now) + self.timing.wire_time(len);
    }
}

/// The shapers of one port.
#[derive(Debug)]
pub struct Shaping {
    queues: [Option<Bucket>; PRIORITIES],
    shaped: u8,
    port: Option<Bucket>,
}

impl Shaping {
    /// The shapers of a profile; `None` when it has none.
    pub fn new(profile: &PortProfile) -> Option<Shaping> {
        let queues = profile.priorities.each_ref().map(|p| p.shaper.as_ref().map(Bucket::new));
        let shaped = (0..PRIORITIES).filter(|p| queues[*p].is_some()).fold(0, |mask, p| mask | 1 << p);
        let port = profile.shaper.as_ref().map(Bucket::new);
        (shaped != 0 || port.is_some()).then_some(Shaping { queues, shaped, port })
    }

    /// A frame of `priority` starts to leave at `now`.
    pub fn sent(&mut self, now: Time, priority: u8, len: FrameLen) {
        let queue = self.queues[usize::from(priority) % PRIORITIES].as_mut();
        for bucket in queue.into_iter().chain(self.port.as_mut()) {
            bucket.take(now, len);
        }
    }

    /// The priorities that may not send at `now`, and the first time at which that changes.
    pub fn held(&self, now: Time) -> (u8, Time) {
        if let Some(open) = self.port.map(|b| b.open_at()).filter(|t| *t > now) {
            return (0xff, open);
        }
        let (mut held, mut next) = (0, Time::NEVER);
        for p in bits(self.shaped) {
            if let Some(open) = self.queues[p].map(|b| b.open_at()).filter(|t| *t > now) {
                held |= 1 << p;
                next = next.min(open);
            }
        }
        (held, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::testing::config;
    use crate::units::{Bytes, Rate};

    fn profile(rate: u64, burst: u64) -> PortProfile {
        let mut profile = config(1, 1).profiles[0].clone();
        profile.priorities[3].shaper = Some(Shaper { rate: Rate::gbps(rate), burst: Bytes(burst) });
        profile
    }

    /// 1,000 bytes on the wire at 10G are 800 ns. A bucket of 2,500 bytes lets three such frames go at once.
    #[test]
    fn a_burst_leaves_at_once_and_then_the_rate_holds() {
        let mut s = Shaping::new(&profile(10, 2_500)).unwrap();
        let frame = FrameLen(976);
        for _ in 0..3 {
            assert_eq!(s.held(Time::ZERO), (0, Time::NEVER));
            s.sent(Time::ZERO, 3, frame);
        }
        // 3,000 bytes out, 2,500 allowed ahead: 500 bytes have to come in first, 400 ns.
        assert_eq!(s.held(Time::ZERO), (0b1000, Time(400_000)));
        assert_eq!(s.held(Time(400_000)), (0, Time::NEVER));
        s.sent(Time(400_000), 3, frame);
        assert_eq!(s.held(Time(400_000)), (0b1000, Time(1_200_000)));
        s.sent(Time(400_000), 4, frame);
        assert_eq!(s.held(Time(1_200_000)), (0, Time::NEVER), "other queues are not counted");
    }

    #[test]
    fn a_port_shaper_holds_every_queue() {
        let mut profile = profile(10, 0);
        assert!(Shaping::new(&config(1, 1).profiles[0]).is_none());
        profile.shaper = Some(Shaper { rate: Rate::gbps(50), burst: Bytes(0) });
        let mut s = Shaping::new(&profile).unwrap();
        s.sent(Time::ZERO, 0, FrameLen(976));
        assert_eq!(s.held(Time::ZERO), (0xff, Time(160_000)));
        s.sent(Time(160_000), 3, FrameLen(976));
        assert_eq!(s.held(Time(160_000)), (0xff, Time(320_000)));
        assert_eq!(s.held(Time(320_000)), (0b1000, Time(960_000)));
    }
}
