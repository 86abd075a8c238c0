//! The wired fabric: one switch or a leaf-spine, from the filled document.

use std::sync::Arc;

use super::classes::ranged;
use super::doc::{FabricDoc, FabricKind, Fec, ProfileDoc, SwitchDoc, WredDoc};
use super::ports::{Layout, TesterPort, check_rate, port_mac};
use super::source::{Fault, fault};
use crate::limits::SWITCH_PORTS_MAX;
use crate::switch::config::{
    FixedDelays, LoadBalance, MarkAt, PriorityConfig, SwitchConfig, SwitchPortConfig, Wred,
};
use crate::topology::{End, Fabric, Link, Routes};
use crate::transport::config::ClassConfig;
use crate::units::{Bytes, LinkTiming, PortId, Rate, Span};

/// Delay of FEC at the receiving end: one codeword has to arrive, and about 50 ns of decoding follow.
pub(super) fn fec_delay(fec: Fec, rate: Rate) -> Span {
    let codeword_bits: u64 = match fec {
        Fec::None => return Span::ZERO,
        Fec::Rs528 => 5_280,
        Fec::Rs544 => 5_440,
    };
    rate.time_for(codeword_bits / 8) + Span::from_ns(50)
}

/// What all switches share.
struct Template<'d> {
    doc: &'d SwitchDoc,
    priorities: [PriorityConfig; 8],
    dscp_map: [u8; 64],
    seed: u64,
    pipeline: Span,
}

/// The fabric of the profile.
pub(super) fn build(
    doc: &ProfileDoc,
    layout: &Layout,
    classes: &[ClassConfig],
    lossless: [bool; 8],
    dscp_map: [u8; 64],
) -> Result<Fabric, Fault> {
    let (Some(switch), Some(fabric)) = (&doc.switch, &doc.fabric) else {
        return fault("switch", "is missing");
    };
    let template = Template {
        doc: switch,
        priorities: priorities(switch, classes, lossless)?,
        dscp_map,
        seed: doc.run.as_ref().and_then(|r| r.seed).unwrap_or(1),
        pipeline: switch.pipeline.map_or(Span::ZERO, |d| d.0),
    };
    let built = match fabric.kind {
        Some(FabricKind::LeafSpine) => leaf_spine(&template, fabric, layout)?,
        _ => single(&template, layout),
    };
    for s in &built.switches {
        s.validate().map_err(|e| Fault { path: "switch".into(), text: e.to_string() })?;
    }
    Ok(built)
}

fn priorities(
    switch: &SwitchDoc,
    classes: &[ClassConfig],
    lossless: [bool; 8],
) -> Result<[PriorityConfig; 8], Fault> {
    ranged("switch.cell", switch.cell, 32, 8192)?;
    ranged("switch.pause_quanta", switch.pause_quanta, 3, u16::MAX)?;
    let bytes = |s: Option<super::quantity::Size>| s.map_or(Bytes(0), |s| s.0);
    let wred = match switch.wred {
        Some(WredDoc::On(curve)) => {
            if curve.kmin > curve.kmax {
                return fault("switch.wred", "kmin must not be above kmax");
            }
            if !(0.0..=1.0).contains(&curve.pmax) {
                return fault("switch.wred", format!("pmax = {} must be from 0 to 1", curve.pmax));
            }
            Some(Wred { kmin: curve.kmin.0, kmax: curve.kmax.0, pmax: curve.pmax })
        }
        _ => None,
    };
    let (Some(alpha), Some(lossy), Some(weights)) = (switch.alpha, switch.lossy_alpha, switch.weights) else {
        return fault("switch", "alpha, lossy_alpha or weights is missing");
    };
    let (headroom, reserved) = (bytes(switch.xoff_headroom), bytes(switch.reserved));
    Ok(std::array::from_fn(|p| {
        let alpha = if lossless[p] { alpha } else { lossy };
        let used = classes.iter().any(|c| usize::from(c.priority) == p);
        PriorityConfig {
            lossless: lossless[p],
            alpha: (alpha.num, alpha.den),
            reserved: if lossless[p] { reserved } else { Bytes(0) },
            headroom: if lossless[p] { headroom } else { Bytes(0) },
            xon_offset: bytes(switch.xon_offset),
            egress_alpha: switch.lossy_egress_alpha.filter(|_| !lossless[p]).map(|a| (a.num, a.den)),
            wred: wred.filter(|_| used),
            weight: weights[p],
        }
    }))
}

