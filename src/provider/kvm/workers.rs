//! The threads that management calls libvirt on, each with a connection of its own that may write.
//!
//! A call of libvirt's cannot be cancelled. One that does not come back keeps its thread; after [`PATIENCE`] the thread no
//! longer counts, and another takes its place while there are fewer than [`Limits::most`]. So a stuck guest stalls only
//! the calls that are about it.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::link::Link;
use crate::{Error, Result};

/// A call that takes longer may be stuck. Some that are not take longer too: then there is one thread more for a while.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often somebody who waits looks whether a thread is missing.
const TICK: Duration = Duration::from_millis(500);
/// A thread without work for so long ends, except the last.
const IDLE: Duration = Duration::from_secs(60);
/// Calls that may wait for a thread.
const QUEUE: usize = 1024;

/// How many threads there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// That work.
    pub(super) working: usize,
    /// With those that are stuck.
    pub(super) most: usize,
    /// When a call counts as stuck.
    pub(super) patience: Duration,
}

impl Default for Limits {
    /// Well below the 20 workers of a libvirtd that was not set up otherwise.
    fn default() -> Self {
        Self { working: 4, most: 12, patience: PATIENCE }
    }
}

/// The threads.
pub(super) struct Workers(Arc<Shared>);

struct Shared {
    uri: String,
    limits: Limits,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// Since when each thread is at its present call.
    busy: HashMap<usize, Instant>,
    started: usize,
    closed: bool,
}

type Job = Box<dyn FnOnce(&mut Seat) + Send>;

/// A thread's connection, opened at first use and again when it broke.
struct Seat {
    uri: String,
    link: Option<Link>,
}

impl Seat {
    fn link(&mut self) -> Result<&Link> {
        if self.link.as_ref().is_some_and(|link| !link.connect.is_alive().unwrap_or(false)) {
            self.link = None;
        }
        match &mut self.link {
            Some(link) => Ok(link),
            empty => Ok(empty.insert(Link::open(&self.uri)?)),
        }
    }
}

impl Workers {
    /// No thread yet: calls start them. `uri` holds no NUL byte.
    pub(super) fn new(uri: &str, limits: Limits) -> Self {
        let (state, wake) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { uri: uri.to_owned(), limits, state, wake }))
    }

    /// Calls `job` on one of the threads and waits for its answer. A job that has not begun when nobody waits for it any
    /// more is not begun.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        job: impl FnOnce(&Link) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, mut answer) = oneshot::channel();
        self.submit(
            operation,
            Box::new(move |seat| {
                if !sender.is_closed() {
                    // Nobody listens any more when the answer comes too late.
                    let _ = sender.send(seat.link().and_then(job));
                }
            }),
        )?;
        loop {
            match tokio::time::timeout(TICK, &mut answer).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(_)) => {
                    return Err(self.unavailable(operation, "the call failed inside libvirt's bindings"));
                }
                Err(_) => self.0.grow(),
            }
        }
    }

    /// Lets the threads end when they come back from their calls; those inside a stuck guest may never.
    pub(super) fn close(&self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        state.queue.clear();
        self.0.wake.notify_all();
    }

    fn submit(&self, operation: &str, job: Job) -> Result<()> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Err(self.unavailable(operation, "the provider was closed"));
        }
        if state.queue.len() >= QUEUE {
            let reason = "a thousand calls wait already; is the hypervisor stuck?";
            return Err(self.unavailable(operation, reason));
        }
        state.queue.push_back(job);
        drop(state);
        self.0.wake.notify_one();
        self.0.grow();
        if self.0.state.lock().threads == 0 {
            return Err(self.unavailable(operation, "the system gives no threads"));
        }
        Ok(())
    }

    fn unavailable(&self, operation: &str, reason: &str) -> Error {
        Error::unavailable(operation, reason).with_provider("kvm").with_resource(&self.0.uri)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Starts a thread if calls wait that nobody will take soon.
    fn grow(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let stuck = state.stuck(self.limits.patience);
        if state.queue.len() <= state.idle
            || state.threads - stuck >= self.limits.working
            || state.threads >= self.limits.most
        {
            return;
        }
        let number = state.started;
        let shared = Arc::clone(self);
        let thread = thread::Builder::new().name("libvirt-manage".into());
        if let Err(error) = thread.spawn(move || shared.work(number)) {
            tracing::warn!(%error, "no more threads for calls of libvirt");
            return;
        }
        state.started += 1;
        state.threads += 1;
    }

    fn work(&self, number: usize) {
        let mut seat = Seat { uri: self.uri.clone(), link: None };
        while let Some(job) = self.next(number) {
            // A panic inside the bindings must cost one call, not the thread.
            if catch_unwind(AssertUnwindSafe(|| job(&mut seat))).is_err() {
                seat.link = None;
            }
        }
    }

    /// Waits for the next job; `None` when the thread is to end.
    fn next(&self, number: usize) -> Option<Job> {
        let mut state = self.state.lock();
        state.busy.remove(&number);
        let surplus = state.threads - state.stuck(self.limits.patience) > self.limits.working;
        if !surplus {
            let until = Instant::now() + IDLE;
            loop {
                if let Some(job) = state.queue.pop_front() {
                    state.busy.insert(number, Instant::now());
                    return Some(job);
                }
                if state.closed {
                    break;
                }
                state.idle += 1;
                let late = self.wake.wait_until(&mut state, until).timed_out();
                state.idle -= 1;
                if late && state.queue.is_empty() && state.threads > 1 {
                    break;
                }
                if late && state.queue.is_empty() {
                    // The last one stays, and its connection with it.
                    state.idle += 1;
                    self.wake.wait(&mut state);
                    state.idle -= 1;
                }
            }
        }
        state.threads -= 1;
        None
    }
}

