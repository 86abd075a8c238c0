//! Stamps: 24 bytes at the front of a payload, by which a port knows its run's frames again and how long they took.
//!
//! ```text
//! run (32 bits)   sender (24)   port (8)   wire out (64)   intended (64)      least significant byte first
//! ```
//!
//! Times are picoseconds since the start of the run.

use super::icrc::of_u64;
use super::{ICRC_LEN, PAYLOAD_BYTE, psn};
use crate::units::Time;

/// Bytes of a stamp.
pub const STAMP: usize = 24;
/// Bytes that are to follow it: pad, which is no place for it, may be among them.
pub const BEHIND_MIN: usize = 4;
/// What a payload is before it is stamped.
pub const BEFORE: u64 = u64::from_ne_bytes([PAYLOAD_BYTE; 8]);

/// What all stamps of one port have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Number of the run; not [`BEFORE`] in its lower half.
    pub run: u32,
    /// The port.
    pub port: u8,
}

impl Signature {
    /// The first word of the stamps of a queue pair or stream.
    #[inline(always)]
    pub fn first_word(&self, sender: u32) -> u64 {
        u64::from(self.run) | u64::from(sender & psn::MASK) << 32 | u64::from(self.port) << 56
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

const _: () = assert!(STAMP + BEHIND_MIN + ICRC_LEN <= 64);
