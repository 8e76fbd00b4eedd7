//! `barograph tables`: what the store holds.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, TimestampNanosecondArray,
    UInt64Array,
};
use clap::Args as ClapArgs;

use super::output::{Format, Target};
use crate::analytics::{Engine, EngineOptions, TableInfo};
use crate::store::Reader;
use crate::{Error, Result};

/// Arguments of `barograph tables`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Folder of the store
    #[arg(long, value_name = "DIR", default_value = "./data", env = "BAROGRAPH_DATA")]
    data: PathBuf,
    /// Form of the answer; on a terminal a table, otherwise ndjson
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// Runs the command.
///
/// # Errors
/// Those of the store and of writing the answer.
pub fn run(args: Args) -> Result<ExitCode> {
    let target = Target::new(args.format, None, std::io::stdout().is_terminal())?;
    let engine = Engine::new(EngineOptions::default())?;
    let tables = super::runtime()?.block_on(async {
        let snapshot = Reader::open(&args.data)?.snapshot().await?;
        Ok::<_, Error>(engine.tables(&snapshot))
    })?;
    let flat = matches!(target.format(), Format::Table | Format::Csv);
    let batch = describe(&tables, flat)?;
    let mut output = target.open(batch.schema())?;
    if output.write(&batch)?.is_continue() {
        output.finish()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One row per table; names of columns as a list, or joined into one text for formats that have no lists.
fn describe(tables: &[TableInfo], flat: bool) -> Result<RecordBatch> {
    let numbers = |of: fn(&TableInfo) -> u64| Arc::new(UInt64Array::from_iter_values(tables.iter().map(of)));
    let times = |of: fn(&TableInfo) -> Option<i64>| -> ArrayRef {
        Arc::new(TimestampNanosecondArray::from_iter(tables.iter().map(of)))
    };
    let names = |of: fn(&TableInfo) -> &[String]| -> ArrayRef {
        if flat {
            return Arc::new(StringArray::from_iter_values(tables.iter().map(|table| of(table).join(" "))));
        }
        let mut lists = ListBuilder::new(StringBuilder::new());
        for table in tables {
            lists.append_value(of(table).iter().map(Some));
        }
        Arc::new(lists.finish())
    };
    let segments = tables.iter().map(|table| i64::try_from(table.segments).unwrap_or(i64::MAX));
    let columns: [(&str, ArrayRef); 9] = [
        ("table", Arc::new(StringArray::from_iter_values(tables.iter().map(|table| &table.name)))),
        ("rows", numbers(|table| table.rows)),
        ("buffered_rows", numbers(|table| table.buffered_rows)),
        ("min_time", times(|table| table.min_time)),
        ("max_time", times(|table| table.max_time)),
        ("segments", Arc::new(Int64Array::from_iter_values(segments))),
        ("bytes", numbers(|table| table.bytes)),
        ("tags", names(|table| &table.tags)),
        ("fields", names(|table| &table.fields)),
    ];
    RecordBatch::try_from_iter(columns)
        .map_err(|error| Error::invalid("list the tables", "the list could not be built").with_source(error))
}
