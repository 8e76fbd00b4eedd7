//! `filter`: keeps the rows for which an SQL expression is true.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Refused, Transform, concerns, replace};
use crate::model::{Catalog, MetricBatch, Parcel, tag_type};
use crate::{Error, Result};

/// Keeps the rows for which an SQL expression is true; rows for which it is false or null are dropped. A column that the
/// table declares and a batch lacks is null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Only rows of this table; of every table if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The expression, over the columns of the row: `device NOT LIKE 'loop%' AND utilization > 0.1`.
    #[serde(rename = "where")]
    pub condition: String,
}

/// The transform.
pub struct Filter {
    config: Config,
    session: SessionContext,
    /// The expression for batches of one schema; batches of a source mostly have the same one.
    compiled: Option<Compiled>,
}

struct Compiled {
    /// Of the batches that it is for.
    batch: SchemaRef,
    /// With the columns that the table declares beside them.
    full: SchemaRef,
    condition: Arc<dyn PhysicalExpr>,
}

impl Filter {
    /// Checks the expression's syntax.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] with what the SQL parser says.
    pub fn new(config: &Config) -> Result<Self> {
        let parsed = DFParserBuilder::new(config.condition.as_str())
            .with_dialect(&GenericDialect {})
            .build()
            .and_then(|mut parser| parser.parse_into_expr());
        parsed.map_err(|e| wrong(&config.condition, &e))?;
        Ok(Self { config: config.clone(), session: SessionContext::new(), compiled: None })
    }

    /// Checks the expression's columns and types against the table, if it names one that is built in. `added` are tags
    /// that rows may have beside those that the table declares.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] naming the column or the types that do not fit.
    pub fn check<'a>(&self, added: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let Some(table) = self.config.table.as_deref() else { return Ok(()) };
        if Catalog::builtin()?.table(table).is_err() {
            return Ok(());
        }
        let added: Vec<_> = added.into_iter().map(|name| Field::new(name, tag_type(), true)).collect();
        self.compile(table, &Arc::new(Schema::new(added))).map(drop)
    }

    fn compile(&self, table: &str, batch: &SchemaRef) -> Result<Compiled> {
        let mut fields: Vec<FieldRef> = batch.fields().iter().cloned().collect();
        if let Ok(table) = Catalog::builtin()?.table(table) {
            let time = Field::new(crate::model::TIME, crate::model::time_type(), false);
            let declared =
                std::iter::once(time).chain(table.columns().iter().map(crate::model::Column::arrow));
            let missing = declared.filter(|field| batch.column_with_name(field.name()).is_none());
            fields.extend(missing.map(Arc::new));
        }
        let full: SchemaRef = Arc::new(Schema::new(fields));
        let condition = DFSchema::try_from(Arc::clone(&full)).and_then(|schema| {
            let expression = self.session.parse_sql_expr(&self.config.condition, &schema)?;
            self.session.create_physical_expr(expression, &schema)
        });
        let condition = condition.map_err(|e| wrong(&self.config.condition, &e).with_resource(table))?;
        match condition.data_type(&full) {
            Ok(DataType::Boolean) => Ok(Compiled { batch: Arc::clone(batch), full, condition }),
            Ok(other) => {
                let reason = format!("`{}` is {other}, not true or false", self.config.condition);
                Err(Error::invalid("filter rows of", reason).with_resource(table))
            }
            Err(error) => Err(wrong(&self.config.condition, &error).with_resource(table)),
        }
    }

    /// Which rows stay; null counts as false.
    fn decide(&mut self, batch: &MetricBatch) -> Result<BooleanArray> {
        let records = batch.records();
        let compiled = match self.compiled.take() {
            Some(compiled) if compiled.batch == *records.schema_ref() => compiled,
            _ => self.compile(batch.table(), records.schema_ref())?,
        };
        let missing = compiled.full.fields().iter().skip(records.num_columns());
        let mut columns = records.columns().to_vec();
        columns.extend(missing.map(|field| new_null_array(field.data_type(), batch.rows())));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.rows()));
        let failed = |error: Error| error.with_resource(batch.table());
        let full = RecordBatch::try_new_with_options(Arc::clone(&compiled.full), columns, &options).map_err(
            |e| failed(Error::invalid("filter rows of", "Arrow refused the columns").with_source(e)),
        )?;
        let decision = compiled
            .condition
            .evaluate(&full)
            .and_then(|value| value.into_array(batch.rows()))
            .map_err(|e| failed(wrong(&self.config.condition, &e)))?;
        self.compiled = Some(compiled);
        Ok(decision.as_boolean().clone())
    }

    fn filter(&mut self, batch: &MetricBatch) -> Result<MetricBatch> {
        let decision = self.decide(batch)?;
        if decision.true_count() == batch.rows() {
            return Ok(batch.clone());
        }
        let left = filter_record_batch(batch.records(), &decision).map_err(|e| {
            Error::invalid("filter rows of", "Arrow refused it").with_resource(batch.table()).with_source(e)
        })?;
        MetricBatch::try_new(batch.table(), left)
    }
}

