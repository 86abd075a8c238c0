//! The database as it stands in the files: tables of rows of text, with the place of each for complaints.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Why a configuration cannot be used: one line, `file: TABLE|key: field: what is wrong; the fix`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {text}")]
pub struct SonicError {
    /// File, table, key and field, as far as they are known.
    pub place: String,
    /// What is wrong, and the fix.
    pub text: String,
}

/// An error at `place`.
pub(super) fn refuse<T>(place: impl Into<String>, text: impl Into<String>) -> Result<T, SonicError> {
    Err(SonicError { place: place.into(), text: text.into() })
}

/// One row: its fields, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    place: String,
    fields: BTreeMap<String, String>,
}

/// Rows by key.
pub(super) type Table = BTreeMap<String, Row>;

/// Tables whose rows are read; all others are listed as not read.
pub(super) const READ: [&str; 22] = [
    "BUFFER_PG",
    "BUFFER_POOL",
    "BUFFER_PORT_EGRESS_PROFILE_LIST",
    "BUFFER_PORT_INGRESS_PROFILE_LIST",
    "BUFFER_PROFILE",
    "BUFFER_QUEUE",
    "CABLE_LENGTH",
    "DEFAULT_LOSSLESS_BUFFER_PARAMETER",
    "DEVICE_METADATA",
    "DOT1P_TO_TC_MAP",
    "DSCP_TO_TC_MAP",
    "MAP_PFC_PRIORITY_TO_QUEUE",
    "PFC_PRIORITY_TO_PRIORITY_GROUP_MAP",
    "PFC_PRIORITY_TO_QUEUE_MAP",
    "PFC_WD",
    "PORT",
    "PORT_QOS_MAP",
    "QUEUE",
    "SCHEDULER",
    "TC_TO_PRIORITY_GROUP_MAP",
    "TC_TO_QUEUE_MAP",
    "WRED_PROFILE",
];

/// The tables of one or more `config_db.json` files.
#[derive(Clone, Debug, Default)]
pub struct Database {
    tables: BTreeMap<String, Table>,
    /// Tables that are not read, with their number of rows.
    unread: BTreeMap<String, usize>,
    files: Vec<String>,
}

impl Database {
    /// Reads the files' texts: `(name, text)`. Tables may be nested (`"PORT": {"Ethernet0": {..}}`) or flat
    /// (`"PORT|Ethernet0": {..}`); a fragment without its outer braces is taken as if it had them. Several files
    /// make one database, as the buffer and QoS renderings of one switch do.
    ///
    /// # Errors
    /// Names file, table, key and field.
    pub fn parse(files: &[(&str, &str)]) -> Result<Database, SonicError> {
        let mut db = Database::default();
        for (name, text) in files {
            db.files.push((*name).to_owned());
            let Value::Object(top) = json(name, text)? else {
                return refuse(*name, "is no JSON object of tables; give a config_db.json");
            };
            for (key, value) in top {
                match key.split_once('|') {
                    Some((table, key)) => db.row(name, table, key, value)?,
                    None => db.table(name, &key, value)?,
                }
            }
        }
        Ok(db)
    }

    fn table(&mut self, file: &str, table: &str, value: Value) -> Result<(), SonicError> {
        let read = READ.contains(&table);
        match value {
            Value::Object(rows) => rows.into_iter().try_for_each(|(key, v)| self.row(file, table, &key, v)),
            _ if read => refuse(format!("{file}: {table}"), "is no table; it needs rows: {\"key\": {...}}"),
            _ => {
                *self.unread.entry(table.to_owned()).or_insert(0) += 1;
                Ok(())
            }
        }
    }

