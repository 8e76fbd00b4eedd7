//! The HTTP side of a running pipeline: `/healthz`, `/readyz` and `/metrics`, on loopback unless told otherwise.
//!
//! A server that others can reach demands a token for everything but the two probes, which tell nothing else than
//! yes or no there.

mod access;
mod health;
mod metrics;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::model::Secret;
use crate::pipeline::{Metrics, Monitor};
use crate::{Error, ErrorKind, Result};

/// Where the server listens if nothing else is said.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:9273";

/// What the handlers read.
#[derive(Clone)]
pub struct Observed {
    metrics: Arc<Metrics>,
    // Empty until the pipeline has started: the server answers before, so that probes see the start.
    monitor: Arc<OnceLock<Monitor>>,
    token: Option<Secret>,
}

/// A server that holds its port and does not answer yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    observed: Observed,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// The port is taken or not allowed; or `address` can be reached from other machines and there is no token.
    pub async fn bind(address: SocketAddr, token: Option<Secret>, metrics: Metrics) -> Result<Self> {
        let refused = |kind, reason: String| {
            Err(Error::new(kind, "listen on", reason).with_resource(address.to_string()))
        };
        if !address.ip().is_loopback() && token.is_none() {
            let reason = "other machines can reach this address, so a token is needed: set BAROGRAPH_TOKEN, or \
                          listen on 127.0.0.1";
            return refused(ErrorKind::Protected, reason.into());
        }
        let bound = TcpListener::bind(address).await.and_then(|listener| {
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) = match bound {
            Ok(bound) => bound,
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let reason =
                    "another process has the port; choose one with --listen 127.0.0.1:PORT, or --listen none";
                return refused(ErrorKind::Conflict, reason.into());
            }
            Err(error) => {
                let reason = format!("{error}; choose another address with --listen ADDR, or --listen none");
                return refused(ErrorKind::Denied, reason);
            }
        };
        let observed = Observed { metrics: Arc::new(metrics), monitor: Arc::default(), token };
        Ok(Self { listener, address, observed })
    }

    /// The address, with the port that the system chose if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the handlers read; tell it when the pipeline has started.
    pub fn observed(&self) -> Observed {
        self.observed.clone()
    }

    /// Answers until `stop` is cancelled.
    ///
    /// # Errors
    /// The listening socket failed.
    pub async fn run(self, stop: CancellationToken) -> Result<()> {
        let router = router(self.observed, !self.address.ip().is_loopback());
        axum::serve(self.listener, router).with_graceful_shutdown(stop.cancelled_owned()).await.map_err(
            |error| {
                Error::unavailable("serve on", "the socket failed")
                    .with_resource(self.address.to_string())
                    .with_source(error)
            },
        )
    }
}

impl Observed {
    /// The pipeline has started; the first one counts.
    pub fn started(&self, monitor: Monitor) {
        // A second start would be a fault of the caller that harms nobody.
        let _ = self.monitor.set(monitor);
    }
}

fn router(observed: Observed, remote: bool) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics::metrics))
        .route_layer(axum::middleware::from_fn_with_state(observed.clone(), access::demand_token));
    let probes = if remote {
        Router::new().route("/healthz", get(health::healthz)).route("/readyz", get(health::readyz_briefly))
    } else {
        Router::new().route("/healthz", get(health::healthz)).route("/readyz", get(health::readyz))
    };
    probes.merge(guarded).with_state(observed)
}

#[cfg(test)]
mod tests;
