//! What holds for every transform: no row and no acknowledgement is lost on the way.

use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::model::{Ack, BatchBuilder, Identity, Outcome};

/// Table, and core and utilization of each row.
type Rows = (bool, Vec<(u8, Option<u8>)>);

fn rows() -> impl Strategy<Value = Rows> {
    (any::<bool>(), proptest::collection::vec((0_u8..4, proptest::option::of(0_u8..8)), 1..12))
}

/// Rows of `cpu`, or of `memory`, which no transform below is for.
fn batch((cpu, rows): &Rows) -> MetricBatch {
    let table = if *cpu { "cpu" } else { "memory" };
    let mut builder = BatchBuilder::new(table, &Identity::host("web-1")).unwrap();
    for (second, (core, value)) in rows.iter().enumerate() {
        let mut row = builder.row(second as i64 * 1_000_000_000);
        if *cpu {
            row.set("core", &core.to_string()).unwrap();
        }
        row.set("utilization", value.map(f64::from)).unwrap();
    }
    builder.finish().unwrap()
}

/// How many rows of a `cpu` batch a transform gives, not counting those it keeps for later.
type Expected = fn(&[(u8, Option<u8>)]) -> usize;

fn all(rows: &[(u8, Option<u8>)]) -> usize {
    rows.len()
}

fn measured(rows: &[(u8, Option<u8>)]) -> usize {
    if rows.iter().any(|(_, value)| value.is_some()) { rows.len() } else { 0 }
}

fn busy(rows: &[(u8, Option<u8>)]) -> usize {
    rows.iter().filter(|(_, value)| value.is_some_and(|value| value > 3)).count()
}

fn none(_: &[(u8, Option<u8>)]) -> usize {
    0
}

fn read<T: serde::de::DeserializeOwned>(config: &str) -> T {
    serde_json::from_str(config).unwrap()
}

/// Every transform, as a pipeline file would set it.
fn transforms() -> Vec<(Box<dyn Transform>, Expected)> {
    let tag = read(r#"{"table": "cpu", "set": {"site": "lab"}}"#);
    let rename = read(r#"{"table": "cpu", "columns": {"utilization": "busy"}}"#);
    let drop = read(r#"{"table": "cpu", "columns": ["utilization"]}"#);
    let keep = read(r#"{"table": "cpu", "columns": ["utilization"]}"#);
    let filter = read(r#"{"table": "cpu", "where": "utilization > 3"}"#);
    let sql = read(r#"{"table": "cpu", "query": "SELECT * FROM cpu WHERE utilization > 3"}"#);
    let downsample = read(r#"{"table": "cpu", "every": "5s", "aggregate": {"utilization": "sum"}}"#);
    vec![
        (Box::new(Tag::new(&tag).unwrap()), all),
        (Box::new(Rename::new(&rename).unwrap()), all),
        (Box::new(Drop::new(&drop).unwrap()), all),
        (Box::new(Keep::new(&keep).unwrap()), measured),
        (Box::new(Filter::new(&filter).unwrap()), busy),
        (Box::new(Sql::new(&sql).unwrap()), busy),
        (Box::new(Downsample::new(&downsample).unwrap()), none),
    ]
}

/// Makes parcels and hears what becomes of each.
#[derive(Default)]
struct Origin(Vec<Arc<Mutex<Vec<Outcome>>>>);

impl Origin {
    fn send(&mut self, batch: MetricBatch) -> Parcel {
        let heard = Arc::new(Mutex::new(Vec::new()));
        self.0.push(Arc::clone(&heard));
        Parcel::new(batch, Ack::new(move |outcome| heard.lock().push(outcome)))
    }

    fn heard(&self) -> Vec<Vec<Outcome>> {
        self.0.iter().map(|heard| heard.lock().clone()).collect()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_are_those_expected_and_each_origin_hears_once(
        batches in proptest::collection::vec(rows(), 1..5), lose in any::<bool>(),
    ) {
        for (mut transform, expected) in transforms() {
            let mut origin = Origin::default();
            let mut given = Vec::new();
            for rows in &batches {
                let parcel = origin.send(batch(rows));
                let out = block_on(transform.apply(parcel)).unwrap();
                let left = if rows.0 { expected(&rows.1) } else { rows.1.len() };
                prop_assert_eq!(out.iter().map(|parcel| parcel.batch.rows()).sum::<usize>(), left);
                if !rows.0 {
                    prop_assert_eq!(&out[0].batch, &batch(rows), "other tables pass as they are");
                }
                given.push(out);
            }
            let flushed = block_on(transform.flush(i64::MAX)).unwrap();
            let carried: usize = flushed.iter().map(|parcel| parcel.acks.len()).sum();
            for (rows, (out, heard)) in batches.iter().zip(given.iter().zip(origin.heard())) {
                let waits = !out.is_empty() || (rows.0 && carried > 0);
                let settled = if waits { vec![] } else { vec![Outcome::Settled] };
                prop_assert_eq!(heard, settled, "an origin hears early only when no row is left");
            }
            let waiting: Vec<bool> = origin.heard().iter().map(Vec::is_empty).collect();
            let end = if lose { Outcome::Lost } else { Outcome::Settled };
            for parcel in given.into_iter().flatten().chain(flushed) {
                if lose { drop(parcel) } else { parcel.settle() }
            }
            for (waited, heard) in waiting.into_iter().zip(origin.heard()) {
                prop_assert_eq!(heard, vec![if waited { end } else { Outcome::Settled }]);
            }
        }
    }

    #[test]
    fn whatever_follows_what_every_origin_hears_once(
        batches in proptest::collection::vec(rows(), 1..5), order in proptest::collection::vec(0_usize..7, 1..5),
    ) {
        let mut origin = Origin::default();
        let mut chain: Vec<_> = order.iter().map(|i| transforms().swap_remove(*i).0).collect();
        block_on(async {
            for rows in &batches {
                let parcel = origin.send(batch(rows));
                lead(&mut chain, 0, vec![parcel]).await;
            }
            for first in 0..chain.len() {
                let given = chain[first].flush(i64::MAX).await.unwrap();
                lead(&mut chain, first + 1, given).await;
            }
        });
        for heard in origin.heard() {
            prop_assert_eq!(heard, vec![Outcome::Settled]);
        }
    }
}

/// Leads parcels through the transforms from `first` on. One that is refused must be as it came; it is settled, as is
/// what comes out at the end.
async fn lead(chain: &mut [Box<dyn Transform>], first: usize, mut parcels: Vec<Parcel>) {
    for transform in &mut chain[first..] {
        let mut next = Vec::new();
        for parcel in parcels {
            let (before, shares) = (parcel.batch.clone(), parcel.acks.len());
            match transform.apply(parcel).await {
                Ok(given) => next.extend(given),
                Err(refused) => {
                    assert_eq!((&refused.parcel.batch, refused.parcel.acks.len()), (&before, shares));
                    refused.parcel.settle();
                }
            }
        }
        parcels = next;
    }
    parcels.into_iter().for_each(Parcel::settle);
}
