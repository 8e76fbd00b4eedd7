//! Volumes and snapshots whose state EC2 tells late, or that it cannot make.

use super::*;

#[tokio::test]
async fn a_volume_that_cannot_be_made_is_thrown_away() {
    let there = Arc::new(Mutex::new(false));
    let told = Arc::clone(&there);
    let ec2 = ToldEc2::start(move |action, asked| match action {
        _ if asked.contains_key("DryRun") => Err("DryRunOperation"),
        "DescribeAvailabilityZones" => {
            Ok("<availabilityZoneInfo><item><zoneName>eu-west-1a</zoneName></item></availabilityZoneInfo>"
                .into())
        }
        "CreateVolume" => {
            *told.lock() = true;
            Ok("<volumeId>vol-1</volumeId><status>creating</status>".into())
        }
        "DeleteVolume" => {
            *told.lock() = false;
            Ok(String::new())
        }
        "DescribeVolumes" if *told.lock() => {
            Ok("<volumeSet><item><volumeId>vol-1</volumeId><status>error</status></item></volumeSet>".into())
        }
        "DescribeVolumes" => Ok("<volumeSet/>".into()),
        _ => Err("InvalidAction"),
    });
    let managed = managed(&ec2).await;
    let spec = VolumeSpec {
        name: "v".into(),
        size_bytes: Some(1 << 30),
        zone: Some("eu-west-1a".into()),
        ..VolumeSpec::default()
    };
    let create = Action::CreateVolume { spec };
    let error = managed.client.perform(&create, Token::random()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.is_nothing_done(), "{error:?}");
    assert_eq!(ec2.calls("DeleteVolume").len(), 1);
    assert!(!*there.lock());
}

#[tokio::test]
async fn a_snapshot_is_made_once_though_ec2_knows_it_late() {
    let looks = Mutex::new(0);
    let ec2 = ToldEc2::start(move |action, _| match action {
        // It is made, and the answer is lost.
        "CreateSnapshot" => Err("InternalError"),
        "DescribeSnapshots" => {
            let mut looks = looks.lock();
            *looks += 1;
            let seen = if *looks > 3 { "<item><snapshotId>snap-1</snapshotId></item>" } else { "" };
            Ok(format!("<snapshotSet>{seen}</snapshotSet>"))
        }
        _ => Err("InvalidAction"),
    });
    let managed = managed(&ec2).await;
    let of = managed.client.scope().id(REGION, Kind::Volume, "vol-1");
    let spec = SnapshotSpec { of, name: "s".into(), description: None, disks_only: false, tags: [].into() };
    let made = managed.client.perform(&Action::CreateSnapshot { spec }, Token::random()).await.unwrap();
    assert_eq!(made.made.unwrap().native_id, "snap-1");
    assert_eq!(ec2.calls("CreateSnapshot").len(), 1);
}

#[tokio::test]
async fn a_change_of_a_volume_is_over_when_this_change_is() {
    let looks = Mutex::new(0);
    let ec2 = ToldEc2::start(move |action, _| {
        let one = |state: &str, at: &str| {
            format!("<modificationState>{state}</modificationState><startTime>2026-11-01T{at}Z</startTime>")
        };
        match action {
            "DescribeVolumes" => Ok(
                "<volumeSet><item><volumeId>vol-1</volumeId><size>1</size><volumeType>gp3</volumeType></item></volumeSet>"
                    .into(),
            ),
            "ModifyVolume" => {
                Ok(format!("<volumeModification>{}</volumeModification>", one("modifying", "12:00:00")))
            }
            "DescribeVolumesModifications" => {
                let mut looks = looks.lock();
                *looks += 1;
                let item = match *looks {
                    1 => return Err("InvalidVolumeModification.NotFound"),
                    2 => one("completed", "08:00:00"),
                    3 => one("modifying", "12:00:00"),
                    _ => one("optimizing", "12:00:00"),
                };
                Ok(format!("<volumeModificationSet><item>{item}</item></volumeModificationSet>"))
            }
            _ => Err("InvalidAction"),
        }
    });
    let managed = managed(&ec2).await;
    let volume = managed.client.scope().id(REGION, Kind::Volume, "vol-1").into();
    let grow = Action::GrowVolume { volume, size_bytes: 2 << 30 };
    assert!(managed.client.perform(&grow, Token::random()).await.unwrap().changed);
    assert_eq!(ec2.calls("DescribeVolumesModifications").len(), 4);
}
