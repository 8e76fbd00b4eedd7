//! The columns of each kind's table.

use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Row;
use super::Type::{self, Boolean, Float, Integer, Tags, Text, Time};
use crate::model::resource::{
    Image, Instance, Kind, Network, Price, Region, ResourceId, Size, Snapshot, Subnet, Volume, Zone,
};

/// The columns in which every table with ids begins.
const WHO: [(&str, Type); 5] =
    [("id", Text), ("provider", Text), ("account", Text), ("region", Text), ("native_id", Text)];

/// The columns of [`WHO`], then others.
const fn with_id<const N: usize, const M: usize>(
    own: [(&'static str, Type); N],
) -> [(&'static str, Type); M] {
    let mut all = [("", Text); M];
    let mut at = 0;
    while at < M {
        all[at] = if at < WHO.len() { WHO[at] } else { own[at - WHO.len()] };
        at += 1;
    }
    all
}

/// Collects values by column.
#[derive(Default)]
struct Values(Map<String, Value>);

impl Values {
    fn of(id: &ResourceId) -> Self {
        Self::default()
            .set("id", id)
            .set("provider", &id.provider)
            .set("account", &id.account)
            .set("region", some(&id.location))
            .set("native_id", &id.native_id)
    }

    fn set(mut self, column: &str, value: impl Serialize) -> Self {
        match serde_json::to_value(value) {
            Ok(Value::Null) | Err(_) => {}
            Ok(value) => drop(self.0.insert(column.into(), value)),
        }
        self
    }

    /// A list as one text, as people read it; none when it is empty.
    fn list<T: ToString>(self, column: &str, values: impl IntoIterator<Item = T>) -> Self {
        let joined = values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(",");
        self.set(column, some(&joined))
    }

    /// Tags; none when there are none.
    fn tags(self, tags: &std::collections::BTreeMap<String, String>) -> Self {
        self.set("tags", (!tags.is_empty()).then_some(tags))
    }
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

impl Row for Instance {
    const KIND: Kind = Kind::Instance;
    const COLUMNS: &'static [(&'static str, Type)] = &with_id::<22, 27>([
        ("name", Text),
        ("state", Text),
        ("provider_state", Text),
        ("reason", Text),
        ("compute_billed", Boolean),
        ("size", Text),
        ("vcpus", Float),
        ("memory_bytes", Integer),
        ("max_vcpus", Float),
        ("max_memory_bytes", Integer),
        ("architecture", Text),
        ("image", Text),
        ("zone", Text),
        ("addresses", Text),
        ("networks", Text),
        ("volumes", Text),
        ("tags", Tags),
        ("protected", Boolean),
        ("created_at", Time),
        ("started_at", Time),
        ("observed_at", Time),
        ("raw", Text),
    ]);
    const SHORT: &'static [&'static str] =
        &["name", "state", "region", "size", "vcpus", "memory_bytes", "image", "addresses", "native_id"];

    fn row(&self) -> Map<String, Value> {
        let float = |value: Option<rust_decimal::Decimal>| value.and_then(|value| value.to_f64());
        Values::of(&self.id)
            .set("name", &self.name)
            .set("state", self.status.state)
            .set("provider_state", &self.status.provider_state)
            .set("reason", &self.status.reason)
            .set("compute_billed", self.status.compute_billed)
            .set("size", &self.size.name)
            .set("vcpus", float(self.size.vcpus))
            .set("memory_bytes", self.size.memory_bytes)
            .set("max_vcpus", float(self.size.max_vcpus))
            .set("max_memory_bytes", self.size.max_memory_bytes)
            .set("architecture", &self.size.architecture)
            .set("image", &self.image)
            .set("zone", &self.zone)
            .list("addresses", self.interfaces.iter().flat_map(|interface| &interface.addresses))
            .list(
                "networks",
                self.interfaces.iter().filter_map(|interface| Some(&interface.network.as_ref()?.native_id)),
            )
            .list("volumes", self.disks.iter().filter_map(|disk| Some(&disk.volume.as_ref()?.native_id)))
            .tags(&self.tags)
            .set("protected", self.is_protected())
            .set("created_at", self.created_at)
            .set("started_at", self.started_at)
            .set("observed_at", self.status.observed_at)
            .set("raw", (!self.raw.is_empty()).then(|| json!(self.raw).to_string()))
            .0
    }
}

impl Row for Volume {
    const KIND: Kind = Kind::Volume;
    const COLUMNS: &'static [(&'static str, Type)] = &with_id::<13, 18>([
        ("name", Text),
        ("class", Text),
        ("format", Text),
        ("size_bytes", Integer),
        ("allocated_bytes", Integer),
        ("iops", Integer),
        ("throughput_bytes", Integer),
        ("encrypted", Boolean),
        ("zone", Text),
        ("attached_to", Text),
        ("provider_state", Text),
        ("tags", Tags),
        ("created_at", Time),
    ]);
    const SHORT: &'static [&'static str] =
        &["name", "region", "class", "size_bytes", "allocated_bytes", "attached_to", "native_id"];

    fn row(&self) -> Map<String, Value> {
        Values::of(&self.id)
            .set("name", &self.name)
            .set("class", &self.class)
            .set("format", &self.format)
            .set("size_bytes", self.size_bytes)
            .set("allocated_bytes", self.allocated_bytes)
            .set("iops", self.iops)
            .set("throughput_bytes", self.throughput_bytes)
            .set("encrypted", self.encrypted)
            .set("zone", &self.zone)
            .list("attached_to", self.attached_to.iter().map(|id| &id.native_id))
            .set("provider_state", &self.provider_state)
            .tags(&self.tags)
            .set("created_at", self.created_at)
            .0
    }
}

