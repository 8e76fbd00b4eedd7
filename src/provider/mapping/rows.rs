//! Values of rules gathered into rows, and rows into batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::convert::{Reading, converted};
use super::{Rule, TagFrom};
use crate::Result;
use crate::model::{BatchBuilder, Identity, MetricBatch, Table, Value};
use crate::provider::rates::Rates;

/// Columns and their values.
pub type Values<'m> = Vec<(&'m str, f64)>;

/// One row of a resource in the making: several rules may add to it.
#[derive(Debug)]
pub struct Pending<'m> {
    /// The table.
    pub table: &'m str,
    /// The column that tells it from the table's other rows of the resource, and what stands in it.
    pub tag: Option<(&'m str, String)>,
    /// Columns and their values.
    pub values: Values<'m>,
}

/// What tells the counters of one rule from those of another.
pub fn scope(number: usize) -> String {
    format!("{number}/")
}

/// Adds values to the row that they belong to. What comes later wins.
pub fn add<'m>(
    pending: &mut Vec<Pending<'m>>,
    table: &'m str,
    tag: Option<(&'m str, String)>,
    values: Values<'m>,
) {
    let Some(row) = pending.iter_mut().find(|row| row.table == table && row.tag == tag) else {
        return pending.push(Pending { table, tag, values });
    };
    row.values.retain(|(name, _)| !values.iter().any(|(other, _)| other == name));
    row.values.extend(values);
}

/// Adds the rows of a rule with `each`, one for every index of its group.
pub fn each<'m>(
    pending: &mut Vec<Pending<'m>>,
    rule: &'m Rule,
    group: &str,
    scope: &str,
    rates: &mut Rates<String>,
    reading: Reading<'_>,
) {
    let Some(tag) = &rule.tag else { return };
    for index in reading.params.indexes(group) {
        let prefix = format!("{group}.{index}.");
        let which = match tag.from {
            TagFrom::Index => Some(index),
            TagFrom::Name => reading.params.text(&format!("{prefix}name")),
        };
        // Without its name the row would overwrite another device's.
        let Some(which) = which.filter(|which| !which.is_empty()) else { continue };
        let values = rule.fields.iter().filter_map(|field| {
            Some((field.field.as_str(), converted(field, scope, &prefix, reading, rates, None)?))
        });
        let values = values.collect();
        add(pending, &rule.table, Some((&tag.column, which.to_owned())), values);
    }
}

/// Batches in the making, by table.
#[derive(Debug)]
pub struct Batches {
    builders: BTreeMap<String, BatchBuilder>,
    /// Tables that are not built in.
    own: BTreeMap<String, Arc<Table>>,
    /// Tags that rows may have beside those that their tables declare.
    tags: &'static [&'static str],
}

impl Batches {
    /// No rows yet. Tables that are not built in are among `own`; rows of all tables may have the `tags`.
    pub fn new(own: &BTreeMap<String, Arc<Table>>, tags: &'static [&'static str]) -> Self {
        Self { builders: BTreeMap::new(), own: own.clone(), tags }
    }

    /// Adds a row; values that are [`Value::Null`] are left out.
    ///
    /// # Errors
    /// The table has no such column.
    pub fn row(
        &mut self,
        table: &str,
        identity: &Identity,
        time: i64,
        values: &[(&str, Value<'_>)],
    ) -> Result<()> {
        if !self.builders.contains_key(table) {
            let declared = match self.own.get(table) {
                Some(own) => Arc::clone(own),
                None => Arc::clone(crate::model::Catalog::builtin()?.table(table)?),
            };
            let declared =
                if self.tags.is_empty() { declared } else { Arc::new(declared.with_tags(self.tags)) };
            self.builders.insert(table.to_owned(), BatchBuilder::for_table(&declared, identity));
        }
        let builder = self.builders.get_mut(table).ok_or_else(|| {
            crate::Error::invalid("build rows", "the table's builder is missing").with_resource(table)
        })?;
        builder.identify(identity);
        let mut row = builder.row(time);
        for (column, value) in values {
            row.set(column, *value)?;
        }
        Ok(())
    }

    /// Adds gathered rows, all with the same `extra` values; rows without a value of their own are left out.
    ///
    /// # Errors
    /// A table has no such column.
    pub fn gathered(
        &mut self,
        rows: &[Pending<'_>],
        identity: &Identity,
        time: i64,
        extra: &[(&str, Value<'_>)],
    ) -> Result<()> {
        for row in rows.iter().filter(|row| !row.values.is_empty()) {
            let tag = row.tag.as_ref().map(|(column, which)| (*column, Value::Text(which)));
            let values = row.values.iter().map(|(column, value)| (*column, Value::Float(*value)));
            let all: Vec<_> = extra.iter().copied().chain(tag).chain(values).collect();
            self.row(row.table, identity, time, &all)?;
        }
        Ok(())
    }

    /// The batches; tables without rows are left out.
    ///
    /// # Errors
    /// An identity lacked a required tag.
    pub fn finish(self) -> Result<Vec<MetricBatch>> {
        self.builders.into_values().map(BatchBuilder::finish).collect()
    }
}
