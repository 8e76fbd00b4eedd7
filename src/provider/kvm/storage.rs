//! The use of storage pools and volumes, at a pace of its own.
//!
//! Reading a pool looks at its files, and a pool on a network filesystem that hangs holds the call for as long as that
//! lasts. So a reader on a thread of its own asks for each pool alone, leaves a call that hangs where it is, and goes on
//! with the others on a new connection; the poller takes a reading when it is complete and never waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;

use super::connect::{Call, Session, Worker};
use crate::{Error, Result};

/// How long one pool may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pools that may hang at the same time; each holds a thread here and a worker in the daemon.
const MAX_HUNG: usize = 3;

/// Space of a pool or a volume, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    /// What it can hold.
    pub(super) capacity: u64,
    /// What is taken where it lies.
    pub(super) allocation: u64,
    /// What is free; only of pools.
    pub(super) available: Option<u64>,
}

/// An active pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool {
    /// UUID.
    pub(super) uuid: String,
    /// Name.
    pub(super) name: String,
    /// Its own space.
    pub(super) space: Space,
    /// Its volumes.
    pub(super) volumes: Vec<Volume>,
}

/// A volume in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Volume {
    /// What names it everywhere: mostly its path.
    pub(super) key: String,
    /// Name inside its pool.
    pub(super) name: String,
    /// Its space.
    pub(super) space: Space,
}

/// What one reading brought.
#[derive(Debug, Default)]
pub(super) struct StorageReading {
    /// Pools that answered.
    pub(super) pools: Vec<Pool>,
    /// What is wrong with the others.
    pub(super) faults: Vec<Error>,
}

/// When storage is read, and the thread that reads.
pub(super) struct Storage {
    every: Duration,
    due: Instant,
    requests: SyncSender<()>,
    readings: Receiver<StorageReading>,
    busy: bool,
}

impl Storage {
    /// Starts the reader.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(super) fn start(uri: &Arc<str>, every: Duration) -> Result<Self> {
        let (requests, queue) = sync_channel::<()>(1);
        let (answers, readings) = sync_channel(1);
        let mut reader = Reader::new(Arc::clone(uri), PATIENCE, read_pool);
        thread::Builder::new()
            .name("kvm-storage".into())
            .spawn(move || {
                for () in queue {
                    if answers.send(reader.read()).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| {
                Error::unavailable("start a thread", "the system gives no more threads")
                    .with_provider("kvm")
                    .with_source(error)
            })?;
        Ok(Self { every, due: Instant::now(), requests, readings, busy: false })
    }

    /// A reading that is complete, if there is one; begins the next when it is due. Never waits.
    pub(super) fn poll(&mut self) -> Option<StorageReading> {
        let reading = match self.readings.try_recv() {
            Ok(reading) => Some(reading),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.due = Instant::now() + self.every;
                self.busy = true;
                None
            }
        };
        self.busy &= reading.is_none();
        let now = Instant::now();
        if !self.busy && now >= self.due {
            self.due = now + self.every;
            self.busy = self.requests.try_send(()).is_ok();
        }
        reading
    }
}

/// How a pool is read; another way in tests.
type ReadPool = fn(&mut Session, &str) -> Result<Option<Pool>>;

struct Reader {
    uri: Arc<str>,
    patience: Duration,
    read_pool: ReadPool,
    idle: Option<Worker>,
    /// Names of the active pools, as last listed.
    known: Vec<String>,
    /// A list that did not come.
    listing: Option<Hung<Vec<String>>>,
    hung: BTreeMap<String, Hung<Option<Pool>>>,
}

/// A call that did not come back in time, with the worker that it occupies.
struct Hung<T> {
    worker: Worker,
    call: Call<T>,
    since: Instant,
}

impl Reader {
    fn new(uri: Arc<str>, patience: Duration, read_pool: ReadPool) -> Self {
        let (known, hung) = (Vec::new(), BTreeMap::new());
        Self { uri, patience, read_pool, idle: None, known, listing: None, hung }
    }

    fn read(&mut self) -> StorageReading {
        let mut reading = StorageReading::default();
        self.reclaim();
        if let Err(error) = self.list() {
            reading.faults.push(error);
        }
        for name in self.known.clone() {
            match self.pool(&name) {
                Ok(Some(pool)) => reading.pools.push(pool),
                Ok(None) => {}
                Err(error) => reading.faults.push(error),
            }
        }
        reading
    }

    fn list(&mut self) -> Result<()> {
        if let Some(hung) = &self.listing {
            return Err(silent("list storage pools", &self.uri, hung.since));
        }
        match self.ask(list_pools)? {
            Ok(names) => self.known = names,
            // A pool that hangs may hold the list up too; those that are known can be asked for all the same.
            Err(hung) => {
                let error = silent("list storage pools", &self.uri, hung.since);
                self.listing = Some(hung);
                return Err(error);
            }
        }
        Ok(())
    }

