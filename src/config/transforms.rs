//! Whether transforms can do what they are told: tables that exist, SQL that fits them. What earlier transforms add to
//! the rows is known to later ones.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::diagnostic::Diagnostic;
use super::meaning::{Part, typed};
use super::names::{self, find};
use super::pipeline::TransformConfig;
use super::queries::{Query, try_all};
use super::report::{Report, place, tick, ticks};
use super::rows::Tables;
use crate::model::Table;
use crate::suggest::closest;
use crate::transform::{Downsample, Drop, Filter, Keep, Rename, Sql, Tag, filter};
use crate::yaml::NodeKind;
use crate::{Error, Result};

/// Checks transforms in their order.
pub(super) struct Transforms<'a> {
    report: &'a mut Report,
    /// What rows can be when they come to the next transform.
    tables: Tables,
    /// Tables whose names came from a reference, and are not listed.
    unlisted: BTreeSet<String>,
}

impl<'a> Transforms<'a> {
    /// Before the first transform. Beside the tables that are built in, sources may make `others`.
    pub(super) fn new(report: &'a mut Report, others: Vec<Arc<Table>>) -> Self {
        let mut tables = Tables::builtin();
        others.iter().for_each(|table| tables.declare(table));
        Self { report, tables, unlisted: BTreeSet::new() }
    }

    /// Adds to the report what is wrong with these transforms.
    pub(super) fn check(mut self, parts: Vec<Part<'_>>) {
        let mut queries = Vec::new();
        for part in &parts {
            self.table(part);
            if let Some(transform) = typed::<TransformConfig>(part, self.report) {
                names::check(part, &transform, &self.tables, self.report);
                queries.extend(self.transform(part, &transform).map(|query| (part, query)));
                self.note(part, &transform);
            } else {
                // What a transform with a fault would have made is not missed.
                if let Some(NodeKind::Scalar { text, .. }) = part.node.get("into").map(|node| &node.kind) {
                    self.tables.add(text);
                }
                self.tables.forget(None);
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
        let known = || self.tables.names().filter(|name| !self.unlisted.contains(*name));
        if let Some(meant) = closest(name, known()).filter(|_| !self.report.is_secret(&path)) {
            fault = fault.help(format!("did you mean {}?", tick(meant)));
        }
        let help = format!("known are {}", ticks(known()));
        self.report.add(&path, fault.help(help));
    }

    /// Builds the transform as a run would; gives a query that is still to be tried.
    fn transform(&mut self, part: &Part<'_>, transform: &TransformConfig) -> Option<Query> {
        let (key, built) = match transform {
            TransformConfig::Tag(config) => ("set", Tag::new(config).map(drop)),
            TransformConfig::Rename(config) => ("columns", Rename::new(config).map(drop)),
            TransformConfig::Drop(config) => ("columns", Drop::new(config).map(drop)),
            TransformConfig::Keep(config) => ("columns", Keep::new(config).map(drop)),
            TransformConfig::Downsample(config) => ("every", Downsample::new(config).map(drop)),
            TransformConfig::Filter(config) => ("where", self.filter(config)),
            TransformConfig::Sql(config) => match Sql::new(config) {
                Ok(sql) => {
                    let (_, columns) = self.tables.known(Some(&config.table)).next()?;
                    return Some(Query { sql, columns: columns.schema() });
                }
                Err(error) => ("query", Err(error)),
            },
        };
        if let Err(error) = built {
            self.refused(part, key, &error);
        }
        None
    }

    /// Rows of every table that the filter is for must be understood.
    fn filter(&self, config: &filter::Config) -> Result<()> {
        let filter = Filter::new(config)?;
        for (table, columns) in self.tables.known(config.table.as_deref()) {
            filter.check(table, &columns.schema()).map_err(|error| match config.table {
                Some(_) => error,
                None => {
                    let reason =
                        format!("{}; if it is meant for one table, name it with `table`", error.reason());
                    Error::new(error.kind(), error.operation(), reason).with_resource(table)
                }
            })?;
        }
        Ok(())
    }

    /// Remembers what later transforms will find.
    fn note(&mut self, part: &Part<'_>, transform: &TransformConfig) {
        match transform {
            // The new names are not told, so they must not be known.
            TransformConfig::Rename(config) if self.report.is_secret(&part.path.key("columns")) => {
                self.tables.forget(config.table.as_deref());
            }
            TransformConfig::Sql(config) => {
                let into = config.into.as_ref().unwrap_or(&config.table);
                if !self.tables.contains(into) && self.report.is_secret(&part.path.key("into")) {
                    self.unlisted.insert(into.clone());
                }
                self.tables.pass(transform);
            }
            _ => self.tables.pass(transform),
        }
    }

    /// Adds what a transform says about its configuration, at the value that it speaks of.
    fn refused(&mut self, part: &Part<'_>, key: &str, error: &Error) {
        let reason = match self.report.is_secret(&part.path) {
            true => "it cannot be used, and why is not shown, as it would tell of a secret".to_owned(),
            false => error.to_string(),
        };
        let found = part.node.get(key).zip(error.resource()).and_then(|(node, word)| find(node, word));
        // The value stands in the line that is quoted; what comes behind a semicolon or in further lines helps.
        let own = match part.node.get(key).map(|node| &node.kind) {
            Some(NodeKind::Scalar { value: serde_json::Value::String(value), .. }) => format!("`{value}`: "),
            _ => String::new(),
        };
        let reason = if own.is_empty() { reason } else { reason.replace(&own, "") };
        let mut lines = reason.split("; ").flat_map(str::lines);
        let message = format!("{}: {}", part.path.key(key).name(), lines.next().unwrap_or_default());
        let (path, mut fault) = match found {
            Some(place) => (part.path.key(key), Diagnostic::new(place, message)),
            None => part.fault_at(key, message),
        };
        fault.help.extend(lines.map(str::to_owned));
        self.report.add(&path, fault);
    }
}
