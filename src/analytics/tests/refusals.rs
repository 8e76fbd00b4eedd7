//! Statements that are refused, and errors that say what was meant.

use super::support::{Rig, row};
use crate::ErrorKind;

#[tokio::test]
async fn statements_that_do_more_than_read_are_refused_by_name() {
    let rig = Rig::new();
    for (sql, name) in [
        ("CREATE TABLE t AS SELECT * FROM load", "CREATE TABLE"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        ("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '/etc'", "CREATE EXTERNAL TABLE"),
        ("DROP TABLE load", "DROP TABLE"),
        ("INSERT INTO load VALUES (1)", "INSERT INTO"),
        ("DELETE FROM load", "DELETE FROM"),
        ("UPDATE load SET load = 1", "UPDATE"),
        ("COPY load TO '/tmp/stolen.parquet'", "COPY"),
        ("COPY (SELECT 1) TO '/tmp/stolen.csv'", "COPY"),
        ("EXPLAIN COPY load TO '/tmp/stolen.parquet'", "COPY"),
        ("EXPLAIN ANALYZE INSERT INTO load SELECT * FROM load", "INSERT INTO"),
        ("SET datafusion.execution.batch_size = 1", "SET"),
        ("RESET datafusion.execution.batch_size", "RESET"),
        ("SELECT * INTO t FROM load", "SELECT INTO"),
        ("PREPARE p AS SELECT 1", "PREPARE"),
        ("BEGIN", "BEGIN"),
    ] {
        let error = rig.error(sql).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{sql}: {error}");
        assert!(error.to_string().contains(&name.to_string()), "{sql}: {error}");
        assert!(error.to_string().contains("queries only read"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn files_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret.csv");
    std::fs::write(&file, "a\n1\n").unwrap();
    let rig = Rig::new();
    for sql in [
        format!("SELECT * FROM '{}'", file.display()),
        "SELECT * FROM 'data.parquet'".into(),
        "SELECT * FROM \"s3://bucket/key\"".into(),
        "EXPLAIN SELECT * FROM 'data.parquet'".into(),
    ] {
        let error = rig.error(&sql).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{sql}: {error}");
        assert!(error.to_string().contains("reading files is refused"), "{error}");
    }
    for function in ["read_csv", "read_parquet", "read_json"] {
        let sql = format!("SELECT * FROM {function}('{}')", file.display());
        assert_ne!(rig.error(&sql).await.kind(), ErrorKind::Unavailable, "{sql}");
    }
}

#[tokio::test]
async fn reading_in_every_form_is_allowed() {
    let mut rig = Rig::new();
    rig.segment(vec![row("a", 1, 1.0)]).await;
    for sql in [
        "EXPLAIN SELECT * FROM load",
        "EXPLAIN ANALYZE SELECT * FROM load",
        "SHOW TABLES",
        "SHOW COLUMNS FROM load",
        "DESCRIBE load",
        "VALUES (1), (2)",
        "SELECT 1 UNION ALL SELECT 2;",
        "SELECT * FROM generate_series(1, 3)",
    ] {
        assert!(!rig.query(sql).await.is_empty(), "{sql}");
    }
}

#[tokio::test]
async fn one_statement_at_a_time() {
    let rig = Rig::new();
    let error = rig.error("SELECT 1; SELECT 2").await;
    assert!(error.to_string().contains("there are 2 statements"), "{error}");
    for nothing in ["", "  ;  ", "-- a comment"] {
        assert!(rig.error(nothing).await.to_string().contains("there is none"), "{nothing:?}");
    }
}

#[tokio::test]
async fn unknown_names_come_with_the_name_that_was_meant() {
    let mut rig = Rig::new();
    rig.segment(vec![row("a", 1, 1.0)]).await;
    for (sql, wanted) in [
        ("SELECT * FROM loads", "loads: there is no such table; did you mean load?"),
        ("SELECT * FROM weather", "the tables are load"),
        ("SELECT * FROM other.load", "the schema iox of the catalog public; write load alone"),
        ("SELECT laod FROM load", "there is no column laod in load; did you mean load?"),
        ("SELECT l.hosts FROM load l", "there is no column hosts in l; did you mean host?"),
        ("SELECT 1 FROM load WHERE statte = 'up'", "did you mean state?"),
        ("SELECT 1 FROM load WHERE host = \"eu-west\"", "text is written in single quotes"),
    ] {
        let error = rig.error(sql).await;
        assert!(error.to_string().contains(wanted), "{sql}: {error}");
        assert!(matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound), "{sql}: {error:?}");
    }
    let error = rig.error("SELECT averge(load) FROM load").await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("averge"), "{error}");
}

#[tokio::test]
async fn syntax_errors_say_where() {
    let rig = Rig::new();
    let error = rig.error("SELECT *\nFROM load WHER host = 'a'").await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("line 2, column 16"), "{error}");
    assert!(rig.error("SELECT 'open").await.to_string().contains("line 1, column 8"));
}

#[tokio::test]
async fn faults_of_the_data_are_invalid_not_unavailable() {
    let mut rig = Rig::new();
    rig.segment(vec![row("a", 1, 1.0)]).await;
    for sql in ["SELECT 1 / (load - load)::bigint FROM load", "SELECT host::bigint FROM load"] {
        assert_eq!(rig.error(sql).await.kind(), ErrorKind::Invalid, "{sql}");
    }
}
