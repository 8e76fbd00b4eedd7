//! Every row accounted for: accepted = delivered + dead-lettered + queued + dropped, for each sink, at any moment.
//!
//! A row is *accepted* for every sink when the pipeline takes it out of the channel; until its end is known it is
//! *queued*: in a transform, in the sink's queue or in a write. A transform that gives fewer rows than it took
//! *drops* the difference (policy `transform`); one that gives more has the extra ones accepted as well. So a
//! `downsample` drops the rows it reads and makes new ones.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// A policy by which rows are dropped on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// A transform removed them, as the pipeline file asks.
    Transform,
    /// The sink's queue or backlog was full, and the pipeline file asks to drop then.
    Overflow,
    /// The disk damaged them while they waited in the backlog. Nobody asked for that, but the rows are gone.
    Damaged,
    /// They hold no value that the sink could write.
    Empty,
    /// A reload removed the sink, and it did not take its rows in time.
    Removed,
}

impl Policy {
    /// Every policy there is.
    pub(super) const ALL: [Self; 5] =
        [Self::Transform, Self::Overflow, Self::Damaged, Self::Empty, Self::Removed];

    /// The policy as a word, for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transform => "transform",
            Self::Overflow => "overflow",
            Self::Damaged => "damaged",
            Self::Empty => "empty",
            Self::Removed => "removed",
        }
    }
}

/// What became of the rows of one sink; all numbers are rows since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Balance {
    /// Taken into the pipeline for this sink, or made by a transform.
    pub accepted: u64,
    /// Durable in the sink.
    pub delivered: u64,
    /// Given up, by kind of error.
    pub dead_lettered: BTreeMap<&'static str, u64>,
    /// On their way now.
    pub queued: u64,
    /// Dropped on purpose, by policy.
    pub dropped: BTreeMap<&'static str, u64>,
}

impl Balance {
    /// Rows given up.
    pub fn dead_lettered_rows(&self) -> u64 {
        self.dead_lettered.values().sum()
    }

    /// Rows dropped on purpose.
    pub fn dropped_rows(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Whether every accepted row is accounted for.
    pub fn holds(&self) -> bool {
        self.accepted == self.delivered + self.dead_lettered_rows() + self.queued + self.dropped_rows()
    }
}

/// The account of one sink. Each movement is one step under one lock, so that every reading balances.
#[derive(Debug, Default)]
pub struct Account(Mutex<Balance>);

impl Account {
    /// The numbers now.
    pub fn balance(&self) -> Balance {
        self.0.lock().clone()
    }

    pub(super) fn accept(&self, rows: u64) {
        let mut balance = self.0.lock();
        balance.accepted += rows;
        balance.queued += rows;
    }

    pub(super) fn deliver(&self, rows: u64) {
        self.settle(rows, |balance, rows| balance.delivered += rows);
    }

    pub(super) fn dead_letter(&self, rows: u64, reason: &'static str) {
        self.settle(rows, |balance, rows| *balance.dead_lettered.entry(reason).or_default() += rows);
    }

    pub(super) fn drop_rows(&self, rows: u64, policy: Policy) {
        self.settle(rows, |balance, rows| *balance.dropped.entry(policy.as_str()).or_default() += rows);
    }

    /// A transform took `before` rows and gave `after`.
    pub(super) fn transform(&self, before: u64, after: u64) {
        if after > before {
            self.accept(after - before);
        } else if before > after {
            self.drop_rows(before - after, Policy::Transform);
        }
    }

    /// Moves rows out of the queue; no more than there are, so that a sink that counts wrongly cannot break the sum.
    fn settle(&self, rows: u64, book: impl FnOnce(&mut Balance, u64)) {
        if rows == 0 {
            return;
        }
        let mut balance = self.0.lock();
        let rows = rows.min(balance.queued);
        balance.queued -= rows;
        book(&mut balance, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_movement_keeps_the_balance() {
        let account = Account::default();
        account.accept(100);
        account.transform(100, 60);
        account.transform(60, 70);
        account.deliver(30);
        account.dead_letter(5, "invalid");
        account.drop_rows(3, Policy::Overflow);
        let balance = account.balance();
        assert!(balance.holds(), "{balance:?}");
        assert_eq!((balance.accepted, balance.delivered, balance.queued), (110, 30, 32));
        assert_eq!((balance.dead_lettered_rows(), balance.dropped_rows()), (5, 43));
    }

    #[test]
    fn a_sink_that_claims_too_much_cannot_break_the_sum() {
        let account = Account::default();
        account.accept(10);
        account.deliver(11);
        account.dead_letter(1, "invalid");
        let balance = account.balance();
        assert!(balance.holds(), "{balance:?}");
        assert_eq!(balance.delivered, 10);
    }
}
