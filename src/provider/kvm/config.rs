//! What a `kvm` source takes in the pipeline file.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Span;
use crate::provider::mapping::{self, Rule, Wrong};

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
    /// Every how long the use of storage pools and volumes is read; `0s` for never.
    pub storage_every: Span,
    /// Statistics of libvirt's that are measured beside the built-in ones.
    pub metrics: Vec<Rule>,
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
            storage_every: Span::seconds(60),
            metrics: Vec::new(),
            sizes: None,
            prices: None,
        }
    }
}

/// The groups of statistics that libvirt has: the first parts of their names.
pub(super) const GROUPS: [&str; 11] =
    ["state", "cpu", "balloon", "vcpu", "net", "block", "perf", "iothread", "memory", "dirtyrate", "vm"];

/// Transports that reach another machine, for which a URI must name it.
const REMOTE: [&str; 6] = ["tcp", "tls", "ssh", "libssh", "libssh2", "ext"];

impl Config {
    /// What is wrong with `metrics`.
    pub fn wrong_metrics(&self) -> Vec<Wrong> {
        mapping::check(&self.metrics, &GROUPS)
    }

    /// What is wrong with `uri`, if something is; what would be right comes behind a semicolon. Nothing of the URI is
    /// repeated.
    pub fn wrong_uri(&self) -> Option<String> {
        let uri = &self.uri;
        let wrong = |text: &str| Some(text.to_owned());
        if uri.is_empty() {
            return wrong("the connection URI is empty; write for example qemu:///system");
        }
        if uri.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return wrong(
                "the connection URI holds a space or a control character; write %20 and the like instead",
            );
        }
        let Some((scheme, rest)) = uri.split_once("://") else {
            return wrong(
                "the connection URI has no `://`; write for example qemu:///system or qemu+ssh://host/system",
            );
        };
        let (driver, transport) = match scheme.split_once('+') {
            Some((driver, transport)) => (driver, Some(transport)),
            None => (scheme, None),
        };
        if driver.is_empty() || !driver.chars().all(|c| c.is_ascii_alphanumeric()) {
            return wrong("the connection URI begins with no driver; write for example qemu:///system");
        }
        if let Some(transport) = transport.filter(|found| *found != "unix" && !REMOTE.contains(found)) {
            let known = REMOTE.join(", ");
            let shown: String = transport.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
            return Some(format!("libvirt has no transport `{shown}`; it has unix, {known}"));
        }
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        // `ext` runs any command, which may need no host.
        let needs_host = transport.is_some_and(|transport| transport != "unix" && transport != "ext");
        if needs_host && host.rsplit_once('@').map_or(host, |(_, host)| host).is_empty() {
            return wrong("the connection URI names no host; write for example qemu+ssh://user@host/system");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_uri() {
        let wrong = |uri: &str| Config { uri: uri.into(), ..Config::default() }.wrong_uri();
        for good in [
            "qemu:///system",
            "test:///default",
            "qemu+unix:///system?socket=/run/x",
            "qemu+ssh://root@host:22/system?keyfile=/k&no_tty=1",
            "qemu+tls://host/system?pkipath=/etc/pki",
            "qemu+tcp://[::1]:16509/system",
            "qemu+ext:///system?command=/bin/x",
        ] {
            assert_eq!(wrong(good), None, "{good}");
        }
        for (bad, word) in [
            ("", "is empty"),
            ("qemu:/system", "no `://`"),
            ("://host", "no driver"),
            ("qemu+shs://host/system", "no transport `shs`"),
            ("qemu+ssh:///system", "names no host"),
            ("qemu+tls://user@/system", "names no host"),
            ("qemu:///sys tem", "a space"),
            ("qemu:///sys\0tem", "control"),
        ] {
            assert!(wrong(bad).is_some_and(|wrong| wrong.contains(word)), "{bad}: {:?}", wrong(bad));
        }
    }
}
