//! What an embedded switch is told: plain types, filled in by the profile.

use serde::Serialize;

pub use super::division::{BufferCells, ConfigError, PoolCells};
use crate::limits::PRIORITIES;
use crate::units::{Bytes, FRAME_LEN_MIN, LinkTiming, Rate, Span};

/// The frame check sequence, which buffers and byte counters include and [`crate::units::FrameLen`] does not.
pub const FCS_BYTES: u16 = 4;

/// A shared-buffer switch. Field names follow SAI/SONiC where one exists.
#[derive(Clone, Debug)]
pub struct SwitchConfig {
    /// Name in reports.
    pub name: String,
    /// One entry per port.
    pub ports: Vec<SwitchPortConfig>,
    /// Packet buffer, all of it: reserved, headroom and shared.
    pub buffer: Bytes,
    /// Cell size: a frame of n bytes (with FCS) holds ceil(n / cell) cells.
    pub cell: u16,
    /// How the buffer is sliced.
    pub slices: Slices,
    /// What ports may use: every port names one of these, so ports with equal settings share one. The first is that
    /// of ports nobody spoke of.
    pub profiles: Vec<PortProfile>,
    /// Ingress pools: which part of the buffer priority groups share. Empty = one pool of all that is left.
    pub ingress_pools: Vec<IngressPool>,
    /// Egress pools: what the queues together may hold. Empty = limits of queues act on the ingress pool.
    pub egress_pools: Vec<EgressPool>,
    /// DSCP to traffic class.
    pub dscp_map: [u8; 64],
    /// PCP of a VLAN tag to traffic class; `None` = tags are not trusted. Untagged frames go by `dscp_map`.
    pub pcp_map: Option<[u8; PRIORITIES]>,
    /// DSCP to the colour that WRED asks for.
    pub dscp_color: [Color; 64],
    /// Traffic class to priority group and queue.
    pub maps: ClassMaps,
    /// How equal-cost paths are chosen.
    pub balance: LoadBalance,
    /// The ECMP hash reads the destination queue pair too. The first switch of a path hashes for all of them.
    pub hash_dest_qp: bool,
    /// Seed of the ECMP hash, one per switch against polarisation.
    pub hash_seed: u64,
    /// Quanta of the XOFF frames this switch sends; refreshed at half the pause.
    pub pause_quanta: u16,
    /// Where WRED looks at the queue.
    pub mark_at: MarkAt,
    /// How the switch asks its neighbours to stop.
    pub flow_control: FlowControl,
    /// Forwards a frame as soon as its header is there, see [`SwitchConfig::cuts_through`].
    pub cut_through: bool,
    /// Seed of the run, for WRED's coin.
    pub seed: u64,
}

/// One port of a switch.
#[derive(Clone, Debug)]
pub struct SwitchPortConfig {
    /// Name in reports, the switch's own language ("Ethernet0").
    pub name: String,
    /// The directed link that leaves by this port.
    pub egress: LinkTiming,
    /// MAC address, source of the PFC frames this port sends.
    pub mac: [u8; 6],
    /// Its place in [`SwitchConfig::profiles`].
    pub profile: u16,
    /// Its pipe, from 0, of [`Slices::pipes`]; without meaning where the buffer is whole.
    pub pipe: u8,
}

/// Whether the packet buffer is one memory or several that share nothing: which one holds a frame follows from the pipes
/// of its ports. Each slice has its part of every pool; what a group reserves, and its headroom, it has in every slice it
/// may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Slices {
    /// One memory.
    #[default]
    Whole,
    /// Four, as in Tomahawk 1 and 2: pipes 0 and 3, or 1 and 2, at ingress, by pipes 0 and 1, or 2 and 3, at egress (the
    /// crosspoint elements, XPE, of the vendor's public SDK: soc/esw/tomahawk.c, tomahawk2.c).
    Crosspoints,
    /// Two, as in Tomahawk 3 and later: pipes 0, 1, 6 and 7, or 2 to 5, at ingress, whatever they leave by (the ITMs of the
    /// vendor's public SDK: soc/esw/tomahawk3.c). That Tomahawk 4 and 5 have two is seen from published thresholds; which of
    /// their pipes share one is not public, and taken as in Tomahawk 3.
    Itms,
}

