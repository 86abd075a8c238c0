//! Two hosts back to back, without links: what a frame costs the sender and the receiver, by the number of queue pairs
//! that all want to send. Also the fixture of `benches/host.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::bail;

use super::{Figure, Peer, ROUNDS, Rounds, Unit};
use crate::frame::boxed::{BoxFrame, BoxPool};
use crate::frame::{FramePool, TxBatch};
use crate::host::Host;
use crate::host::config::{HostConfig, RankAddr};
use crate::measure::record::NoRecord;
use crate::sys;
use crate::transport::config::{ClassConfig, Ecn, QPN_FIRST, QpConfig, RateControl, RcConfig, Verb};
use crate::units::{ClassIx, PortId, RankId, Rate, Span, Time};
use crate::workload::config::{Skew, WorkloadConfig, WorkloadKind};
use crate::workload::schedule::{Op, OpKind, Schedule};

/// Line rate of both hosts.
pub const LINE: Rate = Rate::gbps(100);
/// Wire time of 32 full frames.
const BURST_TIME: Span = Span(32 * 334_240);

fn config(host: u32, qps: u32, rate_control: RateControl) -> HostConfig {
    let bytes = 1u64 << 31;
    let send = |tag| Op::new(OpKind::Send { peer: RankId(1), bytes, tag });
    let recv = |tag| Op::new(OpKind::Recv { peer: RankId(0), bytes, tag });
    let ranks = vec![(0..qps).map(send).collect(), (0..qps).map(recv).collect()];
    let workload = WorkloadConfig {
        name: "w".into(),
        kind: WorkloadKind::Replay(Arc::new(Schedule { ranks, ..Schedule::default() })),
        ranks: Arc::from([RankId(0), RankId(1)]),
        class: ClassIx(0),
        verb: Verb::Write,
        qps_per_pair: qps.min(u32::from(u16::MAX)) as u16,
        rate_control,
        rc: RcConfig::default(),
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
        mtu: 4096,
        vlan: None,
        pcp: None,
    };
    let ip = |h: u32| IpAddr::from([198, 18, 0, h as u8 + 1]);
    let qp = |i: u32| QpConfig {
        workload: 0,
        local_rank: RankId(host),
        peer_rank: RankId(1 - host),
        local_ip: ip(host),
        peer_ip: ip(1 - host),
        peer_mac: [2, 0, 0, 0, 0, 1 - host as u8],
        local_qpn: QPN_FIRST + i,
        peer_qpn: QPN_FIRST + i,
        sport: 0xc000 + (i & 0x3fff) as u16,
        psn_first: 0,
        peer_psn_first: 0,
        class: ClassIx(0),
    };
    HostConfig {
        port: PortId(host),
        name: "p".into(),
        host: "h".into(),
        mac: [2, 0, 0, 0, 0, host as u8],
        rate: LINE,
        ranks: vec![RankAddr { rank: RankId(host), port: PortId(host), ip: ip(host) }],
        classes: Arc::from([class]),
        workloads: Arc::from([workload]),
        qps: (0..qps).map(qp).collect(),
        local_delivery: true,
        streams: Vec::new(),
        stream_to: Vec::new(),
        actions: Vec::new(),
        pfc_response: Span::ZERO,
        receive: None,
        seed: 1,
    }
}

/// Frames of one burst, the most a host gives at once.
const BURST: usize = 32;
/// Bursts between two looks at the clock: a look costs some 100 ns, and 128 frames stay in the first-level cache.
const BURSTS: usize = 4;

/// How many frames ahead of its turn a received frame is announced to its host.
const EXPECT_FRAMES: usize = 4;

/// CPU seconds of each part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// Data out of the sender.
    pub poll_tx: f64,
    /// Data into the receiver.
    pub on_frame: f64,
    /// ACKs out of the receiver and into the sender.
    pub acks: f64,
    /// Data frames that went through.
    pub frames: u64,
}

/// A sender and a receiver.
#[derive(Debug)]
pub struct Pair {
    hosts: [Host; 2],
    pool: BoxPool,
    now: Time,
    on_the_way: Vec<BoxFrame>,
}

impl Pair {
    /// Two hosts with `qps` queue pairs between them, each with 2 GiB to send, after every queue pair had its turns.
    pub fn new(qps: u32, rate_control: &RateControl) -> Pair {
        let mut hosts = [0, 1].map(|h| Host::new(config(h, qps, rate_control.clone())));
        hosts.iter_mut().for_each(|h| h.start_iteration(0, Time::ZERO));
        let pool = BoxPool::new(512, 512);
        let mut pair = Pair { hosts, pool, now: Time::ZERO, on_the_way: Vec::with_capacity(BURST * BURSTS) };
        pair.run(4 * u64::from(qps));
        pair
    }

