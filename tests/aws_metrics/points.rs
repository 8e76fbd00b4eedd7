//! Points: none too low, none missing, none later than need be.

use crate::fake_cloudwatch::{Monitoring, SeriesKey};
use crate::rig::{OWN, REGION, Rig, SECOND, Source, T, compare, told};

/// Collectors that read a point once have the first sample of five for ever.
#[tokio::test]
async fn complaint_1_a_point_that_is_revised_in_place_is_right_in_the_end() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(3, Monitoring::Basic, "a");
    let mut source = Source::new(&rig.config(), 60);
    // Samples come up to 150 s after their minutes, and polls right after the period ends.
    source.run(&rig, T + 60, T + 5_400).await;
    assert!(source.replaced > 0, "points were read before all their samples had come");
    let compared = compare(&rig, &source, &fleet, Monitoring::Basic, T, T + 4_500);
    assert_eq!(compared, 3 * (5 * 15 + 75));
}

#[tokio::test]
async fn complaint_1_a_revision_long_after_is_taken_over_while_it_may_come() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(1, Monitoring::Detailed, "a");
    let key = SeriesKey::ec2(OWN, REGION, &fleet.id(0), "CPUUtilization");
    for minute in 0..40 {
        // Each with another delay, up to nine minutes after its end.
        let start = T + minute * 60;
        rig.cloudwatch.revise(&key, start, start + 60 + (minute * 37) % 540, 50.0 + minute as f64);
    }
    let mut source = Source::new(&rig.config(), 60);
    source.run(&rig, T + 60, T + 5_400).await;
    compare(&rig, &source, &fleet, Monitoring::Detailed, T, T + 4_500);
    let id = fleet.id(0);
    assert_eq!(source.values("cpu", &id, &[], "utilization").get(&(T + 120)), Some(&0.51));
}

/// Windows made from the clock lose what falls between two of them.
#[tokio::test]
async fn complaint_2_no_gap_with_ticks_that_drift_fail_and_are_skipped() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(4, Monitoring::Detailed, "b");
    let mut source = Source::new(&rig.config(), 60);
    let mut random = fastrand::Rng::with_seed(7);
    let mut now = T + 60;
    while now < T + 7_200 {
        rig.at(now);
        rig.cloudwatch.faults(|faults| {
            // A whole collection fails now and then, and single figures more often.
            faults.denied.clear();
            if random.f64() < 0.2 {
                faults.denied.insert("GetMetricData".into());
            }
            faults.internal_error = 0.1;
            faults.partial_data = 0.1;
        });
        source.poll(now).await;
        now += random.i64(20..400);
    }
    rig.cloudwatch.faults(|faults| *faults = Default::default());
    source.run(&rig, now, now + 1_800).await;
    assert!(source.failures > 0, "some collections failed as a whole");
    compare(&rig, &source, &fleet, Monitoring::Detailed, T, T + 7_200);
}

/// A delay that is right for the latest point is wrong for all others.
#[tokio::test]
async fn complaint_3_what_is_published_is_there_after_the_next_collection() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(2, Monitoring::Detailed, "c");
    let mut source = Source::new(&rig.config(), 60);
    for minute in 1..40 {
        let now = T + minute * 60;
        rig.at(now);
        source.poll(now).await;
        for id in fleet.ids() {
            let key = SeriesKey::ec2(OWN, REGION, &id, "NetworkIn");
            let published = rig.cloudwatch.published_points(&key, T, now - 59, 60, "Sum");
            let stored = source.values("network", &id, &[], "receive_bytes_per_second");
            for (time, value) in published {
                assert_eq!(stored.get(&(time + 60)), Some(&(value / 60.0)), "at T+{}", now - T);
            }
        }
    }
}

/// The end of the period is the time of the row, and periods that are not over make no row.
#[tokio::test]
async fn rows_carry_the_end_of_their_period_and_none_lies_in_the_future() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(1, Monitoring::Basic, "d");
    let mut source = Source::new(&rig.config(), 60);
    for minute in 1..30 {
        let now = T + minute * 60;
        rig.at(now);
        source.poll(now).await;
        let latest = source.rows.keys().map(|(.., time)| *time).max().unwrap();
        assert!(latest <= now, "a row of T+{} at T+{}", latest - T, now - T);
    }
    let times = source.values("cpu", &fleet.id(0), &[], "utilization");
    assert!(times.keys().all(|time| time % 300 == 0) && times.contains_key(&(T + 300)));
}

/// Parsers of other collectors lose a whole batch for one bad Id.
#[tokio::test]
async fn a_figure_that_fails_is_asked_for_again_alone_and_costs_no_other() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(20, Monitoring::Basic, "e");
    let mut source = Source::new(&rig.config(), 300);
    rig.at(T + 900);
    rig.cloudwatch.faults(|faults| faults.internal_error = 0.3);
    source.poll(T + 900).await;
    let counters = rig.cloudwatch.counters();
    let all = 20 * 6;
    let billed = counters.billed[OWN];
    // 0.3 of them a second time, 0.09 a third and 0.03 a fourth time: about 1.42 in all.
    assert!((all + 20..all * 2).contains(&billed), "{billed} of {all}");
    rig.cloudwatch.faults(|faults| *faults = Default::default());
    source.run(&rig, T + 1_200, T + 4_200).await;
    compare(&rig, &source, &fleet, Monitoring::Basic, T + 600, T + 3_000);
}

/// A policy that forbids one thing is told once and holds nothing up.
#[tokio::test]
async fn what_is_forbidden_is_told_once_an_hour_and_the_rest_goes_on() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(2, Monitoring::Basic, "f");
    // The last Id of the ten of one request; without it there are nine.
    rig.cloudwatch.faults(|faults| _ = faults.forbidden_ids.insert("q9".into()));
    let mut source = Source::new(&rig.config(), 60);
    source.run(&rig, T + 60, T + 3_600).await;
    assert_eq!(told(&source, "does not allow"), 1, "{:?}", source.faults);
    let mark = source.marks.iter().find(|(shard, _)| shard.ends_with("AWS/EC2/300")).unwrap().1;
    assert!(*mark > (T + 1_800) * SECOND, "the mark moves on");
    let others = source.values("disk", &fleet.id(1), &[], "read_bytes_per_second");
    assert!(others.len() > 8, "the row's other figures come");
    assert!(source.values("disk", &fleet.id(1), &[], "write_bytes_per_second").is_empty());
}

/// AWS may answer in more pages than were counted on.
#[tokio::test]
async fn pages_of_an_answer_are_put_together_and_billed_once() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(4, Monitoring::Detailed, "9");
    rig.cloudwatch.quotas(|quotas| quotas.datapoints = 50);
    let mut source = Source::new(&rig.config(), 300);
    source.run(&rig, T + 300, T + 3_600).await;
    let counters = rig.cloudwatch.counters();
    assert!(counters.calls_of("GetMetricData") > 4 * 12, "{:?}", counters.calls);
    assert!(counters.billed_pages[OWN] > counters.billed[OWN]);
    assert_eq!(source.collector.spent().billed, counters.billed[OWN]);
    compare(&rig, &source, &fleet, Monitoring::Detailed, T, T + 2_400);
}
