//! Shapes of the fabric as the profile names them: which keys each takes, how many tester ports it makes and where they
//! hang, and the wired fabric without FEC.

use super::classes::ranged;
use super::doc::{DirectionDoc, FabricDoc, FabricKind, ProfileDoc};
use super::ports::check_rate;
use super::quantity::{BitRate, Cable, Size};
use super::source::{Fault, fault, nearest};
use crate::limits::{PORTS_MAX, SWITCH_PORTS_MAX};
use crate::switch::config::{FixedDelays, SwitchConfig};
use crate::topology::{
    Fabric, LeafSpine, Ring, SingleSwitch, ThreeTier, TopologyError, Wired, leaf_spine, ring, single_switch,
    three_tier, wired,
};
use crate::units::{Rate, Span};

/// The key of `kind` as a profile writes it.
fn named(kind: FabricKind) -> &'static str {
    match kind {
        FabricKind::Single => "single",
        FabricKind::LeafSpine => "leaf-spine",
        FabricKind::RailOptimised => "rail-optimised",
        FabricKind::ThreeTier => "three-tier",
        FabricKind::Ring => "ring",
        FabricKind::Graph => "graph",
    }
}

/// Keys that have to be typed, and those that only act in some shapes.
fn needed(kind: FabricKind) -> &'static [&'static str] {
    match kind {
        FabricKind::Single => &[],
        FabricKind::LeafSpine => &["leaves", "spines", "hosts_per_leaf"],
        FabricKind::RailOptimised => &["leaves", "rails", "spines", "hosts_per_leaf"],
        FabricKind::ThreeTier => &["pods", "leaves", "aggs", "cores", "hosts_per_leaf"],
        FabricKind::Ring => &["leaves", "hosts_per_leaf"],
        FabricKind::Graph => &["switch"],
    }
}

fn optional(kind: FabricKind) -> &'static [&'static str] {
    match kind {
        FabricKind::Single => &[],
        FabricKind::LeafSpine | FabricKind::RailOptimised => {
            &["uplink_rate", "uplinks", "cable", "xoff_headroom"]
        }
        FabricKind::ThreeTier => &[
            "uplink_rate",
            "uplinks",
            "cable",
            "xoff_headroom",
            "core_rate",
            "core_uplinks",
            "core_cable",
            "core_xoff_headroom",
        ],
        FabricKind::Ring => &["uplink_rate", "uplinks", "cable", "xoff_headroom", "direction"],
        FabricKind::Graph => &["uplink_rate", "cable", "xoff_headroom", "link", "route"],
    }
}

