//! Where a frame goes: address to endpoint, endpoint to equal-cost ports, one of them.

use std::net::IpAddr;
use std::sync::Arc;

use super::balance::{Flowlets, least_loaded};
use super::config::LoadBalance;
use crate::rng::mix;
use crate::units::{PortId, Span, Time};
use crate::wire::fast::IpKey;

/// Entry of a dense table that belongs to nobody.
const NONE: u32 = u32::MAX;

/// Destination addresses and the endpoints behind them; built once, shared by all switches of a run.
///
/// One look-up is an array access while the addresses of a family lie close together (an address plan usually
/// numbers its ranks through one prefix), a binary search otherwise.
#[derive(Clone, Debug, Default)]
pub struct AddressMap(Arc<Tables>);

#[derive(Debug, Default)]
struct Tables {
    v4: Table,
    v6: Table,
}

#[derive(Debug)]
enum Table {
    Dense { first: u128, endpoints: Vec<u32> },
    Sorted(Vec<(u128, u32)>),
}

impl Default for Table {
    fn default() -> Table {
        Table::Sorted(Vec::new())
    }
}

impl Table {
    fn new(mut rows: Vec<(u128, u32)>) -> Table {
        rows.sort_by_key(|r| r.0);
        rows.dedup_by_key(|r| r.0);
        let (Some(&(first, _)), Some(&(last, _))) = (rows.first(), rows.last()) else {
            return Table::default();
        };
        // Worth its memory up to four words per address and one page more.
        let span = last - first;
        if span >= (rows.len() * 4 + 1024) as u128 {
            return Table::Sorted(rows);
        }
        let mut endpoints = vec![NONE; span as usize + 1];
        for (address, endpoint) in rows {
            endpoints[(address - first) as usize] = endpoint;
        }
        Table::Dense { first, endpoints }
    }

    #[inline]
    fn get(&self, address: u128) -> Option<u32> {
        match self {
            Table::Dense { first, endpoints } => {
                let offset = usize::try_from(address.wrapping_sub(*first)).ok()?;
                endpoints.get(offset).copied().filter(|&e| e != NONE)
            }
            Table::Sorted(rows) => {
                rows.binary_search_by_key(&address, |r| r.0).ok().and_then(|i| rows.get(i)).map(|r| r.1)
            }
        }
    }
}

impl AddressMap {
    /// A map of all addresses of a run. Of an address given twice the first entry counts.
    pub fn new(addresses: impl IntoIterator<Item = (IpAddr, PortId)>) -> AddressMap {
        let rows = addresses.into_iter().map(|(ip, endpoint)| (IpKey::from(ip).0, endpoint.0));
        let (v4, v6) = rows.partition(|&(key, _)| is_v4(key));
        AddressMap(Arc::new(Tables { v4: Table::new(v4), v6: Table::new(v6) }))
    }

    /// The endpoint behind an address. Cost: one load where the family's addresses are dense.
    #[inline]
    pub fn get(&self, ip: IpKey) -> Option<PortId> {
        let table = if is_v4(ip.0) { &self.0.v4 } else { &self.0.v6 };
        table.get(ip.0).map(PortId)
    }
}

/// True for the keys of IPv4 addresses (`::ffff:a.b.c.d`).
#[inline]
fn is_v4(key: u128) -> bool {
    key >> 32 == 0xffff
}

/// Next hops of one switch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Per endpoint: candidate ports, in port order. Endpoints reached by the same ports share one list.
    pub ports_to: Vec<Arc<[u16]>>,
}

/// Which of `n` equal-cost ports a frame with `hash` takes at a switch whose ECMP seed is `seed`. 0 when `n` is 0.
/// Switches with different seeds choose independently of each other (no polarisation).
#[inline]
pub fn ecmp_index(hash: u32, seed: u64, n: usize) -> usize {
    let h = mix(u64::from(hash) ^ seed) >> 32;
    ((h * n as u64) >> 32) as usize
}

/// The entropy of a flow with its destination queue pair mixed in, for switches that hash it too.
#[inline]
pub fn with_dest_qp(hash: u32, dest_qp: u32) -> u32 {
    (mix(u64::from(hash) | u64::from(dest_qp) << 32) >> 32) as u32
}

/// Candidates of one endpoint: `ports[first..first + n]`; the first of them beside, for the common single path.
#[derive(Clone, Copy, Debug)]
struct Row {
    first: u32,
    n: u16,
    port: u16,
}

/// [`Routes`] in the form the packet path wants: shared candidate lists in one array.
#[derive(Debug)]
pub struct Router {
    rows: Vec<Row>,
    ports: Vec<u16>,
    /// Round-robin position of each candidate list, at the list's first index.
    spray: Vec<u16>,
    balance: LoadBalance,
    /// Of a balance that remembers.
    flowlets: Option<Flowlets>,
    seed: u64,
}

