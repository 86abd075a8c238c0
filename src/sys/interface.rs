//! Network interfaces that may carry test traffic, and those that must not: a load generator on the wrong cable
//! is a weapon.
//!
//! An interface is refused when anything else lives on it: the loopback, a bridge or bond that it is part of, an address
//! that is not link-local, or a route that is not (a default route above all). Multicast routes, which every IPv6
//! interface has, do not count.

use std::ffi::{CStr, CString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{fs, io, ptr};

/// A network interface that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Index, as packet sockets want it.
    pub index: i32,
    /// MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet.
    pub mtu: u32,
}

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// No such name here.
    #[error("there is no interface {0:?} in this network namespace (see `ip link`)")]
    Missing(String),
    /// Not an Ethernet, or the kernel does not tell.
    #[error("interface {name}: {what} cannot be read: {error}")]
    Unreadable {
        /// Name.
        name: String,
        /// What was to be read.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// Something else lives there.
    #[error(
        "interface {name} {reason}: test traffic is refused there; use an interface of its own, or name it again with \
         --allow-in-use {name}"
    )]
    InUse {
        /// Name.
        name: String,
        /// What was found.
        reason: InUse,
    },
}

/// What makes an interface one that other people need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InUse {
    /// The loopback.
    Loopback,
    /// Part of a bridge or bond, by its name.
    Member(String),
    /// A global address.
    Address(IpAddr),
    /// A route beyond the link.
    Route(IpAddr, u8),
}

impl std::fmt::Display for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InUse::Loopback => f.write_str("is the loopback"),
            InUse::Member(of) => write!(f, "is a member of {of}"),
            InUse::Address(ip) => write!(f, "has the address {ip}"),
            InUse::Route(ip, 0) if ip.is_unspecified() => f.write_str("carries a default route"),
            InUse::Route(ip, bits) => write!(f, "carries the route to {ip}/{bits}"),
        }
    }
}

impl Interface {
    /// Finds an interface by its name.
    ///
    /// # Errors
    /// It does not exist, or is no Ethernet.
    pub fn find(name: &str) -> Result<Interface, InterfaceError> {
        let missing = || InterfaceError::Missing(name.to_owned());
        let c_name = CString::new(name).map_err(|_| missing())?;
        // SAFETY: `c_name` ends with a zero byte and lives through the call.
        let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        let index = i32::try_from(index).ok().filter(|i| *i > 0).ok_or_else(missing)?;
        let unreadable = |what: &'static str| {
            move |error| InterfaceError::Unreadable { name: name.to_owned(), what, error }
        };
        // Not from /sys, which shows the network namespace it was mounted in.
        let ask = Request::new(name).map_err(unreadable("anything"))?;
        let hardware = ask.send(libc::SIOCGIFHWADDR).map_err(unreadable("address"))?;
        // SAFETY: SIOCGIFHWADDR has filled in this member, of which every bit pattern is valid.
        let address = unsafe { hardware.ifr_ifru.ifru_hwaddr };
        if address.sa_family != libc::ARPHRD_ETHER && address.sa_family != libc::ARPHRD_LOOPBACK {
            return Err(unreadable("Ethernet address")(io::ErrorKind::Unsupported.into()));
        }
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            *to = from as u8;
        }
        let answer = ask.send(libc::SIOCGIFMTU).map_err(unreadable("mtu"))?;
        // SAFETY: SIOCGIFMTU has filled in this member, of which every bit pattern is valid.
        let mtu = u32::try_from(unsafe { answer.ifr_ifru.ifru_mtu }).unwrap_or(0);
        Ok(Interface { name: name.to_owned(), index, mac, mtu })
    }

    /// Refuses an interface that something else lives on.
    ///
    /// # Errors
    /// [`InterfaceError::InUse`] with the first reason found.
    pub fn refuse_in_use(&self) -> Result<(), InterfaceError> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let addresses = addresses(&self.name).map_err(|error| InterfaceError::Unreadable {
            name: self.name.clone(),
            what: "addresses",
            error,
        })?;
        if let Some(of) = self.member_of() {
            return Err(InterfaceError::InUse { name: self.name.clone(), reason: InUse::Member(of) });
        }
        let routes = routes_v4(&read("/proc/net/route"), &self.name)
            .into_iter()
            .chain(routes_v6(&read("/proc/net/ipv6_route"), &self.name));
        match in_use(&addresses, routes) {
            Some(reason) => Err(InterfaceError::InUse { name: self.name.clone(), reason }),
            None => Ok(()),
        }
    }

    /// The bridge or bond it is part of. /sys shows the network namespace that it was mounted in: an entry that has
    /// another index speaks of another interface.
    fn member_of(&self) -> Option<String> {
        let entry = format!("/sys/class/net/{}", self.name);
        let index = fs::read_to_string(format!("{entry}/ifindex")).ok()?;
        if index.trim().parse() != Ok(self.index) {
            return None;
        }
        let of = fs::read_link(format!("{entry}/master")).ok()?;
        of.file_name().map(|n| n.to_string_lossy().into_owned())
    }
}

