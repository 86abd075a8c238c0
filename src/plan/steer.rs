//! Paths of an HPCC scenario: which way every flow and its ACKs went in that simulator, and UDP source ports that make
//! them go the same way here.
//!
//! Its switches hash addresses and ports (MurmurHash3 without the last mixing of length bytes, seeded by the number of
//! the switch) and take the remainder as an index into their next hops. The order of the next hops depends on addresses
//! in the memory of the process that ran; the pinned paths tell which of the two natural orders it was.

use std::collections::{BTreeMap, BTreeSet};

use super::hpcc::HpccError;
use crate::host::config::RankAddr;
use crate::rng::mix;
use crate::switch::route::ecmp_index;
use crate::topology::{End, Fabric, Wiring};
use crate::wire::ROCE_UDP_PORT;
use crate::wire::fast::{Fast, ecmp_hash};
use crate::workload::import::hpcc::{FIRST_SPORT, Folder, Pin};

/// Source ports searched for one that takes a path.
const SPORTS: std::ops::RangeInclusive<u16> = 0xc000..=0xffff;

/// A choice on a path: (switch, port).
type Hop = (u16, u16);
/// The n-th flow from one rank to another.
type Key = (u32, u32, u32);

/// What that simulator hashes.
#[derive(Clone, Copy)]
struct Tuple {
    src: u32,
    dst: u32,
    sport: u16,
    dport: u16,
}

impl Tuple {
    fn hash(&self, seed: u32) -> u32 {
        // 11.x.y.1 for node 256 x + y.
        let ip = |node: u32| 0x0b00_0001 + (node / 256) * 0x1_0000 + (node % 256) * 0x100;
        let mut h = seed;
        for word in [ip(self.src), ip(self.dst), u32::from(self.sport) | u32::from(self.dport) << 16] {
            let k = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
            h = (h ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
        }
        h ^= 12;
        h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
        h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
        h ^ h >> 16
    }
}

/// The source port of the n-th flow of a source.
fn source_port(nth: u32) -> u16 {
    FIRST_SPORT.wrapping_add(nth) as u16
}

/// The count so far, which goes up by one.
fn count(counter: &mut u32) -> u32 {
    let n = *counter;
    *counter += 1;
    n
}

/// Paths wanted, and the search for source ports that lead along them.
pub(super) struct Steering<'a> {
    fabric: &'a Fabric,
    wiring: &'a Wiring,
    ranks: &'a [RankAddr],
    /// Choices that frames from one rank to another have to make: data of a flow, else the ACKs of one that goes back.
    wanted: BTreeMap<Key, Vec<Hop>>,
}

