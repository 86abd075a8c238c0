//! Frames as 8-byte handles that own a buffer, pools that lend them, and ports that carry them.
//!
//! A handle is a recycled `Box` ([`boxed`]) in virtual time, an mbuf (`crate::dpdk`) on rings and ports, and a box with
//! room for the whole frame ([`whole`]) on sockets. All hold real header bytes at all times and a [`FrameMeta`] that
//! travels with them, so hosts and switches never know which driver runs them.

pub mod boxed;
pub mod bytes;
pub mod fault;
pub mod whole;

use crate::limits::BURST;
use crate::units::{FrameLen, Span, Time};
use crate::wire::fast::Fast;
use crate::wire::icrc::AfterHead;

pub use crate::wire::{HEAD_MAX, PAYLOAD_BYTE};

/// Up to [`BURST`] frames, without heap allocation.
pub type Burst<F> = arrayvec::ArrayVec<F, BURST>;

/// What travels with a frame besides its bytes: stamps for measurement and what the first switch read from the
/// headers, so that later hops need not parse again. One cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// When the job wanted this frame on the wire (no coordinated omission).
    pub intended: Time,
    /// First bit on the sender's wire (`wire_out`). `NEVER` in a frame that arrived without stamps: neither is known.
    pub start: Time,
    /// Last bit seen by the next node, its fixed delays included. Set by the driver on every link.
    pub arrive: Time,
    /// When the current switch admitted the frame.
    pub enqueued: Time,
    /// ECMP entropy of the headers; set at the first switch.
    pub hash: u32,
    /// Endpoint (tester port) the destination address belongs to; set at the first switch.
    pub dst: u32,
    /// Sending flow: index of the sending queue pair or stream on its port, for spraying and reports.
    pub flow: u32,
    /// Tester port that sent the frame.
    pub src: u32,
    /// Length without FCS.
    pub len: FrameLen,
    /// Buffer cells held in the current switch.
    pub cells: u16,
    /// Port of the current switch the frame came in by.
    pub ingress: u16,
    /// Bytes at the front that are headers; the rest up to the ICRC is payload and pad.
    pub head_len: u8,
    /// What fills the payload.
    pub fill: Fill,
    /// Traffic class of the profile (sender's view, for reports).
    pub class: u8,
    /// Traffic class in the current switch, and from bit [`COLOR_SHIFT`] on its colour there; set at the first switch.
    pub priority: u8,
    /// Time to live that is left; set at the first switch from the headers, one less behind every switch.
    pub ttl: u8,
    /// Bits of [`flags`].
    pub flags: u8,
    /// Reserved for drivers; zero elsewhere, but for [`STAMPED`] and [`STAMPED_ASKS`].
    pub driver: u32,
}

/// See [`FrameMeta::priority`].
pub const COLOR_SHIFT: u8 = 3;

/// [`FrameMeta::driver`] of frames whose payload begins with a stamp ([`crate::wire::stamp`]). Until its port writes the time
/// there it is zero.
pub const STAMPED: u32 = 1;
/// The same of a packet that asks for an acknowledgement.
pub const STAMPED_ASKS: u32 = STAMPED | 4;

/// Bits of [`FrameMeta::flags`].
pub mod flags {
    /// Carries the payload of a message or stream (not ACK, NAK, CNP, PFC).
    pub const DATA: u8 = 1;
    /// A switch set CE.
    pub const CE: u8 = 2;
    /// The first switch has filled in `hash`, `dst`, `ttl` and `priority`.
    pub const PARSED: u8 = 4;
    /// Held in the headroom of the current switch's priority group rather than in shared or reserved cells.
    pub const IN_HEADROOM: u8 = 8;
    /// A retransmission.
    pub const RETRANSMITTED: u8 = 16;
    /// Admitted to the reserved cells of its priority group.
    pub const IN_RESERVED: u8 = 32;
    /// PFC frame made by a switch or a host; never queued behind data.
    pub const PFC: u8 = 64;
    /// Its ICRC is wrong ([`super::Frame::corrupt`]): the receiving host drops it.
    pub const CORRUPT: u8 = 128;
}

const _: () = assert!(size_of::<FrameMeta>() == 64);

/// What a frame's payload bytes are.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// Everything is in the head: ACK, NAK, CNP, PFC, READ request.
    #[default]
    Control = 0,
    /// [`PAYLOAD_BYTE`] repeated; on mbufs already in place.
    Const = 1,
    /// The payload bytes are in the buffer and may be written.
    Writable = 2,
}

/// The payload of a frame: real bytes, or what they would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// Bytes in the buffer, ICRC not included.
    Bytes(&'a [u8]),
    /// `len` bytes of [`PAYLOAD_BYTE`], pad bytes (zero) not included.
    Const {
        /// Payload and pad bytes between the headers and the ICRC.
        len: u16,
    },
}

