//! Faults injected where a host's link takes or delivers frames. Everything here is off the path of a run without
//! faults.
//!
//! Sending side: a lost frame has occupied its link; a held one takes its turn on the link when it is released, and
//! a copy takes one of its own. So frames still arrive in the order they were put on the link, which the receiving
//! end relies on. Receiving side: what passes is handed over at once, in order.

use super::calendar::Key;
use super::engine::{Engine, kind};
use crate::frame::fault::{FaultLine, Faults};
use crate::frame::{Frame, FramePool};
use crate::plan::LinkFault;
use crate::topology::{End, Fabric};
use crate::units::Time;

/// The faulty ends of links in one engine.
pub(super) struct FaultLinks<F> {
    /// By link.
    lines: Vec<Option<Line<F>>>,
}

struct Line<F> {
    line: FaultLine<F>,
    /// Host that sends into (`tx`) or receives from the link.
    host: usize,
    tx: bool,
    armed: Time,
}

impl<F: Frame, P: FramePool<Frame = F>> Engine<F, P> {
    /// Puts the plan's faults on the links whose host ends are here.
    pub(super) fn inject_faults(&mut self, fabric: &Fabric, faults: &[LinkFault], seed: u64) {
        if faults.is_empty() {
            return;
        }
        let line = |link: &crate::topology::Link| {
            let (port, rx) = match (link.from, link.to) {
                (End::Host(port), _) => (port, false),
                (_, End::Host(port)) => (port, true),
                _ => return None,
            };
            let host = self.host_index(port)?;
            let rules = faults.iter().enumerate().filter(|(_, f)| f.port == port && f.rx == rx);
            let mut rules = rules.map(|(i, f)| (i as u64, f.rule)).peekable();
            rules.peek()?;
            Some(Line { line: FaultLine::new(Faults::new(rules, seed)), host, tx: !rx, armed: Time::NEVER })
        };
        let lines: Vec<_> = fabric.links.iter().map(line).collect();
        if lines.iter().any(Option::is_some) {
            self.faults = Some(Box::new(FaultLinks { lines }));
        }
    }

    /// A host puts a frame on its idle link, in an engine with faults.
    #[cold]
    pub(super) fn transmit_faulty(&mut self, link: usize, frame: F) {
        let now = self.now;
        let line = self.faults.as_mut().and_then(|f| f.lines[link].as_mut()).filter(|l| l.tx);
        let Some(line) = line else { return self.transmit(link, frame, true) };
        let passed = line.line.pass(now, frame, &mut self.pool);
        if let Some(frame) = passed.lost {
            self.occupy(link, &frame);
            self.lose(frame);
        }
        for frame in passed.on {
            self.transmit_queued(link, frame);
        }
        self.arm_fault(link);
    }

    /// A frame reaches a host, in an engine with faults.
    #[cold]
    pub(super) fn arrive_faulty(&mut self, link: usize, h: usize, frame: F) {
        let now = self.now;
        let line = self.faults.as_mut().and_then(|f| f.lines[link].as_mut()).filter(|l| !l.tx);
        match line {
            None => self.hand_over_late(h, frame),
            Some(line) => {
                let passed = line.line.pass(now, frame, &mut self.pool);
                if let Some(frame) = passed.lost {
                    self.conservation.dropped_frames += 1;
                    self.conservation.dropped_bytes += super::engine::bytes_of(frame.len());
                    self.pool.give(frame);
                }
                if passed.doubled
                    && let Some(copy) = passed.on.get(1)
                {
                    self.conservation.sent_frames += 1;
                    self.conservation.sent_bytes += super::engine::bytes_of(copy.len());
                }
                for frame in passed.on {
                    self.hand_over_late(h, frame);
                }
                self.arm_fault(link);
            }
        }
        self.kick_host(h);
    }

    /// Held frames of a link may go on.
    #[cold]
    pub(super) fn fault_due(&mut self, link: u32) {
        let (now, link) = (self.now, link as usize);
        let line_at = |e: &mut Self| -> Option<(Option<F>, usize, bool)> {
            let line = e.faults.as_mut()?.lines[link].as_mut()?;
            line.armed = Time::NEVER;
            Some((line.line.poll(now), line.host, line.tx))
        };
        let mut host = None;
        while let Some((Some(frame), h, tx)) = line_at(self) {
            if tx {
                self.transmit_queued(link, frame);
            } else {
                self.hand_over_late(h, frame);
            }
            host = Some(h);
        }
        self.arm_fault(link);
        if let Some(h) = host {
            self.kick_host(h);
        }
    }

    #[inline(never)]
    fn hand_over_late(&mut self, h: usize, frame: F) {
        self.hand_over(h, frame);
    }

    fn arm_fault(&mut self, link: usize) {
        let Some(line) = self.faults.as_mut().and_then(|f| f.lines[link].as_mut()) else { return };
        let due = line.line.next();
        if due < line.armed {
            line.armed = due;
            self.calendar.push(due.max(self.now), Key::new(kind::FAULT, link as u32));
        }
    }

    fn lose(&mut self, frame: F) {
        let bytes = super::engine::bytes_of(frame.len());
        let c = &mut self.conservation;
        c.sent_frames += 1;
        c.sent_bytes += bytes;
        c.dropped_frames += 1;
        c.dropped_bytes += bytes;
        self.pool.give(frame);
    }

    /// Ends the lines: what they hold was never sent (sending side) or is still on its way.
    pub(super) fn drain_faults(&mut self) {
        let Some(mut faults) = self.faults.take() else { return };
        for line in faults.lines.iter_mut().flatten() {
            for frame in line.line.drain() {
                if !line.tx {
                    self.conservation.inside_frames += 1;
                }
                self.pool.give(frame);
            }
        }
    }
}
