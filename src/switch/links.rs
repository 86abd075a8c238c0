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

    /// Why an ingress goes to XOFF: the deepest queue of the priority when it holds frames of that ingress among its
    /// first, otherwise the queue that the last frame joined.
    #[cold]
    pub(super) fn blame(&self, ingress: u16, own: u16, priority: u8) -> XoffCause {
        let depth = |port: &u16| self.queues.depth_bytes(slot(*port, priority));
        let deepest = (0..self.ports.len() as u16).max_by_key(depth).unwrap_or(own);
        let holds = self.queues.ingresses(slot(deepest, priority)).take(BLAME_DEPTH).any(|i| i == ingress);
        let egress = if holds { deepest } else { own };
        let paused = self.ports[usize::from(egress)].excused & (1 << priority) != 0;
        XoffCause { switch: self.index, ingress, egress, priority, paused }
    }

    /// Queues that have frames and may not send: (port, priority).
    pub fn paused_queues(&self) -> impl Iterator<Item = (u16, u8)> {
        self.ports
            .iter()
            .enumerate()
            .flat_map(|(p, port)| super::bits(port.stopped()).map(move |priority| (p as u16, priority as u8)))
    }

    /// Priorities whose groups keep this priority of the far end of a port silent: it was told so, and that has not been
    /// taken back. Each of them has to let go.
    pub fn held_by(&self, port: u16, priority: u8) -> u8 {
        let state = &self.ports[usize::from(port)];
        let speaks = state.pfc.holds_back() & 1 << self.flow_control.speaker(priority);
        match self.flow_control {
            FlowControl::Pfc => speaks,
            FlowControl::Global => state.stopping * u8::from(speaks != 0),
        }
    }

    /// Egress ports with frames of one priority that came in by `ingress`. Cost: a look at every frame of the priority.
    pub fn queues_from(&self, ingress: u16, priority: u8) -> Vec<u16> {
        let has = |port: &u16| self.queues.ingresses(slot(*port, priority)).any(|i| i == ingress);
        (0..self.ports.len() as u16).filter(has).collect()
    }

    /// Frames that a queue has sent.
    pub fn sent_frames(&self, port: u16, priority: u8) -> u64 {
        self.queues.sent(slot(port, priority)).frames
    }

    /// Frames in one queue. Cost: a look at each.
    pub fn queued_frames(&self, port: u16, priority: u8) -> u64 {
        debug_assert!(usize::from(priority) < PRIORITIES);
        self.queues.ingresses(slot(port, priority)).count() as u64
    }
}

impl Router {
    /// A router with the same manners and other routes. Flowlets begin anew.
    pub(super) fn with_routes(&self, routes: &Routes) -> Router {
        Router::new(routes, self.balance(), self.seed())
    }
}
