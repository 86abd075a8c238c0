//! Fabrics for tests.

use super::LeafSpine;
use crate::switch::config::FixedDelays;
use crate::switch::testing::config;
use crate::units::{Rate, Span};

/// 100G everywhere, one cable per leaf and spine.
pub fn leaf_spine_of(hosts: usize, leaves: u16, spines: u16) -> LeafSpine {
    LeafSpine {
        host_rates: vec![Rate::gbps(100); hosts],
        leaves,
        rails: 1,
        spines,
        uplinks: 1,
        uplink_rate: Rate::gbps(100),
        host_cable_m: 5,
        uplink_cable_m: 30,
        delays: FixedDelays { pipeline: Span::ZERO, fec: Span::ZERO },
        prototype: config(1, 1_000_000),
    }
}

/// 16 hosts on 2 leaves, 2 spines, 100G throughout: 800G of hosts over 200G of uplinks.
pub fn four_to_one() -> LeafSpine {
    leaf_spine_of(16, 2, 2)
}
