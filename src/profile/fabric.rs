//! The wired fabric and its switches, from the filled document; shapes are in [`super::shape`].

use super::classes::{Classes, ranged};
use super::doc::{BalanceDoc, FabricDoc, FabricKind, Fec, HashDoc, ProfileDoc, SeedsDoc, SwitchDoc, WredDoc};
use super::ports::Layout;
use super::shape;
use super::sonic::Imported;
use super::source::{Fault, fault};
use crate::limits::SWITCH_PORTS_MAX;
use crate::switch::config::{FixedDelays, LoadBalance, MarkAt, PriorityConfig, SwitchConfig, Wred};
use crate::topology::{End, Fabric};
use crate::transport::config::ClassConfig;
use crate::units::{Bytes, LinkTiming, Rate, Span};

/// Delay of FEC at the receiving end: one codeword has to arrive, and about 50 ns of decoding follow.
fn fec_delay(fec: Fec, rate: Rate) -> Span {
    let codeword_bits: u64 = match fec {
        Fec::None => return Span::ZERO,
        Fec::Rs528 => 5_280,
        Fec::Rs544 => 5_440,
    };
    rate.time_for(codeword_bits / 8) + Span::from_ns(50)
}

/// The fabric of the profile: the shape from [`crate::topology`], then each link's own cable and FEC.
pub(super) fn build(
    doc: &ProfileDoc,
    layout: &Layout,
    classes: &Classes,
    imported: Option<&Imported>,
) -> Result<Fabric, Fault> {
    let (Some(switch), Some(fabric)) = (&doc.switch, &doc.fabric) else {
        return fault("switch", "is missing");
    };
    let seed = doc.run.as_ref().and_then(|r| r.seed).unwrap_or(1);
    ranged("switch.cell", switch.cell, 32, 8192)?;
    ranged("switch.pause_quanta", switch.pause_quanta, 3, u16::MAX)?;
    let priorities = match imported {
        Some(i) => imported_priorities(switch, i)?,
        None => priorities(switch, &classes.list, classes.lossless)?,
    };
    let shared = imported.and_then(|i| i.shared);
    let prototype = SwitchConfig {
        name: switch.name.clone().unwrap_or_default(),
        ports: Vec::new(),
        buffer: match shared {
            Some(shared) => {
                buffer_for(shared, most_ports(fabric, layout), &priorities, switch.cell.unwrap_or(0))
            }
            None => switch.buffer.map_or(Bytes(0), |s| s.0),
        },
        cell: switch.cell.unwrap_or(0),
        priorities,
        dscp_map: classes.dscp_map,
        balance: balance(switch),
        hash_dest_qp: switch.hash == Some(HashDoc::DestQp),
        hash_seed: seed,
        pause_quanta: switch.pause_quanta.unwrap_or(u16::MAX),
        mark_at: switch.mark_at.map_or(MarkAt::Dequeue, MarkAt::from),
        seed,
    };
    // Cables and FEC differ per link, so the shape is built without them.
    let delays = FixedDelays { pipeline: switch.pipeline.map_or(Span::ZERO, |d| d.0), fec: Span::ZERO };
    let host_rates: Vec<Rate> = layout.ports.iter().map(|p| p.rate).collect();
    let mut built = shape::wire(fabric, host_rates, delays, prototype)?;
    if let Some(shared) = shared {
        for s in &mut built.switches {
            s.buffer = buffer_for(shared, s.ports.len(), &s.priorities, s.cell);
        }
    }
    if switch.hash_seeds == Some(SeedsDoc::Same) {
        built.switches.iter_mut().for_each(|s| s.hash_seed = seed);
    }
    let trunk_cable = shape::trunk_cable(fabric);
    let trunk_fec = switch.ports.as_ref().and_then(|p| p.fec).unwrap_or(Fec::None);
    retime(&mut built, layout, trunk_cable, trunk_fec);
    Ok(built)
}

fn balance(switch: &SwitchDoc) -> LoadBalance {
    let gap = switch.flowlet_gap.map_or(Span::ZERO, |d| d.0);
    match switch.balance {
        None | Some(BalanceDoc::Ecmp) => LoadBalance::Ecmp,
        Some(BalanceDoc::Pinned) => LoadBalance::Pinned,
        Some(BalanceDoc::Spray) => LoadBalance::Spray,
        Some(BalanceDoc::Flowlet) => LoadBalance::Flowlet { gap },
        Some(BalanceDoc::Adaptive) => LoadBalance::Adaptive { gap },
    }
}

