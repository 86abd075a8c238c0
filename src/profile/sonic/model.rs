//! The database becomes what the model has: one set of limits per priority, for all ports of a run.

use super::asic::{self, PoolSize};
use super::database::{Database, Row, SonicError, refuse};
use super::groups::{Bindings, Group, Threshold};
use super::lookup::Lookup;
use super::notes::Notes;
use super::qos::{self, Maps};
use crate::limits::PRIORITIES;
use crate::profile::quantity::Alpha;
use crate::switch::config::PriorityConfig;
use crate::units::Bytes;

/// Alpha of a group that only the pool itself limits.
const UNLIMITED: (u32, u32) = (1 << 20, 1);
/// Alpha of a group that may hold nothing.
const NOTHING: (u32, u32) = (1, 1 << 31);

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
    /// Cell size of the profile or its preset.
    pub cell: Option<u16>,
    /// Buffer of the profile: the pool's size is not needed.
    pub buffer: Option<Bytes>,
    /// The profile gives the headroom: no lookup is needed.
    pub headroom: bool,
}

/// A switch of the database in the terms of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Cell size, bytes.
    pub cell: u16,
    /// Shared pool of the whole switch, in bytes; `None` when the profile gives the buffer.
    pub shared: Option<Bytes>,
    /// Limits, weights and marking.
    pub priorities: [PriorityConfig; PRIORITIES],
    /// DSCP to priority.
    pub dscp_map: [u8; 64],
    /// Names of the ports that stand for the run's ports, in order; `None` where the database has no more.
    pub ports: Vec<Option<String>>,
    /// (code, text): what differs, was assumed, or is not modelled.
    pub warnings: Vec<(String, String)>,
}

/// What one port gives each priority.
#[derive(Clone, Debug, PartialEq)]
struct Settings {
    priorities: [PriorityConfig; PRIORITIES],
    dscp: [u8; 64],
}

/// The pool that lossless groups share.
struct Pool<'d> {
    name: &'d str,
    row: &'d Row,
    size: Option<u64>,
    /// Shared headroom pool.
    xoff: Option<u64>,
}

/// Finds the ports of the run in the database and gathers what they give to each priority.
///
/// # Errors
/// Names file, table, key and field of what is missing or cannot be modelled.
pub fn resolve(db: &Database, lookup: Option<&Lookup>, wanted: &Wanted) -> Result<Imported, SonicError> {
    let mut notes = Notes::default();
    notes.of_tables(db);
    let cell = cell(db, wanted)?;
    let ports = db.ports();
    let mut bindings = Bindings::new(db, lookup, &ports)?;
    bindings.headroom_typed = wanted.headroom;
    let run = Run { db, bindings, wanted, cell };
    let mut guarded = Vec::with_capacity(ports.len());
    for port in &ports {
        guarded.push((port.as_str(), run.guarded(port, &mut notes)?));
    }
    let slots = run.choose(&guarded, &mut notes)?;
    let used: Vec<&str> = slots.iter().copied().flatten().collect();
    let pool = run.pool(&guarded, &used)?;
    let shared = run.shared(&guarded, &used, &pool, &mut notes)?;
    let (settings, own) = run.common(&guarded, &used, &pool, shared)?;
    notes.add(own);
    run.headroom_pool(&settings, &pool, &mut notes);
    Ok(Imported {
        cell,
        shared: wanted.buffer.is_none().then_some(Bytes(shared * u64::from(cell))),
        priorities: settings.priorities,
        dscp_map: settings.dscp,
        ports: slots.into_iter().map(|p| p.map(str::to_owned)).collect(),
        warnings: notes.warnings(),
    })
}

fn cell(db: &Database, wanted: &Wanted) -> Result<u16, SonicError> {
    let device = db.get("DEVICE_METADATA", "localhost");
    let text = |field: &str| device.and_then(|r| r.text(field)).unwrap_or_default();
    let known = asic::of_platform(text("hwsku"), text("platform")).map(|a| a.cell);
    match wanted.cell.or(known) {
        Some(cell) if (32..=8_192).contains(&cell) => Ok(cell),
        Some(cell) => refuse(db.name(), format!("cell = {cell} must be from 32 to 8192")),
        None => refuse(
            db.name(),
            "does not name a known chip; give its cell size (Trident 3: cell = 256, Tomahawk 1-2: 208, Tomahawk 3-5: \
             254, Spectrum 1, 2-3, 4: 96, 144, 192) or a preset",
        ),
    }
}

