//! Which of libvirt's statistics go into which column: `schemas/providers/kvm.yaml`, embedded and checked once.

use std::sync::LazyLock;

use serde::Deserialize;

use crate::model::{Catalog, Role, column_role};
use crate::{Error, Result, yaml};

const TEXT: &str = include_str!("../../../schemas/providers/kvm.yaml");

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mapping {
    #[expect(dead_code, reason = "says in the file whose mapping it is")]
    provider: String,
    /// Rules in the order in which their rows are made.
    pub(super) rules: Vec<Rule>,
}

/// Rows of one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// The table.
    pub(super) table: String,
    /// The group of statistics whose every index makes a row; without it the guest as a whole makes one.
    #[serde(default)]
    pub(super) each: Option<String>,
    /// The column that tells these rows apart.
    #[serde(default)]
    pub(super) tag: Option<Tag>,
    /// Columns to fill.
    pub(super) fields: Vec<Field>,
}

/// A tag column and where its value is from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tag {
    /// The column.
    pub(super) column: String,
    /// The index itself, or the statistic `name` beside it.
    pub(super) from: TagFrom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TagFrom {
    Index,
    Name,
}

/// One column from one statistic.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Field {
    /// libvirt's name; relative to the row's index under `each`.
    pub(super) native: String,
    /// The column.
    pub(super) field: String,
    /// How the one becomes the other.
    pub(super) convert: Conversion,
    /// For [`Conversion::Latency`]: the counter of operations.
    #[serde(default)]
    pub(super) per: Option<String>,
    /// Whether the value comes from the guest itself and is worth nothing when it is old.
    #[serde(default)]
    pub(super) fresh: bool,
}

/// How a statistic becomes a value; the file says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Conversion {
    Value,
    Kibibytes,
    Rate,
    KibibyteRate,
    Share,
    ShareOfCores,
    Latency,
}

impl Mapping {
    /// The mapping that ships with the program.
    ///
    /// # Errors
    /// Never in a program that passed its tests: the file is not well-formed or names a column that no table has.
    pub(super) fn builtin() -> Result<&'static Self> {
        static MAPPING: LazyLock<std::result::Result<Mapping, String>> = LazyLock::new(|| {
            let mapping: Mapping = yaml::from_str(TEXT).map_err(|error| error.to_string())?;
            mapping.check().map_err(|error| error.chain())?;
            Ok(mapping)
        });
        MAPPING.as_ref().map_err(|reason| {
            Error::invalid("read the mapping", reason.as_str()).with_resource("schemas/providers/kvm.yaml")
        })
    }

    fn check(&self) -> Result<()> {
        for rule in &self.rules {
            let table = Catalog::builtin()?.table(&rule.table)?;
            let has = |name: &str, role: Role| {
                let column = table.column(name).filter(|column| column_role(&column.arrow()) == Some(role));
                column.map(|_| ()).ok_or_else(|| {
                    Error::invalid("check the mapping", "the table has no such column")
                        .with_resource(format!("{}.{name}", rule.table))
                })
            };
            if rule.each.is_some() != rule.tag.is_some() {
                return Err(Error::invalid("check the mapping", "`each` and `tag` belong together")
                    .with_resource(rule.table.as_str()));
            }
            if let Some(tag) = &rule.tag {
                has(&tag.column, Role::Tag)?;
            }
            for field in &rule.fields {
                has(&field.field, Role::Field)?;
                if (field.convert == Conversion::Latency) != field.per.is_some() {
                    return Err(Error::invalid("check the mapping", "`latency` and `per` belong together")
                        .with_resource(format!("{}.{}", rule.table, field.field)));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_fits_the_tables() {
        let mapping = Mapping::builtin().unwrap();
        assert!(mapping.rules.len() >= 5);
    }

    #[test]
    fn a_column_that_no_table_has_and_half_a_latency_are_refused() {
        let read = |text: &str| yaml::from_str::<Mapping>(text).unwrap().check();
        let unknown = "provider: kvm\nrules:\n  - table: cpu\n    fields: [{ native: x, field: speed, convert: value }]";
        assert!(read(unknown).unwrap_err().to_string().contains("cpu.speed"));
        let half = "provider: kvm\nrules:\n  - table: disk\n    fields: [{ native: x, field: read_latency_seconds, convert: latency }]";
        assert!(read(half).unwrap_err().to_string().contains("per"));
    }
}