/// Adds each link's cable and FEC to its delay, and names switch ports as the profile does.
fn retime(fabric: &mut Fabric, layout: &Layout, trunk_cable: Span, trunk_fec: Fec) {
    for link in &mut fabric.links {
        let host = match (link.from, link.to) {
            (End::Host(h), _) | (_, End::Host(h)) => layout.ports.get(h.0 as usize),
            _ => None,
        };
        let (cable, fec) = host.map_or((trunk_cable, trunk_fec), |p| (p.cable.delay(), p.fec));
        let rate = link.timing.rate();
        link.timing = LinkTiming::new(rate, link.timing.propagation() + cable + fec_delay(fec, rate));
        if let End::Switch(s, p) = link.from
            && let Some(port) =
                fabric.switches.get_mut(usize::from(s)).and_then(|s| s.ports.get_mut(usize::from(p)))
        {
            port.egress = link.timing;
            if let Some(name) = host.and_then(|h| h.dut_port.clone()) {
                port.name = name;
            }
        }
    }
}

fn priorities(
    switch: &SwitchDoc,
    classes: &[ClassConfig],
    lossless: [bool; 8],
) -> Result<[PriorityConfig; 8], Fault> {
    let bytes = |s: Option<super::quantity::Size>| s.map_or(Bytes(0), |s| s.0);
    let wred = wred(switch)?;
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

fn wred(switch: &SwitchDoc) -> Result<Option<Wred>, Fault> {
    let Some(WredDoc::On(curve)) = switch.wred else { return Ok(None) };
    if curve.kmin > curve.kmax {
        return fault("switch.wred", "kmin must not be above kmax");
    }
    if !(0.0..=1.0).contains(&curve.pmax) {
        return fault("switch.wred", format!("pmax = {} must be from 0 to 1", curve.pmax));
    }
    Ok(Some(Wred { kmin: curve.kmin.0, kmax: curve.kmax.0, pmax: curve.pmax }))
}

/// What a real switch's configuration says, with the keys that the profile gives itself on top.
fn imported_priorities(switch: &SwitchDoc, imported: &Imported) -> Result<[PriorityConfig; 8], Fault> {
    let own = wred(switch)?;
    let mut all = imported.priorities;
    for (i, p) in all.iter_mut().enumerate() {
        let alpha = if p.lossless { switch.alpha } else { switch.lossy_alpha };
        p.alpha = alpha.map_or(p.alpha, |a| (a.num, a.den));
        if let Some(a) = switch.lossy_egress_alpha.filter(|_| !p.lossless) {
            p.egress_alpha = Some((a.num, a.den));
        }
        p.xon_offset = switch.xon_offset.map_or(p.xon_offset, |s| s.0);
        if p.lossless {
            p.reserved = switch.reserved.map_or(p.reserved, |s| s.0);
            p.headroom = switch.xoff_headroom.map_or(p.headroom, |s| s.0);
        }
        if switch.wred.is_some() {
            p.wred = own;
        }
        p.weight = switch.weights.map_or(p.weight, |w| w[i]);
    }
    Ok(all)
}

/// The buffer whose shared part is `shared` when `ports` ports have taken what `priorities` reserve.
fn buffer_for(shared: Bytes, ports: usize, priorities: &[PriorityConfig; 8], cell: u16) -> Bytes {
    let cell = u64::from(cell.max(1));
    let each: u64 =
        priorities.iter().map(|p| p.reserved.0.div_ceil(cell) + p.headroom().0.div_ceil(cell)).sum();
    Bytes((shared.0 / cell + each * ports as u64) * cell)
}

/// Ports of the largest switch of the fabric, at most.
fn most_ports(f: &FabricDoc, layout: &Layout) -> usize {
    let tier = [f.leaves, f.spines, f.aggs, f.cores, f.pods].map(|n| n.unwrap_or(0));
    let trunks = f.uplinks.unwrap_or(0).saturating_mul(tier.into_iter().max().unwrap_or(0));
    (layout.ports.len() + trunks as usize + 2 * f.link.len()).min(SWITCH_PORTS_MAX)
}

/// Gives the ports of a single switch the names of those that stand for them.
pub(super) fn name_ports(doc: &ProfileDoc, layout: &mut Layout, imported: &Imported) {
    let single = doc.fabric.as_ref().is_none_or(|f| matches!(f.kind, None | Some(FabricKind::Single)));
    for (port, name) in layout.ports.iter_mut().zip(&imported.ports).filter(|_| single) {
        port.dut_port = port.dut_port.take().or_else(|| name.clone());
    }
}
