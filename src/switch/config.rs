//! What an embedded switch is told: plain types, filled in by the profile.

use serde::Serialize;

use crate::limits::{PRIORITIES, SWITCH_PORTS_MAX};
use crate::units::{Bytes, FRAME_LEN_MIN, LinkTiming, Span};

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
    /// Per priority: what its priority groups and queues may use.
    pub priorities: [PriorityConfig; PRIORITIES],
    /// DSCP to priority (traffic class, priority group and queue are one number, as in SONiC's AZURE maps).
    pub dscp_map: [u8; 64],
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
}

/// Buffer and scheduling of one priority, on every port.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PriorityConfig {
    /// PFC is on: XOFF at the threshold, headroom behind it. Otherwise frames over the threshold are dropped.
    pub lossless: bool,
    /// alpha = numerator / denominator of the dynamic threshold `alpha x (shared size - shared used)`.
    pub alpha: (u32, u32),
    /// Reserved (minimum) bytes of each priority group.
    pub reserved: Bytes,
    /// Headroom of each priority group (`xoff` in SONiC); counted for lossless priorities only.
    pub headroom: Bytes,
    /// XON when shared use is this far below the threshold.
    pub xon_offset: Bytes,
    /// Lossy priorities: limit of each egress queue as alpha over the free shared buffer; `None` = the group's own.
    pub egress_alpha: Option<(u32, u32)>,
    /// ECN marking (or dropping of frames that are not ECN capable).
    pub wred: Option<Wred>,
    /// Scheduling weight; 0 = strict, before all weighted ones (higher priority first).
    pub weight: u16,
}

/// WRED: 0 below kmin, a ramp to pmax at kmax, certain above. On the instantaneous egress queue, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Wred {
    /// Nothing is marked below.
    pub kmin: Bytes,
    /// Everything is marked above.
    pub kmax: Bytes,
    /// Probability at kmax, 0..=1.
    pub pmax: f64,
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

/// Why a switch cannot be built. Each message names the field and the fix.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Port count out of range.
    #[error("switch {switch}: {ports} ports; give it 1 to {max}", max = SWITCH_PORTS_MAX)]
    Ports {
        /// Switch name.
        switch: String,
        /// Ports asked for.
        ports: usize,
    },
    /// A port without a rate.
    #[error("switch {switch}: port {port} has rate 0; set its rate")]
    PortRate {
        /// Switch name.
        switch: String,
        /// Port name.
        port: String,
    },
    /// Cell size zero.
    #[error("switch {switch}: cell is 0 bytes; set it to the ASIC's cell size (Tomahawk 3-5: 254)")]
    Cell {
        /// Switch name.
        switch: String,
    },
    /// More than the accounting can count: deep buffers in external memory are not modelled.
    #[error("switch {switch}: buffer of {buffer} bytes; at most 2^31 cells and 4 GiB are modelled, use less")]
    BufferTooLarge {
        /// Switch name.
        switch: String,
        /// Configured buffer.
        buffer: u64,
    },
    /// Nothing left for the shared pool.
    #[error(
        "switch {switch}: reserved {reserved} + headroom {headroom} bytes over {ports} ports exceed the buffer of \
         {buffer} bytes; enlarge the buffer or lower `reserved` or `headroom`"
    )]
    BufferTooSmall {
        /// Switch name.
        switch: String,
        /// Sum of all reserved cells, in bytes.
        reserved: u64,
        /// Sum of all headroom cells, in bytes.
        headroom: u64,
        /// Ports.
        ports: usize,
        /// Configured buffer.
        buffer: u64,
    },
    /// An alpha that is zero or not a number.
    #[error("switch {switch}: priority {priority}: {field} is {num}/{den}; both must be at least 1")]
    Alpha {
        /// Switch name.
        switch: String,
        /// Priority.
        priority: usize,
        /// `alpha` or `egress_alpha`.
        field: &'static str,
        /// Numerator.
        num: u32,
        /// Denominator.
        den: u32,
    },
    /// WRED thresholds or probability out of order.
    #[error(
        "switch {switch}: priority {priority}: wred kmin {kmin}, kmax {kmax}, pmax {pmax}: needs kmin <= kmax \
         and pmax within 0..=1"
    )]
    Wred {
        /// Switch name.
        switch: String,
        /// Priority.
        priority: usize,
        /// Lower threshold, bytes.
        kmin: u64,
        /// Upper threshold, bytes.
        kmax: u64,
        /// Probability at kmax.
        pmax: f64,
    },
    /// A DSCP mapped to a priority that does not exist.
    #[error("switch {switch}: dscp {dscp} maps to priority {priority}; use 0 to 7")]
    DscpMap {
        /// Switch name.
        switch: String,
        /// The code point.
        dscp: usize,
        /// Where it points.
        priority: u8,
    },
    /// A route to a port that does not exist.
    #[error(
        "switch {switch}: route to endpoint {endpoint} uses port {port} of {ports}; correct the topology"
    )]
    Route {
        /// Switch name.
        switch: String,
        /// Endpoint.
        endpoint: usize,
        /// Port that is not there.
        port: u16,
        /// Ports of the switch.
        ports: usize,
    },
    /// A pause too short to refresh.
    #[error(
        "switch {switch}: pause_quanta {quanta} is shorter than the PFC frame that would refresh it; \
         use at least {min} (65535 is usual)", min = PAUSE_QUANTA_MIN
    )]
    PauseQuanta {
        /// Switch name.
        switch: String,
        /// Configured quanta.
        quanta: u16,
    },
}