impl Template<'_> {
    fn switch(&self, index: u32, name: String, ports: Vec<SwitchPortConfig>) -> SwitchConfig {
        SwitchConfig {
            name,
            ports,
            buffer: self.doc.buffer.map_or(Bytes(0), |s| s.0),
            cell: self.doc.cell.unwrap_or(0),
            priorities: self.priorities,
            dscp_map: self.dscp_map,
            balance: self.doc.balance.map_or(LoadBalance::Ecmp, LoadBalance::from),
            hash_seed: u64::from(index),
            pause_quanta: self.doc.pause_quanta.unwrap_or(u16::MAX),
            mark_at: self.doc.mark_at.map_or(MarkAt::Dequeue, MarkAt::from),
            seed: self.seed,
        }
    }
    fn delays(&self, fec: Fec, rate: Rate) -> FixedDelays {
        FixedDelays { pipeline: self.pipeline, fec: fec_delay(fec, rate) }
    }
    /// Towards a switch: its pipeline counts.
    fn into_switch(&self, rate: Rate, cable: Span, fec: Fec) -> LinkTiming {
        let d = self.delays(fec, rate);
        LinkTiming::new(rate, cable + d.fec + d.pipeline)
    }
    /// Towards a tester port.
    fn into_host(&self, port: &TesterPort) -> LinkTiming {
        LinkTiming::new(port.rate, port.cable.delay() + fec_delay(port.fec, port.rate))
    }
    /// Both directions between a tester port and a switch port, and the switch port itself.
    fn attach(
        &self,
        links: &mut Vec<Link>,
        host: u32,
        port: &TesterPort,
        s: u16,
        p: u16,
    ) -> SwitchPortConfig {
        let (host, egress) = (End::Host(PortId(host)), self.into_host(port));
        let up = self.into_switch(port.rate, port.cable.delay(), port.fec);
        links.push(Link { from: host, to: End::Switch(s, p), timing: up });
        links.push(Link { from: End::Switch(s, p), to: host, timing: egress });
        let name = port.dut_port.clone().unwrap_or_else(|| format!("Ethernet{p}"));
        SwitchPortConfig { name, egress, mac: switch_mac(s, p) }
    }
}

/// 02:52:54, two bytes of switch... locally administered like the tester's, one block per switch.
fn switch_mac(s: u16, p: u16) -> [u8; 6] {
    let [_, _, _, a, b, c] = port_mac(u32::from(s) << 12 | u32::from(p));
    [0x02, 0x52, 0x54, a, b, c]
}

fn single(t: &Template<'_>, layout: &Layout) -> Fabric {
    let mut links = Vec::with_capacity(2 * layout.ports.len());
    let ports = layout
        .ports
        .iter()
        .enumerate()
        .map(|(i, p)| t.attach(&mut links, i as u32, p, 0, i as u16))
        .collect();
    let name = t.doc.name.clone().unwrap_or_default();
    Fabric {
        endpoints: layout.ports.len() as u32,
        switches: vec![t.switch(0, name, ports)],
        links,
        routes: vec![Routes { ports_to: (0..layout.ports.len()).map(|i| [i as u16].into()).collect() }],
        shape: "single switch".into(),
    }
}

