//! That the fake CloudWatch has the limits, the lists, the faults and the bill of the real one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what failed by panicking"
)]
#![allow(unreachable_pub, dead_code, missing_docs, reason = "tests use parts of their support")]

#[path = "support/aws_wire.rs"]
mod aws_wire;
#[path = "support/fake_cloudwatch/mod.rs"]
mod fake_cloudwatch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_wire::{CloudWatch, find, get, input, query, results, set};
use ciborium::{Value, cbor};
use fake_cloudwatch::{
    Clock, Fake, Monitoring, Pace, Quotas, SeriesKey, SeriesSpec, Settings, Shape, cbor as own,
};

const T: i64 = 1_800_000_000;
const REGION: &str = "us-east-1";
const OWN: &str = "111111111111";

async fn start() -> (Fake, CloudWatch, Arc<AtomicI64>) {
    let (clock, time) = Clock::at(T);
    let quotas = Quotas { pace: Pace::Simulated, ..Quotas::default() };
    let fake = Fake::start(Settings { quotas, ..Settings::new(clock) }).await;
    fake.add_account("AKIAOWN", OWN);
    let client = CloudWatch { address: fake.address, key: "AKIAOWN", region: REGION };
    (fake, client, time)
}

fn cpu(id: &str, instance: &str) -> Value {
    query(id, "AWS/EC2", "CPUUtilization", &[("InstanceId", instance)], 60, "Average")
}

/// Queries of a metric that nobody has.
fn empty(count: usize) -> Vec<Value> {
    (0..count).map(|number| cpu(&format!("q{number}"), "i-none")).collect()
}

fn throttled<T>() -> Result<T, (String, u16)> {
    Err(("Throttling".into(), 400))
}

#[tokio::test]
async fn a_call_has_500_queries_and_says_what_it_wants() {
    let (fake, client, _) = start().await;
    let call = async |queries| client.call("GetMetricData", input(queries, T - 600, T)).await.map(|_| ());
    assert_eq!(call(empty(500)).await, Ok(()));
    let invalid = || Err(("ValidationError".into(), 400));
    assert_eq!(call(empty(501)).await, invalid());
    assert_eq!(call(vec![query("q", "A", "m", &[], 60, "Median")]).await, invalid());
    assert_eq!(call(vec![query("q", "A", "m", &[], 90, "Sum")]).await, invalid());
    assert_eq!(call(vec![query("Q", "A", "m", &[], 60, "Sum")]).await, invalid());
    assert_eq!(call(vec![cpu("q", "i"), cpu("q", "i")]).await, invalid());
    assert_eq!(call(vec![query("q", "A", "m", &[], 60, "p99.9")]).await, Ok(()));
    assert_eq!(client.call("GetMetricData", input(empty(1), T, T)).await.map(|_| ()), invalid());
    let unknown = client.call("DescribeAlarms", cbor!({}).unwrap()).await;
    assert_eq!(unknown, Err(("InvalidAction".into(), 404)));
    let stranger = CloudWatch { key: "AKIAOTHER", ..client.clone() };
    let refused = stranger.call("ListMetrics", cbor!({}).unwrap()).await;
    assert_eq!(refused, Err(("InvalidClientTokenId".into(), 403)));
    let counters = fake.counters();
    assert_eq!((counters.calls_of("GetMetricData"), counters.largest_call), (8, 500));
    assert_eq!(counters.refused.values().sum::<u64>(), 6);
}

