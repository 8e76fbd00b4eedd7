//! The engine: limits shared by all its queries, and the way of one query from text to stream.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::execute_stream;

use super::yielding::yielding;
use super::{Answer, TableInfo, answer, explain, guard, session, tables};
use crate::model::Span;
use crate::store::{Snapshot, StoreOptions};
use crate::{Error, Result};

/// Limits of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Bytes that the operators of all running queries may hold together. Sorts and aggregations beyond it go to disk.
    pub memory: usize,
    /// Bytes that they may write to temporary files, deleted with the query; 0 keeps everything in memory.
    pub spill: u64,
    /// Time that one query may take, from planning to the last batch. Time in which the caller does not ask for the
    /// next batch does not count. At most [`longest_timeout`].
    pub timeout: Duration,
    /// Threads' worth of parallel work that one query is cut into.
    pub partitions: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            spill: 2 << 30,
            timeout: Duration::from_secs(60),
            partitions: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }
}

/// Time that a query may lose between reading the manifest and its own beginning.
const MARGIN: Duration = Duration::from_secs(60);

/// The longest timeout that a query may have: the store keeps files that it has replaced a little longer than that, and a
/// query which ran on would find them gone.
pub fn longest_timeout() -> Duration {
    StoreOptions::default().grace.saturating_sub(MARGIN)
}

/// Number of the biggest memory users that an out-of-memory error names.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::MIN;

/// Answers SQL over snapshots of one store. Cheap to clone; clones share the limits and the cache of file footers.
#[derive(Debug, Clone)]
pub struct Engine {
    options: Arc<EngineOptions>,
    runtime: Arc<RuntimeEnv>,
}

impl Engine {
    /// An engine with these limits.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if the limits cannot work.
    pub fn new(options: EngineOptions) -> Result<Self> {
        if options.timeout > longest_timeout() {
            let reason = format!(
                "{} is too long: the store deletes replaced files after {}, also under a query that still reads them; \
                 use a --timeout of at most {}",
                Span(options.timeout),
                Span(StoreOptions::default().grace),
                Span(longest_timeout())
            );
            return Err(Error::invalid("use the timeout", reason));
        }
        let (mode, spill) = match options.spill {
            0 => (DiskManagerMode::Disabled, 0),
            bytes => (DiskManagerMode::OsTmpDirectory, bytes),
        };
        let disk = DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(spill);
        let pool = TrackConsumersPool::new(FairSpillPool::new(options.memory), NAMED_CONSUMERS);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(|error| explain::convert("set up the query engine", error, &options))?;
        Ok(Self { options: Arc::new(options), runtime })
    }

    /// The limits.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Plans one statement over the snapshot and starts it. Dropping the answer cancels the query.
    ///
    /// Must be called on a tokio runtime; more than one thread lets the timeout hold while an operator computes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for wrong SQL, with the position or the name that was meant;
    /// [`crate::ErrorKind::Denied`] for statements that do not only read; [`crate::ErrorKind::Quota`] when a limit is
    /// reached. Errors of execution come through the stream.
    pub async fn query(&self, snapshot: &Snapshot, sql: &str) -> Result<Answer> {
        let started = Instant::now();
        let timeout = self.options.timeout;
        let statement = guard::parse(sql, &self.options)?;
        let context = session::open(&self.options, &self.runtime, snapshot)
            .map_err(|error| explain::convert("open the tables", error, &self.options))?;
        guard::check_tables(&statement, &context, snapshot, &self.options)?;
        let planning = async {
            let plan = context.state().statement_to_plan(statement).await?;
            SQLOptions::new()
                .with_allow_ddl(false)
                .with_allow_dml(false)
                .with_allow_statements(false)
                .verify_plan(&plan)
                .map_err(guard::refused_plan)?;
            let physical = context.execute_logical_plan(plan).await?.create_physical_plan().await?;
            execute_stream(yielding(physical)?, context.task_ctx())
        };
        let batches = tokio::time::timeout(timeout, planning)
            .await
            .map_err(|_| explain::timed_out(&self.options))?
            .map_err(|error| explain::of_query("plan the query", error, &self.options, snapshot))?;
        Ok(answer::start(batches, started, Arc::clone(&self.options), snapshot.clone()))
    }

    /// What the snapshot holds, one entry per table in order of name, without opening a file.
    pub fn tables(&self, snapshot: &Snapshot) -> Vec<TableInfo> {
        tables::describe(snapshot)
    }
}
