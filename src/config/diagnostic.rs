//! What is wrong with a pipeline file: all of it at once, each fault with its place, the text there and what would be
//! right.

use std::fmt;

use serde_json::{Value, json};

use crate::yaml::Position;

/// More faults than this are counted, not shown: a file with so many is the wrong file.
const MOST: usize = 100;
/// Characters of a line that are shown around the place.
const WIDTH: usize = 120;

/// A stretch of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Place {
    /// The first character.
    pub start: Position,
    /// The first character behind it.
    pub end: Position,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where; without a place it concerns the file as a whole.
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Vec<String>,
    /// Other places that have to do with it, and what they are.
    pub related: Vec<(Place, String)>,
}

impl Diagnostic {
    /// A fault at a place.
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place: Some(place), message: message.into(), help: Vec::new(), related: Vec::new() }
    }

    /// Adds what would be right.
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// All faults of a file, in the order of the file. `Display` prints them with the lines of the file that they are in;
/// values that came from `${env:}` and `${file:}` never show.
#[derive(Clone, PartialEq, Eq)]
pub struct Diagnostics {
    file: String,
    /// Lines of the file that are quoted; others are empty.
    lines: Vec<String>,
    list: Vec<Diagnostic>,
    omitted: usize,
}

impl Diagnostics {
    /// Faults of the file with this text. `hidden` are stretches that must not be quoted.
    pub(super) fn new(file: &str, text: &str, mut list: Vec<Diagnostic>, hidden: &[Place]) -> Self {
        for fault in &mut list {
            fault.message = harmless(&fault.message);
            fault.help.iter_mut().for_each(|help| *help = harmless(help));
        }
        list.sort_by(|a, b| a.place.cmp(&b.place).then_with(|| a.message.cmp(&b.message)));
        list.dedup();
        let omitted = list.len().saturating_sub(MOST);
        list.truncate(MOST);
        let mut lines = vec![String::new(); if list.is_empty() { 0 } else { text.lines().count() }];
        let quoted = list
            .iter()
            .flat_map(|fault| fault.place.iter().chain(fault.related.iter().map(|(place, _)| place)));
        for place in quoted {
            let number = place.start.line;
            let source = text.lines().nth(number.saturating_sub(1));
            if let (Some(line), Some(source)) = (lines.get_mut(number.saturating_sub(1)), source) {
                *line = printable(source, number, hidden);
            }
        }
        Self { file: file.to_owned(), lines, list, omitted }
    }

    /// A file that cannot be read at all.
    pub(super) fn unreadable(file: &str, reason: impl Into<String>) -> Self {
        let fault = Diagnostic { place: None, message: reason.into(), help: Vec::new(), related: Vec::new() };
        Self { file: file.to_owned(), lines: Vec::new(), list: vec![fault], omitted: 0 }
    }

    /// The file, as it was named.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The faults in the order of the file; at most 100.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many faults there are, with those that are not shown.
    pub fn count(&self) -> usize {
        self.list.len() + self.omitted
    }

    /// The faults for editors: a list of objects with `file`, `line`, `column`, `end_line`, `end_column` (from 1, ends
    /// exclusive; null for the file as a whole), `severity`, `message`, `help` and `related`.
    pub fn to_json(&self) -> Value {
        let place = |place: Option<Place>| {
            json!({
                "file": self.file,
                "line": place.map(|p| p.start.line),
                "column": place.map(|p| p.start.column),
                "end_line": place.map(|p| p.end.line),
                "end_column": place.map(|p| p.end.column),
            })
        };
        let with = |mut object: Value, more: Value| {
            if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
                object.extend(more);
            }
            object
        };
        let faults = self.list.iter().map(|fault| {
            let related =
                fault.related.iter().map(|(at, what)| with(place(Some(*at)), json!({ "message": what })));
            let more = json!({
                "severity": "error",
                "message": fault.message,
                "help": fault.help,
                "related": related.collect::<Vec<_>>(),
            });
            with(place(fault.place), more)
        });
        Value::Array(faults.collect())
    }

    fn quote(&self, f: &mut fmt::Formatter<'_>, place: Place, mark: char, margin: usize) -> fmt::Result {
        let Some(line) = self.lines.get(place.start.line.saturating_sub(1)) else { return Ok(()) };
        let length = line.chars().count();
        let first = (place.start.column.saturating_sub(1)).min(length);
        let behind =
            if place.end.line == place.start.line { place.end.column.saturating_sub(1) } else { length };
        let marks = behind.clamp(first, length).saturating_sub(first).max(1);
        // A window of a long line, with the place in it.
        let from = if length <= WIDTH { 0 } else { first.saturating_sub(WIDTH / 3) };
        let shown: String = line.chars().skip(from).take(WIDTH).collect();
        let dots = |cut: bool| if cut { "..." } else { "" };
        let (before, after) = (dots(from > 0), dots(from + WIDTH < length));
        let pad = first - from + before.len();
        let marks = marks.min(WIDTH.saturating_sub(first - from)).max(1);
        writeln!(f, "{:margin$} |", "")?;
        writeln!(f, "{:margin$} | {before}{}{after}", place.start.line, shown.trim_end())?;
        writeln!(f, "{:margin$} | {:pad$}{}", "", "", mark.to_string().repeat(marks))
    }
}

