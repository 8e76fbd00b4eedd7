//! The rules of a mapping, their form, and whether they fit the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{CLOUD_TAG, COMMON_TAGS, Catalog, ColumnKind, FieldType, TIME, Table};
use crate::suggest::closest;
use crate::{Error, Result};

/// Which figures become a row of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Table of the row: one that is built in, whose columns it has, or a new name.
    pub table: String,
    /// Group of figures whose every index makes a row; without it the resource as a whole makes one.
    #[serde(default)]
    pub each: Option<String>,
    /// Column that tells the rows of `each` apart.
    #[serde(default)]
    pub tag: Option<Tag>,
    /// Columns to fill.
    pub fields: Vec<FieldRule>,
}

/// Tag column and where its value is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// Name of the column.
    pub column: String,
    /// Where its value is from.
    pub from: TagFrom,
}

/// Where a tag's value is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TagFrom {
    /// The index itself.
    Index,
    /// The figure `name` beside the others.
    Name,
}

/// One column from one figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldRule {
    /// The provider's name of the figure; relative to the row's index under `each`.
    pub native: String,
    /// Column that it goes into.
    pub field: String,
    /// How the one becomes the other.
    pub convert: Conversion,
    /// Counter of operations that a `latency` is divided by.
    #[serde(default)]
    pub per: Option<String>,
    /// Whether the figure is the guest's own word, and left out when that is old.
    #[serde(default)]
    pub fresh: bool,
    /// What the figure is multiplied by before it is converted.
    #[serde(default)]
    pub factor: Option<f64>,
    /// UCUM unit of a column of one's own table.
    #[serde(default)]
    pub unit: Option<String>,
}

/// How a figure becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conversion {
    /// As it is.
    Value,
    /// Times 1024.
    Kibibytes,
    /// Growth per second.
    Rate,
    /// Growth times 1024 per second.
    KibibyteRate,
    /// Growth in nanoseconds by nanoseconds passed, at most 1.
    Share,
    /// The same by the processors allotted.
    ShareOfCores,
    /// Growth in nanoseconds by growth of the counter `per`, in seconds.
    Latency,
}

/// What is wrong with a rule, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Number of the rule.
    pub rule: usize,
    /// Number of the field in it, if it is about one.
    pub field: Option<usize>,
    /// Key whose value is wrong.
    pub key: &'static str,
    /// What is wrong; what would be right comes behind a semicolon.
    pub message: String,
}

/// Checks rules against the tables that are built in and the groups of figures that a provider has.
pub fn check(rules: &[Rule], groups: &[&str]) -> Vec<Wrong> {
    let mut wrong: Vec<Wrong> = rules
        .iter()
        .enumerate()
        .flat_map(|(number, rule)| {
            let mut check = Check { number, rule, groups, wrong: Vec::new() };
            check.rule();
            check.wrong
        })
        .collect();
    wrong.extend(roles(rules));
    wrong
}

/// The tables that rules make beside those that are built in, with all their columns. The rules must have been checked.
///
/// # Errors
/// A table cannot be made of them.
pub fn tables(rules: &[Rule]) -> Result<BTreeMap<String, Arc<Table>>> {
    let builtin = Catalog::builtin()?;
    let mut columns: BTreeMap<&str, (BTreeSet<&str>, BTreeMap<&str, &str>)> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| builtin.table(&rule.table).is_err()) {
        let (tags, fields) = columns.entry(&rule.table).or_default();
        tags.extend(rule.tag.as_ref().map(|tag| tag.column.as_str()));
        for field in &rule.fields {
            fields.entry(&field.field).or_insert(field.unit.as_deref().unwrap_or_default());
        }
    }
    let made = columns.into_iter().map(|(name, (tags, fields))| {
        let table = Table::of_figures(name, &Vec::from_iter(tags), &Vec::from_iter(fields))?;
        Ok((name.to_owned(), Arc::new(table)))
    });
    made.collect()
}

/// Columns of one's own tables that one rule has as a tag and another as a field.
fn roles(rules: &[Rule]) -> Vec<Wrong> {
    let tags: BTreeSet<(&str, &str)> = rules
        .iter()
        .filter_map(|rule| Some((rule.table.as_str(), rule.tag.as_ref()?.column.as_str())))
        .collect();
    let both = rules.iter().enumerate().flat_map(|(number, rule)| {
        let both = rule.fields.iter().enumerate().filter(|(_, field)| {
            tags.contains(&(rule.table.as_str(), field.field.as_str()))
                && Catalog::builtin().is_ok_and(|catalog| catalog.table(&rule.table).is_err())
        });
        both.map(move |(index, field)| Wrong {
            rule: number,
            field: Some(index),
            key: "field",
            message: format!(
                "`{}` is a tag of `{}` already, and cannot be a field too",
                field.field, rule.table
            ),
        })
    });
    both.collect()
}

