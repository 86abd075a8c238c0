//! Pools of the database, in the cells that the groups and queues of a run share.

use super::asic::{Guaranteed, PoolSize};
use super::database::{Database, Row, SonicError, refuse};
use super::groups::Threshold;
use super::model::{Guarded, Run};
use super::notes::Notes;
use crate::limits::PRIORITIES;
use crate::switch::config::{IngressPool, Limit};
use crate::units::Bytes;

/// Largest size that is read, bytes.
const BYTES_MOST: u64 = u32::MAX as u64;

/// An egress pool: what its queues share beside what each reserves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedEgress {
    /// Its name.
    pub name: String,
    /// Bytes that no queue has reserved.
    pub shared: Bytes,
}

/// The pools that the run's ports use.
#[derive(Clone, Debug, Default)]
pub(super) struct Pools {
    /// The first is that of the lossless groups. `shared` is `None` when the profile gives the buffer.
    pub ingress: Vec<IngressPool>,
    /// `size` of each ingress pool as the database has it.
    sizes: Vec<Option<u64>>,
    /// Empty when one of them has no size.
    pub egress: Vec<SharedEgress>,
    egress_sizes: Vec<u64>,
    /// Slices of the buffer: a limit holds in each.
    slices: u64,
}

impl Pools {
    /// Number of an ingress pool; a group without one has the first.
    pub fn ingress_of(&self, name: Option<&str>) -> usize {
        self.ingress.iter().position(|p| Some(p.name.as_str()) == name).unwrap_or(0)
    }
    /// Number of an egress pool; a queue without one has the last, which never limits.
    pub fn egress_of(&self, name: Option<&str>) -> usize {
        let at = self.egress.iter().position(|p| Some(p.name.as_str()) == name);
        at.unwrap_or(self.egress.len().saturating_sub(1))
    }
    /// A threshold on an ingress pool.
    pub fn limit(&self, pool: usize, t: Threshold) -> Limit {
        limit(t, self.sizes.get(pool).copied().flatten().map(|s| s / self.slices))
    }
    /// A threshold on an egress pool.
    pub fn egress_limit(&self, pool: usize, t: Threshold) -> Limit {
        limit(t, self.egress_sizes.get(pool).map(|s| s / self.slices))
    }
}

/// A static limit of at least the pool limits nothing.
fn limit(t: Threshold, size: Option<u64>) -> Limit {
    match t {
        Threshold::Dynamic(x) if x < 0 => Limit::Dynamic(1, 1 << -x),
        Threshold::Dynamic(x) => Limit::Dynamic(1 << x, 1),
        Threshold::Static(b) if size.is_some_and(|size| b >= size && size > 0) => Limit::Pool,
        Threshold::Static(b) => Limit::Static(Bytes(b)),
    }
}

