//! TOML as typed, to a [`Plan`] with every default visible.
//!
//! A profile passes five stations: text with overrides ([`source`]), document ([`doc`]), defaults
//! ([`defaults`]), parts
//! ([`classes`], [`ports`], [`traffic`], [`fabric`], [`connect`], [`expect`]), plan ([`build`]). A
//! complaint from any of
//! them is one line with file, line, column, key and fix.

mod build;
mod classes;
mod connect;
mod defaults;
pub mod doc;
mod ecmp;
mod expect;
mod fabric;
pub mod fabric_doc;
mod faults;
mod lab;
mod limits;
mod links;
mod pfc;
mod port_doc;
mod ports;
pub mod preset;
pub mod quantity;
mod rate;
mod rate_doc;
mod reliability;
mod shape;
pub mod sonic;
mod source;
pub mod switch_doc;
mod traffic;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use source::ProfileError;

use crate::plan::{Mode, Plan, memory};
use crate::workload::import::{self, Format, Replay};
use crate::workload::schedule::Schedule;
use doc::{Dilation, KindDoc, ProfileDoc, RunDoc, TimingDoc, WorkloadDoc};
use source::{Fault, Source};

/// What the command line changes in a profile.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--seed`.
    pub seed: Option<u64>,
    /// `--set key.path=value`, in order.
    pub set: Vec<String>,
    /// `--on`.
    pub on: Option<Mode>,
    /// `--dilation`: `"auto"` or a factor.
    pub dilation: Option<String>,
    /// Schedules that are already read, by the `file` key of their workload.
    pub schedules: Vec<(String, Arc<Schedule>)>,
    /// `replay FILE`: adds a workload that replays this file.
    pub replay: Option<String>,
}

/// Reads the profile at `path` and makes the plan.
///
/// # Errors
/// One line with file, line, column, key and fix: see [`ProfileError`].
pub fn load(path: &Path, overrides: &Overrides) -> Result<Plan, ProfileError> {
    let text = std::fs::read_to_string(path).map_err(|e| ProfileError {
        place: path.display().to_string(),
        text: format!("cannot read the profile: {e}"),
    })?;
    make(&path.display().to_string(), &text, overrides, Some(path.to_path_buf()))
}

/// Makes the plan of a profile in memory; `name` stands for the file in complaints.
///
/// # Errors
/// As [`load`].
pub fn from_str(name: &str, text: &str, overrides: &Overrides) -> Result<Plan, ProfileError> {
    make(name, text, overrides, None)
}

fn make(name: &str, text: &str, overrides: &Overrides, path: Option<PathBuf>) -> Result<Plan, ProfileError> {
    let source = Source::new(name, text, &overrides.set)?;
    let mut doc = source.document()?;
    let [question, expectation, takes] = source::header(text);
    doc.question = doc.question.or(question);
    doc.expectation = doc.expectation.or(expectation);
    doc.takes = doc.takes.or(takes);
    if doc.name.is_none() {
        let stem = Path::new(name).file_stem().map(|s| s.to_string_lossy().into_owned());
        doc.name = stem.map(|s| folder_name(s.strip_suffix(".effective").unwrap_or(&s)));
    }
    command_line(&mut doc, overrides)?;
    let locate = |fault: Fault| source.locate(fault);
    let schedules = schedules(&mut doc, overrides, path.as_deref()).map_err(locate)?;
    let ranks: Vec<u32> = schedules.iter().map(|s| s.as_ref().map_or(0, |s| s.ranks.len() as u32)).collect();
    let configuration = sonic::read(&mut doc, path.as_deref()).map_err(locate)?;
    // Where a real switch carries the frames, one is modelled only when the profile describes it, to be compared with.
    let described = doc.switch.is_some() || doc.fabric.is_some();
    let modelled = described || doc.run.as_ref().and_then(|r| r.on) != Some(Mode::Ports);
    defaults::fill(&mut doc, &ranks).map_err(locate)?;
    let imported = configuration.map(|c| c.resolve(&doc)).transpose().map_err(locate)?;
    defaults::classes(&mut doc, imported.as_ref());
    rate::fill(&mut doc).map_err(locate)?;
    let mut plan = build::build(&doc, &schedules, imported.as_ref(), path).map_err(locate)?;
    if plan.mode == Some(Mode::Ports) {
        plan.predicted.memory = memory::on_ports(&plan);
    }
    if !modelled {
        plan.without_model();
        // Loaded again it is to be the same.
        (doc.switch, doc.fabric) = (None, None);
    }
    plan.effective = effective(&doc, name)?;
    if imported.is_some() {
        plan.effective.push_str(&sonic::summary(&plan));
    }
    Ok(plan)
}

