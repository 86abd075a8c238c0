//! Real SONiC configurations against what their files say, and broken ones against panics and vague complaints.
//!
//! The real files (sonic-net/sonic-buildimage and sonic-utilities, Apache-2.0) are read in place and not part of the
//! project; where they are absent their tests say so and pass.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr)]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rankstorm::profile::sonic::{Database, Imported, Lookup, SonicError, Wanted, WantedPort, resolve};
use rankstorm::profile::{self, Overrides};
use rankstorm::switch::config::{Limit, PriorityConfig, Slices, Watchdog, WatchdogAction, Wred};
use rankstorm::units::{Bytes, Rate, Span};
use serde_json::Value;

const OWN_CONFIG: &str = include_str!("../profiles/sonic/config_db.json");
const OWN_LOOKUP: &str = include_str!("../profiles/sonic/pg_profile_lookup.ini");

/// A folder of the real files, or `None` with a line that says so.
fn real() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = [root.join("../shared/data/sonic"), root.join("../../shared/data/sonic")];
    let found = places.into_iter().find(|p| p.is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: no real SONiC files at ../shared/data/sonic");
    }
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn database(folder: &Path, files: &[&str]) -> Database {
    let texts: Vec<String> = files.iter().map(|f| text(&folder.join(f))).collect();
    let pairs: Vec<(&str, &str)> = files.iter().copied().zip(texts.iter().map(String::as_str)).collect();
    Database::parse(&pairs).unwrap()
}

fn lookup(folder: &Path, file: &str) -> Lookup {
    let file = format!("pg_profile_lookup/{file}");
    Lookup::parse(&file, &text(&folder.join(&file))).unwrap()
}

fn ports(count: usize, speed: u64, cable: u64) -> Vec<WantedPort> {
    vec![WantedPort { name: None, speed, cable: Some(cable) }; count]
}

fn named(names: &[&str], speed: u64, cable: u64) -> Vec<WantedPort> {
    names.iter().map(|n| WantedPort { name: Some((*n).into()), speed, cable: Some(cable) }).collect()
}

fn says(i: &Imported, code: &str, what: &str) -> bool {
    i.warnings.iter().any(|(c, t)| c == code && t.contains(what))
}

fn lossless(i: &Imported) -> Vec<usize> {
    (0..8).filter(|p| i.priorities[*p].lossless).collect()
}

fn wred(kmin: u64, kmax: u64, pmax: f64) -> Option<Wred> {
    Some(Wred { kmin: Bytes(kmin), kmax: Bytes(kmax), pmax, ecn: true })
}

/// The DSCP map as the file has it, with the file's identity map from class to queue.
fn assert_dscp_map(i: &Imported, file: &Path, map: &str) {
    let json: Value = serde_json::from_str(&text(file)).unwrap();
    for dscp in 0..64usize {
        let tc = json["DSCP_TO_TC_MAP"][map][dscp.to_string()].as_str().unwrap();
        assert_eq!(i.dscp_map[dscp].to_string(), tc, "DSCP {dscp}");
    }
}

