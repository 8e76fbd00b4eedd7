//! What EC2 does and moto does not: it knows late what it has made, has no room, hibernates, answers in pages, throttles,
//! forbids, and knows client tokens. Against an EC2 of our own that says what the test tells it to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what failed by panicking"
)]

#[path = "support/told_ec2.rs"]
mod told_ec2;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use barograph::manage::{Executor, Guard, Journal, Managed, Operation, Phase, Waiting, prepare};
use barograph::model::resource::{Instance, Kind, ResourceId, State};
use barograph::model::{Secret, Span, Timestamp};
use barograph::provider::aws::{Account, AwsProvider, Config, Endpoints};
use barograph::provider::client::Policy;
use barograph::provider::{
    Action, Client, Consents, DiskSpec, InstanceSpec, Past, ResizePolicy, SizeSpec, SnapshotSpec, Stop,
    Token, VolumeChange, VolumeSpec,
};
use barograph::{ErrorKind, Result};
use parking_lot::Mutex;
use told_ec2::{Answer, Asked, ToldEc2};

const REGION: &str = "eu-west-1";
const WEB: &str = "i-0000000000000000a";

/// One instance, and what goes wrong with it.
#[derive(Debug, Default)]
struct World {
    state: &'static str,
    reason: &'static str,
    kind: String,
    hibernation: bool,
    /// How often it is not found before EC2 knows of it.
    unknown: usize,
    /// The token that it was made with.
    token: Option<String>,
    /// A type that there is no room for.
    full: &'static str,
    /// It hears no request to stop.
    deaf: bool,
    /// What may not be done: an action, or what one says.
    denied: &'static str,
    /// How often is throttled.
    throttled: usize,
    /// A type whose instances stop as soon as they are started.
    stillborn: &'static str,
    /// What EC2 refuses to do to it: `TerminateInstances`, `StopInstances`.
    guarded: BTreeSet<&'static str>,
    /// The devices that it was made with.
    devices: Vec<String>,
}

impl World {
    fn running() -> Self {
        Self { state: "running", kind: "t3.micro".into(), ..Self::default() }
    }

    fn instance(&self) -> String {
        let (state, reason, kind, hibernation) = (self.state, self.reason, &self.kind, self.hibernation);
        // The image brings a disk of its own, whose name comes after all others.
        let devices = self.devices.iter().map(String::as_str).chain(["/dev/sdz"]);
        let disk = |device: &str| {
            let volume = device.trim_start_matches("/dev/");
            format!(
                "<item><deviceName>{device}</deviceName><ebs><volumeId>vol-{volume}</volumeId></ebs></item>"
            )
        };
        let disks: String = devices.map(disk).collect();
        format!(
            "<item><instanceId>{WEB}</instanceId><imageId>ami-1</imageId><instanceState><code>0</code><name>{state}</name>\
             </instanceState><stateReason><code>{reason}</code><message>{reason}</message></stateReason>\
             <instanceType>{kind}</instanceType><architecture>x86_64</architecture><rootDeviceType>ebs</rootDeviceType>\
             <blockDeviceMapping>{disks}</blockDeviceMapping><hibernationOptions><configured>{hibernation}</configured></hibernationOptions>\
             <tagSet><item><key>Name</key><value>web</value></item></tagSet></item>"
        )
    }

