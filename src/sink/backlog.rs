//! How much a sink may keep on disk while the other side does not take its rows.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Size;

/// The durable backlog of a sink: what was accepted waits here until the other side has acknowledged it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Its folder; `backlog/NAME` in the data folder if left out.
    pub path: Option<PathBuf>,
    /// The most that it takes of the disk.
    pub max_bytes: Size,
    /// What happens when it has reached that, or the disk is full.
    pub when_full: WhenFull,
}

/// What happens to rows when a backlog is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// The pipeline waits, and so do the sources: nothing is lost that can wait.
    #[default]
    Block,
    /// The oldest rows are dropped, a segment of the log at a time, and counted.
    DropOldest,
}

impl Default for Config {
    fn default() -> Self {
        Self { path: None, max_bytes: Size(10 << 30), when_full: WhenFull::default() }
    }
}
