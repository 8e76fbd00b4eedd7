//! Segments: Parquet files of sorted rows.
//!
//! What makes them quick to read: rows sorted by series, `sorting_columns` that say so, a page index, row groups of 256 Ki
//! rows, dictionaries for tags, times as deltas. They are plain Parquet that any reader understands.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Schema, SchemaRef};
use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::arrow::async_writer::AsyncArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::file::SegmentFile;
use super::merge::BatchStream;
use super::options::Window;
use super::root::Root;
use super::snapshot::{SegmentColumn, SegmentMeta, TagStatistics};
use super::{buffer, columns};
use crate::model::{FieldType, Role, column_role, tag_type, time_type};
use crate::{Error, ErrorKind, Result};

/// Rows per row group: enough for long runs and good dictionaries, few enough to skip and to write in little memory.
const ROW_GROUP_ROWS: usize = 256 << 10;
/// Rows per page: one series over half a day at ten seconds is half a page.
const PAGE_ROWS: usize = 8 << 10;
/// Rows per batch that is read.
const READ_ROWS: usize = 8 << 10;

/// Writes one segment.
pub(super) struct SegmentWriter {
    root: Root,
    path: String,
    id: String,
    window: Window,
    precedence: u64,
    schema: SchemaRef,
    writer: AsyncArrowWriter<BufWriter>,
    rows: u64,
    times: Option<(i64, i64)>,
    tags: BTreeMap<String, TagRange>,
}

/// What is known of a tag column so far.
#[derive(Debug, Default)]
struct TagRange {
    /// Smallest and largest value; `None` before the first one.
    bounds: Option<(String, String)>,
    nulls: u64,
}

impl SegmentWriter {
    /// Starts a segment at `path`, where nothing shows until [`Self::finish`].
    pub(super) fn create(
        root: &Root,
        path: String,
        id: String,
        window: Window,
        precedence: u64,
        schema: SchemaRef,
    ) -> Result<Self> {
        let object = BufWriter::new(Arc::clone(root.objects()), Path::from(path.as_str()));
        let writer = AsyncArrowWriter::try_new(object, Arc::clone(&schema), Some(properties(&schema)?))
            .map_err(|e| parquet_error("start segment", &path, e))?;
        Ok(Self {
            root: root.clone(),
            path,
            id,
            window,
            precedence,
            schema,
            writer,
            rows: 0,
            times: None,
            tags: BTreeMap::new(),
        })
    }

    /// Appends rows that come after all before.
    pub(super) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = columns::adapt(batch, &self.schema)?;
        self.rows += batch.num_rows() as u64;
        for time in buffer::times(batch.column(0)) {
            let (min, max) = self.times.get_or_insert((*time, *time));
            *min = (*time).min(*min);
            *max = (*time).max(*max);
        }
        for tag in columns::tags(&self.schema) {
            let name = self.schema.field(tag).name();
            self.tags.entry(name.clone()).or_default().include(&batch, tag);
        }
        self.writer.write(&batch).await.map_err(|e| parquet_error("write segment", &self.path, e))
    }

    /// Bytes so far, about.
    pub(super) fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Finishes the file; durable on return.
    pub(super) async fn finish(mut self) -> Result<SegmentMeta> {
        self.writer.finish().await.map_err(|e| parquet_error("finish segment", &self.path, e))?;
        self.root.sync(&self.path).await?;
        let object = self.root.objects().head(&Path::from(self.path.as_str())).await;
        let object = object.map_err(|e| read_error("look at segment", &self.path, e))?;
        let (min_time, max_time) = self.times.unwrap_or((self.window.start, self.window.start));
        Ok(SegmentMeta {
            id: self.id,
            window_start: self.window.start,
            window_end: self.window.end,
            precedence: self.precedence,
            rows: self.rows,
            bytes: object.size,
            min_time,
            max_time,
            tags: self.tags.into_iter().filter_map(|(name, tag)| Some((name, tag.statistics()?))).collect(),
            columns: self.schema.fields().iter().filter_map(describe).collect(),
            path: self.path,
        })
    }
}

fn properties(schema: &Schema) -> Result<WriterProperties> {
    let zstd = ZstdLevel::try_new(1).map_err(|e| parquet_error("configure", "zstd", e))?;
    let tags = columns::tags(schema);
    let sorting = tags.chain([0]).map(|column| SortingColumn {
        column_idx: i32::try_from(column).unwrap_or(i32::MAX),
        descending: false,
        nulls_first: true,
    });
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(zstd))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(sorting.collect()))
        .set_created_by(concat!("barograph ", env!("CARGO_PKG_VERSION")).to_owned());
    for field in schema.fields() {
        let path = ColumnPath::from(field.name().as_str());
        properties = match field.data_type() {
            // Sorted within each series, so neighbours differ by the same interval again and again.
            DataType::Timestamp(..) => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            // Where values are few a dictionary is best; this is for where they are not.
            DataType::Float64 => properties.set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT),
            DataType::Int64 => properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            _ => properties,
        };
    }
    Ok(properties.build())
}

