//! `replay`.

use std::io::Write;

use super::args::ReplayArgs;
use super::{entry, run};
use crate::workload::import::Format;

/// Replays a trace.
pub fn replay(args: &ReplayArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    // A misspelt format is found before anything is opened.
    Format::named(&args.format)?;
    let overrides = run::overrides(&args.flags);
    let mut plan =
        entry::load_replay(&args.file, &args.format, args.mode.into(), args.with.as_deref(), &overrides)?;
    if plan.name.is_empty() {
        plan.name = format!("replay-{}", run::stem(&args.file));
    }
    run::execute(plan, &args.flags, out)
}
