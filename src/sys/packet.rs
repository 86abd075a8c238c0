//! A packet socket that only sends: many frames by one call, each copied once.
//!
//! A ring that is shared with the kernel (`PACKET_TX_RING`) makes two copies: ours into the ring, and the kernel's out of it
//! where the other end may keep frames, as that of a veth. Here the kernel copies each frame into memory of its own.
//!
//! **Own frames.** The socket takes in nothing (protocol 0). What it sends goes past the queueing discipline
//! (`PACKET_QDISC_BYPASS`), and with that past all sockets that look at what leaves: those that receive on the interface do
//! not see it.
//!
//! **Errors** (net/packet/af_packet.c and net/core/dev.c of Linux 6.18; veth tried). `sendmmsg` stops at the first frame that
//! does not go and, where frames went before it, says why with the next call only. See [`Unsent`].

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::interface::Interface;
use super::socket::{bind, packet_socket, set_option};
use crate::limits::BURST;

/// Send buffer: what the kernel may hold that has not left, besides the ring of a NIC. It doubles the number, and counts what it
/// adds to each frame: 46 frames of 4 KiB, 185 of 1 KiB, as many as DPDK's ring has on their way by the kernel's default. The
/// other end of a veth that receives by NAPI takes 256, and drops what is more.
const BUFFER_BYTES: libc::c_int = 208 << 10;
/// A frame that the kernel has dropped so often is lost: some milliseconds. Until then the other end may only have been slow.
const TRIES: u32 = 4_096;
/// `PACKET_QDISC_BYPASS` of linux/if_packet.h.
const PACKET_QDISC_BYPASS: libc::c_int = 20;

/// What became of the first frame that was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// It waits: there is no room now, in the send buffer or in the device's ring.
    Refused,
    /// It is lost, as on a cable, for this error; those behind it may pass.
    Lost(i32),
    /// It is lost, and so are all behind it: the interface is down or gone.
    Unplugged(i32),
}

/// Frames and bytes that went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames.
    pub frames: usize,
    /// Their bytes, without FCS.
    pub bytes: u64,
}

/// See the module. Never blocks.
#[derive(Debug)]
pub struct PacketSender {
    fd: OwnedFd,
    interface: String,
    /// Where each frame of a burst lies. Written before each call, and not read after it.
    places: Vec<libc::iovec>,
    /// One for each of `places`, made once.
    messages: Vec<libc::mmsghdr>,
    /// Times that the kernel had no buffer for the first frame since one went.
    tries: u32,
    /// Frames that it had dropped on the interface when that began.
    dropped: u64,
}

// SAFETY: the pointers inside are to `places`, which goes with them, and to frames that nobody looks for after a call.
unsafe impl Send for PacketSender {}

