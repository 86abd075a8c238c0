//! Progress on stderr: a bar on a terminal, a plain line every ten seconds elsewhere, nothing when quiet.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::plan::{Mode, Plan};
use crate::run::{OnProgress, Progress};
use crate::units::Span;

const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// What the driver calls on its way; `None` when quiet.
pub fn reporter(plan: &Plan, mode: Mode, quiet: bool) -> Option<OnProgress<'static>> {
    if quiet {
        return None;
    }
    // Progress is by nominal time: iterations may be one.
    let expected = plan.predicted.duration.0.max(1);
    if stderr().is_terminal() {
        let bar = ProgressBar::new(expected);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}  eta {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_prefix(plan.name.clone());
        return Some(Box::new(move |p| {
            bar.set_position(p.now.0.min(expected));
            bar.set_message(message(p, mode));
            if p.iterations > 0 && p.iteration >= p.iterations {
                bar.finish_and_clear();
            }
        }));
    }
    let name = plan.name.clone();
    let mut last = Instant::now();
    Some(Box::new(move |p| {
        if last.elapsed() >= PLAIN_EVERY {
            last = Instant::now();
            // A closed stderr is no reason to stop a run.
            let _ = writeln!(stderr(), "{name}  {}", message(p, mode));
        }
    }))
}

/// "iteration 3/22  nominal 28.1 ms  32.0x slower".
fn message(p: &Progress, mode: Mode) -> String {
    let mut text = String::new();
    if p.iterations > 0 {
        let current = (p.iteration + 1).min(p.iterations);
        text.push_str(&format!("iteration {current}/{}  ", p.iterations));
    }
    text.push_str(&format!("nominal {}", Span(p.now.0)));
    if let (Some(k), Mode::Rings) = (p.dilation, mode) {
        text.push_str(&format!("  {k:.1}x slower"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Time;

    #[test]
    fn a_line_names_iteration_nominal_time_and_dilation() {
        let p = Progress {
            iteration: 2,
            iterations: 22,
            now: Time(28_100_000_000),
            wall_s: 0.9,
            dilation: Some(32.04),
        };
        assert_eq!(message(&p, Mode::Rings), "iteration 3/22  nominal 28.1 ms  32.0x slower");
        let streams = Progress { iterations: 0, dilation: None, ..p };
        assert_eq!(message(&streams, Mode::Virtual), "nominal 28.1 ms");
    }
}
