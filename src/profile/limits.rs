//! What ports of the switch may use, from the keys of `[switch]`: thresholds, pools, marking, queues. Where a real switch's
//! configuration is imported, the keys that the profile gives lie on top of it.

use super::classes::Classes;
use super::doc::{QueueDoc, SwitchDoc, WatchdogDoc, WredCurve, WredDoc};
use super::ports::check_rate;
use super::quantity::{Alpha, Size};
use super::source::{Fault, fault, nearest};
use crate::limits::PRIORITIES;
use crate::switch::config::{
    COLORS, ClassMaps, EgressPool, IngressPool, Limit, PortProfile, PriorityConfig, Shaper, Watchdog, Wred,
};
use crate::units::{Bytes, Span};

/// What every port has that says nothing itself.
pub(super) fn own_profile(switch: &SwitchDoc, classes: &Classes) -> Result<PortProfile, Fault> {
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
    let mut priorities = std::array::from_fn(|n| {
        let into = classes.maps.into_queue(n);
        let used = classes.list.iter().any(|c| into & 1 << c.priority != 0);
        let waits_lossless = (0..PRIORITIES).any(|c| into & 1 << c != 0 && classes.lossless[c]);
        let queue = PriorityConfig {
            xon_offset: bytes(switch.xon_offset),
            wred: if used { wred } else { [None; COLORS] },
            weight: weights[n],
            shaper: shapers[n],
            egress_limit: switch.lossy_egress_alpha.map(dynamic).filter(|_| !waits_lossless),
            ..PriorityConfig::default()
        };
        match classes.lossless_group(n) {
            true => PriorityConfig {
                lossless: true,
                limit: lossless_limit,
                reserved: bytes(switch.reserved),
                headroom: bytes(switch.xoff_headroom),
                xon: bytes(switch.xon),
                ..queue
            },
            false => PriorityConfig { pool: lossy_pool, limit: lossy_limit, ..queue },
        }
    });
    queues(switch, &mut priorities)?;
    Ok(PortProfile { priorities, shaper: shapers[8], watchdog: watchdog(switch)? })
}

