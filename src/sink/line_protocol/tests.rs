use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    StringDictionaryBuilder, TimestampNanosecondArray,
};
use arrow::datatypes::{Int32Type, Schema};
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use proptest::prelude::*;

use super::*;
use crate::model::{BatchBuilder, Identity, REQUIRED_TAGS};
use crate::sink::lines::{Lines, Origin};

fn lines(batches: &[MetricBatch]) -> (String, Lines) {
    let mut lines = Lines::default();
    lines.encode(batches);
    (String::from_utf8(lines.bytes(0..lines.count()).to_vec()).unwrap(), lines)
}

/// A column: its name and values; the required tags are added to what is given.
fn batch(table: &str, times: &[i64], columns: &[(&str, ArrayRef)]) -> MetricBatch {
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(times.to_vec()));
    let required = REQUIRED_TAGS.map(|name| (name, tag(vec![Some("x"); times.len()])));
    let columns: Vec<_> =
        [("time", times)].into_iter().chain(required).chain(columns.iter().cloned()).collect();
    let fields = columns
        .iter()
        .map(|(name, column)| arrow::datatypes::Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    MetricBatch::try_new(table, RecordBatch::try_new(schema, columns).unwrap()).unwrap()
}

fn tag(values: Vec<Option<&str>>) -> ArrayRef {
    let mut column = StringDictionaryBuilder::<Int32Type>::new();
    column.extend(values);
    Arc::new(column.finish())
}

fn floats(values: Vec<Option<f64>>) -> ArrayRef {
    Arc::new(Float64Array::from(values))
}

/// The lines without the tags that every batch has.
fn short(text: &str) -> String {
    REQUIRED_TAGS.iter().fold(text.to_owned(), |text, name| text.replace(&format!(",{name}=x"), ""))
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
        lines(&[builder.finish().unwrap()]).0,
        "status,observer=host,provider=host,resource_id=web-1,resource_name=web\\ 1\\,a\\=b,resource_type=host \
         state=\"say \\\"hi\\\"\\\\\",up=true,uptime_seconds=0.5 1700000000000000001\n"
    );
}

#[test]
fn what_cannot_be_said_is_left_out_and_counted() {
    let mut builder = BatchBuilder::new("cpu", &Identity::host("a")).unwrap();
    builder.row(2).set("utilization", 1e300).unwrap();
    drop(builder.row(3));
    let (text, encoded) = lines(&[builder.finish().unwrap()]);
    assert!(text.ends_with(" utilization=1e+300 2\n"), "{text}");
    assert_eq!((encoded.count(), encoded.empty(), encoded.left_out()), (1, 1, 0));

    let a = floats(vec![Some(f64::NAN), Some(f64::INFINITY), None]);
    let b = floats(vec![Some(1.0), Some(f64::NEG_INFINITY), None]);
    let (text, encoded) = lines(&[batch("cpu", &[1, 2, 3], &[("a", a), ("b", b)])]);
    assert_eq!(short(&text), "cpu b=1.0 1\n");
    assert_eq!((encoded.empty(), encoded.left_out(), encoded.refused().len()), (2, 3, 0));
}

