//! The embedded switch by itself: one frame in and out. Also the fixture of `benches/switch.rs`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, anyhow, bail};

use super::{Figure, Peer, Unit, per_call};
use crate::frame::boxed::{BoxFrame, BoxPool};
use crate::frame::{Fill, Frame, FramePool, flags};
use crate::limits::PRIORITIES;
use crate::measure::record::NoRecord;
use crate::switch::config::{
    COLORS, ClassMaps, Color, FlowControl, Limit, LoadBalance, MarkAt, PriorityConfig, Slices, SwitchConfig,
    SwitchPortConfig, Wred,
};
use crate::switch::{AddressMap, Admit, Routes, Switch};
use crate::units::{Bytes, FrameLen, LinkTiming, PortId, Rate, Span, Time};

/// Ports of the switch, each with one frame per round.
pub const PORTS: u16 = 64;

/// IPv4, UDP to 4791, WRITE middle with 4096 bytes.
const HEAD: [u8; 54] = [
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, // Ethernet
    0x45, 0x6a, 0x10, 0x2c, 0, 0, 0x40, 0, 64, 17, 0, 0, 198, 18, 0, 1, 198, 18, 0, 2, // IPv4
    0xc0, 0, 0x12, 0xb7, 0x10, 0x18, 0, 0, // UDP
    7, 0, 0xff, 0xff, 0, 0, 0, 17, 0, 0, 0, 1, // BTH
];

/// A switch of [`PORTS`] ports through which frames go round.
#[derive(Debug)]
pub struct Crossing {
    switch: Switch<BoxFrame>,
    pool: BoxPool,
    /// Frames are read as on their first hop; else they come with what the first switch has read.
    first_hop: bool,
}

impl Crossing {
    /// A switch where `waiting` frames stand at every port, so that one frame in lets the oldest out.
    ///
    /// # Errors
    /// The switch refuses a frame, or its configuration.
    pub fn new(waiting: u32, first_hop: bool) -> anyhow::Result<Crossing> {
        let routes = Routes { ports_to: (0..PORTS).map(|p| [p].into()).collect() };
        let address = |p: u16| (IpAddr::V4(Ipv4Addr::new(198, 18, 0, p as u8)), PortId(p.into()));
        let addresses = AddressMap::new((0..PORTS).map(address));
        let switch = Switch::new(config(), 0, &routes, addresses).map_err(|e| anyhow!("{e}"))?;
        let mut crossing = Crossing { switch, pool: BoxPool::new(1 << 16, 1 << 16), first_hop };
        for _ in 0..waiting {
            for p in 0..PORTS {
                crossing.enter(p)?;
            }
        }
        Ok(crossing)
    }

    /// One frame in at every port, for its neighbour; then one frame out at every port.
    ///
    /// # Errors
    /// The switch did not queue a frame.
    pub fn round(&mut self) -> anyhow::Result<()> {
        for p in 0..PORTS {
            self.enter(p)?;
            black_box(self.switch.poll_wake());
        }
        for p in 0..PORTS {
            if let Some(frame) = self.switch.depart(Time::ZERO, p, &mut self.pool, &mut NoRecord) {
                self.pool.give(frame);
            }
        }
        Ok(())
    }

    #[inline]
    fn enter(&mut self, ingress: u16) -> anyhow::Result<()> {
        let dst = (ingress + 1) % PORTS;
        let mut frame = self.pool.take(Fill::Const, FrameLen(4154)).context("no frame left in the pool")?;
        if self.first_hop {
            frame.head_mut()[..HEAD.len()].copy_from_slice(&HEAD);
            frame.head_mut()[33] = dst as u8;
        } else {
            let meta = frame.meta_mut();
            (meta.dst, meta.priority, meta.flags) = (u32::from(dst), 3, flags::PARSED);
            meta.ttl = 64;
        }
        match self.switch.on_frame(Time::ZERO, ingress, frame, &mut NoRecord) {
            Admit::Queued => Ok(()),
            _ => bail!("the switch did not queue a frame"),
        }
    }
}

fn config() -> SwitchConfig {
    let wred = Wred { kmin: Bytes(1 << 20), kmax: Bytes(2 << 20), pmax: 0.05, ecn: true };
    let priority = |p: usize| PriorityConfig {
        lossless: p == 3,
        limit: Limit::Dynamic(1, 8),
        headroom: Bytes(117_348),
        xon_offset: Bytes(18_432),
        wred: [Some(wred); COLORS],
        ..PriorityConfig::default()
    };
    let port = |p: u16| SwitchPortConfig {
        name: format!("Ethernet{p}"),
        egress: LinkTiming::new(Rate::gbps(100), Span::ZERO),
        mac: [2, 0, 0, 0, 0, p as u8],
        profile: 0,
        pipe: 0,
    };
    SwitchConfig {
        name: "bench".into(),
        ports: (0..PORTS).map(port).collect(),
        buffer: Bytes(64 << 20),
        cell: 254,
        profiles: vec![std::array::from_fn::<_, PRIORITIES, _>(priority).into()],
        ingress_pools: Vec::new(),
        egress_pools: Vec::new(),
        dscp_map: [3; 64],
        pcp_map: None,
        dscp_color: [Color::Green; 64],
        maps: ClassMaps::default(),
        slices: Slices::Whole,
        balance: LoadBalance::Ecmp,
        hash_dest_qp: false,
        hash_seed: 1,
        pause_quanta: 0xffff,
        mark_at: MarkAt::Dequeue,
        flow_control: FlowControl::Pfc,
        cut_through: false,
        seed: 1,
    }
}

/// `switch`: one hop, and what reading the head on the first hop and a standing queue add to it.
pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let cost = |waiting, first_hop| -> anyhow::Result<super::Rounds> {
        let mut crossing = Crossing::new(waiting, first_hop)?;
        let mut refused = None;
        let frames = u64::from(PORTS);
        let rounds = per_call(4_000, |_| refused = crossing.round().err().or(refused.take()));
        match refused {
            Some(e) => Err(e),
            None => Ok(super::Rounds::from(rounds.0.iter().map(|ns| ns / frames as f64).collect())),
        }
    };
    let (empty, queued, read) = (cost(0, false)?, cost(16, false)?, cost(16, true)?);
    let beside_empty = Peer::measured("same, queues empty", &empty);
    let beside_later = Peer::measured("same, later hop", &queued);
    let line = |name: &str, ours, peer| Figure::new(name, Unit::Nanoseconds, ours, peer);
    Ok(vec![
        line("switch/empty", empty, Peer::Missing("no peer".into())),
        line("switch/16-waiting", queued, beside_empty),
        line("switch/16-waiting-first-hop", read, beside_later),
    ])
}
