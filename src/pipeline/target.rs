//! The other side of a sink as all its lanes see it: when a write of one fails they all wait, and one alone tries
//! whether it is over. So a server that is down or overloaded sees one request at a time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turns, MutexGuard, Notify};
use tokio::time::{Instant, sleep_until};

use super::backoff::{Backoff, LONGEST_ASKED};
use super::log_limit::LogLimit;
use super::monitor::{SinkPhase, SinkState};
use crate::{Error, ErrorKind, Retry};

/// Bounds of the waits between two tries, if a plan does not say others.
pub(super) const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Whether the other side takes rows, and when to ask again if not.
pub(super) struct Target {
    state: Arc<SinkState>,
    trouble: Mutex<Trouble>,
    /// Held by the one that tries while there is trouble.
    probe: Turns<()>,
    /// Trouble began, ended or got another time.
    changed: Notify,
    limit: LogLimit,
}

struct Trouble {
    backoff: Backoff,
    /// When to try again; `None` while everything works.
    until: Option<Instant>,
    /// The last failure.
    since: Option<Instant>,
}

/// The right to try once.
pub(super) struct Turn<'a> {
    _probe: Option<MutexGuard<'a, ()>>,
    began: Instant,
}

impl Target {
    pub(super) fn new(state: Arc<SinkState>, (first, longest): (Duration, Duration)) -> Self {
        let trouble = Trouble { backoff: Backoff::new(first, longest), until: None, since: None };
        Self {
            state,
            trouble: Mutex::new(trouble),
            probe: Turns::new(()),
            changed: Notify::new(),
            limit: LogLimit::default(),
        }
    }

    /// Waits until it may be tried.
    pub(super) async fn turn(&self) -> Turn<'_> {
        loop {
            if self.until().is_none() {
                return Turn { _probe: None, began: Instant::now() };
            }
            let probe = self.probe.lock().await;
            // The trouble may be over before its time, or last longer.
            loop {
                let changed = self.changed.notified();
                let (Some(until), now) = (self.until(), Instant::now()) else { break };
                if until <= now {
                    return Turn { _probe: Some(probe), began: now };
                }
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = changed => {}
                }
            }
        }
    }

    /// A write worked.
    pub(super) fn worked(&self, turn: &Turn<'_>) {
        self.answered(turn);
        self.state.update(|numbers| numbers.writes += 1);
    }

    /// The other side is there and takes rows, whatever it said about these.
    pub(super) fn answered(&self, turn: &Turn<'_>) {
        let mut trouble = self.trouble.lock();
        // What was on its way when another failed says nothing about what the other was told.
        if trouble.since.is_some_and(|since| turn.began < since) {
            return;
        }
        if trouble.until.take().is_some() {
            trouble.backoff.reset();
        }
        trouble.since = None;
        drop(trouble);
        self.changed.notify_waiters();
        self.state.update(|numbers| numbers.phase = SinkPhase::Open);
        if let Some(lasted) = self.limit.forget("write") {
            tracing::info!(sink = self.state.name, %lasted, "sink writes again");
        }
    }

    /// A write failed for a reason that is not in its rows.
    pub(super) fn failed(&self, error: &Error) {
        let now = Instant::now();
        let mut trouble = self.trouble.lock();
        // A write that was on its way when another failed says nothing new, unless it is told a longer time.
        let until = match (trouble.until.filter(|until| *until > now), error.retry()) {
            (Some(until), Retry::After(asked)) => until.max(now + asked.min(LONGEST_ASKED)),
            (Some(until), _) => until,
            (None, _) => now + trouble.backoff.after(error),
        };
        (trouble.until, trouble.since) = (Some(until), Some(now));
        drop(trouble);
        self.changed.notify_waiters();
        self.state.update(|numbers| {
            numbers.phase = phase(error);
            *numbers.retries.entry(error.kind().as_str()).or_default() += 1;
        });
        if let Some(left_out) = self.limit.pass("write") {
            let (error, wait) = (error.chain(), until - now);
            tracing::warn!(sink = self.state.name, error, ?wait, left_out, "write failed; the rows wait");
        }
    }

    /// The other side cannot even be opened; whoever opens it counts and tells.
    pub(super) fn unopened(&self, error: &Error) {
        let now = Instant::now();
        let mut trouble = self.trouble.lock();
        (trouble.until, trouble.since) = (Some(now), Some(now));
        drop(trouble);
        self.changed.notify_waiters();
        self.state.update(|numbers| numbers.phase = phase(error));
    }

    /// It was opened.
    pub(super) fn opened(&self) {
        self.answered(&Turn { _probe: None, began: Instant::now() });
    }

    /// Ends when the other side does not take rows.
    pub(super) async fn failing(&self) {
        loop {
            let changed = self.changed.notified();
            if self.until().is_some() {
                return;
            }
            changed.await;
        }
    }

    fn until(&self) -> Option<Instant> {
        self.trouble.lock().until
    }
}

