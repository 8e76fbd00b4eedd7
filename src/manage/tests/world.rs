//! A provider in memory that fails when it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use rust_decimal::Decimal;

use crate::model::resource::{Instance, Kind, Region, ResourceId, Size, Snapshot, State, Status, Volume};
use crate::provider::listing::one_page;
use crate::provider::{
    Action, Capabilities, Consents, DiskSpec, Done, Downtime, InstanceSpec, Inventory, Lifecycle, Page,
    Pages, Plan, Provider, ResizePolicy, Scope, SizeSpec, SnapshotSpec, Snapshots, Step, Stop, Target, Token,
    VolumeSpec, Volumes,
};
use crate::{Error, ErrorKind, Result};

/// What there is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Things {
    pub(super) instances: BTreeMap<String, (State, u32)>,
    pub(super) volumes: BTreeMap<String, u64>,
    tokens: BTreeMap<String, Token>,
}

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It says clearly that it did nothing.
    Refused,
    /// It did it, and its answer was lost.
    Lost,
    /// It did nothing, and nobody knows.
    Unheard,
    /// It did something, and says so when it fails.
    Partly,
    /// It did it, its answer was lost, and it may be asked again at once.
    Again,
}

pub(super) struct World {
    scope: Scope,
    pub(super) things: Mutex<Things>,
    /// Which changes fail, counted from 0, and how.
    pub(super) faults: Mutex<BTreeMap<usize, Fault>>,
    pub(super) changes: Mutex<Vec<String>>,
    /// Instances with the tag that protects them.
    pub(super) protected: Mutex<BTreeSet<String>>,
    /// Whether what is started ends at once.
    pub(super) ends_at_once: AtomicBool,
    /// Whether that is how instances end here.
    pub(super) ends_by_itself: AtomicBool,
    /// Whether what is made takes its time.
    pub(super) comes_slowly: AtomicBool,
    /// Whether what is stopped is gone.
    pub(super) is_transient: AtomicBool,
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        let scope = Scope { provider: "world", account: "a".into() };
        Arc::new(Self {
            scope,
            things: Mutex::default(),
            faults: Mutex::default(),
            changes: Mutex::default(),
            protected: Mutex::default(),
            ends_at_once: AtomicBool::new(false),
            ends_by_itself: AtomicBool::new(false),
            comes_slowly: AtomicBool::new(false),
            is_transient: AtomicBool::new(false),
        })
    }

    pub(super) fn with(self: &Arc<Self>, name: &str, state: State, vcpus: u32) -> ResourceId {
        self.things.lock().instances.insert(name.into(), (state, vcpus));
        self.scope.id("here", Kind::Instance, name)
    }

    pub(super) fn fails(&self, change: usize, fault: Fault) {
        self.faults.lock().insert(change, fault);
    }

    pub(super) fn id(&self, kind: Kind, name: &str) -> ResourceId {
        self.scope.id("here", kind, name)
    }

    /// Everything but what only the idempotency needs.
    pub(super) fn visible(&self) -> Things {
        Things { tokens: BTreeMap::new(), ..self.things.lock().clone() }
    }

    fn change(&self, what: String, change: impl FnOnce(&mut Things) -> Result<Done>) -> Result<Done> {
        let number = self.changes.lock().len();
        self.changes.lock().push(what);
        let fault = self.faults.lock().get(&number).copied();
        let lost =
            || Error::unavailable("change the world", "the answer was lost").with_retry(crate::Retry::Never);
        match fault {
            Some(Fault::Refused) => Err(Error::new(ErrorKind::Denied, "change the world", "not today")),
            Some(Fault::Unheard) => Err(lost()),
            Some(Fault::Partly) => change(&mut self.things.lock()).and(Err(Error::new(
                ErrorKind::Conflict,
                "change the world",
                "it went wrong later",
            )
            .partly_done())),
            Some(Fault::Again) => {
                change(&mut self.things.lock()).and(Err(Error::unavailable("change the world", "busy")))
            }
            Some(Fault::Lost) => change(&mut self.things.lock()).and(Err(lost())),
            None => change(&mut self.things.lock()),
        }
    }

    fn set(&self, verb: &str, id: &ResourceId, state: State) -> Result<Done> {
        self.change(format!("{verb} {}", id.native_id), |things| {
            let instance = things.instances.get_mut(&id.native_id).ok_or_else(gone)?;
            let changed = instance.0 != state;
            instance.0 = state;
            if state == State::Running && self.ends_at_once.load(Ordering::Relaxed) {
                instance.0 = State::Stopped;
            }
            if state == State::Stopped && self.is_transient.load(Ordering::Relaxed) {
                things.instances.remove(&id.native_id);
            }
            Ok(if changed { Done::changed() } else { Done::already() })
        })
    }

    fn instance_of(&self, name: &str, (state, vcpus): (State, u32)) -> Instance {
        Instance {
            id: self.scope.id("here", Kind::Instance, name),
            name: Some(name.into()),
            status: Status::new(state, state.as_str().to_lowercase()).because("exit 3"),
            size: Size { vcpus: Some(vcpus.into()), ..Size::default() },
            image: None,
            zone: None,
            disks: vec![],
            interfaces: vec![],
            tags: BTreeMap::new(),
            protected: Some(self.protected.lock().contains(name)),
            created_at: None,
            started_at: None,
            raw: serde_json::Map::new(),
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::NotFound, "find", "it is not there")
}

