//! A SONiC switch's own configuration as the embedded switch: `config_db.json` (or the buffer and QoS renderings) and
//! `pg_profile_lookup.ini` become limits, maps, weights and marking per priority. What the model lacks is listed as
//! warnings, never left out silently. See `docs/SONIC.md`.

mod against;
pub mod asic;
mod database;
mod groups;
mod lookup;
mod model;
mod notes;
mod pools;
mod qos;

use std::fmt::Write as _;
use std::path::Path;

pub(super) use against::remarks;
pub use database::{Database, SonicError};
pub use lookup::{Lookup, LookupLine};
pub use model::{Imported, Wanted, WantedPort, resolve};
pub use pools::SharedEgress;

use super::doc::{Fec, ProfileDoc};
use super::preset::Preset;
use super::quantity::Cable;
use super::shape;
use super::source::{Fault, fault};
use super::values::Files;
use crate::plan::Plan;
use crate::switch::config::{ClassMaps, Limit, PortProfile, Shaper, Slices, Wred};
use crate::units::Rate;

/// The configuration that a profile names, read.
#[derive(Debug)]
pub(super) struct Configuration {
    db: Database,
    lookup: Option<Lookup>,
}

/// Reads the files of `[switch] config` and `pg_profile_lookup`, which are looked for beside the profile. The document
/// then holds their full paths, so that the effective profile finds them from any folder.
pub(super) fn read(doc: &mut ProfileDoc, profile: Option<&Path>) -> Result<Option<Configuration>, Fault> {
    let folder = profile.and_then(Path::parent).unwrap_or(Path::new("."));
    let Some(switch) = &mut doc.switch else { return Ok(None) };
    let Some(Files(files)) = &mut switch.config else {
        return match switch.pg_profile_lookup {
            Some(_) => {
                fault("switch.pg_profile_lookup", "acts on a SONiC configuration only; give config too")
            }
            None => Ok(None),
        };
    };
    if files.is_empty() {
        return fault("switch.config", "names no file; give config = \"config_db.json\"");
    }
    let mut texts = Vec::with_capacity(files.len());
    for file in files {
        texts.push(open(folder, file, "switch.config")?);
    }
    let texts: Vec<(&str, &str)> = texts.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let place = |path: &str, e: SonicError| Fault { path: path.into(), text: e.to_string() };
    let db = Database::parse(&texts).map_err(|e| place("switch.config", e))?;
    let lookup = match &mut switch.pg_profile_lookup {
        Some(file) => {
            let path = "switch.pg_profile_lookup";
            let (name, text) = open(folder, file, path)?;
            Some(Lookup::parse(&name, &text).map_err(|e| place(path, e))?)
        }
        None => None,
    };
    Ok(Some(Configuration { db, lookup }))
}

/// Name and text of a file; `file` becomes its full path.
fn open(folder: &Path, file: &mut String, key: &str) -> Result<(String, String), Fault> {
    let read = |path: &Path| -> std::io::Result<_> {
        let full = std::fs::canonicalize(path)?;
        let text = std::fs::read_to_string(&full)?;
        Ok((full, text))
    };
    let (full, text) = read(&folder.join(&*file)).map_err(|e| Fault {
        path: key.into(),
        text: format!("{file} cannot be read: {e}; give a path beside the profile"),
    })?;
    let name = full.file_name().map_or_else(|| file.clone(), |n| n.to_string_lossy().into_owned());
    *file = full.display().to_string();
    Ok((name, text))
}

impl Configuration {
    /// The switch for the ports of a filled document (its classes need not be).
    pub(super) fn resolve(&self, doc: &ProfileDoc) -> Result<Imported, Fault> {
        let (Some(switch), Some(fabric)) = (&doc.switch, &doc.fabric) else {
            return fault("switch", "is missing");
        };
        let shared = switch.ports.clone().unwrap_or_default();
        let mbps =
            |r: Option<super::quantity::BitRate>| r.map_or(Rate::gbps(100), |r| r.0).bits_per_s / 1_000_000;
        let metres = |c: Option<Cable>| match c {
            Some(Cable::Length(mm)) if mm % 1_000 == 0 => Some(mm / 1_000),
            _ => None,
        };
        // Of a fabric, the ports of its first leaf; where others have more, theirs.
        let places = shape::places(doc)?;
        let most = places.as_ref().map(|p| p.iter().max().map_or(0, |p| p + 1)).or(shared.count);
        let count = most.unwrap_or(1).min(crate::limits::SWITCH_PORTS_MAX as u32);
        let any = || WantedPort { name: None, speed: mbps(shared.rate), cable: metres(shared.cable) };
        let mut at: Vec<Option<(usize, WantedPort)>> = vec![None; count as usize];
        for (i, p) in doc.port.iter().enumerate() {
            let place = places.as_ref().map_or(Some(i), |all| all.get(i).map(|p| *p as usize));
            let Some(slot) = place.and_then(|p| at.get_mut(p)) else { continue };
            let (speed, cable) = (mbps(p.rate.or(shared.rate)), metres(p.cable.or(shared.cable)));
            let (first, port) =
                slot.get_or_insert_with(|| (i, WantedPort { name: p.dut_port.clone(), speed, cable }));
            if (port.speed, port.cable) != (speed, cable) {
                let text = format!(
                    "has another rate or cable than port {first}, which has the same place on its switch; config is that \
                     of one switch, so make them equal"
                );
                return fault(format!("port[{i}]"), text);
            }
        }
        let ports = at.into_iter().map(|p| p.map_or_else(any, |p| p.1)).collect();
        let preset = switch.preset.as_deref().and_then(Preset::named);
        let trunk = |t: &shape::Trunk| WantedPort { name: None, speed: mbps(t.rate), cable: metres(t.cable) };
        let trunks = shape::trunks(fabric).kinds.iter().map(trunk).collect();
        let wanted = Wanted {
            ports,
            trunks,
            slices: switch.slices.or(preset.map(|p| p.slices)).map(Slices::from),
            cell: switch.cell.or(preset.map(|p| p.cell)),
            buffer: switch.buffer.map(|b| b.0),
            headroom: switch.xoff_headroom.is_some(),
            fec: shared.fec.map(|f| f != Fec::None),
        };
        let fault = |e: SonicError| Fault { path: "switch.config".into(), text: e.to_string() };
        resolve(&self.db, self.lookup.as_ref(), &wanted).map_err(fault)
    }
}

