//! rankstorm: a user-space RoCEv2 traffic emulator and load generator for Ethernet switches.
//!
//! Layers, each importing only those before it:
//! `units` <- `wire` <- {`frame`, `measure`} <- {`transport`, `workload`, `switch`} <- {`host`, `topology`} <- `plan`
//! <- {`sys`, `dpdk`} <- `run` <- {`profile`, `report`, `cli`}.
//!
//! How a frame travels: a rank's program posts a message to a queue pair; [`host`] builds frames from it when its link
//! is free; the driver in [`run`] carries them over a link to a [`switch`], which admits, queues, marks, pauses and
//! hands them on; the receiving host accounts, acknowledges and feeds the program whose next step waits for the data.
//!
//! Time comes from the driver alone: every call takes `now`. Nothing below the drivers reads a clock, opens a device,
//! prints, allocates after start, or draws ambient randomness.

pub mod cli;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod frame;
mod hint;
pub mod host;
pub mod limits;
pub mod measure;
pub mod plan;
pub mod profile;
pub mod report;
pub mod rng;
pub mod run;
pub mod switch;
pub mod sys;
pub mod topology;
pub mod transport;
pub mod units;
pub mod wire;
pub mod workload;
