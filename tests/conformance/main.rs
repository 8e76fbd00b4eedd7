//! What every provider must do, checked on real daemons through the layers that everybody uses.
//!
//! A provider's own file says how its rig is brought up and what its smallest resources look like; the suite reads the
//! rest from its capabilities. What a provider does not claim is not checked but for being refused, and counted as such.
//! `--nocapture` shows the counts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test says what failed by panicking"
)]
#![allow(clippy::print_stdout, reason = "the counts are worth seeing with --nocapture")]
#![allow(unreachable_pub, dead_code, missing_docs, reason = "tests use parts of their support")]

mod aws;
mod bench;
mod containerd;
mod errors;
mod faulty;
mod images;
mod inventory;
mod kvm;
mod lifecycle;
mod networks;
mod operations;
mod report;
mod resize;
mod snapshots;
mod subject;
mod telemetry;
mod unwind;
mod volumes;

#[path = "../support/fake_cloudwatch/mod.rs"]
mod fake_cloudwatch;
#[path = "../support/fake_pricing.rs"]
mod fake_pricing;

use bench::Bench;
use report::Report;
use subject::Subject;

/// Runs everything on one provider.
async fn suite(subject: &dyn Subject) -> Report {
    let mut report = Report::new(subject.name());
    let bench = Bench::new(subject);
    inventory::check(&bench, &mut report).await;
    errors::check(&bench, &mut report).await;
    Box::pin(lifecycle::check(&bench, &mut report)).await;
    Box::pin(resize::check(&bench, &mut report)).await;
    Box::pin(volumes::check(&bench, &mut report)).await;
    Box::pin(snapshots::check(&bench, &mut report)).await;
    networks::check(&bench, &mut report).await;
    Box::pin(images::check(&bench, &mut report)).await;
    Box::pin(operations::check(&bench, &mut report)).await;
    telemetry::check(&bench, &mut report).await;
    Box::pin(unwind::check(&bench, &mut report)).await;
    bench.close().await;
    report
}
