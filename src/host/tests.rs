//! Two hosts wired back to back: the harness is the network. What should happen is taken from captures of the
//! Linux kernel's stack (rdma_rxe) in the same situation, from closed forms, and from the standard.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use super::config::{HostConfig, RankAddr, StreamPeer};
use super::{Failure, Host, HostEvent, Streaks};
use crate::frame::boxed::{BoxFrame, BoxPool};
use crate::frame::{Frame, FrameMeta, FramePool, TxBatch};
use crate::limits::BURST;
use crate::measure::record::{DropReason, MessageRecord, Outcome, RankIteration, Record};
use crate::transport::config::{ClassConfig, Ecn, QPN_FIRST, QpConfig, RateControl, RcConfig, Verb};
use crate::transport::dcqcn;
use crate::units::{Bytes, ClassIx, LinkTiming, PortId, RankId, Rate, Span, Time};
use crate::wire::fast;
use crate::wire::opcode::Opcode;
use crate::workload::config::{
    Action, Load, Skew, StreamConfig, TimedAction, Until, WorkloadConfig, WorkloadKind,
};
use crate::workload::schedule::{Op, OpKind, Schedule};

mod short;

const LINE: Rate = Rate::gbps(100);

/// Remembers what hosts report.
#[derive(Default)]
struct Seen {
    messages: Vec<MessageRecord>,
    iterations: Vec<RankIteration>,
    pauses: Vec<(u64, u8, bool)>,
    arrivals: Vec<u64>,
}

impl Record for Seen {
    fn arrival(&mut self, now: Time, _: &FrameMeta, _: ClassIx) {
        self.arrivals.push(now.0);
    }
    fn message(&mut self, m: &MessageRecord) {
        self.messages.push(*m);
    }
    fn rank_iteration(&mut self, it: &RankIteration) {
        self.iterations.push(*it);
    }
    fn port_pause(&mut self, now: Time, _: u32, priority: u8, on: bool) {
        self.pauses.push((now.0, priority, on));
    }
    fn queue_depth(&mut self, _: Time, _: u16, _: u16, _: u8, _: u64) {}
    fn drop(&mut self, _: Time, _: u16, _: u16, _: &FrameMeta, _: DropReason) {}
}

/// One frame as it left a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    from: usize,
    at: Time,
    opcode: u8,
    psn: u32,
    ack_req: bool,
    payload: u16,
    pad: u8,
    /// Syndrome and MSN of answers.
    aeth: Option<(u8, u32)>,
    dscp: u8,
}

/// What the cable does with a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pass,
    Drop,
    Twice,
    MarkCe,
    /// Held back until the next frame of that direction has passed.
    Behind,
}

struct Cable {
    free_at: Time,
    flying: VecDeque<(Time, BoxFrame)>,
    held: Option<BoxFrame>,
}

struct Net<R> {
    hosts: [Host; 2],
    cables: [Cable; 2],
    timing: LinkTiming,
    pool: BoxPool,
    now: Time,
    log: Vec<Sent>,
    events: [Vec<HostEvent>; 2],
    rec: [Seen; 2],
    /// What came in one behind the other, where that is looked at.
    streaks: Option<[Streaks; 2]>,
    rule: R,
}

impl<R: FnMut(&Sent) -> Fate> Net<R> {
    fn new(configs: [HostConfig; 2], rule: R) -> Net<R> {
        let cable = || Cable { free_at: Time::ZERO, flying: VecDeque::new(), held: None };
        Net {
            hosts: configs.map(Host::new),
            cables: [cable(), cable()],
            timing: LinkTiming::new(LINE, Span::from_ns(500)),
            pool: BoxPool::new(16, 100_000),
            now: Time::ZERO,
            log: Vec::new(),
            events: [Vec::new(), Vec::new()],
            rec: [Seen::default(), Seen::default()],
            streaks: None,
            rule,
        }
    }

    /// Runs both hosts until neither has anything to do before `limit`, or `stop` says so.
    fn run(&mut self, limit: Time, mut stop: impl FnMut(&Net<R>) -> bool) {
        let mut rounds = 0u64;
        loop {
            rounds += 1;
            assert!(rounds < 20_000_000, "livelock at {:?}", self.now);
            for h in 0..2 {
                while let Some((_, mut frame)) = self.cables[1 - h].flying.pop_front_if(|f| f.0 <= self.now) {
                    let (now, host, rec) = (self.now, &mut self.hosts[h], &mut self.rec[h]);
                    let taken = self.streaks.as_mut().is_some_and(|s| {
                        host.on_streak(now, (&mut short::Anywhere, &mut frame), &mut s[h], rec, |_| true)
                    });
                    if !taken {
                        host.on_frame(now, &frame, rec);
                    }
                    self.pool.give(frame);
                }
            }
            for h in 0..2 {
                if self.cables[h].free_at <= self.now && self.hosts[h].next_deadline() <= self.now {
                    self.send(h);
                }
                while let Some(e) = self.hosts[h].poll_event() {
                    self.events[h].push(e);
                }
            }
            if stop(self) {
                return;
            }
            let next = (0..2).map(|h| {
                let tx = self.hosts[h].next_deadline().max(self.cables[h].free_at);
                let rx = self.cables[h].flying.front().map_or(Time::NEVER, |f| f.0);
                if self.hosts[h].next_deadline() == Time::NEVER { rx } else { tx.min(rx) }
            });
            let next = next.min().unwrap_or(Time::NEVER).max(self.now);
            if next > limit {
                self.now = limit;
                return;
            }
            self.now = next;
        }
    }

