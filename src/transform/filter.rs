//! `filter`: keeps the rows for which an SQL expression is true.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, TableReference};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::DFParserBuilder;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::comparison::{self, Kind};
use super::{Refused, Transform, columns, concerns, replace, session};
use crate::model::{MetricBatch, Parcel};
use crate::{Error, Result};

/// Keeps the rows for which an SQL expression is true; rows for which it is false or null are dropped. A column that the
/// table declares and a batch lacks is null, and so is a tag `tag_*` of a cloud.
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

/// What errors say that was tried.
const OPERATION: &str = "filter rows of";

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
    /// The batch's columns, with those beside them that the table declares, and tags of a cloud that the condition names.
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
        let table = config.table.as_deref().unwrap_or("every table");
        parsed.map_err(|error| session::refused(OPERATION, table, &config.condition, error))?;
        Ok(Self { config: config.clone(), session: session::isolated()?, compiled: HashMap::new() })
    }

    /// Checks the expression's columns and types against rows of a table that may have these columns.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] naming the column or the types that do not fit.
    pub fn check(&self, table: &str, columns: &SchemaRef) -> Result<()> {
        self.compile(table, Arc::clone(columns)).map(drop)
    }

    fn compile(&self, table: &str, mut full: SchemaRef) -> Result<Compiled> {
        loop {
            match self.plan(table, &full) {
                Ok(condition) => return Ok(Compiled { full, condition }),
                Err(error) => match columns::with_missed_tag(&full, &error) {
                    Some(more) => full = more,
                    None => return Err(self.wrong(table, error)),
                },
            }
        }
    }

    fn plan(&self, table: &str, full: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        let schema = DFSchema::try_from_qualified_schema(TableReference::bare(table), full)?;
        let expression = self.session.parse_sql_expr(&self.config.condition, &schema)?;
        if expression.exists(|part| Ok(is_clock(part)))? {
            return datafusion::common::plan_err!(
                "a filter has no clock: rows may come late or again, and must be judged alike each time"
            );
        }
        if let Some(reason) = comparison::mismatch(&expression, &schema)? {
            return Err(DataFusionError::Plan(reason));
        }
        let condition = self.session.create_physical_expr(expression, &schema)?;
        match condition.data_type(full)? {
            DataType::Boolean => Ok(condition),
            other => {
                let given = Kind::of(&other).map_or_else(|| other.to_string(), |kind| kind.to_string());
                Err(DataFusionError::Plan(format!("it gives {given}, not true or false")))
            }
        }
    }

    fn wrong(&self, table: &str, error: DataFusionError) -> Error {
        session::refused(OPERATION, table, &self.config.condition, error)
    }

    /// Which rows stay; null counts as false.
    fn decide(&mut self, batch: &MetricBatch) -> Result<BooleanArray> {
        let records = batch.records();
        let shape = (batch.table().to_owned(), records.schema());
        let compiled = match self.compiled.get(&shape) {
            Some(compiled) => compiled.clone(),
            None => {
                let full = columns::declared(batch.table(), records.schema_ref())?;
                let compiled = self.compile(batch.table(), full)?;
                if self.compiled.len() >= KEPT {
                    self.compiled.clear();
                }
                self.compiled.insert(shape, compiled.clone());
                compiled
            }
        };
        let decision = columns::complete(records, &compiled.full)
            .map_err(DataFusionError::from)
            .and_then(|full| compiled.condition.evaluate(&full))
            .and_then(|value| value.into_array(batch.rows()))
            .map_err(|error| self.wrong(batch.table(), error))?;
        Ok(decision.as_boolean().clone())
    }

    fn filter(&mut self, batch: &MetricBatch) -> Result<MetricBatch> {
        let decision = self.decide(batch)?;
        if decision.true_count() == batch.rows() {
            return Ok(batch.clone());
        }
        let left = filter_record_batch(batch.records(), &decision).map_err(|e| {
            Error::invalid(OPERATION, "Arrow refused it").with_resource(batch.table()).with_source(e)
        })?;
        MetricBatch::try_new(batch.table(), left)
    }
}

