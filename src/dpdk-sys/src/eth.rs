//! Ethernet devices: flat structs that `shim_eth.c` fills from DPDK's own.

use core::ffi::{c_char, c_int, c_uint, c_void};

use crate::{rte_mempool, rte_ring};

/// What a device says of itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rs_eth_info {
    /// Name of the driver, zero terminated.
    pub driver: [u8; 32],
    /// Longest frame; most virtual devices name one that is not true.
    pub max_rx_pktlen: u32,
    /// Index of the kernel's interface; 0 when there is none.
    pub if_index: u32,
    /// Smallest MTU.
    pub min_mtu: u16,
    /// Largest MTU.
    pub max_mtu: u16,
    /// Receive queues.
    pub max_rx_queues: u16,
    /// Transmit queues.
    pub max_tx_queues: u16,
    /// Fewest receive descriptors.
    pub rx_descs_min: u16,
    /// Most receive descriptors.
    pub rx_descs_max: u16,
    /// Receive descriptors come in multiples of this.
    pub rx_descs_align: u16,
    /// Fewest transmit descriptors.
    pub tx_descs_min: u16,
    /// Most transmit descriptors.
    pub tx_descs_max: u16,
    /// Transmit descriptors come in multiples of this.
    pub tx_descs_align: u16,
    /// Receive descriptors the driver recommends; 0 when it does not.
    pub rx_descs: u16,
    /// Transmit descriptors the driver recommends; 0 when it does not.
    pub tx_descs: u16,
    /// MAC address.
    pub mac: [u8; 6],
    /// Can stamp arrivals.
    pub rx_timestamps: u8,
    /// Can send at a given time.
    pub tx_pacing: u8,
}

/// `struct rte_eth_stats` without its per-queue part.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct rs_eth_stats {
    /// Frames received.
    pub ipackets: u64,
    /// Frames sent.
    pub opackets: u64,
    /// Bytes received.
    pub ibytes: u64,
    /// Bytes sent.
    pub obytes: u64,
    /// Frames lost for want of descriptors.
    pub imissed: u64,
    /// Frames received broken.
    pub ierrors: u64,
    /// Frames that could not be sent.
    pub oerrors: u64,
    /// Receive buffers that could not be had.
    pub rx_nombuf: u64,
}

/// One extended counter.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct rs_eth_xstat {
    /// Name, zero terminated.
    pub name: [u8; 64],
    /// Value.
    pub value: u64,
}

const _: () = assert!(size_of::<rs_eth_info>() == crate::RS_ETH_INFO_BYTES);
const _: () = assert!(size_of::<rs_eth_stats>() == crate::RS_ETH_STATS_BYTES);
const _: () = assert!(size_of::<rs_eth_xstat>() == crate::RS_ETH_XSTAT_BYTES);

