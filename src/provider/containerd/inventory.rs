//! What containerd has, namespace by namespace.

use std::sync::Arc;

use async_trait::async_trait;
use containerd_client::services::v1::{
    Container, GetContainerRequest, ListContainersRequest, ListNamespacesRequest,
};

use super::config::Config;
use super::connect::{Connection, Space};
use super::container::instance;
use super::error::{Answered, failed};
use super::tasks::{Tasks, read_one};
use super::{PROVIDER, images};
use crate::model::resource::{Image, Instance, Kind, Price, Region, ResourceId, Size};
use crate::provider::flavours::Flavours;
use crate::provider::listing::one_page;
use crate::provider::{Inventory, Page, Pages, Scope};
use crate::{ErrorKind, Result};

/// The reading side, which telemetry and management share.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) config: Config,
    pub(super) connection: Arc<Connection>,
    pub(super) scope: Scope,
    pub(super) flavours: Flavours,
}

impl Reader {
    /// Reads from the containerd that `config` names; nothing is connected yet.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a configuration that nothing can be done with.
    pub(super) fn new(config: &Config) -> Result<Self> {
        if config.deadline.0 < super::MIN_DEADLINE {
            let reason = format!("the deadline is {}; write at least 100ms", config.deadline);
            return Err(failed(ErrorKind::Invalid, "read containers of", &config.socket, reason));
        }
        let connection = Connection::new(config)?;
        let scope = Scope { provider: PROVIDER, account: connection.socket().to_owned() };
        let flavours = Flavours::new(config.sizes.clone(), config.prices.clone());
        Ok(Self { config: config.clone(), connection, scope, flavours })
    }

    /// The namespaces to look into, sorted.
    ///
    /// # Errors
    /// containerd does not answer.
    pub(super) async fn namespaces(&self) -> Result<Vec<String>> {
        let mut client = self.connection.namespaces().await?;
        let list = client.list(ListNamespacesRequest::default()).await;
        let list = list.answered("list namespaces of", self.connection.socket())?;
        let mut names: Vec<_> = list.namespaces.into_iter().map(|namespace| namespace.name).collect();
        names.retain(|name| self.config.has(name));
        names.sort();
        Ok(names)
    }

    /// A namespace to look into or to change something in.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a name that cannot be one, [`ErrorKind::Denied`] for one that the configuration
    /// leaves out.
    pub(super) fn space(&self, namespace: &str) -> Result<Space> {
        let space = self.connection.space(namespace)?;
        if self.config.has(namespace) {
            return Ok(space);
        }
        let reason = "the configuration leaves it out; see `namespaces` and `exclude_namespaces`";
        Err(failed(ErrorKind::Denied, "use the namespace", namespace, reason))
    }

    /// All containers of a namespace, with their states.
    ///
    /// # Errors
    /// containerd does not answer.
    pub(super) async fn instances(&self, namespace: &str) -> Result<Page<Instance>> {
        let space = self.space(namespace)?;
        let mut client = space.containers().await?;
        let list = client.list(space.request(ListContainersRequest::default())).await;
        let containers = list.answered("list containers of", namespace)?.containers;
        let ids: Vec<_> = containers.iter().map(|container| container.id.clone()).collect();
        let tasks = Tasks::read(&space, &ids, self.config.deadline.0).await?;
        let items = containers.iter();
        let items =
            items.map(|container| instance(&self.scope, namespace, container, tasks.of(&container.id)));
        Ok(Page { items: items.collect(), errors: tasks.errors })
    }

    /// The namespace and the container that an id names.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such container, [`ErrorKind::Invalid`] for an id of something else.
    pub(super) async fn container(&self, id: &ResourceId) -> Result<(Space, Container)> {
        let space = self.place(id, Kind::Instance)?;
        let container = read_container(&space, &id.native_id).await?;
        Ok((space, container))
    }

    /// The namespace of an id of this kind.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an id of something else.
    pub(super) fn place(&self, id: &ResourceId, kind: Kind) -> Result<Space> {
        if !self.scope.has(id) || id.kind != kind {
            let reason = format!("this is no {kind} of the containerd at {}", self.connection.socket());
            return Err(failed(ErrorKind::Invalid, "find", &id.to_string(), reason));
        }
        self.space(&id.location)
    }
}

/// One container.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such container.
pub(super) async fn read_container(space: &Space, id: &str) -> Result<Container> {
    let mut client = space.containers().await?;
    let answer = client.get(space.request(GetContainerRequest { id: id.to_owned() })).await;
    let container = answer.answered("read the container", id)?.container;
    container.ok_or_else(|| failed(ErrorKind::NotFound, "read the container", id, "containerd sent none"))
}

#[async_trait]
impl Inventory for Reader {
    fn regions(&self) -> Pages<'_, Region> {
        one_page(async || {
            let region = |name: String| Region {
                id: self.scope.id("", Kind::Region, &name),
                name: Some(name),
                enabled: Some(true),
            };
            let names = self.namespaces().await?;
            Ok(names.into_iter().map(region).collect::<Vec<_>>().into())
        })
    }

    fn instances<'a>(&'a self, location: &'a str) -> Pages<'a, Instance> {
        one_page(move || Reader::instances(self, location))
    }

    async fn instance(&self, id: &ResourceId) -> Result<Instance> {
        let (space, container) = self.container(id).await?;
        let seen = read_one(&space, &container.id, self.config.deadline.0).await;
        let seen = match seen {
            Ok(seen) => seen,
            // The container is there all the same.
            Err(error) if error.kind() == ErrorKind::Unavailable => super::state::Seen::Silent,
            Err(error) => return Err(error),
        };
        Ok(instance(&self.scope, space.name(), &container, &seen))
    }

    fn sizes<'a>(&'a self, _location: &'a str) -> Pages<'a, Size> {
        one_page(async || Ok(self.flavours.sizes()?.into()))
    }

    fn images<'a>(&'a self, location: &'a str) -> Pages<'a, Image> {
        one_page(move || images::list(self, location))
    }

    fn prices<'a>(&'a self, location: &'a str) -> Pages<'a, Price> {
        one_page(async || Ok(self.flavours.prices(&self.scope, location)?.into()))
    }
}
