//! Parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    rankstorm::cli::main()
}
