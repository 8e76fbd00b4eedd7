//! The line protocol encoder against InfluxData's corpus of points and lines, and against another parser.
//!
//! Both ways: a point of the corpus is encoded, and a line of the corpus is taken as the points that the reference reads from it,
//! which are encoded. Each time the other parser must read from our lines what the corpus says. Where it does not, the case is
//! listed below with the reason; a case more or less fails the test.
//!
//! Needs the data under `BAROGRAPH_CONTRACT`, so only `make contract` runs it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]
#![allow(clippy::print_stdout, reason = "the counts are the result")]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, StringDictionaryBuilder,
    TimestampNanosecondArray,
};
use arrow::datatypes::{Field, Int32Type, Schema};
use barograph::model::{MetricBatch, REQUIRED_TAGS};
use barograph::sink::lines::Lines;
use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use serde_json::Value;

/// Value of the tags that a batch needs and a point of the corpus lacks.
const ADDED: &str = "added-for-the-batch";
const SEPARATORS: [char; 3] = [',', '=', ' '];

/// Points with a backslash before a separator or another backslash, in a tag or a name. InfluxDB 1.x and 2.x read two
/// backslashes as two, the parser of 3.x as one, so no way to write them suits both; the encoder writes fewer. All else of the
/// points is read back.
const BACKSLASHES_ENCODED: [&str; 5] = [
    "20f288a995174bed597f0b405df7756b",
    "7c0c4a665d3581854019e2c01c485f56",
    "9ce4e716b8ba198c7a6a16cf12c8c1e3",
    "b3db57d81f6283cd8ffdc25df4ef66d1",
    "f84fa178c83d4c4fdeb903e337af0c88",
];
/// The same among the lines.
const BACKSLASHES_DECODED: [&str; 21] = [
    "1a59bc6d85d51b80ba86085a625a6423",
    "2fff245fc564b6eaadbb607d49b71f7b",
    "3464e9a254491832c25381f8ede74a33",
    "40f7f7ab020c18e8a63082bef4f76913",
    "432c470eca90d15a6e299690a4d3573b",
    "5475844841f3e74d1a9dd7fb8edbe21c",
    "5e08e5f5a9619377e83313100db125e4",
    "6ff42530fe6ad82d7ed609bf99a9d484",
    "8b8a7c4cc0ae2473efb5208a59022f17",
    "8e68e2d04493b98acd3e0815559a60e7",
    "933321120784d3ad72a6d33e35d6f04c",
    "963a96bfb9995ecef855259b88d68a96",
    "9d0006422e4183cd9ccbebda013af3da",
    "d169ad0e971f127ad2e5b4c8c0b1de3c",
    "d1955fe5a9a1f0e11ece309eff8f2c74",
    "d1c784f8a98a165cf299875ee4b951a2",
    "e59e8a621a64d338570a536f0d4b9aa5",
    "efbb7158d7c6ad7633a178693a1b1208",
    "f08107767917985bb91f29d9e1348d74",
    "f2b44af65e5dafd12be0d5a09c894fb5",
    "ff9b943052a5cb5c92aba7459bce8a09",
];
/// A control character in a tag, which the reference refuses to write but reads; the encoder writes a space.
const CONTROL_CHARACTER: [&str; 1] = ["d2968e6b9b0b309f305736677940b36c"];
/// A tag without a text. The reference refuses the point; the encoder leaves out the tag, which says nothing.
const EMPTY_TAG: [&str; 1] = ["72fe529da6084a44692fe27cc2f105d1"];
/// Unsigned integers: the model has none, and InfluxDB 1.x refuses them.
const UNSIGNED: [&str; 16] = [
    "23403b56ae126fe3d4b6f7afa228df80",
    "27fd209742d33a19ea3cbf54268c025b",
    "2e6ffbb72918224376f8828646b8dc03",
    "37b82de81acdd74c72d6ec702e4ef075",
    "3c1532b8401c16781fdaafb2a76b506e",
    "46545fbfb2e1e8b404e0e75c66028e9c",
    "5f1e832135dbf0161b3a1bb71a0be866",
    "82f7453023b311a4c6cdd1302b5bfb2a",
    "851cebafb8dac9d747e81a63f496ba57",
    "c2d6a608f3179aa48138ed8b460a94e5",
    "c402dc138c06d0054f5fc794a3bffa51",
    "c42c27f349f4f6288a974eaccc00068b",
    "cac6f95bc7b93f3a06141a32cc95b073",
    "d00f6348ff30faffe56d97abccfef3cc",
    "e218e0443ecf82353d4b77b16f068d96",
    "eb1d4076931acb9941cb712fc3574b55",
];
/// A tag called `time`, which a batch cannot have beside its time, and which InfluxDB 1.x refuses.
const TAG_TIME: [&str; 2] = ["2a6fa6f9c4bd199a093f88e94b542430", "5f10c11304f37e8f65e1d9fc36c6fde3"];

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

