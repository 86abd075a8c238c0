//! Drivers and clocks: the engine that moves frames, the calendar, the phases of a run.
//!
//! [`execute`] runs a plan in one of its modes. Virtual time is one engine ([`virtual_time`]); a rings run is the same
//! engine cut in parts that run on pinned workers and exchange mbufs over DPDK rings (`rings`). [`realtime`] drives one
//! host on a port that leads out of the process, by the clock.

mod agenda;
mod ahead;
pub mod assemble;
pub mod calendar;
mod deadlock;
pub mod engine;
mod faults;
mod links;
pub mod phases;
#[cfg(feature = "dpdk")]
pub mod ports;
pub mod preflight;
pub mod realtime;
pub mod result;
#[cfg(feature = "dpdk")]
pub mod rings;
pub mod samples;
mod sequenced;
pub mod tee;
pub mod virtual_time;

use std::path::PathBuf;

use crate::frame::Frame;
use crate::plan::{Compat, Mode, Plan};
use crate::sys::signals::StopFlag;
use crate::units::Time;

use result::RunResult;

/// Why a run could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something the plan asks for cannot be set up here.
    #[error("{0}")]
    Setup(String),
    /// The mode needs DPDK and this build has none.
    #[error(
        "--on {0} needs DPDK, and this rankstorm was built without it: rebuild with the default features (tools/setup installs libdpdk-dev), or use --on virtual"
    )]
    NoDpdk(&'static str),
    /// Another simulator's arithmetic has one order of events and no real time.
    #[error("compat = \"hpcc\" runs in virtual time only: use --on virtual")]
    CompatVirtual,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Iterations finished, warm-up included.
    pub iteration: u32,
    /// Iterations in all; 0 for streams only.
    pub iterations: u32,
    /// Nominal time.
    pub now: Time,
    /// Real seconds since the start.
    pub wall_s: f64,
    /// Real over nominal time so far; `None` in virtual time.
    pub dilation: Option<f64>,
}

/// Hears how a run gets on.
pub type OnProgress<'a> = Box<dyn FnMut(&Progress) + Send + 'a>;

/// How to run.
pub struct Options<'a> {
    /// Where the frames go.
    pub mode: Mode,
    /// Capture of every frame that tester ports receive.
    pub pcap: Option<PathBuf>,
    /// Called a few times per second.
    pub progress: Option<OnProgress<'a>>,
    /// Raised by Ctrl-C: the run ends in order and leaves a partial result.
    pub stop: StopFlag,
    /// Real ports: look at the lab first, and refuse to run where it is not what the profile takes it for.
    pub preflight: bool,
}

impl<'a> Options<'a> {
    /// Options for `mode` with nothing else asked for.
    pub fn new(mode: Mode) -> Options<'a> {
        Options { mode, pcap: None, progress: None, stop: StopFlag::new(), preflight: true }
    }

    fn report(&mut self, p: &Progress) {
        if let Some(f) = &mut self.progress {
            f(p);
        }
    }

    fn tee<F: Frame + 'static>(&self) -> Result<Option<Box<dyn engine::Tee<F>>>, RunError> {
        match &self.pcap {
            None => Ok(None),
            Some(path) => Ok(Some(Box::new(tee::PcapTee::create(path)?))),
        }
    }
}

/// Whether this build can run in `mode`; asked before anything is written.
///
/// # Errors
/// One line that says why not and what to use instead.
pub fn supported(mode: Mode) -> Result<(), RunError> {
    match mode {
        Mode::Virtual => Ok(()),
        Mode::Rings if cfg!(feature = "dpdk") => Ok(()),
        Mode::Rings => Err(RunError::NoDpdk("rings")),
        Mode::Ports if cfg!(feature = "dpdk") => Ok(()),
        Mode::Ports => Err(RunError::NoDpdk("ports")),
    }
}

/// Looks at the lab of a plan for real ports, and runs nothing.
///
/// # Errors
/// [`RunError`] when ports cannot be opened; what is wrong with the lab is in the result.
pub fn preflight(plan: &Plan, stop: &StopFlag) -> Result<preflight::Preflight, RunError> {
    supported(Mode::Ports)?;
    #[cfg(feature = "dpdk")]
    return ports::preflight(plan, stop);
    #[cfg(not(feature = "dpdk"))]
    {
        let _ = (plan, stop);
        Err(RunError::NoDpdk("ports"))
    }
}

/// Runs a plan.
///
/// # Errors
/// [`RunError`] with the place and the fix; nothing has been sent then.
pub fn execute(plan: &Plan, opts: Options<'_>) -> Result<RunResult, RunError> {
    supported(opts.mode)?;
    if let Compat::Hpcc(rules) = &plan.compat {
        return match opts.mode {
            Mode::Virtual => sequenced::run(plan, rules, opts),
            _ => Err(RunError::CompatVirtual),
        };
    }
    match opts.mode {
        #[cfg(feature = "dpdk")]
        Mode::Rings => rings::run(plan, opts),
        #[cfg(feature = "dpdk")]
        Mode::Ports => ports::run(plan, opts),
        _ => virtual_time::run(plan, opts),
    }
}