/// What a choice may depend on besides the routes.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// The time.
    pub now: Time,
    /// Entropy of the frame's headers.
    pub hash: u32,
    /// Port it came in by.
    pub ingress: u16,
}

impl Router {
    /// The router of one switch.
    pub fn new(routes: &Routes, balance: LoadBalance, seed: u64) -> Router {
        let mut lists: Vec<(&[u16], u32)> = Vec::new();
        let mut ports = Vec::new();
        let mut rows = Vec::with_capacity(routes.ports_to.len());
        for to in &routes.ports_to {
            let to: &[u16] = to;
            let first = match lists.iter().rev().find(|(list, _)| *list == to) {
                Some(&(_, first)) => first,
                None => {
                    let first = ports.len() as u32;
                    ports.extend_from_slice(to);
                    lists.push((to, first));
                    first
                }
            };
            let n = u16::try_from(to.len()).unwrap_or(u16::MAX);
            rows.push(Row { first, n, port: to.first().copied().unwrap_or(0) });
        }
        let spray = vec![0; ports.len() + 1];
        let flowlets = match balance {
            LoadBalance::Flowlet { gap } => Some(gap),
            LoadBalance::Adaptive { gap } => Some(gap).filter(|g| *g > Span::ZERO),
            _ => None,
        };
        Router { rows, ports, spray, balance, flowlets: flowlets.map(Flowlets::new), seed }
    }

    /// How it chooses.
    pub(super) fn balance(&self) -> LoadBalance {
        self.balance
    }
    /// With which seed.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// The egress port of one frame; `None` without a route. `load` says how long a port has to send what waits
    /// there; it is asked by an adaptive balance only.
    #[inline]
    pub fn egress(&mut self, endpoint: u32, by: Choice, load: impl FnMut(u16) -> u64) -> Option<u16> {
        let row = *self.rows.get(endpoint as usize)?;
        let n = usize::from(row.n);
        if n <= 1 {
            return (n == 1).then_some(row.port);
        }
        let choice = match self.balance {
            LoadBalance::Ecmp => ecmp_index(by.hash, self.seed, n),
            LoadBalance::Pinned => usize::from(by.ingress) % n,
            LoadBalance::Spray => {
                let next = &mut self.spray[row.first as usize];
                let now = *next;
                *next = if now + 1 >= row.n { 0 } else { now + 1 };
                usize::from(now)
            }
            LoadBalance::Flowlet { .. } | LoadBalance::Adaptive { .. } => self.remembered(row, by, load),
        };
        self.ports.get(row.first as usize + choice).copied()
    }

    /// The port that a frame will take where no memory decides; for prefetching.
    #[inline]
    pub fn likely(&self, endpoint: u32, by: Choice) -> Option<u16> {
        let row = self.rows.get(endpoint as usize)?;
        match (row.n, self.balance) {
            (1, _) => Some(row.port),
            (n, LoadBalance::Ecmp) if n > 1 => {
                let choice = ecmp_index(by.hash, self.seed, usize::from(n));
                self.ports.get(row.first as usize + choice).copied()
            }
            _ => None,
        }
    }

