//! Volumes that cannot be listed, and that go.

use barograph::provider::aws::Config;

use crate::fake_cloudwatch::{SeriesKey, SeriesSpec, Shape};
use crate::fake_ec2::Instance;
use crate::rig::{OWN, REGION, Rig, Source, T, told};

fn rig_with_volume(rig: &Rig) -> (SeriesKey, Config) {
    let mut one = Instance::running("i-1");
    one.volumes = vec![("vol-1".into(), "gp3".into())];
    rig.ec2.put(OWN, REGION, one);
    let key = SeriesKey::new(OWN, REGION, "AWS/EBS", "VolumeReadOps", &[("VolumeId", "vol-1")]);
    rig.cloudwatch.add(SeriesSpec { shape: Shape::Minute, ..SeriesSpec::new(key.clone()) });
    (key, Config { groups: vec!["ebs".into()], ..rig.config() })
}

/// Every point of a volume up to a time.
#[track_caller]
fn whole(rig: &Rig, source: &Source, key: &SeriesKey, to: i64) {
    let stored = source.values("disk", "i-1", &["device=vol-1"], "read_ops_per_second");
    for (time, value) in rig.cloudwatch.truth_points(key, T, to - 59, 60, "Sum") {
        assert_eq!(stored.get(&(time + 60)), Some(&(value / 60.0)), "T+{}", time + 60 - T);
    }
}

#[tokio::test]
async fn volumes_that_could_not_be_listed_at_first_are_read_from_the_beginning() {
    let rig = Rig::new().await;
    let (key, config) = rig_with_volume(&rig);
    rig.ec2.deny("DescribeVolumes", true);
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 300, T + 7_200).await;
    assert!(source.failures > 20 && told(&source, "could not be listed yet") > 0, "{:?}", source.faults);
    rig.ec2.deny("DescribeVolumes", false);
    source.run(&rig, T + 7_500, T + 10_200).await;
    whole(&rig, &source, &key, T + 9_000);
}

#[tokio::test]
async fn the_last_points_of_a_volume_that_is_detached_come() {
    let rig = Rig::new().await;
    let (key, config) = rig_with_volume(&rig);
    let mut source = Source::new(&config, 300);
    source.run(&rig, T + 300, T + 1_800).await;
    rig.cloudwatch.died(&key, T + 2_040);
    rig.ec2.change(OWN, REGION, "i-1", |one| one.volumes.clear());
    source.run(&rig, T + 2_100, T + 6_000).await;
    whole(&rig, &source, &key, T + 2_040);
    // Then nobody asks for it any more.
    rig.cloudwatch.forget_counters();
    source.run(&rig, T + 6_300, T + 7_200).await;
    assert_eq!(rig.cloudwatch.counters().billed.get(OWN), None);
}
