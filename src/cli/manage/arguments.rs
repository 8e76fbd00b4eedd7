//! Arguments that the commands share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;

use crate::cli::output::{Format, Target};
use crate::manage::{self, Guard, Managed, Places, Waiting};
use crate::model::Span;
use crate::{Error, Result, config};

/// Which providers are meant.
#[derive(Debug, Clone, Args)]
pub(super) struct Connection {
    /// Source in the pipeline file; may be given more than once. Without --config: a provider's type, with its defaults
    #[arg(long, short = 'p', value_name = "NAME", global = true)]
    provider: Vec<String>,
    /// Pipeline file whose sources are managed
    #[arg(long, short = 'c', value_name = "FILE", env = "BAROGRAPH_CONFIG", global = true)]
    config: Option<PathBuf>,
}

/// Which of their regions.
#[derive(Debug, Clone, Args)]
pub(super) struct Where {
    /// Region, hypervisor or namespace; may be given more than once. All if left out
    #[arg(long, value_name = "NAME")]
    region: Vec<String>,
    /// Not this region; may be given more than once
    #[arg(long, value_name = "NAME")]
    exclude_region: Vec<String>,
}

/// How a listing is printed.
#[derive(Debug, Clone, Args)]
pub(super) struct Shown {
    /// Form of the answer; on a terminal a table, otherwise json
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Columns in this order, separated by commas; all if left out, but for a table the most telling ones
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) columns: Vec<String>,
}

/// Which rows.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Selection {
    /// SQL expression over the columns of the listing, such as "state = 'Running' AND name LIKE 'web%'"
    #[arg(long = "where", value_name = "SQL")]
    pub(super) expression: Option<String>,
}

/// How a change is made.
#[derive(Debug, Clone, Args)]
pub(super) struct Changing {
    /// Print the plan and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub(super) yes: bool,
    /// Most resources that the command may change; more refuse all of it
    #[arg(long, value_name = "NUMBER", default_value_t = Guard::default().max_affected)]
    max_affected: usize,
    /// Do not wait for the end of the last step
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// Wait for the end of the last step (the default)
    #[arg(long)]
    wait: bool,
    /// Longest wait for one step
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    timeout: Span,
    /// Folder with the journal of operations
    #[arg(long, value_name = "DIR", default_value = "./data", env = "BAROGRAPH_DATA")]
    pub(super) data: PathBuf,
    /// Form of the answer; on a terminal a table, otherwise json
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,
}

impl Connection {
    /// Opens what is meant.
    pub(super) async fn open(&self) -> Result<Vec<Managed>> {
        match (&self.config, &self.provider[..]) {
            (Some(file), names) => {
                let pipeline = config::load(file)
                    .map_err(|faults| Error::invalid("read pipeline file", faults.to_string()))?;
                manage::from_file(&pipeline, file, names).await
            }
            (None, []) => {
                let reason = "say which provider: --config FILE, or --provider with a type such as aws, containerd or kvm";
                Err(Error::invalid("find a provider", reason))
            }
            (None, kinds) => {
                // Named twice it is one all the same.
                let kinds: BTreeSet<_> = kinds.iter().collect();
                let mut managed = Vec::with_capacity(kinds.len());
                for kind in kinds {
                    managed.push(manage::from_kind(kind).await?);
                }
                Ok(managed)
            }
        }
    }

    /// Opens the one that something is to be made in.
    pub(super) async fn open_one(&self) -> Result<Managed> {
        let mut managed = self.open().await?;
        if managed.len() > 1 {
            let names: Vec<_> = managed.iter().map(|managed| managed.name.as_str()).collect();
            let reason = format!("say in which with --provider: {}", names.join(", "));
            return Err(Error::invalid("choose a provider", reason));
        }
        Ok(managed.remove(0))
    }
}

impl Where {
    /// As places.
    pub(super) fn places(&self) -> Places {
        Places {
            only: self.region.iter().cloned().collect(),
            exclude: self.exclude_region.iter().cloned().collect(),
        }
    }
}

impl Shown {
    /// Where the listing goes.
    pub(super) fn target(&self) -> Result<Target> {
        target(self.format)
    }
}

impl Changing {
    pub(super) fn guard(&self) -> Guard {
        Guard { max_affected: self.max_affected }
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting { last: !self.no_wait, timeout: self.timeout.0 }
    }
}

/// A table on a terminal, otherwise JSON.
pub(super) fn target(format: Option<Format>) -> Result<Target> {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let format = format.or((!terminal).then_some(Format::Json));
    Target::new(format, None, terminal)
}

/// `name=value`, as tags and options are written.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write name=value".into()),
    }
}

/// Pairs by name.
pub(super) fn pairs(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}
