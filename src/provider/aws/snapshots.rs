//! Snapshots of volumes: made, copied to another region, deleted. EBS has no way back to one but a new volume of it.

use async_trait::async_trait;
use aws_sdk_ec2::operation::copy_snapshot::builders::CopySnapshotFluentBuilder;
use aws_sdk_ec2::operation::create_snapshot::builders::CreateSnapshotFluentBuilder;
use aws_sdk_ec2::types::{self, ResourceType};

use super::AwsProvider;
use super::calls::{first, not_there};
use super::delete::volumes;
use super::error::{Answered, failed};
use super::inventory::MOST;
use super::tags::{copied, made_by, on, wanted};
use crate::model::resource::{Kind, ResourceId};
use crate::provider::{Done, SnapshotSpec, Snapshots, Token};
use crate::{ErrorKind, Result};

const CREATE: &str = "create snapshot";
const COPY: &str = "copy snapshot";
const DELETE: &str = "delete snapshot";
/// EBS writes the content away beside everything else, which may take hours.
const COMES: &str = "it can be used when its provider_state is completed; until then EBS writes it";

#[async_trait]
impl Snapshots for AwsProvider {
    async fn create(&self, spec: &SnapshotSpec, token: Token) -> Result<Done> {
        let region = spec.of.location.as_str();
        let volume = self.volume_to_keep(CREATE, spec).await?;
        let look = || self.snapshot_made_by(CREATE, region, token);
        let made = self.once(token, look, || async {
            let create = || async {
                let request = self.snapshot_request(spec, &volume, token)?;
                request.send().await.answered(CREATE, &spec.name)
            };
            let answer = self.patient(&volume, create).await?;
            answer.snapshot_id.ok_or_else(|| not_there(CREATE, &spec.name).partly_done())
        });
        let id = self.id(region, Kind::Snapshot, made.await?);
        self.made(&id);
        Ok(Done::made(id).note(COMES))
    }

    /// The other region fetches it.
    async fn copy(&self, id: &ResourceId, location: &str, token: Token) -> Result<Done> {
        let region = self.place(COPY, &id.native_id, Some(location))?;
        let look = || self.snapshot_made_by(COPY, &region, token);
        let made = self.once(token, look, || async {
            let source = self.snapshot_now(COPY, id).await?;
            let request = self.copy_request(id, &region, source, token);
            let answer = request.send().await.answered(COPY, &id.native_id)?;
            answer.snapshot_id.ok_or_else(|| not_there(COPY, &id.native_id).partly_done())
        });
        let made = self.id(&region, Kind::Snapshot, made.await?);
        self.made(&made);
        Ok(Done::made(made).note(COMES))
    }

    async fn revert(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let reason =
            "EBS does not go back to a snapshot; make a volume of it and attach that in the old one's place";
        Err(failed(ErrorKind::Unsupported, "revert", &id.native_id, reason))
    }

    async fn delete(&self, id: &ResourceId, _token: Token) -> Result<Done> {
        let delete = || async {
            let request = self.session.ec2(&id.location).delete_snapshot().snapshot_id(&id.native_id);
            request.send().await.answered(DELETE, &id.native_id)
        };
        self.patient(id, delete).await?;
        self.deleted(id);
        Ok(Done::changed())
    }
}

impl AwsProvider {
    /// The volume that a snapshot is made of; an instance with one volume stands for that.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an instance with several: each has a snapshot of its own.
    pub(super) async fn volume_to_keep(&self, operation: &str, spec: &SnapshotSpec) -> Result<ResourceId> {
        if spec.of.kind == Kind::Volume {
            return Ok(spec.of.clone());
        }
        let described = self.described(operation, &spec.of).await?;
        match &volumes(&described)[..] {
            [only] => Ok(spec.of.sibling(Kind::Volume, only)),
            [] => {
                let reason = "it has no volume of EBS to make a snapshot of";
                Err(failed(ErrorKind::Conflict, operation, &spec.of.native_id, reason))
            }
            several => {
                let reason = format!(
                    "EC2's snapshots are of volumes, and it has {}; say of which with --volume: {}",
                    several.len(),
                    several.join(", ")
                );
                Err(failed(ErrorKind::Invalid, operation, &spec.of.native_id, reason))
            }
        }
    }

    /// The call that makes a snapshot of a volume; also what its permission is checked with.
    pub(super) fn snapshot_request(
        &self,
        spec: &SnapshotSpec,
        volume: &ResourceId,
        token: Token,
    ) -> Result<CreateSnapshotFluentBuilder> {
        let tags = wanted(CREATE, &spec.name, &spec.tags, token)?;
        let request = self.session.ec2(&volume.location).create_snapshot().volume_id(&volume.native_id);
        let request = request.set_description(spec.description.clone());
        Ok(request.tag_specifications(on(ResourceType::Snapshot, &tags)))
    }

    /// The call that copies a snapshot to another region; also what its permission is checked with.
    pub(super) fn copy_request(
        &self,
        id: &ResourceId,
        region: &str,
        source: types::Snapshot,
        token: Token,
    ) -> CopySnapshotFluentBuilder {
        let tags = copied(source.tags.as_deref(), token);
        let request = self.session.ec2(region).copy_snapshot().source_region(&id.location);
        let request = request.source_snapshot_id(&id.native_id).set_description(source.description);
        request.tag_specifications(on(ResourceType::Snapshot, &tags))
    }

    /// Refuses to copy to where nothing is, or may be, of this account.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]; those of `DescribeRegions`.
    pub(super) async fn refuse_target(&self, id: &ResourceId, location: &str) -> Result<()> {
        let region = self.place(COPY, &id.native_id, Some(location))?;
        let usable = self.session.regions().await?;
        if usable.contains(&region) {
            return Ok(());
        }
        let reason = format!(
            "there is no region {region} that this account may use; choose one of {}",
            usable.join(", ")
        );
        Err(failed(ErrorKind::Invalid, COPY, &id.native_id, reason))
    }

    /// EC2's own description of a snapshot.
    pub(super) async fn snapshot_now(&self, operation: &str, id: &ResourceId) -> Result<types::Snapshot> {
        let native = id.native_id.as_str();
        let read = || async {
            let request = self.session.ec2(&id.location).describe_snapshots().snapshot_ids(native);
            first(operation, native, request.send().await.answered(operation, native)?.snapshots)
        };
        self.patient(id, read).await
    }

    /// The snapshots of a volume.
    ///
    /// # Errors
    /// Those of `DescribeSnapshots`.
    pub(super) async fn snapshots_of(
        &self,
        operation: &str,
        region: &str,
        volumes: &[String],
    ) -> Result<Vec<ResourceId>> {
        if volumes.is_empty() {
            return Ok(Vec::new());
        }
        let by = super::connect::filter("volume-id", volumes);
        Ok(self
            .snapshots_by(operation, region, by)
            .await?
            .into_iter()
            .map(|native| self.id(region, Kind::Snapshot, native))
            .collect())
    }

    async fn snapshot_made_by(&self, operation: &str, region: &str, token: Token) -> Result<Option<String>> {
        Ok(self.snapshots_by(operation, region, made_by(token)).await?.into_iter().next())
    }

    async fn snapshots_by(&self, operation: &str, region: &str, by: types::Filter) -> Result<Vec<String>> {
        let request = self.session.ec2(region).describe_snapshots().owner_ids("self").max_results(MOST);
        let found = request.filters(by).into_paginator().items().send().try_collect().await;
        let found = found.answered(operation, region)?.into_iter();
        Ok(found.filter_map(|snapshot| snapshot.snapshot_id).collect())
    }
}
