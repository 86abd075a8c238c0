//! The command line: arguments in, one command run, an exit code out (0 pass, 1 an expectation failed, 2 usage or
//! set-up, 3 the result is not trustworthy).

pub mod args;
pub mod bench;
pub mod check;
pub mod compare;
mod cpu;
mod devices;
pub mod dissect;
pub mod doctor;
mod dut;
pub mod inspect;
pub mod peer;
pub mod preflight;
mod progress;
pub mod replay;
pub mod run;
pub mod sweep;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// Usage or set-up went wrong.
pub const EXIT_USAGE: u8 = 2;

/// The whole program.
pub fn main() -> ExitCode {
    if let Some(lacking) = cpu::lacking() {
        let _ = writeln!(io::stderr(), "error: {lacking}");
        return ExitCode::from(EXIT_USAGE);
    }
    let cli = Cli::parse();
    let stdout = io::stdout();
    let code = dispatch(cli, &mut stdout.lock()).unwrap_or_else(|error| {
        if broken_pipe(&error) {
            return 0;
        }
        // Nothing is left to tell it to when stderr is gone too.
        let _ = writeln!(io::stderr(), "error: {}", one_line(&error));
        EXIT_USAGE
    });
    ExitCode::from(code)
}

fn dispatch(cli: Cli, out: &mut dyn Write) -> anyhow::Result<u8> {
    match cli.command {
        Command::Run(a) => run::run(&a, out),
        Command::Sweep(a) => sweep::sweep(&a, out),
        Command::Replay(a) => replay::replay(&a, out),
        Command::Inspect(a) => inspect::inspect(&a, out),
        Command::Dissect(a) => dissect::dissect(&a.file, a.json, out).map(|()| 0),
        Command::Check(a) => run::check_profile(&a, out),
        Command::Preflight(a) => preflight::preflight(&a, out),
        Command::Compare(a) => compare::compare(&a, out),
        Command::Report(a) => compare::report(&a, out),
        Command::Peer(a) => peer::peer(&a, out),
        Command::Doctor => doctor::doctor(out),
        Command::Bench(a) => bench::bench(a.name.as_deref(), out),
    }
}

/// The error and its causes on one line; a cause that its effect already quotes is left out.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string().replace('\n', " ");
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}

/// The reader of our output (`| head`) has had enough.
fn broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|c| c.downcast_ref::<io::Error>());
    io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
