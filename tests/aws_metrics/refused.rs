//! What AWS refuses, forbids or does not say: it costs only itself, and is told once.

use barograph::provider::aws::{Config, estimate};
use serde_json::json;

use crate::fake_cloudwatch::{Monitoring, SeriesKey, SeriesSpec};
use crate::fake_ec2::Instance;
use crate::rig::{OTHER, OWN, REGION, Rig, SECOND, Source, T, compare, told};

fn own(list: serde_json::Value) -> Vec<barograph::provider::aws::Metric> {
    serde_json::from_value(list).unwrap()
}

/// CloudWatch refuses a whole request for one expression.
#[tokio::test]
async fn an_expression_that_cloudwatch_refuses_costs_no_other_figure() {
    let rig = Rig::new().await;
    for number in 0..40 {
        for metric in ["Errors", "Requests"] {
            let service = format!("s{number:02}");
            let key = SeriesKey::new(OWN, REGION, "App", metric, &[("Service", &service)]);
            rig.cloudwatch.add(SeriesSpec::new(key));
        }
    }
    rig.cloudwatch.faults(|faults| _ = faults.wrong_words.insert("NOSUCH".into()));
    let figure = |field: &str, expression: &str| {
        json!({
            "namespace": "App", "table": "app", "field": field, "expression": expression, "resource": "Service",
            "inputs": {
                "errors": { "metric": "Errors", "statistic": "Sum" },
                "requests": { "metric": "Requests", "statistic": "Sum" },
            },
            "dimensions": { "Service": "*" }, "tags": { "service": "Service" },
        })
    };
    let metrics =
        own(json!([figure("ratio", "errors / requests"), figure("odd", "NOSUCH(errors, requests)")]));
    let mut source = Source::new(&Config { metrics, groups: vec![], ..rig.config() }, 60);
    source.run(&rig, T + 60, T + 300).await;
    for service in ["s00", "s39"] {
        assert!(source.values("app", service, &[], "ratio").len() >= 3, "{service}");
    }
    assert_eq!(told(&source, "finds it wrong"), 1, "{:?}", source.faults);
    assert_eq!(told(&source, "NOSUCH(errors, requests) of s"), 1, "{:?}", source.faults);
    assert_eq!(told(&source, "and so with 39 others"), 1, "{:?}", source.faults);
    let calls = rig.cloudwatch.counters().calls_of("GetMetricData");
    assert!(calls < 20, "it was looked for once, and is left out then: {calls}");
    assert_eq!(source.failures, 0);
}

#[tokio::test]
async fn what_is_forbidden_many_times_is_one_fault() {
    let rig = Rig::new().await;
    rig.cloudwatch.add_fleet(OTHER, REGION, 40, Monitoring::Basic, "b");
    rig.cloudwatch.link(OWN, OTHER);
    rig.cloudwatch.faults(|faults| _ = faults.forbidden_accounts.insert(OTHER.into()));
    let mut config = rig.config();
    config.accounts[0].linked_accounts = true;
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 300, T + 1_800).await;
    assert_eq!(told(&source, "does not allow"), 2, "one of each shard: {:?}", source.faults);
    assert!(told(&source, "and so with 199 others") == 1, "{:?}", source.faults);
}

#[tokio::test]
async fn instances_are_measured_where_metrics_may_not_be_listed() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(2, Monitoring::Basic, "c");
    rig.cloudwatch.faults(|faults| _ = faults.denied.insert("ListMetrics".into()));
    let mut config = rig.config();
    config.accounts[0].linked_accounts = true;
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 300, T + 3_000).await;
    assert_eq!(source.failures, 0, "{:?}", source.faults);
    assert!(told(&source, "list the metrics of") > 0, "{:?}", source.faults);
    compare(&rig, &source, &fleet, Monitoring::Basic, T, T + 1_800);
    // Nothing is passed over where there is nothing else.
    config.groups = vec!["agent".into()];
    config.accounts[0].linked_accounts = false;
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 3_300, T + 3_600).await;
    assert_eq!(source.failures, 2, "{:?}", source.faults);
}