    fn row(&mut self, file: &str, table: &str, key: &str, value: Value) -> Result<(), SonicError> {
        if !READ.contains(&table) {
            *self.unread.entry(table.to_owned()).or_insert(0) += 1;
            return Ok(());
        }
        let place = format!("{file}: {table}|{key}");
        let Value::Object(values) = value else {
            return refuse(place, "is no row; it needs fields: {\"field\": \"value\"}");
        };
        let mut fields = BTreeMap::new();
        for (field, value) in values {
            let Some(text) = scalar(&value) else {
                return refuse(format!("{place}: {field}"), "must be text, a number or a list of them");
            };
            fields.insert(field, text);
        }
        let rows = self.tables.entry(table.to_owned()).or_default();
        if let Some(before) = rows.get(key).filter(|r| r.fields != fields) {
            let text = format!("differs from {}; keep one of them", before.place);
            return refuse(place, text);
        }
        rows.insert(key.to_owned(), Row { place, fields });
        Ok(())
    }

    /// Names of the files, for complaints that concern all of them.
    pub(super) fn name(&self) -> String {
        self.files.join(" + ")
    }

    /// Rows of a table; none when it is not there.
    pub(super) fn rows(&self, table: &str) -> impl Iterator<Item = (&str, &Row)> {
        self.tables.get(table).into_iter().flatten().map(|(k, r)| (k.as_str(), r))
    }

    /// Whether the table has rows.
    pub(super) fn has(&self, table: &str) -> bool {
        self.tables.get(table).is_some_and(|t| !t.is_empty())
    }

    /// One row.
    pub(super) fn get(&self, table: &str, key: &str) -> Option<&Row> {
        self.tables.get(table)?.get(key)
    }

    /// The row that `from`'s `field` refers to, by `"name"` or `"[TABLE|name]"`.
    pub(super) fn referred(&self, table: &str, from: &Row, field: &str) -> Result<Option<&Row>, SonicError> {
        let Some(name) = from.text(field).map(reference).filter(|n| !n.is_empty()) else { return Ok(None) };
        match self.get(table, name) {
            Some(row) => Ok(Some(row)),
            None => refuse(from.at(field), format!("there is no {table}|{name} in {}", self.name())),
        }
    }

    /// Tables that are not read, with their number of rows.
    pub(super) fn unread(&self) -> &BTreeMap<String, usize> {
        &self.unread
    }

    /// Names of all ports, Ethernet2 before Ethernet10.
    pub(super) fn ports(&self) -> Vec<String> {
        let mut all: BTreeSet<&str> = BTreeSet::new();
        all.extend(self.rows("PORT").map(|(k, _)| k).filter(|k| !k.contains('|')));
        all.extend(self.rows("PORT_QOS_MAP").map(|(k, _)| k).filter(|k| *k != "global"));
        all.extend(self.rows("CABLE_LENGTH").flat_map(|(_, r)| r.fields.keys().map(String::as_str)));
        let mut names: BTreeSet<String> =
            all.iter().flat_map(|k| k.split(',')).map(|n| n.trim().to_owned()).collect();
        for table in ["BUFFER_PG", "BUFFER_QUEUE", "QUEUE"] {
            let keys = self.rows(table).filter_map(|(k, _)| k.split_once('|'));
            let lists = keys.flat_map(|(ports, _)| ports.split(','));
            names.extend(lists.filter(|n| !n.contains('-')).map(|n| n.trim().to_owned()));
        }
        names.remove("");
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_by(|a, b| natural(a, b));
        names
    }
}

impl Row {
    /// `file: TABLE|key`.
    pub(super) fn place(&self) -> &str {
        &self.place
    }
    /// `file: TABLE|key: field`.
    pub(super) fn at(&self, field: &str) -> String {
        format!("{}: {field}", self.place)
    }
    /// All fields.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
    /// A field as text.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.fields.get(field).map(|v| v.trim())
    }
    /// A field as a whole number from 0 to `most`.
    pub(super) fn number(&self, field: &str, most: u64) -> Result<Option<u64>, SonicError> {
        let Some(text) = self.text(field) else { return Ok(None) };
        match text.parse::<u64>() {
            Ok(n) if n <= most => Ok(Some(n)),
            _ => refuse(self.at(field), format!("{text:?} must be a whole number from 0 to {most}")),
        }
    }
    /// A field as SONiC's exponent of alpha.
    pub(super) fn exponent(&self, field: &str) -> Result<Option<i32>, SonicError> {
        let Some(text) = self.text(field) else { return Ok(None) };
        match text.parse::<i32>() {
            Ok(n) if (-8..=7).contains(&n) => Ok(Some(n)),
            _ => {
                let why = format!("{text:?} must be an exponent of alpha = 2^x, from -8 to 7");
                refuse(self.at(field), why)
            }
        }
    }
}

