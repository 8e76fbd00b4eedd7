//! `barograph query`: one SQL statement over the store, printed or written to a file.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use futures::StreamExt;

use super::output::{self, Format, Target};
use crate::analytics::{Answer, Engine, EngineOptions};
use crate::model::{Size, Span};
use crate::store::Reader;
use crate::{Error, Result};

/// Exit code after Ctrl-C, as shells count it.
const INTERRUPTED: u8 = 130;

/// Arguments of `barograph query`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The statement; `-` reads it from standard input
    #[arg(value_name = "SQL")]
    sql: String,
    /// Folder of the store
    #[arg(long, value_name = "DIR", default_value = "./data", env = "BAROGRAPH_DATA")]
    data: PathBuf,
    /// Form of the answer; on a terminal a table, otherwise ndjson, or what the name of --output ends in
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Write the answer to this file instead of standard output; it appears when the query has succeeded
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Longest time that the query may take
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: Span,
    /// Most memory that the query may hold
    #[arg(long, value_name = "SIZE", default_value = "512MiB")]
    memory: Size,
    /// Most bytes that the query may put into temporary files; 0 for none
    #[arg(long, value_name = "SIZE", default_value = "2GiB")]
    spill: Size,
}

/// Runs the command.
///
/// # Errors
/// Those of the store, of the statement, and of writing the answer.
pub fn run(args: Args) -> Result<ExitCode> {
    let runtime = output::runtime()?;
    let finished = runtime.block_on(async {
        tokio::select! {
            result = answer(args) => result.map(|()| ExitCode::SUCCESS),
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
        }
    });
    // A query that was interrupted may be computing still; nobody waits for it.
    runtime.shutdown_background();
    finished
}

async fn answer(args: Args) -> Result<()> {
    let sql = match args.sql.as_str() {
        "-" => read_statement(std::io::stdin().lock())?,
        _ => args.sql,
    };
    let target = Target::new(args.format, args.output, std::io::stdout().is_terminal())?;
    let engine = Engine::new(EngineOptions {
        memory: usize::try_from(args.memory.0).unwrap_or(usize::MAX),
        spill: args.spill.0,
        timeout: args.timeout.0,
        ..EngineOptions::default()
    })?;
    let snapshot = Reader::open(&args.data)?.snapshot().await?;
    let answer = engine.query(&snapshot, &sql).await?;
    print(answer, target).await
}

async fn print(mut answer: Answer, target: Target) -> Result<()> {
    let mut output = target.open(answer.schema())?;
    while let Some(batch) = answer.next().await {
        let batch = batch?;
        // Writing blocks; the other threads of the runtime go on computing meanwhile.
        if tokio::task::block_in_place(|| output.write(&batch))?.is_break() {
            return Ok(());
        }
    }
    output.finish()
}

fn read_statement(mut input: impl Read) -> Result<String> {
    let mut sql = String::new();
    input
        .read_to_string(&mut sql)
        .map_err(|error| Error::io("read the statement from", "standard input", error))?;
    Ok(sql)
}
