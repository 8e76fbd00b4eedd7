//! What a reader sees: one manifest version and the rows that are not in segments yet, both held still.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

/// One Parquet file of one table: rows sorted by tags (in the order of the file's columns), then `time`, each key once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentMeta {
    /// Unique in the store, never reused.
    pub id: String,
    /// Where the file lies, below the store's root.
    pub path: String,
    /// First nanosecond of the time window that the segment belongs to (UTC).
    pub window_start: i64,
    /// First nanosecond after it.
    pub window_end: i64,
    /// Precedence: where two segments have the same key, fields of the higher one win.
    pub precedence: u64,
    /// Rows in the file.
    pub rows: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Smallest `time` in the file, nanoseconds.
    pub min_time: i64,
    /// Largest `time` in the file, nanoseconds.
    pub max_time: i64,
    /// Smallest, largest and number of nulls of each tag column, by name; a tag that is not listed is all null.
    pub tags: BTreeMap<String, TagStatistics>,
    /// Names of the columns in file order with their role: the file's schema without opening it.
    pub columns: Vec<SegmentColumn>,
}

/// Statistics of one tag column in one segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagStatistics {
    /// Smallest value, in byte order.
    pub min: String,
    /// Largest value, in byte order.
    pub max: String,
    /// Rows without the tag.
    pub nulls: u64,
}

/// A column of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentColumn {
    /// Name.
    pub name: String,
    /// `time`, `tag`, `float`, `integer`, `boolean` or `string`.
    pub kind: String,
}

/// One table as of a snapshot.
#[derive(Debug, Clone)]
pub struct TableSnapshot {
    /// All columns that any part has: `time`, tags sorted by name, fields sorted by name.
    pub schema: SchemaRef,
    /// Live segments.
    pub segments: Vec<SegmentMeta>,
    /// Rows not in segments yet: each inner list is one sorted, duplicate-free run (same order as a segment), in rising
    /// precedence, all above every segment. A run may lack columns of `schema`.
    pub buffer: Vec<Vec<RecordBatch>>,
}

/// A store at one moment. While it lives, the files it names are not deleted by this process, and for a grace period
/// (longer than the longest query) not by any other.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Manifest version.
    pub version: u64,
    /// The tables by name.
    pub tables: BTreeMap<String, TableSnapshot>,
    /// When the manifest was read: from then on the files that it names stay for the grace at least.
    pub read_at: Instant,
    /// The store's root; [`SegmentMeta::path`] is relative to it.
    pub objects: Arc<dyn ObjectStore>,
    pub(crate) _pin: Option<Arc<dyn std::any::Any + Send + Sync>>,
}

impl SegmentMeta {
    /// The file's location in [`Snapshot::objects`].
    pub fn location(&self) -> Path {
        Path::from(self.path.as_str())
    }
}
