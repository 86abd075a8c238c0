//! `check --print-dut sonic`: what the switch of a run on real ports must be told, as a piece of SONiC's config_db.json.
//!
//! A port with a gateway is routed: the gateway is the address of the switch's interface, and ranks outside its network are
//! reached by a static route over our address there. Ports without one share a VLAN. Table and field names are those of
//! SONiC's configuration (sonic-buildimage, src/sonic-yang-models/doc/Configuration.md).

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::bail;
use serde_json::{Map, Value, json};

use crate::plan::Plan;
use crate::plan::lab::Prefix;
use crate::topology::End;

/// MTU of a SONiC port, as it counts.
const MTU: &str = "9100";
/// VLAN of ports without a gateway when classes are not tagged.
const VLAN: u16 = 1_000;

/// The configuration as text.
pub(super) fn sonic(plan: &Plan) -> anyhow::Result<String> {
    let mut tables: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let tagged = plan.classes.iter().find_map(|c| c.vlan);
    for (i, host) in plan.hosts.iter().enumerate() {
        let Some(lab) = plan.lab.ports.get(i) else { continue };
        let port = switch_port(plan, i).unwrap_or_else(|| format!("Ethernet{}", 4 * i));
        let entry =
            json!({ "mtu": MTU, "admin_status": "up", "description": format!("rankstorm {}", host.name) });
        tables.entry("PORT").or_default().insert(port.clone(), entry);
        let ranks: Vec<IpAddr> = host.ranks.iter().map(|r| r.ip).collect();
        let Some(gateway) = lab.gateway else {
            let vid = tagged.unwrap_or(VLAN);
            let mode = if tagged.is_some() { "tagged" } else { "untagged" };
            tables
                .entry("VLAN")
                .or_default()
                .insert(format!("Vlan{vid}"), json!({ "vlanid": vid.to_string() }));
            let member = format!("Vlan{vid}|{port}");
            tables.entry("VLAN_MEMBER").or_default().insert(member, json!({ "tagging_mode": mode }));
            continue;
        };
        let Some(ours) = lab.address.or_else(|| ranks.first().copied()) else { continue };
        if gateway.is_ipv4() != ours.is_ipv4() {
            bail!("port {}: gateway {gateway} and address {ours} are of two IP families", host.name);
        }
        let link = widen(cover(&[gateway, ours]), &[gateway, ours]);
        let interfaces = tables.entry("INTERFACE").or_default();
        interfaces.insert(port.clone(), json!({}));
        interfaces.insert(format!("{port}|{gateway}/{}", link.bits), json!({}));
        let beyond: Vec<IpAddr> = ranks.iter().copied().filter(|ip| !link.contains(*ip)).collect();
        if !beyond.is_empty() {
            let net = cover(&beyond);
            let key = format!("default|{}/{}", net.ip, net.bits);
            let entry = json!({ "nexthop": ours.to_string(), "ifname": port });
            tables.entry("STATIC_ROUTE").or_default().insert(key, entry);
        }
    }
    Ok(serde_json::to_string_pretty(&tables)? + "\n")
}

/// The switch port at the other end, where the profile names it.
fn switch_port(plan: &Plan, host: usize) -> Option<String> {
    let port = plan.hosts[host].port;
    let link = plan.fabric.links.iter().find(|l| l.from == End::Host(port))?;
    let End::Switch(switch, at) = link.to else { return None };
    let name = &plan.fabric.switches.get(usize::from(switch))?.ports.get(usize::from(at))?.name;
    name.starts_with("Ethernet").then(|| name.clone())
}

fn bits_of(ip: IpAddr) -> (u128, u8) {
    match ip {
        IpAddr::V4(a) => (a.to_bits().into(), 32),
        IpAddr::V6(a) => (a.to_bits(), 128),
    }
}

fn network(ip: IpAddr, bits: u8) -> Prefix {
    let (value, width) = bits_of(ip);
    let host = u32::from(width - bits);
    let value = if host >= 128 { 0 } else { value >> host << host };
    let ip = match ip {
        IpAddr::V4(_) => IpAddr::V4((value as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(value.into()),
    };
    Prefix { ip, bits }
}

/// The smallest network that holds all addresses.
fn cover(ips: &[IpAddr]) -> Prefix {
    let (first, width) = ips.first().map_or((0, 32), |ip| bits_of(*ip));
    let differ = ips.iter().fold(0, |d, ip| d | (bits_of(*ip).0 ^ first));
    let bits = width - (128 - differ.leading_zeros()) as u8;
    network(ips.first().copied().unwrap_or(IpAddr::from([0, 0, 0, 0])), bits)
}

/// Wider until none of `ips` is the first or the last address, which hosts do not have.
fn widen(net: Prefix, ips: &[IpAddr]) -> Prefix {
    let edge = |p: &Prefix| {
        let all = |ip: &IpAddr| {
            let (value, width) = bits_of(*ip);
            let host = if p.bits >= width { 0 } else { u128::MAX >> (128 - u32::from(width - p.bits)) };
            value & host == 0 || value & host == host
        };
        ips.iter().any(all)
    };
    let mut p = net;
    while p.bits > 8 && edge(&p) {
        p = network(p.ip, p.bits - 1);
    }
    p
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or(IpAddr::from([0, 0, 0, 0]))
    }

    #[test]
    fn networks_are_as_small_as_hosts_allow() {
        let of = |a: &str, b: &str| {
            let p = widen(cover(&[ip(a), ip(b)]), &[ip(a), ip(b)]);
            format!("{}/{}", p.ip, p.bits)
        };
        assert_eq!(of("198.18.0.1", "198.18.0.2"), "198.18.0.0/30");
        assert_eq!(of("198.18.0.1", "198.18.0.254"), "198.18.0.0/24");
        assert_eq!(of("198.18.0.3", "198.18.0.4"), "198.18.0.0/29");
        assert_eq!(of("2001:2::1", "2001:2::2"), "2001:2::/126");
        let p = cover(&[ip("198.18.1.1"), ip("198.18.1.8")]);
        assert_eq!((p.ip, p.bits), (ip("198.18.1.0"), 28));
        assert_eq!(cover(&[ip("10.0.0.1")]).bits, 32);
    }
}
