//! `keep`: leaves all fields out but some.

use std::collections::BTreeSet;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Refused, Transform, columns, concerns, replace};
use crate::Result;
use crate::model::{Parcel, Role, column_role};

/// Leaves all fields out but the named ones. `time` and the tags stay: without a tag, different rows would become one
/// (`drop` takes tags away by name). A batch that has none of the fields is dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Only rows of this table; of every table if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Names of the fields that stay.
    pub columns: BTreeSet<String>,
}

/// The transform.
#[derive(Debug)]
pub struct Keep {
    config: Config,
}

impl Keep {
    /// There is nothing to check.
    ///
    /// # Errors
    /// None; the signature is that of every transform.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self { config: config.clone() })
    }
}

#[async_trait]
impl Transform for Keep {
    async fn apply(&mut self, parcel: Parcel) -> Result<Vec<Parcel>, Refused> {
        if !concerns(self.config.table.as_deref(), &parcel.batch) {
            return Ok(vec![parcel]);
        }
        let mut fields = 0;
        let left: Vec<_> = columns::of(&parcel.batch)
            .filter(|(field, _)| {
                let is_field = column_role(field) == Some(Role::Field);
                let named = is_field && self.config.columns.contains(field.name());
                fields += usize::from(named);
                named || !is_field
            })
            .collect();
        if fields == 0 {
            parcel.settle();
            return Ok(Vec::new());
        }
        let batch = columns::with(&parcel.batch, left);
        replace(parcel, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cpu, parcel};
    use super::*;

    fn keep(columns: &[&str]) -> Keep {
        Keep::new(&Config { table: None, columns: columns.iter().map(|name| (*name).into()).collect() })
            .unwrap()
    }

    #[tokio::test]
    async fn named_fields_and_all_tags_stay() {
        let out = keep(&["steal"]).apply(parcel(cpu(2)).0).await.unwrap().remove(0);
        assert!(out.batch.records().column_by_name("utilization").is_none());
        assert_eq!(out.batch.float("steal", 1), Some(0.5));
        assert_eq!(out.batch.tag("core", 1), Some("1"));
    }

    #[tokio::test]
    async fn rows_without_any_field_are_dropped_and_settled() {
        let (parcel, settled) = parcel(cpu(2));
        assert!(keep(&["load_1m"]).apply(parcel).await.unwrap().is_empty());
        assert!(settled());
    }
}