impl Slices {
    /// Pipes of a chip whose buffer is sliced so; 1 where it is whole.
    pub fn pipes(self) -> u8 {
        match self {
            Slices::Whole => 1,
            Slices::Crosspoints => 4,
            Slices::Itms => 8,
        }
    }
    /// log2 of the number of slices.
    pub fn bits(self) -> u32 {
        match self {
            Slices::Whole => 0,
            Slices::Crosspoints => 2,
            Slices::Itms => 1,
        }
    }
    /// Slices there are.
    pub fn count(self) -> usize {
        1 << self.bits()
    }
    /// The slice of what comes in by one pipe and leaves by another.
    pub fn of_pipes(self, ingress: u8, egress: u8) -> usize {
        match self {
            Slices::Whole => 0,
            Slices::Crosspoints => {
                2 * usize::from(matches!(ingress & 3, 1 | 2)) + usize::from(egress & 3 >= 2)
            }
            Slices::Itms => usize::from(matches!(ingress & 7, 2..=5)),
        }
    }
    /// True when what comes in by this pipe may be held in this slice.
    pub fn holds_ingress(self, slice: usize, pipe: u8) -> bool {
        (0..self.pipes()).any(|egress| self.of_pipes(pipe, egress) == slice)
    }
    /// True when what leaves by this pipe may be held in this slice.
    pub fn holds_egress(self, slice: usize, pipe: u8) -> bool {
        (0..self.pipes()).any(|ingress| self.of_pipes(ingress, pipe) == slice)
    }
}

/// The priority group and the queue of every traffic class (SAI: TC_TO_PRIORITY_GROUP, TC_TO_QUEUE), each from 0 to 7. PFC
/// knows a traffic class by its own number: an XOFF of a group names all classes that feed it, and a pause of a class stops
/// its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClassMaps {
    /// Priority group by traffic class.
    pub group: [u8; PRIORITIES],
    /// Queue by traffic class.
    pub queue: [u8; PRIORITIES],
}

impl Default for ClassMaps {
    /// One number for all three.
    fn default() -> ClassMaps {
        let same = std::array::from_fn(|class| class as u8);
        ClassMaps { group: same, queue: same }
    }
}

impl ClassMaps {
    /// Priority group of a traffic class.
    pub fn group_of(&self, class: u8) -> usize {
        usize::from(self.group[usize::from(class) % PRIORITIES]) % PRIORITIES
    }
    /// Queue of a traffic class.
    pub fn queue_of(&self, class: u8) -> usize {
        usize::from(self.queue[usize::from(class) % PRIORITIES]) % PRIORITIES
    }
    /// Traffic classes that feed a group, a bit each.
    pub fn into_group(&self, group: usize) -> u8 {
        (0..PRIORITIES as u8).filter(|c| self.group_of(*c) == group).fold(0, |bits, c| bits | 1 << c)
    }
    /// Traffic classes that wait in a queue, a bit each.
    pub fn into_queue(&self, queue: usize) -> u8 {
        (0..PRIORITIES as u8).filter(|c| self.queue_of(*c) == queue).fold(0, |bits, c| bits | 1 << c)
    }
    /// Queues in which frames of lossless groups wait, a bit each.
    pub fn lossless_queues(&self, profile: &PortProfile) -> u8 {
        let lossless = |c: &u8| profile.priorities[self.group_of(*c)].lossless;
        (0..PRIORITIES as u8).filter(lossless).fold(0, |bits, c| bits | 1 << self.queue_of(c))
    }
}

/// Colour of a frame (RFC 2697, SAI: DSCP_TO_COLOR): which of three curves WRED goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Color {
    /// Within its contract; what nobody coloured is green.
    #[default]
    Green = 0,
    /// Beyond the committed rate.
    Yellow = 1,
    /// Beyond the excess rate too.
    Red = 2,
}

/// Colours there are.
pub const COLORS: usize = 3;

/// What a port may use; equal for all ports that name it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortProfile {
    /// What the priority group of this number and the queue of this number may use.
    pub priorities: [PriorityConfig; PRIORITIES],
    /// Rate of the whole port, if a shaper holds it below its link's.
    pub shaper: Option<Shaper>,
    /// PFC watchdog.
    pub watchdog: Option<Watchdog>,
}

/// A token bucket. Bytes count as on the wire, preamble and gap included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shaper {
    /// Rate in the long run (`pir` in SONiC).
    pub rate: Rate,
    /// Bytes that may leave at once after a silence (`pbs`); one frame may always leave.
    pub burst: Bytes,
}

