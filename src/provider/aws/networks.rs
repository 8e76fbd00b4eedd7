//! VPCs and their subnets: made, deleted when nothing uses them, and chosen for instances.

use std::net::Ipv4Addr;

use async_trait::async_trait;
use aws_sdk_ec2::types::{Filter, ResourceType, SecurityGroup, Subnet, SubnetState, VpcState};

use super::AwsProvider;
use super::calls::{not_there, ready, until};
use super::connect::filter;
use super::error::{Answered, failed};
use super::inventory::MOST;
use super::tags::{exactly, made_by, on, wanted};
use crate::model::resource::{Kind, ResourceId};
use crate::provider::{Done, NetworkSpec, Networks, SubnetSpec, Token};
use crate::{ErrorKind, Result};

const CREATE: &str = "create network";
pub(super) const CREATE_SUBNET: &str = "create subnet";
const DELETE: &str = "delete network";
const DELETE_SUBNET: &str = "delete subnet";

/// A subnet that an instance goes into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Within {
    pub(super) id: String,
    pub(super) network: String,
    pub(super) zone: Option<String>,
    free: i32,
}

#[async_trait]
impl Networks for AwsProvider {
    async fn create(&self, spec: &NetworkSpec, token: Token) -> Result<Done> {
        let (region, cidr) = self.network_place(spec)?;
        let tags = wanted(CREATE, &spec.name, &spec.tags, token)?;
        let ec2 = self.session.ec2(&region);
        let look = || async {
            let request = ec2.describe_vpcs().max_results(MOST).filters(made_by(token));
            let found = request.into_paginator().items().send().try_collect().await;
            Ok(found.answered(CREATE, &spec.name)?.into_iter().find_map(|vpc| vpc.vpc_id))
        };
        let made = self.once(token, look, || async {
            let request = ec2.create_vpc().cidr_block(cidr).tag_specifications(on(ResourceType::Vpc, &tags));
            let made = request.send().await.answered(CREATE, &spec.name)?.vpc.and_then(|vpc| vpc.vpc_id);
            made.ok_or_else(|| not_there(CREATE, &spec.name).partly_done())
        });
        let id = self.id(&region, Kind::Network, made.await?);
        self.made(&id);
        let native = id.native_id.as_str();
        let look = || async {
            let answer = ec2.describe_vpcs().vpc_ids(native).send().await.answered(CREATE, native)?;
            let vpc = answer.vpcs.unwrap_or_default().into_iter().next();
            Ok(vpc.filter(|vpc| vpc.state == Some(VpcState::Available)))
        };
        let done = Done::made(id.clone());
        Ok(match ready(until(|| self.patient(&id, look))).await {
            Ok(_) => done,
            Err(note) => done.note(note),
        })
    }

    /// EC2 refuses a network that is in use with few words; so what uses it is looked for first.
    async fn delete(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        self.refuse_used(DELETE, id).await?;
        let delete = || async {
            let request = self.session.ec2(&id.location).delete_vpc().vpc_id(&id.native_id);
            request.send().await.answered(DELETE, &id.native_id)
        };
        self.patient(id, delete).await?;
        self.deleted(id);
        Ok(Done::changed())
    }

    async fn create_subnet(&self, spec: &SubnetSpec, token: Token) -> Result<Done> {
        let place = self.place(CREATE_SUBNET, &spec.name, Some(&spec.network.location))?;
        let region = place.as_str();
        let tags = wanted(CREATE_SUBNET, &spec.name, &spec.tags, token)?;
        let ec2 = self.session.ec2(region);
        let look = || async {
            let found = self.described_subnets(CREATE_SUBNET, region, made_by(token)).await?;
            Ok(found.into_iter().find_map(|subnet| subnet.subnet_id))
        };
        let made = self.once(token, look, || async {
            let create = || async {
                let request = ec2.create_subnet().vpc_id(&spec.network.native_id).cidr_block(&spec.cidr);
                let request = request.set_availability_zone(spec.zone.clone());
                let request = request.tag_specifications(on(ResourceType::Subnet, &tags));
                request.send().await.answered(CREATE_SUBNET, &spec.name)
            };
            let made = self.patient(&spec.network, create).await?.subnet.and_then(|made| made.subnet_id);
            made.ok_or_else(|| not_there(CREATE_SUBNET, &spec.name).partly_done())
        });
        let id = self.id(region, Kind::Subnet, made.await?);
        self.made(&id);
        let native = id.native_id.as_str();
        let look = || async {
            let answer =
                ec2.describe_subnets().subnet_ids(native).send().await.answered(CREATE_SUBNET, native)?;
            let subnet = answer.subnets.unwrap_or_default().into_iter().next();
            Ok(subnet.filter(|subnet| subnet.state == Some(SubnetState::Available)))
        };
        let done = Done::made(id.clone());
        Ok(match ready(until(|| self.patient(&id, look))).await {
            Ok(_) => done,
            Err(note) => done.note(note),
        })
    }

