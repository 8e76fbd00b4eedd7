//! Putting a snapshot together from one manifest version and the rows in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;

use super::manifest::Manifest;
use super::memory::Frozen;
use super::root::Root;
use super::segment::segment_schema;
use super::{Snapshot, TableSnapshot};
use crate::Result;

/// The snapshot of `manifest`, which was read at `read_at`, and of `memories`, which come in rising precedence. Sorts what
/// is not sorted yet.
pub(super) fn assemble(
    root: &Root,
    manifest: Arc<Manifest>,
    read_at: Instant,
    memories: &[Frozen],
) -> Result<Snapshot> {
    let mut buffers: BTreeMap<&str, Vec<Vec<RecordBatch>>> = BTreeMap::new();
    for (table, windows) in memories.iter().flatten() {
        for chunk in windows.values().flatten() {
            let run = chunk.sorted()?;
            if !run.is_empty() {
                buffers.entry(table.as_ref()).or_default().push(run.to_vec());
            }
        }
    }
    for table in manifest.tables.keys() {
        buffers.entry(table).or_default();
    }
    let mut tables = BTreeMap::new();
    for (table, buffer) in buffers {
        let segments = manifest.tables.get(table).cloned().unwrap_or_default();
        let mut schemas = segments.iter().map(segment_schema).collect::<Result<Vec<_>>>()?;
        schemas.extend(buffer.iter().filter_map(|run| run.first()).map(RecordBatch::schema));
        let schema = super::columns::union_schema(schemas.iter())?;
        tables.insert(table.to_owned(), TableSnapshot { schema, segments, buffer });
    }
    let objects = Arc::clone(root.objects());
    Ok(Snapshot { version: manifest.version, tables, read_at, objects, _pin: Some(manifest) })
}
