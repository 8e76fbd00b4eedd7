//! `barograph snapshots`: contents kept from one time.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};

use super::arguments::{Changing, Connection, Selection, Shown, Where, pair, pairs};
use super::chosen::{self, Chosen};
use super::list;
use crate::cli::screen::Screen;
use crate::manage::Managed;
use crate::model::resource::{Instance, Snapshot, Volume};
use crate::provider::{Action, SnapshotSpec};
use crate::{Error, Result};

/// Arguments of `barograph snapshots`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List snapshots
    List {
        #[command(flatten)]
        at: Where,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        shown: Shown,
    },
    /// Show one snapshot
    Show {
        /// Name, provider's id or whole id
        name: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Make a snapshot of an instance or a volume
    Create {
        /// Name
        name: String,
        /// The instance
        #[arg(long, value_name = "NAME", required_unless_present = "volume", conflicts_with = "volume")]
        instance: Option<String>,
        /// The volume
        #[arg(long, value_name = "NAME")]
        volume: Option<String>,
        /// Text for people
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// The disks alone, not the memory of an instance that runs
        #[arg(long)]
        disks_only: bool,
        /// Tag or label; may be given more than once
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        tag: Vec<(String, String)>,
        #[command(flatten)]
        changing: Changing,
    },
    /// Copy snapshots to another region
    Copy {
        #[command(flatten)]
        chosen: Chosen,
        /// The region that gets the copies
        #[arg(long, value_name = "NAME")]
        to: String,
        #[command(flatten)]
        changing: Changing,
    },
    /// Go back to a snapshot; what was written since is lost
    Revert {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        changing: Changing,
    },
    /// Delete snapshots
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
            list::print::<Snapshot>(all, &selection, &shown).await
        }
        Verb::Show { name, shown } => {
            let all = chosen::around(&connection.open().await?, &name, screen).await;
            list::show::<Snapshot>(all, &name, &shown).await
        }
        Verb::Create { name, instance, volume, description, disks_only, tag, changing } => {
            let wanted = async |managed: &Managed| {
                let managed = std::slice::from_ref(managed);
                let of = match (instance, volume) {
                    (Some(name), _) => chosen::one::<Instance>(managed, &name, screen).await?.id,
                    (None, Some(name)) => chosen::one::<Volume>(managed, &name, screen).await?.id,
                    (None, None) => {
                        return Err(Error::invalid("create snapshot", "say of what: --instance or --volume"));
                    }
                };
                let spec = SnapshotSpec { of, name, description, disks_only, tags: pairs(&tag) };
                Ok(Action::CreateSnapshot { spec })
            };
            chosen::make(connection, &changing, screen, wanted).await
        }
        Verb::Copy { chosen, to, changing } => {
            let wanted = |found: &Snapshot| Action::CopySnapshot {
                snapshot: found.id.clone().into(),
                location: to.clone(),
            };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
        Verb::Revert { chosen, changing } => {
            let wanted = |found: &Snapshot| Action::RevertSnapshot { snapshot: found.id.clone().into() };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
        Verb::Delete { chosen, changing } => {
            let wanted = |found: &Snapshot| Action::DeleteSnapshot { snapshot: found.id.clone().into() };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
    }
}
