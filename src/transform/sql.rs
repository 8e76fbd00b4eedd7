//! `sql`: a query over each batch.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_empty_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Refused, Transform, replace};
use crate::model::{COMMON_TAGS, Catalog, Column, MetricBatch, Parcel, TIME, tag_type, time_type};
use crate::{Error, Result};

/// Runs a query over each batch of a table. The query sees the rows of one collection, not all that were ever
/// collected, and no other table. Its result needs `time` and the tags that identify a row.
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

/// The transform.
pub struct Sql {
    config: Config,
    session: SessionContext,
}

impl Sql {
    /// Checks the query's syntax.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] with what the SQL parser says.
    pub fn new(config: &Config) -> Result<Self> {
        // A batch is small: more partitions only cost.
        let settings = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
        let session = SessionContext::new_with_config(settings);
        let dialect = datafusion::config::Dialect::Generic;
        let statement = session.state().sql_to_statement(&config.query, &dialect);
        statement.map_err(|e| wrong(&config.query, &e))?;
        Ok(Self { config: config.clone(), session })
    }

    /// Checks the query against the table, if it is one that is built in. `added` are tags that rows may have beside those
    /// that the table declares.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] naming what does not fit.
    pub async fn check<'a>(&self, added: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let Ok(table) = Catalog::builtin()?.table(&self.config.table) else { return Ok(()) };
        let time = Field::new(TIME, time_type(), false);
        let added = added.into_iter().filter(|name| table.column(name).is_none());
        let added = added.map(|name| Field::new(name, tag_type(), true));
        let fields = std::iter::once(time).chain(table.columns().iter().map(Column::arrow)).chain(added);
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let result = self.run(RecordBatch::new_empty(schema)).await?;
        if result.schema_ref().column_with_name(TIME).is_none() {
            let reason = format!("`{}` does not give the column {TIME}", self.config.query);
            return Err(Error::invalid("run the query of a transform", reason));
        }
        Ok(())
    }

    /// The result of the query over these rows.
    async fn run(&self, records: RecordBatch) -> Result<RecordBatch> {
        let table = self.config.table.as_str();
        // Nothing else can be read, nothing written, nothing set.
        let read_only =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let result = async {
            self.session.register_batch(table, records)?;
            let frame = self.session.sql_with_options(&self.config.query, read_only).await?;
            let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
            let batches = frame.collect().await?;
            Ok::<_, DataFusionError>(concat_batches(&schema, &batches)?)
        };
        let result = result.await;
        let forgotten = self.session.deregister_table(table);
        let result = result.map_err(|e| wrong(&self.config.query, &e))?;
        forgotten.map_err(|e| wrong(&self.config.query, &e))?;
        Ok(result)
    }

    async fn transform(&self, batch: &MetricBatch) -> Result<MetricBatch> {
        let tags: HashSet<String> = batch.tag_names().map(Into::into).collect();
        let result = self.run(batch.records().clone()).await?;
        let into = self.config.into.as_deref().unwrap_or(&self.config.table);
        MetricBatch::try_new(into, typed(&result, &tags, into)?)
    }
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
            cast(column, &wanted).map_err(|e| {
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

fn wrong(query: &str, error: &DataFusionError) -> Error {
    Error::invalid("run the query of a transform", format!("`{query}`: {}", error.strip_backtrace()))
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
    async fn no_rows_settle_and_other_tables_pass() {
        let (nothing, settled) = parcel(cpu(3));
        let mut none = sql("SELECT * FROM cpu WHERE utilization > 9", None).unwrap();
        assert!(none.apply(nothing).await.unwrap().is_empty());
        assert!(settled());
    }

    #[tokio::test]
    async fn a_result_without_identity_or_time_refuses_the_parcel() {
        for query in
            ["SELECT utilization FROM cpu", "SELECT time, utilization FROM cpu", "SELECT * FROM memory"]
        {
            let refused = sql(query, None).unwrap().apply(parcel(cpu(2)).0).await.unwrap_err();
            assert_eq!(refused.parcel.batch, cpu(2), "{query}");
        }
    }

    #[tokio::test]
    async fn writing_other_tables_and_files_are_refused() {
        for query in [
            "DROP TABLE cpu",
            "SET a.b = 1",
            "COPY cpu TO 'x.csv'",
            "SELECT * FROM '/etc/passwd'",
            "SELECT * FROM disk",
        ] {
            assert!(sql(query, None).unwrap().check([]).await.is_err(), "{query}");
        }
        assert!(sql("SELEC * FROM cpu", None).is_err());
        assert!(sql("SELECT utilization FROM cpu", None).unwrap().check([]).await.is_err(), "no time");
        sql("SELECT * FROM cpu WHERE site = 'lab'", None).unwrap().check(["site"]).await.unwrap();
    }
}
