//! Faults on purpose: frames of a link that are lost, doubled, reordered, delayed, broken or marked.
//!
//! A [`FaultLine`] stands between a host and its link, in one direction. Every rule sees every RoCEv2 frame that
//! passes and counts those it matches; the first rule that fires decides the frame's fate. Frames that are not
//! RoCEv2 (PFC) pass untouched. Random rules draw from a stream of their own, so a fault pattern depends on the
//! seed, the link and the rule alone, and virtual time and rings see the same one.
//!
//! A frame whose ICRC is broken stays whole for switches, which do not look at it, and is dropped by the host
//! that receives it. It is marked by [`flags::CORRUPT`] everywhere; where a driver carries real bytes,
//! [`Frame::corrupt`] also breaks the ICRC itself and the receiver checks it over those bytes.

use std::collections::VecDeque;

use super::{Frame, FramePool, Payload, flags};
use crate::rng::Rng;
use crate::units::{FrameLen, Span, Time};
use crate::wire::HEAD_MAX;
use crate::wire::fast::{self, Fast, Kind};
use crate::wire::opcode::{Opcode, Operation};
use crate::wire::psn;

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Lost.
    Drop,
    /// Seen twice, the copy right behind.
    Duplicate,
    /// Changes places with the next frame of the link, if one comes within the span.
    Swap(Span),
    /// Its ICRC is broken: the receiving host drops it.
    Corrupt,
    /// Held back so long; frames behind it overtake.
    Delay(Span),
    /// Congestion experienced, if the frame is ECN capable.
    MarkCe,
}

/// A set of opcodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opcodes([u64; 4]);

impl Opcodes {
    /// Every opcode, known or not.
    pub const ANY: Opcodes = Opcodes([u64::MAX; 4]);

    /// The opcodes that match.
    pub fn of(matches: impl Fn(Opcode) -> bool) -> Opcodes {
        let mut set = [0u64; 4];
        for op in Opcode::ALL.iter().filter(|op| matches(**op)) {
            set[usize::from(*op as u8 >> 6)] |= 1 << (*op as u8 & 63);
        }
        Opcodes(set)
    }

    /// One opcode by its name (`RC_RDMA_WRITE_LAST`, `write-last`), or a group: `data`, `ack`, `send`, `write`,
    /// `read-request`, `read-response`, `atomic`, `cnp`. `None` when there is no such name.
    pub fn named(text: &str) -> Option<Opcodes> {
        let plain = |s: &str| s.to_ascii_lowercase().replace('_', "-");
        let text = plain(text);
        let group = match text.as_str() {
            "data" => Opcodes::of(|op| {
                matches!(op.operation(), Operation::Send | Operation::Write | Operation::ReadResponse)
            }),
            "ack" => Opcodes::of(|op| op.operation() == Operation::Acknowledge),
            "send" => Opcodes::of(|op| op.operation() == Operation::Send),
            "write" => Opcodes::of(|op| op.operation() == Operation::Write),
            "read-request" => Opcodes::of(|op| op.operation() == Operation::ReadRequest),
            "read-response" => Opcodes::of(|op| op.operation() == Operation::ReadResponse),
            "atomic" => Opcodes::of(|op| op.operation() == Operation::Atomic),
            "cnp" => Opcodes::of(|op| op.operation() == Operation::Cnp),
            _ => Opcodes::of(|op| {
                let name = plain(op.name());
                let short = name.replace("rdma-", "");
                name == text || short == text || short.strip_prefix("rc-") == Some(text.as_str())
            }),
        };
        (group.0 != [0; 4]).then_some(group)
    }

    /// Holds a raw opcode.
    #[inline]
    pub const fn has(&self, opcode: u8) -> bool {
        self.0[(opcode >> 6) as usize] >> (opcode & 63) & 1 != 0
    }
}

/// Which frames a rule is about, and what it does to them. Conditions left at their default match everything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// What happens.
    pub effect: Effect,
    /// Opcodes.
    pub opcodes: Opcodes,
    /// Destination queue pair on the wire.
    pub dest_qp: Option<u32>,
    /// Number of the sending queue pair or stream on its port, from 0.
    pub flow: Option<u32>,
    /// First and last PSN; the range may wrap.
    pub psn: Option<(u32, u32)>,
    /// The first frame the rule acts on, counted from 1 among those that match.
    pub nth: u64,
    /// How many matching frames in a row it acts on from there.
    pub count: u64,
    /// Probability that it acts on one of them.
    pub probability: f64,
}