/// The line with secrets masked and nothing in it that a terminal obeys.
fn printable(line: &str, number: usize, hidden: &[Place]) -> String {
    let at = |column: usize| Position { line: number, column };
    let masked = |column: usize| hidden.iter().any(|place| (place.start..place.end).contains(&at(column)));
    let shown = line.chars().enumerate().map(|(index, c)| if masked(index + 1) { '*' } else { c });
    harmless(&shown.collect::<String>())
}

/// One line, without controls and without marks that turn the direction of text; as many characters as before.
fn harmless(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    text.chars()
        .map(|c| match c {
            '\t' | '\n' => ' ',
            c if c.is_control() || turns(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            writeln!(f, "error: {}", fault.message)?;
            let places = fault.place.iter().chain(fault.related.iter().map(|(place, _)| place));
            let margin = places.map(|place| place.start.line.to_string().len()).max().unwrap_or(1);
            match fault.place {
                Some(place) => {
                    writeln!(f, "{:margin$}--> {}:{}", "", self.file, place.start)?;
                    self.quote(f, place, '^', margin)?;
                }
                None => writeln!(f, "{:margin$}--> {}", "", self.file)?,
            }
            for (place, what) in &fault.related {
                writeln!(f, "{:margin$}::: {}:{}: {what}", "", self.file, place.start)?;
                self.quote(f, *place, '-', margin)?;
            }
            for help in &fault.help {
                writeln!(f, "{:margin$} = help: {help}", "")?;
            }
        }
        if self.omitted > 0 {
            writeln!(f, "\nerror: {} more are not shown", self.omitted)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: usize, from: usize, to: usize) -> Place {
        Place { start: Position { line, column: from }, end: Position { line, column: to } }
    }

    #[test]
    fn faults_come_in_the_order_of_the_file_with_their_lines() {
        let text = "name: x\nsources:\n  a: {}\n  a: {}\n";
        let mut twice = Diagnostic::new(place(4, 3, 4), "`a` stands twice").help("take one away");
        twice.related.push((place(3, 3, 4), "first here".into()));
        let list = vec![twice, Diagnostic::new(place(1, 7, 8), "no")];
        let printed = Diagnostics::new("p.yaml", text, list, &[]).to_string();
        let expected = "\
error: no
 --> p.yaml:1:7
  |
1 | name: x
  |       ^

error: `a` stands twice
 --> p.yaml:4:3
  |
4 |   a: {}
  |   ^
 ::: p.yaml:3:3: first here
  |
3 |   a: {}
  |   -
  = help: take one away
";
        assert_eq!(printed, expected);
    }

    #[test]
    fn secrets_controls_and_long_lines_do_not_reach_the_terminal() {
        let text = format!("token: hunter2\u{1b}[2J, {}bad{}", "x".repeat(500), "y".repeat(500));
        let list = vec![Diagnostic::new(place(1, 521, 524), "bad"), Diagnostic::new(place(1, 1, 6), "token")];
        let printed = Diagnostics::new("p", &text, list, &[place(1, 8, 15)]).to_string();
        assert!(!printed.contains("hunter2") && !printed.contains('\u{1b}'), "{printed}");
        assert!(printed.contains("token: *******\u{fffd}[2J"), "{printed}");
        assert!(printed.lines().all(|line| line.chars().count() < 140), "{printed}");
        let marked: Vec<_> = printed.lines().collect();
        let row = marked.iter().position(|line| line.contains("bad") && line.contains('|')).unwrap();
        let column = marked[row + 1].find("^^^").unwrap();
        assert_eq!(&marked[row][column..column + 3], "bad");
    }

    #[test]
    fn faults_without_end_are_counted() {
        let list = (1..=250).map(|column| Diagnostic::new(place(1, column, column + 1), "no")).collect();
        let faults = Diagnostics::new("p", &"x".repeat(300), list, &[]);
        assert_eq!((faults.count(), faults.iter().len()), (250, 100));
        assert!(faults.to_string().ends_with("error: 150 more are not shown\n"));
    }

    #[test]
    fn editors_get_places_as_numbers() {
        let faults =
            Diagnostics::new("p", "a: b", vec![Diagnostic::new(place(1, 4, 5), "no").help("yes")], &[]);
        let expected = json!([{
            "file": "p", "line": 1, "column": 4, "end_line": 1, "end_column": 5,
            "severity": "error", "message": "no", "help": ["yes"], "related": [],
        }]);
        assert_eq!(faults.to_json(), expected);
    }
}
