//! Scripts of frames against one host, in the manner of packetdrill: `tests/scripts/*.rc`.
//!
//! A script is lines of
//!
//! ```text
//! host requester|responder  mtu=1024 psn=0x50 messages=5000,100 verb=write ...   what is under test
//! 10us  <  WRITE_MIDDLE psn=0x51 [len=..] [ackreq] [reth=..] [imm=..] [corrupt] [ce] [bad-key]   arrives
//! 10us  >  ACK psn=0x54 aeth=0x1f msn=1                                          must be sent (within 2 us)
//! *     >  WRITE_FIRST psn=0x50 len=1024 reth=5000                               must be sent next, whenever
//! 90us  =  retransmitted 3                                                       a counter then
//! ```
//!
//! `#` begins a comment. A FIRST or MIDDLE brings MTU bytes unless it says otherwise. Whatever the host sends and no
//! line calls for is a failure, so silence is tested too. On `>` lines only what is written is compared.

#![allow(clippy::unwrap_used, clippy::panic)]

mod rc;

use std::path::Path;

use rankstorm::transport::config::{RcConfig, Retransmission, Verb};
use rankstorm::units::{Span, Time};
use rankstorm::wire::headers::Opcode;
use rc::{Bench, Line, Setup};

fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
        None => text.parse().unwrap_or_else(|_| panic!("no number: {text}")),
    }
}

fn time(text: &str) -> Time {
    let units = [("ns", 1_000), ("us", 1_000_000), ("ms", 1_000_000_000u64)];
    let (unit, ps) =
        units.iter().find(|(u, _)| text.ends_with(u)).unwrap_or_else(|| panic!("no time: {text}"));
    let value: f64 = text.trim_end_matches(unit).parse().unwrap();
    Time((value * *ps as f64) as u64)
}

fn opcode(name: &str) -> Opcode {
    let full = match name {
        "ACK" | "NAK" | "RNR" => "RC_ACKNOWLEDGE".into(),
        _ => format!("RC_{}", name.replace("WRITE", "RDMA_WRITE").replace("READ_", "RDMA_READ_")),
    };
    *Opcode::ALL.iter().find(|o| o.name() == full).unwrap_or_else(|| panic!("no opcode: {name}"))
}

fn setup(words: &[&str]) -> Setup {
    let mut s = Setup {
        requester: words[0] == "requester",
        messages: Vec::new(),
        reads: Vec::new(),
        verb: Verb::Write,
        mtu: 1024,
        psn: 0,
        rc: RcConfig::default(),
    };
    for word in &words[1..] {
        let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("no key=value: {word}"));
        match key {
            "mtu" => s.mtu = number(value) as u16,
            "psn" => s.psn = number(value) as u32,
            "messages" => {
                for (i, message) in value.split(',').enumerate() {
                    s.messages.push(number(message.trim_start_matches("read:")));
                    if message.starts_with("read:") {
                        s.reads.push(i);
                    }
                }
            }
            "max_rd_atomic" => s.rc.max_rd_atomic = number(value) as u8,
            "window" => s.rc.window = number(value) as u32,
            "ack_timeout" => s.rc.ack_timeout = time(value).since(Time::ZERO),
            "ack_every" => s.rc.ack_every = number(value) as u16,
            "retry_count" => s.rc.retry_count = number(value) as u8,
            "rnr_retry" => s.rc.rnr_retry = number(value) as u8,
            "reorder" => s.rc.reorder = number(value) as u16,
            "verb" => {
                s.verb = match value {
                    "write" => Verb::Write,
                    "write-imm" => Verb::WriteImm,
                    "send" => Verb::Send,
                    "read" => Verb::Read,
                    _ => panic!("no verb: {value}"),
                }
            }
            "retransmission" => {
                s.rc.retransmission = match value {
                    "go-back-n" => Retransmission::GoBackN,
                    "selective-repeat" => Retransmission::SelectiveRepeat,
                    _ => panic!("no retransmission: {value}"),
                }
            }
            _ => panic!("no such key: {key}"),
        }
    }
    s
}

/// A frame of a script, and which of its fields were written.
struct Spoken {
    line: Line,
    len: bool,
    reth: bool,
    imm: bool,
    corrupt: bool,
    ce: bool,
}

