//! Networks and their blocks of addresses. The native id of a network is its UUID, that of a subnet `UUID/index`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use async_trait::async_trait;
use roxmltree::Node;
use virt::network;

use super::KvmProvider;
use super::error::{During, refused};
use super::link::{Link, absent};
use super::surroundings::unless_missing;
use super::xml::{child, children, escaped, name, parsed, text};
use crate::model::resource::{Kind, Network, ResourceId, Subnet};
use crate::provider::{Done, NetworkSpec, Networks, Page, Token};
use crate::{ErrorKind, Result};

const CREATE: &str = "create network";
const MODES: [&str; 3] = ["nat", "route", "isolated"];

#[async_trait]
impl Networks for KvmProvider {
    async fn create(&self, spec: &NetworkSpec, token: Token) -> Result<Done> {
        let spec = spec.clone();
        self.call(CREATE, move |link| create(link, &spec, token)).await
    }

    async fn delete(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let id = id.clone();
        self.call("delete", move |link| delete(link, &id)).await
    }
}

fn create(link: &Link, spec: &NetworkSpec, token: Token) -> Result<Done> {
    link.here_or_none(spec.location.as_deref())?;
    let xml = definition(spec, token)?;
    let (label, uuid) = (spec.name.as_str(), token.0.to_string());
    let id = link.id(Kind::Network, &uuid);
    let ours = network::Network::lookup_by_uuid_string(&link.connect, &uuid).ok();
    if ours.is_none() && network::Network::lookup_by_name(&link.connect, label).is_ok() {
        let reason = "there is a network of that name; choose another name";
        return Err(refused(ErrorKind::Conflict, CREATE, label, reason));
    }
    let network = match ours {
        Some(network) => network,
        None => network::Network::define_xml(&link.connect, &xml).during(CREATE, label)?,
    };
    let active = network.is_active().during(CREATE, label)?;
    let begun = || {
        network.set_autostart(true).during(CREATE, label)?;
        if active { Ok(0) } else { network.create().during(CREATE, label) }
    };
    if let Err(error) = begun() {
        // One that cannot be started is of no use to anybody.
        if !active {
            return Err(if network.undefine().is_ok() { error } else { error.partly_done() });
        }
        return Err(error);
    }
    Ok(Done::made(id))
}

fn definition(spec: &NetworkSpec, token: Token) -> Result<String> {
    let label = name(CREATE, "network", &spec.name)?;
    let wrong = |reason: String| Err(refused(ErrorKind::Invalid, CREATE, label, reason));
    if !spec.tags.is_empty() {
        return wrong("libvirt's networks have no tags; leave them out".into());
    }
    let mode = spec.mode.as_deref().unwrap_or("nat");
    if !MODES.contains(&mode) {
        return wrong(format!("mode {mode:?} is not known; write {}", MODES.join(", ")));
    }
    let forward = if mode == "isolated" { String::new() } else { format!("<forward mode='{mode}'/>") };
    let block = match &spec.cidr {
        Some(cidr) => match Block::parse(cidr) {
            Ok(block) => block.xml(),
            Err(reason) => return wrong(reason),
        },
        None if mode == "isolated" => String::new(),
        None => return wrong(format!("mode {mode} needs addresses; write a cidr, for example 10.77.1.0/24")),
    };
    Ok(format!(
        "<network><name>{}</name><uuid>{}</uuid>{forward}<bridge stp='on' delay='0'/>{block}</network>",
        escaped(label),
        token.0
    ))
}

/// A block of IPv4 addresses: the first is the hypervisor's, the others are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    first: u32,
    prefix: u8,
}

