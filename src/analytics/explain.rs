//! From the engine's errors to ours: limits, files that are gone, and statements that it refused.

use std::error::Error as StdError;

use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;

use super::EngineOptions;
use crate::model::{Size, Span};
use crate::{Error, ErrorKind, sql};

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
    match sql::refusal(&error) {
        Some((kind, reason)) => Error::new(kind, operation, reason),
        None => Error::unavailable(operation, "the data could not be read").with_source(error),
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
