//! `sweep`: one profile over all combinations of some values, several at a time, each in virtual time on a thread of its
//! own; a directory per point, one table and one CSV file for all.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, bail};

use super::EXIT_USAGE;
use super::args::SweepArgs;
use super::run::{file_name, rfc3339};
use crate::plan::{Mode, Plan};
use crate::profile::{self, Overrides};
use crate::report::build::Meta;
use crate::report::model::RunReport;
use crate::report::number::time;
use crate::report::{files, streams};
use crate::run::{self as driver, Options};
use crate::sys::memory;
use crate::sys::signals::StopFlag;

const POINTS_MAX: usize = 10_000;

/// One key and its values.
#[derive(Debug, PartialEq, Eq)]
struct Axis {
    key: String,
    values: Vec<String>,
}

/// Words of a line.
type Row = Vec<String>;

/// What is said of a point: heading of the table, and of sweep.csv, whose figures are plain numbers in one unit.
const COLUMNS: [(&str, &str); 9] = [
    ("verdict", "verdict"),
    ("completion", "completion_ns"),
    ("over ideal", "ideal_ratio"),
    ("busbw Gb/s", "busbw_gbps"),
    ("msg p99", "message_ns_p99"),
    ("lost", "lost"),
    ("paused", "paused_ns"),
    ("CE", "ce_marked"),
    ("hash", "hash"),
];

/// One point that was tried.
#[derive(Clone, Debug)]
struct Point {
    /// Exit code.
    code: u8,
    /// In the order of [`COLUMNS`]: for the table, and for sweep.csv.
    table: Row,
    csv: Row,
}

