//! The database becomes what the model has: limits of each port of a run per priority, and the pools behind them.

use super::asic::{self, Asic, Guaranteed, PoolSize};
use super::database::{Database, SonicError, refuse};
use super::groups::{Bindings, Group};
use super::lookup::Lookup;
use super::notes::{Notes, some};
use super::pools::{Pools, SharedEgress, binds, watchdog_row};
use super::qos::{self, Maps};
use crate::limits::{PRIORITIES, RUN_SECONDS_MAX};
use crate::switch::config::{
    ClassMaps, IngressPool, PortProfile, PriorityConfig, Slices, Watchdog, WatchdogAction,
};
use crate::units::{Bytes, Span};

/// A port of the run, as the import looks for one in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPort {
    /// Name on the switch; `None` = any port that fits.
    pub name: Option<String>,
    /// Rate, Mb/s.
    pub speed: u64,
    /// Cable, metres; `None` when the profile gives it as a delay.
    pub cable: Option<u64>,
}

/// What the run wants of a switch, and what its profile says in place of the database.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Tester ports, in order.
    pub ports: Vec<WantedPort>,
    /// A port to another switch for each kind of cable between switches.
    pub trunks: Vec<WantedPort>,
    /// How the buffer is sliced, when the profile says so.
    pub slices: Option<Slices>,
    /// Cell size of the profile or its preset.
    pub cell: Option<u16>,
    /// Buffer of the profile: the pool's size is not needed.
    pub buffer: Option<Bytes>,
    /// The profile gives the headroom: no lookup is needed.
    pub headroom: bool,
    /// Links of the run have FEC; `None` = not said, so that nothing is compared.
    pub fec: Option<bool>,
}

/// A switch of the database in the terms of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Cell size, bytes.
    pub cell: u16,
    /// Shared pool of the lossless groups, for the whole switch, in bytes; `None` when the profile gives the buffer.
    pub shared: Option<Bytes>,
    /// Ingress pools; the first is that of the lossless groups.
    pub ingress_pools: Vec<IngressPool>,
    /// Egress pools; empty when the database does not say their sizes.
    pub egress_pools: Vec<SharedEgress>,
    /// Limits, weights and marking that most ports of the run have.
    pub priorities: [PriorityConfig; PRIORITIES],
    /// The same with shaper and watchdog.
    pub common: PortProfile,
    /// The same of each port of the run.
    pub profiles: Vec<PortProfile>,
    /// The same of ports to other switches, by kind of cable.
    pub trunks: Vec<PortProfile>,
    /// DSCP to traffic class; where frames go by PCP, the class of untagged ones for every DSCP.
    pub dscp_map: [u8; 64],
    /// DSCPs that the map does not have, a bit each.
    pub unmapped: u64,
    /// Group and queue of each traffic class.
    pub maps: ClassMaps,
    /// How the buffer is sliced; pipes of the run's ports and of those to other switches, where it is known to be.
    pub slices: Slices,
    /// See `slices`.
    pub pipes: Vec<Option<u8>>,
    /// See `slices`.
    pub trunk_pipes: Vec<Option<u8>>,
    /// PCP of a VLAN tag to traffic class, where frames go by it.
    pub pcp_map: Option<[u8; PRIORITIES]>,
    /// The map that classifies frames: file, table and name.
    pub classified_by: String,
    /// `mtu` of the ports that stand for ports of the run, where PORT has one: place and bytes.
    pub mtus: Vec<(String, u64)>,
    /// Names of the ports that stand for the run's ports, in order; `None` where the database has no more.
    pub ports: Vec<Option<String>>,
    /// (code, text): what differs, was assumed, or is not modelled.
    pub warnings: Vec<(String, String)>,
}

impl Imported {
    /// True when the group of a traffic class is lossless on most ports of the run.
    pub fn lossless(&self, class: u8) -> bool {
        self.priorities[self.maps.group_of(class)].lossless
    }
}

