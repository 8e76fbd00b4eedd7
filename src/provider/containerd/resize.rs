//! Another size for a container, while it runs: the runtime changes the limits, and the stored specification is changed
//! with them so that the size is there after a restart. Both happen, or neither.

use std::collections::HashMap;

use containerd_client::services::v1::{Container, UpdateContainerRequest, UpdateTaskRequest};
use containerd_client::types::v1::{Process, Status as Native};
use prost_types::{Any, FieldMask};
use serde_json::{Map, Value};

use super::connect::Space;
use super::container::{cgroups_path, spec_of, stored};
use super::error::{Answered, failed, within};
use super::inventory::read_container;
use super::process;
use super::resources::{before, limited, limits, size_of};
use super::run::{PATIENCE, Running};
use super::state::label;
use crate::model::resource::Size;
use crate::provider::{Done, SizeSpec};
use crate::{Error, ErrorKind, Result};

/// The type url of limits, as containerd itself writes it.
const RESOURCES: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// Gives a container this size, whose name is resolved already.
///
/// # Errors
/// The size cannot be, or one of the two parts failed; then the other is set back, and if that fails too, the error
/// says both.
pub(super) async fn resize(space: &Space, container: &Container, size: &SizeSpec) -> Result<Done> {
    let id = &container.id;
    if size.vcpus.is_none() && size.memory_bytes.is_none() {
        return Err(failed(ErrorKind::Invalid, "resize", id, "name processors, memory or both"));
    }
    let spec = spec_of(container);
    let wanted = limits(size, &spec, id)?;
    let new = limited(spec.clone(), &wanted);
    let seen = Running { space, container }.seen().await?;
    let live =
        matches!(seen.task().map(Process::status), Some(Native::Running | Native::Paused | Native::Created));
    let in_force = |path| if live { process::limits_in_force(path) } else { None };
    let named = container.labels.get(label::SIZE) == size.name.as_ref();
    if new == spec && named && in_force(cgroups_path(&spec)).is_none_or(|now| same(&now, &size_of(&spec))) {
        return Ok(Done::already());
    }
    let back = before(&spec, &wanted);
    if live {
        let changed = match update(space, id, &wanted).await {
            Ok(()) => holds(id, in_force(cgroups_path(&spec)), &size_of(&new)),
            Err(error) => Err(error),
        };
        if let Err(error) = changed {
            // A runtime may have changed one limit and failed at the other.
            return Err(also(error, update(space, id, &back).await));
        }
    }
    let kept = match keep(space, id, &new, size.name.as_deref()).await {
        Ok(()) => verify(space, id, &new).await,
        Err(error) => Err(error),
    };
    if let Err(error) = kept {
        // Whether it was written is not known after every error; a container that is gone needs no way back.
        let old = container.labels.get(label::SIZE).map(String::as_str);
        let restored = forgiving(keep(space, id, &spec, old).await);
        let undone = if live { forgiving(update(space, id, &back).await) } else { Ok(()) };
        return Err(also(also(error, undone), restored));
    }
    let done = Done::changed();
    Ok(if live { done } else { done.note("it does not run; the size holds from its next start") })
}

/// Whether the kernel holds it to the limits, where that can be seen.
fn holds(id: &str, in_force: Option<Size>, wanted: &Size) -> Result<()> {
    match in_force {
        Some(now) if !same(&now, wanted) => {
            let reason = "the runtime took the new limits, but the kernel holds it to others";
            Err(failed(ErrorKind::Unavailable, "resize", id, reason))
        }
        _ => Ok(()),
    }
}

/// The kernel rounds memory to its pages.
fn same(now: &Size, wanted: &Size) -> bool {
    const PAGES: u64 = 1 << 16;
    let memory = match (now.memory_bytes, wanted.memory_bytes) {
        (Some(now), Some(wanted)) => now.abs_diff(wanted) < PAGES,
        (now, wanted) => now == wanted,
    };
    memory && now.vcpus == wanted.vcpus
}

fn forgiving(undone: Result<()>) -> Result<()> {
    match undone {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        undone => undone,
    }
}

/// An error, and what went wrong when its cause was taken back.
fn also(error: Error, undone: Result<()>) -> Error {
    let Err(second) = undone else { return error };
    let resource = error.resource().unwrap_or_default().to_owned();
    let reason = format!("{}; and it could not be set back: {}", error.reason(), second.reason());
    failed(error.kind(), "resize", &resource, reason).with_source(error)
}

async fn update(space: &Space, id: &str, limits: &Map<String, Value>) -> Result<()> {
    let value = Value::Object(limits.clone()).to_string().into_bytes();
    let request = UpdateTaskRequest {
        container_id: id.to_owned(),
        resources: Some(Any { type_url: RESOURCES.into(), value }),
        annotations: HashMap::new(),
    };
    let mut client = space.tasks().await?;
    within(PATIENCE, "resize", id, client.update(space.request(request))).await.map(drop)
}

async fn keep(space: &Space, id: &str, spec: &Value, name: Option<&str>) -> Result<()> {
    let labels = HashMap::from([(label::SIZE.to_owned(), name.unwrap_or_default().to_owned())]);
    let container = Container { id: id.to_owned(), spec: Some(stored(spec)), labels, ..Container::default() };
    let paths = vec!["spec".to_owned(), format!("labels.{}", label::SIZE)];
    let request =
        UpdateContainerRequest { container: Some(container), update_mask: Some(FieldMask { paths }) };
    let updated = space.containers().await?.update(space.request(request)).await;
    updated.answered("keep the size of", id).map(drop)
}

async fn verify(space: &Space, id: &str, wanted: &Value) -> Result<()> {
    if size_of(&spec_of(&read_container(space, id).await?)) == size_of(wanted) {
        return Ok(());
    }
    let reason = "its specification does not show the new size; somebody else changes it at the same time";
    Err(failed(ErrorKind::Conflict, "resize", id, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_no_difference_and_both_errors_are_told() {
        let size = |memory_bytes| Size { memory_bytes, ..Size::default() };
        assert!(same(&size(Some(10_002_432)), &size(Some(10_000_000))));
        assert!(!same(&size(Some(64 << 20)), &size(Some(32 << 20))));
        assert!(!same(&size(None), &size(Some(1 << 20))));
        assert!(holds("a", None, &size(Some(1))).is_ok());
        assert!(holds("a", Some(size(None)), &size(Some(1))).is_err());
        let error = || failed(ErrorKind::Invalid, "resize", "a", "too small");
        assert_eq!(also(error(), Ok(())).reason(), "too small");
        let both = also(error(), Err(failed(ErrorKind::Unavailable, "resize", "a", "no answer")));
        assert_eq!(both.reason(), "too small; and it could not be set back: no answer");
        assert_eq!((both.kind(), both.resource()), (ErrorKind::Invalid, Some("a")));
    }
}
