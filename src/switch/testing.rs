//! Switches and frames for tests.

use std::sync::Arc;

use super::config::{
    ClassMaps, Color, FlowControl, LoadBalance, MarkAt, PriorityConfig, Slices, SwitchConfig,
    SwitchPortConfig,
};
use super::{AddressMap, Admit, Routes, Switch};
use crate::frame::boxed::{BoxFrame, BoxPool};
use crate::frame::{Fill, Frame, FramePool, flags};
use crate::limits::PRIORITIES;
use crate::measure::record::{DropReason, NoRecord};
use crate::units::{Bytes, FrameLen, LinkTiming, Rate, Span, Time};
use crate::wire::pfc::PfcFrame;

/// A switch of `ports` 100G ports, `cells` cells of 254 bytes, priorities 3 and 4 lossless with alpha 1 and no
/// headroom, all others lossy with alpha 1, DWRR with equal weights.
pub fn config(ports: usize, cells: u64) -> SwitchConfig {
    let priority = |p: usize| PriorityConfig { lossless: p == 3 || p == 4, ..PriorityConfig::default() };
    let port = |p: usize| SwitchPortConfig {
        name: format!("Ethernet{p}"),
        egress: LinkTiming::new(Rate::gbps(100), Span::ZERO),
        mac: [2, 0, 0, 0, 0, p as u8],
        profile: 0,
        pipe: 0,
    };
    SwitchConfig {
        name: "dut".into(),
        ports: (0..ports).map(port).collect(),
        buffer: Bytes(254 * cells),
        cell: 254,
        profiles: vec![std::array::from_fn::<_, PRIORITIES, _>(priority).into()],
        ingress_pools: Vec::new(),
        egress_pools: Vec::new(),
        dscp_map: std::array::from_fn(|dscp| (dscp % 8) as u8),
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

/// A switch on its own with a pool beside it: endpoint e is behind port e.
pub struct Bench {
    pub switch: Switch<BoxFrame>,
    pub pool: BoxPool,
}

impl Bench {
    pub fn new(config: SwitchConfig) -> Bench {
        let routes = Routes { ports_to: (0..config.ports.len() as u16).map(|p| Arc::from([p])).collect() };
        let switch = Switch::new(config, 0, &routes, AddressMap::default()).unwrap();
        Bench { switch, pool: BoxPool::new(0, 1 << 20) }
    }

    /// An IPv4 frame with ECT(0), as if an earlier switch had read its headers.
    pub fn frame(&mut self, dst: u32, priority: u8, len: u16) -> BoxFrame {
        let mut f = self.pool.take(Fill::Const, FrameLen(len)).unwrap();
        f.head_mut()[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x02]);
        let meta = f.meta_mut();
        (meta.dst, meta.priority, meta.flags, meta.head_len) = (dst, priority, flags::PARSED, 54);
        meta.ttl = 64;
        f
    }

    /// Offers one frame; the reason when it was dropped.
    pub fn offer(&mut self, now: Time, ingress: u16, dst: u32, priority: u8, len: u16) -> Option<DropReason> {
        let frame = self.frame(dst, priority, len);
        match self.switch.on_frame(now, ingress, frame, &mut NoRecord) {
            Admit::Queued => None,
            Admit::Dropped(reason, frame) => {
                self.pool.give(frame);
                Some(reason)
            }
            Admit::Consumed(_) => panic!("a data frame was consumed"),
        }
    }

    /// A frame of exactly one cell (254 bytes with FCS) of priority `priority` to endpoint `dst`.
    pub fn offer_cell(&mut self, ingress: u16, dst: u32, priority: u8) -> Option<DropReason> {
        self.offer(Time::ZERO, ingress, dst, priority, 250)
    }

    /// A PFC frame arrives at `port`.
    pub fn pause(&mut self, now: Time, port: u16, priority: u8, quanta: u16) {
        let mut f = self.pool.take(Fill::Control, FrameLen(60)).unwrap();
        super::headers::write_pfc(&mut f, [2; 6], &PfcFrame::one(priority, quanta));
        match self.switch.on_frame(now, port, f, &mut NoRecord) {
            Admit::Consumed(f) => self.pool.give(f),
            other => panic!("a PFC frame was not consumed: {other:?}"),
        }
    }

    /// Lets one frame leave: its priority, or what its PFC frame says.
    pub fn depart(&mut self, now: Time, port: u16) -> Option<Left> {
        let f = self.switch.depart(now, port, &mut self.pool, &mut NoRecord)?;
        let left = Left::of(&f);
        self.pool.give(f);
        Some(left)
    }

    /// True when this port wants to send a PFC frame; does not send it.
    pub fn is_xoff(&self, port: u16, priority: u8) -> bool {
        self.switch.mmu().is_xoff(super::slot(port, priority))
    }
}

/// What left a port.
#[derive(Debug, PartialEq, Eq)]
pub enum Left {
    Data { priority: u8, ce: bool, len: u16 },
    Pfc(PfcFrame),
}

impl Left {
    pub fn of(f: &BoxFrame) -> Left {
        match PfcFrame::parse(f.head(), f.len()) {
            Some(pfc) => Left::Pfc(pfc),
            None => Left::Data {
                priority: f.meta().priority,
                ce: f.meta().flags & flags::CE != 0,
                len: f.len().0,
            },
        }
    }
}
