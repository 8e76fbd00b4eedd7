//! What there is: the lists of all kinds, each read by one job on a worker.

use async_trait::async_trait;
use serde_json::{Map, Value};
use virt::domain::Domain;

use super::domain::Definition;
use super::error::During;
use super::link::Link;
use super::state::Native;
use super::surroundings::{Surroundings, unless_missing};
use super::{KvmProvider, raw};
use crate::Result;
use crate::model::resource::{
    Instance, Kind, Network, Price, Region, ResourceId, Size, Snapshot, Subnet, Volume,
};
use crate::provider::listing::one_page;
use crate::provider::{Inventory, Page, Pages};

#[async_trait]
impl Inventory for KvmProvider {
    fn regions(&self) -> Pages<'_, Region> {
        one_page(move || {
            self.call("find the host of", |link| {
                let id = ResourceId { location: String::new(), ..link.id(Kind::Region, &link.host) };
                Ok(vec![Region { id, name: Some(link.host.clone()), enabled: Some(true) }].into())
            })
        })
    }

    fn instances<'a>(&'a self, location: &'a str) -> Pages<'a, Instance> {
        self.pages("list instances of", location, move || {
            let sizes = self.flavours.sizes();
            move |link: &Link| instances(link, sizes)
        })
    }

    async fn instance(&self, id: &ResourceId) -> Result<Instance> {
        // A file that became wrong keeps nobody from seeing how a guest is; lists say what is wrong with it.
        let (id, sizes) = (id.clone(), self.flavours.sizes().unwrap_or_default());
        self.call("read", move |link| {
            let guest = link.guest("read", &id)?;
            let mut errors = Vec::new();
            let around = Surroundings::read(link, &mut errors);
            let definition = guest.now("read")?;
            Ok(instance(link, &around, &sizes, definition, guest.native, guest.is_saved()))
        })
        .await
    }

    fn sizes<'a>(&'a self, location: &'a str) -> Pages<'a, Size> {
        self.pages("list sizes of", location, move || {
            let sizes = self.flavours.sizes();
            move |link: &Link| {
                let here = |size| Size { available_in: vec![link.host.clone()], ..size };
                Ok(sizes?.into_iter().map(here).collect::<Vec<_>>().into())
            }
        })
    }

    fn volumes<'a>(&'a self, location: &'a str) -> Pages<'a, Volume> {
        self.pages("list volumes of", location, || super::volumes::list)
    }

    fn snapshots<'a>(&'a self, location: &'a str) -> Pages<'a, Snapshot> {
        self.pages("list snapshots of", location, || super::snapshots::list)
    }

    fn networks<'a>(&'a self, location: &'a str) -> Pages<'a, Network> {
        self.pages("list networks of", location, || super::networks::list)
    }

    fn subnets<'a>(&'a self, location: &'a str) -> Pages<'a, Subnet> {
        self.pages("list subnets of", location, || super::networks::subnets)
    }

    fn prices<'a>(&'a self, location: &'a str) -> Pages<'a, Price> {
        one_page(move || async move {
            self.call("list prices of", {
                let location = location.to_owned();
                move |link| link.here(&location)
            })
            .await?;
            Ok(self.flavours.prices(&self.scope, location)?.into())
        })
    }
}

impl KvmProvider {
    /// The one page of a list; `job` makes the job that reads it, at every try.
    fn pages<'a, T, J>(
        &'a self,
        operation: &'static str,
        location: &'a str,
        job: impl Fn() -> J + Send + Sync + 'a,
    ) -> Pages<'a, T>
    where
        T: Send + 'static,
        J: FnOnce(&Link) -> Result<Page<T>> + Send + 'static,
    {
        one_page(move || {
            let (job, location) = (job(), location.to_owned());
            self.call(operation, move |link| {
                link.here(&location)?;
                job(link)
            })
        })
    }
}

/// All guests, with one call for the states of all.
fn instances(link: &Link, sizes: Result<Vec<Size>>) -> Result<Page<Instance>> {
    let mut errors = Vec::new();
    let sizes = sizes.unwrap_or_else(|error| {
        errors.push(error.with_provider("kvm"));
        Vec::new()
    });
    let around = Surroundings::read(link, &mut errors);
    let saved = raw::saved(&link.connect);
    let mut items = Vec::new();
    for (domain, native) in raw::states(&link.connect).during("list instances of", &link.host)? {
        match read(&domain) {
            Ok(definition) => {
                let saved = saved.contains(&definition.uuid);
                items.push(instance(link, &around, &sizes, definition, native, saved));
            }
            Err(error) => errors.extend(unless_missing(error)),
        }
    }
    Ok(Page { items, errors })
}

fn read(domain: &Domain) -> Result<Definition> {
    let xml = domain.get_xml_desc(0);
    // The name costs nothing: it is in the handle.
    let name = domain.get_name().unwrap_or_default();
    Definition::read(&xml.during("read", &name)?, &name)
}

/// A guest in the words of the model.
fn instance(
    link: &Link,
    around: &Surroundings,
    sizes: &[Size],
    guest: Definition,
    native: Native,
    saved: bool,
) -> Instance {
    let mut extra = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            extra.insert(name.into(), Value::String(value));
        }
    };
    put("type", Some(guest.kind.clone()));
    put("machine", guest.machine.clone());
    put("nvram", guest.nvram.clone());
    let bridges: Vec<_> = guest.interfaces.iter().filter_map(|interface| interface.bridge.clone()).collect();
    put("bridges", (!bridges.is_empty()).then(|| bridges.join(",")));
    Instance {
        id: link.id(Kind::Instance, &guest.uuid),
        status: native.status(saved),
        size: guest.size(sizes),
        zone: None,
        disks: guest.disks.iter().map(|disk| around.disk(link, disk)).collect(),
        interfaces: guest.interfaces.iter().map(|nic| around.interface(link, nic)).collect(),
        name: Some(guest.name),
        image: guest.mark.image,
        tags: guest.mark.tags,
        protected: Some(false),
        created_at: guest.mark.created.and_then(|time| time.parse().ok()),
        started_at: None,
        raw: extra,
    }
}
