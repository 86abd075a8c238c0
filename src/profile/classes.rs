//! Traffic classes, and their agreement with the switch's DSCP map.

use std::sync::Arc;

use super::doc::{ClassDoc, ProfileDoc};
use super::preset::AZURE_DSCP_MAP;
use super::sonic::Imported;
use super::source::{Fault, fault, nearest};
use crate::limits::CLASSES_MAX;
use crate::switch::config::{ClassMaps, Color};
use crate::transport::config::{ClassConfig, Ecn};
use crate::units::ClassIx;

/// Warnings found while planning: (code, text).
pub(super) type Warnings = Vec<(String, String)>;

/// The imported map, or SONiC's AZURE map, with the profile's own entries. Entries that are no DSCP are left out; [`build`]
/// refuses them.
pub(super) fn dscp_map(doc: &ProfileDoc, imported: Option<&Imported>) -> [u8; 64] {
    let mut map = imported.map_or(AZURE_DSCP_MAP, |i| i.dscp_map);
    for (dscp, priority) in doc.switch.iter().flat_map(|s| &s.dscp_map) {
        if let Some(slot) = dscp.parse::<usize>().ok().and_then(|d| map.get_mut(d)) {
            *slot = *priority;
        }
    }
    map
}

/// Priority of a DSCP where no DSCP acts: what SONiC's AZURE map says.
pub(super) fn usual_priority(dscp: u8) -> u8 {
    AZURE_DSCP_MAP.get(usize::from(dscp)).copied().unwrap_or(0)
}

/// A required number within bounds.
pub(super) fn ranged<T>(path: &str, value: Option<T>, low: T, high: T) -> Result<T, Fault>
where
    T: Copy + PartialOrd + std::fmt::Display,
{
    match value {
        Some(v) if v >= low && v <= high => Ok(v),
        Some(_) => fault(path, format!("must be from {low} to {high}")),
        None => fault(path, format!("is missing; give a number from {low} to {high}")),
    }
}

/// Classes and what they ask of the switch.
pub(super) struct Classes {
    /// By name.
    pub list: Arc<[ClassConfig]>,
    /// Per priority (traffic class).
    pub lossless: [bool; 8],
    /// Groups and queues of the priorities.
    pub maps: ClassMaps,
    /// Of the switch.
    pub dscp_color: [Color; 64],
    /// Of the switch.
    pub dscp_map: [u8; 64],
    /// Of the switch, where it trusts VLAN tags.
    pub pcp_map: Option<[u8; 8]>,
}

impl Classes {
    /// Some traffic class that feeds this group is lossless; then all of them are that any class names.
    pub fn lossless_group(&self, group: usize) -> bool {
        let into = self.maps.into_group(group);
        (0..8).any(|c| into & 1 << c != 0 && self.lossless[c])
    }
}

/// The map of VLAN tags, of the profile or of its imported configuration, where tags are trusted.
pub(super) fn pcp_map(doc: &ProfileDoc, imported: Option<&Imported>) -> Option<[u8; 8]> {
    doc.switch.as_ref().and_then(|s| s.pcp_map).or(imported.and_then(|i| i.pcp_map))
}

/// Groups and queues of the profile or of its imported configuration.
fn maps(doc: &ProfileDoc, imported: Option<&Imported>) -> Result<ClassMaps, Fault> {
    let Some(switch) = &doc.switch else { return Ok(ClassMaps::default()) };
    if let Some(map) = switch.pcp_map {
        if imported.is_some() {
            let text = "the map is that of config; remove it, or change DOT1P_TO_TC_MAP there";
            return fault("switch.pcp_map", text);
        }
        if let Some(pcp) = map.iter().position(|n| *n > 7) {
            return fault(
                "switch.pcp_map",
                format!("pcp_map: PCP {pcp} has priority {}; use 0 to 7", map[pcp]),
            );
        }
    }
    let mut maps = imported.map_or_else(ClassMaps::default, |i| i.maps);
    for (key, own, map, table) in [
        ("tc_to_pg", switch.tc_to_pg, &mut maps.group, "TC_TO_PRIORITY_GROUP_MAP"),
        ("tc_to_queue", switch.tc_to_queue, &mut maps.queue, "TC_TO_QUEUE_MAP"),
    ] {
        let Some(own) = own else { continue };
        let path = format!("switch.{key}");
        if imported.is_some() {
            return fault(path, format!("the map is that of config; remove it, or change {table} there"));
        }
        if let Some(class) = own.iter().position(|n| *n > 7) {
            return fault(path, format!("{key}: priority {class} has number {}; use 0 to 7", own[class]));
        }
        *map = own;
    }
    Ok(maps)
}

