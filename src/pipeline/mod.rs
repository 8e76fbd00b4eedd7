//! From sources to sinks: the schedule, the one bounded channel, the transforms, a queue per sink, and the
//! acknowledgements that travel back and move the checkpoints.
//!
//! ```text
//! collect ──┐                                ┌─ queue ─────────────────── deliver ─ sink that is durable itself
//! collect ──┼─ channel ─ carry (transforms) ─┤
//! collect ──┘                                └─ queue ─ backlog ─ lanes ─ deliver ─ sink beyond a network
//!    ▲                                                     │
//!    └───── window ───── acknowledgement ◄──── settled ────┘
//! ```
//!
//! Each box is a task (a source has one more for each collection in progress); what stands between them is bounded.
//! Nothing here knows a concrete source, transform or sink but [`plan`].

mod account;
mod acknowledgement;
mod backlog;
mod backoff;
mod carry;
mod checkpoint;
mod clock;
mod collect;
mod dead_letter;
mod deliver;
mod lanes;
mod log_limit;
mod metrics;
mod monitor;
pub mod plan;
mod queue;
mod reload;
mod runner;
mod running;
mod schedule;
mod target;

pub use account::{Account, Balance, Policy};
pub use acknowledgement::{Checkpoints, Marks};
pub use backlog::BacklogPlan;
pub use backoff::Backoff;
pub use checkpoint::CheckpointFile;
pub use clock::{Clock, SystemClock};
pub use dead_letter::{Entry, Letter, LetterFolder, Replayed};
pub use deliver::OpenSink;
pub use metrics::Metrics;
pub use monitor::{
    BacklogNumbers, Monitor, SinkNumbers, SinkPhase, SinkView, SourceNumbers, SourcePhase, SourceView,
    TransformNumbers, View,
};
pub use plan::Plan;
pub use queue::{Batching, Overflow};
pub use runner::{Ending, Runner};
pub use schedule::{Schedule, Tick};

#[cfg(test)]
mod doubles;
#[cfg(test)]
mod tests;