#[async_trait]
impl Provider for World {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            instances: true,
            lifecycle: true,
            ends_by_itself: self.ends_by_itself.load(Ordering::Relaxed),
            suspend: true,
            resize_stopped: true,
            volumes: true,
            snapshots: true,
            revert: true,
            ..Capabilities::default()
        }
    }

    fn inventory(&self) -> &dyn Inventory {
        self
    }

    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    async fn plan(&self, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
        match (wanted, now) {
            (Action::CreateInstance { spec }, _) => {
                let mut plan = Plan::new(wanted.clone(), None, &spec.name);
                let mut spec = spec.clone();
                for disk in &mut spec.disks {
                    if let DiskSpec::New(volume) = disk {
                        let step = plan.steps.len();
                        let undo = Action::DeleteVolume { volume: Target::Step(step) };
                        plan =
                            plan.step(Step::new(Action::CreateVolume { spec: volume.clone() }, Some(undo)));
                        *disk = DiskSpec::Volume(Target::Step(step));
                    }
                }
                let made = Target::Step(plan.steps.len());
                let undo = Action::DeleteInstance { instance: made.clone(), consents: Consents::default() };
                let start = Action::Start { instance: made.clone() };
                let stop = Action::Stop { instance: made, how: Stop { force: true, ..Stop::default() } };
                Ok(plan
                    .step(Step::new(Action::CreateInstance { spec }, Some(undo)))
                    .step(Step::new(start, Some(stop))))
            }
            (Action::Resize { instance, .. }, Some(now)) if now.state() == State::Running => {
                let stop = Action::Stop { instance: instance.clone(), how: Stop::default() };
                let start = Action::Start { instance: instance.clone() };
                let resize = Plan::simple(wanted, Some(now)).steps.remove(0).expects(&[State::Stopped]);
                Ok(Plan::new(wanted.clone(), Some(now.id.clone()), now.label())
                    .step(Step::new(stop.clone(), Some(start.clone())))
                    .step(resize)
                    .step(Step::new(start, Some(stop)))
                    .downtime(Downtime::StopStart))
            }
            _ => Ok(Plan::simple(wanted, now)),
        }
    }
}

#[async_trait]
impl Inventory for World {
    fn regions(&self) -> Pages<'_, Region> {
        one_page(|| async {
            Ok(vec![Region { id: self.scope.id("", Kind::Region, "here"), name: None, enabled: None }].into())
        })
    }

    fn instances<'a>(&'a self, _: &'a str) -> Pages<'a, Instance> {
        one_page(|| async {
            let things = self.things.lock();
            let all = things.instances.iter().map(|(name, instance)| self.instance_of(name, *instance));
            Ok(Page::from(all.collect::<Vec<_>>()))
        })
    }

    fn volumes<'a>(&'a self, _: &'a str) -> Pages<'a, Volume> {
        one_page(|| async { Ok(Page::from(Vec::new())) })
    }

    fn snapshots<'a>(&'a self, _: &'a str) -> Pages<'a, Snapshot> {
        one_page(|| async { Ok(Page::from(Vec::new())) })
    }

    async fn instance(&self, id: &ResourceId) -> Result<Instance> {
        let things = self.things.lock();
        let found = things.instances.get(&id.native_id).ok_or_else(gone)?;
        Ok(self.instance_of(&id.native_id, *found))
    }
}

