//! The embedded store: durable log, in-memory buffer, Parquet segments, one manifest.

mod snapshot;

pub use snapshot::{SegmentColumn, SegmentMeta, Snapshot, TableSnapshot, TagStatistics};
