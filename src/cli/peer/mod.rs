//! `rankstorm peer`: queue pairs of ours against one RoCEv2 endpoint that somebody else wrote.

pub mod args;
mod build;
mod faults;
mod output;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};

use args::{OpArg, PeerArgs};
use output::Printer;

use crate::frame::whole::{FRAME_BYTES_MAX, WholePool};
use crate::host::{Host, HostEvent};
use crate::limits::RUN_SECONDS_MAX;
use crate::run::realtime::{Between, Ended, Realtime};
use crate::run::tee::PcapTee;
use crate::sys::interface::Interface;
use crate::sys::signals::StopFlag;
use crate::sys::socket::{FrameSocket, PacketSocket, UnixPair};
use crate::sys::socket_port::SocketPort;
use crate::sys::tsc::{CALIBRATION_WINDOW, Tsc};
use crate::units::{Span, Time};
use crate::wire::neighbour::Own;

/// Frames the tester may hold: more than any window it sends at a time.
const FRAMES: usize = 512;
/// A server that has all it waited for stays so long, to answer repeated requests whose ACK was lost.
const LINGER: Span = Span::from_ms(200);

/// Runs the peer; the exit code is the verdict.
pub fn peer(args: &PeerArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let stop = StopFlag::on_signals().context("cannot catch signals")?;
    let seconds = args.run.seconds;
    if !(seconds > 0.0 && seconds <= RUN_SECONDS_MAX as f64) {
        bail!("--seconds {seconds}: a run takes more than 0 and at most {RUN_SECONDS_MAX} seconds");
    }
    let lines = faults::lines(&args.run.fault, args.run.seed)?;
    let pool = WholePool::new(FRAMES);
    let (port, mac) = open_port(args, &pool)?;
    let mut host = Host::new(build::host_config(args, mac)?);
    let queue_pairs = args.ends.peer_qpn.len();
    for qp in 0..queue_pairs {
        host.attach_memory(qp as u32, build::region(args, qp)?)?;
    }
    if let Some(HostEvent::Failed { cause, .. }) = host.poll_event() {
        bail!("the queue pairs cannot be set up: {cause}");
    }
    let tee = match &args.run.pcap {
        Some(path) => Some(Box::new(PcapTee::create(path)?) as _),
        None => None,
    };
    let tsc = Tsc::calibrate(CALIBRATION_WINDOW)?;
    let neighbour = Some(Own { ip: args.ends.ip, mac });
    let between = Between { neighbour, check_icrc: true, tx_faults: lines.tx, rx_faults: lines.rx, tee };

    let mut printer = Printer::new(args, out);
    printer.ready()?;
    let mut driver = Realtime::new(host, port, pool, tsc, between);
    driver.host.start_iteration(0, driver.now());
    let until = Time((seconds * 1e12) as u64);
    let mut full_at = Time::NEVER;
    let idle = args.run.idle.map_or(Span(u64::MAX), |s| Span((s.max(0.0) * 1e12) as u64));
    let mut heard = (0, Time::ZERO);
    let mut written = Ok(());
    let ended = driver.run(until, &stop, &mut printer, |now, host, printer| {
        while let Some(message) = host.poll_received() {
            printer.received(&message);
        }
        while let Some(event) = host.poll_event() {
            if let HostEvent::Failed { from, to, cause, .. } = event {
                printer.failed(from, to, cause);
            }
        }
        written = printer.flush();
        if written.is_err() {
            return true;
        }
        if args.work.op != OpArg::Serve {
            return printer.all_sent();
        }
        if full_at == Time::NEVER && args.run.messages.is_some_and(|n| printer.messages_received() >= n) {
            full_at = now;
        }
        if heard.0 != host.stats().rx_frames {
            heard = (host.stats().rx_frames, now);
        }
        let silent = heard.0 > 0 && now.since(heard.1) >= idle;
        silent || full_at != Time::NEVER && now >= full_at + LINGER
    });
    written?;
    if let Some(error) = driver.port.failure() {
        bail!("the port stopped carrying frames: {error}");
    }
    driver.finish(&mut printer);
    let port = driver.port.stats();
    let spoilt = port.rx_missed > 0 || driver.host.stats().pool_empty > 0;
    let complete = match (args.work.op, args.run.messages) {
        (OpArg::Serve, Some(n)) => printer.messages_received() >= n,
        (OpArg::Serve, None) => true,
        _ => printer.all_completed(),
    };
    let why = match ended {
        Ended::Done => "done",
        Ended::TimeOver => "time-over",
        Ended::Stopped => "stopped",
    };
    printer.summary(&driver.host, driver.stats(), &port, driver.now(), why, complete)?;
    Ok(match (spoilt, complete) {
        (true, _) => 3,
        (false, true) => 0,
        (false, false) => 1,
    })
}

/// The port and our MAC.
fn open_port(args: &PeerArgs, pool: &WholePool) -> anyhow::Result<(SocketPort, [u8; 6])> {
    let mac = args.ends.mac.map(|m| m.0);
    if let Some(name) = &args.port.interface {
        let interface = Interface::find(name)?;
        if args.port.allow_in_use.as_ref().is_some_and(|n| n != name) {
            bail!("--allow-in-use must name the interface itself: --allow-in-use {name}");
        }
        if args.port.allow_in_use.is_none() {
            interface.refuse_in_use()?;
        }
        let largest = build::frame_len_max(args);
        if u32::from(largest) > interface.mtu + 14 + if args.ends.vlan.is_some() { 4 } else { 0 } {
            bail!(
                "interface {name} has MTU {}, and --mtu {} makes frames of {largest} bytes: ip link set {name} mtu {}",
                interface.mtu,
                args.ends.mtu,
                largest - 14
            );
        }
        let mac = mac.unwrap_or(interface.mac);
        let socket = PacketSocket::open(&interface, mac != interface.mac)
            .with_context(|| format!("--interface {name}: a packet socket needs CAP_NET_RAW"))?;
        return Ok((SocketPort::new(FrameSocket::Packet(socket), pool.clone(), largest), mac));
    }
    let pair = args.port.unix.as_deref().unwrap_or_default();
    let Some((local, remote)) = pair.split_once(',') else {
        bail!("--unix {pair}: name two paths, LOCAL,REMOTE");
    };
    let socket =
        UnixPair::open(Path::new(local), Path::new(remote)).with_context(|| format!("--unix {local}"))?;
    let port = SocketPort::new(FrameSocket::Unix(socket), pool.clone(), FRAME_BYTES_MAX as u16);
    Ok((port, mac.unwrap_or([2, 0, 0, 0, 0, 1])))
}
