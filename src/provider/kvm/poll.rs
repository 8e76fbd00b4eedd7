//! One collection after the other, on a thread of its own that owns all that is remembered: no lock is needed.
//!
//! The slow question is asked first, without waiting; while libvirt works on it the fast one is asked and answered.
//! Then rows are made of whatever came in time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Config;
use super::connect::{Session, Worker};
use super::inventory::Inventory;
use super::job::{Job, Jobs};
use super::mailbox::{Event, Mailbox};
use super::mapping::Mapping;
use super::metrics::{Measured, Rows};
use super::raw::Listed;
use super::slow::{Pool, SlowReading};
use super::storage::{Storage, StorageReading};
use super::sys::{Connection, FAST, Outside, Record};
use super::tell;
use crate::model::Identity;
use crate::provider::flavours::Flavours;
use crate::provider::mapping::convert::Reading;
use crate::provider::rates::FORGET_AFTER;
use crate::provider::{Collection, Window};
use crate::{Error, Result};

/// What the fast question brought.
struct FastReading {
    records: Vec<Record>,
    at: Instant,
    /// The list of guests, when it was read again.
    list: Option<Vec<Listed>>,
    hostname: Option<String>,
    generation: u64,
}

/// What was read and heard beside that.
struct Seen<'a> {
    slow: Option<&'a SlowReading>,
    outside: HashMap<String, Outside>,
    jobs: HashMap<String, Job>,
    gone: Vec<(String, String)>,
    heard: Vec<Event>,
    storage: StorageReading,
}

/// All that one source remembers.
pub(super) struct Poller {
    config: Config,
    flavours: Flavours,
    uri: Arc<str>,
    mapping: Mapping,
    mailbox: Arc<Mailbox>,
    fast: Worker,
    slow: Pool,
    jobs: Jobs,
    /// Absent when storage is not to be read.
    storage: Option<Storage>,
    inventory: Inventory,
    /// The connection that the inventory's events come from.
    generation: u64,
    hostname: Option<String>,
    epoch: Instant,
}