impl PacketSender {
    /// Opens a socket that sends on the interface; needs CAP_NET_RAW.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn open(interface: &Interface) -> io::Result<PacketSender> {
        let fd = packet_socket()?;
        set_option(fd.as_raw_fd(), libc::SOL_PACKET, PACKET_QDISC_BYPASS, &(1 as libc::c_int))?;
        set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &BUFFER_BYTES)
            .or_else(|_| set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, &BUFFER_BYTES))?;
        bind(fd.as_raw_fd(), interface.index, 0)?;
        let mut places = vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BURST];
        let message = |place: &mut libc::iovec| {
            // SAFETY: a message header of zeros has no address, no data and no flags.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            (message.msg_hdr.msg_iov, message.msg_hdr.msg_iovlen) = (place, 1);
            message
        };
        let messages = places.iter_mut().map(message).collect();
        Ok(PacketSender { fd, interface: interface.name.clone(), places, messages, tries: 0, dropped: 0 })
    }

    /// Sends frames, at most [`BURST`], from the first on, until one does not go. Cost: one call of the kernel, and on a veth
    /// all that the other end does.
    ///
    /// # Errors
    /// The first one did not go.
    #[inline]
    pub fn send<'f>(&mut self, frames: impl Iterator<Item = &'f [u8]>) -> Result<Sent, Unsent> {
        let mut n = 0;
        for (place, frame) in self.places.iter_mut().zip(frames) {
            (place.iov_base, place.iov_len) = (frame.as_ptr().cast_mut().cast(), frame.len());
            n += 1;
        }
        let (fd, first) = (self.fd.as_raw_fd(), self.messages.as_mut_ptr());
        // SAFETY: the first `n` messages have a place each, which has a frame that is borrowed for longer than the call. The
        // kernel reads frames, and writes to the messages how much of each it has taken.
        let sent = unsafe { libc::sendmmsg(fd, first, n as libc::c_uint, libc::MSG_DONTWAIT) };
        match usize::try_from(sent) {
            Ok(sent) => {
                let frames = sent.min(n);
                self.tries = 0;
                Ok(Sent { frames, bytes: self.places[..frames].iter().map(|p| p.iov_len as u64).sum() })
            }
            Err(_) => Err(self.unsent(io::Error::last_os_error().raw_os_error().unwrap_or(0))),
        }
    }

    /// ENOBUFS is what a device with a full ring says, and one that drops the frame, whose interface counts it then. After a
    /// frame that was lost so, each of those behind it has one try, until one goes.
    #[cold]
    fn unsent(&mut self, error: i32) -> Unsent {
        if error != libc::ENOBUFS {
            return meaning(error, false);
        }
        if self.tries == 0 {
            self.dropped = dropped_on(&self.interface).unwrap_or(u64::MAX);
        }
        self.tries += 1;
        if self.tries < TRIES {
            return Unsent::Refused;
        }
        let dropped = dropped_on(&self.interface).unwrap_or(0);
        let lost = dropped > std::mem::replace(&mut self.dropped, dropped);
        self.tries = if lost { TRIES - 1 } else { 0 };
        meaning(error, lost)
    }

    /// Why frames like one of so many bytes are lost for this error, and what helps.
    pub fn why(&self, error: i32, bytes: usize) -> String {
        let name = &self.interface;
        match error {
            libc::EMSGSIZE => {
                let mtu = bytes.saturating_sub(14);
                format!(
                    "{name} does not carry {bytes} B without FCS (EMSGSIZE): ip link set {name} mtu {mtu}"
                )
            }
            libc::EPERM | libc::EACCES => format!(
                "the kernel forbids it ({}): packet sockets need CAP_NET_RAW, and no filter or security module may stand in \
                 front of {name}",
                io::Error::from_raw_os_error(error)
            ),
            libc::ENOBUFS => format!(
                "the kernel dropped them on {name}: it had no link, or its other end was behind or takes no such frames (ip link: is \
                 its MTU smaller?)"
            ),
            libc::ENETDOWN | libc::ENXIO | libc::ENODEV => format!("{name} was down or gone"),
            _ => format!("{name}: {}", io::Error::from_raw_os_error(error)),
        }
    }
}

/// What an error of `sendmmsg` means for the first frame. `dropped`: the interface has counted a frame as dropped meanwhile.
fn meaning(error: i32, dropped: bool) -> Unsent {
    match error {
        // The send buffer is full; no memory.
        libc::EAGAIN | libc::EINTR | libc::ENOMEM => Unsent::Refused,
        libc::ENOBUFS if !dropped => Unsent::Refused,
        libc::ENETDOWN | libc::ENXIO | libc::ENODEV => Unsent::Unplugged(error),
        _ => Unsent::Lost(error),
    }
}

/// Frames to be sent that the kernel has dropped on an interface. Unlike /sys, this file is that of our network namespace.
fn dropped_on(interface: &str) -> Option<u64> {
    dropped_in(&fs::read_to_string("/proc/net/dev").ok()?, interface)
}

fn dropped_in(text: &str, interface: &str) -> Option<u64> {
    let fields = text.lines().find_map(|l| l.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
    fields.split_ascii_whitespace().nth(11)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_refuses_and_a_frame_that_was_dropped_is_lost() {
        for full in [libc::EAGAIN, libc::EWOULDBLOCK, libc::ENOMEM, libc::ENOBUFS] {
            assert_eq!(meaning(full, false), Unsent::Refused);
        }
        assert_eq!(meaning(libc::ENOBUFS, true), Unsent::Lost(libc::ENOBUFS));
        for gone in [libc::ENETDOWN, libc::ENXIO, libc::ENODEV] {
            assert_eq!(meaning(gone, false), Unsent::Unplugged(gone));
        }
        for other in [libc::EMSGSIZE, libc::EPERM, libc::EINVAL] {
            assert_eq!(meaning(other, false), Unsent::Lost(other));
        }
    }

    #[test]
    fn drops_are_read_as_the_kernel_prints_them() {
        // Of Linux 6.18.
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    1000      10    0    1    0     0          0         0     1000      10    0    2    0     0       0          0
   t10: 5000000   50000    0    3    0     0          0         0  7000000   70000    0    4    0     0       0          0
    t1:5000000000 500000   0    5    0     0          0         0 70000000  700000    0    6    0     0       0          0
";
        assert_eq!(
            ["lo", "t1", "t10", "t", "t2"].map(|i| dropped_in(text, i)),
            [Some(2), Some(6), Some(4), None, None]
        );
        assert!(dropped_on("lo").is_some() || !std::path::Path::new("/proc/net/dev").exists());
    }
}
