//! Maps and schedulers of one port: which priority a DSCP gets, which priorities PFC guards, weights, WRED.

use super::database::{Database, Row, SonicError, refuse};
use super::notes::Notes;
use crate::limits::PRIORITIES;
use crate::profile::preset::AZURE_DSCP_MAP;
use crate::switch::config::{COLORS, ClassMaps, Shaper, Wred};
use crate::units::{Bytes, Rate};

/// Maps of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Maps {
    /// DSCP to traffic class; where frames go by PCP, the class of untagged ones for every DSCP.
    pub dscp: [u8; 64],
    /// DSCPs that the map does not have, a bit each.
    pub unmapped: u64,
    /// PCP of a VLAN tag to traffic class, where frames go by it.
    pub pcp: Option<[u8; PRIORITIES]>,
    /// The map that classifies frames: table and name.
    pub by: String,
    /// Group and queue of each traffic class.
    pub classes: ClassMaps,
}

/// PFC priorities in `pfc_enable`; `None` when the database has no PORT_QOS_MAP row for the port.
pub(super) fn pfc_enabled(db: &Database, port: &str) -> Result<Option<[bool; PRIORITIES]>, SonicError> {
    let Some(row) = qos_row(db, port) else { return Ok(None) };
    let mut on = [false; PRIORITIES];
    for word in row.text("pfc_enable").unwrap_or_default().split(',').map(str::trim).filter(|w| !w.is_empty())
    {
        match word.parse::<usize>().ok().and_then(|p| on.get_mut(p)) {
            Some(slot) => *slot = true,
            None => return refuse(row.at("pfc_enable"), format!("{word:?} is no priority from 0 to 7")),
        }
    }
    Ok(Some(on))
}

/// The row of a port, alone or in a list of ports.
fn qos_row<'d>(db: &'d Database, port: &str) -> Option<&'d Row> {
    let listed = |key: &str| key.split(',').any(|name| name.trim() == port);
    db.get("PORT_QOS_MAP", port).or_else(|| db.rows("PORT_QOS_MAP").find(|(k, _)| listed(k)).map(|(_, r)| r))
}

/// The row of a map that a port, or else the whole switch, refers to.
fn map_row<'d>(
    db: &'d Database,
    port: &str,
    field: &str,
    table: &str,
) -> Result<Option<&'d Row>, SonicError> {
    let global = db.get("PORT_QOS_MAP", "global");
    match qos_row(db, port).filter(|r| r.text(field).is_some()).or(global) {
        Some(row) => db.referred(table, row, field),
        None => Ok(None),
    }
}

/// A map from numbers 0 to 7 to such numbers; every number to itself where there is none.
fn small_map(db: &Database, port: &str, field: &str, table: &str) -> Result<[u8; PRIORITIES], SonicError> {
    match map_row(db, port, field, table)? {
        Some(row) => numbers::<PRIORITIES>(row, [0; PRIORITIES]),
        None => Ok(std::array::from_fn(|i| i as u8)),
    }
}

/// Group and queue of every traffic class at a port.
pub(super) fn class_maps(db: &Database, port: &str) -> Result<ClassMaps, SonicError> {
    Ok(ClassMaps {
        group: small_map(db, port, "tc_to_pg_map", "TC_TO_PRIORITY_GROUP_MAP")?,
        queue: small_map(db, port, "tc_to_queue_map", "TC_TO_QUEUE_MAP")?,
    })
}

