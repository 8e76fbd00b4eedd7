//! libvirt speaks XML: reading it without losing a word, and writing text into it.

use std::borrow::Cow;

use roxmltree::{Document, Node};

use super::error::refused;
use crate::{ErrorKind, Result};

/// Parses what libvirt wrote.
pub(super) fn parsed<'a>(text: &'a str, resource: &str) -> Result<Document<'a>> {
    Document::parse(text).map_err(|error| {
        let reason = "its description cannot be read as XML";
        refused(ErrorKind::Invalid, "read", resource, reason).with_source(error)
    })
}

/// The first child of that name.
pub(super) fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// The children of that name.
pub(super) fn children<'a, 'i>(node: Node<'a, 'i>, name: &str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.has_tag_name(name))
}

/// The node at the end of a way of first children.
pub(super) fn at<'a, 'i>(node: Node<'a, 'i>, way: &[&str]) -> Option<Node<'a, 'i>> {
    way.iter().try_fold(node, |node, name| child(node, name))
}

/// The text in a node, if it is not empty.
pub(super) fn text<'a>(node: Node<'a, '_>, way: &[&str]) -> Option<&'a str> {
    at(node, way)?.text().map(str::trim).filter(|text| !text.is_empty())
}

/// A number of bytes that carries its unit, as `<memory unit='KiB'>4</memory>`; libvirt means `default` where it has none.
pub(super) fn bytes(node: Node<'_, '_>, default: &str) -> Option<u64> {
    let number: u64 = node.text()?.trim().parse().ok()?;
    let factor: u64 = match node.attribute("unit").unwrap_or(default) {
        "b" | "bytes" | "byte" => 1,
        "KB" => 1_000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1_000_000_000_000,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// The text as it stands in XML, in an element or in an attribute between `'`.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '\'', '"', '\n', '\t', '\r']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&apos;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' | '\r' => escaped.push_str(&format!("&#{};", u32::from(c))),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Refuses text that XML or a C string cannot hold.
pub(super) fn plain<'a>(operation: &str, what: &str, text: &'a str) -> Result<&'a str> {
    match text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r')) {
        Some(c) => {
            let reason = format!("the {what} holds the control character U+{:04X}", u32::from(c));
            Err(refused(ErrorKind::Invalid, operation, text.escape_debug().to_string(), reason))
        }
        None => Ok(text),
    }
}

/// Refuses what cannot be the name of a guest, a volume, a snapshot or a network.
pub(super) fn name<'a>(operation: &str, what: &str, name: &'a str) -> Result<&'a str> {
    let wrong = name.trim().is_empty()
        || name.contains('/')
        || name.starts_with('.')
        || name.chars().any(char::is_control)
        || name.len() > 200;
    if wrong {
        let reason = format!(
            "{name:?} cannot be the name of a {what}; write 1 to 200 characters without `/` that do not begin with a dot"
        );
        return Err(refused(ErrorKind::Invalid, operation, name.escape_debug().to_string(), reason));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_as_it_was_written() {
        let wild = "a&b<c>'d'\"e\"\nf\tü";
        let written = format!("<a b='{0}'>{0}</a>", escaped(wild));
        let document = parsed(&written, "a").unwrap();
        assert_eq!(document.root_element().attribute("b"), Some(wild));
        assert_eq!(document.root_element().text(), Some(wild));
        assert!(matches!(escaped("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn bytes_have_units_and_nonsense_has_none() {
        let read = |text: &str| bytes(Document::parse(text).unwrap().root_element(), "KiB");
        assert_eq!(read("<memory unit='MiB'>2</memory>"), Some(2 << 20));
        assert_eq!(read("<memory>2</memory>"), Some(2048));
        assert_eq!(read("<memory unit='bytes'> 7 </memory>"), Some(7));
        assert_eq!(read("<memory unit='furlong'>7</memory>"), None);
        assert_eq!(read("<memory unit='T'>99999999999</memory>"), None);
    }

    #[test]
    fn names_that_would_break_something_are_refused() {
        for wrong in ["", " ", "a/b", ".hidden", "a\0b", "a\nb"] {
            assert_eq!(name("create", "guest", wrong).unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
        }
        assert!(name("create", "guest", "web 1 ü").is_ok());
        assert!(plain("create", "tag", "a\u{1}b").is_err());
    }
}
