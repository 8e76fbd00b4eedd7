//! YAML into a tree that remembers where everything stood, so that every later complaint can name line and column.
//!
//! A leaf module, not a room: pipeline files and the embedded schema files are both read through it. Parsing is
//! `saphyr-parser`'s; here are the core-schema scalars and the limits (depth, number of nodes) that make hostile
//! input, alias bombs included, an error instead of a memory problem.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

/// Nesting deeper than this is refused.
const MAX_DEPTH: usize = 64;
/// Nodes after aliases are expanded; a pipeline of a thousand sources has a few tens of thousands.
const MAX_NODES: usize = 200_000;

/// Where something stands in a file; both count from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Text that is not YAML, or YAML beyond the limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {message}")]
pub struct YamlError {
    /// Where reading stopped.
    pub position: Position,
    /// What is wrong there.
    pub message: String,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where the value starts.
    pub position: Position,
    /// Where it ends: the first character behind it.
    pub end: Position,
    /// The value.
    pub kind: NodeKind,
}

/// The three shapes of a YAML value.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// Null, boolean, number or string, with the text as written.
    Scalar {
        /// The value under YAML's core schema.
        value: Value,
        /// The text as written, without quotes.
        text: String,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping in the order of the file; keys are strings, and unique unless [`parse_with_duplicates`] read them.
    Mapping(Vec<(Key, Node)>),
}

/// A mapping's key and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it starts.
    pub position: Position,
    /// Where it ends: the first character behind it.
    pub end: Position,
}

/// A key that stands twice in one mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duplicate {
    /// Where it stood first.
    pub first: Position,
    /// The second one.
    pub again: Key,
}

impl Node {
    /// The value under `key`, if this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.kind {
            NodeKind::Mapping(entries) => entries.iter().find(|(k, _)| k.name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The same value without places.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            NodeKind::Scalar { value, .. } => value.clone(),
            NodeKind::Sequence(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            NodeKind::Mapping(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.name.clone(), node.to_json())).collect())
            }
        }
    }
}

/// Reads a file that ships with the program straight into a type; unknown keys are the type's business.
///
/// # Errors
/// The text is not YAML, or not of the type: with its position.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let node = parse(text)?;
    T::deserialize(node.to_json())
        .map_err(|error| YamlError { position: node.position, message: error.to_string() })
}

/// Reads exactly one document. An empty text is a null scalar.
///
/// # Errors
/// The text is not YAML, goes beyond the limits, or has a key twice in one mapping.
pub fn parse(text: &str) -> Result<Node, YamlError> {
    let (node, duplicates) = parse_with_duplicates(text)?;
    match duplicates.into_iter().next() {
        Some(Duplicate { first, again }) => {
            let message = format!("the key {:?} stands twice in one mapping, first at {first}", again.name);
            Err(error(again.position, message))
        }
        None => Ok(node),
    }
}

/// Like [`parse`], but keys that stand twice stay in the mapping and are told beside it, in the order of the file.
///
/// # Errors
/// The text is not YAML or goes beyond the limits.
pub fn parse_with_duplicates(text: &str) -> Result<(Node, Vec<Duplicate>), YamlError> {
    let parser = Parser::new_from_str(text);
    let mut builder = Builder { parser, anchors: HashMap::new(), nodes: 0, duplicates: Vec::new() };
    let node = builder.document()?;
    let mut duplicates = builder.duplicates;
    duplicates.sort_by_key(|duplicate| duplicate.again.position);
    Ok((node, duplicates))
}