/// Keys of the document that say what the shape is, and whether they were typed.
fn typed(f: &FabricDoc) -> [(&'static str, bool); 18] {
    [
        ("pods", f.pods.is_some()),
        ("leaves", f.leaves.is_some()),
        ("aggs", f.aggs.is_some()),
        ("cores", f.cores.is_some()),
        ("spines", f.spines.is_some()),
        ("rails", f.rails.is_some()),
        ("hosts_per_leaf", f.hosts_per_leaf.is_some()),
        ("uplink_rate", f.uplink_rate.is_some()),
        ("uplinks", f.uplinks.is_some()),
        ("cable", f.cable.is_some()),
        ("xoff_headroom", f.xoff_headroom.is_some()),
        ("core_rate", f.core_rate.is_some()),
        ("core_uplinks", f.core_uplinks.is_some()),
        ("core_cable", f.core_cable.is_some()),
        ("core_xoff_headroom", f.core_xoff_headroom.is_some()),
        ("direction", f.direction.is_some()),
        ("switch", !f.switch.is_empty()),
        ("link", !f.link.is_empty()),
    ]
}

/// Fills the defaults of a shape of several switches; `rate` and `cable` are those of the tester ports.
pub(super) fn fill(f: &mut FabricDoc, kind: FabricKind, rate: BitRate, cable: Cable) -> Result<(), Fault> {
    for (key, there) in typed(f) {
        let acts = needed(kind).contains(&key) || optional(kind).contains(&key);
        if there && !acts {
            let text = match kind {
                FabricKind::Single => "needs kind = \"leaf-spine\" in [fabric]".into(),
                _ => format!("does not act with kind = \"{}\"; remove it", named(kind)),
            };
            return fault(format!("fabric.{key}"), text);
        }
        if !there && needed(kind).contains(&key) {
            let text = match key {
                "switch" => "a graph needs its switches: [[fabric.switch]] with name and hosts".into(),
                _ => format!(
                    "{key} is missing; a {} needs it, for example {key} = {}",
                    named(kind),
                    example(key)
                ),
            };
            return fault("fabric", text);
        }
    }
    if !f.route.is_empty() && kind != FabricKind::Graph {
        return fault("fabric.route[0]", "needs kind = \"graph\" in [fabric]");
    }
    if kind == FabricKind::Single {
        return Ok(());
    }
    f.host_rate.get_or_insert(rate);
    let uplink = *f.uplink_rate.get_or_insert(rate);
    let cable = *f.cable.get_or_insert(cable);
    if kind != FabricKind::Graph {
        f.uplinks.get_or_insert(1);
    }
    if kind == FabricKind::ThreeTier {
        f.core_rate.get_or_insert(uplink);
        f.core_uplinks.get_or_insert(1);
        f.core_cable.get_or_insert(cable);
    }
    if kind == FabricKind::Ring {
        f.direction.get_or_insert(DirectionDoc::Shortest);
    }
    for link in &mut f.link {
        link.rate.get_or_insert(uplink);
        link.cable.get_or_insert(cable);
        link.count.get_or_insert(1);
    }
    for switch in &mut f.switch {
        switch.hosts.get_or_insert(0);
    }
    Ok(())
}

/// Fills headrooms of cables between switches whose rate has another headroom (`of`) than `own`, that of `[switch]`.
pub(super) fn fill_headroom(
    f: &mut FabricDoc,
    own: Size,
    of: impl Fn(BitRate) -> Result<Size, Fault>,
) -> Result<(), Fault> {
    let Some(uplink) = f.uplink_rate else { return Ok(()) };
    if f.xoff_headroom.is_none() {
        f.xoff_headroom = Some(of(uplink)?).filter(|h| *h != own);
    }
    let trunk = f.xoff_headroom.unwrap_or(own);
    let links = f.link.iter_mut().map(|l| (l.rate, &mut l.xoff_headroom));
    for (rate, headroom) in links.chain([(f.core_rate, &mut f.core_xoff_headroom)]) {
        if let Some(rate) = rate.filter(|r| *r != uplink && headroom.is_none()) {
            *headroom = Some(of(rate)?).filter(|h| *h != trunk);
        }
    }
    Ok(())
}

/// A kind of cable between switches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Trunk {
    pub rate: Option<BitRate>,
    pub cable: Option<Cable>,
    /// Headroom of both its ends; `None` = that of `[switch]`.
    pub headroom: Option<Size>,
}

/// The cables between switches, by kind.
#[derive(Debug, Default)]
pub(super) struct Trunks {
    /// Each kind once.
    pub kinds: Vec<Trunk>,
    /// Number of the first cable behind a run of equal ones, and their kind.
    runs: Vec<(usize, usize)>,
}

impl Trunks {
    fn add(&mut self, kind: Trunk, count: usize) {
        let at = self.kinds.iter().position(|k| *k == kind).unwrap_or(self.kinds.len());
        if at == self.kinds.len() {
            self.kinds.push(kind);
        }
        let end = self.runs.last().map_or(0, |r| r.0).saturating_add(count);
        self.runs.push((end, at));
    }
    /// The kind of a cable, counted among those between switches.
    pub fn number(&self, cable: usize) -> Option<usize> {
        self.runs.get(self.runs.partition_point(|r| r.0 <= cable)).map(|r| r.1)
    }
    /// The same, itself.
    pub fn of(&self, cable: usize) -> Option<&Trunk> {
        self.kinds.get(self.number(cable)?)
    }
}

