//! One host of ours against a hand: frames go in one by one, and what the host sends is written down.

#![allow(dead_code)]

use std::net::IpAddr;
use std::sync::Arc;

use rankstorm::frame::boxed::{BoxFrame, BoxPool};
use rankstorm::frame::{Fill, Frame, FramePool, TxBatch};
use rankstorm::host::config::{HostConfig, RankAddr};
use rankstorm::host::{Host, HostEvent, QKEY, RKEY};
use rankstorm::measure::record::NoRecord;
use rankstorm::transport::config::{ClassConfig, Ecn, QPN_FIRST, QpConfig, RateControl, RcConfig, Verb};
use rankstorm::units::{ClassIx, FrameLen, LinkTiming, PortId, RankId, Rate, Span, Time};
use rankstorm::wire::fast;
use rankstorm::wire::headers::{Aeth, AtomicEth, Deth, Ext, ExtLayout, ImmDt, Opcode, Reth};
use rankstorm::wire::template::{BthFields, FrameSpec, Template};
use rankstorm::workload::config::{Skew, WorkloadConfig, WorkloadKind};
use rankstorm::workload::schedule::{Op, OpKind, Schedule};

const LINE: Rate = Rate::gbps(100);

/// A frame as people speak of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    pub opcode: u8,
    pub psn: u32,
    pub ack_req: bool,
    /// Payload bytes.
    pub len: u16,
    /// Syndrome and MSN.
    pub aeth: Option<(u8, u32)>,
    /// Message bytes that a RETH announces.
    pub reth: Option<u32>,
    pub imm: Option<u32>,
    pub bad_key: bool,
    /// Addend of a FetchAdd, value before of an atomic acknowledge.
    pub value: Option<u64>,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Opcode::from_u8(self.opcode).map_or("?", Opcode::name);
        write!(f, "{name} psn={:#x} len={}", self.psn, self.len)?;
        match self.aeth {
            Some((syndrome, msn)) => write!(f, " aeth={syndrome:#x} msn={msn}"),
            None => write!(f, "{}", if self.ack_req { " ackreq" } else { "" }),
        }
    }
}

/// What the host under test is.
#[derive(Clone, Debug)]
pub struct Setup {
    /// It sends the messages; otherwise it receives them.
    pub requester: bool,
    pub messages: Vec<u64>,
    /// Those of them (numbers from 0) that the receiver fetches by READ; all of them with `Verb::Read`.
    pub reads: Vec<usize>,
    pub verb: Verb,
    pub mtu: u16,
    pub psn: u32,
    pub rc: RcConfig,
}

pub struct Bench {
    pub host: Host,
    pub sent: Vec<(Time, Line)>,
    pub now: Time,
    free_at: Time,
    pool: BoxPool,
    timing: LinkTiming,
    template: Template,
    pub events: Vec<HostEvent>,
}

impl Bench {
    pub fn new(s: &Setup) -> Bench {
        let me = usize::from(!s.requester);
        let ip = |h: usize| IpAddr::from([198, 18, 0, h as u8 + 1]);
        let tagged = || s.messages.iter().copied().zip(1u32..);
        let is_read = |tag: u32| s.verb == Verb::Read || s.reads.contains(&(tag as usize - 1));
        let send = |(bytes, tag)| match is_read(tag) {
            true => Op::new(OpKind::Read { peer: RankId(1), bytes, tag }),
            false => Op::new(OpKind::Send { peer: RankId(1), bytes, tag }),
        };
        let recv = |(bytes, tag)| Op::new(OpKind::Recv { peer: RankId(0), bytes, tag });
        let theirs = tagged().filter(|m| !is_read(m.1)).map(recv).collect();
        let ranks = vec![tagged().map(send).collect(), theirs];
        let schedule = Schedule { ranks, origin: "script".into(), warnings: Vec::new() };
        let workload = WorkloadConfig {
            name: "w".into(),
            kind: WorkloadKind::Replay(Arc::new(schedule)),
            ranks: Arc::from([RankId(0), RankId(1)]),
            class: ClassIx(0),
            verb: s.verb,
            qps_per_pair: 1,
            rate_control: RateControl::None,
            rc: s.rc,
            skew: Skew::Fixed(Span::ZERO),
        };
        let class = ClassConfig {
            name: "roce".into(),
            dscp: 3,
            priority: 3,
            lossless: true,
            ecn: Ecn::Ect0,
            ack_dscp: 3,
            ack_priority: 3,
            cnp_dscp: 48,
            cnp_priority: 6,
            mtu: s.mtu,
            vlan: None,
            pcp: None,
        };
        let config = HostConfig {
            port: PortId(0),
            name: "port0".into(),
            host: "local".into(),
            mac: [2, 0, 0, 0, 0, 1],
            rate: LINE,
            ranks: vec![RankAddr { rank: RankId(me as u32), port: PortId(0), ip: ip(me) }],
            classes: Arc::from([class]),
            workloads: Arc::from([workload]),
            qps: vec![QpConfig {
                workload: 0,
                local_rank: RankId(me as u32),
                peer_rank: RankId(1 - me as u32),
                local_ip: ip(me),
                peer_ip: ip(1 - me),
                peer_mac: [2, 0, 0, 0, 0, 2],
                local_qpn: QPN_FIRST,
                peer_qpn: QPN_FIRST,
                sport: 0xc000,
                psn_first: s.psn,
                peer_psn_first: s.psn,
                class: ClassIx(0),
            }],
            local_delivery: false,
            streams: Vec::new(),
            stream_to: Vec::new(),
            actions: Vec::new(),
            pfc_response: Span::ZERO,
            receive: None,
            seed: 1,
        };
        let spec = FrameSpec { src_ip: ip(1 - me), dst_ip: ip(me), ..FrameSpec::default() };
        let mut host = Host::new(config);
        host.start_iteration(0, Time::ZERO);
        Bench {
            host,
            sent: Vec::new(),
            now: Time::ZERO,
            free_at: Time::ZERO,
            pool: BoxPool::new(8, 1 << 16),
            timing: LinkTiming::new(LINE, Span::ZERO),
            template: Template::new(&spec).unwrap(),
            events: Vec::new(),
        }
    }

