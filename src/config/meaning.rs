//! What a file of the right form may still get wrong: times that cannot be, tables that do not exist, SQL that cannot be
//! parsed. Each part whose form is right is checked, whatever is wrong with the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::diagnostic::Diagnostic;
use super::pipeline::{SourceConfig, SourceKind};
use super::report::{Path, Report, key_place, place, tick};
use super::settings::Settings;
use super::transforms::Transforms;
use crate::model::{Span, Table};
use crate::provider;
use crate::provider::mapping::{Rule, Wrong, tables};
use crate::yaml::{Key, Node, NodeKind};

/// 100 years: the longest time that makes sense anywhere, and nanoseconds of it can be counted.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The shortest time between two collections.
const SHORTEST_EVERY: Duration = Duration::from_millis(100);
/// A source that is asked less often than this would look dead.
const LONGEST_EVERY: Duration = Duration::from_secs(31 * 86_400);

/// Adds to the report what is wrong with the meaning of the file.
pub(super) fn check(root: &Node, report: &mut Report) {
    let mut meaning = Meaning { report, tables: Vec::new() };
    meaning.pipeline(root);
}

/// A part of the file with its place in it.
pub(super) struct Part<'a> {
    /// The key it stands under, if it does.
    pub(super) key: Option<&'a Key>,
    pub(super) node: &'a Node,
    pub(super) path: Path,
}

impl Part<'_> {
    /// A fault at the value of a key; where the key is left out, at the part itself.
    pub(super) fn fault_at(&self, key: &str, message: impl Into<String>) -> (Path, Diagnostic) {
        match (self.node.get(key), self.key) {
            (Some(value), _) => (self.path.key(key), Diagnostic::new(place(value), message)),
            (None, Some(own)) => (self.path.clone(), Diagnostic::new(key_place(own), message)),
            (None, None) => (self.path.clone(), Diagnostic::new(place(self.node), message)),
        }
    }
}

/// What is looked at, and what was found.
pub(super) struct Meaning<'a> {
    pub(super) report: &'a mut Report,
    /// Tables that metrics of sources make.
    tables: Vec<Arc<Table>>,
}