    fn pool(&mut self, name: &str) -> Result<Option<Pool>> {
        if let Some(hung) = self.hung.get(name) {
            return Err(silent("read storage pool", name, hung.since));
        }
        if self.hung.len() >= MAX_HUNG {
            let reason = format!("{MAX_HUNG} other pools do not answer");
            return Err(Error::unavailable("read storage pool", reason)
                .with_provider("kvm")
                .with_resource(name));
        }
        let (read_pool, wanted) = (self.read_pool, name.to_owned());
        match self.ask(move |session| read_pool(session, &wanted))? {
            Ok(pool) => Ok(pool),
            Err(hung) => {
                let error = silent("read storage pool", name, hung.since);
                self.hung.insert(name.to_owned(), hung);
                Err(error)
            }
        }
    }

    /// The answer, or the call that did not bring one in time.
    fn ask<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
    ) -> Result<Result<T, Hung<T>>> {
        let worker = match self.idle.take() {
            Some(worker) => worker,
            None => Worker::start(&self.uri, None)?,
        };
        let (call, since) = (worker.call(job), Instant::now());
        match call.wait(since + self.patience) {
            None => Ok(Err(Hung { worker, call, since })),
            Some(answer) => {
                self.idle = Some(worker);
                answer.map(Ok)
            }
        }
    }

    /// Takes back the workers whose calls came back at last. What they brought is too old.
    fn reclaim(&mut self) {
        let now = Instant::now();
        if let Some(hung) = self.listing.take() {
            match hung.call.wait(now) {
                None => self.listing = Some(hung),
                Some(_) => self.idle = self.idle.take().or(Some(hung.worker)),
            }
        }
        for (name, hung) in std::mem::take(&mut self.hung) {
            match hung.call.wait(now) {
                None => drop(self.hung.insert(name, hung)),
                Some(_) => self.idle = self.idle.take().or(Some(hung.worker)),
            }
        }
    }
}

fn silent(operation: &str, resource: &str, since: Instant) -> Error {
    let reason =
        format!("it has not answered for {:.0} s; is its storage reachable?", since.elapsed().as_secs_f64());
    Error::unavailable(operation, reason).with_provider("kvm").with_resource(resource)
}

fn list_pools(session: &mut Session) -> Result<Vec<String>> {
    session.with("list storage pools", |connection| {
        let pools =
            connection.connect().list_all_storage_pools(virt_sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)?;
        Ok(pools.iter().filter_map(|pool| pool.get_name().ok()).collect())
    })
}

/// `None` for a pool that is gone or was stopped meanwhile. A volume that is gone is left out.
fn read_pool(session: &mut Session, name: &str) -> Result<Option<Pool>> {
    session.with("read storage pool", |connection| {
        let pool = match StoragePool::lookup_by_name(connection.connect(), name) {
            Err(error) if error.code() == ErrorNumber::NoStoragePool => return Ok(None),
            found => found?,
        };
        if !pool.is_active()? {
            return Ok(None);
        }
        let info = pool.get_info()?;
        let volumes = pool.list_all_volumes(0)?;
        let volumes = volumes.iter().filter_map(|volume| {
            let info = volume.get_info().ok()?;
            let space = Space { capacity: info.capacity, allocation: info.allocation, available: None };
            Some(Volume { key: volume.get_key().ok()?, name: volume.get_name().ok()?, space })
        });
        Ok(Some(Pool {
            uuid: pool.get_uuid_string()?,
            name: name.to_owned(),
            space: Space {
                capacity: info.capacity,
                allocation: info.allocation,
                available: Some(info.available),
            },
            volumes: volumes.collect(),
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "test:///default";

    fn slow_pool(session: &mut Session, name: &str) -> Result<Option<Pool>> {
        if name == "hangs" {
            thread::sleep(Duration::from_millis(400));
        }
        read_pool(session, "default-pool").map(|pool| pool.map(|pool| Pool { name: name.into(), ..pool }))
    }

    #[test]
    fn the_test_drivers_pool() {
        let mut storage = Storage::start(&URI.into(), Duration::from_secs(60)).unwrap();
        assert!(storage.poll().is_none(), "the first reading has only begun");
        let begun = Instant::now();
        let reading = loop {
            if let Some(reading) = storage.poll() {
                break reading;
            }
            assert!(begun.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(10));
        };
        assert!(reading.faults.is_empty(), "{:?}", reading.faults);
        assert_eq!((reading.pools.len(), reading.pools[0].name.as_str()), (1, "default-pool"));
        assert!(reading.pools[0].space.capacity > 0);
        assert!(storage.poll().is_none(), "the next is not due");
    }

    #[test]
    fn a_pool_that_hangs_costs_only_itself() {
        let mut reader = Reader::new(URI.into(), Duration::from_millis(80), slow_pool);
        reader.list().unwrap();
        for _ in 0..2 {
            reader.known = ["a", "hangs", "z"].map(str::to_owned).to_vec();
            let known = reader.known.clone();
            let answers: Vec<_> = known.iter().map(|name| reader.pool(name).is_ok()).collect();
            assert_eq!(answers, [true, false, true]);
        }
        assert_eq!(reader.hung.len(), 1, "it is not asked twice");
        thread::sleep(Duration::from_millis(450));
        reader.reclaim();
        assert!(reader.hung.is_empty());
    }

    #[test]
    fn a_pool_that_is_gone_is_left_out() {
        let mut reader = Reader::new(URI.into(), PATIENCE, read_pool);
        assert!(reader.pool("none").unwrap().is_none());
    }
}