    fn send(&mut self, h: usize) {
        let mut batch = TxBatch::new();
        self.hosts[h].poll_tx(self.now, 1, &mut self.pool, &mut batch, &mut self.rec[h]);
        let Some(mut frame) = batch.control.pop().or_else(|| batch.data.pop()) else { return };
        let f = fast::parse(frame.head(), frame.len()).expect("own frames parse");
        let sent = Sent {
            from: h,
            at: self.now,
            opcode: f.opcode,
            psn: f.psn,
            ack_req: f.ack_req,
            payload: f.payload_len,
            pad: f.pad,
            aeth: f.aeth(frame.head()).map(|a| (a.syndrome, a.msn)),
            dscp: f.dscp,
        };
        self.log.push(sent);
        let c = &mut self.cables[h];
        c.free_at = self.now + self.timing.wire_time(frame.len());
        let arrive = c.free_at + self.timing.propagation();
        match (self.rule)(&sent) {
            Fate::Pass => {}
            Fate::Drop => return self.pool.give(frame),
            Fate::Twice => {
                let mut copy = self.pool.take(frame.meta().fill, frame.len()).expect("room");
                *copy.head_mut() = *frame.head();
                *copy.meta_mut() = *frame.meta();
                c.flying.push_back((arrive, copy));
            }
            Fate::MarkCe => assert!(fast::set_ce(frame.head_mut())),
            Fate::Behind => return c.held = Some(frame),
        }
        c.flying.push_back((arrive, frame));
        if let Some(held) = c.held.take() {
            c.flying.push_back((arrive + Span::from_ns(50), held));
        }
    }

    /// Starts an iteration on both hosts and runs until both have finished it.
    fn iterate(&mut self, limit: Time) {
        for h in &mut self.hosts {
            h.start_iteration(0, Time::ZERO);
        }
        self.run(limit, |n| n.events.iter().all(|e| !e.is_empty()));
    }

    /// Lets everything on the cables arrive and be answered.
    fn settle(&mut self) {
        self.run(self.now + Span::from_us(100), |_| false);
    }

    fn data(&self) -> Vec<(u8, u32)> {
        let data = self.log.iter().filter(|s| s.from == 0 && s.aeth.is_none());
        data.map(|s| (s.opcode, s.psn)).collect()
    }
    /// (PSN, syndrome, MSN) of all answers.
    fn answers(&self) -> Vec<(u32, u8, u32)> {
        self.log.iter().filter_map(|s| s.aeth.map(|(syndrome, msn)| (s.psn, syndrome, msn))).collect()
    }
}

fn class(name: &str, priority: u8, mtu: u16) -> ClassConfig {
    ClassConfig {
        name: name.into(),
        dscp: priority,
        priority,
        lossless: true,
        ecn: Ecn::Ect0,
        ack_dscp: priority,
        ack_priority: priority,
        cnp_dscp: 48,
        cnp_priority: 6,
        mtu,
        vlan: None,
        pcp: None,
    }
}

fn send(bytes: u64, tag: u32) -> OpKind {
    OpKind::Send { peer: RankId(1), bytes, tag }
}

fn workload(ops: [Vec<Op>; 2], class: u8) -> WorkloadConfig {
    let schedule = Schedule { ranks: ops.to_vec(), origin: "test".into(), warnings: Vec::new() };
    WorkloadConfig {
        name: "w".into(),
        kind: WorkloadKind::Replay(Arc::new(schedule)),
        ranks: Arc::from([RankId(0), RankId(1)]),
        class: ClassIx(class),
        verb: Verb::Write,
        qps_per_pair: 1,
        rate_control: RateControl::None,
        rc: RcConfig::default(),
        skew: Skew::Fixed(Span::ZERO),
    }
}

/// Rank 0 sends messages of these sizes to rank 1, all at once.
fn messages(sizes: &[u64]) -> WorkloadConfig {
    let tagged = || sizes.iter().copied().zip(1u32..);
    let sends = tagged().map(|(bytes, tag)| Op::new(send(bytes, tag))).collect();
    let recvs = tagged().map(|(bytes, tag)| Op::new(OpKind::Recv { peer: RankId(0), bytes, tag })).collect();
    workload([sends, recvs], 0)
}

