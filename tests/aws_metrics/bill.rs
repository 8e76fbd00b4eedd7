//! The bill: what is asked, how it is counted, and what a budget does. And the quotas.

use std::time::Duration;

use barograph::provider::aws::{BilledBy, Budget, SettleBy, estimate};
use barograph::provider::{Collection, Collector as _, Shard, Window};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use crate::fake_cloudwatch::{Monitoring, Pace, Quotas, SeriesKey, SeriesSpec};
use crate::fake_ec2::Instance;
use crate::rig::{OWN, REGION, Rig, SECOND, Source, T, compare, told};

fn billed(rig: &Rig) -> u64 {
    rig.cloudwatch.counters().billed.values().sum()
}

/// Others ask every metric at every scrape, the dead ones too, and list them all each time.
#[tokio::test]
async fn complaint_4_nothing_is_paid_for_that_cannot_be_new() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(10, Monitoring::Basic, "a");
    for (id, state) in [(fleet.id(8), "stopped"), (fleet.id(9), "terminated")] {
        rig.ec2.change(OWN, REGION, &id, |one| one.end(state, T - 86_400));
    }
    let mut source = Source::new(&rig.config(), 60);
    source.run(&rig, T + 60, T + 3_600).await;
    // Eight run: five metrics each of five minutes, asked every five, and one of a minute, asked each.
    let (rounds_of_five, rounds) = (12, 60);
    assert_eq!(billed(&rig), 8 * (5 * rounds_of_five + rounds));
    let calls = rig.cloudwatch.counters();
    assert_eq!(calls.calls_of("ListMetrics"), 0, "the inventory knows what there is");
    assert_eq!(calls.calls_of("GetMetricData"), rounds_of_five + rounds);
}

#[tokio::test]
async fn complaint_4_rarer_collections_cost_less_and_lose_nothing() {
    let (mut bills, mut points) = (Vec::new(), Vec::new());
    for every in [60, 900] {
        let rig = Rig::new().await;
        let fleet = rig.fleet(3, Monitoring::Detailed, "a");
        let mut source = Source::new(&rig.config(), every);
        source.run(&rig, T + every, T + 7_200).await;
        bills.push(billed(&rig));
        points.push(compare(&rig, &source, &fleet, Monitoring::Detailed, T, T + 5_400));
    }
    assert_eq!(bills[0], 15 * bills[1]);
    assert_eq!(points[0], points[1], "the same points of a minute");
}

/// Others count requests and call it cost.
#[tokio::test]
async fn complaint_5_the_bill_is_counted_as_aws_counts_it() {
    let rig = Rig::new().await;
    rig.fleet(30, Monitoring::Basic, "a");
    rig.cloudwatch.faults(|faults| {
        faults.throttle = 0.2;
        faults.internal_error = 0.1;
    });
    let mut config = rig.config();
    config.groups = ["basic", "cpu_max", "ops", "checks"].map(str::to_owned).to_vec();
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 300, T + 3_600).await;
    let (spent, counters) = (source.collector.spent(), rig.cloudwatch.counters());
    assert_eq!(
        spent.billed, counters.billed[OWN],
        "Ids that are asked for again are billed again, throttled calls not"
    );
    assert_eq!(spent.calls, counters.calls_of("GetMetricData"));
    assert_eq!(spent.throttles, counters.throttled_of("GetMetricData"));
    assert!((spent.usd - spent.billed as f64 * 0.00001).abs() < 1e-9);
}

#[tokio::test]
async fn complaint_5_the_number_of_samples_is_bought_only_where_it_is_wanted() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(2, Monitoring::Detailed, "a");
    let config = rig.config();
    let mut source = Source::new(&config, 60);
    source.run(&rig, T + 60, T + 60).await;
    assert_eq!(billed(&rig), 2 * 6);
    rig.cloudwatch.forget_counters();
    let counted = barograph::provider::aws::Config { settle_by: SettleBy::SampleCount, ..config };
    let mut source = Source::new(&counted, 60);
    source.run(&rig, T + 60, T + 60).await;
    assert_eq!(
        billed(&rig),
        2 * 8,
        "one more of what follows the monitoring, and of what has a period of its own"
    );
    source.run(&rig, T + 120, T + 3_600).await;
    compare(&rig, &source, &fleet, Monitoring::Detailed, T, T + 2_700);
}

#[tokio::test]
async fn a_budget_makes_collections_rarer_and_costs_no_point() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(20, Monitoring::Detailed, "a");
    let mut config = rig.config();
    // Each minute it would be 20 x 6 x 43,200 = 51.84 dollars a month.
    config.budget = Some(Budget { usd_per_month: 5.184 });
    let mut source = Source::new(&config, 60);
    source.run(&rig, T + 60, T + 6 * 3_600).await;
    let usd = source.collector.spent().usd;
    let share = 6.0 / 720.0 * 5.184;
    assert!(usd <= share + 1.5 * 0.0012, "{usd} of {share}");
    assert!(usd > share * 0.8, "{usd} of {share}: it is used");
    compare(&rig, &source, &fleet, Monitoring::Detailed, T, T + 5 * 3_600);
}

