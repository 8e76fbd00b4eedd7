//! From a checked configuration to the parts of a pipeline, not yet started. The only file of this room that knows
//! concrete kinds of sources, transforms and sinks.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::deliver::OpenSink;
use super::queue::Overflow;
use crate::Result;
use crate::provider::Collector;
use crate::transform::Transform;

/// What is to run.
pub struct Plan {
    /// The pipeline's name.
    pub name: String,
    /// Folder of the checkpoints and dead letters.
    pub data: PathBuf,
    /// How long a stop may take to bring the rows on their way to the sinks.
    pub drain: Duration,
    /// In file order.
    pub sources: Vec<SourcePlan>,
    /// In file order, which is the order that rows pass them.
    pub transforms: Vec<TransformPlan>,
    /// In file order.
    pub sinks: Vec<SinkPlan>,
}

/// A source to be built.
pub struct SourcePlan {
    /// Name in the pipeline file.
    pub name: String,
    /// Its interval.
    pub every: Duration,
    /// Longest time for one collection.
    pub deadline: Duration,
    /// The running source of this name has the same configuration and may go on.
    pub unchanged: bool,
    /// Makes the collector.
    pub build: BuildSource,
}

/// Makes a collector; connects nowhere yet.
pub type BuildSource = Box<dyn Fn() -> Result<Arc<dyn Collector>> + Send + Sync>;

/// A transform, ready to use.
pub struct TransformPlan {
    /// The kind, as in the pipeline file.
    pub kind: &'static str,
    /// The transform.
    pub transform: Box<dyn Transform>,
}

/// A sink to be opened.
#[derive(Clone)]
pub struct SinkPlan {
    /// Name in the pipeline file.
    pub name: String,
    /// The running sink of this name has the same configuration and may stay open.
    pub unchanged: bool,
    /// Rows that may wait for it.
    pub queue_rows: usize,
    /// Rows written together at most, if they come in smaller parcels.
    pub batch_rows: usize,
    /// What happens when its queue is full.
    pub overflow: Overflow,
    /// Opens it.
    pub open: OpenSink,
}
