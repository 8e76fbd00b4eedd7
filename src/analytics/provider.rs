//! A table of a snapshot as DataFusion sees it.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;

use super::part::{Part, overlapping, parts};
use super::scan::Scan;
use super::statistics::SideBySide;
use crate::model::{Role, column_role};
use crate::store::TableSnapshot;

/// Longest `IN (...)` list that is compared with the statistics; a dashboard may name hundreds of resources.
const LONGEST_LIST: usize = 1_000;

/// Reads one table of a snapshot.
#[derive(Debug)]
pub(super) struct StoreTable {
    table: TableSnapshot,
    /// Names of the columns that make up the key: `time` and the tags.
    key: HashSet<String>,
}

impl StoreTable {
    pub(super) fn new(table: TableSnapshot) -> Self {
        let fields = table.schema.fields().iter();
        let key = fields.filter(|field| column_role(field) != Some(Role::Field));
        let key = key.map(|field| field.name().clone()).collect();
        Self { table, key }
    }

    /// Whether a filter looks at the key alone. Only then all versions of a row pass or fail together, so that parts
    /// may be left out, and rows dropped, before they are merged. A filter on a field would let an older value rise
    /// from the dead.
    fn filters_keys(&self, filter: &Expr) -> bool {
        let columns = filter.column_refs();
        !columns.is_empty()
            && !filter.is_volatile()
            && columns.iter().all(|column| self.key.contains(&column.name))
    }

    /// The parts that can hold rows which pass the filters, by the statistics of the manifest.
    fn surviving(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<Part>> {
        let all = parts(&self.table);
        let filters: Vec<_> = filters.iter().filter(|filter| self.filters_keys(filter)).cloned().collect();
        let Some(filter) = conjunction(filters) else {
            return Ok(all);
        };
        let schema = DFSchema::try_from(Arc::clone(&self.table.schema))?;
        let filter: Arc<dyn PhysicalExpr> = state.create_physical_expr(filter, &schema)?;
        let Some(predicate) = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(&self.table.schema))
            .with_max_in_list_size(LONGEST_LIST)
            .build(filter)
        else {
            // A filter that statistics cannot answer; it is applied to the rows.
            return Ok(all);
        };
        let keep = predicate.prune(&SideBySide { parts: &all, schema: &self.table.schema })?;
        Ok(all.into_iter().zip(keep).filter_map(|(part, keep)| keep.then_some(part)).collect())
    }
}

#[async_trait]
impl TableProvider for StoreTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match self.filters_keys(filter) {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let everything = (0..self.table.schema.fields().len()).collect();
        let projection = projection.cloned().unwrap_or(everything);
        let scan = Scan::new(state, &self.table.schema, projection, limit);
        let mut files = Vec::new();
        let mut runs = Vec::new();
        let mut overlaps = Vec::new();
        for mut group in overlapping(self.surviving(state, filters)?) {
            match group.pop() {
                Some(part) if group.is_empty() => part.split(&mut files, &mut runs),
                Some(part) => {
                    group.push(part);
                    overlaps.push(group);
                }
                None => {}
            }
        }
        let mut plans = Vec::new();
        if !files.is_empty() {
            plans.push(scan.files(files)?);
        }
        if !runs.is_empty() {
            plans.push(scan.runs(runs)?);
        }
        if !overlaps.is_empty() {
            plans.push(scan.merged(overlaps)?);
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(scan.projected_schema()?))),
            _ => UnionExec::try_new(plans),
        }
    }
}