impl Rule {
    /// A rule that does this to every frame.
    pub fn new(effect: Effect) -> Rule {
        Rule {
            effect,
            opcodes: Opcodes::ANY,
            dest_qp: None,
            flow: None,
            psn: None,
            nth: 1,
            count: u64::MAX,
            probability: 1.0,
        }
    }

    fn matches(&self, f: &Fast, flow: u32) -> bool {
        self.opcodes.has(f.opcode)
            && self.dest_qp.is_none_or(|qp| qp == f.dest_qp)
            && self.flow.is_none_or(|n| n == flow)
            && self.psn.is_none_or(|(from, to)| psn::sub(f.psn, from) <= psn::sub(to, from))
    }
}

/// A rule and what it has seen.
#[derive(Debug)]
struct Armed {
    rule: Rule,
    rng: Rng,
    matched: u64,
    fired: u64,
}

/// The rules of one link and direction.
#[derive(Debug)]
pub struct Faults {
    rules: Vec<Armed>,
}

impl Faults {
    /// Rules with the number each has in the run (its random stream); `seed` is the run's.
    pub fn new(rules: impl IntoIterator<Item = (u64, Rule)>, seed: u64) -> Faults {
        let arm = |(number, rule)| Armed { rule, rng: Rng::new(seed, "fault", number), matched: 0, fired: 0 };
        Faults { rules: rules.into_iter().map(arm).collect() }
    }

    /// What happens to a frame; `None` when nothing does. Every rule counts it. Cost: one look at the head.
    pub fn decide(&mut self, head: &[u8; HEAD_MAX], len: FrameLen, flow: u32) -> Option<Effect> {
        let f = fast::parse(head, len).ok().filter(|f| f.kind == Kind::Roce)?;
        let mut effect = None;
        for armed in &mut self.rules {
            if !armed.rule.matches(&f, flow) {
                continue;
            }
            armed.matched += 1;
            let Rule { nth, count, probability, .. } = armed.rule;
            if armed.matched < nth || armed.matched - nth >= count {
                continue;
            }
            // Drawn whether or not an earlier rule has fired, so that rules do not shift each other's draws.
            if (probability >= 1.0 || armed.rng.unit() < probability) && effect.is_none() {
                armed.fired += 1;
                effect = Some(armed.rule.effect);
            }
        }
        effect
    }

    /// How often each rule has acted.
    pub fn fired(&self) -> impl Iterator<Item = u64> + '_ {
        self.rules.iter().map(|r| r.fired)
    }
}

/// What comes out of a [`FaultLine`] for one frame that goes in, in order.
#[derive(Debug)]
pub struct Passed<F> {
    /// Frames that go on now: the frame, its copy, one it changed places with.
    pub on: arrayvec::ArrayVec<F, 3>,
    /// A frame that is lost.
    pub lost: Option<F>,
    /// A frame was made (the copy of a duplicate).
    pub doubled: bool,
}

/// The faults of one link and direction, with the frames they hold back.
#[derive(Debug)]
pub struct FaultLine<F> {
    faults: Faults,
    /// Waits for the next frame, at most until the time.
    swapped: Option<(Time, F)>,
    /// Sorted by the time they go on.
    delayed: VecDeque<(Time, F)>,
}

impl<F: Frame> FaultLine<F> {
    /// A line that holds nothing yet.
    pub fn new(faults: Faults) -> FaultLine<F> {
        FaultLine { faults, swapped: None, delayed: VecDeque::new() }
    }

