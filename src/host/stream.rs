//! Open-loop streams: UC or UD SEND ONLY frames on a fixed schedule, counted by PSN where they end.
//!
//! The schedule is exact: every gap is a fraction of picoseconds whose remainder is carried. A frame that
//! could not go when it was meant to (link busy, pause) goes late and keeps its intended time; nothing is
//! left out.

use super::config::{HostConfig, STREAM_QPN_FIRST};
use super::rx::addr_of;
use crate::frame::{Fill, HEAD_MAX, Written};
use crate::hint::prefetch;
use crate::transport::config::ClassConfig;
use crate::units::{FrameLen, LinkTiming, Rate, Span, Time, WIRE_OVERHEAD_BYTES};
use crate::wire::fast::{Fast, IpKey};
use crate::wire::fixed::{FixedHead, PsnSums, Shape};
use crate::wire::headers::Ext;
use crate::wire::opcode::Opcode;
use crate::wire::psn;
use crate::wire::template::{BthFields, Template};
use crate::workload::config::{Load, StreamConfig, StreamVerb, Until};

/// Bytes of the FCS, which sizes of streams include and frame lengths do not.
const FCS: u16 = 4;

/// One frame size of a stream.
#[derive(Clone, Copy, Debug)]
struct Size {
    len: FrameLen,
    weight: u32,
    /// Turn counter of the smooth weighted round-robin.
    turn: i64,
    /// Gap after such a frame: whole picoseconds, and the remainder in units of 1 / `den`.
    gap: u64,
    rem: u64,
}

/// A frame of a stream, as its schedule has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamFrame {
    pub(super) len: FrameLen,
    /// Bytes between BTH and ICRC. Frame sizes are kept to the byte, so this need not be a multiple of 4.
    pub(super) payload_len: u16,
    pub(super) psn: u32,
    /// Entry of the list of sizes.
    pub(super) size: usize,
}

/// Sending end of a stream: what every frame touches comes first, in two cache lines.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Sender {
    /// The head of its frames; zeros where they are no [`Group`].
    fixed: FixedHead,
    next: Time,
    frames_left: u64,
    sent: u64,
    carried: u64,
    /// [`Size::gap`] and [`Size::rem`] where all frames are of one size.
    gap: u64,
    rem: u64,
    den: u64,
    /// ICRC of the next frame, where that is prepared.
    icrc: u32,
    /// Number of its [`Group`], or [`NO_GROUP`].
    pub(super) group: u16,
    /// Its lane, or [`super::lanes::NO_LANE`].
    pub(super) lane: u8,
    /// Priority it obeys, or [`crate::transport::ready::UNPAUSED`].
    pub(super) list: u8,
    pub(super) class: u8,
    /// [`Time::NEVER`] where `frames_left` says it all.
    end: Time,
    /// CRC behind the head of the frame with PSN 0.
    register: u32,
    /// Bytes of a frame without payload.
    base_len: u16,
    pub(super) verb: StreamVerb,
    pub(super) index: u32,
    sizes: Vec<Size>,
    pub(super) template: Template,
}

/// A stream of several sizes, or with a longer head.
pub(super) const NO_GROUP: u16 = u16::MAX;

/// Bytes of a stream of one frame size.
pub(super) const BYTES_PER_STREAM: usize = size_of::<Sender>() + size_of::<Size>();
/// Cache lines of a [`Sender`] that every frame touches.
pub(super) const HOT_LINES: usize = 2;
const _: () = assert!(std::mem::offset_of!(Sender, class) == 64 * HOT_LINES);

/// What streams have in common whose frames leave in one burst.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) shape: Shape,
    pub(super) class: u8,
    pub(super) fill: Fill,
    /// Where drivers carry bytes.
    pub(super) sums: Option<PsnSums>,
}

/// All groups of a host.
pub(super) type Groups = Vec<Group>;

