//! Stamps of data frames ([`crate::wire::stamp`]), under the ICRC.
//!
//! The number of the run tells our frames from those of others, which are never read as stamps. The host has completed the
//! frame before; what the stamp changes of its ICRC is carried over the rest of the payload by a table, so that the cost
//! does not depend on its length. Hosts that know their port's signature write stamps themselves, but for the time.
//!
//! Payloads of 24 bytes and less, those that somebody wants to read, and frames that were not selected ([`Every`]) have no
//! stamps: such frames are counted and have no latency.

use crate::frame::{Fill, Frame, HEAD_MAX, STAMPED};
use crate::rng::mix;
use crate::units::{FrameLen, Time};
use crate::wire::icrc::{Advance, of_u64};
use crate::wire::stamp::{BEFORE, BEHIND_MIN, STAMP, Signature, Stamp};
use crate::wire::{ICRC_LEN, pad_of, psn};

/// [`crate::frame::FrameMeta::driver`] of frames whose stamp has a time: the device refused them.
const TIMED: u32 = 2;
const _: () = assert!(TIMED & STAMPED == 0);
/// The time of handing over is the second word of a stamp.
const TIME_AT: usize = 8;

/// The number of a run that starts now.
pub(super) fn run_number(ticks: u64) -> u32 {
    let number = mix(ticks ^ u64::from(std::process::id()) << 40) as u32;
    // No payload that was never stamped looks like it.
    if number == BEFORE as u32 { !number } else { number }
}

/// Which frames of every queue pair and stream are stamped: those whose PSN is a multiple of a number. A frame that is sent
/// again is selected as it was, and no state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Every {
    /// 2^64 over that number, rounded up, modulo 2^64: a 32-bit number is a multiple where its product with this is below
    /// this (Lemire, Kaser and Kurz 2019, "Faster remainder by direct computation").
    part: u64,
}

impl Every {
    /// Every `n`-th frame; 0 and 1 are all of them.
    pub fn nth(n: u32) -> Every {
        Every { part: (u64::MAX / u64::from(n.max(1))).wrapping_add(1) }
    }

    /// No frame is left out.
    #[inline]
    pub fn all(self) -> bool {
        self.part == 0
    }

    /// The frame with this PSN is stamped.
    #[inline(always)]
    pub fn has(self, psn: u32) -> bool {
        u64::from(psn).wrapping_mul(self.part) <= self.part.wrapping_sub(1)
    }
}

/// Writes and reads the stamps of one port.
pub(super) struct Stamper {
    signature: Signature,
    every: Every,
    /// By number of bytes between the stamp and the ICRC; the most common first.
    behind: Vec<Advance>,
}

/// The stamps of frames that leave together.
#[derive(Clone, Copy)]
pub(super) struct Together {
    wire_out: Time,
    /// What run, port and time change in the register behind the stamp.
    register: u32,
    /// What the time alone changes there in a stamp without one.
    time: u32,
    /// The head of the last frame with such a stamp, its length, and what the time changed in its ICRC.
    last: (u8, FrameLen, u32),
}

impl Stamper {
    /// For `port` of the run of this number; quick for payloads of these lengths.
    pub fn new(run: u32, port: u8, payload_lens: &[u16]) -> Stamper {
        let mut behind: Vec<Advance> = Vec::new();
        for n in payload_lens.iter().flat_map(|n| [n + u16::from(pad_of(*n)), *n]) {
            if let Some(n) = n.checked_sub(STAMP as u16)
                && behind.iter().all(|a| a.bytes() != n)
            {
                behind.push(Advance::new(n));
            }
        }
        Stamper { signature: Signature { run, port }, every: Every::nth(1), behind }
    }

    /// Stamps these frames only.
    pub fn select(self, every: Every) -> Stamper {
        Stamper { every, ..self }
    }

    /// Which frames it stamps.
    #[inline]
    pub fn every(&self) -> Every {
        self.every
    }

    /// What hosts may write themselves, with the time zero: where every frame has a stamp.
    pub fn signature(&self) -> Option<Signature> {
        self.every.all().then_some(self.signature)
    }

    /// The frame has its stamp, and the time in it.
    pub fn is_timed<F: Frame>(frame: &F) -> bool {
        frame.meta().driver == TIMED
    }

    /// Begins a burst that is handed over at `now`.
    #[inline]
    pub fn together(&self, now: Time) -> Together {
        let register = of_u64::<16>(self.signature.first_word(0) ^ BEFORE) ^ of_u64::<8>(now.0 ^ BEFORE);
        Together { wire_out: now, register, time: of_u64::<8>(now.0), last: (0, FrameLen(0), 0) }
    }

