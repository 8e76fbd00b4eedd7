//! `barograph instances`: virtual machines and containers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use rust_decimal::Decimal;

use super::arguments::{Changing, Connection, Selection, Shown, Where, pair, pairs};
use super::chosen::{self, Chosen};
use super::list;
use crate::cli::screen::Screen;
use crate::model::resource::{Instance, Volume};
use crate::model::{Size, Span};
use crate::provider::{
    Action, Consents, DiskSpec, InstanceSpec, KernelSpec, ResizePolicy, SizeSpec, Stop, Target, VolumeSpec,
};
use crate::{Error, Result, yaml};

/// Arguments of `barograph instances`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List instances with their states
    List {
        #[command(flatten)]
        at: Where,
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        shown: Shown,
    },
    /// Show one instance
    Show {
        /// Name, provider's id or whole id
        name: String,
        #[command(flatten)]
        shown: Shown,
    },
    /// Make an instance
    Create(Box<Create>),
    /// Start instances, or wake suspended ones
    Start(Plain),
    /// Ask instances to stop
    Stop(Stopping),
    /// Stop instances and start them again
    Restart(Stopping),
    /// Keep the memory of instances and take their processors away
    Suspend(Plain),
    /// Let suspended instances go on
    Resume(Plain),
    /// Give instances another size
    Resize(Resizing),
    /// Delete instances; what belongs to them stays unless an option names it
    Delete(Deleting),
}

#[derive(Debug, ClapArgs)]
struct Plain {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Debug, ClapArgs)]
struct Stopping {
    #[command(flatten)]
    chosen: Chosen,
    /// How long they may take to stop by themselves
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    grace: Span,
    /// Power off, or kill, what has not stopped by then
    #[arg(long)]
    force: bool,
    /// Signal for a container's first process
    #[arg(long, value_name = "NAME")]
    signal: Option<String>,
    /// Stay allocated, and billed, where the provider tells the two apart
    #[arg(long)]
    keep_allocated: bool,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Debug, Clone, ClapArgs)]
struct Sizing {
    /// A size that the provider or the operator's file has
    #[arg(long, value_name = "NAME")]
    size: Option<String>,
    /// Virtual processors; containers may have a part of one
    #[arg(long, value_name = "NUMBER")]
    vcpus: Option<Decimal>,
    /// Memory
    #[arg(long, value_name = "SIZE")]
    memory: Option<Size>,
    /// Most processors that it can get while it runs
    #[arg(long, value_name = "NUMBER")]
    max_vcpus: Option<Decimal>,
    /// Most memory that it can get while it runs
    #[arg(long, value_name = "SIZE")]
    max_memory: Option<Size>,
}

#[derive(Debug, ClapArgs)]
struct Resizing {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    size: Sizing,
    /// What it may cost the users of the instance
    #[arg(long, value_enum, default_value_t = Policy::LiveOnly)]
    policy: Policy,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// Nothing: it runs on
    LiveOnly,
    /// It may be restarted, or get the size at its next start
    AllowRestart,
    /// It may be stopped and started
    AllowStopStart,
}

#[derive(Debug, ClapArgs)]
struct Deleting {
    #[command(flatten)]
    chosen: Chosen,
    /// Also while it runs: it is powered off, or killed
    #[arg(long)]
    running: bool,
    /// With its volumes
    #[arg(long)]
    volumes: bool,
    /// With its snapshots
    #[arg(long)]
    snapshots: bool,
    /// With its kept memory
    #[arg(long)]
    saved_state: bool,
    /// With its firmware's variables
    #[arg(long)]
    nvram: bool,
    #[command(flatten)]
    changing: Changing,
}

