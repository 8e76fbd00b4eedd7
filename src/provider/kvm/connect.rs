//! Connections, each on a thread of its own: libvirt's calls block and cannot be cancelled, so nobody but such a
//! thread ever waits inside one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use virt::error::Error as Libvirt;

use super::error::{is_broken, translated, unconnected};
use super::mailbox::Mailbox;
use super::sys::Connection;
use crate::{Error, ErrorKind, Result, Retry};

/// Shortest and longest wait between two attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// A connection that comes back: opened at first use, dropped when it breaks, opened again after a growing pause.
pub(super) struct Session {
    uri: Arc<str>,
    mailbox: Option<Arc<Mailbox>>,
    open: Option<Open>,
    generation: u64,
    failure: Option<Failure>,
}

struct Open {
    connection: Connection,
    hostname: Option<String>,
}

struct Failure {
    kind: ErrorKind,
    message: String,
    retry_at: Instant,
    pause: Duration,
}

impl Session {
    fn new(uri: Arc<str>, mailbox: Option<Arc<Mailbox>>) -> Self {
        Self { uri, mailbox, open: None, generation: 0, failure: None }
    }

    /// Calls `call` on an open connection. One that broke since its last use, by a restart of the daemon for
    /// example, is replaced first, so that a restart between two calls costs none.
    ///
    /// # Errors
    /// The connection cannot be opened, or the call failed: see [`super::error`].
    pub(super) fn with<T>(
        &mut self,
        operation: &'static str,
        call: impl Fn(&Connection) -> Result<T, Libvirt>,
    ) -> Result<T> {
        let mut reused = self.open.is_some();
        loop {
            let uri = Arc::clone(&self.uri);
            let open = self.opened()?;
            match call(&open.connection) {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    if !is_broken(&error) && open.connection.is_alive() {
                        return Err(translated(operation, &uri, error));
                    }
                    self.open = None;
                    if !std::mem::take(&mut reused) {
                        return Err(translated(operation, &uri, error));
                    }
                }
            }
        }
    }

    /// Grows by one with each new connection: what was learned from events of an older one may have holes.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The hypervisor's host name, once connected.
    pub(super) fn hostname(&self) -> Option<String> {
        self.open.as_ref()?.hostname.clone()
    }

    fn opened(&mut self) -> Result<&Open> {
        if self.open.as_ref().is_some_and(|open| !open.connection.is_alive()) {
            self.open = None;
        }
        if self.open.is_none() {
            let open = self.connect()?;
            self.generation += 1;
            self.failure = None;
            self.open = Some(open);
        }
        self.open.as_ref().ok_or_else(|| Error::unavailable("connect", "the connection closed at once"))
    }

    fn connect(&mut self) -> Result<Open> {
        if let Some(failure) = self.failure.as_ref().filter(|failure| failure.retry_at > Instant::now()) {
            return Err(Error::new(failure.kind, "connect", failure.message.as_str())
                .with_retry(Retry::Later)
                .with_provider("kvm")
                .with_resource(self.uri.as_ref()));
        }
        match Connection::open(&self.uri) {
            Ok(mut connection) => {
                if let Some(mailbox) = &self.mailbox {
                    connection.subscribe(mailbox);
                }
                let hostname = connection.hostname().ok();
                Ok(Open { connection, hostname })
            }
            Err(error) => {
                let message = error.message().to_owned();
                let error = unconnected(&self.uri, error);
                let pause =
                    self.failure.as_ref().map_or(BACKOFF.0, |failure| failure.pause * 2).min(BACKOFF.1);
                // Many collectors must not come back in step after a restart.
                let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                self.failure = Some(Failure {
                    kind: error.kind(),
                    message: format!("{} ({message})", error.reason()),
                    retry_at: Instant::now() + wait,
                    pause,
                });
                Err(error)
            }
        }
    }
}

type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// A thread with a session. It ends when the worker is dropped and its present call has come back.
pub(super) struct Worker {
    jobs: SyncSender<Job>,
}

/// A call on its way.
pub(super) struct Call<T> {
    answer: Receiver<Result<T>>,
}

