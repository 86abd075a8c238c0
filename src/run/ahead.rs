//! Memory that the engine asks for in advance. Nothing here changes an outcome.
//!
//! Events follow each other at random over links, hosts and switches, so each finds its rows where the caches last put
//! them. The calendar knows the events of the near future, and a link the frames behind the one that arrives.

use super::engine::{Engine, Place, kind};
use crate::frame::{Frame, FramePool};
use crate::hint::prefetch;

/// So many events before its turn the row of an event's link is asked for.
const LINKS_AHEAD: usize = 4;
/// So many events before its turn what that row leads to.
const NODES_AHEAD: usize = 2;

impl<F: Frame, P: FramePool<Frame = F>> Engine<F, P> {
    /// Asks for what events that come soon will touch: the rows of their links, then the hosts behind those.
    /// Worth it in large fabrics only.
    pub(super) fn look_ahead(&self) {
        if let Some(key) = self.calendar.upcoming(LINKS_AHEAD) {
            match key.kind() {
                kind::ARRIVE | kind::FREE => {
                    if let Some(link) = self.links.get(key.index() as usize) {
                        prefetch(&raw const link.fifo);
                        prefetch(&raw const link.timing);
                    }
                }
                kind::HOST => self.expect_host(key.index()),
                _ => {}
            }
        }
        if self.calendar.open() > NODES_AHEAD
            && let Some(key) = self.calendar.upcoming(NODES_AHEAD)
            && key.kind() == kind::ARRIVE
            && let Some(link) = self.links.get(key.index() as usize)
        {
            if let Some(next) = link.fifo.front() {
                prefetch(next);
            }
            if let Place::Host(h) = link.to {
                self.expect_host(h);
            }
        }
    }

    #[inline]
    fn expect_host(&self, h: u32) {
        if let Some(slot) = self.hosts.get(h as usize) {
            slot.host.hot_lines().for_each(prefetch);
            prefetch(&raw const slot.armed);
        }
    }

    /// Asks for the memory that the next frames of a link will need: frames that are three arrivals away, then the
    /// rows of their queue pairs, then the messages of those; at a switch the rows of the queue that they will join.
    #[inline]
    pub(super) fn expect(&self, to: Place, link: usize) {
        let fifo = &self.links[link].fifo;
        match to {
            Place::Host(h) => {
                if let Some((_, later)) = fifo.get(2) {
                    later.cache_lines().into_iter().for_each(prefetch);
                }
                if self.qps_cold {
                    let host = &self.hosts[h as usize].host;
                    if let Some((_, soon)) = fifo.get(1) {
                        host.expect(soon);
                    }
                    if let Some((_, next)) = fifo.front() {
                        host.expect_next(next);
                    }
                }
            }
            Place::Switch(s, port) => {
                if let Some((_, soon)) = fifo.get(1) {
                    soon.cache_lines().into_iter().for_each(prefetch);
                }
                if self.rows_cold
                    && let Some((_, next)) = fifo.front()
                {
                    self.switches[s as usize].switch.expect(port, next);
                }
            }
            Place::Hurt | Place::Elsewhere => {}
        }
    }
}
