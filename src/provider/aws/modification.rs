//! Another size, type or speed for a volume of EBS: what of it differs, and how far EBS has come with it.

use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::{self, VolumeModification, VolumeModificationState};

use super::AwsProvider;
use super::calls::{absent, bytes, gib};
use super::error::{Answered, failed};
use super::limits::{self, Wanted};
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
        let own = now.volume_type.as_ref().map(|class| class.as_str());
        let class = change.class.clone().filter(|wanted| own != Some(wanted.as_str()));
        if let Some(class) = class.as_deref().or(own) {
            // What is not said is kept, or 3,000 of a new type.
            let iops = options.iops.or_else(|| class.starts_with("io").then_some(3_000));
            let wanted = Wanted { gib: size.or(now.size), iops, throughput: options.throughput };
            limits::check(CHANGE, name, class, wanted, "iops")?;
        }
        // With a new type EBS takes its own figures for what is not said, so what is said is said again.
        let same = class.is_none();
        let differs = Self {
            size: size.filter(|size| now.size != Some(*size)),
            class,
            iops: options.iops.filter(|iops| !same || now.iops != Some(*iops)),
            throughput: options.throughput.filter(|throughput| !same || now.throughput != Some(*throughput)),
        };
        Ok((differs != Self::default()).then_some(differs))
    }
}

impl Modification {
    /// Whether this is what EBS is at.
    fn is(&self, other: &VolumeModification) -> bool {
        let class = other.target_volume_type.as_ref().map(|class| class.as_str());
        self.size.is_none_or(|size| other.target_size == Some(size))
            && self.class.as_deref().is_none_or(|wanted| class == Some(wanted))
            && self.iops.is_none_or(|iops| other.target_iops == Some(iops))
            && self.throughput.is_none_or(|throughput| other.target_throughput == Some(throughput))
    }
}

impl AwsProvider {
    /// Whether EBS has the change that it began at that time so far that the volume is what it is to be; it goes on moving
    /// data beside the work.
    pub(super) async fn modified(&self, id: &ResourceId, begun: Option<DateTime>) -> Result<Option<()>> {
        let latest = self.latest_modification(id).await.map_err(crate::Error::partly_done)?;
        far_enough(id, latest, begun)
    }

    /// When EBS began just this change, if it is at it: an earlier call may have been heard.
    pub(super) async fn is_at(&self, id: &ResourceId, wanted: &Modification) -> Result<Option<DateTime>> {
        let latest = self.latest_modification(id).await?;
        let going = latest.filter(|latest| {
            latest.modification_state == Some(VolumeModificationState::Modifying) && wanted.is(latest)
        });
        Ok(going.and_then(|going| going.start_time))
    }

    async fn latest_modification(&self, id: &ResourceId) -> Result<Option<VolumeModification>> {
        let request = self.session.ec2(&id.location).describe_volumes_modifications();
        // What was never changed, or not long enough ago to be seen, is not found.
        let answer = absent(request.volume_ids(&id.native_id).send().await.answered(CHANGE, &id.native_id))?;
        let all = answer.and_then(|answer| answer.volumes_modifications).unwrap_or_default();
        Ok(all.into_iter().max_by_key(|one| one.start_time.map(|time| time.secs())))
    }
}

/// What the latest change says of the one that was begun at that time.
fn far_enough(
    id: &ResourceId,
    latest: Option<VolumeModification>,
    begun: Option<DateTime>,
) -> Result<Option<()>> {
    let seconds = |time: Option<DateTime>| time.map(|time| time.secs());
    let Some(ours) = latest.filter(|latest| seconds(latest.start_time) >= seconds(begun)) else {
        return Ok(None);
    };
    match ours.modification_state {
        Some(VolumeModificationState::Failed) => {
            let why = ours.status_message.unwrap_or_else(|| "it does not say why".into());
            Err(failed(ErrorKind::Conflict, CHANGE, &id.native_id, format!("EBS gave it up: {why}")))
        }
        Some(VolumeModificationState::Modifying) => Ok(None),
        _ => Ok(Some(())),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::VolumeType;

    use super::*;

    #[test]
    fn only_the_change_that_was_begun_counts() {
        let id: ResourceId = "aws/1/r/volume/vol-1".parse().unwrap();
        let latest = |state: VolumeModificationState, at| {
            let latest = VolumeModification::builder().modification_state(state).status_message("no key");
            Some(latest.start_time(DateTime::from_secs(at)).build())
        };
        let looked = |latest| far_enough(&id, latest, Some(DateTime::from_secs(100)));
        assert_eq!(looked(None).unwrap(), None);
        assert_eq!(looked(latest(VolumeModificationState::Completed, 50)).unwrap(), None);
        assert_eq!(looked(latest(VolumeModificationState::Failed, 50)).unwrap(), None);
        assert_eq!(looked(latest(VolumeModificationState::Modifying, 100)).unwrap(), None);
        assert_eq!(looked(latest(VolumeModificationState::Optimizing, 100)).unwrap(), Some(()));
        let error = looked(latest(VolumeModificationState::Failed, 100)).unwrap_err();
        assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("no key"), "{error}");
    }

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
        // As many operations as before, which a new type does not keep.
        let mut with = change(None, Some("io2"));
        with.options = [("iops".to_owned(), "3000".to_owned())].into();
        let differs = Modification::new(&id, &now, &with).unwrap().unwrap();
        assert_eq!(differs.iops, Some(3_000));
        with.class = Some("gp3".into());
        assert_eq!(Modification::new(&id, &now, &with).unwrap(), None);
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
