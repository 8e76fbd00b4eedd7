//! `influxdb`: rows into InfluxDB 1.x, 2.x and 3.x, and into VictoriaMetrics.
//!
//! A write returns when the server has acknowledged every row or it is known which it cannot take and why. What that
//! means for each answer is in `answer.rs`; `docs/influxdb.md` says it for people.

mod answer;
mod body;
mod client;
mod config;
mod create;
mod dialect;
mod metrics;
mod probe;
mod retry_after;
mod suspects;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

pub use config::{BatchLimits, Config, Version};

use self::client::Client;
use self::dialect::{Credentials, Dialect, Target};
use self::metrics::Metrics;
use self::write::Writer;
use super::lines::Lines;
use super::{Sink, Written};
use crate::model::MetricBatch;
use crate::telemetry::Telemetry;
use crate::{Error, ErrorKind, Result};

/// Encoders that are kept for the next writes, and the largest that is.
const KEPT: usize = 4;
const KEPT_BYTES: usize = 32 << 20;

/// Writes rows to a server; they are as durable as the server makes them when it acknowledges.
#[derive(Debug)]
pub struct InfluxSink {
    client: Client,
    target: Target,
    limits: BatchLimits,
    compress: bool,
    create: bool,
    metrics: Metrics,
    /// Memory of writes that have ended.
    spare: Mutex<Vec<Lines>>,
}

impl InfluxSink {
    /// Asks the server what it is, and makes the database or bucket if that is wanted; `component` is the sink's name in
    /// the pipeline.
    ///
    /// # Errors
    /// The server cannot be reached or does not accept the credentials, or the keys do not fit it.
    pub async fn open(component: &str, config: &Config, telemetry: &Telemetry) -> Result<Self> {
        // Any dialect's will do for asking; where it is not known yet, what is most likely.
        let likely = if config.bucket.is_some() { Dialect::V2 } else { Dialect::V3 };
        let client = Client::new(config, Credentials::new(config, likely)?).await?;
        let target = Target::choose(config, probe::ask(&client, config).await?)?;
        let client = client.with_credentials(Credentials::new(config, target.dialect())?);
        if config.create {
            create::create(&client, &target).await?;
        }
        tracing::info!(sink = component, server = %client.server(), %target, dialect = ?target.dialect(), "sink is open");
        Ok(Self {
            client,
            target,
            limits: config.batch,
            compress: config.compress,
            create: config.create,
            metrics: Metrics::new(telemetry, component),
            spare: Mutex::default(),
        })
    }

    fn keep(&self, lines: Arc<Lines>) {
        // Whoever still holds it is a compression that nobody waits for any more.
        let Ok(lines) = Arc::try_unwrap(lines) else { return };
        let mut spare = self.spare.lock();
        if spare.len() < KEPT && lines.bytes(0..lines.count()).len() <= KEPT_BYTES {
            spare.push(lines);
        }
    }
}

#[async_trait]
impl Sink for InfluxSink {
    async fn write(&self, batches: &[MetricBatch]) -> Result<Written> {
        let lines = self.spare.lock().pop().unwrap_or_default();
        let lines = Arc::new(body::encode(lines, batches).await?);
        let writer = Writer {
            client: &self.client,
            target: &self.target,
            limits: self.limits,
            compress: self.compress,
            metrics: &self.metrics,
        };
        let mut written = writer.write(&lines, batches).await;
        if self.create && matches!(&written, Err(error) if error.kind() == ErrorKind::NotFound) {
            // Somebody has dropped it since the sink was opened.
            create::create(&self.client, &self.target).await?;
            written = writer.write(&lines, batches).await;
        }
        self.keep(lines);
        written
    }
}

/// An error of this sink: what was tried on what, and why it failed.
fn fault(kind: ErrorKind, operation: &str, resource: &str, reason: impl Into<String>) -> Error {
    let error = Error::new(kind, operation, reason).with_provider("influxdb");
    if resource.is_empty() { error } else { error.with_resource(resource) }
}
