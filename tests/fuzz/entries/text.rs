//! Text files: traffic, scenarios, switch configurations, profiles. Several files in one input are separated by a zero
//! byte.

use rankstorm::cli::check::{check_text, plan_text};
use rankstorm::plan::device::DeviceSpec;
use rankstorm::plan::hpcc::plan as hpcc_plan;
use rankstorm::profile::sonic::{Database, Lookup, Wanted, WantedPort, resolve};
use rankstorm::profile::{self, Overrides};
use rankstorm::workload::import::flows::{read_csv, read_hpcc};
use rankstorm::workload::import::hpcc::{Config, Folder, Topology};

use super::Input;

/// The files of an input.
fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|b| *b == 0)
}

/// Digits of a number in a list of flows: 18 PB become the 8 million messages that are allowed, and take their time.
const DIGITS_MAX: usize = 12;

/// A list of flows as CSV, or as HPCC's flow file with or without prerequisites.
pub fn flows(data: &[u8]) {
    if data.split(|b| !b.is_ascii_digit()).any(|digits| digits.len() > DIGITS_MAX) {
        return;
    }
    let mut files = parts(data);
    let first = files.next().unwrap_or_default();
    if let Ok(schedule) = read_csv("flows.csv", first) {
        let _ = schedule.check();
    }
    let deps = files.next().map(|d| ("dep.txt".to_owned(), d));
    if let Ok(schedule) = read_hpcc("flow.txt", first, deps) {
        let _ = schedule.check();
    }
}

/// A folder of the HPCC simulator: configuration, topology, flows, prerequisites, paths; as far as the plan.
pub fn hpcc(data: &[u8]) {
    let mut files = parts(data);
    let config = Config::read("config.txt", files.next().unwrap_or_default());
    let mut part = |name: &str| files.next().map(|bytes| (name.to_owned(), bytes.to_vec()));
    let none = |name: &str| (name.to_owned(), Vec::new());
    let topology = part("topology.txt").unwrap_or_else(|| none("topology.txt"));
    let flows = part("flow.txt").unwrap_or_else(|| none("flow.txt"));
    let (deps, pins) = (part("dep.txt"), part("paths.txt"));
    let Ok(config) = config else {
        let _ = Topology::read(&topology.0, &topology.1[..]);
        return;
    };
    if let Ok(folder) = Folder::read("folder".into(), config, topology, flows, deps, pins) {
        let _ = hpcc_plan(&folder, "fuzz".into(), 1, None);
    }
}

/// A SONiC database (whole or in two renderings) and a headroom table.
pub fn sonic(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut files = text.split('\0');
    let first = files.next().unwrap_or_default();
    let table = Lookup::parse("pg_profile_lookup.ini", files.next().unwrap_or_default()).ok();
    if let Some(table) = &table {
        let _ = table.find(100_000, 5);
    }
    let mut named = vec![("config_db.json", first)];
    named.extend(files.next().map(|second| ("qos.json", second)));
    let Ok(db) = Database::parse(&named) else { return };
    for (cell, headroom) in [(None, false), (Some(254), true)] {
        let port = WantedPort { name: None, speed: 100_000, cable: Some(5) };
        let trunks = headroom
            .then_some(WantedPort { name: None, speed: 400_000, cable: Some(40) })
            .into_iter()
            .collect();
        let ports = vec![port; 4];
        let wanted = Wanted { ports, trunks, cell, headroom, fec: Some(true), ..Wanted::default() };
        if let Ok(found) = resolve(&db, table.as_ref(), &wanted) {
            assert!(found.cell > 0);
        }
    }
}

/// Largest plain number of a profile that is tried: a profile may rightly ask for more than a fuzzer's time allows.
const NUMBER_MAX: u64 = 64;
/// Keys that name files, which are no part of the input.
const FILES: [&str; 3] = ["file", "config", "lookup"];

/// A profile, as far as the plan and what `check` prints of it. What it writes out must load again.
pub fn profile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let numbers = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let large = |word: &str| {
        let digits: String = word.chars().filter(char::is_ascii_digit).collect();
        word.starts_with(|c: char| c.is_ascii_digit())
            && digits.parse::<u64>().map_or(true, |n| n > NUMBER_MAX)
    };
    if text.len() > 4096 || numbers.into_iter().any(large) || FILES.iter().any(|f| text.contains(f)) {
        return;
    }
    let over = Overrides::default();
    let plan = match profile::from_str("fuzz.toml", text, &over) {
        Ok(plan) => plan,
        Err(e) => {
            let line = e.to_string();
            assert!(!line.contains('\n'), "one line: {line}");
            return;
        }
    };
    assert!(!check_text(&plan).is_empty());
    let again = profile::from_str("again.toml", &plan_text(&plan), &over)
        .unwrap_or_else(|e| panic!("the effective profile loads: {e}\n{}", plan.effective));
    assert_eq!(again.effective, plan.effective);
}

/// The longest frame, then the device of a `[[port]]`: what DPDK is given names the device and holds the frame.
pub fn device(data: &[u8]) {
    let mut input = Input(data);
    let frame = u32::from(input.u16());
    let Ok(text) = std::str::from_utf8(input.0) else { return };
    let Ok(spec) = DeviceSpec::parse(text) else { return };
    let _ = spec.interfaces();
    if let Ok((given, room)) = spec.arguments(frame, 1) {
        assert!(given.starts_with(&spec.name), "{given}");
        assert!(u32::from(room) >= frame, "{given}: {room}");
    }
}