/// Runs every point.
pub fn sweep(args: &SweepArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let axes = args.over.iter().map(|text| axis(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let count = axes.iter().try_fold(1usize, |n, a| n.checked_mul(a.values.len()));
    let Some(count) = count.filter(|n| *n <= POINTS_MAX) else {
        bail!("--over makes more than {POINTS_MAX} points: leave some values out");
    };
    let points: Vec<Vec<&str>> = (0..count).map(|n| point(&axes, n)).collect();
    let load = |values: &[&str]| plan(args, &axes, values);
    // A point that cannot run is found out before the first one does.
    let mut peak = 0;
    let mut name = String::new();
    for values in &points {
        let plan = load(values).with_context(|| label(&axes, values))?;
        let generators = plan.pfc_generators();
        if !generators.is_empty() {
            bail!("[[pfc]] makes port {} generate PFC: sweep runs no such profile", generators.join(", "));
        }
        peak = peak.max(plan.predicted.memory.peak_bytes);
        name = plan.name;
    }
    let dir =
        args.out.clone().unwrap_or_else(|| PathBuf::from("out").join(format!("{}-sweep", file_name(&name))));
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let jobs = jobs(args.jobs.map(usize::from), count, peak, memory::available_bytes());
    let mb = peak.div_ceil(1_000_000);
    writeln!(io::stderr(), "{count} points, {jobs} at a time, {mb} MB each at most, into {}", dir.display())?;

    let stop = StopFlag::on_signals().context("signal handlers")?;
    let tried: Mutex<Vec<Option<Point>>> = Mutex::new(vec![None; count]);
    let next = AtomicUsize::new(0);
    let path = dir.join("sweep.csv");
    let work = || -> anyhow::Result<()> {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(values) = points.get(n).filter(|_| !stop.is_raised()) else { return Ok(()) };
            let label = label(&axes, values);
            let to = dir.join(format!("{n:04}-{}", file_name(&label)));
            let run = || one(&load(values)?, &to, stop.clone());
            // The other points are worth having.
            let point = run().unwrap_or_else(|e| failed(&label, &e));
            let mut tried = tried.lock().unwrap_or_else(PoisonError::into_inner);
            tried[n] = Some(point.clone());
            let done = tried.iter().flatten().count();
            let _ = writeln!(io::stderr(), "{done}/{count}  {label}  {}", point.table[..2].join("  "));
            // What is there is there, whatever becomes of the rest.
            let text = csv(&lines(&axes, &points, &tried, COLUMNS.map(|c| c.1), |p| &p.csv));
            std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
    };
    std::thread::scope(|s| {
        let workers: Vec<_> = (0..jobs).map(|_| s.spawn(work)).collect();
        let ends = workers.into_iter().map(|w| w.join());
        let ends = ends.map(|end| end.unwrap_or_else(|_| bail!("a point ended the program's thread")));
        ends.collect::<anyhow::Result<Vec<()>>>()
    })?;
    let tried = tried.into_inner().unwrap_or_else(PoisonError::into_inner);
    write!(out, "{}", table(&lines(&axes, &points, &tried, COLUMNS.map(|c| c.0), |p| &p.table)))?;
    let worst = tried.iter().flatten().map(|p| p.code).max().unwrap_or(0);
    Ok(worst.max(u8::from(stop.is_raised())))
}

/// A heading and a line for every point.
fn lines(
    axes: &[Axis],
    points: &[Vec<&str>],
    tried: &[Option<Point>],
    columns: [&str; COLUMNS.len()],
    of: impl Fn(&Point) -> &Row,
) -> Vec<Row> {
    let heading = axes.iter().map(|a| a.key.clone()).chain(columns.map(str::to_owned)).collect();
    let line = |(values, point): (&Vec<&str>, &Option<Point>)| {
        let figures = point.as_ref().map_or(vec!["not run".to_owned()], |p| of(p).clone());
        values.iter().map(|v| (*v).to_owned()).chain(figures).collect()
    };
    std::iter::once(heading).chain(points.iter().zip(tried).map(line)).collect()
}

/// A point that could not be run, and why, on stderr.
fn failed(label: &str, why: &anyhow::Error) -> Point {
    let _ = writeln!(io::stderr(), "error: {label}: {why:#}");
    let row = vec!["ERROR".to_owned(), "-".to_owned()];
    Point { code: EXIT_USAGE, csv: row[..1].to_vec(), table: row }
}

/// `key.path=a,b,c`; `a..b` stands for all whole numbers from a to b.
fn axis(text: &str) -> anyhow::Result<Axis> {
    let wrong = || format!("--over {text}: write it as key.path=a,b,c, or key.path=1..8 for whole numbers");
    let (key, values) = text.split_once('=').with_context(wrong)?;
    let range: Option<(u64, u64)> =
        values.split_once("..").and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    let values: Vec<String> = match range {
        Some((a, b)) if a <= b && b - a < POINTS_MAX as u64 => (a..=b).map(|n| n.to_string()).collect(),
        Some(_) => bail!("{}", wrong()),
        None => split(values),
    };
    if key.trim().is_empty() || values.iter().any(String::is_empty) {
        bail!("{}", wrong());
    }
    Ok(Axis { key: key.trim().to_owned(), values })
}

/// Parts between commas that stand in no brackets and no quotes.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut depth, mut quoted) = (vec![String::new()], 0, false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        match parts.last_mut() {
            Some(part) if c != ',' || quoted || depth > 0 => part.push(c),
            _ => parts.push(String::new()),
        }
    }
    parts.iter().map(|p| p.trim().to_owned()).collect()
}

/// Values of point `n`: the last key varies fastest.
fn point(axes: &[Axis], mut n: usize) -> Vec<&str> {
    let mut values: Vec<&str> = Vec::new();
    for axis in axes.iter().rev() {
        values.push(&axis.values[n % axis.values.len()]);
        n /= axis.values.len();
    }
    values.reverse();
    values
}

fn label(axes: &[Axis], values: &[&str]) -> String {
    let pairs = axes.iter().zip(values).map(|(a, v)| format!("{}={v}", a.key));
    pairs.collect::<Vec<_>>().join("+")
}

fn plan(args: &SweepArgs, axes: &[Axis], values: &[&str]) -> anyhow::Result<Plan> {
    let pairs = axes.iter().zip(values).map(|(a, v)| format!("{}={v}", a.key));
    let set = args.set.iter().cloned().chain(pairs).collect();
    let overrides = Overrides { seed: args.seed, set, on: Some(Mode::Virtual), ..Overrides::default() };
    Ok(profile::load(&args.profile, &overrides)?)
}

/// As many at a time as there are cores, and as memory holds.
fn jobs(asked: Option<usize>, points: usize, peak: u64, available: Option<u64>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let fit = available.and_then(|bytes| bytes.checked_div(peak)).map_or(usize::MAX, |n| n as usize);
    asked.unwrap_or(cores).min(points).min(fit).max(1)
}