/// Asks for what the next frame of a stream touches.
#[inline(always)]
pub(super) fn prefetch_hot(streams: &[Sender], stream: usize) {
    if let Some(s) = streams.get(stream) {
        let at: *const Sender = s;
        (0..HOT_LINES).for_each(|line| prefetch(at.cast::<[u8; 64]>().wrapping_add(line)));
    }
}

/// Bytes of a stream's frame without payload: headers and ICRC.
pub fn base_len(class: &ClassConfig, is_v6: bool, verb: StreamVerb) -> u16 {
    let deth = if verb == StreamVerb::UdSend { 8 } else { 0 };
    crate::transport::qp::base_len(class, is_v6) + deth
}

impl Sender {
    /// A stream on a port of rate `line`; `start` overrides the configured start (bursts).
    pub(super) fn new(
        cfg: &StreamConfig,
        start: Time,
        line: Rate,
        template: Template,
        base_len: u16,
        index: u32,
        list: u8,
    ) -> Sender {
        // Gap = numerator / den, both integers: bits and rates in bit/s, or frames in thousandths per second.
        let den = match cfg.load {
            Load::L1Share(share) => (line.bits_per_s as f64 * share).round() as u64,
            Load::L2(rate) => rate.bits_per_s,
            Load::Fps(fps) => (fps * 1e3).round() as u64,
        }
        .max(1);
        let numerator = |size: u16| -> u128 {
            let bytes = match cfg.load {
                Load::L1Share(_) => size.saturating_sub(FCS) + WIRE_OVERHEAD_BYTES,
                Load::L2(_) => size,
                Load::Fps(_) => return 1_000_000_000_000_000,
            };
            u128::from(bytes) * 8 * 1_000_000_000_000
        };
        let sizes = cfg.sizes.iter().filter(|s| s.1 > 0).map(|&(size, weight)| Size {
            len: FrameLen(size.saturating_sub(FCS)),
            weight,
            turn: 0,
            gap: u64::try_from(numerator(size) / u128::from(den)).unwrap_or(u64::MAX),
            rem: (numerator(size) % u128::from(den)) as u64,
        });
        let (frames_left, end) = match cfg.until {
            Until::Frames(n) => (n, Time::NEVER),
            Until::Span(span) => (u64::MAX, start + span),
        };
        let mut s = Sender {
            fixed: FixedHead::default(),
            icrc: 0,
            register: 0,
            group: NO_GROUP,
            lane: super::lanes::NO_LANE,
            gap: 0,
            rem: 0,
            template,
            base_len,
            verb: cfg.verb,
            index,
            class: cfg.class.0,
            list,
            sizes: sizes.collect(),
            den,
            carried: 0,
            next: start,
            end,
            frames_left,
            sent: 0,
        };
        if s.sizes.is_empty() || s.next >= s.end {
            s.frames_left = 0;
        }
        if let [only] = s.sizes.as_slice() {
            (s.gap, s.rem) = (only.gap, only.rem);
            if s.end != Time::NEVER && s.frames_left != 0 {
                s.frames_left = frames_until(s.end.since(start), numerator(only.len.0 + FCS), den);
                s.end = Time::NEVER;
            }
        }
        s
    }

    /// Takes its place in the group of its frames, where all are of one size and their heads fit.
    pub(super) fn join(&mut self, groups: &mut Groups) {
        let [only] = self.sizes.as_slice() else { return };
        let (bth, ext) = self.headers();
        let payload_len = only.len.0.saturating_sub(self.base_len);
        let fixed = FixedHead::new(&self.template, self.template.flow(), &bth, &ext, payload_len);
        if let Some((head, shape, register)) = fixed {
            (self.fixed, self.register) = (head, register);
            self.group = group_of(groups, shape, self.class);
        }
    }

    /// What its gaps are, where all are of one size.
    pub(super) fn gap(&self) -> Option<(u64, u64, u64)> {
        (self.sizes.len() == 1 && self.end == Time::NEVER).then_some((self.gap, self.rem, self.den))
    }

