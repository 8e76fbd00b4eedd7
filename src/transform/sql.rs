//! `sql`: a query over each batch.
//!
//! The query is parsed once and planned for each batch: a kept plan would keep the first batch's `now()` and its types.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, RecordBatch, new_empty_array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{SQLOptions, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use futures::TryStreamExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Refused, Transform, columns, comparison, replace, session};
use crate::model::{CLOUD_TAG, COMMON_TAGS, Catalog, MetricBatch, Parcel, TIME, tag_type, time_type};
use crate::{Error, ErrorKind, Result};

/// Runs a query over each batch of a table. The query sees the rows of one collection, not all that were ever
/// collected, and no other table; a column that the table declares and the batch lacks is null, and so is a tag `tag_*` of
/// a cloud. Its result needs `time` and the tags that identify a row. A text column is a tag if the batch or the table that
/// results has a tag of its name, else a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The table that the query reads.
    pub table: String,
    /// One SELECT: `SELECT * FROM cpu WHERE core IS NULL`.
    pub query: String,
    /// The table that the result becomes; the same one if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
}

/// What errors say that was tried.
const OPERATION: &str = "run the query of a transform over";

/// How long one query may take; a query that needs longer refuses its parcel.
const PATIENCE: Duration = Duration::from_secs(30);

/// The transform.
pub struct Sql {
    config: Config,
    statement: Statement,
    session: SessionContext,
}

impl Sql {
    /// Checks the query's syntax.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] with what the SQL parser says, for anything but one SELECT, and for names of tables
    /// that are empty.
    pub fn new(config: &Config) -> Result<Self> {
        if config.table.is_empty()
            || config
                .into
                .as_ref()
                .is_some_and(|into| into.trim().is_empty() || into.contains(char::is_control))
        {
            return Err(Error::invalid(OPERATION, "a table needs a name"));
        }
        let session = session::isolated()?;
        let dialect = datafusion::config::Dialect::Generic;
        let refused = |error| session::refused(OPERATION, &config.table, &config.query, error);
        let statement = session.state().sql_to_statement(&config.query, &dialect).map_err(refused)?;
        let selects =
            matches!(&statement, Statement::Statement(inner) if matches!(**inner, ast::Statement::Query(_)));
        if !selects {
            let reason =
                format!("`{}`: it is not a SELECT; rows are the only thing it can give", config.query);
            return Err(Error::invalid(OPERATION, reason).with_resource(&config.table));
        }
        let tables = session.state().resolve_table_references(&statement).map_err(refused)?;
        if let Some(other) = tables.iter().find(|table| table.table() != config.table) {
            let reason = format!(
                "`{}`: there is no table {other} here; it sees one batch of {} and nothing else",
                config.query, config.table
            );
            return Err(Error::invalid(OPERATION, reason).with_resource(&config.table));
        }
        Ok(Self { config: config.clone(), statement, session })
    }

    /// Checks the query against rows that may have these columns.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] naming what does not fit.
    pub async fn check(&self, columns: &SchemaRef) -> Result<()> {
        let result = self.run(RecordBatch::new_empty(Arc::clone(columns))).await?;
        if result.schema_ref().column_with_name(TIME).is_none() {
            let reason = format!("`{}`: it does not give the column {TIME}", self.config.query);
            return Err(Error::invalid(OPERATION, reason).with_resource(&self.config.table));
        }
        Ok(())
    }

    fn wrong(&self, error: DataFusionError) -> Error {
        session::refused(OPERATION, &self.config.table, &self.config.query, error)
    }

    /// The result of the query over these rows.
    async fn run(&self, records: RecordBatch) -> Result<RecordBatch> {
        match tokio::time::timeout(PATIENCE, self.answer(records)).await {
            Ok(result) => result.map_err(|error| self.wrong(error)),
            Err(_) => {
                let reason = format!(
                    "`{}`: it took longer than {} s on one batch",
                    self.config.query,
                    PATIENCE.as_secs()
                );
                Err(Error::new(ErrorKind::Quota, OPERATION, reason).with_resource(&self.config.table))
            }
        }
    }

