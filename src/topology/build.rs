//! The shapes: one switch, two tiers of leaves and spines (plain or by rail), and any graph. Routes follow from the
//! wiring: shortest paths, all of them. Larger shapes are in [`super::shapes`].

use super::routing::routes;
use super::{CABLE_SPAN_PER_M, End, Fabric, GivenRoute, Link, TopologyError};
use crate::limits::{PORTS_MAX, SWITCH_PORTS_MAX};
use crate::rng::mix;
use crate::switch::config::{FixedDelays, SwitchConfig, SwitchPortConfig};
use crate::units::{LinkTiming, PortId, Rate, Span};

/// All hosts on one switch; endpoint e is on port e.
#[derive(Clone, Debug)]
pub struct SingleSwitch {
    /// Rate of each endpoint's port, in endpoint order.
    pub host_rates: Vec<Rate>,
    /// Length of each host cable, metres.
    pub cable_m: u32,
    /// FEC and pipeline delays.
    pub delays: FixedDelays,
    /// The switch; its `ports` are filled in.
    pub prototype: SwitchConfig,
}

/// Leaves with hosts, every leaf wired to every spine. Endpoint e is on port `e % n` of leaf `e / n`, where n is the
/// number of hosts per leaf (rounded up); after the host ports come `uplinks` ports to each spine in turn.
#[derive(Clone, Debug)]
pub struct LeafSpine {
    /// Rate of each endpoint's port, in endpoint order.
    pub host_rates: Vec<Rate>,
    /// Leaves; a multiple of `rails`.
    pub leaves: u16,
    /// Endpoints of one machine, each on a leaf of its own: endpoint e is number `e % rails` of machine `e / rails`,
    /// and so many leaves in a row take one machine after the other. 1 = endpoints fill one leaf after the other.
    pub rails: u16,
    /// Spines.
    pub spines: u16,
    /// Cables between each leaf and each spine.
    pub uplinks: u16,
    /// Rate of each of them.
    pub uplink_rate: Rate,
    /// Length of each host cable, metres.
    pub host_cable_m: u32,
    /// Length of each cable between leaf and spine, metres.
    pub uplink_cable_m: u32,
    /// FEC and pipeline delays.
    pub delays: FixedDelays,
    /// Every switch; name, ports and ECMP seed are filled in per switch.
    pub prototype: SwitchConfig,
}

impl LeafSpine {
    /// Hosts on each leaf but perhaps the last.
    pub fn hosts_per_leaf(&self) -> usize {
        self.host_rates.len().div_ceil(usize::from(self.leaves).max(1))
    }

    /// The leaf of an endpoint.
    pub fn leaf_of(&self, endpoint: usize) -> usize {
        let rails = usize::from(self.rails).max(1);
        endpoint / (rails * self.hosts_per_leaf()) * rails + endpoint % rails
    }
}

/// One switch with every host on it. Switch 0 keeps the prototype's name.
///
/// # Errors
/// [`TopologyError`] with the place and the fix.
pub fn single_switch(shape: &SingleSwitch) -> Result<Fabric, TopologyError> {
    let name = "single switch".to_string();
    let hosts = shape.host_rates.len();
    check_hosts(&name, hosts)?;
    if hosts > SWITCH_PORTS_MAX {
        let switch = shape.prototype.name.clone();
        return Err(TopologyError::TooManyPorts { switch, ports: hosts, fix: "a leaf-spine fabric" });
    }
    let mut b = Builder::new(name, hosts, shape.delays);
    b.add_switch(&shape.prototype, shape.prototype.name.clone(), shape.prototype.hash_seed);
    for (e, &rate) in shape.host_rates.iter().enumerate() {
        b.cable_host(e, 0, rate, shape.cable_m)?;
    }
    b.finish()
}

