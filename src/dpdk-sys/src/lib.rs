//! DPDK behind a C shim.
