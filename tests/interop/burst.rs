//! The whole source, with EC2 and CloudWatch by others, behind a proxy by others that throttles, fails, delays and cuts off:
//! what is stored in the end is what was published.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use barograph::model::Secret;
use barograph::provider::aws::{Account, Config, Endpoints};
use ciborium::{Value, cbor};

use crate::aws_source::Source;
use crate::aws_wire::{CloudWatch, dimensions, post, time};
use crate::ministack::{ACCOUNT, Ministack};

const REGION: &str = "eu-west-1";
const INSTANCES: usize = 4;
/// Ticks of five minutes in which data are published, and those that settle them.
const TICKS: i64 = 18;
const AFTER: i64 = 8;
/// Namespace, metric, statistic, table, field and factor of what is stored.
type Stored = (&'static str, &'static str, Statistic, &'static str, &'static str, f64);
const STORED: [Stored; 6] = [
    ("AWS/EC2", "CPUUtilization", Statistic::Average, "cpu", "utilization", 0.01),
    ("AWS/EC2", "NetworkIn", Statistic::Sum, "network", "receive_bytes_per_second", 1.0 / 300.0),
    ("AWS/EC2", "NetworkOut", Statistic::Sum, "network", "transmit_bytes_per_second", 1.0 / 300.0),
    ("AWS/EC2", "NetworkPacketsIn", Statistic::Sum, "network", "receive_packets_per_second", 1.0 / 300.0),
    ("AWS/EC2", "NetworkPacketsOut", Statistic::Sum, "network", "transmit_packets_per_second", 1.0 / 300.0),
    ("App", "Latency", Statistic::Maximum, "app", "latency_max", 1.0),
];
/// A third of the calls to CloudWatch fails in some way; an answer that is cut off is one that cannot be read.
const RULES: &str = r#"[
    {"service": "cloudwatch", "operation": "GetMetricData", "probability": 0.15, "error": {"code": "ThrottlingException"}},
    {"service": "cloudwatch", "operation": "GetMetricData", "probability": 0.1, "error": {"code": "InternalServiceFault"}},
    {"service": "cloudwatch", "operation": "GetMetricData", "probability": 0.06, "reset": true},
    {"service": "cloudwatch", "operation": "GetMetricData", "probability": 0.06, "response": {"abort_frac": 0.5}},
    {"service": "cloudwatch", "operation": "GetMetricData", "probability": 0.2, "latency": {"min": 20, "max": 200}},
    {"service": "cloudwatch", "operation": "ListMetrics", "times": 2, "error": {"code": "ThrottlingException"}},
    {"service": "ec2", "operation": "DescribeInstances", "times": 2, "error": {"code": "RequestLimitExceeded", "status": 503}}
]"#;

#[derive(Clone, Copy)]
enum Statistic {
    Average,
    Sum,
    Maximum,
}

/// What was published of a period of five minutes.
#[derive(Clone, Copy, Default)]
struct Truth {
    count: f64,
    sum: f64,
    most: f64,
}

/// What was published, by namespace, metric, instance and end of the period.
type Published = BTreeMap<(&'static str, &'static str, String, i64), Truth>;

/// Publishes one sample of every metric of every instance at a minute, but for a few.
async fn publish(
    cloudwatch: &CloudWatch,
    random: &mut fastrand::Rng,
    instances: &[String],
    minute: i64,
    published: &mut Published,
) {
    let mut data: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for instance in instances {
        for (namespace, metric, ..) in STORED.iter().filter(|_| random.f64() < 0.9).collect::<Vec<_>>() {
            let (value, at) = (f64::from(random.u32(0..10_000)) / 8.0, time(minute));
            let of = dimensions(&[("InstanceId", instance)]);
            let datum =
                cbor!({ "MetricName" => metric, "Dimensions" => of, "Timestamp" => at, "Value" => value });
            data.entry(namespace).or_default().push(datum.unwrap());
            let end = minute.div_euclid(300) * 300 + 300;
            let truth = published.entry((namespace, metric, instance.clone(), end)).or_default();
            truth.count += 1.0;
            truth.sum += value;
            truth.most = truth.most.max(value);
        }
    }
    for (namespace, data) in data {
        let input = cbor!({ "Namespace" => namespace, "MetricData" => data }).unwrap();
        cloudwatch.call("PutMetricData", input).await.unwrap();
    }
}

