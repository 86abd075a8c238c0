//! Frames that pass a switch at once ([`super::Switch::forward`]) against the same ones that are queued and depart.

use proptest::prelude::*;

use super::Admit;
use super::mmu::Peaks;
use super::testing::{Bench, Left, config};
use super::tests::{Event, event, random_config};
use crate::frame::{FrameMeta, FramePool};
use crate::measure::record::{DropReason, MessageRecord, NoRecord, RankIteration, Record};
use crate::measure::stats::SwitchStats;
use crate::units::{ClassIx, Span, Time};

/// How long a frame takes on its link.
const ON_LINK: Span = Span::from_ns(120);

/// Depths of queues as frames joined them: port, priority, bytes.
#[derive(Default)]
struct Depths(Vec<(u16, u8, u64)>);

impl Record for Depths {
    fn arrival(&mut self, _: Time, _: &FrameMeta, _: ClassIx) {}
    fn message(&mut self, _: &MessageRecord) {}
    fn rank_iteration(&mut self, _: &RankIteration) {}
    fn port_pause(&mut self, _: Time, _: u32, _: u8, _: bool) {}
    fn queue_depth(&mut self, _: Time, _: u16, port: u16, priority: u8, bytes: u64) {
        self.0.push((port, priority, bytes));
    }
    fn drop(&mut self, _: Time, _: u16, _: u16, _: &FrameMeta, _: DropReason) {}
}

/// What came out of a switch, and what it says of itself.
#[derive(Debug, PartialEq)]
struct Outcome {
    left: Vec<(Time, u16, Left)>,
    stats: SwitchStats,
    peaks: Peaks,
    depths: Vec<(u16, u8, u64)>,
}

/// Plays events on a switch whose driver asks a port when it is told to and its link is idle; with `at_once` it also sends
/// what may pass. Returns how many did.
fn play(events: &[Event], kind: u8, at_once: bool) -> (Outcome, usize) {
    let mut b = Bench::new(random_config(4, 700, kind));
    let (mut depths, mut left, mut passed) = (Depths::default(), Vec::new(), 0);
    let (mut now, mut free, mut asks) = (Time(0), [Time(0); 4], Vec::<(Time, u16)>::new());
    let mut input = events.iter();
    loop {
        let (next_input, deadline) = (now + Span::from_ns(50), b.switch.next_deadline());
        let ask = asks.iter().min().copied().filter(|a| a.0 <= next_input.min(deadline));
        let mut wanted: Option<u16> = None;
        if let Some((at, port)) = ask {
            now = now.max(at);
            asks.retain(|a| a.1 != port);
            wanted = Some(port);
        } else if deadline <= next_input {
            now = now.max(deadline);
            b.switch.on_deadline(now, &mut NoRecord);
        } else {
            now = next_input;
            match input.next() {
                Some(Event::Arrive { ingress, dst, priority, len }) => {
                    let frame = b.frame(*dst, *priority, *len);
                    let idle = |port: u16| (at_once && free[usize::from(port)] <= now).then_some(port);
                    match b.switch.forward(now, *ingress, frame, &mut depths, idle) {
                        Ok((port, frame)) => {
                            passed += 1;
                            free[usize::from(port)] = now + ON_LINK;
                            left.push((now, port, Left::of(&frame)));
                            b.pool.give(frame);
                        }
                        Err(Admit::Queued) => {}
                        Err(Admit::Dropped(_, frame) | Admit::Consumed(frame)) => b.pool.give(frame),
                    }
                }
                Some(Event::Pause { port, priority, quanta }) => b.pause(now, *port, *priority, *quanta),
                Some(_) => {}
                None if asks.is_empty() && deadline == Time::NEVER => break,
                None => {}
            }
        }
        while let Some(port) = wanted.take().or_else(|| b.switch.poll_wake()) {
            let at = free[usize::from(port)];
            if at > now {
                asks.push((at, port));
            } else if let Some(l) = b.depart(now, port) {
                left.push((now, port, l));
                free[usize::from(port)] = now + ON_LINK;
                if b.switch.left_more() {
                    asks.push((now + ON_LINK, port));
                }
            }
        }
    }
    let (stats, peaks) = (b.switch.stats(), b.switch.mmu().peaks());
    (Outcome { left, stats, peaks, depths: depths.0 }, passed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever sends at once sees the same frames leave at the same times, with the same marks, pauses, counters and maxima.
    #[test]
    fn what_passes_is_accounted_for_as_if_it_had_waited(
        events in proptest::collection::vec(event(), 1..800),
        kind in 0u8..4,
    ) {
        prop_assert_eq!(play(&events, kind, true).0, play(&events, kind, false).0);
    }
}

/// Only what finds the link idle and nothing in its way passes.
#[test]
fn a_frame_passes_an_idle_port_only() {
    let to = |dst| Event::Arrive { ingress: 0, dst, priority: 1, len: 1_000 };
    let passed = |events: &[Event]| play(events, 0, true).1;
    assert_eq!(passed(&[to(1)]), 1);
    assert_eq!(passed(&[to(1), to(1)]), 1, "the link is busy for 120 ns, the second comes after 50");
    assert_eq!(passed(&[to(1), Event::Deadline, Event::Deadline, to(1)]), 2);
    assert_eq!(passed(&[to(1), to(3)]), 2, "another port");
    assert_eq!(passed(&[to(2)]), 0, "a shaper is there");
    let pause = |quanta| Event::Pause { port: 1, priority: 3, quanta };
    let lossless = Event::Arrive { ingress: 0, dst: 1, priority: 3, len: 1_000 };
    assert_eq!(passed(&[pause(1_000), lossless.clone()]), 0, "paused");
    assert_eq!(passed(&[pause(1_000), to(1)]), 1, "another priority");
    assert_eq!(passed(&[pause(1_000), pause(0), lossless]), 1);

    // Without a driver's word for it nothing passes.
    let mut b = Bench::new(config(2, 700));
    let frame = b.frame(1, 3, 1_000);
    assert!(matches!(b.switch.on_frame(Time(0), 0, frame, &mut NoRecord), Admit::Queued));
    assert_eq!(b.switch.inside_frames(), 1);
    b.switch.drain(&mut b.pool);
}
