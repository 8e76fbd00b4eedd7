//! Sorting and merging the rows of a fleet, each beside what one would use first: Arrow's lexicographic sort, and the
//! merge of DataFusion, which keeps rows whose key stands twice.
//!
//! Both sides give the same rows; that is checked before anything is measured.
#![allow(missing_docs, reason = "criterion's macros make functions without documentation")]
#![allow(clippy::unwrap_used, reason = "a bench says what failed by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use barograph::model::{Role, column_role};
use barograph::store::buffer::Buffer;
use barograph::store::columns::adapt;
use barograph::store::merge::merge;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr, expressions::Column};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet};
use datafusion::physical_plan::sorts::streaming_merge::StreamingMergeBuilder;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt, stream};

#[allow(unreachable_pub, reason = "tests and benches share the file")]
#[path = "../tests/support/fleet.rs"]
mod fleet;

const MACHINES: usize = 10_000;
const TICKS: usize = 60;
const TICK: i64 = 10_000_000_000;
const SOURCES: usize = 6;
const BATCH_ROWS: usize = 8_192;
const ORDER: SortOptions = SortOptions { descending: false, nulls_first: true };

/// Batches of a source, in order.
type Source = Vec<RecordBatch>;

/// One batch for each tick.
fn ticks() -> Source {
    let mut fleet = fleet::Fleet::new(MACHINES, 1);
    (0..TICKS).map(|tick| fleet.tick(1_700_000_000_000_000_000 + tick as i64 * TICK).into_records()).collect()
}

fn sorted(batches: impl IntoIterator<Item = RecordBatch>) -> Source {
    let mut buffer = Buffer::default();
    batches.into_iter().for_each(|batch| buffer.push(batch));
    buffer.sorted(BATCH_ROWS).unwrap()
}

/// Places of the columns of the key in a sorted schema: the tags, then time.
fn key(schema: &Schema) -> Vec<usize> {
    let is_tag = |index: &usize| column_role(schema.field(*index)) == Some(Role::Tag);
    (0..schema.fields().len()).filter(is_tag).chain([0]).collect()
}

/// The rows in one batch, sorted by Arrow.
fn sorted_by_arrow(batches: &[RecordBatch], schema: &SchemaRef) -> RecordBatch {
    let batches: Vec<_> = batches.iter().map(|batch| adapt(batch, schema).unwrap()).collect();
    let rows = concat_batches(schema, &batches).unwrap();
    let key = key(schema).into_iter();
    let key: Vec<_> = key
        .map(|index| SortColumn { values: Arc::clone(rows.column(index)), options: Some(ORDER) })
        .collect();
    take_record_batch(&rows, &lexsort_to_indices(&key, None).unwrap()).unwrap()
}

fn merged(sources: &[Source], schema: &SchemaRef) -> Source {
    let sources = sources.iter().cloned().map(|source| stream::iter(source.into_iter().map(Ok)).boxed());
    let merged = merge(sources.collect(), Arc::clone(schema), BATCH_ROWS);
    futures::executor::block_on(merged.try_collect()).unwrap()
}

fn merged_by_datafusion(sources: &[Source], schema: &SchemaRef) -> Source {
    let streams = sources.iter().cloned().map(|source| {
        let batches = stream::iter(source.into_iter().map(Ok));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), batches)) as _
    });
    let key = key(schema).into_iter().map(|index| {
        let column = Column::new(schema.field(index).name(), index);
        PhysicalSortExpr { expr: Arc::new(column), options: ORDER }
    });
    let memory: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    let merged = StreamingMergeBuilder::new()
        .with_streams(streams.collect())
        .with_schema(Arc::clone(schema))
        .with_expressions(&LexOrdering::new(key).unwrap())
        .with_metrics(BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), 0))
        .with_batch_size(BATCH_ROWS)
        .with_reservation(MemoryConsumer::new("bench").register(&memory))
        .build()
        .unwrap();
    futures::executor::block_on(merged.try_collect()).unwrap()
}

fn sorting(criterion: &mut Criterion) {
    let ticks = ticks();
    let ours = sorted(ticks.clone());
    let schema = ours[0].schema();
    assert_eq!(concat_batches(&schema, &ours).unwrap(), sorted_by_arrow(&ticks, &schema));
    drop(ours);

    let mut group = criterion.benchmark_group("sort");
    group.throughput(Throughput::Elements((MACHINES * TICKS) as u64)).sample_size(10);
    group.bench_function("buffer", |bencher| bencher.iter(|| sorted(black_box(&ticks).iter().cloned())));
    group.bench_function("arrow", |bencher| bencher.iter(|| sorted_by_arrow(black_box(&ticks), &schema)));
    group.finish();
}

fn merging(criterion: &mut Criterion) {
    let ticks = ticks();
    let all = sorted(ticks.iter().cloned());
    let schema = all[0].schema();
    let all = concat_batches(&schema, &all).unwrap();
    let part = all.num_rows() / SOURCES;
    let cut = |start: usize, rows: usize| -> Source {
        let starts = (start..start + rows).step_by(BATCH_ROWS);
        starts.map(|at| all.slice(at, BATCH_ROWS.min(start + rows - at))).collect()
    };
    let every_sixth =
        |first: usize| sorted(ticks.iter().skip(first).step_by(SOURCES).cloned().collect::<Source>());
    // How compaction meets rows: files of other series, hours of one day, late rows between the others.
    let shapes: [(&str, Vec<Source>); 3] = [
        ("series_apart", (0..SOURCES).map(|source| cut(source * part, part)).collect()),
        ("times_apart", ticks.chunks(TICKS / SOURCES).map(|ticks| sorted(ticks.iter().cloned())).collect()),
        ("times_between", (0..SOURCES).map(every_sixth).collect()),
    ];

    let mut group = criterion.benchmark_group("merge");
    group.throughput(Throughput::Elements(all.num_rows() as u64)).sample_size(10);
    for (name, sources) in shapes {
        for result in [merged(&sources, &schema), merged_by_datafusion(&sources, &schema)] {
            assert_eq!(concat_batches(&schema, &result).unwrap(), all);
        }
        group.bench_function(format!("{name}/runs"), |bencher| {
            bencher.iter(|| merged(black_box(&sources), &schema));
        });
        group.bench_function(format!("{name}/datafusion"), |bencher| {
            bencher.iter(|| merged_by_datafusion(black_box(&sources), &schema));
        });
    }
    // What a replay brings: every row again.
    let twice = [cut(0, all.num_rows()), cut(0, all.num_rows())];
    assert_eq!(concat_batches(&schema, &merged(&twice, &schema)).unwrap(), all);
    group.throughput(Throughput::Elements(2 * all.num_rows() as u64));
    group.bench_function("same_rows/runs", |bencher| bencher.iter(|| merged(black_box(&twice), &schema)));
    group.finish();
}

criterion_group!(benches, sorting, merging);
criterion_main!(benches);