impl Maps {
    /// The maps of `port`; `guarded`: its lossless groups.
    pub fn of(
        db: &Database,
        port: &str,
        guarded: [bool; PRIORITIES],
        notes: &mut Notes,
    ) -> Result<Maps, SonicError> {
        let find = |field: &str, table: &str| map_row(db, port, field, table);
        let by_dscp = find("dscp_to_tc_map", "DSCP_TO_TC_MAP")?;
        let by_pcp = find("dot1p_to_tc_map", "DOT1P_TO_TC_MAP")?;
        // A frame that SAI has no map for is in traffic class 0, and so is one without a tag where the tag decides.
        let (tc, unmapped, tag) = match (by_dscp, by_pcp) {
            (Some(row), beside) => {
                if let Some(beside) = beside {
                    notes.not_modelled(format!(
                        "{} beside a dscp_to_tc_map: IP frames go by DSCP, so it classifies nothing here",
                        beside.place()
                    ));
                }
                (numbers::<64>(row, [0; 64])?, !keys(row), None)
            }
            (None, Some(row)) => ([0; 64], 0, Some(numbers::<PRIORITIES>(row, [0; PRIORITIES])?)),
            (None, None) => {
                notes.assumed("no dscp_to_tc_map: SONiC's default AZURE map is taken");
                (AZURE_DSCP_MAP, 0, None)
            }
        };
        let named = by_dscp.or(by_pcp).map(|row| row.place().to_owned());
        let by = named.unwrap_or_else(|| "SONiC's default DSCP_TO_TC_MAP|AZURE".into());
        let classes = class_maps(db, port)?;
        let pfc_group = small_map(db, port, "pfc_to_pg_map", "PFC_PRIORITY_TO_PRIORITY_GROUP_MAP")?;
        let queue_table = match db.has("MAP_PFC_PRIORITY_TO_QUEUE") {
            true => "MAP_PFC_PRIORITY_TO_QUEUE",
            false => "PFC_PRIORITY_TO_QUEUE_MAP",
        };
        let pfc_queue = small_map(db, port, "pfc_to_queue_map", queue_table)?;
        let row = qos_row(db, port).or(db.get("PORT_QOS_MAP", "global"));
        let place = || row.map_or_else(|| db.name(), |r| r.place().to_owned());
        let pfc = pfc_enabled(db, port)?.unwrap_or(guarded);
        for class in 0..PRIORITIES {
            let (group, queue) = (classes.group_of(class as u8), classes.queue_of(class as u8));
            let theirs = (usize::from(pfc_group[class]), usize::from(pfc_queue[class]));
            if pfc[class] && theirs != (group, queue) {
                let text = format!(
                    "PFC priority {class} guards priority group {} and queue {}, traffic class {class} goes to group \
                     {group} and queue {queue}; only maps where PFC knows a class by its own number are modelled",
                    theirs.0, theirs.1
                );
                return refuse(place(), text);
            }
            if guarded[group] && !pfc[class] {
                let text = format!(
                    "traffic class {class} goes to priority group {group}, which is lossless, but pfc_enable does not name \
                     {class}: nobody could tell its senders to stop, which is not modelled; give it a lossy group"
                );
                return refuse(place(), text);
            }
        }
        Ok(Maps { dscp: tc, unmapped, pcp: tag, by, classes })
    }
}

/// A map's row: keys 0 to N - 1, values 0 to 7; a key may be a list or range.
fn numbers<const N: usize>(row: &Row, mut map: [u8; N]) -> Result<[u8; N], SonicError> {
    for (key, value) in row.fields() {
        let Some(to) = value.trim().parse::<u8>().ok().filter(|v| usize::from(*v) < PRIORITIES) else {
            return refuse(row.at(key), format!("{value:?} must be from 0 to 7"));
        };
        let (low, high) = key.split_once('-').unwrap_or((key, key));
        match (low.trim().parse::<usize>(), high.trim().parse::<usize>()) {
            (Ok(low), Ok(high)) if low <= high && high < N => map[low..=high].fill(to),
            _ => return refuse(row.at(key), format!("the key must be from 0 to {}", N - 1)),
        }
    }
    Ok(map)
}

/// Keys of a map's row that [`numbers`] has accepted, a bit each.
fn keys(row: &Row) -> u64 {
    let bound = |text: &str| text.trim().parse::<u32>().unwrap_or(0).min(63);
    let each = row.fields().flat_map(|(key, _)| {
        let (low, high) = key.split_once('-').unwrap_or((key, key));
        bound(low)..=bound(high)
    });
    each.fold(0, |all, key| all | 1 << key)
}

/// What a row of `QUEUE` gives.
pub(super) struct Service {
    /// Scheduling weight, 0 = strict.
    pub weight: u16,
    /// WRED curves, by colour.
    pub wred: [Option<Wred>; COLORS],
    /// Largest rate.
    pub shaper: Option<Shaper>,
}

/// Scheduler and WRED curve of a queue.
pub(super) fn queue(
    db: &Database,
    queue: usize,
    row: Option<&Row>,
    notes: &mut Notes,
) -> Result<Service, SonicError> {
    let scheduler = row.map_or(Ok(None), |r| db.referred("SCHEDULER", r, "scheduler"))?;
    let (weight, shaper) = match scheduler {
        None => {
            notes.unscheduled(queue);
            (1, None)
        }
        Some(s) => (weight(s, notes)?, shaper(s, notes)?),
    };
    let profile = row.map_or(Ok(None), |r| db.referred("WRED_PROFILE", r, "wred_profile"))?;
    Ok(Service { weight, wred: profile.map_or(Ok([None; COLORS]), wred)?, shaper })
}

