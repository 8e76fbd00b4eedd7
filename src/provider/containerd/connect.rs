//! The connection to containerd, and the requests that are made in one of its namespaces.

use std::sync::Arc;
use std::time::Duration;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::namespaces_client::NamespacesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::tonic::transport::Channel;
use tokio::sync::OnceCell;
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;

use super::config::{Config, bad_namespace};
use super::error;
use crate::{ErrorKind, Result};

/// Hundreds of containers with their specifications are more than gRPC's usual 4 MiB; containerd itself sends 16.
const LARGEST_MESSAGE: usize = 64 << 20;
/// A socket that nobody accepts on would hold the first call for ever.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection that is made at the first call and, once made, made again by itself when it breaks.
#[derive(Debug)]
pub(super) struct Connection {
    socket: String,
    channel: OnceCell<Channel>,
}

/// One namespace of a connection.
#[derive(Debug, Clone)]
pub(super) struct Space {
    connection: Arc<Connection>,
    name: String,
    header: AsciiMetadataValue,
    lease: Option<AsciiMetadataValue>,
}

macro_rules! clients {
    ($($name:ident: $client:ident),*) => {$(
        pub(super) async fn $name(&self) -> Result<$client<Channel>> {
            Ok($client::new(self.channel().await?).max_decoding_message_size(LARGEST_MESSAGE))
        }
    )*};
}

impl Connection {
    /// A connection to the socket that `config` names; nothing is connected yet.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a path that cannot be one.
    pub(super) fn new(config: &Config) -> Result<Arc<Self>> {
        if config.socket.is_empty() || config.socket.contains('\0') {
            let reason = "the path of the socket is empty or holds a NUL byte";
            return Err(error::failed(ErrorKind::Invalid, "connect to containerd", &config.socket, reason));
        }
        Ok(Arc::new(Self { socket: config.socket.clone(), channel: OnceCell::new() }))
    }

    /// The path of the socket.
    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    /// A namespace of it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a name that containerd would not take.
    pub(super) fn space(self: &Arc<Self>, namespace: &str) -> Result<Space> {
        let bad = |reason| error::failed(ErrorKind::Invalid, "use the namespace", namespace, reason);
        if let Some(reason) = bad_namespace(namespace) {
            return Err(bad(reason));
        }
        let header = namespace.parse().map_err(|_| bad("it cannot be sent"))?;
        Ok(Space { connection: Arc::clone(self), name: namespace.to_owned(), header, lease: None })
    }

    clients!(namespaces: NamespacesClient, events: EventsClient);

    async fn channel(&self) -> Result<Channel> {
        let connect = || async {
            let connecting = containerd_client::connect(&self.socket);
            match tokio::time::timeout(CONNECT, connecting).await {
                Ok(channel) => channel.map_err(|error| error::unconnected(&self.socket, error)),
                Err(_) => {
                    let reason = "nobody accepts at the socket; is containerd stuck?";
                    Err(error::failed(ErrorKind::Unavailable, "connect to containerd", &self.socket, reason))
                }
            }
        };
        self.channel.get_or_try_init(connect).await.cloned()
    }
}

impl Space {
    clients!(
        containers: ContainersClient,
        content: ContentClient,
        diff: DiffClient,
        images: ImagesClient,
        leases: LeasesClient,
        snapshots: SnapshotsClient,
        tasks: TasksClient
    );

    /// The namespace.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A request in this namespace, and under the lease if there is one.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", self.header.clone());
        if let Some(lease) = &self.lease {
            request.metadata_mut().insert("containerd-lease", lease.clone());
        }
        request
    }

    /// The same namespace; what is made in it is kept as long as the lease is there.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an id that cannot be sent.
    pub(super) fn leased(&self, lease: &str) -> Result<Self> {
        let header = lease.parse().map_err(|_| {
            error::failed(ErrorKind::Invalid, "use the lease", lease, "its id cannot be sent")
        })?;
        Ok(Self { lease: Some(header), ..self.clone() })
    }

    async fn channel(&self) -> Result<Channel> {
        self.connection.channel().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_namespace_and_lease() {
        let connection = Connection::new(&Config::default()).unwrap();
        let space = connection.space("k8s.io").unwrap();
        let request = space.request(());
        assert_eq!(request.metadata().get("containerd-namespace").unwrap(), "k8s.io");
        assert!(request.metadata().get("containerd-lease").is_none());
        let request = space.leased("l-1").unwrap().request(());
        assert_eq!(request.metadata().get("containerd-lease").unwrap(), "l-1");
        assert_eq!(connection.space("a b").unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[tokio::test]
    async fn a_missing_socket_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("none.sock").display().to_string();
        let connection = Connection::new(&Config { socket, ..Config::default() }).unwrap();
        let error = connection.namespaces().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.reason().contains("start containerd"), "{error}");
    }
}
