//! `inspect`: what a trace holds, without running it.

use std::io::Write;

use serde::Serialize;

use super::args::InspectArgs;
use crate::workload::import::{self, Format, Replay};
use crate::workload::schedule::{Schedule, Summary};

/// What `inspect --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Format, as `--format` names it.
    pub format: &'static str,
    /// Ranks, operations, messages, bytes.
    #[serde(flatten)]
    pub summary: Summary,
    /// Collectives, where the format names them.
    pub collectives: Vec<Collective>,
    /// What the importer could not carry over.
    pub warnings: Vec<String>,
}

/// Equal collectives of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Collective {
    /// `all-reduce`, ...
    pub kind: String,
    /// Bytes of each.
    pub bytes: u64,
    /// Ranks of each.
    pub ranks: u32,
    /// How many.
    pub count: u64,
}

fn look(format: Format, schedule: &Schedule) -> Inspection {
    Inspection {
        format: format.name(),
        summary: schedule.summary(),
        collectives: Vec::new(),
        warnings: schedule.warnings.clone(),
    }
}

/// Prints what a trace holds.
pub fn inspect(args: &InspectArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let format = Format::named(&args.format)?;
    let imported = import::load(&args.file, format, Replay::default())?;
    let i = look(imported.format, &imported.schedule);
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&i)?)?;
        return Ok(0);
    }
    writeln!(out, "format    {}", i.format)?;
    let sum = &i.summary;
    writeln!(out, "ranks     {}", sum.ranks)?;
    writeln!(out, "ops       {}", sum.ops)?;
    writeln!(out, "messages  {}, {} bytes", sum.messages, sum.bytes_total)?;
    let sent = &sum.bytes_sent_per_rank;
    if let (Some(min), Some(max)) = (sent.iter().min(), sent.iter().max()) {
        let idle = sent.iter().filter(|b| **b == 0).count();
        writeln!(out, "per rank  {min} to {max} bytes sent; {idle} ranks send nothing")?;
    }
    for w in &i.warnings {
        writeln!(out, "warning   {w}")?;
    }
    Ok(0)
}
