//! Checks a [`SwitchConfig`] and divides its buffer: reserved cells, headroom, pools.

use super::config::{IngressPool, Limit, PAUSE_QUANTA_MIN, PortProfile, PriorityConfig, SwitchConfig, Wred};
use crate::limits::{PRIORITIES, SWITCH_PORTS_MAX};
use crate::units::{Bytes, Span};

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
        "switch {switch}: reserved {reserved} + headroom {headroom} bytes over {ports} ports{pools} exceed the buffer of \
         {buffer} bytes; enlarge the buffer or lower `reserved` or `headroom`"
    )]
    BufferTooSmall {
        /// Switch name.
        switch: String,
        /// Sum of all reserved cells, in bytes.
        reserved: u64,
        /// Sum of all headroom cells, in bytes.
        headroom: u64,
        /// " and pools of N bytes" where pools have sizes of their own.
        pools: String,
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
        /// `alpha` or `egress alpha`.
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
    /// A pool that is not there.
    #[error("switch {switch}: priority {priority}: {field} {number} of {pools}; name a pool that is there")]
    Pool {
        /// Switch name.
        switch: String,
        /// Priority.
        priority: usize,
        /// `pool` or `egress_pool`.
        field: &'static str,
        /// Its number.
        number: u8,
        /// Pools there are.
        pools: usize,
    },
    /// Pools that cannot be laid out.
    #[error("switch {switch}: {text}")]
    Pools {
        /// Switch name.
        switch: String,
        /// What is wrong, and the fix.
        text: String,
    },
    /// A profile that is not there.
    #[error("switch {switch}: port {port} names profile {profile} of {profiles}; correct the port")]
    Profile {
        /// Switch name.
        switch: String,
        /// Port name.
        port: String,
        /// Its number.
        profile: u16,
        /// Profiles there are.
        profiles: usize,
    },
    /// A shaper that lets nothing through.
    #[error("switch {switch}: {place}: shaper of rate 0; give it a rate, or none for an unshaped {what}")]
    Shaper {
        /// Switch name.
        switch: String,
        /// "priority 3" or "a port".
        place: String,
        /// "queue" or "port".
        what: &'static str,
    },
    /// A watchdog that bites at once.
    #[error("switch {switch}: watchdog detect and restore must be above 0; 200 ms is usual")]
    Watchdog {
        /// Switch name.
        switch: String,
    },
    /// A traffic class with a group or queue that does not exist.
    #[error("switch {switch}: traffic class {class} maps to {what} {number}; use 0 to 7")]
    ClassMap {
        /// Switch name.
        switch: String,
        /// The traffic class.
        class: usize,
        /// `priority group` or `queue`.
        what: &'static str,
        /// Where it points.
        number: u8,
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
    /// A code point of a VLAN tag mapped to a priority that does not exist.
    #[error("switch {switch}: PCP {pcp} maps to priority {priority}; use 0 to 7")]
    PcpMap {
        /// Switch name.
        switch: String,
        /// The code point.
        pcp: usize,
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
    /// Headroom cells: of lossless priority groups, all ports, or of the shared headroom pools.
    pub headroom: u64,
    /// Shared cells, all ingress pools.
    pub shared: u64,
}

/// One ingress pool in cells, or its part in one slice of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolCells {
    /// What its groups share.
    pub shared: u64,
    /// What its headrooms may hold together; `None` = no shared headroom pool.
    pub headroom: Option<u64>,
}

impl SwitchConfig {
    /// Checks every field and divides the buffer. Reserved and headroom are rounded up to whole cells, the buffer and
    /// the pools down. A sliced buffer is divided slice by slice; groups reserve in each that they may use.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn validate(&self) -> Result<BufferCells, ConfigError> {
        Ok(self.divide()?.0)
    }

    /// As [`SwitchConfig::validate`], with every ingress pool by slice (index pool x slices + slice); there is at least one.
    ///
    /// # Errors
    /// The first [`ConfigError`] found.
    pub fn divide(&self) -> Result<(BufferCells, Vec<PoolCells>), ConfigError> {
        let switch = || self.name.clone();
        let ports = self.ports.len();
        if ports == 0 || ports > SWITCH_PORTS_MAX {
            return Err(ConfigError::Ports { switch: switch(), ports });
        }
        if let Some(p) = self.ports.iter().find(|p| p.egress.rate().bits_per_s == 0) {
            return Err(ConfigError::PortRate { switch: switch(), port: p.name.clone() });
        }
        let profiles = self.profiles.len();
        if let Some(p) = self.ports.iter().find(|p| usize::from(p.profile) >= profiles) {
            let (port, profile) = (p.name.clone(), p.profile);
            return Err(ConfigError::Profile { switch: switch(), port, profile, profiles });
        }
        if self.cell == 0 {
            return Err(ConfigError::Cell { switch: switch() });
        }
        let cell = u64::from(self.cell);
        let total = self.buffer.0 / cell;
        if total > 1 << 31 || self.buffer.0 > u64::from(u32::MAX) {
            return Err(ConfigError::BufferTooLarge { switch: switch(), buffer: self.buffer.0 });
        }
        for profile in &self.profiles {
            self.check_profile(profile)?;
        }
        if let Some((dscp, &priority)) =
            self.dscp_map.iter().enumerate().find(|&(_, &p)| usize::from(p) >= PRIORITIES)
        {
            return Err(ConfigError::DscpMap { switch: switch(), dscp, priority });
        }
        if let Some((pcp, &priority)) =
            self.pcp_map.iter().flatten().enumerate().find(|&(_, &p)| usize::from(p) >= PRIORITIES)
        {
            return Err(ConfigError::PcpMap { switch: switch(), pcp, priority });
        }
        for (what, map) in [("priority group", &self.maps.group), ("queue", &self.maps.queue)] {
            if let Some((class, &number)) =
                map.iter().enumerate().find(|&(_, &n)| usize::from(n) >= PRIORITIES)
            {
                return Err(ConfigError::ClassMap { switch: switch(), class, what, number });
            }
        }
        if self.pause_quanta < PAUSE_QUANTA_MIN && self.all_priorities().any(|p| p.lossless) {
            return Err(ConfigError::PauseQuanta { switch: switch(), quanta: self.pause_quanta });
        }
        self.egress_cells()?;
        self.ingress_cells(total)
    }

    /// Limits of every priority group, port by port.
    fn all_priorities(&self) -> impl Iterator<Item = &PriorityConfig> {
        (0..self.ports.len()).flat_map(|p| &self.of_port(p).priorities)
    }

    fn check_profile(&self, profile: &PortProfile) -> Result<(), ConfigError> {
        let switch = || self.name.clone();
        for (priority, p) in profile.priorities.iter().enumerate() {
            for (field, limit) in [("alpha", Some(p.limit)), ("egress alpha", p.egress_limit)] {
                if let Some(Limit::Dynamic(num, den)) = limit
                    && (num == 0 || den == 0)
                {
                    return Err(ConfigError::Alpha { switch: switch(), priority, field, num, den });
                }
            }
            let wrong = |w: &&Wred| w.kmin > w.kmax || !(0.0..=1.0).contains(&w.pmax);
            if let Some(w) = p.wred.iter().flatten().find(wrong) {
                let (kmin, kmax) = (w.kmin.0, w.kmax.0);
                return Err(ConfigError::Wred { switch: switch(), priority, kmin, kmax, pmax: w.pmax });
            }
            let pools = [
                ("pool", p.pool, self.ingress_pools.len().max(1)),
                ("egress_pool", p.egress_pool, self.egress_pools.len().max(1)),
            ];
            if let Some(&(field, number, pools)) = pools.iter().find(|(_, n, all)| usize::from(*n) >= *all) {
                return Err(ConfigError::Pool { switch: switch(), priority, field, number, pools });
            }
            if p.egress_reserved.0 > 0 && self.egress_pools.is_empty() {
                let text =
                    format!("priority {priority} reserves at egress, but there is no egress pool; add one");
                return Err(ConfigError::Pools { switch: switch(), text });
            }
            if p.shaper.is_some_and(|s| s.rate.bits_per_s == 0) {
                let place = format!("priority {priority}");
                return Err(ConfigError::Shaper { switch: switch(), place, what: "queue" });
            }
        }
        if profile.shaper.is_some_and(|s| s.rate.bits_per_s == 0) {
            return Err(ConfigError::Shaper { switch: switch(), place: "a port".into(), what: "port" });
        }
        if profile.watchdog.is_some_and(|w| w.detect == Span::ZERO || w.restore == Span::ZERO) {
            return Err(ConfigError::Watchdog { switch: switch() });
        }
        Ok(())
    }

    /// Shared cells of every egress pool, by slice: index pool x slices + slice.
    ///
    /// # Errors
    /// A pool whose queues reserve more than it has.
    pub(super) fn egress_cells(&self) -> Result<Vec<u64>, ConfigError> {
        let (cell, slices) = (u64::from(self.cell), self.slices.count());
        let mut all = Vec::with_capacity(self.egress_pools.len() * slices);
        for (i, pool) in self.egress_pools.iter().enumerate() {
            for slice in 0..slices {
                let ports =
                    (0..self.ports.len()).filter(|p| self.slices.holds_egress(slice, self.ports[*p].pipe));
                let mine = ports
                    .flat_map(|p| &self.of_port(p).priorities)
                    .filter(|p| usize::from(p.egress_pool) == i);
                let reserved: u64 = mine.map(|p| p.egress_reserved.0.div_ceil(cell)).sum();
                let size = pool.size.0 / cell / slices as u64;
                let Some(shared) = size.checked_sub(reserved) else {
                    let text = format!(
                        "egress pool {}: its queues reserve {} bytes of {}{}; enlarge it or lower what they reserve",
                        pool.name,
                        reserved * cell,
                        size * cell,
                        self.slice_text(),
                    );
                    return Err(ConfigError::Pools { switch: self.name.clone(), text });
                };
                all.push(shared);
            }
        }
        Ok(all)
    }

    /// " in each of 4 slices" of a sliced buffer.
    fn slice_text(&self) -> String {
        match self.slices.count() {
            1 => String::new(),
            n => format!(" in each of {n} slices"),
        }
    }

    fn ingress_cells(&self, total: u64) -> Result<(BufferCells, Vec<PoolCells>), ConfigError> {
        let (switch, cell) = (|| self.name.clone(), u64::from(self.cell));
        let one = [IngressPool { name: "shared".into(), shared: None, headroom: None }];
        let pools = if self.ingress_pools.is_empty() { &one[..] } else { &self.ingress_pools };
        if pools.iter().filter(|p| p.shared.is_none()).count() > 1 {
            let text = "two ingress pools want what the others leave; give all but one a size".into();
            return Err(ConfigError::Pools { switch: switch(), text });
        }
        let slices = self.slices.count();
        let part = |b: Bytes| b.0 / cell / slices as u64;
        let mut all = vec![PoolCells { shared: 0, headroom: None }; pools.len() * slices];
        let mut sums =
            BufferCells { total: total / slices as u64 * slices as u64, reserved: 0, headroom: 0, shared: 0 };
        for slice in 0..slices {
            let ports =
                (0..self.ports.len()).filter(|p| self.slices.holds_ingress(slice, self.ports[*p].pipe));
            let groups: Vec<&PriorityConfig> = ports.flat_map(|p| &self.of_port(p).priorities).collect();
            let reserved: u64 = groups.iter().map(|p| p.reserved.0.div_ceil(cell)).sum();
            let mut headroom = 0u64;
            for (i, pool) in pools.iter().enumerate() {
                let mine = groups.iter().filter(|p| usize::from(p.pool) == i);
                let own = || mine.map(|p| p.headroom().0.div_ceil(cell)).sum();
                headroom = headroom.saturating_add(pool.headroom.map_or_else(own, part));
            }
            let sized: u64 = pools.iter().filter_map(|p| p.shared).map(part).sum();
            let taken = reserved.saturating_add(headroom).saturating_add(sized);
            let Some(rest) = (total / slices as u64).checked_sub(taken).filter(|_| total > 0) else {
                let pools = match sized {
                    0 => String::new(),
                    n => format!(" and pools of {} bytes", n.saturating_mul(cell)),
                };
                return Err(ConfigError::BufferTooSmall {
                    switch: switch(),
                    reserved: reserved.saturating_mul(cell),
                    headroom: headroom.saturating_mul(cell),
                    pools: pools + &self.slice_text(),
                    ports: self.ports.len(),
                    buffer: self.buffer.0 / slices as u64,
                });
            };
            for (i, p) in pools.iter().enumerate() {
                let shared = p.shared.map_or(rest, part);
                all[i * slices + slice] = PoolCells { shared, headroom: p.headroom.map(part) };
                sums.shared += shared;
            }
            sums.reserved = sums.reserved.saturating_add(reserved);
            sums.headroom = sums.headroom.saturating_add(headroom);
        }
        Ok((sums, all))
    }

    /// Shared bytes of an ingress pool.
    ///
    /// # Errors
    /// As [`SwitchConfig::validate`].
    pub fn shared_size_of(&self, pool: u8) -> Result<Bytes, ConfigError> {
        let (pools, slices) = (self.divide()?.1, self.slices.count());
        let mine = pools.iter().skip(usize::from(pool) * slices).take(slices);
        Ok(Bytes(mine.map(|p| p.shared).sum::<u64>() * u64::from(self.cell)))
    }

    /// Shared bytes of an ingress pool in one slice of the buffer, as the dynamic threshold of a group sees them.
    ///
    /// # Errors
    /// As [`SwitchConfig::validate`].
    pub fn shared_size_in(&self, pool: u8, slice: usize) -> Result<Bytes, ConfigError> {
        let pools = self.divide()?.1;
        let cells = pools.get(usize::from(pool) * self.slices.count() + slice).map_or(0, |p| p.shared);
        Ok(Bytes(cells * u64::from(self.cell)))
    }

    /// Bytes of all shared pools.
    ///
    /// # Errors
    /// As [`SwitchConfig::validate`].
    pub fn shared_size(&self) -> Result<Bytes, ConfigError> {
        Ok(Bytes(self.validate()?.shared * u64::from(self.cell)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::config::Wred;
    use crate::switch::testing::config;

    #[test]
    fn the_buffer_is_divided_in_cells() {
        // 800G, 5 m line of SONiC's pg_profile_lookup on Tomahawk 5: 8636 B = 34 cells, xoff 724662 B = 2853 cells.
        let mut c = config(2, 1000);
        c.cell = 254;
        c.buffer = Bytes(254 * 10_000 + 253);
        c.profiles[0].priorities[3].reserved = Bytes(8636);
        c.profiles[0].priorities[3].headroom = Bytes(724_662);
        let cells = c.validate().unwrap();
        assert_eq!(cells, BufferCells { total: 10_000, reserved: 68, headroom: 5706, shared: 4226 });
        c.profiles[0].priorities[3].lossless = false;
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
        assert!(
            refused(|c| c.profiles[0].priorities[2].limit = Limit::Dynamic(1, 0))
                .contains("priority 2: alpha is 1/0")
        );
        assert!(refused(|c| c.dscp_map[26] = 8).contains("dscp 26"));
        assert!(refused(|c| c.pause_quanta = 2).contains("pause_quanta 2"));
        let wred = |c: &mut SwitchConfig| {
            c.profiles[0].priorities[3].wred[0] =
                Some(Wred { kmin: Bytes(2), kmax: Bytes(1), pmax: 0.1, ecn: true });
        };
        assert!(refused(wred).contains("kmin <= kmax"));
    }
}
