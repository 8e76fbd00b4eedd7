//! `${env:NAME}` and `${file:PATH}` in a text.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A secret is not longer than this; who names a log file by mistake gets an error, not its contents.
const LONGEST: u64 = 64 << 10;

/// Where secrets are looked up.
pub(super) struct Surroundings<'a> {
    /// Gives an environment variable.
    pub(super) env: &'a dyn Fn(&str) -> Option<OsString>,
    /// Folder that relative paths start from: the one of the pipeline file.
    pub(super) folder: PathBuf,
}

/// Part of a text.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    /// `$${`
    Escaped,
    /// What stands between `${` and `}`, and the whole of it.
    Reference {
        inside: &'a str,
        whole: &'a str,
    },
    /// `${` without an end.
    Open(&'a str),
}

/// A reference that cannot be followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unresolved {
    /// As written.
    pub(super) written: String,
    /// What is wrong; never a part of the secret.
    pub(super) message: String,
    /// What would be right.
    pub(super) help: String,
}

/// Whether a text has anything to expand.
pub(super) fn has_any(text: &str) -> bool {
    text.contains("${")
}

/// The text with all references replaced and `$${` made `${`, and whether it had a reference; or all references that
/// cannot be followed.
pub(super) fn expand(text: &str, at: &Surroundings<'_>) -> Result<(String, bool), Vec<Unresolved>> {
    let (mut expanded, mut secret, mut faults) = (String::new(), false, Vec::new());
    for part in parts(text) {
        match part {
            Part::Text(text) => expanded.push_str(text),
            Part::Escaped => expanded.push_str("${"),
            Part::Reference { inside, whole } => match follow(inside, at) {
                Ok(value) => {
                    secret = true;
                    expanded.push_str(&value);
                }
                Err((message, help)) => faults.push(Unresolved { written: whole.to_owned(), message, help }),
            },
            Part::Open(rest) => faults.push(Unresolved {
                written: rest.chars().take(2).collect(),
                message: "`${` without `}`".into(),
                help: "write `${env:NAME}` or `${file:PATH}`, or `$${` for the characters themselves".into(),
            }),
        }
    }
    if faults.is_empty() { Ok((expanded, secret)) } else { Err(faults) }
}

fn parts(mut text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    while let Some(at) = text.find("${") {
        let (before, rest) = text.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            parts.extend([Part::Text(before), Part::Escaped]);
            text = rest.strip_prefix("${").unwrap_or_default();
            continue;
        }
        parts.push(Part::Text(before));
        let Some(end) = rest.find('}') else {
            parts.push(Part::Open(rest));
            return parts;
        };
        let (whole, after) = rest.split_at(end + 1);
        let inside = whole.strip_prefix("${").and_then(|inside| inside.strip_suffix('}')).unwrap_or_default();
        parts.push(Part::Reference { inside, whole });
        text = after;
    }
    parts.push(Part::Text(text));
    parts
}

/// The value, or what is wrong and what would be right.
fn follow(inside: &str, at: &Surroundings<'_>) -> Result<String, (String, String)> {
    match inside.split_once(':') {
        Some(("env", name)) => variable(name, at),
        Some(("file", path)) => file(path, at),
        _ => Err((
            "only `env:` and `file:` can stand here".into(),
            "write `${env:NAME}` or `${file:PATH}`, or `$${` for the characters themselves".into(),
        )),
    }
}

fn variable(name: &str, at: &Surroundings<'_>) -> Result<String, (String, String)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err((
            "this cannot be the name of an environment variable".into(),
            "a name has letters, digits and `_`, as in `${env:INFLUX_TOKEN}`".into(),
        ));
    }
    let set = || format!("set {name} in the environment of barograph");
    match (at.env)(name).map(OsString::into_string) {
        None => Err((format!("the environment variable {name} is not set"), set())),
        Some(Err(_)) => Err((format!("the environment variable {name} is not UTF-8"), set())),
        Some(Ok(value)) if value.is_empty() => {
            Err((format!("the environment variable {name} is empty"), set()))
        }
        Some(Ok(value)) => Ok(value),
    }
}

fn file(path: &str, at: &Surroundings<'_>) -> Result<String, (String, String)> {
    if path.is_empty() || path.contains('\0') {
        return Err(("a path is missing".into(), "write for example `${file:/run/secrets/token}`".into()));
    }
    let path = at.folder.join(path);
    let shown = path.display();
    let help =
        format!("put the secret into {shown}, readable for barograph; one line end after it is left out");
    let text = match read(&path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| (format!("{shown} is not UTF-8"), help.clone()))?,
        Err(reason) => return Err((format!("{shown} cannot be read: {reason}"), help)),
    };
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() { Err((format!("{shown} is empty"), help)) } else { Ok(line.to_owned()) }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let reason = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    // A pipe would make the check wait for its writer.
    if !std::fs::metadata(path).map_err(reason)?.is_file() {
        return Err("it is not a file".into());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(reason)?;
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(reason)?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("it has more than {LONGEST} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str, folder: &Path) -> Result<(String, bool), Vec<Unresolved>> {
        let env = |name: &str| match name {
            "TOKEN" => Some("hunter2".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        };
        expand(text, &Surroundings { env: &env, folder: folder.to_owned() })
    }

    #[test]
    fn references_are_replaced_and_escapes_undone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "open sesame\r\n").unwrap();
        for (text, expected) in [
            ("plain $ } text", ("plain $ } text", false)),
            ("${env:TOKEN}", ("hunter2", true)),
            ("a${env:TOKEN}b${env:TOKEN}", ("ahunter2bhunter2", true)),
            ("${file:password}!", ("open sesame!", true)),
            ("$${env:TOKEN}", ("${env:TOKEN}", false)),
            ("$$${env:TOKEN}", ("$${env:TOKEN}", false)),
            ("$${", ("${", false)),
        ] {
            let (value, secret) = with(text, folder.path()).unwrap();
            assert_eq!((value.as_str(), secret), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_followed_says_why() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        std::fs::write(folder.path().join("latin"), [0xe4]).unwrap();
        std::fs::write(folder.path().join("big"), vec![b'x'; 100_000]).unwrap();
        for (text, word) in [
            ("${env:NOPE}", "NOPE is not set"),
            ("${env:EMPTY}", "is empty"),
            ("${env:}", "cannot be the name"),
            ("${env:A B}", "cannot be the name"),
            ("${file:}", "path is missing"),
            ("${file:nope}", "no such file"),
            ("${file:.}", "not a file"),
            ("${file:empty}", "is empty"),
            ("${file:latin}", "not UTF-8"),
            ("${file:big}", "more than"),
            ("${TOKEN}", "only `env:` and `file:`"),
            ("${env:TOKEN", "without `}`"),
        ] {
            let faults = with(text, folder.path()).unwrap_err();
            assert!(faults[0].message.contains(word), "{text}: {faults:?}");
        }
        let two = with("${env:A1}${env:TOKEN}${env:B1}", folder.path()).unwrap_err();
        assert_eq!(
            two.iter().map(|fault| fault.written.as_str()).collect::<Vec<_>>(),
            ["${env:A1}", "${env:B1}"]
        );
    }
}
