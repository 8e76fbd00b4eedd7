//! Whether transforms can do what they are told: tables that exist, SQL that fits them. What earlier transforms add to
//! the rows is known to later ones.

use std::collections::BTreeSet;

use super::diagnostic::Diagnostic;
use super::meaning::{Part, typed};
use super::pipeline::TransformConfig;
use super::queries::{Query, try_all};
use super::report::{Report, key_place, place, tick, ticks};
use crate::Error;
use crate::model::{Catalog, TIME};
use crate::suggest::closest;
use crate::transform::{Downsample, Drop, Filter, Keep, Rename, Sql, Tag};
use crate::yaml::{Node, NodeKind};

/// Columns that begin so are tags of resources in a cloud; no table declares them.
const CLOUD_TAG: &str = "tag_";

/// Checks transforms in their order.
pub(super) struct Transforms<'a> {
    report: &'a mut Report,
    /// Tables that rows can be of.
    tables: BTreeSet<String>,
    /// Those of them whose names came from a reference, and are not listed.
    unlisted: BTreeSet<String>,
    /// Tables whose columns are not only the declared ones and the tags that were set: `sql` and `rename` changed them.
    changed: BTreeSet<String>,
    /// Tags set so far, and in which table, or in all.
    tags: Vec<(String, Option<String>)>,
}

impl<'a> Transforms<'a> {
    /// Before the first transform.
    pub(super) fn new(report: &'a mut Report) -> Self {
        // The embedded tables are whole; a test of theirs says so.
        let tables =
            Catalog::builtin().map(|catalog| catalog.tables().map(|table| table.name().to_owned()).collect());
        Self {
            report,
            tables: tables.unwrap_or_default(),
            unlisted: BTreeSet::new(),
            changed: BTreeSet::new(),
            tags: Vec::new(),
        }
    }

    /// Adds to the report what is wrong with these transforms.
    pub(super) fn check(mut self, parts: Vec<Part<'_>>) {
        let mut queries = Vec::new();
        for part in &parts {
            self.table(part);
            if let Some(transform) = typed::<TransformConfig>(part, self.report) {
                self.columns(part, &transform);
                queries.extend(self.transform(part, &transform).map(|query| (part, query)));
                self.note(part, &transform);
            } else {
                // What a transform with a fault would have made is not missed.
                if let Some(NodeKind::Scalar { text, .. }) = part.node.get("into").map(|node| &node.kind) {
                    self.tables.insert(text.clone());
                }
                self.changed.extend(self.tables.iter().cloned());
            }
        }
        for (part, result) in try_all(queries) {
            if let Err(error) = result {
                self.refused(part, "query", &error);
            }
        }
    }

    fn table(&mut self, part: &Part<'_>) {
        let (Some(node), path) = (part.node.get("table"), part.path.key("table")) else { return };
        let NodeKind::Scalar { value: serde_json::Value::String(name), text } = &node.kind else { return };
        if self.tables.contains(name) || !self.report.is_clean(&path) {
            return;
        }
        let mut fault = Diagnostic::new(place(node), format!("there is no table {}", tick(text)));
        let known = || self.tables.difference(&self.unlisted).map(String::as_str);
        if let Some(meant) = closest(name, known()).filter(|_| !self.report.is_secret(&path)) {
            fault = fault.help(format!("did you mean {}?", tick(meant)));
        }
        let help = format!("known are {}", ticks(known()));
        self.report.add(&path, fault.help(help));
    }

    /// Columns that are named must be there, as far as it can be known which are.
    fn columns(&mut self, part: &Part<'_>, transform: &TransformConfig) {
        let (key, table, names): (_, _, Vec<&str>) = match transform {
            TransformConfig::Drop(config) => ("columns", &config.table, texts(&config.columns)),
            TransformConfig::Keep(config) => ("columns", &config.table, texts(&config.columns)),
            TransformConfig::Rename(config) => ("columns", &config.table, texts(config.columns.keys())),
            TransformConfig::Downsample(config) => {
                ("aggregate", &config.table, texts(config.aggregate.keys()))
            }
            TransformConfig::Tag(config) if config.set.is_empty() => ("set", &config.table, Vec::new()),
            _ => return,
        };
        let path = part.path.key(key);
        if names.is_empty() && key != "aggregate" {
            let (path, fault) =
                part.fault_at(key, format!("{} is empty: nothing would be done", path.name()));
            return self.report.add(&path, fault);
        }
        let Some(known) = self.known(table.as_deref()).filter(|_| !self.report.is_secret(&path)) else {
            return;
        };
        let Some(node) = part.node.get(key) else { return };
        for name in names.into_iter().filter(|name| !known.contains(*name) && !name.starts_with(CLOUD_TAG)) {
            let of = table.as_deref().map_or("any table".to_owned(), tick);
            let message = format!("there is no column {} in {of}", tick(name));
            let mut fault = Diagnostic::new(find(node, name).unwrap_or(place(node)), message);
            if let Some(meant) = closest(name, known.iter().map(String::as_str)) {
                fault = fault.help(format!("did you mean {}?", tick(meant)));
            }
            if table.is_some() {
                fault = fault.help(format!("known are {}", ticks(known.iter().map(String::as_str))));
            }
            self.report.add(&path, fault);
        }
    }

