//! Our requester against a slow reference responder over a line that loses, doubles and reorders: whatever happens,
//! every message is carried out once and in order, and is completed or failed with a reason.
//!
//! The reference is written from the rules (IBTA volume 1, 9.7) with no regard to speed, and shares nothing with the
//! responder under `src`.

#![allow(clippy::unwrap_used)]

mod rc;

use std::collections::BTreeMap;

use rankstorm::host::{Failure, HostEvent};
use rankstorm::rng::Rng;
use rankstorm::transport::config::{RcConfig, Retransmission, Verb};
use rankstorm::units::{Span, Time};
use rankstorm::wire::headers::{Opcode, Operation};
use rc::{Bench, Line, Setup};

/// What the reference has carried out: message bytes, or bytes read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    Message(u64),
    Read(u32),
}

/// The reference responder.
struct Reference {
    mtu: u32,
    expected: u32,
    msn: u32,
    /// Bytes of the message that is arriving.
    open: u64,
    naked: bool,
    /// Buffers for SENDs that are left, and SENDs until one comes back.
    buffers: Option<u32>,
    done: Vec<Done>,
}

impl Reference {
    fn ahead(&self, psn: u32) -> i32 {
        ((psn.wrapping_sub(self.expected) << 8) as i32) >> 8
    }

    fn acknowledge(&self, psn: u32, syndrome: u8) -> Line {
        Line { opcode: Opcode::RcAck as u8, psn, aeth: Some((syndrome, self.msn)), ..Line::default() }
    }

    /// The answers to one request.
    fn receive(&mut self, l: &Line, rng: &mut Rng) -> Vec<Line> {
        let op = Opcode::from_u8(l.opcode).unwrap();
        let read = op.operation() == Operation::ReadRequest;
        let packets = if read { l.reth.unwrap().div_ceil(self.mtu).max(1) } else { 1 };
        let ahead = self.ahead(l.psn);
        if ahead > 0 {
            if std::mem::replace(&mut self.naked, true) {
                return Vec::new();
            }
            return vec![self.acknowledge(self.expected, 0x60)];
        }
        if ahead < 0 {
            return match read {
                true => self.responses(l.psn, l.reth.unwrap()),
                false => vec![self.acknowledge(self.expected.wrapping_sub(1) & 0xff_ffff, 0x1f)],
            };
        }
        if op.is_send() && op.starts_message() {
            match &mut self.buffers {
                Some(0) => {
                    self.buffers = Some(rng.below(3) as u32);
                    self.naked = true;
                    return vec![self.acknowledge(self.expected, 0x21)];
                }
                Some(n) => *n -= 1,
                None => {}
            }
        }
        self.naked = false;
        self.expected = (self.expected + packets) & 0xff_ffff;
        if read {
            self.msn += 1;
            self.done.push(Done::Read(l.reth.unwrap()));
            return self.responses(l.psn, l.reth.unwrap());
        }
        self.open += u64::from(l.len);
        if op.ends_message() {
            self.msn += 1;
            self.done.push(Done::Message(std::mem::take(&mut self.open)));
        }
        // It acknowledges when asked, and now and then of its own.
        match l.ack_req || rng.below(4) == 0 {
            true => vec![self.acknowledge(l.psn, 0x1f)],
            false => Vec::new(),
        }
    }

    fn responses(&self, psn: u32, bytes: u32) -> Vec<Line> {
        let packets = bytes.div_ceil(self.mtu).max(1);
        let response = |i: u32| {
            let opcode = match (i == 0, i + 1 == packets) {
                (true, true) => Opcode::RcReadResponseOnly,
                (true, false) => Opcode::RcReadResponseFirst,
                (false, false) => Opcode::RcReadResponseMiddle,
                (false, true) => Opcode::RcReadResponseLast,
            };
            Line {
                opcode: opcode as u8,
                psn: (psn + i) & 0xff_ffff,
                len: (bytes - i * self.mtu).min(self.mtu) as u16,
                aeth: opcode.has_aeth().then_some((0x1f, self.msn)),
                ..Line::default()
            }
        };
        (0..packets).map(response).collect()
    }
}

/// A line that loses, doubles and reorders with these probabilities in 1/1000.
#[derive(Clone, Copy, Debug)]
struct Bad {
    lose: u64,
    double: u64,
    late: u64,
}

impl Bad {
    /// When the copies of a frame sent at `now` arrive.
    fn arrivals(&self, now: Time, rng: &mut Rng) -> Vec<Time> {
        let mut copies = 1 - usize::from(rng.below(1000) < self.lose);
        copies += usize::from(copies == 1 && rng.below(1000) < self.double);
        let late = |rng: &mut Rng| if rng.below(1000) < self.late { rng.below(4_000_000) } else { 0 };
        (0..copies).map(|_| now + Span::from_us(2) + Span(late(rng))).collect()
    }
}

struct Outcome {
    bench: Bench,
    done: Vec<Done>,
}