/// The buffer of a switch in cells, as [`SwitchConfig::validate`] divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferCells {
    /// All cells.
    pub total: u64,
    /// Cells reserved for priority groups, all ports.
    pub reserved: u64,
    /// Headroom cells of lossless priority groups, all ports.
    pub headroom: u64,
    /// What is left: the shared pool.
    pub shared: u64,
}

impl SwitchConfig {
    /// Checks every field and divides the buffer. Reserved and headroom are rounded up to whole cells, the buffer
    /// down.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn validate(&self) -> Result<BufferCells, ConfigError> {
        let switch = || self.name.clone();
        let ports = self.ports.len();
        if ports == 0 || ports > SWITCH_PORTS_MAX {
            return Err(ConfigError::Ports { switch: switch(), ports });
        }
        if let Some(p) = self.ports.iter().find(|p| p.egress.rate().bits_per_s == 0) {
            return Err(ConfigError::PortRate { switch: switch(), port: p.name.clone() });
        }
        if self.cell == 0 {
            return Err(ConfigError::Cell { switch: switch() });
        }
        let cell = u64::from(self.cell);
        let total = self.buffer.0 / cell;
        if total > 1 << 31 || self.buffer.0 > u64::from(u32::MAX) {
            return Err(ConfigError::BufferTooLarge { switch: switch(), buffer: self.buffer.0 });
        }
        for (priority, p) in self.priorities.iter().enumerate() {
            let alphas = [("alpha", Some(p.alpha)), ("egress_alpha", p.egress_alpha)];
            for (field, alpha) in alphas {
                if let Some((num, den)) = alpha.filter(|a| a.0 == 0 || a.1 == 0) {
                    return Err(ConfigError::Alpha { switch: switch(), priority, field, num, den });
                }
            }
            if let Some(w) = p.wred.filter(|w| w.kmin > w.kmax || !(0.0..=1.0).contains(&w.pmax)) {
                let (kmin, kmax) = (w.kmin.0, w.kmax.0);
                return Err(ConfigError::Wred { switch: switch(), priority, kmin, kmax, pmax: w.pmax });
            }
        }
        if let Some((dscp, &priority)) =
            self.dscp_map.iter().enumerate().find(|&(_, &p)| usize::from(p) >= PRIORITIES)
        {
            return Err(ConfigError::DscpMap { switch: switch(), dscp, priority });
        }
        if self.pause_quanta < PAUSE_QUANTA_MIN && self.priorities.iter().any(|p| p.lossless) {
            return Err(ConfigError::PauseQuanta { switch: switch(), quanta: self.pause_quanta });
        }
        let per_port = |f: fn(&PriorityConfig) -> Bytes| {
            let cells: u64 = self.priorities.iter().map(|p| f(p).0.div_ceil(cell)).sum();
            cells.saturating_mul(ports as u64)
        };
        let reserved = per_port(|p| p.reserved);
        let headroom = per_port(PriorityConfig::headroom);
        match total.checked_sub(reserved.saturating_add(headroom)).filter(|_| total > 0) {
            Some(shared) => Ok(BufferCells { total, reserved, headroom, shared }),
            None => Err(ConfigError::BufferTooSmall {
                switch: switch(),
                reserved: reserved.saturating_mul(cell),
                headroom: headroom.saturating_mul(cell),
                ports,
                buffer: self.buffer.0,
            }),
        }
    }

    /// Bytes of the shared pool, as the dynamic threshold sees it.
    ///
    /// # Errors
    /// As [`SwitchConfig::validate`].
    pub fn shared_size(&self) -> Result<Bytes, ConfigError> {
        Ok(Bytes(self.validate()?.shared * u64::from(self.cell)))
    }
}

