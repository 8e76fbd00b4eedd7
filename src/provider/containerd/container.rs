//! A container as an instance.

use std::collections::{BTreeMap, HashMap};

use containerd_client::services::v1::Container;
use containerd_client::types::v1::Status as Native;
use prost_types::Any;
use serde_json::{Map, Value};

use super::state::{Seen, label, status};
use super::{process, resources};
use crate::model::Timestamp;
use crate::model::resource::{Instance, Kind};
use crate::provider::Scope;

/// The type url of a specification, as containerd itself writes it.
pub(super) const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// The stored specification; null if there is none that can be read.
pub(super) fn spec_of(container: &Container) -> Value {
    let spec = container.spec.as_ref().map(|spec| spec.value.as_slice()).unwrap_or_default();
    serde_json::from_slice(spec).unwrap_or(Value::Null)
}

/// A specification as containerd stores it.
pub(super) fn stored(spec: &Value) -> Any {
    Any { type_url: SPEC.into(), value: spec.to_string().into_bytes() }
}

/// The path of its control group, as its specification says.
pub(super) fn cgroups_path(spec: &Value) -> Option<&str> {
    spec["linux"]["cgroupsPath"].as_str().filter(|path| !path.is_empty())
}

/// The instance that a container and its task are.
pub(super) fn instance(scope: &Scope, namespace: &str, container: &Container, seen: &Seen) -> Instance {
    let spec = spec_of(container);
    let group = cgroups_path(&spec);
    // A task that runs has the year 1 as the time of its end.
    let ended = seen.task().is_some_and(|task| task.status() == Native::Stopped);
    let status = status(seen, &container.labels, ended && process::was_out_of_memory(group));
    let running = seen.task().filter(|_| !ended);
    let mut size = resources::size_of(&spec);
    size.name = container.labels.get(label::SIZE).cloned();
    Instance {
        id: scope.id(namespace, Kind::Instance, &container.id),
        name: Some(name(container).to_owned()),
        status,
        size,
        image: some(&container.image),
        zone: None,
        disks: Vec::new(),
        interfaces: Vec::new(),
        tags: tags(&container.labels),
        protected: Some(false),
        created_at: container.created_at.as_ref().and_then(timestamp),
        started_at: running.and_then(|task| process::started(task.pid, &container.id, group)),
        raw: raw(container, &spec, seen),
    }
}

/// containerd's time as ours.
pub(super) fn timestamp(time: &prost_types::Timestamp) -> Option<Timestamp> {
    let seconds = time.seconds.checked_mul(1_000_000_000)?;
    seconds.checked_add(time.nanos.into()).filter(|time| *time > 0).map(Timestamp)
}

/// Labels without ours.
pub(super) fn tags(labels: &HashMap<String, String>) -> BTreeMap<String, String> {
    let theirs = labels.iter().filter(|(key, _)| !key.starts_with(label::OURS));
    theirs.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What people call it: containerd has ids only, and tools keep names in labels.
fn name(container: &Container) -> &str {
    let names = ["nerdctl/name", "io.kubernetes.container.name"];
    let named = names.into_iter().find_map(|key| container.labels.get(key)).map(String::as_str);
    named.filter(|name| !name.is_empty()).unwrap_or(&container.id)
}

fn raw(container: &Container, spec: &Value, seen: &Seen) -> Map<String, Value> {
    let mut raw = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            raw.insert(key.into(), value);
        }
    };
    put("snapshotter", some(&container.snapshotter).map(Value::from));
    put("snapshot_key", some(&container.snapshot_key).map(Value::from));
    let runtime = container.runtime.as_ref().and_then(|runtime| some(&runtime.name));
    put("runtime", runtime.map(Value::from));
    put("sandbox", some(&container.sandbox).map(Value::from));
    for (key, label) in [
        ("pod", "io.kubernetes.pod.name"),
        ("pod_namespace", "io.kubernetes.pod.namespace"),
        ("pod_uid", "io.kubernetes.pod.uid"),
        ("pod_container", "io.kubernetes.container.name"),
        ("token", label::TOKEN),
        ("exit_status", label::EXIT),
        ("exited_at", label::EXITED_AT),
    ] {
        put(key, container.labels.get(label).cloned().map(Value::from));
    }
    if let Some(task) = seen.task() {
        put("pid", Some(task.pid).filter(|pid| *pid > 0).map(Value::from));
        if let Some(at) = task.exited_at.as_ref().and_then(timestamp) {
            put("exit_status", Some(task.exit_status.into()));
            put("exited_at", Some(at.to_string().into()));
        }
    }
    put("cgroup", cgroups_path(spec).map(Value::from));
    put("command", Some(&spec["process"]["args"]).filter(|args| args.is_array()).cloned());
    put("hostname", spec["hostname"].as_str().and_then(some).map(Value::from));
    let updated = container.updated_at.as_ref().and_then(timestamp);
    put("updated_at", updated.map(|at| at.to_string().into()));
    raw
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::resource::State;

    #[test]
    fn a_container_without_a_task_is_a_stopped_instance_with_its_limits() {
        let spec = json!({
            "process": { "args": ["/bin/sh"] },
            "linux": { "cgroupsPath": "/a/web", "resources": { "memory": { "limit": 1 << 26 } } },
        });
        let labels = [("app", "web"), ("io.kubernetes.pod.name", "web-pod"), (label::TOKEN, "t")];
        let container = Container {
            id: "web".into(),
            image: "docker.io/library/web:1".into(),
            labels: labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            spec: Some(stored(&spec)),
            snapshot_key: "web".into(),
            created_at: Some(prost_types::Timestamp { seconds: 1, nanos: 5 }),
            ..Container::default()
        };
        let scope = Scope { provider: "containerd", account: "/s".into() };
        let found = instance(&scope, "a", &container, &Seen::Absent);
        assert_eq!(found.id.to_string(), "containerd/%2Fs/a/instance/web");
        assert_eq!(
            (found.state(), found.size.memory_bytes, found.size.vcpus),
            (State::Stopped, Some(1 << 26), None)
        );
        assert_eq!(found.tags.len(), 2, "ours are not shown as theirs");
        assert_eq!(found.created_at, Some(Timestamp(1_000_000_005)));
        assert_eq!((&found.raw["pod"], &found.raw["cgroup"]), (&json!("web-pod"), &json!("/a/web")));
        assert_eq!(found.raw["command"], json!(["/bin/sh"]));
        let bare =
            instance(&scope, "a", &Container { id: "b".into(), ..Container::default() }, &Seen::Silent);
        assert_eq!((bare.state(), bare.image.as_deref(), bare.label()), (State::Unknown, None, "b"));
    }
}
