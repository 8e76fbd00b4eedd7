//! `stdout`: rows as lines on standard output.

use std::io::Write;

use arrow::json::writer::{LineDelimited, WriterBuilder};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::{Rejected, Sink, Written};
use crate::model::MetricBatch;
use crate::{Error, ErrorKind, Result};

/// Prints rows on standard output.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How a row is written.
    pub format: Format,
}

/// How a row is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// InfluxDB line protocol.
    #[default]
    LineProtocol,
    /// One JSON object per line, with the table as `table` and `time` as RFC 3339 with nanoseconds; null is left out.
    Json,
}

/// The sink. What it was given is printed when [`Sink::write`] returns.
#[derive(Debug)]
pub struct StdoutSink {
    format: Format,
}

impl StdoutSink {
    /// A sink on this process's standard output.
    pub fn new(config: &Config) -> Self {
        Self { format: config.format }
    }

    /// What is to be printed, and what becomes of the rows once it is.
    fn format(&self, batches: &[MetricBatch]) -> Result<(Vec<u8>, Written)> {
        let rows: u64 = batches.iter().map(|batch| batch.rows() as u64).sum();
        match self.format {
            Format::LineProtocol => {
                let mut lines = Lines::default();
                lines.encode(batches);
                let rejected = lines.rejected("write as line protocol", batches);
                let written = Written { rows: lines.count() as u64, empty: lines.empty(), rejected };
                Ok((lines.into_bytes(), written))
            }
            Format::Json => {
                let mut bytes = Vec::new();
                for batch in batches {
                    json(batch, &mut bytes)?;
                }
                Ok((bytes, Written { rows, ..Written::default() }))
            }
        }
    }
}

/// Appends one object per row.
fn json(batch: &MetricBatch, into: &mut Vec<u8>) -> Result<()> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::invalid("write as JSON", "the rows cannot be written")
            .with_resource(batch.table())
            .with_source(e)
    };
    let mut lines = Vec::new();
    let mut writer = WriterBuilder::new()
        .with_timestamp_format("%Y-%m-%dT%H:%M:%S%.9fZ".to_owned())
        .build::<_, LineDelimited>(&mut lines);
    writer.write(batch.records()).and_then(|()| writer.finish()).map_err(|e| failed(e.into()))?;
    let table = serde_json::to_string(batch.table()).map_err(|e| failed(e.into()))?;
    for line in lines.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"{")) {
        into.extend_from_slice(b"{\"table\":");
        into.extend_from_slice(table.as_bytes());
        into.push(b',');
        into.extend_from_slice(line);
        into.push(b'\n');
    }
    Ok(())
}

#[async_trait]
impl Sink for StdoutSink {
    async fn write(&self, batches: &[MetricBatch]) -> Result<Written> {
        let (bytes, written) = self.format(batches)?;
        // A reader that does not read would hold a thread of the runtime.
        let printed = tokio::task::spawn_blocking(move || {
            let mut out = std::io::stdout().lock();
            out.write_all(&bytes).and_then(|()| out.flush())
        });
        let printed =
            printed.await.map_err(|e| Error::unavailable("print rows", "the task failed").with_source(e))?;
        match printed {
            Ok(()) => Ok(written),
            // Nobody will read it ever again; rows that waited for that would hold up the other sinks.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {
                let reason = "whoever read standard output has gone";
                let error = || Error::new(ErrorKind::Unsupported, "print rows", reason);
                let rejected = batches.iter().enumerate();
                let rejected = rejected.map(|(place, batch)| Rejected::whole(place, batch, error()));
                Ok(Written { rejected: rejected.collect(), ..Written::default() })
            }
            Err(e) => Err(Error::io("print rows", "standard output", e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Identity};

    fn batch() -> MetricBatch {
        let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
        builder.row(1_700_000_000_000_000_001).set("utilization", 0.5).unwrap();
        builder.row(1_700_000_001_000_000_000).set("core", "0").unwrap();
        builder.finish().unwrap()
    }

    #[test]
    fn json_is_one_object_per_row() {
        let sink = StdoutSink::new(&Config { format: Format::Json });
        let text = String::from_utf8(sink.format(&[batch()]).unwrap().0).unwrap();
        let rows: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0]["table"], "cpu");
        assert_eq!(rows[0]["time"], "2023-11-14T22:13:20.000000001Z");
        assert_eq!(rows[0]["utilization"], 0.5);
        assert_eq!(rows[0].get("core"), None, "null is left out");
        assert_eq!(rows[1]["core"], "0");
    }

    #[test]
    fn line_protocol_is_the_default() {
        let sink = StdoutSink::new(&Config::default());
        let (bytes, written) = sink.format(&[batch()]).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 1, "the second row has no value");
        assert!(text.ends_with(" utilization=0.5 1700000000000000001\n"), "{text}");
        assert_eq!((written.rows, written.empty, written.rejected.len()), (1, 1, 0));
    }

    #[tokio::test]
    async fn every_row_counts_as_written() {
        let written = StdoutSink::new(&Config { format: Format::Json }).write(&[batch()]).await.unwrap();
        assert_eq!((written.rows, written.rejected.len()), (2, 0));
    }
}
