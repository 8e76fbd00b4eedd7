//! Writes a segment as the store does.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;

use crate::analytics::part::time_range;
use crate::model::tag_type;
use crate::store::{SegmentColumn, SegmentMeta, TagStatistics};

pub(super) async fn write(objects: Arc<dyn ObjectStore>, number: u64, batch: RecordBatch) -> SegmentMeta {
    let path = format!("load/{number}.parquet");
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    let size = bytes.len() as u64;
    objects.put(&Path::from(path.as_str()), bytes.into()).await.unwrap();
    let (min_time, max_time) = time_range(std::slice::from_ref(&batch)).unwrap();
    let mut tags = BTreeMap::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if *field.data_type() == tag_type() {
            let column = cast(column, &DataType::Utf8).unwrap();
            let values: Vec<_> = column.as_string::<i32>().iter().collect();
            let (min, max) = (values.iter().flatten().min(), values.iter().flatten().max());
            tags.insert(
                field.name().clone(),
                TagStatistics {
                    min: (*min.unwrap()).to_owned(),
                    max: (*max.unwrap()).to_owned(),
                    nulls: values.iter().filter(|value| value.is_none()).count() as u64,
                },
            );
        }
    }
    let columns = batch
        .schema()
        .fields()
        .iter()
        .map(|field| SegmentColumn {
            name: field.name().clone(),
            kind: match field.data_type() {
                DataType::Float64 => "float",
                DataType::Utf8 => "string",
                DataType::Dictionary(..) => "tag",
                _ => "time",
            }
            .to_owned(),
        })
        .collect();
    SegmentMeta {
        id: number.to_string(),
        path,
        window_start: min_time,
        window_end: max_time + 1,
        precedence: number,
        rows: batch.num_rows() as u64,
        bytes: size,
        min_time,
        max_time,
        tags,
        columns,
    }
}