    #[cold]
    fn remembered(&mut self, row: Row, by: Choice, mut load: impl FnMut(u16) -> u64) -> usize {
        let (n, seed, adaptive) =
            (usize::from(row.n), self.seed, matches!(self.balance, LoadBalance::Adaptive { .. }));
        let ports = self.ports.get(row.first as usize..row.first as usize + n).unwrap_or_default();
        let mut choose = |begun: u32| {
            let drawn = ecmp_index(by.hash, seed ^ mix(begun.into()), n);
            if adaptive {
                least_loaded(n, drawn, |i| ports.get(i).map_or(u64::MAX, |p| load(*p)))
            } else {
                drawn
            }
        };
        let key = u64::from(by.hash) | u64::from(row.first) << 32;
        match &mut self.flowlets {
            Some(flowlets) => flowlets.choose(by.now, key ^ seed, n, choose),
            None => choose(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn addresses_are_found_dense_sparse_and_v6() {
        let dense = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0xc612_0100 + n));
        let sparse = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + (n << 16)));
        let v6 = |n: u32| IpAddr::V6(Ipv6Addr::from_bits((0x2001_0002u128 << 96) + u128::from(n)));
        for make in [&dense as &dyn Fn(u32) -> IpAddr, &sparse, &v6] {
            let map = AddressMap::new((0..100).map(|n| (make(n), PortId(n / 2))));
            for n in 0..100 {
                assert_eq!(map.get(make(n).into()), Some(PortId(n / 2)), "{}", make(n));
            }
            assert_eq!(map.get(make(100).into()), None);
            assert_eq!(map.get(IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)).into()), None);
        }
        assert_eq!(AddressMap::new([]).get(dense(0).into()), None);
    }

    fn take(r: &mut Router, endpoint: u32, hash: u32, ingress: u16) -> Option<u16> {
        r.egress(endpoint, Choice { now: Time::ZERO, hash, ingress }, |_| 0)
    }

    fn router(balance: LoadBalance, seed: u64) -> Router {
        let up: Arc<[u16]> = (8..16).collect();
        let own: Arc<[u16]> = [2].into();
        Router::new(&Routes { ports_to: vec![own, up.clone(), up, [].into()] }, balance, seed)
    }

    #[test]
    fn ecmp_spreads_evenly_and_keeps_a_flow_on_its_path() {
        let mut r = router(LoadBalance::Ecmp, 7);
        let mut count = [0u32; 8];
        for flow in 0..80_000u64 {
            let hash = mix(flow) as u32;
            let port = take(&mut r, 1, hash, 0).unwrap();
            assert_eq!(take(&mut r, 2, hash, 5), Some(port));
            count[usize::from(port) - 8] += 1;
        }
        // 10,000 each; chi-square with 7 degrees of freedom stays below 24.3 with probability 0.999.
        let chi: f64 = count.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 24.3, "chi-square {chi}, counts {count:?}");
    }

    #[test]
    fn two_seeds_choose_independently() {
        // Flows that the first switch sends to one port still use all ports of the second.
        let (mut a, mut b) = (router(LoadBalance::Ecmp, 1), router(LoadBalance::Ecmp, 2));
        let mut count = [0u32; 8];
        for hash in (0..80_000u64).map(|f| mix(f) as u32) {
            if take(&mut a, 1, hash, 0) == Some(8) {
                count[usize::from(take(&mut b, 1, hash, 0).unwrap()) - 8] += 1;
            }
        }
        let mean = f64::from(count.iter().sum::<u32>()) / 8.0;
        assert!(count.iter().all(|&c| (f64::from(c) - mean).abs() < 0.15 * mean), "{count:?}");
    }

    #[test]
    fn pinned_is_free_of_collisions_and_spray_is_round_robin() {
        let mut r = router(LoadBalance::Pinned, 7);
        let mut ports: Vec<u16> = (0..8).filter_map(|i| take(&mut r, 1, 99, i)).collect();
        ports.sort_unstable();
        assert_eq!(ports, (8..16).collect::<Vec<u16>>());
        let mut r = router(LoadBalance::Spray, 7);
        let ports: Vec<u16> = (0..10).filter_map(|_| take(&mut r, 1, 99, 0)).collect();
        assert_eq!(ports, [8, 9, 10, 11, 12, 13, 14, 15, 8, 9]);
    }

    #[test]
    fn adaptive_takes_the_emptiest_port_and_flowlets_stay_together() {
        let gap = Span::from_us(50);
        let mut r = router(LoadBalance::Adaptive { gap: Span::ZERO }, 7);
        let by = |hash, us| Choice { now: Time::ZERO + Span::from_us(us), hash, ingress: 0 };
        for empty in 8..16 {
            assert_eq!(r.egress(1, by(99, 0), |p| u64::from(p != empty)), Some(empty));
        }
        // With a gap the choice stays while frames follow each other, however the load changes.
        let mut r = router(LoadBalance::Adaptive { gap }, 7);
        let burst: Vec<_> =
            (0..8).map(|i| r.egress(1, by(99, 40 * i), |p| u64::from(p != 8 + i as u16))).collect();
        assert_eq!(burst, [Some(8); 8]);
        assert_eq!(r.egress(1, by(99, 2_000), |p| u64::from(p != 15)), Some(15));
        // Flowlets drawn at random use every port in the end.
        let mut r = router(LoadBalance::Flowlet { gap }, 7);
        let mut seen: Vec<_> = (0..200).filter_map(|i| r.egress(1, by(99, 51 * i), |_| 0)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, (8..16).collect::<Vec<u16>>());
    }

    #[test]
    fn the_queue_pair_tells_flows_of_one_five_tuple_apart() {
        let mut hashes: Vec<u32> = (0..1_000).map(|qp| with_dest_qp(42, qp)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 1_000);
    }

    #[test]
    fn one_path_is_taken_and_none_is_no_route() {
        let mut r = router(LoadBalance::Ecmp, 7);
        assert_eq!(take(&mut r, 0, 1, 1), Some(2));
        assert_eq!(take(&mut r, 3, 1, 1), None);
        assert_eq!(take(&mut r, 4, 1, 1), None);
    }
}
