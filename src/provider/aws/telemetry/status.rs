//! What instances are doing, as rows: one of each in the table `status`, and one in `events` for what happened to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::SECOND;
use super::identity::identity;
use super::inventory::Snapshot;
use super::machine::Machine;
use super::rows::Rows;
use crate::Result;
use crate::model::resource::{State, Status};
use crate::provider::Window;
use crate::provider::status::columns;

/// Events that wait; of more the oldest are dropped.
const EVENTS: usize = 10_000;

/// Something that happened to an instance.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) machine: Machine,
    pub(super) event: &'static str,
    /// Seconds since 1970.
    pub(super) at: i64,
    /// What it was afterwards; nothing where what is described now is something later.
    status: Option<Status>,
}

/// Events that were seen, until their rows have arrived.
#[derive(Debug, Default)]
pub(super) struct Events(Vec<(Event, Option<i64>)>);

impl Events {
    pub(super) fn add(&mut self, happened: Vec<Event>) {
        self.0.extend(happened.into_iter().map(|event| (event, None)));
        let too_many = self.0.len().saturating_sub(EVENTS);
        self.0.drain(..too_many);
    }

    /// Those to be told of in a window. They are kept until a later one begins at its end, which says that its rows arrived.
    pub(super) fn handed_on(&mut self, window: Window) -> Vec<Event> {
        self.0.retain(|(_, handed)| handed.is_none_or(|end| end > window.start));
        self.0
            .iter_mut()
            .map(|(event, handed)| {
                handed.get_or_insert(window.end);
                event.clone()
            })
            .collect()
    }
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
        let mut add = |event, at, status| events.push(Event { machine: machine.clone(), event, at, status });
        if let Some(launched) = machine.launched
            && known.map_or(launched > since, |known| known.launched != Some(launched))
        {
            if known.is_none() && before.is_some() {
                add("created", launched, None);
            }
            add("started", launched, None);
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
            add(word, ended, Some(machine.status.clone()));
        }
    }
    events
}

/// Adds the rows of a look: all instances, and those that are deleted only once. `told` are those that were, and the end of
/// the window in which; `since` is from when on a deletion is of interest, in seconds.
///
/// # Errors
/// Tables and columns do not fit, which the tests rule out.
pub(super) fn rows(
    rows: &mut Rows,
    place: (&str, &str),
    snapshot: &Snapshot,
    happened: &[Event],
    told: &mut HashMap<Arc<str>, i64>,
    (window, since): (Window, i64),
) -> Result<()> {
    let tick = window.end;
    told.retain(|id, _| snapshot.machines.contains_key(id));
    for machine in snapshot.machines.values() {
        if machine.status.state == State::Deleted {
            let before = machine.ended.is_some_and(|ended| ended <= since) && !told.contains_key(&machine.id);
            let last = told.entry(Arc::clone(&machine.id)).or_insert(if before { i64::MIN } else { tick });
            if *last <= window.start {
                continue;
            }
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
        let (machine, status) = (&event.machine, event.status.as_ref());
        let identity = identity(place.0, place.1, &machine.id, Some(machine), "hypervisor");
        rows.row(
            "events",
            &identity,
            &rows.cloud_tags(machine),
            event.at.saturating_mul(SECOND),
            &[
                ("event", event.event.into()),
                ("state", status.map(|status| status.state.as_str()).into()),
                ("reason", status.and_then(|status| status.reason.as_ref()).into()),
            ],
        )?;
    }
    Ok(())
}