#[tokio::test]
async fn rates_are_of_an_account_in_a_region() {
    let (fake, client, time) = start().await;
    let one =
        |client: CloudWatch| async move { client.call("GetMetricData", input(empty(1), T - 60, T)).await };
    for _ in 0..50 {
        assert!(one(client.clone()).await.is_ok());
    }
    assert_eq!(one(client.clone()).await, throttled());
    assert!(one(CloudWatch { region: "eu-west-1", ..client.clone() }).await.is_ok());
    assert!(client.call("ListMetrics", cbor!({}).unwrap()).await.is_ok());
    time.fetch_add(1, Ordering::SeqCst);
    assert!(one(client.clone()).await.is_ok());
    assert_eq!(fake.counters().throttled_of("GetMetricData"), 1);

    // 500 x 180 points of nothing are half of a recent second, 500 x 181 more than that; older ones have their own.
    time.fetch_add(10, Ordering::SeqCst);
    let now = fake.now();
    let many = async |from, to| client.call("GetMetricData", input(empty(500), from, to)).await.map(|_| ());
    assert_eq!(many(now - 10_800, now).await, Ok(()));
    assert_eq!(many(now - 10_800, now + 60).await, throttled());
    assert_eq!(many(now - 10_800, now).await, Ok(()));
    assert_eq!(many(now - 60, now).await, throttled());
    for _ in 0..3 {
        assert_eq!(many(now - 86_400, now).await, Ok(()));
    }
    assert_eq!(many(now - 86_400, now).await, throttled());
}

#[tokio::test]
async fn rates_can_go_by_the_real_clock() {
    let (fake, client, _) = start().await;
    fake.quotas(|quotas| (quotas.pace, quotas.list_metrics) = (Pace::Real, 5.0));
    let mut answers = Vec::new();
    for _ in 0..1000 {
        answers.push(client.call("ListMetrics", cbor!({}).unwrap()).await.is_ok());
        if answers.len() > 5 && !answers.ends_with(&[true]) {
            break;
        }
    }
    assert!(answers[..5].iter().all(|answer| *answer) && answers.ends_with(&[false]));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(client.call("ListMetrics", cbor!({}).unwrap()).await.is_ok());
}

#[tokio::test]
async fn metrics_are_listed_by_pages_and_two_weeks_beyond_their_end() {
    let (fake, client, _) = start().await;
    let fleet = fake.add_fleet(OWN, REGION, 101, Monitoring::Basic, "0123");
    let pages = client.list(cbor!({ "Namespace" => "AWS/EC2" }).unwrap()).await;
    let sizes: Vec<usize> = pages.iter().map(|page| get(page, "Metrics").as_array().unwrap().len()).collect();
    assert_eq!(sizes, [500, 500, 10]);
    let metrics = pages.iter().flat_map(|page| get(page, "Metrics").as_array().unwrap());
    let distinct: BTreeSet<String> = metrics.map(|metric| format!("{metric:?}")).collect();
    assert_eq!(distinct.len(), 1010);

    let count = async |filter: Value| {
        let pages = client.list(filter).await;
        pages.iter().map(|page| get(page, "Metrics").as_array().unwrap().len()).sum::<usize>()
    };
    let id = fleet.id(7);
    let by_name = cbor!({ "MetricName" => "NetworkIn", "Dimensions" => [{ "Name" => "InstanceId" }] });
    assert_eq!(count(by_name.unwrap()).await, 101);
    let by_value =
        || cbor!({ "Dimensions" => [{ "Name" => "InstanceId", "Value" => id.as_str() }] }).unwrap();
    let mut active = by_value();
    set(&mut active, "RecentlyActive", "PT3H".into());
    assert_eq!(count(cbor!({ "Dimensions" => [{ "Name" => "VolumeId" }] }).unwrap()).await, 0);
    let day = 86_400;
    for (died, listed, recent) in
        [(T, 10, 10), (T - 4 * 3600, 10, 0), (T - 13 * day, 10, 0), (T - 15 * day, 0, 0)]
    {
        fake.terminated(&fleet, &id, died);
        assert_eq!((count(by_value()).await, count(active.clone()).await), (listed, recent), "{died}");
    }
    fake.launched(&fleet, &fleet.id(8), T);
    assert_eq!(count(cbor!({}).unwrap()).await, 990);
    let wrong = client.call("ListMetrics", cbor!({ "RecentlyActive" => "PT1H" }).unwrap()).await;
    assert_eq!(wrong, Err(("InvalidParameterValue".into(), 400)));
}

