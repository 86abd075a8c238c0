//! Words to the neighbours: however long a port is silent, switches and hosts on the link do not forget it.
//!
//! A switch forgets a MAC address from which nothing has come for its ageing time (IEEE 802.1Q: 300 s by default, 10 s at
//! least), and floods then what is for it. So every next hop of a port is asked for its MAC again once per interval, one
//! after the other, spread over the interval, in busy times as in silent ones. Whoever is on the link learns from the
//! question where we are, and from the answer where the neighbour is. A port that asks nobody, as it only receives streams,
//! announces itself (gratuitous ARP, RFC 5227; unsolicited advertisement, RFC 4861 section 7.2.6).

use std::net::{IpAddr, Ipv6Addr};

use super::port::LabPort;
use super::setup;
use crate::frame::{FramePool, Port};
use crate::plan::Plan;
use crate::plan::device::DeviceSpec;
use crate::units::{Span, Time};

/// Questions of one look at most: what a port may have waiting for room.
const AT_ONCE: usize = super::port::ANSWERS_MAX;

/// When a port says what to whom.
#[derive(Debug)]
pub(super) struct Alive {
    /// Our address and the next hop that is asked from it; the same one twice: an announcement.
    words: Vec<(IpAddr, IpAddr)>,
    next: usize,
    /// The next word is due then.
    at: Time,
    /// One word after the other.
    step: Span,
}

impl Alive {
    /// For a port of the plan, whose neighbours have just been asked.
    pub fn new(plan: &Plan, port: usize) -> Alive {
        let first = plan.hosts[port].ranks.first().map(|r| r.ip);
        let hops = setup::next_hops(plan, port);
        let mut words: Vec<(IpAddr, IpAddr)> = hops.into_iter().map(|(hop, from)| (from, hop)).collect();
        if words.is_empty() {
            // The gateway where there is one.
            words.extend(first.map(|ip| setup::next_hop(plan, port, ip, ip)));
        }
        if plan.lab.ports[port].device.as_ref().is_some_and(DeviceSpec::is_sink) {
            words.clear();
        }
        Alive::of(words, plan.lab.keep_alive)
    }

    /// Never says anything.
    pub fn silent() -> Alive {
        Alive::of(Vec::new(), Span::ZERO)
    }

    fn of(words: Vec<(IpAddr, IpAddr)>, every: Span) -> Alive {
        let step = Span(every.0 / words.len().max(1) as u64);
        let at = if words.is_empty() || step == Span::ZERO { Time::NEVER } else { Time::ZERO + step };
        Alive { words, next: 0, at, step }
    }

    /// The next word, when it is due at `now`.
    fn due(&mut self, now: Time) -> Option<(IpAddr, IpAddr)> {
        if self.at > now {
            return None;
        }
        // Whoever was away does not make up for it.
        let late = now.since(self.at).0 / self.step.0.max(1) >= self.words.len() as u64;
        self.at = if late { now } else { self.at } + self.step;
        let word = self.words.get(self.next).copied();
        self.next = (self.next + 1) % self.words.len().max(1);
        word
    }

    /// Says what is due.
    pub fn speak<P: Port, L: FramePool<Frame = P::Frame>>(&mut self, now: Time, port: &mut LabPort<P, L>) {
        for _ in 0..AT_ONCE {
            match self.due(now) {
                None => break,
                Some((from, IpAddr::V6(to))) if from == to => {
                    port.announce(from, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
                }
                Some((from, to)) => port.ask(from, to),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([198, 18, 0, last])
    }

    /// The last bytes of who was asked at each of these times.
    fn asked(alive: &mut Alive, at: impl Iterator<Item = u64>) -> Vec<Vec<u8>> {
        let last = |ip: IpAddr| if let IpAddr::V4(ip) = ip { ip.octets()[3] } else { 0 };
        at.map(|t| std::iter::from_fn(|| alive.due(Time(t))).map(|(_, to)| last(to)).collect()).collect()
    }

    #[test]
    fn every_neighbour_has_its_turn_once_per_interval() {
        let words = |n: u8| (1..=n).map(|i| (ip(200), ip(i))).collect();
        let mut four = Alive::of(words(4), Span(100));
        let none = Vec::new;
        assert_eq!(
            asked(&mut four, (0..=100).step_by(20)),
            [none(), none(), vec![1], vec![2], vec![3], vec![4]],
            "at 25, 50, 75 and 100"
        );
        assert_eq!(asked(&mut four, [150, 200].into_iter()), [vec![1, 2], vec![3, 4]]);
        // Away for ten intervals: once round, no more.
        assert_eq!(asked(&mut four, [1_200, 1_220, 1_225].into_iter()), [vec![1], none(), vec![2]]);
        assert_eq!(Alive::of(words(3), Span::ZERO).due(Time(1 << 60)), None);
        assert_eq!(Alive::silent().due(Time(1 << 60)), None);
    }
}
