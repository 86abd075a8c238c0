//! What a user sees of a SONiC configuration: `check` and a run, on the example's with one change.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use rankstorm::profile::{self, Overrides};
use serde_json::Value;

const OWN_CONFIG: &str = include_str!("../profiles/sonic/config_db.json");
const OWN_LOOKUP: &str = include_str!("../profiles/sonic/pg_profile_lookup.ini");

fn profile_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/incast-sonic.toml")
}

/// A folder with the example's profile and its configuration, the latter with one change.
fn folder(change: impl FnOnce(&mut Value)) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let mut json: Value = serde_json::from_str(OWN_CONFIG).unwrap();
    change(&mut json);
    std::fs::create_dir(dir.path().join("sonic")).unwrap();
    std::fs::write(dir.path().join("sonic/config_db.json"), json.to_string()).unwrap();
    std::fs::write(dir.path().join("sonic/pg_profile_lookup.ini"), OWN_LOOKUP).unwrap();
    let profile = dir.path().join("incast-sonic.toml");
    std::fs::copy(profile_path(), &profile).unwrap();
    (dir, profile)
}

/// What the program prints, and its exit code.
fn rankstorm(args: &[&str]) -> (String, i32) {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_rankstorm")).args(args).output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    // Lines of `check` are folded.
    let text = String::from_utf8(text).unwrap();
    (text.split_whitespace().collect::<Vec<_>>().join(" "), out.status.code().unwrap())
}

#[test]
fn check_names_frames_above_the_mtu_and_a_dscp_that_the_map_lacks() {
    let (_dir, profile) = folder(|j| {
        j["PORT"].as_object_mut().unwrap().values_mut().for_each(|p| p["mtu"] = "1500".into());
    });
    let (text, code) = rankstorm(&["check", profile.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("sonic_can_drop: config_db.json: PORT|Ethernet0: mtu: 1500 is below the 4156 bytes"),
        "{text}"
    );
    assert!(text.contains("and so on 7 more ports") && text.contains("lower class.roce.mtu"), "{text}");

    let (_dir, profile) = folder(|j| drop(j["DSCP_TO_TC_MAP"]["ROCE"].as_object_mut().unwrap().remove("26")));
    let path = profile.to_str().unwrap();
    let (text, _) = rankstorm(&["check", path]);
    assert!(
        text.contains("class roce: DSCP 26 is not in config_db.json: DSCP_TO_TC_MAP|ROCE")
            && text.contains("priority 0, lossy; add it there, or [switch.dscp_map] \"26\""),
        "{text}"
    );
    let (text, _) = rankstorm(&["check", path, "--set", "switch.dscp_map.26=3"]);
    assert!(!text.contains("is not in config_db.json"), "{text}");
}

/// Only PCPs are trusted: PCP 5 is the lossless class 3, PCP 3 is class 1.
fn by_dot1p(j: &mut Value) {
    j["DOT1P_TO_TC_MAP"] =
        serde_json::json!({"TAGS": {"0": "1", "1": "0", "2": "2", "3": "1", "4": "4", "5": "3", "6": "6"}});
    for port in j["PORT_QOS_MAP"].as_object_mut().unwrap().values_mut() {
        port.as_object_mut().unwrap().remove("dscp_to_tc_map");
        port["dot1p_to_tc_map"] = "TAGS".into();
    }
}

#[test]
fn frames_go_by_their_vlan_tag_where_only_a_dot1p_map_is_bound() {
    let (dir, profile) = folder(by_dot1p);
    let load = |set: &[&str]| {
        let set = set.iter().map(|s| (*s).into()).collect();
        profile::load(&profile, &Overrides { set, ..Overrides::default() })
    };
    let plan = load(&["class.roce.vlan=10", "class.roce.pcp=5"]).unwrap();
    let class = &plan.classes[0];
    assert_eq!((class.priority, class.lossless, class.ack_priority, class.cnp_priority), (3, true, 3, 6));
    assert_eq!(class.pcps(), [5, 5, 6]);
    let switch = &plan.fabric.switches[0];
    assert_eq!((switch.pcp_map, switch.dscp_map), (Some([1, 0, 2, 1, 4, 3, 6, 0]), [0; 64]));
    let again = profile::from_str("again.toml", &plan.effective, &Overrides::default()).unwrap();
    assert_eq!((again.classes, again.effective), (plan.classes.clone(), plan.effective.clone()));

    // Without pcp it is the class's priority; where that leads elsewhere, the error names the right one.
    let refused = load(&["class.roce.vlan=10", "class.roce.priority=3"]).unwrap_err().to_string();
    assert!(refused.contains("the switch puts PCP 3 into priority 1; give pcp = 5"), "{refused}");
    let four = load(&["class.roce.vlan=10", "class.roce.priority=4"]).unwrap();
    assert_eq!((four.classes[0].pcps()[0], four.classes[0].lossless), (4, true));
    // Untagged frames are in traffic class 0, whatever their DSCP.
    let untagged = load(&[]).unwrap();
    assert_eq!((untagged.classes[0].priority, untagged.classes[0].lossless), (0, false));
    let refused = load(&["class.roce.priority=3"]).unwrap_err().to_string();
    assert!(refused.contains("untagged frames are in priority 0; give the class a vlan"), "{refused}");
    let refused = load(&["class.roce.pcp=5"]).unwrap_err().to_string();
    assert!(refused.contains("stands in a VLAN tag; give the class a vlan too"), "{refused}");
    let refused = load(&["switch.dscp_map.26=3"]).unwrap_err().to_string();
    assert!(
        refused.contains("goes by the PCP of VLAN tags") && refused.contains("no DSCP acts"),
        "{refused}"
    );

    let path = profile.to_str().unwrap();
    let tagged = ["--set", "class.roce.vlan=10", "--set", "class.roce.pcp=5"];
    let (text, _) = rankstorm(&[&["check", path], tagged.as_slice()].concat());
    assert!(
        text.contains("sonic_dot1p: no dscp_to_tc_map is bound")
            && text.contains("DOT1P_TO_TC_MAP|TAGS")
            && text.contains("class roce (VLAN 10) PCP 5 -> priority 3, ACK PCP 5 -> 3, CNP PCP 6 -> 6"),
        "{text}"
    );
    // As the profile expects of a lossless incast: nothing lost, seven ports paused. Untagged it is lossy.
    let out = dir.path().join("out");
    let short = ["--set", "run.repeats=1", "--on", "virtual", "--quiet", "--out", out.to_str().unwrap()];
    let run = |more: &[&str]| rankstorm(&[&["run", path], short.as_slice(), more].concat());
    let (text, code) = run(&tagged);
    assert_eq!(code, 0, "{text}");
    let (text, _) = rankstorm(&["check", path]);
    assert!(text.contains("class roce is untagged -> priority 0 (give it a vlan)"), "{text}");
    let (text, code) = run(&[]);
    assert_ne!(code, 0, "untagged frames are in no lossless class: {text}");
}
