//! `barograph volumes`: disks that outlive instances.

use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand};

use super::arguments::{Changing, Connection, Selection, Shown, Where, pair, pairs};
use super::chosen::{self, Chosen};
use super::{change, list};
use crate::Result;
use crate::cli::screen::Screen;
use crate::manage::{Managed, Subject, prepare};
use crate::model::Size;
use crate::model::resource::{Instance, Snapshot, Volume};
use crate::provider::{Action, VolumeChange, VolumeSpec};

/// Arguments of `barograph volumes`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List volumes
    List {
        #[command(flatten)]
        at: Where,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        shown: Shown,
    },
    /// Show one volume
    Show {
        /// Name, provider's id or whole id
        name: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Make a volume, empty or as a copy
    Create {
        /// Name
        name: String,
        /// Size; of a copy its source's if left out
        #[arg(long, value_name = "SIZE")]
        size: Option<Size>,
        /// Region to make it in
        #[arg(long, value_name = "NAME")]
        region: Option<String>,
        /// Part of the region, where volumes are of one
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// Pool, tier or type
        #[arg(long, value_name = "NAME")]
        class: Option<String>,
        /// Format: qcow2, raw
        #[arg(long, value_name = "NAME")]
        volume_format: Option<String>,
        /// Volume that it begins as a copy of
        #[arg(long, value_name = "NAME", conflicts_with = "from_snapshot")]
        from: Option<String>,
        /// Snapshot that it begins as a copy of
        #[arg(long, value_name = "NAME")]
        from_snapshot: Option<String>,
        /// Tag or label; may be given more than once
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        tag: Vec<(String, String)>,
        /// What only this provider knows; may be given more than once
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        option: Vec<(String, String)>,
        #[command(flatten)]
        changing: Changing,
    },
    /// Make volumes larger, they cannot become smaller again; or give them another class
    Resize {
        #[command(flatten)]
        chosen: Chosen,
        /// New size
        #[arg(long, value_name = "SIZE", required_unless_present_any = ["class", "option"])]
        size: Option<Size>,
        /// Another tier or type
        #[arg(long, value_name = "NAME")]
        class: Option<String>,
        /// What only this provider knows, such as iops=4000; may be given more than once
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        option: Vec<(String, String)>,
        #[command(flatten)]
        changing: Changing,
    },
    /// Give a volume to an instance
    Attach {
        /// The volume
        name: String,
        /// The instance
        #[arg(long, value_name = "NAME")]
        instance: String,
        /// Name inside the instance: vdb
        #[arg(long, value_name = "NAME")]
        device: Option<String>,
        #[command(flatten)]
        changing: Changing,
    },
    /// Take a volume away from an instance
    Detach {
        /// The volume
        name: String,
        /// The instance; the only one that has it if left out
        #[arg(long, value_name = "NAME")]
        instance: Option<String>,
        #[command(flatten)]
        changing: Changing,
    },
    /// Delete volumes
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
            list::print::<Volume>(all, &selection, &shown).await
        }
        Verb::Show { name, shown } => {
            let all = chosen::around(&connection.open().await?, &name, screen).await;
            list::show::<Volume>(all, &name, &shown).await
        }
        Verb::Create {
            name,
            size,
            region,
            zone,
            class,
            volume_format,
            from,
            from_snapshot,
            tag,
            option,
            changing,
        } => {
            let wanted = async |managed: &Managed| {
                let managed = std::slice::from_ref(managed);
                let from = match (from, from_snapshot) {
                    (Some(from), _) => Some(chosen::one::<Volume>(managed, &from, screen).await?.id),
                    (None, Some(from)) => Some(chosen::one::<Snapshot>(managed, &from, screen).await?.id),
                    (None, None) => None,
                };
                let size_bytes = size.map(|size| size.0);
                let tags = pairs(&tag);
                let spec = VolumeSpec {
                    name,
                    location: region,
                    zone,
                    class,
                    size_bytes,
                    format: volume_format,
                    from,
                    tags,
                    options: pairs(&option),
                };
                Ok(Action::CreateVolume { spec })
            };
            chosen::make(connection, &changing, screen, wanted).await
        }
        Verb::Resize { chosen, size, class, option, changing } => {
            let size_bytes = size.map(|size| size.0);
            let change = VolumeChange { class, size_bytes, options: pairs(&option) };
            // What all providers can do is asked for as that.
            let grows = change.class.is_none() && change.options.is_empty();
            let wanted = |volume: &Volume| match size_bytes.filter(|_| grows) {
                Some(size_bytes) => Action::GrowVolume { volume: volume.id.clone().into(), size_bytes },
                None => Action::ChangeVolume { volume: volume.id.clone().into(), change: change.clone() },
            };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
        Verb::Attach { name, instance, device, changing } => {
            let managed = connection.open().await?;
            let volume: Volume = chosen::one(&managed, &name, screen).await?;
            let instance: Instance = chosen::one(&managed, &instance, screen).await?;
            let wanted = Action::AttachVolume {
                volume: volume.id.clone().into(),
                instance: instance.id.clone().into(),
                device,
            };
            joined(&managed, &volume, &instance, &wanted, &changing, screen).await
        }
        Verb::Detach { name, instance, changing } => {
            let managed = connection.open().await?;
            let volume: Volume = chosen::one(&managed, &name, screen).await?;
            let instance = match instance {
                Some(instance) => instance,
                None => holder(&volume)?,
            };
            let instance: Instance = chosen::one(&managed, &instance, screen).await?;
            let wanted = Action::DetachVolume {
                volume: volume.id.clone().into(),
                instance: instance.id.clone().into(),
            };
            joined(&managed, &volume, &instance, &wanted, &changing, screen).await
        }
        Verb::Delete { chosen, changing } => {
            let wanted = |volume: &Volume| Action::DeleteVolume { volume: volume.id.clone().into() };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
    }
}

/// Joins a volume and an instance, or parts them.
async fn joined(
    managed: &[Managed],
    volume: &Volume,
    instance: &Instance,
    wanted: &Action,
    changing: &Changing,
    screen: &Screen,
) -> Result<ExitCode> {
    let owner = chosen::owner(managed, &volume.id).await?;
    let protected = volume.protected().or_else(|| instance.protected());
    let prepared = prepare(owner, wanted, Some(instance), protected).await?;
    change::carry_out(managed, vec![prepared], changing, screen).await
}

/// The only instance that has a volume.
fn holder(volume: &Volume) -> Result<String> {
    match &volume.attached_to[..] {
        [one] => Ok(one.to_string()),
        [] => Err(crate::Error::new(crate::ErrorKind::Conflict, "detach", "no instance has it")
            .with_resource(volume.id.to_string())),
        several => {
            let reason = format!("{} instances have it; say from which with --instance", several.len());
            Err(crate::Error::invalid("detach", reason).with_resource(volume.id.to_string()))
        }
    }
}
