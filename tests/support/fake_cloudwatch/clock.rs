//! What time it is for the fake: lag, retention and, if wanted, quotas go by it, so that hours pass in a test at once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

/// Where the time is from, in unix seconds.
#[derive(Clone)]
pub enum Clock {
    Real,
    /// The test sets it.
    Set(Arc<AtomicI64>),
    /// For example one that runs faster than the real one.
    Asked(Arc<dyn Fn() -> i64 + Send + Sync>),
}

impl Clock {
    /// A clock that stands at this time, and what sets it.
    pub fn at(seconds: i64) -> (Self, Arc<AtomicI64>) {
        let time = Arc::new(AtomicI64::new(seconds));
        (Self::Set(Arc::clone(&time)), time)
    }

    pub fn now(&self) -> i64 {
        match self {
            Self::Real => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |past| past.as_secs() as i64),
            Self::Set(time) => time.load(Ordering::SeqCst),
            Self::Asked(ask) => ask(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Clock({})", self.now())
    }
}
