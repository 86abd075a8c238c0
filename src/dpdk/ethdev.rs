//! Ports: Ethernet devices of DPDK, with one queue each way or several.
//!
//! A device is attached when its port is opened and removed when the last port of it is dropped, so that a process holds no
//! interface longer than it needs. Devices keep frames in their own rings for some time: drop ports before pools.
//!
//! A port with several queues takes from all of them in turns and sends on the first, until it is divided into one port for
//! each ([`EthPort::into_queues`]). On packet sockets a socket of ours sends for each queue (`packet_tx`).
//!
//! What drivers say of themselves is not all true (measured with DPDK 22.11): an attach that fails may report success, so
//! the port is looked up by name; the longest frame a virtual device claims is not what it carries; several count frames
//! but not bytes.

use std::ffi::CStr;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use dpdk_sys::{rs_eth_info, rs_eth_stats, rs_eth_xstat};

use super::attached::Attached;
use super::packet_tx::{Books, PacketTx};
use super::stamps::{self, StampClock, StampSource};
use super::{DpdkError, Eal, LoopCable, MbufFrame, MbufPool, PoolSpec, c_name, text_of};
use crate::frame::{Arrived, Burst, Fill, FrameMeta, PfcSeen, Port, PortCaps, TxBatch};
use crate::plan::device::{DeviceKind, DeviceSpec};
use crate::plan::lab::Pacing;
use crate::plan::pools::{DESCRIPTORS, rx_pool};
use crate::units::{Rate, Time};

/// Bytes of what a device says about a rule.
const WHY_BYTES: usize = 160;
/// Extended counters read at most.
const XSTATS_MAX: usize = 512;

/// What a port is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// The device.
    pub device: DeviceSpec,
    /// Longest frame in bytes, without FCS.
    pub frame_bytes_max: u16,
    /// Take in frames for other MAC addresses than the device's.
    pub promiscuous: bool,
    /// Queues each way, at least 1.
    pub queues: u16,
    /// Who sees to it that frames leave at their times.
    pub pacing: Pacing,
}

impl PortSpec {
    /// The pool of receive buffers the port needs.
    ///
    /// # Errors
    /// The device cannot carry such frames.
    pub fn rx_pool(&self, name: String) -> Result<PoolSpec, DpdkError> {
        let (_, room) = self.arguments()?;
        Ok(PoolSpec::of(&name, rx_pool(&self.device, self.queues, room)))
    }

    fn arguments(&self) -> Result<(String, u16), DpdkError> {
        let e = |e: crate::plan::device::DeviceError| DpdkError::Device {
            device: self.device.text.clone(),
            what: "cannot be used",
            reason: e.to_string(),
        };
        self.device.arguments(u32::from(self.frame_bytes_max), self.queues).map_err(e)
    }
}

/// Up or down, and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// A signal is there.
    pub up: bool,
    /// Rate the device reports; `None` when it does not know. Virtual devices invent one.
    pub rate: Option<Rate>,
}

/// Counters of the device itself, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeviceStats {
    /// Frames sent.
    pub tx_frames: u64,
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes sent, as the device counts them; some count none.
    pub tx_bytes: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames lost because nobody took them in time.
    pub rx_missed: u64,
    /// Frames received broken.
    pub rx_errors: u64,
    /// Frames that could not be sent.
    pub tx_errors: u64,
    /// Receive buffers that were not there.
    pub rx_no_buffer: u64,
}

/// Who sends and who obeys link-level pauses (802.3x) on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowControl {
    /// Nobody.
    Off,
    /// The device obeys.
    Obeys,
    /// The device sends.
    Sends,
    /// Both.
    Both,
}