impl Block {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no block of IPv4 addresses; write for example 10.77.1.0/24");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(8..=30).contains(&prefix) {
            return Err(format!("a block of /{prefix} is too large or too small; write /8 to /30"));
        }
        let block = Self { first: u32::from(address) & mask(prefix), prefix };
        if block.first != u32::from(address) {
            return Err(format!(
                "{text} does not begin at its block; did you mean {}/{prefix}?",
                block.at(0)
            ));
        }
        Ok(block)
    }

    fn at(self, host: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.first + host)
    }

    fn xml(self) -> String {
        let last = !mask(self.prefix) - 1;
        let ip = format!("<ip family='ipv4' address='{}' prefix='{}'>", self.at(1), self.prefix);
        format!("{ip}<dhcp><range start='{}' end='{}'/></dhcp></ip>", self.at(2), self.at(last))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

fn delete(link: &Link, id: &ResourceId) -> Result<Done> {
    const DELETE: &str = "delete";
    let Some(network) = absent(link.network(DELETE, id))? else {
        return Ok(Done::already());
    };
    let label = network.get_name().during(DELETE, &id.native_id)?;
    let guests = link.definitions(DELETE)?;
    let user = guests
        .iter()
        .find(|guest| guest.interfaces.iter().any(|nic| nic.network.as_deref() == Some(label.as_str())));
    if let Some(guest) = user {
        let reason = format!("the guest {} is in it; take its interface away first", guest.name);
        return Err(refused(ErrorKind::Conflict, DELETE, label, reason));
    }
    let kept = network.is_persistent().during(DELETE, &label)?;
    if network.is_active().during(DELETE, &label)? {
        network.destroy().during(DELETE, &label)?;
    }
    if kept {
        network.undefine().during(DELETE, &label)?;
    }
    Ok(Done::changed())
}

/// All networks, in use or not.
pub(super) fn list(link: &Link) -> Result<Page<Network>> {
    each(link, |id, active, root| {
        let forward = child(root, "forward").map(|forward| forward.attribute("mode").unwrap_or("nat"));
        let network = Network {
            id,
            name: text(root, &["name"]).map(str::to_owned),
            mode: Some(forward.unwrap_or("isolated").to_owned()),
            cidrs: children(root, "ip").filter_map(|ip| cidr(ip).map(|(cidr, _)| cidr)).collect(),
            active,
            bridge: child(root, "bridge").and_then(|bridge| bridge.attribute("name")).map(str::to_owned),
            tags: BTreeMap::new(),
        };
        vec![network]
    })
}

/// The blocks of addresses of all networks.
pub(super) fn subnets(link: &Link) -> Result<Page<Subnet>> {
    each(link, |id, _, root| {
        let subnet = |(index, ip): (usize, Node<'_, '_>)| {
            let (cidr, gateway) = cidr(ip).unzip();
            Subnet {
                id: id.sibling(Kind::Subnet, format!("{}/{index}", id.native_id)),
                name: None,
                network: id.clone(),
                cidr,
                gateway,
                free_addresses: None,
                zone: None,
                tags: BTreeMap::new(),
            }
        };
        children(root, "ip").enumerate().map(subnet).collect()
    })
}

fn each<T>(link: &Link, read: impl Fn(ResourceId, Option<bool>, Node<'_, '_>) -> Vec<T>) -> Result<Page<T>> {
    let mut page = Page { items: Vec::new(), errors: Vec::new() };
    for network in link.connect.list_all_networks(0).during("list networks of", &link.host)? {
        let one = || -> Result<Vec<T>> {
            let uuid = network.get_uuid_string().during("read a network of", &link.host)?;
            let xml = network.get_xml_desc(0).during("read network", &uuid)?;
            let document = parsed(&xml, &uuid)?;
            Ok(read(link.id(Kind::Network, &uuid), network.is_active().ok(), document.root_element()))
        };
        match one() {
            Ok(found) => page.items.extend(found),
            Err(error) => page.errors.extend(unless_missing(error)),
        }
    }
    Ok(page)
}

/// The block of an `<ip>` and the hypervisor's own address in it.
fn cidr(ip: Node<'_, '_>) -> Option<(String, String)> {
    let address: IpAddr = ip.attribute("address")?.parse().ok()?;
    let prefix: u8 = match (ip.attribute("prefix"), ip.attribute("netmask")) {
        (Some(prefix), _) => prefix.parse().ok()?,
        (None, Some(netmask)) => {
            let netmask: Ipv4Addr = netmask.parse().ok()?;
            u8::try_from(u32::from(netmask).leading_ones()).ok()?
        }
        // As libvirt has it.
        (None, None) => {
            if address.is_ipv4() {
                24
            } else {
                64
            }
        }
    };
    let first = match address {
        IpAddr::V4(address) => IpAddr::from(Ipv4Addr::from(u32::from(address) & mask(prefix.min(32)))),
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::from(std::net::Ipv6Addr::from(u128::from(address) & mask))
        }
    };
    Some((format!("{first}/{prefix}"), address.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mode: &str, cidr: Option<&str>) -> NetworkSpec {
        let (mode, cidr) = (Some(mode.to_owned()), cidr.map(str::to_owned));
        NetworkSpec { name: "n".into(), mode, cidr, ..NetworkSpec::default() }
    }

    #[test]
    fn a_block_has_a_gateway_and_the_rest_is_given_out() {
        let token = Token::random();
        let xml = definition(&spec("nat", Some("10.77.1.0/24")), token).unwrap();
        assert!(xml.contains("<forward mode='nat'/>") && xml.contains(&token.0.to_string()), "{xml}");
        assert!(xml.contains("address='10.77.1.1' prefix='24'"), "{xml}");
        assert!(xml.contains("start='10.77.1.2' end='10.77.1.254'"), "{xml}");
        let xml = definition(&spec("isolated", None), token).unwrap();
        assert!(!xml.contains("<forward") && !xml.contains("<ip"), "{xml}");
        let smallest = Block::parse("10.0.0.4/30").unwrap().xml();
        assert!(smallest.contains("start='10.0.0.6' end='10.0.0.6'"), "{smallest}");
    }

    #[test]
    fn wrong_networks_are_refused_with_what_would_be_right() {
        let refusal = |spec| definition(&spec, Token::random()).unwrap_err().to_string();
        assert!(refusal(spec("bridge", None)).contains("nat, route, isolated"));
        assert!(refusal(spec("nat", None)).contains("write a cidr"));
        assert!(refusal(spec("nat", Some("10.77.1.5/24"))).contains("did you mean 10.77.1.0/24?"));
        assert!(refusal(spec("nat", Some("10.77.1.0/31"))).contains("/30"));
        assert!(refusal(spec("nat", Some("fd00::/64"))).contains("IPv4"));
    }

    #[test]
    fn blocks_are_read_however_they_are_written() {
        let read = |xml: &str| {
            let document = roxmltree::Document::parse(xml).unwrap();
            cidr(document.root_element()).unwrap().0
        };
        assert_eq!(read("<ip address='192.168.122.1' netmask='255.255.255.0'/>"), "192.168.122.0/24");
        assert_eq!(read("<ip address='10.9.8.7' prefix='12'/>"), "10.0.0.0/12");
        assert_eq!(read("<ip family='ipv6' address='fd00:1::1' prefix='64'/>"), "fd00:1::/64");
        assert_eq!(read("<ip address='0.0.0.0' prefix='0'/>"), "0.0.0.0/0");
    }
}