/// The shaper of a whole port.
pub(super) fn port_shaper(
    db: &Database,
    port: &str,
    notes: &mut Notes,
) -> Result<Option<Shaper>, SonicError> {
    let Some(row) = qos_row(db, port) else { return Ok(None) };
    match db.referred("SCHEDULER", row, "scheduler")? {
        Some(s) => shaper(s, notes),
        None => Ok(None),
    }
}

/// `pir` in bytes per second and `pbs` in bytes.
fn shaper(row: &Row, notes: &mut Notes) -> Result<Option<Shaper>, SonicError> {
    let set = |f: &&str| row.text(f).is_some_and(|v| v != "0" && !v.is_empty());
    let guaranteed: Vec<&str> = ["cir", "cbs"].into_iter().filter(|f| set(f)).collect();
    if !guaranteed.is_empty() {
        notes.not_modelled(format!("{}: guaranteed rate ({})", row.place(), guaranteed.join(", ")));
    }
    let Some(rate) = row.number("pir", 200_000_000_000)?.filter(|r| *r > 0) else { return Ok(None) };
    if row.text("meter_type") == Some("packets") {
        notes.not_modelled(format!("{}: shaper (pir) that counts packets", row.place()));
        return Ok(None);
    }
    let burst = row.number("pbs", u64::from(u32::MAX))?.unwrap_or(0);
    Ok(Some(Shaper { rate: Rate { bits_per_s: rate * 8 }, burst: Bytes(burst) }))
}

fn weight(row: &Row, notes: &mut Notes) -> Result<u16, SonicError> {
    if row.text("type").is_none() {
        notes.assumed(format!("{}: no type: DWRR is taken; give DWRR, WRR or STRICT", row.place()));
    }
    let kind = row.text("type").unwrap_or("DWRR").to_ascii_uppercase();
    match kind.as_str() {
        "STRICT" => Ok(0),
        "DWRR" | "WRR" => {
            if kind == "WRR" {
                notes.not_modelled(format!("{}: WRR counts frames; modelled as DWRR, by bytes", row.place()));
            }
            match row.number("weight", 1_000)? {
                Some(0) => {
                    refuse(row.at("weight"), "must be at least 1; type STRICT comes before all weights")
                }
                Some(w) => Ok(w as u16),
                None => Ok(1),
            }
        }
        _ => refuse(row.at("type"), format!("{kind:?} is none of DWRR, WRR, STRICT")),
    }
}

/// The curves of a profile, by colour.
fn wred(row: &Row) -> Result<[Option<Wred>; COLORS], SonicError> {
    let ecn = row.text("ecn").unwrap_or("ecn_none");
    let known = [
        "ecn_none",
        "ecn_green",
        "ecn_yellow",
        "ecn_red",
        "ecn_green_yellow",
        "ecn_green_red",
        "ecn_yellow_red",
        "ecn_all",
    ];
    if !known.contains(&ecn) {
        return refuse(row.at("ecn"), format!("{ecn:?} is none of {}", known.join(", ")));
    }
    let mut all = [None; COLORS];
    for (curve, color) in all.iter_mut().zip(["green", "yellow", "red"]) {
        let on = row.text(&format!("wred_{color}_enable")).is_some_and(|v| v.eq_ignore_ascii_case("true"));
        if on {
            *curve = Some(wred_curve(row, color, ecn == "ecn_all" || ecn.split('_').any(|c| c == color))?);
        }
    }
    Ok(all)
}

/// The curve of one colour, which is enabled; `ecn`: it marks what can be marked.
fn wred_curve(row: &Row, color: &str, ecn: bool) -> Result<Wred, SonicError> {
    let field = |name: &str| format!("{color}_{name}");
    let (low, high) = (field("min_threshold"), field("max_threshold"));
    let bytes = |field: &str| row.number(field, u64::from(u32::MAX));
    let (Some(kmin), Some(kmax)) = (bytes(&low)?, bytes(&high)?) else {
        return refuse(row.place(), format!("{low} or {high} is missing; give both in bytes"));
    };
    if kmin > kmax {
        return refuse(row.at(&low), format!("{kmin} is above {high} {kmax}"));
    }
    // SAI's default probability is 100 %.
    let pmax = row.number(&field("drop_probability"), 100)?.unwrap_or(100) as f64 / 100.0;
    Ok(Wred { kmin: Bytes(kmin), kmax: Bytes(kmax), pmax, ecn })
}