/// An open, started port: a device, or one queue of it.
#[derive(Debug)]
pub struct EthPort {
    id: u16,
    /// Queue to take the next frames from. No other port takes from it or sends on it.
    rx_queue: u16,
    tx_queue: u16,
    /// Queues that it takes from.
    queues: u16,
    name: String,
    info: rs_eth_info,
    frame_bytes_max: u16,
    tx_descriptors: u16,
    /// Frames handed over and refused by the device in bursts so far.
    refused: u64,
    /// Received frames that could not be taken over (several segments, foreign memory): freed.
    unusable: u64,
    kind: DeviceKind,
    pfc_seen: PfcSeen,
    /// Where the kernel says whether its interfaces have a carrier.
    carriers: Vec<String>,
    /// Priority that rules for tagged frames were last taken with.
    tag_priority: u32,
    /// What the device had counted when its counters began to matter.
    base: DeviceStats,
    /// Its clock, where it stamps arrivals.
    stamps: Option<StampClock>,
    /// Its clock, where it sends frames at the times they carry.
    paces: Option<StampClock>,
    /// The sockets that send instead of the device's driver, for each queue; none where the driver sends.
    sockets: Vec<PacketTx>,
    /// What those of all queues of the device have sent.
    books: Vec<Arc<Books>>,
    /// Goes last.
    attached: Arc<Attached>,
}

pub(super) fn refused(spec: &PortSpec, what: &'static str, reason: String) -> DpdkError {
    DpdkError::Device { device: spec.device.text.clone(), what, reason }
}

/// Checks what a device function returned.
fn check(spec: &PortSpec, what: &'static str, code: i32) -> Result<(), DpdkError> {
    if code < 0 { Err(refused(spec, what, text_of(-code))) } else { Ok(()) }
}

/// What to look at when a device cannot be attached.
fn attach_advice(device: &DeviceSpec) -> String {
    match (device.kind, device.socket()) {
        (DeviceKind::Pci, _) => "is it bound to vfio-pci (dpdk-devbind.py --status)?".into(),
        (_, Some((path, true))) => format!(
            "is {path} there already? Remove it when nobody serves it: what is killed leaves it behind"
        ),
        (_, Some((path, false))) => {
            format!("does anybody serve {path}? Start that end first, or serve it here (server=1)")
        }
        _ => "are its arguments right, and may this user open it (CAP_NET_RAW, CAP_NET_ADMIN)?".into(),
    }
}

/// Says what is usually missing when a device does not start.
fn with_hint(spec: &PortSpec, e: DpdkError) -> DpdkError {
    let hint = match spec.device.driver() {
        "net_memif" if spec.device.arg("role") != Some("server") => {
            "start the end of its socket that serves (role=server) first".to_owned()
        }
        "net_vhost" => attach_advice(&spec.device),
        _ => return e,
    };
    match e {
        DpdkError::Device { device, what, reason } => {
            DpdkError::Device { device, what, reason: format!("{reason}; {hint}") }
        }
        e => e,
    }
}

/// What to write instead of `pacing = "hardware"`.
const OTHER_PACING: &str = "use pacing = \"software\" or \"auto\" in [[port]]";

/// Whether a device with these abilities is to send frames at the times they carry.
fn takes_times(spec: &PortSpec, info: &rs_eth_info) -> Result<bool, DpdkError> {
    match (spec.pacing, info.tx_pacing != 0) {
        (Pacing::Hardware, false) => {
            let why = format!(
                "its driver {} does not offer it (RTE_ETH_TX_OFFLOAD_SEND_ON_TIMESTAMP; mlx5 does with tx_pp=)",
                zero_ended(&info.driver)
            );
            Err(refused(spec, "cannot send at given times", format!("{why}; {OTHER_PACING}")))
        }
        (Pacing::Software, _) => Ok(false),
        (_, offered) => Ok(offered),
    }
}

/// As many descriptors as wanted, within what the device allows.
fn descriptors(min: u16, max: u16, align: u16) -> u16 {
    let max = if max == 0 { u16::MAX } else { max };
    let n = DESCRIPTORS.clamp(min, max.max(min));
    n - n % align.max(1)
}

