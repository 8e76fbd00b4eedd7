//! `rename`: gives columns other names.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Refused, Transform, columns, concerns, replace};
use crate::model::{MetricBatch, Parcel};
use crate::{Error, Result};

/// Gives columns other names. A column that a batch does not have is no error; a new name that it has already is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Only rows of this table; of every table if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// From the old names to the new ones.
    pub columns: BTreeMap<String, String>,
}

/// The transform.
#[derive(Debug)]
pub struct Rename {
    config: Config,
}

impl Rename {
    /// Checks the configuration.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for columns that identify a row, for names that are empty, and for two columns with
    /// one new name.
    pub fn new(config: &Config) -> Result<Self> {
        let mut taken = BTreeMap::new();
        for (old, new) in &config.columns {
            columns::removable(old, "rename column")?;
            if !columns::is_name(new) {
                return Err(
                    Error::invalid("rename column", format!("{new:?} is no name for it")).with_resource(old)
                );
            }
            if let Some(other) = taken.insert(new, old) {
                let reason = format!("{other} gets the name {new} too");
                return Err(Error::invalid("rename column", reason).with_resource(old));
            }
        }
        Ok(Self { config: config.clone() })
    }

    fn rename(&self, batch: &MetricBatch) -> Result<MetricBatch> {
        let renamed = columns::of(batch).map(|(field, column)| match self.config.columns.get(field.name()) {
            Some(new) => (Arc::new(field.as_ref().clone().with_name(new)), column),
            None => (field, column),
        });
        columns::with(batch, renamed)
    }
}

#[async_trait]
impl Transform for Rename {
    async fn apply(&mut self, parcel: Parcel) -> Result<Vec<Parcel>, Refused> {
        if !concerns(self.config.table.as_deref(), &parcel.batch) {
            return Ok(vec![parcel]);
        }
        let batch = self.rename(&parcel.batch);
        replace(parcel, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cpu, parcel};
    use super::*;

    fn rename(columns: &[(&str, &str)]) -> Result<Rename> {
        let columns = columns.iter().map(|(old, new)| ((*old).into(), (*new).into())).collect();
        Rename::new(&Config { table: Some("cpu".into()), columns })
    }

    #[tokio::test]
    async fn columns_get_new_names_also_in_a_ring() {
        let mut rename =
            rename(&[("utilization", "steal"), ("steal", "utilization"), ("nothing", "x")]).unwrap();
        let out = rename.apply(parcel(cpu(2)).0).await.unwrap().remove(0);
        assert_eq!(out.batch.float("steal", 1), Some(1.0));
        assert_eq!(out.batch.float("utilization", 1), Some(0.5));
    }

    #[tokio::test]
    async fn a_name_that_is_taken_refuses_the_batch() {
        let mut rename = rename(&[("core", "region")]).unwrap();
        let refused = rename.apply(parcel(cpu(1)).0).await.unwrap_err();
        assert_eq!(refused.parcel.batch, cpu(1));
        assert!(refused.error.to_string().contains("twice"), "{}", refused.error);
    }

    #[test]
    fn identity_and_doubled_names_are_refused() {
        assert!(rename(&[("time", "when")]).is_err());
        assert!(rename(&[("resource_id", "id")]).is_err());
        assert!(rename(&[("a", "c"), ("b", "c")]).is_err());
        assert!(rename(&[("a", "")]).is_err());
    }
}
