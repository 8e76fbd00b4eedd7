//! That the fake CloudWatch publishes, revises, pages and calculates as it says.

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

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_wire::{CloudWatch, dimensions, expression, find, get, input, query, results, set, time};
use ciborium::{Value, cbor};
use fake_cloudwatch::{Clock, Fake, Grid, Monitoring, Quotas, SeriesKey, SeriesSpec, Settings, Shape};

/// A time that begins an hour.
const T: i64 = 1_800_000_000;
const REGION: &str = "eu-west-1";
const OWN: &str = "111111111111";
const OTHER: &str = "222222222222";

async fn start(now: i64) -> (Fake, CloudWatch, Arc<AtomicI64>) {
    let (clock, time) = Clock::at(now);
    let fake = Fake::start(Settings { quotas: Quotas::unpaced(), ..Settings::new(clock) }).await;
    fake.add_account("AKIAOWN", OWN);
    let client = CloudWatch { address: fake.address, key: "AKIAOWN", region: REGION };
    (fake, client, time)
}

fn spec(metric: &str) -> SeriesSpec {
    SeriesSpec::new(SeriesKey::new(OWN, REGION, "App", metric, &[("b", "2"), ("a", "1")]))
}

fn ask(id: &str, metric: &str, period: i64, stat: &str) -> Value {
    query(id, "App", metric, &[("a", "1"), ("b", "2")], period, stat)
}

#[tokio::test]
async fn a_point_is_there_after_its_first_sample_and_grows_in_place() {
    let (fake, client, now) = start(T).await;
    let series = SeriesSpec { period: 300, lag: 30..=30, shape: Shape::Minute, ..spec("m") };
    let key = series.key.clone();
    fake.add(series);
    let mut seen = Vec::new();
    for second in (0..480).step_by(30) {
        now.store(T + second, Ordering::SeqCst);
        // Asked for 60, as basic monitoring it has 300.
        let counts =
            client.get(vec![ask("c", "m", 60, "SampleCount"), ask("s", "m", 60, "Sum")], T, T + 300).await;
        seen.push(counts[0].points.first().map_or(0.0, |(_, count)| *count));
        for (result, stat) in counts.iter().zip(["SampleCount", "Sum"]) {
            assert_eq!(result.points, fake.published_points(&key, T, T + 300, 60, stat).collect::<Vec<_>>());
        }
    }
    assert_eq!(seen, [0., 0., 0., 1., 1., 2., 2., 3., 3., 4., 4., 5., 5., 5., 5., 5.]);
    let minute = (T / 60) as f64;
    assert_eq!(fake.truth(&key, T, 60, "Sum"), Some(5.0 * minute + 10.0));
    assert_eq!(fake.truth(&key, T, 60, "p50"), Some(minute + 2.0));
    assert_eq!(fake.truth(&key, T, 60, "tm60"), Some(minute + 1.0));
    assert_eq!(fake.truth(&key, T, 60, "tc60"), Some(3.0));

    fake.revise(&key, T + 60, T + 600, 0.0);
    assert_eq!(client.get(vec![ask("x", "m", 300, "Minimum")], T, T + 300).await[0].points, [(T, minute)]);
    now.store(T + 600, Ordering::SeqCst);
    assert_eq!(client.get(vec![ask("x", "m", 300, "Minimum")], T, T + 300).await[0].points, [(T, 0.0)]);
    assert_eq!(fake.truth(&key, T, 300, "Minimum"), Some(0.0));
}