#[test]
fn tomahawk_2_renderings_become_the_model() {
    let Some(dir) = real() else { return };
    let db = database(&dir, &["buffers/buffer-arista7260-t0.json", "qos/qos-arista7260-t0.json"]);
    for table in ["common_profiles_th2_7260_BALANCED.ini", "common_profiles_th2_7260_RDMA-CENTRIC.ini"] {
        let slices = Some(Slices::Crosspoints);
        let wanted = Wanted { ports: ports(8, 100_000, 40), cell: Some(208), slices, ..Wanted::default() };
        let i = resolve(&db, Some(&lookup(&dir, table)), &wanted).unwrap();
        assert_eq!(lossless(&i), [3, 4]);
        let expected = PriorityConfig {
            lossless: true,
            limit: Limit::Dynamic(1, 1), // threshold 0
            reserved: Bytes(1_248),
            headroom: Bytes(59_696),
            xon_offset: Bytes(2_496),
            xon: Bytes(1_248),
            egress_limit: Some(Limit::Pool), // static_th = size of egress_lossless_pool
            egress_pool: i.priorities[3].egress_pool,
            // Green, and what the file has for yellow and red.
            wred: [(2_000_000, 10_000_000), (1_048_576, 2_097_152), (1_048_576, 2_097_152)]
                .map(|(kmin, kmax)| wred(kmin, kmax, 0.05)),
            weight: 15,
            ..PriorityConfig::default()
        };
        assert_eq!((i.priorities[3], i.priorities[4]), (expected, expected));
        let lossy = i.priorities[0];
        assert_eq!(
            (lossy.egress_limit, lossy.egress_reserved.0),
            (Some(Limit::Dynamic(1, 2)), 1_664),
            "dynamic_th -1"
        );
        let pool = |p: PriorityConfig| &i.egress_pools[usize::from(p.egress_pool)];
        assert_eq!(pool(i.priorities[3]).name, "egress_lossless_pool");
        assert_eq!(pool(i.priorities[3]).shared, Bytes(42_349_632), "203,604 cells, nothing reserved");
        assert_eq!(pool(lossy).name, "egress_lossy_pool");
        assert_eq!(i.ingress_pools[0].headroom, Some(Bytes(7_827_456)), "shared headroom pool");
        assert_eq!((i.priorities[0].weight, i.priorities[0].green()), (14, None));
        assert_eq!(lossy.limit, Limit::Pool, "static_th 44302336 is above the pool");
        // 33329088 B = 160,236 cells; reserves and headroom are beside them.
        assert_eq!(i.shared, Some(Bytes(160_236 * 208)));
        assert_eq!(i.maps.group, [0, 0, 0, 3, 4, 0, 0, 7], "TC_TO_PRIORITY_GROUP_MAP|AZURE");
        assert_eq!(i.maps.queue, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_dscp_map(&i, &dir.join("qos/qos-arista7260-t0.json"), "AZURE");
        assert!(
            says(&i, "sonic_assumed", "22 ports have pfcwd_sw_enable and no row in PFC_WD"),
            "{:#?}",
            i.warnings
        );
    }
}

#[test]
fn headroom_follows_the_cable_of_each_port() {
    let Some(dir) = real() else { return };
    let db = database(&dir, &["buffers/buffer-arista7260-t0.json", "qos/qos-arista7260-t0.json"]);
    let table = lookup(&dir, "common_profiles_th2_7260_BALANCED.ini");
    let run = |names: &[&str]| {
        let wanted = Wanted { ports: named(names, 100_000, 5), cell: Some(208), ..Wanted::default() };
        resolve(&db, Some(&table), &wanted).unwrap()
    };
    // CABLE_LENGTH: Ethernet40 and Ethernet80 have 5m, Ethernet48 has 40m.
    let i = run(&["Ethernet40", "Ethernet80"]);
    assert_eq!(i.priorities[3].headroom, Bytes(54_080));
    assert!(!i.warnings.iter().any(|(c, _)| c == "sonic_ports_differ"), "{:#?}", i.warnings);
    let i = run(&["Ethernet40", "Ethernet48", "Ethernet80"]);
    assert_eq!(i.priorities[3].headroom, Bytes(54_080), "as most ports of the run have it");
    let headroom: Vec<u64> = i.profiles.iter().map(|p| p.priorities[3].headroom.0).collect();
    assert_eq!(headroom, [54_080, 59_696, 54_080], "each port has that of its cable");
    assert!(
        says(&i, "sonic_ports_own", "1 of 3 ports (Ethernet48) have their own headroom"),
        "{:#?}",
        i.warnings
    );
    assert!(says(&i, "sonic_ports_differ", "the database says 40m of cable, the run has 5m"));
    assert_eq!(i.ports[1].as_deref(), Some("Ethernet48"));
}

#[test]
fn tomahawk_5_renderings_become_the_model() {
    let Some(dir) = real() else { return };
    let files = ["buffers/buffer-frh-b-o128.json", "qos/qos-arista7060x6.json"];
    let db = database(&dir, &files);
    let table = lookup(&dir, "arista7060x6-64pe-b-O128.ini");
    let wanted = Wanted { ports: ports(16, 400_000, 5), cell: Some(254), ..Wanted::default() };
    let i = resolve(&db, Some(&table), &wanted).unwrap();
    assert_eq!(lossless(&i), [3, 4]);
    let p = i.priorities[3];
    // 74 and 1755 cells of 254 B: the figures of sonic-mgmt's QoS tables for this chip.
    assert_eq!((p.reserved, p.headroom, p.xon_offset), (Bytes(74 * 254), Bytes(1755 * 254), Bytes(14 * 254)));
    assert_eq!((p.limit, p.green(), p.weight), (Limit::Dynamic(1, 1), wred(131_072, 262_144, 0.05), 20));
    let weights: Vec<u16> = i.priorities.iter().map(|p| p.weight).collect();
    assert_eq!(weights, [10, 10, 10, 20, 10, 10, 70, 10]);
    // 164075364 B = 645,966 cells. Of these the shared headroom pool has 49418240 B = 194,560; 128 ports with PFC reserve
    // 74 cells for each of two groups, and 7 (1778 B) for each of ten queues.
    let shared = 645_966 - 194_560 - 128 * (2 * 74 + 10 * 7);
    assert_eq!(i.slices, Slices::Itms);
    assert_eq!(i.shared, Some(Bytes(shared * 254)));
    // static_th 82434938 is more than half of the pool: in no slice does it limit anything.
    assert_eq!((i.priorities[0].limit, p.egress_limit), (Limit::Pool, Some(Limit::Pool)));
    assert!(!says(&i, "sonic_can_drop", "egress_lossless_profile"), "{:#?}", i.warnings);
    assert_eq!(i.egress_pools[0].shared, Bytes(shared * 254), "the same memory from the other side");
    assert_dscp_map(&i, &dir.join(files[1]), "AZURE");
}

#[test]
fn every_tomahawk_5_rendering_is_read() {
    let Some(dir) = real() else { return };
    let table = lookup(&dir, "arista7060x6-64pe-b-P32O64.ini");
    for buffers in ["buffers/buffer-ft2-p64.json", "buffers/buffer-lt2-p32o64.json"] {
        let db = database(&dir, &[buffers, "qos/qos-arista7060x6.json"]);
        let names = named(&["Ethernet0", "Ethernet8"], 800_000, 5);
        let wanted = Wanted { ports: names, cell: Some(254), headroom: true, ..Wanted::default() };
        let i = resolve(&db, Some(&table), &wanted).unwrap();
        // 800000 5m: xoff 724662 B = 2853 cells, size 8636 B = 34 cells.
        assert_eq!(
            (i.priorities[3].headroom, i.priorities[3].reserved),
            (Bytes(724_662), Bytes(8_636)),
            "{buffers}"
        );
    }
}

#[test]
fn a_full_database_says_all_itself() {
    let Some(dir) = real() else { return };
    let db = database(&dir, &["config_db/counterpoll_config_db.json"]);
    let wanted = Wanted { ports: ports(9, 40_000, 5), ..Wanted::default() };
    let i = resolve(&db, None, &wanted).unwrap();
    assert_eq!(i.cell, 208, "Force10-S6000");
    let p = i.priorities[3];
    assert_eq!((p.limit, p.headroom, p.xon_offset), (Limit::Dynamic(1, 8), Bytes(55_120), Bytes(2_496)));
    assert_eq!(
        p.reserved,
        Bytes(56_368 - 55_120),
        "without a shared headroom pool, size counts the headroom"
    );
    assert_eq!((p.green(), p.weight), (wred(1_048_576, 2_097_152, 0.05), 15));
    // 12766208 B = 61,376 cells; 32 ports hold 6 reserved and 265 headroom cells for each of two groups.
    assert_eq!(i.shared, Some(Bytes((61_376 - 32 * 2 * (6 + 265)) * 208)));
    assert_eq!(i.priorities[1].limit, Limit::Dynamic(8, 1), "ingress_lossy_profile, dynamic_th 3");
    assert_dscp_map(&i, &dir.join("config_db/counterpoll_config_db.json"), "AZURE");
    assert!(says(&i, "sonic_not_modelled", "tables not read: ACL_TABLE (5)"));
}

#[test]
fn a_dynamic_model_asks_for_what_it_lacks() {
    let Some(dir) = real() else { return };
    let db = database(&dir, &["config_db/acs-msn3700-t1.json"]);
    let table = lookup(&dir, "mellanox_x86_64-mlnx_msn4700-r0_ACS-MSN4700.ini");
    let port = named(&["Ethernet0"], 10_000, 300);
    let wanted = Wanted { ports: port, ..Wanted::default() };
    let refused = |lookup: Option<&Lookup>| resolve(&db, lookup, &wanted).unwrap_err().to_string();
    let no_table = refused(None);
    assert!(
        no_table.contains("BUFFER_PG|Ethernet0|3-4") && no_table.contains("give pg_profile_lookup"),
        "{no_table}"
    );
    let no_size = refused(Some(&table));
    assert!(no_size.contains("BUFFER_POOL|ingress_lossless_pool: has no size"), "{no_size}");
    let wanted = Wanted { buffer: Some(Bytes(40_000_000)), ..wanted };
    let i = resolve(&db, Some(&table), &wanted).unwrap();
    assert_eq!((i.cell, i.shared), (144, None));
    // 10000 300m 60416 19456 40960 0, default_dynamic_th 0
    let p = i.priorities[4];
    assert!(p.lossless);
    assert_eq!(
        (p.headroom, p.reserved, p.xon_offset, p.limit),
        (Bytes(40_960), Bytes(19_456), Bytes(0), Limit::Dynamic(1, 1))
    );
    assert!(says(&i, "sonic_not_modelled", "limits of whole ports"));
    assert!(says(&i, "sonic_assumed", "queues 0,1,2,3,4,5,6,7 have no scheduler"));
}

#[test]
fn spectrum_renderings_become_the_model() {
    let Some(dir) = real() else { return };
    let files = ["buffers/buffers-mellanox4600c-t0.json", "qos/qos-mellanox4600c-c64.json"];
    let db = database(&dir, &files);
    let table = lookup(&dir, "mellanox_x86_64-mlnx_msn4700-r0_ACS-MSN4700.ini");
    let run = |ports: Vec<WantedPort>| {
        resolve(&db, Some(&table), &Wanted { ports, cell: Some(144), ..Wanted::default() }).unwrap()
    };
    // Ethernet248: pfc_enable 2,3,4,6, the map AZURE, 40m; Ethernet0: 3,4 and AZURE_UPLINK.
    let i = run(named(&["Ethernet248"], 100_000, 5));
    assert_eq!(lossless(&i), [2, 3, 4, 6]);
    assert_eq!((i.priorities[6].weight, i.priorities[6].green()), (15, wred(2_000_000, 10_000_000, 0.05)));
    assert_eq!((i.priorities[3].headroom, i.priorities[3].reserved), (Bytes(44_032), Bytes(19_456)));
    assert_dscp_map(&i, &dir.join(files[1]), "AZURE");
    assert_eq!(i.shared, Some(Bytes(55_058_432 / 144 * 144)), "Spectrum's size is what is shared");
    let i = run(named(&["Ethernet0"], 100_000, 5));
    assert_eq!(lossless(&i), [3, 4]);
    assert_dscp_map(&i, &dir.join(files[1]), "AZURE_UPLINK");
    let i = run(ports(64, 100_000, 5));
    assert!(says(&i, "sonic_can_drop", "shared headroom pool of 1712128 B"), "{:#?}", i.warnings);
}

#[test]
fn tomahawk_and_dell_need_their_table_or_a_headroom() {
    let Some(dir) = real() else { return };
    for (buffers, qos, limit) in [
        ("buffers/buffers-dell6100.json", "qos/qos-dell6100.json", Limit::Pool), // static_th = the whole pool
        ("buffers/buffer-arista7060-t0.json", "qos/qos-arista7260-t0.json", Limit::Dynamic(8, 1)), // dynamic_th 3
    ] {
        let db = database(&dir, &[buffers, qos]);
        let wanted = Wanted { ports: ports(2, 40_000, 5), cell: Some(208), ..Wanted::default() };
        let refused = resolve(&db, None, &wanted).unwrap_err().to_string();
        assert!(refused.contains("BUFFER_PG|") && refused.contains("or xoff_headroom"), "{refused}");
        let i = resolve(&db, None, &Wanted { headroom: true, ..wanted }).unwrap();
        assert_eq!(i.priorities[0].limit, limit, "{buffers}");
        assert!(i.priorities[0].egress_limit.is_some());
        assert_eq!(lossless(&i), [3, 4]);
    }
}

#[test]
fn every_lookup_table_is_read() {
    let Some(dir) = real() else { return };
    let nvidia = lookup(&dir, "mellanox_x86_64-nvidia_sn5600-r0_ACS-SN5600.ini");
    let line = nvidia.find(800_000, 300).unwrap();
    assert_eq!((line.size, line.xon, line.xoff, line.xon_offset), (1_198_080, 38_912, 1_150_976, 0));
    let th5 = lookup(&dir, "arista7060x6-64pe-b-O128.ini").find(400_000, 500).unwrap();
    assert_eq!((th5.size, th5.xoff, th5.xon_offset), (8_636, 1_136_396, 3_556));
    let missing = nvidia.find(800_000, 30).unwrap_err();
    assert!(missing.contains("5m, 40m, 300m for this speed"), "{missing}");
}

// --- The project's own example ---------------------------------------------------------------------------------------

fn own(text: &str) -> Result<Imported, SonicError> {
    let db = Database::parse(&[("config_db.json", text)])?;
    let lookup = Lookup::parse("pg_profile_lookup.ini", OWN_LOOKUP)?;
    resolve(&db, Some(&lookup), &Wanted { ports: ports(8, 100_000, 5), ..Wanted::default() })
}

/// The example with one change.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Imported, String> {
    let mut json: Value = serde_json::from_str(OWN_CONFIG).unwrap();
    change(&mut json);
    own(&json.to_string()).map_err(|e| e.to_string())
}