impl Row for Snapshot {
    const KIND: Kind = Kind::Snapshot;
    const COLUMNS: &'static [(&'static str, Type)] = &with_id::<8, 13>([
        ("name", Text),
        ("of", Text),
        ("parent", Text),
        ("size_bytes", Integer),
        ("provider_state", Text),
        ("current", Boolean),
        ("tags", Tags),
        ("created_at", Time),
    ]);
    const SHORT: &'static [&'static str] =
        &["name", "region", "of", "size_bytes", "provider_state", "created_at", "current", "native_id"];

    fn row(&self) -> Map<String, Value> {
        Values::of(&self.id)
            .set("name", &self.name)
            .set("of", &self.of)
            .set("parent", &self.parent)
            .set("size_bytes", self.size_bytes)
            .set("provider_state", &self.provider_state)
            .set("current", self.current)
            .tags(&self.tags)
            .set("created_at", self.created_at)
            .0
    }
}

impl Row for Network {
    const KIND: Kind = Kind::Network;
    const COLUMNS: &'static [(&'static str, Type)] = &with_id::<6, 11>([
        ("name", Text),
        ("mode", Text),
        ("cidrs", Text),
        ("active", Boolean),
        ("bridge", Text),
        ("tags", Tags),
    ]);
    const SHORT: &'static [&'static str] = &["name", "region", "mode", "cidrs", "active", "native_id"];

    fn row(&self) -> Map<String, Value> {
        Values::of(&self.id)
            .set("name", &self.name)
            .set("mode", &self.mode)
            .list("cidrs", &self.cidrs)
            .set("active", self.active)
            .set("bridge", &self.bridge)
            .tags(&self.tags)
            .0
    }
}

impl Row for Subnet {
    const KIND: Kind = Kind::Subnet;
    const COLUMNS: &'static [(&'static str, Type)] = &with_id::<7, 12>([
        ("name", Text),
        ("network", Text),
        ("cidr", Text),
        ("gateway", Text),
        ("free_addresses", Integer),
        ("zone", Text),
        ("tags", Tags),
    ]);
    const SHORT: &'static [&'static str] = &["name", "region", "network", "cidr", "gateway", "native_id"];

    fn row(&self) -> Map<String, Value> {
        Values::of(&self.id)
            .set("name", &self.name)
            .set("network", &self.network)
            .set("cidr", &self.cidr)
            .set("gateway", &self.gateway)
            .set("free_addresses", self.free_addresses)
            .set("zone", &self.zone)
            .tags(&self.tags)
            .0
    }
}

