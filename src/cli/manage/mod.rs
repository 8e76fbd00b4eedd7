//! The commands that list and change resources: one noun each, with the same verbs.
//!
//! Data goes to standard output, everything else to standard error. Exit codes: see [`exit`].

mod arguments;
mod change;
mod chosen;
pub mod completions;
pub mod exit;
pub mod images;
pub mod instances;
mod list;
pub mod networks;
pub mod operations;
mod places;
pub mod snapshots;
pub mod subnets;
pub mod volumes;

use std::process::ExitCode;

use crate::Result;
use crate::cli::screen::Screen;

pub use places::{PricesArgs, RegionsArgs, SizesArgs, ZonesArgs, prices, regions, sizes, zones};

/// Runs a command until it ends or is interrupted; its errors become exit codes.
fn run(screen: &Screen, command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = super::runtime()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = command => ended,
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(exit::INTERRUPTED)),
        }
    });
    // The block belongs to work that is over.
    screen.draw(Vec::new());
    change::tell_in_flight();
    // A call that hangs inside a provider is not waited for.
    runtime.shutdown_background();
    Ok(ended.unwrap_or_else(|error| {
        tell(&format!("error: {}", error.chain()));
        ExitCode::from(exit::code(&error))
    }))
}

/// One line for people on standard error; where that is closed nobody misses it.
fn tell(line: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "{line}").ok();
}
