//! Rows of every table that the provider declares.

use std::collections::BTreeSet;
use std::time::Duration;

use arrow::array::AsArray;
use barograph::model::Timestamp;
use barograph::model::resource::State;
use barograph::provider::{Action, Collection, Window};

use super::bench::{forced, started};
use super::{Bench, Report};

/// Some tables are read at a slower pace than others.
const COLLECTIONS: usize = 12;

pub(crate) async fn check(bench: &Bench<'_>, report: &mut Report) {
    report.topic("telemetry");
    let collector = bench.subject.collector();
    let shards = collector.discover().await.unwrap();
    report.check(!shards.is_empty(), "there is something to measure");
    let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
    let mut states = BTreeSet::new();
    let mut events = BTreeSet::new();
    let mut instance = None;
    for round in 0..COLLECTIONS {
        match round {
            2 => instance = Some(bench.create(started(bench.subject.instance("suite-measured"))).await),
            6 => {
                let instance = instance.clone().expect("it was made").into();
                bench.done(&Action::Stop { instance, how: forced() }).await;
            }
            9 => bench.remove(&instance.clone().expect("it was made")).await,
            _ => tokio::time::sleep(Duration::from_millis(700)).await,
        }
        for shard in &shards {
            let end = Timestamp::now().0;
            let start = end - i64::try_from(bench.subject.window().as_nanos()).unwrap();
            let collection = collector.collect(shard, Window { start, end }).await.unwrap();
            report.check(collection.faults.is_empty(), format!("nothing failed: {:?}", collection.faults));
            look(&collection, &mut seen, &mut states, &mut events);
        }
    }
    for (table, resource) in bench.subject.tables() {
        let has = seen.contains(&((*table).to_owned(), (*resource).to_owned()));
        report.check(has, format!("there are rows of {table} about {resource}; there are {seen:?}"));
    }
    for state in [State::Running, State::Stopped] {
        report.check(states.contains(state.as_str()), format!("it was seen {state}: {states:?}"));
    }
    for event in ["started", "stopped"] {
        report.check(events.contains(event), format!("{event} is an event: {events:?}"));
    }
    collector.close().await;
}

fn look(
    collection: &Collection,
    seen: &mut BTreeSet<(String, String)>,
    states: &mut BTreeSet<String>,
    events: &mut BTreeSet<String>,
) {
    for batch in &collection.batches {
        for row in 0..batch.rows() {
            let kind = batch.tag("resource_type", row).unwrap_or_default();
            seen.insert((batch.table().to_owned(), kind.to_owned()));
            if batch.tag("resource_name", row) != Some("suite-measured") {
                continue;
            }
            if batch.table() == "events" {
                events.extend(batch.tag("event", row).map(ToOwned::to_owned));
            }
            if let Some(state) = batch.records().column_by_name("state").filter(|_| batch.table() == "status")
            {
                states.insert(state.as_string::<i32>().value(row).to_owned());
            }
        }
    }
}
