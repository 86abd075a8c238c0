//! Stamps what every report carries: the revision and the DPDK version found at build time.

use std::process::Command;

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    let revision = git(&["describe", "--always", "--dirty", "--abbrev=12"]);
    println!("cargo:rustc-env=RANKSTORM_REVISION={}", revision.as_deref().unwrap_or("unknown"));
    let dpdk = std::env::var("DEP_DPDK_VERSION").unwrap_or_else(|_| "none".to_owned());
    println!("cargo:rustc-env=RANKSTORM_DPDK={dpdk}");
    println!("cargo:rerun-if-changed=build.rs");
    // HEAD moves with the branch, its log with every commit; both lie elsewhere in a linked work tree.
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file])
            && std::path::Path::new(&path).exists()
        {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}