/// Questions to the kernel about an interface of a name.
struct Request {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Request {
    fn new(name: &str) -> io::Result<Request> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut padded = [0; libc::IFNAMSIZ];
        // The last byte stays zero. A longer name is none of an interface, and was not found before.
        for (to, from) in padded.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        Ok(Request { socket, name: padded })
    }

    fn send(&self, what: libc::Ioctl) -> io::Result<libc::ifreq> {
        let mut ifreq =
            libc::ifreq { ifr_name: self.name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_mtu: 0 } };
        // SAFETY: these requests read the name and write within the ifreq, which lives through the call.
        match unsafe { libc::ioctl(self.socket.as_raw_fd(), what as _, &raw mut ifreq) } {
            0 => Ok(ifreq),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Six bytes in hexadecimal with colons or hyphens.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for b in &mut mac {
        let part = parts.next().filter(|p| (1..=2).contains(&p.len()))?;
        *b = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

fn in_use(addresses: &[IpAddr], routes: impl Iterator<Item = (IpAddr, u8)>) -> Option<InUse> {
    if addresses.iter().any(IpAddr::is_loopback) {
        return Some(InUse::Loopback);
    }
    let global = addresses.iter().find(|ip| !link_local(**ip)).map(|ip| InUse::Address(*ip));
    global.or_else(|| {
        let mut beyond = routes.filter(|(ip, bits)| *bits == 0 || !(link_local(*ip) || ip.is_multicast()));
        beyond.next().map(|(ip, bits)| InUse::Route(ip, bits))
    })
}

fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

/// Routes of an interface in `/proc/net/route`: addresses as hexadecimal words in the machine's byte order.
fn routes_v4(text: &str, name: &str) -> Vec<(IpAddr, u8)> {
    let route = |line: &str| {
        let mut fields = line.split_whitespace();
        fields.next().filter(|n| *n == name)?;
        let destination = u32::from_str_radix(fields.next()?, 16).ok()?;
        let mask = u32::from_str_radix(fields.nth(5)?, 16).ok()?;
        let ip = Ipv4Addr::from(destination.to_ne_bytes());
        Some((IpAddr::V4(ip), u32::from_be_bytes(mask.to_ne_bytes()).leading_ones() as u8))
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// Routes of an interface in `/proc/net/ipv6_route`; those that lead nowhere (reject) do not count.
fn routes_v6(text: &str, name: &str) -> Vec<(IpAddr, u8)> {
    const RTF_REJECT: u32 = 0x200;
    let route = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, bits, .., flags, device] = fields.as_slice() else { return None };
        let flags = u32::from_str_radix(flags, 16).ok().filter(|_| *device == name)?;
        let ip = Ipv6Addr::from_bits(u128::from_str_radix(destination, 16).ok()?);
        let bits = u8::from_str_radix(bits, 16).ok()?;
        (flags & RTF_REJECT == 0).then_some((IpAddr::V6(ip), bits))
    };
    text.lines().filter_map(route).collect()
}

/// All IP addresses of an interface.
fn addresses(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the call writes one pointer to `list`.
    if unsafe { libc::getifaddrs(&mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut at = list;
    // SAFETY: `at` walks the list that getifaddrs made, which stays until freeifaddrs; names end with a zero byte; an
    // address is of the type that its family says.
    unsafe {
        while let Some(entry) = at.as_ref() {
            at = entry.ifa_next;
            let Some(address) = entry.ifa_addr.as_ref() else { continue };
            if CStr::from_ptr(entry.ifa_name).to_bytes() != name.as_bytes() {
                continue;
            }
            match i32::from(address.sa_family) {
                libc::AF_INET => {
                    let a = ptr::read_unaligned(entry.ifa_addr.cast::<libc::sockaddr_in>());
                    found.push(IpAddr::V4(Ipv4Addr::from(a.sin_addr.s_addr.to_ne_bytes())));
                }
                libc::AF_INET6 => {
                    let a = ptr::read_unaligned(entry.ifa_addr.cast::<libc::sockaddr_in6>());
                    found.push(IpAddr::V6(Ipv6Addr::from(a.sin6_addr.s6_addr)));
                }
                _ => {}
            }
        }
        libc::freeifaddrs(list);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As printed by a Debian 12 machine with a default route over eth0 and a link-local one.
    const ROUTES_V4: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tap0\t0000FEA9\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
";
    const ROUTES_V6: &str = "\
20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 \
00000001 00000000 00000001     eth0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 \
00000001 00000000 00000001     tap0
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 \
00000004 00000000 00000001     tap0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff \
00000001 00000000 00200200       lo
";

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_are_read_as_the_kernel_prints_them() {
        let v4 = routes_v4(ROUTES_V4, "eth0");
        assert_eq!(v4, [("0.0.0.0".parse().unwrap(), 0), ("192.168.0.0".parse().unwrap(), 24)]);
        assert_eq!(routes_v4(ROUTES_V4, "tap0"), [("169.254.0.0".parse().unwrap(), 16)]);
        assert_eq!(routes_v6(ROUTES_V6, "eth0"), [("2001:db8::".parse().unwrap(), 64)]);
        assert_eq!(routes_v6(ROUTES_V6, "tap0").len(), 2);
        assert!(routes_v6(ROUTES_V6, "lo").is_empty(), "a route that rejects leads nowhere");
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn only_an_interface_of_its_own_passes() {
        let of = |addresses: &[&str], name: &str| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            in_use(&addresses, routes_v4(ROUTES_V4, name).into_iter().chain(routes_v6(ROUTES_V6, name)))
        };
        assert_eq!(of(&["fe80::1", "169.254.3.4"], "tap0"), None);
        assert_eq!(of(&[], "tap0"), None);
        let text = |u: Option<InUse>| u.unwrap().to_string();
        assert_eq!(text(of(&["fe80::1", "10.0.0.1"], "tap0")), "has the address 10.0.0.1");
        assert_eq!(text(of(&["2001:db8::7"], "tap0")), "has the address 2001:db8::7");
        assert_eq!(text(of(&[], "eth0")), "carries a default route");
        assert_eq!(text(of(&["127.0.0.1"], "lo")), "is the loopback");
    }

    #[test]
    fn the_loopback_of_this_machine_is_refused_and_others_are_missing() {
        let lo = Interface::find("lo").unwrap();
        if !addresses("lo").unwrap().is_empty() {
            assert!(lo.refuse_in_use().unwrap_err().to_string().contains("is the loopback"));
        }
        let missing = Interface::find("no-such-if0").unwrap_err().to_string();
        assert!(missing.contains("no interface \"no-such-if0\""), "{missing}");
    }

    #[test]
    fn macs() {
        assert_eq!(parse_mac("52:54:00:00:00:1f"), Some([0x52, 0x54, 0, 0, 0, 0x1f]));
        assert_eq!(parse_mac("52-54-0-0-0-1"), Some([0x52, 0x54, 0, 0, 0, 1]));
        for bad in ["", "52:54:00:00:00", "52:54:00:00:00:11:22", "52:54:00:00:00:1g", "525400000011"] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
