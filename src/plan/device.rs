//! Devices as profiles name them: a PCI address, a DPDK virtual device with its arguments, a kernel interface, or one
//! end of a cable inside the process.
//!
//! Virtual devices have defaults that cut or refuse RoCE frames silently, so that the sizes they need are added here
//! ([`DeviceSpec::arguments`]), and typed ones that do not suffice are refused.

use serde::Serialize;

/// A device that can be a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceSpec {
    /// As typed.
    pub text: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Name within its bus: "0000:03:00.0", "net_tap0", or the cable's.
    pub name: String,
    /// Arguments as typed, in order.
    pub args: Vec<(String, String)>,
}

/// Kinds of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// A NIC bound to a driver DPDK can use.
    Pci,
    /// A software device of DPDK.
    Virtual,
    /// `loop:NAME`: one of two ports joined by rings inside the process. A self-test of the tester.
    Loop,
}

/// How frames that arrive at a device with several queues find the queue of their rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steering {
    /// By rules that lead addresses to queues (`rte_flow`).
    Rules,
    /// What was sent on a queue arrives at the queue of that number; frames between ranks of different queues are handed over.
    QueueToQueue,
    /// They do not.
    None,
}

/// Why a device cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Not the name of any device.
    #[error(
        "{0:?} names no device: write a PCI address (\"0000:03:00.0\"), a DPDK device (\"net_af_xdp0,iface=eth1\"), \
         the name of a kernel interface, or \"loop:NAME\" on two ports"
    )]
    Unknown(String),
    /// An argument is missing or not KEY=VALUE.
    #[error("{device}: {text}")]
    Argument {
        /// Name of the device.
        device: String,
        /// What is wrong and how to write it.
        text: String,
    },
}

/// Longest name of a kernel interface (IFNAMSIZ - 1).
const INTERFACE_NAME_MAX: usize = 15;
/// Bytes of a packet socket's slot that are not frame: 2048 hold 1982 (measured; TPACKET_V2).
const AF_PACKET_OVERHEAD: u32 = 66;
/// Slots of a packet socket's ring when nothing is said.
const AF_PACKET_SLOTS: u32 = 512;
/// Bytes of such a ring that stay in a second-level cache beside the frames; there are two, one each way. Twice as many cost
/// frames of 4 KiB an eighth of their rate.
const AF_PACKET_RING_BYTES: u32 = 1 << 20;
/// Slots that a ring has in any case.
const AF_PACKET_SLOTS_MIN: u32 = 128;
/// Argument of a packet socket that is ours and not DPDK's: who sends.
const SENDER: &str = "tx";
/// Bytes of a memory page.
const PAGE: u32 = 4_096;
/// Largest slot or buffer for a frame that may be asked for, bytes: the data room of an mbuf has 16 bits.
const BUFFER_MAX: u32 = 32_768;
/// Longest frame an AF_XDP chunk of 4096 bytes takes: mbuf, its private area, two headrooms and XDP's own.
pub const AF_XDP_FRAME_MAX: u32 = 3_300;
/// Bytes that virtio wants room for besides the frame: its own header and a VLAN tag.
const VIRTIO_AROUND: u32 = 12 + 4;
/// Frames a virtio queue holds.
const VIRTIO_QUEUE: u32 = 1_024;

/// NICs count the room of their buffers in units of so many bytes, and split what does not fit into what is left of it among
/// several, which we cannot use. Two units are what every NIC takes; some want more than a frame of 1,518 B needs.
const NIC_BUFFER_UNIT: u32 = 1_024;
/// Two VLAN tags, for which drivers keep room.
const NIC_AROUND: u32 = 8;

/// Longest frame of a tap: its driver sends none above its MTU, which it does not let grow.
pub const TAP_FRAME_MAX: u32 = 1_514;