fn leaf_spine(t: &Template<'_>, f: &FabricDoc, layout: &Layout) -> Result<Fabric, Fault> {
    let leaves = ranged("fabric.leaves", f.leaves, 2, SWITCH_PORTS_MAX as u32)?;
    let spines = ranged("fabric.spines", f.spines, 1, SWITCH_PORTS_MAX as u32)?;
    let hosts = ranged("fabric.hosts_per_leaf", f.hosts_per_leaf, 1, SWITCH_PORTS_MAX as u32)?;
    let uplinks = ranged("fabric.uplinks", f.uplinks, 1, 64)?;
    let rate = f.uplink_rate.map_or(Rate::gbps(0), |r| r.0);
    check_rate("fabric.uplink_rate", rate)?;
    let (leaf_ports, spine_ports) = (hosts + spines * uplinks, leaves * uplinks);
    if leaf_ports.max(spine_ports) as usize > SWITCH_PORTS_MAX {
        let text = format!(
            "needs {leaf_ports} ports on a leaf and {spine_ports} on a spine; a switch has at most {SWITCH_PORTS_MAX}"
        );
        return fault("fabric", text);
    }
    let shared = t.doc.ports.clone().unwrap_or_default();
    let fec = shared.fec.unwrap_or(Fec::None);
    let cable = f.cable.map_or(Span::ZERO, |c| c.delay());
    let trunk = t.into_switch(rate, cable, fec);
    let mut links = Vec::new();
    let mut leaf_switches: Vec<Vec<SwitchPortConfig>> = Vec::with_capacity(leaves as usize);
    let mut spine_switches: Vec<Vec<Option<SwitchPortConfig>>> =
        vec![vec![None; spine_ports as usize]; spines as usize];
    for leaf in 0..leaves {
        let mut ports = Vec::with_capacity(leaf_ports as usize);
        for h in 0..hosts {
            let host = leaf * hosts + h;
            ports.push(t.attach(&mut links, host, &layout.ports[host as usize], leaf as u16, h as u16));
        }
        for spine in 0..spines {
            for u in 0..uplinks {
                let (here, there) = ((hosts + spine * uplinks + u) as u16, (leaf * uplinks + u) as u16);
                let (l, s) = (leaf as u16, (leaves + spine) as u16);
                let (a, b) = (End::Switch(l, here), End::Switch(s, there));
                links.push(Link { from: a, to: b, timing: trunk });
                links.push(Link { from: b, to: a, timing: trunk });
                let port = |s: u16, p: u16| SwitchPortConfig {
                    name: format!("Ethernet{p}"),
                    egress: trunk,
                    mac: switch_mac(s, p),
                };
                ports.push(port(l, here));
                spine_switches[spine as usize][usize::from(there)] = Some(port(s, there));
            }
        }
        leaf_switches.push(ports);
    }
    let mut switches = Vec::with_capacity((leaves + spines) as usize);
    let mut routes = Vec::with_capacity((leaves + spines) as usize);
    for (leaf, ports) in leaf_switches.into_iter().enumerate() {
        switches.push(t.switch(switches.len() as u32, format!("leaf{leaf}"), ports));
        let up: Arc<[u16]> = (hosts as u16..leaf_ports as u16).collect();
        let to = |e: u32| if (e / hosts) as usize == leaf { [(e % hosts) as u16].into() } else { up.clone() };
        routes.push(Routes { ports_to: (0..leaves * hosts).map(to).collect() });
    }
    for (spine, ports) in spine_switches.into_iter().enumerate() {
        switches.push(t.switch(
            switches.len() as u32,
            format!("spine{spine}"),
            ports.into_iter().flatten().collect(),
        ));
        let down: Vec<Arc<[u16]>> =
            (0..leaves).map(|l| (l * uplinks..(l + 1) * uplinks).map(|p| p as u16).collect()).collect();
        routes.push(Routes {
            ports_to: (0..leaves * hosts).map(|e| down[(e / hosts) as usize].clone()).collect(),
        });
    }
    let shape = format!("leaf-spine {leaves}x{spines}, {hosts} hosts per leaf");
    Ok(Fabric { endpoints: leaves * hosts, switches, links, routes, shape })
}
