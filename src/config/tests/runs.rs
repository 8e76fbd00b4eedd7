//! What the check says of columns is what a run does to rows.

use super::{GOOD, faults};
use crate::config::TransformConfig;
use crate::model::{Ack, BatchBuilder, Catalog, ColumnKind, FieldType, Identity, MetricBatch, Parcel, Value};
use crate::transform::{Downsample, Drop, Filter, Keep, Rename, Sql, Tag, Transform};
use crate::yaml;

fn value(kind: ColumnKind) -> Value<'static> {
    match kind {
        ColumnKind::Tag | ColumnKind::Field(FieldType::String) => Value::Text("1"),
        ColumnKind::Field(FieldType::Float) => Value::Float(1.0),
        ColumnKind::Field(FieldType::Integer) => Value::Integer(1),
        ColumnKind::Field(FieldType::Boolean) => Value::Boolean(true),
    }
}

/// Of every table a batch with all columns, and one with the common tags and one field.
fn batches() -> Vec<MetricBatch> {
    let mut batches = Vec::new();
    for table in Catalog::builtin().unwrap().tables() {
        let tags = table.columns().iter().filter(|column| column.kind == ColumnKind::Tag).count();
        for columns in [table.columns(), &table.columns()[tags..=tags]] {
            let mut rows = BatchBuilder::for_table(table, &Identity::host("web-1"));
            {
                let mut row = rows.row(1_000_000_000);
                for column in columns {
                    // The common tags are set already.
                    let _ = row.set(&column.name, value(column.kind));
                }
            }
            batches.push(rows.finish().unwrap());
        }
    }
    batches
}

fn build(config: &TransformConfig) -> Box<dyn Transform> {
    match config {
        TransformConfig::Tag(config) => Box::new(Tag::new(config).unwrap()),
        TransformConfig::Rename(config) => Box::new(Rename::new(config).unwrap()),
        TransformConfig::Drop(config) => Box::new(Drop::new(config).unwrap()),
        TransformConfig::Keep(config) => Box::new(Keep::new(config).unwrap()),
        TransformConfig::Filter(config) => Box::new(Filter::new(config).unwrap()),
        TransformConfig::Sql(config) => Box::new(Sql::new(config).unwrap()),
        TransformConfig::Downsample(config) => Box::new(Downsample::new(config).unwrap()),
    }
}

/// Why batches are refused on their way through these transforms.
fn refusals(lines: &[&str]) -> Vec<String> {
    let mut chain: Vec<_> = lines
        .iter()
        .map(|line| build(&yaml::from_str::<TransformConfig>(&format!("{{ {line} }}")).unwrap()))
        .collect();
    let run = async {
        let mut refusals = Vec::new();
        for batch in batches() {
            let mut parcels = vec![Parcel::new(batch, Ack::new(|_| {}))];
            for transform in &mut chain {
                let mut next = Vec::new();
                for parcel in parcels {
                    match transform.apply(parcel).await {
                        Ok(given) => next.extend(given),
                        Err(refused) => refusals.push(refused.error.chain()),
                    }
                }
                parcels = next;
            }
        }
        refusals
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run)
}

/// The faults that the check finds in these transforms.
fn checked(lines: &[&str]) -> Vec<String> {
    let items: String = lines.iter().map(|line| format!("  - {{ {line} }}\n")).collect();
    faults(&format!("{GOOD}transforms:\n{items}"))
}