    async fn answer(&self, records: RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let plan = self.plan(records).await?;
        // Nothing is written or set, not even inside a query.
        let read_only =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        read_only.verify_plan(&plan)?;
        if let Some(reason) = comparison::mismatch_in(&plan)? {
            return Err(DataFusionError::Plan(reason));
        }
        let frame = self.session.execute_logical_plan(plan).await?;
        let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
        let mut stream = frame.execute_stream().await?;
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = stream.try_next().await? {
            bytes += size(&batch)?;
            if bytes > session::MEMORY {
                let limit = session::MEMORY >> 20;
                return Err(DataFusionError::ResourcesExhausted(format!(
                    "the result is larger than {limit} MiB"
                )));
            }
            batches.push(batch);
        }
        self.session.deregister_table(self.table())?;
        Ok(concat_batches(&schema, &batches)?)
    }

    /// The query over these rows, and over tags of a cloud that they lack and the query names.
    async fn plan(&self, mut records: RecordBatch) -> Result<LogicalPlan, DataFusionError> {
        loop {
            // What was tried before, or a call that was cut off, left its rows behind.
            self.session.deregister_table(self.table())?;
            let rows = MemTable::try_new(records.schema(), vec![vec![records.clone()]])?;
            self.session.register_table(self.table(), Arc::new(rows))?;
            match self.session.state().statement_to_plan(self.statement.clone()).await {
                Ok(plan) => return Ok(plan),
                Err(error) => match columns::with_missed_tag(records.schema_ref(), &error) {
                    Some(more) => records = columns::complete(&records, &more)?,
                    None => return Err(error),
                },
            }
        }
    }

    fn table(&self) -> TableReference {
        TableReference::bare(self.config.table.as_str())
    }

    async fn transform(&self, batch: &MetricBatch) -> Result<MetricBatch> {
        let tags: HashSet<String> = batch.tag_names().map(Into::into).collect();
        let schema = columns::declared(batch.table(), batch.records().schema_ref())?;
        let added: HashSet<&str> = schema
            .fields()
            .iter()
            .skip(batch.records().num_columns())
            .map(|field| field.name().as_str())
            .collect();
        let rows = columns::complete(batch.records(), &schema).map_err(|error| self.wrong(error.into()))?;
        let result = self.run(rows).await?;
        // `SELECT *` gives the columns back that were added for the query; nobody used them.
        let used: Vec<usize> = (0..result.num_columns())
            .filter(|i| {
                let column = result.column(*i);
                let name = result.schema_ref().field(*i).name().as_str();
                let added = added.contains(name) || name.starts_with(CLOUD_TAG) && !tags.contains(name);
                !added || column.logical_null_count() < column.len()
            })
            .collect();
        let result = result.project(&used).map_err(|error| self.wrong(error.into()))?;
        let into = self.config.into.as_deref().unwrap_or(&self.config.table);
        MetricBatch::try_new(into, typed(&result, &tags, into)?)
    }
}

/// Bytes of the rows themselves; a slice counts as what it shows.
fn size(batch: &RecordBatch) -> Result<usize, DataFusionError> {
    let sizes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    Ok(sizes.sum::<Result<usize, _>>()?)
}

/// The result in the types that a batch has: SQL knows more of them, and gives tags as plain text where it computed.
fn typed(result: &RecordBatch, tags: &HashSet<String>, table: &str) -> Result<RecordBatch> {
    let declared = Catalog::builtin()?.table(table).ok();
    let mut fields = Vec::with_capacity(result.num_columns());
    let mut columns = Vec::with_capacity(result.num_columns());
    for (field, column) in result.schema_ref().fields().iter().zip(result.columns()) {
        let name = field.name();
        let declared = declared.and_then(|table| table.column(name)).map(|column| column.arrow());
        let is_tag = tags.contains(name) || COMMON_TAGS.contains(&name.as_str());
        let wanted = match field.data_type() {
            _ if declared.is_some() => declared.map_or(DataType::Null, |field| field.data_type().clone()),
            DataType::Timestamp(..) if name == TIME => time_type(),
            DataType::Dictionary(..) => tag_type(),
            DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 if is_tag => tag_type(),
            DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
            number if number.is_integer() => DataType::Int64,
            number if number.is_numeric() => DataType::Float64,
            other => other.clone(),
        };
        let typed = if column.is_empty() {
            new_empty_array(&wanted)
        } else {
            // A value that does not fit is an error; it would be lost as null.
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(column, &wanted, &strict).map_err(|e| {
                Error::invalid(
                    "use the result of a query",
                    "the column cannot become what the table declares",
                )
                .with_resource(format!("{table}.{name}"))
                .with_source(e)
            })?
        };
        let field = Field::new(name, wanted, true);
        fields.push(field);
        columns.push(typed);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| {
        Error::invalid("use the result of a query", "Arrow refused its columns")
            .with_resource(table)
            .with_source(e)
    })
}

