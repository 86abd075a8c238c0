//! Pauses, both ways: what a message from the far end of a port stops, and what is said when groups go to XOFF and to XON.

use super::config::FlowControl;
use super::pfc::bits;
use super::{Switch, port_of};
use crate::frame::Frame;
use crate::limits::PRIORITIES;
use crate::measure::record::Record;
use crate::units::{Span, Time};
use crate::wire::pfc::PfcFrame;

impl<F: Frame> Switch<F> {
    pub(super) fn on_pfc(&mut self, now: Time, ingress: u16, message: &PfcFrame, rec: &mut impl Record) {
        let p = usize::from(ingress);
        self.look(now, ingress);
        for class in bits(message.enable) {
            // PFC is per priority a setting of both directions: one that does not send it does not obey it.
            if self.mmu.is_lossless(p * PRIORITIES + self.maps.group_of(class as u8)) {
                self.obey(now, ingress, class, message.quanta[class], rec);
            }
        }
        self.look(now, ingress);
        self.wake(ingress);
    }

    /// The far end asked for silence of the whole link.
    pub(super) fn on_pause(&mut self, now: Time, ingress: u16, quanta: u16, rec: &mut impl Record) {
        self.look(now, ingress);
        (0..PRIORITIES).for_each(|class| self.obey(now, ingress, class, quanta, rec));
        self.look(now, ingress);
        self.wake(ingress);
    }

    /// A traffic class is asked to be silent: its queue stops.
    fn obey(&mut self, now: Time, ingress: u16, class: usize, quanta: u16, rec: &mut impl Record) {
        let p = usize::from(ingress);
        let port = &mut self.ports[p];
        let pause = match quanta {
            0 => Span::ZERO,
            _ if self.imitates => Span(u64::MAX),
            quanta => port.egress.rate().quanta(quanta),
        };
        port.pfc.receive(now, class, pause, &mut self.stats.ports[p].pfc[class]);
        let until = Time(now.0.saturating_add(pause.0));
        let queue = self.maps.queue_of(class as u8);
        port.excused |= u8::from(until > now && port.waiting & (1 << queue) != 0) << queue;
        rec.switch_paused(now, self.index, ingress, class as u8, until);
    }

    fn look(&mut self, now: Time, port: u16) {
        let p = usize::from(port);
        let next = self.ports[p].pauses(now, &mut self.stats.ports[p]);
        self.deadline = self.deadline.min(next);
    }

    /// Priorities whose messages speak for a group, a bit each; where the whole link stops it is the first.
    fn speakers(&self, group: u8) -> u8 {
        match self.flow_control {
            FlowControl::Pfc => self.voices[usize::from(group)],
            FlowControl::Global => 1,
        }
    }

    /// The group of this place went to XOFF: its far end is told to stop.
    pub(super) fn stop(&mut self, place: usize) {
        let (port, group) = port_of(self.mmu.slot(place));
        let p = &mut self.ports[usize::from(port)];
        let before = p.stopping;
        if self.flow_control == FlowControl::Global {
            p.stopping |= 1 << group;
        }
        if before == 0 {
            for speaker in bits(self.speakers(group)) {
                let p = &mut self.ports[usize::from(port)];
                let refresh_due = p.pfc.set_xoff(speaker);
                self.deadline = self.deadline.min(refresh_due);
            }
            self.marker.number_pfc();
            self.wake(port);
        }
    }

    /// The group of this place went to XON: its far end may go on.
    pub(super) fn go_on(&mut self, place: usize) {
        let (port, group) = port_of(self.mmu.slot(place));
        let p = &mut self.ports[usize::from(port)];
        p.stopping &= !(1 << group);
        if p.stopping == 0 {
            let speakers = self.speakers(group);
            let pfc = &mut self.ports[usize::from(port)].pfc;
            bits(speakers).for_each(|speaker| pfc.set_xon(speaker));
            self.marker.number_pfc();
            self.wake(port);
        }
    }

    /// A refresh of a port's XOFF is due: it goes out unless the group may go on.
    pub(super) fn refresh(&mut self, p: usize, speaker: usize) {
        let groups = match self.flow_control {
            FlowControl::Pfc => 1 << self.maps.group_of(speaker as u8),
            FlowControl::Global => self.ports[p].stopping,
        };
        let mut still = 0;
        for group in bits(groups) {
            let slot = p * PRIORITIES + group;
            self.mmu.try_xon(slot);
            still |= u8::from(self.mmu.is_xoff(slot)) << group;
        }
        let port = &mut self.ports[p];
        port.stopping &= still;
        match still {
            0 => port.pfc.set_xon(speaker),
            _ => port.pfc.refresh(speaker),
        }
    }
}