impl DeviceSpec {
    /// Reads a device name.
    ///
    /// # Errors
    /// [`DeviceError`] with the fix.
    pub fn parse(text: &str) -> Result<DeviceSpec, DeviceError> {
        let unknown = || DeviceError::Unknown(text.to_owned());
        let (head, rest) = text.split_once(',').map_or((text, None), |(h, r)| (h, Some(r)));
        let mut args = Vec::new();
        for arg in rest.into_iter().flat_map(|r| r.split(',')) {
            let Some((key, value)) = arg.split_once('=').filter(|(k, v)| !k.is_empty() && !v.is_empty())
            else {
                let text = format!("argument {arg:?} must be written KEY=VALUE");
                return Err(DeviceError::Argument { device: head.into(), text });
            };
            args.push((key.to_owned(), value.to_owned()));
        }
        let spec = |kind, name: String, args| Ok(DeviceSpec { text: text.to_owned(), kind, name, args });
        let plain =
            |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "_-.@".contains(c));
        if let Some(name) = head.strip_prefix("loop:") {
            return if plain(name) && name.len() <= 12 && args.is_empty() {
                spec(DeviceKind::Loop, name.to_owned(), args)
            } else {
                Err(unknown())
            };
        }
        if let Some(address) = pci_address(head) {
            return spec(DeviceKind::Pci, address, args);
        }
        if head.starts_with("net_") && plain(head) {
            let d =
                DeviceSpec { text: text.to_owned(), kind: DeviceKind::Virtual, name: head.to_owned(), args };
            if matches!(d.driver(), "net_af_packet" | "net_af_xdp") && d.arg("iface").is_none() {
                return Err(d.refuse(format!("which interface? write \"{head},iface=NAME\"")));
            }
            d.refuse_sender()?;
            return Ok(d);
        }
        if rest.is_none() && plain(head) && head.len() <= INTERFACE_NAME_MAX && !head.contains('@') {
            let args = vec![("iface".to_owned(), head.to_owned())];
            return spec(DeviceKind::Virtual, format!("net_af_packet_{head}"), args);
        }
        Err(unknown())
    }

    /// Name of the driver of a virtual device: "net_tap" of "net_tap0".
    pub fn driver(&self) -> &str {
        const KNOWN: [&str; 10] = [
            "net_af_packet",
            "net_af_xdp",
            "net_memif",
            "net_null",
            "net_pcap",
            "net_ring",
            "net_tap",
            "net_vhost",
            "net_virtio_user",
            "net_bonding",
        ];
        match self.kind {
            DeviceKind::Pci => "pci",
            DeviceKind::Loop => "loop",
            DeviceKind::Virtual => KNOWN
                .into_iter()
                .find(|k| self.name.starts_with(k))
                .unwrap_or_else(|| self.name.trim_end_matches(|c: char| c.is_ascii_digit())),
        }
    }

    /// What is sent there ends there, and nobody answers.
    pub fn is_sink(&self) -> bool {
        self.driver() == "net_null"
    }

    /// Another process reads and writes our memory through it.
    pub fn shares_memory(&self) -> bool {
        matches!(self.driver(), "net_virtio_user" | "net_vhost")
    }

    /// The vhost-user socket of the device, and whether it is this end that serves it.
    pub fn socket(&self) -> Option<(&str, bool)> {
        match self.driver() {
            "net_vhost" => Some((self.arg("iface")?, self.arg("client") != Some("1"))),
            "net_virtio_user" => Some((self.arg("path")?, self.arg("server") == Some("1"))),
            _ => None,
        }
    }

    /// Frames come from a file or go to one.
    pub fn is_file(&self) -> bool {
        self.driver() == "net_pcap" && self.interfaces().is_empty()
    }

    /// The kernel stamps what arrives there.
    pub fn kernel_stamps(&self) -> bool {
        self.driver() == "net_pcap" && self.arg("rx_iface_in").is_some()
    }

    /// The interface of a packet socket whose frames are sent by a socket of ours; `None` where the device's driver sends:
    /// everywhere else, with `tx=ring`, and with `qdisc_bypass=0`, as what we sent would come back by the socket that the driver
    /// receives with.
    pub fn socket_sends_on(&self) -> Option<&str> {
        let ring = self.arg(SENDER) == Some("ring") || self.arg("qdisc_bypass") == Some("0");
        self.arg("iface").filter(|_| self.driver() == "net_af_packet" && !ring)
    }

    /// Refuses an argument of ours that says nothing.
    fn refuse_sender(&self) -> Result<(), DeviceError> {
        match self.arg(SENDER).filter(|_| self.driver() == "net_af_packet") {
            Some("socket") if self.socket_sends_on().is_none() => Err(self.refuse(
                "qdisc_bypass=0 wants tx=ring: what a socket sends through a queueing discipline would come back as if it had \
                 arrived"
                    .into(),
            )),
            None | Some("ring" | "socket") => Ok(()),
            Some(other) => Err(self.refuse(format!("tx={other} must be tx=socket or tx=ring"))),
        }
    }

    /// The value of an argument.
    pub fn arg(&self, key: &str) -> Option<&str> {
        self.args.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// Kernel interfaces the device sends on: those the machine may need for itself. A tap of our own is none.
    pub fn interfaces(&self) -> Vec<&str> {
        let keys: &[&str] = match self.driver() {
            "net_af_packet" | "net_af_xdp" => &["iface"],
            "net_pcap" => &["rx_iface", "rx_iface_in", "tx_iface"],
            "net_tap" => &["remote"],
            _ => &[],
        };
        keys.iter().filter_map(|k| self.arg(k)).collect()
    }

    /// How frames that arrive find the queue of their rank, where the port has several.
    pub fn steering(&self) -> Steering {
        match self.driver() {
            "pci" | "net_tap" => Steering::Rules,
            "loop" | "net_ring" | "net_memif" | "net_vhost" | "net_virtio_user" => Steering::QueueToQueue,
            _ => Steering::None,
        }
    }

    /// Argument that says how many queues the device has, where it wants one.
    fn queue_argument(&self) -> Option<&'static str> {
        match self.driver() {
            "net_af_packet" => Some("qpairs"),
            "net_af_xdp" => Some("queue_count"),
            "net_vhost" | "net_virtio_user" => Some("queues"),
            _ => None,
        }
    }

    /// What DPDK is given for frames of up to `frame_bytes` (without FCS) on so many queues, and how many bytes its receive
    /// buffers must hold.
    ///
    /// # Errors
    /// An argument that is too small, or a device that cannot carry such frames.
    pub fn arguments(&self, frame_bytes: u32, queues: u16) -> Result<(String, u16), DeviceError> {
        let mut args = self.args.clone();
        if let Some(key) = self.queue_argument() {
            match self.number(key)? {
                Some(n) if n != u32::from(queues) => {
                    let text = format!("{key}={n} and queues = {queues} of [[port]] must be the same");
                    return Err(self.refuse(text));
                }
                None if queues > 1 => self.add(&mut args, key, queues.to_string()),
                _ => {}
            }
        }
        let mut room = frame_bytes.max(1_518);
        match self.driver() {
            "pci" => room = (room + NIC_AROUND).next_multiple_of(NIC_BUFFER_UNIT),
            "net_af_packet" => {
                let needed = frame_bytes + AF_PACKET_OVERHEAD;
                let slot = self.number("framesz")?.unwrap_or_else(|| packet_slot(needed));
                if slot < needed {
                    let text = format!(
                        "framesz={slot} cuts frames of {frame_bytes} B silently; at least framesz={} is needed",
                        needed.next_power_of_two()
                    );
                    return Err(self.refuse(text));
                }
                self.add(&mut args, "framesz", slot.to_string());
                let said = self.arg("blocksz").and_then(|b| b.parse().ok());
                let block = said.unwrap_or_else(|| packet_block(slot));
                self.add(&mut args, "blocksz", block.to_string());
                let slots = packet_slots(slot, block);
                if slots != AF_PACKET_SLOTS {
                    self.add(&mut args, "framecnt", slots.to_string());
                }
                self.add(&mut args, "qdisc_bypass", "1".into());
                args.retain(|(key, _)| key != SENDER);
                // The driver wants buffers for the whole slot, however short the frames.
                room = slot;
            }
            "net_pcap" if self.arg("iface").is_some() || self.arg("rx_iface").is_some() => {
                let name = self.arg("iface").or(self.arg("rx_iface")).unwrap_or_default();
                let text = format!(
                    "what we send there would come back as if it had arrived; write \"{},rx_iface_in={name},tx_iface={name}\"",
                    self.name
                );
                return Err(self.refuse(text));
            }
            "net_af_xdp" if frame_bytes > AF_XDP_FRAME_MAX => {
                let text = format!(
                    "AF_XDP carries frames of up to {AF_XDP_FRAME_MAX} B and {frame_bytes} B are needed; use mtu = 2048 or \
                     less in [class], or net_af_packet"
                );
                return Err(self.refuse(text));
            }
            "net_af_xdp" => room = AF_XDP_FRAME_MAX + 256,
            "net_tap" if frame_bytes > TAP_FRAME_MAX => {
                let text = format!(
                    "a tap of DPDK carries frames of up to {TAP_FRAME_MAX} B and {frame_bytes} B are needed; use mtu = 1024 or \
                     less in [class], or net_af_packet"
                );
                return Err(self.refuse(text));
            }
            "net_memif" => {
                let size =
                    self.number("bsize")?.unwrap_or_else(|| frame_bytes.next_power_of_two().max(2_048));
                if size < frame_bytes {
                    let text =
                        format!("bsize={size} is too small for frames of {frame_bytes} B; use a larger one");
                    return Err(self.refuse(text));
                }
                self.add(&mut args, "bsize", size.to_string());
            }
            "net_virtio_user" => {
                room += VIRTIO_AROUND;
                // The default of 256 is soon full while the kernel gives our core to others.
                self.add(&mut args, "queue_size", VIRTIO_QUEUE.to_string());
                // Its driver would make one up anew for every run.
                let [.., a, b, c] = crate::rng::Rng::new(0, &self.text, 0).next_u64().to_be_bytes();
                self.add(&mut args, "mac", format!("02:72:73:{a:02x}:{b:02x}:{c:02x}"));
            }
            _ => {}
        }
        let list: String = args.iter().map(|(k, v)| format!(",{k}={v}")).collect();
        Ok((format!("{}{list}", self.name), room.min(u32::from(u16::MAX)) as u16))
    }

    fn add(&self, args: &mut Vec<(String, String)>, key: &str, value: String) {
        if self.arg(key).is_none() {
            args.push((key.to_owned(), value));
        }
    }

    /// A size in bytes.
    fn number(&self, key: &str) -> Result<Option<u32>, DeviceError> {
        let number = |v: &str| match v.parse() {
            Ok(n @ 1..=BUFFER_MAX) => Ok(n),
            _ => Err(self.refuse(format!("{key}={v} must be a number from 1 to {BUFFER_MAX}"))),
        };
        self.arg(key).map(number).transpose()
    }

    fn refuse(&self, text: String) -> DeviceError {
        DeviceError::Argument { device: self.name.clone(), text }
    }
}

