//! Where the command line calls the layers below.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::plan::{Mode, Plan};
use crate::run::result::RunResult;
use crate::units::Time;
use crate::workload::import::Replay;

/// What the command line changes in a profile.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--seed`.
    pub seed: Option<u64>,
    /// `--set`, in order.
    pub set: Vec<String>,
    /// `--on`.
    pub on: Option<Mode>,
}

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

/// Loads a profile.
pub fn load(profile: &Path, _overrides: &Overrides) -> anyhow::Result<Plan> {
    anyhow::bail!("{}: profiles cannot be loaded in this build", profile.display())
}

/// The plan that replays `file`, with the fabric of `with` or the default one.
pub fn load_replay(
    file: &Path,
    _format: &str,
    _mode: Replay,
    _with: Option<&Path>,
    _overrides: &Overrides,
) -> anyhow::Result<Plan> {
    anyhow::bail!("{}: traces cannot be replayed in this build", file.display())
}

/// Runs a plan.
pub fn execute(_plan: &Plan, _options: Options) -> anyhow::Result<RunResult> {
    anyhow::bail!("runs cannot be executed in this build")
}

/// What `check` says of a plan.
pub fn check_text(_plan: &Plan) -> String {
    String::new()
}

/// Decodes a capture.
pub fn dissect(file: &Path, _json: bool, _out: &mut dyn Write) -> anyhow::Result<()> {
    anyhow::bail!("{}: captures cannot be decoded in this build", file.display())
}