impl Row for Image {
    const KIND: Kind = Kind::Image;
    const COLUMNS: &'static [(&'static str, Type)] = &with_id::<6, 11>([
        ("name", Text),
        ("digest", Text),
        ("architecture", Text),
        ("size_bytes", Integer),
        ("tags", Tags),
        ("created_at", Time),
    ]);
    const SHORT: &'static [&'static str] =
        &["name", "region", "architecture", "size_bytes", "created_at", "native_id"];

    fn row(&self) -> Map<String, Value> {
        Values::of(&self.id)
            .set("name", &self.name)
            .set("digest", &self.digest)
            .set("architecture", &self.architecture)
            .set("size_bytes", self.size_bytes)
            .tags(&self.tags)
            .set("created_at", self.created_at)
            .0
    }
}

impl Row for Region {
    const KIND: Kind = Kind::Region;
    const COLUMNS: &'static [(&'static str, Type)] = &[
        ("id", Text),
        ("provider", Text),
        ("account", Text),
        ("region", Text),
        ("name", Text),
        ("enabled", Boolean),
    ];
    const SHORT: &'static [&'static str] = &["provider", "account", "region", "name", "enabled"];

    fn row(&self) -> Map<String, Value> {
        Values::of(&self.id)
            .set("region", &self.id.native_id)
            .set("name", &self.name)
            .set("enabled", self.enabled)
            .without("native_id")
    }
}

impl Row for Zone {
    const KIND: Kind = Kind::Zone;
    const COLUMNS: &'static [(&'static str, Type)] =
        &with_id::<3, 8>([("zone", Text), ("zone_id", Text), ("provider_state", Text)]);
    const SHORT: &'static [&'static str] = &["zone", "zone_id", "region", "provider_state"];

    fn row(&self) -> Map<String, Value> {
        Values::of(&self.id)
            .set("region", &self.region)
            .set("zone", &self.id.native_id)
            .set("zone_id", &self.zone_id)
            .set("provider_state", &self.provider_state)
            .0
    }
}

impl Row for Size {
    const KIND: Kind = Kind::Size;
    const COLUMNS: &'static [(&'static str, Type)] = &[
        ("name", Text),
        ("vcpus", Float),
        ("memory_bytes", Integer),
        ("architecture", Text),
        ("gpus", Integer),
        ("local_disk_bytes", Integer),
        ("available_in", Text),
    ];
    const SHORT: &'static [&'static str] = &["name", "vcpus", "memory_bytes", "architecture", "available_in"];

    fn row(&self) -> Map<String, Value> {
        Values::default()
            .set("name", &self.name)
            .set("vcpus", self.vcpus.and_then(|vcpus| vcpus.to_f64()))
            .set("memory_bytes", self.memory_bytes)
            .set("architecture", &self.architecture)
            .set("gpus", self.gpus)
            .set("local_disk_bytes", self.local_disk_bytes)
            .list("available_in", &self.available_in)
            .0
    }
}

impl Row for Price {
    const KIND: Kind = Kind::Price;
    const COLUMNS: &'static [(&'static str, Type)] = &[
        ("provider", Text),
        ("account", Text),
        ("region", Text),
        ("item", Text),
        ("amount", Float),
        ("currency", Text),
        ("unit", Text),
        ("os", Text),
        ("purchase", Text),
        ("as_of", Time),
        ("source", Text),
    ];
    const SHORT: &'static [&'static str] =
        &["item", "region", "amount", "currency", "unit", "purchase", "source"];

    fn row(&self) -> Map<String, Value> {
        Values::default()
            .set("provider", &self.id.provider)
            .set("account", &self.id.account)
            .set("region", &self.region)
            .set("item", &self.item)
            .set("amount", self.amount.to_f64())
            .set("currency", &self.currency)
            .set("unit", self.unit)
            .set("os", &self.os)
            .set("purchase", self.purchase)
            .set("as_of", self.as_of)
            .set("source", &self.source)
            .0
    }
}

impl Values {
    fn without(mut self, column: &str) -> Map<String, Value> {
        self.0.shift_remove(column);
        self.0
    }
}
