//! Stamps what every report carries: the revision and the DPDK version found at build time.

use std::process::Command;

fn main() {
    let revision = Command::new("git")
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output()
        .ok()
        .filter(|o| o.status.success())
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=RANKSTORM_REVISION={revision}");
    let dpdk = std::env::var("DEP_DPDK_VERSION").unwrap_or_else(|_| "none".to_owned());
    println!("cargo:rustc-env=RANKSTORM_DPDK={dpdk}");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=build.rs");
}
