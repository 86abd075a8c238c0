//! What one priority group or queue of one port may use, from the database or from the lookup table.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::database::{Database, Row, SonicError, expand, reference, refuse};
use super::lookup::{Lookup, LookupLine, in_name, metres};

/// Largest size of a pool or profile: what the model counts in.
const BYTES_MOST: u64 = u32::MAX as u64;

/// Dynamic or static limit of shared cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Threshold {
    /// alpha = 2^x.
    Dynamic(i32),
    /// Bytes.
    Static(u64),
}

/// A buffer profile, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Profile's name.
    pub profile: String,
    /// Pool's name, when the database names one.
    pub pool: Option<String>,
    /// Reserved bytes, headroom not counted.
    pub reserved: u64,
    /// Headroom; `None` for lossy.
    pub xoff: Option<u64>,
    /// Floor of XON.
    pub xon: u64,
    /// XON this far below the threshold.
    pub xon_offset: u64,
    /// Limit of shared cells.
    pub threshold: Threshold,
}

/// Profiles bound to ports, expanded.
#[derive(Debug)]
pub(super) struct Bindings<'d> {
    db: &'d Database,
    lookup: Option<&'d Lookup>,
    /// What the database must not say because the profile says it: no lookup is needed.
    pub headroom_typed: bool,
    /// Cables of the run in metres, for its ports that CABLE_LENGTH does not have.
    pub run_cables: BTreeMap<String, u64>,
    /// Headroom was looked up by one of them.
    pub took_run_cable: Cell<bool>,
    pg: BTreeMap<(String, usize), &'d Row>,
    queue: BTreeMap<(String, usize), &'d Row>,
    qos_queue: BTreeMap<(String, usize), &'d Row>,
}

impl<'d> Bindings<'d> {
    pub fn new(
        db: &'d Database,
        lookup: Option<&'d Lookup>,
        ports: &[String],
    ) -> Result<Bindings<'d>, SonicError> {
        Ok(Bindings {
            db,
            lookup,
            headroom_typed: false,
            run_cables: BTreeMap::new(),
            took_run_cable: Cell::new(false),
            pg: bound(db, "BUFFER_PG", ports)?,
            queue: bound(db, "BUFFER_QUEUE", ports)?,
            qos_queue: bound(db, "QUEUE", ports)?,
        })
    }

    /// Row of `QUEUE`: scheduler and WRED.
    pub fn qos(&self, port: &str, queue: usize) -> Option<&'d Row> {
        self.qos_queue.get(&(port.to_owned(), queue)).copied()
    }

    /// A port that carries traffic: it has priority groups, and none of the profiles SONiC gives to ports that are down.
    pub fn in_use(&self, port: &str) -> bool {
        let mine = self.pg.iter().filter(|((p, _), _)| p == port);
        let mut names = mine.map(|(_, r)| r.text("profile").map_or("", reference)).peekable();
        names.peek().is_some() && !names.any(|n| n.ends_with("_zero_profile"))
    }

    /// The egress profile of a queue.
    pub fn egress(&self, port: &str, queue: usize) -> Result<Option<Group>, SonicError> {
        let Some(row) = self.queue.get(&(port.to_owned(), queue)) else { return Ok(None) };
        match self.db.referred("BUFFER_PROFILE", row, "profile")? {
            Some(profile) => profile_of(self.db, row, profile, None, "egress").map(Some),
            None => Ok(None),
        }
    }

    /// True when the database itself makes this group lossless: a profile with headroom, or one to be looked up.
    pub fn asks_for_headroom(&self, port: &str, pg: usize) -> bool {
        let Some(row) = self.pg.get(&(port.to_owned(), pg)) else { return false };
        let name = row.text("profile").map_or("", reference);
        let known = self.db.get("BUFFER_PROFILE", name);
        name == "NULL"
            || in_name(name).is_some()
            || known.is_some_and(|p| p.text("xoff").is_some() || p.text("headroom_type") == Some("dynamic"))
    }

    /// The profile of a priority group; `pfc`: PFC is on, so that SONiC gives it a looked-up profile where none is
    /// bound. `speed` of the port when the database has no PORT row for it, Mb/s.
    pub fn group(&self, port: &str, pg: usize, pfc: bool, speed: u64) -> Result<Option<Group>, SonicError> {
        let row = self.pg.get(&(port.to_owned(), pg)).copied();
        let name = row.and_then(|r| r.text("profile")).map(reference).filter(|n| !n.is_empty());
        match (row, name) {
            (Some(row), Some(name)) if name != "NULL" => {
                if let Some(profile) = self.db.get("BUFFER_PROFILE", name) {
                    let dynamic =
                        profile.text("headroom_type") == Some("dynamic") && profile.text("xoff").is_none();
                    let line = if dynamic { Some(self.look_up(port, speed, row.place())?) } else { None };
                    return profile_of(self.db, row, profile, line, "ingress").map(Some);
                }
                match in_name(name) {
                    Some((speed, cable)) => {
                        let line = self.line(speed, cable, row.place())?;
                        self.looked_up(name, line).map(Some)
                    }
                    None => refuse(
                        row.at("profile"),
                        format!("there is no BUFFER_PROFILE|{name} in {}", self.db.name()),
                    ),
                }
            }
            (Some(row), _) => {
                let line = self.look_up(port, speed, row.place())?;
                self.looked_up(&format!("pg_lossless_{}_{}m_profile", line.speed, line.cable), line).map(Some)
            }
            (None, _) if pfc => {
                let place = format!("{}: BUFFER_PG|{port}|{pg}", self.db.name());
                let line = self.look_up(port, speed, &place)?;
                self.looked_up(&format!("pg_lossless_{}_{}m_profile", line.speed, line.cable), line).map(Some)
            }
            (None, _) => Ok(None),
        }
    }

    /// Speed of a port in the database, Mb/s.
    pub fn speed(&self, port: &str) -> Result<Option<u64>, SonicError> {
        self.db.get("PORT", port).map_or(Ok(None), |r| r.number("speed", 10_000_000))
    }

    /// Cable of a port in the database, metres.
    pub fn cable(&self, port: &str) -> Result<Option<u64>, SonicError> {
        let Some((row, text)) =
            self.db.rows("CABLE_LENGTH").find_map(|(_, r)| r.text(port).map(|text| (r, text)))
        else {
            return Ok(None);
        };
        match metres(text) {
            Some(m) => Ok(Some(m)),
            None => refuse(row.at(port), format!("{text:?} must be a length like 5m")),
        }
    }

    fn look_up(&self, port: &str, speed: u64, place: &str) -> Result<LookupLine, SonicError> {
        let speed = self.speed(port)?.unwrap_or(speed);
        let known = self.cable(port)?;
        let runs = self.run_cables.get(port).copied().filter(|_| known.is_none());
        if runs.is_some() {
            self.took_run_cable.set(true);
        }
        match known.or(runs) {
            Some(cable) => self.line(speed, cable, place),
            None if self.headroom_typed => self.line(speed, 0, place),
            None => {
                let text = format!(
                    "its headroom is looked up by cable, and CABLE_LENGTH has no {port}; add it there"
                );
                refuse(place, text)
            }
        }
    }

    fn line(&self, speed: u64, cable: u64, place: &str) -> Result<LookupLine, SonicError> {
        let found = match self.lookup {
            Some(table) => table.find(speed, cable),
            None => Err(format!(
                "the database leaves its headroom to be looked up ({speed} Mb/s, {cable}m); give pg_profile_lookup = \
                 \"pg_profile_lookup.ini\" of the platform, or xoff_headroom"
            )),
        };
        match found {
            Ok(line) => Ok(line),
            Err(_) if self.headroom_typed => {
                Ok(LookupLine { speed, cable, size: 0, xon: 0, xoff: 0, threshold: 0, xon_offset: 0 })
            }
            Err(text) => refuse(place, text),
        }
    }

    fn looked_up(&self, name: &str, line: LookupLine) -> Result<Group, SonicError> {
        let default = self.db.rows("DEFAULT_LOSSLESS_BUFFER_PARAMETER").next();
        let exponent = default.map_or(Ok(None), |(_, r)| r.exponent("default_dynamic_th"))?;
        Ok(Group {
            profile: name.to_owned(),
            pool: None,
            reserved: without_headroom(line.size, line.xoff),
            xoff: Some(line.xoff),
            xon: line.xon,
            xon_offset: line.xon_offset,
            threshold: Threshold::Dynamic(exponent.unwrap_or(line.threshold)),
        })
    }
}