fn ip(host: usize) -> IpAddr {
    IpAddr::from([198, 18, 0, host as u8 + 1])
}

/// Two ports with a rank each, connected once per workload.
fn pair(workloads: Vec<WorkloadConfig>, classes: Vec<ClassConfig>, psn_first: u32) -> [HostConfig; 2] {
    let classes: Arc<[ClassConfig]> = classes.into();
    let workloads: Arc<[WorkloadConfig]> = workloads.into();
    [0, 1].map(|h| HostConfig {
        port: PortId(h as u32),
        name: format!("port{h}"),
        host: "local".into(),
        mac: [2, 0, 0, 0, 0, h as u8],
        rate: LINE,
        ranks: vec![RankAddr { rank: RankId(h as u32), port: PortId(h as u32), ip: ip(h) }],
        classes: classes.clone(),
        workloads: workloads.clone(),
        qps: (0..workloads.len())
            .map(|w| QpConfig {
                workload: w as u16,
                local_rank: RankId(h as u32),
                peer_rank: RankId(1 - h as u32),
                local_ip: ip(h),
                peer_ip: ip(1 - h),
                peer_mac: [2, 0, 0, 0, 0, 1 - h as u8],
                local_qpn: QPN_FIRST + w as u32,
                peer_qpn: QPN_FIRST + w as u32,
                sport: 0xc000,
                psn_first,
                peer_psn_first: psn_first,
                class: workloads[w].class,
            })
            .collect(),
        local_delivery: true,
        streams: Vec::new(),
        stream_to: Vec::new(),
        actions: Vec::new(),
        pfc_response: Span::ZERO,
        receive: None,
        seed: 1,
    })
}

/// One message, 5 packets of 1024 bytes from PSN 0x50 on, as in the captures.
fn five_packets() -> [HostConfig; 2] {
    pair(vec![messages(&[5000])], vec![class("roce", 3, 1024)], 0x50)
}

const FIRST: u8 = 0x06;
const MIDDLE: u8 = 0x07;
const LAST: u8 = 0x08;

#[test]
fn a_write_of_5000_bytes_looks_as_the_kernel_sends_it() {
    let mut n = Net::new(five_packets(), |_| Fate::Pass);
    n.iterate(Time(1_000_000_000));
    n.settle();
    assert_eq!(n.data(), [(FIRST, 0x50), (MIDDLE, 0x51), (MIDDLE, 0x52), (MIDDLE, 0x53), (LAST, 0x54)]);
    let lens: Vec<u16> = n.log.iter().filter(|s| s.from == 0).map(|s| s.payload).collect();
    assert_eq!(lens, [1024, 1024, 1024, 1024, 904]);
    let asked: Vec<bool> = n.log.iter().filter(|s| s.from == 0).map(|s| s.ack_req).collect();
    assert_eq!(asked, [false, false, false, false, true], "AckReq on the last packet only");
    assert_eq!(n.answers(), [(0x54, 0x1f, 1)], "one ACK for all five");
    let m = &n.rec[0].messages[0];
    assert_eq!((m.bytes, m.outcome, m.retransmitted, m.tag), (5000, Outcome::Completed, 0, 1));
    assert_eq!(n.events[1], [HostEvent::IterationDone { iteration: 0, at: n.rec[1].iterations[0].finished }]);
    assert_eq!(n.pool.in_use(), 0, "every frame was given back");
}

#[test]
fn messages_of_every_size_arrive_whole() {
    for verb in [Verb::Write, Verb::WriteImm, Verb::Send] {
        for mtu in [256, 1024, 4096] {
            let m = u64::from(mtu);
            let sizes = [0, 1, 2, 3, 4, m - 1, m, m + 1, 2 * m, 5000, 1 << 20];
            let w = WorkloadConfig { verb, ..messages(&sizes) };
            let mut n = Net::new(pair(vec![w], vec![class("roce", 3, mtu)], 0xff_fff0), |_| Fate::Pass);
            n.iterate(Time(10_000_000_000));
            n.settle();
            let got: Vec<u64> = n.rec[0].messages.iter().map(|m| m.bytes).collect();
            assert_eq!(got, sizes, "{verb:?} at MTU {mtu}");
            let s = n.hosts[1].stats();
            assert_eq!(s.payload_bytes, sizes.iter().sum::<u64>());
            assert_eq!(
                (s.nak_tx, s.duplicates, s.out_of_order, s.rx_malformed, s.rx_unknown),
                (0, 0, 0, 0, 0)
            );
            let packets: u64 = sizes.iter().map(|b| b.div_ceil(m).max(1)).sum();
            assert_eq!(s.classes[0].arrivals, packets);
            for p in n.log.iter().filter(|s| s.aeth.is_none()) {
                assert_eq!((p.payload + u16::from(p.pad)) % 4, 0);
            }
            assert_eq!(
                n.rec[1].iterations.len(),
                1,
                "the receiver's program saw sizes and tags it waited for"
            );
        }
    }
}