    /// A frame comes at `now`. A duplicate whose copy finds the pool empty passes once.
    pub fn pass(&mut self, now: Time, mut frame: F, pool: &mut impl FramePool<Frame = F>) -> Passed<F> {
        let mut out = Passed { on: arrayvec::ArrayVec::new(), lost: None, doubled: false };
        match self.faults.decide(frame.head(), frame.len(), frame.meta().flow) {
            Some(Effect::Drop) => out.lost = Some(frame),
            Some(Effect::Delay(span)) => {
                let at = now + span;
                let behind = self.delayed.partition_point(|d| d.0 <= at);
                self.delayed.insert(behind, (at, frame));
            }
            Some(Effect::Swap(span)) if self.swapped.is_none() => {
                self.swapped = Some((now + span, frame));
                return out;
            }
            Some(Effect::Duplicate) => {
                let copy = copy_of(&frame, pool);
                out.doubled = copy.is_some();
                out.on.push(frame);
                out.on.extend(copy);
            }
            Some(Effect::Corrupt) => {
                frame.corrupt();
                out.on.push(frame);
            }
            Some(Effect::MarkCe) => {
                if fast::set_ce(frame.head_mut()) {
                    frame.meta_mut().flags |= flags::CE;
                }
                out.on.push(frame);
            }
            Some(Effect::Swap(_)) | None => out.on.push(frame),
        }
        if !out.on.is_empty() {
            out.on.extend(self.swapped.take().map(|s| s.1));
        }
        out
    }

    /// When a held frame goes on by itself; `NEVER` when none is held.
    pub fn next(&self) -> Time {
        let swapped = self.swapped.as_ref().map_or(Time::NEVER, |s| s.0);
        swapped.min(self.delayed.front().map_or(Time::NEVER, |d| d.0))
    }

    /// A held frame whose time has come.
    pub fn poll(&mut self, now: Time) -> Option<F> {
        if self.delayed.front().is_some_and(|d| d.0 <= now) {
            return self.delayed.pop_front().map(|d| d.1);
        }
        self.swapped.take_if(|s| s.0 <= now).map(|s| s.1)
    }

    /// How often each rule has acted.
    pub fn fired(&self) -> impl Iterator<Item = u64> + '_ {
        self.faults.fired()
    }

    /// Everything still held, at the end of a run.
    pub fn drain(&mut self) -> impl Iterator<Item = F> + '_ {
        self.swapped.take().into_iter().chain(self.delayed.drain(..)).map(|h| h.1)
    }
}

