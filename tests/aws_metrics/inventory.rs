//! Instances that come, stop, start and go.

use barograph::provider::aws::Config;

use crate::fake_cloudwatch::{Monitoring, SeriesKey, SeriesSpec, Shape};
use crate::fake_ec2::Instance;
use crate::rig::{OWN, REGION, Rig, Source, T, compare};

/// Others go on asking for the dead for two weeks, and some make zeros of them.
#[tokio::test]
async fn complaint_8_what_is_gone_ends_with_a_last_word_and_without_invented_values() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(3, Monitoring::Detailed, "a");
    let (stopped, gone) = (fleet.id(1), fleet.id(2));
    let mut source = Source::new(&rig.config(), 60);
    source.run(&rig, T + 60, T + 1_800).await;
    for (id, state) in [(&stopped, "stopped"), (&gone, "terminated")] {
        rig.cloudwatch.terminated(&fleet, id, T + 1_800);
        rig.ec2.change(OWN, REGION, id, |one| one.end(state, T + 1_800));
    }
    source.run(&rig, T + 1_860, T + 5_400).await;
    compare(&rig, &source, &fleet, Monitoring::Detailed, T, T + 4_500);
    for id in [&stopped, &gone] {
        let after = source.values("cpu", id, &[], "utilization");
        assert_eq!(after.range(T + 1_801..).next(), None, "no value after the end");
    }
    // Half an hour after, only the one that runs is asked for.
    rig.cloudwatch.forget_counters();
    source.run(&rig, T + 5_460, T + 6_000).await;
    assert_eq!(rig.cloudwatch.counters().billed[OWN], 10 * 6);

    let states = |id: &str| source.words("status", id, "state");
    assert_eq!(
        states(&gone).iter().filter(|(_, state)| state == "Deleted").count(),
        1,
        "the last word is said once"
    );
    assert_eq!(states(&gone).last().unwrap().1, "Deleted");
    assert_eq!(states(&stopped).last(), Some(&(T + 6_000, "Stopped".to_owned())));
    assert_eq!(source.values("status", &stopped, &[], "up").last_key_value().unwrap().1, &0.0);
    assert_eq!(source.words("events", &gone, "state"), [(T + 1_800, "Deleted".to_owned())]);
}

/// An event is of its time: what an instance is today is not what it was then.
#[tokio::test]
async fn events_and_last_words_are_of_what_happened_since_the_source_began() {
    let rig = Rig::new().await;
    for (id, state, at) in [("i-1", "terminated", T - 1_800), ("i-2", "terminated", T + 120)] {
        let mut one = Instance { launched: T - 7_200, ..Instance::running(id) };
        one.end(state, at);
        rig.ec2.put(OWN, REGION, one);
    }
    let mut stopped = Instance { launched: T + 60, ..Instance::running("i-3") };
    stopped.end("stopped", T + 200);
    rig.ec2.put(OWN, REGION, stopped);
    let mut source = Source::new(&rig.config(), 300);
    source.run(&rig, T + 300, T + 900).await;
    assert_eq!(source.words("status", "i-1", "state"), [], "it was gone before");
    assert_eq!(source.words("status", "i-2", "state").len(), 1);
    assert_eq!(source.words("events", "i-3", "state"), [(T + 200, "Stopped".to_owned())]);
    let started = source
        .rows
        .keys()
        .filter(|(table, tags, time)| table == "events" && tags.contains("event=started") && *time == T + 60);
    assert_eq!(started.count(), 1);
}

/// Rows of the inventory that a sink lost come again with the next.
#[tokio::test]
async fn events_and_last_words_that_were_lost_come_again() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(1, Monitoring::Basic, "f");
    let mut source = Source::new(&rig.config(), 300);
    source.run(&rig, T + 300, T + 1_800).await;
    rig.ec2.change(OWN, REGION, &fleet.id(0), |one| one.end("terminated", T + 1_900));
    let marks = source.marks.clone();
    source.run(&rig, T + 2_100, T + 2_100).await;
    source.rows.retain(|(.., time), _| *time <= T + 1_800);
    source.texts.retain(|(.., time), _| *time <= T + 1_800);
    source.marks = marks;
    source.run(&rig, T + 2_400, T + 3_600).await;
    assert_eq!(source.words("events", &fleet.id(0), "state"), [(T + 1_900, "Deleted".to_owned())]);
    let states = source.words("status", &fleet.id(0), "state");
    assert_eq!(states.last(), Some(&(T + 2_400, "Deleted".to_owned())), "once, when it arrives");
}

