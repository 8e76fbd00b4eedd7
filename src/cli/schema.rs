//! `barograph schema`: what may be written, and what is measured, for other programs.

use std::process::ExitCode;

use clap::{Args as ClapArgs, ValueEnum};
use serde_json::{Value, json};

use super::output;
use crate::config;
use crate::model::{Catalog, ColumnKind, Table};
use crate::{Error, Result};

/// Arguments of `barograph schema`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Of what
    #[arg(value_enum)]
    subject: Subject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// JSON Schema of pipeline files
    Pipeline,
    /// The measurement tables with their tags and fields, units and meaning
    Tables,
}

/// Runs the command.
///
/// # Errors
/// The answer cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let answer = match args.subject {
        Subject::Pipeline => config::json_schema(),
        Subject::Tables => tables()?,
    };
    output::print(&format!("{answer:#}\n"))
        .map_err(|e| Error::io("write the answer", "standard output", e))?;
    Ok(ExitCode::SUCCESS)
}

fn tables() -> Result<Value> {
    Ok(Catalog::builtin()?.tables().map(|table| (table.name().to_owned(), describe(table))).collect())
}

fn describe(table: &Table) -> Value {
    let columns = table.columns().iter().map(|column| {
        let kind = match column.kind {
            ColumnKind::Tag => "tag".to_owned(),
            ColumnKind::Field(field) => format!("{field:?}").to_lowercase(),
        };
        let mut described = json!({ "name": column.name, "kind": kind, "description": column.description });
        if let Some(object) = described.as_object_mut() {
            if !column.unit.is_empty() {
                object.insert("unit".into(), column.unit.clone().into());
            }
            if let Some(otel) = &column.otel {
                object.insert("otel".into(), otel.clone().into());
            }
        }
        described
    });
    json!({ "description": table.description(), "columns": columns.collect::<Vec<_>>() })
}
