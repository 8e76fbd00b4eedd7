//! Building a batch row by row, so that a provider cannot make a wrong one.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder,
    StringDictionaryBuilder, TimestampNanosecondBuilder,
};
use arrow::datatypes::{Field, Int32Type, Schema};

use super::table::{Catalog, ColumnKind, FieldType, TIME, Table, time_type};
use super::{COMMON_TAGS, MetricBatch};
use crate::{Error, Result};

/// Who the rows are about: the common tags. What is not known stays `None` and becomes null.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `host`, `kvm`, `aws`, ...
    pub provider: String,
    /// Account, subscription, project or connection URI.
    pub account: Option<String>,
    /// Region, or the hypervisor's name for its guests.
    pub region: Option<String>,
    /// Zone inside the region.
    pub zone: Option<String>,
    /// `instance`, `container`, `volume`, ...
    pub resource_type: String,
    /// Stable over restarts: a UUID, an instance id.
    pub resource_id: String,
    /// The name people gave it.
    pub resource_name: Option<String>,
    /// Who looked: `hypervisor`, `guest`, `runtime` or `host`.
    pub observer: String,
}

impl Identity {
    /// This machine, seen from inside.
    pub fn host(name: &str) -> Self {
        Self {
            provider: "host".into(),
            account: None,
            region: None,
            zone: None,
            resource_type: "host".into(),
            resource_id: name.into(),
            resource_name: Some(name.into()),
            observer: "host".into(),
        }
    }

    /// The tags in the order of [`COMMON_TAGS`].
    fn values(&self) -> [Option<&str>; COMMON_TAGS.len()] {
        [
            Some(&self.provider),
            self.account.as_deref(),
            self.region.as_deref(),
            self.zone.as_deref(),
            Some(&self.resource_type),
            Some(&self.resource_id),
            self.resource_name.as_deref(),
            Some(&self.observer),
        ]
    }
}

/// A value for a column; the column's declared type must match.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// For float fields. Not-a-number and infinities are stored as null: they say nothing.
    Float(f64),
    /// For integer fields.
    Integer(i64),
    /// For boolean fields.
    Boolean(bool),
    /// For tags and string fields. An empty tag is stored as null.
    Text(&'a str),
    /// Not known.
    Null,
}

impl From<f64> for Value<'_> {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Builds rows of one declared table.
///
/// Unknown columns and wrong types are refused at [`RowBuilder::set`]; columns that no row used are left out of the
/// batch, except the common tags.
pub struct BatchBuilder {
    table: Arc<Table>,
    times: TimestampNanosecondBuilder,
    columns: Vec<ColumnBuilder>,
    index: HashMap<String, usize>,
    identity: Identity,
    rows: usize,
}

struct ColumnBuilder {
    values: Values,
    used: bool,
}

enum Values {
    Tag(StringDictionaryBuilder<Int32Type>),
    Float(Float64Builder),
    Integer(Int64Builder),
    Boolean(BooleanBuilder),
    Text(StringBuilder),
}

impl BatchBuilder {
    /// A builder for one built-in table; rows start with `identity` until [`Self::identify`] changes it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if there is no such table.
    pub fn new(table: &str, identity: &Identity) -> Result<Self> {
        Ok(Self::for_table(Catalog::builtin()?.table(table)?, identity))
    }

    /// A builder for a table that is not built in.
    pub fn for_table(table: &Arc<Table>, identity: &Identity) -> Self {
        let columns = table.columns().iter().map(|column| ColumnBuilder {
            values: Values::new(column.kind),
            used: COMMON_TAGS.contains(&column.name.as_str()),
        });
        let index = table.columns().iter().enumerate().map(|(i, column)| (column.name.clone(), i));
        Self {
            times: TimestampNanosecondBuilder::new(),
            columns: columns.collect(),
            index: index.collect(),
            identity: identity.clone(),
            table: Arc::clone(table),
            rows: 0,
        }
    }

    /// The following rows are about this resource.
    pub fn identify(&mut self, identity: &Identity) {
        if self.identity != *identity {
            self.identity = identity.clone();
        }
    }