#[tokio::test]
async fn the_last_answer_is_the_truth_and_lags_differ() {
    let (fake, client, now) = start(T).await;
    let fleet = fake.add_fleet(OWN, REGION, 3, Monitoring::Detailed, "ab");
    let id = fleet.id(2);
    assert_eq!(id, "i-ab000000000000002");
    let key = SeriesKey::ec2(OWN, REGION, &id, "CPUUtilization");
    fake.gap(&key, T - 1200, T - 600);
    fake.launched(&fleet, &id, T - 3000);
    fake.terminated(&fleet, &id, T - 120);
    let ask = || vec![query("c", "AWS/EC2", "CPUUtilization", &[("InstanceId", &id)], 60, "Average")];
    let early = client.get(ask(), T - 3600, T).await;
    now.store(T + 1000, Ordering::SeqCst);
    let late = client.get(ask(), T - 3600, T).await;
    assert!(early[0].points.len() < late[0].points.len());
    assert_eq!(late[0].points, fake.truth_points(&key, T - 3600, T, 60, "Average").collect::<Vec<_>>());
    assert_eq!(late[0].points.len(), 48 - 10);
    for (time, value) in &late[0].points {
        assert_eq!(fake.truth(&key, *time, 60, "Average"), Some(*value));
    }
    assert_eq!(fake.truth(&key, T - 900, 60, "Average"), None);
}

#[tokio::test]
async fn ranges_are_rounded_and_end_before_their_end() {
    let (fake, client, _) = start(T + 7200).await;
    fake.add(SeriesSpec { shape: Shape::Constant(1.0), ..spec("m") });
    let times = async |period, from, to| {
        let found = client.get(vec![ask("x", "m", period, "Sum")], from, to).await;
        found[0].points.iter().map(|(time, _)| time - T).collect::<Vec<_>>()
    };
    assert_eq!(times(60, T + 59, T + 180).await, [0, 60, 120]);
    assert_eq!(times(60, T, T + 181).await, [0, 60, 120, 180]);
    assert_eq!(times(300, T + 60, T + 600).await, [300]);
    fake.quotas(|quotas| quotas.grid = Grid::Start);
    assert_eq!(times(300, T + 60, T + 600).await, [60, 360]);
    // After 15 days there are no points of a minute, after 63 none of five.
    let day = 86_400;
    fake.quotas(|quotas| quotas.grid = Grid::Epoch);
    assert_eq!(times(60, T - 20 * day, T - 20 * day + 600).await, []);
    assert_eq!(times(300, T - 20 * day + 299, T - 20 * day + 600).await.len(), 2);
    assert_eq!(times(300, T - 70 * day, T - 70 * day + 600).await, []);
    assert_eq!(times(3600, T - 70 * day, T - 70 * day + 7200).await.len(), 2);
}

#[tokio::test]
async fn pages_hold_so_many_datapoints_and_go_on_where_they_ended() {
    let (fake, client, now) = start(T).await;
    for metric in ["m", "n", "o"] {
        fake.add(spec(metric));
    }
    let queries = || vec![ask("a", "m", 60, "Sum"), ask("b", "n", 60, "Sum"), ask("c", "o", 60, "Sum")];
    for descending in [false, true] {
        now.store(T, Ordering::SeqCst);
        let mut input = input(queries(), T - 6000, T);
        if descending {
            input.as_map_mut().unwrap().retain(|(name, _)| name.as_text() != Some("ScanBy"));
        }
        let whole = results(&client.call("GetMetricData", input.clone()).await.unwrap());
        assert_eq!(whole[0].points.is_sorted(), !descending);
        set(&mut input, "MaxDatapoints", 90.into());
        let (mut joined, mut pages, mut token) = (Vec::<aws_wire::Series>::new(), 0, None::<Value>);
        loop {
            let mut input = input.clone();
            if let Some(token) = token.take() {
                set(&mut input, "NextToken", token);
            }
            let page = client.call("GetMetricData", input).await.unwrap();
            token = find(&page, "NextToken").cloned();
            pages += 1;
            let found = results(&page);
            assert!(found.iter().map(|result| result.points.len()).sum::<usize>() <= 90);
            for result in found {
                let goes_on = result.status == "PartialData";
                assert!(!goes_on || token.is_some());
                match joined.last_mut().filter(|last| last.id == result.id) {
                    Some(last) => {
                        last.points.extend(result.points);
                        last.status = result.status;
                    }
                    None => joined.push(result),
                }
            }
            // What is published between the pages does not shift them.
            now.fetch_add(60, Ordering::SeqCst);
            if token.is_none() {
                break;
            }
        }
        assert_eq!(joined, whole);
        assert_eq!(pages, 4);
    }
    let mut other = input(queries(), T - 6000, T - 60);
    set(&mut other, "NextToken", "1.1.1.1".into());
    assert_eq!(client.call("GetMetricData", other).await, Err(("InvalidNextToken".into(), 400)));
    let counters = fake.counters();
    assert_eq!((counters.billed[OWN], counters.billed_pages[OWN]), (12, 30));
}

