//! Log lines on standard error: text for people, JSON for machines.

use std::str::FromStr;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::screen::Screen;
use crate::{Error, Result};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// One line of text
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// What of the log is shown, and how; both may stand before or behind the command.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// How log lines look
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        env = "BAROGRAPH_LOG_FORMAT"
    )]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or by part as in `info,barograph::store=debug`
    #[arg(long, global = true, value_name = "FILTER", env = "RUST_LOG")]
    pub log_level: Option<String>,
}

/// Sends log lines to the screen from now on; `usual` is the filter if none is asked for.
///
/// # Errors
/// The filter is not understood. A second call changes nothing.
pub fn start(args: &LogArgs, usual: &str, screen: &Screen) -> Result<()> {
    let wanted = args.log_level.as_deref().filter(|filter| !filter.is_empty()).unwrap_or(usual);
    let filter = EnvFilter::from_str(wanted).map_err(|error| {
        let reason = "it is not understood; write for example info, or info,barograph::store=debug";
        Error::invalid("use the log filter", reason).with_resource(wanted).with_source(error)
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(screen.clone());
    // Whoever installed a subscriber first has it.
    let _ = match args.log_format {
        LogFormat::Text => builder.with_ansi(Screen::is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}
