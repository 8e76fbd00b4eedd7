//! Compares a file with the JSON Schema of the types: unknown and missing keys, wrong types, words that are not among
//! the allowed ones, ranges. What serde would say one at a time and without a place is said here at once.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::diagnostic::{Diagnostic, Place};
use super::named::{NAME_PATTERN, NAME_RULE, is_name};
use super::report::{Path, Report, key_place, place, tick, ticks};
use super::settings::Listen;
use crate::model::{Size, Span};
use crate::suggest::closest;
use crate::yaml::{Key, Node, NodeKind};

/// Adds to the report everything in `node` that `schema`, a root schema, does not allow.
pub(super) fn walk(schema: &Value, node: &Node, report: &mut Report) {
    let mut walk = Walk { root: schema, report };
    walk.node(schema, node, &Path::default(), Place { start: node.position, end: node.position });
}

struct Walk<'a> {
    root: &'a Value,
    report: &'a mut Report,
}

impl<'a> Walk<'a> {
    /// `anchor` is where a complaint about what is missing goes: the key that the value stands under.
    fn node(&mut self, schema: &'a Value, node: &Node, path: &Path, anchor: Place) {
        if self.report.is_broken(path) {
            return;
        }
        let schema = self.resolve(schema);
        if is_null(node) && allows_null(schema) {
            return;
        }
        if let Some(schema) = without_null(schema) {
            return self.node(schema, node, path, anchor);
        }
        if is_secret(schema) {
            self.report.hide(Place { start: node.position, end: node.end });
        }
        if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
            return match words(variants) {
                Some(words) => self.word(&words, node, path, anchor),
                None => self.tagged(variants, node, path, anchor),
            };
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            return self.word(
                &words.iter().filter_map(Value::as_str).collect::<Vec<_>>(),
                node,
                path,
                anchor,
            );
        }
        // A tag was compared when the variant was chosen.
        if schema.get("const").is_some() || !self.has_type(schema, node, path, anchor) {
            return;
        }
        match &node.kind {
            NodeKind::Scalar { value, text } => self.scalar(schema, value, text, node, path),
            NodeKind::Sequence(items) => self.sequence(schema, items, path),
            NodeKind::Mapping(entries) => self.mapping(schema, entries, path, anchor),
        }
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|reference| self.root.pointer(reference.strip_prefix('#')?))
            .unwrap_or(schema)
    }

    fn has_type(&mut self, schema: &Value, node: &Node, path: &Path, anchor: Place) -> bool {
        let allowed: Vec<&str> = match schema.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => return true,
        };
        let found = type_of(node);
        if allowed.contains(&found) || found == "integer" && allowed.contains(&"number") {
            return true;
        }
        let wanted = expected(schema, &allowed);
        let mut fault = Diagnostic::new(
            seen(node, anchor),
            format!("{} must be {wanted}, not {}", path.name(), described(found)),
        );
        match &node.kind {
            NodeKind::Scalar { text, .. } if allowed.contains(&"string") && found != "null" => {
                fault = match schema.get("format").and_then(Value::as_str) {
                    Some("duration") if text.parse::<f64>().is_ok() => {
                        fault.help(format!("write the unit, as in {}", tick(&format!("{text}s"))))
                    }
                    Some("duration" | "size" | "listen") => fault,
                    Some("secret") => {
                        fault.help("put it in quotes, or write `${env:NAME}` or `${file:PATH}`")
                    }
                    _ => fault.help(format!("put it in quotes: {}", tick(&format!("\"{text}\"")))),
                };
            }
            NodeKind::Scalar { .. } if allowed.contains(&"array") && found == "string" => {
                fault = fault.help("a list is written `[a, b]`, or one item per line after `- `");
            }
            _ => {}
        }
        if let Some(example) =
            schema.get("examples").and_then(|examples| examples.get(0)).and_then(Value::as_str)
        {
            fault = fault.help(format!("for example {}", tick(example)));
        }
        self.report.add(path, fault);
        false
    }

    fn word(&mut self, allowed: &[&str], node: &Node, path: &Path, anchor: Place) {
        let (found, text) = match &node.kind {
            NodeKind::Scalar { value: Value::String(value), text } => (value.as_str(), text.as_str()),
            NodeKind::Scalar { text, .. } => (text.as_str(), text.as_str()),
            _ => ("", ""),
        };
        if allowed.contains(&found) {
            return;
        }
        let message = match type_of(node) {
            "string" => format!("{} cannot be {}", path.name(), tick(text)),
            other => format!("{} must be a word, not {}", path.name(), described(other)),
        };
        let fault = self.choice(Diagnostic::new(seen(node, anchor), message), found, allowed, path);
        self.report.add(path, fault);
    }

    /// Adds what is allowed, and what was probably meant; a secret is not compared, as the answer would tell of it.
    fn choice(&self, mut fault: Diagnostic, found: &str, allowed: &[&str], path: &Path) -> Diagnostic {
        if let Some(meant) = closest(found, allowed.iter().copied()).filter(|_| !self.report.is_secret(path))
        {
            fault = fault.help(format!("did you mean {}?", tick(meant)));
        }
        let all = ticks(allowed.iter().copied());
        fault.help(if allowed.len() == 1 {
            format!("allowed is {all}")
        } else {
            format!("allowed are {all}")
        })
    }

    fn tagged(&mut self, variants: &'a [Value], node: &Node, path: &Path, anchor: Place) {
        let NodeKind::Mapping(entries) = &node.kind else {
            let message =
                format!("{} must be a mapping with a `type`, not {}", path.name(), described(type_of(node)));
            return self.report.add(path, Diagnostic::new(seen(node, anchor), message));
        };
        let known: Vec<(&str, &'a Value)> =
            variants.iter().filter_map(|variant| Some((tag(variant)?, variant))).collect();
        let allowed: Vec<&str> = known.iter().map(|(tag, _)| *tag).collect();
        let Some((tag_key, value)) = entries.iter().find(|(key, _)| key.name == "type") else {
            let mut fault = Diagnostic::new(anchor, format!("the key `type` is missing{}", path.inside()));
            if let Some((key, _)) =
                entries.iter().find(|(key, _)| closest(&key.name, ["type", "kind"]).is_some())
            {
                fault = fault.help(format!("did you mean `type` by {}?", tick(&key.name)));
            }
            self.report.add(path, fault.help(format!("allowed are {}", ticks(allowed))));
            return self.shared(variants, entries, path, anchor);
        };
        let tag_path = path.key("type");
        if self.report.is_broken(&tag_path) {
            return self.shared(variants, entries, path, anchor);
        }
        let chosen = match &value.kind {
            NodeKind::Scalar { value: Value::String(found), .. } => {
                known.iter().find(|(tag, _)| tag == found)
            }
            _ => None,
        };
        match chosen {
            Some((_, variant)) => self.mapping(variant, entries, path, anchor),
            None => {
                self.word(&allowed, value, &tag_path, key_place(tag_key));
                self.shared(variants, entries, path, anchor);
            }
        }
    }

    /// Looks at the keys that mean the same whatever the `type` is, where it is not known which one was meant.
    fn shared(&mut self, variants: &'a [Value], entries: &[(Key, Node)], path: &Path, anchor: Place) {
        let property = |variant: &'a Value, key: &str| variant.get("properties")?.get(key);
        let Some((first, others)) = variants.split_first() else { return };
        for (key, value) in entries {
            let Some(schema) = property(first, &key.name) else { continue };
            if others.iter().all(|variant| property(variant, &key.name) == Some(schema)) {
                self.node(schema, value, &path.key(&key.name), key_place(key));
            }
        }
        let all_require =
            |name: &str| variants.iter().all(|variant| required(variant).any(|other| other == name));
        for name in required(first).filter(|name| *name != "type" && all_require(name)) {
            self.missing(first, name, entries, path, anchor);
        }
    }

    /// Complains about a key that is needed, if it is not there.
    fn missing(
        &mut self,
        schema: &'a Value,
        name: &str,
        entries: &[(Key, Node)],
        path: &Path,
        anchor: Place,
    ) {
        if entries.iter().any(|(key, _)| key.name == name) {
            return;
        }
        let mut fault =
            Diagnostic::new(anchor, format!("the key {} is missing{}", tick(name), path.inside()));
        let property = schema.get("properties").and_then(|properties| properties.get(name));
        if let Some(description) =
            property.map(|schema| self.describe(schema)).filter(|text| !text.is_empty())
        {
            fault = fault.help(format!("{}: {description}", tick(name)));
        }
        self.report.add(path, fault);
    }

    fn mapping(&mut self, schema: &'a Value, entries: &[(Key, Node)], path: &Path, anchor: Place) {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let names = schema.pointer("/propertyNames/pattern").is_some_and(|pattern| pattern == NAME_PATTERN);
        for (key, value) in entries {
            let at = key_place(key);
            let inner = path.key(&key.name);
            if names && !is_name(&key.name) {
                let message = format!("{} cannot be a name{}", tick(&key.name), path.inside());
                self.report.add(&inner, Diagnostic::new(at, message).help(NAME_RULE));
            }
            // The schema lives as long as the walk; the lookup goes through it, not through `properties`.
            let declared = schema.get("properties").and_then(|properties| properties.get(&key.name));
            match (declared, schema.get("additionalProperties")) {
                (Some(declared), _) => self.node(declared, value, &inner, at),
                (None, Some(Value::Bool(false))) => {
                    let free: Vec<&str> = properties
                        .keys()
                        .map(String::as_str)
                        .filter(|name| !entries.iter().any(|(other, _)| other.name == *name))
                        .collect();
                    let mut fault =
                        Diagnostic::new(at, format!("unknown key {}{}", tick(&key.name), path.inside()));
                    if let Some(meant) = closest(&key.name, free) {
                        // What stands under a misspelled `token` is as secret.
                        if properties.get(meant).is_some_and(|schema| schema.to_string().contains("secret")) {
                            self.report.hide(Place { start: value.position, end: value.end });
                        }
                        fault = fault.help(format!("did you mean {}?", tick(meant)));
                    }
                    let all = ticks(properties.keys().map(String::as_str));
                    self.report.add(&inner, fault.help(format!("allowed are {all}")));
                }
                (None, Some(open @ Value::Object(_))) => self.node(open, value, &inner, at),
                (None, _) => {}
            }
        }
        for name in required(schema) {
            self.missing(schema, name, entries, path, anchor);
        }
        let least = schema.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
        if (entries.len() as u64) < least {
            self.report.add(
                path,
                Diagnostic::new(anchor, format!("{} is empty", path.name())).help("at least one is needed"),
            );
        }
    }

    /// The first sentence of a key's description.
    fn describe(&self, schema: &'a Value) -> &'a str {
        let own = schema.get("description").or_else(|| self.resolve(schema).get("description"));
        let text = own.and_then(Value::as_str).unwrap_or_default();
        text.split("\n\n").next().unwrap_or_default().trim_end_matches('.')
    }

    fn sequence(&mut self, schema: &'a Value, items: &[Node], path: &Path) {
        let mut seen: HashMap<String, Place> = HashMap::new();
        let unique = schema.get("uniqueItems").and_then(Value::as_bool) == Some(true);
        for (index, item) in items.iter().enumerate() {
            let (inner, at) = (path.item(index), place(item));
            if let Some(schema) = schema.get("items") {
                self.node(schema, item, &inner, at);
            }
            if let (true, NodeKind::Scalar { text, .. }) = (unique, &item.kind)
                && let Some(first) = seen.insert(text.clone(), at)
            {
                let mut fault = Diagnostic::new(at, format!("{} stands twice{}", tick(text), path.inside()));
                fault.related.push((first, "first here".into()));
                self.report.add(&inner, fault);
            }
        }
    }

    fn scalar(&mut self, schema: &Value, value: &Value, text: &str, node: &Node, path: &Path) {
        if let Some(number) = value.as_f64() {
            let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
            let (least, most) = (bound("minimum"), bound("maximum"));
            if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
                let range = match (least, most) {
                    (Some(least), Some(most)) => format!("from {least} to {most}"),
                    (Some(least), None) => format!("{least} or more"),
                    (None, most) => format!("{} or less", most.unwrap_or_default()),
                };
                let fault = Diagnostic::new(
                    place(node),
                    format!("{} must be {range}, not {}", path.name(), tick(text)),
                );
                self.report.add(path, fault);
                return;
            }
        }
        let format = schema.get("format").and_then(Value::as_str);
        let secret = self.report.is_secret(path);
        let read = match value {
            Value::String(value) => value.clone(),
            other => other.to_string(),
        };
        let refused = match format {
            Some("duration") => read.parse::<Span>().err(),
            Some("size") => read.parse::<Size>().err(),
            Some("listen") => read.parse::<Listen>().err(),
            _ => None,
        };
        let name = schema.pointer("/pattern").is_some_and(|pattern| pattern == NAME_PATTERN);
        let refused = refused
            .or_else(|| (name && !is_name(&read)).then(|| format!("{read:?} cannot be a name; {NAME_RULE}")));
        if let Some(reason) = refused {
            let (reason, help) = reason.split_once("; ").unwrap_or((reason.as_str(), ""));
            // The reason repeats the value, which is not what stands in the file if it is a secret.
            let message = if secret {
                format!(
                    "{}: the value of {} is not {}",
                    path.name(),
                    tick(text),
                    expected(schema, &["string"])
                )
            } else {
                format!("{}: {reason}", path.name())
            };
            let fault = Diagnostic::new(place(node), message);
            self.report.add(path, if help.is_empty() { fault } else { fault.help(help) });
        }
    }
}