impl std::fmt::Debug for Sql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sql").field("config", &self.config).finish_non_exhaustive()
    }
}

#[async_trait]
impl Transform for Sql {
    async fn apply(&mut self, parcel: Parcel) -> Result<Vec<Parcel>, Refused> {
        if parcel.batch.table() != self.config.table {
            return Ok(vec![parcel]);
        }
        let batch = self.transform(&parcel.batch).await;
        replace(parcel, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{cpu, parcel};
    use super::*;

    fn sql(query: &str, into: Option<&str>) -> Result<Sql> {
        Sql::new(&Config { table: "cpu".into(), query: query.into(), into: into.map(Into::into) })
    }

    #[tokio::test]
    async fn rows_and_columns_are_what_the_query_gives() {
        let (parcel, settled) = parcel(cpu(4));
        let mut sql =
            sql("SELECT *, utilization * 2 AS doubled, 1 AS one FROM cpu WHERE steal > 0.5", None).unwrap();
        let out = sql.apply(parcel).await.unwrap().remove(0);
        assert_eq!(out.batch.rows(), 2);
        assert_eq!(out.batch.float("doubled", 0), Some(4.0));
        assert_eq!(out.batch.tag("core", 1), Some("3"));
        out.settle();
        assert!(settled());
    }

    #[tokio::test]
    async fn a_group_becomes_rows_of_another_table() {
        let query =
            "SELECT max(time) AS time, provider, resource_type, resource_id, upper(observer) AS observer,
                            count(*) AS rows, avg(utilization) AS mean
                     FROM cpu GROUP BY provider, resource_type, resource_id, observer";
        let mut sql = sql(query, Some("cpu_summary")).unwrap();
        let out = sql.apply(parcel(cpu(3)).0).await.unwrap().remove(0);
        assert_eq!((out.batch.table(), out.batch.rows()), ("cpu_summary", 1));
        assert_eq!(out.batch.tag("observer", 0), Some("HOST"));
        assert_eq!(out.batch.float("mean", 0), Some(1.0));
        assert_eq!(out.batch.times(), [2]);
    }

    #[tokio::test]
    async fn a_declared_column_that_is_missing_is_null_and_does_not_appear() {
        let mut present = sql("SELECT * FROM cpu WHERE load_1m IS NULL", None).unwrap();
        assert_eq!(present.apply(parcel(cpu(3)).0).await.unwrap()[0].batch, cpu(3));
        let mut cloud = sql("SELECT * FROM cpu WHERE tag_team IS NULL", None).unwrap();
        assert_eq!(cloud.apply(parcel(cpu(3)).0).await.unwrap()[0].batch, cpu(3));
        let mut absent = sql("SELECT * FROM cpu WHERE load_1m IS NOT NULL", None).unwrap();
        assert!(absent.apply(parcel(cpu(3)).0).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn no_rows_settle_and_other_tables_pass() {
        let (nothing, settled) = parcel(cpu(3));
        let mut none = sql("SELECT * FROM cpu WHERE utilization > 9", None).unwrap();
        assert!(none.apply(nothing).await.unwrap().is_empty());
        assert!(settled());
    }

    #[tokio::test]
    async fn a_result_without_identity_or_time_refuses_the_parcel() {
        for query in ["SELECT utilization FROM cpu", "SELECT time, utilization FROM cpu"] {
            let refused = sql(query, None).unwrap().apply(parcel(cpu(2)).0).await.unwrap_err();
            assert_eq!(refused.parcel.batch, cpu(2), "{query}");
        }
    }

    #[tokio::test]
    async fn anything_but_one_select_over_the_batch_is_refused() {
        for query in [
            "DROP TABLE cpu",
            "SET a.b = 1",
            "COPY cpu TO 'x.csv'",
            "EXPLAIN SELECT * FROM cpu",
            "INSERT INTO cpu SELECT * FROM cpu",
            "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
            "SELECT * FROM cpu; SELECT * FROM cpu",
            "SELEC * FROM cpu",
            "SELECT * FROM '/etc/passwd'",
            "SELECT * FROM disk",
            "SELECT * FROM information_schema.tables",
            "SELECT * FROM cpu, generate_series(1, 1000000000000)",
        ] {
            assert!(sql(query, None).is_err(), "{query}");
        }
        for query in [
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n FROM r) SELECT * FROM cpu, r",
            "SELECT utilization FROM cpu",
        ] {
            assert!(check(query).await.is_err(), "{query}");
        }
        check("SELECT * FROM cpu WHERE site = 'lab'").await.unwrap();
        check("WITH busy AS (SELECT * FROM cpu) SELECT * FROM busy").await.unwrap();
    }

    /// What is said of a query over the declared columns of `cpu` and a tag `site`.
    async fn check(query: &str) -> Result<(), String> {
        let site = Schema::new(vec![Field::new("site", tag_type(), true)]);
        let columns = columns::declared("cpu", &site).unwrap();
        let built = sql(query, None).map_err(|error| error.chain())?;
        built.check(&columns).await.map_err(|error| error.chain())
    }

    #[tokio::test]
    async fn what_the_engine_refuses_is_said_in_plain_words() {
        for (query, reason) in [
            ("SELEC 1", "line 1, column 1: Expected: an SQL statement, found: SELEC"),
            (
                "SELECT time, utilisation FROM cpu",
                "there is no column utilisation in cpu; did you mean utilization?",
            ),
            ("SELECT time, c.cor FROM cpu c", "there is no column cor in c; did you mean core?"),
            (
                "SELECT * FROM memory",
                "there is no table memory here; it sees one batch of cpu and nothing else",
            ),
            ("SELECT * FROM cpu WHERE steal = 'x'", "steal is a number, and 'x' cannot be read as one"),
            (
                "SELECT * FROM cpu WHERE time IN (SELECT time FROM cpu WHERE core < 4)",
                "core is a text and 4 is a number, and they cannot be compared; write texts in single quotes, or \
                 convert one of them with CAST",
            ),
            ("SELECT provider FROM cpu", "it does not give the column time"),
        ] {
            let expected = format!("cannot run the query of a transform over cpu: `{query}`: {reason}");
            assert_eq!(check(query).await, Err(expected));
        }
    }

    #[tokio::test]
    async fn a_value_that_cannot_be_converted_is_named_without_the_engines_words() {
        let mut converts = sql("SELECT *, CAST(region AS DOUBLE) AS number FROM cpu", None).unwrap();
        let error = converts.apply(parcel(cpu(1)).0).await.unwrap_err().error.chain();
        assert!(error.contains("'somewhere'") && !error.contains("Arrow error"), "{error}");
    }

    #[tokio::test]
    async fn a_result_out_of_bounds_refuses_the_parcel() {
        let mut explosive = sql("SELECT a.* FROM cpu a, cpu b, cpu c", None).unwrap();
        let refused = explosive.apply(parcel(cpu(300)).0).await.unwrap_err();
        assert_eq!(refused.parcel.batch, cpu(300));
        assert!(refused.error.to_string().contains("256 MiB"), "{}", refused.error);
        let mut unsigned = sql("SELECT *, 18446744073709551615 AS much FROM cpu", None).unwrap();
        let refused = unsigned.apply(parcel(cpu(1)).0).await.unwrap_err();
        assert!(refused.error.to_string().contains("cpu.much"), "{}", refused.error);
    }

    #[tokio::test]
    async fn a_call_that_was_cut_off_does_no_harm() {
        let mut sql = sql("SELECT * FROM cpu", None).unwrap();
        sql.session.register_batch("cpu", cpu(1).into_records()).unwrap();
        let out = sql.apply(parcel(cpu(3)).0).await.unwrap();
        assert_eq!(out[0].batch.rows(), 3);
    }

    #[tokio::test]
    async fn now_moves_on_and_a_time_in_another_zone_is_the_same_moment() {
        const IDENTITY: &str = "provider, resource_type, resource_id, observer";
        let mut clock = sql(&format!("SELECT now() AS time, {IDENTITY} FROM cpu"), None).unwrap();
        let mut times = Vec::new();
        for _ in 0..2 {
            times.push(clock.apply(parcel(cpu(1)).0).await.unwrap()[0].batch.times()[0]);
        }
        assert!(times[0] < times[1], "{times:?}");
        let zoned = "(time AT TIME ZONE 'UTC') AT TIME ZONE '+01:00'";
        let mut zoned = sql(&format!("SELECT {zoned} AS time, {IDENTITY} FROM cpu"), None).unwrap();
        assert_eq!(zoned.apply(parcel(cpu(2)).0).await.unwrap()[0].batch.times(), [0, 1]);
    }
}
