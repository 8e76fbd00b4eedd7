//! A failure at every step of every plan, and everything as it was before.

use std::collections::BTreeMap;
use std::sync::Arc;

use barograph::ErrorKind;
use barograph::manage::Phase;
use barograph::model::resource::{Image, Instance, Network, ResourceId, Snapshot, State, Volume};
use barograph::provider::{Action, Consents, DiskSpec, NetworkSpec, ResizePolicy, SnapshotSpec, VolumeSpec};

use super::bench::{forced, started};
use super::faulty::{Fault, Faulty};
use super::{Bench, Report};

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("unwinding");
    let running = bench.create(started(bench.subject.instance("suite-running"))).await;
    let stopped = bench.create(bench.subject.instance("suite-stopped")).await;
    let volume = match bench.can().volumes {
        true => bench.done(&Action::CreateVolume { spec: volume(bench, "suite-spare") }).await.resource(),
        false => None,
    };
    for wanted in plans(bench, &running, &stopped, volume.as_ref()) {
        let steps = bench.prepare(&wanted).await.unwrap().plan.steps;
        report.check(!steps.is_empty(), format!("{wanted}: there is something to do"));
        for (number, step) in steps.iter().enumerate() {
            for fault in [Fault::Refused, Fault::Lost, Fault::Unheard] {
                let before = picture(bench).await;
                let faulty = Arc::new(Faulty::new(bench.subject.provider(), number, fault));
                let broken = Bench::around(bench.subject, faulty.clone());
                let (operation, ended) = broken.run(&wanted).await;
                let what = format!("{wanted}: step {} ({}), {fault:?}", number + 1, step.action);
                report.check(faulty.has_failed(), format!("{what}: the step was made"));
                let error = ended.err().map(|error| error.chain());
                report.check(error.is_some(), format!("{what}: it says that it failed"));
                let text = format!("{what}: {error:?}, {:?}", operation.errors);
                let goes_back = steps[..number].iter().all(|step| step.can_be_undone())
                    && (step.can_be_undone() || fault == Fault::Refused);
                if !goes_back {
                    // It may have happened, and nobody says that it did not; asked again it is done, and once.
                    report.check(
                        operation.phase == Phase::Partial,
                        format!("{text}: it is {}", operation.phase),
                    );
                    let (operation, ended) = broken.resume(operation).await;
                    let text = format!("{text}, then {ended:?}");
                    report
                        .check(operation.phase == Phase::Done, format!("{text}: it is {}", operation.phase));
                    continue;
                }
                report.check(operation.phase == Phase::Unwound, format!("{text}: it is {}", operation.phase));
                let after = picture(bench).await;
                report.check(after == before, format!("{text}\nbefore {before:#?}\nafter {after:#?}"));
            }
        }
    }
    bench.remove(&running).await;
    deletions(bench, report, &stopped).await;
    if let Some(volume) = volume {
        bench.done(&Action::DeleteVolume { volume: volume.into() }).await;
    }
}

/// What cannot be taken back: a deletion whose answer is lost may have happened, and goes on.
async fn deletions(bench: &Bench<'_>, report: &mut Report, instance: &ResourceId) {
    let delete = Action::DeleteInstance { instance: instance.clone().into(), consents: Consents::default() };
    for fault in [Fault::Refused, Fault::Unheard, Fault::Lost] {
        let faulty = Arc::new(Faulty::new(bench.subject.provider(), 0, fault));
        let broken = Bench::around(bench.subject, faulty);
        let (operation, ended) = broken.run(&delete).await;
        report.check(ended.is_err(), format!("{delete}, {fault:?}: it says that it failed"));
        let phase = if fault == Fault::Refused { Phase::Unwound } else { Phase::Partial };
        report.check(operation.phase == phase, format!("{delete}, {fault:?}: it is {}", operation.phase));
        if fault == Fault::Lost {
            let (operation, ended) = broken.resume(operation).await;
            let text = format!("{delete}, then {ended:?}: it is {}", operation.phase);
            report.check(operation.phase == Phase::Done && operation.changed(), text);
        }
    }
    let left = bench.client().instance(instance).await.map(|instance| instance.status);
    let gone = left.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
    report.check(gone, format!("it is gone: {left:?}"));
}

