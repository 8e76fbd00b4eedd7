//! `barograph check`: all that is wrong with pipeline files, before anything starts.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

use super::BAD_INPUT;
use crate::config::{self, Diagnostics, Pipeline};
use crate::{Error, Result};

/// A pipeline that comes from standard input is not longer than a file may be.
const LONGEST: u64 = 4 << 20;

/// Check pipeline files: everything that is wrong, with its place and what would be right.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline files; `-` is standard input
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

/// What keeps a pipeline file from being good.
enum Bad {
    /// What is in it.
    Faults(Diagnostics),
    /// It is not a text that could have faults.
    Unread(Error),
}

impl Bad {
    fn count(&self) -> usize {
        match self {
            Self::Faults(faults) => faults.count(),
            Self::Unread(_) => 1,
        }
    }
}

/// Runs the command: 0 if all files are good, 2 if one is not.
///
/// # Errors
/// If standard output cannot be written to.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut faults = 0;
    for path in &args.files {
        let result = load(path, io::stdin().lock());
        faults += result.as_ref().err().map_or(0, Bad::count);
        let name = path.display().to_string();
        super::print(&match args.format {
            Format::Text => text(&name, &result),
            Format::Json => json(&name, &result)?,
        })?;
    }
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

fn load(path: &Path, input: impl Read) -> Result<Pipeline, Bad> {
    if path == Path::new("-") {
        let mut text = String::new();
        let read = input.take(LONGEST + 1).read_to_string(&mut text);
        read.map_err(|error| Bad::Unread(Error::io("read the pipeline from", "standard input", error)))?;
        if text.len() as u64 > LONGEST {
            return Err(Bad::Unread(
                Error::invalid("check", "it has more than 4MiB").with_resource("standard input"),
            ));
        }
        return config::check(&text, "-").map_err(Bad::Faults);
    }
    if path.is_dir() {
        let reason = "it is a folder; name a pipeline file, as in FOLDER/*.yaml";
        return Err(Bad::Unread(Error::invalid("check", reason).with_resource(path.display().to_string())));
    }
    config::load(path).map_err(Bad::Faults)
}

fn text(name: &str, result: &Result<Pipeline, Bad>) -> String {
    match result {
        Ok(pipeline) => {
            let counts = [
                count(pipeline.sources.len(), "source"),
                count(pipeline.transforms.len(), "transform"),
                count(pipeline.sinks.len(), "sink"),
            ];
            format!("{name}: ok ({})\n", counts.join(", "))
        }
        Err(bad) => {
            let told = match bad {
                Bad::Faults(faults) => faults.to_string(),
                Bad::Unread(error) => format!("error: {}\n", error.chain()),
            };
            format!("{told}\n{name}: {}\n\n", count(bad.count(), "error"))
        }
    }
}

fn json(name: &str, result: &Result<Pipeline, Bad>) -> Result<String> {
    let object = match result {
        Ok(pipeline) => json!({
            "file": name,
            "ok": true,
            "sources": pipeline.sources.len(),
            "transforms": pipeline.transforms.len(),
            "sinks": pipeline.sinks.len(),
            "diagnostics": [],
        }),
        Err(bad) => {
            let diagnostics = match bad {
                Bad::Faults(faults) => faults.to_json(),
                // As of any other fault of a file as a whole.
                Bad::Unread(error) => json!([{
                    "file": name, "line": null, "column": null, "end_line": null, "end_column": null,
                    "severity": "error", "message": error.chain(), "help": [], "related": [],
                }]),
            };
            json!({ "file": name, "ok": false, "errors": bad.count(), "diagnostics": diagnostics })
        }
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
        let result = config::check(GOOD, "p.yaml").map_err(Bad::Faults);
        assert_eq!(text("p.yaml", &result), "p.yaml: ok (1 source, 0 transforms, 1 sink)\n");
        let object: serde_json::Value = serde_json::from_str(&json("p.yaml", &result).unwrap()).unwrap();
        assert_eq!((&object["ok"], &object["sources"]), (&json!(true), &json!(1)));
    }

    #[test]
    fn a_bad_file_is_told_with_the_number_of_errors() {
        let result = config::check(&GOOD.replace("every: 5s", "evry: 5s"), "p.yaml").map_err(Bad::Faults);
        assert!(text("p.yaml", &result).ends_with("\np.yaml: 2 errors\n\n"));
        let object: serde_json::Value = serde_json::from_str(&json("p.yaml", &result).unwrap()).unwrap();
        assert_eq!((&object["ok"], &object["diagnostics"][0]["line"]), (&json!(false), &json!(2)));
    }

    #[test]
    fn a_pipeline_may_come_from_standard_input() {
        let load = |bytes: &[u8]| load(Path::new("-"), bytes);
        assert_eq!(text("-", &load(GOOD.as_bytes())), "-: ok (1 source, 0 transforms, 1 sink)\n");
        assert!(
            text("-", &load(b"name: a")).ends_with("\n-: 2 errors\n\n"),
            "{}",
            text("-", &load(b"name: a"))
        );
        let long = "#".repeat(usize::try_from(LONGEST).unwrap() + 1);
        for (bytes, words) in [(&[0xff_u8][..], "standard input"), (long.as_bytes(), "more than 4MiB")] {
            let told = text("-", &load(bytes));
            assert!(told.contains(words) && told.ends_with("\n-: 1 error\n\n"), "{told}");
        }
    }

    #[test]
    fn a_folder_is_told_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().display().to_string();
        let result = load(folder.path(), io::empty());
        let told = text(&name, &result);
        assert!(told.starts_with(&format!("error: cannot check {name}: it is a folder; name a")), "{told}");
        let object: serde_json::Value = serde_json::from_str(&json(&name, &result).unwrap()).unwrap();
        assert_eq!((&object["errors"], &object["diagnostics"][0]["line"]), (&json!(1), &json!(null)));
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
