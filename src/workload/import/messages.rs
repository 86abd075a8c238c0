//! Packets of a capture -> messages with the times that matter.
//!
//! Packets of one direction of a queue pair (source, destination, destination queue pair, request or
//! response) wait in a window ordered by PSN; a PSN that is already there is a retransmission, or a copy made
//! by the capture. What leaves the window is read in order: FIRST and ONLY start a message, LAST and ONLY end
//! it. A message is as long as its RETH says, or else the sum of its payloads. A READ is a message of the
//! responder. Datagrams are one message each. ACKs tell when a message ended at its sender.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::units::Time;
use crate::wire::headers::{Opcode, Operation};
use crate::wire::psn;

/// Packets behind the newest PSN of a flow that still wait for late or repeated ones; one further away
/// belongs to another connection that reuses the queue pair number.
const WINDOW: i32 = 1 << 16;

/// What matters of a RoCEv2 packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    /// When it was captured, from the first packet on.
    pub at: Time,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub opcode: Opcode,
    pub dest_qp: u32,
    pub psn: u32,
    /// Payload bytes on the wire, pad excluded.
    pub payload: u16,
    /// RETH length.
    pub announced: Option<u32>,
    /// Acknowledges (AETH of an ACK, not of a NAK).
    pub acknowledges: bool,
}

/// A message as the capture shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Sender and receiver, as numbers of [`Messages::addresses`].
    pub from: u32,
    pub to: u32,
    /// Direction of a queue pair it belongs to.
    pub flow: u32,
    pub bytes: u64,
    /// First packet.
    pub start: Time,
    /// Last of its packets.
    pub arrived: Time,
    /// First acknowledgement that covers it.
    pub acked: Option<Time>,
}

/// What a capture holds, and what of it cannot be carried over.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pub messages: Vec<Message>,
    /// Addresses in order of appearance: the ranks.
    pub addresses: Vec<IpAddr>,
    pub retransmitted: u64,
    /// Messages whose beginning or end is missing, and their bytes seen.
    pub incomplete: u64,
    pub incomplete_bytes: u64,
    pub atomics: u64,
    pub datagrams: u64,
    pub cnps: u64,
    pub naks: u64,
}

/// Reassembles a capture. Memory: 48 bytes per message, 16 per acknowledgement, and up to 65,536 packets of
/// 32 bytes per direction of a queue pair.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    out: Messages,
    rank_of: BTreeMap<IpAddr, u32>,
    /// By (source rank, destination rank, destination queue pair, response).
    flow_of: BTreeMap<(u32, u32, u32, bool), u32>,
    flows: Vec<Flow>,
    /// Which flow the ACKs to (source rank, destination rank, queue pair) acknowledge, once known.
    acked_flow: BTreeMap<(u32, u32, u32), u32>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    at: Time,
    opcode: Opcode,
    payload: u16,
    announced: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    bytes: u64,
    announced: Option<u32>,
    start: Time,
    arrived: Time,
}

#[derive(Debug)]
struct Flow {
    from: u32,
    to: u32,
    sport: u16,
    /// Highest PSN seen, counted on beyond 24 bits.
    newest: i64,
    window: BTreeMap<i64, Held>,
    open: Option<Open>,
    /// (PSN, time) of acknowledgements that got further than those before.
    acks: VecDeque<(i64, Time)>,
}

impl Reassembly {
    /// Takes one packet, in capture order. A packet with a wrong ICRC is not to be shown: no receiver sees
    /// it.
    pub(super) fn on_packet(&mut self, p: &Packet) {
        let (from, to) = (self.rank(p.src), self.rank(p.dst));
        if p.acknowledges {
            self.on_ack(p, from, to);
        }
        match p.opcode.operation() {
            Operation::Send | Operation::Write | Operation::ReadResponse if p.opcode.is_ud() => {
                self.on_datagram(p, from, to);
            }
            Operation::Send | Operation::Write | Operation::ReadResponse | Operation::Atomic => {
                let flow = self.flow(p, from, to);
                let held = Held { at: p.at, opcode: p.opcode, payload: p.payload, announced: p.announced };
                self.flows[flow as usize].take(flow, p.psn, held, &mut self.out);
            }
            Operation::Cnp => self.out.cnps += 1,
            Operation::Acknowledge if !p.acknowledges => self.out.naks += 1,
            _ => {}
        }
    }

    /// Messages so far, for a bound on memory.
    pub(super) fn len(&self) -> usize {
        self.out.messages.len() + self.flows.len()
    }

    /// Ranks so far.
    pub(super) fn ranks(&self) -> usize {
        self.out.addresses.len()
    }

    /// Everything the capture adds up to, messages by start.
    pub(super) fn finish(mut self) -> Messages {
        for (number, flow) in self.flows.iter_mut().enumerate() {
            flow.flush_below(number as u32, i64::MAX, &mut self.out);
            flow.drop_open(&mut self.out);
        }
        self.out.messages.sort_by_key(|m| (m.start, m.arrived, m.flow));
        self.out
    }

    fn rank(&mut self, ip: IpAddr) -> u32 {
        let next = self.out.addresses.len() as u32;
        let rank = *self.rank_of.entry(ip).or_insert(next);
        if rank == next {
            self.out.addresses.push(ip);
        }
        rank
    }

