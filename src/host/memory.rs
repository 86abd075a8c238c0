//! Real memory behind queue pairs, for talking to endpoints that check what they get.
//!
//! An ordinary run moves constant bytes and keeps none. A queue pair with a region ([`Host::attach_memory`]) sends the
//! bytes of its region, and WRITEs, SENDs and READ responses land in it; READ requests and atomics of the other end
//! are served from it. The bytes to send depend on their offset in the region and on nothing else ([`pattern`]), so
//! that a packet in the wrong place shows in a checksum of the whole; constant bytes would not show it.
//!
//! All of it is cold: a host without regions tests one flag per frame.

use std::collections::VecDeque;

use super::Host;
use crate::frame::{Fill, Frame};
use crate::host::rx::addr_of;
use crate::measure::record::Record;
use crate::transport::config::QPN_FIRST;
use crate::transport::reads::{ReadRequest, Response};
use crate::transport::requester::Packet;
use crate::transport::responder::{Data, flags};
use crate::units::Time;
use crate::wire::fast::{self, Fast, Kind};
use crate::wire::headers::{Ext, ImmDt, Reth};
use crate::wire::opcode::{Opcode, Operation};
use crate::wire::psn;
use crate::wire::template::WireLen;

/// READ requests whose place is remembered for their responses: more than any NIC allows outstanding.
const READS_KEPT: usize = 256;
/// Message completions kept until [`Host::poll_received`]; a driver that never asks loses the oldest.
const RECEIVED_KEPT: usize = 65_536;

/// The memory of one queue pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionConfig {
    /// Size, at least 1.
    pub bytes: usize,
    /// Address of its first byte, as the other end names it.
    pub vaddr: u64,
    /// Its key, as the other end names it. One for all queue pairs of a workload and class.
    pub rkey: u32,
    /// Starts as [`pattern`]; as zeros otherwise.
    pub filled: bool,
    /// First byte of the other end's region.
    pub remote_vaddr: u64,
    /// Key of the other end's region.
    pub remote_rkey: u32,
    /// Message number i starts at `i * stride`, modulo the last place where it fits, in both regions.
    pub stride: u64,
    /// Receive number i is so long and starts at `i * receive_bytes`, modulo the last place where it fits.
    pub receive_bytes: u32,
    /// SENDs carry the message number as immediate data.
    pub immediate: bool,
}

impl RegionConfig {
    /// Offset of message `number` of `len` bytes in the region; `None` when it does not fit at all.
    pub fn place(&self, number: u32, len: u64) -> Option<usize> {
        let places = (self.bytes as u64).checked_sub(len)? + 1;
        Some((u64::from(number).wrapping_mul(self.stride) % places) as usize)
    }
}

/// A message that arrived in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// When its last packet came.
    pub at: Time,
    /// Queue pair, from 0.
    pub qp: u32,
    /// Opcode of its last packet.
    pub opcode: Opcode,
    /// Offset in the region.
    pub offset: usize,
    /// Bytes.
    pub bytes: u32,
    /// Immediate data.
    pub imm: Option<u32>,
}

/// A region that cannot be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// No such queue pair.
    #[error("the host has no queue pair number {0}")]
    NoQueuePair(u32),
    /// Without a byte.
    #[error("a region has at least one byte and room for one receive")]
    Empty,
    /// Frames that wait in a receive buffer have no payload.
    #[error("memory behind a queue pair excludes a slow receiver's buffer on its port")]
    SlowReceiver,
    /// Memory follows packets in order.
    #[error("memory behind a queue pair needs go-back-N: selective repeat takes packets out of order")]
    SelectiveRepeat,
}

/// `len` bytes whose value depends on their offset alone; the same eight do not come twice.
pub fn pattern(len: usize) -> Vec<u8> {
    let words = (0..len.div_ceil(8) as u64).flat_map(|w| crate::rng::mix(w).to_le_bytes());
    words.take(len).collect()
}

/// Memory and what moves in it.
#[derive(Debug)]
struct Region {
    cfg: RegionConfig,
    bytes: Vec<u8>,
    /// Next byte of the message that is arriving, and where it began.
    at: usize,
    began: usize,
    /// Receives used.
    receives: u64,
    /// READs answered: (first PSN, packets, offset).
    reads: VecDeque<(u32, u32, usize)>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Access,
    Invalid,
}

/// The regions of a host's queue pairs.
#[derive(Debug, Default)]
pub(super) struct Memories {
    /// By queue pair; empty when none has memory.
    regions: Vec<Option<Region>>,
    received: VecDeque<Received>,
}

