//! From sources to sinks: the schedule, the one bounded channel, the transforms, a queue per sink, and the
//! acknowledgements that travel back and move the checkpoints.
//!
//! ```text
//! collect ──┐                                ┌─ queue ─ deliver ─ sink
//! collect ──┼─ channel ─ carry (transforms) ─┤
//! collect ──┘                                └─ queue ─ deliver ─ sink
//!    ▲                                                     │
//!    └───── window ───── acknowledgement ◄──── settled ────┘
//! ```
//!
//! Each box is a task (a source has one more for each collection in progress); what stands between them is bounded.
//! Nothing here knows a concrete source, transform or sink but [`plan`].

mod account;
mod acknowledgement;
mod backoff;
mod carry;
mod checkpoint;
mod clock;
mod collect;
mod dead_letter;
mod deliver;
mod log_limit;
mod metrics;
mod monitor;
pub mod plan;
mod queue;
mod reload;
mod runner;
mod running;
mod schedule;

pub use account::{Account, Balance, Policy};
pub use acknowledgement::{Checkpoints, Marks};
pub use backoff::Backoff;
pub use checkpoint::CheckpointFile;
pub use clock::{Clock, SystemClock};
pub use deliver::OpenSink;
pub use metrics::Metrics;
pub use monitor::{
    Monitor, SinkNumbers, SinkPhase, SinkView, SourceNumbers, SourcePhase, SourceView, TransformNumbers, View,
};
pub use plan::Plan;
pub use queue::Overflow;
pub use runner::{Ending, Runner};
pub use schedule::{Schedule, Tick};

#[cfg(test)]
mod doubles;
#[cfg(test)]
mod tests;
