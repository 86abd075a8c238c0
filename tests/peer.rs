//! `rankstorm peer` in two processes that talk over a pair of unix datagram sockets: the real-time driver, whole frames
//! with real payload, both roles. The bytes are compared by checksum, over the region of either end.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

const A: [&str; 4] = ["--ip", "198.18.0.1", "--mac", "02:00:00:00:00:0a"];
const B: [&str; 4] = ["--ip", "198.18.0.2", "--mac", "02:00:00:00:00:0b"];
const A6: [&str; 4] = ["--ip", "2001:2::1", "--mac", "02:00:00:00:00:0a"];
const B6: [&str; 4] = ["--ip", "2001:2::2", "--mac", "02:00:00:00:00:0b"];

fn command(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_rankstorm"));
    c.arg("peer").args(args).stderr(Stdio::piped()).stdout(Stdio::piped());
    c
}

/// One end: where it is, who the other is, and what it does.
fn end(dir: &Path, here: &str, there: &str, us: [&str; 4], them: [&str; 4], rest: &str) -> Command {
    let unix = format!("{},{}", dir.join(here).display(), dir.join(there).display());
    let mut c = command(&["--unix", &unix, "--peer-ip", them[1], "--peer-mac", them[3]]);
    if !rest.contains("--seconds") {
        c.args(["--seconds", "60"]);
    }
    c.args(us).args(rest.split_whitespace());
    c
}

/// KEY=VALUE lines.
fn values(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Server {
    /// Starts it and waits until it answers.
    fn start(mut c: Command) -> Server {
        let mut child = c.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.starts_with("READY qpn=0x11"), "{line}");
        Server { child, out }
    }

    fn end(mut self) -> (i32, String) {
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code().unwrap(), text)
    }
}

/// What both ends printed, and their exit codes.
struct Talk {
    us: BTreeMap<String, String>,
    them: BTreeMap<String, String>,
    codes: (i32, i32),
    their_text: String,
}

impl Talk {
    fn number(&self, key: &str) -> u64 {
        self.us[key].parse().unwrap()
    }
}

/// A requester with the arguments `ours` against a server with `theirs`.
fn talk_between(a: [&str; 4], b: [&str; 4], ours: &str, theirs: &str) -> Talk {
    let dir = tempfile::tempdir().unwrap();
    let keys = "--peer-rkey 0xabcd --peer-vaddr 0x7000000";
    let server = Server::start(end(
        dir.path(),
        "b",
        "a",
        b,
        a,
        &format!("--peer-psn 0xfffff0 --rkey 0xabcd --vaddr 0x7000000 {theirs}"),
    ));
    let out = end(dir.path(), "a", "b", a, b, &format!("--psn 0xfffff0 {keys} {ours}")).output().unwrap();
    let (code, their_text) = server.end();
    let our_text = String::from_utf8(out.stdout).unwrap();
    let talk = Talk {
        us: values(&our_text),
        them: values(&their_text),
        codes: (out.status.code().unwrap(), code),
        their_text,
    };
    assert!(
        talk.us.contains_key("COMPLETE") && talk.them.contains_key("COMPLETE"),
        "{our_text}\n{}\n{}",
        String::from_utf8_lossy(&out.stderr),
        talk.their_text
    );
    talk
}

fn talk(ours: &str, theirs: &str) -> Talk {
    talk_between(A, B, ours, theirs)
}

const CLEAN: [&str; 7] =
    ["RETRANSMITTED", "NAKS_RECEIVED", "TIMEOUTS", "OUT_OF_ORDER", "DUPLICATES", "ICRC_ERRORS", "RX_UNKNOWN"];

#[test]
fn writes_arrive_at_their_places_over_several_queue_pairs() {
    let t = talk(
        "--peer-qpn 0x11,0x12,0x13 --op write --size 5001 --count 40 --window 8 --mtu 1024 --region 100000",
        "--peer-qpn 0x11,0x12,0x13 --messages 120 --region 100000",
    );
    assert_eq!(t.codes, (0, 0));
    assert_eq!(t.number("MESSAGES_SENT"), 120);
    assert_eq!(t.us["EXPECT_CRC32"], t.them["REGION_CRC32"]);
    assert_eq!(t.us["EXPECT_CRC32"].split(',').count(), 3);
    for key in CLEAN {
        assert_eq!((key, t.us[key].as_str(), t.them[key].as_str()), (key, "0", "0"));
    }
    // PSNs wrap: 40 messages of 5 packets from 0xfffff0.
    assert_eq!(t.us["NEXT_PSN"], "0x0000b8,0x0000b8,0x0000b8");
    assert_eq!(t.number("TX_FRAMES"), 600);
    assert_eq!(t.their_text.lines().filter(|l| l.starts_with("RECEIVED")).count(), 120);
}