    async fn delete_subnet(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        self.refuse_used(DELETE_SUBNET, id).await?;
        let delete = || async {
            let request = self.session.ec2(&id.location).delete_subnet().subnet_id(&id.native_id);
            request.send().await.answered(DELETE_SUBNET, &id.native_id)
        };
        self.patient(id, delete).await?;
        self.deleted(id);
        Ok(Done::changed())
    }
}

impl AwsProvider {
    /// Where a network is made, and its addresses.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what is missing, [`ErrorKind::Unsupported`] for a way out that a VPC does not bring.
    pub(super) fn network_place(&self, spec: &NetworkSpec) -> Result<(String, String)> {
        let region = self.place(CREATE, &spec.name, spec.location.as_deref())?;
        if let Some(mode) = spec.mode.as_deref().filter(|mode| *mode != "isolated") {
            let reason = format!(
                "a VPC begins isolated, and {mode:?} takes gateways and routes that are not made here; leave the mode out"
            );
            return Err(failed(ErrorKind::Unsupported, CREATE, &spec.name, reason));
        }
        let Some(cidr) = spec.cidr.clone().filter(|cidr| !cidr.is_empty()) else {
            let reason = "its addresses are missing; write a block from /16 to /28, for example 10.0.0.0/16";
            return Err(failed(ErrorKind::Invalid, CREATE, &spec.name, reason));
        };
        refuse_block(CREATE, &spec.name, &cidr)?;
        Ok((region, cidr))
    }

    /// The subnets that an instance goes into: each name is that of a subnet, or of a network of which the subnet with the
    /// most free addresses is taken.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and [`ErrorKind::Invalid`] for a name that several have.
    pub(super) async fn subnets_for(
        &self,
        operation: &str,
        region: &str,
        names: &[String],
        zone: Option<&str>,
    ) -> Result<Vec<Within>> {
        let mut chosen: Vec<Within> = Vec::new();
        for name in names {
            let native = name.parse::<ResourceId>().map_or_else(|_| name.clone(), |id| id.native_id);
            let found = self.subnets_named(operation, region, &native).await?;
            let fitting = found
                .into_iter()
                .filter(|subnet| zone.is_none_or(|zone| subnet.zone.as_deref() == Some(zone)));
            let most = fitting.max_by(|one, other| (one.free, &other.id).cmp(&(other.free, &one.id)));
            let Some(subnet) = most else {
                let place = zone.map(|zone| format!(" in {zone}")).unwrap_or_default();
                let reason = format!("it has no subnet{place} for the instance; make one, or name another");
                return Err(failed(ErrorKind::NotFound, "use the network", name, reason));
            };
            if chosen.iter().any(|other| other.id == subnet.id || other.zone != subnet.zone) {
                let reason =
                    "the interfaces of an instance are in different subnets of one zone; name others";
                return Err(failed(ErrorKind::Invalid, "use the network", name, reason));
            }
            chosen.push(subnet);
        }
        Ok(chosen)
    }

    async fn subnets_named(&self, operation: &str, region: &str, name: &str) -> Result<Vec<Within>> {
        if name.starts_with("subnet-") {
            return self.subnets_by(operation, region, filter("subnet-id", [name])).await;
        }
        if name.starts_with("vpc-") {
            return self.subnets_by(operation, region, filter("vpc-id", [name])).await;
        }
        let named = self.subnets_by(operation, region, exactly("tag:Name", name)).await?;
        let request = self.session.ec2(region).describe_vpcs().max_results(MOST);
        let vpcs = request.filters(exactly("tag:Name", name)).into_paginator().items().send().try_collect();
        let vpcs = vpcs.await.answered("use the network", name)?;
        let ids: Vec<String> = vpcs.into_iter().filter_map(|vpc| vpc.vpc_id).collect();
        match (&named[..], &ids[..]) {
            ([], []) => {
                let reason = "there is no subnet and no network of this name; make it first, or name another";
                Err(failed(ErrorKind::NotFound, "use the network", name, reason))
            }
            ([_], []) => Ok(named),
            ([], [one]) => self.subnets_by(operation, region, filter("vpc-id", [one])).await,
            // A network and its only subnet of the same name mean the same.
            ([subnet], [one]) if subnet.network == *one => Ok(named),
            _ => {
                let subnets = named.iter().map(|subnet| subnet.id.as_str());
                let all: Vec<&str> = subnets.chain(ids.iter().map(String::as_str)).collect();
                let reason = format!("several have this name; say which by its id: {}", all.join(", "));
                Err(failed(ErrorKind::Invalid, "use the network", name, reason))
            }
        }
    }