fn play(s: &Setup, bad: Bad, buffers: Option<u32>, seed: u64) -> Outcome {
    let mut rng = Rng::new(seed, "line", 0);
    let mut bench = Bench::new(s);
    let mut reference = Reference {
        mtu: s.mtu.into(),
        expected: s.psn,
        msn: 0,
        open: 0,
        naked: false,
        buffers,
        done: Vec::new(),
    };
    // By time and order of sending; `true` = for the reference.
    let mut flying: BTreeMap<(Time, u64), (bool, Line)> = BTreeMap::new();
    let mut n = 0;
    let end = Time::ZERO + Span::from_ms(5_000);
    loop {
        let next = flying.first_key_value().map_or(end, |(k, _)| k.0);
        if let Some(line) = bench.step(next) {
            for at in bad.arrivals(bench.now, &mut rng) {
                n += 1;
                flying.insert((at, n), (true, line));
            }
            assert!(n < 200_000, "seed {seed}: it never ends");
            continue;
        }
        let Some(((at, _), (to_reference, line))) = flying.pop_first() else { break };
        bench.now = bench.now.max(at);
        if !to_reference {
            bench.inject(&line, false, false);
            continue;
        }
        for (i, answer) in reference.receive(&line, &mut rng).into_iter().enumerate() {
            // Answers leave one after the other.
            for at in bad.arrivals(at + Span::from_ns(10 * i as u64), &mut rng) {
                n += 1;
                flying.insert((at, n), (false, answer));
            }
        }
    }
    Outcome { bench, done: reference.done }
}

fn setup(rng: &mut Rng, verb: Verb) -> Setup {
    let messages: Vec<u64> = (0..1 + rng.below(12)).map(|_| rng.below(2500)).collect();
    let reads = (0..messages.len()).filter(|_| rng.below(3) == 0).collect();
    let selective = rng.below(3) == 0;
    Setup {
        requester: true,
        messages,
        reads,
        verb,
        mtu: 256,
        psn: if rng.below(2) == 0 { 0xff_fff0 } else { 0x1000 },
        rc: RcConfig {
            ack_timeout: Span::from_us(50),
            window: 1 + rng.below(40) as u32,
            retransmission: if selective { Retransmission::SelectiveRepeat } else { Retransmission::GoBackN },
            max_rd_atomic: 1 + rng.below(4) as u8,
            ..RcConfig::default()
        },
    }
}

fn wanted(s: &Setup) -> Vec<Done> {
    let each = |(i, bytes): (usize, &u64)| match s.verb == Verb::Read || s.reads.contains(&i) {
        true => Done::Read(*bytes as u32),
        false => Done::Message(*bytes),
    };
    s.messages.iter().enumerate().map(each).collect()
}

/// What must hold after every run, whatever the line did.
fn holds(s: &Setup, o: &Outcome, what: &str) -> bool {
    let count = |name| o.bench.counter(name).unwrap();
    let (all, completed, failed) = (s.messages.len(), count("messages_completed"), count("messages_failed"));
    assert_eq!(completed + failed, all as u64, "{what}: every message ends");
    let wanted = wanted(s);
    assert_eq!(o.done[..], wanted[..o.done.len()], "{what}: each once and in order");
    assert!(o.done.len() as u64 >= completed, "{what}: nothing completes that was not carried out");
    let reasons: Vec<&HostEvent> =
        o.bench.events.iter().filter(|e| matches!(e, HostEvent::Failed { .. })).collect();
    assert_eq!(failed > 0, !reasons.is_empty(), "{what}: {reasons:?}");
    for r in reasons {
        let HostEvent::Failed { cause, .. } = r else { continue };
        assert_eq!(*cause, Failure::RetryExceeded, "{what}");
    }
    if failed == 0 {
        let read: u64 = wanted.iter().map(|d| if let Done::Read(n) = d { u64::from(*n) } else { 0 }).sum();
        assert_eq!(count("payload_bytes"), read, "{what}: every byte read once");
    }
    failed == 0
}

#[test]
fn whatever_the_line_does_messages_are_carried_out_once_and_in_order() {
    let lines = [
        Bad { lose: 0, double: 0, late: 0 },
        Bad { lose: 30, double: 0, late: 0 },
        Bad { lose: 0, double: 50, late: 50 },
        Bad { lose: 50, double: 30, late: 30 },
        Bad { lose: 200, double: 100, late: 100 },
    ];
    for bad in lines {
        let mut whole = 0;
        for seed in 0..120u64 {
            let mut rng = Rng::new(seed, "setup", 0);
            let verb = [Verb::Write, Verb::Send, Verb::WriteImm, Verb::Read][(seed % 4) as usize];
            let s = setup(&mut rng, verb);
            let o = play(&s, bad, None, seed);
            whole += u32::from(holds(&s, &o, &format!("{bad:?}, seed {seed}, {s:?}")));
        }
        let at_least = if bad.lose <= 50 { 115 } else { 20 };
        assert!(whole >= at_least, "{bad:?}: {whole} of 120 without a failure");
    }
}

#[test]
fn a_receiver_that_is_not_ready_delays_and_loses_nothing() {
    for seed in 0..120u64 {
        let mut rng = Rng::new(seed, "setup", 1);
        let s = setup(&mut rng, Verb::Send);
        let s = Setup { rc: RcConfig { retransmission: Retransmission::GoBackN, ..s.rc }, ..s };
        let bad = Bad { lose: if seed % 2 == 0 { 0 } else { 20 }, double: 0, late: 0 };
        let o = play(&s, bad, Some(1), seed);
        assert!(holds(&s, &o, &format!("seed {seed}, {s:?}")) || bad.lose > 0);
    }
}

#[test]
fn a_dead_line_ends_in_a_reason() {
    let mut rng = Rng::new(1, "setup", 0);
    let s = setup(&mut rng, Verb::Read);
    let o = play(&s, Bad { lose: 1000, double: 0, late: 0 }, None, 1);
    assert!(!holds(&s, &o, "dead line") && o.done.is_empty());
    // The first try and seven more.
    let first = o.bench.sent.iter().filter(|(_, l)| l.psn == s.psn).count();
    assert_eq!(first, 8);
}
