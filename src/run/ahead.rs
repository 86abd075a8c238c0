//! Memory that the engine asks for in advance. Nothing here changes an outcome.
//!
//! Events follow each other at random over links, hosts and switches, so each finds its rows where the caches last put
//! them. The calendar knows the events of the near future.

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
        if let Some((key, frame)) = self.calendar.upcoming(LINKS_AHEAD) {
            match key.kind() {
                kind::ARRIVE | kind::FREE => {
                    if let Some(link) = self.links.get(key.index() as usize) {
                        prefetch(&raw const link.timing);
                    }
                    if let Some(frame) = frame {
                        frame.cache_lines().into_iter().for_each(prefetch);
                    }
                }
                kind::HOST => self.expect_host(key.index()),
                _ => {}
            }
        }
        if self.calendar.open() > NODES_AHEAD
            && let Some((key, Some(frame))) = self.calendar.upcoming(NODES_AHEAD)
            && let Some(link) = self.links.get(key.index() as usize)
        {
            match link.to {
                Place::Host(h) => {
                    self.expect_host(h);
                    if self.qps_cold {
                        self.hosts[h as usize].host.expect(frame);
                    }
                }
                Place::Switch(s, port) => self.switches[s as usize].switch.expect(port, frame),
                Place::Hurt | Place::Elsewhere => {}
            }
        }
    }

    #[inline]
    fn expect_host(&self, h: u32) {
        if let Some(alarm) = self.alarms.get(h as usize) {
            prefetch(alarm);
        }
        if let Some(slot) = self.hosts.get(h as usize) {
            slot.host.hot_lines().for_each(prefetch);
        }
    }
}