/// JSON, with or without outer braces.
fn json(name: &str, text: &str) -> Result<Value, SonicError> {
    let text = text.trim_start_matches('\u{feff}').trim();
    let complaint = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(e) => e,
    };
    if text.starts_with('"')
        && let Ok(value) = serde_json::from_str(&format!("{{{}}}", text.trim_end_matches(',')))
    {
        return Ok(value);
    }
    let at = format!("{name}:{}:{}", complaint.line(), complaint.column());
    let what = complaint.to_string();
    let what = what.split(" at line ").next().unwrap_or_default().to_owned();
    refuse(at, format!("not valid JSON: {what}; give a config_db.json as the switch stores it"))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Null => Some(String::new()),
        Value::Array(list) => {
            let all: Option<Vec<String>> =
                list.iter().map(|v| if v.is_array() { None } else { scalar(v) }).collect();
            Some(all?.join(","))
        }
        Value::Object(_) => None,
    }
}

/// The name in `"name"` or `"[TABLE|name]"`.
pub(super) fn reference(text: &str) -> &str {
    let inner = text.trim().strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    match inner {
        Some(inner) => inner.rsplit('|').next().unwrap_or(inner).trim(),
        None => text.trim(),
    }
}

/// Names by their letters, then by their number: Ethernet8 before Ethernet16.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let split = |s: &str| {
        let stem = s.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        (s[..stem].to_owned(), s[stem..].parse::<u64>().ok())
    };
    split(a).cmp(&split(b)).then_with(|| a.cmp(b))
}

/// Expands `"Ethernet0,Ethernet4|3-4"` into ports and numbers 0 to 7. `known` are the ports a range goes through.
pub(super) fn expand(row: &Row, key: &str, known: &[String]) -> Result<Vec<(String, usize)>, SonicError> {
    let parts: Vec<&str> = key.split('|').collect();
    let [ports, numbers] = parts.as_slice() else {
        let text =
            "needs the form port|number, like Ethernet0|3-4 (chassis keys with a host are not supported)";
        return refuse(row.place(), text);
    };
    let mut all = Vec::new();
    for numbers in numbers.split(',') {
        let (low, high) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let (Ok(low), Ok(high)) = (low.trim().parse::<usize>(), high.trim().parse::<usize>()) else {
            return refuse(row.place(), format!("{numbers:?} is no number or range like 3-4"));
        };
        if low > high || high > 63 {
            return refuse(row.place(), format!("{numbers:?} is no range of queues or priority groups"));
        }
        for port in ports.split(',').map(str::trim) {
            for name in port_range(row, port, known)? {
                all.extend((low..=high).map(|n| (name.to_owned(), n)));
            }
        }
    }
    Ok(all)
}

/// One port, or the known ports from the first to the last of `Ethernet0-Ethernet12`.
fn port_range<'k>(row: &Row, port: &'k str, known: &'k [String]) -> Result<Vec<&'k str>, SonicError> {
    let Some((first, last)) = port.split_once('-').filter(|_| !known.iter().any(|k| k == port)) else {
        return match port.is_empty() {
            true => refuse(row.place(), "has an empty port name"),
            false => Ok(vec![port]),
        };
    };
    let find = |name: &str| known.iter().position(|k| k == name);
    match (find(first), find(last)) {
        (Some(a), Some(b)) if a <= b => Ok(known[a..=b].iter().map(String::as_str).collect()),
        _ => refuse(row.place(), format!("{port:?} is no range of ports of this switch")),
    }
}