#[derive(Debug, ClapArgs)]
struct Create {
    /// Name; of a container its id
    name: Option<String>,
    /// Description as a YAML file; options on the command line change it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Region or namespace to make it in
    #[arg(long, value_name = "NAME")]
    region: Option<String>,
    #[command(flatten)]
    size: Sizing,
    /// What it is made from
    #[arg(long, value_name = "NAME")]
    image: Option<String>,
    /// Kernel to boot, a file on the hypervisor
    #[arg(long, value_name = "FILE")]
    kernel: Option<String>,
    /// Initial ram disk, a file on the hypervisor
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<String>,
    /// Command line of the kernel
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    kernel_arguments: Option<String>,
    /// A new disk, as NAME:SIZE; may be given more than once
    #[arg(long, value_name = "NAME:SIZE", value_parser = new_disk)]
    disk: Vec<(String, Size)>,
    /// A volume that is there, by name or id; may be given more than once
    #[arg(long, value_name = "NAME")]
    volume: Vec<String>,
    /// A network; may be given more than once
    #[arg(long, value_name = "NAME")]
    network: Vec<String>,
    /// Environment of a container, as NAME=value; may be given more than once
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Tag or label; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    tag: Vec<(String, String)>,
    /// What only this provider knows; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    option: Vec<(String, String)>,
    /// Start it
    #[arg(long)]
    start: bool,
    #[command(flatten)]
    changing: Changing,
    /// Command of a container, after `--`
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
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
    let id = |instance: &Instance| Target::Id(instance.id.clone());
    match args.verb {
        Verb::List { at, selection, shown } => {
            let all = list::gathered(&connection.open().await?, &at.places(), screen).await;
            list::print::<Instance>(all, &selection, &shown).await
        }
        Verb::Show { name, shown } => {
            let all = chosen::around(&connection.open().await?, &name, screen).await;
            list::show::<Instance>(all, &name, &shown).await
        }
        Verb::Create(create) => {
            let changing = create.changing.clone();
            let wanted = async |managed: &crate::manage::Managed| {
                let mut spec = create.spec()?;
                for name in &create.volume {
                    let managed = std::slice::from_ref(managed);
                    let volume: Volume = chosen::one(managed, name, screen).await?;
                    spec.disks.push(DiskSpec::Volume(volume.id.into()));
                }
                Ok(Action::CreateInstance { spec })
            };
            chosen::make(connection, &changing, screen, wanted).await
        }
        Verb::Start(Plain { chosen, changing }) => {
            let wanted = |instance: &Instance| Action::Start { instance: id(instance) };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
        Verb::Stop(stopping) => {
            let how = stopping.how();
            let wanted = |instance: &Instance| Action::Stop { instance: id(instance), how: how.clone() };
            chosen::change(connection, &stopping.chosen, &stopping.changing, screen, wanted).await
        }
        Verb::Restart(stopping) => {
            let how = stopping.how();
            let wanted = |instance: &Instance| Action::Restart { instance: id(instance), how: how.clone() };
            chosen::change(connection, &stopping.chosen, &stopping.changing, screen, wanted).await
        }
        Verb::Suspend(Plain { chosen, changing }) => {
            let wanted = |instance: &Instance| Action::Suspend { instance: id(instance) };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
        Verb::Resume(Plain { chosen, changing }) => {
            let wanted = |instance: &Instance| Action::Resume { instance: id(instance) };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
        Verb::Resize(Resizing { chosen, size, policy, changing }) => {
            let size = size.spec();
            if size == SizeSpec::default() {
                return Err(Error::invalid("resize", "say to what: --size, --vcpus or --memory"));
            }
            let wanted = |instance: &Instance| Action::Resize {
                instance: id(instance),
                size: size.clone(),
                policy: policy.into(),
            };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
        Verb::Delete(deleting) => {
            let Deleting { chosen, running, volumes, snapshots, saved_state, nvram, changing } = deleting;
            let consents = Consents { running, volumes, snapshots, saved_state, nvram };
            let wanted = |instance: &Instance| Action::DeleteInstance { instance: id(instance), consents };
            chosen::change(connection, &chosen, &changing, screen, wanted).await
        }
    }
}

impl Stopping {
    fn how(&self) -> Stop {
        Stop {
            grace: self.grace,
            force: self.force,
            signal: self.signal.clone(),
            keep_allocated: self.keep_allocated,
        }
    }
}

impl Sizing {
    fn spec(&self) -> SizeSpec {
        SizeSpec {
            name: self.size.clone(),
            vcpus: self.vcpus,
            memory_bytes: self.memory.map(|memory| memory.0),
            max_vcpus: self.max_vcpus,
            max_memory_bytes: self.max_memory.map(|memory| memory.0),
        }
    }
}

impl From<Policy> for ResizePolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::LiveOnly => Self::LiveOnly,
            Policy::AllowRestart => Self::AllowRestart,
            Policy::AllowStopStart => Self::AllowStopStart,
        }
    }
}

impl Create {
    /// The file's description with what the command line says.
    fn spec(&self) -> Result<InstanceSpec> {
        let mut spec = match &self.file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Error::io("read description", path, error))?;
                yaml::from_str(&text).map_err(|error| {
                    Error::invalid("read description", error.to_string())
                        .with_resource(path.display().to_string())
                })?
            }
            None => InstanceSpec::default(),
        };
        if let Some(name) = &self.name {
            spec.name.clone_from(name);
        }
        if spec.name.is_empty() {
            return Err(Error::invalid("create instance", "it needs a name"));
        }
        let said = self.size.spec();
        let size = &mut spec.size;
        size.name = said.name.or(size.name.take());
        size.vcpus = said.vcpus.or(size.vcpus);
        size.memory_bytes = said.memory_bytes.or(size.memory_bytes);
        size.max_vcpus = said.max_vcpus.or(size.max_vcpus);
        size.max_memory_bytes = said.max_memory_bytes.or(size.max_memory_bytes);
        spec.location = self.region.clone().or(spec.location);
        spec.image = self.image.clone().or(spec.image);
        if let Some(kernel) = &self.kernel {
            spec.kernel = Some(KernelSpec {
                kernel: kernel.clone(),
                initrd: self.initrd.clone(),
                arguments: self.kernel_arguments.clone(),
            });
        }
        spec.disks.extend(self.disk.iter().map(|(name, size)| {
            DiskSpec::New(VolumeSpec {
                name: name.clone(),
                size_bytes: Some(size.0),
                ..VolumeSpec::default()
            })
        }));
        spec.networks.extend(self.network.iter().cloned());
        spec.environment.extend(self.env.iter().cloned());
        if !self.command.is_empty() {
            spec.command.clone_from(&self.command);
        }
        spec.tags.extend(pairs(&self.tag));
        spec.options.extend(pairs(&self.option));
        spec.start |= self.start;
        Ok(spec)
    }
}

fn new_disk(text: &str) -> Result<(String, Size), String> {
    let (name, size) = text.rsplit_once(':').filter(|(name, _)| !name.is_empty()).ok_or("write NAME:SIZE")?;
    Ok((name.to_owned(), size.parse()?))
}
