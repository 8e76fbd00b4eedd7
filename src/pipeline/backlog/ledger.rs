//! What a backlog holds: rows that wait in the log, by segment, and frames that are on their way to the sink.
//!
//! The cursor stands before the first frame that is not settled. Frames behind it that are settled already wait for it:
//! after a crash they are delivered again, which replaces them by themselves.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::log::Position;

/// The book of one backlog.
#[derive(Debug)]
pub(super) struct Ledger {
    state: Mutex<State>,
    /// More to read, or the end of it.
    pub(super) more: Notify,
    /// The cursor moved.
    pub(super) moved: Notify,
}

#[derive(Debug)]
struct State {
    /// Durable rows that were not read yet, by segment.
    unread: BTreeMap<u64, u64>,
    /// After the last durable frame.
    end: Position,
    /// Frames that end before it were dropped by policy.
    dropped_to: Position,
    /// Frames read and not settled, oldest first, with settled ones between them.
    on_the_way: VecDeque<Frame>,
    /// Number of the first of them.
    first: u64,
    cursor: Position,
    closed: bool,
}

#[derive(Debug)]
struct Frame {
    end: Position,
    rows: u64,
    /// Time of its first row.
    time: i64,
    settled: bool,
}

/// A frame that is to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) number: u64,
    /// Rows that the book did not know: found in the log, and never acknowledged to have been written.
    pub(super) surplus: u64,
}

impl Ledger {
    /// A book that begins with what was found from `cursor` to `end`.
    pub(super) fn new(unread: BTreeMap<u64, u64>, cursor: Position, end: Position) -> Self {
        let state = State {
            unread,
            end,
            dropped_to: Position::START,
            on_the_way: VecDeque::new(),
            first: 0,
            cursor,
            closed: false,
        };
        Self { state: Mutex::new(state), more: Notify::new(), moved: Notify::new() }
    }

    /// Rows are durable, and end here.
    pub(super) fn append(&self, end: Position, rows: u64) {
        let mut state = self.state.lock();
        *state.unread.entry(end.segment()).or_default() += rows;
        state.end = end;
        drop(state);
        self.more.notify_one();
    }

    /// Nothing more is appended.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.more.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// After the last durable frame.
    pub(super) fn end(&self) -> Position {
        self.state.lock().end
    }

    /// Before the first frame that is not settled.
    pub(super) fn cursor(&self) -> Position {
        self.state.lock().cursor
    }

    /// Where reading may begin at the earliest, if it stands at `position`.
    pub(super) fn not_dropped(&self, position: Position) -> Position {
        position.max(self.state.lock().dropped_to)
    }

    /// A frame was read: it is on its way, unless it was dropped meanwhile.
    pub(super) fn take(&self, end: Position, rows: u64, time: i64) -> Option<Taken> {
        let mut state = self.state.lock();
        if end <= state.dropped_to {
            return None;
        }
        let unread = state.unread.entry(end.segment()).or_default();
        let surplus = rows.saturating_sub(*unread);
        *unread = unread.saturating_sub(rows);
        state.on_the_way.push_back(Frame { end, rows, time, settled: false });
        let number = state.first + state.on_the_way.len() as u64 - 1;
        Some(Taken { number, surplus })
    }

    /// Every row of a frame found its end.
    pub(super) fn settle(&self, number: u64) {
        let mut state = self.state.lock();
        let place = number.checked_sub(state.first).and_then(|place| usize::try_from(place).ok());
        if let Some(frame) = place.and_then(|place| state.on_the_way.get_mut(place)) {
            frame.settled = true;
        }
        let before = state.cursor;
        while state.on_the_way.front().is_some_and(|frame| frame.settled) {
            if let Some(frame) = state.on_the_way.pop_front() {
                state.first += 1;
                state.cursor = state.cursor.max(frame.end);
            }
        }
        let moved = state.cursor != before;
        drop(state);
        if moved {
            self.moved.notify_one();
        }
    }

    /// Reading has passed all segments before this one: the rows that it did not find there, which are damaged.
    pub(super) fn passed(&self, segment: u64) -> u64 {
        let mut state = self.state.lock();
        let rest = state.unread.split_off(&segment);
        std::mem::replace(&mut state.unread, rest).into_values().sum()
    }

    /// Reading found nothing more before `end`, where the log ended when it began: what is damaged there, as far as it
    /// can be told from what came meanwhile.
    pub(super) fn exhausted(&self, end: Position) -> u64 {
        let damaged = self.passed(end.segment());
        let mut state = self.state.lock();
        let last = if state.end == end { state.unread.remove(&end.segment()).unwrap_or(0) } else { 0 };
        damaged + last
    }