#[test]
fn what_the_check_accepts_refuses_no_batch() {
    let accepted: &[&[&str]] = &[
        &["type: keep, columns: [utilization]", "type: filter, where: \"utilization > 0.5\""],
        // A table without rows stays one.
        &[
            "type: keep, columns: [utilization]",
            "type: tag, set: { site: lab }",
            "type: filter, where: \"utilization > 0.5\"",
        ],
        &[
            "type: keep, columns: [utilization]",
            "type: rename, columns: { tag_team: team }",
            "type: filter, where: \"utilization > 0.5\"",
        ],
        // Names that become free.
        &["type: drop, table: cpu, columns: [core]", "type: tag, table: cpu, set: { core: all }"],
        &["type: drop, table: cpu, columns: [wait]", "type: rename, table: cpu, columns: { iowait: wait }"],
        &["type: rename, table: cpu, columns: { user: system, system: user }"],
        &["type: rename, table: cpu, columns: { utilization: busy, steal: utilization }"],
        &[
            "type: rename, table: cpu, columns: { steal: stolen }",
            "type: drop, table: cpu, columns: [stolen]",
        ],
        &[
            "type: rename, table: cpu, columns: { steal: stolen }",
            "type: drop, table: cpu, columns: [stolen]",
            "type: tag, table: cpu, set: { stolen: x }",
        ],
        &["type: drop, columns: [zone]", "type: rename, table: cpu, columns: { core: zone }"],
        &["type: tag, table: disk, set: { steal: x }"],
        // Resources in a cloud may have tags that others lack.
        &["type: filter, where: \"tag_team = 'a' OR tag_team IS NULL AND tag_owner IS NULL\""],
        &["type: filter, table: cpu, where: \"cpu.tag_team = 'a'\""],
        &[
            "type: sql, table: cpu, query: \"SELECT * FROM cpu c WHERE c.tag_team IS NULL OR tag_owner = 'a'\"",
        ],
        &[
            "type: sql, table: cpu, query: \"WITH named AS (SELECT *, 'a' AS tag_team FROM cpu) SELECT * FROM named WHERE tag_team = 'a'\"",
        ],
        // Branches of two kinds become text.
        &["type: filter, table: status, where: \"CASE WHEN up THEN 1 ELSE 'down' END = 'down'\""],
        // No row of a table is left that became another.
        &[
            "type: sql, table: disk, into: other, query: \"SELECT * FROM disk\"",
            "type: sql, table: filesystem, into: other, query: \"SELECT * FROM filesystem\"",
            "type: sql, table: status, into: other, query: \"SELECT * FROM status\"",
            "type: sql, table: network, into: other, query: \"SELECT * FROM network\"",
            "type: drop, table: other, columns: [time_left]",
            "type: filter, table: disk, where: \"no_matter > 1\"",
        ],
        &[
            "type: keep, columns: [utilization]",
            "type: sql, table: disk, into: busy, query: \"SELECT *, utilization AS busy FROM disk\"",
            "type: sql, table: memory, into: busy, query: \"SELECT *, utilization AS busy FROM memory\"",
            "type: sql, table: filesystem, into: busy, query: \"SELECT *, utilization AS busy FROM filesystem\"",
            "type: sql, table: storage, into: busy, query: \"SELECT *, utilization AS busy FROM storage\"",
            "type: rename, table: cpu, columns: { utilization: busy }",
            "type: filter, where: \"busy > 0\"",
        ],
        &[
            "type: sql, table: disk, into: other, query: \"SELECT * FROM disk\"",
            "type: sql, table: other, into: disk, query: \"SELECT *, 1 AS one FROM other\"",
            "type: filter, table: disk, where: \"one > 0\"",
        ],
        &["type: downsample, every: 1m, aggregate: { utilization: count }"],
    ];
    for lines in accepted {
        assert_eq!(checked(lines), [""; 0], "{lines:?}");
        assert_eq!(refusals(lines), [""; 0], "{lines:?}");
    }
}

#[test]
fn what_the_check_refuses_would_refuse_batches() {
    let refused: &[&[&str]] = &[
        &["type: tag, table: cpu, set: { steal: x }"],
        &["type: drop, table: cpu, columns: [steal]", "type: tag, table: cpu, set: { steal: x }"],
        &["type: keep, columns: [utilization]", "type: tag, table: cpu, set: { steal: x }"],
        &["type: rename, table: cpu, columns: { steal: stolen }", "type: tag, set: { steal: x }"],
        &[
            "type: drop, table: cpu, columns: [core]",
            "type: rename, table: cpu, columns: { utilization: core }",
        ],
        &["type: rename, table: cpu, columns: { core: utilization, utilization: core }"],
        &["type: drop, table: status, columns: [up]", "type: rename, table: status, columns: { state: up }"],
        &["type: rename, table: cpu, columns: { iowait: wait }"],
        &["type: rename, table: cpu, columns: { core: zone }"],
        &["type: filter, table: cpu, where: \"tag_team > 5\""],
        &["type: filter, table: cpu, where: \"tagteam = 'a'\""],
        &["type: filter, table: status, where: \"CASE WHEN up THEN 1 ELSE 2 END = 'down'\""],
        &["type: sql, table: cpu, query: \"SELECT * FROM (SELECT time FROM cpu) WHERE tag_team = 'a'\""],
    ];
    for lines in refused {
        assert_ne!(checked(lines), [""; 0], "{lines:?}");
        assert_ne!(refusals(lines), [""; 0], "{lines:?}");
    }
}
