//! Deadlocks between switches: egress queues that are paused because of each other.
//!
//! A paused queue can move again when the far end lets it: when frames that came in there by this link leave by other
//! queues. It is stuck when all those queues are stuck; where a pause stops the whole link, when that is so for one of
//! the priorities that ask for it. Queues that a PFC watchdog has freed are not stuck. The largest set of queues that is stuck in this sense, and in
//! which nothing has moved from one look to the next, is a deadlock: looks are a refresh of the slowest pause apart, so
//! that a threshold that has risen has been noticed in between.

use std::collections::{BTreeMap, BTreeSet};

use super::calendar::Key;
use super::engine::{Engine, kind};
use crate::frame::{Frame, FramePool};
use crate::measure::network::Deadlock;
use crate::switch::bits;
use crate::topology::{End, Fabric};
use crate::units::{Span, Time};

/// An egress queue: switch, port, number.
type Queue = (u16, u16, u8);

/// For every paused queue, the groups that hold it: the queues of each, one of which has to move before it lets go.
type Needs = BTreeMap<Queue, Vec<Vec<Queue>>>;

/// The look-out of the engine that has the switches.
pub(super) struct Watch {
    period: Span,
    /// Far end of every switch port that leads to a switch.
    peers: BTreeMap<(u16, u16), (u16, u16)>,
    /// Names of queues, for the reason that ends a run.
    names: BTreeMap<(u16, u16), String>,
    /// Stuck queues of the last look, with the frames they had sent.
    last: BTreeMap<Queue, u64>,
    ends: bool,
    /// Already told.
    told: bool,
}

impl<F: Frame, P: FramePool<Frame = F>> Engine<F, P> {
    /// Begins to look for deadlocks.
    pub(super) fn watch_deadlocks(&mut self, fabric: &Fabric, ends: bool) {
        if !self.has_switches() {
            return;
        }
        let peer = |l: &crate::topology::Link| match (l.from, l.to) {
            (End::Switch(a, p), End::Switch(b, q)) => Some(((a, p), (b, q))),
            _ => None,
        };
        let refresh = |s: &crate::switch::config::SwitchConfig| {
            let quanta = s.pause_quanta;
            s.ports.iter().map(move |p| p.egress.rate().quanta(quanta).0 / 2).max()
        };
        let period = Span(fabric.switches.iter().filter_map(refresh).max().unwrap_or(0).max(1_000_000));
        let peers: BTreeMap<(u16, u16), (u16, u16)> = fabric.links.iter().filter_map(peer).collect();
        let names = peers.keys().map(|(s, p)| ((*s, *p), fabric.port_name(*s, *p))).collect();
        let last = BTreeMap::new();
        self.watch = Some(Box::new(Watch { period, peers, names, last, ends, told: false }));
        self.calendar.push(Time::ZERO + period, Key::new(kind::WATCH, 0));
    }

    /// Looks once.
    #[cold]
    pub(super) fn look_for_deadlock(&mut self) {
        let now = self.now;
        let Some(mut watch) = self.watch.take() else { return };
        let needs = self.waits(&watch.peers);
        let stuck = closure(&needs, |_| true);
        let sent: BTreeMap<Queue, u64> = stuck.iter().map(|q| (*q, self.sent(*q))).collect();
        let unmoved = closure(&needs, |q| stuck.contains(q) && watch.last.get(q) == sent.get(q));
        if unmoved.is_empty() {
            watch.told = false;
        } else if !std::mem::replace(&mut watch.told, true) {
            let cycle = cycle(&needs, &unmoved);
            let frames = unmoved.iter().map(|q| self.held(*q)).sum();
            let name = |(s, p, _): &Queue| watch.names.get(&(*s, *p)).cloned().unwrap_or_default();
            let mut circle: Vec<String> = cycle.iter().map(name).collect();
            circle.extend(circle.first().cloned());
            let text = format!(
                "deadlock: queues of priority {} wait for each other: {}; {} queues with {frames} frames cannot move",
                cycle.first().map_or(0, |q| q.2),
                circle.join(" -> "),
                unmoved.len()
            );
            self.recorder.network_mut().deadlock(Deadlock {
                confirmed: now,
                cycle,
                queues: unmoved.len() as u32,
                frames,
            });
            if watch.ends {
                let gap = self.phases().gap();
                self.phases().shared().give_up(now + gap, &text);
            }
        }
        watch.last = sent;
        self.calendar.push(now + watch.period, Key::new(kind::WATCH, 0));
        self.watch = Some(watch);
    }