    async fn subnets_by(&self, operation: &str, region: &str, by: Filter) -> Result<Vec<Within>> {
        Ok(self.described_subnets(operation, region, by).await?.iter().filter_map(within).collect())
    }

    /// EC2's own descriptions of subnets.
    pub(super) async fn described_subnets(
        &self,
        operation: &str,
        region: &str,
        by: Filter,
    ) -> Result<Vec<Subnet>> {
        let request = self.session.ec2(region).describe_subnets().max_results(MOST).filters(by);
        request.into_paginator().items().send().try_collect().await.answered(operation, region)
    }

    /// The ids of security groups, which may be named.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and [`ErrorKind::Invalid`] for a name that several networks have.
    pub(super) async fn groups_for(
        &self,
        operation: &str,
        region: &str,
        names: &[String],
        network: Option<&str>,
    ) -> Result<Vec<String>> {
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            if name.starts_with("sg-") {
                ids.push(name.clone());
                continue;
            }
            let groups = self.groups_named(operation, region, name).await?;
            let here =
                |group: &&SecurityGroup| network.is_none_or(|own| group.vpc_id.as_deref() == Some(own));
            let found = groups.iter().filter(here).filter_map(|group| group.group_id.clone());
            let mut found: Vec<String> = found.collect();
            let (kind, reason) = match found.len() {
                1 => {
                    ids.append(&mut found);
                    continue;
                }
                0 if !groups.is_empty() => {
                    let others = groups.iter().filter_map(|group| group.vpc_id.as_deref());
                    let others = others.collect::<Vec<_>>().join(", ");
                    let network = network.unwrap_or_default();
                    let reason = format!(
                        "it is in {others}, and the instance in {network}; name a group of {network}"
                    );
                    (ErrorKind::NotFound, reason)
                }
                0 => (
                    ErrorKind::NotFound,
                    "there is no such security group; make it first, or name another".into(),
                ),
                _ => (
                    ErrorKind::Invalid,
                    format!("several have this name; say which by its id: {}", found.join(", ")),
                ),
            };
            return Err(failed(kind, "use the security group", name, reason));
        }
        Ok(ids)
    }

    async fn groups_named(&self, operation: &str, region: &str, name: &str) -> Result<Vec<SecurityGroup>> {
        let request = self.session.ec2(region).describe_security_groups().max_results(MOST);
        let request = request.filters(exactly("group-name", name));
        request.into_paginator().items().send().try_collect().await.answered(operation, name)
    }
}

/// Refuses what is no block of addresses that EC2 takes.
///
/// # Errors
/// [`ErrorKind::Invalid`].
pub(super) fn refuse_block(operation: &str, name: &str, cidr: &str) -> Result<()> {
    let parts = cidr.split_once('/');
    let address = parts.and_then(|(address, _)| address.parse::<Ipv4Addr>().ok());
    let length = parts.and_then(|(_, length)| length.parse::<u8>().ok());
    if address.is_some() && length.is_some_and(|length| (16..=28).contains(&length)) {
        return Ok(());
    }
    let reason =
        format!("{cidr:?} is no block that EC2 takes; write one from /16 to /28, for example 10.0.0.0/16");
    Err(failed(ErrorKind::Invalid, operation, name, reason))
}

fn within(subnet: &Subnet) -> Option<Within> {
    Some(Within {
        id: subnet.subnet_id.clone()?,
        network: subnet.vpc_id.clone()?,
        zone: subnet.availability_zone.clone(),
        free: subnet.available_ip_address_count.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_an_address_and_a_length_that_ec2_takes() {
        for good in ["10.0.0.0/16", "192.168.1.16/28"] {
            refuse_block(CREATE, "lab", good).unwrap();
        }
        for wrong in ["nonsense", "10.0.0.0", "10.0.0.0/8", "10.0.0.0/29", "10.0.0/16", "fd00::/64"] {
            let error = refuse_block(CREATE, "lab", wrong).unwrap_err();
            assert!(error.to_string().contains("/16 to /28"), "{error}");
        }
    }
}
