//! Whether the columns that a transform names are there, and the names that it gives are free.

use super::diagnostic::{Diagnostic, Place};
use super::meaning::Part;
use super::pipeline::TransformConfig;
use super::report::{Report, key_place, place, tick, ticks};
use super::rows::{Columns, Tables};
use crate::model::{CLOUD_TAG, Catalog, ColumnKind, REQUIRED_TAGS, TIME};
use crate::suggest::closest;
use crate::transform::{rename, tag};
use crate::yaml::{Node, NodeKind};

/// Adds to the report what is wrong with the names in a transform to which rows of these tables come.
pub(super) fn check(part: &Part<'_>, transform: &TransformConfig, tables: &Tables, report: &mut Report) {
    let mut names = Names { part, tables, report };
    names.columns(transform);
    names.taken(transform);
}

struct Names<'a> {
    part: &'a Part<'a>,
    tables: &'a Tables,
    report: &'a mut Report,
}

impl Names<'_> {
    /// Columns that are named must be there, as far as it can be known which are.
    fn columns(&mut self, transform: &TransformConfig) {
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
        let path = self.part.path.key(key);
        if names.is_empty() && key != "aggregate" {
            let (path, fault) =
                self.part.fault_at(key, format!("{} is empty: nothing would be done", path.name()));
            return self.report.add(&path, fault);
        }
        if self.report.is_secret(&path) {
            return;
        }
        let table = table.as_deref();
        let (Some(known), Some(node)) = (self.tables.column_names(table), self.part.node.get(key)) else {
            return;
        };
        for name in names {
            let at = find(node, name).unwrap_or(place(node));
            let cloud = name.starts_with(CLOUD_TAG);
            if key == "aggregate" && (cloud || known.contains(name)) {
                if !self.tables.known(table).any(|(_, columns)| columns.has_field(name)) {
                    let what = if name == TIME { "the time" } else { "a tag" };
                    let message = format!("{} is {what}, and only fields are aggregated", tick(name));
                    self.report.add(&path, Diagnostic::new(at, message));
                }
            } else if !cloud && !known.contains(name) {
                let of = table.map_or("any table".to_owned(), tick);
                let mut fault = Diagnostic::new(at, format!("there is no column {} in {of}", tick(name)));
                if let Some(meant) = closest(name, known.iter().copied()) {
                    fault = fault.help(format!("did you mean {}?", tick(meant)));
                }
                match table {
                    Some(table) if known.is_empty() => {
                        fault = fault.help(format!("an earlier transform leaves no row of {}", tick(table)));
                    }
                    Some(_) => fault = fault.help(format!("known are {}", ticks(known.iter().copied()))),
                    None => {}
                }
                self.report.add(&path, fault);
            }
        }
    }

    /// A name that a transform gives to a column must be free where the column comes.
    fn taken(&mut self, transform: &TransformConfig) {
        match transform {
            TransformConfig::Tag(config) => self.taken_by_tag(config),
            TransformConfig::Rename(config) => self.taken_by_rename(config),
            _ => {}
        }
    }

    fn taken_by_tag(&mut self, config: &tag::Config) {
        for name in config.set.keys() {
            let tables = || self.tables.known(config.table.as_deref());
            let fixed =
                tables().find(|(table, _)| matches!(declared(table, name), Some(ColumnKind::Field(_))));
            let taken = fixed.or_else(|| tables().find(|(_, columns)| columns.has_field(name)));
            let Some((table, _)) = taken else { continue };
            let at = self.part.node.get("set").and_then(|node| find(node, name));
            let message = format!("{} is a field of {}, and cannot be a tag", tick(name), tick(table));
            let help = match fixed {
                Some(_) => FIXED,
                None => "choose another name, or `rename` or `drop` the field before",
            };
            self.add("set", at, message, help);
        }
    }

    fn taken_by_rename(&mut self, config: &rename::Config) {
        if self.report.is_secret(&self.part.path.key("columns")) {
            return;
        }
        // `time` is refused by the transform itself.
        for (old, new) in config.columns.iter().filter(|(_, new)| *new != TIME) {
            let kind = |columns: Columns<'_>| match columns.kind(old) {
                None if old.starts_with(CLOUD_TAG) => Some(ColumnKind::Tag),
                kind => kind,
            };
            let comes = || {
                let tables = self.tables.known(config.table.as_deref());
                tables.filter_map(|(table, columns)| Some((table, columns, kind(columns)?)))
            };
            let unfit = comes().find_map(|(table, _, kind)| {
                let wanted = declared(table, new).filter(|wanted| *wanted != kind)?;
                Some(format!(
                    "{} is {} of {}, and {} is {}",
                    tick(new),
                    shown(wanted),
                    tick(table),
                    tick(old),
                    shown(kind)
                ))
            });
            let taken = || {
                // A name is free if its column gets another one in the same step.
                let free = config.columns.contains_key(new);
                let (table, ..) = comes().find(|(_, columns, _)| !free && columns.has(new))?;
                Some(format!("{} has a column {} already", tick(table), tick(new)))
            };
            let (message, help) = match unfit {
                Some(message) => (message, FIXED),
                None => match taken() {
                    Some(message) if REQUIRED_TAGS.contains(&new.as_str()) => {
                        (message, "choose another name")
                    }
                    Some(message) => (
                        message,
                        "choose another name, or `rename` or `drop` that column before, even if no source fills it",
                    ),
                    None => continue,
                },
            };
            let at = self.part.node.get("columns").and_then(|node| node.get(old)).map(place);
            self.add("columns", at, message, help);
        }
    }

    /// Adds a fault in the value of a key.
    fn add(&mut self, key: &str, at: Option<Place>, message: String, help: &str) {
        let (path, mut fault) = self.part.fault_at(key, message);
        fault.place = at.or(fault.place);
        self.report.add(&path, fault.help(help));
    }
}

/// What is to do where a name can never be used so.
const FIXED: &str = "choose another name: what a table declares keeps its type, even where it was dropped";

/// What a table declares of a column, if it is one that is built in: its rows never have that column in another type.
fn declared(table: &str, column: &str) -> Option<ColumnKind> {
    Catalog::builtin().ok()?.table(table).ok()?.column(column).map(|column| column.kind)
}

fn shown(kind: ColumnKind) -> String {
    match kind {
        ColumnKind::Tag => "a tag".to_owned(),
        ColumnKind::Field(kind) => format!("a field of type {kind:?}").to_lowercase(),
    }
}

fn texts<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    names.into_iter().map(String::as_str).collect()
}

/// The key or item of this name in a value.
pub(super) fn find(node: &Node, word: &str) -> Option<Place> {
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
