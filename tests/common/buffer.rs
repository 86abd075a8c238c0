//! A switch whose buffer a test fills cell by cell while nothing leaves, as sonic-mgmt's QoS tests fill a real one.
#![allow(clippy::print_stderr, clippy::unwrap_used)] // says why tests are skipped

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rankstorm::frame::boxed::{BoxFrame, BoxPool};
use rankstorm::frame::{Fill, Frame, FramePool, flags};
use rankstorm::measure::record::NoRecord;
use rankstorm::switch::config::{EgressPool, IngressPool, Limit, PriorityConfig, SwitchConfig};
use rankstorm::switch::{AddressMap, Admit, Routes, Switch};
use rankstorm::units::{Bytes, FrameLen, Time};

use super::plan_of;

/// alpha = 2^x, as `dynamic_th` of SONiC means it.
pub fn dynamic_th(x: i32) -> Limit {
    Limit::Dynamic(1 << x.max(0), 1 << (-x).max(0))
}

/// Cells of a switch's pools.
#[derive(Clone, Copy, Default)]
pub struct Pools {
    /// What the priority groups share.
    pub shared: u64,
    /// What their headrooms may hold together; `None` = each has all of its own.
    pub headroom: Option<u64>,
    /// What the queues share; `None` = no egress pool.
    pub egress: Option<u64>,
}

/// Frames of one cell go from any ingress port to the last port, which sends only when asked.
pub struct Buffer {
    switch: Switch<BoxFrame>,
    frames: BoxPool,
    egress: u16,
}

impl Buffer {
    /// `ports` ports that send to one more, all with the limits of `priorities`.
    pub fn new(ports: u16, cell: u16, priorities: [PriorityConfig; 8], pools: Pools) -> Buffer {
        let text = format!(
            "[[stream]]\nfrom = 0\nto = 1\nframes = 1\n[class.roce]\ndscp = 3\n[switch]\ncell = {cell}\n\
             ports = {{ count = {}, rate = \"100G\", cable = \"5 m\" }}\n",
            ports + 1
        );
        let mut c = plan_of(&text, &[]).fabric.switches[0].clone();
        c.profiles.iter_mut().for_each(|p| p.priorities = priorities);
        let (ports, cell) = (u64::from(ports) + 1, u64::from(cell));
        let bytes = |cells: u64| Bytes(cells * cell);
        let cells = |own: fn(&PriorityConfig) -> u64| -> u64 {
            ports * priorities.iter().map(|p| own(p).div_ceil(cell)).sum::<u64>()
        };
        let headroom = pools.headroom.unwrap_or_else(|| cells(|p| p.headroom.0));
        c.buffer = bytes(pools.shared + cells(|p| p.reserved.0) + headroom);
        let headroom = pools.headroom.map(bytes);
        c.ingress_pools =
            vec![IngressPool { name: "in".into(), shared: Some(bytes(pools.shared)), headroom }];
        let size = |shared: u64| bytes(shared + cells(|p| p.egress_reserved.0));
        c.egress_pools =
            pools.egress.map(|s| EgressPool { name: "out".into(), size: size(s) }).into_iter().collect();
        Buffer::of(c)
    }

    /// A switch as a plan has it.
    pub fn of(config: SwitchConfig) -> Buffer {
        let ports = config.ports.len() as u16;
        let routes = Routes { ports_to: (0..ports).map(|p| Arc::from([p])).collect() };
        let switch = Switch::new(config, 0, &routes, AddressMap::default()).unwrap();
        Buffer { switch, frames: BoxPool::new(0, 1 << 20), egress: ports - 1 }
    }

    /// Offers a frame of one cell; false when it was lost.
    pub fn offer(&mut self, ingress: u16, priority: u8) -> bool {
        let mut f = self.frames.take(Fill::Const, FrameLen(80)).unwrap();
        f.head_mut()[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x02]);
        let meta = f.meta_mut();
        (meta.dst, meta.priority, meta.flags) = (u32::from(self.egress), priority, flags::PARSED);
        (meta.head_len, meta.ttl) = (54, 64);
        match self.switch.on_frame(Time::ZERO, ingress, f, &mut NoRecord) {
            Admit::Queued => true,
            Admit::Dropped(_, f) | Admit::Consumed(f) => {
                self.frames.give(f);
                false
            }
        }
    }

    /// Lets one frame leave.
    pub fn depart(&mut self) {
        let f = self.switch.depart(Time::ZERO, self.egress, &mut self.frames, &mut NoRecord).unwrap();
        self.frames.give(f);
    }

    /// True while the priority group asks for a pause.
    pub fn is_xoff(&self, ingress: u16, priority: u8) -> bool {
        self.switch.mmu().is_xoff(usize::from(ingress) * 8 + usize::from(priority))
    }

    /// Fills a group until it asks for a pause: frames taken.
    pub fn fill(&mut self, ingress: u16, priority: u8) -> u64 {
        let mut taken = 0;
        while !self.is_xoff(ingress, priority) {
            assert!(self.offer(ingress, priority), "lost before XOFF, after {taken}");
            taken += 1;
        }
        taken
    }

    /// Frames taken until one is lost.
    pub fn overflow(&mut self, ingress: u16, priority: u8) -> u64 {
        let mut taken = 0;
        while self.offer(ingress, priority) {
            taken += 1;
        }
        taken
    }
}

/// Frames of one cell taken until a lone group of `pool` cells asks for a pause, and until one is lost.
pub fn trigger_and_drop(group: PriorityConfig, pool: u64, cell: u16) -> (u64, u64) {
    let mut priorities = [PriorityConfig::default(); 8];
    priorities[3] =
        PriorityConfig { pool: 0, egress_pool: 0, egress_limit: None, egress_reserved: Bytes(0), ..group };
    let mut b = Buffer::new(1, cell, priorities, Pools { shared: pool, ..Pools::default() });
    let trigger = b.fill(0, 3);
    (trigger, trigger + b.overflow(0, 3))
}

/// A folder of SONiC's files, or `None` with a line that says so.
pub fn sonic_files() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = ["../shared/data/sonic", "../../shared/data/sonic"].map(|p| root.join(p));
    let found = found.into_iter().find(|p| p.is_dir());
    if found.is_none() {
        eprintln!("SKIPPED: no real SONiC files at ../shared/data/sonic");
    }
    found
}
