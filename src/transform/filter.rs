//! `filter`: keeps the rows for which an SQL expression is true.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Refused, Transform, columns, concerns, replace, session};
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
    /// The expression for the batches of each table and schema, of which a pipeline has few.
    compiled: HashMap<(String, SchemaRef), Compiled>,
}

/// Schemas that are kept compiled; more of them come only where columns come and go, and then old ones never return.
const KEPT: usize = 64;

#[derive(Clone)]
struct Compiled {
    /// The batch's columns, with those that the table declares beside them.
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
        Ok(Self { config: config.clone(), session: session::isolated()?, compiled: HashMap::new() })
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
        let full = columns::declared(table, batch)?;
        let condition = DFSchema::try_from(Arc::clone(&full)).and_then(|schema| {
            let expression = self.session.parse_sql_expr(&self.config.condition, &schema)?;
            if expression.exists(|part| Ok(is_clock(part)))? {
                return datafusion::common::plan_err!(
                    "a filter has no clock: rows may come late or again, and must be judged alike each time"
                );
            }
            self.session.create_physical_expr(expression, &schema)
        });
        let condition = condition.map_err(|e| wrong(&self.config.condition, &e).with_resource(table))?;
        match condition.data_type(&full) {
            Ok(DataType::Boolean) => Ok(Compiled { full, condition }),
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
        let shape = (batch.table().to_owned(), records.schema());
        let compiled = match self.compiled.get(&shape) {
            Some(compiled) => compiled.clone(),
            None => {
                let compiled = self.compile(batch.table(), records.schema_ref())?;
                if self.compiled.len() >= KEPT {
                    self.compiled.clear();
                }
                self.compiled.insert(shape, compiled.clone());
                compiled
            }
        };
        let full = columns::complete(batch, &compiled.full)?;
        let decision = compiled
            .condition
            .evaluate(&full)
            .and_then(|value| value.into_array(batch.rows()))
            .map_err(|e| wrong(&self.config.condition, &e).with_resource(batch.table()))?;
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

/// Whether a part of an expression depends on when it is evaluated, as `now()` does.
fn is_clock(part: &Expr) -> bool {
    matches!(part, Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Stable)
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

    #[tokio::test]
    async fn equal_columns_of_different_tables_are_told_apart() {
        let mut filter = Filter::new(&Config { table: None, condition: "load_1m IS NULL".into() }).unwrap();
        let common = |table: &str| {
            let records = cpu(2).into_records().project(&[0, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
            MetricBatch::try_new(table, records).unwrap()
        };
        assert_eq!(filter.apply(parcel(common("cpu")).0).await.unwrap()[0].batch.rows(), 2);
        assert!(filter.apply(parcel(common("disk")).0).await.is_err(), "disk declares no load");
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_runs() {
        assert!(filter("utilization >").is_err());
        assert!(filter("utilisation > 1").unwrap().check([]).is_err());
        assert!(filter("utilization + 1").unwrap().check([]).is_err(), "a number is no condition");
        assert!(filter("site = 'lab'").unwrap().check([]).is_err());
        let error = filter("time > now() - INTERVAL '1 hour'").unwrap().check([]).unwrap_err();
        assert!(error.to_string().contains("no clock"), "{error}");
        filter("site = 'lab' AND core IS NULL").unwrap().check(["site"]).unwrap();
    }
}
