//! One letter: rows of one batch that were refused together, for one reason. As a file it is a plain Arrow IPC stream
//! with the reason in the metadata of its schema, so that any tool that reads Arrow reads it.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use crate::model::{MetricBatch, tag_type};
use crate::{Error, Result};

const TABLE: &str = "barograph.table";
const COMPONENT: &str = "barograph.component";
const KIND: &str = "barograph.kind";
const REASON: &str = "barograph.reason";
const AT: &str = "barograph.at";

/// Rows that were refused, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// The sink or transform that refused them.
    pub component: String,
    /// The kind of the error, as a word.
    pub kind: String,
    /// The error with all its causes.
    pub reason: String,
    /// When, in nanoseconds since 1970 UTC.
    pub at: i64,
    /// The rows.
    pub batch: MetricBatch,
}

impl Letter {
    /// A letter of now.
    pub(super) fn new(component: &str, error: &Error, batch: MetricBatch) -> Self {
        Self {
            component: component.to_owned(),
            kind: error.kind().as_str().to_owned(),
            reason: error.chain(),
            at: chrono::Utc::now().timestamp_nanos_opt().unwrap_or_default(),
            batch,
        }
    }

    /// The letter as a file.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let unable = |source: ArrowError| {
            Error::invalid("write a dead letter of", "Arrow cannot encode it")
                .with_resource(self.batch.table())
                .with_source(source)
        };
        let records = compact(self.batch.records()).map_err(unable)?;
        let metadata = HashMap::from([
            (TABLE.to_owned(), self.batch.table().to_owned()),
            (COMPONENT.to_owned(), self.component.clone()),
            (KIND.to_owned(), self.kind.clone()),
            (REASON.to_owned(), self.reason.clone()),
            (AT.to_owned(), self.at.to_string()),
        ]);
        let schema = Arc::new(Schema::new_with_metadata(records.schema_ref().fields().clone(), metadata));
        let records = records.with_schema(Arc::clone(&schema)).map_err(unable)?;
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).map_err(unable)?;
        writer.write(&records).and_then(|()| writer.finish()).map_err(unable)?;
        writer.into_inner().map_err(unable)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if it is no letter, or damaged.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let unable = |reason: &str| Error::invalid("read a dead letter", reason);
        let arrow = |source: ArrowError| unable("it is no Arrow stream, or damaged").with_source(source);
        let mut reader = StreamReader::try_new(Cursor::new(bytes), None).map_err(arrow)?;
        let schema = reader.schema();
        let text = |key: &str| {
            let value = schema.metadata().get(key);
            value.cloned().ok_or_else(|| unable("it does not say where it comes from").with_resource(key))
        };
        let records = reader.next().ok_or_else(|| unable("it holds no rows"))?.map_err(arrow)?;
        let plain = Arc::new(Schema::new(schema.fields().clone()));
        let records = RecordBatch::try_new(plain, records.columns().to_vec()).map_err(arrow)?;
        Ok(Self {
            component: text(COMPONENT)?,
            kind: text(KIND)?,
            reason: text(REASON)?,
            at: text(AT)?.parse().map_err(|_| unable("its time is no number"))?,
            batch: MetricBatch::try_new(&text(TABLE)?, records)?,
        })
    }
}

/// The same rows with dictionaries of their own: those of a batch of thousands would make the letter of one row large.
fn compact(records: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let column = |column: &ArrayRef| {
        if column.data_type() == &tag_type() {
            cast(&cast(column, &DataType::Utf8)?, &tag_type())
        } else {
            Ok(Arc::clone(column))
        }
    };
    let columns = records.columns().iter().map(column).collect::<Result<_, ArrowError>>()?;
    RecordBatch::try_new(records.schema(), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Identity};

    #[test]
    fn one_row_of_a_large_batch_makes_a_small_file_and_comes_back_with_its_reason() {
        let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
        for core in 0..10_000 {
            let core = core.to_string();
            builder.row(7).set("core", &core).unwrap().set("utilization", 0.5).unwrap();
        }
        let row = builder.finish().unwrap().slice(9_999, 1);
        let letter = Letter::new("influx", &Error::invalid("write", "no\nway"), row);
        let bytes = letter.to_bytes().unwrap();
        assert!(bytes.len() < 8_000, "{}", bytes.len());
        let read = Letter::from_bytes(&bytes).unwrap();
        assert_eq!((&read.reason, read.at), (&letter.reason, letter.at));
        assert_eq!(read.batch.tag("core", 0), Some("9999"));
        assert_eq!(read.batch.records().schema().metadata().len(), 0);
    }

    #[test]
    fn damaged_files_are_errors() {
        assert!(Letter::from_bytes(b"").is_err());
        assert!(Letter::from_bytes(&[0xff; 100]).is_err());
        let batch = super::super::super::doubles::batch(1, 3);
        let bytes = Letter::new("influx", &Error::invalid("write", "no"), batch).to_bytes().unwrap();
        assert!(Letter::from_bytes(&bytes[..bytes.len() / 2]).is_err());
    }
}
