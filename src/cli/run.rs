//! `run` and `check`.

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};

use super::args::{CheckArgs, Nos, RunArgs, RunFlags};
use super::{check, dut, progress};
use crate::plan::{Mode, Plan};
use crate::profile::{self, Overrides};
use crate::report::build::Meta;
use crate::report::model::RunReport;
use crate::report::{files, streams, text};
use crate::run::{self as driver, Options};
use crate::sys::signals::StopFlag;

/// Runs a profile.
pub fn run(args: &RunArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let plan = profile::load(&args.profile, &overrides(&args.flags))?;
    execute(&plan, &args.flags, None, out)
}

/// Validates a profile and predicts.
pub fn check_profile(args: &CheckArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let on = args.on.map(Mode::from);
    let overrides = Overrides { seed: args.seed, set: args.set.clone(), on, ..Overrides::default() };
    let plan = profile::load(&args.profile, &overrides)?;
    let text = match args.print_dut {
        Some(Nos::Sonic) => dut::sonic(&plan)?,
        None if args.print_plan => check::plan_text(&plan),
        None => check::check_text(&plan),
    };
    write!(out, "{text}")?;
    Ok(0)
}

/// The part of the command line that changes the profile.
pub(super) fn overrides(flags: &RunFlags) -> Overrides {
    Overrides {
        seed: flags.seed,
        set: flags.set.clone(),
        on: flags.on.map(Mode::from),
        dilation: flags.dilation.clone(),
        ..Overrides::default()
    }
}

/// Runs a plan, writes its directory and prints the summary; the exit code is the verdict. `repeat` is the command
/// that repeats the run where the effective profile alone does not.
pub(super) fn execute(
    plan: &Plan,
    flags: &RunFlags,
    repeat: Option<String>,
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    let mode = plan.mode.unwrap_or(Mode::Rings);
    driver::supported(mode)?;
    if flags.dilation.is_some() && mode != Mode::Rings {
        bail!("--dilation is for --on rings: nothing else has a clock to slow down");
    }
    let generators = plan.pfc_generators();
    if !generators.is_empty() && !flags.allow_pfc_generation {
        bail!(
            "{}: [[pfc]] makes port {} generate PFC, which can stop a network: add --allow-pfc-generation where that \
             is safe",
            plan.name,
            generators.join(", ")
        );
    }
    let dir = flags.out.clone().unwrap_or_else(|| PathBuf::from("out").join(file_name(&plan.name)));
    // A directory that cannot be written is found out before the run, not after it.
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let started = rfc3339(SystemTime::now());
    let options = Options {
        pcap: flags.pcap.clone(),
        progress: progress::reporter(plan, mode, flags.quiet),
        stop: StopFlag::on_signals().context("signal handlers")?,
        preflight: !flags.no_preflight,
        ..Options::new(mode)
    };
    let result = driver::execute(plan, options)?;
    let repeat = repeat.or_else(|| {
        let (dir, mode) = (dir.display(), mode_name(mode));
        let again = || {
            format!(
                "rankstorm run {dir}/profile.effective.toml --seed {} --on {mode} --allow-pfc-generation",
                plan.seed
            )
        };
        (!generators.is_empty()).then(again)
    });
    let report = RunReport::build(plan, &result, Meta { started, repeat });
    files::write_streams(&dir, &streams::rows(plan, &result.recorder))?;
    files::write(&dir, &report, result.recorder.rows(), &plan.effective)?;
    write!(out, "{}", text::render(&report, dir.to_str()))?;
    Ok(report.verdict().exit_code())
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Ports => "ports",
        Mode::Rings => "rings",
        Mode::Virtual => "virtual",
    }
}

/// A profile's name as a directory.
pub(super) fn file_name(name: &str) -> String {
    let clean = |c: char| if c.is_alphanumeric() || "-_.+".contains(c) { c } else { '-' };
    let text: String = name.chars().map(clean).collect();
    let text = text.trim_matches('.').to_owned();
    if text.is_empty() { "run".into() } else { text }
}

/// "2026-03-01T12:00:00Z". Days to civil date by the algorithm of Howard Hinnant (proleptic Gregorian calendar).
pub(super) fn rfc3339(t: SystemTime) -> String {
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
    fn names_make_safe_directories() {
        assert_eq!(["a b/c", "..", "incast-32to1"].map(file_name), ["a-b-c", "run", "incast-32to1"]);
    }
}
