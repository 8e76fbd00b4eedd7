//! `barograph images`: what instances are made from.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};

use super::arguments::{Changing, Connection, Selection, Shown, Where};
use super::chosen::{self, Chosen};
use super::list;
use crate::Result;
use crate::cli::screen::Screen;
use crate::manage::Managed;
use crate::model::resource::Image;
use crate::provider::Action;

/// Arguments of `barograph images`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List images
    List {
        #[command(flatten)]
        at: Where,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        shown: Shown,
    },
    /// Show one image
    Show {
        /// Name or whole id
        name: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Read images from an archive (OCI layout or docker save, as a tar file) on this machine
    Import {
        /// The archive
        #[arg(value_name = "FILE")]
        archive: String,
        /// Name for the image; the archive's own if left out
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Namespace to read it into
        #[arg(long, value_name = "NAME")]
        region: Option<String>,
        #[command(flatten)]
        changing: Changing,
    },
    /// Delete images
    Delete {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        changing: Changing,
    },
}

/// Runs the command.
///
/// # Errors
/// The runtime cannot be started.
pub fn run(args: Args, screen: Screen) -> Result<ExitCode> {
    super::run(&screen, verb(args, &screen))
}

async fn verb(args: Args, screen: &Screen) -> Result<ExitCode> {
    let connection = &args.connection;
    match args.verb {
        Verb::List { at, selection, shown } => {
            let all = list::gathered(&connection.open().await?, &at.places(), screen).await;
            list::print::<Image>(all, &selection, &shown).await
        }
        Verb::Show { name, shown } => {
            let all = chosen::around(&connection.open().await?, &name, screen).await;
            list::show::<Image>(all, &name, &shown).await
        }
        Verb::Import { archive, name, region, changing } => {
            let wanted = async |_: &Managed| Ok(Action::ImportImage { archive, location: region, name });
            chosen::make(connection, &changing, screen, wanted).await
        }
        Verb::Delete { chosen, changing } => {
            let wanted = |found: &Image| Action::DeleteImage { image: found.id.clone().into() };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
    }
}