impl Region {
    /// Offset of `len` bytes at an address; `None` when they are not all inside.
    fn inside(&self, va: u64, len: u64) -> Option<usize> {
        let offset = va.checked_sub(self.cfg.vaddr)?;
        (offset.checked_add(len)? <= self.bytes.len() as u64).then_some(offset as usize)
    }

    /// Offset of the next receive.
    fn receive_at(&self) -> usize {
        let len = u64::from(self.cfg.receive_bytes);
        let places = (self.bytes.len() as u64).saturating_sub(len) + 1;
        (self.receives.wrapping_mul(len) % places) as usize
    }

    /// Whether a request that is next in order may be executed.
    fn refusal(&self, f: &Fast, ext: Option<&Ext>) -> Option<Refusal> {
        let op = f.op()?;
        match ext {
            // A request for nothing needs no valid address (IBTA volume 1, C9-88).
            Some(Ext::Reth(r) | Ext::RethImm(r, _)) if r.dma_len > 0 => {
                let inside = self.inside(r.va, r.dma_len.into()).is_some();
                (!inside || r.rkey != self.cfg.rkey).then_some(Refusal::Access)
            }
            Some(Ext::Atomic(a)) if a.va % 8 != 0 => Some(Refusal::Invalid),
            Some(Ext::Atomic(a)) => {
                (self.inside(a.va, 8).is_none() || a.rkey != self.cfg.rkey).then_some(Refusal::Access)
            }
            _ if op.operation() == Operation::Send => {
                let first = matches!(op, Opcode::RcSendFirst | Opcode::RcSendOnly | Opcode::RcSendOnlyImm);
                let so_far = if first { 0 } else { self.at.saturating_sub(self.began) };
                let len = so_far + usize::from(f.payload_len);
                (len > self.cfg.receive_bytes as usize).then_some(Refusal::Invalid)
            }
            _ => None,
        }
    }

    /// Takes over the payload of a packet that was accepted. The message when it is complete.
    fn store(&mut self, now: Time, qp: u32, f: &Fast, ext: Option<&Ext>, payload: &[u8]) -> Option<Received> {
        use Opcode::*;
        let op = f.op()?;
        match (op, ext) {
            (_, Some(Ext::Reth(r) | Ext::RethImm(r, _))) if op.operation() == Operation::Write => {
                if matches!(op, RcWriteFirst | RcWriteOnly | RcWriteOnlyImm) {
                    self.began = self.inside(r.va, r.dma_len.into()).unwrap_or(0);
                    self.at = self.began;
                }
            }
            (RcSendFirst | RcSendOnly | RcSendOnlyImm, _) => {
                self.began = self.receive_at();
                self.at = self.began;
            }
            _ => {}
        }
        let end = self.at + payload.len();
        if let Some(to) = self.bytes.get_mut(self.at..end) {
            to.copy_from_slice(payload);
        }
        self.at = end;
        let imm = match ext {
            Some(Ext::RethImm(_, i) | Ext::Imm(i)) => Some(i.0),
            _ => None,
        };
        let last = matches!(
            op,
            RcSendLast
                | RcSendLastImm
                | RcSendOnly
                | RcSendOnlyImm
                | RcWriteLast
                | RcWriteLastImm
                | RcWriteOnly
                | RcWriteOnlyImm
        );
        if last && (op.operation() == Operation::Send || imm.is_some()) {
            self.receives += 1;
        }
        let bytes = (self.at - self.began) as u32;
        last.then_some(Received { at: now, qp, opcode: op, offset: self.began, bytes, imm })
    }

    fn word(&self, va: u64) -> Option<u64> {
        let at = self.inside(va, 8)?;
        self.bytes.get(at..)?.first_chunk().map(|b| u64::from_ne_bytes(*b))
    }

    fn set_word(&mut self, va: u64, value: u64) {
        let at = self.inside(va, 8);
        if let Some(b) = at.and_then(|at| self.bytes.get_mut(at..)?.first_chunk_mut()) {
            *b = value.to_ne_bytes();
        }
    }
}

impl Memories {
    /// Some queue pair has memory.
    #[inline]
    pub(super) fn any(&self) -> bool {
        !self.regions.is_empty()
    }

    fn get(&self, qp: u32) -> Option<&Region> {
        self.regions.get(qp as usize)?.as_ref()
    }

    fn get_mut(&mut self, qp: u32) -> Option<&mut Region> {
        self.regions.get_mut(qp as usize)?.as_mut()
    }

