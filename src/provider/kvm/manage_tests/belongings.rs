//! What guests have: volumes, snapshots, networks, and what becomes of them.

use super::*;

#[tokio::test]
async fn volumes_are_made_once_attached_once_and_kept_while_used() {
    let lab = Lab::new().await;
    let kvm = &lab.kvm;
    let spec = VolumeSpec { name: "data".into(), size_bytes: Some(64 * MIB), ..VolumeSpec::default() };
    let first = token();
    let made = Volumes::create(kvm, &spec, first).await.unwrap();
    let id = made.made.clone().unwrap();
    assert_eq!(id.native_id, "default/data");
    assert_eq!(Volumes::create(kvm, &spec, first).await.unwrap(), made);
    let other = VolumeSpec { size_bytes: Some(65 * MIB), ..spec.clone() };
    assert_eq!(Volumes::create(kvm, &other, token()).await.unwrap_err().kind(), ErrorKind::Conflict);
    let elsewhere = VolumeSpec { class: Some("nowhere".into()), ..spec };
    assert_eq!(Volumes::create(kvm, &elsewhere, token()).await.unwrap_err().kind(), ErrorKind::NotFound);
    let shrunk = kvm.grow(&id, MIB, token()).await.unwrap_err();
    assert!(shrunk.to_string().contains("never made smaller"), "{shrunk}");
    assert!(!kvm.grow(&id, 64 * MIB, token()).await.unwrap().changed);

    let spec = InstanceSpec { disks: vec![DiskSpec::Volume(id.clone().into())], ..lab.spec("web") };
    let web = Lifecycle::create(kvm, &spec, token()).await.unwrap().made.unwrap();
    assert!(!kvm.attach(&id, &web, None, token()).await.unwrap().changed, "it has it");
    let guest = lab.read(&web).await;
    assert_eq!((guest.disks[0].device.as_str(), guest.disks[0].volume.as_ref()), ("vda", Some(&id)));
    let listed = whole(kvm.inventory().volumes(&lab.host)).await;
    assert_eq!(
        (listed[0].attached_to.as_slice(), listed[0].size_bytes),
        (&[web.clone()][..], Some(64 * MIB))
    );
    let second = lab.guest("second").await;
    let refused = kvm.attach(&id, &second, None, token()).await.unwrap_err();
    assert!(refused.to_string().contains("web has it"), "{refused}");
    let refused = Volumes::delete(kvm, &id, token()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let same = InstanceSpec { name: "same".into(), ..spec };
    assert_eq!(Lifecycle::create(kvm, &same, token()).await.unwrap_err().kind(), ErrorKind::Conflict);
    let spare = lab.volume("spare").await;
    assert_eq!(kvm.attach(&spare, &web, Some("vda"), token()).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(!kvm.detach(&spare, &web, token()).await.unwrap().changed, "it does not have it");
    // This driver cannot take a disk away.
    Lifecycle::delete(kvm, &web, Consents::default(), token()).await.unwrap();
    for changed in [true, false] {
        assert_eq!(Volumes::delete(kvm, &id, token()).await.unwrap().changed, changed);
    }
}

#[tokio::test]
async fn a_plan_makes_volumes_first_and_deletion_says_what_stays() {
    let lab = Lab::new().await;
    let base = lab.volume("base").await;
    let disk = |name: &str| {
        DiskSpec::New(VolumeSpec { name: name.into(), size_bytes: Some(1024 * MIB), ..VolumeSpec::default() })
    };
    let mut spec = InstanceSpec { start: true, disks: vec![disk("a"), disk("b")], ..lab.spec("web") };
    spec.networks = vec!["default".into()];
    spec.tags.insert("team".into(), "core".into());
    let create = |spec: &InstanceSpec| Action::CreateInstance { spec: spec.clone() };
    let plan = lab.kvm.plan(&create(&spec), None).await.unwrap();
    let shown: Vec<_> = plan.steps.iter().map(|step| step.action.to_string()).collect();
    assert_eq!(
        shown,
        ["create volume a", "create volume b", "create instance web", "start instance what step 3 made"]
    );
    assert!(plan.steps.iter().all(|step| step.can_be_undone()));
    // 0.1 for a processor, 0.0625 GiB at 0.04, and two GiB of volume at 0.001.
    assert_eq!(plan.price_delta.as_ref().unwrap().per_hour.normalize().to_string(), "0.1045");
    let id = lab.run(&plan).await[2].made.clone().unwrap();
    let guest = lab.read(&id).await;
    assert_eq!((guest.state(), guest.disks.len(), guest.tags["team"].as_str()), (State::Running, 2, "core"));
    assert!(guest.interfaces[0].network.is_some() && guest.interfaces[0].mac.is_some());

    let direct = InstanceSpec { name: "x".into(), ..spec.clone() };
    let direct = Lifecycle::create(&lab.kvm, &direct, token()).await.unwrap_err();
    assert!(direct.to_string().contains("make a plan"), "{direct}");
    let cloned = InstanceSpec { name: "y".into(), image: Some(base.native_id.clone()), ..lab.spec("y") };
    let plan = lab.kvm.plan(&create(&cloned), None).await.unwrap();
    assert!(
        matches!(&plan.steps[0].action, Action::CreateVolume { spec } if spec.from == Some(base.clone()))
    );
    lab.run(&plan).await;
    let all = lab.instances().await;
    let y = all.iter().find(|guest| guest.label() == "y").unwrap();
    assert_eq!(y.image.as_deref(), Some("default/base"));
    let gone = InstanceSpec { image: Some("default/nothing".into()), ..cloned.clone() };
    let gone = InstanceSpec { name: "z".into(), ..gone };
    assert_eq!(lab.kvm.plan(&create(&gone), None).await.unwrap_err().kind(), ErrorKind::NotFound);
    let lost = InstanceSpec { name: "z".into(), networks: vec!["nowhere".into()], ..lab.spec("z") };
    assert!(lab.kvm.plan(&create(&lost), None).await.unwrap_err().to_string().contains("nowhere"));

    let delete = |consents| Action::DeleteInstance { instance: id.clone().into(), consents };
    assert_eq!(
        lab.kvm.plan(&delete(Consents::default()), None).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let keeping = Consents { running: true, ..Consents::default() };
    let plan = lab.kvm.plan(&delete(keeping), None).await.unwrap();
    let left: Vec<_> = plan.leaves.iter().map(|left| left.what.as_str()).collect();
    assert_eq!((left, plan.steps.len()), (vec!["volume default/a", "volume default/b"], 1));
    assert!(plan.price_delta.unwrap().per_hour.is_sign_negative());
    let plan = lab.kvm.plan(&delete(Consents { volumes: true, ..keeping }), None).await.unwrap();
    assert_eq!((plan.steps.len(), plan.removes.len(), plan.leaves.len()), (3, 2, 0));
    lab.run(&plan).await;
    let volumes = whole(lab.kvm.inventory().volumes(&lab.host)).await;
    let names: Vec<_> = volumes.iter().map(|volume| volume.id.native_id.as_str()).collect();
    assert!(!names.contains(&"default/a") && names.contains(&"default/base"), "{names:?}");
    assert!(lab.kvm.plan(&delete(keeping), None).await.unwrap().already.is_some());
}

#[tokio::test]
async fn snapshots_come_and_go_and_guard_their_guest() {
    let lab = Lab::new().await;
    let kvm = &lab.kvm;
    let web = lab.running("web").await;
    let spec = SnapshotSpec {
        of: web.clone(),
        name: "before".into(),
        description: Some("a <b>".into()),
        disks_only: false,
        tags: [].into(),
    };
    let first = token();
    let made = Snapshots::create(kvm, &spec, first).await.unwrap();
    let id = made.made.clone().unwrap();
    assert_eq!(id.native_id, format!("{}/before", web.native_id));
    assert_eq!(Snapshots::create(kvm, &spec, first).await.unwrap(), made);
    kvm.forget();
    assert_eq!(Snapshots::create(kvm, &spec, first).await.unwrap(), made, "its description has the token");
    assert_eq!(Snapshots::create(kvm, &spec, token()).await.unwrap_err().kind(), ErrorKind::Conflict);
    let child = SnapshotSpec { name: "after".into(), ..spec.clone() };
    Snapshots::create(kvm, &child, token()).await.unwrap();
    let listed = whole(kvm.inventory().snapshots(&lab.host)).await;
    assert_eq!(listed.len(), 2);
    let after = listed.iter().find(|snapshot| snapshot.name.as_deref() == Some("after")).unwrap();
    assert_eq!((after.parent.as_ref(), after.current), (Some(&id), Some(true)));
    assert!(after.created_at.is_some() && after.of == Some(web.clone()));

    kvm.stop(&web, &Stop::default(), token()).await.unwrap();
    let refused = Lifecycle::delete(kvm, &web, Consents::default(), token()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Protected);
    assert!(refused.to_string().contains("2 snapshots"), "{refused}");
    let back = token();
    assert!(kvm.revert(&id, back).await.unwrap().changed);
    assert_eq!(lab.read(&web).await.state(), State::Running, "as it was then");
    kvm.stop(&web, &Stop::default(), token()).await.unwrap();
    assert!(kvm.revert(&id, back).await.unwrap().changed, "it was this step that went back");
    assert_eq!(lab.read(&web).await.state(), State::Stopped, "once");
    kvm.forget();
    let refused = kvm.revert(&id, back).await.unwrap_err();
    assert!(refused.is_partly_done() && refused.to_string().contains("not known"), "{refused}");
    assert_eq!(lab.read(&web).await.state(), State::Stopped, "nor by another process");
    kvm.revert(&id, token()).await.unwrap();
    let plan = kvm.plan(&Action::RevertSnapshot { snapshot: id.clone().into() }, None).await.unwrap();
    assert_eq!(plan.downtime, Downtime::Reboot);
    for changed in [true, false] {
        assert_eq!(Snapshots::delete(kvm, &id, token()).await.unwrap().changed, changed);
    }
    let consents = Consents { running: true, snapshots: true, ..Consents::default() };
    let delete = Action::DeleteInstance { instance: web.into(), consents };
    let plan = kvm.plan(&delete, None).await.unwrap();
    assert_eq!(plan.removes.len(), 1);
    lab.run(&plan).await;
    let volume = SnapshotSpec { of: lab.volume("v").await, ..spec };
    assert_eq!(Snapshots::create(kvm, &volume, token()).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn networks_begin_at_once_and_are_kept_while_used() {
    let lab = Lab::new().await;
    let kvm = &lab.kvm;
    let cidr = Some("10.77.1.0/24".to_owned());
    let spec =
        NetworkSpec { name: "lab".into(), mode: Some("isolated".into()), cidr, ..NetworkSpec::default() };
    let first = token();
    let made = Networks::create(kvm, &spec, first).await.unwrap();
    let id = made.made.clone().unwrap();
    assert_eq!(Networks::create(kvm, &spec, first).await.unwrap(), made);
    assert_eq!(Networks::create(kvm, &spec, token()).await.unwrap_err().kind(), ErrorKind::Conflict);
    let networks = whole(kvm.inventory().networks(&lab.host)).await;
    assert_eq!(networks.len(), 2);
    let network = networks.iter().find(|network| network.id == id).unwrap();
    assert_eq!((network.mode.as_deref(), network.active), (Some("isolated"), Some(true)));
    assert_eq!(network.cidrs, ["10.77.1.0/24"]);
    let subnets = whole(kvm.inventory().subnets(&lab.host)).await;
    let subnet = subnets.iter().find(|subnet| subnet.network == id).unwrap();
    assert_eq!((subnet.gateway.as_deref(), subnet.id.kind), (Some("10.77.1.1"), Kind::Subnet));
    assert_eq!(subnet.id.native_id, format!("{}/0", id.native_id));
    let web = InstanceSpec { networks: vec!["lab".into()], ..lab.spec("web") };
    let web = Lifecycle::create(kvm, &web, token()).await.unwrap().made.unwrap();
    let refused = Networks::delete(kvm, &id, token()).await.unwrap_err();
    assert!(refused.to_string().contains("the guest web is in it"), "{refused}");
    Lifecycle::delete(kvm, &web, Consents::default(), token()).await.unwrap();
    for changed in [true, false] {
        assert_eq!(Networks::delete(kvm, &id, token()).await.unwrap().changed, changed);
    }
    assert_eq!(kvm.delete_subnet(&subnet.id, token()).await.unwrap_err().kind(), ErrorKind::Unsupported);
}