#[test]
fn numbers_are_short_and_have_digits_around_the_point() {
    let written = |value| {
        let text = short(&lines(&[batch("t", &[1], &[("f", floats(vec![Some(value)]))])]).0);
        text.trim_start_matches("t f=").trim_end_matches(" 1\n").to_owned()
    };
    // The first form of the exponent is what InfluxDB 1.6.7 was seen to take, too.
    let cases = [
        (1e16, "1e+16"),
        (123_456_789.0, "123456789.0"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (-1.5e-7, "-1.5e-7"),
        (f64::MAX, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
    ];
    for (value, text) in cases {
        assert_eq!(written(value), text);
    }
}

#[test]
fn tags_stand_in_the_order_of_the_names_that_are_read() {
    let column = || tag(vec![Some("1")]);
    let names = ["zone", "a!", "a\tb", "a", "aa", "Z"];
    let columns: Vec<_> =
        names.iter().map(|name| (*name, column())).chain([("f", floats(vec![Some(1.0)]))]).collect();
    assert_eq!(
        short(&lines(&[batch("t", &[1], &columns)]).0),
        "t,Z=1,a=1,a\\ b=1,a!=1,aa=1,zone=1 f=1.0 1\n"
    );
}

#[test]
fn a_name_that_an_earlier_column_has_or_that_servers_keep_is_left_out() {
    let one = || floats(vec![Some(1.0), None]);
    let columns = [
        ("a\tb", tag(vec![Some("first"), None])),
        ("a b", tag(vec![Some("second"), None])),
        ("a\nb", one()),
        ("time\\", one()),
        ("\\", floats(vec![Some(1.0), Some(1.0)])),
        ("f", one()),
        ("f\\", one()),
    ];
    let (text, encoded) = lines(&[batch("t", &[1, 2], &columns)]);
    assert_eq!(short(&text), "t,a\\ b=first f=1.0 1\n");
    assert_eq!(encoded.left_out(), 4);
    assert_eq!(encoded.refused(), [(Origin { batch: 0, row: 1 }, NO_FIELD_NAME)]);
}

#[test]
fn rows_of_an_impossible_table_are_refused_unless_they_are_empty() {
    for (table, reason) in [("", NO_TABLE_NAME), ("\\\\", NO_TABLE_NAME), ("#t", COMMENT)] {
        let values = floats(vec![Some(1.0), None, Some(f64::NAN)]);
        let batch = batch(table, &[1, 2, 3], &[("f", values)]);
        let (text, encoded) = lines(std::slice::from_ref(&batch));
        assert_eq!((text.as_str(), encoded.empty(), encoded.left_out()), ("", 2, 1));
        assert_eq!(encoded.refused(), [(Origin { batch: 0, row: 0 }, reason)]);
        let rejected = encoded.rejected("write", &[batch]);
        assert_eq!((rejected.len(), rejected[0].batch, rejected[0].rows.as_slice()), (1, 0, [0].as_slice()));
        assert!(rejected[0].error.to_string().contains(reason), "{}", rejected[0].error);
    }
    assert_eq!(short(&lines(&[batch("time", &[1], &[("f", floats(vec![Some(1.0)]))])]).0), "time f=1.0 1\n");
}

#[test]
fn times_at_the_ends_of_the_range_are_refused() {
    let times = [i64::MIN, i64::MIN + 1, i64::MIN + 2, i64::MAX - 1, i64::MAX];
    let (text, encoded) = lines(&[batch("t", &times, &[("f", floats(vec![Some(1.0); 5]))])]);
    assert_eq!(short(&text), "t f=1.0 -9223372036854775806\nt f=1.0 9223372036854775806\n");
    let refused: Vec<_> = encoded.refused().iter().map(|(origin, reason)| (origin.row, *reason)).collect();
    assert_eq!(refused, [(0, TIME_RANGE), (1, TIME_RANGE), (4, TIME_RANGE)]);
}

#[test]
fn a_series_may_be_as_long_as_servers_take_and_no_longer() {
    let rest: usize = REQUIRED_TAGS.iter().map(|name| name.len() + 3).sum::<usize>() + "t,a=".len();
    // InfluxDB 1.6.7 adds four bytes and the name of the field.
    let longest = "v".repeat(65_535 - rest - 4 - "ffff".len());
    let longer = format!("{longest}v");
    let values = tag(vec![Some(longest.as_str()), Some(longer.as_str()), Some(longer.as_str())]);
    let columns = [
        ("a", values),
        ("ffff", floats(vec![Some(1.0), Some(1.0), None])),
        ("f", floats(vec![None, None, Some(1.0)])),
    ];
    let (text, encoded) = lines(&[batch("t", &[1, 2, 3], &columns)]);
    assert_eq!(text.lines().map(|line| line.chars().last()).collect::<Vec<_>>(), [Some('1'), Some('3')]);
    assert_eq!(encoded.refused(), [(Origin { batch: 0, row: 1 }, KEY_LENGTH)]);
}

#[test]
fn rows_of_one_series_in_turn_and_rows_between_them_that_have_no_line() {
    let columns = [
        ("a", tag(vec![Some("1"), Some("1"), Some("1"), None, None, Some("2"), Some("1")])),
        ("f", floats(vec![Some(1.0), None, Some(3.0), Some(4.0), Some(5.0), Some(6.0), Some(7.0)])),
    ];
    let (text, encoded) = lines(&[batch("t", &[1, 2, 3, 4, 5, 6, 7], &columns)]);
    let expected = "t,a=1 f=1.0 1\nt,a=1 f=3.0 3\nt f=4.0 4\nt f=5.0 5\nt,a=2 f=6.0 6\nt,a=1 f=7.0 7\n";
    assert_eq!((short(&text).as_str(), encoded.empty()), (expected, 1));
}

/// Text with everything that has a meaning in the protocol.
fn text() -> impl Strategy<Value = String> {
    let characters = [',', '=', ' ', '"', '\\', 'a', 'ü', '#', '\n', '\r', '\t'];
    proptest::collection::vec(proptest::sample::select(characters.to_vec()), 1..8)
        .prop_map(|chars| chars.into_iter().collect())
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => text(), 2 => "[a-c]", 1 => Just("time\\".to_owned())]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![4 => any::<f64>(), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(0.25)]
}

/// The values of a column, a row each.
#[derive(Debug, Clone)]
enum Column {
    Tag(Vec<Option<String>>),
    Float(Vec<Option<f64>>),
    Integer(Vec<Option<i64>>),
    Boolean(Vec<Option<bool>>),
    Text(Vec<Option<String>>),
}

impl Column {
    /// A value that does not depend on how the encoder sees columns; `None` if there is nothing to write.
    fn value(&self, row: usize) -> Option<FieldValue<'_>> {
        match self {
            Self::Tag(_) => None,
            Self::Float(values) => values[row].filter(|value| value.is_finite()).map(FieldValue::F64),
            Self::Integer(values) => values[row].map(FieldValue::I64),
            Self::Boolean(values) => values[row].map(FieldValue::Boolean),
            Self::Text(values) => values[row].as_deref().map(|text| FieldValue::String(text.into())),
        }
    }

    fn is_not_finite(&self, row: usize) -> bool {
        matches!(self, Self::Float(values) if values[row].is_some_and(|value| !value.is_finite()))
    }

    fn array(&self) -> ArrayRef {
        match self {
            Self::Tag(values) => tag(values.iter().map(Option::as_deref).collect()),
            Self::Float(values) => floats(values.clone()),
            Self::Integer(values) => Arc::new(Int64Array::from(values.clone())),
            Self::Boolean(values) => Arc::new(BooleanArray::from(values.clone())),
            Self::Text(values) => Arc::new(StringArray::from(values.clone())),
        }
    }
}

