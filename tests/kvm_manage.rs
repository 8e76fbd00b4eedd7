//! Management of the kvm provider on a real libvirtd with real guests, made and deleted by the provider itself: see
//! `tests/rigs/kvm.sh`.
//!
//! One test, because its steps share a hypervisor and the machine that emulates the guests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what failed by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are worth seeing with --nocapture")]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use barograph::model::Span;
use barograph::model::resource::{Instance, Network, Region, ResourceId, Snapshot, State, Volume};
use barograph::provider::client::{Client, Listed, Policy};
use barograph::provider::kvm::{Config, KvmCollector, KvmProvider};
use barograph::provider::{
    Action, Collector, Consents, DiskSpec, Done, Downtime, InstanceSpec, KernelSpec, NetworkSpec, Plan,
    ResizePolicy, SizeSpec, SnapshotSpec, Stop, Token, VolumeSpec, Window,
};
use barograph::{ErrorKind, Retry};

const MIB: u64 = 1 << 20;

/// A daemon without guests, taken down at the end.
struct Rig(String);

impl Rig {
    fn up() -> Self {
        let state = std::env::var("BAROGRAPH_KVM_MANAGE_RIG");
        let rig = Self(state.unwrap_or_else(|_| "/tmp/barograph-kvm-m".into()));
        // What an interrupted test left behind is no ground to stand on.
        rig.run(&["down", &rig.0]);
        rig.run(&["bare", &rig.0]);
        rig
    }

    fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rigs/kvm.sh"));
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Self::command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "kvm.sh {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn virsh(&self, arguments: &[&str]) -> String {
        self.run(&[&["virsh", &self.0], arguments].concat())
    }

    /// A number that `virsh` prints behind a word.
    fn figure(&self, arguments: &[&str], word: &str) -> u64 {
        let text = self.virsh(arguments);
        let line = text.lines().find_map(|line| line.trim().strip_prefix(word)).unwrap();
        line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
    }

    fn console(&self, guest: &str) -> String {
        std::fs::read_to_string(format!("{}/{guest}.console", self.0)).unwrap_or_default()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = Self::command(&["down", &self.0]).output();
    }
}

/// A guest whose QEMU process is stopped until this is dropped.
struct Frozen<'a>(&'a Rig, &'a str);

impl<'a> Frozen<'a> {
    fn new(rig: &'a Rig, guest: &'a str) -> Self {
        rig.run(&["freeze", &rig.0, guest]);
        Self(rig, guest)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        let _ = Rig::command(&["thaw", &self.0.0, self.1]).output();
    }
}

struct Lab {
    rig: Rig,
    client: Client,
    host: String,
}

impl Lab {
    async fn new() -> Self {
        let rig = Rig::up();
        let uri = rig.run(&["uri", &rig.0]).trim().to_owned();
        let kvm = KvmProvider::new(&Config { uri, ..Config::default() }).unwrap();
        let client = Client::new(Arc::new(kvm), Arc::default(), Policy::default());
        let regions: Vec<Region> = client.regions().await.items;
        let host = regions[0].id.native_id.clone();
        Self { rig, client, host }
    }

    async fn list<T: Listed>(&self) -> Vec<T> {
        let listing = self.client.list::<T>(&self.host, &|_| ()).await;
        assert!(listing.complete, "{:?}", listing.errors);
        listing.items
    }

    async fn read(&self, id: &ResourceId) -> Instance {
        self.client.instance(id).await.unwrap()
    }

    async fn plan(&self, action: &Action) -> Plan {
        self.client.plan(action, None).await.unwrap()
    }

    /// Carries out a plan, every step twice: the second time nothing is to change, and what this step did is said again.
    async fn run(&self, plan: &Plan) -> Vec<Done> {
        let (token, mut made, mut all) = (Token::random(), Vec::new(), Vec::new());
        for (number, step) in plan.steps.iter().enumerate() {
            let action = step.action.resolved(&made).unwrap();
            let done = self.perform(&action, token.step(number)).await;
            let again = self.perform(&action, token.step(number)).await;
            assert!(!again.changed || again == done, "{action} changed something the second time");
            assert_eq!(again.made, done.made, "{action}");
            made.push(done.made.clone());
            all.push(done);
        }
        all
    }