fn is_secret(schema: &Value) -> bool {
    schema.get("format").is_some_and(|format| format == "secret")
}

/// Where a value can be seen: nothing is seen by its key.
fn seen(node: &Node, anchor: Place) -> Place {
    if is_null(node) && node.position == node.end { anchor } else { place(node) }
}

fn is_null(node: &Node) -> bool {
    matches!(&node.kind, NodeKind::Scalar { value: Value::Null, .. })
}

fn allows_null(schema: &Value) -> bool {
    let null = |value: &Value| value.as_str() == Some("null");
    match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(null),
        Some(other) => null(other),
        None => schema.get("anyOf").and_then(Value::as_array).is_some_and(|any| any.iter().any(allows_null)),
    }
}

/// The other half of `anyOf: [something, null]`, which is how an optional value is written.
fn without_null(schema: &Value) -> Option<&Value> {
    schema.get("anyOf")?.as_array()?.iter().find(|schema| !allows_null(schema))
}

/// The words of an enumeration that is written as `oneOf` because its words have descriptions.
fn words(variants: &[Value]) -> Option<Vec<&str>> {
    let words = variants.iter().map(|variant| match (variant.get("const"), variant.get("enum")) {
        (Some(Value::String(word)), _) => Some(vec![word.as_str()]),
        (None, Some(Value::Array(words))) => words.iter().map(Value::as_str).collect(),
        _ => None,
    });
    words.collect::<Option<Vec<_>>>().map(|words| words.into_iter().flatten().collect())
}

/// Keys that a mapping must have.
fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn tag(variant: &Value) -> Option<&str> {
    variant.pointer("/properties/type/const").and_then(Value::as_str)
}

fn type_of(node: &Node) -> &'static str {
    match &node.kind {
        NodeKind::Sequence(_) => "array",
        NodeKind::Mapping(_) => "object",
        NodeKind::Scalar { value, .. } => match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            _ => "string",
        },
    }
}

fn described(kind: &str) -> &'static str {
    match kind {
        "null" => "nothing",
        "boolean" => "true or false",
        "integer" | "number" => "a number",
        "array" => "a list",
        "object" => "a mapping",
        _ => "a text",
    }
}

fn expected(schema: &Value, allowed: &[&str]) -> String {
    match schema.get("format").and_then(Value::as_str) {
        Some("duration") => return "a duration".into(),
        Some("size") => return "a size".into(),
        Some("listen") => return "an address and port".into(),
        Some("secret") => return "a text".into(),
        _ => {}
    }
    let kinds: Vec<_> = allowed
        .iter()
        .filter(|kind| **kind != "null")
        .map(|kind| if *kind == "integer" { "a whole number" } else { described(kind) })
        .collect();
    kinds.join(" or ")
}
