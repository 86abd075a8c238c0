//! `bench`: what the tool costs here, beside peers that do the same work or part of it.
//!
//! One line per figure: name, ours, the peer and its figure, their ratio (above 1: ours is better), and min, median and
//! max of the rounds. Lines that start with `#` say where and how it was measured. Costs are CPU time of the thread, so
//! that a busy machine disturbs them less; caches and clock rates are shared all the same.

mod frames;
pub mod hosts;
mod ports;
mod rings;
mod simulator;
pub mod switches;
mod testpmd;
mod veth;

use std::io::{Write, stderr};

use anyhow::bail;

use super::EXIT_USAGE;
use crate::sys;

type Measure = fn() -> anyhow::Result<Vec<Figure>>;

/// Names and what runs them, in the order of `bench` without a name: the short ones first.
const BENCHES: [(&str, Measure); 9] = [
    ("icrc", frames::icrc),
    ("wire-template", frames::template),
    ("record", frames::record),
    ("switch", switches::figures),
    ("host", hosts::figures),
    ("virtual-s2", simulator::incast),
    ("virtual-ring", simulator::ring),
    ("virtual-a2a", simulator::all_to_all),
    ("rings-worker", rings::figures),
];

/// Only by name: they take minutes, and want peers and both cores. Those of `ports` also by group: `ports/loop`.
const LONG: [(&str, Measure); 9] = [
    ("ports/null", ports::null),
    ("ports/qps", ports::crowds),
    ("ports/loop", ports::rings),
    ("ports/late", ports::pacing),
    ("ports/workers", ports::workers),
    ("ports/queues", ports::queues),
    ("ports/icrc", frames::icrc),
    ("veth", veth::figures),
    ("veth-inside", veth::inside),
];

/// What is called `name`, and what is in the group of that name.
fn is_named(bench: &str, name: &str) -> bool {
    bench.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Runs the benchmark called `name`, or all of them.
///
/// # Errors
/// No benchmark has that name, or one could not run.
pub fn bench(name: Option<&str>, out: &mut dyn Write) -> anyhow::Result<u8> {
    let named = LONG.iter().filter(|(n, _)| name.is_some_and(|name| is_named(n, name)));
    let chosen: Vec<_> =
        BENCHES.iter().filter(|(n, _)| name.is_none_or(|name| name == *n)).chain(named).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = BENCHES.iter().chain(&LONG).map(|(n, _)| *n).collect();
        bail!("no benchmark is called {:?}: there are {}", name.unwrap_or_default(), known.join(", "));
    }
    // Before EAL starts and pins its caller.
    let cores = sys::affinity::cores().len();
    writeln!(out, "# rankstorm {}, {cores} cores, {}", env!("CARGO_PKG_VERSION"), load())?;
    if cfg!(debug_assertions) {
        writeln!(
            out,
            "# WARNING: a debug build was measured; use cargo build --release for figures that mean anything"
        )?;
    }
    let mut code = 0;
    for (i, (name, run)) in chosen.iter().enumerate() {
        // A closed stderr is no reason to stop.
        let _ = writeln!(stderr(), "bench {}/{}: {name}", i + 1, chosen.len());
        match run() {
            Ok(figures) => figures.iter().try_for_each(|f| writeln!(out, "{}", f.line()))?,
            Err(e) if chosen.len() == 1 => return Err(e),
            // The others are worth having.
            Err(e) => {
                code = EXIT_USAGE;
                writeln!(out, "# {name} was not measured: {e:#}")?;
            }
        }
        out.flush()?;
    }
    writeln!(out, "# {} at the end; ratios above 1 are in our favour", load())?;
    Ok(code)
}

/// "load 0.51 0.49 1.41" (runnable threads, mean of 1, 5 and 15 minutes).
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mean: Vec<&str> = text.split_ascii_whitespace().take(3).collect();
    if mean.is_empty() { "load unknown".into() } else { format!("load {}", mean.join(" ")) }
}

/// What a figure counts, and whether more of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Nanoseconds of CPU time per frame or call.
    Nanoseconds,
    /// Millions of link transmissions per CPU second: one frame serialised once onto one link.
    Transmissions,
    /// Millions of frames per busy second of one core.
    Frames,
    /// Events per link transmission.
    Events,
    /// Share of the time.
    Percent,
    /// Gigabits of layer 1 per busy second of one core.
    Gigabits,
    /// Bytes of memory.
    Bytes,
    /// Parts per million.
    Ppm,
}

impl Unit {
    fn text(self) -> &'static str {
        match self {
            Unit::Nanoseconds => "ns",
            Unit::Transmissions => "M link tx/CPU s",
            Unit::Frames => "M frames/busy s",
            Unit::Events => "events/link tx",
            Unit::Percent => "% of the time",
            Unit::Gigabits => "Gb/busy s",
            Unit::Bytes => "B",
            Unit::Ppm => "ppm",
        }
    }

    /// How many times better `ours` is than `theirs`.
    fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Unit::Nanoseconds | Unit::Events | Unit::Percent | Unit::Bytes | Unit::Ppm => theirs / ours,
            Unit::Transmissions | Unit::Frames | Unit::Gigabits => ours / theirs,
        }
    }
}