#[tokio::test]
async fn an_estimate_from_the_inventory_is_what_is_billed_then() {
    let rig = Rig::new().await;
    rig.fleet(40, Monitoring::Basic, "a");
    let mut config = rig.config();
    config.groups.push("ebs".into());
    for number in 0..40 {
        let id = format!("i-a{number:016x}");
        rig.ec2.change(OWN, REGION, &id, |one| one.volumes = vec![(format!("vol-{number}"), "gp3".into())]);
    }
    let estimated = estimate(&config, Duration::from_secs(300), None).await.unwrap();
    assert!(estimated.faults.is_empty(), "{:?}", estimated.faults);
    assert_eq!(billed(&rig), 0, "an estimate asks for no metric");
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 300, T + 3_000).await;
    let per_round: u64 = estimated.lines.iter().map(|line| line.metrics).sum();
    assert_eq!(billed(&rig), 10 * per_round);
    assert_eq!(per_round, 40 * (6 + 4));
    let less = barograph::provider::aws::Config { billed_by: BilledBy::FiveStatistics, ..config };
    assert_eq!(
        estimate(&less, Duration::from_secs(300), None).await.unwrap().usd(),
        estimated.usd(),
        "one statistic each"
    );
}

/// Others know no rates, or one for each job, and share the quota by luck.
#[tokio::test]
async fn complaint_6_two_sources_of_one_account_stay_below_the_quotas_together() {
    let rig = Rig::new().await;
    rig.fleet(100, Monitoring::Basic, "a");
    let key = |number: i32| SeriesKey::new(OWN, REGION, "App", "Hits", &[("Host", &format!("h{number}"))]);
    (0..50).for_each(|number| rig.cloudwatch.add(SeriesSpec::new(key(number))));
    // Small quotas, so that they would be reached at once; half a second of calls may come together.
    let quotas = barograph::provider::aws::Quotas {
        get_metric_data: 10.0,
        list_metrics: 5.0,
        recent_datapoints: 20_000.0,
        ..Default::default()
    };
    rig.cloudwatch.quotas(|limits| {
        let rates = Quotas {
            get_metric_data: 10.0,
            list_metrics: 5.0,
            recent_datapoints: 20_000.0,
            ..Quotas::default()
        };
        *limits = Quotas { pace: Pace::Real, ..rates };
    });
    rig.cloudwatch.quotas(|limits| limits.page = 5);
    let mut config = rig.config();
    config.quotas = quotas;
    config.metrics = serde_json::from_value(serde_json::json!([{
        "namespace": "App", "metric": "Hits", "statistic": "Sum", "table": "app", "field": "hits",
        "dimensions": { "Host": "*" }, "resource": "Host",
    }]))
    .unwrap();
    let (mut one, mut other) = (Source::new(&config, 60), Source::new(&config, 60));
    for minute in 1..12 {
        let now = T + minute * 60;
        rig.at(now);
        tokio::join!(one.poll(now), other.poll(now));
    }
    let counters = rig.cloudwatch.counters();
    assert_eq!(counters.throttled_of("GetMetricData"), 0, "{:?}", counters.calls);
    assert_eq!(counters.throttled_of("ListMetrics"), 0, "{:?}", counters.calls);
    assert!(counters.calls_of("GetMetricData") >= 26);
    assert!(counters.calls_of("ListMetrics") >= 20, "each source ten pages");
    assert_eq!(told(&one, "too often") + told(&other, "too often"), 0);
}

/// Others ask series by series or batch after batch, and a scrape has to wait for the last.
#[tokio::test]
async fn complaint_7_requests_are_full_and_side_by_side() {
    let rig = Rig::new().await;
    rig.fleet(400, Monitoring::Basic, "a");
    rig.cloudwatch.faults(|faults| faults.latency = Duration::from_secs(1));
    let mut source = Source::new(&rig.config(), 300);
    source.run(&rig, T + 300, T + 300).await;
    let counters = rig.cloudwatch.counters();
    // 400 x 5 in four requests of 500 each, and 400 checks in one.
    assert_eq!((counters.calls_of("GetMetricData"), counters.largest_call), (5, 500));
    assert_eq!(counters.most_at_once, 4, "all of a shard together");
}