fn volume(bench: &Bench<'_>, name: &str) -> VolumeSpec {
    bench.subject.volume(name, 16)
}

/// One plan of each sort that the provider claims.
fn plans(
    bench: &Bench<'_>,
    running: &ResourceId,
    stopped: &ResourceId,
    spare: Option<&ResourceId>,
) -> Vec<Action> {
    let can = bench.can();
    let mut new = started(bench.subject.instance("suite-new"));
    if can.volumes {
        new.disks.push(DiskSpec::New(volume(bench, "suite-new-root")));
        new.disks.push(DiskSpec::New(volume(bench, "suite-new-data")));
    }
    let mut plans = vec![
        Action::CreateInstance { spec: new },
        Action::Start { instance: stopped.clone().into() },
        Action::Stop { instance: running.clone().into(), how: forced() },
        Action::Restart { instance: running.clone().into(), how: forced() },
        Action::Resize {
            instance: stopped.clone().into(),
            size: bench.subject.larger(),
            policy: ResizePolicy::AllowStopStart,
        },
    ];
    if bench.suspends() {
        plans.push(Action::Suspend { instance: running.clone().into() });
    }
    if let Some(spare) = spare.filter(|_| can.attach) {
        plans.push(Action::CreateVolume { spec: volume(bench, "suite-other") });
        let (volume, instance) = (spare.clone().into(), stopped.clone().into());
        plans.push(Action::AttachVolume { volume, instance, device: None });
    }
    if can.make_snapshots {
        let of = spare.filter(|_| bench.subject.snapshots_of_volumes()).unwrap_or(stopped).clone();
        let name = "suite-point".into();
        let spec = SnapshotSpec { of, name, description: None, disks_only: false, tags: [].into() };
        plans.push(Action::CreateSnapshot { spec });
    }
    if can.make_networks {
        let spec = NetworkSpec {
            name: "suite-net".into(),
            mode: Some("isolated".into()),
            cidr: Some("10.198.52.0/24".into()),
            ..NetworkSpec::default()
        };
        plans.push(Action::CreateNetwork { spec });
    }
    if let Some((archive, _)) = bench.subject.archive().filter(|_| can.import_images) {
        let (location, name) = (Some(bench.location.clone()), Some("suite.local/unwound:1".into()));
        plans.push(Action::ImportImage { archive, location, name });
    }
    plans.extend(bench.subject.more_plans(running));
    plans
}

/// What a person would call "as it was before".
async fn picture(bench: &Bench<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for instance in bench.list::<Instance>().await.items {
        let Instance { status, size, disks, tags, .. } = &instance;
        let disks: Vec<_> = disks.iter().map(|disk| (&disk.device, &disk.volume)).collect();
        // A guest that boots has more memory until its balloon is filled.
        let memory = size.memory_bytes.filter(|_| status.state != State::Running);
        let text =
            format!("{:?} {:?} {memory:?} {:?} {disks:?} {tags:?}", status.state, size.vcpus, size.max_vcpus);
        all.insert(instance.id.to_string(), text);
    }
    for volume in bench.list::<Volume>().await.items {
        all.insert(volume.id.to_string(), format!("{:?} {:?}", volume.size_bytes, volume.attached_to));
    }
    for snapshot in bench.list::<Snapshot>().await.items {
        all.insert(snapshot.id.to_string(), format!("{:?}", snapshot.of));
    }
    for network in bench.list::<Network>().await.items {
        all.insert(network.id.to_string(), format!("{:?} {:?}", network.active, network.cidrs));
    }
    for image in bench.list::<Image>().await.items {
        all.insert(image.id.to_string(), format!("{:?}", image.digest));
    }
    all
}