/// Reads a segment as sorted batches; with a projection only these columns, in the file's order. Opens the file at the
/// first poll.
pub(super) fn read_segment(
    objects: Arc<dyn ObjectStore>,
    meta: &SegmentMeta,
    projection: Option<Vec<String>>,
) -> BatchStream {
    let (location, bytes, path) = (meta.location(), meta.bytes, meta.path.clone());
    let open = async move {
        let reader = SegmentFile { objects, location, bytes };
        let mut builder = ParquetRecordBatchStreamBuilder::new(reader)
            .await
            .map_err(|e| parquet_error("open segment", &path, e))?
            .with_batch_size(READ_ROWS);
        if let Some(names) = projection {
            let names = names.iter().map(String::as_str);
            let mask = ProjectionMask::columns(builder.parquet_schema(), names);
            builder = builder.with_projection(mask);
        }
        let stream = builder.build().map_err(|e| parquet_error("read segment", &path, e))?;
        Ok::<_, Error>(stream.map_err(move |e| parquet_error("read segment", &path, e)))
    };
    futures::stream::once(open).try_flatten().boxed()
}

/// The schema of a segment's rows, without opening it.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if a later version wrote it with a kind of column that this one does not know.
pub(super) fn segment_schema(meta: &SegmentMeta) -> Result<SchemaRef> {
    let fields = meta.columns.iter().map(|column| {
        let data_type = match column.kind.as_str() {
            "time" => time_type(),
            "tag" => tag_type(),
            "float" => FieldType::Float.arrow(),
            "integer" => FieldType::Integer.arrow(),
            "boolean" => FieldType::Boolean.arrow(),
            "string" => FieldType::String.arrow(),
            other => {
                let reason = format!("the column {} is of the kind {other:?}", column.name);
                return Err(Error::new(ErrorKind::Unsupported, "read segment", reason)
                    .with_provider("store")
                    .with_resource(&meta.path));
            }
        };
        let nullable = data_type != time_type();
        Ok(Field::new(&column.name, data_type, nullable))
    });
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
}

fn describe(field: &FieldRef) -> Option<SegmentColumn> {
    let kind = match column_role(field)? {
        Role::Time => "time",
        Role::Tag => "tag",
        Role::Field => match FieldType::from_arrow(field.data_type())? {
            FieldType::Float => "float",
            FieldType::Integer => "integer",
            FieldType::Boolean => "boolean",
            FieldType::String => "string",
        },
    };
    Some(SegmentColumn { name: field.name().clone(), kind: kind.into() })
}

impl TagRange {
    /// Counts the values of a tag column in; strings are compared where the value changes.
    fn include(&mut self, batch: &RecordBatch, column: usize) {
        let Some(keys) = batch.column(column).as_dictionary_opt::<Int32Type>() else { return };
        let Some(values) = keys.values().as_string_opt::<i32>() else { return };
        let mut previous = None;
        for row in 0..keys.len() {
            let key = keys.key(row).filter(|key| values.is_valid(*key));
            match key {
                None => self.nulls += 1,
                Some(key) if previous != Some(key) => self.widen(values.value(key)),
                Some(_) => {}
            }
            previous = key.or(previous);
        }
    }

    fn widen(&mut self, value: &str) {
        let Some((min, max)) = &mut self.bounds else {
            self.bounds = Some((value.to_owned(), value.to_owned()));
            return;
        };
        if value < min.as_str() {
            value.clone_into(min);
        }
        if value > max.as_str() {
            value.clone_into(max);
        }
    }

    /// `None` if the tag is null in every row.
    fn statistics(self) -> Option<TagStatistics> {
        let (min, max) = self.bounds?;
        Some(TagStatistics { min, max, nulls: self.nulls })
    }
}

fn parquet_error(operation: &str, path: &str, error: parquet::errors::ParquetError) -> Error {
    let full = std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |e| e.source())
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded));
    let (kind, reason) = if full {
        (ErrorKind::Capacity, "the disk is full; free some space")
    } else {
        (ErrorKind::Unavailable, "the file cannot be written, is damaged or is gone")
    };
    Error::new(kind, operation, reason).with_provider("store").with_resource(path).with_source(error)
}