    /// Starts a row at `time`, in nanoseconds since 1970 UTC: the end of the interval the row describes. The row
    /// ends when the returned value is dropped.
    pub fn row(&mut self, time: i64) -> RowBuilder<'_> {
        self.times.append_value(time);
        for (column, value) in self.columns.iter_mut().zip(self.identity.values()) {
            column.values.append(value.into());
        }
        self.rows += 1;
        RowBuilder { batch: self }
    }

    /// Adds rows of one resource, column by column, so that what is alike in all of them is looked up once: a row at each of
    /// `times`, all with the same `tags`, and in each of `fields` a value for each time.
    ///
    /// # Errors
    /// Those of [`RowBuilder::set`], and a field with more or fewer values than times. Then there is none of the rows.
    pub fn rows_of(
        &mut self,
        identity: &Identity,
        times: &[i64],
        tags: &[(&str, &str)],
        fields: &[(&str, Vec<Value<'_>>)],
    ) -> Result<()> {
        let refused = |column: &str, reason: &str| {
            Error::invalid("set column", reason).with_resource(format!("{}.{column}", self.table.name()))
        };
        let mut places: Vec<usize> = Vec::with_capacity(tags.len() + fields.len());
        let names = tags.iter().map(|(name, _)| *name).chain(fields.iter().map(|(name, _)| *name));
        for name in names {
            let place =
                *self.index.get(name).ok_or_else(|| refused(name, "the table does not declare it"))?;
            if place < COMMON_TAGS.len() || places.contains(&place) {
                return Err(refused(name, "it is set already in this row"));
            }
            places.push(place);
        }
        let (tag_places, field_places) = places.split_at(tags.len());
        let wrong_type = "the value is of another type than the column";
        for ((name, value), place) in tags.iter().zip(tag_places) {
            if !self.columns[*place].values.accepts(Value::Text(value)) {
                return Err(refused(name, wrong_type));
            }
        }
        for ((name, values), place) in fields.iter().zip(field_places) {
            if values.len() != times.len() {
                return Err(refused(name, "it has not one value for each time"));
            }
            if !values.iter().all(|value| self.columns[*place].values.accepts(*value)) {
                return Err(refused(name, wrong_type));
            }
        }
        let (before, more) = (self.rows, times.len());
        self.times.append_slice(times);
        for (column, value) in self.columns.iter_mut().zip(identity.values()) {
            column.values.append_n(value.into(), more);
        }
        for ((_, value), place) in tags.iter().zip(tag_places) {
            self.columns[*place].begin(before).append_n(Value::Text(value), more);
        }
        for ((_, values), place) in fields.iter().zip(field_places) {
            // A column that has nothing but nulls is none.
            if values.iter().any(|value| *value != Value::Null) {
                let column = self.columns[*place].begin(before);
                values.iter().for_each(|value| column.append(*value));
            }
        }
        self.rows += more;
        self.pad();
        Ok(())
    }

    /// Rows that skipped a column are null in it.
    fn pad(&mut self) {
        for column in self.columns.iter_mut().filter(|column| column.used) {
            column.values.pad(self.rows);
        }
    }

    /// Number of rows so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The batch.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if the identity lacked a required tag.
    pub fn finish(mut self) -> Result<MetricBatch> {
        let mut fields = vec![Field::new(TIME, time_type(), false)];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(self.times.finish())];
        for (column, builder) in self.table.columns().iter().zip(&mut self.columns) {
            if builder.used {
                fields.push(column.arrow());
                arrays.push(builder.values.finish());
            }
        }
        let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|e| {
            Error::invalid("build a batch of", "Arrow refused the columns")
                .with_resource(self.table.name())
                .with_source(e)
        })?;
        MetricBatch::try_new(self.table.name(), records)
    }
}

impl std::fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("table", &self.table.name())
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// One row in the making.
#[derive(Debug)]
pub struct RowBuilder<'a> {
    batch: &'a mut BatchBuilder,
}

impl RowBuilder<'_> {
    /// Sets a column; null needs no call.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if the table does not declare the column, if the type differs, or if the column
    /// was set before in this row. The row stays usable.
    pub fn set<'v>(&mut self, column: &str, value: impl Into<Value<'v>>) -> Result<&mut Self> {
        let batch = &mut *self.batch;
        let refused = |reason: &str| {
            Error::invalid("set column", reason).with_resource(format!("{}.{column}", batch.table.name()))
        };
        let index = *batch.index.get(column).ok_or_else(|| refused("the table does not declare it"))?;
        let builder = &mut batch.columns[index];
        let value = value.into();
        if builder.values.len() >= batch.rows {
            return Err(refused("it is set already in this row"));
        }
        if !builder.values.accepts(value) {
            return Err(refused("the value is of another type than the column"));
        }
        if value != Value::Null {
            builder.begin(batch.rows - 1).append(value);
        }
        Ok(self)
    }
}

