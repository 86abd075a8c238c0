//! `compare` and `report`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;

use super::args::{CompareArgs, ReportArgs};
use crate::report::{compare, files};

/// Lays results side by side: exit code 0 when equal within the tolerance, 1 when not.
pub fn compare(args: &CompareArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    if args.tolerance.is_nan() || args.tolerance < 0.0 {
        bail!("--tolerance is a share of 0 or more (0.01 = 1 %)");
    }
    let (a, b): (&[PathBuf], &[PathBuf]) = match (args.a.as_slice(), args.against.as_slice()) {
        ([a, b], []) => (std::slice::from_ref(a), std::slice::from_ref(b)),
        (_, []) => bail!("compare needs two sides: rankstorm compare A --against B"),
        sides => sides,
    };
    let read = |paths: &[PathBuf]| paths.iter().map(|p| files::read(p)).collect::<Result<Vec<_>, _>>();
    let names = |paths: &[PathBuf]| {
        let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        names.join(", ")
    };
    let comparison = compare::compare(&read(a)?, &read(b)?, [names(a), names(b)], args.tolerance);
    write!(out, "{}", comparison.text())?;
    Ok(comparison.exit_code())
}

/// Rebuilds report.txt and prints it; the exit code is the verdict of the run.
pub fn report(args: &ReportArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let (report, text) = files::rebuild(&args.dir)?;
    write!(out, "{text}")?;
    Ok(report.verdict().exit_code())
}
