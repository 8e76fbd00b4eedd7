//! `barograph subnets`: blocks of addresses in networks.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};

use super::arguments::{Changing, Connection, Selection, Shown, Where, pair, pairs};
use super::chosen::{self, Chosen};
use super::list;
use crate::Result;
use crate::cli::screen::Screen;
use crate::manage::Managed;
use crate::model::resource::{Network, Subnet};
use crate::provider::{Action, SubnetSpec};

/// Arguments of `barograph subnets`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List subnets
    List {
        #[command(flatten)]
        at: Where,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        shown: Shown,
    },
    /// Show one subnet
    Show {
        /// Name, provider's id or whole id
        name: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Make a subnet
    Create {
        /// Name
        name: String,
        /// The network
        #[arg(long, value_name = "NAME")]
        network: String,
        /// Address block: 10.0.0.0/24
        #[arg(long, value_name = "CIDR")]
        cidr: String,
        /// Part of the region
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// Tag or label; may be given more than once
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        tag: Vec<(String, String)>,
        #[command(flatten)]
        changing: Changing,
    },
    /// Delete subnets
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
            list::print::<Subnet>(all, &selection, &shown).await
        }
        Verb::Show { name, shown } => {
            let all = chosen::around(&connection.open().await?, &name, screen).await;
            list::show::<Subnet>(all, &name, &shown).await
        }
        Verb::Create { name, network, cidr, zone, tag, changing } => {
            let wanted = async |managed: &Managed| {
                let managed = std::slice::from_ref(managed);
                let network: Network = chosen::one(managed, &network, screen).await?;
                let spec = SubnetSpec { name, network: network.id, cidr, zone, tags: pairs(&tag) };
                Ok(Action::CreateSubnet { spec })
            };
            chosen::make(connection, &changing, screen, wanted).await
        }
        Verb::Delete { chosen, changing } => {
            let wanted = |found: &Subnet| Action::DeleteSubnet { subnet: found.id.clone().into() };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
    }
}
