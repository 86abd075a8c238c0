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
use crate::limits::PRIORITIES;
use crate::plan::shards::Homes;
use crate::units::{Rate, Span, Time};
use crate::wire::pfc::PfcFrame;
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_MAC_CONTROL, ETHERTYPE_VLAN, be16, be32};

/// Frames that may wait for a queue whose worker is busy: as many as a ring of a device holds.
const INBOX: usize = 1_024;

/// Addresses and the MACs that answered for them.
pub(super) type Told = Vec<(IpAddr, [u8; 6])>;

/// Priorities and the quanta they have to wait.
pub(super) type News = ArrayVec<(u8, u16), PRIORITIES>;

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
    /// Frames for other queues that found no room there yet: nothing more is taken from the device while there are any.
    waiting: Burst<F>,
    /// The wire is reckoned to be busy until then: as all knew at the beginning of the turn, and our frames since.
    free_at: Time,
    /// For so long by frames of ours that the others do not know of yet, the first of which left at ...
    claimed: Span,
    claimed_at: Time,
    /// Most of that in this turn.
    most: Span,
    /// The wire is reckoned to carry frames of this queue until then.
    own_end: Time,
    /// Frames for ranks of other queues that came here.
    pub misdirected: u64,
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
        waiting: Burst::new(),
        free_at: Time::ZERO,
        claimed: Span::ZERO,
        claimed_at: Time::ZERO,
        most: Span::ZERO,
        own_end: Time::ZERO,
        misdirected: 0,
    };
    (0..queues).zip(inboxes).map(view).collect()
}

impl<F: Frame> Siblings<F> {
    // --- The wire ---