impl Worker {
    /// Starts the thread; the connection is opened by the first call. What happens to guests is put into `mailbox`, if
    /// there is one.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(super) fn start(uri: &Arc<str>, mailbox: Option<&Arc<Mailbox>>) -> Result<Self> {
        // One job waits at most: the owner asks for the next answer only when it has this one.
        let (jobs, queue) = sync_channel::<Job>(1);
        let mut session = Session::new(Arc::clone(uri), mailbox.cloned());
        thread::Builder::new()
            .name("libvirt".into())
            .spawn(move || {
                for job in queue {
                    // A panic inside the bindings must cost one call, not the thread.
                    if catch_unwind(AssertUnwindSafe(|| job(&mut session))).is_err() {
                        session.open = None;
                    }
                }
            })
            .map_err(|error| {
                Error::unavailable("start a thread", "the system gives no more threads")
                    .with_provider("kvm")
                    .with_source(error)
            })?;
        Ok(Self { jobs })
    }

    /// Begins a call; never blocks.
    pub(super) fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Session) -> Result<T> + Send + 'static,
    ) -> Call<T> {
        let (sender, answer) = sync_channel(1);
        let job: Job = Box::new(move |session| {
            // Nobody listens any more when the answer comes too late.
            let _ = sender.try_send(job(session));
        });
        // When the queue is full the job is dropped, its sender with it, and the call reports that it failed.
        let _ = self.jobs.try_send(job);
        Call { answer }
    }
}

impl<T> Call<T> {
    /// The answer, or `None` if there is none by `until`.
    pub(super) fn wait(&self, until: Instant) -> Option<Result<T>> {
        match self.answer.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Err(Error::unavailable(
                "call libvirt",
                "the connection's thread is still busy with an earlier call, or failed",
            )
            .with_provider("kvm"))),
        }
    }
}

/// The URI that libvirt is given: over SSH nobody is there to type a password or to accept a host key, so that asking for
/// one must fail instead of waiting.
pub(super) fn unattended(uri: &str) -> String {
    let scheme = uri.split_once("://").map_or("", |(scheme, _)| scheme);
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let chosen = query.split(['&', ';']).any(|pair| pair.split('=').next() == Some("no_tty"));
    if !scheme.ends_with("+ssh") || chosen {
        return uri.to_owned();
    }
    let sign = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{sign}no_tty=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(uri: &str) -> Session {
        Session::new(uri.into(), Some(Arc::default()))
    }

    #[test]
    fn a_missing_socket_is_unavailable_and_is_not_asked_again_at_once() {
        let mut session = session("qemu:///system?socket=/nonexistent/libvirt-sock");
        for _ in 0..2 {
            let error = session.with("list", Connection::list).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
            assert_eq!(error.retry(), Retry::Later);
            assert!(error.to_string().contains("/nonexistent/libvirt-sock"), "{error}");
        }
        let failure = session.failure.as_ref().unwrap();
        assert_eq!(failure.pause, BACKOFF.0, "the second call did not try");
    }

    #[test]
    fn a_session_opens_once_and_lists_the_test_driver() {
        let mut session = session("test:///default");
        let listed = session.with("list", Connection::list).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].guest.name.as_str(), listed[0].state.state), ("test", 1));
        session.with("list", Connection::list).unwrap();
        assert_eq!(session.generation(), 1);
        assert!(session.hostname().is_some());
    }

    #[test]
    fn a_call_that_takes_too_long_or_panics_costs_only_itself() {
        let worker = Worker::start(&"test:///default".into(), None).unwrap();
        let slow = worker.call(|_| {
            thread::sleep(Duration::from_millis(80));
            Ok(1)
        });
        assert!(slow.wait(Instant::now() + Duration::from_millis(5)).is_none());
        let soon = || Instant::now() + Duration::from_secs(5);
        assert_eq!(slow.wait(soon()).unwrap().unwrap(), 1);
        let broken = worker.call(|_| -> Result<()> { panic!("inside the bindings") });
        assert!(broken.wait(soon()).unwrap().is_err());
        let listed = worker.call(|session| session.with("list", Connection::list)).wait(soon()).unwrap();
        assert_eq!(listed.unwrap().len(), 1);
    }

    #[test]
    fn ssh_never_asks() {
        assert_eq!(unattended("qemu+ssh://host/system"), "qemu+ssh://host/system?no_tty=1");
        assert_eq!(unattended("qemu+ssh://h/system?keyfile=/k"), "qemu+ssh://h/system?keyfile=/k&no_tty=1");
        for left in ["qemu+ssh://host/system?no_tty=0", "qemu:///system", "qemu+libssh2://host/system"] {
            assert_eq!(unattended(left), left);
        }
    }
}
