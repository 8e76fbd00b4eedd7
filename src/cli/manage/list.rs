//! `list` and `show`, alike for all kinds.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::arguments::{Selection, Shown};
use super::{exit, tell};
use crate::analytics::resources::{self, Row};
use crate::cli::output::Format;
use crate::cli::screen::Screen;
use crate::manage::{Managed, Places, Subject, gather, select};
use crate::provider::Listing;
use crate::provider::client::Listed;
use crate::{Error, Result};

/// How long a list may take before its progress is shown.
const PATIENCE: Duration = Duration::from_millis(500);
/// Pause between two drawings.
const REDRAW: Duration = Duration::from_millis(100);

/// Lists a kind from all places, with progress on a terminal.
pub(super) async fn gathered<T: Listed>(managed: &[Managed], places: &Places, screen: &Screen) -> Listing<T> {
    let began = Instant::now();
    let drawn = Mutex::new(began);
    let progress = |found: usize| {
        let mut drawn = drawn.lock();
        if Screen::is_terminal() && began.elapsed() > PATIENCE && drawn.elapsed() > REDRAW {
            *drawn = Instant::now();
            screen.draw(vec![format!("{found} {}s so far, {:.0} s", T::KIND, began.elapsed().as_secs_f64())]);
        }
    };
    let listing = gather::list(managed, places, &progress).await;
    screen.draw(Vec::new());
    listing
}

/// Prints a listing, names what failed, and ends accordingly.
pub(super) async fn print<T: Row>(
    mut listing: Listing<T>,
    selection: &Selection,
    shown: &Shown,
) -> Result<ExitCode> {
    // Before the expression: what it leaves out was found all the same.
    let nothing = listing.items.is_empty() && listing.answered == 0;
    if let Some(expression) = &selection.expression {
        let chosen = resources::matching(&listing.items, expression).await?;
        let mut number = 0;
        listing.items.retain(|_| {
            number += 1;
            chosen.binary_search(&(number - 1)).is_ok()
        });
    }
    table(&listing.items, shown)?;
    Ok(failures(&listing.errors, nothing))
}

/// Prints one resource with all that is known.
pub(super) async fn show<T: Row + Subject>(
    listing: Listing<T>,
    name: &str,
    shown: &Shown,
) -> Result<ExitCode> {
    let found = select::one(&listing, T::KIND.as_str(), name)?.clone();
    table(&[found], shown)?;
    Ok(ExitCode::SUCCESS)
}

fn table<T: Row>(items: &[T], shown: &Shown) -> Result<()> {
    let target = shown.target()?;
    let mut batch = resources::batch(items)?;
    let schema = batch.schema();
    let names: Vec<&str> = match &shown.columns[..] {
        [] if target.format() == Format::Table => {
            let says = |name: &&str| {
                batch.column_by_name(name).is_none_or(|column| column.null_count() < items.len())
            };
            T::SHORT.iter().copied().filter(|name| items.is_empty() || says(name)).collect()
        }
        [] => schema.fields().iter().map(|field| field.name().as_str()).collect(),
        columns => columns.iter().map(String::as_str).collect(),
    };
    let places = names.iter().map(|name| {
        schema.index_of(name).map_err(|_| {
            let known: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            let reason = format!("there is no such column; there are {}", known.join(", "));
            Error::invalid("show column", reason).with_resource(*name)
        })
    });
    let places = places.collect::<Result<Vec<_>>>()?;
    batch = batch
        .project(&places)
        .map_err(|error| Error::invalid("show columns", "the listing lacks them").with_source(error))?;
    if matches!(target.format(), Format::Csv | Format::Table) {
        batch = resources::flat(&batch)?;
    }
    let mut output = target.open(Arc::clone(batch.schema_ref()))?;
    if output.write(&batch)?.is_continue() {
        output.finish()?;
    }
    Ok(())
}

/// Names what failed beside what was found.
fn failures(errors: &[Error], nothing: bool) -> ExitCode {
    for error in errors {
        tell(&format!("failed: {}", error.chain()));
    }
    match errors {
        [] => ExitCode::SUCCESS,
        // Nothing at all came, so it is not a part that failed.
        [first, rest @ ..] if nothing && rest.iter().all(|error| error.kind() == first.kind()) => {
            ExitCode::from(exit::code(first))
        }
        _ => ExitCode::from(exit::PARTIAL),
    }
}
