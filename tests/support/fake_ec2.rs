//! EC2 as far as measuring needs it: descriptions of instances, volumes and types in XML, page by page; and STS as far as
//! taking on a role and saying whose a key is. What there is is set by the test.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;

/// An instance.
#[derive(Debug, Clone)]
pub struct Instance {
    pub id: String,
    pub size: String,
    /// EC2's word.
    pub state: String,
    /// As `User initiated (2026-01-31 12:34:56 GMT)`.
    pub reason: String,
    pub detailed: bool,
    /// Unix seconds.
    pub launched: i64,
    pub tags: Vec<(String, String)>,
    pub volumes: Vec<(String, String)>,
}

impl Instance {
    /// One that runs since ever, with basic monitoring.
    pub fn running(id: &str) -> Self {
        Self {
            id: id.into(),
            size: "m5.large".into(),
            state: "running".into(),
            reason: String::new(),
            detailed: false,
            launched: 1_000_000_000,
            tags: vec![("Name".into(), format!("name-of-{id}"))],
            volumes: Vec::new(),
        }
    }

    /// Stopped or terminated at a time.
    pub fn end(&mut self, state: &str, at: i64) {
        self.state = state.into();
        self.reason =
            format!("User initiated ({} GMT)", stamp(at).replace('T', " ").trim_end_matches(".000Z"));
    }
}

#[derive(Debug, Default)]
struct World {
    accounts: HashMap<String, String>,
    /// By account and region.
    places: HashMap<(String, String), BTreeMap<String, Instance>>,
    /// Actions that are refused, everywhere or in a region, and the code of the refusal.
    refused: BTreeMap<String, &'static str>,
    calls: BTreeMap<String, u64>,
}

/// A running fake, ended with the test.
pub struct Ec2 {
    pub address: SocketAddr,
    world: Arc<Mutex<World>>,
    task: tokio::task::JoinHandle<()>,
}

impl Ec2 {
    pub async fn start() -> Self {
        let world = Arc::<Mutex<World>>::default();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&world));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, world, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Who signs with this access key is this account.
    pub fn add_account(&self, access_key: &str, account: &str) {
        self.world.lock().accounts.insert(access_key.into(), account.into());
    }

    /// Adds or replaces an instance.
    pub fn put(&self, account: &str, region: &str, instance: Instance) {
        let mut world = self.world.lock();
        let place = world.places.entry((account.into(), region.into())).or_default();
        place.insert(instance.id.clone(), instance);
    }

    pub fn change(&self, account: &str, region: &str, id: &str, change: impl FnOnce(&mut Instance)) {
        let mut world = self.world.lock();
        change(world.places.get_mut(&(account.into(), region.into())).unwrap().get_mut(id).unwrap());
    }

    pub fn deny(&self, action: &str, denied: bool) {
        if denied {
            self.refuse(action, "UnauthorizedOperation");
        } else {
            self.world.lock().refused.remove(action);
        }
    }

    /// Until it is not denied any more.
    pub fn refuse(&self, action: &str, code: &'static str) {
        self.world.lock().refused.insert(action.into(), code);
    }

    pub fn calls(&self, action: &str) -> u64 {
        self.world.lock().calls.get(action).copied().unwrap_or(0)
    }
}

impl Drop for Ec2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(world): State<Arc<Mutex<World>>>, headers: HeaderMap, body: String) -> Response {
    let parameters = form(&body);
    let get = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
    let action = get("Action").to_owned();
    let signed = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scope =
        signed.split("Credential=").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
    let mut scope = scope.split('/');
    let (key, region) = (scope.next().unwrap_or_default(), scope.nth(1).unwrap_or_default().to_owned());
    let mut world = world.lock();
    *world.calls.entry(action.clone()).or_default() += 1;
    if action == "AssumeRole" {
        let account = get("RoleArn").split(':').nth(4).unwrap_or_default().to_owned();
        let key = format!("ASIA{account}");
        world.accounts.insert(key.clone(), account);
        return (StatusCode::OK, assumed(&key)).into_response();
    }
    let Some(account) = world.accounts.get(key).cloned() else {
        return refusal("AuthFailure", "AWS was not able to validate the provided access credentials");
    };
    if let Some(code) = world.refused.get(&action).or(world.refused.get(&format!("{action} {region}"))) {
        return refusal(code, "It is refused.");
    }
    if action == "GetCallerIdentity" {
        return (StatusCode::OK, identity(&account)).into_response();
    }
    let empty = BTreeMap::new();
    let place = world.places.get(&(account, region)).unwrap_or(&empty);
    let size: usize = get("MaxResults").parse().unwrap_or(1_000);
    let from: usize = get("NextToken").parse().unwrap_or(0);
    let text = match action.as_str() {
        "DescribeInstances" => {
            let wanted = filters(&parameters);
            let found: Vec<&Instance> =
                place.values().filter(|one| wanted.iter().all(|filter| takes(one, filter))).collect();
            let items = found.iter().skip(from).take(size).map(|instance| self::instance(instance));
            let items = format!(
                "<item><reservationId>r-1</reservationId><instancesSet>{}</instancesSet></item>",
                items.collect::<String>()
            );
            page("DescribeInstances", "reservationSet", &items, from + size, found.len())
        }
        "DescribeVolumes" => {
            let all: Vec<String> = place
                .values()
                .flat_map(|one| one.volumes.iter().map(|(id, kind)| volume(one, id, kind)))
                .collect();
            let items: String = all.iter().skip(from).take(size).cloned().collect();
            page("DescribeVolumes", "volumeSet", &items, from + size, all.len())
        }
        "DescribeInstanceTypes" => {
            let wanted = filters(&parameters);
            let names =
                wanted.iter().filter(|(name, _)| name == "instance-type").flat_map(|(_, names)| names);
            // As EC2 does: of a type that it does not know it says nothing.
            let items: String =
                names.filter(|name| !name.starts_with("z9")).map(|name| size_of(name)).collect();
            page("DescribeInstanceTypes", "instanceTypeSet", &items, 1, 1)
        }
        _ => return refusal("InvalidAction", "The action is not known to this fake."),
    };
    (StatusCode::OK, text).into_response()
}

