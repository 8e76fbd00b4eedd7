//! Measures instances and volumes by CloudWatch.

use async_trait::async_trait;

use super::config::Config;
use super::error::failed;
use crate::provider::{Collection, Collector, Shard, Window};
use crate::{ErrorKind, Result};

/// Measures the instances and volumes of the accounts of one source.
#[derive(Debug)]
pub struct AwsCollector {
    config: Config,
}

impl AwsCollector {
    /// A collector for the accounts that `config` names; nobody is asked yet.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what cannot be.
    pub fn new(config: &Config) -> Result<Self> {
        match config.wrong().into_iter().next() {
            Some((key, reason)) => Err(failed(ErrorKind::Invalid, "measure", key, reason)),
            None => Ok(Self { config: config.clone() }),
        }
    }
}

#[async_trait]
impl Collector for AwsCollector {
    async fn discover(&self) -> Result<Vec<Shard>> {
        Ok(self.config.all_accounts().iter().map(|account| Shard(account.label().to_owned())).collect())
    }

    async fn collect(&self, _shard: &Shard, _window: Window) -> Result<Collection> {
        Ok(Collection::default())
    }
}
