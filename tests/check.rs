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
    // The queue is lossless whatever the class says of itself.
    has(
        &check(&profile, &["class.roce.lossless=false"]),
        &["wred_drops_lossless", "class_and_switch_differ"],
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

/// `lossless_drops` counts what switches drop; what a link takes that is down is neither hidden nor called a success alone.
#[test]
fn what_a_link_lost_stands_beside_what_switches_dropped() {
    let screen = run(shipped("link-failure").to_str().unwrap(), &[], 0);
    has(
        &screen,
        &[
            "YES, as expected. 2,680 of 20,243 lossless frames lost (13.2 %); counting ACKs and CNPs, links that were down \
             lost 2,711 and switches dropped none.",
            "lossless_drops 0=0 (by switches; links lost 2,711)",
        ],
    );
    // Only ACKs travel over the cable that falls: no data frame is lost.
    let dir = tempfile::tempdir().unwrap();
    let one_way = "name = \"acks\"\n[run]\nlimit = \"1 s\"\n[fabric]\nkind = \"leaf-spine\"\nleaves = 2\nspines = 2\n\
        hosts_per_leaf = 1\n[[workload]]\nkind = \"incast\"\nsenders = 1\nmessage = \"4 MiB\"\nack_timeout = \"500 us\"\n\
        [class.roce]\ndscp = 3\n[switch]\nports = { rate = \"100G\" }\n[[at]]\ntime = \"100 us\"\nlink = { cable = CABLE, \
        state = \"down\" }\n[expect]\nlossless_drops = 0\n";
    let screens: Vec<String> =
        ["\"leaf0 spine0\"", "\"leaf0 spine1\"", "\"leaf1 spine0\"", "\"leaf1 spine1\""]
            .iter()
            .map(|cable| run(&put(dir.path(), &one_way.replace("CABLE", cable)), &[], 0))
            .collect();
    for screen in &screens {
        let lost = screen.contains("DROPS link-down");
        assert_eq!(lost, screen.contains("counting ACKs and CNPs, links that were down lost"), "{screen}");
        assert_eq!(lost, screen.contains("lossless_drops 0=0 (by switches; links lost "), "{screen}");
    }
    let acks_alone = |s: &&String| s.contains("DROPS link-down") && s.contains("YES, as expected. 0 of ");
    assert!(screens.iter().any(|s| acks_alone(&s)), "{screens:#?}");
}

/// An incast into a switch of 4 MB.
const INCAST: &str = r#"
name = "small"
[run]
limit = "1 s"
[[workload]]
kind = "incast"
senders = 4
message = "1 MiB"
ack_timeout = "500 us"
[class.roce]
dscp = 3
[switch]
buffer = "4 MB"
ports = { count = 5, rate = "100G" }
"#;

#[test]
fn no_lossless_drops_without_a_lossless_class_is_no_pass() {
    let dir = tempfile::tempdir().unwrap();
    let profile = put(dir.path(), &(INCAST.to_owned() + "[expect]\nlossless_drops = 0\n"));
    has(&run(&profile, &[], 0), &["YES, as expected", "lossless_drops 0=0"]);
    let screen = run(&profile, &["class.roce.dscp=0"], 1);
    let why = "lossless_drops FAILED (not measured: no class is lossless; use drops = 0)";
    has(&screen, &["FAIL, exit 1", why, "NO: lossless_drops (not measured: no class is lossless"]);
}

#[test]
fn limits_on_the_screen_are_those_that_act() {
    let dir = tempfile::tempdir().unwrap();
    let profile = put(dir.path(), INCAST);
    let lossy = run(&profile, &["class.roce.dscp=0", "switch.lossy_pool=\"1 MB\""], 0);
    has(&lossy, &["1.00 MB ingress pool lossy of 2"]);
    // 4,100 B are 17 cells of 254 B: one frame of 4,158 B fits.
    let tight = run(&profile, &["switch.xoff_headroom=\"4100 B\"", "switch.preset=\"generic-32mib\""], 0);
    has(&tight, &["headroom 4318 B 4318 B 1,0", " frames lost for want of it", "DROPS headroom "]);
}

#[test]
fn an_even_spread_is_no_collision() {
    let ring = check(shipped("deadlock-ring").to_str().unwrap(), &[]);
    assert!(!ring.contains("ecmp_collisions"), "{ring}");
    let failure = check(shipped("link-failure").to_str().unwrap(), &[]);
    has(&failure, &["WARNING ecmp_collisions: ECMP over 4 flows: 2 collisions"]);
}

#[test]
fn spraying_says_that_victims_were_not_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let profile = put(dir.path(), LEAF_SPINE);
    let note = "victims of pauses (ways are not fixed)";
    has(&run(&profile, &["switch.balance=\"spray\""], 0), &["NOT MEASURED", note, "[reordering_sent_again]"]);
    assert!(!run(&profile, &[], 0).contains(note));
}