/// What one port gives each priority. Equal when what acts is: names of maps and what they leave out are for remarks.
#[derive(Clone, Debug)]
struct Settings {
    profile: PortProfile,
    dscp: [u8; 64],
    classes: ClassMaps,
    unmapped: u64,
    pcp: Option<[u8; PRIORITIES]>,
    by: String,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Settings) -> bool {
        (&self.profile, self.dscp, self.classes, self.pcp)
            == (&other.profile, other.dscp, other.classes, other.pcp)
    }
}

/// Finds the ports of the run in the database and gathers what they give to each priority.
///
/// # Errors
/// Names file, table, key and field of what is missing or cannot be modelled.
pub fn resolve(db: &Database, lookup: Option<&Lookup>, wanted: &Wanted) -> Result<Imported, SonicError> {
    refuse_virtual_output_queues(db)?;
    if !db.has("BUFFER_POOL") {
        return refuse(format!("{}: BUFFER_POOL", db.name()), NO_POOL);
    }
    let mut notes = Notes::default();
    notes.of_tables(db);
    let cell = cell(db, wanted)?;
    let ports = db.ports();
    let mut bindings = Bindings::new(db, lookup, &ports)?;
    bindings.headroom_typed = wanted.headroom;
    if wanted.headroom {
        notes.assumed(
            "xoff_headroom of the profile acts for all lossless groups; those that the database leaves to be looked up, \
             and the table does not have, reserve nothing and have alpha 1",
        );
    }
    let chip = chip(db).or(asic::of_cell(cell));
    let slices = wanted.slices.or(chip.map(|a| a.slices)).unwrap_or_default();
    if chip.is_none() && wanted.slices.is_none() && cell == 208 {
        notes.assumed(
            "cells of 208 bytes and no platform: Trident 2, one memory, is taken; a Tomahawk 1 or 2 has four, which slices = \
             \"crosspoints\" gives",
        );
    }
    let guaranteed = chip.map_or(Guaranteed::Bound, |c| c.guaranteed);
    let mut run = Run { db, bindings, wanted, cell, slices, guaranteed };
    let mut guarded = Vec::with_capacity(ports.len());
    for port in &ports {
        guarded.push((port.as_str(), run.guarded(port, &mut notes)?));
    }
    let slots = run.choose(&guarded, &mut notes)?;
    let used: Vec<&str> = slots.iter().copied().flatten().collect();
    let links = wanted.ports.iter().chain(&wanted.trunks);
    let cables = slots.iter().zip(links).filter_map(|(name, port)| Some(((*name)?.to_owned(), port.cable?)));
    run.bindings.run_cables = cables.collect();
    let mtus = run.links(&used, &mut notes)?;
    let pools = run.pools(&guarded, &used, &mut notes)?;
    let mut each: Vec<Option<Settings>> = Vec::with_capacity(slots.len());
    for name in &slots {
        let flags = guarded.iter().find(|(p, _)| Some(*p) == *name).map_or([false; PRIORITIES], |(_, f)| *f);
        each.push(match name {
            Some(name) => Some(run.settings(name, flags, &pools, &mut notes)?),
            None => None,
        });
    }
    let most = run.common(&slots, &each, &mut notes)?;
    let mut profiles: Vec<PortProfile> =
        each.into_iter().map(|s| s.unwrap_or_else(|| most.clone()).profile).collect();
    let trunks = profiles.split_off(wanted.ports.len());
    run.headroom_pool(&profiles, &pools, &mut notes);
    notes.watchdogs(db, &ports);
    if run.bindings.took_run_cable.get() {
        notes.assumed(
            "CABLE_LENGTH does not have every port of the run: headroom of the others is looked up for the run's cable",
        );
    }
    let mut pipes: Vec<Option<u8>> =
        slots.iter().map(|name| (*name).and_then(|name| run.pipe(name, &ports, chip))).collect();
    let trunk_pipes = pipes.split_off(wanted.ports.len());
    let names = slots.into_iter().take(wanted.ports.len());
    Ok(Imported {
        cell,
        shared: pools.ingress.first().and_then(|p| p.shared),
        ingress_pools: pools.ingress,
        egress_pools: pools.egress,
        priorities: most.profile.priorities,
        common: most.profile,
        profiles,
        trunks,
        dscp_map: most.dscp,
        unmapped: most.unmapped,
        maps: most.classes,
        slices,
        pipes,
        trunk_pipes,
        pcp_map: most.pcp,
        classified_by: most.by,
        mtus,
        ports: names.map(|p| p.map(str::to_owned)).collect(),
        warnings: notes.warnings(),
    })
}

