//! What a `host` source takes in the pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Measures the machine that Barograph runs on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Mount points to leave out, as prefixes: `/run`, `/var/lib/docker`.
    pub ignore_mountpoints: Vec<String>,
    /// Block devices to leave out, as prefixes: `loop`, `ram`.
    #[serde(default = "ignored_devices")]
    pub ignore_devices: Vec<String>,
    /// Network interfaces to leave out, as prefixes.
    pub ignore_interfaces: Vec<String>,
}

fn ignored_devices() -> Vec<String> {
    vec!["loop".into(), "ram".into()]
}
