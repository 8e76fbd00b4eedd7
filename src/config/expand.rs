//! Replaces references in all texts of a file, and tells of those that cannot be followed.

use serde_json::Value;

use super::diagnostic::{Diagnostic, Place};
use super::reference::{self, Surroundings, Unresolved};
use super::report::{Path, Report, place, tick};
use crate::yaml::{Node, NodeKind, Position};

/// Replaces the references in all string values in place; keys stay as they are. The text as written stays beside the
/// value, so that messages can quote it.
pub(super) fn expand(node: &mut Node, text: &str, at: &Surroundings<'_>, report: &mut Report) {
    let lines = text.lines().collect();
    Expander { lines, at, report }.node(node, &Path::default());
}

struct Expander<'a> {
    lines: Vec<&'a str>,
    at: &'a Surroundings<'a>,
    report: &'a mut Report,
}

impl Expander<'_> {
    fn node(&mut self, node: &mut Node, path: &Path) {
        let whole = place(node);
        match &mut node.kind {
            NodeKind::Scalar { value: Value::String(value), .. } if reference::has_any(value) => {
                match reference::expand(value, self.at) {
                    Ok((expanded, secret)) => {
                        *value = expanded;
                        if secret {
                            self.report.mark_secret(path);
                        }
                    }
                    Err(faults) => {
                        self.report.mark_broken(path);
                        let mut from = whole.start;
                        for fault in faults {
                            let place = self.find(&fault, from, whole);
                            from = place.end;
                            let message = format!("{}: {}", tick(&fault.written), fault.message);
                            self.report.add(path, Diagnostic::new(place, message).help(fault.help));
                        }
                    }
                }
            }
            NodeKind::Scalar { .. } => {}
            NodeKind::Sequence(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.node(item, &path.item(index));
                }
            }
            NodeKind::Mapping(entries) => {
                for (key, value) in entries {
                    self.node(value, &path.key(&key.name));
                }
            }
        }
    }

    /// Where in a value a reference stands: looked for in the file, because quotes and line folds move it.
    fn find(&self, fault: &Unresolved, from: Position, whole: Place) -> Place {
        for number in from.line..=whole.end.line {
            let Some(line) = self.lines.get(number.saturating_sub(1)) else { break };
            let skipped = if number == from.line { from.column.saturating_sub(1) } else { 0 };
            let start = line.char_indices().nth(skipped).map_or(line.len(), |(at, _)| at);
            let Some(at) = line.get(start..).and_then(|rest| rest.find(&fault.written)) else { continue };
            let column = line.get(..start + at).map_or(0, |before| before.chars().count()) + 1;
            let start = Position { line: number, column };
            let found = Place {
                start,
                end: Position { line: number, column: column + fault.written.chars().count() },
            };
            if found.end <= whole.end {
                return found;
            }
        }
        whole
    }
}
