//! What could be a port, for `doctor`: interfaces nobody uses, NICs and what they are bound to, and what each driver of
//! DPDK carries here.

use std::fs;
use std::path::Path;

use super::doctor::{Finding, capabilities};
use crate::plan::device::{AF_XDP_FRAME_MAX, TAP_FRAME_MAX};
use crate::sys::interface::{Interface, InterfaceError};

/// PCI class of network controllers.
const CLASS_NETWORK: &str = "0x02";
/// Ethernet, IP, UDP, BTH, RETH and ICRC around a payload, without Ethernet: what an MTU must hold besides it.
const AROUND_PAYLOAD: u32 = 20 + 8 + 12 + 16 + 4;

/// Everything there is to say.
pub(super) fn all() -> Vec<Finding> {
    let mut all: Vec<Finding> = names("/sys/class/net").into_iter().filter_map(interface).collect();
    let nics: Vec<Finding> = names("/sys/bus/pci/devices").into_iter().filter_map(|n| nic(&n)).collect();
    if nics.is_empty() {
        all.push(note("NIC", "no PCI network device here: ports are software devices".into(), None));
    } else {
        all.push(iommu());
        all.extend(nics);
    }
    all.extend(drivers());
    all
}

fn note(name: &'static str, text: String, mend: Option<String>) -> Finding {
    Finding { well: false, name, text, mend }
}

fn names(path: &str) -> Vec<String> {
    let list = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = list.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The largest path MTU whose packets fit into so many bytes of IP.
fn path_mtu(bytes: u32) -> Option<u32> {
    [4096, 2048, 1024, 512, 256].into_iter().find(|m| m + AROUND_PAYLOAD <= bytes)
}

fn carries(bytes: u32) -> String {
    path_mtu(bytes).map_or("too small for any path MTU".into(), |m| format!("carries path MTU {m}"))
}

fn interface(name: String) -> Option<Finding> {
    let found = Interface::find(&name).ok()?;
    let used = found.refuse_in_use().err().map(|e| match e {
        InterfaceError::InUse { reason, .. } => format!("in use ({reason}): refused as a port"),
        other => other.to_string(),
    });
    let short = used.is_none() && path_mtu(found.mtu) != Some(4096);
    let text = used.clone().unwrap_or_else(|| format!("free, MTU {} {}", found.mtu, carries(found.mtu)));
    Some(Finding {
        well: used.is_none(),
        name: "interface",
        text: format!("{name}: {text}"),
        mend: short.then(|| format!("ip link set {name} mtu 9000")),
    })
}

/// A PCI network device: DPDK takes it when it is bound to vfio-pci, or its kernel driver shares it (mlx5).
fn nic(address: &str) -> Option<Finding> {
    let dir = format!("/sys/bus/pci/devices/{address}");
    let class = fs::read_to_string(format!("{dir}/class")).ok()?;
    if !class.starts_with(CLASS_NETWORK) {
        return None;
    }
    let bound = fs::read_link(format!("{dir}/driver")).ok();
    let driver = bound.and_then(|d| d.file_name().map(|n| n.to_string_lossy().into_owned()));
    let bind = || Some(format!("dpdk-devbind.py --bind=vfio-pci {address}   (takes its interface away)"));
    let (well, text, mend) = match driver.as_deref() {
        Some("vfio-pci") => (true, "bound to vfio-pci".to_owned(), None),
        Some(shared @ ("mlx5_core" | "mlx4_core" | "mana")) => {
            (true, format!("{shared}: DPDK shares it with the kernel"), None)
        }
        Some(other) => {
            let own = interfaces_of(address);
            let free = |n: &String| Interface::find(n).is_ok_and(|i| i.refuse_in_use().is_ok());
            let text = format!("bound to {other}");
            match own.iter().find(|n| !free(n)) {
                Some(used) => (false, format!("{text}, and {used} is in use: not for tests"), None),
                None if own.is_empty() => {
                    (false, format!("{text}; its interface is not in this namespace"), None)
                }
                None => (false, format!("{text} (interface {})", own.join(", ")), bind()),
            }
        }
        None => (false, "bound to no driver".to_owned(), bind()),
    };
    Some(Finding { well, name: "NIC", text: format!("{address}: {text}"), mend })
}

/// Interfaces that the kernel makes of a PCI device.
fn interfaces_of(address: &str) -> Vec<String> {
    let behind = |n: &String| {
        let device = fs::canonicalize(format!("/sys/class/net/{n}/device"));
        device.is_ok_and(|d| d.components().any(|c| c.as_os_str() == address))
    };
    names("/sys/class/net").into_iter().filter(behind).collect()
}

fn iommu() -> Finding {
    let well = !names("/sys/class/iommu").is_empty();
    let vfio = Path::new("/dev/vfio/vfio").exists();
    let (text, mend) = match (well, vfio) {
        (true, true) => ("IOMMU and vfio are there", None),
        (true, false) => ("the IOMMU is there, vfio is not loaded", Some("modprobe vfio-pci")),
        (false, _) => (
            "no IOMMU: vfio works in its unsafe mode only",
            Some(
                "add intel_iommu=on iommu=pt to the kernel's command line (AMD needs none), or: modprobe vfio \
                  enable_unsafe_noiommu_mode=1",
            ),
        ),
    };
    Finding { well: well && vfio, name: "vfio", text: text.into(), mend: mend.map(str::to_owned) }
}

/// The drivers of software devices: longest frame, and whether the kernel has what they need.
fn drivers() -> Vec<Finding> {
    let tun = Path::new("/dev/net/tun").exists();
    let xdp_mtu = AF_XDP_FRAME_MAX - 14;
    let (raw, admin) = capabilities();
    let lacks = |held: bool, text: String| {
        if held { text } else { format!("{text}; not with the rights of this user") }
    };
    let line = |well, name: &'static str, text: String, mend: Option<&str>| Finding {
        well,
        name,
        text,
        mend: mend.map(str::to_owned),
    };
    vec![
        line(
            raw,
            "af_packet",
            lacks(raw, "as long as the interface's MTU allows; slots are sized for it".into()),
            None,
        ),
        line(
            raw && admin,
            "af_xdp",
            lacks(
                raw && admin,
                format!("frames up to {AF_XDP_FRAME_MAX} B (4 KiB of umem): {}", carries(xdp_mtu)),
            ),
            None,
        ),
        line(
            tun && admin,
            "tap",
            match tun {
                true => {
                    lacks(admin, format!("frames up to {TAP_FRAME_MAX} B: {}", carries(TAP_FRAME_MAX - 14)))
                }
                false => "no /dev/net/tun".into(),
            },
            (!tun).then_some("modprobe tun"),
        ),
        line(true, "memif", "any length (bsize is set to fit); both ends need the same".into(), None),
        line(
            true,
            "vhost-user",
            "any length; the other process sees our memory, on huge pages or in one ordinary file".into(),
            None,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_mtus_fit_with_their_headers() {
        // 4,096 B of payload in a WRITE FIRST over IPv4: 4,156 B of IP.
        let table =
            [(9_000, Some(4096)), (4_156, Some(4096)), (4_155, Some(2048)), (1_500, Some(1024)), (300, None)];
        for (mtu, path) in table {
            assert_eq!(path_mtu(mtu), path, "{mtu}");
        }
        assert_eq!(path_mtu(AF_XDP_FRAME_MAX - 14), Some(2048));
    }
}