struct Builder<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    duplicates: Vec<Duplicate>,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Place), YamlError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, (position(&span.start), position(&span.end)))),
            Some(Err(error)) => {
                Err(YamlError { position: position(error.marker()), message: error.info().to_owned() })
            }
            None => Ok((Event::StreamEnd, Place::default())),
        }
    }

    fn document(&mut self) -> Result<Node, YamlError> {
        let mut root = None;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(error(place.0, "only one document is allowed in a file"));
                }
                Event::DocumentStart(_) => {
                    let (event, place) = self.next()?;
                    root = Some(self.node(event, place, 0)?);
                }
                _ => {}
            }
        }
        let start = Position { line: 1, column: 1 };
        Ok(root.unwrap_or(Node {
            position: start,
            end: start,
            kind: NodeKind::Scalar { value: Value::Null, text: String::new() },
        }))
    }

    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<Node, YamlError> {
        let (position, mut end) = place;
        if depth > MAX_DEPTH {
            return Err(error(position, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let before = self.nodes;
        self.count(position, 1)?;
        let (anchor, kind) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let core =
                    tag.as_ref().filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str());
                let value = match core {
                    Some("str") => Value::String(text.clone().into_owned()),
                    _ if style == ScalarStyle::Plain => resolve(&text),
                    _ => Value::String(text.clone().into_owned()),
                };
                (anchor, NodeKind::Scalar { value, text: text.into_owned() })
            }
            Event::SequenceStart(anchor, _) => {
                let (items, last) = self.sequence(depth)?;
                end = last;
                (anchor, NodeKind::Sequence(items))
            }
            Event::MappingStart(anchor, _) => {
                let (entries, last) = self.mapping(depth)?;
                end = last;
                (anchor, NodeKind::Mapping(entries))
            }
            Event::Alias(anchor) => {
                let (node, size) = self
                    .anchors
                    .get(&anchor)
                    .cloned()
                    .ok_or_else(|| error(position, "alias to an anchor that is not complete"))?;
                self.count(position, size)?;
                return Ok(Node { position, end, kind: node.kind });
            }
            other => return Err(error(position, format!("unexpected {other:?}"))),
        };
        let node = Node { position, end, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<(Vec<Node>, Position), YamlError> {
        let mut items = Vec::new();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok((items, place.1));
            }
            items.push(self.node(event, place, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<(Vec<(Key, Node)>, Position), YamlError> {
        let mut entries = Vec::new();
        let mut seen = HashMap::new();
        loop {
            let (event, (position, end)) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok((entries, end)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(error(position, "a key must be a plain word or a quoted text")),
            };
            self.count(position, 1)?;
            let key = Key { name, position, end };
            match seen.get(&key.name) {
                Some(first) => self.duplicates.push(Duplicate { first: *first, again: key.clone() }),
                None => drop(seen.insert(key.name.clone(), position)),
            }
            let (event, place) = self.next()?;
            let node = self.node(event, place, depth + 1)?;
            entries.push((key, node));
        }
    }

    fn count(&mut self, position: Position, more: usize) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES {
            return Err(error(position, format!("more than {MAX_NODES} values after aliases are expanded")));
        }
        Ok(())
    }
}

/// Start, and the first character behind the end.
type Place = (Position, Position);

fn position(marker: &Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}

fn error(position: Position, message: impl Into<String>) -> YamlError {
    YamlError { position, message: message.into() }
}

/// A plain scalar under YAML 1.2's core schema: `yes`, `on` and `0777` stay what they look like.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if let Ok(integer) = text.strip_prefix('+').unwrap_or(text).parse::<i64>() {
        return Value::Number(integer.into());
    }
    if let Some(hex) = text.strip_prefix("0x")
        && let Ok(integer) = i64::from_str_radix(hex, 16)
    {
        return Value::Number(integer.into());
    }
    let number_like = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'));
    let float: Option<Cow<'_, str>> = number_like.then_some(Cow::Borrowed(text));
    float
        .and_then(|text| text.parse::<f64>().ok())
        .and_then(Number::from_f64)
        .map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_and_survive_nesting() {
        let root = parse("name: local\nsources:\n  host: { type: host, every: 5s }\n").unwrap();
        let every = root.get("sources").and_then(|n| n.get("host")).and_then(|n| n.get("every")).unwrap();
        assert_eq!(every.position, Position { line: 3, column: 30 });
        assert_eq!(every.to_json(), Value::String("5s".into()));
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let root = parse("[1, -2, 0x1f, 1.5, 1e3, true, no, ~, '7', 10s, 1.2.3, a-b, .5]").unwrap();
        let expected =
            serde_json::json!([1, -2, 31, 1.5, 1000.0, true, "no", null, "7", "10s", "1.2.3", "a-b", 0.5]);
        assert_eq!(root.to_json(), expected);
    }

    #[test]
    fn an_alias_bomb_is_an_error_with_a_place() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let previous = format!("*a{}", level - 1);
            let items = vec![previous; 9].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        let error = parse(&text).unwrap_err();
        assert!(error.message.contains("aliases"), "{error}");
        assert!(error.position.line > 1);
    }

    #[test]
    fn aliases_stand_for_their_anchor() {
        let root = parse("a: &x { every: 5s }\nb: *x\n").unwrap();
        assert_eq!(root.get("b").unwrap().to_json(), root.get("a").unwrap().to_json());
    }

    #[test]
    fn depth_duplicate_keys_second_documents_and_bad_syntax_are_refused() {
        for (text, word) in [
            ("[".repeat(100) + &"]".repeat(100), "deeper"),
            ("a: 1\na: 2".into(), "twice"),
            ("a: 1\n---\nb: 2".into(), "one document"),
            ("a: [1, 2".into(), ""),
            ("? [a]\n: 1".into(), "key"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.message.contains(word), "{text}: {error}");
        }
        assert_eq!(parse("").unwrap().to_json(), Value::Null);
    }

    #[test]
    fn keys_that_stand_twice_are_told_with_both_places() {
        let (root, duplicates) = parse_with_duplicates("a: 1\nb: { c: 1, c: 2 }\na: 3\n").unwrap();
        let told: Vec<_> =
            duplicates.iter().map(|d| format!("{} {} {}", d.again.name, d.first, d.again.position)).collect();
        assert_eq!(told, ["c 2:6 2:12", "a 1:1 3:1"]);
        assert_eq!(root.get("a").unwrap().to_json(), Value::from(1), "the first one counts");
    }

    #[test]
    fn values_end_where_their_last_character_does() {
        let root = parse("a: 'b c'\nd: [1, 22]\ne: x y # z\n").unwrap();
        let ends: Vec<_> = ["a", "d", "e"].map(|key| root.get(key).unwrap().end.to_string()).into();
        assert_eq!(ends, ["1:9", "2:11", "3:7"]);
    }
}