unsafe extern "C" {
    /// Attaches the device of "BUS:NAME,ARGUMENTS". Negative errno on failure.
    pub fn rte_dev_probe(devargs: *const c_char) -> c_int;
    /// Number of ports that can be used.
    pub fn rte_eth_dev_count_avail() -> u16;
    /// Starts a configured port. Negative errno on failure.
    pub fn rte_eth_dev_start(port: u16) -> c_int;
    /// Stops a port. Negative errno on failure.
    pub fn rte_eth_dev_stop(port: u16) -> c_int;
    /// Takes in frames for every MAC address. Negative errno on failure.
    pub fn rte_eth_promiscuous_enable(port: u16) -> c_int;
    /// Makes a port that sends into and receives from these rings. Port number, or -1 and `rte_errno`.
    pub fn rte_eth_from_rings(
        name: *const c_char,
        rx: *const *mut rte_ring,
        rx_queues: c_uint,
        tx: *const *mut rte_ring,
        tx_queues: c_uint,
        numa_node: c_uint,
    ) -> c_int;

    /// Has DPDK's interrupt thread call `callback` after `us` microseconds. Negative errno on failure.
    pub fn rte_eal_alarm_set(
        us: u64,
        callback: unsafe extern "C" fn(*mut c_void),
        argument: *mut c_void,
    ) -> c_int;

    /// Fills `out`. Negative errno on failure.
    pub fn rs_eth_info(port: u16, out: *mut rs_eth_info) -> c_int;
    /// Configures so many queues each way; `stamps`: arrivals get the device's time; `times`: frames are sent at the times they
    /// carry. Negative errno on failure.
    pub fn rs_eth_configure(
        port: u16,
        queues: u16,
        mtu: u16,
        rx_descs: u16,
        tx_descs: u16,
        pool: *mut rte_mempool,
        stamps: c_int,
        times: c_int,
    ) -> c_int;
    /// Has frames whose IP destination equals `ip` where `mask` has ones (4 or 16 bytes each) arrive at `queue`. Negative
    /// errno, and at most `room` bytes of text in `why`, zero terminated.
    pub fn rs_eth_steer(
        port: u16,
        ip: *const u8,
        mask: *const u8,
        v6: c_int,
        tagged: c_int,
        priority: u32,
        queue: u16,
        why: *mut c_char,
        room: c_uint,
    ) -> c_int;
    /// `rte_flow_flush`. Negative errno on failure.
    pub fn rs_eth_forget_rules(port: u16) -> c_int;
    /// `rte_eth_dev_get_port_by_name`.
    pub fn rs_eth_port_of(name: *const c_char, port: *mut u16) -> c_int;
    /// Closes the port and removes its device.
    pub fn rs_eth_detach(port: u16) -> c_int;
    /// 1 up, 0 down, negative errno; speed in Mbit/s, `u32::MAX` when unknown.
    pub fn rs_eth_link(port: u16, speed: *mut u32) -> c_int;
    /// Fills `out`. Negative errno on failure.
    pub fn rs_eth_stats(port: u16, out: *mut rs_eth_stats) -> c_int;
    /// Fills at most `n` and returns how many there are, or a negative errno.
    pub fn rs_eth_xstats(port: u16, out: *mut rs_eth_xstat, n: c_uint) -> c_int;
    /// Bits of the FEC modes in use (`RTE_ETH_FEC_MODE_CAPA_MASK`). Negative errno where the device does not tell.
    pub fn rs_eth_fec(port: u16) -> c_int;
    /// 0 none, 1 obeys pauses, 2 sends them, 3 both; negative errno.
    pub fn rs_eth_flow_control(port: u16) -> c_int;
    /// Sets the mode, and whether pause frames reach us. Negative errno on failure.
    pub fn rs_eth_set_flow_control(port: u16, mode: c_int, forward: c_int) -> c_int;
    /// `rte_eth_rx_burst` of a queue, up to `n`: how many are at the front of `frames` now, each one segment, ours alone, its
    /// data right behind the headroom. Others were freed, `*freed` of them.
    pub fn rs_eth_rx_adopt(port: u16, queue: u16, frames: *mut *mut c_void, n: u16, freed: *mut u16) -> u16;
    /// `rte_eth_tx_burst` of a queue: how many of `n` the device took.
    pub fn rs_eth_tx_burst(port: u16, queue: u16, frames: *mut *mut c_void, n: u16) -> u16;
    /// Finds where mbufs carry the time of their arrival. Negative errno on failure.
    pub fn rs_rx_stamps() -> c_int;
    /// The time of arrival in the device's unit; 0 when there is none.
    pub fn rs_mbuf_rx_stamp(mbuf: *const c_void) -> u64;
    /// Finds where mbufs carry the time at which they are to be sent. Negative errno on failure.
    pub fn rs_send_times() -> c_int;
    /// Has the device send the frame at this time of its own clock; 0: as soon as may be. Nothing before [`rs_send_times`].
    pub fn rs_mbuf_set_send_time(mbuf: *mut c_void, time: u64);
    /// That time; 0 when there is none.
    pub fn rs_mbuf_send_time(mbuf: *const c_void) -> u64;
    /// The device's clock now, in the unit of its stamps. Negative errno on failure.
    pub fn rs_eth_read_clock(port: u16, now: *mut u64) -> c_int;
    /// Has the device obey PFC of a priority by itself, or not. Negative errno on failure.
    pub fn rs_eth_obey_pfc(port: u16, priority: u8, obey: c_int) -> c_int;
}