/// What a plan's first switch has from its configuration, as comments of a profile: pools, then each kind of port.
pub(super) fn summary(plan: &Plan) -> String {
    let Some(switch) = plan.fabric.switches.first() else { return String::new() };
    let mut text = String::from(
        "\n# Read from `config` (sizes in bytes; the shared pools are the same for any number of ports), cell ",
    );
    let _ = writeln!(text, "{}", switch.cell);
    let (cells, slices) = (switch.divide().map(|d| d.1).unwrap_or_default(), switch.slices.count());
    let each = if slices == 1 { String::new() } else { format!(", in {slices} slices of equal size") };
    for (i, (pool, cells)) in switch.ingress_pools.iter().zip(cells.chunks(slices)).enumerate() {
        let cell = u64::from(switch.cell);
        let shared: u64 = cells.iter().map(|c| c.shared * cell).sum();
        let headroom: Option<u64> = cells.iter().map(|c| c.headroom.map(|h| h * cell)).sum();
        let headroom = headroom
            .map_or_else(|| "headroom of each group its own".into(), |h| format!("shared headroom {h}"));
        let _ = writeln!(text, "# ingress pool {i} {}: shared {shared}, {headroom}{each}", pool.name);
    }
    if switch.maps != ClassMaps::default() {
        let ClassMaps { group, queue } = switch.maps;
        let _ =
            writeln!(text, "# priority (traffic class) 0 to 7 -> priority group {group:?}, queue {queue:?}");
    }
    if let Some(map) = switch.pcp_map {
        let _ = writeln!(
            text,
            "# frames go by the PCP of their VLAN tag: PCP 0 to 7 -> priority {map:?}; untagged -> {}",
            switch.dscp_map[0]
        );
    }
    for (i, pool) in switch.egress_pools.iter().enumerate() {
        let _ = writeln!(text, "# egress pool {i} {}: {}", pool.name, pool.size.0);
    }
    for (at, profile) in switch.profiles.iter().enumerate() {
        let mine = switch.ports.iter().filter(|p| usize::from(p.profile) == at);
        let names: Vec<&str> = mine.map(|p| p.name.as_str()).collect();
        if !names.is_empty() {
            let _ = writeln!(text, "# ports {}", names.join(" "));
            profile_text(&mut text, profile);
        }
    }
    text
}

fn profile_text(text: &mut String, profile: &PortProfile) {
    let limit = |limit: Limit| match limit {
        Limit::Pool => "pool".to_owned(),
        Limit::Dynamic(num, 1) => num.to_string(),
        Limit::Dynamic(num, den) => format!("{num}/{den}"),
        Limit::Static(bytes) => format!("{} B", bytes.0),
    };
    let shaper = |s: Option<Shaper>| s.map_or_else(|| "-".into(), |s| s.rate.to_string());
    if let Some(s) = profile.shaper {
        let _ = writeln!(text, "# the whole port at most {}", s.rate);
    }
    if let Some(w) = profile.watchdog {
        let _ = writeln!(text, "# watchdog: {:?} after {}, back after {}", w.action, w.detect, w.restore);
    }
    let _ = writeln!(
        text,
        "# prio  kind      pool  limit      reserved  headroom  xon_offset  xon     egress     reserved  weight  pir   wred"
    );
    for (i, p) in profile.priorities.iter().enumerate() {
        let curve = |w: Option<Wred>| {
            w.map_or_else(
                || "off".to_owned(),
                |w| {
                    let drops = if w.ecn { "" } else { ", drops" };
                    format!("{} to {}, {} %{drops}", w.kmin.0, w.kmax.0, w.pmax * 100.0)
                },
            )
        };
        let [green, yellow, red] = p.wred;
        let mut wred = curve(green);
        for (name, other) in [("yellow", yellow), ("red", red)] {
            if other != green {
                let _ = write!(wred, "; {name} {}", curve(other));
            }
        }
        let _ = writeln!(
            text,
            "# {i:<5} {:<9} {:<5} {:<10} {:<9} {:<9} {:<11} {:<7} {:<10} {:<9} {:<7} {:<5} {wred}",
            if p.lossless { "lossless" } else { "lossy" },
            p.pool,
            limit(p.limit),
            p.reserved.0,
            p.headroom().0,
            p.xon_offset.0,
            p.xon.0,
            p.egress_limit.map_or_else(|| "-".into(), |l| format!("{}:{}", p.egress_pool, limit(l))),
            p.egress_reserved.0,
            if p.weight == 0 { "strict".into() } else { p.weight.to_string() },
            shaper(p.shaper),
        );
    }
}