/// Agents can be told to leave the device out.
#[tokio::test]
async fn file_systems_without_a_device_are_rows_too() {
    let rig = Rig::new().await;
    rig.ec2.put(OWN, REGION, Instance::running("i-1"));
    for path in ["/", "/data"] {
        let pairs = [("InstanceId", "i-1"), ("path", path), ("fstype", "xfs")];
        rig.cloudwatch.add(SeriesSpec::new(SeriesKey::new(
            OWN,
            REGION,
            "CWAgent",
            "disk_used_percent",
            &pairs,
        )));
    }
    let mut source = Source::new(&Config { groups: vec!["agent".into()], ..rig.config() }, 60);
    source.run(&rig, T + 60, T + 1_200).await;
    assert!(source.values("filesystem", "i-1", &["mountpoint=/data"], "utilization").len() > 10);
}

#[tokio::test]
async fn an_instance_that_starts_is_measured_from_its_first_point_on() {
    let rig = Rig::new().await;
    let mut source =
        Source::new(&Config { groups: vec!["basic".into(), "checks".into()], ..rig.config() }, 60);
    // An empty region whose mark is at now.
    source.run(&rig, T + 60, T + 1_200).await;
    let fleet = rig.cloudwatch.add_fleet(OWN, REGION, 1, Monitoring::Detailed, "b");
    let id = fleet.id(0);
    rig.cloudwatch.launched(&fleet, &id, T + 1_260);
    let new = Instance { detailed: true, launched: T + 1_260, ..Instance::running(&id) };
    rig.ec2.put(OWN, REGION, new);
    source.run(&rig, T + 1_260, T + 3_900).await;
    compare(&rig, &source, &fleet, Monitoring::Detailed, T, T + 2_700);
    assert_eq!(source.values("cpu", &id, &[], "utilization").first_key_value().unwrap().0, &(T + 1_320));
    let events: Vec<String> =
        source.rows.keys().filter(|(table, ..)| table == "events").map(|(_, tags, _)| tags.clone()).collect();
    assert!(events.iter().any(|tags| tags.contains("event=started")), "{events:?}");
}

#[tokio::test]
async fn a_stop_and_a_start_make_a_hole_and_nothing_else() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(1, Monitoring::Detailed, "c");
    let id = fleet.id(0);
    for (metric, ..) in crate::fake_cloudwatch::METRICS {
        rig.cloudwatch.gap(&SeriesKey::ec2(OWN, REGION, &id, metric), T + 1_800, T + 5_400);
    }
    let mut source = Source::new(&rig.config(), 60);
    source.run(&rig, T + 60, T + 1_800).await;
    rig.ec2.change(OWN, REGION, &id, |one| one.end("stopped", T + 1_800));
    source.run(&rig, T + 1_860, T + 5_400).await;
    rig.ec2.change(OWN, REGION, &id, |one| {
        (one.state, one.reason, one.launched) = ("running".into(), String::new(), T + 5_400);
    });
    source.run(&rig, T + 5_460, T + 9_000).await;
    compare(&rig, &source, &fleet, Monitoring::Detailed, T, T + 7_800);
}

/// Every combination of dimensions is a series for others, and a row twice.
#[tokio::test]
async fn complaint_10_a_figure_has_one_row_at_one_time_whatever_else_is_published() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(1, Monitoring::Basic, "d");
    let id = fleet.id(0);
    // The agent publishes the same figure of the instance, of its type, and with all that it knows.
    for dimensions in [
        &[("InstanceId", id.as_str())][..],
        &[("InstanceType", "m5.large")],
        &[("InstanceId", id.as_str()), ("InstanceType", "m5.large"), ("ImageId", "ami-1")],
    ] {
        let key = SeriesKey::new(OWN, REGION, "CWAgent", "mem_used_percent", dimensions);
        rig.cloudwatch.add(SeriesSpec { shape: Shape::Between(10.0, 20.0), ..SeriesSpec::new(key) });
    }
    for path in ["/", "/data"] {
        let pairs = [("InstanceId", id.as_str()), ("path", path), ("device", "nvme0n1p1"), ("fstype", "xfs")];
        let key = SeriesKey::new(OWN, REGION, "CWAgent", "disk_used_percent", &pairs);
        rig.cloudwatch.add(SeriesSpec { shape: Shape::Constant(40.0), ..SeriesSpec::new(key) });
    }
    for core in ["cpu-total", "cpu0"] {
        let key =
            SeriesKey::new(OWN, REGION, "CWAgent", "cpu_usage_active", &[("InstanceId", &id), ("cpu", core)]);
        rig.cloudwatch.add(SeriesSpec { shape: Shape::Constant(25.0), ..SeriesSpec::new(key) });
    }
    let mut config = rig.config();
    config.groups = vec!["basic".into(), "agent".into()];
    let mut source = Source::new(&config, 60);
    source.run(&rig, T + 60, T + 3_600).await;

    let memory = source.rows.keys().filter(|(table, ..)| table == "memory");
    let tags: std::collections::BTreeSet<&String> = memory.map(|(_, tags, _)| tags).collect();
    assert_eq!(tags.len(), 1, "{tags:?}");
    let times = source.values("memory", &id, &["observer=guest"], "utilization");
    assert!(times.len() > 50 && times.values().all(|value| (0.1..=0.2).contains(value)));
    let filesystem =
        source.values("filesystem", &id, &["mountpoint=/data", "device=nvme0n1p1"], "utilization");
    assert!(filesystem.values().all(|value| *value == 0.4) && filesystem.len() > 50);
    let guest = source.values("cpu", &id, &["observer=guest", "core=0"], "utilization");
    assert!(guest.len() > 50, "the guest's figure of a core");
    let from_outside = source.values("cpu", &id, &["observer=hypervisor"], "utilization");
    assert!(from_outside.keys().all(|time| time % 300 == 0), "never mixed with the hypervisor's");
}