    /// Makes a packet of ours one for the other end's region, and says from which offset its payload comes.
    /// `psn_first` is that of its message.
    #[cold]
    pub(super) fn address(&self, qp: u32, psn_first: u32, mtu: u16, p: &mut Packet, ext: &mut Ext) -> usize {
        let Some(region) = self.get(qp) else { return 0 };
        let cfg = &region.cfg;
        let place = cfg.place(p.tag, p.msg_bytes.into()).unwrap_or(0);
        let reth = |r: &Reth| {
            let va = cfg.remote_vaddr.wrapping_add(place as u64);
            Reth { va, rkey: cfg.remote_rkey, dma_len: r.dma_len }
        };
        match ext {
            Ext::Reth(r) => *ext = Ext::Reth(reth(r)),
            Ext::RethImm(r, imm) => *ext = Ext::RethImm(reth(r), *imm),
            Ext::Imm(ImmDt(_)) if !cfg.immediate && p.opcode.operation() == Operation::Send => {
                *ext = Ext::None;
                p.opcode = if p.first { Opcode::RcSendOnly } else { Opcode::RcSendLast };
            }
            _ => {}
        }
        place + psn::sub(p.psn, psn_first) as usize * usize::from(mtu)
    }

    /// What a READ request of ours asks for: what is missing of its message, in the other end's region.
    #[cold]
    pub(super) fn read_reth(&self, qp: u32, r: &ReadRequest) -> Reth {
        let Some(Region { cfg, .. }) = self.get(qp) else { return Reth { va: 0, rkey: 0, dma_len: r.bytes } };
        let message_bytes = u64::from(r.bytes) + u64::from(r.offset);
        let place = cfg.place(r.tag, message_bytes).unwrap_or(0) as u64 + u64::from(r.offset);
        Reth { va: cfg.remote_vaddr.wrapping_add(place), rkey: cfg.remote_rkey, dma_len: r.bytes }
    }

    /// Writes the payload of a frame of ours: `len` bytes from `offset` on.
    #[cold]
    pub(super) fn fill<F: Frame>(&self, qp: u32, offset: usize, len: u16, wire: WireLen, frame: &mut F) {
        frame.meta_mut().head_len = wire.head_len;
        let from = self.get(qp).and_then(|r| r.bytes.get(offset..offset + usize::from(len)));
        if let (Some(from), Some(to)) = (from, frame.payload_mut())
            && let Some(to) = to.get_mut(..from.len())
        {
            to.copy_from_slice(from);
        }
    }

    /// Where the bytes of the READ response with this PSN are.
    #[cold]
    pub(super) fn read_offset(&self, qp: u32, at: u32, mtu: u16) -> usize {
        let Some(region) = self.get(qp) else { return 0 };
        let read = region.reads.iter().rev().find(|(first, packets, _)| psn::sub(at, *first) < *packets);
        read.map_or(0, |(first, _, offset)| offset + psn::sub(at, *first) as usize * usize::from(mtu))
    }
}

