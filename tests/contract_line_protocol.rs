//! The line protocol encoder against InfluxData's corpus of points and lines, and against another parser.
//!
//! Needs the data under `BAROGRAPH_CONTRACT`, so only `make contract` runs it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, StringDictionaryBuilder,
    TimestampNanosecondArray,
};
use arrow::datatypes::{Field, Int32Type, Schema};
use barograph::model::{MetricBatch, REQUIRED_TAGS};
use barograph::sink::line_protocol::encode;
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use serde_json::Value;

/// Value of the tags that a batch needs and a point of the corpus lacks.
const ADDED: &str = "added-for-the-batch";
const SEPARATORS: [char; 3] = [',', '=', ' '];

/// The cases of one file, one JSON object a line.
fn corpus(file: &str) -> Vec<Value> {
    let Ok(folder) = std::env::var("BAROGRAPH_CONTRACT") else {
        panic!("BAROGRAPH_CONTRACT must name the folder with the contract data; run `make contract`");
    };
    let path = std::path::Path::new(&folder).join("line-protocol").join(file);
    let text =
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Names and values of a point's tags or fields.
fn pairs<'a>(point: &'a Value, of: &str) -> Vec<(&'a str, &'a Value)> {
    let listed = point[of].as_array().map(Vec::as_slice).unwrap_or_default();
    listed.iter().map(|pair| (pair["key"].as_str().unwrap(), &pair["value"])).collect()
}

fn tags(point: &Value) -> BTreeMap<&str, &str> {
    pairs(point, "tags").into_iter().map(|(name, value)| (name, value.as_str().unwrap())).collect()
}

/// The point as a batch of one row, or `None` if the model has no such point: unsigned integers, a column `time`.
fn batch(point: &Value) -> Option<MetricBatch> {
    let time = point["time"].as_i64()?;
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("time", Arc::new(TimestampNanosecondArray::from(vec![time])))];
    let mut all = tags(point);
    for name in REQUIRED_TAGS {
        all.entry(name).or_insert(ADDED);
    }
    for (name, value) in all {
        let mut column = StringDictionaryBuilder::<Int32Type>::new();
        column.append_value(value);
        columns.push((name, Arc::new(column.finish())));
    }
    for (name, value) in pairs(point, "fields") {
        let (kind, value) = value.as_object()?.iter().next()?;
        let column: ArrayRef = match kind.as_str() {
            "float" => Arc::new(Float64Array::from(vec![value.as_f64()?])),
            "int" => Arc::new(Int64Array::from(vec![value.as_i64()?])),
            "bool" => Arc::new(BooleanArray::from(vec![value.as_bool()?])),
            "string" => Arc::new(StringArray::from(vec![value.as_str()?])),
            _ => return None,
        };
        columns.push((name, column));
    }
    let mut seen = HashSet::new();
    if !columns.iter().all(|(name, _)| seen.insert(*name)) {
        return None;
    }
    let fields: Vec<_> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    Some(MetricBatch::try_new(point["name"].as_str()?, records).unwrap())
}

/// The line of a batch of one row, without its line break.
fn line(batch: &MetricBatch) -> String {
    let mut text = String::new();
    let encoded = encode(batch, &mut text);
    assert_eq!((encoded.lines, encoded.empty), (1, 0), "{text}");
    text.pop();
    text
}

fn parse(line: &str) -> ParsedLine<'_> {
    let mut parsed: Vec<_> = parse_lines(line).collect();
    assert_eq!(parsed.len(), 1, "{line:?}");
    parsed.pop().unwrap().unwrap_or_else(|e| panic!("{line:?}: {e}"))
}

/// Measurement and tags as written, up to the first space that separates.
fn series(line: &str) -> &str {
    let mut escaped = false;
    let end = line.find(|c| {
        let separates = c == ' ' && !escaped;
        escaped = c == '\\' && !escaped;
        separates
    });
    &line[..end.unwrap()]
}

