//! Tester ports and the ranks behind them: who lives where, with which address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::classes::ranged;
use super::doc::{Fec, IpVersion, PfcDoc, PortDoc, PortRef, ProfileDoc, Role};
use super::quantity::Cable;
use super::shape;
use super::source::{Fault, fault, nearest};
use crate::host::config::{RankAddr, ReceiveConfig};
use crate::limits::{RANKS_MAX, SWITCH_PORTS_MAX};
use crate::units::{PortId, RankId, Rate, Span};

/// Largest offset of a clock, either way.
const CLOCK_PPM_MOST: i64 = 1_000;

/// One tester port.
#[derive(Clone, Debug)]
pub(super) struct TesterPort {
    pub name: String,
    pub host: String,
    pub rate: Rate,
    pub cable: Cable,
    pub fec: Fec,
    pub role: Role,
    /// Ranks behind it, by number.
    pub ranks: std::ops::Range<u32>,
    pub dut_port: Option<String>,
    pub pfc_response: Span,
    /// By how much its clock is off.
    pub clock_ppm: i64,
    pub receive: Option<ReceiveConfig>,
    /// Leaf it hangs on; on a single switch its own number. Interleaving goes round these.
    pub group: u32,
}

/// All ports and ranks.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub ports: Vec<TesterPort>,
    pub ranks: Vec<RankAddr>,
}

impl Layout {
    pub fn port_of(&self, rank: RankId) -> Option<&RankAddr> {
        self.ranks.get(rank.0 as usize)
    }

    /// The port a timeline entry names.
    pub fn find(&self, path: &str, port: Option<&PortRef>) -> Result<PortId, Fault> {
        let n = self.ports.len();
        match port {
            Some(PortRef::Number(i)) if (*i as usize) < n => Ok(PortId(*i)),
            Some(PortRef::Number(_)) => fault(path, format!("the run has ports 0 to {}", n - 1)),
            Some(PortRef::Name(name)) => match self.ports.iter().position(|p| p.name == *name) {
                Some(i) => Ok(PortId(i as u32)),
                None => {
                    let names: Vec<&str> = self.ports.iter().map(|p| p.name.as_str()).collect();
                    match nearest(name, &names) {
                        Some(near) => fault(path, format!("no such port; did you mean {near:?}?")),
                        None => {
                            fault(path, format!("no such port; the run has {} to {}", names[0], names[n - 1]))
                        }
                    }
                }
            },
            None => fault(path, "is missing; give a port number or name, for example port = 0"),
        }
    }
}

/// Ports and ranks of the filled document.
pub(super) fn build(doc: &ProfileDoc) -> Result<Layout, Fault> {
    let mut ports = tester_ports(doc)?;
    let mut next = 0u32;
    for port in &mut ports {
        let count = port.ranks.len() as u32;
        port.ranks = next..next.saturating_add(count);
        next = port.ranks.end;
    }
    if next as usize > RANKS_MAX {
        return fault("switch.ports.ranks_per_port", format!("makes {next} ranks; at most {RANKS_MAX}"));
    }
    let ranks = addresses(doc, &ports, next)?;
    Ok(Layout { ports, ranks })
}

fn tester_ports(doc: &ProfileDoc) -> Result<Vec<TesterPort>, Fault> {
    let Some(switch) = &doc.switch else { return fault("switch", "is missing") };
    let shared = switch.ports.clone().unwrap_or_default();
    let each = ranged("switch.ports.ranks_per_port", shared.ranks_per_port, 1, RANKS_MAX as u32)?;
    let groups = shape::groups(doc)?;
    let count = match &groups {
        Some(groups) => groups.len() as u64,
        None => u64::from(ranged("switch.ports.count", shared.count, 1, SWITCH_PORTS_MAX as u32)?),
    };
    let typed = doc.port.len() as u64;
    if typed > 0 && typed != count {
        let text = format!("there are {typed} [[port]] tables for {count} switch ports; make them equal");
        return fault(if groups.is_some() { "fabric" } else { "switch.ports.count" }, text);
    }
    let rate = shared.rate.map_or(Rate::gbps(0), |r| r.0);
    let tables: Vec<PortDoc> = match typed {
        0 => (0..count)
            .map(|i| PortDoc {
                name: Some(format!("port{i}")),
                host: Some("local".into()),
                rate: shared.rate,
                cable: shared.cable,
                fec: shared.fec,
                role: Some(Role::Both),
                ranks_per_port: Some(each),
                pfc: Some(PfcDoc::Hardware),
                pfc_response: shared.pfc_response,
                clock_ppm: shared.clock_ppm,
                ..PortDoc::default()
            })
            .collect(),
        _ => doc.port.clone(),
    };
    check_rate("switch.ports.rate", rate)?;
    let on_ports = doc.run.as_ref().and_then(|r| r.on) == Some(crate::plan::Mode::Ports);
    let mut ports: Vec<TesterPort> = Vec::with_capacity(tables.len());
    for (i, p) in tables.into_iter().enumerate() {
        let key = |k: &str| format!("port[{i}].{k}");
        let rate = p.rate.map_or(Rate::gbps(0), |r| r.0);
        check_rate(&key("rate"), rate)?;
        if p.pfc == Some(PfcDoc::Ignore) && !on_ports {
            let text = "\"ignore\" is for --on ports only; a sender that ignores PFC is a stream with \
                 obey_pfc = false";
            return fault(key("pfc"), text);
        }
        let name = p.name.unwrap_or_default();
        if ports.iter().any(|q: &TesterPort| typed > 0 && q.name == name) {
            return fault(key("name"), "two ports have this name; names must differ");
        }
        let clock_ppm = p.clock_ppm.unwrap_or(0);
        if !(-CLOCK_PPM_MOST..=CLOCK_PPM_MOST).contains(&clock_ppm) {
            let path = if typed > 0 { key("clock_ppm") } else { "switch.ports.clock_ppm".into() };
            return fault(
                path,
                format!("must be from -{CLOCK_PPM_MOST} to {CLOCK_PPM_MOST}; 802.3 allows 100"),
            );
        }
        let count = ranged(&key("ranks_per_port"), p.ranks_per_port, 0, RANKS_MAX as u32)?;
        ports.push(TesterPort {
            name,
            host: p.host.unwrap_or_default(),
            rate,
            cable: p.cable.unwrap_or(Cable::Length(0)),
            fec: p.fec.unwrap_or(Fec::None),
            role: p.role.unwrap_or(Role::Both),
            ranks: 0..count,
            dut_port: p.dut_port,
            pfc_response: p.pfc_response.map_or(Span::ZERO, |d| d.0),
            clock_ppm,
            receive: p.receive.as_ref().map(|r| super::pfc::receive(i, r, rate)).transpose()?,
            group: groups.as_ref().and_then(|g| g.get(i).copied()).unwrap_or(i as u32),
        });
    }
    Ok(ports)
}

