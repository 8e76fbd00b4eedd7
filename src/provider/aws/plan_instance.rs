//! Plans of changes to an instance that is there: what is lost by a stop, what stays of a deletion.

use aws_sdk_ec2::types;

use super::AwsProvider;
use super::connect::filter;
use super::costs::{Disk, Paid};
use super::delete::{DELETE, leftovers, refuse_without};
use super::instances::type_of;
use super::resize::{RESIZE, fits, needs_stop};
use super::state::status;
use super::tags::title;
use crate::Result;
use crate::model::resource::{ResourceId, State};
use crate::provider::{Action, Consents, Downtime, Plan, ResizePolicy, SizeSpec, Step, Stop, Target};

const ADDRESS: &str = "its public address changes: it is no elastic one";
const STORE: &str = "what is on its instance store is lost";
const SPOT: &str = "it is a spot instance, which EC2 stops only if its request is persistent";

impl AwsProvider {
    pub(super) async fn plan_resize(
        &self,
        wanted: &Action,
        id: &ResourceId,
        size: &SizeSpec,
        policy: ResizePolicy,
    ) -> Result<Plan> {
        let described = self.described(RESIZE, id).await?;
        let label = title(id, described.tags.as_deref());
        let (new, found) = self.resolved(RESIZE, &id.location, &label, size).await?;
        let old = type_of(&described).unwrap_or_default().to_owned();
        if old == new {
            return Ok(Plan::nothing(wanted.clone(), id.clone(), label, format!("it is of type {new}")));
        }
        fits(id, &described, &new, &found)?;
        let runs = status(&described).state != State::Stopped;
        if runs && policy != ResizePolicy::AllowStopStart {
            return Err(needs_stop(id, &described, policy));
        }
        let instance = || Target::Id(id.clone());
        let to = |name: &str| {
            let size = SizeSpec { name: Some(name.to_owned()), ..SizeSpec::default() };
            Action::Resize { instance: instance(), size, policy }
        };
        let change = Step::new(to(&new), Some(to(&old))).expects(&[State::Stopped]);
        let mut plan = Plan::new(wanted.clone(), Some(id.clone()), label);
        if runs {
            let start = || Action::Start { instance: instance() };
            let stop = Action::Stop { instance: instance(), how: Stop::default() };
            let how = Stop { force: true, ..Stop::default() };
            let undo = Action::Stop { instance: instance(), how };
            plan = plan
                .step(Step::new(stop, Some(start())).expects(&[State::Running]))
                .step(change)
                .step(Step::new(start(), Some(undo)))
                .downtime(Downtime::StopStart)
                .note(format!("if {new} cannot be started, it is {old} again and started"));
            plan = self.with_losses(plan, id, &described).await;
            let now = Paid::instance(&described);
            let then = now.clone().of_kind(&new);
            plan = self.priced(plan, &id.location, &[then], &[now]).await;
        } else {
            plan =
                plan.step(change).note("it stays stopped; the new type costs something from its next start");
        }
        Ok(plan)
    }

    pub(super) async fn plan_delete(
        &self,
        wanted: &Action,
        id: &ResourceId,
        consents: Consents,
    ) -> Result<Plan> {
        let described = self.described(DELETE, id).await?;
        refuse_without(id, &described, consents)?;
        let label = title(id, described.tags.as_deref());
        let mine = self.belongings(id, &described).await;
        let mut plan =
            Plan::new(wanted.clone(), Some(id.clone()), label).step(Step::new(wanted.clone(), None));
        let mut paid = Vec::new();
        if status(&described).state == State::Running {
            paid.push(Paid::instance(&described));
        }
        if consents.volumes && !mine.volumes.is_empty() {
            let by = filter("volume-id", mine.volumes.iter().map(|volume| volume.native_id.as_str()));
            let volumes = self.volumes_by(DELETE, &id.location, by).await?;
            paid.extend(volumes.iter().map(|volume| Paid::Volume(Disk::of(volume))));
            plan.removes.extend(mine.volumes.iter().cloned());
        }
        if consents.snapshots {
            for snapshot in &mine.snapshots {
                let delete = Action::DeleteSnapshot { snapshot: snapshot.clone().into() };
                plan = plan.step(Step::new(delete, None));
            }
            plan.removes.extend(mine.snapshots.iter().cloned());
        }
        plan.leaves = leftovers(&mine, consents);
        Ok(self.priced(plan.downtime(Downtime::Deleted), &id.location, &[], &paid).await)
    }

    pub(super) async fn plan_stop(&self, plan: Plan, id: &ResourceId, described: &types::Instance) -> Plan {
        let plan = self.priced(plan, &id.location, &[], &[Paid::instance(described)]).await;
        self.with_losses(plan, id, described).await.note("its disks are billed on")
    }

    /// With what a stop takes from an instance.
    pub(super) async fn with_losses(
        &self,
        mut plan: Plan,
        id: &ResourceId,
        described: &types::Instance,
    ) -> Plan {
        if self.keeps_address(id, described).await == Some(false) {
            plan = plan.note(ADDRESS);
        }
        if described.instance_lifecycle == Some(types::InstanceLifecycleType::Spot) {
            plan = plan.note(SPOT);
        }
        // A type that is not known tells nothing of its disks.
        let types = self.types(&id.location, type_of(described)).await.unwrap_or_default();
        if types.values().any(|found| found.size.local_disk_bytes.is_some()) {
            plan = plan.note(STORE);
        }
        plan
    }
}
