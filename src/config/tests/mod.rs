//! Tests of the whole way from text to configuration.

mod faults;
mod mutation;
mod runs;
mod secrets;
mod sinks;

use std::path::Path;

use super::*;
use crate::model::{Size, Span};

/// A file without faults; tests break it.
const GOOD: &str = "\
name: local
sources:
  host: { type: host, every: 5s }
sinks:
  out: { type: stdout }
";

/// Checks with an environment of our own.
fn check_here(text: &str) -> Result<Pipeline, Diagnostics> {
    check_with(text, "p.yaml", &|name| match name {
        "TOKEN" => Some("hunter2".into()),
        "EVERY" => Some("7s".into()),
        _ => None,
    })
}

/// Faults as `line:column message`.
fn faults(text: &str) -> Vec<String> {
    match check_here(text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults
            .iter()
            .map(|fault| {
                format!("{} {}", fault.place.map_or_else(String::new, |p| p.start.to_string()), fault.message)
            })
            .collect(),
    }
}

#[test]
fn files_that_a_source_names_lie_beside_the_pipeline_file() {
    let kvm = "guests: { type: kvm, every: 5s, sizes: a/sizes.yaml, prices: /etc/prices.yaml }";
    let text = GOOD.replace("host: { type: host, every: 5s }", kvm);
    let pipeline = check_with(&text, "conf/p.yaml", &|_| None).unwrap();
    let SourceKind::Kvm(config) = &pipeline.sources.get("guests").unwrap().kind else { panic!("{text}") };
    assert_eq!(config.sizes.as_deref(), Some(Path::new("conf/a/sizes.yaml")));
    assert_eq!(config.prices.as_deref(), Some(Path::new("/etc/prices.yaml")));
}

#[test]
fn the_file_of_the_design_is_understood() {
    let text = r#"
name: local
settings: { queue_rows: 1000, drain: 1m, jitter: 0s, listen: none, token: "${env:TOKEN}" }
sources:
  host:   { type: host, every: 5s, timeout: 2s, ignore_devices: [loop, ram, zram] }
  again:  { type: host, every: 1m }
transforms:
  - { type: tag, set: { site: lab } }
  - { type: filter, table: disk, where: "device NOT LIKE 'loop%' AND site = 'lab'" }
  - { type: sql, table: cpu, query: "SELECT * FROM cpu WHERE utilization IS NOT NULL", into: busy }
  - { type: filter, table: busy, where: "anything > 1" }
  - { type: rename, table: memory, columns: { used_bytes: used } }
  - { type: downsample, every: 1m, aggregate: { utilization: max }, grace: 5s }
sinks:
  store:  { type: store, path: ./data, retention: 30d, buffer: 64MiB }
  lines:  { type: stdout, format: line_protocol }
"#;
    let pipeline = check_here(text).unwrap();
    assert_eq!(pipeline.name, "local");
    assert_eq!(pipeline.sources.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["host", "again"]);
    let host = pipeline.sources.get("host").unwrap();
    assert_eq!(
        (host.every, host.timeout, host.deadline()),
        (Span::seconds(5), Some(Span::seconds(2)), Span::seconds(2))
    );
    assert_eq!(pipeline.sources.get("again").unwrap().deadline(), Span::seconds(60));
    let SourceKind::Host(config) = &host.kind else { panic!("{host:?}") };
    assert_eq!(config.ignore_devices, ["loop", "ram", "zram"]);
    let kinds: Vec<_> = pipeline.transforms.iter().map(TransformConfig::name).collect();
    assert_eq!(kinds, ["tag", "filter", "sql", "filter", "rename", "downsample"]);
    let Some(SinkConfig::Store(store)) = pipeline.sinks.get("store") else { panic!("{pipeline:?}") };
    assert_eq!(
        (store.path.as_path(), store.retention),
        (Path::new("./data"), Some(Span::seconds(30 * 86_400)))
    );
    assert_eq!(store.buffer, Size(64 << 20));
    let settings = &pipeline.settings;
    assert_eq!(
        (settings.queue_rows, settings.drain, settings.listen),
        (1000, Span::seconds(60), Listen::None)
    );
    assert_eq!(settings.batch_rows, Settings::default().batch_rows);
    assert_eq!(settings.token.as_ref().map(crate::model::Secret::expose), Some("hunter2"));
}

#[test]
fn a_small_file_has_every_default() {
    let pipeline = check_here(GOOD).unwrap();
    assert!(pipeline.settings == Settings::default());
    assert!(pipeline.transforms.is_empty());
    assert_eq!(check_here(&format!("\u{feff}{GOOD}")).unwrap(), pipeline, "a byte order mark is no text");
}

#[test]
fn every_file_in_the_folder_of_pipelines_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files += 1;
            match load(&path) {
                Ok(pipeline) => assert!(!pipeline.sources.is_empty()),
                // A build without libvirt says only that.
                Err(faults) if !crate::provider::KVM => {
                    assert!(
                        faults.iter().all(|fault| fault.message.contains("cannot measure libvirt guests")),
                        "{faults}"
                    );
                }
                Err(faults) => panic!("{faults}"),
            }
        }
    }
    assert!(files > 0);
}

#[test]
fn the_check_runs_inside_a_runtime_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = format!(
        "{GOOD}transforms:\n  - {{ type: sql, table: cpu, query: \"SELECT * FROM cpu WHERE utlization > 1\" }}\n"
    );
    let found = runtime.block_on(async { faults(&text) });
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("7:37 `transforms[0].query`: "), "{found:?}");
}

#[test]
fn files_that_cannot_be_read_are_faults_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.yaml");
    assert!(load(&path).unwrap_err().to_string().contains("there is no such file"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("not UTF-8"));
    std::fs::write(&path, vec![b'#'; 5 << 20]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("4MiB"));
    assert!(load(folder.path()).is_err());
}

/// The walk would pass over a keyword that it does not know; the types must not make the schema use one.
#[test]
fn the_walk_knows_every_keyword_of_the_schema() {
    fn keywords(schema: &serde_json::Value, into: &mut std::collections::BTreeSet<String>) {
        let Some(object) = schema.as_object() else { return };
        for (key, value) in object {
            into.insert(key.clone());
            match key.as_str() {
                "properties" | "$defs" => value.as_object().unwrap().values().for_each(|s| keywords(s, into)),
                "oneOf" | "anyOf" | "allOf" => {
                    value.as_array().unwrap().iter().for_each(|s| keywords(s, into));
                }
                "items" | "additionalProperties" | "propertyNames" => keywords(value, into),
                _ => {}
            }
            if key == "pattern" {
                assert_eq!(value, named::NAME_PATTERN);
            }
            if key == "format" {
                let known = ["duration", "size", "secret", "listen", "uint", "double"];
                assert!(known.contains(&value.as_str().unwrap()), "{value}");
            }
        }
    }
    let mut found = std::collections::BTreeSet::new();
    keywords(&json_schema(), &mut found);
    let known = [
        "$defs",
        "$ref",
        "$schema",
        "additionalProperties",
        "anyOf",
        "const",
        "default",
        "description",
        "enum",
        "examples",
        "format",
        "items",
        "maximum",
        "minProperties",
        "minimum",
        "oneOf",
        "pattern",
        "properties",
        "propertyNames",
        "required",
        "title",
        "type",
        "uniqueItems",
    ];
    let unknown: Vec<_> = found.iter().filter(|keyword| !known.contains(&keyword.as_str())).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}
