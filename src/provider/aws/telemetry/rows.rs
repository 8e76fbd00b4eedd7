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
        let mut values = Vec::new();
        for of in &target.ask.rows {
            for number in rows {
                let read = grid.row(*number);
                let at = |figure: usize| read.get(figure).copied().filter(|value| !value.is_nan());
                values.clear();
                for figure in &of.figures {
                    let Some(column) = figures.get(*figure).and_then(|figure| figure.to.as_ref()) else {
                        continue;
                    };
                    let value = at(*figure).map_or(Value::Null, |value| {
                        converted(column.convert, value, grid.period, column.per.and_then(at))
                    });
                    if value != Value::Null {
                        values.push((column.field.as_str(), value));
                    }
                }
                if values.is_empty() {
                    continue;
                }
                for (column, from) in &of.tags {
                    values.push((column, target.tag(column, from).into()));
                }
                let time = grid.time(*number).saturating_mul(SECOND);
                self.row(&of.table, &target.identity, &target.tags, time, &values)?;
            }
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
