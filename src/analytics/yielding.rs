//! Makes plans give way: a query that never returns to the scheduler could be neither timed out nor cancelled.
//!
//! The engine's sources yield by themselves, but an operator with several inputs can turn one batch of its source into
//! millions of rows before it asks for the next one.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::SchedulingType;

/// The plan, with every operator that multiplies rows yielding by the number of batches it gives.
pub(super) fn yielding(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let wrapped = plan.transform_up(|plan| {
        let multiplies = plan.children().len() > 1;
        Ok(match plan.properties().scheduling_type {
            SchedulingType::NonCooperative if multiplies => {
                Transformed::yes(Arc::new(CooperativeExec::new(plan)) as Arc<dyn ExecutionPlan>)
            }
            _ => Transformed::no(plan),
        })
    })?;
    Ok(wrapped.data)
}