/// One pool, a second for lossy traffic where the profile wants it, and a shared headroom pool.
pub(super) fn own_pools(switch: &SwitchDoc) -> Vec<IngressPool> {
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

/// The curves of all queues, by colour.
fn wred(switch: &SwitchDoc) -> Result<[Option<Wred>; COLORS], Fault> {
    switch.wred.as_ref().map_or(Ok([None; COLORS]), |w| curves("switch.wred", w))
}

/// The curves of one `wred`, by colour.
fn curves(path: &str, doc: &WredDoc) -> Result<[Option<Wred>; COLORS], Fault> {
    let WredDoc::On(green) = doc else { return Ok([None; COLORS]) };
    let ecn = green.ecn.unwrap_or(true);
    let own = curve(path, green, ecn)?;
    let mut all = [Some(own); COLORS];
    for (name, doc, slot) in [("yellow", &green.yellow, 1), ("red", &green.red, 2)] {
        let path = format!("{path}.{name}");
        all[slot] = match doc.as_deref() {
            None => Some(own),
            Some(WredDoc::Off) => None,
            Some(WredDoc::On(c)) if c.yellow.is_some() || c.red.is_some() => {
                return fault(path, "is one colour and has no others inside; move them up to wred");
            }
            Some(WredDoc::On(c)) => Some(curve(&path, c, c.ecn.unwrap_or(ecn))?),
        };
    }
    Ok(all)
}

fn curve(path: &str, curve: &WredCurve, ecn: bool) -> Result<Wred, Fault> {
    if curve.kmin > curve.kmax {
        return fault(path, "kmin must not be above kmax");
    }
    if !(0.0..=1.0).contains(&curve.pmax) {
        return fault(path, format!("pmax = {} must be from 0 to 1", curve.pmax));
    }
    Ok(Wred { kmin: curve.kmin.0, kmax: curve.kmax.0, pmax: curve.pmax, ecn })
}

/// Egress pools of the profile, and one without a limit for queues that name none.
pub(super) fn egress_pools(switch: &SwitchDoc) -> Vec<EgressPool> {
    let named =
        switch.egress_pools.iter().map(|(name, size)| EgressPool { name: name.clone(), size: size.0 });
    let mut all: Vec<EgressPool> = named.collect();
    if !all.is_empty() {
        all.push(EgressPool { name: "(no pool)".into(), size: Bytes(u32::MAX.into()) });
    }
    all
}

/// What `[switch.queue.N]` gives single queues.
fn queues(switch: &SwitchDoc, priorities: &mut [PriorityConfig; PRIORITIES]) -> Result<(), Fault> {
    let names: Vec<&str> = switch.egress_pools.keys().map(String::as_str).collect();
    let imported = switch.config.is_some();
    if !imported {
        priorities.iter_mut().for_each(|p| p.egress_pool = names.len() as u8);
    }
    for (key, doc) in &switch.queue {
        let path = |k: &str| format!("switch.queue.{key}{}{k}", if k.is_empty() { "" } else { "." });
        let Some(p) = key.parse::<usize>().ok().and_then(|n| priorities.get_mut(n)) else {
            return fault(path(""), "the key must be a queue from 0 to 7: [switch.queue.3]");
        };
        let QueueDoc { wred, egress_pool, egress_alpha, egress_static_th, egress_reserved } = doc;
        if let Some(doc) = wred {
            p.wred = curves(&path("wred"), doc)?;
        }
        if egress_alpha.is_some() && egress_static_th.is_some() {
            return fault(path("egress_static_th"), "there is an egress_alpha too; keep one");
        }
        let dynamic = |a: &Alpha| Limit::Dynamic(a.num, a.den);
        let limit = egress_alpha.as_ref().map(dynamic).or(egress_static_th.map(|s| Limit::Static(s.0)));
        p.egress_limit = limit.or(p.egress_limit);
        if imported && (egress_pool.is_some() || egress_reserved.is_some()) {
            let key = if egress_pool.is_some() { "egress_pool" } else { "egress_reserved" };
            return fault(
                path(key),
                "the pools are those of config; remove it, or change BUFFER_QUEUE there",
            );
        }
        if let Some(name) = egress_pool {
            let Some(at) = names.iter().position(|n| n == name) else {
                let text = match nearest(name, &names) {
                    Some(near) => format!("there is no such pool; did you mean {near:?}?"),
                    None => format!(
                        "there is no such pool; add egress_pools = {{ {name} = \"20 MB\" }} to [switch]"
                    ),
                };
                return fault(path("egress_pool"), text);
            };
            p.egress_pool = at as u8;
        }
        if egress_reserved.is_some() && egress_pool.is_none() {
            return fault(
                path("egress_reserved"),
                "is taken from an egress pool; name it: egress_pool = \"...\"",
            );
        }
        p.egress_reserved = egress_reserved.map_or(p.egress_reserved, |s| s.0);
    }
    Ok(())
}

/// What a real switch's configuration says of a port, with the keys that the profile gives itself on top.
pub(super) fn on_top(
    switch: &SwitchDoc,
    imported: &PortProfile,
    maps: &ClassMaps,
) -> Result<PortProfile, Fault> {
    let own = wred(switch)?;
    let shapers = shapers(switch)?;
    let mut profile = imported.clone();
    let kept = maps.lossless_queues(imported);
    for (i, p) in profile.priorities.iter_mut().enumerate() {
        let (alpha, fixed) = match p.lossless {
            true => (switch.alpha, switch.static_th),
            false => (switch.lossy_alpha, switch.lossy_static_th),
        };
        p.limit = alpha.map_or(p.limit, |a| Limit::Dynamic(a.num, a.den));
        p.limit = fixed.map_or(p.limit, |s| Limit::Static(s.0));
        if let Some(a) = switch.lossy_egress_alpha.filter(|_| kept & 1 << i == 0) {
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
    queues(switch, &mut profile.priorities)?;
    Ok(profile)
}
