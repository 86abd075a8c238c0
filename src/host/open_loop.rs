//! Streams' frames out: whole bursts of those that leave alike.
//!
//! Streams of one group differ in addresses and PSN alone. Their frames are taken from the pool together, and what they
//! cost by the frame is their head, their checksum and the next time of their schedule; the rest is paid by the burst.

use super::Host;
use super::stream::{self, NO_GROUP};
use super::tx::{Step, write_head};
use crate::frame::{Fill, Frame, FrameMeta, FramePool, TxBatch, Written, flags};
use crate::limits::BURST;
use crate::measure::record::Record;
use crate::units::Time;
use crate::wire::template::BthFields;

/// So many streams stay in the caches by themselves.
const STREAMS_WARM: usize = 2_048;
/// Streams are asked for so many frames before theirs is written.
const STREAMS_AHEAD: usize = BURST;
const _: () = assert!(BURST.is_power_of_two());

impl Host {
    /// Prepares checksums of streams' frames, for drivers that carry bytes: 7 KiB for each kind of them.
    pub fn prepare_checksums(&mut self) {
        for s in &mut self.streams {
            s.prepare(&mut self.groups);
        }
    }

    /// Streams in lanes whose time has come may send. Timers that are earlier have their turn first, and of two at one time
    /// the lower number.
    pub(super) fn leave_lanes(&mut self, now: Time, rec: &mut impl Record) {
        while let Some((at, id)) = self.lanes.front().filter(|front| front.0 <= now) {
            while let Some((timer, _)) = self.wheel.pop_before((at, id)) {
                self.on_timer(now, timer, rec);
            }
            if let Some(soon) = self.lanes.leave(STREAMS_AHEAD).filter(|_| self.streams.len() > STREAMS_WARM)
            {
                stream::prefetch_hot(&self.streams, soon as usize - self.qps.len());
            }
            self.ready.join(self.streams[id as usize - self.qps.len()].list, id);
        }
    }

    /// Sends from streams as long as one is next among all senders and nothing else can come in between: they make no
    /// control frames, and one list is all there is. Returns how many left.
    #[inline]
    pub(super) fn send_streams<P: FramePool>(
        &mut self,
        now: Time,
        room: usize,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
    ) -> usize {
        let Some(list) = self.ready.only(self.pfc_rx.mask()) else { return 0 };
        let first = self.qps.len() as u32;
        let mut sent = 0;
        while sent < room && !out.data.is_full() {
            let Some(id) = self.ready.behind(list, 0).filter(|id| *id >= first) else { break };
            let group = self.streams[(id - first) as usize].group;
            let left = if group != NO_GROUP {
                self.send_group(now, (list, group), room - sent, pool, out)
            } else {
                usize::from(self.send_stream(now, list, id, pool, out) == Step::Sent)
            };
            if left == 0 {
                // Counted where it is met again.
                break;
            }
            sent += left;
        }
        sent
    }

    /// Sends from the streams of `group` that come next in `list`, one frame each.
    #[inline]
    fn send_group<P: FramePool>(
        &mut self,
        now: Time,
        (list, group): (u8, u16),
        room: usize,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
    ) -> usize {
        let first = self.qps.len();
        let g = &self.groups[usize::from(group)];
        let far = self.streams.len() > STREAMS_WARM;
        let meta = FrameMeta {
            start: now,
            src: self.port,
            len: g.shape.len,
            head_len: g.shape.head_len,
            fill: g.fill,
            class: g.class,
            flags: flags::DATA,
            ..FrameMeta::default()
        };
        let (shape, sums) = (g.shape, g.sums.as_ref());
        let (row, streams) = (self.ready.row(list), &mut self.streams[..]);
        let (mut again, mut agains) = ([0; BURST], 0);
        let before = out.data.len();
        let taken = pool.write_many(&meta, room.min(row.len()), &mut out.data, |i, frame| {
            // The whole list has its turn again and again, so whoever stands so far behind will be needed. One at a time:
            // caches take in so many lines at once, and who asks for more waits.
            if far && let Some(soon) = row.get(STREAMS_AHEAD + i) {
                stream::prefetch_hot(streams, (soon as usize).wrapping_sub(first));
            }
            let Some(id) = row.get(i) else { return Written::Nothing };
            let stream = streams.get_mut((id as usize).wrapping_sub(first));
            let Some(s) = stream.filter(|s| s.group == group) else { return Written::Nothing };
            let m = frame.meta_mut();
            (m.intended, m.flow) = (s.due(), id);
            let written = s.write_fixed(frame.head_mut(), &shape, sums);
            let next = s.sent_fixed();
            // At most a burst of them.
            again[agains & (BURST - 1)] = id;
            agains += usize::from(next <= now);
            if next > now && next != Time::NEVER && !self.lanes.set(s.lane, id, next) {
                self.wheel.set(id, next);
            }
            written
        });
        out.note_alike(before, meta.len);
        self.ready.leave_many(list, taken);
        self.ready.join_many(list, again.get(..agains).unwrap_or_default());
        let n = taken as u64;
        self.pfc_rx.left_many(now, list, g.shape.len, n);
        self.stats.stream_tx += n;
        self.stats.classes[usize::from(g.class)].transmissions += n;
        self.stats.tx_frames += n;
        self.stats.tx_bytes += n * g.shape.len.counted();
        taken
    }

    /// Sends one frame of stream `id`, whatever its kind.
    pub(super) fn send_stream<P: FramePool>(
        &mut self,
        now: Time,
        list: u8,
        id: u32,
        pool: &mut P,
        out: &mut TxBatch<P::Frame>,
    ) -> Step {
        let s = &mut self.streams[id as usize - self.qps.len()];
        if s.group != NO_GROUP {
            let group = s.group;
            return match self.send_group(now, (list, group), 1, pool, out) {
                0 => Step::PoolEmpty,
                _ => Step::Sent,
            };
        }
        let f = s.frame();
        let fill = if f.payload_len == 0 { Fill::Control } else { Fill::Const };
        let Some(mut frame) = pool.take(fill, f.len) else { return Step::PoolEmpty };
        let (bth, ext) = s.headers();
        let bth = BthFields { psn: f.psn, ..bth };
        let flow = s.template.flow();
        let (wire, after) = write_head::<P>(&s.template, flow, &mut frame, &bth, &ext, f.payload_len);
        let meta = frame.meta_mut();
        (meta.intended, meta.class, meta.flags) = (s.next(), s.class, flags::DATA);
        s.sent(f.size);
        let next = s.next();
        self.stats.stream_tx += 1;
        self.stats.classes[usize::from(s.class)].transmissions += 1;
        self.pfc_rx.left(now, list, wire.len);
        if next <= now {
            self.ready.rotate(list);
        } else {
            self.ready.leave(list);
            self.wheel.set(id, next);
        }
        self.seal(now, &mut frame, wire, after, id, pool);
        out.data.push(frame);
        Step::Sent
    }
}
