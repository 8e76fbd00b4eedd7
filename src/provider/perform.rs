//! From an action to the method that does it: the one place where a step meets a provider.

use super::{Action, Done, Provider, Token};
use crate::{Error, ErrorKind, Result};

/// Refuses what the provider cannot do, before anything is asked.
///
/// # Errors
/// [`ErrorKind::Unsupported`].
pub fn allowed(provider: &dyn Provider, action: &Action) -> Result<()> {
    if provider.capabilities().allows(action) { Ok(()) } else { Err(unsupported(provider, action)) }
}

/// Carries out one step; all its targets are ids by now.
///
/// # Errors
/// The provider's, by kind; [`ErrorKind::Unsupported`] for what it cannot do.
pub async fn perform(provider: &dyn Provider, action: &Action, token: Token) -> Result<Done> {
    allowed(provider, action)?;
    let absent = || unsupported(provider, action);
    let lifecycle = || provider.lifecycle().ok_or_else(absent);
    let volumes = || provider.volumes().ok_or_else(absent);
    let snapshots = || provider.snapshots().ok_or_else(absent);
    let networks = || provider.networks().ok_or_else(absent);
    let images = || provider.images().ok_or_else(absent);
    match action {
        Action::CreateInstance { spec } => lifecycle()?.create(spec, token).await,
        Action::Start { instance } => lifecycle()?.start(instance.id()?, token).await,
        Action::Stop { instance, how } => lifecycle()?.stop(instance.id()?, how, token).await,
        Action::Restart { .. } => Err(Error::invalid(
            "restart",
            "a restart is planned as a stop and a start; this plan does neither",
        )),
        Action::Suspend { instance } => lifecycle()?.suspend(instance.id()?, token).await,
        Action::Resume { instance } => lifecycle()?.resume(instance.id()?, token).await,
        Action::Resize { instance, size, policy } => {
            lifecycle()?.resize(instance.id()?, size, *policy, token).await
        }
        Action::DeleteInstance { instance, consents } => {
            lifecycle()?.delete(instance.id()?, *consents, token).await
        }
        Action::Protect { instance, guards } => lifecycle()?.protect(instance.id()?, *guards, token).await,
        Action::CreateVolume { spec } => volumes()?.create(spec, token).await,
        Action::GrowVolume { volume, size_bytes } => volumes()?.grow(volume.id()?, *size_bytes, token).await,
        Action::ChangeVolume { volume, change } => volumes()?.change(volume.id()?, change, token).await,
        Action::DeleteVolume { volume } => volumes()?.delete(volume.id()?, token).await,
        Action::AttachVolume { volume, instance, device } => {
            volumes()?.attach(volume.id()?, instance.id()?, device.as_deref(), token).await
        }
        Action::DetachVolume { volume, instance } => {
            volumes()?.detach(volume.id()?, instance.id()?, token).await
        }
        Action::CreateSnapshot { spec } => snapshots()?.create(spec, token).await,
        Action::CopySnapshot { snapshot, location } => {
            snapshots()?.copy(snapshot.id()?, location, token).await
        }
        Action::RevertSnapshot { snapshot } => snapshots()?.revert(snapshot.id()?, token).await,
        Action::DeleteSnapshot { snapshot } => snapshots()?.delete(snapshot.id()?, token).await,
        Action::CreateNetwork { spec } => networks()?.create(spec, token).await,
        Action::DeleteNetwork { network } => networks()?.delete(network.id()?, token).await,
        Action::CreateSubnet { spec } => networks()?.create_subnet(spec, token).await,
        Action::DeleteSubnet { subnet } => networks()?.delete_subnet(subnet.id()?, token).await,
        Action::ImportImage { archive, location, name } => {
            images()?.import(archive, location.as_deref(), name.as_deref(), token).await
        }
        Action::DeleteImage { image } => images()?.delete(image.id()?, token).await,
    }
}

fn unsupported(provider: &dyn Provider, action: &Action) -> Error {
    let scope = provider.scope();
    Error::new(ErrorKind::Unsupported, action.to_string(), "this provider cannot do it")
        .with_provider(scope.provider)
}
