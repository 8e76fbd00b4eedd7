//! Management of EC2: what this provider can do, and who does it. One provider is one account.

use async_trait::async_trait;

use super::PROVIDER;
use super::config::{Account, Config};
use super::connect::Session;
use super::lately::{Lately, since};
use super::price_list::PriceList;
use super::sizes::Known;
use crate::Result;
use crate::model::Timestamp;
use crate::model::resource::Instance;
use crate::provider::{
    Action, Capabilities, Images, Inventory, Lifecycle, Networks, Past, Plan, Pricing, Provider, Scope,
    Snapshots, Token, Volumes,
};

/// Manages the instances, volumes, snapshots and networks of one account, in all of its regions.
#[derive(Debug)]
pub struct AwsProvider {
    pub(super) scope: Scope,
    pub(super) session: Session,
    /// Sizes that EC2 was asked about.
    pub(super) sizes: Known,
    /// Prices that the Price List was asked for.
    pub(super) prices: PriceList,
    /// What was made so lately that EC2 may not know it yet.
    pub(super) young: Lately<String>,
    /// Steps whose call may have been heard, though nobody heard its answer.
    pub(super) begun: Lately<Token>,
}

impl AwsProvider {
    /// Signs in to an account of a source.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Auth`] if no credentials can be had or AWS does not accept them.
    pub async fn open(config: &Config, account: &Account) -> Result<Self> {
        let session = Session::sign_in(config, account).await?;
        Ok(Self {
            scope: Scope { provider: PROVIDER, account: session.id().to_owned() },
            session,
            sizes: Known::default(),
            prices: PriceList::default(),
            young: Lately::default(),
            begun: Lately::default(),
        })
    }
}

#[async_trait]
impl Provider for AwsProvider {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            instances: true,
            lifecycle: true,
            ends_by_itself: false,
            // Of instances that were made with hibernation.
            suspend: true,
            // EC2 changes the type of a stopped instance alone.
            resize_live: false,
            resize_stopped: true,
            volumes: true,
            attach: true,
            clone_volume: false,
            volume_from_snapshot: true,
            change_volume: true,
            snapshots: true,
            make_snapshots: true,
            copy_snapshots: true,
            revert: false,
            networks: true,
            make_networks: true,
            subnets: true,
            make_subnets: true,
            images: true,
            import_images: false,
            delete_images: true,
            sizes: true,
            prices: true,
            zones: true,
            client_token: true,
            native_dry_run: true,
            protection: true,
        }
    }

    fn inventory(&self) -> &dyn Inventory {
        self
    }

    fn lifecycle(&self) -> Option<&dyn Lifecycle> {
        Some(self)
    }

    fn volumes(&self) -> Option<&dyn Volumes> {
        Some(self)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn networks(&self) -> Option<&dyn Networks> {
        Some(self)
    }

    fn images(&self) -> Option<&dyn Images> {
        Some(self)
    }

    fn pricing(&self) -> Option<&dyn Pricing> {
        Some(self)
    }

    fn remember(&self, past: Past<'_>, at: Timestamp) {
        match past {
            Past::Made(id) => self.young.add(id.native_id.clone(), since(at)),
            Past::Begun(token) => self.begun.add(token, since(at)),
        }
    }

    async fn plan(&self, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
        let plan = self.planned(wanted, now).await?;
        self.permitted(plan).await
    }
}
