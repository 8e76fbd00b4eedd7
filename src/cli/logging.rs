//! Log lines on standard error: text for people, JSON for machines.

use std::str::FromStr;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::screen::Screen;
use crate::{Error, Result};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// One line of text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// What of the log is shown, and how.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArgs {
    /// How log lines look.
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text", env = "BAROGRAPH_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or by part as in `info,barograph::store=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "BAROGRAPH_LOG")]
    pub log: String,
}

/// Sends log lines to the screen from now on.
///
/// # Errors
/// The filter is not understood. A second call changes nothing.
pub fn start(args: &LogArgs, screen: &Screen) -> Result<()> {
    let filter = EnvFilter::from_str(&args.log).map_err(|error| {
        let reason = "it is not understood; write for example info, or info,barograph::store=debug";
        Error::invalid("use the log filter", reason).with_resource(&args.log).with_source(error)
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(screen.clone());
    // Whoever installed a subscriber first has it.
    let _ = match args.log_format {
        LogFormat::Text => builder.with_ansi(Screen::is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}
