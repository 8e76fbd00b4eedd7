//! A pipeline file becomes a checked, typed configuration, or all of its faults at once.
//!
//! The way: YAML with places ([`crate::yaml`]); references to secrets ([`expand`]); the form, by the JSON Schema of the
//! types ([`walk`]); the meaning ([`meaning`]); serde. A fault does not stop the way, so that one check tells all.
//!
//! Every text may come from `${env:NAME}` or `${file:PATH}` (relative to the pipeline file; `$${` stands for `${`). Such
//! values are not in any message, and nothing here prints configured values.

mod diagnostic;
mod expand;
mod meaning;
mod named;
mod names;
mod pipeline;
mod queries;
mod reference;
mod report;
mod rows;
mod schema;
mod settings;
mod sinks;
#[cfg(test)]
mod tests;
mod transforms;
mod walk;

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

pub use diagnostic::{Diagnostic, Diagnostics, Place};
pub use named::{Iter, Named};
pub use pipeline::{Pipeline, SinkConfig, SourceConfig, SourceKind, TransformConfig};
pub use schema::json_schema;
pub use settings::{Listen, Settings};

use crate::yaml;
use reference::Surroundings;
use report::{Report, key_place, tick};

/// A pipeline file is not longer than this; a thousand sources are a tenth of it.
const LONGEST: u64 = 4 << 20;

/// Reads and checks a pipeline file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: impl AsRef<Path>) -> Result<Pipeline, Diagnostics> {
    let path = path.as_ref();
    let file = path.display().to_string();
    let unreadable =
        |reason: &str| Diagnostics::unreadable(&file, format!("the file cannot be read: {reason}"));
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => unreadable("there is no such file"),
        std::io::ErrorKind::PermissionDenied => unreadable("permission denied"),
        std::io::ErrorKind::InvalidData => unreadable("it is not UTF-8"),
        _ => unreadable(&error.to_string()),
    };
    let mut text = String::new();
    let opened = std::fs::File::open(path).map_err(failed)?;
    opened.take(LONGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LONGEST {
        return Err(unreadable("it has more than 4MiB"));
    }
    check(&text, &file)
}

/// Checks the text of a pipeline file; `file` names it in messages, and relative `${file:}` paths start from its folder.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(text: &str, file: &str) -> Result<Pipeline, Diagnostics> {
    check_with(text, file, &|name| std::env::var_os(name))
}

fn check_with(
    text: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Pipeline, Diagnostics> {
    // Editors of another system may put a mark at the beginning, which is not part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = Report::default();
    let (mut root, duplicates) = match yaml::parse_with_duplicates(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            let place = Place { start: error.position, end: error.position };
            let fault = Diagnostic::new(place, format!("this is not YAML: {}", error.message));
            return Err(Diagnostics::new(file, text, vec![fault], &[]));
        }
    };
    let whole = report::Path::default();
    for duplicate in duplicates {
        let name = &duplicate.again.name;
        let end = yaml::Position { column: duplicate.first.column + name.chars().count(), ..duplicate.first };
        let mut fault =
            Diagnostic::new(key_place(&duplicate.again), format!("the key {} stands twice", tick(name)));
        fault.related.push((Place { start: duplicate.first, end }, "first here".into()));
        report.add(&whole, fault.help("take one away, or give it another name"));
    }
    let folder = Path::new(file).parent().map(Path::to_owned).unwrap_or_default();
    expand::expand(&mut root, text, &Surroundings { env, folder: folder.clone() }, &mut report);
    walk::walk(&json_schema(), &root, &mut report);
    meaning::check(&root, &mut report);
    if report.is_clean(&whole) {
        match Pipeline::deserialize(root.to_json()) {
            Ok(mut pipeline) => {
                pipeline.rebase(&folder);
                return Ok(pipeline);
            }
            Err(error) => {
                let message = match report.is_secret(&whole) {
                    true => "the file cannot be understood".to_owned(),
                    false => format!("the file cannot be understood: {error}"),
                };
                let place = Place { start: root.position, end: root.position };
                report.add(&whole, Diagnostic::new(place, message));
            }
        }
    }
    let (faults, hidden) = report.finish();
    Err(Diagnostics::new(file, text, faults, &hidden))
}
