//! The sink that stores rows in the embedded store.

use std::path::PathBuf;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Rejected, Sink, Written};
use crate::Result;
use crate::model::{MetricBatch, Size, Span};
use crate::store::{Store, StoreOptions};
use crate::telemetry::Telemetry;

/// The embedded store: a folder with a durable log and Parquet segments, read by `barograph query`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The store's folder; made if it is missing.
    pub path: PathBuf,
    /// Rows older than this are dropped, a whole hour or day at a time. Without it everything is kept.
    pub retention: Option<Span>,
    /// Memory for rows that are not in segments yet; when they take this much they are written.
    pub buffer: Size,
    /// Rows are written to segments after this time at the latest. They are durable and readable before.
    pub flush: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./data"),
            retention: None,
            buffer: Size(128 << 20),
            flush: Span::seconds(600),
        }
    }
}

impl Config {
    /// The store's options under this configuration; `component` labels its metrics.
    pub fn options(&self, component: &str, telemetry: &Telemetry) -> StoreOptions {
        StoreOptions {
            retention: self.retention.map(|span| span.0),
            buffer_bytes: usize::try_from(self.buffer.0).unwrap_or(usize::MAX),
            flush_interval: self.flush.0,
            telemetry: telemetry.clone(),
            component: component.to_owned(),
            ..StoreOptions::new(&self.path)
        }
    }
}

/// Stores rows; they are durable when a write returns.
#[derive(Debug)]
pub struct StoreSink {
    store: Store,
}

impl StoreSink {
    /// Opens the store for writing; `component` is the sink's name in the pipeline.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] if another process writes to it, and others of [`Store::open`].
    pub async fn open(component: &str, config: &Config, telemetry: &Telemetry) -> Result<Self> {
        Ok(Self { store: Store::open(config.options(component, telemetry)).await? })
    }

    /// The store behind the sink, for reading in the same process.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

#[async_trait]
impl Sink for StoreSink {
    async fn write(&self, batches: &[MetricBatch]) -> Result<Written> {
        let appended = self.store.append(batches).await?;
        let rejected = appended.rejected.into_iter().filter_map(|refused| {
            Some(Rejected::whole(refused.index, batches.get(refused.index)?, refused.error))
        });
        Ok(Written { rows: appended.rows, rejected: rejected.collect(), ..Written::default() })
    }

    async fn close(&self) -> Result<()> {
        self.store.clone().close().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::model::{BatchBuilder, Identity};

    fn batch(column: ArrayRef) -> MetricBatch {
        let mut builder = BatchBuilder::new("cpu", &Identity::host("a")).unwrap();
        builder.row(1).set("utilization", 0.5).unwrap();
        let records = builder.finish().unwrap().into_records();
        let mut fields: Vec<_> = records.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new("x", column.data_type().clone(), true)));
        let columns = records.columns().iter().cloned().chain([column]).collect();
        let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        MetricBatch::try_new("cpu", records).unwrap()
    }

    #[tokio::test]
    async fn a_batch_of_another_type_is_rejected_alone() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { path: folder.path().join("data"), ..Config::default() };
        let sink = StoreSink::open("store", &config, &Telemetry::default()).await.unwrap();
        let good = batch(Arc::new(Int64Array::from(vec![1])));
        let bad = batch(Arc::new(StringArray::from(vec!["1"])));
        let written = sink.write(&[good.clone(), bad, good]).await.unwrap();
        assert_eq!(written.rows, 2);
        assert_eq!(written.rejected.len(), 1);
        assert_eq!((written.rejected[0].batch, written.rejected[0].rows.as_slice()), (1, [0].as_slice()));
        assert!(written.rejected[0].error.to_string().contains("cpu.x"), "{}", written.rejected[0].error);
        sink.close().await.unwrap();
        assert!(sink.write(&[]).await.unwrap_err().to_string().contains("closed"));
    }

    #[test]
    fn the_configuration_is_read_with_its_defaults_and_unknown_keys_are_refused() {
        let config: Config = crate::yaml::from_str("path: /x\nretention: 30d\nbuffer: 64MiB").unwrap();
        assert_eq!(config.retention.map(|span| span.0.as_secs()), Some(30 * 86_400));
        assert_eq!((config.buffer, config.flush), (Size(64 << 20), Span::seconds(600)));
        assert!(crate::yaml::from_str::<Config>("pth: /x").is_err());
    }
}