#[test]
fn sends_take_receives_in_turn_and_bring_their_immediate_data() {
    for (op, imm) in [("send", false), ("send-imm", true), ("write-imm", true)] {
        let t = talk_between(
            A6,
            B6,
            &format!(
                "--peer-qpn 0x11 --op {op} --size 1023 --count 9 --window 4 --mtu 256 --region 16384 --receive-size 1600 --stride 1600"
            ),
            "--peer-qpn 0x11 --messages 9 --mtu 256 --region 16384 --receive-size 1600",
        );
        assert_eq!(t.codes, (0, 0), "{op}");
        assert_eq!(t.us["EXPECT_CRC32"], t.them["REGION_CRC32"], "{op}");
        let last = t.their_text.lines().rfind(|l| l.starts_with("RECEIVED")).unwrap();
        assert!(last.contains("offset=12800 bytes=1023"), "{last}");
        assert_eq!(last.contains("imm=0x00000008"), imm, "{last}");
    }
}

#[test]
fn what_is_read_is_what_is_there_also_after_losses() {
    let theirs = "--peer-qpn 0x11 --fill pattern --region 65536";
    for fault in ["", "rx drop opcode=read-response nth=5", "tx drop opcode=read-request nth=2"] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(end(
            dir.path(),
            "b",
            "a",
            B,
            A,
            &format!("--peer-psn 7 --rkey 5 --vaddr 0x1000 --idle 1 {theirs}"),
        ));
        let mut c = end(
            dir.path(),
            "a",
            "b",
            A,
            B,
            "--psn 7 --peer-qpn 0x11 --peer-rkey 5 --peer-vaddr 0x1000 --op read --size 8192 --count 8 --window 3 --region 65536",
        );
        if !fault.is_empty() {
            c.args(["--fault", fault]);
        }
        let out = c.output().unwrap();
        let us = values(&String::from_utf8(out.stdout).unwrap());
        let (_, their_text) = server.end();
        let them = values(&their_text);
        assert_eq!(out.status.code(), Some(0), "{fault}");
        assert_eq!(us["REGION_CRC32"], them["REGION_CRC32"], "{fault}");
        assert_eq!(us["READS_AGAIN"] != "0", !fault.is_empty(), "{fault}");
    }
}

#[test]
fn losses_are_repaired_and_counted() {
    // (fault at the requester, counter there, least value)
    for (fault, key, least) in [
        ("tx drop opcode=write-middle nth=3", "NAKS_RECEIVED", 1),
        ("tx drop opcode=write-last nth=6", "TIMEOUTS", 1),
        ("rx drop opcode=ack nth=1", "RETRANSMITTED", 0),
        ("rx corrupt opcode=ack nth=2", "ICRC_ERRORS", 1),
        ("tx corrupt opcode=write-first nth=2", "NAKS_RECEIVED", 1),
        ("tx duplicate opcode=write-middle", "TX_FRAMES", 48),
        ("tx drop p=0.05", "FAULT_DROPS", 1),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let rest = "--peer-psn 0 --peer-qpn 0x11 --messages 6 --region 30000";
        let server = Server::start(end(dir.path(), "b", "a", B, A, rest));
        let mut c = end(
            dir.path(),
            "a",
            "b",
            A,
            B,
            "--peer-qpn 0x11 --peer-rkey 0x12345678 --peer-vaddr 0x10000 --op write --size 5000 --count 6 --region 30000",
        );
        let out = c.args(["--fault", fault]).output().unwrap();
        let us = values(&String::from_utf8(out.stdout).unwrap());
        let (code, their_text) = server.end();
        let them = values(&their_text);
        assert_eq!((out.status.code(), code), (Some(0), 0), "{fault}: {us:?} {them:?}");
        assert_eq!(us["EXPECT_CRC32"], them["REGION_CRC32"], "{fault}");
        assert!(us[key].parse::<u64>().unwrap() >= least, "{fault}: {key}={}", us[key]);
        assert_eq!(them["MESSAGES_RECEIVED"], "6", "{fault}: each message once");
    }
}

