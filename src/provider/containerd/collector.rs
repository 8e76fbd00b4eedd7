//! Telemetry of containers: one shard for each containerd.
//!
//! One subscription hears of all namespaces, and they come and go; what hangs in one of them does not hold up the others,
//! because all are read at the same time. So there is nothing that a shard for each would add.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::future::join_all;
use tokio::sync::Mutex;

use super::config::Config;
use super::container::timestamp;
use super::events::{Heard, Listener};
use super::figures::{Machine, derive};
use super::inventory::Reader;
use super::mapping::Mapping;
use super::message::{Version, figures};
use super::meter::{Meter, Metered};
use super::metrics::{Measured, Rows};
use super::usage::{Layer, Usage};
use super::{connect::Space, error::failed, netns};
use crate::model::Timestamp;
use crate::model::resource::{Instance, State};
use crate::provider::mapping::convert::Reading;
use crate::provider::mapping::params::Params;
use crate::provider::rates::{FORGET_AFTER, Rates};
use crate::provider::{Collection, Collector, Shard, Window};
use crate::{Error, ErrorKind, Result};

/// Measures the containers of one containerd, in all of its namespaces that the configuration does not leave out.
#[derive(Debug)]
pub struct ContainerdCollector {
    shard: Shard,
    reader: Reader,
    mapping: Mapping,
    memory: Mutex<Memory>,
}

/// What is remembered between two collections.
#[derive(Debug)]
struct Memory {
    listener: Option<Listener>,
    usage: Usage,
    places: BTreeMap<String, Place>,
}

/// What is remembered of a namespace.
#[derive(Debug, Default)]
struct Place {
    instances: Vec<Instance>,
    listed: Option<Instant>,
    meter: Meter,
    runs: HashMap<String, Run>,
}

/// One run of a container: its counters begin at zero with it.
#[derive(Debug, Default)]
struct Run {
    pid: u64,
    starts: i64,
    rates: Rates<String>,
}

/// What was read in a namespace.
#[derive(Debug, Default)]
struct Look {
    gone: Vec<Instance>,
    metered: Metered,
    faults: Vec<Error>,
}

impl ContainerdCollector {
    /// A collector for the containerd that `config` names; nothing is connected yet.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a configuration that nothing can be done with.
    pub fn new(config: &Config) -> Result<Self> {
        let usage = Usage::new(config.usage_every.0);
        Ok(Self {
            shard: Shard(config.socket.clone()),
            mapping: Mapping::new(config)?,
            memory: Mutex::new(Memory { listener: None, usage, places: BTreeMap::new() }),
            reader: Reader::new(config)?,
        })
    }

    async fn look(&self, namespace: &str, place: &mut Place, heard: &Heard) -> Result<Look> {
        let begun = Instant::now();
        let deadline = self.reader.config.deadline.0;
        let mut look = Look::default();
        if place.is_due(namespace, heard, self.reader.config.relist.0) {
            match self.reader.instances(namespace).await {
                Ok(page) => {
                    look.faults.extend(page.errors);
                    look.gone = place.take(page.items);
                }
                Err(error) if place.listed.is_some() => look.faults.push(error),
                Err(error) => return Err(error),
            }
        }
        let space = self.reader.space(namespace)?;
        let running: Vec<String> =
            place.instances.iter().filter(|one| runs(one)).map(|one| one.id.native_id.clone()).collect();
        // A list that had to wait for a shim has used up some of the time.
        let left = deadline.saturating_sub(begun.elapsed()).max(deadline / 4);
        match place.meter.read(&space, &running, left).await {
            Ok(metered) => look.metered = metered,
            Err(error) => look.faults.push(error),
        }
        // One fault for each container is enough.
        let silent: Vec<&String> = look.metered.silent.iter().collect();
        look.faults.retain(|fault| !silent.iter().any(|id| fault.resource() == Some(id.as_str())));
        look.faults.append(&mut look.metered.errors);
        Ok(look)
    }