/// "0000:03:00.0" of a PCI address with or without its domain.
fn pci_address(text: &str) -> Option<String> {
    let hex = |s: &str, n: usize| s.len() == n && s.chars().all(|c| c.is_ascii_hexdigit());
    let (rest, function) = text.split_once('.')?;
    let parts: Vec<&str> = rest.split(':').collect();
    let (domain, bus, slot) = match parts.as_slice() {
        [bus, slot] => ("0000", *bus, *slot),
        [domain, bus, slot] => (*domain, *bus, *slot),
        _ => return None,
    };
    let fits = hex(domain, 4) && hex(bus, 2) && hex(slot, 2) && hex(function, 1) && function < "8";
    fits.then(|| format!("{domain}:{bus}:{slot}.{function}").to_ascii_lowercase())
}

/// Slot for `needed` bytes. The longer ones are odd multiples of 256: those of powers of two fall into few sets of the caches.
fn packet_slot(needed: u32) -> u32 {
    if needed <= 2_048 { 2_048 } else { (needed.div_ceil(256) | 1) * 256 }
}

/// Block of eight slots or some more: DPDK looks for each slot right behind the one before, and the kernel wants whole pages.
fn packet_block(slot: u32) -> u32 {
    let common = 1 << slot.trailing_zeros().min(PAGE.trailing_zeros());
    let unit = slot.saturating_mul(PAGE / common);
    unit.saturating_mul((8 * slot).div_ceil(unit))
}

