//! Disks that outlive instances.

use barograph::ErrorKind;
use barograph::model::resource::{ResourceId, State, Volume};
use barograph::provider::{Action, DiskSpec, VolumeSpec};

use super::bench::started;
use super::{Bench, Report};

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("volumes");
    if !bench.can().volumes {
        report.absent("volumes");
        return;
    }
    let spec = |name: &str| bench.subject.volume(name, 64);
    let bytes = |mib: u64| bench.subject.volume("any", mib).size_bytes.unwrap();
    let create = |spec: VolumeSpec| async move {
        bench.done(&Action::CreateVolume { spec }).await.resource().expect("a volume has an id")
    };
    let find = |id: ResourceId| async move {
        bench.list::<Volume>().await.items.into_iter().find(|volume| volume.id == id)
    };
    let id = create(spec("suite-volume")).await;
    let made = find(id.clone()).await.expect("it is in the list");
    report.check(made.size_bytes == Some(bytes(64)), format!("{made:?}"));
    if bench.subject.unique_names() {
        let (kind, text) = bench.refused(&Action::CreateVolume { spec: spec("suite-volume") }).await;
        report.check(kind == ErrorKind::Conflict, format!("the name is taken: {text}"));
    } else {
        report.absent("unique names");
    }
    let token = barograph::provider::Token::random();
    let twice = Action::CreateVolume { spec: spec("suite-twice") };
    let first = bench.client().perform(&twice, token).await.unwrap().made;
    let second = bench.client().perform(&twice, token).await.unwrap().made;
    report.check(first.is_some() && first == second, "one token makes one volume");
    bench.done(&Action::DeleteVolume { volume: first.unwrap().into() }).await;

    let grow = |size_bytes: u64| Action::GrowVolume { volume: id.clone().into(), size_bytes };
    bench.done(&grow(bytes(96))).await;
    report.check(find(id.clone()).await.unwrap().size_bytes == Some(bytes(96)), "it grew");
    let (kind, text) = bench.refused(&grow(bytes(32))).await;
    report.check(kind == ErrorKind::Invalid, format!("it does not shrink: {kind}: {text}"));
    report.check(find(id.clone()).await.unwrap().size_bytes == Some(bytes(96)), "it is as large as before");
    if bench.can().clone_volume {
        let copy =
            create(VolumeSpec { from: Some(id.clone()), size_bytes: None, ..spec("suite-copy") }).await;
        report.check(find(copy.clone()).await.unwrap().size_bytes == Some(bytes(96)), "a copy is as large");
        bench.done(&Action::DeleteVolume { volume: copy.clone().into() }).await;
        report.check(find(copy).await.is_none(), "the copy is gone");
    } else {
        report.absent("clone");
    }
    if bench.can().attach {
        let instance = bench.create(started(bench.subject.instance("suite-disk"))).await;
        bench.subject.ready("suite-disk");
        for state in [State::Running, State::Stopped] {
            if state == State::Stopped {
                let how = super::bench::forced();
                bench.done(&Action::Stop { instance: instance.clone().into(), how }).await;
            }
            let (volume, to) = (|| id.clone().into(), || instance.clone().into());
            let attach = Action::AttachVolume { volume: volume(), instance: to(), device: None };
            bench.done(&attach).await;
            let again = bench.client().perform(&attach, barograph::provider::Token::random()).await.unwrap();
            report.check(!again.changed, "attached again it is so already");
            report.check(
                find(id.clone()).await.unwrap().attached_to == [instance.clone()],
                "the list says to what",
            );
            let disks = bench.instance(&instance).await.disks;
            let has = disks.iter().any(|disk| disk.volume.as_ref() == Some(&id));
            report.check(has, format!("the instance has it: {disks:?}"));
            let (kind, text) = bench.refused(&Action::DeleteVolume { volume: volume() }).await;
            report.check(kind == ErrorKind::Conflict, format!("it is used: {kind}: {text}"));
            bench.done(&Action::DetachVolume { volume: volume(), instance: to() }).await;
            let disks = bench.instance(&instance).await.disks;
            let has = disks.iter().any(|disk| disk.volume.as_ref() == Some(&id));
            report.check(!has, format!("{state}: the instance has it no more: {disks:?}"));
        }
        bench.remove(&instance).await;
        report.check(find(id.clone()).await.is_some(), "a volume outlives the instance");
        let mut with = bench.subject.instance("suite-new-disk");
        with.disks.push(DiskSpec::New(spec("suite-new")));
        let instance = bench.create(with).await;
        let disks = bench.instance(&instance).await.disks;
        let new = disks.iter().find_map(|disk| disk.volume.clone()).expect("it came with its disk");
        report.check(find(new.clone()).await.is_some(), "the new disk is a volume");
        bench.remove(&instance).await;
        report.check(find(new).await.is_none(), "with consent the volume goes too");
    } else {
        report.absent("attach");
    }
    bench.done(&Action::DeleteVolume { volume: id.clone().into() }).await;
    report.check(find(id.clone()).await.is_none(), "it is gone");
    let (operation, ended) = bench.run(&Action::DeleteVolume { volume: id.into() }).await;
    report.check(ended.is_ok() && !operation.changed(), "deleted again it is so already");
}
