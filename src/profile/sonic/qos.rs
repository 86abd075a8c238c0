//! Maps and schedulers of one port: which priority a DSCP gets, which priorities PFC guards, weights, WRED.

use super::database::{Database, Row, SonicError, refuse};
use super::notes::Notes;
use crate::limits::PRIORITIES;
use crate::profile::preset::AZURE_DSCP_MAP;
use crate::switch::config::{Shaper, Wred};
use crate::units::{Bytes, Rate};

/// Maps of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Maps {
    /// DSCP to queue; where frames go by PCP, the queue of untagged ones for every DSCP.
    pub dscp: [u8; 64],
    /// DSCPs that the map does not have, a bit each.
    pub unmapped: u64,
    /// PCP of a VLAN tag to queue, where frames go by it.
    pub pcp: Option<[u8; PRIORITIES]>,
    /// The map that classifies frames: table and name.
    pub by: String,
    /// Priority group that feeds each queue.
    pub group_of: [usize; PRIORITIES],
    /// PFC is on.
    pub pfc: [bool; PRIORITIES],
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

impl Maps {
    /// The maps of `port` with PFC on for `pfc`.
    pub fn of(
        db: &Database,
        port: &str,
        pfc: [bool; PRIORITIES],
        notes: &mut Notes,
    ) -> Result<Maps, SonicError> {
        let own = qos_row(db, port);
        let global = db.get("PORT_QOS_MAP", "global");
        let find = |field: &str, table: &str| match own.filter(|r| r.text(field).is_some()).or(global) {
            Some(row) => db.referred(table, row, field),
            None => Ok(None),
        };
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
        let identity = std::array::from_fn(|i| i as u8);
        let map = |field: &str, table: &str| match find(field, table)? {
            Some(row) => numbers::<PRIORITIES>(row, [0; PRIORITIES]),
            None => Ok(identity),
        };
        let queues = map("tc_to_queue_map", "TC_TO_QUEUE_MAP")?;
        let groups = map("tc_to_pg_map", "TC_TO_PRIORITY_GROUP_MAP")?;
        let pfc_group = map("pfc_to_pg_map", "PFC_PRIORITY_TO_PRIORITY_GROUP_MAP")?;
        let queue_table = match db.has("MAP_PFC_PRIORITY_TO_QUEUE") {
            true => "MAP_PFC_PRIORITY_TO_QUEUE",
            false => "PFC_PRIORITY_TO_QUEUE_MAP",
        };
        let pfc_queue = map("pfc_to_queue_map", queue_table)?;
        let place = || own.or(global).map_or_else(|| db.name(), |r| r.place().to_owned());
        for p in (0..PRIORITIES).filter(|p| pfc[*p]) {
            if (usize::from(pfc_group[p]), usize::from(pfc_queue[p])) != (p, p) {
                let text = format!(
                    "PFC priority {p} guards priority group {} and queue {}; only maps where all three have one \
                     number are modelled",
                    pfc_group[p], pfc_queue[p]
                );
                return refuse(place(), text);
            }
        }
        for t in 0..PRIORITIES {
            let (queue, group) = (usize::from(queues[t]), usize::from(groups[t]));
            if queue != group && (pfc[queue] || pfc[group]) {
                let text = format!(
                    "traffic class {t} goes to priority group {group} and queue {queue}, and one of them is \
                     lossless; only lossless classes whose group and queue have one number are modelled"
                );
                return refuse(place(), text);
            }
        }
        let group_of = std::array::from_fn(|q| {
            let first = (0..PRIORITIES).find(|t| usize::from(queues[*t]) == q);
            first.map_or(q, |t| usize::from(groups[t]))
        });
        for g in 0..PRIORITIES {
            let shared: Vec<String> = (0..PRIORITIES)
                .filter(|t| usize::from(groups[*t]) == g && usize::from(queues[*t]) != g)
                .map(|t| t.to_string())
                .collect();
            if !shared.is_empty() {
                notes.not_modelled(format!(
                    "traffic classes {} share priority group {g}: each has a group of its own in the model, with the \
                     limits of group {g}",
                    shared.join(",")
                ));
            }
        }
        let queue = |t: u8| queues[usize::from(t) % PRIORITIES];
        Ok(Maps { dscp: tc.map(queue), unmapped, pcp: tag.map(|map| map.map(queue)), by, group_of, pfc })
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
    /// WRED curve.
    pub wred: Option<Wred>,
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
    Ok(Service { weight, wred: profile.map_or(Ok(None), |p| wred(p, notes))?, shaper })
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

/// RoCE frames are green: the green curve is the one that acts.
fn wred(row: &Row, notes: &mut Notes) -> Result<Option<Wred>, SonicError> {
    let on = |colour: &str| {
        row.text(&format!("wred_{colour}_enable")).is_some_and(|v| v.eq_ignore_ascii_case("true"))
    };
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
    let bytes = |field: &str| row.number(field, u64::from(u32::MAX));
    let curve = |colour: &str| -> Result<_, SonicError> {
        Ok((
            bytes(&format!("{colour}_min_threshold"))?,
            bytes(&format!("{colour}_max_threshold"))?,
            row.number(&format!("{colour}_drop_probability"), 100)?,
        ))
    };
    let green = curve("green")?;
    let mut others = Vec::new();
    for colour in ["yellow", "red"] {
        if on(colour) && curve(colour)? != green {
            others.push(colour);
        }
    }
    if !others.is_empty() {
        let text = format!(
            "{}: the curves of other colours ({}); nothing here colours frames, all are green",
            row.place(),
            others.join(", ")
        );
        notes.not_modelled(text);
    }
    if !on("green") {
        notes.not_modelled(format!(
            "{}: green frames have no WRED, so queues of this profile mark nothing",
            row.place()
        ));
        return Ok(None);
    }
    let marks = matches!(ecn, "ecn_green" | "ecn_green_yellow" | "ecn_green_red" | "ecn_all");
    let (Some(kmin), Some(kmax)) = (green.0, green.1) else {
        return refuse(
            row.place(),
            "green_min_threshold or green_max_threshold is missing; give both in bytes",
        );
    };
    if kmin > kmax {
        return refuse(row.at("green_min_threshold"), format!("{kmin} is above green_max_threshold {kmax}"));
    }
    // SAI's default probability is 100 %.
    let pmax = green.2.unwrap_or(100) as f64 / 100.0;
    Ok(Some(Wred { kmin: Bytes(kmin), kmax: Bytes(kmax), pmax, ecn: marks }))
}
