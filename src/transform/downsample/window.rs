//! The rows of one table in one open interval, by series.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringDictionaryBuilder, TimestampNanosecondArray};
use arrow::datatypes::{Field, Int32Type, Schema};

use super::accumulator::{self, Accumulator};
use super::{Aggregate, Unfinished};
use crate::model::{Ack, FieldType, MetricBatch, Parcel, Role, TIME, column_role, tag_type, time_type};
use crate::{Error, Result};

/// Name and value of each tag that is not null, by name.
type Tags = Vec<(Arc<str>, Box<str>)>;

#[derive(Debug, Default)]
pub(super) struct Window {
    series: HashMap<Tags, usize>,
    /// Type of each field and its accumulators by series; a series may come later than the field.
    fields: BTreeMap<String, (FieldType, Vec<Option<Accumulator>>)>,
    tags: BTreeSet<Arc<str>>,
    acks: Vec<Ack>,
}

impl Window {
    /// Number of series so far.
    pub(super) fn series(&self) -> usize {
        self.series.len()
    }

    /// Whether the batch's columns have the types that they have here.
    pub(super) fn fits(&self, batch: &MetricBatch) -> Result<()> {
        for field in batch.records().schema_ref().fields() {
            let refused = |reason: String| {
                let column = format!("{}.{}", batch.table(), field.name());
                Err(Error::invalid("downsample", reason).with_resource(column))
            };
            if self.tags.contains(field.name().as_str()) && column_role(field) != Some(Role::Tag) {
                return refused(format!("earlier rows have it as a tag, these as {}", field.data_type()));
            }
            if let Some((kind, _)) = self.fields.get(field.name())
                && FieldType::from_arrow(field.data_type()) != Some(*kind)
            {
                return refused(format!("earlier rows have it as {kind:?}, these as {}", field.data_type()));
            }
        }
        Ok(())
    }

    /// Takes some rows of a batch in, which must [fit](Self::fits).
    pub(super) fn add(
        &mut self,
        batch: &MetricBatch,
        rows: Range<usize>,
        aggregates: &BTreeMap<String, Aggregate>,
    ) {
        let mut names: Vec<Arc<str>> = batch.tag_names().map(Into::into).collect();
        names.sort_unstable();
        let series: Vec<usize> = rows.clone().map(|row| self.intern(batch, &names, row)).collect();
        self.tags.extend(names);
        let records = batch.records();
        for (field, column) in records.schema_ref().fields().iter().zip(records.columns()) {
            let Some(kind) = FieldType::from_arrow(field.data_type()) else { continue };
            let aggregate = aggregates.get(field.name()).copied().unwrap_or(Aggregate::Mean);
            let (_, accumulators) =
                self.fields.entry(field.name().clone()).or_insert_with(|| (kind, Vec::new()));
            accumulators.resize(self.series.len(), None);
            for (row, series) in rows.clone().zip(&series) {
                let accumulator = accumulators
                    .get_mut(*series)
                    .map(|slot| slot.get_or_insert_with(|| Accumulator::new(aggregate, kind)));
                if let Some(accumulator) = accumulator {
                    accumulator.add(column, row, batch.times()[row]);
                }
            }
        }
    }

    fn intern(&mut self, batch: &MetricBatch, names: &[Arc<str>], row: usize) -> usize {
        let value = |name: &Arc<str>| Some((Arc::clone(name), batch.tag(name, row)?.into()));
        let tags: Tags = names.iter().filter_map(value).collect();
        let next = self.series.len();
        *self.series.entry(tags).or_insert(next)
    }

    /// Holds the acknowledgements until the interval is given out.
    pub(super) fn wait_for(&mut self, acks: &[Ack]) {
        self.acks.extend_from_slice(acks);
    }

    /// One row per series.
    ///
    /// # Errors
    /// The rows do not make a batch. Those that were added did, so that this would be a fault of ours.
    pub(super) fn finish(self, table: &str, end: i64) -> Result<Parcel, Unfinished> {
        match self.batch(table, end) {
            Ok(batch) => Ok(Parcel { batch, acks: self.acks }),
            Err(error) => Err(Unfinished { rows: self.series.len(), acks: self.acks, error }),
        }
    }

    fn batch(&self, table: &str, end: i64) -> Result<MetricBatch> {
        let mut series: Vec<(&Tags, usize)> = self.series.iter().map(|(tags, i)| (tags, *i)).collect();
        series.sort_unstable();
        let mut fields = vec![Field::new(TIME, time_type(), false)];
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(TimestampNanosecondArray::from(vec![end; series.len()]))];
        for name in &self.tags {
            let mut values = StringDictionaryBuilder::<Int32Type>::new();
            for (tags, _) in &series {
                let value = tags.binary_search_by(|(tag, _)| tag.cmp(name)).ok().map(|i| &*tags[i].1);
                values.append_option(value);
            }
            fields.push(Field::new(&**name, tag_type(), true));
            columns.push(Arc::new(values.finish()));
        }
        for (name, (kind, accumulators)) in &self.fields {
            let rows = series.iter().map(|(_, i)| accumulators.get(*i).and_then(Option::as_ref));
            let column = accumulator::column(*kind, rows);
            if column.null_count() < column.len() {
                fields.push(Field::new(name, kind.arrow(), true));
                columns.push(column);
            }
        }
        let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| {
            Error::invalid("downsample", "Arrow refused the columns").with_resource(table).with_source(e)
        })?;
        MetricBatch::try_new(table, records)
    }
}