/// A frame: one handle of 8 bytes that owns its buffer. None is ever empty.
#[allow(clippy::len_without_is_empty)]
pub trait Frame: Sized + Send {
    /// The first [`HEAD_MAX`] bytes from the destination MAC on. Bytes beyond the frame's headers are undefined.
    fn head(&self) -> &[u8; HEAD_MAX];
    /// Writable view of the same bytes.
    fn head_mut(&mut self) -> &mut [u8; HEAD_MAX];
    /// What travels with the frame.
    fn meta(&self) -> &FrameMeta;
    /// Writable view of the same.
    fn meta_mut(&mut self) -> &mut FrameMeta;
    /// What lies between the headers and the ICRC. Empty for [`Fill::Control`].
    fn payload(&self) -> Payload<'_>;
    /// The same bytes to write, where the driver carries real bytes and `meta.head_len` is set; `None` in virtual time.
    fn payload_mut(&mut self) -> Option<&mut [u8]> {
        None
    }
    /// The whole frame as it stands in memory, where the driver carries real bytes; `None` in virtual time.
    fn wire_bytes(&self) -> Option<&[u8]> {
        None
    }
    /// The same to change, by who keeps the ICRC right.
    #[inline]
    fn wire_bytes_mut(&mut self) -> Option<&mut [u8]> {
        None
    }
    /// Where the head and the meta lie, for prefetching; nothing is read.
    #[inline]
    fn cache_lines(&self) -> [*const u8; 2] {
        [self.head().as_ptr(), std::ptr::from_ref(self.meta()).cast()]
    }
    /// Breaks the ICRC: sets [`flags::CORRUPT`], and flips the bytes where the driver carries them. Twice is as
    /// good as once.
    fn corrupt(&mut self) {
        self.meta_mut().flags |= flags::CORRUPT;
    }
    /// Length without FCS.
    #[inline]
    fn len(&self) -> FrameLen {
        self.meta().len
    }
}

/// How far a frame of [`FramePool::write_many`] is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// A RoCEv2 frame without pad: all that is not payload byte, to be so anyway where there is payload, stands in its first
    /// 64 bytes and, where those behind them were changed, there. It only lacks this ICRC.
    Whole(u32),
    /// Its headers.
    Head,
    /// Not at all: there are no more.
    Nothing,
}

/// Lends frames. Sized by the plan, so that `take` fails only when the plan was wrong.
pub trait FramePool {
    /// The frames of this pool.
    type Frame: Frame;
    /// A frame with zeroed meta but for `fill` and `len`; its head bytes are undefined. `None` when the pool is empty
    /// (counted by the caller as the tester's own fault).
    fn take(&mut self, fill: Fill, len: FrameLen) -> Option<Self::Frame>;
    /// Appends up to `n` frames with this meta to `out`, as far as it has room, and returns how many. `each` is given
    /// how many there were before; it writes the head of one, and what of its meta differs, but neither `fill` nor `len`, and
    /// says how the frame is to be completed.
    #[inline]
    fn write_many(
        &mut self,
        common: &FrameMeta,
        n: usize,
        out: &mut Burst<Self::Frame>,
        mut each: impl FnMut(usize, &mut Self::Frame) -> Written,
    ) -> usize {
        let before = out.len();
        while out.len() < before + n && !out.is_full() {
            let Some(mut frame) = self.take(common.fill, common.len) else { break };
            *frame.meta_mut() = *common;
            match each(out.len() - before, &mut frame) {
                Written::Whole(_) | Written::Head => self.seal(&mut frame),
                Written::Nothing => {
                    self.give(frame);
                    break;
                }
            }
            out.push(frame);
        }
        out.len() - before
    }
    /// The frame that a later `take` will lend, when the pool knows; for prefetching.
    #[inline]
    fn upcoming(&self) -> Option<&Self::Frame> {
        None
    }
    /// Takes one frame back.
    fn give(&mut self, frame: Self::Frame);
    /// Takes all of them back.
    #[inline]
    fn give_many(&mut self, frames: &mut Burst<Self::Frame>) {
        frames.drain(..).for_each(|frame| self.give(frame));
    }
    /// Completes the bytes of a frame whose headers are written and whose `meta.head_len` is set: pad and ICRC where
    /// the driver carries real bytes, nothing in virtual time. PFC frames (`flags::PFC`) have no ICRC.
    fn seal(&mut self, frame: &mut Self::Frame);
    /// True when sealing writes bytes: it then pays to say with [`FramePool::seal_after`] what is known already.
    const WRITES_BYTES: bool = false;
    /// As [`FramePool::seal`] for a RoCEv2 frame whose CRC register after the headers is known.
    #[inline]
    fn seal_after(&mut self, frame: &mut Self::Frame, _after: &AfterHead) {
        self.seal(frame);
    }
}

/// What a host wants on the wire: control frames first, they never wait behind refused data.
#[derive(Debug)]
pub struct TxBatch<F> {
    /// ACK, NAK, CNP, PFC.
    pub control: Burst<F>,
    /// Payload.
    pub data: Burst<F>,
    /// Length of the first frames of `data`, and of how many.
    alike: (FrameLen, usize),
}

