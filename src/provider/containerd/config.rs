//! What a `containerd` source takes in the pipeline file, and what its containers are managed with.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Span;
use crate::provider::mapping::{self, Rule, Wrong};

/// Measures the containers of one containerd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Path of containerd's socket.
    pub socket: String,
    /// Namespaces to look into; all if left out.
    pub namespaces: Vec<String>,
    /// Namespaces to leave out.
    pub exclude_namespaces: Vec<String>,
    /// How long containers may take to answer before those that did not count as stuck.
    pub deadline: Span,
    /// Every how long the containers are listed again beside the events.
    pub relist: Span,
    /// Every how long it is read what containers take on the disk; `0s` for never.
    pub usage_every: Span,
    /// Figures of the runtime's that are measured beside the built-in ones.
    pub metrics: Vec<Rule>,
    /// File with named sizes of containers to make or resize: `small: { vcpus: 0.5, memory: 256MiB }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<PathBuf>,
    /// File with what containers cost: `currency`, `as_of`, `vcpu_hour`, `memory_gib_hour`, `sizes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: "/run/containerd/containerd.sock".into(),
            namespaces: Vec::new(),
            exclude_namespaces: Vec::new(),
            deadline: Span::seconds(2),
            relist: Span::seconds(60),
            usage_every: Span::seconds(60),
            metrics: Vec::new(),
            sizes: None,
            prices: None,
        }
    }
}

/// The groups of figures that containers have: the first parts of their names, in control groups of either version, and
/// what is made of them.
pub(super) const GROUPS: [&str; 11] = [
    "cpu",
    "memory",
    "pids",
    "blkio",
    "io",
    "hugetlb",
    "rdma",
    "network",
    "memory_oom_control",
    "memory_events",
    "derived",
];

impl Config {
    /// What is wrong with `metrics`.
    pub fn wrong_metrics(&self) -> Vec<Wrong> {
        mapping::check(&self.metrics, &GROUPS)
    }

    /// Whether a namespace is to be looked into.
    pub fn has(&self, namespace: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == namespace);
        (self.namespaces.is_empty() || named(&self.namespaces)) && !named(&self.exclude_namespaces)
    }
}

/// Why a text cannot be the name of a namespace, if it cannot. containerd's rule: letters and digits in groups that are
/// joined by one of `.`, `_` and `-`, at most 76 of all.
pub fn bad_namespace(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 76 {
        return Some("a namespace has 1 to 76 characters");
    }
    let groups = || name.split(['.', '_', '-']);
    let good = groups().all(|group| !group.is_empty() && group.chars().all(|c| c.is_ascii_alphanumeric()));
    (!good).then_some("a namespace is letters and digits, with single `.`, `_` or `-` between them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_chosen_by_both_lists() {
        let config = |namespaces: &[&str], exclude: &[&str]| Config {
            namespaces: namespaces.iter().map(ToString::to_string).collect(),
            exclude_namespaces: exclude.iter().map(ToString::to_string).collect(),
            ..Config::default()
        };
        assert!(config(&[], &[]).has("a"));
        assert!(!config(&[], &["a"]).has("a"));
        assert!(config(&["a"], &[]).has("a"));
        assert!(!config(&["b"], &[]).has("a"));
        assert!(!config(&["a"], &["a"]).has("a"));
    }

    #[test]
    fn a_namespace_is_what_containerd_takes() {
        for good in ["default", "k8s.io", "a-b_c.d", "0"] {
            assert_eq!(bad_namespace(good), None, "{good}");
        }
        for bad in ["", "-a", "a..b", "a/b", "a b", "ä", "a\n", &"a".repeat(77)] {
            assert!(bad_namespace(bad).is_some(), "{bad}");
        }
    }
}