    /// Stamps a completed frame; false when there is no room for it.
    #[inline(always)]
    pub fn write<F: Frame>(&self, burst: &mut Together, frame: &mut F) -> bool {
        let m = frame.meta();
        if m.driver & STAMPED == 0 {
            return self.write_unusual(burst, frame);
        }
        // By the host: the time alone is to be changed.
        let (head_len, len) = (m.head_len, m.len);
        if (burst.last.0, burst.last.1) != (head_len, len) {
            let behind = usize::from(len.0).wrapping_sub(ICRC_LEN + STAMP + usize::from(head_len)) as u16;
            burst.last = (head_len, len, self.carried(burst.time, behind));
        }
        frame.meta_mut().driver = TIMED;
        let at = usize::from(head_len) + TIME_AT;
        let Some(time) = frame.head_mut().get_mut(at..).and_then(|b| b.first_chunk_mut()) else {
            return false;
        };
        *time = burst.wire_out.0.to_le_bytes();
        change_icrc(frame, burst.last.2)
    }

    /// Stamps a frame that the device refused, or that has no stamp yet.
    #[inline(never)]
    fn write_unusual<F: Frame>(&self, burst: &Together, frame: &mut F) -> bool {
        let m = frame.meta();
        if m.driver != TIMED {
            return self.write_whole(burst, frame);
        }
        let (at, len) = (usize::from(m.head_len), usize::from(m.len.0));
        let Some(time) = frame.head_mut().get_mut(at + TIME_AT..).and_then(|b| b.first_chunk_mut()) else {
            return false;
        };
        let change = of_u64::<8>(u64::from_le_bytes(*time) ^ burst.wire_out.0);
        *time = burst.wire_out.0.to_le_bytes();
        change_icrc(frame, self.carried(change, len.wrapping_sub(ICRC_LEN + STAMP + at) as u16))
    }

    /// Stamps a frame that has no stamp yet.
    fn write_whole<F: Frame>(&self, burst: &Together, frame: &mut F) -> bool {
        let m = frame.meta();
        let (at, end) = (usize::from(m.head_len), usize::from(m.len.0));
        let (intended, sender) = (m.intended, m.flow & psn::MASK);
        if m.fill != Fill::Const || at + STAMP > HEAD_MAX || at + STAMP + BEHIND_MIN + ICRC_LEN > end {
            return false;
        }
        frame.meta_mut().driver = TIMED;
        let Some(bytes) = frame.wire_bytes_mut() else { return false };
        let Some(stamp) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut::<STAMP>()) else {
            return false;
        };
        let words = [self.signature.first_word(sender), burst.wire_out.0, intended.0];
        for (to, word) in stamp.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        // The sender was taken as zero.
        let register =
            burst.register ^ of_u64::<16>(u64::from(sender) << 32) ^ of_u64::<0>(intended.0 ^ BEFORE);
        change_icrc(frame, self.carried(register, (end - ICRC_LEN - at - STAMP) as u16))
    }

    /// What a change of the register behind the stamp becomes so many bytes later.
    #[inline]
    fn carried(&self, register: u32, behind: u16) -> u32 {
        match self.behind.iter().find(|a| a.bytes() == behind) {
            Some(a) => a.over(register),
            None => Advance::slowly(register, behind),
        }
    }

    /// As [`Signature::read`].
    #[inline(always)]
    pub fn read(&self, now: Time, head: &[u8; HEAD_MAX], at: usize, payload_len: u16) -> Option<Stamp> {
        self.signature.read(now, head, at, payload_len)
    }
}

