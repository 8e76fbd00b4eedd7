//! Answers as rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SECOND;
use super::machine::Machine;
use super::settle::Grid;
use super::target::{Target, converted};
use crate::Result;
use crate::model::{BatchBuilder, Catalog, Identity, MetricBatch, Table, Value};

/// Rows in the making, by table.
pub(super) struct Rows {
    own: BTreeMap<String, Arc<Table>>,
    /// Columns of the tags that the pipeline file asks for.
    tags: Vec<Arc<str>>,
    builders: BTreeMap<String, BatchBuilder>,
}

impl Rows {
    pub(super) fn new(own: &BTreeMap<String, Arc<Table>>, tags: &[Arc<str>]) -> Self {
        Self { own: own.clone(), tags: tags.to_vec(), builders: BTreeMap::new() }
    }

    /// The tags of an instance as columns.
    pub(super) fn cloud_tags(&self, machine: &Machine) -> Vec<(Arc<str>, Arc<str>)> {
        let tags = self.tags.iter().zip(&machine.tags);
        tags.filter_map(|(column, value)| Some((Arc::clone(column), Arc::clone(value.as_ref()?)))).collect()
    }

    fn builder(&mut self, table: &str, identity: &Identity) -> Result<&mut BatchBuilder> {
        if !self.builders.contains_key(table) {
            let declared = match self.own.get(table) {
                Some(own) => Arc::clone(own),
                None => Arc::clone(Catalog::builtin()?.table(table)?),
            };
            let tags: Vec<&str> = self.tags.iter().map(|tag| &**tag).collect();
            let declared = if tags.is_empty() { declared } else { Arc::new(declared.with_tags(&tags)) };
            self.builders.insert(table.to_owned(), BatchBuilder::for_table(&declared, identity));
        }
        self.builders.get_mut(table).ok_or_else(|| {
            crate::Error::invalid("build rows", "the table's builder is missing").with_resource(table)
        })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// The table has no such column.
    pub(super) fn row(
        &mut self,
        table: &str,
        identity: &Identity,
        tags: &[(Arc<str>, Arc<str>)],
        time: i64,
        values: &[(&str, Value<'_>)],
    ) -> Result<()> {
        let builder = self.builder(table, identity)?;
        builder.identify(identity);
        let mut row = builder.row(time);
        for (column, value) in tags {
            row.set(column, &**value)?;
        }
        for (column, value) in values {
            row.set(column, *value)?;
        }
        Ok(())
    }

    /// Adds rows of a resource: those of a grid that are named. A figure that is not there leaves its column empty, and a row
    /// without any is none.
    ///
    /// # Errors
    /// A table has no such column.
    pub(super) fn figures(&mut self, target: &Target, grid: &Grid, rows: &[usize]) -> Result<()> {
        let figures = &target.ask.figures;
        for of in &target.ask.rows {
            let columns = of.figures.iter().filter_map(|figure| {
                let column = figures.get(*figure)?.to.as_ref()?;
                let value = |row: &usize| {
                    let read = grid.row(*row);
                    let at = |figure: usize| read.get(figure).copied().filter(|value| !value.is_nan());
                    at(*figure).map_or(Value::Null, |value| {
                        converted(column.convert, value, grid.period, column.per.and_then(at))
                    })
                };
                Some((column.field.as_str(), rows.iter().map(value).collect()))
            });
            let mut columns: Vec<(&str, Vec<Value<'static>>)> = columns.collect();
            let filled = |row: usize| columns.iter().any(|(_, values)| values[row] != Value::Null);
            let filled: Vec<bool> = (0..rows.len()).map(filled).collect();
            let times = rows.iter().zip(&filled).filter(|(_, filled)| **filled);
            let times: Vec<i64> = times.map(|(row, _)| grid.time(*row).saturating_mul(SECOND)).collect();
            if times.is_empty() {
                continue;
            }
            if times.len() < rows.len() {
                for (_, values) in &mut columns {
                    let mut filled = filled.iter();
                    values.retain(|_| filled.next().copied().unwrap_or(false));
                }
            }
            let of_row = of
                .tags
                .iter()
                .filter_map(|(column, from)| Some((column.as_str(), target.tag(column, from)?)));
            let of_target = target.tags.iter().map(|(column, value)| (&**column, &**value));
            let tags: Vec<(&str, &str)> = of_target.chain(of_row).collect();
            let builder = self.builder(&of.table, &target.identity)?;
            builder.rows_of(&target.identity, &times, &tags, &columns)?;
        }
        Ok(())
    }

    /// The batches; tables without rows are left out.
    ///
    /// # Errors
    /// An identity lacked a required tag.
    pub(super) fn finish(self) -> Result<Vec<MetricBatch>> {
        self.builders.into_values().map(BatchBuilder::finish).collect()
    }
}