impl<'a> Steering<'a> {
    /// Works all paths out.
    ///
    /// # Errors
    /// A pinned path that names no interface of a switch, or no flow.
    pub(super) fn new(
        folder: &Folder,
        fabric: &'a Fabric,
        wiring: &'a Wiring,
        ranks: &'a [RankAddr],
    ) -> Result<Steering<'a>, HpccError> {
        let nodes = folder.topology.hosts();
        let switches = &folder.topology.switches;
        let rank = |node: u32| nodes.binary_search(&node).unwrap_or(0) as u32;
        // By ranks and source port: ports count over all flows of a source.
        let mut pinned: BTreeMap<(u32, u32, u16), Vec<Hop>> = BTreeMap::new();
        for p in &folder.pins {
            let hop = match (switches.binary_search(&p.switch), p.interface.checked_sub(1)) {
                (Ok(s), Some(port)) if (port as usize) < fabric.switches[s].ports.len() => {
                    (s as u16, port as u16)
                }
                _ => {
                    let text = format!("paths: node {} has no interface {}", p.switch, p.interface);
                    return Err(HpccError::Refused(text));
                }
            };
            pinned.entry((rank(p.src), rank(p.dst), source_port(p.nth))).or_default().push(hop);
        }
        let mut sent: BTreeMap<u32, u32> = BTreeMap::new();
        let mut counts: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        let flows: Vec<(Key, Tuple)> = (folder.flows.iter())
            .map(|f| {
                let nth = count(counts.entry((f.src, f.dst)).or_default());
                let sport = source_port(count(sent.entry(f.src).or_default()));
                ((rank(f.src), rank(f.dst), nth), Tuple { src: f.src, dst: f.dst, sport, dport: f.dport })
            })
            .collect();
        let known: BTreeSet<(u32, u32, u16)> = flows.iter().map(|(k, t)| (k.0, k.1, t.sport)).collect();
        let stray = |p: &&Pin| !known.contains(&(rank(p.src), rank(p.dst), source_port(p.nth)));
        if let Some(p) = folder.pins.iter().find(stray) {
            return Err(HpccError::Refused(format!(
                "paths: no flow from node {} to node {} has source port {}: ports count from {FIRST_SPORT} over the \
                 flows of a source, in the order of the flow file",
                p.src,
                p.dst,
                source_port(p.nth)
            )));
        }
        let pins_of = |key: &Key, tuple: &Tuple| pinned.get(&(key.0, key.1, tuple.sport));
        let mut s = Steering { fabric, wiring, ranks, wanted: BTreeMap::new() };
        let path = |from: u32, to: u32, tuple: &Tuple, backwards: bool| {
            s.walk(from, to, |switch, n| {
                let index = tuple.hash(switches[usize::from(switch)]) as usize % n;
                if backwards { n - 1 - index } else { index }
            })
        };
        // The order of next hops under which the hash explains every pinned path; without any, the one seen in runs.
        let explains = |backwards| {
            flows.iter().all(|(key, tuple)| match pins_of(key, tuple) {
                Some(pins) => {
                    let hops = path(key.0, key.1, tuple, backwards);
                    pins.iter().all(|pin| hops.contains(pin))
                }
                None => true,
            })
        };
        let order = [true, false].into_iter().find(|backwards| explains(*backwards));
        let mut wanted: BTreeMap<Key, Vec<Hop>> = BTreeMap::new();
        for (key, tuple) in &flows {
            let hops = match (pins_of(key, tuple), order) {
                (Some(pins), _) => pins.clone(),
                (None, Some(backwards)) => path(key.0, key.1, tuple, backwards),
                (None, None) => Vec::new(),
            };
            wanted.insert(*key, hops);
        }
        for (&(from, to, nth), tuple) in flows.iter().map(|(key, tuple)| (key, tuple)) {
            let Some(backwards) = order else { continue };
            let back = Tuple { src: tuple.dst, dst: tuple.src, sport: tuple.dport, dport: tuple.sport };
            wanted.entry((to, from, nth)).or_insert_with(|| path(to, from, &back, backwards));
        }
        s.wanted = wanted;
        Ok(s)
    }

    /// A source port for the n-th connection between two ranks, both of whose directions then take their paths.
    pub(super) fn sport(&self, a: u32, b: u32, nth: u32) -> Option<u16> {
        let all = u64::from(SPORTS.end() - SPORTS.start()) + 1;
        let first = mix(u64::from(a) << 40 ^ u64::from(b) << 20 ^ u64::from(nth)) % all;
        let mut sports = (0..all).map(|i| SPORTS.start() + ((first + i) % all) as u16);
        sports.find(|sport| self.follows(a, b, nth, *sport) && self.follows(b, a, nth, *sport))
    }

    fn follows(&self, from: u32, to: u32, nth: u32, sport: u16) -> bool {
        let Some(wanted) = self.wanted.get(&(from, to, nth)).filter(|hops| !hops.is_empty()) else {
            return true;
        };
        let ip = |rank: u32| self.ranks[rank as usize].ip.into();
        let seen =
            Fast { src: ip(from), dst: ip(to), proto: 17, sport, dport: ROCE_UDP_PORT, ..Fast::default() };
        let hash = ecmp_hash(&seen, 0);
        let seed = |switch: u16| self.fabric.switches[usize::from(switch)].hash_seed;
        let taken = self.walk(from, to, |switch, n| ecmp_index(hash, seed(switch), n));
        wanted.iter().all(|hop| taken.contains(hop))
    }

    /// The choices on the way from one rank to another: `choose(switch, n)` is an index into n ports in ascending order.
    fn walk(&self, from: u32, to: u32, choose: impl Fn(u16, usize) -> usize) -> Vec<Hop> {
        let mut hops = Vec::new();
        let mut link = self.wiring.from_host[from as usize];
        for _ in 0..=self.fabric.switches.len() {
            let End::Switch(s, _) = self.fabric.links[link as usize].to else { break };
            let ports = &self.fabric.routes[usize::from(s)].ports_to[to as usize];
            let port = match ports.len() {
                1 => ports[0],
                n => ports[choose(s, n)],
            };
            if ports.len() > 1 {
                hops.push((s, port));
            }
            link = self.wiring.from_switch[usize::from(s)][usize::from(port)];
        }
        hops
    }
}
