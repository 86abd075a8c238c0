//! The ranks of one tester port: transport and workload composed behind `on_*`, `poll_*`, `next_*`.
//!
//! A driver hands in what arrived ([`Host::on_frame`]), asks for what may leave ([`Host::poll_tx`]) and for
//! the time to ask again ([`Host::next_deadline`]). It may do so one frame at a time (virtual time) or in
//! bursts (rings, ports): the host only knows the `now` it is given.
//!
//! * `answers`: READ and atomic requests answered
//! * `datagrams`: UD SEND, both ends
//! * `delayed`: ACKs by time
//! * `receive`: receive queues and credits
//! * `build`: from the configuration to queue pairs, streams and programs
//! * `memory`: real bytes behind queue pairs that ask for them
//! * `common`: packets in the middle of messages and ACKs, the short way
//! * `rate`: rate control, as queue pairs feel it
//! * `rx`: frames in, answers noted
//! * `streak`: packets in the middle of messages in, and ACKs, the short way
//! * `tx`: who sends next, frames out
//! * `parts`: messages in parts over several queue pairs
//! * `pfc`: pauses obeyed and pauses sent
//! * `stream`: open-loop streams, both ends
//! * `lanes`: streams that wait for their time
//! * `open_loop`: streams' frames out, in bursts
//! * `programs`: the ranks' programs, their posts and what reaches them
//! * `reads`: READs of ours, from the request to the last response
//! * `rare`: state that most queue pairs never have

mod answers;
mod build;
mod common;
pub mod config;
mod datagrams;
mod delayed;
mod lanes;
pub mod memory;
mod open_loop;
mod parts;
mod pfc;
mod programs;
mod rare;
mod rate;
mod reads;
mod receive;
mod rx;
mod streak;
mod stream;
#[cfg(test)]
mod tests;
mod turns;
mod tx;

pub use datagrams::QKEY;
pub use streak::Streaks;
pub use stream::base_len as stream_base_len;
pub use tx::RKEY;

use std::collections::VecDeque;

use crate::measure::record::{Outcome, Record};
use crate::measure::stats::HostStats;
use crate::transport::messages::{self, Messages};
use crate::transport::qp::{Qp, Shared};
use crate::transport::rate::{RateControl, Reaction};
use crate::transport::ready::{self, Ready};
use crate::transport::reorder::Reorder;
use crate::transport::wheel::{self, Wheel};
use crate::units::{LinkTiming, PortId, RankId, Time};
use crate::wire::template::{SpecError, Template};

use programs::Programs;

/// Something the driver must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostEvent {
    /// All ranks here finished an iteration of all their workloads.
    IterationDone {
        /// Iteration, warm-up included.
        iteration: u32,
        /// When the last of them finished.
        at: Time,
    },
    /// A rank cannot reach another any more: its iteration will not finish.
    Failed {
        /// Workload index.
        workload: u16,
        /// Iteration, warm-up included.
        iteration: u32,
        /// Sender.
        from: RankId,
        /// Receiver.
        to: RankId,
        /// When.
        at: Time,
        /// Why.
        cause: Failure,
    },
}

/// Why a rank cannot reach another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The queue pair ran out of retries.
    RetryExceeded,
    /// The receiver was not ready after all retries.
    RnrRetryExceeded,
    /// The responder refused a request.
    RemoteError,
    /// The plan has no connection between the two.
    NoConnection,
    /// The message is longer than 2^31 bytes, or a READ has more packets than PSNs tell apart.
    MessageTooLong,
    /// A READ response did not fit what was asked for.
    BadResponse,
    /// The plan's addresses or markings do not fit into headers.
    Headers(SpecError),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::RetryExceeded => f.write_str("no acknowledgement after all retries"),
            Failure::RnrRetryExceeded => f.write_str("the receiver was not ready after all retries"),
            Failure::RemoteError => f.write_str("the responder refused the request"),
            Failure::NoConnection => f.write_str("the plan has no connection between them"),
            Failure::MessageTooLong => f.write_str("the message is longer than 2^31 bytes or 2^23 packets"),
            Failure::BadResponse => f.write_str("a READ response did not fit the request"),
            Failure::Headers(e) => e.fmt(f),
        }
    }
}

impl Failure {
    fn outcome(self) -> Outcome {
        match self {
            Failure::RetryExceeded | Failure::RnrRetryExceeded => Outcome::RetryExceeded,
            _ => Outcome::RemoteError,
        }
    }
}