    /// Prepares the checksums of its frames.
    pub(super) fn prepare(&mut self, groups: &mut Groups) {
        if let Some(g) = groups.get_mut(usize::from(self.group)) {
            let psn = self.sent as u32 & psn::MASK;
            self.icrc = g.sums.get_or_insert_with(|| PsnSums::new(&g.shape)).icrc(self.register, psn);
        }
    }

    /// BTH (with PSN 0) and extended headers of its frames.
    pub(super) fn headers(&self) -> (BthFields, Ext) {
        let qp = STREAM_QPN_FIRST + self.index;
        let (opcode, ext) = match self.verb {
            StreamVerb::UcSend => (Opcode::UcSendOnly, Ext::None),
            StreamVerb::UdSend => (Opcode::UdSendOnly, super::datagrams::stream_headers(qp)),
        };
        (BthFields { opcode: opcode as u8, dest_qp: qp, ..BthFields::default() }, ext)
    }

    /// Writes the head of the next frame, where that is a fixed one, and says how far the frame is written then.
    #[inline(always)]
    pub(super) fn write_fixed(
        &mut self,
        head: &mut [u8; HEAD_MAX],
        shape: &Shape,
        sums: Option<&PsnSums>,
    ) -> Written {
        let psn = self.sent as u32 & psn::MASK;
        self.fixed.write(head, psn, shape);
        let Some(sums) = sums else { return Written::Head };
        let icrc = self.icrc;
        self.icrc = sums.next(icrc, psn);
        Written::Whole(icrc)
    }

    /// Share of a link's time that its frames take on the wire when each leaves at its time; 0 for a stream that is none.
    pub(super) fn share(&self, link: &LinkTiming) -> f64 {
        let sum = |of: &dyn Fn(&Size) -> u64| -> f64 {
            self.sizes.iter().map(|s| f64::from(s.weight) * of(s) as f64).sum()
        };
        let gaps = sum(&|s| s.gap);
        if gaps == 0.0 { 0.0 } else { sum(&|s| link.wire_time(s.len).0) / gaps }
    }

    /// Frames sent, and frames that its schedule asked for until `now`.
    pub(super) fn progress(&self, now: Time) -> (u64, u64) {
        let weights: u128 = self.sizes.iter().map(|s| u128::from(s.weight)).sum();
        let gaps: u128 = self.sizes.iter().map(|s| u128::from(s.weight) * u128::from(s.gap)).sum();
        let until = Time(self.end.0.saturating_sub(1)).min(now);
        if self.frames_left == 0 || self.next > until || gaps == 0 {
            return (self.sent, self.sent);
        }
        let behind = u128::from(until.since(self.next).0) * weights / gaps + 1;
        (self.sent, self.sent + u64::try_from(behind).unwrap_or(u64::MAX).min(self.frames_left))
    }

    /// As [`Sender::sent`] where all frames are of one size; says when the next one is meant to start.
    #[inline(always)]
    pub(super) fn sent_fixed(&mut self) -> Time {
        self.step(self.gap, self.rem);
        self.next()
    }

    #[inline(always)]
    fn step(&mut self, gap: u64, rem: u64) {
        self.sent += 1;
        self.frames_left -= 1;
        self.carried += rem;
        let carry = u64::from(self.carried >= self.den);
        self.carried -= carry * self.den;
        self.next = Time(self.next.0.saturating_add(gap + carry));
    }

    #[inline]
    fn count(&mut self, gap: u64, rem: u64) {
        self.step(gap, rem);
        if self.next >= self.end {
            self.frames_left = 0;
        }
    }

    /// The same of a stream that is not over.
    #[inline(always)]
    pub(super) fn due(&self) -> Time {
        self.next
    }

    /// When the next frame is meant to start; `NEVER` when the stream is over.
    #[inline]
    pub(super) fn next(&self) -> Time {
        if self.frames_left == 0 { Time::NEVER } else { self.next }
    }