    fn rows(
        &self,
        window: Window,
        memory: &mut Memory,
        looks: &BTreeMap<String, Look>,
        heard: &Heard,
        faults: &mut Vec<Error>,
    ) -> Result<Collection> {
        let machine = Machine::read();
        let mut rows = Rows::new(&self.mapping, &machine, window.end);
        let now = Timestamp::now().0;
        let networks = networks(&memory.places);
        for (namespace, look) in looks {
            let Some(place) = memory.places.get_mut(namespace) else { continue };
            for instance in &place.instances {
                let id = &instance.id.native_id;
                let run = place.runs.entry(id.clone()).or_default();
                run.follow(instance);
                run.rates.sweep(now.saturating_sub(FORGET_AFTER));
                let message = look.metered.found.get(id).and_then(|metric| {
                    let data = metric.data.as_ref()?;
                    let version = Version::of(&data.type_url)?;
                    let Some(mut figures) = figures(version, &data.value) else {
                        let reason = "its metrics message cannot be read";
                        faults.push(failed(ErrorKind::Invalid, "read the metrics of", id, reason));
                        return None;
                    };
                    derive(version, &mut figures, &machine);
                    let at = metric.timestamp.as_ref().and_then(timestamp).map_or(now, |at| at.0);
                    Some((version, figures, at))
                });
                let network = networks.get(&(namespace.clone(), id.clone()));
                let measured = Measured {
                    message: message
                        .as_ref()
                        .map(|(version, params, at)| (*version, Reading { params, at: *at })),
                    network: network.map(|(params, at)| Reading { params, at: *at }),
                    silent: look.metered.silent.contains(id),
                    restarts: (run.starts - 1).max(0),
                };
                if let Err(error) = rows.container(instance, &mut run.rates, measured) {
                    faults.push(error.with_provider(super::PROVIDER));
                }
            }
            for instance in &look.gone {
                rows.deleted(instance)?;
            }
        }
        for event in &heard.events {
            if !self.reader.config.has(&event.namespace) {
                continue;
            }
            let gone = looks.get(&event.namespace).map(|look| look.gone.as_slice()).unwrap_or_default();
            let there = memory.places.get(&event.namespace).map(|place| place.instances.as_slice());
            let mut all = there.unwrap_or_default().iter().chain(gone);
            rows.event(&self.shard.0, event, all.find(|one| one.id.native_id == event.id))?;
        }
        let Memory { usage, places, .. } = memory;
        let counted = usage.poll(|| self.layers(places));
        for ((namespace, id), (layer, taken)) in &counted.taken {
            let place = places.get(namespace).map(|place| place.instances.as_slice()).unwrap_or_default();
            if let Some(instance) = place.iter().find(|one| one.id.native_id == *id) {
                rows.usage(instance, layer, *taken)?;
            }
        }
        faults.extend(counted.errors);
        Ok(Collection { batches: rows.finish()?, faults: std::mem::take(faults), reached: None })
    }

    /// The layers of all containers that have one.
    fn layers(&self, places: &BTreeMap<String, Place>) -> Vec<(Space, String, Layer)> {
        let of = |instance: &Instance| {
            let raw = |key: &str| instance.raw.get(key).and_then(|value| value.as_str()).map(str::to_owned);
            let space = self.reader.space(&instance.id.location).ok()?;
            let layer = Layer { snapshotter: raw("snapshotter")?, key: raw("snapshot_key")? };
            Some((space, instance.id.native_id.clone(), layer))
        };
        places.values().flat_map(|place| &place.instances).filter_map(of).collect()
    }
}

#[async_trait]
impl Collector for ContainerdCollector {
    async fn discover(&self) -> Result<Vec<Shard>> {
        self.reader.namespaces().await?;
        Ok(vec![self.shard.clone()])
    }

