//! `barograph schema`: what may stand in a pipeline file, and what the measurement tables have.

use std::fmt::Write;
use std::process::ExitCode;

use clap::ValueEnum;

use crate::model::{Catalog, ColumnKind, FieldType, Table};
use crate::{Error, Result, config};

/// Print the JSON Schema of the pipeline file, or the measurement tables.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to print
    #[arg(value_enum)]
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The JSON Schema of a pipeline file, for editors
    Pipeline,
    /// The measurement tables with their tags and fields
    Tables,
}

/// Runs the command.
///
/// # Errors
/// If standard output cannot be written to.
pub fn run(args: Args) -> Result<ExitCode> {
    super::print(&match args.what {
        What::Pipeline => pipeline()?,
        What::Tables => {
            Catalog::builtin()?.tables().map(|table| describe(table)).collect::<Vec<_>>().join("\n")
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The text of `schemas/pipeline.schema.json`.
fn pipeline() -> Result<String> {
    let text = serde_json::to_string_pretty(&config::json_schema());
    text.map(|text| text + "\n").map_err(|error| {
        Error::invalid("print the schema", "it cannot be written as JSON").with_source(error)
    })
}

fn describe(table: &Table) -> String {
    let mut text = format!("{}: {}\n", table.name(), table.description());
    let width = table.columns().iter().map(|column| column.name.len()).max().unwrap_or_default();
    for column in table.columns() {
        let kind = match column.kind {
            ColumnKind::Tag => "tag",
            ColumnKind::Field(FieldType::Float) => "float",
            ColumnKind::Field(FieldType::Integer) => "integer",
            ColumnKind::Field(FieldType::Boolean) => "boolean",
            ColumnKind::Field(FieldType::String) => "string",
        };
        let line = format!("  {:width$}  {kind:7}  {:5}  {}", column.name, column.unit, column.description);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_file_is_fresh() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/pipeline.schema.json");
        let file = std::fs::read_to_string(path).unwrap();
        let fresh = pipeline().unwrap();
        assert!(file == fresh, "run: barograph schema pipeline > schemas/pipeline.schema.json");
    }

    #[test]
    fn tables_show_tags_fields_and_units() {
        let text = describe(Catalog::builtin().unwrap().table("memory").unwrap());
        assert!(text.starts_with("memory: "), "{text}");
        let line = text.lines().find(|line| line.trim_start().starts_with("used_bytes ")).unwrap();
        assert!(line.contains(" By "), "{line}");
        assert!(
            text.lines().any(|line| line.trim_start().starts_with("resource_id ") && line.contains(" tag "))
        );
    }
}