    fn answer(&mut self, action: &str, asked: &Asked) -> Answer {
        if self.throttled > 0 {
            self.throttled -= 1;
            return Err("RequestLimitExceeded");
        }
        if self.denied == action || asked.contains_key(self.denied) {
            return Err("UnauthorizedOperation");
        }
        if asked.get("DryRun").is_some_and(|dry| dry == "true") {
            return Err("DryRunOperation");
        }
        match action {
            "DescribeInstances" => {
                let named = asked.contains_key("InstanceId.1");
                if named && (self.unknown > 0 || asked["InstanceId.1"] != WEB) {
                    self.unknown = self.unknown.saturating_sub(1);
                    return Err("InvalidInstanceID.NotFound");
                }
                // Tags of what was just made are seen later.
                let seen = named && !self.state.is_empty();
                let found = if seen { self.instance() } else { String::new() };
                if self.state == "pending" && self.kind == self.stillborn {
                    (self.state, self.reason) = ("stopped", "Server.InsufficientInstanceCapacity");
                } else if self.state == "pending" && named {
                    self.state = "running";
                }
                let set = format!("<item><instancesSet>{found}</instancesSet></item>");
                Ok(format!("<reservationSet>{}</reservationSet>", if seen { set } else { String::new() }))
            }
            "DescribeInstanceTypes" => {
                let one = |name: &str| {
                    format!(
                        "<item><instanceType>{name}</instanceType><processorInfo><supportedArchitectures><item>x86_64</item>\
                         </supportedArchitectures></processorInfo><vCpuInfo><defaultVCpus>2</defaultVCpus></vCpuInfo>\
                         <memoryInfo><sizeInMiB>1024</sizeInMiB></memoryInfo><hibernationSupported>true</hibernationSupported>\
                         </item>"
                    )
                };
                let names = asked.iter().filter(|(name, _)| name.starts_with("Filter.1.Value."));
                let all: String = names.map(|(_, name)| one(name)).collect();
                Ok(format!("<instanceTypeSet>{all}</instanceTypeSet>"))
            }
            "DescribeImages" => {
                Ok("<imagesSet><item><imageId>ami-1</imageId><architecture>x86_64</architecture>\
                 <rootDeviceName>/dev/xvda</rootDeviceName></item></imagesSet>"
                    .into())
            }
            "DescribeSubnets" => {
                Ok("<subnetSet><item><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId></item></subnetSet>"
                    .into())
            }
            "RunInstances" => {
                let token = asked["ClientToken"].clone();
                if self.token.get_or_insert_with(|| token.clone()) != &token {
                    return Err("IdempotentParameterMismatch");
                }
                if self.state.is_empty() {
                    self.state = "pending";
                    self.kind = asked["InstanceType"].clone();
                    let device = |(name, value): (&String, &String)| {
                        name.ends_with(".DeviceName").then(|| value.clone())
                    };
                    self.devices = asked.iter().filter_map(device).collect();
                }
                Ok(format!("<instancesSet>{}</instancesSet>", self.instance()))
            }
            "StartInstances" if self.kind == self.full => Err("InsufficientInstanceCapacity"),
            "StartInstances" if self.kind == self.stillborn => {
                self.state = "pending";
                Ok(String::new())
            }
            "StopInstances" | "TerminateInstances" if self.guarded.contains(action) => {
                Err("OperationNotPermitted")
            }
            "TerminateInstances" => {
                self.state = "terminated";
                Ok(String::new())
            }
            "DescribeInstanceAttribute" => {
                let is = |action| self.guarded.contains(action);
                Ok(match asked["Attribute"].as_str() {
                    "disableApiTermination" => {
                        let set = is("TerminateInstances");
                        format!("<disableApiTermination><value>{set}</value></disableApiTermination>")
                    }
                    _ => format!("<disableApiStop><value>{}</value></disableApiStop>", is("StopInstances")),
                })
            }
            "StartInstances" => {
                (self.state, self.reason) = ("running", "");
                Ok(String::new())
            }
            "StopInstances" => {
                let is = |name: &str| asked.get(name).is_some_and(|value| value == "true");
                self.state = if self.deaf && !is("Force") { "stopping" } else { "stopped" };
                self.reason = if is("Hibernate") {
                    "Client.UserInitiatedHibernate"
                } else {
                    "Client.UserInitiatedShutdown"
                };
                Ok(String::new())
            }
            "ModifyInstanceAttribute" => {
                if let Some(kind) = asked.get("InstanceType.Value") {
                    self.kind.clone_from(kind);
                }
                let mut guard = |value: &str, action: &'static str| match asked.get(value).map(String::as_str)
                {
                    Some("true") => drop(self.guarded.insert(action)),
                    Some(_) => drop(self.guarded.remove(action)),
                    None => {}
                };
                guard("DisableApiTermination.Value", "TerminateInstances");
                guard("DisableApiStop.Value", "StopInstances");
                Ok(String::new())
            }
            "ModifyVolume" => Err("VolumeModificationRateExceeded"),
            "DescribeVolumes" => {
                Ok("<volumeSet><item><volumeId>vol-1</volumeId><size>1</size></item></volumeSet>".into())
            }
            _ => Ok(String::new()),
        }
    }
}

