//! From the engine's errors to ours: what was wrong, where, and what to do about it.

use std::error::Error as StdError;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use parquet::errors::ParquetError;

use super::EngineOptions;
use super::closest::closest;
use super::guard::quoted;
use crate::model::{Size, Span};
use crate::{Error, ErrorKind};

/// Column names listed in an error before the list is cut.
const LISTED: usize = 20;

/// The error of a query that ran out of time.
pub(super) fn timed_out(options: &EngineOptions) -> Error {
    let reason = format!(
        "it ran longer than the timeout of {}; narrow the time range, or raise the limit with --timeout",
        Span(options.timeout)
    );
    Error::new(ErrorKind::Quota, "finish the query", reason)
}

/// Explains an error of the engine that came up during `operation`.
pub(super) fn convert(operation: &str, error: DataFusionError, options: &EngineOptions) -> Error {
    let error = match unwrapped(error) {
        Ok(ours) => {
            // An error of the engine may have travelled inside one of ours, through the merge.
            return match exhausted(&ours, options).or_else(|| vanished(&ours)) {
                Some(explained) => explained.with_source(ours),
                None => ours,
            };
        }
        Err(error) => error,
    };
    if let Some(explained) = exhausted(&error, options).or_else(|| vanished(&error)) {
        return explained.with_source(error);
    }
    if let Some(ours) = find::<Error>(&error) {
        let (kind, reason) = (ours.kind(), ours.to_string());
        return Error::new(kind, operation, reason).with_source(error);
    }
    let root = error.find_root();
    match root {
        DataFusionError::SQL(parser, _) => Error::invalid(operation, syntax(parser)),
        DataFusionError::SchemaError(schema, _) => unknown_column(operation, schema),
        DataFusionError::NotImplemented(message) => {
            Error::new(ErrorKind::Unsupported, operation, one_line(message))
        }
        DataFusionError::Plan(message) | DataFusionError::Execution(message) => {
            Error::invalid(operation, one_line(message))
        }
        DataFusionError::Configuration(message) => Error::invalid(operation, one_line(message)),
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::IoError(..) | ArrowError::ExternalError(_) | ArrowError::ParquetError(_) => {
                unreadable(operation, error)
            }
            other => Error::invalid(operation, one_line(&other.to_string())),
        },
        DataFusionError::Internal(message) => {
            let reason = format!("the engine met an internal fault; please report it: {}", one_line(message));
            Error::new(ErrorKind::Unsupported, operation, reason)
        }
        _ => unreadable(operation, error),
    }
}

/// Takes our own error out of the engine's wrapping, if it is in there and nobody shares it.
fn unwrapped(error: DataFusionError) -> Result<Error, DataFusionError> {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => Ok(*ours),
            Err(other) => Err(DataFusionError::External(other)),
        },
        DataFusionError::Context(text, inner) => match unwrapped(*inner) {
            Ok(ours) => Ok(ours),
            Err(other) => Err(DataFusionError::Context(text, Box::new(other))),
        },
        other => Err(other),
    }
}

/// The error and its causes.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

/// The first cause of a type, the error itself included.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref::<T>())
}

/// The error of a limit on memory or temporary files, if that is the cause.
fn exhausted(error: &(dyn StdError + 'static), options: &EngineOptions) -> Option<Error> {
    // On its way through the writer of temporary files this one becomes an error of input and output.
    let disk = causes(error).any(|cause| cause.to_string().contains("used disk space during the spilling"));
    let memory = || {
        let root = find::<DataFusionError>(error)?.find_root();
        matches!(root, DataFusionError::ResourcesExhausted(_)).then_some(())
    };
    let (limit, size, flag) = if disk {
        ("limit of temporary files", options.spill, "--spill")
    } else {
        memory()?;
        ("memory limit", options.memory as u64, "--memory")
    };
    let reason = format!(
        "it needs more than the {limit} of {}; narrow the time range or the columns, or raise the limit with {flag}",
        Size(size)
    );
    Some(Error::new(ErrorKind::Quota, "finish the query", reason))
}

/// The error of a file that is not there any more, if that is the cause.
fn vanished(error: &(dyn StdError + 'static)) -> Option<Error> {
    // The reader of footers keeps the cause only as text.
    let in_text = || match find::<ParquetError>(error)? {
        ParquetError::General(text) if text.contains("Object at location") && text.contains("not found") => {
            text.split_once("metadata for file ")?.1.split_once(": ").map(|(path, _)| path)
        }
        _ => None,
    };
    let path = match find::<object_store::Error>(error) {
        Some(object_store::Error::NotFound { path, .. }) => path,
        _ => in_text()?,
    };
    let reason = "the store has removed the file since the query began; run it again";
    Some(Error::unavailable("read segment", reason).with_resource(path))
}

fn unreadable(operation: &str, error: DataFusionError) -> Error {
    Error::unavailable(operation, "the data could not be read").with_source(error)
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

fn unknown_column(operation: &str, error: &SchemaError) -> Error {
    let SchemaError::FieldNotFound { field, valid_fields } = error else {
        return Error::invalid(operation, one_line(&error.to_string()));
    };
    let same_table = |column: &&Column| match (&field.relation, &column.relation) {
        (Some(wanted), Some(there)) => wanted.resolved_eq(there),
        _ => true,
    };
    let mut names: Vec<_> =
        valid_fields.iter().filter(same_table).map(|column| column.name.as_str()).collect();
    names.dedup();
    let hint = match closest(&field.name, names.iter().copied()) {
        Some(name) => format!("did you mean {}?", quoted(name)),
        None if names.is_empty() => "there are no columns here".into(),
        None => {
            let more = if names.len() > LISTED { ", ..." } else { "" };
            let listed: Vec<_> = names.iter().take(LISTED).map(|name| quoted(name)).collect();
            format!("the columns are {}{more} (text is written in single quotes)", listed.join(", "))
        }
    };
    Error::invalid("find the column", format!("there is no such column; {hint}"))
        .with_resource(field.flat_name())
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