    /// Every paused queue with frames, and the queues at the far end that would have to move first. Those whose far end
    /// has nothing against them are left out.
    fn waits(&mut self, peers: &BTreeMap<(u16, u16), (u16, u16)>) -> Needs {
        let mut paused: Vec<Queue> = Vec::new();
        self.each_switch(|s, switch| paused.extend(switch.paused_queues().map(|(p, q)| (s, p, q))));
        let mut needs = BTreeMap::new();
        for (s, port, priority) in paused {
            let Some(&(far, ingress)) = peers.get(&(s, port)) else { continue };
            let Some(switch) = self.switch_index(far).map(|i| self.switch_mut(i)) else { continue };
            let mut first: Vec<Vec<Queue>> = Vec::new();
            for group in bits(switch.held_by(ingress, priority)).map(|g| g as u8) {
                let queues = switch.queues_from(ingress, group).into_iter();
                first.push(queues.map(|(egress, queue)| (far, egress, queue)).collect());
            }
            first.retain(|queues| !queues.is_empty());
            if !first.is_empty() {
                needs.insert((s, port, priority), first);
            }
        }
        needs
    }

    fn sent(&mut self, (s, port, priority): Queue) -> u64 {
        let at = self.switch_index(s);
        at.map_or(0, |i| self.switch_mut(i).sent_frames(port, priority))
    }

    fn held(&mut self, (s, port, priority): Queue) -> u64 {
        let at = self.switch_index(s);
        at.map_or(0, |i| self.switch_mut(i).queued_frames(port, priority))
    }
}

/// The largest set of queues for which `in_question` holds and all that each needs is in the set too.
fn closure(needs: &Needs, in_question: impl Fn(&Queue) -> bool) -> BTreeSet<Queue> {
    let mut set: BTreeSet<Queue> = needs.keys().filter(|q| in_question(q)).copied().collect();
    loop {
        let free = |group: &Vec<Queue>| group.iter().any(|f| !set.contains(f));
        let moves = |q: &Queue| needs.get(q).is_none_or(|groups| groups.iter().all(free));
        let free: Vec<Queue> = set.iter().filter(|q| moves(q)).copied().collect();
        if free.is_empty() {
            return set;
        }
        free.iter().for_each(|q| {
            set.remove(q);
        });
    }
}

/// A circle in a set in which every queue needs another of the set.
fn cycle(needs: &Needs, set: &BTreeSet<Queue>) -> Vec<Queue> {
    let mut path: Vec<Queue> = Vec::new();
    let mut next = set.first().copied();
    while let Some(q) = next {
        if let Some(from) = path.iter().position(|seen| *seen == q) {
            return path.split_off(from);
        }
        path.push(q);
        let stuck = |group: &&Vec<Queue>| group.iter().all(|f| set.contains(f));
        next = needs.get(&q).and_then(|g| g.iter().find(stuck)?.first()).copied();
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_depends_on_the_circle_alone_is_stuck() {
        let q = |s: u16| (s, 0u16, 3u8);
        // 0 -> 1 -> 2 -> 0 in a circle, 3 waits for it, 4 waits for it or for 5, which is free.
        let needs: Needs = [(0, vec![1]), (1, vec![2]), (2, vec![0]), (3, vec![1]), (4, vec![0, 5])]
            .into_iter()
            .map(|(a, b)| (q(a), vec![b.into_iter().map(q).collect()]))
            .collect();
        let stuck = closure(&needs, |_| true);
        assert_eq!(stuck.iter().map(|q| q.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(cycle(&needs, &stuck), [q(0), q(1), q(2)]);
        assert!(closure(&needs, |x| x.0 != 1).is_empty(), "one that moves frees all");
    }

    #[test]
    fn a_link_that_two_priorities_stop_needs_both() {
        let q = |s: u16, p: u8| (s, 0u16, p);
        // 0 and 1 hold each other by priority 3; priority 0 of both could go on, and holds them too.
        let groups = |to: u16| vec![vec![q(to, 0)], vec![q(to, 3)]];
        let needs: Needs = [(q(0, 3), groups(1)), (q(1, 3), groups(0))].into_iter().collect();
        let stuck = closure(&needs, |_| true);
        assert_eq!(stuck.len(), 2);
        assert_eq!(cycle(&needs, &stuck), [q(0, 3), q(1, 3)]);
    }
}
