//! Messages that queue pairs still have to send or to see acknowledged: one slab per host, linked per queue
//! pair.

use crate::hint::prefetch;
use crate::units::Time;

/// No message.
pub const NONE: u32 = u32::MAX;

/// A posted message. The packets of it that go out, first or again, are made from this alone.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// When its dependencies were met.
    pub intended: Time,
    /// Start of its first frame; `NEVER` before.
    pub started: Time,
    /// Next message of the same queue pair.
    pub next: u32,
    /// Operation of the rank's program.
    pub op: u32,
    /// Iteration it belongs to.
    pub iteration: u32,
    /// Size, at most 2^31.
    pub bytes: u32,
    /// Tag that the receiver's program names.
    pub tag: u32,
    /// PSN of its first packet.
    pub psn_first: u32,
    /// Packets, at least 1.
    pub packets: u32,
    /// Packets sent again.
    pub retransmitted: u32,
    /// A READ by us: the packets are its responses.
    pub read: bool,
    /// The message it is a part of; [`NONE`] when it is whole.
    pub whole: u32,
}

/// Bytes of memory per queued message.
pub const BYTES_PER_MESSAGE: usize = size_of::<Message>();

/// The slab.
#[derive(Debug)]
pub struct Messages {
    slab: Vec<Message>,
    free: u32,
}

impl Messages {
    /// A slab with room for `ready` messages. It grows when programs post more at a time, and never shrinks.
    pub fn new(ready: usize) -> Messages {
        Messages { slab: Vec::with_capacity(ready), free: NONE }
    }
    /// Stores a message and returns its number.
    pub fn insert(&mut self, message: Message) -> u32 {
        let at = self.free;
        if at == NONE {
            self.slab.push(message);
            return (self.slab.len() - 1) as u32;
        }
        self.free = self.slab[at as usize].next;
        self.slab[at as usize] = message;
        at
    }
    /// Frees a message and returns it.
    pub fn remove(&mut self, at: u32) -> Message {
        let message = self.slab[at as usize];
        self.slab[at as usize].next = self.free;
        self.free = at;
        message
    }
    /// A stored message.
    #[inline]
    pub fn get(&self, at: u32) -> &Message {
        &self.slab[at as usize]
    }
    /// Asks for a stored message that will be looked at soon; nothing happens for one that is not there.
    #[inline]
    pub fn prefetch(&self, at: u32) {
        if let Some(message) = self.slab.get(at as usize) {
            prefetch(&raw const message.psn_first);
        }
    }
    /// A stored message, to change.
    #[inline]
    pub fn get_mut(&mut self, at: u32) -> &mut Message {
        &mut self.slab[at as usize]
    }
}