/// The cables between the switches of a filled `[fabric]`, in the order in which [`wire`] lays them.
pub(super) fn trunks(f: &FabricDoc) -> Trunks {
    let product = |factors: &[Option<u32>]| {
        factors.iter().fold(1usize, |n, f| n.saturating_mul(f.unwrap_or(1) as usize))
    };
    let uplink = Trunk { rate: f.uplink_rate, cable: f.cable, headroom: f.xoff_headroom };
    let mut all = Trunks::default();
    match f.kind {
        None | Some(FabricKind::Single) => {}
        Some(FabricKind::LeafSpine | FabricKind::RailOptimised) => {
            all.add(uplink, product(&[f.leaves, f.spines, f.uplinks]));
        }
        Some(FabricKind::Ring) => all.add(uplink, product(&[f.leaves, f.uplinks])),
        Some(FabricKind::ThreeTier) => {
            all.add(uplink, product(&[f.pods, f.leaves, f.aggs, f.uplinks]));
            let headroom = f.core_xoff_headroom.or(f.xoff_headroom);
            let core = Trunk { rate: f.core_rate, cable: f.core_cable, headroom };
            all.add(core, product(&[f.pods, f.cores, f.core_uplinks]));
        }
        Some(FabricKind::Graph) => {
            for l in &f.link {
                let headroom = l.xoff_headroom.or(f.xoff_headroom);
                all.add(Trunk { rate: l.rate, cable: l.cable, headroom }, product(&[l.count]));
            }
        }
    }
    all
}

fn example(key: &str) -> u32 {
    match key {
        "hosts_per_leaf" | "rails" => 8,
        "cores" | "pods" => 4,
        _ => 2,
    }
}

/// The leaf (or switch) each tester port hangs on; `None` for a single switch.
pub(super) fn groups(doc: &ProfileDoc) -> Result<Option<Vec<u32>>, Fault> {
    let Some(f) = &doc.fabric else { return fault("fabric", "is missing") };
    let size = |key: &str, value: Option<u32>, low: u32| -> Result<u64, Fault> {
        Ok(u64::from(ranged(&format!("fabric.{key}"), value, low, PORTS_MAX as u32)?))
    };
    let per_leaf = || -> Result<u64, Fault> {
        Ok(ranged("fabric.hosts_per_leaf", f.hosts_per_leaf, 1, SWITCH_PORTS_MAX as u32)?.into())
    };
    let (count, group): (u64, Box<dyn Fn(u64) -> u64>) = match f.kind {
        None | Some(FabricKind::Single) => return Ok(None),
        Some(FabricKind::LeafSpine) => {
            let each = per_leaf()?;
            (size("leaves", f.leaves, 2)? * each, Box::new(move |i| i / each))
        }
        Some(FabricKind::RailOptimised) => {
            let (each, rails) = (per_leaf()?, size("rails", f.rails, 1)?);
            let leaves = size("leaves", f.leaves, 1)?;
            if !leaves.is_multiple_of(rails) {
                return fault("fabric.leaves", format!("must be a multiple of rails = {rails}"));
            }
            (leaves * each, Box::new(move |i| i / (rails * each) * rails + i % rails))
        }
        Some(FabricKind::ThreeTier) => {
            let each = per_leaf()?;
            let leaves = size("pods", f.pods, 1)? * size("leaves", f.leaves, 1)?;
            (leaves.saturating_mul(each), Box::new(move |i| i / each))
        }
        Some(FabricKind::Ring) => {
            let each = per_leaf()?;
            (size("leaves", f.leaves, 3)? * each, Box::new(move |i| i / each))
        }
        Some(FabricKind::Graph) => {
            let mut all = Vec::new();
            for (s, switch) in f.switch.iter().enumerate() {
                let path = format!("fabric.switch[{s}].hosts");
                let hosts = ranged(&path, switch.hosts, 0, SWITCH_PORTS_MAX as u32)?;
                all.extend((0..hosts).map(|_| s as u32));
            }
            if all.is_empty() {
                return fault("fabric", "no switch has tester ports; give one hosts = 1 or more");
            }
            (all.len() as u64, Box::new(move |i| all.get(i as usize).copied().unwrap_or(0).into()))
        }
    };
    if count > PORTS_MAX as u64 {
        return fault("fabric", format!("makes {count} tester ports; at most {PORTS_MAX}"));
    }
    Ok(Some((0..count).map(|i| group(i) as u32).collect()))
}

