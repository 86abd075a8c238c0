//! What the ranks do: the schedule, its interpreter, generators and importers.
//!
//! A workload ([`config::WorkloadConfig`]) becomes one program per rank ([`generate::Program`]);
//! [`interp::Interp`] runs it for a host: the host asks it what to send, and tells it what started, finished
//! and arrived.

pub mod config;
pub mod generate;
pub mod ideal;
pub mod import;
pub mod interp;
pub mod schedule;

#[cfg(test)]
pub(crate) mod tests {
    use super::config::{Skew, WorkloadConfig, WorkloadKind};
    use crate::transport::config::{RateControl, RcConfig, Verb};
    use crate::units::{ClassIx, RankId, Span};

    /// Ranks 0..n, no skew, WRITE, no rate control.
    pub(crate) fn workload(ranks: u32, kind: WorkloadKind) -> WorkloadConfig {
        WorkloadConfig {
            name: "test".into(),
            kind,
            ranks: (0..ranks).map(RankId).collect(),
            class: ClassIx(0),
            verb: Verb::Write,
            qps_per_pair: 1,
            rate_control: RateControl::None,
            rc: RcConfig::default(),
            skew: Skew::Fixed(Span::ZERO),
        }
    }
}
