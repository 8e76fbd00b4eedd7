//! The providers that can be managed, from a pipeline file or by their type.

use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, stream};

use super::unopened::Unopened;
use crate::config::{Pipeline, SourceKind};
use crate::provider::client::{Budgets, Policy};
use crate::provider::{Client, Provider, aws, containerd, kvm};
use crate::{Error, ErrorKind, Result};

/// Accounts that are signed in to at the same time.
const AT_ONCE: usize = 8;

/// A provider under the name that people use for it.
#[derive(Clone)]
pub struct Managed {
    /// A source's name in the pipeline file, or the provider's type; of a source with several accounts the account's name
    /// behind a `/`.
    pub name: String,
    /// The pipeline file.
    pub config: Option<String>,
    /// The provider with its layers.
    pub client: Client,
}

/// The sources of a pipeline that can be managed; only those in `names`, if there are any. A name is that of a source, or
/// of one account of it: `cloud/production`. An account that cannot be signed in to is among them: it answers everything
/// with the reason, and the others are there all the same.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a name that the file does not have; [`ErrorKind::Unsupported`] for a named source that
/// is only measured; the provider's, if its configuration cannot be used.
pub async fn from_file(pipeline: &Pipeline, file: &Path, names: &[String]) -> Result<Vec<Managed>> {
    let budgets = Arc::new(Budgets::default());
    // An operation of the journal goes on from any folder.
    let config = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let config = Some(config.display().to_string());
    let mut managed: Vec<Managed> = Vec::new();
    let mut kinds: Vec<&SourceKind> = Vec::new();
    for name in names {
        if pipeline.sources.get(source_of(name)).is_none() {
            let known: Vec<_> = pipeline.sources.iter().map(|(name, _)| name.as_str()).collect();
            let reason = format!("{} has no such source; it has {}", file.display(), known.join(", "));
            return Err(Error::new(ErrorKind::NotFound, "find provider", reason).with_resource(name));
        }
    }
    for (name, source) in &pipeline.sources {
        let wanted: Vec<_> = names.iter().filter(|wanted| source_of(wanted) == name).collect();
        if !names.is_empty() && wanted.is_empty() {
            continue;
        }
        // A second source of the same resources would list everything twice.
        if kinds.iter().any(|kind| is_same(kind, &source.kind)) {
            continue;
        }
        kinds.push(&source.kind);
        let mut found = providers(name, &source.kind, &wanted).await?;
        if found.is_empty() && !wanted.is_empty() {
            let reason = format!("a source of type {} is measured, not managed", source.kind.name());
            return Err(Error::new(ErrorKind::Unsupported, "manage", reason).with_resource(name));
        }
        managed.extend(found.drain(..).map(|(name, provider)| Managed {
            name,
            config: config.clone(),
            client: Client::new(provider, Arc::clone(&budgets), Policy::default()),
        }));
    }
    if managed.is_empty() {
        let reason = "no source in it can be managed; add one of type aws, containerd or kvm";
        return Err(Error::new(ErrorKind::NotFound, "find a provider in", reason)
            .with_resource(file.display().to_string()));
    }
    Ok(managed)
}

/// A provider of this type with its default configuration.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a type that there is not.
pub async fn from_kind(kind: &str) -> Result<Managed> {
    let kind = match kind {
        "aws" => SourceKind::Aws(Box::default()),
        "kvm" => SourceKind::Kvm(kvm::Config::default()),
        "containerd" => SourceKind::Containerd(containerd::Config::default()),
        other => {
            let reason = "without --config a provider is named by its type: aws, containerd or kvm";
            return Err(Error::new(ErrorKind::NotFound, "find provider", reason).with_resource(other));
        }
    };
    let Some((name, provider)) = providers(kind.name(), &kind, &[]).await?.pop() else {
        return Err(
            Error::new(ErrorKind::Unsupported, "manage", "it is only measured").with_resource(kind.name())
        );
    };
    let client = Client::new(provider, Arc::default(), Policy::default());
    Ok(Managed { name, config: None, client })
}

/// The source that a provider's name belongs to.
fn source_of(name: &str) -> &str {
    name.split_once('/').map_or(name, |(source, _)| source)
}

/// What a source has to be managed, under its names; of several accounts those that are wanted.
async fn providers(
    name: &str,
    kind: &SourceKind,
    wanted: &[&String],
) -> Result<Vec<(String, Arc<dyn Provider>)>> {
    let one = |provider: Arc<dyn Provider>| Ok(vec![(name.to_owned(), provider)]);
    match kind {
        SourceKind::Host(_) => Ok(Vec::new()),
        SourceKind::Kvm(config) => one(Arc::new(kvm::KvmProvider::new(config)?)),
        SourceKind::Containerd(config) => one(Arc::new(containerd::ContainerdProvider::new(config)?)),
        SourceKind::Aws(config) => accounts(name, config, wanted).await,
    }
}

/// The accounts of a source, each a provider of its own.
async fn accounts(
    name: &str,
    config: &aws::Config,
    wanted: &[&String],
) -> Result<Vec<(String, Arc<dyn Provider>)>> {
    let accounts = config.all_accounts();
    let label = |account: &aws::Account| match accounts.len() {
        1 => name.to_owned(),
        _ => format!("{name}/{}", account.label()),
    };
    let all = wanted.is_empty() || wanted.iter().any(|wanted| *wanted == name);
    // An only account may be named like one of several.
    let is = |account: &aws::Account, wanted: &str| {
        label(account) == wanted || format!("{name}/{}", account.label()) == wanted
    };
    for wanted in wanted {
        if *wanted != name && !accounts.iter().any(|account| is(account, wanted)) {
            let known: Vec<_> = accounts.iter().map(label).collect();
            let reason = format!("the source has no such account; there are {}", known.join(", "));
            return Err(Error::new(ErrorKind::NotFound, "find provider", reason).with_resource(*wanted));
        }
    }
    let chosen = accounts.iter().filter(|account| all || wanted.iter().any(|wanted| is(account, wanted)));
    let open = |account: aws::Account, label: String| async move {
        let provider: Arc<dyn Provider> = match aws::AwsProvider::open(config, &account).await {
            Ok(provider) => Arc::new(provider),
            Err(error) => Arc::new(Unopened::new("aws", account.label(), &error)),
        };
        (label, provider)
    };
    let opened = chosen.map(|account| open(account.clone(), label(account)));
    Ok(stream::iter(opened.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await)
}

/// Whether two sources have the same resources, whatever else of them differs.
fn is_same(one: &SourceKind, other: &SourceKind) -> bool {
    match (one, other) {
        (SourceKind::Kvm(one), SourceKind::Kvm(other)) => one.uri == other.uri,
        (SourceKind::Containerd(one), SourceKind::Containerd(other)) => {
            (&one.socket, &one.namespaces, &one.exclude_namespaces)
                == (&other.socket, &other.namespaces, &other.exclude_namespaces)
        }
        (SourceKind::Aws(one), SourceKind::Aws(other)) => {
            let who = |config: &aws::Config| {
                (config.all_accounts(), config.regions.clone(), config.endpoints.clone())
            };
            who(one) == who(other)
        }
        _ => false,
    }
}
