//! `barograph regions`, `zones`, `sizes` and `prices`: what there is only to look at.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::arguments::{Connection, Selection, Shown, Where};
use super::list;
use crate::Result;
use crate::cli::screen::Screen;
use crate::manage::gather;
use crate::model::resource::{Price, Size, Zone};

macro_rules! place {
    ($args:ident, $verb:ident, $noun:literal) => {
        #[doc = concat!("Arguments of `barograph ", $noun, "`.")]
        #[derive(Debug, Args)]
        pub struct $args {
            #[command(flatten)]
            connection: Connection,
            #[command(subcommand)]
            verb: $verb,
        }

        #[derive(Debug, Subcommand)]
        enum $verb {
            /// List them
            List {
                #[command(flatten)]
                at: Where,
                #[command(flatten)]
                selection: Selection,
                #[command(flatten)]
                shown: Shown,
            },
        }
    };
}

place!(RegionsArgs, RegionsVerb, "regions");
place!(ZonesArgs, ZonesVerb, "zones");
place!(SizesArgs, SizesVerb, "sizes");
place!(PricesArgs, PricesVerb, "prices");

/// Runs `barograph regions`.
///
/// # Errors
/// The runtime cannot be started.
pub fn regions(args: RegionsArgs, screen: Screen) -> Result<ExitCode> {
    super::run(&screen, async {
        let RegionsVerb::List { at, selection, shown } = args.verb;
        let all = gather::regions(&args.connection.open().await?, &at.places()).await;
        list::print(all, &selection, &shown).await
    })
}

/// Runs `barograph zones`.
///
/// # Errors
/// The runtime cannot be started.
pub fn zones(args: ZonesArgs, screen: Screen) -> Result<ExitCode> {
    super::run(&screen, async {
        let ZonesVerb::List { at, selection, shown } = args.verb;
        let all = list::gathered::<Zone>(&args.connection.open().await?, &at.places(), &screen).await;
        list::print(all, &selection, &shown).await
    })
}

/// Runs `barograph sizes`.
///
/// # Errors
/// The runtime cannot be started.
pub fn sizes(args: SizesArgs, screen: Screen) -> Result<ExitCode> {
    super::run(&screen, async {
        let SizesVerb::List { at, selection, shown } = args.verb;
        let all = list::gathered::<Size>(&args.connection.open().await?, &at.places(), &screen).await;
        list::print(all, &selection, &shown).await
    })
}

/// Runs `barograph prices`.
///
/// # Errors
/// The runtime cannot be started.
pub fn prices(args: PricesArgs, screen: Screen) -> Result<ExitCode> {
    super::run(&screen, async {
        let PricesVerb::List { at, selection, shown } = args.verb;
        let all = list::gathered::<Price>(&args.connection.open().await?, &at.places(), &screen).await;
        list::print(all, &selection, &shown).await
    })
}
