//! Importers: what others wrote down about traffic, lowered to a [`Schedule`].
//!
//! Parsers take readers and never panic, whatever the bytes; [`load`] is the one place of this layer that
//! opens files, once, before anything runs.

mod captured;
pub mod flows;
pub mod hpcc;
mod lines;
mod messages;
pub mod pcap;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::schedule::{Op, OpId, OpKind, Schedule};
use crate::units::Span;

/// Messages one import may hold: more would take several GB as operations.
pub const MESSAGES_MAX: usize = 1 << 23;

/// Formats by the names of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A capture of RoCEv2 frames.
    Pcap,
    /// CSV with a header: src, dst, bytes, start_ns.
    Flows,
    /// HPCC / ConWeave `flow.txt`, with an optional `dep.txt` beside it.
    Hpcc,
}

/// Names that `--format` will know; importers to come.
const NOT_YET: [&str; 8] = ["htsim", "goal", "chakra", "simai", "aicb", "msccl", "nccl-log", "kineto"];

impl Format {
    /// The format of that name; `auto` is `None`.
    pub fn named(name: &str) -> Result<Option<Format>, ImportError> {
        match name {
            "auto" => Ok(None),
            "pcap" => Ok(Some(Format::Pcap)),
            "flows" => Ok(Some(Format::Flows)),
            "hpcc" => Ok(Some(Format::Hpcc)),
            other if NOT_YET.contains(&other) => Err(ImportError::NotYet { format: other.into() }),
            other => Err(ImportError::NoSuchFormat { format: other.into() }),
        }
    }

    /// The name `--format` takes.
    pub fn name(self) -> &'static str {
        match self {
            Format::Pcap => "pcap",
            Format::Flows => "flows",
            Format::Hpcc => "hpcc",
        }
    }

    /// Recognises a format by the first bytes of a file, then by its name.
    pub fn detect(path: &Path, head: &[u8]) -> Option<Format> {
        const PCAP: [[u8; 4]; 5] = [
            [0xa1, 0xb2, 0xc3, 0xd4],
            [0xd4, 0xc3, 0xb2, 0xa1],
            [0xa1, 0xb2, 0x3c, 0x4d],
            [0x4d, 0x3c, 0xb2, 0xa1],
            [0x0a, 0x0d, 0x0d, 0x0a],
        ];
        if head.get(..4).is_some_and(|magic| PCAP.iter().any(|m| m == magic)) {
            return Some(Format::Pcap);
        }
        let text = String::from_utf8_lossy(head);
        let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        let first = lines.next().unwrap_or_default();
        if flows::is_csv_header(first) {
            return Some(Format::Flows);
        }
        let columns = lines.next().map(|l| l.split_whitespace().collect::<Vec<_>>());
        if first.parse::<u64>().is_ok()
            && columns.is_none_or(|c| c.len() == 6 && c.iter().all(|v| v.parse::<f64>().is_ok()))
        {
            return Some(Format::Hpcc);
        }
        match path.extension()?.to_str()? {
            "pcap" | "cap" | "pcapng" => Some(Format::Pcap),
            "csv" => Some(Format::Flows),
            _ => None,
        }
    }
}

/// How a capture's times become a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Replay {
    /// Messages of a source keep the spacing they had: the load does not react to the network.
    Timed,
    /// A message waits for what it followed: a message received just before, or the previous one of its queue
    /// pair.
    #[default]
    Dependent,
}

/// Why an import failed: where, what, and what to do.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file could not be read.
    #[error("{file}: {error}: check the path and its permissions")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Something wrong at a line of a text file.
    #[error("{file}, line {line}: {what}")]
    Line {
        /// The file.
        file: String,
        /// Line, from 1.
        line: u64,
        /// What is wrong and how to mend it.
        what: String,
    },
    /// Something wrong with a whole file.
    #[error("{file}: {what}")]
    File {
        /// The file.
        file: String,
        /// What is wrong and how to mend it.
        what: String,
    },
    /// A capture that cannot be read.
    #[error(transparent)]
    Capture(crate::wire::capture::CaptureError),
    /// No format fits.
    #[error(
        "{file}: not a format this tool recognises; name it with --format: pcap (RoCEv2 capture), \
         flows (CSV with src,dst,bytes,start_ns) or hpcc \
         (flow.txt: a count, then src dst pg dport bytes start_seconds)"
    )]
    Unknown {
        /// The file.
        file: String,
    },
    /// An importer to come.
    #[error("format \"{format}\" is not supported yet: this version reads pcap, flows and hpcc")]
    NotYet {
        /// The name.
        format: String,
    },
    /// A misspelt format.
    #[error("no format is called \"{format}\": this version reads pcap, flows and hpcc (or auto)")]
    NoSuchFormat {
        /// The name.
        format: String,
    },
}

