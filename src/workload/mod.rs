//! What the ranks do: the schedule, its interpreter, generators and importers.

pub mod config;
pub mod schedule;
