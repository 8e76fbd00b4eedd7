//! Plans of changes: what a change of a container brings with it.

use rust_decimal::prelude::ToPrimitive;

use super::error::failed;
use super::figures::Machine;
use super::inventory::Reader;
use super::{create, signal};
use crate::model::resource::{Cost, Instance, Size, State};
use crate::provider::{Action, Consents, Downtime, Leftover, Plan, SizeSpec, Step};
use crate::{ErrorKind, Result};

/// The steps of a change; `now` is the container as it is.
///
/// # Errors
/// The change cannot be made.
pub(super) async fn plan(reader: &Reader, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
    match (wanted, now) {
        (Action::CreateInstance { spec }, _) => create::look(reader, spec).await?,
        (Action::Stop { how, .. } | Action::Restart { how, .. }, _) => {
            how.signal.as_deref().map(signal::number).transpose()?;
        }
        (Action::DeleteInstance { consents, .. }, Some(now)) => refuse_running(now, *consents)?,
        _ => {}
    }
    planned(reader, wanted, now)
}

/// A container that runs is not deleted without a word about that.
fn refuse_running(now: &Instance, consents: Consents) -> Result<()> {
    if now.state() == State::Stopped || now.state().is_up().is_none() || consents.running {
        return Ok(());
    }
    Err(failed(ErrorKind::Conflict, "delete", now.label(), "it runs; stop it first, or add --running"))
}

fn planned(reader: &Reader, wanted: &Action, now: Option<&Instance>) -> Result<Plan> {
    let plan = Plan::simple(wanted, now);
    match (wanted, now) {
        (Action::CreateInstance { spec }, _) => {
            let size = reader.flavours.resolved(&spec.size)?;
            fits(&size)?;
            let cost = reader.flavours.cost(&size_of(&size))?;
            let unlimited = size.vcpus.is_none() || size.memory_bytes.is_none();
            let plan = Plan { price_delta: cost, ..plan };
            Ok(if unlimited { plan.note("what has no limit may take all of this machine") } else { plan })
        }
        (Action::DeleteInstance { .. }, Some(now)) => {
            let image = now.image.iter().map(|image| Leftover {
                id: Some(now.id.sibling(crate::model::resource::Kind::Image, image)),
                what: format!("the image {image}, from which others may be made"),
            });
            let plan = Plan { leaves: image.collect(), ..plan };
            Ok(plan.note("what it wrote outside of mounted folders is deleted with it"))
        }
        (Action::Resize { size, .. }, Some(now)) => resize(reader, plan, size, now),
        (Action::DeleteImage { .. }, _) => {
            Ok(plan.note("containers that were made from it keep what they need of it"))
        }
        _ => Ok(plan),
    }
}

fn resize(reader: &Reader, plan: Plan, size: &SizeSpec, now: &Instance) -> Result<Plan> {
    let size = reader.flavours.resolved(size)?;
    fits(&size)?;
    let new = Size {
        name: size.name.clone(),
        vcpus: size.vcpus.or(now.size.vcpus),
        memory_bytes: size.memory_bytes.or(now.size.memory_bytes),
        ..Size::default()
    };
    if new == (Size { name: now.size.name.clone(), ..new.clone() }) && same(&new, &now.size) {
        return Ok(Plan::nothing(plan.wanted, now.id.clone(), now.label(), "it has this size already"));
    }
    // A limit where there was none cannot be taken back: a size has no word for none.
    let reversible = (size.vcpus.is_none() || now.size.vcpus.is_some())
        && (size.memory_bytes.is_none() || now.size.memory_bytes.is_some());
    let back = SizeSpec {
        name: now.size.name.clone(),
        vcpus: now.size.vcpus,
        memory_bytes: now.size.memory_bytes,
        ..SizeSpec::default()
    };
    let undo = match (&plan.wanted, reversible) {
        (Action::Resize { instance, policy, .. }, true) => {
            Some(Action::Resize { instance: instance.clone(), size: back, policy: *policy })
        }
        _ => None,
    };
    let delta = difference(reader.flavours.cost(&now.size)?, reader.flavours.cost(&new)?);
    // A container that stands still can get another size too.
    let expects = [State::Running, State::Suspended, State::Stopped];
    let step = Step::new(plan.wanted.clone(), undo).expects(&expects).until(None);
    let plan = Plan { steps: vec![step], price_delta: delta, ..plan }.downtime(Downtime::None);
    Ok(match now.state() {
        State::Stopped => plan.note("it does not run; the size holds from its next start"),
        _ => plan,
    })
}

