//! InfluxDB line protocol out of batches.
//!
//! measurement = table, tags = tag columns sorted by name, fields = fields, timestamp in nanoseconds. Names and tags are escaped
//! once per batch and dictionary entry, not per row.
//!
//! What line protocol cannot say is decided here:
//! - A value that is null, not a number or infinite is left out, and so is a column whose name is empty or nothing but
//!   backslashes, and a tag whose value is.
//! - A row without any value has no line, and neither have rows of a table whose name is such a name or starts with `#`,
//!   which would make them comments. They are counted.
//! - A control character (a tab, a line break) in a name or tag becomes a space, because no escape for it is understood by
//!   every reader. In string values it stays.
//! - Of backslashes in a name or tag a row becomes one, and those before a separator or at the end are left out, because
//!   servers differ in what they mean there. In string values they stay.

use std::fmt::Write;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray,
};
use arrow::datatypes::Int32Type;

use crate::model::{FieldType, MetricBatch, Role, column_role};

/// What became of a batch's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Rows that became lines.
    pub lines: u64,
    /// Rows without any value that line protocol can say.
    pub empty: u64,
}

/// Appends a line for each row that has a value.
pub fn encode(batch: &MetricBatch, into: &mut String) -> Encoded {
    let mut measurement = String::new();
    escape(batch.table(), &[',', ' '], &mut measurement);
    if measurement.is_empty() || measurement.starts_with('#') {
        return Encoded { lines: 0, empty: batch.rows() as u64 };
    }
    let records = batch.records();
    let mut tags = Vec::new();
    let mut fields = Vec::new();
    for (field, column) in records.schema_ref().fields().iter().zip(records.columns()) {
        match column_role(field) {
            Some(Role::Tag) => tags.extend(Tag::new(field.name(), column)),
            Some(Role::Field) => fields.extend(Field::new(field.name(), column)),
            Some(Role::Time) | None => {}
        }
    }
    tags.sort_by(|a, b| a.name.cmp(b.name));

    let mut encoded = Encoded::default();
    for (row, time) in batch.times().iter().enumerate() {
        let start = into.len();
        into.push_str(&measurement);
        for tag in &tags {
            tag.write(row, into);
        }
        let mut separator = ' ';
        for field in &fields {
            field.write(row, &mut separator, into);
        }
        if separator == ' ' {
            into.truncate(start);
            encoded.empty += 1;
            continue;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(into, " {time}");
        encoded.lines += 1;
    }
    encoded
}

/// A tag column with `,name=value` ready for each dictionary entry.
struct Tag<'a> {
    name: &'a str,
    keys: &'a DictionaryArray<Int32Type>,
    pairs: Vec<String>,
}

impl<'a> Tag<'a> {
    fn new(name: &'a str, column: &'a ArrayRef) -> Option<Self> {
        let keys = column.as_dictionary_opt::<Int32Type>()?;
        let values = keys.values().as_string_opt::<i32>()?;
        let mut key = String::from(",");
        escape(name, &[',', '=', ' '], &mut key);
        if key.len() == 1 {
            return None;
        }
        key.push('=');
        let pair = |value: Option<&str>| match value {
            // The protocol has no empty tags.
            Some(value) if !value.trim_end_matches('\\').is_empty() => {
                let mut pair = key.clone();
                escape(value, &[',', '=', ' '], &mut pair);
                pair
            }
            Some(_) | None => String::new(),
        };
        Some(Self { name, keys, pairs: values.iter().map(pair).collect() })
    }

    fn write(&self, row: usize, into: &mut String) {
        if let Some(pair) = self.keys.key(row).and_then(|key| self.pairs.get(key)) {
            into.push_str(pair);
        }
    }
}

/// A field column with `name=` ready.
struct Field<'a> {
    key: String,
    values: Values<'a>,
}

