//! This machine, from `/proc` and `statvfs`.
//!
//! One file per measurement table, so that a reader finds a figure where its table is. A table that cannot be read
//! becomes a fault; the others go on.

mod config;
mod cpu;
mod disk;
mod filesystem;
mod inventory;
mod memory;
mod network;
mod status;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use parking_lot::Mutex;

pub use config::Config;

use super::{Collection, Collector, Shard, Window};
use crate::model::{BatchBuilder, Identity, MetricBatch};
use crate::{Error, Result};

/// Measures the machine that Barograph runs on. It has one shard, `local`.
#[derive(Debug)]
pub struct HostCollector {
    tables: Arc<Mutex<Tables>>,
}

/// When a reading was made.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// The tick: goes into the `time` column.
    tick: i64,
    /// Monotonic nanoseconds since the collector started: what rates are computed with, so that a clock that is set
    /// makes no wrong rate.
    elapsed: i64,
}

#[derive(Debug)]
struct Tables {
    started: Instant,
    identity: Identity,
    cpu: cpu::Cpu,
    disk: disk::Disk,
    filesystem: filesystem::Filesystem,
    memory: memory::Memory,
    network: network::Network,
}

impl HostCollector {
    /// A collector for this machine.
    ///
    /// # Errors
    /// If the machine has no name.
    pub fn new(config: &Config) -> Result<Self> {
        let tables = Tables {
            started: Instant::now(),
            identity: inventory::identity()?,
            cpu: cpu::Cpu::default(),
            disk: disk::Disk::new(config),
            filesystem: filesystem::Filesystem::new(config),
            memory: memory::Memory::default(),
            network: network::Network::new(config),
        };
        Ok(Self { tables: Arc::new(Mutex::new(tables)) })
    }
}

#[async_trait]
impl Collector for HostCollector {
    async fn discover(&self) -> Result<Vec<Shard>> {
        Ok(vec![Shard("local".into())])
    }

    async fn collect(&self, _shard: &Shard, window: Window) -> Result<Collection> {
        let tables = Arc::clone(&self.tables);
        // A file system that hangs must hold a spare thread, not one that carries the pipeline; and one such thread,
        // not one more at each tick.
        let reading = tokio::task::spawn_blocking(move || match tables.try_lock() {
            Some(mut tables) => Ok(tables.measure(window)),
            None => Err(Error::unavailable("measure", "the reading before this one still hangs")
                .with_provider("host")),
        });
        reading.await.map_err(|error| {
            Error::unavailable("measure", "the reading thread failed")
                .with_provider("host")
                .with_source(error)
        })?
    }
}

impl Tables {
    fn measure(&mut self, window: Window) -> Collection {
        let elapsed = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let at = Moment { tick: window.end, elapsed };
        let identity = &self.identity;
        let results = [
            self.cpu.measure(at, identity),
            self.memory.measure(at, identity),
            self.disk.measure(at, identity),
            self.filesystem.measure(at, identity),
            self.network.measure(at, identity),
            status::measure(at, identity),
        ];
        let mut collection = Collection::default();
        for result in results {
            match result {
                Ok(batch) if batch.rows() == 0 => {}
                Ok(batch) => collection.batches.push(batch),
                Err(error) => collection.faults.push(error.with_provider("host")),
            }
        }
        collection
    }
}

/// A `/proc` file that cannot be read.
fn unreadable(file: &str, error: procfs::ProcError) -> Error {
    Error::unavailable("read", "the kernel's answer is missing or not understood")
        .with_resource(file)
        .with_source(error)
}

/// A builder for one of the built-in tables.
fn rows(table: &str, identity: &Identity) -> Result<BatchBuilder> {
    BatchBuilder::new(table, identity)
}

/// Whether `name` begins with one of the prefixes that the pipeline file leaves out.
fn is_ignored(prefixes: &[String], name: &str) -> bool {
    prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
}

/// A whole number as a float field; exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "byte counts beyond 9 PB lose their last byte")]
fn float(number: u64) -> f64 {
    number as f64
}

/// Shorthand used by every table.
type Measured = Result<MetricBatch>;

#[cfg(test)]
mod tests;