/// Rows without the instance's name and zone would be another series.
#[tokio::test]
async fn rows_wait_for_what_ec2_knows_of_their_instance() {
    let rig = Rig::new().await;
    rig.ec2.put(OWN, REGION, Instance::running("i-1"));
    rig.cloudwatch.add(SeriesSpec::new(SeriesKey::new(OWN, REGION, "App", "Hits", &[("InstanceId", "i-1")])));
    rig.ec2.refuse("DescribeInstances", "InvalidParameterValue");
    let metrics = own(json!([{
        "namespace": "App", "metric": "Hits", "statistic": "Sum", "table": "app", "field": "hits",
        "dimensions": { "InstanceId": "*" }, "resource": "InstanceId",
    }]));
    let mut source = Source::new(&Config { metrics, groups: vec![], ..rig.config() }, 60);
    source.run(&rig, T + 60, T + 1_200).await;
    rig.ec2.deny("DescribeInstances", false);
    source.run(&rig, T + 1_260, T + 3_600).await;
    let of_app: Vec<_> = source.rows.keys().filter(|(table, ..)| table == "app").collect();
    assert!(of_app.len() > 50, "from the beginning: {}", of_app.len());
    assert!(of_app.iter().all(|(_, tags, _)| tags.contains("zone=zone-a")), "{:?}", of_app[0]);
}

#[tokio::test]
async fn what_a_type_can_is_asked_again_until_ec2_says_it() {
    let rig = Rig::new().await;
    rig.ec2.put(OWN, REGION, Instance::running("i-1"));
    rig.ec2.put(OWN, REGION, Instance { size: "z9.huge".into(), ..Instance::running("i-2") });
    rig.ec2.deny("DescribeInstanceTypes", true);
    let mut source = Source::new(&rig.config(), 300);
    source.run(&rig, T + 300, T + 600).await;
    rig.ec2.deny("DescribeInstanceTypes", false);
    source.run(&rig, T + 900, T + 1_800).await;
    let memory = |id: &str| source.values("status", id, &[], "memory_bytes").len();
    assert_eq!((memory("i-1"), memory("i-2")), (4, 0), "one that EC2 does not know spoils no other");
    assert_eq!(rig.ec2.calls("DescribeInstanceTypes"), 3, "and is not asked about again");
}

/// A long outage is no reason to give a figure up that fails once after it.
#[tokio::test]
async fn one_failure_after_a_long_outage_does_not_move_the_mark() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(3, Monitoring::Detailed, "d");
    let mut source = Source::new(&rig.config(), 300);
    source.run(&rig, T + 300, T + 3_600).await;
    rig.cloudwatch.faults(|faults| _ = faults.denied.insert("GetMetricData".into()));
    for hour in 1..21 {
        source.run(&rig, T + hour * 3_600 + 300, T + hour * 3_600 + 300).await;
    }
    rig.cloudwatch.faults(|faults| {
        faults.denied.clear();
        faults.internal_error = 0.8;
    });
    let now = T + 21 * 3_600;
    source.run(&rig, now, now).await;
    let mark = source.marks.iter().find(|(shard, _)| shard.ends_with("AWS/EC2/60")).unwrap().1;
    assert!(*mark < (T + 4_000) * SECOND, "T+{}", mark / SECOND - T);
    assert!(told(&source, "(InternalError: Injected)") > 0, "{:?}", source.faults.last());
    assert_eq!(told(&source, "and at 0 others"), 0);
    rig.cloudwatch.faults(|faults| faults.internal_error = 0.0);
    let config = rig.config();
    source.restart(&config);
    source.run(&rig, now + 300, now + 2_400).await;
    compare(&rig, &source, &fleet, Monitoring::Detailed, T, now);
}

#[tokio::test]
async fn two_accounts_that_are_one_are_measured_once_and_it_is_told() {
    let rig = Rig::new().await;
    rig.fleet(1, Monitoring::Basic, "e");
    let mut config = rig.config();
    let twice = barograph::provider::aws::Account {
        id: None,
        name: Some("again".into()),
        ..config.accounts[0].clone()
    };
    config.accounts[0].id = None;
    config.accounts.push(twice);
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 300, T + 600).await;
    assert!(told(&source, "measured once") > 0, "{:?}", source.faults);
    assert_eq!(rig.cloudwatch.counters().billed[OWN], 2 * 6);
}

#[tokio::test]
async fn a_metric_without_a_series_is_a_line_with_nothing_and_a_hint() {
    let rig = Rig::new().await;
    let metrics = own(json!([{
        "namespace": "App", "metric": "Hitts", "statistic": "Sum", "table": "app", "field": "hits",
        "dimensions": { "Service": "*" },
    }]));
    let config = Config { metrics, groups: vec![], ..rig.config() };
    let told = estimate(&config, std::time::Duration::from_secs(7_200), None).await.unwrap();
    let lines: Vec<_> =
        told.lines.iter().map(|line| (line.namespace.as_str(), line.targets, line.metrics)).collect();
    assert_eq!(lines, [("App", 0, 0)]);
    assert!(told.hints[0].contains("no series is of app.hits in"), "{:?}", told.hints);
    assert!(
        (told.listings - 360.0).abs() < 1e-6,
        "every two hours, though every half would be allowed: {}",
        told.listings
    );
}