enum Values<'a> {
    Float(&'a Float64Array),
    Integer(&'a Int64Array),
    Boolean(&'a BooleanArray),
    Text(&'a StringArray),
}

impl<'a> Field<'a> {
    fn new(name: &str, column: &'a ArrayRef) -> Option<Self> {
        let values = match FieldType::from_arrow(column.data_type())? {
            FieldType::Float => Values::Float(column.as_primitive_opt()?),
            FieldType::Integer => Values::Integer(column.as_primitive_opt()?),
            FieldType::Boolean => Values::Boolean(column.as_boolean_opt()?),
            FieldType::String => Values::Text(column.as_string_opt()?),
        };
        let mut key = String::new();
        escape(name, &[',', '=', ' '], &mut key);
        if key.is_empty() {
            return None;
        }
        key.push('=');
        Some(Self { key, values })
    }

    /// Writes separator, name and value, unless there is no value to write; the next separator is a comma then.
    fn write(&self, row: usize, separator: &mut char, into: &mut String) {
        let written = match &self.values {
            Values::Float(values) if values.is_valid(row) && values.value(row).is_finite() => {
                self.start(separator, into);
                // `?` writes very large and very small numbers with an exponent instead of hundreds of digits.
                write!(into, "{:?}", values.value(row))
            }
            Values::Integer(values) if values.is_valid(row) => {
                self.start(separator, into);
                write!(into, "{}i", values.value(row))
            }
            Values::Boolean(values) if values.is_valid(row) => {
                self.start(separator, into);
                into.push_str(if values.value(row) { "true" } else { "false" });
                Ok(())
            }
            Values::Text(values) if values.is_valid(row) => {
                self.start(separator, into);
                quote(values.value(row), into);
                Ok(())
            }
            _ => Ok(()),
        };
        // Writing to a string cannot fail.
        let _ = written;
    }

    fn start(&self, separator: &mut char, into: &mut String) {
        into.push(*separator);
        into.push_str(&self.key);
        *separator = ',';
    }
}

/// A measurement, a name or a tag value.
fn escape(text: &str, special: &[char], into: &mut String) {
    let mut backslash = false;
    for c in text.chars() {
        if c == '\\' {
            backslash = true;
            continue;
        }
        let separates = special.contains(&c) || c.is_ascii_control();
        if backslash && !separates {
            into.push('\\');
        }
        backslash = false;
        if separates {
            into.push('\\');
        }
        into.push(if c.is_ascii_control() { ' ' } else { c });
    }
}

/// A string value.
fn quote(text: &str, into: &mut String) {
    into.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            into.push('\\');
        }
        into.push(c);
    }
    into.push('"');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{RecordBatch, StringDictionaryBuilder, TimestampNanosecondArray};
    use arrow::datatypes::Schema;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{BatchBuilder, Identity, tag_type, time_type};

    fn lines(batch: &MetricBatch) -> String {
        let mut text = String::new();
        encode(batch, &mut text);
        text
    }

    #[test]
    fn a_row_is_a_line() {
        let identity = Identity { resource_name: Some("web 1,a=b".into()), ..Identity::host("web-1") };
        let mut builder = BatchBuilder::new("status", &identity).unwrap();
        let mut row = builder.row(1_700_000_000_000_000_001);
        row.set("state", "say \"hi\"\\").unwrap().set("up", true).unwrap();
        row.set("uptime_seconds", 0.5).unwrap();
        drop(row);
        assert_eq!(
            lines(&builder.finish().unwrap()),
            "status,observer=host,provider=host,resource_id=web-1,resource_name=web\\ 1\\,a\\=b,resource_type=host \
             state=\"say \\\"hi\\\"\\\\\",up=true,uptime_seconds=0.5 1700000000000000001\n"
        );
    }

    #[test]
    fn what_cannot_be_said_is_left_out_and_counted() {
        let mut builder = BatchBuilder::new("cpu", &Identity::host("a")).unwrap();
        builder.row(1).set("utilization", f64::NAN).unwrap();
        builder.row(2).set("utilization", 1e300).unwrap();
        let mut text = String::new();
        assert_eq!(encode(&builder.finish().unwrap(), &mut text), Encoded { lines: 1, empty: 1 });
        assert!(text.ends_with(" utilization=1e300 2\n"), "{text}");
    }

    /// Text with everything that has a meaning in the protocol.
    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![
                Just(','),
                Just('='),
                Just(' '),
                Just('"'),
                Just('\\'),
                Just('a'),
                Just('ü'),
                Just('#'),
                Just('\n'),
                Just('\r'),
                Just('\t')
            ],
            1..8,
        )
        .prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn another_parser_reads_what_was_written(
            table in text(), tag_name in text(), tag_value in text(), string in text(),
            float in any::<f64>(), integer in any::<i64>(), boolean in any::<bool>(), time in any::<i64>(),
        ) {
            let mut columns: Vec<(String, ArrayRef)> = vec![
                ("time".into(), Arc::new(TimestampNanosecondArray::from(vec![time]))),
                ("f".into(), Arc::new(Float64Array::from(vec![float]))),
                ("i".into(), Arc::new(Int64Array::from(vec![integer]))),
                ("b".into(), Arc::new(BooleanArray::from(vec![boolean]))),
                ("s".into(), Arc::new(StringArray::from(vec![string.as_str()]))),
            ];
            let required = crate::model::REQUIRED_TAGS.map(|name| (name.to_owned(), "x".to_owned()));
            let tags: BTreeMap<_, _> = required.into_iter().chain([(tag_name, tag_value)]).collect();
            for (name, value) in &tags {
                let mut column = StringDictionaryBuilder::<Int32Type>::new();
                column.append_value(value);
                columns.push((name.clone(), Arc::new(column.finish())));
            }
            let fields: Vec<_> = columns
                .iter()
                .map(|(name, column)| arrow::datatypes::Field::new(name, column.data_type().clone(), true))
                .collect();
            prop_assert!(fields.iter().all(|f| [tag_type(), time_type()].contains(f.data_type()) || f.name().len() == 1));
            let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|c| c.1).collect()).unwrap();
            let text = lines(&MetricBatch::try_new(&table, records).unwrap());
            let measurement = as_read(&table, &[',', ' ']);
            if measurement.is_empty() || measurement.starts_with('#') {
                prop_assert_eq!(text, "");
                return Ok(());
            }

            let parsed: Vec<_> = influxdb_line_protocol::parse_lines(&text).collect();
            prop_assert_eq!(parsed.len(), 1, "{:?}", text);
            let line = parsed.into_iter().next().unwrap().unwrap();
            prop_assert_eq!(line.series.measurement.to_string(), measurement);
            let read: BTreeMap<_, _> =
                line.series.tag_set.iter().flatten().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let all = &[',', '=', ' '];
            let written: BTreeMap<_, _> = tags.iter()
                .map(|(k, v)| (as_read(k, all), as_read(v, all)))
                .filter(|(k, v)| !k.is_empty() && !v.is_empty())
                .collect();
            prop_assert_eq!(read, written);
            prop_assert_eq!(line.timestamp, Some(time));
            for (name, value) in &line.field_set {
                use influxdb_line_protocol::FieldValue;
                match (name.to_string().as_str(), value) {
                    ("f", FieldValue::F64(read)) => prop_assert_eq!(*read, float),
                    ("i", FieldValue::I64(read)) => prop_assert_eq!(*read, integer),
                    ("b", FieldValue::Boolean(read)) => prop_assert_eq!(*read, boolean),
                    ("s", FieldValue::String(read)) => prop_assert_eq!(read.to_string(), string.clone()),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert_eq!(line.field_set.len(), if float.is_finite() { 4 } else { 3 });
        }
    }

    /// What is left of a name or tag.
    fn as_read(text: &str, separators: &[char]) -> String {
        let mut read = String::new();
        for c in text.replace(|c: char| c.is_ascii_control(), " ").chars().rev() {
            let next = read.chars().last();
            if c != '\\' || next.is_some_and(|next| next != '\\' && !separators.contains(&next)) {
                read.push(c);
            }
        }
        read.chars().rev().collect()
    }
}