/// A file's name as the name of an output folder.
fn folder_name(stem: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = stem.trim_start_matches('.').chars().map(plain).collect();
    if name.is_empty() { "profile".into() } else { name }
}

fn command_line(doc: &mut ProfileDoc, overrides: &Overrides) -> Result<(), ProfileError> {
    let run: &mut RunDoc = doc.run.get_or_insert_default();
    let bad = |place: String, text: &str| Err(ProfileError { place, text: text.into() });
    if let Some(seed) = overrides.seed {
        run.seed = Some(seed);
    }
    if run.seed.is_some_and(|s| i64::try_from(s).is_err()) {
        return bad("--seed".into(), "must be from 0 to 2^63 - 1");
    }
    run.on = overrides.on.or(run.on);
    match overrides.dilation.as_deref() {
        None => {}
        Some("auto") => run.dilation = Some(Dilation::Auto),
        Some(k) => match k.parse::<f64>() {
            Ok(k) if (1.0..=1e6).contains(&k) => run.dilation = Some(Dilation::Factor(k)),
            _ => return bad(format!("--dilation {k}"), "must be \"auto\" or a factor from 1 to 1000000"),
        },
    }
    if let Some(file) = &overrides.replay {
        let kind = Some(KindDoc::Replay);
        doc.workload.push(WorkloadDoc { kind, file: Some(file.clone()), ..WorkloadDoc::default() });
    }
    Ok(())
}

/// The schedule of each workload that replays one. Files are looked for beside the profile; the document
/// then holds
/// their full path, so that the effective profile finds them from any folder.
fn schedules(
    doc: &mut ProfileDoc,
    overrides: &Overrides,
    profile: Option<&Path>,
) -> Result<Vec<Option<Arc<Schedule>>>, Fault> {
    let folder = profile.and_then(Path::parent).unwrap_or(Path::new("."));
    let one = |(i, w): (usize, &mut WorkloadDoc)| {
        let (Some(KindDoc::Replay), Some(file)) = (w.kind, &w.file) else { return Ok(None) };
        if let Some((_, schedule)) = overrides.schedules.iter().find(|(name, _)| name == file) {
            return Ok(Some(schedule.clone()));
        }
        let place = |key: &str| format!("workload[{i}].{key}");
        let path = std::fs::canonicalize(folder.join(file)).map_err(|e| Fault {
            path: place("file"),
            text: format!("cannot be read: {e}; give a path beside the profile"),
        })?;
        let format = Format::named(w.format.as_deref().unwrap_or("auto"))
            .map_err(|e| Fault { path: place("format"), text: e.to_string() })?;
        let replay = match w.timing {
            Some(TimingDoc::Timed) => Replay::Timed,
            _ => Replay::Dependent,
        };
        let imported = import::load(&path, format, replay)
            .map_err(|e| Fault { path: place("file"), text: e.to_string().replace('\n', " ") })?;
        w.file = Some(path.display().to_string());
        Ok(Some(Arc::new(imported.schedule)))
    };
    doc.workload.iter_mut().enumerate().map(one).collect()
}

fn effective(doc: &ProfileDoc, name: &str) -> Result<String, ProfileError> {
    let body = toml::to_string(doc).map_err(|e| ProfileError {
        place: name.into(),
        text: format!("cannot write the effective profile: {}", e.to_string().replace('\n', " ")),
    })?;
    Ok(format!("# The profile with every default written out; it loads to the same plan.\n{body}"))
}
