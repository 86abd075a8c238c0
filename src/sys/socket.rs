//! Sockets that carry whole Ethernet frames: a pair of unix datagram sockets (no rights needed; what QEMU's
//! `-netdev dgram` speaks) and a packet socket on a network interface. Neither blocks.

use std::fs;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::interface::Interface;

/// Receive and send buffers asked for: some 2,000 of the largest frames.
const BUFFER_BYTES: libc::c_int = 8 << 20;
/// Every protocol, in network byte order.
const ETH_P_ALL_BE: u16 = (libc::ETH_P_ALL as u16).to_be();
/// `PACKET_IGNORE_OUTGOING` of linux/if_packet.h: frames sent on the interface are not received again.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// What became of a frame handed over for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// It is on its way.
    Sent,
    /// There is no room now.
    Refused,
    /// Nobody is at the other end: lost, as on an unplugged cable.
    Unplugged,
}

/// Two unix datagram sockets: ours, and the one frames go to.
#[derive(Debug)]
pub struct UnixPair {
    socket: UnixDatagram,
    local: PathBuf,
    remote: PathBuf,
}

/// A packet socket on one network interface.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

/// A socket that carries frames.
#[derive(Debug)]
pub enum FrameSocket {
    /// See [`UnixPair`].
    Unix(UnixPair),
    /// See [`PacketSocket`].
    Packet(PacketSocket),
}

impl UnixPair {
    /// Binds `local` and sends to `remote`, which may appear later. A socket that an ended process left at `local` is
    /// replaced; anything else there is left alone and refused.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn open(local: &Path, remote: &Path) -> io::Result<UnixPair> {
        if let Ok(meta) = fs::symlink_metadata(local) {
            let abandoned = meta.file_type().is_socket()
                && UnixDatagram::unbound()?
                    .connect(local)
                    .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
            if abandoned {
                fs::remove_file(local)?;
            }
        }
        let socket = UnixDatagram::bind(local)?;
        let pair = UnixPair { socket, local: local.into(), remote: remote.into() };
        pair.socket.set_nonblocking(true)?;
        for name in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
            set_option(pair.socket.as_raw_fd(), libc::SOL_SOCKET, name, &BUFFER_BYTES)?;
        }
        Ok(pair)
    }
}

impl Drop for UnixPair {
    fn drop(&mut self) {
        // Nothing is left to do about a path that cannot be removed; the next one to bind it will replace it.
        let _ = fs::remove_file(&self.local);
    }
}

impl PacketSocket {
    /// Opens a packet socket on the interface; needs CAP_NET_RAW. With `promiscuous` the interface also takes in frames
    /// for other MAC addresses than its own.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn open(interface: &Interface, promiscuous: bool) -> io::Result<PacketSocket> {
        let fd = packet_socket()?;
        let one: libc::c_int = 1;
        set_option(fd.as_raw_fd(), libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &one)?;
        for (forced, plain) in
            [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
        {
            set_option(fd.as_raw_fd(), libc::SOL_SOCKET, forced, &BUFFER_BYTES)
                .or_else(|_| set_option(fd.as_raw_fd(), libc::SOL_SOCKET, plain, &BUFFER_BYTES))?;
        }
        if promiscuous {
            let member = libc::packet_mreq {
                mr_ifindex: interface.index,
                mr_type: libc::PACKET_MR_PROMISC as u16,
                mr_alen: 0,
                mr_address: [0; 8],
            };
            set_option(fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &member)?;
        }
        bind(fd.as_raw_fd(), interface.index, ETH_P_ALL_BE)?;
        Ok(PacketSocket { fd })
    }

    /// Frames that arrived and found the receive buffer full, since the last call.
    pub fn missed(&self) -> u64 {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        let out = (&raw mut stats).cast();
        // SAFETY: `out` points to `len` writable bytes; on failure they stay as they are.
        unsafe {
            libc::getsockopt(self.fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, out, &mut len)
        };
        stats.tp_drops.into()
    }
}

impl FrameSocket {
    fn fd(&self) -> RawFd {
        match self {
            FrameSocket::Unix(u) => u.socket.as_raw_fd(),
            FrameSocket::Packet(p) => p.fd.as_raw_fd(),
        }
    }