/// The place of each tester port among those of its leaf (or switch); `None` for a single switch.
pub(super) fn places(doc: &ProfileDoc) -> Result<Option<Vec<u32>>, Fault> {
    let Some(groups) = groups(doc)? else { return Ok(None) };
    let mut next = vec![0; groups.iter().max().map_or(0, |g| *g as usize + 1)];
    let place = |g: &u32| {
        next[*g as usize] += 1;
        next[*g as usize] - 1
    };
    Ok(Some(groups.iter().map(place).collect()))
}

/// The fabric of the document, FEC left out; cables of tester ports too, and those between two tiers of switches (see
/// [`trunk_cable`]).
pub(super) fn wire(
    f: &FabricDoc,
    host_rates: Vec<Rate>,
    delays: FixedDelays,
    prototype: SwitchConfig,
) -> Result<Fabric, Fault> {
    let most = SWITCH_PORTS_MAX as u32;
    let n = |key: &str, value: Option<u32>, low: u32| -> Result<u16, Fault> {
        Ok(ranged(&format!("fabric.{key}"), value, low, most)? as u16)
    };
    let rate = |key: &str, value: Option<BitRate>| -> Result<Rate, Fault> {
        let rate = value.map_or(Rate::gbps(0), |r| r.0);
        check_rate(&format!("fabric.{key}"), rate)?;
        Ok(rate)
    };
    let delay = |cable: Option<Cable>| cable.map_or(Span::ZERO, |c| c.delay());
    let place = |e: TopologyError| Fault {
        path: if matches!(e, TopologyError::Switch(_)) { "switch" } else { "fabric" }.into(),
        text: e.to_string(),
    };
    match f.kind {
        None | Some(FabricKind::Single) => {
            single_switch(&SingleSwitch { host_rates, cable_m: 0, delays, prototype })
        }
        Some(kind @ (FabricKind::LeafSpine | FabricKind::RailOptimised)) => leaf_spine(&LeafSpine {
            host_rates,
            leaves: n("leaves", f.leaves, 1)?,
            rails: if kind == FabricKind::RailOptimised { n("rails", f.rails, 1)? } else { 1 },
            spines: n("spines", f.spines, 1)?,
            uplinks: n("uplinks", f.uplinks, 1)?,
            uplink_rate: rate("uplink_rate", f.uplink_rate)?,
            host_cable_m: 0,
            uplink_cable_m: 0,
            delays,
            prototype,
        }),
        Some(FabricKind::ThreeTier) => three_tier(&ThreeTier {
            host_rates,
            pods: n("pods", f.pods, 1)?,
            leaves: n("leaves", f.leaves, 1)?,
            aggs: n("aggs", f.aggs, 1)?,
            cores: ranged("fabric.cores", f.cores, 1, PORTS_MAX as u32)? as u16,
            uplinks: n("uplinks", f.uplinks, 1)?,
            uplink_rate: rate("uplink_rate", f.uplink_rate)?,
            uplink_cable: delay(f.cable),
            core_uplinks: n("core_uplinks", f.core_uplinks, 1)?,
            core_rate: rate("core_rate", f.core_rate)?,
            core_cable: delay(f.core_cable),
            delays,
            prototype,
        }),
        Some(FabricKind::Ring) => ring(&Ring {
            host_rates,
            switches: ranged("fabric.leaves", f.leaves, 3, PORTS_MAX as u32)? as u16,
            uplinks: n("uplinks", f.uplinks, 1)?,
            uplink_rate: rate("uplink_rate", f.uplink_rate)?,
            uplink_cable: delay(f.cable),
            clockwise: f.direction == Some(DirectionDoc::Clockwise),
            delays,
            prototype,
        }),
        Some(FabricKind::Graph) => wired(&graph(f, host_rates, delays, prototype)?),
    }
    .map_err(place)
}

