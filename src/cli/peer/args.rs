//! What `rankstorm peer` can be told.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::profile::quantity::parse_size;
use crate::sys::interface::parse_mac;

/// What `peer --help` begins with.
pub const LONG_ABOUT: &str = "\
Talk to one RoCEv2 endpoint over reliable connections

One or several RC queue pairs against any RoCEv2 endpoint: an RDMA NIC, or the Linux kernel's rdma_rxe. There is no
connection manager: each side is told the other's queue pair number, first PSN, address and key. Ours are known before
the start: queue pair i has the number 0x11 + i; keys and addresses are what --rkey and --vaddr say.

As requester (--op write, write-imm, send, send-imm) it sends bytes that depend on their offset in the region, and
prints the CRC-32 that the other end's region must have (EXPECT_CRC32; other bytes zero). With --op read it fetches
their region and prints the CRC-32 of what came (REGION_CRC32). As responder (--op serve) it answers WRITE, SEND, READ
and atomics of the other end from a region whose CRC-32 it prints. A later run can go on with the same queue pair at the
other end: --psn NEXT_PSN of the run before.

One line per message, then KEY=VALUE lines; with --json one object per message, then one object.
Exit codes: 0 all messages completed (or, with --op serve, as many as --messages arrived); 1 not so; 2 usage or set-up;
3 the tester itself lost frames or had none to send.";

/// `peer`.
#[derive(Debug, Args)]
pub struct PeerArgs {
    /// Port.
    #[command(flatten)]
    pub port: PortArgs,
    /// Ends.
    #[command(flatten)]
    pub ends: EndArgs,
    /// Work.
    #[command(flatten)]
    pub work: WorkArgs,
    /// Memory.
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Reliability.
    #[command(flatten)]
    pub rc: RcArgs,
    /// Run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The port.
#[derive(Debug, Args)]
#[command(next_help_heading = "Port")]
pub struct PortArgs {
    /// Frames over unix datagram sockets: bind LOCAL, send to REMOTE (QEMU: -netdev dgram); needs no rights
    #[arg(
        long,
        value_name = "LOCAL,REMOTE",
        required_unless_present = "interface",
        conflicts_with = "interface"
    )]
    pub unix: Option<String>,
    /// Frames over a packet socket on this network interface; needs CAP_NET_RAW
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Use the interface although it has a global address or a route: its name once more
    #[arg(long, value_name = "NAME", requires = "interface")]
    pub allow_in_use: Option<String>,
}

/// The two ends.
#[derive(Debug, Args)]
#[command(next_help_heading = "Ends")]
pub struct EndArgs {
    /// Our address
    #[arg(long, value_name = "IP")]
    pub ip: IpAddr,
    /// Our MAC [default: the interface's; 02:00:00:00:00:01 with --unix]
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub mac: Option<Mac>,
    /// Their address
    #[arg(long, value_name = "IP")]
    pub peer_ip: IpAddr,
    /// Their MAC, or that of the next hop
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub peer_mac: Mac,
    /// Their queue pair numbers; as many as given are connected
    #[arg(long, value_name = "QPN,...", value_delimiter = ',', required = true, value_parser = number24)]
    pub peer_qpn: Vec<u32>,
    /// First PSN we send
    #[arg(long, value_name = "PSN", default_value = "0", value_parser = number24)]
    pub psn: u32,
    /// First PSN they send
    #[arg(long, value_name = "PSN", default_value = "0", value_parser = number24)]
    pub peer_psn: u32,
    /// Path MTU: 256, 512, 1024, 2048 or 4096
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = mtu)]
    pub mtu: u16,
    /// DSCP of all frames
    #[arg(long, value_name = "0..63", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..64))]
    pub dscp: u8,
    /// Send data as ECN capable (ECT(0))
    #[arg(long)]
    pub ecn: bool,
    /// Send tagged frames
    #[arg(long, value_name = "VID", value_parser = clap::value_parser!(u16).range(1..4095))]
    pub vlan: Option<u16>,
}

/// What to send.
#[derive(Debug, Args)]
#[command(next_help_heading = "Work")]
pub struct WorkArgs {
    /// What to do
    #[arg(long, value_enum, default_value_t = OpArg::Serve)]
    pub op: OpArg,
    /// Bytes per message
    #[arg(long, value_name = "SIZE", default_value = "4096", value_parser = size)]
    pub size: u64,
    /// Messages per queue pair
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// Messages outstanding per queue pair
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub window: u32,
    /// First byte of their region, one value or one per queue pair
    #[arg(long, value_name = "ADDRESS,...", value_delimiter = ',', default_value = "0", value_parser = number64)]
    pub peer_vaddr: Vec<u64>,
    /// Key of their region, one value or one per queue pair
    #[arg(long, value_name = "KEY,...", value_delimiter = ',', default_value = "0", value_parser = number32)]
    pub peer_rkey: Vec<u32>,
    /// Size of their region, for EXPECT_CRC32 [default: --region]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub peer_region: Option<u64>,
    /// Message i starts at i x STRIDE, modulo the last place where it fits [default: --size; SEND: --receive-size]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub stride: Option<u64>,
}

