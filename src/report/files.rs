//! What a run leaves in its directory: report.json, report.txt, flows.csv, streams.csv, snapshots.csv,
//! profile.effective.toml.
//!
//! Each file is written beside its place and renamed, so that a reader never sees half of one.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::model::{RunReport, SCHEMA, Snapshot};
use super::streams::{self, StreamRow};
use super::text;
use crate::measure::record::{MessageRecord, Outcome};

/// Name of the report.
pub const REPORT_JSON: &str = "report.json";
/// Name of the one-screen summary.
pub const REPORT_TXT: &str = "report.txt";
/// Name of the message table.
pub const FLOWS_CSV: &str = "flows.csv";
/// Name of the table of streams.
pub const STREAMS_CSV: &str = "streams.csv";
/// Name of the table of snapshots.
pub const SNAPSHOTS_CSV: &str = "snapshots.csv";
/// Name of the profile with every default written out.
pub const PROFILE_TOML: &str = "profile.effective.toml";

/// Why results could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system said no.
    #[error("{}: {error}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        error: io::Error,
    },
    /// Not a report.
    #[error("{}: not a report: {error}", path.display())]
    Json {
        /// Where.
        path: PathBuf,
        /// What.
        error: serde_json::Error,
    },
    /// A report of another schema.
    #[error("{}: report schema {found}; this build reads schema {SCHEMA}", path.display())]
    Schema {
        /// Where.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError + '_ {
    move |error| FileError::Io { path: path.to_owned(), error }
}

/// Writes `name` into `dir` through a temporary file and a rename.
fn write_atomically(
    dir: &Path,
    name: &str,
    fill: impl FnOnce(&mut BufWriter<fs::File>) -> io::Result<()>,
) -> Result<(), FileError> {
    let path = dir.join(name);
    let temp = dir.join(format!(".{name}.{}", std::process::id()));
    let write = || {
        let mut w = BufWriter::new(fs::File::create(&temp)?);
        fill(&mut w)?;
        w.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()?;
        fs::rename(&temp, &path)
    };
    write().map_err(|e| {
        // The first error is the one to tell; a temporary file that stays behind harms nothing.
        let _ = fs::remove_file(&temp);
        at(&path)(e)
    })
}

/// Writes all files of a run into `dir`, which is made if it is not there. A partial run is written like any other;
/// `complete` and `missing` say what it lacks.
///
/// # Errors
/// The first file that could not be written.
pub fn write(
    dir: &Path,
    report: &RunReport,
    flows: &[MessageRecord],
    effective: &str,
) -> Result<(), FileError> {
    fs::create_dir_all(dir).map_err(at(dir))?;
    write_atomically(dir, PROFILE_TOML, |w| w.write_all(effective.as_bytes()))?;
    write_atomically(dir, FLOWS_CSV, |w| write_flows(w, flows))?;
    if report.snapshots.is_empty() {
        // What an earlier run left here.
        let _ = fs::remove_file(dir.join(SNAPSHOTS_CSV));
    } else {
        write_atomically(dir, SNAPSHOTS_CSV, |w| write_snapshots(w, &report.snapshots))?;
    }
    write_atomically(dir, REPORT_TXT, |w| w.write_all(text::render(report, dir.to_str()).as_bytes()))?;
    write_atomically(dir, REPORT_JSON, |w| {
        serde_json::to_writer_pretty(&mut *w, report)?;
        w.write_all(b"\n")
    })
}

