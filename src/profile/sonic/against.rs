//! What a switch's configuration means for the classes of a run: remarks that need both.

use std::net::IpAddr;

use super::model::Imported;
use crate::profile::classes::Warnings;
use crate::profile::doc::ProfileDoc;
use crate::transport::config::ClassConfig;

/// UDP, BTH, the longest header of an RDMA WRITE or READ answer (RETH), ICRC: what an IP packet holds beside its header and
/// the payload.
const BESIDE_PAYLOAD: u64 = 8 + 12 + 16 + 4;

/// Remarks on `classes`: which map puts each where, DSCPs that the map does not have, and frames above a port's MTU.
pub(in crate::profile) fn remarks(
    imported: &Imported,
    doc: &ProfileDoc,
    classes: &[ClassConfig],
    addresses: impl Iterator<Item = IpAddr>,
) -> Warnings {
    let mut all = Warnings::new();
    let mut warn = |code: &str, text: String| all.push((code.to_owned(), text));
    if imported.pcp_map.is_some() {
        let each: Vec<String> = classes.iter().map(by_tag).collect();
        let text = format!(
            "no dscp_to_tc_map is bound, so frames go by the PCP of their VLAN tag ({}), untagged ones to traffic class 0, \
             and no DSCP acts: {}",
            imported.classified_by,
            each.join("; ")
        );
        warn("sonic_dot1p", text);
    }
    let typed = |dscp: u8| {
        let keys = doc.switch.iter().flat_map(|s| s.dscp_map.keys());
        keys.filter_map(|k| k.parse::<u8>().ok()).any(|k| k == dscp)
    };
    for class in classes {
        for (what, dscp) in [("", class.dscp), ("ACK ", class.ack_dscp), ("CNP ", class.cnp_dscp)] {
            let repeats = !what.is_empty() && dscp == class.dscp;
            if imported.unmapped >> (dscp & 63) & 1 == 0 || typed(dscp) || repeats {
                continue;
            }
            let priority = imported.dscp_map[usize::from(dscp & 63)];
            let kind = if imported.lossless(priority) { "lossless" } else { "lossy" };
            let text = format!(
                "class {}: {what}DSCP {dscp} is not in {}, so it stays in traffic class 0: priority {priority}, {kind}; add \
                 it there, or [switch.dscp_map] \"{dscp}\" = its priority",
                class.name, imported.classified_by
            );
            warn("sonic_assumed", text);
        }
    }
    let ip = if addresses.into_iter().any(|a| a.is_ipv6()) { 40 } else { 20 };
    for class in classes {
        let longest = ip + BESIDE_PAYLOAD + u64::from(class.mtu);
        let mut short = imported.mtus.iter().filter(|(_, mtu)| *mtu < longest);
        if let Some((place, mtu)) = short.next() {
            let code = if class.lossless { "sonic_can_drop" } else { "sonic_not_modelled" };
            let text = format!(
                "{place}: {mtu} is below the {longest} bytes of the longest IP packets of class {} (path MTU {}){}: the switch \
                 drops them, here they pass; raise it (9100 is usual) or lower class.{}.mtu",
                class.name,
                class.mtu,
                match short.count() {
                    0 => String::new(),
                    more => format!(", and so on {more} more ports"),
                },
                class.name
            );
            warn(code, text);
        }
    }
    all
}

fn by_tag(class: &ClassConfig) -> String {
    match class.vlan {
        Some(vlan) => {
            let [data, ack, cnp] = class.pcps();
            format!(
                "class {} (VLAN {vlan}) PCP {data} -> priority {}, ACK PCP {ack} -> {}, CNP PCP {cnp} -> {}",
                class.name, class.priority, class.ack_priority, class.cnp_priority
            )
        }
        None => format!("class {} is untagged -> priority {} (give it a vlan)", class.name, class.priority),
    }
}