/// What a database without pools lacks.
const NO_POOL: &str = "the files have none; give the buffer rendering of the switch too: config = [\"buffers.json\", \
     \"qos.json\"]";

/// Longer than any run.
const NEVER_RESTORED: Span = Span(RUN_SECONDS_MAX * 1_000_000_000_000);

/// Why nothing of the profile helps: the model is of another architecture.
const NO_SHARED_BUFFER: &str = "frames wait at the ingress in virtual output queues (VOQ), which is no shared-buffer \
     switch; only those are modelled, whatever cell, buffer or preset says: give the configuration of a shared-buffer \
     switch, or run on --on ports against the real one";

/// Refuses what is no shared-buffer switch: by `switch_type`, by the name of the platform, or by a table that only
/// chassis of such chips have.
fn refuse_virtual_output_queues(db: &Database) -> Result<(), SonicError> {
    for (_, device) in db.rows("DEVICE_METADATA") {
        let text = |field: &str| device.text(field).unwrap_or_default();
        let kind = text("switch_type").to_ascii_lowercase();
        if matches!(kind.as_str(), "voq" | "chassis-packet" | "fabric") {
            return refuse(device.at("switch_type"), format!("{kind:?}: {NO_SHARED_BUFFER}"));
        }
        for field in ["hwsku", "platform"] {
            if let Some(chip) = asic::with_virtual_output_queues(text(field), "") {
                let text = format!("{:?} has a {chip} chip: {NO_SHARED_BUFFER}", text(field));
                return refuse(device.at(field), text);
            }
        }
    }
    match ["SYSTEM_PORT", "VOQ_INBAND_INTERFACE"].iter().find(|t| db.unread().contains_key(**t)) {
        Some(table) => refuse(
            format!("{}: {table}", db.name()),
            format!("is a table of chassis with VOQ chips: {NO_SHARED_BUFFER}"),
        ),
        None => Ok(()),
    }
}

/// The chip, when the database names its platform.
fn chip(db: &Database) -> Option<Asic> {
    let device = db.get("DEVICE_METADATA", "localhost");
    let text = |field: &str| device.and_then(|r| r.text(field)).unwrap_or_default();
    asic::of_platform(text("hwsku"), text("platform"))
}

fn cell(db: &Database, wanted: &Wanted) -> Result<u16, SonicError> {
    match wanted.cell.or(chip(db).map(|a| a.cell)) {
        Some(cell) if (32..=8_192).contains(&cell) => Ok(cell),
        Some(cell) => refuse(db.name(), format!("cell = {cell} must be from 32 to 8192")),
        None => refuse(
            db.name(),
            "does not name a known chip; give its cell size (Trident 3: cell = 256, Tomahawk 1-2: 208, Tomahawk 3-5: \
             254, Spectrum 1, 2-3, 4: 96, 144, 192) or a preset",
        ),
    }
}

pub(super) struct Run<'d> {
    pub db: &'d Database,
    pub bindings: Bindings<'d>,
    pub wanted: &'d Wanted,
    pub cell: u16,
    pub slices: Slices,
    pub guaranteed: Guaranteed,
}

pub(super) type Guarded<'p> = [(&'p str, [bool; PRIORITIES])];

