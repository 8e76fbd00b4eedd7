//! Management of EC2: what this provider can do, and who does it. One provider is one account.

use super::PROVIDER;
use super::config::{Account, Config};
use super::connect::Session;
use crate::Result;
use crate::provider::Scope;

/// Manages the instances, volumes, snapshots and networks of one account, in all of its regions.
#[derive(Debug)]
pub struct AwsProvider {
    pub(super) scope: Scope,
    pub(super) session: Session,
}

impl AwsProvider {
    /// Signs in to an account of a source.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Auth`] if no credentials can be had or AWS does not accept them.
    pub async fn open(config: &Config, account: &Account) -> Result<Self> {
        let session = Session::sign_in(config, account).await?;
        Ok(Self { scope: Scope { provider: PROVIDER, account: session.id().to_owned() }, session })
    }
}
