//! The guests there are. Lifecycle events say when the list is out of date; it is also read again now and then, and
//! whenever the statistics show other guests than the list.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::change::Change;
use super::mailbox::Event;
use super::raw::Listed;
use super::state::Native;
use super::sys::{Named, Record};
use crate::model::resource::Size;
use crate::provider::flavours::name_of;
use crate::provider::rates::Rates;

/// A start that was heard of belongs to no run that is first seen later than this.
const KEEP_STARTS: Duration = Duration::from_secs(600);

/// A guest and what is remembered of it between two collections.
#[derive(Debug)]
pub(super) struct Guest {
    /// Name; a guest can be renamed.
    pub(super) name: String,
    /// Number of this run; `None` while it does not run.
    pub(super) run: Option<u32>,
    /// libvirt's state of it.
    pub(super) state: Native,
    /// Whether its memory is kept in a file (managed save).
    pub(super) saved: bool,
    /// Processors that it has, or will have.
    pub(super) vcpus: Option<u32>,
    /// Memory that it has, or will have, in KiB.
    pub(super) memory_kib: Option<u64>,
    /// When this run began, if we were there.
    pub(super) started: Option<Instant>,
    /// How often it was started again since it was first seen.
    pub(super) restarts: i64,
    /// Counters of this run: they begin at zero with each run.
    pub(super) rates: Rates<String>,
}

impl Guest {
    /// What it may use; `sizes` are those that have names.
    pub(super) fn size(&self, sizes: &[Size]) -> Size {
        let (vcpus, memory) = (self.vcpus.map(Into::into), self.memory_kib.map(|kib| kib * 1024));
        Size { name: name_of(sizes, vcpus, memory), vcpus, memory_bytes: memory, ..Size::default() }
    }
}

/// The guests by UUID.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    guests: BTreeMap<String, Guest>,
    listed: Option<Instant>,
    /// Starts that were heard of and whose run was not seen yet.
    starts: HashMap<String, Instant>,
}

impl Inventory {
    /// Whether the list is due to be read again.
    pub(super) fn is_due(&self, every: Duration) -> bool {
        self.listed.is_none_or(|listed| listed.elapsed() >= every)
    }

    /// Takes note of what happened.
    pub(super) fn hear(&mut self, events: &[Event]) {
        for event in events {
            if event.change.is_start() {
                self.starts.insert(event.uuid.clone(), event.at);
            }
            // The guest's process lives on, so that no list shows it.
            if let (Change::Rebooted, Some(guest)) = (event.change, self.guests.get_mut(&event.uuid)) {
                guest.restarts += 1;
            }
        }
        self.starts.retain(|_, at| at.elapsed() < KEEP_STARTS);
    }

    /// Takes over a list. Gives back the guests that are gone, as uuid and name.
    pub(super) fn update(&mut self, list: Vec<Listed>) -> Vec<(String, String)> {
        let mut before = std::mem::take(&mut self.guests);
        for Listed { guest, state, saved, vcpus, memory_kib } in list {
            let old = before.remove(&guest.uuid);
            let next = Guest { saved, vcpus, memory_kib, ..self.next(old, &guest, state) };
            self.guests.insert(guest.uuid, next);
        }
        self.listed = Some(Instant::now());
        before.into_iter().map(|(uuid, guest)| (uuid, guest.name)).collect()
    }

    /// Whether the running guests of a reading are other guests, or other runs, than the list has.
    pub(super) fn disagrees(&self, records: &[Record]) -> bool {
        let known = |record: &Record| {
            self.guests.get(&record.guest.uuid).is_some_and(|guest| guest.run == record.guest.run)
        };
        let running = self.guests.values().filter(|guest| guest.run.is_some()).count();
        running != records.len() || !records.iter().all(known)
    }

    /// Takes over the states of a reading, which are newer than the list's. A guest that is not in the list joins it.
    pub(super) fn refresh(&mut self, records: &[Record]) {
        for record in records {
            let word = |name| record.params.number(name).and_then(|number| u32::try_from(number).ok());
            let reason = word("state.reason").and_then(|reason| i32::try_from(reason).ok());
            let state = Native { state: word("state.state").unwrap_or(0), reason: reason.unwrap_or(0) };
            let old = self.guests.remove(&record.guest.uuid);
            let mut guest = self.next(old, &record.guest, state);
            if let Some(outside) = record.outside {
                guest.vcpus = outside.cores.or(guest.vcpus);
                guest.memory_kib = outside.memory_kib.or(guest.memory_kib);
            }
            self.guests.insert(record.guest.uuid.clone(), guest);
        }
    }

    /// Whether there is such a guest.
    pub(super) fn has(&self, uuid: &str) -> bool {
        self.guests.contains_key(uuid)
    }

    /// The guests with their UUIDs, in the order of the UUIDs.
    pub(super) fn guests(&mut self) -> impl Iterator<Item = (&String, &mut Guest)> {
        self.guests.iter_mut()
    }

