//! The slow statistics: libvirt asks each guest's monitor for them, one guest after the other, and a guest that does
//! not answer holds the call for as long as it is stuck.
//!
//! A call that takes too long cannot be cancelled. It stays where it is, on its own thread and connection, and holds
//! the stuck guest's turn; the same question on a second connection then passes over that guest at once and brings
//! the others'. So a stuck guest costs the others one patience, once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect::{Call, Session, Worker};
use super::sys::{Record, SLOW};
use crate::{Error, Result};

/// Calls that may wait for stuck guests at the same time; each holds a thread here and a worker in the daemon.
const MAX_PARKED: usize = 6;
/// Idle connections that are kept.
const MAX_IDLE: usize = 2;
/// The least patience with a call, whatever the past says.
const MIN_PATIENCE: Duration = Duration::from_millis(100);

/// Statistics of all running guests and when they were read.
pub(super) struct SlowReading {
    /// One record per guest; a stuck guest's lacks what its monitor did not tell.
    pub(super) records: Vec<Record>,
    /// When the answer was complete.
    pub(super) at: Instant,
    /// Whether a call had to be left waiting.
    pub(super) parked: bool,
}

/// The connections for slow calls.
pub(super) struct Pool {
    uri: Arc<str>,
    /// Groups of statistics that are asked for.
    groups: u32,
    deadline: Duration,
    /// How long a call usually takes.
    usual: Duration,
    idle: Vec<Worker>,
    parked: Vec<Flight>,
}

/// A call on its way, with the worker it occupies.
pub(super) struct Flight {
    worker: Worker,
    call: Call<(Vec<Record>, Instant)>,
    since: Instant,
}

impl Pool {
    /// Connections for [`SLOW`] and the groups in `extra`.
    pub(super) fn new(uri: &Arc<str>, extra: u32, deadline: Duration) -> Self {
        let (idle, parked) = (Vec::new(), Vec::new());
        let (uri, usual) = (Arc::clone(uri), Duration::ZERO);
        Self { uri, groups: SLOW | extra, deadline, usual, idle, parked }
    }

    /// Asks, without waiting.
    ///
    /// # Errors
    /// Too many calls wait for stuck guests already, or the system gives no thread.
    pub(super) fn begin(&mut self) -> Result<Flight> {
        self.reclaim();
        if self.parked.len() >= MAX_PARKED {
            let reason = format!("{MAX_PARKED} calls wait for guests that do not answer");
            return Err(Error::unavailable("read statistics", reason)
                .with_provider("kvm")
                .with_resource(self.uri.as_ref()));
        }
        let worker = match self.idle.pop() {
            Some(worker) => worker,
            None => Worker::start(&self.uri, None)?,
        };
        let groups = self.groups;
        let call = worker.call(move |session| read(session, groups));
        Ok(Flight { worker, call, since: Instant::now() })
    }

    /// Waits until `until` at the latest, asking again beside calls that hang.
    ///
    /// # Errors
    /// libvirt refused, or no call came back in time.
    pub(super) fn finish(&mut self, mut flight: Flight, until: Instant) -> Result<SlowReading> {
        let mut parked = false;
        loop {
            let patience = self.patience();
            if let Some(answer) = flight.call.wait(until.min(flight.since + patience)) {
                self.keep(flight.worker);
                let (records, at) = answer?;
                if !parked {
                    self.learn(at.saturating_duration_since(flight.since));
                }
                return Ok(SlowReading { records, at, parked });
            }
            parked = true;
            self.park(flight);
            if Instant::now() >= until {
                let reason = format!("no answer within {:.1} s", self.deadline.as_secs_f64());
                return Err(Error::unavailable("read statistics", reason)
                    .with_provider("kvm")
                    .with_resource(self.uri.as_ref()));
            }
            flight = self.begin()?;
        }
    }

    /// Leaves a call waiting.
    pub(super) fn park(&mut self, flight: Flight) {
        self.parked.push(flight);
    }