/// What an error says about the sink's health.
fn phase(error: &Error) -> SinkPhase {
    let reason = error.to_string();
    match error.kind() {
        ErrorKind::Throttled | ErrorKind::Quota => SinkPhase::Throttled(reason),
        ErrorKind::Capacity | ErrorKind::Unavailable => SinkPhase::Down(reason),
        // Somebody has to repair something.
        _ => SinkPhase::Misconfigured(reason),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn target() -> Arc<Target> {
        Arc::new(Target::new(SinkState::new("influx"), BACKOFF))
    }

    #[tokio::test(start_paused = true)]
    async fn while_there_is_trouble_one_alone_tries_and_all_go_on_after_it() {
        let target = target();
        target.failed(&Error::unavailable("write", "down"));
        let trying = Arc::new(AtomicU32::new(0));
        let lanes: Vec<_> = (0..8)
            .map(|_| {
                let (target, trying) = (Arc::clone(&target), Arc::clone(&trying));
                tokio::spawn(async move {
                    let turn = target.turn().await;
                    let before = trying.fetch_add(1, Ordering::SeqCst);
                    if turn._probe.is_some() {
                        assert_eq!(before, 0, "alone");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        target.worked(&turn);
                        trying.fetch_sub(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for lane in lanes {
            lane.await.unwrap();
        }
        assert_eq!(trying.load(Ordering::SeqCst), 7, "the others went on without a turn");
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_together_counts_as_one_wait_but_every_failure_is_counted() {
        let target = target();
        let error = Error::unavailable("write", "busy").with_retry(Retry::After(Duration::from_secs(7)));
        for _ in 0..5 {
            target.failed(&error);
        }
        let began = Instant::now();
        drop(target.turn().await);
        assert_eq!(began.elapsed().as_secs(), 7);
        assert_eq!(target.state.numbers.lock().retries["unavailable"], 5);
        target.failing().await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_an_earlier_write_does_not_end_the_trouble_and_a_later_one_ends_every_wait() {
        let target = target();
        let early = target.turn().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = |seconds| {
            Error::new(ErrorKind::Throttled, "write", "busy")
                .with_retry(Retry::After(Duration::from_secs(seconds)))
        };
        target.failed(&asked(5));
        target.worked(&early);
        assert!(target.until().is_some(), "the server asked for patience after that write began");
        // A longer time is heard, and a wait for it ends with the trouble.
        target.failed(&asked(600));
        let began = Instant::now();
        let waiting = tokio::spawn({
            let target = Arc::clone(&target);
            async move { drop(target.turn().await) }
        });
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(!waiting.is_finished());
        target.opened();
        waiting.await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 30);
    }

    #[test]
    fn health_follows_the_kind_of_error() {
        let phase = |kind| phase(&Error::new(kind, "write", "no")).as_str();
        assert_eq!(phase(ErrorKind::Throttled), "throttled");
        assert_eq!(phase(ErrorKind::Auth), "misconfigured");
        assert_eq!(phase(ErrorKind::NotFound), "misconfigured");
        assert_eq!(phase(ErrorKind::Unavailable), "down");
    }
}