/// Writes the latency of each stream; nothing when there is none, and what an earlier run left there is removed.
///
/// # Errors
/// The file could not be written.
pub fn write_streams(dir: &Path, rows: &[StreamRow]) -> Result<(), FileError> {
    if rows.is_empty() {
        let _ = fs::remove_file(dir.join(STREAMS_CSV));
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(at(dir))?;
    write_atomically(dir, STREAMS_CSV, |w| streams::write(w, rows))
}

/// One line per measured message. Times are nominal nanoseconds since the start of the run, to the picosecond.
pub fn write_flows(w: &mut impl Write, flows: &[MessageRecord]) -> io::Result<()> {
    writeln!(
        w,
        "workload,iteration,from,to,tag,bytes,intended_ns,started_ns,finished_ns,fct_ns,outcome,retransmitted"
    )?;
    let ns = |ps: u64| format!("{}.{:03}", ps / 1_000, ps % 1_000);
    for m in flows {
        let outcome = match m.outcome {
            Outcome::Completed => "completed",
            Outcome::Local => "local",
            Outcome::RetryExceeded => "retry-exceeded",
            Outcome::RemoteError => "remote-error",
        };
        writeln!(
            w,
            "{},{},{},{},{},{},{},{},{},{},{outcome},{}",
            m.workload,
            m.iteration,
            m.from.0,
            m.to.0,
            m.tag,
            m.bytes,
            ns(m.intended.0),
            ns(m.started.0),
            ns(m.finished.0),
            ns(m.finished.since(m.intended).0),
            m.retransmitted
        )?;
    }
    Ok(())
}

/// One line per pool, queue and priority group of each snapshot; what holds nothing has none, but the pool.
pub fn write_snapshots(w: &mut impl Write, snapshots: &[Snapshot]) -> io::Result<()> {
    writeln!(w, "at_ns,name,switch,what,port,priority,bytes,headroom_bytes,limit_bytes,xoff")?;
    for s in snapshots {
        for (number, switch) in s.switches.iter().enumerate() {
            let begin = format!("{},\"{}\",{number}", s.at_ns, s.name.replace('"', "\"\""));
            writeln!(w, "{begin},pool,,,{},{},,", switch.shared_bytes, switch.headroom_bytes)?;
            for q in &switch.queues {
                writeln!(w, "{begin},queue,{},{},{},,,", q.port, q.priority, q.depth_bytes)?;
            }
            for g in &switch.groups {
                let (used, headroom, limit) = (g.used_bytes, g.headroom_bytes, g.limit_bytes);
                let xoff = u8::from(g.xoff);
                writeln!(w, "{begin},group,{},{},{used},{headroom},{limit},{xoff}", g.port, g.priority)?;
            }
        }
    }
    Ok(())
}

/// Reads a report from its file, or from the directory that holds it.
///
/// # Errors
/// [`FileError`] when there is none, or when it is not a report this build reads.
pub fn read(path: &Path) -> Result<RunReport, FileError> {
    let path = if path.is_dir() { path.join(REPORT_JSON) } else { path.to_owned() };
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let report: RunReport =
        serde_json::from_str(&text).map_err(|error| FileError::Json { path: path.clone(), error })?;
    if report.schema != SCHEMA {
        return Err(FileError::Schema { path, found: report.schema });
    }
    Ok(report)
}

/// Writes report.txt anew from report.json in `dir`, and returns its text.
///
/// # Errors
/// As [`read`], or when the file could not be written.
pub fn rebuild(dir: &Path) -> Result<(RunReport, String), FileError> {
    let report = read(dir)?;
    let text = text::render(&report, dir.to_str());
    write_atomically(dir, REPORT_TXT, |w| w.write_all(text.as_bytes()))?;
    Ok((report, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_report_survives_the_disk_and_half_a_file_is_never_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (plan, result) = fixture::incast();
        let report = fixture::report(&plan, &result);
        for _ in 0..2 {
            write(dir.path(), &report, result.recorder.rows(), "name = \"x\"\n").unwrap();
        }
        let back = read(dir.path()).unwrap();
        assert_eq!(text::render(&back, None), text::render(&report, None));
        assert_eq!((back.outcome_hash, back.ports.len()), (report.outcome_hash, report.ports.len()));
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, [FLOWS_CSV, PROFILE_TOML, REPORT_JSON, REPORT_TXT]);
        let (_, text) = rebuild(dir.path()).unwrap();
        assert_eq!(text, fs::read_to_string(dir.path().join(REPORT_TXT)).unwrap());
    }

    #[test]
    fn a_report_of_another_schema_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(REPORT_JSON), "{\"schema\": 7}").unwrap();
        assert!(
            read(dir.path()).unwrap_err().to_string().ends_with("report schema 7; this build reads schema 1")
        );
        fs::write(dir.path().join(REPORT_JSON), "{").unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().contains("not a report"));
    }

    #[test]
    fn flows_have_one_line_per_message() {
        let (_, result) = fixture::incast();
        let mut out = Vec::new();
        write_flows(&mut out, &result.recorder.rows()[..2]).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
