//! What is wrong is refused by its kind, and with words that help.

use barograph::ErrorKind;
use barograph::model::resource::{Instance, Kind, ResourceId};
use barograph::provider::{
    Action, Consents, InstanceSpec, NetworkSpec, ResizePolicy, SizeSpec, SnapshotSpec, SubnetSpec, Token,
    VolumeSpec,
};

use super::bench::forced;
use super::{Bench, Report};

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("errors");
    let like = bench.list::<Instance>().await.items.remove(0).id;
    let gone = like.sibling(Kind::Instance, super::inventory::missing(&like));
    for action in every_action(&gone) {
        let claimed = bench.can().allows(&action);
        let error = bench.client().perform(&action, Token::random()).await;
        if claimed {
            continue;
        }
        let error = error.expect_err("what is not claimed cannot succeed");
        report.check(error.kind() == ErrorKind::Unsupported, format!("{action} is not claimed: {error}"));
    }
    for action in [
        Action::Start { instance: gone.clone().into() },
        Action::Stop { instance: gone.clone().into(), how: forced() },
        Action::Resize {
            instance: gone.clone().into(),
            size: bench.subject.larger(),
            policy: ResizePolicy::LiveOnly,
        },
    ] {
        let error = bench.client().perform(&action, Token::random()).await.unwrap_err();
        report.check(error.kind() == ErrorKind::NotFound, format!("{action}: {}", error.chain()));
        report.check(error.chain().contains(&gone.native_id), format!("it says on what: {error}"));
    }
    let unknown = [("no_such_option".to_owned(), "1".to_owned())].into();
    let spec = InstanceSpec { options: unknown, ..bench.subject.instance("suite-wrong") };
    let (kind, text) = bench.refused(&Action::CreateInstance { spec }).await;
    report.check(kind == ErrorKind::Invalid && text.contains("no_such_option"), text);
    let spec = InstanceSpec { image: Some("suite/none:0".into()), ..bench.subject.instance("suite-wrong") };
    let (kind, text) = bench.refused(&Action::CreateInstance { spec }).await;
    report.check(matches!(kind, ErrorKind::NotFound | ErrorKind::Invalid), format!("{kind}: {text}"));
    let size = SizeSpec { name: Some("no-such-size".into()), ..SizeSpec::default() };
    let spec = InstanceSpec { size, ..bench.subject.instance("suite-wrong") };
    let (kind, text) = bench.refused(&Action::CreateInstance { spec }).await;
    report.check(
        matches!(kind, ErrorKind::NotFound | ErrorKind::Invalid) && text.contains("no-such-size"),
        text,
    );
    let left = bench.list::<Instance>().await;
    let left = left.items.iter().any(|instance| instance.label() == "suite-wrong");
    report.check(!left, "a refused creation leaves nothing");
}

/// One of each action, of an instance that is not there.
fn every_action(gone: &ResourceId) -> Vec<Action> {
    let instance = || gone.clone().into();
    let of = |kind: Kind| gone.sibling(kind, "suite-missing").into();
    vec![
        Action::Suspend { instance: instance() },
        Action::Resume { instance: instance() },
        Action::Resize { instance: instance(), size: SizeSpec::default(), policy: ResizePolicy::LiveOnly },
        Action::DeleteInstance { instance: instance(), consents: Consents::default() },
        Action::CreateVolume { spec: VolumeSpec::default() },
        Action::GrowVolume { volume: of(Kind::Volume), size_bytes: 1 },
        Action::DeleteVolume { volume: of(Kind::Volume) },
        Action::AttachVolume { volume: of(Kind::Volume), instance: instance(), device: None },
        Action::DetachVolume { volume: of(Kind::Volume), instance: instance() },
        Action::CreateSnapshot {
            spec: SnapshotSpec {
                of: gone.clone(),
                name: "suite".into(),
                description: None,
                disks_only: false,
                tags: [].into(),
            },
        },
        Action::RevertSnapshot { snapshot: of(Kind::Snapshot) },
        Action::DeleteSnapshot { snapshot: of(Kind::Snapshot) },
        Action::CreateNetwork { spec: NetworkSpec::default() },
        Action::DeleteNetwork { network: of(Kind::Network) },
        Action::CreateSubnet {
            spec: SubnetSpec {
                name: "suite".into(),
                network: gone.sibling(Kind::Network, "suite-missing"),
                cidr: "10.99.0.0/24".into(),
                zone: None,
                tags: [].into(),
            },
        },
        Action::DeleteSubnet { subnet: of(Kind::Subnet) },
        Action::ImportImage { archive: "/nonexistent".into(), location: None, name: None },
        Action::DeleteImage { image: of(Kind::Image) },
    ]
}
