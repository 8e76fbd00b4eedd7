//! Rows that nobody can take are set aside with the reason: counted, logged with restraint, and written to
//! `dead-letter.ndjson` in the data folder, one JSON object per refusal with the rows themselves where they are known.
//!
//! The file is bounded: at 16 MiB it becomes `dead-letter.1.ndjson`, replacing the one before. It is a help for
//! finding the fault, not a queue: it is not fsynced, and a full disk costs the file's rows, not the pipeline.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;

use super::log_limit::LogLimit;
use crate::model::MetricBatch;
use crate::{Error, Result};

const FILE: &str = "dead-letter.ndjson";
const OLD_FILE: &str = "dead-letter.1.ndjson";
const LARGEST_FILE: u64 = 16 << 20;
/// Rows written per refusal; the count is always whole.
const ROWS_SHOWN: usize = 1_000;

/// Where refused rows end.
#[derive(Debug)]
pub(super) struct DeadLetters {
    folder: Mutex<PathBuf>,
    // One writer at a time; held only on blocking threads.
    writing: Arc<Mutex<()>>,
    limit: LogLimit,
}

impl DeadLetters {
    /// Dead letters of the pipeline whose state lies in `folder`; the file is made with the first letter.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: Mutex::new(folder.to_owned()), writing: Arc::default(), limit: LogLimit::default() }
    }

    /// Letters from now on go into another folder; those that are written stay where they are.
    pub(super) fn move_to(&self, folder: &Path) {
        folder.clone_into(&mut self.folder.lock());
    }

    /// Sets rows aside. `component` refused them; `batch` holds them if it is known which they were.
    pub(super) async fn record(
        &self,
        component: &str,
        rows: u64,
        error: &Error,
        batch: Option<&MetricBatch>,
    ) {
        let table = batch.map_or("", MetricBatch::table);
        if let Some(left_out) = self.limit.pass(&format!("{component}/{table}/{}", error.kind())) {
            tracing::warn!(
                component,
                table,
                rows,
                kind = error.kind().as_str(),
                error = error.chain(),
                left_out,
                "rows dead-lettered"
            );
        }
        let record = json!({
            "at": chrono::Utc::now().to_rfc3339(),
            "component": component,
            "table": table,
            "rows": rows,
            "kind": error.kind().as_str(),
            "reason": error.chain(),
        });
        let batch = batch.map(|batch| batch.slice(0, batch.rows().min(ROWS_SHOWN)));
        let (folder, writing) = (self.folder.lock().clone(), Arc::clone(&self.writing));
        let written = tokio::task::spawn_blocking(move || {
            let _one = writing.lock();
            append(&folder, record, batch)
        });
        if let Ok(Err(error)) = written.await
            && self.limit.pass("file").is_some()
        {
            tracing::warn!(
                error = error.chain(),
                "the dead-letter file cannot be written; rows are only counted"
            );
        }
    }
}

fn append(folder: &Path, mut record: serde_json::Value, batch: Option<MetricBatch>) -> Result<()> {
    if let Some(batch) = batch {
        record["data"] = rows_as_json(&batch)?;
    }
    let path = folder.join(FILE);
    let failed = |error| Error::io("write dead letters to", &path, error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if size > LARGEST_FILE {
        std::fs::rename(&path, folder.join(OLD_FILE)).map_err(failed)?;
    }
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    let mut line = record.to_string();
    line.push('\n');
    file.write_all(line.as_bytes()).map_err(failed)
}

fn rows_as_json(batch: &MetricBatch) -> Result<serde_json::Value> {
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    let failed = |reason| Error::invalid("print dead-lettered rows of", reason).with_resource(batch.table());
    writer.write(batch.records()).and_then(|()| writer.finish()).map_err(|e| failed(e.to_string()))?;
    serde_json::from_slice(&writer.into_inner()).map_err(|e| failed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::doubles::parcel;
    use super::*;

    #[tokio::test]
    async fn a_letter_holds_the_reason_and_the_rows() {
        let folder = tempfile::tempdir().unwrap();
        let letters = DeadLetters::new(folder.path());
        let error = Error::invalid("write", "the tag is too long");
        letters.record("store", 2, &error, Some(&parcel(2).batch)).await;
        letters.record("store", 5, &error, None).await;
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["table"], "cpu");
        assert_eq!(lines[0]["kind"], "invalid");
        assert!(lines[0]["reason"].as_str().unwrap().contains("the tag is too long"));
        assert_eq!(lines[0]["data"].as_array().unwrap().len(), 2);
        assert_eq!(lines[0]["data"][0]["resource_id"], "web-1");
        assert_eq!(lines[1]["rows"], 5);
    }

    #[tokio::test]
    async fn the_file_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let big = vec![b' '; usize::try_from(LARGEST_FILE).unwrap() + 1];
        std::fs::write(folder.path().join(FILE), big).unwrap();
        let letters = DeadLetters::new(folder.path());
        letters.record("store", 1, &Error::invalid("write", "no"), None).await;
        assert!(std::fs::metadata(folder.path().join(FILE)).unwrap().len() < 1_000);
        assert!(std::fs::metadata(folder.path().join(OLD_FILE)).unwrap().len() > LARGEST_FILE);
    }
}