fn frame(words: &[&str], mtu: u16) -> Spoken {
    let op = opcode(words[0]);
    let mut line = Line { opcode: op as u8, ..Line::default() };
    let name = op.name();
    if name.ends_with("FIRST") || name.ends_with("MIDDLE") {
        line.len = mtu;
    }
    let mut s = Spoken { line, len: false, reth: false, imm: false, corrupt: false, ce: false };
    let (mut syndrome, mut msn) = (None, 0);
    for word in &words[1..] {
        match word.split_once('=').unwrap_or((word, "")) {
            ("psn", v) => s.line.psn = number(v) as u32,
            ("len", v) => (s.line.len, s.len) = (number(v) as u16, true),
            ("reth", v) => (s.line.reth, s.reth) = (Some(number(v) as u32), true),
            ("imm", v) => (s.line.imm, s.imm) = (Some(number(v) as u32), true),
            ("aeth", v) => syndrome = Some(number(v) as u8),
            ("msn", v) => msn = number(v) as u32,
            ("ackreq", _) => s.line.ack_req = true,
            ("value", v) => s.line.value = Some(number(v)),
            ("corrupt", _) => s.corrupt = true,
            ("ce", _) => s.ce = true,
            ("bad-key", _) => s.line.bad_key = true,
            _ => panic!("no such word: {word}"),
        }
    }
    s.line.aeth = syndrome.map(|x| (x, msn));
    s
}

fn same(want: &Spoken, got: &Line) -> bool {
    let w = &want.line;
    (w.opcode, w.psn, w.ack_req, w.aeth) == (got.opcode, got.psn, got.ack_req, got.aeth)
        && (!want.len || w.len == got.len)
        && (!want.reth || w.reth == got.reth)
        && (!want.imm || w.imm == got.imm)
        && w.value.is_none_or(|v| Some(v) == got.value)
}

/// Runs a script; the error says which line and what came instead.
fn play(text: &str) -> Result<(), String> {
    let lines: Vec<(usize, Vec<&str>)> = text
        .lines()
        .enumerate()
        .map(|(i, l)| (i + 1, l.split('#').next().unwrap_or("").split_whitespace().collect::<Vec<_>>()))
        .filter(|(_, words)| !words.is_empty())
        .collect();
    let (_, head) =
        lines.first().filter(|l| l.1[0] == "host").ok_or("the first line says what the host is")?;
    let s = setup(&head[1..]);
    let mut bench = Bench::new(&s);
    let mut wanted: Vec<(usize, Option<Time>, Spoken)> = Vec::new();
    for (i, words) in &lines[1..] {
        match words[1] {
            "<" => {
                let f = frame(&words[2..], s.mtu);
                bench.run(time(words[0]));
                bench.inject(&f.line, f.corrupt, f.ce);
            }
            ">" => {
                let at = (words[0] != "*").then(|| time(words[0]));
                wanted.push((*i, at, frame(&words[2..], s.mtu)));
            }
            "=" => {
                bench.run(time(words[0]));
                let got = bench.counter(words[2]).ok_or(format!("line {i}: no counter {}", words[2]))?;
                if got != number(words[3]) {
                    return Err(format!("line {i}: {} is {got}, not {}", words[2], words[3]));
                }
            }
            other => panic!("line {i}: {other} is not <, > or ="),
        }
    }
    // Whatever is still to come within a millisecond comes.
    bench.run(bench.now + Span::from_ms(1));
    let mut sent = bench.sent.iter();
    for (i, at, want) in &wanted {
        let Some((t, got)) = sent.next() else {
            return Err(format!("line {i}: nothing was sent, expected {}", want.line));
        };
        if !same(want, got) {
            return Err(format!("line {i}: expected {}, sent {got}", want.line));
        }
        if at.is_some_and(|at| t.0.abs_diff(at.0) > 2_000_000) {
            return Err(format!("line {i}: {got} was sent at {} us", t.0 as f64 / 1e6));
        }
    }
    match sent.next() {
        Some((t, got)) => Err(format!("nothing calls for {got} at {} us", t.0 as f64 / 1e6)),
        None => Ok(()),
    }
}

#[test]
fn every_script_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "rc"));
    files.sort();
    assert!(files.len() >= 15, "{} scripts", files.len());
    let mut wrong = Vec::new();
    for path in &files {
        if let Err(e) = play(&std::fs::read_to_string(path).unwrap()) {
            wrong.push(format!("{}: {e}", path.file_name().unwrap().to_string_lossy()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} scripts:\n{}", wrong.len(), files.len(), wrong.join("\n"));
}

#[test]
fn a_script_that_is_wrong_says_where() {
    let host = "host responder mtu=1024 psn=0x50 messages=10\n";
    let only = "1us < WRITE_ONLY psn=0x50 len=10 reth=10 ackreq\n";
    let bad = |rest: &str| play(&format!("{host}{only}{rest}")).unwrap_err();
    assert!(
        bad("* > ACK psn=0x51 aeth=0x1f msn=1\n").starts_with("line 3: expected RC_ACKNOWLEDGE psn=0x51")
    );
    assert!(bad("").starts_with("nothing calls for RC_ACKNOWLEDGE psn=0x50"));
    assert!(bad("* > ACK psn=0x50 aeth=0x1f msn=1\n9us = nak_tx 1\n").starts_with("line 4: nak_tx is 0"));
    assert!(bad("90us > ACK psn=0x50 aeth=0x1f msn=1\n").contains("was sent at"));
}
