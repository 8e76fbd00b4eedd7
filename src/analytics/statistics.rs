//! What the manifest knows about a part, in the planner's words, so that planning opens no file.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use arrow::datatypes::{Field, Schema};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, ScalarValue, Statistics};

use super::part::Part;

use crate::model::{Role, column_role};
use crate::store::{SegmentMeta, TagStatistics};

/// Statistics of a segment for every column of the table's schema; all of them exact.
pub(super) fn of_segment(segment: &SegmentMeta, schema: &Schema) -> Statistics {
    let columns = schema.fields().iter().map(|field| match column_role(field) {
        Some(Role::Time) => of_time(segment.min_time, segment.max_time),
        Some(Role::Tag) => segment
            .tags
            .get(field.name())
            .map_or_else(|| all_null(segment.rows), |statistics| of_tag(statistics, field)),
        _ if segment.columns.iter().any(|column| column.name == *field.name()) => {
            ColumnStatistics::new_unknown()
        }
        _ => all_null(segment.rows),
    });
    Statistics {
        num_rows: Precision::Exact(count(segment.rows)),
        total_byte_size: Precision::Absent,
        column_statistics: columns.collect(),
    }
}

/// Statistics of rows in memory: their number and their times.
pub(super) fn of_run(rows: usize, min_time: i64, max_time: i64, schema: &Schema) -> Statistics {
    let columns = schema.fields().iter().map(|field| match column_role(field) {
        Some(Role::Time) => of_time(min_time, max_time),
        _ => ColumnStatistics::new_unknown(),
    });
    Statistics {
        num_rows: Precision::Exact(rows),
        total_byte_size: Precision::Absent,
        column_statistics: columns.collect(),
    }
}

fn of_time(min: i64, max: i64) -> ColumnStatistics {
    let time = |value| Precision::Exact(ScalarValue::TimestampNanosecond(Some(value), None));
    ColumnStatistics::new_unknown()
        .with_min_value(time(min))
        .with_max_value(time(max))
        .with_null_count(Precision::Exact(0))
}

fn of_tag(statistics: &TagStatistics, field: &Field) -> ColumnStatistics {
    let value = |text: &str| match ScalarValue::Utf8(Some(text.to_owned())).cast_to(field.data_type()) {
        Ok(value) => Precision::Exact(value),
        Err(_) => Precision::Absent,
    };
    ColumnStatistics::new_unknown()
        .with_min_value(value(&statistics.min))
        .with_max_value(value(&statistics.max))
        .with_null_count(Precision::Exact(count(statistics.nulls)))
}

fn all_null(rows: u64) -> ColumnStatistics {
    ColumnStatistics::new_unknown().with_null_count(Precision::Exact(count(rows)))
}

fn count(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}

/// The statistics of many parts side by side, for deciding which can hold rows that pass a filter. What is not known of
/// a part is a null of the column's type there, and says nothing about the others.
pub(super) struct SideBySide<'a> {
    pub(super) parts: &'a [Part],
    pub(super) schema: &'a Schema,
}

impl SideBySide<'_> {
    fn extremes(
        &self,
        column: &Column,
        of: impl Fn(&ColumnStatistics) -> &Precision<ScalarValue>,
    ) -> Option<ArrayRef> {
        let (index, field) = self.schema.column_with_name(column.name())?;
        let unknown = ScalarValue::try_from(field.data_type()).ok()?;
        let values = self.parts.iter().map(|part| {
            let column = part.statistics.column_statistics.get(index);
            column.and_then(|column| of(column).get_value()).unwrap_or(&unknown).clone()
        });
        ScalarValue::iter_to_array(values).ok()
    }
}

impl PruningStatistics for SideBySide<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.extremes(column, |column| &column.min_value)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.extremes(column, |column| &column.max_value)
    }

    fn num_containers(&self) -> usize {
        self.parts.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let index = self.schema.index_of(column.name()).ok()?;
        let counts = self.parts.iter().map(|part| {
            let column = part.statistics.column_statistics.get(index)?;
            column.null_count.get_value().map(|nulls| *nulls as u64)
        });
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.parts.iter().map(|part| part.rows))))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
