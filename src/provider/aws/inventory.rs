//! What an account has, region by region. Every list asks for pages, because EC2 without a page size answers with all it has
//! or with an error; and none asks with an empty list of ids, which for EC2 means everything.

use async_trait::async_trait;
use aws_sdk_ec2::types::{self, Vpc};

use super::AwsProvider;
use super::calls::bytes;
use super::error::{Answered, failed};
use super::tags::{name, shown};
use crate::model::resource::{
    Image, Instance, Kind, Network, Price, Region, ResourceId, Size, Snapshot, Subnet, Volume, Zone,
};
use crate::provider::listing::{Listing, one_page, token_pages};
use crate::provider::{Inventory, Page, Pages};
use crate::{Error, ErrorKind, Result};

/// The most that EC2 gives in one page of most lists.
pub(super) const MOST: i32 = 1_000;
/// The most of volumes: more may be cut short, says EC2's reference.
pub(super) const MOST_VOLUMES: i32 = 500;

/// A page and the token of the next one.
pub(super) type Paged<T> = Result<(Page<T>, Option<String>)>;

#[async_trait]
impl Inventory for AwsProvider {
    fn regions(&self) -> Pages<'_, Region> {
        one_page(move || self.regions_page())
    }

    fn instances<'a>(&'a self, location: &'a str) -> Pages<'a, Instance> {
        token_pages(move |token| self.instances_page(location, token))
    }

    async fn instance(&self, id: &ResourceId) -> Result<Instance> {
        self.instance_now("read", id).await
    }

    fn zones<'a>(&'a self, location: &'a str) -> Pages<'a, Zone> {
        one_page(move || self.zones_page(location))
    }

    fn sizes<'a>(&'a self, location: &'a str) -> Pages<'a, Size> {
        token_pages(move |token| self.sizes_page(location, token))
    }

    fn images<'a>(&'a self, location: &'a str) -> Pages<'a, Image> {
        token_pages(move |token| self.images_page(location, token))
    }

    fn volumes<'a>(&'a self, location: &'a str) -> Pages<'a, Volume> {
        token_pages(move |token| self.volumes_page(location, token))
    }

    fn snapshots<'a>(&'a self, location: &'a str) -> Pages<'a, Snapshot> {
        token_pages(move |token| self.snapshots_page(location, token))
    }

    fn networks<'a>(&'a self, location: &'a str) -> Pages<'a, Network> {
        token_pages(move |token| self.networks_page(location, token))
    }

    fn subnets<'a>(&'a self, location: &'a str) -> Pages<'a, Subnet> {
        token_pages(move |token| self.subnets_page(location, token))
    }

    fn prices<'a>(&'a self, location: &'a str) -> Pages<'a, Price> {
        token_pages(move |token| self.prices_page(location, token))
    }
}

impl AwsProvider {
    /// The id of something in a region.
    pub(super) fn id(&self, region: &str, kind: Kind, native_id: impl Into<String>) -> ResourceId {
        self.scope.id(region, kind, native_id)
    }

    /// The regions that the file names, else all that there are, with whether the account may use them.
    async fn regions_page(&self) -> Result<Page<Region>> {
        let found: Vec<(String, Option<bool>)> = match self.session.named_regions() {
            Some(named) => named.into_iter().map(|name| (name, None)).collect(),
            None => {
                let all = self.session.all_regions().await?;
                all.into_iter().map(|region| (region.name, Some(region.enabled))).collect()
            }
        };
        let mut regions: Vec<_> = found
            .into_iter()
            .filter(|(name, _)| !self.session.excludes(name))
            .map(|(name, enabled)| Region {
                id: self.id("", Kind::Region, name.as_str()),
                name: Some(name),
                enabled,
            })
            .collect();
        regions.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(regions.into())
    }

