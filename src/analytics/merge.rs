//! The merge of the store as a node of the plan.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{
    Distribution, EquivalenceProperties, LexOrdering, OrderingRequirements, Partitioning, PhysicalExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, FilterDescription, FilterPushdownPhase,
};
use datafusion::physical_plan::limit::LimitStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, PlanProperties,
    ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::scan::external;
use crate::Error;
use crate::model::{Role, column_role};
use crate::store::merge::{BatchStream, merge};

/// Merges groups of sorted inputs by key; the last value that is not null wins. Groups have no key in common; each
/// output partition works through its groups one after the other, so that only their inputs are open.
#[derive(Debug, Clone)]
pub(super) struct MergeExec {
    schema: SchemaRef,
    /// Inputs of all groups; each has one partition sorted by key. Inside a group they stand in rising precedence.
    children: Vec<Arc<dyn ExecutionPlan>>,
    /// For each output partition its groups, as ranges of `children`.
    partitions: Arc<Vec<Vec<Range<usize>>>>,
    /// Order of the inputs.
    ordering: Option<LexOrdering>,
    /// Rows after which a partition stops.
    fetch: Option<usize>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl MergeExec {
    pub(super) fn new(
        schema: SchemaRef,
        children: Vec<Arc<dyn ExecutionPlan>>,
        partitions: Vec<Vec<Range<usize>>>,
        ordering: Option<LexOrdering>,
        fetch: Option<usize>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            schema,
            children,
            partitions: Arc::new(partitions),
            ordering,
            fetch,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// Starts the merge of one group.
    fn merge_group(&self, group: Range<usize>, context: &Arc<TaskContext>) -> Result<BatchStream> {
        let inputs = self.children.get(group).unwrap_or_default();
        let sources = inputs.iter().map(|child| {
            let input = child.execute(0, Arc::clone(context))?;
            Ok(input.map_err(from_input).boxed())
        });
        let sources = sources.collect::<Result<Vec<_>>>()?;
        Ok(merge(sources, Arc::clone(&self.schema), context.session_config().batch_size()))
    }
}

/// Carries an error of an input through the merge; it is taken out again where the query's errors are explained.
fn from_input(error: datafusion::error::DataFusionError) -> Error {
    Error::unavailable("read a part of the table", "its rows could not be read").with_source(error)
}

impl DisplayAs for MergeExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: usize = self.partitions.iter().map(Vec::len).sum();
        match format {
            DisplayFormatType::TreeRender => write!(f, "groups={groups}")?,
            _ => write!(f, "MergeExec: groups={groups}, inputs={}", self.children.len())?,
        }
        match self.fetch {
            Some(fetch) => write!(f, ", fetch={fetch}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for MergeExec {
    fn name(&self) -> &'static str {
        "MergeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.children.iter().collect()
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.len() != self.children.len() {
            return datafusion::common::internal_err!("MergeExec keeps its number of inputs");
        }
        // Nothing of the properties depends on the inputs.
        Ok(Arc::new(Self { children, metrics: ExecutionPlanMetricsSet::new(), ..Self::clone(&self) }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::ChildrenPropertiesMode;
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition; self.children.len()])
    }

    fn required_input_ordering(&self) -> Vec<Option<OrderingRequirements>> {
        vec![self.ordering.clone().map(OrderingRequirements::from); self.children.len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children.len()]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let limited = BaselineMetrics::new(&ExecutionPlanMetricsSet::new(), partition);
        let groups = self.partitions.get(partition).cloned().unwrap_or_default();
        let this = self.clone();
        let merged = stream::iter(groups)
            .map(move |group| this.merge_group(group, &context).map(|rows| rows.map_err(external)))
            .try_flatten()
            .inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
        let merged = Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), merged));
        Ok(match self.fetch {
            Some(fetch) => Box::pin(LimitStream::new(merged, 0, Some(fetch), limited)),
            None => merged,
        })
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, _partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(None); self.children.len()]
    }

    /// Merging removes versions of rows, never a key: the extremes of key columns stay what they were, all counts
    /// become upper bounds.
    fn statistics_from_inputs(
        &self,
        inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let wanted: Vec<Range<usize>> = match args.partition() {
            Some(partition) => self.partitions.get(partition).cloned().unwrap_or_default(),
            None => std::iter::once(0..inputs.len()).collect(),
        };
        let inputs = wanted.into_iter().flat_map(|range| inputs.get(range).unwrap_or_default());
        let inputs = Statistics::try_merge_iter(inputs.map(AsRef::as_ref), &self.schema)?;
        let mut merged = inputs.clone().to_inexact();
        let columns = merged.column_statistics.iter_mut().zip(inputs.column_statistics);
        for (field, (column, exact)) in self.schema.fields().iter().zip(columns) {
            if column_role(field) != Some(Role::Field) {
                column.min_value = exact.min_value;
                column.max_value = exact.max_value;
            }
        }
        Ok(Arc::new(match self.fetch {
            Some(fetch) => merged.to_inexact().with_fetch(Some(fetch), 0, self.partitions.len())?,
            None => merged,
        }))
    }

    fn supports_limit_pushdown(&self) -> bool {
        // The inputs hold more rows than the merge gives.
        false
    }

    fn with_fetch(&self, fetch: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self { fetch, metrics: ExecutionPlanMetricsSet::new(), ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    /// Lets filters through that look at nothing but the key: all versions of a row pass them or none. A filter on a
    /// field stays above, where the row is whole.
    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        if self.fetch.is_some() {
            // The limit counts rows before the filter.
            return Ok(FilterDescription::all_unsupported(&filters, &self.children()));
        }
        let fields = self.schema.fields().iter().enumerate();
        let key: std::collections::HashSet<usize> =
            fields.filter(|(_, field)| column_role(field) != Some(Role::Field)).map(|(i, _)| i).collect();
        self.children.iter().try_fold(FilterDescription::new(), |description, child| {
            let child =
                ChildFilterDescription::from_child_with_allowed_indices(&filters, key.clone(), child)?;
            Ok(description.with_child(child))
        })
    }
}
