//! Batches into line protocol: the encoder, and beside it, in the same run and with the same rows, what else writes lines:
//! `influxdb2` (points built and written, and only written), the builder of `influxdb-line-protocol`, and `format!`.
//!
//! That all write the same content is checked before anything is measured. `rows_of_a_series` are the rows of one machine in
//! turn, as a collector of cores or disks makes them or one that catches up; all other rows are of a machine each.
#![allow(missing_docs, reason = "criterion's macros make functions without documentation")]
#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

use std::hint::black_box;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Float64Type, Int32Type};
use barograph::model::{MetricBatch, Role, column_role};
use barograph::sink::lines::Lines;
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use influxdb_line_protocol::{LineProtocolBuilder, ParsedLine, parse_lines};
use influxdb2::models::{DataPoint, WriteDataPoint};

#[allow(unreachable_pub, reason = "tests and benches share the file")]
#[path = "../tests/support/fleet.rs"]
mod fleet;

const MACHINES: usize = 10_000;

/// The columns as the other writers need them: the fleet has float fields only.
struct Columns<'a> {
    table: &'a str,
    times: &'a [i64],
    tags: Vec<(&'a str, &'a ArrayRef)>,
    fields: Vec<(&'a str, &'a PrimitiveArray<Float64Type>)>,
}

impl<'a> Columns<'a> {
    fn new(batch: &'a MetricBatch) -> Self {
        let records = batch.records();
        let of = |role| {
            let columns = records.schema_ref().fields().iter().zip(records.columns());
            columns
                .filter(move |(field, _)| column_role(field) == Some(role))
                .map(|(field, column)| (field.name().as_str(), column))
        };
        let mut tags: Vec<_> = of(Role::Tag).collect();
        tags.sort_by_key(|(name, _)| *name);
        let fields = of(Role::Field).map(|(name, column)| (name, column.as_primitive())).collect();
        Self { table: batch.table(), times: batch.times(), tags, fields }
    }

    fn tags(&self, row: usize) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.tags.iter().filter_map(move |(name, column)| {
            let keys = column.as_dictionary::<Int32Type>();
            Some((*name, keys.values().as_string::<i32>().value(keys.key(row)?)))
        })
    }

    fn fields(&self, row: usize) -> impl Iterator<Item = (&'a str, f64)> {
        let fields = self.fields.iter().filter(move |(_, column)| column.is_valid(row));
        fields.map(move |(name, column)| (*name, column.value(row)))
    }
}

/// What one would write first.
fn with_format(columns: &Columns<'_>) -> Vec<u8> {
    let escaped =
        |text: &str| text.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ");
    let mut text = String::new();
    for (row, time) in columns.times.iter().enumerate() {
        let tags: String =
            columns.tags(row).map(|(name, value)| format!(",{}={}", escaped(name), escaped(value))).collect();
        let fields: Vec<String> =
            columns.fields(row).map(|(name, value)| format!("{}={value:?}", escaped(name))).collect();
        text += &format!("{}{tags} {} {time}\n", escaped(columns.table), fields.join(","));
    }
    text.into_bytes()
}

/// What `influxdb2` needs of a row.
fn data_points(columns: &Columns<'_>) -> Vec<DataPoint> {
    let rows = columns.times.iter().enumerate();
    rows.map(|(row, time)| data_point(columns, row, *time)).collect()
}

fn data_point(columns: &Columns<'_>, row: usize, time: i64) -> DataPoint {
    let mut point = DataPoint::builder(columns.table).timestamp(time);
    for (name, value) in columns.tags(row) {
        point = point.tag(name, value);
    }
    for (name, value) in columns.fields(row) {
        point = point.field(name, value);
    }
    point.build().unwrap()
}