    async fn zones_page(&self, region: &str) -> Result<Page<Zone>> {
        let answer = self.session.ec2(region).describe_availability_zones().send().await;
        let answer = answer.answered("list the zones of", region)?;
        Ok(page(answer.availability_zones, "zone", region, |zone| {
            Some(Zone {
                id: self.id(region, Kind::Zone, zone.zone_name.as_ref()?),
                region: zone.region_name.clone().unwrap_or_else(|| region.to_owned()),
                zone_id: zone.zone_id.clone(),
                provider_state: zone.state.as_ref().map(|state| state.as_str().to_owned()),
            })
        }))
    }

    /// The names of a region's zones.
    ///
    /// # Errors
    /// Those of `DescribeAvailabilityZones`.
    pub(super) async fn zones_of_region(
        &self,
        operation: &str,
        name: &str,
        region: &str,
    ) -> Result<Vec<String>> {
        let answer = self.session.ec2(region).describe_availability_zones().send().await;
        let zones = answer.answered(operation, name)?.availability_zones.unwrap_or_default();
        Ok(zones.into_iter().filter_map(|zone| zone.zone_name).collect())
    }

    /// Refuses a zone that a region does not have.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with those that it has; those of `DescribeAvailabilityZones`.
    pub(super) async fn refuse_zone(
        &self,
        operation: &str,
        name: &str,
        region: &str,
        zone: Option<&str>,
    ) -> Result<()> {
        let Some(zone) = zone else { return Ok(()) };
        let zones = self.zones_of_region(operation, name, region).await?;
        if zones.iter().any(|known| known == zone) {
            return Ok(());
        }
        let reason = format!("{region} has no zone {zone}; choose one of {}", zones.join(", "));
        Err(failed(ErrorKind::Invalid, operation, name, reason))
    }

    async fn volumes_page(&self, region: &str, token: Option<String>) -> Paged<Volume> {
        let answer = self.session.ec2(region).describe_volumes().max_results(MOST_VOLUMES);
        let answer = answer.set_next_token(token).send().await.answered("list the volumes of", region)?;
        let page = page(answer.volumes, "volume", region, |volume| self.volume_of(region, volume));
        Ok((page, answer.next_token))
    }

    /// A volume as EC2 describes it.
    pub(super) fn volume_of(&self, region: &str, volume: &types::Volume) -> Option<Volume> {
        let tags = shown(volume.tags.as_deref());
        let attached = volume.attachments.as_deref().unwrap_or_default().iter();
        let attached = attached.filter_map(|attachment| attachment.instance_id.as_deref());
        Some(Volume {
            id: self.id(region, Kind::Volume, volume.volume_id.as_ref()?),
            name: name(&tags),
            class: volume.volume_type.as_ref().map(|class| class.as_str().to_owned()),
            format: None,
            size_bytes: bytes(volume.size),
            allocated_bytes: None,
            iops: volume.iops.and_then(|iops| u64::try_from(iops).ok()),
            throughput_bytes: volume.throughput.and_then(|mib| u64::try_from(mib).ok()).map(|mib| mib << 20),
            encrypted: volume.encrypted,
            zone: volume.availability_zone.clone(),
            attached_to: attached.map(|id| self.id(region, Kind::Instance, id)).collect(),
            provider_state: volume.state.as_ref().map(|state| state.as_str().to_owned()),
            tags,
            created_at: super::calls::at(volume.create_time.as_ref()),
        })
    }

    /// The account's own snapshots alone: what others share with it is not its.
    async fn snapshots_page(&self, region: &str, token: Option<String>) -> Paged<Snapshot> {
        let request = self.session.ec2(region).describe_snapshots().owner_ids("self").max_results(MOST);
        let answer = request.set_next_token(token).send().await.answered("list the snapshots of", region)?;
        let mut found = answer.snapshots;
        if let Some(found) = &mut found {
            found.retain(|snapshot| {
                snapshot.owner_id.as_ref().is_none_or(|owner| *owner == self.scope.account)
            });
        }
        let page = page(found, "snapshot", region, |snapshot| self.snapshot_of(region, snapshot));
        Ok((page, answer.next_token))
    }