/// Slots of the ring, in whole blocks.
fn packet_slots(slot: u32, block: u32) -> u32 {
    let in_block = (block / slot).max(1);
    let slots = (AF_PACKET_RING_BYTES / slot).clamp(AF_PACKET_SLOTS_MIN, AF_PACKET_SLOTS);
    (slots / in_block).max(1) * in_block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str, frame_bytes: u32) -> Result<(String, u16), String> {
        let spec = DeviceSpec::parse(text).map_err(|e| e.to_string())?;
        spec.arguments(frame_bytes, 1).map_err(|e| e.to_string())
    }

    #[test]
    fn every_kind_of_device_is_told_by_its_name() {
        let of = |text: &str| {
            let d = DeviceSpec::parse(text).unwrap();
            (d.kind, d.driver().to_owned(), d.interfaces().join(" "))
        };
        assert_eq!(of("0000:3b:00.1"), (DeviceKind::Pci, "pci".into(), String::new()));
        assert_eq!(DeviceSpec::parse("3B:00.1").unwrap().name, "0000:3b:00.1");
        let huge = arguments("net_af_packet0,iface=eth1,framesz=4294967295", 1_518).unwrap_err();
        assert!(huge.contains("from 1 to 32768"), "{huge}");
        assert_eq!(of("eth1"), (DeviceKind::Virtual, "net_af_packet".into(), "eth1".into()));
        assert_eq!(of("net_af_xdp7,iface=ens5").2, "ens5");
        assert_eq!(of("net_pcap0,rx_pcap=a,tx_iface=eth2").2, "eth2");
        assert_eq!(of("net_pcap0,rx_iface_in=eth1,tx_iface=eth1").2, "eth1 eth1");
        assert!(
            arguments("net_pcap0,iface=eth1", 64).unwrap_err().contains("rx_iface_in=eth1,tx_iface=eth1")
        );
        assert_eq!(of("net_tap0,iface=rs0").2, "", "a tap of our own");
        assert_eq!(of("net_virtio_user3,path=/tmp/v").1, "net_virtio_user");
        assert_eq!(of("loop:a").0, DeviceKind::Loop);
        for bad in ["", "loop:", "loop:a,b=c", "eth1,x=y", "3b:00.9", "a name", "averylongnameofaninterface"]
        {
            let e = DeviceSpec::parse(bad).unwrap_err().to_string();
            assert!(e.contains("names no device"), "{bad}: {e}");
        }
        assert!(DeviceSpec::parse("net_af_packet0").unwrap_err().to_string().contains("iface=NAME"));
        assert!(DeviceSpec::parse("net_tap0,iface").unwrap_err().to_string().contains("KEY=VALUE"));
    }

    #[test]
    fn packet_sockets_send_by_a_socket_of_ours_unless_asked_otherwise() {
        let of = |text: &str| DeviceSpec::parse(text).unwrap().socket_sends_on().map(str::to_owned);
        for ours in
            ["eth1", "net_af_packet0,iface=eth1", "net_af_packet0,iface=eth1,tx=socket,qdisc_bypass=1"]
        {
            assert_eq!(of(ours).as_deref(), Some("eth1"), "{ours}");
        }
        for theirs in ["net_af_packet0,iface=eth1,tx=ring", "net_af_packet0,iface=eth1,qdisc_bypass=0"] {
            assert_eq!(of(theirs), None, "{theirs}");
        }
        assert_eq!(of("net_af_xdp0,iface=eth1"), None);
        let refusal = |args: &str| {
            DeviceSpec::parse(&format!("net_af_packet0,iface=eth1,{args}")).unwrap_err().to_string()
        };
        assert!(refusal("tx=rings").contains("net_af_packet0: tx=rings must be tx=socket or tx=ring"));
        assert!(refusal("tx=socket,qdisc_bypass=0").contains("wants tx=ring"));
    }

    #[test]
    fn sizes_that_would_cut_frames_are_added_or_refused() {
        // 4,096 B of payload with RETH and VLAN: 4,178 B.
        let (args, room) = arguments("eth1", 4_178).unwrap();
        assert_eq!(
            args,
            "net_af_packet_eth1,iface=eth1,framesz=4352,blocksz=69632,framecnt=240,qdisc_bypass=1"
        );
        assert_eq!(room, 4_352);
        assert!(arguments("eth1", 1_102).unwrap().0.ends_with("framesz=2048,blocksz=16384,qdisc_bypass=1"));
        let ring = arguments("net_af_packet0,iface=eth1,tx=ring", 1_102).unwrap().0;
        assert_eq!(
            ring, "net_af_packet0,iface=eth1,framesz=2048,blocksz=16384,qdisc_bypass=1",
            "DPDK knows no tx"
        );
        for slot in (1_024..=16_384u32).step_by(16) {
            let (block, n) = (packet_block(slot), packet_slots(slot, packet_block(slot)));
            assert!(block.is_multiple_of(slot) && block.is_multiple_of(PAGE), "{slot} {block}");
            assert!(n.is_multiple_of(block / slot) && n >= AF_PACKET_SLOTS_MIN / 2, "{slot} {n}");
        }
        let cut = arguments("net_af_packet0,iface=eth1,framesz=2048", 1_983).unwrap_err();
        assert!(cut.contains("framesz=2048 cuts frames of 1983 B") && cut.contains("framesz=4096"), "{cut}");
        assert!(arguments("net_af_packet0,iface=eth1,framesz=2048", 1_982).is_ok());
        assert!(arguments("net_af_xdp0,iface=eth1", 4_178).unwrap_err().contains("net_af_packet"));
        assert!(arguments("net_tap0", 4_178).unwrap_err().contains("mtu = 1024"));
        assert_eq!(arguments("net_tap0", 1_158).unwrap().1, 1_518);
        let queues = |text: &str, n| {
            DeviceSpec::parse(text).unwrap().arguments(1_518, n).map(|a| a.0).map_err(|e| e.to_string())
        };
        assert!(queues("eth1", 4).unwrap().contains(",qpairs=4"));
        assert!(queues("net_vhost0,iface=/tmp/v,queues=2", 2).unwrap().ends_with("queues=2"));
        assert!(!queues("net_memif0", 2).unwrap().contains("queue"));
        let two = queues("net_virtio_user0,path=/tmp/v,queues=3", 2).unwrap_err();
        assert!(two.contains("queues=3 and queues = 2 of [[port]] must be the same"), "{two}");
        assert!(arguments("net_memif0,role=client", 4_178).unwrap().0.ends_with(",bsize=8192"));
        let (virtio, room) = arguments("net_virtio_user0,path=/tmp/v", 4_154).unwrap();
        assert!(virtio.starts_with("net_virtio_user0,path=/tmp/v,queue_size=1024,mac=02:72:73:"), "{virtio}");
        assert_eq!(
            (arguments("net_virtio_user0,path=/tmp/v", 64).unwrap().0, room),
            (virtio, 4_170),
            "always the same"
        );
        for (frame, room) in [(64, 2_048), (1_158, 2_048), (2_040, 2_048), (2_041, 3_072), (4_178, 5_120)] {
            assert_eq!(arguments("3b:00.1,tx_pp=500", frame), Ok(("0000:3b:00.1,tx_pp=500".into(), room)));
        }
        assert!(arguments("net_memif0,bsize=2048", 4_178).unwrap_err().contains("bsize=2048 is too small"));
        assert!(arguments("net_memif0,bsize=big", 64).unwrap_err().contains("must be a number"));
    }
}
