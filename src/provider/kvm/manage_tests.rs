//! Management on libvirt's test driver: a hypervisor inside this process, here one of each test's own.

use std::time::Duration;

use tempfile::TempDir;

use super::error::During;
use super::*;
use crate::ErrorKind;
use crate::model::Span;
use crate::model::resource::{Instance, Kind, ResourceId, State};
use crate::provider::kvm::workers::Limits;
use crate::provider::perform::perform;
use crate::provider::{
    Action, Consents, DiskSpec, Done, Downtime, InstanceSpec, Lifecycle, Listing, NetworkSpec, Networks,
    Pages, Plan, Pricing, Provider, ResizePolicy, SizeSpec, SnapshotSpec, Snapshots, Stop, Target, Token,
    VolumeSpec, Volumes,
};

mod belongings;
mod lists;

const MIB: u64 = 1 << 20;

const NODE: &str = "<node>
  <network><name>default</name><uuid>dd8fe884-6c02-601e-7551-cca97df1c5df</uuid><forward mode='nat'/>
    <bridge name='virbr0'/><ip address='192.168.122.1' netmask='255.255.255.0'/></network>
  <pool type='dir'><name>default</name><uuid>dfe224cb-28fb-8dd0-c4b2-64eb3f0f4566</uuid>
    <target><path>/pool</path></target></pool>
</node>";

const SIZES: &str = "small: { vcpus: 1, memory: 64MiB }\nbig: { vcpus: 4, memory: 256MiB }\n";
const PRICES: &str = "currency: EUR\nvcpu_hour: 0.1\nmemory_gib_hour: 0.04\nvolume_gib_month: 0.73\n";

struct Lab {
    kvm: KvmProvider,
    host: String,
    _folder: TempDir,
}

impl Lab {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let config = Config {
            uri: format!("test://{}", file("node.xml", NODE).display()),
            sizes: Some(file("sizes.yaml", SIZES)),
            prices: Some(file("prices.yaml", PRICES)),
            ..Config::default()
        };
        // Each connection to such a file has a hypervisor of its own, so there is to be one only.
        let limits = Limits { working: 1, most: 1, patience: Duration::from_secs(600) };
        let kvm = KvmProvider::with_limits(&config, limits).unwrap();
        let host = all(kvm.inventory().regions()).await.items.remove(0).id.native_id;
        Self { kvm, host, _folder: folder }
    }

    fn spec(&self, name: &str) -> InstanceSpec {
        let size = SizeSpec {
            name: Some("small".into()),
            max_vcpus: Some(4.into()),
            max_memory_bytes: Some(256 * MIB),
            ..SizeSpec::default()
        };
        InstanceSpec { name: name.into(), size, ..InstanceSpec::default() }
    }

    async fn guest(&self, name: &str) -> ResourceId {
        self.kvm.lifecycle().unwrap().create(&self.spec(name), Token::random()).await.unwrap().made.unwrap()
    }

    async fn running(&self, name: &str) -> ResourceId {
        let id = self.guest(name).await;
        self.kvm.start(&id, Token::random()).await.unwrap();
        id
    }

    async fn read(&self, id: &ResourceId) -> Instance {
        self.kvm.inventory().instance(id).await.unwrap()
    }

    async fn instances(&self) -> Vec<Instance> {
        whole(self.kvm.inventory().instances(&self.host)).await
    }

    async fn volume(&self, name: &str) -> ResourceId {
        let spec = VolumeSpec { name: name.into(), size_bytes: Some(64 * MIB), ..VolumeSpec::default() };
        Volumes::create(&self.kvm, &spec, Token::random()).await.unwrap().made.unwrap()
    }

    /// Carries out a plan, and gives back what its steps did.
    async fn run(&self, plan: &Plan) -> Vec<Done> {
        let (token, mut made, mut all) = (Token::random(), Vec::new(), Vec::new());
        for (number, step) in plan.steps.iter().enumerate() {
            let action = step.action.resolved(&made).unwrap();
            let done = perform(&self.kvm, &action, token.step(number)).await.unwrap();
            made.push(done.made.clone());
            all.push(done);
        }
        all
    }
}

async fn all<T>(mut pages: Pages<'_, T>) -> Listing<T> {
    use futures::StreamExt;
    let mut listing = Listing::default();
    while let Some(page) = pages.next().await {
        listing.add(page.unwrap());
    }
    listing
}