fn page(action: &str, set: &str, items: &str, end: usize, all: usize) -> String {
    let next = if end < all { format!("<nextToken>{end}</nextToken>") } else { String::new() };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\
         <requestId>req-1</requestId><{set}>{items}</{set}>{next}</{action}Response>"
    )
}

fn refusal(code: &str, message: &str) -> Response {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>{code}</Code>\
         <Message>{message}</Message></Error></Errors><RequestID>req-1</RequestID></Response>"
    );
    (StatusCode::FORBIDDEN, text).into_response()
}

fn assumed(key: &str) -> String {
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser>\
         <AssumedRoleId>A:b</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/a/b</Arn></AssumedRoleUser><Credentials>\
         <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}

fn identity(account: &str) -> String {
    format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>arn:aws:iam::{account}:user/test</Arn><UserId>A</UserId><Account>{account}</Account>\
         </GetCallerIdentityResult></GetCallerIdentityResponse>"
    )
}

fn instance(one: &Instance) -> String {
    let mut text = format!(
        "<item><instanceId>{}</instanceId><instanceState><name>{}</name></instanceState><reason>{}</reason>\
         <instanceType>{}</instanceType><launchTime>{}</launchTime><placement><availabilityZone>zone-a\
         </availabilityZone></placement><monitoring><state>{}</state></monitoring><tagSet>",
        one.id,
        one.state,
        one.reason,
        one.size,
        stamp(one.launched),
        if one.detailed { "enabled" } else { "disabled" },
    );
    for (key, value) in &one.tags {
        write!(text, "<item><key>{key}</key><value>{value}</value></item>").unwrap();
    }
    text + "</tagSet></item>"
}

fn volume(of: &Instance, id: &str, kind: &str) -> String {
    format!(
        "<item><volumeId>{id}</volumeId><status>in-use</status><volumeType>{kind}</volumeType><attachmentSet><item>\
         <volumeId>{id}</volumeId><instanceId>{}</instanceId><status>attached</status><attachTime>{}</attachTime>\
         </item></attachmentSet></item>",
        of.id,
        stamp(of.launched),
    )
}

/// Sizes as the real ones are, as far as tests use them.
fn size_of(name: &str) -> String {
    let (hypervisor, store, burst) = match name.split('.').next().unwrap_or_default() {
        "m3" => ("xen", true, false),
        "t3" => ("nitro", false, true),
        "m5d" => ("nitro", true, false),
        _ => ("nitro", false, false),
    };
    format!(
        "<item><instanceType>{name}</instanceType><hypervisor>{hypervisor}</hypervisor>\
         <instanceStorageSupported>{store}</instanceStorageSupported>\
         <burstablePerformanceSupported>{burst}</burstablePerformanceSupported>\
         <vCpuInfo><defaultVCpus>2</defaultVCpus></vCpuInfo><memoryInfo><sizeInMiB>8192</sizeInMiB></memoryInfo></item>"
    )
}

fn takes(one: &Instance, (name, values): &(String, Vec<String>)) -> bool {
    let of_tag = name.strip_prefix("tag:").and_then(|tag| one.tags.iter().find(|(key, _)| key == tag));
    of_tag.is_some_and(|(_, value)| values.contains(value))
}

fn filters(parameters: &HashMap<String, String>) -> Vec<(String, Vec<String>)> {
    let name = |number: usize| parameters.get(&format!("Filter.{number}.Name")).cloned();
    let filters = (1..).map_while(|number| Some((number, name(number)?)));
    let with_values = filters.map(|(number, name)| {
        let value = |at: usize| parameters.get(&format!("Filter.{number}.Value.{at}")).cloned();
        (name, (1..).map_while(value).collect())
    });
    with_values.collect()
}

fn form(body: &str) -> HashMap<String, String> {
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// As EC2 writes times.
fn stamp(at: i64) -> String {
    let time = chrono::DateTime::from_timestamp(at, 0).unwrap();
    time.format("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}
