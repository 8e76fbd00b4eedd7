//! libvirt's guests, from outside: one shard per connection URI.
//!
//! libvirt's calls block, cannot be cancelled, and wait for guests that do not answer. So there are two questions, on
//! different connections and threads: a fast one that never enters a guest's monitor ([`sys::FAST`]), and a slow one
//! that may hang ([`slow`]). Rows are made of what came in time, and a guest that did not answer is named.

mod attach;
mod change;
mod config;
mod connect;
mod definition;
mod domain;
mod error;
mod host;
mod inventory;
mod job;
mod lifecycle;
mod link;
mod listing;
mod mailbox;
mod mapping;
mod memory;
mod metrics;
mod networks;
mod planning;
mod poll;
mod pricing;
mod provider;
mod raw;
mod remove;
mod resize;
mod slow;
mod snapshots;
mod state;
mod stop;
mod storage;
mod surroundings;
mod sys;
mod tell;
mod volumes;
mod workers;
mod xml;

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use config::Config;
pub use provider::KvmProvider;

use self::poll::Poller;
use self::provider::scope;
use super::mapping::params;
use super::{Collection, Collector, Shard, Window};
use crate::{Error, Result};

/// Measures the guests of one libvirt connection.
///
/// New guests appear and vanished ones end by themselves, with a last `status` row whose state is `Deleted`.
#[derive(Debug)]
pub struct KvmCollector {
    shard: Shard,
    requests: Mutex<Option<SyncSender<Request>>>,
}

enum Request {
    Discover(oneshot::Sender<Result<()>>),
    Collect(Window, oneshot::Sender<Result<Collection>>),
}

/// Requests that may wait for the polling thread: one collection and one discovery never overlap with themselves.
const QUEUE: usize = 2;

/// A healthy guest takes some 10 ms; below this a deadline finds only stuck ones.
const MIN_DEADLINE: Duration = Duration::from_millis(100);

impl KvmCollector {
    /// A collector for the connection that `config` names; nothing is connected yet.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a URI that cannot be one, a deadline that none can keep or a metric that is wrong, [`crate::ErrorKind::Unavailable`] if the system
    /// gives no threads.
    pub fn new(config: &Config) -> Result<Self> {
        if let Some(wrong) = config.wrong_uri() {
            return Err(Error::invalid("connect", wrong).with_provider("kvm"));
        }
        if config.deadline.0 < MIN_DEADLINE {
            let reason = format!("the deadline is {}; write at least 100ms", config.deadline);
            return Err(Error::invalid("connect", reason).with_provider("kvm"));
        }
        let mut poller = Poller::new(config)?;
        let (requests, queue) = sync_channel(QUEUE);
        thread::Builder::new()
            .name("kvm".into())
            .spawn(move || {
                for request in queue {
                    // Nobody listens any more when the asker gave up.
                    match request {
                        Request::Discover(answer) => drop(answer.send(poller.discover())),
                        Request::Collect(window, answer) => drop(answer.send(poller.collect(window))),
                    }
                }
            })
            .map_err(|error| {
                Error::unavailable("start a thread", "the system gives no more threads")
                    .with_provider("kvm")
                    .with_source(error)
            })?;
        Ok(Self { shard: Shard(config.uri.clone()), requests: Mutex::new(Some(requests)) })
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let unavailable = |reason: &str| {
            Error::unavailable("ask libvirt", reason)
                .with_provider("kvm")
                .with_resource(self.shard.0.as_str())
        };
        let (sender, answer) = oneshot::channel();
        let sent = self.requests.lock().as_ref().is_some_and(|queue| queue.try_send(request(sender)).is_ok());
        if !sent {
            return Err(unavailable("the collector is closed, or still busy with earlier requests"));
        }
        answer.await.map_err(|_| unavailable("the polling thread failed"))?
    }
}

#[async_trait]
impl Collector for KvmCollector {
    async fn discover(&self) -> Result<Vec<Shard>> {
        self.ask(Request::Discover).await?;
        Ok(vec![self.shard.clone()])
    }

    async fn collect(&self, _shard: &Shard, window: Window) -> Result<Collection> {
        self.ask(|answer| Request::Collect(window, answer)).await
    }

    async fn close(&self) {
        // The threads end when they come back from their last calls; one inside a stuck guest may never.
        self.requests.lock().take();
    }
}

#[cfg(test)]
mod manage_tests;
#[cfg(test)]
mod tests;