/// Two tiers. Leaves are switches 0 to leaves - 1 ("leaf0", ...), spines follow ("spine0", ...). Each switch hashes
/// with a seed of its own, derived from the prototype's.
///
/// # Errors
/// [`TopologyError`] with the place and the fix.
pub fn leaf_spine(shape: &LeafSpine) -> Result<Fabric, TopologyError> {
    let (leaves, spines, uplinks) =
        (usize::from(shape.leaves), usize::from(shape.spines), usize::from(shape.uplinks));
    let name = match shape.rails {
        0 | 1 => format!("leaf-spine {leaves}x{spines}"),
        rails => format!("rail-optimised {leaves}x{spines}, {rails} rails"),
    };
    let hosts = shape.host_rates.len();
    check_hosts(&name, hosts)?;
    let rails = usize::from(shape.rails);
    for (what, n) in [("leaves", leaves), ("spines", spines), ("uplinks", uplinks), ("rails", rails)] {
        if n == 0 {
            return Err(TopologyError::Zero { shape: name, what });
        }
    }
    if !leaves.is_multiple_of(rails) || !hosts.is_multiple_of(rails) {
        return Err(TopologyError::Rails { shape: name, rails, leaves, hosts });
    }
    if leaves + spines > usize::from(u16::MAX) {
        return Err(TopologyError::TooManySwitches { shape: name, switches: leaves + spines });
    }
    let per_leaf = shape.hosts_per_leaf();
    let used = hosts.div_ceil(per_leaf);
    if used < leaves {
        return Err(TopologyError::EmptyLeaf { shape: name, hosts, leaves, used });
    }
    let too_many = |switch: &str, ports: usize, fix| {
        let error = TopologyError::TooManyPorts { switch: switch.into(), ports, fix };
        if ports > SWITCH_PORTS_MAX { Err(error) } else { Ok(()) }
    };
    too_many("leaf0", per_leaf + spines * uplinks, "more leaves, fewer spines or fewer uplinks")?;
    too_many("spine0", leaves * uplinks, "fewer leaves or fewer uplinks")?;

    let mut b = Builder::new(name, hosts, shape.delays);
    for s in 0..leaves + spines {
        let (tier, n) = if s < leaves { ("leaf", s) } else { ("spine", s - leaves) };
        let seed = mix(shape.prototype.hash_seed ^ mix(s as u64));
        b.add_switch(&shape.prototype, format!("{tier}{n}"), seed);
    }
    for (e, &rate) in shape.host_rates.iter().enumerate() {
        b.cable_host(e, shape.leaf_of(e), rate, shape.host_cable_m)?;
    }
    for leaf in 0..leaves {
        for spine in leaves..leaves + spines {
            for _ in 0..uplinks {
                b.cable_switches(leaf, spine, shape.uplink_rate, metres(shape.uplink_cable_m))?;
            }
        }
    }
    b.finish()
}

/// Any wiring, cable by cable.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Name of the shape for reports.
    pub shape: String,
    /// Endpoints.
    pub hosts: usize,
    /// Switches, with their names and seeds; `ports` are filled in, in the order of the cables.
    pub switches: Vec<SwitchConfig>,
    /// Cables.
    pub cables: Vec<GraphCable>,
}

/// A cable of a [`Graph`].
#[derive(Clone, Copy, Debug)]
pub struct GraphCable {
    /// Its two ends.
    pub ends: [GraphEnd; 2],
    /// Rate of both directions.
    pub rate: Rate,
    /// From a bit leaving one end to that bit being seen at the other.
    pub delay: Span,
}

/// One end of a cable: the next free port of what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphEnd {
    /// An endpoint; it has one port.
    Host(u32),
    /// A switch.
    Switch(u16),
}

/// Wires any graph.
///
/// # Errors
/// [`TopologyError`] with the place and the fix.
pub fn graph(shape: Graph) -> Result<Fabric, TopologyError> {
    check_hosts(&shape.shape, shape.hosts)?;
    let delays = FixedDelays { pipeline: Span::ZERO, fec: Span::ZERO };
    let mut b = Builder::new(shape.shape, shape.hosts, delays);
    for switch in &shape.switches {
        b.add_switch(switch, switch.name.clone(), switch.hash_seed);
    }
    let mut wired = vec![0u32; shape.hosts];
    for cable in &shape.cables {
        let [from, to] = cable.ends.map(|end| match end {
            GraphEnd::Host(e) => End::Host(PortId(e)),
            GraphEnd::Switch(s) => b.next_port(usize::from(s)),
        });
        for end in [from, to] {
            if let End::Host(e) = end {
                wired[e.0 as usize] += 1;
                if wired[e.0 as usize] > 1 {
                    return Err(TopologyError::Miswired { end, links: 2 });
                }
            }
            if let End::Switch(s, p) = end
                && usize::from(p) >= SWITCH_PORTS_MAX
            {
                let switch = b.fabric.switches[usize::from(s)].name.clone();
                return Err(TopologyError::TooManyPorts {
                    switch,
                    ports: usize::from(p) + 1,
                    fix: "more switches",
                });
            }
        }
        b.cable_of(from, to, cable.rate, [cable.delay; 2])?;
    }
    b.finish()
}

