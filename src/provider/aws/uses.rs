//! What still uses a network or a subnet: EC2 only says that something does.

use std::collections::BTreeSet;
use std::future::Future;

use aws_sdk_ec2::types::{
    AttachmentStatus, EgressOnlyInternetGateway, Filter, Instance, InternetGateway, NatGateway, NetworkAcl,
    NetworkInterface, RouteTable, SecurityGroup, Tag, VpcEndpoint, VpcPeeringConnection, VpnGateway,
};

use super::AwsProvider;
use super::connect::filter;
use super::error::{Answered, failed};
use super::inventory::MOST;
use super::tags::{label, name, shown};
use crate::model::resource::{Kind, ResourceId};
use crate::{Error, ErrorKind, Result};

/// The most values of one filter.
const FILTERED: usize = 200;
/// Names that are written out; of more only the number.
const NAMED: usize = 12;

impl AwsProvider {
    /// Refuses to go on with a network or a subnet that something uses.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] with what uses it.
    pub(super) async fn refuse_used(&self, operation: &str, id: &ResourceId) -> Result<()> {
        let (uses, unseen) = self.uses(id).await;
        if uses.is_empty() {
            // What could not be looked for, EC2 refuses itself.
            return Ok(());
        }
        let more = uses.len().saturating_sub(NAMED);
        let mut reason = format!("it is used by {}", uses[..uses.len().min(NAMED)].join(", "));
        if more > 0 {
            reason.push_str(&format!(" and {more} more"));
        }
        if let Some(unseen) = unseen.first() {
            reason.push_str(&format!(" (not everything could be looked at: {unseen})"));
        }
        reason.push_str("; remove these first");
        Err(failed(ErrorKind::Conflict, operation, &self.label_of_network(id).await, reason))
    }

    /// A network or subnet by its name; by its id where that cannot be read.
    async fn label_of_network(&self, id: &ResourceId) -> String {
        let (ec2, native) = (self.session.ec2(&id.location), id.native_id.as_str());
        let tags = match id.kind {
            Kind::Subnet => {
                let answer = ec2.describe_subnets().subnet_ids(native).send().await;
                answer.ok().and_then(|answer| answer.subnets?.into_iter().next()?.tags)
            }
            _ => {
                let answer = ec2.describe_vpcs().vpc_ids(native).send().await;
                answer.ok().and_then(|answer| answer.vpcs?.into_iter().next()?.tags)
            }
        };
        label(id, tags.as_deref())
    }

    /// What uses it, in words, and what could not be looked at: one missing permission does not hide the rest.
    pub(super) async fn uses(&self, id: &ResourceId) -> (Vec<String>, Vec<Error>) {
        let (key, network) = match id.kind {
            Kind::Subnet => ("subnet-id", false),
            _ => ("vpc-id", true),
        };
        let by = |name: &str| filter(name, [id.native_id.as_str()]);
        let mut found = Found::default();
        found.take(self.interfaces_in(id, by(key))).await;
        found.take(self.nat_gateways_in(id, by(key))).await;
        if network {
            found.take(self.subnets_in(id, by(key))).await;
            found.take(self.gateways_of(id, by("attachment.vpc-id"))).await;
            found.take(self.egress_gateways_of(id)).await;
            found.take(self.vpn_gateways_of(id, by("attachment.vpc-id"))).await;
            found.take(self.endpoints_in(id, by(key))).await;
            found.take(self.groups_in(id, by(key))).await;
            found.take(self.tables_in(id, by(key))).await;
            found.take(self.access_lists_in(id, by(key))).await;
            found.take(self.peerings_of(id, by("requester-vpc-info.vpc-id"))).await;
            found.take(self.peerings_of(id, by("accepter-vpc-info.vpc-id"))).await;
        }
        (found.uses, found.unseen)
    }