#[test]
fn psns_wrap_inside_a_message() {
    let mut n =
        Net::new(pair(vec![messages(&[5000])], vec![class("roce", 3, 1024)], 0xff_fffe), |_| Fate::Pass);
    n.iterate(Time(1_000_000_000));
    let psns: Vec<u32> = n.data().iter().map(|d| d.1).collect();
    assert_eq!(psns, [0xff_fffe, 0xff_ffff, 0, 1, 2]);
    assert_eq!(n.answers(), [(2, 0x1f, 1)]);
}

#[test]
fn a_lost_middle_packet_costs_one_nak_and_the_way_back() {
    let mut lost = 0;
    let mut n = Net::new(five_packets(), |s| {
        let hit = s.from == 0 && s.psn == 0x52 && lost == 0;
        lost += u32::from(hit);
        if hit { Fate::Drop } else { Fate::Pass }
    });
    n.iterate(Time(1_000_000_000));
    n.settle();
    let mut expected = vec![(FIRST, 0x50), (MIDDLE, 0x51), (MIDDLE, 0x52), (MIDDLE, 0x53), (LAST, 0x54)];
    expected.extend([(MIDDLE, 0x52), (MIDDLE, 0x53), (LAST, 0x54)]);
    assert_eq!(n.data(), expected);
    assert_eq!(n.answers(), [(0x52, 0x60, 0), (0x54, 0x1f, 1)]);
    assert_eq!(n.rec[0].messages[0].retransmitted, 3);
    assert_eq!((n.hosts[0].stats().retransmitted, n.hosts[1].stats().out_of_order), (3, 2));
}

#[test]
fn a_lost_last_packet_is_found_by_the_timeout_alone() {
    let mut lost = 0;
    let mut n = Net::new(five_packets(), |s| {
        let hit = s.from == 0 && s.psn == 0x54 && lost == 0;
        lost += u32::from(hit);
        if hit { Fate::Drop } else { Fate::Pass }
    });
    n.iterate(Time(200_000_000_000));
    n.settle();
    let psns: Vec<u32> = n.data().iter().map(|d| d.1).collect();
    assert_eq!(psns, [0x50, 0x51, 0x52, 0x53, 0x54, 0x50, 0x51, 0x52, 0x53, 0x54]);
    let answers = n.answers();
    assert_eq!(answers.last(), Some(&(0x54, 0x1f, 1)));
    assert!(answers[..answers.len() - 1].iter().all(|a| *a == (0x53, 0x1f, 0)), "{answers:x?}");
    assert!(answers.len() > 1, "duplicates are acknowledged again with the last good PSN");
    // The timeout began with the first packet: 4.096 us x 2^14 later the first one goes out again.
    assert_eq!(n.log[5].at.since(n.log[0].at), Span(4_096_000 << 14));
    assert_eq!((n.hosts[0].stats().timeouts, n.hosts[1].stats().duplicates), (1, 4));
}

#[test]
fn a_lost_ack_is_replaced_when_the_duplicates_arrive() {
    let mut lost = 0;
    let mut n = Net::new(five_packets(), |s| {
        let hit = s.from == 1 && lost == 0;
        lost += u32::from(hit);
        if hit { Fate::Drop } else { Fate::Pass }
    });
    n.iterate(Time(200_000_000_000));
    n.settle();
    assert!(n.answers().iter().all(|a| *a == (0x54, 0x1f, 1)), "{:x?}", n.answers());
    assert_eq!(n.hosts[1].stats().payload_bytes, 5000, "nothing is executed twice");
    assert_eq!(n.rec[0].messages[0].outcome, Outcome::Completed);
    assert_eq!(n.rec[1].iterations.len(), 1);
}

#[test]
fn doubled_packets_are_answered_and_not_executed_again() {
    let mut n = Net::new(five_packets(), |s| if s.from == 0 { Fate::Twice } else { Fate::Pass });
    n.iterate(Time(1_000_000_000));
    n.settle();
    // As observed: every duplicate is acknowledged with the last good PSN.
    let psns: Vec<u32> = n.answers().iter().map(|a| a.0).collect();
    assert_eq!(psns[..4], [0x50, 0x51, 0x52, 0x53]);
    assert_eq!(n.answers().last(), Some(&(0x54, 0x1f, 1)));
    assert_eq!((n.hosts[1].stats().duplicates, n.hosts[1].stats().payload_bytes), (5, 5000));
    assert_eq!(n.hosts[0].stats().retransmitted, 0);
}

