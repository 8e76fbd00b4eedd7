//! Text as line protocol writes it: names and tags with escapes, strings in quotes.

/// What separates inside a measurement.
pub(super) const MEASUREMENT: &[u8] = b", ";
/// What separates inside a name or a tag.
pub(super) const NAME: &[u8] = b",= ";

/// Whether a name or tag is written as it is.
///
/// Looks at every byte, because a loop without an exit is the one that the compiler turns into vector instructions.
pub(super) fn is_plain(text: &[u8]) -> bool {
    !text
        .iter()
        .fold(false, |found, byte| found | (*byte <= b' ') | matches!(*byte, b',' | b'=' | b'\\' | 0x7f))
}

/// Appends a measurement, a name or a tag value, cleaned of what servers read differently.
pub(super) fn escape(text: &str, separators: &[u8], into: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    if is_plain(bytes) {
        into.extend_from_slice(bytes);
        return;
    }
    let mut backslash = false;
    for &byte in bytes {
        if byte == b'\\' {
            backslash = true;
            continue;
        }
        let control = byte.is_ascii_control();
        let separates = control || separators.contains(&byte);
        if backslash && !separates {
            into.push(b'\\');
        }
        backslash = false;
        if separates {
            into.push(b'\\');
        }
        into.push(if control { b' ' } else { byte });
    }
}

/// A name or tag as it is written; empty if nothing is left of it.
pub(super) fn escaped(text: &str, separators: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(text.len());
    escape(text, separators, &mut written);
    written
}

/// A name as a reader takes it from its written form, in which a backslash before a separator is always an escape.
pub(super) fn unescaped(written: &[u8]) -> Vec<u8> {
    let next = written.iter().skip(1).map(Some).chain([None]);
    let escapes = |byte: u8, next: Option<&u8>| byte == b'\\' && next.is_some_and(|next| NAME.contains(next));
    written.iter().zip(next).filter(|(byte, next)| !escapes(**byte, *next)).map(|(byte, _)| *byte).collect()
}

/// Appends a string value.
pub(super) fn quote(text: &str, into: &mut Vec<u8>) {
    into.push(b'"');
    let bytes = text.as_bytes();
    let special = |byte: u8| matches!(byte, b'"' | b'\\');
    if bytes.iter().fold(false, |found, byte| found | special(*byte)) {
        for &byte in bytes {
            if special(byte) {
                into.push(b'\\');
            }
            into.push(byte);
        }
    } else {
        into.extend_from_slice(bytes);
    }
    into.push(b'"');
}