#[test]
fn what_may_not_be_touched_is_refused() {
    for (ours, why) in [
        ("--peer-rkey 1 --peer-vaddr 0x10000 --size 64", "a wrong key"),
        ("--peer-rkey 0x12345678 --peer-vaddr 0x10001 --size 4096", "one byte beyond the end"),
        ("--peer-rkey 0x12345678 --peer-vaddr 0 --size 64", "before the region"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let rest = "--peer-qpn 0x11 --idle 0.5 --region 4096";
        let server = Server::start(end(dir.path(), "b", "a", B, A, rest));
        let ours = format!("--peer-qpn 0x11 --op write --region 4096 {ours}");
        let out = end(dir.path(), "a", "b", A, B, &ours).output().unwrap();
        let us = values(&String::from_utf8(out.stdout).unwrap());
        let (_, their_text) = server.end();
        assert_eq!(out.status.code(), Some(1), "{why}");
        assert_eq!(us["FAILURE"], "the responder refused the request", "{why}");
        let untouched = crc32fast::hash(&[0; 4096]);
        assert_eq!(values(&their_text)["REGION_CRC32"], format!("{untouched:#010x}"), "{why}");
    }
}

#[test]
fn nobody_there_ends_in_a_counted_failure() {
    let dir = tempfile::tempdir().unwrap();
    let rest = "--peer-qpn 0x11 --op send --size 100 --timeout 8 --retry-count 3 --json";
    let out = end(dir.path(), "a", "nobody", A, B, rest).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    let text = String::from_utf8(out.stdout).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["failure"], "no acknowledgement after all retries");
    assert_eq!(
        (&last["timeouts"], &last["tx_unplugged"]),
        (&4.into(), &4.into()),
        "the first and three more"
    );
    assert_eq!(last["complete"], false);
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn nonsense_is_one_line_and_exit_2() {
    let ends = ["--ip", "198.18.0.1", "--peer-ip", "198.18.0.2", "--peer-mac", "2:0:0:0:0:2"];
    let peer = [&ends[..], &["--peer-qpn", "0x11", "--unix", "/nowhere/a,/nowhere/b"]].concat();
    for (args, want) in [
        (vec!["--interface", "lo", "--peer-qpn", "0x11"], "is the loopback"),
        (vec!["--interface", "no-such-if0", "--peer-qpn", "0x11"], "no interface"),
        (vec!["--peer-qpn", "0x11"], "--unix"),
        (vec!["--peer-qpn", "0x1000000", "--unix", "a,b"], "24 bits"),
        (vec!["--peer-qpn", "1", "--unix", "only-one"], "LOCAL,REMOTE"),
        (vec!["--peer-qpn", "1", "--unix", "a,b", "--mtu", "1500"], "256, 512"),
        (vec!["--peer-qpn", "1", "--unix", "/nowhere/a,/nowhere/b"], "--unix /nowhere/a"),
        (vec!["--peer-qpn", "1", "--unix", "a,b", "--seconds", "0"], "--seconds"),
        (vec!["--peer-qpn", "1", "--unix", "a,b", "--fault", "tx explode"], "no effect"),
    ] {
        let out = command(&[&ends[..], &args].concat()).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {err}");
        assert!(err.contains(want), "{args:?}: {err}");
    }
    let dir = tempfile::tempdir().unwrap();
    let unix = format!("{0}/a,{0}/b", dir.path().display());
    for (args, want) in [
        (vec!["--op", "write", "--size", "2MiB"], "--size 2097152: a message has at most 1048576 bytes"),
        (vec!["--peer-rkey", "1,2"], "--peer-rkey has 2 values"),
        (vec!["--receive-size", "2MiB"], "--receive-size"),
        (vec!["--region", "0"], "--region 0"),
        (
            vec!["--op", "write", "--count", "1000000", "--size", "1", "--peer-qpn", "1,2,3,4"],
            "over all queue pairs",
        ),
    ] {
        let mut all = [&peer[..8], &["--unix", &unix]].concat();
        all.extend(&args);
        let out = command(&all).output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{args:?}: {err}");
        assert!(err.contains(want), "{args:?}: {err}");
    }
}