    /// Lets the host send one frame as soon as it can and will, before `limit`.
    pub fn step(&mut self, limit: Time) -> Option<Line> {
        loop {
            let at = self.host.next_deadline().max(self.free_at).max(self.now);
            if self.host.next_deadline() == Time::NEVER || at > limit {
                return None;
            }
            self.now = at;
            let mut batch: TxBatch<BoxFrame> = TxBatch::new();
            self.host.poll_tx(at, 1, &mut self.pool, &mut batch, &mut NoRecord);
            while let Some(e) = self.host.poll_event() {
                self.events.push(e);
            }
            if let Some(frame) = batch.control.pop().or_else(|| batch.data.pop()) {
                self.free_at = at + self.timing.wire_time(frame.len());
                let line = spoken(&frame);
                self.pool.give(frame);
                self.sent.push((at, line));
                return Some(line);
            }
        }
    }

    /// Runs the host up to `until`.
    pub fn run(&mut self, until: Time) {
        while self.step(until).is_some() {}
        self.now = self.now.max(until);
    }

    /// A frame arrives now.
    pub fn inject(&mut self, line: &Line, corrupt: bool, ce: bool) {
        let op = Opcode::from_u8(line.opcode).unwrap();
        let imm = ImmDt(line.imm.unwrap_or(0));
        let rkey = if line.bad_key { !RKEY } else { RKEY };
        let reth = Reth { va: 1 << 32, rkey, dma_len: line.reth.unwrap_or(0) };
        let (syndrome, msn) = line.aeth.unwrap_or_default();
        let ext = match op.ext() {
            ExtLayout::None => Ext::None,
            ExtLayout::Reth => Ext::Reth(reth),
            ExtLayout::RethImm => Ext::RethImm(reth, imm),
            ExtLayout::Imm => Ext::Imm(imm),
            ExtLayout::Atomic => {
                let swap_add = line.value.unwrap_or(0);
                Ext::Atomic(AtomicEth { va: 0, rkey, swap_add, compare: 0 })
            }
            ExtLayout::DethImm => {
                let qkey = if line.bad_key { !QKEY } else { QKEY };
                Ext::DethImm(Deth { qkey, resv8: 0, src_qp: QPN_FIRST }, imm)
            }
            ExtLayout::Aeth => Ext::Aeth(Aeth { syndrome, msn }),
            other => unreachable!("{other:?} is not part of these scripts"),
        };
        let pad = (line.len.wrapping_neg() & 3) as u8;
        let bth = BthFields {
            opcode: line.opcode,
            dest_qp: QPN_FIRST,
            psn: line.psn,
            ack_req: line.ack_req,
            pad,
            becn: false,
        };
        let len = FrameLen(58 + ext.len() as u16 + line.len + u16::from(pad));
        let mut frame = self.pool.take(Fill::Const, len).unwrap();
        let wire = self.template.write(frame.head_mut(), &bth, &ext, line.len);
        assert_eq!(wire.len, len);
        frame.meta_mut().head_len = wire.head_len;
        if ce {
            frame.head_mut()[15] |= 3;
        }
        if corrupt {
            frame.corrupt();
        }
        self.host.on_frame(self.now, &frame, &mut NoRecord);
        self.pool.give(frame);
    }

    /// A counter of the host by its name.
    pub fn counter(&self, name: &str) -> Option<u64> {
        let zero_is_left_out = [
            "read_tx",
            "read_again",
            "implied_nak",
            "read_rx",
            "rnr_nak_tx",
            "credit_waits",
            "datagram_tx",
            "datagram_rx",
            "datagram_lost",
        ];
        match serde_json::to_value(self.host.stats()).unwrap().get(name) {
            Some(value) => value.as_u64(),
            None => zero_is_left_out.contains(&name).then_some(0),
        }
    }
}

/// What a frame of ours says.
pub fn spoken(frame: &BoxFrame) -> Line {
    line_of(frame.head(), frame.len())
}

pub fn line_of(head: &[u8; rankstorm::wire::HEAD_MAX], len: FrameLen) -> Line {
    let f = fast::parse(head, len).unwrap();
    Line {
        opcode: f.opcode,
        psn: f.psn,
        ack_req: f.ack_req,
        len: f.payload_len,
        aeth: f.aeth(head).map(|a| (a.syndrome, a.msn)),
        reth: f.reth(head).map(|r| r.dma_len),
        imm: f.imm(head).map(|i| i.0),
        bad_key: false,
        value: match f.ext(head) {
            Some(Ext::Atomic(a)) => Some(a.swap_add),
            Some(Ext::AethAtomicAck(_, a)) => Some(a.original),
            _ => None,
        },
    }
}