fn read_error(operation: &str, path: &str, error: object_store::Error) -> Error {
    Error::unavailable(operation, "the file cannot be read")
        .with_provider("store")
        .with_resource(path)
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Identity};
    use arrow::array::DictionaryArray;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    const ROWS: usize = 300_000;

    fn rows(count: usize) -> RecordBatch {
        let mut buffer = buffer::Buffer::default();
        let mut builder = BatchBuilder::new("cpu", &Identity::host("web-1")).unwrap();
        for row in 0..count {
            let core = (row % 3 > 0).then(|| (row % 3).to_string());
            let mut row = builder.row(row as i64);
            row.set("core", core.as_ref()).unwrap().set("utilization", 0.25).unwrap();
        }
        buffer.push(builder.finish().unwrap().into_records());
        buffer.sorted(usize::MAX).unwrap().remove(0)
    }

    async fn written(root: &Root, batch: &RecordBatch) -> SegmentMeta {
        let window = Window { start: 0, end: 1_000_000 };
        let path = "segments/cpu/one.parquet".to_owned();
        let mut writer = SegmentWriter::create(root, path, "one".into(), window, 7, batch.schema()).unwrap();
        for start in (0..batch.num_rows()).step_by(10_000) {
            writer.write(&batch.slice(start, 10_000.min(batch.num_rows() - start))).await.unwrap();
        }
        writer.finish().await.unwrap()
    }

    #[tokio::test]
    async fn a_segment_gives_back_what_was_written_and_describes_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        let batch = rows(ROWS);
        let meta = written(&root, &batch).await;
        assert_eq!((meta.rows, meta.min_time, meta.max_time), (ROWS as u64, 0, ROWS as i64 - 1));
        assert_eq!(
            meta.tags["core"],
            TagStatistics { min: "1".into(), max: "2".into(), nulls: ROWS as u64 / 3 }
        );
        assert!(!meta.tags.contains_key("zone"), "a tag that is all null has no statistics");
        assert_eq!(segment_schema(&meta).unwrap(), batch.schema());
        assert_eq!(meta.bytes, std::fs::metadata(folder.path().join(&meta.path)).unwrap().len());

        let read: Vec<_> = read_segment(Arc::clone(root.objects()), &meta, None).try_collect().await.unwrap();
        let read = arrow::compute::concat_batches(&batch.schema(), &read).unwrap();
        assert_eq!(read, batch);
        let some = Some(vec!["time".to_owned(), "utilization".to_owned()]);
        let some: Vec<_> = read_segment(Arc::clone(root.objects()), &meta, some).try_collect().await.unwrap();
        assert_eq!(some[0].num_columns(), 2);
    }

    /// Queries skip segments by these bounds, so an empty value must stay inside them.
    #[tokio::test]
    async fn an_empty_tag_is_a_value_and_keeps_its_place_in_the_statistics() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        let zones = |zones: &[Option<&str>]| {
            let batch = rows(zones.len());
            let zones: DictionaryArray<Int32Type> = zones.iter().copied().collect();
            let mut columns = batch.columns().to_vec();
            columns[batch.schema().index_of("zone").unwrap()] = Arc::new(zones);
            RecordBatch::try_new(batch.schema(), columns).unwrap()
        };
        for (values, min, max, nulls) in [
            (&[None, Some(""), Some("b")][..], "", "b", 1),
            (&[Some("a"), Some("b")], "a", "b", 0),
            (&[Some("")], "", "", 0),
        ] {
            let meta = written(&root, &zones(values)).await;
            assert_eq!(meta.tags["zone"], TagStatistics { min: min.into(), max: max.into(), nulls });
        }
        assert!(!written(&root, &zones(&[None, None])).await.tags.contains_key("zone"));
    }

    #[tokio::test]
    async fn the_file_says_how_it_is_sorted_and_has_a_page_index() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        let meta = written(&root, &rows(ROWS)).await;
        let file = std::fs::File::open(folder.path().join(&meta.path)).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let groups = reader.metadata().row_groups();
        assert_eq!(groups.iter().map(|group| group.num_rows()).collect::<Vec<_>>(), [262_144, 37_856]);
        let sorting = groups[0].sorting_columns().unwrap();
        let tags = meta.columns.iter().filter(|column| column.kind == "tag").count();
        assert_eq!(sorting.len(), tags + 1, "the tags, then time");
        assert_eq!(sorting.last().unwrap().column_idx, 0);
        for column in groups[0].columns() {
            assert!(column.column_index_offset().is_some() && column.offset_index_offset().is_some());
            assert!(matches!(column.compression(), Compression::ZSTD(_)));
        }
    }

    #[tokio::test]
    async fn an_unfinished_segment_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        let batch = rows(100);
        let window = Window { start: 0, end: 1 };
        let path = "segments/cpu/one.parquet";
        let mut writer =
            SegmentWriter::create(&root, path.into(), "one".into(), window, 1, batch.schema()).unwrap();
        writer.write(&batch).await.unwrap();
        drop(writer);
        assert!(!folder.path().join(path).exists());
    }

    #[tokio::test]
    async fn a_file_that_is_gone_or_damaged_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        let meta = written(&root, &rows(100)).await;
        let path = folder.path().join(&meta.path);
        std::fs::write(&path, vec![0; meta.bytes as usize]).unwrap();
        for _ in 0..2 {
            let mut stream = read_segment(Arc::clone(root.objects()), &meta, None);
            let error = stream.next().await.unwrap().unwrap_err();
            assert!(error.to_string().contains("one.parquet"), "{error}");
            drop(std::fs::remove_file(&path));
        }
    }
}
