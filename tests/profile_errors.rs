//! What a user reads when a profile is wrong: one line with place, key, and fix.

use proptest::prelude::*;
use rankstorm::profile::{self, Overrides};

const GOOD: &str = r#"name = "t"
[run]
repeats = 2
limit = "1 s"
[[workload]]
kind = "incast"
senders = 4
message = "1 MiB"
[class.roce]
dscp = 3
[switch]
ports = { count = 5, rate = "100G" }
[expect]
lossless_drops = 0
"#;

fn complaint(text: &str, set: &[&str]) -> String {
    let set = set.iter().map(|s| s.to_string()).collect();
    let over = Overrides { set, ..Overrides::default() };
    match profile::from_str("p.toml", text, &over) {
        Ok(_) => "fine".into(),
        Err(e) => e.to_string(),
    }
}

/// (what is replaced, by what, the line the user reads)
const BROKEN: &[(&str, &str, &str)] = &[
