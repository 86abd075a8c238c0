//! Measurement: events, counters, histograms, and the outcome they add up to.

pub mod distribution;
pub mod iterations;
pub mod network;
pub mod pauses;
pub mod rates;
pub mod record;
pub mod recorder;
pub mod since;
pub mod stats;
pub mod streams;
