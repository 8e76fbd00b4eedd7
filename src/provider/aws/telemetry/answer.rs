//! The answer to one request in the making: the values that came, what became of every figure, and what is to be told of those
//! that did not come. However many there are, they are one fault.

use super::super::error::failed;
use super::settle::Grid;
use super::target::{Figure, Target, What};
use crate::{Error, ErrorKind};

/// A range of time: periods that begin at `from` or later, and before `to`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) period: i64,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Answered,
    /// It may be answered another time.
    Failed,
    /// AWS does not answer it whenever it is asked.
    LeftOut,
}

/// What an answer has of one resource.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) grid: Grid,
    pub(super) fates: Vec<Fate>,
}

/// A figure of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) target: usize,
    pub(super) figure: usize,
}

/// The answer to one request.
pub(super) struct Answers<'a> {
    pub(super) targets: &'a [&'a Target],
    pub(super) extent: Extent,
    /// In the order of the targets.
    pub(super) all: Vec<Answer>,
    forbidden: Option<Told>,
    refused: Option<Told>,
    /// What AWS said last of a figure that failed.
    said: String,
}

/// The first figure of a kind, what AWS said of it, and how many there are.
struct Told {
    first: Slot,
    said: String,
    count: usize,
}

impl Told {
    fn add(told: &mut Option<Self>, slot: Slot, said: String) {
        match told {
            Some(told) => told.count += 1,
            None => *told = Some(Self { first: slot, said, count: 1 }),
        }
    }

    /// What AWS said, and how many others there are.
    fn ends(&self) -> String {
        let said = if self.said.is_empty() { String::new() } else { format!(" ({})", self.said) };
        match self.count - 1 {
            0 => said,
            others => format!("{said}, and so with {others} others"),
        }
    }
}

impl Slot {
    pub(super) fn figure_of<'a>(self, targets: &[&'a Target]) -> &'a Figure {
        &targets[self.target].ask.figures[self.figure]
    }
}

