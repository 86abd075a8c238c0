//! The wired fabric and its switches, from the filled document; shapes are in [`super::shape`].

use super::classes::{Classes, ranged};
use super::doc::{BalanceDoc, FabricKind, Fec, HashDoc, ProfileDoc, SeedsDoc, SwitchDoc};
use super::limits::{egress_pools, on_top, own_pools, own_profile};
use super::ports::Layout;
use super::shape;
use super::sonic::{Imported, SharedEgress};
use super::source::{Fault, fault};
use crate::switch::config::{
    EgressPool, FixedDelays, FlowControl, LoadBalance, MarkAt, PortProfile, PriorityConfig, Slices,
    SwitchConfig,
};
use crate::topology::{End, Fabric, Link};
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
    let first: PortProfile = match imported {
        Some(i) => on_top(switch, &i.common, &classes.maps)?,
        None => own_profile(switch, classes)?,
    };
    let pools = imported.map_or_else(|| own_pools(switch), |i| i.ingress_pools.clone());
    let later = |p: &SharedEgress| EgressPool { name: p.name.clone(), size: Bytes(u32::MAX.into()) };
    let egress =
        imported.map_or_else(|| egress_pools(switch), |i| i.egress_pools.iter().map(later).collect());
    let slices = imported.map_or_else(|| switch.slices.map_or(Slices::Whole, Slices::from), |i| i.slices);
    let sized = imported.is_some_and(|i| i.shared.is_some());
    let prototype = SwitchConfig {
        name: switch.name.clone().unwrap_or_default(),
        ports: Vec::new(),
        // Where pools have sizes of their own, the buffer is what they and the ports take, see below.
        buffer: if sized { Bytes(u32::MAX.into()) } else { switch.buffer.map_or(Bytes(0), |s| s.0) },
        cell: switch.cell.unwrap_or(0),
        profiles: vec![first],
        ingress_pools: pools,
        egress_pools: egress,
        slices,
        dscp_map: classes.dscp_map,
        pcp_map: classes.pcp_map,
        dscp_color: classes.dscp_color,
        maps: classes.maps,
        balance: balance(switch),
        hash_dest_qp: switch.hash == Some(HashDoc::DestQp),
        hash_seed: seed,
        pause_quanta: switch.pause_quanta.unwrap_or(u16::MAX),
        mark_at: switch.mark_at.map_or(MarkAt::Dequeue, MarkAt::from),
        flow_control: switch.flow_control.map_or(FlowControl::Pfc, FlowControl::from),
        cut_through: switch.cut_through.unwrap_or(false),
        seed,
    };
    // Cables and FEC differ per link, so the shape is built without them.
    let delays = FixedDelays { pipeline: switch.pipeline.map_or(Span::ZERO, |d| d.0), fec: Span::ZERO };
    let host_rates: Vec<Rate> = layout.ports.iter().map(|p| p.rate).collect();
    let mut built = shape::wire(fabric, host_rates, delays, prototype)?;
    if switch.hash_seeds == Some(SeedsDoc::Same) {
        built.switches.iter_mut().for_each(|s| s.hash_seed = seed);
    }
    let trunk_fec = switch.ports.as_ref().and_then(|p| p.fec).unwrap_or(Fec::None);
    retime(&mut built, layout, shape::trunk_cable(fabric), trunk_fec);
    let (places, trunks) = (shape::places(doc)?, shape::trunks(fabric));
    // Every leaf has the ports of the first.
    let place = |h: usize| places.as_ref().map_or(h, |p| p.get(h).map_or(h, |p| *p as usize));
    own_pipes(&mut built, |end| match end {
        Far::Host(h) => imported?.pipes.get(place(h)).copied().flatten(),
        Far::Cable(c) => imported?.trunk_pipes.get(trunks.number(c)?).copied().flatten(),
    });
    own_ports(&mut built, |end| {
        let headroom = match end {
            Far::Host(h) => doc.port.get(h).and_then(|p| p.xoff_headroom),
            Far::Cable(c) => trunks.of(c).and_then(|t| t.headroom),
        };
        let theirs = imported.and_then(|i| match end {
            Far::Host(h) => i.profiles.get(place(h)),
            Far::Cable(c) => i.trunks.get(trunks.number(c)?),
        });
        let mut profile = match (imported, theirs, headroom) {
            (_, Some(theirs), _) => on_top(switch, theirs, &classes.maps)?,
            (Some(i), None, Some(_)) => on_top(switch, &i.common, &classes.maps)?,
            (None, None, Some(_)) => own_profile(switch, classes)?,
            (_, None, None) => return Ok(None),
        };
        if let Some(headroom) = headroom {
            profile.priorities.iter_mut().filter(|p| p.lossless).for_each(|p| p.headroom = headroom.0);
        }
        Ok(Some(profile))
    })?;
    if let Some(imported) = imported.filter(|_| sized) {
        for s in &mut built.switches {
            s.buffer = buffer_for(s);
            s.egress_pools = egress_for(s, &imported.egress_pools);
        }
    }
    for s in &built.switches {
        s.validate().map_err(|e| Fault { path: "switch".into(), text: e.to_string() })?;
    }
    cut_through(&mut built);
    Ok(built)
}

/// What a switch port is wired to.
#[derive(Clone, Copy)]
enum Far {
    /// This tester port.
    Host(usize),
    /// Another switch, by this cable of those between switches.
    Cable(usize),
}

