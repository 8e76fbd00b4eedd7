//! `barograph check`: all that is wrong with pipeline files, before anything starts.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

use super::BAD_INPUT;
use crate::config::{self, Diagnostics, Pipeline};
use crate::{Error, Result};

/// Check pipeline files: everything that is wrong, with its place and what would be right.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Faults with the lines that they are in
    Text,
    /// One JSON object per file, for editors
    Json,
}

/// Runs the command: 0 if all files are good, 2 if one is not.
///
/// # Errors
/// If standard output cannot be written to.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut faults = 0;
    for path in &args.files {
        let result = config::load(path);
        faults += result.as_ref().err().map_or(0, Diagnostics::count);
        let name = path.display().to_string();
        super::print(&match args.format {
            Format::Text => text(&name, &result),
            Format::Json => json(&name, &result)?,
        })?;
    }
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

fn text(name: &str, result: &Result<Pipeline, Diagnostics>) -> String {
    match result {
        Ok(pipeline) => {
            let counts = [
                count(pipeline.sources.len(), "source"),
                count(pipeline.transforms.len(), "transform"),
                count(pipeline.sinks.len(), "sink"),
            ];
            format!("{name}: ok ({})\n", counts.join(", "))
        }
        Err(faults) => {
            let mut text = faults.to_string();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "\n{name}: {}\n", count(faults.count(), "error"));
            text
        }
    }
}

fn json(name: &str, result: &Result<Pipeline, Diagnostics>) -> Result<String> {
    let object = match result {
        Ok(pipeline) => json!({
            "file": name,
            "ok": true,
            "sources": pipeline.sources.len(),
            "transforms": pipeline.transforms.len(),
            "sinks": pipeline.sinks.len(),
            "diagnostics": [],
        }),
        Err(faults) => json!({
            "file": name, "ok": false, "errors": faults.count(), "diagnostics": faults.to_json(),
        }),
    };
    let text = serde_json::to_string(&object);
    text.map(|text| text + "\n").map_err(|error| {
        Error::invalid("print the answer", "it cannot be written as JSON").with_source(error)
    })
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "name: a\nsources: { host: { type: host, every: 5s } }\nsinks: { out: { type: stdout } }\n";

    #[test]
    fn a_good_file_is_told_in_one_line() {
        let result = config::check(GOOD, "p.yaml");
        assert_eq!(text("p.yaml", &result), "p.yaml: ok (1 source, 0 transforms, 1 sink)\n");
        let object: serde_json::Value = serde_json::from_str(&json("p.yaml", &result).unwrap()).unwrap();
        assert_eq!((&object["ok"], &object["sources"]), (&json!(true), &json!(1)));
    }

    #[test]
    fn a_bad_file_is_told_with_the_number_of_errors() {
        let result = config::check(&GOOD.replace("every: 5s", "evry: 5s"), "p.yaml");
        assert!(text("p.yaml", &result).ends_with("\np.yaml: 2 errors\n\n"));
        let object: serde_json::Value = serde_json::from_str(&json("p.yaml", &result).unwrap()).unwrap();
        assert_eq!((&object["ok"], &object["diagnostics"][0]["line"]), (&json!(false), &json!(2)));
    }

    #[test]
    fn the_exit_code_tells_of_any_bad_file() {
        let folder = tempfile::tempdir().unwrap();
        let (good, missing) = (folder.path().join("good.yaml"), folder.path().join("missing.yaml"));
        std::fs::write(&good, GOOD).unwrap();
        let code = |files: &[&PathBuf]| {
            let args =
                Args { files: files.iter().map(|file| (*file).clone()).collect(), format: Format::Text };
            format!("{:?}", run(args).unwrap())
        };
        assert_eq!(code(&[&good]), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(&[&good, &missing]), format!("{:?}", ExitCode::from(BAD_INPUT)));
    }
}
