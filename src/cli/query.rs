//! `barograph query`: one SQL statement over the store, printed or written to a file.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args as ClapArgs;
use futures::StreamExt;

use super::output::{Format, Target};
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
    /// Longest time that the query may take, at most 14m
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
    let runtime = super::runtime()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Identity};
    use crate::store::{Store, StoreOptions};
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &[&str]) -> Args {
        Command::try_parse_from(std::iter::once("query").chain(words.iter().copied())).unwrap().args
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_statement_over_a_folder_becomes_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let store = Store::open(StoreOptions::new(&data)).await.unwrap();
        let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
        builder.row(1_000_000_000).set("utilization", 0.5).unwrap();
        store.append(&[builder.finish().unwrap()]).await.unwrap();
        // The writer is still open: reading while it writes works.
        let (data, file) = (data.to_str().unwrap(), folder.path().join("answer.csv"));
        let sql = "SELECT time, resource_id, utilization FROM cpu";
        answer(args(&["--data", data, "-o", file.to_str().unwrap(), sql])).await.unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "time,resource_id,utilization\n1970-01-01T00:00:01Z,web-1,0.5\n");

        let wrong = args(&["--data", data, "-o", file.to_str().unwrap(), "SELECT utilisation FROM cpu"]);
        let error = answer(wrong).await.unwrap_err();
        assert!(error.to_string().contains("did you mean utilization?"), "{error}");
        let twice =
            args(&["--data", data, "-o", file.to_str().unwrap(), "SELECT a.time, b.time FROM cpu a, cpu b"]);
        let error = answer(twice).await.unwrap_err();
        assert!(error.to_string().contains("two columns are called time"), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "an answer of before is kept");
        store.close().await.unwrap();
    }

    #[test]
    fn the_statement_may_come_from_standard_input() {
        assert_eq!(read_statement("SELECT 1\n".as_bytes()).unwrap(), "SELECT 1\n");
        assert!(read_statement([0xff_u8].as_slice()).unwrap_err().to_string().contains("standard input"));
    }
}