/// Up to five statistics may be one on the bill, in the estimate and in what is counted.
#[tokio::test]
async fn five_statistics_are_counted_as_they_are_estimated() {
    let rig = Rig::new().await;
    rig.cloudwatch.add(SeriesSpec::new(SeriesKey::new(OWN, REGION, "App", "Hits", &[])));
    let statistics = ["Average", "Sum", "Minimum", "Maximum", "p99", "p50"].iter().enumerate().map(|(number, statistic)| {
        serde_json::json!({
            "namespace": "App", "metric": "Hits", "statistic": statistic, "table": "app", "field": format!("f{number}"),
        })
    });
    let metrics = serde_json::from_value(statistics.collect()).unwrap();
    let billed_by = BilledBy::FiveStatistics;
    let config = barograph::provider::aws::Config { metrics, billed_by, groups: vec![], ..rig.config() };
    let estimated = estimate(&config, Duration::from_secs(60), None).await.unwrap();
    assert_eq!(estimated.lines[0].metrics, 2);
    let mut source = Source::new(&config, 60);
    source.run(&rig, T + 60, T + 600).await;
    assert_eq!(source.collector.spent().billed, 10 * 2);
    assert_eq!(rig.cloudwatch.counters().billed_by_five[OWN], 10 * 2);
}

/// A shard polled beside others.
async fn beside(source: &Source, shard: Shard, now: i64) -> (String, Result<Collection, barograph::Error>) {
    let window = Window { start: (now - source.every) * SECOND, end: now * SECOND };
    source.collector.told(window.end);
    let collected = source.collector.collect(&shard, window).await;
    (shard.0, collected)
}

#[tokio::test]
async fn throttles_are_counted_once_though_requests_overlap() {
    let rig = Rig::new().await;
    rig.fleet(1_000, Monitoring::Detailed, "a");
    rig.cloudwatch.faults(|faults| {
        faults.throttle = 0.4;
        faults.latency = Duration::from_millis(300);
    });
    let source = Source::new(&rig.config(), 60);
    rig.at(T + 60);
    for shard in source.shards().await {
        let _ = beside(&source, shard, T + 60).await;
    }
    let counters = rig.cloudwatch.counters();
    assert!(counters.throttled_of("GetMetricData") > 0 && counters.most_at_once > 1, "{counters:?}");
    assert_eq!(source.collector.spent().throttles, counters.throttled_of("GetMetricData"));
}

#[tokio::test]
async fn complaint_7_one_region_that_hangs_holds_up_no_other() {
    let rig = Rig::new().await;
    rig.fleet(2, Monitoring::Basic, "a");
    rig.ec2.put(OWN, "us-east-1", Instance::running("i-1"));
    rig.cloudwatch.faults(|faults| _ = faults.hanging.insert("us-east-1".into()));
    let mut config = rig.config();
    config.regions.push("us-east-1".into());
    config.request_timeout = barograph::model::Span::seconds(3);
    let source = Source::new(&config, 300);
    let now = T + 900;
    rig.at(now);
    let begun = std::time::Instant::now();
    let mut all: FuturesUnordered<_> =
        source.shards().await.into_iter().map(|shard| beside(&source, shard, now)).collect();
    let mut good = 0;
    while let Some((shard, collected)) = all.next().await {
        let hangs = shard.contains("us-east-1/AWS");
        assert_eq!(collected.is_err(), hangs, "{shard}: {collected:?}");
        assert!(hangs || begun.elapsed() < Duration::from_secs(3), "{shard} waited {:?}", begun.elapsed());
        good += usize::from(!hangs);
    }
    assert_eq!(good, 4, "two inventories and two shards");
    // The tries of one request end, and leave the next collection its time.
    assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    assert!(source.collector.spent().billed >= 2 * 6 + 6, "what nobody waited for may be billed");
}

/// All shards come at one time, and none knows what the others are about to spend.
#[tokio::test]
async fn shards_that_are_asked_together_keep_to_the_budget_together() {
    let rig = Rig::new().await;
    for region in ["eu-west-1", "eu-west-2", "eu-west-3"] {
        for number in 0..20 {
            let id = format!("i-{number:017x}");
            rig.ec2.put(OWN, region, Instance { detailed: true, ..Instance::running(&id) });
        }
    }
    let mut config = rig.config();
    config.regions = ["eu-west-1", "eu-west-2", "eu-west-3"].map(str::to_owned).to_vec();
    config.budget = Some(Budget { usd_per_month: 1.0 });
    let source = Source::new(&config, 60);
    for minute in 1..30 {
        let now = T + minute * 60;
        rig.at(now);
        let shards = source.shards().await;
        futures::future::join_all(shards.into_iter().map(|shard| beside(&source, shard, now))).await;
    }
    // A round is 3 x 20 x 6 metrics, and a dollar a month buys 70 in half an hour.
    assert!((360..=540 + 70).contains(&billed(&rig)), "{}", billed(&rig));
}
