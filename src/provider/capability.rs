//! What a provider can do, as plain data: known before any call is made.

use serde::Serialize;

use super::action::Action;
use crate::model::resource::Kind;

/// What a provider can do. A verb that is absent is refused as unsupported before anything is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Capabilities {
    /// Instances can be listed.
    pub instances: bool,
    /// Instances can be made and deleted, started and stopped.
    pub lifecycle: bool,
    /// Instances end by themselves when their work is done, as containers do.
    pub ends_by_itself: bool,
    /// Instances can be suspended and resumed.
    pub suspend: bool,
    /// A running instance can get another size.
    pub resize_live: bool,
    /// A stopped instance can get another size.
    pub resize_stopped: bool,
    /// Volumes.
    pub volumes: bool,
    /// Volumes can be attached and detached.
    pub attach: bool,
    /// A volume can begin as a copy of another.
    pub clone_volume: bool,
    /// A volume can begin with the content of a snapshot.
    pub volume_from_snapshot: bool,
    /// A volume can get another class or other figures.
    pub change_volume: bool,
    /// Snapshots can be listed.
    pub snapshots: bool,
    /// Snapshots can be made and deleted.
    pub make_snapshots: bool,
    /// Snapshots can be copied to another region.
    pub copy_snapshots: bool,
    /// An instance can go back to a snapshot.
    pub revert: bool,
    /// Networks can be listed.
    pub networks: bool,
    /// Networks can be made and deleted.
    pub make_networks: bool,
    /// Subnets can be listed.
    pub subnets: bool,
    /// Subnets can be made and deleted apart from their network.
    pub make_subnets: bool,
    /// Images can be listed.
    pub images: bool,
    /// Images can be read from an archive.
    pub import_images: bool,
    /// Images can be deleted.
    pub delete_images: bool,
    /// Sizes have names.
    pub sizes: bool,
    /// Prices can be known.
    pub prices: bool,
    /// Regions have zones.
    pub zones: bool,
    /// The provider takes a token for a call, so that the call can be repeated safely.
    pub client_token: bool,
    /// The provider can say whether a call is permitted without doing it.
    pub native_dry_run: bool,
    /// The provider has a guard of its own against deletion.
    pub protection: bool,
}

impl Capabilities {
    /// All of it: of a provider that could not be asked, and that answers everything with the reason.
    pub fn everything() -> Self {
        Self {
            instances: true,
            lifecycle: true,
            ends_by_itself: true,
            suspend: true,
            resize_live: true,
            resize_stopped: true,
            volumes: true,
            attach: true,
            clone_volume: true,
            volume_from_snapshot: true,
            change_volume: true,
            snapshots: true,
            make_snapshots: true,
            copy_snapshots: true,
            revert: true,
            networks: true,
            make_networks: true,
            subnets: true,
            make_subnets: true,
            images: true,
            import_images: true,
            delete_images: true,
            sizes: true,
            prices: true,
            zones: true,
            client_token: true,
            native_dry_run: true,
            protection: true,
        }
    }

    /// Whether this kind of resource can be listed.
    pub fn lists(&self, kind: Kind) -> bool {
        match kind {
            Kind::Instance => self.instances,
            Kind::Size => self.sizes,
            Kind::Image => self.images,
            Kind::Volume => self.volumes,
            Kind::Snapshot => self.snapshots,
            Kind::Network => self.networks,
            Kind::Subnet => self.subnets,
            Kind::Region => true,
            Kind::Zone => self.zones,
            Kind::Price => self.prices,
        }
    }

    /// Whether this can be done.
    pub fn allows(&self, action: &Action) -> bool {
        match action {
            Action::CreateInstance { .. }
            | Action::Start { .. }
            | Action::Stop { .. }
            | Action::Restart { .. }
            | Action::DeleteInstance { .. } => self.lifecycle,
            Action::Suspend { .. } | Action::Resume { .. } => self.suspend,
            Action::Resize { .. } => self.resize_live || self.resize_stopped,
            Action::Protect { .. } => self.protection,
            Action::CreateVolume { spec } => {
                let source = match spec.from.as_ref().map(|from| from.kind) {
                    None => true,
                    Some(Kind::Snapshot) => self.volume_from_snapshot,
                    Some(_) => self.clone_volume,
                };
                self.volumes && source
            }
            Action::GrowVolume { .. } | Action::DeleteVolume { .. } => self.volumes,
            Action::ChangeVolume { .. } => self.change_volume,
            Action::AttachVolume { .. } | Action::DetachVolume { .. } => self.attach,
            Action::CreateSnapshot { .. } | Action::DeleteSnapshot { .. } => self.make_snapshots,
            Action::CopySnapshot { .. } => self.copy_snapshots,
            Action::RevertSnapshot { .. } => self.revert,
            Action::CreateNetwork { .. } | Action::DeleteNetwork { .. } => self.make_networks,
            Action::CreateSubnet { .. } | Action::DeleteSubnet { .. } => self.make_subnets,
            Action::ImportImage { .. } => self.import_images,
            Action::DeleteImage { .. } => self.delete_images,
        }
    }
}
