mod endings;
mod resuming;
mod world;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::resource::{Kind, ResourceId, State};
use crate::provider::client::Policy;
use crate::provider::{
    Action, Client, Consents, DiskSpec, InstanceSpec, ResizePolicy, SizeSpec, Stop, VolumeSpec,
};
use crate::{ErrorKind, Result};
use world::{Fault, World};

struct Bench {
    world: Arc<World>,
    managed: Managed,
    journal: Journal,
    _data: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let world = World::new();
        let client = Client::new(world.clone(), Arc::default(), Policy::default());
        let data = tempfile::tempdir().unwrap();
        let managed = Managed { name: "world".into(), config: None, client };
        Self { world, managed, journal: Journal::open(data.path()).unwrap(), _data: data }
    }

    async fn prepare(&self, wanted: &Action) -> Result<Prepared> {
        let now = match wanted.instance() {
            Some(instance) => Some(self.managed.client.instance(instance.id().unwrap()).await?),
            None => None,
        };
        prepare(&self.managed, wanted, now.as_ref(), None).await
    }

    async fn approve(&self, wanted: &Action) -> Approved {
        let prepared = self.prepare(wanted).await.unwrap();
        Guard::default().approve(vec![prepared], async |_| Ok(true)).await.unwrap().remove(0)
    }

    async fn run(&self, wanted: &Action) -> (Operation, Result<()>) {
        self.execute(self.approve(wanted).await).await
    }

    async fn execute(&self, approved: Approved) -> (Operation, Result<()>) {
        let waiting = Waiting { last: true, timeout: Duration::from_secs(1) };
        let executor = Executor::new(&self.managed.client, &self.journal, waiting, &|_, _| ());
        let (operation, ended) = executor.run(approved, &|_| ()).await;
        assert_eq!(self.journal.load(operation.id).unwrap(), operation, "the journal knows how it ended");
        (operation, ended)
    }

    async fn approve_rest(&self, operation: Operation) -> Result<Approved> {
        let rest = rest(&self.managed, operation).await?;
        Guard::default().approve_rest(rest, async |_| Ok(true)).await
    }

    async fn resume(&self, operation: Operation) -> (Operation, Result<()>) {
        let approved = self.approve_rest(operation).await.unwrap();
        let waiting = Waiting::default();
        Executor::new(&self.managed.client, &self.journal, waiting, &|_, _| ()).resume(approved).await
    }
}

fn create(name: &str) -> Action {
    let disk = |name: &str| {
        DiskSpec::New(VolumeSpec { name: name.into(), size_bytes: Some(1 << 20), ..VolumeSpec::default() })
    };
    let disks = vec![disk("root"), disk("data")];
    Action::CreateInstance {
        spec: InstanceSpec { name: name.into(), disks, start: true, ..Default::default() },
    }
}

fn resize(id: &ResourceId, vcpus: u32) -> Action {
    Action::Resize {
        instance: id.clone().into(),
        size: SizeSpec { vcpus: Some(vcpus.into()), ..SizeSpec::default() },
        policy: ResizePolicy::AllowStopStart,
    }
}

fn delete(id: &ResourceId) -> Action {
    Action::DeleteInstance { instance: id.clone().into(), consents: Consents::default() }
}

/// Every plan that the world makes, with what has to be there for it.
fn changes(world: &Arc<World>) -> Vec<Action> {
    let running = world.with("running", State::Running, 2);
    let stopped = world.with("stopped", State::Stopped, 2);
    let suspended = world.with("suspended", State::Suspended, 2);
    vec![
        create("new"),
        Action::Start { instance: stopped.clone().into() },
        Action::Stop { instance: running.clone().into(), how: Stop::default() },
        Action::Restart { instance: running.clone().into(), how: Stop::default() },
        Action::Suspend { instance: running.clone().into() },
        Action::Resume { instance: suspended.clone().into() },
        resize(&running, 4),
        resize(&stopped, 4),
        delete(&stopped),
        Action::Stop { instance: suspended.clone().into(), how: Stop::default() },
        Action::Start { instance: suspended.into() },
    ]
}

