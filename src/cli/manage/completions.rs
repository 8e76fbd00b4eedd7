//! `barograph completions`: what shells need to complete commands and options.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Command};
use clap_complete::Shell;

use crate::Result;

/// Arguments of `barograph completions`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the shell's script.
///
/// # Errors
/// Standard output cannot be written to.
pub fn run(args: &Args, mut command: Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "barograph", &mut script);
    crate::cli::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
