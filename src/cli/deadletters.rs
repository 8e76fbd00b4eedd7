//! `barograph deadletters`: rows that a sink or transform could not take. All of it may be done beside a running
//! pipeline.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use serde_json::json;

use super::BAD_INPUT;
use super::output::{Format, Target};
use crate::config;
use crate::model::Span;
use crate::pipeline::{Entry, Letter, LetterFolder, Plan, Replayed};
use crate::sink::lines::Lines;
use crate::telemetry::Telemetry;
use crate::{Error, Result};

/// Exit code when some letters could not be replayed, or their rows were refused again.
pub const NOT_ALL: u8 = 3;

/// List, export, replay or purge the rows that a sink or transform could not take
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the letters, oldest first: when, who refused the rows, why, and how many
    List {
        #[command(flatten)]
        which: Which,
        /// Form of the answer; on a terminal a table, otherwise ndjson
        #[arg(long, value_enum)]
        format: Option<Format>,
    },
    /// Print the rows with the reason why they were refused; the letters stay
    Export {
        #[command(flatten)]
        which: Which,
        /// Form of the rows
        #[arg(long, value_enum, default_value = "ndjson")]
        format: Rows,
    },
    /// Give the rows to the sink again; what it takes is deleted here
    Replay {
        /// The pipeline file with the sink
        file: PathBuf,
        #[command(flatten)]
        which: Which,
        /// The sink that gets the rows; the one that refused them if left out
        #[arg(long, value_name = "SINK")]
        to: Option<String>,
    },
    /// Delete letters; without --yes say only what would be deleted
    Purge {
        #[command(flatten)]
        which: Which,
        /// Delete them
        #[arg(long)]
        yes: bool,
    },
}

/// Which letters.
#[derive(Debug, ClapArgs)]
struct Which {
    /// The pipeline's data folder, if it is not the one of the pipeline file or ./data
    #[arg(long, value_name = "DIR", env = "BAROGRAPH_DATA")]
    data: Option<PathBuf>,
    /// Only those of this sink or transform
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// Only those of this table
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    /// Only those older than this, as in 30d
    #[arg(long, value_name = "DURATION")]
    older_than: Option<Span>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rows {
    /// One JSON object per row, with the letter it is of
    Ndjson,
    /// InfluxDB line protocol
    LineProtocol,
}

/// Runs the command.
///
/// # Errors
/// The letters cannot be listed, or the sink not be opened. A letter that cannot be read is told and costs only itself.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::List { which, format } => list(&which, format),
        Command::Export { which, format } => export(&which, format),
        Command::Replay { file, which, to } => {
            super::runtime()?.block_on(replay(&file, &which, to.as_deref()))
        }
        Command::Purge { which, yes } => purge(&which, yes),
    }
}

impl Which {
    fn folder(&self) -> LetterFolder {
        LetterFolder::new(self.data.as_deref().unwrap_or(Path::new("./data")))
    }

    /// Those letters, one in memory at a time; unreadable ones are told.
    fn letters(&self, folder: LetterFolder) -> Result<impl Iterator<Item = (Entry, Letter)> + '_> {
        let now = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(i64::MAX);
        let age = self.older_than.map(|span| i64::try_from(span.0.as_nanos()).unwrap_or(i64::MAX));
        let before = age.map_or(i64::MAX, |age| now.saturating_sub(age));
        let entries = folder.list()?.into_iter().filter(move |entry| entry.at < before);
        Ok(entries.filter_map(move |entry| match folder.read(&entry) {
            Ok(letter) => self.means(&letter).then_some((entry, letter)),
            Err(error) => {
                tracing::warn!(error = error.chain(), "a letter is left out");
                None
            }
        }))
    }

    fn means(&self, letter: &Letter) -> bool {
        self.component.as_ref().is_none_or(|name| *name == letter.component)
            && self.table.as_ref().is_none_or(|table| table == letter.batch.table())
    }
}