/// What `--op` can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OpArg {
    /// Answer the other end
    Serve,
    /// RDMA WRITE
    Write,
    /// RDMA WRITE with the message number as immediate data
    WriteImm,
    /// SEND
    Send,
    /// SEND with the message number as immediate data
    SendImm,
    /// RDMA READ from their region into the same places of ours
    Read,
}

/// Our region.
#[derive(Debug, Args)]
#[command(next_help_heading = "Memory")]
pub struct MemoryArgs {
    /// Bytes of memory behind each queue pair
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    pub region: u64,
    /// Address of its first byte, as the other end names it
    #[arg(long, value_name = "ADDRESS", default_value = "0x10000", value_parser = number64)]
    pub vaddr: u64,
    /// Its key
    #[arg(long, value_name = "KEY", default_value = "0x12345678", value_parser = number32)]
    pub rkey: u32,
    /// Bytes per receive; receive i starts at i x SIZE, modulo the last place where it fits
    #[arg(long, value_name = "SIZE", default_value = "4096", value_parser = size)]
    pub receive_size: u64,
    /// Region at the start: zeros, or bytes that depend on their offset (those who send always start so)
    #[arg(long, value_enum, default_value_t = FillArg::Zero)]
    pub fill: FillArg,
}

/// What `--fill` can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FillArg {
    /// Zeros
    Zero,
    /// Bytes that depend on their offset
    Pattern,
}

/// Reliability.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reliable connection")]
pub struct RcArgs {
    /// Local ACK timeout, 4.096 us x 2^N; 0 = never
    #[arg(long, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u8).range(0..32))]
    pub timeout: u8,
    /// Retries before a queue pair fails
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u8).range(0..8))]
    pub retry_count: u8,
    /// Waits for a receiver that is not ready; 7 = for ever
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u8).range(0..8))]
    pub rnr_retry: u8,
    /// READ requests outstanding; the other end may allow fewer (max_dest_rd_atomic)
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=128))]
    pub max_rd_atomic: u8,
    /// Unacknowledged packets allowed in flight
    #[arg(long, value_name = "PACKETS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..8_388_608))]
    pub inflight: u32,
    /// Ask for an acknowledgement every so many packets (and on the last of a message)
    #[arg(long, value_name = "PACKETS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub ack_req_every: u16,
    /// Acknowledge at least every so many packets (and when asked)
    #[arg(long, value_name = "PACKETS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub ack_every: u16,
}

/// The run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Run")]
pub struct RunArgs {
    /// Longest run
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// Serve: end when so many messages have arrived
    #[arg(long, value_name = "N")]
    pub messages: Option<u64>,
    /// Serve: end when no frame has come for so long since the last one
    #[arg(long, value_name = "S")]
    pub idle: Option<f64>,
    /// Spoil frames, e.g. "tx drop opcode=write-middle nth=3"; tx|rx, then drop, duplicate, swap, corrupt, delay or
    /// mark-ce, then opcode= qp= psn= nth= count= p= us=; may be given more than once
    #[arg(long, value_name = "RULE")]
    pub fault: Vec<String>,
    /// Seed of random faults
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Capture of all frames, both ways
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// One JSON object per message, then one with the totals
    #[arg(long)]
    pub json: bool,
    /// No lines for messages
    #[arg(long)]
    pub quiet: bool,
}

/// Six bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

fn mac(text: &str) -> Result<Mac, String> {
    parse_mac(text).map(Mac).ok_or_else(|| "a MAC is six bytes like 52:54:00:00:00:11".into())
}

/// A decimal or, with 0x, hexadecimal number.
fn number64(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "write a number like 17 or 0x11".into())
}

fn number32(text: &str) -> Result<u32, String> {
    u32::try_from(number64(text)?).map_err(|_| "has 32 bits: at most 0xffffffff".into())
}

fn number24(text: &str) -> Result<u32, String> {
    number32(text).ok().filter(|n| *n < 1 << 24).ok_or_else(|| "has 24 bits: 0 to 0xffffff".into())
}

fn mtu(text: &str) -> Result<u16, String> {
    let known = [256, 512, 1024, 2048, 4096];
    text.parse().ok().filter(|m| known.contains(m)).ok_or_else(|| "is 256, 512, 1024, 2048 or 4096".into())
}

/// A size with a unit, or plain bytes.
fn size(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(bytes) => Ok(bytes),
        Err(_) => parse_size(text).map(|b| b.0),
    }
}
