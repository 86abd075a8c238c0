//! What the tests of whole runs share: plans from shipped profiles or from text, runs in virtual time, and the built
//! program in a directory of its own.
#![allow(dead_code)] // no test file uses all of it

pub mod buffer;
pub mod lab;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rankstorm::plan::{Mode, Plan};
use rankstorm::profile::{self, Overrides};
use rankstorm::report::build::Meta;
use rankstorm::report::files;
use rankstorm::report::model::RunReport;
use rankstorm::run::result::RunResult;
use rankstorm::run::{self, Options};

/// A profile that ships with the program.
pub fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles").join(format!("{name}.toml"))
}

fn overrides(set: &[&str]) -> Overrides {
    Overrides { set: set.iter().map(|s| (*s).to_owned()).collect(), ..Overrides::default() }
}

/// The plan of a shipped profile with some keys changed.
pub fn plan(name: &str, set: &[&str]) -> Plan {
    profile::load(&shipped(name), &overrides(set)).unwrap()
}

/// The plan of a profile in memory with some keys changed.
pub fn plan_of(text: &str, set: &[&str]) -> Plan {
    profile::from_str("test.toml", text, &overrides(set)).unwrap()
}

/// A run in virtual time, and its report.
pub fn virtually(plan: &Plan) -> (RunResult, RunReport) {
    let result = run::execute(plan, Options::new(Mode::Virtual)).unwrap();
    let report = RunReport::build(plan, &result, Meta::default());
    (result, report)
}

/// As [`virtually`], of a run that must complete and lose track of nothing: every frame and byte sent was received or
/// dropped, and every buffer is back in its pool.
pub fn conserved(plan: &Plan) -> (RunResult, RunReport) {
    let (result, report) = virtually(plan);
    assert_whole(&result);
    (result, report)
}

/// See [`conserved`].
pub fn assert_whole(result: &RunResult) {
    assert!(result.complete, "{:?}", result.missing);
    let c = result.conservation;
    assert_eq!(c.sent_frames, c.received_frames + c.dropped_frames, "{c:?}");
    assert_eq!(c.sent_bytes, c.received_bytes + c.dropped_bytes, "{c:?}");
    assert_eq!((c.inside_frames, c.pool_in_use), (0, 0), "{c:?}");
    assert!(result.tester.trustworthy, "{:?}", result.tester.why);
}

/// The built program.
pub fn rankstorm<S: AsRef<OsStr>>(args: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rankstorm")).args(args).output().unwrap()
}

/// What a process printed, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `rankstorm run` into `dir`; the exit code must be `code`.
pub fn run_into(dir: &Path, profile: &Path, flags: &[&str], code: i32) -> RunReport {
    let mut args = vec![OsStr::new("run"), profile.as_os_str(), OsStr::new("--quiet"), OsStr::new("--out")];
    args.push(dir.as_os_str());
    args.extend(flags.iter().map(OsStr::new));
    let o = rankstorm(&args);
    assert_eq!(o.status.code(), Some(code), "{flags:?}\n{}{}", text(&o.stderr), text(&o.stdout));
    files::read(dir).unwrap()
}

/// Frames of one WRITE over untagged IPv4 and the bytes they take on the wire, from the header lengths alone: Ethernet
/// 14, IPv4 20, UDP 8, BTH 12, ICRC 4, FCS 4, preamble 8, gap 12, and RETH 16 in the first frame. `bytes` is a multiple
/// of `mtu`.
pub fn write_on_wire(bytes: u64, mtu: u64) -> (u64, u64) {
    assert_eq!(bytes % mtu, 0);
    let frames = bytes / mtu;
    (frames, frames * (14 + 20 + 8 + 12 + mtu + 4 + 4 + 8 + 12) + 16)
}

/// Nanoseconds that `bytes` take at `gbps`.
pub fn wire_ns(bytes: u64, gbps: f64) -> f64 {
    bytes as f64 * 8.0 / gbps
}

/// Asserts that `value` is at least `bound` and at most `over` (a share) above it.
pub fn assert_near_bound(what: &str, value: f64, bound: f64, over: f64) {
    let ratio = value / bound;
    assert!((1.0..=1.0 + over).contains(&ratio), "{what}: {value} is {ratio:.5} of the bound {bound}");
}
