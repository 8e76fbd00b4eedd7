//! One call to AWS: at its turn, and again after a while if AWS was busy. The SDK tries nothing again by itself, so that
//! every call has its turn and is counted.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::pace::{Cost, Pace};
use crate::{ErrorKind, Result, Retry};

/// Tries of one call.
const TRIES: u32 = 6;
/// The wait before the second try, at most; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// No try begins this long after the first: each may take as long as a request may, and the collection has a deadline.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is counted of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Called,
    /// It was too often.
    Throttled,
}

/// Makes a call, and makes it again where that may help. `hears` is told of each try and what AWS thinks of their number.
///
/// # Errors
/// Those of the last try.
pub(super) async fn patiently<T, F>(
    pace: &Pace,
    cost: Cost,
    hears: impl Fn(Heard),
    call: impl Fn() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut wait = FIRST_WAIT;
    let (mut tried, mut begun) = (0, None);
    loop {
        tried += 1;
        pace.turn(cost).await;
        let begun = *begun.get_or_insert_with(Instant::now);
        hears(Heard::Called);
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Throttled {
            hears(Heard::Throttled);
            pace.throttled();
        }
        let again = match error.retry() {
            Retry::Never => return Err(error),
            Retry::Later => wait.mul_f64(0.5 + fastrand::f64() / 2.0),
            Retry::After(named) => named.min(LONGEST_WAIT),
        };
        if tried >= TRIES || begun.elapsed() + again > PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(again).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::Error;

    const COST: Cost = Cost { calls: 50.0, datapoints: 0, rate: 1.0 };

    /// What is heard of a call that takes so long and ends like this each time.
    async fn heard(kind: ErrorKind, takes: Duration) -> Vec<Heard> {
        let heard = RefCell::new(Vec::new());
        let call = || async move {
            tokio::time::sleep(takes).await;
            Err::<(), _>(Error::new(kind, "ask", "no"))
        };
        let answer =
            patiently(&Pace::shared(kind.as_str()), COST, |what| heard.borrow_mut().push(what), call).await;
        assert_eq!(answer.unwrap_err().kind(), kind);
        heard.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_tried_again() {
        for (kind, expected, throttles) in
            [(ErrorKind::Throttled, 6, 6), (ErrorKind::Unavailable, 6, 0), (ErrorKind::Denied, 1, 0)]
        {
            let heard = heard(kind, Duration::ZERO).await;
            let count = |wanted| heard.iter().filter(|what| **what == wanted).count();
            assert_eq!((count(Heard::Called), count(Heard::Throttled)), (expected, throttles), "{kind}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_not_tried_for_minutes() {
        let begun = Instant::now();
        assert_eq!(heard(ErrorKind::Unavailable, Duration::from_secs(20)).await.len(), 2);
        assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
    }
}
