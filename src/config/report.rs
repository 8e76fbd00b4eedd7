//! Faults as they are found, and what is known about the values of a file beside them.

use std::collections::BTreeSet;

use super::diagnostic::{Diagnostic, Place};
use crate::yaml::{Key, Node, NodeKind};

/// Faults beyond this are not even kept, so that a hostile file costs no memory.
const MOST: usize = 10_000;
/// Characters of a text that a message repeats.
const REPEATED: usize = 60;

/// Which part of the file: `sources.host.every`, `transforms[2].where`; empty for the whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Path(String);

impl Path {
    /// The value under a key.
    pub(super) fn key(&self, key: &str) -> Self {
        let dot = if self.0.is_empty() { "" } else { "." };
        Self(format!("{}{dot}{key}", self.0))
    }

    /// An item of a list.
    pub(super) fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// For a message: `` in `sources.host` ``, or nothing for the whole file.
    pub(super) fn inside(&self) -> String {
        if self.0.is_empty() { String::new() } else { format!(" in {}", tick(&self.0)) }
    }

    /// For a message: `` `sources.host` ``, or `the file`.
    pub(super) fn name(&self) -> String {
        if self.0.is_empty() { "the file".into() } else { tick(&self.0) }
    }

    fn holds(&self, other: &Path) -> bool {
        let Some(rest) = other.0.strip_prefix(&self.0) else { return false };
        self.0.is_empty() || rest.is_empty() || rest.starts_with(['.', '['])
    }

    /// Whether a set has this part or one in it.
    fn any_inside(&self, set: &BTreeSet<Path>) -> bool {
        // What begins with the same text stands together in a sorted set.
        set.range(self..).take_while(|other| other.0.starts_with(&self.0)).any(|other| self.holds(other))
    }
}

/// Collects faults.
#[derive(Debug, Default)]
pub(super) struct Report {
    faults: Vec<Diagnostic>,
    /// Parts that have them.
    faulty: BTreeSet<Path>,
    /// Values that came from `${env:}` or `${file:}`.
    secret: BTreeSet<Path>,
    /// Values whose reference cannot be followed; they are not looked at any more.
    broken: BTreeSet<Path>,
    /// Secrets that were written out in the file.
    hidden: Vec<Place>,
}

impl Report {
    /// Adds a fault of this part of the file.
    pub(super) fn add(&mut self, path: &Path, fault: Diagnostic) {
        if self.faults.len() < MOST {
            self.faults.push(fault);
            self.faulty.insert(path.clone());
        }
    }

    /// Whether nothing is wrong with this part and all in it.
    pub(super) fn is_clean(&self, path: &Path) -> bool {
        !path.any_inside(&self.faulty)
    }

    /// Whether something in this part is a secret, so that what other code says about it must not be repeated.
    pub(super) fn is_secret(&self, path: &Path) -> bool {
        path.any_inside(&self.secret)
    }

    /// Whether this value's reference cannot be followed.
    pub(super) fn is_broken(&self, path: &Path) -> bool {
        self.broken.contains(path)
    }

    /// Notes that this value came from a reference.
    pub(super) fn mark_secret(&mut self, path: &Path) {
        self.secret.insert(path.clone());
    }

    /// Notes that this value's reference cannot be followed.
    pub(super) fn mark_broken(&mut self, path: &Path) {
        self.broken.insert(path.clone());
    }

    /// Notes a stretch of the file that must not be quoted.
    pub(super) fn hide(&mut self, place: Place) {
        self.hidden.push(place);
    }

    /// All faults, and what must not be quoted.
    pub(super) fn finish(self) -> (Vec<Diagnostic>, Vec<Place>) {
        (self.faults, self.hidden)
    }
}

/// A text of the file in a message: in backquotes, and short.
pub(super) fn tick(text: &str) -> String {
    let mut shown: String = text.chars().take(REPEATED).collect();
    if text.chars().nth(REPEATED).is_some() {
        shown.push_str("...");
    }
    format!("`{shown}`")
}

/// Words in backquotes, with commas.
pub(super) fn ticks<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(tick).collect::<Vec<_>>().join(", ")
}

/// Where a value stands; of a list or mapping only the beginning counts.
pub(super) fn place(node: &Node) -> Place {
    let end = match node.kind {
        NodeKind::Scalar { .. } => node.end,
        _ => node.position,
    };
    Place { start: node.position, end }
}

/// Where a key stands.
pub(super) fn key_place(key: &Key) -> Place {
    Place { start: key.position, end: key.end }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_holds_what_is_in_it_and_not_what_begins_alike() {
        let top = Path::default();
        let host = top.key("sources").key("host");
        let set: BTreeSet<Path> = [host.key("every"), top.key("transforms").item(1)].into();
        for inside in [&top, &top.key("sources"), &host, &host.key("every"), &top.key("transforms")] {
            assert!(inside.any_inside(&set), "{inside:?}");
        }
        let alike = [
            top.key("source"),
            top.key("sources").key("hos"),
            host.key("every").key("x"),
            top.key("transforms").item(10),
        ];
        for outside in &alike {
            assert!(!outside.any_inside(&set), "{outside:?}");
        }
        let beside: BTreeSet<Path> = [top.key("a-b"), top.key("a").key("b")].into();
        assert!(top.key("a").any_inside(&beside), "`a-b` stands between `a` and `a.b`");
    }

    #[test]
    fn texts_in_messages_are_short() {
        assert_eq!(tick(&"x".repeat(100)), format!("`{}...`", "x".repeat(60)));
    }
}