    /// How long a call may take before it counts as hanging: a quarter of the deadline, or three times the usual
    /// where many guests make that longer.
    pub(super) fn patience(&self) -> Duration {
        (self.deadline / 4).max(self.usual * 3).max(MIN_PATIENCE).min(self.deadline)
    }

    /// Takes back the workers whose calls came back at last. What they brought is too old, but how long they took
    /// says whether the guests are many rather than stuck.
    fn reclaim(&mut self) {
        let now = Instant::now();
        for flight in std::mem::take(&mut self.parked) {
            match flight.call.wait(now) {
                None => self.parked.push(flight),
                Some(answer) => {
                    if let Ok((_, at)) = answer {
                        self.learn(at.saturating_duration_since(flight.since));
                    }
                    self.keep(flight.worker);
                }
            }
        }
    }

    /// Moves the usual duration a quarter of the way towards `took`; a call that a stuck guest held says nothing.
    fn learn(&mut self, took: Duration) {
        if took < self.deadline {
            self.usual = (self.usual * 3 + took) / 4;
        }
    }

    fn keep(&mut self, worker: Worker) {
        if self.idle.len() < MAX_IDLE {
            self.idle.push(worker);
        }
    }
}

fn read(session: &mut Session, groups: u32) -> Result<(Vec<Record>, Instant)> {
    session.with("read statistics", |connection| {
        let records = connection.statistics(groups, false)?;
        Ok((records, Instant::now()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn hanging(worker: Worker, duration: Duration) -> Flight {
        let call = worker.call(move |_| {
            std::thread::sleep(duration);
            Ok((Vec::new(), Instant::now()))
        });
        Flight { worker, call, since: Instant::now() }
    }

    #[test]
    fn a_hanging_call_is_left_alone_and_the_next_one_answers() {
        let uri: Arc<str> = "test:///default".into();
        let mut pool = Pool::new(&uri, 0, Duration::from_millis(400));
        assert_eq!(pool.patience(), Duration::from_millis(100));
        let flight = hanging(Worker::start(&uri, None).unwrap(), Duration::from_millis(600));
        let begun = Instant::now();
        let reading = pool.finish(flight, begun + Duration::from_secs(2)).unwrap();
        assert!(reading.parked && begun.elapsed() < Duration::from_millis(500));
        assert_eq!(reading.records.len(), 1, "the second connection answered");
        assert_eq!((pool.parked.len(), pool.idle.len()), (1, 1));

        std::thread::sleep(Duration::from_millis(700));
        let flight = pool.begin().unwrap();
        assert_eq!(pool.parked.len(), 0, "the call that hung came back");
        assert!(!pool.finish(flight, soon()).unwrap().parked);
    }

    #[test]
    fn patience_grows_with_the_number_of_guests_and_not_with_a_stuck_one() {
        let uri: Arc<str> = "test:///default".into();
        let mut pool = Pool::new(&uri, 0, Duration::from_millis(800));
        for _ in 0..8 {
            let flight = hanging(Worker::start(&uri, None).unwrap(), Duration::from_millis(250));
            pool.park(flight);
            std::thread::sleep(Duration::from_millis(270));
            pool.reclaim();
        }
        assert!(pool.patience() > Duration::from_millis(500), "{:?}", pool.patience());
        let before = pool.patience();
        pool.learn(Duration::from_secs(40));
        assert_eq!(pool.patience(), before);
    }

    #[test]
    fn waiting_calls_are_few_and_then_it_is_said() {
        let uri: Arc<str> = "test:///default".into();
        let mut pool = Pool::new(&uri, 0, Duration::from_millis(400));
        for _ in 0..MAX_PARKED {
            let flight = hanging(Worker::start(&uri, None).unwrap(), Duration::from_millis(300));
            pool.park(flight);
        }
        let error = pool.begin().err().unwrap();
        assert!(error.to_string().contains("calls wait for guests"), "{error}");
    }
}
