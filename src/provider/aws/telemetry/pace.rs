//! How fast AWS is asked: one pace for each account, region and interface, shared by all sources of the process, because
//! the quotas are. A share of each quota is used, in even steps and not in bursts; when AWS says that it was too much all
//! the same (others use the account too), it slows down for all and comes back by and by.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// What remains of the pace after a throttle.
const SLOWED: f64 = 0.7;
/// The slowest that it becomes.
const SLOWEST: f64 = 0.05;
/// What it gains back in each second.
const REGAINED: f64 = 0.05;
/// Throttles that come together slow it down once.
const TOGETHER: Duration = Duration::from_millis(500);
/// How far calls may be ahead of their turn: answers take longer and shorter.
const AHEAD: Duration = Duration::from_millis(200);

/// The pace of one interface in one region of one account.
#[derive(Debug)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When the next call has its turn, and when the next datapoints have.
    call: Instant,
    datapoints: Instant,
    factor: f64,
    /// When the factor was right.
    since: Instant,
    throttled: Option<Instant>,
}

/// What a call takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cost {
    /// Calls per second that there may be.
    pub(super) calls: f64,
    /// Datapoints that it asks for.
    pub(super) datapoints: usize,
    /// Datapoints per second that there may be.
    pub(super) rate: f64,
}

impl Pace {
    /// The pace of a name that stands for account, region, interface and address.
    pub(super) fn shared(name: &str) -> Arc<Self> {
        static PACES: LazyLock<Mutex<HashMap<String, Weak<Pace>>>> = LazyLock::new(Mutex::default);
        let mut paces = PACES.lock();
        if let Some(known) = paces.get(name).and_then(Weak::upgrade) {
            return known;
        }
        paces.retain(|_, pace| pace.strong_count() > 0);
        let pace = Arc::new(Self::new());
        paces.insert(name.to_owned(), Arc::downgrade(&pace));
        pace
    }

    fn new() -> Self {
        let now = Instant::now();
        Self(Mutex::new(State { call: now, datapoints: now, factor: 1.0, since: now, throttled: None }))
    }

    /// Waits for the turn of a call.
    pub(super) async fn turn(&self, cost: Cost) {
        let at = self.0.lock().take(Instant::now(), cost);
        sleep_until(at).await;
    }

    /// AWS said that it was too much.
    pub(super) fn throttled(&self) {
        self.0.lock().slow(Instant::now());
    }
}

impl State {
    fn factor(&self, now: Instant) -> f64 {
        (self.factor + REGAINED * now.saturating_duration_since(self.since).as_secs_f64()).min(1.0)
    }

    fn take(&mut self, now: Instant, cost: Cost) -> Instant {
        let factor = self.factor(now);
        let long =
            |amount: f64, rate: f64| Duration::from_secs_f64((amount / (rate * factor)).clamp(0.0, 3_600.0));
        let earliest = now.checked_sub(AHEAD).unwrap_or(now);
        let call = self.call.max(earliest);
        // A request may be larger than what is there for now, or none of its size ever had its turn: what comes after pays.
        let datapoints = self.datapoints.max(earliest);
        let at = call.max(datapoints).max(now);
        self.call = call.max(at.checked_sub(AHEAD).unwrap_or(at)) + long(1.0, cost.calls);
        #[expect(clippy::cast_precision_loss, reason = "at most 100,800")]
        let wanted = cost.datapoints as f64;
        self.datapoints = datapoints.max(at.checked_sub(AHEAD).unwrap_or(at)) + long(wanted, cost.rate);
        at
    }

    fn slow(&mut self, now: Instant) {
        if self.throttled.is_some_and(|last| now.saturating_duration_since(last) < TOGETHER) {
            return;
        }
        self.factor = (self.factor(now) * SLOWED).max(SLOWEST);
        (self.since, self.throttled) = (now, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Cost = Cost { calls: 40.0, datapoints: 500, rate: 144_000.0 };

    async fn taken(pace: &Pace, calls: usize, cost: Cost) -> Duration {
        let begun = Instant::now();
        for _ in 0..calls {
            pace.turn(cost).await;
        }
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn calls_and_datapoints_each_have_their_rate() {
        let calls = taken(&Pace::new(), 401, COST).await.as_secs_f64();
        assert!((9.7..10.1).contains(&calls), "400 calls at 40 a second: {calls}");
        let many = Cost { datapoints: 100_800, ..COST };
        let points = taken(&Pace::new(), 11, many).await.as_secs_f64();
        assert!((6.7..7.1).contains(&points), "10 x 100,800 at 144,000 a second: {points}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_than_the_quota() {
        let pace = Pace::new();
        let mut turns = Vec::new();
        for number in 0..300 {
            // Idle now and then, which must not save up a burst.
            if number % 70 == 0 {
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            pace.turn(COST).await;
            turns.push(Instant::now());
        }
        for (index, first) in turns.iter().enumerate() {
            let within =
                turns[index..].iter().take_while(|turn| **turn - *first < Duration::from_secs(1)).count();
            assert!(within <= 50, "{within} calls in a second");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttle_slows_all_down_once_and_passes() {
        let pace = Pace::new();
        for _ in 0..5 {
            pace.throttled();
        }
        let slowed = taken(&pace, 41, COST).await.as_secs_f64();
        assert!((1.2..1.5).contains(&slowed), "40 calls at 28 a second, which rises: {slowed}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        let again = taken(&pace, 41, COST).await.as_secs_f64();
        assert!(again < 1.05, "{again}");
    }

    #[tokio::test]
    async fn one_pace_for_one_name() {
        let (one, other) = (Pace::shared("a"), Pace::shared("b"));
        assert!(Arc::ptr_eq(&one, &Pace::shared("a")) && !Arc::ptr_eq(&one, &other));
    }
}
