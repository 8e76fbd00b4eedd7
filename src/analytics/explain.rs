//! From the engine's errors to ours: limits, files that are gone, and statements that it refused.

use std::error::Error as StdError;
use std::time::Duration;

use chrono::SecondsFormat;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;

use super::EngineOptions;
use crate::model::{Size, Span};
use crate::store::{Snapshot, StoreOptions};
use crate::{Error, ErrorKind, sql};

/// The error of a query that ran out of time.
pub(super) fn timed_out(options: &EngineOptions) -> Error {
    let reason = format!(
        "it ran longer than the timeout of {}; narrow the time range, or raise the limit with --timeout",
        Span(options.timeout)
    );
    Error::new(ErrorKind::Quota, "finish the query", reason)
}

/// Explains an error of a query over the snapshot, which came up during `operation`.
pub(super) fn of_query(
    operation: &str,
    error: DataFusionError,
    options: &EngineOptions,
    snapshot: &Snapshot,
) -> Error {
    match absent(&error).map(|path| vanished(path, snapshot, snapshot.read_at.elapsed())) {
        Some(explained) => explained.with_source(error),
        None => convert(operation, error, options),
    }
}

/// Explains an error of the engine that came up during `operation`.
pub(super) fn convert(operation: &str, error: DataFusionError, options: &EngineOptions) -> Error {
    let error = match unwrapped(error) {
        Ok(ours) => {
            // An error of the engine may have travelled inside one of ours, through the merge.
            return match exhausted(&ours, options) {
                Some(explained) => explained,
                None => ours,
            };
        }
        Err(error) => error,
    };
    if let Some(explained) = exhausted(&error, options) {
        return explained;
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

/// The error of a limit on memory or temporary files, if that is the cause. It stands alone: the engine's own text ends
/// in advice about settings that nobody can reach here.
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

/// The file whose absence is the cause, if one is.
fn absent<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a str> {
    // The reader of footers keeps the cause only as text.
    let in_text = || match find::<ParquetError>(error)? {
        ParquetError::General(text) if text.contains("Object at location") && text.contains("not found") => {
            text.split_once("metadata for file ")?.1.split_once(": ").map(|(path, _)| path)
        }
        _ => None,
    };
    match find::<object_store::Error>(error) {
        Some(object_store::Error::NotFound { path, .. }) => Some(path),
        _ => in_text(),
    }
}

/// The error of a file that is not there, of a snapshot of this `age`. The store keeps a file for a while after it has
/// replaced it, so one that is missing earlier was not taken away by the store.
pub(super) fn vanished(path: &str, snapshot: &Snapshot, age: Duration) -> Error {
    let grace = StoreOptions::default().grace;
    if age >= grace {
        let reason = format!(
            "the store has replaced the file and keeps such files for {}, and the answer was read more slowly than \
             that; run the query again, into a file if its reader is slow",
            Span(grace)
        );
        return Error::unavailable("read segment", reason).with_resource(path);
    }
    let named = snapshot.tables.iter().find_map(|(table, parts)| {
        let segment = parts.segments.iter().find(|segment| segment.location().as_ref() == path)?;
        Some(format!(": rows of {table} from {} to {}", time(segment.min_time), time(segment.max_time)))
    });
    let reason = format!(
        "the file is gone though the store still counts on it{}; something other than barograph moved or deleted it. \
         Put it back from a backup; until then leave that time out of the query",
        named.unwrap_or_default()
    );
    Error::new(ErrorKind::NotFound, "read segment", reason).with_resource(path)
}

/// A time in RFC 3339, as it can be written into a query.
fn time(nanoseconds: i64) -> String {
    chrono::DateTime::from_timestamp_nanos(nanoseconds).to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
