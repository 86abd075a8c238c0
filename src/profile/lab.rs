//! `[[port]] device`, addresses and overrides: the real side of a plan.

use super::doc::{PfcDoc, ProfileDoc};
use super::source::{Fault, fault};
use crate::host::config::HostConfig;
use crate::limits::{QUEUES_MAX, QUEUES_PER_PORT_MAX};
use crate::plan::Mode;
use crate::plan::device::DeviceSpec;
use crate::plan::lab::{Lab, LabPort, Pacing, PfcMode, Prefix};
use crate::units::Span;

/// Frames that a pool may have: shelves and batches of a worker want some, and each costs memory.
const POOL_FRAMES_MIN: u32 = 256;
const POOL_FRAMES_MAX: u32 = 1 << 20;

/// Frames of a queue pair or stream of which at least one is stamped: PSNs have 24 bits, and a run without any stamp has no
/// latency.
const STAMP_EVERY_MAX: u32 = 1 << 20;

/// Longest absence of a worker unless the profile says otherwise.
const STALL_MAX: Span = Span::from_ms(1);

/// Neighbours are asked again so often unless the profile says otherwise: well within the 300 s after which switches forget
/// an address (IEEE 802.1Q), and what Linux takes an answer to be good for (15 to 45 s).
const KEEP_ALIVE: Span = Span::from_ms(20_000);
/// Links are looked at as often; and a word an hour keeps nothing alive.
const KEEP_ALIVE_RANGE: [Span; 2] = [Span::from_ms(100), Span::from_ms(3_600_000)];

