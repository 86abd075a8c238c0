//! What a user can get wrong: each ends with exit code 2, nothing on stdout and one line on stderr that names the place
//! and the fix.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{rankstorm, shipped, text};

const GOOD: &str = "name = \"t\"\n[run]\nlimit = \"1 s\"\n[[workload]]\nkind = \"incast\"\nsenders = 4\n\
                    message = \"64 KiB\"\n[class.roce]\ndscp = 3\n[switch]\nports = { count = 5, rate = \"100G\" }\n";

/// The line that `args` leave on stderr.
fn refused(args: &[&str]) -> String {
    let o = rankstorm(args);
    let err = text(&o.stderr);
    assert_eq!(o.status.code(), Some(2), "{args:?}: {err}{}", text(&o.stdout));
    assert!(err.starts_with("error: ") && err.lines().count() == 1, "{args:?}: {err}");
    assert!(o.stdout.is_empty(), "{args:?}: {}", text(&o.stdout));
    err
}

fn says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is missing in {line}");
    }
}

fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn profiles_with_a_slip_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let slips: &[(&str, &str, &[&str])] = &[
        ("senders = 4", "sendres = 4", &["slip.toml:6:1", "unknown key \"sendres\"", "\"senders\"?"]),
        ("\"64 KiB\"", "\"64 KX\"", &["slip.toml:7:11", "unknown size unit \"KX\"", "use B, kB"]),
        ("\"64 KiB\"", "64", &["slip.toml:7:11", "has no unit", "\"4 MiB\""]),
        ("senders = 4", "senders = 0", &["slip.toml:6:11", "must be from 1"]),
        ("senders = 4", "senders = 9", &["slip.toml:6:11", "needs 10 ranks", "add ports"]),
        ("\"1 s\"", "\"1 us\"", &["slip.toml:3:9", "the run needs at least", "raise limit"]),
        ("[switch]", "[fabric]\nkind = \"leaf-spine\"\n[switch]", &["slip.toml:", "count = 5", "remove it"]),
        ("count = 5", "count = 0", &["slip.toml:11:19", "must be from 1"]),
    ];
    for (good, bad, parts) in slips {
        let path = put(dir.path(), "slip.toml", GOOD.replacen(good, bad, 1));
        says(&refused(&["run", &path, "--on", "virtual", "--out", out.to_str().unwrap()]), parts);
        says(&refused(&["check", &path]), parts);
        assert!(!out.exists(), "{bad}: a refused run leaves nothing behind");
    }
}

#[test]
fn impossible_topologies_and_rank_counts_name_the_key() {
    let leaf_spine = shipped("ring-allreduce-16-1to1");
    let leaf_spine = leaf_spine.to_str().unwrap();
    for (set, part) in [
        ("fabric.leaves=1", "leaves"),
        ("fabric.spines=0", "spines"),
        ("fabric.uplinks=0", "uplinks"),
        ("workload.ranks=0", "ranks"),
        ("workload.ranks=17", "17"),
        ("fabric.uplink_rate=0G", "uplink_rate"),
    ] {
        says(&refused(&["check", leaf_spine, "--set", set]), &[set, part]);
    }
}

#[test]
fn missing_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("none");
    let none = none.to_str().unwrap();
    for args in [
        &["run", none][..],
        &["check", none],
        &["replay", none],
        &["inspect", none],
        &["dissect", none],
        &["report", none],
        &["compare", none, "--against", none],
    ] {
        says(&refused(args), &[none, "o such file"]);
    }
    let path = put(dir.path(), "replay.toml", "[[workload]]\nkind = \"replay\"\nfile = \"gone.pcap\"\n");
    says(&refused(&["check", &path]), &["replay.toml:3:8", "gone.pcap", "cannot be read"]);
}

#[test]
fn cut_captures_say_where_they_end() {
    let dir = tempfile::tempdir().unwrap();
    let pcap =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps/rc_write_20000_mtu4096.pcap")).unwrap();
    // In the file header, in the first record's header, in the last frame.
    for (cut, part) in [(10, "cut.pcap"), (24 + 7, "cut.pcap"), (pcap.len() - 9, "frame 6")] {
        let path = put(dir.path(), "cut.pcap", &pcap[..cut]);
        let o = rankstorm(&["dissect", &path]);
        let err = text(&o.stderr);
        assert_eq!((o.status.code(), err.lines().count()), (Some(2), 1), "{cut}: {err}");
        says(&err, &["error: ", "cut.pcap", part]);
    }
    // What a capture that was broken off still holds can be looked at, and the loss is told.
    let path = put(dir.path(), "cut.pcap", &pcap[..pcap.len() - 9]);
    let o = rankstorm(&["inspect", &path]);
    says(&text(&o.stdout), &["warning", "damaged at frame 6"]);
    for command in ["inspect", "replay"] {
        for cut in [10, 24 + 7] {
            let path = put(dir.path(), "cut.pcap", &pcap[..cut]);
            says(&refused(&[command, &path]), &["cut.pcap"]);
        }
    }
    let path = put(dir.path(), "text.pcap", "this is no capture, whatever its name says");
    says(&refused(&["dissect", &path]), &["text.pcap"]);
}

#[test]
fn places_that_cannot_be_written_are_told_before_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let good = put(dir.path(), "good.toml", GOOD);
    let file = put(dir.path(), "file", "");
    let under = format!("{file}/out");
    says(&refused(&["run", &good, "--on", "virtual", "--out", &under]), &[&under]);
    let out = dir.path().join("out");
    let pcap = format!("{file}/x.pcap");
    let args = ["run", &good, "--on", "virtual", "--out", out.to_str().unwrap(), "--pcap", &pcap];
    says(&refused(&args), &["--pcap", &pcap]);
}

#[test]
fn modes_and_devices_that_are_not_there_are_refused_with_what_works_instead() {
    let dir = tempfile::tempdir().unwrap();
    let good = put(dir.path(), "good.toml", GOOD);
    let out = dir.path().join("out");
    let run = ["run", &good, "--out", out.to_str().unwrap()];
    says(&refused(&[&run[..], &["--on", "ports"]].concat()), &["--on ports", "--on virtual"]);
    if !cfg!(feature = "dpdk") {
        says(&refused(&[&run[..], &["--on", "rings"]].concat()), &["--on rings", "--on virtual"]);
    }
    says(&refused(&[&run[..], &["--on", "virtual", "--dilation", "2"]].concat()), &["--dilation", "rings"]);
    assert!(!out.exists());
}