impl Run<'_> {
    /// Pipe of a port by its first lane, or where the database has no lanes, by its place among all ports.
    fn pipe(&self, port: &str, all: &[String], chip: Option<Asic>) -> Option<u8> {
        let pipes = usize::from(self.slices.pipes());
        if self.slices == Slices::Whole {
            return None;
        }
        let lanes = self.db.get("PORT", port).and_then(|r| r.text("lanes"));
        let lane: Option<usize> = lanes.and_then(|l| l.split(',').next()?.trim().parse().ok());
        let by_lane = lane
            .zip(chip.filter(|c| c.lanes > 0))
            .map(|(lane, chip)| (lane.max(1) - 1) * pipes / usize::from(chip.lanes.max(1)));
        let by_place = || all.iter().position(|p| p == port).map(|at| at * pipes / all.len());
        by_lane.filter(|pipe| *pipe < pipes).or_else(by_place).map(|pipe| pipe as u8)
    }

    /// How sizes of pools count, see [`PoolSize`].
    pub(super) fn pool_size(&self) -> PoolSize {
        match self.slices {
            Slices::Crosspoints => PoolSize::SharedOnly,
            Slices::Itms | Slices::Whole => asic::pool_size(self.cell),
        }
    }

    /// Priority groups of a port that PFC guards.
    fn guarded(&self, port: &str, notes: &mut Notes) -> Result<[bool; PRIORITIES], SonicError> {
        let asked = std::array::from_fn(|pg| self.bindings.asks_for_headroom(port, pg));
        let Some(on) = qos::pfc_enabled(self.db, port)? else {
            if asked.contains(&true) {
                notes.assumed(
                    "no PORT_QOS_MAP for ports whose groups have headroom: PFC is on for those groups",
                );
            }
            return Ok(asked);
        };
        let maps = qos::class_maps(self.db, port)?;
        let guarded: [bool; PRIORITIES] =
            std::array::from_fn(|g| (0..PRIORITIES).any(|c| on[c] && maps.group_of(c as u8) == g));
        for g in (0..PRIORITIES).filter(|g| asked[*g] && !guarded[*g]) {
            notes.can_drop(format!(
                "priority group {g} has headroom, but pfc_enable names no traffic class of it: it is lossy"
            ));
        }
        Ok(guarded)
    }

    fn speed(&self, port: &str) -> Result<u64, SonicError> {
        let default = self.wanted.ports.first().map_or(100_000, |p| p.speed);
        Ok(self.bindings.speed(port)?.unwrap_or(default))
    }

    /// The ports of the database that stand for those of the run: by name, or the first that fit.
    fn choose<'p>(
        &self,
        guarded: &Guarded<'p>,
        notes: &mut Notes,
    ) -> Result<Vec<Option<&'p str>>, SonicError> {
        let lossless: Vec<&str> =
            guarded.iter().filter(|(_, g)| g.contains(&true)).map(|(p, _)| *p).collect();
        let all: Vec<&str> = guarded.iter().map(|(p, _)| *p).collect();
        let in_use: Vec<&str> = lossless.iter().copied().filter(|p| self.bindings.in_use(p)).collect();
        let pool = [&in_use, &lossless].into_iter().find(|list| !list.is_empty()).unwrap_or(&all);
        let mut pool = pool.clone();
        pool.sort_by_key(|port| self.is_down(port));
        let (Some(first), Some(last)) = (all.first(), all.last()) else {
            return refuse(
                self.db.name(),
                "has no port: neither PORT, BUFFER_PG, PORT_QOS_MAP nor CABLE_LENGTH",
            );
        };
        // Ports to other switches come last.
        let wanted: Vec<&WantedPort> = self.wanted.ports.iter().chain(&self.wanted.trunks).collect();
        let mut slots: Vec<Option<&str>> = Vec::with_capacity(wanted.len());
        for port in &wanted {
            let found = port.name.as_ref().map(|name| (name, all.iter().find(|p| *p == name)));
            if let Some((name, None)) = found {
                let text = format!("there is no port {name}; it has {first} to {last}");
                return refuse(self.db.name(), text);
            }
            slots.push(found.and_then(|(_, p)| p.copied()));
        }
        for i in 0..slots.len() {
            let port = wanted[i];
            if slots[i].is_some() {
                continue;
            }
            let free = || pool.iter().copied().filter(|p| !slots.contains(&Some(*p)));
            let speed = |p: &str| self.bindings.speed(p).ok().flatten().is_none_or(|s| s == port.speed);
            let cable = |p: &str| {
                let theirs = self.bindings.cable(p).ok().flatten();
                theirs.is_none() || port.cable.is_none() || theirs == port.cable
            };
            let best = free().find(|p| speed(p) && cable(p)).or_else(|| free().find(|p| speed(p)));
            slots[i] = best.or_else(|| free().find(|p| cable(p))).or_else(|| free().next());
        }
        for (name, port) in slots.iter().zip(&wanted).filter_map(|(n, p)| n.map(|n| (n, p))) {
            if let Some(speed) = self.bindings.speed(name)?.filter(|s| *s != port.speed) {
                notes.differ(format!(
                    "ports of {speed} Mb/s stand for ports of {} Mb/s in the run; set ports.rate or dut_port",
                    port.speed
                ));
            }
            if let (Some(theirs), Some(ours)) = (self.bindings.cable(name)?, port.cable)
                && theirs != ours
            {
                notes.differ(format!(
                    "the database says {theirs}m of cable, the run has {ours}m; its headroom is for {theirs}m"
                ));
            }
        }
        let found = slots.iter().flatten().count();
        if found < slots.len() {
            notes.differ(format!(
                "the run has {} ports, the database {} that fit; the others are taken to be the same",
                slots.len(),
                found
            ));
        }
        Ok(slots)
    }

    pub(super) fn groups(
        &self,
        port: &str,
        guarded: [bool; PRIORITIES],
    ) -> Result<[Option<Group>; PRIORITIES], SonicError> {
        let speed = self.speed(port)?;
        let mut all: [Option<Group>; PRIORITIES] = Default::default();
        for (pg, slot) in all.iter_mut().enumerate() {
            *slot = self.bindings.group(port, pg, guarded[pg], speed)?;
        }
        Ok(all)
    }

    /// The settings most ports of the run have; the first of them where several are as common.
    fn common(
        &self,
        slots: &[Option<&str>],
        each: &[Option<Settings>],
        notes: &mut Notes,
    ) -> Result<Settings, SonicError> {
        let mut kinds: Vec<(&Settings, Vec<&str>)> = Vec::new();
        for (name, settings) in slots.iter().zip(each).filter_map(|(n, s)| Some(((*n)?, s.as_ref()?))) {
            match kinds.iter_mut().find(|(s, _)| *s == settings) {
                Some((_, ports)) => ports.push(name),
                None => kinds.push((settings, vec![name])),
            }
        }
        let Some(most) = kinds.iter().map(|(_, p)| p.len()).max() else {
            return refuse(self.db.name(), "the run has no ports");
        };
        let at = kinds.iter().position(|(_, p)| p.len() == most).unwrap_or(0);
        let (settings, ports) = kinds.remove(at);
        for (other, others) in kinds {
            let head = format!("{} of {} ports ({})", others.len(), slots.len(), others.join(", "));
            let like = ports.first().unwrap_or(&"");
            if (other.dscp, other.pcp, other.classes) != (settings.dscp, settings.pcp, settings.classes) {
                notes.differ(format!(
                    "{head} differ in their maps (DSCP, PCP, traffic class): the switch has one, that of {like}, and they have it too"
                ));
            }
            let names = difference(settings, other);
            if !names.is_empty() {
                notes.own(format!("{head} have their own {names}; most ports of the run are like {like}"));
            }
        }
        Ok(settings.clone())
    }

    fn settings(
        &self,
        port: &str,
        guarded: [bool; PRIORITIES],
        pools: &Pools,
        notes: &mut Notes,
    ) -> Result<Settings, SonicError> {
        let maps = Maps::of(self.db, port, guarded, notes)?;
        let groups = self.groups(port, guarded)?;
        let mut priorities = [PriorityConfig::default(); PRIORITIES];
        for (n, (p, lossless)) in priorities.iter_mut().zip(guarded).enumerate() {
            let own = qos::queue(self.db, n, self.bindings.qos(port, n), notes)?;
            (p.lossless, p.weight, p.wred, p.shaper) = (lossless, own.weight, own.wred, own.shaper);
            let waits = |c: &u8| maps.classes.queue_of(*c) == n;
            let kept = (0..PRIORITIES as u8).filter(waits).any(|c| guarded[maps.classes.group_of(c)]);
            if maps.classes.into_group(n) == 0 && groups[n].is_none() {
                // A number that is only a queue's: the limit, where queues have none of their own, is that of its group.
                let feeds = (0..PRIORITIES as u8).find(waits).map_or(0, |c| maps.classes.group_of(c));
                if let Some(g) = groups[feeds].as_ref().or(groups[0].as_ref()) {
                    let pool = pools.ingress_of(g.pool.as_deref());
                    (p.pool, p.limit) = (pool as u8, pools.limit(pool, g.threshold));
                }
            } else {
                let group = groups[n].as_ref().or_else(|| {
                    notes.unbound(n);
                    groups[0].as_ref()
                });
                match group {
                    Some(g) => self.ingress(g, p, n, pools, notes),
                    None => notes.assumed("no profile for priority group 0: alpha 1 is taken"),
                }
            }
            self.egress(port, n, (p, kept), pools, notes)?;
        }
        let shaper = qos::port_shaper(self.db, port, notes)?;
        let watchdog = self.watchdog(port, notes)?;
        let profile = PortProfile { priorities, shaper, watchdog };
        let Maps { dscp, unmapped, pcp, by, classes } = maps;
        Ok(Settings { profile, dscp, classes, unmapped, pcp, by })
    }

    fn ingress(&self, g: &Group, p: &mut PriorityConfig, number: usize, pools: &Pools, notes: &mut Notes) {
        let pool = pools.ingress_of(g.pool.as_deref());
        p.pool = pool as u8;
        p.limit = pools.limit(pool, g.threshold);
        p.reserved = Bytes(g.reserved);
        p.xon_offset = Bytes(g.xon_offset);
        if !p.lossless {
            return;
        }
        // On Spectrum `xon` is the size of what the group reserves, and no floor beside it.
        if asic::pool_size(self.cell) == asic::PoolSize::Whole {
            p.xon = Bytes(g.xon);
        }
        let most = pools.ingress.get(pool).and_then(|p| p.headroom);
        match g.xoff {
            Some(xoff) => p.headroom = Bytes(most.map_or(xoff, |m| xoff.min(m.0))),
            None => notes.can_drop(format!(
                "priority group {number}: PFC is on, but profile {} of its group has no headroom (xoff)",
                g.profile
            )),
        }
    }

    fn egress(
        &self,
        port: &str,
        queue: usize,
        (p, kept): (&mut PriorityConfig, bool),
        pools: &Pools,
        notes: &mut Notes,
    ) -> Result<(), SonicError> {
        let Some(g) = self.bindings.egress(port, queue)? else {
            p.egress_pool = pools.egress_of(None) as u8;
            return Ok(());
        };
        let pool = pools.egress_of(g.pool.as_deref());
        let limit = pools.egress_limit(pool, g.threshold);
        if kept && binds(limit) {
            notes.can_drop(format!(
                "profile {} limits lossless queues at egress, where they drop{}",
                g.profile,
                if pools.egress.is_empty() { "; not modelled, its pool has no size" } else { "" }
            ));
        }
        if pools.egress.is_empty() {
            if g.reserved > 0 {
                notes.not_modelled(format!(
                    "profile {}: {} B reserved at egress, in a pool that has no size",
                    g.profile, g.reserved
                ));
            }
            p.egress_limit = (!kept).then_some(limit);
            return Ok(());
        }
        p.egress_pool = pool as u8;
        p.egress_limit = Some(limit);
        p.egress_reserved = Bytes(g.reserved);
        Ok(())
    }

    /// Ports that are down do not carry the run on the switch.
    fn is_down(&self, port: &str) -> bool {
        self.db.get("PORT", port).is_some_and(|r| r.text("admin_status") == Some("down"))
    }

    /// What PORT says of the links of the run's ports; their `mtu`.
    fn links(&self, used: &[&str], notes: &mut Notes) -> Result<Vec<(String, u64)>, SonicError> {
        let rows = || used.iter().filter_map(|port| Some((*port, self.db.get("PORT", port)?)));
        let down: Vec<&str> = used.iter().copied().filter(|port| self.is_down(port)).collect();
        if !down.is_empty() {
            notes.differ(format!(
                "PORT admin_status = down on {}: nothing passes there on the switch, here they are up; start them or name \
                 others with dut_port",
                some(&down)
            ));
        }
        if let Some(ours) = self.wanted.fec {
            for (theirs, is_on) in [("none", false), ("rs", true), ("fc", true)] {
                let of: Vec<&str> =
                    rows().filter(|(_, r)| r.text("fec") == Some(theirs)).map(|r| r.0).collect();
                if !of.is_empty() && (is_on != ours || theirs == "fc") {
                    notes.differ(format!(
                        "PORT fec = {theirs} on {}, the run's links have {}; it acts on their delay, so set ports.fec",
                        some(&of),
                        if ours { "RS-FEC" } else { "none" }
                    ));
                }
            }
        }
        let mut mtus = Vec::new();
        for (_, row) in rows() {
            if let Some(mtu) = row.number("mtu", 65_535)? {
                mtus.push((row.at("mtu"), mtu));
            }
        }
        Ok(mtus)
    }

    /// The PFC watchdog of a port, in the milliseconds of PFC_WD.
    fn watchdog(&self, port: &str, notes: &mut Notes) -> Result<Option<Watchdog>, SonicError> {
        let Some(row) = watchdog_row(self.db, port) else { return Ok(None) };
        let span = |field: &str| -> Result<Option<Span>, SonicError> {
            match row.number(field, 60_000)? {
                Some(0) => refuse(row.at(field), "must be at least 1 ms"),
                ms => Ok(ms.map(|ms| Span::from_us(1_000 * ms))),
            }
        };
        let detect = span("detection_time")?;
        if detect.is_none() {
            notes.assumed(
                "PFC_WD rows without detection_time: 200 ms is taken; SONiC starts no watchdog without it",
            );
        }
        let action = match row.text("action").unwrap_or("drop") {
            "drop" => WatchdogAction::Drop,
            "forward" => WatchdogAction::Forward,
            "alert" => WatchdogAction::Alert,
            other => return refuse(row.at("action"), format!("{other:?} is none of drop, forward, alert")),
        };
        let restore = span("restoration_time")?;
        if restore.is_none() {
            notes.assumed(
                "PFC_WD rows without restoration_time: a stuck queue is never restored, as in SONiC's orchagent (its \
                 `pfcwd start` would have written twice the detection_time)",
            );
        }
        Ok(Some(Watchdog {
            detect: detect.unwrap_or(Span::from_us(200_000)),
            restore: restore.unwrap_or(NEVER_RESTORED),
            action,
        }))
    }

    /// What the run's ports may ask of a shared headroom pool.
    fn headroom_pool(&self, profiles: &[PortProfile], pools: &Pools, notes: &mut Notes) {
        for (i, pool) in pools.ingress.iter().enumerate() {
            let Some(headroom) = pool.headroom else { continue };
            let mine = profiles.iter().flat_map(|p| &p.priorities).filter(|p| usize::from(p.pool) == i);
            let all: u64 = mine.map(|p| p.headroom().0).sum();
            if all > headroom.0 {
                notes.can_drop(format!(
                    "shared headroom pool of {} B for {all} B that {} ports may need at once: lossless frames are lost \
                     when it is used up",
                    headroom.0,
                    profiles.len()
                ));
            }
        }
    }
}

/// Names of what two ports do not have in common.
fn difference(a: &Settings, b: &Settings) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut add = |name: &'static str, differs: bool| {
        if differs && !names.contains(&name) {
            names.push(name);
        }
    };
    for (x, y) in a.profile.priorities.iter().zip(&b.profile.priorities) {
        add("pfc_enable", x.lossless != y.lossless);
        add("threshold", x.limit != y.limit || x.egress_limit != y.egress_limit);
        add("pool", x.pool != y.pool || x.egress_pool != y.egress_pool);
        add("reserved size", x.reserved != y.reserved || x.egress_reserved != y.egress_reserved);
        add("headroom", x.headroom != y.headroom);
        add("xon_offset", x.xon_offset != y.xon_offset || x.xon != y.xon);
        add("WRED", x.wred != y.wred);
        add("scheduler", x.weight != y.weight || x.shaper != y.shaper);
    }
    add("shaper", a.profile.shaper != b.profile.shaper);
    add("watchdog", a.profile.watchdog != b.profile.watchdog);
    names.join(", ")
}
