//! What instances are doing, as rows: one of each in the table `status`, and one in `events` for what happened to it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::SECOND;
use super::inventory::Snapshot;
use super::machine::Machine;
use super::rows::Rows;
use super::targets::identity;
use crate::Result;
use crate::model::resource::State;
use crate::provider::status::columns;

/// Something that happened to an instance.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) machine: Machine,
    pub(super) event: &'static str,
    /// Seconds since 1970.
    pub(super) at: i64,
}

/// What happened between two looks. Before the first, only what happened later than `since` is told.
pub(super) fn events(
    before: Option<&Snapshot>,
    machines: &BTreeMap<Arc<str>, Machine>,
    since: i64,
) -> Vec<Event> {
    let mut events = Vec::new();
    for machine in machines.values() {
        let known = before.and_then(|before| before.machines.get(&machine.id));
        // What was there unseen, as because of a filter, did not begin now.
        let since = before.map_or(since, |before| before.at.min(since.max(before.at - 3_600)));
        let mut add = |event, at| events.push(Event { machine: machine.clone(), event, at });
        if let Some(launched) = machine.launched
            && known.map_or(launched > since, |known| known.launched != Some(launched))
        {
            if known.is_none() && before.is_some() {
                add("created", launched);
            }
            add("started", launched);
        }
        let ended = machine
            .ended
            .filter(|ended| known.map_or(*ended > since, |known| known.status.state != machine.status.state));
        let word = match machine.status.state {
            State::Stopped => Some("stopped"),
            State::Suspended => Some("suspended"),
            State::Deleted => Some("deleted"),
            _ => None,
        };
        if let Some((word, ended)) = word.zip(ended) {
            add(word, ended);
        }
    }
    events
}

/// Adds the rows of a look: all instances, and those that are deleted only once. `told` are those that were.
///
/// # Errors
/// Tables and columns do not fit, which the tests rule out.
pub(super) fn rows(
    rows: &mut Rows,
    place: (&str, &str),
    snapshot: &Snapshot,
    happened: &[Event],
    told: &mut HashSet<Arc<str>>,
    tick: i64,
) -> Result<()> {
    told.retain(|id| snapshot.machines.contains_key(id));
    for machine in snapshot.machines.values() {
        let deleted = machine.status.state == State::Deleted;
        if deleted && !told.insert(Arc::clone(&machine.id)) {
            continue;
        }
        let uptime = machine
            .launched
            .filter(|_| machine.status.state.is_up() == Some(true))
            .map(|launched| (tick / SECOND - launched).max(0) as f64);
        let size = machine.size();
        let mut values = columns(&machine.status, &size).to_vec();
        values.push(("uptime_seconds", uptime.into()));
        let identity = identity(place.0, place.1, &machine.id, Some(machine), "hypervisor");
        rows.row("status", &identity, &rows.cloud_tags(machine), tick, &values)?;
    }
    for event in happened {
        let machine = &event.machine;
        let identity = identity(place.0, place.1, &machine.id, Some(machine), "hypervisor");
        rows.row(
            "events",
            &identity,
            &rows.cloud_tags(machine),
            event.at.saturating_mul(SECOND),
            &[
                ("event", event.event.into()),
                ("state", machine.status.state.as_str().into()),
                ("reason", machine.status.reason.as_ref().into()),
            ],
        )?;
    }
    Ok(())
}
