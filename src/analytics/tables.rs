//! What a snapshot holds, from the manifest alone.

use super::part::time_range;
use crate::model::{Role, column_role};
use crate::store::{Snapshot, TableSnapshot};

/// One table of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Name.
    pub name: String,
    /// Rows in all parts; a row that stands in several parts, because it was written again, counts in each.
    pub rows: u64,
    /// Smallest `time`, nanoseconds since 1970 UTC; none in a table without rows.
    pub min_time: Option<i64>,
    /// Largest `time`.
    pub max_time: Option<i64>,
    /// Names of the tag columns.
    pub tags: Vec<String>,
    /// Names of the field columns.
    pub fields: Vec<String>,
    /// Number of files.
    pub segments: usize,
    /// Bytes of the files.
    pub bytes: u64,
    /// Rows that are not in files yet; `rows` includes them.
    pub buffered_rows: u64,
}

/// All tables in order of name.
pub(super) fn describe(snapshot: &Snapshot) -> Vec<TableInfo> {
    snapshot.tables.iter().map(|(name, table)| describe_table(name, table)).collect()
}

fn describe_table(name: &str, table: &TableSnapshot) -> TableInfo {
    let columns = |role: Role| {
        let fields = table.schema.fields().iter();
        fields.filter(|field| column_role(field) == Some(role)).map(|field| field.name().clone()).collect()
    };
    let buffered_rows: usize = table.buffer.iter().flatten().map(|batch| batch.num_rows()).sum();
    let buffered = table.buffer.iter().filter_map(|run| time_range(run));
    let stored = table.segments.iter().map(|segment| (segment.min_time, segment.max_time));
    let range = stored.chain(buffered).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    TableInfo {
        name: name.to_owned(),
        rows: table.segments.iter().map(|segment| segment.rows).sum::<u64>() + buffered_rows as u64,
        min_time: range.map(|range| range.0),
        max_time: range.map(|range| range.1),
        tags: columns(Role::Tag),
        fields: columns(Role::Field),
        segments: table.segments.len(),
        bytes: table.segments.iter().map(|segment| segment.bytes).sum(),
        buffered_rows: buffered_rows as u64,
    }
}
