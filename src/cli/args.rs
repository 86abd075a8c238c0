//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::peer::args::PeerArgs;
use crate::plan::Mode;
use crate::workload::import::Replay;

/// RoCEv2 traffic emulator for Ethernet switches that carry AI training.
///
/// Exit codes: 0 pass; 1 an expectation of the profile failed, or the run did not complete; 2 usage or set-up;
/// 3 the tester spoilt the result.
#[derive(Debug, Parser)]
#[command(name = "rankstorm", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a profile and say what the switch did with it
    Run(RunArgs),
    /// Run a profile over combinations of values, several at a time, in virtual time
    Sweep(SweepArgs),
    /// Replay captured or recorded traffic as a closed loop
    Replay(ReplayArgs),
    /// Say what a trace holds, without running it
    Inspect(InspectArgs),
    /// Decode every frame of a capture and verify its ICRC
    Dissect(DissectArgs),
    /// Validate a profile, show every default, predict
    Check(CheckArgs),
    /// Two seconds on the wire before a real run: is the lab what the profile takes it for?
    Preflight(PreflightArgs),
    /// Lay the results of runs side by side
    Compare(CompareArgs),
    /// Rebuild report.txt from report.json
    Report(ReportArgs),
    /// Talk to one RoCEv2 endpoint (an RDMA NIC, or the Linux kernel's rdma_rxe) over reliable connections
    #[command(long_about = crate::cli::peer::args::LONG_ABOUT)]
    Peer(Box<PeerArgs>),
    /// What works on this machine, and what to do about the rest
    Doctor,
    /// Measure the tool itself against known peers
    Bench(BenchArgs),
}

/// Where the frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// Real DPDK ports
    Ports,
    /// DPDK rings and the embedded switch
    Rings,
    /// Discrete events, no DPDK: exact, at any rate
    Virtual,
}

impl From<On> for Mode {
    fn from(on: On) -> Mode {
        match on {
            On::Ports => Mode::Ports,
            On::Rings => Mode::Rings,
            On::Virtual => Mode::Virtual,
        }
    }
}

/// Flags that `run` and `replay` share.
#[derive(Debug, Default, Args)]
pub struct RunFlags {
    /// Where the frames go [default: what the profile says, else rings]
    #[arg(long, value_enum)]
    pub on: Option<On>,
    /// Directory of the results [default: out/NAME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Seed of every random stream
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Change one key of the profile; may be given more than once
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
    /// No progress on stderr
    #[arg(long)]
    pub quiet: bool,
    /// Rings: run K times slower than real time, or as fast as the machine can
    #[arg(long, value_name = "K|auto")]
    pub dilation: Option<String>,
    /// Send the PFC frames of [[pfc]]: they stop switches, so only in a lab
    #[arg(long)]
    pub allow_pfc_generation: bool,
    /// Real ports: run without looking at the lab first
    #[arg(long)]
    pub no_preflight: bool,
    /// Also write the frames of the run to a capture file
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The profile
    #[arg(value_name = "PROFILE.toml")]
    pub profile: PathBuf,
    /// Flags.
    #[command(flatten)]
    pub flags: RunFlags,
}

/// `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The profile
    #[arg(value_name = "PROFILE.toml")]
    pub profile: PathBuf,
    /// A key and its values (a..b: all whole numbers from a to b); given again, all combinations are run
    #[arg(long, required = true, value_name = "KEY.PATH=A,B,C")]
    pub over: Vec<String>,
    /// So many points at a time [default: one per core, fewer when memory does not hold them]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Directory of the results: one in it per point, and sweep.csv [default: out/NAME-sweep]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Seed of every random stream
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Change one key of the profile at every point; may be given more than once
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The trace, or the folder that holds it
    #[arg(value_name = "FILE|DIR")]
    pub file: PathBuf,
    /// auto, pcap, flows or hpcc
    #[arg(long, default_value = "auto", value_name = "FORMAT")]
    pub format: String,
    /// What a message waits for: the clock of the trace, or what it followed
    #[arg(long, value_enum, default_value = "dependent", value_name = "MODE")]
    pub mode: ReplayMode,
    /// Profile with the fabric, classes and expectations to replay with
    #[arg(long, value_name = "PROFILE.toml")]
    pub with: Option<PathBuf>,
    /// Flags.
    #[command(flatten)]
    pub flags: RunFlags,
}

/// `--mode` of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReplayMode {
    /// The spacing of the trace
    Timed,
    /// A message waits for what it followed
    Dependent,
}

impl From<ReplayMode> for Replay {
    fn from(mode: ReplayMode) -> Replay {
        match mode {
            ReplayMode::Timed => Replay::Timed,
            ReplayMode::Dependent => Replay::Dependent,
        }
    }
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The trace, or the folder that holds it
    #[arg(value_name = "FILE|DIR")]
    pub file: PathBuf,
    /// auto, pcap, flows or hpcc
    #[arg(long, default_value = "auto", value_name = "FORMAT")]
    pub format: String,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// `dissect`.
#[derive(Debug, Args)]
pub struct DissectArgs {
    /// The capture
    #[arg(value_name = "FILE.pcap")]
    pub file: PathBuf,
    /// One JSON object per frame instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The profile
    #[arg(value_name = "PROFILE.toml")]
    pub profile: PathBuf,
    /// Where the frames would go
    #[arg(long, value_enum)]
    pub on: Option<On>,
    /// Seed of every random stream
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Change one key of the profile; may be given more than once
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
    /// Print the profile with every default written out, and nothing else
    #[arg(long)]
    pub print_plan: bool,
    /// Print what a switch needs for a run on real ports (addresses, routes, MTU), and nothing else: sonic
    #[arg(long, value_enum, value_name = "NOS", conflicts_with = "print_plan")]
    pub print_dut: Option<Nos>,
}

/// Whose configuration is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Nos {
    /// SONiC: a piece of config_db.json
    Sonic,
}

/// `preflight`.
#[derive(Debug, Args)]
#[command(
    long_about = "Two seconds on the wire before a real run: links, neighbours, every pair of ports both ways, the \
    longest frame, DSCP and ECN, latency, and (with allow_pfc = true) what an XOFF stops. `run` does the same first, \
    without the XOFF.\n\nExit codes: 0 nothing failed; 2 something did, or the ports could not be opened."
)]
pub struct PreflightArgs {
    /// The profile
    #[arg(value_name = "PROFILE.toml")]
    pub profile: PathBuf,
    /// Change one key of the profile; may be given more than once
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub set: Vec<String>,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Results (directories or report.json files) of side A; two without --against are A and B
    #[arg(required = true, value_name = "A")]
    pub a: Vec<PathBuf>,
    /// Results of side B: one, or repeats, which are averaged
    #[arg(long, num_args = 1.., value_name = "B")]
    pub against: Vec<PathBuf>,
    /// Relative difference that still counts as equal (0.01 = 1 %)
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub tolerance: f64,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Directory of a run
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Only the benchmarks whose name contains this
    pub name: Option<String>,
}