#[test]
fn a_swapped_pair_gives_two_naks() {
    let mut swapped = false;
    let mut n = Net::new(five_packets(), |s| {
        let hit = s.from == 0 && s.psn == 0x51 && !swapped;
        swapped |= hit;
        if hit { Fate::Behind } else { Fate::Pass }
    });
    n.iterate(Time(1_000_000_000));
    n.settle();
    // As observed: 0x52 before 0x51 gives NAK 0x51; 0x51 comes and is taken; 0x53 finds 0x52 missing, which
    // had been thrown away: the second NAK.
    let naks: Vec<u32> = n.answers().iter().filter(|a| a.1 == 0x60).map(|a| a.0).collect();
    assert_eq!(naks, [0x51, 0x52]);
    assert_eq!(n.rec[0].messages[0].outcome, Outcome::Completed);
    assert_eq!(n.hosts[1].stats().payload_bytes, 5000);
}

#[test]
fn a_black_hole_ends_in_retry_exceeded() {
    let rc = RcConfig { ack_timeout: Span::from_us(100), retry_count: 3, ..RcConfig::default() };
    let w = WorkloadConfig { rc, ..messages(&[5000, 10]) };
    let mut n = Net::new(pair(vec![w], vec![class("roce", 3, 1024)], 0x50), |_| Fate::Drop);
    n.hosts.iter_mut().for_each(|h| h.start_iteration(0, Time::ZERO));
    n.run(Time(1_000_000_000), |_| false);
    let firsts = n.log.iter().filter(|s| s.psn == 0x50).count();
    assert_eq!(firsts, 4, "sent once and three times again");
    let outcomes: Vec<Outcome> = n.rec[0].messages.iter().map(|m| m.outcome).collect();
    assert_eq!(outcomes, [Outcome::RetryExceeded; 2]);
    let failed = HostEvent::Failed {
        workload: 0,
        iteration: 0,
        from: RankId(0),
        to: RankId(1),
        at: Time(400_000_000),
        cause: Failure::RetryExceeded,
    };
    assert_eq!(n.events[0], [failed]);
    assert_eq!((n.hosts[0].stats().timeouts, n.hosts[0].stats().messages_failed), (4, 2));
    assert_eq!(n.hosts[0].next_deadline(), Time::NEVER, "a dead queue pair asks for nothing");
}

#[test]
fn a_window_bounds_what_is_in_flight() {
    // No timeout is needed although 64 packets may go without AckReq: a window asks at least twice.
    let rc = RcConfig { window: 4, ack_timeout: Span::ZERO, ..RcConfig::default() };
    let w = WorkloadConfig { rc, ..messages(&[1 << 16]) };
    let mut n = Net::new(pair(vec![w], vec![class("roce", 3, 1024)], 0), |_| Fate::Pass);
    n.iterate(Time(1_000_000_000));
    let (mut acked, mut ahead) = (0i64, 0);
    for s in &n.log {
        match s.aeth {
            Some(_) => acked = i64::from(s.psn) + 1,
            None => ahead = ahead.max(i64::from(s.psn) + 1 - acked),
        }
    }
    assert_eq!(ahead, 4);
    assert_eq!(n.rec[0].messages[0].outcome, Outcome::Completed);
}

#[test]
fn random_losses_never_lose_or_repeat_data() {
    for seed in 0..20u64 {
        let mut rng = crate::rng::Rng::new(seed, "losses", 0);
        let rc =
            RcConfig { ack_timeout: Span::from_us(50), retry_count: 7, ack_every: 4, ..RcConfig::default() };
        let sizes = [5000, 0, 70_000, 1, 1024, 33_333];
        let w = WorkloadConfig { rc, ..messages(&sizes) };
        let mut n =
            Net::new(pair(vec![w], vec![class("roce", 3, 1024)], 0xff_fff8), |_| match rng.below(20) {
                0 => Fate::Drop,
                1 => Fate::Twice,
                2 => Fate::Behind,
                _ => Fate::Pass,
            });
        n.iterate(Time(1_000_000_000_000));
        let got: Vec<u64> = n.rec[0].messages.iter().map(|m| m.bytes).collect();
        assert_eq!(got, sizes, "seed {seed}");
        assert_eq!(n.hosts[1].stats().payload_bytes, sizes.iter().sum::<u64>(), "seed {seed}");
    }
}