impl PriorityConfig {
    /// Headroom of one priority group; zero when the priority is lossy.
    pub fn headroom(&self) -> Bytes {
        if self.lossless { self.headroom } else { Bytes(0) }
    }
}

/// Most frames the buffer of `config` can hold: its cells over those of the shortest frame. Sizes slabs and pools.
pub fn buffer_frames_max(config: &SwitchConfig) -> usize {
    let cell = u64::from(config.cell.max(1));
    let shortest = u64::from(FRAME_LEN_MIN + FCS_BYTES).div_ceil(cell);
    usize::try_from(config.buffer.0 / cell / shortest).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::testing::config;

    #[test]
    fn the_buffer_is_divided_in_cells() {
        // 800G, 5 m line of SONiC's pg_profile_lookup on Tomahawk 5: 8636 B = 34 cells, xoff 724662 B = 2853 cells.
        let mut c = config(2, 1000);
        c.cell = 254;
        c.buffer = Bytes(254 * 10_000 + 253);
        c.priorities[3].reserved = Bytes(8636);
        c.priorities[3].headroom = Bytes(724_662);
        let cells = c.validate().unwrap();
        assert_eq!(cells, BufferCells { total: 10_000, reserved: 68, headroom: 5706, shared: 4226 });
        c.priorities[3].lossless = false;
        assert_eq!(c.validate().unwrap().headroom, 0, "headroom counts for lossless priorities only");
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_place() {
        let refused = |change: fn(&mut SwitchConfig)| {
            let mut c = config(4, 1000);
            change(&mut c);
            c.validate().unwrap_err().to_string()
        };
        assert!(refused(|c| c.ports.clear()).contains("0 ports"));
        assert!(refused(|c| c.cell = 0).contains("cell is 0"));
        assert!(refused(|c| c.buffer = Bytes(1)).contains("enlarge the buffer"));
        assert!(refused(|c| c.buffer = Bytes(8 << 30)).contains("at most 2^31 cells and 4 GiB"));
        assert!(refused(|c| c.priorities[2].alpha = (1, 0)).contains("priority 2: alpha is 1/0"));
        assert!(refused(|c| c.dscp_map[26] = 8).contains("dscp 26"));
        assert!(refused(|c| c.pause_quanta = 2).contains("pause_quanta 2"));
        let wred = |c: &mut SwitchConfig| {
            c.priorities[3].wred = Some(Wred { kmin: Bytes(2), kmax: Bytes(1), pmax: 0.1 });
        };
        assert!(refused(wred).contains("kmin <= kmax"));
    }
}
