//! Who may send now: one first-in first-out list per PFC priority, served in the order of joining across all
//! lists.
//!
//! A sender of a paused priority stays where it is and costs nothing until the pause ends: no timer, no scan.
//! Round robin is what comes of taking the front and joining the back again.

use std::collections::VecDeque;

use crate::limits::PRIORITIES;

/// List of senders that no pause holds back.
pub const UNPAUSED: u8 = PRIORITIES as u8;
const LISTS: usize = PRIORITIES + 1;

/// Senders by number, each in at most one list (the caller keeps that).
///
/// What is asked after every frame, whether somebody stands here, takes 16 bytes among the like of others; the lists
/// are behind a pointer.
#[derive(Debug)]
#[repr(C)]
pub struct Ready {
    /// Bit p: list p is not empty, so that its front means something.
    occupied: u16,
    /// Bit p: others stand behind the front.
    more: u16,
    ticket: u32,
    lists: Box<Lists>,
}

/// The first of each list, and the others: a host with one sender, as most have in a collective, never asks for those.
#[derive(Debug)]
#[repr(C, align(64))]
struct Lists {
    fronts: [Entry; LISTS],
    rest: [VecDeque<Entry>; LISTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    ticket: u32,
    sender: u32,
}

/// The senders of a list, in the three pieces they stand in.
#[derive(Clone, Copy, Debug)]
pub struct Row<'r> {
    front: &'r [Entry],
    near: &'r [Entry],
    far: &'r [Entry],
}

impl Row<'_> {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.front.len() + self.near.len() + self.far.len()
    }

    /// True when there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.front.is_empty()
    }

    /// The sender `at` places behind the front.
    #[inline(always)]
    pub fn get(&self, at: usize) -> Option<u32> {
        let behind = at.wrapping_sub(1);
        let entry = match self.near.get(behind) {
            Some(entry) => Some(entry),
            None if at == 0 => self.front.first(),
            None => self.far.get(behind.wrapping_sub(self.near.len())),
        };
        entry.map(|e| e.sender)
    }
}

/// Bytes of memory of the lists without their places.
pub const BYTES_OF_LISTS: usize = size_of::<Lists>();

/// Bytes of memory per place in a list.
pub const BYTES_PER_ENTRY: usize = size_of::<Entry>();

impl Ready {
    /// Empty lists with room for `capacity[p]` senders of list `p` (the last one is [`UNPAUSED`]).
    pub fn new(capacity: [usize; LISTS]) -> Ready {
        let rest = capacity.map(|n| VecDeque::with_capacity(n.saturating_sub(1)));
        let lists = Box::new(Lists { fronts: [Entry::default(); LISTS], rest });
        Ready { occupied: 0, more: 0, ticket: 0, lists }
    }

    /// Appends a sender to a list (a priority 0..8, or [`UNPAUSED`]).
    #[inline]
    pub fn join(&mut self, list: u8, sender: u32) {
        self.ticket = self.ticket.wrapping_add(1);
        let entry = Entry { ticket: self.ticket, sender };
        if self.occupied & 1 << list == 0 {
            self.lists.fronts[usize::from(list)] = entry;
            self.occupied |= 1 << list;
        } else {
            self.lists.rest[usize::from(list)].push_back(entry);
            self.more |= 1 << list;
        }
    }

    /// Appends several senders to a list, in this order.
    #[inline]
    pub fn join_many(&mut self, list: u8, senders: &[u32]) {
        let Some((&first, others)) = senders.split_first() else { return };
        self.join(list, first);
        if others.is_empty() {
            return;
        }
        let before = self.ticket;
        self.ticket = before.wrapping_add(others.len() as u32);
        let entries = (1..).zip(others).map(|(i, &sender)| Entry { ticket: before.wrapping_add(i), sender });
        self.lists.rest[usize::from(list)].extend(entries);
        self.more |= 1 << list;
    }

    /// Bit p: a sender stands in list p.
    #[inline]
    pub fn occupied(&self) -> u16 {
        self.occupied
    }