    /// Sends at least `frames` data frames and acknowledges them.
    pub fn run(&mut self, frames: u64) -> Spent {
        let (mut data, mut acks) = (TxBatch::<BoxFrame>::new(), TxBatch::<BoxFrame>::new());
        let mut spent = Spent::default();
        let mut idle = 0;
        // Hosts that have nothing more to send end it.
        while spent.frames < frames && idle < 1_000 {
            let t0 = sys::cpu::thread_cpu_s();
            for _ in 0..BURSTS {
                self.now += BURST_TIME;
                self.hosts[0].poll_tx(self.now, BURST, &mut self.pool, &mut data, &mut NoRecord);
                self.on_the_way.extend(data.data.drain(..));
            }
            let t1 = sys::cpu::thread_cpu_s();
            idle = if self.on_the_way.is_empty() { idle + 1 } else { 0 };
            spent.frames += self.on_the_way.len() as u64;
            // As drivers do: a burst is at hand before its first frame is handled.
            for (i, f) in self.on_the_way.iter().enumerate() {
                if let Some(soon) = self.on_the_way.get(i + EXPECT_FRAMES) {
                    self.hosts[1].expect(soon);
                }
                self.hosts[1].on_frame(self.now, f, &mut NoRecord);
            }
            self.on_the_way.drain(..).for_each(|f| self.pool.give(f));
            let t2 = sys::cpu::thread_cpu_s();
            for _ in 0..BURSTS {
                self.hosts[1].poll_tx(self.now, BURST, &mut self.pool, &mut acks, &mut NoRecord);
                for (i, f) in acks.control.iter().enumerate() {
                    if let Some(soon) = acks.control.get(i + EXPECT_FRAMES) {
                        self.hosts[0].expect(soon);
                    }
                    self.hosts[0].on_frame(self.now, f, &mut NoRecord);
                }
                acks.control.drain(..).for_each(|f| self.pool.give(f));
            }
            let t3 = sys::cpu::thread_cpu_s();
            spent.poll_tx += t1 - t0;
            spent.on_frame += t2 - t1;
            spent.acks += t3 - t2;
        }
        spent
    }

    /// Data frames that were sent again: a measurement with any is one of timeouts too.
    pub fn retransmitted(&self) -> u64 {
        self.hosts.iter().map(|h| h.stats().retransmitted).sum()
    }
}

/// Queue pairs of each measurement, the fewest first.
const SIZES: [u32; 4] = [64, 1_024, 16_384, 65_536];
/// Slices of a round, of which the fastest counts: others on the machine slow some of them down.
const SLICES: usize = 5;
/// Data frames of a slice at least, and turns of each queue pair: queue pairs run in step, and one frame in 16 at least is
/// acknowledged, so that every slice has its share of ACKs.
const SLICE_FRAMES: u64 = 50_000;
const SLICE_TURNS: u64 = 16;

/// A part of the work and its nanoseconds per data frame.
type Part = (&'static str, fn(&Spent) -> f64);
const PARTS: [Part; 3] = [("poll_tx", |s| s.poll_tx), ("on_frame", |s| s.on_frame), ("acks", |s| s.acks)];

/// `host`: sending and receiving by the number of queue pairs, each beside the fewest. All sizes take turns slice by
/// slice, so that what disturbs one of them disturbs all, and their ratios are worth more than the figures.
pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let mut pairs = SIZES.map(|qps| Pair::new(qps, &RateControl::None));
    let mut rounds: [[Vec<f64>; PARTS.len()]; SIZES.len()] = Default::default();
    for _ in 0..ROUNDS {
        let mut best = [[f64::INFINITY; PARTS.len()]; SIZES.len()];
        for _ in 0..SLICES {
            for ((qps, pair), best) in SIZES.iter().zip(&mut pairs).zip(&mut best) {
                let spent = pair.run((SLICE_TURNS * u64::from(*qps)).max(SLICE_FRAMES));
                if spent.frames == 0 || pair.retransmitted() > 0 {
                    bail!("{qps} queue pairs: {} frames sent again: {spent:?}", pair.retransmitted());
                }
                for (best, (_, seconds)) in best.iter_mut().zip(PARTS) {
                    *best = best.min(seconds(&spent) * 1e9 / spent.frames as f64);
                }
            }
        }
        for (rounds, best) in rounds.iter_mut().flatten().zip(best.iter().flatten()) {
            rounds.push(*best);
        }
    }
    let rounds = rounds.map(|parts| parts.map(Rounds::from));
    let mut figures = Vec::new();
    for (qps, parts) in SIZES.iter().zip(&rounds) {
        for ((ours, few), (part, _)) in parts.iter().zip(&rounds[0]).zip(PARTS) {
            let peer = match qps {
                64 => Peer::Missing("no peer".into()),
                _ => Peer::measured("same, 64 queue pairs", few),
            };
            figures.push(Figure::new(format!("host/{part}-{qps}"), Unit::Nanoseconds, ours.clone(), peer));
        }
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_pair_of_the_fixture_sends_and_is_acknowledged() {
        let mut pair = Pair::new(64, &RateControl::None);
        let spent = pair.run(10_000);
        assert!(spent.frames >= 10_000 && spent.poll_tx > 0.0 && spent.on_frame > 0.0 && spent.acks > 0.0);
        let [sender, receiver] = pair.hosts.each_ref().map(|h| h.stats().clone());
        assert_eq!(sender.retransmitted, 0);
        assert!(receiver.rx_frames >= 10_000, "{receiver:?}");
        assert_eq!(pair.pool.in_use(), 0);
    }

    #[test]
    fn a_crowd_of_queue_pairs_does_not_time_itself_out() {
        // Each waits 11 ms for its next turn; 16 turns, after which an ACK would come anyway, are more than the ACK
        // timeout of 67 ms.
        let mut pair = Pair::new(32_768, &RateControl::None);
        let frames = 8 * 32_768;
        assert!(pair.run(frames).frames >= frames);
        assert_eq!(pair.retransmitted(), 0);
    }
}
