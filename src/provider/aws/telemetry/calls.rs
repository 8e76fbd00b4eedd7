//! One call to AWS: at its turn, and again after a while if AWS was busy. The SDK tries nothing again by itself, so that
//! every call has its turn and is counted.

use std::future::Future;
use std::time::Duration;

use super::pace::{Cost, Pace};
use crate::{ErrorKind, Result, Retry};

/// Tries of one call.
const TRIES: u32 = 6;
/// The wait before the second try, at most; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Makes a call, and makes it again where that may help. `called` hears of each try.
///
/// # Errors
/// Those of the last try.
pub(super) async fn patiently<T, F>(
    pace: &Pace,
    cost: Cost,
    called: impl Fn(),
    call: impl Fn() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut wait = FIRST_WAIT;
    let mut tried = 0;
    loop {
        tried += 1;
        pace.turn(cost).await;
        called();
        let error = match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Throttled {
            pace.throttled();
        }
        let again = match error.retry() {
            Retry::Never => return Err(error),
            Retry::Later => wait.mul_f64(0.5 + fastrand::f64() / 2.0),
            Retry::After(named) => named.min(LONGEST_WAIT),
        };
        if tried >= TRIES {
            return Err(error);
        }
        tokio::time::sleep(again).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::Error;

    const COST: Cost = Cost { calls: 50.0, datapoints: 0, rate: 1.0 };

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_tried_again() {
        for (kind, expected) in
            [(ErrorKind::Throttled, 6), (ErrorKind::Unavailable, 6), (ErrorKind::Denied, 1)]
        {
            let tries = Cell::new(0);
            let pace = Pace::shared(kind.as_str());
            let answer = patiently(
                &pace,
                COST,
                || tries.set(tries.get() + 1),
                || async { Err::<(), _>(Error::new(kind, "ask", "no")) },
            );
            assert_eq!(answer.await.unwrap_err().kind(), kind);
            assert_eq!(tries.get(), expected);
            assert_eq!(pace.throttles(), if kind == ErrorKind::Throttled { 6 } else { 0 });
        }
    }
}
