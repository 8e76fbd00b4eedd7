//! Measurement tables as data: `schemas/tables/*.yaml`, embedded and checked once at first use.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde::Deserialize;

use crate::{Error, Result, yaml};

/// Name of the time column: `Timestamp(ns)` in UTC, the end of the interval that the row describes.
pub const TIME: &str = "time";

/// Tags that every table has, in column order.
pub const COMMON_TAGS: [&str; 8] =
    ["provider", "account", "region", "zone", "resource_type", "resource_id", "resource_name", "observer"];

/// Common tags without which a row has no identity; null is refused.
pub const REQUIRED_TAGS: [&str; 4] = ["provider", "resource_type", "resource_id", "observer"];

/// What the names of tags begin with that people gave to resources in a cloud. No table declares them: each resource has
/// others.
pub const CLOUD_TAG: &str = "tag_";

/// Arrow type of every tag column.
pub fn tag_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Arrow type of the time column.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, None)
}

/// What a column is for. The Arrow type alone decides, so that a batch, a log frame and a Parquet file need no
/// other description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The time column.
    Time,
    /// Part of the row's identity.
    Tag,
    /// A measured value.
    Field,
}

/// The four types a field can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// `Float64`.
    Float,
    /// `Int64`.
    Integer,
    /// `Boolean`.
    Boolean,
    /// `Utf8`.
    String,
}

impl FieldType {
    /// The Arrow type.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Float => DataType::Float64,
            Self::Integer => DataType::Int64,
            Self::Boolean => DataType::Boolean,
            Self::String => DataType::Utf8,
        }
    }

    /// The field type of an Arrow type, if it is one of the four.
    pub fn from_arrow(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Float64 => Some(Self::Float),
            DataType::Int64 => Some(Self::Integer),
            DataType::Boolean => Some(Self::Boolean),
            DataType::Utf8 => Some(Self::String),
            _ => None,
        }
    }
}

/// A declared column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Lower snake case.
    pub name: String,
    /// Tag or field, and the field's type.
    pub kind: ColumnKind,
    /// UCUM unit; empty where there is none.
    pub unit: String,
    /// One sentence for people.
    pub description: String,
    /// The OpenTelemetry name this corresponds to, where one exists.
    pub otel: Option<String>,
}

/// Tag, or field of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Part of the row's identity.
    Tag,
    /// A measured value.
    Field(FieldType),
}

impl Column {
    /// The Arrow field: always nullable, because a missing value is null and never 0.
    pub fn arrow(&self) -> Field {
        let data_type = match self.kind {
            ColumnKind::Tag => tag_type(),
            ColumnKind::Field(field) => field.arrow(),
        };
        Field::new(&self.name, data_type, true)
    }
}

/// A measurement table: its name and its declared columns (common tags first, then table tags, then fields).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    name: String,
    description: String,
    columns: Vec<Column>,
}

impl Table {
    /// Reads and checks one table file.
    ///
    /// # Errors
    /// The text is not a table file, or declares a name or type that cannot be.
    pub fn from_yaml(text: &str) -> Result<Self> {
        let file: TableFile =
            yaml::from_str(text).map_err(|e| Error::invalid("read table schema", e.to_string()))?;
        file.check()
    }

    /// A table that is not built in: tags, and float fields with their units.
    ///
    /// # Errors
    /// A name cannot be one or stands twice, or there is no field.
    pub fn of_figures(name: &str, tags: &[&str], fields: &[(&str, &str)]) -> Result<Self> {
        let description = || "Of a metric that the pipeline file defines".to_owned();
        let tag = |name: &&str| TagEntry { name: (*name).into(), description: description(), otel: None };
        let field = |(name, unit): &(&str, &str)| FieldEntry {
            name: (*name).into(),
            kind: FieldType::Float,
            unit: (*unit).into(),
            description: description(),
            otel: None,
        };
        let (tags, fields) = (tags.iter().map(tag).collect(), fields.iter().map(field).collect());
        TableFile { name: name.into(), description: description(), tags, fields }.check()
    }

    /// The same table with more tags, which stand behind its own.
    #[must_use]
    pub fn with_tags(&self, names: &[&str]) -> Self {
        let known = |name: &str| self.columns.iter().any(|column| column.name == name);
        let more = names.iter().filter(|name| !known(name)).map(|name| Column {
            name: (*name).to_owned(),
            kind: ColumnKind::Tag,
            unit: String::new(),
            description: format!("Tag {name} of the resource"),
            otel: None,
        });
        let (tags, fields): (Vec<_>, Vec<_>) =
            self.columns.iter().cloned().partition(|column| column.kind == ColumnKind::Tag);
        Self { columns: tags.into_iter().chain(more).chain(fields).collect(), ..self.clone() }
    }

    /// Whether a table or column can be called so.
    pub fn is_name(name: &str) -> bool {
        is_identifier(name)
    }