#[async_trait]
impl Lifecycle for World {
    async fn create(&self, spec: &InstanceSpec, token: Token) -> Result<Done> {
        let id = self.scope.id("here", Kind::Instance, &spec.name);
        self.change(format!("create {}", spec.name), |things| {
            if things.instances.contains_key(&spec.name) && things.tokens.get(&spec.name) != Some(&token) {
                return Err(Error::new(ErrorKind::Conflict, "create", "there is one of this name"));
            }
            things.tokens.insert(spec.name.clone(), token);
            let slow = self.comes_slowly.load(Ordering::Relaxed);
            let state = if slow { State::Creating } else { State::Stopped };
            things.instances.insert(spec.name.clone(), (state, 1));
            Ok(Done::made(id))
        })
    }

    async fn start(&self, id: &ResourceId, _: Token) -> Result<Done> {
        self.set("start", id, State::Running)
    }

    async fn stop(&self, id: &ResourceId, _: &Stop, _: Token) -> Result<Done> {
        self.set("stop", id, State::Stopped)
    }

    async fn suspend(&self, id: &ResourceId, _: Token) -> Result<Done> {
        self.set("suspend", id, State::Suspended)
    }

    async fn resume(&self, id: &ResourceId, _: Token) -> Result<Done> {
        self.set("resume", id, State::Running)
    }

    async fn resize(&self, id: &ResourceId, size: &SizeSpec, _: ResizePolicy, _: Token) -> Result<Done> {
        self.change(format!("resize {}", id.native_id), |things| {
            let instance = things.instances.get_mut(&id.native_id).ok_or_else(gone)?;
            let vcpus = size.vcpus.unwrap_or(Decimal::ONE).try_into().unwrap();
            let changed = instance.1 != vcpus;
            instance.1 = vcpus;
            Ok(if changed { Done::changed() } else { Done::already() })
        })
    }

    async fn delete(&self, id: &ResourceId, _: Consents, _: Token) -> Result<Done> {
        self.change(format!("delete {}", id.native_id), |things| {
            things.instances.remove(&id.native_id).map(|_| Done::changed()).ok_or_else(gone)
        })
    }
}

#[async_trait]
impl Volumes for World {
    async fn create(&self, spec: &VolumeSpec, token: Token) -> Result<Done> {
        let id = self.scope.id("here", Kind::Volume, &spec.name);
        self.change(format!("create volume {}", spec.name), |things| {
            if things.volumes.contains_key(&spec.name) && things.tokens.get(&spec.name) != Some(&token) {
                return Err(Error::new(ErrorKind::Conflict, "create", "there is one of this name"));
            }
            things.tokens.insert(spec.name.clone(), token);
            things.volumes.insert(spec.name.clone(), spec.size_bytes.unwrap_or(0));
            Ok(Done::made(id))
        })
    }

    async fn grow(&self, id: &ResourceId, size_bytes: u64, _: Token) -> Result<Done> {
        self.change(format!("grow volume {}", id.native_id), |things| {
            things.volumes.insert(id.native_id.clone(), size_bytes);
            Ok(Done::changed())
        })
    }

    async fn delete(&self, id: &ResourceId, _: Token) -> Result<Done> {
        self.change(format!("delete volume {}", id.native_id), |things| {
            things.volumes.remove(&id.native_id).map(|_| Done::changed()).ok_or_else(gone)
        })
    }

    async fn attach(&self, _: &ResourceId, _: &ResourceId, _: Option<&str>, _: Token) -> Result<Done> {
        Ok(Done::already())
    }

    async fn detach(&self, _: &ResourceId, _: &ResourceId, _: Token) -> Result<Done> {
        Ok(Done::already())
    }
}

#[async_trait]
impl Snapshots for World {
    async fn create(&self, _: &SnapshotSpec, _: Token) -> Result<Done> {
        Ok(Done::already())
    }

    async fn revert(&self, id: &ResourceId, _: Token) -> Result<Done> {
        self.change(format!("revert {}", id.native_id), |_| Ok(Done::changed()))
    }

    async fn delete(&self, _: &ResourceId, _: Token) -> Result<Done> {
        Ok(Done::already())
    }
}