/// What a figure is laid beside.
#[derive(Clone, Debug, PartialEq)]
enum Peer {
    /// A figure of the same unit, by name.
    Is(String, f64),
    /// None, and why.
    Missing(String),
}

impl Peer {
    fn measured(name: &str, rounds: &Rounds) -> Peer {
        Peer::Is(name.to_owned(), rounds.median())
    }
}

/// The rounds of one measurement, ascending; never empty.
#[derive(Clone, Debug, PartialEq)]
struct Rounds(Vec<f64>);

impl Rounds {
    /// Measures `n` times (at least once).
    fn of(n: usize, mut measure: impl FnMut() -> f64) -> Rounds {
        Rounds::from((0..n.max(1)).map(|_| measure()).collect())
    }

    fn from(mut values: Vec<f64>) -> Rounds {
        if values.is_empty() {
            values.push(f64::NAN);
        }
        values.sort_by(f64::total_cmp);
        Rounds(values)
    }

    fn min(&self) -> f64 {
        self.0[0]
    }

    /// The lower one of two in the middle.
    fn median(&self) -> f64 {
        self.0[(self.0.len() - 1) / 2]
    }

    fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    name: String,
    unit: Unit,
    ours: Rounds,
    peer: Peer,
    /// The line as another process has written it.
    said: Option<String>,
}

impl Figure {
    fn new(name: impl Into<String>, unit: Unit, ours: Rounds, peer: Peer) -> Figure {
        Figure { name: name.into(), unit, ours, peer, said: None }
    }

    /// `NAME  OURS  PEER-NAME PEER  RATIOx  (min/median/max of n)`.
    fn line(&self) -> String {
        if let Some(said) = &self.said {
            return said.clone();
        }
        let (unit, ours) = (self.unit.text(), self.ours.median());
        let beside = match &self.peer {
            Peer::Is(name, theirs) => {
                format!("{name} {}  {}x", digits(*theirs), digits(self.unit.ratio(ours, *theirs)))
            }
            Peer::Missing(why) => format!("{why} -  -"),
        };
        format!(
            "{:<26} {:>6} {unit}  {beside}  ({}/{}/{} of {})",
            self.name,
            digits(ours),
            digits(self.ours.min()),
            digits(ours),
            digits(self.ours.max()),
            self.ours.0.len()
        )
    }
}

/// Three significant digits, never fewer than the whole part has.
fn digits(x: f64) -> String {
    let places = if x.abs() >= 100.0 {
        0
    } else if x.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{x:.places$}")
}

/// CPU nanoseconds per call of `call`, which is given the number of the call, in [`ROUNDS`] rounds after one that warms.
fn per_call(calls: u64, mut call: impl FnMut(u64)) -> Rounds {
    let mut round = || {
        let start = sys::cpu::thread_cpu_s();
        (0..calls).for_each(&mut call);
        (sys::cpu::thread_cpu_s() - start) * 1e9 / calls as f64
    };
    round();
    Rounds::of(ROUNDS, round)
}

/// Rounds of everything short.
const ROUNDS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_both_sides_and_says_how_many_times_better_ours_is() {
        let rounds = Rounds::from(vec![4.9, 4.6, 4.8]);
        let peer = Peer::Is("other".into(), 0.18);
        let line = Figure::new("virtual-s2", Unit::Transmissions, rounds.clone(), peer).line();
        assert_eq!(
            line,
            "virtual-s2                   4.80 M link tx/CPU s  other 0.18  26.7x  (4.60/4.80/4.90 of 3)"
        );
        // A cost half as high is twice as good.
        let line = Figure::new("x", Unit::Nanoseconds, rounds.clone(), Peer::Is("other".into(), 9.6)).line();
        assert!(line.contains("other 9.60  2.00x"), "{line}");
        let line = Figure::new("x", Unit::Frames, rounds, Peer::Missing("peer not installed".into())).line();
        assert!(line.contains("  peer not installed -  -  (4.60"), "{line}");
    }

    #[test]
    fn rounds_are_sorted_and_an_even_number_has_its_lower_middle() {
        let r = Rounds::from(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!((r.min(), r.median(), r.max()), (1.0, 2.0, 4.0));
        assert!(Rounds::from(Vec::new()).median().is_nan());
    }

    #[test]
    fn small_figures_keep_three_digits() {
        assert_eq!([0.181, 9.994, 12.34, 1234.5].map(digits), ["0.18", "9.99", "12.3", "1234"]);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = bench(Some("virtual"), &mut Vec::new()).unwrap_err().to_string();
        for (name, _) in BENCHES {
            assert!(error.contains(name), "{error}");
        }
        assert_eq!(error.lines().count(), 1);
    }
}