    /// The next frame. Changes nothing.
    #[inline]
    pub(super) fn frame(&self) -> StreamFrame {
        let mut best = 0;
        for (i, s) in self.sizes.iter().enumerate() {
            if s.turn + i64::from(s.weight) > self.sizes[best].turn + i64::from(self.sizes[best].weight) {
                best = i;
            }
        }
        let len = self.sizes[best].len;
        let payload_len = len.0.saturating_sub(self.base_len);
        StreamFrame { len, payload_len, psn: self.sent as u32 & psn::MASK, size: best }
    }

    /// The frame has been handed over.
    #[inline]
    pub(super) fn sent(&mut self, size: usize) {
        let mut total = 0;
        for s in &mut self.sizes {
            s.turn += i64::from(s.weight);
            total += i64::from(s.weight);
        }
        let s = &mut self.sizes[size];
        s.turn -= total;
        let (gap, rem) = (s.gap, s.rem);
        self.count(gap, rem);
    }
}

/// Number of the group of frames of this shape and class, made when it is the first.
fn group_of(groups: &mut Groups, shape: Shape, class: u8) -> u16 {
    if let Some(i) = groups.iter().position(|g| (g.shape, g.class) == (shape, class)) {
        return i as u16;
    }
    if groups.len() >= usize::from(NO_GROUP) {
        return NO_GROUP;
    }
    let fill = if shape.payload_len == 0 { Fill::Control } else { Fill::Const };
    groups.push(Group { shape, class, fill, sums: None });
    (groups.len() - 1) as u16
}

/// Frames that start before the end of `span`, the first at its start and one each `numerator / den` picoseconds, cut to
/// whole ones.
fn frames_until(span: Span, numerator: u128, den: u64) -> u64 {
    // Frame k starts at k * numerator / den, cut: before `span` as long as k * numerator < span * den.
    let frames = (u128::from(span.0) * u128::from(den)).div_ceil(numerator.max(1));
    u64::try_from(frames).unwrap_or(u64::MAX)
}

/// Receiving ends of streams, by number of the stream in the run.
#[derive(Debug)]
pub(super) struct Receivers {
    ends: Vec<End>,
    lost: u64,
    /// Our addresses, sorted.
    ours: Vec<IpKey>,
    /// Class by DSCP.
    class: [u8; 64],
}

#[derive(Clone, Copy, Debug, Default)]
struct End {
    expected: u32,
    addr: u32,
    class: u8,
    seen: bool,
}

impl Receivers {
    pub(super) fn new(cfg: &HostConfig) -> Receivers {
        let mut ours: Vec<IpKey> = cfg.ranks.iter().map(|r| r.ip.into()).collect();
        ours.sort_unstable();
        let mut class = [0; 64];
        for (i, c) in cfg.classes.iter().enumerate().rev() {
            class[usize::from(c.dscp & 63)] = i as u8; // the first class with this DSCP
        }
        Receivers { ends: Vec::with_capacity(64), lost: 0, ours, class }
    }

    /// Class of the stream a frame is of, when it is for us. The first frame of a stream decides who its
    /// sender is, and may make room for it.
    #[inline]
    pub(super) fn belongs(&mut self, index: u32, f: &Fast) -> Option<u8> {
        let addr = addr_of(f.src, f.dst);
        let i = index as usize;
        if let Some(end) = self.ends.get(i).filter(|e| e.seen) {
            return (end.addr == addr).then_some(end.class);
        }
        self.ours.binary_search(&f.dst).ok()?;
        if i >= self.ends.len() {
            self.ends.resize(i + 1, End::default());
        }
        let class = self.class[usize::from(f.dscp & 63)];
        self.ends[i] = End { expected: 0, addr, class, seen: true };
        Some(class)
    }

