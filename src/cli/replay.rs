//! `replay`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};

use super::args::{ReplayArgs, ReplayMode};
use super::run;
use crate::plan::{Mode, hpcc};
use crate::profile::{self, Overrides};
use crate::workload::import::{self, Format};

/// Replays a trace on the fabric of a profile, or on the default one: a port of 100G per rank on one switch. A folder of
/// the HPCC simulator with its `config.txt` brings its own network and arithmetic.
pub fn replay(args: &ReplayArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let format = Format::named(&args.format)?;
    if format == Some(Format::Hpcc) && args.with.is_none() && args.file.join("config.txt").is_file() {
        return scenario(args, out);
    }
    let imported = import::load(&args.file, format, args.mode.into())?;
    let file = std::path::absolute(&args.file).with_context(|| args.file.display().to_string())?;
    let file = file.to_string_lossy().into_owned();
    let overrides = Overrides {
        schedules: vec![(file.clone(), Arc::new(imported.schedule))],
        replay: Some(file),
        ..run::overrides(&args.flags)
    };
    let plan = match &args.with {
        Some(path) => profile::load(path, &overrides)?,
        None => profile::from_str(&name(&args.file), "schema = 1\n", &overrides)?,
    };
    let repeat = command(args, plan.seed, plan.mode.map(|m| format!("{m:?}").to_lowercase()));
    run::execute(&plan, &args.flags, Some(repeat), out)
}

/// Runs a folder of the HPCC simulator as it stands.
fn scenario(args: &ReplayArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    if let Some(set) = args.flags.set.first() {
        bail!(
            "--set {set} changes a profile, and this folder has none: edit its config.txt, or give --with PROFILE"
        );
    }
    let folder = import::load_hpcc(&args.file)?;
    let mode = args.flags.on.map_or(Mode::Virtual, Mode::from);
    let plan = hpcc::plan(&folder, name(&args.file), args.flags.seed.unwrap_or(1), Some(mode))?;
    let repeat = command(args, plan.seed, plan.mode.map(|m| format!("{m:?}").to_lowercase()));
    run::execute(&plan, &args.flags, Some(repeat), out)
}

/// "replay-flows" for `traces/flows.csv`.
fn name(file: &Path) -> String {
    format!("replay-{}", file.file_stem().map(|s| s.to_string_lossy()).unwrap_or_default())
}

/// The command that repeats a replay.
fn command(args: &ReplayArgs, seed: u64, on: Option<String>) -> String {
    let mut text = format!("rankstorm replay {}", args.file.display());
    if args.format != "auto" {
        text.push_str(&format!(" --format {}", args.format));
    }
    if args.mode == ReplayMode::Timed {
        text.push_str(" --mode timed");
    }
    if let Some(with) = &args.with {
        text.push_str(&format!(" --with {}", with.display()));
    }
    text.push_str(&format!(" --seed {seed}"));
    on.into_iter().for_each(|on| text.push_str(&format!(" --on {on}")));
    args.flags.set.iter().for_each(|s| text.push_str(&format!(" --set '{s}'")));
    text
}