#[test]
fn a_pause_stops_its_priority_only_and_for_its_quanta() {
    let two = || {
        let classes = vec![class("a", 3, 4096), class("b", 0, 4096)];
        let b = WorkloadConfig { class: ClassIx(1), ..messages(&[1 << 20]) };
        pair(vec![messages(&[1 << 20]), b], classes, 0)
    };
    // 1000 quanta at 100G are 5.12 us.
    let mut n = Net::new(two(), |_| Fate::Pass);
    n.hosts.iter_mut().for_each(|h| h.start_iteration(0, Time::ZERO));
    let at = Time(20_000_000);
    n.run(at, |_| false);
    n.hosts[0].on_pause(at, 3, 1000, &mut n.rec[0]);
    n.run(Time(1_000_000_000), |n| n.events.iter().all(|e| !e.is_empty()));
    let end = at + Span(5_120_000);
    assert_eq!(n.rec[0].pauses, [(at.0, 3, true), (end.0, 3, false)]);
    let during =
        |dscp| n.log.iter().filter(|s| s.from == 0 && s.dscp == dscp && s.at > at && s.at < end).count();
    assert_eq!(during(3), 0, "paused");
    assert!((15..=16).contains(&during(0)), "5.12 us of 334.24 ns frames, at full rate");
    // Until XON, however long the quanta.
    let mut n = Net::new(two(), |_| Fate::Pass);
    n.hosts.iter_mut().for_each(|h| h.start_iteration(0, Time::ZERO));
    n.run(at, |_| false);
    n.hosts[0].on_pause(at, 3, 0xffff, &mut n.rec[0]);
    n.run(Time(50_000_000), |_| false);
    n.hosts[0].on_pause(Time(50_000_000), 3, 0, &mut n.rec[0]);
    n.run(Time(1_000_000_000), |n| n.events.iter().all(|e| !e.is_empty()));
    assert_eq!(n.rec[0].pauses, [(at.0, 3, true), (50_000_000, 3, false)]);
    let c = n.hosts[0].stats().pfc[3];
    assert_eq!((c.xoff_rx, c.refresh_rx, c.xon_rx), (1, 0, 1));
}

#[test]
fn a_paused_host_costs_nothing_until_its_pause_ends() {
    let mut n = Net::new(five_packets(), |_| Fate::Pass);
    n.hosts[0].on_pause(Time::ZERO, 3, 0xffff, &mut n.rec[0]);
    n.hosts[0].start_iteration(0, Time::ZERO);
    let mut batch = TxBatch::new();
    assert_eq!(n.hosts[0].poll_tx(Time(1), 8, &mut n.pool, &mut batch, &mut n.rec[0]), 0);
    assert_eq!(n.hosts[0].next_deadline(), Time(LINE.quanta(0xffff).0));
}

#[test]
fn an_empty_pool_changes_nothing() {
    let mut n = Net::new(five_packets(), |_| Fate::Pass);
    n.hosts[0].start_iteration(0, Time::ZERO);
    let (mut none, mut batch) = (BoxPool::new(0, 0), TxBatch::new());
    assert_eq!(n.hosts[0].poll_tx(Time::ZERO, 8, &mut none, &mut batch, &mut n.rec[0]), 0);
    assert_eq!((n.hosts[0].stats().pool_empty, n.hosts[0].stats().tx_frames), (1, 0));
    n.hosts[1].start_iteration(0, Time::ZERO);
    n.run(Time(1_000_000_000), |n| n.events.iter().all(|e| !e.is_empty()));
    assert_eq!(n.data().len(), 5);
}

#[test]
fn a_burst_fills_the_room_it_is_given() {
    let mut n = Net::new(pair(vec![messages(&[1 << 20])], vec![class("roce", 3, 4096)], 0), |_| Fate::Pass);
    n.hosts[0].start_iteration(0, Time::ZERO);
    let mut batch = TxBatch::new();
    assert_eq!(n.hosts[0].poll_tx(Time::ZERO, 20, &mut n.pool, &mut batch, &mut n.rec[0]), 20);
    let rest = BURST - 20;
    assert_eq!(n.hosts[0].poll_tx(Time::ZERO, BURST, &mut n.pool, &mut batch, &mut n.rec[0]), rest);
    assert_eq!((batch.data.len(), batch.control.len()), (BURST, 0));
}

#[test]
fn a_fixed_rate_is_reached_exactly() {
    let rate = Rate { bits_per_s: 37_500_000_000 };
    let w = WorkloadConfig { rate_control: RateControl::Fixed(rate), ..messages(&[10_000 * 4096]) };
    let mut n = Net::new(pair(vec![w], vec![class("roce", 3, 4096)], 0), |_| Fate::Pass);
    n.iterate(Time(1_000_000_000_000));
    let starts: Vec<u64> = n.log.iter().filter(|s| s.from == 0).map(|s| s.at.0).collect();
    assert_eq!(starts.len(), 10_000);
    // The first frame carries RETH and is 16 bytes longer.
    let exact = rate.time_for(9_999 * 4178 + 16).0;
    let error_ps = (starts[9_999] - starts[0]).abs_diff(exact);
    assert!(error_ps <= exact / 1_000_000_000, "{error_ps} ps in {exact} ps");
}