/// Tag values out of a few, so that rows have the same, or that all have.
fn tag_column(rows: usize) -> impl Strategy<Value = Column> {
    proptest::collection::vec(proptest::option::weighted(0.9, text()), 1..4).prop_flat_map(move |few| {
        proptest::collection::vec(proptest::sample::select(few), rows).prop_map(Column::Tag)
    })
}

fn field_column(rows: usize) -> impl Strategy<Value = Column> {
    use proptest::collection::vec;
    use proptest::option::of;
    prop_oneof![
        vec(of(float()), rows).prop_map(Column::Float),
        vec(of(any::<i64>()), rows).prop_map(Column::Integer),
        vec(of(any::<bool>()), rows).prop_map(Column::Boolean),
        vec(of(text()), rows).prop_map(Column::Text),
    ]
}

/// The rows of a batch, and how many rows before and behind them are cut off, which stay in the dictionaries.
#[derive(Debug, Clone)]
struct Rows {
    table: String,
    times: Vec<i64>,
    columns: Vec<(String, Column)>,
    cut: (usize, usize),
}

fn rows() -> impl Strategy<Value = Rows> {
    (1..14_usize).prop_flat_map(|rows| {
        let time = prop_oneof![2 => any::<i64>(), 2 => Just(7), 1 => proptest::sample::select(&[i64::MIN, i64::MAX])];
        let column = prop_oneof![tag_column(rows), field_column(rows)];
        let table = prop_oneof![1 => text(), 1 => Just("time".to_owned())];
        (
            table,
            proptest::collection::vec(time, rows),
            proptest::collection::btree_map(name(), column, 0..6),
            (0..rows, 0..rows),
        )
            .prop_map(|(table, times, columns, cut)| Rows { table, times, columns: columns.into_iter().collect(), cut })
    })
}

impl Rows {
    fn batch(&self) -> MetricBatch {
        let columns: Vec<_> =
            self.columns.iter().map(|(name, column)| (name.as_str(), column.array())).collect();
        batch(&self.table, &self.times, &columns).slice(self.cut.0, self.kept().len())
    }

    fn kept(&self) -> std::ops::Range<usize> {
        self.cut.0..self.times.len().saturating_sub(self.cut.1).max(self.cut.0)
    }

    /// Columns that can be written, under the name that a reader sees.
    fn written(&self) -> Vec<(String, &Column)> {
        let mut names = HashSet::from([String::new(), "time".to_owned()]);
        let named = self.columns.iter().map(|(name, column)| (as_read(name, &[',', '=', ' ']), column));
        named.filter(|(name, _)| names.insert(name.clone())).collect()
    }