#[test]
fn both_forms_give_the_same_model() {
    let nested = own(OWN_CONFIG).unwrap();
    let json: Value = serde_json::from_str(OWN_CONFIG).unwrap();
    let mut flat = serde_json::Map::new();
    for (table, rows) in json.as_object().unwrap() {
        for (key, row) in rows.as_object().unwrap() {
            flat.insert(format!("{table}|{key}"), row.clone());
        }
    }
    assert_eq!(own(&Value::Object(flat).to_string()).unwrap(), nested);
    // A fragment without its braces, as templates leave it.
    let inner = OWN_CONFIG.trim().trim_start_matches('{').trim_end_matches('}').to_owned() + ",";
    assert_eq!(own(&inner).unwrap(), nested);
    assert_eq!(nested.priorities[6].weight, 0, "STRICT");
    assert_eq!(
        (nested.priorities[3].headroom, nested.priorities[3].limit),
        (Bytes(93_600), Limit::Dynamic(1, 4))
    );
    assert_eq!((nested.dscp_map[26], nested.dscp_map[48], nested.cell), (3, 6, 208));
}

#[test]
fn what_cannot_be_modelled_is_refused_with_its_place() {
    let refused = |change: fn(&mut Value)| changed(change).unwrap_err();
    let place = refused(|j| j["TC_TO_QUEUE_MAP"]["ROCE"]["3"] = "5".into());
    assert!(place.contains("PORT_QOS_MAP|Ethernet0") && place.contains("traffic class 3"), "{place}");
    let pfc = refused(|j| j["MAP_PFC_PRIORITY_TO_QUEUE"]["ROCE"]["3"] = "2".into());
    assert!(pfc.contains("PFC priority 3 guards priority group 3 and queue 2"), "{pfc}");
    let typo = refused(|j| {
        j["QUEUE"].as_object_mut().unwrap().values_mut().for_each(|q| q["scheduler"] = "no".into())
    });
    assert!(typo.contains("config_db.json: QUEUE|") && typo.contains("there is no SCHEDULER|no"), "{typo}");
    let th = refused(|j| j["BUFFER_PROFILE"]["egress_lossy_profile"]["dynamic_th"] = "9".into());
    assert!(th.contains("BUFFER_PROFILE|egress_lossy_profile: dynamic_th: \"9\" must be"), "{th}");
    let mut json: Value = serde_json::from_str(OWN_CONFIG).unwrap();
    json["BUFFER_PG"].as_object_mut().unwrap().retain(|k, _| k.ends_with("|0"));
    json["CABLE_LENGTH"]["AZURE"].as_object_mut().unwrap().remove("Ethernet0");
    let db = Database::parse(&[("config_db.json", &json.to_string())]).unwrap();
    let wanted = |cable| Wanted {
        ports: vec![WantedPort { name: None, speed: 100_000, cable }; 8],
        ..Wanted::default()
    };
    let table = Lookup::parse("pg_profile_lookup.ini", OWN_LOOKUP).unwrap();
    let cable = resolve(&db, Some(&table), &wanted(None)).unwrap_err().to_string();
    assert!(
        cable.contains("BUFFER_PG|Ethernet0|3") && cable.contains("CABLE_LENGTH has no Ethernet0; add it"),
        "{cable}"
    );
    let with_the_runs = resolve(&db, Some(&table), &wanted(Some(5))).unwrap();
    assert_eq!(with_the_runs.priorities[3].headroom, Bytes(93_600));
    assert!(says(&with_the_runs, "sonic_assumed", "looked up for the run's cable"));
    let qos_only = refused(|j| j.as_object_mut().unwrap().retain(|table, _| !table.starts_with("BUFFER_")));
    assert!(
        qos_only.starts_with("config_db.json: BUFFER_POOL: the files have none; give the buffer rendering"),
        "{qos_only}"
    );
    let pg = refused(|j| j["BUFFER_PROFILE"]["ingress_lossy_profile"]["pool"] = "egress_lossy_pool".into());
    assert!(
        pg.contains("BUFFER_PROFILE|ingress_lossy_profile: pool:")
            && pg.contains("BUFFER_POOL|egress_lossy_pool is of type egress")
            && pg.contains("binds this profile at ingress"),
        "{pg}"
    );
    let queue =
        refused(|j| j["BUFFER_PROFILE"]["egress_lossy_profile"]["pool"] = "ingress_lossless_pool".into());
    assert!(queue.contains("is of type ingress") && queue.contains("BUFFER_QUEUE|"), "{queue}");
    let twice =
        Database::parse(&[("a.json", r#"{"PORT|E0":{"speed":"1"}}"#), ("b.json", r#"{"PORT":{"E0":{}}}"#)]);
    assert_eq!(
        twice.unwrap_err().to_string(),
        "b.json: PORT|E0: differs from a.json: PORT|E0; keep one of them"
    );
}

#[test]
fn what_acts_on_a_real_switch_only_is_listed() {
    let noted = |change: fn(&mut Value), code: &str, what: &str| {
        let i = changed(change).unwrap();
        assert!(says(&i, code, what), "{what}: {:#?}", i.warnings);
    };
    noted(
        |j| drop(j.as_object_mut().unwrap().remove("PFC_WD")),
        "sonic_assumed",
        "16 ports have pfcwd_sw_enable and no row in PFC_WD",
    );
    noted(
        |j| j["SCHEDULER"]["bulk"]["cir"] = "1000".into(),
        "sonic_not_modelled",
        "SCHEDULER|bulk: guaranteed rate (cir)",
    );
    noted(
        |j| j["BUFFER_PROFILE"]["egress_lossy_profile"]["packet_discard_action"] = "trim".into(),
        "sonic_not_modelled",
        "BUFFER_PROFILE.packet_discard_action (1)",
    );
    noted(
        |j| j["POLICER"] = serde_json::json!({"p": {}}),
        "sonic_not_modelled",
        "tables not read: POLICER (1)",
    );
    noted(
        |j| j["PORT"]["Ethernet4"]["pfc_asym"] = "on".into(),
        "sonic_not_modelled",
        "asymmetric PFC (1 ports)",
    );
    noted(
        |j| j["PORT_QOS_MAP"]["Ethernet0"]["pfc_enable"] = "3".into(),
        "sonic_can_drop",
        "priority group 4 has headroom",
    );
    noted(
        |j| j["BUFFER_POOL"]["ingress_lossless_pool"]["xoff"] = "200000".into(),
        "sonic_can_drop",
        "shared headroom pool of 200000 B for 1497600 B that 8 ports may need at once",
    );
}

#[test]
fn links_modes_and_defaults_that_differ_on_the_switch_are_listed() {
    let json = |change: fn(&mut Value)| {
        let mut json: Value = serde_json::from_str(OWN_CONFIG).unwrap();
        change(&mut json);
        Database::parse(&[("config_db.json", &json.to_string())]).unwrap()
    };
    let table = Lookup::parse("pg_profile_lookup.ini", OWN_LOOKUP).unwrap();
    let wanted = Wanted { ports: ports(8, 100_000, 5), fec: Some(true), ..Wanted::default() };
    let noted = |change: fn(&mut Value), code: &str, what: &str| {
        let i = resolve(&json(change), Some(&table), &wanted).unwrap();
        assert!(says(&i, code, what), "{what}: {:#?}", i.warnings);
    };
    let plain = resolve(&json(|_| {}), Some(&table), &wanted).unwrap();
    let quiet =
        ["admin_status", "fec", "of mode", "no type", "restoration_time", "BIG_RED", "outside the run"];
    for word in quiet {
        assert!(!plain.warnings.iter().any(|(_, t)| t.contains(word)), "{word}: {:#?}", plain.warnings);
    }
    fn each(j: &mut Value, table: &str, field: &str, value: &str) {
        j[table].as_object_mut().unwrap().values_mut().for_each(|row| row[field] = value.into());
    }
    noted(
        |j| j["PFC_WD"]["GLOBAL"]["BIG_RED_SWITCH"] = "enable".into(),
        "sonic_not_modelled",
        "PFC_WD|GLOBAL: BIG_RED_SWITCH: enable",
    );
    noted(
        |j| each(j, "PORT", "admin_status", "down"),
        "sonic_ports_differ",
        "admin_status = down on 8 ports (Ethernet0, Ethernet4, Ethernet8, ...)",
    );
    noted(
        |j| each(j, "PORT", "fec", "none"),
        "sonic_ports_differ",
        "fec = none on 8 ports (Ethernet0, Ethernet4, Ethernet8, ...), the run's links have RS-FEC",
    );
    noted(
        |j| each(j, "BUFFER_POOL", "mode", "static"),
        "sonic_assumed",
        "BUFFER_PROFILE|ingress_lossy_profile has dynamic_th in config_db.json: BUFFER_POOL|ingress_lossless_pool of mode static",
    );
    noted(
        |j| j["BUFFER_POOL"]["egress_lossless_pool"]["mode"] = "dynamic".into(),
        "sonic_assumed",
        "BUFFER_PROFILE|egress_lossless_profile has static_th in",
    );
    noted(
        |j| drop(j["SCHEDULER"]["bulk"].as_object_mut().unwrap().remove("type")),
        "sonic_assumed",
        "SCHEDULER|bulk: no type: DWRR is taken",
    );
    let forever =
        |j: &mut Value| drop(j["PFC_WD"]["Ethernet0"].as_object_mut().unwrap().remove("restoration_time"));
    noted(forever, "sonic_assumed", "without restoration_time: a stuck queue is never restored");
    let i = resolve(&json(forever), Some(&table), &wanted).unwrap();
    assert!(i.profiles[0].watchdog.unwrap().restore > Span::from_us(24 * 3_600 * 1_000_000));
    // A port that is down is not taken while others are up.
    let i = resolve(&json(|j| j["PORT"]["Ethernet0"]["admin_status"] = "down".into()), Some(&table), &wanted)
        .unwrap();
    assert_eq!(i.ports[0].as_deref(), Some("Ethernet4"));
}

#[test]
fn ports_outside_the_run_that_reserve_nothing_take_one_line() {
    let table: String =
        OWN_LOOKUP.lines().filter(|l| !l.contains(" 40m")).map(|l| format!("{l}\n")).collect();
    let table = Lookup::parse("pg_profile_lookup.ini", &table).unwrap();
    let db = Database::parse(&[("config_db.json", OWN_CONFIG)]).unwrap();
    let wanted = Wanted { ports: ports(8, 100_000, 5), ..Wanted::default() };
    let i = resolve(&db, Some(&table), &wanted).unwrap();
    let all: Vec<&String> =
        i.warnings.iter().map(|(_, t)| t).filter(|t| t.contains("outside the run")).collect();
    let [one] = all.as_slice() else { panic!("{all:#?}") };
    assert!(
        one.starts_with("4 ports (Ethernet48, Ethernet52, Ethernet56, ...) outside the run reserve nothing")
            && one.contains("no line `100000 40m`"),
        "{one}"
    );
    let Some(dir) = real() else { return };
    let db = database(&dir, &["buffers/buffer-ft2-p64.json", "qos/qos-arista7060x6.json"]);
    let table = lookup(&dir, "arista7060x6-64pe-b-P32O64.ini");
    let wanted = Wanted { ports: ports(5, 800_000, 5), cell: Some(254), ..Wanted::default() };
    let i = resolve(&db, Some(&table), &wanted).unwrap();
    assert!(i.warnings.len() < 12, "{} remarks: {:#?}", i.warnings.len(), i.warnings);
    assert!(says(&i, "sonic_assumed", "64 ports (Ethernet4, Ethernet12, Ethernet20, ...) outside the run"));
}

#[test]
fn watchdogs_shapers_and_drop_profiles_are_modelled() {
    let i = changed(|j| {
        j["PFC_WD"] = serde_json::json!({
            "GLOBAL": {"POLL_INTERVAL": "200"},
            "Ethernet0": {"action": "forward", "detection_time": "400", "restoration_time": "600"},
        });
        j["SCHEDULER"]["bulk"]["pir"] = "1250000000".into();
        j["SCHEDULER"]["bulk"]["pbs"] = "9000".into();
        j["WRED_PROFILE"]["ROCE_ECN"]["ecn"] = "ecn_none".into();
    })
    .unwrap();
    let watchdog = Watchdog {
        detect: Span::from_us(400_000),
        restore: Span::from_us(600_000),
        action: WatchdogAction::Forward,
    };
    assert_eq!(i.profiles[0].watchdog, Some(watchdog));
    assert!(i.profiles[1..].iter().all(|p| p.watchdog.is_none()));
    assert!(says(&i, "sonic_ports_own", "have their own watchdog"), "{:#?}", i.warnings);
    // pir is in bytes per second: 10 Gb/s.
    let shaped: Vec<_> = i.priorities.iter().filter_map(|p| p.shaper).collect();
    assert!(!shaped.is_empty() && shaped.iter().all(|s| (s.rate, s.burst) == (Rate::gbps(10), Bytes(9_000))));
    assert!(
        i.priorities.iter().filter_map(|p| p.green()).all(|w| !w.ecn),
        "ecn_none drops what it would mark"
    );
    let refused = |field: &str, value: &str| {
        changed(|j| j["PFC_WD"] = serde_json::json!({"Ethernet0": {"action": "drop", field: value}}))
            .unwrap_err()
    };
    let action = refused("action", "explode");
    assert!(
        action.contains("PFC_WD|Ethernet0: action: \"explode\" is none of drop, forward, alert"),
        "{action}"
    );
    assert!(refused("detection_time", "0").contains("detection_time: must be at least 1 ms"));
}

#[test]
fn pools_of_their_own_and_a_ratio_for_the_headroom_are_modelled() {
    let i = changed(|j| {
        j["BUFFER_POOL"]["ingress_lossy_pool"] =
            serde_json::json!({"type": "ingress", "mode": "dynamic", "size": "2080000"});
        j["BUFFER_PROFILE"]["ingress_lossy_profile"]["pool"] = "ingress_lossy_pool".into();
        j["BUFFER_POOL"]["ingress_lossless_pool"].as_object_mut().unwrap().remove("xoff");
        j["DEFAULT_LOSSLESS_BUFFER_PARAMETER"] =
            serde_json::json!({"AZURE": {"default_dynamic_th": "-2", "over_subscribe_ratio": "2"}});
    })
    .unwrap();
    let names: Vec<&str> = i.ingress_pools.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["ingress_lossless_pool", "ingress_lossy_pool"]);
    assert_eq!((i.priorities[0].pool, i.priorities[3].pool), (1, 0));
    assert_eq!(i.ingress_pools[1].shared, Some(Bytes(2_080_000)), "10,000 cells, nothing reserved");
    // 12 ports with 5 m and 4 with 40 m of cable, two groups each, half of it.
    let table = Lookup::parse("t", OWN_LOOKUP).unwrap();
    let xoff = |cable| table.find(100_000, cable).unwrap().xoff;
    assert_eq!(i.ingress_pools[0].headroom, Some(Bytes((12 * 2 * xoff(5) + 4 * 2 * xoff(40)) / 2)));
    assert!(
        says(&i, "sonic_can_drop", "shared headroom pool of")
            || i.ingress_pools[0].headroom.unwrap().0 > 1_497_600
    );
}

#[test]
fn a_switch_with_virtual_output_queues_is_refused_by_name() {
    let refused = |field: &str, value: &str| {
        let mut json: Value = serde_json::from_str(OWN_CONFIG).unwrap();
        json["DEVICE_METADATA"]["localhost"][field] = value.into();
        let db = Database::parse(&[("config_db.json", &json.to_string())]).unwrap();
        let lookup = Lookup::parse("pg_profile_lookup.ini", OWN_LOOKUP).unwrap();
        // Neither the profile's cell nor its buffer and headroom make it one with a shared buffer.
        let given =
            Wanted { cell: Some(254), buffer: Some(Bytes(1 << 25)), headroom: true, ..Wanted::default() };
        for given in [Wanted::default(), given] {
            let wanted = Wanted { ports: ports(8, 100_000, 5), ..given };
            let text = resolve(&db, Some(&lookup), &wanted).unwrap_err().to_string();
            let place = format!("config_db.json: DEVICE_METADATA|localhost: {field}: \"{value}\"");
            assert!(text.starts_with(&place), "{text}");
            assert!(text.contains("no shared-buffer switch") && !text.contains('\n'), "{text}");
        }
    };
    for name in ["Nokia-IXR7250E-36x400G", "UFISPACE-S9710-76D", "Arista-7800R3A-36DM2-C36", "X-J2C-48D"] {
        refused("hwsku", name);
    }
    refused("hwsku", "Arista-7280CR3-C40");
    refused("platform", "x86_64-nokia_ixr7250e_36x400g-r0");
    for kind in ["voq", "chassis-packet", "fabric"] {
        refused("switch_type", kind);
    }
    let table = changed(|j| j["SYSTEM_PORT"] = serde_json::json!({"h|asic0|Ethernet0": {}})).unwrap_err();
    assert!(
        table.starts_with("config_db.json: SYSTEM_PORT: is a table of chassis with VOQ chips"),
        "{table}"
    );
}

#[test]
fn what_of_the_device_acts_and_is_not_read_is_listed() {
    let i = changed(|j| {
        let device = &mut j["DEVICE_METADATA"]["localhost"];
        device["switch_type"] = "dpu".into();
        device["buffer_model"] = "dynamic".into();
        device["default_pfcwd_status"] = "enable".into();
        device["sub_role"] = "FrontEnd".into();
        device["bgp_asn"] = "65100".into();
        j.as_object_mut().unwrap().remove("PFC_WD");
    })
    .unwrap();
    let listed = |code: &str, what: &str| assert!(says(&i, code, what), "{what}: {:#?}", i.warnings);
    listed("sonic_not_modelled", "fields not read: DEVICE_METADATA.sub_role (1)");
    listed("sonic_not_modelled", "switch_type: \"dpu\": taken as a plain switch");
    listed("sonic_assumed", "buffer_model: dynamic");
    listed("sonic_assumed", "default_pfcwd_status: enable, but no port has a row in PFC_WD");
}

fn profile_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/incast-sonic.toml")
}

#[test]
fn a_profile_runs_on_the_configuration() {
    let plan = profile::load(&profile_path(), &Overrides::default()).unwrap();
    let switch = &plan.fabric.switches[0];
    let imported = own(OWN_CONFIG).unwrap();
    assert_eq!(switch.of_port(0).priorities, imported.priorities);
    assert_eq!(switch.profiles.len(), 1, "all ports of the run are alike");
    assert_eq!(
        Some(switch.shared_size().unwrap()),
        imported.shared,
        "the pool does not depend on the run's ports"
    );
    assert_eq!(switch.ports[3].name, "Ethernet12");
    assert_eq!((plan.classes[0].priority, plan.classes[0].lossless), (3, true));
    assert_eq!(plan.predicted.headroom.unwrap().configured, Bytes(93_600));
    assert_eq!(switch.maps.group, [0, 0, 0, 3, 4, 0, 0, 0]);
    assert_eq!(switch.slices, Slices::Crosspoints, "a 7060CX has a Tomahawk 1");
    let pipes: Vec<u8> = switch.ports.iter().map(|p| p.pipe).collect();
    assert_eq!(pipes, [0; 8], "32 lanes each");
    let table = Lookup::parse("pg_profile_lookup.ini", OWN_LOOKUP).unwrap();
    let db = Database::parse(&[("config_db.json", OWN_CONFIG)]).unwrap();
    let wanted = Wanted { ports: named(&["Ethernet28", "Ethernet32"], 100_000, 40), ..Wanted::default() };
    let i = resolve(&db, Some(&table), &wanted).unwrap();
    assert_eq!(i.pipes, [Some(0), Some(1)], "the ninth port begins with lane 33");

    let again = profile::from_str("again.toml", &plan.effective, &Overrides::default()).unwrap();
    assert_eq!(again.fabric.switches[0].profiles, switch.profiles);
    assert_eq!(again.fabric.switches[0].buffer, switch.buffer);
    assert_eq!((again.effective, again.warnings), (plan.effective, plan.warnings));
}

#[test]
fn keys_of_the_profile_act_on_top() {
    let set = |set: &[&str]| {
        let overrides = Overrides { set: set.iter().map(|s| (*s).into()).collect(), ..Overrides::default() };
        profile::load(&profile_path(), &overrides)
    };
    let plan = set(&["switch.alpha=1", "switch.xoff_headroom=20 kB"]).unwrap();
    let p = plan.fabric.switches[0].of_port(0).priorities[3];
    assert_eq!((p.limit, p.headroom, p.reserved), (Limit::Dynamic(1, 1), Bytes(20_000), Bytes(1_248)));
    assert!(plan.warnings.iter().any(|(c, t)| c == "headroom_too_small" && t.contains("20000 B")));
    let lossy = set(&["class.roce.dscp=46", "class.roce.lossless=true"]).unwrap();
    assert!(lossy.warnings.iter().any(|(c, t)| c == "class_and_switch_differ" && t.contains("may drop")));
    let watchdog = "switch.pfc_watchdog={detect=\"1 ms\",restore=\"1 ms\",action=\"explode\"}";
    let explode = set(&[watchdog]).unwrap_err().to_string();
    assert_eq!(
        explode,
        format!(
            "--set {watchdog}: action = \"explode\": unknown value \"explode\"; known: drop, forward, alert"
        )
    );
    let missing = set(&["switch.config=nothing.json"]).unwrap_err().to_string();
    assert!(missing.contains("nothing.json cannot be read") && !missing.contains('\n'), "{missing}");
}

#[test]
fn a_dot1p_map_beside_a_dscp_map_classifies_nothing() {
    let i = changed(|j| {
        j["DOT1P_TO_TC_MAP"] = serde_json::json!({"TAGS": {"5": "3"}});
        j["PORT_QOS_MAP"]
            .as_object_mut()
            .unwrap()
            .values_mut()
            .for_each(|p| p["dot1p_to_tc_map"] = "TAGS".into());
    })
    .unwrap();
    assert_eq!((i.pcp_map, i.dscp_map[26]), (None, 3));
    assert!(
        says(&i, "sonic_not_modelled", "DOT1P_TO_TC_MAP|TAGS beside a dscp_to_tc_map: IP frames go by DSCP"),
        "{:#?}",
        i.warnings
    );
}

// --- Broken files ----------------------------------------------------------------------------------------------------

const JUNK: [&str; 14] = [
    "\"\"",
    "\"x\"",
    "\"-1\"",
    "\"99999999999999999999\"",
    "\"4294967295\"",
    "\"7\"",
    "null",
    "[]",
    "[[1]]",
    "{}",
    "3.5",
    "\"NULL\"",
    "\"[NOPE|x]\"",
    "true",
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_read_or_refused(cuts in prop::collection::vec((0usize..12_000, 0usize..40, ".{0,6}"), 1..4)) {
        let mut text: Vec<char> = OWN_CONFIG.chars().collect();
        for (at, length, put) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, put.chars());
        }
        if let Err(e) = own(&text.into_iter().collect::<String>()) {
            prop_assert!(e.to_string().starts_with("config_db.json"), "{e}");
            prop_assert!(!e.to_string().contains('\n'));
        }
    }

    #[test]
    fn a_bad_field_is_named(table in any::<prop::sample::Index>(), key in any::<prop::sample::Index>(),
                            field in any::<prop::sample::Index>(), junk in 0..JUNK.len()) {
        let mut json: Value = serde_json::from_str(OWN_CONFIG).unwrap();
        let (table, rows) = { let t = json.as_object_mut().unwrap(); let n = table.index(t.len()); t.iter_mut().nth(n).unwrap() };
        let (key, row) = { let r = rows.as_object_mut().unwrap(); let n = key.index(r.len()); r.iter_mut().nth(n).unwrap() };
        let (field, value) = { let f = row.as_object_mut().unwrap(); let n = field.index(f.len()); f.iter_mut().nth(n).unwrap() };
        let (table, key, field) = (table.clone(), key.clone(), field.clone());
        *value = serde_json::from_str(JUNK[junk]).unwrap();
        if let Err(e) = own(&json.to_string()) {
            let text = e.to_string();
            prop_assert!(text.starts_with("config_db.json: "), "{text}");
            // What another table refers to may be complained about there.
            let elsewhere = ["DEVICE_METADATA", "PORT", "CABLE_LENGTH", "BUFFER_POOL", "PORT_QOS_MAP"];
            let maps = table.contains("MAP");
            let too_much = text.contains("that all ports reserve");
            if !maps && !too_much && !elsewhere.contains(&table.as_str()) {
                prop_assert!(text.contains(&format!("{table}|{key}")), "{table}|{key} {field}: {text}");
            }
        }
    }

    #[test]
    fn any_lookup_table_is_read_or_refused(text in "([0-9]{1,6} [0-9]{1,4}m? [0-9]{1,5}( [-0-9a-z]{1,6}){0,5}\n){0,4}") {
        if let Err(e) = Lookup::parse("t.ini", &text) {
            prop_assert!(e.to_string().starts_with("t.ini"));
        }
    }
}
