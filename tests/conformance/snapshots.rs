//! Contents kept from one time.

use barograph::ErrorKind;
use barograph::model::resource::{ResourceId, Snapshot, Volume};
use barograph::provider::{Action, Consents, DiskSpec, SnapshotSpec, VolumeSpec};

use super::{Bench, Report};

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("snapshots");
    if !bench.can().make_snapshots {
        report.absent("snapshots");
        return;
    }
    let mut spec = bench.subject.instance("suite-snap");
    spec.disks.push(DiskSpec::New(bench.subject.volume("suite-snapped", 16)));
    let instance = bench.create(spec).await;
    let of_volumes = bench.subject.snapshots_of_volumes();
    let of = match of_volumes {
        true => bench.instance(&instance).await.disks.iter().find_map(|disk| disk.volume.clone()).unwrap(),
        false => instance.clone(),
    };
    let create = |name: &str| Action::CreateSnapshot {
        spec: SnapshotSpec {
            of: of.clone(),
            name: name.into(),
            description: Some("before".into()),
            disks_only: false,
            tags: [].into(),
        },
    };
    let find = |id: ResourceId| async move {
        bench.list::<Snapshot>().await.items.into_iter().find(|snapshot| snapshot.id == id)
    };
    let first = bench.done(&create("one")).await.resource().expect("a snapshot has an id");
    let made = find(first.clone()).await.expect("it is in the list");
    report.check(made.of.as_ref() == Some(&of), "it says of what it is");
    report.check(made.created_at.is_some(), "it says when it was made");
    if bench.subject.unique_names() {
        let (kind, text) = bench.refused(&create("one")).await;
        report.check(kind == ErrorKind::Conflict, format!("the name is taken: {kind}: {text}"));
    } else {
        report.absent("unique names");
    }
    let second = bench.done(&create("two")).await.resource().expect("a snapshot has an id");
    if bench.can().revert {
        bench.done(&Action::RevertSnapshot { snapshot: first.clone().into() }).await;
        report.check(find(first.clone()).await.unwrap().current == Some(true), "it is the one gone back to");
    } else {
        report.absent("revert");
    }
    if bench.can().volume_from_snapshot {
        let spec = VolumeSpec {
            from: Some(first.clone()),
            size_bytes: None,
            ..bench.subject.volume("suite-of", 16)
        };
        let volume = bench.done(&Action::CreateVolume { spec }).await.resource().expect("a volume has an id");
        let volumes = bench.list::<Volume>().await.items;
        let made = volumes.iter().find(|made| made.id == volume).expect("it is in the list");
        let size = bench.subject.volume("any", 16).size_bytes;
        report.check(made.size_bytes == size, format!("a volume of it is as large: {made:?}"));
        bench.done(&Action::DeleteVolume { volume: volume.into() }).await;
    } else {
        report.absent("volumes of snapshots");
    }
    if !of_volumes {
        let delete =
            Action::DeleteInstance { instance: instance.clone().into(), consents: Consents::default() };
        let (kind, text) = bench.refused(&delete).await;
        report.check(
            matches!(kind, ErrorKind::Conflict | ErrorKind::Protected),
            format!("it has snapshots: {text}"),
        );
    }
    for id in [second, first] {
        bench.done(&Action::DeleteSnapshot { snapshot: id.clone().into() }).await;
        report.check(find(id).await.is_none(), "it is gone");
    }
    bench.remove(&instance).await;
}
