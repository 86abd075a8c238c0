//! What the lab was found to be before a run: plain figures, for the table of `rankstorm preflight` and the report.

use serde::{Deserialize, Serialize};

use crate::measure::distribution::Percentiles;

/// How a check ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// As the profile needs it.
    Pass,
    /// Not as the profile needs it.
    Fail,
    /// Not looked at; the text says why.
    #[default]
    Skipped,
}

impl Outcome {
    /// The word in tables.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Pass => "PASS",
            Outcome::Fail => "FAIL",
            Outcome::Skipped => "SKIPPED",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Check {
    /// What: `link`, `rate`, `neighbour`, `reach`, `frame-size`, `marks`, `icrc`, `pauses`, `fec`, `flow-control`.
    pub name: String,
    /// Where: a port, a pair of ports, or how many of them.
    pub place: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found.
    pub text: String,
    /// What to do about it; where something failed.
    pub fix: Option<String>,
}

/// The way from one port to another, idle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairFigures {
    /// Sending port.
    pub from: String,
    /// Receiving port.
    pub to: String,
    /// Probes sent.
    pub sent: u32,
    /// Probes that arrived.
    pub arrived: u32,
    /// From being handed over to being taken in, nanoseconds.
    pub latency_ns: Percentiles,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preflight {
    /// In the order in which they were looked at.
    pub checks: Vec<Check>,
    /// Pairs that were probed.
    pub pairs: Vec<PairFigures>,
    /// Frames sent and received per port, questions about neighbours included.
    pub frames: Vec<(u64, u64)>,
    /// Seconds it took.
    pub wall_s: f64,
}

impl Preflight {
    /// Nothing failed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|c| c.outcome != Outcome::Fail)
    }

    /// What failed, in one line with its fix; `None` when nothing did.
    pub fn refusal(&self) -> Option<String> {
        let mut failed = self.checks.iter().filter(|c| c.outcome == Outcome::Fail);
        let first = failed.next()?;
        let fix = first.fix.as_ref().map(|f| format!("; {f}")).unwrap_or_default();
        let more = match failed.count() {
            0 => String::new(),
            n => format!(" ({n} more: rankstorm preflight shows all)"),
        };
        Some(format!("{}: {}{fix}{more}", first.place, first.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_first_place_its_fix_and_how_many_more_there_are() {
        let mut p = Preflight::default();
        let mut add = |outcome, place: &str, fix: Option<&str>| {
            let (place, fix) = (place.to_owned(), fix.map(str::to_owned));
            p.checks.push(Check { name: "link".into(), place, outcome, text: "is down".into(), fix });
        };
        add(Outcome::Pass, "port a", None);
        add(Outcome::Skipped, "port b", None);
        add(Outcome::Fail, "port c", Some("plug it in"));
        add(Outcome::Fail, "port d", None);
        let said = p.refusal();
        assert_eq!(
            said.as_deref(),
            Some("port c: is down; plug it in (1 more: rankstorm preflight shows all)")
        );
        assert!(!p.passed());
        p.checks.truncate(2);
        assert!(p.passed() && p.refusal().is_none());
    }
}
