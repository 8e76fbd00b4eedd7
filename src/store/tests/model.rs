//! Random appends, flushes, compactions, reopenings and crashes, compared with a map after each step.

use std::path::Path;

use super::*;
use crate::store::Reader;

/// What is in the store, and what should be.
struct Pair {
    random: fastrand::Rng,
    rows: Rows,
    base: i64,
}

impl Pair {
    /// A batch of random rows on few keys, so that most are written more than once, over hours and days.
    fn batch(&mut self) -> MetricBatch {
        let names = ["a", "b", "c"];
        let mut specs = Vec::new();
        for _ in 0..self.random.usize(1..20) {
            let resource = names[self.random.usize(..names.len())];
            let core = [None, Some("0"), Some("1")][self.random.usize(..3)];
            let time = self.base + self.random.i64(0..8) * 4 * HOUR + self.random.i64(0..3);
            let mut fields = Vec::new();
            for field in ["utilization", "cores", "steal"] {
                if self.random.bool() {
                    fields.push((field, f64::from(self.random.u32(..1_000))));
                }
            }
            specs.push((resource, core, time, fields));
        }
        for (resource, core, time, fields) in &specs {
            let key = ("cpu".to_owned(), (*resource).to_owned(), core.map(str::to_owned), *time);
            let values = fields.iter().map(|(name, value)| ((*name).to_owned(), *value));
            self.rows.entry(key).or_default().extend(values);
        }
        let specs: Vec<RowSpec<'_>> = specs
            .iter()
            .map(|(resource, core, time, fields)| (*resource, *core, *time, &fields[..]))
            .collect();
        rows(&specs)
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

async fn check(seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    // Old rows are in days that are over; fresh ones go into windows of hours.
    let fresh = chrono::Utc::now().timestamp_nanos_opt().unwrap() - 20 * HOUR;
    let base = if u64::is_multiple_of(seed, 2) { BASE } else { fresh };
    let mut pair = Pair { random: fastrand::Rng::with_seed(seed), rows: Rows::new(), base };
    let mut store = open(&path).await;
    let reader = Reader::open(&path).unwrap();
    for step in 0..30 {
        match pair.random.u32(..12) {
            0..6 => {
                let batches: Vec<_> = (0..pair.random.usize(1..4)).map(|_| pair.batch()).collect();
                let appended = store.append(&batches).await.unwrap();
                assert_eq!(appended.rows as usize, batches.iter().map(MetricBatch::rows).sum::<usize>());
            }
            6..8 => store.flush().await.unwrap(),
            8 => drop(store.compact().await.unwrap()),
            9 => {
                store.close().await.unwrap();
                store = open(&path).await;
            }
            10 => assert_eq!(read(&store.snapshot().unwrap()).await, pair.rows, "seed {seed}, step {step}"),
            _ => {
                // A crash: nothing was closed, and the copy knows only what is on disk.
                let crashed = folder.path().join(format!("crashed-{step}"));
                copy(&path, &crashed);
                let again = open(&crashed).await;
                assert_eq!(read(&again.snapshot().unwrap()).await, pair.rows, "seed {seed}, crash at {step}");
                again.close().await.unwrap();
            }
        }
        if step % 3 == 0 {
            let seen = read(&reader.snapshot().await.unwrap()).await;
            assert_eq!(seen, pair.rows, "seed {seed}, reader at step {step}");
        }
    }
    assert_eq!(read(&store.snapshot().unwrap()).await, pair.rows, "seed {seed}");
    store.flush().await.unwrap();
    store.compact().await.unwrap();
    assert_eq!(read(&store.snapshot().unwrap()).await, pair.rows, "seed {seed}, compacted");
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_the_store_holds_what_the_map_holds() {
    for seed in 0..10 {
        check(seed).await;
    }
}
