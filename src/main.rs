//! The `barograph` binary: arguments in, exit code out; everything else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    barograph::cli::main()
}
