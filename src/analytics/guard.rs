//! What may be asked: one statement that only reads, over tables that are there.

use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement as SqlStatement, Visit, Visitor};

use super::session::{CATALOG, SCHEMA};
use super::{EngineOptions, explain};
use crate::sql::quoted;
use crate::store::Snapshot;
use crate::suggest::closest;
use crate::{Error, ErrorKind, Result};

/// Name of the schema in which SQL describes itself.
const INFORMATION_SCHEMA: &str = "information_schema";

/// Table names listed in an error before the list is cut.
const LISTED: usize = 20;

/// Reads the text as one statement that does not change anything.
pub(super) fn parse(sql: &str, options: &EngineOptions) -> Result<Statement> {
    let mut statements = DFParserBuilder::new(sql)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| explain::convert("read the statement", error, options))?;
    let statement = statements.pop_front().ok_or_else(|| {
        Error::invalid("read the statement", "there is none; write for example SELECT * FROM cpu LIMIT 10")
    })?;
    if !statements.is_empty() {
        let reason = format!("there are {} statements; send one at a time", statements.len() + 1);
        return Err(Error::invalid("run the statement", reason));
    }
    match refused(&statement) {
        Some(what) => Err(refuse(&what)),
        None => Ok(statement),
    }
}

/// The name of what makes a statement more than reading, if anything does.
fn refused(statement: &Statement) -> Option<String> {
    match statement {
        Statement::Explain(explain) => refused(&explain.statement),
        Statement::CreateExternalTable(_) => Some("CREATE EXTERNAL TABLE".into()),
        Statement::CopyTo(_) => Some("COPY".into()),
        Statement::Reset(_) => Some("RESET".into()),
        Statement::Statement(statement) => refused_sql(statement),
    }
}

fn refused_sql(statement: &SqlStatement) -> Option<String> {
    match statement {
        SqlStatement::Query(query) => {
            let mut writes = Writes::default();
            // The answer is in the visitor.
            let _ = query.visit(&mut writes);
            writes.0
        }
        SqlStatement::Explain { statement, .. } => refused_sql(statement),
        SqlStatement::ExplainTable { .. }
        | SqlStatement::ShowColumns { .. }
        | SqlStatement::ShowCreate { .. }
        | SqlStatement::ShowFunctions { .. }
        | SqlStatement::ShowTables { .. }
        | SqlStatement::ShowVariable { .. } => None,
        other => Some(keywords(&other.to_string())),
    }
}

/// Finds what writes inside a query: `WITH x AS (INSERT ...)`, `SELECT ... INTO`.
#[derive(Default)]
struct Writes(Option<String>);

impl Visitor for Writes {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.0 = match query.body.as_ref() {
            SetExpr::Insert(_) => Some("INSERT".into()),
            SetExpr::Update(_) => Some("UPDATE".into()),
            SetExpr::Delete(_) => Some("DELETE".into()),
            SetExpr::Merge(_) => Some("MERGE".into()),
            SetExpr::Select(select) if select.into.is_some() => Some("SELECT INTO".into()),
            _ => return ControlFlow::Continue(()),
        };
        ControlFlow::Break(())
    }
}

/// The leading keywords of a statement in canonical form, at most two.
fn keywords(statement: &str) -> String {
    let is_keyword = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase());
    let words: Vec<_> = statement.split_whitespace().take(2).take_while(is_keyword).collect();
    if words.is_empty() { "this statement".into() } else { words.join(" ") }
}

/// Turns what the last check of the plan says into the error that people see. The checks before it catch all that is
/// known; this one catches what a later version of the parser may add.
pub(super) fn refused_plan(error: DataFusionError) -> DataFusionError {
    let root = error.find_root().message().into_owned();
    DataFusionError::External(Box::new(refuse("this statement").with_source(DataFusionError::Plan(root))))
}

fn refuse(what: &str) -> Error {
    let reason = format!("{what} is refused: queries only read; use SELECT, WITH, EXPLAIN, SHOW or DESCRIBE");
    Error::new(ErrorKind::Denied, "run the statement", reason)
}

/// Checks that every table the statement names is one of the snapshot's.
pub(super) fn check_tables(
    statement: &Statement,
    context: &SessionContext,
    snapshot: &Snapshot,
    options: &EngineOptions,
) -> Result<()> {
    let state = context.state();
    let references = state
        .resolve_table_references(statement)
        .map_err(|error| explain::convert("read the statement", error, options))?;
    // `generate_series(1, 9)` looks like a table here; without arguments the engine refuses it by itself.
    let is_function = |reference: &&TableReference| state.table_functions().contains_key(reference.table());
    references
        .iter()
        .filter(|reference| !is_function(reference))
        .try_for_each(|reference| check_table(reference, snapshot))
}

fn check_table(reference: &TableReference, snapshot: &Snapshot) -> Result<()> {
    let table = reference.table();
    match (reference.catalog().unwrap_or(CATALOG), reference.schema().unwrap_or(SCHEMA)) {
        // Unknown names in there get the engine's own message.
        (CATALOG, INFORMATION_SCHEMA) => return Ok(()),
        (CATALOG, SCHEMA) if snapshot.tables.contains_key(table) => return Ok(()),
        _ => {}
    }
    if names_a_file(reference) {
        let reason = "reading files is refused: queries see the tables of the store and nothing else";
        return Err(
            Error::new(ErrorKind::Denied, "run the statement", reason).with_resource(reference.to_string())
        );
    }
    let names = || snapshot.tables.keys().map(String::as_str);
    let hint = if snapshot.tables.contains_key(table) {
        format!("the tables are in the schema {SCHEMA} of the catalog {CATALOG}; write {table} alone")
    } else if let Some(name) = closest(table, names()) {
        format!("did you mean {}?", quoted(name))
    } else if snapshot.tables.is_empty() {
        "the store has no tables yet".into()
    } else {
        let listed: Vec<_> = names().take(LISTED).collect();
        let more = if names().count() > LISTED { ", ..." } else { "" };
        format!("the tables are {}{more}", listed.join(", "))
    };
    Err(Error::new(ErrorKind::NotFound, "find the table", format!("there is no such table; {hint}"))
        .with_resource(reference.to_string()))
}

/// Whether a table's name can only be meant as a file or address: `'data.parquet'`, `'/tmp/x'`, `'s3://a/b'`.
fn names_a_file(reference: &TableReference) -> bool {
    const SUFFIXES: [&str; 8] = [".parquet", ".csv", ".json", ".ndjson", ".jsonl", ".arrow", ".avro", ".gz"];
    let name = reference.to_string().to_lowercase();
    name.contains('/') || name.contains('\\') || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}