    async fn collect(&self, _shard: &Shard, window: Window) -> Result<Collection> {
        let mut memory = self.memory.lock().await;
        let connection = &self.reader.connection;
        // What happens from now on is heard before the first list is read, so that nothing happens between the two.
        memory.listener.get_or_insert_with(|| Listener::start(Arc::clone(connection)));
        let namespaces = self.reader.namespaces().await?;
        let heard = memory.listener.as_ref().map(Listener::take).unwrap_or_default();
        memory.places.retain(|name, _| namespaces.contains(name));
        for name in namespaces {
            memory.places.entry(name).or_default();
        }
        let looking = memory.places.iter_mut().map(|(name, place)| async {
            let look = self.look(name, place, &heard).await;
            (name.clone(), look)
        });
        let mut faults = Vec::new();
        let mut looks = BTreeMap::new();
        for (name, look) in join_all(looking).await {
            match look {
                Ok(mut look) => {
                    faults.append(&mut look.faults);
                    looks.insert(name, look);
                }
                Err(error) => faults.push(error),
            }
        }
        if heard.lost > 0 {
            let reason =
                format!("{} events came faster than they were read; their rows are missing", heard.lost);
            faults.push(failed(ErrorKind::Unavailable, "hear of containers of", &self.shard.0, reason));
        }
        self.rows(window, &mut memory, &looks, &heard, &mut faults)
    }

    async fn close(&self) {
        let mut memory = self.memory.lock().await;
        memory.listener = None;
        memory.usage = Usage::new(Duration::ZERO);
        memory.places.clear();
    }
}

impl Place {
    /// Whether the containers are to be listed again.
    fn is_due(&self, namespace: &str, heard: &Heard, every: Duration) -> bool {
        let old = self.listed.is_none_or(|listed| listed.elapsed() >= every);
        old || match &heard.news {
            Some(news) => news.contains(namespace),
            // Nobody hears what happens. But each list would wait for a shim that hangs.
            None => !self.meter.hears_silence(),
        }
    }

    /// Takes over a list; gives back what is gone.
    fn take(&mut self, instances: Vec<Instance>) -> Vec<Instance> {
        let before = std::mem::replace(&mut self.instances, instances);
        self.listed = Some(Instant::now());
        let is_there = |id: &str| self.instances.iter().any(|one| one.id.native_id == id);
        let gone: Vec<_> = before.into_iter().filter(|one| !is_there(&one.id.native_id)).collect();
        self.runs.retain(|id, _| is_there(id));
        gone
    }
}

impl Run {
    /// Begins anew with a new process.
    fn follow(&mut self, instance: &Instance) {
        let pid = instance.raw.get("pid").and_then(serde_json::Value::as_u64).filter(|_| runs(instance));
        if let Some(pid) = pid.filter(|pid| *pid != self.pid) {
            *self = Self { pid, starts: self.starts + 1, rates: Rates::new() };
        }
    }
}

/// Whether a container has processes that can be measured.
fn runs(instance: &Instance) -> bool {
    let state = instance.state();
    state.is_up() != Some(false) || state == State::Suspended
}

/// The figures of all networks with the time of their reading, by the container whose rows they become.
fn networks(places: &BTreeMap<String, Place>) -> BTreeMap<(String, String), (Params, i64)> {
    let mut containers: Vec<_> = places
        .iter()
        .flat_map(|(namespace, place)| place.instances.iter().map(move |one| (namespace, one)))
        // Only where the process is seen to be the container's: containerd may be on another machine.
        .filter(|(_, one)| runs(one) && one.started_at.is_some())
        .filter_map(|(namespace, one)| {
            let pid = one.raw.get("pid").and_then(serde_json::Value::as_u64)?;
            let member = one.tags.get("io.cri-containerd.kind").is_none_or(|kind| kind != "sandbox");
            Some((member, (namespace.clone(), one.id.native_id.clone()), u32::try_from(pid).ok()?))
        })
        .collect();
    // The sandbox of a pod stands for the pod's network.
    containers.sort();
    let owners = netns::owners(containers.into_iter().map(|(_, key, pid)| (key, pid)));
    let read = owners.into_iter().map(|(key, pid)| {
        let mut figures = Params::default();
        netns::read(pid, &mut figures);
        (key, (figures, Timestamp::now().0))
    });
    read.collect()
}