/// PFC watchdog of a port (SONiC: PFC_WD). It guards the lossless queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Watchdog {
    /// A queue is stuck when it was paused with frames waiting for this long without a break.
    pub detect: Span,
    /// Without a pause for this long, all is as before.
    pub restore: Span,
    /// What happens to a stuck queue.
    pub action: WatchdogAction,
}

/// What a PFC watchdog does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchdogAction {
    /// The queue's frames are dropped, and so is what comes in by the same port and priority.
    Drop,
    /// The queue sends in spite of the pause.
    Forward,
    /// It is counted.
    Alert,
}

/// Who stops when a switch asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowControl {
    /// Priorities (IEEE 802.1Qbb).
    Pfc,
    /// The whole link (IEEE 802.3 annex 31B).
    Global,
}

/// A limit of shared cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// alpha x (pool - its use) with alpha = first / second.
    Dynamic(u32, u32),
    /// Bytes (`static_th` in SONiC).
    Static(Bytes),
    /// The pool alone limits.
    Pool,
}

/// A pool of ingress cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IngressPool {
    /// Name in reports.
    pub name: String,
    /// Bytes that its groups share; `None` for one pool at most: what the others leave of the buffer.
    pub shared: Option<Bytes>,
    /// Shared headroom pool: what the headrooms of its groups may hold together (`xoff` of the pool in SONiC);
    /// `None` = each has all of its own.
    pub headroom: Option<Bytes>,
}

/// A pool of egress cells. It is a second view of the same buffer, not memory of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EgressPool {
    /// Name in reports.
    pub name: String,
    /// Bytes, those that its queues reserve included.
    pub size: Bytes,
}

/// Buffer of the priority group, and buffer and scheduling of the queue, of one number. [`ClassMaps`] says which traffic
/// classes they hold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PriorityConfig {
    /// PFC is on for the group: XOFF at the threshold, headroom behind it. Otherwise frames over the threshold are dropped.
    pub lossless: bool,
    /// Ingress pool of the priority group.
    pub pool: u8,
    /// Limit of shared cells of the priority group.
    pub limit: Limit,
    /// Reserved (minimum) bytes of each priority group.
    pub reserved: Bytes,
    /// Headroom of each priority group (`xoff` in SONiC); counted for lossless groups only.
    pub headroom: Bytes,
    /// XON when shared use is this far below the threshold...
    pub xon_offset: Bytes,
    /// ... or no more than this, whatever the threshold (`xon` in SONiC).
    pub xon: Bytes,
    /// Egress pool of the queue.
    pub egress_pool: u8,
    /// Limit of each egress queue; `None` for lossy ones without egress pools: `limit`, else: the pool alone. A lossless
    /// frame over it is lost.
    pub egress_limit: Option<Limit>,
    /// Reserved bytes of each egress queue; needs egress pools.
    pub egress_reserved: Bytes,
    /// ECN marking (or dropping of frames that are not ECN capable) in the queue, by [`Color`].
    pub wred: [Option<Wred>; COLORS],
    /// Scheduling weight; 0 = strict, before all weighted ones (higher priority first).
    pub weight: u16,
    /// Rate of the queue, if a shaper holds it.
    pub shaper: Option<Shaper>,
}

/// Lossy with alpha 1, nothing reserved, unmarked, weight 1.
const PLAIN: PriorityConfig = PriorityConfig {
    lossless: false,
    pool: 0,
    limit: Limit::Dynamic(1, 1),
    reserved: Bytes(0),
    headroom: Bytes(0),
    xon_offset: Bytes(0),
    xon: Bytes(0),
    egress_pool: 0,
    egress_limit: None,
    egress_reserved: Bytes(0),
    wred: [None; COLORS],
    weight: 1,
    shaper: None,
};
static NO_PROFILE: PortProfile =
    PortProfile { priorities: [PLAIN; PRIORITIES], shaper: None, watchdog: None };

impl Default for PriorityConfig {
    /// Lossy with alpha 1, nothing reserved, unmarked, weight 1.
    fn default() -> PriorityConfig {
        PLAIN
    }
}

impl From<[PriorityConfig; PRIORITIES]> for PortProfile {
    fn from(priorities: [PriorityConfig; PRIORITIES]) -> PortProfile {
        PortProfile { priorities, shaper: None, watchdog: None }
    }
}

/// A curve of WRED: 0 below kmin, a ramp to pmax at kmax, certain above. On the instantaneous egress queue, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Wred {
    /// Nothing is marked below.
    pub kmin: Bytes,
    /// Everything is marked above.
    pub kmax: Bytes,
    /// Probability at kmax, 0..=1.
    pub pmax: f64,
    /// ECN-capable frames are marked; otherwise they are dropped like all others.
    pub ecn: bool,
}

