//! The command line: one file per command, with nothing in it but arguments and printing.

pub mod check;
pub mod logging;
mod output;
pub mod query;
pub mod run;
pub mod schema;
pub mod screen;
pub mod status;
pub mod tables;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::Result;

/// Exit code of a command whose input was wrong, as of one whose arguments were.
pub const BAD_INPUT: u8 = 2;

/// Telemetry of virtual machines and containers as an unbroken line: collect, carry, store, query.
#[derive(Debug, Parser)]
#[command(name = "barograph", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check pipeline files: everything that is wrong, at once, with its place
    Check(check::Args),
    /// Run a pipeline: collect, transform, store
    Run(Box<run::Args>),
    /// Answer SQL from a store, also while `run` writes to it
    Query(query::Args),
    /// List the tables of a store
    Tables(tables::Args),
    /// Write the schema of pipeline files or of the measurement tables
    Schema(schema::Args),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let result: Result<ExitCode> = match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Run(args) => run::run(*args),
        Command::Query(args) => query::run(args),
        Command::Tables(args) => tables::run(args),
        Command::Schema(args) => schema::run(&args),
    };
    result.unwrap_or_else(|error| {
        output::complain(&error);
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }
}