#[tokio::test]
async fn expressions_are_calculated_or_named_as_not_supported() {
    let (fake, client, _) = start(T).await;
    fake.add(SeriesSpec { shape: Shape::Constant(6.0), ..spec("six") });
    fake.add(SeriesSpec { shape: Shape::Constant(2.0), ..spec("two") });
    fake.add(SeriesSpec { shape: Shape::Constant(0.0), ..spec("zero") });
    let mut queries =
        vec![ask("m1", "six", 60, "Sum"), ask("m2", "two", 60, "Sum"), ask("m3", "zero", 60, "Sum")];
    queries.iter_mut().for_each(|query| set(query, "ReturnData", false.into()));
    let right = [
        ("m1 / m2", 3.0),
        ("-(m1 - 2 * m2) * 1.5", -3.0),
        ("SUM([m1, m2, m3])", 8.0),
        ("AVG(METRICS())", 8.0 / 3.0),
        ("MAX(METRICS(\"m\")) - MIN([m1,m2])", 4.0),
        ("e0 + 1", 4.0),
        ("m1 * MAX(m2)", 12.0),
    ];
    let wrong = ["FILL(m1, 0)", "m1 +", "1 + 1", "[m1, m2]", "e10 + 1"];
    for (at, text) in right.iter().map(|(text, _)| *text).chain(["m1 / m3"]).chain(wrong).enumerate() {
        queries.push(expression(&format!("e{at}"), text));
    }
    // One name that is not there, or a bracket that does not close, and nothing is answered.
    for refused in ["nothing", "SELECT AVG(x) FROM y", "m1 / (m2", "[m1, m2)"] {
        let mut queries = queries.clone();
        queries.push(expression("bad", refused));
        let refusal = client.call("GetMetricData", input(queries, T - 600, T - 300)).await.unwrap_err();
        assert_eq!(refusal, ("ValidationError".into(), 400), "{refused}");
    }
    let found = client.get(queries, T - 600, T - 300).await;
    assert_eq!(found.len(), right.len() + 1 + wrong.len());
    for (result, (text, value)) in found.iter().zip(right) {
        let points: Vec<_> = (0..5).map(|minute| (T - 600 + 60 * minute, value)).collect();
        assert_eq!((&result.points, result.status.as_str()), (&points, "Complete"), "{text}");
    }
    assert_eq!((found[right.len()].points.len(), found[right.len()].status.as_str()), (0, "Complete"));
    for result in &found[right.len() + 1..] {
        assert_eq!((result.status.as_str(), result.messages), ("InternalError", 1), "{result:?}");
    }
}