#[test]
fn a_marked_sender_slows_down_and_recovers() {
    let params = dcqcn::named("paper", LINE).expect("a known set");
    let interval = params.cnp_interval;
    let w = WorkloadConfig { rate_control: RateControl::Dcqcn(params), ..messages(&[64 << 20]) };
    let marked_until = Time(500_000_000);
    let mut n = Net::new(pair(vec![w], vec![class("roce", 3, 4096)], 0), |s| {
        if s.from == 0 && s.at < marked_until { Fate::MarkCe } else { Fate::Pass }
    });
    n.iterate(Time(100_000_000_000));
    let frames = |from: u64, to: u64| {
        n.log.iter().filter(|s| s.from == 0 && (from..to).contains(&(s.at.0 / 1_000_000))).count() as f64
    };
    let (line, slow) = (frames(0, 1), frames(400, 500));
    assert_eq!(line, 3.0, "the first microsecond is at line rate: 334 ns a frame");
    assert!(slow < 0.1 * 100.0 * line, "{slow} frames in 100 us after ten CNPs");
    let (recovering, later) = (frames(1_500, 1_600), frames(20_000, 20_100));
    assert!(recovering >= 1.5 * slow && later > 5.0 * slow, "{slow}, {recovering}, {later} frames in 100 us");
    let cnps: Vec<Time> = n.log.iter().filter(|s| s.opcode == Opcode::Cnp as u8).map(|s| s.at).collect();
    assert!(cnps.len() >= 9 && cnps.windows(2).all(|w| w[1].since(w[0]) >= interval), "{cnps:?}");
    assert_eq!(n.hosts[0].stats().cnp_rx, n.hosts[1].stats().cnp_tx);
    assert_eq!(n.hosts[1].stats().ce_rx, n.hosts[1].stats().classes[0].ce);
}

#[test]
fn ranks_behind_one_port_meet_inside() {
    let mut cfg = pair(vec![messages(&[100, 200])], vec![class("roce", 3, 1024)], 0);
    cfg[0].qps.clear();
    let other = cfg[1].ranks[0];
    cfg[0].ranks.push(RankAddr { port: PortId(0), ..other });
    cfg[1].ranks.clear();
    cfg[1].qps.clear();
    let mut n = Net::new(cfg, |_| Fate::Pass);
    n.iterate(Time(1_000_000));
    assert!(n.log.is_empty(), "no frame is needed");
    assert_eq!(n.hosts[0].stats().local_messages, 2);
    let outcomes: Vec<Outcome> = n.rec[0].messages.iter().map(|m| m.outcome).collect();
    assert_eq!(outcomes, [Outcome::Local; 2]);
    assert_eq!(n.rec[0].iterations.len(), 2);
    let done = |h: usize| n.events[h][0];
    assert_eq!(done(0), HostEvent::IterationDone { iteration: 0, at: Time::ZERO });
    assert_eq!(done(1), HostEvent::IterationDone { iteration: 0, at: Time::ZERO }, "nobody lives there");
}

#[test]
fn a_step_waits_for_the_data_of_the_one_before() {
    // Rank 0 sends, rank 1 computes 3 us on what arrived and answers.
    let recv = |peer, tag| OpKind::Recv { peer: RankId(peer), bytes: 4096, tag };
    let after = |kind, on| {
        let mut op = Op::new(kind);
        op.after.push(on);
        op
    };
    let rank0 = vec![Op::new(send(4096, 1)), Op::new(recv(1, 2))];
    let back = OpKind::Send { peer: RankId(0), bytes: 4096, tag: 2 };
    let rank1 = vec![Op::new(recv(0, 1)), after(OpKind::Calc { span: Span::from_us(3) }, 0), after(back, 1)];
    let mut n =
        Net::new(pair(vec![workload([rank0, rank1], 0)], vec![class("roce", 3, 4096)], 0), |_| Fate::Pass);
    n.iterate(Time(1_000_000_000));
    // 4096 B in one packet: 4174 B with FCS, 4194 on the wire, 335.52 ns at 100G; 500 ns on the cable.
    let arrived = 335_520 + 500_000;
    let answer = n.log.iter().find(|s| s.from == 1 && s.aeth.is_none()).expect("an answer");
    assert_eq!(answer.at, Time(arrived + 3_000_000));
    let m = &n.rec[1].messages[0];
    assert_eq!((m.intended, m.started), (answer.at, answer.at));
}

fn stream(load: Load, size: u16, frames: u64, obey_pfc: bool) -> StreamConfig {
    StreamConfig {
        name: "s".into(),
        from: RankId(0),
        to: RankId(1),
        class: ClassIx(0),
        sizes: vec![(size, 1)],
        load,
        start: Time(1_000_000),
        until: Until::Frames(frames),
        obey_pfc,
        verb: Default::default(),
    }
}

fn streaming(s: StreamConfig) -> [HostConfig; 2] {
    let mut cfg = pair(Vec::new(), vec![class("roce", 3, 1024)], 0);
    cfg[0].streams = vec![s];
    cfg[0].stream_to = vec![StreamPeer { index: 5, ip: ip(1), mac: [2, 0, 0, 0, 0, 1], sport: 0xd000 }];
    cfg
}