impl EthPort {
    /// Attaches the device, gives it `rx` to receive into, and starts it. Not for `loop:` devices
    /// ([`LoopCable::open`]).
    ///
    /// # Errors
    /// [`DpdkError::Device`] with the device, what it refused and why; nothing stays attached.
    pub fn open(eal: &Eal, spec: &PortSpec, rx: &MbufPool) -> Result<EthPort, DpdkError> {
        let (arguments, _) = spec.arguments()?;
        let bus = match spec.device.kind {
            DeviceKind::Pci => "pci",
            DeviceKind::Virtual => "vdev",
            DeviceKind::Loop => {
                return Err(refused(spec, "is a cable", "two ports must name it".into()));
            }
        };
        let devargs = c_name(&format!("{bus}:{arguments}"))?;
        // SAFETY: EAL runs; the string is terminated and copied by the callee.
        let code = unsafe { dpdk_sys::rte_dev_probe(devargs.as_ptr()) };
        let advice = attach_advice(&spec.device);
        if code < 0 {
            return Err(refused(spec, "could not be attached", format!("{}; {advice}", text_of(-code))));
        }
        let name = c_name(&spec.device.name)?;
        let mut id = 0u16;
        // SAFETY: the name is terminated, and `id` is written to during the call only.
        if unsafe { dpdk_sys::rs_eth_port_of(name.as_ptr(), &mut id) } != 0 {
            let why = format!("DPDK reported success and made no port of that name; {advice}");
            return Err(refused(spec, "could not be attached", why));
        }
        EthPort::adopt(eal, id, spec, rx, None)
    }

