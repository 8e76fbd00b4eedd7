//! What all who run SQL share: why the engine refused a statement, in words for whoever wrote it, and names as SQL
//! writes them.

use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError, TableReference};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

use crate::ErrorKind;
use crate::suggest::closest;

/// Names listed in a message before the list is cut.
const LISTED: usize = 20;

/// Kind and reason of an error that the statement or its data is to blame for; `None` for what went wrong around it:
/// files, limits, tasks. The reason says all that the engine knows, on one line and without the engine's decoration.
pub(crate) fn refusal(error: &DataFusionError) -> Option<(ErrorKind, String)> {
    let invalid = |reason| Some((ErrorKind::Invalid, reason));
    match error.find_root() {
        DataFusionError::SQL(parser, _) => invalid(syntax(parser)),
        DataFusionError::SchemaError(schema, _) => invalid(match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => unknown_column(field, valid_fields),
            other => one_line(&other.to_string()),
        }),
        DataFusionError::Plan(message)
        | DataFusionError::Execution(message)
        | DataFusionError::Configuration(message) => invalid(one_line(message)),
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::IoError(..) | ArrowError::ExternalError(_) | ArrowError::ParquetError(_) => None,
            ArrowError::CastError(message)
            | ArrowError::ComputeError(message)
            | ArrowError::ParseError(message)
            | ArrowError::ArithmeticOverflow(message)
            | ArrowError::InvalidArgumentError(message) => invalid(one_line(message)),
            ArrowError::DivideByZero => invalid("division by zero".into()),
            other => invalid(one_line(&other.to_string())),
        },
        DataFusionError::NotImplemented(message) => Some((ErrorKind::Unsupported, one_line(message))),
        DataFusionError::Internal(message) => {
            let reason = format!("the engine met an internal fault; please report it: {}", one_line(message));
            Some((ErrorKind::Unsupported, reason))
        }
        _ => None,
    }
}

/// A name as it must be written in SQL.
pub(crate) fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// `line 1, column 8: ...`.
fn syntax(error: &ParserError) -> String {
    let message = match error {
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => one_line(message),
        ParserError::RecursionLimitExceeded => return "the statement is nested too deeply".into(),
    };
    match message.rsplit_once(" at Line: ") {
        Some((what, place)) => format!("line {}: {what}", place.replace("Column:", "column")),
        None => message,
    }
}

/// Names the column, the tables that do not have it, and the one that was meant or those that there are.
fn unknown_column(field: &Column, valid: &[Column]) -> String {
    let same_table = |column: &&Column| match (&field.relation, &column.relation) {
        (Some(wanted), Some(there)) => wanted.resolved_eq(there),
        _ => true,
    };
    let (mut names, mut tables) = (Vec::new(), Vec::new());
    for column in valid.iter().filter(same_table) {
        names.push(column.name.as_str());
        tables.extend(column.relation.as_ref().map(TableReference::table));
    }
    names.dedup();
    tables.dedup();
    let place = match (&field.relation, tables.is_empty()) {
        (_, false) => tables.join(", "),
        (Some(table), true) => table.table().to_owned(),
        (None, true) => "the rows".to_owned(),
    };
    let hint = match closest(&field.name, names.iter().copied()) {
        Some(name) => format!("did you mean {}?", quoted(name)),
        None if names.is_empty() => "there are no columns here".into(),
        None => {
            let more = if names.len() > LISTED { ", ..." } else { "" };
            let listed: Vec<_> = names.iter().take(LISTED).map(|name| quoted(name)).collect();
            format!("the columns are {}{more} (text is written in single quotes)", listed.join(", "))
        }
    };
    format!("there is no column {} in {place}; {hint}", quoted(&field.name))
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(field: &str, valid: &[&str]) -> String {
        let valid_fields = valid.iter().map(|name| Column::from_qualified_name(*name)).collect();
        let field = Box::new(Column::from_qualified_name(field));
        let error = SchemaError::FieldNotFound { field, valid_fields };
        let error = DataFusionError::SchemaError(Box::new(error), Box::new(None)).context("type_coercion");
        refusal(&error).unwrap().1
    }

    #[test]
    fn an_unknown_column_comes_with_its_table_and_what_was_meant_or_is_there() {
        assert_eq!(
            missing("devise", &["disk.device", "disk.utilization"]),
            "there is no column devise in disk; did you mean device?"
        );
        assert_eq!(
            missing("zebra", &["disk.device", "disk.\"Odd\""]),
            "there is no column zebra in disk; the columns are device, \"Odd\" (text is written in single quotes)"
        );
        assert_eq!(
            missing("dsk.device", &["disk.device"]),
            "there is no column device in dsk; there are no columns here"
        );
        assert_eq!(
            missing("devise", &["device"]),
            "there is no column devise in the rows; did you mean device?"
        );
    }

    #[test]
    fn the_engines_decoration_is_taken_off_and_other_faults_are_not_the_statements() {
        let cast = ArrowError::CastError("Cannot cast string 'loop0' to value of Float64 type".into());
        let cast = DataFusionError::ArrowError(Box::new(cast), None).context("somewhere");
        assert_eq!(
            refusal(&cast),
            Some((ErrorKind::Invalid, "Cannot cast string 'loop0' to value of Float64 type".into()))
        );
        let plan = DataFusionError::Plan("Invalid function 'averge'.\nDid you mean 'avg'?".into());
        assert_eq!(refusal(&plan).unwrap().1, "Invalid function 'averge'. Did you mean 'avg'?");
        assert_eq!(refusal(&DataFusionError::ResourcesExhausted("memory".into())), None);
    }
}
