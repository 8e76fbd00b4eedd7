//! What can be chosen when a store is opened.

use std::path::PathBuf;
use std::time::Duration;

use crate::telemetry::Telemetry;
use crate::{Error, Result};

/// How a store is laid out and how much it may hold in memory and in its log.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The store's folder; made if it is missing.
    pub path: PathBuf,
    /// Windows older than this are dropped; `None` keeps everything.
    pub retention: Option<Duration>,
    /// Time window of a fresh segment. It is written into the store and cannot change later.
    pub segment_window: Duration,
    /// Time window of a compacted segment, a multiple of `segment_window`. It cannot change later either.
    pub compacted_window: Duration,
    /// Buffered rows are written to segments when they take this many bytes; half as much again may come in while
    /// that goes on, then writers wait.
    pub buffer_bytes: usize,
    /// Buffered rows are written to segments when the oldest of them waited this long.
    pub flush_interval: Duration,
    /// A segment is closed at about this size: files stay handy, and since rows are sorted by tags, each file holds its
    /// own range of them.
    pub segment_bytes: u64,
    /// Most bytes that the log may take on disk.
    pub log_bytes: u64,
    /// How long a replaced file stays for readers that still use it: longer than the longest query.
    pub grace: Duration,
    /// How often background work (compaction, retention, deletion) is looked for.
    pub maintenance_interval: Duration,
    /// Where the store counts what it does.
    pub telemetry: Telemetry,
    /// Label of the store's own metrics.
    pub component: String,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            path: PathBuf::from("./data"),
            retention: None,
            segment_window: Duration::from_secs(3_600),
            compacted_window: Duration::from_secs(86_400),
            buffer_bytes: 128 << 20,
            flush_interval: Duration::from_secs(600),
            segment_bytes: 512 << 20,
            log_bytes: 2 << 30,
            grace: Duration::from_secs(900),
            maintenance_interval: Duration::from_secs(10),
            telemetry: Telemetry::default(),
            component: "store".into(),
        }
    }
}

impl StoreOptions {
    /// Default options for the store in this folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// The two windows in nanoseconds, if all options make sense.
    pub(super) fn check(&self) -> Result<Windows> {
        let refused = |reason: &str| Error::invalid("open store", reason);
        if self.buffer_bytes == 0 {
            return Err(refused("the buffer must hold something; 64MiB or more serves well"));
        }
        if self.flush_interval.is_zero() || self.maintenance_interval.is_zero() {
            return Err(refused(
                "the intervals of flush and maintenance must be positive; 10m and 10s serve well",
            ));
        }
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).ok().filter(|nanos| *nanos > 0);
        let segment = nanos(self.segment_window).ok_or_else(|| refused("segment_window must be positive"))?;
        let compacted =
            nanos(self.compacted_window).ok_or_else(|| refused("compacted_window must be positive"))?;
        if compacted % segment != 0 {
            return Err(refused("compacted_window must be a multiple of segment_window"));
        }
        Ok(Windows { segment, compacted })
    }
}

/// Lengths of the two time windows in nanoseconds, aligned to 1970 UTC; part of the store's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Windows {
    pub(super) segment: i64,
    pub(super) compacted: i64,
}

impl Windows {
    /// The compacted window around a time or window start.
    pub(super) fn compacted(self, time: i64) -> Window {
        Window::of(time, self.compacted)
    }

    /// Whether a compacted window is over, with one fresh window's time for rows that come late.
    pub(super) fn is_over(self, compacted: Window, now: i64) -> bool {
        compacted.end.saturating_add(self.segment) <= now
    }

    /// The window of the segment into which rows of a fresh window are written now.
    pub(super) fn target(self, fresh: Window, now: i64) -> Window {
        let compacted = self.compacted(fresh.start);
        if self.is_over(compacted, now) { compacted } else { fresh }
    }
}

/// A stretch of time, end exclusive, in nanoseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Window {
    pub(super) start: i64,
    pub(super) end: i64,
}

impl Window {
    /// The aligned window of this length that holds `time`. At the ends of the representable time it is cut short.
    pub(super) fn of(time: i64, length: i64) -> Self {
        let start = time.div_euclid(length).saturating_mul(length);
        Self { start, end: start.saturating_add(length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_before_and_after_1970_and_at_the_ends_of_time() {
        assert_eq!(Window::of(7, 5), Window { start: 5, end: 10 });
        assert_eq!(Window::of(-1, 5), Window { start: -5, end: 0 });
        assert_eq!(Window::of(i64::MAX, 10).end, i64::MAX);
        assert_eq!(Window::of(i64::MIN, 10).start, i64::MIN);
    }

    #[test]
    fn windows_that_do_not_nest_are_refused() {
        let options =
            StoreOptions { compacted_window: Duration::from_secs(5_400), ..StoreOptions::default() };
        assert!(options.check().unwrap_err().to_string().contains("multiple"));
    }

    #[test]
    fn a_buffer_or_an_interval_of_nothing_is_refused() {
        let options = StoreOptions { buffer_bytes: 0, ..StoreOptions::default() };
        assert!(options.check().unwrap_err().to_string().contains("64MiB"));
        let options = StoreOptions { flush_interval: Duration::ZERO, ..StoreOptions::default() };
        assert!(options.check().unwrap_err().to_string().contains("10m"));
    }
}