/// An imported file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What it was.
    pub format: Format,
    /// Its traffic.
    pub schedule: Schedule,
}

/// Reads a file, or a folder that holds a `flow.txt`, and checks that the schedule can run.
/// `format` `None` recognises it by content, then by extension.
pub fn load(path: &Path, format: Option<Format>, replay: Replay) -> Result<Imported, ImportError> {
    let path = if path.is_dir() { path.join("flow.txt") } else { path.to_path_buf() };
    let file = path.display().to_string();
    let io = |error| ImportError::Io { file: file.clone(), error };
    let format = match format {
        Some(format) => format,
        None => {
            let mut head = Vec::new();
            File::open(&path).map_err(io)?.take(4096).read_to_end(&mut head).map_err(io)?;
            Format::detect(&path, &head).ok_or(ImportError::Unknown { file: file.clone() })?
        }
    };
    let open = || File::open(&path).map(BufReader::new).map_err(io);
    let schedule = match format {
        Format::Pcap => pcap::read(&path, replay)?,
        Format::Flows => flows::read_csv(&file, open()?)?,
        Format::Hpcc => {
            let deps = match dep_file(&path) {
                Some(deps) => {
                    let name = deps.display().to_string();
                    let opened =
                        File::open(&deps).map_err(|error| ImportError::Io { file: name.clone(), error })?;
                    Some((name, BufReader::new(opened)))
                }
                None => None,
            };
            flows::read_hpcc(&file, open()?, deps)?
        }
    };
    schedule.check().map_err(|error| ImportError::File { file, what: error.to_string() })?;
    Ok(Imported { format, schedule })
}

/// Reads a folder as the HPCC simulator takes it: `config.txt` and the files that it names.
pub fn load_hpcc(dir: &Path) -> Result<hpcc::Folder, ImportError> {
    let text = |name: &str| {
        let path = dir.join(name);
        let file = path.display().to_string();
        std::fs::read(&path)
            .map(|bytes| (file.clone(), bytes))
            .map_err(|error| ImportError::Io { file, error })
    };
    let there = |name: &&String| dir.join(name).is_file();
    let (file, bytes) = text("config.txt")?;
    let config = hpcc::Config::read(&file, &bytes[..])?;
    let (topology_file, topology) = text(&config.topology_file)?;
    let (flow_file, flows) = text(&config.flow_file)?;
    let deps = config.dep_file.as_ref().map(|name| text(name)).transpose()?;
    let pins = config.path_file.as_ref().filter(there).map(|name| text(name)).transpose()?;
    let part = |part: &Option<(String, Vec<u8>)>| part.as_ref().map(|(f, b)| (f.clone(), b.clone()));
    hpcc::Folder::read(
        dir.display().to_string(),
        config,
        (topology_file, topology),
        (flow_file, flows),
        part(&deps),
        part(&pins),
    )
}

/// The `dep.txt` that belongs to a `flow.txt`: same folder, same name but for that word.
fn dep_file(flow: &Path) -> Option<PathBuf> {
    let name = flow.file_name()?.to_str()?;
    let deps = flow.with_file_name(name.replacen("flow", "dep", 1));
    (deps != flow && deps.is_file()).then_some(deps)
}

/// Appends an operation to a rank's program that waits for the end of all `after` and the start of all
/// `after_start`, however many: zero-length computations gather more than an [`Op`] holds.
pub(crate) fn append(ops: &mut Vec<Op>, kind: OpKind, after: &[OpId], after_start: &[OpId]) -> OpId {
    let mut op = Op::new(kind);
    for (list, starts) in [(after, false), (after_start, true)] {
        let mut rest = list.to_vec();
        while rest.len() > op.after.capacity() {
            let gathered = rest.split_off(rest.len() - op.after.capacity());
            let mut gate = Op::new(OpKind::Calc { span: Span::ZERO });
            let slots = if starts { &mut gate.after_start } else { &mut gate.after };
            slots.extend(gathered);
            rest.push(ops.len() as OpId);
            ops.push(gate);
        }
        let slots = if starts { &mut op.after_start } else { &mut op.after };
        slots.extend(rest);
    }
    ops.push(op);
    ops.len() as OpId - 1
}
