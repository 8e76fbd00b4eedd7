//! Managing containers on a real containerd with runc: see `tests/rigs/containerd.sh`.
//!
//! One test, because its steps share a daemon and disturb it one after the other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use barograph::ErrorKind;
use barograph::model::resource::{Instance, Kind, ResourceId, State};
use barograph::model::{Size, Span};
use barograph::provider::containerd::{Config, ContainerdProvider};
use barograph::provider::{
    Action, Consents, InstanceSpec, Inventory, Lifecycle, Listing, Provider, ResizePolicy, SizeSpec, Stop,
    Token,
};
use futures::StreamExt;

const IMAGE: &str = "rig.local/busybox:1";
const MIB: u64 = 1 << 20;

/// A daemon without containers, ended with all that the test left.
struct Rig {
    state: tempfile::TempDir,
    one: String,
    two: String,
}

impl Rig {
    fn start() -> Self {
        let state = tempfile::Builder::new().prefix("barograph-ctr").tempdir_in("/tmp").unwrap();
        let process = std::process::id();
        let rig = Self { state, one: format!("test-{process}.one"), two: format!("test-{process}.two") };
        rig.run("start", &[]);
        rig
    }

    fn run(&self, command: &str, arguments: &[&str]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/containerd.sh");
        let output =
            Command::new(script).arg(command).arg(self.state.path()).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{command} {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Stops or continues the shim of a container in the first namespace; another may have one of the same name.
    fn shim(&self, command: &str, name: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/containerd.sh");
        let mut script = Command::new(script);
        let done =
            script.env("RIG_NAMESPACE", &self.one).arg(command).arg(self.state.path()).arg(name).status();
        assert!(done.unwrap().success(), "{command} {name}");
    }

    fn ctr(&self, arguments: &[&str]) -> String {
        self.run("ctr", &[&["-n", &self.one], arguments].concat())
    }

    fn provider(&self) -> ContainerdProvider {
        let socket = self.state.path().join("containerd.sock").display().to_string();
        let sizes = self.state.path().join("sizes.yaml");
        let long = "x".repeat(5000);
        fs::write(
            &sizes,
            format!("small: {{ vcpus: 0.5, memory: 64MiB }}\n? {long}\n: {{ vcpus: 0.1, memory: 96MiB }}\n"),
        )
        .unwrap();
        ContainerdProvider::new(&Config { socket, sizes: Some(sizes), ..Config::default() }).unwrap()
    }

    fn archive(&self) -> PathBuf {
        self.state.path().join("image.tar")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/containerd.sh");
        let _ = Command::new(script).arg("down").arg(self.state.path()).output();
        for namespace in [&self.one, &self.two] {
            for root in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
                let _ = fs::remove_dir(root.path().join(namespace));
            }
            let _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(namespace));
        }
    }
}

/// What the kernel holds a container to: quota of processor time, and memory.
fn in_force(namespace: &str, id: &str) -> (i64, u64) {
    let read = |file: String| fs::read_to_string(Path::new("/sys/fs/cgroup").join(file));
    let number = |text: String| text.trim().to_owned();
    match read(format!("{namespace}/{id}/cpu.max")) {
        Ok(quota) => {
            let memory = number(read(format!("{namespace}/{id}/memory.max")).unwrap());
            let quota = quota.split_once(' ').unwrap().0.to_owned();
            (quota.parse().unwrap_or(-1), memory.parse().unwrap_or(u64::MAX))
        }
        Err(_) => (
            number(read(format!("cpu/{namespace}/{id}/cpu.cfs_quota_us")).unwrap()).parse().unwrap(),
            number(read(format!("memory/{namespace}/{id}/memory.limit_in_bytes")).unwrap()).parse().unwrap(),
        ),
    }
}

struct Fleet<'a> {
    rig: &'a Rig,
    provider: &'a ContainerdProvider,
}