impl Drop for RowBuilder<'_> {
    fn drop(&mut self) {
        self.batch.pad();
    }
}

impl ColumnBuilder {
    /// The column from now on used, with so many rows; those before the first use are null.
    fn begin(&mut self, rows: usize) -> &mut Values {
        self.used = true;
        self.values.pad(rows);
        &mut self.values
    }
}

impl Values {
    fn new(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Tag => Self::Tag(StringDictionaryBuilder::new()),
            ColumnKind::Field(FieldType::Float) => Self::Float(Float64Builder::new()),
            ColumnKind::Field(FieldType::Integer) => Self::Integer(Int64Builder::new()),
            ColumnKind::Field(FieldType::Boolean) => Self::Boolean(BooleanBuilder::new()),
            ColumnKind::Field(FieldType::String) => Self::Text(StringBuilder::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Tag(b) => b.len(),
            Self::Float(b) => b.len(),
            Self::Integer(b) => b.len(),
            Self::Boolean(b) => b.len(),
            Self::Text(b) => b.len(),
        }
    }

    fn accepts(&self, value: Value<'_>) -> bool {
        matches!(
            (self, value),
            (_, Value::Null)
                | (Self::Tag(_) | Self::Text(_), Value::Text(_))
                | (Self::Float(_), Value::Float(_))
                | (Self::Integer(_), Value::Integer(_))
                | (Self::Boolean(_), Value::Boolean(_))
        )
    }