/// Whether servers disagree about this name or tag, so that the encoder writes it with fewer backslashes.
fn disputed(text: &str) -> bool {
    text.ends_with('\\') || ["\\\\", "\\,", "\\=", "\\ "].iter().any(|pair| text.contains(pair))
}

/// What the encoder promises to keep of a name or tag.
fn kept(text: &str) -> String {
    let mut kept = String::new();
    let text: Vec<char> = text.chars().map(|c| if c.is_ascii_control() { ' ' } else { c }).collect();
    for (i, c) in text.iter().enumerate() {
        let next = text.get(i + 1);
        if *c != '\\' || next.is_some_and(|next| *next != '\\' && !SEPARATORS.contains(next)) {
            kept.push(*c);
        }
    }
    kept
}

/// What was read back is what the point said.
fn assert_same(point: &Value, line: &ParsedLine<'_>) {
    assert_eq!(line.timestamp, point["time"].as_i64(), "{point}");
    assert_eq!(line.series.measurement.to_string(), kept(point["name"].as_str().unwrap()), "{point}");
    let read: BTreeMap<String, String> = line
        .series
        .tag_set
        .iter()
        .flatten()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .filter(|(_, value)| value != ADDED)
        .collect();
    let said = tags(point).into_iter().map(|(name, value)| (kept(name), kept(value)));
    assert_eq!(read, said.filter(|(_, value)| !value.is_empty()).collect(), "{point}");
    let fields = pairs(point, "fields");
    assert_eq!(line.field_set.len(), fields.len(), "{point}");
    for ((name, said), (read_name, read)) in fields.into_iter().zip(&line.field_set) {
        assert_eq!(read_name.to_string(), kept(name), "{point}");
        match read {
            FieldValue::F64(read) => assert_eq!(Some(*read), said["float"].as_f64(), "{point}"),
            FieldValue::I64(read) => assert_eq!(Some(*read), said["int"].as_i64(), "{point}"),
            FieldValue::Boolean(read) => assert_eq!(Some(*read), said["bool"].as_bool(), "{point}"),
            FieldValue::String(read) => {
                assert_eq!(Some(read.to_string().as_str()), said["string"].as_str(), "{point}");
            }
            FieldValue::U64(_) => panic!("the encoder writes no unsigned integers: {point}"),
        }
    }
}

#[test]
fn lines_are_those_of_the_corpus() {
    let (mut same, mut differing, mut refused) = (0, 0, 0);
    for case in corpus("influxdata-corpus-encode.jsonl") {
        let point = &case["input"]["point"];
        let batch = batch(point).unwrap();
        let ours = line(&batch);
        let read = parse(&ours);
        assert_same(point, &read);
        let Some(theirs) = case["output"]["result"].as_str() else {
            // The reference refuses the point for its empty tag; here the tag is left out and the rest kept.
            assert!(tags(point).values().any(|value| value.is_empty()), "{case}");
            refused += 1;
            continue;
        };
        if tags(point).iter().any(|(name, value)| disputed(name) || disputed(value)) {
            differing += 1;
            continue;
        }
        let mut without = series(&ours).to_owned();
        for name in REQUIRED_TAGS {
            without = without.replace(&format!(",{name}={ADDED}"), "");
        }
        assert_eq!(without, series(theirs), "{case}");
        let fields = |line: &ParsedLine<'_>| format!("{:?} {:?}", line.field_set, line.timestamp);
        assert_eq!(fields(&read), fields(&parse(theirs)), "{case}");
        same += 1;
    }
    assert_eq!((same, differing, refused), (109, 5, 1), "the corpus has other cases than it had");
}

#[test]
fn points_of_good_lines_are_read_back_as_they_were() {
    let (mut good, mut outside) = (0, 0);
    for case in corpus("influxdata-corpus-decode.jsonl") {
        for point in case["output"]["result"].as_array().into_iter().flatten() {
            let Some(batch) = batch(point) else {
                outside += 1;
                continue;
            };
            assert_same(point, &parse(&line(&batch)));
            good += 1;
        }
    }
    assert_eq!((good, outside), (383, 18), "the corpus has other cases than it had");
}
