//! Stops, throttles and lost rows: in the end the store is what CloudWatch published.

use crate::fake_cloudwatch::{Monitoring, SeriesKey};
use crate::rig::{OWN, REGION, Rig, SECOND, Source, T, compare};

/// Three hours without the process, throttles at random before and after, points that are revised: compared point by point.
#[tokio::test]
async fn a_stop_of_three_hours_with_throttles_and_revisions_leaves_no_gap_and_no_stale_value() {
    let rig = Rig::new().await;
    let basic = rig.fleet(5, Monitoring::Basic, "1");
    let detailed = rig.fleet(5, Monitoring::Detailed, "2");
    let mut random = fastrand::Rng::with_seed(42);
    for fleet in [&basic, &detailed] {
        for id in fleet.ids() {
            for _ in 0..60 {
                let metric = ["CPUUtilization", "NetworkIn", "EBSWriteBytes"][random.usize(0..3)];
                let minute = T + random.i64(0..300) * 60;
                let key = SeriesKey::ec2(OWN, REGION, &id, metric);
                rig.cloudwatch.revise(&key, minute, minute + 60 + random.i64(0..480), random.f64() * 1_000.0);
            }
        }
    }
    rig.cloudwatch.faults(|faults| {
        faults.throttle = 0.3;
        faults.internal_error = 0.02;
        faults.http_503 = 0.02;
        faults.drop = 0.02;
    });
    let config = rig.config();
    let mut source = Source::new(&config, 60);
    source.run(&rig, T + 60, T + 3_600).await;
    source.restart(&config);
    source.run(&rig, T + 3 * 3_600 + 3_600, T + 5 * 3_600).await;
    rig.cloudwatch.faults(|faults| *faults = Default::default());
    source.run(&rig, T + 5 * 3_600 + 60, T + 5 * 3_600 + 1_800).await;
    assert!(rig.cloudwatch.counters().throttled_of("GetMetricData") > 20);
    let points = compare(&rig, &source, &basic, Monitoring::Basic, T, T + 5 * 3_600)
        + compare(&rig, &source, &detailed, Monitoring::Detailed, T, T + 5 * 3_600);
    assert_eq!(points, 5 * (5 * 60 + 300) + 5 * 6 * 300, "every point of five hours");
}

/// Rows that a sink lost: the pipeline's mark stays where it was, and they are handed on again though they are known.
#[tokio::test]
async fn rows_that_were_lost_downstream_come_again() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(2, Monitoring::Basic, "3");
    let mut source = Source::new(&rig.config(), 300);
    source.run(&rig, T + 300, T + 3_600).await;
    let marks = source.marks.clone();
    source.run(&rig, T + 3_900, T + 7_200).await;
    // All of the last hour never arrived, and the newest point before it neither, for which no mark had moved.
    source.rows.retain(|(.., time), _| *time < T + 3_600);
    source.marks = marks;
    source.run(&rig, T + 7_500, T + 9_900).await;
    compare(&rig, &source, &fleet, Monitoring::Basic, T, T + 8_700);
}

#[tokio::test]
async fn rows_of_one_collection_that_were_lost_come_again_though_its_mark_never_moved() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(1, Monitoring::Basic, "4");
    let mut source = Source::new(&rig.config(), 300);
    source.run(&rig, T + 300, T + 600).await;
    let marks = source.marks.clone();
    source.run(&rig, T + 900, T + 900).await;
    source.rows.retain(|(.., time), _| *time < T + 900);
    source.marks = marks;
    source.run(&rig, T + 1_200, T + 3_900).await;
    compare(&rig, &source, &fleet, Monitoring::Basic, T, T + 2_700);
}

/// Twenty days: more than points of a minute are kept, so that the oldest come as points of five.
#[tokio::test]
async fn a_stop_beyond_the_retention_of_fine_points_is_made_up_for_with_coarser_ones() {
    const DAY: i64 = 86_400;
    let rig = Rig::new().await;
    let fleet = rig.fleet(1, Monitoring::Detailed, "5");
    let mut source = Source::new(&rig.config(), 300);
    source.run(&rig, T + 300, T + 3_600).await;
    let config = rig.config();
    source.restart(&config);
    let end = T + 20 * DAY;
    source.run(&rig, end, end + 3_000).await;
    let id = fleet.id(0);
    let stored = source.values("network", &id, &[], "receive_bytes_per_second");
    let key = SeriesKey::ec2(OWN, REGION, &id, "NetworkIn");
    for (time, value) in rig.cloudwatch.truth_points(&key, T, end - 14 * DAY, 300, "Sum") {
        let at = time + 300;
        if at > T + 3_600 && at <= end - 15 * DAY + 3_600 {
            let found = stored.get(&at);
            assert!(
                found.is_some_and(|found| (found - value / 300.0).abs() < 1e-6),
                "T+{}: {found:?}",
                at - T
            );
        }
    }
    let fine = stored.range(end - 14 * DAY + 1..=end).count();
    assert_eq!(fine, 14 * 1_440, "every minute of what is kept by the minute");
}

/// The mark stays behind what is not final, and goes on where the last process ended.
#[tokio::test]
async fn the_mark_never_passes_a_point_that_may_change() {
    let rig = Rig::new().await;
    rig.fleet(1, Monitoring::Detailed, "6");
    let mut source = Source::new(&rig.config(), 60);
    for minute in 1..90 {
        let now = T + minute * 60;
        rig.at(now);
        source.poll(now).await;
        let mark = source.marks.iter().find(|(shard, _)| shard.ends_with("AWS/EC2/60")).unwrap().1 / SECOND;
        assert!(mark <= now - 600 || minute <= 10, "T+{} at T+{}", mark - T, now - T);
        if minute > 30 {
            assert!(mark >= now - 900, "it follows: T+{} at T+{}", mark - T, now - T);
        }
    }
}

/// Periods that divide no day, and a stop that takes several windows.
#[tokio::test]
async fn a_long_stop_is_read_once_whatever_the_resolution() {
    const DAY: i64 = 86_400;
    let rig = Rig::new().await;
    let fleet = rig.fleet(1, Monitoring::Detailed, "7");
    let config = barograph::provider::aws::Config {
        resolution: Some(barograph::model::Span::seconds(420)),
        groups: vec!["cpu_max".into()],
        ..rig.config()
    };
    let mut source = Source::new(&config, 420);
    source.run(&rig, T + 420, T + 4_200).await;
    source.restart(&config);
    rig.cloudwatch.forget_counters();
    let end = T + 25 * DAY;
    source.run(&rig, end, end).await;
    let mark = source.marks.iter().find(|(shard, _)| shard.ends_with("AWS/EC2/420")).unwrap().1;
    assert!(*mark > (end - 7_200) * SECOND, "in one go, up to T+{}", mark / SECOND - T);
    let calls = rig.cloudwatch.counters().calls_of("GetMetricData");
    assert!(calls <= 6, "ten days each, those of coarser points apart: {calls}");
    let stored = source.values("cpu", &fleet.id(0), &[], "utilization_max");
    let fine = stored.range(end - 14 * DAY..=end).filter(|(time, _)| *time % 420 == 0).count();
    assert!(fine as i64 >= (14 * DAY - 7_200) / 420, "{fine}");
}
