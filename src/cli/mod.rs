//! The command line: one file per command, with its arguments and what it prints; no logic beyond that.
//!
//! Exit codes: 0 success; 1 failure, told on standard error with its causes; 2 wrong usage or a bad pipeline file; 3 and
//! 4 as [`run`] and [`deadletters`] say; 130 interrupted. Commands that manage resources have [`manage::exit`]'s.

pub mod check;
pub mod deadletters;
pub mod estimate;
pub mod logging;
pub mod manage;
mod output;
pub mod query;
pub mod run;
pub mod schema;
pub mod screen;
pub mod status;
pub mod tables;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{Error, Result};
use logging::LogArgs;
use screen::Screen;

/// Exit code for wrong usage and bad pipeline files.
pub const BAD_INPUT: u8 = 2;

/// Telemetry of virtual machines and containers as an unbroken line: collect, carry, store, query.
#[derive(Debug, Parser)]
#[command(name = "barograph", version, max_term_width = 100, propagate_version = false)]
struct Cli {
    #[command(flatten)]
    logging: LogArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Estimate(estimate::Args),
    Schema(schema::Args),
    Run(run::Args),
    /// Answer an SQL query over the store, also while it is written to
    Query(query::Args),
    /// List the tables of the store with their rows, times and columns
    Tables(tables::Args),
    #[command(name = "deadletters")]
    DeadLetters(deadletters::Args),
    /// List and change virtual machines and containers
    Instances(manage::instances::Args),
    /// List and change disks that outlive instances
    Volumes(manage::volumes::Args),
    /// List, make, revert to and delete snapshots
    Snapshots(manage::snapshots::Args),
    /// List, make and delete networks
    Networks(manage::networks::Args),
    /// List, make and delete blocks of addresses in networks
    Subnets(manage::subnets::Args),
    /// List, import and delete what instances are made from
    Images(manage::images::Args),
    /// List the sizes that instances can have
    Sizes(manage::SizesArgs),
    /// List the places that instances are in
    Regions(manage::RegionsArgs),
    /// List the parts of regions that fail on their own
    Zones(manage::ZonesArgs),
    /// List what things cost
    Prices(manage::PricesArgs),
    /// List changes that were begun, and go on with those that were interrupted
    Operations(manage::operations::Args),
    /// Print what a shell needs to complete commands and options
    Completions(manage::completions::Args),
}

/// Parses the arguments, runs the command and tells how it ended.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => start(cli).unwrap_or_else(|error| {
            // Where standard error is closed nobody is told.
            writeln!(io::stderr(), "error: {}", error.chain()).ok();
            ExitCode::FAILURE
        }),
        Err(error) => {
            // Help and the version come this way too.
            error.print().ok();
            u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

fn start(cli: Cli) -> Result<ExitCode> {
    let screen = Screen::default();
    // The SDK of AWS warns of each place where it looked for a region in vain, with whole answers; what matters is an error.
    let usual = match cli.command {
        Command::Run(_) => "info,aws_config=error",
        _ => "warn,aws_config=error",
    };
    logging::start(&cli.logging, usual, &screen)?;
    match cli.command {
        Command::Check(args) => check::run(args),
        Command::Estimate(args) => estimate::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Run(args) => run::run(args, screen),
        Command::Query(args) => query::run(args),
        Command::Tables(args) => tables::run(args),
        Command::DeadLetters(args) => deadletters::run(args),
        Command::Instances(args) => manage::instances::run(args, screen),
        Command::Volumes(args) => manage::volumes::run(args, screen),
        Command::Snapshots(args) => manage::snapshots::run(args, screen),
        Command::Networks(args) => manage::networks::run(args, screen),
        Command::Subnets(args) => manage::subnets::run(args, screen),
        Command::Images(args) => manage::images::run(args, screen),
        Command::Sizes(args) => manage::sizes(args, screen),
        Command::Regions(args) => manage::regions(args, screen),
        Command::Zones(args) => manage::zones(args, screen),
        Command::Prices(args) => manage::prices(args, screen),
        Command::Operations(args) => manage::operations::run(args, screen),
        Command::Completions(args) => {
            manage::completions::run(&args, <Cli as clap::CommandFactory>::command())
        }
    }
}

/// A tokio runtime with all cores.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::unavailable("start the runtime", "no threads to be had").with_source(error))
}

/// Prints a whole text. A reader that has gone (`| head`) is no failure.
fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write to", "standard output", error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_of_all_commands_hold_together() {
        Cli::command().debug_assert();
        let names: Vec<_> = Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
        let telemetry = ["check", "estimate", "schema", "run", "query", "tables", "deadletters"];
        let resources = ["instances", "volumes", "snapshots", "networks", "subnets", "images"];
        let others = ["sizes", "regions", "zones", "prices", "operations", "completions"];
        assert_eq!(names, [&telemetry[..], &resources, &others].concat());
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
        }
    }

    #[test]
    fn options_of_the_log_may_stand_anywhere() {
        for line in [
            ["barograph", "--log-format", "json", "--log-level", "debug", "check", "x"],
            ["barograph", "check", "x", "--log-format", "json", "--log-level", "debug"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.logging.log_format, logging::LogFormat::Json);
            assert_eq!(cli.logging.log_level.as_deref(), Some("debug"));
        }
        let wrong = Cli::try_parse_from(["barograph", "chekc"]).unwrap_err();
        assert_eq!(wrong.exit_code(), i32::from(BAD_INPUT));
    }
}
