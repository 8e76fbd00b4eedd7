//! The life of an instance.

use std::time::Duration;

use barograph::ErrorKind;
use barograph::manage::{Guard, Phase};
use barograph::model::Span;
use barograph::model::resource::{Instance, State};
use barograph::provider::{Action, Consents, Stop, Token};

use super::bench::{forced, graceful, started};
use super::{Bench, Report};

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("life cycle");
    let mut spec = bench.subject.instance("suite-life");
    spec.tags.insert("team".into(), "suite".into());
    let id = bench.create(spec.clone()).await;
    let made = bench.instance(&id).await;
    report.check(made.state() == State::Stopped, format!("one that was made is stopped: {:?}", made.status));
    report.check(made.name.as_deref() == Some("suite-life"), "it has its name");
    report.check(
        made.tags.get("team").map(String::as_str) == Some("suite"),
        format!("its tags: {:?}", made.tags),
    );
    report.check(made.size.vcpus == spec.size.vcpus, format!("its processors: {:?}", made.size));
    report.check(made.size.memory_bytes == spec.size.memory_bytes, format!("its memory: {:?}", made.size));
    let listed = bench.list::<Instance>().await;
    report.check(listed.items.iter().any(|instance| instance.id == id), "it is in the list");

    let instance = || id.clone().into();
    let start = Action::Start { instance: instance() };
    let operation = bench.done(&start).await;
    report.check(operation.changed() && operation.phase == Phase::Done, "it was started");
    report.check(bench.state(&id).await == State::Running, "it runs");
    let again = bench.done(&start).await;
    report.check(!again.changed() && again.plan.already.is_some(), "started again it is so already");
    let directly = bench.client().perform(&start, Token::random()).await.unwrap();
    report.check(!directly.changed, "also without a plan");

    if bench.suspends() {
        bench.done(&Action::Suspend { instance: instance() }).await;
        report.check(bench.state(&id).await == State::Suspended, "it is suspended");
        let (kind, text) = bench.refused(&Action::Restart { instance: instance(), how: forced() }).await;
        report.check(kind == ErrorKind::Conflict, format!("one that is suspended is not restarted: {text}"));
        bench.done(&Action::Resume { instance: instance() }).await;
        report.check(bench.state(&id).await == State::Running, "it goes on");
    } else {
        report.absent("suspend");
    }

    let (kind, text) =
        bench.refused(&Action::DeleteInstance { instance: instance(), consents: Consents::default() }).await;
    report.check(
        kind == ErrorKind::Conflict || kind == ErrorKind::Protected,
        format!("it runs: {kind}: {text}"),
    );
    report.check(bench.state(&id).await == State::Running, "a refused deletion leaves it alone");

    let stop = Action::Stop { instance: instance(), how: graceful() };
    bench.done(&stop).await;
    report.check(bench.state(&id).await == State::Stopped, "it stopped when it was asked to");
    let again = bench.done(&stop).await;
    report.check(!again.changed(), "stopped again it is so already");
    bench.done(&start).await;
    bench.done(&Action::Restart { instance: instance(), how: forced() }).await;
    report.check(bench.state(&id).await == State::Running, "restarted it runs");

    // A stop without an end.
    match bench.subject.stubborn("suite-stubborn") {
        Some(spec) => stubborn(bench, report, spec).await,
        None => report.absent("one that does not stop"),
    }

    // The same intent twice, and another of the same name.
    let token = Token::random();
    let create = Action::CreateInstance { spec: bench.subject.instance("suite-token") };
    let first = bench.client().perform(&create, token).await.unwrap();
    let second = bench.client().perform(&create, token).await.unwrap();
    report.check(first.made.is_some() && first.made == second.made, "one token makes one instance");
    let of_name = |listed: &[Instance]| listed.iter().filter(|other| other.label() == "suite-token").count();
    report.check(of_name(&bench.list::<Instance>().await.items) == 1, "there is one of it");
    let other = bench.client().perform(&create, Token::random()).await;
    if bench.subject.unique_names() {
        let error = other.unwrap_err();
        report.check(error.kind() == ErrorKind::Conflict, format!("the name is taken: {}", error.chain()));
        report.check(of_name(&bench.list::<Instance>().await.items) == 1, "there is still one of it");
    } else {
        let other = other.unwrap().made;
        report.check(other.is_some() && other != first.made, "another token makes another one");
        bench.remove(&other.unwrap()).await;
    }
    bench.remove(&first.made.unwrap()).await;

    // Guards.
    let mut spec = bench.subject.instance("suite-protected");
    spec.tags.insert(barograph::manage::guard::PROTECTED_TAG.into(), "true".into());
    let protected = bench.create(spec).await;
    let delete = |id: &barograph::model::resource::ResourceId| Action::DeleteInstance {
        instance: id.clone().into(),
        consents: Consents { running: true, ..Consents::default() },
    };
    let (kind, text) = bench.refused(&delete(&protected)).await;
    report.check(kind == ErrorKind::Protected, format!("a tag protects: {text}"));
    let prepared = bench.prepare(&delete(&id)).await.unwrap();
    let error = Guard { max_affected: 0 }.approve(vec![prepared], async |_| Ok(true)).await.unwrap_err();
    report.check(error.kind() == ErrorKind::Protected, "the limit holds");
    let token = Token::random();
    for _ in 0..2 {
        let deleted = bench.client().perform(&delete(&protected), token).await;
        let gone = deleted.is_ok() || deleted.as_ref().unwrap_err().kind() == ErrorKind::NotFound;
        report.check(gone, "deleted twice it is gone");
    }

    bench.done(&delete(&id)).await;
    let error = bench.client().instance(&id).await.unwrap_err();
    report.check(error.kind() == ErrorKind::NotFound, "deleted it is not found");
    let left = bench.list::<Instance>().await.items;
    report
        .check(!left.iter().any(|instance| bench.subject.is_ours(instance.label())), "nothing of it is left");
}

async fn stubborn(bench: &Bench<'_>, report: &mut Report, spec: barograph::provider::InstanceSpec) {
    let stubborn = bench.create(started(spec)).await;
    let short = Stop { grace: Span(Duration::from_secs(2)), force: false, ..Stop::default() };
    let (kind, text) = bench.refused(&Action::Stop { instance: stubborn.clone().into(), how: short }).await;
    report.check(matches!(kind, ErrorKind::Conflict | ErrorKind::Unavailable), format!("{kind}: {text}"));
    report.check(bench.state(&stubborn).await == State::Running, "what was not forced runs on");
    let short = Stop { grace: Span(Duration::from_secs(1)), force: true, ..Stop::default() };
    bench.done(&Action::Stop { instance: stubborn.clone().into(), how: short }).await;
    report.check(bench.state(&stubborn).await == State::Stopped, "forced it stops");
    bench.remove(&stubborn).await;
}
