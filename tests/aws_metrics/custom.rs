//! Metrics of the pipeline file: percentiles, expressions, globs, caps.

use std::collections::BTreeMap;

use barograph::provider::aws::{Config, Metric};
use serde_json::json;

use crate::fake_cloudwatch::{SeriesKey, SeriesSpec, Shape};
use crate::rig::{OWN, REGION, Rig, Source, T, told};

fn key(metric: &str, service: &str) -> SeriesKey {
    SeriesKey::new(OWN, REGION, "App", metric, &[("Service", service)])
}

fn metrics(list: serde_json::Value) -> Vec<Metric> {
    serde_json::from_value(list).unwrap()
}

fn near(stored: &BTreeMap<i64, f64>, truth: impl Iterator<Item = (i64, f64)>) -> usize {
    let mut compared = 0;
    for (time, value) in truth {
        let found = stored.get(&time);
        assert!(
            found.is_some_and(|found| (found - value).abs() < 1e-9),
            "T+{}: {found:?} and not {value}",
            time - T
        );
        compared += 1;
    }
    compared
}

#[tokio::test]
async fn percentiles_trimmed_means_and_metric_math_are_asked_together_and_make_one_row() {
    let rig = Rig::new().await;
    for service in ["web", "api"] {
        rig.cloudwatch.add(SeriesSpec {
            shape: Shape::Between(5.0, 500.0),
            ..SeriesSpec::new(key("Latency", service))
        });
        rig.cloudwatch
            .add(SeriesSpec { shape: Shape::Whole(0.0, 9.0), ..SeriesSpec::new(key("Errors", service)) });
        rig.cloudwatch
            .add(SeriesSpec { shape: Shape::Whole(50.0, 90.0), ..SeriesSpec::new(key("Requests", service)) });
    }
    let common = |mut metric: serde_json::Value| {
        let more = json!({
            "namespace": "App", "table": "app", "dimensions": { "Service": "*" },
            "tags": { "service": "Service" }, "resource": "Service", "period": "5m",
        });
        metric.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        metric
    };
    let inputs = json!({
        "errors": { "metric": "Errors", "statistic": "Sum" },
        "requests": { "metric": "Requests", "statistic": "Sum" },
    });
    let list = json!([
        common(
            json!({ "metric": "Latency", "statistic": "p99", "field": "latency_p99", "convert": "milliseconds" })
        ),
        common(
            json!({ "metric": "Latency", "statistic": "tm95", "field": "latency_tm95", "convert": "milliseconds" })
        ),
        common(json!({ "expression": "errors / requests", "inputs": inputs, "field": "error_ratio" })),
    ]);
    let mut source = Source::new(&Config { metrics: metrics(list), groups: vec![], ..rig.config() }, 300);
    source.run(&rig, T + 300, T + 7_200).await;
    for service in ["web", "api"] {
        let tags = [format!("service={service} "), "resource_type=service".into()];
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        let truth = |metric: &str, statistic: &str| {
            rig.cloudwatch.truth_points(&key(metric, service), T, T + 5_400, 300, statistic)
        };
        for (statistic, field) in [("p99", "latency_p99"), ("tm95", "latency_tm95")] {
            let stored = source.values("app", service, &tags, field);
            let truth = truth("Latency", statistic).map(|(time, value)| (time + 300, value / 1_000.0));
            assert_eq!(near(&stored, truth), 18);
        }
        let requests: BTreeMap<i64, f64> = truth("Requests", "Sum").collect();
        let ratio = truth("Errors", "Sum").map(|(time, errors)| (time + 300, errors / requests[&time]));
        assert_eq!(near(&source.values("app", service, &tags, "error_ratio"), ratio), 18);
    }
    // Two statistics and two inputs of each service; the expression itself is not billed.
    assert_eq!(rig.cloudwatch.counters().billed[OWN], 24 * 2 * 4);
    assert_eq!(source.collector.spent().billed, 24 * 2 * 4);
}

#[tokio::test]
async fn globs_choose_and_a_cap_leaves_the_rest_out_and_says_so() {
    let rig = Rig::new().await;
    for number in 0..30 {
        rig.cloudwatch.add(SeriesSpec::new(key("Hits", &format!("web-{number:02}"))));
        rig.cloudwatch.add(SeriesSpec::new(key("Hits", &format!("db-{number:02}"))));
    }
    let list = json!([{
        "namespace": "App", "metric": "Hits", "statistic": "Sum", "table": "app", "field": "hits",
        "dimensions": { "Service": "web-*" }, "tags": { "service": "Service" }, "limit": 10,
    }]);
    let mut source = Source::new(&Config { metrics: metrics(list), groups: vec![], ..rig.config() }, 60);
    source.run(&rig, T + 60, T + 120).await;
    assert_eq!(rig.cloudwatch.counters().billed[OWN], 2 * 10);
    assert!(told(&source, "there are 30 combinations") > 0, "{:?}", source.faults);
    assert!(
        source
            .rows
            .keys()
            .filter(|(table, ..)| table == "app")
            .all(|(_, tags, _)| tags.contains("service=web-"))
    );
}

/// ListMetrics knows a metric late, so what it published before is looked back for.
#[tokio::test]
async fn a_metric_that_appears_is_read_from_its_beginning() {
    let rig = Rig::new().await;
    rig.cloudwatch.quotas(|quotas| quotas.unlisted = 900);
    let born = T + 600;
    rig.cloudwatch.add(SeriesSpec { born, ..SeriesSpec::new(key("Hits", "web")) });
    let list = json!([{
        "namespace": "App", "metric": "Hits", "statistic": "Sum", "table": "app", "field": "hits",
        "dimensions": { "Service": "web" },
    }]);
    let mut source = Source::new(&Config { metrics: metrics(list), groups: vec![], ..rig.config() }, 60);
    source.run(&rig, T + 60, T + 5_400).await;
    let stored = source.values("app", "Service=web", &[], "hits");
    let truth = rig.cloudwatch.truth_points(&key("Hits", "web"), T, T + 3_600, 60, "Sum");
    assert_eq!(near(&stored, truth.map(|(time, value)| (time + 60, value))), 50);
}

/// The mark of a source that had nothing to read is at now; what appears after a restart was there before it.
#[tokio::test]
async fn a_metric_that_appears_after_a_restart_is_read_from_its_beginning_too() {
    let rig = Rig::new().await;
    rig.cloudwatch.quotas(|quotas| quotas.unlisted = 900);
    rig.cloudwatch.add(SeriesSpec { born: T + 3_000, ..SeriesSpec::new(key("Hits", "web")) });
    let list = json!([{
        "namespace": "App", "metric": "Hits", "statistic": "Sum", "table": "app", "field": "hits",
        "dimensions": { "Service": "web" },
    }]);
    let config = Config { metrics: metrics(list), groups: vec![], ..rig.config() };
    let mut source = Source::new(&config, 60);
    source.run(&rig, T + 60, T + 3_600).await;
    source.restart(&config);
    source.run(&rig, T + 3_960, T + 6_000).await;
    let stored = source.values("app", "Service=web", &[], "hits");
    let truth = rig.cloudwatch.truth_points(&key("Hits", "web"), T, T + 4_800, 60, "Sum");
    assert_eq!(near(&stored, truth.map(|(time, value)| (time + 60, value))), 30);
}