/// What a queue pair needs per message or less.
#[derive(Debug)]
struct Cold {
    /// Program that posts to and receives from this queue pair; `NONE` when the plan has none.
    program: u32,
    from: RankId,
    to: RankId,
    /// Last message posted.
    tail: u32,
    /// First PSN of the next one.
    psn_post: u32,
    /// What came out of order; `NONE` with go-back-N.
    reorder: u32,
    /// READs and atomics; `NONE` before the first.
    rare: u32,
    /// No CNP before this (notification point).
    cnp_after: Time,
    failure: Option<Failure>,
}

const NONE: u32 = u32::MAX;

/// The ranks of one tester port. Fields stand in this order so that what every frame asks lies in few lines: with many
/// hosts each line is a miss of the caches.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Host {
    /// Senders of data by priority.
    ready: Ready,
    /// Queue pairs with something to say: 2 x number for ACK and NAK, + 1 for CNP.
    control: Ready,
    /// No streams, no pauses of its own, no receive buffer and no ACKs by time: of all that waits for a time, only timers and
    /// pauses in force need to be asked.
    plain: bool,
    /// Frames are taken as they arrive, and nobody has memory.
    direct: bool,
    pfc_rx: pfc::Obeyed,
    /// Headers by pair of addresses ([`Qp::template`]).
    templates: Vec<Template>,
    /// Timers: senders (queue pairs, then streams) waiting for their pace, ACK timeouts, programs.
    wheel: Wheel,
    qps: Vec<Qp>,
    shared: Vec<Shared>,
    timers: Timers,
    port: u32,
    events: VecDeque<HostEvent>,
    programs: Programs,
    /// Packets in flight allowed by queue pair, where rate control says; empty when it does nowhere.
    windows: Vec<u32>,
    /// Rate control by queue pair; empty when it has no state anywhere.
    reactions: Vec<Option<Reaction>>,
    /// Its parameters by workload.
    controls: Vec<RateControl>,
    messages: Messages,
    cold: Vec<Cold>,
    /// `None` where no pause is ever sent.
    pfc_tx: Option<Box<pfc::Sent>>,
    /// `None` where frames are taken as they arrive.
    receive: Option<Box<pfc::Receive>>,
    stats: HostStats,
    /// Heads of packets in the middle of messages, and of ACKs, by profile and template; empty until the first is sent as
    /// bytes.
    common: Vec<Option<common::Heads>>,
    /// ACKs that wait for their time.
    delayed: delayed::Delayed,
    streams: Vec<stream::Sender>,
    lanes: lanes::Lanes,
    mac: [u8; 6],
    /// Regions of queue pairs that have one.
    memories: memory::Memories,
    /// Messages that are sent in parts.
    wholes: parts::Wholes,
    /// State of queue pairs with READs or atomics ([`Cold::rare`]).
    rares: Vec<rare::Rare>,
    /// What came out of order, of queue pairs with selective repeat ([`Cold::reorder`]).
    reorders: Vec<Reorder>,
    middles: common::Middles,
    groups: stream::Groups,
    stream_rx: stream::Receivers,
    /// `None` where a queue pair joins the back of its list after every frame.
    turns: Option<Box<turns::Turns>>,
}

/// Lines of a [`Host`] that a frame touches: up to the first counters, which begin a line.
const HOT_LINES: usize = 15;
const _: () = assert!(std::mem::offset_of!(Host, stats) == 64 * (HOT_LINES - 1));

/// Where the numbers of the wheel's timers begin.
#[derive(Clone, Copy, Debug)]
struct Timers {
    /// First ACK timeout; below are the senders.
    ack: u32,
    /// First program.
    program: u32,
}

impl Host {
    /// Earliest time at which [`Host::poll_tx`] could produce a frame or something inside needs the time: ACK
    /// timeout, pace, end of a computation, skewed start, end of a pause, stream, action. Not after the
    /// present when something can be sent at once. Cost: a few loads, whatever the number of queue pairs.
    #[inline]
    pub fn next_deadline(&self) -> Time {
        let senders = (self.ready.occupied() | self.control.occupied()) & !self.pfc_rx.mask();
        if senders != 0 || self.pause_due() || self.programs.any_dirty() {
            return Time::ZERO;
        }
        self.next_timer()
    }

    /// As [`Host::next_deadline`] for what waits for a time: nothing of [`Host::poll_tx`]'s book-keeping is due earlier.
    #[inline(always)]
    fn next_timer(&self) -> Time {
        let usual = self.wheel.next().min(self.pfc_rx.next());
        if self.plain { usual } else { usual.min(self.next_rare()) }
    }

    /// As [`Host::next_timer`] for what few hosts have.
    #[inline]
    fn next_rare(&self) -> Time {
        let drained = self.receive.as_ref().map_or(Time::NEVER, |r| r.next());
        let acks = self.delayed.next();
        let pause = self.pfc_tx.as_ref().map_or(Time::NEVER, |p| p.next());
        self.lanes.next().min(pause).min(drained).min(acks)
    }