struct Run<'d> {
    db: &'d Database,
    bindings: Bindings<'d>,
    wanted: &'d Wanted,
    cell: u16,
}

type Guarded<'p> = [(&'p str, [bool; PRIORITIES])];

impl Run<'_> {
    /// Priorities of a port that PFC guards.
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
        for p in (0..PRIORITIES).filter(|p| asked[*p] && !on[*p]) {
            notes
                .can_drop(format!("priority {p} has headroom, but pfc_enable does not name it: it is lossy"));
        }
        Ok(on)
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
        let pool = if lossless.is_empty() { &all } else { &lossless };
        let (Some(first), Some(last)) = (all.first(), all.last()) else {
            return refuse(
                self.db.name(),
                "has no port: neither PORT, BUFFER_PG, PORT_QOS_MAP nor CABLE_LENGTH",
            );
        };
        let mut slots: Vec<Option<&str>> = Vec::with_capacity(self.wanted.ports.len());
        for port in &self.wanted.ports {
            let found = port.name.as_ref().map(|name| (name, all.iter().find(|p| *p == name)));
            if let Some((name, None)) = found {
                let text = format!("there is no port {name}; it has {first} to {last}");
                return refuse(self.db.name(), text);
            }
            slots.push(found.and_then(|(_, p)| p.copied()));
        }
        for i in 0..slots.len() {
            let port = &self.wanted.ports[i];
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
        for (name, port) in slots.iter().zip(&self.wanted.ports).filter_map(|(n, p)| n.map(|n| (n, p))) {
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

    fn groups(
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

    /// The pool of the first lossless group of the run, or else the first ingress pool.
    fn pool(&self, guarded: &Guarded<'_>, used: &[&str]) -> Result<Pool<'_>, SonicError> {
        let mut name = None;
        for (port, flags) in guarded.iter().filter(|(p, _)| used.contains(p)) {
            for (group, _) in self.groups(port, *flags)?.iter().zip(flags).filter(|(_, on)| **on) {
                name = name.or_else(|| group.as_ref().and_then(|g| g.pool.clone()));
            }
        }
        let ingress = |(_, row): &(&str, &Row)| row.text("type") == Some("ingress");
        let wanted = name.as_deref().unwrap_or("ingress_lossless_pool");
        let found = self.db.rows("BUFFER_POOL").find(|(key, _)| *key == wanted);
        match found.or_else(|| self.db.rows("BUFFER_POOL").find(ingress)) {
            Some((name, row)) => Ok(Pool {
                name,
                row,
                size: row.number("size", u64::from(u32::MAX))?,
                xoff: row.number("xoff", u64::from(u32::MAX))?.filter(|x| *x > 0),
            }),
            None => refuse(
                format!("{}: BUFFER_POOL", self.db.name()),
                "has no ingress pool; give the buffer rendering too: config = [\"buffers.json\", \"qos.json\"]",
            ),
        }
    }

    /// Cells of the shared pool when every port of the switch has what the database gives it.
    fn shared(
        &self,
        guarded: &Guarded<'_>,
        used: &[&str],
        pool: &Pool<'_>,
        notes: &mut Notes,
    ) -> Result<u64, SonicError> {
        let cell = u64::from(self.cell);
        if let Some(buffer) = self.wanted.buffer {
            return Ok(buffer.0 / cell);
        }
        let Some(size) = pool.size else {
            return refuse(
                pool.row.place(),
                "has no size (the dynamic buffer model computes it at run time); give [switch] buffer, or add the size \
                 that the running switch shows",
            );
        };
        let mut taken = 0u64;
        for (port, flags) in guarded {
            match self.groups(port, *flags) {
                Ok(groups) => {
                    for (group, lossless) in groups.iter().zip(flags) {
                        let Some(g) =
                            group.as_ref().filter(|g| g.pool.as_deref().is_none_or(|p| p == pool.name))
                        else {
                            continue;
                        };
                        let headroom = g.xoff.filter(|_| *lossless && pool.xoff.is_none()).unwrap_or(0);
                        taken += g.reserved.div_ceil(cell) + headroom.div_ceil(cell);
                    }
                }
                Err(e) if used.contains(port) => return Err(e),
                Err(e) => notes.assumed(format!("ports outside the run reserve nothing: {e}")),
            }
        }
        let total = size / cell;
        match asic::pool_size(self.cell) {
            PoolSize::SharedOnly => Ok(total),
            PoolSize::Whole if taken < total => Ok(total - taken),
            PoolSize::Whole => refuse(
                pool.row.at("size"),
                format!(
                    "{size} bytes are less than the {} that all ports reserve; give [switch] buffer",
                    taken * cell
                ),
            ),
        }
    }

    /// The settings most ports of the run have; the first of them where several are as common.
    fn common(
        &self,
        guarded: &Guarded<'_>,
        used: &[&str],
        pool: &Pool<'_>,
        shared: u64,
    ) -> Result<(Settings, Notes), SonicError> {
        let mut kinds: Vec<(Settings, Notes, Vec<&str>)> = Vec::new();
        for name in used {
            let flags = guarded.iter().find(|(p, _)| p == name).map_or([false; PRIORITIES], |(_, f)| *f);
            let mut notes = Notes::default();
            let settings = self.settings(name, flags, pool, shared, &mut notes)?;
            match kinds.iter_mut().find(|(s, _, _)| *s == settings) {
                Some((_, _, ports)) => ports.push(name),
                None => kinds.push((settings, notes, vec![name])),
            }
        }
        let Some(most) = kinds.iter().map(|(_, _, p)| p.len()).max() else {
            return refuse(self.db.name(), "the run has no ports");
        };
        let at = kinds.iter().position(|(_, _, p)| p.len() == most).unwrap_or(0);
        let (settings, mut notes, ports) = kinds.remove(at);
        for (other, _, others) in &kinds {
            notes.differ(format!(
                "{} ports, like {}, differ in {}; all ports of the run are modelled like {}",
                others.len(),
                others.first().unwrap_or(&""),
                difference(&settings, other),
                ports.first().unwrap_or(&"")
            ));
        }
        Ok((settings, notes))
    }

    fn settings(
        &self,
        port: &str,
        guarded: [bool; PRIORITIES],
        pool: &Pool<'_>,
        shared: u64,
        notes: &mut Notes,
    ) -> Result<Settings, SonicError> {
        let maps = Maps::of(self.db, port, guarded, notes)?;
        let groups = self.groups(port, guarded)?;
        let mut all = Vec::with_capacity(PRIORITIES);
        for (queue, lossless) in guarded.into_iter().enumerate() {
            let pg = maps.group_of[queue];
            let group = groups[pg].as_ref().or_else(|| {
                notes.assumed(format!("priority group {pg} has no profile: it has the limits of group 0"));
                groups[0].as_ref()
            });
            let (weight, wred) = qos::queue(self.db, queue, self.bindings.qos(port, queue), notes)?;
            let mut p = PriorityConfig {
                lossless,
                alpha: (1, 1),
                reserved: Bytes(0),
                headroom: Bytes(0),
                xon_offset: Bytes(0),
                egress_alpha: None,
                wred,
                weight,
            };
            match group {
                Some(g) => self.ingress(g, &mut p, queue, pool, shared, notes),
                None => notes.assumed("no profile for priority group 0: alpha 1 is taken"),
            }
            self.egress(port, queue, &mut p, shared, notes)?;
            all.push(p);
        }
        match <[PriorityConfig; PRIORITIES]>::try_from(all) {
            Ok(priorities) => Ok(Settings { priorities, dscp: maps.dscp }),
            Err(_) => refuse(port, "does not have eight priorities"),
        }
    }

    fn ingress(
        &self,
        g: &Group,
        p: &mut PriorityConfig,
        queue: usize,
        pool: &Pool<'_>,
        shared: u64,
        notes: &mut Notes,
    ) {
        p.alpha = self.alpha(&g.profile, g.threshold, pool.size, shared, notes);
        p.reserved = Bytes(g.reserved);
        p.xon_offset = Bytes(g.xon_offset);
        if let Some(other) = g.pool.as_deref().filter(|name| *name != pool.name) {
            notes.not_modelled(format!("BUFFER_POOL|{other}: one ingress pool is modelled, {}", pool.name));
        }
        if !p.lossless {
            return;
        }
        match g.xoff {
            Some(xoff) => p.headroom = Bytes(xoff.min(pool.xoff.unwrap_or(xoff))),
            None => notes.can_drop(format!(
                "priority {queue}: PFC is on, but profile {} of its group has no headroom (xoff)",
                g.profile
            )),
        }
        if g.xon > 0 && asic::pool_size(self.cell) == PoolSize::Whole {
            notes.not_modelled(format!(
                "profile {}: xon = {} B, below which the switch sends XON whatever the threshold",
                g.profile, g.xon
            ));
        }
    }

    fn egress(
        &self,
        port: &str,
        queue: usize,
        p: &mut PriorityConfig,
        shared: u64,
        notes: &mut Notes,
    ) -> Result<(), SonicError> {
        let Some(g) = self.bindings.egress(port, queue)? else { return Ok(()) };
        let pool = g.pool.as_deref().and_then(|name| self.db.get("BUFFER_POOL", name));
        let size = pool.map_or(Ok(None), |r| r.number("size", u64::from(u32::MAX)))?;
        if g.reserved > 0 {
            notes.not_modelled(format!("profile {}: {} B reserved at egress", g.profile, g.reserved));
        }
        if !p.lossless {
            notes.not_modelled(
                "sizes of egress pools: limits of lossy queues act on what the ingress pool has free",
            );
            p.egress_alpha = Some(self.alpha(&g.profile, g.threshold, size, shared, notes));
            return Ok(());
        }
        let binds = match g.threshold {
            Threshold::Static(b) => b / u64::from(self.cell) < shared,
            Threshold::Dynamic(x) => x < 7,
        };
        if binds {
            notes.can_drop(format!(
                "profile {} limits lossless queue {queue} at egress to {}, where a real switch drops; not modelled",
                g.profile,
                match g.threshold {
                    Threshold::Static(b) => format!("{b} B"),
                    Threshold::Dynamic(x) => format!("alpha 2^{x}"),
                }
            ));
        }
        Ok(())
    }

    /// A threshold as alpha. A static one becomes the alpha that lets a group that is alone hold just as much.
    fn alpha(
        &self,
        profile: &str,
        t: Threshold,
        pool: Option<u64>,
        shared: u64,
        notes: &mut Notes,
    ) -> (u32, u32) {
        let limit = match t {
            Threshold::Dynamic(x) => return Alpha::from_dynamic_th(x).map_or((1, 1), |a| (a.num, a.den)),
            Threshold::Static(b) => b,
        };
        let cells = limit / u64::from(self.cell);
        match (u32::try_from(cells), u32::try_from(shared.saturating_sub(cells))) {
            _ if pool.is_some_and(|p| limit >= p && p > 0) => UNLIMITED,
            (Ok(0), _) => NOTHING,
            (_, Ok(0)) | (Err(_), _) | (_, Err(_)) => UNLIMITED,
            (Ok(cells), Ok(rest)) => {
                notes.not_modelled(format!(
                    "profile {profile}: static limit of {limit} B; modelled as alpha = limit / (shared pool - limit), the \
                     same for a group that is alone"
                ));
                (cells, rest)
            }
        }
    }

    /// What the run's ports may ask of a shared headroom pool.
    fn headroom_pool(&self, s: &Settings, pool: &Pool<'_>, notes: &mut Notes) {
        let Some(xoff) = pool.xoff else { return };
        let each: u64 = s.priorities.iter().map(|p| p.headroom().0).sum();
        let ports = self.wanted.ports.len() as u64;
        if each * ports > xoff {
            notes.can_drop(format!(
                "shared headroom pool of {xoff} B for {} B that {ports} ports may need at once: modelled as headroom of \
                 each group, the real switch drops when the pool is used up",
                each * ports
            ));
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
    add("DSCP map", a.dscp != b.dscp);
    for (x, y) in a.priorities.iter().zip(&b.priorities) {
        add("pfc_enable", x.lossless != y.lossless);
        add("threshold", x.alpha != y.alpha || x.egress_alpha != y.egress_alpha);
        add("reserved size", x.reserved != y.reserved);
        add("headroom", x.headroom != y.headroom);
        add("xon_offset", x.xon_offset != y.xon_offset);
        add("WRED", x.wred != y.wred);
        add("scheduler", x.weight != y.weight);
    }
    names.join(", ")
}