impl Host {
    /// Puts memory behind a queue pair, counted from 0. Before the first frame only.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn attach_memory(&mut self, qp: u32, cfg: RegionConfig) -> Result<(), MemoryError> {
        let profile = self.qps.get(qp as usize).ok_or(MemoryError::NoQueuePair(qp))?.req.profile;
        let shared = &mut self.shared[usize::from(profile)];
        if shared.reorder != 0 {
            return Err(MemoryError::SelectiveRepeat);
        }
        if self.receive.is_some() {
            return Err(MemoryError::SlowReceiver);
        }
        if cfg.bytes == 0 || cfg.receive_bytes as usize > cfg.bytes {
            return Err(MemoryError::Empty);
        }
        (shared.fill, shared.rkey) = (Fill::Writable, cfg.rkey);
        self.direct = false;
        let bytes = if cfg.filled { pattern(cfg.bytes) } else { vec![0; cfg.bytes] };
        self.memories.regions.resize_with(self.qps.len(), || None);
        self.memories.regions[qp as usize] =
            Some(Region { cfg, bytes, at: 0, began: 0, receives: 0, reads: VecDeque::new() });
        Ok(())
    }

    /// The memory of a queue pair.
    pub fn memory(&self, qp: u32) -> Option<&[u8]> {
        self.memories.get(qp).map(|r| r.bytes.as_slice())
    }

    /// PSN of the next new packet a queue pair sends.
    pub fn psn_next(&self, qp: u32) -> Option<u32> {
        self.cold.get(qp as usize).map(|c| c.psn_post)
    }

    /// Takes the oldest message that arrived in a region.
    pub fn poll_received(&mut self) -> Option<Received> {
        self.memories.received.pop_front()
    }

    /// A frame, where some queue pair has memory.
    #[cold]
    pub(super) fn accept_with_memory<F: Frame>(&mut self, now: Time, frame: &F, rec: &mut impl Record) {
        match fast::parse(frame.head(), frame.len()) {
            Ok(f) if f.kind == Kind::Roce => {
                self.on_roce_with_memory(now, &f, frame, rec);
                if self.programs.any_dirty() {
                    self.run_programs(now, rec);
                }
            }
            _ => self.accept(now, frame.head(), frame.meta(), rec),
        }
    }

    fn on_roce_with_memory<F: Frame>(&mut self, now: Time, f: &Fast, frame: &F, rec: &mut impl Record) {
        let head = frame.head();
        let qp = f.dest_qp.wrapping_sub(QPN_FIRST);
        let expected = self.qps.get(qp as usize).filter(|q| q.req.addr == addr_of(f.src, f.dst));
        let expected = expected.map(|q| q.resp.rx.expected_psn());
        let (Some(expected), Some(region)) = (expected, self.memories.get(qp)) else {
            return self.on_roce_apart(now, f, head, frame.meta(), rec);
        };
        let ext = f.ext(head);
        if expected == f.psn
            && let Some(refusal) = region.refusal(f, ext.as_ref())
        {
            return self.refuse(qp, f, refusal);
        }
        if let Some(Ext::Atomic(a)) = &ext
            && let Some(word) = region.word(a.va)
        {
            self.rare(qp).answers.word = word;
        }
        let reads_to = self.read_place(qp, f);
        self.on_roce_apart(now, f, head, frame.meta(), rec);

        let accepted = self.qps[qp as usize].resp.rx.expected_psn() != expected;
        let mtu = self.shared[usize::from(self.qps[qp as usize].req.profile)].mtu;
        let fetched = self.qps[qp as usize].req.oldest_psn() == psn::add(f.psn, 1);
        let atomic = accepted && f.op().is_some_and(|op| op.operation() == Operation::Atomic);
        let word = if atomic { Some(self.rare(qp).answers.word) } else { None };
        let Some(region) = self.memories.get_mut(qp) else { return };
        let payload = || {
            let from = usize::from(f.head_len());
            let bytes = frame.wire_bytes().and_then(|b| b.get(from..from + usize::from(f.payload_len)));
            bytes.unwrap_or_default()
        };
        match (f.op().map(Opcode::operation), &ext) {
            (Some(Operation::Send | Operation::Write), _) if accepted => {
                if let Some(r) = region.store(now, qp, f, ext.as_ref(), payload()) {
                    if self.memories.received.len() == RECEIVED_KEPT {
                        self.memories.received.pop_front();
                    }
                    self.memories.received.push_back(r);
                }
            }
            (Some(Operation::ReadRequest), Some(Ext::Reth(r))) => {
                let packets = psn::packets(r.dma_len.into(), mtu) as u32;
                let offset = region.inside(r.va, r.dma_len.into()).unwrap_or(0);
                if region.reads.len() == READS_KEPT {
                    region.reads.pop_front();
                }
                region.reads.push_back((f.psn, packets, offset));
            }
            (Some(Operation::Atomic), Some(Ext::Atomic(a))) => {
                if let Some(word) = word {
                    region.set_word(a.va, word);
                }
            }
            (Some(Operation::ReadResponse), _) if fetched => {
                let bytes = payload();
                let to = reads_to.and_then(|at| region.bytes.get_mut(at..at + bytes.len()));
                if let Some(to) = to {
                    to.copy_from_slice(bytes);
                }
            }
            _ => {}
        }
    }

    /// Where in the region a READ response belongs that is the next to come; `None` for all other frames.
    fn read_place(&self, qp: u32, f: &Fast) -> Option<usize> {
        let op = f.op().filter(|op| op.operation() == Operation::ReadResponse)?;
        let req = &self.qps.get(qp as usize)?.req;
        let shared = self.shared.get(usize::from(req.profile))?;
        if req.response(f.psn, op, f.payload_len, &self.messages, shared) != Response::New {
            return None;
        }
        let (message, offset) = req.reading(f.psn, &self.messages, shared)?;
        let place = self.memories.get(qp)?.cfg.place(message.tag, message.bytes.into())?;
        Some(place + offset as usize)
    }

    /// Answers a request that may not be executed with a NAK, as one the responder itself refuses.
    fn refuse(&mut self, qp: u32, f: &Fast, refusal: Refusal) {
        let Some(opcode) = f.op() else { return };
        let q = &mut self.qps[qp as usize];
        let shared = &self.shared[usize::from(q.req.profile)];
        let data = Data {
            opcode,
            psn: f.psn,
            ack_req: true,
            payload_len: u16::MAX,
            reth: (0, 0),
            imm: 0,
            key_ok: refusal != Refusal::Access,
        };
        q.resp.rx.on_data(&data, shared);
        if q.resp.rx.wants_control() {
            q.resp.rx.flags |= flags::ACK_QUEUED;
            self.control.join(shared.ack_priority, 2 * qp);
        }
    }
}