/// What DataFusion says about an expression, without its own decoration.
fn wrong(condition: &str, error: &datafusion::error::DataFusionError) -> Error {
    Error::invalid("understand the condition", format!("`{condition}`: {}", error.strip_backtrace()))
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("config", &self.config).finish_non_exhaustive()
    }
}

#[async_trait]
impl Transform for Filter {
    async fn apply(&mut self, parcel: Parcel) -> Result<Vec<Parcel>, Refused> {
        if !concerns(self.config.table.as_deref(), &parcel.batch) {
            return Ok(vec![parcel]);
        }
        let batch = self.filter(&parcel.batch);
        replace(parcel, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cpu, parcel};
    use super::*;

    fn filter(condition: &str) -> Result<Filter> {
        Filter::new(&Config { table: Some("cpu".into()), condition: condition.into() })
    }

    async fn left(condition: &str, rows: usize) -> usize {
        let (parcel, settled) = parcel(cpu(rows));
        let out = filter(condition).unwrap().apply(parcel).await.unwrap();
        let left = out.iter().map(|parcel| parcel.batch.rows()).sum();
        out.into_iter().for_each(Parcel::settle);
        assert!(settled(), "every acknowledgement comes back");
        left
    }

    #[tokio::test]
    async fn rows_stay_for_which_the_condition_is_true() {
        assert_eq!(left("utilization >= 2", 5).await, 3);
        assert_eq!(left("core NOT IN ('0', '1') AND steal < 2", 5).await, 2);
        assert_eq!(left("region LIKE 'some%'", 5).await, 5);
        assert_eq!(left("time >= to_timestamp_nanos(4)", 5).await, 1);
        assert_eq!(left("utilization > 100", 5).await, 0);
    }

    #[tokio::test]
    async fn a_declared_column_that_is_missing_is_null_and_null_is_not_true() {
        assert_eq!(left("load_1m > 0", 3).await, 0);
        assert_eq!(left("load_1m IS NULL", 3).await, 3);
        assert_eq!(left("NOT (load_1m > 0)", 3).await, 0);
    }

    #[tokio::test]
    async fn an_unknown_column_refuses_the_parcel_as_it_was() {
        let refused = filter("utilisation > 1").unwrap().apply(parcel(cpu(2)).0).await.unwrap_err();
        assert_eq!(refused.parcel.batch, cpu(2));
        assert!(refused.error.to_string().contains("utilisation"), "{}", refused.error);
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_runs() {
        assert!(filter("utilization >").is_err());
        assert!(filter("utilisation > 1").unwrap().check([]).is_err());
        assert!(filter("utilization + 1").unwrap().check([]).is_err(), "a number is no condition");
        assert!(filter("site = 'lab'").unwrap().check([]).is_err());
        filter("site = 'lab' AND core IS NULL").unwrap().check(["site"]).unwrap();
    }
}
