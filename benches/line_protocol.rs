//! Batches into line protocol: the encoder, and beside it the straightforward way, row by row with `format!`.
//!
//! Both write the same bytes; that is checked before anything is measured.
#![allow(missing_docs, reason = "criterion's macros make functions without documentation")]
#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

use std::hint::black_box;

use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use barograph::model::{MetricBatch, Role, column_role};
use barograph::sink::line_protocol::encode;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[allow(unreachable_pub, reason = "tests and benches share the file")]
#[path = "../tests/support/fleet.rs"]
mod fleet;

const MACHINES: usize = 10_000;

/// What one would write first. It knows that the fleet has float fields only.
fn straightforward(batch: &MetricBatch) -> String {
    let escaped =
        |text: &str| text.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ");
    let records = batch.records();
    let schema = records.schema();
    let mut tags: Vec<&str> = batch.tag_names().collect();
    tags.sort_unstable();
    let mut text = String::new();
    for (row, time) in batch.times().iter().enumerate() {
        let tags: String = tags
            .iter()
            .filter_map(|name| Some(format!(",{}={}", escaped(name), escaped(batch.tag(name, row)?))))
            .collect();
        let fields: Vec<String> = schema
            .fields()
            .iter()
            .zip(records.columns())
            .filter(|(field, column)| column_role(field) == Some(Role::Field) && column.is_valid(row))
            .map(|(field, column)| {
                format!("{}={:?}", escaped(field.name()), column.as_primitive::<Float64Type>().value(row))
            })
            .collect();
        text += &format!("{}{} {} {}\n", escaped(batch.table()), tags, fields.join(","), time);
    }
    text
}

fn line_protocol(criterion: &mut Criterion) {
    let batch = fleet::Fleet::new(MACHINES, 1).tick(1_700_000_000_000_000_000);
    let mut buffer = String::new();
    encode(&batch, &mut buffer);
    assert_eq!(buffer, straightforward(&batch));

    let mut group = criterion.benchmark_group("line_protocol");
    for (unit, throughput) in
        [("lines", Throughput::Elements(MACHINES as u64)), ("bytes", Throughput::Bytes(buffer.len() as u64))]
    {
        group.throughput(throughput);
        group.bench_function(format!("encoder/{unit}"), |bencher| {
            bencher.iter(|| {
                buffer.clear();
                encode(black_box(&batch), &mut buffer)
            });
        });
    }
    group.throughput(Throughput::Elements(MACHINES as u64));
    group.bench_function("format/lines", |bencher| bencher.iter(|| straightforward(black_box(&batch))));
    group.finish();
}

criterion_group!(benches, line_protocol);
criterion_main!(benches);