    /// Configures and starts an attached port; closes it again when that fails.
    pub(super) fn adopt(
        eal: &Eal,
        id: u16,
        spec: &PortSpec,
        rx: &MbufPool,
        cable: Option<LoopCable>,
    ) -> Result<EthPort, DpdkError> {
        let mut port = EthPort {
            id,
            rx_queue: 0,
            tx_queue: 0,
            queues: spec.queues,
            name: spec.device.text.clone(),
            info: rs_eth_info::default(),
            frame_bytes_max: spec.frame_bytes_max,
            tx_descriptors: 0,
            refused: 0,
            unusable: 0,
            kind: spec.device.kind,
            pfc_seen: PfcSeen::Frames,
            carriers: carriers(&spec.device),
            tag_priority: 0,
            base: DeviceStats::default(),
            stamps: None,
            paces: None,
            sockets: Vec::new(),
            books: Vec::new(),
            attached: Arc::new(Attached::new(id, rx.clone(), cable)),
        };
        // SAFETY: the port exists and `info` is a struct of the layout the shim checks.
        check(spec, "does not say what it can do", unsafe { dpdk_sys::rs_eth_info(id, &mut port.info) })?;
        let i = &port.info;
        let most = i.max_rx_queues.min(i.max_tx_queues);
        if spec.queues > 1 && spec.queues > most {
            let why = format!("it has {most} each way; use queues = {} in [[port]]", most.max(1));
            return Err(refused(spec, "does not have so many queues", why));
        }
        // Ethernet and VLAN headers are not part of the MTU.
        let wanted = spec.frame_bytes_max.saturating_sub(14).max(1_500);
        // As rte_eth_dev_configure counts: MTU, and what the driver adds, or Ethernet's 18 bytes where it does not tell.
        let longest = match i.max_mtu {
            0 | u16::MAX => i.max_rx_pktlen.saturating_sub(18).min(u32::from(u16::MAX)) as u16,
            mtu if i.max_rx_pktlen > u32::from(mtu) => mtu,
            _ => i.max_rx_pktlen.saturating_sub(18) as u16,
        };
        if spec.device.kind == DeviceKind::Pci && wanted > longest {
            let why = format!("its MTU is {longest} at most and {wanted} is needed; use a smaller class mtu");
            return Err(refused(spec, "cannot carry the frames", why));
        }
        // What virtual devices claim is less than they carry.
        let mtu = wanted.min(longest);
        let rx_descs = descriptors(i.rx_descs_min, i.rx_descs_max, i.rx_descs_align);
        port.tx_descriptors = descriptors(i.tx_descs_min, i.tx_descs_max, i.tx_descs_align);
        // SAFETY: no arguments; registers a field of mbufs, once.
        let can_stamp = unsafe { dpdk_sys::rs_rx_stamps() } == 0;
        let stamps = can_stamp && i.rx_timestamps != 0;
        let times = takes_times(spec, &port.info)?;
        if times {
            stamps::register_send_times(eal)?;
        }
        // SAFETY: the port exists and is stopped; `rx` lives as long as the device, which keeps a clone.
        let code = unsafe {
            let (tx_descs, stamps, times) = (port.tx_descriptors, i32::from(stamps), i32::from(times));
            dpdk_sys::rs_eth_configure(id, spec.queues, mtu, rx_descs, tx_descs, rx.raw(), stamps, times)
        };
        check(spec, "could not be configured", code).map_err(|e| with_hint(spec, e))?;
        // SAFETY: as above; it is configured.
        let started = unsafe { dpdk_sys::rte_eth_dev_start(id) };
        check(spec, "could not be started", started).map_err(|e| with_hint(spec, e))?;
        if spec.promiscuous {
            // SAFETY: the port exists.
            let code = unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) };
            // Devices of two ends have no filter to open.
            if code < 0 && code != -libc::ENOTSUP {
                check(spec, "cannot take in frames for other addresses", code)?;
            }
        }
        if let Some(interface) = spec.device.socket_sends_on() {
            let open = |_| PacketTx::open(interface).map_err(|e| refused(spec, "cannot be sent on", e));
            port.sockets = (0..spec.queues).map(open).collect::<Result<_, DpdkError>>()?;
            port.books = port.sockets.iter().map(|s| Arc::clone(&s.books)).collect();
        }
        let source = match spec.device.kernel_stamps() {
            true if can_stamp => Some(StampSource::Kernel),
            _ => stamps.then_some(StampSource::Device),
        };
        // One that does not tell its clock has stamps that mean nothing to us.
        port.stamps = source.map(|s| StampClock::new(s, id)).filter(|c| c.clone().observe());
        port.paces = times.then(|| StampClock::new(StampSource::Device, id)).filter(|c| c.clone().observe());
        if times && port.paces.is_none() && spec.pacing == Pacing::Hardware {
            let why = "it does not tell its clock (rte_eth_read_clock), against which times are laid";
            return Err(refused(spec, "cannot send at given times", format!("{why}; {OTHER_PACING}")));
        }
        port.observe_clock();
        if port.kind == DeviceKind::Pci {
            // A NIC's MAC takes pauses for itself; most count them. Software devices pass every frame.
            let counts =
                |(name, _): &(String, u64)| ["pause", "xoff", "pfc"].iter().any(|w| name.contains(w));
            let counted = port.xstats().is_ok_and(|x| x.iter().any(counts));
            port.pfc_seen = if counted { PfcSeen::Counters } else { PfcSeen::Unknown };
        }
        Ok(port)
    }

    /// One port for each queue, in order; all share link, counters and settings of the device, which stays until the last
    /// of them is dropped.
    pub fn into_queues(mut self) -> Vec<EthPort> {
        let mut sockets = std::mem::take(&mut self.sockets).into_iter();
        let one = |q: u16| EthPort {
            rx_queue: q,
            tx_queue: q,
            queues: 1,
            name: self.name.clone(),
            carriers: self.carriers.clone(),
            stamps: self.stamps.clone(),
            paces: self.paces.clone(),
            sockets: sockets.next().into_iter().collect(),
            books: self.books.clone(),
            attached: Arc::clone(&self.attached),
            ..self
        };
        (0..self.queues).map(one).collect()
    }

    /// Sends on another queue from here on: for a port that has all queues of its device.
    pub fn send_on(&mut self, queue: u16) {
        if queue < self.queues {
            self.tx_queue = queue;
        }
    }

    /// Has frames for `ip` arrive at a queue; `mask` has ones where the address counts. `tagged`: behind a VLAN tag. The rule
    /// holds until the device is closed.
    ///
    /// # Errors
    /// The device takes no such rule, or no more of them, in its own words.
    pub fn steer(&mut self, ip: IpAddr, mask: u128, tagged: bool, queue: u16) -> Result<(), DpdkError> {
        let bytes = |v: u128| match ip {
            IpAddr::V4(_) => {
                let mut all = [0; 16];
                all[..4].copy_from_slice(&(v as u32).to_be_bytes());
                all
            }
            IpAddr::V6(_) => v.to_be_bytes(),
        };
        let value = match ip {
            IpAddr::V4(a) => u128::from(u32::from(a)),
            IpAddr::V6(a) => u128::from(a),
        };
        let (address, mask) = (bytes(value), bytes(mask));
        let mut refusal = None;
        // A tap keeps tagged frames and others in lists of different priorities; most NICs know one priority only.
        for priority in if tagged { self.tag_priority..=1 } else { 0..=0 } {
            let mut why = [0u8; WHY_BYTES];
            // SAFETY: the port is open; 16 bytes of each address are more than enough, and `why` has the room that is said.
            let code = unsafe {
                dpdk_sys::rs_eth_steer(
                    self.id,
                    address.as_ptr(),
                    mask.as_ptr(),
                    i32::from(ip.is_ipv6()),
                    i32::from(tagged),
                    priority,
                    queue,
                    why.as_mut_ptr().cast(),
                    WHY_BYTES as u32,
                )
            };
            if code >= 0 {
                if tagged {
                    self.tag_priority = priority;
                }
                self.attached.has_rules();
                return Ok(());
            }
            let (said, reason) = (zero_ended(&why), text_of(-code));
            refusal.get_or_insert(match reason.starts_with(&said) {
                true => reason,
                false => format!("{said} ({reason})"),
            });
        }
        Err(DpdkError::Device {
            device: self.name.clone(),
            what: "takes no rule that leads an address to a queue",
            reason: refusal.unwrap_or_default(),
        })
    }

    /// Removes every rule.
    pub fn forget_rules(&mut self) {
        self.attached.forget_rules();
    }

    /// The device as the profile names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of its driver.
    pub fn driver(&self) -> String {
        zero_ended(&self.info.driver)
    }

    /// MAC address of the device.
    pub fn mac(&self) -> [u8; 6] {
        self.info.mac
    }

    /// The device could send frames at given times.
    pub fn could_pace(&self) -> bool {
        self.info.tx_pacing != 0
    }

    /// The device sends frames at the times they carry ([`Port::send_at`]).
    pub fn paces(&self) -> bool {
        self.paces.is_some()
    }

    /// Who stamps arrivals, and how far a stamp may be off, in ticks of the TSC. `None`: nobody.
    pub fn stamps(&self) -> Option<(StampSource, u64)> {
        self.stamps.as_ref().map(|c| (c.source(), c.doubt_ticks()))
    }

    /// Lays the clock of the device against the TSC again. Ten times a second is enough.
    pub fn observe_clock(&mut self) {
        for clock in self.stamps.iter_mut().chain(&mut self.paces) {
            clock.observe();
        }
    }

    /// Descriptors of the transmit ring: what the device may hold besides the wire.
    pub fn tx_descriptors(&self) -> u16 {
        self.tx_descriptors
    }

    /// Frames of bursts the device did not take at once.
    pub fn tx_refused(&self) -> u64 {
        self.refused
    }

    /// A packet socket of ours sends, and not the device's driver.
    pub fn sends_by_socket(&self) -> bool {
        !self.books.is_empty()
    }

    /// Why the first of the frames was lost that a socket of ours took and could not send.
    pub fn why_unsent(&self) -> Option<&str> {
        self.books.iter().find_map(|b| b.why.get()).map(String::as_str)
    }

    /// Received frames that were thrown away because they came in pieces or in memory of others.
    pub fn rx_unusable(&self) -> u64 {
        self.unusable
    }

    /// State of the link now.
    ///
    /// # Errors
    /// The device does not tell, or is gone.
    pub fn link(&self) -> Result<Link, DpdkError> {
        let mut mbps = 0u32;
        // SAFETY: the port is open.
        let code = unsafe { dpdk_sys::rs_eth_link(self.id, &mut mbps) };
        self.checked("does not tell its link", code)?;
        let rate = (mbps != u32::MAX && mbps != 0).then(|| Rate::mbps(u64::from(mbps)));
        // Drivers of kernel interfaces say up whatever happens; the kernel knows. An interface that is set down has
        // no carrier to read, and one that was unplugged has nothing.
        let alive = |path: &String| std::fs::read_to_string(path).is_ok_and(|carrier| carrier.trim() == "1");
        let dead = !self.carriers.iter().all(alive);
        Ok(Link { up: code == 1 && !dead, rate })
    }

    /// Counters of the device.
    ///
    /// # Errors
    /// The device does not tell, or is gone.
    pub fn stats(&self) -> Result<DeviceStats, DpdkError> {
        let mut s = rs_eth_stats::default();
        // SAFETY: the port is open and `s` has the layout the shim checks.
        let code = unsafe { dpdk_sys::rs_eth_stats(self.id, &mut s) };
        self.checked("does not tell its counters", code)?;
        for books in &self.books {
            s.opackets += books.frames.load(Ordering::Relaxed);
            s.obytes += books.bytes.load(Ordering::Relaxed);
            s.oerrors += books.lost.load(Ordering::Relaxed);
        }
        let b = &self.base;
        Ok(DeviceStats {
            tx_frames: s.opackets.saturating_sub(b.tx_frames),
            rx_frames: s.ipackets.saturating_sub(b.rx_frames),
            tx_bytes: s.obytes.saturating_sub(b.tx_bytes),
            rx_bytes: s.ibytes.saturating_sub(b.rx_bytes),
            rx_missed: s.imissed.saturating_sub(b.rx_missed),
            rx_errors: s.ierrors.saturating_sub(b.rx_errors),
            tx_errors: s.oerrors.saturating_sub(b.tx_errors),
            rx_no_buffer: s.rx_nombuf.saturating_sub(b.rx_no_buffer),
        })
    }

    /// Counters start again from 0.
    pub fn count_from_here(&mut self) {
        self.unusable = 0;
        self.base = DeviceStats::default();
        self.base = self.stats().unwrap_or_default();
    }

    /// All further counters by name; pauses are among them on most NICs.
    ///
    /// # Errors
    /// The device does not tell, or is gone.
    pub fn xstats(&self) -> Result<Vec<(String, u64)>, DpdkError> {
        let mut list = vec![rs_eth_xstat { name: [0; 64], value: 0 }; XSTATS_MAX];
        // SAFETY: the port is open and the list holds as many entries as said.
        let n = unsafe { dpdk_sys::rs_eth_xstats(self.id, list.as_mut_ptr(), XSTATS_MAX as u32) };
        self.checked("does not tell its further counters", n)?;
        list.truncate(usize::try_from(n).unwrap_or(0));
        Ok(list.iter().map(|x| (zero_ended(&x.name), x.value)).collect())
    }

    /// Forward error correction of the link, as the device says; `None` where it does not tell.
    pub fn fec(&self) -> Option<&'static str> {
        // SAFETY: the port is open.
        let modes = unsafe { dpdk_sys::rs_eth_fec(self.id) };
        // RTE_ETH_FEC_MODE_CAPA_MASK: none, automatic, BASE-R, RS.
        match u32::try_from(modes).ok().filter(|m| *m != 0)?.trailing_zeros() {
            0 => Some("none"),
            1 => Some("automatic"),
            2 => Some("BASE-R"),
            3 => Some("RS"),
            _ => Some("another kind"),
        }
    }

    /// Link-level flow control; `None` where the device has none to speak of.
    pub fn flow_control(&self) -> Option<FlowControl> {
        // SAFETY: the port is open.
        match unsafe { dpdk_sys::rs_eth_flow_control(self.id) } {
            0 => Some(FlowControl::Off),
            1 => Some(FlowControl::Obeys),
            2 => Some(FlowControl::Sends),
            3 => Some(FlowControl::Both),
            _ => None,
        }
    }

    /// Sets link-level flow control until the port is closed, and whether pause frames are passed on to us.
    ///
    /// # Errors
    /// The device has none, or refuses.
    pub fn set_flow_control(&mut self, mode: FlowControl, forward: bool) -> Result<(), DpdkError> {
        let before = self.flow_control();
        // SAFETY: the port is open.
        let code = unsafe { dpdk_sys::rs_eth_set_flow_control(self.id, mode as i32, i32::from(forward)) };
        self.checked("does not set flow control so", code)?;
        if let Some(before) = before {
            self.attached.flow_was(before);
        }
        Ok(())
    }

    /// Has the device obey PFC of a priority by itself.
    ///
    /// # Errors
    /// The device cannot, or refuses.
    pub fn obey_pfc(&mut self, priority: u8) -> Result<(), DpdkError> {
        // SAFETY: the port is open.
        let code = unsafe { dpdk_sys::rs_eth_obey_pfc(self.id, priority, 1) };
        self.checked("does not obey PFC by itself", code)
    }

    /// Nothing is sent or received from here on.
    pub fn stop(&mut self) {
        self.sockets.clear();
        // SAFETY: the port is open; stopping a stopped one is refused and harmless.
        unsafe { dpdk_sys::rte_eth_dev_stop(self.id) };
    }

    fn checked(&self, what: &'static str, code: i32) -> Result<(), DpdkError> {
        if code < 0 {
            return Err(DpdkError::Device { device: self.name.clone(), what, reason: text_of(-code) });
        }
        Ok(())
    }

    /// Appends what the device has to `out`, as far as it has room, and returns how many. They are no frames yet.
    #[inline]
    fn take_in(&mut self, out: &mut Burst<MbufFrame>) -> usize {
        let len = out.len();
        let room = out.capacity() - len;
        let mut freed = 0u16;
        // SAFETY: there is room for `room` pointers behind the first `len`; the queue is set up, and no other port has it, so
        // that `&mut self` makes this thread its only user. `freed` is written to during the call only.
        let kept = usize::from(unsafe {
            let end = out.as_mut_ptr().add(len);
            dpdk_sys::rs_eth_rx_adopt(self.id, self.rx_queue, end.cast(), room as u16, &mut freed)
        })
        .min(room);
        if self.queues > 1 {
            self.rx_queue = (self.rx_queue + 1) % self.queues;
        }
        self.unusable += u64::from(freed);
        // SAFETY: the shim has written `kept` mbufs there that are now ours alone, and freed the others.
        unsafe { out.set_len(len + kept) };
        kept
    }

    /// Hands over frames from the front and returns how many the device took.
    pub fn send<const N: usize>(&mut self, frames: &mut ArrayVec<MbufFrame, N>) -> usize {
        let count = frames.len();
        if count == 0 {
            return 0;
        }
        if let Some(socket) = self.sockets.first_mut() {
            let sent = socket.send(frames);
            self.refused += (count - sent) as u64;
            return sent;
        }
        // SAFETY: `count` valid frames, each an mbuf of one segment that is ours alone; the queue is set up, and no other port
        // has it, so that `&mut self` makes this thread its only user.
        let sent = usize::from(unsafe {
            dpdk_sys::rs_eth_tx_burst(self.id, self.tx_queue, frames.as_mut_ptr().cast(), count as u16)
        })
        .min(count);
        // SAFETY: the first `sent` frames now belong to the device; the others move to the front. Nothing in between can
        // panic.
        unsafe {
            let first = frames.as_mut_ptr();
            frames.set_len(0);
            if sent < count {
                std::ptr::copy(first.add(sent), first, count - sent);
            }
            frames.set_len(count - sent);
        }
        self.refused += (count - sent) as u64;
        sent
    }
}