#[tokio::test(start_paused = true)]
async fn a_plan_is_carried_out_step_by_step() {
    let bench = Bench::new();
    let (operation, ended) = bench.run(&create("new")).await;
    ended.unwrap();
    assert_eq!(operation.phase, Phase::Done);
    assert_eq!(
        *bench.world.changes.lock(),
        ["create volume root", "create volume data", "create new", "start new"]
    );
    assert_eq!(bench.world.visible().instances["new"].0, State::Running);
    assert_eq!(operation.resource().unwrap().native_id, "new");
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_any_step_of_any_plan_leaves_everything_as_it_was_or_says_that_it_may_not() {
    let mut injected = 0;
    for number in 0..changes(&World::new()).len() {
        for fault in [Fault::Refused, Fault::Lost, Fault::Unheard, Fault::Partly] {
            for step in 0.. {
                let bench = Bench::new();
                let wanted = changes(&bench.world).swap_remove(number);
                let before = bench.world.visible();
                let approved = bench.approve(&wanted).await;
                if step == approved.plan().steps.len() {
                    break;
                }
                let reversible = approved.plan().steps[step].can_be_undone();
                bench.world.fails(step, fault);
                let (operation, ended) = bench.execute(approved).await;
                injected += 1;
                let error = ended.unwrap_err().chain();
                let what = format!("{wanted} failed at step {step} ({fault:?}): {error}");
                if reversible || fault == Fault::Refused {
                    assert_eq!(bench.world.visible(), before, "{what}");
                    assert_eq!(operation.phase, Phase::Unwound, "{what}");
                    continue;
                }
                // It may have happened, so nobody says that it did not; with its token it goes on.
                assert_eq!((operation.phase, operation.phase.is_over()), (Phase::Partial, false), "{what}");
                let (operation, ended) = bench.resume(operation).await;
                assert_eq!(operation.phase, Phase::Done, "{what}, then {ended:?}");
                assert!(operation.changed(), "{what}");
            }
        }
    }
    assert!(injected >= 4 * 12, "{injected} failures");
}

#[tokio::test(start_paused = true)]
async fn a_way_back_that_fails_is_told_and_the_rest_is_still_taken_back() {
    let bench = Bench::new();
    let approved = bench.approve(&create("new")).await;
    // The start fails, and so does the first step back after it.
    bench.world.fails(3, Fault::Refused);
    let world = bench.world.clone();
    let waiting = Waiting::default();
    let progress = move |_: &Operation, progress: Progress<'_>| {
        if let Progress::Undo(2, _) = progress {
            world.fails(4, Fault::Refused);
        }
    };
    let executor = Executor::new(&bench.managed.client, &bench.journal, waiting, &progress);
    let (operation, ended) = executor.run(approved, &|_| ()).await;
    ended.unwrap_err();
    assert_eq!(operation.phase, Phase::Stuck);
    assert_eq!(operation.errors.len(), 2, "{:?}", operation.errors);
    assert_eq!(operation.steps[2].state, StepState::Left);
    assert!(bench.world.visible().volumes.is_empty(), "the volumes are taken back all the same");
    bench.world.faults.lock().clear();
    let (operation, ended) = bench.resume(operation).await;
    assert_eq!(operation.phase, Phase::Unwound, "{ended:?}");
    assert!(bench.world.visible().instances.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_operation_goes_on_and_does_nothing_twice() {
    for step in 0..4 {
        for heard in [false, true] {
            let bench = Bench::new();
            let (operation, ended) = bench.run(&create("new")).await;
            ended.unwrap();
            // As the journal and the world are when the process is gone with the call of `step` on its way.
            let mut interrupted = Operation { phase: Phase::Running, ..operation };
            interrupted.steps[step].state = StepState::Begun;
            interrupted.steps[step].made = None;
            interrupted.steps[step + 1..].fill(StepRecord::default());
            {
                let mut things = bench.world.things.lock();
                let keep = step + usize::from(heard);
                if keep < 1 {
                    things.volumes.remove("root");
                }
                if keep < 2 {
                    things.volumes.remove("data");
                }
                if keep < 3 {
                    things.instances.clear();
                } else if keep < 4 {
                    things.instances.insert("new".into(), (State::Stopped, 1));
                }
            }
            bench.journal.save(&interrupted).unwrap();
            let (operation, ended) = bench.resume(interrupted).await;
            ended.unwrap();
            assert_eq!(operation.phase, Phase::Done);
            let things = bench.world.visible();
            assert_eq!((things.instances["new"].0, things.volumes.len()), (State::Running, 2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_so_already_succeeds_and_what_makes_no_sense_is_refused() {
    let bench = Bench::new();
    let running = bench.world.with("a", State::Running, 1);
    let (operation, ended) = bench.run_nothing(&Action::Start { instance: running.clone().into() }).await;
    ended.unwrap();
    assert!(!operation.changed());
    assert!(operation.plan.already.as_ref().unwrap().contains("Running"));
    let failed = bench.world.with("b", State::Failed, 1);
    let error = bench.prepare(&Action::Suspend { instance: failed.into() }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("it is Failed (failed), and only one that is Running"), "{error}");
    assert!(bench.world.changes.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_state_that_changed_since_the_plan_stops_it_before_anything_is_done() {
    let bench = Bench::new();
    let id = bench.world.with("a", State::Running, 1);
    let approved = bench.approve(&Action::Suspend { instance: id.into() }).await;
    bench.world.with("a", State::Failed, 1);
    let (operation, ended) = bench.execute(approved).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(operation.phase, Phase::Unwound);
    assert!(bench.world.changes.lock().is_empty());
}

#[tokio::test]
async fn the_guard_refuses_all_when_it_refuses_one() {
    let bench = Bench::new();
    let mut prepared = Vec::new();
    for number in 0..11 {
        let id = bench.world.with(&format!("i{number}"), State::Running, 1);
        prepared
            .push(bench.prepare(&Action::Stop { instance: id.into(), how: Stop::default() }).await.unwrap());
    }
    let guard = Guard::default();
    let error = guard.approve(prepared.clone(), async |_| panic!("nobody is asked")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protected);
    assert!(error.to_string().contains("--max-affected 11"), "{error}");
    prepared.truncate(10);
    let error = guard.approve(prepared.clone(), async |_| Ok(false)).await.unwrap_err();
    assert!(error.to_string().contains("not confirmed"), "{error}");
    assert_eq!(guard.approve(prepared.clone(), async |_| Ok(true)).await.unwrap().len(), 10);
    prepared[3].protected = Some("the tag".into());
    let error = guard.approve(prepared, async |_| Ok(true)).await.unwrap_err();
    assert!(error.to_string().contains("i3") && error.to_string().contains("the tag"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_waits_for_can_be_waited_for_later() {
    let bench = Bench::new();
    let id = bench.world.with("a", State::Running, 1);
    let approved = bench.approve(&Action::Suspend { instance: id.into() }).await;
    let waiting = Waiting { last: false, ..Waiting::default() };
    let executor = Executor::new(&bench.managed.client, &bench.journal, waiting, &|_, _| ());
    let (operation, ended) = executor.run(approved, &|_| ()).await;
    ended.unwrap();
    assert_eq!(operation.phase, Phase::InFlight);
    let (operation, ended) = bench.resume(operation).await;
    ended.unwrap();
    assert_eq!(operation.phase, Phase::Done);
    assert_eq!(bench.world.changes.lock().len(), 1);
}

impl Bench {
    /// A change that is so already leaves no trace in the journal.
    async fn run_nothing(&self, wanted: &Action) -> (Operation, Result<()>) {
        let approved = self.approve(wanted).await;
        let executor = Executor::new(&self.managed.client, &self.journal, Waiting::default(), &|_, _| ());
        let ended = executor.run(approved, &|_| ()).await;
        assert!(self.journal.list().unwrap().0.is_empty());
        ended
    }
}