    /// The columns of a table, or of all, unless earlier transforms changed them.
    fn known(&self, table: Option<&str>) -> Option<BTreeSet<String>> {
        let catalog = Catalog::builtin().ok()?;
        let tables = match table {
            Some(name) => vec![catalog.table(name).ok()?],
            None => catalog.tables().collect(),
        };
        if tables.iter().any(|table| self.changed.contains(table.name())) {
            return None;
        }
        let declared = tables.iter().flat_map(|table| table.columns()).map(|column| column.name.clone());
        let set =
            self.tags.iter().filter(|(_, of)| table.is_none() || of.is_none() || of.as_deref() == table);
        Some(declared.chain(set.map(|(name, _)| name.clone())).chain([TIME.to_owned()]).collect())
    }

    /// Builds the transform as a run would; gives a query that is still to be tried.
    fn transform(&mut self, part: &Part<'_>, transform: &TransformConfig) -> Option<Query> {
        let (key, built) = match transform {
            TransformConfig::Tag(config) => ("set", Tag::new(config).map(drop)),
            TransformConfig::Rename(config) => ("columns", Rename::new(config).map(drop)),
            TransformConfig::Drop(config) => ("columns", Drop::new(config).map(drop)),
            TransformConfig::Keep(config) => ("columns", Keep::new(config).map(drop)),
            TransformConfig::Downsample(config) => ("every", Downsample::new(config).map(drop)),
            TransformConfig::Filter(config) => {
                let known = config.table.as_ref().is_some_and(|table| !self.changed.contains(table));
                let tags = self.tags_of(config.table.as_deref());
                let checked = Filter::new(config).and_then(|filter| {
                    if known { filter.check(tags.iter().map(String::as_str)) } else { Ok(()) }
                });
                ("where", checked)
            }
            TransformConfig::Sql(config) => match Sql::new(config) {
                Ok(_) if self.changed.contains(&config.table) => return None,
                Ok(sql) => return Some(Query { sql, tags: self.tags_of(Some(&config.table)) }),
                Err(error) => ("query", Err(error)),
            },
        };
        if let Err(error) = built {
            self.refused(part, key, &error);
        }
        None
    }

    /// Remembers what later transforms will find.
    fn note(&mut self, part: &Part<'_>, transform: &TransformConfig) {
        match transform {
            TransformConfig::Tag(config) => {
                for name in config.set.keys() {
                    self.tags.push((name.clone(), config.table.clone()));
                }
            }
            TransformConfig::Rename(config) => match &config.table {
                Some(table) => drop(self.changed.insert(table.clone())),
                None => self.changed.extend(self.tables.iter().cloned()),
            },
            TransformConfig::Sql(config) => {
                let into = config.into.as_ref().unwrap_or(&config.table);
                if self.tables.insert(into.clone()) && self.report.is_secret(&part.path.key("into")) {
                    self.unlisted.insert(into.clone());
                }
                self.changed.insert(into.clone());
            }
            TransformConfig::Drop(_)
            | TransformConfig::Keep(_)
            | TransformConfig::Filter(_)
            | TransformConfig::Downsample(_) => {}
        }
    }

    fn tags_of(&self, table: Option<&str>) -> Vec<String> {
        let set = self.tags.iter().filter(|(_, of)| of.is_none() || of.as_deref() == table);
        set.map(|(name, _)| name.clone()).collect()
    }

    /// Adds what a transform says about its configuration, at the value that it speaks of.
    fn refused(&mut self, part: &Part<'_>, key: &str, error: &Error) {
        let reason = match self.report.is_secret(&part.path) {
            true => "it cannot be used; why is not shown, as it would tell of a secret".to_owned(),
            false => error.chain(),
        };
        let found = part.node.get(key).zip(error.resource()).and_then(|(node, word)| find(node, word));
        // The value stands in the line that is quoted; what comes in further lines explains.
        let own = match part.node.get(key).map(|node| &node.kind) {
            Some(NodeKind::Scalar { value: serde_json::Value::String(value), .. }) => format!("`{value}`: "),
            _ => String::new(),
        };
        let reason = if own.is_empty() { reason } else { reason.replace(&own, "") };
        let mut lines = reason.lines();
        let message = format!("{}: {}", part.path.key(key).name(), lines.next().unwrap_or_default());
        let (path, mut fault) = match found {
            Some(place) => (part.path.key(key), Diagnostic::new(place, message)),
            None => part.fault_at(key, message),
        };
        fault.help.extend(lines.map(str::to_owned));
        self.report.add(&path, fault);
    }
}

fn texts<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    names.into_iter().map(String::as_str).collect()
}

/// The key or item of this name in a value.
fn find(node: &Node, word: &str) -> Option<super::diagnostic::Place> {
    match &node.kind {
        NodeKind::Mapping(entries) => {
            entries.iter().find(|(key, _)| key.name == word).map(|(key, _)| key_place(key))
        }
        NodeKind::Sequence(items) => items
            .iter()
            .find(|item| matches!(&item.kind, NodeKind::Scalar { text, .. } if text == word))
            .map(place),
        NodeKind::Scalar { .. } => None,
    }
}
