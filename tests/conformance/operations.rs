//! Operations that are interrupted and go on.

use std::sync::Arc;
use std::time::Duration;

use barograph::manage::{Executor, Phase, Progress};
use barograph::model::resource::{Instance, State};
use barograph::provider::{Action, Token};
use parking_lot::Mutex;

use super::bench::{forced, started, waiting};
use super::{Bench, Report};

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("interrupted operations");
    let wanted = Action::CreateInstance { spec: started(bench.subject.instance("suite-cut")) };
    let steps = bench.prepare(&wanted).await.unwrap().plan.steps.len();
    for step in 0..steps {
        // Cut off before, at about the time of, and after the provider's answer.
        for after in [0, 20, 150] {
            let approved = bench.approve(&wanted).await.unwrap();
            let id = cut(bench, approved, step, Duration::from_millis(after)).await;
            let operation = bench.journal.load(id).unwrap();
            let (operation, ended) =
                if operation.phase.is_over() { (operation, Ok(())) } else { bench.resume(operation).await };
            let text = format!("step {step}, cut after {after} ms: {ended:?} {:?}", operation.errors);
            report.check(ended.is_ok() && operation.phase == Phase::Done, text);
            let of_name: Vec<_> = bench.list::<Instance>().await.items;
            let of_name: Vec<_> = of_name.iter().filter(|instance| instance.label() == "suite-cut").collect();
            report.check(of_name.len() == 1, format!("there is one: {of_name:?}"));
            report.check(of_name[0].state() == State::Running, format!("it runs: {:?}", of_name[0].status));
            bench.remove(&of_name[0].id.clone()).await;
        }
    }
    // Nobody waits for the end of a stop, and later somebody does.
    let id = bench.create(started(bench.subject.instance("suite-later"))).await;
    let stop = Action::Stop { instance: id.clone().into(), how: forced() };
    let approved = bench.approve(&stop).await.unwrap();
    let mut waiting = waiting();
    waiting.last = false;
    let executor = Executor::new(bench.client(), &bench.journal, waiting, &|_, _| ());
    let (operation, ended) = executor.run(approved, &|_| ()).await;
    report.check(ended.is_ok() && operation.phase == Phase::InFlight, "nobody waited for its end");
    let (operation, ended) = bench.resume(operation).await;
    report.check(ended.is_ok() && operation.phase == Phase::Done, "somebody did later");
    report.check(bench.state(&id).await == State::Stopped, "it is stopped");
    bench.remove(&id).await;
}

/// Carries out until `after` the beginning of a step, and then lets everything fall. The journal keeps it.
async fn cut(
    bench: &Bench<'_>,
    approved: barograph::manage::Approved,
    step: usize,
    after: Duration,
) -> Token {
    let begun = Arc::new(tokio::sync::Notify::new());
    let id = Arc::new(Mutex::new(None));
    let (heard, seen) = (Arc::clone(&begun), Arc::clone(&id));
    let progress = move |operation: &barograph::manage::Operation, progress: Progress<'_>| {
        *seen.lock() = Some(operation.id);
        if matches!(progress, Progress::Step(at, _) if at == step) {
            heard.notify_one();
        }
    };
    {
        let executor = Executor::new(bench.client(), &bench.journal, waiting(), &progress);
        tokio::select! {
            _ = executor.run(approved, &|_| ()) => {}
            () = async { begun.notified().await; tokio::time::sleep(after).await } => {}
        }
    }
    let id = id.lock().expect("it was begun");
    // The call that was cut off may still be on its way inside the provider.
    tokio::time::sleep(Duration::from_millis(300)).await;
    id
}
