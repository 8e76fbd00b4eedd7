//! Another size, type or speed for a volume of EBS: what of it differs, and how far EBS has come with it.

use aws_sdk_ec2::types::{self, VolumeModificationState};

use super::AwsProvider;
use super::calls::{bytes, gib};
use super::error::{Answered, failed};
use super::options::VolumeOptions;
use crate::model::resource::ResourceId;
use crate::provider::VolumeChange;
use crate::{ErrorKind, Result};

pub(super) const CHANGE: &str = "change volume";

/// What of a volume becomes different.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Modification {
    pub(super) size: Option<i32>,
    pub(super) class: Option<String>,
    pub(super) iops: Option<i32>,
    pub(super) throughput: Option<i32>,
}

impl Modification {
    /// Only what differs; nothing if nothing does.
    pub(super) fn new(id: &ResourceId, now: &types::Volume, change: &VolumeChange) -> Result<Option<Self>> {
        let name = id.native_id.as_str();
        let size = change.size_bytes.map(|bytes| gib(CHANGE, name, bytes)).transpose()?;
        if let (Some(wanted), Some(now)) = (size, now.size)
            && wanted < now
        {
            let has = crate::model::Size(bytes(Some(now)).unwrap_or_default());
            let reason = format!(
                "it has {has}, and a volume does not shrink; make a smaller one and copy what it holds"
            );
            return Err(failed(ErrorKind::Invalid, CHANGE, name, reason));
        }
        let options = VolumeOptions::read_change(name, &change.options)?;
        let class = now.volume_type.as_ref().map(|class| class.as_str());
        let differs = Self {
            size: size.filter(|size| now.size != Some(*size)),
            class: change.class.clone().filter(|wanted| class != Some(wanted.as_str())),
            iops: options.iops.filter(|iops| now.iops != Some(*iops)),
            throughput: options.throughput.filter(|throughput| now.throughput != Some(*throughput)),
        };
        Ok((differs != Self::default()).then_some(differs))
    }
}

impl AwsProvider {
    /// Whether EBS has a change so far that the volume is what it is to be; it goes on moving data beside the work.
    pub(super) async fn modification(&self, id: &ResourceId) -> Result<Option<()>> {
        let request = self.session.ec2(&id.location).describe_volumes_modifications();
        let answer = request.volume_ids(&id.native_id).send().await.answered(CHANGE, &id.native_id)?;
        let all = answer.volumes_modifications.unwrap_or_default();
        let last = all.into_iter().max_by_key(|one| one.start_time.map(|time| time.secs()));
        match last.and_then(|last| last.modification_state.zip(Some(last.status_message))) {
            Some((VolumeModificationState::Failed, why)) => {
                let reason = format!("EBS gave it up: {}", why.as_deref().unwrap_or("it does not say why"));
                Err(failed(ErrorKind::Conflict, CHANGE, &id.native_id, reason))
            }
            Some((VolumeModificationState::Modifying, _)) => Ok(None),
            _ => Ok(Some(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::VolumeType;

    use super::*;

    #[test]
    fn a_change_is_what_differs_and_never_less() {
        let id: ResourceId = "aws/1/r/volume/vol-1".parse().unwrap();
        let now = types::Volume::builder().size(10).volume_type(VolumeType::Gp3).iops(3_000).build();
        let change = |size: Option<u64>, class: Option<&str>| VolumeChange {
            size_bytes: size.map(|gib| gib << 30),
            class: class.map(Into::into),
            options: [].into(),
        };
        assert_eq!(Modification::new(&id, &now, &change(Some(10), Some("gp3"))).unwrap(), None);
        let differs = Modification::new(&id, &now, &change(Some(20), Some("gp3"))).unwrap().unwrap();
        assert_eq!(differs, Modification { size: Some(20), ..Modification::default() });
        let differs = Modification::new(&id, &now, &change(None, Some("io2"))).unwrap().unwrap();
        assert_eq!(differs.class.as_deref(), Some("io2"));
        let error = Modification::new(&id, &now, &change(Some(5), None)).unwrap_err();
        assert!(
            error.kind() == ErrorKind::Invalid && error.to_string().contains("does not shrink"),
            "{error}"
        );
        let options = [("encrypted".to_owned(), "true".to_owned())].into();
        let change = VolumeChange { options, ..VolumeChange::default() };
        assert!(Modification::new(&id, &now, &change).is_err());
    }
}
