//! The fake CloudWatch and ministack get the same data and the same questions, and answer alike.

use std::io::Write as _;

use ciborium::{Value, cbor};

use crate::aws_wire::{self, CloudWatch, dimensions, get, query, time};
use crate::fake_cloudwatch::{Clock, Fake, Quotas, Settings};
use crate::ministack::{ACCOUNT, Ministack};

const METRICS: [&str; 3] = ["latency", "bytes", "errors"];
const HOSTS: [&[(&str, &str)]; 3] = [&[("host", "a")], &[("host", "b"), ("disk", "sda")], &[("host", "b")]];

/// One to three samples of some minutes of an hour, in the three forms that PutMetricData has.
fn data(random: &mut fastrand::Rng, from: i64) -> Vec<Value> {
    let mut data = Vec::new();
    for (metric, host) in METRICS.iter().flat_map(|metric| HOSTS.map(|host| (*metric, host))) {
        for minute in (0..60).filter(|_| random.f64() < 0.7).collect::<Vec<i64>>() {
            let (at, of) = (time(from + minute * 60 + random.i64(0..60)), dimensions(host));
            let number = |random: &mut fastrand::Rng| f64::from(random.u32(0..10_000)) / 8.0;
            let mut datum = cbor!({ "MetricName" => metric, "Dimensions" => of, "Timestamp" => at }).unwrap();
            let (name, value) = match random.u8(0..3) {
                0 => ("Value", Value::Float(number(random))),
                1 => {
                    let counts = vec![Value::Float(2.0), Value::Float(1.0)];
                    aws_wire::set(&mut datum, "Counts", Value::Array(counts));
                    ("Values", Value::Array(vec![number(random).into(), number(random).into()]))
                }
                _ => {
                    let (low, more) = (number(random), number(random));
                    let set = cbor!({ "SampleCount" => 2.0, "Sum" => 2.0 * low + more, "Minimum" => low,
                        "Maximum" => low + more });
                    ("StatisticValues", set.unwrap())
                }
            };
            aws_wire::set(&mut datum, name, value);
            data.push(datum);
        }
    }
    data
}

/// Names and dimensions of what a list has, in an order of their own.
async fn list(client: &CloudWatch, filter: &Value) -> Vec<String> {
    let pages = client.list(filter.clone()).await;
    let metrics = pages.iter().flat_map(|page| get(page, "Metrics").as_array().unwrap());
    let mut names: Vec<String> = metrics
        .map(|metric| {
            let pairs = get(metric, "Dimensions").as_array().unwrap().iter();
            let mut pairs: Vec<_> =
                pairs.map(|pair| format!("{:?}={:?}", get(pair, "Name"), get(pair, "Value"))).collect();
            pairs.sort();
            format!("{:?} {:?} {pairs:?}", get(metric, "Namespace"), get(metric, "MetricName"))
        })
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_fake_answers_as_ministack_does() {
    let rig = Ministack::up("alike");
    let address = rig.address;
    let fake = Fake::start(Settings { quotas: Quotas::unpaced(), ..Settings::new(Clock::Real) }).await;
    fake.add_account(ACCOUNT, ACCOUNT);
    let theirs = CloudWatch { address, key: ACCOUNT, region: "eu-west-1" };
    let ours = CloudWatch { address: fake.address, ..theirs.clone() };
    let from = fake.now() / 3600 * 3600 - 2 * 3600;
    let mut random = fastrand::Rng::with_seed(7);
    for namespace in ["One", "Two"] {
        for data in data(&mut random, from).chunks(100).map(<[Value]>::to_vec) {
            let input = cbor!({ "Namespace" => namespace, "MetricData" => data }).unwrap();
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&aws_wire::encode(&input)).unwrap();
            let gzip = gzip.finish().unwrap();
            for client in [&ours, &theirs] {
                if namespace == "One" {
                    client.call("PutMetricData", input.clone()).await.unwrap();
                } else {
                    assert_eq!(client.send("PutMetricData", true, &gzip).await.unwrap().status, 200);
                }
            }
        }
    }

    let mut compared = 0;
    for period in [60, 300, 900, 3600] {
        for stat in ["Average", "Sum", "Minimum", "Maximum", "SampleCount", "p50", "p90"] {
            let all = ["One", "Two", "None"].iter().flat_map(|namespace| {
                METRICS.iter().flat_map(move |metric| HOSTS.map(|host| (*namespace, *metric, host)))
            });
            let queries = all.enumerate().map(|(at, (namespace, metric, host))| {
                query(&format!("q{at}"), namespace, metric, host, period, stat)
            });
            let queries: Vec<Value> = queries.collect();
            for (start, end) in [(0, 3600), (-3600, 7200), (900, 1800)] {
                let (start, end) = (from + start / period * period, from + end / period * period);
                if start == end {
                    continue;
                }
                let one = ours.get(queries.clone(), start, end).await;
                let other = theirs.get(queries.clone(), start, end).await;
                assert_eq!(one.len(), other.len());
                for (one, other) in one.iter().zip(&other) {
                    let what = format!("{} {stat} {period} {start} {end}", one.id);
                    assert_eq!((&one.id, &one.status), (&other.id, &other.status), "{what}");
                    assert_eq!(one.points.len(), other.points.len(), "{what}");
                    for ((time, value), (their_time, their_value)) in one.points.iter().zip(&other.points) {
                        assert_eq!(time, their_time, "{what}");
                        let off = (value - their_value).abs();
                        assert!(off <= 1e-9 * their_value.abs(), "{what} at {time}: {value}, {their_value}");
                        compared += 1;
                    }
                }
            }
        }
    }
    eprintln!("compared {compared} datapoints");
    assert!(compared > 10_000, "{compared}");

    for filter in [
        cbor!({}),
        cbor!({ "Namespace" => "One" }),
        cbor!({ "Namespace" => "Two", "MetricName" => "bytes" }),
        cbor!({ "Dimensions" => [{ "Name" => "disk" }] }),
        cbor!({ "Dimensions" => [{ "Name" => "host", "Value" => "b" }] }),
        cbor!({ "Namespace" => "Three" }),
    ] {
        let filter = filter.unwrap();
        assert_eq!(list(&ours, &filter).await, list(&theirs, &filter).await, "{filter:?}");
    }
    // Metrics are those of an account in a region.
    for client in [&ours, &theirs] {
        let elsewhere = CloudWatch { region: "us-east-1", ..client.clone() };
        assert_eq!(list(&elsewhere, &cbor!({}).unwrap()).await, Vec::<String>::new());
    }
    differences(&ours, &theirs, from).await;
    drop(rig);
}