impl<F> TxBatch<F> {
    /// An empty batch.
    pub fn new() -> TxBatch<F> {
        TxBatch { control: Burst::new(), data: Burst::new(), alike: (FrameLen(0), 0) }
    }
    /// Notes that all data frames behind the first `before` have this length.
    #[inline]
    pub fn note_alike(&mut self, before: usize, len: FrameLen) {
        if before == 0 || self.alike == (len, before) {
            self.alike = (len, self.data.len());
        }
    }
    /// Nothing is known of the lengths any more: data frames came or went by other ways.
    #[inline]
    pub fn forget_alike(&mut self) {
        self.alike.1 = 0;
    }
    /// Length of all data frames, where that was noted.
    #[inline]
    pub fn data_len(&self) -> Option<FrameLen> {
        (self.alike.1 != 0 && self.alike.1 == self.data.len()).then_some(self.alike.0)
    }
    /// Frames in the batch.
    pub fn frames(&self) -> usize {
        self.control.len() + self.data.len()
    }
    /// True when nothing is left to send.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data.is_empty()
    }
}

impl<F> Default for TxBatch<F> {
    fn default() -> Self {
        Self::new()
    }
}

/// What a port can do and show; repeated in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortCaps {
    /// Pauses reach us as frames, as counters only, or not at all.
    pub pfc_seen: PfcSeen,
    /// Arrivals carry a stamp made by the device.
    pub rx_timestamps: bool,
    /// Largest frame without FCS.
    pub frame_len_max: u16,
}

/// How pauses of a port are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PfcSeen {
    /// Each PFC frame is seen: intervals are exact.
    Frames,
    /// Only device counters: duty cycle, never intervals.
    Counters,
    /// Nothing is known; the report says so and never prints 0.
    Unknown,
}

/// Frames that a port has given at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// How many.
    pub frames: usize,
    /// Their bytes in counters: padded to the minimum, FCS included.
    pub bytes: u64,
    /// When.
    pub at: Time,
}

impl Arrived {
    /// Notes the time of these frames.
    #[inline]
    pub fn at<F: Frame>(at: Time, frames: &mut [F]) -> Arrived {
        let mut bytes = 0;
        for frame in frames.iter_mut() {
            frame.meta_mut().arrive = at;
            bytes += frame.len().counted();
        }
        Arrived { frames: frames.len(), bytes, at }
    }
}

/// A port that carries frames: rings now, DPDK devices later.
pub trait Port {
    /// The frames this port carries.
    type Frame: Frame;
    /// Appends what has arrived to `out` (up to its free room) and returns how many.
    fn rx_burst(&mut self, out: &mut Burst<Self::Frame>) -> usize;
    /// As [`Port::rx_burst`]; `clock` is read once behind the last frame, and they have arrived then. `None`: there are none.
    #[inline]
    fn rx_timed(&mut self, out: &mut Burst<Self::Frame>, clock: impl FnOnce() -> Time) -> Option<Arrived> {
        let before = out.len();
        (self.rx_burst(out) > 0).then(|| Arrived::at(clock(), out.get_mut(before..).unwrap_or_default()))
    }
    /// As [`Port::rx_burst`], with frames that [`Port::admit`] is to be asked about.
    fn rx_raw(&mut self, out: &mut Burst<Self::Frame>) -> usize {
        self.rx_burst(out)
    }
    /// Whether the host is to have a RoCEv2 frame that `rx_raw` has brought; its stamps are set then.
    #[inline(always)]
    fn admit(&mut self, _now: Time, _f: &Fast, _frame: &mut Self::Frame) -> bool {
        true
    }
    /// The same of a packet in the middle of a message that is for a queue pair here. Its payload begins at an offset and has
    /// so many bytes; its ECN field.
    #[inline(always)]
    fn admit_middle(&mut self, _payload: (u8, u16), _ecn: u8, _frame: &mut Self::Frame) -> bool {
        true
    }
    /// The same of an ACK of this PSN to a queue pair here.
    #[inline(always)]
    fn admit_ack(&mut self, _dest_qp: u32, _psn: u32, _frame: &Self::Frame) -> bool {
        true
    }
    /// The same of a frame that is anything else, or broken.
    fn admit_other(&mut self, _now: Time, _frame: &mut Self::Frame) -> bool {
        true
    }
    /// Frames that can be handed over now; asked before `poll_tx` and `depart`.
    fn tx_room(&mut self) -> usize;
    /// Sends from the front of the batch, control before data, and returns how many left.
    fn tx_burst(&mut self, batch: &mut TxBatch<Self::Frame>) -> usize;
    /// Returns when a frame may have arrived, or after `at_most` at the latest. Poll-mode devices return at once.
    fn wait(&mut self, _at_most: Span) {}
    /// Tick of the TSC at which the device says that a frame it has just given arrived; `None` where it does not stamp.
    #[inline]
    fn arrived_at(&self, _frame: &Self::Frame) -> Option<u64> {
        None
    }
    /// Has the device send the frame, once it is handed over, at this tick of the TSC; `None`: as soon as what is before it has
    /// left. False where it goes at once, as all frames do on devices that have no such times.
    #[inline]
    fn send_at(&mut self, _frame: &mut Self::Frame, _tick: Option<u64>) -> bool {
        false
    }
    /// What the port can do.
    fn caps(&self) -> PortCaps;
}