#[tokio::test]
async fn a_monitoring_account_reads_what_is_linked_to_it() {
    let (fake, client, _) = start(T).await;
    fake.add_fleet(OWN, REGION, 1, Monitoring::Basic, "aa");
    let fleet = fake.add_fleet(OTHER, REGION, 2, Monitoring::Basic, "bb");
    fake.add_fleet("333333333333", REGION, 1, Monitoring::Basic, "cc");
    fake.link(OWN, OTHER);
    let key = SeriesKey::ec2(OTHER, REGION, &fleet.id(0), "NetworkIn");
    let of = |id: &str, account: Option<&str>| {
        let mut asked = query(id, "AWS/EC2", "NetworkIn", &[("InstanceId", &fleet.id(0))], 300, "Sum");
        account.into_iter().for_each(|account| set(&mut asked, "AccountId", account.into()));
        asked
    };
    let asked = vec![of("own", None), of("linked", Some(OTHER)), of("strange", Some("333333333333"))];
    let found = client.get(asked, T - 6000, T - 600).await;
    let truth: Vec<_> = fake.truth_points(&key, T - 6000, T - 600, 300, "Sum").collect();
    assert_eq!(found.iter().map(|result| result.points.len()).collect::<Vec<_>>(), [0, truth.len(), 0]);
    assert_eq!(found[1].points, truth);
    assert_eq!(
        found.iter().map(|result| &*result.status).collect::<Vec<_>>(),
        ["Complete", "Complete", "Forbidden"]
    );

    let owners = async |filter: Value| {
        let pages = client.list(filter).await;
        let count = |name: &str| get(&pages[0], name).as_array().map_or(0, Vec::len);
        (count("Metrics"), count("OwningAccounts"))
    };
    assert_eq!(owners(cbor!({}).unwrap()).await, (10, 0));
    assert_eq!(owners(cbor!({ "IncludeLinkedAccounts" => true }).unwrap()).await, (30, 30));
    let one = cbor!({ "IncludeLinkedAccounts" => true, "OwningAccount" => OTHER }).unwrap();
    assert_eq!(owners(one).await, (20, 20));
}

#[tokio::test]
async fn what_is_put_is_read() {
    let (fake, client, _) = start(T).await;
    let (of, at) = (dimensions(&[("b", "2"), ("a", "1")]), time(T - 61));
    let (late, set) =
        (time(T - 50), cbor!({ "SampleCount" => 3.0, "Sum" => 9.0, "Minimum" => 1.0, "Maximum" => 6.0 }));
    let set = set.unwrap();
    let body = cbor!({ "Namespace" => "App", "MetricData" => [
        { "MetricName" => "m", "Dimensions" => of, "Timestamp" => at, "Value" => 4.0, "Unit" => "Count" },
        { "MetricName" => "m", "Dimensions" => of, "Timestamp" => at, "Values" => [1.0, 2.0], "Counts" => [1.0, 3.0] },
        { "MetricName" => "m", "Dimensions" => of, "Timestamp" => late, "StatisticValues" => set },
    ] });
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&aws_wire::encode(&body.unwrap())).unwrap();
    let answer = client.send("PutMetricData", true, &gzip.finish().unwrap()).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &[0xa0][..]));
    let stats = ["SampleCount", "Sum", "Minimum", "Maximum", "Average", "p50"];
    let queries = stats.iter().map(|stat| ask(&stat.to_lowercase(), "m", 60, stat)).collect();
    let found = client.get(queries, T - 120, T).await;
    let values = found.iter().map(|result| result.points.iter().map(|(_, value)| *value).collect::<Vec<_>>());
    let all: [&[f64]; 6] = [&[5., 3.], &[11., 9.], &[1., 1.], &[4., 6.], &[2.2, 3.], &[2.]];
    assert_eq!(values.collect::<Vec<_>>(), all);
    // Before what is kept there is nothing, and no error.
    let old = T - 20 * 86_400;
    assert_eq!(client.get(vec![ask("x", "m", 60, "Sum")], old, old + 600).await[0].points, []);
    let key = SeriesKey::new(OWN, REGION, "App", "m", &[("a", "1"), ("b", "2")]);
    assert_eq!(fake.truth(&key, T - 120, 60, "Sum"), Some(11.0));
    let aws = cbor!({ "Namespace" => "AWS/EC2", "MetricData" => [{ "MetricName" => "m", "Value" => 1.0 }] });
    let refused = client.call("PutMetricData", aws.unwrap()).await;
    assert_eq!(refused, Err(("InvalidParameterValue".into(), 400)));
}