struct Check<'a> {
    number: usize,
    rule: &'a Rule,
    groups: &'a [&'a str],
    wrong: Vec<Wrong>,
}

impl Check<'_> {
    fn add(&mut self, field: Option<usize>, key: &'static str, message: impl Into<String>) {
        self.wrong.push(Wrong { rule: self.number, field, key, message: message.into() });
    }

    fn rule(&mut self) {
        let rule = self.rule;
        let table = Catalog::builtin().and_then(|catalog| catalog.table(&rule.table)).ok();
        if table.is_none() {
            self.name(None, "table", &rule.table);
        }
        match (&rule.each, &rule.tag) {
            (Some(_), None) => {
                self.add(
                    None,
                    "each",
                    "`each` makes many rows; say with `tag` which column tells them apart",
                );
            }
            (None, Some(_)) => {
                self.add(
                    None,
                    "tag",
                    "`tag` tells the rows of `each` apart; write `each`, or take `tag` out",
                );
            }
            _ => {}
        }
        if let Some(each) = &rule.each {
            self.group(None, "each", each);
        }
        if let Some(tag) = &rule.tag {
            match table.map(|table| (table, table.column(&tag.column))) {
                None => self.own(None, "tag", &tag.column),
                Some((_, Some(column)))
                    if column.kind == ColumnKind::Tag && !COMMON_TAGS.contains(&column.name.as_str()) => {}
                Some((table, _)) => {
                    let tags = table.columns().iter().filter(|column| column.kind == ColumnKind::Tag);
                    let tags = tags.map(|column| column.name.as_str());
                    let known: Vec<_> = tags.filter(|name| !COMMON_TAGS.contains(name)).collect();
                    let help = match known.as_slice() {
                        [] => "its rows cannot be told apart: choose another table".to_owned(),
                        known => format!("it has {}", known.join(", ")),
                    };
                    let message = format!("`{}` is no tag of the table `{}`; {help}", tag.column, rule.table);
                    self.add(None, "tag", message);
                }
            }
        }
        if rule.fields.is_empty() {
            self.add(None, "fields", "`fields` is empty: the row would have no value");
        }
        for (index, field) in rule.fields.iter().enumerate() {
            self.field(index, field, table.map(Arc::as_ref));
            if rule.fields[..index].iter().any(|other| other.field == field.field) {
                self.add(Some(index), "field", format!("`{}` is filled twice in one row", field.field));
            }
        }
    }

    fn field(&mut self, index: usize, field: &FieldRule, table: Option<&Table>) {
        let at = Some(index);
        for (key, native) in [("native", Some(&field.native)), ("per", field.per.as_ref())] {
            let Some(native) = native else { continue };
            if native.is_empty() || native.split('.').any(str::is_empty) {
                self.add(at, key, format!("`{native}` cannot be a figure's name"));
            } else if self.rule.each.is_none() {
                self.group(at, key, native);
            }
        }
        match table {
            None => self.own(at, "field", &field.field),
            Some(table) => match table.column(&field.field).map(|column| column.kind) {
                Some(ColumnKind::Field(FieldType::Float)) => {}
                Some(ColumnKind::Field(other)) => {
                    let kind = format!("{other:?}").to_lowercase();
                    let message = format!(
                        "`{}` holds a {kind}, and a figure is a float; choose another column",
                        field.field
                    );
                    self.add(at, "field", message);
                }
                _ => {
                    let floats = table.columns().iter();
                    let floats = floats.filter(|column| column.kind == ColumnKind::Field(FieldType::Float));
                    let names: Vec<_> = floats.map(|column| column.name.as_str()).collect();
                    let meant = closest(&field.field, names.iter().copied());
                    let meant = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
                    let message = format!(
                        "the table `{}` has no field `{}`; {meant}it has {}; a table with a new name may have any",
                        table.name(),
                        field.field,
                        names.join(", ")
                    );
                    self.add(at, "field", message);
                }
            },
        }
        if (field.convert == Conversion::Latency) != field.per.is_some() {
            let key = if field.per.is_some() { "per" } else { "convert" };
            self.add(at, key, "`latency` and `per` belong together; `per` names the counter of operations");
        }
        if field.factor.is_some_and(|factor| !factor.is_finite() || factor <= 0.0) {
            self.add(at, "factor", "`factor` must be a number above 0");
        }
    }

    fn group(&mut self, field: Option<usize>, key: &'static str, native: &str) {
        let group = native.split('.').next().unwrap_or_default();
        if self.groups.contains(&group) {
            return;
        }
        let meant = closest(group, self.groups.iter().copied());
        let meant = meant.map(|meant| format!("did you mean `{meant}`? ")).unwrap_or_default();
        let message =
            format!("there is no group of figures `{group}`; {meant}known are {}", self.groups.join(", "));
        self.add(field, key, message);
    }

    /// A column of a table that is not built in.
    fn own(&mut self, field: Option<usize>, key: &'static str, name: &str) {
        if name == TIME || COMMON_TAGS.contains(&name) || name.starts_with(CLOUD_TAG) {
            self.add(
                field,
                key,
                format!("`{name}` is the name of a column that every table may have; choose another"),
            );
        } else {
            self.name(field, key, name);
        }
    }

    fn name(&mut self, field: Option<usize>, key: &'static str, name: &str) {
        if !Table::is_name(name) {
            let message =
                format!("`{name}` cannot be a name in a table; write lower snake case, as in `my_table`");
            self.add(field, key, message);
        }
    }
}

