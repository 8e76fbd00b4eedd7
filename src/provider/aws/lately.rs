//! What happened a moment ago. EC2's answers agree with each other only some time after a change, so for that long what is
//! known here counts more than what they lack.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::Timestamp;

/// EC2's answers agree with each other after this time; until then "not found" is no clear word.
pub(super) const GRACE: Duration = Duration::from_secs(60);
/// Things that are remembered for that time.
const REMEMBERED: usize = 1_024;

/// Things of one sort, with when each happened.
#[derive(Debug)]
pub(super) struct Lately<T>(Mutex<VecDeque<(T, Instant)>>);

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: PartialEq> Lately<T> {
    /// It happened so long ago.
    pub(super) fn add(&self, what: T, ago: Duration) {
        let Some(when) = Instant::now().checked_sub(ago) else { return };
        let mut all = self.0.lock();
        all.retain(|(known, when)| *known != what && when.elapsed() < GRACE);
        if all.len() == REMEMBERED {
            all.pop_front();
        }
        all.push_back((what, when));
    }

    /// It is of no interest any more.
    pub(super) fn remove<Q: PartialEq<T> + ?Sized>(&self, what: &Q) {
        self.0.lock().retain(|(known, _)| what != known);
    }

    /// How long ago it was, if that is shorter than the grace.
    pub(super) fn ago<Q: PartialEq<T> + ?Sized>(&self, what: &Q) -> Option<Duration> {
        let all = self.0.lock();
        let when = all.iter().find(|(known, _)| what == known).map(|(_, when)| when.elapsed());
        when.filter(|ago| *ago < GRACE)
    }
}

/// How long ago a time of the journal was.
pub(super) fn since(time: Timestamp) -> Duration {
    let nanoseconds = Timestamp::now().0.saturating_sub(time.0);
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happened_is_known_for_the_grace_and_no_longer() {
        let lately = Lately::<String>::default();
        lately.add("old".into(), GRACE);
        lately.add("a".into(), Duration::ZERO);
        lately.add("b".into(), GRACE / 2);
        assert_eq!(lately.ago("old"), None);
        assert_eq!(lately.ago("a"), Some(Duration::ZERO));
        tokio::time::advance(GRACE / 2).await;
        assert_eq!((lately.ago("a"), lately.ago("b")), (Some(GRACE / 2), None));
        lately.remove("a");
        assert_eq!(lately.ago("a"), None);
    }
}
