//! What the transforms that speak SQL share: a session that reaches nothing outside the rows it is given, and the words
//! for what the engine refuses.

use std::collections::HashMap;

use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::{Error, ErrorKind, Result, sql};

/// Bytes that the operators of one query may hold; a query that needs more refuses its parcel.
pub(super) const MEMORY: usize = 256 << 20;

/// A session without tables, table functions, recursion or temporary files, and with bounded memory.
pub(super) fn isolated() -> Result<SessionContext> {
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime =
        RuntimeEnvBuilder::new().with_memory_limit(MEMORY, 1.0).with_disk_manager_builder(disk).build_arc();
    let runtime = runtime.map_err(|e| {
        Error::invalid("set up SQL for a transform", "the query engine refused its limits").with_source(e)
    })?;
    // A batch is small: more partitions only cost.
    let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
    config.options_mut().execution.enable_recursive_ctes = false;
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        // `generate_series` and the like make rows out of nothing, without end.
        .with_table_functions(HashMap::new())
        .build();
    Ok(SessionContext::new_with_state(state))
}

/// The error of what the engine says about some SQL, as `operation` on `table`.
pub(super) fn refused(operation: &str, table: &str, text: &str, error: DataFusionError) -> Error {
    if let DataFusionError::ResourcesExhausted(_) = error.find_root() {
        let reason = format!("`{text}`: it needs more than the {} MiB that one batch may take", MEMORY >> 20);
        return Error::new(ErrorKind::Quota, operation, reason).with_resource(table).with_source(error);
    }
    match sql::refusal(&error) {
        Some((kind, reason)) => {
            Error::new(kind, operation, format!("`{text}`: {reason}")).with_resource(table)
        }
        None => Error::invalid(operation, format!("`{text}`: the query engine failed"))
            .with_resource(table)
            .with_source(error),
    }
}
