//! Our requester and our responder against captures of the Linux kernel's own stack (`pcaps/`): the frames of one
//! side are fed to ours frame by frame, and ours must answer with the opcodes, PSNs, lengths, AckReq bits, syndromes
//! and MSNs of the other. Times are not compared: the captured machines were emulated.
//!
//! Known deviations, and why:
//! * SENDs of ours always carry the message's tag as immediate data, so LAST and ONLY are compared without it.
//! * The kernel had queued the rest of a message when the NAK for a bad key came; fed in capture order, ours stops at
//!   once. There the requester's frames are taken first.
//! * R_Keys and addresses are replaced: ours are ours. The bad key stays bad.

#![allow(clippy::unwrap_used)]

mod rc;

use std::path::Path;

use rankstorm::transport::config::{RcConfig, Verb};
use rankstorm::units::{FrameLen, Span, Time};
use rankstorm::wire::capture::CaptureReader;
use rankstorm::wire::headers::{Opcode, Operation};
use rankstorm::wire::{HEAD_MAX, icrc};
use rc::{Bench, Line, Setup, line_of};

/// A frame of a capture.
struct Seen {
    line: Line,
    /// An answer (ACK or NAK); otherwise a request.
    answer: bool,
    intact: bool,
    ce: bool,
}

fn capture(name: &str) -> Vec<Seen> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pcaps").join(name);
    let mut reader = CaptureReader::open(&path).unwrap();
    let mut frames = Vec::new();
    while let Some(f) = reader.read().unwrap() {
        let mut head = [0; HEAD_MAX];
        let n = f.bytes.len().min(HEAD_MAX);
        head[..n].copy_from_slice(&f.bytes[..n]);
        let line = line_of(&head, FrameLen(f.bytes.len() as u16));
        let answer = matches!(
            Opcode::from_u8(line.opcode).unwrap().operation(),
            Operation::Acknowledge | Operation::ReadResponse | Operation::AtomicAcknowledge
        );
        frames.push(Seen { line, answer, intact: icrc::verify(f.bytes).unwrap(), ce: head[15] & 3 == 3 });
    }
    frames
}

/// The messages behind the requests of a capture, and what sends them. Frames sent again do not count.
fn setup(frames: &[Seen], requester: bool, rc: RcConfig) -> Setup {
    let requests: Vec<&Line> = frames.iter().filter(|f| !f.answer).map(|f| &f.line).collect();
    let op = |l: &Line| Opcode::from_u8(l.opcode).unwrap();
    let verb = match op(requests[0]).operation() {
        Operation::Send => Verb::Send,
        _ if requests.iter().any(|l| op(l).has_imm()) => Verb::WriteImm,
        _ => Verb::Write,
    };
    let (mut messages, mut bytes, mut next) = (Vec::new(), 0u64, requests[0].psn);
    for l in &requests {
        if l.psn != next {
            continue;
        }
        next = (next + 1) & 0xff_ffff;
        bytes += u64::from(l.len);
        let name = op(l).name();
        if name.contains("LAST") || name.contains("ONLY") {
            messages.push(bytes);
            bytes = 0;
        }
    }
    let longest = requests.iter().map(|l| l.len).max().unwrap();
    let mtu = [1024, 2048, 4096].into_iter().find(|m| longest <= *m).unwrap();
    Setup { requester, messages, reads: Vec::new(), verb, mtu, psn: requests[0].psn, rc }
}

/// Opcode without "with immediate" for SENDs, which ours always have.
fn plain(opcode: u8) -> u8 {
    match opcode {
        0x03 => 0x02,
        0x05 => 0x04,
        other => other,
    }
}

fn request_of(l: &Line) -> (u8, u32, u16, bool, Option<u32>) {
    (plain(l.opcode), l.psn, l.len, l.ack_req, l.reth)
}

/// Our requester, fed with the answers of a capture, sends the requests of it.
fn as_requester(name: &str, rc: RcConfig, requests_first: bool) -> Bench {
    let mut frames = capture(name);
    if requests_first {
        frames.sort_by_key(|f| f.answer);
    }
    let mut bench = Bench::new(&setup(&frames, true, rc));
    for (i, f) in frames.iter().enumerate() {
        if f.answer {
            bench.now += Span::from_us(1);
            bench.inject(&f.line, false, false);
            continue;
        }
        let sent = bench.step(Time::NEVER);
        let got = sent.as_ref().map(request_of);
        assert_eq!(got, Some(request_of(&f.line)), "{name}, frame {}: the kernel sent {}", i + 1, f.line);
    }
    bench
}

/// Our responder, fed with the requests of a capture, gives the answers of it.
fn as_responder(name: &str, bad_key: bool) -> Bench {
    let frames = capture(name);
    let mut bench = Bench::new(&setup(&frames, false, RcConfig::default()));
    for f in frames.iter().filter(|f| !f.answer) {
        bench.now += Span::from_us(1);
        bench.inject(&Line { bad_key, ..f.line }, !f.intact, f.ce);
        bench.run(bench.now + Span::from_us(1));
    }
    let said: Vec<_> = bench.sent.iter().map(|(_, l)| (l.psn, l.aeth)).collect();
    let kernel: Vec<_> = frames.iter().filter(|f| f.answer).map(|f| (f.line.psn, f.line.aeth)).collect();
    assert_eq!(said, kernel, "{name}: answers of ours, of the kernel");
    bench
}

