//! What still uses a network or a subnet: EC2 only says that something does.

use std::future::Future;

use aws_sdk_ec2::types::{Filter, Tag};

use super::AwsProvider;
use super::connect::filter;
use super::error::{Answered, failed};
use super::inventory::MOST;
use super::tags::{name, shown};
use crate::model::resource::{Kind, ResourceId};
use crate::{Error, ErrorKind, Result};

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
        Err(failed(ErrorKind::Conflict, operation, &id.native_id, reason))
    }

    /// What uses it, in words, and what could not be looked at: one missing permission does not hide the rest.
    pub(super) async fn uses(&self, id: &ResourceId) -> (Vec<String>, Vec<Error>) {
        let (key, network) = match id.kind {
            Kind::Subnet => ("subnet-id", false),
            _ => ("vpc-id", true),
        };
        let by = |name: &str| filter(name, [id.native_id.as_str()]);
        let mut found = Found::default();
        found.take(self.instances_in(id, by(key))).await;
        found.take(self.interfaces_in(id, by(key))).await;
        found.take(self.nat_gateways_in(id, by(key))).await;
        if network {
            found.take(self.subnets_in(id, by(key))).await;
            found.take(self.gateways_of(id, by("attachment.vpc-id"))).await;
            found.take(self.endpoints_in(id, by(key))).await;
            found.take(self.groups_in(id, by(key))).await;
            found.take(self.tables_in(id, by(key))).await;
            found.take(self.peerings_of(id, by("requester-vpc-info.vpc-id"))).await;
            found.take(self.peerings_of(id, by("accepter-vpc-info.vpc-id"))).await;
        }
        (found.uses, found.unseen)
    }

    async fn instances_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let all = self.described_by("look for instances in", &id.location, by).await?;
        let word = |instance: &aws_sdk_ec2::types::Instance| {
            Some(called("instance", instance.instance_id.as_deref()?, instance.tags.as_deref()))
        };
        Ok(all.iter().filter_map(word).collect())
    }

    /// Interfaces that are no instance's: those go with their instance.
    async fn interfaces_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_network_interfaces().max_results(MOST);
        let answer = request.filters(by).send().await.answered("look for interfaces in", &id.native_id)?;
        let all = answer.network_interfaces.unwrap_or_default();
        let others = all.iter().filter(|interface| {
            interface.attachment.as_ref().and_then(|attachment| attachment.instance_id.as_ref()).is_none()
        });
        let word = |interface: &aws_sdk_ec2::types::NetworkInterface| {
            let what = interface.description.as_deref().filter(|what| !what.is_empty());
            let what = what.map(|what| format!(", {what:?}")).unwrap_or_default();
            let id = interface.network_interface_id.as_deref()?;
            Some(called("interface", id, interface.tag_set.as_deref()) + &what)
        };
        Ok(others.filter_map(word).collect())
    }

    async fn nat_gateways_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let live = filter("state", ["pending", "available", "deleting"]);
        let request = self.session.ec2(&id.location).describe_nat_gateways().max_results(MOST);
        let request = request.filter(by).filter(live);
        let answer = request.send().await.answered("look for NAT gateways in", &id.native_id)?;
        let all = answer.nat_gateways.unwrap_or_default();
        let word = |gateway: &aws_sdk_ec2::types::NatGateway| {
            Some(called("NAT gateway", gateway.nat_gateway_id.as_deref()?, gateway.tags.as_deref()))
        };
        Ok(all.iter().filter_map(word).collect())
    }

    async fn subnets_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_subnets().max_results(MOST).filters(by);
        let answer = request.send().await.answered("look for subnets of", &id.native_id)?;
        let all = answer.subnets.unwrap_or_default();
        let word = |subnet: &aws_sdk_ec2::types::Subnet| {
            Some(called("subnet", subnet.subnet_id.as_deref()?, subnet.tags.as_deref()))
        };
        Ok(all.iter().filter_map(word).collect())
    }

    async fn gateways_of(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_internet_gateways().max_results(MOST);
        let answer = request.filters(by).send().await.answered("look for gateways of", &id.native_id)?;
        let all = answer.internet_gateways.unwrap_or_default();
        let word = |gateway: &aws_sdk_ec2::types::InternetGateway| {
            Some(called("internet gateway", gateway.internet_gateway_id.as_deref()?, gateway.tags.as_deref()))
        };
        Ok(all.iter().filter_map(word).collect())
    }

    async fn endpoints_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_vpc_endpoints().max_results(MOST);
        let answer = request.filters(by).send().await.answered("look for endpoints in", &id.native_id)?;
        let all = answer.vpc_endpoints.unwrap_or_default();
        let word = |endpoint: &aws_sdk_ec2::types::VpcEndpoint| {
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
        let answer =
            request.filters(by).send().await.answered("look for security groups of", &id.native_id)?;
        let all = answer.security_groups.unwrap_or_default();
        let others = all.iter().filter(|group| group.group_name.as_deref() != Some("default"));
        let word = |group: &aws_sdk_ec2::types::SecurityGroup| {
            let name = group.group_name.as_deref().unwrap_or_default();
            Some(format!("security group {name} ({})", group.group_id.as_deref()?))
        };
        Ok(others.filter_map(word).collect())
    }

    /// The main table goes with the network.
    async fn tables_in(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(&id.location).describe_route_tables().max_results(100);
        let answer = request.filters(by).send().await.answered("look for route tables of", &id.native_id)?;
        let all = answer.route_tables.unwrap_or_default();
        let main = |table: &&aws_sdk_ec2::types::RouteTable| {
            let joined = table.associations.as_deref().unwrap_or_default();
            joined.iter().any(|joined| joined.main == Some(true))
        };
        let word = |table: &aws_sdk_ec2::types::RouteTable| {
            Some(called("route table", table.route_table_id.as_deref()?, table.tags.as_deref()))
        };
        Ok(all.iter().filter(|table| !main(table)).filter_map(word).collect())
    }

    async fn peerings_of(&self, id: &ResourceId, by: Filter) -> Result<Vec<String>> {
        let live = filter("status-code", ["pending-acceptance", "provisioning", "active"]);
        let request = self.session.ec2(&id.location).describe_vpc_peering_connections().max_results(MOST);
        let request = request.filters(by).filters(live);
        let answer = request.send().await.answered("look for peerings of", &id.native_id)?;
        let all = answer.vpc_peering_connections.unwrap_or_default();
        let word = |peering: &aws_sdk_ec2::types::VpcPeeringConnection| {
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
