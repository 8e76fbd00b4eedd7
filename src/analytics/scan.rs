//! Physical plans for the parts of a table.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::catalog::memory::{DataSourceExec, MemorySourceConfig};
use datafusion::common::Statistics;
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};

use super::merge::MergeExec;
use super::part::{Part, Source, spread};
use super::session::store_url;
use crate::model::{Role, column_role};
use crate::store::{SegmentMeta, columns};

/// One read of a table: which columns, how many rows, for which session.
pub(super) struct Scan<'a> {
    state: &'a dyn Session,
    schema: &'a SchemaRef,
    /// Columns to give, as positions in `schema`.
    projection: Vec<usize>,
    limit: Option<usize>,
}

impl Part {
    /// Sorts the part into files or runs.
    pub(super) fn split(self, files: &mut Vec<Part>, runs: &mut Vec<Part>) {
        match self.source {
            Source::Segment(_) => files.push(self),
            Source::Run(_) => runs.push(self),
        }
    }
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        state: &'a dyn Session,
        schema: &'a SchemaRef,
        projection: Vec<usize>,
        limit: Option<usize>,
    ) -> Self {
        Self { state, schema, projection, limit }
    }

    /// Schema of the rows.
    pub(super) fn projected_schema(&self) -> Result<SchemaRef> {
        Ok(Arc::new(self.schema.project(&self.projection)?))
    }

    fn partitions(&self) -> usize {
        self.state.config().target_partitions()
    }

    /// Files of which no two share a key: scanned by DataFusion itself, the newest first, because people ask for the
    /// newest and a filter on time that tightens while it runs then skips the rest.
    pub(super) fn files(&self, mut files: Vec<Part>) -> Result<Arc<dyn ExecutionPlan>> {
        files.sort_by_key(|part| std::cmp::Reverse(part.times.1));
        let statistics = Statistics::try_merge_iter(files.iter().map(|part| &*part.statistics), self.schema)?;
        let groups = spread(files, self.partitions(), |part| part.rows).into_iter().map(|group| {
            let merged = Statistics::try_merge_iter(group.iter().map(|part| &*part.statistics), self.schema)?;
            let files = group.iter().filter_map(file).collect();
            Ok(FileGroup::new(files).with_statistics(Arc::new(merged)))
        });
        let config = self
            .file_scan()?
            .with_file_groups(groups.collect::<Result<_>>()?)
            .with_statistics(statistics)
            .with_limit(self.limit)
            .with_projection_indices(Some(self.projection.clone()))?;
        Ok(DataSourceExec::from_data_source(config.build()))
    }

    /// Rows in memory of which no two share a key.
    pub(super) fn runs(&self, runs: Vec<Part>) -> Result<Arc<dyn ExecutionPlan>> {
        let mut batches = Vec::new();
        for part in runs {
            if let Source::Run(run) = part.source {
                for batch in &run {
                    batches.push(columns::adapt(batch, self.schema).map_err(external)?);
                }
            }
        }
        let partitions = spread(batches, self.partitions(), |batch| batch.num_rows() as u64);
        let config =
            MemorySourceConfig::try_new(&partitions, Arc::clone(self.schema), Some(self.projection.clone()))?
                .with_limit(self.limit);
        Ok(DataSourceExec::from_data_source(config))
    }

    /// Groups of parts that overlap: merged by key. The merge needs all key columns; what was not asked for is
    /// dropped above it.
    pub(super) fn merged(&self, groups: Vec<Vec<Part>>) -> Result<Arc<dyn ExecutionPlan>> {
        let read: Vec<usize> = (0..self.schema.fields().len())
            .filter(|index| self.is_key(*index) || self.projection.contains(index))
            .collect();
        let schema: SchemaRef = Arc::new(self.schema.project(&read)?);
        let mut children = Vec::new();
        let mut shares = Vec::new();
        for share in spread(groups, self.partitions(), |group| group.iter().map(|part| part.rows).sum()) {
            let mut sources = Vec::new();
            for group in share {
                let first = children.len();
                for part in group {
                    children.push(self.sorted(part, &read)?);
                }
                sources.push(first..children.len());
            }
            shares.push(sources);
        }
        let ordering = key_ordering(&schema);
        let merge = MergeExec::new(Arc::clone(&schema), children, shares, ordering, self.limit);
        if read == self.projection {
            return Ok(Arc::new(merge));
        }
        let wanted = self.projected_schema()?;
        let columns = wanted.fields().iter().map(|field| {
            let column = Column::new_with_schema(field.name(), &schema)?;
            Ok(ProjectionExpr::new(Arc::new(column), field.name()))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(columns, Arc::new(merge))?))
    }

    /// One part as one partition in the order of its key.
    fn sorted(&self, part: Part, read: &[usize]) -> Result<Arc<dyn ExecutionPlan>> {
        let ordering: Vec<_> = key_ordering(self.schema).into_iter().collect();
        match &part.source {
            Source::Segment(_) => {
                let group = FileGroup::new(file(&part).into_iter().collect())
                    .with_statistics(Arc::clone(&part.statistics));
                let config = self
                    .file_scan()?
                    .with_file_groups(vec![group])
                    .with_statistics(Statistics::clone(&part.statistics))
                    .with_output_ordering(ordering)
                    .with_projection_indices(Some(read.to_vec()))?;
                Ok(DataSourceExec::from_data_source(config.build()))
            }
            Source::Run(run) => {
                let run: Vec<_> = run
                    .iter()
                    .map(|batch| columns::adapt(batch, self.schema).map_err(external))
                    .collect::<Result<_>>()?;
                let config =
                    MemorySourceConfig::try_new(&[run], Arc::clone(self.schema), Some(read.to_vec()))?
                        .try_with_sort_information(ordering)?;
                Ok(DataSourceExec::from_data_source(config))
            }
        }
    }

    fn is_key(&self, index: usize) -> bool {
        self.schema.fields().get(index).is_some_and(|field| column_role(field) != Some(Role::Field))
    }

    /// A scan of Parquet files with the session's options, reading footers through the engine's cache.
    fn file_scan(&self) -> Result<FileScanConfigBuilder> {
        let options = TableParquetOptions {
            global: self.state.config_options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let runtime = self.state.runtime_env();
        let url = store_url()?;
        let objects = runtime.object_store(&url)?;
        let footers = runtime.cache_manager.get_file_metadata_cache();
        let source = ParquetSource::new(Arc::clone(self.schema))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(CachedParquetFileReaderFactory::new(
                objects, footers,
            )));
        Ok(FileScanConfigBuilder::new(url, Arc::new(source)))
    }
}

/// The file of a part that is a segment.
fn file(part: &Part) -> Option<PartitionedFile> {
    match &part.source {
        Source::Segment(segment) => Some(partitioned(segment).with_statistics(Arc::clone(&part.statistics))),
        Source::Run(_) => None,
    }
}

fn partitioned(segment: &SegmentMeta) -> PartitionedFile {
    PartitionedFile::new(segment.path.clone(), segment.bytes)
}

/// The order that parts are sorted in: tags in column order, nulls first, then `time`.
fn key_ordering(schema: &Schema) -> Option<LexOrdering> {
    let ascending = SortOptions { descending: false, nulls_first: true };
    let columns = |role: Role| {
        let fields = schema.fields().iter().enumerate();
        fields.filter(move |(_, field)| column_role(field) == Some(role)).map(move |(index, field)| {
            PhysicalSortExpr::new(Arc::new(Column::new(field.name(), index)), ascending)
        })
    };
    LexOrdering::new(columns(Role::Tag).chain(columns(Role::Time)))
}

/// One of our errors as one of DataFusion's, to be recognised when it comes back.
pub(super) fn external(error: crate::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
