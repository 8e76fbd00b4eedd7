//! The metrics that are built in: `schemas/providers/aws.yaml`, embedded and checked once.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use super::super::config::Config;
use super::super::wanted::check::is_statistic;
use super::super::wanted::{self, BUILTIN, Convert, GROUPS};
use super::target::Conversion;
use crate::model::{Catalog, ColumnKind, FieldType, Span, Table};
use crate::{Error, Result, yaml};

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[expect(dead_code, reason = "says in the file whose mapping it is")]
    provider: String,
    namespaces: Vec<Namespace>,
}

/// A namespace that is built in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Namespace {
    pub(super) namespace: String,
    pub(super) resource: Resource,
    /// The dimension that names the resource.
    pub(super) dimension: String,
    pub(super) observer: String,
    /// How long after the end of a period its figures may change.
    pub(super) settle: Span,
    pub(super) metrics: Vec<Builtin>,
}

/// Where it is known from which resources there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Resource {
    Instance,
    Volume,
    Listed,
}

/// A metric that is built in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Builtin {
    pub(super) group: String,
    pub(super) metric: String,
    pub(super) statistic: String,
    pub(super) table: String,
    pub(super) field: String,
    pub(super) convert: Conversion,
    #[serde(default)]
    pub(super) per: Option<String>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) period: Option<i64>,
    #[serde(default)]
    pub(super) when: Vec<When>,
}

/// What a resource has to be to have a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum When {
    Nitro,
    Xen,
    Burstable,
    InstanceStore,
    EbsBurst,
    BurstVolume,
    ProvisionedVolume,
}

/// What a source makes rows of.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) namespaces: &'static [Namespace],
    /// Tables of the pipeline file's own metrics.
    pub(super) tables: BTreeMap<String, Arc<Table>>,
}

impl Mapping {
    /// The built-in metrics with the tables of those of a configuration.
    ///
    /// # Errors
    /// A metric is wrong.
    pub(super) fn new(config: &Config) -> Result<Self> {
        Ok(Self { namespaces: namespaces()?, tables: wanted::tables(&config.metrics)? })
    }
}

fn namespaces() -> Result<&'static [Namespace]> {
    static FILE: LazyLock<std::result::Result<File, String>> = LazyLock::new(|| {
        let file: File = yaml::from_str(BUILTIN).map_err(|error| error.to_string())?;
        let metrics = file.namespaces.iter().flat_map(|namespace| &namespace.metrics);
        match metrics.filter_map(Builtin::wrong).next() {
            Some(wrong) => Err(wrong),
            None => Ok(file),
        }
    });
    FILE.as_ref().map(|file| file.namespaces.as_slice()).map_err(|reason| {
        Error::invalid("read the mapping", reason.as_str()).with_resource("schemas/providers/aws.yaml")
    })
}

impl Builtin {
    fn wrong(&self) -> Option<String> {
        let name = format!("{} {}", self.metric, self.statistic);
        let table = Catalog::builtin().and_then(|catalog| catalog.table(&self.table)).ok()?;
        let wanted = if self.convert == Conversion::Any(Convert::Flag) {
            FieldType::Boolean
        } else {
            FieldType::Float
        };
        if table.column(&self.field).map(|column| column.kind) != Some(ColumnKind::Field(wanted)) {
            return Some(format!("{name}: {}.{} is no {wanted:?} field", self.table, self.field));
        }
        let no_tag = |tag: &&String| table.column(tag).map(|column| column.kind) != Some(ColumnKind::Tag);
        if let Some(tag) = self.tags.keys().find(no_tag) {
            return Some(format!("{name}: {} has no tag {tag}", self.table));
        }
        if !GROUPS.contains(&self.group.as_str()) || !is_statistic(&self.statistic) {
            return Some(format!("{name}: unknown group {} or statistic", self.group));
        }
        ((self.convert == Conversion::Latency) != self.per.is_some())
            .then(|| format!("{name}: latency is per something"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_file_fits_the_tables_and_the_groups_are_those_of_the_configuration() {
        let namespaces = namespaces().unwrap();
        let metrics: Vec<_> = namespaces.iter().flat_map(|namespace| &namespace.metrics).collect();
        let catalog = Catalog::builtin().unwrap();
        assert!(metrics.iter().all(|metric| catalog.table(&metric.table).is_ok()));
        let groups: BTreeSet<&str> = metrics.iter().map(|metric| metric.group.as_str()).collect();
        assert_eq!(groups, BTreeSet::from(GROUPS));
        let basic =
            metrics.iter().filter(|metric| metric.group == "basic" && !metric.when.contains(&When::Xen));
        assert_eq!(basic.count(), 6, "of an instance on Nitro");
    }
}