/// Where the queue is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkAt {
    /// When a frame joins the queue.
    Enqueue,
    /// When a frame leaves, on what is left behind it (Broadcom, HPCC).
    Dequeue,
}

/// Choice among equal-cost ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadBalance {
    /// Hash of addresses, protocol and UDP ports.
    Ecmp,
    /// By ingress port number: collision-free when every host sends one flow.
    Pinned,
    /// Round-robin per frame (needs a receiver that tolerates reordering).
    Spray,
    /// A port drawn anew whenever the flow was silent for a gap (Vanini et al., LetFlow, NSDI 2017).
    Flowlet {
        /// Silence.
        gap: Span,
    },
    /// The port with the least to send, chosen whenever the flow was silent for a gap; with a gap of 0 for every frame
    /// (which needs a receiver that tolerates reordering).
    Adaptive {
        /// Silence.
        gap: Span,
    },
}

/// Fixed delay inside a switch before a frame is admitted, and of FEC on each link; part of a link's propagation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FixedDelays {
    /// Ingress pipeline of the switch.
    pub pipeline: Span,
    /// FEC decoding at the receiving end.
    pub fec: Span,
}

/// Smallest pause a switch may ask for: below it, half a pause is shorter than the PFC frame that refreshes it
/// (84 bytes on the wire are 1.3 quanta).
pub const PAUSE_QUANTA_MIN: u16 = 3;

impl PriorityConfig {
    /// The curve of green frames: what nobody coloured.
    pub fn green(&self) -> Option<Wred> {
        self.wred[Color::Green as usize]
    }
    /// Headroom of one priority group; zero when the group is lossy.
    pub fn headroom(&self) -> Bytes {
        if self.lossless { self.headroom } else { Bytes(0) }
    }
}

impl SwitchConfig {
    /// What the priorities of a port may use; those of the first profile when there is no such port.
    pub fn of_port(&self, port: usize) -> &PortProfile {
        let named = self.ports.get(port).and_then(|p| self.profiles.get(usize::from(p.profile)));
        named.unwrap_or_else(|| self.first())
    }

    /// What the priority group of a traffic class may use at a port.
    pub fn group_of(&self, port: usize, class: u8) -> &PriorityConfig {
        &self.of_port(port).priorities[self.maps.group_of(class)]
    }

    /// What the queue of a traffic class may use at a port.
    pub fn queue_of(&self, port: usize, class: u8) -> &PriorityConfig {
        &self.of_port(port).priorities[self.maps.queue_of(class)]
    }

    /// The slice of the buffer that holds what comes in by one port and leaves by another.
    pub fn slice_of(&self, ingress: usize, egress: usize) -> usize {
        let pipe = |port: usize| self.ports.get(port).map_or(0, |p| p.pipe);
        self.slices.of_pipes(pipe(ingress), pipe(egress))
    }

    /// The profile of ports nobody spoke of.
    pub fn first(&self) -> &PortProfile {
        self.profiles.first().unwrap_or(&NO_PROFILE)
    }

    /// The number of this profile, which is added unless there is an equal one.
    pub fn profile(&mut self, profile: PortProfile) -> u16 {
        let at = self.profiles.iter().position(|p| *p == profile).unwrap_or_else(|| {
            self.profiles.push(profile);
            self.profiles.len() - 1
        });
        u16::try_from(at).unwrap_or(u16::MAX)
    }

    /// True when frames that come in by `port` are forwarded before their end is there: the switch cuts through and
    /// no port is faster than this one, so that no egress can run out of bits in the middle of a frame.
    pub fn cuts_through(&self, port: usize) -> bool {
        let rate = |p: &SwitchPortConfig| p.egress.rate();
        let own = self.ports.get(port).map(rate);
        self.cut_through && own.is_some() && own >= self.ports.iter().map(rate).max()
    }
}

/// Most frames the buffer of `config` can hold: its cells over those of the shortest frame. Sizes slabs and pools.
pub fn buffer_frames_max(config: &SwitchConfig) -> usize {
    let cell = u64::from(config.cell.max(1));
    let shortest = u64::from(FRAME_LEN_MIN + FCS_BYTES).div_ceil(cell);
    usize::try_from(config.buffer.0 / cell / shortest).unwrap_or(usize::MAX)
}