/// Where they are known to differ, so that a newer ministack that comes nearer is seen.
async fn differences(ours: &CloudWatch, theirs: &CloudWatch, from: i64) {
    let (at, a, b) = (time(from + 30), dimensions(&[("x", "a")]), dimensions(&[]));
    let put = cbor!({ "Namespace" => "Few", "MetricData" => [
        { "MetricName" => "m", "Dimensions" => a, "Timestamp" => at, "Value" => 4.0, "Unit" => "Count" },
        { "MetricName" => "m", "Dimensions" => b, "Timestamp" => at, "Value" => 2.0, "Unit" => "Count" },
    ] });
    let put = put.unwrap();
    for client in [ours, theirs] {
        client.call("PutMetricData", put.clone()).await.unwrap();
    }
    let value = async |client: &CloudWatch, asked: Value| {
        let input = aws_wire::input(vec![asked], from, from + 60);
        let answer = client.call("GetMetricData", input).await.map_err(|(code, _)| code)?;
        Ok::<_, String>(aws_wire::results(&answer)[0].points.first().map(|(_, value)| *value))
    };
    let both = async |asked: Value| (value(ours, asked.clone()).await, value(theirs, asked).await);
    // A metric without dimensions is one metric, and for ministack all of its name.
    let none = query("q", "Few", "m", &[], 60, "Sum");
    assert_eq!(both(none.clone()).await, (Ok(Some(2.0)), Ok(Some(6.0))));
    // A unit that the data has not finds nothing, as the reference says.
    let mut bytes = query("q", "Few", "m", &[("x", "a")], 60, "Sum");
    let stat = bytes.as_map_mut().unwrap().iter_mut().find(|(name, _)| name.as_text() == Some("MetricStat"));
    aws_wire::set(&mut stat.unwrap().1, "Unit", "Bytes".into());
    assert_eq!(both(bytes).await, (Ok(None), Ok(Some(4.0))));
    // A statistic that does not exist is an error, and for ministack the average.
    let wrong = query("q", "Few", "m", &[("x", "a")], 60, "Median");
    assert_eq!(both(wrong).await, (Err("ValidationError".into()), Ok(Some(4.0))));
    // 500 queries are the limit, and AWS/ is not for customers.
    let many = (0..501).map(|at| query(&format!("q{at}"), "Few", "m", &[], 60, "Sum")).collect();
    let many = aws_wire::input(many, from, from + 60);
    assert!(ours.call("GetMetricData", many.clone()).await.is_err());
    assert!(theirs.call("GetMetricData", many).await.is_ok());
    let aws = cbor!({ "Namespace" => "AWS/EC2", "MetricData" => [{ "MetricName" => "m", "Value" => 1.0 }] })
        .unwrap();
    assert!(ours.call("PutMetricData", aws.clone()).await.is_err());
    assert!(theirs.call("PutMetricData", aws).await.is_ok());
}