/// Whether a part of an expression depends on when it is evaluated, as `now()` does.
fn is_clock(part: &Expr) -> bool {
    matches!(part, Expr::ScalarFunction(call) if call.func.signature().volatility == Volatility::Stable)
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
    use arrow::datatypes::{Field, Schema};

    use super::super::testing::{cpu, parcel};
    use super::*;
    use crate::model::tag_type;

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

    /// What is said of a condition over the declared columns of `cpu` and a tag `site`.
    fn check(condition: &str) -> Result<(), String> {
        let site = Schema::new(vec![Field::new("site", tag_type(), true)]);
        let columns = columns::declared("cpu", &site).unwrap();
        filter(condition).and_then(|filter| filter.check("cpu", &columns)).map_err(|error| error.chain())
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_runs() {
        for (condition, reason) in [
            ("utilization >", "Expected: an expression, found: EOF"),
            ("utilization > > 1", "line 1, column 15: "),
            ("utilisation > 1", "there is no column utilisation in cpu; did you mean utilization?"),
            ("zebra = 'a'", "there is no column zebra in cpu; the columns are site, time, "),
            ("utilization + 1", "it gives a number, not true or false"),
            ("time > now() - INTERVAL '1 hour'", "a filter has no clock: "),
        ] {
            let error = check(condition).unwrap_err();
            let start = format!("cannot filter rows of cpu: `{condition}`: {reason}");
            assert!(error.starts_with(&start), "{error}");
        }
        check("site = 'lab' AND core IS NULL AND cpu.utilization > 0").unwrap();
    }

    #[test]
    fn values_that_cannot_be_compared_are_refused() {
        for (condition, reason) in [
            ("utilization > 'abc'", "utilization is a number, and 'abc' cannot be read as one"),
            ("utilization = 'high'", "utilization is a number, and 'high' cannot be read as one"),
            ("'high' = utilization", "utilization is a number, and 'high' cannot be read as one"),
            ("steal IN (0.5, 'x')", "steal is a number, and 'x' cannot be read as one"),
            (
                "steal > 0 AND NOT (core < 4)",
                "core is a text and 4 is a number, and they cannot be compared; ",
            ),
            (
                "utilization = core",
                "utilization is a number and core is a text, and they cannot be compared; ",
            ),
            ("utilization = true", "utilization is a number and true is true or false, and "),
            ("core = true", "core is a text and true is true or false, and "),
            ("utilization BETWEEN 0 AND 'x'", "utilization is a number, and 'x' cannot be read as one"),
            ("utilization LIKE 'a%'", "utilization is a number, and 'a%' cannot be read as one"),
            ("time > 'yesterday'", "time is a time, and 'yesterday' cannot be read as one"),
            ("time > core", "time is a time, and core cannot be read as one"),
            ("time > 5", "time is a time and 5 is a number, and they cannot be compared; "),
            ("CASE WHEN core > 4 THEN true ELSE false END", "core is a text and 4 is a number, and "),
            ("CASE WHEN steal > 1 THEN NULL ELSE 2 END = core", "CASE WHEN "),
        ] {
            let error = check(condition).unwrap_err();
            assert!(error.contains(&format!("`{condition}`: {reason}")), "{error}");
        }
    }

    #[test]
    fn what_can_be_compared_is_not_refused() {
        for condition in [
            "time > '2026-01-01T00:00:00Z'",
            "time BETWEEN '2026-01-01' AND '2026-01-02 12:00:00'",
            "time > concat('2026-01-01', 'T00:00:00Z')",
            "time >= to_timestamp_nanos(4)",
            "utilization > '0.5'",
            "utilization > NULL",
            "utilization > 1 OR steal > cores",
            "CAST(core AS DOUBLE) < 4",
            "core IN ('0', '1')",
            "core = provider",
            "site > 'a' AND core LIKE '1%'",
            "(utilization > 1) = true",
            // The engine finds one type for branches that differ.
            "CASE WHEN utilization > 1 THEN 1 ELSE 'down' END = 'down'",
            "CASE WHEN utilization > 1 THEN CASE WHEN steal > 1 THEN 1 ELSE 'a' END ELSE 2 END <> 'down'",
            "CASE WHEN utilization > 1 THEN NULL ELSE core END = 'down'",
        ] {
            check(condition).unwrap();
        }
    }
}