/// Appends what the builder of `influxdb-line-protocol` makes of the rows.
fn with_builder(columns: &Columns<'_>, into: &mut Vec<u8>) {
    let mut builder = LineProtocolBuilder::new_with(into);
    for (row, time) in columns.times.iter().enumerate() {
        let series = columns
            .tags(row)
            .fold(builder.measurement(columns.table), |line, (name, value)| line.tag(name, value));
        let mut fields = columns.fields(row);
        let (name, value) = fields.next().unwrap();
        let line = fields.fold(series.field(name, value), |line, (name, value)| line.field(name, value));
        builder = line.timestamp(*time).close_line();
    }
}

/// That two writers said the same: numbers may be written differently.
fn assert_same(ours: &[u8], theirs: &[u8]) {
    let read = |text| -> Vec<ParsedLine<'_>> {
        parse_lines(std::str::from_utf8(text).unwrap()).map(Result::unwrap).collect()
    };
    assert_eq!(format!("{:?}", read(ours)), format!("{:?}", read(theirs)));
}

/// Measures a writer, in lines and in bytes.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    lines: usize,
    mut write: impl FnMut(&mut Vec<u8>),
) {
    let mut buffer = Vec::new();
    write(&mut buffer);
    let throughput = [Throughput::Elements(lines as u64), Throughput::Bytes(buffer.len() as u64)];
    for (unit, throughput) in ["lines", "bytes"].into_iter().zip(throughput) {
        group.throughput(throughput);
        group.bench_function(format!("{name}/{unit}"), |bencher| {
            bencher.iter(|| {
                buffer.clear();
                write(black_box(&mut buffer));
            });
        });
    }
}

fn measure_encoder(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, batches: &[MetricBatch]) {
    let mut lines = Lines::default();
    lines.encode(batches);
    let (count, bytes) = (lines.count(), lines.bytes(0..lines.count()).len());
    for (unit, throughput) in
        [("lines", Throughput::Elements(count as u64)), ("bytes", Throughput::Bytes(bytes as u64))]
    {
        group.throughput(throughput);
        group.bench_function(format!("{name}/{unit}"), |bencher| {
            bencher.iter(|| lines.encode(black_box(batches)));
        });
    }
}

/// The same machines, the rows of each in turn.
fn rows_of_a_series(batch: &MetricBatch, rows: u32) -> MetricBatch {
    let order: UInt32Array = (0..batch.rows() as u32).map(|row| row / rows).collect();
    let records: RecordBatch = take_record_batch(batch.records(), &order).unwrap();
    MetricBatch::try_new(batch.table(), records).unwrap()
}

fn line_protocol(criterion: &mut Criterion) {
    let batch = fleet::Fleet::new(MACHINES, 1).tick(1_700_000_000_000_000_000);
    let columns = Columns::new(&batch);
    let points = data_points(&columns);
    let mut lines = Lines::default();
    lines.encode(std::slice::from_ref(&batch));
    let ours = lines.bytes(0..lines.count());
    assert_eq!(ours, with_format(&columns));
    let mut theirs = Vec::new();
    for point in &points {
        point.write_data_point_to(&mut theirs).unwrap();
    }
    assert_same(ours, &theirs);
    theirs.clear();
    with_builder(&columns, &mut theirs);
    assert_same(ours, &theirs);

    let mut group = criterion.benchmark_group("line_protocol");
    measure_encoder(&mut group, "encoder", std::slice::from_ref(&batch));
    measure_encoder(&mut group, "encoder_rows_of_a_series", &[rows_of_a_series(&batch, 16)]);
    measure(&mut group, "influxdb2_built_and_written", MACHINES, |buffer| {
        for (row, time) in columns.times.iter().enumerate() {
            data_point(&columns, row, *time).write_data_point_to(&mut *buffer).unwrap();
        }
    });
    measure(&mut group, "influxdb2_written", MACHINES, |buffer| {
        for point in &points {
            point.write_data_point_to(&mut *buffer).unwrap();
        }
    });
    measure(&mut group, "influxdb_line_protocol_builder", MACHINES, |buffer| with_builder(&columns, buffer));
    measure(&mut group, "format", MACHINES, |buffer| *buffer = with_format(&columns));
    group.finish();
}

criterion_group!(benches, line_protocol);
criterion_main!(benches);