    async fn perform(&self, action: &Action, token: Token) -> Done {
        self.client.perform(action, token).await.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    async fn does(&self, action: Action) -> Done {
        self.run(&self.plan(&action).await).await.remove(0)
    }

    async fn refused(&self, action: &Action) -> barograph::Error {
        self.client.perform(action, Token::random()).await.unwrap_err()
    }

    fn volume(&self, name: &str, mib: u64) -> VolumeSpec {
        VolumeSpec {
            name: name.into(),
            class: Some("rigpool".into()),
            size_bytes: Some(mib * MIB),
            ..VolumeSpec::default()
        }
    }

    fn spec(&self, name: &str) -> InstanceSpec {
        let size = SizeSpec {
            vcpus: Some(1.into()),
            memory_bytes: Some(128 * MIB),
            max_vcpus: Some(4.into()),
            max_memory_bytes: Some(256 * MIB),
            ..SizeSpec::default()
        };
        let mut spec = InstanceSpec { name: name.into(), size, start: true, ..InstanceSpec::default() };
        // Guests are emulated: nothing here may need the processor's own virtualization.
        spec.options.insert("type".into(), "qemu".into());
        spec.options.insert("serial".into(), format!("{}/{name}.console", self.rig.0));
        spec
    }

    fn kernel(&self) -> KernelSpec {
        KernelSpec {
            kernel: format!("{}/vmlinuz", self.rig.0),
            initrd: Some(format!("{}/initrd.gz", self.rig.0)),
            arguments: Some("console=ttyS0 quiet panic=5 rig.role=managed rig.ip=10.77.0.9".into()),
        }
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(120), "not within two minutes: {what}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_from_its_kernel_to_its_leftovers() {
    let lab = Lab::new().await;
    let guest = it_is_made_and_boots(&lab).await;
    it_goes_back_to_a_snapshot(&lab, &guest).await;
    it_grows_while_it_runs(&lab, &guest).await;
    disks_come_and_go(&lab, &guest).await;
    it_stands_still_and_goes_on(&lab, &guest).await;
    a_stuck_guest_stalls_nobody_else(&lab, &guest).await;
    a_restarted_daemon_is_found_again(&lab).await;
    it_stops_when_it_is_asked(&lab, &guest).await;
    one_that_does_not_hear_is_not_powered_off_unasked(&lab).await;
    one_that_cannot_start_is_stopped(&lab).await;
    an_overlay_keeps_what_it_builds_on(&lab).await;
    what_is_not_agreed_to_stays_behind(&lab, &guest).await;
    lab.client.close().await;
}

async fn it_is_made_and_boots(lab: &Lab) -> ResourceId {
    let network = NetworkSpec { name: "lab".into(), mode: Some("isolated".into()), ..NetworkSpec::default() };
    lab.does(Action::CreateNetwork { spec: network }).await;
    let mut spec = lab.spec("web");
    spec.kernel = Some(lab.kernel());
    spec.disks = vec![DiskSpec::New(lab.volume("web.qcow2", 64))];
    spec.networks = vec!["lab".into()];
    spec.tags.insert("team".into(), "core & <more>".into());
    let plan = lab.plan(&Action::CreateInstance { spec: spec.clone() }).await;
    println!("{plan}");
    let begun = Instant::now();
    let done = lab.run(&plan).await;
    let id = done[1].made.clone().unwrap();
    until("it boots", async || lab.rig.console("web").contains("RIG READY managed")).await;
    println!("made, started and booted in {:?}", begun.elapsed());

    let guests: Vec<Instance> = lab.list().await;
    let web = &guests[0];
    assert_eq!((guests.len(), &web.id), (1, &id));
    assert_eq!(id.native_id, lab.rig.virsh(&["domuuid", "web"]).trim());
    assert_eq!((web.state(), web.status.provider_state.as_str()), (State::Running, "running"));
    assert_eq!(web.status.reason.as_deref(), Some("booted"));
    assert_eq!(web.tags["team"], "core & <more>");
    assert_eq!(web.disks[0].volume.as_ref().unwrap().native_id, "rigpool/web.qcow2");
    let networks: Vec<Network> = lab.list().await;
    assert_eq!(web.interfaces[0].network.as_ref(), Some(&networks[0].id));
    assert!(web.interfaces[0].name.as_ref().unwrap().starts_with("vnet"));
    assert_eq!((web.raw["type"].as_str(), web.size.architecture.as_deref()), (Some("qemu"), Some("x86_64")));
    let taken = lab.client.plan(&Action::CreateInstance { spec }, None).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict, "{taken}");
    let used = lab.refused(&Action::DeleteNetwork { network: networks[0].id.clone().into() }).await;
    assert!(used.to_string().contains("web"), "{used}");
    id
}

async fn it_grows_while_it_runs(lab: &Lab, id: &ResourceId) {
    let resize = |vcpus: u32, memory: u64, policy| Action::Resize {
        instance: id.clone().into(),
        size: SizeSpec { vcpus: Some(vcpus.into()), memory_bytes: Some(memory * MIB), ..SizeSpec::default() },
        policy,
    };
    let plan = lab.plan(&resize(2, 192, ResizePolicy::LiveOnly)).await;
    assert_eq!(plan.downtime, Downtime::None);
    lab.run(&plan).await;
    assert_eq!(lab.rig.virsh(&["vcpucount", "web", "--current", "--live"]).trim(), "2");
    assert_eq!(lab.rig.virsh(&["vcpucount", "web", "--current", "--config"]).trim(), "2");
    until("the balloon follows", async || {
        lab.read(id).await.size.memory_bytes == Some(192 * MIB)
            && lab.rig.figure(&["dommemstat", "web"], "actual") == 192 * 1024
    })
    .await;
    let late = SnapshotSpec {
        of: id.clone(),
        name: "late".into(),
        description: None,
        disks_only: false,
        tags: [].into(),
    };
    let refused = lab.refused(&Action::CreateSnapshot { spec: late }).await;
    assert!(refused.to_string().contains("got processors while it ran"), "{refused}");
    let refused = lab.refused(&resize(2, 512, ResizePolicy::LiveOnly)).await;
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("allow-restart"), "{refused}");
    let plan = lab.plan(&resize(2, 320, ResizePolicy::AllowRestart)).await;
    assert_eq!(plan.downtime, Downtime::NextBoot);
    lab.run(&plan).await;
    assert_eq!(lab.read(id).await.size.max_memory_bytes, Some(256 * MIB), "not before its next start");
}