/// Devices and addresses of the filled document, for the tester ports `hosts`.
pub(super) fn build(doc: &ProfileDoc, hosts: &[HostConfig]) -> Result<Lab, Fault> {
    let run = doc.run.as_ref();
    let on_ports = run.and_then(|r| r.on) == Some(Mode::Ports);
    let mut lab =
        Lab { stall_max: run.and_then(|r| r.stall_max).map_or(STALL_MAX, |d| d.0), ..Lab::default() };
    for (i, text) in run.into_iter().flat_map(|r| &r.allow).enumerate() {
        let Some(prefix) = Prefix::parse(text) else {
            return fault(format!("run.allow[{i}]"), "must be a network like \"10.1.0.0/16\"");
        };
        lab.allow.push(prefix);
    }
    lab.keep_alive = run.and_then(|r| r.keep_alive).map_or(KEEP_ALIVE, |d| d.0);
    if !(KEEP_ALIVE_RANGE[0]..=KEEP_ALIVE_RANGE[1]).contains(&lab.keep_alive) {
        return fault("run.keep_alive", "must be from 100 ms to 1 h; leave it out for 20 s");
    }
    lab.workers = run.and_then(|r| r.workers);
    if lab.workers == Some(0) {
        return fault(
            "run.workers",
            "must be at least 1; leave it out for one per queue of a port as far as cores go",
        );
    }
    lab.pool_frames = run.and_then(|r| r.pool_frames);
    if lab.pool_frames.is_some_and(|n| !(POOL_FRAMES_MIN..=POOL_FRAMES_MAX).contains(&n)) {
        return fault(
            "run.pool_frames",
            format!(
                "must be {POOL_FRAMES_MIN} to {POOL_FRAMES_MAX}; leave it out for as many as the ports can hold"
            ),
        );
    }
    lab.allow_pfc = run.and_then(|r| r.allow_pfc).unwrap_or(false);
    for (i, p) in doc.port.iter().enumerate() {
        let key = |k: &str| format!("port[{i}].{k}");
        let device = p.device.as_deref().map(DeviceSpec::parse).transpose();
        let device = device.map_err(|e| Fault { path: key("device"), text: e.to_string() })?;
        if on_ports && device.is_none() {
            return fault(key("device"), "is missing; --on ports needs one, for example device = \"eth1\"");
        }
        let ranks = hosts.get(i).map_or(1, |h| h.ranks.len());
        let queues = p.queues.unwrap_or(1);
        if !(1..=QUEUES_PER_PORT_MAX).contains(&queues) {
            return fault(key("queues"), format!("must be from 1 to {QUEUES_PER_PORT_MAX}"));
        }
        if usize::from(queues) > ranks.max(1) {
            let text = format!(
                "the ranks of a port are divided among its queues, and {ranks} cannot be among {queues}; raise ranks_per_port \
                 or lower queues"
            );
            return fault(key("queues"), text);
        }
        if queues > 1 && p.receive.is_some() {
            return fault(key("receive"), "a receive buffer has one drain; leave it out, or queues");
        }
        let stamp_every = p.stamp_every.unwrap_or(1);
        if !(1..=STAMP_EVERY_MAX).contains(&stamp_every) {
            let text = format!(
                "must be from 1 (every frame has a stamp) to {STAMP_EVERY_MAX}; leave it out for stamps in all frames"
            );
            return fault(key("stamp_every"), text);
        }
        let ip = |k: &str, text: &Option<String>| {
            let parse = |t: &String| t.split('/').next().unwrap_or(t).parse();
            text.as_ref().map(parse).transpose().map_err(|_| Fault {
                path: key(k),
                text: "must be an IP address like \"198.18.0.254\"".into(),
            })
        };
        let mac = p.mac.as_deref().map(|t| {
            crate::sys::interface::parse_mac(t).filter(|m| m[0] & 1 == 0).ok_or(Fault {
                path: key("mac"),
                text: "must be a unicast MAC like \"02:00:00:00:00:01\"".into(),
            })
        });
        let pfc = match p.pfc {
            Some(PfcDoc::Software) => PfcMode::Software,
            Some(PfcDoc::Ignore) => PfcMode::Ignore,
            // What a port of the model does, and a NIC; software devices have none of their own.
            Some(PfcDoc::Hardware) | None => PfcMode::Hardware,
        };
        lab.ports.push(LabPort {
            mac: mac.transpose()?,
            address: ip("address", &p.address)?,
            gateway: ip("gateway", &p.gateway)?,
            pfc,
            allow_in_use: p.allow_in_use.unwrap_or(false),
            set_flow_control: p.set_flow_control.unwrap_or(false),
            tx_backlog: p.tx_backlog.map(|s| s.0),
            queues,
            stamp_every,
            pacing: p.pacing.map_or(Pacing::default(), Pacing::from),
            device,
        });
    }
    cables(&lab)?;
    if on_ports && lab.ports.is_empty() {
        return fault(
            "",
            "--on ports needs a [[port]] with its device for each of the run's ports; --on rings and --on virtual need none",
        );
    }
    let queues: usize = lab.ports.iter().map(|p| usize::from(p.queues)).sum();
    if on_ports && queues > QUEUES_MAX {
        return fault(
            "",
            format!("{queues} queues in all [[port]] are more than the {QUEUES_MAX} a run may have"),
        );
    }
    lab.ports.resize(hosts.len(), LabPort::default());
    Ok(lab)
}

/// A cable has two ends, and a device is one port.
fn cables(lab: &Lab) -> Result<(), Fault> {
    let devices: Vec<Option<&DeviceSpec>> = lab.ports.iter().map(|p| p.device.as_ref()).collect();
    for (i, d) in devices.iter().enumerate() {
        let Some(d) = d else { continue };
        let same = devices.iter().flatten().filter(|o| o.kind == d.kind && o.name == d.name).count();
        let path = format!("port[{i}].device");
        match d.kind {
            crate::plan::device::DeviceKind::Loop if same != 2 => {
                return fault(path, format!("a loop joins two ports; {same} name this one"));
            }
            crate::plan::device::DeviceKind::Loop => {
                let queues = |p: &LabPort| (p.device.as_ref() == Some(d)).then_some(p.queues);
                let mut ends = lab.ports.iter().filter_map(queues);
                if ends.next() != ends.next() {
                    return fault(
                        format!("port[{i}].queues"),
                        "both ends of a loop must have as many queues",
                    );
                }
            }
            _ if same > 1 => return fault(path, "two ports name this device; each needs its own"),
            _ => {}
        }
    }
    Ok(())
}