    /// What is remembered of a guest after it was seen again: of another run nothing but who it is and how often.
    fn next(&mut self, old: Option<Guest>, now: &Named, state: Native) -> Guest {
        let name = now.name.clone();
        let (known, mut restarts) = old.as_ref().map_or((false, 0), |old| (true, old.restarts));
        if let Some(old) = old.filter(|old| old.run == now.run) {
            return Guest { name, state, ..old };
        }
        if known && now.run.is_some() {
            restarts += 1;
        }
        let started = now.run.and_then(|_| self.starts.remove(&now.uuid));
        Guest {
            name,
            run: now.run,
            state,
            saved: false,
            vcpus: None,
            memory_kib: None,
            started,
            restarts,
            rates: Rates::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::kvm::params::Params;

    fn listed(uuid: &str, run: Option<u32>, state: u32) -> Listed {
        let guest = Named { uuid: uuid.into(), name: format!("guest-{uuid}"), run };
        Listed { guest, state: (state, 0).into(), saved: false, vcpus: Some(2), memory_kib: Some(1024) }
    }

    fn record(uuid: &str, run: u32) -> Record {
        Record {
            guest: listed(uuid, Some(run), 1).guest,
            params: Params::from_text("state.state=3\nstate.reason=1"),
            outside: None,
        }
    }

    fn guest<'a>(inventory: &'a mut Inventory, uuid: &str) -> &'a mut Guest {
        inventory.guests().find(|(id, _)| *id == uuid).unwrap().1
    }

    #[test]
    fn a_guest_that_is_gone_is_named_once_and_forgotten() {
        let mut inventory = Inventory::default();
        assert!(inventory.is_due(Duration::MAX), "never listed");
        assert!(inventory.update(vec![listed("a", Some(1), 1), listed("b", None, 5)]).is_empty());
        assert!(!inventory.is_due(Duration::from_secs(60)));
        let gone = inventory.update(vec![listed("b", None, 5)]);
        assert_eq!(gone, [("a".to_owned(), "guest-a".to_owned())]);
        assert!(inventory.update(vec![listed("b", None, 5)]).is_empty());
    }

    #[test]
    fn a_new_run_starts_with_new_counters_and_the_events_time() {
        let mut inventory = Inventory::default();
        inventory.update(vec![listed("a", Some(1), 1)]);
        guest(&mut inventory, "a").rates.rate("x".into(), 1, 1);
        inventory.update(vec![listed("a", Some(1), 1)]);
        assert_eq!(guest(&mut inventory, "a").rates.len(), 1, "the same run keeps its counters");
        let at = Instant::now();
        let event = |change| {
            let (uuid, name) = ("a".to_owned(), "guest-a".to_owned());
            Event { uuid, name, change, at, time: 1 }
        };
        inventory.hear(&[event(Change::Lifecycle(4, 0)), event(Change::Lifecycle(2, 0))]);
        inventory.update(vec![listed("a", Some(2), 1)]);
        assert!(guest(&mut inventory, "a").rates.is_empty());
        assert_eq!(guest(&mut inventory, "a").started, Some(at));
        assert_eq!(guest(&mut inventory, "a").restarts, 1);
        inventory.hear(&[event(Change::Rebooted)]);
        assert_eq!(guest(&mut inventory, "a").restarts, 2);
        inventory.update(vec![listed("a", None, 5)]);
        inventory.update(vec![listed("a", Some(3), 1)]);
        assert_eq!(guest(&mut inventory, "a").started, None, "that start was of another run");
        assert_eq!(guest(&mut inventory, "a").restarts, 3);
    }

    #[test]
    fn other_guests_in_a_reading_than_in_the_list_are_noticed() {
        let mut inventory = Inventory::default();
        inventory.update(vec![listed("a", Some(1), 1), listed("b", None, 5)]);
        assert!(!inventory.disagrees(&[record("a", 1)]));
        assert!(inventory.disagrees(&[record("a", 2)]), "another run");
        assert!(inventory.disagrees(&[]), "stopped");
        assert!(inventory.disagrees(&[record("a", 1), record("c", 3)]), "started");
    }

    #[test]
    fn kept_memory_and_a_sizes_name_are_told_as_management_tells_them() {
        let mut inventory = Inventory::default();
        inventory.update(vec![Listed { saved: true, ..listed("a", None, 5) }]);
        let kept = guest(&mut inventory, "a");
        assert_eq!(kept.state.status(kept.saved).state.as_str(), "Suspended");
        let small = Size {
            name: Some("small".into()),
            vcpus: Some(2.into()),
            memory_bytes: Some(1 << 20),
            ..Size::default()
        };
        assert_eq!(kept.size(std::slice::from_ref(&small)), small);
        assert_eq!(kept.size(&[]).name, None);
        inventory.update(vec![listed("a", None, 5)]);
        let off = guest(&mut inventory, "a");
        assert_eq!(off.state.status(off.saved).state.as_str(), "Stopped");
    }

    #[test]
    fn a_reading_brings_newer_states_and_unlisted_guests() {
        let mut inventory = Inventory::default();
        inventory.update(vec![listed("a", Some(1), 1)]);
        inventory.refresh(&[record("a", 1), record("c", 3)]);
        assert_eq!(guest(&mut inventory, "a").state.state, 3);
        assert_eq!(guest(&mut inventory, "a").vcpus, Some(2), "what the reading does not say stays");
        assert_eq!(guest(&mut inventory, "c").run, Some(3));
    }
}