/// `size` counts the headroom where there is no shared headroom pool (size = xon + xoff + overhead), and does not where
/// there is one (size = xon). A size below `xoff` cannot have it inside.
fn without_headroom(size: u64, xoff: u64) -> u64 {
    if size >= xoff { size - xoff } else { size }
}

/// `side` of the switch on which `from` binds the profile: a pool of the other side does not hold its frames.
fn profile_of(
    db: &Database,
    from: &Row,
    row: &Row,
    line: Option<LookupLine>,
    side: &str,
) -> Result<Group, SonicError> {
    let pool = db.referred("BUFFER_POOL", row, "pool")?;
    if let Some((pool, kind)) = pool.and_then(|p| Some((p, p.text("type")?)))
        && matches!(kind, "ingress" | "egress")
        && kind != side
    {
        let text = format!(
            "{} is of type {kind}, but {} binds this profile at {side}; name a pool of type {side}",
            pool.place(),
            from.place()
        );
        return refuse(row.at("pool"), text);
    }
    let name = row.text("pool").map(reference).filter(|_| pool.is_some());
    let bytes = |field: &str| row.number(field, BYTES_MOST);
    let threshold = match (row.exponent("dynamic_th")?, bytes("static_th")?) {
        (Some(x), None) => Threshold::Dynamic(x),
        (None, Some(b)) => Threshold::Static(b),
        (Some(_), Some(_)) => return refuse(row.place(), "has dynamic_th and static_th; keep one"),
        (None, None) => match line {
            Some(line) => Threshold::Dynamic(line.threshold),
            None => return refuse(row.place(), "has neither dynamic_th nor static_th; add one"),
        },
    };
    let xoff = bytes("xoff")?.or(line.map(|l| l.xoff));
    let size = bytes("size")?.or(line.map(|l| l.size)).unwrap_or(0);
    Ok(Group {
        profile: from.text("profile").map_or("", reference).to_owned(),
        pool: name.map(str::to_owned),
        reserved: without_headroom(size, xoff.unwrap_or(u64::MAX)),
        xoff,
        xon: bytes("xon")?.or(line.map(|l| l.xon)).unwrap_or(0),
        xon_offset: bytes("xon_offset")?.or(line.map(|l| l.xon_offset)).unwrap_or(0),
        threshold,
    })
}

/// Rows of a table by port and number.
fn bound<'d>(
    db: &'d Database,
    table: &str,
    ports: &[String],
) -> Result<BTreeMap<(String, usize), &'d Row>, SonicError> {
    let mut all: BTreeMap<(String, usize), &Row> = BTreeMap::new();
    for (key, row) in db.rows(table) {
        for place in expand(row, key, ports)? {
            if let Some(before) = all.insert(place, row).filter(|r| r.fields().ne(row.fields())) {
                return refuse(row.place(), format!("binds again what {} binds; keep one", before.place()));
            }
        }
    }
    Ok(all)
}
