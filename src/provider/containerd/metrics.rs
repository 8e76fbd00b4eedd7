//! Figures into rows. Nothing here talks to containerd.

use super::events::Event;
use super::figures::Machine;
use super::mapping::Mapping;
use super::message::Version;
use super::usage::{Layer, Taken};
use crate::Result;
use crate::model::resource::{Instance, State};
use crate::model::{Identity, MetricBatch, Value};
use crate::provider::mapping::Rule;
use crate::provider::mapping::convert::{Reading, converted};
use crate::provider::mapping::rows::{Batches, Pending, Values, add, each, scope};
use crate::provider::rates::Rates;
use crate::provider::status::{columns, gone};

/// Tags that containers of pods have.
const POD_TAGS: [&str; 3] = ["tag_k8s_pod_name", "tag_k8s_namespace_name", "tag_k8s_container_name"];

/// What was measured of a container.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured<'a> {
    /// Its message.
    pub(super) message: Option<(Version, Reading<'a>)>,
    /// Its network.
    pub(super) network: Option<Reading<'a>>,
    /// Whether it runs and did not answer.
    pub(super) silent: bool,
    /// How often it was started again since it is being watched.
    pub(super) restarts: i64,
}

/// The rows of one collection.
pub(super) struct Rows<'m> {
    mapping: &'m Mapping,
    machine: &'m Machine,
    batches: Batches,
    tick: i64,
}

impl<'m> Rows<'m> {
    /// Rows that will all carry the time `tick`, but for events.
    pub(super) fn new(mapping: &'m Mapping, machine: &'m Machine, tick: i64) -> Self {
        Self { mapping, machine, batches: Batches::new(&mapping.tables, &POD_TAGS), tick }
    }

    /// Adds the rows of a container. `rates` are the counters of its present run.
    ///
    /// # Errors
    /// Mapping and tables do not fit, which the tests rule out; so do all here.
    pub(super) fn container(
        &mut self,
        instance: &Instance,
        rates: &mut Rates<String>,
        measured: Measured<'_>,
    ) -> Result<()> {
        let mut pending = Vec::new();
        let limit = instance.size.vcpus.and_then(|vcpus| f64::try_from(vcpus).ok());
        let cores = limit.or(self.machine.cores);
        if let Some((version, reading)) = measured.message {
            self.rules(&mut pending, self.mapping.of(version), "", rates, reading, cores);
            if let Some(cores) = cores {
                add(&mut pending, "cpu", None, vec![("cores", cores)]);
            }
        }
        // Where a container is a virtual machine, its message has its network.
        let inside = measured.message.map(|(_, reading)| reading);
        let inside = inside.filter(|reading| !reading.params.indexes("network").is_empty());
        let network = inside.or(measured.network);
        if let Some(reading) = network {
            self.rules(&mut pending, self.mapping.network(), "network ", rates, reading, None);
        }
        for (number, rule) in self.mapping.custom.iter().enumerate() {
            let of_network = rule.each.as_ref().unwrap_or(&rule.fields[0].native).starts_with("network");
            let reading = if of_network { network } else { measured.message.map(|(_, reading)| reading) };
            if let Some(reading) = reading {
                let kind = format!("own {number} ");
                self.rules(&mut pending, std::slice::from_ref(rule), &kind, rates, reading, cores);
            }
        }
        let identity = identity(instance);
        self.batches.gathered(&pending, &identity, self.tick, &pod_tags(instance))?;
        self.status(instance, &identity, measured)
    }

    fn rules(
        &self,
        pending: &mut Vec<Pending<'m>>,
        rules: &'m [Rule],
        kind: &str,
        rates: &mut Rates<String>,
        reading: Reading<'_>,
        cores: Option<f64>,
    ) {
        for (number, rule) in rules.iter().enumerate() {
            let scope = format!("{kind}{}", scope(number));
            match &rule.each {
                Some(group) => each(pending, rule, group, &scope, rates, reading),
                None => {
                    let values = rule.fields.iter().filter_map(|field| {
                        let value = converted(field, &scope, "", reading, rates, cores)?;
                        Some((field.field.as_str(), value))
                    });
                    let values: Values<'m> = values.collect();
                    add(pending, &rule.table, None, values);
                }
            }
        }
    }