#[tokio::test]
async fn what_is_asked_is_billed() {
    let (fake, client, _) = start().await;
    let id = fake.add_fleet(OWN, REGION, 1, Monitoring::Detailed, "a").id(0);
    let stats = ["Average", "Sum", "Minimum", "Maximum", "SampleCount", "p99"];
    let of = |number: usize, metric: &str, stat: &str| {
        query(&format!("q{number}"), "AWS/EC2", metric, &[("InstanceId", &id)], 60, stat)
    };
    let mut queries: Vec<Value> =
        stats.iter().enumerate().map(|(number, stat)| of(number, "NetworkIn", stat)).collect();
    queries.push(of(9, "NetworkOut", "Sum"));
    queries.push(cpu("none", "i-none"));
    queries.push(aws_wire::expression("e", "q1 + q9"));
    client.get(queries, T - 1200, T - 600).await;
    let counters = fake.counters();
    assert_eq!((counters.billed[OWN], counters.billed_by_five[OWN]), (8, 4));
    assert_eq!((counters.datapoints, counters.largest_answer), (80, 80));
    fake.forget_counters();
    assert_eq!(fake.counters(), fake_cloudwatch::Counters::default());
}

#[tokio::test]
async fn faults_are_of_calls_or_of_ids() {
    let (fake, client, _) = start().await;
    fake.quotas(|quotas| *quotas = Quotas::unpaced());
    let ids: Vec<String> = fake.add_fleet(OWN, REGION, 3, Monitoring::Detailed, "a").ids().collect();
    let queries = || ids.iter().enumerate().map(|(at, id)| cpu(&format!("q{at}"), id)).collect::<Vec<_>>();
    let call = || client.call("GetMetricData", input(queries(), T - 1200, T - 600));
    let statuses = async || {
        let found = results(&call().await.unwrap());
        found.into_iter().map(|result| (result.status, result.points.len())).collect::<Vec<_>>()
    };
    let status = |status: &str, points: usize| (status.to_owned(), points);
    fake.faults(|faults| faults.forbidden_ids = BTreeSet::from(["q1".into()]));
    assert_eq!(statuses().await, [status("Complete", 10), status("Forbidden", 0), status("Complete", 10)]);
    fake.faults(|faults| faults.forbidden_namespaces = BTreeSet::from(["AWS/EC2".into()]));
    assert_eq!(statuses().await, vec![status("Forbidden", 0); 3]);
    fake.faults(|faults| *faults = fake_cloudwatch::Faults { internal_error: 1.0, ..Default::default() });
    assert_eq!(statuses().await, vec![status("InternalError", 0); 3]);
    fake.faults(|faults| (faults.internal_error, faults.partial_data) = (0.0, 1.0));
    assert_eq!(statuses().await, vec![status("PartialData", 0); 3]);

    for (code, change) in [
        (("Throttling", 400), (|faults| faults.throttle = 1.0) as fn(&mut fake_cloudwatch::Faults)),
        (("InternalServiceError", 500), |faults| faults.http_500 = 1.0),
        (("ServiceUnavailable", 503), |faults| faults.http_503 = 1.0),
        (("Throttling", 400), |faults| _ = faults.throttled_accounts.insert(OWN.into())),
        (("AccessDenied", 403), |faults| _ = faults.denied.insert("GetMetricData".into())),
        (("AccessDenied", 403), |faults| _ = faults.denied.insert(OWN.into())),
    ] {
        fake.faults(|faults| *faults = Default::default());
        fake.faults(change);
        assert_eq!(call().await, Err((code.0.into(), code.1)));
    }
    fake.faults(|faults| *faults = fake_cloudwatch::Faults { drop: 1.0, ..Default::default() });
    assert!(client.send("ListMetrics", false, &[0xa0]).await.is_err());
    fake.faults(|faults| faults.drop = 0.3);
    let mut lost = 0;
    for _ in 0..100 {
        lost += u32::from(client.send("ListMetrics", false, &[0xa0]).await.is_err());
    }
    assert!((10..60).contains(&lost), "{lost}");
}