    /// Counts a frame of a stream that belongs here.
    #[inline]
    pub(super) fn on_frame(&mut self, index: u32, got: u32) {
        let end = &mut self.ends[index as usize];
        let ahead = psn::diff(got, end.expected);
        if ahead >= 0 {
            self.lost += ahead as u64;
            end.expected = psn::add(got, 1);
        } else {
            self.lost = self.lost.saturating_sub(1); // late, not lost
        }
    }

    /// Frames missing so far.
    #[inline]
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{ClassIx, RankId};
    use crate::wire::template::FrameSpec;

    fn stream(load: Load, sizes: &[(u16, u32)], until: Until) -> Sender {
        let cfg = StreamConfig {
            name: "s".into(),
            from: RankId(0),
            to: RankId(1),
            class: ClassIx(0),
            sizes: sizes.to_vec(),
            load,
            start: Time(1_000),
            until,
            obey_pfc: true,
            verb: Default::default(),
        };
        let template = Template::new(&FrameSpec::default()).expect("IPv4");
        Sender::new(&cfg, cfg.start, Rate::gbps(100), template, 58, 0, 0)
    }

    fn run(s: &mut Sender) -> (u64, u64, Time) {
        let (mut n, mut wire_bits, mut last) = (0, 0, Time::ZERO);
        while s.next() != Time::NEVER {
            let f = s.frame();
            last = s.next();
            if s.sizes.len() == 1 {
                s.sent_fixed();
            } else {
                s.sent(f.size);
            }
            n += 1;
            wire_bits += u64::from(f.len.0 + WIRE_OVERHEAD_BYTES) * 8;
        }
        (n, wire_bits, last)
    }

    #[test]
    fn loads_are_exact_over_many_frames() {
        // 99.98 % of 100G with 64-byte frames: 84 B each on the wire. Frame n starts at n * 672 bit / 99.98
        // Gb/s.
        let mut s = stream(Load::L1Share(0.9998), &[(64, 1)], Until::Frames(100_001));
        let (n, _, last) = run(&mut s);
        assert_eq!((n, last.0 - 1_000), (100_001, 100_000 * 672 * 1_000_000 / 99_980));
        // 1,488,095.2 frames/s at 1 GbE and 64 B (RFC 8238): three frames fewer or more in 10 s would be 2
        // ppm.
        let mut s = stream(Load::Fps(1_488_095.238), &[(64, 1)], Until::Span(Span::from_ms(100)));
        assert_eq!(run(&mut s).0, 148_810);
        let mut s = stream(Load::L2(Rate::gbps(10)), &[(1250, 1)], Until::Span(Span::from_us(100)));
        assert_eq!(run(&mut s).0, 100, "a microsecond each");
    }

    #[test]
    fn a_stream_knows_how_far_behind_it_is() {
        // A microsecond each, the first at 1 ns.
        let mut s = stream(Load::L2(Rate::gbps(10)), &[(1250, 1)], Until::Span(Span::from_us(100)));
        assert_eq!(s.progress(Time(999)), (0, 0));
        assert_eq!(s.progress(Time(1_000)), (0, 1));
        assert_eq!(s.progress(Time(1_000) + Span::from_us(5)), (0, 6));
        assert_eq!(s.progress(Time(1_000) + Span::from_us(500)), (0, 100), "no more than it has");
        s.sent_fixed();
        assert_eq!(s.progress(Time(1_000)), (1, 1));
        while s.next() != Time::NEVER {
            s.sent(0);
        }
        assert_eq!(s.progress(Time(1_000) + Span::from_us(500)), (100, 100));
    }

    #[test]
    fn mixes_keep_their_weights_in_every_round() {
        let mut s = stream(Load::L1Share(1.0), &[(64, 7), (594, 4), (1518, 1)], Until::Frames(12));
        let mut seen = [0; 3];
        while s.next() != Time::NEVER {
            let size = s.frame().size;
            seen[size] += 1;
            s.sent(size);
        }
        assert_eq!(seen, [7, 4, 1]);
    }
}