/// Captures of whole WRITEs and SENDs without and with mishaps, as the requester saw them.
const CLEAN: [&str; 14] = [
    "rc_write_5000_mtu1024.pcap",
    "rc_write_small_pads.pcap",
    "rc_write_len2.pcap",
    "rc_write_len1027.pcap",
    "rc_write_len0.pcap",
    "rc_write_20000_mtu4096.pcap",
    "rc_write_psn_wrap.pcap",
    "rc_write_imm.pcap",
    "rc_write_imm_only.pcap",
    "rc_send_3000.pcap",
    "rc_send_only.pcap",
    "rc_send_imm.pcap",
    "rc_write_pipelined.pcap",
    "rc_write_tos_ect.pcap",
];

#[test]
fn a_clean_path_looks_the_same_from_both_ends() {
    for name in CLEAN {
        let requester = as_requester(name, RcConfig::default(), false);
        assert_eq!(requester.counter("messages_failed"), Some(0), "{name}");
        let done = requester.counter("messages_completed");
        assert_eq!(done, requester.counter("messages_started"), "{name}: every message is acknowledged");
        let responder = as_responder(name, false);
        assert_eq!(responder.counter("nak_tx"), Some(0), "{name}");
    }
}

#[test]
fn losses_are_mended_as_the_kernel_does() {
    for (name, again, timeouts) in [
        ("rc_write_drop_middle.pcap", 3, 0),
        ("rc_write_drop_last.pcap", 5, 1),
        ("rc_write_drop_ack.pcap", 5, 1),
        ("rc_write_bad_icrc.pcap", 2, 0),
        ("rc_write_dup.pcap", 0, 0),
    ] {
        let b = as_requester(name, RcConfig::default(), false);
        assert_eq!(b.counter("messages_completed"), Some(1), "{name}");
        assert_eq!(
            (b.counter("retransmitted"), b.counter("timeouts")),
            (Some(again), Some(timeouts)),
            "{name}"
        );
    }
}

#[test]
fn losses_are_answered_as_the_kernel_does() {
    for (name, bytes) in [
        ("rc_write_drop_middle.at_responder.pcap", 5000),
        ("rc_write_drop_last.at_responder.pcap", 5000),
        ("rc_write_drop_ack.at_responder.pcap", 5000),
        ("rc_write_bad_icrc.at_responder.pcap", 3000),
        ("rc_write_dup.at_responder.pcap", 3000),
        ("rc_write_ce_marked.at_responder.pcap", 5000),
    ] {
        let b = as_responder(name, false);
        assert_eq!(b.counter("payload_bytes"), Some(bytes), "{name}: every byte once");
    }
}

#[test]
fn reads_and_atomics_are_answered_as_the_kernel_does() {
    for name in ["rc_read_5000.pcap", "rc_read_only.pcap", "rc_atomic_fadd.pcap"] {
        let frames = capture(name);
        let psn = frames[0].line.psn;
        let setup = Setup {
            requester: false,
            messages: vec![1],
            reads: Vec::new(),
            verb: Verb::Write,
            mtu: 1024,
            psn,
            rc: RcConfig::default(),
        };
        let mut bench = Bench::new(&setup);
        for f in frames.iter().filter(|f| !f.answer) {
            bench.now += Span::from_us(1);
            bench.inject(&f.line, false, false);
            bench.run(bench.now + Span::from_us(5));
        }
        let said = |l: &Line| (l.opcode, l.psn, l.len, l.aeth);
        let ours: Vec<_> = bench.sent.iter().map(|(_, l)| said(l)).collect();
        let kernel: Vec<_> = frames.iter().filter(|f| f.answer).map(|f| said(&f.line)).collect();
        assert_eq!(ours, kernel, "{name}");
        // What an atomic found depends on the memory it worked on; by how much it grew does not.
        let values: Vec<u64> = bench.sent.iter().filter_map(|(_, l)| l.value).collect();
        let kernel: Vec<u64> = frames.iter().filter(|f| f.answer).filter_map(|f| f.line.value).collect();
        let steps = |v: &[u64]| v.windows(2).map(|w| w[1].wrapping_sub(w[0])).collect::<Vec<_>>();
        assert_eq!(steps(&values), steps(&kernel), "{name}");
    }
}

#[test]
fn a_bad_key_ends_the_queue_pair_on_both_sides() {
    let b = as_requester("rc_write_bad_rkey.pcap", RcConfig::default(), true);
    assert_eq!((b.counter("messages_failed"), b.counter("nak_rx")), (Some(1), Some(1)));
    let b = as_responder("rc_write_bad_rkey.pcap", true);
    assert_eq!(b.counter("payload_bytes"), Some(0));
}

#[test]
fn retries_run_out_after_as_many_tries() {
    let rc = RcConfig { retry_count: 3, ack_timeout: Span::from_ms(16), ..RcConfig::default() };
    let mut b = as_requester("rc_write_retry_exceeded.pcap", rc, false);
    assert_eq!(b.step(Time::NEVER), None, "nothing after the last try");
    assert_eq!(b.counter("messages_failed"), Some(1));
}
