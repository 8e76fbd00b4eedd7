//! What rows look like between two transforms, as far as it can be known before a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Fields, Schema, SchemaRef};

use super::pipeline::TransformConfig;
use crate::model::{
    CLOUD_TAG, Catalog, Column, ColumnKind, FieldType, Role, TIME, Table, column_role, tag_type, time_type,
};

/// The tables that rows can be of, with all columns that their rows may have: `None` where that cannot be known, no column
/// where no row is left.
#[derive(Debug, Default)]
pub(super) struct Tables(BTreeMap<String, Option<Vec<FieldRef>>>);

impl Tables {
    /// As the sources give rows: every table that is built in, with the columns that it declares.
    pub(super) fn builtin() -> Self {
        let mut tables = Self::default();
        // The embedded tables are whole; a test of theirs says so.
        if let Ok(catalog) = Catalog::builtin() {
            catalog.tables().for_each(|table| tables.declare(table));
        }
        tables
    }

    /// Rows can be of this table, with the columns that it declares beside those that are known already.
    pub(super) fn declare(&mut self, table: &Table) {
        let known = self.0.entry(table.name().to_owned()).or_insert_with(|| Some(Vec::new()));
        let Some(known) = known else { return };
        let time = Field::new(TIME, time_type(), false);
        for column in std::iter::once(time).chain(table.columns().iter().map(Column::arrow)) {
            if !known.iter().any(|other| other.name() == column.name()) {
                known.push(Arc::new(column));
            }
        }
    }

    /// Names of the tables.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether rows can be of this table.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Of the tables that a transform is meant for, those that still have rows and whose columns are known.
    pub(super) fn known(&self, table: Option<&str>) -> impl Iterator<Item = (&str, Columns<'_>)> {
        let known = self.meant(table).filter_map(|(name, columns)| Some((name, columns.as_ref()?)));
        known.filter(|(_, columns)| !columns.is_empty()).map(|(name, columns)| (name, Columns(columns)))
    }

    /// Names of all columns of the tables that a transform is meant for, if each of them is known.
    pub(super) fn column_names(&self, table: Option<&str>) -> Option<BTreeSet<&str>> {
        let mut names = BTreeSet::new();
        for (_, columns) in self.meant(table) {
            names.extend(columns.as_ref()?.iter().map(|column| column.name().as_str()));
        }
        Some(names)
    }

    fn meant(&self, table: Option<&str>) -> impl Iterator<Item = (&str, &Option<Vec<FieldRef>>)> {
        let meant = move |name: &str| table.is_none_or(|table| table == name);
        self.0.iter().map(|(name, columns)| (name.as_str(), columns)).filter(move |(name, _)| meant(name))
    }

    /// Rows can be of this table, and nothing is known of their columns.
    pub(super) fn add(&mut self, table: &str) {
        self.0.insert(table.to_owned(), None);
    }

    /// What a transform does to its tables cannot be known.
    pub(super) fn forget(&mut self, table: Option<&str>) {
        let meant = self.0.iter_mut().filter(|(name, _)| table.is_none_or(|table| table == name.as_str()));
        meant.for_each(|(_, columns)| *columns = None);
    }

    /// Does to the columns what a transform will do.
    pub(super) fn pass(&mut self, transform: &TransformConfig) {
        match transform {
            TransformConfig::Tag(config) => self.change(config.table.as_deref(), |columns| {
                columns.retain(|column| !config.set.contains_key(column.name()));
                columns.extend(config.set.keys().map(|name| Arc::new(Field::new(name, tag_type(), true))));
            }),
            TransformConfig::Rename(config) => self.change(config.table.as_deref(), |columns| {
                let (moved, rest): (Vec<_>, Vec<_>) =
                    columns.drain(..).partition(|column| config.columns.contains_key(column.name()));
                let cloud = config.columns.keys().filter(|old| old.starts_with(CLOUD_TAG));
                let cloud = cloud.map(|old| Arc::new(Field::new(old, tag_type(), true)));
                for column in moved.into_iter().chain(cloud).chain(rest) {
                    let name = config.columns.get(column.name()).unwrap_or(column.name());
                    if !columns.iter().any(|other| other.name() == name) {
                        columns.push(Arc::new(column.as_ref().clone().with_name(name)));
                    }
                }
            }),
            TransformConfig::Drop(config) => self.change(config.table.as_deref(), |columns| {
                columns.retain(|column| !config.columns.contains(column.name()));
            }),
            TransformConfig::Keep(config) => self.change(config.table.as_deref(), |columns| {
                columns.retain(|column| !is_field(column) || config.columns.contains(column.name()));
                // Rows without a field are dropped.
                if !columns.iter().any(|column| is_field(column)) {
                    columns.clear();
                }
            }),
            TransformConfig::Sql(config) => {
                // All rows go into the other table, if there is one.
                if let Some(columns) = self.0.get_mut(&config.table) {
                    *columns = Some(Vec::new());
                }
                self.add(config.into.as_ref().unwrap_or(&config.table));
            }
            TransformConfig::Filter(_) | TransformConfig::Downsample(_) => {}
        }
    }

    fn change(&mut self, table: Option<&str>, change: impl Fn(&mut Vec<FieldRef>)) {
        let meant = self.0.iter_mut().filter(|(name, _)| table.is_none_or(|table| table == name.as_str()));
        // A table without rows gets none by what is done to its columns.
        meant
            .filter_map(|(_, columns)| columns.as_mut().filter(|columns| !columns.is_empty()))
            .for_each(change);
    }
}

/// The columns of one table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns<'a>(&'a [FieldRef]);

impl Columns<'_> {
    /// For the transforms that speak SQL.
    pub(super) fn schema(self) -> SchemaRef {
        Arc::new(Schema::new(self.0.iter().cloned().collect::<Fields>()))
    }

    /// Whether there is such a column.
    pub(super) fn has(self, name: &str) -> bool {
        self.0.iter().any(|column| column.name() == name)
    }

    /// Whether a column is a tag or a field of which type, if there is such a column.
    pub(super) fn kind(self, name: &str) -> Option<ColumnKind> {
        let column = self.0.iter().find(|column| column.name() == name)?;
        match column_role(column)? {
            Role::Time => None,
            Role::Tag => Some(ColumnKind::Tag),
            Role::Field => FieldType::from_arrow(column.data_type()).map(ColumnKind::Field),
        }
    }

    /// Whether there is such a field.
    pub(super) fn has_field(self, name: &str) -> bool {
        self.0.iter().any(|column| column.name() == name && is_field(column))
    }
}

fn is_field(column: &Field) -> bool {
    column_role(column) == Some(Role::Field)
}
