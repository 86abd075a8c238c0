//! The ranks of one tester port: transport and workload composed behind `on_*`, `poll_*`, `next_*`.

pub mod config;
