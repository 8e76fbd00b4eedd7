//! What libvirt's event thread tells the poller. It outlives connections, so that what was heard on one that broke is
//! not lost with it.

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::Mutex;

use super::change::Change;
use crate::model::Timestamp;

/// Events kept between two polls. When more come the oldest are kept, and the list of guests is simply read again.
const CAPACITY: usize = 1024;

/// Something that happened to a guest.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// The guest's UUID.
    pub(super) uuid: String,
    /// Its name then.
    pub(super) name: String,
    /// What happened.
    pub(super) change: Change,
    /// When we heard of it.
    pub(super) at: Instant,
    /// The same in nanoseconds since 1970 UTC; no two events have the same.
    pub(super) time: i64,
}

/// Events on their way.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Event>,
    lost: u64,
    /// Whether the list of guests is out of date.
    news: bool,
    last: i64,
}

impl Mailbox {
    /// Adds an event that happened now.
    pub(super) fn put(&self, uuid: String, name: String, change: Change) {
        let mut inner = self.inner.lock();
        inner.news = true;
        if inner.events.len() >= CAPACITY {
            inner.lost += 1;
            return;
        }
        // Two events of a guest at the same time would be one row.
        let time = Timestamp::now().0.max(inner.last.saturating_add(1));
        inner.last = time;
        inner.events.push_back(Event { uuid, name, change, at: Instant::now(), time });
    }

    /// Whether something happened since the last time that this was asked.
    pub(super) fn news(&self) -> bool {
        std::mem::take(&mut self.inner.lock().news)
    }

    /// The list that was to be read because of news was not.
    pub(super) fn not_read(&self) {
        self.inner.lock().news = true;
    }

    /// All events since the last call, and how many more were lost.
    pub(super) fn take(&self) -> (Vec<Event>, u64) {
        let mut inner = self.inner.lock();
        (inner.events.drain(..).collect(), std::mem::take(&mut inner.lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_once_in_order_and_never_at_the_same_time() {
        let mailbox = Mailbox::default();
        assert!(!mailbox.news());
        for _ in 0..CAPACITY + 3 {
            mailbox.put("a".into(), "guest".into(), Change::Rebooted);
        }
        assert!(mailbox.news() && !mailbox.news());
        mailbox.not_read();
        assert!(mailbox.news());
        let (events, lost) = mailbox.take();
        assert_eq!((events.len(), lost), (CAPACITY, 3));
        assert!(events.windows(2).all(|pair| pair[0].time < pair[1].time));
        let (events, lost) = mailbox.take();
        assert_eq!((events.len(), lost), (0, 0));
    }
}