async fn disks_come_and_go(lab: &Lab, id: &ResourceId) {
    let spec = lab.volume("data.qcow2", 32);
    let data = lab.does(Action::CreateVolume { spec }).await.made.unwrap();
    let (volume, instance) = (|| data.clone().into(), || id.clone().into());
    lab.does(Action::AttachVolume { volume: volume(), instance: instance(), device: None }).await;
    for view in [&["domblklist", "web"][..], &["domblklist", "web", "--inactive"]] {
        let disks = lab.rig.virsh(view);
        assert!(disks.lines().any(|line| line.contains("vdb") && line.contains("data.qcow2")), "{disks}");
    }
    let held = lab.refused(&Action::DeleteVolume { volume: volume() }).await;
    assert!(held.kind() == ErrorKind::Conflict && held.to_string().contains("web"), "{held}");
    lab.does(Action::GrowVolume { volume: volume(), size_bytes: 48 * MIB }).await;
    assert_eq!(lab.rig.figure(&["domblkinfo", "web", "vdb"], "Capacity"), 48 * MIB);
    let shrunk = lab.refused(&Action::GrowVolume { volume: volume(), size_bytes: 8 * MIB }).await;
    assert_eq!(shrunk.kind(), ErrorKind::Invalid);
    let begun = Instant::now();
    lab.does(Action::DetachVolume { volume: volume(), instance: instance() }).await;
    println!("the guest let go of its disk in {:?}", begun.elapsed());
    assert!(!lab.rig.virsh(&["domblklist", "web"]).contains("vdb"));
    lab.does(Action::GrowVolume { volume: volume(), size_bytes: 56 * MIB }).await;
    let volumes: Vec<Volume> = lab.list().await;
    let listed = volumes.iter().find(|volume| volume.id == data).unwrap();
    assert_eq!((listed.size_bytes, listed.attached_to.len()), (Some(56 * MIB), 0));
    assert_eq!((listed.format.as_deref(), listed.class.as_deref()), (Some("qcow2"), Some("rigpool")));
    lab.does(Action::DeleteVolume { volume: volume() }).await;
}