struct Lab {
    ec2: ToldEc2,
    world: Arc<Mutex<World>>,
    managed: Managed,
    journal: Journal,
    _data: tempfile::TempDir,
}

impl Lab {
    async fn new(world: World) -> Self {
        let world = Arc::new(Mutex::new(world));
        let told = Arc::clone(&world);
        let ec2 = ToldEc2::start(move |action, asked| told.lock().answer(action, asked));
        let managed = managed(&ec2).await;
        let data = tempfile::tempdir().unwrap();
        let journal = Journal::open(data.path()).unwrap();
        Self { ec2, world, managed, journal, _data: data }
    }

    fn client(&self) -> &Client {
        &self.managed.client
    }

    fn web(&self) -> ResourceId {
        self.client().scope().id(REGION, Kind::Instance, WEB)
    }

    /// A change of the instance.
    async fn run(&self, wanted: &Action) -> (Operation, Result<()>) {
        let now = self.client().instance(&self.web()).await.unwrap();
        self.carry_out(wanted, Some(&now)).await
    }

    async fn carry_out(&self, wanted: &Action, now: Option<&Instance>) -> (Operation, Result<()>) {
        let prepared = prepare(&self.managed, wanted, now, None).await.unwrap();
        let approved = Guard::default().approve(vec![prepared], async |_| Ok(true)).await.unwrap().remove(0);
        let waiting = Waiting { last: true, timeout: Duration::from_secs(20) };
        Executor::new(self.client(), &self.journal, waiting, &|_, _| ()).run(approved, &|_| ()).await
    }
}

/// A provider of an account of which all is known, so that nobody else is asked.
async fn managed(ec2: &ToldEc2) -> Managed {
    let account = Account {
        id: Some("123456789012".into()),
        access_key_id: Some("key".into()),
        secret_access_key: Some(Secret::new("secret")),
        ..Account::default()
    };
    let endpoints =
        Endpoints { ec2: Some(ec2.url.clone()), pricing: Some(ec2.url.clone()), ..Endpoints::default() };
    let config = Config { regions: vec![REGION.into()], endpoints, ..Config::default() };
    let provider = Arc::new(AwsProvider::open(&config, &account).await.unwrap());
    let client = Client::new(provider, Arc::default(), Policy::default());
    Managed { name: "aws".into(), config: None, client }
}

fn spec() -> InstanceSpec {
    InstanceSpec {
        name: "web".into(),
        image: Some("ami-1".into()),
        size: SizeSpec { name: Some("t3.micro".into()), ..SizeSpec::default() },
        ..InstanceSpec::default()
    }
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
async fn a_size_that_has_no_room_gives_way_to_the_old_one() {
    let lab = Lab::new(World { full: "m5.large", ..World::running() }).await;
    let size = SizeSpec { name: Some("m5.large".into()), ..SizeSpec::default() };
    let instance = lab.web().into();
    let (operation, ended) =
        lab.run(&Action::Resize { instance, size, policy: ResizePolicy::AllowStopStart }).await;
    let error = ended.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Capacity);
    assert!(error.chain().contains("another zone or size"), "{}", error.chain());
    assert_eq!(operation.phase, Phase::Unwound, "{:?}", operation.errors);
    let world = lab.world.lock();
    assert_eq!((world.state, world.kind.as_str()), ("running", "t3.micro"), "as it was before");
}