impl Meaning<'_> {
    fn pipeline(&mut self, root: &Node) {
        let top = Part { key: None, node: root, path: Path::default() };
        self.shown(&top, "name", "the name is shown in logs and metrics", "write the name itself");
        if let Some(settings) = under(&top, "settings") {
            self.settings(&settings);
        }
        for source in entries(&top, "sources") {
            self.source(&source);
        }
        let tables = std::mem::take(&mut self.tables);
        Transforms::new(self.report, tables).check(items(&top, "transforms"));
        let mut folders = HashMap::new();
        for sink in entries(&top, "sinks") {
            self.sink(&sink, &mut folders);
        }
    }

    fn settings(&mut self, part: &Part<'_>) {
        if let Some(Settings { jitter, drain, .. }) = typed(part, self.report) {
            self.at_most(part, "jitter", jitter);
            self.at_most(part, "drain", drain);
        }
    }

    fn source(&mut self, part: &Part<'_>) {
        // Read before the times are checked, so that a fault of theirs does not hide what else is wrong.
        let source = typed::<SourceConfig>(part, self.report);
        self.times(part);
        let Some(SourceConfig { every, kind, .. }) = source else { return };
        match kind {
            SourceKind::Host(config) => {
                for (key, list) in [
                    ("ignore_mountpoints", &config.ignore_mountpoints),
                    ("ignore_devices", &config.ignore_devices),
                    ("ignore_interfaces", &config.ignore_interfaces),
                ] {
                    if list.iter().any(String::is_empty) {
                        self.add(part, key, "an empty prefix would leave out everything");
                    }
                }
            }
            SourceKind::Kvm(config) => {
                if !provider::KVM {
                    let (path, fault) =
                        part.fault_at("type", "this build of barograph cannot measure libvirt guests");
                    self.report
                        .add(&path, fault.help("build it with the feature `kvm`, or take the source out"));
                }
                if let Some(wrong) = config.wrong_uri() {
                    self.add(part, "uri", wrong);
                }
                // A password that is written out is as secret as one that comes from a reference.
                let uri = part.path.key("uri");
                if let Some(node) = part.node.get("uri")
                    && !self.report.is_secret(&uri)
                    && has_password(&config.uri)
                {
                    self.report.mark_secret(&uri);
                    self.report.hide(place(node));
                }
                let credentials = "write it without; libvirt takes passwords from its authentication file";
                self.shown(part, "uri", "the URI is shown in logs and rows", credentials);
                if part.node.get("deadline").is_some() && config.deadline > every {
                    let message = "`deadline` is longer than `every`: a guest that does not answer would hold up the \
                                   next collection";
                    self.add(part, "deadline", message);
                }
                self.positive(part, "deadline", config.deadline);
                self.positive(part, "relist", config.relist);
                self.positive(part, "max_balloon_age", config.max_balloon_age);
                self.at_most(part, "storage_every", config.storage_every);
                self.metrics(part, &config.metrics, config.wrong_metrics());
            }
            SourceKind::Containerd(config) => self.containerd(part, every, &config),
            SourceKind::Aws(config) => self.aws(part, &config),
        }
    }

    /// Metrics that a source defines, and what its provider says is wrong with them.
    fn metrics(&mut self, part: &Part<'_>, rules: &[Rule], wrong: Vec<Wrong>) {
        let list = part.path.key("metrics");
        for Wrong { rule, field, key, message } in &wrong {
            let rule_node = part.node.get("metrics").and_then(|node| item(node, *rule));
            let (path, node) = match field {
                Some(field) => {
                    let fields = rule_node.and_then(|node| node.get("fields"));
                    let path = list.item(*rule).key("fields").item(*field);
                    (path, fields.and_then(|node| item(node, *field)))
                }
                None => (list.item(*rule), rule_node),
            };
            let at = node.map(|node| node.get(key).unwrap_or(node)).map(place);
            let mut parts = message.split("; ");
            let (path, message) = match self.report.is_secret(&path) {
                true => (path, "it cannot be used, and why is not shown, as it would tell of a secret"),
                false => (path.key(key), parts.next().unwrap_or_default()),
            };
            let (_, mut fault) = part.fault_at("metrics", format!("{}: {message}", path.name()));
            fault.place = at.or(fault.place);
            if !self.report.is_secret(&path) {
                fault.help.extend(parts.map(str::to_owned));
            }
            self.report.add(&path, fault);
        }
        if wrong.is_empty() && !self.report.is_secret(&list) {
            self.tables.extend(tables(rules).into_iter().flatten().map(|(_, table)| table));
        }
    }

    fn containerd(&mut self, part: &Part<'_>, every: Span, config: &provider::containerd::Config) {
        if !provider::CONTAINERD {
            let (path, fault) = part.fault_at("type", "this build of barograph cannot measure containers");
            self.report
                .add(&path, fault.help("build it with the feature `containerd`, or take the source out"));
        }
        if config.socket.is_empty() {
            let message = "the socket's path is empty; write for example /run/containerd/containerd.sock";
            self.add(part, "socket", message);
        }
        self.shown(part, "socket", "the socket is shown in logs and rows", "write the path itself");
        for (key, list) in
            [("namespaces", &config.namespaces), ("exclude_namespaces", &config.exclude_namespaces)]
        {
            for (index, name) in list.iter().enumerate() {
                if let Some(reason) = provider::containerd::bad_namespace(name) {
                    let secret = self.report.is_secret(&part.path.key(key).item(index));
                    let name = if secret { "this".to_owned() } else { format!("{name:?}") };
                    self.add(part, key, format!("{name} cannot be a namespace: {reason}"));
                }
            }
        }
        if part.node.get("deadline").is_some() && config.deadline > every {
            let message = "`deadline` is longer than `every`: a container that does not answer would hold up the next \
                           collection";
            self.add(part, "deadline", message);
        }
        self.positive(part, "deadline", config.deadline);
        self.positive(part, "relist", config.relist);
        self.at_most(part, "usage_every", config.usage_every);
        self.metrics(part, &config.metrics, config.wrong_metrics());
    }

    fn aws(&mut self, part: &Part<'_>, config: &provider::aws::Config) {
        if !provider::AWS {
            let (path, fault) = part.fault_at("type", "this build of barograph cannot measure AWS");
            self.report.add(&path, fault.help("build it with the feature `aws`, or take the source out"));
        }
        for (key, reason) in config.wrong() {
            self.add(part, key, reason);
        }
        for (key, span) in [
            ("request_timeout", config.request_timeout),
            ("inventory_every", config.inventory_every),
            ("list_every", config.list_every),
        ] {
            self.positive(part, key, span);
        }
        if !self.report.is_secret(&part.path.key("metrics")) {
            self.tables.extend(config.tables());
        }
    }

    /// `every` and `timeout` of a source.
    fn times(&mut self, part: &Part<'_>) {
        let every = under(part, "every").and_then(|every| typed::<Span>(&every, self.report));
        let timeout = under(part, "timeout").and_then(|timeout| typed::<Option<Span>>(&timeout, self.report));
        let timeout = timeout.flatten();
        let possible = |every: &Span| (SHORTEST_EVERY..=LONGEST_EVERY).contains(&every.0);
        if every.is_some_and(|every| !possible(&every)) {
            self.add(part, "every", "`every` must be from 100ms to 31 days");
        } else if every.zip(timeout).is_some_and(|(every, timeout)| timeout > every) {
            let message =
                "`timeout` is longer than `every`: a collection would still run when the next is due";
            self.add(part, "timeout", message);
        }
        if let Some(timeout) = timeout {
            self.positive(part, "timeout", timeout);
        }
    }

    /// A secret is a fault where the value `is_shown`.
    pub(super) fn shown(&mut self, part: &Part<'_>, key: &str, is_shown: &str, help: &str) {
        if self.report.is_secret(&part.path.key(key)) {
            let (path, fault) = part.fault_at(key, format!("{is_shown}, and a secret must not be"));
            self.report.add(&path, fault.help(help));
        }
    }

    pub(super) fn positive(&mut self, part: &Part<'_>, key: &str, span: Span) {
        if span.0.is_zero() {
            self.add(part, key, format!("{} must be longer than nothing", tick(key)));
        }
        self.at_most(part, key, span);
    }

    pub(super) fn at_most(&mut self, part: &Part<'_>, key: &str, span: Span) {
        if span.0 > LONGEST {
            self.add(part, key, format!("{} must be at most 100 years", tick(key)));
        }
    }

    /// Adds a fault at the value of a key. A message may have what would be right behind a semicolon.
    pub(super) fn add(&mut self, part: &Part<'_>, key: &str, message: impl Into<String>) {
        let message = message.into();
        let (message, help) = message.split_once("; ").unwrap_or((&message, ""));
        let (path, fault) = part.fault_at(key, message);
        self.report.add(&path, if help.is_empty() { fault } else { fault.help(help) });
    }
}

