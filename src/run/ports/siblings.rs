//! What the queues of one port share: the wire, pauses, neighbours, and frames that came to the wrong one.
//!
//! Each queue is a port of its own to its worker ([`super::port`]); a port with one queue has no siblings and pays for none
//! of this.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arrayvec::ArrayVec;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::frame::{Burst, Frame};
use crate::limits::{BURST, PRIORITIES};
use crate::plan::shards::Homes;
use crate::units::{Rate, Span, Time};
use crate::wire::pfc::PfcFrame;
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MAC_CONTROL, ETHERTYPE_VLAN, be16, be32};

/// Frames that may wait for a queue whose worker is busy.
const INBOX: usize = 4 * BURST;

/// Addresses and the MACs that answered for them.
pub(super) type Told = Vec<(IpAddr, [u8; 6])>;

/// Until when each priority is to wait, as the last PFC frames said.
#[derive(Debug, Default)]
struct Pauses {
    /// Changes with every frame; the words below come first.
    version: AtomicU64,
    /// Arrival of the last frame that asked somebody to wait.
    asked_at: AtomicU64,
    until: [AtomicU64; PRIORITIES],
}

/// One per port.
#[derive(Debug)]
struct Common {
    /// The reckoned wire is busy until then.
    free_at: AtomicU64,
    pauses: Pauses,
    /// What neighbours have told; queue 0 asks them.
    told: OnceLock<Told>,
    homes: Homes,
}

/// A queue's view of its port.
#[derive(Debug)]
pub(super) struct Siblings<F> {
    common: Arc<Common>,
    queue: u16,
    inbox: Receiver<F>,
    /// To each queue.
    others: Vec<Sender<F>>,
    /// Look at the inbox before the device: every other time.
    first: bool,
    version: u64,
    /// What this queue goes by.
    until: [u64; PRIORITIES],
    /// Frames for other queues that came here, and those of them that found no room there.
    pub misdirected: u64,
    pub lost: u64,
}

/// The views of all queues of a port, in order; empty for a port with one.
pub(super) fn family<F>(homes: Homes, queues: u16) -> Vec<Siblings<F>> {
    if queues < 2 {
        return Vec::new();
    }
    let common = Arc::new(Common {
        free_at: AtomicU64::new(0),
        pauses: Pauses::default(),
        told: OnceLock::new(),
        homes,
    });
    let (others, inboxes): (Vec<Sender<F>>, Vec<Receiver<F>>) = (0..queues).map(|_| bounded(INBOX)).unzip();
    let view = |(queue, inbox)| Siblings {
        common: Arc::clone(&common),
        queue,
        inbox,
        others: others.clone(),
        first: false,
        version: 0,
        until: [0; PRIORITIES],
        misdirected: 0,
        lost: 0,
    };
    (0..queues).zip(inboxes).map(view).collect()
}

impl<F: Frame> Siblings<F> {
    // --- The wire ---

    /// Until when the wire is reckoned to be busy.
    #[inline]
    pub fn free_at(&self) -> Time {
        Time(self.common.free_at.load(Ordering::Relaxed))
    }

    /// Keeps the wire busy for `span` from `now`, or from when it is free.
    #[inline]
    pub fn occupy(&self, now: Time, span: Span) {
        let after = |free: u64| Some(free.max(now.0) + span.0);
        // Never fails, as there is always a new value.
        let _ = self.common.free_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
    }

    /// This queue's part of the room for so many frames: what others take at the same moment fits as well.
    #[inline]
    pub fn part(&self, room: usize) -> usize {
        room.div_ceil(self.others.len())
    }

    /// Time starts again.
    pub fn clock_from(&self) {
        self.common.free_at.store(0, Ordering::Relaxed);
    }

    // --- Neighbours ---

    /// The neighbours of the port, once queue 0 has asked them all.
    pub fn told(&self) -> Option<&Told> {
        self.common.told.get()
    }

    /// All have answered.
    pub fn publish(&self, told: &Told) {
        // Once for all: neighbours that tell again later change nothing.
        let _ = self.common.told.set(told.clone());
    }

    // --- Pauses ---

