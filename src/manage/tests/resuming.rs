//! Operations that go on: guarded as new ones, and with a way back that knows what the lost answers hid.

use std::sync::atomic::Ordering;

use super::*;

/// As the journal is when the process is gone with the call of `step` on its way.
async fn interrupted(bench: &Bench, wanted: &Action, step: usize) -> Operation {
    let approved = bench.approve(wanted).await;
    let mut operation = approved.into_operation();
    for done in 0..=step {
        let action = operation.plan.steps[done].action.resolved(&operation.made()).unwrap();
        let answer = bench.managed.client.perform(&action, operation.id.step(done)).await.unwrap();
        let state = StepState::Done;
        operation.steps[done] = StepRecord { state, made: answer.made, changed: answer.changed, note: None };
    }
    operation.steps[step] = StepRecord { state: StepState::Begun, ..StepRecord::default() };
    bench.journal.save(&operation).unwrap();
    operation
}

#[tokio::test(start_paused = true)]
async fn what_an_interrupted_call_did_is_taken_back_when_a_later_step_fails() {
    for number in 0..changes(&World::new()).len() {
        for step in 0.. {
            let bench = Bench::new();
            let wanted = changes(&bench.world).swap_remove(number);
            let before = bench.world.visible();
            if step + 1 >= bench.prepare(&wanted).await.unwrap().plan.steps.len() {
                break;
            }
            let operation = interrupted(&bench, &wanted, step).await;
            // The call is made again and finds that it is so already; then the next fails.
            bench.world.fails(step + 2, Fault::Refused);
            let (operation, ended) = bench.resume(operation).await;
            ended.unwrap_err();
            assert_eq!(bench.world.visible(), before, "{wanted} at {step}: {:?}", bench.world.changes.lock());
            assert_eq!(operation.phase, Phase::Unwound);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_try_with_a_lost_answer_did_is_taken_back_too() {
    let bench = Bench::new();
    let id = bench.world.with("a", State::Running, 2);
    let before = bench.world.visible();
    let approved = bench.approve(&resize(&id, 4)).await;
    // The stop is made twice, and the second finds it stopped.
    bench.world.fails(0, Fault::Again);
    bench.world.fails(2, Fault::Refused);
    let (operation, ended) = bench.execute(approved).await;
    ended.unwrap_err();
    assert_eq!((operation.phase, bench.world.visible()), (Phase::Unwound, before));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_try_with_a_lost_answer_refuses_nothing() {
    let bench = Bench::new();
    let id = bench.world.with("a", State::Stopped, 2);
    let before = bench.world.visible();
    let approved = bench.approve(&Action::Start { instance: id.into() }).await;
    bench.world.fails(0, Fault::Again);
    bench.world.fails(1, Fault::Refused);
    let (operation, ended) = bench.execute(approved).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!((operation.phase, bench.world.visible()), (Phase::Unwound, before));
}

#[tokio::test(start_paused = true)]
async fn what_comes_slowly_is_not_taken_back() {
    let bench = Bench::new();
    bench.world.comes_slowly.store(true, Ordering::Relaxed);
    let (operation, ended) = bench.run(&create("web")).await;
    let error = ended.unwrap_err();
    assert!(error.to_string().contains("it is still Creating after 1s"), "{error}");
    assert_eq!(operation.phase, Phase::Running, "{:?}", operation.errors);
    assert!(bench.world.visible().instances.contains_key("web"));
    bench.world.with("web", State::Stopped, 1);
    let (operation, ended) = bench.resume(operation).await;
    ended.unwrap();
    assert_eq!(operation.phase, Phase::Done);
    assert_eq!(bench.world.visible().instances["web"].0, State::Running);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_passes_the_guards_again() {
    let bench = Bench::new();
    let id = bench.world.with("a", State::Running, 2);
    let operation = interrupted(&bench, &resize(&id, 4), 0).await;
    let left = rest(&bench.managed, operation.clone()).await.unwrap().prepared.plan;
    assert_eq!((left.steps.len(), left.affected()), (3, 1), "{left}");
    bench.world.protected.lock().insert("a".into());
    let error = bench.approve_rest(operation.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protected);
    bench.world.protected.lock().clear();
    let left = rest(&bench.managed, operation.clone()).await.unwrap();
    let error = Guard::default().approve_rest(left, async |_| Ok(false)).await.unwrap_err();
    assert!(error.to_string().contains("not confirmed"), "{error}");
    // What somebody else has done meanwhile was not approved.
    let approved = bench.approve_rest(operation.clone()).await.unwrap();
    bench.journal.save(&Operation { phase: Phase::Stuck, ..operation }).unwrap();
    let executor = Executor::new(&bench.managed.client, &bench.journal, Waiting::default(), &|_, _| ());
    let (_, ended) = executor.resume(approved).await;
    assert!(ended.unwrap_err().to_string().contains("look again"));
    assert_eq!(bench.world.changes.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_an_operation_made_does_not_protect_itself_from_its_way_back() {
    let bench = Bench::new();
    let approved = bench.approve(&create("new")).await;
    bench.world.fails(3, Fault::Refused);
    bench.world.fails(4, Fault::Refused);
    let (operation, _) = bench.execute(approved).await;
    assert_eq!(operation.phase, Phase::Stuck);
    bench.world.protected.lock().insert("new".into());
    let (operation, _) = bench.resume(operation).await;
    assert_eq!(operation.phase, Phase::Unwound);
}

#[tokio::test(start_paused = true)]
async fn a_begun_step_whose_instance_went_another_way_is_left_to_a_person() {
    let bench = Bench::new();
    let id = bench.world.with("a", State::Running, 2);
    let wanted = Action::Stop { instance: id.into(), how: Stop::default() };
    let operation = interrupted(&bench, &wanted, 0).await;
    bench.world.with("a", State::Suspended, 2);
    let (operation, ended) = bench.resume(operation).await;
    assert!(ended.unwrap_err().to_string().contains("it is Suspended now"));
    assert_eq!((operation.phase, operation.steps[0].state), (Phase::Partial, StepState::Begun));
    assert_eq!(bench.world.changes.lock().len(), 1, "nothing was done to it");
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_back_to_a_snapshot_twice() {
    let bench = Bench::new();
    bench.world.with("a", State::Running, 2);
    let revert = Action::RevertSnapshot { snapshot: bench.world.id(Kind::Snapshot, "s").into() };
    let operation = interrupted(&bench, &revert, 0).await;
    let (operation, ended) = bench.resume(operation).await;
    assert!(ended.unwrap_err().to_string().contains("give the command again"));
    assert_eq!((operation.phase, bench.world.changes.lock().len()), (Phase::Abandoned, 1));
    // The same without an interruption, when its answer is lost.
    bench.world.fails(1, Fault::Lost);
    let (operation, ended) = bench.run(&revert).await;
    ended.unwrap_err();
    assert_eq!(operation.phase, Phase::Abandoned);
}

#[tokio::test(start_paused = true)]
async fn a_creation_in_doubt_that_meets_another_of_its_name_is_not_taken_for_undone() {
    let bench = Bench::new();
    let approved = bench.approve(&create("new")).await;
    bench.world.fails(2, Fault::Unheard);
    let world = bench.world.clone();
    let progress = move |_: &Operation, progress: Progress<'_>| {
        if let Progress::Step(2, _) = progress {
            // What the lost call is still making, without its token yet.
            world.with("new", State::Stopped, 1);
        }
    };
    let executor = Executor::new(&bench.managed.client, &bench.journal, Waiting::default(), &progress);
    let (operation, _) = executor.run(approved, &|_| ()).await;
    assert_eq!((operation.phase, operation.steps[2].state), (Phase::Stuck, StepState::Begun));
    let told = operation.errors.last().unwrap();
    assert!(told.contains("whether it was made is not known"), "{told}");
    // It is still in doubt the next time.
    let (operation, ended) = bench.resume(operation).await;
    assert_eq!(operation.phase, Phase::Stuck, "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_touched_is_not_touched_by_the_way_back() {
    let bench = Bench::new();
    let id = bench.world.with("a", State::Suspended, 2);
    let approved = bench.approve(&Action::Stop { instance: id.into(), how: Stop::default() }).await;
    assert_eq!(approved.plan().steps[0].undo.len(), 2);
    bench.world.fails(0, Fault::Unheard);
    let (operation, _) = bench.execute(approved).await;
    assert_eq!(operation.phase, Phase::Unwound);
    assert_eq!(*bench.world.changes.lock(), ["stop a"], "it was not started to be suspended again");
}