/// Whether a URI has a password before its host.
fn has_password(uri: &str) -> bool {
    let authority = uri.split_once("://").map(|(_, rest)| rest.split(['/', '?']).next().unwrap_or_default());
    authority.and_then(|authority| authority.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'))
}

/// The typed value of a part, if nothing is wrong with its form.
pub(super) fn typed<T: DeserializeOwned>(part: &Part<'_>, report: &mut Report) -> Option<T> {
    if !report.is_clean(&part.path) {
        return None;
    }
    match T::deserialize(part.node.to_json()) {
        Ok(value) => Some(value),
        Err(error) => {
            // The schema is made from the types and has been checked, so that this is rare.
            let message = match report.is_secret(&part.path) {
                true => format!("{} cannot be understood", part.path.name()),
                false => format!("{}: {error}", part.path.name()),
            };
            report.add(&part.path, Diagnostic::new(part.key.map_or(place(part.node), key_place), message));
            None
        }
    }
}

/// An item of a list.
fn item(node: &Node, index: usize) -> Option<&Node> {
    match &node.kind {
        NodeKind::Sequence(items) => items.get(index),
        _ => None,
    }
}

fn under<'a>(part: &Part<'a>, key: &str) -> Option<Part<'a>> {
    let NodeKind::Mapping(entries) = &part.node.kind else { return None };
    let (key, node) = entries.iter().find(|(other, _)| other.name == key)?;
    Some(Part { key: Some(key), node, path: part.path.key(&key.name) })
}

fn entries<'a>(part: &Part<'a>, key: &str) -> Vec<Part<'a>> {
    let Some(whole) = under(part, key) else { return Vec::new() };
    let NodeKind::Mapping(entries) = &whole.node.kind else { return Vec::new() };
    entries.iter().map(|(key, node)| Part { key: Some(key), node, path: whole.path.key(&key.name) }).collect()
}

fn items<'a>(part: &Part<'a>, key: &str) -> Vec<Part<'a>> {
    let Some(whole) = under(part, key) else { return Vec::new() };
    let NodeKind::Sequence(items) = &whole.node.kind else { return Vec::new() };
    items
        .iter()
        .enumerate()
        .map(|(index, node)| Part { key: None, node, path: whole.path.item(index) })
        .collect()
}