    fn flow(&mut self, p: &Packet, from: u32, to: u32) -> u32 {
        let next = self.flows.len() as u32;
        let flow = *self.flow_of.entry((from, to, p.dest_qp, p.opcode.is_response())).or_insert(next);
        if flow == next {
            self.flows.push(Flow {
                from,
                to,
                sport: p.sport,
                newest: 0,
                window: BTreeMap::new(),
                open: None,
                acks: VecDeque::new(),
            });
        }
        flow
    }

    fn on_datagram(&mut self, p: &Packet, from: u32, to: u32) {
        self.out.datagrams += 1;
        let flow = self.flow(p, from, to);
        let bytes = u64::from(p.payload);
        self.out.messages.push(Message { from, to, flow, bytes, start: p.at, arrived: p.at, acked: None });
    }

    /// ACKs name the requester's queue pair, requests the responder's: they are matched by PSN, then by UDP
    /// source port (equal in both directions on Linux); what stays ambiguous acknowledges nothing here.
    fn on_ack(&mut self, p: &Packet, from: u32, to: u32) {
        let key = (from, to, p.dest_qp);
        let flow = match self.acked_flow.get(&key) {
            Some(flow) => *flow,
            None => {
                let covers = |flow: &&u32| {
                    let flow = &self.flows[**flow as usize];
                    let behind = psn::diff(flow.newest_psn(), p.psn);
                    !flow.window.is_empty() && (0..WINDOW).contains(&behind)
                };
                let range = (to, from, 0, false)..=(to, from, u32::MAX, false);
                let requests = self.flow_of.range(range).filter(|(key, _)| !key.3).map(|(_, flow)| flow);
                let found: Vec<u32> = requests.filter(covers).copied().collect();
                let same_port = |f: &&u32| self.flows[**f as usize].sport == p.sport;
                let flow = match (found.len(), found.iter().filter(same_port).count()) {
                    (1, _) => found[0],
                    (_, 1) => found.iter().copied().find(|f| same_port(&f)).unwrap_or(found[0]),
                    _ => return,
                };
                self.acked_flow.insert(key, flow);
                flow
            }
        };
        self.flows[flow as usize].on_ack(p.psn, p.at);
    }
}

impl Flow {
    fn newest_psn(&self) -> u32 {
        (self.newest & i64::from(psn::MASK)) as u32
    }

    fn take(&mut self, number: u32, psn24: u32, packet: Held, out: &mut Messages) {
        let ahead = psn::diff(psn24, self.newest_psn());
        if self.window.is_empty() || ahead.abs() > WINDOW {
            self.flush_below(number, i64::MAX, out);
            self.drop_open(out);
            // Far above whatever came before, so that the window never mixes two connections.
            let base = (self.newest / i64::from(psn::MODULUS) + 2) * i64::from(psn::MODULUS);
            self.newest = base + i64::from(psn24);
            self.acks.clear();
            self.window.insert(self.newest, packet);
            return;
        }
        let at = self.newest + i64::from(ahead);
        let late = at <= self.newest - i64::from(WINDOW);
        if late || self.window.contains_key(&at) {
            out.retransmitted += 1;
            return;
        }
        self.window.insert(at, packet);
        self.newest = self.newest.max(at);
        self.flush_below(number, self.newest - i64::from(WINDOW), out);
    }

    fn on_ack(&mut self, psn24: u32, at: Time) {
        let psn = self.newest + i64::from(psn::diff(psn24, self.newest_psn()));
        if self.acks.back().is_none_or(|(last, _)| psn > *last) {
            self.acks.push_back((psn, at));
        }
    }

    /// Reads everything below `limit` in order and forgets it.
    fn flush_below(&mut self, number: u32, limit: i64, out: &mut Messages) {
        while let Some(entry) = self.window.first_entry().filter(|e| *e.key() < limit) {
            let psn = *entry.key();
            let packet = entry.remove();
            self.read(number, psn, packet, out);
        }
    }

    fn read(&mut self, number: u32, psn: i64, p: Held, out: &mut Messages) {
        if p.opcode.operation() == Operation::Atomic {
            out.atomics += 1;
            return;
        }
        // A lost READ response is asked for again from where it broke off: its FIRST goes on with the
        // message.
        let resumes = p.opcode.is_read_response() && p.opcode.is_first() && self.open.is_some();
        if p.opcode.starts_message() && !resumes {
            self.drop_open(out);
            self.open = Some(Open { bytes: 0, announced: p.announced, start: p.at, arrived: p.at });
        }
        let Some(open) = &mut self.open else {
            // The capture began inside this message.
            out.incomplete_bytes += u64::from(p.payload);
            out.incomplete += u64::from(p.opcode.ends_message());
            return;
        };
        open.bytes += u64::from(p.payload);
        open.start = open.start.min(p.at);
        open.arrived = open.arrived.max(p.at);
        if !p.opcode.ends_message() {
            return;
        }
        let done = *open;
        self.open = None;
        while self.acks.front().is_some_and(|(acked, _)| *acked < psn) {
            self.acks.pop_front();
        }
        out.messages.push(Message {
            from: self.from,
            to: self.to,
            flow: number,
            bytes: done.announced.map_or(done.bytes, u64::from),
            start: done.start,
            arrived: done.arrived,
            acked: self.acks.front().map(|(_, at)| *at),
        });
    }

    fn drop_open(&mut self, out: &mut Messages) {
        if let Some(open) = self.open.take() {
            out.incomplete += 1;
            out.incomplete_bytes += open.bytes;
        }
    }
}
