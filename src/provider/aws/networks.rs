//! VPCs and their subnets: made, deleted when nothing uses them, and chosen for instances.

use async_trait::async_trait;
use aws_sdk_ec2::types::{ResourceType, Subnet, SubnetState, VpcState};

use super::AwsProvider;
use super::calls::{not_there, until};
use super::connect::filter;
use super::error::{Answered, failed};
use super::inventory::MOST;
use super::tags::{made_by, on, wanted};
use crate::model::resource::{Kind, ResourceId};
use crate::provider::{Done, NetworkSpec, Networks, SubnetSpec, Token};
use crate::{ErrorKind, Result};

const CREATE: &str = "create network";
const CREATE_SUBNET: &str = "create subnet";
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
        let before = ec2.describe_vpcs().max_results(MOST).filters(made_by(token)).send().await;
        let before = before.answered(CREATE, &spec.name)?.vpcs.unwrap_or_default().into_iter().next();
        let made = match before {
            Some(made) => Some(made),
            None => {
                let request =
                    ec2.create_vpc().cidr_block(cidr).tag_specifications(on(ResourceType::Vpc, &tags));
                request.send().await.answered(CREATE, &spec.name)?.vpc
            }
        };
        let made = made.and_then(|vpc| vpc.vpc_id).ok_or_else(|| not_there(CREATE, &spec.name))?;
        let id = self.id(&region, Kind::Network, made);
        self.made(&id);
        let look = || async {
            let native = id.native_id.as_str();
            let answer = ec2.describe_vpcs().vpc_ids(native).send().await.answered(CREATE, native)?;
            let vpc = answer.vpcs.unwrap_or_default().into_iter().next();
            Ok(vpc.filter(|vpc| vpc.state == Some(VpcState::Available)))
        };
        until(CREATE, &id.native_id, "available", || self.patient(&id, look)).await?;
        Ok(Done::made(id.clone()))
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
        let region = spec.network.location.as_str();
        let tags = wanted(CREATE_SUBNET, &spec.name, &spec.tags, token)?;
        let ec2 = self.session.ec2(region);
        let before = ec2.describe_subnets().max_results(MOST).filters(made_by(token)).send().await;
        let before = before.answered(CREATE_SUBNET, &spec.name)?.subnets.unwrap_or_default();
        let made = match before.into_iter().next() {
            Some(made) => Some(made),
            None => {
                let create = || async {
                    let request = ec2.create_subnet().vpc_id(&spec.network.native_id).cidr_block(&spec.cidr);
                    let request = request.set_availability_zone(spec.zone.clone());
                    let request = request.tag_specifications(on(ResourceType::Subnet, &tags));
                    request.send().await.answered(CREATE_SUBNET, &spec.name)
                };
                self.patient(&spec.network, create).await?.subnet
            }
        };
        let made =
            made.and_then(|subnet| subnet.subnet_id).ok_or_else(|| not_there(CREATE_SUBNET, &spec.name))?;
        let id = self.id(region, Kind::Subnet, made);
        self.made(&id);
        let look = || async {
            let native = id.native_id.as_str();
            let answer =
                ec2.describe_subnets().subnet_ids(native).send().await.answered(CREATE_SUBNET, native)?;
            let subnet = answer.subnets.unwrap_or_default().into_iter().next();
            Ok(subnet.filter(|subnet| subnet.state == Some(SubnetState::Available)))
        };
        until(CREATE_SUBNET, &id.native_id, "available", || self.patient(&id, look)).await?;
        Ok(Done::made(id.clone()))
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
        let named = self.subnets_by(operation, region, filter("tag:Name", [name])).await?;
        let request = self.session.ec2(region).describe_vpcs().max_results(MOST);
        let vpcs = request.filters(filter("tag:Name", [name])).send().await;
        let vpcs = vpcs.answered("use the network", name)?.vpcs.unwrap_or_default();
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

    async fn subnets_by(
        &self,
        operation: &str,
        region: &str,
        by: aws_sdk_ec2::types::Filter,
    ) -> Result<Vec<Within>> {
        let mut all = Vec::new();
        let mut token = None;
        loop {
            let request = self.session.ec2(region).describe_subnets().max_results(MOST).filters(by.clone());
            let answer = request.set_next_token(token).send().await.answered(operation, region)?;
            all.extend(answer.subnets.iter().flatten().filter_map(within));
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(all);
            }
        }
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
            let request = self.session.ec2(region).describe_security_groups().max_results(MOST);
            let request = request.filters(filter("group-name", [name]));
            let request = match network {
                Some(network) => request.filters(filter("vpc-id", [network])),
                None => request,
            };
            let found = request.send().await.answered(operation, name)?.security_groups.unwrap_or_default();
            let mut found: Vec<String> = found.into_iter().filter_map(|group| group.group_id).collect();
            let (kind, reason) = match found.len() {
                1 => {
                    ids.append(&mut found);
                    continue;
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
}

fn within(subnet: &Subnet) -> Option<Within> {
    Some(Within {
        id: subnet.subnet_id.clone()?,
        network: subnet.vpc_id.clone()?,
        zone: subnet.availability_zone.clone(),
        free: subnet.available_ip_address_count.unwrap_or_default(),
    })
}