impl Fleet<'_> {
    fn inventory(&self) -> &dyn Inventory {
        self.provider.inventory()
    }

    fn life(&self) -> &dyn Lifecycle {
        self.provider.lifecycle().unwrap()
    }

    fn id(&self, name: &str) -> ResourceId {
        self.provider.scope().id(&self.rig.one, Kind::Instance, name)
    }

    fn spec(&self, name: &str, script: &str) -> InstanceSpec {
        InstanceSpec {
            name: name.into(),
            location: Some(self.rig.one.clone()),
            image: Some(IMAGE.into()),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            ..InstanceSpec::default()
        }
    }

    async fn read(&self, name: &str) -> Instance {
        self.inventory().instance(&self.id(name)).await.unwrap()
    }

    async fn list(&self, namespace: &str) -> Listing<Instance> {
        let mut listing = Listing::default();
        let mut pages = self.inventory().instances(namespace);
        while let Some(page) = pages.next().await {
            listing.add(page.unwrap());
        }
        listing
    }

    async fn run(&self, spec: &InstanceSpec) -> Instance {
        self.life().create(spec, Token::random()).await.unwrap();
        assert!(self.life().start(&self.id(&spec.name), Token::random()).await.unwrap().changed);
        self.read(&spec.name).await
    }

    async fn resize(&self, name: &str, size: SizeSpec) -> barograph::Result<barograph::provider::Done> {
        self.life().resize(&self.id(name), &size, ResizePolicy::LiveOnly, Token::random()).await
    }

    /// The kernel may not get a busy container to stand still at once: the layers above a provider would try again.
    async fn suspend(&self, name: &str) -> bool {
        for _ in 0..10 {
            match self.life().suspend(&self.id(name), Token::random()).await {
                Ok(done) => return done.changed,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
        }
        panic!("{name} cannot be suspended");
    }

    async fn delete(&self, name: &str, running: bool) -> barograph::Result<barograph::provider::Done> {
        let consents = Consents { running, ..Consents::default() };
        self.life().delete(&self.id(name), consents, Token::random()).await
    }

    async fn until(&self, name: &str, state: State) -> Instance {
        let began = Instant::now();
        loop {
            let now = self.read(name).await;
            if now.state() == state {
                return now;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{name} is {:?}, not {state}", now.status);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn size(vcpus: &str, mib: u64) -> SizeSpec {
    SizeSpec { vcpus: Some(vcpus.parse().unwrap()), memory_bytes: Some(mib * MIB), ..SizeSpec::default() }
}

fn stop(grace: u64, force: bool, signal: Option<&str>) -> Stop {
    Stop { grace: Span::seconds(grace), force, signal: signal.map(Into::into), keep_allocated: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_are_managed_from_their_image_to_their_end() {
    let rig = Rig::start();
    let provider = rig.provider();
    let fleet = Fleet { rig: &rig, provider: &provider };
    images(&fleet).await;
    creation(&fleet).await;
    sizes(&fleet).await;
    suspension(&fleet).await;
    endings(&fleet).await;
    hung_shim(&fleet).await;
    failures_leave_nothing(&fleet).await;
    daemon_gone(&fleet).await;
    deletion(&fleet).await;
}

async fn images(fleet: &Fleet<'_>) {
    let images = fleet.provider.images().unwrap();
    let archive = fleet.rig.archive();
    let import = async |file: &Path, namespace: &str, name: Option<&str>| {
        images.import(&file.display().to_string(), Some(namespace), name, Token::random()).await
    };
    // One byte of a layer is wrong.
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let damaged = fleet.rig.state.path().join("damaged.tar");
    fs::write(&damaged, bytes).unwrap();
    let error = import(&damaged, &fleet.rig.one, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(fleet.rig.ctr(&["images", "ls", "-q"]).trim(), "");

    let done = import(&archive, &fleet.rig.one, None).await.unwrap();
    assert_eq!((done.changed, done.made.unwrap().native_id.as_str()), (true, IMAGE));
    assert!(!import(&archive, &fleet.rig.one, None).await.unwrap().changed, "the same again");
    // A plan looks at what is there, so that its way back takes nothing away that was there before.
    let plan = async |name: Option<&str>| {
        let (archive, location) = (archive.display().to_string(), Some(fleet.rig.one.clone()));
        let wanted = Action::ImportImage { archive, location, name: name.map(Into::into) };
        fleet.provider.plan(&wanted, None).await.unwrap()
    };
    assert!(plan(None).await.already.unwrap().contains("there already"));
    let new = plan(Some("new:1")).await;
    assert_eq!(new.steps[0].undo.len(), 1, "{new}");
    assert!(new.steps[0].undo[0].to_string().contains("docker.io/library/new:1"), "{new}");
    let done = import(&archive, &fleet.rig.two, Some("other:2")).await.unwrap();
    assert_eq!(done.made.unwrap().native_id, "docker.io/library/other:2");
    let mut pages = fleet.inventory().images(&fleet.rig.one);
    let page = pages.next().await.unwrap().unwrap();
    assert_eq!(page.items.len(), 1);
    let image = &page.items[0];
    assert_eq!((image.name.as_str(), image.architecture.as_deref()), (IMAGE, Some(std::env::consts::ARCH)));
    assert!(image.size_bytes.unwrap() > MIB && image.digest.as_ref().unwrap().starts_with("sha256:"));
    // Both layers are snapshots, one upon the other, and containerd's own check finds all content.
    assert_eq!(fleet.rig.ctr(&["snapshots", "ls"]).lines().count(), 3);
    let check = fleet.rig.ctr(&["images", "check"]);
    assert!(check.contains("complete (3/3)") && check.trim_end().ends_with("true"), "{check}");
    // What is kept does not depend on the lease any more.
    assert_eq!(fleet.rig.ctr(&["leases", "ls", "-q"]).trim(), "");
    let mut pages = fleet.inventory().regions();
    let regions: Vec<_> = pages.next().await.unwrap().unwrap().items;
    for namespace in [&fleet.rig.one, &fleet.rig.two] {
        assert!(regions.iter().any(|region| region.id.native_id == *namespace));
    }
}

async fn creation(fleet: &Fleet<'_>) {
    let spec = InstanceSpec {
        environment: vec!["GREETING=hello there".into()],
        tags: [("app".to_owned(), "web".to_owned())].into(),
        size: SizeSpec { name: Some("small".into()), ..SizeSpec::default() },
        options: [("user".to_owned(), "web".to_owned())].into(),
        // 16 MiB of its own, so that it cannot be made smaller than that.
        ..fleet.spec(
            "web",
            "x=$(dd if=/dev/zero bs=1M count=16 2>/dev/null | tr '\\0' a); while :; do sleep 1; done",
        )
    };
    let token = Token::random();
    let done = fleet.life().create(&spec, token).await.unwrap();
    assert_eq!(done.made, Some(fleet.id("web")));
    let again = fleet.life().create(&spec, token).await.unwrap();
    assert_eq!(again.made, done.made, "the same call made twice");
    let error = fleet.life().create(&spec, Token::random()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");

    let made = fleet.read("web").await;
    assert_eq!((made.state(), made.status.provider_state.as_str()), (State::Stopped, "no task"));
    assert_eq!((made.size.name.as_deref(), made.size.memory_bytes), (Some("small"), Some(64 * MIB)));
    assert_eq!(made.tags.get("app").map(String::as_str), Some("web"));
    assert_eq!(made.image.as_deref(), Some(IMAGE));
    assert!(fleet.life().start(&fleet.id("web"), Token::random()).await.unwrap().changed);
    assert!(!fleet.life().start(&fleet.id("web"), Token::random()).await.unwrap().changed);
    let running = fleet.read("web").await;
    assert_eq!((running.state(), running.status.reason), (State::Running, None));
    let after = running.started_at.unwrap().0 - made.created_at.unwrap().0;
    assert!((-1_000_000_000..20_000_000_000).contains(&after), "{after}");
    let pid = running.raw["pid"].as_u64().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t1000\t") && status.contains("Gid:\t1001\t"), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"));
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(environment.split('\0').any(|entry| entry == "GREETING=hello there"), "{environment}");
    assert_eq!(in_force(&fleet.rig.one, "web"), (50_000, 64 * MIB));

    // The same id in another namespace is another container.
    let other = InstanceSpec {
        location: Some(fleet.rig.two.clone()),
        image: Some("other:2".into()),
        ..fleet.spec("web", "sleep 1000")
    };
    fleet.life().create(&other, Token::random()).await.unwrap();
    let listing = fleet.list(&fleet.rig.two).await;
    assert_eq!((listing.items.len(), listing.items[0].state()), (1, State::Stopped));
    assert_ne!(listing.items[0].id, fleet.id("web"));
    let listing = fleet.list(&fleet.rig.one).await;
    assert_eq!((listing.items.len(), listing.items[0].state()), (1, State::Running));
}

async fn sizes(fleet: &Fleet<'_>) {
    assert!(fleet.resize("web", size("0.25", 128)).await.unwrap().changed);
    assert_eq!(in_force(&fleet.rig.one, "web"), (25_000, 128 * MIB));
    let now = fleet.read("web").await;
    assert_eq!((now.size.name, now.size.memory_bytes), (None, Some(128 * MIB)));
    assert!(!fleet.resize("web", size("0.25", 128)).await.unwrap().changed);

    // The stored specification cannot be written: the running container goes back.
    let long = SizeSpec { name: Some("x".repeat(5000)), ..SizeSpec::default() };
    let error = fleet.resize("web", long).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(!error.reason().contains("could not be set back"), "{error}");
    assert_eq!(in_force(&fleet.rig.one, "web"), (25_000, 128 * MIB));
    assert_eq!(fleet.read("web").await.size.memory_bytes, Some(128 * MIB));

    // Less memory than it uses: the older control groups refuse that, after the processors are changed.
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        let usage = format!("/sys/fs/cgroup/memory/{}/web/memory.usage_in_bytes", fleet.rig.one);
        while fs::read_to_string(&usage).unwrap().trim().parse::<u64>().unwrap() < 12 * MIB {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let error = fleet.resize("web", size("0.75", 8)).await.unwrap_err();
        assert!(!error.reason().contains("could not be set back"), "{error}");
        assert_eq!(in_force(&fleet.rig.one, "web"), (25_000, 128 * MIB));
        let now = fleet.read("web").await;
        assert_eq!((now.state(), now.size.memory_bytes), (State::Running, Some(128 * MIB)));
    }
    assert_eq!(Size(128 * MIB).to_string(), "128MiB");
}

async fn suspension(fleet: &Fleet<'_>) {
    let id = fleet.id("web");
    assert!(fleet.suspend("web").await);
    assert!(!fleet.suspend("web").await);
    assert_eq!(fleet.read("web").await.state(), State::Suspended);
    assert!(fleet.resize("web", size("0.5", 96)).await.unwrap().changed);
    assert_eq!(in_force(&fleet.rig.one, "web"), (50_000, 96 * MIB));
    assert_eq!(fleet.read("web").await.state(), State::Suspended);
    assert!(fleet.life().resume(&id, Token::random()).await.unwrap().changed);
    assert!(!fleet.life().resume(&id, Token::random()).await.unwrap().changed);
    assert_eq!(fleet.read("web").await.state(), State::Running);
}

async fn endings(fleet: &Fleet<'_>) {
    let id = fleet.id("stubborn");
    fleet.run(&fleet.spec("stubborn", "trap '' TERM; trap 'exit 3' USR1; while :; do sleep 0.1; done")).await;
    // Its trap is set a moment after the start.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    let error = fleet.life().stop(&id, &stop(1, false, None), Token::random()).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5) && error.reason().contains("force"), "{error}");
    assert_eq!(error.retry(), barograph::Retry::Never);
    assert_eq!(fleet.read("stubborn").await.state(), State::Running);
    let done = fleet.life().stop(&id, &stop(1, true, None), Token::random()).await.unwrap();
    assert!(done.changed);
    let now = fleet.read("stubborn").await;
    assert_eq!(now.state(), State::Stopped);
    assert_eq!(now.status.reason.as_deref(), Some("exit 137 (killed by signal 9)"));
    assert!(!fleet.life().stop(&id, &stop(1, true, None), Token::random()).await.unwrap().changed);

    // Stopped, it gets another size with the next start, and a signal of its own ends it in its own way.
    assert!(fleet.resize("stubborn", size("0.5", 32)).await.unwrap().note.unwrap().contains("next start"));
    assert!(fleet.life().start(&id, Token::random()).await.unwrap().changed);
    assert_eq!(in_force(&fleet.rig.one, "stubborn"), (50_000, 32 * MIB));
    assert_eq!(fleet.read("stubborn").await.status.reason, None);
    tokio::time::sleep(Duration::from_millis(500)).await;
    fleet.life().stop(&id, &stop(10, false, Some("SIGUSR1")), Token::random()).await.unwrap();
    assert_eq!(fleet.read("stubborn").await.status.reason.as_deref(), Some("exit 3"));

    // A suspended one hears its signal too.
    assert!(fleet.life().start(&id, Token::random()).await.unwrap().changed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    fleet.suspend("stubborn").await;
    fleet.life().stop(&id, &stop(10, false, Some("USR1")), Token::random()).await.unwrap();
    assert_eq!(fleet.read("stubborn").await.status.reason.as_deref(), Some("exit 3"));

    // One that ends by itself, because it takes more memory than it may.
    let spec = InstanceSpec { size: size("1", 16), ..fleet.spec("greedy", "x=a; while :; do x=$x$x; done") };
    fleet.run(&spec).await;
    let ended = fleet.until("greedy", State::Stopped).await;
    assert_eq!(ended.status.reason.as_deref(), Some("exit 137 (killed by signal 9), out of memory"));
    assert!(
        !fleet
            .life()
            .stop(&fleet.id("greedy"), &stop(1, false, None), Token::random())
            .await
            .unwrap()
            .changed
    );
}

async fn hung_shim(fleet: &Fleet<'_>) {
    fleet.rig.shim("freeze", "web");
    let began = Instant::now();
    let listing = fleet.list(&fleet.rig.one).await;
    let took = began.elapsed();
    let one = fleet.inventory().instance(&fleet.id("web")).await;
    fleet.rig.shim("thaw", "web");
    assert!(took < Duration::from_secs(4), "the list took {took:?}");
    assert_eq!(listing.items.len(), 3);
    for instance in &listing.items {
        let unknown = instance.state() == State::Unknown;
        assert_eq!(unknown, instance.label() == "web", "{} is {:?}", instance.label(), instance.status);
    }
    assert_eq!(listing.errors.len(), 1, "{:?}", listing.errors);
    assert_eq!(listing.errors[0].resource(), Some("web"));
    assert_eq!(one.unwrap().state(), State::Unknown);
    fleet.until("web", State::Running).await;
    assert!(fleet.list(&fleet.rig.one).await.complete);
}

async fn failures_leave_nothing(fleet: &Fleet<'_>) {
    let before = fleet.rig.ctr(&["snapshots", "ls"]);
    let bad = [
        (InstanceSpec { image: Some("none:1".into()), ..fleet.spec("bad", "") }, ErrorKind::NotFound),
        (
            InstanceSpec {
                options: [("user".to_owned(), "nobody".to_owned())].into(),
                ..fleet.spec("bad", "")
            },
            ErrorKind::Invalid,
        ),
        (
            InstanceSpec { tags: [("a".to_owned(), "x".repeat(5000))].into(), ..fleet.spec("bad", "") },
            ErrorKind::Invalid,
        ),
    ];
    for (spec, kind) in bad {
        let error = fleet.life().create(&spec, Token::random()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(fleet.rig.ctr(&["snapshots", "ls"]), before);
    assert_eq!(fleet.rig.ctr(&["leases", "ls", "-q"]).trim(), "");

    // It can be made, but not started.
    let spec = InstanceSpec { command: vec!["/no/such/program".into()], ..fleet.spec("bad", "") };
    fleet.life().create(&spec, Token::random()).await.unwrap();
    let error = fleet.life().start(&fleet.id("bad"), Token::random()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.reason().contains("/no/such/program"), "{error}");
    assert_eq!(fleet.read("bad").await.status.provider_state, "no task");
    fleet.delete("bad", false).await.unwrap();
}

async fn daemon_gone(fleet: &Fleet<'_>) {
    fleet.rig.run("daemon", &["stop"]);
    let error = fleet.inventory().instance(&fleet.id("web")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    fleet.rig.run("daemon", &["start"]);
    assert_eq!(fleet.until("web", State::Running).await.size.memory_bytes, Some(96 * MIB));
}

async fn deletion(fleet: &Fleet<'_>) {
    let error = fleet.delete("web", false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(fleet.read("web").await.state(), State::Running);
    // A suspended one is ended as well.
    fleet.suspend("web").await;
    for (name, running) in [("web", true), ("stubborn", false), ("greedy", false)] {
        assert!(fleet.delete(name, running).await.unwrap().changed);
        assert!(!fleet.delete(name, running).await.unwrap().changed);
        let error = fleet.inventory().instance(&fleet.id(name)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    // Only the image's layers are left, and they go with it.
    let left = fleet.rig.ctr(&["snapshots", "ls"]);
    assert!(left.lines().skip(1).all(|line| line.contains("Committed")), "{left}");
    assert_eq!(fleet.rig.ctr(&["tasks", "ls", "-q"]).trim(), "");
    let images = fleet.provider.images().unwrap();
    let image = fleet.provider.scope().id(&fleet.rig.one, Kind::Image, IMAGE);
    assert!(images.delete(&image, Token::random()).await.unwrap().changed);
    assert!(!images.delete(&image, Token::random()).await.unwrap().changed);
    assert_eq!(fleet.rig.ctr(&["content", "ls", "-q"]).trim(), "");
}