/// More processors than there are would be a limit that says nothing, and a wrong figure in every row.
fn fits(size: &SizeSpec) -> Result<()> {
    let (Some(here), Some(vcpus)) = (Machine::read().cores, size.vcpus) else { return Ok(()) };
    if vcpus.to_f64().is_some_and(|vcpus| vcpus <= here) {
        return Ok(());
    }
    let reason = format!("it has {here} processors; {vcpus} are more than a container can get");
    Err(failed(ErrorKind::Invalid, "use the size on", "this machine", reason))
}

fn same(one: &Size, other: &Size) -> bool {
    (&one.name, one.vcpus, one.memory_bytes) == (&other.name, other.vcpus, other.memory_bytes)
}

fn size_of(size: &SizeSpec) -> Size {
    Size { name: size.name.clone(), vcpus: size.vcpus, memory_bytes: size.memory_bytes, ..Size::default() }
}

fn difference(old: Option<Cost>, new: Option<Cost>) -> Option<Cost> {
    let (old, new) = (old?, new?);
    (old.currency == new.currency).then(|| Cost {
        per_hour: new.per_hour - old.per_hour,
        currency: new.currency,
        unpriced: old.unpriced.max(new.unpriced),
    })
}

#[cfg(test)]
mod tests {
    use super::super::config::Config;
    use super::super::container::instance;
    use super::super::state::Seen;
    use super::*;
    use crate::provider::ResizePolicy;

    fn now() -> (Reader, Instance) {
        let reader = Reader::new(&Config::default()).unwrap();
        let container = containerd_client::services::v1::Container {
            id: "web".into(),
            image: "i".into(),
            ..Default::default()
        };
        let mut instance = instance(&reader.scope, "a", &container, &Seen::Absent);
        instance.size.memory_bytes = Some(64 << 20);
        (reader, instance)
    }

    fn wanted(instance: &Instance, vcpus: Option<&str>, memory_bytes: Option<u64>) -> Action {
        let vcpus = vcpus.map(|vcpus| vcpus.parse().unwrap());
        Action::Resize {
            instance: instance.id.clone().into(),
            size: SizeSpec { vcpus, memory_bytes, ..SizeSpec::default() },
            policy: ResizePolicy::LiveOnly,
        }
    }

    #[test]
    fn a_size_is_changed_without_downtime_and_back_where_that_can_be_said() {
        let (reader, now) = now();
        let made = planned(&reader, &wanted(&now, None, Some(32 << 20)), Some(&now)).unwrap();
        assert_eq!((made.downtime, made.steps.len()), (Downtime::None, 1));
        let [Action::Resize { size, .. }] = &made.steps[0].undo[..] else { panic!("{made}") };
        assert_eq!(size.memory_bytes, Some(64 << 20));
        assert!(made.notes[0].contains("next start"));
        let limit = planned(&reader, &wanted(&now, Some("1"), None), Some(&now)).unwrap();
        assert_eq!(limit.steps[0].undo, []);
        let nothing = planned(&reader, &wanted(&now, None, Some(64 << 20)), Some(&now)).unwrap();
        assert!(nothing.already.is_some() && nothing.steps.is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_before_it_is_tried() {
        let (reader, mut now) = now();
        let huge = planned(&reader, &wanted(&now, Some("9999"), None), Some(&now)).unwrap_err();
        assert!(huge.to_string().contains("processors"), "{huge}");
        now.status.state = State::Running;
        let refused = refuse_running(&now, Consents::default()).unwrap_err();
        assert!(refused.to_string().contains("--running"), "{refused}");
        assert!(refuse_running(&now, Consents { running: true, ..Consents::default() }).is_ok());
    }

    #[test]
    fn a_deletion_says_what_stays() {
        let (reader, now) = now();
        let action =
            Action::DeleteInstance { instance: now.id.clone().into(), consents: Consents::default() };
        let made = planned(&reader, &action, Some(&now)).unwrap();
        assert!(made.leaves[0].what.contains("the image i"));
        assert_eq!((made.steps.len(), made.downtime), (1, Downtime::Deleted));
    }
}