fn list(which: &Which, format: Option<Format>) -> Result<ExitCode> {
    let target = Target::new(format, None, std::io::stdout().is_terminal())?;
    // Without their rows, which would be all in memory.
    let found: Vec<_> = which
        .letters(which.folder())?
        .map(|(entry, letter)| {
            let table = letter.batch.table().to_owned();
            (entry, [letter.component, table, letter.kind, letter.reason])
        })
        .collect();
    let texts = |place: usize| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(found.iter().map(|(_, texts)| &texts[place])))
    };
    let numbers = |of: fn(&Entry) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(found.iter().map(|(entry, _)| of(entry))))
    };
    let times = TimestampNanosecondArray::from_iter_values(found.iter().map(|(entry, _)| entry.at));
    let columns: [(&str, ArrayRef); 7] = [
        ("at", Arc::new(times)),
        ("component", texts(0)),
        ("table", texts(1)),
        ("kind", texts(2)),
        ("rows", numbers(|entry| entry.rows)),
        ("bytes", numbers(|entry| entry.bytes)),
        ("reason", texts(3)),
    ];
    let batch = RecordBatch::try_from_iter(columns).map_err(|error| {
        Error::invalid("list the letters", "the list could not be built").with_source(error)
    })?;
    let mut output = target.open(batch.schema())?;
    if output.write(&batch)?.is_continue() {
        output.finish()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn export(which: &Which, format: Rows) -> Result<ExitCode> {
    let mut lines = Lines::default();
    for (_, letter) in which.letters(which.folder())? {
        let text = match format {
            Rows::Ndjson => ndjson(&letter)?,
            Rows::LineProtocol => {
                lines.encode(std::slice::from_ref(&letter.batch));
                String::from_utf8_lossy(lines.bytes(0..lines.count())).into_owned()
            }
        };
        super::print(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One object per row.
fn ndjson(letter: &Letter) -> Result<String> {
    let failed =
        |reason: String| Error::invalid("print a dead letter of", reason).with_resource(letter.batch.table());
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    writer.write(letter.batch.records()).and_then(|()| writer.finish()).map_err(|e| failed(e.to_string()))?;
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&writer.into_inner()).map_err(|e| failed(e.to_string()))?;
    let at = chrono::DateTime::from_timestamp_nanos(letter.at).to_rfc3339();
    let mut text = String::new();
    for row in rows {
        let object = json!({
            "at": at,
            "component": letter.component,
            "kind": letter.kind,
            "reason": letter.reason,
            "table": letter.batch.table(),
            "row": row,
        });
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{object}");
    }
    Ok(text)
}

async fn replay(file: &PathBuf, which: &Which, to: Option<&str>) -> Result<ExitCode> {
    let config = match config::load(file) {
        Ok(config) => config,
        Err(faults) => {
            use std::io::Write as _;
            // Where standard error is closed nobody is told.
            write!(std::io::stderr(), "{faults}").ok();
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    let plan = Plan::new(&config, None, which.data.as_deref(), &Telemetry::default())?;
    let folder = LetterFolder::new(&plan.data);
    let mut open = std::collections::BTreeMap::new();
    let (mut all, mut left) = (Replayed::default(), 0_u64);
    for (entry, letter) in which.letters(folder.clone())? {
        let name = to.unwrap_or(&letter.component);
        let Some(sink) = plan.sinks.iter().find(|sink| sink.name == name) else {
            if to.is_some() {
                let reason = "there is no such sink in the pipeline file";
                return Err(Error::invalid("replay to", reason).with_resource(name));
            }
            tracing::warn!(
                component = name,
                rows = entry.rows,
                "no such sink; say which gets the rows with --to"
            );
            left += entry.rows;
            continue;
        };
        if !open.contains_key(name) {
            open.insert(name.to_owned(), (sink.open)().await?);
        }
        let Some(target) = open.get(name) else { continue };
        match folder.replay(&entry, name, target).await {
            Ok(replayed) => {
                all.delivered += replayed.delivered;
                all.refused += replayed.refused;
            }
            Err(error) => {
                tracing::warn!(sink = name, rows = entry.rows, error = error.chain(), "a letter stays");
                left += entry.rows;
            }
        }
    }
    for sink in open.into_values() {
        sink.close().await?;
    }
    super::print(&format!(
        "rows delivered: {}, refused again: {}, left: {left}\n",
        all.delivered, all.refused
    ))?;
    let whole = all.refused == 0 && left == 0;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(NOT_ALL) })
}

fn purge(which: &Which, yes: bool) -> Result<ExitCode> {
    let folder = which.folder();
    let (mut letters, mut rows) = (0_u64, 0);
    for (entry, _) in which.letters(folder.clone())? {
        if yes {
            folder.remove(&entry)?;
        }
        letters += 1;
        rows += entry.rows;
    }
    let text = if yes { "deleted" } else { "would delete, with --yes" };
    super::print(&format!("{text}: {letters} letters with {rows} rows\n"))?;
    Ok(ExitCode::SUCCESS)
}