    /// Whether the row has a line; if not, whether it is refused rather than empty.
    fn has_line(&self, row: usize) -> Result<(), bool> {
        let measurement = as_read(&self.table, &[',', ' ']);
        let sayable = !measurement.is_empty()
            && !measurement.starts_with('#')
            && ![i64::MIN, i64::MIN + 1, i64::MAX].contains(&self.times[row])
            && self.written().iter().any(|(_, column)| column.value(row).is_some());
        if sayable { Ok(()) } else { Err(self.columns.iter().any(|(_, column)| column.value(row).is_some())) }
    }

    fn left_out(&self, row: usize) -> usize {
        let not_finite = self.columns.iter().filter(|(_, column)| column.is_not_finite(row)).count();
        let all = self.columns.iter().filter(|(_, column)| column.value(row).is_some()).count();
        let written = self.written().iter().filter(|(_, column)| column.value(row).is_some()).count();
        match self.has_line(row) {
            Ok(()) => not_finite + all - written,
            Err(false) => not_finite,
            Err(true) => 0,
        }
    }

    fn is_read_from(&self, row: usize, line: &ParsedLine<'_>) -> Result<(), TestCaseError> {
        prop_assert_eq!(line.series.measurement.to_string(), as_read(&self.table, &[',', ' ']));
        let read =
            line.series.tag_set.iter().flatten().map(|(name, value)| (name.to_string(), value.to_string()));
        let mut said: BTreeMap<_, _> = REQUIRED_TAGS.map(|name| (name.to_owned(), "x".to_owned())).into();
        for (name, column) in self.written() {
            if let Column::Tag(values) = column
                && let Some(value) = values[row].as_deref().map(|value| as_read(value, &[',', '=', ' ']))
                && !value.is_empty()
            {
                said.insert(name, value);
            }
        }
        prop_assert_eq!(read.collect::<BTreeMap<_, _>>(), said);
        let read: Vec<_> =
            line.field_set.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        let said = self.written().into_iter().filter_map(|(name, column)| Some((name, column.value(row)?)));
        prop_assert_eq!(read, said.collect::<Vec<_>>());
        prop_assert_eq!(line.timestamp, Some(self.times[row]));
        Ok(())
    }
}

proptest! {
    #[test]
    fn another_parser_reads_what_was_written(written in proptest::collection::vec(rows(), 1..4)) {
        let batches: Vec<_> = written.iter().map(Rows::batch).collect();
        let (text, lines) = lines(&batches);

        let mut again = Lines::default();
        again.encode(&batches);
        again.encode(&batches);
        prop_assert_eq!(again.bytes(0..again.count()), text.as_bytes(), "equal rows give equal bytes");

        let mut whole = Vec::new();
        for place in 0..lines.count() {
            let bytes = lines.bytes(place..place + 1);
            whole.extend_from_slice(bytes);
            let line = std::str::from_utf8(bytes).unwrap();
            let parsed: Vec<_> = parse_lines(line).collect();
            prop_assert_eq!(parsed.len(), 1, "{:?}", line);
            let parsed = parsed[0].as_ref().map_err(|e| TestCaseError::fail(format!("{line:?}: {e}")))?;
            let origin = lines.origin(place).unwrap();
            let rows = &written[origin.batch];
            rows.is_read_from(rows.cut.0 + origin.row, parsed)?;
        }
        prop_assert_eq!(whole, text.as_bytes(), "the whole is its lines");
        prop_assert_eq!(lines.origin(lines.count()), None);

        let (mut with_line, mut refused, mut empty, mut left_out) = (Vec::new(), Vec::new(), 0, 0);
        for (batch, rows) in written.iter().enumerate() {
            for (row, place) in rows.kept().enumerate() {
                match rows.has_line(place) {
                    Ok(()) => with_line.push(Origin { batch, row }),
                    Err(true) => refused.push(Origin { batch, row }),
                    Err(false) => empty += 1,
                }
                left_out += rows.left_out(place);
            }
        }
        let origins: Vec<_> = (0..lines.count()).filter_map(|place| lines.origin(place)).collect();
        prop_assert_eq!(origins, with_line);
        prop_assert_eq!(lines.refused().iter().map(|(origin, _)| *origin).collect::<Vec<_>>(), refused);
        prop_assert_eq!((lines.empty(), lines.left_out()), (empty, left_out as u64));
        let rejected = lines.rejected("write", &batches);
        prop_assert_eq!(rejected.iter().map(|group| group.rows.len()).sum::<usize>(), lines.refused().len());
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
