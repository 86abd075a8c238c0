//! What a run on real ports needs besides the traffic: devices, neighbours, and what it may do to them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::device::DeviceSpec;
use crate::units::{Bytes, Span};

/// The real side of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lab {
    /// One per tester port.
    pub ports: Vec<LabPort>,
    /// Destinations outside the networks for tests that the profile allows.
    pub allow: Vec<Prefix>,
    /// Pauses may be sent.
    pub allow_pfc: bool,
    /// Longest time a worker may be away from its ports before the result is not trusted.
    pub stall_max: Span,
    /// Every next hop of a port is asked for its MAC again once in so long; zero: never.
    pub keep_alive: Span,
    /// Frames that each pool of the run may have out besides what ports receive into; `None`: as many as ports can hold.
    pub pool_frames: Option<u32>,
    /// The profile describes no switch, and the run goes through a real one: nothing is said of the model's.
    pub no_model: bool,
    /// Worker threads; `None`: one per queue as far as cores go, less one for the control plane.
    pub workers: Option<u16>,
}

/// One tester port in the lab.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabPort {
    /// The device; `None` where the profile names none.
    pub device: Option<DeviceSpec>,
    /// Our MAC; `None`: the device's.
    pub mac: Option<[u8; 6]>,
    /// Our address on the link, for talking to the gateway; `None`: that of the first rank.
    pub address: Option<IpAddr>,
    /// Next hop for every other rank; `None`: all are on the link.
    pub gateway: Option<IpAddr>,
    /// Who obeys pauses.
    pub pfc: PfcMode,
    /// The interface may be in use by others.
    pub allow_in_use: bool,
    /// The device's own flow control may be set to what `pfc` needs.
    pub set_flow_control: bool,
    /// Most bytes handed to the device ahead of the wire; `None`: [`backlog_default`].
    pub tx_backlog: Option<Bytes>,
    /// Queues each way; 0 and 1 are one.
    pub queues: u16,
    /// Who sees to it that frames of streams leave at their times.
    pub pacing: Pacing,
    /// Of each queue pair and stream one frame of so many is stamped; 0 and 1: all are.
    pub stamp_every: u32,
}

/// Who obeys pauses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PfcMode {
    /// The device.
    #[default]
    Hardware,
    /// The tester's loop.
    Software,
    /// Nobody.
    Ignore,
}

/// Who sees to it that frames of streams leave at their times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pacing {
    /// The device, where it can; otherwise the worker.
    Auto,
    /// The worker.
    #[default]
    Software,
    /// The device; one that cannot is refused.
    Hardware,
}

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// First address.
    pub ip: IpAddr,
    /// Leading bits that count.
    pub bits: u8,
}

/// Networks set aside for tests: RFC 2544 and 6815 for IPv4, RFC 5180 for IPv6.
pub const TEST_PREFIXES: [Prefix; 2] = [
    Prefix { ip: IpAddr::V4(Ipv4Addr::new(198, 18, 0, 0)), bits: 15 },
    Prefix { ip: IpAddr::V6(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0)), bits: 48 },
];

impl Prefix {
    /// Reads "10.0.0.0/8".
    pub fn parse(text: &str) -> Option<Prefix> {
        let (ip, bits) = text.split_once('/')?;
        let (ip, bits): (IpAddr, u8) = (ip.parse().ok()?, bits.parse().ok()?);
        (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some(Prefix { ip, bits })
    }

    /// True for an address inside.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let equal = |a: u128, b: u128, width: u32| {
            let shift = width - u32::from(self.bits).min(width);
            shift >= 128 || (a ^ b) >> shift == 0
        };
        match (self.ip, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => equal(u32::from(a).into(), u32::from(b).into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => equal(a.into(), b.into(), 128),
            _ => false,
        }
    }
}

impl Lab {
    /// Worker threads for so many queues on so many cores: never more than either, and at least one.
    pub fn workers(&self, queues: usize, cores: usize) -> usize {
        let wanted = self.workers.map_or(cores.saturating_sub(1), usize::from);
        wanted.min(cores).min(queues).max(1)
    }

    /// Queues of a port, at least one.
    pub fn queues(&self, port: usize) -> u16 {
        self.ports.get(port).map_or(1, |p| p.queues.max(1))
    }

    /// The first of `destinations` that the profile does not allow.
    pub fn forbidden(&self, mut destinations: impl Iterator<Item = IpAddr>) -> Option<IpAddr> {
        destinations.find(|ip| !TEST_PREFIXES.iter().chain(&self.allow).any(|p| p.contains(*ip)))
    }
}

/// Bytes handed to the device ahead of the wire unless the profile says otherwise: eight of the longest frames, and what
/// the wire takes in 2 us. What is handed over cannot be held back when a pause comes.
pub fn backlog_default(bits_per_s: u64, frame_bytes_max: u16) -> Bytes {
    Bytes(8 * (u64::from(frame_bytes_max) + 24) + bits_per_s / 8 / 500_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_leave_a_core_to_the_control_plane_unless_told_otherwise() {
        let count = |workers, queues, cores| Lab { workers, ..Lab::default() }.workers(queues, cores);
        assert_eq!(
            [(4, 16), (4, 4), (4, 2), (4, 1), (4, 0)].map(|(p, c)| count(None, p, c)),
            [4, 3, 1, 1, 1]
        );
        assert_eq!([1, 2, 3, 9].map(|w| count(Some(w), 3, 4)), [1, 2, 3, 3]);
        assert_eq!(count(Some(2), 4, 2), 2, "the control plane shares one then");
    }

    #[test]
    fn destinations_outside_the_test_networks_need_the_owners_word() {
        let all = |ips: &[&str]| ips.iter().map(|s| s.parse::<IpAddr>().unwrap()).collect::<Vec<_>>();
        let mut lab = Lab::default();
        let inside = all(&["198.18.0.1", "198.19.255.255", "2001:2::1"]);
        assert_eq!(lab.forbidden(inside.into_iter()), None);
        let outside = all(&["198.18.0.1", "198.20.0.0", "10.0.0.1"]);
        assert_eq!(lab.forbidden(outside.iter().copied()), Some("198.20.0.0".parse().unwrap()));
        lab.allow = vec![Prefix::parse("198.20.0.0/16").unwrap(), Prefix::parse("0.0.0.0/0").unwrap()];
        assert_eq!(lab.forbidden(outside.into_iter()), None);
        assert_eq!(lab.forbidden(all(&["2001:db8::1"]).into_iter()), Some("2001:db8::1".parse().unwrap()));
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129"] {
            assert_eq!(Prefix::parse(bad), None, "{bad}");
        }
    }
}
