//! The `barograph` binary: arguments in, exit code out; everything else is the library's.

use std::process::ExitCode;

fn main() -> ExitCode {
    barograph::allocator::share_memory();
    barograph::cli::main()
}