/// Runs one point into its directory.
fn one(plan: &Plan, dir: &Path, stop: StopFlag) -> anyhow::Result<Point> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let started = rfc3339(SystemTime::now());
    let result = driver::execute(plan, Options { stop, ..Options::new(Mode::Virtual) })?;
    let report = RunReport::build(plan, &result, Meta { started, repeat: None });
    files::write(dir, &report, result.recorder.rows(), &plan.effective)?;
    files::write_streams(dir, &streams::rows(plan, &result.recorder))?;
    Ok(figures(&report))
}

fn figures(r: &RunReport) -> Point {
    let first = r.workload.first();
    let code = r.verdict().exit_code();
    let verdict = ["PASS", "FAIL", "ERROR", "UNSURE"].get(usize::from(code)).copied().unwrap_or_default();
    // (shown, plain, to the picosecond where it is a time); what was not measured is a dash in one and nothing in the other.
    let of = |value: Option<f64>, show: &dyn Fn(f64) -> String| match value {
        Some(x) => (show(x), ((x * 1e6).round() / 1e6).to_string()),
        None => ("-".to_owned(), String::new()),
    };
    let same = |text: String| (text.clone(), text);
    let hash = r.outcome_hash.as_ref().map(|h| h.chars().take(12).collect());
    let cells: [(String, String); COLUMNS.len()] = [
        same(verdict.to_owned()),
        of(first.and_then(|w| w.completion_ns.percentiles.mean), &time),
        of(first.and_then(|w| w.ideal_ratio), &|x| format!("{x:.3}")),
        of(first.and_then(|w| w.busbw_gbps), &|x| format!("{x:.2}")),
        of(first.and_then(|w| w.message_ns.p99), &time),
        same(r.classes.iter().map(|c| c.lost).sum::<u64>().to_string()),
        of(Some(r.classes.iter().filter_map(|c| c.paused_ns).sum()), &time),
        same(r.switches.iter().filter_map(|s| s.ce_marked).sum::<u64>().to_string()),
        same(hash.unwrap_or_default()),
    ];
    let (table, csv) = cells.into_iter().unzip();
    Point { code, table, csv }
}

fn table(lines: &[Row]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width =
        |i: usize| lines.iter().filter_map(|l| l.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(c, w)| format!("{c:>w$}")).collect();
        let _ = writeln!(text, "{}", cells.join("  "));
    }
    text
}

fn csv(lines: &[Row]) -> String {
    let cell = |c: &String| match c.contains([',', '"', '\n']) {
        true => format!("\"{}\"", c.replace('"', "\"\"")),
        false => c.clone(),
    };
    lines.iter().map(|l| l.iter().map(cell).collect::<Vec<_>>().join(",") + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_split_outside_brackets_and_quotes() {
        let values = |text: &str| axis(text).unwrap().values;
        assert_eq!(values("run.seed=1,2, 3"), ["1", "2", "3"]);
        assert_eq!(values("run.seed=3..5"), ["3", "4", "5"]);
        assert_eq!(
            values("a.b={ kmin = 1, kmax = 2 },off,\"x,y\""),
            ["{ kmin = 1, kmax = 2 }", "off", "\"x,y\""]
        );
        for wrong in ["run.seed", "run.seed=", "=1", "run.seed=1,,2", "run.seed=5..3", "run.seed=1..99999999"]
        {
            assert!(axis(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn points_are_all_combinations_in_order() {
        let axes = [axis("a=1,2").unwrap(), axis("b=x,y,z").unwrap()];
        let all: Vec<String> = (0..6).map(|n| label(&axes, &point(&axes, n))).collect();
        assert_eq!((all[0].as_str(), all[1].as_str(), all[5].as_str()), ("a=1+b=x", "a=1+b=y", "a=2+b=z"));
    }

    #[test]
    fn memory_bounds_how_many_run_at_a_time() {
        assert_eq!(jobs(Some(8), 100, 1 << 30, Some(3 << 30)), 3);
        assert_eq!(jobs(Some(8), 5, 1 << 20, Some(3 << 30)), 5);
        assert_eq!(jobs(Some(8), 5, 4 << 30, Some(3 << 30)), 1, "one is tried");
    }
}
