//! Completes the bytes of a frame in a buffer whose data was [`PAYLOAD_BYTE`] throughout.

use std::ops::Range;

use crate::frame::{Fill, FrameMeta, HEAD_MAX, PAYLOAD_BYTE, flags};
use crate::wire::fast::{self, Fast, Kind};
use crate::wire::icrc::{self, AfterHead, ConstPayload};
use crate::wire::{ICRC_LEN, pad_of};

/// A cache line.
const LINE: usize = 64;
/// Room a buffer needs for [`Sealer::seal`], however short the frame: the repair of the head writes whole
/// lines.
pub(super) const ROOM_BYTES_MIN: usize = 256;
const _: () = assert!(ROOM_BYTES_MIN >= HEAD_MAX + LINE);

/// Writes pads and ICRCs; fast for the payload lengths it was made for, right for all.
#[derive(Debug)]
pub(super) struct Sealer {
    /// By lengths of payload and pad, in the order of the constructor's list: the most common first.
    prepared: Vec<(u16, u8, ConstPayload)>,
}

impl Sealer {
    /// Prepares for payloads of these lengths: with their pads, and without, as streams of exact frame lengths have them.
    /// 4 KiB each.
    pub(super) fn new(payload_lens: &[u16]) -> Sealer {
        let prepare = |(n, pad)| (n, pad, ConstPayload::new(n, PAYLOAD_BYTE, pad));
        let bare = payload_lens.iter().filter(|n| pad_of(**n) != 0).map(|n| (*n, 0));
        let both = payload_lens.iter().map(|n| (*n, pad_of(*n))).chain(bare);
        Sealer { prepared: both.map(prepare).collect() }
    }

    /// Completes the frame at the front of `room` and returns where its pad and ICRC lie. Leaves a frame that
    /// does not fit in the room alone.
    #[inline]
    pub(super) fn seal(&self, meta: &FrameMeta, room: &mut [u8]) -> Range<usize> {
        let end = usize::from(meta.len.0);
        if end > room.len() {
            return 0..0;
        }
        Self::clean_head(meta, room);
        let tail = if meta.flags & flags::PFC == 0 { self.tail(meta, room, end) } else { None };
        tail.unwrap_or(end)..end
    }

    /// As [`Sealer::seal`] for a RoCEv2 frame whose headers were just written, without reading them again.
    #[inline]
    pub(super) fn seal_after(&self, meta: &FrameMeta, after: &AfterHead, room: &mut [u8]) -> Range<usize> {
        let AfterHead { register, payload_len, pad } = *after;
        let (head_len, end) = (usize::from(meta.head_len), usize::from(meta.len.0));
        let pad_at = head_len + usize::from(payload_len);
        let whole = end <= room.len() && pad_at + usize::from(pad) + ICRC_LEN == end;
        let icrc = match meta.fill {
            Fill::Control if payload_len == 0 && pad == 0 => Some(!register),
            Fill::Const => self.prepared_for(payload_len, pad).map(|p| p.finish(register)),
            _ => None,
        };
        let Some(icrc) = icrc.filter(|_| whole) else { return self.seal_read(meta, room) };
        Self::clean_head(meta, room);
        if pad != 0 {
            zero(room, pad_at, end - ICRC_LEN);
        }
        if let Some(tail) = room.get_mut(end - ICRC_LEN..end) {
            tail.copy_from_slice(&icrc.to_le_bytes());
        }
        pad_at..end
    }

    /// As [`Sealer::seal`], seldom.
    #[cold]
    #[inline(never)]
    fn seal_read(&self, meta: &FrameMeta, room: &mut [u8]) -> Range<usize> {
        self.seal(meta, room)
    }

    #[inline]
    fn prepared_for(&self, payload_len: u16, pad: u8) -> Option<&ConstPayload> {
        self.prepared.iter().find(|(n, p, _)| (*n, *p) == (payload_len, pad)).map(|(.., p)| p)
    }

    /// Puts back what lies behind the headers.
    #[inline]
    fn clean_head(meta: &FrameMeta, room: &mut [u8]) {
        let (head_end, end) = (usize::from(meta.head_len).min(HEAD_MAX), usize::from(meta.len.0));
        match meta.fill {
            Fill::Control => zero(room, head_end, end),
            Fill::Const => {
                // Together they cover everything from the end of the headers to HEAD_MAX.
                for from in [head_end, head_end.max(HEAD_MAX - LINE)] {
                    if let Some(line) = room.get_mut(from..).and_then(|r| r.first_chunk_mut::<LINE>()) {
                        *line = [PAYLOAD_BYTE; LINE];
                    }
                }
            }
            Fill::Writable => {}
        }
    }

    /// Writes pad and ICRC and returns where the pad starts; `None` for what is not RoCEv2.
    #[inline]
    fn tail(&self, meta: &FrameMeta, room: &mut [u8], end: usize) -> Option<usize> {
        let head: &[u8; HEAD_MAX] = room.first_chunk()?;
        let parsed = fast::parse(head, meta.len);
        let f = parsed.as_ref().ok().filter(|f| f.kind == Kind::Roce)?;
        let pad_at = usize::from(f.head_len()) + usize::from(f.payload_len);
        let icrc_at = pad_at + usize::from(f.pad);
        let prepared = self.without_payload(meta, head, f);
        if meta.fill != Fill::Control {
            zero(room, pad_at, icrc_at);
            zero(room, icrc_at + ICRC_LEN, end);
        }
        match prepared {
            Some(icrc) => room.get_mut(icrc_at..icrc_at + ICRC_LEN)?.copy_from_slice(&icrc.to_le_bytes()),
            None => icrc::seal(room.get_mut(..end)?).ok()?,
        }
        Some(pad_at)
    }

    /// The ICRC without reading the payload, where that can be done.
    #[inline]
    fn without_payload(&self, meta: &FrameMeta, head: &[u8; HEAD_MAX], f: &Fast) -> Option<u32> {
        if f.payload_len == 0 && f.pad == 0 {
            return Some(!icrc::register_after_head(head, f));
        }
        let constant = meta.fill == Fill::Const && meta.head_len == f.head_len();
        let prepared = self.prepared_for(f.payload_len, f.pad).filter(|_| constant)?;
        Some(prepared.icrc(head, f))
    }
}

fn zero(room: &mut [u8], from: usize, to: usize) {
    if let Some(bytes) = room.get_mut(from..to) {
        bytes.fill(0);
    }
}