    /// Drops what was not read of the segments up to and with this one, and returns how many rows that were.
    pub(super) fn drop_through(&self, segment: u64) -> u64 {
        let mut state = self.state.lock();
        let rest = state.unread.split_off(&(segment + 1));
        let rows = std::mem::replace(&mut state.unread, rest).into_values().sum();
        let upto = Position::start_of(segment + 1);
        state.dropped_to = state.dropped_to.max(upto);
        state.cursor = state.cursor.max(upto);
        rows
    }

    /// At the end: rows that are on their way still and whose segments were dropped, so that nobody brings them again.
    pub(super) fn dropped_on_the_way(&self) -> u64 {
        let mut state = self.state.lock();
        let upto = state.dropped_to;
        let gone = state.on_the_way.iter_mut().filter(|frame| !frame.settled && frame.end <= upto);
        let mut rows = 0;
        for frame in gone {
            frame.settled = true;
            rows += frame.rows;
        }
        rows
    }

    /// Rows that are not settled; of a frame on its way all, even if some are delivered.
    pub(super) fn rows(&self) -> u64 {
        let state = self.state.lock();
        let way = state.on_the_way.iter().filter(|frame| !frame.settled).map(|frame| frame.rows);
        state.unread.values().sum::<u64>() + way.sum::<u64>()
    }

    /// Time of the first row of the oldest frame that is not settled, if one is on its way; and there always is one
    /// while rows wait.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.state.lock().on_the_way.front().map(|frame| frame.time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64, offset: u64) -> Position {
        serde_json::from_value(serde_json::json!({ "segment": segment, "offset": offset })).unwrap()
    }

    fn ledger() -> Ledger {
        let ledger = Ledger::new([(0, 10)].into(), Position::START, at(0, 80));
        ledger.append(at(0, 160), 10);
        ledger.append(at(1, 80), 10);
        ledger
    }

    #[test]
    fn the_cursor_moves_in_order_whatever_the_order_of_settlements() {
        let ledger = ledger();
        let numbers = [at(0, 80), at(0, 160), at(1, 80)].map(|end| ledger.take(end, 10, 7).unwrap().number);
        ledger.settle(numbers[1]);
        assert_eq!((ledger.cursor(), ledger.rows()), (Position::START, 20));
        ledger.settle(numbers[0]);
        assert_eq!((ledger.cursor(), ledger.rows(), ledger.oldest()), (at(0, 160), 10, Some(7)));
        ledger.settle(numbers[2]);
        ledger.settle(numbers[2]);
        assert_eq!((ledger.cursor(), ledger.rows(), ledger.oldest()), (at(1, 80), 0, None));
    }

    #[test]
    fn rows_that_reading_does_not_find_are_damaged_and_those_it_does_not_expect_are_surplus() {
        let ledger = ledger();
        assert_eq!(ledger.take(at(0, 80), 10, 0).unwrap().surplus, 0);
        // The second frame of segment 0 is damaged.
        assert_eq!(ledger.passed(1), 10);
        assert_eq!(ledger.take(at(1, 80), 12, 0).unwrap().surplus, 2);
        assert_eq!(ledger.exhausted(at(1, 80)), 0);
        ledger.append(at(1, 160), 5);
        assert_eq!(ledger.exhausted(at(1, 80)), 0, "what came meanwhile is not damaged");
        assert_eq!(ledger.exhausted(at(1, 160)), 5);
    }

    #[test]
    fn what_was_dropped_is_not_delivered_and_what_is_on_its_way_still_is() {
        let ledger = ledger();
        let first = ledger.take(at(0, 80), 10, 0).unwrap();
        assert_eq!(ledger.drop_through(0), 10);
        assert_eq!(ledger.take(at(0, 160), 10, 0), None);
        assert_eq!((ledger.rows(), ledger.cursor()), (20, at(1, 0)));
        ledger.settle(first.number);
        assert_eq!((ledger.rows(), ledger.cursor()), (10, at(1, 0)));
        assert_eq!(ledger.not_dropped(Position::START), at(1, 0));
    }

    #[test]
    fn what_is_on_its_way_at_the_end_is_lost_only_if_it_was_dropped_from_the_disk() {
        let ledger = ledger();
        ledger.take(at(0, 80), 10, 0).unwrap();
        ledger.drop_through(0);
        ledger.take(at(1, 80), 10, 0).unwrap();
        assert_eq!((ledger.dropped_on_the_way(), ledger.rows()), (10, 10));
        assert_eq!(ledger.dropped_on_the_way(), 0);
    }
}