    /// True when a sender stands in a list that is not in the mask `paused` (bit p = priority p).
    #[inline]
    pub fn any(&self, paused: u16) -> bool {
        self.occupied & !paused != 0
    }

    /// The sender that joined first among the lists not in `paused`, and its list. It stays in place.
    #[inline]
    pub fn front(&self, paused: u16) -> Option<(u8, u32)> {
        let mut open = self.occupied & !paused;
        if open == 0 {
            return None;
        }
        let mut best = open.trailing_zeros() as u8;
        open &= open - 1;
        while open != 0 {
            let list = open.trailing_zeros() as u8;
            open &= open - 1;
            let (ticket, first) =
                (self.lists.fronts[usize::from(list)].ticket, self.lists.fronts[usize::from(best)].ticket);
            if (ticket.wrapping_sub(first) as i32) < 0 {
                best = list;
            }
        }
        Some((best, self.lists.fronts[usize::from(best)].sender))
    }

    /// The only list with senders that is not in `paused`; `None` when there are several or none.
    #[inline]
    pub fn only(&self, paused: u16) -> Option<u8> {
        let open = self.occupied & !paused;
        (open.is_power_of_two()).then(|| open.trailing_zeros() as u8)
    }

    /// Senders in a list: those before the next turn of its front.
    #[inline]
    pub fn len(&self, list: u8) -> usize {
        match (self.occupied & 1 << list, self.more & 1 << list) {
            (0, _) => 0,
            (_, 0) => 1,
            _ => 1 + self.lists.rest[usize::from(list)].len(),
        }
    }

    /// The sender that stands `ahead` places behind the front of a list, for prefetching.
    #[inline]
    pub fn behind(&self, list: u8, ahead: usize) -> Option<u32> {
        if ahead == 0 {
            return (self.occupied & 1 << list != 0).then(|| self.lists.fronts[usize::from(list)].sender);
        }
        if self.more & 1 << list == 0 {
            return None;
        }
        self.lists.rest[usize::from(list)].get(ahead - 1).map(|e| e.sender)
    }

