//! What the tests of the transforms share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::{Ack, BatchBuilder, Identity, MetricBatch, Outcome, Parcel};

/// Rows of `cpu`: row i has the core i, the time i, the utilization i and half of it as steal.
pub(super) fn cpu(rows: usize) -> MetricBatch {
    let identity = Identity { region: Some("somewhere".into()), ..Identity::host("web-1") };
    let mut builder = BatchBuilder::new("cpu", &identity).unwrap();
    for row in 0..rows {
        let value = row as f64;
        let core = row.to_string();
        let mut row = builder.row(row as i64);
        row.set("core", &core).unwrap();
        row.set("utilization", value).unwrap().set("steal", value / 2.0).unwrap();
    }
    builder.finish().unwrap()
}

/// A parcel, and whether its acknowledgement has come back settled. Losing it fails the test.
pub(super) fn parcel(batch: MetricBatch) -> (Parcel, impl Fn() -> bool) {
    let settled = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&settled);
    let ack = Ack::new(move |outcome| {
        let settled = usize::from(outcome == Outcome::Settled);
        seen.fetch_add(settled, Ordering::SeqCst);
    });
    (Parcel::new(batch, ack), move || settled.load(Ordering::SeqCst) == 1)
}
