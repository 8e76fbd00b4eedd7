//! What the transforms that speak SQL share: a session that reaches nothing outside the rows it is given.

use std::collections::HashMap;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::{Error, Result};

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