/// The first thing that is wrong, as an error.
impl From<Wrong> for Error {
    fn from(wrong: Wrong) -> Self {
        let field = wrong.field.map(|field| format!(".fields[{field}]")).unwrap_or_default();
        let at = format!("metrics[{}]{field}.{}", wrong.rule, wrong.key);
        Self::invalid("check the metrics", wrong.message).with_resource(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn wrong(text: &str) -> Vec<String> {
        let rules: Vec<Rule> = yaml::from_str(text).unwrap();
        check(&rules, &["vcpu", "perf"]).into_iter().map(|wrong| Error::from(wrong).to_string()).collect()
    }

    #[track_caller]
    fn refused(text: &str, words: &[&str]) {
        let found = wrong(text);
        assert_eq!(found.len(), words.len(), "{found:?}");
        for (found, word) in found.iter().zip(words) {
            assert!(found.contains(word), "{found}");
        }
    }

    #[test]
    fn a_rule_for_a_table_that_is_built_in_or_new() {
        refused("[{ table: cpu, fields: [{ native: perf.x, field: wait, convert: rate }] }]", &[]);
        let new = "[{ table: mine, each: vcpu, tag: { column: core, from: index }, \
                   fields: [{ native: halted, field: halted, convert: value, unit: '1' }] }]";
        refused(new, &[]);
        let made = tables(&yaml::from_str::<Vec<Rule>>(new).unwrap()).unwrap();
        assert_eq!(made["mine"].column("core").unwrap().kind, ColumnKind::Tag);
        assert_eq!(made["mine"].column("halted").unwrap().unit, "1");
    }

    #[test]
    fn every_fault_has_its_place() {
        let one = |field: &str| format!("[{{ table: cpu, fields: [{{ {field} }}] }}]");
        refused(&one("native: pref.x, field: wait, convert: rate"), &["did you mean `perf`"]);
        refused(&one("native: perf.x, field: wiat, convert: rate"), &["did you mean `wait`"]);
        refused(&one("native: perf..x, field: wait, convert: rate"), &["cannot be a figure's name"]);
        refused(&one("native: perf.x, field: wait, convert: latency"), &["metrics[0].fields[0].convert"]);
        refused(&one("native: perf.x, field: wait, convert: rate, factor: 0"), &["above 0"]);
        refused("[{ table: cpu, each: vcpu, fields: [] }]", &["say with `tag`", "is empty"]);
        refused(
            "[{ table: cpu, each: vcpu, tag: { column: region, from: index }, \
             fields: [{ native: x, field: wait, convert: rate }] }]",
            &["it has core"],
        );
        refused(
            "[{ table: status, fields: [{ native: perf.x, field: up, convert: value }] }]",
            &["holds a boolean"],
        );
        refused(
            "[{ table: Mine, fields: [{ native: perf.x, field: time, convert: value }] }]",
            &["lower snake case", "every table may have"],
        );
        refused(
            "[{ table: mine, each: vcpu, tag: { column: core, from: index }, \
             fields: [{ native: x, field: y, convert: rate }] }, \
             { table: mine, fields: [{ native: vcpu.x, field: core, convert: value }] }]",
            &["is a tag of `mine` already"],
        );
    }
}
