//! New instances: what EC2 is told of them, and what becomes of one that is only partly as it was wanted.

use super::*;

#[tokio::test]
async fn protection_is_the_last_step_and_taken_back_first() {
    let options = [("protection", "true"), ("stop_protection", "true")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let create = Action::CreateInstance { spec: InstanceSpec { options, ..spec() } };
    let lab = Lab::new(World::default()).await;
    let (operation, ended) = lab.carry_out(&create, None).await;
    ended.unwrap();
    let steps: Vec<_> = operation.plan.steps.iter().map(|step| step.action.verb()).collect();
    assert_eq!(steps, ["create", "stop", "protect"]);
    assert_eq!(lab.world.lock().state, "stopped");
    assert_eq!(lab.world.lock().guarded, BTreeSet::from(["StopInstances", "TerminateInstances"]));
    assert_eq!(lab.client().instance(&lab.web()).await.unwrap().protected, Some(true));
    let consents = Consents { running: true, ..Consents::default() };
    let delete = Action::DeleteInstance { instance: lab.web().into(), consents };
    let error = lab.client().perform(&delete, Token::random()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protected);

    // One of the two is set when the other fails.
    let lab = Lab::new(World { denied: "DisableApiStop.Value", ..World::default() }).await;
    let (operation, ended) = lab.carry_out(&create, None).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(operation.phase, Phase::Unwound, "{:?}", operation.errors);
    assert_eq!(lab.world.lock().state, "terminated");
}

#[tokio::test]
async fn a_protection_is_told_before_all_else() {
    let guarded = BTreeSet::from(["TerminateInstances"]);
    let lab = Lab::new(World { guarded, ..World::running() }).await;
    let now = lab.client().instance(&lab.web()).await.unwrap();
    let wanted = Action::DeleteInstance { instance: lab.web().into(), consents: Consents::default() };
    let error = prepare(&lab.managed, &wanted, Some(&now), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protected, "{error}");
    assert!(error.chain().contains("guard") && error.chain().contains("--running"), "{}", error.chain());
}

#[tokio::test]
async fn a_creation_says_all_that_was_asked_for() {
    let lab = Lab::new(World::default()).await;
    let options = [
        ("public_address", "false"),
        ("instance_profile", "web"),
        ("root_class", "io2"),
        ("root_size", "20GiB"),
        ("root_iops", "1000"),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let key = [("encrypted".to_owned(), "true".to_owned()), ("kms_key".to_owned(), "alias/web".to_owned())];
    let disk = |name: &str, options| {
        let size_bytes = Some(4 << 30);
        DiskSpec::New(VolumeSpec { name: name.into(), size_bytes, options, ..VolumeSpec::default() })
    };
    let disks = vec![disk("data", key.into()), disk("log", [].into())];
    let create = InstanceSpec { options, disks, networks: vec!["subnet-1".into()], start: true, ..spec() };
    let (operation, ended) = lab.carry_out(&Action::CreateInstance { spec: create }, None).await;
    ended.unwrap();
    assert_eq!(operation.phase, Phase::Done);
    let runs = lab.ec2.calls("RunInstances");
    let made = runs.iter().find(|asked| !asked.contains_key("DryRun")).unwrap();
    for (name, value) in [
        ("NetworkInterface.1.SubnetId", "subnet-1"),
        ("NetworkInterface.1.AssociatePublicIpAddress", "false"),
        ("IamInstanceProfile.Name", "web"),
        ("BlockDeviceMapping.1.DeviceName", "/dev/xvda"),
        ("BlockDeviceMapping.1.Ebs.VolumeType", "io2"),
        ("BlockDeviceMapping.1.Ebs.VolumeSize", "20"),
        ("BlockDeviceMapping.1.Ebs.Iops", "1000"),
        ("BlockDeviceMapping.2.DeviceName", "/dev/sdf"),
        ("BlockDeviceMapping.2.Ebs.KmsKeyId", "alias/web"),
    ] {
        assert_eq!(made.get(name).map(String::as_str), Some(value), "{name}: {made:#?}");
    }
    // Each disk has its own name, and that of the image none of them.
    let named = lab.ec2.calls("CreateTags");
    let named: Vec<_> =
        named.iter().map(|asked| (&asked["ResourceId.1"][..], &asked["Tag.1.Value"][..])).collect();
    assert_eq!(named, [("vol-sdf", "data"), ("vol-sdg", "log")]);

    // A parameter is looked up by EC2 itself, so nobody knows whose licence is paid for.
    let lab = Lab::new(World::default()).await;
    let create = InstanceSpec { image: Some("resolve:ssm:/ours/web".into()), start: true, ..spec() };
    let (operation, ended) = lab.carry_out(&Action::CreateInstance { spec: create }, None).await;
    ended.unwrap();
    assert_eq!(operation.plan.price_delta, None);
    assert_eq!(lab.ec2.calls("RunInstances")[0]["ImageId"], "resolve:ssm:/ours/web");
}

#[tokio::test]
async fn what_is_made_and_cannot_be_named_is_kept() {
    let lab = Lab::new(World { denied: "CreateTags", ..World::default() }).await;
    let volume = VolumeSpec { name: "data".into(), size_bytes: Some(1 << 30), ..VolumeSpec::default() };
    let create = InstanceSpec { disks: vec![DiskSpec::New(volume)], start: true, ..spec() };
    let (operation, ended) = lab.carry_out(&Action::CreateInstance { spec: create }, None).await;
    ended.unwrap();
    assert_eq!(operation.phase, Phase::Done);
    let notes = operation.notes().collect::<Vec<_>>().join("; ");
    assert!(notes.contains("name the volume"), "{notes}");
    assert_eq!(lab.world.lock().state, "running");
}

#[tokio::test]
async fn what_was_just_made_is_waited_for_and_what_never_was_is_not() {
    let lab = Lab::new(World { unknown: 3, ..World::default() }).await;
    let create = Action::CreateInstance { spec: spec() };
    let token = Token::random();
    let made = lab.client().perform(&create, token).await.unwrap().made.unwrap();
    assert_eq!(made, lab.web());
    assert_eq!(lab.client().instance(&made).await.unwrap().state(), State::Creating);
    assert_eq!(
        lab.ec2.calls("DescribeInstances").iter().filter(|asked| asked.contains_key("InstanceId.1")).count(),
        4
    );
    // Its tags are not seen yet, and EC2 knows the token all the same.
    let again = lab.client().perform(&create, token).await.unwrap();
    assert_eq!((again.made, again.changed), (Some(made), true));
    let tokens: Vec<_> =
        lab.ec2.calls("RunInstances").iter().map(|asked| asked["ClientToken"].clone()).collect();
    assert_eq!(tokens, [token.to_string(), token.to_string()]);

    let never = lab.client().scope().id(REGION, Kind::Instance, "i-0000000000000000b");
    let before = lab.ec2.calls("DescribeInstances").len();
    assert_eq!(lab.client().instance(&never).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(lab.ec2.calls("DescribeInstances").len(), before + 1);
}

#[tokio::test]
async fn an_operation_that_goes_on_knows_what_it_made() {
    let lab = Lab::new(World { unknown: 2, ..World::running() }).await;
    assert_eq!(lab.client().instance(&lab.web()).await.unwrap_err().kind(), ErrorKind::NotFound);
    lab.client().remember(Past::Made(&lab.web()), Timestamp::now());
    assert_eq!(lab.client().instance(&lab.web()).await.unwrap().state(), State::Running);
}
