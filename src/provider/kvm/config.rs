//! What a `kvm` source takes in the pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Span;

/// Measures the guests of one libvirt connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Connection URI.
    pub uri: String,
    /// How long the slow statistics may take before the guests that did not answer count as stuck.
    pub deadline: Span,
    /// Every how long the list of guests is read again beside the lifecycle events.
    pub relist: Span,
    /// Balloon statistics older than this are left out.
    pub max_balloon_age: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            uri: "qemu:///system".into(),
            deadline: Span::seconds(2),
            relist: Span::seconds(300),
            max_balloon_age: Span::seconds(60),
        }
    }
}