#[tokio::test]
async fn volumes_are_rows_of_their_instance_and_only_figures_that_can_be_are_asked_for() {
    let rig = Rig::new().await;
    let mut one = Instance::running("i-1");
    one.volumes = vec![("vol-1".into(), "gp2".into()), ("vol-2".into(), "gp3".into())];
    rig.ec2.put(OWN, REGION, one);
    rig.ec2.put(OWN, REGION, Instance { size: "m3.medium".into(), ..Instance::running("i-2") });
    let shape = |metric: &str| match metric {
        "VolumeReadOps" => Shape::Constant(120.0),
        "VolumeTotalReadTime" => Shape::Constant(0.6),
        "VolumeIdleTime" => Shape::Constant(45.0),
        "BurstBalance" => Shape::Constant(90.0),
        _ => Shape::Constant(6_000.0),
    };
    for metric in
        ["VolumeReadBytes", "VolumeReadOps", "VolumeTotalReadTime", "VolumeIdleTime", "BurstBalance"]
    {
        let key = SeriesKey::new(OWN, REGION, "AWS/EBS", metric, &[("VolumeId", "vol-1")]);
        rig.cloudwatch.add(SeriesSpec { shape: shape(metric), ..SeriesSpec::new(key) });
    }
    let groups = ["basic", "ebs", "ebs_latency", "ebs_burst", "credits"].map(str::to_owned).to_vec();
    let mut source = Source::new(&Config { groups, ..rig.config() }, 300);
    source.run(&rig, T + 300, T + 3_000).await;
    let of =
        |field: &str| *source.values("disk", "i-1", &["device=vol-1"], field).first_key_value().unwrap().1;
    assert_eq!(of("read_bytes_per_second"), 100.0);
    assert_eq!(of("read_ops_per_second"), 2.0);
    assert!((of("read_latency_seconds") - 0.005).abs() < 1e-12);
    assert_eq!(of("utilization"), 0.25);
    assert_eq!(of("burst_balance"), 0.9);
    // i-1: 6 and of each volume 4 + 4, and one burst balance. i-2 is on Xen with disks of its own: 6. None has credits.
    assert_eq!(rig.cloudwatch.counters().billed[OWN], 10 * (6 + 2 * 8 + 1 + 6));
    assert!(source.rows.keys().any(|(_, tags, _)| tags.contains("resource_name=name-of-i-1")));
}

#[tokio::test]
async fn filters_choose_instances_and_tags_become_columns() {
    let rig = Rig::new().await;
    let fleet = rig.fleet(2, Monitoring::Basic, "e");
    rig.ec2.change(OWN, REGION, &fleet.id(0), |one| one.tags.push(("env".into(), "prod".into())));
    let mut config = rig.config();
    config.filters.insert("tag:env".into(), vec!["prod".into(), "stage".into()]);
    config.tags = vec!["env".into()];
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 300, T + 2_700).await;
    assert!(source.rows.keys().all(|(_, tags, _)| tags.contains("tag_env=prod")));
    assert!(source.values("cpu", &fleet.id(1), &[], "utilization").is_empty());
    assert!(!source.values("cpu", &fleet.id(0), &[], "utilization").is_empty());
}
