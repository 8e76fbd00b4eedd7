//! `barograph estimate`: what the AWS sources of a pipeline file cost in a month, before anything runs.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;

use super::BAD_INPUT;
use super::manage::exit;
use crate::config::{self, SourceKind};
use crate::model::Span;
use crate::provider::aws::{Assumed, Estimate, estimate};
use crate::{Error, Result};

/// Say what the AWS sources of a pipeline file cost in 30 days: calls and dollars, by region
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pipeline file
    file: PathBuf,
    /// Ask nobody, and assume this: instances=1000,detailed=200,volumes=2000
    #[arg(long, value_name = "COUNTS")]
    assume: Option<Assumed>,
    /// Form of the answer
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table
    Text,
    /// One JSON object
    Json,
}

/// Runs the command: 0 if all of it could be found out, 3 if a part could not, the error's own code if nothing could, 2 for a
/// bad file. What `--assume` cannot know is no failure.
///
/// # Errors
/// The file has no source of AWS.
pub fn run(args: Args) -> Result<ExitCode> {
    let config = match config::load(&args.file) {
        Ok(config) => config,
        Err(faults) => {
            // Where standard error is closed nobody is told.
            write!(io::stderr(), "{faults}").ok();
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    let (mut sources, mut failed) = (Vec::new(), Vec::new());
    for (name, source) in &config.sources {
        if let SourceKind::Aws(aws) = &source.kind {
            match super::runtime()?.block_on(Box::pin(estimate(aws, source.every.0, args.assume))) {
                Ok(answer) => sources.push((name.clone(), answer)),
                Err(error) => failed.push((name.clone(), error)),
            }
        }
    }
    if sources.is_empty() && failed.is_empty() {
        let reason = "it has no source of type aws; the others cost nothing";
        return Err(Error::invalid("estimate", reason).with_resource(args.file.display().to_string()));
    }
    // One that fails does not hide the others.
    sources.extend(
        failed.into_iter().map(|(name, error)| {
            (name, Estimate { stretch: 1.0, faults: vec![error], ..Estimate::default() })
        }),
    );
    super::print(&match args.format {
        Format::Text => text(&sources),
        Format::Json => json(&sources)?,
    })?;
    let first = sources.iter().flat_map(|(_, estimate)| &estimate.faults).next();
    Ok(match first.filter(|_| args.assume.is_none()) {
        None => ExitCode::SUCCESS,
        Some(_) if sources.iter().any(|(_, estimate)| !estimate.lines.is_empty()) => {
            ExitCode::from(exit::PARTIAL)
        }
        Some(error) => ExitCode::from(exit::code(error)),
    })
}

fn text(sources: &[(String, Estimate)]) -> String {
    let head = [
        "source",
        "account",
        "region",
        "namespace",
        "period",
        "every",
        "resources",
        "metrics",
        "calls",
        "USD",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for (name, estimate) in sources {
        for line in &estimate.lines {
            let span = |seconds: i64| Span::seconds(u64::try_from(seconds).unwrap_or(0)).to_string();
            rows.push([
                name.clone(),
                line.account.clone(),
                line.region.clone(),
                line.namespace.clone(),
                span(line.period),
                span(line.every),
                line.targets.to_string(),
                line.metrics.to_string(),
                format!("{:.0}", line.calls),
                format!("{:.2}", line.usd),
            ]);
        }
    }
    let widths: Vec<usize> =
        (0..head.len()).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let end = if column + 1 == head.len() { "\n" } else { "  " };
            // Writing to a String cannot fail.
            let _ = if column < 6 {
                write!(text, "{cell:width$}{end}")
            } else {
                write!(text, "{cell:>width$}{end}")
            };
        }
    }
    for (name, estimate) in sources {
        let _ = match estimate.lines.is_empty() && !estimate.faults.is_empty() {
            true => write!(text, "\n{name}: what it costs is not known"),
            false => write!(text, "\n{name}: {:.2} USD in 30 days", estimate.usd()),
        };
        if estimate.stretch > 1.0 {
            let _ = write!(
                text,
                ", as the budget wants; it is asked {:.2} times as rarely for it",
                estimate.stretch
            );
        }
        if estimate.listings > 0.0 {
            let _ =
                write!(text, "; {:.0} calls of ListMetrics, of which a million is free", estimate.listings);
        }
        text.push('\n');
        for fault in &estimate.faults {
            let _ = writeln!(text, "  not complete: {}", fault.chain());
        }
        for hint in &estimate.hints {
            let _ = writeln!(text, "  note: {hint}");
        }
    }
    text
}

fn json(sources: &[(String, Estimate)]) -> Result<String> {
    let sources: Vec<_> = sources
        .iter()
        .map(|(name, estimate)| {
            let lines: Vec<_> = estimate
                .lines
                .iter()
                .map(|line| {
                    json!({
                        "account": line.account, "region": line.region, "namespace": line.namespace,
                        "period_seconds": line.period, "every_seconds": line.every, "resources": line.targets,
                        "metrics": line.metrics, "calls_per_month": line.calls, "usd_per_month": line.usd,
                    })
                })
                .collect();
            let faults: Vec<_> = estimate.faults.iter().map(Error::chain).collect();
            json!({
                "source": name, "usd_per_month": estimate.usd(), "stretch": estimate.stretch,
                "list_metrics_calls_per_month": estimate.listings, "parts": lines, "faults": faults,
                "hints": estimate.hints,
            })
        })
        .collect();
    let text = serde_json::to_string(&json!({ "sources": sources }));
    text.map(|text| text + "\n").map_err(|error| {
        Error::invalid("print the answer", "it cannot be written as JSON").with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::aws::Line;

    #[test]
    fn the_table_has_a_line_for_each_part_and_a_sum() {
        let line = Line {
            account: "123456789012".into(),
            region: "eu-west-1".into(),
            namespace: "AWS/EC2".into(),
            period: 60,
            every: 300,
            targets: 10,
            metrics: 70,
            calls: 8_640.0,
            usd: 6.048,
        };
        let hints = vec!["no series is of app.hits".into()];
        let estimate = Estimate { lines: vec![line], stretch: 2.0, hints, ..Estimate::default() };
        let sources = [("cloud".to_owned(), estimate)];
        let told = text(&sources);
        assert!(told.contains("cloud   123456789012  eu-west-1  AWS/EC2    1m      5m"), "{told}");
        assert!(told.ends_with("\n  note: no series is of app.hits\n"), "{told}");
        assert!(told.contains("cloud: 6.05 USD in 30 days, as the budget wants"), "{told}");
        let object: serde_json::Value = serde_json::from_str(&json(&sources).unwrap()).unwrap();
        assert_eq!(object["sources"][0]["parts"][0]["metrics"], 70);
    }
}
