//! Measurement: events, counters, histograms, and the outcome they add up to.

pub mod record;
pub mod recorder;
pub mod since;
pub mod stats;