pub(super) fn check_hosts(shape: &str, hosts: usize) -> Result<(), TopologyError> {
    match hosts {
        0 => Err(TopologyError::NoHosts { shape: shape.into() }),
        n if n > PORTS_MAX => Err(TopologyError::TooManyHosts { shape: shape.into(), hosts }),
        _ => Ok(()),
    }
}

/// Delay of so many metres of cable.
fn metres(length: u32) -> Span {
    Span(CABLE_SPAN_PER_M.0 * u64::from(length))
}

/// Puts a fabric together cable by cable.
pub(super) struct Builder {
    fabric: Fabric,
    delays: FixedDelays,
}

impl Builder {
    pub fn new(shape: String, hosts: usize, delays: FixedDelays) -> Builder {
        Builder { fabric: Fabric { endpoints: hosts as u32, shape, ..Fabric::default() }, delays }
    }

    pub fn add_switch(&mut self, prototype: &SwitchConfig, name: String, hash_seed: u64) {
        let config = SwitchConfig { name, ports: Vec::new(), hash_seed, ..prototype.clone() };
        self.fabric.switches.push(config);
    }

    /// Wires the next free port of `switch` to endpoint `e`.
    pub fn cable_host(
        &mut self,
        e: usize,
        switch: usize,
        rate: Rate,
        cable_m: u32,
    ) -> Result<(), TopologyError> {
        let at_switch = self.next_port(switch);
        self.cable(End::Host(PortId(e as u32)), at_switch, rate, metres(cable_m))
    }

    /// Wires the next free ports of two switches to each other.
    pub fn cable_switches(
        &mut self,
        a: usize,
        b: usize,
        rate: Rate,
        in_cable: Span,
    ) -> Result<(), TopologyError> {
        let (a, b) = (self.next_port(a), self.next_port(b));
        self.cable(a, b, rate, in_cable)
    }

    /// Routes that replace the shortest paths.
    pub fn give(&mut self, routes: Vec<GivenRoute>) {
        self.fabric.given = routes;
    }

    /// Ports wired so far.
    pub fn ports(&self, switch: usize) -> usize {
        self.fabric.switches[switch].ports.len()
    }

    fn next_port(&self, switch: usize) -> End {
        End::Switch(switch as u16, self.fabric.switches[switch].ports.len() as u16)
    }

    fn cable(&mut self, a: End, b: End, rate: Rate, in_cable: Span) -> Result<(), TopologyError> {
        let delay_to = |end| match end {
            End::Host(_) => in_cable + self.delays.fec,
            End::Switch(..) => in_cable + self.delays.fec + self.delays.pipeline,
        };
        let delays = [delay_to(b), delay_to(a)];
        self.cable_of(a, b, rate, delays)
    }