/// Changes the ICRC that ends a frame.
#[inline(always)]
fn change_icrc<F: Frame>(frame: &mut F, change: u32) -> bool {
    let Some(icrc) = frame.wire_bytes_mut().and_then(|b| b.last_chunk_mut::<ICRC_LEN>()) else {
        return false;
    };
    *icrc = (u32::from_le_bytes(*icrc) ^ change).to_le_bytes();
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FramePool;
    use crate::frame::whole::{WholeFrame, WholePool};
    use crate::wire::headers::{Ext, Opcode, Reth};
    use crate::wire::icrc;
    use crate::wire::template::{BthFields, FrameSpec, Template};

    fn frame(pool: &mut WholePool, spec: &FrameSpec, ext: Ext, payload: u16) -> WholeFrame {
        let mut f = pool.take(Fill::Const, FrameLen(200)).unwrap();
        let opcode = if ext.is_empty() { Opcode::RcWriteMiddle } else { Opcode::RcWriteOnly };
        let bth = BthFields {
            opcode: opcode.into(),
            dest_qp: 17,
            psn: 5,
            pad: pad_of(payload),
            ..Default::default()
        };
        let wire = Template::new(spec).unwrap().write(f.head_mut(), &bth, &ext, payload);
        let m = f.meta_mut();
        (m.len, m.head_len, m.flow, m.intended) = (wire.len, wire.head_len, 0x12_3456, Time(7_654_321_012));
        pool.seal(&mut f);
        f
    }

    #[test]
    fn stamps_come_back_and_the_icrc_is_right_for_every_length_and_head() {
        let mut pool = WholePool::new(4);
        let v4 = FrameSpec::default();
        let ip = |a: &str| a.parse().unwrap();
        let v6 = FrameSpec {
            src_ip: ip("2001:2::1"),
            dst_ip: ip("2001:2::2"),
            vlan: Some((3, 100)),
            ..FrameSpec::default()
        };
        let reth = Ext::Reth(Reth { va: 1 << 40, rkey: 7, dma_len: 9 });
        let s = Stamper::new(0x5eed_0001, 3, &[1_024, 4_096, 1_001]);
        for spec in [v4, v6] {
            for ext in [Ext::None, reth] {
                for payload in [0, 1, 23, 24, 25, 64, 1_000, 1_001, 1_024, 4_096] {
                    let mut f = frame(&mut pool, &spec, ext, payload);
                    let (head_len, now) = (usize::from(f.meta().head_len), Time(8_000_000_000_000));
                    let fits = payload > 24;
                    assert_eq!(s.read(now, f.head(), head_len, payload), None, "constant bytes are no stamp");
                    // Once refused, then handed over.
                    for wire_out in [Time(7_999_999_000_000), Time(7_999_999_500_001)] {
                        let stamped = s.write(&mut s.together(wire_out), &mut f);
                        assert_eq!(stamped, fits, "{payload}");
                        assert_eq!(icrc::verify(f.wire_bytes().unwrap()), Ok(true), "{payload} {ext:?}");
                        let stamp = fits.then_some(Stamp {
                            wire_out,
                            intended: Time(7_654_321_012),
                            port: 3,
                            sender: 0x12_3456,
                        });
                        assert_eq!(s.read(now, f.head(), head_len, payload), stamp, "{payload}");
                    }
                    pool.give(f);
                }
            }
        }
    }

    #[test]
    fn a_stamp_of_the_host_lacks_the_time_alone() {
        let mut pool = WholePool::new(1);
        let s = Stamper::new(0x5eed_0001, 3, &[1_024, 4_096]);
        for payload in [256, 1_024, 4_096] {
            let mut f = frame(&mut pool, &FrameSpec::default(), Ext::None, payload);
            let at = usize::from(f.meta().head_len);
            let (sender, intended) = (f.meta().flow, f.meta().intended);
            let words = [s.signature().unwrap().first_word(sender), 0, intended.0];
            f.wire_bytes_mut().unwrap()[at..at + STAMP]
                .copy_from_slice(words.map(u64::to_le_bytes).as_flattened());
            icrc::seal(f.wire_bytes_mut().unwrap()).unwrap();
            f.meta_mut().driver = STAMPED;
            // Once refused, then handed over.
            for wire_out in [Time(7_999_999_000_000), Time(7_999_999_500_001)] {
                assert!(s.write(&mut s.together(wire_out), &mut f));
                assert_eq!(icrc::verify(f.wire_bytes().unwrap()), Ok(true), "{payload}");
                let stamp = s.read(Time(8_000_000_000_000), f.head(), at, payload).unwrap();
                assert_eq!((stamp.wire_out, stamp.intended, stamp.sender), (wire_out, intended, sender));
            }
            pool.give(f);
        }
    }

    #[test]
    fn stamps_of_other_runs_and_of_the_future_are_none() {
        let mut pool = WholePool::new(1);
        let mut f = frame(&mut pool, &FrameSpec::default(), Ext::None, 1_024);
        let (at, now) = (usize::from(f.meta().head_len), Time(5_000_000_000));
        let (ours, others) = (Stamper::new(1, 0, &[1_024]), Stamper::new(2, 0, &[1_024]));
        assert!(others.write(&mut others.together(now), &mut f));
        assert_eq!(ours.read(now, f.head(), at, 1_024), None);
        assert!(others.read(now, f.head(), at, 1_024).is_some());
        assert_eq!(others.read(Time(1_000_000_000), f.head(), at, 1_024), None);
    }

    #[test]
    fn multiples_are_selected_and_no_others() {
        let all = Every::nth(1);
        assert!(all.all() && Every::nth(0).all() && !Every::nth(2).all());
        for n in [1, 2, 3, 7, 10, 16, 1_000, 65_537, 1 << 20] {
            let near = |m: u32| [m * n, m * n + 1, (m * n).saturating_sub(1)];
            let psns = (0..1_000).chain((0..psn::MASK / n).step_by(997).flat_map(near)).chain([psn::MASK]);
            for p in psns {
                assert_eq!(Every::nth(n).has(p), p % n == 0, "{p} of every {n}th");
            }
        }
    }

    #[test]
    fn two_runs_have_two_numbers() {
        assert_ne!(run_number(1), run_number(2));
    }
}
