//! `barograph check`: is this a pipeline?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args as ClapArgs, ValueEnum};

use super::{BAD_INPUT, output};
use crate::config;
use crate::{Error, Result};

/// Arguments of `barograph check`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Pipeline files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people: each fault with its line
    Text,
    /// For editors: one JSON object per file
    Json,
}

/// Runs the command; exit code 2 if any file has a fault.
///
/// # Errors
/// Only when the answer cannot be written: faults of the files are the answer.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut answer = String::new();
    let mut sound = true;
    for path in &args.files {
        let file = path.display();
        match (config::load(path), args.format) {
            (Ok(pipeline), Format::Text) => {
                let (sources, transforms, sinks) = (
                    pipeline.sources.iter().count(),
                    pipeline.transforms.len(),
                    pipeline.sinks.iter().count(),
                );
                let counted =
                    [count(sources, "source"), count(transforms, "transform"), count(sinks, "sink")];
                answer.push_str(&format!("{file}: ok, {}\n", counted.join(", ")));
            }
            (Ok(_), Format::Json) => {
                let line = serde_json::json!({ "file": file.to_string(), "faults": [] });
                answer.push_str(&format!("{line}\n"));
            }
            (Err(faults), Format::Text) => {
                sound = false;
                answer.push_str(&format!("{faults}\n"));
            }
            (Err(faults), Format::Json) => {
                sound = false;
                let line = serde_json::json!({ "file": file.to_string(), "faults": faults.to_json() });
                answer.push_str(&format!("{line}\n"));
            }
        }
    }
    output::print(&answer).map_err(|e| Error::io("write the answer", "standard output", e))?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