    /// A PFC frame of ours is to be sent.
    #[inline]
    fn pause_due(&self) -> bool {
        !self.plain && self.pfc_tx.as_ref().is_some_and(|p| p.due())
    }

    /// The cache lines that every frame touches, for prefetching; nothing is read.
    #[inline]
    pub fn hot_lines(&self) -> impl Iterator<Item = *const u8> {
        let start: *const u8 = std::ptr::from_ref(self).cast();
        (0..HOT_LINES).map(move |line| start.wrapping_add(64 * line))
    }

    /// Queue pairs of this host.
    pub fn queue_pairs(&self) -> usize {
        self.qps.len()
    }

    /// The tester port this host is.
    pub fn port(&self) -> PortId {
        PortId(self.port)
    }

    /// True when every stream that starts here is over, no pause order is left or in force, and no frame waits in the
    /// receive buffer.
    pub fn open_loop_done(&self) -> bool {
        self.streams.iter().all(|s| s.next() == Time::NEVER)
            && self.pfc_tx.as_ref().is_none_or(|p| !p.due() && p.next() == Time::NEVER)
            && self.receive.as_ref().is_none_or(|r| r.next() == Time::NEVER)
    }

    /// Share of `link` that the streams ask for together: above 1 they cannot all leave at their times. Cost: one look at
    /// every stream.
    pub fn stream_share(&self, link: &LinkTiming) -> f64 {
        self.streams.iter().map(|s| s.share(link)).sum()
    }

    /// Frames of streams sent, and frames that their schedules asked for until `now`. Cost: one look at every stream.
    pub fn stream_progress(&self, now: Time) -> (u64, u64) {
        let sum = |(sent, due): (u64, u64), (s, d): (u64, u64)| (sent + s, due.saturating_add(d));
        self.streams.iter().map(|s| s.progress(now)).fold((0, 0), sum)
    }

    /// Takes over the manners of a simulated NIC: an ACK of its own for every data frame, which also carries what a CNP
    /// would say; pauses that hold until they are lifted; pacing in whole nanoseconds over the payload and `overhead`
    /// bytes; its turns. Before the first frame only.
    pub fn imitate(&mut self, overhead: u16) {
        self.pfc_rx.endless = true;
        self.turns = Some(Box::default());
        for s in &mut self.shared {
            (s.ack_each, s.pace_overhead) = (true, overhead);
        }
    }

    /// Starts the maxima again from what is in use now. Counters go on.
    pub fn mark(&mut self) {
        self.stats.rx_buffer_bytes_max = self.receive.as_ref().map_or(0, |r| r.occupied());
    }

    /// There is something to hear from [`Host::poll_event`].
    #[inline]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Takes the oldest event.
    pub fn poll_event(&mut self) -> Option<HostEvent> {
        self.events.pop_front()
    }

    /// Counters since the start of the run.
    pub fn stats(&self) -> &HostStats {
        &self.stats
    }

    /// Ends the run: pauses that still hold are reported as over.
    pub fn finish(&mut self, now: Time, rec: &mut impl Record) {
        self.pfc_rx.advance(now, &mut self.stats, self.port, rec);
        self.pfc_rx.finish(now, self.port, rec);
    }

    /// Bytes of memory behind one queue pair: its rows, cold state, timers, places in lists, a message, and headers that
    /// it shares with no other.
    pub const fn bytes_per_qp() -> u64 {
        let rows = size_of::<Qp>()
            + common::BYTES_PER_QP
            + size_of::<Template>()
            + size_of::<Cold>()
            + size_of::<programs::Route>();
        let lists = 2 * wheel::BYTES_PER_TIMER + 3 * ready::BYTES_PER_ENTRY + messages::BYTES_PER_MESSAGE;
        (rows + size_of::<Option<Reaction>>() + lists) as u64
    }

    /// Bytes of memory behind one stream's sending end.
    pub const fn bytes_per_stream() -> u64 {
        let lists = 2 * wheel::BYTES_PER_TIMER + ready::BYTES_PER_ENTRY + lanes::BYTES_PER_STREAM;
        (stream::BYTES_PER_STREAM + lists) as u64
    }

    /// Bytes of memory behind one port, its queue pairs and ranks not counted.
    pub const fn bytes_per_port() -> u64 {
        (size_of::<Host>() + 2 * ready::BYTES_OF_LISTS + wheel::BYTES_PER_WHEEL) as u64
    }

    /// Bytes of memory behind one rank of one workload, its queue pairs and what its program queues not
    /// counted.
    pub const fn bytes_per_rank() -> u64 {
        (size_of::<programs::Slot>() + wheel::BYTES_PER_TIMER + size_of::<u32>()) as u64
    }
}
