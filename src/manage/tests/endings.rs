//! How steps end: other ends than the wanted state, and what is told of them.

use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::*;

#[tokio::test(start_paused = true)]
async fn what_runs_and_ends_at_once_was_started() {
    let bench = Bench::new();
    bench.world.ends_at_once.store(true, Ordering::Relaxed);
    bench.world.ends_by_itself.store(true, Ordering::Relaxed);
    let began = tokio::time::Instant::now();
    let approved = bench.approve(&create("job")).await;
    let executor = Executor::new(&bench.managed.client, &bench.journal, Waiting::default(), &|_, _| ());
    let (operation, ended) = executor.run(approved, &|_| ()).await;
    ended.unwrap();
    assert_eq!(operation.notes().collect::<Vec<_>>(), ["it ran and has ended: exit 3"]);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_stops_after_its_start_has_failed_to_start() {
    let bench = Bench::new();
    bench.world.ends_at_once.store(true, Ordering::Relaxed);
    let approved = bench.approve(&create("web")).await;
    let executor = Executor::new(&bench.managed.client, &bench.journal, Waiting::default(), &|_, _| ());
    let (operation, ended) = executor.run(approved, &|_| ()).await;
    let error = ended.unwrap_err();
    assert!(error.to_string().contains("it became Stopped instead of Running: exit 3"), "{error}");
    assert_eq!(operation.phase, Phase::Unwound, "{:?}", operation.errors);
    assert!(bench.world.visible().instances.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_comes_to_rest_elsewhere_is_not_waited_for() {
    let bench = Bench::new();
    bench.world.ends_at_once.store(true, Ordering::Relaxed);
    let id = bench.world.with("a", State::Suspended, 2);
    let approved = bench.approve(&Action::Resume { instance: id.into() }).await;
    let began = tokio::time::Instant::now();
    let executor = Executor::new(&bench.managed.client, &bench.journal, Waiting::default(), &|_, _| ());
    let (_, ended) = executor.run(approved, &|_| ()).await;
    let error = ended.unwrap_err();
    assert!(error.to_string().contains("it became Stopped instead of Running: exit 3"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_has_no_definition_is_gone_when_it_is_stopped() {
    let bench = Bench::new();
    bench.world.is_transient.store(true, Ordering::Relaxed);
    let id = bench.world.with("a", State::Running, 2);
    let (operation, ended) = bench.run(&Action::Stop { instance: id.into(), how: Stop::default() }).await;
    ended.unwrap();
    assert_eq!(operation.phase, Phase::Done);
    assert!(operation.notes().next().unwrap().contains("it is gone"));
    // Also where the answer was lost, and it is gone when it is asked for again.
    let id = bench.world.with("b", State::Running, 2);
    bench.world.fails(1, Fault::Again);
    let (operation, ended) = bench.run(&Action::Stop { instance: id.into(), how: Stop::default() }).await;
    ended.unwrap();
    assert_eq!((operation.phase, operation.changed()), (Phase::Done, true));
}

#[tokio::test(start_paused = true)]
async fn a_call_may_take_as_long_as_a_person_waits() {
    let client = Bench::new().managed.client;
    let patience = Duration::from_secs(3600);
    assert_eq!(
        client.patient(patience).longest(&delete(&client.scope().id("h", Kind::Instance, "a"))),
        patience
    );
    let copy = VolumeSpec { from: Some(client.scope().id("h", Kind::Volume, "v")), ..VolumeSpec::default() };
    assert!(client.longest(&Action::CreateVolume { spec: copy }) > patience);
}

#[tokio::test(start_paused = true)]
async fn what_a_step_made_is_known_before_the_next_begins() {
    let bench = Bench::new();
    let approved = bench.approve(&create("new")).await;
    let seen = Mutex::new(Vec::new());
    let progress = |operation: &Operation, progress: Progress<'_>| {
        if let Progress::Taken(step) = progress {
            seen.lock().push((step, operation.resource().is_some()));
        }
    };
    let executor = Executor::new(&bench.managed.client, &bench.journal, Waiting::default(), &progress);
    executor.run(approved, &|_| ()).await.1.unwrap();
    assert_eq!(*seen.lock(), [(0, false), (1, false), (2, true), (3, true)]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waited_for_is_over_once_it_has_come_to_rest() {
    let bench = Bench::new();
    let id = bench.world.with("a", State::Running, 1);
    let waiting = Waiting { last: false, ..Waiting::default() };
    let executor = Executor::new(&bench.managed.client, &bench.journal, waiting, &|_, _| ());
    let approved = bench.approve(&Action::Suspend { instance: id.clone().into() }).await;
    let (operation, _) = executor.run(approved, &|_| ()).await;
    assert_eq!(operation.phase, Phase::InFlight);
    // Any later operation of the same source looks.
    bench.run(&create("new")).await.1.unwrap();
    assert_eq!(bench.journal.load(operation.id).unwrap().phase, Phase::Done);
}

#[tokio::test(start_paused = true)]
async fn the_plan_says_from_which_states_its_verb_makes_sense() {
    let bench = Bench::new();
    let failed = bench.world.with("a", State::Failed, 1);
    let stop = Action::Stop { instance: failed.into(), how: Stop::default() };
    let plan = bench.prepare(&stop).await.unwrap().plan;
    assert!(!plan.steps[0].can_be_undone(), "nothing makes it fail again");
    let suspended = bench.world.with("b", State::Suspended, 1);
    let error = bench.prepare(&resize(&suspended, 2)).await.unwrap_err();
    assert!(error.to_string().contains("only one that is Running or Stopped can be resized"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn going_back_to_a_snapshot_is_about_its_instance() {
    let bench = Bench::new();
    let id = bench.world.with("a", State::Running, 1);
    bench.world.protected.lock().insert("a".into());
    let now = bench.managed.client.instance(&id).await.unwrap();
    let revert = Action::RevertSnapshot { snapshot: bench.world.id(Kind::Snapshot, "s").into() };
    let prepared = prepare(&bench.managed, &revert, Some(&now), None).await.unwrap();
    let error = Guard::default().check(std::slice::from_ref(&prepared)).unwrap_err();
    assert!(error.to_string().contains("protected"), "{error}");
    bench.world.protected.lock().clear();
    let prepared = prepare(&bench.managed, &revert, Some(&now), None).await;
    // It was stopped since.
    bench.world.with("a", State::Stopped, 1);
    let unprotected = Prepared { protected: None, ..prepared.unwrap() };
    let approved = Guard::default().approve(vec![unprotected], async |_| Ok(true)).await.unwrap().remove(0);
    let (_, ended) = bench.execute(approved).await;
    assert!(ended.unwrap_err().to_string().contains("it is Stopped now"));
    assert!(bench.world.changes.lock().is_empty());
}