impl<'a> Answers<'a> {
    /// Nothing is answered yet. `skip` are figures that are not asked for.
    pub(super) fn new(
        targets: &'a [&'a Target],
        extent: Extent,
        skip: impl Fn(&Target, usize) -> bool,
    ) -> Self {
        let all = targets.iter().map(|target| {
            let columns = target.ask.figures.len();
            let fate = |figure| if skip(target, figure) { Fate::LeftOut } else { Fate::Failed };
            let grid = Grid::empty(extent.from, extent.to, extent.period, columns);
            Answer { grid, fates: (0..columns).map(fate).collect() }
        });
        Self { targets, extent, all: all.collect(), forbidden: None, refused: None, said: String::new() }
    }

    /// What is not answered, resource by resource.
    pub(super) fn open(&self) -> Vec<Slot> {
        let all = self.all.iter().enumerate();
        let slots = all.flat_map(|(target, answer)| {
            let failed = answer.fates.iter().enumerate().filter(|(_, fate)| **fate == Fate::Failed);
            failed.map(move |(figure, _)| Slot { target, figure })
        });
        slots.collect()
    }

    pub(super) fn fate(&self, slot: Slot) -> Fate {
        self.all[slot.target].fates[slot.figure]
    }

    /// Puts in a point, by the time at which its period begins.
    pub(super) fn put(&mut self, slot: Slot, begins: i64, value: f64) {
        self.all[slot.target].grid.put(slot.figure, begins, value);
    }

    pub(super) fn answered(&mut self, slot: Slot) {
        self.set(slot, Fate::Answered);
    }

    pub(super) fn failed(&mut self, slot: Slot, said: String) {
        self.set(slot, Fate::Failed);
        self.said = said;
    }

    pub(super) fn forbidden(&mut self, slot: Slot, said: String) {
        self.set(slot, Fate::LeftOut);
        Told::add(&mut self.forbidden, slot, said);
    }

    /// AWS finds a figure wrong; an expression is so wherever it is asked for.
    pub(super) fn refused(&mut self, slot: Slot, error: &Error) {
        let wrong = &slot.figure_of(self.targets).what;
        let mut alike = match wrong {
            What::Expression { .. } => self.open(),
            What::Metric { .. } => vec![slot],
        };
        alike.retain(|other| other.figure_of(self.targets).what == *wrong);
        for slot in alike {
            self.set(slot, Fate::LeftOut);
            Told::add(&mut self.refused, slot, error.reason().to_owned());
        }
    }

    fn set(&mut self, slot: Slot, fate: Fate) {
        self.all[slot.target].fates[slot.figure] = fate;
    }

    /// Nothing came of it.
    pub(super) fn is_lost(&self) -> bool {
        self.all.iter().flat_map(|answer| &answer.fates).all(|fate| *fate == Fate::Failed)
    }

    /// What is to be told: why it ended early, or what still failed in the last round.
    pub(super) fn faults(&self, place: &str, rounds: u32, broken: Option<Error>) -> Vec<Error> {
        let fault = |told: &Told, kind, reason: String| {
            let (target, figure) = (&self.targets[told.first.target], told.first.figure_of(self.targets));
            let name = format!("{} of {} in {place}", figure.what.label(), target.identity.resource_id);
            failed(kind, "read", &name, reason)
        };
        let mut faults = Vec::new();
        if let Some(told) = &self.forbidden {
            let reason = format!("AWS does not allow to read it{}; left out for an hour", told.ends());
            faults.push(fault(told, ErrorKind::Denied, reason));
        }
        if let Some(told) = &self.refused {
            let reason =
                format!("AWS finds it wrong{}; left out for an hour, mend it in metrics", told.ends());
            faults.push(fault(told, ErrorKind::Invalid, reason));
        }
        let open = self.open();
        match (broken, open.first()) {
            (Some(error), _) => faults.push(error),
            (None, Some(first)) => {
                let told = Told { first: *first, said: self.said.clone(), count: open.len() };
                let reason = format!("AWS failed at it {rounds} times{}; it is tried later", told.ends());
                faults.push(fault(&told, ErrorKind::Unavailable, reason));
            }
            (None, None) => {}
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::target::Ask;
    use super::*;

    fn target() -> Target {
        let mut ask = Ask::default();
        for metric in ["In", "Out", "Idle"] {
            ask.need(metric, "Sum");
        }
        let expression = || What::Expression { text: "a / b".into(), inputs: Vec::new() };
        ask.figures.extend([1, 2].map(|_| Figure { what: expression(), to: None }));
        Target { ask: Arc::new(ask), ..Target::of_key("i-1") }
    }

    fn slot(target: usize, figure: usize) -> Slot {
        Slot { target, figure }
    }

    const EXTENT: Extent = Extent { from: 0, to: 600, period: 60 };

    #[test]
    fn many_of_a_kind_are_one_fault_with_what_aws_said() {
        let (one, other) = (target(), target());
        let targets = [&one, &other];
        let mut answers = Answers::new(&targets, EXTENT, |_, figure| figure == 2);
        assert!(answers.open().len() == 8 && !answers.is_lost(), "what is skipped was not lost");
        answers.forbidden(slot(0, 0), "Forbidden: not linked".into());
        answers.forbidden(slot(1, 0), "Forbidden: not linked".into());
        answers.failed(slot(0, 1), "InternalError: try again".into());
        answers.answered(slot(1, 1));
        answers.refused(slot(0, 3), &Error::invalid("read", "error in expression"));
        let told: Vec<String> = answers.faults("1/r", 4, None).iter().map(Error::chain).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("In Sum of i-1 in 1/r"), "{told:?}");
        assert!(told[0].contains("(Forbidden: not linked), and so with 1 others; left out"), "{told:?}");
        assert!(
            told[1].contains("(error in expression), and so with 3 others"),
            "one expression, four times"
        );
        assert!(answers.open() == [slot(0, 1)], "only what failed is open");
        answers.failed(slot(0, 1), "InternalError: try again".into());
        let told = answers.faults("1/r", 4, None).pop().unwrap().chain();
        assert!(
            told.contains("failed at it 4 times (InternalError: try again); it is tried later"),
            "{told}"
        );
    }
}