impl Port for EthPort {
    type Frame = MbufFrame;

    fn rx_burst(&mut self, out: &mut Burst<MbufFrame>) -> usize {
        self.rx_timed(out, || Time::ZERO).map_or(0, |arrived| arrived.frames)
    }

    #[inline]
    fn rx_timed(&mut self, out: &mut Burst<MbufFrame>, clock: impl FnOnce() -> Time) -> Option<Arrived> {
        let before = out.len();
        if self.take_in(out) == 0 {
            return None;
        }
        let (at, mut bytes, mut short) = (clock(), 0, false);
        // Laid out in memory, so that it is copied line by line.
        let meta = black_box(FrameMeta { fill: Fill::Writable, arrive: at, ..FrameMeta::default() });
        for frame in &mut out[before..] {
            let (len, whole) = frame.arrived(&meta);
            short |= !whole;
            bytes += len.counted();
        }
        if short {
            self.unusable += drop_unfit(out, before);
            return (out.len() > before).then(|| Arrived::at(at, &mut out[before..]));
        }
        Some(Arrived { frames: out.len() - before, bytes, at })
    }

    /// As many as the device's ring may have room for; it refuses what it cannot take.
    fn tx_room(&mut self) -> usize {
        crate::limits::BURST
    }

    fn tx_burst(&mut self, batch: &mut TxBatch<MbufFrame>) -> usize {
        let sent = self.send(&mut batch.control);
        if batch.control.is_empty() { sent + self.send(&mut batch.data) } else { sent }
    }

