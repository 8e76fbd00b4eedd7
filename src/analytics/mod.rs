//! SQL over the store: a DataFusion session that reads one snapshot, read-only and bounded in time and memory.
//!
//! [`Engine::query`] checks the statement ([`guard`]), offers the tables of the snapshot ([`session`],
//! [`provider`]), plans, and hands back a stream of batches ([`answer`]). A table is read in parts ([`part`]): what
//! does not overlap in time with anything else is scanned straight ([`scan`]), the rest goes through the merge of
//! the store ([`merge`]), where the last value that is not null wins.

mod answer;
mod engine;
mod explain;
mod guard;
mod merge;
mod part;
mod provider;
pub mod resources;
mod scan;
mod session;
mod statistics;
mod tables;
#[cfg(test)]
mod tests;
mod yielding;

pub use answer::Answer;
pub use engine::{Engine, EngineOptions, longest_timeout};
pub use tables::TableInfo;