#[tokio::test]
async fn a_large_fleet_is_small_and_a_full_call_is_quick() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4 / 1024
    };
    let (fake, client, _) = start().await;
    let before = resident();
    let fleet = fake.add_fleet(OWN, REGION, 10_000, Monitoring::Basic, "a");
    let after = resident();
    eprintln!("10,000 instances: {} MiB", after - before);
    assert!(after - before < 60);
    let queries = fleet.ids().skip(5000).take(500).enumerate();
    let queries = queries.map(|(at, id)| cpu(&format!("q{at}"), &id)).collect();
    let body = aws_wire::encode(&input(queries, T - 40 * 300, T));
    for _ in 0..3 {
        let begun = std::time::Instant::now();
        let answer = client.send("GetMetricData", false, &body).await.unwrap();
        eprintln!("500 queries: {:?}, {} KiB", begun.elapsed(), answer.body.len() / 1024);
        assert_eq!(answer.status, 200);
    }
    assert_eq!(fake.counters().largest_answer, 20_000);
}

#[test]
fn cbor_is_what_ciborium_reads_and_writes() {
    let value = cbor!({ "a" => [1, -1, 23, 24, 255, 256, 65_536, 4_294_967_296_u64, -500], "b" => { "c" => 1.5,
        "d" => 0.1, "e" => null, "f" => true, "g" => "ü".repeat(300), "h" => -0.25, "i" => 1e-7, "j" => 65_504.0 } });
    let bytes = aws_wire::encode(&value.unwrap());
    let item = own::parse(&bytes).unwrap();
    let numbers: Vec<f64> = item.list_at("a").iter().map(|item| item.number().unwrap()).collect();
    assert_eq!(numbers, [1., -1., 23., 24., 255., 256., 65_536., 4_294_967_296., -500.]);
    let inner = item.get("b").unwrap();
    let floats = ["c", "d", "h", "i", "j"].map(|key| inner.number_at(key).unwrap());
    assert_eq!(floats, [1.5, 0.1, -0.25, 1e-7, 65_504.0]);
    assert_eq!((inner.get("e"), inner.text_at("g").unwrap().len()), (None, 600));
    assert!((0..bytes.len()).all(|end| own::parse(&bytes[..end]).is_none()));
    // As the SDK writes: a map without a length, and a string in parts.
    let item = own::parse(b"\xbf\x61a\x7f\x61b\x61c\xff\xff").unwrap();
    assert_eq!(item.text_at("a"), Some("bc"));

    let mut writer = own::Writer::with_capacity(0);
    writer.map(2).text("t").time(T).text("n").array(300);
    (0..300).for_each(|number| _ = writer.float(f64::from(number) / 3.0));
    let read: Value = ciborium::from_reader(writer.finish().as_slice()).unwrap();
    assert_eq!(find(&read, "t"), Some(&aws_wire::time(T)));
    assert_eq!(get(&read, "n").as_array().unwrap()[299], Value::Float(299.0 / 3.0));
}

#[tokio::test]
async fn revisions_and_shapes_keep_to_their_series() {
    let (fake, client, time) = start().await;
    let key = |metric: &str| SeriesKey::new(OWN, REGION, "App", metric, &[]);
    for (metric, shape) in
        [("a", Shape::Between(0.0, 1.0)), ("b", Shape::Between(0.0, 1.0)), ("c", Shape::Flag(0.5))]
    {
        fake.add(SeriesSpec { shape, unit: "Count".into(), lag: 0..=0, ..SeriesSpec::new(key(metric)) });
    }
    let sums = |metric: &str| fake.truth_points(&key(metric), T - 6000, T, 60, "Sum").map(|(_, value)| value);
    assert!(sums("a").zip(sums("b")).all(|(one, other)| one != other));
    assert!((20.0..80.0).contains(&sums("c").sum::<f64>()));
    fake.revise(&key("a"), T - 120, T + 60, 7.0);
    let mut asked = query("q", "App", "a", &[], 60, "Sum");
    let before = client.get(vec![asked.clone()], T - 120, T).await;
    time.store(T + 60, Ordering::SeqCst);
    let after = client.get(vec![asked.clone()], T - 120, T).await;
    assert!(before[0].points[0].1 < 1.0);
    assert_eq!((after[0].points[0].1, after[0].points[1]), (7.0, before[0].points[1]));
    let stat = asked.as_map_mut().unwrap().iter_mut().find(|(name, _)| name.as_text() == Some("MetricStat"));
    set(&mut stat.unwrap().1, "Unit", "Bytes".into());
    assert_eq!(client.get(vec![asked], T - 120, T).await[0].points, []);
}
