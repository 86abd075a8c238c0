//! `doctor`: what works on this machine, and the command that mends the rest.

use std::fs;
use std::io::Write;
use std::time::Duration;

use super::devices;
use crate::report::number::bytes;
use crate::sys::{affinity, memory, tsc};

/// One line of the examination.
pub(super) struct Finding {
    pub well: bool,
    pub name: &'static str,
    pub text: String,
    /// The command that mends it.
    pub mend: Option<String>,
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
    let first = [dpdk(), huge_pages(), cores(), isolation(), governor(), counter(), ram(), rights()];
    for f in first.into_iter().chain(devices::all()) {
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

fn ram() -> Finding {
    let available = memory::available_bytes();
    let text = match available {
        Some(n) => format!("{} available; `rankstorm check` says what a profile needs", bytes(n)),
        None => "the system does not say how much is available".into(),
    };
    Finding { well: available.is_some_and(|n| n > 1 << 30), name: "memory", text, mend: None }
}

/// Cores that the kernel gives to nobody else.
fn isolation() -> Finding {
    let read = |name: &str| fs::read_to_string(format!("/sys/devices/system/cpu/{name}")).unwrap_or_default();
    let (isolated, quiet) = (read("isolated").trim().to_owned(), read("nohz_full").trim().to_owned());
    let cores = affinity::cores();
    // The last core is the worker's.
    let worker = cores.last().copied().unwrap_or(0);
    let quiet = if quiet.is_empty() || quiet == "(null)" {
        "no core without a tick".into()
    } else {
        format!("no tick on {quiet}")
    };
    let well = !isolated.is_empty();
    let text = match well {
        true => format!("core {isolated} for nobody else; {quiet}"),
        false => format!(
            "none: others may take the worker's core, and a run that loses it is not trusted; {quiet}"
        ),
    };
    let mend =
        format!("add isolcpus={worker} nohz_full={worker} rcu_nocbs={worker} to the kernel's command line");
    Finding { well, name: "isolation", text, mend: (!well && cores.len() > 1).then_some(mend) }
}

/// Whether cores change their clock.
fn governor() -> Finding {
    let policies = fs::read_dir("/sys/devices/system/cpu/cpufreq").into_iter().flatten().flatten();
    let name = |e: fs::DirEntry| fs::read_to_string(e.path().join("scaling_governor")).ok();
    let mut all: Vec<String> = policies.filter_map(name).map(|n| n.trim().to_owned()).collect();
    all.sort();
    all.dedup();
    let slow = all.iter().any(|g| g != "performance");
    let text = match all.is_empty() {
        true => "not ours to choose (a virtual machine, or the firmware decides)".into(),
        false => format!("{}{}", all.join(", "), if slow { ": cores wake slowly" } else { "" }),
    };
    Finding {
        well: !slow,
        name: "governor",
        text,
        mend: slow.then(|| "cpupower frequency-set -g performance".into()),
    }
}

/// (CAP_NET_RAW, CAP_NET_ADMIN): what packet sockets want, and what AF_XDP and taps want.
pub(super) fn capabilities() -> (bool, bool) {
    const NET_ADMIN: u64 = 1 << 12;
    const NET_RAW: u64 = 1 << 13;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|c| u64::from_str_radix(c.trim(), 16).ok());
    let held = held.unwrap_or(0);
    (held & NET_RAW != 0, held & NET_ADMIN != 0)
}

/// What this user may do.
fn rights() -> Finding {
    let (raw, admin) = capabilities();
    let text = match (raw, admin) {
        (true, true) => "packet sockets, AF_XDP and taps may be opened",
        (true, false) => "packet sockets may be opened; AF_XDP and taps need CAP_NET_ADMIN",
        (false, _) => {
            "no packet sockets (CAP_NET_RAW); loop:, net_null, memif, vhost-user and pcap files need no rights, vfio those of /dev/vfio"
        }
    };
    let this = std::env::current_exe().map_or("rankstorm".into(), |p| p.display().to_string());
    let mend = (!raw).then(|| format!("setcap cap_net_raw,cap_net_admin,cap_ipc_lock+ep {this}"));
    Finding { well: raw, name: "rights", text: text.into(), mend }
}
