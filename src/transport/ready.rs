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
#[derive(Debug)]
pub struct Ready {
    occupied: u16,
    ticket: u32,
    lists: Box<[VecDeque<Entry>; LISTS]>,
}

/// A place in a list.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    ticket: u32,
    /// Who stands there.
    pub sender: u32,
}

/// Bytes of memory of the lists without their places.
pub const BYTES_OF_LISTS: usize = size_of::<[VecDeque<Entry>; LISTS]>();

/// Bytes of memory per place in a list.
pub const BYTES_PER_ENTRY: usize = size_of::<Entry>();

impl Ready {
    /// Empty lists with room for `capacity[p]` senders of list `p` (the last one is [`UNPAUSED`]).
    pub fn new(capacity: [usize; LISTS]) -> Ready {
        Ready { occupied: 0, ticket: 0, lists: Box::new(capacity.map(VecDeque::with_capacity)) }
    }

    /// Appends a sender to a list (a priority 0..8, or [`UNPAUSED`]).
    #[inline]
    pub fn join(&mut self, list: u8, sender: u32) {
        self.ticket = self.ticket.wrapping_add(1);
        self.lists[usize::from(list)].push_back(Entry { ticket: self.ticket, sender });
        self.occupied |= 1 << list;
    }

    /// Appends several senders to a list, in this order.
    #[inline]
    pub fn join_many(&mut self, list: u8, senders: &[u32]) {
        if senders.is_empty() {
            return;
        }
        let first = self.ticket;
        self.ticket = first.wrapping_add(senders.len() as u32);
        let entries = (1..).zip(senders).map(|(i, &sender)| Entry { ticket: first.wrapping_add(i), sender });
        self.lists[usize::from(list)].extend(entries);
        self.occupied |= 1 << list;
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
        let mut best: Option<(u8, Entry)> = None;
        while open != 0 {
            let list = open.trailing_zeros() as u8;
            open &= open - 1;
            if let Some(&e) = self.lists[usize::from(list)].front()
                && best.is_none_or(|(_, b)| (e.ticket.wrapping_sub(b.ticket) as i32) < 0)
            {
                best = Some((list, e));
            }
        }
        best.map(|(list, e)| (list, e.sender))
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
        self.lists[usize::from(list)].len()
    }

    /// The sender that stands `ahead` places behind the front of a list, for prefetching.
    #[inline]
    pub fn behind(&self, list: u8, ahead: usize) -> Option<u32> {
        self.lists[usize::from(list)].get(ahead).map(|e| e.sender)
    }

    /// The first places of a list, as far as they lie in a row in memory: all of them, or up to where the list begins anew
    /// there.
    #[inline]
    pub fn row(&self, list: u8) -> &[Entry] {
        self.lists[usize::from(list)].as_slices().0
    }

    /// The first sender of a list joins its end.
    #[inline(always)]
    pub fn rotate(&mut self, list: u8) {
        let l = &mut self.lists[usize::from(list)];
        if let Some(Entry { sender, .. }) = l.pop_front() {
            self.ticket = self.ticket.wrapping_add(1);
            l.push_back(Entry { ticket: self.ticket, sender });
        }
    }

    /// Moves a sender of a list to its front. Cost: a look along the list.
    #[cold]
    pub fn prefer(&mut self, list: u8, sender: u32) {
        let l = &mut self.lists[usize::from(list)];
        if let Some(at) = l.iter().position(|e| e.sender == sender)
            && let Some(entry) = l.remove(at)
        {
            l.push_front(entry);
        }
    }

    /// Removes the first `count` senders of a list, which has so many.
    #[inline]
    pub fn leave_many(&mut self, list: u8, count: usize) {
        let l = &mut self.lists[usize::from(list)];
        if count == 1 {
            l.pop_front();
        } else {
            l.drain(..count.min(l.len()));
        }
        if l.is_empty() {
            self.occupied &= !(1 << list);
        }
    }

    /// Removes the first sender of a list.
    #[inline]
    pub fn leave(&mut self, list: u8) {
        let l = &mut self.lists[usize::from(list)];
        l.pop_front();
        if l.is_empty() {
            self.occupied &= !(1 << list);
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
}