impl Poller {
    /// # Errors
    /// The system gives no thread, or a metric is wrong.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let uri: Arc<str> = config.uri.as_str().into();
        let mapping = Mapping::new(config)?;
        let mailbox = Arc::<Mailbox>::default();
        let storage_every = Some(config.storage_every.0).filter(|every| !every.is_zero());
        Ok(Self {
            config: config.clone(),
            flavours: Flavours::new(config.sizes.clone(), None),
            fast: Worker::start(&uri, Some(&mailbox))?,
            slow: Pool::new(&uri, mapping.extra_groups(), config.deadline.0),
            jobs: Jobs::start(&uri)?,
            storage: storage_every.map(|every| Storage::start(&uri, every)).transpose()?,
            uri,
            mapping,
            mailbox,
            inventory: Inventory::default(),
            generation: 0,
            hostname: None,
            epoch: Instant::now(),
        })
    }

    /// Whether libvirt answers at all.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn discover(&mut self) -> Result<()> {
        let until = Instant::now() + self.config.deadline.0;
        let call = self.fast.call(|session| session.with("connect", |connection| Ok(connection.is_alive())));
        call.wait(until).unwrap_or_else(|| Err(self.silent("connect"))).map(|_| ())
    }

    /// Measures all guests once.
    ///
    /// # Errors
    /// libvirt did not even answer the fast question.
    pub(super) fn collect(&mut self, window: Window) -> Result<Collection> {
        let until = Instant::now() + self.config.deadline.0;
        let mut faults = Vec::new();
        let flight = self.slow.begin();
        let fast = match self.read_fast(until) {
            Ok(fast) => fast,
            Err(error) => {
                if let Ok(flight) = flight {
                    self.slow.park(flight);
                }
                return Err(error);
            }
        };
        let (heard, lost) = self.mailbox.take();
        if lost > 0 {
            faults.push(self.lost(lost));
        }
        let gone = self.take_inventory(&fast, &heard);
        let slow = flight.and_then(|flight| self.slow.finish(flight, until));
        // What is stuck shows only after a call has hung: look again then.
        let hung = slow.as_ref().map_or(true, |slow| slow.parked);
        let outside = if hung { self.look_again(&fast) } else { outside_of(&fast.records) };
        let slow = slow.map_err(|error| faults.push(error)).ok();
        let jobs = self.read_jobs(slow.as_ref(), &outside, until).unwrap_or_else(|error| {
            faults.push(error);
            HashMap::new()
        });
        let storage = self.storage.as_mut().and_then(Storage::poll).unwrap_or_default();
        let seen = Seen { slow: slow.as_ref(), outside, jobs, gone, heard, storage };
        let batches = self.rows(window, &fast, seen, &mut faults)?;
        Ok(Collection { batches, faults, reached: None })
    }

    fn read_fast(&mut self, until: Instant) -> Result<FastReading> {
        let due = self.inventory.is_due(self.config.relist.0);
        let fast = self.ask(due, until)?;
        // Between the list and the statistics a guest may have come or gone.
        let outdated = fast.generation != self.generation || self.inventory.disagrees(&fast.records);
        if fast.list.is_some() || !outdated {
            return Ok(fast);
        }
        self.ask(true, until)
    }

    fn ask(&self, list: bool, until: Instant) -> Result<FastReading> {
        let list = list | self.mailbox.news();
        let call = self.fast.call(move |session: &mut Session| fast(session, list));
        let answer = call.wait(until).unwrap_or_else(|| Err(self.silent("read statistics")));
        if answer.is_err() && list {
            self.mailbox.not_read();
        }
        answer
    }

    /// Jobs of the guests that have just answered: one that is stuck would hold the question up.
    fn read_jobs(
        &mut self,
        slow: Option<&SlowReading>,
        outside: &HashMap<String, Outside>,
        until: Instant,
    ) -> Result<HashMap<String, Job>> {
        let Some(slow) = slow else { return Ok(HashMap::new()) };
        let answered = slow
            .records
            .iter()
            .map(|record| &record.guest.uuid)
            .filter(|uuid| outside.get(*uuid).is_none_or(|outside| outside.busy_ms.is_none()));
        let guests: Vec<String> = answered.cloned().collect();
        let until = until.min(Instant::now() + self.slow.patience());
        if guests.is_empty() { Ok(HashMap::new()) } else { self.jobs.read(guests, until) }
    }

    fn take_inventory(&mut self, fast: &FastReading, heard: &[Event]) -> Vec<(String, String)> {
        self.inventory.hear(heard);
        self.generation = fast.generation;
        if fast.hostname.is_some() {
            self.hostname.clone_from(&fast.hostname);
        }
        let gone = fast.list.clone().map(|list| self.inventory.update(list)).unwrap_or_default();
        self.inventory.refresh(&fast.records);
        gone
    }

    fn look_again(&self, fast: &FastReading) -> HashMap<String, Outside> {
        // The healthy daemon answers this in milliseconds; a sick one must not add much to the deadline.
        let until = Instant::now() + self.slow.patience();
        let mut outside = outside_of(&fast.records);
        let call = self.fast.call(|session| {
            session.with("look for stuck guests", |connection| connection.statistics(FAST, true))
        });
        match call.wait(until).unwrap_or_else(|| Err(self.silent("look for stuck guests"))) {
            // Processor times stay those of the first look: they belong to its moment.
            Ok(again) => {
                for record in again {
                    if let (Some(old), Some(new)) = (outside.get_mut(&record.guest.uuid), record.outside) {
                        old.busy_ms = new.busy_ms;
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "looking for stuck guests"),
        }
        outside
    }

    fn rows(
        &mut self,
        window: Window,
        fast: &FastReading,
        seen: Seen<'_>,
        faults: &mut Vec<Error>,
    ) -> Result<Vec<crate::model::MetricBatch>> {
        let Seen { slow, outside, jobs, gone, heard, storage } = seen;
        let epoch = self.epoch;
        let elapsed =
            |at: Instant| i64::try_from(at.saturating_duration_since(epoch).as_nanos()).unwrap_or(i64::MAX);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let records: HashMap<&str, &Record> = by_guest(&fast.records);
        let slow_records: HashMap<&str, &Record> =
            slow.map(|slow| by_guest(&slow.records)).unwrap_or_default();
        // Where a call hung, the guest that held it was busy for nearly as long as the call was waited for: the call had
        // other guests before it, and the clock that counts is the daemon's.
        let hung = slow.is_none_or(|slow| slow.parked);
        let stuck_after = if hung { self.slow.patience() / 2 } else { self.slow.patience() };
        let identity = self.identity();
        let sizes = self.flavours.sizes().unwrap_or_else(|error| {
            faults.push(error.with_provider("kvm"));
            Vec::new()
        });
        let mut rows = Rows::new(&self.mapping, window.end, self.config.max_balloon_age.0);
        for (uuid, guest) in self.inventory.guests() {
            let identity = Identity {
                resource_id: uuid.clone(),
                resource_name: Some(guest.name.clone()),
                ..identity.clone()
            };
            let outside = outside.get(uuid).copied().unwrap_or_default();
            let busy = outside.busy_ms.filter(|busy| u128::from(*busy) >= stuck_after.as_millis());
            if let Some(record) = records.get(uuid.as_str()).filter(|record| record.guest.run == guest.run) {
                let slow_record =
                    slow_records.get(uuid.as_str()).filter(|record| record.guest.run == guest.run);
                let measured = Measured {
                    fast: Reading { params: &record.params, at: elapsed(fast.at) },
                    slow: slow
                        .zip(slow_record)
                        .map(|(slow, record)| Reading { params: &record.params, at: elapsed(slow.at) }),
                    outside,
                    now,
                };
                guest.rates.sweep(elapsed(fast.at).saturating_sub(FORGET_AFTER));
                if let Err(error) = rows.guest(&identity, &mut guest.rates, measured) {
                    faults.push(error.with_provider("kvm"));
                }
            }
            if let Some(busy) = busy {
                faults.push(stuck(&guest.name, busy));
            }
            tell::status(&mut rows, &identity, guest, &sizes, busy.is_some())?;
            if let Some(job) = jobs.get(uuid) {
                tell::job(&mut rows, &identity, job)?;
            }
        }
        for (uuid, name) in gone {
            let identity = Identity { resource_id: uuid, resource_name: Some(name), ..identity.clone() };
            tell::deleted(&mut rows, &identity)?;
        }
        let inventory = &self.inventory;
        tell::events(&mut rows, &identity, &heard, |uuid| inventory.has(uuid))?;
        tell::storage(&mut rows, &identity, &storage.pools)?;
        faults.extend(storage.faults);
        rows.finish()
    }

    /// The tags that all guests share.
    fn identity(&self) -> Identity {
        Identity {
            provider: "kvm".into(),
            account: Some(self.uri.to_string()),
            region: self.hostname.clone(),
            zone: None,
            resource_type: "instance".into(),
            resource_id: String::new(),
            resource_name: None,
            observer: "hypervisor".into(),
        }
    }

    fn lost(&self, events: u64) -> Error {
        let reason = format!("{events} events came faster than they were read, and their rows are missing");
        Error::unavailable("hear of guests", reason).with_provider("kvm").with_resource(self.uri.as_ref())
    }

    fn silent(&self, operation: &str) -> Error {
        let reason = format!("libvirt gave no answer within {}", self.config.deadline);
        Error::unavailable(operation, reason).with_provider("kvm").with_resource(self.uri.as_ref())
    }
}

/// The fast question, on the connection's thread.
fn fast(session: &mut Session, list: bool) -> Result<FastReading> {
    let mut reading = session.with("read statistics", |connection: &Connection| {
        let list = if list { Some(connection.list()?) } else { None };
        let records = connection.statistics(FAST, true)?;
        Ok(FastReading { records, at: Instant::now(), list, hostname: None, generation: 0 })
    })?;
    reading.hostname = session.hostname();
    reading.generation = session.generation();
    Ok(reading)
}

fn by_guest(records: &[Record]) -> HashMap<&str, &Record> {
    records.iter().map(|record| (record.guest.uuid.as_str(), record)).collect()
}

fn outside_of(records: &[Record]) -> HashMap<String, Outside> {
    records.iter().map(|record| (record.guest.uuid.clone(), record.outside.unwrap_or_default())).collect()
}

fn stuck(name: &str, busy_ms: u64) -> Error {
    let seconds = busy_ms as f64 / 1_000.0;
    let reason = format!(
        "its monitor has not answered for {seconds:.1} s; its disk rows and its own memory figures are missing until \
         it does"
    );
    Error::unavailable("measure guest", reason).with_provider("kvm").with_resource(name)
}
