//! Where the command line calls the driver.

use std::path::PathBuf;

use crate::plan::{Mode, Plan};
use crate::run::result::RunResult;
use crate::units::Time;

/// How a run reports on its way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Iterations finished, warm-up included.
    pub iteration: u32,
    /// Iterations planned, warm-up included.
    pub iterations: u32,
    /// Nominal time.
    pub now: Time,
    /// Real over nominal time so far; `None` in virtual time.
    pub dilation: Option<f64>,
}

/// Options of a run.
#[derive(Default)]
pub struct Options {
    /// Where the frames go.
    pub mode: Option<Mode>,
    /// Capture to write.
    pub pcap: Option<PathBuf>,
    /// Called now and then from the driver.
    pub progress: Option<Box<dyn FnMut(Progress) + Send>>,
}

/// Runs a plan.
pub fn execute(_plan: &Plan, _options: Options) -> anyhow::Result<RunResult> {
    anyhow::bail!("runs cannot be executed in this build")
}