#[tokio::test]
async fn one_that_stops_again_after_its_start_gets_its_old_size_back() {
    let lab = Lab::new(World { stillborn: "m5.large", ..World::running() }).await;
    let size = SizeSpec { name: Some("m5.large".into()), ..SizeSpec::default() };
    let instance = lab.web().into();
    let (operation, ended) =
        lab.run(&Action::Resize { instance, size, policy: ResizePolicy::AllowStopStart }).await;
    let error = ended.unwrap_err().chain();
    assert!(error.contains("InsufficientInstanceCapacity"), "{error}");
    assert_eq!(operation.phase, Phase::Unwound, "{:?}", operation.errors);
    let world = lab.world.lock();
    assert_eq!((world.state, world.kind.as_str()), ("running", "t3.micro"), "as it was before");
}

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
async fn an_operation_that_goes_on_knows_what_it_made() {
    let lab = Lab::new(World { unknown: 2, ..World::running() }).await;
    assert_eq!(lab.client().instance(&lab.web()).await.unwrap_err().kind(), ErrorKind::NotFound);
    lab.client().remember(Past::Made(&lab.web()), Timestamp::now());
    assert_eq!(lab.client().instance(&lab.web()).await.unwrap().state(), State::Running);
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

#[tokio::test]
async fn what_uses_a_network_is_named_whatever_it_is() {
    let ec2 = ToldEc2::start(|action, asked| {
        let item = |fields: &str| format!("<item>{fields}</item>");
        Ok(match action {
            "DescribeNetworkInterfaces" if asked.contains_key("NextToken") => format!(
                "<networkInterfaceSet>{}</networkInterfaceSet>",
                item(
                    "<networkInterfaceId>eni-2</networkInterfaceId><description>a load balancer</description>"
                )
            ),
            "DescribeNetworkInterfaces" => format!(
                "<networkInterfaceSet>{}</networkInterfaceSet><nextToken>more</nextToken>",
                item(
                    "<networkInterfaceId>eni-1</networkInterfaceId><attachment><instanceId>i-1</instanceId></attachment>"
                )
            ),
            "DescribeInstances" => return Err("UnauthorizedOperation"),
            "DescribeNatGateways" => {
                format!("<natGatewaySet>{}</natGatewaySet>", item("<natGatewayId>nat-1</natGatewayId>"))
            }
            "DescribeSubnets" => "<subnetSet/>".into(),
            "DescribeInternetGateways" => format!(
                "<internetGatewaySet>{}</internetGatewaySet>",
                item("<internetGatewayId>igw-1</internetGatewayId>")
            ),
            "DescribeEgressOnlyInternetGateways" => {
                let gateway = |id: &str, vpc: &str| {
                    item(&format!(
                        "<egressOnlyInternetGatewayId>{id}</egressOnlyInternetGatewayId><attachmentSet><item>\
                         <vpcId>{vpc}</vpcId></item></attachmentSet>"
                    ))
                };
                let all = [gateway("eigw-1", "vpc-1"), gateway("eigw-2", "vpc-2")].concat();
                format!("<egressOnlyInternetGatewaySet>{all}</egressOnlyInternetGatewaySet>")
            }
            "DescribeVpnGateways" => {
                format!("<vpnGatewaySet>{}</vpnGatewaySet>", item("<vpnGatewayId>vgw-1</vpnGatewayId>"))
            }
            "DescribeVpcEndpoints" => {
                format!("<vpcEndpointSet>{}</vpcEndpointSet>", item("<vpcEndpointId>vpce-1</vpcEndpointId>"))
            }
            "DescribeSecurityGroups" => {
                let group = |id: &str, name: &str| {
                    item(&format!("<groupId>{id}</groupId><groupName>{name}</groupName>"))
                };
                let all = [group("sg-1", "default"), group("sg-2", "web")].concat();
                format!("<securityGroupInfo>{all}</securityGroupInfo>")
            }
            "DescribeRouteTables" => {
                let table = |id: &str, main: &str| {
                    item(&format!(
                        "<routeTableId>{id}</routeTableId><associationSet><item><main>{main}</main></item></associationSet>"
                    ))
                };
                format!(
                    "<routeTableSet>{}</routeTableSet>",
                    [table("rtb-1", "true"), table("rtb-2", "false")].concat()
                )
            }
            "DescribeNetworkAcls" => {
                let list = |id: &str, default: &str| {
                    item(&format!("<networkAclId>{id}</networkAclId><default>{default}</default>"))
                };
                format!(
                    "<networkAclSet>{}</networkAclSet>",
                    [list("acl-1", "true"), list("acl-2", "false")].concat()
                )
            }
            "DescribeVpcPeeringConnections" if asked["Filter.1.Name"].starts_with("accepter") => format!(
                "<vpcPeeringConnectionSet>{}</vpcPeeringConnectionSet>",
                item("<vpcPeeringConnectionId>pcx-1</vpcPeeringConnectionId>")
            ),
            "DescribeVpcPeeringConnections" => "<vpcPeeringConnectionSet/>".into(),
            "DescribeVpcs" => format!(
                "<vpcSet>{}</vpcSet>",
                item("<vpcId>vpc-1</vpcId><tagSet><item><key>Name</key><value>lab</value></item></tagSet>")
            ),
            _ => return Err("InvalidAction"),
        })
    });
    let managed = managed(&ec2).await;
    let network = managed.client.scope().id(REGION, Kind::Network, "vpc-1").into();
    let error = prepare(&managed, &Action::DeleteNetwork { network }, None, None).await.unwrap_err();
    let said = error.chain();
    for used in [
        "lab (vpc-1)",
        "instance i-1",
        "interface eni-2, \"a load balancer\"",
        "NAT gateway nat-1",
        "internet gateway igw-1",
        "egress-only gateway eigw-1",
        "VPN gateway vgw-1",
        "endpoint vpce-1",
        "security group web (sg-2)",
        "route table rtb-2",
        "network ACL acl-2",
        "peering pcx-1",
    ] {
        assert!(said.contains(used), "{used}: {said}");
    }
    for other in ["eigw-2", "sg-1", "rtb-1", "acl-1", "eni-1"] {
        assert!(!said.contains(other), "{other}: {said}");
    }
    assert!(ec2.calls("DeleteVpc").is_empty());
}

#[tokio::test]
async fn hibernation_is_a_suspension_of_what_was_made_for_it() {
    let lab = Lab::new(World { hibernation: true, ..World::running() }).await;
    let (operation, ended) = lab.run(&Action::Suspend { instance: lab.web().into() }).await;
    ended.unwrap();
    assert_eq!(operation.phase, Phase::Done);
    assert_eq!(lab.client().instance(&lab.web()).await.unwrap().state(), State::Suspended);
    let stop = Action::Stop { instance: lab.web().into(), how: Stop::default() };
    let error = lab.client().perform(&stop, Token::random()).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Conflict && error.chain().contains("kept on its disk"),
        "{}",
        error.chain()
    );
    let (_, ended) = lab.run(&Action::Resume { instance: lab.web().into() }).await;
    ended.unwrap();
    assert_eq!(lab.client().instance(&lab.web()).await.unwrap().state(), State::Running);

    let lab = Lab::new(World::running()).await;
    let now = lab.client().instance(&lab.web()).await.unwrap();
    let wanted = Action::Suspend { instance: lab.web().into() };
    let error = prepare(&lab.managed, &wanted, Some(&now), None).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unsupported && error.chain().contains("hibernation=true"),
        "{}",
        error.chain()
    );
    assert!(lab.ec2.calls("StopInstances").is_empty());
}

