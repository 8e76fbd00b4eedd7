//! `tag`: sets tags on every row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::Field;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Refused, Transform, columns, concerns, replace};
use crate::model::{MetricBatch, Parcel, tag_type};
use crate::{Error, Result};

/// Sets tags on every row; a tag that the row has already is replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Only rows of this table; of every table if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Names and values of the tags.
    pub set: BTreeMap<String, String>,
}

/// The transform.
#[derive(Debug)]
pub struct Tag {
    config: Config,
}

impl Tag {
    /// Checks the configuration.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a name that no tag can have, for `resource_id`, or for a value that is empty: an empty tag is null.
    pub fn new(config: &Config) -> Result<Self> {
        for (name, value) in &config.set {
            let shown = name.escape_debug().to_string();
            let refused = |reason: &str| Err(Error::invalid("set tag", reason).with_resource(&shown));
            if !columns::is_name(name) {
                return refused("this is no name for a tag");
            }
            if name == "resource_id" {
                return refused(
                    "it tells the resources apart, and all would become one; choose another name",
                );
            }
            if value.is_empty() {
                return refused("a tag cannot be empty; leave it out, or give it a value");
            }
        }
        Ok(Self { config: config.clone() })
    }

    fn set(&self, batch: &MetricBatch) -> Result<MetricBatch> {
        let mut all: Vec<_> = columns::of(batch).filter(|(field, _)| !self.replaces(field)).collect();
        for (name, value) in &self.config.set {
            let keys = Int32Array::from(vec![0; batch.rows()]);
            let values: ArrayRef = Arc::new(StringArray::from(vec![value.as_str()]));
            let column: ArrayRef = Arc::new(DictionaryArray::new(keys, values));
            all.push((Arc::new(Field::new(name, tag_type(), true)), column));
        }
        columns::with(batch, all)
    }

    /// Whether a column is a tag that is set anew. A field of that name stays, so that the batch is refused for it.
    fn replaces(&self, field: &Field) -> bool {
        *field.data_type() == tag_type() && self.config.set.contains_key(field.name())
    }
}

#[async_trait]
impl Transform for Tag {
    async fn apply(&mut self, parcel: Parcel) -> Result<Vec<Parcel>, Refused> {
        if !concerns(self.config.table.as_deref(), &parcel.batch) {
            return Ok(vec![parcel]);
        }
        let batch = self.set(&parcel.batch);
        replace(parcel, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cpu, parcel};
    use super::*;

    fn tag(table: Option<&str>, set: &[(&str, &str)]) -> Result<Tag> {
        let set = set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Tag::new(&Config { table: table.map(Into::into), set })
    }

    #[tokio::test]
    async fn tags_are_added_and_replaced() {
        let (parcel, settled) = parcel(cpu(3));
        let mut tag = tag(None, &[("site", "lab"), ("region", "here")]).unwrap();
        let out = tag.apply(parcel).await.unwrap().remove(0);
        for row in 0..3 {
            assert_eq!(out.batch.tag("site", row), Some("lab"));
            assert_eq!(out.batch.tag("region", row), Some("here"));
            assert_eq!(out.batch.float("utilization", row), Some(row as f64));
        }
        assert!(!settled());
        out.settle();
        assert!(settled());
    }

    #[tokio::test]
    async fn other_tables_pass_and_a_field_is_not_overwritten() {
        let mut other = tag(Some("disk"), &[("site", "lab")]).unwrap();
        let out = other.apply(parcel(cpu(1)).0).await.unwrap();
        assert_eq!(out[0].batch, cpu(1));
        let mut field = tag(None, &[("utilization", "high")]).unwrap();
        let refused = field.apply(parcel(cpu(1)).0).await.unwrap_err();
        assert_eq!(refused.parcel.batch, cpu(1), "the parcel comes back as it was");
        assert!(refused.error.to_string().contains("cpu.utilization"), "{}", refused.error);
    }

    #[test]
    fn time_and_empty_values_are_refused() {
        assert!(tag(None, &[("time", "now")]).is_err());
        assert!(tag(None, &[("site", "")]).is_err());
    }
}