/// A second frame with the same headers and payload.
fn copy_of<F: Frame>(frame: &F, pool: &mut impl FramePool<Frame = F>) -> Option<F> {
    let mut copy = pool.take(frame.meta().fill, frame.len())?;
    *copy.head_mut() = *frame.head();
    *copy.meta_mut() = *frame.meta();
    if let (Payload::Bytes(from), Some(to)) = (frame.payload(), copy.payload_mut())
        && from.len() == to.len()
    {
        to.copy_from_slice(from);
    }
    pool.seal(&mut copy);
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::boxed::{BoxFrame, BoxPool};
    use crate::frame::{Fill, bytes};
    use crate::wire::headers::Ext;
    use crate::wire::template::{BthFields, FrameSpec, Template};

    fn frame(pool: &mut BoxPool, psn: u32, opcode: Opcode) -> BoxFrame {
        let spec = FrameSpec { ecn_bits: 2, ..FrameSpec::default() };
        let bth = BthFields { opcode: opcode as u8, dest_qp: 0x11, psn, ..BthFields::default() };
        let mut f = pool.take(Fill::Const, FrameLen(58 + 1024)).expect("room");
        let wire = Template::new(&spec).expect("IPv4").write(f.head_mut(), &bth, &Ext::None, 1024);
        (f.meta_mut().head_len, f.meta_mut().len) = (wire.head_len, wire.len);
        f
    }

    /// PSNs that go on for frames 0..n, one every microsecond, with those held back merged in when they are due.
    fn run(rules: &[Rule], n: u32) -> Vec<u32> {
        let mut pool = BoxPool::new(0, 1000);
        let numbered = rules.iter().copied().enumerate().map(|(i, r)| (i as u64, r));
        let mut line = FaultLine::new(Faults::new(numbered, 1));
        let (mut out, mut now) = (Vec::new(), Time::ZERO);
        let psn = |f: &BoxFrame| fast::parse(f.head(), f.len()).expect("a frame").psn;
        for i in 0..n {
            while let Some(f) = line.poll(now) {
                out.push(psn(&f));
                pool.give(f);
            }
            let f = frame(&mut pool, i, Opcode::RcWriteMiddle);
            let passed = line.pass(now, f, &mut pool);
            if let Some(f) = passed.lost {
                pool.give(f);
            }
            for f in passed.on {
                out.push(psn(&f));
                pool.give(f);
            }
            now += Span::from_us(1);
        }
        out.extend(line.drain().map(|f| psn(&f)));
        out
    }

    #[test]
    fn each_effect_does_what_it_says() {
        let on = |effect| Rule { psn: Some((2, 2)), ..Rule::new(effect) };
        assert_eq!(run(&[on(Effect::Drop)], 5), [0, 1, 3, 4]);
        assert_eq!(run(&[on(Effect::Duplicate)], 4), [0, 1, 2, 2, 3]);
        assert_eq!(run(&[on(Effect::Swap(Span::from_us(9)))], 5), [0, 1, 3, 2, 4]);
        assert_eq!(run(&[on(Effect::Delay(Span(1_500_000)))], 6), [0, 1, 3, 2, 4, 5]);
        assert_eq!(run(&[on(Effect::Corrupt)], 4), [0, 1, 2, 3]);
        let last = Rule { psn: Some((3, 3)), ..Rule::new(Effect::Swap(Span::from_us(9))) };
        assert_eq!(run(&[last], 4), [0, 1, 2, 3], "nothing to change places with");
    }

    #[test]
    fn rules_match_on_headers_count_and_chance() {
        let drop = Rule::new(Effect::Drop);
        assert_eq!(run(&[Rule { nth: 3, count: 2, ..drop }], 6), [0, 1, 4, 5]);
        assert_eq!(run(&[Rule { dest_qp: Some(0x12), ..drop }], 3), [0, 1, 2]);
        assert_eq!(run(&[Rule { flow: Some(0), ..drop }], 3), [0u32; 0]);
        assert_eq!(run(&[Rule { psn: Some((0xff_fffe, 1)), ..drop }], 4), [2, 3], "the range wraps");
        assert_eq!(run(&[Rule { opcodes: Opcodes::named("ack").expect("a group"), ..drop }], 2), [0, 1]);
        let opcodes = Opcodes::named("write-middle").expect("an opcode");
        assert_eq!(opcodes, Opcodes::named("RC_RDMA_WRITE_MIDDLE").expect("its long name"));
        assert_eq!(run(&[Rule { opcodes, ..drop }], 2), [0u32; 0]);
        assert!(Opcodes::named("write-midle").is_none());
        let lossy = Rule { probability: 0.25, ..drop };
        let left = run(&[lossy], 40_000);
        // Binomial with p = 0.25: standard deviation 87 frames in 40,000.
        assert!(left.len().abs_diff(30_000) < 350, "{} of 40,000 left at 25 % loss", left.len());
        assert_eq!(left, run(&[lossy], 40_000), "the same seed, the same losses");
        let twice = run(&[lossy, Rule { psn: Some((7, 7)), ..drop }], 40_000);
        assert!(twice.len() + 1 >= left.len(), "one more rule loses one frame more at most");
    }

    #[test]
    fn broken_and_marked_frames_say_so() {
        let mut pool = BoxPool::new(0, 10);
        for (effect, flag) in [(Effect::Corrupt, flags::CORRUPT), (Effect::MarkCe, flags::CE)] {
            let mut line = FaultLine::new(Faults::new([(0, Rule::new(effect))], 1));
            let f = frame(&mut pool, 9, Opcode::RcWriteMiddle);
            let out = line.pass(Time::ZERO, f, &mut pool).on.pop().expect("it passes");
            assert_eq!(out.meta().flags & flag, flag);
            let mut wire = Vec::new();
            bytes::materialise(&out, &mut wire).expect("RoCE");
            let intact = crate::wire::icrc::verify(&wire).expect("RoCE");
            assert_eq!(intact, effect == Effect::MarkCe, "captures show a broken ICRC; CE does not touch it");
            assert_eq!(line.fired().collect::<Vec<_>>(), [1]);
        }
    }
}
