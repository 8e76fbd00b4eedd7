//! Rows of the tables that tell of resources rather than measure them: `status`, `events`, `job` and `storage`.

use super::inventory::Guest;
use super::job::Job;
use super::mailbox::Event;
use super::metrics::Rows;
use super::storage::{Pool, Space};
use crate::Result;
use crate::model::resource::{Size, State};
use crate::model::{Identity, Value};
use crate::provider::status::{columns, gone};

/// Adds what a guest is doing. `sizes` are those that have names.
///
/// # Errors
/// The table has no such column, which the tests rule out; so do all here.
pub(super) fn status(
    rows: &mut Rows<'_>,
    identity: &Identity,
    guest: &Guest,
    sizes: &[Size],
    stuck: bool,
) -> Result<()> {
    let runs = guest.run.is_some();
    let (status, size) = (guest.state.status(guest.saved), guest.size(sizes));
    let uptime = guest.started.filter(|_| runs).map(|started| started.elapsed().as_secs_f64());
    let mut values = columns(&status, &size).to_vec();
    values.extend([
        ("uptime_seconds", uptime.into()),
        ("stuck", runs.then_some(stuck).into()),
        ("restarts", guest.restarts.into()),
    ]);
    rows.plain("status", identity, rows.tick(), &values)
}

/// Adds the last row of a guest that is gone.
pub(super) fn deleted(rows: &mut Rows<'_>, identity: &Identity) -> Result<()> {
    rows.plain("status", identity, rows.tick(), &gone())
}

/// Adds what a guest's job is doing.
pub(super) fn job(rows: &mut Rows<'_>, identity: &Identity, job: &Job) -> Result<()> {
    let [total, processed, remaining] = job.bytes();
    rows.plain(
        "job",
        identity,
        rows.tick(),
        &[
            ("operation", job.operation().into()),
            ("state", job.state().into()),
            ("progress", job.progress().into()),
            ("elapsed_seconds", job.elapsed().into()),
            ("total_bytes", total.into()),
            ("processed_bytes", processed.into()),
            ("remaining_bytes", remaining.into()),
        ],
    )
}

/// Adds what happened to guests, each event at its own time. `everyone` has the tags that all guests share; `is_there`
/// says which guests still are.
pub(super) fn events(
    rows: &mut Rows<'_>,
    everyone: &Identity,
    events: &[Event],
    is_there: impl Fn(&str) -> bool,
) -> Result<()> {
    for event in events {
        let mut told = event.change.told();
        // A guest that runs loses only its definition, and is there until it stops.
        if told.event == "deleted" && !is_there(&event.uuid) {
            told.state = Some(State::Deleted);
        }
        let identity = Identity {
            resource_id: event.uuid.clone(),
            resource_name: Some(event.name.clone()),
            ..everyone.clone()
        };
        let values = [
            ("event", told.event.into()),
            ("state", told.state.map(State::as_str).into()),
            ("reason", told.reason.into()),
        ];
        rows.plain("events", &identity, event.time, &values)?;
    }
    Ok(())
}

/// Adds the use of pools and of their volumes. `everyone` has the tags that all share.
pub(super) fn storage(rows: &mut Rows<'_>, everyone: &Identity, pools: &[Pool]) -> Result<()> {
    let identity = |kind: &str, id: &str, name: &str| Identity {
        resource_type: kind.into(),
        resource_id: id.into(),
        resource_name: Some(name.into()),
        ..everyone.clone()
    };
    for pool in pools {
        space(rows, &identity("pool", &pool.uuid, &pool.name), None, pool.space)?;
        for volume in &pool.volumes {
            space(rows, &identity("volume", &volume.key, &volume.name), Some(&pool.name), volume.space)?;
        }
    }
    Ok(())
}

fn space(rows: &mut Rows<'_>, identity: &Identity, pool: Option<&str>, space: Space) -> Result<()> {
    let (limit, used) = (space.capacity as f64, space.allocation as f64);
    let utilization = (limit > 0.0).then(|| used / limit);
    rows.plain(
        "storage",
        identity,
        rows.tick(),
        &[
            ("pool", pool.map_or(Value::Null, Value::Text)),
            ("limit_bytes", limit.into()),
            ("used_bytes", used.into()),
            ("available_bytes", space.available.map(|bytes| bytes as f64).into()),
            ("utilization", utilization.into()),
        ],
    )
}
