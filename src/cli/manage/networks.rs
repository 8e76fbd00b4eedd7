//! `barograph networks`: networks that instances are in.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};

use super::arguments::{Changing, Connection, Selection, Shown, Where, pair, pairs};
use super::chosen::{self, Chosen};
use super::list;
use crate::Result;
use crate::cli::screen::Screen;
use crate::manage::Managed;
use crate::model::resource::Network;
use crate::provider::{Action, NetworkSpec};

/// Arguments of `barograph networks`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List networks
    List {
        #[command(flatten)]
        at: Where,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        shown: Shown,
    },
    /// Show one network
    Show {
        /// Name, provider's id or whole id
        name: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Make a network
    Create {
        /// Name
        name: String,
        /// Address block: 10.0.0.0/24
        #[arg(long, value_name = "CIDR")]
        cidr: Option<String>,
        /// How it reaches others: nat, route, isolated
        #[arg(long, value_name = "WORD")]
        mode: Option<String>,
        /// Region to make it in
        #[arg(long, value_name = "NAME")]
        region: Option<String>,
        /// Tag or label; may be given more than once
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        tag: Vec<(String, String)>,
        #[command(flatten)]
        changing: Changing,
    },
    /// Delete networks
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
            list::print::<Network>(all, &selection, &shown).await
        }
        Verb::Show { name, shown } => {
            let all = chosen::around(&connection.open().await?, &name, screen).await;
            list::show::<Network>(all, &name, &shown).await
        }
        Verb::Create { name, cidr, mode, region, tag, changing } => {
            let spec = NetworkSpec { name, location: region, mode, cidr, tags: pairs(&tag) };
            let wanted = async |_: &Managed| Ok(Action::CreateNetwork { spec });
            chosen::make(connection, &changing, screen, wanted).await
        }
        Verb::Delete { chosen, changing } => {
            let wanted = |found: &Network| Action::DeleteNetwork { network: found.id.clone().into() };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
    }
}
