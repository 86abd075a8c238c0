//! What a port did, from what its queues leave.

use super::seen::{Seen, WireStats};
use super::setup;
use crate::dpdk::{EthPort, StampSource};
use crate::frame::{PfcSeen, Port};
use crate::measure::stats::HostStats;
use crate::plan::Plan;
use crate::plan::device::DeviceSpec;
use crate::run::result::PortFigures;
use crate::sys::tsc::Tsc;
use crate::units::{LinkTiming, Span, Time};

/// What is left of a queue when its worker has ended.
pub(super) struct Left {
    pub port: usize,
    pub queue: u16,
    /// Open until the figures are made.
    pub device: EthPort,
    pub mac: [u8; 6],
    /// Without the warm-up.
    pub host: HostStats,
    pub stats: WireStats,
    pub seen: Seen,
    pub icrc_errors: u64,
    /// Frames of streams sent, and asked for.
    pub progress: (u64, u64),
    /// Frames for other queues that came to this one.
    pub misdirected: u64,
    /// Frames that arrived and could not be taken over from the device.
    pub unusable: u64,
}

impl Left {
    /// Adds another queue of the same port.
    fn add(&mut self, other: Left) {
        self.host = self.host.with(&other.host);
        self.stats.add(&other.stats);
        self.seen.add(other.seen);
        self.icrc_errors += other.icrc_errors;
        self.progress.0 += other.progress.0;
        self.progress.1 = self.progress.1.saturating_add(other.progress.1);
        self.misdirected += other.misdirected;
        self.unusable += other.unusable;
    }
}

/// All ports in order, each the sum of its queues.
pub(super) fn ports(mut queues: Vec<Left>) -> Vec<Left> {
    queues.sort_by_key(|l| (l.port, l.queue));
    let mut ports: Vec<Left> = Vec::new();
    for left in queues {
        match ports.last_mut().filter(|p| p.port == left.port) {
            Some(port) => port.add(left),
            None => ports.push(left),
        }
    }
    ports
}

/// What the device counted of pauses, under its own names.
fn pause_counters(device: &EthPort) -> Vec<(String, u64)> {
    let of_pauses = |n: &str| ["pause", "xoff", "xon", "pfc"].iter().any(|w| n.contains(w));
    let all = device.xstats().unwrap_or_default();
    all.into_iter().filter(|(n, v)| *v > 0 && of_pauses(n)).collect()
}

/// Why what a port did makes the result untrustworthy.
pub(super) fn doubt(plan: &Plan, at: usize, figures: &PortFigures) -> Option<String> {
    let allowed = plan.hosts[at].pfc_response.as_ns_f64();
    let took = figures.xoff_response_ns.filter(|took| *took > allowed)?;
    Some(format!(
        "port {}: frames left for {took:.0} ns after an XOFF and {allowed:.0} ns are allowed (pfc_response): \
         lossless drops may be the tester's; lower tx_backlog",
        figures.name
    ))
}

/// What a port did that its owner should look into.
pub(super) fn events(left: &Left, figures: &PortFigures) -> impl Iterator<Item = String> {
    let astray = figures.misdirected > 0 && matches!(figures.steering.as_deref(), Some("rules" | "masks"));
    let astray = astray.then(|| {
        format!(
            "port {}: {} frames came to another queue than their rank's in spite of the rules of {}, and were handed over",
            figures.name, figures.misdirected, figures.device
        )
    });
    let unusable = (left.unusable > 0).then(|| {
        format!(
            "port {}: {} frames arrived in a form that cannot be taken over from {} (in pieces, or in memory of others)",
            figures.name, left.unusable, figures.device
        )
    });
    let lost = figures.device_tx_errors.filter(|lost| *lost > 0).zip(left.device.why_unsent());
    let lost =
        lost.map(|(n, why)| format!("port {}: {n} frames were taken and not sent: {why}", figures.name));
    astray.into_iter().chain(unusable).chain(lost)
}

/// What a port did until `end`.
pub(super) fn figures(
    plan: &Plan,
    left: &mut Left,
    steering: Option<&str>,
    frame_max: u16,
    (tsc, end): (&Tsc, Time),
) -> PortFigures {
    let i = left.port;
    let (host, lab, s) = (&plan.hosts[i], &plan.lab.ports[i], &left.stats);
    let timing = LinkTiming::new(host.rate, Span::ZERO);
    let (delay_ns, queue_bytes_inferred) = (left.seen.delay_ns(), left.seen.queue_bytes(&timing));
    let device = &left.device;
    let counted = device.stats().ok();
    let seen = device.caps().pfc_seen;
    let wire_bits = (s.tx_bytes + 20 * s.tx_frames) as f64 * 8.0;
    let word = |x: &str| x.to_ascii_lowercase();
    PortFigures {
        name: host.name.clone(),
        device: device.name().to_owned(),
        driver: device.driver(),
        tx_path: if device.sends_by_socket() { "socket" } else { "driver" }.into(),
        mac: left.mac.map(|b| format!("{b:02x}")).join(":"),
        queues: plan.lab.queues(i),
        steering: steering.map(str::to_owned),
        misdirected: left.misdirected,
        pfc: word(&format!("{:?}", lab.pfc)),
        pfc_seen: word(&format!("{seen:?}")),
        arrival_point: match device.stamps() {
            Some((StampSource::Device, _)) => "device",
            Some((StampSource::Kernel, _)) => "kernel",
            None => "taking in",
        }
        .into(),
        arrival_doubt_ns: device.stamps().map(|(_, ticks)| tsc.span(ticks).as_ns_f64()),
        arrivals_stamped: s.stamped,
        paces_in_hardware: device.could_pace(),
        pacing: if s.tx_paced > 0 { "hardware" } else { "software" }.into(),
        tx_paced: s.tx_paced,
        flow_control: device.flow_control().map(|f| word(&format!("{f:?}"))),
        pfc_frames: (seen == PfcSeen::Frames).then_some(s.pfc_seen),
        xoff_response_ns: (s.xoff_backlog > Span::ZERO).then(|| s.xoff_backlog.as_ns_f64()),
        tx_backlog_bytes_max: setup::backlog(plan, i, frame_max),
        tx_descriptors: device.tx_descriptors(),
        tx_frames: s.tx_frames,
        tx_bytes: s.tx_bytes,
        rx_frames: s.rx_frames,
        rx_bytes: s.rx_bytes,
        tx_utilisation: wire_bits / (end.0.max(1) as f64 / 1e12) / host.rate.bits_per_s.max(1) as f64,
        tx_refused: s.refused,
        tx_lost_down: s.lost_down,
        pause_counters: if seen == PfcSeen::Counters { pause_counters(device) } else { Vec::new() },
        rx_missed: counted.map_or(0, |c| c.rx_missed + c.rx_no_buffer) + left.unusable,
        icrc_errors: left.icrc_errors,
        ce_rx: left.seen.ce,
        delay_ns,
        delay_blurred: left.seen.blurred,
        queue_bytes_inferred,
        stamp_every: (!lab.device.as_ref().is_some_and(DeviceSpec::is_sink)).then(|| lab.stamp_every.max(1)),
        tx_stamped: s.tx_stamped,
        unstamped: s.unstamped,
        rx_other: s.other,
        answered: s.answered,
        rate_error: match left.progress {
            (_, 0) => None,
            (sent, due) => Some(sent as f64 / due as f64 - 1.0),
        },
        device_tx_frames: counted.map(|c| c.tx_frames),
        device_tx_errors: counted.map(|c| c.tx_errors),
        device_rx_frames: counted.map(|c| c.rx_frames),
    }
}