/// Every switch port with what it is wired to.
fn wired(fabric: &Fabric) -> Vec<(u16, u16, Far)> {
    let one = |(i, link): (usize, &Link)| {
        let End::Switch(s, p) = link.from else { return None };
        Some(match link.to {
            End::Host(h) => (s, p, Far::Host(h.0 as usize)),
            // The cables of tester ports come first.
            End::Switch(..) => (s, p, Far::Cable(i / 2 - fabric.endpoints as usize)),
        })
    };
    fabric.links.iter().enumerate().filter_map(one).collect()
}

/// Gives ports of sliced switches their pipes: what is known of them, else the ports in equal parts, in order.
fn own_pipes(fabric: &mut Fabric, known: impl Fn(Far) -> Option<u8>) {
    for (s, p, far) in wired(fabric) {
        let Some(switch) = fabric.switches.get_mut(usize::from(s)) else { continue };
        let (ports, slices) = (switch.ports.len(), switch.slices);
        if let Some(port) = switch.ports.get_mut(usize::from(p)).filter(|_| slices != Slices::Whole) {
            let nth = usize::from(p) * usize::from(slices.pipes()) / ports;
            port.pipe = known(far).unwrap_or(nth as u8);
        }
    }
}

/// Gives ports that have limits of their own their profile.
fn own_ports(
    fabric: &mut Fabric,
    mut own: impl FnMut(Far) -> Result<Option<PortProfile>, Fault>,
) -> Result<(), Fault> {
    for (s, p, far) in wired(fabric) {
        let (Some(profile), Some(switch)) = (own(far)?, fabric.switches.get_mut(usize::from(s))) else {
            continue;
        };
        let profile = switch.profile(profile);
        if let Some(port) = switch.ports.get_mut(usize::from(p)) {
            port.profile = profile;
        }
    }
    Ok(())
}

/// Frames on links into a switch that cuts through are handed to it when their header is there.
fn cut_through(fabric: &mut Fabric) {
    for link in &mut fabric.links {
        if let End::Switch(s, p) = link.to
            && fabric.switches.get(usize::from(s)).is_some_and(|s| s.cuts_through(usize::from(p)))
        {
            link.timing = link.timing.cut_through();
        }
    }
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
        let rate = match (link.from, host) {
            // A tester port's clock is its own; a switch's is the reference.
            (End::Host(_), Some(h)) => offset(link.timing.rate(), h.clock_ppm),
            _ => link.timing.rate(),
        };
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

/// A rate by a clock that is off by so many millionths.
fn offset(rate: Rate, ppm: i64) -> Rate {
    let exact = i128::from(rate.bits_per_s) * (1_000_000 + i128::from(ppm)) / 1_000_000;
    Rate { bits_per_s: u64::try_from(exact).unwrap_or(rate.bits_per_s) }
}

/// The buffer of a switch whose ingress pools have sizes: those, and what its ports reserve, in the slice where that is
/// most.
fn buffer_for(switch: &SwitchConfig) -> Bytes {
    let (cell, slices) = (u64::from(switch.cell.max(1)), switch.slices.count());
    let part = |b: Bytes| b.0 / cell / slices as u64;
    let in_slice = |slice: usize| {
        let groups = || groups_of(switch, move |pipe| switch.slices.holds_ingress(slice, pipe));
        let mut cells: u64 = groups().map(|p| p.reserved.0.div_ceil(cell)).sum();
        for (i, pool) in switch.ingress_pools.iter().enumerate() {
            let own = groups().filter(|p| usize::from(p.pool) == i).map(|p| p.headroom().0.div_ceil(cell));
            cells += pool.headroom.map_or_else(|| own.sum(), part);
            cells += pool.shared.map_or(0, part);
        }
        cells
    };
    Bytes((0..slices).map(in_slice).max().unwrap_or(0) * slices as u64 * cell)
}

/// Limits of every group or queue on ports of such pipes.
fn groups_of(switch: &SwitchConfig, pipe: impl Fn(u8) -> bool) -> impl Iterator<Item = &PriorityConfig> {
    let ports = switch.ports.iter().enumerate().filter(move |(_, p)| pipe(p.pipe));
    ports.flat_map(|(p, _)| &switch.of_port(p).priorities)
}

/// Egress pools with what the switch's own queues reserve, in the slice where that is most.
fn egress_for(switch: &SwitchConfig, shared: &[SharedEgress]) -> Vec<EgressPool> {
    let (cell, slices) = (u64::from(switch.cell.max(1)), switch.slices.count());
    let one = |(i, pool): (usize, &SharedEgress)| {
        let reserved = |slice: usize| -> u64 {
            let queues = groups_of(switch, move |pipe| switch.slices.holds_egress(slice, pipe));
            queues
                .filter(|p| usize::from(p.egress_pool) == i)
                .map(|p| p.egress_reserved.0.div_ceil(cell))
                .sum()
        };
        let most = (0..slices).map(reserved).max().unwrap_or(0);
        EgressPool { name: pool.name.clone(), size: Bytes(pool.shared.0 + most * slices as u64 * cell) }
    };
    shared.iter().enumerate().map(one).collect()
}

/// Gives the ports of a single switch the names of those that stand for them.
pub(super) fn name_ports(doc: &ProfileDoc, layout: &mut Layout, imported: &Imported) {
    let single = doc.fabric.as_ref().is_none_or(|f| matches!(f.kind, None | Some(FabricKind::Single)));
    for (port, name) in layout.ports.iter_mut().zip(&imported.ports).filter(|_| single) {
        port.dut_port = port.dut_port.take().or_else(|| name.clone());
    }
}
