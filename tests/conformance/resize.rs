//! Another size, while it runs and while it does not.

use barograph::ErrorKind;
use barograph::model::resource::{ResourceId, Size, State};
use barograph::provider::{Action, Downtime, ResizePolicy, SizeSpec};

use super::bench::{forced, started};
use super::{Bench, Report};

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("resize");
    let spec = bench.subject.instance("suite-size");
    let larger = bench.subject.larger();
    let id = bench.create(started(spec)).await;
    let resize = |size: &SizeSpec, policy: ResizePolicy| Action::Resize {
        instance: id.clone().into(),
        size: size.clone(),
        policy,
    };
    if bench.can().resize_live {
        let wanted = resize(&larger, ResizePolicy::LiveOnly);
        let plan = bench.prepare(&wanted).await.unwrap().plan;
        report.check(
            plan.downtime == Downtime::None,
            format!("the plan knows that it runs on: {}", plan.downtime),
        );
        bench.done(&wanted).await;
        becomes(bench, report, &id, &larger).await;
        report.check(bench.state(&id).await == State::Running, "it runs on");
        let back = bench.subject.back();
        bench.done(&resize(&back, ResizePolicy::LiveOnly)).await;
        becomes(bench, report, &id, &back).await;
    } else {
        report.absent("live");
    }
    if let Some(beyond) = bench.subject.beyond() {
        let (kind, text) = bench.refused(&resize(&beyond, ResizePolicy::LiveOnly)).await;
        report.check(kind == ErrorKind::Conflict || kind == ErrorKind::Invalid, format!("{kind}: {text}"));
        report.check(text.contains("allow-"), format!("it names the policy that is needed: {text}"));
        let wanted = resize(&beyond, ResizePolicy::AllowStopStart);
        let plan = bench.prepare(&wanted).await.unwrap().plan;
        report.check(
            plan.downtime == Downtime::StopStart,
            format!("the plan says what it costs: {}", plan.downtime),
        );
        report.check(plan.steps.len() >= 3, "it is stopped, resized and started");
        // A guest that was just started does not hear a request to stop; this is no check of stopping.
        bench.done(&Action::Stop { instance: id.clone().into(), how: forced() }).await;
        bench.done(&wanted).await;
        becomes(bench, report, &id, &beyond).await;
        report.check(bench.state(&id).await == State::Stopped, "one that was stopped stays so");
    } else {
        report.absent("beyond the maximum");
        bench.done(&Action::Stop { instance: id.clone().into(), how: forced() }).await;
    }
    bench.done(&resize(&larger, ResizePolicy::LiveOnly)).await;
    becomes(bench, report, &id, &larger).await;
    bench.done(&Action::Start { instance: id.clone().into() }).await;
    becomes(bench, report, &id, &larger).await;
    bench.remove(&id).await;
}

/// A balloon takes its time; the size that is asked for has to come.
async fn becomes(bench: &Bench<'_>, report: &mut Report, id: &ResourceId, size: &SizeSpec) {
    let mut seen = Size::default();
    for _ in 0..200 {
        seen = bench.instance(id).await.size;
        let memory = size.memory_bytes.is_none() || seen.memory_bytes == size.memory_bytes;
        if memory && (size.vcpus.is_none() || seen.vcpus == size.vcpus) {
            report.check(true, "it has the size");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    report.check(false, format!("it never had {size:?}, but {seen:?}"));
}