/// Delay of the cables between switches that [`wire`] has left out.
pub(super) fn trunk_cable(f: &FabricDoc) -> Span {
    match f.kind {
        Some(FabricKind::LeafSpine | FabricKind::RailOptimised) => f.cable.map_or(Span::ZERO, |c| c.delay()),
        _ => Span::ZERO,
    }
}

fn graph(
    f: &FabricDoc,
    host_rates: Vec<Rate>,
    delays: FixedDelays,
    prototype: SwitchConfig,
) -> Result<Wired, Fault> {
    let mut switches: Vec<(String, usize)> = Vec::with_capacity(f.switch.len());
    for (i, s) in f.switch.iter().enumerate() {
        let path = format!("fabric.switch[{i}].name");
        let Some(name) = &s.name else { return fault(path, "is missing; links and routes need it") };
        if name.is_empty() || name.contains(char::is_whitespace) || name.contains('#') || name == "port" {
            return fault(path, "must be one word without #, and not \"port\"");
        }
        if switches.iter().any(|(other, _)| other == name) {
            return fault(path, "two switches have this name; names must differ");
        }
        switches.push((name.clone(), s.hosts.unwrap_or(0) as usize));
    }
    let find = |path: String, name: Option<&String>| -> Result<u16, Fault> {
        let Some(name) = name else { return fault(path, "is missing; name a [[fabric.switch]]") };
        match switches.iter().position(|(s, _)| s == name) {
            Some(s) => Ok(s as u16),
            None => {
                let names: Vec<&str> = switches.iter().map(|(s, _)| s.as_str()).collect();
                let hint =
                    nearest(name, &names).map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
                fault(path, format!("no such switch{hint}"))
            }
        }
    };
    let mut cables = Vec::new();
    for (i, link) in f.link.iter().enumerate() {
        let key = |k: &str| format!("fabric.link[{i}].{k}");
        let (from, to) = (find(key("from"), link.from.as_ref())?, find(key("to"), link.to.as_ref())?);
        if from == to {
            return fault(key("to"), "a link joins two different switches");
        }
        let rate = link.rate.map_or(Rate::gbps(0), |r| r.0);
        check_rate(&key("rate"), rate)?;
        let delay = link.cable.map_or(Span::ZERO, |c| c.delay());
        for _ in 0..ranged(&key("count"), link.count, 1, SWITCH_PORTS_MAX as u32)? {
            cables.push((from, to, rate, delay));
        }
    }
    let mut routes = Vec::new();
    for (i, route) in f.route.iter().enumerate() {
        let key = |k: &str| format!("fabric.route[{i}].{k}");
        let (at, to) = (find(key("at"), route.at.as_ref())?, find(key("to"), route.to.as_ref())?);
        if at == to {
            return fault(key("to"), "tester ports of a switch are reached without a route");
        }
        if route.via.is_empty() {
            return fault(key("via"), "is missing; name the next switches, for example via = [\"s1\"]");
        }
        let via = route.via.iter().map(|v| find(key("via"), Some(v))).collect::<Result<_, _>>()?;
        routes.push((at, to, via));
    }
    Ok(Wired { host_rates, switches, cables, routes, delays, prototype })
}
