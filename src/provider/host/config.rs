//! What a `host` source takes in the pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Measures the machine that Barograph runs on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Mount points to leave out, as prefixes: `/run`, `/var/lib/docker`.
    pub ignore_mountpoints: Vec<String>,
    /// Block devices to leave out, as prefixes: `loop`, `ram`.
    pub ignore_devices: Vec<String>,
    /// Network interfaces to leave out, as prefixes.
    pub ignore_interfaces: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ignore_mountpoints: Vec::new(),
            ignore_devices: vec!["loop".into(), "ram".into()],
            ignore_interfaces: Vec::new(),
        }
    }
}