    /// A PFC frame came to this queue, which obeys it by itself.
    pub fn tell(&mut self, now: Time, pause: &PfcFrame, rate: Rate) {
        let shared = &self.common.pauses;
        for (p, mine) in (0u8..).zip(&mut self.until) {
            let Some(quanta) = pause.quanta_of(p) else { continue };
            let until = if quanta == 0 { 0 } else { (now + rate.quanta(quanta)).0 };
            *mine = until;
            shared.until[usize::from(p)].store(until, Ordering::Relaxed);
            if quanta > 0 {
                shared.asked_at.store(now.0, Ordering::Relaxed);
            }
        }
        shared.version.fetch_add(1, Ordering::Release);
    }

    /// Pauses that came to other queues since the last call, as priority and quanta left at `now`, and when the last XOFF of
    /// them came. Cost without: a load.
    #[inline]
    pub fn pauses(&mut self, now: Time, rate: Rate) -> Option<(ArrayVec<(u8, u16), PRIORITIES>, Time)> {
        let version = self.common.pauses.version.load(Ordering::Acquire);
        (version != self.version).then(|| self.news(version, now, rate))
    }

    #[cold]
    fn news(&mut self, version: u64, now: Time, rate: Rate) -> (ArrayVec<(u8, u16), PRIORITIES>, Time) {
        self.version = version;
        let shared = &self.common.pauses;
        let quantum = rate.quanta(1).0.max(1);
        let mut news = ArrayVec::new();
        for (p, (mine, theirs)) in (0u8..).zip(self.until.iter_mut().zip(&shared.until)) {
            let until = theirs.load(Ordering::Relaxed);
            if std::mem::replace(mine, until) != until {
                let left = until.saturating_sub(now.0).div_ceil(quantum);
                news.push((p, left.min(u16::MAX.into()) as u16));
            }
        }
        (news, Time(shared.asked_at.load(Ordering::Relaxed)))
    }

    // --- Frames ---

    /// The queue a frame belongs to: that of its destination, and queue 0 for what is no IP. Pauses, and what is for none of
    /// our addresses, stay where they are.
    #[inline]
    fn home(&self, frame: &F) -> u16 {
        let head = frame.head();
        let (at, kind) = match be16(head, 12) {
            ETHERTYPE_VLAN => (18, be16(head, 16)),
            kind => (14, kind),
        };
        let low = match kind {
            ETHERTYPE_IPV4 => be32(head, at + 16),
            ETHERTYPE_IPV6 => match low_of_v6(head, at) {
                Some(low) => low,
                None => return 0,
            },
            ETHERTYPE_MAC_CONTROL => return self.queue,
            _ => return 0,
        };
        self.common.homes.of(low).unwrap_or(self.queue)
    }

    /// Hands over what belongs to other queues, of the frames from `from` on; those that find no room there are put into
    /// `lost`.
    pub fn sort(&mut self, frames: &mut Burst<F>, from: usize, lost: &mut Burst<F>) {
        if frames.iter().skip(from).all(|f| self.home(f) == self.queue) {
            return;
        }
        let all = std::mem::take(frames);
        for (i, frame) in all.into_iter().enumerate() {
            let home = if i < from { self.queue } else { self.home(&frame) };
            if home == self.queue {
                frames.push(frame);
                continue;
            }
            self.misdirected += 1;
            let Some(to) = self.others.get(usize::from(home)) else {
                lost.push(frame);
                continue;
            };
            if let Err(refused) = to.try_send(frame) {
                self.lost += 1;
                lost.push(refused.into_inner());
            }
        }
    }

    /// It is the inbox's turn. The device has the next one.
    #[inline]
    pub fn inbox_first(&mut self) -> bool {
        self.first = !self.first;
        self.first && !self.inbox.is_empty()
    }

    /// Takes frames that came to other queues; how many.
    pub fn take(&mut self, out: &mut Burst<F>) -> usize {
        let before = out.len();
        while !out.is_full()
            && let Ok(frame) = self.inbox.try_recv()
        {
            out.push(frame);
        }
        out.len() - before
    }
}

/// Next header of ICMPv6: neighbour discovery, which is the business of queue 0.
const ICMPV6: u8 = 58;

/// Last word of the destination of an IPv6 packet; `None` for what speaks of neighbours.
fn low_of_v6(head: &[u8], at: usize) -> Option<u32> {
    (head[at + 6] != ICMPV6).then(|| be32(head, at + 36))
}
