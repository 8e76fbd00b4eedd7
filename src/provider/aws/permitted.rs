//! Whether a plan is permitted. EC2 can say so without doing anything: it answers a call that carries `DryRun` with an error
//! in any case, and the error's code says which. It knows of permissions alone, so what else may go wrong stays unknown.
//!
//! Only calls for which services that imitate EC2 honour `DryRun` too are made: one that does not would do what was only to
//! be asked. So networks, subnets and the type of an instance are not asked for.

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::VolumeType;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::AwsProvider;
use super::calls::gib;
use super::delete::{DELETE, flags_now};
use super::error::translated;
use super::modification::CHANGE;
use super::planning::{known, nobody};
use crate::provider::{Action, Plan};
use crate::{ErrorKind, Result};

/// EC2 would do it.
const WOULD: &str = "DryRunOperation";

impl AwsProvider {
    /// Asks for each step whose resource is there already, and says in the plan whether the first was asked for.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] and [`ErrorKind::Auth`]: the plan cannot be carried out.
    pub(super) async fn permitted(&self, mut plan: Plan) -> Result<Plan> {
        for number in 0..plan.steps.len() {
            let asked = self.ask(&plan.steps[number].action).await?;
            if number == 0 {
                plan.permission_checked = asked;
            }
        }
        Ok(plan)
    }

    /// Whether EC2 said that a step is permitted; not, where it cannot be asked or does not say.
    async fn ask(&self, action: &Action) -> Result<bool> {
        match action {
            Action::CreateInstance { spec } => {
                let Some(region) = &spec.location else { return Ok(false) };
                let request = self.run_request(spec, region, nobody()).await?.dry_run(true);
                word(&action.to_string(), request.send().await)
            }
            Action::CreateVolume { spec } => {
                let (_, request) = self.volume_request(spec, nobody()).await?;
                word(&action.to_string(), request.dry_run(true).send().await)
            }
            Action::CreateSnapshot { spec } => {
                let request = self.snapshot_request(spec, &spec.of, nobody())?;
                word(&action.to_string(), request.dry_run(true).send().await)
            }
            Action::CopySnapshot { snapshot, location } => {
                let Some(id) = known(snapshot) else { return Ok(false) };
                let source = self.snapshot_now("copy snapshot", id).await?;
                let request = self.copy_request(id, location, source, nobody());
                word(&action.to_string(), request.dry_run(true).send().await)
            }
            _ => self.ask_of_known(action).await,
        }
    }

    async fn ask_of_known(&self, action: &Action) -> Result<bool> {
        let Some(id) = action.target().and_then(known) else { return Ok(false) };
        let (ec2, native) = (self.session.ec2(&id.location), id.native_id.as_str());
        let what = action.to_string();
        match action {
            Action::Start { .. } | Action::Resume { .. } => {
                word(&what, ec2.start_instances().instance_ids(native).dry_run(true).send().await)
            }
            Action::Stop { .. } | Action::Suspend { .. } => {
                word(&what, ec2.stop_instances().instance_ids(native).dry_run(true).send().await)
            }
            Action::DeleteInstance { .. } => {
                // As they are: even a service that does not know `DryRun` changes nothing.
                let flags = flags_now(&self.described(DELETE, id).await?);
                if !flags.is_empty() {
                    word(&what, self.flags_request(id, &flags).dry_run(true).send().await)?;
                }
                word(&what, ec2.terminate_instances().instance_ids(native).dry_run(true).send().await)
            }
            Action::GrowVolume { size_bytes, .. } => {
                let size = gib(CHANGE, native, *size_bytes)?;
                let request = ec2.modify_volume().volume_id(native).size(size);
                word(&what, request.dry_run(true).send().await)
            }
            Action::ChangeVolume { change, .. } => {
                let class = change.class.as_deref().map(VolumeType::from);
                let request = ec2.modify_volume().volume_id(native).set_volume_type(class);
                word(&what, request.dry_run(true).send().await)
            }
            Action::DeleteVolume { .. } => {
                word(&what, ec2.delete_volume().volume_id(native).dry_run(true).send().await)
            }
            Action::AttachVolume { instance, device, .. } => {
                let Some(instance) = known(instance) else { return Ok(false) };
                let request = ec2.attach_volume().volume_id(native).instance_id(&instance.native_id);
                let device = device.as_deref().unwrap_or("/dev/sdf");
                word(&what, request.device(device).dry_run(true).send().await)
            }
            Action::DetachVolume { instance, .. } => {
                let Some(instance) = known(instance) else { return Ok(false) };
                let request = ec2.detach_volume().volume_id(native).instance_id(&instance.native_id);
                word(&what, request.dry_run(true).send().await)
            }
            Action::DeleteSnapshot { .. } => {
                word(&what, ec2.delete_snapshot().snapshot_id(native).dry_run(true).send().await)
            }
            Action::DeleteImage { .. } => {
                word(&what, ec2.deregister_image().image_id(native).dry_run(true).send().await)
            }
            _ => Ok(false),
        }
    }
}

/// What an answer to `DryRun` means.
fn word<T, E>(what: &str, answer: Result<T, SdkError<E, HttpResponse>>) -> Result<bool>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Err(error) = answer else {
        // No service that knows `DryRun` answers so; nothing of ours says that it was checked.
        return Ok(false);
    };
    if error.as_service_error().and_then(ProvideErrorMetadata::code) == Some(WOULD) {
        return Ok(true);
    }
    let error = translated("check the permission to", what, error);
    match error.kind() {
        ErrorKind::Denied | ErrorKind::Auth => Err(error),
        // The step itself will tell, or it has passed by then.
        _ => Ok(false),
    }
}
