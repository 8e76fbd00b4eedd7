//! The DataFusion session of one query: the names, the settings, the files.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::EngineOptions;
use super::provider::StoreTable;
use crate::store::Snapshot;

/// Catalog and schema that tables are in, as in InfluxDB 3, so that one statement runs on both.
pub(super) const CATALOG: &str = "public";
/// See [`CATALOG`].
pub(super) const SCHEMA: &str = "iox";

/// Under which the plan finds the objects of the snapshot. It names nothing outside the session.
pub(super) fn store_url() -> Result<ObjectStoreUrl> {
    ObjectStoreUrl::parse("store://snapshot")
}

/// A session over the tables of the snapshot, and nothing else: no other file or address can be reached from it.
/// Memory, temporary files and the cache of footers are those of `shared`.
pub(super) fn open(
    options: &EngineOptions,
    shared: &RuntimeEnv,
    snapshot: &Snapshot,
) -> Result<SessionContext> {
    let runtime = RuntimeEnvBuilder::from_runtime_env(shared)
        .with_object_store_registry(Arc::new(DefaultObjectStoreRegistry::default()))
        .build()?;
    // A new registry knows the local file system.
    runtime.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    runtime.register_object_store(store_url()?.as_ref(), Arc::clone(&snapshot.objects));

    let mut settings = ConfigOptions::new();
    settings.execution.parquet.pushdown_filters = true;
    settings.execution.parquet.reorder_filters = true;
    // What each sort keeps aside for merging what it put on disk; the default suits big limits only.
    let aside = options.memory / options.partitions.max(1) / 8;
    settings.execution.sort_spill_reservation_bytes =
        aside.min(settings.execution.sort_spill_reservation_bytes);
    let config = SessionConfig::from(settings)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_information_schema(true)
        .with_target_partitions(options.partitions.max(1));
    let context = SessionContext::new_with_config_rt(config, Arc::new(runtime));
    for (name, table) in &snapshot.tables {
        context
            .register_table(TableReference::bare(name.as_str()), Arc::new(StoreTable::new(table.clone())))?;
    }
    Ok(context)
}
