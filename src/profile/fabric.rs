//! The wired fabric and its switches, from the filled document; shapes are in [`super::shape`].

use super::classes::{Classes, ranged};
use super::doc::{
    BalanceDoc, FabricKind, Fec, HashDoc, ProfileDoc, SeedsDoc, SwitchDoc, WatchdogDoc, WredDoc,
};
use super::ports::{Layout, check_rate};
use super::quantity::{Alpha, Size};
use super::shape;
use super::sonic::{Imported, SharedEgress};
use super::source::{Fault, fault};
use crate::switch::config::{
    EgressPool, FixedDelays, FlowControl, IngressPool, Limit, LoadBalance, MarkAt, PortProfile,
    PriorityConfig, Shaper, SwitchConfig, Watchdog, Wred,
};
use crate::topology::{End, Fabric};
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
        Some(i) => on_top(switch, &i.common)?,
        None => own_profile(switch, classes)?,
    };
    let pools = imported.map_or_else(|| own_pools(switch), |i| i.ingress_pools.clone());
    let egress = imported.map_or(&[][..], |i| &i.egress_pools);
    let sized = imported.is_some_and(|i| i.shared.is_some());
    let prototype = SwitchConfig {
        name: switch.name.clone().unwrap_or_default(),
        ports: Vec::new(),
        // Where pools have sizes of their own, the buffer is what they and the ports take, see below.
        buffer: if sized { Bytes(u32::MAX.into()) } else { switch.buffer.map_or(Bytes(0), |s| s.0) },
        cell: switch.cell.unwrap_or(0),
        profiles: vec![first],
        ingress_pools: pools,
        egress_pools: egress
            .iter()
            .map(|p| EgressPool { name: p.name.clone(), size: Bytes(u32::MAX.into()) })
            .collect(),
        dscp_map: classes.dscp_map,
        pcp_map: classes.pcp_map,
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
    own_ports(&mut built, |end| {
        let headroom = match end {
            Far::Host(h) => doc.port.get(h).and_then(|p| p.xoff_headroom),
            Far::Cable(c) => trunks.of(c).and_then(|t| t.headroom),
        };
        // Every leaf has the ports of the first.
        let theirs = imported.and_then(|i| match end {
            Far::Host(h) => {
                i.profiles.get(places.as_ref().map_or(h, |p| p.get(h).map_or(h, |p| *p as usize)))
            }
            Far::Cable(c) => i.trunks.get(trunks.number(c)?),
        });
        let mut profile = match (imported, theirs, headroom) {
            (_, Some(theirs), _) => on_top(switch, theirs)?,
            (Some(i), None, Some(_)) => on_top(switch, &i.common)?,
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

/// Gives ports that have limits of their own their profile.
fn own_ports(
    fabric: &mut Fabric,
    mut own: impl FnMut(Far) -> Result<Option<PortProfile>, Fault>,
) -> Result<(), Fault> {
    for (i, link) in fabric.links.iter().enumerate() {
        let End::Switch(s, p) = link.from else { continue };
        let far = match link.to {
            End::Host(h) => Far::Host(h.0 as usize),
            // The cables of tester ports come first.
            End::Switch(..) => Far::Cable(i / 2 - fabric.endpoints as usize),
        };
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

/// What every port has that says nothing itself.
fn own_profile(switch: &SwitchDoc, classes: &Classes) -> Result<PortProfile, Fault> {
    let bytes = |s: Option<Size>| s.map_or(Bytes(0), |s| s.0);
    let wred = wred(switch)?;
    let dynamic = |a: Alpha| Limit::Dynamic(a.num, a.den);
    let limit =
        |fixed: Option<Size>, alpha: Option<Alpha>| fixed.map(|s| Limit::Static(s.0)).or(alpha.map(dynamic));
    let (Some(lossless_limit), Some(lossy_limit), Some(weights)) = (
        limit(switch.static_th, switch.alpha),
        limit(switch.lossy_static_th, switch.lossy_alpha),
        switch.weights,
    ) else {
        return fault("switch", "alpha, lossy_alpha or weights is missing");
    };
    let lossy_pool = u8::from(switch.lossy_pool.is_some());
    let shapers = shapers(switch)?;
    let priorities = std::array::from_fn(|p| {
        let lossless = classes.lossless[p];
        let used = classes.list.iter().any(|c| usize::from(c.priority) == p);
        let base = PriorityConfig {
            xon_offset: bytes(switch.xon_offset),
            wred: wred.filter(|_| used),
            weight: weights[p],
            shaper: shapers[p],
            ..PriorityConfig::default()
        };
        match lossless {
            true => PriorityConfig {
                lossless,
                limit: lossless_limit,
                reserved: bytes(switch.reserved),
                headroom: bytes(switch.xoff_headroom),
                xon: bytes(switch.xon),
                ..base
            },
            false => PriorityConfig {
                pool: lossy_pool,
                limit: lossy_limit,
                egress_limit: switch.lossy_egress_alpha.map(dynamic),
                ..base
            },
        }
    });
    Ok(PortProfile { priorities, shaper: shapers[8], watchdog: watchdog(switch)? })
}

/// One pool, a second for lossy traffic where the profile wants it, and a shared headroom pool.
fn own_pools(switch: &SwitchDoc) -> Vec<IngressPool> {
    if switch.lossy_pool.is_none() && switch.shared_headroom.is_none() {
        return Vec::new();
    }
    let headroom = switch.shared_headroom.map(|s| s.0);
    let mut pools = vec![IngressPool { name: "lossless".into(), shared: None, headroom }];
    if let Some(size) = switch.lossy_pool {
        pools.push(IngressPool { name: "lossy".into(), shared: Some(size.0), headroom: None });
    }
    pools
}

/// Shapers of queues 0 to 7, and of the port.
fn shapers(switch: &SwitchDoc) -> Result<[Option<Shaper>; 9], Fault> {
    let mut all = [None; 9];
    let burst = switch.shaper_burst.map_or(Bytes(0), |s| s.0);
    for (key, rate) in &switch.shaper {
        let path = format!("switch.shaper.{key}");
        let at = match key.as_str() {
            "port" => 8,
            _ => match key.parse::<usize>() {
                Ok(p) if p < 8 => p,
                _ => return fault(path, "the key must be a priority from 0 to 7 in quotes, or port"),
            },
        };
        check_rate(&path, rate.0)?;
        all[at] = Some(Shaper { rate: rate.0, burst });
    }
    Ok(all)
}

fn watchdog(switch: &SwitchDoc) -> Result<Option<Watchdog>, Fault> {
    let Some(WatchdogDoc::On(w)) = switch.pfc_watchdog else { return Ok(None) };
    if w.detect.0 == Span::ZERO || w.restore.0 == Span::ZERO {
        return fault("switch.pfc_watchdog", "detect and restore must be above 0; 200 ms is usual");
    }
    Ok(Some(Watchdog { detect: w.detect.0, restore: w.restore.0, action: w.action.into() }))
}

fn wred(switch: &SwitchDoc) -> Result<Option<Wred>, Fault> {
    let Some(WredDoc::On(curve)) = switch.wred else { return Ok(None) };
    if curve.kmin > curve.kmax {
        return fault("switch.wred", "kmin must not be above kmax");
    }
    if !(0.0..=1.0).contains(&curve.pmax) {
        return fault("switch.wred", format!("pmax = {} must be from 0 to 1", curve.pmax));
    }
    Ok(Some(Wred { kmin: curve.kmin.0, kmax: curve.kmax.0, pmax: curve.pmax, ecn: true }))
}

/// What a real switch's configuration says of a port, with the keys that the profile gives itself on top.
fn on_top(switch: &SwitchDoc, imported: &PortProfile) -> Result<PortProfile, Fault> {
    let own = wred(switch)?;
    let shapers = shapers(switch)?;
    let mut profile = imported.clone();
    for (i, p) in profile.priorities.iter_mut().enumerate() {
        let (alpha, fixed) = match p.lossless {
            true => (switch.alpha, switch.static_th),
            false => (switch.lossy_alpha, switch.lossy_static_th),
        };
        p.limit = alpha.map_or(p.limit, |a| Limit::Dynamic(a.num, a.den));
        p.limit = fixed.map_or(p.limit, |s| Limit::Static(s.0));
        if let Some(a) = switch.lossy_egress_alpha.filter(|_| !p.lossless) {
            p.egress_limit = Some(Limit::Dynamic(a.num, a.den));
        }
        p.xon_offset = switch.xon_offset.map_or(p.xon_offset, |s| s.0);
        if p.lossless {
            p.reserved = switch.reserved.map_or(p.reserved, |s| s.0);
            p.headroom = switch.xoff_headroom.map_or(p.headroom, |s| s.0);
            p.xon = switch.xon.map_or(p.xon, |s| s.0);
        }
        if switch.wred.is_some() {
            p.wred = own;
        }
        p.weight = switch.weights.map_or(p.weight, |w| w[i]);
        p.shaper = shapers[i].or(p.shaper);
    }
    profile.shaper = shapers[8].or(profile.shaper);
    if switch.pfc_watchdog.is_some() {
        profile.watchdog = watchdog(switch)?;
    }
    Ok(profile)
}

/// The buffer of a switch whose ingress pools have sizes: those, and what its ports reserve.
fn buffer_for(switch: &SwitchConfig) -> Bytes {
    let cell = u64::from(switch.cell.max(1));
    let ports = || (0..switch.ports.len()).flat_map(|p| &switch.of_port(p).priorities);
    let mut cells: u64 = ports().map(|p| p.reserved.0.div_ceil(cell)).sum();
    for (i, pool) in switch.ingress_pools.iter().enumerate() {
        let own = ports().filter(|p| usize::from(p.pool) == i).map(|p| p.headroom().0.div_ceil(cell));
        cells += pool.headroom.map_or_else(|| own.sum(), |h| h.0 / cell);
        cells += pool.shared.map_or(0, |s| s.0 / cell);
    }
    Bytes(cells * cell)
}

/// Egress pools with what the switch's own queues reserve.
fn egress_for(switch: &SwitchConfig, shared: &[SharedEgress]) -> Vec<EgressPool> {
    let cell = u64::from(switch.cell.max(1));
    let ports = || (0..switch.ports.len()).flat_map(|p| &switch.of_port(p).priorities);
    let one = |(i, pool): (usize, &SharedEgress)| {
        let mine = ports().filter(|p| usize::from(p.egress_pool) == i);
        let reserved: u64 = mine.map(|p| p.egress_reserved.0.div_ceil(cell)).sum();
        EgressPool { name: pool.name.clone(), size: Bytes(pool.shared.0 + reserved * cell) }
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
