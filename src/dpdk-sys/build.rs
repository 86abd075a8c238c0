//! Finds libdpdk, compiles the shim, and links the few DPDK libraries in use. The drivers are not linked: EAL
//! loads them from their plugin folder by itself. `pkg-config --libs` would name some hundred libraries
//! instead.

#[allow(dead_code)]
mod layout {
    include!("src/layout.rs");
}
use layout::*;

/// DPDK libraries whose functions `lib.rs`, `eth.rs` and the shims name.
const LIBRARIES: [&str; 6] = ["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring", "rte_net_ring"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=shim.c");
    println!("cargo:rerun-if-changed=shim_eth.c");
    println!("cargo:rerun-if-changed=src/layout.rs");

    let probe = pkg_config::Config::new().cargo_metadata(false).atleast_version("22.11").probe("libdpdk");
    let Ok(dpdk) = probe else {
        eprintln!(
            "libdpdk >= 22.11 not found: run tools/setup (Debian package libdpdk-dev) or build with \
             --no-default-features"
        );
        std::process::exit(1);
    };

    let mut shim = cc::Build::new();
    shim.file("shim.c")
        .file("shim_eth.c")
        .std("gnu11")
        .flag("-include")
        .flag("rte_config.h")
        .warnings(true)
        .extra_warnings(true);
    for path in &dpdk.include_paths {
        shim.flag("-isystem").flag(path.to_string_lossy().as_ref());
    }
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        shim.flag("-march=x86-64-v3");
    }
    for (name, value) in [
        ("MBUF_BYTES", MBUF_BYTES),
        ("MBUF_HEADROOM_BYTES", MBUF_HEADROOM_BYTES),
        ("MBUF_BUF_ADDR", MBUF_BUF_ADDR),
        ("MBUF_DATA_OFF", MBUF_DATA_OFF),
        ("MBUF_PKT_LEN", MBUF_PKT_LEN),
        ("MBUF_DATA_LEN", MBUF_DATA_LEN),
        ("MBUF_USER", MBUF_USER),
        ("MBUF_BUF_LEN", MBUF_BUF_LEN),
        ("MBUF_POOL", MBUF_POOL),
        ("RS_ETH_INFO_BYTES", RS_ETH_INFO_BYTES),
        ("RS_ETH_STATS_BYTES", RS_ETH_STATS_BYTES),
        ("RS_ETH_XSTAT_BYTES", RS_ETH_XSTAT_BYTES),
    ] {
        shim.define(name, value.to_string().as_str());
    }
    shim.compile("rankstorm_dpdk_shim");

    for path in &dpdk.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
    println!("cargo:version={}", dpdk.version);
}