    /// Wires two ends; `delays` are those towards `b` and towards `a`.
    fn cable_of(&mut self, a: End, b: End, rate: Rate, delays: [Span; 2]) -> Result<(), TopologyError> {
        for ((from, to), delay) in [(a, b), (b, a)].into_iter().zip(delays) {
            if rate.bits_per_s == 0 {
                return Err(TopologyError::NoRate { from, to });
            }
            let timing = LinkTiming::new(rate, delay);
            self.fabric.links.push(Link { from, to, timing });
            if let End::Switch(s, p) = from {
                let [s_hi, s_lo] = s.to_be_bytes();
                let [p_hi, p_lo] = p.to_be_bytes();
                self.fabric.switches[usize::from(s)].ports.push(SwitchPortConfig {
                    name: format!("Ethernet{p}"),
                    egress: timing,
                    mac: [0x02, 0x53, s_hi, s_lo, p_hi, p_lo], // locally administered, "S" for switch
                    profile: 0,
                    pipe: 0,
                });
            }
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<Fabric, TopologyError> {
        for switch in &self.fabric.switches {
            switch.validate()?;
            if switch.ports.len() > SWITCH_PORTS_MAX {
                let (switch, ports) = (switch.name.clone(), switch.ports.len());
                return Err(TopologyError::TooManyPorts { switch, ports, fix: "more switches" });
            }
        }
        self.fabric.routes = routes(&self.fabric, |_| true);
        self.fabric.all_reachable()?;
        Ok(self.fabric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::testing::config;
    use crate::topology::testing::{four_to_one, leaf_spine_of};

    fn single(hosts: usize) -> SingleSwitch {
        let delays = FixedDelays { pipeline: Span::from_ns(400), fec: Span::from_ns(100) };
        let host_rates = vec![Rate::gbps(100); hosts];
        SingleSwitch { host_rates, cable_m: 5, delays, prototype: config(1, 1_000_000) }
    }

    #[test]
    fn one_switch_is_wired_port_by_port() {
        let f = single_switch(&single(33)).unwrap();
        assert_eq!((f.endpoints, f.links.len(), f.switches[0].ports.len()), (33, 66, 33));
        for e in 0..33u16 {
            let (up, down) = (&f.links[2 * usize::from(e)], &f.links[2 * usize::from(e) + 1]);
            assert_eq!((up.from, up.to), (End::Host(PortId(e.into())), End::Switch(0, e)));
            assert_eq!((down.from, down.to), (up.to, up.from));
            // 5 m of cable, then FEC, and the pipeline only on the way into the switch.
            assert_eq!(up.timing.propagation(), Span::from_ns(25 + 100 + 400));
            assert_eq!(down.timing.propagation(), Span::from_ns(25 + 100));
            assert_eq!(&*f.routes[0].ports_to[usize::from(e)], [e]);
        }
        assert_eq!(f.oversubscription().to_string(), "1:1");
    }

    #[test]
    fn every_host_reaches_every_other_over_all_spines() {
        let f = leaf_spine(&LeafSpine { uplinks: 2, ..leaf_spine_of(16, 4, 3) }).unwrap();
        assert_eq!(f.switches.len(), 7);
        assert_eq!(f.links.len(), 2 * (16 + 4 * 3 * 2));
        for e in 0..16usize {
            let home = e / 4;
            for leaf in 0..4 {
                let want: Vec<u16> = if leaf == home { vec![(e % 4) as u16] } else { (4..10).collect() };
                assert_eq!(&*f.routes[leaf].ports_to[e], want, "leaf {leaf} to {e}");
            }
            for spine in 4..7 {
                let want = [2 * home as u16, 2 * home as u16 + 1];
                assert_eq!(&*f.routes[spine].ports_to[e], want, "spine {spine} to {e}");
            }
        }
        let mut seeds: Vec<u64> = f.switches.iter().map(|s| s.hash_seed).collect();
        seeds.dedup();
        assert_eq!(seeds.len(), 7, "no two switches hash alike");
    }

    #[test]
    fn four_hosts_per_uplink_is_4_to_1() {
        let f = leaf_spine(&four_to_one()).unwrap();
        let o = f.oversubscription();
        assert_eq!((o.host_rate, o.uplink_rate), (Rate::gbps(800), Rate::gbps(200)));
        assert_eq!((o.ratio(), o.to_string().as_str()), (4.0, "4:1"));
        let fast = LeafSpine { uplink_rate: Rate::gbps(400), ..four_to_one() };
        assert_eq!(leaf_spine(&fast).unwrap().oversubscription().to_string(), "1:1");
    }

    #[test]
    fn what_cannot_be_wired_is_refused_with_the_fix() {
        let say = |r: Result<Fabric, TopologyError>| r.unwrap_err().to_string();
        assert_eq!(say(single_switch(&single(0))), "single switch: 0 hosts; give it at least one");
        assert!(
            say(single_switch(&single(1025))).contains("1025 ports, at most 1024; use a leaf-spine fabric")
        );
        assert!(say(leaf_spine(&leaf_spine_of(9, 4, 2))).contains("set leaves = 3"));
        assert!(say(leaf_spine(&leaf_spine_of(8, 4, 0))).contains("spines is 0"));
        assert!(say(leaf_spine(&leaf_spine_of(16_384, 8, 2))).contains("leaf0: 2050 ports"));
        let dead = LeafSpine { uplink_rate: Rate::default(), ..leaf_spine_of(8, 4, 2) };
        assert!(say(leaf_spine(&dead)).contains("switch 0 port 2 -> switch 4 port 0: rate 0"));
        let mut small = single(4);
        small.prototype.buffer = crate::units::Bytes(0);
        assert!(say(single_switch(&small)).contains("enlarge the buffer"));
    }

    #[test]
    fn a_missing_cable_is_found() {
        let mut f = leaf_spine(&leaf_spine_of(8, 2, 1)).unwrap();
        f.links.retain(|l| !matches!((l.from, l.to), (End::Switch(2, _), End::Switch(1, _))));
        f.routes = routes(&f, |_| true);
        let e = f.all_reachable().unwrap_err();
        assert_eq!(e.to_string(), "endpoint 4 cannot be reached from leaf0; add the missing cable");
    }
}