#[test]
fn streams_keep_their_schedule_and_count_their_losses() {
    let mut n = Net::new(streaming(stream(Load::L1Share(0.5), 64, 1000, true)), |s| {
        if s.psn % 100 == 7 { Fate::Drop } else { Fate::Pass }
    });
    n.run(Time(1_000_000_000), |_| false);
    let starts: Vec<u64> = n.log.iter().map(|s| s.at.0).collect();
    let exact: Vec<u64> = (0..1000).map(|i| 1_000_000 + i * 13_440).collect();
    assert_eq!(starts, exact, "84 B at half of 100G: every 13.44 ns");
    assert!(n.log.iter().all(|s| s.opcode == 0x24));
    let s = n.hosts[1].stats();
    assert_eq!((s.stream_rx, s.stream_lost, s.rx_unknown), (990, 10, 0));
    assert_eq!((n.hosts[0].stats().stream_tx, n.hosts[0].stats().tx_bytes), (1000, 64_000));
    assert_eq!(n.rec[1].arrivals.len(), 990);
}

#[test]
fn only_disobedient_streams_pass_a_pause() {
    for obey in [true, false] {
        let mut n = Net::new(streaming(stream(Load::L1Share(1.0), 1518, 100, obey)), |_| Fate::Pass);
        n.hosts[0].on_pause(Time::ZERO, 3, 0xffff, &mut n.rec[0]);
        n.run(Time(100_000_000), |_| false);
        assert_eq!(n.log.len(), if obey { 0 } else { 100 });
        n.run(Time(1_000_000_000), |_| false);
        assert_eq!(n.log.len(), 100, "what a pause held back goes out afterwards");
    }
}

#[test]
fn the_timeline_pauses_the_other_side_and_lets_go() {
    let mut cfg = pair(vec![messages(&[1 << 20])], vec![class("roce", 3, 4096)], 0);
    let act = |at, action| TimedAction { at: Time(at), action };
    cfg[1].actions = vec![
        act(10_000_000, Action::Pause { port: PortId(1), priority: 3, hold: None }),
        act(600_000_000, Action::Release { port: PortId(1), priority: 3 }),
    ];
    let mut n = Net::new(cfg, |_| Fate::Pass);
    n.iterate(Time(10_000_000_000));
    let c = n.hosts[1].stats().pfc[3];
    // 0xffff quanta are 335.5 us at 100G; refreshed every 167.8 us from 10 us to 600 us: 3 times.
    assert_eq!((c.xoff_tx, c.refresh_tx, c.xon_tx), (1, 3, 1));
    let c = n.hosts[0].stats().pfc[3];
    assert_eq!((c.xoff_rx, c.refresh_rx, c.xon_rx), (1, 3, 1));
    assert_eq!(n.rec[0].pauses.len(), 2, "one interval, refreshes do not show");
    assert!(n.rec[0].pauses[1].0 > 600_000_000);
}

#[test]
fn strays_are_counted_and_touch_nothing() {
    let mut n = Net::new(five_packets(), |_| Fate::Pass);
    n.hosts[0].start_iteration(0, Time::ZERO);
    let mut batch = TxBatch::new();
    n.hosts[0].poll_tx(Time::ZERO, 1, &mut n.pool, &mut batch, &mut n.rec[0]);
    let mut frame = batch.data.pop().expect("a frame");
    frame.head_mut()[29] ^= 1; // source address: someone else's frame with our queue pair number
    n.hosts[1].on_frame(Time(1), &frame, &mut n.rec[1]);
    frame.head_mut()[29] ^= 1;
    frame.head_mut()[47] = 0x99; // no such queue pair
    n.hosts[1].on_frame(Time(1), &frame, &mut n.rec[1]);
    let s = n.hosts[1].stats();
    assert_eq!((s.rx_frames, s.rx_unknown, s.payload_bytes), (2, 2, 0));
    n.pool.give(frame);
}

#[test]
fn incast_ranks_share_a_port_round_robin() {
    // Two workloads from one port: their frames alternate.
    let w = || messages(&[64 * 1024]);
    let mut n = Net::new(pair(vec![w(), w()], vec![class("roce", 3, 4096)], 0), |_| Fate::Pass);
    n.iterate(Time(1_000_000_000));
    let psns: Vec<u32> = n.data().iter().map(|d| d.1).collect();
    let expected: Vec<u32> = (0..16).flat_map(|i| [i, i]).collect();
    assert_eq!(psns, expected);
    assert_eq!(Bytes(n.hosts[1].stats().payload_bytes), Bytes(2 * 64 * 1024));
    assert_eq!(n.hosts[0].templates.len(), 1, "one pair of addresses, one set of headers");
}

#[test]
fn memory_per_queue_pair_and_rank_is_what_the_plan_states() {
    let (qp, rank) = (Host::bytes_per_qp(), Host::bytes_per_rank());
    assert!((384..=512).contains(&qp), "{qp} B per queue pair");
    assert!((256..=1024).contains(&rank), "{rank} B per rank");
}
