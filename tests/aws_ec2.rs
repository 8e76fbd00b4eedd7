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

use std::sync::Arc;
use std::time::Duration;

use barograph::manage::{Executor, Guard, Journal, Managed, Operation, Phase, Waiting, prepare};
use barograph::model::resource::{Instance, Kind, ResourceId, State};
use barograph::model::{Secret, Span};
use barograph::provider::aws::{Account, AwsProvider, Config, Endpoints};
use barograph::provider::client::Policy;
use barograph::provider::{Action, Client, InstanceSpec, ResizePolicy, SizeSpec, Stop, Token, VolumeChange};
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
    /// What may not be done.
    denied: &'static str,
    /// How often is throttled.
    throttled: usize,
}

impl World {
    fn running() -> Self {
        Self { state: "running", kind: "t3.micro".into(), ..Self::default() }
    }

    fn instance(&self) -> String {
        let (state, reason, kind, hibernation) = (self.state, self.reason, &self.kind, self.hibernation);
        format!(
            "<item><instanceId>{WEB}</instanceId><imageId>ami-1</imageId><instanceState><code>0</code><name>{state}</name>\
             </instanceState><stateReason><code>{reason}</code><message>{reason}</message></stateReason>\
             <instanceType>{kind}</instanceType><architecture>x86_64</architecture><rootDeviceType>ebs</rootDeviceType>\
             <hibernationOptions><configured>{hibernation}</configured></hibernationOptions>\
             <tagSet><item><key>Name</key><value>web</value></item></tagSet></item>"
        )
    }

    fn answer(&mut self, action: &str, asked: &Asked) -> Answer {
        if self.throttled > 0 {
            self.throttled -= 1;
            return Err("RequestLimitExceeded");
        }
        if self.denied == action {
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
            "DescribeImages" => Ok(
                "<imagesSet><item><imageId>ami-1</imageId><architecture>x86_64</architecture></item></imagesSet>".into(),
            ),
            "RunInstances" => {
                let token = asked["ClientToken"].clone();
                if self.token.get_or_insert_with(|| token.clone()) != &token {
                    return Err("IdempotentParameterMismatch");
                }
                if self.state.is_empty() {
                    self.state = "pending";
                    self.kind = asked["InstanceType"].clone();
                }
                Ok(format!("<instancesSet>{}</instancesSet>", self.instance()))
            }
            "StartInstances" if self.kind == self.full => Err("InsufficientInstanceCapacity"),
            "StartInstances" => {
                (self.state, self.reason) = ("running", "");
                Ok(String::new())
            }
            "StopInstances" => {
                let is = |name: &str| asked.get(name).is_some_and(|value| value == "true");
                self.state = if self.deaf && !is("Force") { "stopping" } else { "stopped" };
                self.reason =
                    if is("Hibernate") { "Client.UserInitiatedHibernate" } else { "Client.UserInitiatedShutdown" };
                Ok(String::new())
            }
            "ModifyInstanceAttribute" => {
                self.kind = asked["InstanceType.Value"].clone();
                Ok(String::new())
            }
            "ModifyVolume" => Err("VolumeModificationRateExceeded"),
            "DescribeVolumes" => Ok("<volumeSet><item><volumeId>vol-1</volumeId><size>1</size></item></volumeSet>".into()),
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

    async fn run(&self, wanted: &Action) -> (Operation, Result<()>) {
        let now = self.client().instance(&self.web()).await.unwrap();
        let prepared = prepare(&self.managed, wanted, Some(&now), None).await.unwrap();
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
    let forces: Vec<_> =
        lab.ec2.calls("StopInstances").iter().map(|asked| asked.get("Force").cloned()).collect();
    let asked: Vec<_> = forces.into_iter().skip_while(|force| force.is_none()).collect();
    assert_eq!(asked, [Some("true".to_owned())]);
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