/// Link rates the arithmetic is exact for.
pub(super) fn check_rate(path: &str, rate: Rate) -> Result<(), Fault> {
    if rate < Rate::mbps(1) || rate > Rate::gbps(1_600) {
        return fault(path, "a link must have from 1M to 1600G");
    }
    Ok(())
}

/// First rank address: 198.18.0.1 or 2001:2::1. Networks of `[[port]] ranks` start at their own first
/// address.
fn addresses(doc: &ProfileDoc, ports: &[TesterPort], ranks: u32) -> Result<Vec<RankAddr>, Fault> {
    let v6 = doc.run.as_ref().and_then(|r| r.ip) == Some(IpVersion::V6);
    if !v6 && ranks > (1 << 17) - 2 {
        let text = format!("{ranks} ranks do not fit into 198.18.0.0/15; use ip = \"v6\" in [run]");
        return fault("run.ip", text);
    }
    let mut all: Vec<RankAddr> = Vec::with_capacity(ranks as usize);
    for (i, port) in ports.iter().enumerate() {
        let network = doc.port.get(i).and_then(|p| p.ranks.as_deref());
        let path = format!("port[{i}].ranks");
        let network = network.map(|text| Network::parse(&path, text, port.ranks.len() as u64)).transpose()?;
        for (offset, rank) in port.ranks.clone().enumerate() {
            let ip = match &network {
                Some(n) => n.address(offset as u128 + 1),
                None if v6 => IpAddr::V6(Ipv6Addr::from(0x2001_0002_u128 << 96 | u128::from(rank + 1))),
                None => IpAddr::V4(Ipv4Addr::from(0xc612_0000 + rank + 1)),
            };
            if ip.is_ipv6() != v6 {
                let text = format!("does not fit ip = {:?} in [run]", if v6 { "v6" } else { "v4" });
                return fault(path, text);
            }
            all.push(RankAddr { rank: RankId(rank), port: PortId(i as u32), ip });
        }
    }
    if doc.port.iter().any(|p| p.ranks.is_some()) {
        let mut seen: Vec<(IpAddr, u32)> = all.iter().map(|r| (r.ip, r.port.0)).collect();
        seen.sort_unstable();
        if let Some(twice) = seen.windows(2).find(|w| w[0].0 == w[1].0) {
            let text = format!(
                "address {} is also behind port {}; networks must not overlap",
                twice[1].0, twice[0].1
            );
            return fault(format!("port[{}].ranks", twice[1].1), text);
        }
    }
    Ok(all)
}

struct Network {
    base: u128,
    v6: bool,
}

impl Network {
    fn parse(path: &str, text: &str, ranks: u64) -> Result<Network, Fault> {
        let bad = || Fault {
            path: path.into(),
            text: "must be a network like \"198.18.1.0/24\" or \"2001:2:0:1::/64\"".into(),
        };
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let bits: u32 = bits.parse().map_err(|_| bad())?;
        let (value, width) = match address {
            IpAddr::V4(a) => (u128::from(u32::from(a)), 32),
            IpAddr::V6(a) => (u128::from(a), 128),
        };
        if bits > width {
            return Err(bad());
        }
        let host_bits = width - bits;
        let mask = 1u128.checked_shl(host_bits).map_or(u128::MAX, |v| v - 1);
        if value & mask != 0 {
            return fault(
                path,
                format!("has bits set behind the /{bits}; write the network's first address"),
            );
        }
        // The first address is the network's, the last the broadcast.
        if mask < u128::from(ranks) + 1 {
            return fault(path, format!("is too small for {ranks} ranks; use a shorter prefix"));
        }
        Ok(Network { base: value, v6: width == 128 })
    }
    fn address(&self, offset: u128) -> IpAddr {
        let value = self.base + offset;
        if self.v6 { IpAddr::V6(Ipv6Addr::from(value)) } else { IpAddr::V4(Ipv4Addr::from(value as u32)) }
    }
}

/// A locally administered MAC: 02:52:53 ("RS") and the port number.
pub(super) fn port_mac(port: u32) -> [u8; 6] {
    let [_, a, b, c] = port.to_be_bytes();
    [0x02, 0x52, 0x53, a, b, c]
}