async fn it_goes_back_to_a_snapshot(lab: &Lab, id: &ResourceId) {
    let spec = SnapshotSpec {
        of: id.clone(),
        name: "before".into(),
        description: Some("kept by a test".into()),
        disks_only: false,
        tags: [].into(),
    };
    let disks = SnapshotSpec { name: "disks".into(), disks_only: true, ..spec.clone() };
    let plan = lab.plan(&Action::CreateSnapshot { spec }).await;
    assert_eq!(plan.downtime, Downtime::Pause);
    let made = lab.run(&plan).await.remove(0).made.unwrap();
    let refused = lab.client.perform(&Action::CreateSnapshot { spec: disks }, Token::random()).await;
    // Newer versions of libvirt can do it.
    assert!(refused.is_ok() || refused.unwrap_err().kind() == ErrorKind::Unsupported);
    let snapshots: Vec<Snapshot> = lab.list().await;
    let before = snapshots.iter().find(|snapshot| snapshot.id == made).unwrap();
    assert_eq!((before.name.as_deref(), before.of.as_ref()), (Some("before"), Some(id)));
    assert_eq!(before.provider_state.as_deref(), Some("running"));
    lab.perform(&Action::Stop { instance: id.clone().into(), how: forced(1) }, Token::random()).await;
    lab.does(Action::RevertSnapshot { snapshot: made.clone().into() }).await;
    assert_eq!(lab.read(id).await.state(), State::Running, "with the memory that it had");
    lab.does(Action::DeleteSnapshot { snapshot: made.into() }).await;
    assert!(lab.list::<Snapshot>().await.is_empty());
}

fn forced(seconds: u64) -> Stop {
    Stop { grace: Span::seconds(seconds), force: true, ..Stop::default() }
}

async fn it_stands_still_and_goes_on(lab: &Lab, id: &ResourceId) {
    let instance = || id.clone().into();
    lab.does(Action::Suspend { instance: instance() }).await;
    let still = lab.read(id).await;
    assert_eq!((still.state(), still.status.reason.as_deref()), (State::Suspended, Some("user")));
    lab.does(Action::Resume { instance: instance() }).await;
    assert_eq!(lab.read(id).await.state(), State::Running);
}

