//! YAML into a tree that remembers where everything stood, so that every later complaint can name line and column.
//!
//! A leaf module, not a room: pipeline files and the embedded schema files are both read through it. Parsing is
//! `saphyr-parser`'s; here are the core-schema scalars and the limits (depth, number of nodes) that make hostile
//! input, alias bombs included, an error instead of a memory problem.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
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
    /// A mapping in the order of the file; keys are unique strings.
    Mapping(Vec<(Key, Node)>),
}

/// A mapping's key and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it starts.
    pub position: Position,
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
/// The first place where the text is not YAML, has more than one document, or grows past the limits.
pub fn parse(text: &str) -> Result<Node, YamlError> {
    let mut builder = Builder { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0 };
    builder.document()
}

struct Builder<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Position), YamlError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, position(&span))),
            Some(Err(error)) => Err(YamlError {
                position: Position { line: error.marker().line(), column: error.marker().col() + 1 },
                message: error.info().to_owned(),
            }),
            None => Ok((Event::StreamEnd, Position::default())),
        }
    }

    fn document(&mut self) -> Result<Node, YamlError> {
        let mut root = None;
        loop {
            let (event, position) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(error(position, "only one document is allowed in a file"));
                }
                Event::DocumentStart(_) => {
                    let (event, position) = self.next()?;
                    root = Some(self.node(event, position, 0)?);
                }
                _ => {}
            }
        }
        Ok(root.unwrap_or(Node {
            position: Position { line: 1, column: 1 },
            kind: NodeKind::Scalar { value: Value::Null, text: String::new() },
        }))
    }

    fn node(&mut self, event: Event<'a>, position: Position, depth: usize) -> Result<Node, YamlError> {
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
            Event::SequenceStart(anchor, _) => (anchor, NodeKind::Sequence(self.sequence(depth)?)),
            Event::MappingStart(anchor, _) => (anchor, NodeKind::Mapping(self.mapping(depth)?)),
            Event::Alias(anchor) => {
                let (node, size) = self
                    .anchors
                    .get(&anchor)
                    .cloned()
                    .ok_or_else(|| error(position, "alias to an anchor that is not complete"))?;
                self.count(position, size)?;
                return Ok(Node { position, kind: node.kind });
            }
            other => return Err(error(position, format!("unexpected {other:?}"))),
        };
        let node = Node { position, kind };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, YamlError> {
        let mut items = Vec::new();
        loop {
            let (event, position) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            items.push(self.node(event, position, depth + 1)?);
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, YamlError> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let (event, position) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(error(position, "a key must be a plain word or a quoted text")),
            };
            if !seen.insert(name.clone()) {
                return Err(error(position, format!("the key {name:?} stands twice in one mapping")));
            }
            self.count(position, 1)?;
            let (event, value_position) = self.next()?;
            let node = self.node(event, value_position, depth + 1)?;
            entries.push((Key { name, position }, node));
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

fn position(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
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
}
