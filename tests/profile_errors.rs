//! What a user reads when a profile is wrong: one line with place, key, and fix.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use rankstorm::profile::{self, Overrides};

const GOOD: &str = r#"name = "t"
[run]
repeats = 2
limit = "1 s"
[[workload]]
kind = "incast"
senders = 4
message = "1 MiB"
[class.roce]
dscp = 3
[switch]
ports = { count = 5, rate = "100G" }
[expect]
lossless_drops = 0
"#;

fn complaint(text: &str, set: &[&str]) -> String {
    let set = set.iter().map(|s| s.to_string()).collect();
    let over = Overrides { set, ..Overrides::default() };
    match profile::from_str("p.toml", text, &over) {
        Ok(_) => "fine".into(),
        Err(e) => e.to_string(),
    }
}

/// (what is replaced, by what, the line the user reads)
#[rustfmt::skip]
const BROKEN: &[(&str, &str, &str)] = &[
    ("senders = 4", "sendres = 4",
        r#"p.toml:7:1: unknown key "sendres" in [[workload]]; did you mean "senders"?"#),
    (r#"message = "1 MiB""#, r#"message = "4 MiX""#,
        r#"p.toml:8:11: message = "4 MiX": unknown size unit "MiX"; use B, kB, MB, GB, KiB, MiB, GiB"#),
    (r#"message = "1 MiB""#, "message = 4",
        r#"p.toml:8:11: message = 4: 4 has no unit; write a size in quotes like "4 MiB" or "9000 B""#),
    (r#"message = "1 MiB""#, r#"message = "3 GiB""#,
        r#"p.toml:8:11: message = "3 GiB": must be from 0 B to 2147483648 B"#),
    (r#"kind = "incast""#, r#"kind = "incats""#,
        r#"p.toml:6:8: kind = "incats": unknown value "incats"; did you mean "incast"?"#),
    (r#"kind = "incast""#, "# kind",
        "p.toml:5:1: kind is missing; one of incast, ring-all-reduce, replay"),
    ("senders = 4", "# senders",
        "p.toml:5:1: senders is missing; incast needs it, for example senders = 32"),
    ("senders = 4", "senders = 0",
        "p.toml:7:11: senders = 0: must be from 1 to 1048576"),
    ("senders = 4", "senders = -4",
        "p.toml:7:11: senders = -4: got integer -4, needs a whole number from 0 to 4294967295"),
    ("senders = 4", r#"senders = "four""#,
        r#"p.toml:7:11: senders = "four": got string "four", needs a whole number from 0 to 4294967295"#),
    ("senders = 4", "senders = 32",
        "p.toml:7:11: senders = 32: needs 33 ranks, the receiver included; the run has 5 on 5 ports: add ports (switch.ports.count, or hosts_per_leaf) or set ranks_per_port"),
    ("senders = 4", "senders = 4
ranks = 4",
        r#"p.toml:8:9: ranks = 4: is no key of kind = "incast"; remove it"#),
    ("senders = 4", "senders = 4
receiver = 9",
        "p.toml:8:12: receiver = 9: the run has ranks 0 to 4"),
    ("senders = 4", r#"senders = 4
rate_control = "dcqcn:hpc""#,
        r#"p.toml:8:16: rate_control = "dcqcn:hpc": no such set; did you mean "dcqcn:hpcc"?"#),
    ("senders = 4", r#"senders = 4
rate_control = "fixed:25""#,
        r#"p.toml:8:16: rate_control = "fixed:25": a rate needs a unit; write it like "100G" or "25 Mb/s""#),
    ("senders = 4", r#"senders = 4
class = "roco""#,
        r#"p.toml:8:9: class = "roco": there is no [class.roco]; did you mean "roce"?"#),
    ("senders = 4", r#"senders = 4
start = { skew = "1 us", uniform = "1 us" }"#,
        r#"p.toml:8:9: start = { skew = "1 us", uniform = "1 us" }: has both skew and uniform; keep one"#),
    (r#"kind = "incast"
senders = 4
message = "1 MiB""#, r#"kind = "replay"
file = "nowhere.goal""#,
        r#"p.toml:7:8: file = "nowhere.goal": cannot be read: No such file or directory (os error 2); give a path beside the profile"#),
    ("dscp = 3", "dscp = 26
priority = 3",
        r#"p.toml:11:12: priority = 3: the switch puts DSCP 26 into priority 1 (24 and 26 are lossy there); use a DSCP of that priority (3 -> 3, 4 -> 4) or add [switch.dscp_map] "26" = 3"#),
    ("dscp = 3", "dscp = 64",
        "p.toml:10:8: dscp = 64: must be from 0 to 63"),
    ("dscp = 3", "dscp = 3
mtu = 1500",
        "p.toml:11:7: mtu = 1500: must be an RDMA path MTU: 256, 512, 1024, 2048 or 4096"),
    ("[class.roce]", "[class.other]
dscp = 3
lossless = false
[class.roce]",
        "p.toml:12:1: lossless: class other on the same priority 3 says false; a priority is lossless or lossy for all of its classes"),
    ("count = 5", "count = 5, clock_ppm = 2000",
        "p.toml:12:34: clock_ppm = 2000: must be from -1000 to 1000; 802.3 allows 100"),
    ("count = 5", "count = 5000",
        "p.toml:12:19: count = 5000: must be from 1 to 1024"),
    (r#"rate = "100G""#, r#"rate = "100 GB""#,
        r#"p.toml:12:29: rate = "100 GB": unknown rate unit "GB"; use b/s, kb/s, Mb/s, Gb/s, Tb/s or M, G, T"#),
    (r#"rate = "100G""#, r#"rate = "0G""#,
        r#"p.toml:12:29: rate = "0G": a link must have from 1M to 1600G"#),
    ("[switch]", r#"[switch]
preset = "tomahawk""#,
        r#"p.toml:12:10: preset = "tomahawk": no such preset; did you mean "tomahawk2"?"#),
    ("[switch]", r#"[switch]
buffer = "100 kB""#,
        "p.toml:11:1: switch sw0: reserved 0 + headroom 586740 bytes over 5 ports exceed the buffer of 100000 bytes; enlarge the buffer or lower `reserved` or `headroom`"),
    ("[switch]", r#"[switch]
alpha = "0""#,
        r#"p.toml:12:9: alpha = "0": "0" is not an alpha; write a fraction like "1/8" or 0.125, from 1/65536 to 65536"#),
    ("[switch]", r#"[switch]
alpha = "1/8"
dynamic_th = 3"#,
        "p.toml:13:14: dynamic_th = 3: is alpha 8, but alpha says otherwise; keep one"),
    ("[switch]", "[switch]
dynamic_th = 9",
        "p.toml:12:14: dynamic_th = 9: must be from -8 to 7 (alpha = 2^x)"),
    ("[switch]", r#"[switch]
wred = "on""#,
        r#"p.toml:12:8: wred = "on": got string "on", needs "off" or { kmin = "400 kB", kmax = "1600 kB", pmax = 0.2 }"#),
    ("[switch]", r#"[switch]
wred = { kmin = "2 MB", kmax = "1 MB", pmax = 0.1 }"#,
        r#"p.toml:12:8: wred = { kmin = "2 MB", kmax = "1 MB", pmax = 0.1 }: kmin must not be above kmax"#),
    ("[switch]", r#"[switch]
wred = { kmin = "1 MB", kmax = "2 MB" }"#,
        r#"p.toml:12:8: wred = { kmin = "1 MB", kmax = "2 MB" }: pmax is missing"#),
    ("[switch]", r#"[switch]
config = "config_db.json""#,
        r#"p.toml:12:10: config = "config_db.json": config_db.json cannot be read: No such file or directory (os error 2); give a path beside the profile"#),
    ("[switch]", r#"[switch]
dscp_map = { "64" = 3 }"#,
        "p.toml:12:21: 64 = 3: the key must be a DSCP from 0 to 63, in quotes"),
    ("[switch]", "[switch]
tc_to_pg = [0, 0, 0, 3, 4, 0, 0, 9]",
        "p.toml:12:12: tc_to_pg: priority 7 has number 9; use 0 to 7"),
    ("[switch]", r#"[switch]
dscp_color = { "64" = "red" }"#,
        r#"p.toml:12:23: 64 = "red": the key must be a DSCP from 0 to 63, in quotes"#),
    ("[switch]", r#"[switch]
dscp_color = { "3" = "blue" }"#,
        r#"p.toml:12:22: 3 = "blue": unknown value "blue"; known: green, yellow, red"#),
    ("[switch]", r#"[switch]
queue = { 9 = { wred = "off" } }"#,
        "p.toml:12:15: 9 = { wred = \"off\" }: the key must be a queue from 0 to 7: [switch.queue.3]"),
    ("[switch]", r#"[switch]
egress_pools = { lossy = "2 MB" }
queue = { 1 = { egress_pool = "losy" } }"#,
        r#"p.toml:13:31: egress_pool = "losy": there is no such pool; did you mean "lossy"?"#),
    ("[switch]", r#"[switch]
queue = { 1 = { egress_pool = "lossy" } }"#,
        r#"p.toml:12:31: egress_pool = "lossy": there is no such pool; add egress_pools = { lossy = "20 MB" } to [switch]"#),
    ("[switch]", r#"[switch]
queue = { 1 = { egress_reserved = "2 kB" } }"#,
        r#"p.toml:12:35: egress_reserved = "2 kB": is taken from an egress pool; name it: egress_pool = "...""#),
    ("[switch]", r#"[switch]
queue = { 1 = { egress_alpha = 1, egress_static_th = "2 kB" } }"#,
        r#"p.toml:12:54: egress_static_th = "2 kB": there is an egress_alpha too; keep one"#),
    ("[switch]", r#"[switch]
wred = { kmin = "1 MB", kmax = "2 MB", pmax = 0.1, red = { kmin = "2 MB", kmax = "1 MB", pmax = 1.0 } }"#,
        r#"p.toml:12:58: red = { kmin = "2 MB", kmax = "1 MB", pmax = 1.0 }: kmin must not be above kmax"#),
    ("[switch]", "[class.other]
dscp = 0
[switch]
tc_to_pg = [0, 3, 2, 3, 4, 5, 6, 7]",
        "p.toml:11:1: lossless: class roce is lossless and class other lossy, and both are in priority group 3 (tc_to_pg); a group is one or the other"),
    ("[switch]", "[switch]
weights = [1, 2, 3]",
        "p.toml:12:11: [switch.weights]: got 3, needs a list of 8 numbers"),
    ("[switch]", "[swicth]",
        r#"p.toml:11:2: unknown key "swicth" in the profile; did you mean "switch"?"#),
    (r#"limit = "1 s""#, r#"limit = "1 us""#,
        r#"p.toml:4:9: limit = "1 us": the run needs at least 4.689 ms for 2 iterations; raise limit or lower repeats, message or vector sizes"#),
    (r#"limit = "1 s""#, r#"limit = "30 h""#,
        r#"p.toml:4:9: limit = "30 h": must be above 0 and at most 25 h"#),
    (r#"limit = "1 s""#, r#"limit = "1 s"
gap = "1 week""#,
        r#"p.toml:5:7: gap = "1 week": unknown time unit "week"; use ps, ns, us, ms, s, min, h"#),
    (r#"limit = "1 s""#, r#"limit = "1 s"
clock = "free"
dilation = "auto""#,
        r#"p.toml:6:12: dilation = "auto": clock = "free" keeps one dilation; give it as a number, for example 50"#),
    (r#"limit = "1 s""#, r#"limit = "1 s"
repeats = 3"#,
        "p.toml:5:1: not valid TOML: duplicate key; keep one of them"),
    (r#"limit = "1 s""#, r#"limit = "1 s"
pool_frames = 8"#,
        "p.toml:5:15: pool_frames = 8: must be 256 to 1048576; leave it out for as many as the ports can hold"),
    (r#"limit = "1 s""#, r#"limit = "0 s""#,
        r#"p.toml:4:9: limit = "0 s": must be above 0 and at most 25 h"#),
    ("repeats = 2", "repeats = 0",
        "p.toml:3:11: repeats = 0: must be at least 1"),
    ("lossless_drops = 0", "lossless_drop = 0",
        r#"p.toml:14:1: unknown key "lossless_drop" in [expect]; did you mean "lossless_drops"?"#),
    ("lossless_drops = 0", "ideal_ratio_max = 1.0
ideal_ratio_min = 1.1",
        "p.toml:15:19: ideal_ratio_min = 1.1: is above its maximum 1; nothing could pass"),
    (r#"name = "t""#, r#"name = "../t""#,
        r#"p.toml:1:8: name = "../t": is the name of the output folder: letters, digits, - _ . and not empty"#),
    (r#"name = "t""#, r#"name = "t"#,
        r#"p.toml:1:10: not valid TOML: invalid basic string, expected `"`"#),
    (r#"name = "t""#, r#"name = "t"
schema = 2"#,
        "p.toml:2:10: schema = 2: this build reads schema 1 only"),
    ("[expect]", "[fabric]
leaves = 2
[expect]",
        r#"p.toml:14:10: leaves = 2: needs kind = "leaf-spine" in [fabric]"#),
    ("[expect]", r#"[fabric]
kind = "leaf-spine"
[expect]"#,
        "p.toml:12:19: count = 5: does not act with a fabric of several switches: its own keys set the ports; remove it"),
    ("[expect]", r#"[[port]]
rate = "10G"
[expect]"#,
        "p.toml:12:19: count = 5: there are 1 [[port]] tables for 5 switch ports; make them equal"),
    ("[expect]", "[[stream]]
from = 0
to = 0
frames = 1
[expect]",
        "p.toml:15:6: to = 0: a stream cannot go to its own sender; use another rank"),
    ("[expect]", "[[stream]]
from = 0
to = 1
[expect]",
        r#"p.toml:13:1: needs an end: frames = 1000 or duration = "10 ms""#),
    ("[expect]", r#"[[stream]]
from = 0
to = 1
frames = 1
load = "120 %"
[expect]"#,
        r#"p.toml:17:8: load = "120 %": 120 % is more than the port can carry; at most "100 %""#),
    ("[expect]", r#"[[stream]]
from = 0
to = 1
frames = 1
load = "120 Gb/s"
[expect]"#,
        r#"p.toml:17:8: load = "120 Gb/s": is 122.3 % of the 100G port with frames of 1024 B; at most "100 %""#),
    ("[expect]", "[[stream]]
from = 0
to = 1
frames = 1
size = 40
[expect]",
        "p.toml:17:8: size = 40: a frame of 40 B is not possible; use 64 to 9216 B with FCS"),
    ("[expect]", r#"[[stream]]
from = 0
to = 1
frames = 1
imix = "complex"
[expect]"#,
        r#"p.toml:17:8: imix = "complex": got string "complex", needs "simple" or a list of [bytes, weight] like [[64, 7], [1518, 1]]"#),
    ("[expect]", r#"[[at]]
time = "1 ms"
[expect]"#,
        "p.toml:13:1: needs exactly one of pause, release, burst, wait, snapshot, link"),
    ("[expect]", r#"[[at]]
time = "1 ms"
pause = { port = 9, priority = 3 }
[expect]"#,
        "p.toml:15:18: port = 9: the run has ports 0 to 4"),
    ("[expect]", r#"[[at]]
time = "1 ms"
pause = { port = "prt1", priority = 3 }
[expect]"#,
        r#"p.toml:15:18: port = "prt1": no such port; did you mean "port1"?"#),
    ("[expect]", r#"[[at]]
time = "1 ms"
pause = { port = 0, priority = 8 }
[expect]"#,
        "p.toml:15:32: priority = 8: must be from 0 to 7"),
];

#[test]
fn every_slip_has_its_line() {
    let mut wrong = String::new();
    for (good, bad, expected) in BROKEN {
        assert!(GOOD.contains(good), "{good}");
        let said = complaint(&GOOD.replace(good, bad), &[]);
        if said != *expected {
            wrong += &format!("{bad}\n  said:     {said}\n  expected: {expected}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// (the override, the line the user reads)
#[rustfmt::skip]
const SETS: &[(&str, &str)] = &[
    ("workload.senders",
        "--set workload.senders: needs the form key.path=value, like workload.senders=16"),
    ("workload.senders=x",
        r#"--set workload.senders=x: senders = x: got string "x", needs a whole number from 0 to 4294967295"#),
    ("workload.mesage=1 MiB",
        r#"--set workload.mesage=1 MiB: unknown key "mesage" in [[workload]]; did you mean "message"?"#),
    ("workload.3.senders=1",
        "--set workload.3.senders=1: there is no [[workload]] number 3; the profile has 1, from 0"),
    ("stream.0.load=1",
        "--set stream.0.load=1: the profile has no [[stream]]"),
    ("name.x=1",
        "--set name.x=1: name is a value and has no keys inside"),
    ("run..seed=1",
        "--set run..seed=1: has an empty key; write key.path=value"),
    ("workload.message=9 GiX",
        r#"--set workload.message=9 GiX: message = 9 GiX: unknown size unit "GiX"; use B, kB, MB, GB, KiB, MiB, GiB"#),
    ("switch.alpha=0.1",
        r#"--set switch.alpha=0.1: alpha = 0.1: 0.1 is not a binary fraction from 1/65536 to 65536; write it as "numerator/denominator""#),
    ("run.seed=-1",
        "--set run.seed=-1: seed = -1: got integer -1, needs a whole number from 0 to 2^63 - 1"),
    ("workload.senders=64",
        "--set workload.senders=64: senders = 64: needs 65 ranks, the receiver included; the run has 5 on 5 ports: add ports (switch.ports.count, or hosts_per_leaf) or set ranks_per_port"),
];

#[test]
fn overrides_are_named_in_complaints() {
    assert_eq!(complaint(GOOD, &[]), "fine");
    for (set, expected) in SETS {
        assert_eq!(complaint(GOOD, &[set]), *expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is cut out of a profile or put into it, the answer is a plan or one line.
    #[test]
    fn mutated_profiles_never_panic(
        cut in 0usize..GOOD.len(), len in 0usize..40, put in "[-a-z0-9 =\\[\\]{}\"'.,#\n]{0,12}"
    ) {
        let end = (cut + len).min(GOOD.len());
        let text = format!("{}{put}{}", &GOOD[..cut], &GOOD[end..]);
        let line = complaint(&text, &[]);
        prop_assert!(!line.contains('\n'), "{line}");
    }

    /// Numbers of any size are accepted or refused, never overflowed.
    #[test]
    fn any_number_is_safe(key in 0usize..KEYS.len(), n in any::<i64>(), unit in 0usize..UNITS.len()) {
        let value = format!("{n}{}", UNITS[unit]);
        let line = complaint(GOOD, &[&format!("{}={value}", KEYS[key])]);
        prop_assert!(!line.contains('\n'), "{line}");
    }

    #[test]
    fn any_override_is_safe(set in "[a-z.0-9]{0,20}=[-a-z0-9\\[\\]{}\", ]{0,12}") {
        prop_assert!(!complaint(GOOD, &[&set]).contains('\n'));
    }
}

const UNITS: &[&str] = &["", " B", " GiB", " s", " h", "G", " m", " km", " %", " Mpps"];
const KEYS: &[&str] = &[
    "workload.message",
    "workload.senders",
    "workload.qps_per_pair",
    "workload.window",
    "workload.ack_timeout",
    "run.limit",
    "run.gap",
    "run.pool_frames",
    "run.repeats",
    "run.warmup",
    "run.seed",
    "run.dilation",
    "class.roce.mtu",
    "switch.buffer",
    "switch.cell",
    "switch.alpha",
    "switch.dynamic_th",
    "switch.xoff_headroom",
    "switch.reserved",
    "switch.xon_offset",
    "switch.pipeline",
    "switch.pause_quanta",
    "switch.ports.rate",
    "switch.ports.count",
    "switch.ports.cable",
    "switch.ports.ranks_per_port",
    "switch.ports.pfc_response",
    "expect.ideal_ratio_max",
];