    fn arrived_at(&self, frame: &MbufFrame) -> Option<u64> {
        let clock = self.stamps.as_ref()?;
        // SAFETY: a frame owns a valid mbuf, which is only read.
        clock.tick_of(unsafe { dpdk_sys::rs_mbuf_rx_stamp(frame.mbuf()) })
    }

    #[inline]
    fn send_at(&mut self, frame: &mut MbufFrame, tick: Option<u64>) -> bool {
        let Some(clock) = &self.paces else { return false };
        let time = tick.and_then(|tick| clock.stamp_of(tick));
        frame.set_send_time(time);
        time.is_some()
    }

    fn caps(&self) -> PortCaps {
        PortCaps {
            pfc_seen: self.pfc_seen,
            rx_timestamps: self.stamps.is_some(),
            frame_len_max: self.frame_bytes_max,
        }
    }
}

/// Removes the frames from `from` on that are too long for their buffers to be one of ours.
#[cold]
fn drop_unfit(out: &mut Burst<MbufFrame>, from: usize) -> u64 {
    let before = out.len();
    let mut at = 0;
    out.retain(|f| {
        at += 1;
        at <= from || f.has_all_bytes()
    });
    (before - out.len()) as u64
}

/// Of the interfaces that /sys shows: it is that of the network namespace it was mounted in.
fn carriers(device: &DeviceSpec) -> Vec<String> {
    let paths = device.interfaces().into_iter().map(|name| format!("/sys/class/net/{name}/carrier"));
    paths.filter(|path| std::path::Path::new(path).exists()).collect()
}

fn zero_ended(bytes: &[u8]) -> String {
    CStr::from_bytes_until_nul(bytes).map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Number of ports DPDK has now.
pub fn ports_open(_eal: &Eal) -> u16 {
    // SAFETY: EAL runs.
    unsafe { dpdk_sys::rte_eth_dev_count_avail() }
}
