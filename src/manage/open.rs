//! The providers that can be managed, from a pipeline file or by their type.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Pipeline, SourceKind};
use crate::provider::client::{Budgets, Policy};
use crate::provider::{Client, Provider, containerd, kvm};
use crate::{Error, ErrorKind, Result};

/// A provider under the name that people use for it.
#[derive(Clone)]
pub struct Managed {
    /// A source's name in the pipeline file, or the provider's type.
    pub name: String,
    /// The pipeline file.
    pub config: Option<String>,
    /// The provider with its layers.
    pub client: Client,
}

/// The sources of a pipeline that can be managed; only those in `names`, if there are any.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a name that the file does not have; [`ErrorKind::Unsupported`] for a named source that
/// is only measured; the provider's, if its configuration cannot be used.
pub fn from_file(pipeline: &Pipeline, file: &Path, names: &[String]) -> Result<Vec<Managed>> {
    let budgets = Arc::new(Budgets::default());
    let config = Some(file.display().to_string());
    let mut managed = Vec::new();
    for name in names {
        if pipeline.sources.get(name).is_none() {
            let known: Vec<_> = pipeline.sources.iter().map(|(name, _)| name.as_str()).collect();
            let reason = format!("{} has no such source; it has {}", file.display(), known.join(", "));
            return Err(Error::new(ErrorKind::NotFound, "find provider", reason).with_resource(name));
        }
    }
    for (name, source) in &pipeline.sources {
        let named = names.contains(name);
        if !names.is_empty() && !named {
            continue;
        }
        match provider(&source.kind)? {
            Some(provider) => managed.push(Managed {
                name: name.clone(),
                config: config.clone(),
                client: Client::new(provider, Arc::clone(&budgets), Policy::default()),
            }),
            None if named => {
                let reason = format!("a source of type {} is measured, not managed", source.kind.name());
                return Err(Error::new(ErrorKind::Unsupported, "manage", reason).with_resource(name));
            }
            None => {}
        }
    }
    if managed.is_empty() {
        let reason = "no source in it can be managed; add one of type kvm or containerd";
        return Err(Error::new(ErrorKind::NotFound, "find a provider in", reason)
            .with_resource(file.display().to_string()));
    }
    Ok(managed)
}

/// A provider of this type with its default configuration.
///
/// # Errors
/// [`ErrorKind::NotFound`] for a type that there is not.
pub fn from_kind(kind: &str) -> Result<Managed> {
    let kind = match kind {
        "kvm" => SourceKind::Kvm(kvm::Config::default()),
        "containerd" => SourceKind::Containerd(containerd::Config::default()),
        other => {
            let reason = "without --config a provider is named by its type: kvm or containerd";
            return Err(Error::new(ErrorKind::NotFound, "find provider", reason).with_resource(other));
        }
    };
    let Some(provider) = provider(&kind)? else {
        return Err(
            Error::new(ErrorKind::Unsupported, "manage", "it is only measured").with_resource(kind.name())
        );
    };
    let client = Client::new(provider, Arc::default(), Policy::default());
    Ok(Managed { name: kind.name().into(), config: None, client })
}

fn provider(kind: &SourceKind) -> Result<Option<Arc<dyn Provider>>> {
    Ok(match kind {
        SourceKind::Host(_) | SourceKind::Aws(_) => None,
        SourceKind::Kvm(config) => Some(Arc::new(kvm::KvmProvider::new(config)?)),
        SourceKind::Containerd(config) => Some(Arc::new(containerd::ContainerdProvider::new(config)?)),
    })
}
