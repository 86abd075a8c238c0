//! Stamps: 24 bytes at the front of a payload, by which a port knows its run's frames again and how long they took.
//!
//! ```text
//! run (32 bits)   sender (24)   port (8)   wire out (64)   intended (64)      least significant byte first
//! ```
//!
//! Times are picoseconds since the start of the run.

use super::icrc::of_u64;
use super::{HEAD_MAX, ICRC_LEN, PAYLOAD_BYTE, bytes_at, psn};
use crate::limits::QUEUES_MAX;
use crate::units::{Span, Time};

/// Bytes of a stamp.
pub const STAMP: usize = 24;
/// Bytes that are to follow it: pad, which is no place for it, may be among them.
pub const BEHIND_MIN: usize = 4;
/// What a payload is before it is stamped.
pub const BEFORE: u64 = u64::from_ne_bytes([PAYLOAD_BYTE; 8]);

/// Two cores may read the counter so far apart.
const SKEW: Span = Span::from_us(1);

/// What a stamp says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When the frame was handed over.
    pub wire_out: Time,
    /// When the job wanted it on the wire.
    pub intended: Time,
    /// Port that sent the frame.
    pub port: u8,
    /// Its queue pair or stream there, 24 bits.
    pub sender: u32,
}

/// What all stamps of one port have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Number of the run; not [`BEFORE`] in its lower half.
    pub run: u32,
    /// The port, or queue of one, by its number among all of the run.
    pub port: u8,
}

impl Signature {
    /// The first word of the stamps of a queue pair or stream.
    #[inline(always)]
    pub fn first_word(&self, sender: u32) -> u64 {
        u64::from(self.run) | u64::from(sender & psn::MASK) << 32 | u64::from(self.port) << 56
    }

    /// The stamp at `at` of a frame with so much payload that came in at `now`, when it has one of this run: whatever others
    /// put there has another number, or a time that has not come.
    #[inline(always)]
    pub fn read(&self, now: Time, head: &[u8; HEAD_MAX], at: usize, payload_len: u16) -> Option<Stamp> {
        if usize::from(payload_len) < STAMP {
            return None;
        }
        let [first, wire_out, intended] = words_of(bytes_at(head, at)?);
        let (wire_out, intended) = (Time(wire_out), Time(intended));
        let ours = first as u32 == self.run && wire_out <= now + SKEW;
        ours.then_some(Stamp {
            wire_out,
            intended,
            port: (first >> 56) as u8,
            sender: (first >> 32) as u32 & psn::MASK,
        })
    }

    /// What a stamp changes in the CRC register behind it, where constant payload was.
    pub fn change(&self, sender: u32, wire_out: Time, intended: Time) -> u32 {
        of_u64::<16>(self.first_word(sender) ^ BEFORE)
            ^ of_u64::<8>(wire_out.0 ^ BEFORE)
            ^ of_u64::<0>(intended.0 ^ BEFORE)
    }
}

/// Bytes between a stamp and the ICRC behind a payload of so many bytes, pad included; `None` where it has no room.
#[inline(always)]
pub const fn behind(payload_and_pad: u16) -> Option<u16> {
    match payload_and_pad.checked_sub(STAMP as u16) {
        Some(n) if n as usize >= BEHIND_MIN => Some(n),
        _ => None,
    }
}

#[inline(always)]
fn words_of(stamp: &[u8; STAMP]) -> [u64; 3] {
    let word = |i: usize| bytes_at(stamp, 8 * i).map_or(0, |b| u64::from_le_bytes(*b));
    [word(0), word(1), word(2)]
}

// Every queue of a run has its number in a stamp.
const _: () = assert!(QUEUES_MAX <= 1 << u8::BITS);
const _: () = assert!(STAMP + BEHIND_MIN + ICRC_LEN <= 64);