#[tokio::test]
async fn force_asks_first_where_there_is_time() {
    let lab = Lab::new(World { deaf: true, ..World::running() }).await;
    let how = Stop { grace: Span(Duration::from_secs(1)), force: true, ..Stop::default() };
    let (operation, ended) = lab.run(&Action::Stop { instance: lab.web().into(), how }).await;
    ended.unwrap();
    let notes: Vec<_> = operation.notes().collect();
    assert_eq!(notes, ["it was stopped the hard way"]);
    let stops = lab.ec2.calls("StopInstances");
    let real = stops.iter().filter(|asked| !asked.contains_key("DryRun"));
    let forces: Vec<_> = real.map(|asked| asked.get("Force").cloned()).collect();
    assert_eq!(forces, [None, Some("true".to_owned())]);
    let signal = Stop { signal: Some("TERM".into()), ..Stop::default() };
    let wanted = Action::Stop { instance: lab.web().into(), how: signal };
    assert_eq!(lab.client().perform(&wanted, Token::random()).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn what_is_not_permitted_is_no_plan() {
    let lab = Lab::new(World { denied: "StopInstances", ..World::running() }).await;
    let now = lab.client().instance(&lab.web()).await.unwrap();
    let wanted = Action::Stop { instance: lab.web().into(), how: Stop::default() };
    let error = prepare(&lab.managed, &wanted, Some(&now), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.chain().contains("policy"), "{}", error.chain());
    assert_eq!(lab.world.lock().state, "running");
    lab.world.lock().denied = "";
    let plan = prepare(&lab.managed, &wanted, Some(&now), None).await.unwrap().plan;
    assert!(plan.permission_checked);
}

#[tokio::test]
async fn a_throttle_passes_and_a_limit_of_the_day_does_not() {
    let lab = Lab::new(World { throttled: 2, ..World::running() }).await;
    assert_eq!(lab.client().instance(&lab.web()).await.unwrap().state(), State::Running);
    let volume = lab.client().scope().id(REGION, Kind::Volume, "vol-1").into();
    let change = VolumeChange { class: Some("gp3".into()), ..VolumeChange::default() };
    let error =
        lab.client().perform(&Action::ChangeVolume { volume, change }, Token::random()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Quota);
    assert_eq!(lab.ec2.calls("ModifyVolume").len(), 1, "it is not tried again");
}

#[tokio::test]
async fn a_list_is_read_to_its_end_and_one_bad_item_is_one() {
    let item = |id: &str, state: &str| {
        let id = if id.is_empty() { String::new() } else { format!("<instanceId>{id}</instanceId>") };
        format!(
            "<item>{id}<instanceState><name>{state}</name></instanceState><instanceType>x9.old</instanceType></item>"
        )
    };
    let page = |items: &[String], next: &str| {
        let set = format!("<instancesSet>{}</instancesSet>", items.concat());
        format!("<reservationSet><item>{set}</item></reservationSet>{next}")
    };
    let ec2 =
        ToldEc2::start(move |action, asked| match (action, asked.get("NextToken").map(String::as_str)) {
            ("DescribeInstances", None) => {
                let items = [item("i-1", "running"), item("", "running"), item("i-2", "terminated")];
                Ok(page(&items, "<nextToken>more</nextToken>"))
            }
            ("DescribeInstances", Some("more")) => {
                Ok(page(&[item("i-3", "dreaming")], "<nextToken></nextToken>"))
            }
            ("DescribeInstanceTypes", _) => Ok("<instanceTypeSet/>".into()),
            _ => Err("InvalidAction"),
        });
    let managed = managed(&ec2).await;
    let listing = managed.client.list::<Instance>(REGION, &|_| ()).await;
    let states: Vec<_> = listing.items.iter().map(|one| (one.id.native_id.as_str(), one.state())).collect();
    assert_eq!(states, [("i-1", State::Running), ("i-3", State::Unknown)]);
    assert_eq!(listing.items[1].status.provider_state, "dreaming");
    assert_eq!(
        listing.items[0].size.name.as_deref(),
        Some("x9.old"),
        "a type that EC2 knows no more has its name"
    );
    assert_eq!(listing.items[0].size.vcpus, None);
    assert!(!listing.complete && listing.errors.len() == 1, "{:?}", listing.errors);
    assert!(ec2.calls("DescribeInstances").iter().all(|asked| asked["MaxResults"] == "1000"));
    assert_eq!(ec2.calls("DescribeInstanceTypes").len(), 1, "a type is asked for once");
}
