//! `drop`: leaves columns out.

use std::collections::BTreeSet;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Refused, Transform, columns, concerns, replace};
use crate::Result;
use crate::model::Parcel;

/// Leaves columns out. Rows that differed only in a tag that is left out become one row: the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Only rows of this table; of every table if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Names of the columns.
    pub columns: BTreeSet<String>,
}

/// The transform.
#[derive(Debug)]
pub struct Drop {
    config: Config,
}

impl Drop {
    /// Checks the configuration.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for columns that identify a row.
    pub fn new(config: &Config) -> Result<Self> {
        config.columns.iter().try_for_each(|name| columns::removable(name, "drop column"))?;
        Ok(Self { config: config.clone() })
    }
}

#[async_trait]
impl Transform for Drop {
    async fn apply(&mut self, parcel: Parcel) -> Result<Vec<Parcel>, Refused> {
        if !concerns(self.config.table.as_deref(), &parcel.batch) {
            return Ok(vec![parcel]);
        }
        let left =
            columns::of(&parcel.batch).filter(|(field, _)| !self.config.columns.contains(field.name()));
        let batch = columns::with(&parcel.batch, left);
        replace(parcel, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cpu, parcel};
    use super::*;

    fn drop(columns: &[&str]) -> Result<Drop> {
        Drop::new(&Config { table: None, columns: columns.iter().map(|name| (*name).into()).collect() })
    }

    #[tokio::test]
    async fn named_columns_go_and_all_else_stays() {
        let out = drop(&["core", "nothing"]).unwrap().apply(parcel(cpu(2)).0).await.unwrap().remove(0);
        assert!(out.batch.records().column_by_name("core").is_none());
        assert_eq!(out.batch.float("utilization", 1), Some(1.0));
        assert_eq!(out.batch.rows(), 2);
    }

    #[test]
    fn identity_stays() {
        assert!(drop(&["time"]).is_err());
        assert!(drop(&["observer"]).is_err());
    }
}