/// Starts instances; their ids.
async fn instances(address: SocketAddr) -> Vec<String> {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={ACCOUNT}/20260101/{REGION}/ec2/aws4_request, SignedHeaders=host, Signature=00"
    );
    let headers =
        [("content-type", "application/x-www-form-urlencoded"), ("authorization", authorization.as_str())];
    let body = format!(
        "Action=RunInstances&Version=2016-11-15&ImageId=ami-1&InstanceType=t3.micro&MinCount={INSTANCES}&MaxCount={INSTANCES}"
    );
    let answer = post(address, "/", &headers, body.as_bytes()).await.unwrap();
    let text = String::from_utf8(answer.body).unwrap();
    let ids = text.split("<instanceId>").skip(1).filter_map(|rest| rest.split_once('<'));
    ids.map(|(id, _)| id.to_owned()).collect()
}

fn config(address: SocketAddr) -> Config {
    let url = Some(format!("http://{address}"));
    Config {
        accounts: vec![Account {
            id: Some(ACCOUNT.into()),
            access_key_id: Some(ACCOUNT.into()),
            secret_access_key: Some(Secret::new("secret")),
            ..Account::default()
        }],
        regions: vec![REGION.into()],
        endpoints: Endpoints { ec2: url.clone(), cloudwatch: url.clone(), sts: url, pricing: None },
        metrics: serde_json::from_str(
            r#"[{"namespace": "App", "metric": "Latency", "statistic": "Maximum", "dimensions": {"InstanceId": "*"},
                 "table": "app", "field": "latency_max", "resource": "InstanceId", "period": "5m"}]"#,
        )
        .unwrap(),
        groups: vec!["basic".into(), "packets".into()],
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_what_was_published_whatever_happens_on_the_way() {
    let rig = Ministack::up("burst");
    let proxy = rig.burst(RULES);
    let ids = instances(rig.address).await;
    assert_eq!(ids.len(), INSTANCES);
    let cloudwatch = CloudWatch { address: rig.address, key: ACCOUNT, region: REGION };
    let mut random = fastrand::Rng::with_seed(11);
    let mut published = Published::new();
    let mut source = Source::new(&config(proxy), 300);
    // An instance has no points of before it was started.
    let begin = barograph::model::Timestamp::now().0 / 1_000_000_000 / 300 * 300 + 600;
    for tick in 0..TICKS + AFTER {
        let now = begin + tick * 300;
        if tick < TICKS {
            for minute in 0..5 {
                publish(&cloudwatch, &mut random, &ids, now - 300 + minute * 60, &mut published).await;
            }
            // What is there already changes.
            publish(&cloudwatch, &mut random, &ids[..1], now - 600, &mut published).await;
        }
        source.poll(now).await;
    }
    let mut compared = 0;
    for (namespace, metric, statistic, table, field, factor) in STORED {
        for id in &ids {
            let stored = source.values(table, id, &[], field);
            let mut expected = BTreeMap::new();
            for ((_, _, _, end), truth) in published.iter().filter(|((of, name, resource, end), _)| {
                (*of, *name, resource) == (namespace, metric, id) && *end > begin
            }) {
                let value = match statistic {
                    Statistic::Average => truth.sum / truth.count,
                    Statistic::Sum => truth.sum,
                    Statistic::Maximum => truth.most,
                };
                expected.insert(*end, value * factor);
            }
            for (end, value) in &expected {
                let found = stored.get(end);
                let near = found.is_some_and(|found| (found - value).abs() <= 1e-9 * value.abs().max(1.0));
                assert!(near, "{metric} of {id} at +{}: {found:?} and not {value}", end - begin);
                compared += 1;
            }
            let invented = stored.range(begin + 1..).find(|(end, _)| !expected.contains_key(end));
            assert_eq!(invented, None, "{metric} of {id} was never published");
        }
    }
    let fired: Vec<serde_json::Value> = serde_json::from_str(&rig.fired()).unwrap();
    eprintln!("compared {compared} points; the proxy did something {} times", fired.len());
    assert!(compared > 400, "{compared}");
    assert!(fired.len() > 20, "{}", fired.len());
}
