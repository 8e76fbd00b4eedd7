//! One row in each batch has a field of another type than the server knows: it alone must end in the dead letters.

use std::collections::BTreeSet;
use std::time::Instant;

use barograph::pipeline::LetterFolder;

use crate::fake_influx::{self, Fake, Kind};
use crate::influxd::{self, Influxd};
use crate::pipeline::Pipeline;
use crate::rows::{batch, recent, rows};
use crate::setting;

/// Rows of a batch, one of them bad.
const BATCH: usize = 5_000;
/// A row of the table that gives the field its type.
const SEED: &str = "probe text=1.5";

enum Server {
    Real(Influxd),
    Fake(Kind, Fake),
}

pub async fn run() {
    let count: usize = setting("DELIVERY_POISON_ROWS", 1_000_000);
    let start = recent();
    println!("poison: one bad row in each batch of {BATCH}");
    println!(
        "  {:<12} {:>9} {:>8} {:>12} {:>10} {:>9} {:>8} {:>10}",
        "", "rows", "bad", "dead letters", "stored", "requests", "s", "rows/s"
    );
    let real = Influxd::start(influxd::Settings::default()).await;
    real.query("", "CREATE DATABASE db").await;
    let url = format!("{}/write?db=db&precision=n", real.url);
    let answer = crate::http().post(url).body(format!("{SEED} {}\n", start - 1)).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    one("real 1.6.7", &Server::Real(real), start, count / BATCH).await;
    // They keep every value as a text of its own.
    for (name, kind) in [("fake 2.x", Kind::Two), ("fake 3.x", Kind::Three)] {
        let fake = Fake::start(fake_influx::Settings::new(kind)).await;
        fake.seed(&format!("{SEED} {}\n", start - 1));
        one(name, &Server::Fake(kind, fake), start, count / BATCH / 5).await;
    }
}

async fn one(name: &str, server: &Server, start: i64, batches: usize) {
    let folder = tempfile::tempdir().unwrap();
    let bad = |number: usize| number * BATCH + number * 7_919 % BATCH;
    let supply = (0..batches).map(move |number| {
        let mut part = rows(start + (number * BATCH) as i64, BATCH);
        part.iter_mut().for_each(|row| row.value += (number * BATCH) as f64);
        part[bad(number) % BATCH].text = Some("of another type".into());
        batch("probe", &part)
    });
    let (url, keys) = match server {
        Server::Real(real) => (real.url.clone(), "database: db"),
        Server::Fake(Kind::Two, fake) => (fake.url(), "org: lab, bucket: db"),
        Server::Fake(_, fake) => (fake.url(), "database: db"),
    };
    let began = Instant::now();
    let pipeline = Pipeline::start(&url, keys, folder.path(), supply).await;
    pipeline.ended((batches * BATCH) as u64).await;
    let took = began.elapsed().as_secs_f64();
    let requests = pipeline.requests();
    let balance = pipeline.sink().balance;
    let ending = pipeline.stop().await;

    let letters = LetterFolder::new(folder.path());
    let mut dead: Vec<i64> = Vec::new();
    for entry in letters.list().unwrap() {
        dead.extend(letters.read(&entry).unwrap().batch.times());
    }
    let wanted: BTreeSet<i64> = (0..batches).map(|number| start + bad(number) as i64).collect();
    let only_bad = dead.len() == wanted.len() && dead.iter().copied().collect::<BTreeSet<_>>() == wanted;
    let good = (0..batches * BATCH).filter(|place| !wanted.contains(&(start + *place as i64)));
    let (good, sum) = good.fold((0, 0.0), |(rows, sum), place| (rows + 1, sum + place as f64 + 0.5));
    let (stored, stored_sum) = server.stored().await;
    println!(
        "  {name:<12} {:>9} {batches:>8} {:>12} {stored:>10} {requests:>9} {took:>8.1} {:>10.0}",
        batches * BATCH,
        dead.len(),
        (batches * BATCH) as f64 / took
    );
    if !only_bad {
        println!("    NOT THE BAD ROWS are in the dead letters");
    }
    // Times differ, so that the number says how many rows there are; their values, which.
    if (stored, stored_sum) != (good, sum) {
        println!(
            "    NOT ALL GOOD ROWS are stored: {stored} with the sum {stored_sum}, not {good} with {sum}"
        );
    }
    if !balance.holds() || ending != Default::default() {
        println!("    the account: {balance:?}, the end: {ending:?}");
    }
}

impl Server {
    /// Rows that have a value, and the sum of the values.
    async fn stored(&self) -> (usize, f64) {
        match self {
            Self::Real(real) => {
                let answer = real.query("db", "SELECT count(\"value\"), sum(\"value\") FROM \"probe\"").await;
                let number = |place: &str| answer.pointer(&format!("/results/0/series/0/values/0/{place}"));
                let count = number("1").and_then(|count| count.as_u64()).unwrap_or(0);
                let sum = number("2").and_then(|sum| sum.as_f64()).unwrap_or(0.0);
                (usize::try_from(count).unwrap(), sum)
            }
            Self::Fake(_, fake) => {
                let values = fake.values("probe", "value");
                (values.len(), values.values().map(|value| value.parse::<f64>().unwrap()).sum())
            }
        }
    }
}