    fn append(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::Tag(b), Value::Text(text)) if !text.is_empty() => b.append_value(text),
            (Self::Tag(b), _) => b.append_null(),
            (Self::Float(b), Value::Float(number)) if number.is_finite() => b.append_value(number),
            (Self::Float(b), _) => b.append_null(),
            (Self::Integer(b), Value::Integer(number)) => b.append_value(number),
            (Self::Integer(b), _) => b.append_null(),
            (Self::Boolean(b), Value::Boolean(yes)) => b.append_value(yes),
            (Self::Boolean(b), _) => b.append_null(),
            (Self::Text(b), Value::Text(text)) => b.append_value(text),
            (Self::Text(b), _) => b.append_null(),
        }
    }

    /// The value so many times; of a text in a dictionary it is looked up once.
    fn append_n(&mut self, value: Value<'_>, times: usize) {
        match (self, value) {
            (Self::Tag(b), Value::Text(text)) if !text.is_empty() && times > 0 => {
                b.append_values(text, times);
            }
            (Self::Tag(b), _) => b.append_nulls(times),
            (values, value) => (0..times).for_each(|_| values.append(value)),
        }
    }

    fn pad(&mut self, rows: usize) {
        let missing = rows.saturating_sub(self.len());
        match self {
            Self::Tag(b) => b.append_nulls(missing),
            Self::Float(b) => b.append_nulls(missing),
            Self::Integer(b) => b.append_nulls(missing),
            Self::Boolean(b) => b.append_nulls(missing),
            Self::Text(b) => b.append_nulls(missing),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Tag(b) => Arc::new(b.finish()),
            Self::Float(b) => Arc::new(b.finish()),
            Self::Integer(b) => Arc::new(b.finish()),
            Self::Boolean(b) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> BatchBuilder {
        BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap()
    }

    #[test]
    fn rows_keep_what_was_set_and_null_for_the_rest() {
        let mut rows = builder();
        rows.row(10).set("cores", 2.0).unwrap();
        rows.row(20).set("core", "0").unwrap().set("utilization", 0.25).unwrap();
        rows.row(30).set("utilization", f64::NAN).unwrap().set("cores", None::<f64>).unwrap();
        let batch = rows.finish().unwrap();
        assert_eq!(batch.times(), [10, 20, 30]);
        assert_eq!(batch.tag("core", 0), None);
        assert_eq!(batch.tag("core", 1), Some("0"));
        assert_eq!(batch.tag("resource_id", 2), Some("web-1"));
        assert_eq!(batch.tag("region", 2), None);
        assert_eq!(batch.float("cores", 0), Some(2.0));
        assert_eq!(batch.float("utilization", 1), Some(0.25));
        assert_eq!(batch.float("utilization", 2), None);
        assert!(batch.records().column_by_name("iowait").is_none(), "unused columns are left out");
    }

    #[test]
    fn unknown_columns_wrong_types_and_second_values_are_refused_and_cost_nothing_else() {
        let mut rows = builder();
        {
            let mut row = rows.row(10);
            assert!(row.set("utilisation", 0.5).unwrap_err().to_string().contains("cpu.utilisation"));
            assert!(row.set("utilization", "high").unwrap_err().to_string().contains("another type"));
            row.set("utilization", 0.5).unwrap();
            assert!(row.set("utilization", 0.6).unwrap_err().to_string().contains("already"));
            assert!(row.set("provider", "aws").unwrap_err().to_string().contains("already"));
        }
        let batch = rows.finish().unwrap();
        assert_eq!(batch.float("utilization", 0), Some(0.5));
    }

    #[test]
    fn an_identity_without_a_required_tag_makes_no_batch() {
        let identity = Identity { resource_id: String::new(), ..Identity::host("x") };
        let mut rows = BatchBuilder::new("cpu", &identity).unwrap();
        rows.row(1).set("cores", 1.0).unwrap();
        assert!(rows.finish().unwrap_err().to_string().contains("cpu.resource_id"));
    }

    #[test]
    fn the_resource_can_change_from_row_to_row() {
        let mut rows = builder();
        rows.row(1).set("cores", 1.0).unwrap();
        rows.identify(&Identity::host("web-2"));
        rows.row(1).set("cores", 4.0).unwrap();
        let batch = rows.finish().unwrap();
        assert_eq!(
            (batch.tag("resource_id", 0), batch.tag("resource_id", 1)),
            (Some("web-1"), Some("web-2"))
        );
    }

    #[test]
    fn rows_by_column_are_those_row_by_row() {
        let web = Identity { region: Some("eu".into()), ..Identity::host("web-2") };
        let mut whole = builder();
        whole.row(10).set("cores", 2.0).unwrap();
        let values = |values: [Option<f64>; 3]| values.map(Value::from).to_vec();
        let used = values([Some(0.5), None, Some(f64::NAN)]);
        let nothing = values([None; 3]);
        let fields = [("utilization", used), ("iowait", nothing)];
        whole.rows_of(&web, &[20, 30, 40], &[("core", "0")], &fields).unwrap();
        whole.row(50).set("cores", 4.0).unwrap();

        let mut single = builder();
        single.row(10).set("cores", 2.0).unwrap();
        single.identify(&web);
        single.row(20).set("core", "0").unwrap().set("utilization", 0.5).unwrap();
        single.row(30).set("core", "0").unwrap();
        single.row(40).set("core", "0").unwrap();
        single.identify(&Identity::host("web-1"));
        single.row(50).set("cores", 4.0).unwrap();
        assert_eq!(whole.finish().unwrap().records(), single.finish().unwrap().records());
    }

    #[test]
    fn rows_by_column_are_refused_as_a_whole() {
        let mut rows = builder();
        let web = Identity::host("web-1");
        let one = |value: f64| vec![Value::Float(value)];
        for (tags, fields, word) in [
            (&[("cpu", "0")][..], vec![], "declare"),
            (&[("provider", "aws")], vec![], "already"),
            (&[], vec![("cores", one(1.0)), ("cores", one(2.0))], "already"),
            (&[], vec![("cores", vec![Value::Text("two")])], "another type"),
            (&[("cores", "2")], vec![], "another type"),
            (&[], vec![("cores", Vec::new())], "each time"),
        ] {
            let refused = rows.rows_of(&web, &[1], tags, &fields).unwrap_err();
            assert!(refused.to_string().contains(word), "{refused}");
        }
        assert_eq!(rows.rows(), 0);
        rows.rows_of(&web, &[], &[("core", "0")], &[("cores", Vec::new())]).unwrap();
        rows.rows_of(&web, &[1], &[], &[("cores", one(1.0))]).unwrap();
        assert_eq!(rows.finish().unwrap().float("cores", 0), Some(1.0));
    }
}