impl Run<'_> {
    /// All pools that the ports of the run use.
    pub(super) fn pools(
        &self,
        guarded: &Guarded<'_>,
        used: &[&str],
        notes: &mut Notes,
    ) -> Result<Pools, SonicError> {
        let mut pools = Pools { slices: self.slices.count() as u64, ..Pools::default() };
        let (first, row) = self.first_pool(guarded, used)?;
        let mut all = vec![(first.to_owned(), row)];
        for (port, flags) in guarded.iter().filter(|(p, _)| used.contains(p)) {
            for name in self.groups(port, *flags)?.into_iter().flatten().filter_map(|g| g.pool) {
                match self.db.rows("BUFFER_POOL").find(|(key, _)| *key == name) {
                    Some((_, row)) if all.iter().all(|(n, _)| *n != name) => all.push((name, row)),
                    _ => {}
                }
            }
        }
        if self.wanted.buffer.is_some() && all.len() > 1 {
            let names: Vec<&str> = all.iter().skip(1).map(|(n, _)| n.as_str()).collect();
            notes.not_modelled(format!(
                "ingress pools beside {first} ({}): the profile gives the buffer, which is one pool",
                names.join(", ")
            ));
            all.truncate(1);
        }
        for (i, (name, row)) in all.iter().enumerate() {
            let size = row.number("size", BYTES_MOST)?;
            let given = row.number("xoff", BYTES_MOST)?.filter(|x| *x > 0);
            let headroom = match given {
                Some(xoff) => Some(xoff),
                None if i == 0 => self.by_ratio(guarded, notes)?,
                None => None,
            };
            let shared = match (self.wanted.buffer, size) {
                (Some(_), _) => None,
                (None, Some(size)) => {
                    let cells =
                        self.ingress_cells(guarded, used, (name, row), size, headroom, i == 0, notes)?;
                    Some(Bytes(cells * u64::from(self.cell)))
                }
                (None, None) => {
                    return refuse(
                        row.place(),
                        "has no size (the dynamic buffer model computes it at run time); give [switch] buffer, or add \
                         the size that the running switch shows",
                    );
                }
            };
            pools.ingress.push(IngressPool { name: name.clone(), shared, headroom: headroom.map(Bytes) });
            pools.sizes.push(size);
        }
        self.egress_pools(guarded, used, &mut pools, notes)?;
        Ok(pools)
    }

    /// The pool of the first lossless group of the run, or else the first ingress pool.
    fn first_pool(&self, guarded: &Guarded<'_>, used: &[&str]) -> Result<(&str, &Row), SonicError> {
        let mut name = None;
        for (port, flags) in guarded.iter().filter(|(p, _)| used.contains(p)) {
            for (group, _) in self.groups(port, *flags)?.iter().zip(flags).filter(|(_, on)| **on) {
                name = name.or_else(|| group.as_ref().and_then(|g| g.pool.clone()));
            }
        }
        let ingress = |(_, row): &(&str, &Row)| row.text("type") == Some("ingress");
        let wanted = name.as_deref().unwrap_or("ingress_lossless_pool");
        let found = self.db.rows("BUFFER_POOL").find(|(key, _)| *key == wanted);
        match found.or_else(|| self.db.rows("BUFFER_POOL").find(ingress)) {
            Some(found) => Ok(found),
            None => refuse(
                format!("{}: BUFFER_POOL", self.db.name()),
                "has no ingress pool; give the buffer rendering too: config = [\"buffers.json\", \"qos.json\"]",
            ),
        }
    }

    /// A shared headroom pool that SONiC sizes itself: all headroom over the over-subscribe ratio.
    fn by_ratio(&self, guarded: &Guarded<'_>, notes: &mut Notes) -> Result<Option<u64>, SonicError> {
        let row = self.db.rows("DEFAULT_LOSSLESS_BUFFER_PARAMETER").next();
        let ratio = row.map_or(Ok(None), |(_, r)| r.number("over_subscribe_ratio", 1_000))?;
        let Some(ratio) = ratio.filter(|r| *r > 0) else { return Ok(None) };
        let mut all = 0;
        for (port, flags) in guarded {
            let Ok(groups) = self.groups(port, *flags) else { continue };
            let lossless = groups.iter().zip(flags).filter(|(_, on)| **on);
            all += lossless.filter_map(|(g, _)| g.as_ref().and_then(|g| g.xoff)).sum::<u64>();
        }
        notes.assumed(format!(
            "shared headroom pool of {} B: the headroom of all ports, {all} B, over over_subscribe_ratio {ratio}",
            all / ratio
        ));
        Ok(Some(all / ratio))
    }

    /// Cells of an ingress pool that are shared when every port of the switch has what the database gives it.
    #[allow(clippy::too_many_arguments)]
    fn ingress_cells(
        &self,
        guarded: &Guarded<'_>,
        used: &[&str],
        (name, row): (&str, &Row),
        size: u64,
        headroom: Option<u64>,
        first: bool,
        notes: &mut Notes,
    ) -> Result<u64, SonicError> {
        let cell = u64::from(self.cell);
        let mut taken = 0u64;
        let mut largest = 0;
        for (port, _) in guarded {
            largest = self.reserved_queues(port)?.into_iter().fold(largest, u64::max);
        }
        for (port, flags) in guarded {
            match self.groups(port, *flags) {
                Ok(groups) => {
                    for (group, lossless) in groups.iter().zip(flags) {
                        let mine = |pool: Option<&str>| pool.map_or(first, |p| p == name);
                        let Some(g) = group.as_ref().filter(|g| mine(g.pool.as_deref())) else { continue };
                        let own = g.xoff.filter(|_| *lossless && headroom.is_none()).unwrap_or(0);
                        taken += g.reserved.div_ceil(cell) + own.div_ceil(cell);
                    }
                    if first && flags.contains(&true) {
                        taken += self.queues(port, largest)?;
                    }
                }
                Err(e) if used.contains(port) => return Err(e),
                Err(e) => notes.outside(port, &e),
            }
        }
        let total = size / cell;
        taken += headroom.unwrap_or(0) / cell;
        match self.pool_size() {
            PoolSize::SharedOnly => Ok(total),
            PoolSize::Whole if taken < total || (taken == 0 && !first) => Ok(total - taken),
            PoolSize::Whole => refuse(
                row.at("size"),
                format!(
                    "{size} bytes are less than the {} that all ports reserve; give [switch] buffer",
                    taken * cell
                ),
            ),
        }
    }

    /// Cells of a pool that the queues of a port have for themselves; `largest`: most that any queue reserves.
    fn queues(&self, port: &str, largest: u64) -> Result<u64, SonicError> {
        match self.guaranteed {
            Guaranteed::Bound => self.reserved_queues(port).map(|all| all.iter().sum()),
            Guaranteed::Nothing => Ok(0),
            Guaranteed::Queues(n) => Ok(n * largest),
        }
    }

    /// Cells that each queue of a port reserves.
    fn reserved_queues(&self, port: &str) -> Result<[u64; PRIORITIES], SonicError> {
        let mut all = [0; PRIORITIES];
        for (queue, cells) in all.iter_mut().enumerate() {
            let group = self.bindings.egress(port, queue)?;
            *cells = group.map_or(0, |g| g.reserved.div_ceil(self.cell.into()));
        }
        Ok(all)
    }

    fn egress_pools(
        &self,
        guarded: &Guarded<'_>,
        used: &[&str],
        pools: &mut Pools,
        notes: &mut Notes,
    ) -> Result<(), SonicError> {
        let cell = u64::from(self.cell);
        let mut names: Vec<String> = Vec::new();
        let mut unbound = false;
        for queue in used.iter().flat_map(|port| (0..8).map(move |q| (port, q))) {
            match self.bindings.egress(queue.0, queue.1)?.and_then(|g| g.pool) {
                Some(name) if !names.contains(&name) => names.push(name),
                Some(_) => {}
                None => unbound = true,
            }
        }
        for name in names {
            let size = match self.db.get("BUFFER_POOL", &name) {
                Some(row) => row.number("size", BYTES_MOST)?,
                None => None,
            };
            let Some(size) = size else {
                notes.not_modelled(format!(
                    "egress pool {name}: it has no size; limits of lossy queues act on what the ingress pool has free, \
                     and lossless queues have none"
                ));
                (pools.egress, pools.egress_sizes) = (Vec::new(), Vec::new());
                return Ok(());
            };
            let mut reserved = 0;
            for queue in guarded.iter().flat_map(|(port, _)| (0..8).map(move |q| (port, q))) {
                let group = self.bindings.egress(queue.0, queue.1)?;
                let mine = group.filter(|g| g.pool.as_deref() == Some(&name));
                reserved += mine.map_or(0, |g| g.reserved.div_ceil(cell));
            }
            // One as large as all that the groups share is the same memory seen from the other side.
            let most = pools.ingress.first().and_then(|p| p.shared).map_or(u64::MAX, |s| s.0 / cell);
            let cells = match self.pool_size() {
                PoolSize::SharedOnly => size / cell,
                PoolSize::Whole if size / cell >= most => most,
                PoolSize::Whole => (size / cell).saturating_sub(reserved),
            };
            pools.egress.push(SharedEgress { name, shared: Bytes(cells * cell) });
            pools.egress_sizes.push(size);
        }
        if unbound && !pools.egress.is_empty() {
            pools.egress.push(SharedEgress { name: "(no profile)".into(), shared: Bytes(BYTES_MOST) });
            pools.egress_sizes.push(BYTES_MOST);
        }
        Ok(())
    }
}

/// True when a queue's limit is one that can be reached before the pool's end.
pub(super) fn binds(limit: Limit) -> bool {
    match limit {
        Limit::Dynamic(num, den) => num < 128 * den,
        Limit::Static(_) => true,
        Limit::Pool => false,
    }
}

/// The watchdog of a port (PFC_WD), if it has one.
pub(super) fn watchdog_row<'d>(db: &'d Database, port: &str) -> Option<&'d Row> {
    let listed = |key: &str| key.split(',').any(|name| name.trim() == port);
    db.rows("PFC_WD").find(|(key, _)| listed(key)).map(|(_, row)| row)
}