    /// Instances with an interface here, whichever of theirs it is, and interfaces that are no instance's: those go with
    /// their instance.
    async fn interfaces_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_network_interfaces().max_results(MOST);
        let all = request.filters(by).into_paginator().items().send().try_collect().await;
        let all = all.answered("look for interfaces in", &id.native_id)?;
        let holder = |interface: &NetworkInterface| interface.attachment.as_ref()?.instance_id.clone();
        let holders: BTreeSet<String> = all.iter().filter_map(holder).collect();
        let mut uses = self.instances_called(id, &holders).await;
        let word = |interface: &NetworkInterface| {
            let what = interface.description.as_deref().filter(|what| !what.is_empty());
            let what = what.map(|what| format!(", {what:?}")).unwrap_or_default();
            let id = interface.network_interface_id.as_deref()?;
            Some(called("interface", id, interface.tag_set.as_deref()) + &what)
        };
        uses.extend(all.iter().filter(|interface| holder(interface).is_none()).filter_map(word));
        Ok(uses)
    }

    async fn instances_called(&self, id: &ResourceId, natives: &BTreeSet<String>) -> Vec<String> {
        if natives.is_empty() {
            return Vec::new();
        }
        let by = filter("instance-id", natives.iter().take(FILTERED));
        let word = |instance: &Instance| {
            Some(called("instance", instance.instance_id.as_deref()?, instance.tags.as_deref()))
        };
        match self.described_by("look for instances in", &id.location, by).await {
            Ok(known) => known.iter().filter_map(word).collect(),
            // Those that may not be read have their ids.
            Err(_) => natives.iter().map(|native| called("instance", native, None)).collect(),
        }
    }

    async fn nat_gateways_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let live = filter("state", ["pending", "available", "deleting"]);
        let request = self.session.ec2(&id.location).describe_nat_gateways().max_results(MOST);
        let all = request.filter(by).filter(live).into_paginator().items().send().try_collect().await;
        let all = all.answered("look for NAT gateways in", &id.native_id)?;
        let word = |gateway: &NatGateway| {
            Some(called("NAT gateway", gateway.nat_gateway_id.as_deref()?, gateway.tags.as_deref()))
        };
        Ok(all.iter().filter_map(word).collect())
    }

    async fn subnets_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let all = self.described_subnets("look for subnets of", &id.location, by).await?;
        let word = |subnet: &aws_sdk_ec2::types::Subnet| {
            Some(called("subnet", subnet.subnet_id.as_deref()?, subnet.tags.as_deref()))
        };
        Ok(all.iter().filter_map(word).collect())
    }

    async fn gateways_of(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_internet_gateways().max_results(MOST);
        let all = request.filters(by).into_paginator().items().send().try_collect().await;
        let all = all.answered("look for gateways of", &id.native_id)?;
        let word = |gateway: &InternetGateway| {
            Some(called("internet gateway", gateway.internet_gateway_id.as_deref()?, gateway.tags.as_deref()))
        };
        Ok(all.iter().filter_map(word).collect())
    }

    /// EC2 has no filter for whose they are.
    async fn egress_gateways_of(&self, id: &ResourceId) -> Result<Vec<String>> {
        let request =
            self.session.ec2(&id.location).describe_egress_only_internet_gateways().max_results(255);
        let all = request.into_paginator().items().send().try_collect().await;
        let all = all.answered("look for egress-only gateways of", &id.native_id)?;
        let here = |gateway: &&EgressOnlyInternetGateway| {
            let attached = gateway.attachments.as_deref().unwrap_or_default();
            attached.iter().any(|attached| attached.vpc_id.as_ref() == Some(&id.native_id))
        };
        let word = |gateway: &EgressOnlyInternetGateway| {
            let id = gateway.egress_only_internet_gateway_id.as_deref()?;
            Some(called("egress-only gateway", id, gateway.tags.as_deref()))
        };
        Ok(all.iter().filter(here).filter_map(word).collect())
    }

    async fn vpn_gateways_of(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_vpn_gateways().filters(by);
        let answer = request.send().await.answered("look for VPN gateways of", &id.native_id)?;
        // One that was here stays in the list.
        let here = |gateway: &&VpnGateway| {
            let mut attached = gateway.vpc_attachments.iter().flatten();
            let here = attached.find(|attached| attached.vpc_id.as_ref() == Some(&id.native_id));
            here.is_none_or(|here| here.state != Some(AttachmentStatus::Detached))
        };
        let word = |gateway: &VpnGateway| {
            Some(called("VPN gateway", gateway.vpn_gateway_id.as_deref()?, gateway.tags.as_deref()))
        };
        Ok(answer.vpn_gateways.iter().flatten().filter(here).filter_map(word).collect())
    }

    async fn endpoints_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_vpc_endpoints().max_results(MOST);
        let all = request.filters(by).into_paginator().items().send().try_collect().await;
        let all = all.answered("look for endpoints in", &id.native_id)?;
        let word = |endpoint: &VpcEndpoint| {
            let gone =
                endpoint.state.as_ref().is_some_and(|state| state.as_str().eq_ignore_ascii_case("deleted"));
            let id = endpoint.vpc_endpoint_id.as_deref().filter(|_| !gone)?;
            Some(called("endpoint", id, endpoint.tags.as_deref()))
        };
        Ok(all.iter().filter_map(word).collect())
    }

    /// The group that came with the network goes with it.
    async fn groups_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_security_groups().max_results(MOST);
        let all = request.filters(by).into_paginator().items().send().try_collect().await;
        let all: Vec<SecurityGroup> = all.answered("look for security groups of", &id.native_id)?;
        let others = all.iter().filter(|group| group.group_name.as_deref() != Some("default"));
        let word = |group: &SecurityGroup| {
            let name = group.group_name.as_deref().unwrap_or_default();
            Some(format!("security group {name} ({})", group.group_id.as_deref()?))
        };
        Ok(others.filter_map(word).collect())
    }

    /// The main table goes with the network.
    async fn tables_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_route_tables().max_results(100);
        let all = request.filters(by).into_paginator().items().send().try_collect().await;
        let all: Vec<RouteTable> = all.answered("look for route tables of", &id.native_id)?;
        let main = |table: &&RouteTable| {
            let joined = table.associations.as_deref().unwrap_or_default();
            joined.iter().any(|joined| joined.main == Some(true))
        };
        let word = |table: &RouteTable| {
            Some(called("route table", table.route_table_id.as_deref()?, table.tags.as_deref()))
        };
        Ok(all.iter().filter(|table| !main(table)).filter_map(word).collect())
    }

    /// The default list goes with the network.
    async fn access_lists_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_network_acls().max_results(MOST);
        let all = request.filters(by).into_paginator().items().send().try_collect().await;
        let all: Vec<NetworkAcl> = all.answered("look for network ACLs of", &id.native_id)?;
        let others = all.iter().filter(|list| list.is_default != Some(true));
        let word = |list: &NetworkAcl| {
            Some(called("network ACL", list.network_acl_id.as_deref()?, list.tags.as_deref()))
        };
        Ok(others.filter_map(word).collect())
    }

    async fn peerings_of(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let live = filter("status-code", ["pending-acceptance", "provisioning", "active"]);
        let request = self.session.ec2(&id.location).describe_vpc_peering_connections().max_results(MOST);
        let all = request.filters(by).filters(live).into_paginator().items().send().try_collect().await;
        let all: Vec<VpcPeeringConnection> = all.answered("look for peerings of", &id.native_id)?;
        let word = |peering: &VpcPeeringConnection| {
            Some(called("peering", peering.vpc_peering_connection_id.as_deref()?, peering.tags.as_deref()))
        };
        Ok(all.iter().filter_map(word).collect())
    }
}

#[derive(Default)]
struct Found {
    uses: Vec<String>,
    unseen: Vec<Error>,
}

impl Found {
    async fn take(&mut self, look: impl Future<Output = Result<Vec<String>>>) {
        match look.await {
            Ok(uses) => self.uses.extend(uses),
            Err(error) => self.unseen.push(error),
        }
    }
}

fn called(what: &str, id: &str, tags: Option<&[Tag]>) -> String {
    match name(&shown(tags)) {
        Some(name) => format!("{what} {name} ({id})"),
        None => format!("{what} {id}"),
    }
}