/// Colours of DSCPs.
fn colors(doc: &ProfileDoc) -> Result<[Color; 64], Fault> {
    let mut all = [Color::Green; 64];
    for (dscp, color) in doc.switch.iter().flat_map(|s| &s.dscp_color) {
        match dscp.parse::<usize>().ok().and_then(|d| all.get_mut(d)) {
            Some(slot) => *slot = (*color).into(),
            None => {
                return fault(
                    format!("switch.dscp_color.{dscp}"),
                    "the key must be a DSCP from 0 to 63, in quotes",
                );
            }
        }
    }
    Ok(all)
}

/// Refuses a group that a lossless class of the profile shares with a lossy one: it is one or the other.
fn same_in_group(lossless: &[Option<(bool, &str)>; 8], maps: &ClassMaps) -> Result<(), Fault> {
    for group in 0..8 {
        let into = maps.into_group(group);
        let mine = || lossless.iter().enumerate().filter(|(c, _)| into & 1 << c != 0);
        let named = |kind: bool| mine().find_map(|(_, l)| l.filter(|(is, _)| *is == kind));
        if let (Some((_, yes)), Some((_, no))) = (named(true), named(false)) {
            let text = format!(
                "class {yes} is lossless and class {no} lossy, and both are in priority group {group} (tc_to_pg); a group \
                 is one or the other"
            );
            return fault(format!("class.{no}.lossless"), text);
        }
    }
    Ok(())
}

/// All classes, checked against the map.
pub(super) fn build(
    doc: &ProfileDoc,
    imported: Option<&Imported>,
    warnings: &mut Warnings,
) -> Result<Classes, Fault> {
    for (dscp, priority) in doc.switch.iter().flat_map(|s| &s.dscp_map) {
        let path = format!("switch.dscp_map.{dscp}");
        if dscp.parse::<u8>().map_or(true, |d| d > 63) {
            return fault(path, "the key must be a DSCP from 0 to 63, in quotes");
        }
        ranged(&path, Some(*priority), 0, 7)?;
        if let Some(i) = imported.filter(|i| i.pcp_map.is_some()) {
            let text = format!(
                "the switch goes by the PCP of VLAN tags ({}), so no DSCP acts; remove it, and give the classes vlan and pcp",
                i.classified_by
            );
            return fault(path, text);
        }
    }
    if doc.class.len() > CLASSES_MAX {
        return fault("class", format!("{} classes; at most {CLASSES_MAX}", doc.class.len()));
    }
    let map = dscp_map(doc, imported);
    let maps = maps(doc, imported)?;
    let mut lossless: [Option<(bool, &str)>; 8] = [None; 8];
    let mut classes = Vec::with_capacity(doc.class.len());
    for (name, class) in &doc.class {
        let config = one(name, class, &map, pcp_map(doc, imported).as_ref())?;
        let slot = &mut lossless[usize::from(config.priority)];
        match slot {
            Some((other, first)) if *other != config.lossless => {
                let text = format!(
                    "class {first} on the same priority {} says {other}; a priority is lossless or \
                         lossy for all of \
                     its classes",
                    config.priority
                );
                return fault(format!("class.{name}.lossless"), text);
            }
            _ => *slot = Some((config.lossless, name)),
        }
        if imported.is_none() && config.lossless && matches!(config.dscp, 24 | 26) {
            let text = format!(
                "class {name}: DSCP {} is lossy on a SONiC switch with the default map (queue 1); the \
                     real switch \
                 needs the same dscp_map entry",
                config.dscp
            );
            warnings.push(("dscp_lossy_by_default".into(), text));
        }
        if let Some(i) = imported
            && i.lossless(config.priority) != config.lossless
        {
            let (says, does) = if config.lossless {
                ("lossless", "has no PFC there and may drop its frames")
            } else {
                ("lossy", "has PFC there and pauses instead of dropping")
            };
            let text =
                format!("class {name} is {says}, but the switch on priority {} {does}", config.priority);
            warnings.push(("class_and_switch_differ".into(), text));
        }
        classes.push(config);
    }
    if imported.is_none() {
        same_in_group(&lossless, &maps)?;
    }
    let flags = match imported {
        Some(i) => std::array::from_fn(|p| i.lossless(p as u8)),
        None => lossless.map(|l| l.is_some_and(|(lossless, _)| lossless)),
    };
    for class in &classes {
        if class.lossless && !flags[usize::from(class.ack_priority)] {
            let text = format!(
                "class {}: ACKs with DSCP {} travel in priority {}, which may drop; a lost last ACK \
                     costs a timeout",
                class.name, class.ack_dscp, class.ack_priority
            );
            warnings.push(("acks_may_drop".into(), text));
        }
    }
    let pcp_map = pcp_map(doc, imported);
    let dscp_color = colors(doc)?;
    Ok(Classes { list: classes.into(), lossless: flags, maps, dscp_color, dscp_map: map, pcp_map })
}