/// Hosts on two leaves below two spines, each on the leaf with its number, all at 100G with 1 us; the flows and one more
/// file.
fn scenario(dir: &Path, leaves: &[usize], flow: &str, more: Option<(&str, &str)>) -> String {
    let dir = dir.join("hpcc");
    fs::create_dir_all(&dir).unwrap();
    let n = leaves.len();
    let cable = |a: usize, b: usize| format!("{a} {b} 100Gbps 1us 0\n");
    let hosts: String = leaves.iter().enumerate().map(|(host, leaf)| cable(host, n + leaf)).collect();
    let core: String = [(0, 2), (0, 3), (1, 2), (1, 3)].map(|(a, b)| cable(n + a, n + b)).concat();
    let mut config = "CC_MODE 0\nENABLE_QCN 0\nSIMULATOR_STOP_TIME 3.0\nACK_HIGH_PRIO 1\n".to_owned();
    if let Some((key, content)) = more {
        config += &format!("{key} more.txt\n");
        if content != "missing" {
            fs::write(dir.join("more.txt"), content).unwrap();
        }
    }
    fs::write(dir.join("config.txt"), config).unwrap();
    let switches = format!("{} {} {} {}", n, n + 1, n + 2, n + 3);
    fs::write(dir.join("topology.txt"), format!("{} 4 {}\n{switches}\n{hosts}{core}", n + 4, n + 4)).unwrap();
    fs::write(dir.join("flow.txt"), flow).unwrap();
    dir.to_str().unwrap().to_owned()
}

#[test]
fn a_file_of_paths_that_is_gone_is_refused_where_there_is_a_choice() {
    let dir = tempfile::tempdir().unwrap();
    let flow = "1\n0 1 3 100 100000 2\n";
    for key in ["PATH_FILE", "DEP_FILE"] {
        let folder = scenario(dir.path(), &[0, 1], flow, Some((key, "missing")));
        let out = dir.path().join("out");
        let o =
            rankstorm(&["replay", &folder, "--format", "hpcc", "--quiet", "--out", out.to_str().unwrap()]);
        let err = text(&o.stderr);
        assert_eq!((o.status.code(), err.lines().count()), (Some(2), 1), "{err}");
        assert!(err.contains("more.txt") && !out.exists(), "{err}");
        if key == "PATH_FILE" {
            let parts = ["/config.txt: PATH_FILE names more.txt, which is not there", "take the line out"];
            parts.iter().for_each(|part| assert!(err.contains(part), "{err}"));
        }
    }
}

/// By hand, in that simulator's arithmetic: a packet of 1,048 B takes 83 ns at 100G (83.84 cut), an ACK 4 ns.
#[test]
fn the_ideal_of_an_hpcc_replay_is_in_its_own_arithmetic() {
    let dir = tempfile::tempdir().unwrap();
    let report = |leaves: &[usize], flow: &str, more: Option<(&str, &str)>| {
        let folder = scenario(dir.path(), leaves, flow, more);
        let out = dir.path().join("out");
        let args = ["replay", &folder, "--format", "hpcc", "--quiet", "--out", out.to_str().unwrap()];
        let screen = said(&args, 0);
        let r = rankstorm::report::files::read(&out).unwrap();
        let w = &r.workload[0];
        assert!(w.fabric_bound_ns.unwrap() >= w.ideal_ns.unwrap());
        (w.ideal_ns.unwrap(), w.ideal_ratio.unwrap(), screen)
    };
    // Four links there and back, 1 us each; the last packet crosses three more of them.
    let way = 8_000.0 + 4.0 * 4.0;
    let one = 100.0 * 83.0 + 3.0 * 83.0 + way;
    let (ideal, ratio, screen) = report(&[0, 1], "1\n0 1 3 100 100000 2\n", None);
    assert_eq!((ideal, ratio), (one, 1.0));
    has(&screen, &["It took 1.000x its ideal"]);
    // Two into one port: its link carries all 200 packets.
    let (ideal, ratio, _) = report(&[0, 0, 1], "2\n0 2 3 100 100000 2\n1 2 3 100 100000 2\n", None);
    assert_eq!(ideal, 200.0 * 83.0 + 3.0 * 83.0 + way);
    assert!((1.0..2.0).contains(&ratio), "{ratio}");
    // One after the other's end, from another host: both in a chain.
    let (ideal, ratio, _) =
        report(&[0, 0, 1], "2\n0 2 3 100 100000 2\n2 1 3 100 100000 2\n", Some(("DEP_FILE", "1 0\n")));
    assert_eq!((ideal, ratio), (2.0 * one, 1.0));
}