impl State {
    fn stuck(&self, patience: Duration) -> usize {
        self.busy.values().filter(|since| since.elapsed() > patience).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn workers(working: usize, most: usize) -> Workers {
        Workers::new("test:///default", Limits { working, most, patience: Duration::from_millis(50) })
    }

    #[tokio::test]
    async fn a_stuck_call_is_replaced_up_to_a_bound_and_a_panic_costs_itself() {
        let workers = workers(1, 2);
        let (free, held) = std::sync::mpsc::sync_channel::<()>(1);
        let stuck = workers.call("hang", move |_| Ok(held.recv().is_ok()));
        tokio::pin!(stuck);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut stuck).await.is_err());
        let other = workers.call("ask", |link| Ok(link.host.clone())).await.unwrap();
        assert!(!other.is_empty(), "another thread took over");
        let broken = workers.call("ask", |_| -> Result<()> { panic!("inside the bindings") }).await;
        assert_eq!(broken.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(workers.call("ask", |link| Ok(link.connect.is_alive().unwrap())).await.unwrap());
        assert_eq!(workers.0.state.lock().threads, 2);
        free.send(()).unwrap();
        assert!(stuck.await.unwrap());
        workers.close();
        let closed = workers.call("ask", |_| Ok(())).await.unwrap_err();
        assert!(closed.to_string().contains("closed"), "{closed}");
    }

    #[tokio::test]
    async fn a_call_that_nobody_waits_for_is_not_begun() {
        let workers = workers(1, 1);
        let (free, held) = std::sync::mpsc::sync_channel::<()>(1);
        let first = workers.call("hang", move |_| Ok(held.recv().is_ok()));
        tokio::pin!(first);
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut first).await.is_err());
        let begun = Arc::new(Mutex::new(false));
        let second = Arc::clone(&begun);
        let late = workers.call("change", move |_| {
            *second.lock() = true;
            Ok(())
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), late).await.is_err());
        free.send(()).unwrap();
        assert!(first.await.unwrap());
        workers.call("ask", |_| Ok(())).await.unwrap();
        assert!(!*begun.lock());
    }

    #[tokio::test]
    async fn a_missing_socket_is_unavailable() {
        let uri = "qemu:///system?socket=/nonexistent/libvirt-sock";
        let workers = Workers::new(uri, Limits::default());
        let error = workers.call("list", |_| Ok(())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.chain());
        assert!(error.to_string().contains("/nonexistent/libvirt-sock"), "{error}");
    }
}
