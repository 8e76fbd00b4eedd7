//! Making a container: its image unpacked, a snapshot to write to, and its specification. What was made is taken back
//! when a later part fails.

use std::collections::HashMap;

use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::snapshots::StatSnapshotRequest;
use containerd_client::services::v1::{Container, CreateContainerRequest, ListNamespacesRequest};
use containerd_client::types::Mount;

use super::connect::Space;
use super::container::stored;
use super::error::{Answered, failed};
use super::inventory::{Reader, read_container};
use super::lease::Lease;
use super::spec::Options;
use super::state::label;
use super::{image, signal, spec, unpack, user};
use crate::model::resource::Kind;
use crate::provider::{Done, InstanceSpec, SizeSpec, Token};
use crate::{Error, ErrorKind, Result};

/// containerd's own runtime for runc.
const RUNTIME: &str = "io.containerd.runc.v2";
/// The label in which containerd's tools keep the signal that asks a container to stop.
pub(super) const STOP_SIGNAL: &str = "io.containerd.image.config.stop-signal";

/// What is to be made.
struct Wanted<'a> {
    spec: &'a InstanceSpec,
    options: Options,
    size: SizeSpec,
    token: Token,
}

/// Looks whether the container that `spec` describes can be made, without making anything.
///
/// # Errors
/// Those that [`create`] would end with.
pub(super) async fn look(reader: &Reader, spec: &InstanceSpec) -> Result<()> {
    spec::check(spec)?;
    Options::read(&spec.options, &spec.name)?;
    let space = reader.space(&location(reader, spec.location.as_deref()).await?)?;
    image::named(&space, image_of(spec)?).await?;
    match read_container(&space, &spec.name).await {
        Ok(_) => Err(taken(&spec.name)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn taken(name: &str) -> Error {
    let reason = "there is a container of this id already; choose another, or delete it first";
    failed(ErrorKind::Conflict, "create the container", name, reason)
}

fn image_of(spec: &InstanceSpec) -> Result<&str> {
    let reason = "name the image that it is made from";
    let missing = || failed(ErrorKind::Invalid, "create the container", &spec.name, reason);
    spec.image.as_deref().ok_or_else(missing)
}

/// Makes the container that `spec` describes; it has no task yet.
///
/// # Errors
/// [`ErrorKind::Conflict`] if there is one of this id that another call made; those of the image and of containerd.
pub(super) async fn create(reader: &Reader, spec: &InstanceSpec, token: Token) -> Result<Done> {
    spec::check(spec)?;
    let options = Options::read(&spec.options, &spec.name)?;
    let size = reader.flavours.resolved(&spec.size).map_err(|error| error.with_provider(super::PROVIDER))?;
    let namespace = location(reader, spec.location.as_deref()).await?;
    let space = reader.space(&namespace)?;
    let made = Done::made(reader.scope.id(&namespace, Kind::Instance, &spec.name));
    match read_container(&space, &spec.name).await {
        Ok(there) if there.labels.get(label::TOKEN) == Some(&token.to_string()) => return Ok(made),
        Ok(_) => return Err(taken(&spec.name)),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let lease = Lease::take(&space).await?;
    let wanted = Wanted { spec, options, size, token };
    let created = wanted.create(lease.space()).await;
    lease.over().await;
    created.map(|()| made)
}

/// The namespace that is meant: the one that is named, or the only one there is.
///
/// # Errors
/// [`ErrorKind::Invalid`] if none is named and it is not clear which is meant.
pub(super) async fn location(reader: &Reader, named: Option<&str>) -> Result<String> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    if let [only] = reader.config.namespaces.as_slice() {
        return Ok(only.clone());
    }
    let mut client = reader.connection.namespaces().await?;
    let list = client.list(ListNamespacesRequest::default()).await;
    let list = list.answered("list namespaces of", reader.connection.socket())?.namespaces;
    let mut names: Vec<_> = list.into_iter().map(|namespace| namespace.name).collect();
    names.retain(|name| reader.config.has(name));
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Error::invalid("choose a namespace", "there is none; name one as the location")
            .with_provider(super::PROVIDER)),
        several => {
            let reason = format!("name one as the location: {}", several.join(", "));
            Err(Error::invalid("choose a namespace", reason).with_provider(super::PROVIDER))
        }
    }
}

impl Wanted<'_> {
    async fn create(&self, space: &Space) -> Result<()> {
        let record = image::named(space, image_of(self.spec)?).await?;
        let resolved = image::resolved(space, &record).await?;
        let snapshotter = self.options.snapshotter.as_deref().unwrap_or(unpack::SNAPSHOTTER);
        let parent = unpack::unpack(space, &resolved, snapshotter).await?;
        let mounts = self.snapshot(space, snapshotter, &parent).await?;
        let created = self.container(space, &record.name, &resolved, snapshotter, &mounts).await;
        if created.is_err() {
            unpack::remove(space, snapshotter, &self.spec.name).await.unwrap_or_else(|left| {
                tracing::warn!("{}", left.chain());
            });
        }
        created
    }

    /// The snapshot that the container writes to, under the container's id.
    async fn snapshot(&self, space: &Space, snapshotter: &str, parent: &str) -> Result<Vec<Mount>> {
        let key = &self.spec.name;
        let labels = || HashMap::from([(label::TOKEN.to_owned(), self.token.to_string())]);
        match unpack::prepare(space, snapshotter, key, parent, labels()).await {
            // An earlier try of the same call got this far.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                let request = StatSnapshotRequest { snapshotter: snapshotter.to_owned(), key: key.clone() };
                let there = space.snapshots().await?.stat(space.request(request)).await;
                let there = there.answered("find the snapshot", key)?.info.unwrap_or_default();
                if there.labels.get(label::TOKEN) != Some(&self.token.to_string()) {
                    let reason =
                        "there is a snapshot of this id already; choose another id, or remove the snapshot";
                    return Err(
                        failed(ErrorKind::Conflict, "create the container", key, reason).with_source(error)
                    );
                }
                unpack::remove(space, snapshotter, key).await?;
                unpack::prepare(space, snapshotter, key, parent, labels()).await
            }
            prepared => prepared,
        }
    }

    async fn container(
        &self,
        space: &Space,
        image_name: &str,
        resolved: &image::Resolved,
        snapshotter: &str,
        mounts: &[Mount],
    ) -> Result<()> {
        let config = resolved.config.config().as_ref();
        let runs_as = self.options.user.clone().or_else(|| config.and_then(|config| config.user().clone()));
        let user = user::find(runs_as.as_deref().unwrap_or_default(), mounts)?;
        let built = spec::build(space.name(), self.spec, &self.options, &self.size, config, user)?;
        let mut labels: HashMap<String, String> = self.spec.tags.clone().into_iter().collect();
        labels.insert(label::TOKEN.into(), self.token.to_string());
        labels.extend(self.size.name.clone().map(|name| (label::SIZE.to_owned(), name)));
        let signal = config.and_then(|config| config.stop_signal().clone());
        if let Some(signal) = signal.filter(|signal| signal::number(signal).is_ok()) {
            labels.entry(STOP_SIGNAL.into()).or_insert(signal);
        }
        let container = Container {
            id: self.spec.name.clone(),
            labels,
            image: image_name.to_owned(),
            runtime: Some(Runtime { name: RUNTIME.into(), options: None }),
            spec: Some(stored(&built)),
            snapshotter: snapshotter.to_owned(),
            snapshot_key: self.spec.name.clone(),
            ..Container::default()
        };
        let request = space.request(CreateContainerRequest { container: Some(container) });
        let created = space.containers().await?.create(request).await;
        created.answered("create the container", &self.spec.name).map(drop)
    }
}