async fn whole<T>(pages: Pages<'_, T>) -> Vec<T> {
    let listing = all(pages).await;
    assert!(listing.complete, "{:?}", listing.errors);
    listing.items
}

fn token() -> Token {
    Token::random()
}

#[tokio::test]
async fn a_guest_lives_and_every_verb_may_be_repeated() {
    let lab = Lab::new().await;
    let kvm = &lab.kvm;
    let (spec, first) = (lab.spec("web"), token());
    let create = |token| Lifecycle::create(kvm, &spec, token);
    let made = create(first).await.unwrap();
    let id = made.made.clone().unwrap();
    assert_eq!((made.changed, id.native_id.as_str()), (true, first.0.to_string().as_str()));
    let again = create(first).await.unwrap();
    assert_eq!(again, made, "what its own token made is made, however often it is asked");
    assert_eq!(create(token()).await.unwrap_err().kind(), ErrorKind::Conflict, "the name is taken");
    let guest = lab.read(&id).await;
    assert_eq!(
        (guest.label(), guest.state(), guest.status.provider_state.as_str()),
        ("web", State::Stopped, "shut off")
    );
    assert_eq!((guest.size.name.as_deref(), guest.size.memory_bytes), (Some("small"), Some(64 * MIB)));
    assert_eq!(guest.size.max_vcpus, Some(4.into()));
    assert!(guest.created_at.is_some());

    for (changed, state) in [(true, State::Running), (false, State::Running)] {
        assert_eq!(kvm.start(&id, token()).await.unwrap().changed, changed);
        assert_eq!(lab.read(&id).await.state(), state);
    }
    for changed in [true, false] {
        assert_eq!(kvm.suspend(&id, token()).await.unwrap().changed, changed);
    }
    assert_eq!(lab.read(&id).await.state(), State::Suspended);
    for changed in [true, false] {
        assert_eq!(kvm.resume(&id, token()).await.unwrap().changed, changed);
    }
    kvm.suspend(&id, token()).await.unwrap();
    assert!(kvm.start(&id, token()).await.unwrap().changed, "a suspended guest is woken by start too");

    let refused = Lifecycle::delete(kvm, &id, Consents::default(), token()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().contains("`running`"), "{refused}");
    for changed in [true, false] {
        assert_eq!(kvm.stop(&id, &Stop::default(), token()).await.unwrap().changed, changed);
    }
    assert_eq!(kvm.suspend(&id, token()).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(kvm.resume(&id, token()).await.unwrap_err().kind(), ErrorKind::Conflict);
    for changed in [true, false] {
        assert_eq!(Lifecycle::delete(kvm, &id, Consents::default(), token()).await.unwrap().changed, changed);
    }
    assert_eq!(kvm.inventory().instance(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(kvm.start(&id, token()).await.unwrap_err().kind(), ErrorKind::NotFound);
    let running = lab.running("other").await;
    Lifecycle::delete(kvm, &running, Consents { running: true, ..Consents::default() }, token())
        .await
        .unwrap();
    assert!(lab.instances().await.is_empty(), "nothing stays without a definition");
}

#[tokio::test]
async fn a_kept_memory_is_not_given_up_unasked() {
    let lab = Lab::new().await;
    let id = lab.running("web").await;
    let saved = id.clone();
    let saved = lab
        .kvm
        .call("save", move |link| link.guest("save", &saved)?.domain.managed_save(0).during("save", "web"));
    saved.await.unwrap();
    let guest = lab.read(&id).await;
    assert_eq!((guest.state(), guest.status.provider_state.as_str()), (State::Suspended, "shut off"));
    assert_eq!(lab.instances().await[0].state(), State::Suspended);
    assert_eq!(lab.kvm.stop(&id, &Stop::default(), token()).await.unwrap_err().kind(), ErrorKind::Conflict);
    let refused = Lifecycle::delete(&lab.kvm, &id, Consents::default(), token()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Protected);
    assert!(refused.to_string().contains("`saved_state`"), "{refused}");
    assert!(!lab.kvm.suspend(&id, token()).await.unwrap().changed);
    assert!(lab.kvm.resume(&id, token()).await.unwrap().changed);
    assert_eq!(lab.read(&id).await.state(), State::Running);
}

#[tokio::test]
async fn a_suspended_guest_that_does_not_stop_is_suspended_again() {
    let lab = Lab::new().await;
    let id = lab.running("web").await;
    lab.kvm.suspend(&id, token()).await.unwrap();
    // This driver stops what is asked to. With no time to be asked in, it is not.
    let never = Stop { grace: Span::seconds(0), ..Stop::default() };
    let refused = lab.kvm.stop(&id, &never, token()).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Conflict && !refused.is_partly_done(), "{refused}");
    assert_eq!(lab.read(&id).await.state(), State::Suspended);
    let woken = id.clone();
    lab.kvm
        .call("wake", move |link| link.guest("wake", &woken)?.domain.resume().during("wake", "web"))
        .await
        .unwrap();
    let again = id.clone();
    let state = lab.kvm.call("stop", move |link| stop::suspend_again(link, &again)).await.unwrap();
    assert_eq!((state, lab.read(&id).await.state()), (State::Suspended, State::Suspended));
    assert!(lab.kvm.stop(&id, &Stop::default(), token()).await.unwrap().changed);
    let state = lab.kvm.call("stop", move |link| stop::suspend_again(link, &id)).await.unwrap();
    assert_eq!(state, State::Stopped, "it has done what it was woken for");
}

#[tokio::test]
async fn a_deletion_that_fails_after_the_power_off_says_so() {
    let lab = Lab::new().await;
    let made = lab.kvm.call("create", |link| {
        // This driver knows no firmware's variables, and refuses to be asked for them.
        let xml = "<domain type='test'><name>web</name><memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type>\
                   <loader readonly='yes' type='pflash'>/l</loader><nvram>/n</nvram></os></domain>";
        let domain = virt::domain::Domain::define_xml(&link.connect, xml).during("create", "web")?;
        Ok(link.id(Kind::Instance, domain.get_uuid_string().during("create", "web")?))
    });
    let id = made.await.unwrap();
    let delete = |consents| Lifecycle::delete(&lab.kvm, &id, consents, token());
    let refused = delete(Consents::default()).await.unwrap_err();
    assert!(!refused.is_partly_done(), "nothing was done: {refused}");
    lab.kvm.start(&id, token()).await.unwrap();
    let refused = delete(Consents { running: true, ..Consents::default() }).await.unwrap_err();
    assert!(refused.is_partly_done(), "it was powered off: {refused}");
    assert_eq!(lab.read(&id).await.state(), State::Stopped);
}

#[tokio::test]
async fn one_without_a_definition_is_gone_when_it_stops() {
    let lab = Lab::new().await;
    let made = lab.kvm.call("create", |link| {
        let xml = "<domain type='test'><name>brief</name><memory>65536</memory><vcpu>1</vcpu>\
                   <os><type>hvm</type></os></domain>";
        let domain = virt::domain::Domain::create_xml(&link.connect, xml, 0).during("create", "brief")?;
        Ok(link.id(Kind::Instance, domain.get_uuid_string().during("create", "brief")?))
    });
    let id = made.await.unwrap();
    let now = lab.read(&id).await;
    let stop = Action::Stop { instance: id.clone().into(), how: Stop::default() };
    let plan = lab.kvm.plan(&stop, Some(&now)).await.unwrap();
    let step = &plan.steps[0];
    assert_eq!((plan.steps.len(), plan.downtime), (1, Downtime::Deleted));
    assert_eq!(
        (step.until, step.can_be_undone()),
        (Some(State::Deleted), false),
        "nothing can start it again"
    );
    assert!(plan.notes[0].contains("no definition"), "{plan}");
    let restart = Action::Restart { instance: id.clone().into(), how: Stop::default() };
    assert_eq!(lab.kvm.plan(&restart, Some(&now)).await.unwrap_err().kind(), ErrorKind::Conflict);
    let size = SizeSpec { vcpus: Some(8.into()), ..SizeSpec::default() };
    let policy = ResizePolicy::AllowStopStart;
    let resize = Action::Resize { instance: id.clone().into(), size, policy };
    let refused = lab.kvm.plan(&resize, Some(&now)).await.unwrap_err();
    assert!(refused.to_string().contains("no definition"), "{refused}");
    lab.run(&plan).await;
    assert_eq!(lab.kvm.inventory().instance(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    let kept = lab.running("kept").await;
    let stop = Action::Stop { instance: kept.into(), how: Stop::default() };
    assert_eq!(lab.kvm.plan(&stop, None).await.unwrap().steps[0].until, Some(State::Stopped));
}

#[tokio::test]
async fn a_size_grows_live_then_at_the_next_start_as_the_policy_says() {
    let lab = Lab::new().await;
    let id = lab.running("web").await;
    let size = |vcpus: u32, memory: u64| SizeSpec {
        vcpus: Some(vcpus.into()),
        memory_bytes: Some(memory * MIB),
        ..SizeSpec::default()
    };
    let resize = |size: SizeSpec, policy| {
        let (kvm, id) = (&lab.kvm, id.clone());
        async move { kvm.resize(&id, &size, policy, token()).await }
    };
    let action = |size: SizeSpec, policy| Action::Resize { instance: id.clone().into(), size, policy };
    use ResizePolicy::{AllowRestart, AllowStopStart, LiveOnly};
    let named = SizeSpec { name: Some("big".into()), ..SizeSpec::default() };
    let plan = lab.kvm.plan(&action(named.clone(), LiveOnly), None).await.unwrap();
    assert_eq!((plan.steps.len(), plan.downtime), (1, Downtime::None));
    // 3 processors at 0.1 and 0.1875 GiB at 0.04.
    assert_eq!(plan.price_delta.unwrap().per_hour.normalize().to_string(), "0.3075");
    assert!(resize(named.clone(), LiveOnly).await.unwrap().changed);
    assert!(!resize(named.clone(), LiveOnly).await.unwrap().changed);
    let guest = lab.read(&id).await;
    assert_eq!((guest.size.vcpus, guest.size.memory_bytes), (Some(4.into()), Some(256 * MIB)));
    assert_eq!(guest.size.name.as_deref(), Some("big"));
    assert!(lab.kvm.plan(&action(named, LiveOnly), None).await.unwrap().already.is_some());

    let larger = || size(8, 512);
    let refused = resize(larger(), LiveOnly).await.unwrap_err();
    assert!(refused.to_string().contains("allow-restart"), "{refused}");
    assert_eq!(
        lab.kvm.plan(&action(larger(), LiveOnly), None).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let plan = lab.kvm.plan(&action(larger(), AllowRestart), None).await.unwrap();
    assert_eq!(plan.downtime, Downtime::NextBoot);
    let done = lab.run(&plan).await;
    assert!(done[0].note.as_ref().unwrap().contains("next start"));
    assert_eq!(lab.read(&id).await.size.vcpus, Some(4.into()), "not yet");
    let plan = lab.kvm.plan(&action(size(6, 1024), AllowStopStart), None).await.unwrap();
    let verbs: Vec<_> = plan.steps.iter().map(|step| step.action.verb()).collect();
    assert_eq!((verbs, plan.downtime), (vec!["stop", "resize", "start"], Downtime::StopStart));
    assert!(
        matches!(plan.steps[1].undo.first(), Some(Action::Resize { size, .. }) if size.max_vcpus == Some(8.into()))
    );
    lab.run(&plan).await;
    let guest = lab.read(&id).await;
    assert_eq!((guest.state(), guest.size.vcpus), (State::Running, Some(6.into())));
    assert_eq!(guest.size.max_memory_bytes, Some(1024 * MIB));
    lab.kvm.suspend(&id, token()).await.unwrap();
    let plan = lab.kvm.plan(&action(size(9, 1024), AllowStopStart), None).await.unwrap();
    let verbs = |actions: &mut dyn Iterator<Item = &Action>| actions.map(Action::verb).collect::<Vec<_>>();
    let steps = verbs(&mut plan.steps.iter().map(|step| &step.action));
    assert_eq!(steps, ["stop", "resize", "start", "suspend"], "it ends as it was");
    assert_eq!(verbs(&mut plan.steps[0].undo.iter()), ["start", "suspend"]);
    lab.kvm.stop(&id, &Stop::default(), token()).await.unwrap();
    let smaller = SizeSpec { max_vcpus: Some(2.into()), max_memory_bytes: Some(64 * MIB), ..size(1, 32) };
    assert!(resize(smaller, LiveOnly).await.unwrap().changed, "a stopped guest has no running maxima");
    assert_eq!(lab.read(&id).await.size.max_vcpus, Some(2.into()));
}
