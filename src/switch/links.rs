//! What a switch is told about its links while it runs, and what it tells those who look for deadlocks.

use super::config::FlowControl;
use super::route::Router;
use super::{Routes, Switch, slot};
use crate::frame::Frame;
use crate::limits::PRIORITIES;
use crate::measure::network::XoffCause;
use crate::units::LinkTiming;

/// Frames at the head of a queue that are looked at for where they came in.
const BLAME_DEPTH: usize = 64;

impl<F: Frame> Switch<F> {
    /// The link of a port went down or came up: no pause holds any more in either direction, and what is still in XOFF
    /// will be said anew.
    pub fn link_changed(&mut self, port: u16) {
        self.ports[usize::from(port)].pfc.forget();
        self.wake(port);
    }

    /// The link of a port has another rate from now on.
    pub fn set_egress(&mut self, port: u16, timing: LinkTiming) {
        self.ports[usize::from(port)].egress = timing;
    }

    /// Frames that come in from now on take other routes. Allocates; frames already queued stay where they are.
    pub fn set_routes(&mut self, routes: &Routes) {
        self.router = self.router.with_routes(routes);
    }

    /// Why the group of a traffic class goes to XOFF at an ingress: the deepest queue of the class when it holds frames of
    /// that group among its first, otherwise the queue that the last frame joined.
    #[cold]
    pub(super) fn blame(&self, ingress: u16, own: u16, class: u8) -> XoffCause {
        let (queue, group) = (self.maps.queue_of(class) as u8, self.maps.group_of(class) as u8);
        let depth = |port: &u16| self.queues.depth_bytes(slot(*port, queue));
        let deepest = (0..self.ports.len() as u16).max_by_key(depth).unwrap_or(own);
        let holds = self.holds(deepest, queue, BLAME_DEPTH, slot(ingress, group));
        let egress = if holds { deepest } else { own };
        let paused = self.ports[usize::from(egress)].excused & (1 << queue) != 0;
        XoffCause { switch: self.index, ingress, egress, priority: class, paused }
    }

    /// True when one of the first `among` frames of a queue is charged to the group of this slot.
    fn holds(&self, port: u16, queue: u8, among: usize, group: usize) -> bool {
        let mut places = self.queues.groups(slot(port, queue)).take(among);
        places.any(|place| self.mmu.slot(usize::from(place)) == group)
    }

    /// Queues that have frames and may not send: (port, queue).
    pub fn paused_queues(&self) -> impl Iterator<Item = (u16, u8)> {
        self.ports
            .iter()
            .enumerate()
            .flat_map(|(p, port)| super::bits(port.stopped()).map(move |queue| (p as u16, queue as u8)))
    }

    /// Groups that keep a queue of the far end of a port silent, a bit each: it was told so, and that has not been taken
    /// back. Each of them has to let go. The far end is taken to have the same maps.
    pub fn held_by(&self, port: u16, queue: u8) -> u8 {
        let state = &self.ports[usize::from(port)];
        let speaks = state.pfc.holds_back();
        match self.flow_control {
            FlowControl::Pfc => super::bits(speaks & self.maps.into_queue(usize::from(queue)))
                .fold(0, |groups, class| groups | 1 << self.maps.group_of(class as u8)),
            FlowControl::Global => state.stopping * u8::from(speaks & 1 != 0),
        }
    }

    /// Queues (port, queue) with frames of one group of an ingress. Cost: a look at every frame of the queues it feeds.
    pub fn queues_from(&self, ingress: u16, group: u8) -> Vec<(u16, u8)> {
        let fed = super::bits(self.maps.into_group(usize::from(group)))
            .fold(0u8, |queues, class| queues | 1 << self.maps.queue_of(class as u8));
        let all = (0..self.ports.len() as u16).flat_map(|p| super::bits(fed).map(move |q| (p, q as u8)));
        all.filter(|(p, q)| self.holds(*p, *q, usize::MAX, slot(ingress, group))).collect()
    }

    /// Frames that a queue has sent.
    pub fn sent_frames(&self, port: u16, queue: u8) -> u64 {
        self.queues.sent(slot(port, queue)).frames
    }

    /// Frames in one queue. Cost: a look at each.
    pub fn queued_frames(&self, port: u16, queue: u8) -> u64 {
        debug_assert!(usize::from(queue) < PRIORITIES);
        self.queues.groups(slot(port, queue)).count() as u64
    }
}

impl Router {
    /// A router with the same manners and other routes. Flowlets begin anew.
    pub(super) fn with_routes(&self, routes: &Routes) -> Router {
        Router::new(routes, self.balance(), self.seed())
    }
}
