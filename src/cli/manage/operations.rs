//! `barograph operations`: changes that were begun, and going on with those that were interrupted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};

use super::arguments::{Changing, target};
use super::{change, exit, tell};
use crate::cli::output::Format;
use crate::cli::screen::Screen;
use crate::manage::{self, Journal, Managed, Operation};
use crate::provider::Token;
use crate::{Error, Result, config};

/// Arguments of `barograph operations`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List operations, oldest first
    List {
        /// Also those that are over
        #[arg(long)]
        all: bool,
        /// Folder with the journal of operations
        #[arg(long, value_name = "DIR", default_value = "./data", env = "BAROGRAPH_DATA")]
        data: PathBuf,
        /// Form of the answer; on a terminal a table, otherwise json
        #[arg(long, value_enum)]
        format: Option<Format>,
    },
    /// Show one operation with all its steps, as JSON; values of environment variables are hidden
    Show {
        /// Its id
        id: Token,
        /// Folder with the journal of operations
        #[arg(long, value_name = "DIR", default_value = "./data", env = "BAROGRAPH_DATA")]
        data: PathBuf,
    },
    /// Give an operation up: it is left as it is, and never gone on with
    Abandon {
        /// Its id
        id: Token,
        /// Folder with the journal of operations
        #[arg(long, value_name = "DIR", default_value = "./data", env = "BAROGRAPH_DATA")]
        data: PathBuf,
    },
    /// Go on with an operation: with its next step, its way back, or waiting for its end
    Resume {
        /// Its id
        id: Token,
        #[command(flatten)]
        changing: Changing,
    },
}

/// Runs the command.
///
/// # Errors
/// The runtime cannot be started.
pub fn run(args: Args, screen: Screen) -> Result<ExitCode> {
    super::run(&screen, async {
        match args.verb {
            Verb::List { all, data, format } => list(&data, all, format),
            Verb::Show { id, data } => show(&data, id),
            Verb::Abandon { id, data } => abandon(&data, id),
            Verb::Resume { id, changing } => resume(id, &changing, &screen).await,
        }
    })
}

fn list(data: &Path, all: bool, format: Option<Format>) -> Result<ExitCode> {
    let (mut operations, errors) = Journal::open(data)?.list()?;
    operations.retain(|operation| all || !operation.phase.is_over());
    let batch = change::listed(&operations)?;
    let mut output = target(format)?.open(batch.schema())?;
    if output.write(&batch)?.is_continue() {
        output.finish()?;
    }
    for error in &errors {
        tell(&format!("failed: {}", error.chain()));
    }
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::PARTIAL) })
}

fn show(data: &Path, id: Token) -> Result<ExitCode> {
    let operation = Journal::open(data)?.load(id)?;
    let text = serde_json::to_string_pretty(&operation.shown()).map_err(|error| {
        Error::invalid("print the operation", "it cannot be written as JSON").with_source(error)
    })?;
    crate::cli::print(&(text + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn abandon(data: &Path, id: Token) -> Result<ExitCode> {
    let abandoned = Journal::open(data)?.abandon(id)?;
    for (step, record) in abandoned.plan.steps.iter().zip(&abandoned.steps) {
        tell(&format!("{}: {}", step.action, record.state));
    }
    Ok(ExitCode::SUCCESS)
}

async fn resume(id: Token, changing: &Changing, screen: &Screen) -> Result<ExitCode> {
    let journal = Journal::open(&changing.data)?;
    let operation = journal.load(id)?;
    let managed = reopen(&operation).await?;
    change::go_on(&managed, &journal, operation, changing, screen).await
}

/// The provider that an operation went through, as it is configured now.
async fn reopen(operation: &Operation) -> Result<Managed> {
    let Some(file) = &operation.config else { return manage::from_kind(&operation.provider).await };
    let pipeline =
        config::load(file).map_err(|faults| Error::invalid("read pipeline file", faults.to_string()))?;
    let mut managed =
        manage::from_file(&pipeline, Path::new(file), std::slice::from_ref(&operation.provider)).await?;
    Ok(managed.remove(0))
}