    fn status(&mut self, instance: &Instance, identity: &Identity, measured: Measured<'_>) -> Result<()> {
        let status = &instance.status;
        let runs = status.state.is_up() != Some(false) || status.state == State::Suspended;
        let figure = |name: &str| measured.message.and_then(|(_, reading)| reading.params.float(name));
        let uptime = instance.started_at.map(|started| (self.tick - started.0).max(0) as f64 / 1e9);
        let mut values = pod_tags(instance);
        values.extend(columns(status, &instance.size));
        values.extend([
            ("uptime_seconds", uptime.into()),
            ("stuck", runs.then_some(measured.silent || status.state == State::Unknown).into()),
            ("processes", figure("pids.current").into()),
            ("processes_limit", figure("derived.processes_limit").into()),
            ("restarts", measured.restarts.into()),
        ]);
        self.batches.row("status", identity, self.tick, &values)
    }

    /// Adds the last row of a container that is gone.
    pub(super) fn deleted(&mut self, instance: &Instance) -> Result<()> {
        let mut values = pod_tags(instance);
        values.extend(gone());
        self.batches.row("status", &identity(instance), self.tick, &values)
    }

    /// Adds what a container takes on the disk.
    pub(super) fn usage(&mut self, instance: &Instance, layer: &Layer, taken: Taken) -> Result<()> {
        let mut values = pod_tags(instance);
        values.extend([
            ("device", Value::Text(&layer.snapshotter)),
            ("mountpoint", "/".into()),
            ("used_bytes", (taken.bytes as f64).into()),
            ("inodes_used", (taken.inodes as f64).into()),
        ]);
        self.batches.row("filesystem", &identity(instance), self.tick, &values)
    }

    /// Adds something that happened, at its own time. `known` is the container, if there is still one.
    pub(super) fn event(&mut self, account: &str, event: &Event, known: Option<&Instance>) -> Result<()> {
        let identity = Identity {
            provider: super::PROVIDER.into(),
            account: Some(account.to_owned()),
            region: Some(event.namespace.clone()),
            zone: None,
            resource_type: "container".into(),
            resource_id: event.id.clone(),
            resource_name: Some(known.map_or(event.id.as_str(), Instance::label).to_owned()),
            observer: "runtime".into(),
        };
        let mut values = known.map(pod_tags).unwrap_or_default();
        values.extend([
            ("event", event.event.into()),
            ("state", event.state.map(State::as_str).into()),
            ("reason", event.reason.as_ref().into()),
            ("exit_code", event.exit_code.into()),
        ]);
        self.batches.row("events", &identity, event.time, &values)
    }

    /// The batches; tables without rows are left out.
    pub(super) fn finish(self) -> Result<Vec<MetricBatch>> {
        self.batches.finish()
    }
}

/// Whom the rows of a container are about.
fn identity(instance: &Instance) -> Identity {
    Identity {
        provider: instance.id.provider.clone(),
        account: Some(instance.id.account.clone()),
        region: Some(instance.id.location.clone()),
        zone: None,
        resource_type: "container".into(),
        resource_id: instance.id.native_id.clone(),
        resource_name: Some(instance.label().to_owned()),
        observer: "runtime".into(),
    }
}

fn pod_tags(instance: &Instance) -> Vec<(&'static str, Value<'_>)> {
    let labels = ["io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.container.name"];
    let tags = POD_TAGS.into_iter().zip(labels);
    tags.map(|(tag, label)| (tag, instance.tags.get(label).into())).collect()
}

#[cfg(test)]
mod tests;
