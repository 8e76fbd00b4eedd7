//! Contents kept from one time.

use barograph::ErrorKind;
use barograph::model::resource::{ResourceId, Snapshot};
use barograph::provider::{Action, Consents, DiskSpec, SnapshotSpec, VolumeSpec};

use super::{Bench, Report};

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("snapshots");
    if !bench.can().make_snapshots {
        report.absent("snapshots");
        return;
    }
    let mut spec = bench.subject.instance("suite-snap");
    spec.disks.push(DiskSpec::New(VolumeSpec {
        name: "suite-snapped".into(),
        size_bytes: Some(16 << 20),
        class: bench.subject.volume_class(),
        ..VolumeSpec::default()
    }));
    let instance = bench.create(spec).await;
    let create = |name: &str| Action::CreateSnapshot {
        spec: SnapshotSpec {
            of: instance.clone(),
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
    report.check(made.of.as_ref() == Some(&instance), "it says of what it is");
    report.check(made.created_at.is_some(), "it says when it was made");
    let (kind, text) = bench.refused(&create("one")).await;
    report.check(kind == ErrorKind::Conflict, format!("the name is taken: {kind}: {text}"));
    let second = bench.done(&create("two")).await.resource().expect("a snapshot has an id");
    if bench.can().revert {
        bench.done(&Action::RevertSnapshot { snapshot: first.clone().into() }).await;
        report.check(find(first.clone()).await.unwrap().current == Some(true), "it is the one gone back to");
    } else {
        report.absent("revert");
    }
    let delete = Action::DeleteInstance { instance: instance.clone().into(), consents: Consents::default() };
    let (kind, text) = bench.refused(&delete).await;
    report.check(
        matches!(kind, ErrorKind::Conflict | ErrorKind::Protected),
        format!("it has snapshots: {text}"),
    );
    for id in [second, first] {
        bench.done(&Action::DeleteSnapshot { snapshot: id.clone().into() }).await;
        report.check(find(id).await.is_none(), "it is gone");
    }
    bench.remove(&instance).await;
}
