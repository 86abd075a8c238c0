//! `run` and `check`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

use super::args::{CheckArgs, Dilation, RunArgs, RunFlags};
use super::entry::{self, Options, Overrides};
use super::progress;
use crate::plan::{Clock, Mode, Plan};
use crate::report::build::Meta;
use crate::report::model::RunReport;
use crate::report::{files, text};

/// Runs a profile.
pub fn run(args: &RunArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let plan = entry::load(&args.profile, &overrides(&args.flags))?;
    execute(plan, &args.flags, out)
}

/// Validates a profile and predicts.
pub fn check(args: &CheckArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let on = args.on.map(Mode::from);
    let overrides = Overrides { seed: args.seed, set: args.set.clone(), on };
    let plan = entry::load(&args.profile, &overrides)?;
    if args.print_plan {
        write!(out, "{}", plan.effective)?;
    } else {
        write!(out, "{}", entry::check_text(&plan))?;
    }
    Ok(0)
}

/// The part of the command line that changes the profile.
pub(super) fn overrides(flags: &RunFlags) -> Overrides {
    Overrides { seed: flags.seed, set: flags.set.clone(), on: flags.on.map(Mode::from) }
}

/// Runs a plan, writes its directory and prints the summary; the exit code is the verdict.
pub(super) fn execute(mut plan: Plan, flags: &RunFlags, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mode =
        supported(flags.on.map(Mode::from).or(plan.mode).unwrap_or(Mode::Rings), cfg!(feature = "dpdk"))?;
    if let Some(dilation) = flags.dilation {
        plan.clock = dilated(plan.clock, dilation, mode)?;
    }
    let dir = flags.out.clone().unwrap_or_else(|| PathBuf::from("out").join(file_name(&plan.name)));
    // A directory that cannot be written is found out before the run, not after it.
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let started = rfc3339(SystemTime::now());
    let progress = progress::reporter(&plan, mode, flags.quiet);
    let options = Options { mode: Some(mode), pcap: flags.pcap.clone(), progress };
    let result = entry::execute(&plan, options)?;
    let report = RunReport::build(&plan, &result, Meta { started, repeat: None });
    files::write(&dir, &report, result.recorder.rows(), &plan.effective)?;
    write!(out, "{}", text::render(&report, dir.to_str()))?;
    Ok(report.verdict().exit_code())
}

/// The mode, or one line that says why this build cannot do it.
fn supported(mode: Mode, dpdk: bool) -> anyhow::Result<Mode> {
    match mode {
        Mode::Rings | Mode::Ports if !dpdk => {
            let name = if mode == Mode::Rings { "rings" } else { "ports" };
            bail!(
                "--on {name} needs DPDK, and this is a build without it: build with the feature `dpdk`, or use --on \
                 virtual"
            )
        }
        Mode::Ports => bail!("--on ports is not supported yet: use --on rings or --on virtual"),
        mode => Ok(mode),
    }
}

fn dilated(clock: Clock, dilation: Dilation, mode: Mode) -> anyhow::Result<Clock> {
    match (clock, dilation) {
        _ if mode != Mode::Rings => {
            bail!("--dilation is for --on rings: nothing else has a clock to slow down")
        }
        (Clock::Elastic { .. }, Dilation::Auto) => Ok(Clock::Elastic { dilation: None }),
        (Clock::Elastic { .. }, Dilation::Factor(k)) => Ok(Clock::Elastic { dilation: Some(k) }),
        (Clock::Free { .. }, Dilation::Factor(k)) => Ok(Clock::Free { dilation: k }),
        (Clock::Free { .. }, Dilation::Auto) => {
            bail!(
                "--dilation auto needs an elastic clock; the profile says clock = \"free\", so give a number"
            )
        }
    }
}

/// A profile's name as a directory.
fn file_name(name: &str) -> String {
    let clean = |c: char| if c.is_alphanumeric() || "-_.+".contains(c) { c } else { '-' };
    let text: String = name.chars().map(clean).collect();
    let text = text.trim_matches('.').to_owned();
    if text.is_empty() { "run".into() } else { text }
}

/// "2026-03-01T12:00:00Z". Days to civil date by the algorithm of Howard Hinnant (proleptic Gregorian calendar).
fn rfc3339(t: SystemTime) -> String {
    let s = t.duration_since(UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or(0);
    let (days, second) = (s / 86_400, s % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

/// The name a path gives a run when nothing else does.
pub(super) fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // `date -u -d @N +%FT%TZ`
        let table = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ];
        for (s, text) in table {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(s)), text);
        }
    }

    #[test]
    fn a_build_without_dpdk_refuses_rings_in_one_line() {
        let e = supported(Mode::Rings, false).unwrap_err().to_string();
        assert!(e.contains("feature `dpdk`") && e.contains("--on virtual") && !e.contains('\n'), "{e}");
        assert_eq!(supported(Mode::Virtual, false).unwrap(), Mode::Virtual);
        assert!(supported(Mode::Ports, true).unwrap_err().to_string().contains("not supported yet"));
    }

    #[test]
    fn dilation_only_where_there_is_a_clock_to_slow_down() {
        let free = Clock::Free { dilation: 5.0 };
        assert!(dilated(free, Dilation::Auto, Mode::Rings).is_err());
        assert_eq!(dilated(free, Dilation::Factor(9.0), Mode::Rings).unwrap(), Clock::Free { dilation: 9.0 });
        assert!(dilated(free, Dilation::Factor(9.0), Mode::Virtual).is_err());
    }

    #[test]
    fn names_make_safe_directories() {
        assert_eq!(["a b/c", "..", "incast-32to1"].map(file_name), ["a-b-c", "run", "incast-32to1"]);
    }
}
