//! Which of libvirt's statistics go into which column: `schemas/providers/kvm.yaml`, embedded and checked once, and the
//! metrics that the pipeline file adds.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use super::config::{Config, GROUPS};
use crate::model::Table;
use crate::provider::mapping::{Rule, check, tables};
use crate::{Error, Result, yaml};

const TEXT: &str = include_str!("../../../schemas/providers/kvm.yaml");

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[expect(dead_code, reason = "says in the file whose mapping it is")]
    provider: String,
    /// Rules in the order in which their rows are made.
    rules: Vec<Rule>,
}

/// All that one source makes rows of.
#[derive(Debug)]
pub(super) struct Mapping {
    /// The rules that ship with the program.
    pub(super) builtin: &'static [Rule],
    /// The metrics of the pipeline file.
    pub(super) custom: Vec<Rule>,
    /// The tables that they make beside those that are built in.
    pub(super) tables: BTreeMap<String, Arc<Table>>,
}

impl Mapping {
    /// The built-in rules with the metrics of a configuration.
    ///
    /// # Errors
    /// A metric is wrong.
    pub(super) fn new(config: &Config) -> Result<Self> {
        if let Some(wrong) = config.wrong_metrics().into_iter().next() {
            return Err(Error::from(wrong).with_provider("kvm"));
        }
        Ok(Self { builtin: builtin()?, tables: tables(&config.metrics)?, custom: config.metrics.clone() })
    }

    /// The groups of statistics that are asked for only because a metric names them.
    pub(super) fn extra_groups(&self) -> u32 {
        let natives = self.custom.iter().flat_map(|rule| {
            let each = rule.each.iter();
            let natives = rule.fields.iter().map(|field| &field.native).filter(|_| rule.each.is_none());
            each.chain(natives).map(String::as_str)
        });
        natives.fold(0, |groups, native| groups | extra(native.split('.').next().unwrap_or_default()))
    }
}

/// The flag of a group that costs extra.
fn extra(group: &str) -> u32 {
    match group {
        "perf" => virt_sys::VIR_DOMAIN_STATS_PERF,
        "iothread" => virt_sys::VIR_DOMAIN_STATS_IOTHREAD,
        "memory" => virt_sys::VIR_DOMAIN_STATS_MEMORY,
        "dirtyrate" => virt_sys::VIR_DOMAIN_STATS_DIRTYRATE,
        "vm" => virt_sys::VIR_DOMAIN_STATS_VM,
        _ => 0,
    }
}

/// Whether the fast question brings a figure.
pub(super) fn is_fast(native: &str) -> bool {
    matches!(native.split('.').next(), Some("state" | "net"))
}

/// The rules that ship with the program.
///
/// # Errors
/// Never in a program that passed its tests: the file is not well-formed or names a column that no table has.
fn builtin() -> Result<&'static [Rule]> {
    static RULES: LazyLock<std::result::Result<Vec<Rule>, String>> = LazyLock::new(|| {
        let file: File = yaml::from_str(TEXT).map_err(|error| error.to_string())?;
        match check(&file.rules, &GROUPS).into_iter().next() {
            Some(wrong) => Err(Error::from(wrong).to_string()),
            None => Ok(file.rules),
        }
    });
    RULES.as_deref().map_err(|reason| {
        Error::invalid("read the mapping", reason.as_str()).with_resource("schemas/providers/kvm.yaml")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_fits_the_tables_and_makes_none_of_its_own() {
        let mapping = Mapping::new(&Config::default()).unwrap();
        assert!(mapping.builtin.len() >= 5 && mapping.tables.is_empty());
        assert!(tables(mapping.builtin).unwrap().is_empty());
        assert_eq!(mapping.extra_groups(), 0);
    }

    #[test]
    fn groups_that_cost_extra_are_asked_for_only_when_named() {
        let metrics = "[{ table: mine, fields: [{ native: perf.cmt, field: a, convert: value }, \
                       { native: cpu.time, field: b, convert: rate }] }, \
                       { table: io, each: iothread, tag: { column: thread, from: index }, \
                       fields: [{ native: poll-max-ns, field: a, convert: value }] }]";
        let config = Config { metrics: yaml::from_str(metrics).unwrap(), ..Config::default() };
        let mapping = Mapping::new(&config).unwrap();
        let expected = virt_sys::VIR_DOMAIN_STATS_PERF | virt_sys::VIR_DOMAIN_STATS_IOTHREAD;
        assert_eq!(mapping.extra_groups(), expected);
        assert_eq!(mapping.tables.keys().collect::<Vec<_>>(), ["io", "mine"]);
        let config = Config { metrics: yaml::from_str("[{ table: cpu, fields: [] }]").unwrap(), ..config };
        assert!(Mapping::new(&config).unwrap_err().to_string().contains("metrics[0].fields"));
    }
}