    /// Name of the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One sentence for people.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Declared columns: common tags, table tags, fields. The time column is not among them.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The declared column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// The tables of this build, by name.
#[derive(Debug)]
pub struct Catalog(BTreeMap<String, Arc<Table>>);

/// Name and text of every embedded table file.
const FILES: [(&str, &str); 13] = [
    ("checks", include_str!("../../schemas/tables/checks.yaml")),
    ("cpu", include_str!("../../schemas/tables/cpu.yaml")),
    ("credit", include_str!("../../schemas/tables/credit.yaml")),
    ("disk", include_str!("../../schemas/tables/disk.yaml")),
    ("events", include_str!("../../schemas/tables/events.yaml")),
    ("filesystem", include_str!("../../schemas/tables/filesystem.yaml")),
    ("hugepages", include_str!("../../schemas/tables/hugepages.yaml")),
    ("job", include_str!("../../schemas/tables/job.yaml")),
    ("memory", include_str!("../../schemas/tables/memory.yaml")),
    ("network", include_str!("../../schemas/tables/network.yaml")),
    ("pressure", include_str!("../../schemas/tables/pressure.yaml")),
    ("status", include_str!("../../schemas/tables/status.yaml")),
    ("storage", include_str!("../../schemas/tables/storage.yaml")),
];

impl Catalog {
    /// The embedded tables, parsed once.
    ///
    /// # Errors
    /// A fault of the build, which a test catches.
    pub fn builtin() -> Result<&'static Catalog> {
        static CATALOG: LazyLock<std::result::Result<Catalog, String>> = LazyLock::new(|| {
            let tables = FILES.iter().map(|(name, text)| match Table::from_yaml(text) {
                Ok(table) if table.name == *name => Ok((table.name.clone(), Arc::new(table))),
                Ok(table) => Err(format!("schemas/tables/{name}.yaml declares the table {:?}", table.name)),
                Err(error) => Err(format!("schemas/tables/{name}.yaml: {error}")),
            });
            tables.collect::<Result<BTreeMap<_, _>, _>>().map(Catalog)
        });
        CATALOG.as_ref().map_err(|message| Error::invalid("load the embedded table schemas", message.clone()))
    }

    /// The table of this name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] if there is none, with the names that there are.
    pub fn table(&self, name: &str) -> Result<&Arc<Table>> {
        self.0.get(name).ok_or_else(|| {
            let known: Vec<_> = self.0.keys().map(String::as_str).collect();
            Error::invalid("find table", format!("there is no such table; known are {}", known.join(", ")))
                .with_resource(name)
        })
    }

    /// All tables in order of name.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.0.values()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    name: String,
    description: String,
    tags: Vec<TagEntry>,
    fields: Vec<FieldEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TagEntry {
    name: String,
    description: String,
    otel: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldEntry {
    name: String,
    #[serde(rename = "type")]
    kind: FieldType,
    unit: String,
    description: String,
    otel: Option<String>,
}

impl TableFile {
    fn check(self) -> Result<Table> {
        let common = COMMON_TAGS.iter().map(|name| Column {
            name: (*name).to_owned(),
            kind: ColumnKind::Tag,
            unit: String::new(),
            description: format!("Common tag {name}"),
            otel: None,
        });
        let tags = self.tags.into_iter().map(|tag| Column {
            name: tag.name,
            kind: ColumnKind::Tag,
            unit: String::new(),
            description: tag.description,
            otel: tag.otel,
        });
        let fields = self.fields.into_iter().map(|field| Column {
            name: field.name,
            kind: ColumnKind::Field(field.kind),
            unit: field.unit,
            description: field.description,
            otel: field.otel,
        });
        let table = Table {
            name: self.name,
            description: self.description,
            columns: common.chain(tags).chain(fields).collect(),
        };
        let mut seen = std::collections::HashSet::from([TIME]);
        for name in std::iter::once(&table.name).chain(table.columns.iter().map(|column| &column.name)) {
            if !is_identifier(name) {
                return Err(
                    Error::invalid("read table schema", "names are lower snake case").with_resource(name)
                );
            }
        }
        for column in &table.columns {
            if !seen.insert(column.name.as_str()) {
                return Err(Error::invalid("read table schema", "the column is declared twice")
                    .with_resource(format!("{}.{}", table.name, column.name)));
            }
        }
        if !table.columns.iter().any(|column| matches!(column.kind, ColumnKind::Field(_))) {
            return Err(
                Error::invalid("read table schema", "a table needs a field").with_resource(&table.name)
            );
        }
        Ok(table)
    }
}

/// Lower snake case, so that SQL needs no quotes.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_in_the_folder_is_embedded_and_valid() {
        let catalog = Catalog::builtin().unwrap();
        let mut files: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/tables"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let names: Vec<_> = catalog.tables().map(|table| table.name().to_owned()).collect();
        assert_eq!(files, names);
    }

    #[test]
    fn fields_say_their_unit_and_rates_are_per_second() {
        for table in Catalog::builtin().unwrap().tables() {
            for column in table.columns().iter().filter(|c| matches!(c.kind, ColumnKind::Field(_))) {
                let per_second = column.name.ends_with("_per_second");
                assert_eq!(per_second, column.unit.ends_with("/s"), "{}.{}", table.name(), column.name);
                assert!(!column.description.is_empty());
            }
        }
    }

    #[test]
    fn bad_table_files_are_refused() {
        for (text, word) in [
            (
                "name: Cpu\ndescription: x\ntags: []\nfields: [{name: a, type: float, unit: s, description: d}]",
                "snake",
            ),
            (
                "name: cpu\ndescription: x\ntags: [{name: region, description: d}]\nfields: [{name: a, type: float, unit: s, description: d}]",
                "twice",
            ),
            ("name: cpu\ndescription: x\ntags: []\nfields: []", "needs a field"),
            (
                "name: cpu\ndescription: x\ntags: []\nfields: [{name: a, type: decimal, unit: s, description: d}]",
                "decimal",
            ),
            ("name: cpu\nrubbish: 1", "rubbish"),
        ] {
            let error = Table::from_yaml(text).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(
            Catalog::builtin().unwrap().table("cpus").unwrap_err().to_string().contains("cpu, credit, disk")
        );
    }
}