    /// A snapshot as EC2 describes it.
    pub(super) fn snapshot_of(&self, region: &str, snapshot: &types::Snapshot) -> Option<Snapshot> {
        let tags = shown(snapshot.tags.as_deref());
        // A copy from elsewhere names a volume that there never was.
        let of = snapshot.volume_id.as_ref().filter(|volume| *volume != "vol-ffffffff");
        Some(Snapshot {
            id: self.id(region, Kind::Snapshot, snapshot.snapshot_id.as_ref()?),
            name: name(&tags),
            of: of.map(|volume| self.id(region, Kind::Volume, volume)),
            parent: None,
            size_bytes: snapshot.full_snapshot_size_in_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
            provider_state: snapshot.state.as_ref().map(|state| state.as_str().to_owned()),
            current: None,
            tags,
            created_at: super::calls::at(snapshot.start_time.as_ref()),
        })
    }

    async fn networks_page(&self, region: &str, token: Option<String>) -> Paged<Network> {
        let request = self.session.ec2(region).describe_vpcs().max_results(MOST);
        let answer = request.set_next_token(token).send().await.answered("list the networks of", region)?;
        Ok((page(answer.vpcs, "network", region, |vpc| self.network_of(region, vpc)), answer.next_token))
    }

    fn network_of(&self, region: &str, vpc: &Vpc) -> Option<Network> {
        let tags = shown(vpc.tags.as_deref());
        let more = vpc.cidr_block_association_set.as_deref().unwrap_or_default().iter();
        let mut cidrs: Vec<String> =
            vpc.cidr_block.iter().cloned().chain(more.filter_map(|more| more.cidr_block.clone())).collect();
        cidrs.dedup();
        let default = vpc.is_default == Some(true);
        Some(Network {
            id: self.id(region, Kind::Network, vpc.vpc_id.as_ref()?),
            name: name(&tags),
            mode: default.then(|| "default".into()),
            cidrs,
            active: vpc.state.as_ref().map(|state| *state == types::VpcState::Available),
            bridge: None,
            tags,
        })
    }

    async fn subnets_page(&self, region: &str, token: Option<String>) -> Paged<Subnet> {
        let request = self.session.ec2(region).describe_subnets().max_results(MOST);
        let answer = request.set_next_token(token).send().await.answered("list the subnets of", region)?;
        let page = page(answer.subnets, "subnet", region, |subnet| {
            let tags = shown(subnet.tags.as_deref());
            Some(Subnet {
                id: self.id(region, Kind::Subnet, subnet.subnet_id.as_ref()?),
                name: name(&tags),
                network: self.id(region, Kind::Network, subnet.vpc_id.as_ref()?),
                cidr: subnet.cidr_block.clone(),
                gateway: None,
                free_addresses: subnet.available_ip_address_count.and_then(|free| u64::try_from(free).ok()),
                zone: subnet.availability_zone.clone(),
                tags,
            })
        });
        Ok((page, answer.next_token))
    }
}

/// A page of what EC2 described. One that lacks what it has to have is an error beside the others.
pub(super) fn page<E, T>(
    found: Option<Vec<E>>,
    what: &str,
    region: &str,
    read: impl Fn(&E) -> Option<T>,
) -> Page<T> {
    let mut listing = Listing::default();
    for one in found.iter().flatten() {
        match read(one) {
            Some(item) => listing.items.push(item),
            None => listing.errors.push(unreadable(what, region)),
        }
    }
    Page { items: listing.items, errors: listing.errors }
}

/// EC2 described something without saying what.
pub(super) fn unreadable(what: &str, region: &str) -> Error {
    let reason = format!("EC2 described a {what} without its id, so it is left out");
    failed(ErrorKind::Unavailable, "read", region, reason)
}