/// A call into a guest that does not answer hangs; everything that is not about this guest goes on.
async fn a_stuck_guest_stalls_nobody_else(lab: &Lab, id: &ResourceId) {
    let other = InstanceSpec { start: false, ..lab.spec("other") };
    let plan = lab.plan(&Action::CreateInstance { spec: other }).await;
    let other = lab.run(&plan).await[0].made.clone().unwrap();
    let frozen = Frozen::new(&lab.rig, "web");
    let suspend = Action::Suspend { instance: id.clone().into() };
    let stuck: Vec<_> = (0..6)
        .map(|_| {
            let (client, suspend) = (lab.client.clone(), suspend.clone());
            tokio::spawn(async move { client.perform(&suspend, Token::random()).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    let guests: Vec<Instance> = lab.list().await;
    assert_eq!(guests.len(), 2);
    let listed = begun.elapsed();
    lab.perform(&Action::Start { instance: other.clone().into() }, Token::random()).await;
    lab.perform(&Action::Stop { instance: other.clone().into(), how: forced(0) }, Token::random()).await;
    println!("beside six stuck calls: listed in {listed:?}, started and stopped in {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(stuck.iter().all(|call| !call.is_finished()), "the calls were stuck all the time");
    drop(frozen);
    for call in stuck {
        call.await.unwrap().unwrap();
    }
    lab.perform(&Action::Resume { instance: id.clone().into() }, Token::random()).await;
    lab.does(Action::DeleteInstance { instance: other.into(), consents: Consents::default() }).await;
}

async fn a_restarted_daemon_is_found_again(lab: &Lab) {
    lab.rig.run(&["daemon", &lab.rig.0, "stop"]);
    let listing = lab.client.list::<Instance>(&lab.host, &|_| ()).await;
    assert!(!listing.complete, "a daemon that is gone has no guests, and does not say that there are none");
    assert_eq!(listing.errors[0].kind(), ErrorKind::Unavailable, "{}", listing.errors[0].chain());
    lab.rig.run(&["daemon", &lab.rig.0, "start"]);
    assert_eq!(lab.list::<Instance>().await.len(), 1);
}

async fn it_stops_when_it_is_asked(lab: &Lab, id: &ResourceId) {
    let begun = Instant::now();
    let how = Stop { grace: Span::seconds(90), ..Stop::default() };
    lab.does(Action::Stop { instance: id.clone().into(), how }).await;
    println!("stopped by itself in {:?}", begun.elapsed());
    let stopped = lab.read(id).await;
    assert_eq!((stopped.state(), stopped.status.reason.as_deref()), (State::Stopped, Some("shutdown")));
    assert_eq!(stopped.size.max_memory_bytes, Some(320 * MIB), "what waited for its next start");
}

async fn one_that_does_not_hear_is_not_powered_off_unasked(lab: &Lab) {
    // Without anything to boot the firmware waits, and hears no button.
    let spec = InstanceSpec { disks: vec![DiskSpec::New(lab.volume("deaf.qcow2", 8))], ..lab.spec("deaf") };
    let plan = lab.plan(&Action::CreateInstance { spec }).await;
    let id = lab.run(&plan).await[1].made.clone().unwrap();
    let how = Stop { grace: Span::seconds(2), ..Stop::default() };
    let begun = Instant::now();
    let refused = lab.refused(&Action::Stop { instance: id.clone().into(), how }).await;
    assert!((2.0..10.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("still runs") && refused.to_string().contains("force"), "{refused}");
    assert_eq!(lab.read(&id).await.state(), State::Running);
    what_is_measured_is_what_is_listed(lab, &id).await;
    it_has_what_it_had_when_it_does_not_agree(lab, &id).await;
    let done = lab.does(Action::Stop { instance: id.clone().into(), how: forced(1) }).await;
    assert!(done.note.unwrap().contains("powered off"));
    assert_eq!(lab.read(&id).await.status.reason.as_deref(), Some("destroyed"));
    let consents = Consents { volumes: true, ..Consents::default() };
    let plan = lab.plan(&Action::DeleteInstance { instance: id.into(), consents }).await;
    lab.run(&plan).await;
}

/// A guest whose memory is kept in a file is off for libvirt, and suspended for us, wherever we say it.
async fn what_is_measured_is_what_is_listed(lab: &Lab, id: &ResourceId) {
    lab.rig.virsh(&["managedsave", "deaf"]);
    let listed = lab.read(id).await;
    assert_eq!(listed.state(), State::Suspended);
    let uri = lab.client.scope().account.clone();
    let collector = KvmCollector::new(&Config { uri, ..Config::default() }).unwrap();
    let shard = collector.discover().await.unwrap().remove(0);
    let collection = collector.collect(&shard, Window { start: 0, end: 1_000_000_000 }).await.unwrap();
    collector.close().await;
    let status = collection.batches.iter().find(|batch| batch.table() == "status").unwrap();
    let row = (0..status.rows()).find(|row| status.tag("resource_id", *row) == Some(&id.native_id)).unwrap();
    let text = |column: &str| status.records().column_by_name(column).unwrap().as_string::<i32>().value(row);
    assert_eq!(text("state"), "Suspended");
    assert_eq!(text("provider_state"), listed.status.provider_state);
    assert_eq!(Some(text("reason")), listed.status.reason.as_deref());
    lab.does(Action::Resume { instance: id.clone().into() }).await;
    assert_eq!(lab.read(id).await.state(), State::Running);
}

async fn it_has_what_it_had_when_it_does_not_agree(lab: &Lab, id: &ResourceId) {
    let instance = || id.clone().into();
    lab.does(Action::Suspend { instance: instance() }).await;
    let how = Stop { grace: Span::seconds(2), ..Stop::default() };
    let refused = lab.refused(&Action::Stop { instance: instance(), how }).await;
    assert!(refused.to_string().contains("was suspended again") && !refused.is_partly_done(), "{refused}");
    assert_eq!(lab.read(id).await.state(), State::Suspended);
    lab.does(Action::Resume { instance: instance() }).await;
    let volume = lab.read(id).await.disks[0].volume.clone().unwrap().into();
    let detach = Action::DetachVolume { volume, instance: instance() };
    for _ in 0..2 {
        let refused = lab.refused(&detach).await;
        assert!(refused.to_string().contains("has not let go") && refused.is_partly_done(), "{refused}");
        for view in [&["domblklist", "deaf"][..], &["domblklist", "deaf", "--inactive"]] {
            assert!(lab.rig.virsh(view).contains("deaf.qcow2"), "{view:?}");
        }
    }
}

/// What is wrong with a disk is said of the disk, and a guest that did not start is one that does not run.
async fn one_that_cannot_start_is_stopped(lab: &Lab) {
    let spec = InstanceSpec {
        disks: vec![DiskSpec::New(lab.volume("lost.qcow2", 8))],
        start: false,
        ..lab.spec("lost")
    };
    let plan = lab.plan(&Action::CreateInstance { spec }).await;
    let id = lab.run(&plan).await[1].made.clone().unwrap();
    std::fs::remove_file(lab.rig.virsh(&["vol-path", "lost.qcow2", "rigpool"]).trim()).unwrap();
    let begun = Instant::now();
    let refused = lab.refused(&Action::Start { instance: id.clone().into() }).await;
    println!("{}", refused.chain());
    assert!(refused.reason().contains("lost.qcow2") && refused.retry() == Retry::Never, "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "it is not tried again: {:?}", begun.elapsed());
    let lost = lab.read(&id).await;
    assert_eq!((lost.state(), lost.status.reason.as_deref()), (State::Stopped, Some("failed")));
    lab.does(Action::DeleteInstance { instance: id.into(), consents: Consents::default() }).await;
    lab.rig.virsh(&["pool-refresh", "rigpool"]);
}

async fn an_overlay_keeps_what_it_builds_on(lab: &Lab) {
    let base = lab.does(Action::CreateVolume { spec: lab.volume("base.qcow2", 16) }).await.made.unwrap();
    let spec = InstanceSpec { image: Some(base.native_id.clone()), start: false, ..lab.spec("clone") };
    let plan = lab.plan(&Action::CreateInstance { spec }).await;
    let id = lab.run(&plan).await[1].made.clone().unwrap();
    let clone = lab.read(&id).await;
    assert_eq!(clone.image.as_deref(), Some("rigpool/base.qcow2"));
    let own = clone.disks[0].volume.clone().unwrap();
    assert_eq!(own.native_id, "rigpool/clone.qcow2");
    let info = lab.rig.virsh(&["vol-dumpxml", "clone.qcow2", "rigpool"]);
    assert!(info.contains("<backingStore>") && info.contains("base.qcow2"), "{info}");
    let held = lab.refused(&Action::DeleteVolume { volume: base.clone().into() }).await;
    assert!(held.to_string().contains("clone.qcow2 builds on it"), "{held}");
    // A full copy is larger than its source if that is wanted, and stands alone.
    let copy = VolumeSpec { from: Some(base.clone()), ..lab.volume("copy.qcow2", 24) };
    let copy = lab.does(Action::CreateVolume { spec: copy }).await.made.unwrap();
    let info = lab.rig.virsh(&["vol-dumpxml", "copy.qcow2", "rigpool"]);
    assert!(!info.contains("<backingStore>") && info.contains(&(24 * MIB).to_string()), "{info}");
    lab.does(Action::DeleteVolume { volume: copy.into() }).await;
    let consents = Consents { volumes: true, ..Consents::default() };
    let plan = lab.plan(&Action::DeleteInstance { instance: id.into(), consents }).await;
    assert_eq!((plan.removes.as_slice(), plan.leaves.len()), (&[own][..], 0));
    lab.run(&plan).await;
    lab.does(Action::DeleteVolume { volume: base.into() }).await;
}

async fn what_is_not_agreed_to_stays_behind(lab: &Lab, id: &ResourceId) {
    lab.does(Action::Start { instance: id.clone().into() }).await;
    let delete = |consents| Action::DeleteInstance { instance: id.clone().into(), consents };
    let refused = lab.refused(&delete(Consents::default())).await;
    assert!(refused.kind() == ErrorKind::Conflict && refused.to_string().contains("`running`"), "{refused}");
    let plan = lab.plan(&delete(Consents { running: true, ..Consents::default() })).await;
    println!("{plan}");
    assert_eq!(plan.leaves[0].what, "volume rigpool/web.qcow2");
    assert_eq!(plan.downtime, Downtime::Deleted);
    lab.run(&plan).await;
    assert_eq!(lab.client.instance(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(
        lab.rig.virsh(&["list", "--all", "--name"]).trim(),
        "",
        "nor does it run without a definition"
    );
    let left: Vec<Volume> = lab.list().await;
    let names: Vec<_> = left.iter().map(|volume| volume.id.native_id.as_str()).collect();
    assert_eq!(names, ["rigpool/web.qcow2"]);
    lab.does(Action::DeleteVolume { volume: left[0].id.clone().into() }).await;
    let networks: Vec<Network> = lab.list().await;
    lab.does(Action::DeleteNetwork { network: networks[0].id.clone().into() }).await;
}