/// The lines of batches of one row each.
fn lines(batches: &[MetricBatch]) -> String {
    let mut lines = Lines::default();
    lines.encode(batches);
    assert_eq!((lines.count(), lines.empty(), lines.left_out()), (batches.len(), 0, 0));
    String::from_utf8(lines.bytes(0..lines.count()).to_vec()).unwrap()
}

fn parse(lines: &str) -> Vec<ParsedLine<'_>> {
    parse_lines(lines).map(|line| line.unwrap_or_else(|e| panic!("{lines:?}: {e}"))).collect()
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

/// Whether the encoder promises to keep a point's names and tags to the letter.
fn is_kept(point: &Value) -> bool {
    let fields = pairs(point, "fields").into_iter().map(|(name, _)| name);
    let mut texts = tags(point).into_iter().flat_map(|(name, value)| [name, value]).chain(fields);
    texts.all(|text| kept(text) == text) && point["name"].as_str().is_some_and(|name| kept(name) == name)
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

/// The cases that were listed, in their order.
fn assert_listed(found: &mut [String], listed: &[&str], why: &str) {
    found.sort();
    assert_eq!(found, listed, "{why}: the cases found are not those listed");
    println!("{:>5} {why}", listed.len());
}

#[test]
fn lines_are_those_of_the_corpus() {
    let (mut same, mut backslashes, mut empty_tag) = (0, Vec::new(), Vec::new());
    for case in corpus("influxdata-corpus-encode.jsonl") {
        let id = case["id"].as_str().unwrap().to_owned();
        let point = &case["input"]["point"];
        let ours = lines(&[batch(point).unwrap()]);
        let read = parse(&ours);
        assert_eq!(read.len(), 1, "{case}");
        assert_same(point, &read[0]);
        let Some(theirs) = case["output"]["result"].as_str() else {
            empty_tag.push(id);
            continue;
        };
        if !is_kept(point) {
            backslashes.push(id);
            continue;
        }
        let mut without = series(&ours).to_owned();
        for name in REQUIRED_TAGS {
            without = without.replace(&format!(",{name}={ADDED}"), "");
        }
        assert_eq!(without, series(theirs), "{case}");
        let fields = |line: &ParsedLine<'_>| format!("{:?} {:?}", line.field_set, line.timestamp);
        assert_eq!(fields(&read[0]), fields(&parse(theirs)[0]), "{case}");
        same += 1;
    }
    println!("points:\n{same:>5} written and read back as the corpus says");
    assert_listed(&mut backslashes, &BACKSLASHES_ENCODED, "with fewer backslashes");
    assert_listed(&mut empty_tag, &EMPTY_TAG, "without an empty tag");
    assert_eq!(same, 109, "the corpus has other cases than it had");
}

#[test]
fn points_of_good_lines_are_read_back_as_they_were() {
    let (mut good, mut good_points, mut nothing, mut bad) = (0, 0, 0, 0);
    let (mut backslashes, mut control, mut unsigned, mut time) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for case in corpus("influxdata-corpus-decode.jsonl") {
        let id = case["id"].as_str().unwrap().to_owned();
        let Some(points) = case["output"]["result"].as_array() else {
            bad += 1;
            continue;
        };
        if points.is_empty() {
            nothing += 1;
            continue;
        }
        let Some(batches) = points.iter().map(batch).collect::<Option<Vec<_>>>() else {
            let has_time = points.iter().any(|point| tags(point).contains_key("time"));
            if has_time {
                time.push(id)
            } else {
                unsigned.push(id)
            }
            continue;
        };
        let ours = lines(&batches);
        let read = parse(&ours);
        assert_eq!(read.len(), points.len(), "{case}");
        for (point, line) in points.iter().zip(&read) {
            assert_same(point, line);
        }
        if points.iter().all(is_kept) {
            good += 1;
            good_points += points.len();
        } else if case["output"].to_string().contains("\\u00") {
            control.push(id);
        } else {
            backslashes.push(id);
        }
    }
    println!("lines:\n{good:>5} read, written and read back as the corpus says ({good_points} points)");
    assert_listed(&mut backslashes, &BACKSLASHES_DECODED, "with fewer backslashes");
    assert_listed(&mut control, &CONTROL_CHARACTER, "with a space for a control character");
    assert_listed(&mut unsigned, &UNSIGNED, "outside the model: unsigned integers");
    assert_listed(&mut time, &TAG_TIME, "outside the model: a tag `time`");
    println!("{nothing:>5} without a point\n{bad:>5} that the reference refuses");
    assert_eq!((good, nothing, bad), (346, 10, 6_219), "the corpus has other cases than it had");
}
