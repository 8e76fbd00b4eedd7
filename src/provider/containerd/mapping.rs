//! Which figures go into which column: `schemas/providers/containerd.yaml`, embedded and checked once, and the metrics
//! that the pipeline file adds.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use super::config::{Config, GROUPS};
use super::message::Version;
use crate::model::Table;
use crate::provider::mapping::{Rule, check, tables};
use crate::{Error, Result, yaml};

const TEXT: &str = include_str!("../../../schemas/providers/containerd.yaml");

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[expect(dead_code, reason = "says in the file whose mapping it is")]
    provider: String,
    v1: Vec<Rule>,
    v2: Vec<Rule>,
    network: Vec<Rule>,
}

/// All that a source makes rows of.
#[derive(Debug)]
pub(super) struct Mapping {
    file: &'static File,
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
            return Err(Error::from(wrong).with_provider(super::PROVIDER));
        }
        let tables = tables(&config.metrics)?;
        Ok(Self { file: file()?, custom: config.metrics.clone(), tables })
    }

    /// The rules that ship with the program for messages of a version.
    pub(super) fn of(&self, version: Version) -> &[Rule] {
        match version {
            Version::V1 => &self.file.v1,
            Version::V2 => &self.file.v2,
        }
    }

    /// Those for networks.
    pub(super) fn network(&self) -> &[Rule] {
        &self.file.network
    }
}

fn file() -> Result<&'static File> {
    static FILE: LazyLock<std::result::Result<File, String>> = LazyLock::new(|| {
        let file: File = yaml::from_str(TEXT).map_err(|error| error.to_string())?;
        let rules = [&file.v1, &file.v2, &file.network];
        let wrong = rules.into_iter().flat_map(|rules| check(rules, &GROUPS)).next();
        match wrong {
            Some(wrong) => Err(Error::from(wrong).to_string()),
            None => Ok(file),
        }
    });
    FILE.as_ref().map_err(|reason| {
        Error::invalid("read the mapping", reason.as_str()).with_resource("schemas/providers/containerd.yaml")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_fits_the_tables_and_makes_none_of_its_own() {
        let mapping = Mapping::new(&Config::default()).unwrap();
        for version in [Version::V1, Version::V2] {
            assert!(mapping.of(version).len() >= 4);
            assert!(tables(mapping.of(version)).unwrap().is_empty());
        }
        assert!(tables(mapping.network()).unwrap().is_empty());
    }
}