    /// Begins a turn: tells the others what was sent in the last one, and learns what they have sent. This queue may send its
    /// part of what `backlog` leaves: what others send at the same time fits as well. Cost: one access to a line of memory
    /// that all queues of the port use.
    #[inline]
    pub fn begin_turn(&mut self, now: Time, backlog: Span) {
        let shared = &self.common.free_at;
        self.free_at = Time(if self.claimed == Span::ZERO {
            shared.load(Ordering::Relaxed)
        } else {
            let (at, span) = (self.claimed_at.0, self.claimed.0);
            let after = |free: u64| free.max(at) + span;
            let set = |free| Some(after(free));
            let (Ok(before) | Err(before)) = shared.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set);
            after(before)
        });
        self.claimed = Span::ZERO;
        let room = backlog.0.saturating_sub(self.free_at.since(now).0);
        self.most = Span(room.div_ceil(self.others.len() as u64));
    }

    /// Until when the wire is reckoned to be busy.
    #[inline]
    pub fn free_at(&self) -> Time {
        self.free_at
    }

    /// Keeps the wire busy for `span` from `now`, or from when it is free.
    #[inline]
    pub fn occupy(&mut self, now: Time, span: Span) {
        if self.claimed == Span::ZERO {
            self.claimed_at = now;
        }
        self.claimed += span;
        self.free_at = self.free_at.max(now) + span;
        self.own_end = self.free_at;
    }

    /// What this queue may still send in this turn of `room` on the wire: one frame at least, where there is room for it.
    #[inline]
    pub fn part(&self, room: Span, frame: Span) -> Span {
        room.min(Span(self.most.max(frame).0.saturating_sub(self.claimed.0)))
    }

    /// Time starts again.
    pub fn clock_from(&mut self) {
        self.common.free_at.store(0, Ordering::Relaxed);
        (self.free_at, self.claimed, self.own_end) = (Time::ZERO, Span::ZERO, Time::ZERO);
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

    /// Pauses that came to other queues since the last call, as priority and quanta left at `now`, and how long after the
    /// last XOFF of them frames of this queue still leave. Cost without: a load.
    #[inline]
    pub fn pauses(&mut self, now: Time, rate: Rate) -> Option<(News, Span)> {
        let version = self.common.pauses.version.load(Ordering::Acquire);
        (version != self.version).then(|| self.news(version, now, rate))
    }

    #[cold]
    fn news(&mut self, version: u64, now: Time, rate: Rate) -> (News, Span) {
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
        (news, self.own_end.since(Time(shared.asked_at.load(Ordering::Relaxed))))
    }

    // --- Frames ---

    /// The queue a frame belongs to: that of its destination, and queue 0 for what is no IP or speaks of neighbours. Pauses,
    /// and what is for none of our addresses, stay where they are.
    #[inline]
    fn home(&self, frame: &F) -> u16 {
        match destination(frame.head()) {
            Destination::Ip(low) => self.common.homes.of(low).unwrap_or(self.queue),
            Destination::Link => self.queue,
            Destination::Port => 0,
        }
    }

    /// Hands over what belongs to other queues, of the frames from `from` on. What finds no room there waits here.
    pub fn sort(&mut self, frames: &mut Burst<F>, from: usize) {
        if frames.iter().skip(from).all(|f| self.home(f) == self.queue) {
            return;
        }
        let all = std::mem::take(frames);
        for (i, frame) in all.into_iter().enumerate() {
            if i < from || self.home(&frame) == self.queue {
                frames.push(frame);
            } else {
                // Nothing leads neighbours' words to queue 0, and rules lead those to a rank's address elsewhere.
                self.misdirected += u64::from(matches!(destination(frame.head()), Destination::Ip(_)));
                self.waiting.push(frame);
            }
        }
        self.deliver();
    }

    /// Hands over what waits, in order; false while some of it finds no room.
    #[inline]
    pub fn deliver(&mut self) -> bool {
        self.waiting.is_empty() || self.deliver_now()
    }

    #[inline(never)]
    fn deliver_now(&mut self) -> bool {
        for frame in std::mem::take(&mut self.waiting) {
            let home = usize::from(self.home(&frame));
            let Some(to) = self.others.get(home).filter(|_| self.waiting.is_empty()) else {
                self.waiting.push(frame);
                continue;
            };
            if let Err(refused) = to.try_send(frame) {
                self.waiting.push(refused.into_inner());
            }
        }
        self.waiting.is_empty()
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

/// Whom a frame is for.
enum Destination {
    /// The rank with this last word of an address.
    Ip(u32),
    /// Whoever has it: a pause.
    Link,
    /// The port: neighbours, and what is no IP.
    Port,
}

#[inline]
fn destination(head: &[u8]) -> Destination {
    let (at, kind) = match be16(head, 12) {
        ETHERTYPE_VLAN => (18, be16(head, 16)),
        kind => (14, kind),
    };
    match kind {
        ETHERTYPE_IPV4 => Destination::Ip(be32(head, at + 16)),
        ETHERTYPE_IPV6 if head[at + 6] != ICMPV6 => Destination::Ip(be32(head, at + 36)),
        ETHERTYPE_MAC_CONTROL => Destination::Link,
        _ => Destination::Port,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::whole::{WholeFrame, WholePool};
    use crate::frame::{Fill, FramePool};
    use crate::host::config::RankAddr;
    use crate::limits::BURST;
    use crate::units::{FrameLen, PortId, RankId};
    use crate::wire::headers::{Ext, Opcode};
    use crate::wire::template::{BthFields, FrameSpec, Template};

    const RATE: Rate = Rate::gbps(100);

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([198, 18, 0, last])
    }

    /// Two queues of a port with ranks at .1 to .4.
    fn two() -> [Siblings<WholeFrame>; 2] {
        let rank = |i: u8| RankAddr { rank: RankId(i.into()), port: PortId(0), ip: ip(1 + i) };
        let ranks: Vec<RankAddr> = (0..4).map(rank).collect();
        let mut all = family(Homes::new(&ranks, 2), 2);
        let (b, a) = (all.pop().unwrap(), all.pop().unwrap());
        [a, b]
    }

    fn frame(pool: &mut WholePool, spec: &FrameSpec) -> WholeFrame {
        let mut f = pool.take(Fill::Const, FrameLen(200)).unwrap();
        let bth = BthFields { opcode: Opcode::RcWriteMiddle.into(), ..BthFields::default() };
        let wire = Template::new(spec).unwrap().write(f.head_mut(), &bth, &Ext::None, 64);
        f.meta_mut().len = wire.len;
        f
    }

    fn to(pool: &mut WholePool, last: u8) -> WholeFrame {
        frame(pool, &FrameSpec { dst_ip: ip(last), ..FrameSpec::default() })
    }

    #[test]
    fn the_wire_is_one_and_room_is_divided() {
        let [mut a, mut b] = two();
        let (backlog, frame) = (Span(1_000), Span(100));
        let turn = |s: &mut Siblings<WholeFrame>, now| {
            s.begin_turn(Time(now), backlog);
            s.part(Span(backlog.0.saturating_sub(s.free_at().since(Time(now)).0)), frame)
        };
        assert_eq!(
            (turn(&mut a, 0), turn(&mut b, 0)),
            (Span(500), Span(500)),
            "both look at the same moment"
        );
        a.occupy(Time(0), Span(200));
        assert_eq!(a.part(Span(800), frame), Span(300), "the rest of its part");
        a.occupy(Time(0), Span(300));
        b.occupy(Time(0), Span(500));
        assert_eq!(a.part(Span(500), frame), Span::ZERO);
        assert_eq!(
            turn(&mut a, 0),
            Span(250),
            "half of what its own frames have left; the other's are not known yet"
        );
        assert_eq!(turn(&mut b, 0), Span::ZERO, "one behind the other: the wire is busy until 1,000");
        assert_eq!((turn(&mut a, 0), a.free_at()), (Span::ZERO, Time(1_000)));
        // Room for one frame and a bit: each may send one. For less than one: none.
        assert_eq!((turn(&mut a, 150), turn(&mut b, 150)), (Span(100), Span(100)));
        assert_eq!((turn(&mut a, 50), turn(&mut b, 50)), (Span(50), Span(50)));
        b.occupy(Time(5_000), Span(10));
        assert_eq!((turn(&mut b, 5_000), turn(&mut a, 5_000)), (Span(495), Span(495)));
    }

    #[test]
    fn a_pause_is_news_to_the_others_once_and_says_how_long_they_still_sent() {
        let [mut a, mut b] = two();
        b.occupy(Time(0), Span(700_000));
        let now = Time(600_000);
        a.tell(now, &PfcFrame::one(3, 100), RATE);
        a.tell(now + Span(1), &PfcFrame::one(4, 50), RATE);
        let (news, leaving) = b.pauses(now + Span(1_000), RATE).unwrap();
        // Quanta are 5,120 ps: one has begun.
        assert_eq!((news.as_slice(), leaving), (&[(3, 100), (4, 50)][..], Span(99_999)));
        assert!(b.pauses(now + Span(2_000), RATE).is_none(), "no longer news");
        let to_itself = a.pauses(now, RATE).map(|(news, _)| news.len());
        assert!(matches!(to_itself, None | Some(0)), "what came here is obeyed here already");
        a.tell(now + Span(100_000), &PfcFrame::one(3, 0), RATE);
        let (news, _) = b.pauses(now + Span(200_000), RATE).unwrap();
        assert_eq!(news.as_slice(), [(3, 0)], "lifted; the other goes on");
    }

    #[test]
    fn frames_go_to_the_queue_of_their_rank_and_what_is_no_ip_to_the_first() {
        let [mut a, mut b] = two();
        let mut pool = WholePool::new(16);
        let v6 = |last: u16| FrameSpec {
            src_ip: IpAddr::from([0x2001, 2, 0, 0, 0, 0, 0, 9]),
            dst_ip: IpAddr::from([0x2001, 2, 0, 0, 0, 0, 0xc612, last]),
            vlan: Some((3, 7)),
            ..FrameSpec::default()
        };
        let mut burst = Burst::new();
        burst.push(to(&mut pool, 1));
        burst.push(to(&mut pool, 2));
        burst.push(to(&mut pool, 4));
        burst.push(to(&mut pool, 77));
        burst.push(frame(&mut pool, &v6(2)));
        a.sort(&mut burst, 0);
        assert_eq!((burst.len(), a.misdirected), (2, 3), "those of queue 0, and what is for nobody here");
        burst.drain(..).for_each(|f| pool.give(f));
        assert_eq!((b.take(&mut burst), a.take(&mut Burst::new())), (3, 0));
        burst.drain(..).for_each(|f| pool.give(f));
        let mut arp = to(&mut pool, 2);
        arp.head_mut()[12..14].copy_from_slice(&[8, 6]);
        let mut pfc = to(&mut pool, 1);
        pfc.head_mut()[12..14].copy_from_slice(&ETHERTYPE_MAC_CONTROL.to_be_bytes());
        burst.push(arp);
        burst.push(pfc);
        b.sort(&mut burst, 0);
        assert_eq!(
            (burst.len(), b.misdirected),
            (1, 0),
            "a pause is obeyed where it comes, and who asks is not astray"
        );
        assert_eq!(a.take(&mut Burst::new()), 1);
        burst.drain(..).for_each(|f| pool.give(f));
        // A neighbour's answer to a rank of queue 1 is for queue 0, and came where rules lead that rank's address.
        let mut answer = frame(&mut pool, &v6(2));
        answer.head_mut()[18 + 6] = ICMPV6;
        burst.push(answer);
        b.sort(&mut burst, 0);
        assert_eq!((burst.len(), b.misdirected, a.take(&mut burst)), (0, 0, 1));
        burst.drain(..).for_each(|f| pool.give(f));
    }

    #[test]
    fn a_queue_that_is_full_keeps_the_other_from_taking_more_and_nothing_is_lost() {
        let [mut a, mut b] = two();
        let mut pool = WholePool::new(2_000);
        let mut sent = 0;
        while a.deliver() {
            let mut burst = Burst::new();
            while !burst.is_full() {
                burst.push(to(&mut pool, 2));
                sent += 1;
            }
            a.sort(&mut burst, 0);
        }
        assert!(sent > INBOX && sent <= INBOX + BURST, "{sent}");
        let mut got = 0;
        let mut burst = Burst::new();
        while b.take(&mut burst) > 0 {
            got += burst.len();
            burst.drain(..).for_each(|f| pool.give(f));
            a.deliver();
        }
        assert_eq!((got, a.misdirected), (sent, sent as u64));
    }
}
