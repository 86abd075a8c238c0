//! What `check` and the screen of a run say about settings that surprise: each warning with its place and its fix, and no
//! verdict that hides what was lost.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{rankstorm, shipped, text};

/// Words of what a command printed, with single spaces; its exit code must be `code`.
fn said(args: &[&str], code: i32) -> String {
    let o = rankstorm(args);
    assert_eq!(o.status.code(), Some(code), "{args:?}\n{}{}", text(&o.stderr), text(&o.stdout));
    text(&o.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn put(dir: &Path, text: &str) -> String {
    let path = dir.join("p.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn check(profile: &str, set: &[&str]) -> String {
    let set = set.iter().flat_map(|s| ["--set", s]);
    said(&["check", profile].into_iter().chain(set).collect::<Vec<_>>(), 0)
}

fn run(profile: &str, set: &[&str], code: i32) -> String {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut args = vec!["run", profile, "--on", "virtual", "--quiet", "--out", out.to_str().unwrap()];
    args.extend(set.iter().flat_map(|s| ["--set", s]));
    said(&args, code)
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

/// Two streams into one port, one lossless and one lossy.
const SHARED_PORT: &str = r#"
name = "shared"
[run]
limit = "1 s"
[[stream]]
from = 0
to = 2
class = "lossy"
load = "100 %"
duration = "200 us"
[[stream]]
from = 1
to = 2
class = "roce"
load = "100 %"
duration = "200 us"
[class.roce]
dscp = 3
[class.lossy]
dscp = 0
[switch]
wred = { kmin = "100 kB", kmax = "400 kB", pmax = 0.5 }
ports = { count = 3, rate = "100G" }
"#;

#[test]
fn wred_that_drops_a_lossless_class_is_told_before_and_with_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let profile = put(dir.path(), SHARED_PORT);
    assert!(!check(&profile, &[]).contains("wred_drops_lossless"), "marks are no drops");
    let off = ["class.roce.ecn=\"off\""];
    let warning = "class roce: ecn = \"off\", so WRED of switch sw0 drops its frames (data) in lossless priority 3 once \
        100000 B wait in the queue, which no pause prevents; set class.roce.ecn = \"ect0\", or set switch.wred = \"off\"";
    has(&check(&profile, &off), &["WARNING wred_drops_lossless:", warning]);
    let screen = run(&profile, &off, 0);
    has(&screen, &[warning, "[wred_drops_lossless]", "DROPS wred "]);
    let none = check(&profile, &[off[0], "switch.wred=\"off\""]);
    assert!(!none.contains("wred_drops_lossless"), "{none}");
    // A lossy class may be dropped; a lossless one that nothing uses loses nothing.
    assert!(!check(&profile, &["class.lossy.ecn=\"off\""]).contains("wred_drops_lossless"));
    let unused = check(&profile, &[off[0], "stream[1].class=\"lossy\""]);
    assert!(!unused.contains("wred_drops_lossless"), "{unused}");
}

/// The shipped SONiC switch, its WRED profile without ECN.
#[test]
fn a_sonic_wred_profile_without_ecn_on_a_lossless_queue_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("sonic");
    fs::create_dir(&folder).unwrap();
    let from = shipped("x").parent().unwrap().join("sonic");
    for file in fs::read_dir(&from).unwrap() {
        let file = file.unwrap();
        let content = fs::read_to_string(file.path()).unwrap();
        let content = content.replace("\"ecn_all\"", "\"ecn_none\"").replace("\"ecn_green\"", "\"ecn_none\"");
        fs::write(folder.join(file.file_name()), content).unwrap();
    }
    let profile = put(dir.path(), &fs::read_to_string(shipped("incast-sonic")).unwrap());
    has(
        &check(&profile, &[]),
        &[
            "WARNING wred_drops_lossless: class roce: WRED of its queue has no ECN for green frames, so WRED of switch",
            "drops its frames (data, ACKs",
            "in lossless priority 3 once",
            "let the queue's WRED_PROFILE mark them (ecn = \"ecn_all\"), or set switch.wred = \"off\"",
        ],
    );
    let marked = check(shipped("incast-sonic").to_str().unwrap(), &[]);
    assert!(!marked.contains("wred_drops_lossless"), "{marked}");
}

const LEAF_SPINE: &str = r#"
name = "ls"
[run]
limit = "1 s"
[fabric]
kind = "leaf-spine"
leaves = 2
spines = 2
hosts_per_leaf = 2
[[workload]]
name = "ring"
kind = "ring-all-reduce"
ranks = 4
vector = "64 KiB"
placement = "interleaved"
[class.roce]
dscp = 3
[switch]
balance = "ecmp"
ports = { rate = "100G" }
"#;

#[test]
fn balance_that_reorders_names_selective_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let profile = put(dir.path(), LEAF_SPINE);
    let fix = "go-back-N answers each that is early with a NAK and a retransmission of all from the gap on; set \
        retransmission = \"selective-repeat\" in this workload, or switch.balance = \"ecmp\"";
    for (set, how) in [
        (
            &["switch.balance=\"flowlet\"", "switch.flowlet_gap=\"1 us\""][..],
            "\"flowlet\" moves a flow after 1",
        ),
        (&["switch.balance=\"spray\""], "\"spray\" sends every frame another way"),
        (&["switch.balance=\"adaptive\"", "switch.flowlet_gap=\"0 us\""], "chooses a way for every frame"),
    ] {
        let said = check(&profile, set);
        has(&said, &["WARNING reordering_sent_again: workload ring: switch.balance =", how, fix]);
        let all: Vec<&str> =
            set.iter().copied().chain(["workload[0].retransmission=\"selective-repeat\""]).collect();
        let said = check(&profile, &all);
        assert!(!said.contains("reordering_sent_again"), "{said}");
    }
    for balance in ["switch.balance=\"ecmp\"", "switch.balance=\"pinned\""] {
        assert!(!check(&profile, &[balance]).contains("reordering_sent_again"));
    }
    // One way only: nothing overtakes.
    let one = check(&profile, &["switch.balance=\"spray\"", "fabric.spines=1"]);
    assert!(!one.contains("reordering_sent_again"), "{one}");
}

#[test]
fn cut_through_beside_faster_ports_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mixed = SHARED_PORT.to_owned()
        + "cut_through = true\n[[port]]\nname = \"a\"\nrate = \"400G\"\n[[port]]\nname = \"b\"\n\
        [[port]]\nname = \"c\"\n";
    let profile = put(dir.path(), &mixed);
    let said = check(&profile, &[]);
    has(
        &said,
        &[
            "WARNING cut_through_stores: switch sw0: cut_through, but frames that come in slower than 400G (2 ports, ",
            "are stored whole before they are forwarded, to ports of their own rate too",
        ],
    );
    for set in ["switch.cut_through=false", "port[0].rate=\"100G\""] {
        assert!(!check(&profile, &[set]).contains("cut_through_stores"), "{set}");
    }
}
