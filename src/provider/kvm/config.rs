//! What a `kvm` source takes in the pipeline file.

use std::path::PathBuf;

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
    /// File with named sizes of guests to make or resize: `small: { vcpus: 1, memory: 512MiB }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<PathBuf>,
    /// File with what guests cost: `currency`, `as_of`, `vcpu_hour`, `memory_gib_hour`, `volume_gib_month`, `sizes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            uri: "qemu:///system".into(),
            deadline: Span::seconds(2),
            relist: Span::seconds(300),
            max_balloon_age: Span::seconds(60),
            sizes: None,
            prices: None,
        }
    }
}