/// `by_tag`: the switch goes by the PCP of VLAN tags.
fn one(name: &str, c: &ClassDoc, map: &[u8; 64], by_tag: Option<&[u8; 8]>) -> Result<ClassConfig, Fault> {
    let key = |k: &str| format!("class.{name}.{k}");
    let dscp = ranged(&key("dscp"), c.dscp, 0, 63)?;
    let priority = ranged(&key("priority"), c.priority, 0, 7)?;
    let vlan = c.vlan.map(|v| ranged(&key("vlan"), Some(v), 1, 4094)).transpose()?;
    let pcp = c.pcp.map(|p| ranged(&key("pcp"), Some(p), 0, 7)).transpose()?;
    if pcp.is_some() && vlan.is_none() {
        return fault(key("pcp"), "stands in a VLAN tag; give the class a vlan too, or remove it");
    }
    let trusts_tags = by_tag.is_some();
    let by_tag = by_tag.filter(|_| vlan.is_some());
    let mapped = match (by_tag, pcp) {
        (Some(by_tag), Some(pcp)) => by_tag[usize::from(pcp)],
        _ => map[usize::from(dscp)],
    };
    if let Some(by_tag) = by_tag.filter(|_| mapped != priority) {
        let right = by_tag.iter().position(|p| *p == priority);
        let fix = match right {
            Some(right) => format!("give pcp = {right}, or priority = {mapped}"),
            None => format!("no PCP leads to {priority}; give priority = {mapped}"),
        };
        let text = format!("the switch puts PCP {} into priority {mapped}; {fix}", pcp.unwrap_or(0));
        return fault(key("priority"), text);
    }
    if mapped != priority {
        if trusts_tags {
            let text = format!(
                "the switch goes by the PCP of VLAN tags, and untagged frames are in priority {mapped}; give the class a vlan"
            );
            return fault(key("priority"), text);
        }
        let slip = if matches!(dscp, 24 | 26) { " (24 and 26 are lossy there)" } else { "" };
        let text = format!(
            "the switch puts DSCP {dscp} into priority {mapped}{slip}; use a DSCP of that priority (3 \
                 -> 3, 4 -> 4) or \
             add [switch.dscp_map] \"{dscp}\" = {priority}"
        );
        return fault(key("priority"), text);
    }
    let ack_dscp = ranged(&key("ack_dscp"), c.ack_dscp, 0, 63)?;
    let cnp_dscp = ranged(&key("cnp_dscp"), c.cnp_dscp, 0, 63)?;
    let mtu = c.mtu.unwrap_or(0);
    if ![256, 512, 1024, 2048, 4096].contains(&mtu) {
        return fault(key("mtu"), "must be an RDMA path MTU: 256, 512, 1024, 2048 or 4096");
    }
    // ACKs and CNPs: as the data where they have its DSCP, else what their DSCP usually stands for.
    let code_point = |of: u8| match pcp {
        Some(pcp) if of == dscp => pcp,
        _ if by_tag.is_some() => usual_priority(of),
        _ => map[usize::from(of)],
    };
    let at_switch = |of: u8| by_tag.map_or(map[usize::from(of)], |m| m[usize::from(code_point(of) & 7)]);
    Ok(ClassConfig {
        name: name.into(),
        dscp,
        priority,
        lossless: c.lossless.unwrap_or(false),
        ecn: c.ecn.map_or(Ecn::Ect0, Ecn::from),
        ack_dscp,
        ack_priority: at_switch(ack_dscp),
        cnp_dscp,
        cnp_priority: at_switch(cnp_dscp),
        mtu,
        vlan,
        pcp: pcp.map(|pcp| [pcp, code_point(ack_dscp), code_point(cnp_dscp)]),
    })
}

/// The class of that name.
pub(super) fn find(classes: &[ClassConfig], path: &str, name: Option<&str>) -> Result<ClassIx, Fault> {
    let name = name.unwrap_or_default();
    if let Some(i) = classes.iter().position(|c| c.name == name) {
        return Ok(ClassIx(i as u8));
    }
    let names: Vec<&str> = classes.iter().map(|c| c.name.as_str()).collect();
    match nearest(name, &names) {
        Some(near) => fault(path, format!("there is no [class.{name}]; did you mean {near:?}?")),
        None => fault(path, format!("there is no [class.{name}]; the profile has {}", names.join(", "))),
    }
}
