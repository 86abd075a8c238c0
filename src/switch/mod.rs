//! The embedded shared-buffer switch.

pub mod config;