    /// Receives one frame into `room`; its length, which is larger than `room` when the frame was cut, or `None` when
    /// none is there.
    ///
    /// # Errors
    /// The socket is of no use any more (the interface went down or away).
    pub fn receive(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: `room` is writable for its length; MSG_TRUNC makes the call return the length of the whole frame.
        let n = unsafe {
            libc::recv(self.fd(), room.as_mut_ptr().cast(), room.len(), libc::MSG_TRUNC | libc::MSG_DONTWAIT)
        };
        match usize::try_from(n) {
            Ok(n) => Ok(Some(n)),
            Err(_) => match io::Error::last_os_error() {
                e if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
                e => Err(e),
            },
        }
    }

    /// Hands one frame over.
    ///
    /// # Errors
    /// The socket is of no use any more, or the frame is longer than the interface carries.
    pub fn send(&mut self, frame: &[u8]) -> io::Result<Handed> {
        let sent = match self {
            FrameSocket::Unix(u) => u.socket.send_to(frame, &u.remote).map(drop),
            FrameSocket::Packet(p) => {
                // SAFETY: `frame` is readable for its length.
                let n = unsafe {
                    libc::send(p.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT)
                };
                if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            }
        };
        match sent {
            Ok(()) => Ok(Handed::Sent),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(Handed::Refused),
            Err(e) => match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Handed::Refused),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(Handed::Unplugged),
                _ => Err(e),
            },
        }
    }

    /// Returns when a frame is there to receive, or after `at_most` (and what the kernel's timers add, some 50 us).
    pub fn wait(&self, at_most: Duration) {
        let mut poll = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
        let timeout = libc::timespec {
            tv_sec: at_most.as_secs().min(1) as libc::time_t,
            tv_nsec: at_most.subsec_nanos().into(),
        };
        // SAFETY: `poll` is one pollfd and `timeout` a timespec, both live through the call; no signal mask is given.
        // Its result does not matter: the caller looks.
        unsafe { libc::ppoll(&mut poll, 1, &timeout, std::ptr::null()) };
    }

    /// Frames that found the receive buffer full, since the last call; unix sockets make the sender wait instead.
    pub fn missed(&self) -> u64 {
        match self {
            FrameSocket::Unix(_) => 0,
            FrameSocket::Packet(p) => p.missed(),
        }
    }
}

/// A packet socket that does not block, and receives nothing before it is bound to an interface with a protocol.
pub(super) fn packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just opened and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds a packet socket to an interface and to a protocol in network byte order; 0: it receives nothing.
pub(super) fn bind(fd: RawFd, interface: i32, protocol_be: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol_be,
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `address` is a sockaddr_ll of `len` bytes and lives through the call.
    match unsafe { libc::bind(fd, (&raw const address).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(super) fn set_option<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for `len` bytes; the kernel checks that the option wants so many.
    match unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_carries_frames_says_when_full_and_when_unplugged() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let mut here = FrameSocket::Unix(UnixPair::open(&a, &b).unwrap());
        assert_eq!(here.send(&[1; 60]).unwrap(), Handed::Unplugged);
        let mut there = FrameSocket::Unix(UnixPair::open(&b, &a).unwrap());
        let mut room = [0; 100];
        assert_eq!(there.receive(&mut room).unwrap(), None);
        assert_eq!(here.send(&[7; 60]).unwrap(), Handed::Sent);
        assert_eq!(here.send(&[8; 300]).unwrap(), Handed::Sent);
        there.wait(Duration::from_secs(1));
        assert_eq!(there.receive(&mut room).unwrap(), Some(60));
        assert_eq!(room[..60], [7; 60]);
        assert_eq!(there.receive(&mut room).unwrap(), Some(300), "longer than the room: cut, and told");
        let mut sent = 0;
        while here.send(&[9; 4000]).unwrap() == Handed::Sent {
            sent += 1;
            assert!(sent < 100_000, "a socket nobody reads must fill up");
        }
        for _ in 0..sent {
            assert_eq!(there.receive(&mut room).unwrap(), Some(4000), "what was not refused is there");
        }
        assert_eq!(there.receive(&mut room).unwrap(), None);
        drop(there);
        assert_eq!(here.send(&[1; 60]).unwrap(), Handed::Unplugged);
        assert!(!b.exists(), "the path goes with the socket");
    }

    #[test]
    fn an_abandoned_path_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        drop(UnixDatagram::bind(&a).unwrap()); // as after SIGKILL: the file stays
        assert!(a.exists());
        let first = UnixPair::open(&a, &b).unwrap();
        assert_eq!(UnixPair::open(&a, &b).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        fs::write(&a, "not a socket").unwrap();
        assert!(UnixPair::open(&a, &b).is_err());
        assert_eq!(fs::read_to_string(&a).unwrap(), "not a socket");
    }
}
