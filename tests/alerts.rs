//! The alerting rules in `dashboards/alerts` name only what `/metrics` has: whoever renames a metric hears it here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use barograph::pipeline::{Metrics, Plan, Runner};
use barograph::telemetry::Telemetry;
use barograph::{config, yaml};
use serde_json::Value;

const RULES: &str = include_str!("../dashboards/alerts/barograph.rules.yaml");

/// A source, and a sink of each kind that has metrics of its own. Nobody listens at the server's address.
const PIPELINE: &str = "
name: alerts
settings: { jitter: 0s }
sources:
  host: { type: host, every: 1s }
sinks:
  store:  { type: store, path: ./data }
  influx: { type: influxdb, url: \"http://127.0.0.1:1\", database: metrics }
";

/// Every rule: its name, and the rule.
fn rules() -> Vec<(String, Value)> {
    let file = yaml::parse(RULES).unwrap().to_json();
    let groups = file["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    rules.map(|rule| (rule["alert"].as_str().unwrap().to_owned(), rule.clone())).collect()
}

/// What `/metrics` says of a pipeline whose backlog holds rows. Families without a series are not shown.
async fn exposed() -> String {
    let folder = tempfile::tempdir().unwrap();
    let telemetry = Telemetry::default();
    let metrics = Metrics::new(&telemetry);
    let config = config::check(PIPELINE, "alerts.yaml").unwrap();
    let plan = Plan::new(&config, None, Some(folder.path()), &telemetry).unwrap();
    let runner = Box::pin(Runner::start(plan)).await.unwrap();
    let monitor = runner.monitor();
    let mut text = metrics.encode(Some(&monitor));
    for _ in 0..600 {
        if text.contains("\nbarograph_backlog_bytes{") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        text = metrics.encode(Some(&monitor));
    }
    Box::pin(runner.stop()).await;
    text
}

#[test]
fn every_rule_has_a_name_of_its_own_a_severity_and_says_what_to_do() {
    let rules = rules();
    let names: BTreeSet<_> = rules.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), rules.len(), "a name stands twice");
    for (name, rule) in &rules {
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["warning", "critical"].contains(&severity), "{name}: {severity}");
        for key in ["summary", "description"] {
            assert!(rule["annotations"][key].as_str().is_some_and(|text| !text.is_empty()), "{name}: {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_name_only_metrics_and_label_values_that_there_are() {
    let text = exposed().await;
    let series: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let mut seen = 0;
    for (name, rule) in rules() {
        let expression = rule["expr"].as_str().unwrap();
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for metric in words.filter(|word| word.starts_with("barograph_")) {
            assert!(series.contains(metric), "{name}: there is no series {metric} in\n{text}");
            seen += 1;
        }
        // `{state="down"}`: such a pair must be among the labels.
        for pair in expression.split('{').skip(1).filter_map(|behind| behind.split('}').next()) {
            assert!(pair.starts_with("job=") || text.contains(pair), "{name}: nothing has {pair} in\n{text}");
        }
    }
    assert!(seen > 10, "{seen}");
}