    /// The senders of a list in their order, where they stand: none is copied and none is looked up by a queue's index.
    #[inline(always)]
    pub fn row(&self, list: u8) -> Row<'_> {
        let bit = 1 << list;
        let front = (self.occupied & bit != 0).then(|| &self.lists.fronts[usize::from(list)]);
        let (near, far) = match self.more & bit {
            0 => Default::default(),
            _ => self.lists.rest[usize::from(list)].as_slices(),
        };
        Row { front: front.map_or(&[], std::slice::from_ref), near, far }
    }

    /// The first sender of a list joins its end.
    #[inline(always)]
    pub fn rotate(&mut self, list: u8) {
        if self.occupied & 1 << list == 0 {
            return;
        }
        self.ticket = self.ticket.wrapping_add(1);
        let lists = &mut *self.lists;
        let front = &mut lists.fronts[usize::from(list)];
        let again = Entry { ticket: self.ticket, sender: front.sender };
        if self.more & 1 << list == 0 {
            *front = again;
            return;
        }
        let rest = &mut lists.rest[usize::from(list)];
        rest.push_back(again);
        if let Some(next) = rest.pop_front() {
            *front = next;
        }
    }

    /// Moves a sender of a list to its front. Cost: a look along the list.
    #[cold]
    pub fn prefer(&mut self, list: u8, sender: u32) {
        let lists = &mut *self.lists;
        let rest = &mut lists.rest[usize::from(list)];
        if let Some(at) = rest.iter().position(|e| e.sender == sender)
            && let Some(entry) = rest.remove(at)
        {
            rest.push_front(std::mem::replace(&mut lists.fronts[usize::from(list)], entry));
        }
    }

    /// Removes the first `count` senders of a list, which has so many.
    #[inline]
    pub fn leave_many(&mut self, list: u8, count: usize) {
        if count > 1 {
            let rest = &mut self.lists.rest[usize::from(list)];
            rest.drain(..(count - 1).min(rest.len()));
            if rest.is_empty() {
                self.more &= !(1 << list);
            }
        }
        if count > 0 {
            self.leave(list);
        }
    }

    /// Removes the first sender of a list.
    #[inline]
    pub fn leave(&mut self, list: u8) {
        let bit = 1 << list;
        if self.more & bit == 0 {
            self.occupied &= !bit;
            return;
        }
        let lists = &mut *self.lists;
        let rest = &mut lists.rest[usize::from(list)];
        if let Some(next) = rest.pop_front() {
            lists.fronts[usize::from(list)] = next;
        }
        if rest.is_empty() {
            self.more &= !bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_in_order_of_joining_and_skips_the_paused() {
        let mut r = Ready::new([4; LISTS]);
        for (list, sender) in [(3, 10), (0, 11), (3, 12), (UNPAUSED, 13)] {
            r.join(list, sender);
        }
        let mut take = |paused| {
            let (list, sender) = r.front(paused)?;
            r.leave(list);
            Some(sender)
        };
        assert_eq!(take(1 << 3), Some(11));
        assert_eq!(take(1 << 3), Some(13), "priority 3 is paused, the unpaused list never is");
        assert_eq!(take(1 << 3), None);
        assert_eq!(take(0), Some(10));
        assert_eq!(take(0), Some(12));
        assert_eq!(take(0), None);
        r.join(3, 1);
        assert_eq!((r.only(0), r.only(1 << 3)), (Some(3), None));
        r.join(UNPAUSED, 2);
        assert_eq!((r.only(0), r.only(1 << 3)), (None, Some(UNPAUSED)));
    }

    /// Whatever is done to them, the lists are those of a plain queue per priority.
    #[test]
    fn lists_are_plain_queues() {
        let mut rng = crate::rng::Rng::new(7, "ready", 0);
        let mut r = Ready::new([16; LISTS]);
        let mut model: Vec<VecDeque<(u32, u32)>> = vec![VecDeque::new(); LISTS];
        let (mut ticket, mut sender) = (0u32, 0u32);
        for _ in 0..20_000 {
            let list = rng.below(3) as u8;
            let m = &mut model[usize::from(list)];
            match rng.below(6) {
                0 if m.len() < 12 => {
                    (ticket, sender) = (ticket + 1, sender + 1);
                    r.join(list, sender);
                    m.push_back((ticket, sender));
                }
                1 if m.len() < 8 => {
                    let many: Vec<u32> = (1..=rng.below(4) as u32).map(|i| sender + i).collect();
                    r.join_many(list, &many);
                    for s in many {
                        (ticket, sender) = (ticket + 1, s);
                        m.push_back((ticket, s));
                    }
                }
                2 if !m.is_empty() => {
                    r.leave(list);
                    m.pop_front();
                }
                3 if !m.is_empty() => {
                    let count = 1 + rng.below(m.len() as u64) as usize;
                    r.leave_many(list, count);
                    m.drain(..count);
                }
                4 => {
                    r.rotate(list);
                    if let Some((_, s)) = m.pop_front() {
                        ticket += 1;
                        m.push_back((ticket, s));
                    }
                }
                5 if m.len() > 1 => {
                    let at = rng.below(m.len() as u64) as usize;
                    let entry = m.remove(at).unwrap();
                    m.push_front(entry);
                    r.prefer(list, entry.1);
                }
                _ => {}
            }
            let first = model.iter().enumerate().filter_map(|(l, m)| Some((m.front()?, l))).min();
            assert_eq!(r.front(0), first.map(|((_, s), l)| (l as u8, *s)));
            for (l, m) in model.iter().enumerate().take(3) {
                let l = l as u8;
                let row = r.row(l);
                assert_eq!((r.len(l), row.len(), row.is_empty()), (m.len(), m.len(), m.is_empty()));
                assert!((0..20).all(|i| row.get(i) == m.get(i).map(|e| e.1)));
                assert_eq!(
                    (0..4).map(|i| r.behind(l, i)).collect::<Vec<_>>(),
                    (0..4).map(|i| Some(m.get(i)?.1)).collect::<Vec<_>>()
                );
            }
        }
    }
}
