//! `doctor`: what works on this machine, and the command that mends the rest.

use std::io::Write;
use std::time::Duration;

use crate::report::number::bytes;
use crate::sys::interface::{Interface, InterfaceError};
use crate::sys::{affinity, memory, tsc};

/// One line of the examination.
struct Finding {
    well: bool,
    name: &'static str,
    text: String,
    /// The command that mends it.
    mend: Option<String>,
}

/// Examines the machine. Exit code 0 when `--on virtual` works, which it always does once this program runs; the
/// lines say what else does.
pub fn doctor(out: &mut dyn Write) -> anyhow::Result<u8> {
    writeln!(
        out,
        "rankstorm {} ({}), DPDK {}",
        env!("CARGO_PKG_VERSION"),
        env!("RANKSTORM_REVISION"),
        env!("RANKSTORM_DPDK")
    )?;
    for f in [dpdk(), huge_pages(), cores(), counter(), ram()].into_iter().chain(devices()) {
        writeln!(out, "{}  {:<12}  {}", if f.well { "ok  " } else { "note" }, f.name, f.text)?;
        if let Some(mend) = f.mend {
            writeln!(out, "{:20}{mend}", "")?;
        }
    }
    writeln!(out, "--on virtual  works")?;
    let rings = if cfg!(feature = "dpdk") { "works" } else { "not in this build" };
    writeln!(out, "--on rings    {rings}")?;
    let ports =
        if cfg!(feature = "dpdk") { "works with the devices named in [[port]]" } else { "not in this build" };
    writeln!(out, "--on ports    {ports}")?;
    Ok(0)
}

fn dpdk() -> Finding {
    #[cfg(feature = "dpdk")]
    {
        let (built, runs) = (env!("RANKSTORM_DPDK"), crate::dpdk::eal::version());
        let same = runs.contains(built);
        Finding {
            well: same,
            name: "DPDK",
            text: if same { runs } else { format!("built with {built}, running with {runs}") },
            mend: (!same).then(|| "cargo clean -p dpdk-sys && cargo build --release".into()),
        }
    }
    #[cfg(not(feature = "dpdk"))]
    Finding {
        well: false,
        name: "DPDK",
        text: "built without: rings and ports are refused".into(),
        mend: Some("apt-get install libdpdk-dev && cargo build --release --features dpdk".into()),
    }
}

fn huge_pages() -> Finding {
    let sizes = memory::huge_pages();
    let free: u64 = sizes.iter().map(memory::HugePages::free_bytes).sum();
    let each = sizes.iter().filter(|s| s.total > 0);
    let listed: Vec<String> =
        each.map(|s| format!("{} of {} pages of {} MiB free", s.free, s.total, s.page_bytes >> 20)).collect();
    let text = match (listed.is_empty(), free) {
        (true, _) => "none set aside; rings then run on ordinary memory, slower".into(),
        (false, 0) => format!("{}; rings then run on ordinary memory, slower", listed.join(", ")),
        (false, _) => listed.join(", "),
    };
    Finding {
        well: free > 0,
        name: "huge pages",
        text,
        mend: (free == 0).then(|| "sysctl -w vm.nr_hugepages=512".into()),
    }
}

fn cores() -> Finding {
    let cores = affinity::cores();
    let text = match cores.len() {
        0 => "the system does not say which cores we may use; workers run unpinned".into(),
        1 => "1: hosts and switch take turns; rings work, much dilated".into(),
        n => format!("{n} ({cores:?}); one worker is pinned to each, control shares the first"),
    };
    Finding { well: cores.len() > 1, name: "cores", text, mend: None }
}

fn counter() -> Finding {
    let invariant = tsc::is_invariant();
    let measured = tsc::Tsc::calibrate(Duration::from_millis(200));
    let text = match &measured {
        Ok(t) => format!(
            "{:.6} GHz against CLOCK_MONOTONIC_RAW, to {:.1} ppm{}",
            t.hz() / 1e9,
            t.error_ppm(),
            if invariant { "" } else { "; the CPU does not promise a constant rate" }
        ),
        Err(e) => format!("{e}"),
    };
    Finding { well: measured.is_ok() && invariant, name: "TSC", text, mend: None }
}

/// What could be a port: interfaces nobody uses, NICs bound to vfio-pci.
fn devices() -> Vec<Finding> {
    let entries = |path: &str| -> Vec<String> {
        let list = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut names: Vec<String> = list.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let interface = |name: String| {
        let found = Interface::find(&name).ok()?;
        let used = found.refuse_in_use().err().map(|e| match e {
            InterfaceError::InUse { reason, .. } => format!("in use ({reason}): refused as a port"),
            other => other.to_string(),
        });
        let carries = match found.mtu {
            ..=1_172 => "too small for path MTU 1024",
            1_173..=2_196 => "carries path MTU 1024",
            2_197..=4_164 => "carries path MTU 2048",
            _ => "carries path MTU 4096",
        };
        let mend = (used.is_none() && found.mtu < 4_165).then(|| format!("ip link set {name} mtu 9000"));
        let text = format!(
            "{name}: {}",
            used.clone().unwrap_or_else(|| format!("free, MTU {} {carries}", found.mtu))
        );
        Some(Finding { well: used.is_none(), name: "interface", text, mend })
    };
    let mut all: Vec<Finding> = entries("/sys/class/net").into_iter().filter_map(interface).collect();
    let nics = entries("/sys/bus/pci/drivers/vfio-pci").into_iter().filter(|n| n.contains(':'));
    all.extend(nics.map(|n| Finding {
        well: true,
        name: "NIC",
        text: format!("{n}: bound to vfio-pci"),
        mend: None,
    }));
    all
}

fn ram() -> Finding {
    let available = memory::available_bytes();
    let text = match available {
        Some(n) => format!("{} available; `rankstorm check` says what a profile needs", bytes(n)),
        None => "the system does not say how much is available".into(),
    };
    Finding { well: available.is_some_and(|n| n > 1 << 30), name: "memory", text, mend: None }
}
