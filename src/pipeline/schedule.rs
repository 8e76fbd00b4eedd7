//! When a source collects: at wall-clock multiples of its interval, so that rows of different sources and machines
//! carry equal times, and a little later by a jitter of its own, so that they do not all ask at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::clock::{Clock, duration, nanoseconds};

/// The wall clock is looked at this often while waiting: a timer does not notice that the clock was set or that the
/// machine slept.
const LOOK: Duration = Duration::from_secs(1);

/// One collection's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The aligned time, nanoseconds since 1970 UTC: rows carry it whatever the jitter.
    pub time: i64,
    /// Ticks that passed unused because nobody was waiting.
    pub skipped: u64,
    /// The clock was set, or the machine slept: nanoseconds the wall clock gained over the time that really passed.
    pub jump: Option<i64>,
}

/// The ticks of one source.
pub struct Schedule {
    clock: Arc<dyn Clock>,
    every: i64,
    jitter: i64,
    last: Option<Last>,
}

#[derive(Clone, Copy)]
struct Last {
    tick: i64,
    wall: i64,
    at: Instant,
}

impl Schedule {
    /// Ticks every `every` (at least a millisecond); `name` fixes the jitter, which is the same on every start, and below
    /// `most_jitter` and a tenth of the interval.
    pub fn new(clock: Arc<dyn Clock>, every: Duration, most_jitter: Duration, name: &str) -> Self {
        let every = every.max(Duration::from_millis(1));
        let bound = nanoseconds((every / 10).min(most_jitter)).max(1);
        // The remainder is below `bound`, which is a positive i64.
        let jitter = i64::try_from(hash(name) % bound.unsigned_abs()).unwrap_or(0);
        Self { clock, every: nanoseconds(every), jitter, last: None }
    }

    /// Waits for the next tick. Ticks that passed since the last call are skipped, never made up for: rows of the
    /// past cannot be measured now. Dropping the future loses nothing.
    pub async fn tick(&mut self) -> Tick {
        loop {
            let wall = self.clock.now();
            // The newest tick whose time, jitter included, has come.
            let due = (wall - self.jitter).div_euclid(self.every) * self.every;
            let wanted = match self.last {
                Some(last) => last.tick.saturating_add(self.every),
                None => {
                    // Nothing is due before the first whole interval has begun.
                    self.last = Some(Last { tick: due, wall, at: Instant::now() });
                    due.saturating_add(self.every)
                }
            };
            // More than a whole interval too early: the clock was set back, and waiting for it to come round again
            // would leave a gap as long as the step.
            let set_back = wanted > due.saturating_add(self.every.saturating_mul(2));
            if due >= wanted || set_back {
                return self.fire(due, wall, wanted);
            }
            tokio::time::sleep(duration(wanted + self.jitter - wall).min(LOOK)).await;
        }
    }

    fn fire(&mut self, due: i64, wall: i64, wanted: i64) -> Tick {
        let last = self.last.replace(Last { tick: due, wall, at: Instant::now() });
        let Some(last) = last else { return Tick { time: due, skipped: 0, jump: None } };
        let passed = nanoseconds(last.at.elapsed());
        let gained = (wall - last.wall).saturating_sub(passed);
        let missed = ((due - wanted) / self.every).max(0);
        let skipped = missed.min(passed / self.every);
        Tick {
            time: due,
            skipped: skipped.unsigned_abs(),
            jump: (gained.abs() > self.every.max(nanoseconds(LOOK))).then_some(gained),
        }
    }
}

/// FNV-1a: small, and the same on every version of everything.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::super::doubles::TestClock;
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn schedule(clock: &Arc<TestClock>, every: u64, name: &str) -> Schedule {
        Schedule::new(
            Arc::<TestClock>::clone(clock),
            Duration::from_secs(every),
            Duration::from_secs(5),
            name,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_are_multiples_of_the_interval_and_follow_each_other() {
        let clock = TestClock::at(1_000_003 * SECOND + 7);
        let mut schedule = schedule(&clock, 10, "host");
        for expected in [1_000_010, 1_000_020, 1_000_030] {
            let tick = schedule.tick().await;
            assert_eq!(tick, Tick { time: expected * SECOND, skipped: 0, jump: None });
            let late = clock.now() - tick.time;
            assert!((0..SECOND).contains(&late), "jitter {late}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_is_stable_and_differs_between_sources() {
        let clock = TestClock::at(0);
        let of = |name: &str| schedule(&clock, 60, name).jitter;
        assert_eq!(of("host"), of("host"));
        assert_ne!(of("host"), of("guests"));
        for name in 0..1_000 {
            assert!((0..5 * SECOND).contains(&of(&name.to_string())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_that_passed_while_nobody_waited_are_counted_and_not_made_up() {
        let clock = TestClock::at(5 * SECOND);
        let mut schedule = schedule(&clock, 10, "host");
        assert_eq!(schedule.tick().await.time, 10 * SECOND);
        tokio::time::sleep(Duration::from_secs(35)).await;
        assert_eq!(schedule.tick().await, Tick { time: 40 * SECOND, skipped: 2, jump: None });
        assert_eq!(schedule.tick().await, Tick { time: 50 * SECOND, skipped: 0, jump: None });
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_of_the_machine_is_a_jump_and_collection_resumes_within_a_look() {
        let clock = TestClock::at(5 * SECOND);
        let mut schedule = schedule(&clock, 600, "host");
        assert_eq!(schedule.tick().await.time, 600 * SECOND);
        clock.step(7_000 * SECOND);
        let before = Instant::now();
        let tick = schedule.tick().await;
        assert_eq!(tick.time, 7_200 * SECOND);
        assert_eq!(tick.skipped, 0);
        assert!(tick.jump.unwrap() >= 6_900 * SECOND, "{tick:?}");
        assert!(before.elapsed() <= LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_set_back_leaves_no_long_gap_and_a_small_step_repeats_no_tick() {
        let clock = TestClock::at(100_000 * SECOND);
        let mut schedule = schedule(&clock, 10, "host");
        let first = schedule.tick().await.time;
        clock.step(-50_000 * SECOND);
        let tick = schedule.tick().await;
        assert!(tick.time < 60_000 * SECOND, "{tick:?}");
        assert!(tick.jump.unwrap() < -49_000 * SECOND);

        clock.step(-SECOND);
        let next = schedule.tick().await;
        assert_eq!(next.time, tick.time + 10 * SECOND, "{next:?} after {first}");
    }
}
