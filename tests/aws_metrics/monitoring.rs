//! Instances whose monitoring changes, or that are stopped and started between two looks: no row is lost and none is there
//! twice.

use std::collections::BTreeMap;

use crate::fake_cloudwatch::{Monitoring, SeriesKey};
use crate::rig::{OWN, REGION, Rig, Source, T, compare};

/// Rows of five minutes up to a time and of a minute after it, or the other way round.
async fn switched(detailed_first: bool) {
    let rig = Rig::new().await;
    let fleet = rig.fleet(1, Monitoring::Detailed, "a");
    let id = fleet.id(0);
    rig.ec2.change(OWN, REGION, &id, |one| one.detailed = detailed_first);
    let mut source = Source::new(&rig.config(), 60);
    source.run(&rig, T + 60, T + 3_660).await;
    rig.ec2.change(OWN, REGION, &id, |one| one.detailed = !detailed_first);
    source.run(&rig, T + 3_720, T + 9_000).await;

    let stored = source.values("network", &id, &[], "receive_bytes_per_second");
    // It is looked every five minutes, and the next full five minutes begin the new rows.
    let cut = T + 4_200;
    let key = SeriesKey::ec2(OWN, REGION, &id, "NetworkIn");
    let truth = |period: i64, from: i64, to: i64| {
        let points = rig.cloudwatch.truth_points(&key, from, to - period + 1, period, "Sum");
        points.map(move |(time, value)| (time + period, value / period as f64))
    };
    let (before, after) = if detailed_first { (60, 300) } else { (300, 60) };
    let right: BTreeMap<i64, f64> = truth(before, T, cut).chain(truth(after, cut, T + 7_800)).collect();
    let stored: BTreeMap<i64, f64> =
        stored.range(T + 1..=T + 7_800).map(|(time, value)| (*time, *value)).collect();
    assert_eq!(
        stored.keys().map(|time| time - T).collect::<Vec<_>>(),
        right.keys().map(|time| time - T).collect::<Vec<_>>()
    );
    for (time, value) in right {
        assert!((stored[&time] - value).abs() < 1e-6 * value.max(1.0), "T+{}", time - T);
    }
    let checks = source.values("checks", &id, &[], "failed");
    assert_eq!(checks.range(T + 1..=T + 7_800).count(), 130, "checks have a period of their own");
}

#[tokio::test]
async fn detailed_monitoring_begins_where_basic_monitoring_ends() {
    switched(false).await;
}

#[tokio::test]
async fn basic_monitoring_begins_where_detailed_monitoring_ends() {
    switched(true).await;
}

/// EC2 tells the time of the last start, which is not when an instance began.
#[tokio::test]
async fn a_stop_and_a_start_between_two_looks_lose_nothing_of_what_was_before() {
    for monitoring in [Monitoring::Basic, Monitoring::Detailed] {
        let rig = Rig::new().await;
        let fleet = rig.fleet(1, monitoring, "b");
        let id = fleet.id(0);
        for (metric, ..) in crate::fake_cloudwatch::METRICS {
            rig.cloudwatch.gap(&SeriesKey::ec2(OWN, REGION, &id, metric), T + 1_980, T + 2_040);
        }
        let mut source = Source::new(&rig.config(), 300);
        source.run(&rig, T + 300, T + 1_800).await;
        rig.ec2.change(OWN, REGION, &id, |one| one.launched = T + 2_040);
        source.run(&rig, T + 2_100, T + 6_000).await;
        compare(&rig, &source, &fleet, monitoring, T, T + 4_800);
    }
}
