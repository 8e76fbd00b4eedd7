//! What EC2 does and moto does not: it knows late what it has made, has no room, hibernates, answers in pages, throttles,
//! forbids, and knows client tokens. Against an EC2 of our own that says what the test tells it to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what failed by panicking"
)]

#[path = "aws_ec2/made.rs"]
mod made;
#[path = "aws_ec2/storage.rs"]
mod storage;
#[path = "support/told_ec2.rs"]
mod told_ec2;
#[path = "aws_ec2/uses.rs"]
mod uses;
#[path = "aws_ec2/world.rs"]
mod world;

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
use told_ec2::ToldEc2;
use world::World;

const REGION: &str = "eu-west-1";
const WEB: &str = "i-0000000000000000a";

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
    let url = Some(ec2.url.clone());
    let endpoints = Endpoints { ec2: url.clone(), sts: url.clone(), pricing: url, ..Endpoints::default() };
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
